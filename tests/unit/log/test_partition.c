#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"

static struct harness h;
static struct error err;

static int setup(void **state)
{
    (void)state;
    harness_init(&h, 1, 0);
    assert_int_equal(harness_open(&h, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    harness_close(&h);
    return 0;
}

static void reopen(void)
{
    partition_close(h.p);
    fault_env_run(h.env);
    int rc = harness_open(&h, &err);
    if (rc != 0) {
        print_message("%s\n", err.text);
    }
    assert_int_equal(rc, 0);
}

static void append_many(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (i % 7 == 3) {
            harness_append_type(&h, i % 2 == 0 ? LOG_ENTRY_CONFIG : LOG_ENTRY_BARRIER);
        } else {
            harness_append(&h, 1 + i % 3, 100 + i * 13 % 1500);
        }
        if (i % 5 == 0) {
            harness_run(&h);
        }
        h.term += i % 11 == 0;
    }
    harness_run(&h);
    assert_int_equal(h.n_errors, 0);
    assert_false(partition_busy(h.p));
}

static void empty__has_no_entries_and_opens_again(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct log_term term;
        assert_int_equal(partition_first_index(h.p).v, 1);
        assert_int_equal(partition_last_index(h.p).v, 0);
        assert_int_equal(partition_durable_index(h.p).v, 0);
        assert_int_equal(partition_term_at(h.p, LOG_INDEX(0), &term), 0);
        assert_int_equal(term.v, 0);
        assert_int_equal(partition_term_at(h.p, LOG_INDEX(1), &term), WEIR_ENOTFOUND);
        assert_int_equal(partition_config_index(h.p, LOG_INDEX(9)).v, 0);
        assert_int_equal(partition_end_offset(h.p).v, 0);
        assert_int_equal(partition_last_timestamp_ms(h.p), 0);
        harness_check(&h);
        reopen();
    }
}

static void open__second_opener_is_refused(void **state)
{
    (void)state;
    struct partition *second;
    assert_int_equal(partition_open(h.env, HARNESS_DIR, &h.options, &second, &err), WEIR_EBUSY);
}

static void append__reads_back_from_memory_and_after_reopening(void **state)
{
    (void)state;
    append_many(120); /* several segments */
    harness_check(&h);
    int64_t end = partition_end_offset(h.p).v, time_ms = partition_last_timestamp_ms(h.p);
    reopen();
    assert_int_equal(partition_last_index(h.p).v, 120);
    assert_int_equal(partition_end_offset(h.p).v, end);
    assert_int_equal(partition_last_timestamp_ms(h.p), time_ms);
    harness_check(&h);
    append_many(60);
    harness_check(&h);
}

static void append__small_tail_and_few_open_files_make_no_difference(void **state)
{
    (void)state;
    partition_close(h.p);
    fault_env_run(h.env);
    h.options =
        (struct partition_options){.segment_bytes = 8192, .tail_bytes = 1, .index_bytes = 1};
    assert_int_equal(harness_open(&h, &err), 0);
    append_many(200);
    harness_check(&h);
    reopen();
    harness_check(&h);
}

static void append__is_readable_before_it_is_durable(void **state)
{
    (void)state;
    harness_append(&h, 2, 500);
    harness_append_type(&h, LOG_ENTRY_BARRIER);
    assert_int_equal(partition_durable_index(h.p).v, 0);
    assert_int_equal(partition_last_index(h.p).v, 2);
    assert_true(partition_busy(h.p));
    harness_check(&h);
    harness_run(&h);
    assert_int_equal(partition_durable_index(h.p).v, 2);
    assert_int_equal(h.n_callbacks, 2);
}

static void append__all_of_one_turn_share_one_write_and_one_sync(void **state)
{
    (void)state;
    unsigned before = fault_env_steps(h.env);
    for (int i = 0; i < 20; i++) {
        harness_append(&h, 1, 20);
    }
    harness_run(&h);
    assert_int_equal(h.n_callbacks, 20);
    assert_int_equal(fault_env_steps(h.env) - before, 2);
}

static void append__entry_larger_than_a_segment_gets_one_of_its_own(void **state)
{
    (void)state;
    partition_close(h.p);
    fault_env_run(h.env);
    h.options.segment_bytes = 8192;
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append(&h, 1, 5500);
    harness_append(&h, 1, 10);
    harness_append(&h, 1, 5500);
    harness_run(&h);
    assert_int_equal(h.n_errors, 0);
    harness_check(&h);
    reopen();
    harness_check(&h);
}

static void append__batch_with_another_offset_is_refused_and_the_log_stays_usable(void **state)
{
    (void)state;
    append_many(3);
    static struct model_entry first;
    first = h.model[1]; /* its base offset is 0 */
    harness_append_raw(&h, h.term, LOG_ENTRY_BATCH, first.payload, first.len);
    harness_append_type(
        &h, LOG_ENTRY_BARRIER); /* asked for in ignorance of the failure: fails with it */
    harness_run(&h);
    assert_int_equal(h.n_errors, 2);
    assert_int_equal(h.last_status, WEIR_EPROTO);
    assert_false(partition_failed(h.p));
    assert_int_equal(partition_last_index(h.p).v, 3);
    harness_append(&h, 1, 10);
    harness_run(&h);
    assert_int_equal(h.n_errors, 2);
    harness_check(&h);
    reopen();
    harness_check(&h);
}

static void truncate__at_every_index_leaves_the_prefix_and_takes_new_entries(void **state)
{
    (void)state;
    append_many(90);
    struct fault_image *image;
    partition_close(h.p);
    fault_env_run(h.env);
    image = fault_env_save(h.env);
    for (uint64_t from = 1; from <= 91; from++) {
        fault_env_restore(h.env, image);
        assert_int_equal(harness_open(&h, &err), 0);
        harness_adopt(&h);
        uint64_t term = h.term;
        assert_int_equal(harness_truncate(&h, from), 0);
        harness_check(&h);
        if (from % 3 == 0) {
            reopen();
            harness_check(&h);
        }
        struct model_entry saved[2] = {h.model[from], h.model[from + 1]};
        h.term += 100;
        harness_append(&h, 2, 333);
        harness_append_type(&h, LOG_ENTRY_CONFIG);
        harness_run(&h);
        harness_check(&h);
        reopen();
        assert_int_equal(partition_last_index(h.p).v, from + 1);
        harness_check(&h);
        h.term = term;
        h.model[from] = saved[0];
        h.model[from + 1] = saved[1];
        partition_close(h.p);
        h.p = NULL;
        fault_env_run(h.env);
    }
    fault_image_free(image);
}

static void fetch__begins_inside_a_batch_and_ends_at_the_high_watermark(void **state)
{
    (void)state;
    struct bytes out;
    struct log_offset next;
    bytes_init(&out, 1 << 20);
    harness_append(&h, 3, 30); /* offsets 0..2, index 1 */
    harness_append_type(&h, LOG_ENTRY_BARRIER);
    harness_append(&h, 2, 20); /* 3..4, index 3 */
    harness_append(&h, 1, 10); /* 5, index 4 */
    harness_run(&h);
    assert_int_equal(partition_high_watermark(h.p).v, 0);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(0), 1000, &out, &next, &err), 0);
    assert_int_equal(out.len, 0);
    assert_int_equal(next.v, 0);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(1), 1000, &out, &next, &err), WEIR_ERANGE);
    partition_set_commit(h.p, LOG_INDEX(3));
    assert_int_equal(partition_high_watermark(h.p).v, 5);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(1), 1000, &out, &next, &err), 0);
    assert_int_equal(out.len, h.model[1].len + h.model[3].len);
    assert_int_equal(next.v, 5);
    bytes_reset(&out);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(4), 0, &out, &next, &err), 0);
    assert_int_equal(out.len, h.model[3].len);
    bytes_reset(&out);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(0), 1, &out, &next, &err), 0);
    assert_int_equal(out.len, h.model[1].len);
    assert_int_equal(next.v, 3);
    partition_set_commit(h.p, LOG_INDEX(2)); /* never goes back */
    assert_int_equal(partition_commit_index(h.p).v, 3);
    bytes_close(&out);
}

static void fetch__full_buffer_ends_at_a_whole_batch(void **state)
{
    (void)state;
    struct log_offset next;
    struct bytes out;
    append_many(20);
    partition_set_commit(h.p, LOG_INDEX(20));
    bytes_init(&out, h.model[1].len + 10);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(0), 1 << 20, &out, &next, &err), 0);
    assert_int_equal(out.len, h.model[1].len);
    assert_int_equal(bytes_error(&out), 0);
    bytes_close(&out);
    bytes_init(&out, 10);
    assert_int_equal(partition_fetch(h.p, LOG_OFFSET(0), 1 << 20, &out, &next, &err), WEIR_ETOOBIG);
    bytes_close(&out);
}

static void offset_for_time__finds_the_first_batch_not_older(void **state)
{
    (void)state;
    append_many(100);
    partition_set_commit(h.p, LOG_INDEX(100));
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 1; i <= 100; i++) {
            struct batch_info info;
            struct log_offset found;
            if (h.model[i].type != LOG_ENTRY_BATCH) {
                continue;
            }
            assert_int_equal(batch_parse(h.model[i].payload, h.model[i].len, &info, &err), 0);
            assert_int_equal(partition_offset_for_time(h.p, info.max_timestamp_ms, &found, &err),
                             0);
            assert_int_equal(found.v, info.base_offset.v);
        }
        struct log_offset found;
        assert_int_equal(
            partition_offset_for_time(h.p, partition_last_timestamp_ms(h.p) + 1, &found, &err), 0);
        assert_int_equal(found.v, partition_high_watermark(h.p).v);
        assert_int_equal(partition_offset_for_time(h.p, INT64_MIN, &found, &err), 0);
        assert_int_equal(found.v, 0);
        reopen();
        partition_set_commit(h.p, LOG_INDEX(100));
    }
}

static void meta__survives_reopening(void **state)
{
    (void)state;
    for (uint64_t term = 1; term < 6; term++) {
        assert_int_equal(harness_set_term(&h, term), 0);
        harness_check(&h);
        reopen();
        harness_check(&h);
    }
    static uint8_t big[8192];
    struct partition_meta meta = {.snapshot_config = big, .snapshot_config_len = sizeof(big)};
    assert_int_equal(partition_set_meta(h.p, &meta, &err), WEIR_ETOOBIG);
}

static void meta__keeps_the_recovering_mark_until_it_is_cleared(void **state)
{
    (void)state;
    struct partition_meta meta;
    for (int i = 0; i < 5; i++) {
        bool recovering = i % 2 == 0;
        partition_meta(h.p, &meta);
        meta.term = LOG_TERM(10 + i);
        meta.recovering = recovering;
        assert_int_equal(partition_set_meta(h.p, &meta, &err), 0);
        partition_meta(h.p, &meta);
        assert_int_equal(meta.recovering, recovering);
        partition_close(h.p);
        h.p = NULL;
        harness_run(&h);
        h.meta_term = h.meta_tried = 10 + (uint64_t)i;
        assert_int_equal(harness_open(&h, &err), 0);
        partition_meta(h.p, &meta);
        assert_int_equal(meta.recovering, recovering);
    }
}

static void hash__depends_on_the_entries_and_not_on_how_they_were_written(void **state)
{
    (void)state;
    static struct harness other;
    harness_init(&other, 77, 1);
    other.options.segment_bytes = 8192;
    assert_int_equal(harness_open(&other, &err), 0);
    append_many(100);
    for (uint64_t i = 1; i <= 100; i++) {
        harness_append_raw(&other, h.model[i].term, h.model[i].type, h.model[i].payload,
                           h.model[i].len);
        harness_run(&other);
    }
    uint8_t a[PARTITION_HASH_SIZE], b[PARTITION_HASH_SIZE];
    struct log_index last_a, last_b;
    assert_int_equal(partition_hash(h.p, LOG_INDEX(1), LOG_INDEX(100), 1 << 30, a, &last_a, &err),
                     0);
    assert_int_equal(
        partition_hash(other.p, LOG_INDEX(1), LOG_INDEX(100), 1 << 30, b, &last_b, &err), 0);
    assert_int_equal(last_a.v, 100);
    assert_memory_equal(a, b, sizeof(a));
    assert_int_equal(partition_hash(h.p, LOG_INDEX(2), LOG_INDEX(99), 100, b, &last_b, &err), 0);
    assert_true(last_b.v >= 2 && last_b.v < 99);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(partition_hash(h.p, LOG_INDEX(1), LOG_INDEX(101), 100, b, &last_b, &err),
                     WEIR_ERANGE);
    harness_close(&other);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(empty__has_no_entries_and_opens_again),
        T(open__second_opener_is_refused),
        T(append__reads_back_from_memory_and_after_reopening),
        T(append__small_tail_and_few_open_files_make_no_difference),
        T(append__is_readable_before_it_is_durable),
        T(append__all_of_one_turn_share_one_write_and_one_sync),
        T(append__entry_larger_than_a_segment_gets_one_of_its_own),
        T(append__batch_with_another_offset_is_refused_and_the_log_stays_usable),
        T(truncate__at_every_index_leaves_the_prefix_and_takes_new_entries),
        T(fetch__begins_inside_a_batch_and_ends_at_the_high_watermark),
        T(fetch__full_buffer_ends_at_a_whole_batch),
        T(offset_for_time__finds_the_first_batch_not_older),
        T(meta__survives_reopening),
        T(meta__keeps_the_recovering_mark_until_it_is_cleared),
        T(hash__depends_on_the_entries_and_not_on_how_they_were_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
