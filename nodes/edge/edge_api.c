/* What the page asks: which channels are live, and what a channel has broadcast. Shapes:
 * docs/hls.md. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/edge/edge.h"
#include "views/accounts.h"

#define URL_BYTES 128
/* The answer of /api/streams is made at most this often. */
#define STREAMS_NS      500000000u
#define BROADCASTS_MAX  100
#define CHANNELS_PREFIX "/api/channels/"

/* Takes the value. */
static void respond_json(struct http_exchange *ex, json_t *value)
{
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (text == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "answer");
        return;
    }
    struct http_body *body = http_body_new((uint8_t *)text, strlen(text));
    if (body == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "answer");
        return;
    }
    http_respond(ex, 200, "application/json", "Cache-Control: no-cache\r\n" EDGE_CORS, body);
}

static json_t *hex_json(uint64_t id)
{
    char text[17];
    (void)snprintf(text, sizeof(text), "%016" PRIx64, id);
    return json_string(text);
}

static json_t *url_json(const char *format, const char *channel, uint64_t id)
{
    char text[URL_BYTES];
    (void)snprintf(text, sizeof(text), "/hls/%s/%016" PRIx64 "%s", channel, id, format);
    return json_string(text);
}

static json_t *thumb_json(const char *channel, const struct lifecycle_broadcast *b)
{
    return b->thumbnail.object.size == 0 ? json_null() : url_json("/thumb.jpg", channel, b->id);
}

static json_t *rendition_json(const struct lifecycle_rendition *r)
{
    return json_pack("{s:s, s:i, s:i, s:f, s:I, s:s}", "name", r->name, "width", (int)r->width,
                     "height", (int)r->height, "frame_rate", (double)r->frame_rate_milli / 1000,
                     "bandwidth", (json_int_t)r->bandwidth, "codecs", r->codecs);
}

static json_t *renditions_json(const struct lifecycle_channel *c)
{
    json_t *list = json_array();
    for (unsigned i = 0; list != NULL && i < c->n_renditions; i++) {
        if (lifecycle_rendition_current(c, c->renditions[i])) {
            (void)json_array_append_new(list, rendition_json(c->renditions[i]));
        }
    }
    return list;
}

struct listing {
    struct edge *e;
    json_t *list;
};

static int add_stream(void *data, const struct lifecycle_channel *c)
{
    struct listing *l = data;
    char playlist[URL_BYTES];
    struct account_channel *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return 1;
    }
    if (accounts_channel(l->e->node->views, c->name, a) != 0) {
        memset(a, 0, sizeof(*a));
    }
    (void)snprintf(playlist, sizeof(playlist), "/hls/%s/master.m3u8", c->name);
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:o, s:I, s:b, s:s, s:o, s:o}", "channel", c->name, "title", a->title,
        "category", a->category, "broadcast", hex_json(c->broadcast.id), "started_ms",
        (json_int_t)c->broadcast.started_ms, "ready", edge_live_ready(c), "playlist", playlist,
        "renditions", renditions_json(c), "thumbnail", thumb_json(c->name, &c->broadcast));
    free(a);
    return o == NULL || json_array_append_new(l->list, o) != 0 ? 1 : 0;
}

static int by_start(const void *a, const void *b)
{
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "started_ms"));
    json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "started_ms"));
    if (x != y) {
        return x > y ? -1 : 1;
    }
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "channel")),
                  json_string_value(json_object_get(*(json_t *const *)b, "channel")));
}

/* Newest first; a new array, or NULL. */
static json_t *sorted(json_t *list)
{
    size_t n = json_array_size(list);
    json_t **items = malloc((n + 1) * sizeof(json_t *));
    json_t *out = json_array();
    for (size_t i = 0; items != NULL && i < n; i++) {
        items[i] = json_array_get(list, i);
    }
    if (items != NULL) {
        qsort(items, n, sizeof(json_t *), by_start);
    }
    for (size_t i = 0; items != NULL && i < n; i++) {
        (void)json_array_append(out, items[i]);
    }
    free(items);
    json_decref(list);
    return out;
}

static struct http_body *render_streams(struct edge *e)
{
    struct listing l = {.e = e, .list = json_array()};
    if (l.list == NULL || lifecycle_live_each(e->node->views, add_stream, &l) != 0) {
        json_decref(l.list);
        return NULL;
    }
    json_t *answer = json_pack("{s:o}", "streams", sorted(l.list));
    char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    return text != NULL ? http_body_new((uint8_t *)text, strlen(text)) : NULL;
}

void edge_api_streams(void *data, struct http_exchange *ex)
{
    struct edge *e = data;
    if (e->stopping) {
        edge_error(ex, 503, "stopping\n");
        return;
    }
    uint64_t now_ns = env_now_ns(e->node->env);
    if (e->streams == NULL || now_ns >= e->streams_until_ns) {
        http_body_unref(e->streams);
        e->streams = render_streams(e);
        e->streams_until_ns = now_ns + STREAMS_NS;
    }
    if (e->streams == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "streams");
        return;
    }
    http_respond(ex, 200, "application/json", "Cache-Control: no-cache\r\n" EDGE_CORS,
                 http_body_ref(e->streams));
}

struct broadcasts {
    const char *channel;
    json_t *list;
};

static int add_broadcast(void *data, const struct lifecycle_broadcast *b)
{
    struct broadcasts *l = data;
    bool live = b->ended_ms == 0;
    if (!live && b->duration_us == 0) {
        return 0; /* nothing was ever committed */
    }
    char playlist[URL_BYTES];
    (void)snprintf(playlist, sizeof(playlist), "/hls/%s/vod/%016" PRIx64 ".m3u8", l->channel,
                   b->id);
    json_t *o = json_pack("{s:o, s:b, s:I, s:o, s:I, s:s, s:o}", "broadcast", hex_json(b->id),
                          "live", live, "started_ms", (json_int_t)b->started_ms, "ended_ms",
                          live ? json_null() : json_integer((json_int_t)b->ended_ms), "duration_ms",
                          (json_int_t)(b->duration_us / 1000), "playlist", playlist, "thumbnail",
                          thumb_json(l->channel, b));
    if (o == NULL || json_array_append_new(l->list, o) != 0) {
        return WEIR_ENOMEM;
    }
    return json_array_size(l->list) == BROADCASTS_MAX ? 1 : 0;
}

/* /api/channels/<channel>/broadcasts */
static bool broadcasts_channel(const char *path, char ret_channel[EDGE_CHANNEL_MAX + 1])
{
    const char *name = path + strlen(CHANNELS_PREFIX);
    const char *slash = strchr(name, '/');
    size_t n = slash != NULL ? (size_t)(slash - name) : 0;
    if (n == 0 || n > EDGE_CHANNEL_MAX || strcmp(slash, "/broadcasts") != 0) {
        return false;
    }
    memcpy(ret_channel, name, n);
    ret_channel[n] = 0;
    return true;
}

void edge_api_channels(void *data, struct http_exchange *ex)
{
    struct edge *e = data;
    char channel[EDGE_CHANNEL_MAX + 1];
    if (e->stopping) {
        edge_error(ex, 503, "stopping\n");
        return;
    }
    if (!broadcasts_channel(http_path(ex), channel)) {
        edge_error(ex, 404, "no such resource\n");
        return;
    }
    struct broadcasts l = {.channel = channel, .list = json_array()};
    int rc = l.list == NULL ? WEIR_ENOMEM
                            : lifecycle_broadcasts(e->node->views, channel, add_broadcast, &l);
    if (rc < 0) {
        json_decref(l.list);
        edge_fail(ex, rc, "broadcasts");
        return;
    }
    bool live = lifecycle_live(e->node->views, channel) != NULL;
    respond_json(
        ex, json_pack("{s:s, s:b, s:o}", "channel", channel, "live", live, "broadcasts", l.list));
}
