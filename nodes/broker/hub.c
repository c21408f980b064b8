#include "nodes/broker/hub.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/shard.h"
#include "nodes/broker/group_view.h"

#define PRODUCER_KEY "producer/"

/* A shard, as the others see it. */
struct place {
    struct env *env; /* NULL: not attached */
    struct hub_events events;
    unsigned n_posted;         /* to its loop, and not run yet */
    bool news;                 /* one of them says so */
    struct env_defer *drained; /* once the last has run */
    env_defer_cb drained_cb;
    struct env *drained_env;
};

struct hub {
    uint32_t n_shards;
    _Atomic uint32_t leader;
    pthread_mutex_t lock; /* of all that follows; nothing is called back under it */
    struct place places[SHARDS_MAX];
    struct cluster cluster;
    bool published;
    uint64_t cluster_id;
    struct group_view producers; /* no groups in it */
};

/* One call that is on its way to a loop. */
struct post {
    struct env_post call;
    struct hub *hub;
    uint32_t to;
    bool news;
    struct hub_mail mail;
    uint8_t body[];
};

int hub_new(uint32_t n_shards, struct hub **ret_hub, struct error *err)
{
    assert(n_shards >= 1 && n_shards <= SHARDS_MAX);
    struct hub *hub = calloc(1, sizeof(*hub));
    if (hub == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the shards");
    }
    hub->n_shards = n_shards;
    pthread_mutex_init(&hub->lock, NULL);
    group_view_init(&hub->producers);
    *ret_hub = hub;
    return 0;
}

void hub_free(struct hub *hub)
{
    if (hub == NULL) {
        return;
    }
    for (uint32_t i = 0; i < hub->n_shards; i++) {
        assert(hub->places[i].env == NULL && hub->places[i].n_posted == 0);
    }
    group_view_close(&hub->producers);
    cluster_close(&hub->cluster);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

uint32_t hub_shards(const struct hub *hub)
{
    return hub->n_shards;
}

/* --- Mailboxes --- */

void hub_attach(struct hub *hub, uint32_t shard, struct env *env, const struct hub_events *events)
{
    assert(shard < hub->n_shards);
    struct place *place = &hub->places[shard];
    pthread_mutex_lock(&hub->lock);
    assert(place->env == NULL && place->n_posted == 0);
    *place = (struct place){.env = env, .events = *events};
    pthread_mutex_unlock(&hub->lock);
}

void hub_detach(struct hub *hub, uint32_t shard, struct env_defer *defer, env_defer_cb cb)
{
    struct place *place = &hub->places[shard];
    pthread_mutex_lock(&hub->lock);
    struct env *env = place->env;
    bool idle = place->n_posted == 0;
    place->env = NULL;
    place->drained = idle ? NULL : defer;
    place->drained_cb = cb;
    place->drained_env = env;
    pthread_mutex_unlock(&hub->lock);
    if (idle) {
        env_defer(env, defer, cb);
    }
}

static void on_post(struct env_post *call)
{
    struct post *post = call->data;
    struct hub *hub = post->hub;
    struct place *place = &hub->places[post->to];
    pthread_mutex_lock(&hub->lock);
    struct hub_events events = place->events;
    bool attached = place->env != NULL;
    struct env_defer *drained = --place->n_posted == 0 ? place->drained : NULL;
    place->news = place->news && !post->news;
    pthread_mutex_unlock(&hub->lock);
    if (attached && post->news) {
        events.news(events.data);
    } else if (attached) {
        events.mail(events.data, &post->mail);
    }
    if (drained != NULL) {
        env_defer(place->drained_env, drained, place->drained_cb);
    }
    free(post);
}

static struct post *post_new(struct hub *hub, uint32_t to, size_t len)
{
    struct post *post = calloc(1, sizeof(*post) + len);
    if (post != NULL) {
        post->call.data = post;
        post->hub = hub;
        post->to = to;
    }
    return post;
}

/* Under the lock. False: it was not taken. */
static bool give(struct place *place, struct post *post)
{
    if (post == NULL || place->env == NULL || place->n_posted >= HUB_MAIL_MAX) {
        return false;
    }
    env_post(place->env, &post->call, on_post);
    place->n_posted++;
    return true;
}

bool hub_send(struct hub *hub, uint32_t to, const struct hub_mail *mail)
{
    struct post *post = post_new(hub, to, mail->len);
    if (post == NULL || to >= hub->n_shards) {
        free(post);
        return false;
    }
    post->mail = *mail;
    post->mail.body = post->body;
    if (mail->len > 0) {
        memcpy(post->body, mail->body, mail->len);
    }
    pthread_mutex_lock(&hub->lock);
    bool taken = give(&hub->places[to], post);
    pthread_mutex_unlock(&hub->lock);
    if (!taken) {
        free(post);
    }
    return taken;
}

/* --- What the cluster is --- */

static void copy(struct cluster *to, const struct cluster *from)
{
    struct cluster_placement *placements = to->placements;
    assert(to->n_placements == from->n_placements);
    memcpy(placements, from->placements, from->n_placements * sizeof(*placements));
    *to = *from;
    to->placements = placements;
}

int hub_publish(struct hub *hub, const struct cluster *c, uint64_t cluster_id)
{
    int rv = 0;
    pthread_mutex_lock(&hub->lock);
    if (hub->cluster.placements == NULL) {
        hub->cluster.placements = calloc(c->n_placements + 1, sizeof(*c->placements));
        hub->cluster.n_placements = c->n_placements;
    }
    if (hub->cluster.placements == NULL) {
        rv = WEIR_ENOMEM;
    } else {
        copy(&hub->cluster, c);
        hub->cluster_id = cluster_id;
        hub->published = true;
    }
    for (uint32_t i = 1; i < hub->n_shards && rv == 0; i++) {
        struct place *place = &hub->places[i];
        struct post *post = place->env != NULL && !place->news ? post_new(hub, i, 0) : NULL;
        if (post == NULL) {
            rv = place->env != NULL && !place->news ? WEIR_ENOMEM : 0;
            continue;
        }
        post->news = true;
        if (give(place, post)) {
            place->news = true;
        } else {
            free(post);
            rv = WEIR_EBUSY;
        }
    }
    pthread_mutex_unlock(&hub->lock);
    return rv;
}

bool hub_take(struct hub *hub, struct cluster *c, uint64_t *ret_cluster_id)
{
    pthread_mutex_lock(&hub->lock);
    bool published = hub->published;
    if (published) {
        copy(c, &hub->cluster);
        *ret_cluster_id = hub->cluster_id;
    }
    pthread_mutex_unlock(&hub->lock);
    return published;
}

void hub_set_leader(struct hub *hub, uint32_t node_id)
{
    atomic_store_explicit(&hub->leader, node_id, memory_order_relaxed);
}

uint32_t hub_leader(const struct hub *hub)
{
    return atomic_load_explicit(&hub->leader, memory_order_relaxed);
}

/* --- Named producers --- */

int hub_producer_fold(struct hub *hub, const struct batch_record *r)
{
    const size_t n = sizeof(PRODUCER_KEY) - 1;
    int rv = 0;
    if (r->key_len < (int32_t)n || memcmp(r->key, PRODUCER_KEY, n) != 0) {
        return 0;
    }
    pthread_mutex_lock(&hub->lock);
    rv = group_view_apply(&hub->producers, r);
    pthread_mutex_unlock(&hub->lock);
    return rv;
}

bool hub_producer_known(struct hub *hub, const char *name, int64_t *ret_id, uint32_t *ret_epoch)
{
    pthread_mutex_lock(&hub->lock);
    const struct view_producer *p = group_view_producer(&hub->producers, name);
    if (p != NULL) {
        *ret_id = p->id;
        *ret_epoch = p->epoch;
    }
    pthread_mutex_unlock(&hub->lock);
    return p != NULL;
}
