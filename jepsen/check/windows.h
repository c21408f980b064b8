/* When which fault was there: from the nemesis's :begin-NAME (it is being done; histories of before
 * have none), :start-NAME (it is done, and to whom) and :stop-NAME. */
#ifndef JEPSEN_CHECK_WINDOWS_H
#define JEPSEN_CHECK_WINDOWS_H

#include "jepsen/history/ops.h"

#define WINDOWS_MAX 4096

struct window {
    const char *name; /* not terminated */
    int len;
    int64_t start_ns, stop_ns; /* of one that was never stopped: the history's end */
};
struct windows {
    struct window *at;
    size_t n;
};
void windows_find(struct windows *w, const struct ops *ops);
void windows_free(struct windows *w);
bool window_same(const struct window *a, const struct window *b); /* the same fault */

#endif
