#include "views/views.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "views/priv.h"

const char *const view_topic_names[VIEW_TOPICS] = {
    [VIEW_ACCOUNTS] = "accounts",
    [VIEW_LIFECYCLE] = "lifecycle",
    [VIEW_CHAT] = "chat",
    [VIEW_LEDGER] = "ledger",
};

const char *verdict_name(enum verdict verdict)
{
#define X(name, value, text) [value] = text,
    static const char *const names[] = {VERDICT_MAP(X)};
#undef X
    size_t n = sizeof(names) / sizeof(names[0]);
    return (size_t)verdict < n && names[verdict] != NULL ? names[verdict] : "unknown";
}

struct view_partition *view_partition_get(const struct views *views, enum view_topic topic,
                                          uint32_t partition)
{
    const struct view *v = &views->view[topic];
    return partition < v->n_partitions ? &v->partitions[partition] : NULL;
}

/* --- Folding --- */

static void batch_reset(struct views *views)
{
    views->n_events = 0;
    overlay_reset(&views->overlay);
    arena_reset(&views->arena);
}

static void batch_committed(struct view_partition *p)
{
    struct views *views = p->views;
    const struct view *v = &views->view[p->topic];
    for (unsigned i = 0; v->ops->committed != NULL && i < views->n_events; i++) {
        v->ops->committed(v->state, &views->events[i]);
    }
    batch_reset(views);
}

static void event_tell(struct view *v, const struct view_event *event)
{
    LIST_FOREACH_SAFE(it, next, &v->listeners)
    {
        struct view_listener *l = list_entry(it, struct view_listener, link);
        l->event(l->data, event);
    }
}

/* The batch is stored: verdicts for late acknowledgements, then listeners, then who waits. */
static void batch_tell(struct view_partition *p)
{
    struct views *views = p->views;
    struct view *v = &views->view[p->topic];
    unsigned voids = 0;
    for (unsigned i = 0; i < views->n_events; i++) {
        const struct view_event *e = &views->events[i];
        p->verdicts[e->offset & (VIEW_VERDICTS - 1)] = (uint8_t)e->verdict;
        voids += e->verdict != VERDICT_OK;
    }
    metric_add(v->records, views->n_events);
    metric_add(v->voids, voids);
    for (unsigned i = 0; i < views->n_events; i++) {
        const struct view_event *e = &views->events[i];
        if (e->offset >= p->heard) {
            p->heard = e->offset + 1;
            event_tell(v, e);
        }
    }
    batch_committed(p);
    submit_folded(p);
}

static int batch_write(struct view_partition *p, struct error *err)
{
    struct views *views = p->views;
    if (views->n_events == 0) {
        return 0;
    }
    const struct view_event *first = &views->events[0];
    const struct view_event *last = &views->events[views->n_events - 1];
    uint8_t value[8];
    store_le64(value, (uint64_t)last->offset + 1);
    txn_write(&views->txn);
    view_store_put(views->store, views->txn.prefix, VIEW_PREFIX_SIZE, value, sizeof(value));
    int rc = view_store_write(views->store, err);
    if (rc != 0) {
        views->damaged = true;
        return rc;
    }
    views->dirty = true;
    if (first->offset !=
        p->next) { /* the log begins later, or was cut: verdicts in between never were */
        p->verdicts_from = first->offset;
    }
    p->next = last->offset + 1;
    if (p->next - p->verdicts_from > VIEW_VERDICTS) {
        p->verdicts_from = p->next - VIEW_VERDICTS;
    }
    batch_tell(p);
    return 0;
}

static int batch_fold(struct view_partition *p, const struct batch_record *record,
                      struct error *err)
{
    struct views *views = p->views;
    struct view *v = &views->view[p->topic];
    struct view_event *event = &views->events[views->n_events];
    struct fold_record r = {
        .partition = p->partition,
        .offset = record->offset.v,
        .append_ms = record->timestamp_ms,
        .value = record->value,
        .len = record->value == NULL || record->value_len < 0 ? 0 : (size_t)record->value_len,
    };
    *event = (struct view_event){
        .topic = p->topic,
        .partition = p->partition,
        .offset = r.offset,
        .append_ms = r.append_ms,
    };
    int rc = v->ops->fold(v->state, &views->txn, &r, event, err);
    if (rc == 0) {
        views->n_events++;
    }
    return rc;
}

static bool batch_full(const struct views *views)
{
    return views->n_events == VIEW_BATCH_RECORDS_MAX ||
           views->arena.used + views->overlay.arena.used >= VIEW_BATCH_BYTES_MAX;
}

int views_feed(struct views *views, enum view_topic topic, uint32_t partition,
               const struct batch_record *records, unsigned n, struct error *err)
{
    struct view_partition *p = view_partition_get(views, topic, partition);
    if (p == NULL) {
        return error_set(err, WEIR_EINVAL, "views: no partition %u of topic %s", partition,
                         view_topic_names[topic]);
    }
    assert(!views->folding);
    views->folding = true;
    view_prefix(views->txn.prefix, topic, partition);
    int rc = 0;
    for (unsigned i = 0; i < n && rc == 0; i++) {
        struct error why = {0};
        if (records[i].offset.v < p->next) {
            continue;
        }
        rc = batch_fold(p, &records[i], &why);
        if (rc != 0) {
            error_set(err, rc, "views: %s/%u at offset %lld: %s", view_topic_names[topic],
                      partition, (long long)records[i].offset.v,
                      why.text[0] == '\0' ? error_name(rc) : why.text);
        } else if (batch_full(views)) {
            rc = batch_write(p, err);
        }
    }
    if (rc == 0) {
        rc = batch_write(p, err);
    }
    if (rc != 0) {
        batch_committed(p); /* given up: nothing is stored, what the folds hold is freed */
    }
    views->folding = false;
    return rc;
}

/* --- Offsets, listeners, reads --- */

void views_listen(struct views *views, enum view_topic topic, struct view_listener *listener)
{
    list_push_back(&views->view[topic].listeners, &listener->link);
}

void views_unlisten(struct view_listener *listener)
{
    list_remove(&listener->link);
}

uint32_t views_partition(const struct views *views, enum view_topic topic, const char *key)
{
    uint32_t n = views->view[topic].n_partitions;
    return n == 0 ? 0 : weir_partition_for_key(key, strlen(key), n);
}

uint32_t views_partitions(const struct views *views, enum view_topic topic)
{
    return views->view[topic].n_partitions;
}

int64_t views_offset(const struct views *views, enum view_topic topic, uint32_t partition)
{
    const struct view_partition *p = view_partition_get(views, topic, partition);
    return p == NULL ? 0 : p->next;
}

void *views_state(struct views *views, enum view_topic topic)
{
    return views->view[topic].state;
}

bool views_ready(const struct views *views)
{
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        const struct view *v = &views->view[t];
        if (v->ops != NULL && v->n_partitions == 0) {
            return false;
        }
        for (uint32_t i = 0; i < v->n_partitions; i++) {
            const struct view_partition *p = &v->partitions[i];
            if (views->client != NULL && (p->target < 0 || p->next < p->target)) {
                return false;
            }
        }
    }
    return true;
}

int views_read_begin(struct views *views, enum view_topic topic, uint32_t partition,
                     struct fold_txn **ret_txn)
{
    if (view_partition_get(views, topic, partition) == NULL || views->store == NULL) {
        return WEIR_EUNAVAILABLE;
    }
    struct fold_txn *txn = calloc(1, sizeof(*txn));
    if (txn == NULL) {
        return WEIR_ENOMEM;
    }
    txn_init(txn, views, topic, partition);
    arena_init(&txn->own);
    txn->arena = &txn->own;
    *ret_txn = txn;
    return 0;
}

void views_read_end(struct fold_txn *txn)
{
    arena_close(&txn->own);
    free(txn);
}

void views_flush(struct views *views)
{
    view_store_flush(views->store);
}
