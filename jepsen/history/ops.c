#include "jepsen/history/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- The file --- */

static char *read_file(const char *path, size_t *ret_n)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t n = 0, cap = 0;
    if (file == NULL) {
        return NULL;
    }
    for (;;) {
        if (n + 1 >= cap) {
            cap = cap == 0 ? 1u << 20 : cap * 2;
            char *more = realloc(text, cap);
            if (more == NULL) {
                break;
            }
            text = more;
        }
        size_t some = fread(text + n, 1, cap - n - 1, file);
        n += some;
        if (some == 0) {
            int failed = ferror(file);
            (void)fclose(file);
            if (failed) {
                free(text);
                return NULL;
            }
            text[n] = '\0';
            *ret_n = n;
            return text;
        }
    }
    (void)fclose(file);
    free(text);
    errno = ENOMEM;
    return NULL;
}

/* --- Operations --- */

static bool take_type(struct op *op, const struct edn *type)
{
    static const char *const types[] = {"invoke", "ok", "fail", "info"};
    for (unsigned i = 0; i < 4; i++) {
        if (edn_is(type, types[i])) {
            op->type = (enum history_type)i;
            return true;
        }
    }
    return false;
}

/* NULL, or what is wrong with it. */
static const char *take_op(struct op *op, const struct edn *map)
{
    const struct edn *process = edn_get(map, "process");
    op->map = map;
    op->f = edn_get(map, "f");
    op->value = edn_get(map, "value");
    op->error = edn_get(map, "error");
    op->index = edn_int(edn_get(map, "index"), -1);
    op->time_ns = edn_int(edn_get(map, "time"), -1);
    if (map->type != EDN_MAP) {
        return "an operation is a map";
    }
    if (!take_type(op, edn_get(map, "type"))) {
        return "no :type that there is";
    }
    if (op->f == NULL || op->f->type != EDN_KEYWORD) {
        return "no :f";
    }
    op->process = edn_is(process, "nemesis") ? HISTORY_NEMESIS : edn_int(process, -2);
    return op->process < HISTORY_NEMESIS ? "no :process" : NULL;
}

/* Open operations of processes, by process. */
struct open_table {
    struct op **slots;
    size_t mask, used;
};

static struct op **open_slot(struct op **slots, size_t mask, int64_t process)
{
    size_t at = (size_t)((uint64_t)process * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (slots[at] != NULL && slots[at]->process != process) {
        at = (at + 1) & mask;
    }
    return &slots[at];
}

static const char *tie(struct open_table *t, struct op *op)
{
    if (op->process == HISTORY_NEMESIS) {
        return NULL;
    }
    struct op **slot = open_slot(t->slots, t->mask, op->process);
    struct op *last = *slot;
    bool open = last != NULL && last->type == HISTORY_INVOKE;
    if (op->type == HISTORY_INVOKE) {
        t->used += last == NULL;
        *slot = op;
        return open ? "the process has an operation open already" : NULL;
    }
    if (!open) {
        return "nothing was invoked that this could be the end of";
    }
    last->other = op;
    op->other = last;
    *slot = op;
    return NULL;
}

static bool tie_grow(struct open_table *t)
{
    if (t->used * 2 <= t->mask) {
        return true;
    }
    size_t mask = t->mask * 2 + 1;
    struct op **slots = calloc(mask + 1, sizeof(struct op *));
    if (slots == NULL) {
        return false;
    }
    for (size_t i = 0; i <= t->mask; i++) {
        if (t->slots[i] != NULL) {
            *open_slot(slots, mask, t->slots[i]->process) = t->slots[i];
        }
    }
    free(t->slots);
    t->slots = slots;
    t->mask = mask;
    return true;
}

static const char *tie_all(struct ops *ops, size_t *ret_at)
{
    struct open_table t = {.mask = 1023};
    const char *wrong = NULL;
    int64_t time_ns = 0;
    t.slots = calloc(t.mask + 1, sizeof(struct op *));
    if (t.slots == NULL) {
        return "no memory";
    }
    for (size_t i = 0; i < ops->n && wrong == NULL; i++) {
        struct op *op = &ops->at[i];
        *ret_at = i;
        wrong = tie_grow(&t) ? tie(&t, op) : "no memory";
        if (wrong == NULL && op->time_ns >= 0) {
            wrong = op->time_ns < time_ns ? "the time goes back" : NULL;
            time_ns = op->time_ns;
        }
    }
    free(t.slots);
    return wrong;
}

static unsigned long line_of(const struct ops *ops, const char *at)
{
    unsigned long line = 1;
    for (const char *c = ops->text; c < at; c++) {
        line += *c == '\n';
    }
    return line;
}

static bool add_op(struct ops *ops, size_t *cap, const struct edn *map, const char **ret_wrong)
{
    if (ops->n == *cap) {
        *cap = *cap == 0 ? 4096 : *cap * 2;
        struct op *more = realloc(ops->at, *cap * sizeof(*more));
        if (more == NULL) {
            *ret_wrong = "no memory";
            return false;
        }
        ops->at = more;
    }
    memset(&ops->at[ops->n], 0, sizeof(struct op));
    *ret_wrong = take_op(&ops->at[ops->n++], map);
    return *ret_wrong == NULL;
}

static int read_all(struct ops *ops, size_t n, char *ret_error, size_t size)
{
    const char *at = ops->text, *end = ops->text + n, *wrong = NULL, *start;
    size_t cap = 0, bad = 0;
    struct edn *e;
    while ((start = at, e = edn_read(&ops->arena, &at, end, &wrong)) != NULL) {
        if (e->type != EDN_VECTOR) {
            start = e->text;
            if (!add_op(ops, &cap, e, &wrong)) {
                break;
            }
            continue;
        }
        for (const struct edn *item = e->first; item != NULL; item = item->next) {
            start = item->text;
            if (!add_op(ops, &cap, item, &wrong)) {
                break;
            }
        }
        if (wrong != NULL) {
            break;
        }
    }
    start += e == NULL && wrong != NULL ? strspn(start, " ,\n\r\t") : 0;
    if (wrong == NULL) {
        wrong = tie_all(ops, &bad);
        start = wrong != NULL && bad < ops->n ? ops->at[bad].map->text : start;
    }
    if (wrong != NULL) {
        (void)snprintf(ret_error, size, "line %lu: %s", line_of(ops, start), wrong);
        return -1;
    }
    return 0;
}

int ops_load(struct ops *ops, const char *path, char *ret_error, size_t size)
{
    size_t n = 0;
    memset(ops, 0, sizeof(*ops));
    ops->text = read_file(path, &n);
    if (ops->text == NULL) {
        (void)snprintf(ret_error, size, "%s: %s", path, strerror(errno));
        return -1;
    }
    char why[160];
    if (read_all(ops, n, why, sizeof(why)) != 0) {
        (void)snprintf(ret_error, size, "%s: %s", path, why);
        ops_free(ops);
        return -1;
    }
    return 0;
}

void ops_free(struct ops *ops)
{
    edn_arena_free(&ops->arena);
    free(ops->at);
    free(ops->text);
    memset(ops, 0, sizeof(*ops));
}
