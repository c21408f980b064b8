/* What clients say: one table of commands. A bad one is answered with an error that says what was
 * wrong; the connection lives. */
#include <string.h>

#include "nodes/chat/chat_priv.h"
#include "nodes/chat/json_out.h"

/* What a command may ask of the connection before it runs. */
enum {
    NEEDS_ROOM = 1,
    NEEDS_USER = 2,
    NEEDS_OWNER = 4, /* of the room */
};

struct request {
    const json_t *json;
    const char *room, *nonce;
    struct account_channel channel; /* with NEEDS_ROOM */
};

/* --- Members of a request
 * ------------------------------------------------------------------------------------------ */

/* "" when absent; NULL when it is something else than a string, or a string with NUL in it. */
static const char *get_text(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    if (value == NULL || json_is_null(value)) {
        return "";
    }
    const char *text = json_string_value(value);
    return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

/* False when it is something else than a whole number in [min, max]. Absent: `absent`. */
static bool get_number(const json_t *json, const char *name, int64_t min, int64_t max,
                       int64_t absent, int64_t *ret_value)
{
    const json_t *value = json_object_get(json, name);
    if (value == NULL || json_is_null(value)) {
        *ret_value = absent;
        return true;
    }
    if (!json_is_integer(value)) {
        return false;
    }
    *ret_value = json_integer_value(value);
    return *ret_value >= min && *ret_value <= max;
}

static void bad_request(struct conn *c, const struct request *r, const char *what)
{
    conn_error(c, "bad_request", r->nonce, "%s", what);
}

/* --- Commands
 * -------------------------------------------------------------------------------------------------------
 */

/* Whose the token is now; else the client has been told. */
static bool check_token(struct conn *c, const char *token, const char *nonce,
                        struct account_identity *ret_id)
{
    int rv = accounts_by_token(c->chat->views, token, ret_id);
    if (rv == WEIR_EAUTH && !views_ready(c->chat->views)) {
        rv = WEIR_EUNAVAILABLE; /* it may be in what has not been read yet */
    }
    if (rv == WEIR_EAUTH) {
        c->user[0] = '\0';
        conn_error(c, "bad_token", nonce, "this token is unknown or has been revoked");
    } else if (rv < 0) {
        conn_error(c, "unavailable", nonce, "tokens cannot be checked now: %s", error_name(rv));
    }
    return rv == 0;
}

static void do_auth(struct conn *c, const struct request *r)
{
    struct account_identity id;
    const char *token = get_text(r->json, "token");
    if (token == NULL || strlen(token) >= sizeof(c->token)) {
        token = "";
    }
    if (!check_token(c, token, r->nonce, &id)) {
        return;
    }
    if (id.n_scopes > 0 && !account_has_scope(&id, "chat")) {
        conn_error(c, "forbidden", r->nonce, "this token is not for chat");
        return;
    }
    memcpy(c->token, token, strlen(token) + 1);
    memcpy(c->user, id.user.name, sizeof(c->user));
    memcpy(c->display_name, id.user.display_name, sizeof(c->display_name));
    struct bytes json;
    bytes_init(&json, 1024);
    bytes_printf(&json, "{\"type\":\"authed\"");
    json_put_member(&json, "user", c->user);
    json_put_member(&json, "display_name", c->display_name);
    bytes_put_u8(&json, '}');
    conn_send_json(c, &json);
    bytes_close(&json);
}

static void send_joined(struct conn *c, const char *room, int64_t offset, bool resumed,
                        uint32_t slow_s)
{
    struct bytes json;
    bytes_init(&json, 1024);
    bytes_printf(&json, "{\"type\":\"joined\"");
    json_put_member(&json, "room", room);
    json_put_number(&json, "offset", offset);
    json_put_number(&json, "slow", slow_s);
    bytes_printf(&json, ",\"resumed\":%s}", resumed ? "true" : "false");
    conn_send_json(c, &json);
    bytes_close(&json);
}

/* Joins after the request was found good. */
static void join(struct conn *c, const struct request *r, int64_t after, unsigned history)
{
    struct room *room = NULL;
    struct sub *sub = NULL;
    int64_t begins = -1;
    uint32_t slow_s = 0;
    int rv = chat_slow(c->chat->views, r->room, &slow_s);
    if (rv == 0) {
        rv = room_get(c->chat, r->room, &room);
    }
    if (rv == 0) {
        rv = sub_new(c, room, &sub);
    }
    if (rv == 0 && after >= -1) {
        rv = sub_resume(sub, after, &begins);
    } else if (rv == 0) {
        sub_begin(sub);
        begins = sub->after;
    }
    if (rv < 0) {
        if (sub != NULL) {
            sub_free(sub);
        }
        conn_error(c, "unavailable", r->nonce, "cannot join %s now: %s", r->room, error_name(rv));
        return;
    }
    send_joined(c, r->room, begins, after >= -1 && begins == after, slow_s);
    if (history > 0) {
        conn_send_history(c, r->room, r->channel.owner, begins + 1, history);
    }
    if (after >= -1) {
        ws_want_write(c->ws); /* what it has missed follows */
    }
}

static void do_join(struct conn *c, const struct request *r)
{
    int64_t after, history;
    if (!get_number(r->json, "after", -1, INT64_MAX - 1, -2, &after) ||
        !get_number(r->json, "history", 0, CHAT_HISTORY_MAX, 0, &history)) {
        bad_request(c, r, "after is an offset, history a number up to 100");
        return;
    }
    if (conn_sub(c, r->room) != NULL) {
        bad_request(c, r, "already in this room");
        return;
    }
    if (c->n_subs >= CHAT_ROOMS_PER_CONN_MAX) {
        conn_error(c, "too_many_rooms", r->nonce, "at most %d rooms", CHAT_ROOMS_PER_CONN_MAX);
        return;
    }
    join(c, r, after, after >= -1 ? 0 : (unsigned)history);
}

static void do_leave(struct conn *c, const struct request *r)
{
    struct sub *sub = conn_sub(c, r->room);
    if (sub == NULL) {
        bad_request(c, r, "not in this room");
        return;
    }
    sub_free(sub);
    struct bytes json;
    bytes_init(&json, 1024);
    bytes_printf(&json, "{\"type\":\"left\"");
    json_put_member(&json, "room", r->room);
    bytes_put_u8(&json, '}');
    conn_send_json(c, &json);
    bytes_close(&json);
}

static void do_send(struct conn *c, const struct request *r)
{
    const char *text = get_text(r->json, "text");
    if (text == NULL || !chat_text_valid(text)) {
        conn_error(c, "bad_text", r->nonce, "text is 1 to %d characters without control characters",
                   CHAT_TEXT_CODEPOINTS_MAX);
        return;
    }
    conn_submit_message(c, r->room, text, strcmp(c->user, r->channel.owner) == 0, r->nonce);
}

static void do_ban(struct conn *c, const struct request *r)
{
    int64_t seconds;
    const char *user = get_text(r->json, "user"), *reason = get_text(r->json, "reason");
    if (user == NULL || !account_name_valid(user)) {
        bad_request(c, r, "user is not a user name");
    } else if (reason == NULL || strlen(reason) > CHAT_REASON_MAX ||
               (reason[0] != '\0' && !chat_text_valid(reason))) {
        bad_request(c, r, "reason is at most 500 bytes of text");
    } else if (!get_number(r->json, "seconds", 0, CHAT_BAN_SECONDS_MAX, 0, &seconds)) {
        bad_request(c, r, "seconds is 0 (for ever) to 31622400");
    } else if (strcmp(user, r->channel.owner) == 0) {
        conn_error(c, "forbidden", r->nonce, "the owner cannot be banned");
    } else {
        conn_submit_ban(c, r->room, user, (uint32_t)seconds, reason, r->nonce);
    }
}

static void do_unban(struct conn *c, const struct request *r)
{
    const char *user = get_text(r->json, "user");
    if (user == NULL || !account_name_valid(user)) {
        bad_request(c, r, "user is not a user name");
        return;
    }
    conn_submit_unban(c, r->room, user, r->nonce);
}

static void do_slow(struct conn *c, const struct request *r)
{
    int64_t seconds;
    if (!get_number(r->json, "seconds", 0, CHAT_SLOW_SECONDS_MAX, -1, &seconds) || seconds < 0) {
        bad_request(c, r, "seconds is 0 (off) to 3600");
        return;
    }
    conn_submit_slow(c, r->room, (uint32_t)seconds, r->nonce);
}

static void do_delete(struct conn *c, const struct request *r)
{
    int64_t offset;
    if (!get_number(r->json, "offset", 0, INT64_MAX - 1, -1, &offset) || offset < 0) {
        bad_request(c, r, "offset is a message's offset");
        return;
    }
    conn_submit_delete(c, r->room, offset, r->nonce);
}

static void do_history(struct conn *c, const struct request *r)
{
    int64_t before, limit;
    if (!get_number(r->json, "before", 0, INT64_MAX, INT64_MAX, &before) ||
        !get_number(r->json, "limit", 1, CHAT_HISTORY_MAX, 50, &limit)) {
        bad_request(c, r, "before is an offset, limit 1 to 100");
        return;
    }
    conn_send_history(c, r->room, r->channel.owner, before, (unsigned)limit);
}

static void do_ping(struct conn *c, const struct request *r)
{
    struct bytes json;
    bytes_init(&json, 1024);
    bytes_printf(&json, "{\"type\":\"pong\"");
    if (r->nonce[0] != '\0') {
        json_put_member(&json, "nonce", r->nonce);
    }
    bytes_put_u8(&json, '}');
    conn_send_json(c, &json);
    bytes_close(&json);
}

static const struct command {
    const char *name;
    unsigned needs;
    void (*run)(struct conn *c, const struct request *r);
} commands[] = {
    {"auth", 0, do_auth},
    {"join", NEEDS_ROOM, do_join},
    {"leave", NEEDS_ROOM, do_leave},
    {"send", NEEDS_ROOM | NEEDS_USER, do_send},
    {"ban", NEEDS_ROOM | NEEDS_USER | NEEDS_OWNER, do_ban},
    {"unban", NEEDS_ROOM | NEEDS_USER | NEEDS_OWNER, do_unban},
    {"slow", NEEDS_ROOM | NEEDS_USER | NEEDS_OWNER, do_slow},
    {"delete", NEEDS_ROOM | NEEDS_USER | NEEDS_OWNER, do_delete},
    {"history", NEEDS_ROOM, do_history},
    {"ping", 0, do_ping},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* What the command needs is there; else the client has been told. */
static bool admit(struct conn *c, const struct command *command, struct request *r)
{
    struct account_identity id;
    if ((command->needs & NEEDS_USER) != 0 && c->user[0] == '\0') {
        conn_error(c, "unauthorized", r->nonce, "%s needs a token: send auth first", command->name);
        return false;
    }
    if ((command->needs & NEEDS_USER) != 0 && !check_token(c, c->token, r->nonce, &id)) {
        return false;
    }
    if ((command->needs & NEEDS_ROOM) == 0) {
        return true;
    }
    int rv = r->room == NULL || !account_name_valid(r->room)
                 ? WEIR_ENOTFOUND
                 : accounts_channel(c->chat->views, r->room, &r->channel);
    if (rv == WEIR_ENOTFOUND && !views_ready(c->chat->views)) {
        rv = WEIR_EUNAVAILABLE;
    }
    if (rv < 0) {
        conn_error(c, rv == WEIR_ENOTFOUND ? "room_not_found" : "unavailable", r->nonce,
                   rv == WEIR_ENOTFOUND ? "there is no such room" : "this node is still starting");
        return false;
    }
    if ((command->needs & NEEDS_OWNER) != 0 && strcmp(c->user, r->channel.owner) != 0) {
        conn_error(c, "forbidden", r->nonce, "only the owner of %s may do this", r->room);
        return false;
    }
    return true;
}

static void run_request(struct conn *c, const json_t *json)
{
    struct request r = {
        .json = json, .room = get_text(json, "room"), .nonce = get_text(json, "nonce")};
    const char *type = get_text(json, "type");
    const struct command *command = find_command(type);
    if (r.nonce == NULL || strlen(r.nonce) > CHAT_NONCE_MAX ||
        (r.nonce[0] != '\0' && !chat_text_valid(r.nonce))) {
        conn_error(c, "bad_request", NULL, "nonce is at most %d bytes of text", CHAT_NONCE_MAX);
        return;
    }
    if (command == NULL) {
        conn_error(
            c, "bad_request", r.nonce,
            "type is one of auth, join, leave, send, ban, unban, slow, delete, history, ping");
        return;
    }
    if (admit(c, command, &r)) {
        command->run(c, &r);
    }
}

/* True when the client says more than anyone has to say in a second. */
static bool too_many(struct conn *c)
{
    uint32_t now_s = (uint32_t)(env_now_ns(c->chat->env) / 1000000000u);
    if (c->window_s != now_s) {
        c->window_s = now_s;
        c->n_commands = 0;
    }
    c->n_commands++;
    if (c->n_commands > CHAT_ABUSE_PER_S_MAX) {
        ws_close(c->ws, 1008, "too many commands");
        return true;
    }
    if (c->n_commands > CHAT_COMMANDS_PER_S_MAX) {
        conn_error(c, "too_fast", NULL, "at most %d commands a second", CHAT_COMMANDS_PER_S_MAX);
        return true;
    }
    return false;
}

void conn_message(void *data, struct ws_conn *ws, const uint8_t *text, size_t n, bool binary)
{
    (void)data;
    struct conn *c = ws_user(ws);
    json_error_t where;
    if (too_many(c)) {
        return;
    }
    json_t *json =
        binary ? NULL : json_loadb((const char *)text, n, JSON_REJECT_DUPLICATES, &where);
    if (binary) {
        conn_error(c, "bad_json", NULL, "a message is a JSON object in a text frame");
    } else if (json == NULL) {
        /* The library's text may hold a piece of a character of what was sent. */
        for (char *p = where.text; *p != '\0'; p++) {
            *p = (unsigned char)*p < 0x80 ? *p : '?';
        }
        conn_error(c, "bad_json", NULL, "at byte %d: %s", where.position, where.text);
    } else if (!json_is_object(json)) {
        conn_error(c, "bad_json", NULL, "a message is a JSON object");
    } else {
        run_request(c, json);
    }
    json_decref(json);
}
