/* Who holds what: pure functions, the same answer on every node. */
#ifndef NODES_BROKER_PLACEMENT_H
#define NODES_BROKER_PLACEMENT_H

#include "nodes/broker/cluster.h"

/* Partition k of a new cluster: nodes k, k+1, ... of `ids` (in the order of their ids), modulo n;
 * at most n replicas. */
void placement_initial(const uint32_t *ids, unsigned n, uint32_t partition, unsigned replicas,
                       struct cluster_ids *ret_replicas);

/* Partitions are counted by `replicas`: what is leaving goes anyway. A node that is not usable is
 * never chosen; `usable` tells by id (live). */
typedef bool (*placement_usable_cb)(const void *data, uint32_t node_id);

/* Partitions that may move at the same time: those with somebody leaving count. */
unsigned placement_moving(const struct cluster *c);

/* The next step that brings placements to where they should be: one partition's new placement.
 * First what has to leave a node that is draining or removed, or has fewer replicas than it should;
 * then, when nothing is moving, what evens out the number of replicas by more than one. Partitions
 * that are moving already, and that of `meta`, are left alone. -1: nothing to do, or nobody to take
 * it. */
int64_t placement_next(const struct cluster *c, placement_usable_cb usable, const void *data,
                       struct cluster_placement *ret_placement);

/* A partition as the balance of leaders sees it. */
struct placement_lead {
    uint32_t leader;               /* 0: none known */
    bool movable;                  /* settled, and `candidates` are known */
    struct cluster_ids candidates; /* caught up, live, active: may lead; without the leader */
};
/* The one transfer that evens leaders out best: *ret_partition to *ret_target. Nodes that are not
 * among `ids` should lead nothing: they come first. False: balanced as far as can be. `tolerance`
 * is the difference of two nodes that is left alone (1 at least: it always ends). */
bool placement_lead_next(const struct placement_lead *leads, uint32_t n, const uint32_t *ids,
                         unsigned n_ids, unsigned tolerance, uint32_t *ret_partition,
                         uint32_t *ret_target);

#endif
