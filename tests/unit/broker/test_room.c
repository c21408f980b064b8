/* When a node has room on its disk, and what it knows of the others, without nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fault_env.h"
#include "nodes/broker/broker_priv.h"

#define MIN_MIB 100
#define MIB     (1ull << 20)

static struct config config;
static struct broker broker;

static int setup(void **state)
{
    (void)state;
    struct error err = {0};
    static const char text[] =
        "node.name = n1\nnode.data = /d\ncluster.secret = 0123456789abcdef\ntls.plain = yes\n"
        "cluster.node = n1 id=1 peer=h:11 broker=h:12 http=h:13 rtmp=h:14\n"
        "log.free_mib_min = 100\n";
    assert_int_equal(config_parse("test", text, &config, &err), 0);
    broker =
        (struct broker){.config = &config, .self = config_self(&config), .env = fault_env_new(1)};
    broker.metrics.disk_full = metric_gauge("test_disk_full", "", "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_env_free(broker.env);
    return 0;
}

static bool full_with(uint64_t free_bytes)
{
    fault_env_set_free(broker.env, free_bytes);
    room_look(&broker);
    return broker.room.full;
}

static void disk__is_full_below_the_limit_and_until_a_quarter_more(void **state)
{
    (void)state;
    assert_false(full_with(110 * MIB));
    assert_false(full_with(MIN_MIB * MIB));
    assert_true(full_with(MIN_MIB * MIB - 1));
    assert_int_equal(broker.metrics.disk_full->value, 1);
    assert_true(full_with(MIN_MIB * MIB));
    assert_true(full_with(125 * MIB - 1));
    assert_false(full_with(125 * MIB));
    assert_int_equal(broker.metrics.disk_full->value, 0);
    assert_false(full_with(MIN_MIB * MIB));
}

static void a_change__is_told_at_once(void **state)
{
    (void)state;
    (void)full_with(MIN_MIB * MIB);
    broker.room.told_ns = broker.reported_ns = 77;
    (void)full_with(MIN_MIB * MIB);
    assert_int_equal(broker.room.told_ns, 77);
    (void)full_with(0);
    assert_int_equal(broker.room.told_ns, 0);
    assert_int_equal(broker.reported_ns, 0);
}

static void take(uint32_t id, bool full)
{
    Weir__Room m = WEIR__ROOM__INIT;
    m.full = m.below = full;
    room_take(&broker, id, &m);
}

static void others__have_room_when_they_have_said_so_lately(void **state)
{
    (void)state;
    assert_false(room_of(&broker, 2));
    take(2, false);
    take(3, true);
    assert_true(room_of(&broker, 2));
    assert_false(room_of(&broker, 3));
    take(2, true);
    take(3, false);
    assert_false(room_of(&broker, 2));
    assert_true(room_of(&broker, 3));
    fault_env_advance(broker.env, 3000000);
    assert_false(room_of(&broker, 3));
    take(3, false);
    assert_true(room_of(&broker, 3));
}

#define V(n)                                                                                       \
    {                                                                                              \
        .id = (n), .role = GROUP_VOTER                                                             \
    }

static void room__is_scarce_when_no_majority_of_the_voters_is_above_the_limit(void **state)
{
    (void)state;
    const struct group_member three[] = {V(1), V(2), V(3), {.id = 4, .role = GROUP_STANDBY}};
    take(2, true);
    take(4, true);
    assert_false(room_is_scarce(&broker, three, 4));
    (void)full_with(0);
    assert_true(room_is_scarce(&broker, three, 4));
    (void)full_with(MIN_MIB * MIB); /* full still, but not below */
    assert_false(room_is_scarce(&broker, three, 4));
    take(3, true);
    assert_true(room_is_scarce(&broker, three, 4));
    take(2, false);
    assert_false(room_is_scarce(&broker, three, 4));
    const struct group_member two[] = {V(1), V(2)}; /* a majority is both of them */
    assert_false(room_is_scarce(&broker, two, 2));
    take(2, true);
    assert_true(room_is_scarce(&broker, two, 2));
    const struct group_member one[] = {V(1)};
    assert_false(room_is_scarce(&broker, one, 1));
    assert_false(room_is_scarce(&broker, NULL, 0));
}

static void peers__that_are_heard_no_more_make_room_for_others(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= CLUSTER_NODES_MAX; id++) {
        take(id, true);
    }
    fault_env_advance(broker.env, 3000000);
    take(2, true);
    take(CLUSTER_NODES_MAX + 1, false);
    assert_true(room_of(&broker, CLUSTER_NODES_MAX + 1));
    assert_int_equal(broker.room.n_peers, 2);
}

static void peers__are_counted_once_each_and_within_bounds(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= 2 * CLUSTER_NODES_MAX; id++) {
        take(id, false);
        take(id, false);
    }
    assert_int_equal(broker.room.n_peers, CLUSTER_NODES_MAX);
    assert_true(room_of(&broker, CLUSTER_NODES_MAX));
    assert_false(room_of(&broker, CLUSTER_NODES_MAX + 1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(disk__is_full_below_the_limit_and_until_a_quarter_more),
        TEST(a_change__is_told_at_once),
        TEST(others__have_room_when_they_have_said_so_lately),
        TEST(room__is_scarce_when_no_majority_of_the_voters_is_above_the_limit),
        TEST(peers__are_counted_once_each_and_within_bounds),
        TEST(peers__that_are_heard_no_more_make_room_for_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
