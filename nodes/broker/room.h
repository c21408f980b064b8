/* Room on disk. A node with less than log.free_mib_min free takes no records for what it leads, so
 * it had better lead nothing: it hands over to replicas whose nodes have told that they have room.
 * Where no majority of a partition's voters has room nothing moves, and produce is refused with
 * WEIR_ENOSPC by whoever leads: what is left of their disks would be eaten up by following, and
 * then nothing be committed.
 *
 *   full      less than the limit is free; until a quarter more than the limit is
 *   told      to every peer, twice a second and when it changes (Room of proto/meta.proto); what
 *             was told counts for 3 s and while the link stands. Who tells nothing, a node of an
 *             earlier version, is handed nothing
 *   handed    by reconcile.c, ten times a second: to a voter with room that has caught up, the
 *             partitions of a node to all of them in turn
 *   taken     a node that is full takes no leadership, and campaigns last, while another voter of
 *             the group that is there has room (group_set_unfit)
 *   balance   the controller gives nothing to a node that reports itself full (controller.c)
 *
 * Leading takes no more room than following, so a hand-over does not fill the disk it goes to
 * sooner. Loop thread. */
#ifndef NODES_BROKER_ROOM_H
#define NODES_BROKER_ROOM_H

#include "consensus/group.h"
#include "nodes/broker/cluster.h"
#include "proto/meta.pb-c.h"

struct broker;
struct replica;

struct room {
    bool full, below; /* this node's disk */
    uint64_t told_ns;
    struct room_peer {
        uint32_t id;
        bool full, below;
        uint64_t heard_ns;
    } peers[CLUSTER_NODES_MAX];
    unsigned n_peers;
};

/* Full with so many bytes free, having been so or not; pure. */
bool room_is_full(bool was, uint64_t free_bytes, uint64_t free_bytes_min);
/* Looks at the disk. */
void room_look(struct broker *b);
/* Ten times a second: looks, tells the others, and the groups. */
void room_tick(struct broker *b, uint64_t now_ns);
/* A peer has told. */
void room_take(struct broker *b, uint32_t peer_id, const Weir__Room *m);
/* It has told lately that it has room. */
bool room_of(const struct broker *b, uint32_t node_id);
/* Of the voters, this node among them or not, so many are below the limit that the others are no
 * majority. */
bool room_is_scarce(const struct broker *b, const struct group_member *members, unsigned n);
/* What a batch is refused with that this leader's disk has no room for: WEIR_EBUSY, try again, when
 * another one is to lead in a moment. */
int room_refusal(struct replica *r);

#endif
