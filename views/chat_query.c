#include <string.h>

#include "views/chat.h"
#include "views/chat_state.h"
#include "views/fold.h"
#include "views/text.h"

uint32_t chat_partition(const struct views *views, const char *room)
{
    return views_partition(views, VIEW_CHAT, room);
}

/* A room that can't be has nothing in it. */
static int read_begin(struct views *views, const char *room, struct fold_txn **ret_txn)
{
    if (!text_is_word(room, CHAT_NAME_MIN, CHAT_NAME_MAX)) {
        return WEIR_ENOTFOUND;
    }
    return views_read_begin(views, VIEW_CHAT, chat_partition(views, room), ret_txn);
}

struct item_walk {
    struct fold_txn *txn;
    chat_item_cb cb;
    void *data;
    unsigned left;
    int rc;
};

static int walk_item(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                     size_t value_len)
{
    struct item_walk *w = data;
    struct chat_item item;
    if (w->left == 0) {
        return 1;
    }
    w->left--;
    w->rc = chat_item_decode(w->txn, key, key_len, value, value_len, &item);
    if (w->rc == 0) {
        w->rc = w->cb(w->data, &item);
    }
    return w->rc != 0;
}

static int walk_items(struct views *views, const char *room, int64_t at, bool reverse, unsigned n,
                      chat_item_cb cb, void *data)
{
    struct chat_key prefix, from;
    struct item_walk w = {.cb = cb, .data = data, .left = n};
    int rc = read_begin(views, room, &w.txn);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    chat_key_items(&prefix, room);
    chat_key_item(&from, room, at);
    rc =
        fold_scan_from(w.txn, prefix.data, prefix.len, from.data, from.len, reverse, walk_item, &w);
    views_read_end(w.txn);
    return rc < 0 ? rc : w.rc;
}

int chat_before(struct views *views, const char *room, int64_t before, unsigned n, chat_item_cb cb,
                void *data)
{
    return before <= 0 ? 0 : walk_items(views, room, before - 1, true, n, cb, data);
}

int chat_from(struct views *views, const char *room, int64_t from, unsigned n, chat_item_cb cb,
              void *data)
{
    return walk_items(views, room, from < 0 ? 0 : from, false, n, cb, data);
}

/* A room that nothing was said about is all zeros. */
static int read_room(struct views *views, const char *room, struct chat_room *ret_room)
{
    struct fold_txn *txn = NULL;
    struct chat_room value = {0};
    int rc = read_begin(views, room, &txn);
    if (rc == 0) {
        rc = chat_room_get(txn, room, &value);
        views_read_end(txn);
    }
    if (rc == 0 || rc == WEIR_ENOTFOUND) {
        *ret_room = value;
        rc = 0;
    }
    return rc;
}

int chat_kept_from(struct views *views, const char *room, int64_t *ret_offset)
{
    struct chat_room value;
    int rc = read_room(views, room, &value);
    if (rc == 0) {
        *ret_offset = value.kept_from;
    }
    return rc;
}

static void ban_copy(const char *user, const struct chat_member *m, struct chat_ban *ret)
{
    memset(ret, 0, sizeof(*ret));
    text_copy(ret->user, sizeof(ret->user), user);
    text_copy(ret->by, sizeof(ret->by), m->by);
    text_copy(ret->reason, sizeof(ret->reason), m->reason);
    ret->at_ms = m->at_ms;
    ret->until_ms = m->until_ms;
}

int chat_ban_of(struct views *views, const char *room, const char *user, int64_t now_ms,
                struct chat_ban *ret_ban)
{
    struct fold_txn *txn = NULL;
    struct chat_member m;
    if (!text_is_word(user, CHAT_NAME_MIN, CHAT_NAME_MAX)) {
        return WEIR_ENOTFOUND;
    }
    int rc = read_begin(views, room, &txn);
    if (rc != 0) {
        return rc;
    }
    rc = chat_member_get(txn, room, user, &m);
    if (rc == 0 && !chat_member_banned(&m, now_ms)) {
        rc = WEIR_ENOTFOUND;
    }
    if (rc == 0) {
        ban_copy(user, &m, ret_ban);
    }
    views_read_end(txn);
    return rc;
}

int chat_slow(struct views *views, const char *room, uint32_t *ret_seconds)
{
    struct chat_room value;
    int rc = read_room(views, room, &value);
    if (rc == 0) {
        *ret_seconds = value.slow_s;
    }
    return rc;
}

int chat_slow_wait(struct views *views, const char *room, const char *user, int64_t now_ms,
                   int64_t *ret_wait_ms)
{
    struct fold_txn *txn = NULL;
    struct chat_room value = {0};
    struct chat_member m = {0};
    int rc = text_is_word(user, CHAT_NAME_MIN, CHAT_NAME_MAX) ? read_begin(views, room, &txn)
                                                              : WEIR_ENOTFOUND;
    if (rc == 0) {
        rc = chat_room_get(txn, room, &value);
        if (rc == 0 && value.slow_s > 0) {
            rc = chat_member_get(txn, room, user, &m);
        }
        views_read_end(txn);
    }
    if (rc == 0 || rc == WEIR_ENOTFOUND) {
        *ret_wait_ms = now_ms < m.said_ms ? 0 : chat_member_wait_ms(&m, &value, now_ms);
        rc = 0;
    }
    return rc;
}

struct ban_walk {
    struct fold_txn *txn;
    const char *room;
    size_t skip; /* bytes of the key before the user */
    int64_t now_ms;
    chat_ban_cb cb;
    void *data;
    int rc;
};

static int walk_ban(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                    size_t value_len)
{
    struct ban_walk *w = data;
    struct chat_member m;
    struct chat_ban ban;
    char user[CHAT_NAME_MAX + 1];
    struct cursor c;
    (void)value;
    (void)value_len;
    cursor_init(&c, key + w->skip, key_len - w->skip);
    text_take(&c, user, sizeof(user));
    w->rc = cursor_ok(&c) ? chat_member_get(w->txn, w->room, user, &m) : WEIR_ECORRUPT;
    if (w->rc == 0 && chat_member_banned(&m, w->now_ms)) {
        ban_copy(user, &m, &ban);
        w->rc = w->cb(w->data, &ban);
    }
    return w->rc != 0;
}

int chat_bans(struct views *views, const char *room, int64_t now_ms, chat_ban_cb cb, void *data)
{
    struct chat_key prefix;
    struct ban_walk w = {.room = room, .now_ms = now_ms, .cb = cb, .data = data};
    int rc = read_begin(views, room, &w.txn);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    chat_key_bans(&prefix, room);
    w.skip = prefix.len;
    rc = fold_scan(w.txn, prefix.data, prefix.len, false, walk_ban, &w);
    views_read_end(w.txn);
    return rc < 0 ? rc : w.rc;
}

int chat_badge_of(struct views *views, const char *room, const char *user, int64_t now_ms,
                  struct chat_badge *ret_badge)
{
    struct fold_txn *txn = NULL;
    struct chat_member m = {0};
    if (!text_is_word(user, CHAT_NAME_MIN, CHAT_NAME_MAX)) {
        *ret_badge = m.badge;
        return 0;
    }
    int rc = read_begin(views, room, &txn);
    if (rc == 0) {
        rc = chat_member_get(txn, room, user, &m);
        views_read_end(txn);
    }
    if (rc == 0 || rc == WEIR_ENOTFOUND) {
        *ret_badge = m.badge.expires_ms > now_ms ? m.badge : (struct chat_badge){0};
        rc = 0;
    }
    return rc;
}

int chat_notice_seen(struct views *views, const char *room, const char *source_topic,
                     uint32_t source_partition, int64_t source_offset, bool *ret_seen)
{
    struct fold_txn *txn = NULL;
    if (!text_is_word(source_topic, 1, CHAT_TOPIC_MAX)) {
        return WEIR_EINVAL;
    }
    int rc = read_begin(views, room, &txn);
    if (rc == 0) {
        rc = chat_notice_find(txn, room, source_topic, source_partition, source_offset, ret_seen);
        views_read_end(txn);
    }
    return rc;
}
