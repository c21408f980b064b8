/* Processes and machines. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "jepsen/hosts/names.h"
#include "jepsen/nemesis/faults.h"

void node_signal_hit(struct nemesis_world *w, int signal)
{
    for (unsigned i = 0; i < w->hosts->n; i++) {
        if (w->hit[i]) {
            host_signal(&w->hosts->at[i], signal);
        }
    }
}

int node_kill_one(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    nemesis_choose(w, 1, what);
    node_signal_hit(w, SIGKILL);
    return 0;
}

int node_kill_minority(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    nemesis_choose(w, nemesis_minority(w), what);
    node_signal_hit(w, SIGKILL);
    return 0;
}

int node_kill_all(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    nemesis_choose(w, HOSTS_MAX, what);
    node_signal_hit(w, SIGKILL);
    return 0;
}

int node_start(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)what;
    return nemesis_start_all(w, err);
}

int node_pause_one(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    nemesis_choose(w, 1, what);
    node_signal_hit(w, SIGSTOP);
    return 0;
}

int node_pause_minority(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    nemesis_choose(w, nemesis_minority(w), what);
    node_signal_hit(w, SIGSTOP);
    return 0;
}

int node_pause_all(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    nemesis_choose(w, HOSTS_MAX, what);
    node_signal_hit(w, SIGSTOP);
    return 0;
}

int node_resume(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)what;
    (void)err;
    node_signal_hit(w, SIGCONT);
    return 0;
}

/* --- Power --- */

static uint64_t draw_name(void *data, uint64_t below)
{
    return nemesis_random(data, below);
}

static int lose_names(struct nemesis_world *w, struct host *host, char what[NEMESIS_WHAT_MAX],
                      struct error *err)
{
    unsigned lost = 0;
    size_t n = strlen(what);
    if (!w->hosts->lose_names) {
        return 0;
    }
    int rv = names_lose(w->hosts, host, draw_name, w, &lost, err);
    (void)snprintf(what + n - 1, NEMESIS_WHAT_MAX - n, " {\"%s\" {:names %u}}]", host->name, lost);
    return rv;
}

/* The image as it lies on the machine's disk has what was synced; what the kernel still kept back
 * is not in its copy. Names that it holds although nobody synced their folder are taken back. */
static int lose_power(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    int rv = 0;
    node_signal_hit(w, SIGKILL);
    for (unsigned i = 0; i < w->hosts->n; i++) {
        const struct host *host = &w->hosts->at[i];
        if (w->hit[i] &&
            hosts_runf(w->hosts, "cp --sparse=always %s %s.copy", host->image, host->image) != 0) {
            return error_set(err, WEIR_EIO, "%s: its image can't be copied (see commands)",
                             host->name);
        }
    }
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        struct host *host = &w->hosts->at[i];
        if (w->hit[i]) {
            host_unmount(w->hosts, host);
            if (hosts_runf(w->hosts, "mv %s.copy %s", host->image, host->image) != 0) {
                return error_set(err, WEIR_EIO, "%s: no new image (see commands)", host->name);
            }
            rv = host_mount(w->hosts, host, err);
            rv = rv == 0 ? lose_names(w, host, what, err) : rv;
        }
    }
    return rv;
}

int node_power_one(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    nemesis_choose(w, 1, what);
    return lose_power(w, what, err);
}

int node_power_all(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    nemesis_choose(w, HOSTS_MAX, what);
    return lose_power(w, what, err);
}

/* --- One after the other --- */

static int roll(struct nemesis_world *w, const char *program, struct error *err)
{
    int rv = 0;
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        struct host *host = &w->hosts->at[i];
        if (!host->member) {
            continue;
        }
        host_signal(host, SIGTERM);
        if (program != NULL) {
            (void)snprintf(host->program, sizeof(host->program), "%s", program);
        }
        rv = host_start(w->hosts, host, err);
        rv = rv == 0 ? nemesis_settle(w, err) : rv;
    }
    return rv;
}

int node_roll(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)snprintf(what, NEMESIS_WHAT_MAX, ":all");
    return roll(w, NULL, err);
}

/* The nodes began with the other, older build (control/run.c): there is no way back once a newer
 * one has written. */
int node_upgrade(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)snprintf(what, NEMESIS_WHAT_MAX, ":all");
    return roll(w, w->program, err);
}

/* --- Transcoders: processes that nodes start --- */

#define WORKERS_MAX 256
#define ROUNDS      3
#define ROUND_MS    700

/* Children of nodes, as the kernel knows them. Returns how many. */
static unsigned find_workers(const struct nemesis_world *w, pid_t ret_pids[WORKERS_MAX])
{
    unsigned n = 0;
    DIR *proc = opendir("/proc");
    for (const struct dirent *e; proc != NULL && (e = readdir(proc)) != NULL;) {
        char path[300];
        int pid, parent = 0;
        (void)snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
        FILE *f = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (f == NULL) {
            continue;
        }
        bool good = fscanf(f, "%d (%*[^)]) %*c %d", &pid, &parent) == 2;
        (void)fclose(f);
        for (unsigned i = 0; good && i < w->hosts->n && n < WORKERS_MAX; i++) {
            if (w->hosts->at[i].pid != 0 && w->hosts->at[i].pid == parent) {
                ret_pids[n++] = pid;
            }
        }
    }
    if (proc != NULL) {
        (void)closedir(proc);
    }
    return n;
}

static unsigned signal_workers(const struct nemesis_world *w, int signal)
{
    pid_t pids[WORKERS_MAX];
    unsigned n = find_workers(w, pids);
    for (unsigned i = 0; i < n; i++) {
        (void)kill(pids[i], signal);
    }
    return n;
}

int node_pause_workers(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    (void)snprintf(what, NEMESIS_WHAT_MAX, "{:workers %u}", signal_workers(w, SIGSTOP));
    return 0;
}

int node_resume_workers(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)err;
    (void)snprintf(what, NEMESIS_WHAT_MAX, "{:workers %u}", signal_workers(w, SIGCONT));
    return 0;
}

int node_kill_workers(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    unsigned n = 0;
    (void)err;
    for (unsigned i = 0; i < ROUNDS; i++) {
        n += signal_workers(w, SIGKILL);
        hosts_pause_ms(ROUND_MS);
    }
    (void)snprintf(what, NEMESIS_WHAT_MAX, "{:workers %u}", n);
    return 0;
}

/* Nodes have started others. */
int node_leave_workers(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)w;
    (void)what;
    (void)err;
    return 0;
}
