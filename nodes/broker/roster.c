#include "nodes/broker/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/shard.h"
#include "nodes/broker/broker_priv.h"
#include "nodes/broker/cluster_file.h"
#include "nodes/broker/placement.h"

#define FOLD_BYTES    (1u << 20) /* in one turn of the loop */
#define FORGET_NS     3000000000u
#define FILE_NAME_MAX 64
#define DELETE_FILES  4 /* at once */

/* --- Between shards --- */

static int publish(struct roster *m, struct error *err)
{
    struct broker *b = m->broker;
    int rv = b->hub != NULL ? hub_publish(b->hub, &m->cluster, m->cluster_id) : 0;
    m->unpublished = rv != 0;
    return rv == 0 ? 0 : error_set(err, rv, "the other shards can't be told: %s", error_name(rv));
}

/* What the first shard knows, which is on disk. False: nothing yet. */
static bool take_over(struct roster *m)
{
    uint64_t id = 0;
    if (!hub_take(m->broker->hub, &m->cluster, &id)) {
        return false;
    }
    m->cluster_id = id != 0 ? id : m->cluster_id;
    m->known = m->cluster.id != 0;
    return true;
}

/* --- Opening --- */

static bool lacks_placements(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->n_placements; i++) {
        if (c->placements[i].replicas.n == 0 && (int64_t)i != cluster_meta_index(c->config)) {
            return true;
        }
    }
    return false;
}

static int read_again(struct roster *m, struct error *err)
{
    m->again = calloc(1, sizeof(*m->again));
    int rv = m->again != NULL ? cluster_found(m->again, m->broker->config, err)
                              : error_set(err, WEIR_ENOMEM, "no memory for the cluster");
    return rv;
}

static void stop_again(struct roster *m)
{
    if (m->again != NULL) {
        cluster_close(m->again);
        free(m->again);
        m->again = NULL;
    }
}

/* Keys are spread by a topic's number of partitions: it is for ever. */
static int check_topics(const struct cluster *c, struct error *err)
{
    for (uint32_t i = 0; i < c->config->n_topics; i++) {
        const struct config_topic *t = &c->config->topics[i];
        if (cluster_topic_differs(c, t)) {
            return error_set(err, WEIR_ECONFIG,
                             "log.topic %s partitions=%u: the cluster has it with %u, which can't "
                             "be changed",
                             t->name, t->partitions, cluster_topic(c, t->name)->partitions);
        }
    }
    return 0;
}

int roster_open(struct roster *m, struct broker *b, struct error *err)
{
    struct error why = {0};
    *m = (struct roster){.broker = b};
    bytes_init(&m->batches, 4 * FOLD_BYTES + ((size_t)b->config->log_batch_kib_max << 10));
    (void)snprintf(m->path, sizeof(m->path), "%s/cluster", b->config->data_dir);
    int rv = cluster_found(&m->cluster, b->config, err);
    if (rv != 0) {
        return rv;
    }
    if (b->shard > 0) {
        take_over(m);
        m->done_changes = m->cluster.changes;
        return 0;
    }
    if (cluster_meta_index(b->config) < 0) {
        return publish(m, err);
    }
    rv = env_dir_make(b->env, b->config->data_dir, err);
    if (rv != 0) {
        return rv;
    }
    rv = cluster_file_load(b->env, m->path, &m->cluster, &m->cluster_id, &why);
    if (rv == WEIR_ECORRUPT) {
        log_warn("cluster_file_ignored", "path=%s reason=\"%s\"", m->path, why.text);
        rv = WEIR_ENOTFOUND;
    }
    if (rv != 0 && rv != WEIR_ENOTFOUND) {
        return error_set(err, rv, "%s", why.text);
    }
    m->known = m->cluster.id != 0;
    m->done_changes = m->cluster.changes;
    if (m->known && m->cluster.shards != b->n_shards) {
        return error_set(err, WEIR_ECONFIG,
                         "log.shards: %u, but this cluster was founded with %u, and that stays",
                         b->n_shards, m->cluster.shards);
    }
    rv = check_topics(&m->cluster, err);
    if (rv == 0 && m->known && lacks_placements(&m->cluster)) {
        rv = read_again(m, err);
    }
    return rv == 0 ? publish(m, err) : rv;
}

void roster_close(struct roster *m)
{
    env_defer_cancel(&m->fold);
    stop_again(m);
    cluster_close(&m->cluster);
    bytes_close(&m->batches);
}

/* --- What is wanted here --- */

const struct cluster_node *roster_self(const struct roster *m)
{
    return cluster_node(&m->cluster, m->broker->self->id);
}

static bool is_wanted(const struct roster *m, const struct replica *r)
{
    const struct cluster_node *self = roster_self(m);
    const struct cluster_placement *p = &m->cluster.placements[r->index];
    if (r->foreign) {
        return false;
    }
    if (r == m->meta) {
        return self == NULL || self->state != CLUSTER_REMOVED;
    }
    return self != NULL && self->state != CLUSTER_REMOVED &&
           !cluster_topic_differs(&m->cluster, r->topic) &&
           (cluster_ids_have(&p->replicas, self->node.id) ||
            cluster_ids_have(&p->leaving, self->node.id));
}

void roster_place(struct roster *m)
{
    struct broker *b = m->broker;
    int64_t meta = cluster_meta_index(b->config);
    m->meta = meta >= 0 && b->shard == 0 ? &b->replicas[meta] : NULL;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        b->replicas[i].wanted = is_wanted(m, &b->replicas[i]);
    }
}

/* The placement that the configuration's nodes would found the partition with. */
static void founders(const struct roster *m, const struct replica *r, struct cluster_ids *ret_ids)
{
    struct cluster founding = {.config = m->broker->config};
    uint32_t ids[CLUSTER_NODES_MAX];
    const struct config *config = m->broker->config;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        (void)cluster_add_node(&founding, &config->nodes[i]);
    }
    unsigned n = cluster_log_nodes(&founding, ids);
    unsigned replicas = config->log_replicas != 0 ? config->log_replicas : 3;
    placement_initial(ids, n, r->partition, r == m->meta ? CLUSTER_META_VOTERS : replicas, ret_ids);
}

/* A group is founded once: of a topic that came later by those that `meta` names, else by those
 * that the configuration names. Where `meta` says that it has moved since, it is there already: who
 * opens it waits to be added. */
unsigned roster_voters(const struct roster *m, const struct replica *r,
                       uint32_t ret_ids[CLUSTER_NODES_MAX])
{
    const struct cluster_placement *p = &m->cluster.placements[r->index];
    struct cluster_ids ids = p->founders;
    if (ids.n == 0) {
        founders(m, r, &ids);
        if (m->broker->config->cluster_join != 0 ||
            (m->known && r != m->meta &&
             (p->leaving.n > 0 || !cluster_ids_equal(&p->replicas, &ids)))) {
            return 0;
        }
    }
    for (unsigned i = 0; i < ids.n; i++) {
        ret_ids[i] = ids.at[i];
    }
    return ids.n;
}

/* --- Files of a partition that went elsewhere --- */

struct sweep_files {
    struct env *env;
    const char *dir;
    unsigned n;
};

static int delete_one(void *data, const char *name)
{
    struct sweep_files *s = data;
    char path[CONFIG_PATH_MAX + CONFIG_NAME_MAX + 32 + FILE_NAME_MAX * 4];
    struct error err = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", s->dir, name);
    int rv = env_unlink(s->env, path, &err);
    if (rv != 0 && rv != WEIR_ENOTFOUND) {
        log_warn("file_not_deleted", "path=%s reason=\"%s\"", path, err.text);
        return 0;
    }
    return ++s->n == DELETE_FILES;
}

/* Some of them; the rest with the next ticks. */
static void delete_files(struct roster *m, struct replica *r)
{
    struct broker *b = m->broker;
    char dir[CONFIG_PATH_MAX + CONFIG_NAME_MAX + 32];
    struct error err = {0};
    replica_dir(r, dir, sizeof(dir));
    struct sweep_files s = {.env = b->env, .dir = dir};
    (void)env_dir_list(b->env, dir, delete_one, &s, &err);
    r->deleted = s.n < DELETE_FILES;
    r->n_deleted += s.n;
    if (r->deleted && r->n_deleted > 0) {
        (void)env_dir_sync(b->env, dir, &err);
        log_info("replica_deleted", "topic=%s partition=%u files=%u", r->topic->name, r->partition,
                 r->n_deleted);
        r->n_deleted = 0;
    }
}

/* Only what the cluster is known to have placed elsewhere, and only when that is on disk here. */
static bool may_delete(const struct roster *m, const struct replica *r)
{
    const struct cluster_node *self = roster_self(m);
    return m->known && !m->unsaved && !r->foreign && r != m->meta && !r->wanted && !r->deleted &&
           !r->closing && r->group == NULL && self != NULL && self->state != CLUSTER_REMOVED &&
           !cluster_topic_differs(&m->cluster, r->topic) &&
           m->cluster.placements[r->index].replicas.n > 0;
}

/* --- Acting --- */

static void add_peers(struct roster *m)
{
    struct broker *b = m->broker;
    for (unsigned i = 0; i < m->cluster.n_nodes; i++) {
        const struct cluster_node *n = &m->cluster.nodes[i];
        struct transport_peer peer = {.id = n->node.id,
                                      .name = n->node.name,
                                      .host = n->node.peer.host,
                                      .port = shard_port(n->node.peer.port, b->shard)};
        struct error err = {0};
        if (n->node.id != b->self->id && !n->node.no_log && n->state != CLUSTER_REMOVED &&
            transport_add_peer(b->transport, &peer, &err) != 0) {
            log_error("peer_ignored", "peer=%s reason=\"%s\"", peer.name, err.text);
        }
    }
}

/* A moment after it was removed, so that it can still hear of it. */
static void remove_peers(struct roster *m)
{
    for (unsigned i = 0; i < m->cluster.n_nodes; i++) {
        if (m->cluster.nodes[i].state == CLUSTER_REMOVED) {
            transport_remove_peer(m->broker->transport, m->cluster.nodes[i].node.id);
        }
    }
}

static void update_replicas(struct roster *m)
{
    struct broker *b = m->broker;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        struct replica *r = &b->replicas[i];
        r->wanted = is_wanted(m, r);
        if (r->wanted) {
            r->deleted = false;
        }
        replica_settle(r);
    }
}

static void save(struct roster *m)
{
    struct broker *b = m->broker;
    struct error err = {0};
    int rv =
        cluster_file_save(b->env, b->config->data_dir, m->path, &m->cluster, m->cluster_id, &err);
    if (rv != 0 && !m->unsaved) {
        log_error("cluster_file_not_written", "reason=\"%s\"", err.text);
    }
    m->unsaved = rv != 0;
    if (rv == 0) {
        (void)publish(m, NULL); /* or with the next tick */
    }
}

static void tell_removed(struct roster *m)
{
    const struct cluster_node *self = roster_self(m);
    if (self != NULL && self->state == CLUSTER_REMOVED && !m->told_removed) {
        m->told_removed = true;
        log_error("node_removed",
                  "node=%s id=%u reason=\"the cluster has removed this node: stop it; its data "
                  "folder is of no use any more\"",
                  self->node.name, self->node.id);
    }
}

/* The configuration was read before the topic came, or the file was lost: such a topic is not
 * served here. The next start is refused. */
static void tell_differing(struct roster *m)
{
    const struct config *config = m->broker->config;
    for (uint32_t i = 0; i < config->n_topics; i++) {
        const struct config_topic *t = &config->topics[i];
        if (cluster_topic_differs(&m->cluster, t) && (m->told_differs >> i & 1) == 0) {
            m->told_differs |= UINT64_C(1) << i;
            log_error("topic_differs", "topic=%s configured_partitions=%u partitions=%u", t->name,
                      t->partitions, cluster_topic(&m->cluster, t->name)->partitions);
        }
    }
}

/* What a replica promises counts only while the file says that it belongs here: after a restart the
 * file decides what is deleted. So replicas follow what is on disk. */
static void act(struct roster *m)
{
    struct broker *b = m->broker;
    uint64_t id = m->cluster.id;
    if (id != 0 && transport_set_cluster(b->transport, id) != 0) {
        log_error("cluster_differs", "meta=%016llx links=%016llx", (unsigned long long)id,
                  (unsigned long long)transport_cluster(b->transport));
        return;
    }
    if (id != 0 && m->cluster.shards != b->n_shards) {
        log_error("shards_differ", "meta=%u log.shards=%u", m->cluster.shards, b->n_shards);
        return;
    }
    m->cluster_id = id != 0 ? id : m->cluster_id;
    m->known = id != 0;
    m->done_changes = m->cluster.changes;
    m->done_ns = env_now_ns(b->env);
    save(m);
    tell_removed(m);
    tell_differing(m);
    add_peers(m);
    if (!m->unsaved) {
        update_replicas(m);
    }
    broker_tell_metadata(b);
}

void roster_follow(struct roster *m)
{
    struct broker *b = m->broker;
    uint64_t before = m->cluster_id;
    if (!take_over(m)) {
        return;
    }
    if (m->cluster_id != 0 && transport_set_cluster(b->transport, m->cluster_id) != 0) {
        log_error("cluster_differs", "shard=%u meta=%016llx links=%016llx", b->shard,
                  (unsigned long long)m->cluster_id,
                  (unsigned long long)transport_cluster(b->transport));
        m->cluster_id = before;
        m->known = false; /* nothing is deleted */
        return;
    }
    m->done_changes = m->cluster.changes;
    m->done_ns = env_now_ns(b->env);
    add_peers(m);
    update_replicas(m);
    broker_tell_metadata(b);
}

void roster_learned(void *data, uint64_t cluster_id)
{
    struct roster *m = data;
    struct broker *b = m->broker;
    m->cluster_id = cluster_id;
    if (b->shard == 0) {
        m->unsaved = true; /* with the next tick */
    } else {
        struct hub_mail mail = {.type = HUB_CLUSTER_ID, .a = cluster_id};
        (void)hub_send(b->hub, 0, &mail); /* or its own peers tell it */
    }
}

void roster_tick(struct roster *m, uint64_t now_ns)
{
    struct broker *b = m->broker;
    if (m->unsaved) {
        save(m);
        if (!m->unsaved && m->known) {
            update_replicas(m);
        }
    }
    if (m->unpublished) {
        (void)publish(m, NULL);
    }
    if (m->known && now_ns > m->done_ns + FORGET_NS) {
        remove_peers(m);
    }
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        if (may_delete(m, &b->replicas[i])) {
            delete_files(m, &b->replicas[i]);
            return; /* one at a time: each takes the disk's time */
        }
    }
}

/* --- Folding --- */

bool roster_current(const struct roster *m)
{
    return m->meta != NULL && m->meta->group != NULL && !m->fold.scheduled && m->again == NULL &&
           m->cluster.next >= partition_high_watermark(group_partition(m->meta->group)).v &&
           m->done_changes == m->cluster.changes;
}

static int fold_batch(struct roster *m, struct cluster *c, const uint8_t *data, size_t n,
                      size_t *ret_size, struct error *err)
{
    struct batch_iter it;
    struct batch_record record;
    int rv = batch_iter_init(&it, data, n, err);
    if (rv != 0) {
        return rv;
    }
    while ((rv = batch_iter_next(&it, &record, err)) == 1) {
        if (record.offset.v >= c->next && !cluster_fold(c, &record) && c != m->again) {
            log_warn("meta_record_void", "offset=%lld", (long long)record.offset.v);
        }
    }
    *ret_size = it.info.size;
    return rv;
}

/* 1: there is more. */
static int fold_some(struct roster *m, struct cluster *c, struct partition *p, struct error *err)
{
    int64_t start = partition_start_offset(p).v, end = partition_high_watermark(p).v;
    c->next = c->next < start ? start : c->next;
    struct log_offset next = LOG_OFFSET(c->next);
    if (c->next >= end) {
        return 0;
    }
    bytes_reset(&m->batches);
    int rv = partition_fetch(p, next, FOLD_BYTES, &m->batches, &next, err);
    size_t at = 0;
    while (rv == 0 && at < m->batches.len) {
        size_t size = 0;
        rv = fold_batch(m, c, m->batches.data + at, m->batches.len - at, &size, err);
        at += size;
    }
    if (rv == 0 && next.v > c->next) {
        c->next = next.v; /* also over what compaction took away */
    }
    return rv == 0 ? c->next < end : rv;
}

/* Both folds are at the same offset: the placements that the file did not have. */
static void merge_again(struct roster *m)
{
    for (uint32_t i = 0; i < m->cluster.n_placements; i++) {
        if (!m->cluster.placements[i].written && m->again->placements[i].written) {
            m->cluster.placements[i] = m->again->placements[i];
            m->cluster.changes++;
        }
    }
    stop_again(m);
}

static void on_fold(struct env_defer *defer)
{
    struct roster *m = defer->data;
    struct error err = {0};
    if (m->meta == NULL || m->meta->group == NULL || m->broker->stopping) {
        return;
    }
    struct partition *p = group_partition(m->meta->group);
    int rv = fold_some(m, &m->cluster, p, &err);
    if (rv == 0 && m->again != NULL) {
        rv = fold_some(m, m->again, p, &err);
    }
    if (rv < 0) {
        log_error("meta_not_read", "offset=%lld reason=\"%s\"", (long long)m->cluster.next,
                  err.text);
        return; /* again with the next commit */
    }
    if (rv == 1) {
        env_defer(m->broker->env, &m->fold, on_fold);
        return;
    }
    if (m->again != NULL && m->again->next >= m->cluster.next) {
        merge_again(m);
    }
    if (m->cluster.changes != m->done_changes) {
        act(m);
    }
}

void roster_news(struct roster *m)
{
    m->fold.data = m;
    env_defer(m->broker->env, &m->fold, on_fold);
}
