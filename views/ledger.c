/* The fold of the ledger; what it stores is in views/ledger_state.h. */
#include "views/ledger.h"

#include <string.h>

#include "base/fault.h"
#include "proto/ledger.pb-c.h"
#include "views/ledger_state.h"
#include "views/text.h"

#define RECORD_BYTES_MAX 8192

struct ledger_fold {
    struct fold_txn *txn;
    const struct fold_record *record;
    struct ledger_outcome *outcome;
    struct ledger_entry refunded; /* the grant that a refund takes back */
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

static bool key_valid(const char *key)
{
    return key[0] != '\0' && text_valid_within(key, LEDGER_KEY_MAX);
}

static enum verdict record_judge(const Weir__LedgerRecord *m)
{
    const Weir__SubscriptionGrant *g = m->grant;
    if (!name_valid(m->channel) || !key_valid(m->idempotency_key)) {
        return VERDICT_MALFORMED;
    }
    if (m->body_case == WEIR__LEDGER_RECORD__BODY_REFUND) {
        return key_valid(m->refund->of) &&
                       text_valid_within(m->refund->reason, LEDGER_REASON_MAX) &&
                       (m->refund->by[0] == '\0' || name_valid(m->refund->by))
                   ? VERDICT_OK
                   : VERDICT_MALFORMED;
    }
    if (m->body_case != WEIR__LEDGER_RECORD__BODY_GRANT || !name_valid(g->user) ||
        (g->by[0] != '\0' && !name_valid(g->by)) || g->tier < 1 || g->tier > LEDGER_TIER_MAX ||
        g->months < 1 || g->months > LEDGER_MONTHS_MAX) {
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

/* Where the entry is that booked ('k') or refunded ('r') this key. WEIR_ENOTFOUND. */
static int key_offset(struct ledger_fold *f, char kind, const char *key, int64_t *ret_offset)
{
    struct ledger_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    ledger_key_begin(&k, kind);
    ledger_key_text(&k, key);
    int rc = fold_read(f->txn, k.data, k.len, &value, &len);
    if (rc == 0 && len != 8) {
        rc = WEIR_ECORRUPT;
    }
    if (rc == 0) {
        *ret_offset = (int64_t)load_be64(value);
    }
    return rc;
}

static int key_put(struct ledger_fold *f, char kind, const char *key)
{
    struct ledger_key k;
    uint8_t offset[8];
    ledger_key_begin(&k, kind);
    ledger_key_text(&k, key);
    store_be64(offset, (uint64_t)f->record->offset);
    return fold_put(f->txn, k.data, k.len, offset, sizeof(offset));
}

/* VERDICT_DUPLICATE with the first entry in the outcome, or VERDICT_OK. */
static int key_judge(struct ledger_fold *f, const char *key, enum verdict *ret)
{
    int64_t offset = 0;
    int rc = key_offset(f, 'k', key, &offset);
    *ret = rc == 0 ? VERDICT_DUPLICATE : VERDICT_OK;
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    return ledger_entry_get(f->txn, f->record->partition, offset, &f->outcome->entry);
}

/* --- Refunds --- */

static bool postings_negate(const Weir__LedgerRecord *a, const Weir__LedgerRecord *b)
{
    bool equal = a->n_postings == b->n_postings;
    for (size_t i = 0; equal && i < a->n_postings; i++) {
        equal = strcmp(a->postings[i]->account, b->postings[i]->account) == 0 &&
                a->postings[i]->amount_minor == -b->postings[i]->amount_minor;
    }
    return equal;
}

/* The grant that is taken back, into f->refunded. */
static int refund_judge(struct ledger_fold *f, const Weir__LedgerRecord *m, enum verdict *ret)
{
    int64_t offset = 0, refunded = 0;
    const uint8_t *raw = NULL;
    size_t n = 0;
    int rc = key_offset(f, 'k', m->refund->of, &offset);
    if (rc == 0) {
        rc = ledger_entry_raw(f->txn, f->record->partition, offset, &f->refunded, &raw, &n);
    }
    if (rc != 0 || f->refunded.refund || strcmp(f->refunded.after.channel, m->channel) != 0) {
        *ret = VERDICT_NOT_FOUND;
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    rc = key_offset(f, 'r', m->refund->of, &refunded);
    if (rc != WEIR_ENOTFOUND) {
        *ret = VERDICT_EXISTS;
        return rc;
    }
    Weir__LedgerRecord *grant = weir__ledger_record__unpack(fold_allocator(f->txn), n, raw);
    if (grant == NULL) {
        return fold_unpack_failed(f->txn) != 0 ? WEIR_ENOMEM : WEIR_ECORRUPT;
    }
    *ret = postings_negate(m, grant) ? VERDICT_OK : VERDICT_UNBALANCED;
    return 0;
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

/* What is left of its months is taken away; what has passed can't be. */
static int sub_shorten(struct ledger_fold *f, struct ledger_sub *sub)
{
    const struct ledger_entry *grant = &f->refunded;
    int64_t now = f->record->append_ms, less = (int64_t)grant->months * LEDGER_MONTH_MS;
    int rc = ledger_sub_get(f->txn, grant->after.channel, grant->after.user, sub);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? WEIR_ECORRUPT : rc; /* it was granted */
    }
    if (sub->expires_ms > now) {
        sub->expires_ms = sub->expires_ms - less > now ? sub->expires_ms - less : now;
    }
    sub->months_total -= grant->months < sub->months_total ? grant->months : sub->months_total;
    sub->last_offset = f->record->offset;
    return ledger_sub_put(f->txn, sub);
}

static int entry_book(struct ledger_fold *f, const Weir__LedgerRecord *m)
{
    struct ledger_entry *e = &f->outcome->entry;
    bool refund = m->body_case == WEIR__LEDGER_RECORD__BODY_REFUND;
    e->partition = f->record->partition;
    e->offset = f->record->offset;
    e->append_ms = f->record->append_ms;
    e->tier = refund ? f->refunded.tier : m->grant->tier;
    e->months = refund ? f->refunded.months : m->grant->months;
    e->refund = refund;
    text_copy(e->of, sizeof(e->of), refund ? m->refund->of : "");
    text_copy(e->key, sizeof(e->key), m->idempotency_key);
    int rc = refund ? sub_shorten(f, &e->after) : sub_extend(f, m, &e->after);
    if (rc == 0) {
        rc = postings_book(f, m);
    }
    if (rc == 0) {
        rc = ledger_entry_put(f->txn, e, f->record->value, f->record->len);
    }
    if (rc == 0 && refund) {
        rc = key_put(f, 'r', e->of);
    }
    return rc == 0 ? key_put(f, 'k', e->key) : rc;
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
    int rc = fault_on(FAULT_LEDGER_REPEATS) ? 0 : key_judge(f, m->idempotency_key, ret);
    if (rc == 0 && *ret == VERDICT_OK && m->body_case == WEIR__LEDGER_RECORD__BODY_REFUND) {
        rc = refund_judge(f, m, ret);
    }
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
    .version = 2,
    .fold = ledger_fold,
};
