#include "jepsen/check/windows.h"

#include <stdlib.h>
#include <string.h>

static bool begins(const struct edn *f, const char *prefix, const char **ret_rest, int *ret_len)
{
    size_t n = strlen(prefix);
    if (f->len <= n || memcmp(f->text, prefix, n) != 0) {
        return false;
    }
    *ret_rest = f->text + n;
    *ret_len = (int)(f->len - n);
    return true;
}

bool window_same(const struct window *a, const struct window *b)
{
    return a->len == b->len && memcmp(a->name, b->name, (size_t)a->len) == 0;
}

/* The newest of this name that has no end yet; NULL: none. */
static struct window *open_window(struct windows *w, const struct window *as, int64_t end_ns)
{
    for (size_t k = w->n; k-- > 0;) {
        if (window_same(&w->at[k], as)) {
            return w->at[k].stop_ns == end_ns ? &w->at[k] : NULL;
        }
    }
    return NULL;
}

void windows_find(struct windows *w, const struct ops *ops)
{
    int64_t end_ns = ops->n > 0 ? ops->at[ops->n - 1].time_ns : 0;
    w->n = 0;
    w->at = calloc(WINDOWS_MAX, sizeof(*w->at));
    for (size_t i = 0; w->at != NULL && i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        struct window now = {.start_ns = op->time_ns, .stop_ns = end_ns};
        if (op->process != HISTORY_NEMESIS) {
            continue;
        }
        bool starts = begins(op->f, "begin-", &now.name, &now.len) ||
                      begins(op->f, "start-", &now.name, &now.len);
        if (!starts && !begins(op->f, "stop-", &now.name, &now.len)) {
            continue;
        }
        struct window *open = open_window(w, &now, end_ns);
        if (starts && open == NULL && w->n < WINDOWS_MAX) {
            w->at[w->n++] = now;
        } else if (!starts && open != NULL) {
            open->stop_ns = op->time_ns;
        }
    }
}

void windows_free(struct windows *w)
{
    free(w->at);
    w->at = NULL;
    w->n = 0;
}
