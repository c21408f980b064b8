/* Runs seeds, each in a process of its own. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/logging.h"
#include "sim.h"

#ifdef WEIR_FAULTS
#include "consensus/group_impl.h"
#endif

#define JOBS_MAX    8
#define HEAL_S      90
#define RUN_SECONDS 60 /* of the processor's time: a run that takes longer hangs */
#define EXIT_BAD    1
#define EXIT_USAGE  2

struct report {
    uint64_t trace, simulated_ns;
    unsigned violation;
    struct {
        uint64_t events, acked, unknown, committed, consumed, crashes, elections;
    } count;
};

struct options {
    struct sim_options run;
    uint64_t first, last;
    unsigned seconds; /* of real time; 0: until `last` */
    unsigned jobs;
    bool twice, expect;
};

/* --- One run --- */

static void run_until(uint64_t end_ns)
{
    while (sim.violation == 0 && sim.now_ns < end_ns && sim_step()) {}
}

/* The world is whole again: everything has to go on, and to agree, within a while. */
static void run_heal(void)
{
    const char *why = "";
    nemesis_heal();
    uint64_t end = sim.now_ns + HEAL_S * SIM_S;
    run_until(sim.now_ns + 2 * SIM_S);
    workload_end();
    while (sim.violation == 0 && sim.now_ns < end) {
        run_until(sim.now_ns + SIM_S / 2);
        for (unsigned i = 1; i <= sim.n_nodes; i++) {
            if (check_failed_replica(i) != NULL) {
                machine_crash(&sim.machines[i], CRASH_KILL, 100 * SIM_MS);
            }
        }
        if (workload_done() && check_converged(&why)) {
            check_end();
            return;
        }
    }
    const char *missing = workload_missing();
    check_say();
    sim_violate(SIM_STUCK, "%u s after the end of all trouble: %s", HEAL_S,
                missing != NULL ? missing : why);
}

static void run(const struct sim_options *options, struct report *ret_report)
{
    sim_init(options);
    cluster_init();
    check_init();
    nemesis_init();
    workload_init();
    for (unsigned i = 1; i <= sim.n_nodes; i++) {
        machine_boot_in(&sim.machines[i], sim_below(300 * SIM_MS));
    }
    uint64_t seconds = options->seconds != 0 ? options->seconds : sim_between(8, 25);
    run_until(sim.now_ns + seconds * SIM_S);
    if (sim.violation == 0) {
        run_heal();
    }
    *ret_report = (struct report){
        .trace = sim.trace,
        .simulated_ns = sim.now_ns,
        .violation = sim.violation,
        .count = {sim.count.events, sim.count.acked, sim.count.unknown, sim.count.committed,
                  sim.count.consumed, sim.count.crashes, sim.count.elections},
    };
}

/* --- Many --- */

struct job {
    pid_t pid;
    int fd;
    uint64_t seed;
};

struct totals {
    unsigned done, bad;
    uint64_t first_bad, trace, simulated_ns;
    struct report sum;
};

/* Not of real time: others may use the machine, too. */
static void limit_time(void)
{
    struct itimerval limit = {.it_value = {.tv_sec = RUN_SECONDS}};
    (void)setitimer(ITIMER_PROF, &limit, NULL);
}

static void start(struct job *job, const struct options *o, uint64_t seed)
{
    int fds[2];
    (void)fflush(stdout);
    if (pipe(fds) != 0 || (job->pid = fork()) < 0) {
        perror("sim");
        exit(EXIT_USAGE);
    }
    if (job->pid == 0) {
        struct sim_options options = o->run;
        struct report report;
        options.seed = seed;
        limit_time();
        run(&options, &report);
        (void)fflush(stdout);
        ssize_t n = write(fds[1], &report, sizeof(report));
        _exit(n == (ssize_t)sizeof(report) && report.violation == 0 ? 0 : EXIT_BAD);
    }
    (void)close(fds[1]);
    job->fd = fds[0];
    job->seed = seed;
}

static void add(struct totals *t, const struct report *r)
{
    t->simulated_ns += r->simulated_ns;
    t->sum.count.events += r->count.events;
    t->sum.count.acked += r->count.acked;
    t->sum.count.unknown += r->count.unknown;
    t->sum.count.committed += r->count.committed;
    t->sum.count.consumed += r->count.consumed;
    t->sum.count.crashes += r->count.crashes;
    t->sum.count.elections += r->count.elections;
}

/* What else the run hangs on. */
static void say_options(const struct sim_options *o)
{
    if (o->nodes != 0) {
        printf(" --nodes %u", o->nodes);
    }
    if (o->shards != 0) {
        printf(" --shards %u", o->shards);
    }
    if (o->named) {
        printf(" --named");
    }
    if (o->seconds != 0) {
        printf(" --trouble %u", o->seconds);
    }
    if (o->faults_off != 0) {
        printf(" --without %#x", o->faults_off);
    }
    printf("\n");
}

static void finish(struct job *job, struct totals *t, const struct options *o)
{
    struct report r = {0};
    int status = 0;
    bool whole = read(job->fd, &r, sizeof(r)) == (ssize_t)sizeof(r);
    (void)close(job->fd);
    (void)waitpid(job->pid, &status, 0);
    job->pid = 0;
    t->done++;
    t->trace = r.trace;
    add(t, &r);
    if (WIFSIGNALED(status)) {
        printf("seed %llu: signal %d%s\n", (unsigned long long)job->seed, WTERMSIG(status),
               WTERMSIG(status) == SIGPROF ? ": it hangs" : "");
    }
    if (!whole || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        t->bad++;
        t->first_bad = t->first_bad == 0 || job->seed < t->first_bad ? job->seed : t->first_bad;
        if (!o->expect) {
            printf("seed %llu: FAILED; again with: ./dev sim --seed %llu",
                   (unsigned long long)job->seed, (unsigned long long)job->seed);
            say_options(&o->run);
        }
    }
    (void)fflush(stdout);
}

static void run_all(const struct options *o, struct totals *t)
{
    struct job jobs[JOBS_MAX] = {0};
    time_t began = time(NULL);
    uint64_t seed = o->first;
    for (unsigned running = 0;;) {
        bool more = seed <= o->last &&
                    (o->seconds == 0 || time(NULL) - began < (time_t)o->seconds) &&
                    !(o->expect && t->bad > 0);
        if (more && running < o->jobs) {
            unsigned i = 0;
            while (jobs[i].pid != 0) {
                i++;
            }
            start(&jobs[i], o, seed++);
            running++;
            continue;
        }
        if (running == 0) {
            return;
        }
        siginfo_t info;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) != 0) {
            return;
        }
        for (unsigned i = 0; i < o->jobs; i++) {
            if (jobs[i].pid == info.si_pid) {
                finish(&jobs[i], t, o);
                running--;
            }
        }
    }
}

/* --- The command line --- */

static void usage(void)
{
    fprintf(stderr, "usage: sim [--seed N | --seeds A..B | --for DURATION] [OPTION]...\n"
                    "  --seed N         one run, with its trace hash\n"
                    "  --seeds A..B     these\n"
                    "  --for 90s|10m|2h fresh seeds until the time is up\n"
                    "  --jobs N         at a time (2)\n"
                    "  --nodes N        3 to 5 instead of by seed\n"
                    "  --shards N       1 to 3 of a node instead of by seed\n"
                    "  --named          all clients produce under one name\n"
                    "  --trouble S      simulated seconds of trouble instead of by seed\n"
                    "  --without BITS   leave out faults (tests/sim/sim.h)\n"
                    "  --twice          every seed twice: the trace must be the same\n"
                    "  --expect-violation  succeed when one is found\n"
                    "  --verbose        say what happens\n"
                    "in sim_faults only:\n"
                    "  --fault NAME     a fault of base/fault.h\n"
                    "  --without-guard N  of docs/raft-guards.md\n");
    exit(EXIT_USAGE);
}

static uint64_t number(const char *text, char **ret_end)
{
    uint64_t v = strtoull(text, ret_end, 0);
    if (*ret_end == text) {
        usage();
    }
    return v;
}

static uint64_t whole_number(const char *text)
{
    char *end;
    uint64_t v = number(text, &end);
    if (*end != '\0') {
        usage();
    }
    return v;
}

static unsigned duration(const char *text)
{
    char *end;
    uint64_t v = number(text, &end);
    v *= *end == 'h' ? 3600 : *end == 'm' ? 60 : 1;
    return (unsigned)v;
}

static void take_seeds(struct options *o, const char *text)
{
    char *end;
    o->first = number(text, &end);
    if (strncmp(end, "..", 2) != 0) {
        usage();
    }
    o->last = whole_number(end + 2);
}

#ifdef WEIR_FAULTS
bool group_no_memory(void)
{
    return false;
}

static void take_fault(const char *text)
{
#define X(id, name, what) name,
    static const char *const names[] = {FAULT_MAP(X)};
#undef X
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        if (strcmp(names[i], text) == 0) {
            faults_on |= 1u << i;
            return;
        }
    }
    usage();
}

static void take_switch(int c, const char *text)
{
    if (c == 'F') {
        take_fault(text);
    } else {
        group_guards_off |= 1u << (whole_number(text) & 31);
    }
}
#else
static void take_switch(int c, const char *text)
{
    (void)c;
    (void)text;
    usage();
}
#endif

static void take_option(struct options *o, int c)
{
    switch (c) {
    case 's':
        o->first = o->last = whole_number(optarg);
        break;
    case 'S':
        take_seeds(o, optarg);
        break;
    case 'f':
        o->seconds = duration(optarg);
        o->first = (uint64_t)time(NULL) * 1000;
        o->last = UINT64_MAX - 1;
        break;
    case 'j':
        o->jobs = (unsigned)whole_number(optarg);
        break;
    case 'n':
        o->run.nodes = (unsigned)whole_number(optarg);
        break;
    case 'h':
        o->run.shards = (unsigned)whole_number(optarg);
        break;
    case 'N':
        o->run.named = true;
        break;
    case 't':
        o->run.seconds = (unsigned)whole_number(optarg);
        break;
    case 'w':
        o->run.faults_off |= (uint32_t)whole_number(optarg);
        break;
    case '2':
        o->twice = true;
        break;
    case 'e':
        o->expect = true;
        break;
    case 'F':
    case 'g':
        take_switch(c, optarg);
        break;
    case 'v':
        o->run.verbose = true;
        break;
    default:
        usage();
    }
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'S'},
        {"for", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},
        {"nodes", required_argument, NULL, 'n'},
        {"shards", required_argument, NULL, 'h'},
        {"named", no_argument, NULL, 'N'},
        {"trouble", required_argument, NULL, 't'},
        {"without", required_argument, NULL, 'w'},
        {"twice", no_argument, NULL, '2'},
        {"expect-violation", no_argument, NULL, 'e'},
        {"verbose", no_argument, NULL, 'v'},
        {"fault", required_argument, NULL, 'F'},
        {"without-guard", required_argument, NULL, 'g'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        take_option(o, c);
    }
    if (optind != argc || o->jobs == 0 || o->jobs > JOBS_MAX || o->run.shards > SIM_SHARDS_MAX ||
        (o->run.nodes != 0 && (o->run.nodes < 3 || o->run.nodes > SIM_NODES_MAX))) {
        usage();
    }
}

/* Every seed once more, by itself: equal traces. */
static unsigned compare_traces(const struct options *o)
{
    unsigned different = 0;
    for (uint64_t seed = o->first; seed <= o->last; seed++) {
        struct options one = *o;
        struct totals a = {0}, b = {0};
        one.first = one.last = seed;
        run_all(&one, &a);
        run_all(&one, &b);
        printf("seed %llu: trace %016llx and %016llx\n", (unsigned long long)seed,
               (unsigned long long)a.trace, (unsigned long long)b.trace);
        different += a.trace != b.trace || a.bad > 0 || b.bad > 0;
    }
    return different;
}

int main(int argc, char **argv)
{
    struct options o = {.first = 1, .last = 20, .jobs = 2};
    struct totals t = {0};
    parse(argc, argv, &o);
    log_set_level(o.run.verbose ? LOG_INFO : LOG_ERROR);
    if (!o.run.verbose) {
        log_set_level((enum log_level) - 1);
    }
    if (o.twice) {
        return compare_traces(&o) == 0 ? 0 : EXIT_BAD;
    }
    time_t began = time(NULL);
    run_all(&o, &t);
    if (o.first == o.last) {
        printf("seed %llu: trace %016llx\n", (unsigned long long)o.first,
               (unsigned long long)t.trace);
    }
    unsigned per = t.done > 0 ? t.done : 1;
    printf("sim: %u seeds in %lld s, %llu simulated s; a run: %llu events, %llu entries committed, "
           "%llu records acknowledged, %llu unknown, %llu consumed, %llu crashes, %llu elections\n",
           t.done, (long long)(time(NULL) - began), (unsigned long long)(t.simulated_ns / SIM_S),
           (unsigned long long)(t.sum.count.events / per),
           (unsigned long long)(t.sum.count.committed / per),
           (unsigned long long)(t.sum.count.acked / per),
           (unsigned long long)(t.sum.count.unknown / per),
           (unsigned long long)(t.sum.count.consumed / per),
           (unsigned long long)(t.sum.count.crashes / per),
           (unsigned long long)(t.sum.count.elections / per));
    if (o.expect) {
        printf("%s: first violation at seed %llu\n", t.bad > 0 ? "found" : "NOT FOUND",
               (unsigned long long)t.first_bad);
        return t.bad > 0 ? 0 : EXIT_BAD;
    }
    printf("%u passed, %u failed\n", t.done - t.bad, t.bad);
    return t.bad == 0 ? 0 : EXIT_BAD;
}
