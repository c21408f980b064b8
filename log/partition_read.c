#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "log/partition_priv.h"

/* --- Walking --- */

void walk_init(struct walk *w, struct partition *p, uint64_t first)
{
    *w = (struct walk){.p = p, .next = first};
}

void walk_close(struct walk *w)
{
    if (w->reading) {
        segment_reader_close(&w->r);
        w->p->segments[w->segment]->pins--;
        w->reading = false;
    }
}

static int from_tail(struct walk *w, struct frame *ret_frame, const uint8_t **ret_payload)
{
    size_t run;
    const uint8_t *at = tail_frame(&w->p->tail, w->next, &run);
    *ret_frame = frame_peek(at);
    *ret_payload = at + FRAME_HEADER_SIZE;
    w->next++;
    return 1;
}

/* The reader stands at entry w->next. */
static int walk_seek(struct walk *w, struct error *err)
{
    struct partition *p = w->p;
    uint32_t i = partition_segment_at(p, w->next);
    if (w->reading && w->segment == i) {
        return 0;
    }
    walk_close(w);
    struct segment *seg = p->segments[i];
    int rc = segment_use(p, seg, err);
    if (rc != 0) {
        return rc;
    }
    struct index_position pos;
    if (!segment_start_for(p, seg, w->next, &pos)) {
        return error_set(err, WEIR_ECORRUPT, "%s: entry %" PRIu64 " is not in its index",
                         partition_segment_path(p, seg->first_index.v), w->next);
    }
    segment_reader_init(&w->r, seg->file, seg->salt, pos.at, seg->s.end, pos.index);
    w->reading = true;
    w->segment = i;
    seg->pins++;
    return 0;
}

static int from_disk(struct walk *w, struct frame *ret_frame, const uint8_t **ret_payload,
                     struct error *err)
{
    struct error why;
    const struct hole *hole = hole_at(&w->p->holes, w->next);
    if (hole != NULL) {
        (void)hole_error(w->p, hole, err);
        return WEIR_ECORRUPT;
    }
    int rc = walk_seek(w, err);
    if (rc < 0) {
        return rc;
    }
    rc = segment_reader_skip_to(&w->r, w->next, &why);
    if (rc == 1) {
        rc = segment_reader_next(&w->r, ret_frame, ret_payload, &why);
    }
    if (rc == 1) {
        w->next++;
        return 1;
    }
    if (rc == 0) {
        rc = error_set(&why, WEIR_ECORRUPT, "ends before entry %" PRIu64, w->next);
    }
    if (rc == WEIR_ECORRUPT || rc == WEIR_EIO) {
        hole_discover(w->p, w->r.next, &why);
        rc = WEIR_ECORRUPT;
    }
    return error_set(err, rc, "%s: %s",
                     partition_segment_path(w->p, w->p->segments[w->segment]->first_index.v),
                     why.text);
}

int walk_next(struct walk *w, struct frame *ret_frame, const uint8_t **ret_payload,
              struct error *err)
{
    const struct tail *tail = &w->p->tail;
    if (w->next > last_index_of(w->p)) {
        return 0;
    }
    if (!w->disk_only && w->next >= tail->first && w->next < tail->next) {
        return from_tail(w, ret_frame, ret_payload);
    }
    return from_disk(w, ret_frame, ret_payload, err);
}

/* --- Raft's side --- */

int partition_read(struct partition *p, struct log_index first, uint64_t bytes_max,
                   partition_entry_cb cb, void *data, struct error *err)
{
    if (first.v < partition_first_index(p).v) {
        return error_set(err, WEIR_ENOTFOUND, "%s: entry %" PRIu64 " is before the log's begin",
                         p->dir, first.v);
    }
    struct walk w;
    uint64_t bytes = 0;
    int rc;
    walk_init(&w, p, first.v);
    do {
        struct frame f;
        const uint8_t *payload;
        rc = walk_next(&w, &f, &payload, err);
        if (rc != 1) {
            break;
        }
        bytes += f.len;
        rc = cb(data,
                &(struct partition_entry){f.index, f.term, f.type, f.base_offset, payload, f.len});
    } while (rc == 0 && bytes < bytes_max);
    walk_close(&w);
    return rc;
}

/* --- Consumers' side --- */

void partition_set_commit(struct partition *p, struct log_index index)
{
    struct walk w;
    struct frame f;
    const uint8_t *payload;
    uint64_t last = last_index_of(p);
    uint64_t commit = index.v < last ? index.v : last;
    if (commit <= p->commit) {
        return;
    }
    int64_t mark = partition_active(p)->s.next_offset.v;
    const struct hole *hole = hole_at(&p->holes, commit + 1);
    if (hole != NULL && hole->first == commit + 1) {
        mark = hole->first_offset;
    } else if (commit < last) {
        walk_init(&w, p, commit + 1);
        int rc = walk_next(&w, &f, &payload, NULL);
        walk_close(&w);
        if (rc != 1) {
            return; /* unreadable: consumers don't get further, which is right */
        }
        mark = f.base_offset.v;
    }
    p->commit = commit;
    p->high_watermark = mark > p->high_watermark ? mark : p->high_watermark;
    compact_committed(p);
}

/* The entry to begin with so that the batch with `offset` is met: perhaps some before it. */
static int seek_offset(struct partition *p, int64_t offset, uint64_t *ret_index, struct error *err)
{
    uint64_t index = tail_find_offset(&p->tail, offset);
    if (index == 0) {
        uint32_t lo = 0, hi = p->n_segments;
        while (hi - lo > 1) {
            uint32_t mid = lo + (hi - lo) / 2;
            if (p->segments[mid]->first_offset.v <= offset) {
                lo = mid;
            } else {
                hi = mid;
            }
        }
        struct segment *seg = p->segments[lo];
        int rc = segment_use(p, seg, err);
        if (rc != 0) {
            return rc;
        }
        const struct index_position *pos = index_by_offset(&seg->index, offset);
        index = pos != NULL ? pos->index : seg->first_index.v;
        for (uint32_t i = 0; i < p->holes.n; i++) { /* none of those before it is to be met */
            const struct hole *hole = &p->holes.all[i];
            if (hole->segment == seg->first_index.v && hole->end_offset <= offset &&
                hole->last >= index) {
                index = hole->last + 1;
            }
        }
    }
    *ret_index = index;
    return 0;
}

/* Appends batches to `out` from entry `index` on. */
static int fetch_from(struct partition *p, uint64_t index, int64_t offset, uint32_t bytes_max,
                      struct bytes *out, int64_t *next, struct error *err)
{
    struct walk w;
    size_t start = out->len;
    int rc;
    walk_init(&w, p, index);
    do {
        struct frame f;
        const uint8_t *payload;
        struct batch_info info;
        rc = walk_next(&w, &f, &payload, err);
        if (rc != 1 || f.base_offset.v >= p->high_watermark) {
            break;
        }
        if (f.type != LOG_ENTRY_BATCH) {
            continue;
        }
        rc = batch_parse(payload, f.len, &info, err);
        if (rc != 0) {
            break;
        }
        int64_t end = f.base_offset.v + batch_offsets(&info);
        if (end <= offset) {
            continue;
        }
        if (out->len > start && out->len - start + f.len > bytes_max) {
            break;
        }
        bytes_put(out, payload, f.len);
        rc = bytes_error(out);
        *next = rc == 0 ? end : *next;
    } while (rc >= 0 && out->len - start < bytes_max);
    walk_close(&w);
    if (rc == WEIR_ETOOBIG &&
        bytes_error(out) != 0) { /* the buffer is full: what is in it will do */
        out->error = 0;
        rc = out->len > start ? 0 : rc;
    }
    if (rc == WEIR_ECORRUPT && out->len > start) {
        rc = 0; /* what stands before the hole is good */
    }
    return rc < 0 ? rc : 0;
}

int partition_fetch(struct partition *p, struct log_offset offset, uint32_t bytes_max,
                    struct bytes *out, struct log_offset *ret_next, struct error *err)
{
    int64_t start = partition_start_offset(p).v;
    if (offset.v < start || offset.v > p->high_watermark) {
        return error_set(err, WEIR_ERANGE, "offset %" PRId64 " is not in %" PRId64 "..%" PRId64,
                         offset.v, start, p->high_watermark);
    }
    uint64_t index;
    size_t len = out->len;
    int64_t next = offset.v;
    bytes_max = bytes_max > 0 ? bytes_max : 1;
    if (bytes_error(out) == 0 && offset.v < p->high_watermark) {
        int rc = seek_offset(p, offset.v, &index, err);
        if (rc == 0) {
            rc = fetch_from(p, index, offset.v, bytes_max, out, &next, err);
        }
        if (rc != 0) {
            out->len = len;
            return rc;
        }
    }
    *ret_next = LOG_OFFSET(next);
    return 0;
}

/* The segment in which to look for the first batch with a time >= ms. */
static uint32_t segment_by_time(const struct partition *p, int64_t ms)
{
    uint32_t lo = 0, hi = p->n_segments - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->segments[mid]->s.last_time_ms < ms) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

int partition_offset_for_time(struct partition *p, int64_t ms, struct log_offset *ret_offset,
                              struct error *err)
{
    struct segment *seg = p->segments[segment_by_time(p, ms)];
    int rc = segment_use(p, seg, err);
    if (rc != 0) {
        return rc;
    }
    const struct index_position *pos = index_by_time(&seg->index, ms);
    int64_t found = p->high_watermark;
    struct walk w;
    walk_init(&w, p, pos != NULL ? pos->index : seg->first_index.v);
    for (;;) {
        struct frame f;
        const uint8_t *payload;
        uint32_t offsets;
        int64_t time_ms;
        rc = walk_next(&w, &f, &payload, err);
        if (rc != 1 || f.base_offset.v >= p->high_watermark) {
            break;
        }
        rc = frame_meaning(&f, payload, &offsets, &time_ms, err);
        if (rc != 0) {
            break;
        }
        if (offsets > 0 && time_ms >= ms) {
            found = f.base_offset.v;
            break;
        }
    }
    walk_close(&w);
    if (rc < 0) {
        return rc;
    }
    *ret_offset =
        found > partition_start_offset(p).v ? LOG_OFFSET(found) : partition_start_offset(p);
    return 0;
}

/* --- Verification --- */

static void hash_entry(crypto_generichash_state *hash, const struct frame *f,
                       const uint8_t *payload)
{
    uint8_t head[24];
    store_le64(head, f->index.v);
    store_le64(head + 8, f->term.v);
    store_le32(head + 16, (uint32_t)f->type);
    store_le32(head + 20, f->len);
    crypto_generichash_update(hash, head, sizeof(head));
    crypto_generichash_update(hash, payload, f->len);
}

/* Reads entries from `first` on from disk, with every checksum, up to `last` or bytes_max; `hash`
 * may be NULL. *ret_done: the last good one, also on failure. */
static int check_range(struct partition *p, uint64_t first, uint64_t last, uint64_t bytes_max,
                       crypto_generichash_state *hash, uint64_t *ret_done, struct error *err)
{
    struct walk w;
    uint64_t bytes = 0;
    int rc = 0;
    *ret_done = first - 1;
    walk_init(&w, p, first);
    w.disk_only = true;
    while (rc == 0 && *ret_done < last && (bytes < bytes_max || bytes == 0)) {
        struct frame f;
        const uint8_t *payload;
        struct batch_info info;
        rc = walk_next(&w, &f, &payload, err);
        if (rc != 1) {
            rc = rc == 0 ? WEIR_ECORRUPT : rc;
            break;
        }
        rc = f.type == LOG_ENTRY_BATCH ? batch_check(payload, f.len, &info, err) : 0;
        if (rc == 0) {
            if (hash != NULL) {
                hash_entry(hash, &f, payload);
            }
            bytes += f.len + 1;
            *ret_done = f.index.v;
        }
    }
    walk_close(&w);
    return rc;
}

static int check_bounds(const struct partition *p, uint64_t first, uint64_t last, struct error *err)
{
    return first >= partition_first_index(p).v && first <= last && last <= p->durable
               ? 0
               : error_set(err, WEIR_ERANGE,
                           "%s: entries %" PRIu64 "..%" PRIu64 " are not all durable", p->dir,
                           first, last);
}

int partition_hash(struct partition *p, struct log_index first, struct log_index last,
                   uint64_t bytes_max, uint8_t ret_hash[PARTITION_HASH_SIZE],
                   struct log_index *ret_last, struct error *err)
{
    crypto_generichash_state hash;
    uint64_t done;
    int rc = check_bounds(p, first.v, last.v, err);
    if (rc != 0) {
        return rc;
    }
    if (sodium_init() < 0) {
        return error_set(err, WEIR_EUNAVAILABLE, "libsodium can't start");
    }
    crypto_generichash_init(&hash, NULL, 0, PARTITION_HASH_SIZE);
    rc = check_range(p, first.v, last.v, bytes_max, &hash, &done, err);
    if (rc == 0) {
        crypto_generichash_final(&hash, ret_hash, PARTITION_HASH_SIZE);
        *ret_last = LOG_INDEX(done);
    }
    return rc;
}

int partition_check(struct partition *p, struct log_index first, uint64_t bytes_max,
                    struct log_index *ret_next, struct error *err)
{
    uint64_t done;
    int rc = check_bounds(p, first.v, p->durable, err);
    if (rc != 0) {
        return rc;
    }
    rc = check_range(p, first.v, p->durable, bytes_max, NULL, &done, err);
    if (rc == 0) {
        *ret_next = LOG_INDEX(done + 1);
    } else if (rc == WEIR_ECORRUPT) {
        const struct hole *hole = hole_at(&p->holes, done + 1);
        uint64_t end = p->segments[partition_segment_at(p, done + 1)]->s.last_index.v;
        end = hole != NULL ? hole->last : end;
        *ret_next = LOG_INDEX(end > done ? end + 1 : done + 2);
    }
    return rc;
}
