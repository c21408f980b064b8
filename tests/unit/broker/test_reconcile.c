/* The one next step that a leader takes towards the members that are wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/broker/reconcile.h"

#define V(n, m)                                                                                    \
    {                                                                                              \
        .id = (n), .role = GROUP_VOTER, .match = LOG_INDEX(m), .connected = true                   \
    }
#define S(n, m)                                                                                    \
    {                                                                                              \
        .id = (n), .role = GROUP_STANDBY, .match = LOG_INDEX(m), .connected = true                 \
    }
#define LAST 1000000u

static void assert_step(const struct reconcile_want *want, const struct group_member *members,
                        unsigned n, uint32_t self, enum reconcile_kind kind, uint32_t id,
                        enum group_role role)
{
    struct reconcile_step s = reconcile_next(want, members, n, self, LAST);
    assert_int_equal(s.kind, kind);
    assert_int_equal(s.id, id);
    assert_int_equal(s.role, role);
}

static const struct reconcile_want want_234 = {.voters = {2, 3, 4}, .n_voters = 3};

static void a_move__adds_promotes_and_only_then_removes(void **state)
{
    (void)state;
    const struct group_member first[] = {V(1, LAST), V(2, LAST), V(3, LAST)};
    assert_step(&want_234, first, 3, 2, RECONCILE_CHANGE, 4, GROUP_STANDBY);
    const struct group_member behind[] = {V(1, LAST), V(2, LAST), V(3, LAST), S(4, 10)};
    assert_step(&want_234, behind, 4, 2, RECONCILE_NOTHING, 0, GROUP_NONE);
    const struct group_member there[] = {V(1, LAST), V(2, LAST), V(3, LAST), S(4, LAST - 5)};
    assert_step(&want_234, there, 4, 2, RECONCILE_CHANGE, 4, GROUP_VOTER);
    const struct group_member all[] = {V(1, LAST), V(2, LAST), V(3, LAST), V(4, LAST)};
    assert_step(&want_234, all, 4, 2, RECONCILE_CHANGE, 1, GROUP_NONE);
    const struct group_member done[] = {V(2, LAST), V(3, LAST), V(4, LAST)};
    assert_step(&want_234, done, 3, 2, RECONCILE_NOTHING, 0, GROUP_NONE);
}

static void a_leader_that_goes__hands_over_to_one_that_stays(void **state)
{
    (void)state;
    const struct group_member all[] = {V(1, LAST), V(2, 10), V(3, LAST), V(4, 10)};
    assert_step(&want_234, all, 4, 1, RECONCILE_TRANSFER, 3, GROUP_NONE);
    const struct group_member slow[] = {V(1, LAST), V(2, 10), V(3, 10), V(4, 10)};
    assert_step(&want_234, slow, 4, 1, RECONCILE_NOTHING, 0, GROUP_NONE);
}

static void a_leader_that_goes__prefers_one_that_has_room(void **state)
{
    (void)state;
    struct reconcile_want want = want_234;
    const struct group_member all[] = {V(1, LAST), V(2, LAST), V(3, LAST), V(4, LAST)};
    want.unfit[want.n_unfit++] = 2;
    want.unfit[want.n_unfit++] = 4;
    assert_step(&want, all, 4, 1, RECONCILE_TRANSFER, 3, GROUP_NONE);
    want.unfit[want.n_unfit++] = 3; /* nobody has: any of them */
    assert_step(&want, all, 4, 1, RECONCILE_TRANSFER, 2, GROUP_NONE);
}

static bool is_odd(const void *data, uint32_t id)
{
    (void)data;
    return id % 2 == 1;
}

static void heirs__are_fit_voters_that_have_caught_up_one_after_the_other(void **state)
{
    (void)state;
    const struct group_member members[] = {V(1, LAST), V(2, LAST), V(3, LAST),
                                           V(5, 10),   S(7, LAST), V(9, LAST - 1)};
    assert_int_equal(reconcile_heir(members, 6, 1, LAST, 0, is_odd, NULL), 3);
    assert_int_equal(reconcile_heir(members, 6, 1, LAST, 1, is_odd, NULL), 9);
    assert_int_equal(reconcile_heir(members, 6, 1, LAST, 2, is_odd, NULL), 3);
    assert_int_equal(reconcile_heir(members, 2, 1, LAST, 0, is_odd, NULL), 0);
}

static void nobody_is_removed__while_one_who_is_wanted_is_away(void **state)
{
    (void)state;
    const struct reconcile_want away = {.voters = {2, 3}, .n_voters = 2, .incomplete = true};
    const struct group_member all[] = {V(1, LAST), V(2, LAST), V(3, LAST)};
    assert_step(&away, all, 3, 2, RECONCILE_NOTHING, 0, GROUP_NONE);
    /* But one that never voted may go: nothing is lost with it. */
    const struct group_member left[] = {V(1, LAST), V(2, LAST), V(3, LAST), S(9, LAST)};
    assert_step(&away, left, 4, 2, RECONCILE_CHANGE, 9, GROUP_NONE);
}

static void an_unknown_placement__changes_nothing(void **state)
{
    (void)state;
    const struct reconcile_want unknown = {.n_voters = 0};
    const struct group_member all[] = {V(1, LAST), V(2, LAST)};
    assert_step(&unknown, all, 2, 1, RECONCILE_NOTHING, 0, GROUP_NONE);
}

static void meta_want(unsigned n_nodes, uint32_t draining, uint32_t removed,
                      const struct group_member *members, unsigned n, struct reconcile_want *w)
{
    static struct cluster c;
    memset(&c, 0, sizeof(c));
    for (uint32_t id = 1; id <= n_nodes; id++) {
        struct config_node node = {.id = id};
        assert_true(cluster_add_node(&c, &node));
        c.nodes[id - 1].state = id == draining  ? CLUSTER_DRAINING
                                : id == removed ? CLUSTER_REMOVED
                                                : CLUSTER_ACTIVE;
    }
    reconcile_meta_want(&c, members, n, w);
}

static bool votes(const struct reconcile_want *w, uint32_t id)
{
    for (unsigned i = 0; i < w->n_voters; i++) {
        if (w->voters[i] == id) {
            return true;
        }
    }
    return false;
}

static void meta__has_an_odd_number_of_voters_and_all_others_stand_by(void **state)
{
    (void)state;
    struct reconcile_want w;
    static const unsigned voters[] = {0, 1, 2, 3, 3, 5, 5, 5};
    for (unsigned n = 1; n <= 7; n++) {
        meta_want(n, 0, 0, NULL, 0, &w);
        assert_int_equal(w.n_voters, voters[n]);
        assert_int_equal(w.n_standbys, n - voters[n]);
    }
    const struct group_member now[] = {V(2, 1), V(4, 1), V(5, 1)};
    meta_want(4, 0, 0, now, 3, &w);
    assert_true(votes(&w, 2) && votes(&w, 4) && votes(&w, 1)); /* who votes already goes on */
    meta_want(4, 2, 0, now, 3, &w);
    assert_true(!votes(&w, 2) && w.n_voters == 3 && w.n_standbys == 1);
    meta_want(4, 0, 2, now, 3, &w);
    assert_true(!votes(&w, 2) && w.n_voters == 3 && w.n_standbys == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_move__adds_promotes_and_only_then_removes),
        cmocka_unit_test(a_leader_that_goes__hands_over_to_one_that_stays),
        cmocka_unit_test(a_leader_that_goes__prefers_one_that_has_room),
        cmocka_unit_test(heirs__are_fit_voters_that_have_caught_up_one_after_the_other),
        cmocka_unit_test(nobody_is_removed__while_one_who_is_wanted_is_away),
        cmocka_unit_test(an_unknown_placement__changes_nothing),
        cmocka_unit_test(meta__has_an_odd_number_of_voters_and_all_others_stand_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
