#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "nodes/edge/edge.h"

#define URI_BYTES     64
#define MASTER_BYTES  8192
#define HEADERS_BYTES 160
/* Segments of one rendition after which the others are not waited for any more. */
#define READY_SEGMENTS 3

/* --- Channels --- */

static struct list *bucket_of(struct edge *e, const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != 0; name++) {
        h = (h ^ (uint8_t)*name) * 16777619u;
    }
    return &e->channels[h % EDGE_BUCKETS];
}

static struct edge_channel *channel_find(struct edge *e, const char *name)
{
    struct list *bucket = bucket_of(e, name);
    LIST_FOREACH(it, bucket)
    {
        struct edge_channel *ch = list_entry(it, struct edge_channel, link);
        if (strcmp(ch->name, name) == 0) {
            return ch;
        }
    }
    return NULL;
}

static void channel_drop_bodies(struct edge_channel *ch)
{
    http_body_unref(ch->master);
    ch->master = NULL;
    for (unsigned i = 0; i < LIFECYCLE_RENDITIONS_MAX; i++) {
        for (unsigned k = 0; k < 2; k++) {
            http_body_unref(ch->playlist[i][k]);
            ch->playlist[i][k] = NULL;
        }
    }
}

static void channel_release_all(struct edge_channel *ch);

/* Bodies of another state are let go; of another broadcast, waiters too. */
static void channel_refresh(struct edge_channel *ch, const struct lifecycle_channel *c)
{
    if (ch->broadcast != c->broadcast.id) {
        channel_release_all(ch);
        ch->n_slots = 0;
        ch->changed = 0;
    }
    if (ch->broadcast != c->broadcast.id || ch->version != c->version) {
        channel_drop_bodies(ch);
        ch->broadcast = c->broadcast.id;
        ch->version = c->version;
    }
}

/* Found or made, for the state that is now. */
static struct edge_channel *channel_get(struct edge *e, const struct lifecycle_channel *c)
{
    struct edge_channel *ch = channel_find(e, c->name);
    if (ch != NULL) {
        channel_refresh(ch, c);
        return ch;
    }
    ch = calloc(1, sizeof(*ch));
    if (ch == NULL) {
        return NULL;
    }
    ch->edge = e;
    memcpy(ch->name, c->name, sizeof(ch->name));
    for (unsigned i = 0; i < LIFECYCLE_RENDITIONS_MAX; i++) {
        list_init(&ch->waiters[i]);
    }
    list_push_back(bucket_of(e, c->name), &ch->link);
    channel_refresh(ch, c);
    return ch;
}

static bool channel_idle(const struct edge_channel *ch)
{
    bool idle = true;
    for (unsigned i = 0; i < LIFECYCLE_RENDITIONS_MAX; i++) {
        idle = idle && list_empty(&ch->waiters[i]);
    }
    return idle;
}

static void channel_free(struct edge_channel *ch)
{
    env_defer_cancel(&ch->wake);
    list_remove(&ch->link);
    channel_drop_bodies(ch);
    free(ch);
}

static int rendition_index(const struct lifecycle_channel *c, const char *name)
{
    for (unsigned i = 0; i < c->n_renditions; i++) {
        if (strcmp(c->renditions[i]->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Of a rendition in the arrays of the channel: a broadcast never has more renditions than there are
 * slots. */
static unsigned slot_of(struct edge_channel *ch, uint32_t id)
{
    unsigned i = 0;
    while (i < ch->n_slots && ch->slot_ids[i] != id) {
        i++;
    }
    assert(i < LIFECYCLE_RENDITIONS_MAX);
    if (i == ch->n_slots) {
        ch->slot_ids[ch->n_slots++] = id;
#ifdef WEIR_FAULTS
        ch->seen_from[i] = UINT64_MAX;
#endif
    }
    return i;
}

/* --- Rendering --- */

static unsigned complete_segments(const struct lifecycle_rendition *r)
{
    return r->n_segments - (r->next_part > 0 ? 1 : 0);
}

bool edge_rendition_ready(const struct lifecycle_rendition *r)
{
    return complete_segments(r) > 0;
}

bool edge_live_ready(const struct lifecycle_channel *c)
{
    bool all = c->n_renditions > 0, enough = false;
    for (unsigned i = 0; i < c->n_renditions; i++) {
        const struct lifecycle_rendition *r = c->renditions[i];
        bool current = lifecycle_rendition_current(c, r);
        all = all && (!current || edge_rendition_ready(r));
        enough = enough || (current && complete_segments(r) >= READY_SEGMENTS);
    }
    return all || enough;
}

static int render_master(const struct lifecycle_channel *c, struct bytes *out)
{
    struct playlist_variant variants[LIFECYCLE_RENDITIONS_MAX];
    char uris[LIFECYCLE_RENDITIONS_MAX][URI_BYTES];
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_renditions; i++) {
        const struct lifecycle_rendition *r = c->renditions[i];
        if (!lifecycle_rendition_current(c, r) || !edge_rendition_ready(r)) {
            continue;
        }
        (void)snprintf(uris[n], URI_BYTES, "%s.m3u8", r->name);
        variants[n] = (struct playlist_variant){.uri = uris[n],
                                                .codecs = r->codecs,
                                                .bandwidth = r->bandwidth,
                                                .width = r->width,
                                                .height = r->height,
                                                .frame_rate_milli = r->frame_rate_milli};
        n++;
    }
    return playlist_render_master(variants, n, out);
}

/* The newest segments within the window; their parts as far as the memory for them goes, from the
 * edge backwards. */
static void window_of(struct edge *e, const struct lifecycle_rendition *r,
                      struct playlist_media *ret)
{
    unsigned window = e->node->config->media_window_segments;
    unsigned open = r->next_part > 0 ? 1 : 0;
    unsigned n = r->n_segments < window + open ? r->n_segments : window + open;
    unsigned n_parts = 0;
    const unsigned parts_max = sizeof(e->parts) / sizeof(e->parts[0]);
    for (unsigned i = n; i-- > 0;) {
        const struct lifecycle_segment *s = r->segments[r->n_segments - n + i];
        struct playlist_segment *p = &e->segments[i];
        *p = (struct playlist_segment){.msn = s->msn,
                                       .wall_ms = s->wall_ms,
                                       .duration_us = s->duration_us,
                                       .init = s->init,
                                       .discontinuity = s->discontinuity,
                                       .complete = s->complete};
        if (s->n_parts > parts_max - n_parts) {
            n_parts = parts_max; /* nor any older one */
            continue;
        }
        p->parts = &e->parts[n_parts];
        p->n_parts = s->n_parts;
        for (unsigned k = 0; k < s->n_parts; k++) {
            e->parts[n_parts++] = (struct playlist_part){.duration_us = s->parts[k].duration_us,
                                                         .independent = s->parts[k].independent};
        }
    }
    ret->segments = e->segments;
    ret->n_segments = n;
    if (n > 0) {
        const struct lifecycle_segment *first = r->segments[r->n_segments - n];
        ret->discontinuity_sequence = first->discontinuities - (first->discontinuity ? 1 : 0);
    }
}

#ifdef WEIR_FAULTS
/* FAULT_PLAYLIST_LOCAL: there is nothing before the first segment that this edge has seen, which
 * has number 0. */
static void number_locally(struct edge_channel *ch, const struct lifecycle_rendition *r,
                           struct playlist_media *p)
{
    uint64_t *from = &ch->seen_from[slot_of(ch, r->id)];
    struct playlist_segment *segments = ch->edge->segments;
    unsigned n = p->n_segments, skipped = 0;
    *from = *from == UINT64_MAX && n > 0 ? segments[n - 1].msn : *from;
    while (skipped < n && segments[skipped].msn < *from) {
        skipped++;
    }
    for (unsigned i = skipped; i < n; i++) {
        segments[i].msn -= *from;
    }
    p->segments += skipped;
    p->n_segments -= skipped;
}
#endif

static unsigned reports_of(const struct lifecycle_channel *c, const struct lifecycle_rendition *r,
                           struct playlist_report reports[LIFECYCLE_RENDITIONS_MAX],
                           char uris[LIFECYCLE_RENDITIONS_MAX][URI_BYTES])
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_renditions; i++) {
        const struct lifecycle_rendition *o = c->renditions[i];
        if (o == r || o->n_segments == 0 || !lifecycle_rendition_current(c, o)) {
            continue;
        }
        const struct lifecycle_segment *last = o->segments[o->n_segments - 1];
        (void)snprintf(uris[n], URI_BYTES, "%s.m3u8", o->name);
        reports[n] = (struct playlist_report){
            .uri = uris[n], .last_msn = last->msn, .last_part = last->n_parts - 1};
        n++;
    }
    return n;
}

static int render_playlist(struct edge_channel *ch, const struct lifecycle_channel *c,
                           const struct lifecycle_rendition *r, bool skip, struct bytes *out)
{
    struct edge *e = ch->edge;
    struct playlist_report reports[LIFECYCLE_RENDITIONS_MAX];
    char uris[LIFECYCLE_RENDITIONS_MAX][URI_BYTES];
    char prefix[URI_BYTES];
    (void)snprintf(prefix, sizeof(prefix), "%016" PRIx64 "/%s/", c->broadcast.id, r->name);
    struct playlist_media p = {.kind = PLAYLIST_LIVE,
                               .skip = skip,
                               .media_prefix = prefix,
                               .target_duration_ms = r->target_duration_ms,
                               .part_target_ms = r->part_target_ms,
                               .reports = reports,
                               .n_reports = reports_of(c, r, reports, uris)};
    window_of(e, r, &p);
#ifdef WEIR_FAULTS
    if (fault_on(FAULT_PLAYLIST_LOCAL)) {
        number_locally(ch, r, &p);
    }
#endif
    metric_add(e->renders, 1);
    return playlist_render_media(&p, out);
}

/* A reference of the channel's; NULL: `ex` has been answered with an error. */
static struct http_body *playlist_body(struct edge_channel *ch, struct http_exchange *ex,
                                       const struct lifecycle_channel *c,
                                       const struct lifecycle_rendition *r, bool skip)
{
    struct http_body **cached = &ch->playlist[slot_of(ch, r->id)][skip ? 1 : 0];
    if (*cached == NULL) {
        struct bytes out;
        bytes_init(&out, EDGE_PLAYLIST_MAX);
        int rc = render_playlist(ch, c, r, skip, &out);
        if (rc != 0) {
            bytes_close(&out);
            edge_fail(ex, rc, "playlist");
            return NULL;
        }
        *cached = edge_body_of(ex, &out);
    }
    return *cached;
}

/* --- Answers --- */

static void send_playlist(struct edge_channel *ch, struct http_exchange *ex,
                          const struct lifecycle_channel *c, const struct lifecycle_rendition *r,
                          bool skip, bool directed)
{
    struct http_body *body = playlist_body(ch, ex, c, r, skip);
    if (body == NULL) {
        return;
    }
    uint32_t target_ms = r->target_duration_ms;
    uint32_t age_s = directed ? 6 * target_ms / 1000 : target_ms / 2000;
    char headers[HEADERS_BYTES];
    (void)snprintf(headers, sizeof(headers),
                   "Cache-Control: public, max-age=%" PRIu32 "\r\n" EDGE_CORS, age_s);
    metric_add(ch->edge->playlists, 1);
    http_respond(ex, 200, EDGE_M3U8, headers, http_body_ref(body));
}

void edge_live_master(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    const struct lifecycle_channel *c = lifecycle_live(e->node->views, path->channel);
    if (c == NULL) {
        edge_error(ex, 404, "%s is not live\n", path->channel);
        return;
    }
    if (!edge_live_ready(c)) {
        edge_error(ex, 404, "%s is starting: no complete segment yet\n", path->channel);
        return;
    }
    struct edge_channel *ch = channel_get(e, c);
    if (ch == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "master playlist");
        return;
    }
    if (ch->master == NULL) {
        struct bytes out;
        bytes_init(&out, MASTER_BYTES);
        int rc = render_master(c, &out);
        if (rc != 0) {
            bytes_close(&out);
            edge_fail(ex, rc, "master playlist");
            return;
        }
        ch->master = edge_body_of(ex, &out);
        if (ch->master == NULL) {
            return;
        }
    }
    http_respond(ex, 200, EDGE_M3U8, "Cache-Control: public, max-age=1\r\n" EDGE_CORS,
                 http_body_ref(ch->master));
}

/* --- Blocking --- */

/* Section 6.2.5.2. A part past the last of its segment means part 0 of the next segment. */
static bool reached(const struct lifecycle_rendition *r, bool has_part, uint64_t msn, uint32_t part)
{
    if (r->next_msn > msn + 1) {
        return true;
    }
    if (!has_part) {
        return r->next_msn > msn;
    }
    if (r->next_msn == msn) {
        return r->next_part > part;
    }
    if (r->next_msn < msn) {
        return false;
    }
    /* Segment msn is the newest complete one. */
    unsigned n = complete_segments(r);
    const struct lifecycle_segment *s = n > 0 ? r->segments[n - 1] : NULL;
    return (s != NULL && s->msn == msn && part < s->n_parts) || r->next_part > 0;
}

static void waiter_free(struct edge_waiter *w)
{
    w->edge->n_waiters--;
    list_remove(&w->link);
    free(w);
}

static void waiter_aborted(void *data, struct http_exchange *ex)
{
    (void)ex;
    waiter_free(data);
}

/* Answers, whatever the state is now. */
static void waiter_answer(struct edge_waiter *w, struct edge_channel *ch,
                          const struct lifecycle_channel *c, const struct lifecycle_rendition *r)
{
    struct edge_waiter copy = *w;
    waiter_free(w);
    http_on_abort(copy.ex, NULL, NULL);
    if (!copy.media) {
        send_playlist(ch, copy.ex, c, r, copy.skip, true);
        return;
    }
    for (unsigned i = r->n_segments; i-- > 0;) {
        const struct lifecycle_segment *s = r->segments[i];
        if (s->msn == copy.msn && copy.part < s->n_parts) {
            edge_media_send_part(ch->edge, copy.ex, s, copy.part);
            return;
        }
    }
    edge_error(copy.ex, 404, "segment %" PRIu64 " ended before part %" PRIu32 "\n", copy.msn,
               copy.part);
}

static void wait_for(struct edge_channel *ch, struct http_exchange *ex,
                     const struct lifecycle_rendition *r, const struct edge_waiter *what)
{
    struct edge *e = ch->edge;
    struct edge_waiter *w = e->n_waiters < EDGE_WAITERS_MAX ? malloc(sizeof(*w)) : NULL;
    if (w == NULL) {
        edge_error(ex, 503, "too many requests wait\n");
        return;
    }
    *w = *what;
    w->edge = e;
    w->ex = ex;
    w->deadline_ns =
        env_now_ns(e->node->env) + (uint64_t)EDGE_BLOCK_TARGETS * r->target_duration_ms * 1000000u;
    e->n_waiters++;
    metric_add(e->blocked, 1);
    list_push_back(&ch->waiters[slot_of(ch, r->id)], &w->link);
    http_on_abort(ex, waiter_aborted, w);
}

/* NULL when the request may be answered or blocked. */
static const char *too_far(const struct lifecycle_rendition *r, const struct edge_reload *want)
{
    uint64_t last = r->next_msn > 0 ? r->next_msn - 1 : 0; /* complete */
    uint32_t target = r->part_target_ms > 0 ? r->part_target_ms : 1;
    /* The Advance Part Limit: three seconds' worth of short parts, three long ones. */
    uint32_t limit = target < 1000 ? (3000 + target - 1) / target : 3;
    if (want->msn > last + 2) {
        return "_HLS_msn is too far ahead";
    }
    if (want->has_part && want->msn == r->next_msn && want->part >= r->next_part + limit) {
        return "_HLS_part is too far ahead";
    }
    return NULL;
}

static void answer_or_wait(struct edge *e, struct http_exchange *ex,
                           const struct lifecycle_channel *c, const struct lifecycle_rendition *r,
                           const struct edge_reload *want)
{
    struct edge_channel *ch = channel_get(e, c);
    if (ch == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "playlist");
        return;
    }
    if (!want->has_msn) {
        send_playlist(ch, ex, c, r, want->skip, false);
        return;
    }
    const char *wrong = too_far(r, want);
    if (wrong != NULL) {
        edge_error(ex, 400, "%s\n", wrong);
        return;
    }
    if (reached(r, want->has_part, want->msn, want->part)) {
        send_playlist(ch, ex, c, r, want->skip, true);
        return;
    }
    const struct edge_waiter w = {
        .msn = want->msn, .part = want->part, .has_part = want->has_part, .skip = want->skip};
    wait_for(ch, ex, r, &w);
}

void edge_live_playlist(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct edge_reload want;
    const char *wrong = edge_reload_parse(http_query(ex, "_HLS_msn"), http_query(ex, "_HLS_part"),
                                          http_query(ex, "_HLS_skip"), &want);
    if (wrong != NULL) {
        edge_error(ex, 400, "%s\n", wrong);
        return;
    }
    const struct lifecycle_channel *c = lifecycle_live(e->node->views, path->channel);
    if (c == NULL) {
        if (!edge_vod_last_window(e, ex, path)) {
            edge_error(ex, 404, "%s is not live\n", path->channel);
        }
        return;
    }
    int place = rendition_index(c, path->rendition);
    if (place < 0) {
        edge_error(ex, 404, "%s has no rendition %s\n", path->channel, path->rendition);
    } else if (!edge_rendition_ready(c->renditions[place])) {
        edge_error(ex, 404, "%s is starting: no complete segment yet\n", path->channel);
    } else {
        answer_or_wait(e, ex, c, c->renditions[place], &want);
    }
}

/* The part that the playlists hint at: the next one of the rendition. */
static bool hinted(const struct lifecycle_rendition *r, const struct edge_path *path)
{
    return path->msn == r->next_msn && path->part == r->next_part;
}

void edge_live_part(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    const struct lifecycle_channel *c = lifecycle_live(e->node->views, path->channel);
    int place =
        c != NULL && c->broadcast.id == path->broadcast ? rendition_index(c, path->rendition) : -1;
    if (place < 0 || !hinted(c->renditions[place], path)) {
        edge_error(ex, 404, "no such part\n");
        return;
    }
    struct edge_channel *ch = channel_get(e, c);
    if (ch == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "part");
        return;
    }
    const struct edge_waiter w = {
        .msn = path->msn, .part = path->part, .has_part = true, .media = true};
    wait_for(ch, ex, c->renditions[place], &w);
}

/* --- What sets waiters free --- */

static void channel_wake_rendition(struct edge_channel *ch, const struct lifecycle_channel *c,
                                   const struct lifecycle_rendition *r)
{
    LIST_FOREACH_SAFE(it, next, &ch->waiters[slot_of(ch, r->id)])
    {
        struct edge_waiter *w = list_entry(it, struct edge_waiter, link);
        if (reached(r, w->has_part, w->msn, w->part)) {
            waiter_answer(w, ch, c, r);
        }
    }
}

/* The broadcast they waited for is over: the playlist with its end, no part. */
static void channel_release_all(struct edge_channel *ch)
{
    for (unsigned i = 0; i < LIFECYCLE_RENDITIONS_MAX; i++) {
        while (!list_empty(&ch->waiters[i])) {
            struct edge_waiter *w = list_entry(ch->waiters[i].next, struct edge_waiter, link);
            struct http_exchange *ex = w->ex;
            bool media = w->media;
            waiter_free(w);
            http_on_abort(ex, NULL, NULL);
            struct edge_path path;
            if (media || !edge_path_parse(http_path(ex), &path) ||
                !edge_vod_last_window(ch->edge, ex, &path)) {
                edge_error(ex, 404, "the broadcast has ended\n");
            }
        }
    }
}

static void channel_wake(struct env_defer *defer)
{
    struct edge_channel *ch = defer->data;
    const struct lifecycle_channel *c = lifecycle_live(ch->edge->node->views, ch->name);
    if (c == NULL) {
        channel_release_all(ch);
        channel_drop_bodies(ch);
        return;
    }
    uint32_t changed = ch->changed;
    ch->changed = 0;
    channel_refresh(ch, c);
    for (unsigned i = 0; i < c->n_renditions; i++) {
        if ((changed >> slot_of(ch, c->renditions[i]->id) & 1) != 0) {
            channel_wake_rendition(ch, c, c->renditions[i]);
        }
    }
}

void edge_live_event(struct edge *e, const struct lifecycle_outcome *outcome)
{
    struct edge_channel *ch = channel_find(e, outcome->channel);
    if (ch == NULL) {
        return;
    }
    if (!outcome->has_rendition) {
        ch->changed = UINT32_MAX; /* a claim closes the open segments of all */
    } else if (outcome->broadcast == ch->broadcast) {
        ch->changed |= 1u << slot_of(ch, outcome->rendition);
    }
    /* Once per turn of the loop, however many records came. */
    ch->wake.data = ch;
    env_defer(e->node->env, &ch->wake, channel_wake);
}

static void channel_expire(struct edge_channel *ch, uint64_t now_ns)
{
    for (unsigned i = 0; i < LIFECYCLE_RENDITIONS_MAX; i++) {
        while (!list_empty(&ch->waiters[i])) {
            struct edge_waiter *w = list_entry(ch->waiters[i].next, struct edge_waiter, link);
            if (w->deadline_ns > now_ns) {
                break; /* all of a rendition wait equally long */
            }
            struct http_exchange *ex = w->ex;
            waiter_free(w);
            http_on_abort(ex, NULL, NULL);
            metric_add(ch->edge->timeouts, 1);
            edge_error(ex, 503, "nothing new in %d target durations\n", EDGE_BLOCK_TARGETS);
        }
    }
}

void edge_live_tick(struct edge *e)
{
    uint64_t now_ns = env_now_ns(e->node->env);
    for (unsigned i = 0; i < EDGE_BUCKETS; i++) {
        LIST_FOREACH_SAFE(it, next, &e->channels[i])
        {
            struct edge_channel *ch = list_entry(it, struct edge_channel, link);
            channel_expire(ch, now_ns);
            if (channel_idle(ch) && !ch->wake.scheduled &&
                lifecycle_live(e->node->views, ch->name) == NULL) {
                channel_free(ch);
            }
        }
    }
}

void edge_live_close(struct edge *e)
{
    for (unsigned i = 0; i < EDGE_BUCKETS; i++) {
        while (!list_empty(&e->channels[i])) {
            struct edge_channel *ch = list_entry(e->channels[i].next, struct edge_channel, link);
            channel_expire(ch, UINT64_MAX);
            channel_free(ch);
        }
    }
}
