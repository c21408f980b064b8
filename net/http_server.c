/* Connections of the HTTP server: reading, routing, limits of time and size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/logging.h"
#include "net/http_internal.h"

#define TICK_US         1000000
#define CONNECTIONS_MAX 60000
#define IN_PAUSE        (64u << 10) /* read and not taken: reading stops */
#define IN_MAX          (4u << 20)
#define IN_KEEP         4096 /* memory an idle connection may hold */
#define REPLIES_MAX     16   /* on their way out, per connection */
#define BODY_PER_WINDOW 4096 /* a body must bring this much in its window */

static const uint32_t wait_ticks[WAIT_CLASSES] = {
    [WAIT_HEAD] = 10, [WAIT_IDLE] = 60, [WAIT_BODY] = 10, [WAIT_SEND] = 30, [WAIT_LINGER] = 2,
};

const char *server_date(struct http_server *server)
{
    int64_t now_s = env_wall_ms(server->env) / 1000;
    if (now_s != server->date_s) {
        struct tm tm;
        time_t t = (time_t)now_s;
        (void)gmtime_r(&t, &tm);
        (void)strftime(server->date, sizeof(server->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        server->date_s = now_s;
    }
    return server->date;
}

/* --- Routes
 * --------------------------------------------------------------------------------------------------
 */

int http_server_route(struct http_server *server, const struct http_route *route)
{
    for (unsigned i = 0; i < server->n_routes; i++) {
        const struct http_route *r = &server->routes[i].r;
        if (strcmp(r->path, route->path) == 0 && strcmp(r->method, route->method) == 0) {
            return WEIR_EEXISTS;
        }
    }
    struct route *routes =
        realloc(server->routes, (server->n_routes + 1) * sizeof(*server->routes));
    if (routes == NULL) {
        return WEIR_ENOMEM;
    }
    server->routes = routes;
    char *method = strdup(route->method), *path = strdup(route->path);
    if (method == NULL || path == NULL) {
        free(method);
        free(path);
        return WEIR_ENOMEM;
    }
    struct route *r = &routes[server->n_routes++];
    *r = (struct route){.r = *route, .path_len = strlen(path)};
    r->r.method = method;
    r->r.path = path;
    return 0;
}

/* A '*' in the pattern stands for one name, never empty. */
static bool pattern_matches(const char *pattern, const char *path)
{
    for (; *pattern != '\0' && *path != '\0'; pattern++) {
        if (*pattern == '*' && *path != '/') {
            path += strcspn(path, "/");
        } else if (*pattern == *path) {
            path++;
        } else {
            return false;
        }
    }
    return *pattern == *path;
}

static bool route_matches(const struct route *r, const char *path)
{
    if (r->r.prefix && r->path_len > 0 && r->r.path[r->path_len - 1] == '/') {
        return strncmp(path, r->r.path, r->path_len) == 0;
    }
    return pattern_matches(r->r.path, path);
}

/* The longest match for the method; NULL with 404, or 405 and `allow` filled. */
static const struct http_route *route_find(const struct http_server *server,
                                           const struct http_head *head, int *ret_status,
                                           char *allow, size_t allow_size)
{
    const char *path = head->text + head->path, *method = head->text + head->method;
    const char *want = strcmp(method, "HEAD") == 0 ? "GET" : method;
    const struct route *best = NULL, *any = NULL;
    for (unsigned i = 0; i < server->n_routes; i++) {
        const struct route *r = &server->routes[i];
        if (!route_matches(r, path)) {
            continue;
        }
        if (any == NULL || r->path_len > any->path_len) {
            any = r;
        }
        if (strcmp(r->r.method, want) == 0 && (best == NULL || r->path_len > best->path_len)) {
            best = r;
        }
    }
    if (best != NULL) {
        return &best->r;
    }
    *ret_status = any == NULL ? 404 : 405;
    size_t at = 0;
    for (unsigned i = 0; any != NULL && i < server->n_routes; i++) {
        const struct route *r = &server->routes[i];
        if (strcmp(r->r.path, any->r.path) == 0 && at < allow_size) {
            int n = snprintf(allow + at, allow_size - at, "%s%s%s", at > 0 ? ", " : "", r->r.method,
                             strcmp(r->r.method, "GET") == 0 ? ", HEAD" : "");
            at += (size_t)n;
        }
    }
    return NULL;
}

/* --- Connections
 * --------------------------------------------------------------------------------------------- */

static void server_maybe_finish(struct http_server *server);

static void conn_free(struct http_conn *c)
{
    struct http_server *server = c->server;
    list_remove(&c->all);
    list_remove(&c->due);
    bytes_close(&c->in);
    free(c);
    server->n_conns--;
    server_maybe_finish(server);
}

static void on_conn_closed(void *data)
{
    conn_free(data);
}

/* The exchange whose client has gone: told, or left to answer into the void. */
static void exchange_abort(struct http_exchange *ex)
{
    ex->conn = NULL;
    if (ex->abort_cb != NULL) {
        ex->abort_cb(ex->abort_data, ex);
        exchange_free(ex);
    }
}

void conn_close(struct http_conn *c)
{
    if (c->state == CONN_GONE) {
        return;
    }
    struct http_exchange *ex = c->ex;
    bool handling = c->state == CONN_HANDLER;
    struct env_stream *stream = c->stream;
    c->ex = NULL;
    c->stream = NULL;
    c->state = CONN_GONE;
    list_remove(&c->due);
    c->wait = WAIT_NONE;
    env_stream_close(stream, on_conn_closed, c);
    if (ex != NULL && handling) {
        exchange_abort(ex);
    } else if (ex != NULL) {
        exchange_free(ex);
    }
}

void conn_hand_over(struct http_conn *c)
{
    c->state = CONN_GONE;
    c->handed_over = true;
    if (!c->running) {
        conn_free(c);
    }
}

static void conn_dispatch(struct http_conn *c)
{
    c->state = CONN_HANDLER;
    list_remove(&c->due);
    c->wait = WAIT_NONE;
    if (c->server->draining) {
        http_respond_text(c->ex, 503, "503 Service Unavailable: this server is stopping");
        return;
    }
    c->ex->route->handler(c->ex->route->data, c->ex);
}

/* A request that no handler takes. */
static void conn_answer_early(struct http_conn *c, int status, const char *allow)
{
    struct http_exchange *ex = c->ex;
    bool unread = ex->head.framing != HTTP_BODY_NONE;
    char headers[256] = "", text[128];
    if (status == 405) {
        (void)snprintf(headers, sizeof(headers), "Allow: %.200s\r\n", allow);
    }
    int n = snprintf(text, sizeof(text), "%s\n",
                     status == 404   ? "404 Not Found: nothing is served at this path"
                     : status == 405 ? "405 Method Not Allowed: see the Allow header"
                                     : "413 Content Too Large: more than this path takes");
    if (unread) {
        ex->head.keep_alive = false;
    }
    http_respond(ex, status, "text/plain; charset=utf-8", headers, http_body_copy(text, (size_t)n));
    if (unread && c->state == CONN_HEAD) {
        c->state = CONN_LINGER;
    }
}

static void send_continue(struct http_conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http_reply *reply = malloc(sizeof(*reply) + sizeof(text));
    if (reply == NULL) {
        return; /* the client goes on by itself after a while */
    }
    *reply = (struct http_reply){.head_len = sizeof(text) - 1};
    memcpy(reply->head, text, sizeof(text));
    reply_send(reply, c->stream, c);
}

/* Does the route want the body? If not the answer is on its way, and the body is not read. */
static bool conn_ask(struct http_conn *c)
{
    struct http_exchange *ex = c->ex;
    bool keep_alive = ex->head.keep_alive;
    ex->head.keep_alive = false;
    if (ex->route->admit(ex->route->data, ex)) {
        ex->head.keep_alive = keep_alive;
        return true;
    }
    if (c->state == CONN_HEAD) {
        c->state = CONN_LINGER;
    }
    return false;
}

/* The head has been parsed and routed: read the body, or hand it to its handler. */
static void conn_admit(struct http_conn *c)
{
    struct http_exchange *ex = c->ex;
    const struct http_head *head = &ex->head;
    if (head->framing == HTTP_BODY_NONE) {
        conn_dispatch(c);
        return;
    }
    if (ex->route->admit != NULL && !c->server->draining && !conn_ask(c)) {
        return;
    }
    if (head->framing == HTTP_BODY_LENGTH && head->content_length > ex->route->body_max) {
        conn_answer_early(c, 413, "");
        return;
    }
    bytes_init(&ex->body, ex->route->body_max);
    c->body_left = head->content_length;
    c->chunks = (struct http_chunks){0};
    c->state = CONN_BODY;
    c->progress = 0;
    if (head->expect_continue && c->in.len == c->taken) {
        send_continue(c);
    }
}

/* Makes an exchange of the head of n bytes. False: later, when what was answered before has gone
 * out. */
static bool conn_begin(struct http_conn *c, size_t n)
{
    const uint8_t *raw = c->in.data + c->taken;
    struct http_exchange *ex = malloc(sizeof(*ex) + n + 1);
    if (ex == NULL) {
        conn_close(c);
        return false;
    }
    *ex = (struct http_exchange){.conn = c, .env = c->server->env};
    memcpy(ex->text, raw, n);
    ex->text[n] = '\0';
    const char *why = "";
    int status = http_request_parse(ex->text, n, &ex->head, &why);
    if (status == 0 && ex->head.upgrade && ex->head.framing == HTTP_BODY_NONE) {
        if (c->n_replies > 0) { /* a hand-over needs a stream with nothing queued */
            exchange_free(ex);
            return false;
        }
        ex->raw = malloc(n);
        ex->raw_len = n;
        if (ex->raw == NULL) {
            status = 503;
        } else {
            memcpy(ex->raw, raw, n);
        }
    }
    c->taken += n;
    c->scan = 0;
    if (status != 0) {
        exchange_free(ex);
        conn_refuse(c, status, why);
        return true;
    }
    char allow[200] = "";
    c->ex = ex;
    ex->route = route_find(c->server, &ex->head, &status, allow, sizeof(allow));
    if (ex->route == NULL) {
        conn_answer_early(c, status, allow);
    } else {
        conn_admit(c);
    }
    return true;
}

static bool step_head(struct http_conn *c)
{
    if (c->close_after || c->n_replies >= REPLIES_MAX || env_stream_queued_bytes(c->stream) > 0) {
        return false;
    }
    while (c->scan == 0 && c->in.len - c->taken >= 2 &&
           memcmp(c->in.data + c->taken, "\r\n", 2) == 0) {
        c->taken += 2; /* RFC 9112 section 2.2 */
    }
    if (c->in.len == c->taken) {
        return false;
    }
    const char *why = "";
    int n = http_head_end(c->in.data + c->taken, c->in.len - c->taken, &c->scan, &why);
    if (n < 0) {
        conn_refuse(c, -n, why);
        return true;
    }
    return n > 0 && conn_begin(c, (size_t)n);
}

/* Appends to the body; false: the request has been refused. */
static bool body_put(struct http_conn *c, const uint8_t *data, size_t n)
{
    bytes_put(&c->ex->body, data, n);
    c->progress += n;
    if (bytes_error(&c->ex->body) == 0) {
        return true;
    }
    bool big = bytes_error(&c->ex->body) == WEIR_ETOOBIG;
    conn_refuse(c, big ? 413 : 503, big ? "more than this path takes" : "out of memory");
    return false;
}

static bool step_body(struct http_conn *c)
{
    const uint8_t *data = c->in.data + c->taken;
    size_t n = c->in.len - c->taken;
    if (n == 0) {
        return false;
    }
    if (c->ex->head.framing == HTTP_BODY_LENGTH) {
        size_t take = n < c->body_left ? n : (size_t)c->body_left;
        c->taken += take;
        c->body_left -= take;
        if (body_put(c, data, take) && c->body_left == 0) {
            conn_dispatch(c);
        }
        return true;
    }
    size_t used = 0, len = 0;
    const uint8_t *part = NULL;
    enum http_chunk_result r = http_chunks_next(&c->chunks, data, n, &used, &part, &len);
    c->taken += used;
    if (r == HTTP_CHUNK_BAD) {
        conn_refuse(c, 400, "bad chunked body");
    } else if (r == HTTP_CHUNK_END) {
        conn_dispatch(c);
    } else if (r == HTTP_CHUNK_DATA) {
        (void)body_put(c, part, len);
    }
    return true;
}

/* One step; false when nothing more can be done now. */
static bool conn_step(struct http_conn *c)
{
    switch (c->state) {
    case CONN_HEAD:
        return step_head(c);
    case CONN_BODY:
        return step_body(c);
    case CONN_LINGER:
        c->taken = c->in.len;
        return false;
    default:
        return false;
    }
}

static enum conn_wait conn_wait_class(const struct http_conn *c)
{
    if (c->n_replies > 0) {
        return WAIT_SEND;
    }
    switch (c->state) {
    case CONN_BODY:
        return WAIT_BODY;
    case CONN_LINGER:
        return WAIT_LINGER;
    case CONN_HEAD:
        return c->in.len > 0 ? WAIT_HEAD : WAIT_IDLE;
    default:
        return WAIT_NONE;
    }
}

static void on_tick(struct env_timer *timer);

static void conn_queue(struct http_conn *c, enum conn_wait wait)
{
    struct http_server *server = c->server;
    list_remove(&c->due);
    c->wait = (uint8_t)wait;
    c->since = server->tick;
    if (wait == WAIT_NONE) {
        return;
    }
    c->progress = wait == WAIT_SEND ? env_stream_queued_bytes(c->stream) : 0;
    list_push_back(&server->due[wait], &c->due);
    if (!server->ticking) {
        server->ticking = true;
        env_timer_start(&server->timer, TICK_US, on_tick);
    }
}

/* After a run: memory, reading, timeouts, and the end if it is due. */
static void conn_settle(struct http_conn *c)
{
    if (c->state == CONN_GONE) {
        if (c->handed_over) {
            conn_free(c);
        }
        return;
    }
    if (c->taken > 0) {
        bytes_consume(&c->in, c->taken);
        c->taken = 0;
    }
    if (c->in.len == 0 && (c->in.cap > IN_KEEP || c->state == CONN_HANDLER)) {
        bytes_close(&c->in);
    }
    if ((c->close_after || c->eof) && c->state == CONN_HEAD && c->n_replies == 0) {
        conn_close(c);
        return;
    }
    enum conn_wait wait = conn_wait_class(c);
    if (wait != c->wait) {
        conn_queue(c, wait);
    }
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status);

static void conn_flow(struct http_conn *c)
{
    bool full = c->in.len > IN_PAUSE;
    if (full && !c->paused) {
        env_stream_read_stop(c->stream);
    } else if (!full && c->paused) {
        env_stream_read_start(c->stream, on_read);
    }
    c->paused = full;
}

void conn_run(struct http_conn *c)
{
    if (c->running) {
        return;
    }
    c->running = true;
    while (conn_step(c)) {}
    c->running = false;
    if (c->state != CONN_GONE && !c->eof) {
        conn_flow(c);
    }
    conn_settle(c);
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct http_conn *c = env_stream_data(stream);
    if (status < 0) {
        /* A client that has ended its side still gets what was answered before. */
        if (status == WEIR_ECLOSED && c->state == CONN_HEAD && c->n_replies > 0) {
            c->eof = true;
            return;
        }
        conn_close(c);
        return;
    }
    bytes_put(&c->in, data, n);
    if (bytes_error(&c->in) != 0) {
        conn_close(c);
        return;
    }
    conn_run(c);
}

static void on_accept(struct env_listener *listener, struct env_stream *stream)
{
    struct http_server *server = env_listener_data(listener);
    struct http_conn *c = NULL;
    if (server->n_conns < CONNECTIONS_MAX) {
        c = calloc(1, sizeof(*c));
    }
    if (c == NULL) {
        log_warn("http_connection_refused", "peer=%s connections=%u", env_stream_peer(stream),
                 server->n_conns);
        env_stream_close(stream, NULL, NULL);
        return;
    }
    c->server = server;
    c->stream = stream;
    c->wait = WAIT_NONE;
    bytes_init(&c->in, IN_MAX);
    list_init(&c->due);
    list_push_back(&server->conns, &c->all);
    server->n_conns++;
    env_stream_set_data(stream, c);
    conn_queue(c, WAIT_HEAD); /* a fresh connection has a request to send */
    env_stream_read_start(stream, on_read);
}

/* --- Timeouts
 * ------------------------------------------------------------------------------------------------
 */

/* The connection at the head of its queue has had its time. */
static void conn_late(struct http_conn *c)
{
    switch (c->wait) {
    case WAIT_BODY:
        if (c->progress >= BODY_PER_WINDOW) {
            conn_queue(c, WAIT_BODY);
            return;
        }
        conn_refuse(c, 408, "the body comes too slowly");
        conn_settle(c);
        return;
    case WAIT_HEAD:
        if (c->in.len > 0) {
            conn_refuse(c, 408, "the request head did not come in 10 s");
            conn_settle(c);
            return;
        }
        break;
    case WAIT_SEND:
        if (env_stream_queued_bytes(c->stream) < c->progress) {
            conn_queue(c, WAIT_SEND);
            return;
        }
        break;
    default:
        break;
    }
    conn_close(c);
}

static void on_tick(struct env_timer *timer)
{
    struct http_server *server = timer->data;
    bool any = false;
    server->tick++;
    for (unsigned k = 0; k < WAIT_CLASSES; k++) {
        struct list *head = &server->due[k];
        while (!list_empty(head)) {
            struct http_conn *c = list_entry(head->next, struct http_conn, due);
            if (server->tick - c->since < wait_ticks[k]) {
                any = true;
                break;
            }
            conn_late(c);
        }
    }
    server->ticking = any;
    if (any) {
        env_timer_start(timer, TICK_US, on_tick);
    }
}

/* --- Server
 * --------------------------------------------------------------------------------------------------
 */

int http_server_new(struct env *env, const char *host, uint16_t port,
                    struct http_server **ret_server, struct error *err)
{
    return http_server_new_over(env, env, host, port, ret_server, err);
}

int http_server_new_over(struct env *env, struct env *sockets, const char *host, uint16_t port,
                         struct http_server **ret_server, struct error *err)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return error_set(err, WEIR_ENOMEM, "http server: out of memory");
    }
    server->env = env;
    server->date_s = -1;
    list_init(&server->conns);
    for (unsigned k = 0; k < WAIT_CLASSES; k++) {
        list_init(&server->due[k]);
    }
    int rv = env_timer_init(env, &server->timer);
    if (rv < 0) {
        free(server);
        return error_set(err, rv, "http server: timer");
    }
    server->timer.data = server;
    rv = env_listen(sockets, host, port, on_accept, server, &server->listener, err);
    if (rv < 0) {
        env_timer_close(&server->timer);
        free(server);
        return rv;
    }
    *ret_server = server;
    return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
    return env_listener_port(server->listener);
}

static void on_finish(struct env_defer *defer)
{
    struct http_server *server = defer->data;
    void (*cb)(void *data) = server->close_cb;
    void *data = server->close_data;
    env_timer_close(&server->timer);
    for (unsigned i = 0; i < server->n_routes; i++) {
        free((void *)(uintptr_t)server->routes[i].r.method);
        free((void *)(uintptr_t)server->routes[i].r.path);
    }
    free(server->routes);
    free(server);
    if (cb != NULL) {
        cb(data);
    }
}

static void server_maybe_finish(struct http_server *server)
{
    if (server->closing && server->n_conns == 0) {
        server->finish.data = server;
        env_defer(server->env, &server->finish, on_finish);
    }
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
}

void http_server_close(struct http_server *server, void (*cb)(void *data), void *data)
{
    server->closing = true;
    server->close_cb = cb;
    server->close_data = data;
    env_listener_close(server->listener);
    env_timer_stop(&server->timer);
    LIST_FOREACH(it, &server->conns)
    {
        conn_close(list_entry(it, struct http_conn, all)); /* goes later, in a callback */
    }
    server_maybe_finish(server);
}
