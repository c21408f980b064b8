#include "nodes/edge/edge.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_BYTES     512
#define INTERNAL_PREFIX "/internal/store/"
#define PLAIN           "text/plain; charset=utf-8"

/* --- Answers --- */

void edge_error(struct http_exchange *ex, int status, const char *fmt, ...)
{
    char text[ERROR_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    const char *headers = status == 404 || status == 400
                              ? "Cache-Control: public, max-age=1\r\n" EDGE_CORS
                              : "Cache-Control: no-store\r\n" EDGE_CORS;
    http_respond(ex, status, PLAIN, headers, http_body_copy(text, strlen(text)));
}

static int http_status_of(int code)
{
    switch (code) {
    case WEIR_EINVAL:
        return 400;
    case WEIR_ENOTFOUND:
        return 404;
    case WEIR_ETOOBIG:
        return 413;
    case WEIR_EBUSY:
    case WEIR_EUNAVAILABLE:
    case WEIR_ECLOSED:
    case WEIR_ETIMEOUT:
        return 503;
    case WEIR_ENOSPC:
        return 507; /* media/store.h: the other nodes look for it */
    default:
        return 500;
    }
}

void edge_fail(struct http_exchange *ex, int code, const char *what)
{
    edge_error(ex, http_status_of(code), "%s: %s\n", what, error_name(code));
}

struct http_body *edge_body_of(struct http_exchange *ex, struct bytes *b)
{
    int rc = bytes_error(b);
    struct http_body *body = NULL;
    if (rc == 0) {
        body = http_body_new(b->data, b->len); /* the body takes the memory, also when it fails */
        rc = body == NULL ? WEIR_ENOMEM : 0;
    } else {
        bytes_close(b);
    }
    if (rc != 0) {
        edge_fail(ex, rc, "answer");
    }
    return body;
}

/* --- /hls/ --- */

static void serve_hls(void *data, struct http_exchange *ex)
{
    static void (*const handlers[EDGE_TARGETS])(struct edge *, struct http_exchange *,
                                                const struct edge_path *) = {
        [EDGE_MASTER] = edge_live_master,        [EDGE_PLAYLIST] = edge_live_playlist,
        [EDGE_THUMB] = edge_media_thumb,         [EDGE_VOD_MASTER] = edge_vod_master,
        [EDGE_VOD_PLAYLIST] = edge_vod_playlist, [EDGE_VOD_THUMB] = edge_media_thumb,
        [EDGE_INIT] = edge_media_init,           [EDGE_SEGMENT] = edge_media_segment,
        [EDGE_PART] = edge_media_part,
    };
    struct edge *e = data;
    struct edge_path path;
    if (e->stopping) {
        edge_error(ex, 503, "stopping\n");
    } else if (!edge_path_parse(http_path(ex), &path)) {
        edge_error(ex, 404, "no such resource\n");
    } else {
        handlers[path.target](e, ex, &path);
    }
}

/* --- /internal/store/: the store's face for the other nodes --- */

static void internal_put_done(void *data, int status)
{
    struct http_exchange *ex = data;
    if (status == 0) {
        http_respond(ex, 204, "", "", NULL);
    } else {
        edge_fail(ex, status, "put");
    }
}

static void internal_get_done(void *data, int status, struct http_body *body)
{
    struct http_exchange *ex = data;
    if (status == 0) {
        http_respond(ex, 200, "application/octet-stream", "", http_body_ref(body));
    } else {
        edge_fail(ex, status, "get");
    }
}

/* A query parameter as a number; absent is 0. */
static bool number_of(struct http_exchange *ex, const char *name, uint64_t *ret_number)
{
    const char *text = http_query(ex, name);
    *ret_number = 0;
    return text == NULL || edge_number_parse(text, INT64_MAX, ret_number);
}

/* NULL: it has been answered. */
static const char *internal_object(struct edge *e, struct http_exchange *ex)
{
    if (!node_authorised(e->node, ex)) {
        return NULL;
    }
    if (e->stopping) {
        edge_error(ex, 503, "stopping\n");
        return NULL;
    }
    const char *object = http_path(ex) + strlen(INTERNAL_PREFIX);
    if (!store_object_valid(object)) {
        edge_error(ex, 400, "bad object name\n");
        return NULL;
    }
    return object;
}

/* Strangers' bodies are not read. */
static bool internal_admit(void *data, struct http_exchange *ex)
{
    const struct edge *e = data;
    return node_authorised(e->node, ex);
}

static void internal_put(void *data, struct http_exchange *ex)
{
    struct edge *e = data;
    const char *object = internal_object(e, ex);
    uint64_t position = 0;
    size_t n = 0;
    struct error err = {0};
    if (object == NULL) {
        return;
    }
    if (!number_of(ex, "position", &position)) {
        edge_error(ex, 400, "position: not a number\n");
        return;
    }
    const uint8_t *bytes = http_request_body(ex, &n);
    struct http_body *body = http_body_copy(bytes, n);
    int rc = body == NULL
                 ? WEIR_ENOMEM
                 : store_put(e->node->store, object, position, body, internal_put_done, ex, &err);
    http_body_unref(body);
    if (rc != 0) {
        edge_fail(ex, rc, err.text[0] != 0 ? err.text : "put");
    }
}

static void internal_get(void *data, struct http_exchange *ex)
{
    struct edge *e = data;
    const char *object = internal_object(e, ex);
    uint64_t position = 0, size = 0;
    if (object == NULL) {
        return;
    }
    if (!number_of(ex, "position", &position) || !number_of(ex, "size", &size)) {
        edge_error(ex, 400, "position and size: not a number\n");
        return;
    }
    int rc = store_get(e->node->store, object, position, size, internal_get_done, ex, NULL);
    if (rc != 0) {
        edge_fail(ex, rc, "get");
    }
}

/* --- Start and stop --- */

static void on_event(void *data, const struct view_event *event)
{
    if (event->verdict == VERDICT_OK) {
        edge_live_event(data, event->outcome);
    }
}

static void on_tick(struct env_timer *timer)
{
    struct edge *e = timer->data;
    edge_live_tick(e);
    env_timer_start(timer, EDGE_TICK_US, on_tick);
}

static int add_routes(struct edge *e, struct error *err)
{
    const struct http_route routes[] = {
        {.method = "GET", .path = "/hls/", .prefix = true, .handler = serve_hls, .data = e},
        {.method = "GET", .path = "/api/streams", .handler = edge_api_streams, .data = e},
        {.method = "GET",
         .path = "/api/channels/*/broadcasts",
         .handler = edge_api_channels,
         .data = e},
        {.method = "GET",
         .path = INTERNAL_PREFIX,
         .prefix = true,
         .handler = internal_get,
         .data = e},
        {.method = "PUT",
         .path = INTERNAL_PREFIX,
         .prefix = true,
         .body_max = STORE_PUT_MAX,
         .handler = internal_put,
         .data = e,
         .admit = internal_admit},
        {.method = "GET", .path = "/", .prefix = true, .handler = edge_static, .data = e},
    };
    return node_routes(e->node, routes, sizeof(routes) / sizeof(routes[0]), err);
}

static void add_metrics(struct edge *e)
{
    e->renders = metric_counter("weir_edge_renders_total", "", "Live playlists rendered.");
    e->playlists = metric_counter("weir_edge_playlists_total", "", "Media playlists answered.");
    e->media = metric_counter("weir_edge_media_total", "", "Parts, segments, inits, thumbnails.");
    e->blocked = metric_counter("weir_edge_blocked_total", "", "Requests that had to wait.");
    e->timeouts = metric_counter("weir_edge_block_timeouts_total", "", "Of these, in vain.");
}

static void let_go(struct edge *e)
{
    env_timer_close(&e->timer);
    edge_vod_free(e->vod);
    edge_files_free(e->files);
    http_body_unref(e->streams);
    e->vod = NULL;
    e->files = NULL;
    e->streams = NULL;
}

static int edge_open(struct edge *e, struct error *err)
{
    int rc = env_timer_init(e->node->env, &e->timer);
    rc = rc == 0 ? edge_vod_new(&e->vod) : rc;
    rc = rc == 0 ? edge_files_new(e->node->env, e->node->config->web_dir, &e->files) : rc;
    if (rc != 0) {
        return error_set(err, rc, "edge: %s", error_name(rc));
    }
    return add_routes(e, err);
}

/* Routes stay until the HTTP server closes, which is after all roles have stopped: what their
 * handlers look at must live on. One role's state, freed when the next one stops. */
static struct edge *stopped_last;

static int edge_start(struct node *node, void **ret_state, struct error *err)
{
    struct edge *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return error_set(err, WEIR_ENOMEM, "edge: out of memory");
    }
    e->node = node;
    for (unsigned i = 0; i < EDGE_BUCKETS; i++) {
        list_init(&e->channels[i]);
    }
    add_metrics(e);
    int rc = edge_open(e, err);
    if (rc != 0) {
        let_go(e);
        e->stopping = true;
        free(stopped_last);
        stopped_last = e;
        return rc;
    }
    e->listener.data = e;
    e->listener.event = on_event;
    views_listen(node->views, VIEW_LIFECYCLE, &e->listener);
    e->timer.data = e;
    env_timer_start(&e->timer, EDGE_TICK_US, on_tick);
    *ret_state = e;
    return 0;
}

static void edge_stop(void *state, void (*cb)(void *data), void *data)
{
    struct edge *e = state;
    e->stopping = true;
    views_unlisten(&e->listener);
    edge_live_close(e);
    let_go(e);
    free(stopped_last);
    stopped_last = e;
    cb(data);
}

const struct role role_edge = {
    .name = "edge",
    .bit = CONFIG_ROLE_EDGE,
    .start = edge_start,
    .stop = edge_stop,
};
