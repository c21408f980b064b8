#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "harness.h"
#include "log/control.h"
#include "log/frame.h"

#define GOLDEN "tests/golden/log/control_v1.bin"

static struct error err;

static const struct control all[] = {
    {CONTROL_START, {123456789}, 0},
    {CONTROL_COMPACT, {987654321}, 1700000000000},
};

static void control__encodes_to_the_bytes_of_the_format(void **state)
{
    (void)state;
    uint8_t made[2 * CONTROL_SIZE], golden[2 * CONTROL_SIZE];
    for (size_t i = 0; i < 2; i++) {
        control_encode(&all[i], made + i * CONTROL_SIZE);
    }
    if (getenv("WEIR_MAKE_GOLDEN") != NULL) {
        FILE *f = fopen(GOLDEN, "wbe");
        assert_non_null(f);
        assert_int_equal(fwrite(made, 1, sizeof(made), f), sizeof(made));
        assert_int_equal(fclose(f), 0);
    }
    FILE *f = fopen(GOLDEN, "rbe");
    assert_non_null(f);
    assert_int_equal(fread(golden, 1, sizeof(golden), f), sizeof(golden));
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(made, golden, sizeof(made));
    for (size_t i = 0; i < 2; i++) {
        struct control c;
        assert_true(control_is(golden + i * CONTROL_SIZE, CONTROL_SIZE));
        assert_int_equal(control_decode(golden + i * CONTROL_SIZE, CONTROL_SIZE, &c, &err), 0);
        assert_int_equal(c.kind, all[i].kind);
        assert_int_equal(c.offset.v, all[i].offset.v);
        assert_int_equal(c.time_ms, all[i].time_ms);
    }
}

static void control_decode__refuses_every_flipped_bit(void **state)
{
    (void)state;
    uint8_t buf[CONTROL_SIZE];
    struct control c;
    control_encode(&all[1], buf);
    for (size_t bit = 0; bit < CONTROL_SIZE * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(control_decode(buf, sizeof(buf), &c, &err), WEIR_EPROTO);
        buf[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_int_equal(control_decode(buf, sizeof(buf) - 1, &c, &err), WEIR_EPROTO);
}

static void control_decode__refuses_what_later_versions_may_mean(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{12, 2}, {14, 0}, {14, 3}, {16, 1}, {31, 0x80}, {39, 0x80}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint8_t buf[CONTROL_SIZE];
        struct control c;
        control_encode(&all[1], buf);
        buf[wrong[i].at] = wrong[i].value;
        store_le32(buf + 8, crc32c(0, buf + 12, CONTROL_SIZE - 12));
        assert_int_equal(control_decode(buf, sizeof(buf), &c, &err), WEIR_EPROTO);
    }
}

static void control__takes_an_index_but_no_offset(void **state)
{
    (void)state;
    static struct harness h;
    uint8_t buf[CONTROL_SIZE];
    harness_init(&h, 1, 0);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append(&h, 3, 100);
    control_encode(&all[0], buf);
    harness_append_raw(&h, 1, LOG_ENTRY_CONTROL, buf, sizeof(buf));
    harness_append(&h, 2, 100);
    harness_run(&h);
    assert_int_equal(partition_last_index(h.p).v, 3);
    assert_int_equal(partition_end_offset(h.p).v, 5);
    partition_close(h.p);
    h.p = NULL;
    fault_env_run(h.env);
    fault_env_restart(h.env, FAULT_LOSE_ALL);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_check(&h);
    harness_close(&h);
}

static void control__a_damaged_one_is_not_appended(void **state)
{
    (void)state;
    static struct harness h;
    uint8_t buf[CONTROL_SIZE];
    harness_init(&h, 1, 0);
    assert_int_equal(harness_open(&h, &err), 0);
    control_encode(&all[0], buf);
    buf[20] = 1;
    struct log_entry entry = {LOG_TERM(1), LOG_ENTRY_CONTROL, buf, sizeof(buf)};
    uint32_t offsets;
    int64_t time_ms;
    struct frame f = {.len = entry.len, .type = entry.type};
    assert_int_equal(frame_meaning(&f, buf, &offsets, &time_ms, &err), WEIR_EPROTO);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control__encodes_to_the_bytes_of_the_format),
        cmocka_unit_test(control_decode__refuses_every_flipped_bit),
        cmocka_unit_test(control_decode__refuses_what_later_versions_may_mean),
        cmocka_unit_test(control__takes_an_index_but_no_offset),
        cmocka_unit_test(control__a_damaged_one_is_not_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
