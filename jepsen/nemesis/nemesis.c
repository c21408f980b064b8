#include "jepsen/nemesis/nemesis.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SETTLE_S   60
#define ACTIVE_MAX 2
#define CHOSEN_MAX 64
#define MIX        "mix"
#define SLICE_NS   50000000 /* how often the end is looked for */

struct nemesis {
    struct nemesis_world *w;
    struct nemesis_options options;
    const struct fault *chosen[CHOSEN_MAX];
    unsigned n_chosen;
    const struct fault *active[ACTIVE_MAX];
    bool hit[ACTIVE_MAX][HOSTS_MAX];
    unsigned n_active;
    pthread_t thread;
    atomic_bool stopping, done;
    int status;
    struct error error;
    uint64_t end_ns;
};

uint64_t nemesis_random(struct nemesis_world *w, uint64_t below)
{
    uint64_t x = w->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (x ^ x >> 31) % below;
}

/* --- Who --- */

unsigned nemesis_members(const struct nemesis_world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->hosts->n; i++) {
        n += w->hosts->at[i].member;
    }
    return n;
}

unsigned nemesis_minority(const struct nemesis_world *w)
{
    return (nemesis_members(w) - 1) / 2;
}

void nemesis_choose(struct nemesis_world *w, unsigned n, char what[NEMESIS_WHAT_MAX])
{
    unsigned left = nemesis_members(w);
    size_t at = 1;
    n = n > left ? left : n;
    (void)snprintf(what, NEMESIS_WHAT_MAX, "[");
    for (unsigned i = 0; i < w->hosts->n; i++) {
        const struct host *host = &w->hosts->at[i];
        w->hit[i] = host->member && nemesis_random(w, left) < n;
        left -= host->member;
        if (w->hit[i]) {
            n--;
            at += (size_t)snprintf(what + at, NEMESIS_WHAT_MAX - at, "%s\"%s\"", at > 1 ? " " : "",
                                   host->name);
        }
    }
    (void)snprintf(what + at, NEMESIS_WHAT_MAX - at, "]");
}

int nemesis_start_all(struct nemesis_world *w, struct error *err)
{
    for (unsigned i = 0; i < w->hosts->n; i++) {
        struct host *host = &w->hosts->at[i];
        (void)host_runs(host);
        int rv = host->member ? host_start(w->hosts, host, err) : 0;
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void pause_ns(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    (void)nanosleep(&t, NULL);
}

int nemesis_settle(struct nemesis_world *w, struct error *err)
{
    uint64_t end_ns = now_ns() + SETTLE_S * UINT64_C(1000000000);
    do {
        if (hosts_runf(w->hosts, "timeout %d %s cluster balance --wait --config %s/client.conf",
                       SETTLE_S, w->program, w->hosts->work) == 0) {
            return 0;
        }
        (void)hosts_runf(w->hosts, "%s cluster status --config %s/client.conf", w->program,
                         w->hosts->work);
        pause_ns(500000000u);
    } while (now_ns() < end_ns);
    return error_set(err, WEIR_ETIMEOUT, "the cluster is not in step after %d s", SETTLE_S);
}

/* --- Names --- */

static bool is_chosen(const char *names, const struct fault *f)
{
    size_t n = strlen(f->name);
    if (strcmp(names, MIX) == 0) {
        return true;
    }
    for (const char *at = strstr(names, f->name); at != NULL; at = strstr(at + 1, f->name)) {
        if ((at == names || at[-1] == ',') && (at[n] == '\0' || at[n] == ',')) {
            return true;
        }
    }
    return false;
}

#define CHOSEN_HAS(names, field)                                                                   \
    for (unsigned i = 0; i < nemesis_n_faults; i++) {                                              \
        if (nemesis_faults[i].field && is_chosen(names, &nemesis_faults[i])) {                     \
            return true;                                                                           \
        }                                                                                          \
    }                                                                                              \
    return false

bool nemesis_needs_spare(const char *names)
{
    CHOSEN_HAS(names, needs_spare);
}

bool nemesis_needs_clock(const char *names)
{
    CHOSEN_HAS(names, needs_clock);
}

bool nemesis_loses_names(const char *names)
{
    if (strcmp(names, MIX) == 0) {
        return false;
    }
    CHOSEN_HAS(names, loses_names);
}

bool nemesis_upgrades(const char *names)
{
    CHOSEN_HAS(names, needs_other);
}

const char *nemesis_lacks(const struct fault *f, unsigned members, bool other, bool network,
                          bool disks)
{
    return f->needs_other && !other                 ? "another build of weir (--other)"
           : f->members_min > members               ? "more nodes"
           : (f->kinds & FAULT_NETWORK) && !network ? "hosts with networks of their own"
           : f->needs_disk && !disks                ? "hosts with disks of their own"
                                                    : NULL;
}

static unsigned count_names(const char *names)
{
    unsigned n = 1;
    for (const char *c = names; *c != '\0'; c++) {
        n += *c == ',';
    }
    return n;
}

static int choose_faults(struct nemesis *n, struct error *err)
{
    const char *names = n->options.names;
    if (strcmp(names, "none") == 0) {
        return 0;
    }
    for (unsigned i = 0; i < nemesis_n_faults && n->n_chosen < CHOSEN_MAX; i++) {
        const struct fault *f = &nemesis_faults[i];
        if (!is_chosen(names, f)) {
            continue;
        }
        const char *lacks = nemesis_lacks(f, nemesis_members(n->w), n->w->other_program != NULL,
                                          n->w->hosts->network, n->w->hosts->disks);
        lacks = f->needs_media && !n->w->media ? "a workload that broadcasts" : lacks;
        if (lacks != NULL && strcmp(names, MIX) == 0) {
            continue;
        }
        if (lacks != NULL) {
            return error_set(err, WEIR_EINVAL, "%s needs %s", f->name, lacks);
        }
        n->chosen[n->n_chosen++] = f;
    }
    if (strcmp(names, MIX) != 0 && n->n_chosen != count_names(names)) {
        return error_set(err, WEIR_EINVAL, "no such nemesis: %s (./dev jepsen --list)", names);
    }
    return 0;
}

/* --- The schedule --- */

static void tell(struct nemesis *n, const char *prefix, const struct fault *f, const char *what)
{
    char name[96];
    (void)snprintf(name, sizeof(name), "%s-%s", prefix, f->name);
    history_put(n->w->history, HISTORY_INFO, HISTORY_NEMESIS, name, what, NULL);
}

static void begin_fault(struct nemesis *n, const struct fault *f)
{
    char what[NEMESIS_WHAT_MAX] = "nil";
    memset(n->w->hit, 0, sizeof(n->w->hit));
    tell(n, "begin", f, "nil"); /* to restart all, one after the other, takes its time */
    n->status = f->begin(n->w, what, &n->error);
    tell(n, "start", f, what);
    memcpy(n->hit[n->n_active], n->w->hit, sizeof(n->w->hit));
    n->active[n->n_active++] = f;
    n->w->faults++;
}

/* The first failure counts, but all is undone. */
static void end_faults(struct nemesis *n)
{
    bool settles = false;
    struct error why = {0};
    while (n->n_active > 0) {
        const struct fault *f = n->active[--n->n_active];
        char what[NEMESIS_WHAT_MAX] = "nil";
        struct error err = {0};
        memcpy(n->w->hit, n->hit[n->n_active], sizeof(n->w->hit));
        int rv = f->end(n->w, what, &err);
        tell(n, "stop", f, what);
        settles |= f->settles;
        if (rv != 0 && n->status == 0) {
            n->status = error_set(&n->error, rv, "%s: %s", f->name, err.text);
        }
    }
    if (settles && n->status == 0) {
        n->status = nemesis_settle(n->w, &why);
        n->error = why;
    }
}

/* Sleeps; false: the time is over. */
static bool wait_for(struct nemesis *n, uint32_t mean_ms)
{
    uint64_t end = now_ns() + (mean_ms / 2 + nemesis_random(n->w, mean_ms + 1)) * UINT64_C(1000000);
    while (now_ns() < end) {
        if (atomic_load(&n->stopping) || now_ns() >= n->end_ns) {
            return false;
        }
        pause_ns(SLICE_NS);
    }
    return true;
}

static const struct fault *draw(struct nemesis *n)
{
    return n->chosen[nemesis_random(n->w, n->n_chosen)];
}

static bool mixes(const struct nemesis *n, const struct fault *f)
{
    for (unsigned i = 0; i < n->n_active; i++) {
        if ((n->active[i]->kinds & f->kinds) != 0) {
            return false;
        }
    }
    return true;
}

static void *work(void *arg)
{
    struct nemesis *n = arg;
    struct error err = {0};
    while (n->status == 0 && wait_for(n, n->options.quiet_ms) && n->n_chosen > 0) {
        bool two = n->n_chosen > 1 && nemesis_random(n->w, 3) == 0;
        begin_fault(n, draw(n));
        const struct fault *second = draw(n);
        if (two && n->status == 0 && mixes(n, second)) {
            begin_fault(n, second);
        }
        if (n->status == 0) {
            (void)wait_for(n, n->options.fault_ms);
        }
        end_faults(n);
    }
    if (nemesis_start_all(n->w, &err) != 0 && n->status == 0) {
        n->status = WEIR_EIO;
        n->error = err;
    }
    atomic_store(&n->done, true);
    return NULL;
}

int nemesis_start(struct nemesis_world *world, const struct nemesis_options *options,
                  struct nemesis **ret_nemesis, struct error *err)
{
    struct nemesis *n = calloc(1, sizeof(*n));
    if (n == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the nemesis");
    }
    n->w = world;
    n->options = *options;
    n->end_ns = now_ns() + (uint64_t)options->seconds * 1000000000u;
    int rv = choose_faults(n, err);
    if (rv == 0 && pthread_create(&n->thread, NULL, work, n) != 0) {
        rv = error_set(err, WEIR_EIO, "can't start the nemesis's thread");
    }
    if (rv != 0) {
        free(n);
        return rv;
    }
    *ret_nemesis = n;
    return 0;
}

bool nemesis_done(const struct nemesis *n)
{
    return atomic_load(&n->done);
}

int nemesis_stop(struct nemesis *n, struct error *err)
{
    atomic_store(&n->stopping, true);
    (void)pthread_join(n->thread, NULL);
    int rv = n->status;
    if (rv != 0) {
        (void)error_set(err, rv, "%s", n->error.text);
    }
    free(n);
    return rv;
}
