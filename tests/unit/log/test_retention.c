/* Retention: the start offset moves, segments before it go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/logging.h"
#include "harness.h"

static struct harness h;
static struct error err;

static void die(void)
{
    harness_run(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
}

static void settle(void)
{
    for (int i = 0; i < 40; i++) {
        fault_env_advance(h.env, 20000);
    }
}

static void live(void)
{
    harness_init(&h, 21, 0);
    h.options.segment_bytes = 12288;
    h.forgetful = true; /* producers of removed segments may be forgotten at a start */
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 60, 3);
    partition_set_commit(h.p, partition_last_index(h.p));
}

static unsigned count_files(void)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= 80; i++) {
        char path[64];
        size_t size;
        (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.log", i);
        n += fault_env_data(h.env, path, &size) != NULL;
    }
    return n;
}

static void set_start__hides_records_at_once_and_removes_segments(void **state)
{
    (void)state;
    struct bytes out;
    struct log_offset next;
    struct log_term term;
    live();
    unsigned files = count_files();
    assert_true(files > 4);
    int64_t start = partition_high_watermark(h.p).v / 2;
    partition_set_start(h.p, LOG_OFFSET(start));
    assert_int_equal(partition_start_offset(h.p).v, start);
    bytes_init(&out, 1 << 20);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(start - 1), 1, &out, &next, &err),
                     WEIR_ERANGE);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(start), 1, &out, &next, &err), 0);
    bytes_close(&out);
    settle();
    assert_int_equal(partition_first_index(h.p).v, 1); /* raft needs all */
    uint64_t removable = partition_removable(h.p).v;
    assert_true(removable > 10);
    partition_set_keep(h.p, LOG_INDEX(removable / 2));
    settle();
    uint64_t first = partition_first_index(h.p).v;
    assert_true(first > 1 && first <= removable / 2 + 1);
    partition_set_keep(h.p, partition_last_index(h.p));
    settle();
    first = partition_first_index(h.p).v;
    assert_int_equal(first, removable + 1);
    assert_true(count_files() < files);
    assert_int_equal(partition_term_at(h.p, LOG_INDEX(first - 1), &term), 0);
    assert_int_equal(term.v, h.model[first - 1].term);
    assert_int_equal(partition_term_at(h.p, LOG_INDEX(first - 2), &term), WEIR_ENOTFOUND);
    harness_check(&h);
    harness_append_some(&h, 20, 5);
    harness_check(&h);
    die();
    fault_env_restart(h.env, FAULT_LOSE_ALL);
    assert_int_equal(harness_open(&h, &err), 0);
    assert_int_equal(partition_first_index(h.p).v, first);
    assert_int_equal(partition_start_offset(h.p).v, start);
    assert_int_equal(partition_last_index(h.p).v, h.last);
    harness_check(&h);
    harness_close(&h);
}

static void set_start__to_the_end_keeps_the_last_segment_and_its_times(void **state)
{
    (void)state;
    live();
    int64_t time_ms = partition_last_timestamp_ms(h.p);
    partition_set_keep(h.p, partition_last_index(h.p));
    partition_set_start(h.p, partition_high_watermark(h.p));
    settle();
    assert_int_equal(count_files(), 1);
    assert_int_equal(partition_last_timestamp_ms(h.p), time_ms);
    harness_check(&h);
    uint64_t config = partition_config_index(h.p, partition_last_index(h.p)).v;
    die();
    assert_int_equal(harness_open(&h, &err), 0);
    assert_int_equal(partition_last_timestamp_ms(h.p), time_ms);
    assert_int_equal(partition_config_index(h.p, partition_last_index(h.p)).v, config);
    harness_append_some(&h, 10, 7);
    assert_int_equal(h.last_status, 0);
    harness_check(&h);
    harness_close(&h);
}

static void retained_from__cuts_by_age_to_the_batch_and_by_bytes_to_the_segment(void **state)
{
    (void)state;
    struct log_offset start, by_time;
    live();
    int64_t last_ms = partition_last_timestamp_ms(h.p);
    assert_int_equal(partition_retained_from(h.p, 0, 0, &start, &err), 0);
    assert_int_equal(start.v, 0);
    assert_int_equal(partition_retained_from(h.p, last_ms / 2, 0, &start, &err), 0);
    assert_int_equal(partition_offset_for_time(h.p, last_ms / 2, &by_time, &err), 0);
    assert_int_equal(start.v, by_time.v);
    assert_true(start.v > 0);
    assert_int_equal(partition_retained_from(h.p, last_ms + 1, 0, &start, &err), 0);
    assert_int_equal(start.v, partition_high_watermark(h.p).v);
    uint64_t bytes = partition_size_bytes(h.p);
    assert_int_equal(partition_retained_from(h.p, 0, bytes, &start, &err), 0);
    assert_int_equal(start.v, 0);
    assert_int_equal(partition_retained_from(h.p, 0, bytes / 2, &start, &err), 0);
    assert_true(start.v > 0);
    partition_set_keep(h.p, partition_last_index(h.p));
    partition_set_start(h.p, start);
    settle();
    assert_true(partition_size_bytes(h.p) >= bytes / 2);
    assert_true(partition_size_bytes(h.p) < bytes / 2 + 12288);
    assert_int_equal(partition_start_offset(h.p).v, start.v);
    harness_close(&h);
}

static void offset_for_time__goes_on_over_retention_and_segments(void **state)
{
    (void)state;
    struct log_offset at;
    live();
    int64_t last_ms = partition_last_timestamp_ms(h.p);
    partition_set_keep(h.p, partition_last_index(h.p));
    partition_set_start(h.p, LOG_OFFSET(partition_high_watermark(h.p).v / 3));
    settle();
    for (int round = 0; round < 2; round++) {
        for (int64_t ms = 0; ms <= last_ms + 10; ms += 7) {
            int64_t expected = partition_high_watermark(h.p).v;
            for (uint64_t i = h.last; i >= partition_first_index(h.p).v; i--) {
                struct batch_info info;
                if (h.model[i].type == LOG_ENTRY_BATCH &&
                    batch_parse(h.model[i].payload, h.model[i].len, &info, NULL) == 0 &&
                    info.max_timestamp_ms >= ms) {
                    expected = info.base_offset.v;
                }
            }
            int64_t start = partition_start_offset(h.p).v;
            expected = expected < start ? start : expected;
            assert_int_equal(partition_offset_for_time(h.p, ms, &at, &err), 0);
            assert_int_equal(at.v, expected);
        }
        die();
        assert_int_equal(harness_open(&h, &err), 0);
        partition_set_commit(h.p, partition_last_index(h.p));
    }
    harness_close(&h);
}

static void truncation_and_reset__during_retention_leave_a_good_log(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 12; steps++) {
        live();
        harness_append_some(&h, 20, 9); /* not committed */
        partition_set_keep(h.p, partition_last_index(h.p));
        fault_env_crash_at(h.env, 0);
        partition_set_start(h.p, partition_high_watermark(h.p));
        for (unsigned i = 0; i < steps % 6; i++) {
            fault_env_advance(h.env, 20000);
        }
        if (steps < 6) {
            h.no_commit = true;
            assert_int_equal(harness_truncate(&h, partition_commit_index(h.p).v + 1), 0);
        } else {
            struct partition_begin to = {.first_index = {400},
                                         .prev_term = {9},
                                         .first_offset = {5000},
                                         .start_offset = {5000},
                                         .time_ms = 90000};
            assert_int_equal(harness_reset(&h, &to), 0);
            h.value = 20000;
        }
        settle();
        harness_append_some(&h, 10, 5);
        assert_int_equal(h.last_status, 0);
        harness_check(&h);
        die();
        fault_env_restart(h.env, FAULT_LOSE_ALL);
        assert_int_equal(harness_open(&h, &err), 0);
        assert_int_equal(partition_last_index(h.p).v, h.last);
        harness_check(&h);
        harness_close(&h);
    }
}

/* Retention with one step that crashes or fails; number of its steps. */
static unsigned retain_once(unsigned crash_at, unsigned fail_at, int status)
{
    live();
    partition_set_keep(h.p, partition_last_index(h.p));
    unsigned first = fault_env_steps(h.env);
    fault_env_crash_at(h.env, crash_at == 0 ? 0 : first + crash_at);
    fault_env_fail_at(h.env, fail_at == 0 ? 0 : first + fail_at, status);
    partition_set_start(h.p, LOG_OFFSET(partition_high_watermark(h.p).v * 2 / 3));
    settle();
    return fault_env_steps(h.env) - first;
}

static void retention__is_finished_after_a_crash_at_every_step(void **state)
{
    (void)state;
    static const enum fault_restart hows[] = {FAULT_KILL, FAULT_LOSE_ALL, FAULT_TEAR};
    unsigned steps = retain_once(0, 0, 0);
    harness_close(&h);
    assert_true(steps > 5);
    for (unsigned i = 0; i < steps * 6; i++) {
        (void)retain_once(i % steps + 1, 0, 0);
        die();
        fault_env_restart(h.env, hows[i / steps % 3]);
        assert_int_equal(harness_open(&h, &err), 0);
        assert_int_equal(partition_last_index(h.p).v, h.last);
        harness_check(&h);
        uint64_t first = partition_first_index(h.p).v;
        for (uint64_t k = 1; k < first; k++) {
            char path[64];
            size_t size;
            (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.log", (unsigned)k);
            assert_null(fault_env_data(h.env, path, &size));
        }
        harness_append_some(&h, 10, 5);
        assert_int_equal(h.last_status, 0);
        harness_check(&h);
        harness_close(&h);
    }
}

static void retention__with_a_failing_disk_harms_nothing(void **state)
{
    (void)state;
    static const int statuses[] = {WEIR_EIO, WEIR_ENOSPC};
    unsigned steps = retain_once(0, 0, 0);
    harness_close(&h);
    for (unsigned i = 0; i < 2 * steps; i++) {
        (void)retain_once(0, i / 2 + 1, statuses[i % 2]);
        assert_false(partition_failed(h.p));
        harness_check(&h);
        /* It goes on with the next occasion. */
        partition_set_keep(h.p, partition_last_index(h.p));
        partition_set_start(h.p, LOG_OFFSET(partition_start_offset(h.p).v + 1));
        settle();
        harness_check(&h);
        die();
        assert_int_equal(harness_open(&h, &err), 0);
        assert_true(partition_first_index(h.p).v > 1);
        harness_check(&h);
        harness_close(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_start__hides_records_at_once_and_removes_segments),
        cmocka_unit_test(set_start__to_the_end_keeps_the_last_segment_and_its_times),
        cmocka_unit_test(retained_from__cuts_by_age_to_the_batch_and_by_bytes_to_the_segment),
        cmocka_unit_test(offset_for_time__goes_on_over_retention_and_segments),
        cmocka_unit_test(truncation_and_reset__during_retention_leave_a_good_log),
        cmocka_unit_test(retention__is_finished_after_a_crash_at_every_step),
        cmocka_unit_test(retention__with_a_failing_disk_harms_nothing),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
