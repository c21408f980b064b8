#include "views/ledger_state.h"

#include <assert.h>
#include <string.h>

#include "views/text.h"

#define ENTRY_BYTES_MAX 16384
#define SUB_BYTES_MAX   256

void ledger_key_begin(struct ledger_key *k, char kind)
{
    k->data[0] = (uint8_t)kind;
    k->len = 1;
}

void ledger_key_text(struct ledger_key *k, const char *s)
{
    size_t n = strlen(s) + 1;
    assert(k->len + n <= sizeof(k->data));
    memcpy(k->data + k->len, s, n);
    k->len += n;
}

void ledger_key_entry(struct ledger_key *k, int64_t offset)
{
    ledger_key_begin(k, 'e');
    store_be64(k->data + 1, (uint64_t)offset);
    k->len = 9;
}

static int put_bytes(struct fold_txn *txn, const struct ledger_key *k, struct bytes *b)
{
    int rc = bytes_error(b);
    if (rc == 0) {
        rc = fold_put(txn, k->data, k->len, b->data, b->len);
    }
    bytes_close(b);
    return rc;
}

/* --- Subscriptions: u32 tier, u8 gift, by, u32 months, u64 started ms, u64 expires ms, u64
 * newest offset --- */

static void sub_encode(struct bytes *b, const struct ledger_sub *s)
{
    bytes_put_be32(b, s->tier);
    bytes_put_u8(b, s->gift);
    text_put(b, s->by);
    bytes_put_be32(b, s->months_total);
    bytes_put_be64(b, (uint64_t)s->started_ms);
    bytes_put_be64(b, (uint64_t)s->expires_ms);
    bytes_put_be64(b, (uint64_t)s->last_offset);
}

static void sub_take(struct cursor *c, struct ledger_sub *s)
{
    s->tier = cursor_be32(c);
    s->gift = cursor_u8(c) != 0;
    text_take(c, s->by, sizeof(s->by));
    s->months_total = cursor_be32(c);
    s->started_ms = (int64_t)cursor_be64(c);
    s->expires_ms = (int64_t)cursor_be64(c);
    s->last_offset = (int64_t)cursor_be64(c);
}

int ledger_sub_decode(const char *channel, const char *user, const uint8_t *value, size_t len,
                      struct ledger_sub *ret_sub)
{
    struct cursor c;
    memset(ret_sub, 0, sizeof(*ret_sub));
    text_copy(ret_sub->channel, sizeof(ret_sub->channel), channel);
    text_copy(ret_sub->user, sizeof(ret_sub->user), user);
    cursor_init(&c, value, len);
    sub_take(&c, ret_sub);
    return cursor_ok(&c) ? 0 : WEIR_ECORRUPT;
}

static void sub_key(struct ledger_key *k, const char *channel, const char *user)
{
    ledger_key_begin(k, 's');
    ledger_key_text(k, channel);
    ledger_key_text(k, user);
}

int ledger_sub_get(struct fold_txn *txn, const char *channel, const char *user,
                   struct ledger_sub *ret_sub)
{
    struct ledger_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    sub_key(&k, channel, user);
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    return rc == 0 ? ledger_sub_decode(channel, user, value, len, ret_sub) : rc;
}

int ledger_sub_put(struct fold_txn *txn, const struct ledger_sub *sub)
{
    struct ledger_key k;
    struct bytes b;
    ledger_key_begin(&k, 'x');
    ledger_key_text(&k, sub->user);
    ledger_key_text(&k, sub->channel);
    int rc = fold_put(txn, k.data, k.len, "", 0);
    if (rc != 0) {
        return rc;
    }
    sub_key(&k, sub->channel, sub->user);
    bytes_init(&b, SUB_BYTES_MAX);
    sub_encode(&b, sub);
    return put_bytes(txn, &k, &b);
}

/* --- Entries: u64 append ms, key, u32 tier, u32 months, u8 refund, key refunded, channel, user,
 * the subscription after it, the packed record --- */

int ledger_entry_put(struct fold_txn *txn, const struct ledger_entry *entry, const uint8_t *raw,
                     size_t raw_len)
{
    struct ledger_key k;
    struct bytes b;
    ledger_key_entry(&k, entry->offset);
    bytes_init(&b, ENTRY_BYTES_MAX);
    bytes_put_be64(&b, (uint64_t)entry->append_ms);
    text_put(&b, entry->key);
    bytes_put_be32(&b, entry->tier);
    bytes_put_be32(&b, entry->months);
    bytes_put_u8(&b, entry->refund);
    text_put(&b, entry->of);
    text_put(&b, entry->after.channel);
    text_put(&b, entry->after.user);
    sub_encode(&b, &entry->after);
    bytes_put(&b, raw, raw_len);
    return put_bytes(txn, &k, &b);
}

int ledger_entry_decode(uint32_t partition, const uint8_t *key, size_t key_len,
                        const uint8_t *value, size_t len, struct ledger_entry *ret_entry,
                        const uint8_t **ret_raw, size_t *ret_raw_len)
{
    struct cursor c;
    if (key_len != 9) {
        return WEIR_ECORRUPT;
    }
    memset(ret_entry, 0, sizeof(*ret_entry));
    ret_entry->partition = partition;
    ret_entry->offset = (int64_t)load_be64(key + 1);
    cursor_init(&c, value, len);
    ret_entry->append_ms = (int64_t)cursor_be64(&c);
    text_take(&c, ret_entry->key, sizeof(ret_entry->key));
    ret_entry->tier = cursor_be32(&c);
    ret_entry->months = cursor_be32(&c);
    ret_entry->refund = cursor_u8(&c) != 0;
    text_take(&c, ret_entry->of, sizeof(ret_entry->of));
    text_take(&c, ret_entry->after.channel, sizeof(ret_entry->after.channel));
    text_take(&c, ret_entry->after.user, sizeof(ret_entry->after.user));
    sub_take(&c, &ret_entry->after);
    size_t n = cursor_left(&c);
    const uint8_t *raw = cursor_take(&c, n);
    if (ret_raw != NULL) {
        *ret_raw = raw;
        *ret_raw_len = n;
    }
    return cursor_ok(&c) ? 0 : WEIR_ECORRUPT;
}

int ledger_entry_raw(struct fold_txn *txn, uint32_t partition, int64_t offset,
                     struct ledger_entry *ret_entry, const uint8_t **ret_raw, size_t *ret_raw_len)
{
    struct ledger_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    ledger_key_entry(&k, offset);
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    return rc == 0 ? ledger_entry_decode(partition, k.data, k.len, value, len, ret_entry, ret_raw,
                                         ret_raw_len)
                   : rc;
}

int ledger_entry_get(struct fold_txn *txn, uint32_t partition, int64_t offset,
                     struct ledger_entry *ret_entry)
{
    return ledger_entry_raw(txn, partition, offset, ret_entry, NULL, NULL);
}

/* --- Balances --- */

int ledger_balance_get(struct fold_txn *txn, const char *account, int64_t *ret_minor)
{
    struct ledger_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    ledger_key_begin(&k, 'a');
    ledger_key_text(&k, account);
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    if (rc == WEIR_ENOTFOUND) {
        *ret_minor = 0;
        return 0;
    }
    if (rc == 0 && len != 8) {
        rc = WEIR_ECORRUPT;
    }
    if (rc == 0) {
        *ret_minor = (int64_t)load_be64(value);
    }
    return rc;
}

int ledger_balance_put(struct fold_txn *txn, const char *account, int64_t minor)
{
    struct ledger_key k;
    uint8_t b[8];
    ledger_key_begin(&k, 'a');
    ledger_key_text(&k, account);
    store_be64(b, (uint64_t)minor);
    return fold_put(txn, k.data, k.len, b, sizeof(b));
}
