#include "jepsen/control/matrix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PATH_SIZE 512

struct table {
    const struct matrix_options *o;
    FILE *out; /* summary.txt */
    unsigned n, invalid, unchecked;
    time_t began;
    uint64_t seed;
};

/* ":longest-down-ms 512.0" and the like, the greatest of all in a verdict. */
static double greatest(const char *verdict, const char *name)
{
    double most = 0;
    size_t n = strlen(name);
    for (const char *at = strstr(verdict, name); at != NULL; at = strstr(at + n, name)) {
        double value = strtod(at + n, NULL);
        most = value > most ? value : most;
    }
    return most;
}

static char *read_verdict(const char *dir)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/verdict.edn", dir);
    FILE *f = fopen(path, "re");
    char *text = calloc(1, 1u << 18);
    if (f != NULL && text != NULL) {
        text[fread(text, 1, (1u << 18) - 1, f)] = '\0';
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return text;
}

static void say(struct table *t, const char *line)
{
    (void)fputs(line, stdout);
    (void)fflush(stdout);
    (void)fputs(line, t->out);
    (void)fflush(t->out);
}

static void tell(struct table *t, const struct run_options *o, const struct run_result *r)
{
    static const char *const outcomes[] = {"valid", "INVALID", "", "UNCHECKED"};
    char line[2048], *verdict = read_verdict(o->dir);
    (void)snprintf(line, sizeof(line), "%-10s %-26s %10llu %8llu %6u %9.1f %9.1f  %-9s %s\n",
                   o->workload->name, o->nemesis, (unsigned long long)o->seed,
                   (unsigned long long)r->operations, r->faults,
                   verdict != NULL ? greatest(verdict, ":longest-down-ms ") : 0,
                   verdict != NULL ? greatest(verdict, ":recovery-ms ") : 0, outcomes[r->outcome],
                   r->reason);
    say(t, line);
    if (t->o->slice && r->outcome != RUN_VALID && verdict != NULL) {
        say(t, verdict); /* what CI keeps is what it prints */
    }
    free(verdict);
}

static bool is_over(const struct table *t)
{
    return run_interrupted() ||
           (t->o->seconds != 0 && time(NULL) - t->began > (time_t)t->o->seconds);
}

static enum run_outcome run_cell(struct table *t, const struct workload *w, const char *nemesis)
{
    struct run_options o = t->o->run;
    struct run_result r;
    char dir[PATH_SIZE];
    if (is_over(t)) {
        return RUN_VALID;
    }
    o.workload = w;
    o.nemesis = nemesis;
    o.seed = t->seed++;
    (void)snprintf(dir, sizeof(dir), "%s/%s-%s-%llu", t->o->store, w->name, nemesis,
                   (unsigned long long)o.seed);
    for (char *c = dir + strlen(t->o->store); *c != '\0'; c++) {
        *c = *c == ',' ? '+' : *c;
    }
    o.dir = dir;
    run_once(&o, &r);
    t->n++;
    t->invalid += r.outcome == RUN_INVALID;
    t->unchecked += r.outcome == RUN_UNCHECKED;
    tell(t, &o, &r);
    return r.outcome;
}

static bool can_be(const struct run_options *o, const struct fault *f, const struct workload *w)
{
    return nemesis_lacks(f, o->nodes, o->other != NULL, o->network, o->disks) == NULL &&
           (!f->needs_media || w->media);
}

/* What CI runs: every workload once, and every kind of fault. */
static const struct {
    const struct workload *workload;
    const char *nemesis;
    const char *otherwise; /* where hosts have no networks or disks of their own */
} slices[] = {
    {&workload_log, "power-all", "kill-all"},
    {&workload_register, "partition-ring", "pause-one"},
    {&workload_ledger, "kill-minority", "kill-minority"},
    {&workload_chat, "partition-one", "restart-rolling"},
    {&workload_lifecycle, "pause-one", "pause-one"},
    {&workload_broadcast, "kill-one", "kill-one"},
};

static const char *slice_nemesis(const struct run_options *o, size_t i)
{
    for (unsigned f = 0; f < nemesis_n_faults; f++) {
        if (strcmp(nemesis_faults[f].name, slices[i].nemesis) == 0 &&
            !can_be(o, &nemesis_faults[f], slices[i].workload)) {
            return slices[i].otherwise;
        }
    }
    return slices[i].nemesis;
}

/* A run of which nothing can be said, on a machine that was too busy, is made once more. */
static void run_slice(struct table *t)
{
    for (size_t i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
        const char *nemesis = slice_nemesis(&t->o->run, i);
        if (is_over(t)) {
            char line[128];
            (void)snprintf(line, sizeof(line), "%-10s %-26s left out: the time is over\n",
                           slices[i].workload->name, nemesis);
            say(t, line);
            continue;
        }
        if (run_cell(t, slices[i].workload, nemesis) == RUN_UNCHECKED && !is_over(t)) {
            t->unchecked--;
            (void)run_cell(t, slices[i].workload, nemesis);
        }
    }
}

static void run_all(struct table *t)
{
    const struct matrix_options *o = t->o;
    for (unsigned i = 0; i < o->runs; i++) {
        for (unsigned f = 0; o->all && f < nemesis_n_faults; f++) {
            for (unsigned w = 0; w < o->n_workloads; w++) {
                if (can_be(&o->run, &nemesis_faults[f], o->workloads[w])) {
                    (void)run_cell(t, o->workloads[w], nemesis_faults[f].name);
                }
            }
        }
        for (unsigned w = 0; w < o->n_workloads; w++) {
            (void)run_cell(t, o->workloads[w], o->all ? "mix" : o->nemesis);
        }
    }
}

int matrix(const struct matrix_options *o)
{
    struct table t = {.o = o, .began = time(NULL), .seed = o->run.seed};
    char path[PATH_SIZE], line[256];
    if (mkdir(o->store, 0755) != 0 && errno != EEXIST) {
        (void)fprintf(stderr, "jepsen: %s: %s\n", o->store, strerror(errno));
        return 3;
    }
    (void)snprintf(path, sizeof(path), "%s/summary.txt", o->store);
    t.out = fopen(path, "ae");
    if (t.out == NULL) {
        (void)fprintf(stderr, "jepsen: %s: %s\n", path, strerror(errno));
        return 3;
    }
    (void)snprintf(line, sizeof(line), "%-10s %-26s %10s %8s %6s %9s %9s  %s\n", "workload",
                   "nemesis", "seed", "ops", "faults", "down ms", "again ms", "verdict");
    say(&t, line);
    if (o->slice) {
        run_slice(&t);
    } else {
        run_all(&t);
    }
    (void)snprintf(line, sizeof(line), "jepsen: %u runs, %u invalid, %u unchecked; results in %s\n",
                   t.n, t.invalid, t.unchecked, o->store);
    say(&t, line);
    (void)fclose(t.out);
    return t.invalid > 0 ? 1 : t.unchecked > 0 || t.n == 0 ? 3 : 0;
}
