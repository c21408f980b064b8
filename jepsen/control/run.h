/* One run: hosts are raised, a cluster starts on them, clients work while the nemesis does, all is
 * healed, what there is is read, and the checker judges the history. Everything about it ends up in
 * one folder:
 *
 *   history.edn  verdict.edn  latency.svg  run.edn (options, outcome)  commands  n<i>/node.conf
 * n<i>/output
 */
#ifndef JEPSEN_CONTROL_RUN_H
#define JEPSEN_CONTROL_RUN_H

#include "jepsen/nemesis/nemesis.h"
#include "jepsen/workloads/workload.h"

enum run_outcome { RUN_VALID = 0, RUN_INVALID = 1, RUN_UNCHECKED = 3 };

struct run_options {
    const struct workload *workload;
    const char *nemesis; /* nemesis_options.names */
    uint64_t seed;
    uint32_t seconds;
    uint32_t quiet_ms, fault_ms; /* means, between faults and of one; 0: 4000 */
    uint32_t patience_s;         /* with nodes and last reads afterwards; 0: as long as it takes */
    unsigned nodes;              /* of the cluster: 3 or 5 */
    unsigned processes;          /* 0: the workload's */
    uint32_t pause_ms;           /* of a process between two operations, mean; 0: the workload's */
    const char *dir;             /* results; made */
    const char *program;         /* weir */
    const char *other;           /* another build of it, for upgrades; may be NULL */
    const char *tools;           /* folder of weir-jepsen-delay */
    const char *checker;         /* weir-check */
    const char *environment;     /* of the nodes: a fault build's switch; may be NULL */
    bool environment_of_one;     /* of the first node alone, and not of the tools that compare */
    bool plain;                  /* no TLS between nodes */
    bool network, disks;         /* hosts_options */
};

struct run_result {
    enum run_outcome outcome;
    char reason[512]; /* of an unchecked or invalid one, in words */
    /* What was found beside the history's anomalies, with blanks between: unavailable (the cluster
     * does not come back when all is healed), crashed, replicas-differ, views-differ, unreadable (a
     * reader was given what is damaged), two-leaders (of one term). */
    char findings[96];
    double seconds;
    uint64_t operations;
    unsigned faults;
};

/* Blocks. */
void run_once(const struct run_options *options, struct run_result *ret_result);
/* From a signal handler: ends the present run early, healing and taking down what it has raised. */
void run_interrupt(void);
bool run_interrupted(void);

#endif
