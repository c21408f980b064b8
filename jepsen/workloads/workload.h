/* A workload: clients of one real interface, what they do, and which checker judges it. All clients
 * of a run live on one loop, that of the control program; the nemesis has its own thread.
 *
 * A process does one operation at a time: the runner calls `next` of a free process, the workload
 * writes :invoke with process_invoke, and ends it, later, with process_end. After HISTORY_INFO the
 * process has a new number. When the time is over no process is asked again; the nemesis heals, the
 * runner waits for the cluster, and calls `final` once: the workload reads what it needs to be
 * judged (through process_invoke and process_end too) and calls run_final_done. */
#ifndef JEPSEN_WORKLOADS_WORKLOAD_H
#define JEPSEN_WORKLOADS_WORKLOAD_H

#include "base/env.h"
#include "jepsen/history/history.h"
#include "jepsen/hosts/hosts.h"

struct run;

struct process {
    struct run *run;
    unsigned slot;  /* 0 .. n-1: which client */
    int64_t number; /* as the history has it */
    bool busy;
    uint64_t next_ns; /* not asked before */
    void *data;       /* the workload's */
    char f[24];       /* of the open operation */
};

struct workload {
    const char *name, *about;
    const char *checker; /* weir-check's name of it */
    const char *config;  /* lines of configuration that every node needs */
    bool views;          /* nodes have the roles that fold the log */
    bool media;          /* somebody broadcasts: nodes transcode */
    unsigned processes;  /* unless told otherwise */
    uint32_t pause_us;   /* of a process between two operations, mean */
    /* The cluster serves. Makes clients, accounts, channels. `started` may come later. */
    int (*start)(struct run *run, void **ret_state, struct error *err);
    void (*next)(void *state, struct process *p);
    void (*final)(void *state);
    /* Lets go of everything, then run_stopped. */
    void (*stop)(void *state);
};
extern const struct workload workload_log, workload_register, workload_ledger, workload_chat,
    workload_lifecycle, workload_broadcast;

/* --- What a workload has of its run --- */

struct env *run_env(struct run *run);
struct hosts *run_hosts(struct run *run); /* addresses only */
const char *run_secret(struct run *run);  /* cluster.secret */
const char *run_dir(struct run *run);     /* of this run's results */
uint64_t run_random(struct run *run, uint64_t below);
struct history *run_history(struct run *run);
unsigned run_n_processes(struct run *run);
struct process *run_process(struct run *run, unsigned slot);
bool run_ending(struct run *run); /* no new operations */
void run_started(struct run *run);
/* Can't be judged: ends the run as unchecked, with the reason. */
void run_failed(struct run *run, const char *why);
/* What must not be, though no operation of the history shows it: the run is invalid. `finding`: one
 * word. */
void run_found(struct run *run, const char *finding, const char *why);
void run_final_done(struct run *run);
void run_stopped(struct run *run);

/* printf of EDN. */
void process_invoke(struct process *p, const char *f, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `type` is HISTORY_OK, _FAIL or _INFO; `error`: a few words, or NULL. */
void process_end(struct process *p, enum history_type type, const char *error, const char *format,
                 ...) __attribute__((format(printf, 4, 5)));

#endif
