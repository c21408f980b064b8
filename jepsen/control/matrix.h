/* Many runs, one after the other, and the table of what they said. */
#ifndef JEPSEN_CONTROL_MATRIX_H
#define JEPSEN_CONTROL_MATRIX_H

#include "jepsen/control/run.h"

#define MATRIX_WORKLOADS_MAX 8

struct matrix_options {
    struct run_options run; /* of each; seeds count up from its seed */
    const struct workload *workloads[MATRIX_WORKLOADS_MAX];
    unsigned n_workloads;
    const char *nemesis;
    bool all;   /* under every fault, one by one, and then the mix */
    bool slice; /* a few runs of different kinds, in minutes: for CI */
    unsigned runs;
    uint32_t seconds;  /* no run begins after so many; 0: all do */
    const char *store; /* made; a folder a run, and summary.txt */
};
/* The exit status: 0 all valid, 1 one was not, 3 one could not be checked. */
int matrix(const struct matrix_options *options);

#endif
