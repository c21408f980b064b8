#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/logging.h"
#include "base/shard.h"
#include "nodes/broker/broker_priv.h"
#include "nodes/broker/scrub.h"

#define PEER_QUEUE_BYTES (64u << 20)
#define TAIL_BYTES       (2u << 20)
#define INDEX_BYTES      (64u << 10)
#define PARTITION_BITS   10 /* of a group's id; the rest names the topic */
#define METRICS_SWEEPS   10 /* sweeps between two updates of the gauges */
#define REOPEN_NS        5000000000u

/* --- Replicas --- */

struct replica *broker_replica(struct broker *b, const char *topic, uint32_t partition)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < b->config->n_topics; i++) {
        const struct config_topic *t = &b->config->topics[i];
        if (strcmp(t->name, topic) == 0) {
            return partition < t->partitions ? &b->replicas[first + partition] : NULL;
        }
        first += t->partitions;
    }
    return NULL;
}

struct replica *broker_replica_of_group(struct broker *b, uint32_t group_id)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < b->config->n_topics; i++) {
        const struct config_topic *t = &b->config->topics[i];
        uint32_t partition = group_id & ((1u << PARTITION_BITS) - 1);
        if (partition < t->partitions && b->replicas[first + partition].group_id == group_id) {
            return &b->replicas[first + partition];
        }
        first += t->partitions;
    }
    return NULL;
}

uint32_t replica_leader(const struct replica *r)
{
    uint32_t leader = r->group != NULL ? group_leader(r->group) : 0;
    return leader == r->broker->self->id && !group_is_leader(r->group) ? 0 : leader;
}

uint64_t replica_term(const struct replica *r)
{
    return r->group != NULL ? group_term(r->group).v : 0;
}

static void on_committed(void *data, struct group *g)
{
    struct replica *r = data;
    (void)g;
    replica_serve_soon(r);
    coordinator_wake(r->broker->coordinator, r);
    if (r == r->broker->roster.meta) {
        roster_news(&r->broker->roster);
    }
}

static void on_leader_changed(void *data, struct group *g, uint32_t leader_id)
{
    struct replica *r = data;
    struct broker *b = r->broker;
    r->news = true;
    b->tell_leaders.data = b;
    env_defer(b->env, &b->tell_leaders, broker_tell_leaders);
    coordinator_wake(b->coordinator, r);
    if (leader_id == b->self->id) {
        log_info("leader_elected", "topic=%s partition=%u term=%llu", r->topic->name, r->partition,
                 (unsigned long long)group_term(g).v);
    } else {
        log_debug("leader_changed", "topic=%s partition=%u leader=%u", r->topic->name, r->partition,
                  leader_id);
    }
}

static void count_failed(struct broker *b)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        n += b->replicas[i].failed[0] != '\0';
    }
    metric_set(b->metrics.failed_replicas, n);
}

static void replica_fail(struct replica *r, const struct error *error)
{
    (void)snprintf(r->failed, sizeof(r->failed), "%s", error->text);
    r->failed_code = error->code;
    r->reopen_ns = env_now_ns(r->broker->env) + REOPEN_NS;
    log_error("replica_failed", "topic=%s partition=%u reason=\"%s\"", r->topic->name, r->partition,
              error->text);
    count_failed(r->broker);
}

static void on_failed(void *data, struct group *g, const struct error *error)
{
    (void)g;
    replica_fail(data, error);
}

void replica_dir(const struct replica *r, char *ret_dir, size_t size)
{
    (void)snprintf(ret_dir, size, "%s/log/%s-%u", r->broker->config->data_dir, r->topic->name,
                   r->partition);
}

const char *replica_trouble(const struct replica *r)
{
    return r->failed[0] != '\0' ? r->failed
           : r->foreign         ? "another shard of this node has the partition"
           : r->wanted          ? "this replica is being opened"
                                : "this node holds no replica of the partition";
}

static void replica_open(struct replica *r)
{
    struct broker *b = r->broker;
    const struct config *config = b->config;
    struct error err = {0};
    char dir[CONFIG_PATH_MAX + CONFIG_NAME_MAX + 32];
    uint32_t voters[CLUSTER_NODES_MAX];
    unsigned n_voters = roster_voters(&b->roster, r, voters);
    replica_dir(r, dir, sizeof(dir));
    struct group_options options = {
        .pace = &b->pace,
        .id = r->group_id,
        .dir = dir,
        .partition = {.segment_bytes = b->sizes.segment_bytes,
                      .tail_bytes = b->sizes.tail_bytes,
                      .index_bytes = b->sizes.index_bytes,
                      .compact_pace = &b->compact_pace},
        .voters = voters,
        .n_voters = n_voters,
        .heartbeat_ms = config->raft_heartbeat_ms,
        .election_ms = config->raft_election_ms,
        .inflight_bytes_max = (uint64_t)config->log_inflight_mib << 20,
        .vote_log = b->votes,
        .free_bytes_min = (uint64_t)config->log_free_mib_min << 20,
        .retain_ms = r->topic->retain_ms,
        .retain_bytes = r->topic->retain_mib << 20,
        .compact = r->topic->compact != 0,
        .tombstone_ms = b->sizes.tombstone_ms > 0 ? b->sizes.tombstone_ms : r->topic->tombstone_ms,
        .decide_ms = b->sizes.decide_ms,
    };
    struct group_events events = {.data = r,
                                  .committed = on_committed,
                                  .leader_changed = on_leader_changed,
                                  .failed = on_failed};
    int rv = env_dir_make(b->env, dir, &err);
    if (rv == 0) {
        rv = group_open(b->env, b->transport, &options, &events, &r->group, &err);
    }
    if (rv != 0) {
        r->group = NULL;
        replica_fail(r, &err);
    }
}

static void on_replica_closed(void *data)
{
    struct replica *r = data;
    struct broker *b = r->broker;
    if (b->stopping) {
        broker_part_closed(b);
        return;
    }
    r->closing = false;
    r->failed[0] = '\0';
    r->failed_code = 0;
    if (r->wanted) {
        replica_open(r);
    }
    count_failed(b);
}

void replica_settle(struct replica *r)
{
    struct broker *b = r->broker;
    struct group *g = r->group;
    if (r->closing || b->stopping || (r->wanted == (g != NULL)) ||
        (r->wanted && r->failed[0] != '\0')) {
        return;
    }
    log_info(r->wanted ? "replica_opened" : "replica_closed", "topic=%s partition=%u",
             r->topic->name, r->partition);
    r->closing = true;
    r->group = NULL;
    replica_drop_fetches(r);
    if (g == NULL) {
        on_replica_closed(r);
    } else {
        group_close(g, on_replica_closed, r);
    }
}

/* A full disk and want of memory go away by themselves: the replica is opened anew, which reads
 * what is really on disk, once there is space. */
static void replica_try_again(struct replica *r, uint64_t now_ns)
{
    struct broker *b = r->broker;
    uint64_t free_bytes = 0;
    bool space = r->failed_code == WEIR_ENOSPC;
    if ((!space && r->failed_code != WEIR_ENOMEM) || r->closing || !r->wanted ||
        now_ns < r->reopen_ns) {
        return;
    }
    r->reopen_ns = now_ns + REOPEN_NS;
    if (space && (env_dir_free_bytes(b->env, b->config->data_dir, &free_bytes, NULL) != 0 ||
                  free_bytes < (uint64_t)b->config->log_free_mib_min << 20)) {
        return;
    }
    log_info("replica_reopened", "topic=%s partition=%u", r->topic->name, r->partition);
    struct group *g = r->group;
    r->group = NULL;
    if (g == NULL) {
        on_replica_closed(r);
    } else {
        r->closing = true;
        group_close(g, on_replica_closed, r);
    }
}

/* A group's id follows from its topic's name, so that the order of the configuration's lines means
 * nothing. */
static uint32_t group_id_of(const struct config_topic *t, uint32_t partition)
{
    return crc32c(0, t->name, strlen(t->name)) << PARTITION_BITS | partition;
}

static int replicas_init(struct broker *b, struct error *err)
{
    const struct config *config = b->config;
    for (uint32_t i = 0; i < config->n_topics; i++) {
        b->n_replicas += config->topics[i].partitions;
        for (uint32_t k = 0; k < i; k++) {
            if (group_id_of(&config->topics[i], 0) == group_id_of(&config->topics[k], 0)) {
                return error_set(err, WEIR_ECONFIG,
                                 "topics %s and %s hash to the same group id: rename one",
                                 config->topics[i].name, config->topics[k].name);
            }
        }
        if (group_id_of(&config->topics[i], 0) >> PARTITION_BITS ==
            REPORT_GROUP_ID >> PARTITION_BITS) {
            return error_set(err, WEIR_ECONFIG, "topic %s hashes to a reserved id: rename it",
                             config->topics[i].name);
        }
    }
    b->replicas = calloc(b->n_replicas > 0 ? b->n_replicas : 1, sizeof(*b->replicas));
    if (b->replicas == NULL) {
        b->n_replicas = 0;
        return error_set(err, WEIR_ENOMEM, "no memory for the replicas");
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < config->n_topics; i++) {
        for (uint32_t k = 0; k < config->topics[i].partitions; k++, n++) {
            struct replica *r = &b->replicas[n];
            char labels[CONFIG_NAME_MAX + 64];
            r->broker = b;
            r->topic = &config->topics[i];
            r->partition = k;
            r->index = n;
            r->group_id = group_id_of(r->topic, k);
            r->foreign = shard_of(r->topic->name, k, b->n_shards) != b->shard;
            list_init(&r->fetches);
            if (r->foreign) {
                continue;
            }
            (void)snprintf(labels, sizeof(labels), "topic=\"%s\",partition=\"%u\"", r->topic->name,
                           k);
            r->lag = metric_gauge("weir_broker_lag_entries", labels,
                                  "Entries that the slowest follower lacks; 0 where not leading.");
            r->high_watermark = metric_gauge("weir_broker_high_watermark", labels,
                                             "First offset that is not committed here.");
        }
    }
    return 0;
}

/* --- The sweep --- */

/* Once a second. */
static void update_replicas(struct broker *b)
{
    int64_t leading = 0, damaged = 0;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        struct replica *r = &b->replicas[i];
        char text[ERROR_TEXT_MAX];
        uint64_t lag = 0;
        replica_try_again(r, env_now_ns(b->env));
        if (r->group == NULL) {
            continue;
        }
        const struct partition *p = group_partition(r->group);
        uint64_t last = partition_last_index(p).v;
        const struct cluster_ids *ids = &b->roster.cluster.placements[i].replicas;
        for (uint32_t k = 0; k < ids->n && group_is_leader(r->group); k++) {
            uint32_t id = ids->at[k];
            uint64_t match = id == b->self->id ? last : group_match_index(r->group, id).v;
            lag = last > match && last - match > lag ? last - match : lag;
        }
        leading += group_is_leader(r->group);
        damaged += group_damage(r->group, text, sizeof(text));
        metric_set(r->lag, (int64_t)lag);
        metric_set(r->high_watermark, partition_high_watermark(p).v);
    }
    metric_set(b->metrics.damaged, damaged);
    metric_set(b->metrics.leading, leading);
    metric_set(b->metrics.inflight_bytes, (int64_t)b->inflight_bytes);
}

static void on_sweep(struct env_timer *timer)
{
    struct broker *b = timer->data;
    uint64_t now = env_now_ns(b->env);
    LIST_FOREACH_SAFE(it, nx, &b->conns)
    {
        broker_conn_sweep(list_entry(it, struct conn, link), now);
    }
    coordinator_sweep(b->coordinator, now);
    if (b->sweeps++ % METRICS_SWEEPS == 0) {
        update_replicas(b);
    }
    roster_tick(&b->roster, now);
    room_tick(b, now);
    reconcile_tick(b, now);
    report_tick(b, now);
    controller_tick(&b->controller, now);
    env_timer_start(&b->sweep, BROKER_SWEEP_US, on_sweep);
}

/* --- Closing --- */

static void broker_free(struct broker *b)
{
    coordinator_free(b->coordinator);
    controller_close(&b->controller);
    roster_close(&b->roster);
    free(b->replicas);
    free(b);
}

static void on_transport_closed(void *data)
{
    struct broker *b = data;
    vote_log_close(b->votes);
    broker_close_cb cb = b->closed;
    void *cb_data = b->closed_data;
    broker_free(b);
    cb(cb_data);
}

static void on_nothing_open(struct env_defer *defer)
{
    on_transport_closed(defer->data);
}

static void close_transport(struct broker *b)
{
    env_timer_close(&b->sweep);
    env_defer_cancel(&b->tell_leaders);
    env_defer_cancel(&b->tell_metadata);
    env_defer_cancel(&b->roster.fold);
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        env_defer_cancel(&b->replicas[i].serve);
    }
    if (b->transport != NULL) {
        transport_close(b->transport, on_transport_closed, b);
    } else {
        b->last.data = b;
        env_defer(b->env, &b->last, on_nothing_open);
    }
}

void broker_part_closed(void *data)
{
    struct broker *b = data;
    if (--b->parts_open == 0) {
        close_transport(b);
    }
}

void broker_close(struct broker *b, broker_close_cb cb, void *data)
{
    b->stopping = true;
    b->closed = cb;
    b->closed_data = data;
    report_close(b);
    scrub_close(b->scrub);
    b->scrub = NULL;
    if (b->listener != NULL) {
        env_listener_close(b->listener);
        b->listener = NULL;
    }
    b->parts_open = 1 + b->n_conns; /* one of this function's own */
    LIST_FOREACH_SAFE(it, nx, &b->conns)
    {
        broker_conn_close(list_entry(it, struct conn, link));
    }
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        struct group *g = b->replicas[i].group;
        b->parts_open += b->replicas[i].closing;
        if (g != NULL) {
            b->parts_open++;
            b->replicas[i].group = NULL;
            group_close(g, broker_part_closed, b);
        }
    }
    broker_detach(b);
    broker_part_closed(b);
}

/* --- Starting --- */

static void metrics_init(struct broker *b)
{
    char shard[32] = "";
    if (b->n_shards > 1) {
        (void)snprintf(shard, sizeof(shard), "shard=\"%u\"", b->shard);
    }
    b->metrics.records = metric_counter("weir_broker_produce_records_total", shard,
                                        "Records acknowledged by this node.");
    b->metrics.bytes =
        metric_counter("weir_broker_produce_bytes_total", shard, "Batch bytes acknowledged.");
    b->metrics.repeated = metric_counter("weir_broker_produce_repeated_total", shard,
                                         "Batches sent again that were stored already.");
    b->metrics.refused =
        metric_counter("weir_broker_produce_refused_total", shard, "Batches refused for now.");
    b->metrics.invalid =
        metric_counter("weir_broker_produce_invalid_total", shard, "Batches that were no good.");
    b->metrics.fetched_bytes =
        metric_counter("weir_broker_fetch_bytes_total", shard, "Batch bytes handed to consumers.");
    b->metrics.connections =
        metric_gauge("weir_broker_connections", shard, "Connections of log clients.");
    b->metrics.leading =
        metric_gauge("weir_broker_leaders", shard, "Partitions that this node leads.");
    b->metrics.disk_full = metric_gauge("weir_broker_disk_full", shard,
                                        "1 while this node's disk has too little room for writes.");
    b->metrics.failed_replicas = metric_gauge("weir_broker_replicas_failed", shard,
                                              "Replicas of this node that can't go on.");
    b->metrics.damaged = metric_gauge("weir_log_damaged_ranges", shard,
                                      "Ranges of this node's logs that can't be read.");
    b->metrics.inflight_bytes = metric_gauge("weir_broker_inflight_bytes", shard,
                                             "Batch bytes proposed here and not yet committed.");
    b->metrics.produce_us = metric_histogram("weir_broker_produce_us", shard,
                                             "From a batch's arrival to its commit, microseconds.");
}

/* Says which of a node's listeners it was. */
static int listen_failed(const char *option, int code, const struct error *why, struct error *err)
{
    return error_set(err, code, "%s: %.200s", option, why->text);
}

/* Before any group: they promise nothing without it. */
static int open_votes(struct broker *b, struct error *err)
{
    char dir[CONFIG_PATH_MAX + 32];
    int n = snprintf(dir, sizeof(dir), "%s/votes", b->config->data_dir);
    if (b->shard > 0) {
        (void)snprintf(dir + n, sizeof(dir) - (size_t)n, "-%u", b->shard);
    }
    return vote_log_open(b->env, dir, &b->votes, err);
}

static int open_transport(struct broker *b, struct error *err)
{
    const struct config *config = b->config;
    const struct cluster *cluster = &b->roster.cluster;
    struct transport_peer peers[CLUSTER_NODES_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct config_node *node = &cluster->nodes[i].node;
        if (node->id != b->self->id && !node->no_log &&
            cluster->nodes[i].state != CLUSTER_REMOVED) {
            peers[n++] = (struct transport_peer){.id = node->id,
                                                 .name = node->name,
                                                 .host = node->peer.host,
                                                 .port = shard_port(node->peer.port, b->shard)};
        }
    }
    struct transport_options options = {
        .sockets = b->sockets,
        .self_id = b->self->id,
        .cluster_id = b->roster.cluster_id,
        .joining = config->cluster_join != 0,
        .cluster_learned = roster_learned,
        .data = &b->roster,
        .listen_host = config->listen.peer.host,
        .listen_port = shard_port(config->listen.peer.port, b->shard),
        .shard = b->shard,
        .n_shards = b->n_shards,
        .peers = peers,
        .n_peers = n,
        .secret = config->secret,
        .queue_bytes_max = PEER_QUEUE_BYTES,
    };
    struct error why = {0};
    int rv = transport_new(b->env, &options, &b->transport, &why);
    return rv == 0 ? 0 : listen_failed("listen.peer", rv, &why, err);
}

static int start(struct broker *b, struct error *err)
{
    controller_open(&b->controller, b);
    int rv = roster_open(&b->roster, b, err);
    if (rv == 0) {
        rv = replicas_init(b, err);
    }
    if (rv == 0) {
        roster_place(&b->roster);
        rv = coordinator_new(b, &b->coordinator, err);
    }
    if (rv == 0) {
        rv = open_votes(b, err);
    }
    if (rv == 0) {
        rv = open_transport(b, err);
    }
    if (rv == 0) {
        rv = report_open(b, err);
    }
    if (rv == 0) {
        rv = env_timer_init(b->env, &b->sweep);
        b->sweep.data = b;
    }
    if (rv != 0) {
        return rv;
    }
    /* The port first: what can't listen must not take part in elections. */
    struct error why = {0};
    uint16_t port = shard_port(b->config->listen.broker.port, b->shard);
    rv = env_listen(b->sockets, b->config->listen.broker.host, port, broker_conn_accept, b,
                    &b->listener, &why);
    if (rv != 0) {
        return listen_failed("listen.broker", rv, &why, err);
    }
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        if (b->replicas[i].wanted) {
            replica_open(&b->replicas[i]);
        }
    }
    b->scrub = scrub_new(b);
    if (b->scrub == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for scrubbing");
    }
    env_timer_start(&b->sweep, BROKER_SWEEP_US, on_sweep);
    broker_attach(b);
    log_info("broker_started", "node=%s id=%u shard=%u listen=%s:%u replicas=%u", b->self->name,
             b->self->id, b->shard, b->config->listen.broker.host, port, b->n_replicas);
    return 0;
}

int broker_open(struct env *env, struct env *sockets, const struct config *config,
                const struct broker_options *options, struct broker **ret_broker, struct error *err)
{
    const struct broker_options none = {0}, *o = options != NULL ? options : &none;
    struct broker *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the broker");
    }
    b->env = env;
    b->sockets = sockets != NULL ? sockets : env;
    b->config = config;
    b->hub = o->hub;
    b->shard = o->hub != NULL ? o->shard : 0;
    b->n_shards = o->hub != NULL ? hub_shards(o->hub) : 1;
    b->pace.bytes_per_s = ((uint64_t)config->log_catchup_mib_s << 20) / b->n_shards;
    b->inflight_bytes_max = ((uint64_t)config->log_node_inflight_mib << 20) / b->n_shards;
    b->compact_pace.bytes_per_s = ((uint64_t)config->log_compact_mib_s << 20) / b->n_shards;
    b->self = config_self(config);
    b->sizes = o->sizes != NULL
                   ? *o->sizes
                   : (struct broker_sizes){.segment_bytes = (uint64_t)config->log_segment_mib << 20,
                                           .tail_bytes = TAIL_BYTES,
                                           .index_bytes = INDEX_BYTES};
    b->started_ns = env_now_ns(env);
    list_init(&b->conns);
    metrics_init(b);
    *ret_broker = b;
    return start(b, err);
}
