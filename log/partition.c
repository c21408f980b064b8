#include "log/partition.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_recover.h"

#define SEGMENT_BYTES_DEFAULT (64U << 20)
#define SEGMENT_BYTES_MIN     (2U * SEGMENT_HEADER_SIZE)
#define TAIL_BYTES_DEFAULT    (16U << 20)
#define INDEX_BYTES_DEFAULT   (16U << 10)

static void set_options(struct partition *p, const struct partition_options *o)
{
    p->options = *o;
    if (o->segment_bytes == 0) {
        p->options.segment_bytes = SEGMENT_BYTES_DEFAULT;
    } else if (o->segment_bytes < SEGMENT_BYTES_MIN) {
        p->options.segment_bytes = SEGMENT_BYTES_MIN;
    }
    p->options.tail_bytes = o->tail_bytes == 0 ? TAIL_BYTES_DEFAULT : o->tail_bytes;
    p->options.index_bytes = o->index_bytes == 0 ? INDEX_BYTES_DEFAULT : o->index_bytes;
}

/* Everything but what is still under way on the disk. */
static void partition_free(struct partition *p)
{
    mending_drop(p);
    env_timer_close(&p->mark_timer);
    env_timer_close(&p->remove_timer);
    env_timer_close(&p->compact.timer);
    env_defer_cancel(&p->kick);
    while (p->n_segments > 0) {
        segment_pop(p);
    }
    free(p->segments);
    free(p->leftovers);
    holes_close(&p->holes);
    tail_close(&p->tail);
    env_file_close(p->next_file);
    env_file_close(p->mark_file);
    env_file_close(p->meta_file);
    background_release(p->mark_op);
    background_release(p->next_op);
    state_free(p);
    free(p);
}

static int partition_alloc(struct env *env, const char *dir,
                           const struct partition_options *options,
                           struct partition **ret_partition)
{
    struct partition *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return WEIR_ENOMEM;
    }
    p->env = env;
    set_options(p, options);
    memcpy(p->dir, dir, strlen(dir) + 1);
    list_init(&p->appends);
    p->mark_timer.data = p->remove_timer.data = p;
    p->mark_op = calloc(1, sizeof(*p->mark_op));
    p->next_op = calloc(1, sizeof(*p->next_op));
    int rc = state_init(p);
    if (rc != 0 || p->mark_op == NULL || p->next_op == NULL ||
        env_timer_init(env, &p->mark_timer) != 0 || env_timer_init(env, &p->remove_timer) != 0 ||
        compact_init(p) != 0) {
        partition_free(p);
        return WEIR_ENOMEM;
    }
    p->mark_op->p = p->next_op->p = p;
    p->sync_seconds = metric_histogram("weir_log_sync_seconds", "",
                                       "Time to write and sync one group of log entries.");
    *ret_partition = p;
    return 0;
}

int partition_open(struct env *env, const char *dir, const struct partition_options *options,
                   struct partition **ret_partition, struct error *err)
{
    struct partition *p;
    if (strlen(dir) >= PARTITION_PATH_MAX) {
        return error_set(err, WEIR_EINVAL, "%.60s...: the path is too long", dir);
    }
    int rc = partition_alloc(env, dir, options, &p);
    if (rc != 0) {
        return error_set(err, rc, "%s: out of memory", dir);
    }
    rc = partition_recover(p, err);
    if (rc != 0) {
        partition_free(p);
        return rc;
    }
    p->durable = p->submitted = last_index_of(p);
    p->write_at = partition_active(p)->s.end;
    p->commit = p->begin.first_index.v - 1; /* what is gone was committed */
    p->high_watermark = p->begin.start_offset.v;
    p->start_stored = p->begin.start_offset;
    tail_init(&p->tail, p->durable + 1);
    state_load(p);
    compact_start(p);
    *ret_partition = p;
    return 0;
}

void partition_close(struct partition *p)
{
    if (p == NULL) {
        return;
    }
    assert(!partition_busy(p));
    retention_stop(p);
    compact_stop(p);
    if (p->next_file != NULL) {
        env_file_wait(p->next_file);
        env_file_close(p->next_file);
        p->next_file = NULL;
        (void)env_unlink(p->env, partition_path(p, NEXT_NAME), NULL); /* opening would do it too */
    }
    meta_overtake(p);
    env_file_wait(p->mark_file);
    state_close(p);
    if (!p->failed) {
        struct error err = {0};
        struct mark mark = {
            .synced = LOG_INDEX(p->durable),
            .meta_counter = p->meta.counter,
            .clean_end = partition_active(p)->s.end,
        };
        if (mark_write_now(p, &mark, &err) != 0) {
            log_warn("log_mark_not_written", "dir=" LOG_Q " error=" LOG_Q, p->dir, err.text);
        }
    }
    partition_free(p);
}

bool partition_failed(const struct partition *p)
{
    return p->failed;
}

void partition_fail(struct partition *p, int status, const char *what)
{
    if (p->failed) {
        return;
    }
    p->failed = true;
    log_error("log_partition_failed",
              "dir=" LOG_Q " durable=%" PRIu64 " what=" LOG_Q " error=" LOG_Q, p->dir, p->durable,
              what, error_name(status));
    append_fail_all(p);
}

bool partition_busy(const struct partition *p)
{
    return p->n_outstanding > 0 || p->writing;
}

/* --- Accessors --- */

struct segment *partition_active(const struct partition *p)
{
    return p->segments[p->n_segments - 1];
}

uint32_t partition_segment_at(const struct partition *p, uint64_t index)
{
    uint32_t lo = 0, hi = p->n_segments;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->segments[mid]->first_index.v <= index) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct log_index partition_first_index(const struct partition *p)
{
    return p->segments[0]->first_index;
}

struct log_index partition_last_index(const struct partition *p)
{
    return LOG_INDEX(last_index_of(p));
}

struct log_index partition_durable_index(const struct partition *p)
{
    return LOG_INDEX(p->durable);
}

static int run_at(struct partition *p, struct log_index index, const struct index_run **ret_run)
{
    if (index.v < p->segments[0]->first_index.v || index.v > last_index_of(p)) {
        return WEIR_ENOTFOUND;
    }
    struct segment *seg = p->segments[partition_segment_at(p, index.v)];
    int rc = segment_use(p, seg, NULL);
    const struct hole *hole = hole_at(&p->holes, index.v);
    if (rc == 0 && hole != NULL && !hole->terms_known) {
        return WEIR_ECORRUPT;
    }
    if (rc == 0) {
        *ret_run = index_run_at(&seg->index, index.v);
        rc = *ret_run != NULL ? 0 : WEIR_ECORRUPT;
    }
    return rc;
}

int partition_term_at(struct partition *p, struct log_index index, struct log_term *ret_term)
{
    if (index.v == p->begin.first_index.v - 1) {
        *ret_term = p->begin.prev_term; /* 0 for index 0 */
        return 0;
    }
    const struct index_run *run;
    int rc = run_at(p, index, &run);
    if (rc == 0) {
        *ret_term = LOG_TERM(run->term);
    }
    return rc;
}

int partition_type_at(struct partition *p, struct log_index index, enum log_entry_type *ret_type)
{
    const struct index_run *run;
    int rc = run_at(p, index, &run);
    if (rc == 0) {
        *ret_type = (enum log_entry_type)run->type;
    }
    return rc;
}

struct log_index partition_config_index(struct partition *p, struct log_index upto)
{
    uint64_t last = last_index_of(p);
    uint64_t limit = upto.v < last ? upto.v : last;
    for (uint32_t i = p->n_segments; i-- > 0;) {
        struct segment *seg = p->segments[i];
        if (seg->s.config_index.v <= limit) {
            return seg->s.config_index; /* the highest of all up to this segment's end */
        }
        if (seg->first_index.v > limit) {
            continue;
        }
        if (segment_use(p, seg, NULL) == 0) {
            uint64_t found = index_last_config(&seg->index, limit, seg->s.last_index.v);
            if (found != 0) {
                return LOG_INDEX(found);
            }
        }
    }
    return p->begin.config_index;
}

void partition_meta(const struct partition *p, struct partition_meta *ret_meta)
{
    *ret_meta = (struct partition_meta){
        .term = p->meta.term,
        .vote = p->meta.vote,
        .snapshot_index = p->meta.snapshot_index,
        .snapshot_term = p->meta.snapshot_term,
        .snapshot_config_index = p->meta.snapshot_config_index,
        .recovering = p->meta.recovering,
        .votes_shared = p->meta.votes_shared,
        .wish = p->meta.wish,
        .begun_index = p->meta.begun_index,
        .snapshot_config = p->meta.config,
        .snapshot_config_len = p->meta.config_len,
    };
}

int partition_set_meta(struct partition *p, const struct partition_meta *meta, struct error *err)
{
    struct meta m;
    int rv = meta_of(p, meta, &m, err);
    if (rv != 0) {
        return rv;
    }
    m.counter = p->meta.counter + 1;
    int rc = meta_write(p, &m, err);
    if (rc != 0) {
        partition_fail(p, rc, "meta");
        return rc;
    }
    p->meta = m;
    mark_touch(p);
    return 0;
}

struct log_index partition_commit_index(const struct partition *p)
{
    return LOG_INDEX(p->commit);
}

struct log_offset partition_start_offset(const struct partition *p)
{
    return p->begin.start_offset;
}

struct log_offset partition_high_watermark(const struct partition *p)
{
    return LOG_OFFSET(p->high_watermark);
}

struct log_offset partition_end_offset(const struct partition *p)
{
    return partition_active(p)->s.next_offset;
}

int64_t partition_last_timestamp_ms(const struct partition *p)
{
    return partition_active(p)->s.last_time_ms;
}
