#include "jepsen/hosts/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPS_MAX    65536u
#define LINE_BYTES 4096

enum what { CREATE, UNLINK, RENAME };

struct op {
    unsigned long number;
    enum what what;
    char *path, *to, *kept; /* `to` of a rename alone; kept "-": nothing is */
    size_t folder;          /* length of its name in the path that changed */
    bool durable;
};

struct names {
    struct op *ops;
    unsigned n;
    bool bad;
};

void names_environment(const struct hosts *h, const struct host *host, struct names_environment *e)
{
    (void)snprintf(e->library, sizeof(e->library), "%s/../libweir_names.so", h->tools);
    (void)snprintf(e->log, sizeof(e->log), "WEIR_NAMES_LOG=%s/names", host->dir);
    (void)snprintf(e->disk, sizeof(e->disk), "WEIR_NAMES_DIR=%s", host->disk);
}

int names_prepare(struct hosts *h, struct host *host, struct error *err)
{
    struct names_environment e;
    names_environment(h, host, &e);
    if (access(e.library, R_OK) != 0) {
        return error_set(err, WEIR_EIO, "%s is not there", e.library);
    }
    if (hosts_runf(h, "mkdir -p %s/kept", host->disk) != 0) {
        return error_set(err, WEIR_EIO, "%s: no folder %s/kept", host->name, host->disk);
    }
    return 0;
}

/* --- What was written down --- */

static const char *changed(const struct op *op)
{
    return op->what == RENAME ? op->to : op->path;
}

/* All in `folder` up to that line is durable. */
static void take_sync(struct names *names, const char *folder, unsigned long upto)
{
    size_t len = strlen(folder);
    for (unsigned i = 0; i < names->n; i++) {
        struct op *op = &names->ops[i];
        op->durable |=
            op->number <= upto && op->folder == len && memcmp(changed(op), folder, len) == 0;
    }
}

static char *copy_of(const char *text)
{
    char *copy = strdup(text != NULL ? text : "-");
    if (copy == NULL) {
        abort();
    }
    return copy;
}

static void take_line(struct names *names, char *line)
{
    char *rest = line;
    line[strcspn(line, "\n")] = '\0';
    const char *number = strsep(&rest, " "), *what = strsep(&rest, " ");
    const char *a = strsep(&rest, " "), *b = strsep(&rest, " "), *c = strsep(&rest, " ");
    if (number == NULL || what == NULL || a == NULL) {
        return; /* cut short by the failure */
    }
    if (strcmp(what, "sync") == 0) {
        take_sync(names, a, b != NULL ? strtoul(b, NULL, 10) : 0);
        return;
    }
    if (names->n == OPS_MAX) {
        names->bad = true;
        return;
    }
    struct op *op = &names->ops[names->n++];
    bool renames = strcmp(what, "rename") == 0;
    op->number = strtoul(number, NULL, 10);
    op->what = renames ? RENAME : strcmp(what, "unlink") == 0 ? UNLINK : CREATE;
    op->path = copy_of(a);
    op->to = copy_of(renames ? b : NULL);
    op->kept = copy_of(renames ? c : b);
    const char *slash = strrchr(changed(op), '/');
    op->folder = slash != NULL ? (size_t)(slash - changed(op)) : 0;
}

static int read_log(struct names *names, const char *path)
{
    char line[LINE_BYTES];
    names->ops = calloc(OPS_MAX, sizeof(*names->ops));
    FILE *f = fopen(path, "re");
    while (f != NULL && names->ops != NULL && fgets(line, sizeof(line), f) != NULL) {
        take_line(names, line);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return names->ops == NULL || names->bad ? -1 : 0;
}

static void free_names(struct names *names)
{
    for (unsigned i = 0; i < names->n; i++) {
        free(names->ops[i].path);
        free(names->ops[i].to);
        free(names->ops[i].kept);
    }
    free(names->ops);
}

/* --- What is lost --- */

static bool same_folder(const struct op *a, const struct op *b)
{
    return a->folder == b->folder && memcmp(changed(a), changed(b), a->folder) == 0;
}

/* Folders keep the order of their changes: of each the first few may have made it. */
static void keep_some(struct names *names, uint64_t (*random)(void *data, uint64_t below),
                      void *data)
{
    for (unsigned i = 0; i < names->n; i++) {
        struct op *op = &names->ops[i];
        bool lost_before = false;
        for (unsigned k = 0; !op->durable && k < i && !lost_before; k++) {
            lost_before = !names->ops[k].durable && same_folder(&names->ops[k], op);
        }
        op->durable |= !lost_before && random(data, 2) == 0;
    }
}

static void give_back(const char *kept, const char *path)
{
    if (access(path, F_OK) != 0) {
        (void)!link(kept, path); /* what was not kept was not there */
    }
}

static void take_back(struct hosts *h, const struct op *op)
{
    if (op->what == CREATE) {
        (void)hosts_runf(h, "rm -rf %s", op->path);
    } else if (op->what == UNLINK) {
        give_back(op->kept, op->path);
    } else if (rename(op->to, op->path) == 0) {
        give_back(op->kept, op->to);
    }
}

int names_lose(struct hosts *h, struct host *host, uint64_t (*random)(void *data, uint64_t below),
               void *data, unsigned *ret_lost, struct error *err)
{
    struct names names = {0};
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/names", host->dir);
    *ret_lost = 0;
    if (read_log(&names, path) != 0) {
        free_names(&names);
        return error_set(err, WEIR_EIO, "%s: %s has more names than are expected", host->name,
                         path);
    }
    keep_some(&names, random, data);
    for (unsigned i = names.n; i-- > 0;) {
        if (!names.ops[i].durable) {
            take_back(h, &names.ops[i]);
            ++*ret_lost;
        }
    }
    free_names(&names);
    (void)hosts_runf(h, "rm -rf %s/kept %s", host->disk, path);
    return names_prepare(h, host, err);
}
