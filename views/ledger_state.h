/* What the ledger view stores, for the fold (ledger.c) and the queries (ledger_query.c). Keys of a
 * partition (strings end with NUL; integers big endian):
 *
 *   'k' idempotency key     u64 offset of the entry that counted
 *   'r' idempotency key     u64 offset of the entry that refunded it
 *   'e' u64 offset          entry: see ledger_entry_put; the packed record is its end
 *   's' channel user        subscription: see sub_encode
 *   'x' user channel        (empty) index of a user's subscriptions
 *   'a' account             u64 balance, two's complement */
#ifndef VIEWS_LEDGER_STATE_H
#define VIEWS_LEDGER_STATE_H

#include "views/fold.h"
#include "views/ledger.h"

#define LEDGER_NAME_MIN 2
#define LEDGER_NAME_MAX 25

struct ledger_key {
    size_t len;
    uint8_t data[1 + LEDGER_KEY_MAX + 1 + 64];
};
void ledger_key_begin(struct ledger_key *k, char kind);
void ledger_key_text(struct ledger_key *k, const char *s); /* and its NUL */
void ledger_key_entry(struct ledger_key *k, int64_t offset);

/* WEIR_ENOTFOUND when there is none. */
int ledger_sub_get(struct fold_txn *txn, const char *channel, const char *user,
                   struct ledger_sub *ret_sub);
int ledger_sub_put(struct fold_txn *txn, const struct ledger_sub *sub);
int ledger_sub_decode(const char *channel, const char *user, const uint8_t *value, size_t len,
                      struct ledger_sub *ret_sub);
int ledger_entry_get(struct fold_txn *txn, uint32_t partition, int64_t offset,
                     struct ledger_entry *ret_entry);
/* With the record that it was booked with: borrowed from `txn`. */
int ledger_entry_raw(struct fold_txn *txn, uint32_t partition, int64_t offset,
                     struct ledger_entry *ret_entry, const uint8_t **ret_raw, size_t *ret_raw_len);
int ledger_entry_decode(uint32_t partition, const uint8_t *key, size_t key_len,
                        const uint8_t *value, size_t len, struct ledger_entry *ret_entry,
                        const uint8_t **ret_raw, size_t *ret_raw_len);
int ledger_entry_put(struct fold_txn *txn, const struct ledger_entry *entry, const uint8_t *raw,
                     size_t raw_len);
/* An account nobody has posted to has 0. */
int ledger_balance_get(struct fold_txn *txn, const char *account, int64_t *ret_minor);
int ledger_balance_put(struct fold_txn *txn, const char *account, int64_t minor);

#endif
