#include "views/chat_state.h"

#include <assert.h>
#include <string.h>

#include "proto/chat.pb-c.h"
#include "views/text.h"

#define ITEM_BYTES_MAX   16384
#define MEMBER_BYTES_MAX 1024
#define ITEM_DELETED     1

/* --- Keys --- */

static void key_put(struct chat_key *k, const void *data, size_t n)
{
    assert(k->len + n <= sizeof(k->data));
    memcpy(k->data + k->len, data, n);
    k->len += n;
}

static void key_put_text(struct chat_key *k, const char *s)
{
    key_put(k, s, strlen(s) + 1);
}

static void key_put_u64(struct chat_key *k, uint64_t v)
{
    uint8_t b[8];
    store_be64(b, v);
    key_put(k, b, sizeof(b));
}

static void key_begin(struct chat_key *k, char kind, const char *room)
{
    k->len = 0;
    key_put(k, &kind, 1);
    key_put_text(k, room);
}

void chat_key_items(struct chat_key *k, const char *room)
{
    key_begin(k, 'm', room);
}

void chat_key_item(struct chat_key *k, const char *room, int64_t offset)
{
    key_begin(k, 'm', room);
    key_put_u64(k, (uint64_t)offset);
}

void chat_key_member(struct chat_key *k, const char *room, const char *user)
{
    key_begin(k, 'u', room);
    key_put_text(k, user);
}

void chat_key_bans(struct chat_key *k, const char *room)
{
    key_begin(k, 'b', room);
}

void chat_key_ban(struct chat_key *k, const char *room, const char *user)
{
    key_begin(k, 'b', room);
    key_put_text(k, user);
}

void chat_key_nonce(struct chat_key *k, const char *room, const char *user, const char *nonce)
{
    key_begin(k, 'd', room);
    key_put_text(k, user);
    key_put_text(k, nonce);
}

static void key_source(struct chat_key *k, char kind, const char *room, const char *topic,
                       uint32_t partition)
{
    uint8_t b[4];
    key_begin(k, kind, room);
    key_put_text(k, topic);
    store_be32(b, partition);
    key_put(k, b, sizeof(b));
}

void chat_key_notice(struct chat_key *k, const char *room, const char *topic, uint32_t partition,
                     int64_t offset)
{
    key_source(k, 'n', room, topic, partition);
    key_put_u64(k, (uint64_t)offset);
}

/* --- Rooms: u32 kept, u64 kept from, u32 slow mode, seconds --- */

int chat_room_get(struct fold_txn *txn, const char *room, struct chat_room *ret_room)
{
    struct chat_key k;
    struct cursor c;
    const uint8_t *value = NULL;
    size_t len = 0;
    key_begin(&k, 'k', room);
    memset(ret_room, 0, sizeof(*ret_room));
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    cursor_init(&c, value, len);
    ret_room->kept = cursor_be32(&c);
    ret_room->kept_from = (int64_t)cursor_be64(&c);
    ret_room->slow_s = cursor_be32(&c);
    return cursor_ok(&c) ? 0 : WEIR_ECORRUPT;
}

int chat_room_put(struct fold_txn *txn, const char *room, const struct chat_room *value)
{
    struct chat_key k;
    uint8_t b[16];
    key_begin(&k, 'k', room);
    store_be32(b, value->kept);
    store_be64(b + 4, (uint64_t)value->kept_from);
    store_be32(b + 12, value->slow_s);
    return fold_put(txn, k.data, k.len, b, sizeof(b));
}

/* --- Members: u64 tat ms, u64 said ms, u32 tier, u32 months, u64 expires ms, u8 banned, when
 * banned: u64 at ms, u64 until ms, by, reason --- */

int chat_member_get(struct fold_txn *txn, const char *room, const char *user,
                    struct chat_member *ret_member)
{
    struct chat_key k;
    struct cursor c;
    const uint8_t *value = NULL;
    size_t len = 0;
    chat_key_member(&k, room, user);
    memset(ret_member, 0, sizeof(*ret_member));
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    cursor_init(&c, value, len);
    ret_member->tat_ms = (int64_t)cursor_be64(&c);
    ret_member->said_ms = (int64_t)cursor_be64(&c);
    ret_member->badge.tier = cursor_be32(&c);
    ret_member->badge.months = cursor_be32(&c);
    ret_member->badge.expires_ms = (int64_t)cursor_be64(&c);
    ret_member->banned = cursor_u8(&c) != 0;
    if (ret_member->banned) {
        ret_member->at_ms = (int64_t)cursor_be64(&c);
        ret_member->until_ms = (int64_t)cursor_be64(&c);
        ret_member->by = text_borrow(&c);
        ret_member->reason = text_borrow(&c);
    }
    return cursor_ok(&c) ? 0 : WEIR_ECORRUPT;
}

int chat_member_put(struct fold_txn *txn, const char *room, const char *user,
                    const struct chat_member *member)
{
    struct chat_key k;
    struct bytes b;
    chat_key_member(&k, room, user);
    bytes_init(&b, MEMBER_BYTES_MAX);
    bytes_put_be64(&b, (uint64_t)member->tat_ms);
    bytes_put_be64(&b, (uint64_t)member->said_ms);
    bytes_put_be32(&b, member->badge.tier);
    bytes_put_be32(&b, member->badge.months);
    bytes_put_be64(&b, (uint64_t)member->badge.expires_ms);
    bytes_put_u8(&b, member->banned);
    if (member->banned) {
        bytes_put_be64(&b, (uint64_t)member->at_ms);
        bytes_put_be64(&b, (uint64_t)member->until_ms);
        text_put(&b, member->by);
        text_put(&b, member->reason);
    }
    int rc = bytes_error(&b);
    if (rc == 0) {
        rc = fold_put(txn, k.data, k.len, b.data, b.len);
    }
    bytes_close(&b);
    return rc;
}

bool chat_member_banned(const struct chat_member *member, int64_t now_ms)
{
    return member->banned && (member->until_ms == 0 || member->until_ms > now_ms);
}

int64_t chat_member_wait_ms(const struct chat_member *member, const struct chat_room *room,
                            int64_t now_ms)
{
    int64_t due_ms = member->said_ms + (int64_t)room->slow_s * 1000;
    return room->slow_s > 0 && due_ms > now_ms ? due_ms - now_ms : 0;
}

/* --- Items: u8 flags, u64 append ms, u32 tier, u32 months, u64 expires ms, deleted by, the
 * packed record --- */

static void item_cursor(struct cursor *c, const uint8_t *value, size_t len, struct chat_item *item)
{
    cursor_init(c, value, len);
    uint8_t flags = cursor_u8(c);
    item->append_ms = (int64_t)cursor_be64(c);
    item->badge.tier = cursor_be32(c);
    item->badge.months = cursor_be32(c);
    item->badge.expires_ms = (int64_t)cursor_be64(c);
    const char *by = text_borrow(c);
    item->deleted_by = (flags & ITEM_DELETED) != 0 ? by : NULL;
}

const uint8_t *chat_item_raw(const uint8_t *value, size_t len, size_t *ret_len)
{
    struct cursor c;
    struct chat_item item;
    item_cursor(&c, value, len, &item);
    *ret_len = cursor_left(&c);
    return cursor_take(&c, *ret_len);
}

int chat_item_decode(struct fold_txn *txn, const uint8_t *key, size_t key_len, const uint8_t *value,
                     size_t value_len, struct chat_item *ret_item)
{
    struct cursor c;
    memset(ret_item, 0, sizeof(*ret_item));
    item_cursor(&c, value, value_len, ret_item);
    size_t n = cursor_left(&c);
    const uint8_t *raw = cursor_take(&c, n);
    if (!cursor_ok(&c) || key_len < 8) {
        return WEIR_ECORRUPT;
    }
    ret_item->offset = (int64_t)load_be64(key + key_len - 8);
    const Weir__ChatRecord *m = weir__chat_record__unpack(fold_allocator(txn), n, raw);
    if (m == NULL) {
        return fold_unpack_failed(txn) != 0 ? WEIR_ENOMEM : WEIR_ECORRUPT;
    }
    if (m->body_case == WEIR__CHAT_RECORD__BODY__NOT_SET) {
        return WEIR_ECORRUPT;
    }
    ret_item->record = m;
    return 0;
}

int chat_item_put(struct fold_txn *txn, const struct chat_key *key, const struct chat_item *item,
                  const uint8_t *raw, size_t raw_len)
{
    struct bytes b;
    bytes_init(&b, ITEM_BYTES_MAX);
    bytes_put_u8(&b, item->deleted_by != NULL ? ITEM_DELETED : 0);
    bytes_put_be64(&b, (uint64_t)item->append_ms);
    bytes_put_be32(&b, item->badge.tier);
    bytes_put_be32(&b, item->badge.months);
    bytes_put_be64(&b, (uint64_t)item->badge.expires_ms);
    text_put(&b, item->deleted_by != NULL ? item->deleted_by : "");
    bytes_put(&b, raw, raw_len);
    int rc = bytes_error(&b);
    if (rc == 0) {
        rc = fold_put(txn, key->data, key->len, b.data, b.len);
    }
    bytes_close(&b);
    return rc;
}

/* --- Notices --- */

int chat_floor_get(struct fold_txn *txn, const char *room, const char *topic, uint32_t partition,
                   int64_t *ret_offset)
{
    struct chat_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    key_source(&k, 'f', room, topic, partition);
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    if (rc == WEIR_ENOTFOUND) {
        *ret_offset = -1;
        return 0;
    }
    if (rc == 0 && len != 8) {
        rc = WEIR_ECORRUPT;
    }
    if (rc == 0) {
        *ret_offset = (int64_t)load_be64(value);
    }
    return rc;
}

int chat_floor_put(struct fold_txn *txn, const char *room, const char *topic, uint32_t partition,
                   int64_t offset)
{
    struct chat_key k;
    uint8_t b[8];
    key_source(&k, 'f', room, topic, partition);
    store_be64(b, (uint64_t)offset);
    return fold_put(txn, k.data, k.len, b, sizeof(b));
}

int chat_notice_find(struct fold_txn *txn, const char *room, const char *topic, uint32_t partition,
                     int64_t offset, bool *ret_seen)
{
    struct chat_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    int64_t floor = -1;
    int rc = chat_floor_get(txn, room, topic, partition, &floor);
    if (rc != 0 || offset <= floor) {
        *ret_seen = true;
        return rc;
    }
    chat_key_notice(&k, room, topic, partition, offset);
    rc = fold_read(txn, k.data, k.len, &value, &len);
    *ret_seen = rc == 0;
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}
