#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "media/amf0.h"

static void amf0_read__gives_back_what_was_put(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 1024);
    amf0_put_number(&b, -2.5);
    amf0_put_string(&b, "publish");
    amf0_put_null(&b);
    struct cursor c;
    struct amf0_value v;
    cursor_init(&c, b.data, b.len);
    amf0_read(&c, &v);
    assert_true(v.type == AMF0_NUMBER && v.number == -2.5);
    amf0_read(&c, &v);
    assert_true(v.type == AMF0_STRING && amf0_equal(v.string, "publish"));
    amf0_read(&c, &v);
    assert_int_equal(v.type, AMF0_NULL);
    assert_true(cursor_ok(&c) && cursor_left(&c) == 0);
    bytes_close(&b);
}

static void count(void *data, struct amf0_string name, const struct amf0_value *value)
{
    unsigned *seen = data;
    if (amf0_equal(name, "app") && amf0_equal(value->string, "live")) {
        *seen |= 1;
    } else if (amf0_equal(name, "inner")) {
        *seen |= 2;
    } else {
        *seen |= 4;
    }
}

static void amf0_read_object__tells_own_properties_and_skips_those_inside(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 1024);
    amf0_put_object_begin(&b);
    amf0_put_name(&b, "inner");
    amf0_put_object_begin(&b);
    amf0_put_name(&b, "x");
    amf0_put_number(&b, 1);
    amf0_put_object_end(&b);
    amf0_put_name(&b, "app");
    amf0_put_string(&b, "live");
    amf0_put_object_end(&b);
    struct cursor c;
    unsigned seen = 0;
    cursor_init(&c, b.data, b.len);
    amf0_read_object(&c, count, &seen);
    assert_int_equal(seen, 3);
    assert_true(cursor_ok(&c) && cursor_left(&c) == 0);
    bytes_close(&b);
}

static void amf0_read__fails_on_nesting_beyond_the_limit(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 4096);
    for (int i = 0; i < 200; i++) {
        amf0_put_object_begin(&b);
        amf0_put_name(&b, "a");
    }
    struct cursor c;
    struct amf0_value v;
    cursor_init(&c, b.data, b.len);
    amf0_read(&c, &v);
    assert_false(cursor_ok(&c));
    bytes_close(&b);
}

static void amf0_read__ends_a_lying_array_with_the_message(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {AMF0_STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff, AMF0_NULL};
    struct cursor c;
    struct amf0_value v;
    cursor_init(&c, bytes, sizeof(bytes));
    amf0_read(&c, &v);
    assert_false(cursor_ok(&c));
}

static void amf0_read__fails_on_every_prefix(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 1024);
    amf0_put_object_begin(&b);
    amf0_put_name(&b, "app");
    amf0_put_string(&b, "live");
    amf0_put_object_end(&b);
    for (size_t n = 0; n < b.len; n++) {
        struct cursor c;
        struct amf0_value v;
        cursor_init(&c, b.data, n);
        amf0_read(&c, &v);
        assert_false(cursor_ok(&c));
    }
    bytes_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amf0_read__gives_back_what_was_put),
        cmocka_unit_test(amf0_read_object__tells_own_properties_and_skips_those_inside),
        cmocka_unit_test(amf0_read__fails_on_nesting_beyond_the_limit),
        cmocka_unit_test(amf0_read__ends_a_lying_array_with_the_message),
        cmocka_unit_test(amf0_read__fails_on_every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
