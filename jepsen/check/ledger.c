/* A ledger: bookings that carry an idempotency key and are sent again, to any node, until they are
 * answered; every booking is postings to accounts that sum to zero.
 *
 *   :book {:id "k7", :postings {"provider" 499, "channel" -499}, ..} -> the same and :entry, where
 * it is :read -> {:accounts {"provider" 499, ..}, :entries ["k7" ..], :final? true}
 *
 *   wrong-total      the accounts of a read do not sum to zero
 *   double-booking   two entries for one id: told to those who booked, or listed twice
 *   lost-booking     acknowledged, and not in a final read
 *   G1a, phantom     listed, but refused, or never asked for
 *   wrong-balance    a final read's account is not the sum of the postings of the entries that it
 * lists
 *
 * Bookings of unknown outcome may be listed or not. */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/check.h"
#include "jepsen/history/memory.h"

struct booking {
    const struct edn *id;
    const struct op *first;  /* invocation */
    const struct edn *entry; /* as it was told first; NULL: never */
    bool acknowledged, may_be, listed;
};

struct account {
    const struct edn *name;
    int64_t cents;
};

struct ledger {
    struct report *r;
    struct booking *bookings; /* by id */
    size_t n;
    struct account *accounts;
    size_t n_accounts;
};

static int compare_texts(const struct edn *a, const struct edn *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int rv = memcmp(a->text, b->text, n);
    return rv != 0 ? rv : (a->len > b->len) - (a->len < b->len);
}

static int compare_bookings(const void *a, const void *b)
{
    const struct booking *x = a, *y = b;
    int rv = compare_texts(x->id, y->id);
    return rv != 0 ? rv : (x->first > y->first) - (x->first < y->first);
}

static struct booking *find(struct ledger *l, const struct edn *id)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int rv = compare_texts(l->bookings[middle].id, id);
        if (rv == 0) {
            return &l->bookings[middle];
        }
        low = rv < 0 ? middle + 1 : low;
        high = rv < 0 ? high : middle;
    }
    return NULL;
}

static void take_answer(struct ledger *l, struct booking *b, const struct op *op)
{
    b->may_be |= !op_failed(op);
    if (!op_went_well(op)) {
        return;
    }
    const struct edn *entry = edn_get(op->other->value, "entry");
    b->acknowledged = true;
    if (b->entry != NULL && !edn_equal(b->entry, entry)) {
        report_anomaly(l->r, "double-booking", "{:id \"%.*s\" :entries [%lld %lld] :index %lld}",
                       (int)b->id->len, b->id->text, (long long)edn_int(b->entry, -1),
                       (long long)edn_int(entry, -1), (long long)op->other->index);
    }
    b->entry = b->entry != NULL ? b->entry : entry;
}

/* Attempts of one id become one booking. */
static void take_bookings(struct ledger *l, const struct ops *ops)
{
    size_t n = 0;
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        const struct edn *id = op_is(op, HISTORY_INVOKE, "book") ? edn_get(op->value, "id") : NULL;
        if (id != NULL && id->type == EDN_STRING) {
            l->bookings[n++] = (struct booking){.id = id, .first = op};
        }
    }
    if (n > 0) {
        qsort(l->bookings, n, sizeof(*l->bookings), compare_bookings);
    }
    for (size_t i = 0; i < n; i++) {
        struct booking attempt = l->bookings[i];
        if (l->n == 0 || !edn_equal(l->bookings[l->n - 1].id, attempt.id)) {
            l->bookings[l->n++] = attempt;
        }
        take_answer(l, &l->bookings[l->n - 1], attempt.first);
    }
}

static void judge_total(struct ledger *l, const struct op *read, const struct edn *accounts)
{
    int64_t total = 0;
    for (const struct edn *k = edn_first_key(accounts); k != NULL; k = edn_next_key(k)) {
        total = edn_add(total, k->next);
    }
    if (total != 0) {
        report_anomaly(l->r, "wrong-total", "{:total %lld :index %lld}", (long long)total,
                       (long long)read->index);
    }
}

/* --- A final read --- */

static struct account *account_of(struct ledger *l, const struct edn *name)
{
    for (size_t i = 0; i < l->n_accounts; i++) {
        if (edn_equal(l->accounts[i].name, name)) {
            return &l->accounts[i];
        }
    }
    l->accounts = memory_need(realloc(l->accounts, (l->n_accounts + 1) * sizeof(*l->accounts)));
    l->accounts[l->n_accounts] = (struct account){.name = name};
    return &l->accounts[l->n_accounts++];
}

static void add_postings(struct ledger *l, const struct booking *b)
{
    const struct edn *postings = edn_get(b->first->value, "postings");
    for (const struct edn *k = edn_first_key(postings); k != NULL; k = edn_next_key(k)) {
        struct account *a = account_of(l, k);
        a->cents = edn_add(a->cents, k->next);
    }
}

static void judge_entry(struct ledger *l, const struct op *read, const struct edn *id)
{
    struct booking *b = id->type == EDN_STRING ? find(l, id) : NULL;
    const char *wrong = b == NULL         ? "phantom"
                        : b->listed       ? "double-booking"
                        : !b->may_be      ? "G1a"
                        : b->first > read ? "phantom"
                                          : NULL;
    if (wrong != NULL) {
        report_anomaly(l->r, wrong, "{:id \"%.*s\" :index %lld}", (int)id->len, id->text,
                       (long long)read->index);
    }
    if (b != NULL) {
        b->listed = true;
        add_postings(l, b);
    }
}

static void judge_balances(struct ledger *l, const struct op *read, const struct edn *accounts)
{
    for (const struct edn *k = edn_first_key(accounts); k != NULL; k = edn_next_key(k)) {
        struct account *a = account_of(l, k);
        if (a->cents != edn_int(k->next, 0)) {
            report_anomaly(l->r, "wrong-balance",
                           "{:account \"%.*s\" :balance %lld :entries-say %lld :index %lld}",
                           (int)k->len, k->text, (long long)edn_int(k->next, 0),
                           (long long)a->cents, (long long)read->index);
        }
        a->cents = 0;
    }
    for (size_t i = 0; i < l->n_accounts; i++) {
        if (l->accounts[i].cents != 0) {
            report_anomaly(l->r, "wrong-balance",
                           "{:account \"%.*s\" :balance nil :entries-say %lld :index %lld}",
                           (int)l->accounts[i].name->len, l->accounts[i].name->text,
                           (long long)l->accounts[i].cents, (long long)read->index);
        }
    }
}

static void judge_final(struct ledger *l, const struct op *read)
{
    const struct edn *entries = edn_get(read->value, "entries");
    for (size_t i = 0; i < l->n; i++) {
        l->bookings[i].listed = false;
    }
    l->n_accounts = 0;
    for (const struct edn *id = entries != NULL ? entries->first : NULL; id != NULL;
         id = id->next) {
        judge_entry(l, read, id);
    }
    for (size_t i = 0; i < l->n; i++) {
        const struct booking *b = &l->bookings[i];
        if (b->acknowledged && !b->listed) {
            report_anomaly(l->r, "lost-booking", "{:id \"%.*s\" :entry %lld :index %lld}",
                           (int)b->id->len, b->id->text, (long long)edn_int(b->entry, -1),
                           (long long)read->index);
        }
    }
    judge_balances(l, read, edn_get(read->value, "accounts"));
}

void check_ledger(const struct ops *ops, struct report *r)
{
    struct ledger l = {.r = r, .bookings = calloc(ops->n + 1, sizeof(struct booking))};
    uint64_t reads = 0, finals = 0;
    if (l.bookings == NULL) {
        r->unknown = "no memory";
        return;
    }
    take_bookings(&l, ops);
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        const struct edn *accounts =
            op_is(op, HISTORY_OK, "read") ? edn_get(op->value, "accounts") : NULL;
        if (accounts == NULL || accounts->type != EDN_MAP) {
            continue;
        }
        reads++;
        judge_total(&l, op, accounts);
        const struct edn *final = edn_get(op->value, "final?");
        if (final != NULL && final->i != 0) {
            finals++;
            judge_final(&l, op);
        }
    }
    if (finals == 0) {
        r->unknown = "no final read";
    }
    report_figure(r, ":bookings %zu, :reads %llu, :final-reads %llu", l.n,
                  (unsigned long long)reads, (unsigned long long)finals);
    free(l.bookings);
    free(l.accounts);
}
