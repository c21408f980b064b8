/* Where the log begins: the file `begin`, and partition_reset. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_recover.h"

/* --- The file --- */

static int read_begin(struct partition *p, uint8_t buf[BEGIN_FILE_SIZE], size_t *ret_n,
                      struct error *err)
{
    struct env_file *file;
    int rc = env_file_open(p->env, partition_path(p, BEGIN_NAME), ENV_OPEN_READ, &file, err);
    if (rc != 0) {
        return rc;
    }
    rc = env_file_pread(file, buf, BEGIN_FILE_SIZE, 0, ret_n, err);
    env_file_close(file);
    return rc;
}

int begin_load(struct partition *p, bool *ret_damaged, struct error *err)
{
    uint8_t *buf = malloc(BEGIN_FILE_SIZE);
    size_t n = 0;
    if (buf == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    *ret_damaged = false;
    int rc = read_begin(p, buf, &n, err);
    if (rc == WEIR_ENOTFOUND) {
        p->begin = (struct begin){.first_index = LOG_INDEX(1)};
        rc = 0;
    } else if (rc == 0 && !begin_decode(buf, n, &p->begin, ret_damaged)) {
        /* What is before the first segment file then counts as damaged: other replicas know. */
        log_error("log_begin_lost", "file=" LOG_Q " what=\"no copy with a good checksum\"",
                  partition_path(p, BEGIN_NAME));
        p->begin = (struct begin){.first_index = LOG_INDEX(1)};
    } else if (rc == 0 && *ret_damaged) {
        log_warn("log_begin_damaged",
                 "file=" LOG_Q " what=\"one copy has a wrong checksum, the other is used\"",
                 partition_path(p, BEGIN_NAME));
    }
    free(buf);
    return rc;
}

int begin_store(struct partition *p, const struct begin *begin, struct error *err)
{
    uint8_t *buf = malloc(BEGIN_FILE_SIZE);
    struct env_file *file = NULL;
    char from[sizeof(p->path)];
    if (buf == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    begin_encode(begin, buf);
    memcpy(from, partition_path(p, BEGIN_TMP_NAME), sizeof(from));
    int rc = env_file_open(p->env, from, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, err);
    if (rc == 0) {
        rc = env_file_pwrite(file, buf, BEGIN_FILE_SIZE, 0, err);
        rc = rc == 0 ? env_file_truncate(file, BEGIN_FILE_SIZE, err) : rc;
        rc = rc == 0 ? env_file_sync(file, err) : rc;
        env_file_close(file);
    }
    rc = rc == 0 ? env_rename(p->env, from, partition_path(p, BEGIN_NAME), err) : rc;
    rc = rc == 0 ? env_dir_sync(p->env, p->dir, err) : rc;
    free(buf);
    return rc;
}

/* --- Files that are before the begin --- */

/* Memory for n more. */
static int reserve_leftovers(struct partition *p, uint32_t n, struct error *err)
{
    if (n == 0) {
        return 0;
    }
    uint64_t *all = realloc(p->leftovers, (p->n_leftovers + n) * sizeof(*all));
    if (all == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    p->leftovers = all;
    return 0;
}

/* Notes the first n segments as files to be removed; there is memory. */
static void note_leftovers(struct partition *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        p->leftovers[p->n_leftovers++] = p->segments[i]->first_index.v;
    }
}

/* How many segments lie wholly before the entry. */
static uint32_t count_before(const struct partition *p, uint64_t first)
{
    uint32_t n = 0;
    while (n + 1 < p->n_segments && p->segments[n + 1]->first_index.v <= first) {
        n++;
    }
    return n;
}

static void drop_segments(struct partition *p, uint32_t n)
{
    note_leftovers(p, n);
    if (n > 0) {
        segments_shift(p, n);
    }
}

int begin_drop_segments(struct partition *p, struct error *err)
{
    uint32_t n = count_before(p, p->begin.first_index.v);
    int rc = reserve_leftovers(p, n, err);
    if (rc == 0) {
        drop_segments(p, n);
    }
    return rc;
}

static int remove_files(struct partition *p, uint64_t first, struct error *err)
{
    int rc = env_unlink(p->env, partition_segment_path(p, first), err);
    if (rc == 0 || rc == WEIR_ENOTFOUND) {
        rc = env_unlink(p->env, partition_index_path(p, first), err);
    }
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}

int begin_remove_leftover(struct partition *p, struct error *err)
{
    uint64_t first = p->leftovers[p->n_leftovers - 1];
    /* A reset may begin anew at the very entry an old segment began with: its file is replaced. */
    int rc = first == p->begin.first_index.v ? 0 : remove_files(p, first, err);
    p->n_leftovers -= rc == 0;
    return rc;
}

int begin_remove_leftovers(struct partition *p, struct error *err)
{
    int rc = 0;
    while (rc == 0 && p->n_leftovers > 0) {
        rc = begin_remove_leftover(p, err);
    }
    return rc;
}

/* --- Beginning anew --- */

/* What would be taken for a part of the new log. The rest is before its begin: it may go later. */
static int remove_overlapping(struct partition *p, struct error *err)
{
    uint32_t kept = 0;
    int rc = 0;
    for (uint32_t i = 0; i < p->n_leftovers; i++) {
        uint64_t first = p->leftovers[i];
        if (rc == 0 && first > p->begin.first_index.v) {
            rc = remove_files(p, first, err);
        }
        if (rc != 0 || first < p->begin.first_index.v) {
            p->leftovers[kept++] = first;
        }
    }
    p->n_leftovers = kept;
    return rc;
}

int begin_finish_reset(struct partition *p, struct error *err)
{
    /* The mark must not say that more is there than will be. */
    struct mark mark = {.meta_counter = p->mark.meta_counter};
    assert(p->begin.resetting);
    int rc = mark_write_now(p, &mark, err);
    rc = rc == 0 ? remove_overlapping(p, err) : rc;
    rc = rc == 0 ? env_dir_sync(p->env, p->dir, err) : rc;
    rc = rc == 0 ? partition_create_first(p, err) : rc;
    if (rc == 0) {
        struct meta meta = p->meta;
        meta.counter++;
        meta.snapshot_index = LOG_INDEX(p->begin.first_index.v - 1);
        meta.snapshot_term = p->begin.prev_term;
        meta.snapshot_config_index = p->begin.config_index;
        meta.config_len = p->begin.config_len;
        memcpy(meta.config, p->begin.config, p->begin.config_len);
        rc = meta_write(p, &meta, err);
        p->meta = rc == 0 ? meta : p->meta;
    }
    if (rc == 0) {
        mark.synced = LOG_INDEX(p->begin.first_index.v - 1);
        mark.meta_counter = p->meta.counter;
        rc = mark_write_now(p, &mark, err);
    }
    if (rc == 0) {
        struct begin done = p->begin;
        done.resetting = false;
        done.config_len = 0;
        rc = begin_store(p, &done, err);
        p->begin = rc == 0 ? done : p->begin;
    }
    return rc;
}

int begin_start_reset(struct partition *p, struct error *err)
{
    int rc = reserve_leftovers(p, p->n_segments, err);
    if (rc == 0) {
        note_leftovers(p, p->n_segments);
        while (p->n_segments > 1) {
            segment_pop(p);
        }
        if (p->n_segments == 1) {
            segment_renew(p);
        }
        mending_drop(p);
        holes_cut(&p->holes, 0);
    }
    return rc;
}

/* In memory: an empty log that begins where p->begin says. */
static void take_empty(struct partition *p)
{
    p->durable = p->submitted = p->commit = p->begin.first_index.v - 1;
    p->high_watermark = p->begin.start_offset.v;
    p->start_stored = p->begin.start_offset;
    p->keep = 0;
    p->compact.stored = (struct segment_clean){0};
    p->compact.pending_index = 0;
    p->write_at = partition_active(p)->s.end;
    tail_close(&p->tail);
    tail_init(&p->tail, p->begin.first_index.v);
}

/* What is under way for the next segment and the mark is awaited; its callbacks find the partition
 * gone (background_release). */
static int detach_background(struct partition *p)
{
    struct background *next = calloc(1, sizeof(*next)), *mark = calloc(1, sizeof(*mark));
    if (next == NULL || mark == NULL) {
        free(next);
        free(mark);
        return WEIR_ENOMEM;
    }
    if (p->next_file != NULL) {
        env_file_wait(p->next_file);
        env_file_close(p->next_file);
        p->next_file = NULL;
        (void)env_unlink(p->env, partition_path(p, NEXT_NAME), NULL);
    }
    p->next_state = NEXT_NONE;
    env_file_wait(p->mark_file);
    env_timer_stop(&p->mark_timer);
    p->mark_timer_on = false;
    background_release(p->next_op);
    background_release(p->mark_op);
    next->p = mark->p = p;
    p->next_op = next;
    p->mark_op = mark;
    return 0;
}

int partition_reset(struct partition *p, const struct partition_begin *to, const void *config,
                    uint32_t config_len, struct error *err)
{
    assert(!partition_busy(p) && to->first_index.v > 0);
    if (p->failed) {
        return error_set(err, WEIR_EIO, "%s: failed before", p->dir);
    }
    if (config_len > META_CONFIG_MAX || to->start_offset.v < to->first_offset.v) {
        return error_set(err, WEIR_EINVAL, "%s: reset to entry %" PRIu64 " with %u bytes", p->dir,
                         to->first_index.v, config_len);
    }
    retention_stop(p);
    compact_stop(p);
    if (detach_background(p) != 0) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    struct begin begin = {
        .first_index = to->first_index,
        .prev_term = to->prev_term,
        .first_offset = to->first_offset,
        .start_offset = to->start_offset,
        .time_ms = to->time_ms,
        .config_index = to->config_index,
        .resetting = true,
        .config_len = config_len,
    };
    memcpy(begin.config, config, config_len);
    log_warn("log_reset", "dir=" LOG_Q " had=%" PRIu64 "..%" PRIu64 " first=%" PRIu64, p->dir,
             partition_first_index(p).v, last_index_of(p), begin.first_index.v);
    struct error why;
    int rc = begin_store(p, &begin, &why);
    if (rc == 0) {
        p->begin = begin;
        rc = begin_start_reset(p, &why);
    }
    if (rc == 0) {
        take_empty(p);
        state_reset(p);
        rc = begin_finish_reset(p, &why);
    }
    if (rc != 0) {
        partition_fail(p, rc, why.text);
        return error_set(err, rc, "%s: reset: %s", p->dir, why.text);
    }
    retention_later(p);
    return 0;
}

/* --- Beginning where others do --- */

static bool is_damaged_before(const struct partition *p, uint64_t index)
{
    return p->holes.n > 0 && p->holes.all[0].first < index;
}

/* 0: p->segments[i] is what the log may begin with, at that entry. */
static int may_adopt(struct partition *p, const struct partition_begin *to, uint32_t i,
                     struct error *err)
{
    const struct segment *seg = p->segments[i];
    const struct hole *hole = hole_at(&p->holes, to->first_index.v);
    uint64_t first = to->first_index.v;
    bool inside = first > seg->first_index.v;
    if (p->failed) {
        return error_set(err, WEIR_EIO, "%s: failed before", p->dir);
    }
    if (first <= p->begin.first_index.v || first > p->commit || first > p->durable ||
        first - 1 > p->keep || (inside && !seg->lost) || !is_damaged_before(p, first)) {
        return error_set(err, WEIR_ENOTFOUND, "%s: begins with %" PRIu64 " for other reasons",
                         p->dir, p->begin.first_index.v);
    }
    if (to->first_offset.v < seg->first_offset.v ||
        (inside ? hole == NULL || to->first_offset.v > hole->end_offset
                : to->first_offset.v != seg->first_offset.v)) {
        return error_set(err, WEIR_EPROTO, "%s: entry %" PRIu64 " has another offset than %" PRId64,
                         p->dir, first, to->first_offset.v);
    }
    bool busy = p->begin_op != NULL;
    for (uint32_t k = 0; k < i + inside; k++) {
        busy = busy || p->segments[k]->pins > p->segments[k]->lost;
    }
    return busy ? error_set(err, WEIR_EBUSY, "%s: begin: not now", p->dir) : 0;
}

/* The first segment, which is lost, begins later than it did. */
static void move_lost(struct partition *p)
{
    struct segment *seg = p->segments[0];
    if (seg->first_index.v == p->begin.first_index.v) {
        return;
    }
    if (p->mending.on && p->mending.segment == seg->first_index.v) {
        mending_drop(p);
    }
    struct hole *hole = hole_at(&p->holes, p->begin.first_index.v);
    note_leftovers(p, 1);
    seg->first_index = p->begin.first_index;
    seg->first_offset = p->begin.first_offset;
    hole->first = hole->next = hole->segment = seg->first_index.v;
    hole->first_offset = seg->first_offset.v;
}

/* What is known of the time before the begin is true of what stands behind it. */
static void carry_on(struct partition *p)
{
    for (uint32_t i = 0; i < p->n_segments; i++) {
        struct segment_close *s = &p->segments[i]->s;
        if (s->config_index.v < p->begin.config_index.v) {
            s->config_index = p->begin.config_index;
        }
        if (s->last_time_ms < p->begin.time_ms) {
            s->last_time_ms = p->begin.time_ms;
        }
    }
}

int partition_adopt_begin(struct partition *p, const struct partition_begin *to, struct error *err)
{
    uint32_t n = count_before(p, to->first_index.v);
    int rc = may_adopt(p, to, n, err);
    rc = rc == 0 ? reserve_leftovers(p, n + 1, err) : rc;
    if (rc != 0) {
        return rc;
    }
    struct begin begin = p->begin;
    begin.first_index = to->first_index;
    begin.prev_term = to->prev_term;
    begin.first_offset = to->first_offset;
    begin.time_ms = to->time_ms;
    begin.config_index = to->config_index;
    if (begin.start_offset.v < to->first_offset.v) {
        begin.start_offset = to->first_offset;
    }
    rc = begin_store(p, &begin, err);
    if (rc != 0) {
        return rc;
    }
    log_warn("log_begin_adopted",
             "dir=" LOG_Q " had=%" PRIu64 " first=%" PRIu64 " start_offset=%" PRId64, p->dir,
             p->begin.first_index.v, begin.first_index.v, begin.start_offset.v);
    p->begin = begin;
    p->start_stored = begin.start_offset;
    p->compact.stored = (struct segment_clean){begin.compacted.v, begin.tombstones_ms};
    drop_segments(p, n);
    move_lost(p);
    carry_on(p);
    state_mended(p);
    retention_later(p);
    return 0;
}

void partition_begin(const struct partition *p, struct partition_begin *ret_begin)
{
    *ret_begin = (struct partition_begin){
        .first_index = p->begin.first_index,
        .prev_term = p->begin.prev_term,
        .first_offset = p->begin.first_offset,
        .start_offset = p->begin.start_offset,
        .time_ms = p->begin.time_ms,
        .config_index = p->begin.config_index,
    };
}
