/* Guard 14 on three real nodes: a disk that takes everything and answers nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster.h"
#include "consensus/group_impl.h"

static struct cluster c;
static uint32_t stuck; /* the node whose disk it is */

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 50, 10, 100);
    cluster_await_equal(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

static void freeze(uint32_t id)
{
    stuck = id;
    cluster_freeze_disk(&c, id);
}

static bool another_leads(struct cluster *cl)
{
    uint32_t leader = cluster_leader(cl);
    return leader != 0 && leader != stuck;
}

static bool stall_is_noticed(struct cluster *cl)
{
    return group_disk_stalls(cl->nodes[stuck].group);
}

static unsigned wanted_acks;

static bool enough_are_acknowledged(struct cluster *cl)
{
    return cl->acked >= wanted_acks;
}

static void leader_with_a_stuck_disk__gives_up_and_follows_after_the_thaw(void **state)
{
    (void)state;
    freeze(cluster_leader(&c));
    assert_int_equal(cluster_propose(&c, 1, 100), 0);
    assert_true(cluster_run_until(&c, another_leads));
    assert_false(group_is_leader(c.nodes[stuck].group));
    assert_true(group_disk_stalls(c.nodes[stuck].group));
    wanted_acks = c.acked + 1; /* the others go on; what it had itself waits for its disk */
    assert_int_equal(cluster_propose(&c, 1, 100), 0);
    assert_true(cluster_run_until(&c, enough_are_acknowledged));
    assert_true(another_leads(&c));
    struct log_term term = group_term(c.nodes[cluster_leader(&c)].group);
    cluster_thaw_disk(&c, stuck);
    cluster_await_equal(&c);
    assert_true(another_leads(&c));
    assert_int_equal(group_term(c.nodes[stuck].group).v, term.v);
    assert_false(group_disk_stalls(c.nodes[stuck].group));
    assert_int_equal(c.nodes[stuck].failures, 0);
}

static void leader_with_a_stuck_disk__gives_up_although_nothing_is_written(void **state)
{
    (void)state;
    freeze(cluster_leader(&c));
    assert_true(cluster_run_until(&c, another_leads));
    cluster_thaw_disk(&c, stuck);
    cluster_await_equal(&c);
    assert_true(another_leads(&c));
}

static void follower_with_a_stuck_disk__takes_no_leadership(void **state)
{
    (void)state;
    uint32_t leader = cluster_leader(&c);
    freeze(leader % CLUSTER_NODES + 1);
    assert_true(cluster_run_until(&c, stall_is_noticed));
    struct log_term term = group_term(c.nodes[leader].group);
    assert_int_not_equal(cluster_transfer(&c, stuck), 0);
    cluster_propose_many(&c, 20, 5, 100);
    cluster_thaw_disk(&c, stuck);
    cluster_await_equal(&c);
    /* It did not even try: a candidate would have raised the term. */
    assert_int_equal(cluster_leader(&c), leader);
    assert_int_equal(group_term(c.nodes[leader].group).v, term.v);
    assert_int_equal(group_term(c.nodes[stuck].group).v, term.v);
}

/* Nothing runs in between: only the clock goes on. */
static bool stalls_after(struct group *g, unsigned percent, bool others_were_answered)
{
    c.clock_ns += (uint64_t)g->options.election_ms * 2 * 1000000 * percent / 100;
    if (others_were_answered) {
        vote_log_answered(g->options.vote_log);
    }
    return group_disk_stalls(g);
}

/* As behind a thousand other groups. */
static void disk_that_answers_other_groups__is_slow_and_not_stuck(void **state)
{
    (void)state;
    struct group *g = c.nodes[cluster_leader(&c)].group;
    freeze(cluster_leader(&c));
    assert_int_equal(cluster_propose(&c, 1, 100), 0);
    assert_false(stalls_after(g, 90, true));
    assert_false(stalls_after(g, 90, true));
    assert_false(stalls_after(g, 90, false));
    assert_true(stalls_after(g, 20, false)); /* now nobody has been for so long */
    assert_false(stalls_after(g, 0, true));
    assert_false(stalls_after(g, 90, true));
    assert_true(stalls_after(g, 150, true)); /* this one waits alone, and too long */
    cluster_thaw_disk(&c, stuck);
    cluster_await_equal(&c);
    assert_false(group_disk_stalls(g));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            leader_with_a_stuck_disk__gives_up_and_follows_after_the_thaw, setup, teardown),
        cmocka_unit_test_setup_teardown(
            leader_with_a_stuck_disk__gives_up_although_nothing_is_written, setup, teardown),
        cmocka_unit_test_setup_teardown(disk_that_answers_other_groups__is_slow_and_not_stuck,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(follower_with_a_stuck_disk__takes_no_leadership, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
