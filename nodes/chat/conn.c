/* A client's connection: what it is sent. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nodes/chat/chat_priv.h"
#include "nodes/chat/json_out.h"

_Static_assert(sizeof(struct conn) <= 256, "what an idle connection may cost us");

int conn_opened(void *data, struct ws_conn *ws, const char *protocol)
{
    struct chat *chat = data;
    struct conn *c = ws_user(ws);
    (void)protocol;
    c->chat = chat;
    c->ws = ws;
    bytes_init(&c->out, CHAT_OUT_MAX);
    list_init(&c->sends);
    metric_add(chat->connections, 1);
    struct bytes *json = &chat->scratch;
    bytes_reset(json);
    bytes_printf(json, "{\"type\":\"welcome\"");
    json_put_member(json, "node", chat->node->config->node_name);
    bytes_put_u8(json, '}');
    conn_send_json(c, json);
    return 0;
}

void conn_closed(void *data, struct ws_conn *ws)
{
    struct chat *chat = data;
    struct conn *c = ws_user(ws);
    while (c->subs != NULL) {
        sub_free(c->subs);
    }
    conn_forget_submissions(c);
    bytes_close(&c->out);
    metric_add(chat->connections, -1);
}

bool conn_flush(struct conn *c)
{
    if (ws_blocked(c->ws)) {
        ws_want_write(c->ws);
        return false;
    }
    if (c->out.len == 0) {
        return true;
    }
    if (!ws_send_raw(c->ws, c->out.data, c->out.len)) {
        return false;
    }
    bytes_close(&c->out); /* libwebsockets keeps what the socket did not take */
    if (ws_blocked(c->ws)) {
        ws_want_write(c->ws);
        return false;
    }
    return true;
}

void conn_writable(void *data, struct ws_conn *ws)
{
    (void)data;
    struct conn *c = ws_user(ws);
    if (!conn_flush(c)) {
        return;
    }
    struct sub *next;
    for (struct sub *sub = c->subs; sub != NULL; sub = next) {
        next = sub->next;
        if (sub->catching) {
            sub_catch_up(sub);
        } else {
            sub_push(sub);
        }
    }
}

void conn_send_frames(struct conn *c, const void *frames, size_t n)
{
    if (c->out.len == 0 && !ws_blocked(c->ws)) {
        (void)ws_send_raw(c->ws, frames, n);
        return;
    }
    bytes_put(&c->out, frames, n);
    if (bytes_error(&c->out) != 0) {
        ws_close(c->ws, 1008, "too much left unread");
        return;
    }
    ws_want_write(c->ws);
}

void conn_send_json(struct conn *c, const struct bytes *json)
{
    uint8_t header[10];
    if (json->error != 0) {
        ws_close(c->ws, 1011, "out of memory");
        return;
    }
    size_t n = ws_frame_header(header, json->len, true);
    if (c->out.len > 0 || ws_blocked(c->ws)) {
        conn_send_frames(c, header, n);
        conn_send_frames(c, json->data, json->len);
        return;
    }
    struct bytes frame;
    bytes_init(&frame, CHAT_OUT_MAX);
    bytes_put(&frame, header, n);
    bytes_put(&frame, json->data, json->len);
    if (frame.error == 0) {
        conn_send_frames(c, frame.data, frame.len);
    } else {
        ws_close(c->ws, 1011, "out of memory");
    }
    bytes_close(&frame);
}

/* `seconds` 0: none are told. */
static void send_error(struct conn *c, const char *code, const char *nonce, int64_t seconds,
                       const char *text)
{
    struct bytes json;
    bytes_init(&json, 4096);
    bytes_printf(&json, "{\"type\":\"error\"");
    json_put_member(&json, "code", code);
    json_put_member(&json, "message", text);
    if (nonce != NULL && nonce[0] != '\0') {
        json_put_member(&json, "nonce", nonce);
    }
    if (seconds > 0) {
        json_put_number(&json, "seconds", seconds);
    }
    bytes_put_u8(&json, '}');
    metric_add(c->chat->refused, 1);
    conn_send_json(c, &json);
    bytes_close(&json);
}

void conn_error(struct conn *c, const char *code, const char *nonce, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    send_error(c, code, nonce, 0, text);
}

void conn_error_slow(struct conn *c, const char *nonce, const char *room, int64_t wait_ms)
{
    char text[128];
    int64_t seconds = (wait_ms + 999) / 1000;
    (void)snprintf(text, sizeof(text), "%s is in slow mode: wait %lld s", room, (long long)seconds);
    send_error(c, "slow_mode", nonce, seconds, text);
}
