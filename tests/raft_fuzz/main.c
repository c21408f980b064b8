/* raft_fuzz: runs the production code of consensus/ through random schedules and looks for lost
 * commits.
 *
 *   raft_fuzz [--runs N] [--seed S] [--steps N] [--nodes N] [--for SECONDS] [--without-guard G]...
 * [--without-fault BITS]
 *             [--stream] [--leaver] [--transfers] [--members] [--losses] [--expect-violation]
 *             [--verbose]
 *
 * --members changes members and leaders meanwhile, --losses loses disks (members.c).
 * --stream and --leaver are directed runs instead (stream.c, leaver.c), --transfers hands
 * leadership over all the time (transfers.c). A run is one seed: the same seed does the same
 * again. --without-guard takes a guard of docs/raft-guards.md away;
 * --expect-violation then stops at the first run that finds something, and fails if none does. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/logging.h"
#include "sim.h"

struct sim sim;

static const char *const violation_names[] = {
    "diverged", "lost",        "two-leaders", "commit-back", "memory-disk",
    "stuck",    "disk-misuse", "stale-read",  "handed-over",
};
#define N_VIOLATIONS (sizeof(violation_names) / sizeof(violation_names[0]))

struct options {
    unsigned runs, steps, nodes, seconds;
    uint64_t seed;
    uint32_t faults;
    bool expect, verbose, stream, members, losses, transfers, leaver, unfit;
};

uint64_t sim_random(void)
{
    sim.rng ^= sim.rng << 13;
    sim.rng ^= sim.rng >> 7;
    sim.rng ^= sim.rng << 17;
    return sim.rng >> 11;
}

bool sim_chance(unsigned of, unsigned in)
{
    return sim_random() % in < of;
}

void sim_violate(enum sim_violation v, const struct sim_node *n, const char *text)
{
    if ((sim.violations & (unsigned)v) == 0 && sim.verbose) {
        printf("!! node %u: %s (at %.3f s)\n", n->id, text, (double)sim.now_ns / 1e9);
    }
    sim.violations |= (unsigned)v;
}

/* What storage.c asks before it allocates. */
bool group_no_memory(void)
{
    return (sim.faults & FAULT_MEMORY) != 0 && !sim.healing && sim_chance(1, 400);
}

/* --- Nodes --- */

void sim_boot(struct sim_node *n)
{
    uint32_t voters[SIM_NODES_MAX];
    struct error err;
    for (uint32_t i = 0; i < sim.n_voters; i++) {
        voters[i] = i + 1;
    }
    struct group_options o = {
        .id = 1,
        .dir = "sim",
        .vote_log = (struct vote_log *)(void *)n,
        .voters = voters,
        .n_voters = n->id <= sim.n_voters ? sim.n_voters : 0,
        .heartbeat_ms = 40,
        .election_ms = 160,
        .inflight_bytes_max = sim.inflight_bytes_max,
        .decide_ms = 300,
    };
    struct group_events events = {0};
    sim_env_init(n);
    n->transport = (struct transport){.node = n};
    list_init(&n->transport.releases);
    n->checked = 0;
    n->leader_checked_term = 0;
    n->up = true;
    n->closing = false;
    if (group_open(&n->env, &n->transport, &o, &events, &n->group, &err) != 0) {
        if (!n->disk.bad) {
            sim_violate(SIM_STUCK, n, err.text);
        }
        n->disk.bad = n->up = false; /* another disk is put in */
        return;
    }
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        if (id != n->id && sim.nodes[id].up && sim.nodes[id].transport.attached) {
            sim.nodes[id].transport.handler.link(sim.nodes[id].transport.handler.data, n->id, true);
        }
    }
}

static void down(struct sim_node *n)
{
    n->up = false;
    n->group = NULL;
    sim_env_forget(n);
    sim_net_forget(n->id);
    sim_votes_crash(n);
    sim_disk_crash(n);
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        sim.nodes[id].link_news[n->id] = true;
    }
}

void sim_crash(struct sim_node *n)
{
    if (n->up) {
        sim.n_crashes++;
        down(n);
    }
}

static void closed(void *data)
{
    struct sim_node *n = data;
    n->up = false;
    n->group = NULL;
    n->closing = false;
    sim_net_forget(n->id);
    if (n->disk.bad) {
        sim_disk_crash(n); /* nothing opens on it: another one is put in */
    }
}

/* A shutdown in good order: everything appended becomes durable first. */
static void shut_down(struct sim_node *n)
{
    if (n->up && !n->closing) {
        sim_check(n); /* the last look at it */
        n->closing = true;
        group_close(n->group, closed, n);
    }
}

/* --- Reads --- */

struct reading {
    struct group_read req;
    struct sim_node *node;
    uint64_t need; /* acknowledged before it began */
};

static void read_done(struct group_read *req, int status)
{
    struct reading *r = req->data;
    if (status == 0) {
        sim.n_reads++;
        if (req->index.v < r->need || r->node->partition.commit < r->need) {
            sim_violate(SIM_STALE_READ, r->node, "a read lacks what was acknowledged before");
        }
    } else if (status != WEIR_ENOTLEADER) {
        sim_violate(SIM_DISK_MISUSE, r->node, "a read ended with an unknown status");
    }
    free(r);
}

void sim_read(struct sim_node *n)
{
    struct reading *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return;
    }
    *r = (struct reading){.req = {.data = r}, .node = n, .need = sim.acked_last};
    if (group_read_index(n->group, &r->req, read_done) != 0) {
        free(r);
    }
}

/* --- Steps --- */

struct sim_node *sim_any_node(void)
{
    return &sim.nodes[1 + sim_random() % sim.n_nodes];
}

void sim_step_network(void)
{
    uint32_t from = sim_any_node()->id, to = sim_any_node()->id;
    for (unsigned i = 0; i < sim.n_nodes * sim.n_nodes; i++) {
        if (sim.net[from][to] != NULL && sim.link[from][to] != 2) {
            sim_net_deliver(from, to);
            return;
        }
        to = to % sim.n_nodes + 1;
        from = to == 1 ? from % sim.n_nodes + 1 : from;
    }
}

static void tell_links(struct sim_node *n)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        if (n->up && n->transport.attached && n->link_news[id]) {
            n->link_news[id] = false;
            n->transport.handler.link(n->transport.handler.data, id, false);
            n->transport.handler.link(n->transport.handler.data, id, true);
        }
    }
}

void sim_step_time(void)
{
    sim.now_ns += (10 + sim_random() % 30) * 1000000;
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (n->up) {
            sim_env_run_timers(n);
        }
        if (n->up && n->transport.attached && !sim_chance(1, 12)) {
            n->transport.handler.tick(n->transport.handler.data);
        }
    }
}

static void step_links(void)
{
    if ((sim.faults & FAULT_CLOSE) != 0 && sim_chance(1, 3)) {
        struct sim_node *n = sim_any_node();
        n->link_news[sim_any_node()->id] = true;
    }
    if ((sim.faults & FAULT_SPLIT) == 0) {
        return;
    }
    if (sim_chance(1, 2)) {
        for (uint32_t a = 1; a <= sim.n_nodes; a++) {
            for (uint32_t b = 1; b <= sim.n_nodes; b++) {
                sim.link[a][b] = 1;
            }
        }
    } else if (sim_chance(1, 2)) {
        uint32_t a = sim_any_node()->id;
        int in = (int)(sim_random() % 2) * 2, out = (int)(sim_random() % 2) * 2;
        for (uint32_t b = 1; b <= sim.n_nodes; b++) {
            sim.link[a][b] = out;
            sim.link[b][a] = in;
        }
    } else {
        sim.link[sim_any_node()->id][sim_any_node()->id] = (int)(sim_random() % 3);
    }
}

static void step_disk_faults(void)
{
    unsigned bad = 0, most = (sim.n_nodes - 1) / 2;
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        bad += sim.nodes[id].disk.bad || sim.nodes[id].disk.stalled ||
               (sim.nodes[id].up && sim.nodes[id].group->phase == GROUP_FAILED);
    }
    struct sim_node *n = sim_any_node();
    if (!n->up) {
        return;
    }
    if (n->disk.stalled) {
        n->disk.stalled = false;
    } else if (bad < most && (sim.faults & FAULT_SLOW) != 0 && sim_chance(1, 2)) {
        n->disk.stalled = true;
    } else if (bad < most && (sim.faults & FAULT_DISK) != 0) {
        n->disk.bad = true;
    }
}

static void step_restarts(void)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (n->up && n->group->phase == GROUP_FAILED && sim_chance(1, 8)) {
            sim_crash(n); /* the operator puts in another disk */
        } else if (!n->up && sim_chance(1, 2)) {
            sim_boot(n);
        }
    }
}

void sim_end_turns(bool all)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (!n->up) {
            continue;
        }
        sim_check(n);
        if (all || !sim_chance(1, 4)) {
            sim_env_end_turn(n);
        }
        if (n->up && (all || sim_chance(1, 3))) {
            sim_net_releases(n);
            tell_links(n);
        }
        sim_check(n);
    }
}

/* Somebody thinks that somebody had better not lead; or not any more. */
static void step_unfit(void)
{
    struct sim_node *n = sim_any_node();
    uint32_t id = 1 + (uint32_t)(sim_random() % sim.n_nodes);
    if (n->up && !n->closing) {
        group_set_unfit(n->group, sim_chance(1, 2) ? n->id : id, sim_chance(2, 3));
    }
}

static void step_members(void)
{
    if (sim.members && (sim.transfers || sim_chance(1, 3))) {
        sim_transfer();
    } else if (sim.members) {
        sim_change();
    }
    if (sim.losses && sim_chance(1, 8)) {
        sim_lose_a_disk();
    }
}

static void step(void)
{
    if (sim.unfit && sim_chance(1, 40)) {
        step_unfit();
    }
    unsigned x = (unsigned)(sim_random() % 1000);
    if (x < 580) {
        sim_step_network();
    } else if (x < 730) {
        struct sim_node *n = sim_any_node();
        if (sim_chance(2, 3)) {
            sim_votes_step(n);
        }
        if (n->up && sim_chance(2, 3)) {
            (void)sim_disk_step(n, 1 + (unsigned)(sim_random() % 3));
        }
    } else if (x < 850) {
        sim_step_time();
    } else if (x < 925) {
        struct sim_node *n = sim_any_node();
        for (unsigned k = 1 + (unsigned)(sim_random() % 4); k > 0 && n->up && !n->closing; k--) {
            sim_produce(n);
        }
        if (n->up && !n->closing && sim_chance(1, 2)) {
            sim_read(n);
        }
    } else if (x < 945) {
        step_links();
    } else if (x < 949) {
        step_disk_faults();
    } else if (x < 957) {
        if ((sim.faults & FAULT_CRASH) != 0) {
            sim_crash(sim_any_node());
        }
    } else if (x < 959) {
        if ((sim.faults & FAULT_CRASH) != 0) {
            shut_down(sim_any_node());
        }
    } else if (x < (sim.transfers ? 988u : 975u) && (sim.members || sim.losses)) {
        step_members();
    } else {
        step_restarts();
    }
}

/* One step, which a crash in the middle of a disk operation may cut short. */
void sim_guarded(void (*fn)(void))
{
    sim.crash_armed = true;
    if (setjmp(sim.crash_now) == 0) {
        fn();
    } else {
        sim_crash(sim.crashing);
    }
    sim.crash_armed = false;
}

static void turn_some(void)
{
    sim_end_turns(false);
}

/* --- Healing --- */

void sim_settle(uint32_t disk_of)
{
    for (int pass = 0; pass < 3; pass++) {
        for (uint32_t a = 1; a <= sim.n_nodes; a++) {
            for (uint32_t b = 1; b <= sim.n_nodes; b++) {
                for (int k = 0; k < 50 && sim.net[a][b] != NULL; k++) {
                    sim_net_deliver(a, b);
                }
            }
        }
        for (uint32_t id = 1; id <= sim.n_nodes; id++) {
            sim_votes_step(&sim.nodes[id]);
            if (disk_of == 0 || disk_of == id) {
                (void)sim_disk_step(&sim.nodes[id], 100);
            }
        }
        sim_end_turns(true);
    }
}

static void heal_round(unsigned round)
{
    sim.now_ns += 10000000;
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (!n->up) {
            sim_boot(n);
        }
        if (n->up && n->group->phase == GROUP_FAILED) {
            sim_crash(n);
            continue;
        }
        if (n->up && n->transport.attached) {
            sim_env_run_timers(n);
            n->transport.handler.tick(n->transport.handler.data);
        }
    }
    sim_settle(0);
    for (uint32_t id = 1; id <= sim.n_nodes && round % 10 == 0 && round < 900; id++) {
        if (sim.nodes[id].up && !sim.nodes[id].closing) {
            sim_produce(&sim.nodes[id]);
        }
    }
    sim_end_turns(true);
}

static void heal(void)
{
    uint64_t acked = 0;
    sim.healing = true;
    for (uint32_t a = 1; a <= sim.n_nodes; a++) {
        sim.nodes[a].disk.stalled = false;
        if (sim.nodes[a].disk.bad) {
            sim_crash(&sim.nodes[a]);
        }
        for (uint32_t b = 1; b <= sim.n_nodes; b++) {
            sim.link[a][b] = 1;
        }
    }
    for (unsigned round = 0; round < 1000 && sim.violations == 0; round++) {
        acked = round == 500 ? sim.n_acked : acked;
        heal_round(round);
    }
    if (sim.violations == 0 && sim.n_acked < acked + 10) {
        sim_violate(SIM_STUCK, &sim.nodes[1], "no progress after healing");
    }
    if (sim.violations == 0) {
        sim_check_end();
    }
}

/* --- Runs --- */

/* What a run tells its parent. Not its exit status: with that a sanitizer, or libraft, ends the
 * process too, and looked like a violation. */
struct tally {
    unsigned violations;
    uint64_t committed, acked, unknown, installs, crashes, resets;
    uint64_t changes, transfers, wipes;
};

static void dump(void)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        struct group *g = n->group;
        if (!n->up || g == NULL) {
            printf("  node %u down, last %llu\n", id, (unsigned long long)n->disk.last);
            continue;
        }
        printf(
            "  node %u phase %d state %d term %llu last %llu durable %llu stored %llu commit %llu "
            "applied %llu snapshot %llu offset %llu appends %u catchup %d\n",
            id, (int)g->phase, (int)g->raft.state, g->raft.current_term,
            (unsigned long long)n->disk.last, (unsigned long long)n->disk.durable,
            g->raft.last_stored, g->raft.commit_index, g->raft.last_applied,
            g->raft.log.snapshot.last_index, g->raft.log.offset, g->n_appends,
            g->catchup.from != NULL);
    }
}

static unsigned run(uint64_t seed, const struct options *o)
{
    sim.rng = seed * 0x9E3779B97F4A7C15ull + 1;
    sim.now_ns = 100000000000ull;
    sim.n_nodes = o->nodes;
    sim.faults = o->faults;
    sim.verbose = o->verbose;
    sim.inflight_bytes_max = o->stream ? 1 << 20 : 600; /* small: so that it is met */
    for (int i = 0; i < 20; i++) {
        (void)sim_random();
    }
    for (uint32_t a = 1; a <= sim.n_nodes; a++) {
        sim.nodes[a].id = a;
        for (uint32_t b = 1; b <= sim.n_nodes; b++) {
            sim.link[a][b] = 1;
        }
    }
    sim.members = o->members;
    sim.losses = o->losses;
    sim.unfit = o->unfit;
    sim.transfers = o->members && sim_chance(1, 3); /* nothing else: changes take their time */
    sim.n_voters =
        o->members && !sim.transfers ? 1 + (unsigned)(sim_random() % sim.n_nodes) : sim.n_nodes;
    for (uint32_t a = 1; a <= sim.n_nodes; a++) {
        sim_boot(&sim.nodes[a]);
    }
    if (o->stream) {
        sim_stream();
        return sim.violations;
    }
    if (o->leaver) {
        sim_leaver();
        return sim.violations;
    }
    if (o->transfers) {
        sim_transfers(o->steps);
    }
    for (unsigned s = 0; s < o->steps && sim.violations == 0 && !o->transfers; s++) {
        sim_guarded(step);
        sim_guarded(turn_some);
    }
    if (sim.violations == 0) {
        heal();
    }
    if (sim.violations != 0 && sim.verbose) {
        dump();
    }
    return sim.violations;
}

struct totals {
    unsigned done, bad, died, found[N_VIOLATIONS];
    uint64_t first_bad;
    struct tally sum;
};

static void count_run(struct totals *t, uint64_t seed, int status, const struct tally *tally)
{
    t->done++;
    t->sum.committed += tally->committed;
    t->sum.acked += tally->acked;
    t->sum.unknown += tally->unknown;
    t->sum.crashes += tally->crashes;
    t->sum.resets += tally->resets;
    t->sum.installs += tally->installs;
    t->sum.changes += tally->changes;
    t->sum.transfers += tally->transfers;
    t->sum.wipes += tally->wipes;
    if (status == 0 && tally->violations == 0) {
        return;
    }
    t->bad++;
    t->first_bad = t->first_bad == 0 ? seed : t->first_bad;
    printf("seed %llu:", (unsigned long long)seed);
    if (WIFSIGNALED(status)) {
        printf(" died of signal %d", WTERMSIG(status));
    } else if (status != 0) {
        printf(" died with status %d", WEXITSTATUS(status));
    }
    t->died += status != 0;
    for (unsigned i = 0; i < N_VIOLATIONS; i++) {
        if (tally->violations >> i & 1) {
            t->found[i]++;
            printf(" %s", violation_names[i]);
        }
    }
    printf("\n");
}

static void run_forked(struct totals *t, uint64_t seed, const struct options *o)
{
    int fds[2], status = 0;
    struct tally tally = {0};
    fflush(stdout);
    if (pipe(fds) != 0) {
        perror("pipe");
        exit(2);
    }
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        alarm(120);
        tally = (struct tally){
            .violations = run(seed, o),
            .committed = sim.committed_last,
            .acked = sim.n_acked,
            .unknown = sim.n_unknown,
            .installs = sim.n_installs,
            .crashes = sim.n_crashes,
            .resets = sim.n_resets,
            .changes = sim.n_changes,
            .transfers = sim.n_transfers,
            .wipes = sim.n_wipes,
        };
        fflush(stdout);
        ssize_t n = write(fds[1], &tally, sizeof(tally));
        _exit(n == (ssize_t)sizeof(tally) ? 0 : 127);
    }
    close(fds[1]);
    (void)waitpid(pid, &status, 0);
    if (read(fds[0], &tally, sizeof(tally)) != (ssize_t)sizeof(tally)) {
        tally = (struct tally){0};
    }
    close(fds[0]);
    count_run(t, seed, status, &tally);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: raft_fuzz [--runs N] [--seed S] [--steps N] [--nodes N] [--for SECONDS]\n"
            "                 [--without-guard G]... [--without-fault BITS] "
            "[--stream] [--leaver] [--transfers] [--members] [--losses] [--unfit]\n"
            "                 [--expect-violation] [--verbose]\n");
    exit(2);
}

static unsigned long number(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 0);
    if (*text == '\0' || *end != '\0') {
        usage();
    }
    return v;
}

static const struct option names[] = {
    {"runs", required_argument, NULL, 'r'},
    {"seed", required_argument, NULL, 's'},
    {"steps", required_argument, NULL, 't'},
    {"nodes", required_argument, NULL, 'n'},
    {"for", required_argument, NULL, 'f'},
    {"without-guard", required_argument, NULL, 'g'},
    {"without-fault", required_argument, NULL, 'x'},
    {"expect-violation", no_argument, NULL, 'e'},
    {"stream", no_argument, NULL, 'S'},
    {"members", no_argument, NULL, 'm'},
    {"losses", no_argument, NULL, 'l'},
    {"transfers", no_argument, NULL, 'T'},
    {"leaver", no_argument, NULL, 'L'},
    {"unfit", no_argument, NULL, 'u'},
    {"verbose", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

static void parse(int argc, char **argv, struct options *o)
{
    int c;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'r':
            o->runs = (unsigned)number(optarg);
            break;
        case 's':
            o->seed = number(optarg);
            break;
        case 't':
            o->steps = (unsigned)number(optarg);
            break;
        case 'n':
            o->nodes = (unsigned)number(optarg);
            break;
        case 'f':
            o->seconds = (unsigned)number(optarg);
            break;
        case 'g':
            group_guards_off |= 1u << (number(optarg) & 31);
            break;
        case 'x':
            o->faults &= ~(uint32_t)number(optarg);
            break;
        case 'e':
            o->expect = true;
            break;
        case 'S':
            o->stream = true;
            break;
        case 'm':
            o->members = true;
            break;
        case 'l':
            o->losses = true;
            break;
        case 'T':
            o->transfers = true;
            break;
        case 'L':
            o->leaver = true;
            o->nodes = 4;
            break;
        case 'u':
            o->unfit = true;
            break;
        case 'v':
            o->verbose = true;
            break;
        default:
            usage();
        }
    }
    if (o->nodes < 2 || o->nodes > SIM_NODES_MAX || optind != argc) {
        usage();
    }
}

static void tell(const struct options *o, const struct totals *t)
{
    printf("raft_fuzz: guards off %x, %u nodes, %u steps, seeds %llu..%llu:", group_guards_off,
           o->nodes, o->steps, (unsigned long long)o->seed,
           (unsigned long long)(o->seed + t->done - 1));
    for (unsigned i = 0; i < N_VIOLATIONS; i++) {
        if (t->found[i] > 0) {
            printf(" %s=%u", violation_names[i], t->found[i]);
        }
    }
    unsigned per = t->done > 0 ? t->done : 1;
    printf(" died=%u; a run: %llu committed, %llu acknowledged, %llu unknown, %llu crashes, "
           "%llu resets in all\n",
           t->died, (unsigned long long)(t->sum.committed / per),
           (unsigned long long)(t->sum.acked / per), (unsigned long long)(t->sum.unknown / per),
           (unsigned long long)(t->sum.crashes / per), (unsigned long long)t->sum.resets);
    if (o->members || o->losses || o->transfers) {
        printf("raft_fuzz: a run: %.1f changes, %.1f transfers, %.1f disks lost\n",
               (double)t->sum.changes / per, (double)t->sum.transfers / per,
               (double)t->sum.wipes / per);
    }
}

int main(int argc, char **argv)
{
    struct options o = {.runs = 100, .steps = 6000, .nodes = 3, .seed = 1, .faults = FAULT_ALL};
    struct totals t = {0};
    time_t start = time(NULL);
    parse(argc, argv, &o);
    log_set_level(o.verbose ? LOG_INFO : LOG_ERROR);
    if (!o.verbose && freopen("/dev/null", "w", stderr) == NULL) {
        return 2;
    }
    for (unsigned i = 0; i < o.runs; i++) {
        if (o.seconds > 0 && time(NULL) - start >= (time_t)o.seconds) {
            break;
        }
        run_forked(&t, o.seed + i, &o);
        if (o.expect && t.bad > 0) {
            break;
        }
    }
    tell(&o, &t);
    bool pass = o.expect ? t.bad > 0 : t.bad == 0;
    if (o.expect) {
        printf("%s: first violation at seed %llu\n", pass ? "found" : "NOT FOUND",
               (unsigned long long)t.first_bad);
        printf("%u passed, %u failed\n", pass ? 1u : 0u, pass ? 0u : 1u);
    } else {
        printf("%u passed, %u failed\n", t.done - t.bad, t.bad);
    }
    return pass ? 0 : 1;
}
