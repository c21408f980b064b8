/* Membership, transfer and a group of one, on three real nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster.h"

static struct cluster c;
static int changed_status;

#define WAITING 1

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

static void changed(struct group_change *req, int status)
{
    (void)req;
    changed_status = status;
}

static bool change_is_over(struct cluster *cl)
{
    (void)cl;
    return changed_status != WAITING;
}

static struct group *leader_group(void)
{
    return c.nodes[cluster_await_leader(&c)].group;
}

static enum group_role role_of(const struct group *g, uint32_t id)
{
    struct group_member members[16];
    unsigned n = group_members(g, members, 16);
    for (unsigned i = 0; i < n; i++) {
        if (members[i].id == id) {
            return members[i].role;
        }
    }
    return GROUP_NONE;
}

static int change(uint32_t id, enum group_role role)
{
    cluster_await_leader(&c);
    return cluster_change(&c, id, role);
}

/* --- Changes as a caller makes them: what is refused for now, or lost on the way, is asked again
 * of who leads then --- */

static uint32_t wanted_id;
static enum group_role wanted_role;

static bool change_begins(struct cluster *cl)
{
    static struct group_change req;
    static struct group_transfer away;
    uint32_t leader = cluster_leader(cl);
    if (leader == 0) {
        return false;
    }
    struct group *g = cl->nodes[leader].group;
    changed_status = WAITING;
    if (leader == wanted_id && role_of(g, wanted_id) == wanted_role) {
        changed_status = 0;
        return true;
    }
    if (leader == wanted_id) {
        (void)group_transfer(g, &away, 0, NULL);
        return false;
    }
    return group_change(g, &req, wanted_id, wanted_role, changed) == 0;
}

static void await_change(uint32_t id, enum group_role role)
{
    wanted_id = id;
    wanted_role = role;
    do {
        assert_true(cluster_run_until(&c, change_begins));
        assert_true(cluster_run_until(&c, change_is_over));
    } while (changed_status == WEIR_EUNKNOWN || changed_status == WEIR_ENOTLEADER ||
             changed_status == WEIR_EUNAVAILABLE);
    assert_int_equal(changed_status, 0);
}

static bool all_are_connected(struct cluster *cl)
{
    for (uint32_t a = 1; a <= CLUSTER_NODES; a++) {
        for (uint32_t b = 1; b <= CLUSTER_NODES; b++) {
            if (a != b && cl->nodes[a].transport != NULL && cl->nodes[b].transport != NULL &&
                !transport_connected(cl->nodes[a].transport, b)) {
                return false;
            }
        }
    }
    return true;
}

static void start_all(void)
{
    cluster_start_all(&c);
    assert_true(cluster_run_until(&c, all_are_connected));
}

static void group_of_one__leads_commits_and_takes_a_new_term_at_every_start(void **state)
{
    (void)state;
    struct error err;
    uint64_t term = 0;
    c.n_founders = 1;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(cluster_start(&c, 1, &err), 0);
        cluster_await_leader(&c);
        assert_true(group_term(c.nodes[1].group).v > term);
        term = group_term(c.nodes[1].group).v;
        cluster_propose_many(&c, 300, 30, 200);
        assert_int_equal(c.acked, 300 * (round + 1));
        cluster_await_equal(&c);
        cluster_stop(&c, 1);
    }
}

static void group_change__makes_three_of_one_and_one_of_three(void **state)
{
    (void)state;
    c.n_founders = 1;
    start_all();
    cluster_propose_many(&c, 1000, 50, 1000);
    assert_int_equal(role_of(leader_group(), 2), GROUP_NONE);
    await_change(2, GROUP_STANDBY);
    assert_int_equal(role_of(leader_group(), 2), GROUP_STANDBY);
    await_change(2, GROUP_VOTER);
    await_change(3, GROUP_VOTER);
    cluster_propose_many(&c, 300, 30, 1000);
    cluster_await_equal(&c);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        for (uint32_t other = 1; other <= CLUSTER_NODES; other++) {
            assert_int_equal(role_of(c.nodes[id].group, other), GROUP_VOTER);
        }
    }
    cluster_stop(&c, 1); /* the founder is not needed any more */
    cluster_propose_many(&c, 300, 30, 100);
    struct error err;
    assert_int_equal(cluster_start(&c, 1, &err), 0);
    cluster_await_equal(&c);
    assert_true(cluster_run_until(&c, all_are_connected));
    uint32_t second = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    await_change(second, GROUP_NONE);
    uint32_t third = 1 + 2 + 3 - second - cluster_await_leader(&c);
    await_change(third, GROUP_STANDBY);
    uint32_t last = 1 + 2 + 3 - second - third;
    cluster_propose_many(&c, 100, 10, 100);
    assert_int_equal(cluster_leader(&c), last);
    assert_int_equal(role_of(leader_group(), second), GROUP_NONE);
    assert_int_equal(role_of(leader_group(), third), GROUP_STANDBY);
    /* It leads alone now, and starts alone. */
    cluster_stop(&c, second);
    cluster_stop(&c, third);
    cluster_stop(&c, last);
    assert_int_equal(cluster_start(&c, last, &err), 0);
    cluster_propose_many(&c, 100, 10, 100);
}

static void group_change__is_refused_where_it_would_do_harm(void **state)
{
    (void)state;
    start_all();
    uint32_t leader = cluster_await_leader(&c);
    struct group *g = c.nodes[leader].group;
    uint32_t second = leader % CLUSTER_NODES + 1, third = second % CLUSTER_NODES + 1;
    struct group_change one = {0}, two = {0};
    assert_int_equal(group_change(c.nodes[second].group, &one, third, GROUP_NONE, changed),
                     WEIR_ENOTLEADER);
    assert_int_equal(group_change(g, &one, leader, GROUP_NONE, changed), WEIR_EINVAL);
    changed_status = WAITING;
    assert_int_equal(group_change(g, &one, 9, GROUP_STANDBY, changed), 0);
    assert_int_equal(group_change(g, &two, 8, GROUP_STANDBY, changed), WEIR_EBUSY);
    assert_true(cluster_run_until(&c, change_is_over));
    assert_int_equal(changed_status, 0);
    await_change(9, GROUP_NONE);
    cluster_stop(&c, third);
    /* Two of two would be needed, and one of them is not there. */
    assert_int_equal(change(second, GROUP_NONE), WEIR_EUNAVAILABLE);
    await_change(third, GROUP_NONE);
    cluster_propose_many(&c, 10, 1, 100);
}

static void group_transfer__moves_leadership_under_load_and_loses_nothing(void **state)
{
    (void)state;
    start_all();
    for (int round = 0; round < 12; round++) {
        cluster_propose_many(&c, 50, 10, 100);
        for (int i = 0; i < 5; i++) {
            (void)cluster_propose(&c, 1, 100);
        }
        uint32_t to = cluster_await_leader(&c) % CLUSTER_NODES + 1;
        int rv = cluster_transfer(&c, round % 2 == 0 ? to : 0);
        assert_int_equal(rv, 0);
        if (round % 2 == 0) {
            assert_int_equal(cluster_await_leader(&c), to);
        }
    }
    cluster_propose_many(&c, 50, 10, 100);
    assert_int_equal(c.unknown, 0);
    cluster_await_equal(&c);
}

static void group_close__of_a_leader_hands_leadership_over_first(void **state)
{
    (void)state;
    struct error err;
    start_all();
    for (int round = 0; round < 4; round++) {
        uint32_t leader = cluster_await_leader(&c);
        cluster_propose_many(&c, 50, 10, 100);
        for (int i = 0; i < 5; i++) {
            assert_int_equal(cluster_propose(&c, 1, 100), 0);
        }
        cluster_stop(&c, leader);
        assert_int_equal(c.unknown, 0); /* what was in flight was finished */
        cluster_await_leader(&c);
        assert_int_equal(cluster_start(&c, leader, &err), 0);
        cluster_await_equal(&c);
        assert_true(cluster_run_until(&c, all_are_connected));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(group_of_one__leads_commits_and_takes_a_new_term_at_every_start),
        TEST(group_change__makes_three_of_one_and_one_of_three),
        TEST(group_change__is_refused_where_it_would_do_harm),
        TEST(group_transfer__moves_leadership_under_load_and_loses_nothing),
        TEST(group_close__of_a_leader_hands_leadership_over_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
