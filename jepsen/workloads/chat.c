/* Chat over WebSocket: talkers, one owner who bans, unbans and slows rooms down, and one listener a
 * gateway, which writes down all that its gateway shows. What got no answer is said again under the
 * same nonce, at another gateway.
 *
 *   :say {:room 1, :user 3, :id 17}   :ban, :unban {:room 1, :user 3}   :slow {:room 1, :seconds 2}
 * -> and :offset :recv -> {:room 1, :gateway "n1", :events [[offset :msg id user ms] ..]}   :join
 * {:room 1, :gateway "n1"}: begun anew */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "jepsen/workloads/web.h"
#include "net/ws_client.h"

#define ROOMS      2
#define TIMEOUT_NS UINT64_C(6000000000)
#define SWEEP_US   100000u
#define REDIAL_NS  UINT64_C(300000000)
#define RECV_NS    UINT64_C(1000000000)
#define EVENTS_MAX (192u << 10)         /* bytes of EDN that wait, a listener and a room */
#define TALK_NS    UINT64_C(1100000000) /* one message a second a user is what the fold lets pass */
#define OWNER_NS   UINT64_C(2500000000)
#define OWNER_USER 9999

enum role { LISTENER, OWNER, TALKER };
enum action { SAY, BAN, UNBAN, SLOW };
static const char *const names[] = {"say", "ban", "unban", "slow"};

struct worker {
    struct chat *chat;
    struct process *p;
    enum role role;
    unsigned gateway; /* index of its host */
    unsigned user;    /* talkers: their slot */
    char token[128];
    struct ws_client *ws;
    bool authed, joined[ROOMS];
    uint64_t redial_ns;
    int64_t seen[ROOMS]; /* offset of the last event; -1: none */
    /* A request's */
    enum action action;
    unsigned room, target, number; /* target: user of a ban, seconds of slow mode */
    bool open, again;              /* again: under the same nonce */
    uint64_t deadline_ns;
    /* A listener's */
    struct bytes events[ROOMS];
    bool receiving;
    uint64_t begun_ns;
};

struct chat {
    struct run *run;
    struct web *web;
    struct http_client *http;
    struct worker *workers;
    unsigned n, step;
    struct env_timer timer;
    bool ready, final;
    int64_t
        last[ROOMS]; /* at the end: offset of what all listeners have to see; -1: not said yet */
    bool done;
};

/* --- Ends of requests --- */

static void put_request(const struct worker *w, char *out, size_t size)
{
    if (w->action == SAY) {
        (void)snprintf(out, size, "{:room %u, :user %u, :id %u", w->room, w->user,
                       w->user * 100000 + w->number);
    } else if (w->action == SLOW) {
        (void)snprintf(out, size, "{:room %u, :seconds %u", w->room, w->target);
    } else {
        (void)snprintf(out, size, "{:room %u, :user %u", w->room, w->target);
    }
}

static void finish(struct worker *w, enum history_type type, const char *error, int64_t offset)
{
    char text[128];
    put_request(w, text, sizeof(text));
    w->open = false;
    w->again = type == HISTORY_INFO && w->action == SAY;
    if (type == HISTORY_OK) {
        process_end(w->p, type, NULL, "%s, :offset %" PRId64 "}", text, offset);
        if (w->chat->final && w->action == SAY) {
            w->chat->last[w->room] = offset;
        }
    } else {
        process_end(w->p, type, error, "%s}", text);
    }
    w->p->next_ns = env_now_ns(run_env(w->chat->run)) + (w->role == OWNER ? OWNER_NS : TALK_NS);
}

static void on_error(struct worker *w, json_t *m)
{
    const char *code = json_string_value(json_object_get(m, "code"));
    static const char *const unknown[] = {"unavailable", "unknown_outcome"};
    enum history_type type = HISTORY_FAIL;
    for (size_t i = 0; code != NULL && i < 2; i++) {
        type = strcmp(code, unknown[i]) == 0 ? HISTORY_INFO : type;
    }
    if (w->open) {
        finish(w, type, code != NULL ? code : "error", -1);
    }
}

/* --- What a listener is shown --- */

static int64_t number(json_t *m, const char *name)
{
    return json_integer_value(json_object_get(m, name));
}

/* "u3" is 3, "owner" is OWNER_USER. */
static unsigned user_of(json_t *m)
{
    const char *user = json_string_value(json_object_get(m, "user"));
    return user != NULL && user[0] == 'u' ? (unsigned)strtoul(user + 1, NULL, 10) : OWNER_USER;
}

static int room_of(json_t *m)
{
    const char *room = json_string_value(json_object_get(m, "room"));
    return room != NULL && strncmp(room, "room", 4) == 0 ? (int)strtol(room + 4, NULL, 10) : -1;
}

static void show(struct worker *w, unsigned room, const char *type, json_t *m)
{
    struct bytes *out = &w->events[room];
    int64_t offset = number(m, "offset"), ms = number(m, "time");
    if (strcmp(type, "message") == 0) {
        bytes_printf(out, " [%" PRId64 " :msg %s %u %" PRId64 "]", offset,
                     json_string_value(json_object_get(m, "text")), user_of(m), ms);
    } else if (strcmp(type, "slow") == 0) {
        bytes_printf(out, " [%" PRId64 " :slow %" PRId64 " %" PRId64 "]", offset,
                     number(m, "seconds"), ms);
    } else if (strcmp(type, "ban") == 0 || strcmp(type, "unban") == 0) {
        bytes_printf(out, " [%" PRId64 " :%s %u %" PRId64 "]", offset, type, user_of(m), ms);
    } else {
        return;
    }
    if (bytes_error(out) != 0) {
        run_failed(w->chat->run, "more events than a listener takes");
    }
    w->seen[room] = offset;
}

static void recv_end(struct worker *w)
{
    unsigned room = w->events[0].len >= w->events[1].len ? 0 : 1;
    const char *gateway = run_hosts(w->chat->run)->at[w->gateway].name;
    w->receiving = false;
    process_end(w->p, HISTORY_OK, NULL, "{:room %u, :gateway \"%s\", :events [%.*s]}", room,
                gateway, (int)w->events[room].len, (const char *)w->events[room].data);
    bytes_reset(&w->events[room]);
    w->p->next_ns = 0;
}

/* --- The connection --- */

static void send_json(struct worker *w, json_t *m)
{
    char *text = json_dumps(m, JSON_COMPACT);
    json_decref(m);
    if (text != NULL && w->ws != NULL) {
        (void)ws_client_send(w->ws, text, strlen(text));
    }
    free(text);
}

static void join(struct worker *w)
{
    for (unsigned r = 0; r < ROOMS; r++) {
        char room[16];
        (void)snprintf(room, sizeof(room), "room%u", r);
        send_json(w, json_pack("{s:s, s:s, s:I}", "type", "join", "room", room, "after",
                               (json_int_t)w->seen[r]));
    }
}

static void on_joined(struct worker *w, json_t *m)
{
    int room = room_of(m);
    if (room < 0 || room >= ROOMS) {
        return;
    }
    w->joined[room] = true;
    /* Older events are not kept: it begins anew. */
    if (w->role == LISTENER && !json_is_true(json_object_get(m, "resumed")) && !w->p->busy) {
        process_invoke(w->p, "join", "{:room %d, :gateway \"%s\"}", room,
                       run_hosts(w->chat->run)->at[w->gateway].name);
        process_end(w->p, HISTORY_OK, NULL, "{:room %d, :gateway \"%s\"}", room,
                    run_hosts(w->chat->run)->at[w->gateway].name);
    }
}

static void on_ack(struct worker *w, json_t *m)
{
    char nonce[48];
    const char *theirs = json_string_value(json_object_get(m, "nonce"));
    (void)snprintf(nonce, sizeof(nonce), "%u-%u", w->user, w->number);
    if (w->open && theirs != NULL && strcmp(theirs, nonce) == 0) {
        finish(w, HISTORY_OK, NULL, number(m, "offset"));
    }
}

static void on_message(void *data, struct ws_client *c, const char *text, size_t n)
{
    struct worker *w = data;
    json_t *m = json_loadb(text, n, 0, NULL);
    const char *type = json_string_value(json_object_get(m, "type"));
    int room = room_of(m);
    (void)c;
    if (type == NULL) {
        run_failed(w->chat->run, "a gateway says what is no JSON");
    } else if (strcmp(type, "authed") == 0) {
        w->authed = true;
        join(w);
    } else if (strcmp(type, "joined") == 0) {
        on_joined(w, m);
    } else if (strcmp(type, "ack") == 0) {
        on_ack(w, m);
    } else if (strcmp(type, "error") == 0) {
        on_error(w, m);
    } else if (strcmp(type, "lagged") == 0) {
        join(w);
    } else if (w->role == LISTENER && room >= 0 && room < ROOMS) {
        show(w, (unsigned)room, type, m);
    }
    json_decref(m);
}

static void on_opened(void *data, struct ws_client *c)
{
    struct worker *w = data;
    w->ws = c;
    if (w->role == LISTENER) {
        w->authed = true;
        join(w);
    } else {
        send_json(w, json_pack("{s:s, s:s}", "type", "auth", "token", w->token));
    }
}

static void lost(struct worker *w)
{
    struct run *run = w->chat->run;
    w->ws = NULL;
    w->authed = false;
    memset(w->joined, 0, sizeof(w->joined));
    w->redial_ns = env_now_ns(run_env(run)) + REDIAL_NS;
    if (w->role != LISTENER) {
        w->gateway = (w->gateway + 1) % run_hosts(run)->founders;
    }
    if (w->open) {
        finish(w, HISTORY_INFO, "connection lost", -1);
    }
}

static void on_closed(void *data, struct ws_client *c, int status)
{
    (void)c;
    (void)status;
    lost(data);
}

static void dial(struct worker *w)
{
    struct ws_client_events events = {
        .data = w, .opened = on_opened, .message = on_message, .closed = on_closed};
    struct error err = {0};
    w->redial_ns = UINT64_MAX;
    if (ws_client_dial(w->chat->http, run_hosts(w->chat->run)->at[w->gateway].address,
                       HOST_PORT_HTTP, "/chat", "weir.chat.v1", &events, &w->ws, &err) != 0) {
        lost(w);
    }
}

/* --- Requests --- */

static bool in_room(const struct worker *w, unsigned room)
{
    return w->ws != NULL && w->authed && w->joined[room];
}

static void ask(struct worker *w)
{
    char text[128], nonce[48], room[16], user[16], said[16];
    put_request(w, text, sizeof(text));
    process_invoke(w->p, names[w->action], "%s}", text);
    w->open = true;
    w->deadline_ns = env_now_ns(run_env(w->chat->run)) + TIMEOUT_NS;
    (void)snprintf(nonce, sizeof(nonce), "%u-%u", w->user, w->number);
    (void)snprintf(room, sizeof(room), "room%u", w->room);
    (void)snprintf(user, sizeof(user), "u%u", w->target);
    (void)snprintf(said, sizeof(said), "%u", w->user * 100000 + w->number);
    switch (w->action) {
    case SAY:
        send_json(w, json_pack("{s:s, s:s, s:s, s:s}", "type", "send", "room", room, "text", said,
                               "nonce", nonce));
        return;
    case SLOW:
        send_json(w, json_pack("{s:s, s:s, s:i, s:s}", "type", "slow", "room", room, "seconds",
                               (int)w->target, "nonce", nonce));
        return;
    case BAN:
    case UNBAN:
        send_json(w, json_pack("{s:s, s:s, s:s, s:s}", "type", names[w->action], "room", room,
                               "user", user, "nonce", nonce));
        return;
    }
}

static void next(void *state, struct process *p)
{
    struct chat *chat = state;
    struct worker *w = &chat->workers[p->slot];
    struct run *run = chat->run;
    if (w->role == LISTENER) {
        process_invoke(p, "recv", "nil");
        w->receiving = true;
        w->begun_ns = env_now_ns(run_env(run));
        return;
    }
    if (!w->again) {
        w->room = (unsigned)run_random(run, ROOMS);
    }
    if (!in_room(w, w->room)) {
        return;
    }
    if (!w->again) {
        w->number++;
        w->action = w->role == TALKER ? SAY : (enum action)(BAN + run_random(run, 3));
        w->target = w->action == SLOW
                        ? (unsigned)run_random(run, 4)
                        : (unsigned)(run_hosts(run)->founders + 1 +
                                     run_random(run, chat->n - run_hosts(run)->founders - 1));
    }
    ask(w);
}

/* --- The clock --- */

static void sweep(struct chat *chat, uint64_t now)
{
    for (unsigned i = 0; i < chat->n; i++) {
        struct worker *w = &chat->workers[i];
        if (w->ws == NULL && now >= w->redial_ns) {
            dial(w);
        }
        if (w->open && now > w->deadline_ns) {
            finish(w, HISTORY_INFO, "timeout", -1);
        }
        bool some = w->role == LISTENER && w->events[0].len + w->events[1].len > 0;
        if (w->receiving && (some || now > w->begun_ns + RECV_NS)) {
            recv_end(w);
        }
    }
}

/* The owner says one thing more in each room; the listeners are done when all have seen it. */
static void sweep_final(struct chat *chat)
{
    struct worker *owner = &chat->workers[run_hosts(chat->run)->founders];
    bool done = true, busy = false;
    for (unsigned r = 0; r < ROOMS; r++) {
        done = done && chat->last[r] >= 0;
        if (chat->last[r] < 0 && !owner->open && in_room(owner, r) &&
            env_now_ns(run_env(chat->run)) > owner->p->next_ns) {
            owner->number += !owner->again;
            owner->action = SAY;
            owner->room = owner->again ? owner->room : r;
            ask(owner);
        }
    }
    for (unsigned i = 0; i < run_hosts(chat->run)->founders; i++) {
        struct worker *w = &chat->workers[i];
        for (unsigned r = 0; r < ROOMS; r++) {
            done = done && w->seen[r] >= chat->last[r] && w->events[r].len == 0;
        }
        if (!w->p->busy && !done) {
            next(chat, w->p);
        }
        busy |= w->p->busy;
    }
    if (done && !busy && !owner->open) {
        chat->done = true;
        run_final_done(chat->run);
    }
}

static void on_timer(struct env_timer *timer)
{
    struct chat *chat = timer->data;
    sweep(chat, env_now_ns(run_env(chat->run)));
    if (chat->final && !chat->done) {
        sweep_final(chat);
    }
    env_timer_start(timer, SWEEP_US, on_timer);
}

static void final(void *state)
{
    struct chat *chat = state;
    chat->final = true;
}

/* --- Beginning: users, their tokens, rooms --- */

static void make_next(struct chat *chat);

static void on_made(void *data, int status, json_t *answer)
{
    struct chat *chat = data;
    const char *token = json_string_value(json_object_get(answer, "token"));
    unsigned who = run_hosts(chat->run)->founders + chat->step / 2;
    bool good = status == 200 || status == 201 || status == 409;
    if (token != NULL && who < chat->n) {
        (void)snprintf(chat->workers[who].token, sizeof(chat->workers[who].token), "%s", token);
    }
    chat->step += good;
    make_next(chat);
}

static void make_next(struct chat *chat)
{
    struct hosts *h = run_hosts(chat->run);
    unsigned people = chat->n - h->founders, who = h->founders + chat->step / 2;
    char name[16], path[64];
    (void)snprintf(name, sizeof(name), chat->step < 2 ? "owner" : "u%u", who);
    if (chat->step < 2 * people && chat->step % 2 == 0) {
        web_ask(chat->web, &h->at[0], "POST", "/api/admin/users", json_pack("{s:s}", "name", name),
                on_made, chat);
    } else if (chat->step < 2 * people) {
        (void)snprintf(path, sizeof(path), "/api/admin/users/%s/tokens", name);
        web_ask(chat->web, &h->at[0], "POST", path, NULL, on_made, chat);
    } else if (chat->step < 2 * people + ROOMS) {
        (void)snprintf(name, sizeof(name), "room%u", chat->step - 2 * people);
        web_ask(chat->web, &h->at[0], "POST", "/api/admin/channels",
                json_pack("{s:s, s:s}", "name", name, "owner", "owner"), on_made, chat);
    } else {
        for (unsigned i = 0; i < chat->n; i++) {
            dial(&chat->workers[i]);
        }
        env_timer_start(&chat->timer, SWEEP_US, on_timer);
        run_started(chat->run);
    }
}

static int start(struct run *run, void **ret_state, struct error *err)
{
    struct chat *chat = calloc(1, sizeof(*chat));
    unsigned gateways = run_hosts(run)->founders;
    if (chat == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    chat->run = run;
    chat->n = run_n_processes(run);
    if (chat->n < gateways + 2) {
        free(chat);
        return error_set(err, WEIR_EINVAL, "chat needs %u processes", gateways + 2);
    }
    chat->workers = calloc(chat->n, sizeof(*chat->workers));
    int rv = chat->workers == NULL ? error_set(err, WEIR_ENOMEM, "no memory")
                                   : web_open(run, &chat->web, err);
    rv = rv == 0 ? http_client_new(run_env(run), &chat->http, err) : rv;
    rv = rv == 0 ? env_timer_init(run_env(run), &chat->timer) : rv;
    if (rv != 0) {
        return rv;
    }
    chat->timer.data = chat;
    memset(chat->last, -1, sizeof(chat->last));
    for (unsigned i = 0; i < chat->n; i++) {
        struct worker *w = &chat->workers[i];
        w->chat = chat;
        w->p = run_process(run, i);
        w->role = i < gateways ? LISTENER : i == gateways ? OWNER : TALKER;
        w->gateway = i % gateways;
        w->user = w->role == OWNER ? OWNER_USER : i;
        memset(w->seen, -1, sizeof(w->seen));
        bytes_init(&w->events[0], EVENTS_MAX);
        bytes_init(&w->events[1], EVENTS_MAX);
    }
    make_next(chat);
    *ret_state = chat;
    return 0;
}

static void stop(void *state)
{
    struct chat *chat = state;
    struct run *run = chat->run;
    env_timer_close(&chat->timer);
    for (unsigned i = 0; i < chat->n; i++) {
        if (chat->workers[i].ws != NULL) {
            ws_client_free(chat->workers[i].ws);
        }
        bytes_close(&chat->workers[i].events[0]);
        bytes_close(&chat->workers[i].events[1]);
    }
    web_close(chat->web);
    http_client_free(chat->http);
    free(chat->workers);
    free(chat);
    run_stopped(run);
}

const struct workload workload_chat = {
    .name = "chat",
    .about = "rooms on every gateway: messages, bans, slow mode",
    .checker = "chat",
    .config = "log.segment_mib = 4\nlog.free_mib_min = 32",
    .views = true,
    .processes = 20,
    .pause_us = 50000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
