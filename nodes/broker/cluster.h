/* What the cluster is: its nodes and which of them hold which partition, as the fold of the records
 * of the topic `meta` (proto/meta.proto). The same on every node at the same offset. Before the
 * first record it is what the configuration says (cluster_found): pure, so that the nodes that
 * found a cluster agree without a word.
 *
 * A record that makes no sense is void: it is counted and changes nothing. Bounded: CLUSTER_NODES
 * _MAX nodes, removed ones included; one placement per partition of the configured topics. No env,
 * no thread of its own; one thread at a time. */
#ifndef NODES_BROKER_CLUSTER_H
#define NODES_BROKER_CLUSTER_H

#include "base/bytes.h"
#include "base/config.h"
#include "log/batch.h"

#define CLUSTER_NODES_MAX    64
#define CLUSTER_REPLICAS_MAX 7
#define CLUSTER_TOPICS_MAX   48 /* that there ever were */
#define CLUSTER_VERSION      1
#define CLUSTER_META_TOPIC   CONFIG_TOPIC_META
#define CLUSTER_META_VOTERS  5 /* of the partition of `meta`; all other log nodes stand by */
#define CLUSTER_KEY_MAX      128
#define CLUSTER_VALUE_MAX    4096

enum cluster_state { CLUSTER_ACTIVE = 1, CLUSTER_DRAINING = 2, CLUSTER_REMOVED = 3 };

struct cluster_node {
    struct config_node node;
    enum cluster_state state;
};

struct cluster_ids {
    uint32_t at[CLUSTER_REPLICAS_MAX];
    unsigned n;
};

struct cluster_placement {
    struct cluster_ids replicas; /* n is 0: not known */
    struct cluster_ids leaving;
    struct cluster_ids founders; /* who is to begin the group; empty: it has begun, or is one of
                                    those that the cluster was founded with */
    bool written;                /* by a record */
};

struct cluster_topic {
    char name[CONFIG_NAME_MAX];
    uint32_t partitions;
};

struct cluster {
    const struct config *config; /* its topics; borrowed */
    uint64_t id;                 /* 0: not founded, or not known */
    uint32_t replicas;
    uint32_t shards;                              /* of a node (base/shard.h) */
    struct cluster_node nodes[CLUSTER_NODES_MAX]; /* by id */
    unsigned n_nodes;
    struct cluster_topic topics[CLUSTER_TOPICS_MAX]; /* as written, configured here or not */
    unsigned n_topics;
    struct cluster_placement *placements; /* in the order of the configuration's topics */
    uint32_t n_placements;
    int64_t next;     /* offset in `meta` of the first record that is not folded */
    uint64_t changes; /* counts the records that changed something */
    uint64_t n_void;
};

/* Takes over what the configuration says: its nodes are active; unless this node joins a running
 * cluster partitions are placed by placement_initial. WEIR_ENOMEM. */
int cluster_found(struct cluster *c, const struct config *config, struct error *err);
void cluster_close(struct cluster *c);

/* An active node, as the configuration names it. False: too many. */
bool cluster_add_node(struct cluster *c, const struct config_node *node);
/* Folds one record. True when it changed something. Once the cluster is founded placements are what
 * is written: partitions of which nothing is, because their topic is new in the configuration, are
 * placed nowhere. */
bool cluster_fold(struct cluster *c, const struct batch_record *record);

/* Any state; NULL: unknown. */
const struct cluster_node *cluster_node(const struct cluster *c, uint32_t id);
const struct cluster_node *cluster_node_named(const struct cluster *c, const char *name);
/* Active, and with the log role: what partitions may be placed on. Returns how many. */
unsigned cluster_log_nodes(const struct cluster *c, uint32_t ret_ids[CLUSTER_NODES_MAX]);
/* As written; NULL: the cluster has no such topic (yet). */
const struct cluster_topic *cluster_topic(const struct cluster *c, const char *name);
/* The cluster has it with another number of partitions: it can't be served as it is configured. */
bool cluster_topic_differs(const struct cluster *c, const struct config_topic *topic);
/* Index into placements; -1: no such partition. */
int64_t cluster_index(const struct config *config, const char *topic, size_t topic_len,
                      uint32_t partition);
/* Of the partition of `meta`; -1: there is none. Its placement counts only for those that found the
 * cluster: afterwards every log node has it. */
int64_t cluster_meta_index(const struct config *config);
bool cluster_ids_have(const struct cluster_ids *ids, uint32_t id);
bool cluster_ids_equal(const struct cluster_ids *a, const struct cluster_ids *b);
void cluster_ids_add(struct cluster_ids *ids, uint32_t id);
/* The order of the others stays. */
void cluster_ids_remove(struct cluster_ids *ids, uint32_t id);
/* No partition is on it, or on its way from it. */
bool cluster_is_drained(const struct cluster *c, uint32_t id);

/* Key and value of a record, appended; errors stick. */
struct cluster_record {
    struct bytes key, value;
};
void cluster_record_init(struct cluster_record *r);
void cluster_record_close(struct cluster_record *r);
/* With the topics that are written, and one more (may be NULL); before the cluster is founded with
 * those of the configuration. */
void cluster_put_cluster(struct cluster_record *r, const struct cluster *c, uint64_t id,
                         const struct config_topic *more);
void cluster_put_node(struct cluster_record *r, const struct cluster_node *n);
void cluster_put_placement(struct cluster_record *r, const char *topic, uint32_t partition,
                           const struct cluster_placement *p);

#endif
