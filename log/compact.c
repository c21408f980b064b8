/* Compaction: of each key only the newest record stays. In rounds: the newest offsets of the keys
 * in the part that was never compacted are taken into a map, up to its limit; then all segments, in
 * order, lose what has a newer record in the map. A segment that loses something is written anew as
 * compact.tmp, which takes its name when it is durable; before the next one is touched, that is
 * durable too. So an older segment never again has a record whose newer one, a tombstone, is gone.
 *
 * Compacting up to u1 and then up to u2 is the same as compacting up to u2 (tombstones alike): a
 * full map, a crash or an open segment only mean that the rest comes later, and replicas with other
 * segments end with the same entries.
 *
 * Everything is done in steps from a timer; writes and syncs are off the loop. A log with holes
 * waits until they are mended. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/batch.h"
#include "log/partition_priv.h"

#define MAP_BYTES_MAX (16u << 20)
#define STEP_BYTES    (128u << 10) /* read in one step: the loop waits for it */
#define WRITE_BYTES   (512u << 10) /* written and synced at once */
#define STEP_US       1000
#define WAIT_US       1000000 /* for a segment to close, damage to be mended, or after an error */
#define BUFFER_MAX    (64u << 20)

/* A new file being written. Outlives the partition if need be. */
struct compact_op {
    struct env *env;
    struct partition *p; /* NULL: nobody waits for it any more */
    struct env_file *file;
    struct env_io io;
    struct iovec iov;
    bool busy;
    struct bytes buf;
    char dir[PARTITION_PATH_MAX];
};

static void on_step(struct env_timer *timer);

static void later(struct partition *p, uint64_t us)
{
    if (!p->failed) {
        env_timer_start(&p->compact.timer, us, on_step);
    }
}

/* So much was read or written. */
static void took(struct partition *p, uint64_t bytes)
{
    struct partition_pace *pace = p->options.compact_pace;
    uint64_t now_ns = env_now_ns(p->env);
    if (pace != NULL && pace->bytes_per_s > 0) {
        pace->next_ns = pace->next_ns > now_ns ? pace->next_ns : now_ns;
        pace->next_ns += bytes * 1000000000u / pace->bytes_per_s;
    }
}

/* False: it goes on when it is this one's turn. */
static bool may_go_on(struct partition *p)
{
    const struct partition_pace *pace = p->options.compact_pace;
    uint64_t now_ns = env_now_ns(p->env);
    if (pace == NULL || pace->bytes_per_s == 0 || now_ns >= pace->next_ns) {
        return true;
    }
    later(p, (pace->next_ns - now_ns) / 1000 + 1);
    return false;
}

static void op_free(struct compact_op *op)
{
    env_file_close(op->file);
    bytes_close(&op->buf);
    free(op);
}

/* Gives up the new file. */
static void drop_file(struct partition *p)
{
    struct compaction *c = &p->compact;
    if (c->op == NULL) {
        return;
    }
    if (c->op->busy) {
        if (c->op->file != NULL) {
            env_file_wait(c->op->file);
        }
        c->op->p = NULL; /* its callback frees it */
    } else {
        op_free(c->op);
    }
    c->op = NULL;
    c->unsynced = false;
    index_close(&c->fresh.index);
    (void)env_unlink(p->env, partition_path(p, COMPACT_NAME), NULL); /* opening would do it too */
}

/* From the beginning, after a while. */
static void again(struct partition *p, uint64_t us)
{
    drop_file(p);
    keymap_close(&p->compact.map);
    p->compact.phase = COMPACT_IDLE;
    later(p, us);
}

int compact_init(struct partition *p)
{
    p->compact.timer.data = p;
    p->compact.map_bytes_max = MAP_BYTES_MAX;
    return env_timer_init(p->env, &p->compact.timer);
}

void compact_start(struct partition *p)
{
    p->compact.stored = (struct segment_clean){p->begin.compacted.v, p->begin.tombstones_ms};
    if (p->begin.compacted.v > 0) {
        later(p, STEP_US);
    }
}

void compact_stop(struct partition *p)
{
    env_timer_stop(&p->compact.timer);
    drop_file(p);
    keymap_close(&p->compact.map);
    p->compact.phase = COMPACT_IDLE;
}

/* The segment that is being looked at; NULL: it has changed meanwhile. */
static struct segment *current(struct partition *p)
{
    const struct compaction *c = &p->compact;
    struct segment *seg = p->segments[partition_segment_at(p, c->segment)];
    return seg->first_index.v == c->segment && seg->salt == c->salt && compact_takes_part(p, seg)
               ? seg
               : NULL;
}

/* Begins a round. */
static void plan(struct partition *p)
{
    struct compaction *c = &p->compact;
    uint32_t n;
    struct segment_clean wanted = {.upto = compact_reach(p, &n),
                                   .tombstones_ms = p->begin.tombstones_ms};
    if (n == 0 || compact_all_clean(p, n, &wanted)) {
        if (wanted.upto < p->begin.compacted.v) {
            later(p, WAIT_US);
        }
        return;
    }
    c->clean = wanted;
    c->dirty_from = wanted.upto;
    c->last = p->segments[n - 1]->s.last_index.v;
    c->next = c->last + 1;
    int64_t low = INT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const struct segment *seg = p->segments[i];
        int64_t end = seg->s.next_offset.v < wanted.upto ? seg->s.next_offset.v : wanted.upto;
        if (seg->first_offset.v == seg->s.next_offset.v) {
            continue; /* no records at all */
        }
        low = seg->clean.upto < low ? seg->clean.upto : low;
        if (seg->clean.upto < end) {
            c->dirty_from = low > seg->first_offset.v ? low : seg->first_offset.v;
            c->next = seg->first_index.v;
            break;
        }
    }
    keymap_init(&c->map, c->map_bytes_max, env_random_u64(p->env), env_random_u64(p->env));
    c->phase = COMPACT_MAPPING;
    later(p, STEP_US);
}

/* --- The map --- */

/* 0: go on; 1: the map is full, or it is all in; negative: out of memory. */
static int map_batch(struct compaction *c, const uint8_t *payload, uint32_t len)
{
    struct batch_iter it;
    struct batch_record r;
    if (batch_iter_init(&it, payload, len, NULL) != 0) {
        return 0; /* compressed: its keys are not known here */
    }
    while (batch_iter_next(&it, &r, NULL) == 1) {
        if (r.offset.v >= c->clean.upto) {
            return 1;
        }
        if (r.offset.v < c->dirty_from || r.key == NULL) {
            continue;
        }
        int rc = keymap_put(&c->map, r.key, (size_t)r.key_len, r.offset.v);
        if (rc == WEIR_ETOOBIG) {
            c->clean.upto = r.offset.v; /* the rest in another round */
            return 1;
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static void step_map(struct partition *p)
{
    struct compaction *c = &p->compact;
    struct walk w;
    uint64_t bytes = 0;
    int rc = 0;
    walk_init(&w, p, c->next);
    while (rc == 0 && w.next <= c->last && bytes < STEP_BYTES) {
        struct frame f;
        const uint8_t *payload;
        rc = walk_next(&w, &f, &payload, NULL);
        if (rc != 1) {
            rc = rc == 0 ? WEIR_ECORRUPT : rc;
            break;
        }
        bytes += frame_size(f.len);
        rc = f.type == LOG_ENTRY_BATCH ? map_batch(c, payload, f.len) : 0;
    }
    c->next = w.next;
    walk_close(&w);
    took(p, bytes);
    if (rc < 0) {
        again(p, WAIT_US);
        return;
    }
    if (rc == 1 || c->next > c->last) {
        c->phase = COMPACT_CHECKING;
        c->segment = 0;
    }
    later(p, STEP_US);
}

/* --- What stays --- */

struct choice {
    const struct compaction *c;
    int64_t time_ms; /* of the batch */
};

static bool stays(void *data, const struct batch_record *r)
{
    const struct choice *choice = data;
    const struct compaction *c = choice->c;
    if (r->offset.v >= c->clean.upto || r->key == NULL) {
        return true;
    }
    if (keymap_get(&c->map, r->key, (size_t)r->key_len) > r->offset.v) {
        return false;
    }
    return r->value != NULL || choice->time_ms >= c->clean.tombstones_ms;
}

static bool loses_records(const struct compaction *c, const uint8_t *payload, uint32_t len)
{
    struct choice choice = {c, batch_append_ms(payload)};
    struct batch_iter it;
    struct batch_record r;
    if (batch_base_offset(payload).v >= c->clean.upto ||
        batch_iter_init(&it, payload, len, NULL) != 0) {
        return false;
    }
    while (batch_iter_next(&it, &r, NULL) == 1) {
        if (!stays(&choice, &r)) {
            return true;
        }
    }
    return false;
}

/* --- Looking through a segment --- */

static void set_mark(struct partition *p, struct segment *seg, const struct segment_clean *clean)
{
    uint8_t buf[SEGMENT_CLEAN_SIZE] = {0};
    seg->clean = *clean;
    if (clean->upto > 0) {
        segment_clean_encode(clean, seg->salt, buf);
    }
    /* Lost or absent: it is looked through once more. */
    if (segment_use(p, seg, NULL) == 0 && seg->file != NULL) {
        (void)env_file_pwrite(seg->file, buf, sizeof(buf), SEGMENT_CLEAN_AT, NULL);
    }
}

void compact_unmark(struct partition *p, struct segment *seg)
{
    if (seg->clean.upto > 0) {
        set_mark(p, seg, &(struct segment_clean){0});
    }
    if (p->begin.compacted.v > 0 && p->compact.phase == COMPACT_IDLE) {
        later(p, WAIT_US);
    }
}

/* The next segment that is not clean yet; false: there is none. */
static bool next_segment(struct partition *p)
{
    struct compaction *c = &p->compact;
    uint32_t n;
    (void)compact_reach(p, &n);
    for (uint32_t i = 0; i < n; i++) {
        const struct segment *seg = p->segments[i];
        if (!compact_is_clean(seg, &c->clean)) {
            c->segment = c->next = seg->first_index.v;
            c->salt = seg->salt;
            return true;
        }
    }
    return false;
}

static int begin_copy(struct partition *p, struct segment *seg)
{
    struct compaction *c = &p->compact;
    struct compact_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        return WEIR_ENOMEM;
    }
    *op = (struct compact_op){.env = p->env, .p = p};
    memcpy(op->dir, p->dir, sizeof(op->dir));
    bytes_init(&op->buf, BUFFER_MAX);
    c->op = op;
    c->fresh = (struct segment){
        .first_index = seg->first_index,
        .first_offset = seg->first_offset,
        .salt = env_random_u64(p->env),
        .s = segment_state_at_first(p, partition_segment_at(p, seg->first_index.v)),
        .clean = c->clean,
    };
    index_init(&c->fresh.index, p->options.index_bytes);
    int rc = env_file_open(p->env, partition_path(p, COMPACT_NAME),
                           ENV_OPEN_WRITE | ENV_OPEN_CREATE, &op->file, NULL);
    return rc == 0 ? env_file_truncate(op->file, 0, NULL) : rc;
}

/* Reads on until something is found that goes. */
static void step_check(struct partition *p)
{
    struct compaction *c = &p->compact;
    struct segment *seg = c->segment != 0 ? current(p) : NULL;
    if (seg == NULL) {
        if (next_segment(p)) {
            later(p, STEP_US);
        } else {
            again(p, STEP_US); /* the round is over */
        }
        return;
    }
    struct walk w;
    uint64_t bytes = 0;
    int rc = 1;
    bool found = false;
    walk_init(&w, p, c->next);
    w.disk_only = true;
    while (rc == 1 && !found && w.next <= seg->s.last_index.v && bytes < STEP_BYTES) {
        struct frame f;
        const uint8_t *payload;
        rc = walk_next(&w, &f, &payload, NULL);
        if (rc == 1) {
            bytes += frame_size(f.len);
            found = f.type == LOG_ENTRY_BATCH && loses_records(c, payload, f.len);
        }
    }
    c->next = w.next;
    walk_close(&w);
    took(p, bytes);
    if (rc == 1 && found) {
        c->next = seg->first_index.v;
        rc = begin_copy(p, seg) == 0;
        c->phase = COMPACT_COPYING;
    } else if (rc == 1 && c->next > seg->s.last_index.v) {
        set_mark(p, seg, &c->clean);
        c->segment = 0;
    }
    if (rc == 1) {
        later(p, STEP_US);
    } else {
        again(p, WAIT_US);
    }
}

/* --- Writing one anew --- */

static int copy_entry(struct partition *p, struct frame *f, const uint8_t *payload,
                      struct bytes *thinned)
{
    struct compaction *c = &p->compact;
    struct bytes *out = &c->op->buf;
    if (f->type == LOG_ENTRY_BATCH && loses_records(c, payload, f->len)) {
        struct choice choice = {c, batch_append_ms(payload)};
        uint32_t removed;
        thinned->len = 0;
        int rc = batch_thin(payload, f->len, stays, &choice, thinned, &removed, NULL);
        if (rc != 0) {
            return rc;
        }
        payload = thinned->data;
        f->len = (uint32_t)thinned->len;
        metric_add(metric_counter("weir_log_compacted_records_total", "",
                                  "Records that compaction took out of segments."),
                   removed);
    }
    uint64_t size = frame_size(f->len);
    uint8_t *at = bytes_reserve(out, size);
    if (at == NULL) {
        return WEIR_ENOMEM;
    }
    frame_write(at, f, payload);
    frame_seal(at, frame_seed(c->fresh.salt), LOG_INDEX(f->index.v - 1));
    out->len += size;
    return segment_note(&c->fresh, f, payload, NULL);
}

static void on_written(struct env_io *io, int status)
{
    struct compact_op *op = io->data;
    struct partition *p = op->p;
    op->busy = false;
    if (p == NULL) {
        op_free(op);
        return;
    }
    if (status != 0) {
        log_warn("log_compact_not_written", "dir=" LOG_Q " error=" LOG_Q, p->dir,
                 error_name(status));
        again(p, WAIT_US);
        return;
    }
    op->buf.len = 0;
    later(p, STEP_US);
}

static void write_buffer(struct compact_op *op, uint64_t at)
{
    op->iov = (struct iovec){op->buf.data, op->buf.len};
    op->io = (struct env_io){.data = op, .iov = &op->iov, .n_iov = 1, .offset = at, .sync = true};
    op->busy = true;
    env_file_write(op->file, &op->io, on_written);
}

/* The header comes last, with all that is known of the segment then. */
static int write_header(struct partition *p)
{
    struct compaction *c = &p->compact;
    const struct segment *fresh = &c->fresh;
    uint8_t *at = bytes_reserve(&c->op->buf, SEGMENT_HEADER_SIZE);
    if (at == NULL) {
        return WEIR_ENOMEM;
    }
    segment_header_encode(
        &(struct segment_header){fresh->first_index, fresh->first_offset, fresh->salt}, at);
    segment_close_encode(&fresh->s, fresh->salt, at + SEGMENT_CLOSE_AT);
    segment_clean_encode(&fresh->clean, fresh->salt, at + SEGMENT_CLEAN_AT);
    c->op->buf.len += SEGMENT_HEADER_SIZE;
    write_buffer(c->op, 0);
    return 0;
}

static void step_copy(struct partition *p)
{
    struct compaction *c = &p->compact;
    struct segment *seg = current(p);
    assert(c->op != NULL); /* since the phase began */
    if (seg == NULL) {
        again(p, STEP_US);
        return;
    }
    if (c->next > seg->s.last_index.v) {
        c->phase = COMPACT_SWITCH;
        if (write_header(p) != 0) {
            again(p, WAIT_US);
        }
        return;
    }
    struct bytes thinned;
    struct walk w;
    uint64_t bytes = 0, had = c->op->buf.len;
    int rc = 0;
    bytes_init(&thinned, BUFFER_MAX);
    walk_init(&w, p, c->next);
    w.disk_only = true;
    while (rc == 0 && w.next <= seg->s.last_index.v && bytes < STEP_BYTES) {
        struct frame f;
        const uint8_t *payload;
        rc = walk_next(&w, &f, &payload, NULL);
        bytes += rc == 1 ? frame_size(f.len) : 0;
        rc = rc == 1 ? copy_entry(p, &f, payload, &thinned) : rc == 0 ? WEIR_ECORRUPT : rc;
    }
    c->next = w.next;
    walk_close(&w);
    bytes_close(&thinned);
    took(p, bytes + c->op->buf.len - had);
    if (rc != 0) {
        again(p, WAIT_US);
        return;
    }
    if (c->op->buf.len >= WRITE_BYTES || c->next > seg->s.last_index.v) {
        write_buffer(c->op, c->fresh.s.end - c->op->buf.len);
    } else {
        later(p, STEP_US);
    }
}

/* --- Taking its place --- */

static void on_dir_synced(struct env_io *io, int status)
{
    struct compact_op *op = io->data;
    struct partition *p = op->p;
    op->busy = false;
    if (p != NULL) {
        p->compact.op = NULL;
        p->compact.unsynced = false;
        if (status != 0) { /* which of the two files has the name is not known any more */
            partition_fail(p, status, "compaction");
        }
        later(p, STEP_US);
    }
    op_free(op);
}

static void take_place(struct partition *p, struct segment *seg)
{
    struct compaction *c = &p->compact;
    assert(c->fresh.s.last_index.v == seg->s.last_index.v &&
           c->fresh.s.next_offset.v == seg->s.next_offset.v);
    log_info("log_segment_compacted",
             "dir=" LOG_Q " segment=%" PRIu64 " upto=%" PRId64 " bytes=%" PRIu64 " before=%" PRIu64,
             p->dir, seg->first_index.v, c->clean.upto, c->fresh.s.end, seg->s.end);
    env_file_close(seg->file);
    index_close(&seg->index);
    seg->file = c->op->file;
    seg->index = c->fresh.index;
    seg->salt = c->fresh.salt;
    seg->s = c->fresh.s;
    seg->size = seg->s.end;
    seg->clean = c->fresh.clean;
    seg->loaded = seg->allocated = true;
    seg->header_bad = false;
    c->op->file = NULL;
    index_init(&c->fresh.index, 0);
    if (seg->s.last_index.v < p->tail.next) {
        tail_skip(&p->tail, seg->s.last_index.v); /* other frames, of other sizes */
    }
    segment_finish(p, seg);
}

static void step_switch(struct partition *p)
{
    struct compaction *c = &p->compact;
    struct segment *seg = current(p);
    char from[sizeof(p->path)];
    if (seg == NULL) {
        again(p, STEP_US);
        return;
    }
    if (seg->pins > 0) {
        later(p, STEP_US);
        return;
    }
    memcpy(from, partition_path(p, COMPACT_NAME), sizeof(from));
    if (env_rename(p->env, from, partition_segment_path(p, c->segment), NULL) != 0) {
        again(p, WAIT_US);
        return;
    }
    take_place(p, seg);
    c->phase = COMPACT_CHECKING;
    c->segment = 0;
    c->op->busy = c->unsynced = true;
    c->op->io = (struct env_io){.data = c->op};
    env_dir_sync_start(p->env, c->op->dir, &c->op->io, on_dir_synced);
}

/* --- --- */

static void on_step(struct env_timer *timer)
{
    struct partition *p = timer->data;
    struct compaction *c = &p->compact;
    if (p->failed || (c->op != NULL && c->op->busy)) {
        return; /* its callback goes on */
    }
    if (p->holes.n > 0 || p->mending.on) {
        again(p, WAIT_US);
        return;
    }
    if (!may_go_on(p)) {
        return;
    }
    switch (c->phase) {
    case COMPACT_IDLE:
        plan(p);
        break;
    case COMPACT_MAPPING:
        step_map(p);
        break;
    case COMPACT_CHECKING:
        step_check(p);
        break;
    case COMPACT_COPYING:
        step_copy(p);
        break;
    case COMPACT_SWITCH:
        step_switch(p);
        break;
    }
}

void partition_compact(struct partition *p, struct log_offset upto, int64_t tombstones_ms)
{
    if (upto.v <= p->begin.compacted.v && tombstones_ms <= p->begin.tombstones_ms) {
        return;
    }
    if (upto.v > p->begin.compacted.v) {
        p->begin.compacted = upto;
    }
    if (tombstones_ms > p->begin.tombstones_ms) {
        p->begin.tombstones_ms = tombstones_ms;
    }
    retention_work(p);
    if (p->compact.phase == COMPACT_IDLE) {
        later(p, STEP_US);
    }
}

void compact_appended(struct partition *p, const struct partition_append *req)
{
    for (unsigned i = 0; i < req->n; i++) {
        const struct log_entry *e = &req->entries[i];
        struct control control;
        if (e->type == LOG_ENTRY_CONTROL &&
            control_decode(e->payload, e->len, &control, NULL) == 0 &&
            control.kind == CONTROL_COMPACT) {
            p->compact.pending_index = req->first.v + i;
            p->compact.pending = control;
        }
    }
}

void compact_committed(struct partition *p)
{
    struct compaction *c = &p->compact;
    if (c->pending_index != 0 && c->pending_index <= p->commit) {
        c->pending_index = 0;
        partition_compact(p, c->pending.offset, c->pending.time_ms);
    }
}

void compact_truncated(struct partition *p, uint64_t from)
{
    if (p->compact.pending_index >= from) {
        p->compact.pending_index = 0;
    }
}
