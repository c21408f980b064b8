/* weir-jepsen: runs of workloads under nemeses; `./dev jepsen` calls it. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/logging.h"
#include "jepsen/control/matrix.h"
#include "jepsen/control/proof.h"
#include "jepsen/control/run.h"
#include "jepsen/control/summary.h"

static const struct workload *const workloads[] = {&workload_log,       &workload_register,
                                                   &workload_ledger,    &workload_chat,
                                                   &workload_lifecycle, &workload_broadcast};
#define FAULT_RUNS  10 /* seeds that are tried */
#define N_WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

static int usage(void)
{
    (void)fputs(
        "usage: ./dev jepsen [--workload W] [--nemesis N] [--time S] [--seed N] [--nodes 3|5] "
        "[--runs N]\n"
        "       ./dev jepsen --all [--time S] [--seed N] [--for SECONDS]\n"
        "       ./dev jepsen --report DIR...\n"
        "       ./dev jepsen --faults [--fault F] [--seed N] [--runs N]\n"
        "       ./dev jepsen --list\n\n"
        "  --workload W   one of those below, or several with commas between (log)\n"
        "  --nemesis N    a fault, several with commas between, `mix` (any of them), or `none` "
        "(mix)\n"
        "  --time S       seconds of work in a run (60)\n"
        "  --seed N       of the schedule and the operations (from the clock)\n"
        "  --nodes N      in the cluster (5)\n"
        "  --processes N  clients\n"
        "  --pause MS     of a client between two operations, mean\n"
        "  --quiet-ms N, --fault-ms N  mean times between faults and of one (4000)\n"
        "  --runs N       so many, with seeds that count up\n"
        "  --all          every workload under every nemesis, one after the other; --for ends it "
        "earlier\n"
        "  --report DIR.. the tables of all runs in those folders (of jepsen/store)\n"
        "  --slice        a few short runs of all kinds, as CI does them\n"
        "  --other FILE   another build of weir, for upgrades\n"
        "  --fault F      nodes break a promise on purpose: F of base/fault.h, several with commas "
        "between\n"
        "  --faults       each fault is run until it is found, with at most --runs seeds (10)\n"
        "  --plain        no TLS between nodes\n"
        "  --no-network   nodes on loopback addresses; --no-disks: with folders for disks\n"
        "  --store DIR    results (jepsen/store/<date>)\n\n"
        "Exit status: 0 all valid, 1 something was not, 2 wrong use, 3 something could not be "
        "checked.\n",
        stderr);
    return 2;
}

static int list(void)
{
    (void)printf("workloads:\n");
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        (void)printf("  %-22s %s\n", workloads[i]->name, workloads[i]->about);
    }
    (void)printf("\nnemeses:\n");
    for (unsigned i = 0; i < nemesis_n_faults; i++) {
        (void)printf("  %-22s %s\n", nemesis_faults[i].name, nemesis_faults[i].about);
    }
    return 0;
}

static int report(int n, char **folders)
{
    static struct summary s;
    for (int i = 0; i < n; i++) {
        if (summary_take(&s, folders[i]) != 0) {
            (void)fprintf(stderr, "jepsen: no folder %s\n", folders[i]);
            return 2;
        }
    }
    summary_print(&s, stdout);
    return n > 0 ? 0 : usage();
}

static void on_signal(int signum)
{
    (void)signum;
    run_interrupt();
}

static const struct workload *find(const char *name, size_t len)
{
    for (size_t i = 0; i < N_WORKLOADS; i++) {
        if (strlen(workloads[i]->name) == len && memcmp(workloads[i]->name, name, len) == 0) {
            return workloads[i];
        }
    }
    return NULL;
}

/* Names with commas between; "all": every one. 0, or -1. */
static int take_workloads(struct matrix_options *o, const char *names)
{
    o->n_workloads = 0;
    if (strcmp(names, "all") == 0) {
        for (size_t i = 0; i < N_WORKLOADS; i++) {
            o->workloads[o->n_workloads++] = workloads[i];
        }
        return 0;
    }
    while (*names != '\0') {
        size_t n = strcspn(names, ",");
        const struct workload *w = find(names, n);
        if (w == NULL || o->n_workloads == MATRIX_WORKLOADS_MAX) {
            (void)fprintf(stderr, "jepsen: no workload %.*s (--list)\n", (int)n, names);
            return -1;
        }
        o->workloads[o->n_workloads++] = w;
        names += n + (names[n] == ',');
    }
    return o->n_workloads > 0 ? 0 : -1;
}

enum {
    OPT_WORKLOAD = 1,
    OPT_NEMESIS,
    OPT_TIME,
    OPT_SEED,
    OPT_NODES,
    OPT_PROCESSES,
    OPT_PAUSE,
    OPT_QUIET,
    OPT_DURATION,
    OPT_RUNS,
    OPT_ALL,
    OPT_FOR,
    OPT_OTHER,
    OPT_FAULT,
    OPT_FAULTS,
    OPT_PLAIN,
    OPT_STORE,
    OPT_LIST,
    OPT_WEIR,
    OPT_CHECK,
    OPT_SWEEP,
    OPT_REPORT,
    OPT_SLICE,
    OPT_NO_NETWORK,
    OPT_NO_DISKS,
    OPT_TOOLS
};

static const struct option options[] = {{"workload", 1, NULL, OPT_WORKLOAD},
                                        {"nemesis", 1, NULL, OPT_NEMESIS},
                                        {"time", 1, NULL, OPT_TIME},
                                        {"seed", 1, NULL, OPT_SEED},
                                        {"nodes", 1, NULL, OPT_NODES},
                                        {"processes", 1, NULL, OPT_PROCESSES},
                                        {"pause", 1, NULL, OPT_PAUSE},
                                        {"runs", 1, NULL, OPT_RUNS},
                                        {"all", 0, NULL, OPT_ALL},
                                        {"for", 1, NULL, OPT_FOR},
                                        {"other", 1, NULL, OPT_OTHER},
                                        {"fault", 1, NULL, OPT_FAULT},
                                        {"faults", 0, NULL, OPT_FAULTS},
                                        {"quiet-ms", 1, NULL, OPT_QUIET},
                                        {"fault-ms", 1, NULL, OPT_DURATION},
                                        {"plain", 0, NULL, OPT_PLAIN},
                                        {"store", 1, NULL, OPT_STORE},
                                        {"list", 0, NULL, OPT_LIST},
                                        {"weir", 1, NULL, OPT_WEIR},
                                        {"check", 1, NULL, OPT_CHECK},
                                        {"sweep", 0, NULL, OPT_SWEEP},
                                        {"report", 0, NULL, OPT_REPORT},
                                        {"slice", 0, NULL, OPT_SLICE},
                                        {"no-network", 0, NULL, OPT_NO_NETWORK},
                                        {"no-disks", 0, NULL, OPT_NO_DISKS},
                                        {"tools", 1, NULL, OPT_TOOLS},
                                        {NULL, 0, NULL, 0}};

/* A whole number of at least 1; -1 otherwise. */
static int take_number(uint64_t *out, const char *text)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || *out == 0 || *out > INT32_MAX) {
        (void)fprintf(stderr, "jepsen: %s is no number from 1 to %d\n", text, INT32_MAX);
        return -1;
    }
    return 0;
}

struct asked {
    struct matrix_options o;
    bool faults;       /* the table of faults instead of runs */
    const char *fault; /* of it; or of the nodes */
    char environment[128];
};

/* 1: no option with a number. */
static int take_figure(struct matrix_options *o, int c)
{
    static const int figures[] = {OPT_TIME, OPT_SEED,  OPT_NODES,    OPT_PROCESSES, OPT_RUNS,
                                  OPT_FOR,  OPT_QUIET, OPT_DURATION, OPT_PAUSE};
    uint64_t n = 0;
    bool is_one = false;
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        is_one = is_one || figures[i] == c;
    }
    if (!is_one) {
        return 1;
    }
    if (take_number(&n, optarg) != 0) {
        return -1;
    }
    o->run.seed = c == OPT_SEED ? n : o->run.seed;
    o->run.seconds = c == OPT_TIME ? (uint32_t)n : o->run.seconds;
    o->run.nodes = c == OPT_NODES ? (unsigned)n : o->run.nodes;
    o->run.processes = c == OPT_PROCESSES ? (unsigned)n : o->run.processes;
    o->run.quiet_ms = c == OPT_QUIET ? (uint32_t)n : o->run.quiet_ms;
    o->run.fault_ms = c == OPT_DURATION ? (uint32_t)n : o->run.fault_ms;
    o->run.pause_ms = c == OPT_PAUSE ? (uint32_t)n : o->run.pause_ms;
    o->runs = c == OPT_RUNS ? (unsigned)n : o->runs;
    o->seconds = c == OPT_FOR ? (uint32_t)n : o->seconds;
    return o->run.nodes == 3 || o->run.nodes == 5 ? 0 : -1;
}

static int take_option(struct asked *asked, int c)
{
    struct matrix_options *o = &asked->o;
    int figure = take_figure(o, c);
    if (figure <= 0) {
        return figure;
    }
    switch (c) {
    case OPT_WORKLOAD:
        return take_workloads(o, optarg);
    case OPT_NEMESIS:
        o->nemesis = optarg;
        return 0;
    case OPT_ALL:
        o->all = true;
        return o->n_workloads == 0 ? take_workloads(o, "all") : 0;
    case OPT_OTHER:
        o->run.other = optarg;
        return 0;
    case OPT_FAULT:
        asked->fault = optarg;
        return 0;
    case OPT_FAULTS:
        asked->faults = true;
        return 0;
    case OPT_SLICE:
        o->slice = true;
        return 0;
    case OPT_PLAIN:
        o->run.plain = true;
        return 0;
    case OPT_NO_NETWORK:
        o->run.network = false;
        return 0;
    case OPT_NO_DISKS:
        o->run.disks = false;
        return 0;
    case OPT_STORE:
        o->store = optarg;
        return 0;
    case OPT_WEIR:
        o->run.program = optarg;
        return 0;
    case OPT_TOOLS:
        o->run.tools = optarg;
        return 0;
    case OPT_CHECK:
        o->run.checker = optarg;
        return 0;
    default:
        return -1;
    }
}

/* What is not there is said, and not tried. */
static void find_means(struct run_options *o)
{
    struct hosts_means means;
    hosts_probe(&means);
    if (o->network && !means.network) {
        (void)fprintf(stderr,
                      "jepsen: no network namespaces here (%s): nodes are on loopback addresses, "
                      "and nothing is cut, lost or delayed\n",
                      means.network_why);
    }
    if (o->disks && !means.disks) {
        (void)fprintf(stderr,
                      "jepsen: no loop devices here (%s): disks are folders, and don't fail\n",
                      means.disks_why);
    }
    o->network = o->network && means.network;
    o->disks = o->disks && means.disks;
}

static void set_signals(void)
{
    struct sigaction act = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static int go(struct asked *asked)
{
    struct matrix_options *o = &asked->o;
    if (asked->faults) {
        o->run.seed = o->run.seed != 0 ? o->run.seed : 1;
        o->runs = o->runs != 0 ? o->runs : FAULT_RUNS;
        return proof(o, asked->fault);
    }
    if (asked->fault != NULL) {
        (void)snprintf(asked->environment, sizeof(asked->environment), "WEIR_FAULTS=%s",
                       asked->fault);
        o->run.environment = asked->environment;
    }
    o->runs = o->runs != 0 ? o->runs : 1;
    o->run.seed = o->run.seed != 0 ? o->run.seed : (uint64_t)time(NULL);
    o->nemesis = o->nemesis != NULL ? o->nemesis : "mix";
    return matrix(o);
}

int main(int argc, char **argv)
{
    struct asked asked = {.o.run = {.seconds = 60, .nodes = 5, .network = true, .disks = true}};
    struct matrix_options *o = &asked.o;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == OPT_LIST) {
            return list();
        }
        if (c == OPT_REPORT) {
            return report(argc - optind, argv + optind);
        }
        if (c == OPT_SWEEP) {
            hosts_sweep();
            return 0;
        }
        if (take_option(&asked, c) != 0) {
            return usage();
        }
    }
    if (optind != argc || o->run.program == NULL || o->run.checker == NULL ||
        o->run.tools == NULL || o->store == NULL) {
        return usage();
    }
    if (o->n_workloads == 0 && take_workloads(o, "log") != 0) {
        return usage();
    }
    set_signals();
    log_set_level(LOG_ERROR); /* of our own clients: broken connections are what this is about */
    hosts_sweep();
    find_means(&o->run);
    return go(&asked);
}
