/* Consumer groups without a broker: who gets what, who holds what, and what the records fold to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/broker/group_assign.h"
#include "nodes/broker/group_state.h"
#include "nodes/broker/group_view.h"

#define SECOND_NS 1000000000u

/* --- Assignment --- */

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void
group_assign__of_equal_subscribers_differs_by_one_and_moves_as_little_as_can_be(void **state)
{
    struct assign_member members[12];
    struct assign_slot slots[50] = {0}, before[50];
    uint64_t seed = 1;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint32_t n = 1 + (uint32_t)(next_random(&seed) % 12),
                 k = (uint32_t)(next_random(&seed) % 50);
        uint32_t had[12] = {0}, moved = 0, needed = 0;
        for (uint32_t i = 0; i < n; i++) {
            members[i] = (struct assign_member){.topics = 1};
        }
        for (uint32_t i = 0; i < k; i++) {
            int32_t owner = (int32_t)(next_random(&seed) % (n + 1)) - 1;
            slots[i] = (struct assign_slot){.owner = owner};
            if (owner >= 0) {
                had[owner]++;
            }
        }
        memcpy(before, slots, sizeof(slots));
        group_assign(members, n, slots, k);
        uint32_t least = k / n;
        for (uint32_t i = 0; i < n; i++) {
            assert_in_range(members[i].load, least, least + (k % n != 0));
            needed += had[i] > members[i].load ? had[i] - members[i].load : 0;
        }
        for (uint32_t i = 0; i < k; i++) {
            moved += before[i].owner >= 0 && before[i].owner != slots[i].owner;
        }
        assert_int_equal(moved, needed);
    }
}

static void group_assign__gives_a_topic_only_to_its_subscribers(void **state)
{
    struct assign_member members[3] = {{.topics = 1}, {.topics = 2}, {.topics = 3}};
    struct assign_slot slots[12];
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        slots[i] = (struct assign_slot){.topic = i % 3, .owner = 2};
    }
    group_assign(members, 3, slots, 12);
    for (uint32_t i = 0; i < 12; i++) {
        if (slots[i].topic == 2) {
            assert_int_equal(slots[i].owner, -1);
        } else {
            assert_true((members[slots[i].owner].topics >> slots[i].topic & 1) != 0);
        }
    }
    for (int i = 0; i < 3; i++) {
        assert_in_range(members[i].load, 2, 3);
    }
}

/* --- Members --- */

static struct membership *poll(struct group_state *g, const char *id, uint64_t now_ns,
                               uint64_t generation, const uint32_t *owned, unsigned n)
{
    static uint64_t sequence;
    struct membership *m = NULL;
    sequence++;
    struct group_poll p = {.member = id,
                           .client = "test",
                           .peer = "here",
                           .generation = generation,
                           .sequence = sequence,
                           .session_ms = 10000};
    uint32_t bit = 0;
    assert_int_equal(group_state_topic(g, "t", 4, &bit), 0);
    p.topics = UINT64_C(1) << bit;
    assert_int_equal(group_poll_begin(g, &p, now_ns, &m), 0);
    for (unsigned i = 0; i < n; i++) {
        group_poll_owned(g, m, generation, group_state_slot(g, "t", owned[i]));
    }
    group_poll_end(g, m);
    (void)group_state_assign(g, now_ns);
    return m;
}

static struct group_commits commits;

/* The partitions that the member is told, as bits. */
static unsigned told(struct group_state *g, struct membership *m)
{
    unsigned bits = 0;
    membership_give(m);
    for (uint32_t i = 0; i < g->n_slots; i++) {
        bits |= (unsigned)membership_may_have(m, &g->slots[i]) << i;
    }
    return bits;
}

static struct group_state *new_group(void)
{
    struct group_state *g = NULL;
    assert_int_equal(group_state_new("g", &commits, 1u << 20, 0, GROUP_SETTLE_NS, &g), 0);
    return g;
}

static void group_state__waits_a_moment_for_more_members_and_shares_out_evenly(void **state)
{
    (void)state;
    struct group_state *g = new_group();
    struct membership *a = poll(g, "a", 0, 0, NULL, 0);
    assert_false(membership_news(a));
    struct membership *b = poll(g, "b", GROUP_SETTLE_NS - 1, 0, NULL, 0);
    assert_false(membership_news(b));
    assert_true(group_state_assign(g, GROUP_SETTLE_NS));
    assert_true(membership_news(a) && membership_news(b));
    unsigned of_a = told(g, a), of_b = told(g, b);
    assert_int_equal(of_a & of_b, 0);
    assert_int_equal(of_a | of_b, 15);
    assert_int_equal(a->n_held, 2);
    assert_false(membership_news(a) || membership_news(b));
    group_state_free(g);
}

static void group_state__gives_a_partition_only_once_its_holder_has_let_go(void **state)
{
    (void)state;
    struct group_state *g = new_group();
    struct membership *a = poll(g, "a", SECOND_NS, 0, NULL, 0);
    assert_int_equal(told(g, a), 15);
    uint64_t first = g->generation;
    struct membership *b = poll(g, "b", SECOND_NS, 0, NULL, 0);
    assert_false(membership_news(b));
    assert_true(membership_news(a));
    unsigned kept = told(g, a);
    assert_int_equal(__builtin_popcount(kept), 2);
    /* What it is to give up it may still commit, in the old generation. */
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(membership_holds(a, &g->slots[i], first));
        assert_false(membership_holds(a, &g->slots[i], first - 1));
    }
    uint32_t owned[2];
    unsigned n = 0;
    for (uint32_t i = 0; i < 4; i++) {
        if ((kept >> i & 1) != 0) {
            owned[n++] = i;
        }
    }
    (void)poll(g, "a", SECOND_NS, g->generation, owned, n);
    assert_true(membership_news(b));
    assert_int_equal(told(g, b), 15u & ~kept);
    for (uint32_t i = 0; i < 4; i++) {
        bool of_a = (kept >> i & 1) != 0;
        assert_int_equal(membership_holds(a, &g->slots[i], g->generation), of_a);
        assert_false(membership_holds(b, &g->slots[i], first));
    }
    group_state_free(g);
}

/* A holder that gives up without waiting for the answer to its last commit: who was given the
 * partition before that commit counts would begin, and commit, behind it. */
static void group_state__gives_a_partition_once_its_last_holders_commits_have_ended(void **state)
{
    (void)state;
    struct group_state *g = new_group();
    struct membership *a = poll(g, "a", SECOND_NS, 0, NULL, 0);
    assert_int_equal(told(g, a), 15);
    commits.proposed++;
    a = poll(g, "a", SECOND_NS, g->generation, NULL, 0);
    assert_int_equal(a->n_held, 0);
    assert_false(membership_news(a));
    assert_int_equal(told(g, a), 0);
    commits.proposed++; /* somebody else's, later */
    commits.ended++;
    assert_true(membership_news(a));
    assert_int_equal(told(g, a), 15);
    group_state_free(g);
    g = new_group(); /* and who comes when all have left waits as well */
    a = poll(g, "a", SECOND_NS, 0, NULL, 0);
    assert_int_equal(told(g, a), 0);
    commits.ended++;
    assert_int_equal(told(g, a), 15);
    group_state_free(g);
}

/* Else it would take it for kept, and commit what it had processed before others had it. */
static void group_state__leaves_out_of_an_answer_what_its_poll_claimed_in_vain(void **state)
{
    (void)state;
    struct group_state *g = new_group();
    const uint32_t all[] = {0, 1, 2, 3};
    struct membership *a = poll(g, "a", SECOND_NS, 0, NULL, 0);
    assert_int_equal(told(g, a), 15);
    uint64_t before = g->generation - 1;
    membership_leave(a, SECOND_NS);
    struct membership *b = poll(g, "b", 2 * SECOND_NS, before, all, 4); /* was away meanwhile */
    assert_true(membership_news(b));
    assert_int_equal(told(g, b), 0);
    (void)poll(g, "b", 2 * SECOND_NS, g->generation, NULL, 0);
    assert_true(membership_news(b));
    assert_int_equal(told(g, b), 15);
    group_state_free(g);
}

static void group_state__believes_claims_after_a_failover_but_not_twice(void **state)
{
    static const uint32_t low[] = {0, 1}, high[] = {1, 2, 3};
    (void)state;
    struct group_state *g = new_group();
    struct membership *a = poll(g, "a", 0, 77, low, 2);
    struct membership *b = poll(g, "b", 0, 78, high, 3);
    assert_int_equal(told(g, a), 3);
    assert_true(membership_news(b)); /* 1 was a's already */
    assert_int_equal(told(g, b), 12);
    assert_true(membership_holds(a, &g->slots[0], 77));
    assert_false(membership_news(a) || membership_news(b));
    assert_true(group_state_assign(g, SECOND_NS));
    assert_false(membership_news(a) || membership_news(b)); /* balanced: nothing moves */
    group_state_free(g);
}

static void group_state__does_not_believe_a_claim_older_than_the_newest_commit(void **state)
{
    static const uint32_t all[] = {0, 1, 2, 3};
    (void)state;
    struct group_state *g = new_group();
    uint32_t t = 0;
    assert_int_equal(group_state_topic(g, "t", 4, &t), 0);
    group_state_committed(g, t, 2, 78);
    group_state_committed(g, t, 2, 70);
    struct membership *a = poll(g, "a", 0, 77, all, 4); /* had been thought dead */
    assert_int_equal(told(g, a), 11);
    struct membership *b = poll(g, "b", 0, 78, &all[2], 1);
    assert_int_equal(told(g, b), 4);
    group_state_free(g);
}

static void group_state__does_not_believe_a_claim_to_what_was_given_to_another_since(void **state)
{
    static const uint32_t all[] = {0, 1, 2, 3};
    (void)state;
    struct group_state *g = new_group();
    struct membership *a = poll(g, "a", SECOND_NS, 0, NULL, 0);
    assert_int_equal(told(g, a), 15);
    uint64_t old = g->generation;
    membership_leave(a, SECOND_NS); /* it was taken for dead */
    struct membership *b = poll(g, "b", 2ull * SECOND_NS, 0, NULL, 0);
    assert_int_equal(told(g, b), 15);
    assert_int_equal(g->n_members, 1);
    membership_leave(b, 2ull * SECOND_NS);
    a = poll(g, "a", 2ull * SECOND_NS, old, all, 4);
    assert_int_equal(a->n_held, 0);
    assert_true(group_state_assign(g, 3ull * SECOND_NS));
    assert_int_equal(told(g, a), 0);
    (void)poll(g, "a", 3ull * SECOND_NS, g->generation, NULL, 0);
    assert_int_equal(told(g, a), 15);
    assert_false(membership_holds(a, &g->slots[0], old));
    group_state_free(g);
}

static void group_state__ignores_an_overtaken_poll_and_refuses_too_many_members(void **state)
{
    char id[16];
    struct membership *m = NULL;
    (void)state;
    struct group_state *g = new_group();
    struct group_poll p = {.client = "", .peer = "", .session_ms = 1000, .member = id};
    for (unsigned i = 0; i < GROUP_MEMBERS_MAX; i++) {
        (void)snprintf(id, sizeof(id), "m%u", i);
        p.sequence = 2;
        assert_int_equal(group_poll_begin(g, &p, 0, &m), 0);
    }
    p.sequence = 1;
    assert_int_equal(group_poll_begin(g, &p, 0, &m), WEIR_EFENCED);
    (void)snprintf(id, sizeof(id), "one more");
    assert_int_equal(group_poll_begin(g, &p, 0, &m), WEIR_EBUSY);
    uint32_t bit = 0;
    assert_int_equal(group_state_topic(g, "wide", GROUP_SLOTS_MAX, &bit), 0);
    assert_int_equal(group_state_topic(g, "more", 1, &bit), WEIR_ETOOBIG);
    group_state_free(g);
}

/* Members come, go, die silently and let go as told, in any order: no partition ever has two
 * holders that may commit in their own generation, and when all is quiet everything is held. */
static void group_state__never_has_two_holders_and_settles(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct group_state *g = new_group();
        struct {
            struct membership *m;
            unsigned owned;
            uint64_t generation;
        } c[5] = {0};
        static const char *const ids[] = {"a", "b", "c", "d", "e"};
        uint64_t random = seed, now = SECOND_NS;
        for (int step = 0; step < 400; step++) {
            unsigned i = (unsigned)(next_random(&random) % 5);
            unsigned what = step < 300 ? (unsigned)(next_random(&random) % 10) : 9;
            now += SECOND_NS / 10;
            if (what == 0 && c[i].m != NULL) {
                membership_leave(c[i].m, now);
                c[i].m = NULL;
                c[i].owned =
                    next_random(&random) % 2 == 0 ? 0 : c[i].owned; /* a zombie, or a new life */
                continue;
            }
            uint32_t owned[4];
            unsigned n = 0;
            for (uint32_t k = 0; k < 4; k++) {
                if ((c[i].owned >> k & 1) != 0) {
                    owned[n++] = k;
                }
            }
            c[i].m = poll(g, ids[i], now, c[i].generation, owned, n);
            if (membership_news(c[i].m) || what > 5) {
                c[i].owned = told(g, c[i].m);
                c[i].generation = g->generation;
            }
        }
        unsigned all = 0;
        for (unsigned i = 0; i < 5; i++) {
            if (c[i].m != NULL) {
                assert_int_equal(all & c[i].owned, 0);
                all |= c[i].owned;
            }
        }
        assert_int_equal(all, 15);
        group_state_free(g);
    }
}

/* --- Records --- */

static void apply_all(struct group_view *v, struct batch_builder *b)
{
    struct batch_iter it;
    struct batch_record r;
    assert_true(batch_finish(b) > 0);
    assert_int_equal(batch_iter_init(&it, b->out->data, b->out->len, NULL), 0);
    while (batch_iter_next(&it, &r, NULL) == 1) {
        assert_int_equal(group_view_apply(v, &r), 0);
    }
}

static void group_view__holds_the_newest_offset_of_each_partition_until_it_is_removed(void **state)
{
    struct group_view v;
    struct batch_builder b;
    struct bytes out;
    (void)state;
    group_view_init(&v);
    bytes_init(&out, 1u << 20);
    batch_begin(&b, &out, 1000);
    group_put_offset(&b, 1000, "g", "chat", 3, 10, 5);
    group_put_offset(&b, 1001, "g", "chat", 3, 20, 6);
    group_put_offset(&b, 1002, "g", "ledger", 0, 7, 6);
    group_put_offset(&b, 1003, "other.group", "chat", 900, 1, 0);
    batch_add(&b, 1004, "junk", 4, "\xff\xff", 2);
    apply_all(&v, &b);
    assert_int_equal(group_view_offset(&v, "g", "chat", 3), 20);
    assert_int_equal(group_view_offset(&v, "g", "chat", 2), -1);
    assert_int_equal(group_view_offset(&v, "g", "chat", 4000), -1);
    assert_int_equal(group_view_offset(&v, "g", "ledger", 0), 7);
    assert_int_equal(group_view_offset(&v, "other.group", "chat", 900), 1);
    assert_int_equal(group_view_offset(&v, "nobody", "chat", 0), -1);
    assert_int_equal(group_view_generation(&v, "nobody", "chat", 0), 0);
    assert_int_equal(group_view_generation(&v, "g", "chat", 2), 0);
    assert_int_equal(group_view_find(&v, "g")->generation_max, 6);
    assert_int_equal(v.n_groups, 2);
    assert_int_equal(v.n_offsets, 3);
    assert_int_equal(v.n_ignored, 1);
    bytes_reset(&out);
    batch_begin(&b, &out, 2000);
    group_put_offset(&b, 2000, "g", "chat", 3, -1, 0);
    group_put_offset(&b, 2000, "g", "ledger", 0, -1, 0);
    group_put_offset(&b, 2000, "nobody", "ledger", 0, -1, 0);
    apply_all(&v, &b);
    assert_null(group_view_find(&v, "g"));
    assert_int_equal(v.n_offsets, 1);
    bytes_close(&out);
    group_view_close(&v);
}

static void group_view__that_is_full_takes_commits_of_what_it_has_and_no_more(void **state)
{
    struct group_view v;
    struct batch_builder b;
    struct bytes out;
    struct error why = {0};
    char g[] = "g", other[] = "other", chat[] = "chat";
    uint32_t partitions[] = {3, 4};
    int64_t offsets[] = {11, 12};
    Weir__BrokerGroupTopic t = WEIR__BROKER_GROUP_TOPIC__INIT, *list[] = {&t};
    Weir__BrokerGroupCommit m = WEIR__BROKER_GROUP_COMMIT__INIT;
    (void)state;
    group_view_init(&v);
    bytes_init(&out, 1u << 20);
    batch_begin(&b, &out, 1000);
    group_put_offset(&b, 1000, g, chat, 3, 10, 5);
    apply_all(&v, &b);
    m.group = g;
    m.offsets = list;
    m.n_offsets = 1;
    t.topic = chat;
    t.partitions = partitions;
    t.offsets = offsets;
    t.n_partitions = t.n_offsets = 1;
    v.n_offsets = GROUP_VIEW_OFFSETS_MAX;
    v.n_groups = GROUP_VIEW_GROUPS_MAX;
    assert_int_equal(group_view_room(&v, &m, &why), 0);
    t.n_partitions = t.n_offsets = 2;
    assert_int_equal(group_view_room(&v, &m, &why), WEIR_EBUSY);
    offsets[1] = -1; /* a tombstone adds nothing */
    assert_int_equal(group_view_room(&v, &m, &why), 0);
    v.n_offsets = 1;
    offsets[1] = 12;
    assert_int_equal(group_view_room(&v, &m, &why), 0);
    m.group = other;
    assert_int_equal(group_view_room(&v, &m, &why), WEIR_EBUSY);
    v.n_groups = 1;
    assert_int_equal(group_view_room(&v, &m, &why), 0);
    bytes_close(&out);
    group_view_close(&v);
}

/* WEIR_MAKE_GOLDEN writes the file: once, when the format is new. */
static void group_view__folds_the_golden_file_which_is_still_what_is_written(void **state)
{
    static const char path[] = "tests/golden/broker/groups_v1.bin";
    struct group_view v;
    struct batch_builder b;
    struct batch_iter it;
    struct batch_record r;
    struct bytes out;
    uint8_t golden[1024];
    (void)state;
    bytes_init(&out, 1u << 20);
    batch_begin(&b, &out, 1700000000000);
    group_put_offset(&b, 1700000000000, "billing", "chat", 7, 123456789012, (3u << 20) + 5);
    group_put_offset(&b, 1700000000001, "audit.v2", "ledger", 0, 0, 0);
    group_put_offset(&b, 1700000000002, "gone", "chat", 1, -1, 0);
    assert_true(batch_finish(&b) > 0);
    if (getenv("WEIR_MAKE_GOLDEN") != NULL) {
        FILE *made = fopen(path, "wb");
        assert_non_null(made);
        assert_int_equal(fwrite(out.data, 1, out.len, made), out.len);
        assert_int_equal(fclose(made), 0);
    }
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(golden, 1, sizeof(golden), f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, out.len);
    assert_memory_equal(golden, out.data, n);
    group_view_init(&v);
    assert_int_equal(batch_iter_init(&it, golden, n, NULL), 0);
    while (batch_iter_next(&it, &r, NULL) == 1) {
        assert_int_equal(group_view_apply(&v, &r), 0);
    }
    assert_int_equal(group_view_offset(&v, "billing", "chat", 7), 123456789012);
    assert_int_equal(group_view_find(&v, "billing")->generation_max, (3u << 20) + 5);
    assert_int_equal(group_view_offset(&v, "audit.v2", "ledger", 0), 0);
    assert_null(group_view_find(&v, "gone"));
    group_view_close(&v);
    bytes_close(&out);
}

static void group_name_valid__takes_what_fits_into_a_key(void **state)
{
    char name[GROUP_NAME_MAX + 2];
    (void)state;
    assert_true(group_name_valid("billing-2.eu_west"));
    assert_false(group_name_valid(""));
    assert_false(group_name_valid("a/b"));
    assert_false(group_name_valid("a b"));
    memset(name, 'x', sizeof(name));
    name[GROUP_NAME_MAX + 1] = '\0';
    assert_false(group_name_valid(name));
    name[GROUP_NAME_MAX] = '\0';
    assert_true(group_name_valid(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            group_assign__of_equal_subscribers_differs_by_one_and_moves_as_little_as_can_be),
        cmocka_unit_test(group_assign__gives_a_topic_only_to_its_subscribers),
        cmocka_unit_test(group_state__waits_a_moment_for_more_members_and_shares_out_evenly),
        cmocka_unit_test(group_state__gives_a_partition_only_once_its_holder_has_let_go),
        cmocka_unit_test(group_state__gives_a_partition_once_its_last_holders_commits_have_ended),
        cmocka_unit_test(group_state__leaves_out_of_an_answer_what_its_poll_claimed_in_vain),
        cmocka_unit_test(group_state__believes_claims_after_a_failover_but_not_twice),
        cmocka_unit_test(group_state__does_not_believe_a_claim_older_than_the_newest_commit),
        cmocka_unit_test(group_state__does_not_believe_a_claim_to_what_was_given_to_another_since),
        cmocka_unit_test(group_state__ignores_an_overtaken_poll_and_refuses_too_many_members),
        cmocka_unit_test(group_state__never_has_two_holders_and_settles),
        cmocka_unit_test(group_view__holds_the_newest_offset_of_each_partition_until_it_is_removed),
        cmocka_unit_test(group_view__that_is_full_takes_commits_of_what_it_has_and_no_more),
        cmocka_unit_test(group_view__folds_the_golden_file_which_is_still_what_is_written),
        cmocka_unit_test(group_name_valid__takes_what_fits_into_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
