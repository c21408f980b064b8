/* A whole cluster in one process, in virtual time: real brokers and real clients of the log, each
 * on a simulated machine with its own clock, disk and network card (docs/simulation.md).
 *
 * There is one thread and one queue of events, ordered by (due, sequence). All chance comes from
 * one generator, seeded on the command line, and nothing of the host (time, addresses, order of a
 * hash) has any influence: the same seed gives the same run, which the trace hash proves. A run has
 * an operating-system process of its own, so a simulated process that dies is simply forgotten,
 * memory and all. */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/env_ops.h"
#include "log/batch.h"
#include "nodes/broker/broker.h"

#define SIM_NODES_MAX    5
#define SIM_CLIENTS_MAX  4
#define SIM_SHARDS_MAX   3
#define SIM_MACHINES_MAX (SIM_NODES_MAX + SIM_CLIENTS_MAX)
#define SIM_GROUPS_MAX   16
#define SIM_CROWDS_MAX   2      /* consumer groups */
#define SIM_PRODUCER     "solo" /* the name that some clients produce under */
#define SIM_US           1000ull
#define SIM_MS           1000000ull
#define SIM_S            1000000000ull

struct process;

/* --- Events (world.c) --- */

struct event {
    uint64_t due_ns, sequence;
    size_t at;             /* in the queue, from 1 on; 0: not in it */
    struct process *owner; /* not run once it is dead; NULL: the world's */
    void (*fn)(struct event *event);
    void *data;
};

/* --- Machines and the processes on them --- */

/* A file's content and what of it is on the platter. */
struct content {
    uint8_t *data;
    size_t size, room;
};
struct inode {
    struct list link;    /* disk.inodes */
    struct list changes; /* of struct change: written, not synced */
    struct content now, durable;
    bool locked;
};
struct disk {
    struct list inodes;
    struct name **names; /* in byte order; with those that mean nothing any more */
    size_t n_names, names_room;
    struct list journal; /* of struct name_change: not synced */
    uint64_t capacity;
    /* Faults */
    unsigned eio_one_in;     /* writes and syncs; 0: never */
    unsigned slow;           /* factor; 1: as usual */
    uint64_t stuck_until_ns; /* nothing completes before */
    unsigned crash_in;       /* the process dies at the nth change from now on; 0: no */
};

enum machine_power { MACHINE_ON, MACHINE_OFF };

struct machine {
    unsigned id;        /* 1..; nodes first: id is that of the node */
    char host[16];      /* "10.0.0.ID" */
    bool client;        /* else a node */
    int64_t drift_ppm;  /* of its clock */
    int64_t wall_ms;    /* its error; jumps */
    uint64_t offset_ns; /* of the monotonic clock */
    enum machine_power power;
    struct disk disk;
    struct process *process; /* NULL: none runs */
    unsigned lives;
    unsigned damage_due; /* damages, once it has stopped */
    bool wipe_due;
};

/* One life of one program. The env comes first: it is what the code under test knows. */
struct process {
    struct env env;
    struct machine *machine;
    unsigned life;
    bool dead;
    uint64_t random;
    uint64_t busy_until_ns; /* stopped, or in a synchronous call */
    struct list deferred;
    struct event turn; /* the end of a turn of the loop */
    struct list files, ends, listeners;
    struct list dir_ios; /* a file's queue, for requests about folders */
    struct event dir_event;
    /* What runs. */
    struct broker *broker; /* its first shard, once all are open; NULL: none */
    struct broker *shards[SIM_SHARDS_MAX];
    unsigned n_shards; /* open */
    unsigned n_closing;
    struct hub *hub;
    struct node_watch *watch; /* check.c: what was seen of this life */
    struct sim_client *client;
    bool closing;
};

/* Swarm testing: each run has some of the faults. */
enum sim_fault {
    SIM_KILL = 1u << 0,      /* processes die; the page cache survives */
    SIM_POWER = 1u << 1,     /* machines lose power: unsynced writes are lost or torn */
    SIM_CRASH_IO = 1u << 2,  /* and in the middle of a change of the disk */
    SIM_STOP = 1u << 3,      /* clean stops and restarts */
    SIM_CUT = 1u << 4,       /* partitions, one-way ones too */
    SIM_RESET = 1u << 5,     /* connections that break */
    SIM_SLOW_NET = 1u << 6,  /* delays */
    SIM_PAUSE = 1u << 7,     /* processes that stand still */
    SIM_CLOCK = 1u << 8,     /* wall clocks that jump, clocks that drift */
    SIM_SLOW_DISK = 1u << 9, /* and stuck ones */
    SIM_EIO = 1u << 10,
    SIM_FULL = 1u << 11,
    SIM_CLIENT = 1u << 12,   /* clients that die */
    SIM_ALL_DOWN = 1u << 13, /* power loss of all nodes at once */
    SIM_DAMAGE = 1u << 14,   /* one node's files: flipped bits, cut short, removed */
    SIM_WIPE = 1u << 15,     /* or all of them gone */
    SIM_MEMBERS = 1u << 16,  /* no fault: nodes are added, drained and removed */
    SIM_TRANSFER = 1u << 17, /* nor this: leadership is handed over */
    SIM_FAULTS_ALL = (1u << 18) - 1,
};

enum sim_violation {
    SIM_DIVERGED, /* two nodes committed different entries */
    SIM_LOST,     /* an acknowledged record is gone or was never committed */
    SIM_LEADERS,  /* two leaders in one term */
    SIM_BACK,     /* a commit mark or term went back */
    SIM_OFFSETS,  /* offsets with a gap, or that changed */
    SIM_DOUBLED,  /* a record was stored twice */
    SIM_ORDER,    /* records of a producer out of order */
    SIM_CONSUMED, /* a consumer saw something else than the log */
    SIM_STALE,    /* a linearizable read missed what was acknowledged before it */
    SIM_STUCK,    /* no progress after healing */
    SIM_UNEQUAL,  /* logs that differ after healing */
    SIM_FAILED,   /* a replica refused its files although nothing had harmed them */
    SIM_VIOLATIONS
};

struct sim_options {
    uint64_t seed;
    unsigned nodes;  /* 0: by seed */
    unsigned shards; /* of a node; 0: by seed */
    uint32_t faults_off;
    unsigned seconds; /* of trouble, 0: by seed */
    bool named;       /* all clients produce under one name; else some of half of the seeds */
    bool verbose;
};

struct sim {
    uint64_t seed, random, now_ns, sequence, trace;
    struct event **queue; /* a binary heap */
    size_t n_queue, queue_room;
    struct sim_options options;
    uint32_t faults;
    unsigned n_nodes, n_clients;
    unsigned n_shards;   /* of a node */
    unsigned n_founders; /* nodes behind these join later */
    unsigned n_groups;   /* all, in the order of the configuration: the broker's own come last */
    unsigned n_written;  /* those that clients write to */
    unsigned n_topics;   /* of these */
    unsigned n_crowds;   /* consumer groups */
    bool named;          /* some clients produce under a name */
    unsigned victim;     /* the one node whose disk gets damaged; 0: none yet */
    struct machine machines[SIM_MACHINES_MAX + 1]; /* by id */
    struct config config[SIM_NODES_MAX + 1];
    struct broker_sizes sizes;
    unsigned retain_ms; /* of the second topic; 0: all is kept */
    unsigned keys;      /* of the topic that is compacted; 0: there is none */
    /* The network: by (from, to) */
    bool cut[SIM_MACHINES_MAX + 1][SIM_MACHINES_MAX + 1];
    uint64_t delay_ns[SIM_MACHINES_MAX + 1][SIM_MACHINES_MAX + 1];
    struct process *running;
    bool looking; /* a checker reads: no fault, no time, no trace */
    jmp_buf crash_now;
    bool healing;
    unsigned violation; /* enum sim_violation + 1; 0: none so far */
    struct {
        uint64_t events, acked, unknown, refused, committed, consumed, crashes, elections, rolls,
            resets;
    } count;
};
extern struct sim sim;

/* world.c */
void sim_init(const struct sim_options *options);
uint64_t sim_random(void);
uint64_t sim_below(uint64_t n);                    /* 0..n-1 */
uint64_t sim_between(uint64_t low, uint64_t high); /* both included */
bool sim_one_in(uint64_t n);
void sim_trace(unsigned what, uint64_t a, uint64_t b);
void *sim_alloc(size_t n); /* zeroed; the end of the run without memory */
/* (Re)schedules; `event` is zeroed before its first use. */
void event_at(struct event *event, struct process *owner, uint64_t due_ns,
              void (*fn)(struct event *event), void *data);
void event_cancel(struct event *event);
/* Runs the next event; false: there is none. */
bool sim_step(void);
/* The first violation ends the run. */
void sim_violate(enum sim_violation v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line of --verbose. */
void sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* env.c */
struct process *process_new(struct machine *m);
static inline struct process *process_of(const struct env *env)
{
    return (struct process *)(uintptr_t)env; /* comes first */
}
/* Makes a synchronous call take its time. */
void process_busy(struct process *p, uint64_t ns);

/* disk.c */
void disk_init(struct disk *d, uint64_t capacity);
struct inode *disk_inode_new(struct disk *d);
void inode_write(struct inode *inode, const void *data, size_t n, uint64_t at);
void inode_resize(struct inode *inode, uint64_t size);
void inode_sync(struct inode *inode);
void inode_forget(struct inode *inode); /* a failed sync: the kernel drops what it had to write */
uint64_t disk_used(const struct disk *d);
struct inode *disk_find(struct disk *d, const char *path);
void disk_set_name(struct disk *d, const char *path, struct inode *inode); /* NULL: none */
void disk_names_sync(struct disk *d, const char *dir);
typedef int (*disk_name_cb)(void *data, const char *name);
int disk_walk(struct disk *d, const char *dir, disk_name_cb cb, void *data);
/* Somewhere on the platter, with nothing running: a bit flips, a file is cut or goes. */
void disk_damage(struct disk *d);
void disk_wipe(struct disk *d);
/* The machine's power is gone: unsynced changes survive in part. */
void disk_power_loss(struct disk *d);

/* disk_ops.c */
extern const struct env_ops sim_disk_ops; /* the file part */
/* The process is gone: what was on its way to the disk may have arrived. */
void files_abandon(struct process *p);

/* net.c */
extern const struct env_ops sim_net_ops; /* the socket part */
/* The process is gone; `told`: its machine's kernel tells the peers. */
void net_abandon(struct process *p, bool told);
/* Breaks every connection between the two, both ways, or some of them. */
void net_reset(unsigned a, unsigned b);
/* The data of the machine's clock. */
uint64_t machine_now_ns(const struct machine *m);

/* cluster.c */
void cluster_init(void);
/* The shard of the process that has the group; NULL: none is open. */
struct broker *process_shard(const struct process *p, unsigned group);
void node_boot(struct machine *m);
void node_stop(struct machine *m); /* in good order; comes up again by itself */
enum crash { CRASH_KILL, CRASH_POWER };
/* Ends the machine's process. From inside of it this does not return. */
void machine_crash(struct machine *m, enum crash how, uint64_t back_in_ns);
void machine_boot_in(struct machine *m, uint64_t ns);
const char *group_text(unsigned group);  /* "topic-partition" */
unsigned group_index(const char *topic); /* of its first partition */

/* workload.c */
void workload_init(void);
void client_boot(struct machine *m);
void workload_end(void); /* no new records but a last one for each group */
bool workload_done(void);
const char *workload_missing(void);

/* operator.c */
/* Weir__ClusterChange__Action, node. What comes of it is the cluster's affair. */
void operator_wish(unsigned action, unsigned subject);

/* nemesis.c */
void nemesis_init(void);
void nemesis_heal(void);

/* compaction.c */
struct group;
struct partition;
struct partition_entry;
struct batch_record;
void compaction_init(void);
bool group_compacted(unsigned group);
/* An entry was committed. */
void compaction_learn(unsigned group, const struct partition_entry *e);
/* The entry is what was committed, without records that may be gone. */
bool compaction_explains(unsigned group, const struct partition_entry *e);
/* All records in [from, end) may be gone. */
bool compaction_takes(unsigned group, int64_t from, int64_t end);
/* The replica has done all that was decided. */
bool compaction_done(unsigned group, const struct group *g);
/* And just that is left. */
void compaction_check_end(unsigned node, unsigned group, struct partition *p);

/* check.c */
void check_init(void);
void check_process(struct process *p); /* after each event */
void check_acked(unsigned group, int64_t offset, uint64_t id);
/* A client was told that the record is not stored. */
void check_refused(unsigned group, uint64_t id);
/* This life of a client produces under the one name. */
void check_named(unsigned client, unsigned life);
/* A consumer got a record; *next is what it has to be. */
void check_consumed(unsigned group, int64_t offset, uint64_t id, int64_t *next);
int64_t check_end_offset(unsigned group);
/* Records below have been taken away on some node, as they may be. */
int64_t check_start_offset(unsigned group);
/* What a replica of the node says that can not go on; NULL: all can. */
const char *check_failed_replica(unsigned node);
bool check_converged(const char **ret_why);
void check_end(void);
void check_say(void); /* all groups, for --verbose */

/* check_groups.c */
void check_groups_init(void);
/* A crowd's member begins at this offset; has processed all below `upto`. */
void check_crowd_assigned(unsigned crowd, unsigned group, int64_t offset);
void check_crowd_processed(unsigned crowd, unsigned group, int64_t upto);
const char *check_crowds_missing(void); /* NULL: all is processed and committed */
/* A committed record of the broker's own topics. */
void check_groups_learn(unsigned group, const struct batch_record *r);
bool check_fold_is_current(const struct process *p, unsigned group);
void check_fold(unsigned node, const struct process *p, unsigned group);

/* A record's value: id u64, then filler. One without a value is known by its key only. */
#define SIM_VALUE_MIN 8
#define SIM_VALUE_MAX 3000
#define SIM_KEY_MAX   16
uint64_t record_id(unsigned group, const struct batch_record *r);
bool is_tombstone_id(uint64_t id);

#endif
