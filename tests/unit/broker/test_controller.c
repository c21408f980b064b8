/* What the controller makes of the nodes' reports, without nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fault_env.h"
#include "nodes/broker/broker_priv.h"
#include "proto/meta.pb-c.h"

#define PARTITIONS 6

static struct config config;
static struct broker broker;
static struct replica replicas[PARTITIONS + 2];

/* Three nodes, six partitions, `groups` and `meta`; this one is the controller. */
static int setup(void **state)
{
    (void)state;
    struct error err = {0};
    static const char text[] =
        "node.name = n1\nnode.data = /d\ncluster.secret = 0123456789abcdef\ntls.plain = yes\n"
        "cluster.node = n1 id=1 peer=h:11 broker=h:12 http=h:13 rtmp=h:14\n"
        "cluster.node = n2 id=2 peer=h:21 broker=h:22 http=h:23 rtmp=h:24\n"
        "cluster.node = n3 id=3 peer=h:31 broker=h:32 http=h:33 rtmp=h:34\n"
        "log.topic = a partitions=6\nlog.topic = groups partitions=1\nlog.topic = meta "
        "partitions=1\n";
    assert_int_equal(config_parse("test", text, &config, &err), 0);
    broker = (struct broker){
        .config = &config, .replicas = replicas, .n_replicas = PARTITIONS + 2, .n_shards = 1};
    broker.env = fault_env_new(1);
    assert_int_equal(cluster_found(&broker.roster.cluster, &config, &err), 0);
    assert_int_equal(broker.roster.cluster.n_placements, broker.n_replicas);
    for (uint32_t i = 0; i < PARTITIONS + 2; i++) {
        replicas[i] = (struct replica){.broker = &broker,
                                       .topic = &config.topics[0],
                                       .index = i,
                                       .group_id = i < PARTITIONS ? 1024 + i : 2048 * i};
    }
    controller_open(&broker.controller, &broker);
    broker.controller.parts = calloc(broker.n_replicas, sizeof(*broker.controller.parts));
    assert_non_null(broker.controller.parts);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    controller_close(&broker.controller);
    cluster_close(&broker.roster.cluster);
    fault_env_free(broker.env);
    return 0;
}

static bool full; /* the next report says so */

/* Node `id` leads the partitions `first`..`first + n - 1`; the other two follow closely. */
static void report_of_shard(uint32_t id, uint32_t shard, uint32_t first, uint32_t n, bool disk_bad)
{
    Weir__ReportMember members[3], *list[3];
    Weir__ReportPartition parts[PARTITIONS], *all[PARTITIONS];
    for (uint32_t k = 0; k < 3; k++) {
        weir__report_member__init(&members[k]);
        members[k].id = k + 1;
        members[k].voter = members[k].connected = true;
        list[k] = &members[k];
    }
    for (uint32_t i = 0; i < n; i++) {
        weir__report_partition__init(&parts[i]);
        parts[i].group = 1024 + first + i;
        parts[i].term = 7;
        parts[i].settled = true;
        parts[i].members = list;
        parts[i].n_members = 3;
        all[i] = &parts[i];
    }
    Weir__Report m = WEIR__REPORT__INIT;
    m.partitions = all;
    m.n_partitions = n;
    m.last = true;
    m.disk_bad = disk_bad;
    m.disk_full = full;
    controller_take(&broker.controller, id, shard, &m);
}

static void report(uint32_t id, uint32_t first, uint32_t n, bool disk_bad)
{
    report_of_shard(id, 0, first, n, disk_bad);
}

static void leaders__go_to_a_node_that_leads_too_little(void **state)
{
    (void)state;
    uint32_t index = 0, target = 0;
    report(1, 0, 3, false);
    report(2, 3, 3, false);
    report(3, 0, 0, false);
    assert_true(controller_next_lead(&broker.controller, &index, &target));
    assert_int_equal(target, 3);
}

static void leaders__do_not_go_to_a_node_whose_disk_is_bad(void **state)
{
    (void)state;
    uint32_t index = 0, target = 0;
    report(1, 0, 3, false);
    report(2, 3, 3, false);
    report(3, 0, 0, true);
    assert_false(controller_next_lead(&broker.controller, &index, &target));
    report(3, 0, 0, false); /* the disk answers again */
    assert_true(controller_next_lead(&broker.controller, &index, &target));
    assert_int_equal(target, 3);
}

static void report_full(uint32_t id, uint32_t first, uint32_t n)
{
    full = true;
    report(id, first, n, false);
    full = false;
}

static void leaders__leave_a_node_whose_disk_is_full_and_do_not_go_there(void **state)
{
    (void)state;
    uint32_t index = 0, target = 0;
    report(1, 0, 3, false);
    report(2, 3, 3, false);
    report_full(3, 0, 0);
    assert_false(controller_next_lead(&broker.controller, &index, &target));
    report(1, 0, 2, false);
    report(2, 2, 2, false);
    report_full(3, 4, 2);
    assert_true(controller_next_lead(&broker.controller, &index, &target));
    assert_true(index >= 4);
    assert_int_not_equal(target, 3);
    report(1, 0, 3, false);
    report(2, 3, 3, false);
    report(3, 0, 0, false); /* there is room again: its share */
    assert_true(controller_next_lead(&broker.controller, &index, &target));
    assert_int_equal(target, 3);
}

static void leaders__stay_where_they_are_when_all_disks_are_full(void **state)
{
    (void)state;
    uint32_t index = 0, target = 0;
    report_full(1, 0, 6);
    report_full(2, 0, 0);
    report_full(3, 0, 0);
    assert_false(controller_next_lead(&broker.controller, &index, &target));
}

static void a_shard_whose_disk_is_well__does_not_speak_for_the_others(void **state)
{
    (void)state;
    uint32_t index = 0, target = 0;
    report(1, 0, 3, false);
    report(2, 3, 3, false);
    report_of_shard(3, 1, 0, 0, true);
    report_of_shard(3, 0, 0, 0, false);
    assert_false(controller_next_lead(&broker.controller, &index, &target));
    report_of_shard(3, 1, 0, 0, false);
    assert_true(controller_next_lead(&broker.controller, &index, &target));
}

static void leaders__leave_a_node_whose_disk_is_bad(void **state)
{
    (void)state;
    uint32_t index = 0, target = 0;
    report(1, 0, 2, false);
    report(2, 2, 2, false);
    report(3, 4, 2, true);
    assert_true(controller_next_lead(&broker.controller, &index, &target));
    assert_true(index >= 4);
    assert_int_not_equal(target, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaders__go_to_a_node_that_leads_too_little, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(leaders__do_not_go_to_a_node_whose_disk_is_bad, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_shard_whose_disk_is_well__does_not_speak_for_the_others,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(leaders__leave_a_node_whose_disk_is_bad, setup, teardown),
        cmocka_unit_test_setup_teardown(
            leaders__leave_a_node_whose_disk_is_full_and_do_not_go_there, setup, teardown),
        cmocka_unit_test_setup_teardown(leaders__stay_where_they_are_when_all_disks_are_full, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
