#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "nodes/chat/json_out.h"
#include "nodes/chat/ring.h"

/* Frame i: header "i", payload of a size that depends on i, made of letters. */
static size_t payload_of(uint64_t i, char *out)
{
    size_t n = (size_t)(i * 37 % 200);
    memset(out, (int)('a' + i % 26), n);
    return n;
}

static void append(struct ring *r, uint64_t i, int64_t offset)
{
    char payload[200];
    uint8_t header[8];
    store_le64(header, i);
    assert_int_equal(
        ring_append(r, offset, header, sizeof(header), payload, payload_of(i, payload)), 0);
}

/* What lies at p is frame i; returns its size. */
static size_t check_frame(const uint8_t *p, uint64_t i)
{
    char payload[200];
    size_t n = payload_of(i, payload);
    assert_int_equal(load_le64(p), i);
    assert_memory_equal(p + 8, payload, n);
    return 8 + n;
}

/* Everything from `number` to the head, in writes of at most `cap`. */
static void check_from(const struct ring *r, uint64_t number, size_t cap)
{
    while (number < r->head) {
        size_t n;
        uint64_t next;
        const uint8_t *p = ring_span(r, number, cap, &n, &next);
        assert_true(next > number && next <= r->head);
        assert_true(n <= cap || next == number + 1);
        const uint8_t *end = p + n;
        for (; number < next; number++) {
            p += check_frame(p, number);
        }
        assert_ptr_equal(p, end);
    }
}

static void ring__gives_every_frame_whole_while_it_grows_and_wraps(void **state)
{
    (void)state;
    struct ring r;
    ring_init(&r, 64, 16384, 100);
    for (uint64_t i = 0; i < 1000; i++) {
        append(&r, i, 100 + (int64_t)i * 3);
        assert_int_equal(r.head, i + 1);
        assert_true(r.head - r.tail <= 64);
        check_from(&r, r.tail, 1 << 20);
        check_from(&r, r.head - 1, 10);
        check_from(&r, r.tail + (r.head - r.tail) / 2, 500);
    }
    assert_true(r.size <= 16384);
    ring_close(&r);
}

static void ring__drops_the_oldest_and_says_from_where_it_is_whole(void **state)
{
    (void)state;
    struct ring r;
    ring_init(&r, 16, 4096, 7);
    assert_int_equal(r.whole_from, 7);
    for (uint64_t i = 0; i < 16; i++) {
        append(&r, i, 10 + (int64_t)i * 10);
    }
    assert_int_equal(r.tail, 0);
    assert_int_equal(r.whole_from, 7);
    append(&r, 16, 200);
    assert_int_equal(r.tail, 1);
    assert_int_equal(r.whole_from, 11);
    ring_close(&r);
}

static void ring_find__gives_the_first_frame_above_an_offset(void **state)
{
    (void)state;
    struct ring r;
    ring_init(&r, 64, 16384, 0);
    assert_int_equal(ring_find(&r, 5), 0);
    for (uint64_t i = 0; i < 10; i++) {
        append(&r, i, 10 * (int64_t)i);
    }
    assert_int_equal(ring_find(&r, -1), 0);
    assert_int_equal(ring_find(&r, 0), 1);
    assert_int_equal(ring_find(&r, 45), 5);
    assert_int_equal(ring_find(&r, 90), 10);
    assert_int_equal(ring_find(&r, 1000), 10);
    ring_close(&r);
}

static void ring__makes_readers_fall_off_rather_than_miss_a_frame_that_is_too_big(void **state)
{
    (void)state;
    static char big[5000];
    struct ring r;
    ring_init(&r, 16, 4096, 0);
    append(&r, 0, 1);
    assert_int_equal(ring_append(&r, 2, "", 0, big, sizeof(big)), WEIR_ETOOBIG);
    assert_int_equal(r.tail, r.head);
    assert_int_equal(r.head, 2);
    assert_int_equal(r.whole_from, 3);
    append(&r, 2, 3);
    check_from(&r, 2, 1000);
    ring_close(&r);
}

static void json_put_string__escapes_what_json_must(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 1000);
    json_put_string(&b, "a\"b\\c\n\x7f\xc3\xbc");
    bytes_put_u8(&b, 0);
    assert_string_equal((const char *)b.data, "\"a\\\"b\\\\c\\u000a\\u007f\xc3\xbc\"");
    bytes_reset(&b);
    json_put_member(&b, "x", "");
    json_put_number(&b, "y", -5);
    bytes_put_u8(&b, 0);
    assert_string_equal((const char *)b.data, ",\"x\":\"\",\"y\":-5");
    bytes_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring__gives_every_frame_whole_while_it_grows_and_wraps),
        cmocka_unit_test(ring__drops_the_oldest_and_says_from_where_it_is_whole),
        cmocka_unit_test(ring_find__gives_the_first_frame_above_an_offset),
        cmocka_unit_test(ring__makes_readers_fall_off_rather_than_miss_a_frame_that_is_too_big),
        cmocka_unit_test(json_put_string__escapes_what_json_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
