/* Administrators' requests: what weir cluster asks. Only the controller answers; whatever would
 * leave the cluster worse off is refused, with what to do instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/shard.h"
#include "nodes/broker/broker_priv.h"

static bool is_controller(struct conn *c, uint64_t correlation)
{
    struct broker *b = c->broker;
    if (b->shard > 0) {
        broker_conn_reply_error(c, correlation, WEIR_EUNAVAILABLE,
                                "the first shard of each node answers for the cluster", NULL);
        return false;
    }
    if (b->roster.meta == NULL) {
        broker_conn_reply_error(c, correlation, WEIR_ENOTFOUND,
                                "this cluster has no topic meta: its nodes are fixed", NULL);
        return false;
    }
    if (!controller_ready(&b->controller) || !b->roster.known) {
        broker_conn_reply_error(c, correlation, WEIR_ENOTLEADER, error_name(WEIR_ENOTLEADER),
                                b->roster.meta);
        return false;
    }
    return true;
}

/* --- Changes --- */

static unsigned log_nodes_without(const struct cluster *c, uint32_t id)
{
    uint32_t ids[CLUSTER_NODES_MAX];
    unsigned n = cluster_log_nodes(c, ids), left = 0;
    for (unsigned i = 0; i < n; i++) {
        left += ids[i] != id;
    }
    return left;
}

static unsigned members_of(const struct cluster *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_nodes; i++) {
        n += c->nodes[i].state != CLUSTER_REMOVED;
    }
    return n;
}

static int take_address(const char *what, const char *text, struct config_address *out,
                        struct error *err)
{
    struct error why = {0};
    int rv = config_address_parse(text, out, &why);
    return rv == 0 ? 0 : error_set(err, WEIR_EINVAL, "%s: %s", what, why.text);
}

static bool same_address(const struct config_address *a, const struct config_address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Each takes a port for every shard. */
static bool shards_meet(const struct cluster *c, const struct config_address *a,
                        const struct config_address *b)
{
    unsigned apart = a->port > b->port ? a->port - b->port : b->port - a->port;
    return c->shards > 1 && strcmp(a->host, b->host) == 0 && apart % SHARD_PORT_STEP == 0 &&
           apart / SHARD_PORT_STEP < c->shards;
}

static int check_shards(const struct cluster *c, const struct config_node *n,
                        const struct config_node *other, struct error *err)
{
    const struct config_address *mine[] = {&n->peer, &n->broker};
    const struct config_address *theirs[] = {&other->peer, &other->broker};
    for (unsigned i = 0; i < 4; i++) {
        const struct config_address *a = mine[i / 2], *b = theirs[i % 2];
        if (a != b && shards_meet(c, a, b)) {
            return error_set(err, WEIR_EEXISTS,
                             "%s:%u and %s:%u of node %s leave no room for %u shards, %u apart",
                             a->host, a->port, b->host, b->port, other->name, c->shards,
                             SHARD_PORT_STEP);
        }
    }
    if (shard_port(n->peer.port, c->shards - 1) == 0 ||
        shard_port(n->broker.port, c->shards - 1) == 0) {
        return error_set(err, WEIR_EINVAL, "no room above ports %u and %u for %u shards",
                         n->peer.port, n->broker.port, c->shards);
    }
    return 0;
}

static int check_addresses(const struct cluster *c, const struct cluster_node *n, struct error *err)
{
    int rv = check_shards(c, &n->node, &n->node, err);
    for (unsigned i = 0; i < c->n_nodes; i++) {
        const struct config_node *o = &c->nodes[i].node;
        if (o->id == n->node.id || c->nodes[i].state == CLUSTER_REMOVED) {
            continue;
        }
        if (same_address(&o->peer, &n->node.peer)) {
            return error_set(err, WEIR_EEXISTS, "%s:%u is already the peer address of node %s",
                             o->peer.host, o->peer.port, o->name);
        }
        if (same_address(&o->broker, &n->node.broker)) {
            return error_set(err, WEIR_EEXISTS, "%s:%u is already the broker address of node %s",
                             o->broker.host, o->broker.port, o->name);
        }
        if (config_has_tls(c->config) && same_address(&o->internal, &n->node.internal)) {
            return error_set(err, WEIR_EEXISTS, "%s:%u is already the internal address of node %s",
                             o->internal.host, o->internal.port, o->name);
        }
        rv = rv == 0 ? check_shards(c, &n->node, o, err) : rv;
    }
    return rv;
}

/* A new node; or a known one at other addresses, or one that is not to be drained after all. */
static int plan_add(const struct cluster *c, const Weir__ClusterChange *m,
                    struct cluster_node *ret_node, struct error *err)
{
    const struct cluster_node *by_id = cluster_node(c, m->id);
    const struct cluster_node *by_name = cluster_node_named(c, m->name);
    struct cluster_node n = {.state = CLUSTER_ACTIVE};
    if (m->id == 0 || m->id > 0x80000000u || m->name[0] == '\0' ||
        strlen(m->name) >= sizeof(n.node.name)) {
        return error_set(err, WEIR_EINVAL, "a node needs a name and an id of 1 to 2147483648");
    }
    if (by_id != NULL && by_id->state == CLUSTER_REMOVED) {
        return error_set(err, WEIR_EEXISTS,
                         "id %u was that of node %s, which was removed: take a new id", m->id,
                         by_id->node.name);
    }
    if (by_id != NULL && strcmp(by_id->node.name, m->name) != 0) {
        return error_set(err, WEIR_EEXISTS, "id %u is already that of node %s", m->id,
                         by_id->node.name);
    }
    if (by_name != NULL && by_name->state != CLUSTER_REMOVED && by_name->node.id != m->id) {
        return error_set(err, WEIR_EEXISTS, "node %s has the id %u", m->name, by_name->node.id);
    }
    if (by_id == NULL && members_of(c) >= CONFIG_NODES_MAX) {
        return error_set(err, WEIR_ETOOBIG, "a cluster has at most %d nodes", CONFIG_NODES_MAX);
    }
    if (by_id == NULL && c->n_nodes == CLUSTER_NODES_MAX) {
        return error_set(err, WEIR_ETOOBIG, "%d ids have been used up, removed nodes included",
                         CLUSTER_NODES_MAX);
    }
    n.node.id = m->id;
    n.node.no_log = m->no_log != 0;
    (void)snprintf(n.node.name, sizeof(n.node.name), "%s", m->name);
    int rv = take_address("peer", m->peer, &n.node.peer, err);
    rv = rv == 0 ? take_address("broker", m->broker, &n.node.broker, err) : rv;
    rv = rv == 0 ? take_address("http", m->http, &n.node.http, err) : rv;
    rv = rv == 0 ? take_address("rtmp", m->rtmp, &n.node.rtmp, err) : rv;
    if (rv == 0 && m->internal[0] != '\0') {
        rv = take_address("internal", m->internal, &n.node.internal, err);
    }
    config_default_internal(&n.node);
    rv = rv == 0 ? check_addresses(c, &n, err) : rv;
    if (rv == 0 && by_id != NULL && by_id->node.no_log != n.node.no_log) {
        rv = error_set(err, WEIR_EINVAL, "node %s can't change its log role", m->name);
    }
    *ret_node = n;
    return rv;
}

static int find_node(const struct cluster *c, const char *name, struct cluster_node *ret_node,
                     struct error *err)
{
    const struct cluster_node *n = cluster_node_named(c, name);
    if (n == NULL || n->state == CLUSTER_REMOVED) {
        return error_set(err, WEIR_ENOTFOUND,
                         n == NULL ? "there is no node %.63s" : "node %.63s has been removed",
                         name);
    }
    *ret_node = *n;
    return 0;
}

static int plan_drain(const struct cluster *c, const Weir__ClusterChange *m,
                      struct cluster_node *ret_node, struct error *err)
{
    int rv = find_node(c, m->name, ret_node, err);
    if (rv != 0) {
        return rv;
    }
    unsigned left = log_nodes_without(c, ret_node->node.id);
    if (!ret_node->node.no_log && left < c->replicas) {
        return error_set(err, WEIR_EINVAL,
                         "without %s there would be %u nodes for %u replicas: add a node first",
                         ret_node->node.name, left, c->replicas);
    }
    ret_node->state = CLUSTER_DRAINING;
    return 0;
}

static int plan_remove(const struct controller *k, const struct cluster *c,
                       const Weir__ClusterChange *m, struct cluster_node *ret_node,
                       struct error *err)
{
    int rv = find_node(c, m->name, ret_node, err);
    if (rv != 0) {
        return rv;
    }
    const char *name = ret_node->node.name;
    uint32_t id = ret_node->node.id;
    unsigned left = log_nodes_without(c, id);
    bool live = controller_live(k, id);
    if (!ret_node->node.no_log && left < c->replicas) {
        return error_set(err, WEIR_EINVAL,
                         "without %s there would be %u nodes for %u replicas: add a node first",
                         name, left, c->replicas);
    }
    if (m->dead && !controller_settled(k)) {
        return error_set(err, WEIR_EBUSY,
                         "the controller has just begun: in a moment it knows who is alive");
    }
    if (m->dead && live) {
        return error_set(err, WEIR_EINVAL, "node %s is alive: drain it, then remove it", name);
    }
    if (!m->dead && !ret_node->node.no_log &&
        (ret_node->state != CLUSTER_DRAINING || !cluster_is_drained(c, id))) {
        return error_set(err, WEIR_EBUSY,
                         live ? "node %s is not drained yet: weir cluster drain %s --wait"
                              : "node %s does not answer and is not drained: if it is gone for "
                                "good, weir cluster remove %s --dead",
                         name, name);
    }
    ret_node->state = CLUSTER_REMOVED;
    return 0;
}

static int plan(const struct broker *b, const Weir__ClusterChange *m, struct cluster_node *ret_node,
                struct error *err)
{
    const struct cluster *c = &b->roster.cluster;
    switch (m->action) {
    case WEIR__CLUSTER_CHANGE__ACTION__ADD:
        return plan_add(c, m, ret_node, err);
    case WEIR__CLUSTER_CHANGE__ACTION__DRAIN:
        return plan_drain(c, m, ret_node, err);
    case WEIR__CLUSTER_CHANGE__ACTION__REMOVE:
        return plan_remove(&b->controller, c, m, ret_node, err);
    default:
        return error_set(err, WEIR_EINVAL, "no such change");
    }
}

int broker_handle_cluster_change(struct conn *c, const struct frame *frame,
                                 const ProtobufCMessage *head, struct error *err)
{
    const Weir__ClusterChange *m = (const Weir__ClusterChange *)head;
    struct broker *b = c->broker;
    struct cluster_node node = {0};
    struct error why = {0};
    (void)err;
    if (!is_controller(c, frame->correlation)) {
        return 0;
    }
    if (m->action == WEIR__CLUSTER_CHANGE__ACTION__BALANCE) {
        Weir__ClusterChanged reply = WEIR__CLUSTER_CHANGED__INIT;
        controller_balance_now(&b->controller);
        broker_conn_reply(c, BROKER_CLUSTER_CHANGED, frame->correlation, &reply.base);
        return 0;
    }
    int rv = plan(b, m, &node, &why);
    if (rv == 0) {
        struct cluster_record record;
        struct controller_reply reply = {.conn = c, .correlation = frame->correlation};
        cluster_record_init(&record);
        cluster_put_node(&record, &node);
        rv = controller_write(&b->controller, &record, &reply);
        cluster_record_close(&record);
        (void)error_set(&why, rv, "%s", error_name(rv));
    }
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, why.text, b->roster.meta);
    } else {
        log_info("cluster_change", "node=%s id=%u state=%d by=\"%s\"", node.node.name, node.node.id,
                 (int)node.state, c->name);
    }
    return 0;
}

/* --- The whole picture --- */

static void fill_counts(const struct broker *b, Weir__ClusterNode *m)
{
    const struct cluster *c = &b->roster.cluster;
    for (uint32_t i = 0; i < c->n_placements; i++) {
        bool meta = (int64_t)i == cluster_meta_index(c->config);
        const struct part_seen *p = controller_part(&b->controller, i);
        m->leading += p->leader == m->id;
        m->placed += !meta && cluster_ids_have(&c->placements[i].replicas, m->id);
        m->leaving += !meta && cluster_ids_have(&c->placements[i].leaving, m->id);
        for (unsigned k = 0; k < p->n_members; k++) {
            m->meta_voter |= meta && p->members[k].id == m->id && p->members[k].voter;
            m->member += p->members[k].id == m->id;
        }
    }
}

struct description_memory {
    Weir__ClusterNode nodes[CLUSTER_NODES_MAX], *list[CLUSTER_NODES_MAX];
};

static void describe(struct conn *c, uint64_t correlation, struct description_memory *memory)
{
    struct broker *b = c->broker;
    const struct cluster *cluster = &b->roster.cluster;
    Weir__ClusterDescription m = WEIR__CLUSTER_DESCRIPTION__INIT;
    uint32_t index, target;
    for (unsigned i = 0; i < cluster->n_nodes; i++) {
        const struct cluster_node *n = &cluster->nodes[i];
        Weir__ClusterNode *out = &memory->nodes[i];
        weir__cluster_node__init(out);
        out->id = n->node.id;
        out->name = (char *)(uintptr_t)n->node.name;
        out->state = n->state;
        out->no_log = n->node.no_log;
        out->live = controller_live(&b->controller, n->node.id);
        fill_counts(b, out);
        memory->list[i] = out;
    }
    for (uint32_t i = 0; i < cluster->n_placements; i++) {
        bool meta = (int64_t)i == cluster_meta_index(cluster->config);
        m.misplaced += !meta && !controller_part_is_placed(&b->controller, i);
        m.leaderless += controller_part(&b->controller, i)->leader == 0;
    }
    m.cluster_id = cluster->id;
    m.controller = b->self->id;
    m.replicas = cluster->replicas;
    m.partitions = cluster->n_placements;
    m.moving = placement_moving(cluster);
    m.leaders_uneven = controller_next_lead(&b->controller, &index, &target);
    m.replicas_uneven = controller_replicas_uneven(&b->controller);
    m.nodes = memory->list;
    m.n_nodes = cluster->n_nodes;
    broker_conn_reply(c, BROKER_CLUSTER, correlation, &m.base);
}

int broker_handle_cluster_describe(struct conn *c, const struct frame *frame,
                                   const ProtobufCMessage *head, struct error *err)
{
    (void)head;
    if (!is_controller(c, frame->correlation)) {
        return 0;
    }
    struct description_memory *memory = calloc(1, sizeof(*memory));
    if (memory == NULL) {
        return error_set(err, WEIR_ENOMEM, "out of memory");
    }
    describe(c, frame->correlation, memory);
    free(memory);
    return 0;
}
