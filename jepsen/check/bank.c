/* A bank (jepsen.tests.bank): accounts, transfers between them, reads of all.
 *
 *   :read -> {0 100, 1 0}   :transfer {:from 0, :to 1, :amount 5}
 *
 *   wrong-total, negative-value, unexpected-key, missing-key
 *
 * Accounts and their total are those of the first read. */
#include "jepsen/check/check.h"

static int64_t total_of(const struct edn *accounts)
{
    int64_t total = 0;
    for (const struct edn *k = edn_first_key(accounts); k != NULL; k = edn_next_key(k)) {
        total = edn_add(total, k->next);
    }
    return total;
}

static const struct edn *account(const struct edn *accounts, const struct edn *name)
{
    for (const struct edn *k = edn_first_key(accounts); k != NULL; k = edn_next_key(k)) {
        if (edn_equal(k, name)) {
            return k->next;
        }
    }
    return NULL;
}

static void judge(const struct edn *first, const struct op *op, struct report *r)
{
    int64_t total = total_of(op->value), wanted = total_of(first);
    if (total != wanted) {
        report_anomaly(r, "wrong-total", "{:total %lld :expected %lld :index %lld}",
                       (long long)total, (long long)wanted, (long long)op->index);
    }
    for (const struct edn *k = edn_first_key(op->value); k != NULL; k = edn_next_key(k)) {
        if (account(first, k) == NULL) {
            report_anomaly(r, "unexpected-key", "{:account %.*s :index %lld}", (int)k->len, k->text,
                           (long long)op->index);
        }
        int64_t balance = edn_int(k->next, 0);
        if (balance < 0) {
            report_anomaly(r, "negative-value", "{:account %.*s :value %lld :index %lld}",
                           (int)k->len, k->text, (long long)balance, (long long)op->index);
        }
    }
    for (const struct edn *k = edn_first_key(first); k != NULL; k = edn_next_key(k)) {
        if (account(op->value, k) == NULL) {
            report_anomaly(r, "missing-key", "{:account %.*s :index %lld}", (int)k->len, k->text,
                           (long long)op->index);
        }
    }
}

void check_bank(const struct ops *ops, struct report *r)
{
    const struct edn *first = NULL;
    uint64_t reads = 0;
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        if (op_is(op, HISTORY_OK, "read") && op->value != NULL && op->value->type == EDN_MAP) {
            first = first != NULL ? first : op->value;
            judge(first, op, r);
            reads++;
        }
    }
    if (reads == 0) {
        r->unknown = "nothing was read";
    }
    report_figure(r, ":reads %llu", (unsigned long long)reads);
}
