/* Memory for one batch: taken in pieces, given back all at once. Loop thread only. */
#ifndef VIEWS_ARENA_H
#define VIEWS_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t used;                /* bytes handed out since the reset */
    bool failed;                /* an allocation did, since the reset */
};

void arena_init(struct arena *a);
void arena_close(struct arena *a);
/* Keeps one chunk for the next round. */
void arena_reset(struct arena *a);
/* Aligned for anything; not zeroed; NULL: out of memory. */
void *arena_alloc(struct arena *a, size_t n);
/* A copy of n bytes, with a NUL behind them. */
void *arena_copy(struct arena *a, const void *data, size_t n);

#endif
