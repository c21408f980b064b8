#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log/producers.h"

static struct producers t;
static struct log_offset base;

static struct batch_producer batch(int64_t id, int16_t epoch, uint32_t sequence, uint32_t records)
{
    return (struct batch_producer){id, epoch, (int32_t)sequence, records};
}

static int check(int64_t id, int16_t epoch, uint32_t sequence, uint32_t records)
{
    struct batch_producer b = batch(id, epoch, sequence, records);
    return producers_check(&t, &b, 1000, 0, &base);
}

static void add(int64_t id, int16_t epoch, uint32_t sequence, uint32_t records, int64_t at,
                int64_t ms)
{
    struct batch_producer b = batch(id, epoch, sequence, records);
    assert_int_equal(producers_reserve(&t, 1), 0);
    producers_add(&t, &b, LOG_OFFSET(at), ms);
}

static int setup(void **state)
{
    (void)state;
    producers_init(&t);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    producers_close(&t);
    return 0;
}

static void check__takes_batches_in_order_and_knows_the_last_five_again(void **state)
{
    (void)state;
    assert_int_equal(check(7, 0, 0, 3), 0);
    assert_int_equal(check(7, 0, 3, 3), WEIR_ESEQUENCE); /* not known: it must begin at 0 */
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(check(7, 0, 3 * i, 3), 0);
        add(7, 0, 3 * i, 3, 100 + 10 * i, 1000);
    }
    assert_int_equal(check(7, 0, 27, 1), WEIR_ESEQUENCE); /* a gap */
    assert_int_equal(check(7, 0, 24, 1), 0);
    for (uint32_t i = 3; i < 8; i++) {
        assert_int_equal(check(7, 0, 3 * i, 3), 1);
        assert_int_equal(base.v, 100 + 10 * i);
        assert_int_equal(check(7, 0, 3 * i, 2), WEIR_ESEQUENCE); /* another batch */
    }
    assert_int_equal(check(7, 0, 6, 3), WEIR_ESEQUENCE); /* too long ago to tell */
    assert_int_equal(check(8, 0, 0, 1), 0);              /* others begin for themselves */
}

static void check__a_higher_epoch_begins_anew_and_fences_the_lower(void **state)
{
    (void)state;
    add(7, 3, 0, 5, 0, 1000);
    assert_int_equal(check(7, 2, 5, 1), WEIR_EFENCED);
    assert_int_equal(check(7, 4, 5, 1), WEIR_ESEQUENCE);
    assert_int_equal(check(7, 4, 0, 1), 0);
    add(7, 4, 0, 5, 5, 1000);
    assert_int_equal(check(7, 3, 5, 1), WEIR_EFENCED);
    assert_int_equal(check(7, 4, 0, 5), 1);
    assert_int_equal(base.v, 5);
    assert_int_equal(producers_reserve(&t, 1), 0);
    producers_fence(&t, 7, 5, 1000); /* without having written */
    assert_int_equal(check(7, 4, 5, 1), WEIR_EFENCED);
    assert_int_equal(check(7, 5, 0, 1), 0);
}

static void check__sequences_wrap(void **state)
{
    (void)state;
    add(7, 0, INT32_MAX - 1, 4, 0, 1000);
    assert_int_equal(check(7, 0, 2, 1), 0);
    assert_int_equal(check(7, 0, INT32_MAX - 1, 4), 1);
    assert_int_equal(check(7, 0, 3, 1), WEIR_ESEQUENCE);
}

static void check__batches_without_numbers_always_pass(void **state)
{
    (void)state;
    struct batch_producer none = {-1, -1, -1, 4};
    assert_int_equal(producers_check(&t, &none, 1000, 0, &base), 0);
    producers_add(&t, &none, LOG_OFFSET(0), 1000);
    assert_int_equal(t.n, 0);
}

static void add__bounds_the_table_and_forgets_who_wrote_longest_ago(void **state)
{
    (void)state;
    for (int64_t id = 0; id < 100000; id++) {
        add(id, 0, 0, 1, id, 1000 + id);
        if (id % 1000 == 0) { /* one that keeps writing stays */
            add(INT64_MAX, 0, (uint32_t)(id / 1000), 1, id, 1000 + id);
        }
    }
    assert_int_equal(t.n, PRODUCERS_MAX);
    assert_true(t.cap <= PRODUCERS_MAX);
    assert_int_equal(check(INT64_MAX, 0, 100, 1), 0);
    assert_int_equal(check(99999, 0, 0, 1), 1);
    assert_int_equal(base.v, 99999);
    assert_int_equal(check(99999, 0, 1, 1), 0);
    assert_int_equal(check(100, 0, 1, 1), WEIR_ESEQUENCE); /* forgotten */
    assert_int_equal(t.forgotten_ms, 1000 + 99999 - PRODUCERS_MAX + 1);
}

/* Its first copy may be stored, and forgotten since. */
static void check__a_first_batch_sent_again_is_refused_where_it_may_be_forgotten(void **state)
{
    (void)state;
    const struct batch_producer b = batch(7, 0, 0, 1);
    assert_int_equal(producers_check(&t, &b, 500000, 400000, &base), 0); /* nobody is forgotten */
    producers_forget(&t, 200000);
    assert_int_equal(producers_check(&t, &b, 500000, 0, &base), 0); /* was never sent */
    assert_int_equal(producers_check(&t, &b, 500000, 310000, &base), WEIR_ESEQUENCE);
    assert_int_equal(producers_check(&t, &b, 500000, 295000, &base), WEIR_ESEQUENCE); /* clocks */
    assert_int_equal(producers_check(&t, &b, 500000, 280000, &base), 0);
    assert_int_equal(producers_check(&t, &b, 500000, UINT64_MAX, &base), WEIR_ESEQUENCE);
}

static void add__who_has_not_written_for_a_day_is_forgotten(void **state)
{
    (void)state;
    add(1, 0, 0, 1, 0, 1000);
    add(2, 0, 0, 1, 1, 2000);
    add(3, 0, 0, 1, 2, 2001 + PRODUCER_EXPIRY_MS);
    assert_int_equal(t.n, 1);
    assert_int_equal(t.forgotten_ms, 2000);
    add(3, 0, 1, 1, 3, 5000 + 2 * PRODUCER_EXPIRY_MS); /* nobody else came: it goes on */
    assert_int_equal(check(3, 0, 2, 1), 0);
}

/* --- Against a plain model, and through bytes --- */

#define IDS 12

static void random_lives__give_the_same_table_after_any_encoding(void **state)
{
    (void)state;
    struct bytes one, two;
    uint64_t rng = 88172645463325252u;
    bytes_init(&one, 1 << 20);
    bytes_init(&two, 1 << 20);
    for (unsigned i = 0; i < 20000; i++) {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        int64_t id = (int64_t)(rng % IDS) * (i % 5000 < 4000 ? 1 : 1000003);
        add(id, (int16_t)(rng >> 20 & 1), (uint32_t)(rng >> 30 & 0xff), 1 + (rng >> 40 & 7), i,
            (int64_t)i * (PRODUCER_EXPIRY_MS / 40));
        if (i % 97 == 0) {
            struct producers copy;
            struct error err;
            producers_init(&copy);
            bytes_reset(&one);
            bytes_reset(&two);
            producers_encode(&t, &one);
            assert_int_equal(producers_decode(&copy, one.data, one.len, &err), 0);
            producers_encode(&copy, &two);
            assert_int_equal(one.len, two.len);
            assert_memory_equal(one.data, two.data, one.len);
            producers_close(&t);
            assert_int_equal(producers_copy(&t, &copy), 0);
            producers_close(&copy);
        }
    }
    assert_true(t.n > 1);
    bytes_close(&one);
    bytes_close(&two);
}

static void decode__refuses_what_no_table_can_be(void **state)
{
    (void)state;
    struct bytes out;
    struct error err;
    bytes_init(&out, 4096);
    add(1, 0, 0, 1, 0, 1000);
    add(2, 1, 5, 2, 1, 2000);
    producers_encode(&t, &out);
    for (size_t n = 0; n < out.len; n++) {
        assert_int_equal(producers_decode(&t, out.data, n, &err), WEIR_ECORRUPT);
    }
    const struct {
        size_t at;
        uint8_t value;
    } lies[] = {{8, 9},
                {12, 1},
                {16 + 7, 0x80},
                {16 + 17, 0x80},
                {16 + 18, 9},
                {16 + 20, 1},
                {16 + 24 + 3, 0x80},
                {16 + 24 + 4, 0},
                {16 + 24 + 15, 0x80},
                {16 + 40, 1}};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        uint8_t was = out.data[lies[i].at];
        out.data[lies[i].at] = lies[i].value;
        assert_int_equal(producers_decode(&t, out.data, out.len, &err), WEIR_ECORRUPT);
        out.data[lies[i].at] = was;
    }
    assert_int_equal(t.n, 2); /* as it was */
    assert_int_equal(producers_decode(&t, out.data, out.len, &err), 0);
    bytes_close(&out);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(check__takes_batches_in_order_and_knows_the_last_five_again),
        TEST(check__a_higher_epoch_begins_anew_and_fences_the_lower),
        TEST(check__sequences_wrap),
        TEST(check__batches_without_numbers_always_pass),
        TEST(add__bounds_the_table_and_forgets_who_wrote_longest_ago),
        TEST(check__a_first_batch_sent_again_is_refused_where_it_may_be_forgotten),
        TEST(add__who_has_not_written_for_a_day_is_forgotten),
        TEST(random_lives__give_the_same_table_after_any_encoding),
        TEST(decode__refuses_what_no_table_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
