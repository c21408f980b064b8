/* The index of one segment: sparse positions, found by raft index, by offset or by time, and the
 * runs of equal term and type. All of it can be made anew from the frames. Beside a closed segment
 * it is kept in a file, little endian:
 *
 *   at size field
 *    0  8  magic "WEIRIDX1"
 *    8  4  crc32c of bytes 12..end
 *   12  4  version: 1
 *   16  8  first index of the segment
 *   24  8  salt of the segment
 *   32  8  end of the segment's frames, bytes
 *   40  4  number of positions, p
 *   44  4  number of runs, r
 *   48  32 p   positions: index 8, base offset 8, newest append time up to here 8, byte position 8
 *   .   24 r   runs: first index 8, term 8, type 4, zero 4
 *
 * First index, salt and end tie it to the very frames it describes; a file that does not fit is
 * made anew. Loop thread only. */
#ifndef LOG_INDEX_H
#define LOG_INDEX_H

#include "base/bytes.h"
#include "log/frame.h"

struct index_position {
    uint64_t index;
    int64_t offset;
    int64_t time_ms; /* newest append time up to and including this entry */
    uint64_t at;     /* byte position of the frame */
};

struct index_run {
    uint64_t first; /* index */
    uint64_t term;
    uint32_t type;
};

struct index {
    struct index_position *positions;
    struct index_run *runs;
    uint32_t n_positions, cap_positions;
    uint32_t n_runs, cap_runs;
    uint32_t every_bytes; /* one position per this many bytes of log */
};

void index_init(struct index *x, uint32_t every_bytes);
void index_close(struct index *x);
/* Memory for n more frames, so that index_add can't fail. WEIR_ENOMEM. */
int index_reserve(struct index *x, unsigned n);
/* The next frame; memory was reserved. */
void index_add(struct index *x, const struct frame *f, uint64_t at, int64_t time_ms);
/* A frame that is put back into a gap; memory for two more frames was reserved. */
void index_mend(struct index *x, const struct frame *f, uint64_t at, int64_t time_ms);
/* Forgets the entries at and above `from`. */
void index_cut(struct index *x, uint64_t from);
/* The last position at or before an index or offset, or before a time; the first one when there is
 * none, NULL when empty. */
const struct index_position *index_by_index(const struct index *x, uint64_t index);
const struct index_position *index_by_offset(const struct index *x, int64_t offset);
const struct index_position *index_by_time(const struct index *x, int64_t time_ms);
/* The run that `index` falls into; NULL before the first. */
const struct index_run *index_run_at(const struct index *x, uint64_t index);
/* Highest index <= upto of a configuration entry; 0: none. `last` is the segment's last index. */
uint64_t index_last_config(const struct index *x, uint64_t upto, uint64_t last);

/* The file's bytes. */
void index_encode(const struct index *x, uint64_t first, uint64_t salt, uint64_t end,
                  struct bytes *out);
/* WEIR_ECORRUPT when it is not the index of exactly that segment. `x` is initialised and empty. */
int index_decode(struct index *x, const void *data, size_t n, uint64_t first, uint64_t salt,
                 uint64_t end);

#endif
