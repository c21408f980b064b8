#include "nodes/broker/cluster.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shard.h"
#include "nodes/broker/placement.h"
#include "proto/messages.h"
#include "proto/meta.pb-c.h"

#define ADDRESS_TEXT_MAX (sizeof(((struct config_address *)0)->host) + 16)

/* --- Ids --- */

bool cluster_ids_have(const struct cluster_ids *ids, uint32_t id)
{
    for (unsigned i = 0; i < ids->n; i++) {
        if (ids->at[i] == id) {
            return true;
        }
    }
    return false;
}

bool cluster_ids_equal(const struct cluster_ids *a, const struct cluster_ids *b)
{
    return a->n == b->n && memcmp(a->at, b->at, a->n * sizeof(a->at[0])) == 0;
}

void cluster_ids_add(struct cluster_ids *ids, uint32_t id)
{
    if (ids->n < CLUSTER_REPLICAS_MAX && !cluster_ids_have(ids, id)) {
        ids->at[ids->n++] = id;
    }
}

void cluster_ids_remove(struct cluster_ids *ids, uint32_t id)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ids->n; i++) {
        if (ids->at[i] != id) {
            ids->at[n++] = ids->at[i];
        }
    }
    ids->n = n;
}

/* False: too many, zero, or one twice. */
static bool ids_take(struct cluster_ids *out, const uint32_t *from, size_t n)
{
    out->n = 0;
    if (n > CLUSTER_REPLICAS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (from[i] == 0 || cluster_ids_have(out, from[i])) {
            return false;
        }
        out->at[out->n++] = from[i];
    }
    return true;
}

/* --- Looking --- */

/* Position of `id`, or where it belongs. */
static unsigned node_position(const struct cluster *c, uint32_t id)
{
    unsigned i = 0;
    while (i < c->n_nodes && c->nodes[i].node.id < id) {
        i++;
    }
    return i;
}

const struct cluster_node *cluster_node(const struct cluster *c, uint32_t id)
{
    unsigned i = node_position(c, id);
    return i < c->n_nodes && c->nodes[i].node.id == id ? &c->nodes[i] : NULL;
}

const struct cluster_node *cluster_node_named(const struct cluster *c, const char *name)
{
    const struct cluster_node *removed = NULL;
    for (unsigned i = 0; i < c->n_nodes; i++) {
        if (strcmp(c->nodes[i].node.name, name) == 0) {
            if (c->nodes[i].state != CLUSTER_REMOVED) {
                return &c->nodes[i];
            }
            removed = &c->nodes[i];
        }
    }
    return removed;
}

unsigned cluster_log_nodes(const struct cluster *c, uint32_t ret_ids[CLUSTER_NODES_MAX])
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_nodes; i++) {
        if (c->nodes[i].state == CLUSTER_ACTIVE && !c->nodes[i].node.no_log) {
            ret_ids[n++] = c->nodes[i].node.id;
        }
    }
    return n;
}

const struct cluster_topic *cluster_topic(const struct cluster *c, const char *name)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        if (strcmp(c->topics[i].name, name) == 0) {
            return &c->topics[i];
        }
    }
    return NULL;
}

bool cluster_topic_differs(const struct cluster *c, const struct config_topic *topic)
{
    const struct cluster_topic *t = cluster_topic(c, topic->name);
    return t != NULL && t->partitions != topic->partitions;
}

int64_t cluster_index(const struct config *config, const char *topic, size_t topic_len,
                      uint32_t partition)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < config->n_topics; i++) {
        const struct config_topic *t = &config->topics[i];
        if (strlen(t->name) == topic_len && memcmp(t->name, topic, topic_len) == 0) {
            return partition < t->partitions ? (int64_t)first + partition : -1;
        }
        first += t->partitions;
    }
    return -1;
}

int64_t cluster_meta_index(const struct config *config)
{
    return cluster_index(config, CLUSTER_META_TOPIC, strlen(CLUSTER_META_TOPIC), 0);
}

bool cluster_is_drained(const struct cluster *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->n_placements; i++) {
        if ((int64_t)i != cluster_meta_index(c->config) &&
            (cluster_ids_have(&c->placements[i].replicas, id) ||
             cluster_ids_have(&c->placements[i].leaving, id))) {
            return false;
        }
    }
    return true;
}

/* --- The beginning --- */

static bool node_set(struct cluster *c, const struct cluster_node *n)
{
    unsigned at = node_position(c, n->node.id);
    if (at < c->n_nodes && c->nodes[at].node.id == n->node.id) {
        c->nodes[at] = *n;
        return true;
    }
    if (c->n_nodes == CLUSTER_NODES_MAX) {
        return false;
    }
    memmove(&c->nodes[at + 1], &c->nodes[at], (c->n_nodes - at) * sizeof(c->nodes[0]));
    c->nodes[at] = *n;
    c->n_nodes++;
    return true;
}

bool cluster_add_node(struct cluster *c, const struct config_node *node)
{
    return node_set(c, &(struct cluster_node){.node = *node, .state = CLUSTER_ACTIVE});
}

static void place_all(struct cluster *c)
{
    uint32_t ids[CLUSTER_NODES_MAX], at = 0;
    unsigned n = cluster_log_nodes(c, ids);
    for (uint32_t i = 0; i < c->config->n_topics; i++) {
        const struct config_topic *t = &c->config->topics[i];
        bool meta = strcmp(t->name, CLUSTER_META_TOPIC) == 0;
        unsigned replicas = meta ? CLUSTER_META_VOTERS : c->replicas;
        for (uint32_t k = 0; k < t->partitions; k++) {
            placement_initial(ids, n, k, replicas, &c->placements[at++].replicas);
        }
    }
}

int cluster_found(struct cluster *c, const struct config *config, struct error *err)
{
    memset(c, 0, sizeof(*c));
    c->config = config;
    c->replicas = config->log_replicas != 0 ? config->log_replicas : 3;
    c->shards = config->log_shards != 0 ? config->log_shards : 1;
    for (uint32_t i = 0; i < config->n_topics; i++) {
        c->n_placements += config->topics[i].partitions;
    }
    c->placements = calloc(c->n_placements + 1, sizeof(*c->placements));
    if (c->placements == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for %u placements", c->n_placements);
    }
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        (void)cluster_add_node(c, &config->nodes[i]);
    }
    if (config->cluster_join == 0) {
        place_all(c);
    }
    return 0;
}

void cluster_close(struct cluster *c)
{
    free(c->placements);
    c->placements = NULL;
    c->n_placements = 0;
}

/* --- The fold --- */

static bool address_take(struct config_address *out, const char *text)
{
    return config_address_parse(text, out, NULL) == 0;
}

/* Topics come and stay as they are. */
static bool topics_good(const struct cluster *c, const Weir__MetaCluster *m)
{
    unsigned known = 0;
    if (m->n_topics > CLUSTER_TOPICS_MAX) {
        return false;
    }
    for (size_t i = 0; i < m->n_topics; i++) {
        const Weir__MetaTopic *t = m->topics[i];
        if (t->name[0] == '\0' || strlen(t->name) >= CONFIG_NAME_MAX || t->partitions == 0) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(m->topics[k]->name, t->name) == 0) {
                return false;
            }
        }
        const struct cluster_topic *was = cluster_topic(c, t->name);
        if (was != NULL && was->partitions != t->partitions) {
            return false;
        }
        known += was != NULL;
    }
    return known == c->n_topics;
}

static void take_topics(struct cluster *c, const Weir__MetaCluster *m)
{
    c->n_topics = (unsigned)m->n_topics;
    for (unsigned i = 0; i < c->n_topics; i++) {
        (void)snprintf(c->topics[i].name, sizeof(c->topics[i].name), "%s", m->topics[i]->name);
        c->topics[i].partitions = m->topics[i]->partitions;
    }
    for (uint32_t i = 0; i < c->n_placements; i++) {
        if (!c->placements[i].written && (int64_t)i != cluster_meta_index(c->config)) {
            c->placements[i] = (struct cluster_placement){0};
        }
    }
}

static bool fold_cluster(struct cluster *c, const uint8_t *value, size_t len)
{
    Weir__MetaCluster *m = weir__meta_cluster__unpack(NULL, len, value);
    bool good = m != NULL && m->version == CLUSTER_VERSION && m->id != 0 && m->replicas > 0 &&
                m->replicas <= CLUSTER_REPLICAS_MAX && m->shards <= SHARDS_MAX &&
                (c->id == 0 || c->id == m->id) && topics_good(c, m);
    if (good) {
        take_topics(c, m);
        c->id = m->id;
        c->replicas = m->replicas;
        c->shards = m->shards != 0 ? m->shards : 1;
    }
    weir__meta_cluster__free_unpacked(m, NULL);
    return good;
}

static bool fold_node(struct cluster *c, uint32_t id, const uint8_t *value, size_t len)
{
    struct cluster_node n = {0};
    Weir__MetaNode *m = weir__meta_node__unpack(NULL, len, value);
    bool good = m != NULL && m->id == id && id != 0 && m->name[0] != '\0' &&
                strlen(m->name) < sizeof(n.node.name) &&
                m->state >= WEIR__META_NODE_STATE__META_NODE_ACTIVE &&
                m->state <= WEIR__META_NODE_STATE__META_NODE_REMOVED &&
                address_take(&n.node.peer, m->peer) && address_take(&n.node.broker, m->broker) &&
                address_take(&n.node.http, m->http) && address_take(&n.node.rtmp, m->rtmp) &&
                (m->internal[0] == '\0' || address_take(&n.node.internal, m->internal));
    if (good) {
        config_default_internal(&n.node);
        n.node.id = id;
        n.node.no_log = m->no_log != 0;
        n.state = (enum cluster_state)m->state;
        (void)snprintf(n.node.name, sizeof(n.node.name), "%s", m->name);
        good = node_set(c, &n);
    }
    weir__meta_node__free_unpacked(m, NULL);
    return good;
}

/* `where` is TOPIC/PARTITION. */
static bool fold_placement(struct cluster *c, const char *where, const uint8_t *value, size_t len)
{
    struct cluster_placement p = {.written = true};
    const char *slash = strrchr(where, '/');
    if (slash == NULL || slash[1] < '0' || slash[1] > '9') {
        return false;
    }
    char *end;
    unsigned long partition = strtoul(slash + 1, &end, 10);
    int64_t at = *end == '\0' && partition <= UINT32_MAX
                     ? cluster_index(c->config, where, (size_t)(slash - where), (uint32_t)partition)
                     : -1;
    Weir__MetaPlacement *m = weir__meta_placement__unpack(NULL, len, value);
    bool good = at >= 0 && at != cluster_meta_index(c->config) && m != NULL && m->n_replicas > 0 &&
                ids_take(&p.replicas, m->replicas, m->n_replicas) &&
                ids_take(&p.leaving, m->leaving, m->n_leaving) &&
                ids_take(&p.founders, m->founders, m->n_founders);
    for (unsigned i = 0; good && i < p.leaving.n; i++) {
        good = !cluster_ids_have(&p.replicas, p.leaving.at[i]);
    }
    for (unsigned i = 0; good && i < p.founders.n; i++) {
        good = cluster_ids_have(&p.replicas, p.founders.at[i]);
    }
    if (good) {
        c->placements[at] = p;
    }
    weir__meta_placement__free_unpacked(m, NULL);
    return good;
}

static bool fold_keyed(struct cluster *c, const char *key, const uint8_t *value, size_t len)
{
    char *end;
    if (strcmp(key, "cluster") == 0) {
        return fold_cluster(c, value, len);
    }
    if (strncmp(key, "node/", 5) == 0 && key[5] >= '1' && key[5] <= '9') {
        unsigned long id = strtoul(key + 5, &end, 10);
        return *end == '\0' && id <= UINT32_MAX && fold_node(c, (uint32_t)id, value, len);
    }
    if (strncmp(key, "placement/", 10) == 0) {
        return fold_placement(c, key + 10, value, len);
    }
    return false;
}

bool cluster_fold(struct cluster *c, const struct batch_record *r)
{
    char key[CLUSTER_KEY_MAX];
    bool good = r->key_len > 0 && (size_t)r->key_len < sizeof(key) && r->value_len >= 0 &&
                r->value_len <= CLUSTER_VALUE_MAX * 4;
    if (good) {
        memcpy(key, r->key, (size_t)r->key_len);
        key[r->key_len] = '\0';
        good =
            strlen(key) == (size_t)r->key_len && fold_keyed(c, key, r->value, (size_t)r->value_len);
    }
    if (r->offset.v >= c->next) {
        c->next = r->offset.v + 1;
    }
    c->changes += good;
    c->n_void += !good;
    return good;
}

/* --- Records --- */

void cluster_record_init(struct cluster_record *r)
{
    bytes_init(&r->key, CLUSTER_KEY_MAX);
    bytes_init(&r->value, CLUSTER_VALUE_MAX);
}

void cluster_record_close(struct cluster_record *r)
{
    bytes_close(&r->key);
    bytes_close(&r->value);
}

static void put_key(struct cluster_record *r, const char *key)
{
    bytes_reset(&r->key);
    bytes_reset(&r->value);
    bytes_put(&r->key, key, strlen(key));
}

/* protobuf-c's structs want char *; what is packed is only read. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static_assert(CONFIG_TOPICS_MAX <= CLUSTER_TOPICS_MAX, "a founding cluster's topics fit");

struct topic_memory {
    Weir__MetaTopic topics[CLUSTER_TOPICS_MAX], *list[CLUSTER_TOPICS_MAX];
    unsigned n;
};

static void put_topic(struct topic_memory *m, const char *name, uint32_t partitions)
{
    if (m->n < CLUSTER_TOPICS_MAX) {
        Weir__MetaTopic *t = &m->topics[m->n];
        weir__meta_topic__init(t);
        t->name = text(name);
        t->partitions = partitions;
        m->list[m->n++] = t;
    }
}

void cluster_put_cluster(struct cluster_record *r, const struct cluster *c, uint64_t id,
                         const struct config_topic *more)
{
    Weir__MetaCluster m = WEIR__META_CLUSTER__INIT;
    struct topic_memory topics = {.n = 0};
    for (uint32_t i = 0; i < c->config->n_topics && c->id == 0; i++) {
        put_topic(&topics, c->config->topics[i].name, c->config->topics[i].partitions);
    }
    for (unsigned i = 0; i < c->n_topics && c->id != 0; i++) {
        put_topic(&topics, c->topics[i].name, c->topics[i].partitions);
    }
    if (more != NULL) {
        put_topic(&topics, more->name, more->partitions);
    }
    m.version = CLUSTER_VERSION;
    m.id = id;
    m.replicas = c->replicas;
    m.shards = c->shards > 1 ? c->shards : 0;
    m.topics = topics.list;
    m.n_topics = topics.n;
    put_key(r, "cluster");
    message_pack(&r->value, &m.base);
}

static char *address_text(const struct config_address *a, char out[ADDRESS_TEXT_MAX])
{
    bool v6 = strchr(a->host, ':') != NULL;
    (void)snprintf(out, ADDRESS_TEXT_MAX, v6 ? "[%s]:%u" : "%s:%u", a->host, a->port);
    return out;
}

void cluster_put_node(struct cluster_record *r, const struct cluster_node *n)
{
    char key[CLUSTER_KEY_MAX], addresses[5][ADDRESS_TEXT_MAX];
    Weir__MetaNode m = WEIR__META_NODE__INIT;
    m.id = n->node.id;
    m.name = text(n->node.name);
    m.peer = address_text(&n->node.peer, addresses[0]);
    m.broker = address_text(&n->node.broker, addresses[1]);
    m.http = address_text(&n->node.http, addresses[2]);
    m.rtmp = address_text(&n->node.rtmp, addresses[3]);
    if (n->node.internal.port != 0) {
        m.internal = address_text(&n->node.internal, addresses[4]);
    }
    m.no_log = n->node.no_log;
    m.state = (Weir__MetaNodeState)n->state;
    (void)snprintf(key, sizeof(key), "node/%u", n->node.id);
    put_key(r, key);
    message_pack(&r->value, &m.base);
}

void cluster_put_placement(struct cluster_record *r, const char *topic, uint32_t partition,
                           const struct cluster_placement *p)
{
    char key[CLUSTER_KEY_MAX];
    Weir__MetaPlacement m = WEIR__META_PLACEMENT__INIT;
    struct cluster_placement copy = *p;
    m.replicas = copy.replicas.at;
    m.n_replicas = copy.replicas.n;
    m.leaving = copy.leaving.at;
    m.n_leaving = copy.leaving.n;
    m.founders = copy.founders.at;
    m.n_founders = copy.founders.n;
    (void)snprintf(key, sizeof(key), "placement/%s/%u", topic, partition);
    put_key(r, key);
    message_pack(&r->value, &m.base);
}
