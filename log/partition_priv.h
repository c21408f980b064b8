/* Shared by the files of the partition: partition.c (life, accessors), partition_recover.c
 * (opening), partition_append.c (group commit, rolling), partition_truncate.c, partition_read.c,
 * partition_files.c (segments and small files), partition_state.c (what the entries fold to).
 * Nobody else includes it.
 *
 * The log in memory: `segments` describes all of it, the newest entries are also in `tail`.
 * Indexes:
 *
 *   first ... | closed segments | last file ...... durable | submitted | last | (planned segments
 * begin between submitted and last)
 *
 * An entry gets its segment and byte position when it is appended; a segment that has no file yet
 * is `planned`. Only one group of frames is being written at a time, and it never crosses from one
 * segment into the next. */
#ifndef LOG_PARTITION_PRIV_H
#define LOG_PARTITION_PRIV_H

#include "base/metrics.h"
#include "log/begin.h"
#include "log/control.h"
#include "log/hole.h"
#include "log/index.h"
#include "log/keymap.h"
#include "log/meta.h"
#include "log/partition.h"
#include "log/segment.h"
#include "log/state.h"
#include "log/tail.h"

#define PARTITION_PATH_MAX 1024
/* Frames written at once: enough to be limited by the disk's bandwidth, not its latency. */
#define GROUP_BYTES_MAX  (4U << 20)
#define GROUP_IOV_MAX    64
#define OPEN_CLOSED_MAX  8 /* closed segments whose file and index are kept open */
#define MARK_INTERVAL_US 50000
#define NEXT_NAME        "next.tmp"
#define MEND_NAME        "mend.tmp"
#define COMPACT_NAME     "compact.tmp"
#define DAMAGED_DIR      "damaged"

struct segment {
    struct log_index first_index;
    struct log_offset first_offset;
    uint64_t salt;
    uint64_t size;          /* bytes reserved or to be reserved */
    struct segment_close s; /* what is in it so far; last_index = first_index - 1 when empty */
    bool planned;           /* has no name on disk yet */
    bool closed;            /* no more frames come */
    bool allocated;         /* `size` is reserved */
    bool lost;              /* no readable file: all of it is a hole */
    bool header_bad;        /* its header is to be written anew */
    bool has_close;         /* while opening: `close` was read */
    struct segment_close close;
    struct segment_clean clean;
    unsigned pins; /* walks that read from its file */
    bool loaded;   /* file and index are there; always, but for closed ones */
    uint64_t used; /* when it was last needed, by p->use_clock */
    struct env_file *file;
    struct index index;
};

/* A request that may outlive the partition: close() waits for the disk, but not for the callback.
 */
struct background {
    struct env_io io;
    struct partition *p; /* NULL: closed meanwhile, the callback frees it */
    bool busy;
    uint8_t buf[MARK_SIZE];
    struct iovec iov;
};

/* A segment that is being written anew. */
struct mending {
    bool on;
    uint64_t segment;     /* first index */
    struct segment fresh; /* what is in the new file so far */
};

/* Compaction under way (compact.c). What is to be done stands in p->begin. */
struct compaction {
    enum { COMPACT_IDLE, COMPACT_MAPPING, COMPACT_CHECKING, COMPACT_COPYING, COMPACT_SWITCH } phase;
    struct env_timer timer;
    /* The newest decision in the log that was not committed when it came; index 0: none. */
    uint64_t pending_index;
    struct control pending;
    /* This round: [dirty_from, clean.upto) is in the map. */
    struct segment_clean clean;
    int64_t dirty_from;
    struct keymap map;
    size_t map_bytes_max;
    uint64_t next, last;    /* entries: the next one to look at, the last one that takes part */
    uint64_t segment, salt; /* which one is being looked at */
    struct segment fresh;   /* what is in its new file so far */
    struct compact_op *op;  /* NULL: no new file */
    bool unsynced;          /* one has taken its place, the folder is not synced yet */
    struct segment_clean stored; /* what the file `begin` says */
};

/* The fold, and where to begin when the log's end goes away. */
#define STATE_FILES_KEPT 2
#define STATE_FILES_MAX  8
struct partition_state {
    struct log_state now;
    uint64_t guessed;  /* from this entry on it passed over a hole; not written then; 0: nowhere */
    uint64_t floor;    /* it came from another replica, folded up to here; 0: it did not */
    uint64_t imported; /* index of the file of the last reset, as found at opening; 0: none */
    /* Encoded copies from a little earlier: `safe` is committed, `young` perhaps not. Empty: none.
     */
    struct bytes safe, young;
    uint64_t safe_index, young_index;
    uint64_t since_bytes; /* folded since the newest one */
    /* A copy at a segment's end, written once that is durable. */
    struct bytes waiting, writing;
    uint64_t waiting_index, writing_index;
    struct env_file *file;
    struct background *op;
    uint64_t files[STATE_FILES_MAX]; /* indexes of the files that are there, ascending */
    unsigned n_files;
};

enum next_state { NEXT_NONE, NEXT_ALLOCATING, NEXT_READY };

struct partition {
    struct env *env;
    struct partition_options options;
    char dir[PARTITION_PATH_MAX];
    char path[PARTITION_PATH_MAX + SEGMENT_NAME_SIZE + 16];
    bool failed;

    struct segment **segments; /* oldest first; at least one once open */
    uint32_t n_segments, cap_segments;
    uint64_t use_clock;
    struct tail tail;
    struct holes holes;
    struct mending mending;
    struct compaction compact;
    uint64_t durable, submitted; /* indexes */
    uint64_t commit;
    int64_t high_watermark;

    /* Appending */
    struct list appends; /* partition_append, in order */
    unsigned n_outstanding;
    int rejecting; /* until the failed appends have called back, those behind them fail too */
    struct env_defer kick;
    bool writing, rolling, reject_logged;
    struct env_io io;
    struct iovec iov[GROUP_IOV_MAX];
    uint64_t write_at; /* byte position of entry submitted + 1, when its segment has a file */
    uint64_t write_began_ns;
    uint8_t header[SEGMENT_HEADER_SIZE];
    struct metric_histogram *sync_seconds;

    /* The next segment's file, reserved ahead */
    enum next_state next_state;
    struct env_file *next_file;
    uint64_t next_size;
    struct background *next_op;

    struct begin begin;             /* where the log begins */
    struct log_offset start_stored; /* the start offset that the file says */
    uint64_t keep;                  /* entries above it may not go */
    struct begin_op *begin_op;      /* retention.c */
    struct env_timer remove_timer;
    uint64_t *leftovers; /* first indexes of segment files before that; the last one goes first */
    uint32_t n_leftovers;

    struct env_file *meta_file, *mark_file;
    struct meta meta;
    struct meta_op *meta_op; /* a write of meta that nobody waits for; NULL: none */
    struct mark mark;        /* what was last given to the disk */
    struct background *mark_op;
    struct env_timer mark_timer;
    bool mark_timer_on;

    struct partition_state state;
};

/* --- partition.c --- */

struct segment *partition_active(const struct partition *p); /* the last one, perhaps planned */
static inline uint64_t last_index_of(const struct partition *p)
{
    return partition_active(p)->s.last_index.v;
}
/* The one that holds or will hold `index`; first <= index. */
uint32_t partition_segment_at(const struct partition *p, uint64_t index);
/* Takes no more appends. Those waiting complete with WEIR_EIO. */
void partition_fail(struct partition *p, int status, const char *what);

/* --- partition_files.c --- */

/* dir/name in p->path, valid until the next call. */
const char *partition_path(struct partition *p, const char *name);
const char *partition_segment_path(struct partition *p, uint64_t first_index);
const char *partition_index_path(struct partition *p, uint64_t first_index);
/* A segment that begins behind `before` (NULL: an empty log), planned, at the end of p->segments.
 * WEIR_ENOMEM. */
int segment_plan(struct partition *p, const struct segment *before, struct segment **ret_segment);
/* Adds an empty descriptor at the end of p->segments. NULL: out of memory. */
struct segment *segment_push(struct partition *p);
/* Removes the last descriptor, closing its file. */
void segment_pop(struct partition *p);
/* Removes the first n descriptors, closing their files. */
void segments_shift(struct partition *p, uint32_t n);
/* Makes the only descriptor that of an empty log, planned, beginning at p->begin. */
void segment_renew(struct partition *p);
/* What stands before entry `first_index` of segment i: end is SEGMENT_HEADER_SIZE. */
struct segment_close segment_state_at_first(const struct partition *p, uint32_t i);
/* Takes the next frame into the description. Nothing is changed on error: WEIR_EPROTO, WEIR_ENOMEM.
 */
int segment_note(struct segment *seg, const struct frame *f, const uint8_t *payload,
                 struct error *err);
/* Opens file and index of a closed segment when they are not there, perhaps closing another's. */
int segment_use(struct partition *p, struct segment *seg, struct error *err);
/* Reads all frames of [seg->s.end, ...) up to index `last` into the description. WEIR_ECORRUPT:
 * stopped at seg->s.end. `max_synced` (may be NULL): highest synced index met. */
int segment_scan(struct segment *seg, uint64_t last, uint64_t *ret_max_synced, struct error *err);
/* Writes the index file and the close record. Both may be lost: they spare work, they decide
 * nothing. */
void segment_finish(struct partition *p, struct segment *seg);
/* Where to begin reading so that entry `index` is met: the last place known at or before it, behind
 * any hole. False: not in the index. */
bool segment_start_for(const struct partition *p, const struct segment *seg, uint64_t index,
                       struct index_position *ret_start);
/* Where the log would stand if it ended before entry `from` of `seg`. */
int segment_state_before(struct partition *p, uint32_t i, uint64_t from,
                         struct segment_close *ret_state, struct error *err);
/* The mark, durably. */
int mark_write_now(struct partition *p, const struct mark *mark, struct error *err);
/* The mark, soon. */
void mark_touch(struct partition *p);
/* Durable. */
int meta_write(struct partition *p, const struct meta *meta, struct error *err);
/* Frees it, or lets its callback do so. */
void background_release(struct background *op);

/* --- partition_state.c --- */

/* WEIR_ENOMEM. */
int state_init(struct partition *p);
void state_free(struct partition *p);
/* A name in the folder; true: it is a state file's, and known now. */
bool state_name(struct partition *p, const char *name);
/* After recovery: the newest good file and what is behind it. A log that can't be read leaves the
 * state less certain, never wrong. */
void state_load(struct partition *p);
/* Memory for one more entry; see log_state_reserve. */
int state_reserve(struct partition *p, const struct log_entry *e, uint32_t *need);
/* n entries were appended, `segments` counts those there were before. */
void state_take(struct partition *p, const struct partition_append *req, uint32_t segments);
/* Entries are back: if it passed over a hole, and there is none any more, it is made anew. */
void state_mended(struct partition *p);
/* Entries were removed. */
void state_rewind(struct partition *p);
/* The log begins anew, empty. */
void state_reset(struct partition *p);
/* Writes what waits for its entries to be durable, if they are. */
void state_save(struct partition *p);
/* Writes it all; the partition closes. */
void state_close(struct partition *p);

/* --- partition_begin.c --- */

/* Reads `begin` into p->begin; *ret_damaged: it should be written anew. */
int begin_load(struct partition *p, bool *ret_damaged, struct error *err);
/* Durable. */
int begin_store(struct partition *p, const struct begin *begin, struct error *err);
/* Drops the descriptors of segments that lie before p->begin; their files become leftovers. */
int begin_drop_segments(struct partition *p, struct error *err);
int begin_remove_leftovers(struct partition *p, struct error *err);
/* Removes one, which there is. */
int begin_remove_leftover(struct partition *p, struct error *err);
/* In memory: all segments are leftovers. */
int begin_start_reset(struct partition *p, struct error *err);
/* On disk; at any time again after a crash. */
int begin_finish_reset(struct partition *p, struct error *err);

/* --- partition_mend.c --- */

/* Gives up a new file that is not whole. */
void mending_drop(struct partition *p);

/* --- retention.c --- */

void retention_later(struct partition *p); /* removes leftovers, in a while */
void retention_stop(struct partition *p);  /* before a close or reset */

void retention_work(struct partition *p); /* writes `begin` if there is news for it */

/* --- compact.c --- */

int compact_init(struct partition *p); /* WEIR_ENOMEM */
/* Goes on with what an earlier life had to do. */
void compact_start(struct partition *p);
/* Gives up what is under way; the timer stays. Before a close or reset. */
void compact_stop(struct partition *p);
/* Entries were appended, the commit mark has moved, entries from `from` on were removed. */
void compact_appended(struct partition *p, const struct partition_append *req);
void compact_committed(struct partition *p);
void compact_truncated(struct partition *p, uint64_t from);
/* A segment has got entries from elsewhere. */
void compact_unmark(struct partition *p, struct segment *seg);

/* --- compact_marks.c --- */

/* Records of the segment are to be compacted, and no more such come: the next frame goes into
 * another one. */
bool compact_awaits_close(const struct partition *p, const struct segment *seg);
bool compact_takes_part(const struct partition *p, const struct segment *seg);
/* How far it can be done now, with what number of segments. */
int64_t compact_reach(const struct partition *p, uint32_t *ret_n);
bool compact_is_clean(const struct segment *seg, const struct segment_clean *wanted);
bool compact_all_clean(const struct partition *p, uint32_t n, const struct segment_clean *wanted);

/* --- partition_meta.c --- */

/* The slot's contents, but for its counter. WEIR_EIO: the partition has failed; WEIR_ETOOBIG. */
int meta_of(const struct partition *p, const struct partition_meta *meta, struct meta *ret_meta,
            struct error *err);
/* Waits for a write of meta on its way and forgets it: what follows stands in its place. */
void meta_overtake(struct partition *p);

/* --- partition_append.c --- */

void append_release(struct partition *p);
/* Everything that waits gets WEIR_EIO, from the loop. */
void append_fail_all(struct partition *p);
/* Starts the next write when there is something to write and nothing being written. */
void append_write(struct partition *p);

/* --- partition_truncate.c --- */

/* Removes entries >= from, on disk and in memory; commit mark not looked at. */
int truncate_to(struct partition *p, uint64_t from, struct error *err);
/* In memory only: the entries were never written. */
int truncate_memory(struct partition *p, uint64_t from, struct error *err);
/* On disk: frames end at `end`, zeros follow. */
int segment_cut_file(struct segment *seg, uint64_t end, struct error *err);

/* --- partition_read.c --- */

/* Entries in order, from the tail where they are there, else from disk. */
struct walk {
    struct partition *p;
    uint64_t next;
    uint32_t segment;
    bool reading; /* r is open on `segment` */
    bool disk_only;
    struct segment_reader r;
};
void walk_init(struct walk *w, struct partition *p, uint64_t first);
void walk_close(struct walk *w);
/* 1: the next entry, its payload valid until the next call. 0: behind the last one. */
int walk_next(struct walk *w, struct frame *ret_frame, const uint8_t **ret_payload,
              struct error *err);

#endif
