/* Logs that do not begin with entry 1: the file `begin` and partition_reset. */
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
#include "log/begin.h"
#include "log/damage.h"

#define GOLDEN "tests/golden/log/begin_v1.bin"

static struct harness h;
static struct error err;

static const struct partition_begin far_on = {
    .first_index = {300},
    .prev_term = {7},
    .first_offset = {1000},
    .start_offset = {1005},
    .time_ms = 5000,
    .config_index = {250},
};

static void die(void)
{
    harness_run(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
}

/* --- The file --- */

static void begin_make(struct begin *b)
{
    *b = (struct begin){
        .first_index = {300},
        .prev_term = {7},
        .first_offset = {1000},
        .start_offset = {1005},
        .time_ms = 1700000000000,
        .config_index = {250},
        .compacted = {900},
        .tombstones_ms = 1600000000000,
        .resetting = true,
        .config_len = 5,
        .config = "abcde",
    };
}

static void begin__encodes_to_the_bytes_of_the_format(void **state)
{
    (void)state;
    static struct begin b, read;
    static uint8_t made[BEGIN_FILE_SIZE], golden[BEGIN_FILE_SIZE + 1];
    bool damaged;
    begin_make(&b);
    begin_encode(&b, made);
    if (getenv("WEIR_MAKE_GOLDEN") != NULL) {
        FILE *f = fopen(GOLDEN, "wbe");
        assert_non_null(f);
        assert_int_equal(fwrite(made, 1, sizeof(made), f), sizeof(made));
        assert_int_equal(fclose(f), 0);
    }
    FILE *f = fopen(GOLDEN, "rbe");
    assert_non_null(f);
    assert_int_equal(fread(golden, 1, sizeof(golden), f), sizeof(made));
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(made, golden, sizeof(made));
    assert_true(begin_decode(golden, sizeof(made), &read, &damaged));
    assert_false(damaged);
    assert_memory_equal(&read, &b, sizeof(b));
}

static void begin_decode__finds_and_survives_every_flipped_bit(void **state)
{
    (void)state;
    static struct begin b, read;
    static uint8_t buf[BEGIN_FILE_SIZE];
    bool damaged;
    begin_make(&b);
    begin_encode(&b, buf);
    for (size_t at = 0; at < sizeof(buf); at++) {
        buf[at] ^= (uint8_t)(1U << at % 8);
        assert_true(begin_decode(buf, sizeof(buf), &read, &damaged));
        assert_true(damaged);
        assert_memory_equal(&read, &b, sizeof(b));
        buf[at] ^= (uint8_t)(1U << at % 8);
    }
    assert_true(begin_decode(buf, BEGIN_COPY_SIZE, &read, &damaged));
    assert_true(damaged);
    assert_false(begin_decode(buf, BEGIN_COPY_SIZE - 1, &read, &damaged));
}

/* --- partition_reset --- */

static void live_before(void)
{
    harness_init(&h, 11, 0);
    h.options.segment_bytes = 12288;
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 40, 3);
    assert_int_equal(harness_set_term(&h, 6), 0);
}

static void check_empty_at_300(void)
{
    struct log_term term;
    struct partition_begin begin;
    struct bytes out;
    struct log_offset next;
    struct partition_meta meta;
    assert_int_equal(partition_first_index(h.p).v, 300);
    assert_int_equal(partition_last_index(h.p).v, 299);
    assert_int_equal(partition_commit_index(h.p).v, 299);
    assert_int_equal(partition_term_at(h.p, LOG_INDEX(299), &term), 0);
    assert_int_equal(term.v, 7);
    assert_int_equal(partition_term_at(h.p, LOG_INDEX(298), &term), WEIR_ENOTFOUND);
    assert_int_equal(partition_config_index(h.p, LOG_INDEX(299)).v, 250);
    assert_int_equal(partition_end_offset(h.p).v, 1000);
    assert_int_equal(partition_start_offset(h.p).v, 1005);
    assert_int_equal(partition_last_timestamp_ms(h.p), 5000);
    partition_begin(h.p, &begin);
    assert_memory_equal(&begin, &far_on, sizeof(begin));
    bytes_init(&out, 1000);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(1004), 100, &out, &next, &err), WEIR_ERANGE);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(1005), 100, &out, &next, &err), 0);
    bytes_close(&out);
    partition_meta(h.p, &meta);
    assert_int_equal(meta.term.v, 6);
    assert_int_equal(meta.vote, 1);
    assert_int_equal(meta.snapshot_index.v, 299);
    assert_int_equal(meta.snapshot_term.v, 7);
    assert_int_equal(meta.snapshot_config_index.v, 250);
    assert_memory_equal(meta.snapshot_config, "snapshot at reset", 18);
}

static void reset__begins_anew_behind_the_old_end(void **state)
{
    (void)state;
    live_before();
    assert_int_equal(harness_reset(&h, &far_on), 0);
    check_empty_at_300();
    die();
    assert_int_equal(harness_open(&h, &err), 0);
    check_empty_at_300();
    h.term = 8;
    h.value = 600; /* times go on above 5000 */
    harness_append_some(&h, 40, 5);
    assert_int_equal(h.last_status, 0);
    harness_check(&h);
    die();
    fault_env_restart(h.env, FAULT_LOSE_ALL);
    assert_int_equal(harness_open(&h, &err), 0);
    assert_int_equal(partition_last_index(h.p).v, h.last);
    harness_check(&h);
    harness_close(&h);
}

static void reset__may_begin_inside_the_old_log(void **state)
{
    (void)state;
    struct partition_begin to = far_on;
    live_before();
    /* At the very entry that an old segment began with, too. */
    for (uint64_t first = 2; first < 40; first += 1) {
        to.first_index = LOG_INDEX(first);
        to.config_index = LOG_INDEX(1);
        h.value = 600 + first * 100;
        assert_int_equal(harness_reset(&h, &to), 0);
        harness_append_some(&h, 30, (unsigned)first);
        harness_check(&h);
        die();
        assert_int_equal(harness_open(&h, &err), 0);
        assert_int_equal(partition_first_index(h.p).v, first);
        harness_check(&h);
    }
    harness_close(&h);
}

static void reset__may_be_cut_back_to_nothing(void **state)
{
    (void)state;
    live_before();
    assert_int_equal(harness_reset(&h, &far_on), 0);
    h.no_commit = true;
    h.value = 600;
    harness_append_some(&h, 30, 5);
    assert_int_equal(harness_truncate(&h, 300), 0);
    check_empty_at_300();
    die();
    assert_int_equal(harness_open(&h, &err), 0);
    check_empty_at_300();
    harness_close(&h);
}

/* Steps of a life with a reset in its middle. */
static unsigned life_with_reset(unsigned crash_at, bool *ret_old, bool *ret_new)
{
    *ret_old = *ret_new = false;
    live_before();
    unsigned first = fault_env_steps(h.env);
    fault_env_crash_at(h.env, crash_at == 0 ? 0 : first + crash_at);
    uint64_t last = h.last, acked = h.acked;
    int rc = harness_reset(&h, &far_on);
    unsigned n = fault_env_steps(h.env) - first;
    if (rc != 0) { /* one or the other */
        h.last = last;
        h.acked = acked;
    }
    *ret_old = rc != 0;
    *ret_new = rc == 0 || crash_at > 0;
    return n;
}

static void reset__is_all_or_nothing_over_a_crash(void **state)
{
    (void)state;
    static const enum fault_restart hows[] = {FAULT_KILL, FAULT_LOSE_ALL, FAULT_TEAR};
    bool may_be_old, may_be_new;
    unsigned steps = life_with_reset(0, &may_be_old, &may_be_new), n_old = 0, n_new = 0;
    harness_close(&h);
    assert_true(steps > 15);
    for (unsigned i = 0; i < steps * 6; i++) {
        (void)life_with_reset(i % steps + 1, &may_be_old, &may_be_new);
        die();
        fault_env_restart(h.env, hows[i / steps % 3]);
        if (i / steps >= 3) { /* and once more while opening */
            fault_env_crash_at(h.env, fault_env_steps(h.env) + 1 + i % 9);
            if (harness_open(&h, &err) == 0) {
                die();
            }
            fault_env_restart(h.env, hows[i / steps % 3]);
        }
        assert_int_equal(harness_open(&h, &err), 0);
        if (partition_first_index(h.p).v == 1) {
            assert_true(may_be_old);
            harness_check(&h);
            n_old++;
        } else {
            assert_true(may_be_new);
            check_empty_at_300();
            h.last = h.last_called = h.acked = 299;
            h.was_reset = true;
            h.value = 600;
            n_new++;
        }
        h.term = 9;
        harness_append_some(&h, 12, i);
        assert_int_equal(h.last_status, 0);
        harness_check(&h);
        harness_close(&h);
    }
    assert_true(n_old > 5 && n_new > 5);
}

static void reset__with_a_failing_disk_fails_the_partition(void **state)
{
    (void)state;
    static const int statuses[] = {WEIR_EIO, WEIR_ENOSPC};
    bool may_be_old, may_be_new;
    unsigned steps = life_with_reset(0, &may_be_old, &may_be_new);
    harness_close(&h);
    for (unsigned i = 0; i < 2 * steps; i++) {
        live_before();
        uint64_t last = h.last, acked = h.acked;
        fault_env_fail_at(h.env, fault_env_steps(h.env) + i / 2 + 1, statuses[i % 2]);
        if (harness_reset(&h, &far_on) != 0) {
            assert_true(partition_failed(h.p));
        }
        die();
        fault_env_fail_at(h.env, 0, 0);
        fault_env_restart(h.env, FAULT_LOSE_ALL);
        assert_int_equal(harness_open(&h, &err), 0);
        if (partition_first_index(h.p).v == 1) {
            h.last = last;
            h.acked = acked;
            harness_check(&h);
        } else {
            check_empty_at_300();
        }
        harness_close(&h);
    }
}

static void open__names_a_first_segment_that_is_missing(void **state)
{
    (void)state;
    live_before();
    assert_int_equal(harness_reset(&h, &far_on), 0);
    h.value = 600;
    harness_append_some(&h, 30, 5);
    die();
    fault_env_remove(h.env, HARNESS_DIR "/00000000000000000300.log");
    assert_int_equal(harness_open(&h, &err), 0);
    struct partition_hole hole;
    assert_int_equal(partition_damage(h.p, &hole, 1), 1);
    assert_int_equal(hole.first.v, 300);
    assert_non_null(strstr(hole.text, "00000000000000000300.log"));
    harness_close(&h);
}

static void open__mends_a_damaged_copy_and_takes_the_front_for_missing_with_none(void **state)
{
    (void)state;
    size_t n;
    live_before();
    assert_int_equal(harness_reset(&h, &far_on), 0);
    die();
    fault_env_data(h.env, HARNESS_DIR "/begin", &n)[20] ^= 1;
    assert_int_equal(harness_open(&h, &err), 0);
    check_empty_at_300();
    die();
    fault_env_data(h.env, HARNESS_DIR "/begin", &n)[BEGIN_COPY_SIZE + 20] ^= 1;
    assert_int_equal(harness_open(&h, &err), 0); /* the first copy was mended */
    die();
    fault_env_data(h.env, HARNESS_DIR "/begin", &n)[20] ^= 1;
    fault_env_data(h.env, HARNESS_DIR "/begin", &n)[BEGIN_COPY_SIZE + 20] ^= 1;
    assert_int_equal(harness_open(&h, &err), 0);
    struct partition_hole hole; /* what is before the first file counts as missing */
    assert_int_equal(partition_damage(h.p, &hole, 1), 1);
    assert_int_equal(hole.first.v, 1);
    assert_int_equal(hole.last.v, 299);
    assert_int_equal(partition_last_index(h.p).v, 299);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begin__encodes_to_the_bytes_of_the_format),
        cmocka_unit_test(begin_decode__finds_and_survives_every_flipped_bit),
        cmocka_unit_test(reset__begins_anew_behind_the_old_end),
        cmocka_unit_test(reset__may_begin_inside_the_old_log),
        cmocka_unit_test(reset__may_be_cut_back_to_nothing),
        cmocka_unit_test(reset__is_all_or_nothing_over_a_crash),
        cmocka_unit_test(reset__with_a_failing_disk_fails_the_partition),
        cmocka_unit_test(open__names_a_first_segment_that_is_missing),
        cmocka_unit_test(open__mends_a_damaged_copy_and_takes_the_front_for_missing_with_none),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
