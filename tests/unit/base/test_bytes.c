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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
