/* The transcode role: takes streams from ingest nodes over an upgraded HTTP connection.
 *
 *   GET /internal/transcode/load                {"load":N}: streams in thousandths per processor
 *   GET /internal/transcode/stream/<channel>    Upgrade: weir-flv; then frames of
 * media/worker_wire.h both ways epoch, broadcast (hex), wall_ms, msn0, part0, msn1, part1: struct
 * stream_options */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/logging.h"
#include "base/metrics.h"
#include "nodes/role.h"
#include "nodes/transcode/stream.h"

#define STREAMS_MAX   256
#define STREAM_PREFIX "/internal/transcode/stream/"

struct transcode {
    struct node *node;
    struct stream *streams[STREAMS_MAX];
    unsigned n_streams;
    long processors;
    bool stopping;
    struct metric *gauge;
};

/* An upgrade that is being handed over. */
struct taking {
    struct transcode *role;
    struct stream_options options;
};

static void on_load(void *data, struct http_exchange *ex)
{
    struct transcode *t = data;
    if (!node_authorised(t->node, ex)) {
        return;
    }
    char json[64];
    (void)snprintf(json, sizeof(json), "{\"load\":%ld}", (long)t->n_streams * 1000 / t->processors);
    http_respond_json(ex, t->n_streams < STREAMS_MAX ? 200 : 503, json);
}

static void on_stream_closed(void *data, struct stream *s)
{
    struct transcode *t = data;
    for (unsigned i = 0; i < t->n_streams; i++) {
        if (t->streams[i] == s) {
            t->streams[i] = t->streams[--t->n_streams];
            break;
        }
    }
    metric_set(t->gauge, t->n_streams);
}

static void on_upgraded(void *data, struct env_stream *link, const uint8_t *early, size_t n_early)
{
    struct taking *taking = data;
    struct transcode *t = taking->role;
    struct error err = {0};
    struct stream *s;
    int rc =
        stream_new(t->node, &taking->options, link, early, n_early, on_stream_closed, t, &s, &err);
    if (rc == 0) {
        t->streams[t->n_streams++] = s;
        metric_set(t->gauge, t->n_streams);
    } else {
        log_error("transcode_refused", "channel=%s error=\"%s\"", taking->options.channel,
                  err.code != 0 ? err.text : error_name(rc));
    }
}

static bool number(struct http_exchange *ex, const char *name, int base, uint64_t max,
                   uint64_t *ret_value)
{
    const char *text = http_query(ex, name);
    char *end = NULL;
    errno = 0;
    unsigned long long v = text != NULL ? strtoull(text, &end, base) : 0;
    if (text == NULL || text[0] == 0 || text[0] == '-' || *end != 0 || errno != 0 || v > max) {
        return false;
    }
    *ret_value = v;
    return true;
}

static bool parse_options(struct http_exchange *ex, struct stream_options *o)
{
    const char *channel = http_path(ex) + strlen(STREAM_PREFIX);
    uint64_t epoch, wall, part[2], discontinuity;
    bool ok = strlen(channel) > 0 && strlen(channel) <= STREAM_CHANNEL_MAX &&
              number(ex, "epoch", 10, INT64_MAX, &epoch) &&
              number(ex, "broadcast", 16, UINT64_MAX, &o->broadcast) &&
              number(ex, "wall_ms", 10, INT64_MAX >> 8, &wall) &&
              number(ex, "msn0", 10, UINT64_MAX, &o->next[0].msn) &&
              number(ex, "part0", 10, UINT32_MAX, &part[0]) &&
              number(ex, "msn1", 10, UINT64_MAX, &o->next[1].msn) &&
              number(ex, "part1", 10, UINT32_MAX, &part[1]) &&
              number(ex, "discontinuity", 10, 1, &discontinuity);
    if (ok) {
        (void)snprintf(o->channel, sizeof(o->channel), "%s", channel);
        o->worker_epoch = (int64_t)epoch;
        o->wall_ms = (int64_t)wall;
        o->discontinuity = discontinuity != 0;
        o->next[0].part = (uint32_t)part[0];
        o->next[1].part = (uint32_t)part[1];
    }
    return ok;
}

static void on_stream(void *data, struct http_exchange *ex)
{
    struct transcode *t = data;
    if (!node_authorised(t->node, ex)) {
        return;
    }
    struct taking taking = {.role = t};
    const char *upgrade = http_header(ex, "Upgrade");
    if (upgrade == NULL || strcmp(upgrade, "weir-flv") != 0) {
        http_respond_text(ex, 426, "Upgrade: weir-flv expected");
    } else if (!parse_options(ex, &taking.options)) {
        http_respond_text(ex, 400, "missing or malformed parameter");
    } else if (t->stopping || t->n_streams == STREAMS_MAX) {
        http_respond_text(ex, 503, t->stopping ? "stopping" : "too many streams");
    } else {
        http_upgrade(ex, "Upgrade: weir-flv\r\nConnection: Upgrade\r\n", on_upgraded, &taking);
    }
}

static int transcode_start(struct node *node, void **ret_state, struct error *err)
{
    /* Routes outlive the role: HTTP stops after it. A process is one node. */
    static struct transcode state;
    struct transcode *t = &state;
    *t = (struct transcode){.node = node};
    t->processors = sysconf(_SC_NPROCESSORS_ONLN) > 0 ? sysconf(_SC_NPROCESSORS_ONLN) : 1;
    t->gauge = metric_gauge("weir_transcode_streams", "", "Streams transcoded on this node.");
    const struct http_route routes[] = {
        {.method = "GET", .path = "/internal/transcode/load", .handler = on_load, .data = t},
        {.method = "GET", .path = STREAM_PREFIX, .prefix = true, .handler = on_stream, .data = t},
    };
    *ret_state = t;
    return node_routes(node, routes, sizeof(routes) / sizeof(routes[0]), err);
}

static void transcode_stop(void *state, void (*cb)(void *data), void *data)
{
    struct transcode *t = state;
    t->stopping = true;
    while (t->n_streams > 0) {
        stream_kill(t->streams[--t->n_streams]);
    }
    cb(data);
}

const struct role role_transcode = {"transcode", CONFIG_ROLE_TRANSCODE, transcode_start,
                                    transcode_stop};
