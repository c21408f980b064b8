/* Who had better not lead, on three real nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster.h"
#include "consensus/group_impl.h"

static struct cluster c;
static uint32_t leader, one, other;

static bool all_have_caught_up(struct cluster *cl)
{
    const struct group *g = cl->nodes[leader].group;
    uint64_t last = partition_last_index(g->partition).v;
    return group_match_index(g, one).v == last && group_match_index(g, other).v == last &&
           g->raft.commit_index == last;
}

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    cluster_start_all(&c);
    leader = cluster_await_leader(&c);
    one = leader % CLUSTER_NODES + 1;
    other = one % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 50, 10, 100);
    cluster_await_equal(&c);
    assert_true(cluster_run_until(&c, all_have_caught_up));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

/* All of them know. */
static void set_unfit(uint32_t id, bool unfit)
{
    for (uint32_t i = 1; i <= CLUSTER_NODES; i++) {
        group_set_unfit(c.nodes[i].group, id, unfit);
    }
}

static void who_is_unfit__takes_no_leadership_while_another_one_could(void **state)
{
    (void)state;
    struct log_term term = group_term(c.nodes[leader].group);
    set_unfit(one, true);
    assert_int_not_equal(cluster_transfer(&c, one), 0);
    assert_int_equal(cluster_await_leader(&c), leader);
    assert_int_equal(group_term(c.nodes[one].group).v, term.v); /* it did not even try */
    set_unfit(one, false);
    assert_int_equal(cluster_transfer(&c, one), 0);
    assert_int_equal(cluster_await_leader(&c), one);
}

static void who_is_unfit__takes_a_leadership_when_all_are(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        set_unfit(id, true);
    }
    assert_int_equal(cluster_transfer(&c, one), 0);
    assert_int_equal(cluster_await_leader(&c), one);
}

/* Who hands over knows that it is fit itself; a node that drains, or stops, goes all the same. */
static void who_is_unfit__takes_a_leadership_when_only_its_leader_is_fit(void **state)
{
    (void)state;
    set_unfit(one, true);
    set_unfit(other, true);
    assert_int_equal(cluster_transfer(&c, one), 0);
    assert_int_equal(cluster_await_leader(&c), one);
}

static void leader_that_may_choose__prefers_who_is_fit(void **state)
{
    (void)state;
    set_unfit(other, true);
    assert_int_equal(cluster_transfer(&c, 0), 0);
    assert_int_equal(cluster_await_leader(&c), one);
}

static void group__refuses_proposals_while_the_others_have_no_room(void **state)
{
    (void)state;
    group_set_scarce(c.nodes[leader].group, true);
    assert_int_equal(cluster_propose(&c, 1, 10), WEIR_ENOSPC);
    group_set_scarce(c.nodes[leader].group, false);
    assert_int_equal(cluster_propose(&c, 1, 10), 0);
}

/* Nothing runs in between: only the clock goes on. */
static void nobody_is_heard_for(struct group *g, unsigned percent)
{
    g->raft.election_timer_start =
        group_now_ms(g) - (raft_time)g->raft.election_timeout * percent / 100;
    guard_tick(g);
}

static void follower_that_is_unfit__campaigns_when_the_others_had_their_time(void **state)
{
    (void)state;
    struct group *g = c.nodes[one].group;
    set_unfit(one, true);
    nobody_is_heard_for(g, 250);
    assert_int_equal(g->raft.state, RAFT_FOLLOWER);
    assert_int_equal(g->raft.follower_state.current_leader.id, 0); /* it votes for who asks */
    nobody_is_heard_for(g, 301);
    assert_int_equal(g->raft.state, RAFT_CANDIDATE);
}

static void follower_that_is_unfit_as_all_are__campaigns_as_ever(void **state)
{
    (void)state;
    struct group *g = c.nodes[one].group;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        set_unfit(id, true);
    }
    nobody_is_heard_for(g, 250);
    assert_int_equal(g->raft.state, RAFT_CANDIDATE);
}

static bool transfer_is_over;

static void transferred(struct group_transfer *req, int status)
{
    (void)req;
    assert_int_not_equal(status, 0);
    transfer_is_over = true;
}

static bool is_over(struct cluster *cl)
{
    (void)cl;
    return transfer_is_over;
}

static bool has_begun(struct cluster *cl)
{
    return cl->nodes[leader].group->raft.transfer != NULL;
}

/* Else who closes the group waits for it for ever. */
static void transfer_of_who_is_unfit__ends_though_somebody_else_leads_now(void **state)
{
    (void)state;
    struct group *g = c.nodes[leader].group;
    struct group_transfer req = {0};
    transfer_is_over = false;
    set_unfit(leader, true);
    set_unfit(one, true); /* does not take it: the other one is fit */
    assert_int_equal(group_transfer(g, &req, one, transferred), 0);
    assert_true(cluster_run_until(&c, has_begun));
    guard_step_down(g);
    assert_true(cluster_run_until(&c, is_over));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(who_is_unfit__takes_no_leadership_while_another_one_could),
        TEST(who_is_unfit__takes_a_leadership_when_all_are),
        TEST(who_is_unfit__takes_a_leadership_when_only_its_leader_is_fit),
        TEST(leader_that_may_choose__prefers_who_is_fit),
        TEST(group__refuses_proposals_while_the_others_have_no_room),
        TEST(follower_that_is_unfit__campaigns_when_the_others_had_their_time),
        TEST(follower_that_is_unfit_as_all_are__campaigns_as_ever),
        TEST(transfer_of_who_is_unfit__ends_though_somebody_else_leads_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
