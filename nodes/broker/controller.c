#include "nodes/broker/controller.h"

#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/shard.h"
#include "nodes/broker/broker_priv.h"

#define TICK_NS        200000000u
#define LIVE_NS        3000000000u  /* without a report for so long: dead */
#define SETTLE_NS      3000000000u  /* after becoming the controller: until all have reported */
#define BALANCE_NS     1000000000u  /* between two transfers */
#define FOUNDING_BYTES (128u << 10) /* of a batch of its records */
#define ENDED_MAX      64           /* moves whose end is written in one batch */

void controller_open(struct controller *k, struct broker *b)
{
    *k = (struct controller){.broker = b};
    bytes_init(&k->batch, 1u << 20);
}

void controller_close(struct controller *k)
{
    free(k->parts);
    k->parts = NULL;
    bytes_close(&k->batch);
}

/* --- What is known --- */

static struct node_seen *node_seen(struct controller *k, uint32_t id, bool make)
{
    for (unsigned i = 0; i < k->n_nodes; i++) {
        if (k->nodes[i].id == id) {
            return &k->nodes[i];
        }
    }
    if (!make || k->n_nodes == CLUSTER_NODES_MAX) {
        return NULL;
    }
    k->nodes[k->n_nodes] = (struct node_seen){.id = id};
    return &k->nodes[k->n_nodes++];
}

static void take_part(struct controller *k, uint32_t node_id, uint32_t sequence, uint64_t now_ns,
                      const Weir__ReportPartition *m)
{
    const struct replica *r = broker_replica_of_group(k->broker, m->group);
    if (r == NULL) {
        return;
    }
    struct part_seen *p = &k->parts[r->index];
    if (m->term < p->term) {
        return;
    }
    *p = (struct part_seen){.leader = node_id,
                            .term = m->term,
                            .heard_ns = now_ns,
                            .settled = m->settled != 0,
                            .sequence = sequence};
    for (size_t i = 0; i < m->n_members; i++) {
        if (p->n_members == sizeof(p->members) / sizeof(p->members[0])) {
            p->settled = false; /* more than it could have */
            return;
        }
        p->members[p->n_members++] = (struct part_member){.id = m->members[i]->id,
                                                          .voter = m->members[i]->voter != 0,
                                                          .connected = m->members[i]->connected,
                                                          .lag = m->members[i]->lag};
    }
}

/* It does not lead any more what it did not name. */
static void forget_leads(struct controller *k, uint32_t node_id, uint32_t shard, uint32_t sequence)
{
    for (uint32_t i = 0; i < k->broker->n_replicas; i++) {
        const struct replica *r = &k->broker->replicas[i];
        if (k->parts[i].leader == node_id && k->parts[i].sequence != sequence &&
            shard_of(r->topic->name, r->partition, k->broker->n_shards) == shard) {
            k->parts[i].leader = 0;
            k->parts[i].settled = false;
        }
    }
}

void controller_take(struct controller *k, uint32_t node_id, uint32_t shard, const Weir__Report *m)
{
    struct node_seen *n = k->parts != NULL ? node_seen(k, node_id, true) : NULL;
    uint64_t now_ns = env_now_ns(k->broker->env);
    if (n == NULL) {
        return;
    }
    n->heard_ns = now_ns;
    n->disk_free_bytes = m->disk_free_bytes;
    uint32_t bit = 1u << shard;
    n->disk_bad = m->disk_bad ? n->disk_bad | bit : n->disk_bad & ~bit;
    n->disk_full = m->disk_full ? n->disk_full | bit : n->disk_full & ~bit;
    for (size_t i = 0; i < m->n_partitions; i++) {
        take_part(k, node_id, m->sequence, now_ns, m->partitions[i]);
    }
    if (m->last) {
        forget_leads(k, node_id, shard, m->sequence);
    }
}

static bool lives(const struct controller *k, const struct node_seen *n)
{
    return env_now_ns(k->broker->env) < n->heard_ns + LIVE_NS;
}

bool controller_live(const struct controller *k, uint32_t node_id)
{
    for (unsigned i = 0; i < k->n_nodes; i++) {
        if (k->nodes[i].id == node_id) {
            return lives(k, &k->nodes[i]);
        }
    }
    return false;
}

/* Lives, and may be given something to lead or to hold. */
static bool controller_usable(const void *data, uint32_t node_id)
{
    const struct controller *k = data;
    for (unsigned i = 0; i < k->n_nodes; i++) {
        if (k->nodes[i].id == node_id) {
            return lives(k, &k->nodes[i]) && k->nodes[i].disk_bad == 0 &&
                   k->nodes[i].disk_full == 0;
        }
    }
    return false;
}

bool controller_settled(const struct controller *k)
{
    return k->leading && env_now_ns(k->broker->env) > k->since_ns + SETTLE_NS;
}

const struct part_seen *controller_part(const struct controller *k, uint32_t index)
{
    return &k->parts[index];
}

static bool fresh(const struct controller *k, const struct part_seen *p)
{
    return p->leader != 0 && env_now_ns(k->broker->env) < p->heard_ns + LIVE_NS;
}

bool controller_part_is_placed(const struct controller *k, uint32_t index)
{
    const struct cluster_placement *want = &k->broker->roster.cluster.placements[index];
    const struct part_seen *p = &k->parts[index];
    if (!fresh(k, p) || !p->settled || p->n_members != want->replicas.n) {
        return false;
    }
    for (unsigned i = 0; i < p->n_members; i++) {
        if (!p->members[i].voter || !cluster_ids_have(&want->replicas, p->members[i].id)) {
            return false;
        }
    }
    return true;
}

bool controller_ready(const struct controller *k)
{
    const struct roster *roster = &k->broker->roster;
    return k->leading && k->parts != NULL && roster->meta->group != NULL &&
           group_is_leader(roster->meta->group) && roster_current(roster);
}

/* --- Writing --- */

static void on_written(struct group_propose *req, int status)
{
    struct controller *k = req->data;
    struct conn *c = k->reply.conn;
    uint64_t correlation = k->reply.correlation;
    k->proposing = false;
    k->reply.conn = NULL;
    if (status != 0) {
        log_warn("meta_not_written", "reason=\"%s\"", error_name(status));
    }
    if (c == NULL) {
        return;
    }
    c->n_reads--;
    if (status == 0) {
        Weir__ClusterChanged m = WEIR__CLUSTER_CHANGED__INIT;
        m.offset = req->base.v;
        broker_conn_reply(c, BROKER_CLUSTER_CHANGED, correlation, &m.base);
    } else {
        broker_conn_reply_error(c, correlation, status, error_name(status), k->broker->roster.meta);
    }
    broker_conn_settle(c);
}

static void begin(struct controller *k, struct batch_builder *builder)
{
    bytes_reset(&k->batch);
    batch_begin(builder, &k->batch, env_wall_ms(k->broker->env));
}

static void put(struct controller *k, struct batch_builder *builder, const struct cluster_record *r)
{
    int rv = bytes_error(&r->key) != 0 ? bytes_error(&r->key) : bytes_error(&r->value);
    if (rv != 0) {
        k->batch.error = rv;
        return;
    }
    batch_add(builder, env_wall_ms(k->broker->env), r->key.data, r->key.len, r->value.data,
              r->value.len);
}

static int propose(struct controller *k, struct batch_builder *builder)
{
    int size = batch_finish(builder);
    if (size < 0) {
        return size;
    }
    k->propose.data = k;
    k->proposing = true;
    int rv = group_propose(k->broker->roster.meta->group, &k->propose, k->batch.data, (size_t)size,
                           on_written);
    k->proposing = rv == 0;
    return rv;
}

int controller_write(struct controller *k, const struct cluster_record *record,
                     const struct controller_reply *reply)
{
    struct batch_builder builder;
    if (!controller_ready(k)) {
        return WEIR_ENOTLEADER;
    }
    if (k->proposing) {
        return WEIR_EBUSY;
    }
    begin(k, &builder);
    put(k, &builder, record);
    int rv = propose(k, &builder);
    if (rv == 0 && reply != NULL) {
        k->reply = *reply;
        k->reply.conn->n_reads++;
    }
    return rv;
}

/* --- Founding --- */

static const struct replica *replica_at(const struct controller *k, uint32_t index)
{
    return &k->broker->replicas[index];
}

static void put_nodes(struct controller *k, struct batch_builder *builder, struct cluster_record *r)
{
    const struct cluster *c = &k->broker->roster.cluster;
    for (unsigned i = 0; i < c->n_nodes; i++) {
        cluster_put_node(r, &c->nodes[i]);
        put(k, builder, r);
    }
}

/* As much as fits into a batch; with the last one the cluster's id. */
static void found_more(struct controller *k)
{
    const struct cluster *c = &k->broker->roster.cluster;
    struct batch_builder builder;
    struct cluster_record r;
    uint32_t at = k->founding_next;
    while (k->founding_id == 0) {
        k->founding_id = env_random_u64(k->broker->env);
    }
    cluster_record_init(&r);
    begin(k, &builder);
    if (at == 0) {
        put_nodes(k, &builder, &r);
    }
    for (; at < c->n_placements && k->batch.len < FOUNDING_BYTES; at++) {
        if ((int64_t)at != cluster_meta_index(c->config) && c->placements[at].replicas.n > 0) {
            cluster_put_placement(&r, replica_at(k, at)->topic->name, replica_at(k, at)->partition,
                                  &c->placements[at]);
            put(k, &builder, &r);
        }
    }
    if (at == c->n_placements) {
        cluster_put_cluster(&r, c, k->founding_id, NULL);
        put(k, &builder, &r);
    }
    if (propose(k, &builder) == 0) {
        k->founding_next = at < c->n_placements ? at : 0;
        log_info("cluster_founded", "nodes=%u partitions=%u of=%u", c->n_nodes, at,
                 c->n_placements);
    }
    cluster_record_close(&r);
}

/* --- Topics that come --- */

static const struct config_topic *next_topic(const struct controller *k)
{
    const struct cluster *c = &k->broker->roster.cluster;
    for (uint32_t i = 0; i < c->config->n_topics; i++) {
        if (cluster_topic(c, c->config->topics[i].name) == NULL) {
            return &c->config->topics[i];
        }
    }
    return NULL;
}

/* Nodes that can found groups now; false: too few, which is said once. */
static bool find_founders(struct controller *k, const char *topic, uint32_t *ids, unsigned *ret_n)
{
    const struct cluster *c = &k->broker->roster.cluster;
    unsigned n = cluster_log_nodes(c, ids), live = 0;
    unsigned wanted = n < c->replicas ? n : c->replicas;
    for (unsigned i = 0; i < n; i++) {
        if (controller_live(k, ids[i])) {
            ids[live++] = ids[i];
        }
    }
    if (live < wanted || c->n_topics == CLUSTER_TOPICS_MAX) {
        if (!k->topic_waits) {
            log_warn("topic_waits", "topic=%s live_nodes=%u wanted=%u topics=%u of=%d", topic, live,
                     wanted, c->n_topics, CLUSTER_TOPICS_MAX);
        }
        k->topic_waits = true;
        return false;
    }
    *ret_n = live;
    return true;
}

/* What an earlier version has placed without a word stays where it is. */
static void put_new_placements(struct controller *k, struct batch_builder *builder,
                               struct cluster_record *r, const struct config_topic *t,
                               const uint32_t *ids, unsigned n)
{
    const struct cluster *c = &k->broker->roster.cluster;
    for (uint32_t i = 0; i < t->partitions; i++) {
        int64_t at = cluster_index(c->config, t->name, strlen(t->name), i);
        struct cluster_placement p = {0};
        if (at >= 0 && !c->placements[at].written) {
            placement_initial(ids, n, i, c->replicas, &p.replicas);
            p.founders = p.replicas;
            cluster_put_placement(r, t->name, i, &p);
            put(k, builder, r);
        }
    }
}

static bool add_topic(struct controller *k)
{
    const struct cluster *c = &k->broker->roster.cluster;
    const struct config_topic *t = next_topic(k);
    struct batch_builder builder;
    struct cluster_record r;
    uint32_t ids[CLUSTER_NODES_MAX];
    unsigned n = 0;
    if (t == NULL || !find_founders(k, t->name, ids, &n)) {
        return false;
    }
    cluster_record_init(&r);
    begin(k, &builder);
    put_new_placements(k, &builder, &r, t, ids, n);
    cluster_put_cluster(&r, c, c->id, t);
    put(k, &builder, &r);
    bool proposed = propose(k, &builder) == 0;
    cluster_record_close(&r);
    if (proposed) {
        k->topic_waits = false;
        log_info("topic_added", "topic=%s partitions=%u nodes=%u", t->name, t->partitions, n);
    }
    return proposed;
}

/* --- Moves --- */

/* A move that is over, or a group that has begun. */
static bool end_of(const struct controller *k, uint32_t index, struct cluster_placement *ret)
{
    const struct part_seen *seen = &k->parts[index];
    *ret = k->broker->roster.cluster.placements[index];
    if (ret->leaving.n > 0 && controller_part_is_placed(k, index)) {
        ret->leaving.n = 0;
        return true;
    }
    if (ret->founders.n > 0 && fresh(k, seen) && seen->settled) {
        ret->founders.n = 0;
        return true;
    }
    return false;
}

static bool end_moves(struct controller *k)
{
    const struct cluster *c = &k->broker->roster.cluster;
    struct batch_builder builder;
    struct cluster_record r;
    unsigned n = 0;
    cluster_record_init(&r);
    begin(k, &builder);
    for (uint32_t i = 0; i < c->n_placements && n < ENDED_MAX; i++) {
        struct cluster_placement p;
        if (end_of(k, i, &p)) {
            cluster_put_placement(&r, replica_at(k, i)->topic->name, replica_at(k, i)->partition,
                                  &p);
            put(k, &builder, &r);
            log_info(c->placements[i].founders.n > 0 ? "partition_begun" : "move_ended",
                     "topic=%s partition=%u", replica_at(k, i)->topic->name,
                     replica_at(k, i)->partition);
            n++;
        }
    }
    cluster_record_close(&r);
    return n > 0 && propose(k, &builder) == 0;
}

bool controller_replicas_uneven(const struct controller *k)
{
    struct cluster_placement p;
    return placement_next(&k->broker->roster.cluster, controller_usable, k, &p) >= 0;
}

static bool begin_move(struct controller *k)
{
    const struct cluster *c = &k->broker->roster.cluster;
    struct cluster_placement p;
    if (placement_moving(c) >= CONTROLLER_MOVES_MAX) {
        return false;
    }
    int64_t at = placement_next(c, controller_usable, k, &p);
    if (at < 0) {
        return false;
    }
    const struct replica *r = replica_at(k, (uint32_t)at);
    struct cluster_record record;
    cluster_record_init(&record);
    cluster_put_placement(&record, r->topic->name, r->partition, &p);
    int rv = controller_write(k, &record, NULL);
    cluster_record_close(&record);
    if (rv == 0) {
        log_info("move_begun", "topic=%s partition=%u leaving=%u", r->topic->name, r->partition,
                 p.leaving.n > 0 ? p.leaving.at[p.leaving.n - 1] : 0);
    }
    return rv == 0;
}

/* --- Leaders --- */

static void fill_lead(const struct controller *k, uint32_t index, struct placement_lead *lead)
{
    const struct cluster *c = &k->broker->roster.cluster;
    const struct part_seen *p = &k->parts[index];
    *lead = (struct placement_lead){.leader = fresh(k, p) ? p->leader : 0, .movable = p->settled};
    for (unsigned i = 0; i < p->n_members; i++) {
        const struct part_member *m = &p->members[i];
        const struct cluster_node *node = cluster_node(c, m->id);
        if (m->id != p->leader && m->voter && m->connected && m->lag < 1024 && node != NULL &&
            node->state == CLUSTER_ACTIVE && controller_usable(k, m->id)) {
            cluster_ids_add(&lead->candidates, m->id);
        }
    }
}

bool controller_next_lead(const struct controller *k, uint32_t *ret_index, uint32_t *ret_target)
{
    const struct cluster *c = &k->broker->roster.cluster;
    struct placement_lead *leads = calloc(c->n_placements + 1, sizeof(*leads));
    uint32_t ids[CLUSTER_NODES_MAX], usable[CLUSTER_NODES_MAX];
    unsigned n = cluster_log_nodes(c, ids), n_usable = 0;
    if (leads == NULL) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        if (controller_usable(k, ids[i])) {
            usable[n_usable++] = ids[i];
        }
    }
    for (uint32_t i = 0; i < c->n_placements; i++) {
        fill_lead(k, i, &leads[i]);
    }
    bool found =
        placement_lead_next(leads, c->n_placements, usable, n_usable, 1, ret_index, ret_target);
    free(leads);
    return found;
}

static void balance(struct controller *k, uint64_t now_ns)
{
    uint32_t index = 0, target = 0;
    if (now_ns < k->balance_ns || !controller_next_lead(k, &index, &target)) {
        return;
    }
    const struct replica *r = replica_at(k, index);
    k->balance_ns = now_ns + BALANCE_NS;
    log_info("lead_moves", "topic=%s partition=%u from=%u to=%u", r->topic->name, r->partition,
             k->parts[index].leader, target);
    report_hand_over(k->broker, k->parts[index].leader, r->group_id, target);
    k->parts[index].settled = false; /* until it is heard of again */
}

void controller_balance_now(struct controller *k)
{
    k->balance_ns = 0;
}

/* --- The loop --- */

static void change_leading(struct controller *k, bool leading, uint64_t now_ns)
{
    free(k->parts);
    k->parts = NULL;
    k->n_nodes = 0;
    k->founding_id = 0;
    k->founding_next = 0;
    k->topic_waits = false;
    k->leading = leading;
    k->since_ns = now_ns;
    k->balance_ns = now_ns + SETTLE_NS;
    k->broker->reported_ns = 0; /* our own report at once */
    if (leading) {
        log_info("controller_started", "node=%s", k->broker->self->name);
    }
}

void controller_tick(struct controller *k, uint64_t now_ns)
{
    struct broker *b = k->broker;
    const struct roster *roster = &b->roster;
    bool leading =
        roster->meta != NULL && roster->meta->group != NULL && group_is_leader(roster->meta->group);
    if (leading != k->leading) {
        change_leading(k, leading, now_ns);
    }
    if (!leading || now_ns < k->next_ns) {
        return;
    }
    k->next_ns = now_ns + TICK_NS;
    if (k->parts == NULL) {
        k->parts = calloc(b->n_replicas, sizeof(*k->parts));
    }
    if (!controller_ready(k) || k->proposing) {
        return;
    }
    if (!roster->known) {
        found_more(k);
    } else if (controller_settled(k) && !end_moves(k) && !add_topic(k) && !begin_move(k) &&
               placement_moving(&roster->cluster) == 0) {
        balance(k, now_ns);
    }
}
