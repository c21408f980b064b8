/* Retention: what lies before the start offset goes, a segment at a time. The new `begin` is
 * written and synced off the loop; when it is durable the segments before it are forgotten, and
 * their files removed one by one. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

#define REMOVE_INTERVAL_US 20000

/* A new `begin` on its way. Outlives the partition if need be. */
struct begin_op {
    struct env *env;
    struct partition *p; /* NULL: nobody waits for it any more */
    struct env_file *file;
    struct env_io io;
    struct iovec iov;
    struct begin begin;
    char dir[PARTITION_PATH_MAX];
    uint8_t buf[BEGIN_FILE_SIZE];
};

static void remove_next(struct env_timer *timer)
{
    struct partition *p = timer->data;
    struct error err = {0};
    if (p->failed || p->n_leftovers == 0) {
        return;
    }
    if (begin_remove_leftover(p, &err) != 0) {
        log_warn("log_segment_not_removed", "dir=" LOG_Q " error=" LOG_Q, p->dir, err.text);
        return; /* opening tries again */
    }
    retention_later(p);
}

void retention_later(struct partition *p)
{
    if (p->n_leftovers > 0) {
        env_timer_start(&p->remove_timer, REMOVE_INTERVAL_US, remove_next);
    }
}

/* One whose file is lost is pinned, but nobody reads it. */
static bool is_in_use(const struct segment *seg)
{
    return seg->pins > seg->lost;
}

/* How many segments at the front hold nothing that is still wanted, when entries above `keep`
 * stay. The first one that stays holds a committed entry, so that no truncation can reach it. */
static uint32_t count_old(const struct partition *p, uint64_t keep)
{
    uint32_t n = 0;
    while (n + 1 < p->n_segments) {
        const struct segment *next = p->segments[n + 1];
        if (next->planned || next->first_offset.v > p->begin.start_offset.v ||
            next->first_index.v - 1 > keep || next->first_index.v > p->commit ||
            next->first_index.v > p->durable || is_in_use(p->segments[n])) {
            break;
        }
        n++;
    }
    return n;
}

static void op_free(struct begin_op *op)
{
    env_file_close(op->file);
    free(op);
}

static void op_done(struct begin_op *op, int status)
{
    struct partition *p = op->p;
    if (p != NULL) {
        p->begin_op = NULL;
        if (status != 0) {
            log_warn("log_begin_not_written", "dir=" LOG_Q " error=" LOG_Q, p->dir,
                     error_name(status));
        }
    }
    op_free(op);
}

static void on_begin_durable(struct env_io *io, int status)
{
    struct begin_op *op = io->data;
    struct partition *p = op->p;
    if (status == 0 && p != NULL) {
        struct begin now = p->begin; /* may have moved on */
        struct error err = {0};
        uint32_t had = p->n_segments;
        p->start_stored = op->begin.start_offset;
        p->begin = op->begin;
        p->begin.start_offset = now.start_offset;
        p->begin.compacted = now.compacted;
        p->begin.tombstones_ms = now.tombstones_ms;
        p->compact.stored = (struct segment_clean){op->begin.compacted.v, op->begin.tombstones_ms};
        if (begin_drop_segments(p, &err) != 0) {
            log_warn("log_segments_not_removed", "dir=" LOG_Q " error=" LOG_Q, p->dir, err.text);
        } else if (p->n_segments < had) {
            log_info("log_segments_removed",
                     "dir=" LOG_Q " segments=%u first=%" PRIu64 " start_offset=%" PRId64, p->dir,
                     had - p->n_segments, p->begin.first_index.v, p->begin.start_offset.v);
        }
        retention_later(p);
    }
    op_done(op, status);
}

static void on_begin_written(struct env_io *io, int status)
{
    struct begin_op *op = io->data;
    struct partition *p = op->p;
    if (status == 0 && p != NULL) {
        char from[sizeof(p->path)];
        memcpy(from, partition_path(p, BEGIN_TMP_NAME), sizeof(from));
        status = env_rename(op->env, from, partition_path(p, BEGIN_NAME), NULL);
        if (status == 0) {
            op->io = (struct env_io){.data = op};
            env_dir_sync_start(op->env, op->dir, &op->io, on_begin_durable);
            return;
        }
    }
    op_done(op, status);
}

/* The log without its first n segments; without fewer, when the term of the entry before it is not
 * known (partition_adopt_begin). */
static void begin_behind(struct partition *p, uint32_t n, struct begin *ret_begin)
{
    struct log_term term;
    *ret_begin = p->begin;
    while (n > 0 && partition_term_at(p, p->segments[n - 1]->s.last_index, &term) != 0) {
        n--;
    }
    if (n == 0) {
        return;
    }
    const struct segment_close *before = &p->segments[n - 1]->s;
    ret_begin->first_index = p->segments[n]->first_index;
    ret_begin->first_offset = p->segments[n]->first_offset;
    ret_begin->prev_term = term;
    ret_begin->time_ms = before->last_time_ms;
    ret_begin->config_index = before->config_index;
}

/* It says something that the file does not. */
static bool is_news(const struct partition *p, const struct begin *begin)
{
    return begin->first_index.v > p->begin.first_index.v ||
           begin->start_offset.v > p->start_stored.v ||
           begin->compacted.v > p->compact.stored.upto ||
           begin->tombstones_ms > p->compact.stored.tombstones_ms;
}

static void start_writing(struct partition *p, uint32_t n)
{
    struct begin_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        return; /* another time */
    }
    *op = (struct begin_op){.env = p->env, .p = p};
    memcpy(op->dir, p->dir, sizeof(op->dir));
    struct error err = {0};
    begin_behind(p, n, &op->begin);
    if (!is_news(p, &op->begin)) {
        op_free(op);
        return;
    }
    int rc = env_file_open(p->env, partition_path(p, BEGIN_TMP_NAME),
                           ENV_OPEN_WRITE | ENV_OPEN_CREATE, &op->file, &err);
    if (rc != 0) {
        log_warn("log_begin_not_written", "dir=" LOG_Q " error=" LOG_Q, p->dir, error_name(rc));
        op_free(op);
        return;
    }
    begin_encode(&op->begin, op->buf);
    op->iov = (struct iovec){op->buf, BEGIN_FILE_SIZE};
    op->io = (struct env_io){.data = op, .iov = &op->iov, .n_iov = 1, .sync = true};
    p->begin_op = op;
    env_file_write(op->file, &op->io, on_begin_written);
}

void retention_work(struct partition *p)
{
    if (p->failed || p->begin_op != NULL) {
        return;
    }
    uint32_t n = count_old(p, p->keep);
    if (n > 0 || is_news(p, &p->begin)) {
        start_writing(p, n);
    }
}

void retention_stop(struct partition *p)
{
    env_timer_stop(&p->remove_timer);
    if (p->begin_op != NULL) {
        if (p->begin_op->file != NULL) {
            env_file_wait(p->begin_op->file);
        }
        p->begin_op->p = NULL;
        p->begin_op = NULL;
    }
}

void partition_set_start(struct partition *p, struct log_offset start)
{
    if (start.v > p->begin.start_offset.v) {
        p->begin.start_offset = start;
        if (p->high_watermark < start.v) {
            p->high_watermark = start.v; /* below it all was committed */
        }
        retention_work(p);
    }
}

void partition_others_begin(struct partition *p, struct log_index index)
{
    uint32_t i = partition_segment_at(p, index.v);
    const struct segment *seg = p->segments[i];
    if (i > 0 && !seg->planned && seg->first_index.v <= index.v &&
        seg->first_index.v <= p->commit) {
        partition_set_start(p, seg->first_offset);
    }
}

void partition_set_keep(struct partition *p, struct log_index index)
{
    if (index.v > p->keep) {
        p->keep = index.v;
    }
    retention_work(p);
}

struct log_index partition_removable(const struct partition *p)
{
    uint32_t n = count_old(p, UINT64_MAX);
    return n > 0 ? p->segments[n - 1]->s.last_index : LOG_INDEX(0);
}

uint64_t partition_size_bytes(const struct partition *p)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n_segments; i++) {
        bytes += p->segments[i]->s.end;
    }
    return bytes;
}

int partition_retained_from(struct partition *p, int64_t oldest_ms, uint64_t bytes_max,
                            struct log_offset *ret_start, struct error *err)
{
    struct log_offset start = p->begin.start_offset;
    if (oldest_ms > 0) {
        struct log_offset found;
        int rc = partition_offset_for_time(p, oldest_ms, &found, err);
        if (rc != 0) {
            return rc;
        }
        start = found.v > start.v ? found : start;
    }
    uint64_t bytes = partition_size_bytes(p);
    for (uint32_t i = 0; bytes_max > 0 && i + 1 < p->n_segments; i++) {
        bytes -= p->segments[i]->s.end;
        if (bytes < bytes_max || p->segments[i + 1]->first_offset.v > p->high_watermark) {
            break;
        }
        if (p->segments[i + 1]->first_offset.v > start.v) {
            start = p->segments[i + 1]->first_offset;
        }
    }
    *ret_start = start;
    return 0;
}
