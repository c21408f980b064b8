/* Playlists of whole broadcasts, rendered from the stored segments. Those of an ended broadcast
 * never change; while it runs, its playlist (EXT-X-PLAYLIST-TYPE:EVENT) changes with every complete
 * segment. The newest few are kept, for all viewers of the same VOD. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/edge/edge.h"

#define KEPT_MAX       128
#define KEPT_BYTES_MAX (64u << 20)
#define SEGMENTS_MAX   400000 /* nine days of 2 s */
#define URI_BYTES      96
#define MASTER_BYTES   8192

enum kept_kind { KEPT_MASTER, KEPT_PLAYLIST, KEPT_LAST_WINDOW };

struct kept_key {
    enum kept_kind kind;
    char channel[LIFECYCLE_CHANNEL_MAX + 1];
    char rendition[LIFECYCLE_NAME_MAX + 1];
    uint64_t broadcast;
    uint64_t state; /* what it was rendered from: changes when the playlist does */
};

struct kept {
    struct list link; /* least recently used first */
    struct kept_key key;
    struct http_body *body;
};

struct edge_vod {
    struct list kept;
    unsigned n;
    size_t bytes;
};

int edge_vod_new(struct edge_vod **ret_vod)
{
    struct edge_vod *v = calloc(1, sizeof(*v));
    if (v == NULL) {
        return WEIR_ENOMEM;
    }
    list_init(&v->kept);
    *ret_vod = v;
    return 0;
}

static void kept_free(struct edge_vod *v, struct kept *k)
{
    v->n--;
    v->bytes -= k->body->len;
    list_remove(&k->link);
    http_body_unref(k->body);
    free(k);
}

void edge_vod_free(struct edge_vod *v)
{
    while (v != NULL && !list_empty(&v->kept)) {
        kept_free(v, list_entry(v->kept.next, struct kept, link));
    }
    free(v);
}

static struct kept_key key_of(enum kept_kind kind, const struct edge_path *path, uint64_t broadcast,
                              uint64_t state)
{
    struct kept_key k = {.kind = kind, .broadcast = broadcast, .state = state};
    memcpy(k.channel, path->channel, sizeof(k.channel));
    memcpy(k.rendition, path->rendition, sizeof(k.rendition));
    return k;
}

static bool key_equal(const struct kept_key *a, const struct kept_key *b)
{
    return a->kind == b->kind && a->broadcast == b->broadcast && a->state == b->state &&
           strcmp(a->channel, b->channel) == 0 && strcmp(a->rendition, b->rendition) == 0;
}

static struct http_body *kept_find(struct edge_vod *v, const struct kept_key *key)
{
    LIST_FOREACH(it, &v->kept)
    {
        struct kept *k = list_entry(it, struct kept, link);
        if (key_equal(&k->key, key)) {
            list_remove(&k->link);
            list_push_back(&v->kept, &k->link);
            return k->body;
        }
    }
    return NULL;
}

/* Best effort. */
static void kept_add(struct edge_vod *v, const struct kept_key *key, struct http_body *body)
{
    struct kept *k = body->len <= KEPT_BYTES_MAX ? malloc(sizeof(*k)) : NULL;
    if (k == NULL) {
        return;
    }
    *k = (struct kept){.key = *key, .body = http_body_ref(body)};
    list_push_back(&v->kept, &k->link);
    v->n++;
    v->bytes += body->len;
    while (v->n > KEPT_MAX || v->bytes > KEPT_BYTES_MAX) {
        kept_free(v, list_entry(v->kept.next, struct kept, link));
    }
}

/* --- What is stored, as the renderer wants it --- */

struct collected {
    struct playlist_segment *segments;
    unsigned n, max;
    bool only_last;           /* stop after max, newest first */
    uint32_t discontinuities; /* of the segment collected last */
    int rc;
};

static int collect(void *data, const struct lifecycle_segment *s)
{
    struct collected *c = data;
    if (!s->complete) {
        return 0;
    }
    if (c->n == c->max) {
        c->rc = c->only_last ? 0 : WEIR_ETOOBIG;
        return 1;
    }
    if ((c->n & (c->n - 1)) == 0) {
        size_t n = c->n == 0 ? 1 : 2 * (size_t)c->n;
        struct playlist_segment *grown = realloc(c->segments, n * sizeof(*grown));
        if (grown == NULL) {
            c->rc = WEIR_ENOMEM;
            return 1;
        }
        c->segments = grown;
    }
    c->segments[c->n++] = (struct playlist_segment){.msn = s->msn,
                                                    .wall_ms = s->wall_ms,
                                                    .duration_us = s->duration_us,
                                                    .init = s->init,
                                                    .discontinuity = s->discontinuity,
                                                    .complete = true};
    c->discontinuities = s->discontinuities;
    return 0;
}

static void turn_round(struct collected *c)
{
    for (unsigned i = 0; i < c->n / 2; i++) {
        struct playlist_segment s = c->segments[i];
        c->segments[i] = c->segments[c->n - 1 - i];
        c->segments[c->n - 1 - i] = s;
    }
}

struct named {
    const char *name;
    bool found;
    struct lifecycle_rendition rendition;
};

static int find_named(void *data, const struct lifecycle_rendition *r)
{
    struct named *n = data;
    if (strcmp(r->name, n->name) != 0) {
        return 0;
    }
    n->found = true;
    n->rendition = *r;
    return 1;
}

/* 0, or the negative code. */
static int rendition_stored(struct edge *e, const struct edge_path *path, uint64_t broadcast,
                            struct named *ret)
{
    *ret = (struct named){.name = path->rendition};
    int rc = lifecycle_renditions(e->node->views, path->channel, broadcast, find_named, ret);
    if (rc < 0) {
        return rc;
    }
    return ret->found ? 0 : WEIR_ENOTFOUND;
}

static void send_body(struct edge *e, struct http_exchange *ex, struct http_body *body, bool ended)
{
    metric_add(e->playlists, 1);
    http_respond(ex, 200, EDGE_M3U8,
                 ended ? "Cache-Control: public, max-age=3600\r\n" EDGE_CORS
                       : "Cache-Control: public, max-age=1\r\n" EDGE_CORS,
                 http_body_ref(body));
}

/* Sends what was rendered and keeps it. */
static void finish(struct edge *e, struct http_exchange *ex, const struct kept_key *key, int rc,
                   struct bytes *out, bool ended)
{
    if (rc != 0) {
        bytes_close(out);
        edge_fail(ex, rc, "playlist");
        return;
    }
    struct http_body *body = edge_body_of(ex, out);
    if (body != NULL) {
        kept_add(e->vod, key, body);
        send_body(e, ex, body, ended);
        http_body_unref(body);
    }
}

/* --- Master --- */

struct variants {
    struct edge *e;
    const struct edge_path *path;
    unsigned n;
    struct playlist_variant list[LIFECYCLE_RENDITIONS_MAX];
    char uris[LIFECYCLE_RENDITIONS_MAX][URI_BYTES];
    char codecs[LIFECYCLE_RENDITIONS_MAX][LIFECYCLE_CODECS_MAX + 1];
};

static int has_segment(void *data, const struct lifecycle_segment *s)
{
    *(bool *)data = s->complete;
    return 1;
}

static int add_variant(void *data, const struct lifecycle_rendition *r)
{
    struct variants *v = data;
    const struct edge_path *path = v->path;
    bool some = false;
    int rc = lifecycle_segments(v->e->node->views, path->channel, path->broadcast, r->id, false,
                                has_segment, &some);
    if (rc < 0 || !some || v->n == LIFECYCLE_RENDITIONS_MAX) {
        return rc < 0 ? rc : 0;
    }
    (void)snprintf(v->uris[v->n], URI_BYTES, "%016" PRIx64 "/%s.m3u8", path->broadcast, r->name);
    memcpy(v->codecs[v->n], r->codecs, sizeof(v->codecs[v->n]));
    v->list[v->n] = (struct playlist_variant){.uri = v->uris[v->n],
                                              .codecs = v->codecs[v->n],
                                              .bandwidth = r->bandwidth,
                                              .width = r->width,
                                              .height = r->height,
                                              .frame_rate_milli = r->frame_rate_milli};
    v->n++;
    return 0;
}

/* While it runs, renditions may still come. */
static uint64_t live_version(struct edge *e, const struct edge_path *path)
{
    const struct lifecycle_channel *c = lifecycle_live(e->node->views, path->channel);
    return c != NULL && c->broadcast.id == path->broadcast ? c->version : UINT64_MAX;
}

void edge_vod_master(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct lifecycle_broadcast b;
    int rc = lifecycle_broadcast(e->node->views, path->channel, path->broadcast, &b);
    if (rc != 0) {
        edge_fail(ex, rc, "broadcast");
        return;
    }
    struct kept_key key = key_of(KEPT_MASTER, path, path->broadcast, live_version(e, path));
    struct http_body *kept = kept_find(e->vod, &key);
    if (kept != NULL) {
        send_body(e, ex, kept, b.ended_ms != 0);
        return;
    }
    struct variants v = {.e = e, .path = path};
    rc = lifecycle_renditions(e->node->views, path->channel, path->broadcast, add_variant, &v);
    if (rc == 0 && v.n == 0) {
        edge_error(ex, 404, "the broadcast has no complete segment\n");
        return;
    }
    struct bytes out;
    bytes_init(&out, MASTER_BYTES);
    rc = rc == 0 ? playlist_render_master(v.list, v.n, &out) : rc;
    finish(e, ex, &key, rc, &out, b.ended_ms != 0);
}

/* --- Media playlists --- */

static int render(const struct lifecycle_rendition *r, const struct collected *c, bool ended,
                  enum playlist_kind kind, const char *prefix, uint64_t discontinuity_sequence,
                  struct bytes *out)
{
    struct playlist_media p = {.kind = kind,
                               .ended = ended,
                               .media_prefix = prefix,
                               .target_duration_ms = r->target_duration_ms,
                               .part_target_ms = r->part_target_ms,
                               .discontinuity_sequence = discontinuity_sequence,
                               .segments = c->segments,
                               .n_segments = c->n};
    return playlist_render_media(&p, out);
}

/* Complete segments so far, while it runs; else a number that they never reach. */
static uint64_t playlist_state(struct edge *e, const struct edge_path *path)
{
    const struct lifecycle_channel *c = lifecycle_live(e->node->views, path->channel);
    if (c == NULL || c->broadcast.id != path->broadcast) {
        return UINT64_MAX;
    }
    const struct lifecycle_rendition *r = lifecycle_rendition_find(c, path->rendition);
    return r != NULL ? r->next_msn : 0;
}

void edge_vod_playlist(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct lifecycle_broadcast b;
    struct named named;
    int rc = lifecycle_broadcast(e->node->views, path->channel, path->broadcast, &b);
    rc = rc == 0 ? rendition_stored(e, path, path->broadcast, &named) : rc;
    if (rc != 0) {
        edge_fail(ex, rc, "broadcast");
        return;
    }
    bool ended = b.ended_ms != 0;
    struct kept_key key = key_of(KEPT_PLAYLIST, path, path->broadcast, playlist_state(e, path));
    struct http_body *kept = kept_find(e->vod, &key);
    if (kept != NULL) {
        send_body(e, ex, kept, ended);
        return;
    }
    struct collected c = {.max = SEGMENTS_MAX};
    rc = lifecycle_segments(e->node->views, path->channel, path->broadcast, named.rendition.id,
                            false, collect, &c);
    rc = rc < 0 ? rc : c.rc;
    if (rc == 0 && c.n == 0) {
        free(c.segments);
        edge_error(ex, 404, "the broadcast has no complete segment\n");
        return;
    }
    char prefix[URI_BYTES];
    (void)snprintf(prefix, sizeof(prefix), "../../%016" PRIx64 "/%s/", path->broadcast,
                   path->rendition);
    struct bytes out;
    bytes_init(&out, EDGE_PLAYLIST_MAX);
    rc = rc == 0 ? render(&named.rendition, &c, ended, ended ? PLAYLIST_VOD : PLAYLIST_EVENT,
                          prefix, 0, &out)
                 : rc;
    free(c.segments);
    finish(e, ex, &key, rc, &out, ended);
}

struct newest {
    bool found;
    struct lifecycle_broadcast broadcast;
};

static int take_newest(void *data, const struct lifecycle_broadcast *b)
{
    struct newest *n = data;
    n->found = true;
    n->broadcast = *b;
    return 1;
}

bool edge_vod_last_window(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct newest newest = {.found = false};
    struct named named;
    int rc = lifecycle_broadcasts(e->node->views, path->channel, take_newest, &newest);
    if (rc < 0 || !newest.found || newest.broadcast.ended_ms == 0) {
        return false;
    }
    uint64_t id = newest.broadcast.id;
    struct kept_key key = key_of(KEPT_LAST_WINDOW, path, id, UINT64_MAX);
    struct http_body *kept = kept_find(e->vod, &key);
    if (kept != NULL) {
        send_body(e, ex, kept, false);
        return true;
    }
    if (rendition_stored(e, path, id, &named) != 0) {
        return false;
    }
    struct collected c = {.max = e->node->config->media_window_segments, .only_last = true};
    rc = lifecycle_segments(e->node->views, path->channel, id, named.rendition.id, true, collect,
                            &c);
    rc = rc < 0 ? rc : c.rc;
    if (rc != 0 || c.n == 0) {
        free(c.segments);
        return false;
    }
    turn_round(&c);
    char prefix[URI_BYTES];
    (void)snprintf(prefix, sizeof(prefix), "%016" PRIx64 "/%s/", id, path->rendition);
    struct bytes out;
    bytes_init(&out, EDGE_PLAYLIST_MAX);
    rc = render(&named.rendition, &c, true, PLAYLIST_LIVE, prefix,
                c.discontinuities - (c.segments[0].discontinuity ? 1 : 0), &out);
    free(c.segments);
    finish(e, ex, &key, rc, &out, false);
    return true;
}
