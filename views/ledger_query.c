#include <stdlib.h>
#include <string.h>

#include "proto/ledger.pb-c.h"
#include "views/ledger.h"
#include "views/ledger_state.h"
#include "views/text.h"

static bool name_valid(const char *name)
{
    return text_is_word(name, LEDGER_NAME_MIN, LEDGER_NAME_MAX);
}

static int read_channel(struct views *views, const char *channel, struct fold_txn **ret_txn)
{
    if (!name_valid(channel)) {
        return WEIR_ENOTFOUND;
    }
    return views_read_begin(views, VIEW_LEDGER, views_partition(views, VIEW_LEDGER, channel),
                            ret_txn);
}

int ledger_sub_of(struct views *views, const char *channel, const char *user,
                  struct ledger_sub *ret_sub)
{
    struct fold_txn *txn = NULL;
    if (!name_valid(user)) {
        return WEIR_ENOTFOUND;
    }
    int rc = read_channel(views, channel, &txn);
    if (rc == 0) {
        rc = ledger_sub_get(txn, channel, user, ret_sub);
        views_read_end(txn);
    }
    return rc;
}

struct sub_walk {
    struct fold_txn *txn;
    const char *first; /* the name the walk is about */
    bool by_user;
    ledger_sub_cb cb;
    void *data;
    int rc;
};

static int walk_sub(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                    size_t value_len)
{
    struct sub_walk *w = data;
    struct ledger_sub sub;
    struct cursor c;
    char second[LEDGER_NAME_MAX + 1];
    size_t skip = 1 + strlen(w->first) + 1;
    cursor_init(&c, key + skip, key_len - skip);
    text_take(&c, second, sizeof(second));
    if (!cursor_ok(&c)) {
        w->rc = WEIR_ECORRUPT;
    } else if (w->by_user) {
        w->rc = ledger_sub_get(w->txn, second, w->first, &sub);
    } else {
        w->rc = ledger_sub_decode(w->first, second, value, value_len, &sub);
    }
    if (w->rc == 0) {
        w->rc = w->cb(w->data, &sub);
    }
    return w->rc != 0;
}

static int walk_subs(struct sub_walk *w)
{
    struct ledger_key k;
    ledger_key_begin(&k, w->by_user ? 'x' : 's');
    ledger_key_text(&k, w->first);
    int rc = fold_scan(w->txn, k.data, k.len, false, walk_sub, w);
    return rc < 0 ? rc : w->rc;
}

int ledger_subs_by_channel(struct views *views, const char *channel, ledger_sub_cb cb, void *data)
{
    struct sub_walk w = {.first = channel, .cb = cb, .data = data};
    int rc = read_channel(views, channel, &w.txn);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    rc = walk_subs(&w);
    views_read_end(w.txn);
    return rc;
}

int ledger_subs_by_user(struct views *views, const char *user, ledger_sub_cb cb, void *data)
{
    struct sub_walk w = {.first = user, .by_user = true, .cb = cb, .data = data};
    uint32_t n = views_partitions(views, VIEW_LEDGER);
    if (!name_valid(user)) {
        return 0;
    }
    int rc = n == 0 ? WEIR_EUNAVAILABLE : 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        rc = views_read_begin(views, VIEW_LEDGER, i, &w.txn);
        if (rc == 0) {
            rc = walk_subs(&w);
            views_read_end(w.txn);
        }
    }
    return rc;
}

int ledger_entry_by_key(struct views *views, const char *channel, const char *key,
                        struct ledger_entry *ret_entry)
{
    struct fold_txn *txn = NULL;
    struct ledger_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    if (strnlen(key, LEDGER_KEY_MAX + 1) > LEDGER_KEY_MAX) {
        return WEIR_ENOTFOUND;
    }
    int rc = read_channel(views, channel, &txn);
    if (rc != 0) {
        return rc;
    }
    ledger_key_begin(&k, 'k');
    ledger_key_text(&k, key);
    rc = fold_read(txn, k.data, k.len, &value, &len);
    if (rc == 0 && len != 8) {
        rc = WEIR_ECORRUPT;
    }
    if (rc == 0) {
        rc = ledger_entry_get(txn, views_partition(views, VIEW_LEDGER, channel),
                              (int64_t)load_be64(value), ret_entry);
    }
    views_read_end(txn);
    return rc;
}

struct entry_walk {
    uint32_t partition;
    struct ledger_entry *entry;
    int rc;
};

static int walk_first_entry(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                            size_t value_len)
{
    struct entry_walk *w = data;
    w->rc = ledger_entry_decode(w->partition, key, key_len, value, value_len, w->entry, NULL, NULL);
    return 1;
}

int ledger_entry_from(struct views *views, uint32_t partition, int64_t from,
                      struct ledger_entry *ret_entry)
{
    struct fold_txn *txn = NULL;
    struct ledger_key k;
    struct entry_walk w = {.partition = partition, .entry = ret_entry, .rc = WEIR_ENOTFOUND};
    int rc = views_read_begin(views, VIEW_LEDGER, partition, &txn);
    if (rc != 0) {
        return rc;
    }
    ledger_key_entry(&k, from < 0 ? 0 : from);
    rc = fold_scan_from(txn, "e", 1, k.data, k.len, false, walk_first_entry, &w);
    views_read_end(txn);
    return rc < 0 ? rc : w.rc;
}

int ledger_entry_postings(struct views *views, uint32_t partition, int64_t offset,
                          ledger_posting_cb cb, void *data)
{
    struct fold_txn *txn = NULL;
    struct ledger_entry e;
    const uint8_t *raw = NULL;
    size_t n = 0;
    int rc = views_read_begin(views, VIEW_LEDGER, partition, &txn);
    if (rc != 0) {
        return rc;
    }
    rc = ledger_entry_raw(txn, partition, offset, &e, &raw, &n);
    Weir__LedgerRecord *m = rc == 0 ? weir__ledger_record__unpack(NULL, n, raw) : NULL;
    rc = rc == 0 && m == NULL ? WEIR_ECORRUPT : rc;
    for (size_t i = 0; rc == 0 && i < m->n_postings; i++) {
        rc = cb(data, m->postings[i]->account, m->postings[i]->amount_minor);
    }
    weir__ledger_record__free_unpacked(m, NULL);
    views_read_end(txn);
    return rc;
}

struct balance_walk {
    uint32_t partition;
    ledger_balance_cb cb;
    void *data;
    int rc;
};

static int walk_balance(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t value_len)
{
    struct balance_walk *w = data;
    char account[LEDGER_ACCOUNT_MAX + 1];
    struct cursor c;
    cursor_init(&c, key + 1, key_len - 1);
    text_take(&c, account, sizeof(account));
    w->rc = cursor_ok(&c) && value_len == 8 ? 0 : WEIR_ECORRUPT;
    if (w->rc == 0) {
        w->rc = w->cb(w->data, w->partition, account, (int64_t)load_be64(value));
    }
    return w->rc != 0;
}

static int walk_balances(struct views *views, uint32_t partition, ledger_balance_cb cb, void *data)
{
    struct fold_txn *txn = NULL;
    struct balance_walk w = {.partition = partition, .cb = cb, .data = data};
    int rc = views_read_begin(views, VIEW_LEDGER, partition, &txn);
    if (rc == 0) {
        rc = fold_scan(txn, "a", 1, false, walk_balance, &w);
        views_read_end(txn);
    }
    return rc < 0 ? rc : w.rc;
}

int ledger_balances(struct views *views, ledger_balance_cb cb, void *data)
{
    uint32_t n = views_partitions(views, VIEW_LEDGER);
    int rc = n == 0 ? WEIR_EUNAVAILABLE : 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        rc = walk_balances(views, i, cb, data);
    }
    return rc;
}

/* --- Adding it all up again --- */

struct account_sum {
    char account[LEDGER_ACCOUNT_MAX + 1];
    int64_t minor;
};
struct recompute {
    struct account_sum *sums; /* sorted by account */
    size_t n, cap;
    uint64_t entries;
    struct error *err;
    int rc;
};

static size_t sum_find(const struct recompute *r, const char *account, bool *ret_found)
{
    size_t lo = 0, hi = r->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(r->sums[mid].account, account);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    *ret_found = false;
    return lo;
}

static int sum_add(struct recompute *r, const char *account, int64_t minor)
{
    bool found = false;
    size_t at = sum_find(r, account, &found);
    if (!found && r->n == r->cap) {
        size_t cap = r->cap == 0 ? 64 : r->cap * 2;
        struct account_sum *sums = realloc(r->sums, cap * sizeof(*sums));
        if (sums == NULL) {
            return WEIR_ENOMEM;
        }
        r->sums = sums;
        r->cap = cap;
    }
    if (!found) {
        memmove(&r->sums[at + 1], &r->sums[at], (r->n - at) * sizeof(*r->sums));
        r->n++;
        r->sums[at].minor = 0;
        text_copy(r->sums[at].account, sizeof(r->sums[at].account), account);
    }
    r->sums[at].minor += minor;
    return 0;
}

static int recompute_entry(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                           size_t value_len)
{
    struct recompute *r = data;
    struct ledger_entry e;
    const uint8_t *raw = NULL;
    size_t n = 0;
    r->rc = ledger_entry_decode(0, key, key_len, value, value_len, &e, &raw, &n);
    Weir__LedgerRecord *m = r->rc == 0 ? weir__ledger_record__unpack(NULL, n, raw) : NULL;
    if (m == NULL) {
        r->rc = error_set(r->err, WEIR_ECORRUPT, "ledger: entry can't be read");
        return 1;
    }
    r->entries++;
    for (size_t i = 0; i < m->n_postings && r->rc == 0; i++) {
        r->rc = sum_add(r, m->postings[i]->account, m->postings[i]->amount_minor);
    }
    weir__ledger_record__free_unpacked(m, NULL);
    return r->rc != 0;
}

/* Takes what the stored balance says away; what is left must be nothing. */
static int recompute_balance(void *data, uint32_t partition, const char *account,
                             int64_t balance_minor)
{
    (void)partition;
    return sum_add(data, account, -balance_minor);
}

static int recompute_check(struct recompute *r, struct error *err)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->sums[i].minor != 0) {
            return error_set(err, WEIR_ECORRUPT, "ledger: account %s is off by %lld",
                             r->sums[i].account, (long long)-r->sums[i].minor);
        }
    }
    return 0;
}

static int total_balance(void *data, uint32_t partition, const char *account, int64_t balance_minor)
{
    int64_t *total = data;
    (void)partition;
    (void)account;
    *total += balance_minor;
    return 0;
}

int ledger_recompute(struct views *views, uint32_t partition, uint64_t *ret_entries,
                     struct error *err)
{
    struct recompute r = {.err = err};
    struct fold_txn *txn = NULL;
    int64_t total = 0;
    int rc = views_read_begin(views, VIEW_LEDGER, partition, &txn);
    if (rc != 0) {
        return error_set(err, rc, "ledger: partition %u", partition);
    }
    rc = fold_scan(txn, "e", 1, false, recompute_entry, &r);
    views_read_end(txn);
    rc = rc < 0 ? rc : r.rc;
    if (rc == 0) {
        rc = walk_balances(views, partition, recompute_balance, &r);
    }
    if (rc == 0) {
        rc = walk_balances(views, partition, total_balance, &total);
    }
    if (rc == 0) {
        rc = recompute_check(&r, err);
    }
    if (rc == 0 && total != 0) {
        rc = error_set(err, WEIR_ECORRUPT, "ledger: balances add up to %lld", (long long)total);
    }
    if (rc == 0) {
        *ret_entries = r.entries;
    }
    free(r.sums);
    return rc;
}
