/* Three real nodes (transport, one group, partition on disk) on one libuv loop and loopback.
 *
 * Their clock stands still while the machine does: leadership, which the tests take for granted as
 * long as nobody takes it away, is not lost because a process waits for its turn or for a sync. */
#ifndef TESTS_CONSENSUS_CLUSTER_H
#define TESTS_CONSENSUS_CLUSTER_H

#include <uv.h>

#include "base/env_ops.h"
#include "base/env_uv.h"
#include "consensus/group.h"

#define CLUSTER_NODES 3

struct cluster;

struct cluster_node {
    struct cluster *cluster;
    uint32_t id;
    struct env *env;
    struct transport *transport;
    struct vote_log *votes;
    struct group *group;
    uint16_t port;
    bool group_closed, transport_closed;
    bool disk_stuck;
    bool (*disk_sticks)(struct cluster *c);
    struct list stuck; /* env_io that the stuck disk owes an answer */
    struct env_ops ops;
    const struct env_ops *ops_below;
    unsigned failures;
    struct error failure;
};

struct cluster {
    uv_loop_t loop;
    uint64_t clock_ns, looked_ns;
    struct list requests; /* that the disks work at */
    char dir[64];
    const char *secret[CLUSTER_NODES + 1];
    unsigned shard[CLUSTER_NODES + 1], n_shards[CLUSTER_NODES + 1]; /* 0, one */
    uint64_t cluster_id[CLUSTER_NODES + 1];                         /* 0: learned */
    uint64_t inflight_bytes_max, free_bytes_min;
    uint64_t retain_ms, retain_bytes, segment_bytes;
    struct group_pace pace; /* of all nodes together */
    bool compact;
    unsigned keys, keys_from; /* records' keys are 50 from keys_from on */
    bool tombstones;          /* all records are */
    unsigned n_founders;      /* nodes 1..n found the group; the others join it */
    struct cluster_node nodes[CLUSTER_NODES + 1];
    unsigned acked, unknown, refused, outstanding;
    int64_t acked_end; /* highest offset after an acknowledged batch */
};

void cluster_init(struct cluster *c);
void cluster_close(struct cluster *c);
/* Start in the order 3, 2, 1 the first time: ports are taken as they come, and the lower id dials.
 */
int cluster_start(struct cluster *c, uint32_t id, struct error *err);
void cluster_start_all(struct cluster *c);
void cluster_stop(struct cluster *c, uint32_t id);
/* From now on the disk of a running node takes writes and syncs of the append path and answers
 * none, until it is thawed. A node is stopped thawed. */
void cluster_freeze_disk(struct cluster *c, uint32_t id);
/* The same from the node's first request on during which the condition holds: no turn of the loop
 * is too long for it. */
void cluster_freeze_disk_when(struct cluster *c, uint32_t id, bool (*when)(struct cluster *c));
void cluster_thaw_disk(struct cluster *c, uint32_t id);
/* 0 when nobody leads. */
uint32_t cluster_leader(const struct cluster *c);
uint32_t cluster_await_leader(struct cluster *c);
/* Runs the loop until the condition holds; five minutes are for ever. */
bool cluster_run_until(struct cluster *c, bool (*done)(struct cluster *c));
/* One batch of `records` records of `bytes` bytes at the leader; the return of group_propose. */
int cluster_propose(struct cluster *c, unsigned records, size_t bytes);
/* Proposes n batches, at most `window` at a time, through changes of leaders. */
void cluster_propose_many(struct cluster *c, unsigned n, unsigned window, size_t bytes);
/* Asks who leads to change a member, once: what it is refused with (WEIR_ENOTLEADER: nobody leads),
 * or the outcome. */
int cluster_change(struct cluster *c, uint32_t id, enum group_role role);
/* The same for handing leadership over, to whoever is best when `to` is 0. */
int cluster_transfer(struct cluster *c, uint32_t to);
/* All running nodes have the leader's log, committed to its end, byte for byte. */
void cluster_await_equal(struct cluster *c);

#endif
