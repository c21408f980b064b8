/* Records that clients ask for: checked here to answer fast, decided by the fold in log order, and
 * acknowledged when this node's own view has folded them. */
#include <stdlib.h>
#include <string.h>

#include "nodes/chat/chat_priv.h"
#include "nodes/chat/json_out.h"
#include "proto/chat.pb-c.h"

static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text; /* protobuf-c's structs are not const; packing only reads */
}

/* --- Answers
 * -----------------------------------------------------------------------------------------------------
 */

static void send_ack(struct conn *c, const struct submission *s, int64_t offset)
{
    struct bytes json;
    bytes_init(&json, 1024);
    bytes_printf(&json, "{\"type\":\"ack\"");
    json_put_member(&json, "room", s->room);
    json_put_member(&json, "nonce", s->nonce);
    json_put_number(&json, "offset", offset);
    bytes_put_u8(&json, '}');
    conn_send_json(c, &json);
    bytes_close(&json);
}

static void answer_verdict(struct conn *c, const struct submission *s, enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_OK:
        send_ack(c, s, s->submit.offset);
        break;
    case VERDICT_DUPLICATE: /* stored before: under this nonce it counts once */
        send_ack(c, s, s->duplicate_of >= 0 ? s->duplicate_of : s->submit.offset);
        break;
    case VERDICT_BANNED:
        conn_error(c, "banned", s->nonce, "you are banned from %s", s->room);
        break;
    case VERDICT_SLOW:
        conn_error_slow(c, s->nonce, s->room, s->wait_ms);
        break;
    case VERDICT_RATE:
        conn_error(c, "rate_limited", s->nonce, "one message a second");
        break;
    case VERDICT_NOT_FOUND:
        conn_error(c, "not_found", s->nonce, "there is no such message or ban in %s", s->room);
        break;
    default:
        conn_error(c, verdict_name(verdict), s->nonce, "refused: %s", verdict_name(verdict));
        break;
    }
}

static void on_submitted(struct view_submit *req, int status, enum verdict verdict)
{
    struct submission *s = req->data;
    struct conn *c = s->conn;
    if (c != NULL) {
        list_remove(&s->by_conn);
        c->n_sends--;
    }
    if (s->chat != NULL) {
        list_remove(&s->link);
    }
    if (c != NULL && status == 0) {
        answer_verdict(c, s, verdict);
    } else if (c != NULL) {
        conn_error(c, status == WEIR_EUNKNOWN ? "unknown_outcome" : "unavailable", s->nonce,
                   "%s; sending it again with this nonce is safe", error_name(status));
    }
    free(s);
}

/* --- Sending
 * ------------------------------------------------------------------------------------------------------
 */

static void copy_text(char *out, size_t size, const char *text)
{
    size_t n = strnlen(text, size - 1);
    memcpy(out, text, n);
    out[n] = '\0';
}

static void make_nonce(struct conn *c, char *out)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t random[16];
    env_random(c->chat->env, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++) {
        out[2 * i] = hex[random[i] >> 4];
        out[2 * i + 1] = hex[random[i] & 15];
    }
    out[2 * sizeof(random)] = '\0';
}

static struct submission *submission_new(struct conn *c, const char *room, const char *nonce)
{
    if (c->n_sends >= CHAT_SENDS_PER_CONN_MAX) {
        conn_error(c, "busy", nonce, "%d of yours are not yet acknowledged",
                   CHAT_SENDS_PER_CONN_MAX);
        return NULL;
    }
    struct submission *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        conn_error(c, "unavailable", nonce, "out of memory");
        return NULL;
    }
    s->chat = c->chat;
    s->conn = c;
    s->duplicate_of = -1;
    s->submit.data = s;
    copy_text(s->room, sizeof(s->room), room);
    copy_text(s->user, sizeof(s->user), c->user);
    copy_text(s->nonce, sizeof(s->nonce), nonce);
    return s;
}

static Weir__ChatRecord record_of(struct submission *s, Weir__ChatRecord__BodyCase body)
{
    Weir__ChatRecord record = WEIR__CHAT_RECORD__INIT;
    record.room = s->room;
    record.body_case = body;
    return record;
}

/* Packs and hands over; the answer comes later. */
static bool submission_start(struct submission *s, const Weir__ChatRecord *record)
{
    struct conn *c = s->conn;
    uint8_t packed[CHAT_COMMAND_MAX];
    size_t n = weir__chat_record__get_packed_size(record);
    int rv = WEIR_ETOOBIG;
    if (n <= sizeof(packed)) {
        (void)weir__chat_record__pack(record, packed);
        rv = views_submit(s->chat->views, VIEW_CHAT, s->room, packed, n, &s->submit, on_submitted);
    }
    if (rv < 0) {
        conn_error(c, rv == WEIR_EBUSY ? "busy" : "unavailable", s->nonce, "not sent: %s",
                   error_name(rv));
        free(s);
        return false;
    }
    list_push_back(&s->chat->submissions, &s->link);
    list_push_back(&c->sends, &s->by_conn);
    c->n_sends++;
    return true;
}

/* One message per chat.rate_ms and user. The table forgets when two users meet in a slot: the fold
 * decides anyway. */
static struct rate_slot *rate_slot(struct chat *chat, const char *user, uint64_t *ret_hash)
{
    *ret_hash = chat_hash(chat, user);
    return &chat->rates[*ret_hash % CHAT_RATE_SLOTS];
}

/* Whether the view says now that the message can't pass; then the client has been told. Bans and
 * slow mode end by the log's time: with a clock behind that they would seem to last longer. */
static bool refused_now(struct conn *c, const char *room, bool exempt, const char *nonce)
{
    struct views *views = c->chat->views;
    struct chat_ban ban;
    int64_t wait_ms = 0, now_ms = env_wall_ms(c->chat->env);
    if (now_ms + CHAT_CLOCK_BEHIND_MS < c->chat->log_ms) {
        return false;
    }
    if (chat_ban_of(views, room, c->user, now_ms, &ban) == 0) {
        conn_error(c, "banned", nonce, "you are banned from %s%s%s", room,
                   ban.reason[0] != '\0' ? ": " : "", ban.reason);
        return true;
    }
    if (!exempt && chat_slow_wait(views, room, c->user, now_ms, &wait_ms) == 0 && wait_ms > 0) {
        conn_error_slow(c, nonce, room, wait_ms);
        return true;
    }
    return false;
}

void conn_submit_message(struct conn *c, const char *room, const char *text, bool exempt,
                         const char *nonce)
{
    struct chat *chat = c->chat;
    uint64_t hash, now = env_now_ns(chat->env);
    struct rate_slot *slot = rate_slot(chat, c->user, &hash);
    if (slot->user == hash && now < slot->next_ns) {
        conn_error(c, "rate_limited", nonce, "one message every %u ms",
                   chat->node->config->chat_rate_ms);
        return;
    }
    if (refused_now(c, room, exempt, nonce)) {
        return;
    }
    struct submission *s = submission_new(c, room, nonce);
    if (s == NULL) {
        return;
    }
    if (nonce[0] == '\0') {
        make_nonce(c, s->nonce);
    }
    Weir__ChatMessage message = WEIR__CHAT_MESSAGE__INIT;
    Weir__ChatRecord record = record_of(s, WEIR__CHAT_RECORD__BODY_MESSAGE);
    message.user = c->user;
    message.display_name = c->display_name;
    message.text = text_of(text);
    message.nonce = s->nonce;
    message.exempt = exempt;
    record.message = &message;
    if (submission_start(s, &record)) {
        *slot = (struct rate_slot){
            .user = hash, .next_ns = now + (uint64_t)chat->node->config->chat_rate_ms * 1000000};
        metric_add(chat->messages, 1);
    }
}

void conn_submit_ban(struct conn *c, const char *room, const char *user, uint32_t seconds,
                     const char *reason, const char *nonce)
{
    struct submission *s = submission_new(c, room, nonce);
    if (s == NULL) {
        return;
    }
    Weir__ChatBan ban = WEIR__CHAT_BAN__INIT;
    Weir__ChatRecord record = record_of(s, WEIR__CHAT_RECORD__BODY_BAN);
    ban.user = text_of(user);
    ban.by = c->user;
    ban.reason = text_of(reason);
    ban.seconds = seconds;
    record.ban = &ban;
    (void)submission_start(s, &record);
}

void conn_submit_unban(struct conn *c, const char *room, const char *user, const char *nonce)
{
    struct submission *s = submission_new(c, room, nonce);
    if (s == NULL) {
        return;
    }
    Weir__ChatUnban unban = WEIR__CHAT_UNBAN__INIT;
    Weir__ChatRecord record = record_of(s, WEIR__CHAT_RECORD__BODY_UNBAN);
    unban.user = text_of(user);
    unban.by = c->user;
    record.unban = &unban;
    (void)submission_start(s, &record);
}

void conn_submit_slow(struct conn *c, const char *room, uint32_t seconds, const char *nonce)
{
    struct submission *s = submission_new(c, room, nonce);
    if (s == NULL) {
        return;
    }
    Weir__ChatSlow slow = WEIR__CHAT_SLOW__INIT;
    Weir__ChatRecord record = record_of(s, WEIR__CHAT_RECORD__BODY_SLOW);
    slow.seconds = seconds;
    slow.by = c->user;
    record.slow = &slow;
    (void)submission_start(s, &record);
}

void conn_submit_delete(struct conn *c, const char *room, int64_t offset, const char *nonce)
{
    struct submission *s = submission_new(c, room, nonce);
    if (s == NULL) {
        return;
    }
    Weir__ChatDelete del = WEIR__CHAT_DELETE__INIT;
    Weir__ChatRecord record = record_of(s, WEIR__CHAT_RECORD__BODY_DELETE);
    del.offset = offset;
    del.by = c->user;
    record.delete_ = &del;
    (void)submission_start(s, &record);
}

void conn_forget_submissions(struct conn *c)
{
    for (struct list *it = list_pop(&c->sends); it != NULL; it = list_pop(&c->sends)) {
        list_entry(it, struct submission, by_conn)->conn = NULL;
    }
    c->n_sends = 0;
}

void chat_forget_submissions(struct chat *chat)
{
    for (struct list *it = list_pop(&chat->submissions); it != NULL;
         it = list_pop(&chat->submissions)) {
        list_entry(it, struct submission, link)->chat = NULL;
    }
}

void chat_note_void(struct chat *chat, const struct view_event *event)
{
    const Weir__ChatRecord *record = event->record;
    const struct chat_outcome *outcome = event->outcome;
    if (record->body_case != WEIR__CHAT_RECORD__BODY_MESSAGE) {
        return;
    }
    LIST_FOREACH(it, &chat->submissions)
    {
        struct submission *s = list_entry(it, struct submission, link);
        if (strcmp(s->nonce, record->message->nonce) == 0 &&
            strcmp(s->user, record->message->user) == 0 && strcmp(s->room, record->room) == 0) {
            s->duplicate_of = outcome->duplicate_of;
            s->wait_ms = outcome->retry_after_ms;
        }
    }
}
