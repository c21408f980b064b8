#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"

static void cursor__error_sticks_and_reads_zeros(void **state)
{
    (void)state;
    const uint8_t data[3] = {1, 2, 3};
    struct cursor c;
    cursor_init(&c, data, sizeof(data));
    assert_int_equal(cursor_be16(&c), 0x0102);
    assert_int_equal(cursor_be32(&c), 0);
    assert_false(cursor_ok(&c));
    assert_int_equal(cursor_u8(&c), 0);
    assert_int_equal(cursor_left(&c), 0);
}

static void varint__round_trips_at_the_edges(void **state)
{
    (void)state;
    const int64_t values[] = {0, -1, 1, 63, -64, 64, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    struct bytes b;
    bytes_init(&b, 1024);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        bytes_put_varint(&b, values[i]);
    }
    assert_int_equal(bytes_error(&b), 0);
    struct cursor c;
    cursor_init(&c, b.data, b.len);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_true(cursor_varint(&c) == values[i]);
    }
    assert_true(cursor_ok(&c));
    bytes_close(&b);
}

static void varint__longer_than_ten_bytes_fails(void **state)
{
    (void)state;
    uint8_t data[16];
    memset(data, 0xff, sizeof(data));
    struct cursor c;
    cursor_init(&c, data, sizeof(data));
    assert_int_equal(cursor_varint(&c), 0);
    assert_false(cursor_ok(&c));
}

static void bytes__past_the_limit_sticks_until_reset(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 4);
    bytes_put_be32(&b, 1);
    bytes_put_u8(&b, 1);
    assert_int_equal(bytes_error(&b), WEIR_ETOOBIG);
    assert_int_equal(b.len, 4);
    bytes_reset(&b);
    bytes_put_u8(&b, 1);
    assert_int_equal(bytes_error(&b), 0);
    bytes_close(&b);
}

/* By the definition: one bit after the other. */
static uint32_t crc32c_bitwise(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    while (n-- > 0) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++) {
            crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static void crc32c__is_that_of_the_definition_at_every_length(void **state)
{
    static uint8_t data[20000];
    (void)state;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * i / 7 + i);
    }
    for (size_t n = 0; n < sizeof(data) - 8; n += n < 1600 ? 1 : 331) {
        const uint8_t *at = data + n % 8;
        assert_int_equal(crc32c(0, at, n), crc32c_bitwise(at, n));
        size_t cut = n / 3;
        assert_int_equal(crc32c(crc32c(0, at, cut), at + cut, n - cut), crc32c(0, at, n));
    }
}

static void crc32c__known_answer_and_continuation(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283U);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283U);
    assert_int_equal(crc32c_combine(crc32c(0, "1234", 4), crc32c(0, "56789", 5), 5), 0xe3069283U);
    assert_int_equal(crc32c_combine(0xe3069283U, 0, 0), 0xe3069283U);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor__error_sticks_and_reads_zeros),
        cmocka_unit_test(varint__round_trips_at_the_edges),
        cmocka_unit_test(varint__longer_than_ten_bytes_fails),
        cmocka_unit_test(bytes__past_the_limit_sticks_until_reset),
        cmocka_unit_test(crc32c__known_answer_and_continuation),
        cmocka_unit_test(crc32c__is_that_of_the_definition_at_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
