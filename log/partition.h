/* A partition: one replica's copy of one Raft log, which is also the log that consumers read. A
 * folder of preallocated segment files (log/segment.h) with a sparse offset index and a time index
 * (both rebuildable), and one metadata file with term, vote and the metadata snapshot (log/meta.h).
 *
 * Loop thread only. Durable means fdatasynced. After a write or sync error the partition is failed
 * for good (partition_failed): it takes no more appends, reads go on; reopen to recover. */
#ifndef LOG_PARTITION_H
#define LOG_PARTITION_H

#include "base/env.h"
#include "log/batch.h"
#include "log/producers.h"
#include "log/types.h"

struct partition;

/* Bounds what the partitions of a loop read and write together in the background. Outlives them. */
struct partition_pace {
    uint64_t bytes_per_s; /* 0: no bound */
    uint64_t next_ns;     /* nothing more is done before */
};

/* A field that is 0 has its default: 64 MiB, 16 MiB, 16 KiB, no bound. */
struct partition_options {
    uint64_t segment_bytes; /* size at which a segment is rolled; preallocated */
    uint64_t tail_bytes;    /* memory for the newest entries, served without disk reads */
    uint32_t index_bytes;   /* one sparse index entry per this many bytes of log */
    struct partition_pace *compact_pace;
};

/* One partition per folder and machine: WEIR_EBUSY while somebody has it open.
 *
 * Opens or makes the partition in `dir` and recovers it: the longest valid prefix of the unsynced
 * tail is kept (torn frames after it are zeroed); a bad frame at or below the synced mark is
 * WEIR_ECORRUPT, naming file and position, and nothing is changed on disk. */
int partition_open(struct env *env, const char *dir, const struct partition_options *options,
                   struct partition **ret_partition, struct error *err);
/* No append or read may be in flight. Writes the clean-shutdown marks. */
void partition_close(struct partition *p);
bool partition_failed(const struct partition *p);

/* --- Raft's side: entries by index --- */

/* Empty log: first = 1, last = 0. A log whose beginning is gone, by retention or partition_reset,
 * begins later. */
struct log_index partition_first_index(const struct partition *p);
struct log_index
partition_last_index(const struct partition *p); /* appended, perhaps not durable */
struct log_index partition_durable_index(const struct partition *p); /* fdatasynced */
/* Term of the entry; the one before the first is known too (index 0 has term 0). WEIR_ENOTFOUND
 * outside first - 1..last; WEIR_ECORRUPT in a hole (log/damage.h) whose terms are lost too. */
int partition_term_at(struct partition *p, struct log_index index, struct log_term *ret_term);
/* Type of the entry at `index`; WEIR_ENOTFOUND. */
int partition_type_at(struct partition *p, struct log_index index, enum log_entry_type *ret_type);
/* Highest index of a configuration entry at or below `upto`; 0 when there is none. */
struct log_index partition_config_index(struct partition *p, struct log_index upto);

struct partition_append;
typedef void (*partition_append_cb)(struct partition_append *req, int status);
struct partition_append {
    void *data; /* the caller's */
    partition_append_cb cb;
    const struct log_entry *entries; /* array and payloads stay valid until the callback */
    unsigned n;
    struct log_index first; /* out: index of entries[0] */
    struct list link;       /* the partition's from here on */
    uint64_t priv[4];
};
/* Appends n entries behind the last one, in order; readable at once by index, durable when the
 * callback says 0. Callbacks come in order, never from inside this call; they must not close the
 * partition. While one group of appends is being synced the next one fills: all waiting appends
 * share one write and one fdatasync. Never fails now. A failed partition completes with WEIR_EIO.
 *
 * An append can fail without harm to the partition: WEIR_ENOSPC (no room for the next segment),
 * WEIR_ENOMEM, WEIR_EINVAL (type or size), WEIR_EPROTO (a batch whose base offset is not the end
 * offset, or with a bad header). None of its entries stay then, and every append made before its
 * callback has come fails with the same code, because it was meant to stand behind it;
 * partition_last_index says where the log ends. Try again later, not from the callback. */
void partition_append(struct partition *p, struct partition_append *req, partition_append_cb cb);
/* True while an append has not called back. */
bool partition_busy(const struct partition *p);

/* Removes the entries at and above `from`; durable on return. No append in flight. Nothing at or
 * below the commit mark may go: asserted. */
int partition_truncate(struct partition *p, struct log_index from, struct error *err);

/* Where the log begins, and what is known of what was before. */
struct partition_begin {
    struct log_index first_index;
    struct log_term prev_term; /* of the entry before */
    struct log_offset first_offset;
    struct log_offset start_offset; /* first one that may be read, >= first_offset */
    int64_t time_ms;                /* newest append time before */
    struct log_index config_index;  /* of the newest configuration entry before, 0: none */
};
void partition_begin(const struct partition *p, struct partition_begin *ret_begin);
/* Throws the whole log away and begins anew: with entry `first_index`, none of which is there yet.
 * The metadata snapshot becomes the entry before it, with this configuration; term and vote stay.
 * For a follower whose leader no longer has the entries that come next here. Durable on return, and
 * all or nothing over a crash. No append in flight; synchronous. */
int partition_reset(struct partition *p, const struct partition_begin *begin, const void *config,
                    uint32_t config_len, struct error *err);

/* Retention. A CONTROL_START was applied: nothing below `start` may be read any more, at once;
 * segments that lie wholly below it go, in the background, and with them their entries. Never goes
 * back. Not on disk at once: after a crash it may be an earlier one again. */
void partition_set_start(struct partition *p, struct log_offset start);
/* Entries above `index` must stay: the newest snapshot on disk. 0 at first. */
void partition_set_keep(struct partition *p, struct log_index index);
/* Entries up to it would go if partition_set_keep allowed it; 0: none. */
struct log_index partition_removable(const struct partition *p);
/* Bytes of all frames, headers of segments included. */
uint64_t partition_size_bytes(const struct partition *p);
/* Where the log should start when batches appended before oldest_ms (0: none) are not wanted, nor
 * segments beyond the newest bytes_max bytes (0: all are). Never behind the high watermark. */
int partition_retained_from(struct partition *p, int64_t oldest_ms, uint64_t bytes_max,
                            struct log_offset *ret_start, struct error *err);

/* Compaction (log/compact.c). A CONTROL_COMPACT was applied: of the records below `upto` each key
 * keeps the newest; a tombstone (null value) in a batch appended before tombstones_ms goes too.
 * Records without a key stay, offsets stay, entries stay, perhaps without records. Done in the
 * background, in closed segments, once they are committed; what is in the last one waits until it
 * is closed. Never goes back. Not on disk at once: after a crash it may be an earlier one again.
 * What is left depends on the log and these two numbers only, not on segments or memory. */
void partition_compact(struct partition *p, struct log_offset upto, int64_t tombstones_ms);
struct partition_compaction {
    struct log_offset upto; /* of partition_compact */
    int64_t tombstones_ms;
    bool running; /* not all of it is done yet */
    /* Done, durably: below it no record is left that has a newer one below it. 0 while a part of
     * the log can't be read. */
    struct log_offset clean;
    bool waits; /* for the last segment to close: for one more entry */
};
void partition_compaction(const struct partition *p, struct partition_compaction *ret);
/* The segments that hold first..last are as far as the marks say: two replicas of which that is
 * true at equal marks have equal bytes there. */
bool partition_range_compacted(const struct partition *p, struct log_index first,
                               struct log_index last);
/* Where the next compaction should end: when at least half of what is in closed and committed
 * segments was never compacted. False: not yet. */
bool partition_compactable(const struct partition *p, struct log_offset *ret_upto);
/* Append time of the first batch that ends behind `offset`; 0: there is none, or it can't be read.
 */
int64_t partition_time_at(struct partition *p, struct log_offset offset);

/* One entry with its payload, malloc'd or borrowed from the tail. */
struct partition_entry {
    struct log_index index;
    struct log_term term;
    enum log_entry_type type;
    struct log_offset base_offset; /* the partition's next offset before this entry */
    const uint8_t *payload;        /* inside the `out` buffer of the call */
    uint32_t len;
};
typedef int (*partition_entry_cb)(void *data, const struct partition_entry *entry);
/* Calls back for entries first.., in order, until bytes_max of payload were passed (at least one
 * entry), the end, or a non-zero return (which is returned). Payloads are valid during the
 * callback. CRCs are checked: WEIR_ECORRUPT. Synchronous. */
int partition_read(struct partition *p, struct log_index first, uint64_t bytes_max,
                   partition_entry_cb cb, void *data, struct error *err);

struct partition_meta {
    struct log_term term;
    uint64_t vote;     /* server id, 0: none in this term */
    bool votes_shared; /* term and vote are in the node's vote log; here is a lower bound */
    bool recovering; /* promises were lost: neither votes nor acknowledges (consensus/founding.c) */
    uint8_t wish;    /* what it asks to become again, 0: nothing; see log/meta.h */
    struct log_index begun_index;    /* the log was empty when the group had committed up to here */
    struct log_index snapshot_index; /* 0: no metadata snapshot */
    struct log_term snapshot_term;
    struct log_index snapshot_config_index;
    const void
        *snapshot_config; /* libraft's encoding; owned by the partition, valid until the next set */
    uint32_t snapshot_config_len;
};
void partition_meta(const struct partition *p, struct partition_meta *ret_meta);
/* Durable on return (two slots written in turn, each with a counter and checksum). The
 * configuration is copied. */
int partition_set_meta(struct partition *p, const struct partition_meta *meta, struct error *err);

/* The same later, and nobody is told: several in a row are one. A failed write fails the partition.
 * WEIR_EIO, WEIR_ETOOBIG, WEIR_ENOMEM now. */
int partition_save_meta(struct partition *p, const struct partition_meta *meta, struct error *err);

/* --- Consumers' side: records by offset --- */

/* Entries up to `index` are committed: readable by consumers. Never goes back. Kept in memory only.
 */
void partition_set_commit(struct partition *p, struct log_index index);
struct log_index partition_commit_index(const struct partition *p);
struct log_offset partition_start_offset(const struct partition *p);
struct log_offset
partition_high_watermark(const struct partition *p);               /* first offset not committed */
struct log_offset partition_end_offset(const struct partition *p); /* first offset not appended */
/* Append time of the newest batch in the log (not only committed), 0 when empty: the leader never
 * stamps below it. */
int64_t partition_last_timestamp_ms(const struct partition *p);

/* Who wrote to the partition, by all entries that are appended (not only committed). */
const struct producers *partition_producers(const struct partition *p);
/* What the committed entries fold to (log/state.h), for a replica that can't have them all any
 * more. Reads a little of the log. Errors also stick in `out`. */
int partition_export_state(struct partition *p, struct bytes *out, struct error *err);
/* Durably, for opening after a crash: a state that another replica exported for this partition,
 * before the partition_reset that it comes with. One that is ahead of the log harms nothing: what
 * it says is committed. Synchronous; on an error the earlier one may stay. */
int partition_keep_import(struct partition *p, const void *data, size_t n, struct error *err);
/* Takes a state that another replica exported for this partition, folded up to an index at or
 * beyond the last one here (whose entries are all committed). WEIR_ECORRUPT, WEIR_EVERSION,
 * WEIR_ENOMEM: nothing is changed. */
int partition_import_state(struct partition *p, const void *data, size_t n, struct error *err);

/* Appends to `out` the whole batches from the one that holds `offset` on, up to the high watermark,
 * until bytes_max (at least one batch when there is one). *ret_next is the offset after the last
 * one. At the high watermark: 0 bytes, *ret_next = offset. Above it or below the start:
 * WEIR_ERANGE. Served from the tail without a system call where it is there. */
int partition_fetch(struct partition *p, struct log_offset offset, uint32_t bytes_max,
                    struct bytes *out, struct log_offset *ret_next, struct error *err);
/* First offset, not below the start, whose batch's append time is >= ms; the high watermark when
 * there is none. */
int partition_offset_for_time(struct partition *p, int64_t ms, struct log_offset *ret_offset,
                              struct error *err);

/* Checks every frame and batch CRC from disk (not the tail) of indexes first..last, at most
 * bytes_max, and adds index, term, type and payload of each to a BLAKE2b hash. *ret_last is the
 * last index looked at. For `weir log verify`: equal logs give equal hashes. */
#define PARTITION_HASH_SIZE 32
int partition_hash(struct partition *p, struct log_index first, struct log_index last,
                   uint64_t bytes_max, uint8_t ret_hash[PARTITION_HASH_SIZE],
                   struct log_index *ret_last, struct error *err);

#endif
