/* Damage: what of a partition's log can't be read any more, and putting it back.
 *
 * A hole is a range of entries that were durable once and whose frames are gone: a flipped bit, a
 * truncated or missing segment file, a sector that can't be read. It is bounded: what stands behind
 * it is good, so the partition's last index and term are known and its promises are kept. Holes are
 * found when the partition is opened, and later when something is read. A read that meets one is
 * WEIR_ECORRUPT, with file and place; all else goes on. The entries come back from another replica
 * by partition_mend.
 *
 * Damage that nothing bounds (the log's end is gone below the synced mark, or the metadata is) is
 * salvaged at open: a copy of what is there goes to the folder `damaged`, the valid prefix stays,
 * and partition_meta.recovering says that the replica's promises are lost. Loop thread only. */
#ifndef LOG_DAMAGE_H
#define LOG_DAMAGE_H

#include "log/partition.h"

#define PARTITION_HOLE_TEXT 160

struct partition_hole {
    struct log_index first, last; /* what is still missing of it */
    /* An entry at or behind `last` whose term is known. By Raft's log matching a log that has this
     * very entry has the very entries of the hole. Index 0: none. */
    struct log_index anchor;
    struct log_term anchor_term;
    char text[PARTITION_HOLE_TEXT]; /* file, place, what is wrong */
};

/* The first `max` holes, in order; returns how many there are. */
unsigned partition_damage(struct partition *p, struct partition_hole *ret_holes, unsigned max);
bool partition_damaged(const struct partition *p);
/* The entry is in a hole. */
bool partition_in_hole(const struct partition *p, struct log_index index);

/* Another replica's log begins with entry `index`: it was decided that what is before it goes. So
 * it goes here too, a hole at the log's begin (which file `begin` is lost) along with it, as far as
 * whole segments lie there. */
void partition_others_begin(struct partition *p, struct log_index index);

/* The same, when all is known of where that log begins, for a log here that is damaged before it
 * and ends behind it, committed. This log begins there too then: what is before is no hole any
 * more, and of one that reaches beyond only that is missing. Durable on return. WEIR_ENOTFOUND:
 * nothing is damaged before it, or that entry stands within a segment that can be read, or
 * partition_set_keep does not allow it; WEIR_EPROTO: the offsets differ; WEIR_EBUSY: later;
 * WEIR_EIO, WEIR_ENOSPC, WEIR_ENOMEM: as it was. Synchronous. */
int partition_adopt_begin(struct partition *p, const struct partition_begin *begin,
                          struct error *err);

/* The file that has the entry, and a byte position in it at or before it: for reading the file
 * ahead of a check. WEIR_ENOTFOUND, WEIR_ECORRUPT. */
int partition_place(struct partition *p, struct log_index index, char *ret_path, size_t size,
                    uint64_t *ret_at);

/* Checks every frame and batch CRC from disk (not the tail) from entry `first` on, about bytes_max.
 * *ret_next: where to go on. On WEIR_ECORRUPT that is behind the bad entry: behind its hole, or,
 * when it could not be made one, behind its segment, so that a walk over the log costs no more than
 * a few reads a segment, whatever is in it. */
int partition_check(struct partition *p, struct log_index first, uint64_t bytes_max,
                    struct log_index *ret_next, struct error *err);

/* Puts back entries first .. first + n - 1, which begin where partition_damage says and do not
 * reach beyond the hole. The caller vouches for them; they are checked against what is known here
 * (terms, offsets, the entries around them): WEIR_EPROTO. Durable on return, in place where the
 * bytes fit, else in a new file that takes the segment's name when it is whole (until then a crash
 * only costs the work). A crash anywhere leaves the hole, or a smaller one. WEIR_EBUSY: later;
 * WEIR_ENOTFOUND: no hole begins there; WEIR_ENOSPC, WEIR_EIO, WEIR_ENOMEM: nothing is changed. */
int partition_mend(struct partition *p, struct log_index first, const struct log_entry *entries,
                   unsigned n, struct error *err);

#endif
