#include "jepsen/control/proof.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PATH_SIZE  512
#define PATIENCE_S 30

struct line {
    const char *fault;
    const struct workload *workload;
    const char *nemesis;
    uint32_t seconds, quiet_ms, fault_ms; /* of a run */
    unsigned nodes, processes;
    const char *seen; /* anomalies and findings; any of them proves it */
    bool of_one;      /* only the first node has the fault */
};

static const struct line lines[] = {
    {"no_fsync", &workload_log, "power-all", 12, 0, 0, 5, 0,
     "lost-write inconsistent-offsets unseen phantom group-unseen unavailable", false},
    {"no_dir_sync", &workload_log, "power-all", 12, 0, 0, 5, 0,
     "lost-write inconsistent-offsets unseen phantom group-unseen unavailable replicas-differ",
     false},
    {"ack_early", &workload_log, "partition-one", 15, 700, 2000, 5, 0,
     "lost-write inconsistent-offsets unseen phantom", false},
    {"no_dedup", &workload_log, "kill-one", 12, 500, 500, 5, 60, "duplicate", false},
    {"vote_not_persisted", &workload_log, "kill-voters", 40, 1500, 3000, 3, 24,
     "two-leaders inconsistent-offsets lost-write replicas-differ crashed", false},
    {"stale_read", &workload_register, "pause-cut", 30, 2000, 100, 3, 12, "nonlinearizable", false},
    {"guard_8", &workload_log, "partition-one,partition-one-way,kill-one", 30, 700, 1500, 3, 40,
     "lost-write inconsistent-offsets duplicate unseen phantom replicas-differ", false},
    {"guard_13", &workload_register, "pause-cut", 30, 2000, 100, 3, 12, "nonlinearizable", false},
    {"guards", &workload_register, "pause-cut", 30, 2000, 100, 3, 12,
     "nonlinearizable replicas-differ crashed", false},
    {"no_checksum", &workload_log, "disk-flip", 30, 300, 500, 3, 0,
     "phantom inconsistent-offsets unseen replicas-differ unreadable", false},
    {"ban_at_gateway", &workload_chat, "delay", 15, 500, 6000, 3, 0, "banned-message", false},
    {"slow_at_gateway", &workload_chat, "none", 15, 0, 0, 3, 0, "too-fast", false},
    {"epoch_ignored", &workload_lifecycle, "delay", 30, 1000, 6000, 3, 0,
     "old-epoch inconsistent-part playlist-gap wrong-segment views-differ", true},
    {"playlist_local", &workload_lifecycle, "kill-one", 25, 4000, 500, 3, 0,
     "nonmonotonic-playlist inconsistent-playlist inconsistent-part", false},
    {"ledger_repeats", &workload_ledger, "none", 5, 0, 0, 3, 0, "double-booking wrong-balance",
     false},
};
#define N_LINES (sizeof(lines) / sizeof(lines[0]))

struct proof {
    const struct matrix_options *o;
    FILE *out; /* faults.txt */
    unsigned n, missed;
};

static void say(struct proof *p, const char *text)
{
    (void)fputs(text, stdout);
    (void)fflush(stdout);
    (void)fputs(text, p->out);
    (void)fflush(p->out);
}

/* --- What a run has shown --- */

static bool ends_word(char c)
{
    return c == '\0' || c == ' ' || c == ',';
}

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = strstr(words, word); at != NULL; at = strstr(at + 1, word)) {
        if ((at == words || ends_word(at[-1])) && ends_word(at[n])) {
            return true;
        }
    }
    return false;
}

/* Names of the anomalies in a run's verdict, with blanks between. */
static void read_anomalies(const char *dir, char *out, size_t size)
{
    char path[PATH_SIZE + 16], line[1024], name[64];
    bool inside = false;
    size_t len = 0;
    (void)snprintf(path, sizeof(path), "%s/verdict.edn", dir);
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, " :", 2) == 0) {
            inside = strncmp(line, " :anomalies", 11) == 0;
        } else if (inside && sscanf(line, "  :%63s {:count", name) == 1 && len < size) {
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? " " : "", name);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
}

static bool is_proof(const struct line *l, const struct run_result *r, const char *anomalies)
{
    char copy[512], *rest = copy;
    if (r->outcome != RUN_INVALID) {
        return false;
    }
    (void)snprintf(copy, sizeof(copy), "%s", anomalies);
    for (char *name = strsep(&rest, " "); name != NULL; name = strsep(&rest, " ")) {
        if (name[0] != '\0' && has_word(l->seen, name)) {
            return true;
        }
    }
    return false;
}

/* --- Runs --- */

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void run_seed(struct proof *p, const struct line *l, uint64_t seed, struct run_result *r,
                     char *anomalies, size_t size)
{
    struct run_options o = p->o->run;
    char dir[PATH_SIZE], environment[128];
    (void)snprintf(dir, sizeof(dir), "%s/%s-%s-%s-%llu", p->o->store, l->fault, l->workload->name,
                   l->nemesis, (unsigned long long)seed);
    for (char *c = dir + strlen(p->o->store); *c != '\0'; c++) {
        *c = *c == ',' ? '+' : *c;
    }
    (void)snprintf(environment, sizeof(environment), "WEIR_FAULTS=%s", l->fault);
    o.workload = l->workload;
    o.nemesis = l->nemesis;
    o.seconds = l->seconds;
    o.quiet_ms = o.quiet_ms != 0 ? o.quiet_ms : l->quiet_ms;
    o.fault_ms = o.fault_ms != 0 ? o.fault_ms : l->fault_ms;
    o.patience_s = PATIENCE_S;
    o.processes = o.processes != 0 ? o.processes : l->processes;
    o.nodes = l->nodes;
    o.seed = seed;
    o.dir = dir;
    o.environment = environment;
    o.environment_of_one = l->of_one;
    run_once(&o, r);
    read_anomalies(dir, anomalies, size);
    size_t n = strlen(anomalies);
    (void)snprintf(anomalies + n, size - n, "%s%s", n > 0 ? " " : "", r->findings);
}

static void prove(struct proof *p, const struct line *l)
{
    char anomalies[512], text[2048];
    bool found = false;
    double began = now_s();
    p->n++;
    for (unsigned i = 0; i < p->o->runs && !found && !run_interrupted(); i++) {
        struct run_result r;
        uint64_t seed = p->o->run.seed + i;
        run_seed(p, l, seed, &r, anomalies, sizeof(anomalies));
        found = is_proof(l, &r, anomalies);
        (void)snprintf(text, sizeof(text), "%-18s %-10s %-20s %6llu %8.1f  %-5s %s%s%s\n", l->fault,
                       l->workload->name, l->nemesis, (unsigned long long)seed, now_s() - began,
                       found ? "FOUND" : "-", anomalies, !found && r.reason[0] != '\0' ? " " : "",
                       found ? "" : r.reason);
        say(p, text);
    }
    p->missed += !found;
}

int proof(const struct matrix_options *o, const char *fault)
{
    struct proof p = {.o = o};
    char path[PATH_SIZE], text[256];
    if (mkdir(o->store, 0755) != 0 && errno != EEXIST) {
        (void)fprintf(stderr, "jepsen: %s: %s\n", o->store, strerror(errno));
        return 1;
    }
    (void)snprintf(path, sizeof(path), "%s/faults.txt", o->store);
    p.out = fopen(path, "ae");
    if (p.out == NULL) {
        (void)fprintf(stderr, "jepsen: %s: %s\n", path, strerror(errno));
        return 1;
    }
    (void)snprintf(text, sizeof(text), "%-18s %-10s %-20s %6s %8s  %-5s %s\n", "fault", "workload",
                   "nemesis", "seed", "after s", "", "anomalies");
    say(&p, text);
    for (size_t i = 0; i < N_LINES; i++) {
        if (fault == NULL || has_word(fault, lines[i].fault)) {
            prove(&p, &lines[i]);
        }
    }
    (void)snprintf(text, sizeof(text), "jepsen: %u faults, %u not found; runs in %s\n", p.n,
                   p.missed, o->store);
    say(&p, text);
    (void)fclose(p.out);
    return p.n == 0 ? 2 : p.missed > 0 ? 1 : 0;
}
