/* Chat over WebSocket: users who talk, each over two connections to two gateways; the owner, who
 * bans, unbans and slows rooms down, and at that moment has those it is about speak up; one
 * listener a gateway, which writes down all that its gateway shows, and one that roams from gateway
 * to gateway. What got no answer is said again under the same nonce, at another gateway.
 *
 *   :say {:room 1, :user 3, :id 17}   :ban {:room 1, :user 3, :for 2}   :unban {:room 1, :user 3}
 *   :slow {:room 1, :seconds 2}       each -> and :offset
 *   :recv -> {:room 1, :gateway "n1", :events [[offset :msg id user ms] ..]}
 *   :join {:room 1, :gateway "n1"}    begun anew */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "jepsen/workloads/web.h"
#include "net/ws_client.h"

#define ROOMS      3
#define TIMEOUT_NS UINT64_C(6000000000)
#define SWEEP_US   50000u
#define REDIAL_NS  UINT64_C(300000000)
#define JOIN_NS    UINT64_C(1000000000) /* until a join without an answer is said again */
#define PING_NS    UINT64_C(1000000000)
#define SILENCE_NS UINT64_C(5000000000) /* then the connection is given up */
#define RECV_NS    UINT64_C(1000000000)
#define ROAM_NS    UINT64_C(2500000000)
#define EVENTS_MAX (192u << 10) /* bytes of EDN that wait, a listener and a room */
#define TALK_MS    1600         /* between two messages, at most */
#define OWNER_MS   500
#define EAGER_NS   UINT64_C(300000000) /* who spoke longer ago is made to speak up */
#define OWNER_USER 9999
#define NEVER      UINT64_MAX

enum role { LISTENER, ROAMER, OWNER, TALKER };
enum action { SAY, BAN, UNBAN, SLOW };
static const char *const names[] = {"say", "ban", "unban", "slow"};

struct worker {
    struct chat *chat;
    struct process *p;
    enum role role;
    unsigned gateway; /* index of its host */
    unsigned user;
    struct ws_client *ws;
    bool opened, authed, joined[ROOMS];
    uint64_t redial_ns, heard_ns, ping_ns, roam_ns, join_ns[ROOMS];
    int64_t seen[ROOMS]; /* offset of the last event; -1: none */
    /* A request's */
    enum action action;
    unsigned room, target, seconds,
        number;       /* target: user of a ban; seconds: of it, or slow mode */
    bool open, again; /* again: under the same nonce */
    bool anew;        /* a command that was not carried out is given once more */
    bool aimed;       /* `room` is where the owner has just done something */
    uint64_t deadline_ns, said_ns;
    /* A listener's */
    struct bytes events[ROOMS];
    bool receiving;
    uint64_t begun_ns;
};

struct chat {
    struct run *run;
    struct web *web;
    struct http_client *http;
    struct worker *workers, *owner, *talkers;
    unsigned n, n_talkers, n_users, step;
    char (*tokens)[128]; /* of the users, the owner's last */
    uint64_t *banned;    /* by user: bits of rooms, as far as the owner knows */
    struct env_timer timer;
    bool final, done;
    int64_t last[ROOMS]; /* at the end: offset of what all listeners have to see; -1: not yet */
};

static uint64_t now_of(const struct chat *chat)
{
    return env_now_ns(run_env(chat->run));
}

static bool listens(const struct worker *w)
{
    return w->role == LISTENER || w->role == ROAMER;
}

/* --- Ends of requests --- */

static unsigned id_of(const struct worker *w)
{
    return w->p->slot * 100000 + w->number;
}

static void put_request(const struct worker *w, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "{:room %u", w->room);
    if (w->action == SAY) {
        (void)snprintf(out + n, size - n, ", :user %u, :id %u", w->user, id_of(w));
    } else if (w->action == SLOW) {
        (void)snprintf(out + n, size - n, ", :seconds %u", w->seconds);
    } else if (w->action == BAN) {
        (void)snprintf(out + n, size - n, ", :user %u, :for %u", w->target, w->seconds);
    } else {
        (void)snprintf(out + n, size - n, ", :user %u", w->target);
    }
}

static bool is_one_of(const char *code, const char *const *codes)
{
    for (; code != NULL && *codes != NULL; codes++) {
        if (strcmp(code, *codes) == 0) {
            return true;
        }
    }
    return false;
}

static void finish(struct worker *w, enum history_type type, const char *error, int64_t offset)
{
    static const char *const rules[] = {"banned", "slow_mode", "rate_limited", "not_found", NULL};
    struct chat *chat = w->chat;
    char text[128];
    put_request(w, text, sizeof(text));
    w->open = false;
    w->again = type == HISTORY_INFO && w->action == SAY;
    w->anew = w->action != SAY && type != HISTORY_OK && !is_one_of(error, rules);
    if (type == HISTORY_OK) {
        process_end(w->p, type, NULL, "%s, :offset %" PRId64 "}", text, offset);
        if (chat->final && w->action == SAY) {
            chat->last[w->room] = offset;
        }
    } else if (type == HISTORY_FAIL && is_one_of(error, rules)) {
        process_end(w->p, type, NULL, "%s, :refused :%s}", text, error);
    } else {
        process_end(w->p, type, error, "%s}", text);
    }
    if (w->action == BAN && type != HISTORY_FAIL) {
        chat->banned[w->target] |= w->seconds == 0 ? UINT64_C(1) << w->room : 0;
    } else if (w->action == UNBAN && type != HISTORY_INFO) {
        chat->banned[w->target] &= ~(UINT64_C(1) << w->room);
    }
    uint64_t ms = w->role == OWNER ? OWNER_MS : TALK_MS;
    w->p->next_ns = now_of(chat) + UINT64_C(1000000) * (ms / 8 + run_random(chat->run, ms));
}

static void nonce_of(const struct worker *w, char *out, size_t size)
{
    (void)snprintf(out, size, "%u-%u", w->p->slot, w->number);
}

static bool is_about_request(const struct worker *w, json_t *m)
{
    char nonce[48];
    const char *theirs = json_string_value(json_object_get(m, "nonce"));
    nonce_of(w, nonce, sizeof(nonce));
    return w->open && theirs != NULL && strcmp(theirs, nonce) == 0;
}

static void drop(struct worker *w);

static void on_error(struct worker *w, json_t *m)
{
    static const char *const unknown[] = {"unavailable", "unknown_outcome", NULL};
    static const char *const logged_out[] = {"bad_token", "unauthorized", NULL};
    const char *code = json_string_value(json_object_get(m, "code"));
    code = code != NULL ? code : "error";
    if (is_about_request(w, m)) {
        finish(w, is_one_of(code, unknown) ? HISTORY_INFO : HISTORY_FAIL, code, -1);
    }
    /* A node that is still starting knows no tokens: another does. */
    if (!listens(w) && (!w->authed || is_one_of(code, logged_out))) {
        drop(w);
    }
}

/* --- What a listener is shown --- */

static int64_t number(json_t *m, const char *name)
{
    return json_integer_value(json_object_get(m, name));
}

/* "u3" is 3, "owner" is OWNER_USER. */
static unsigned user_of(json_t *m, const char *name)
{
    const char *user = json_string_value(json_object_get(m, name));
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
                     json_string_value(json_object_get(m, "text")), user_of(m, "user"), ms);
    } else if (strcmp(type, "slow") == 0) {
        bytes_printf(out, " [%" PRId64 " :slow %" PRId64 " %" PRId64 " %u]", offset,
                     number(m, "seconds"), ms, user_of(m, "by"));
    } else if (strcmp(type, "ban") == 0) {
        bytes_printf(out, " [%" PRId64 " :ban %u %" PRId64 " %" PRId64 "]", offset,
                     user_of(m, "user"), ms, number(m, "until"));
    } else if (strcmp(type, "unban") == 0) {
        bytes_printf(out, " [%" PRId64 " :unban %u %" PRId64 "]", offset, user_of(m, "user"), ms);
    } else {
        return;
    }
    if (bytes_error(out) != 0) {
        run_failed(w->chat->run, "more events than a listener takes");
    }
    w->seen[room] = offset;
}

static const char *gateway_of(const struct worker *w)
{
    return run_hosts(w->chat->run)->at[w->gateway].name;
}

static void recv_begin(struct worker *w)
{
    process_invoke(w->p, "recv", "nil");
    w->receiving = true;
    w->begun_ns = now_of(w->chat);
}

static void recv_end(struct worker *w, unsigned room)
{
    w->receiving = false;
    process_end(w->p, HISTORY_OK, NULL, "{:room %u, :gateway \"%s\", :events [%.*s]}", room,
                gateway_of(w), (int)w->events[room].len, (const char *)w->events[room].data);
    bytes_reset(&w->events[room]);
    w->p->next_ns = 0;
}

static unsigned fullest(const struct worker *w)
{
    unsigned most = 0;
    for (unsigned r = 1; r < ROOMS; r++) {
        most = w->events[r].len > w->events[most].len ? r : most;
    }
    return most;
}

/* Older events are not kept: what it was shown before has nothing to do with what comes. */
static void begin_anew(struct worker *w, unsigned room)
{
    if (!w->receiving) {
        recv_begin(w);
    }
    recv_end(w, room);
    process_invoke(w->p, "join", "{:room %u, :gateway \"%s\"}", room, gateway_of(w));
    process_end(w->p, HISTORY_OK, NULL, "{:room %u, :gateway \"%s\"}", room, gateway_of(w));
}

/* --- The connection --- */

static void send_json(struct worker *w, json_t *m)
{
    char *text = json_dumps(m, JSON_COMPACT);
    json_decref(m);
    if (text != NULL && w->ws != NULL && w->opened) {
        (void)ws_client_send(w->ws, text, strlen(text));
    }
    free(text);
}

static void join(struct worker *w, unsigned room)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "room%u", room);
    w->join_ns[room] = now_of(w->chat) + JOIN_NS;
    send_json(w, json_pack("{s:s, s:s, s:I}", "type", "join", "room", name, "after",
                           (json_int_t)w->seen[room]));
}

static void on_joined(struct worker *w, json_t *m, unsigned room)
{
    w->joined[room] = true;
    if (!json_is_true(json_object_get(m, "resumed"))) {
        begin_anew(w, room);
    }
}

static void on_message(void *data, struct ws_client *c, const char *text, size_t n)
{
    struct worker *w = data;
    json_t *m = json_loadb(text, n, 0, NULL);
    const char *type = json_string_value(json_object_get(m, "type"));
    int room = room_of(m);
    bool in_room = listens(w) && room >= 0 && room < ROOMS;
    (void)c;
    w->heard_ns = now_of(w->chat);
    if (type == NULL) {
        run_failed(w->chat->run, "a gateway says what is no JSON");
    } else if (strcmp(type, "authed") == 0) {
        w->authed = true;
    } else if (strcmp(type, "ack") == 0 && is_about_request(w, m)) {
        finish(w, HISTORY_OK, NULL, number(m, "offset"));
    } else if (strcmp(type, "error") == 0) {
        on_error(w, m);
    } else if (strcmp(type, "joined") == 0 && in_room) {
        on_joined(w, m, (unsigned)room);
    } else if (strcmp(type, "lagged") == 0 && in_room) {
        w->joined[room] = false;
        join(w, (unsigned)room);
    } else if (in_room) {
        show(w, (unsigned)room, type, m);
    }
    json_decref(m);
}

static void on_opened(void *data, struct ws_client *c)
{
    struct worker *w = data;
    w->ws = c;
    w->opened = true;
    w->authed = listens(w);
    w->roam_ns = now_of(w->chat) + ROAM_NS;
    for (unsigned r = 0; r < ROOMS && listens(w); r++) {
        join(w, r);
    }
    if (!listens(w)) {
        unsigned who = w->role == OWNER ? w->chat->n_users : w->user;
        send_json(w, json_pack("{s:s, s:s}", "type", "auth", "token", w->chat->tokens[who]));
    }
}

/* The next gateway that is a member: a node that was removed serves nobody. */
static void move_on(struct worker *w)
{
    const struct hosts *h = run_hosts(w->chat->run);
    for (unsigned i = 0; i < h->founders; i++) {
        w->gateway = (w->gateway + 1) % h->founders;
        if (h->at[w->gateway].member) {
            return;
        }
    }
}

static void lost(struct worker *w)
{
    w->ws = NULL;
    w->opened = w->authed = false;
    memset(w->joined, 0, sizeof(w->joined));
    w->redial_ns = now_of(w->chat) + REDIAL_NS;
    if (w->role != LISTENER || !run_hosts(w->chat->run)->at[w->gateway].member) {
        move_on(w);
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

static void drop(struct worker *w)
{
    if (w->ws != NULL) {
        ws_client_free(w->ws);
        lost(w);
    }
}

static void dial(struct worker *w)
{
    struct ws_client_events events = {
        .data = w, .opened = on_opened, .message = on_message, .closed = on_closed};
    struct error err = {0};
    w->redial_ns = NEVER;
    w->heard_ns = now_of(w->chat);
    if (ws_client_dial(w->chat->http, run_hosts(w->chat->run)->at[w->gateway].address,
                       HOST_PORT_HTTP, "/chat", "weir.chat.v1", &events, &w->ws, &err) != 0) {
        lost(w);
    }
}

/* --- Requests --- */

static json_t *request_of(const struct worker *w)
{
    char nonce[48], room[16], user[16], said[16];
    nonce_of(w, nonce, sizeof(nonce));
    (void)snprintf(room, sizeof(room), "room%u", w->room);
    (void)snprintf(user, sizeof(user), "u%u", w->target);
    (void)snprintf(said, sizeof(said), "%u", id_of(w));
    switch (w->action) {
    case SAY:
        return json_pack("{s:s, s:s, s:s, s:s}", "type", "send", "room", room, "text", said,
                         "nonce", nonce);
    case SLOW:
        return json_pack("{s:s, s:s, s:i, s:s}", "type", "slow", "room", room, "seconds",
                         (int)w->seconds, "nonce", nonce);
    case BAN:
        return json_pack("{s:s, s:s, s:s, s:i, s:s}", "type", "ban", "room", room, "user", user,
                         "seconds", (int)w->seconds, "nonce", nonce);
    case UNBAN:
        return json_pack("{s:s, s:s, s:s, s:s}", "type", "unban", "room", room, "user", user,
                         "nonce", nonce);
    }
    return NULL;
}

static void ask(struct worker *w)
{
    char text[128];
    put_request(w, text, sizeof(text));
    process_invoke(w->p, names[w->action], "%s}", text);
    w->open = true;
    w->aimed = false;
    w->said_ns = now_of(w->chat);
    w->deadline_ns = w->said_ns + TIMEOUT_NS;
    send_json(w, request_of(w));
}

/* Those whom it is about speak now, at their own gateways: what they say and what the owner does
 * race to the log. */
static void have_speak(struct chat *chat, const struct worker *owner)
{
    uint64_t now = now_of(chat);
    for (unsigned i = 0; i < chat->n_talkers; i++) {
        struct worker *w = &chat->talkers[i];
        bool meant = owner->action == SLOW || w->user == owner->target;
        if (meant && !w->open && !w->again && now > w->said_ns + EAGER_NS) {
            w->aimed = true;
            w->room = owner->room;
            w->p->next_ns = now;
        }
    }
}

static void draw_command(struct worker *w)
{
    static const unsigned slow[] = {0, 0, 0, 1, 2, 3};
    static const enum action actions[] = {BAN, BAN, BAN, BAN, UNBAN, UNBAN, UNBAN, SLOW, SLOW, SAY};
    struct run *run = w->chat->run;
    w->action = actions[run_random(run, sizeof(actions) / sizeof(actions[0]))];
    w->target = (unsigned)run_random(run, w->chat->n_users);
    if (w->action == SLOW) {
        w->seconds = slow[run_random(run, sizeof(slow) / sizeof(slow[0]))];
    } else if (w->action == BAN) { /* for ever, or for one to three seconds */
        w->seconds = (unsigned)(run_random(run, 2) * (1 + run_random(run, 3)));
    }
    for (unsigned i = 0; w->action == UNBAN && i < w->chat->n_users; i++) {
        unsigned user = (w->target + i) % w->chat->n_users;
        if ((w->chat->banned[user] >> w->room & 1) != 0) {
            w->target = user;
            break;
        }
    }
}

static void next(void *state, struct process *p)
{
    struct chat *chat = state;
    struct worker *w = &chat->workers[p->slot];
    if (listens(w)) {
        recv_begin(w);
        return;
    }
    if (!w->authed) {
        return;
    }
    w->number += w->anew;
    if (!w->again && !w->anew) {
        w->number++;
        w->action = SAY;
        w->room = w->aimed ? w->room : (unsigned)run_random(chat->run, ROOMS);
    }
    if (!w->again && !w->anew && w->role == OWNER) {
        draw_command(w);
    }
    ask(w);
    if (w->role == OWNER && (w->action == BAN || w->action == SLOW)) {
        have_speak(chat, w);
    }
}

/* --- The clock --- */

static void sweep_connection(struct worker *w, uint64_t now)
{
    if (w->ws == NULL) {
        if (now >= w->redial_ns) {
            dial(w);
        }
        return;
    }
    if (now > w->heard_ns + SILENCE_NS || (w->open && now > w->deadline_ns) ||
        (w->role == ROAMER && w->opened && now > w->roam_ns && !w->chat->final)) {
        drop(w);
        return;
    }
    if (w->opened && now >= w->ping_ns) {
        w->ping_ns = now + PING_NS;
        send_json(w, json_pack("{s:s}", "type", "ping"));
    }
    for (unsigned r = 0; r < ROOMS && w->opened && listens(w); r++) {
        if (!w->joined[r] && now >= w->join_ns[r]) {
            join(w, r);
        }
    }
}

static void sweep(struct chat *chat, uint64_t now)
{
    for (unsigned i = 0; i < chat->n; i++) {
        struct worker *w = &chat->workers[i];
        sweep_connection(w, now);
        if (w->receiving && (w->events[fullest(w)].len > 0 || now > w->begun_ns + RECV_NS)) {
            recv_end(w, fullest(w));
        }
    }
}

/* The owner says one thing more in each room; the listeners are done when all have seen it. */
static void sweep_final(struct chat *chat)
{
    struct worker *owner = chat->owner;
    bool done = true, busy = false;
    for (unsigned r = 0; r < ROOMS; r++) {
        done = done && chat->last[r] >= 0;
        if (chat->last[r] < 0 && !owner->open && owner->authed &&
            now_of(chat) > owner->p->next_ns) {
            owner->number += !owner->again;
            owner->room = owner->again ? owner->room : r;
            owner->action = SAY;
            ask(owner);
        }
    }
    for (struct worker *w = chat->workers; w < chat->owner; w++) {
        for (unsigned r = 0; r < ROOMS; r++) {
            done = done && w->seen[r] >= chat->last[r] && w->events[r].len == 0;
        }
        if (!w->p->busy && !done) {
            recv_begin(w);
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
    sweep(chat, now_of(chat));
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
    if (token != NULL && chat->step / 2 <= chat->n_users) {
        (void)snprintf(chat->tokens[chat->step / 2], sizeof(chat->tokens[0]), "%s", token);
    }
    chat->step += status == 200 || status == 201 || status == 409;
    make_next(chat);
}

static void make_next(struct chat *chat)
{
    const struct host *host = &run_hosts(chat->run)->at[0];
    unsigned who = chat->step / 2, people = chat->n_users + 1;
    char name[16], path[64];
    (void)snprintf(name, sizeof(name), who == chat->n_users ? "owner" : "u%u", who);
    if (who < people && chat->step % 2 == 0) {
        web_ask(chat->web, host, "POST", "/api/admin/users", json_pack("{s:s}", "name", name),
                on_made, chat);
    } else if (who < people) {
        (void)snprintf(path, sizeof(path), "/api/admin/users/%s/tokens", name);
        web_ask(chat->web, host, "POST", path, NULL, on_made, chat);
    } else if (chat->step < 2 * people + ROOMS) {
        (void)snprintf(name, sizeof(name), "room%u", chat->step - 2 * people);
        web_ask(chat->web, host, "POST", "/api/admin/channels",
                json_pack("{s:s, s:s}", "name", name, "owner", "owner"), on_made, chat);
    } else {
        env_timer_start(&chat->timer, 0, on_timer); /* dials */
        run_started(chat->run);
    }
}

static void make_worker(struct chat *chat, unsigned i, unsigned listeners)
{
    unsigned gateways = run_hosts(chat->run)->founders;
    struct worker *w = &chat->workers[i];
    assert(gateways > 0);
    w->chat = chat;
    w->p = run_process(chat->run, i);
    w->role = i < gateways ? LISTENER : i < listeners ? ROAMER : i == listeners ? OWNER : TALKER;
    w->gateway = i % gateways;
    w->user = w->role == TALKER ? (i - listeners - 1) / 2 : OWNER_USER;
    memset(w->seen, -1, sizeof(w->seen));
    for (unsigned r = 0; r < ROOMS; r++) {
        bytes_init(&w->events[r], EVENTS_MAX);
    }
}

static void chat_free(struct chat *chat)
{
    web_close(chat->web);
    if (chat->http != NULL) {
        http_client_free(chat->http);
    }
    free(chat->tokens);
    free(chat->banned);
    free(chat->workers);
    free(chat);
}

static int start(struct run *run, void **ret_state, struct error *err)
{
    unsigned listeners = run_hosts(run)->founders + 1, n = run_n_processes(run);
    struct chat *chat = calloc(1, sizeof(*chat));
    if (chat == NULL || n < listeners + 3) {
        free(chat);
        return error_set(err, WEIR_EINVAL, "chat needs %u processes", listeners + 3);
    }
    chat->run = run;
    chat->n = n;
    chat->n_talkers = n - listeners - 1;
    chat->n_users = (chat->n_talkers + 1) / 2;
    chat->workers = calloc(n, sizeof(*chat->workers));
    chat->tokens = calloc(chat->n_users + 1, sizeof(*chat->tokens));
    chat->banned = calloc(chat->n_users, sizeof(*chat->banned));
    bool memory = chat->workers != NULL && chat->tokens != NULL && chat->banned != NULL;
    int rv = memory ? web_open(run, &chat->web, err) : error_set(err, WEIR_ENOMEM, "no memory");
    rv = rv == 0 ? http_client_new(run_env(run), &chat->http, err) : rv;
    rv = rv == 0 ? env_timer_init(run_env(run), &chat->timer) : rv;
    if (rv != 0) {
        chat_free(chat);
        return rv;
    }
    chat->timer.data = chat;
    chat->owner = &chat->workers[listeners];
    chat->talkers = chat->owner + 1;
    memset(chat->last, -1, sizeof(chat->last));
    for (unsigned i = 0; i < n; i++) {
        make_worker(chat, i, listeners);
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
        struct worker *w = &chat->workers[i];
        if (w->ws != NULL) {
            ws_client_free(w->ws);
        }
        for (unsigned r = 0; r < ROOMS; r++) {
            bytes_close(&w->events[r]);
        }
    }
    chat_free(chat);
    run_stopped(run);
}

const struct workload workload_chat = {
    .name = "chat",
    .about = "rooms on every gateway: messages, bans, slow mode",
    .checker = "chat",
    /* A gateway lets more through than the fold: what counts is decided in the log. */
    .config = "log.segment_mib = 4\nlog.free_mib_min = 32\nchat.rate_ms = 0",
    .views = true,
    .processes = 24,
    .pause_us = 50000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
