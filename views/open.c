/* Opening, loading, reopening and closing of the views. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "views/priv.h"

const struct view_ops *const view_ops_all[VIEW_TOPICS] = {
    [VIEW_ACCOUNTS] = &accounts_view,
    [VIEW_CHAT] = &chat_view,
    [VIEW_LEDGER] = &ledger_view,
#ifdef WEIR_VIEWS_LIFECYCLE
    [VIEW_LIFECYCLE] = &lifecycle_view,
#endif
};

#define PARTITIONS_MAX 1024

/* --- What the store knows of a topic: 0xff "topic" u8 -> le32 version, le32 partitions --- */

#define META_KEY_SIZE 7

static void meta_key(uint8_t key[META_KEY_SIZE], enum view_topic topic)
{
    key[0] = VIEW_STORE_META;
    memcpy(key + 1, "topic", 5);
    key[6] = (uint8_t)topic;
}

static int meta_read(struct views *views, enum view_topic topic, uint32_t *ret_version,
                     uint32_t *ret_partitions, struct error *err)
{
    uint8_t key[META_KEY_SIZE];
    meta_key(key, topic);
    struct bytes b;
    bytes_init(&b, 64);
    int rc = view_store_get(views->store, key, sizeof(key), &b, err);
    if (rc == 0 && b.len == 8) {
        *ret_version = load_le32(b.data);
        *ret_partitions = load_le32(b.data + 4);
    } else if (rc == 0 || rc == WEIR_ENOTFOUND) {
        *ret_version = 0;
        *ret_partitions = 0;
        rc = 0;
    }
    bytes_close(&b);
    return rc;
}

/* The topic begins anew, with n partitions. */
static int meta_begin(struct views *views, enum view_topic topic, uint32_t n, struct error *err)
{
    uint8_t key[META_KEY_SIZE], value[8], prefix = (uint8_t)topic;
    meta_key(key, topic);
    store_le32(value, views->view[topic].ops->version);
    store_le32(value + 4, n);
    view_store_delete_prefix(views->store, &prefix, 1);
    view_store_put(views->store, key, sizeof(key), value, sizeof(value));
    return view_store_write(views->store, err);
}

int view_wipe(struct view_partition *p, struct error *err)
{
    uint8_t prefix[VIEW_PREFIX_SIZE];
    view_prefix(prefix, p->topic, p->partition);
    view_store_delete_prefix(p->views->store, prefix, sizeof(prefix));
    return view_store_write(p->views->store, err);
}

/* --- Loading --- */

static int partition_load(struct view_partition *p, struct error *err)
{
    struct view *v = &p->views->view[p->topic];
    uint8_t prefix[VIEW_PREFIX_SIZE];
    view_prefix(prefix, p->topic, p->partition);
    struct bytes b;
    bytes_init(&b, 64);
    int rc = view_store_get(p->views->store, prefix, sizeof(prefix), &b, err);
    if (rc == 0 && b.len != 8) {
        rc = error_set(err, WEIR_ECORRUPT, "views: offset of %zu bytes", b.len);
    }
    if (rc == 0 || rc == WEIR_ENOTFOUND) {
        p->next = rc == 0 ? (int64_t)load_le64(b.data) : 0;
        p->verdicts_from = p->next;
        rc = 0;
    }
    bytes_close(&b);
    if (rc != 0 || v->ops->load == NULL) {
        return rc;
    }
    struct fold_txn *txn = NULL;
    rc = views_read_begin(p->views, p->topic, p->partition, &txn);
    if (rc == 0) {
        rc = v->ops->load(v->state, p->partition, txn, err);
        views_read_end(txn);
    }
    return rc;
}

static int partitions_new(struct views *views, enum view_topic topic, uint32_t n, struct error *err)
{
    struct view *v = &views->view[topic];
    v->partitions = calloc(n, sizeof(*v->partitions));
    if (v->partitions == NULL) {
        return error_set(err, WEIR_ENOMEM, "views: %u partitions", n);
    }
    v->n_partitions = n;
    for (uint32_t i = 0; i < n; i++) {
        struct view_partition *p = &v->partitions[i];
        p->views = views;
        p->topic = topic;
        p->partition = i;
        p->high_watermark = p->target = -1;
        list_init(&p->waiting);
    }
    return 0;
}

static int partitions_load(struct views *views, enum view_topic topic, struct error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < views->view[topic].n_partitions && rc == 0; i++) {
        rc = partition_load(&views->view[topic].partitions[i], err);
    }
    return rc;
}

/* A write that failed may have happened all the same: then the store is ahead of what listeners
 * have heard. Folding anew tells them. */
static int partitions_catch_up(struct views *views, enum view_topic topic, struct error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < views->view[topic].n_partitions && rc == 0; i++) {
        struct view_partition *p = &views->view[topic].partitions[i];
        if (p->next > p->heard) {
            rc = view_wipe(p, err);
            rc = rc == 0 ? partition_load(p, err) : rc;
        }
    }
    return rc;
}

/* What was heard before the process began is not told again; what a rebuild folds anew is not
 * either. */
static void partitions_heard(struct views *views, enum view_topic topic)
{
    for (uint32_t i = 0; i < views->view[topic].n_partitions; i++) {
        views->view[topic].partitions[i].heard = views->view[topic].partitions[i].next;
    }
}

int view_set_partitions(struct views *views, enum view_topic topic, uint32_t n, struct error *err)
{
    struct view *v = &views->view[topic];
    if (v->n_partitions == n) {
        return 0;
    }
    if (n == 0 || n > PARTITIONS_MAX) {
        return error_set(err, WEIR_EINVAL, "views: topic %s with %u partitions",
                         view_topic_names[topic], n);
    }
    if (v->n_partitions != 0) {
        /* Partition counts never change in a cluster's life: this store is another cluster's. */
        return error_set(err, WEIR_EVERSION,
                         "views: topic %s has %u partitions, the store in %s has %u: it belongs to "
                         "another cluster; remove it",
                         view_topic_names[topic], n, views->dir, v->n_partitions);
    }
    int rc = meta_begin(views, topic, n, err);
    if (rc == 0) {
        rc = partitions_new(views, topic, n, err);
    }
    if (rc == 0) {
        rc = partitions_load(views, topic, err);
        partitions_heard(views, topic);
    }
    return rc;
}

/* Of a store just opened: layouts that changed are thrown away, what is known is loaded. */
static int topic_load(struct views *views, enum view_topic topic, struct error *err)
{
    struct view *v = &views->view[topic];
    uint32_t version = 0, n = 0;
    if (v->ops->open != NULL) {
        int rc = v->ops->open(views, &v->state, err);
        if (rc != 0) {
            return rc;
        }
    }
    int rc = meta_read(views, topic, &version, &n, err);
    if (rc != 0) {
        return rc;
    }
    bool known = v->n_partitions != 0;
    if (n > PARTITIONS_MAX || (known && n != v->n_partitions)) {
        n = 0; /* a store that was rebuilt */
    }
    if (n != 0 && version != v->ops->version) {
        log_info("view_rebuild", "topic=%s layout=%u was=%u", view_topic_names[topic],
                 v->ops->version, version);
        rc = meta_begin(views, topic, n, err);
    } else if (n == 0 && known) {
        rc = meta_begin(views, topic, v->n_partitions, err);
    }
    if (rc == 0 && n != 0 && !known) {
        rc = partitions_new(views, topic, n, err);
    }
    if (rc == 0) {
        rc = partitions_load(views, topic, err);
    }
    if (rc == 0 && known) {
        return partitions_catch_up(views, topic, err);
    }
    partitions_heard(views, topic);
    return rc;
}

static void topics_unload(struct views *views)
{
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        struct view *v = &views->view[t];
        if (v->ops != NULL && v->ops->close != NULL && v->state != NULL) {
            v->ops->close(v->state);
        }
        v->state = NULL;
    }
}

static int topics_load(struct views *views, struct error *err)
{
    int rc = 0;
    for (unsigned t = 0; t < VIEW_TOPICS && rc == 0; t++) {
        if (views->view[t].ops != NULL) {
            rc = topic_load(views, (enum view_topic)t, err);
        }
    }
    return rc;
}

int views_reopen(struct views *views, struct error *err)
{
    consume_stop(views);
    hash_fail_all(views, WEIR_EUNAVAILABLE);
    topics_unload(views);
    view_store_close(views->store);
    views->store = NULL;
    int rc = view_store_open(views->dir, &views->store, NULL, err);
    if (rc == 0) {
        rc = topics_load(views, err);
    }
    views->damaged = rc != 0;
    if (rc != 0) { /* nothing answers from half a load */
        topics_unload(views);
        view_store_close(views->store);
        views->store = NULL;
    }
    return rc;
}

/* --- Open and close --- */

static void view_init(struct views *views, enum view_topic topic)
{
    struct view *v = &views->view[topic];
    char labels[64];
    struct bytes b;
    list_init(&v->listeners);
    bytes_init(&b, sizeof(labels));
    bytes_printf(&b, "topic=\"%s\"", view_topic_names[topic]);
    size_t n = b.len < sizeof(labels) - 1 ? b.len : sizeof(labels) - 1;
    memcpy(labels, b.data == NULL ? (const void *)"" : b.data, n);
    labels[n] = '\0';
    bytes_close(&b);
    v->records = metric_counter("weir_views_records_total", labels, "Records folded.");
    v->voids = metric_counter("weir_views_void_total", labels, "Records folded and found void.");
    v->lag = metric_gauge("weir_views_lag_records", labels, "Records in the log, not yet folded.");
}

static void views_free(struct views *views)
{
    topics_unload(views);
    view_store_close(views->store);
    overlay_close(&views->overlay);
    arena_close(&views->arena);
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        free(views->view[t].partitions);
    }
    free(views->events);
    free(views->dir);
    free(views);
}

static int views_new(const char *dir, struct views **ret_views, struct error *err)
{
    struct views *views = calloc(1, sizeof(*views));
    if (views == NULL) {
        return error_set(err, WEIR_ENOMEM, "views");
    }
    overlay_init(&views->overlay);
    arena_init(&views->arena);
    list_init(&views->hashes);
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        view_init(views, (enum view_topic)t);
    }
    txn_init(&views->txn, views, VIEW_ACCOUNTS, 0);
    views->txn.overlay = &views->overlay;
    views->txn.arena = &views->arena;
    views->dir = strdup(dir);
    views->events = calloc(VIEW_BATCH_RECORDS_MAX, sizeof(*views->events));
    int rc = views->dir == NULL || views->events == NULL ? error_set(err, WEIR_ENOMEM, "views") : 0;
    if (rc == 0) {
        rc = view_store_open(dir, &views->store, NULL, err);
    }
    if (rc != 0) {
        views_free(views);
        return rc;
    }
    *ret_views = views;
    return 0;
}

int views_open_detached(struct env *env, const char *dir, const uint32_t partitions[VIEW_TOPICS],
                        struct views **ret_views, struct error *err)
{
    struct views *views = NULL;
    int rc = views_new(dir, &views, err);
    if (rc != 0) {
        return rc;
    }
    views->env = env;
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        views->view[t].ops = partitions[t] == 0 ? NULL : view_ops_all[t];
    }
    rc = env == NULL ? 0 : env_timer_init(env, &views->hash_timer);
    if (rc == 0) {
        rc = topics_load(views, err);
    }
    for (unsigned t = 0; t < VIEW_TOPICS && rc == 0; t++) {
        if (views->view[t].ops != NULL) {
            rc = view_set_partitions(views, (enum view_topic)t, partitions[t], err);
        }
    }
    if (rc != 0) {
        env_timer_close(&views->hash_timer);
        views_free(views);
        return rc;
    }
    *ret_views = views;
    return 0;
}

static void views_on_tick(struct env_timer *timer)
{
    struct views *views = timer->data;
    env_timer_start(timer, VIEW_TICK_US, views_on_tick);
    submit_tick(views);
    consume_tick(views);
    if (++views->ticks % VIEW_FLUSH_TICKS == 0 && views->dirty && views->store != NULL) {
        views->dirty = false;
        view_store_flush(views->store);
    }
}

int views_open(struct env *env, struct weir_client *client, const char *dir,
               struct views **ret_views, struct error *err)
{
    struct views *views = NULL;
    int rc = env_dir_make(env, dir, err);
    if (rc == 0) {
        rc = views_new(dir, &views, err);
    }
    if (rc != 0) {
        return rc;
    }
    views->env = env;
    views->client = client;
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        views->view[t].ops = view_ops_all[t];
    }
    rc = topics_load(views, err);
    if (rc == 0 &&
        (env_timer_init(env, &views->timer) != 0 || env_timer_init(env, &views->hash_timer) != 0)) {
        rc = error_set(err, WEIR_ENOMEM, "views: timer");
    }
    if (rc != 0) {
        env_timer_close(&views->timer);
        env_timer_close(&views->hash_timer);
        views_free(views);
        return rc;
    }
    views->timer.data = views;
    env_timer_start(&views->timer, VIEW_TICK_US, views_on_tick);
    consume_start(views);
    *ret_views = views;
    return 0;
}

static void views_finish(struct views *views)
{
    void (*cb)(void *data) = views->close_cb;
    void *data = views->close_data;
    hash_fail_all(views, WEIR_ECLOSED);
    submit_fail_all(views, WEIR_ECLOSED);
    env_timer_close(&views->timer);
    env_timer_close(&views->hash_timer);
    topics_unload(views);
    view_store_close(views->store);
    views->store = NULL;
    views->closed = true;
    if (views->in_client == 0) {
        views_free(views);
    }
    if (cb != NULL) {
        cb(data);
    }
}

static void views_on_close(struct env_timer *timer)
{
    views_finish(timer->data);
}

void views_client_done(struct views *views)
{
    assert(views->in_client > 0);
    views->in_client--;
    if (views->closed && views->in_client == 0) {
        views_free(views);
    }
}

void views_close(struct views *views, void (*cb)(void *data), void *data)
{
    views->closing = true;
    views->close_cb = cb;
    views->close_data = data;
    if (views->client == NULL) {
        views_finish(views);
        return;
    }
    consume_stop(views);
    env_timer_start(&views->timer, 0, views_on_close);
}
