/* A node's side of what the cluster is: folds the committed records of `meta` from this node's own
 * replica, keeps what it learned in a file, and does what it says here: peers of the transport
 * come and go, replicas are opened and closed, clients that watch are told.
 *
 * Where a node has several shards, the first one does this for all: the others act upon a copy of
 * what it has folded, which it hands over when its file is on disk (hub.h).
 *
 * A replica that is not to be here any more is closed and its files are deleted, in this order: the
 * leader of its group has removed this node from the group (reconcile.c), the leader of `meta` has
 * written that nobody is leaving (controller.c), this node's file says so, the files go. A crash in
 * between goes on at the next start. Loop thread. */
#ifndef NODES_BROKER_ROSTER_H
#define NODES_BROKER_ROSTER_H

#include "base/env.h"
#include "nodes/broker/cluster.h"

struct broker;
struct replica;

struct roster {
    struct broker *broker;
    struct cluster cluster;
    uint64_t cluster_id;  /* learned from a peer or from `meta`; 0: not known */
    bool known;           /* `cluster` is not only what the configuration says */
    struct replica *meta; /* NULL: no such topic: nothing ever changes */
    struct bytes batches;
    struct env_defer fold;
    uint64_t done_changes; /* of cluster.changes that were acted upon */
    uint64_t done_ns;
    bool unsaved;
    bool unpublished; /* the other shards have to be told */
    /* Not NULL: `meta` from its begin on. Topics are new in this node's configuration, and what is
     * written of them lies before what the file holds. */
    struct cluster *again;
    bool told_removed;
    uint64_t told_differs; /* topics, as bits */
    char path[CONFIG_PATH_MAX + 32];
};

/* Loads the file, if there is one. Before the transport and the replicas are opened. */
int roster_open(struct roster *m, struct broker *b, struct error *err);
/* The replicas exist (not opened yet): which of them are wanted. */
void roster_place(struct roster *m);
void roster_close(struct roster *m);

/* Of a shard but the first: there is something newer in the hub. */
void roster_follow(struct roster *m);
/* A peer knew the cluster's id. */
void roster_learned(void *data, uint64_t cluster_id);
/* `meta` has more that is committed. */
void roster_news(struct roster *m);
/* Ten times a second: what could not be done at once. */
void roster_tick(struct roster *m, uint64_t now_ns);
/* All that is committed in `meta`, as far as this node knows, is folded. */
bool roster_current(const struct roster *m);
/* This node's own line; NULL: not a member (yet). */
const struct cluster_node *roster_self(const struct roster *m);
/* What an opened group is told of its members. */
unsigned roster_voters(const struct roster *m, const struct replica *r,
                       uint32_t ret_ids[CLUSTER_NODES_MAX]);

#endif
