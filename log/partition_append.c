/* Group commit. While one group of frames is being written and synced the next one fills in the
 * tail; a group is all that waits, up to a limit and to the end of its segment. A new segment's
 * file is reserved ahead of need under the name next.tmp; the first group written to it carries its
 * header, and counts only when the file has its own name and the folder is synced. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

/* priv[] of struct partition_append */
enum { PRIV_LAST, PRIV_STATUS };

static void on_kick(struct env_defer *defer)
{
    struct partition *p = defer->data;
    append_write(p);
    append_release(p);
}

static void kick(struct partition *p)
{
    p->kick.data = p;
    env_defer(p->env, &p->kick, on_kick);
}

static int status_of(const struct partition_append *req)
{
    return (int)(int64_t)req->priv[PRIV_STATUS];
}

/* --- Taking entries in --- */

/* The segment that has room for a frame of `size` bytes. */
static int segment_for(struct partition *p, uint64_t size, struct segment **ret_segment)
{
    struct segment *seg = partition_active(p);
    if (compact_awaits_close(p, seg) || seg->s.end + size > seg->size) {
        if (seg->s.end > SEGMENT_HEADER_SIZE) {
            int rc = segment_plan(p, seg, &seg);
            if (rc != 0) {
                return rc;
            }
        }
        if (SEGMENT_HEADER_SIZE + size > seg->size) { /* one entry larger than a segment */
            seg->size = SEGMENT_HEADER_SIZE + size;
            seg->allocated = false;
        }
    }
    *ret_segment = seg;
    return 0;
}

static int take_entry(struct partition *p, const struct log_entry *e, uint32_t *need,
                      struct error *err)
{
    struct segment *seg;
    if (e->len > FRAME_PAYLOAD_MAX || e->type < LOG_ENTRY_BATCH || e->type > LOG_ENTRY_CONTROL) {
        return error_set(err, WEIR_EINVAL, "entry of type %d with %u bytes", (int)e->type, e->len);
    }
    int rc = tail_reserve(&p->tail, e->len);
    if (rc == 0) {
        rc = segment_for(p, frame_size(e->len), &seg);
    }
    if (rc != 0) {
        return error_set(err, rc, "append: out of memory");
    }
    struct frame f = {
        .len = e->len,
        .type = e->type,
        .term = e->term,
        .index = LOG_INDEX(p->tail.next),
        .base_offset = seg->s.next_offset,
    };
    rc = segment_note(seg, &f, e->payload, err);
    if (rc == 0 && state_reserve(p, e, need) != 0) {
        rc = error_set(err, WEIR_ENOMEM, "append: out of memory");
    }
    if (rc == 0) {
        tail_add(&p->tail, &f, e->payload);
    }
    return rc;
}

/* All entries of the request, or none. */
static int take_entries(struct partition *p, const struct partition_append *req)
{
    struct error err = {0};
    uint32_t n_segments = p->n_segments, need = 0;
    struct segment_close before = partition_active(p)->s;
    int rc = 0;
    for (unsigned i = 0; i < req->n && rc == 0; i++) {
        rc = take_entry(p, &req->entries[i], &need, &err);
    }
    if (rc == 0) {
        state_take(p, req, n_segments);
        compact_appended(p, req);
        return 0;
    }
    log_warn("log_append_refused", "dir=" LOG_Q " index=%" PRIu64 " error=" LOG_Q, p->dir,
             req->first.v, err.text);
    while (p->n_segments > n_segments) {
        segment_pop(p);
    }
    partition_active(p)->s = before;
    index_cut(&partition_active(p)->index, req->first.v);
    tail_cut(&p->tail, req->first.v);
    return rc;
}

void partition_append(struct partition *p, struct partition_append *req, partition_append_cb cb)
{
    req->cb = cb;
    req->first = LOG_INDEX(last_index_of(p) + 1);
    int rc = p->failed ? WEIR_EIO : p->rejecting;
    if (rc == 0) {
        rc = take_entries(p, req);
        p->rejecting = rc;
    }
    req->priv[PRIV_LAST] = req->first.v + req->n - 1;
    req->priv[PRIV_STATUS] = (uint64_t)(int64_t)rc;
    list_push_back(&p->appends, &req->link);
    p->n_outstanding++;
    kick(p);
}

/* --- Completing --- */

void append_release(struct partition *p)
{
    struct list done;
    list_init(&done);
    if (p->failed && p->writing) {
        return; /* once the last callback has come nothing is in flight */
    }
    while (!list_empty(&p->appends)) {
        struct partition_append *req = list_entry(p->appends.next, struct partition_append, link);
        if (status_of(req) == 0 && req->priv[PRIV_LAST] > p->durable) {
            break;
        }
        list_remove(&req->link);
        list_push_back(&done, &req->link);
    }
    for (struct list *it; (it = list_pop(&done)) != NULL;) {
        struct partition_append *req = list_entry(it, struct partition_append, link);
        p->n_outstanding--;
        req->cb(req, status_of(req));
    }
    if (list_empty(&p->appends)) {
        p->rejecting = 0;
    } else {
        struct partition_append *req = list_entry(p->appends.next, struct partition_append, link);
        if (status_of(req) != 0) { /* came in meanwhile */
            kick(p);
        }
    }
}

void append_fail_all(struct partition *p)
{
    LIST_FOREACH(it, &p->appends)
    {
        struct partition_append *req = list_entry(it, struct partition_append, link);
        if (status_of(req) == 0) {
            req->priv[PRIV_STATUS] = (uint64_t)(int64_t)WEIR_EIO;
        }
    }
    kick(p);
}

/* Gives up what is not durable yet, although nothing is broken: no room for the next segment. */
static void reject_waiting(struct partition *p, int status)
{
    uint64_t keep = last_index_of(p);
    LIST_FOREACH(it, &p->appends)
    {
        struct partition_append *req = list_entry(it, struct partition_append, link);
        if (status_of(req) == 0) {
            keep = req->first.v - 1 < keep ? req->first.v - 1 : keep;
            req->priv[PRIV_STATUS] = (uint64_t)(int64_t)status;
        }
    }
    p->rejecting = status;
    kick(p);
    struct error err = {0};
    /* The beginning of an append that reaches into the next segment may be on disk. */
    int rc =
        keep < p->durable ? truncate_to(p, keep + 1, &err) : truncate_memory(p, keep + 1, &err);
    if (rc != 0) {
        partition_fail(p, rc, err.text);
    }
    if (p->reject_logged) {
        return; /* once, until something could be written again */
    }
    p->reject_logged = true;
    log_warn("log_append_rejected", "dir=" LOG_Q " kept=%" PRIu64 " error=" LOG_Q, p->dir, keep,
             error_name(status));
}

/* --- The next segment's file --- */

static void next_drop(struct partition *p)
{
    env_file_close(p->next_file);
    p->next_file = NULL;
    p->next_state = NEXT_NONE;
    (void)env_unlink(p->env, partition_path(p, NEXT_NAME), NULL);
}

static bool waits_for_next(const struct partition *p)
{
    return !p->writing && p->submitted < last_index_of(p) &&
           p->segments[partition_segment_at(p, p->submitted + 1)]->planned;
}

static void on_allocated(struct env_io *io, int status)
{
    struct background *op = io->data;
    struct partition *p = op->p;
    op->busy = false;
    if (p == NULL) {
        background_release(op);
        return;
    }
    if (status == 0) {
        p->next_state = NEXT_READY;
        append_write(p);
        return;
    }
    next_drop(p);
    if (waits_for_next(p) && !p->failed) {
        reject_waiting(p, status);
    }
}

/* Reserves a file of `size` bytes; on_allocated goes on. */
static void next_prepare(struct partition *p, uint64_t size)
{
    struct error err = {0};
    if (p->next_file == NULL) {
        int rc =
            env_file_open(p->env, partition_path(p, NEXT_NAME),
                          ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_APPEND, &p->next_file, &err);
        if (rc != 0) {
            if (waits_for_next(p)) {
                reject_waiting(p, rc);
            }
            return;
        }
    }
    struct background *op = p->next_op;
    p->next_state = NEXT_ALLOCATING;
    p->next_size = size;
    op->io = (struct env_io){.data = op, .offset = size, .sync = true};
    op->busy = true;
    env_file_allocate_start(p->next_file, &op->io, on_allocated);
}

/* --- Writing --- */

static void group_done(struct partition *p)
{
    metric_observe_us(p->sync_seconds, (env_now_ns(p->env) - p->write_began_ns) / 1000);
    p->writing = p->rolling = p->reject_logged = false;
    p->durable = p->submitted;
    tail_trim(&p->tail, p->options.tail_bytes, p->durable);
    mark_touch(p);
    state_save(p);
    append_write(p);
    struct segment *seg = partition_active(p);
    /* Not while rolling: the file in use still has the name of the next one. */
    if (p->next_state == NEXT_NONE && !p->rolling && !p->failed && seg->s.end > seg->size / 2) {
        next_prepare(p, p->options.segment_bytes);
    }
    append_release(p);
}

static void on_dir_synced(struct env_io *io, int status)
{
    struct partition *p = io->data;
    if (status != 0) {
        p->writing = false;
        partition_fail(p, status, "sync of the folder");
        kick(p);
        return;
    }
    p->segments[partition_segment_at(p, p->submitted)]->planned = false;
    group_done(p);
}

static void on_written(struct env_io *io, int status)
{
    struct partition *p = io->data;
    if (status == 0 && p->rolling) {
        char from[sizeof(p->path)];
        struct segment *seg = p->segments[partition_segment_at(p, p->submitted)];
        memcpy(from, partition_path(p, NEXT_NAME), sizeof(from));
        status = env_rename(p->env, from, partition_segment_path(p, seg->first_index.v), NULL);
        if (status == 0) {
            p->io = (struct env_io){.data = p};
            env_dir_sync_start(p->env, p->dir, &p->io, on_dir_synced);
            return;
        }
    }
    if (status != 0) {
        p->writing = false;
        partition_fail(p, status, "write or sync");
        kick(p);
        return;
    }
    group_done(p);
}

/* True when the planned segment's file is ready; else it is being made, and append_write is called
 * again. */
static bool roll(struct partition *p, uint32_t i)
{
    struct segment *seg = p->segments[i];
    if (p->next_state == NEXT_ALLOCATING) {
        return false;
    }
    if (p->next_state == NEXT_NONE || p->next_size < seg->size) {
        next_prepare(p, seg->size);
        return false;
    }
    segment_finish(p, p->segments[i - 1]);
    seg->file = p->next_file;
    seg->size = p->next_size;
    seg->allocated = true;
    p->next_file = NULL;
    p->next_state = NEXT_NONE;
    segment_header_encode(&(struct segment_header){seg->first_index, seg->first_offset, seg->salt},
                          p->header);
    p->rolling = true;
    return true;
}

/* Seals the frames of chunk memory [at, at + n) from `index` on up to `last`; returns the bytes
 * that take part. */
static size_t seal_run(struct partition *p, uint32_t seed, uint8_t *at, size_t n, uint64_t last,
                       size_t room, uint64_t *index)
{
    size_t used = 0;
    while (used < n && *index <= last) {
        size_t size = frame_size(frame_peek(at + used).len);
        if (size > room - used && (used > 0 || room < GROUP_BYTES_MAX)) {
            break; /* but one that is too large by itself goes alone */
        }
        frame_seal(at + used, seed, LOG_INDEX(p->durable));
        used += size;
        (*index)++;
        if (used >= room) {
            break;
        }
    }
    return used;
}

/* Fills p->iov with the frames of `seg` from p->submitted + 1 on; moves p->submitted. */
static unsigned gather(struct partition *p, struct segment *seg)
{
    uint32_t seed = frame_seed(seg->salt);
    uint64_t index = p->submitted + 1;
    size_t room = GROUP_BYTES_MAX;
    unsigned n = 0;
    if (p->rolling) {
        p->iov[n++] = (struct iovec){p->header, sizeof(p->header)};
    }
    while (n < GROUP_IOV_MAX && index <= seg->s.last_index.v) {
        size_t run;
        uint8_t *at = tail_frame(&p->tail, index, &run);
        size_t used = seal_run(p, seed, at, run, seg->s.last_index.v, room, &index);
        if (used == 0) {
            break;
        }
        p->iov[n++] = (struct iovec){at, used};
        if (used >= room) {
            break;
        }
        room -= used;
    }
    p->submitted = index - 1;
    return n;
}

void append_write(struct partition *p)
{
    if (p->writing || p->failed || p->submitted == last_index_of(p)) {
        return;
    }
    uint32_t i = partition_segment_at(p, p->submitted + 1);
    struct segment *seg = p->segments[i];
    if (seg->planned && !roll(p, i)) {
        return;
    }
    if (!seg->allocated) {
        struct error err = {0};
        int rc = env_file_allocate(seg->file, seg->size, &err);
        if (rc != 0) {
            reject_waiting(p, rc);
            return;
        }
        seg->allocated = true;
    }
    p->writing = true;
    p->write_began_ns = env_now_ns(p->env);
    uint64_t at = p->write_at;
    if (p->rolling) {
        at = 0;
    }
    unsigned n = gather(p, seg);
    uint64_t bytes = 0;
    for (unsigned k = 0; k < n; k++) {
        bytes += p->iov[k].iov_len;
    }
    p->write_at = at + bytes;
    p->io = (struct env_io){.data = p, .iov = p->iov, .n_iov = n, .offset = at, .sync = true};
    env_file_write(seg->file, &p->io, on_written);
}
