/* One Raft group: one partition's replica on this node, behind the guards of docs/raft-guards.md.
 *
 * Everything runs on the env's loop thread. The transport carries all groups of a node. A proposal
 * is one RecordBatch: the leader stamps base offset and append time, proposes it, and reports when
 * it is committed: on a quorum's disks, fdatasynced, and applied here. */
#ifndef CONSENSUS_GROUP_H
#define CONSENSUS_GROUP_H

#include "base/env.h"
#include "consensus/transport.h"
#include "consensus/vote_log.h"
#include "log/control.h"
#include "log/partition.h"

struct group;

/* Bounds what the replicas of a node take in together while they catch up from segments, so that it
 * does not crowd out what is written meanwhile. One per loop; outlives the groups. */
struct group_pace {
    uint64_t bytes_per_s; /* 0: no bound */
    uint64_t next_ns;     /* nothing is asked for before */
};

struct group_options {
    struct group_pace *pace; /* NULL: no bound */
    uint32_t id;             /* unique in the cluster; carried by every peer frame */
    const char *dir;         /* the partition's folder */
    struct partition_options partition;
    struct vote_log *vote_log; /* the node's: terms and votes of all its groups */
    /* Who founds the group, the same on all of them. None: this replica joins a group that there is
     * already, and waits to be added. Once the log has a configuration, that one counts. */
    const uint32_t *voters;
    unsigned n_voters;
    uint32_t heartbeat_ms, election_ms;
    uint64_t inflight_bytes_max; /* proposed and not yet committed */
    uint64_t free_bytes_min;     /* proposals are refused below this much free disk; 0: no limit */
    /* What a leader decides about the log: 0: for ever, however much. */
    uint64_t retain_ms, retain_bytes;
    bool compact;          /* of each key only the newest record is wanted */
    uint64_t tombstone_ms; /* how long a null value is kept at least; 0: a day */
    uint64_t decide_ms; /* how often it does; 0: every 10 s, or a quarter of a shorter retain_ms */
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
/* Drains, closes and frees; then cb. A leader first offers its place to a follower, for a fraction
 * of an election timeout, so that a stop in good order leaves no gap; no event is told meanwhile.
 * Proposals still in flight then complete with WEIR_EUNKNOWN, as do changes and transfers; reads
 * with WEIR_ENOTLEADER. */
void group_close(struct group *g, void (*cb)(void *data), void *data);

/* This replica has lost what it promised (votes, or entries it had acknowledged): marks it so on
 * disk, durably, and lets it come back like a new server (consensus/founding.h). */
int group_recover(struct group *g, struct error *err);
/* It is on that way: not yet the member that it was. */
bool group_recovering(const struct group *g);

struct group_propose;
/* status 0: committed, base is the first record's offset. WEIR_EUNKNOWN: leadership was lost on the
 * way, it may or may not be committed; a batch that its producer has numbered can be proposed
 * again, here or elsewhere, and is stored once. */
typedef void (*group_propose_cb)(struct group_propose *req, int status);
struct group_propose {
    void *data;
    group_propose_cb cb;
    uint64_t age_ms; /* of a numbered batch whose first sending had an unknown outcome: how long
                        that is ago; else 0 */
    struct log_offset base; /* out */
    bool repeated;          /* out: an earlier proposal had stored it */
    struct list link;
    uint64_t priv[32];
};
/* Proposes one batch that has passed batch_check. The bytes are copied once, into the entry
 * (libraft owns it then). A numbered batch (log/producers.h) that is in the log already is not
 * stored again: it completes as if it had been, when that one is committed.
 *
 * Refused now, then cb does not run: WEIR_ENOTLEADER, WEIR_EBUSY (too much in flight), WEIR_ENOSPC,
 * WEIR_EIO, WEIR_ENOMEM: this call has not stored it. WEIR_EFENCED: a newer incarnation of its
 * producer has written here. WEIR_ESEQUENCE: the producer's batch before it is missing, or its
 * producer is not known (any more). */
int group_propose(struct group *g, struct group_propose *req, const void *batch, size_t len,
                  group_propose_cb cb);

/* Proposes a decision about the log itself; the same results, but that a full disk does not refuse
 * it. */
int group_propose_control(struct group *g, struct group_propose *req, const struct control *control,
                          group_propose_cb cb);

/* --- Members --- */

enum group_role {
    GROUP_NONE,
    GROUP_STANDBY, /* has the log, does not vote */
    GROUP_VOTER,
    GROUP_SPARE, /* on its way in: named in the configuration, has nothing; only in answers */
};

struct group_change;
/* 0: committed. WEIR_EUNKNOWN: leadership was lost on the way, look again at group_members of the
 * leader. WEIR_EUNAVAILABLE: the server did not catch up in time to become a voter; it stays what
 * it was. */
typedef void (*group_change_cb)(struct group_change *req, int status);
struct group_change {
    void *data;
    group_change_cb cb;
};
/* Gives a server a role, or takes it away, at the leader and not for the leader itself (transfer
 * first). One at a time. To become a voter a server should have caught up as a standby: libraft
 * waits for a few rounds of at most 5 s. Refused now: WEIR_ENOTLEADER; WEIR_EINVAL; WEIR_EBUSY
 * (another change or a transfer is on its way, or the last one is not committed yet);
 * WEIR_ERANGE (too many members); WEIR_EUNAVAILABLE (the voters there would be are not reachable in
 * their majority). The request is the caller's until the callback, which may close nothing. */
int group_change(struct group *g, struct group_change *req, uint32_t server_id,
                 enum group_role role, group_change_cb cb);

struct group_transfer;
/* 0: the target leads. WEIR_ETIMEOUT: it did not come so far, this node leads on. WEIR_EUNKNOWN: it
 * was asked to, and it is not known to lead. */
typedef void (*group_transfer_cb)(struct group_transfer *req, int status);
struct group_transfer {
    void *data;
    group_transfer_cb cb;
};
/* Hands leadership to a voter (0: the one that lacks least). Proposals are refused with WEIR_EBUSY
 * from now on until the outcome, at most two election timeouts. Refused now: WEIR_ENOTLEADER,
 * WEIR_EBUSY, WEIR_EINVAL (no voter), WEIR_EUNAVAILABLE (not connected). */
int group_transfer(struct group *g, struct group_transfer *req, uint32_t target_id,
                   group_transfer_cb cb);

/* Server `id`, this one or another, had better not lead: its disk is full. As long as another voter
 * that is connected is not said to be so, this node takes no leadership that is handed to it (by
 * somebody else than that one) and gives the others time to campaign first; and a leader that
 * closes offers its place to those first. All of it concerns time only: where nobody else can lead,
 * it does. */
void group_set_unfit(struct group *g, uint32_t id, bool unfit);
/* Too many of the voters have no room: proposals are refused with WEIR_ENOSPC, as if this node's
 * own disk were full. */
void group_set_scarce(struct group *g, bool scarce);

struct group_member {
    uint32_t id;
    enum group_role role;
    struct log_index match; /* known to be on its disk; only the leader knows of others */
    bool connected;
};
/* The newest configuration that this replica has, committed or not. */
unsigned group_members(const struct group *g, struct group_member *out, unsigned max);

/* --- Reads --- */

struct group_read;
/* status 0: all that was acknowledged before the read began, anywhere in the cluster, is applied
 * here, below the partition's high watermark. WEIR_ENOTLEADER: leadership was lost meanwhile. */
typedef void (*group_read_cb)(struct group_read *req, int status);
struct group_read {
    void *data;
    group_read_cb cb;
    struct log_index index; /* out: the commit mark when the read began */
    struct list link;
    uint64_t term, stamp;
};
/* A linearizable read: asks a majority whether this node still leads. Refused now with
 * WEIR_ENOTLEADER, WEIR_EBUSY: then cb does not run. */
int group_read_index(struct group *g, struct group_read *req, group_read_cb cb);
/* This replica has heard no leader, or lacked something that its leader has committed, for longer
 * than an election takes: its mark may stand still, and who waits there waits in vain. */
bool group_behind(const struct group *g);

/* This node's disk owes an answer for two election timeouts: the group neither leads nor campaigns.
 */
bool group_disk_stalls(const struct group *g);
uint32_t group_id(const struct group *g);
bool group_is_leader(const struct group *g);  /* and may propose */
uint32_t group_leader(const struct group *g); /* 0: none known */
struct log_term group_term(const struct group *g);
struct partition *group_partition(struct group *g);
/* How many ranges of the log can't be read; they are being fetched from the other replicas. The
 * text (left alone when there is none) says where, and whether no replica has a good copy. */
unsigned group_damage(struct group *g, char *ret_text, size_t size);
/* For status: this replica's view. On the leader match[] of peers, 0 elsewhere. */
struct log_index group_match_index(const struct group *g, uint32_t server_id);

#endif
