/* What the entries of a partition fold to. Updated when entries are appended, on every replica, so
 * a new leader has it at once; made anew when entries are removed (log/partition_state.c). Kept in
 * files NNNNNNNNNNNNNNNNNNNN.state, named by the index of the entry behind it (20 digits), little
 * endian:
 *
 *   at size field
 *    0  8  magic "WEIRSTAT"
 *    8  4  crc32c of bytes 12..end
 *   12  4  version: 1
 *   16  8  index of the last entry that is folded in
 *   24  8  its term: index and term together name everything up to there (Raft, log matching)
 *   32  4  number of sections
 *   36  4  zero
 *   40  .  sections: kind 4, length n 4, n bytes
 *
 * Sections: 1 producers (log/producers.h). A file is only a shortcut: one that is absent, damaged,
 * of another version or with an unknown section costs reading more of the log, nothing else. Loop
 * thread only. */
#ifndef LOG_STATE_H
#define LOG_STATE_H

#include "log/frame.h"
#include "log/producers.h"

#define STATE_SUFFIX    ".state"
#define STATE_BYTES_MAX (4U << 20)

struct log_state {
    struct log_index index; /* of the last entry that is folded in */
    struct log_term term;
    struct producers producers;
};

void log_state_init(struct log_state *s);
void log_state_close(struct log_state *s);
/* Memory so that the next entries can be folded: *need (0 at first) counts what they need. The same
 * need for several entries is for folding all of them. WEIR_ENOMEM. */
int log_state_reserve(struct log_state *s, enum log_entry_type type, const void *payload,
                      uint32_t *need);
/* The next entry, whose payload has passed frame_meaning; one at or below s->index is passed over.
 * Can't fail after log_state_reserve. */
void log_state_fold(struct log_state *s, struct log_index index, struct log_term term,
                    enum log_entry_type type, const void *payload);

/* The file's bytes; errors stick in `out`. */
void log_state_encode(const struct log_state *s, struct bytes *out);
/* WEIR_ECORRUPT, WEIR_EVERSION, WEIR_ENOMEM; `s` is as it was then. */
int log_state_decode(struct log_state *s, const void *data, size_t n, struct error *err);

#endif
