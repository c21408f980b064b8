#include "jepsen/control/summary.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "jepsen/history/edn.h"

#define PATH_SIZE 512
#define FILE_MAX  (1u << 20)
#define DEPTH_MAX 3 /* the store, a date, a run */
#define FAULT     "fault/"
#define LARGE     5 /* nodes */

/* --- One run --- */

/* The first value in a file; NULL: no file, or no EDN. */
static const struct edn *read_file(struct edn_arena *a, const char *dir, const char *name)
{
    char path[PATH_SIZE];
    const char *error = NULL;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return NULL;
    }
    char *text = edn_alloc(a, FILE_MAX);
    size_t n = fread(text, 1, FILE_MAX, f);
    const char *at = text;
    (void)fclose(f);
    return edn_read(a, &at, text + n, &error);
}

static void copy_text(char *to, size_t size, const struct edn *e)
{
    (void)snprintf(to, size, "%.*s", e != NULL ? (int)e->len : 1, e != NULL ? e->text : "?");
}

static double number(const struct edn *e)
{
    char text[32];
    if (e == NULL) {
        return 0;
    }
    if (edn_is_int(e)) {
        return (double)edn_int(e, 0);
    }
    copy_text(text, sizeof(text), e);
    return strtod(text, NULL);
}

static double greater(double a, double b)
{
    return a > b ? a : b;
}

/* NULL: the table is full. */
static struct summary_cell *cell_of(struct summary_cell *cells, unsigned *n, const char *workload,
                                    const char *name)
{
    for (unsigned i = 0; i < *n; i++) {
        if (strcmp(cells[i].workload, workload) == 0 && strcmp(cells[i].name, name) == 0) {
            return &cells[i];
        }
    }
    if (*n == SUMMARY_CELLS_MAX) {
        return NULL;
    }
    struct summary_cell *c = &cells[(*n)++];
    (void)snprintf(c->workload, sizeof(c->workload), "%s", workload);
    (void)snprintf(c->name, sizeof(c->name), "%s", name);
    return c;
}

static void keep_bad(struct summary *s, const struct summary_cell *c, const struct edn *run)
{
    if (s->n_bad < SUMMARY_RUNS_MAX) {
        struct summary_bad *b = &s->bad[s->n_bad++];
        memcpy(b->workload, c->workload, sizeof(b->workload));
        memcpy(b->nemesis, c->name, sizeof(b->nemesis));
        copy_text(b->outcome, sizeof(b->outcome), edn_get(run, "outcome"));
        copy_text(b->reason, sizeof(b->reason), edn_get(run, "reason"));
        b->seed = edn_int(edn_get(run, "seed"), 0);
        b->nodes = edn_int(edn_get(run, "nodes"), 0);
    }
}

/* ":stalls-large-buffer/kill-one {:stalls 4, :longest-ms 685, :total-ms 1948}" */
static void take_stalls(struct summary *s, const char *key, const struct edn *value)
{
    static const char *const prefixes[] = {"stalls-large-buffer/", "stalls-small-buffer/"};
    for (unsigned k = 0; k < 2; k++) {
        size_t len = strlen(prefixes[k]);
        unsigned i = 0;
        if (strncmp(key, prefixes[k], len) != 0) {
            continue;
        }
        while (i < s->n_stalls && strcmp(s->stalls[i].name, key + len) != 0) {
            i++;
        }
        if (i == SUMMARY_STALLS_MAX) {
            return;
        }
        s->n_stalls = i == s->n_stalls ? i + 1 : s->n_stalls;
        struct summary_stalls *t = &s->stalls[i];
        uint64_t longest_ms = (uint64_t)edn_int(edn_get(value, "longest-ms"), 0);
        (void)snprintf(t->name, sizeof(t->name), "%s", key + len);
        t->n[k] += (uint64_t)edn_int(edn_get(value, "stalls"), 0);
        t->total_ms[k] += (uint64_t)edn_int(edn_get(value, "total-ms"), 0);
        t->longest_ms[k] = longest_ms > t->longest_ms[k] ? longest_ms : t->longest_ms[k];
    }
}

/* ":fault/kill-one {:times 3, :longest-down-ms 12.0, :recovery-ms 0.0}" */
static void take_faults(struct summary *s, struct summary_cell *run, const struct edn *figures)
{
    const struct edn *key = edn_first_key(figures);
    for (; key != NULL; key = edn_next_key(key)) {
        const struct edn *value = key->next;
        char name[SUMMARY_NAME_MAX];
        run->down_ms = greater(run->down_ms, number(edn_get(value, "longest-down-ms")));
        run->recovery_ms = greater(run->recovery_ms, number(edn_get(value, "recovery-ms")));
        copy_text(name, sizeof(name), key);
        take_stalls(s, name, value);
        if (strncmp(name, FAULT, strlen(FAULT)) != 0) {
            continue;
        }
        struct summary_cell *c =
            cell_of(s->faults, &s->n_faults, run->workload, name + strlen(FAULT));
        if (c != NULL) {
            c->runs++;
            c->faults += (uint64_t)edn_int(edn_get(value, "times"), 0);
            c->down_ms = greater(c->down_ms, number(edn_get(value, "longest-down-ms")));
            c->recovery_ms = greater(c->recovery_ms, number(edn_get(value, "recovery-ms")));
        }
    }
}

static void take_run(struct summary *s, const char *dir)
{
    struct edn_arena arena = {0};
    char workload[SUMMARY_NAME_MAX], nemesis[SUMMARY_NAME_MAX];
    const struct edn *run = read_file(&arena, dir, "run.edn");
    const struct edn *verdict = read_file(&arena, dir, "verdict.edn");
    copy_text(workload, sizeof(workload), edn_get(run, "workload"));
    copy_text(nemesis, sizeof(nemesis), edn_get(run, "nemesis"));
    struct summary_cell *c = run != NULL ? cell_of(s->cells, &s->n_cells, workload, nemesis) : NULL;
    if (c == NULL) {
        s->n_unread++;
    } else {
        const struct edn *outcome = edn_get(run, "outcome");
        c->runs++;
        c->runs_large += edn_int(edn_get(run, "nodes"), 0) >= LARGE;
        c->invalid += edn_is(outcome, "invalid");
        c->unchecked += edn_is(outcome, "unchecked");
        c->operations += (uint64_t)edn_int(edn_get(run, "operations"), 0);
        c->faults += (uint64_t)edn_int(edn_get(run, "faults"), 0);
        c->seconds += number(edn_get(run, "seconds"));
        take_faults(s, c, edn_get(verdict, "figures"));
        if (!edn_is(outcome, "valid")) {
            keep_bad(s, c, run);
        }
    }
    edn_arena_free(&arena);
}

/* --- Folders --- */

static bool is_run(const char *dir)
{
    char path[PATH_SIZE];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/run.edn", dir);
    return stat(path, &st) == 0;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int take_folder(struct summary *s, const char *dir, unsigned depth)
{
    struct dirent **names = NULL;
    if (is_run(dir)) {
        take_run(s, dir);
        return 0;
    }
    int n = depth < DEPTH_MAX ? scandir(dir, &names, NULL, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        char path[PATH_SIZE];
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && is_folder(path)) {
            (void)take_folder(s, path, depth + 1);
        }
        free(names[i]);
    }
    free(names);
    return n < 0 ? -1 : 0;
}

int summary_take(struct summary *s, const char *dir)
{
    return take_folder(s, dir, 0);
}

/* --- Tables --- */

static int compare_cells(const void *a, const void *b)
{
    const struct summary_cell *x = a, *y = b;
    int by_workload = strcmp(x->workload, y->workload);
    return by_workload != 0 ? by_workload : strcmp(x->name, y->name);
}

static int compare_faults(const void *a, const void *b)
{
    const struct summary_cell *x = a, *y = b;
    int by_name = strcmp(x->name, y->name);
    return by_name != 0 ? by_name : strcmp(x->workload, y->workload);
}

static void print_cells(const struct summary *s, FILE *out)
{
    (void)fprintf(out, "| workload | nemesis | runs: 3 nodes | 5 nodes | operations | faults "
                       "| verdict | longest without progress, s | well again after, s |\n"
                       "|---|---|---|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < s->n_cells; i++) {
        const struct summary_cell *c = &s->cells[i];
        char verdict[64] = "valid";
        if (c->invalid + c->unchecked > 0) {
            (void)snprintf(verdict, sizeof(verdict), "%u INVALID, %u unchecked", c->invalid,
                           c->unchecked);
        }
        (void)fprintf(out, "| %s | %s | %u | %u | %llu | %llu | %s | %.1f | %.1f |\n", c->workload,
                      c->name, c->runs - c->runs_large, c->runs_large,
                      (unsigned long long)c->operations, (unsigned long long)c->faults, verdict,
                      c->down_ms / 1e3, c->recovery_ms / 1e3);
    }
}

/* One line a kind of fault, a column a workload. */
static void print_faults(const struct summary *s, FILE *out)
{
    const char *workloads[16];
    unsigned n = 0;
    for (unsigned i = 0; i < s->n_cells && n < 16; i++) { /* sorted by workload */
        if (n == 0 || strcmp(workloads[n - 1], s->cells[i].workload) != 0) {
            workloads[n++] = s->cells[i].workload;
        }
    }
    (void)fprintf(out, "\nLongest time without progress that a fault has to do with, and after its "
                       "end, s:\n\n| fault | times |");
    for (unsigned k = 0; k < n; k++) {
        (void)fprintf(out, " %s |", workloads[k]);
    }
    (void)fprintf(out, "\n|---|---|");
    for (unsigned k = 0; k < n; k++) {
        (void)fprintf(out, "---|");
    }
    for (unsigned i = 0, next; i < s->n_faults; i = next) {
        uint64_t times = 0;
        for (next = i; next < s->n_faults && strcmp(s->faults[next].name, s->faults[i].name) == 0;
             next++) {
            times += s->faults[next].faults;
        }
        (void)fprintf(out, "\n| %s | %llu |", s->faults[i].name, (unsigned long long)times);
        for (unsigned k = 0, at = i; k < n; k++) {
            bool has = at < next && strcmp(s->faults[at].workload, workloads[k]) == 0;
            if (has) {
                (void)fprintf(out, " %.1f, %.1f |", s->faults[at].down_ms / 1e3,
                              s->faults[at].recovery_ms / 1e3);
                at++;
            } else {
                (void)fprintf(out, " |");
            }
        }
    }
    (void)fprintf(out, "\n");
}

static int compare_stalls(const void *a, const void *b)
{
    const struct summary_stalls *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void print_stalls(struct summary *s, FILE *out)
{
    if (s->n_stalls == 0) {
        return;
    }
    qsort(s->stalls, s->n_stalls, sizeof(s->stalls[0]), compare_stalls);
    (void)fprintf(out, "\nStalls of players: how many, the longest, all together, s:\n\n"
                       "| fault | with large buffers | with small buffers |\n|---|---|---|\n");
    for (unsigned i = 0; i < s->n_stalls; i++) {
        const struct summary_stalls *t = &s->stalls[i];
        (void)fprintf(out, "| %s |", t->name);
        for (unsigned k = 0; k < 2; k++) {
            (void)fprintf(out, " %llu, %.1f, %.1f |", (unsigned long long)t->n[k],
                          (double)t->longest_ms[k] / 1e3, (double)t->total_ms[k] / 1e3);
        }
        (void)fprintf(out, "\n");
    }
}

static void print_bad(const struct summary *s, FILE *out)
{
    if (s->n_bad > 0) {
        (void)fprintf(out, "\nNot valid:\n\n");
    }
    for (unsigned i = 0; i < s->n_bad; i++) {
        const struct summary_bad *b = &s->bad[i];
        (void)fprintf(out, "- %s, %s, seed %lld, %lld nodes: %s: %s\n", b->workload, b->nemesis,
                      (long long)b->seed, (long long)b->nodes, b->outcome, b->reason);
    }
}

void summary_print(struct summary *s, FILE *out)
{
    struct summary_cell all = {0};
    for (unsigned i = 0; i < s->n_cells; i++) {
        all.runs += s->cells[i].runs;
        all.invalid += s->cells[i].invalid;
        all.unchecked += s->cells[i].unchecked;
        all.operations += s->cells[i].operations;
        all.faults += s->cells[i].faults;
        all.seconds += s->cells[i].seconds;
    }
    qsort(s->cells, s->n_cells, sizeof(s->cells[0]), compare_cells);
    qsort(s->faults, s->n_faults, sizeof(s->faults[0]), compare_faults);
    (void)fprintf(out,
                  "%u runs, %.1f hours, %llu operations, %llu faults; %u invalid, %u unchecked",
                  all.runs, all.seconds / 3600, (unsigned long long)all.operations,
                  (unsigned long long)all.faults, all.invalid, all.unchecked);
    (void)fprintf(out, s->n_unread > 0 ? ", %u could not be read\n\n" : "\n\n", s->n_unread);
    print_cells(s, out);
    print_faults(s, out);
    print_stalls(s, out);
    print_bad(s, out);
}
