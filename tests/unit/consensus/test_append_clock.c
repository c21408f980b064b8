#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "consensus/append_clock.h"

#define MS UINT64_C(1000000)

static void stamp__is_the_wall_clocks_time_while_that_is_not_behind(void **state)
{
    (void)state;
    struct append_clock c = {0};
    assert_int_equal(append_clock_stamp(&c, 1000, 5 * MS, -1), 1000);
    assert_int_equal(append_clock_stamp(&c, 1000, 5 * MS, 1000), 1000);
    assert_int_equal(append_clock_stamp(&c, 9000, 6 * MS, 1000), 9000);
}

static void stamp__goes_on_at_half_speed_until_the_wall_clock_has_caught_up(void **state)
{
    (void)state;
    struct append_clock c = {0};
    int64_t newest = 10000, wall = 4000; /* six seconds behind */
    uint64_t now = 77 * MS;
    assert_int_equal(append_clock_stamp(&c, wall, now, newest), 10000);
    for (int i = 1; i < 119; i++) {
        wall += 100;
        now += 100 * MS;
        int64_t stamp = append_clock_stamp(&c, wall, now, newest);
        assert_int_equal(stamp, 10000 + 50 * i);
        newest = stamp;
    }
    assert_int_equal(append_clock_stamp(&c, wall + 100, now + 100 * MS, newest), 15900);
    assert_int_equal(append_clock_stamp(&c, wall + 300, now + 300 * MS, 15900), 16100);
}

static void stamp__does_not_lose_time_to_many_small_steps(void **state)
{
    (void)state;
    struct append_clock c = {0};
    int64_t newest = 10000;
    for (uint64_t us = 0; us <= 1000000; us += 100) {
        newest = append_clock_stamp(&c, 0, us * 1000, newest);
    }
    assert_int_equal(newest, 10500);
}

static void stamp__goes_on_from_what_another_leader_has_stamped(void **state)
{
    (void)state;
    struct append_clock c = {0};
    assert_int_equal(append_clock_stamp(&c, 0, 0, 10000), 10000);
    assert_int_equal(append_clock_stamp(&c, 0, 1000 * MS, 10000), 10500);
    assert_int_equal(append_clock_stamp(&c, 0, 9000 * MS, 70000), 70000); /* another led */
    assert_int_equal(append_clock_stamp(&c, 0, 9100 * MS, 70000), 70050);
    assert_int_equal(append_clock_stamp(&c, 0, 9200 * MS, 70000), 70000); /* ours was taken back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamp__is_the_wall_clocks_time_while_that_is_not_behind),
        cmocka_unit_test(stamp__goes_on_at_half_speed_until_the_wall_clock_has_caught_up),
        cmocka_unit_test(stamp__does_not_lose_time_to_many_small_steps),
        cmocka_unit_test(stamp__goes_on_from_what_another_leader_has_stamped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
