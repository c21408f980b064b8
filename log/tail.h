/* The newest entries in memory, as the frames that are or will be on disk. Chunks of consecutive
 * frames: what is appended is copied once, into the newest chunk, and written from there; a chunk
 * never moves, so a write in flight and readers may point into it. Chunks go from the old end only,
 * when told to. Loop thread only. */
#ifndef LOG_TAIL_H
#define LOG_TAIL_H

#include <stddef.h>

#include "log/frame.h"

struct tail_chunk;

struct tail {
    struct tail_chunk **chunks; /* chunks[head .. head + n), oldest first */
    uint32_t head, n, cap;
    uint64_t bytes; /* memory of all chunks */
    uint64_t first; /* index of the oldest entry held; first == next: none */
    uint64_t next;  /* index after the newest */
};

/* Empty; the first entry will be `next`. */
void tail_init(struct tail *t, uint64_t next);
void tail_close(struct tail *t);
/* Memory for one more frame with `len` bytes of payload: tail_add of that size can't fail then.
 * WEIR_ENOMEM. */
int tail_reserve(struct tail *t, uint32_t len);
/* Copies the next entry in; f->index is t->next. */
void tail_add(struct tail *t, const struct frame *f, const void *payload);
/* Forgets the entries at and above `from`. */
void tail_cut(struct tail *t, uint64_t from);
/* Forgets the entries up to `upto`, which is below t->next; their memory goes with its chunk. */
void tail_skip(struct tail *t, uint64_t upto);
/* Frees the oldest chunks while they take more than bytes_max and hold nothing above `upto`. */
void tail_trim(struct tail *t, uint64_t bytes_max, uint64_t upto);

/* The frame of `index`, first <= index < next. *ret_run is the number of bytes of consecutive
 * frames from it to the end of its chunk. */
uint8_t *tail_frame(const struct tail *t, uint64_t index, size_t *ret_run);
/* The last entry whose base offset is <= offset (a batch that holds it, if one does); 0 when all
 * are above. */
uint64_t tail_find_offset(const struct tail *t, int64_t offset);

#endif
