/* An exchange as its handler sees it: what was asked, and the answer. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/http_internal.h"

#define TEXT_ANSWER_MAX 2048

void exchange_free(struct http_exchange *ex)
{
    bytes_close(&ex->body);
    free(ex->query);
    free(ex->raw);
    free(ex);
}

const char *http_method(const struct http_exchange *ex)
{
    return ex->head.text + ex->head.method;
}

const char *http_path(const struct http_exchange *ex)
{
    return ex->head.text + ex->head.path;
}

const char *http_header(const struct http_exchange *ex, const char *name)
{
    return http_head_field(&ex->head, name);
}

const uint8_t *http_request_body(const struct http_exchange *ex, size_t *ret_len)
{
    *ret_len = ex->body.len;
    return ex->body.data;
}

const char *http_peer(const struct http_exchange *ex)
{
    return ex->conn != NULL ? env_stream_peer(ex->conn->stream) : "gone";
}

struct env *http_env(const struct http_exchange *ex)
{
    return ex->env;
}

/* Decodes the whole query into pairs of strings. */
static void query_split(struct http_exchange *ex)
{
    const char *in = ex->head.text + ex->head.query;
    char *out = malloc(2 * strlen(in) + 2);
    if (out == NULL) {
        return; /* as if it were absent */
    }
    size_t o = 0;
    while (*in != '\0') {
        size_t n = strcspn(in, "&");
        const char *eq = memchr(in, '=', n);
        size_t name = eq != NULL ? (size_t)(eq - in) : n;
        size_t value = eq != NULL ? n - name - 1 : 0;
        /* Well-formed: http_request_parse has looked. */
        o += (size_t)http_percent_decode(out + o, in, name, true) + 1;
        o += (size_t)http_percent_decode(out + o, eq != NULL ? eq + 1 : in, value, true) + 1;
        in += n + (in[n] == '&');
    }
    ex->query = out;
    ex->query_len = o;
}

const char *http_query(struct http_exchange *ex, const char *name)
{
    if (ex->query == NULL && ex->head.query != 0) {
        query_split(ex);
    }
    size_t at = 0;
    while (ex->query != NULL && at < ex->query_len) {
        const char *key = ex->query + at;
        const char *value = key + strlen(key) + 1;
        if (strcmp(key, name) == 0) {
            return value;
        }
        at = (size_t)(value - ex->query) + strlen(value) + 1;
    }
    return NULL;
}

void http_on_abort(struct http_exchange *ex, void (*cb)(void *data, struct http_exchange *ex),
                   void *data)
{
    ex->abort_cb = cb;
    ex->abort_data = data;
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].status == status) {
            return table[i].text;
        }
    }
    return "Other";
}

static struct http_reply *reply_new(struct http_server *server, int status,
                                    const char *content_type, const char *headers, size_t len,
                                    bool close)
{
    size_t cap = 256 + strlen(headers) + strlen(content_type);
    struct http_reply *reply = malloc(sizeof(*reply) + cap);
    if (reply == NULL) {
        return NULL;
    }
    *reply = (struct http_reply){0};
    int n = snprintf(reply->head, cap, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason(status),
                     server_date(server));
    if (status != 204 && status != 304 && status >= 200) {
        n += snprintf(reply->head + n, cap - (size_t)n, "Content-Length: %zu\r\n", len);
    }
    if (content_type[0] != '\0' && status != 304) {
        n += snprintf(reply->head + n, cap - (size_t)n, "Content-Type: %s\r\n", content_type);
    }
    n += snprintf(reply->head + n, cap - (size_t)n, "%s%s\r\n", headers,
                  close ? "Connection: close\r\n" : "");
    reply->head_len = (size_t)n;
    return reply;
}

static void on_reply_sent(struct env_send *send, int status)
{
    struct http_reply *reply = send->data;
    struct http_conn *conn = reply->conn;
    http_body_unref(reply->body);
    free(reply);
    if (conn == NULL) {
        return;
    }
    conn->n_replies--;
    if (conn->state == CONN_GONE) {
        return;
    }
    if (status < 0) {
        conn_close(conn);
        return;
    }
    conn_run(conn);
}

void reply_send(struct http_reply *reply, struct env_stream *stream, struct http_conn *conn)
{
    struct iovec iov[2] = {{.iov_base = reply->head, .iov_len = reply->head_len}};
    unsigned n = 1;
    if (reply->body != NULL && reply->body->len > 0) {
        iov[n++] = (struct iovec){.iov_base = reply->body->data, .iov_len = reply->body->len};
    }
    reply->conn = conn;
    if (conn != NULL) {
        conn->n_replies++;
    }
    reply->send.data = reply;
    env_stream_send(stream, &reply->send, iov, n, on_reply_sent);
}

/* The connection is free for the next request. */
static void exchange_end(struct http_exchange *ex, struct http_conn *conn)
{
    conn->ex = NULL;
    conn->state = CONN_HEAD;
    exchange_free(ex);
    if (!conn->running) {
        conn_run(conn);
    }
}

void http_respond(struct http_exchange *ex, int status, const char *content_type,
                  const char *headers, struct http_body *body)
{
    struct http_conn *conn = ex->conn;
    if (conn == NULL) {
        http_body_unref(body);
        exchange_free(ex);
        return;
    }
    bool close = !ex->head.keep_alive || conn->server->draining || conn->server->closing;
    struct http_reply *reply =
        reply_new(conn->server, status, content_type != NULL ? content_type : "",
                  headers != NULL ? headers : "", body != NULL ? body->len : 0, close);
    if (reply == NULL) {
        http_body_unref(body);
        conn->ex = NULL;
        exchange_free(ex);
        conn_close(conn);
        return;
    }
    bool bodiless = status == 204 || status == 304 || strcmp(http_method(ex), "HEAD") == 0;
    if (bodiless) {
        http_body_unref(body);
    } else {
        reply->body = body;
    }
    conn->close_after |= close;
    reply_send(reply, conn->stream, conn);
    exchange_end(ex, conn);
}

void http_respond_text(struct http_exchange *ex, int status, const char *fmt, ...)
{
    char text[TEXT_ANSWER_MAX];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text) - 1, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) - 1 ? (size_t)n : sizeof(text) - 2;
    if (len == 0 || text[len - 1] != '\n') {
        text[len++] = '\n';
    }
    struct http_body *body = http_body_copy(text, len);
    http_respond(ex, body != NULL ? status : 503, "text/plain; charset=utf-8", "", body);
}

void http_respond_json(struct http_exchange *ex, int status, const char *json)
{
    struct http_body *body = http_body_copy(json, strlen(json));
    http_respond(ex, body != NULL ? status : 503, "application/json", "", body);
}

void conn_refuse(struct http_conn *conn, int status, const char *text)
{
    struct http_body *body = NULL;
    char line[256];
    int n = snprintf(line, sizeof(line), "%d %s: %s\n", status, reason(status), text);
    body = http_body_copy(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    struct http_reply *reply =
        body == NULL
            ? NULL
            : reply_new(conn->server, status, "text/plain; charset=utf-8", "", body->len, true);
    if (reply == NULL) {
        http_body_unref(body);
        conn_close(conn);
        return;
    }
    reply->body = body;
    if (conn->ex != NULL) {
        exchange_free(conn->ex);
        conn->ex = NULL;
    }
    conn->state = CONN_LINGER;
    reply_send(reply, conn->stream, conn);
}

/* Takes the stream out of the exchange, which ends. */
static struct env_stream *take_stream(struct http_conn *conn)
{
    struct env_stream *stream = conn->stream;
    env_stream_read_stop(stream);
    env_stream_set_data(stream, NULL);
    conn->stream = NULL;
    return stream;
}

void http_upgrade(struct http_exchange *ex, const char *headers, http_upgrade_cb cb, void *data)
{
    struct http_conn *conn = ex->conn;
    if (conn == NULL) {
        exchange_free(ex);
        return;
    }
    if (ex->raw == NULL) { /* replies may be on their way yet, or a body was read */
        http_respond_text(ex, 400, "an upgrade takes Upgrade and Connection: Upgrade, and no body");
        return;
    }
    struct http_reply *reply =
        reply_new(conn->server, 101, "", headers != NULL ? headers : "", 0, false);
    conn->ex = NULL;
    exchange_free(ex);
    if (reply == NULL) {
        conn_close(conn);
        return;
    }
    struct env_stream *stream = take_stream(conn);
    reply_send(reply, stream, NULL);
    cb(data, stream, conn->in.data + conn->taken, conn->in.len - conn->taken);
    conn_hand_over(conn);
}

void http_hand_over(struct http_exchange *ex, http_upgrade_cb cb, void *data)
{
    struct http_conn *conn = ex->conn;
    if (conn == NULL) {
        exchange_free(ex);
        return;
    }
    if (ex->raw == NULL) {
        http_respond_text(ex, 400, "an upgrade takes Upgrade and Connection: Upgrade, and no body");
        return;
    }
    uint8_t *raw = ex->raw;
    size_t len = ex->raw_len;
    ex->raw = NULL;
    conn->ex = NULL;
    exchange_free(ex);
    size_t behind = conn->in.len - conn->taken;
    uint8_t *all = realloc(raw, len + behind);
    if (all == NULL) {
        free(raw);
        conn_close(conn);
        return;
    }
    if (behind > 0) {
        memcpy(all + len, conn->in.data + conn->taken, behind);
    }
    struct env_stream *stream = take_stream(conn);
    cb(data, stream, all, len + behind);
    free(all);
    conn_hand_over(conn);
}
