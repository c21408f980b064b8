#include "feed.h"

#include <stdio.h>
#include <string.h>

#include "views/ledger.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

/* A grant to alice of channel demo; the fields a test wants to spoil. */
struct grant {
    const char *key, *user, *by;
    uint32_t tier, months;
    int64_t debit, credit;
};
static const struct grant good = {"k1", "alice", "", 1, 1, 499, -499};

static enum verdict book(struct feed *f, struct grant g)
{
    Weir__SubscriptionGrant grant = WEIR__SUBSCRIPTION_GRANT__INIT;
    Weir__Posting postings[2] = {WEIR__POSTING__INIT, WEIR__POSTING__INIT};
    Weir__Posting *list[2] = {&postings[0], &postings[1]};
    Weir__LedgerRecord r = WEIR__LEDGER_RECORD__INIT;
    grant.user = TEXT(g.user);
    grant.by = TEXT(g.by);
    grant.tier = g.tier;
    grant.months = g.months;
    postings[0].account = TEXT("provider:manual");
    postings[0].amount_minor = g.debit;
    postings[1].account = TEXT("channel:demo");
    postings[1].amount_minor = g.credit;
    r.channel = TEXT("demo");
    r.idempotency_key = TEXT(g.key);
    r.body_case = WEIR__LEDGER_RECORD__BODY_GRANT;
    r.grant = &grant;
    r.postings = list;
    r.n_postings = 2;
    return feed_ledger(f, &r);
}

static int add_balance(void *data, uint32_t partition, const char *account, int64_t minor)
{
    int64_t *sums = data;
    (void)partition;
    sums[strcmp(account, "channel:demo") == 0] += minor;
    return 0;
}

static void grant__books_the_postings_and_the_subscription(void **state)
{
    struct feed f;
    struct ledger_sub sub;
    int64_t sums[2] = {0};
    uint64_t entries = 0;
    struct error err;
    (void)state;
    feed_open(&f);
    assert_int_equal(book(&f, good), VERDICT_OK);
    assert_int_equal(ledger_sub_of(f.views, "demo", "alice", &sub), 0);
    assert_int_equal(sub.tier, 1);
    assert_int_equal(sub.started_ms, f.now_ms);
    assert_int_equal(sub.expires_ms, f.now_ms + LEDGER_MONTH_MS);
    assert_string_equal(sub.by, "alice");
    assert_int_equal(ledger_balances(f.views, add_balance, sums), 0);
    assert_int_equal(sums[0], 499);
    assert_int_equal(sums[1], -499);
    assert_int_equal(ledger_recompute(f.views, 0, &entries, &err), 0);
    assert_int_equal(entries, 1);
    feed_close(&f);
}

static void key__seen_before_is_a_duplicate_of_the_first(void **state)
{
    struct feed f;
    struct ledger_entry e;
    int64_t sums[2] = {0};
    (void)state;
    feed_open(&f);
    assert_int_equal(book(&f, good), VERDICT_OK);
    struct grant again = good;
    again.user = "bob";
    assert_int_equal(book(&f, again), VERDICT_DUPLICATE);
    assert_int_equal(ledger_entry_by_key(f.views, "demo", "k1", &e), 0);
    assert_int_equal(e.offset, 0);
    assert_string_equal(e.after.user, "alice");
    assert_int_equal(ledger_entry_by_key(f.views, "demo", "k2", &e), WEIR_ENOTFOUND);
    assert_int_equal(ledger_balances(f.views, add_balance, sums), 0);
    assert_int_equal(sums[0], 499);
    feed_close(&f);
}

static void entry__that_breaks_a_rule_is_void(void **state)
{
    static const struct {
        struct grant g;
        enum verdict verdict;
    } cases[] = {
        {{"k", "alice", "", 1, 1, 499, -498}, VERDICT_UNBALANCED},
        {{"k", "alice", "", 0, 1, 499, -499}, VERDICT_MALFORMED},
        {{"k", "alice", "", 4, 1, 499, -499}, VERDICT_MALFORMED},
        {{"k", "alice", "", 1, 0, 499, -499}, VERDICT_MALFORMED},
        {{"k", "alice", "", 1, 13, 499, -499}, VERDICT_MALFORMED},
        {{"", "alice", "", 1, 1, 499, -499}, VERDICT_MALFORMED},
        {{"k", "Alice!", "", 1, 1, 499, -499}, VERDICT_MALFORMED},
        {{"k", "alice", "x", 1, 1, 499, -499}, VERDICT_MALFORMED},
        {{"k", "alice", "", 1, 1, 0, 0}, VERDICT_MALFORMED},
        {{"k", "alice", "", 1, 1, LEDGER_AMOUNT_MAX + 1, -LEDGER_AMOUNT_MAX - 1},
         VERDICT_MALFORMED},
        {{"k", "alice", "", 1, 1, INT64_MIN, INT64_MIN}, VERDICT_MALFORMED},
    };
    struct feed f;
    struct ledger_sub sub;
    uint64_t entries = 1;
    struct error err;
    char key[LEDGER_KEY_MAX + 2];
    (void)state;
    feed_open(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(book(&f, cases[i].g), cases[i].verdict);
    }
    memset(key, 'k', sizeof(key));
    key[LEDGER_KEY_MAX + 1] = '\0';
    struct grant g = good;
    g.key = key;
    assert_int_equal(book(&f, g), VERDICT_MALFORMED);
    assert_int_equal(feed_raw(&f, VIEW_LEDGER, "\x7f\x7f", 2), VERDICT_MALFORMED);
    assert_int_equal(ledger_sub_of(f.views, "demo", "alice", &sub), WEIR_ENOTFOUND);
    assert_int_equal(ledger_recompute(f.views, 0, &entries, &err), 0);
    assert_int_equal(entries, 0);
    feed_close(&f);
}

static void subscription__is_extended_while_it_runs_and_begins_anew_after(void **state)
{
    struct feed f;
    struct ledger_sub sub;
    struct grant g = good;
    (void)state;
    feed_open(&f);
    int64_t begin = f.now_ms;
    assert_int_equal(book(&f, g), VERDICT_OK);
    f.now_ms += LEDGER_MONTH_MS / 2;
    g.key = "k2";
    g.tier = 3;
    g.by = "bob";
    assert_int_equal(book(&f, g), VERDICT_OK);
    assert_int_equal(ledger_sub_of(f.views, "demo", "alice", &sub), 0);
    assert_int_equal(sub.started_ms, begin);
    assert_int_equal(sub.expires_ms, begin + 2 * LEDGER_MONTH_MS);
    assert_int_equal(sub.months_total, 2);
    assert_int_equal(sub.tier, 3);
    assert_string_equal(sub.by, "bob");
    f.now_ms = sub.expires_ms;
    g.key = "k3";
    assert_int_equal(book(&f, g), VERDICT_OK);
    assert_int_equal(ledger_sub_of(f.views, "demo", "alice", &sub), 0);
    assert_int_equal(sub.started_ms, f.now_ms);
    assert_int_equal(sub.months_total, 3);
    feed_close(&f);
}

static int count_sub(void *data, const struct ledger_sub *sub)
{
    assert_string_equal(sub->channel, "demo");
    (*(unsigned *)data)++;
    return 0;
}

static void entries_and_lists__are_read_in_order(void **state)
{
    struct feed f;
    struct ledger_entry e;
    struct grant g = good;
    unsigned n = 0;
    (void)state;
    feed_open(&f);
    book(&f, g);
    book(&f, g); /* void: offset 1 is no entry */
    g.key = "k2";
    g.user = "bob";
    book(&f, g);
    assert_int_equal(ledger_entry_from(f.views, 0, 0, &e), 0);
    assert_int_equal(e.offset, 0);
    assert_int_equal(ledger_entry_from(f.views, 0, 1, &e), 0);
    assert_int_equal(e.offset, 2);
    assert_string_equal(e.after.user, "bob");
    assert_int_equal(ledger_entry_from(f.views, 0, 3, &e), WEIR_ENOTFOUND);
    assert_int_equal(ledger_subs_by_channel(f.views, "demo", count_sub, &n), 0);
    assert_int_equal(n, 2);
    n = 0;
    assert_int_equal(ledger_subs_by_user(f.views, "bob", count_sub, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ledger_subs_by_user(f.views, "b", count_sub, &n), 0);
    assert_int_equal(n, 1);
    feed_close(&f);
}

/* --- Refunds --- */

static enum verdict refund_with(struct feed *f, const char *key, const char *of, int64_t credit)
{
    Weir__SubscriptionRefund refund = WEIR__SUBSCRIPTION_REFUND__INIT;
    Weir__Posting postings[2] = {WEIR__POSTING__INIT, WEIR__POSTING__INIT};
    Weir__Posting *list[2] = {&postings[0], &postings[1]};
    Weir__LedgerRecord r = WEIR__LEDGER_RECORD__INIT;
    refund.of = TEXT(of);
    postings[0].account = TEXT("provider:manual");
    postings[0].amount_minor = -credit;
    postings[1].account = TEXT("channel:demo");
    postings[1].amount_minor = credit;
    r.channel = TEXT("demo");
    r.idempotency_key = TEXT(key);
    r.body_case = WEIR__LEDGER_RECORD__BODY_REFUND;
    r.refund = &refund;
    r.postings = list;
    r.n_postings = 2;
    return feed_ledger(f, &r);
}

static enum verdict refund(struct feed *f, const char *key, const char *of)
{
    return refund_with(f, key, of, 499);
}

static void refund__takes_back_what_was_posted_and_what_is_left_of_the_months(void **state)
{
    struct feed f;
    struct ledger_sub sub;
    struct ledger_entry e;
    struct grant g = good;
    int64_t sums[2] = {0};
    uint64_t entries = 0;
    struct error err;
    (void)state;
    feed_open(&f);
    int64_t begin = f.now_ms;
    assert_int_equal(book(&f, g), VERDICT_OK);
    g.key = "k2";
    assert_int_equal(book(&f, g), VERDICT_OK);
    f.now_ms += LEDGER_MONTH_MS / 2;
    assert_int_equal(refund(&f, "r1", "k1"), VERDICT_OK);
    assert_int_equal(ledger_sub_of(f.views, "demo", "alice", &sub), 0);
    assert_int_equal(sub.expires_ms, begin + LEDGER_MONTH_MS);
    assert_int_equal(sub.months_total, 1);
    assert_int_equal(refund(&f, "r2", "k2"), VERDICT_OK);
    assert_int_equal(ledger_sub_of(f.views, "demo", "alice", &sub), 0);
    assert_int_equal(sub.expires_ms, f.now_ms); /* what has passed stays */
    assert_int_equal(sub.months_total, 0);
    assert_int_equal(ledger_balances(f.views, add_balance, sums), 0);
    assert_int_equal(sums[0], 0);
    assert_int_equal(sums[1], 0);
    assert_int_equal(ledger_entry_by_key(f.views, "demo", "r1", &e), 0);
    assert_true(e.refund);
    assert_string_equal(e.of, "k1");
    assert_int_equal(ledger_recompute(f.views, 0, &entries, &err), 0);
    assert_int_equal(entries, 4);
    feed_close(&f);
}

static void refund__of_one_grant_counts_once(void **state)
{
    struct feed f;
    int64_t sums[2] = {0};
    (void)state;
    feed_open(&f);
    assert_int_equal(book(&f, good), VERDICT_OK);
    assert_int_equal(refund(&f, "r1", "k1"), VERDICT_OK);
    assert_int_equal(refund(&f, "r1", "k1"), VERDICT_DUPLICATE);
    assert_int_equal(refund(&f, "r2", "k1"), VERDICT_EXISTS);
    assert_int_equal(refund(&f, "r3", "r1"), VERDICT_NOT_FOUND); /* no refund of a refund */
    assert_int_equal(ledger_balances(f.views, add_balance, sums), 0);
    assert_int_equal(sums[0], 0);
    feed_close(&f);
}

static void refund__that_is_not_the_grant_turned_round_is_void(void **state)
{
    struct feed f;
    int64_t sums[2] = {0};
    (void)state;
    feed_open(&f);
    assert_int_equal(refund(&f, "r1", "k1"), VERDICT_NOT_FOUND);
    assert_int_equal(book(&f, good), VERDICT_OK);
    assert_int_equal(refund_with(&f, "r2", "k1", 500), VERDICT_UNBALANCED);
    assert_int_equal(refund_with(&f, "r3", "k1", -499), VERDICT_UNBALANCED);
    assert_int_equal(refund(&f, "r4", ""), VERDICT_MALFORMED);
    assert_int_equal(ledger_balances(f.views, add_balance, sums), 0);
    assert_int_equal(sums[0], 499);
    assert_int_equal(refund(&f, "r2", "k1"), VERDICT_OK); /* a void record has used up no key */
    feed_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grant__books_the_postings_and_the_subscription),
        cmocka_unit_test(key__seen_before_is_a_duplicate_of_the_first),
        cmocka_unit_test(entry__that_breaks_a_rule_is_void),
        cmocka_unit_test(subscription__is_extended_while_it_runs_and_begins_anew_after),
        cmocka_unit_test(entries_and_lists__are_read_in_order),
        cmocka_unit_test(refund__takes_back_what_was_posted_and_what_is_left_of_the_months),
        cmocka_unit_test(refund__of_one_grant_counts_once),
        cmocka_unit_test(refund__that_is_not_the_grant_turned_round_is_void),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
