#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "media/store_place.h"

#define N 5

static struct config config;

static int setup(void **state)
{
    (void)state;
    memset(&config, 0, sizeof(config));
    for (uint32_t i = 0; i < N; i++) {
        config.nodes[i].id = i + 1;
        (void)snprintf(config.nodes[i].name, sizeof(config.nodes[i].name), "n%u", i + 1);
    }
    config.n_nodes = N;
    return 0;
}

static store_nodes place(store_nodes able, unsigned copies, unsigned object, const char *a,
                         const char *b)
{
    const char *const named[] = {a, b};
    char name[32];
    (void)snprintf(name, sizeof(name), "%016x/s.m4s", object);
    return store_place(&config, able, copies, name, named, 2);
}

static void place__is_who_the_log_names_while_they_are_able(void **state)
{
    (void)state;
    assert_int_equal(place(0x1f, 2, 1, "n1", "n4"), 0x09);
    assert_int_equal(place(0x0b, 2, 1, "n1", "n4"), 0x09);
    assert_int_equal(place(0x1f, 1, 1, "n1", "n4"), 0x09); /* they have it */
}

static void place__others_stand_in_and_spread(void **state)
{
    (void)state;
    unsigned n[N] = {0};
    for (unsigned object = 0; object < 3000; object++) {
        store_nodes holders = place(0x1e, 2, object, "n1", "n2");
        assert_int_equal(__builtin_popcount(holders), 2);
        assert_true((holders & 0x02) != 0 && (holders & 0x01) == 0);
        for (unsigned i = 0; i < N; i++) {
            n[i] += holders >> i & 1;
        }
    }
    for (unsigned i = 2; i < N; i++) {
        assert_in_range(n[i], 850, 1150);
    }
}

static void place__of_a_node_that_goes_moves_only_what_it_held(void **state)
{
    (void)state;
    for (unsigned object = 0; object < 1000; object++) {
        store_nodes before = place(0x1e, 2, object, "n1", "n1");
        store_nodes after = place(0x1c, 2, object, "n1", "n1"); /* without n2 */
        if ((before & 0x02) == 0) {
            assert_int_equal(after, before);
        } else {
            assert_int_equal(__builtin_popcount(after & before), 1);
        }
    }
}

static void place__does_not_depend_on_the_order_of_the_nodes(void **state)
{
    (void)state;
    for (unsigned object = 0; object < 100; object++) {
        (void)setup(NULL);
        store_nodes holders = place(0x1f, 3, object, "n1", "gone");
        struct config_node first = config.nodes[0];
        config.nodes[0] = config.nodes[4];
        config.nodes[4] = first;
        store_nodes turned = place(0x1f, 3, object, "n1", "gone");
        assert_int_equal(holders & 0x0e, turned & 0x0e);
        assert_int_equal(holders & 1, turned >> 4 & 1);
    }
}

static void place__with_too_few_nodes_is_all_of_them(void **state)
{
    (void)state;
    assert_int_equal(place(0x14, 4, 1, "n1", "n2"), 0x14);
    assert_int_equal(place(0, 2, 1, "n1", "n2"), 0);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(place__is_who_the_log_names_while_they_are_able),
        TEST(place__others_stand_in_and_spread),
        TEST(place__of_a_node_that_goes_moves_only_what_it_held),
        TEST(place__does_not_depend_on_the_order_of_the_nodes),
        TEST(place__with_too_few_nodes_is_all_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
