/* Holes inside log/: the list, and finding them. See log/damage.h. */
#ifndef LOG_HOLE_H
#define LOG_HOLE_H

#include "log/damage.h"

/* More than this many in one partition are merged with what is between them. */
#define HOLES_MAX 256

struct hole {
    uint64_t first, last;             /* indexes */
    uint64_t next;                    /* first entry not yet in the new file (partition_mend.c) */
    int64_t first_offset, end_offset; /* the records in it: from, and before */
    uint64_t at, end;                 /* bytes of the file; end 0: not known */
    uint64_t segment;                 /* first index of its segment, which names the file */
    bool terms_known;                 /* the segment's index has right terms for its entries */
    bool rewrite;                     /* to be mended by a new file */
    char what[96];
};

struct holes {
    struct hole *all; /* in order */
    uint32_t n, cap;
};

struct segment;
struct segment_close;

/* The hole that has `index`; NULL. */
struct hole *hole_at(const struct holes *holes, uint64_t index);
/* The last hole of a segment that ends before `index`; NULL. */
const struct hole *hole_before(const struct holes *holes, uint64_t segment, uint64_t index);
bool hole_in_segment(const struct holes *holes, uint64_t segment);
/* Takes one in, or widens one that is there. WEIR_ENOMEM. */
int hole_add(struct partition *p, const struct hole *hole);
void hole_remove(struct holes *holes, struct hole *hole);
/* Forgets what is at and above `from`. */
void holes_cut(struct holes *holes, uint64_t from);
/* Forgets those of segments that begin before `first`. */
void holes_drop(struct holes *holes, uint64_t first);
void holes_close(struct holes *holes);
/* "file: at byte 1: entries 2 to 3 are damaged: why", for errors. */
int hole_error(struct partition *p, const struct hole *hole, struct error *err);

/* Reads the frames of a segment from seg->s.end on into its description; what is bad becomes holes.
 * With a bound (the segment has a successor, or a close record): all entries up to it, bound->end 0
 * when unknown. Without one (the log's last segment): up to where the log ends; *known is raised to
 * what is proven durable, and *ret_lost says that entries up to *known should follow and do not. */
int segment_examine(struct partition *p, struct segment *seg, const struct segment_close *bound,
                    uint64_t *known, bool *ret_lost, struct error *err);
/* A whole segment without a readable file, up to `end`, as one hole. */
int segment_lost(struct partition *p, struct segment *seg, const struct segment_close *end,
                 const char *what, struct error *err);
/* Reading entry `index` from disk failed, as `why` says: takes note, if the entry was durable. */
void hole_discover(struct partition *p, uint64_t index, const struct error *why);

#endif
