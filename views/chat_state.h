/* What the chat view stores: keys and values of views/chat.c's table, for the fold (chat.c) and the
 * queries (chat_query.c). */
#ifndef VIEWS_CHAT_STATE_H
#define VIEWS_CHAT_STATE_H

#include "views/chat.h"
#include "views/fold.h"

#define CHAT_NAME_MIN  2
#define CHAT_NAME_MAX  25
#define CHAT_TOPIC_MAX 32
#define CHAT_KIND_MAX  16
#define CHAT_TIER_MAX  3

struct chat_key {
    size_t len;
    uint8_t data[1 + 2 * (CHAT_NAME_MAX + 1) + CHAT_NONCE_MAX + CHAT_TOPIC_MAX + 32];
};
void chat_key_items(struct chat_key *k, const char *room); /* prefix of all items */
void chat_key_item(struct chat_key *k, const char *room, int64_t offset);
void chat_key_member(struct chat_key *k, const char *room, const char *user);
void chat_key_bans(struct chat_key *k, const char *room); /* prefix */
void chat_key_ban(struct chat_key *k, const char *room, const char *user);
void chat_key_nonce(struct chat_key *k, const char *room, const char *user, const char *nonce);
void chat_key_notice(struct chat_key *k, const char *room, const char *topic, uint32_t partition,
                     int64_t offset);

struct chat_room {
    uint32_t kept;
    int64_t kept_from; /* every item at or above is kept */
    uint32_t slow_s;   /* slow mode; 0: off */
};
/* A room nobody has spoken in is zeros. */
int chat_room_get(struct fold_txn *txn, const char *room, struct chat_room *ret_room);
int chat_room_put(struct fold_txn *txn, const char *room, const struct chat_room *value);

struct chat_member {
    int64_t tat_ms;
    int64_t said_ms; /* append time of the last accepted message; 0: none */
    struct chat_badge badge;
    bool banned;
    int64_t at_ms, until_ms;
    const char *by, *reason; /* borrowed from the txn */
};
/* A user the room knows nothing of is zeros. */
int chat_member_get(struct fold_txn *txn, const char *room, const char *user,
                    struct chat_member *ret_member);
int chat_member_put(struct fold_txn *txn, const char *room, const char *user,
                    const struct chat_member *member);
bool chat_member_banned(const struct chat_member *member, int64_t now_ms);
/* How long the room's slow mode has the member wait; 0: not at all. */
int64_t chat_member_wait_ms(const struct chat_member *member, const struct chat_room *room,
                            int64_t now_ms);

/* The item's record is unpacked into the txn's memory. */
int chat_item_decode(struct fold_txn *txn, const uint8_t *key, size_t key_len, const uint8_t *value,
                     size_t value_len, struct chat_item *ret_item);
/* item->record is not looked at: `raw` is the packed record. */
int chat_item_put(struct fold_txn *txn, const struct chat_key *key, const struct chat_item *item,
                  const uint8_t *raw, size_t raw_len);
/* The packed record in an item's value. */
const uint8_t *chat_item_raw(const uint8_t *value, size_t len, size_t *ret_len);

/* -1: nothing was dropped yet. */
int chat_floor_get(struct fold_txn *txn, const char *room, const char *topic, uint32_t partition,
                   int64_t *ret_offset);
int chat_floor_put(struct fold_txn *txn, const char *room, const char *topic, uint32_t partition,
                   int64_t offset);
int chat_notice_find(struct fold_txn *txn, const char *room, const char *topic, uint32_t partition,
                     int64_t offset, bool *ret_seen);

#endif
