/* How a group begins, and how a replica that lost its promises comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "cluster.h"

static struct cluster c;
static struct error err;

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

static void wipe(uint32_t id)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s/%u", c.dir, id);
    assert_int_equal(system(command), 0);
}

static bool some_time_is_over(struct cluster *cl)
{
    static uint64_t since;
    uint64_t now = uv_now(&cl->loop);
    since = since == 0 || now - since > 10000 ? now : since;
    bool over = now - since > 1500;
    since = over ? 0 : since;
    return over;
}

static bool all_are_voters_again(struct cluster *cl)
{
    struct group_member members[16];
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (cl->nodes[id].group == NULL || group_recovering(cl->nodes[id].group)) {
            return false;
        }
        unsigned n = group_members(cl->nodes[id].group, members, 16), voters = 0;
        for (unsigned i = 0; i < n; i++) {
            voters += members[i].role == GROUP_VOTER;
        }
        if (voters != CLUSTER_NODES) {
            return false;
        }
    }
    return cluster_leader(cl) != 0;
}

static void await_all_voters(void)
{
    assert_true(cluster_run_until(&c, all_are_voters_again));
}

static void group__is_founded_when_all_founders_have_met(void **state)
{
    (void)state;
    assert_int_equal(cluster_start(&c, 3, &err), 0);
    assert_int_equal(cluster_start(&c, 2, &err), 0);
    assert_true(cluster_run_until(&c, some_time_is_over));
    assert_int_equal(cluster_leader(&c), 0);
    assert_int_equal(partition_last_index(group_partition(c.nodes[2].group)).v, 0);
    cluster_stop(&c, 2);
    cluster_stop(&c, 3);
    cluster_start_all(&c);
    cluster_propose_many(&c, 10, 1, 100);
    await_all_voters();
}

static void replica_with_an_empty_disk__comes_back_with_all_that_was_acknowledged(void **state)
{
    (void)state;
    struct metric *rejoins = metric_counter("weir_raft_rejoins_total", "", "");
    int64_t before = rejoins->value;
    cluster_start_all(&c);
    for (int round = 0; round < 3; round++) {
        uint32_t victim = cluster_await_leader(&c) % CLUSTER_NODES + 1;
        cluster_propose_many(&c, 300, 30, 1000);
        cluster_stop(&c, victim);
        wipe(victim);
        cluster_propose_many(&c, 50, 10, 100);
        assert_int_equal(cluster_start(&c, victim, &err), 0);
        cluster_propose_many(&c, 50, 10, 100);
        await_all_voters();
        cluster_await_equal(&c);
    }
    assert_int_equal(rejoins->value, before + 3);
}

static void replica_with_an_empty_disk__elects_nobody(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    cluster_propose_many(&c, 50, 10, 100);
    uint32_t victim = leader % CLUSTER_NODES + 1, third = victim % CLUSTER_NODES + 1;
    cluster_stop(&c, victim);
    wipe(victim);
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, leader);
    assert_int_equal(cluster_start(&c, victim, &err), 0);
    /* The third may lack what the leader and the victim's earlier life acknowledged. */
    assert_true(cluster_run_until(&c, some_time_is_over));
    assert_int_equal(cluster_leader(&c), 0);
    assert_true(group_recovering(c.nodes[victim].group));
    assert_false(group_recovering(c.nodes[third].group));
    assert_int_equal(cluster_start(&c, leader, &err), 0);
    await_all_voters();
    cluster_propose_many(&c, 50, 10, 100);
    cluster_await_equal(&c);
}

static void group_recover__takes_a_running_replica_out_and_brings_it_back(void **state)
{
    (void)state;
    cluster_start_all(&c);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) { /* the leader among them */
        cluster_await_leader(&c);
        cluster_propose_many(&c, 100, 10, 100);
        assert_int_equal(group_recover(c.nodes[id].group, &err), 0);
        assert_true(group_recovering(c.nodes[id].group));
        await_all_voters();
        cluster_propose_many(&c, 100, 10, 100);
        cluster_await_equal(&c);
    }
}

static void recovering_mark__outlives_a_restart(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t victim = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 100, 10, 100);
    assert_int_equal(group_recover(c.nodes[victim].group, &err), 0);
    cluster_stop(&c, victim);
    assert_int_equal(cluster_start(&c, victim, &err), 0);
    assert_true(group_recovering(c.nodes[victim].group));
    await_all_voters();
    cluster_stop(&c, victim);
    assert_int_equal(cluster_start(&c, victim, &err), 0);
    assert_false(group_recovering(c.nodes[victim].group));
    cluster_await_equal(&c);
}

/* --- In smaller groups --- */

static uint32_t on_its_way;

static unsigned voters_of(const struct group *g)
{
    struct group_member members[16];
    unsigned n = group_members(g, members, 16), voters = 0;
    for (unsigned i = 0; i < n; i++) {
        voters += members[i].role == GROUP_VOTER;
    }
    return voters;
}

/* By the leader's newest configuration, which is not committed. */
static bool becomes_a_voter(struct cluster *cl)
{
    uint32_t leader = cluster_leader(cl);
    if (leader == 0 || leader == on_its_way) {
        return false;
    }
    struct partition *p = group_partition(cl->nodes[leader].group);
    return voters_of(cl->nodes[leader].group) == 2 &&
           partition_config_index(p, partition_last_index(p)).v > partition_commit_index(p).v;
}

static bool becomes_a_voter_again(struct cluster *cl)
{
    return becomes_a_voter(cl) && group_recovering(cl->nodes[on_its_way].group);
}

static bool two_voters_are_well(struct cluster *cl)
{
    uint32_t leader = cluster_leader(cl);
    return leader != 0 && voters_of(cl->nodes[leader].group) == 2 &&
           !group_recovering(cl->nodes[1].group) && !group_recovering(cl->nodes[2].group);
}

/* The leader can't commit that it is a voter again without it, nor take it out again. */
static void
replica_on_its_way_back__may_crash_while_it_becomes_the_second_voter_of_two(void **state)
{
    (void)state;
    c.n_founders = 2;
    assert_int_equal(cluster_start(&c, 2, &err), 0);
    assert_int_equal(cluster_start(&c, 1, &err), 0);
    uint32_t victim = cluster_await_leader(&c) == 1 ? 2 : 1;
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, victim);
    wipe(victim);
    on_its_way = victim;
    assert_int_equal(cluster_start(&c, victim, &err), 0);
    cluster_freeze_disk_when(&c, victim, becomes_a_voter_again); /* so that it can't be too fast */
    assert_true(cluster_run_until(&c, becomes_a_voter_again));
    cluster_thaw_disk(&c, victim);
    cluster_stop(&c, victim);
    assert_true(becomes_a_voter(&c));
    assert_int_equal(cluster_start(&c, victim, &err), 0);
    assert_true(cluster_run_until(&c, two_voters_are_well));
    cluster_propose_many(&c, 50, 10, 100);
    cluster_await_equal(&c);
}

static void make_a_voter(uint32_t id)
{
    int rv;
    do {
        cluster_await_leader(&c);
        rv = cluster_change(&c, id, GROUP_VOTER);
        cluster_propose_many(&c, 1, 1, 10);
    } while (rv != 0);
}

static void mark_as_recovering(uint32_t id)
{
    struct partition_options o = {
        .segment_bytes = 4 << 20, .tail_bytes = 1 << 20, .index_bytes = 4096};
    struct partition *p;
    struct partition_meta meta;
    struct env *env;
    char dir[128];
    (void)snprintf(dir, sizeof(dir), "%s/%u", c.dir, id);
    assert_int_equal(env_uv_new(&c.loop, &env, &err), 0);
    assert_int_equal(partition_open(env, dir, &o, &p, &err), 0);
    partition_meta(p, &meta);
    meta.recovering = true;
    assert_int_equal(partition_set_meta(p, &meta, &err), 0);
    partition_close(p);
    uv_run(&c.loop, UV_RUN_NOWAIT);
    env_uv_free(env);
}

static void run_in_dir(const char *what)
{
    char command[256];
    (void)snprintf(command, sizeof(command), "cd %s && %s", c.dir, what);
    assert_int_equal(system(command), 0);
}

/* By its own log it is all there is, and libraft makes who is that a leader at once. */
static void replica_whose_log_ends_before_the_others_came__does_not_elect_itself(void **state)
{
    (void)state;
    c.n_founders = 1;
    cluster_start_all(&c);
    cluster_propose_many(&c, 20, 10, 100);
    cluster_stop(&c, 1);
    run_in_dir("cp -a 1 old");
    assert_int_equal(cluster_start(&c, 1, &err), 0);
    make_a_voter(2);
    make_a_voter(3);
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, 1);
    run_in_dir("rm -rf 1 && mv old 1");
    mark_as_recovering(1);
    cluster_propose_many(&c, 20, 10, 100);
    assert_int_equal(cluster_start(&c, 1, &err), 0);
    await_all_voters();
    cluster_propose_many(&c, 20, 10, 100);
    cluster_await_equal(&c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(group__is_founded_when_all_founders_have_met),
        TEST(replica_with_an_empty_disk__comes_back_with_all_that_was_acknowledged),
        TEST(replica_with_an_empty_disk__elects_nobody),
        TEST(group_recover__takes_a_running_replica_out_and_brings_it_back),
        TEST(recovering_mark__outlives_a_restart),
        TEST(replica_on_its_way_back__may_crash_while_it_becomes_the_second_voter_of_two),
        TEST(replica_whose_log_ends_before_the_others_came__does_not_elect_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
