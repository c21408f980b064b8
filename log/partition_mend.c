/* Putting entries back into holes. Where the frames have exactly the bytes that are missing they
 * are written in place: nothing good is overwritten, and a torn write leaves a hole. Else (the file
 * is missing; the other replica has compacted what is to be put back) the whole segment is written
 * anew, as mend.tmp, which takes its name when all is in it and durable. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

/* --- Frames --- */

struct made {
    uint8_t *data;
    uint64_t bytes;
    struct segment_close end; /* where the log stands behind them */
    unsigned n;
};

static int wrong(struct partition *p, uint64_t index, const char *what, struct error *err)
{
    return error_set(err, WEIR_EPROTO, "%s: entry %" PRIu64 " offered for a hole: %s", p->dir,
                     index, what);
}

/* Terms never go down, and those that are known are what they are. */
static int check_term(struct partition *p, const struct hole *hole, uint64_t index, uint64_t term,
                      uint64_t before, struct error *err)
{
    const struct segment *seg = p->segments[partition_segment_at(p, index)];
    struct partition_hole around;
    if (hole->terms_known) {
        const struct index_run *run = index_run_at(&seg->index, index);
        return run != NULL && run->term == term ? 0 : wrong(p, index, "of another term", err);
    }
    if (term == 0 || term < before) {
        return wrong(p, index, "its term is below the one before", err);
    }
    for (unsigned n = partition_damage(p, &around, 1); n > 0; n = 0) {
        if (around.first.v == hole->next && around.anchor.v != 0 && term > around.anchor_term.v) {
            return wrong(p, index, "its term is above the one behind", err);
        }
    }
    return 0;
}

/* Makes the frames of the entries, standing behind `from`. */
static int make_frames(struct partition *p, const struct hole *hole, uint64_t salt,
                       const struct segment_close *from, const struct log_entry *entries,
                       unsigned n, struct made *ret, struct error *err)
{
    struct made made = {.end = *from, .n = n};
    uint64_t size = 0, term = 0;
    struct log_term before;
    for (unsigned i = 0; i < n; i++) {
        if (entries[i].len > FRAME_PAYLOAD_MAX) {
            return wrong(p, from->last_index.v + 1 + i, "too large", err);
        }
        size += frame_size(entries[i].len);
    }
    if (partition_term_at(p, from->last_index, &before) == 0) {
        term = before.v;
    }
    made.data = malloc(size);
    if (made.data == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: mend: out of memory", p->dir);
    }
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        const struct log_entry *e = &entries[i];
        uint32_t offsets = 0;
        int64_t time_ms = 0;
        struct frame f = {
            .len = e->len,
            .type = e->type,
            .term = e->term,
            .index = LOG_INDEX(made.end.last_index.v + 1),
            .base_offset = made.end.next_offset,
        };
        rc = check_term(p, hole, f.index.v, f.term.v, term, err);
        rc = rc == 0 ? frame_meaning(&f, e->payload, &offsets, &time_ms, err) : rc;
        if (rc != 0) {
            break;
        }
        frame_write(made.data + made.bytes, &f, e->payload);
        frame_seal(made.data + made.bytes, frame_seed(salt), LOG_INDEX(f.index.v - 1));
        made.bytes += frame_size(e->len);
        made.end.end += frame_size(e->len);
        made.end.last_index = f.index;
        made.end.next_offset.v += offsets;
        made.end.last_time_ms = time_ms > made.end.last_time_ms ? time_ms : made.end.last_time_ms;
        term = f.term.v;
    }
    if (rc == 0 &&
        (made.end.next_offset.v > hole->end_offset ||
         (made.end.last_index.v == hole->last && made.end.next_offset.v != hole->end_offset))) {
        rc = wrong(p, made.end.last_index.v, "its records do not fit in", err);
    }
    if (rc != 0) {
        free(made.data);
        return rc;
    }
    *ret = made;
    return 0;
}

/* What the segments behind `i` carry on from those before them. */
static void carry_on(struct partition *p, uint32_t i)
{
    for (; i + 1 < p->n_segments; i++) {
        const struct segment_close *s = &p->segments[i]->s;
        struct segment_close *next = &p->segments[i + 1]->s;
        if (next->config_index.v < s->config_index.v) {
            next->config_index = s->config_index;
        }
        if (next->last_time_ms < s->last_time_ms) {
            next->last_time_ms = s->last_time_ms;
        }
    }
}

static void mended(struct partition *p, uint64_t segment, const char *how)
{
    state_mended(p);
    compact_unmark(p, p->segments[partition_segment_at(p, segment)]);
    metric_add(metric_counter("weir_log_holes_mended_total", "", "Holes of logs that were mended."),
               1);
    log_info("log_mended", "dir=" LOG_Q " segment=%" PRIu64 " how=" LOG_Q, p->dir, segment, how);
}

/* --- In place --- */

/* What the entries put back mean for the segment's description; memory was reserved. */
static void note_mended(struct segment *seg, uint64_t at, const struct made *made)
{
    for (uint64_t done = 0; done < made->bytes;) {
        struct frame f = frame_peek(made->data + done);
        index_mend(&seg->index, &f, at + done, made->end.last_time_ms);
        if (f.type == LOG_ENTRY_CONFIG && f.index.v > seg->s.config_index.v) {
            seg->s.config_index = f.index;
        }
        done += frame_size(f.len);
    }
    if (seg->s.last_time_ms < made->end.last_time_ms) {
        seg->s.last_time_ms = made->end.last_time_ms;
    }
}

static bool is_active(const struct partition *p, const struct segment *seg)
{
    return seg == partition_active(p) || !seg->closed;
}

static int write_in_place(struct partition *p, struct segment *seg, uint64_t at,
                          const struct made *made, struct error *err)
{
    if (is_active(p, seg)) {
        env_file_wait(seg->file); /* what is on its way must not meet this in one block */
    }
    int rc = env_file_pwrite(seg->file, made->data, made->bytes, at, err);
    if (rc == 0) {
        rc = env_file_sync(seg->file, err);
    }
    if (rc != 0 && is_active(p, seg)) {
        partition_fail(p, rc, "mending"); /* the failed sync may have been that of an append */
    }
    return rc;
}

static int mend_in_place(struct partition *p, struct segment *seg, struct hole *hole,
                         const struct made *made, struct error *err)
{
    uint64_t segment = seg->first_index.v;
    int rc = index_reserve(&seg->index, 2 * made->n + 1);
    if (rc != 0) {
        return error_set(err, rc, "%s: mend: out of memory", p->dir);
    }
    rc = write_in_place(p, seg, hole->at, made, err);
    if (rc != 0) {
        return rc;
    }
    note_mended(seg, hole->at, made);
    hole->at += made->bytes;
    hole->first = hole->next = made->end.last_index.v + 1;
    hole->first_offset = made->end.next_offset.v;
    if (hole->first <= hole->last) {
        return 0;
    }
    if (seg->s.end < hole->at) { /* the end of a segment of which only the entries were known */
        seg->s.end = hole->at;
        seg->size = seg->size < hole->at ? hole->at : seg->size;
    }
    hole_remove(&p->holes, hole);
    carry_on(p, partition_segment_at(p, segment));
    if (seg->closed) {
        segment_finish(p, seg);
    }
    mended(p, segment, "in place");
    return 0;
}

/* --- By a new file --- */

void mending_drop(struct partition *p)
{
    struct mending *m = &p->mending;
    if (!m->on) {
        return;
    }
    m->on = false;
    env_file_close(m->fresh.file);
    index_close(&m->fresh.index);
    (void)env_unlink(p->env, partition_path(p, MEND_NAME), NULL); /* opening would do it too */
    for (uint32_t i = 0; i < p->holes.n; i++) {
        if (p->holes.all[i].segment == m->segment) {
            p->holes.all[i].next = p->holes.all[i].first;
        }
    }
}

static int mending_begin(struct partition *p, uint32_t i, struct error *err)
{
    struct mending *m = &p->mending;
    const struct segment *seg = p->segments[i];
    uint8_t header[SEGMENT_HEADER_SIZE];
    *m = (struct mending){.segment = seg->first_index.v};
    struct segment *fresh = &m->fresh;
    fresh->first_index = seg->first_index;
    fresh->first_offset = seg->first_offset;
    fresh->salt = env_random_u64(p->env);
    fresh->s = segment_state_at_first(p, i);
    index_init(&fresh->index, p->options.index_bytes);
    int rc = env_file_open(p->env, partition_path(p, MEND_NAME),
                           ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_APPEND, &fresh->file, err);
    if (rc != 0) {
        return rc;
    }
    m->on = true;
    segment_header_encode(
        &(struct segment_header){fresh->first_index, fresh->first_offset, fresh->salt}, header);
    rc = env_file_truncate(fresh->file, 0, err);
    return rc == 0 ? env_file_pwrite(fresh->file, header, sizeof(header), 0, err) : rc;
}

/* Frames to the end of the new file. */
static int mending_add(struct partition *p, const struct made *made, struct error *err)
{
    struct segment *fresh = &p->mending.fresh;
    int rc = env_file_pwrite(fresh->file, made->data, made->bytes, fresh->s.end, err);
    for (uint64_t done = 0; rc == 0 && done < made->bytes;) {
        struct frame f = frame_peek(made->data + done);
        rc = segment_note(fresh, &f, made->data + done + FRAME_HEADER_SIZE, err);
        done += frame_size(f.len);
    }
    return rc;
}

/* Copies what is good of the old file, up to the next hole or the end. */
static int mending_copy(struct partition *p, uint64_t last, struct error *err)
{
    struct segment *fresh = &p->mending.fresh;
    struct walk w;
    int rc = 0;
    walk_init(&w, p, fresh->s.last_index.v + 1);
    w.disk_only = true;
    while (rc == 0 && w.next <= last && hole_at(&p->holes, w.next) == NULL) {
        struct frame f;
        const uint8_t *payload;
        rc = walk_next(&w, &f, &payload, err);
        if (rc != 1) {
            rc = rc == 0 ? WEIR_ECORRUPT : rc;
            break;
        }
        struct made one = {.bytes = frame_size(f.len), .n = 1};
        one.data = malloc(one.bytes);
        if (one.data == NULL) {
            rc = error_set(err, WEIR_ENOMEM, "%s: mend: out of memory", p->dir);
            break;
        }
        frame_write(one.data, &f, payload);
        frame_seal(one.data, frame_seed(fresh->salt), LOG_INDEX(f.index.v - 1));
        rc = mending_add(p, &one, err);
        free(one.data);
    }
    walk_close(&w);
    return rc;
}

/* The new file is whole: it takes the old one's place. */
static int mending_commit(struct partition *p, struct segment *seg, struct error *err)
{
    struct mending *m = &p->mending;
    struct segment *fresh = &m->fresh;
    char from[sizeof(p->path)];
    memcpy(from, partition_path(p, MEND_NAME), sizeof(from));
    int rc = env_file_sync(fresh->file, err);
    if (rc == 0) {
        rc = env_rename(p->env, from, partition_segment_path(p, m->segment), err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = env_dir_sync(p->env, p->dir, err);
    if (rc != 0) { /* which of the two files has the name is not known any more */
        partition_fail(p, rc, "mending");
        return rc;
    }
    bool active = seg == partition_active(p);
    env_file_close(seg->file);
    index_close(&seg->index);
    seg->pins -= seg->lost;
    seg->file = fresh->file;
    seg->index = fresh->index;
    seg->salt = fresh->salt;
    seg->s = fresh->s;
    seg->clean = (struct segment_clean){0};
    seg->size =
        active && p->options.segment_bytes > seg->s.end ? p->options.segment_bytes : seg->s.end;
    seg->allocated = !active;
    seg->lost = seg->header_bad = false;
    seg->loaded = true;
    if (active) {
        p->write_at = seg->s.end;
    }
    m->on = false;
    for (uint32_t i = p->holes.n; i-- > 0;) {
        if (p->holes.all[i].segment == m->segment) {
            hole_remove(&p->holes, &p->holes.all[i]);
        }
    }
    carry_on(p, partition_segment_at(p, m->segment));
    if (seg->closed) {
        segment_finish(p, seg);
    }
    mended(p, m->segment, "new file");
    return 0;
}

static int mend_anew(struct partition *p, uint32_t i, struct hole *hole,
                     const struct log_entry *entries, unsigned n, struct error *err)
{
    struct mending *m = &p->mending;
    struct segment *seg = p->segments[i];
    struct made made;
    if ((m->on && m->segment != seg->first_index.v) || (!seg->lost && seg->pins > 0) ||
        (is_active(p, seg) && partition_busy(p))) {
        return error_set(err, WEIR_EBUSY, "%s: mend: not now", p->dir);
    }
    int rc = m->on ? 0 : mending_begin(p, i, err);
    if (rc == 0) {
        rc = mending_copy(p, hole->next - 1, err);
    }
    if (rc == 0) {
        rc = make_frames(p, hole, m->fresh.salt, &m->fresh.s, entries, n, &made, err);
        if (rc == WEIR_EPROTO) {
            return rc; /* others may be better */
        }
    }
    if (rc == 0) {
        rc = mending_add(p, &made, err);
        free(made.data);
    }
    if (rc == 0) {
        hole->next = m->fresh.s.last_index.v + 1;
        rc = mending_copy(p, seg->s.last_index.v, err);
    }
    if (rc == 0 && m->fresh.s.last_index.v == seg->s.last_index.v) {
        rc = mending_commit(p, seg, err);
    } else if (rc == 0) {
        rc = env_file_sync(m->fresh.file, err); /* piece by piece: no long wait at the end */
    }
    if (rc != 0) {
        mending_drop(p);
    }
    /* Copying met one more hole of the same segment: from now on it is known. */
    return rc == WEIR_ECORRUPT ? WEIR_EBUSY : rc;
}

/* --- --- */

int partition_mend(struct partition *p, struct log_index first, const struct log_entry *entries,
                   unsigned n, struct error *err)
{
    struct hole *hole = hole_at(&p->holes, first.v);
    if (p->failed) {
        return error_set(err, WEIR_EIO, "%s: failed before", p->dir);
    }
    if (hole == NULL || hole->next != first.v || n == 0 || first.v + n - 1 > hole->last) {
        return error_set(err, WEIR_ENOTFOUND, "%s: no hole from %" PRIu64, p->dir, first.v);
    }
    uint32_t i = partition_segment_at(p, first.v);
    struct segment *seg = p->segments[i];
    if (seg->lost || hole->rewrite || (p->mending.on && p->mending.segment == hole->segment)) {
        return mend_anew(p, i, hole, entries, n, err);
    }
    int rc = segment_use(p, seg, err); /* may find more holes */
    hole = hole_at(&p->holes, first.v);
    if (rc != 0 || hole == NULL || hole->next != first.v) {
        return rc != 0 ? rc : error_set(err, WEIR_EBUSY, "%s: mend: not now", p->dir);
    }
    struct made made;
    struct segment_close from = {
        .last_index = LOG_INDEX(first.v - 1),
        .next_offset = LOG_OFFSET(hole->first_offset),
        .end = hole->at,
    };
    rc = make_frames(p, hole, seg->salt, &from, entries, n, &made, err);
    if (rc != 0) {
        return rc;
    }
    hole = hole_at(&p->holes, first.v);
    bool whole = made.end.last_index.v == hole->last;
    bool fits = hole->end == 0 || (whole ? made.end.end == hole->end : made.end.end < hole->end);
    if (fits) {
        rc = mend_in_place(p, seg, hole, &made, err);
    }
    free(made.data);
    if (!fits) {
        hole->rewrite = true;
        rc = mend_anew(p, i, hole, entries, n, err);
    }
    return rc;
}
