/* The nemesis: what is done to the cluster while clients work. A fault is an entry of one table:
 * how it begins, how it ends, what it may not be mixed with. It runs on a thread of its own (its
 * commands block) and writes what it does into the history.
 *
 * A schedule is drawn from the seed alone: quiet, a fault (of a mix sometimes two), quiet, ...; at
 * the end everything is healed. The same seed gives the same schedule (not the same run). */
#ifndef JEPSEN_NEMESIS_NEMESIS_H
#define JEPSEN_NEMESIS_NEMESIS_H

#include "jepsen/history/history.h"
#include "jepsen/hosts/hosts.h"

#define NEMESIS_WHAT_MAX 256

struct nemesis;

/* What faults are done with; the nemesis's thread alone. */
struct nemesis_world {
    struct hosts *hosts;
    struct history *history;
    const char *program;       /* weir */
    const char *other_program; /* another build of it, for upgrades; NULL: none */
    bool media;                /* nodes transcode */
    unsigned faults;           /* done so far */
    uint64_t random;           /* state of nemesis_random */
    bool hit[HOSTS_MAX]; /* who the present fault is about; faults that exclude each other share it
                          */
};

/* What can't be at the same time as another of the same kind. */
enum {
    FAULT_NETWORK = 1, /* firewalls */
    FAULT_PROCESS = 2, /* nodes stop and start */
    FAULT_DISK = 4,    /* full, read-only, stalled, failing; and damage that others have to mend */
    FAULT_CLOCK = 8,
    FAULT_MEMBERS = 16
};

struct fault {
    const char *name;  /* partition-halves, kill-one, power-all, ... */
    const char *about; /* one line */
    uint32_t kinds;
    bool needs_other, needs_spare, needs_clock, needs_media;
    bool loses_names;     /* that were not synced: hosts/names.h */
    bool needs_disk;      /* of the host's own; FAULT_NETWORK needs a network of its own */
    unsigned members_min; /* of the cluster */
    bool settles; /* afterwards replicas have to be in step again before anything else is damaged */
    /* `what` is EDN: who was hit. Negative: could not be done, which ends the run as unchecked. */
    int (*begin)(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err);
    int (*end)(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err);
};
extern const struct fault nemesis_faults[];
extern const unsigned nemesis_n_faults;

/* --- For faults --- */
uint64_t nemesis_random(struct nemesis_world *w, uint64_t below);
/* Chooses n of the members (in world.hit), and writes their names as an EDN vector. */
void nemesis_choose(struct nemesis_world *w, unsigned n, char what[NEMESIS_WHAT_MAX]);
unsigned nemesis_members(const struct nemesis_world *w);
/* The most that may be gone while a majority is left. */
unsigned nemesis_minority(const struct nemesis_world *w);
/* Starts every member that does not run. */
int nemesis_start_all(struct nemesis_world *w, struct error *err);
/* Waits until every partition has all its replicas, in step (`weir cluster status`). Gives up after
 * a minute: WEIR_ETIMEOUT. */
int nemesis_settle(struct nemesis_world *w, struct error *err);

/* --- For the run --- */
struct nemesis_options {
    const char *names; /* "none", "mix", or names with commas between */
    uint64_t seed;
    uint32_t seconds;            /* until the final heal */
    uint32_t quiet_ms, fault_ms; /* means */
};
/* Starts the thread; *world is its own until nemesis_stop. Unknown names: WEIR_EINVAL lists what
 * there is. */
int nemesis_start(struct nemesis_world *world, const struct nemesis_options *options,
                  struct nemesis **ret_nemesis, struct error *err);
/* All is healed and every node runs; from any thread. */
bool nemesis_done(const struct nemesis *n);
/* Ends early if need be, heals, waits, frees. Negative: a fault could not be done or undone. */
int nemesis_stop(struct nemesis *n, struct error *err);
/* What this cluster lacks for a fault, in words; NULL: nothing. */
const char *nemesis_lacks(const struct fault *f, unsigned members, bool other, bool network,
                          bool disks);
/* A fault among these needs a host that is not a member yet; clocks that can be changed. */
bool nemesis_needs_spare(const char *names);
bool nemesis_needs_clock(const char *names);
/* Nodes have to write down what names they change. Not in a mix: what is kept of removed files
 * takes room that a full disk is about. */
bool nemesis_loses_names(const char *names);
/* The nodes are to begin with the other build. */
bool nemesis_upgrades(const char *names);

#endif
