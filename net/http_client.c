/* HTTP client: one call at a time on a connection, idle connections kept per host and port.
 *
 * A call waits for a connection, sends, and reads the answer: CALL head -> body -> done. Its
 * failure is always told by its timer or by a socket's callback, never from inside http_call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"
#include "net/http_parse.h"

#define CONNS_PER_PEER     64
#define IDLE_PER_PEER      16
#define CALLS_WAITING_MAX  4096
#define IDLE_TICKS         6 /* of TICK_US: less than servers keep an idle connection */
#define TICK_US            5000000
#define TIMEOUT_DEFAULT_MS 10000
#define IN_MAX             (4u << 20)

struct peer {
    struct http_client *client;
    char *host;
    uint16_t port;
    unsigned n_conns;
    struct list idle, waiting, link;
    unsigned n_idle;
};

/* What is sent; lives until the call and the socket are done with it. */
struct request {
    struct env_send send;
    unsigned refs;
    struct http_body *body;
    size_t head_len;
    char head[];
};

struct conn {
    struct http_client *client;
    struct peer *peer;
    struct env_stream *stream; /* NULL: closing or handed over */
    struct http_call *call;
    struct bytes in, body;
    size_t scan;
    bool in_body, reused, keep_alive;
    enum http_framing framing;
    uint64_t body_left;
    struct http_chunks chunks;
    int status;
    uint32_t idle_since;
    struct list link; /* all of the client's */
    struct list idle;
};

struct http_call {
    struct http_client *client;
    struct peer *peer;
    struct conn *conn;
    struct request *request;
    http_call_cb cb;
    http_dial_cb dial_cb; /* of http_dial_upgrade */
    void *data;
    size_t response_max;
    bool head, idempotent, retried;
    int failure;
    struct env_timer timer;
    struct list waiting, link;
};

struct http_client {
    struct env *env, *sockets;
    struct list peers, conns, calls;
    unsigned n_waiting;
    uint32_t tick;
    struct env_timer timer;
    bool closing;
};

static void peer_next(struct peer *peer);

/* --- Requests
 * -------------------------------------------------------------------------------------------------
 */

static void request_unref(struct request *request)
{
    if (--request->refs == 0) {
        http_body_unref(request->body);
        free(request);
    }
}

static void on_request_sent(struct env_send *send, int status)
{
    (void)status; /* a broken connection is seen by the reader */
    request_unref(send->data);
}

static struct request *request_new(const struct http_call_options *o, const char *protocol)
{
    const char *headers = o->headers != NULL ? o->headers : "";
    size_t cap = strlen(o->method) + strlen(o->path) + strlen(o->host) + strlen(headers) + 256;
    struct request *request = malloc(sizeof(*request) + cap);
    if (request == NULL) {
        return NULL;
    }
    *request = (struct request){.refs = 1};
    int n = snprintf(request->head, cap, "%s %s HTTP/1.1\r\nHost: %s:%u\r\n%s", o->method, o->path,
                     o->host, o->port, headers);
    if (protocol != NULL) {
        n += snprintf(request->head + n, cap - (size_t)n,
                      "Connection: Upgrade\r\nUpgrade: %.100s\r\n", protocol);
    }
    bool with_body =
        o->body != NULL || strcmp(o->method, "POST") == 0 || strcmp(o->method, "PUT") == 0;
    if (with_body) {
        n += snprintf(request->head + n, cap - (size_t)n, "Content-Length: %zu\r\n",
                      o->body != NULL ? o->body->len : 0);
    }
    n += snprintf(request->head + n, cap - (size_t)n, "\r\n");
    request->head_len = (size_t)n;
    if (o->body != NULL) {
        request->body = http_body_ref(o->body);
    }
    return request;
}

static void request_send(struct request *request, struct env_stream *stream)
{
    struct iovec iov[2] = {{.iov_base = request->head, .iov_len = request->head_len}};
    unsigned n = 1;
    if (request->body != NULL && request->body->len > 0) {
        iov[n++] = (struct iovec){.iov_base = request->body->data, .iov_len = request->body->len};
    }
    request->refs++;
    request->send.data = request;
    env_stream_send(stream, &request->send, iov, n, on_request_sent);
}

/* --- Calls
 * ----------------------------------------------------------------------------------------------------
 */

static void call_free(struct http_call *call)
{
    if (!list_empty(&call->waiting)) {
        list_remove(&call->waiting);
        call->client->n_waiting--;
    }
    list_remove(&call->link);
    env_timer_close(&call->timer);
    request_unref(call->request);
    free(call);
}

/* Tells the caller, once; the call is gone. */
static void call_finish(struct http_call *call, int status, struct http_body *body)
{
    http_call_cb cb = call->cb;
    http_dial_cb dial_cb = call->dial_cb;
    void *data = call->data;
    call_free(call);
    if (dial_cb != NULL) {
        dial_cb(data, status, NULL, NULL, 0);
    } else {
        cb(data, status, body);
    }
}

/* --- Connections
 * ---------------------------------------------------------------------------------------------- */

static void on_conn_closed(void *data)
{
    struct conn *c = data;
    bytes_close(&c->in);
    bytes_close(&c->body);
    free(c);
}

/* Out of every list; its memory goes later. */
static void conn_forget(struct conn *c)
{
    if (!list_empty(&c->idle)) {
        list_remove(&c->idle);
        c->peer->n_idle--;
    }
    list_remove(&c->link);
    c->peer->n_conns--;
}

static void conn_drop(struct conn *c)
{
    struct env_stream *stream = c->stream;
    conn_forget(c);
    c->stream = NULL;
    c->call = NULL;
    env_stream_close(stream, on_conn_closed, c);
}

static void on_timer(struct env_timer *timer);

static void call_fail_later(struct http_call *call, int status)
{
    call->failure = status;
    env_timer_start(&call->timer, 0, on_timer);
}

/* The connection is lost or done; its call, if any, ends with `status`. */
static void conn_fail(struct conn *c, int status)
{
    struct http_call *call = c->call;
    struct peer *peer = c->peer;
    conn_drop(c);
    if (call != NULL) {
        call->conn = NULL;
        call_finish(call, status, NULL);
    }
    peer_next(peer);
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status);

static void conn_start(struct conn *c, struct http_call *call)
{
    c->call = call;
    call->conn = c;
    c->scan = 0;
    c->in_body = false;
    bytes_reset(&c->in);
    c->body = (struct bytes){0};
    bytes_init(&c->body, call->response_max);
    request_send(call->request, c->stream);
}

static void on_connect(struct env_stream *stream, int status)
{
    struct conn *c = env_stream_data(stream);
    if (c->stream == NULL) {
        return; /* dropped meanwhile */
    }
    if (status < 0) {
        conn_fail(c, status);
        return;
    }
    env_stream_read_start(stream, on_read);
    conn_start(c, c->call);
}

/* Gives the call a new connection. */
static void call_connect(struct http_call *call)
{
    struct peer *peer = call->peer;
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        call_fail_later(call, WEIR_ENOMEM);
        return;
    }
    int rv =
        env_connect(call->client->sockets, peer->host, peer->port, on_connect, c, &c->stream, NULL);
    if (rv < 0) {
        free(c);
        call_fail_later(call, rv);
        return;
    }
    c->client = call->client;
    c->peer = peer;
    c->call = call;
    call->conn = c;
    bytes_init(&c->in, IN_MAX);
    list_init(&c->idle);
    list_push_back(&c->client->conns, &c->link);
    peer->n_conns++;
}

static void call_assign(struct http_call *call)
{
    struct list *el = list_pop(&call->peer->idle);
    if (el == NULL) {
        call_connect(call);
        return;
    }
    struct conn *c = list_entry(el, struct conn, idle);
    call->peer->n_idle--;
    c->reused = true;
    conn_start(c, call);
}

/* A connection became free or went: the next call in the queue may have one. */
static void peer_next(struct peer *peer)
{
    while (!peer->client->closing && !list_empty(&peer->waiting) &&
           (peer->n_idle > 0 || peer->n_conns < CONNS_PER_PEER)) {
        struct http_call *call = list_entry(list_pop(&peer->waiting), struct http_call, waiting);
        call->client->n_waiting--;
        call_assign(call);
    }
}

/* The whole answer is here. */
static void conn_finish(struct conn *c)
{
    struct http_call *call = c->call;
    struct peer *peer = c->peer;
    struct http_body *body = NULL;
    int status = c->status;
    if (c->body.len > 0) {
        uint8_t *data = c->body.data;
        uint8_t *less = realloc(data, c->body.len); /* bodies are kept in caches */
        body = http_body_new(less != NULL ? less : data, c->body.len);
        c->body = (struct bytes){0};
        /* cppcheck-suppress memleak ; the body has it */
    } else {
        body = http_body_copy("", 0);
    }
    if (body == NULL) {
        status = WEIR_ENOMEM;
    }
    c->call = NULL;
    call->conn = NULL;
    if (c->keep_alive && c->in.len == 0 && peer->n_idle < IDLE_PER_PEER) {
        bytes_close(&c->in);
        bytes_close(&c->body);
        c->idle_since = c->client->tick;
        list_push_front(&peer->idle, &c->idle);
        peer->n_idle++;
    } else {
        conn_drop(c);
    }
    peer_next(peer);
    call_finish(call, status, body);
    http_body_unref(body);
}

/* 101: the stream goes to whoever dialled. */
static void conn_upgraded(struct conn *c)
{
    struct http_call *call = c->call;
    struct env_stream *stream = c->stream;
    struct peer *peer = c->peer;
    http_dial_cb cb = call->dial_cb;
    void *data = call->data;
    env_stream_read_stop(stream);
    env_stream_set_data(stream, NULL);
    conn_forget(c);
    call_free(call);
    peer_next(peer);
    cb(data, 101, stream, c->in.data, c->in.len);
    on_conn_closed(c);
}

enum step { STEP_AGAIN, STEP_MORE, STEP_GONE };

static enum step conn_refuse(struct conn *c, int status)
{
    conn_fail(c, status);
    return STEP_GONE;
}

static enum step conn_head(struct conn *c)
{
    const char *why = "";
    int n = http_head_end(c->in.data, c->in.len, &c->scan, &why);
    if (n == 0) {
        return STEP_MORE;
    }
    struct http_head head;
    if (n < 0 ||
        http_response_parse((char *)c->in.data, (size_t)n, c->call->head, &head, &why) != 0) {
        return conn_refuse(c, WEIR_EPROTO);
    }
    bytes_consume(&c->in, (size_t)n);
    c->scan = 0;
    if (head.status == 101) {
        if (c->call->dial_cb == NULL) {
            return conn_refuse(c, WEIR_EPROTO);
        }
        conn_upgraded(c);
        return STEP_GONE;
    }
    if (head.status < 200) {
        return STEP_AGAIN;
    }
    c->status = head.status;
    c->keep_alive = head.keep_alive;
    c->framing = head.framing;
    c->body_left = head.content_length;
    c->chunks = (struct http_chunks){0};
    c->in_body = true;
    if (head.framing == HTTP_BODY_NONE) {
        conn_finish(c);
        return STEP_GONE;
    }
    if (head.framing == HTTP_BODY_LENGTH) {
        if (head.content_length > c->call->response_max) {
            return conn_refuse(c, WEIR_ETOOBIG);
        }
        (void)bytes_reserve(&c->body, (size_t)head.content_length);
    }
    return STEP_AGAIN;
}

/* Takes body bytes; *ret_used of n. */
static enum step conn_body(struct conn *c, const uint8_t *data, size_t n, size_t *ret_used)
{
    size_t used = n, len = n;
    const uint8_t *part = data;
    enum http_chunk_result r = HTTP_CHUNK_DATA;
    if (c->framing == HTTP_BODY_CHUNKED) {
        len = 0;
        r = http_chunks_next(&c->chunks, data, n, &used, &part, &len);
    } else if (c->framing == HTTP_BODY_LENGTH && c->body_left < n) {
        used = len = (size_t)c->body_left;
    }
    *ret_used = used;
    if (r == HTTP_CHUNK_BAD) {
        return conn_refuse(c, WEIR_EPROTO);
    }
    if (len > 0) {
        bytes_put(&c->body, part, len);
    }
    if (bytes_error(&c->body) != 0) {
        return conn_refuse(c, bytes_error(&c->body));
    }
    c->body_left -= c->framing == HTTP_BODY_LENGTH ? len : 0;
    bool end = r == HTTP_CHUNK_END || (c->framing == HTTP_BODY_LENGTH && c->body_left == 0);
    if (!end) {
        return used < n ? STEP_AGAIN : STEP_MORE;
    }
    if (used < n) {
        c->keep_alive = false; /* bytes that nobody asked for */
    }
    conn_finish(c);
    return STEP_GONE;
}

/* Bytes behind the head in one read. */
static enum step conn_body_from_in(struct conn *c)
{
    if (c->in.len == 0) {
        return STEP_MORE;
    }
    struct bytes in = c->in; /* conn_body may let go of the connection's own */
    bytes_init(&c->in, IN_MAX);
    size_t at = 0, used = 0;
    enum step step = STEP_AGAIN;
    while (step == STEP_AGAIN) {
        step = conn_body(c, in.data + at, in.len - at, &used);
        at += used;
    }
    bytes_close(&in);
    return step;
}

static void conn_feed(struct conn *c, const uint8_t *data, size_t n)
{
    enum step step = STEP_AGAIN;
    if (c->in_body) {
        size_t at = 0, used = 0;
        while (step == STEP_AGAIN) {
            step = conn_body(c, data + at, n - at, &used);
            at += used;
        }
        return;
    }
    bytes_put(&c->in, data, n);
    if (bytes_error(&c->in) != 0) {
        conn_fail(c, bytes_error(&c->in));
        return;
    }
    while (step == STEP_AGAIN) {
        step = c->in_body ? conn_body_from_in(c) : conn_head(c);
    }
}

/* The server closed a kept connection just when it was used again: nothing was answered, so an
 * idempotent request is sent anew. */
static bool conn_retry(struct conn *c)
{
    struct http_call *call = c->call;
    if (!c->reused || c->in_body || c->in.len > 0 || call == NULL || !call->idempotent ||
        call->retried) {
        return false;
    }
    call->retried = true;
    conn_drop(c);
    call->conn = NULL;
    call_connect(call);
    return true;
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct conn *c = env_stream_data(stream);
    if (status >= 0 && c->call != NULL) {
        conn_feed(c, data, n);
        return;
    }
    if (status == WEIR_ECLOSED && c->call != NULL && c->in_body && c->framing == HTTP_BODY_TO_END) {
        conn_finish(c);
        return;
    }
    if (!conn_retry(c)) {
        conn_fail(c, status < 0 ? status : WEIR_EPROTO);
    }
}

/* --- Time
 * -------------------------------------------------------------------------------------------------------
 */

static void on_timer(struct env_timer *timer)
{
    struct http_call *call = timer->data;
    int status = call->failure != 0 ? call->failure : WEIR_ETIMEOUT;
    if (call->conn != NULL) {
        conn_fail(call->conn, status);
        return;
    }
    call_finish(call, status, NULL);
}

static void on_tick(struct env_timer *timer)
{
    struct http_client *client = timer->data;
    client->tick++;
    LIST_FOREACH(p, &client->peers)
    {
        struct peer *peer = list_entry(p, struct peer, link);
        LIST_FOREACH_SAFE(it, nx, &peer->idle)
        {
            struct conn *c = list_entry(it, struct conn, idle);
            if (client->tick - c->idle_since >= IDLE_TICKS) {
                conn_drop(c);
            }
        }
    }
    env_timer_start(timer, TICK_US, on_tick);
}

/* --- Interface
 * --------------------------------------------------------------------------------------------------
 */

int http_client_new(struct env *env, struct http_client **ret_client, struct error *err)
{
    return http_client_new_over(env, env, ret_client, err);
}

int http_client_new_over(struct env *env, struct env *sockets, struct http_client **ret_client,
                         struct error *err)
{
    struct http_client *client = calloc(1, sizeof(*client));
    if (client == NULL || env_timer_init(env, &client->timer) < 0) {
        free(client);
        return error_set(err, WEIR_ENOMEM, "http client: out of memory");
    }
    client->env = env;
    client->sockets = sockets;
    client->timer.data = client;
    list_init(&client->peers);
    list_init(&client->conns);
    list_init(&client->calls);
    env_timer_start(&client->timer, TICK_US, on_tick);
    *ret_client = client;
    return 0;
}

struct env *http_client_env(const struct http_client *client)
{
    return client->env;
}

void http_client_free(struct http_client *client)
{
    client->closing = true;
    while (!list_empty(&client->calls)) {
        struct http_call *call = list_entry(client->calls.next, struct http_call, link);
        if (call->conn != NULL) {
            conn_fail(call->conn, WEIR_ECLOSED);
        } else {
            call_finish(call, WEIR_ECLOSED, NULL);
        }
    }
    while (!list_empty(&client->conns)) {
        conn_drop(list_entry(client->conns.next, struct conn, link));
    }
    struct list *el;
    while ((el = list_pop(&client->peers)) != NULL) {
        struct peer *peer = list_entry(el, struct peer, link);
        free(peer->host);
        free(peer);
    }
    env_timer_close(&client->timer);
    free(client);
}

static struct peer *peer_get(struct http_client *client, const char *host, uint16_t port)
{
    LIST_FOREACH(it, &client->peers)
    {
        struct peer *peer = list_entry(it, struct peer, link);
        if (peer->port == port && strcmp(peer->host, host) == 0) {
            return peer;
        }
    }
    struct peer *peer = calloc(1, sizeof(*peer));
    char *copy = strdup(host);
    if (peer == NULL || copy == NULL) {
        free(peer);
        free(copy);
        return NULL;
    }
    *peer = (struct peer){.client = client, .host = copy, .port = port};
    list_init(&peer->idle);
    list_init(&peer->waiting);
    list_push_back(&client->peers, &peer->link);
    return peer;
}

/* A line break or a space where it does not belong would start another request. */
static bool options_valid(const struct http_call_options *o)
{
    return o->method[0] != '\0' && strpbrk(o->method, " \r\n") == NULL && o->path[0] == '/' &&
           strpbrk(o->path, " \r\n\t") == NULL && strpbrk(o->host, " \r\n\t/") == NULL &&
           o->port != 0;
}

static int call_new(struct http_client *client, const struct http_call_options *o,
                    const char *protocol, struct http_call **ret_call, struct error *err)
{
    if (!options_valid(o)) {
        return error_set(err, WEIR_EINVAL, "http: bad method, host, port or path");
    }
    if (client->closing || client->n_waiting >= CALLS_WAITING_MAX) {
        return error_set(err, client->closing ? WEIR_ECLOSED : WEIR_EBUSY, "http: %u calls waiting",
                         client->n_waiting);
    }
    struct http_call *call = calloc(1, sizeof(*call));
    struct peer *peer = peer_get(client, o->host, o->port);
    struct request *request = call != NULL && peer != NULL ? request_new(o, protocol) : NULL;
    if (request == NULL || env_timer_init(client->env, &call->timer) < 0) {
        if (request != NULL) {
            request_unref(request);
        }
        free(call);
        return error_set(err, WEIR_ENOMEM, "http: out of memory");
    }
    call->client = client;
    call->peer = peer;
    call->request = request;
    call->response_max = o->response_max;
    call->head = strcmp(o->method, "HEAD") == 0;
    call->idempotent = strcmp(o->method, "POST") != 0;
    call->timer.data = call;
    list_init(&call->waiting);
    list_push_back(&client->calls, &call->link);
    uint32_t timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : TIMEOUT_DEFAULT_MS;
    env_timer_start(&call->timer, (uint64_t)timeout_ms * 1000, on_timer);
    *ret_call = call;
    return 0;
}

static void call_begin(struct http_call *call)
{
    if (call->peer->n_idle == 0 && call->peer->n_conns >= CONNS_PER_PEER) {
        list_push_back(&call->peer->waiting, &call->waiting);
        call->client->n_waiting++;
        return;
    }
    call_assign(call);
}

int http_call(struct http_client *client, const struct http_call_options *options, http_call_cb cb,
              void *data, struct http_call **ret_call, struct error *err)
{
    struct http_call *call;
    int rv = call_new(client, options, NULL, &call, err);
    if (rv < 0) {
        return rv;
    }
    call->cb = cb;
    call->data = data;
    call_begin(call);
    if (ret_call != NULL) {
        *ret_call = call;
    }
    return 0;
}

int http_dial_upgrade(struct http_client *client, const struct http_call_options *options,
                      const char *protocol, http_dial_cb cb, void *data,
                      struct http_call **ret_call, struct error *err)
{
    struct http_call *call;
    int rv = call_new(client, options, protocol, &call, err);
    if (rv < 0) {
        return rv;
    }
    call->dial_cb = cb;
    call->data = data;
    call_connect(call); /* its connection does not come back: always a new one */
    if (ret_call != NULL) {
        *ret_call = call;
    }
    return 0;
}

void http_call_cancel(struct http_call *call)
{
    struct peer *peer = call->peer;
    if (call->conn != NULL) {
        conn_drop(call->conn);
    }
    call_free(call);
    peer_next(peer);
}
