/* The leader of `meta` is the controller: it writes down a new cluster, decides what moves where,
 * notices when a move is done, and evens out leaders. All it decides is a record of `meta`; what
 * it knows beside that (who leads what, who lives) comes with the nodes' reports and is made anew
 * by the next controller. A controller that dies leaves nothing half done: groups are brought to
 * the written placement by their own leaders (reconcile.c). Loop thread.
 *
 *   founding       nodes, placements, and last the cluster record with its id
 *   a topic        of this node's configuration that the cluster does not have: placements with
 *                  founders over nodes that live, and the cluster record with the topic
 *   its beginning  a leader is reported: nobody is to found the group any more
 *   a move         placement with the new replica in and the old one leaving, a few at a time
 *   a move's end   the leader reports exactly the wanted members: nobody is leaving any more
 *   balance        replicas and leaders by at most one apart, one at a time */
#ifndef NODES_BROKER_CONTROLLER_H
#define NODES_BROKER_CONTROLLER_H

#include "consensus/group.h"
#include "nodes/broker/cluster.h"
#include "nodes/broker/placement.h"
#include "proto/meta.pb-c.h"

#define CONTROLLER_MOVES_MAX 4 /* partitions that move at the same time */

struct broker;
struct conn;

/* What a node last said. */
struct node_seen {
    uint32_t id;
    uint64_t heard_ns;
    uint64_t disk_free_bytes;
    uint32_t disk_bad, disk_full; /* bit per shard that says so */
};

/* What the leader of a partition last said. */
struct part_seen {
    uint32_t leader;
    uint64_t term, heard_ns;
    bool settled;
    uint32_t sequence;
    struct part_member {
        uint32_t id;
        bool voter, connected;
        uint64_t lag;
    } members[CLUSTER_REPLICAS_MAX + 2];
    unsigned n_members;
};

/* An administrator's request whose record is on its way. */
struct controller_reply {
    struct conn *conn; /* NULL: none */
    uint64_t correlation;
};

struct controller {
    struct broker *broker;
    bool leading;
    uint64_t since_ns; /* leading */
    struct node_seen nodes[CLUSTER_NODES_MAX];
    unsigned n_nodes;
    struct part_seen *parts; /* as the broker's replicas; NULL: not leading */
    uint64_t founding_id;
    uint32_t founding_next; /* placement to be written next */
    bool topic_waits;       /* said once */
    struct group_propose propose;
    struct bytes batch;
    bool proposing;
    struct controller_reply reply;
    uint64_t next_ns, balance_ns;
};

void controller_open(struct controller *k, struct broker *b);
void controller_close(struct controller *k);
/* Ten times a second. */
void controller_tick(struct controller *k, uint64_t now_ns);
/* The report of a node's shard. */
void controller_take(struct controller *k, uint32_t node_id, uint32_t shard,
                     const Weir__Report *report);
/* This node leads `meta`, knows all of it, and can write. */
bool controller_ready(const struct controller *k);
bool controller_live(const struct controller *k, uint32_t node_id);
/* It has led for long enough to have heard of everybody who lives. */
bool controller_settled(const struct controller *k);
const struct part_seen *controller_part(const struct controller *k, uint32_t index);
/* What a partition's members should be, and are. */
bool controller_part_is_placed(const struct controller *k, uint32_t index);
/* The next transfer that evens out leaders; false: none. */
bool controller_next_lead(const struct controller *k, uint32_t *ret_index, uint32_t *ret_target);
/* Replicas would be moved, if they could be. */
bool controller_replicas_uneven(const struct controller *k);
/* Writes one record; `reply` (may be NULL) is answered when it is committed. WEIR_EBUSY. */
int controller_write(struct controller *k, const struct cluster_record *record,
                     const struct controller_reply *reply);
/* Leaders may be moved at once. */
void controller_balance_now(struct controller *k);

#endif
