#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

#define INDEX_FILE_MAX (256U << 20)

const char *partition_path(struct partition *p, const char *name)
{
    (void)snprintf(p->path, sizeof(p->path), "%s/%s", p->dir, name);
    return p->path;
}

const char *partition_segment_path(struct partition *p, uint64_t first_index)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(first_index, name);
    return partition_path(p, name);
}

const char *partition_index_path(struct partition *p, uint64_t first_index)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "%020" PRIu64 ".index", first_index);
    return partition_path(p, name);
}

/* --- Descriptors --- */

struct segment *segment_push(struct partition *p)
{
    if (p->n_segments == p->cap_segments) {
        uint32_t cap = p->cap_segments == 0 ? 8 : p->cap_segments * 2;
        struct segment **all = realloc(p->segments, cap * sizeof(*all));
        if (all == NULL) {
            return NULL;
        }
        p->segments = all;
        p->cap_segments = cap;
    }
    struct segment *seg = calloc(1, sizeof(*seg));
    if (seg != NULL) {
        index_init(&seg->index, p->options.index_bytes);
        p->segments[p->n_segments++] = seg;
    }
    return seg;
}

void segment_pop(struct partition *p)
{
    struct segment *seg = p->segments[--p->n_segments];
    env_file_close(seg->file);
    index_close(&seg->index);
    free(seg);
}

void segments_shift(struct partition *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        env_file_close(p->segments[i]->file);
        index_close(&p->segments[i]->index);
        free(p->segments[i]);
    }
    p->n_segments -= n;
    memmove(p->segments, p->segments + n, p->n_segments * sizeof(p->segments[0]));
    mending_drop(p);
    holes_drop(&p->holes, p->n_segments > 0 ? p->segments[0]->first_index.v : UINT64_MAX);
}

static struct segment_close state_at_begin(const struct partition *p)
{
    return (struct segment_close){
        .last_index = LOG_INDEX(p->begin.first_index.v - 1),
        .next_offset = p->begin.first_offset,
        .last_time_ms = p->begin.time_ms,
        .config_index = p->begin.config_index,
    };
}

struct segment_close segment_state_at_first(const struct partition *p, uint32_t i)
{
    const struct segment *seg = p->segments[i];
    struct segment_close s = i > 0 ? p->segments[i - 1]->s : state_at_begin(p);
    s.next_offset = seg->first_offset;
    s.last_index = LOG_INDEX(seg->first_index.v - 1);
    s.end = SEGMENT_HEADER_SIZE;
    return s;
}

/* `seg` has no entries yet and no file. */
static void segment_begin(struct partition *p, struct segment *seg,
                          const struct segment_close *state)
{
    seg->s = *state;
    seg->s.end = SEGMENT_HEADER_SIZE;
    seg->first_index = LOG_INDEX(seg->s.last_index.v + 1);
    seg->first_offset = seg->s.next_offset;
    seg->salt = env_random_u64(p->env);
    seg->size = p->options.segment_bytes;
    seg->planned = seg->loaded = true;
}

int segment_plan(struct partition *p, const struct segment *before, struct segment **ret_segment)
{
    struct segment_close state = before != NULL ? before->s : state_at_begin(p);
    struct segment *seg = segment_push(p);
    if (seg == NULL) {
        return WEIR_ENOMEM;
    }
    segment_begin(p, seg, &state);
    *ret_segment = seg;
    return 0;
}

void segment_renew(struct partition *p)
{
    struct segment *seg = p->segments[0];
    struct segment_close state = state_at_begin(p);
    env_file_close(seg->file);
    index_close(&seg->index);
    *seg = (struct segment){0};
    index_init(&seg->index, p->options.index_bytes);
    segment_begin(p, seg, &state);
}

int segment_note(struct segment *seg, const struct frame *f, const uint8_t *payload,
                 struct error *err)
{
    uint32_t offsets;
    int64_t time_ms;
    if (f->base_offset.v != seg->s.next_offset.v) {
        return error_set(err, WEIR_EPROTO,
                         "entry %" PRIu64 ": base offset %" PRId64 ", expected %" PRId64,
                         f->index.v, f->base_offset.v, seg->s.next_offset.v);
    }
    int rc = frame_meaning(f, payload, &offsets, &time_ms, err);
    if (rc != 0) {
        return rc;
    }
    if (index_reserve(&seg->index, 1) != 0) {
        return error_set(err, WEIR_ENOMEM, "index: out of memory");
    }
    if (time_ms > seg->s.last_time_ms) {
        seg->s.last_time_ms = time_ms;
    }
    index_add(&seg->index, f, seg->s.end, seg->s.last_time_ms);
    seg->s.last_index = f->index;
    seg->s.next_offset.v += offsets;
    seg->s.end += frame_size(f->len);
    if (f->type == LOG_ENTRY_CONFIG) {
        seg->s.config_index = f->index;
    }
    return 0;
}

int segment_scan(struct segment *seg, uint64_t last, uint64_t *ret_max_synced, struct error *err)
{
    struct segment_reader r;
    struct frame f;
    const uint8_t *payload;
    segment_reader_init(&r, seg->file, seg->salt, seg->s.end, UINT64_MAX, seg->s.last_index.v + 1);
    int rc = 1;
    while (seg->s.last_index.v < last) {
        rc = segment_reader_next(&r, &f, &payload, err);
        if (rc != 1) {
            break;
        }
        rc = segment_note(seg, &f, payload, err);
        if (rc != 0) {
            break;
        }
        if (ret_max_synced != NULL && f.synced.v > *ret_max_synced) {
            *ret_max_synced = f.synced.v;
        }
    }
    segment_reader_close(&r);
    return rc < 0 ? rc : 0;
}

/* --- Index files and close records --- */

static int index_load(struct partition *p, struct segment *seg)
{
    struct env_file *file;
    int rc = env_file_open(p->env, partition_index_path(p, seg->first_index.v), ENV_OPEN_READ,
                           &file, NULL);
    if (rc != 0) {
        return rc;
    }
    uint64_t size = 0;
    size_t n = 0;
    uint8_t *data = NULL;
    rc = env_file_size(file, &size, NULL);
    if (rc == 0) {
        data = size > INDEX_FILE_MAX ? NULL : malloc(size + 1);
        rc = data == NULL ? WEIR_ENOMEM : env_file_pread(file, data, size, 0, &n, NULL);
    }
    env_file_close(file);
    if (rc == 0) {
        rc = index_decode(&seg->index, data, n, seg->first_index.v, seg->salt, seg->s.end);
    }
    free(data);
    return rc;
}

static void index_save(struct partition *p, const struct segment *seg)
{
    struct bytes out;
    struct env_file *file;
    bytes_init(&out, INDEX_FILE_MAX);
    index_encode(&seg->index, seg->first_index.v, seg->salt, seg->s.end, &out);
    struct error err = {0};
    int rc = bytes_error(&out);
    if (rc == 0) {
        rc = env_file_open(p->env, partition_index_path(p, seg->first_index.v),
                           ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, &err);
    }
    if (rc == 0) {
        rc = env_file_truncate(file, out.len, &err);
        if (rc == 0) {
            rc = env_file_pwrite(file, out.data, out.len, 0, &err);
        }
        env_file_close(file);
    }
    if (rc != 0) {
        log_warn("log_index_not_saved", "dir=" LOG_Q " segment=%" PRIu64 " error=" LOG_Q, p->dir,
                 seg->first_index.v, err.code != 0 ? err.text : error_name(rc));
    }
    bytes_close(&out);
}

void segment_finish(struct partition *p, struct segment *seg)
{
    uint8_t record[SEGMENT_CLOSE_SIZE];
    struct error err = {0};
    seg->closed = true;
    seg->used = ++p->use_clock;
    if (hole_in_segment(&p->holes, seg->first_index.v)) {
        return; /* when it is mended */
    }
    index_save(p, seg);
    segment_close_encode(&seg->s, seg->salt, record);
    if (env_file_pwrite(seg->file, record, sizeof(record), SEGMENT_CLOSE_AT, &err) != 0) {
        log_warn("log_close_record_not_written", "dir=" LOG_Q " segment=%" PRIu64 " error=" LOG_Q,
                 p->dir, seg->first_index.v, err.text);
    }
}

/* Makes the index of a closed segment anew from its frames. */
static int index_rebuild(struct partition *p, struct segment *seg, struct error *err)
{
    struct segment fresh = *seg;
    struct error why;
    index_init(&fresh.index, p->options.index_bytes);
    fresh.s = segment_state_at_first(p, partition_segment_at(p, seg->first_index.v));
    int rc = segment_examine(p, &fresh, &seg->s, NULL, NULL, &why);
    if (rc == 0 && seg->s.end != 0 && fresh.s.end != seg->s.end) {
        rc = error_set(&why, WEIR_ECORRUPT, "its frames do not fit its close record");
    }
    if (rc != 0) {
        index_close(&fresh.index);
        rc = rc == WEIR_EPROTO ? WEIR_ECORRUPT : rc;
        return error_set(err, rc, "%s: %s", partition_segment_path(p, seg->first_index.v),
                         why.text);
    }
    index_close(&seg->index);
    seg->index = fresh.index;
    log_info("log_index_rebuilt", "dir=" LOG_Q " segment=%" PRIu64, p->dir, seg->first_index.v);
    if (!hole_in_segment(&p->holes, seg->first_index.v)) {
        index_save(p, seg);
    }
    return 0;
}

/* Lets go of the closed segment that was needed least lately, when too many are open. */
static void evict(struct partition *p, const struct segment *keep)
{
    struct segment *oldest = NULL;
    unsigned n = 0;
    for (uint32_t i = 0; i < p->n_segments; i++) {
        struct segment *seg = p->segments[i];
        if (seg->closed && seg->loaded) {
            n++;
            if (seg != keep && seg->pins == 0 && (oldest == NULL || seg->used < oldest->used)) {
                oldest = seg;
            }
        }
    }
    if (n > OPEN_CLOSED_MAX && oldest != NULL) {
        env_file_close(oldest->file);
        oldest->file = NULL;
        index_close(&oldest->index);
        oldest->loaded = false;
    }
}

int segment_use(struct partition *p, struct segment *seg, struct error *err)
{
    seg->used = ++p->use_clock;
    if (seg->loaded) {
        return 0;
    }
    int rc = 0;
    if (seg->file == NULL) {
        rc = env_file_open(p->env, partition_segment_path(p, seg->first_index.v), ENV_OPEN_WRITE,
                           &seg->file, err);
    }
    if (rc == 0 && index_load(p, seg) != 0) {
        rc = index_rebuild(p, seg, err);
    }
    if (rc != 0) {
        env_file_close(seg->file);
        seg->file = NULL;
        return rc;
    }
    seg->loaded = true;
    evict(p, seg);
    return 0;
}

bool segment_start_for(const struct partition *p, const struct segment *seg, uint64_t index,
                       struct index_position *ret_start)
{
    const struct index_position *pos = index_by_index(&seg->index, index);
    const struct hole *hole = hole_before(&p->holes, seg->first_index.v, index);
    if (hole != NULL && hole->end != 0 &&
        (pos == NULL || pos->index > index || pos->index <= hole->last)) {
        *ret_start = (struct index_position){
            .index = hole->last + 1,
            .offset = hole->end_offset,
            .time_ms = pos != NULL && pos->index <= index ? pos->time_ms : 0,
            .at = hole->end,
        };
        return true;
    }
    if (pos == NULL || pos->index > index) {
        return false;
    }
    *ret_start = *pos;
    return true;
}

/* From `start` to the entry before `from`, which is read. */
static int walk_to(struct partition *p, const struct index_position *start, uint64_t from,
                   struct segment_close *s, struct error *err)
{
    struct walk w;
    int rc = 0;
    s->end = start->at;
    s->last_index.v = start->index - 1;
    s->next_offset.v = start->offset;
    s->last_time_ms = start->time_ms > s->last_time_ms ? start->time_ms : s->last_time_ms;
    walk_init(&w, p, start->index);
    while (rc == 0 && w.next < from) {
        struct frame f;
        const uint8_t *payload;
        uint32_t offsets = 0;
        int64_t time_ms = 0;
        rc = walk_next(&w, &f, &payload, err);
        rc = rc == 1 ? frame_meaning(&f, payload, &offsets, &time_ms, err) : rc;
        if (rc == 0) {
            s->end += frame_size(f.len);
            s->last_index = f.index;
            s->next_offset.v = f.base_offset.v + offsets;
            s->last_time_ms = time_ms > s->last_time_ms ? time_ms : s->last_time_ms;
        }
    }
    walk_close(&w);
    return rc;
}

int segment_state_before(struct partition *p, uint32_t i, uint64_t from,
                         struct segment_close *ret_state, struct error *err)
{
    struct segment *seg = p->segments[i];
    struct segment_close s = segment_state_at_first(p, i);
    struct index_position start;
    int rc = segment_use(p, seg, err);
    if (rc != 0) {
        return rc;
    }
    /* From is where the place behind a hole may be known without reading anything. */
    if (from > seg->first_index.v &&
        (segment_start_for(p, seg, from, &start) || segment_start_for(p, seg, from - 1, &start))) {
        if (start.index > from - 1 && hole_at(&p->holes, from - 1) == NULL) {
            (void)segment_start_for(p, seg, from - 1, &start);
        }
        rc = walk_to(p, &start, from, &s, err);
        uint64_t config = index_last_config(&seg->index, from - 1, seg->s.last_index.v);
        s.config_index = config != 0 ? LOG_INDEX(config) : s.config_index;
    }
    if (rc == 0) {
        *ret_state = s;
    }
    return rc;
}

/* --- Mark and meta --- */

void background_release(struct background *op)
{
    if (op == NULL) {
        return;
    }
    if (op->busy) {
        op->p = NULL;
    } else {
        free(op);
    }
}

int mark_write_now(struct partition *p, const struct mark *mark, struct error *err)
{
    uint8_t buf[MARK_SIZE];
    struct error why;
    env_file_wait(p->mark_file); /* an older one must not land on top */
    mark_encode(mark, buf);
    int rc = env_file_pwrite(p->mark_file, buf, sizeof(buf), 0, &why);
    if (rc == 0) {
        rc = env_file_sync(p->mark_file, &why);
    }
    if (rc != 0) {
        return error_set(err, rc, "%s: %s", partition_path(p, "mark"), why.text);
    }
    p->mark = *mark;
    return 0;
}

static void on_mark_timer(struct env_timer *timer);

static void on_mark_written(struct env_io *io, int status)
{
    struct background *op = io->data;
    struct partition *p = op->p;
    op->busy = false;
    if (p == NULL) {
        free(op);
        return;
    }
    if (status != 0) {
        log_warn("log_mark_not_written", "dir=" LOG_Q " error=" LOG_Q, p->dir, error_name(status));
    } else if (p->durable > p->mark.synced.v || p->meta.counter > p->mark.meta_counter) {
        mark_touch(p);
    }
}

static void on_mark_timer(struct env_timer *timer)
{
    struct partition *p = timer->data;
    struct background *op = p->mark_op;
    p->mark_timer_on = false;
    if (op->busy || p->failed) {
        return; /* its callback asks again */
    }
    p->mark = (struct mark){
        .synced = LOG_INDEX(p->durable),
        .meta_counter = p->meta.counter,
    };
    mark_encode(&p->mark, op->buf);
    op->iov = (struct iovec){op->buf, MARK_SIZE};
    /* Under load later frames carry the same news; at rest nothing follows them, so the mark itself
     * must last. */
    op->io = (struct env_io){.data = op, .iov = &op->iov, .n_iov = 1, .sync = !p->writing};
    op->busy = true;
    env_file_write(p->mark_file, &op->io, on_mark_written);
}

void mark_touch(struct partition *p)
{
    if (!p->mark_timer_on && !p->mark_op->busy && !p->failed) {
        p->mark_timer_on = true;
        env_timer_start(&p->mark_timer, MARK_INTERVAL_US, on_mark_timer);
    }
}

int meta_write(struct partition *p, const struct meta *meta, struct error *err)
{
    uint8_t slot[META_SLOT_SIZE];
    struct error why;
    meta_overtake(p);
    meta_encode(meta, slot);
    int rc = env_file_pwrite(p->meta_file, slot, sizeof(slot), meta_position(meta->counter), &why);
    if (rc == 0) {
        rc = env_file_sync(p->meta_file, &why);
    }
    return rc == 0 ? 0 : error_set(err, rc, "%s: %s", partition_path(p, "meta"), why.text);
}
