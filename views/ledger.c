/* The fold of the ledger; what it stores is in views/ledger_state.h. */
#include "views/ledger.h"

#include <string.h>

#include "proto/ledger.pb-c.h"
#include "views/ledger_state.h"
#include "views/text.h"

#define RECORD_BYTES_MAX 8192

struct ledger_fold {
    struct fold_txn *txn;
    const struct fold_record *record;
    struct ledger_outcome *outcome;
};

static bool name_valid(const char *name)
{
    return text_is_word(name, LEDGER_NAME_MIN, LEDGER_NAME_MAX);
}

/* Printable ASCII without blanks. */
static bool account_valid(const char *s)
{
    size_t n = 0;
    for (; s[n] != '\0'; n++) {
        if (n == LEDGER_ACCOUNT_MAX || s[n] <= ' ' || s[n] > '~') {
            return false;
        }
    }
    return n > 0;
}

static enum verdict record_judge(const Weir__LedgerRecord *m)
{
    const Weir__SubscriptionGrant *g = m->grant;
    if (m->body_case != WEIR__LEDGER_RECORD__BODY_GRANT || !name_valid(m->channel) ||
        m->idempotency_key[0] == '\0' || !text_valid_within(m->idempotency_key, LEDGER_KEY_MAX)) {
        return VERDICT_MALFORMED;
    }
    if (!name_valid(g->user) || (g->by[0] != '\0' && !name_valid(g->by)) || g->tier < 1 ||
        g->tier > LEDGER_TIER_MAX || g->months < 1 || g->months > LEDGER_MONTHS_MAX) {
        return VERDICT_MALFORMED;
    }
    return VERDICT_OK;
}

/* At most POSTINGS_MAX amounts of AMOUNT_MAX: the sum can't overflow. */
static enum verdict postings_judge(const Weir__LedgerRecord *m)
{
    int64_t sum = 0;
    if (m->n_postings < LEDGER_POSTINGS_MIN || m->n_postings > LEDGER_POSTINGS_MAX) {
        return VERDICT_UNBALANCED;
    }
    for (size_t i = 0; i < m->n_postings; i++) {
        const Weir__Posting *p = m->postings[i];
        if (!account_valid(p->account) || p->amount_minor > LEDGER_AMOUNT_MAX ||
            p->amount_minor < -LEDGER_AMOUNT_MAX || p->amount_minor == 0) {
            return VERDICT_MALFORMED;
        }
        sum += p->amount_minor;
    }
    return sum == 0 ? VERDICT_OK : VERDICT_UNBALANCED;
}

/* VERDICT_DUPLICATE with the first entry in the outcome, or VERDICT_OK. */
static int key_judge(struct ledger_fold *f, const char *key, enum verdict *ret)
{
    struct ledger_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    ledger_key_begin(&k, 'k');
    ledger_key_text(&k, key);
    int rc = fold_read(f->txn, k.data, k.len, &value, &len);
    *ret = rc == 0 ? VERDICT_DUPLICATE : VERDICT_OK;
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    if (len != 8) {
        return WEIR_ECORRUPT;
    }
    return ledger_entry_get(f->txn, f->record->partition, (int64_t)load_be64(value),
                            &f->outcome->entry);
}

/* A balance that would leave int64 makes the entry void before anything is written. */
static int postings_fit(struct ledger_fold *f, const Weir__LedgerRecord *m, enum verdict *ret)
{
    for (size_t i = 0; i < m->n_postings; i++) {
        int64_t balance = 0, sum = 0;
        int rc = ledger_balance_get(f->txn, m->postings[i]->account, &balance);
        if (rc != 0) {
            return rc;
        }
        /* The same account may come several times: leave room for all. */
        int64_t room = LEDGER_AMOUNT_MAX * LEDGER_POSTINGS_MAX;
        if (__builtin_add_overflow(balance, balance < 0 ? -room : room, &sum)) {
            *ret = VERDICT_LIMIT;
            return 0;
        }
    }
    *ret = VERDICT_OK;
    return 0;
}

static int postings_book(struct ledger_fold *f, const Weir__LedgerRecord *m)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_postings && rc == 0; i++) {
        int64_t balance = 0;
        rc = ledger_balance_get(f->txn, m->postings[i]->account, &balance);
        if (rc == 0) {
            rc = ledger_balance_put(f->txn, m->postings[i]->account,
                                    balance + m->postings[i]->amount_minor);
        }
    }
    return rc;
}

/* A subscription that still runs is extended; one that ended, or is new, begins now. */
static int sub_extend(struct ledger_fold *f, const Weir__LedgerRecord *m, struct ledger_sub *sub)
{
    const Weir__SubscriptionGrant *g = m->grant;
    int64_t now = f->record->append_ms, added = (int64_t)g->months * LEDGER_MONTH_MS;
    int rc = ledger_sub_get(f->txn, m->channel, g->user, sub);
    if (rc == WEIR_ENOTFOUND) {
        memset(sub, 0, sizeof(*sub));
        text_copy(sub->channel, sizeof(sub->channel), m->channel);
        text_copy(sub->user, sizeof(sub->user), g->user);
    } else if (rc != 0) {
        return rc;
    }
    if (sub->expires_ms > now) {
        sub->expires_ms += added;
    } else {
        sub->started_ms = now;
        sub->expires_ms = now + added;
    }
    sub->tier = g->tier;
    sub->gift = g->gift;
    text_copy(sub->by, sizeof(sub->by), g->by[0] == '\0' ? g->user : g->by);
    sub->months_total += g->months;
    sub->last_offset = f->record->offset;
    return ledger_sub_put(f->txn, sub);
}

static int entry_book(struct ledger_fold *f, const Weir__LedgerRecord *m)
{
    struct ledger_entry *e = &f->outcome->entry;
    struct ledger_key k;
    uint8_t offset[8];
    e->partition = f->record->partition;
    e->offset = f->record->offset;
    e->append_ms = f->record->append_ms;
    e->tier = m->grant->tier;
    e->months = m->grant->months;
    text_copy(e->key, sizeof(e->key), m->idempotency_key);
    int rc = sub_extend(f, m, &e->after);
    if (rc == 0) {
        rc = postings_book(f, m);
    }
    if (rc == 0) {
        rc = ledger_entry_put(f->txn, e, f->record->value, f->record->len);
    }
    ledger_key_begin(&k, 'k');
    ledger_key_text(&k, m->idempotency_key);
    store_be64(offset, (uint64_t)e->offset);
    return rc == 0 ? fold_put(f->txn, k.data, k.len, offset, sizeof(offset)) : rc;
}

/* What is wrong with the record itself comes first: whether a key counted before is only asked of a
 * record that could count. */
static int fold_entry(struct ledger_fold *f, const Weir__LedgerRecord *m, enum verdict *ret)
{
    *ret = record_judge(m);
    if (*ret == VERDICT_OK) {
        *ret = postings_judge(m);
    }
    if (*ret != VERDICT_OK) {
        return 0;
    }
    int rc = key_judge(f, m->idempotency_key, ret);
    if (rc == 0 && *ret == VERDICT_OK) {
        rc = postings_fit(f, m, ret);
    }
    return rc == 0 && *ret == VERDICT_OK ? entry_book(f, m) : rc;
}

static int ledger_fold(void *state, struct fold_txn *txn, const struct fold_record *record,
                       struct view_event *ret_event, struct error *err)
{
    (void)state;
    if (record->len > RECORD_BYTES_MAX) {
        ret_event->verdict = VERDICT_MALFORMED;
        return 0;
    }
    struct ledger_fold f = {.txn = txn, .record = record};
    f.outcome = fold_alloc(txn, sizeof(*f.outcome));
    Weir__LedgerRecord *m =
        weir__ledger_record__unpack(fold_allocator(txn), record->len, record->value);
    if (f.outcome == NULL || (m == NULL && fold_unpack_failed(txn) != 0)) {
        return error_set(err, WEIR_ENOMEM, "ledger record of %zu bytes", record->len);
    }
    if (m == NULL) {
        ret_event->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = fold_entry(&f, m, &ret_event->verdict);
    ret_event->record = m;
    ret_event->outcome = f.outcome;
    return rc;
}

const struct view_ops ledger_view = {
    .topic = VIEW_LEDGER,
    .version = 1,
    .fold = ledger_fold,
};
