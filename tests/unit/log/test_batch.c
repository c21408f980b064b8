#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "log/batch.h"

static struct error err;

/* Two records and a null one. */
static int build(struct bytes *out)
{
    struct batch_builder b;
    batch_begin(&b, out, 1000);
    batch_add(&b, 1000, "k1", 2, "hello", 5);
    batch_add(&b, 1007, NULL, 0, "", 0);
    batch_add(&b, 990, "k3", 2, NULL, 0);
    return batch_finish(&b);
}

static void builder__bytes_are_those_of_the_format(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0,    0,    0,    0,    0,    0,    0,    0,    /* base offset */
        0,    0,    0,    63,                           /* length: 49 + 14 */
        0,    0,    0,    0,                            /* leader epoch */
        2,                                              /* magic */
        0,    0,    0,    0,                            /* crc, checked below */
        0,    0,                                        /* attributes */
        0,    0,    0,    0,                            /* last offset delta */
        0,    0,    0,    0,    0,    0,    0x03, 0xe8, /* base timestamp */
        0,    0,    0,    0,    0,    0,    0x03, 0xe8, /* max timestamp */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* producer id */
        0xff, 0xff,                                     /* producer epoch */
        0xff, 0xff, 0xff, 0xff,                         /* base sequence */
        0,    0,    0,    1,                            /* record count */
        26,   0,    0,    0,    4,    'k',  '1',  10,   'h', 'e', 'l', 'l', 'o', 0,
    };
    struct bytes out;
    struct batch_builder b;
    bytes_init(&out, 4096);
    batch_begin(&b, &out, 1000);
    batch_add(&b, 1000, "k1", 2, "hello", 5);
    assert_int_equal(batch_finish(&b), sizeof(expected));
    assert_int_equal(load_be32(out.data + 17), crc32c(0, out.data + 21, out.len - 21));
    store_be32(out.data + 17, 0);
    assert_memory_equal(out.data, expected, sizeof(expected));
    bytes_close(&out);
}

static void iterator__gives_the_records_back(void **state)
{
    (void)state;
    struct bytes out;
    struct batch_iter it;
    struct batch_record r;
    struct batch_info info;
    bytes_init(&out, 4096);
    int n = build(&out);
    assert_true(n > 0);
    assert_int_equal(batch_check(out.data, out.len, &info, &err), 0);
    assert_int_equal(info.record_count, 3);
    assert_int_equal(info.max_timestamp_ms, 1007);
    assert_int_equal(info.producer_id, -1);
    assert_int_equal(batch_iter_init(&it, out.data, out.len, &err), 0);
    assert_int_equal(batch_iter_next(&it, &r, &err), 1);
    assert_int_equal(r.key_len, 2);
    assert_memory_equal(r.value, "hello", 5);
    assert_int_equal(batch_iter_next(&it, &r, &err), 1);
    assert_int_equal(r.timestamp_ms, 1007);
    assert_null(r.key);
    assert_int_equal(r.key_len, -1);
    assert_int_equal(r.value_len, 0);
    assert_int_equal(batch_iter_next(&it, &r, &err), 1);
    assert_int_equal(r.offset.v, 2);
    assert_int_equal(r.timestamp_ms, 990);
    assert_int_equal(r.value_len, -1);
    assert_int_equal(batch_iter_next(&it, &r, &err), 0);
    bytes_close(&out);
}

static void stamp__keeps_the_batch_valid_and_sets_offset_and_time(void **state)
{
    (void)state;
    struct bytes out;
    struct batch_info info;
    struct batch_iter it;
    struct batch_record r;
    bytes_init(&out, 4096);
    assert_true(build(&out) > 0);
    batch_stamp(out.data, LOG_OFFSET(42), LOG_TERM(7), 5000);
    assert_int_equal(batch_check(out.data, out.len, &info, &err), 0);
    assert_int_equal(info.base_offset.v, 42);
    assert_int_equal(info.max_timestamp_ms, 5000);
    assert_int_equal(load_be32(out.data + 12), 7);
    assert_int_equal(batch_iter_init(&it, out.data, out.len, &err), 0);
    assert_int_equal(batch_iter_next(&it, &r, &err), 1);
    assert_int_equal(batch_iter_next(&it, &r, &err), 1);
    assert_int_equal(r.timestamp_ms, 5000);
    assert_int_equal(r.offset.v, 43);
    bytes_close(&out);
}

static void check__any_flipped_bit_behind_the_epoch_is_found(void **state)
{
    (void)state;
    struct bytes out;
    struct batch_info info;
    bytes_init(&out, 4096);
    assert_true(build(&out) > 0);
    for (size_t i = 8; i < out.len; i++) {
        if (i >= 12 && i < 16) {
            continue; /* the leader epoch is outside the checksum, by the format */
        }
        for (int bit = 0; bit < 8; bit++) {
            out.data[i] ^= (uint8_t)(1 << bit);
            assert_true(batch_check(out.data, out.len, &info, &err) < 0);
            out.data[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_int_equal(batch_check(out.data, out.len, &info, &err), 0);
    bytes_close(&out);
}

static void check__any_shorter_batch_is_refused(void **state)
{
    (void)state;
    struct bytes out;
    struct batch_info info;
    bytes_init(&out, 4096);
    assert_true(build(&out) > 0);
    for (size_t n = 0; n < out.len; n++) {
        assert_int_equal(batch_check(out.data, n, &info, &err), WEIR_ETOOBIG);
    }
    bytes_close(&out);
}

static void check__records_that_lie_are_refused_although_the_checksum_fits(void **state)
{
    (void)state;
    struct bytes out;
    struct batch_info info;
    bytes_init(&out, 4096);
    int n = build(&out);
    unsigned refused = 0;
    for (size_t i = BATCH_HEADER_SIZE; i < (size_t)n; i++) {
        uint8_t old = out.data[i];
        for (int v = 0; v < 256; v++) {
            out.data[i] = (uint8_t)v;
            store_be32(out.data + 17, crc32c(0, out.data + 21, out.len - 21));
            refused += batch_check(out.data, out.len, &info, &err) == WEIR_ECORRUPT;
        }
        out.data[i] = old;
    }
    assert_true(refused > 1000);
    bytes_close(&out);
}

static void builder__empty_or_too_big_is_an_error(void **state)
{
    (void)state;
    struct bytes out;
    struct batch_builder b;
    bytes_init(&out, 100);
    batch_begin(&b, &out, 0);
    assert_int_equal(batch_finish(&b), WEIR_EINVAL);
    bytes_reset(&out);
    batch_begin(&b, &out, 0);
    for (int i = 0; i < 10; i++) {
        batch_add(&b, 0, "key", 3, "value", 5);
    }
    assert_int_equal(batch_finish(&b), WEIR_ETOOBIG);
    bytes_close(&out);
}

static bool keep_odd(void *data, const struct batch_record *r)
{
    (void)data;
    return r->offset.v % 2 == 1;
}

static bool keep_none(void *data, const struct batch_record *r)
{
    (void)data;
    (void)r;
    return false;
}

static void thin__keeps_offsets_times_and_what_the_header_says(void **state)
{
    (void)state;
    struct bytes in, out;
    struct batch_info before, after;
    struct batch_iter it;
    struct batch_record r;
    uint32_t removed;
    bytes_init(&in, 4096);
    bytes_init(&out, 4096);
    build(&in);
    batch_stamp(in.data, LOG_OFFSET(100), LOG_TERM(3), 777);
    assert_int_equal(batch_check(in.data, in.len, &before, &err), 0);
    assert_int_equal(batch_thin(in.data, in.len, keep_odd, NULL, &out, &removed, &err), 0);
    assert_int_equal(removed, 2);
    assert_int_equal(batch_check(out.data, out.len, &after, &err), 0);
    assert_int_equal(after.size, out.len);
    assert_int_equal(after.record_count, 1);
    assert_int_equal(after.last_offset_delta, before.last_offset_delta);
    assert_int_equal(batch_offsets(&after), 3);
    assert_int_equal(after.max_timestamp_ms, 777);
    assert_int_equal(batch_producer_of(out.data).records, 3);
    assert_int_equal(batch_iter_init(&it, out.data, out.len, &err), 0);
    assert_int_equal(batch_iter_next(&it, &r, &err), 1);
    assert_int_equal(r.offset.v, 101);
    assert_int_equal(r.timestamp_ms, 777);
    assert_int_equal(batch_iter_next(&it, &r, &err), 0);
    out.len = 0;
    assert_int_equal(batch_thin(in.data, in.len, keep_none, NULL, &out, &removed, &err), 0);
    assert_int_equal(out.len, BATCH_HEADER_SIZE);
    assert_int_equal(batch_check(out.data, out.len, &after, &err), 0);
    assert_int_equal(after.record_count, 0);
    assert_int_equal(batch_offsets(&after), 3);
    assert_int_equal(batch_iter_init(&it, out.data, out.len, &err), 0);
    assert_int_equal(batch_iter_next(&it, &r, &err), 0);
    bytes_close(&in);
    bytes_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builder__bytes_are_those_of_the_format),
        cmocka_unit_test(iterator__gives_the_records_back),
        cmocka_unit_test(stamp__keeps_the_batch_valid_and_sets_offset_and_time),
        cmocka_unit_test(check__any_flipped_bit_behind_the_epoch_is_found),
        cmocka_unit_test(check__any_shorter_batch_is_refused),
        cmocka_unit_test(check__records_that_lie_are_refused_although_the_checksum_fits),
        cmocka_unit_test(thin__keeps_offsets_times_and_what_the_header_says),
        cmocka_unit_test(builder__empty_or_too_big_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
