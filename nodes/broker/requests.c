/* The table of requests, and those that only look. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/broker/broker_priv.h"
#include "nodes/broker/scrub.h"

#define LEADERS_PER_NEWS 256 /* in one BROKER_LEADERS */

/* protobuf-c's structs want char *; what is packed is only read. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static int handle_ping(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                       struct error *err)
{
    Weir__BrokerPing m = WEIR__BROKER_PING__INIT;
    (void)head;
    (void)err;
    broker_conn_reply(c, BROKER_PONG, frame->correlation, &m.base);
    return 0;
}

/* --- Metadata --- */

static void fill_leader(Weir__BrokerLeader *m, const struct replica *r)
{
    weir__broker_leader__init(m);
    m->topic = text(r->topic->name);
    m->partition = r->partition;
    m->leader_id = replica_leader(r);
    m->term = replica_term(r);
}

/* Of every log node: that of `meta`. */
static void fill_replicas(Weir__BrokerLeader *m, const struct replica *r)
{
    struct roster *members = &r->broker->roster;
    struct cluster_ids *ids = &members->cluster.placements[r->index].replicas;
    m->replicas = ids->at;
    m->n_replicas = r == members->meta ? 0 : ids->n;
}

struct node_memory {
    Weir__BrokerNode node;
    char http[160], rtmp[160], internal[160];
};

static void put_address(char *out, size_t size, const struct config_address *a)
{
    (void)snprintf(out, size, strchr(a->host, ':') != NULL ? "[%s]:%u" : "%s:%u", a->host, a->port);
}

/* False: it is not one any more. */
static bool fill_node(struct node_memory *m, const struct cluster_node *n)
{
    weir__broker_node__init(&m->node);
    put_address(m->http, sizeof(m->http), &n->node.http);
    put_address(m->rtmp, sizeof(m->rtmp), &n->node.rtmp);
    m->node.id = n->node.id;
    m->node.name = text(n->node.name);
    m->node.host = text(n->node.broker.host);
    m->node.port = n->node.broker.port;
    m->node.http = m->http;
    m->node.rtmp = m->rtmp;
    if (n->node.internal.port != 0) {
        put_address(m->internal, sizeof(m->internal), &n->node.internal);
        m->node.internal = m->internal;
    }
    m->node.no_log = n->node.no_log;
    m->node.state = n->state;
    return n->state != CLUSTER_REMOVED;
}

static void send_metadata(struct conn *c, uint64_t correlation, Weir__BrokerLeader *leaders,
                          Weir__BrokerLeader **list)
{
    const struct broker *b = c->broker;
    Weir__BrokerMetadata m = WEIR__BROKER_METADATA__INIT;
    const struct cluster *cluster = &b->roster.cluster;
    struct node_memory nodes[CLUSTER_NODES_MAX];
    Weir__BrokerNode *node_list[CLUSTER_NODES_MAX];
    Weir__BrokerTopic topics[CONFIG_TOPICS_MAX], *topic_list[CONFIG_TOPICS_MAX];
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        if (fill_node(&nodes[m.n_nodes], &cluster->nodes[i])) {
            node_list[m.n_nodes] = &nodes[m.n_nodes].node;
            m.n_nodes++;
        }
    }
    for (uint32_t i = 0; i < b->config->n_topics; i++) {
        const struct config_topic *t = &b->config->topics[i];
        if (!cluster_topic_differs(cluster, t)) {
            weir__broker_topic__init(&topics[m.n_topics]);
            topics[m.n_topics].name = text(t->name);
            topics[m.n_topics].partitions = t->partitions;
            topic_list[m.n_topics] = &topics[m.n_topics];
            m.n_topics++;
        }
    }
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        if (!b->replicas[i].foreign) {
            fill_leader(&leaders[i], &b->replicas[i]);
            fill_replicas(&leaders[i], &b->replicas[i]);
            list[m.n_leaders++] = &leaders[i];
        }
    }
    m.nodes = node_list;
    m.meta_offset = cluster->next;
    m.topics = topic_list;
    m.leaders = list;
    m.shards = b->n_shards;
    broker_conn_reply(c, BROKER_METADATA, correlation, &m.base);
}

/* To one connection, as a reply, or NULL: to all that watch. */
static int metadata(struct broker *b, struct conn *to, uint64_t correlation)
{
    uint32_t n = b->n_replicas;
    Weir__BrokerLeader *leaders = calloc(n, sizeof(*leaders));
    Weir__BrokerLeader **list = calloc(n, sizeof(Weir__BrokerLeader *));
    int rv = leaders != NULL && list != NULL ? 0 : WEIR_ENOMEM;
    if (rv == 0 && to != NULL) {
        send_metadata(to, correlation, leaders, list);
    } else if (rv == 0) {
        LIST_FOREACH_SAFE(it, nx, &b->conns)
        {
            struct conn *c = list_entry(it, struct conn, link);
            if (c->watching) {
                send_metadata(c, 0, leaders, list);
            }
        }
    }
    free(leaders);
    free(list);
    return rv;
}

static int handle_metadata(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                           struct error *err)
{
    const Weir__BrokerMetadataRequest *m = (const Weir__BrokerMetadataRequest *)head;
    c->watching |= m->watch;
    int rv = metadata(c->broker, c, frame->correlation);
    return rv == 0 ? 0 : error_set(err, rv, "out of memory");
}

static void on_tell_metadata(struct env_defer *defer)
{
    struct broker *b = defer->data;
    if (metadata(b, NULL, 0) != 0) {
        env_defer(b->env, &b->tell_metadata, on_tell_metadata);
    }
}

void broker_tell_metadata(struct broker *b)
{
    b->tell_metadata.data = b;
    env_defer(b->env, &b->tell_metadata, on_tell_metadata);
}

static void tell(struct broker *b, Weir__BrokerLeader **list, size_t n)
{
    Weir__BrokerLeaders m = WEIR__BROKER_LEADERS__INIT;
    m.leaders = list;
    m.n_leaders = n;
    LIST_FOREACH(it, &b->conns)
    {
        struct conn *c = list_entry(it, struct conn, link);
        if (c->watching) {
            broker_conn_reply(c, BROKER_LEADERS, 0, &m.base);
        }
    }
}

void broker_tell_leaders(struct env_defer *defer)
{
    struct broker *b = defer->data;
    Weir__BrokerLeader leaders[LEADERS_PER_NEWS], *list[LEADERS_PER_NEWS];
    size_t n = 0;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        if (b->replicas[i].news) {
            b->replicas[i].news = false;
            fill_leader(&leaders[n], &b->replicas[i]);
            list[n] = &leaders[n];
            n++;
        }
        if (n == LEADERS_PER_NEWS || (n > 0 && i + 1 == b->n_replicas)) {
            tell(b, list, n);
            n = 0;
        }
    }
}

/* --- Status --- */

static size_t fill_peers(const struct broker *b, const struct replica *r, bool of_leader,
                         Weir__BrokerPeerStatus *peers, Weir__BrokerPeerStatus **list)
{
    const struct cluster *cluster = &b->roster.cluster;
    size_t n = 0;
    for (unsigned i = 0; i < cluster->n_nodes && n < CONFIG_NODES_MAX; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        uint32_t id = node->node.id;
        if (id == b->self->id || node->node.no_log || node->state == CLUSTER_REMOVED ||
            (of_leader && r != b->roster.meta &&
             !cluster_ids_have(&cluster->placements[r->index].replicas, id))) {
            continue;
        }
        weir__broker_peer_status__init(&peers[n]);
        peers[n].id = id;
        peers[n].connected = transport_connected(b->transport, id);
        peers[n].match_index = of_leader ? group_match_index(r->group, id).v : 0;
        list[n] = &peers[n];
        n++;
    }
    return n;
}

static void fill_replica(Weir__BrokerReplicaStatus *m, const struct replica *r)
{
    weir__broker_replica_status__init(m);
    m->topic = text(r->topic->name);
    m->partition = r->partition;
    m->failed = text(r->failed);
    m->failed_code = r->failed_code;
    m->absent = !r->wanted;
    if (r->group == NULL) {
        return;
    }
    const struct partition *p = group_partition(r->group);
    m->term = group_term(r->group).v;
    m->leader_id = group_leader(r->group);
    m->leading = group_is_leader(r->group);
    m->first_index = partition_first_index(p).v;
    m->last_index = partition_last_index(p).v;
    m->durable_index = partition_durable_index(p).v;
    m->commit_index = partition_commit_index(p).v;
    m->start_offset = partition_start_offset(p).v;
    m->high_watermark = partition_high_watermark(p).v;
    m->end_offset = partition_end_offset(p).v;
    struct partition_compaction compaction;
    partition_compaction(p, &compaction);
    m->compacted_offset = compaction.upto.v;
    m->tombstones_ms = compaction.tombstones_ms;
    m->compacting = compaction.running;
    m->size_bytes = partition_size_bytes(p);
}

struct status_memory {
    Weir__BrokerReplicaStatus replica;
    char damage[ERROR_TEXT_MAX];
    Weir__BrokerPeerStatus peers[CONFIG_NODES_MAX], *peer_list[CONFIG_NODES_MAX];
};

static void send_status(struct conn *c, uint64_t correlation, struct status_memory *memory,
                        Weir__BrokerReplicaStatus **list)
{
    struct broker *b = c->broker;
    Weir__BrokerStatus m = WEIR__BROKER_STATUS__INIT;
    Weir__BrokerPeerStatus peers[CONFIG_NODES_MAX], *peer_list[CONFIG_NODES_MAX];
    uint64_t free_bytes = 0;
    (void)env_dir_free_bytes(b->env, b->config->data_dir, &free_bytes, NULL);
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        struct status_memory *s = &memory[i];
        if (b->replicas[i].foreign) {
            continue;
        }
        fill_replica(&s->replica, &b->replicas[i]);
        if (b->replicas[i].group != NULL &&
            group_damage(b->replicas[i].group, s->damage, sizeof(s->damage)) > 0) {
            s->replica.damage = s->damage;
        }
        if (s->replica.leading) {
            s->replica.peers = s->peer_list;
            s->replica.n_peers = fill_peers(b, &b->replicas[i], true, s->peers, s->peer_list);
        }
        list[m.n_replicas++] = &s->replica;
    }
    m.node_id = b->self->id;
    m.node_name = text(b->self->name);
    m.roles = b->config->roles;
    m.uptime_ms = (env_now_ns(b->env) - b->started_ns) / 1000000u;
    m.disk_free_bytes = free_bytes;
    m.produced_bytes = (uint64_t)b->metrics.bytes->value;
    m.fetched_bytes = (uint64_t)b->metrics.fetched_bytes->value;
    m.connections = b->n_conns;
    m.replicas = list;
    m.peers = peer_list;
    m.n_peers = fill_peers(b, NULL, false, peers, peer_list);
    broker_conn_reply(c, BROKER_STATUS, correlation, &m.base);
}

static int handle_status(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                         struct error *err)
{
    uint32_t n = c->broker->n_replicas;
    struct status_memory *memory = calloc(n, sizeof(*memory));
    Weir__BrokerReplicaStatus **list = calloc(n, sizeof(Weir__BrokerReplicaStatus *));
    int rv = 0;
    (void)head;
    if (memory != NULL && list != NULL) {
        send_status(c, frame->correlation, memory, list);
    } else {
        rv = error_set(err, WEIR_ENOMEM, "out of memory");
    }
    free(memory);
    free(list);
    return rv;
}

/* --- Hash --- */

static int handle_hash(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                       struct error *err)
{
    const Weir__BrokerHashRequest *m = (const Weir__BrokerHashRequest *)head;
    const struct replica *r = broker_replica(c->broker, m->topic, m->partition);
    Weir__BrokerHash reply = WEIR__BROKER_HASH__INIT;
    uint8_t hash[PARTITION_HASH_SIZE];
    struct log_index last = LOG_INDEX(0);
    struct error why = {0};
    (void)err;
    if (r == NULL || r->group == NULL) {
        broker_conn_reply_error(c, frame->correlation,
                                r == NULL ? WEIR_ENOTFOUND : WEIR_EUNAVAILABLE,
                                r == NULL ? "no such topic or partition" : replica_trouble(r), r);
        return 0;
    }
    uint32_t bytes_max =
        m->bytes_max < BROKER_HASH_BYTES_MAX ? m->bytes_max : BROKER_HASH_BYTES_MAX;
    int rv = partition_hash(group_partition(r->group), LOG_INDEX(m->first_index),
                            LOG_INDEX(m->last_index), bytes_max, hash, &last, &why);
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, why.text, r);
        return 0;
    }
    reply.hash = (ProtobufCBinaryData){.len = sizeof(hash), .data = hash};
    reply.last_index = last.v;
    struct partition_compaction compaction;
    partition_compaction(group_partition(r->group), &compaction);
    reply.compacted_offset = compaction.upto.v;
    reply.tombstones_ms = compaction.tombstones_ms;
    reply.compacting =
        !partition_range_compacted(group_partition(r->group), LOG_INDEX(m->first_index), last);
    broker_conn_reply(c, BROKER_HASH, frame->correlation, &reply.base);
    return 0;
}

/* --- The table --- */

static const struct {
    int (*handle)(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                  struct error *err);
} requests[MESSAGE_TYPES] = {
    [BROKER_METADATA_REQUEST] = {handle_metadata},
    [BROKER_PRODUCE] = {broker_handle_produce},
    [BROKER_FETCH] = {broker_handle_fetch},
    [BROKER_OFFSETS_REQUEST] = {broker_handle_offsets},
    [BROKER_STATUS_REQUEST] = {handle_status},
    [BROKER_HASH_REQUEST] = {handle_hash},
    [BROKER_PING] = {handle_ping},
    [BROKER_INIT_PRODUCER] = {broker_handle_init_producer},
    [BROKER_GROUP_POLL] = {broker_handle_group_poll},
    [BROKER_GROUP_LEAVE] = {broker_handle_group_leave},
    [BROKER_GROUP_COMMIT] = {broker_handle_group_commit},
    [BROKER_GROUP_OFFSETS_REQUEST] = {broker_handle_group_offsets},
    [BROKER_GROUP_DESCRIBE_REQUEST] = {broker_handle_group_describe},
    [BROKER_CLUSTER_CHANGE] = {broker_handle_cluster_change},
    [BROKER_SCRUB_REQUEST] = {broker_handle_scrub},
    [BROKER_CLUSTER_DESCRIBE] = {broker_handle_cluster_describe},
};

int broker_dispatch(struct conn *c, const struct frame *frame, struct error *err)
{
    ProtobufCMessage *head = NULL;
    if (frame->type >= MESSAGE_TYPES || requests[frame->type].handle == NULL) {
        return error_set(err, WEIR_EPROTO, "message type %u (%s) is not a request", frame->type,
                         message_name(frame->type));
    }
    if (frame->head_len > BROKER_REQUEST_HEAD_MAX) {
        return error_set(err, WEIR_ETOOBIG, "request %s with a head of %u bytes, limit %u",
                         message_name(frame->type), frame->head_len, BROKER_REQUEST_HEAD_MAX);
    }
    int rv = message_unpack(frame, &head, err);
    if (rv == 0) {
        rv = requests[frame->type].handle(c, frame, head, err);
        message_free(head);
    }
    return rv;
}
