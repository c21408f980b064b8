/* Copies of objects on several nodes: put (replicate); get (fetch) is in store_fetch.c. Both walk a
 * list of candidate nodes, in an order that prefers nodes without a recent failure, and never wait
 * long for a silent one. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/crc32c.h"
#include "base/logging.h"
#include "base/metrics.h"
#include "media/store_cluster_priv.h"

/* A call takes this long at most, and a second more for each 4 MB; a healthy node answers in a few
 * milliseconds. */
#define CALL_TIMEOUT_MS   1000
#define CALL_BYTES_PER_MS 4096
/* A put that is not answered after this is also sent to the next node: a paused or cut-off node
 * must not cost the stream its latency. */
#define HEDGE_US 200000
/* A node that failed is chosen last for this long. */
#define FAILED_NS      3000000000u
#define REPLICATES_MAX 4096

const char *store_peer_name(const struct store_cluster *c, unsigned peer)
{
    return peer == 0 ? c->self_name : c->peers[peer].node->name;
}

void store_peer_failed(struct store_cluster *c, unsigned peer, const char *what, int status)
{
    uint64_t now = env_now_ns(c->env);
    if (now >= c->peers[peer].failed_until_ns) {
        log_warn("store_node_failed", "node=%s what=%s status=%d", store_peer_name(c, peer), what,
                 status);
    }
    metric_add(c->failures, 1);
    c->peers[peer].failed_until_ns = now + FAILED_NS;
}

bool store_peer_suspect(const struct store_cluster *c, unsigned peer)
{
    return env_now_ns(c->env) < c->peers[peer].failed_until_ns;
}

void store_candidates_add(struct store_candidates *list, unsigned peer)
{
    for (unsigned i = 0; i < list->n; i++) {
        if (list->peer[i] == peer) {
            return;
        }
    }
    list->peer[list->n++] = (uint8_t)peer;
}

/* Places in the configuration's list stay: those that are new are behind those that are known. */
void store_follow_nodes(struct store_cluster *c)
{
    const struct config *config = c->config;
    const struct config_node *self = config_self(config);
    unsigned at = 0, n_in = 1;
    for (unsigned i = 0; i < config->n_nodes; i++) {
        if (&config->nodes[i] == self) {
            continue;
        }
        n_in += config->nodes[i].standing == CONFIG_NODE_IN;
        if (++at == c->n_peers && c->n_peers < CONFIG_NODES_MAX) {
            c->peers[c->n_peers++].node = &config->nodes[i];
        }
    }
    c->copies = config->media_replicas < n_in ? config->media_replicas : n_in;
    c->copies = c->copies < STORE_NODES_MAX ? c->copies : STORE_NODES_MAX;
}

/* Fewer: new parts go elsewhere, those that it has are still asked for. */
bool store_peer_stands(const struct store_cluster *c, unsigned peer, enum config_standing worst)
{
    return peer == 0 || c->peers[peer].node->standing <= worst;
}

int store_cluster_new(struct env *env, struct store *local, struct http_client *http,
                      const struct config *config, struct store_cluster **ret_cluster,
                      struct error *err)
{
    struct store_cluster *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "store cluster: out of memory");
    }
    c->env = env;
    c->local = local;
    c->http = http;
    c->self_name = config_self(config)->name;
    c->config = config;
    c->n_peers = 1;
    store_follow_nodes(c);
    (void)snprintf(c->headers, sizeof(c->headers), "X-Weir-Secret: %s\r\n", config->secret);
    list_init(&c->replicates);
    for (unsigned i = 0; i < STORE_BUCKETS; i++) {
        list_init(&c->fetches[i]);
    }
    c->hedges = metric_counter("weir_store_hedges_total", "", "Puts sent to one more node.");
    c->failures = metric_counter("weir_store_node_failures_total", "", "Calls that failed.");
    c->remote_gets = metric_counter("weir_store_remote_gets_total", "", "Ranges from other nodes.");
    c->fetch_joined =
        metric_counter("weir_store_fetch_joined_total", "", "Readers that joined a fetch.");
    *ret_cluster = c;
    return 0;
}

int store_call_peer(struct store_cluster *c, unsigned peer, const char *method, const char *path,
                    struct http_body *body, size_t response_max, http_call_cb cb, void *data,
                    struct http_call **ret_call)
{
    const struct config_address *at = config_internal(c->config, c->peers[peer].node);
    size_t bytes = body != NULL ? body->len : response_max;
    const struct http_call_options options = {.method = method,
                                              .host = at->host,
                                              .port = at->port,
                                              .path = path,
                                              .headers = c->headers,
                                              .body = body,
                                              .timeout_ms = CALL_TIMEOUT_MS +
                                                            (uint32_t)(bytes / CALL_BYTES_PER_MS),
                                              .response_max = response_max};
    return http_call(c->http, &options, cb, data, ret_call, NULL);
}

/* --- Replicate
 * -------------------------------------------------------------------------------------------------
 */

struct attempt {
    struct replicate *owner;
    unsigned peer;
    struct http_call *call; /* NULL for the local put */
    bool running, stored;
    uint64_t started_ns;
};

struct replicate {
    struct store_cluster *cluster;
    struct list link;
    struct env_timer hedge;
    struct env_defer defer;
    struct store_candidates candidates;
    struct attempt attempts[CONFIG_NODES_MAX]; /* by candidate */
    unsigned n_stored;
    bool local_running; /* its callback will come, whatever happens */
    bool finished;      /* answered; waits for the local put only */
    bool decided;       /* the answer is on its way */
    bool no_space;
    int status;
    struct http_body *bytes;
    uint64_t position;
    store_replicate_cb cb;
    void *data;
    char object[STORE_OBJECT_NAME_MAX + 1];
};

static void replicate_free(struct replicate *r)
{
    http_body_unref(r->bytes);
    free(r);
}

/* Cancelled because others were faster: a node that let the hedge fire is slow, one that was only
 * just asked is not (half of it, since a timer counts from the loop's idea of now). */
static void attempt_overtaken(struct replicate *r, const struct attempt *a)
{
    if (env_now_ns(r->cluster->env) - a->started_ns >= HEDGE_US * 1000u / 2) {
        store_peer_failed(r->cluster, a->peer, "slow", WEIR_ETIMEOUT);
    }
}

/* Everything but the local put is let go of at once; that one can't be. */
static void replicate_finish(struct replicate *r, int status)
{
    struct store_cluster *c = r->cluster;
    env_timer_close(&r->hedge);
    env_defer_cancel(&r->defer);
    list_remove(&r->link);
    c->n_replicates--;
    r->finished = true;
    const char *nodes[STORE_NODES_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < r->candidates.next; i++) {
        struct attempt *a = &r->attempts[i];
        if (a->running && a->call != NULL) {
            http_call_cancel(a->call);
            attempt_overtaken(r, a);
        }
        if (a->stored && n < STORE_NODES_MAX) {
            nodes[n++] = store_peer_name(c, a->peer);
        }
    }
    store_replicate_cb cb = r->cb;
    void *data = r->data;
    if (!r->local_running) {
        replicate_free(r);
    }
    cb(data, status, nodes, status == 0 ? n : 0);
}

static void replicate_deferred(struct env_defer *defer)
{
    struct replicate *r = defer->data;
    replicate_finish(r, r->status);
}

static void replicate_finish_later(struct replicate *r, int status)
{
    r->decided = true;
    r->status = status;
    r->defer.data = r;
    env_defer(r->cluster->env, &r->defer, replicate_deferred);
}

static unsigned replicate_running(const struct replicate *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->candidates.next; i++) {
        n += r->attempts[i].running ? 1 : 0;
    }
    return n;
}

static bool replicate_start_next(struct replicate *r);

/* After an attempt ended: enough copies, or one more candidate, or none left. */
static void replicate_check(struct replicate *r)
{
    if (r->n_stored >= r->cluster->copies) {
        replicate_finish_later(r, 0);
        return;
    }
    while (r->n_stored + replicate_running(r) < r->cluster->copies) {
        if (!replicate_start_next(r)) {
            break;
        }
    }
    if (replicate_running(r) == 0) {
        replicate_finish_later(r, r->no_space ? WEIR_ENOSPC : WEIR_EUNAVAILABLE);
    }
}

static void attempt_done(struct attempt *a, int status)
{
    struct replicate *r = a->owner;
    a->running = false;
    a->call = NULL;
    if (status == 0) {
        a->stored = true;
        r->n_stored++;
    } else {
        r->no_space = r->no_space || status == WEIR_ENOSPC;
        store_peer_failed(r->cluster, a->peer, "put", status);
    }
    replicate_check(r);
}

static void local_put_done(void *data, int status)
{
    struct attempt *a = data;
    struct replicate *r = a->owner;
    r->local_running = false;
    if (r->finished) {
        replicate_free(r);
        return;
    }
    attempt_done(a, status);
}

/* 507 is what nodes/edge answers when its disk is full. */
static int put_status(int http_status)
{
    if (http_status >= 200 && http_status < 300) {
        return 0;
    }
    if (http_status == 507) {
        return WEIR_ENOSPC;
    }
    return http_status < 0 ? http_status : WEIR_EUNAVAILABLE;
}

static void remote_put_done(void *data, int status, struct http_body *body)
{
    (void)body;
    attempt_done(data, put_status(status));
}

static int attempt_start(struct replicate *r, struct attempt *a)
{
    struct store_cluster *c = r->cluster;
    if (a->peer == 0) {
        int rc = store_put(c->local, r->object, r->position, r->bytes, local_put_done, a, NULL);
        r->local_running = rc == 0;
        return rc;
    }
    char path[STORE_PATH_BYTES];
    (void)snprintf(path, sizeof(path), "/internal/store/%s?position=%" PRIu64, r->object,
                   r->position);
    return store_call_peer(c, a->peer, "PUT", path, r->bytes, STORE_ERROR_BODY_MAX, remote_put_done,
                           a, &a->call);
}

/* False: no candidate is left. One that fails at once counts as tried. */
static bool replicate_start_next(struct replicate *r)
{
    if (r->candidates.next == r->candidates.n) {
        return false;
    }
    struct attempt *a = &r->attempts[r->candidates.next];
    a->owner = r;
    a->peer = r->candidates.peer[r->candidates.next++];
    a->started_ns = env_now_ns(r->cluster->env);
    int rc = attempt_start(r, a);
    a->running = rc == 0;
    if (rc != 0) {
        r->no_space = r->no_space || rc == WEIR_ENOSPC;
        store_peer_failed(r->cluster, a->peer, "put", rc);
    }
    return true;
}

static void replicate_hedge(struct env_timer *timer)
{
    struct replicate *r = timer->data;
    if (!r->decided && replicate_start_next(r)) {
        metric_add(r->cluster->hedges, 1);
        env_timer_start(&r->hedge, HEDGE_US, replicate_hedge);
    }
}

/* This node first; then the others, from one that the object's name picks, so that the parts of a
 * segment stay together. Twice: healthy nodes, then suspects. */
static void replicate_candidates(struct replicate *r)
{
    struct store_cluster *c = r->cluster;
    uint32_t first = crc32c(0, r->object, strlen(r->object));
    store_follow_nodes(c);
    unsigned n_others = c->n_peers - 1;
    for (unsigned suspect = 0; suspect < 2; suspect++) {
        if (store_peer_suspect(c, 0) == (suspect == 1)) {
            store_candidates_add(&r->candidates, 0);
        }
        for (unsigned i = 0; i < n_others; i++) {
            unsigned peer = 1 + (first + i) % n_others;
            if (store_peer_suspect(c, peer) == (suspect == 1) &&
                store_peer_stands(c, peer, CONFIG_NODE_IN)) {
                store_candidates_add(&r->candidates, peer);
            }
        }
    }
}

int store_replicate(struct store_cluster *c, const char *object, uint64_t position,
                    struct http_body *bytes, store_replicate_cb cb, void *data, struct error *err)
{
    if (c->closing) {
        return error_set(err, WEIR_ECLOSED, "store: closing");
    }
    if (!store_object_valid(object) || bytes->len == 0) {
        return error_set(err, WEIR_EINVAL, "store: bad object name or empty put");
    }
    if (bytes->len > STORE_PUT_MAX) {
        return error_set(err, WEIR_ETOOBIG, "object %s: %zu bytes", object, bytes->len);
    }
    if (c->n_replicates >= REPLICATES_MAX) {
        return error_set(err, WEIR_EBUSY, "store: too many puts");
    }
    struct replicate *r = calloc(1, sizeof(*r));
    if (r == NULL || env_timer_init(c->env, &r->hedge) != 0) {
        free(r);
        return error_set(err, WEIR_ENOMEM, "object %s: out of memory", object);
    }
    r->cluster = c;
    r->hedge.data = r;
    r->bytes = http_body_ref(bytes);
    r->position = position;
    r->cb = cb;
    r->data = data;
    memcpy(r->object, object, strlen(object) + 1);
    list_push_back(&c->replicates, &r->link);
    c->n_replicates++;
    replicate_candidates(r);
    env_timer_start(&r->hedge, HEDGE_US, replicate_hedge);
    replicate_check(r);
    return 0;
}

/* --- The end
 * ---------------------------------------------------------------------------------------------------
 */

void store_cluster_free(struct store_cluster *c)
{
    if (c == NULL) {
        return;
    }
    c->closing = true;
    while (!list_empty(&c->replicates)) {
        replicate_finish(list_entry(c->replicates.next, struct replicate, link), WEIR_ECLOSED);
    }
    store_fetch_close(c);
    free(c);
}
