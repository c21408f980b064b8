/* A whole history, read: operations in the order of the file, invocations tied to their
 * completions. */
#ifndef JEPSEN_HISTORY_OPS_H
#define JEPSEN_HISTORY_OPS_H

#include "jepsen/history/edn.h"
#include "jepsen/history/history.h"

struct op {
    enum history_type type;
    int64_t index, time_ns;
    int64_t process;                     /* HISTORY_NEMESIS: the nemesis */
    const struct edn *f, *value, *error; /* NULL: absent */
    const struct edn *map;               /* all of it */
    struct op
        *other; /* of an invocation its completion, and the other way round; NULL: none came */
};

struct ops {
    struct edn_arena arena;
    char *text;
    struct op *at;
    size_t n;
};

/* Reads maps, one after the other or in one vector. Refuses, naming the line, what no history may
 * have: no map, no :type or :process, a completion without its invocation, two operations of a
 * process at a time, times that go back. 0 or -1. */
int ops_load(struct ops *ops, const char *path, char *ret_error, size_t size);
void ops_free(struct ops *ops);

static inline bool op_is(const struct op *op, enum history_type type, const char *f)
{
    return op->type == type && edn_is(op->f, f);
}
/* Its end is known to be good. */
static inline bool op_went_well(const struct op *invocation)
{
    return invocation->other != NULL && invocation->other->type == HISTORY_OK;
}
/* It certainly did not happen. */
static inline bool op_failed(const struct op *invocation)
{
    return invocation->other != NULL && invocation->other->type == HISTORY_FAIL;
}

#endif
