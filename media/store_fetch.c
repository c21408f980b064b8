#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/logging.h"
#include "media/store_cluster_priv.h"

struct waiter {
    struct list link;
    store_get_cb cb;
    void *data;
};

struct fetch {
    struct store_cluster *cluster;
    struct list link; /* in its bucket, while readers may join */
    struct list waiters;
    struct store_candidates candidates;
    struct env_defer defer;
    struct http_call *call;
    bool local_running, finished;
    unsigned peer; /* being asked */
    int status;
    struct http_body *body;
    uint64_t position, size;
    bool own_named;   /* this node is said to hold it */
    bool own_missing; /* and does not */
    bool own_damaged; /* it has other bytes there */
    bool has_crc, quiet;
    uint32_t crc32c;
    char object[STORE_OBJECT_NAME_MAX + 1];
};

static struct list *fetch_bucket(struct store_cluster *c, const char *object, uint64_t position)
{
    uint32_t h = crc32c(0, object, strlen(object));
    return &c->fetches[(h ^ position) % STORE_BUCKETS];
}

static void fetch_free(struct fetch *f)
{
    http_body_unref(f->body);
    free(f);
}

static void fetch_finish(struct fetch *f)
{
    struct store_cluster *c = f->cluster;
    env_defer_cancel(&f->defer);
    list_remove(&f->link);
    c->n_fetches--;
    f->finished = true;
    struct list waiters;
    list_init(&waiters);
    list_move_all(&waiters, &f->waiters);
    for (struct list *it; (it = list_pop(&waiters)) != NULL;) {
        struct waiter *w = list_entry(it, struct waiter, link);
        store_get_cb cb = w->cb;
        void *data = w->data;
        free(w);
        c->n_waiters--;
        cb(data, f->status, f->status == 0 ? f->body : NULL);
    }
    if (!f->local_running) {
        fetch_free(f);
    }
}

static void fetch_deferred(struct env_defer *defer)
{
    fetch_finish(defer->data);
}

static void fetch_finish_later(struct fetch *f, int status, struct http_body *body)
{
    f->status = status;
    f->body = body != NULL ? http_body_ref(body) : NULL;
    f->defer.data = f;
    env_defer(f->cluster->env, &f->defer, fetch_deferred);
}

static bool fetch_good(const struct fetch *f, const struct http_body *body)
{
    return body != NULL && body->len == f->size &&
           (!f->has_crc || crc32c(0, body->data, body->len) == f->crc32c);
}

/* --- A copy of this node's own that is damaged or gone, written anew --- */

struct mend {
    struct store *store;
    struct http_body *body;
    uint64_t position;
    char object[STORE_OBJECT_NAME_MAX + 1];
};

static void mend_free(struct mend *m)
{
    http_body_unref(m->body);
    free(m);
}

static void mend_put_done(void *data, int status)
{
    struct mend *m = data;
    log_event(status == 0 ? LOG_INFO : LOG_WARN, "store_copy_mended",
              "object=%s position=%" PRIu64 " size=%zu error=\"%s\"", m->object, m->position,
              m->body->len, status == 0 ? "" : error_name(status));
    mend_free(m);
}

static void mend_put(struct mend *m)
{
    if (store_put(m->store, m->object, m->position, m->body, mend_put_done, m, NULL) != 0) {
        mend_free(m); /* when it is read again */
    }
}

static void mend_looked(void *data, int status, struct http_body *body)
{
    struct mend *m = data;
    (void)body;
    if (status == 0) {
        mend_put(m);
    } else {
        mend_free(m);
    }
}

/* Only bytes that were checked, and never behind a gap: what is not there must not read as zeros.
 */
static void fetch_mend(const struct fetch *f, struct http_body *body)
{
    struct store *store = f->cluster->local;
    struct mend *m = NULL;
    if (!f->has_crc || !(f->own_damaged || f->own_missing) || f->cluster->closing ||
        (m = calloc(1, sizeof(*m))) == NULL) {
        return;
    }
    m->store = store;
    m->body = http_body_ref(body);
    m->position = f->position;
    memcpy(m->object, f->object, sizeof(m->object));
    if (f->own_damaged || f->position == 0) {
        mend_put(m);
    } else if (store_get(store, f->object, f->position - 1, 1, mend_looked, m, NULL) != 0) {
        mend_free(m);
    }
}

static void fetch_next(struct fetch *f);

static void fetch_answered(struct fetch *f, int status, struct http_body *body)
{
    if (f->peer == 0 && f->own_named) {
        f->own_missing = status == WEIR_ENOTFOUND;
        f->own_damaged = status == 0 && !fetch_good(f, body);
    }
    if (status == 0 && !fetch_good(f, body)) {
        log_warn("store_bad_copy", "node=%s object=%s position=%" PRIu64 " size=%" PRIu64,
                 store_peer_name(f->cluster, f->peer), f->object, f->position, f->size);
        status = WEIR_ECORRUPT;
    }
    if (status == 0) {
        if (!f->quiet) {
            store_cache_keep(f->cluster->local, f->object, f->position, body);
            fetch_mend(f, body);
        }
        fetch_finish_later(f, 0, body);
        return;
    }
    f->status = status;
    fetch_next(f);
}

static void local_get_done(void *data, int status, struct http_body *body)
{
    struct fetch *f = data;
    f->local_running = false;
    if (f->finished) {
        fetch_free(f);
        return;
    }
    fetch_answered(f, status, body);
}

static void remote_get_done(void *data, int status, struct http_body *body)
{
    struct fetch *f = data;
    f->call = NULL;
    if (status < 0) {
        store_peer_failed(f->cluster, f->peer, "get", status);
    }
    bool found = status == 200 || status == 206;
    fetch_answered(f, found ? 0 : WEIR_ENOTFOUND, body);
}

static int fetch_ask(struct fetch *f)
{
    struct store_cluster *c = f->cluster;
    if (f->peer == 0) {
        int rc = store_get(c->local, f->object, f->position, f->size, local_get_done, f, NULL);
        f->local_running = rc == 0;
        return rc;
    }
    char path[STORE_PATH_BYTES];
    (void)snprintf(path, sizeof(path), "/internal/store/%s?position=%" PRIu64 "&size=%" PRIu64,
                   f->object, f->position, f->size);
    metric_add(c->remote_gets, 1);
    return store_call_peer(c, f->peer, "GET", path, NULL, f->size + STORE_ERROR_BODY_MAX,
                           remote_get_done, f, &f->call);
}

static void fetch_next(struct fetch *f)
{
    while (f->candidates.next < f->candidates.n) {
        f->peer = f->candidates.peer[f->candidates.next++];
        int rc = fetch_ask(f);
        if (rc == 0) {
            return;
        }
        f->status = rc;
    }
    fetch_finish_later(f, f->status == WEIR_ECORRUPT ? WEIR_ECORRUPT : WEIR_ENOTFOUND, NULL);
}

static bool listed(const struct store_cluster *c, const struct store_range *range, unsigned peer)
{
    for (unsigned i = 0; i < range->n_nodes; i++) {
        if (strcmp(range->nodes[i], store_peer_name(c, peer)) == 0) {
            return true;
        }
    }
    return false;
}

static bool only_or_all(const struct store_cluster *c, const struct store_range *range,
                        unsigned peer)
{
    return range->only == NULL || strcmp(range->only, store_peer_name(c, peer)) == 0;
}

/* Those said to hold it (this node, healthy ones, suspects), then the rest in the same order. */
static void fetch_candidates(struct fetch *f, const struct store_range *range)
{
    struct store_cluster *c = f->cluster;
    store_follow_nodes(c);
    for (unsigned pass = 0; pass < 4; pass++) {
        bool want_listed = pass < 2;
        bool want_suspect = pass % 2 == 1;
        for (unsigned peer = 0; peer < c->n_peers; peer++) {
            bool asked = !range->quiet || (peer != 0 && only_or_all(c, range, peer));
            bool suspect = peer != 0 && store_peer_suspect(c, peer);
            if (asked && listed(c, range, peer) == want_listed && suspect == want_suspect &&
                store_peer_stands(c, peer, CONFIG_NODE_DRAINING)) {
                store_candidates_add(&f->candidates, peer);
            }
        }
    }
}

static struct fetch *fetch_find(struct store_cluster *c, const struct store_range *range)
{
    struct list *bucket = fetch_bucket(c, range->object, range->position);
    LIST_FOREACH(it, bucket)
    {
        struct fetch *f = list_entry(it, struct fetch, link);
        if (!f->quiet && f->position == range->position && f->size == range->size &&
            f->has_crc == range->has_crc && f->crc32c == range->crc32c &&
            strcmp(f->object, range->object) == 0) {
            return f;
        }
    }
    return NULL;
}

static struct fetch *fetch_new(struct store_cluster *c, const struct store_range *range)
{
    struct fetch *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return NULL;
    }
    f->cluster = c;
    f->position = range->position;
    f->size = range->size;
    f->has_crc = range->has_crc;
    f->crc32c = range->crc32c;
    memcpy(f->object, range->object, strlen(range->object) + 1);
    list_init(&f->waiters);
    list_push_back(fetch_bucket(c, f->object, f->position), &f->link);
    c->n_fetches++;
    f->own_named = listed(c, range, 0);
    f->quiet = range->quiet;
    fetch_candidates(f, range);
    return f;
}

static int fetch_check(const struct store_cluster *c, const struct store_range *range,
                       struct error *err)
{
    if (c->closing) {
        return error_set(err, WEIR_ECLOSED, "store: closing");
    }
    if (!store_object_valid(range->object) || range->size == 0) {
        return error_set(err, WEIR_EINVAL, "store: bad range");
    }
    if (range->size > STORE_PUT_MAX) {
        return error_set(err, WEIR_ETOOBIG, "object %s: %" PRIu64 " bytes", range->object,
                         range->size);
    }
    if (c->n_waiters >= STORE_WAITERS_MAX || c->n_fetches >= STORE_FETCHES_MAX) {
        return error_set(err, WEIR_EBUSY, "store: too many readers");
    }
    return 0;
}

int store_fetch(struct store_cluster *c, const struct store_range *range, store_get_cb cb,
                void *data, struct error *err)
{
    int rc = fetch_check(c, range, err);
    if (rc != 0) {
        return rc;
    }
    struct waiter *w = malloc(sizeof(*w));
    struct fetch *f = w != NULL && !range->quiet ? fetch_find(c, range) : NULL;
    bool joined = f != NULL;
    f = joined || w == NULL ? f : fetch_new(c, range);
    if (f == NULL) {
        free(w);
        return error_set(err, WEIR_ENOMEM, "object %s: out of memory", range->object);
    }
    *w = (struct waiter){.cb = cb, .data = data};
    list_push_back(&f->waiters, &w->link);
    c->n_waiters++;
    if (joined) {
        metric_add(c->fetch_joined, 1);
        return 0;
    }
    struct http_body *cached =
        f->quiet ? NULL : store_cached(c->local, f->object, f->position, f->size);
    if (fetch_good(f, cached)) {
        fetch_finish_later(f, 0, cached);
    } else {
        fetch_next(f);
    }
    http_body_unref(cached);
    return 0;
}

static void fetch_cancel(struct fetch *f)
{
    if (f->call != NULL) {
        http_call_cancel(f->call);
    }
    f->status = WEIR_ECLOSED;
    fetch_finish(f);
}

/* A fetch's waiters may begin another one: those that come are refused by who waits. */
void store_fetch_cancel_quiet(struct store_cluster *c)
{
    for (unsigned i = 0; i < STORE_BUCKETS; i++) {
        struct list *bucket = &c->fetches[i];
        for (struct list *it = bucket->next; it != bucket;) {
            struct fetch *f = list_entry(it, struct fetch, link);
            it = it->next;
            if (f->quiet) {
                fetch_cancel(f);
                it = bucket->next; /* what was next may be gone */
            }
        }
    }
}

void store_fetch_close(struct store_cluster *c)
{
    for (unsigned i = 0; i < STORE_BUCKETS; i++) {
        while (!list_empty(&c->fetches[i])) {
            fetch_cancel(list_entry(c->fetches[i].next, struct fetch, link));
        }
    }
}
