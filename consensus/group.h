/* One Raft group: one partition's replica on this node, behind the guards of docs/raft-guards.md.
 *
 * Everything runs on the env's loop thread. The transport carries all groups of a node. A proposal
 * is one RecordBatch: the leader stamps base offset and append time, proposes it, and reports when
 * it is committed: on a quorum's disks, fdatasynced, and applied here. */
#ifndef CONSENSUS_GROUP_H
#define CONSENSUS_GROUP_H

#include "base/env.h"
#include "consensus/transport.h"
#include "log/control.h"
#include "log/partition.h"

struct group;

struct group_options {
    uint32_t id;     /* unique in the cluster; carried by every peer frame */
    const char *dir; /* the partition's folder */
    struct partition_options partition;
    const uint32_t *voters; /* static membership: server ids, this node among them */
    unsigned n_voters;
    uint32_t heartbeat_ms, election_ms;
    uint64_t inflight_bytes_max; /* proposed and not yet committed */
    uint64_t free_bytes_min;     /* proposals are refused below this much free disk; 0: no limit */
};

/* Called on the loop; they must not close the group. */
struct group_events {
    void *data;
    /* Everything below the partition's new high watermark may be read. Also after a restart, once
     * the commit mark is known. */
    void (*committed)(void *data, struct group *g);
    /* This node became or ceased to be leader, or learned of another leader (0: none known). As
     * leader it is told only when it may propose. */
    void (*leader_changed)(void *data, struct group *g, uint32_t leader_id);
    /* The replica can't go on (corrupt files, failed disk): WEIR_ECORRUPT, WEIR_EIO. It neither
     * leads nor votes nor takes part any more; reads go on where they can. The text says what and
     * where. */
    void (*failed)(void *data, struct group *g, const struct error *error);
};

/* Opens the partition and starts raft. A corrupt partition is an error here and leaves nothing
 * running. */
int group_open(struct env *env, struct transport *transport, const struct group_options *options,
               const struct group_events *events, struct group **ret_group, struct error *err);
/* Drains, closes and frees; then cb. Proposals in flight complete first with WEIR_EUNKNOWN. */
void group_close(struct group *g, void (*cb)(void *data), void *data);

struct group_propose;
/* status 0: committed, base is the first record's offset. WEIR_EUNKNOWN: leadership was lost on the
 * way, it may or may not be committed. WEIR_ENOTLEADER and WEIR_EBUSY and WEIR_ENOSPC: not
 * proposed, safe to repeat elsewhere. */
typedef void (*group_propose_cb)(struct group_propose *req, int status);
struct group_propose {
    void *data;
    group_propose_cb cb;
    struct log_offset base; /* out */
    struct list link;
    uint64_t priv[32];
};
/* Proposes one batch that has passed batch_check. The bytes are copied once, into the entry
 * (libraft owns it then). Refused now with WEIR_ENOTLEADER, WEIR_EBUSY (too much in flight),
 * WEIR_ENOSPC, WEIR_EIO: then cb does not run. */
int group_propose(struct group *g, struct group_propose *req, const void *batch, size_t len,
                  group_propose_cb cb);

/* Proposes a decision about the log itself; the same results, but that a full disk does not refuse
 * it. */
int group_propose_control(struct group *g, struct group_propose *req, const struct control *control,
                          group_propose_cb cb);

uint32_t group_id(const struct group *g);
bool group_is_leader(const struct group *g);  /* and may propose */
uint32_t group_leader(const struct group *g); /* 0: none known */
struct log_term group_term(const struct group *g);
struct partition *group_partition(struct group *g);
/* For status: this replica's view. On the leader match[] of peers, 0 elsewhere. */
struct log_index group_match_index(const struct group *g, uint32_t server_id);

#endif
