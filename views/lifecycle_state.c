#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "views/lifecycle_priv.h"
#include "views/text.h"

#define VERSION 1

/* --- Keys
 * ------------------------------------------------------------------------------------------------------
 */

bool lifecycle_channel_valid(const char *channel)
{
    return text_is_word(channel, 2, LIFECYCLE_CHANNEL_MAX);
}

static void key_put(struct lifecycle_key *k, const void *data, size_t n)
{
    assert(n <= sizeof(k->data) - k->len);
    memcpy(k->data + k->len, data, n);
    k->len += n;
}

void lifecycle_key_u8(struct lifecycle_key *k, uint32_t v)
{
    uint8_t byte = (uint8_t)v;
    assert(v <= UINT8_MAX);
    key_put(k, &byte, 1);
}

void lifecycle_key_be32(struct lifecycle_key *k, uint32_t v)
{
    uint8_t b[4];
    store_be32(b, v);
    key_put(k, b, sizeof(b));
}

void lifecycle_key_be64(struct lifecycle_key *k, uint64_t v)
{
    uint8_t b[8];
    store_be64(b, v);
    key_put(k, b, sizeof(b));
}

struct lifecycle_key lifecycle_key_channel(const char *channel)
{
    struct lifecycle_key k = {.len = 1, .data = {'c'}};
    key_put(&k, channel, strlen(channel));
    return k;
}

struct lifecycle_key lifecycle_key_all(char kind, const char *channel)
{
    struct lifecycle_key k = {.len = 1, .data = {(uint8_t)kind}};
    key_put(&k, channel, strlen(channel) + 1);
    return k;
}

struct lifecycle_key lifecycle_key_broadcast(char kind, const char *channel, uint64_t number)
{
    struct lifecycle_key k = lifecycle_key_all(kind, channel);
    lifecycle_key_be64(&k, number);
    return k;
}

/* --- Memory
 * ----------------------------------------------------------------------------------------------------
 */

static struct list *bucket_of(struct lifecycle_state *state, const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != 0; name++) {
        h = (h ^ (uint8_t)*name) * 16777619u;
    }
    return &state->buckets[h % LIFECYCLE_BUCKETS];
}

struct lifecycle_channel *lifecycle_find(struct lifecycle_state *state, uint32_t partition,
                                         const char *channel)
{
    struct list *bucket = bucket_of(state, channel);
    LIST_FOREACH(it, bucket)
    {
        struct lifecycle_channel *c = list_entry(it, struct lifecycle_channel, link);
        if (c->partition == partition && strcmp(c->name, channel) == 0) {
            return c;
        }
    }
    return NULL;
}

struct lifecycle_channel *lifecycle_channel_new(struct lifecycle_state *state, const char *name,
                                                uint32_t partition)
{
    struct lifecycle_channel *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    text_copy(c->name, sizeof(c->name), name);
    c->partition = partition;
    c->worker_epoch = LIFECYCLE_NO_EPOCH;
    list_push_back(bucket_of(state, name), &c->link);
    return c;
}

void lifecycle_channel_free(struct lifecycle_channel *c)
{
    list_remove(&c->link);
    for (unsigned i = 0; i < c->n_renditions; i++) {
        struct lifecycle_rendition *r = c->renditions[i];
        for (unsigned s = 0; s < r->n_segments; s++) {
            lifecycle_segment_free(r->segments[s]);
        }
        free(r);
    }
    free(c);
}

struct lifecycle_rendition *lifecycle_rendition_new(struct lifecycle_channel *c, uint32_t id)
{
    assert(c->n_renditions < LIFECYCLE_RENDITIONS_MAX);
    struct lifecycle_rendition *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return NULL;
    }
    r->id = id;
    r->worker_epoch = LIFECYCLE_NO_EPOCH;
    r->session_epoch = LIFECYCLE_NO_EPOCH;
    unsigned at = c->n_renditions++;
    for (; at > 0 && c->renditions[at - 1]->id > id; at--) {
        c->renditions[at] = c->renditions[at - 1];
    }
    c->renditions[at] = r;
    return r;
}

struct lifecycle_segment *lifecycle_segment_new(void)
{
    return calloc(1, sizeof(struct lifecycle_segment));
}

void lifecycle_segment_free(struct lifecycle_segment *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned i = 0; i < s->n_extents; i++) {
        free(s->extents[i].text);
    }
    free(s->extents);
    free(s->parts);
    free(s);
}

void lifecycle_ring_push(struct lifecycle_rendition *r, struct lifecycle_segment *s)
{
    if (r->n_segments == LIFECYCLE_RING_SEGMENTS) {
        lifecycle_segment_free(r->segments[0]);
        r->n_segments--;
        memmove(r->segments, r->segments + 1, r->n_segments * sizeof(struct lifecycle_segment *));
    }
    r->segments[r->n_segments++] = s;
}

struct lifecycle_segment *lifecycle_newest(const struct lifecycle_rendition *r)
{
    return r->n_segments == 0 ? NULL : r->segments[r->n_segments - 1];
}

/* An array that doubles: full exactly when its count is a power of two. */
static void *grown(void *array, unsigned n, size_t size)
{
    bool full = (n & (n - 1)) == 0;
    return full ? realloc(array, (n == 0 ? 1 : 2 * (size_t)n) * size) : array;
}

static bool extent_is(const struct lifecycle_extent *e, const char *object,
                      const char *const *nodes, unsigned n_nodes)
{
    bool same = e->n_nodes == n_nodes && strcmp(e->object, object) == 0;
    for (unsigned i = 0; same && i < n_nodes; i++) {
        same = strcmp(e->nodes[i], nodes[i]) == 0;
    }
    return same;
}

static int extent_add(struct lifecycle_segment *s, const char *object, const char *const *nodes,
                      unsigned n_nodes)
{
    size_t size = strlen(object) + 1;
    for (unsigned i = 0; i < n_nodes; i++) {
        size += strlen(nodes[i]) + 1;
    }
    struct lifecycle_extent *extents = grown(s->extents, s->n_extents, sizeof(*extents));
    if (extents == NULL) {
        return WEIR_ENOMEM;
    }
    s->extents = extents;
    char *text = malloc(size);
    if (text == NULL) {
        return WEIR_ENOMEM;
    }
    struct lifecycle_extent *e = &extents[s->n_extents++];
    *e = (struct lifecycle_extent){.n_nodes = n_nodes, .object = text, .text = text};
    memcpy(text, object, strlen(object) + 1);
    text += strlen(object) + 1;
    for (unsigned i = 0; i < n_nodes; i++) {
        memcpy(text, nodes[i], strlen(nodes[i]) + 1);
        e->nodes[i] = text;
        text += strlen(nodes[i]) + 1;
    }
    return 0;
}

int lifecycle_segment_add(struct lifecycle_segment *s, const struct lifecycle_part *part,
                          const char *object, const char *const *nodes, unsigned n_nodes)
{
    struct lifecycle_part *parts = grown(s->parts, s->n_parts, sizeof(*parts));
    if (parts == NULL) {
        return WEIR_ENOMEM;
    }
    s->parts = parts;
    if (s->n_extents == 0 || !extent_is(&s->extents[s->n_extents - 1], object, nodes, n_nodes)) {
        int rc = extent_add(s, object, nodes, n_nodes);
        if (rc != 0) {
            return rc;
        }
    }
    parts[s->n_parts] = *part;
    parts[s->n_parts++].extent = s->n_extents - 1;
    s->duration_us += part->duration_us;
    s->size += part->size;
    return 0;
}

/* --- Stored values
 * --------------------------------------------------------------------------------------------- */

static int put_value(struct fold_txn *txn, const struct lifecycle_key *k, struct bytes *b)
{
    int rc = bytes_error(b);
    if (rc == 0) {
        rc = fold_put(txn, k->data, k->len, b->data, b->len);
    }
    bytes_close(b);
    return rc;
}

static void value_begin(struct bytes *b)
{
    bytes_init(b, LIFECYCLE_VALUE_MAX);
    bytes_put_u8(b, VERSION);
}

static void value_open(struct cursor *c, const uint8_t *value, size_t len)
{
    cursor_init(c, value, len);
    if (cursor_u8(c) != VERSION) {
        c->failed = true;
    }
}

static int value_close(const struct cursor *c)
{
    return cursor_ok(c) && cursor_left(c) == 0 ? 0 : WEIR_ECORRUPT;
}

/* Live channel: be64 broadcast, be64 session epoch, be64 session ms, session node, encoder, be64
 * worker epoch, be64 worker ms, worker node. */
int lifecycle_put_channel(struct fold_txn *txn, const struct lifecycle_channel *c)
{
    struct lifecycle_key k = lifecycle_key_channel(c->name);
    struct bytes b;
    value_begin(&b);
    bytes_put_be64(&b, c->broadcast.id);
    bytes_put_be64(&b, (uint64_t)c->session_epoch);
    bytes_put_be64(&b, (uint64_t)c->session_ms);
    text_put(&b, c->session_node);
    text_put(&b, c->encoder);
    bytes_put_be64(&b, (uint64_t)c->worker_epoch);
    bytes_put_be64(&b, (uint64_t)c->worker_ms);
    text_put(&b, c->worker_node);
    return put_value(txn, &k, &b);
}

int lifecycle_decode_channel(const uint8_t *value, size_t len, struct lifecycle_channel *ret)
{
    struct cursor c;
    value_open(&c, value, len);
    ret->broadcast.id = cursor_be64(&c);
    ret->session_epoch = (int64_t)cursor_be64(&c);
    ret->session_ms = (int64_t)cursor_be64(&c);
    text_take(&c, ret->session_node, sizeof(ret->session_node));
    text_take(&c, ret->encoder, sizeof(ret->encoder));
    ret->worker_epoch = (int64_t)cursor_be64(&c);
    ret->worker_ms = (int64_t)cursor_be64(&c);
    text_take(&c, ret->worker_node, sizeof(ret->worker_node));
    return value_close(&c);
}

static void put_nodes(struct bytes *b, unsigned n, const char *const *nodes)
{
    bytes_put_u8(b, (uint8_t)n);
    for (unsigned i = 0; i < n; i++) {
        text_put(b, nodes[i]);
    }
}

/* Object: name, be64 position, be64 size, u8 has crc, be32 crc32c, u8 nodes, node ... */
static void put_object(struct bytes *b, const struct lifecycle_object *o)
{
    const char *nodes[LIFECYCLE_NODES_MAX];
    for (unsigned i = 0; i < o->n_nodes; i++) {
        nodes[i] = o->nodes[i];
    }
    text_put(b, o->name);
    bytes_put_be64(b, o->position);
    bytes_put_be64(b, o->size);
    bytes_put_u8(b, o->has_crc);
    bytes_put_be32(b, o->crc32c);
    put_nodes(b, o->n_nodes, nodes);
}

static void take_object(struct cursor *c, struct lifecycle_object *o)
{
    text_take(c, o->name, sizeof(o->name));
    o->position = cursor_be64(c);
    o->size = cursor_be64(c);
    o->has_crc = cursor_u8(c) != 0;
    o->crc32c = cursor_be32(c);
    o->n_nodes = cursor_u8(c);
    if (o->n_nodes > LIFECYCLE_NODES_MAX) {
        c->failed = true;
        o->n_nodes = 0;
    }
    for (unsigned i = 0; i < o->n_nodes; i++) {
        text_take(c, o->nodes[i], sizeof(o->nodes[i]));
    }
}

/* Broadcast: be64 id, be64 started ms, be64 ended ms, be64 start offset, be64 duration us, reason,
 * then its thumbnail: be32 width, be32 height, be64 msn, object. */
int lifecycle_put_broadcast(struct fold_txn *txn, const char *channel,
                            const struct lifecycle_broadcast *v)
{
    struct lifecycle_key k = lifecycle_key_broadcast('b', channel, v->id);
    struct bytes b;
    value_begin(&b);
    bytes_put_be64(&b, v->id);
    bytes_put_be64(&b, (uint64_t)v->started_ms);
    bytes_put_be64(&b, (uint64_t)v->ended_ms);
    bytes_put_be64(&b, (uint64_t)v->start_offset);
    bytes_put_be64(&b, (uint64_t)v->duration_us);
    text_put(&b, v->reason);
    bytes_put_be32(&b, v->thumbnail.width);
    bytes_put_be32(&b, v->thumbnail.height);
    bytes_put_be64(&b, v->thumbnail.msn);
    put_object(&b, &v->thumbnail.object);
    return put_value(txn, &k, &b);
}

int lifecycle_decode_broadcast(const uint8_t *value, size_t len, struct lifecycle_broadcast *ret)
{
    struct cursor c;
    memset(ret, 0, sizeof(*ret));
    value_open(&c, value, len);
    ret->id = cursor_be64(&c);
    ret->started_ms = (int64_t)cursor_be64(&c);
    ret->ended_ms = (int64_t)cursor_be64(&c);
    ret->start_offset = (int64_t)cursor_be64(&c);
    ret->duration_us = (int64_t)cursor_be64(&c);
    text_take(&c, ret->reason, sizeof(ret->reason));
    ret->thumbnail.width = cursor_be32(&c);
    ret->thumbnail.height = cursor_be32(&c);
    ret->thumbnail.msn = cursor_be64(&c);
    take_object(&c, &ret->thumbnail.object);
    return value_close(&c);
}

/* Rendition, written when it is started; what its parts change is in its newest segment. u8 id,
 * name, codecs, be32 width, height, frame rate, bandwidth, part target, target duration, init, init
 * object, be64 worker epoch, session epoch, start msn, u8 start discontinuity, be64 next msn. */
int lifecycle_put_rendition(struct fold_txn *txn, const struct lifecycle_channel *c,
                            const struct lifecycle_rendition *r)
{
    struct lifecycle_key k = lifecycle_key_broadcast('r', c->name, c->broadcast.id);
    struct bytes b;
    lifecycle_key_u8(&k, r->id);
    value_begin(&b);
    bytes_put_u8(&b, (uint8_t)r->id);
    text_put(&b, r->name);
    text_put(&b, r->codecs);
    bytes_put_be32(&b, r->width);
    bytes_put_be32(&b, r->height);
    bytes_put_be32(&b, r->frame_rate_milli);
    bytes_put_be32(&b, r->bandwidth);
    bytes_put_be32(&b, r->part_target_ms);
    bytes_put_be32(&b, r->target_duration_ms);
    bytes_put_be32(&b, r->init);
    text_put(&b, r->init_object);
    bytes_put_be64(&b, (uint64_t)r->worker_epoch);
    bytes_put_be64(&b, (uint64_t)r->session_epoch);
    bytes_put_be64(&b, r->start_msn);
    bytes_put_u8(&b, r->start_discontinuity);
    bytes_put_be64(&b, r->next_msn);
    return put_value(txn, &k, &b);
}

int lifecycle_decode_rendition(const uint8_t *value, size_t len, struct lifecycle_rendition *ret)
{
    struct cursor c;
    value_open(&c, value, len);
    ret->id = cursor_u8(&c);
    text_take(&c, ret->name, sizeof(ret->name));
    text_take(&c, ret->codecs, sizeof(ret->codecs));
    ret->width = cursor_be32(&c);
    ret->height = cursor_be32(&c);
    ret->frame_rate_milli = cursor_be32(&c);
    ret->bandwidth = cursor_be32(&c);
    ret->part_target_ms = cursor_be32(&c);
    ret->target_duration_ms = cursor_be32(&c);
    ret->init = cursor_be32(&c);
    text_take(&c, ret->init_object, sizeof(ret->init_object));
    ret->worker_epoch = (int64_t)cursor_be64(&c);
    ret->session_epoch = (int64_t)cursor_be64(&c);
    ret->start_msn = cursor_be64(&c);
    ret->start_discontinuity = cursor_u8(&c) != 0;
    ret->next_msn = cursor_be64(&c);
    return value_close(&c);
}

int lifecycle_put_init(struct fold_txn *txn, const struct lifecycle_channel *c, uint32_t rendition,
                       uint32_t init, const struct lifecycle_object *object)
{
    struct lifecycle_key k = lifecycle_key_broadcast('d', c->name, c->broadcast.id);
    struct bytes b;
    lifecycle_key_u8(&k, rendition);
    lifecycle_key_be32(&k, init);
    value_begin(&b);
    put_object(&b, object);
    return put_value(txn, &k, &b);
}

int lifecycle_decode_object(const uint8_t *value, size_t len, struct lifecycle_object *ret)
{
    struct cursor c;
    memset(ret, 0, sizeof(*ret));
    value_open(&c, value, len);
    take_object(&c, ret);
    return value_close(&c);
}

/* Segment: be64 start us, be64 wall ms, be64 append ms, be32 init, be32 discontinuities, u8 flags
 * (1 discontinuity, 2 complete), be16 extents (object, u8 nodes, node ...), be16 parts (be32
 * duration us, be32 size, be32 crc32c, be64 position, be16 extent, u8 independent). The msn is in
 * the key. */
enum { SEGMENT_DISCONTINUITY = 1, SEGMENT_COMPLETE = 2 };

int lifecycle_put_segment(struct fold_txn *txn, const struct lifecycle_channel *c,
                          uint32_t rendition, const struct lifecycle_segment *s)
{
    struct lifecycle_key k = lifecycle_key_broadcast('s', c->name, c->broadcast.id);
    struct bytes b;
    lifecycle_key_u8(&k, rendition);
    lifecycle_key_be64(&k, s->msn);
    value_begin(&b);
    bytes_put_be64(&b, (uint64_t)s->start_us);
    bytes_put_be64(&b, (uint64_t)s->wall_ms);
    bytes_put_be64(&b, (uint64_t)s->append_ms);
    bytes_put_be32(&b, s->init);
    bytes_put_be32(&b, s->discontinuities);
    bytes_put_u8(&b, (uint8_t)((s->discontinuity ? SEGMENT_DISCONTINUITY : 0) |
                               (s->complete ? SEGMENT_COMPLETE : 0)));
    bytes_put_be16(&b, (uint16_t)s->n_extents);
    for (unsigned i = 0; i < s->n_extents; i++) {
        text_put(&b, s->extents[i].object);
        put_nodes(&b, s->extents[i].n_nodes, s->extents[i].nodes);
    }
    bytes_put_be16(&b, (uint16_t)s->n_parts);
    for (unsigned i = 0; i < s->n_parts; i++) {
        const struct lifecycle_part *p = &s->parts[i];
        bytes_put_be32(&b, p->duration_us);
        bytes_put_be32(&b, p->size);
        bytes_put_be32(&b, p->crc32c);
        bytes_put_be64(&b, p->position);
        bytes_put_be16(&b, (uint16_t)p->extent);
        bytes_put_u8(&b, p->independent);
    }
    return put_value(txn, &k, &b);
}

struct extents {
    unsigned n;
    struct {
        const char *object, *nodes[LIFECYCLE_NODES_MAX];
        unsigned n_nodes;
    } e[LIFECYCLE_PARTS_MAX];
};

static void take_extents(struct cursor *c, struct extents *x)
{
    x->n = cursor_be16(c);
    c->failed = c->failed || x->n > LIFECYCLE_PARTS_MAX;
    for (unsigned i = 0; cursor_ok(c) && i < x->n; i++) {
        x->e[i].object = text_borrow(c);
        x->e[i].n_nodes = cursor_u8(c);
        c->failed = c->failed || x->e[i].n_nodes > LIFECYCLE_NODES_MAX;
        for (unsigned n = 0; cursor_ok(c) && n < x->e[i].n_nodes; n++) {
            x->e[i].nodes[n] = text_borrow(c);
        }
    }
}

static int take_parts(struct cursor *c, const struct extents *x, struct lifecycle_segment *s)
{
    unsigned n = cursor_be16(c);
    for (unsigned i = 0; i < n; i++) {
        struct lifecycle_part p = {0};
        p.duration_us = cursor_be32(c);
        p.size = cursor_be32(c);
        p.crc32c = cursor_be32(c);
        p.position = cursor_be64(c);
        unsigned extent = cursor_be16(c);
        p.independent = cursor_u8(c) != 0;
        if (!cursor_ok(c) || extent >= x->n) {
            return WEIR_ECORRUPT;
        }
        int rc = lifecycle_segment_add(s, &p, x->e[extent].object, x->e[extent].nodes,
                                       x->e[extent].n_nodes);
        if (rc != 0) {
            return rc;
        }
    }
    return value_close(c);
}

static int decode_segment(struct lifecycle_segment *s, const uint8_t *value, size_t len)
{
    struct cursor c;
    struct extents *x = malloc(sizeof(*x));
    if (x == NULL) {
        return WEIR_ENOMEM;
    }
    value_open(&c, value, len);
    s->start_us = (int64_t)cursor_be64(&c);
    s->wall_ms = (int64_t)cursor_be64(&c);
    s->append_ms = (int64_t)cursor_be64(&c);
    s->init = cursor_be32(&c);
    s->discontinuities = cursor_be32(&c);
    unsigned flags = cursor_u8(&c);
    s->discontinuity = (flags & SEGMENT_DISCONTINUITY) != 0;
    s->complete = (flags & SEGMENT_COMPLETE) != 0;
    take_extents(&c, x);
    int rc = cursor_ok(&c) ? take_parts(&c, x, s) : WEIR_ECORRUPT;
    free(x);
    return rc;
}

int lifecycle_decode_segment(uint64_t msn, const uint8_t *value, size_t len,
                             struct lifecycle_segment **ret)
{
    struct lifecycle_segment *s = lifecycle_segment_new();
    if (s == NULL) {
        return WEIR_ENOMEM;
    }
    s->msn = msn;
    int rc = decode_segment(s, value, len);
    if (rc != 0) {
        lifecycle_segment_free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

/* --- Loading --- */

struct load {
    struct lifecycle_state *state;
    struct fold_txn *txn;
    uint32_t partition;
    struct lifecycle_channel *channel;
    struct lifecycle_rendition *rendition;
};

static void drop_partition(struct lifecycle_state *state, uint32_t partition)
{
    for (unsigned i = 0; i < LIFECYCLE_BUCKETS; i++) {
        LIST_FOREACH_SAFE(it, next, &state->buckets[i])
        {
            struct lifecycle_channel *c = list_entry(it, struct lifecycle_channel, link);
            if (c->partition == partition) {
                lifecycle_channel_free(c);
            }
        }
    }
}

void lifecycle_timeline_update(struct lifecycle_channel *c)
{
    c->end_us = 0;
    for (unsigned i = 0; i < c->n_renditions; i++) {
        struct lifecycle_rendition *r = c->renditions[i];
        const struct lifecycle_segment *s = lifecycle_newest(r);
        r->end_us = s == NULL ? 0 : s->start_us + (int64_t)s->duration_us;
        c->end_us = r->end_us > c->end_us ? r->end_us : c->end_us;
    }
}

/* Newest first: turned round when all are there. */
static int load_segment(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t len)
{
    struct load *l = data;
    struct lifecycle_rendition *r = l->rendition;
    int rc = key_len < 8 ? WEIR_ECORRUPT
                         : lifecycle_decode_segment(load_be64(key + key_len - 8), value, len,
                                                    &r->segments[r->n_segments]);
    if (rc != 0) {
        return rc;
    }
    r->n_segments++;
    return r->n_segments == LIFECYCLE_RING_SEGMENTS ? 1 : 0;
}

static void load_position(struct lifecycle_channel *c, struct lifecycle_rendition *r)
{
    for (unsigned i = 0; i < r->n_segments / 2; i++) {
        struct lifecycle_segment *s = r->segments[i];
        r->segments[i] = r->segments[r->n_segments - 1 - i];
        r->segments[r->n_segments - 1 - i] = s;
    }
    const struct lifecycle_segment *newest = lifecycle_newest(r);
    if (newest != NULL) {
        uint64_t next = newest->complete ? newest->msn + 1 : newest->msn;
        r->next_msn = next > r->next_msn ? next : r->next_msn;
        r->next_part = newest->complete ? 0 : newest->n_parts;
        c->part_ms = newest->append_ms > c->part_ms ? newest->append_ms : c->part_ms;
    }
}

static int load_rendition(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                          size_t len)
{
    struct load *l = data;
    struct lifecycle_channel *c = l->channel;
    if (c->n_renditions == LIFECYCLE_RENDITIONS_MAX) {
        return WEIR_ECORRUPT;
    }
    l->rendition = lifecycle_rendition_new(c, key[key_len - 1]);
    if (l->rendition == NULL) {
        return WEIR_ENOMEM;
    }
    int rc = lifecycle_decode_rendition(value, len, l->rendition);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_key k = lifecycle_key_broadcast('s', c->name, c->broadcast.id);
    lifecycle_key_u8(&k, l->rendition->id);
    rc = fold_scan(l->txn, k.data, k.len, true, load_segment, l);
    load_position(c, l->rendition);
    return rc > 0 ? 0 : rc;
}

static int load_broadcast(struct load *l)
{
    struct lifecycle_channel *c = l->channel;
    struct lifecycle_key k = lifecycle_key_broadcast('b', c->name, c->broadcast.id);
    const uint8_t *value = NULL;
    size_t len = 0;
    int rc = fold_read(l->txn, k.data, k.len, &value, &len);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? WEIR_ECORRUPT : rc;
    }
    rc = lifecycle_decode_broadcast(value, len, &c->broadcast);
    if (rc != 0) {
        return rc;
    }
    k = lifecycle_key_broadcast('r', c->name, c->broadcast.id);
    rc = fold_scan(l->txn, k.data, k.len, false, load_rendition, l);
    lifecycle_timeline_update(c);
    return rc;
}

static int load_channel(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t len)
{
    struct load *l = data;
    char name[LIFECYCLE_CHANNEL_MAX + 1] = "";
    if (key_len - 1 > LIFECYCLE_CHANNEL_MAX) {
        return WEIR_ECORRUPT;
    }
    memcpy(name, key + 1, key_len - 1);
    l->channel = lifecycle_channel_new(l->state, name, l->partition);
    if (l->channel == NULL) {
        return WEIR_ENOMEM;
    }
    int rc = lifecycle_decode_channel(value, len, l->channel);
    return rc == 0 ? load_broadcast(l) : rc;
}

int lifecycle_load(void *state, uint32_t partition, struct fold_txn *txn, struct error *err)
{
    struct load l = {.state = state, .txn = txn, .partition = partition};
    drop_partition(state, partition);
    int rc = fold_scan(txn, "c", 1, false, load_channel, &l);
    if (rc != 0) {
        return error_set(err, rc, "lifecycle view: %s: %s",
                         l.channel != NULL ? l.channel->name : "", error_name(rc));
    }
    return 0;
}
