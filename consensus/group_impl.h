/* What the parts of a group share. Not for use outside consensus/ (and its fuzzer, which counts on
 * nothing but group.h).
 *
 *   group.c    opening, closing, events
 *   propose.c  proposals, and those that come again
 *   guard.c    every receive, tick and completion, with the guards of docs/raft-guards.md
 *   flow.c     every send, with the guards that concern sends; AppendEntries in pieces and within a
 * window storage.c  libraft's raft_io on log/partition.h catchup.c  followers that fell behind
 * libraft's memory: entries read from the leader's segments failover.c a closed link, a leader that
 * gives up */
#ifndef CONSENSUS_GROUP_IMPL_H
#define CONSENSUS_GROUP_IMPL_H

#include <raft.h>

#include "base/fault.h"
#include "consensus/append_clock.h"
#include "consensus/group.h"
#include "consensus/message.h"
#include "consensus/vote_log.h"

#define GROUP_VOTERS_MAX  16 /* members of a configuration: every node is one of `meta` */
#define GROUP_PEERS_MAX   (2 * GROUP_VOTERS_MAX)
#define LEAVE_MS          250 /* how long a leader that stops tries to hand over */
#define GROUP_PENDING_MAX 64
#define GROUP_HELD_MAX    256
#define GROUP_HELD_BYTES  (32u << 20)
#define GROUP_RELOADS_MAX 16
/* Unacknowledged pieces per peer; see flow.c. */
#define FLOW_PIECES_MAX 1024
/* What libraft keeps in memory of a group's applied entries, by bytes and by number. */
#define GROUP_MEMORY_BYTES (4u << 20)
#ifndef WEIR_RAFT_FAULTS
#define GROUP_MEMORY_ENTRIES_MIN 16u
#define GROUP_MEMORY_ENTRIES     256u
#define GROUP_LOAD_TRAILING                                                                        \
    64u /* entries below the snapshot that a start loads, for followers a little behind */
#define GROUP_ROUND_MS      5000u /* how long libraft waits for a standby to catch up */
#define FLOW_PIECE_BYTES    (256u << 10)
#define CATCHUP_FETCH_BYTES (1u << 20)
#else
/* The fuzzer's logs are short; with these they meet every limit. */
#define GROUP_MEMORY_ENTRIES_MIN 4u
#define GROUP_MEMORY_ENTRIES     6u
#define GROUP_LOAD_TRAILING      3u
#define GROUP_ROUND_MS           400u
#define FLOW_PIECE_BYTES         120u
#define CATCHUP_FETCH_BYTES      300u
#endif

/* Guards by number, so that the fuzzer can take one away. A release has them all. */
enum group_guard {
    GUARD_ORDER_APPEND = 1, /* 1: drain before truncating, cut at the snapshot */
    GUARD_CLAMP = 2,        /* 2: acknowledge only what was verified */
    GUARD_BARRIER = 3,      /* 3: barrier on election, results held until it is stored */
    GUARD_QUORUM = 4,       /* 4: completions released up to the quorum */
    GUARD_TICK = 5,         /* 5: no tick while appends are in flight; forget silent leaders */
    GUARD_VOTE = 6,         /* 6: second votes, refused pre-votes */
    GUARD_SNAPSHOT = 7,     /* 7: no snapshot over an unapplied configuration */
    GUARD_INSTALL = 8,      /* 8: never install natively */
    GUARD_CHANGE = 9,       /* 9: membership changes one by one, and never oneself */
    GUARD_SOLE = 10,        /* 10: a new term for every leadership of a sole voter */
    GUARD_TRANSFER = 11,    /* 11: leadership goes only to who has all, with nothing in flight */
    GUARD_GATE = 12,        /* 12: nothing is said before term and vote are durable */
    GUARD_READ = 13,        /* 13: linearizable reads ask a majority */
    GUARD_DISK = 14,        /* 14: step down when the disk fails */
    GUARD_FLOW = 15,        /* 15: bounded pieces, commit clamped to the piece */
    GUARD_RELOAD = 16,      /* 16: reload when libraft gives up */
    GUARD_STAMP = 17,       /* 13: only answers to a later question count */
    GUARD_REPEAT = 20,      /* no guard of libraft: a numbered batch is stored once */
    GUARD_PROMISES = 18,    /* 18: who lost its promises comes back like a new server */
};
#ifdef WEIR_RAFT_FAULTS
extern uint32_t group_guards_off; /* bit per enum group_guard */
bool group_no_memory(void);       /* the fuzzer's: an allocation that fails */
static inline bool guard_on(enum group_guard guard)
{
    return (group_guards_off >> guard & 1) == 0;
}
#else
#ifdef WEIR_FAULTS
static inline bool guard_on(enum group_guard guard)
{
    return (faults_guards_off >> guard & 1) == 0;
}
#else
#define guard_on(guard) true
#endif
#define group_no_memory() false
#endif

enum group_phase {
    GROUP_FOUNDING,  /* asks the others whether it has promised anything (founding.h) */
    GROUP_BOOTING,   /* the first configuration entry is being written */
    GROUP_REPAIRING, /* libraft waits: what it would load is damaged; see repair.c */
    GROUP_UP,        /* libraft runs */
    GROUP_RELOADING, /* libraft gave up; waits for appends in flight, then starts again from disk */
    GROUP_FAILED,    /* the disk is no good; for the rest of this process */
    GROUP_CLOSING,
};

/* Pieces sent to a peer and not yet acknowledged: a ring. */
struct flow {
    raft_index sent_end; /* 0: nothing known to be on its way */
    raft_term sent_term; /* term of that entry */
    uint64_t bytes;      /* in the ring */
    raft_index commit_sent;
    unsigned head, count;
    struct flow_piece {
        raft_index end;
        uint32_t bytes;
    } * pieces;
};

struct group_peer {
    uint32_t id;
    char address[12];
    enum group_role role; /* in our newest configuration */
    raft_index match;     /* from delivered results of this term of ours as leader */
    struct flow flow;
    bool unfit;                      /* had better not lead; members.c */
    bool no_repair;                  /* does not have what we ask for in this round; repair.c */
    struct peer_compacted compacted; /* what it told last; retain.c */
    uint64_t read_echo; /* 13: newest round of questions it answered in this term of ours */
    /* Founding: it had not founded either; the life that asked us last, and since which entry of
     * ours, of which term. */
    bool unfounded;
    /* Has asked as one that lost its promises, or its link was closed: it may have come back as
     * one; and has acknowledged nothing since. */
    bool lost;
    uint64_t life;
    raft_index fence;
    raft_term fence_term;
};

struct founding {
    uint64_t nonce; /* of this life */
    uint64_t asked_ns;
    bool lost;  /* others have founded without us, or we took part and forgot */
    bool told;  /* a leader has said what we are, and that is on disk */
    bool again; /* promises were lost while libraft ran */
    enum group_role want;
    raft_index floor; /* committed when we were welcome; a log below it may not know of that */
    struct raft_configuration hidden; /* while libraft starts */
};

/* A change of membership on its way; see members.c. */
struct membership {
    struct group_change *req; /* NULL: none */
    uint32_t id;
    enum group_role role;
    raft_term term;
    struct raft_change change;
    bool stepping; /* libraft has `change` */
    int status;    /* of the last step */
};

struct transfer {
    struct group_transfer *req; /* NULL: none */
    uint32_t target;
    uint64_t until_ns;         /* to begin with it */
    bool started, ended;       /* libraft has `raft`; has had it */
    struct raft_transfer raft; /* outlives the message that it sends */
};

/* One raft_io append on its way to the disk. */
struct group_append {
    struct partition_append req;
    struct list link;
    struct group *group;
    struct raft_io_append *raft_req;
    raft_index last;
    uint64_t bytes, started_ns;
    bool durable;
    struct log_entry entries[];
};

/* A message that waits: entries for appends in flight, results for the barrier. */
struct group_held {
    struct list link;
    struct message m;
    struct group_peer *from;
};

struct catchup {
    struct group_peer *from; /* NULL: none */
    raft_term term;
    raft_index next;   /* to ask for */
    raft_index target; /* at least up to here */
    raft_index asked;  /* first index of the request that has no answer yet; 0: none */
    uint64_t asked_ns;
    uint64_t complained_ns; /* when a refusal was last logged; 0: never */
};

/* reads.c */
struct group_reads {
    uint64_t heard_ns;        /* when a leader was last heard */
    raft_index leader_commit; /* as last heard */
    raft_index watched;       /* a commit that was heard of and is not known here yet; 0: none */
    uint64_t watched_ns;      /* since when */
    struct list waiting;      /* of struct group_read, in order */
    unsigned n_waiting;
    uint64_t stamp; /* newest round of questions; 0: none */
    uint64_t asked_ns;
};

/* repair.c */
struct repair {
    uint64_t since_ns; /* when damage was first seen; 0: none */
    uint64_t next_ns;  /* not to ask before */
    raft_index asked;  /* first index of the question on its way; 0: none */
    uint32_t asked_of;
    unsigned turn, hole; /* of peers, of holes */
    bool hopeless;       /* all who are there have said that they do not have it */
    bool given_up;       /* one of them, in this round: its log begins behind the hole's begin */
    uint64_t complained_ns;
    bool transferring;
    unsigned transfers; /* that failed */
    struct group_transfer transfer;
};

struct group {
    struct env *env;
    struct transport *transport;
    struct partition *partition;
    struct group_options options;
    char *dir;
    struct group_events events;
    enum group_phase phase;
    uint32_t self_id;
    char self_address[12];
    struct group_peer *peers[GROUP_PEERS_MAX];
    unsigned n_peers;
    uint32_t founders[GROUP_VOTERS_MAX]; /* in the order of their ids */
    unsigned n_founders;

    struct raft raft;
    struct raft_io io;
    struct raft_fsm fsm;
    struct append_clock append_clock;
    raft_io_tick_cb raft_tick;
    raft_io_recv_cb raft_recv;
    raft_io_close_cb raft_closed;
    bool raft_started;

    /* What the disk holds besides entries; the newest snapshot may be in memory only (storage.c).
     */
    raft_term term;
    raft_id vote;
    bool votes_shared; /* the metadata says that term and vote are in the vote log */
    struct vote_slot votes;
    raft_term term_durable; /* highest term that is durable in the vote log */
    struct list gated;      /* messages that wait for it; gate.c */
    unsigned n_gated;
    size_t gated_bytes;
    /* The mark in the metadata: promises were lost, and the log is not known to be whole again.
     * Once libraft runs, it takes entries, and neither votes nor campaigns (founding.h). */
    bool recovering;
    /* In the metadata too: the log was empty when the group had committed up to here, so all of it
     * was taken later (retain.c). 0: not known. */
    raft_index begun_index;
    uint8_t wish; /* there too: 1 + the role to come back to; 0: not known, or all is as it was */
    struct group_snapshot {
        raft_index index;
        raft_term term;
        raft_index config_index;
        void *config;
        uint32_t config_len;
    } snapshot;
    raft_index snapshot_given;       /* of the newest one that is at least on its way there */
    uint64_t snapshot_bytes_pending; /* applied since */

    /* Requests of libraft that are answered as soon as its call has returned. */
    struct pending_send {
        struct raft_io_send *req;
        int status;
    } sends[GROUP_PENDING_MAX];
    unsigned n_sends;
    struct raft_io_snapshot_put *put;
    struct raft_io_snapshot_get *gets[GROUP_VOTERS_MAX];
    unsigned n_gets;
    bool settling, releasing;

    struct list appends; /* of struct group_append, in order */
    unsigned n_appends;  /* not yet durable */
    uint64_t append_bytes;
    struct list held_appends, held_results;
    unsigned n_held;
    uint64_t held_bytes;
    struct partition_append boot_append;
    struct log_entry boot_entry;
    struct raft_buffer boot_config;
    struct group_append *spare_append; /* for a change of membership, which may not fail */

    struct membership members;
    struct transfer transfer;
    struct founding founding;
    struct raft_barrier fence; /* founding.c: shows that this leader leads still */
    bool fence_pending;
    struct group_change own_change;
    bool unfit;   /* this node had better not lead */
    bool leaving; /* group_close was called on a leader, which hands over first */
    struct group_transfer leave;

    /* Guards. */
    raft_index verified;  /* 2: our log equals the current term's leader's up to here */
    raft_index receiving; /* 2: the end of the message being delivered */
    unsigned short was;   /* 3: state and term at the last look */
    raft_term was_term;
    struct raft_barrier barrier;
    bool barrier_pending;
    bool may_propose;       /* 3: leader, and the own barrier is applied */
    unsigned reloads;       /* 16: without progress in between */
    uint64_t answered_ns;   /* 14: when the disk last completed an append */
    bool disk_differs;      /* 14: libraft has entries that the disk took back */
    uint64_t refused_ns;    /* 14: when the disk was last full; 0: never */
    struct catchup catchup; /* 8 */
    struct {
        uint64_t decided_ns;
        struct group_propose req;
        bool pending;
        raft_index compact_index; /* committed when a compaction was last decided; 0: long ago */
        unsigned rounds;          /* of deciding, in this term */
        /* Tombstones: every member has compacted up to `settling` since then; and had for long
         * enough up to `settled`. 0: not. */
        raft_term term;
        int64_t settling, settled;
        uint64_t settling_ns;
    } retain;
    struct group_reads reads; /* 13 */
    struct repair repair;
    struct env_timer failover_timer;
    unsigned failover_tries;
    uint64_t failover_ns; /* when the last leader was lost; 0: never */

    /* Proposals. */
    struct list proposals; /* of struct group_propose, in order of proposing */
    struct list repeats;   /* of struct group_propose: in the log already, perhaps not committed */
    struct list done;
    uint64_t inflight_bytes;
    uint64_t space_checked_ns, free_bytes;
    bool scarce; /* others have too little room */
    uint64_t entry_bytes_avg;

    /* Events are told at the end of a turn. */
    struct env_defer turn;
    uint32_t leader_told;
    bool failed_told;
    struct error failure;

    void (*close_cb)(void *data);
    void *close_data;
};

/* group.c */
int group_start_raft(struct group *g, struct error *err);
/* Closes libraft; appends not durable yet are completed with status 0 (an append never fails). */
void group_stop_raft(struct group *g);
void group_later(struct group *g); /* schedules the end of the turn */
/* The replica can't go on: steps down, tells the peers, reports. */
void group_fail(struct group *g, const struct error *error);
raft_time group_now_ms(const struct group *g);

/* peers.c */
struct group_peer *group_peer(struct group *g, uint32_t id);
/* Finds or makes it. NULL: no memory, or ourselves. */
struct group_peer *peers_add(struct group *g, uint32_t id);
void peers_follow(struct group *g); /* the configuration may be another one */
void peers_close(struct group *g);
enum group_role configuration_role(const struct raft_configuration *c, uint32_t id);
unsigned configuration_voters(const struct raft_configuration *c);

/* members.c */
bool members_settled(struct group *g); /* the configuration may be changed (guard 9) */
bool members_sole_voter(const struct group *g, const struct raft_configuration *c);
/* This node had better not lead, and a voter that is there may well: another one than `leader`, who
 * can't or wants no more. */
bool members_gives_way(const struct group *g, uint32_t leader);
int members_before_start(struct group *g, struct error *err); /* guard 10 */
void members_before_tick(struct group *g);
void members_turn(struct group *g);
void members_abandon(struct group *g); /* fails what is on its way */
int members_leave(struct group *g, struct group_transfer *req, group_transfer_cb cb);

/* propose.c */
/* At the end of a turn: what is committed, and what can't be told any more. */
void propose_tell(struct group *g);

/* storage.c */
void storage_io(struct group *g, struct raft_io *ret_io);
int storage_bootstrap(struct group *g, struct error *err);
int storage_open(struct group *g, struct error *err); /* reads term, vote and snapshot */
/* The partition was reset: what its metadata says counts now. */
int storage_reopen(struct group *g, struct error *err);
/* Of a log that does not begin with entry 1, and whose newest snapshot is lost: what is before its
 * begin was committed, and `conf`, a leader's, is newer. It is written with the next metadata. */
int storage_begin_as_snapshot(struct group *g, const struct raft_configuration *conf,
                              struct error *err);
/* Writes the newest snapshot's metadata if the disk does not have it. */
int storage_save_snapshot(struct group *g, struct error *err);
int storage_save_snapshot_later(struct group *g, struct error *err); /* nobody waits for it */
raft_index storage_snapshot_stored(const struct group *g);           /* index of the one on disk */
void storage_note_snapshot(struct group *g); /* at a clean close: where we are */
/* Term of an entry of our log; 0 where there is none. */
raft_term storage_term(struct group *g, raft_index index);
raft_index storage_last(const struct group *g);
/* libraft's type of an entry of ours. */
unsigned short storage_raft_type(enum log_entry_type type);
enum log_entry_type storage_log_type(const struct raft_entry *e);
/* Durable on return. */
/* Term and vote, durable before anybody hears anything else of this group (guard 12). */
void storage_promise(struct group *g, raft_term term, raft_id vote);
void storage_votes_durable(struct group *g);
/* The mark of lost promises is on disk on return; term and vote as above. */
int storage_save_mark(struct group *g, raft_term term, raft_id vote, struct error *err);
/* The newest one up to `index`, which is not before the snapshot's, or else that of the snapshot;
 * none gives an empty one. */
int storage_configuration_at(struct group *g, raft_index index, struct raft_configuration *ret_conf,
                             struct error *err);
int storage_newest_configuration(struct group *g, struct raft_configuration *ret_conf,
                                 struct error *err);
/* Memory for one append of one entry; free() it. NULL: none. */
struct group_append *storage_spare_append(void);
void storage_answer_get(struct group *g, struct raft_io_snapshot_get *req);

/* guard.c */
void guard_receive(struct group *g, struct group_peer *from, struct message *m);
void guard_tick(struct group *g);
/* Ticks with an expired election timer. */
void guard_campaign(struct group *g);
/* An append is durable, or failed. */
void guard_append_done(struct group *g, struct group_append *a, int status);
/* After every call into libraft: answers what it asked for, notices what changed. */
void guard_settle(struct group *g);
void guard_drop_held(struct group *g);
void guard_drop_held_of(struct group *g, const struct group_peer *peer);
/* Makes a leader follow, by a result of a higher term. */
void guard_step_down(struct group *g);
bool guard_log_current(struct group *g); /* term(last_stored) is our own as leader */

/* flow.c */
void flow_send(struct group *g, const struct raft_message *m, int *ret_status);
void flow_reset(struct flow *flow);
void flow_acknowledged(struct flow *flow, raft_index match);
void flow_commit_news(struct group *g);
/* Sends an append whose entries are pinned until they left. */
int flow_send_piece(struct group *g, struct group_peer *peer, uint16_t type,
                    const struct raft_append_entries *a);
/* Any message whose attachment is entries; the same. */
int flow_send_entries(struct group *g, uint32_t peer_id, uint16_t type, const struct bytes *body,
                      const struct raft_entry *entries, unsigned n);
int flow_send_body(struct group *g, uint32_t peer_id, uint16_t type, const struct bytes *body);

/* catchup.c */
void catchup_start(struct group *g, struct group_peer *from, const struct raft_install_snapshot *s);
void catchup_next(struct group *g); /* asks for more if it is time to */
void catchup_fetched(struct group *g, const struct message *m);
void catchup_refused(struct group *g, const struct peer_refused *refused);
void catchup_reset(struct group *g, struct group_peer *from, const struct peer_reset *reset);
void catchup_serve(struct group *g, struct group_peer *to, const struct peer_fetch *fetch);

/* gate.c */
int gate_attach(struct group *g, enum vote_state *ret_state);
bool gate_is_open(const struct group *g);
/* transport_send, or later. */
int gate_send(struct group *g, const struct transport_message *m);
void gate_drop(struct group *g);

/* reads.c */
void reads_init(struct group *g);
void reads_heard(struct group *g, const struct message *m); /* an append came in */
void reads_asked(struct group *g, struct group_peer *from, const struct peer_read *question);
void reads_answered(struct group *g, struct group_peer *from, const struct peer_read *answer);
void reads_new_leader(struct group *g);
void reads_turn(struct group *g); /* the end of a turn: asks, completes */
void reads_tick(struct group *g);
void reads_fail(struct group *g);

/* repair.c */
/* Starts libraft; waits for what it would load to be mended first. */
int repair_start(struct group *g, struct error *err);
/* Where loading may begin, from `start` on: behind holes that the snapshot covers. */
raft_index repair_first_whole(struct group *g, raft_index start);
/* Damaged, and somebody may yet have what is missing: does not campaign. */
bool repair_pending(const struct group *g);
void repair_tick(struct group *g);
void repair_head(struct group *g, const struct peer_repair_ask *ask, struct peer_repair *ret);
void repair_asked(struct group *g, struct group_peer *from, const struct peer_repair_ask *ask);
void repair_answered(struct group *g, struct group_peer *from, const struct peer_repair *answer);

/* retain.c */
/* These entries follow our log, and say that something went from the group's logs while ours was
 * none of them: see decision 0370. */
bool retain_finds_us_stale(struct group *g, const struct raft_append_entries *a);
/* Throws the log away, and comes back like a server with an empty disk. Nothing is being appended.
 */
void retain_begin_anew(struct group *g);
void retain_applied(struct group *g, const void *payload, size_t len);
void retain_tick(struct group *g);
/* How far compaction has come here: to the leader, and to whom is given entries next. Marks are of
 * committed decisions, so whoever hears of them may act; and has to, before it takes entries that
 * have lost records already. */
void retain_tell(struct group *g, uint32_t peer_id);
void retain_told(struct group *g, struct group_peer *from, const struct peer_compacted *m);

/* failover.c */
void failover_link(struct group *g, struct group_peer *peer, bool up);
void failover_leader_silent(struct group *g); /* a follower's, for an election timeout */
void failover_leader_gone(struct group *g, struct group_peer *peer);
void failover_tell_peers(struct group *g);
void failover_refused(struct group *g, const struct raft_request_vote *v);

#endif
