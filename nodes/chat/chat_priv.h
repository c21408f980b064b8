/* The chat gateway's inner side.
 *
 * A connection (struct conn, the WebSocket's user memory) is in some rooms; each is a `struct sub`:
 * a cursor into the room's ring. A room exists here while a connection of this node is in it.
 * Events come from the chat view's listener, in partition order, and so does everything a client is
 * told about a room: nothing is echoed. What is meant for one connection (answers, resumed events)
 * waits in its `out` when the socket is full; ring frames are pushed only when `out` is empty, so
 * the order holds. One thread: the front loop. */
#ifndef NODES_CHAT_PRIV_H
#define NODES_CHAT_PRIV_H

#include <jansson.h>

#include "base/metrics.h"
#include "net/ws.h"
#include "nodes/chat/ring.h"
#include "nodes/role.h"
#include "views/accounts.h"
#include "views/chat.h"

#define CHAT_PROTOCOL           "weir.chat.v1"
#define CHAT_COMMAND_MAX        16384      /* bytes of one client message */
#define CHAT_OUT_MAX            (1u << 20) /* bytes a connection may leave unread besides the rings */
#define CHAT_ROOMS_PER_CONN_MAX 20
#define CHAT_SENDS_PER_CONN_MAX 16          /* not yet acknowledged */
#define CHAT_COMMANDS_PER_S_MAX 50          /* more are refused */
#define CHAT_ABUSE_PER_S_MAX    500         /* more end the connection */
#define CHAT_HISTORY_MAX        100         /* events of one answer */
#define CHAT_EVENT_MAX          (32u << 10) /* bytes of one event as JSON */
#define CHAT_BUCKETS            1024
#define CHAT_RATE_SLOTS         8192
#define CHAT_CLOCK_BEHIND_MS    1000 /* a clock that is more behind the log does not judge */

struct conn;
struct room;

struct sub {
    struct conn *conn;
    struct room *room;
    uint64_t cursor; /* number of the next ring frame */
    int64_t after;   /* events at or below this offset are not for it (any more) */
    uint32_t index;  /* in room->subs */
    bool catching;   /* reading the view's history; not in the ring yet */
    struct sub *next;
};

struct room {
    struct chat *chat;
    char name[ACCOUNT_NAME_MAX + 1];
    char owner[ACCOUNT_NAME_MAX + 1];
    uint32_t partition;
    struct ring ring;
    struct sub **subs;
    uint32_t n_subs, cap_subs;
    /* The pass that pushes frames to everyone, some at a time. */
    uint32_t pass_at; /* next of subs; those below have been served */
    bool passing;
    uint64_t pass_goal;    /* ring.head when it began */
    uint64_t done;         /* ring.head that everyone has been offered */
    uint64_t next_pass_ns; /* not before */
    struct env_timer timer;
    struct env_defer defer;
    struct list link;
};

struct conn {
    struct chat *chat;
    struct ws_conn *ws;
    struct sub *subs;
    struct bytes out;
    struct list sends;               /* struct submission */
    char user[ACCOUNT_NAME_MAX + 1]; /* "": not authenticated */
    char display_name[ACCOUNT_NAME_MAX + 1];
    char token[ACCOUNT_SECRET_MAX]; /* asked about again at each use: it may be revoked */
    uint8_t n_subs, n_sends;
    uint32_t window_s; /* second in which n_commands came */
    uint32_t n_commands;
};

/* A record on its way into the log. */
struct submission {
    struct view_submit submit;
    struct chat *chat; /* NULL once the role has stopped */
    struct conn *conn; /* NULL once it has gone */
    struct list link, by_conn;
    int64_t duplicate_of;
    int64_t wait_ms; /* VERDICT_SLOW */
    char room[ACCOUNT_NAME_MAX + 1];
    char user[ACCOUNT_NAME_MAX + 1];
    char nonce[CHAT_NONCE_MAX + 1];
};

struct rate_slot {
    uint64_t user; /* hash */
    uint64_t next_ns;
};

struct chat {
    struct node *node;
    struct env *env;
    struct views *views;
    struct ws_server *ws;
    struct view_listener listener;
    struct list rooms[CHAT_BUCKETS];
    struct list submissions;
    struct rate_slot rates[CHAT_RATE_SLOTS];
    uint64_t hash_seed;
    int64_t log_ms;       /* newest append time seen */
    struct bytes scratch; /* one event, as JSON */
    bool stopping;
    void (*stop_cb)(void *data);
    void *stop_data;
    struct metric *connections, *messages, *delivered, *lagged, *refused;
};

/* --- chat.c */
uint64_t chat_hash(const struct chat *chat, const char *text);

/* --- event.c: events as JSON */
struct chat_event {
    const void *record; /* Weir__ChatRecord */
    int64_t offset, append_ms;
    struct chat_badge badge;
    const char *deleted_by; /* NULL: not deleted */
    const char *owner;      /* of the room */
};
void chat_event_put(struct bytes *out, const struct chat_event *event);

/* --- conn.c */
int conn_opened(void *data, struct ws_conn *ws, const char *protocol);
void conn_closed(void *data, struct ws_conn *ws);
void conn_writable(void *data, struct ws_conn *ws);
/* Queues whole frames; too many unread ones end the connection. */
void conn_send_frames(struct conn *conn, const void *frames, size_t n);
/* One text frame of this JSON. */
void conn_send_json(struct conn *conn, const struct bytes *json);
void conn_error(struct conn *conn, const char *code, const char *nonce, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, with the seconds to wait. */
void conn_error_slow(struct conn *conn, const char *nonce, const char *room, int64_t wait_ms);
/* Writes what waits in `out`. True when nothing is left and more may be written. */
bool conn_flush(struct conn *conn);

/* --- command.c: what clients say */
void conn_message(void *data, struct ws_conn *ws, const uint8_t *text, size_t n, bool binary);

/* --- room.c */
struct room *room_find(struct chat *chat, const char *name);
/* WEIR_ENOTFOUND: no such channel. */
int room_get(struct chat *chat, const char *name, struct room **ret_room);
void room_append(struct room *room, int64_t offset, const struct bytes *json);
/* Frames that wait for this connection, as far as the socket takes them. */
void sub_push(struct sub *sub);
struct sub *conn_sub(struct conn *conn, const char *room);
/* The connection joins; it is not served before sub_begin or sub_resume. WEIR_ENOMEM. */
int sub_new(struct conn *conn, struct room *room, struct sub **ret_sub);
/* Leaves; the room goes with its last. */
void sub_free(struct sub *sub);
/* From now on. */
void sub_begin(struct sub *sub);
/* Everything above `after`. *ret_after: where it really begins: higher when so much is no longer
 * kept. */
int sub_resume(struct sub *sub, int64_t after, int64_t *ret_after);
/* Sends the next page of history; then the ring takes over. */
void sub_catch_up(struct sub *sub);
/* {"type":"history",...} */
void conn_send_history(struct conn *conn, const char *room, const char *owner, int64_t before,
                       unsigned limit);

/* --- submit.c */
/* `exempt`: slow mode does not hold. */
void conn_submit_message(struct conn *conn, const char *room, const char *text, bool exempt,
                         const char *nonce);
void conn_submit_ban(struct conn *conn, const char *room, const char *user, uint32_t seconds,
                     const char *reason, const char *nonce);
void conn_submit_unban(struct conn *conn, const char *room, const char *user, const char *nonce);
void conn_submit_slow(struct conn *conn, const char *room, uint32_t seconds, const char *nonce);
void conn_submit_delete(struct conn *conn, const char *room, int64_t offset, const char *nonce);
/* The connection goes: its submissions are answered to nobody. */
void conn_forget_submissions(struct conn *conn);
void chat_forget_submissions(struct chat *chat);
/* A message was void because it is there already, or has to wait: whoever waits for it learns
 * where, or how long. */
void chat_note_void(struct chat *chat, const struct view_event *event);

#endif
