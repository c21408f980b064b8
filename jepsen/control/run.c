#include "jepsen/control/run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env_loop.h"
#include "net/http.h"

#define TICK_US         2000u
#define PROCESSES_MAX   256
#define DISK_MIB        1024
#define READY_S         60  /* until all nodes serve; a cluster that doesn't is a finding */
#define DRAIN_S         400 /* until open operations have ended and all faults are undone */
#define FINAL_S         120 /* of the workload's last reads */
#define TEMPO_MS        4000
#define HEALTH_MS       2000
#define HEALTH_PAUSE_NS 200000000u
#define EDN_MAX         (1u << 20)
#define SECOND_NS       1000000000u
/* `weir log verify` and `weir replay --verify` */
#define ANSWERS_LATE     4 /* their exit status when a node did not answer */
#define COMPARE_TRIES    6
#define COMPARE_PAUSE_MS 5000

enum phase {
    PHASE_READY, /* nodes start */
    PHASE_START, /* the workload makes what it needs */
    PHASE_WORK,
    PHASE_DRAIN, /* no new operations; the nemesis heals */
    PHASE_HEAL,  /* nodes get well */
    PHASE_FINAL,
    PHASE_STOP,
    PHASE_OVER
};

struct health {
    struct run *run;
    unsigned node;
    struct http_call *call;
    bool well;
};

struct run {
    const struct run_options *options;
    struct run_result *result;
    struct hosts hosts;
    struct env_loop *loop;
    struct env *env;
    struct http_client *http;
    struct history *history;
    struct nemesis_world world;
    struct nemesis *nemesis;
    struct process processes[PROCESSES_MAX];
    unsigned n_processes;
    void *state; /* the workload's */
    enum phase phase;
    uint64_t since_ns; /* this phase */
    uint64_t random;
    struct health health[HOSTS_MAX];
    uint64_t health_ns; /* asked again then */
    struct env_timer tick;
    bool started, final_done, stopped, over;
    char *edn; /* EDN_MAX */
};

static volatile sig_atomic_t interrupted;

void run_interrupt(void)
{
    interrupted = 1;
}

bool run_interrupted(void)
{
    return interrupted != 0;
}

/* --- For workloads --- */

struct env *run_env(struct run *run)
{
    return run->env;
}

struct hosts *run_hosts(struct run *run)
{
    return &run->hosts;
}

const char *run_secret(struct run *run)
{
    return run->hosts.secret;
}

const char *run_dir(struct run *run)
{
    return run->options->dir;
}

struct history *run_history(struct run *run)
{
    return run->history;
}

unsigned run_n_processes(struct run *run)
{
    return run->n_processes;
}

struct process *run_process(struct run *run, unsigned slot)
{
    return &run->processes[slot];
}

bool run_ending(struct run *run)
{
    return run->phase != PHASE_WORK;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t run_random(struct run *run, uint64_t below)
{
    return next_random(&run->random) % below;
}

void run_started(struct run *run)
{
    run->started = true;
}

void run_final_done(struct run *run)
{
    run->final_done = true;
}

void run_stopped(struct run *run)
{
    run->stopped = true;
}

static void conclude(struct run *run, enum run_outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The first word counts. */
static void conclude(struct run *run, enum run_outcome outcome, const char *format, ...)
{
    va_list args;
    if (run->result->reason[0] != '\0') {
        return;
    }
    run->result->outcome = outcome;
    va_start(args, format);
    (void)vsnprintf(run->result->reason, sizeof(run->result->reason), format, args);
    va_end(args);
}

void run_failed(struct run *run, const char *why)
{
    conclude(run, RUN_UNCHECKED, "%s", why);
}

static void find(struct run *run, const char *finding)
{
    size_t n = strlen(run->result->findings);
    (void)snprintf(run->result->findings + n, sizeof(run->result->findings) - n, "%s%s",
                   n > 0 ? " " : "", finding);
}

void run_found(struct run *run, const char *finding, const char *why)
{
    find(run, finding);
    conclude(run, RUN_INVALID, "%s", why);
}

void process_invoke(struct process *p, const char *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(p->run->edn, EDN_MAX, format, args);
    va_end(args);
    (void)snprintf(p->f, sizeof(p->f), "%s", f);
    p->busy = true;
    p->run->result->operations++;
    history_put(p->run->history, HISTORY_INVOKE, p->number, f, p->run->edn, NULL);
}

void process_end(struct process *p, enum history_type type, const char *error, const char *format,
                 ...)
{
    struct run *run = p->run;
    char text[128];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(run->edn, EDN_MAX, format, args);
    va_end(args);
    (void)snprintf(text, sizeof(text), "\"%s\"", error != NULL ? error : "");
    history_put(run->history, type, p->number, p->f, run->edn, error != NULL ? text : NULL);
    p->busy = false;
    p->number += type == HISTORY_INFO ? run->n_processes : 0;
    uint64_t pause_us = run->options->pause_ms != 0 ? 1000u * (uint64_t)run->options->pause_ms
                                                    : run->options->workload->pause_us;
    p->next_ns = env_now_ns(run->env) + 1000u * run_random(run, 2u * pause_us + 1);
}

/* --- Are the nodes well? --- */

static void on_health(void *data, int status, struct http_body *body)
{
    struct health *h = data;
    (void)body;
    h->call = NULL;
    h->well = status == 200;
}

static void ask_health(struct run *run)
{
    for (unsigned i = 0; i < run->hosts.n; i++) {
        struct health *h = &run->health[i];
        struct error err = {0};
        h->run = run;
        if (h->call == NULL && run->hosts.at[i].member) {
            struct http_call_options call = {.method = "GET",
                                             .host = run->hosts.at[i].address,
                                             .port = HOST_PORT_HTTP,
                                             .path = "/healthz",
                                             .headers = "",
                                             .timeout_ms = HEALTH_MS,
                                             .response_max = 1u << 16};
            (void)http_call(run->http, &call, on_health, h, &h->call, &err);
        }
    }
}

static bool all_well(struct run *run, uint64_t now)
{
    bool well = true;
    for (unsigned i = 0; i < run->hosts.n; i++) {
        well = well && (run->health[i].well || !run->hosts.at[i].member);
    }
    if (!well && now >= run->health_ns) {
        run->health_ns = now + HEALTH_PAUSE_NS;
        ask_health(run);
    }
    return well;
}

static const char *who_is_not_well(const struct run *run)
{
    for (unsigned i = 0; i < run->hosts.n; i++) {
        if (run->hosts.at[i].member && !run->health[i].well) {
            return run->hosts.at[i].name;
        }
    }
    return "nobody";
}

/* --- Phases --- */

static void enter(struct run *run, enum phase phase)
{
    run->phase = phase;
    run->since_ns = env_now_ns(run->env);
}

/* Gives up: what runs is let go of. */
static void give_up(struct run *run)
{
    if (run->state != NULL && run->phase != PHASE_STOP) {
        run->options->workload->stop(run->state);
        enter(run, PHASE_STOP);
    } else {
        run->over = true;
    }
}

static bool too_long(struct run *run, uint64_t now, uint32_t seconds, enum run_outcome outcome,
                     const char *what)
{
    if (now - run->since_ns <= (uint64_t)seconds * SECOND_NS) {
        return false;
    }
    if (outcome == RUN_INVALID) {
        find(run, "unavailable");
    }
    conclude(run, outcome, "%s within %u s", what, seconds);
    give_up(run);
    return true;
}

/* A program without the fault that it is to have would prove nothing. */
static bool has_fault(struct run *run)
{
    if (run->options->environment == NULL ||
        hosts_runf(&run->hosts, "grep -q ^FAULT %s/output", run->hosts.at[0].dir) == 0) {
        return true;
    }
    conclude(run, RUN_UNCHECKED, "this build of weir has no faults to switch on");
    return false;
}

static void begin_workload(struct run *run)
{
    const struct run_options *o = run->options;
    struct error err = {0};
    enter(run, PHASE_START);
    if (!has_fault(run)) {
        give_up(run);
        return;
    }
    if (o->workload->start(run, &run->state, &err) != 0) {
        conclude(run, RUN_UNCHECKED, "the workload can't start: %s", err.text);
        give_up(run);
    }
}

static void begin_work(struct run *run)
{
    struct nemesis_options options = {.names = run->options->nemesis,
                                      .seed = run->options->seed,
                                      .seconds = run->options->seconds,
                                      .quiet_ms = run->options->quiet_ms,
                                      .fault_ms = run->options->fault_ms};
    struct error err = {0};
    options.quiet_ms = options.quiet_ms != 0 ? options.quiet_ms : TEMPO_MS;
    options.fault_ms = options.fault_ms != 0 ? options.fault_ms : TEMPO_MS;
    if (nemesis_start(&run->world, &options, &run->nemesis, &err) != 0) {
        conclude(run, RUN_UNCHECKED, "the nemesis can't start: %s", err.text);
        give_up(run);
        return;
    }
    enter(run, PHASE_WORK);
}

static unsigned n_busy(const struct run *run)
{
    unsigned n = 0;
    for (unsigned i = 0; i < run->n_processes; i++) {
        n += run->processes[i].busy;
    }
    return n;
}

static void ask_processes(struct run *run, uint64_t now)
{
    for (unsigned i = 0; i < run->n_processes; i++) {
        struct process *p = &run->processes[i];
        if (!p->busy && now >= p->next_ns) {
            run->options->workload->next(run->state, p);
        }
    }
}

static void end_work(struct run *run)
{
    struct error err = {0};
    if (nemesis_stop(run->nemesis, &err) != 0) {
        conclude(run, RUN_UNCHECKED, "the nemesis: %s", err.text);
    }
    run->nemesis = NULL;
    for (unsigned i = 0; i < run->hosts.n; i++) {
        run->health[i].well = false;
    }
    enter(run, PHASE_HEAL);
}

static uint32_t patience(const struct run *run, uint32_t seconds)
{
    return run->options->patience_s != 0 ? run->options->patience_s : seconds;
}

static void step(struct run *run, uint64_t now)
{
    switch (run->phase) {
    case PHASE_READY:
        if (all_well(run, now)) {
            begin_workload(run);
        } else {
            (void)too_long(run, now, READY_S, RUN_UNCHECKED, "the cluster does not serve");
        }
        return;
    case PHASE_START:
        if (run->started) {
            begin_work(run);
        } else {
            (void)too_long(run, now, READY_S, RUN_UNCHECKED, "the workload is not ready");
        }
        return;
    case PHASE_WORK:
        if (now - run->since_ns > (uint64_t)run->options->seconds * SECOND_NS ||
            run_interrupted() || run->result->reason[0] != '\0') {
            enter(run, PHASE_DRAIN);
        } else {
            ask_processes(run, now);
        }
        return;
    case PHASE_DRAIN:
        if (n_busy(run) == 0 && (run_interrupted() || nemesis_done(run->nemesis))) {
            end_work(run);
        } else {
            (void)too_long(run, now, DRAIN_S, RUN_UNCHECKED, "operations have not ended");
        }
        return;
    case PHASE_HEAL:
        if (all_well(run, now)) {
            enter(run, PHASE_FINAL);
            run->options->workload->final(run->state);
        } else if (too_long(run, now, patience(run, READY_S), RUN_INVALID,
                            "a node is not well after all faults")) {
            (void)fprintf(stderr, "not well: %s\n", who_is_not_well(run));
        }
        return;
    case PHASE_FINAL:
        if (run->final_done) {
            enter(run, PHASE_STOP);
            run->options->workload->stop(run->state);
        } else {
            (void)too_long(run, now, patience(run, FINAL_S), RUN_INVALID,
                           "the last reads have not ended");
        }
        return;
    case PHASE_STOP:
        run->over = run->stopped || now - run->since_ns > (uint64_t)DRAIN_S * SECOND_NS;
        return;
    case PHASE_OVER:
        return;
    }
}

static void on_tick(struct env_timer *timer)
{
    struct run *run = timer->data;
    step(run, env_now_ns(run->env));
    if (!run->over) {
        env_timer_start(timer, TICK_US, on_tick);
    }
}

/* --- Before and after --- */

static int raise_cluster(struct run *run, struct error *err)
{
    const struct run_options *o = run->options;
    char path[512];
    unsigned spare = nemesis_needs_spare(o->nemesis) ? 1 : 0;
    struct hosts_options hosts = {
        .work = o->dir,
        .program = nemesis_upgrades(o->nemesis) && o->other != NULL ? o->other : o->program,
        .tools = o->tools,
        .environment = o->environment,
        .environment_of_one = o->environment_of_one,
        .n = o->nodes + spare,
        .founders = o->nodes,
        .disk_mib = DISK_MIB,
        .fake_clock = nemesis_needs_clock(o->nemesis),
        .tls = !o->plain,
        .network = o->network,
        .disks = o->disks,
        .lose_names = nemesis_loses_names(o->nemesis),
        .config = o->workload->config};
    int rv = hosts_open(&run->hosts, &hosts, err);
    for (unsigned i = 0; rv == 0 && i < o->nodes; i++) {
        rv = host_start(&run->hosts, &run->hosts.at[i], err);
    }
    (void)snprintf(path, sizeof(path), "%s/history.edn", o->dir);
    if (rv == 0) {
        run->history = history_open(path);
        rv = run->history == NULL ? error_set(err, WEIR_EIO, "%s: %s", path, strerror(errno)) : 0;
    }
    run->world = (struct nemesis_world){.hosts = &run->hosts,
                                        .history = run->history,
                                        .program = o->program,
                                        .other_program = o->other,
                                        .media = o->workload->media,
                                        .random = o->seed};
    return rv;
}

static int open_loop(struct run *run, struct error *err)
{
    int rv = env_loop_new(&run->loop, err);
    if (rv != 0) {
        return rv;
    }
    run->env = env_loop_env(run->loop);
    run->tick.data = run;
    run->edn = malloc(EDN_MAX);
    rv = run->edn == NULL ? error_set(err, WEIR_ENOMEM, "no memory") : 0;
    rv = rv == 0 ? http_client_new(run->env, &run->http, err) : rv;
    rv = rv == 0 ? env_timer_init(run->env, &run->tick) : rv;
    return rv;
}

static void close_loop(struct run *run)
{
    env_timer_close(&run->tick);
    if (run->http != NULL) {
        http_client_free(run->http);
    }
    if (run->loop != NULL) {
        env_loop_free(run->loop);
    }
    free(run->edn);
}

/* A node that ended although nobody killed it is a finding, whatever the history says. */
static void look_for_crashes(struct run *run)
{
    for (unsigned i = 0; i < run->hosts.n; i++) {
        struct host *host = &run->hosts.at[i];
        (void)host_runs(host);
        if (host->crashes > 0) {
            find(run, "crashed");
            conclude(run, RUN_INVALID, "%s ended by itself with status %d (see its output)",
                     host->name, host->crash_status);
        }
    }
}

/* A command of `weir` that compares. When somebody does not answer it is given again: only that
 * may pass. It has the nodes' faults too, as one that is not known would be everywhere. */
static int compare(struct run *run, const char *command)
{
    const struct run_options *o = run->options;
    bool faulty = o->environment != NULL && !o->environment_of_one;
    int status = ANSWERS_LATE;
    for (unsigned i = 0; i < COMPARE_TRIES && status == ANSWERS_LATE; i++) {
        hosts_pause_ms(i == 0 ? 0 : COMPARE_PAUSE_MS);
        status = hosts_runf(&run->hosts, "env %s %s %s --config %s/client.conf",
                            faulty ? o->environment : "", o->program, command, run->hosts.work);
    }
    return status;
}

/* All replicas equal, all views equal to what their log folds to. */
static void compare_replicas(struct run *run)
{
    if (run->result->reason[0] != '\0') {
        return;
    }
    int status = compare(run, "log verify");
    if (status != 0) {
        find(run, status == ANSWERS_LATE ? "unavailable" : "replicas-differ");
        conclude(run, RUN_INVALID, "weir log verify finds differences (see commands)");
    }
    status = run->options->workload->views ? compare(run, "replay --verify") : 0;
    if (status != 0) {
        find(run, status == ANSWERS_LATE ? "unavailable" : "views-differ");
        conclude(run, RUN_INVALID, "weir replay --verify finds differences (see commands)");
    }
}

/* What the nodes said: in each group's term at most one of them was elected. */
static void look_for_two_leaders(struct run *run)
{
    char line[1024];
    (void)snprintf(line, sizeof(line),
                   "awk '/ raft_leader_elected / { match($0, /group=[0-9]+ term=[0-9]+/);"
                   " k = substr($0, RSTART, RLENGTH);"
                   " if (k in by && by[k] != FILENAME) { print \"two leaders:\", k; bad = 1 }"
                   " by[k] = FILENAME } END { exit bad }' %s/n*/output",
                   run->hosts.work);
    if (hosts_run(&run->hosts, (const char *const[]){"sh", "-c", line, NULL}) == 1) {
        find(run, "two-leaders");
        conclude(run, RUN_INVALID, "two nodes were elected in one term (see commands)");
    }
}

static void check_history(struct run *run)
{
    const struct run_options *o = run->options;
    char line[2048];
    (void)snprintf(line, sizeof(line),
                   "'%s' --checker %s --plot '%s/latency.svg' --title '%s, %s, seed %llu' "
                   "'%s/history.edn' > '%s/verdict.edn' 2>> '%s/commands'",
                   o->checker, o->workload->checker, o->dir, o->workload->name, o->nemesis,
                   (unsigned long long)o->seed, o->dir, o->dir, o->dir);
    int status = system(line);
    int verdict = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (verdict == 1) {
        /* What the history shows counts more than what came after it. */
        run->result->reason[0] = '\0';
        conclude(run, RUN_INVALID, "the history is not valid (see verdict.edn)");
    } else if (verdict != 0) {
        conclude(run, RUN_UNCHECKED, "the checker can't say (see verdict.edn, commands)");
    }
}

static void write_outcome(const struct run *run)
{
    static const char *const outcomes[] = {"valid", "invalid", "", "unchecked"};
    const struct run_options *o = run->options;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/run.edn", o->dir);
    FILE *f = fopen(path, "we");
    if (f == NULL) {
        return;
    }
    (void)fprintf(
        f,
        "{:outcome :%s, :workload :%s, :nemesis \"%s\", :seed %llu, :seconds %.1f, :nodes %u,\n"
        " :operations %llu, :faults %u, :reason \"%s\"}\n",
        outcomes[run->result->outcome], o->workload->name, o->nemesis, (unsigned long long)o->seed,
        run->result->seconds, o->nodes, (unsigned long long)run->result->operations,
        run->result->faults, run->result->reason);
    (void)fclose(f);
}

static void make_processes(struct run *run)
{
    const struct run_options *o = run->options;
    unsigned n = o->processes != 0 ? o->processes : o->workload->processes;
    run->n_processes = n > PROCESSES_MAX ? PROCESSES_MAX : n;
    for (unsigned i = 0; i < run->n_processes; i++) {
        run->processes[i] = (struct process){.run = run, .slot = i, .number = i};
    }
}

void run_once(const struct run_options *options, struct run_result *ret_result)
{
    struct run *run = calloc(1, sizeof(*run));
    struct error err = {0};
    memset(ret_result, 0, sizeof(*ret_result));
    if (run == NULL) {
        abort();
    }
    run->options = options;
    run->result = ret_result;
    run->random = options->seed ^ 0x57454952u;
    make_processes(run);
    int rv = open_loop(run, &err);
    rv = rv == 0 ? raise_cluster(run, &err) : rv;
    if (rv != 0) {
        conclude(run, RUN_UNCHECKED, "%s", err.text);
    } else {
        uint64_t began_ns = env_now_ns(run->env);
        enter(run, PHASE_READY);
        env_timer_start(&run->tick, TICK_US, on_tick);
        env_loop_run_until(run->loop, &run->over);
        if (run->nemesis != NULL) {
            (void)nemesis_stop(run->nemesis, &err);
        }
        ret_result->seconds = (double)(env_now_ns(run->env) - began_ns) / 1e9;
        ret_result->faults = run->world.faults;
        look_for_crashes(run);
        compare_replicas(run);
        look_for_two_leaders(run);
    }
    close_loop(run);
    hosts_close(&run->hosts);
    if (run->history != NULL) {
        if (history_close(run->history) != 0) {
            conclude(run, RUN_UNCHECKED, "the history could not be written");
        }
        check_history(run);
    }
    write_outcome(run);
    free(run);
}
