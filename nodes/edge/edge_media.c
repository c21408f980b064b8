/* Init segments, segments, parts, thumbnails: from memory at once, else from the store or another
 * node. An answer that waits for the store keeps nothing of the role, so it may come after the role
 * has stopped. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "nodes/edge/edge.h"

#define MP4  "video/mp4"
#define JPEG "image/jpeg"
/* Ranges of one segment: one per worker and set of nodes. */
#define RANGES_MAX 64

struct answer {
    struct http_exchange *ex;
    const char *type, *headers;
    unsigned n_ranges, n_missing;
    int status; /* the first failure */
    struct http_body *bodies[RANGES_MAX];
};

struct piece {
    struct answer *answer;
    unsigned index;
};

static void answer_free(struct answer *a)
{
    for (unsigned i = 0; i < a->n_ranges; i++) {
        http_body_unref(a->bodies[i]);
    }
    free(a);
}

/* One body of all pieces; NULL out of memory. */
static struct http_body *answer_join(const struct answer *a)
{
    if (a->n_ranges == 1) {
        return http_body_ref(a->bodies[0]);
    }
    size_t len = 0, at = 0;
    for (unsigned i = 0; i < a->n_ranges; i++) {
        len += a->bodies[i]->len;
    }
    uint8_t *data = malloc(len + 1); /* not 0 */
    if (data == NULL) {
        return NULL;
    }
    for (unsigned i = 0; i < a->n_ranges; i++) {
        memcpy(data + at, a->bodies[i]->data, a->bodies[i]->len);
        at += a->bodies[i]->len;
    }
    return http_body_new(data, len);
}

static void answer_send(struct answer *a)
{
    struct http_body *body = a->status == 0 ? answer_join(a) : NULL;
    if (body != NULL) {
        http_respond(a->ex, 200, a->type, a->headers, body);
    } else {
        edge_fail(a->ex, a->status != 0 ? a->status : WEIR_ENOMEM, "media");
    }
    answer_free(a);
}

static void piece_done(void *data, int status, struct http_body *body)
{
    struct piece *p = data;
    struct answer *a = p->answer;
    if (status == 0) {
        a->bodies[p->index] = http_body_ref(body);
    } else if (a->status == 0) {
        /* It was stored once: other nodes may be back soon. */
        a->status = status == WEIR_ENOTFOUND ? WEIR_EUNAVAILABLE : status;
    }
    free(p);
    if (--a->n_missing == 0) {
        answer_send(a);
    }
}

static int piece_fetch(struct edge *e, struct answer *a, unsigned index,
                       const struct lifecycle_object *o)
{
    a->bodies[index] = store_cached(e->node->store, o->name, o->position, o->size);
    if (a->bodies[index] != NULL) {
        return 0;
    }
    struct piece *p = malloc(sizeof(*p));
    if (p == NULL) {
        return WEIR_ENOMEM;
    }
    *p = (struct piece){.answer = a, .index = index};
    const char *nodes[LIFECYCLE_NODES_MAX];
    for (unsigned i = 0; i < o->n_nodes; i++) {
        nodes[i] = o->nodes[i];
    }
    const struct store_range range = {.object = o->name,
                                      .position = o->position,
                                      .size = o->size,
                                      .has_crc = o->has_crc,
                                      .crc32c = o->crc32c,
                                      .nodes = nodes,
                                      .n_nodes = o->n_nodes};
    int rc = store_fetch(e->node->store_cluster, &range, piece_done, p, NULL);
    if (rc != 0) {
        free(p);
        return rc;
    }
    a->n_missing++;
    return 0;
}

static void send_objects(struct edge *e, struct http_exchange *ex,
                         const struct lifecycle_object *objects, unsigned n, const char *type,
                         const char *headers)
{
    struct answer *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        edge_fail(ex, WEIR_ENOMEM, "media");
        return;
    }
    metric_add(e->media, 1);
    a->ex = ex;
    a->type = type;
    a->headers = headers;
    a->n_ranges = n;
    for (unsigned i = 0; i < n && a->status == 0; i++) {
        a->status = piece_fetch(e, a, i, &objects[i]);
    }
    if (a->n_missing == 0) {
        answer_send(a);
    }
}

void edge_media_send_part(struct edge *e, struct http_exchange *ex,
                          const struct lifecycle_segment *segment, unsigned part)
{
    const struct lifecycle_part *p = &segment->parts[part];
    const struct lifecycle_extent *x = &segment->extents[p->extent];
    struct http_body *body = store_cached(e->node->store, x->object, p->position, p->size);
    if (body != NULL) {
        metric_add(e->media, 1);
        http_respond(ex, 200, MP4, EDGE_IMMUTABLE EDGE_CORS, body);
        return;
    }
    struct lifecycle_object object;
    lifecycle_part_object(segment, part, &object);
    send_objects(e, ex, &object, 1, MP4, EDGE_IMMUTABLE EDGE_CORS);
}

/* --- Which rendition is meant --- */

struct wanted {
    struct edge *e;
    struct http_exchange *ex;
    const struct edge_path *path;
    bool found;
    uint32_t id;
};

static int match_rendition(void *data, const struct lifecycle_rendition *r)
{
    struct wanted *w = data;
    if (strcmp(r->name, w->path->rendition) == 0) {
        w->found = true;
        w->id = r->id;
        return 1;
    }
    return 0;
}

/* False: it has been answered. */
static bool resolve(struct wanted *w)
{
    struct views *views = w->e->node->views;
    const struct edge_path *path = w->path;
    const struct lifecycle_channel *c = lifecycle_live(views, path->channel);
    if (c != NULL && c->broadcast.id == path->broadcast) {
        const struct lifecycle_rendition *r = lifecycle_rendition_find(c, path->rendition);
        w->found = r != NULL;
        w->id = r != NULL ? r->id : 0;
    } else {
        int rc = lifecycle_renditions(views, path->channel, path->broadcast, match_rendition, w);
        if (rc < 0) {
            edge_fail(w->ex, rc, "rendition");
            return false;
        }
    }
    if (!w->found) {
        edge_error(w->ex, 404, "no such rendition\n");
    }
    return w->found;
}

void edge_media_init(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct wanted w = {.e = e, .ex = ex, .path = path};
    struct lifecycle_object object;
    if (!resolve(&w)) {
        return;
    }
    int rc = lifecycle_init(e->node->views, path->channel, path->broadcast, w.id,
                            (uint32_t)path->msn, &object);
    if (rc != 0) {
        edge_fail(ex, rc, "init segment");
        return;
    }
    send_objects(e, ex, &object, 1, MP4, EDGE_IMMUTABLE EDGE_CORS);
}

/* --- Segments --- */

struct ranges {
    unsigned n;
    bool complete;
    struct lifecycle_object list[RANGES_MAX];
};

/* Parts that lie end to end in one extent become one range. */
static int collect_ranges(void *data, const struct lifecycle_segment *s)
{
    struct ranges *r = data;
    r->complete = s->complete;
    uint32_t extent = UINT32_MAX;
    for (unsigned i = 0; i < s->n_parts; i++) {
        const struct lifecycle_part *p = &s->parts[i];
        struct lifecycle_object *last = r->n > 0 ? &r->list[r->n - 1] : NULL;
        if (last != NULL && p->extent == extent && p->position == last->position + last->size) {
            last->crc32c = crc32c_combine(last->crc32c, p->crc32c, p->size);
            last->size += p->size;
            continue;
        }
        if (r->n == RANGES_MAX) {
            return WEIR_ETOOBIG;
        }
        lifecycle_part_object(s, i, &r->list[r->n++]);
        extent = p->extent;
    }
    return 0;
}

void edge_media_segment(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct wanted w = {.e = e, .ex = ex, .path = path};
    if (!resolve(&w)) {
        return;
    }
    struct ranges *r = calloc(1, sizeof(*r));
    int rc = r == NULL ? WEIR_ENOMEM
                       : lifecycle_segment(e->node->views, path->channel, path->broadcast, w.id,
                                           path->msn, collect_ranges, r);
    if (rc != 0) {
        edge_fail(ex, rc, "segment");
    } else if (!r->complete) {
        edge_error(ex, 404, "segment %" PRIu64 " is not complete yet\n", path->msn);
    } else {
        send_objects(e, ex, r->list, r->n, MP4, EDGE_IMMUTABLE EDGE_CORS);
    }
    free(r);
}

/* 1: sent; 0: the segment has no such part (yet). */
static int send_if_there(void *data, const struct lifecycle_segment *s)
{
    struct wanted *w = data;
    if (w->path->part >= s->n_parts) {
        return 0;
    }
    edge_media_send_part(w->e, w->ex, s, w->path->part);
    return 1;
}

void edge_media_part(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct wanted w = {.e = e, .ex = ex, .path = path};
    if (!resolve(&w)) {
        return;
    }
    int rc = lifecycle_segment(e->node->views, path->channel, path->broadcast, w.id, path->msn,
                               send_if_there, &w);
    if (rc == 0 || rc == WEIR_ENOTFOUND) {
        edge_live_part(e, ex, path);
    } else if (rc < 0) {
        edge_fail(ex, rc, "part");
    }
}

void edge_media_thumb(struct edge *e, struct http_exchange *ex, const struct edge_path *path)
{
    struct lifecycle_broadcast b;
    const struct lifecycle_channel *c = lifecycle_live(e->node->views, path->channel);
    if (path->target == EDGE_THUMB) {
        if (c == NULL) {
            edge_error(ex, 404, "%s is not live\n", path->channel);
            return;
        }
        b = c->broadcast;
    } else {
        int rc = lifecycle_broadcast(e->node->views, path->channel, path->broadcast, &b);
        if (rc != 0) {
            edge_fail(ex, rc, "broadcast");
            return;
        }
    }
    if (b.thumbnail.object.size == 0) {
        edge_error(ex, 404, "no thumbnail yet\n");
        return;
    }
    send_objects(e, ex, &b.thumbnail.object, 1, JPEG,
                 "Cache-Control: public, max-age=5\r\n" EDGE_CORS);
}
