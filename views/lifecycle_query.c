#include <assert.h>
#include <string.h>

#include "views/lifecycle_priv.h"
#include "views/text.h"

const struct lifecycle_channel *lifecycle_live(struct views *views, const char *channel)
{
    struct lifecycle_state *state = views_state(views, VIEW_LIFECYCLE);
    if (state == NULL || views_partitions(views, VIEW_LIFECYCLE) == 0) {
        return NULL;
    }
    return lifecycle_find(state, views_partition(views, VIEW_LIFECYCLE, channel), channel);
}

int lifecycle_live_each(struct views *views, lifecycle_live_cb cb, void *data)
{
    struct lifecycle_state *state = views_state(views, VIEW_LIFECYCLE);
    for (unsigned i = 0; state != NULL && i < LIFECYCLE_BUCKETS; i++) {
        LIST_FOREACH_SAFE(it, next, &state->buckets[i])
        {
            struct lifecycle_channel *c = list_entry(it, struct lifecycle_channel, link);
            bool own = c->partition == views_partition(views, VIEW_LIFECYCLE, c->name);
            int rc = own ? cb(data, c) : 0;
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

uint64_t lifecycle_claim_follows(const struct lifecycle_channel *channel)
{
    return channel == NULL ? 1 : (uint64_t)channel->session_epoch + 2;
}

int64_t lifecycle_active_ms(const struct lifecycle_channel *channel)
{
    return channel->part_ms > channel->session_ms ? channel->part_ms : channel->session_ms;
}

const struct lifecycle_rendition *lifecycle_rendition_find(const struct lifecycle_channel *channel,
                                                           const char *name)
{
    for (unsigned i = 0; i < channel->n_renditions; i++) {
        if (strcmp(channel->renditions[i]->name, name) == 0) {
            return channel->renditions[i];
        }
    }
    return NULL;
}

const struct lifecycle_rendition *lifecycle_rendition_by_id(const struct lifecycle_channel *channel,
                                                            uint32_t id)
{
    for (unsigned i = 0; i < channel->n_renditions; i++) {
        if (channel->renditions[i]->id == id) {
            return channel->renditions[i];
        }
    }
    return NULL;
}

/* Until this session has started one, those of the session before are still shown. */
bool lifecycle_rendition_current(const struct lifecycle_channel *channel,
                                 const struct lifecycle_rendition *rendition)
{
    int64_t newest = LIFECYCLE_NO_EPOCH;
    for (unsigned i = 0; i < channel->n_renditions; i++) {
        int64_t epoch = channel->renditions[i]->session_epoch;
        newest = epoch > newest ? epoch : newest;
    }
    return rendition->session_epoch == newest;
}

const struct lifecycle_segment *lifecycle_open_segment(const struct lifecycle_rendition *rendition)
{
    return rendition->next_part > 0 ? lifecycle_newest(rendition) : NULL;
}

int64_t lifecycle_resume_us(const struct lifecycle_channel *channel)
{
    int64_t resume_us = channel->end_us;
    for (unsigned i = 0; i < channel->n_renditions; i++) {
        const struct lifecycle_rendition *r = channel->renditions[i];
        const struct lifecycle_segment *s = lifecycle_open_segment(r);
        int64_t from_us = s != NULL ? s->start_us : r->end_us;
        if (r->session_epoch == channel->session_epoch && from_us < resume_us) {
            resume_us = from_us;
        }
    }
    return resume_us;
}

void lifecycle_part_object(const struct lifecycle_segment *segment, unsigned part,
                           struct lifecycle_object *ret_object)
{
    assert(part < segment->n_parts);
    const struct lifecycle_part *p = &segment->parts[part];
    const struct lifecycle_extent *e = &segment->extents[p->extent];
    memset(ret_object, 0, sizeof(*ret_object));
    text_copy(ret_object->name, sizeof(ret_object->name), e->object);
    ret_object->position = p->position;
    ret_object->size = p->size;
    ret_object->has_crc = true;
    ret_object->crc32c = p->crc32c;
    ret_object->n_nodes = e->n_nodes;
    for (unsigned i = 0; i < e->n_nodes; i++) {
        text_copy(ret_object->nodes[i], sizeof(ret_object->nodes[i]), e->nodes[i]);
    }
}

/* --- From the store --- */

static int read_begin(struct views *views, const char *channel, struct fold_txn **ret_txn)
{
    if (!lifecycle_channel_valid(channel)) {
        return WEIR_ENOTFOUND;
    }
    return views_read_begin(views, VIEW_LIFECYCLE, views_partition(views, VIEW_LIFECYCLE, channel),
                            ret_txn);
}

static int broadcast_read(struct fold_txn *txn, const char *channel, uint64_t id,
                          struct lifecycle_broadcast *ret_broadcast)
{
    struct lifecycle_key k = lifecycle_key_broadcast('b', channel, id);
    const uint8_t *value = NULL;
    size_t len = 0;
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    return rc == 0 ? lifecycle_decode_broadcast(value, len, ret_broadcast) : rc;
}

int lifecycle_broadcast(struct views *views, const char *channel, uint64_t broadcast,
                        struct lifecycle_broadcast *ret_broadcast)
{
    struct fold_txn *txn = NULL;
    int rc = read_begin(views, channel, &txn);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_broadcast b;
    rc = broadcast_read(txn, channel, broadcast, &b);
    views_read_end(txn);
    if (rc == 0) {
        *ret_broadcast = b;
    }
    return rc;
}

struct walk {
    struct fold_txn *txn;
    const char *channel;
    void *cb_data;
    lifecycle_broadcast_cb broadcast;
    lifecycle_rendition_cb rendition;
    lifecycle_segment_cb segment;
};

static int walk_broadcast(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                          size_t len)
{
    (void)key;
    (void)key_len;
    const struct walk *w = data;
    struct lifecycle_broadcast b;
    if (len != 8) {
        return WEIR_ECORRUPT;
    }
    int rc = broadcast_read(w->txn, w->channel, load_be64(value), &b);
    return rc == 0 ? w->broadcast(w->cb_data, &b) : rc;
}

int lifecycle_broadcasts(struct views *views, const char *channel, lifecycle_broadcast_cb cb,
                         void *data)
{
    struct walk w = {.channel = channel, .cb_data = data, .broadcast = cb};
    int rc = read_begin(views, channel, &w.txn);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_key k = lifecycle_key_all('n', channel);
    rc = fold_scan(w.txn, k.data, k.len, true, walk_broadcast, &w);
    views_read_end(w.txn);
    return rc;
}

static int walk_rendition(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                          size_t len)
{
    (void)key;
    (void)key_len;
    const struct walk *w = data;
    struct lifecycle_rendition r = {0};
    int rc = lifecycle_decode_rendition(value, len, &r);
    return rc == 0 ? w->rendition(w->cb_data, &r) : rc;
}

int lifecycle_renditions(struct views *views, const char *channel, uint64_t broadcast,
                         lifecycle_rendition_cb cb, void *data)
{
    struct walk w = {.cb_data = data, .rendition = cb};
    int rc = read_begin(views, channel, &w.txn);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_key k = lifecycle_key_broadcast('r', channel, broadcast);
    rc = fold_scan(w.txn, k.data, k.len, false, walk_rendition, &w);
    views_read_end(w.txn);
    return rc;
}

static int walk_segment(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t len)
{
    const struct walk *w = data;
    struct lifecycle_segment *s = NULL;
    int rc = lifecycle_decode_segment(load_be64(key + key_len - 8), value, len, &s);
    if (rc != 0) {
        return rc;
    }
    rc = w->segment(w->cb_data, s);
    lifecycle_segment_free(s);
    return rc;
}

int lifecycle_segments(struct views *views, const char *channel, uint64_t broadcast,
                       uint32_t rendition, bool reverse, lifecycle_segment_cb cb, void *data)
{
    struct walk w = {.cb_data = data, .segment = cb};
    int rc = rendition > LIFECYCLE_ID_MAX ? WEIR_ENOTFOUND : read_begin(views, channel, &w.txn);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_key k = lifecycle_key_broadcast('s', channel, broadcast);
    lifecycle_key_u8(&k, rendition);
    rc = fold_scan(w.txn, k.data, k.len, reverse, walk_segment, &w);
    views_read_end(w.txn);
    return rc;
}

static const struct lifecycle_segment *ring_find(struct views *views, const char *channel,
                                                 uint64_t broadcast, uint32_t rendition,
                                                 uint64_t msn)
{
    const struct lifecycle_channel *c = lifecycle_live(views, channel);
    const struct lifecycle_rendition *r =
        c != NULL && c->broadcast.id == broadcast ? lifecycle_rendition_by_id(c, rendition) : NULL;
    if (r == NULL || r->n_segments == 0 || msn < r->segments[0]->msn ||
        msn - r->segments[0]->msn >= r->n_segments) {
        return NULL;
    }
    return r->segments[msn - r->segments[0]->msn]; /* numbers have no gaps */
}

static int segment_read(struct views *views, const char *channel, const struct lifecycle_key *k,
                        uint64_t msn, struct lifecycle_segment **ret_segment)
{
    struct fold_txn *txn = NULL;
    int rc = read_begin(views, channel, &txn);
    if (rc != 0) {
        return rc;
    }
    const uint8_t *value = NULL;
    size_t len = 0;
    rc = fold_read(txn, k->data, k->len, &value, &len);
    rc = rc == 0 ? lifecycle_decode_segment(msn, value, len, ret_segment) : rc;
    views_read_end(txn);
    return rc;
}

int lifecycle_segment(struct views *views, const char *channel, uint64_t broadcast,
                      uint32_t rendition, uint64_t msn, lifecycle_segment_cb cb, void *data)
{
    const struct lifecycle_segment *live = ring_find(views, channel, broadcast, rendition, msn);
    if (live != NULL) {
        return cb(data, live);
    }
    if (!lifecycle_channel_valid(channel) || rendition > LIFECYCLE_ID_MAX) {
        return WEIR_ENOTFOUND;
    }
    struct lifecycle_key k = lifecycle_key_broadcast('s', channel, broadcast);
    lifecycle_key_u8(&k, rendition);
    lifecycle_key_be64(&k, msn);
    struct lifecycle_segment *s = NULL;
    int rc = segment_read(views, channel, &k, msn, &s);
    if (rc == 0) {
        rc = cb(data, s);
        lifecycle_segment_free(s);
    }
    return rc;
}

int lifecycle_init(struct views *views, const char *channel, uint64_t broadcast, uint32_t rendition,
                   uint32_t init, struct lifecycle_object *ret_object)
{
    struct fold_txn *txn = NULL;
    int rc = rendition > LIFECYCLE_ID_MAX ? WEIR_ENOTFOUND : read_begin(views, channel, &txn);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_key k = lifecycle_key_broadcast('d', channel, broadcast);
    lifecycle_key_u8(&k, rendition);
    lifecycle_key_be32(&k, init);
    const uint8_t *value = NULL;
    size_t len = 0;
    struct lifecycle_object object;
    rc = fold_read(txn, k.data, k.len, &value, &len);
    rc = rc == 0 ? lifecycle_decode_object(value, len, &object) : rc;
    views_read_end(txn);
    if (rc == 0) {
        *ret_object = object;
    }
    return rc;
}
