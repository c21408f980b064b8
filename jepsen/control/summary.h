/* The results of many runs (run.edn and verdict.edn of each), put together into tables: what
 * `./dev jepsen --report DIR...` prints, in Markdown. */
#ifndef JEPSEN_CONTROL_SUMMARY_H
#define JEPSEN_CONTROL_SUMMARY_H

#include <stdint.h>
#include <stdio.h>

#define SUMMARY_CELLS_MAX  512
#define SUMMARY_RUNS_MAX   128 /* shown of those that were not valid */
#define SUMMARY_NAME_MAX   48
#define SUMMARY_STALLS_MAX 64

/* The runs of one workload under one nemesis; or what one kind of fault did to one workload. */
struct summary_cell {
    char workload[SUMMARY_NAME_MAX], name[SUMMARY_NAME_MAX];
    unsigned runs, invalid, unchecked;
    unsigned runs_large; /* of them on five nodes; the others had three */
    uint64_t operations, faults;
    double seconds;
    double down_ms, recovery_ms; /* the worst */
};

/* Of players, under one kind of fault: with large buffers [0], with small ones [1]. */
struct summary_stalls {
    char name[SUMMARY_NAME_MAX];
    uint64_t n[2], longest_ms[2], total_ms[2];
};

struct summary_bad {
    char workload[SUMMARY_NAME_MAX], nemesis[SUMMARY_NAME_MAX], outcome[16], reason[160];
    int64_t seed, nodes;
};

struct summary {
    struct summary_cell cells[SUMMARY_CELLS_MAX];  /* by nemesis */
    struct summary_cell faults[SUMMARY_CELLS_MAX]; /* by kind of fault, of mixes too */
    struct summary_stalls stalls[SUMMARY_STALLS_MAX];
    struct summary_bad bad[SUMMARY_RUNS_MAX];
    unsigned n_cells, n_faults, n_stalls, n_bad, n_unread;
};

/* All runs in and below `dir`. 0; -1: no such folder. */
int summary_take(struct summary *s, const char *dir);
void summary_print(struct summary *s, FILE *out);

#endif
