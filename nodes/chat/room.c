/* Rooms: who is in them, and the pass that gives everyone what the ring has. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "nodes/chat/chat_priv.h"
#include "nodes/chat/json_out.h"

#define PUSH_CAP      (256u << 10) /* bytes for one connection in one pass */
#define PASS_STEP     256          /* connections served before the loop gets its turn */
#define TICK_US_EACH  50    /* a pass waits this long per connection after the last one ... */
#define TICK_US_MAX   50000 /* ... at most this: then one write carries many messages */
#define HISTORY_BYTES (CHAT_OUT_MAX / 2)

static struct list *bucket(struct chat *chat, const char *name)
{
    return &chat->rooms[chat_hash(chat, name) % CHAT_BUCKETS];
}

struct room *room_find(struct chat *chat, const char *name)
{
    struct list *head = bucket(chat, name);
    LIST_FOREACH(it, head)
    {
        struct room *room = list_entry(it, struct room, link);
        if (strcmp(room->name, name) == 0) {
            return room;
        }
    }
    return NULL;
}

int room_get(struct chat *chat, const char *name, struct room **ret_room)
{
    struct account_channel channel;
    struct room *room = room_find(chat, name);
    if (room != NULL) {
        *ret_room = room;
        return 0;
    }
    int rv = accounts_channel(chat->views, name, &channel);
    if (rv < 0) {
        return rv;
    }
    room = calloc(1, sizeof(*room));
    if (room == NULL || env_timer_init(chat->env, &room->timer) < 0) {
        free(room);
        return WEIR_ENOMEM;
    }
    room->chat = chat;
    memcpy(room->name, channel.name, sizeof(room->name));
    memcpy(room->owner, channel.owner, sizeof(room->owner));
    room->partition = chat_partition(chat->views, name);
    room->timer.data = room;
    room->defer.data = room;
    const struct config *config = chat->node->config;
    ring_init(&room->ring, config->chat_ring_messages, (size_t)config->chat_ring_kib << 10,
              views_offset(chat->views, VIEW_CHAT, room->partition));
    list_push_back(bucket(chat, name), &room->link);
    *ret_room = room;
    return 0;
}

static void room_free(struct room *room)
{
    env_timer_close(&room->timer);
    env_defer_cancel(&room->defer);
    list_remove(&room->link);
    ring_close(&room->ring);
    free(room->subs);
    free(room);
}

/* --- The pass
 * --------------------------------------------------------------------------------------------------
 */

/* The reader has fallen off: it is told where it stood, and has left the room. */
static void sub_lag(struct sub *sub)
{
    struct conn *c = sub->conn;
    struct bytes json;
    bytes_init(&json, 1024);
    bytes_printf(&json, "{\"type\":\"lagged\"");
    json_put_member(&json, "room", sub->room->name);
    json_put_number(&json, "offset", sub->after);
    bytes_put_u8(&json, '}');
    metric_add(c->chat->lagged, 1);
    sub_free(sub);
    conn_send_json(c, &json);
    bytes_close(&json);
}

void sub_push(struct sub *sub)
{
    const struct ring *ring = &sub->room->ring;
    struct conn *c = sub->conn;
    if (sub->catching || sub->cursor == ring->head) {
        return;
    }
    if (sub->cursor < ring->tail) {
        sub_lag(sub);
        return;
    }
    if (!conn_flush(c)) {
        return;
    }
    while (ring_offset(ring, sub->cursor) <= sub->after) {
        if (++sub->cursor == ring->head) {
            return;
        }
    }
    size_t n;
    uint64_t next;
    const uint8_t *frames = ring_span(ring, sub->cursor, PUSH_CAP, &n, &next);
    if (!ws_send_raw(c->ws, frames, n)) {
        return;
    }
    metric_add(c->chat->delivered, (int64_t)(next - sub->cursor));
    sub->cursor = next;
    sub->after = ring_offset(ring, next - 1);
    if (next != ring->head) {
        ws_want_write(c->ws);
    }
}

static void on_pass(struct env_defer *defer);

static void pass_begin(struct room *room)
{
    if (room->passing || room->n_subs == 0) {
        return;
    }
    room->passing = true;
    room->pass_at = 0;
    room->pass_goal = room->ring.head;
    uint64_t tick_us = (uint64_t)room->n_subs * TICK_US_EACH;
    room->next_pass_ns =
        env_now_ns(room->chat->env) + (tick_us < TICK_US_MAX ? tick_us : TICK_US_MAX) * 1000;
    env_defer(room->chat->env, &room->defer, on_pass);
}

static void on_pass_timer(struct env_timer *timer)
{
    pass_begin(timer->data);
}

/* A message after a quiet time goes out at once; while a room is busy they gather for a tick. */
static void room_kick(struct room *room)
{
    if (room->passing) {
        return;
    }
    uint64_t now = env_now_ns(room->chat->env);
    if (now >= room->next_pass_ns) {
        pass_begin(room);
    } else {
        env_timer_start(&room->timer, (room->next_pass_ns - now) / 1000 + 1, on_pass_timer);
    }
}

static void on_pass(struct env_defer *defer)
{
    struct room *room = defer->data;
    uint32_t end = room->pass_at + PASS_STEP;
    while (room->pass_at < room->n_subs && room->pass_at < end) {
        sub_push(room->subs[room->pass_at++]); /* may leave the room: see sub_free */
    }
    if (room->pass_at < room->n_subs) {
        env_defer(room->chat->env, &room->defer, on_pass);
        return;
    }
    room->passing = false;
    room->done = room->pass_goal;
    if (room->n_subs == 0) {
        room_free(room);
    } else if (room->done != room->ring.head) {
        room_kick(room);
    }
}

void room_append(struct room *room, int64_t offset, const struct bytes *json)
{
    uint8_t header[10];
    size_t n = ws_frame_header(header, json->len, true);
    int rv = ring_append(&room->ring, offset, header, n, json->data, json->len);
    if (rv < 0) {
        log_error("chat_ring_append_failed", "room=%s offset=%lld error=\"%s\"", room->name,
                  (long long)offset, error_name(rv));
    }
    room_kick(room);
}

/* --- Being in a room
 * --------------------------------------------------------------------------------------------- */

struct sub *conn_sub(struct conn *c, const char *room)
{
    for (struct sub *sub = c->subs; sub != NULL; sub = sub->next) {
        if (strcmp(sub->room->name, room) == 0) {
            return sub;
        }
    }
    return NULL;
}

int sub_new(struct conn *c, struct room *room, struct sub **ret_sub)
{
    struct sub *sub = calloc(1, sizeof(*sub));
    if (sub != NULL && room->n_subs == room->cap_subs) {
        uint32_t cap = room->cap_subs == 0 ? 4 : 2 * room->cap_subs;
        struct sub **subs = realloc(room->subs, cap * sizeof(struct sub *));
        if (subs != NULL) {
            room->subs = subs;
            room->cap_subs = cap;
        }
    }
    if (sub == NULL || room->n_subs == room->cap_subs) {
        free(sub);
        if (room->n_subs == 0 && !room->passing) {
            room_free(room);
        }
        return WEIR_ENOMEM;
    }
    *sub = (struct sub){.conn = c, .room = room, .index = room->n_subs, .next = c->subs};
    room->subs[room->n_subs++] = sub;
    c->subs = sub;
    c->n_subs++;
    *ret_sub = sub;
    return 0;
}

static void room_move(struct room *room, uint32_t to, uint32_t from)
{
    room->subs[to] = room->subs[from];
    room->subs[to]->index = to;
}

void sub_free(struct sub *sub)
{
    struct conn *c = sub->conn;
    struct room *room = sub->room;
    struct sub **link = &c->subs;
    while (*link != sub) {
        link = &(*link)->next;
    }
    *link = sub->next;
    c->n_subs--;
    uint32_t hole = sub->index, last = --room->n_subs;
    if (room->passing && hole < room->pass_at) {
        /* The hole is filled with one that has been served, or the pass would miss the last one. */
        room_move(room, hole, --room->pass_at);
        hole = room->pass_at;
    }
    room_move(room, hole, last);
    free(sub);
    if (room->n_subs == 0 && !room->passing) {
        room_free(room);
    }
}

void sub_begin(struct sub *sub)
{
    sub->cursor = sub->room->ring.head;
    sub->after = views_offset(sub->conn->chat->views, VIEW_CHAT, sub->room->partition) - 1;
}

int sub_resume(struct sub *sub, int64_t after, int64_t *ret_after)
{
    struct room *room = sub->room;
    int64_t kept_from = 0;
    if (after + 1 < room->ring.whole_from) {
        int rv = chat_kept_from(room->chat->views, room->name, &kept_from);
        if (rv < 0) {
            return rv;
        }
        sub->catching = true;
    } else {
        sub->cursor = ring_find(&room->ring, after);
    }
    sub->after = after + 1 < kept_from ? kept_from - 1 : after;
    *ret_after = sub->after;
    return 0;
}

/* --- History
 * ------------------------------------------------------------------------------------------------------
 */

struct page {
    struct bytes frames; /* or, of an answer, the items, newest first */
    struct bytes json;
    const char *owner;
    int64_t last;
    unsigned n;
    size_t at[CHAT_HISTORY_MAX]; /* where each item begins */
};

static void item_put(struct bytes *out, const struct chat_item *item, const char *owner)
{
    chat_event_put(out, &(struct chat_event){.record = item->record,
                                             .offset = item->offset,
                                             .append_ms = item->append_ms,
                                             .badge = item->badge,
                                             .deleted_by = item->deleted_by,
                                             .owner = owner});
}

static int on_page_item(void *data, const struct chat_item *item)
{
    struct page *page = data;
    uint8_t header[10];
    bytes_reset(&page->json);
    item_put(&page->json, item, page->owner);
    size_t n = ws_frame_header(header, page->json.len, true);
    bytes_put(&page->frames, header, n);
    bytes_put(&page->frames, page->json.data, page->json.len);
    page->last = item->offset;
    page->n++;
    return bytes_error(&page->frames) != 0 || bytes_error(&page->json) != 0;
}

void sub_catch_up(struct sub *sub)
{
    struct conn *c = sub->conn;
    struct room *room = sub->room;
    if (!conn_flush(c)) {
        return;
    }
    struct page page = {.owner = room->owner, .last = sub->after};
    bytes_init(&page.frames, CHAT_OUT_MAX);
    bytes_init(&page.json, CHAT_EVENT_MAX);
    int rv = chat_from(room->chat->views, room->name, sub->after + 1, CHAT_HISTORY_MAX,
                       on_page_item, &page);
    bytes_close(&page.json);
    if (rv != 0) {
        bytes_close(&page.frames);
        conn_error(c, "unavailable", NULL, "the history of %s cannot be read now; join again",
                   room->name);
        sub_free(sub);
        return;
    }
    sub->after = page.last;
    if (page.n < CHAT_HISTORY_MAX) { /* that was all this node knows: the ring has what comes */
        sub->catching = false;
        sub->cursor = ring_find(&room->ring, sub->after);
    }
    metric_add(c->chat->delivered, page.n);
    conn_send_frames(c, page.frames.data, page.frames.len);
    bytes_close(&page.frames);
    ws_want_write(c->ws); /* for the next page, or for the ring */
}

static int on_answer_item(void *data, const struct chat_item *item)
{
    struct page *page = data;
    size_t before = page->json.len;
    page->at[page->n] = before;
    item_put(&page->json, item, page->owner);
    if (bytes_error(&page->json) != 0) {
        return 1; /* as many as fit */
    }
    page->n++;
    return 0;
}

void conn_send_history(struct conn *c, const char *room, const char *owner, int64_t before,
                       unsigned limit)
{
    struct page page = {.owner = owner};
    bytes_init(&page.json, HISTORY_BYTES);
    bytes_init(&page.frames, CHAT_OUT_MAX);
    int rv = chat_before(c->chat->views, room, before, limit, on_answer_item, &page);
    if (rv < 0) {
        conn_error(c, "unavailable", NULL, "the history of %s cannot be read now: %s", room,
                   error_name(rv));
    } else {
        bytes_printf(&page.frames, "{\"type\":\"history\"");
        json_put_member(&page.frames, "room", room);
        bytes_printf(&page.frames, ",\"more\":%s,\"items\":[",
                     page.n < limit && rv == 0 ? "false" : "true");
        size_t end = page.n > 0 && rv == 0 ? page.json.len : 0;
        end = rv != 0 ? page.at[page.n < CHAT_HISTORY_MAX ? page.n : 0] : end;
        for (unsigned i = page.n; i > 0; i--) { /* oldest first */
            bytes_put(&page.frames, page.json.data + page.at[i - 1], end - page.at[i - 1]);
            end = page.at[i - 1];
            bytes_printf(&page.frames, "%s", i > 1 ? "," : "");
        }
        bytes_printf(&page.frames, "]}");
        conn_send_json(c, &page.frames);
    }
    bytes_close(&page.json);
    bytes_close(&page.frames);
}
