/* The fold of the topic `lifecycle`. What it decides by is in memory (the live channels) and could
 * be read back at any offset; what it changes there it puts into the store in the same breath.
 * Rules: lifecycle.h. */
#include "views/lifecycle.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "proto/lifecycle.pb-c.h"
#include "views/lifecycle_priv.h"
#include "views/text.h"

#define PART_US_MAX     60000000u
#define PART_BYTES_MAX  (64u << 20)
#define TARGET_MS_MAX   60000u
#define PIXELS_MAX      16384u
#define TIMELINE_US_MAX (1ll << 53)
/* Last millisecond of the year 9999: later ones do not fit a playlist's date. */
#define WALL_MS_MAX 253402300799999

struct lifecycle_fold {
    struct lifecycle_state *state;
    struct fold_txn *txn;
    const struct fold_record *record;
    const char *name;
    struct lifecycle_channel *channel; /* NULL: not live */
    struct lifecycle_outcome *outcome;
};

/* --- What a record may say --- */

static bool all_of(const char *s, size_t min, size_t max, const char *extra)
{
    size_t n = 0;
    for (; s[n] != 0; n++) {
        char c = s[n];
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (n == max || (!word && strchr(extra, c) == NULL)) {
            return false;
        }
    }
    return n >= min;
}

#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool node_valid(const char *s)
{
    return all_of(s, 1, LIFECYCLE_NODE_MAX, UPPER "._-");
}

static bool nodes_valid(size_t n, char *const *nodes)
{
    bool ok = n >= 1 && n <= LIFECYCLE_NODES_MAX;
    for (size_t i = 0; ok && i < n; i++) {
        ok = node_valid(nodes[i]);
    }
    return ok;
}

static bool object_valid(const char *s)
{
    for (unsigned i = 0; i < 16; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f'))) {
            return false;
        }
    }
    return s[16] == '/' && s[17] != '.' && all_of(s + 17, 1, 64, "._-");
}

static bool rendition_name_valid(const char *s)
{
    return all_of(s, 1, LIFECYCLE_NAME_MAX, "") && strcmp(s, "master") != 0 &&
           strcmp(s, "vod") != 0 && strcmp(s, "thumb") != 0;
}

static bool start_valid(const Weir__RenditionStart *m)
{
    return m->rendition <= LIFECYCLE_ID_MAX && rendition_name_valid(m->name) &&
           all_of(m->codecs, 0, LIFECYCLE_CODECS_MAX, UPPER ".,-") && m->width <= PIXELS_MAX &&
           m->height <= PIXELS_MAX && object_valid(m->init_object) && m->init_size > 0 &&
           m->init_size <= PART_BYTES_MAX && nodes_valid(m->n_init_nodes, m->init_nodes) &&
           m->first_msn < LIFECYCLE_MSN_MAX && m->part_target_ms > 0 &&
           m->part_target_ms <= TARGET_MS_MAX && m->target_duration_ms > 0 &&
           m->target_duration_ms <= TARGET_MS_MAX;
}

static bool part_valid(const Weir__PartCommitted *m)
{
    return m->duration_us > 0 && m->duration_us <= PART_US_MAX && m->size > 0 &&
           m->size <= PART_BYTES_MAX && m->start_us >= 0 && m->start_us < TIMELINE_US_MAX &&
           m->wall_ms >= 0 && m->wall_ms <= WALL_MS_MAX && m->position <= (1ull << 40) &&
           object_valid(m->object) && nodes_valid(m->n_nodes, m->nodes);
}

static bool thumbnail_valid(const Weir__Thumbnail *m)
{
    return object_valid(m->object) && m->size > 0 && m->size <= PART_BYTES_MAX &&
           m->width <= PIXELS_MAX && m->height <= PIXELS_MAX && m->msn < LIFECYCLE_MSN_MAX &&
           nodes_valid(m->n_nodes, m->nodes);
}

/* Older records have no CRC: 0, which one in four thousand millions has, too. */
static void object_set(struct lifecycle_object *o, const char *name, uint32_t size, uint32_t crc32c,
                       size_t n_nodes, char *const *nodes)
{
    memset(o, 0, sizeof(*o));
    text_copy(o->name, sizeof(o->name), name);
    o->size = size;
    o->has_crc = crc32c != 0;
    o->crc32c = crc32c;
    o->n_nodes = (unsigned)n_nodes;
    for (size_t i = 0; i < n_nodes; i++) {
        text_copy(o->nodes[i], sizeof(o->nodes[i]), nodes[i]);
    }
}

/* Is what the record is for still there? */
static bool epoch_stands(int64_t epoch, int64_t now)
{
    return epoch == now || fault_on(FAULT_EPOCH_IGNORED);
}

/* --- Each record: a verdict, or (negative) an error of the store or of memory --- */

static int close_segment(struct lifecycle_fold *f, struct lifecycle_rendition *r)
{
    struct lifecycle_segment *s = lifecycle_newest(r);
    if (r->next_part == 0) {
        return 0;
    }
    s->complete = true;
    r->next_msn++;
    r->next_part = 0;
    return lifecycle_put_segment(f->txn, f->channel, r->id, s);
}

static int close_all(struct lifecycle_fold *f)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < f->channel->n_renditions; i++) {
        rc = close_segment(f, f->channel->renditions[i]);
    }
    return rc;
}

static int begin_broadcast(struct lifecycle_fold *f, uint64_t id)
{
    struct lifecycle_key k = lifecycle_key_broadcast('b', f->name, id);
    const uint8_t *value = NULL;
    size_t len = 0;
    int rc = fold_read(f->txn, k.data, k.len, &value, &len);
    if (rc != WEIR_ENOTFOUND) {
        return rc == 0 ? VERDICT_DUPLICATE : rc;
    }
    f->channel = lifecycle_channel_new(f->state, f->name, f->record->partition);
    if (f->channel == NULL) {
        return WEIR_ENOMEM;
    }
    struct lifecycle_broadcast *b = &f->channel->broadcast;
    b->id = id;
    b->started_ms = f->record->append_ms;
    b->start_offset = f->record->offset;
    rc = lifecycle_put_broadcast(f->txn, f->name, b);
    uint8_t number[8];
    store_be64(number, id);
    k = lifecycle_key_broadcast('n', f->name, (uint64_t)f->record->offset);
    return rc == 0 ? fold_put(f->txn, k.data, k.len, number, sizeof(number)) : rc;
}

/* Is what the claimer knew of still so? */
static bool claim_stands(const struct lifecycle_fold *f, const Weir__SessionClaim *m)
{
    return m->follows == 0 || m->follows == lifecycle_claim_follows(f->channel);
}

static int fold_claim(struct lifecycle_fold *f, const Weir__SessionClaim *m)
{
    if (!node_valid(m->node) || !text_valid_within(m->encoder, LIFECYCLE_ENCODER_MAX) ||
        m->broadcast_id == 0) {
        return VERDICT_MALFORMED;
    }
    if (!claim_stands(f, m)) {
        return VERDICT_FENCED;
    }
    int rc = f->channel == NULL ? begin_broadcast(f, m->broadcast_id) : close_all(f);
    if (rc != 0) {
        return rc;
    }
    struct lifecycle_channel *c = f->channel;
    c->session_epoch = f->record->offset;
    c->session_ms = f->record->append_ms;
    text_copy(c->session_node, sizeof(c->session_node), m->node);
    text_copy(c->encoder, sizeof(c->encoder), m->encoder);
    c->worker_epoch = LIFECYCLE_NO_EPOCH;
    c->worker_ms = 0;
    text_copy(c->worker_node, sizeof(c->worker_node), "");
    return lifecycle_put_channel(f->txn, c);
}

static int fold_assign(struct lifecycle_fold *f, const Weir__TranscodeAssign *m)
{
    struct lifecycle_channel *c = f->channel;
    if (!node_valid(m->node)) {
        return VERDICT_MALFORMED;
    }
    if (!epoch_stands(m->session_epoch, c->session_epoch)) {
        return VERDICT_FENCED;
    }
    c->worker_epoch = f->record->offset;
    c->worker_ms = f->record->append_ms;
    text_copy(c->worker_node, sizeof(c->worker_node), m->node);
    return lifecycle_put_channel(f->txn, c);
}

static struct lifecycle_rendition *by_id(const struct lifecycle_channel *c, uint32_t id)
{
    for (unsigned i = 0; i < c->n_renditions; i++) {
        if (c->renditions[i]->id == id) {
            return c->renditions[i];
        }
    }
    return NULL;
}

/* A restart: may the worker begin at this number? */
static int check_restart(const struct lifecycle_rendition *r, const Weir__RenditionStart *m)
{
    if (strcmp(r->name, m->name) != 0) {
        return VERDICT_EXISTS;
    }
    bool next = m->first_msn == r->next_msn && (r->next_part == 0 || !m->discontinuity);
    bool close = r->next_part > 0 && m->first_msn == r->next_msn + 1;
    return next || close ? VERDICT_OK : VERDICT_ORDER;
}

static int check_begin(const struct lifecycle_channel *c, const Weir__RenditionStart *m)
{
    for (unsigned i = 0; i < c->n_renditions; i++) {
        if (strcmp(c->renditions[i]->name, m->name) == 0) {
            return VERDICT_EXISTS;
        }
    }
    return c->n_renditions < LIFECYCLE_RENDITIONS_MAX ? VERDICT_OK : VERDICT_ORDER;
}

static int start_init(struct lifecycle_fold *f, struct lifecycle_rendition *r, bool begins,
                      const Weir__RenditionStart *m)
{
    struct lifecycle_object init;
    if (!begins && strcmp(r->init_object, m->init_object) == 0) {
        return 0;
    }
    r->init += begins ? 0 : 1;
    text_copy(r->init_object, sizeof(r->init_object), m->init_object);
    object_set(&init, m->init_object, m->init_size, m->init_crc32c, m->n_init_nodes, m->init_nodes);
    return lifecycle_put_init(f->txn, f->channel, r->id, r->init, &init);
}

/* Where the next segment begins, and whether after a discontinuity: one that was declared, that a
 * new session makes, or that was declared before and no segment has come since. A segment that is
 * gone on with is none of these. */
static void start_position(const struct lifecycle_channel *c, struct lifecycle_rendition *r,
                           const Weir__RenditionStart *m)
{
    bool goes_on = r->next_part > 0;
    bool pending = r->start_discontinuity && r->start_msn == r->next_msn;
    bool other_session = r->session_epoch != c->session_epoch;
    r->start_discontinuity =
        !goes_on && lifecycle_newest(r) != NULL && (m->discontinuity || other_session || pending);
    r->next_msn = m->first_msn;
    r->start_msn = goes_on ? m->first_msn + 1 : m->first_msn;
}

static int fold_start(struct lifecycle_fold *f, const Weir__RenditionStart *m)
{
    struct lifecycle_channel *c = f->channel;
    if (!start_valid(m)) {
        return VERDICT_MALFORMED;
    }
    if (!epoch_stands(m->worker_epoch, c->worker_epoch)) {
        return VERDICT_FENCED;
    }
    struct lifecycle_rendition *r = by_id(c, m->rendition);
    bool begins = r == NULL;
    int rc = begins ? check_begin(c, m) : check_restart(r, m);
    if (rc != VERDICT_OK) {
        return rc;
    }
    if (begins) {
        r = lifecycle_rendition_new(c, m->rendition);
        if (r == NULL) {
            return WEIR_ENOMEM;
        }
        text_copy(r->name, sizeof(r->name), m->name);
        r->part_target_ms = m->part_target_ms;
        r->target_duration_ms = m->target_duration_ms;
    } else if (m->first_msn > r->next_msn) {
        rc = close_segment(f, r);
    }
    text_copy(r->codecs, sizeof(r->codecs), m->codecs);
    r->width = m->width;
    r->height = m->height;
    r->frame_rate_milli = m->frame_rate_milli;
    r->bandwidth = m->bandwidth;
    start_position(c, r, m);
    r->worker_epoch = c->worker_epoch;
    r->session_epoch = c->session_epoch;
    rc = rc == 0 ? start_init(f, r, begins, m) : rc;
    f->outcome->has_rendition = true;
    f->outcome->rendition = r->id;
    return rc == 0 ? lifecycle_put_rendition(f->txn, c, r) : rc;
}

static struct lifecycle_segment *open_segment(struct lifecycle_rendition *r,
                                              const Weir__PartCommitted *m)
{
    struct lifecycle_segment *s = lifecycle_segment_new();
    if (s == NULL) {
        return NULL;
    }
    const struct lifecycle_segment *before = lifecycle_newest(r);
    s->msn = m->msn;
    s->start_us = m->start_us;
    s->wall_ms = m->wall_ms;
    s->init = r->init;
    s->discontinuity = r->start_discontinuity && r->start_msn == m->msn;
    s->discontinuities =
        (before != NULL ? before->discontinuities : 0) + (s->discontinuity ? 1 : 0);
    lifecycle_ring_push(r, s);
    return s;
}

static int fold_part(struct lifecycle_fold *f, const Weir__PartCommitted *m)
{
    struct lifecycle_channel *c = f->channel;
    if (!part_valid(m)) {
        return VERDICT_MALFORMED;
    }
    if (!epoch_stands(m->worker_epoch, c->worker_epoch)) {
        return VERDICT_FENCED;
    }
    struct lifecycle_rendition *r = by_id(c, m->rendition);
    if (r == NULL || !epoch_stands(r->worker_epoch, c->worker_epoch)) {
        return VERDICT_NOT_FOUND;
    }
    if (m->msn != r->next_msn || m->part != r->next_part || m->part >= LIFECYCLE_PARTS_MAX) {
        return VERDICT_ORDER;
    }
    struct lifecycle_segment *s = m->part == 0 ? open_segment(r, m) : lifecycle_newest(r);
    struct lifecycle_part part = {.duration_us = m->duration_us,
                                  .size = m->size,
                                  .crc32c = m->crc32c,
                                  .position = m->position,
                                  .independent = m->independent};
    if (s == NULL || lifecycle_segment_add(s, &part, m->object, (const char *const *)m->nodes,
                                           (unsigned)m->n_nodes) != 0) {
        return WEIR_ENOMEM;
    }
    s->append_ms = f->record->append_ms;
    s->complete = m->last;
    r->next_msn += m->last ? 1 : 0;
    r->next_part = m->last ? 0 : m->part + 1;
    c->part_ms = f->record->append_ms;
    lifecycle_timeline_update(c);
    f->outcome->has_rendition = true;
    f->outcome->rendition = r->id;
    return lifecycle_put_segment(f->txn, c, r->id, s);
}

/* Where the first segment of a rendition lies on the timeline. */
static int take_first_start(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                            size_t len)
{
    int64_t *start_us = data;
    struct lifecycle_segment *s = NULL;
    (void)key;
    (void)key_len;
    int rc = lifecycle_decode_segment(0, value, len, &s);
    if (rc != 0) {
        return rc;
    }
    *start_us = s->start_us < *start_us ? s->start_us : *start_us;
    lifecycle_segment_free(s);
    return 1;
}

/* From the earliest first segment to the end of the timeline. */
static int broadcast_duration(struct lifecycle_fold *f, int64_t *ret_us)
{
    const struct lifecycle_channel *c = f->channel;
    int64_t start_us = c->end_us;
    for (unsigned i = 0; i < c->n_renditions; i++) {
        struct lifecycle_key k = lifecycle_key_broadcast('s', c->name, c->broadcast.id);
        lifecycle_key_u8(&k, c->renditions[i]->id);
        int rc = fold_scan(f->txn, k.data, k.len, false, take_first_start, &start_us);
        if (rc < 0) {
            return rc;
        }
    }
    *ret_us = c->end_us - start_us;
    return 0;
}

static int fold_end(struct lifecycle_fold *f, const Weir__BroadcastEnd *m)
{
    struct lifecycle_channel *c = f->channel;
    if (!text_valid_within(m->reason, LIFECYCLE_REASON_MAX)) {
        return VERDICT_MALFORMED;
    }
    /* Whoever found nothing new may have been cut off or asleep itself. */
    bool went_on = m->idle_since_ms != 0 && lifecycle_active_ms(c) > m->idle_since_ms;
    if (!epoch_stands(m->session_epoch, c->session_epoch) || went_on) {
        return VERDICT_FENCED;
    }
    int rc = close_all(f);
    struct lifecycle_broadcast *b = &c->broadcast;
    b->ended_ms = f->record->append_ms > b->started_ms ? f->record->append_ms : b->started_ms + 1;
    text_copy(b->reason, sizeof(b->reason), m->reason);
    struct lifecycle_key k = lifecycle_key_channel(c->name);
    rc = rc == 0 ? broadcast_duration(f, &b->duration_us) : rc;
    rc = rc == 0 ? lifecycle_put_broadcast(f->txn, c->name, b) : rc;
    rc = rc == 0 ? fold_delete(f->txn, k.data, k.len) : rc;
    f->outcome->ended = true;
    return rc;
}

static int fold_thumbnail(struct lifecycle_fold *f, const Weir__Thumbnail *m)
{
    struct lifecycle_channel *c = f->channel;
    if (!thumbnail_valid(m)) {
        return VERDICT_MALFORMED;
    }
    if (!epoch_stands(m->worker_epoch, c->worker_epoch)) {
        return VERDICT_FENCED;
    }
    struct lifecycle_thumbnail *t = &c->broadcast.thumbnail;
    object_set(&t->object, m->object, m->size, m->crc32c, m->n_nodes, m->nodes);
    t->width = m->width;
    t->height = m->height;
    t->msn = m->msn;
    return lifecycle_put_broadcast(f->txn, c->name, &c->broadcast);
}

static int fold_body(struct lifecycle_fold *f, const Weir__LifecycleRecord *m)
{
    if (m->body_case == WEIR__LIFECYCLE_RECORD__BODY_SESSION_CLAIM) {
        return fold_claim(f, m->session_claim);
    }
    if (m->body_case == WEIR__LIFECYCLE_RECORD__BODY__NOT_SET) {
        return VERDICT_MALFORMED;
    }
    if (f->channel == NULL) {
        return VERDICT_NOT_FOUND;
    }
    switch (m->body_case) {
    case WEIR__LIFECYCLE_RECORD__BODY_TRANSCODE_ASSIGN:
        return fold_assign(f, m->transcode_assign);
    case WEIR__LIFECYCLE_RECORD__BODY_RENDITION_START:
        return fold_start(f, m->rendition_start);
    case WEIR__LIFECYCLE_RECORD__BODY_PART_COMMITTED:
        return fold_part(f, m->part_committed);
    case WEIR__LIFECYCLE_RECORD__BODY_BROADCAST_END:
        return fold_end(f, m->broadcast_end);
    case WEIR__LIFECYCLE_RECORD__BODY_THUMBNAIL:
        return fold_thumbnail(f, m->thumbnail);
    default:
        return VERDICT_MALFORMED;
    }
}

static int fold_message(struct lifecycle_fold *f, const Weir__LifecycleRecord *m)
{
    if (!lifecycle_channel_valid(m->channel)) {
        return VERDICT_MALFORMED;
    }
    f->name = m->channel;
    f->channel = lifecycle_find(f->state, f->record->partition, m->channel);
    int rc = fold_body(f, m);
    if (rc == VERDICT_OK) {
        f->channel->version++;
        f->outcome->channel = m->channel;
        f->outcome->broadcast = f->channel->broadcast.id;
    }
    if (rc == VERDICT_OK && f->outcome->ended) {
        lifecycle_channel_free(f->channel);
    }
    return rc;
}

static int lifecycle_fold(void *state, struct fold_txn *txn, const struct fold_record *record,
                          struct view_event *ret_event, struct error *err)
{
    struct lifecycle_fold f = {.state = state, .txn = txn, .record = record};
    f.outcome = fold_alloc(txn, sizeof(*f.outcome));
    Weir__LifecycleRecord *m =
        weir__lifecycle_record__unpack(fold_allocator(txn), record->len, record->value);
    if (f.outcome == NULL || (m == NULL && fold_unpack_failed(txn) != 0)) {
        return error_set(err, WEIR_ENOMEM, "lifecycle record of %zu bytes", record->len);
    }
    if (m == NULL) {
        ret_event->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = fold_message(&f, m);
    if (rc < 0) {
        return error_set(err, rc, "lifecycle record at %lld: %s", (long long)record->offset,
                         error_name(rc));
    }
    ret_event->verdict = (enum verdict)rc;
    ret_event->record = m;
    ret_event->outcome = rc == VERDICT_OK ? f.outcome : NULL;
    return 0;
}

static int lifecycle_open(struct views *views, void **ret_state, struct error *err)
{
    struct lifecycle_state *state = malloc(sizeof(*state));
    if (state == NULL) {
        return error_set(err, WEIR_ENOMEM, "lifecycle view: out of memory");
    }
    state->views = views;
    for (unsigned i = 0; i < LIFECYCLE_BUCKETS; i++) {
        list_init(&state->buckets[i]);
    }
    *ret_state = state;
    return 0;
}

static void lifecycle_close(void *data)
{
    struct lifecycle_state *state = data;
    for (unsigned i = 0; i < LIFECYCLE_BUCKETS; i++) {
        while (!list_empty(&state->buckets[i])) {
            lifecycle_channel_free(
                list_entry(state->buckets[i].next, struct lifecycle_channel, link));
        }
    }
    free(state);
}

const struct view_ops lifecycle_view = {
    .topic = VIEW_LIFECYCLE,
    .version = 4,
    .open = lifecycle_open,
    .load = lifecycle_load,
    .close = lifecycle_close,
    .fold = lifecycle_fold,
};
