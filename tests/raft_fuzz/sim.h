/* A cluster of one Raft group in virtual time: the production code of consensus/ on a fake
 * partition, a fake transport and a fake env. One process per run; a crashed node's memory is
 * simply forgotten. */
#ifndef RAFT_FUZZ_SIM_H
#define RAFT_FUZZ_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/env_ops.h"
#include "consensus/group.h"
#include "consensus/group_impl.h"

#define SIM_NODES_MAX 5
#define SIM_LOG_MAX   20000
#define SIM_TERMS_MAX 20000

/* What a run may do; each can be left out (--without-fault). */
enum sim_fault {
    FAULT_CRASH = 1,
    FAULT_NET = 2,      /* drops, duplicates, reordering */
    FAULT_SPLIT = 4,    /* partitions, one-way ones too, and delays */
    FAULT_DISK = 8,     /* a disk that fails for good */
    FAULT_SLOW = 16,    /* a disk that stalls */
    FAULT_CLOSE = 32,   /* links that close, with or without a death */
    FAULT_FULL = 64,    /* send queues that are full */
    FAULT_MEMORY = 128, /* an append's allocation fails */
    FAULT_SPACE = 256,  /* a disk that is full for a moment and takes appends back */
    FAULT_ALL = 511,
};

enum sim_violation {
    SIM_DIVERGED = 1,    /* two nodes committed different entries */
    SIM_LOST = 2,        /* a committed or acknowledged entry is gone, or there twice */
    SIM_TWO_LEADERS = 4, /* in one term */
    SIM_COMMIT_BACK = 8,
    SIM_MEMORY_DISK = 16,  /* libraft's log is not the disk's */
    SIM_STUCK = 32,        /* no progress after healing */
    SIM_DISK_MISUSE = 64,  /* truncation under an append in flight, vote twice, wrong offset */
    SIM_STALE_READ = 128,  /* a read did not see what was acknowledged before it began */
    SIM_HANDED_OVER = 256, /* leadership went away under a proposal, whose outcome is unknown */
};

struct sim_entry {
    uint64_t term;
    enum log_entry_type type;
    uint32_t len;
    uint8_t *payload;
    int64_t base; /* next offset before it */
};

struct sim_disk {
    struct sim_entry log[SIM_LOG_MAX];
    uint64_t last, durable;
    struct partition_begin begin; /* log[first_index - 1] is not there but for its term */
    struct partition_meta meta;
    uint8_t config[256];
    bool bad;     /* every write fails from now on */
    bool stalled; /* completes nothing for now */
};

struct partition {
    struct sim_node *node;
    struct list pending; /* of struct partition_append */
    uint64_t commit;
    bool failed;
    struct producers producers;
};

struct transport {
    struct sim_node *node;
    struct transport_handler handler;
    bool attached;
    struct list releases;
};

struct sim_timer {
    struct env_timer *timer;
    uint64_t due_ns;
    bool active;
    struct sim_timer *next;
};

struct sim_message {
    struct sim_message *next;
    uint16_t type;
    uint8_t *body, *attachment;
    size_t len, attachment_len;
};

/* Term and vote; fake_vote_log.c. */
struct sim_votes {
    uint64_t term, vote, durable_term, durable_vote;
    bool there, dirty;
    struct vote_slot *slot;
};

struct sim_node {
    struct env env; /* first: what the code under test calls env */
    uint32_t id;
    bool up;
    bool closing; /* its group is being closed in good order */
    struct list deferred;
    struct sim_timer *timers;
    struct sim_disk disk;
    struct sim_votes votes;
    struct partition partition;
    struct transport transport;
    struct group *group;
    bool link_news[SIM_NODES_MAX + 1]; /* a closed link it has not been told of */
    uint64_t checked;                  /* committed entries compared so far */
    uint64_t commit_seen;
    uint64_t leader_checked_term;
    bool lost;                           /* its disk was lost and it is not back yet */
    uint64_t hand_overs, hand_over_term; /* how often it told another to lead; when last */
};

struct sim {
    uint64_t rng, now_ns;
    unsigned n_nodes, n_voters;      /* nodes 1..n_voters found the group */
    bool members, losses, transfers; /* --members, --losses; transfers alone */
    bool unfit;                      /* --unfit: group_set_unfit, at random */
    uint64_t n_changes, n_transfers, n_wipes;
    uint64_t inflight_bytes_max;
    uint32_t faults;
    bool healing, verbose;
    struct sim_node nodes[SIM_NODES_MAX + 1];
    struct sim_message *net[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];
    int link[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* 0 drops, 1 delivers, 2 delays */
    struct sim_entry committed[SIM_LOG_MAX];
    uint64_t committed_last;
    uint64_t committed_term[SIM_LOG_MAX]; /* in that term, or an earlier one */
    uint32_t leader_of_term[SIM_TERMS_MAX];
    uint64_t acked_last; /* highest index of an acknowledged entry */
    uint64_t n_reads;
    bool booked[SIM_LOG_MAX]; /* by the id of a batch: it is committed */
    uint64_t next_id, n_acked, n_unknown, n_installs, n_crashes, n_resets;
    unsigned violations;
    jmp_buf crash_now; /* a crash in the middle of a disk operation */
    bool crash_armed;
    struct sim_node *crashing;
};

extern struct sim sim;

uint64_t sim_random(void);
bool sim_chance(unsigned of, unsigned in);
void sim_violate(enum sim_violation v, const struct sim_node *n, const char *text);

/* main.c */
void sim_boot(struct sim_node *n);
void sim_crash(struct sim_node *n);
void sim_read(struct sim_node *n);
void sim_end_turns(bool all);
/* What is on its way arrives and is written: on all disks, or on the one of a node. */
void sim_settle(uint32_t disk_of);
struct sim_node *sim_any_node(void);
void sim_step_network(void);
void sim_step_time(void);
/* What a crash in the middle of a disk operation may cut short. */
void sim_guarded(void (*fn)(void));

/* producers.c */
/* One batch without a number. */
void sim_propose(struct sim_node *n);
/* A producer sends what it has, perhaps for a second time. */
void sim_produce(struct sim_node *n);

/* members.c */
void sim_change(void);
void sim_transfer(void);
void sim_lose_a_disk(void);
bool sim_is_member(const struct sim_node *n);
bool sim_same_configuration(const struct raft_configuration *a, const struct sim_entry *e);
void sim_check_snapshot(const struct sim_node *n, const struct partition_meta *meta);

/* stream.c */
void sim_stream(void);
void sim_stream_acked(uint64_t latency_ns);

/* leaver.c */
void sim_leaver(void);

/* transfers.c */
void sim_transfers(unsigned steps);

/* fake_env.c */
void sim_env_init(struct sim_node *n);
void sim_env_forget(struct sim_node *n);
void sim_env_run_timers(struct sim_node *n);
void sim_env_end_turn(struct sim_node *n);

/* fake_partition.c */
/* Completes up to `max` appends that wait; true when there was one. */
bool sim_disk_step(struct sim_node *n, unsigned max);
/* What a crash leaves: the durable entries and some of those behind them. */
void sim_disk_crash(struct sim_node *n);

/* fake_vote_log.c */
void sim_votes_step(struct sim_node *n);
void sim_votes_crash(struct sim_node *n);

/* fake_transport.c */
void sim_net_deliver(uint32_t from, uint32_t to);
void sim_net_forget(uint32_t to);
void sim_net_releases(struct sim_node *n);

/* checks.c */
void sim_check(struct sim_node *n);
void sim_check_end(void);
void sim_check_ack(const struct sim_node *n, uint64_t id, int64_t base);

/* A proposal's payload: base i64, term u64, id u64, count u32, producer i32 (-1: none), sequence
 * i32, then filler. */
#define SIM_BATCH_HEADER 36

#endif
