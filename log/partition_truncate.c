/* Removing the log's end. In an order that leaves a valid prefix of the log wherever a crash comes:
 * the mark is lowered first, then segments go from the newest, one durable step each, and the one
 * that is cut loses its close record before its frames. */
#include <assert.h>
#include <string.h>

#include "log/partition_priv.h"

/* The description of the last segment, cut back to `state`. */
static void apply_state(struct partition *p, const struct segment_close *state)
{
    struct segment *seg = partition_active(p);
    uint64_t from = state->last_index.v + 1;
    index_cut(&seg->index, from);
    seg->s = *state;
    tail_cut(&p->tail, from);
    mending_drop(p);
    holes_cut(&p->holes, from);
    if (p->durable >= from) {
        p->durable = from - 1;
    }
    if (p->submitted >= from) {
        p->submitted = from - 1;
    }
}

int truncate_memory(struct partition *p, uint64_t from, struct error *err)
{
    while (p->n_segments > 1 && partition_active(p)->planned &&
           partition_active(p)->first_index.v >= from) {
        segment_pop(p);
    }
    struct segment_close state = partition_active(p)->s;
    if (state.last_index.v >= from) {
        int rc = segment_state_before(p, p->n_segments - 1, from, &state, err);
        if (rc != 0) {
            return rc;
        }
        apply_state(p, &state);
    } else {
        tail_cut(&p->tail, from);
    }
    state_rewind(p);
    compact_truncated(p, from);
    return 0;
}

static int remove_file(struct partition *p, const char *path, struct error *err)
{
    int rc = env_unlink(p->env, path, err);
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}

static int drop_last_segment(struct partition *p, struct error *err)
{
    struct segment *seg = partition_active(p);
    uint64_t first = seg->first_index.v;
    bool planned = seg->planned;
    segment_pop(p);
    if (planned) {
        return 0;
    }
    int rc = remove_file(p, partition_segment_path(p, first), err);
    if (rc == 0) {
        rc = remove_file(p, partition_index_path(p, first), err);
    }
    return rc == 0 ? env_dir_sync(p->env, p->dir, err) : rc;
}

/* Takes index file and close record from the last segment: it will be written to again. */
static int reopen_last_segment(struct partition *p, struct error *err)
{
    static const uint8_t zeros[SEGMENT_CLOSE_SIZE];
    struct segment *seg = partition_active(p);
    int rc = segment_use(p, seg, err);
    if (rc == 0 && seg->lost) {
        rc = error_set(err, WEIR_ECORRUPT, "%s: the file is lost",
                       partition_segment_path(p, seg->first_index.v));
    }
    if (rc != 0 || !seg->closed) {
        return rc;
    }
    rc = remove_file(p, partition_index_path(p, seg->first_index.v), err);
    if (rc == 0) {
        rc = env_dir_sync(p->env, p->dir, err);
    }
    if (rc == 0) {
        rc = env_file_pwrite(seg->file, zeros, sizeof(zeros), SEGMENT_CLOSE_AT, err);
    }
    if (rc == 0) {
        rc = env_file_sync(seg->file, err);
    }
    if (rc == 0) {
        seg->closed = false;
    }
    return rc;
}

/* The file ends at `end` and then has zeros up to its size. When there is no room for these the
 * next append asks again. */
int segment_cut_file(struct segment *seg, uint64_t end, struct error *err)
{
    int rc = env_file_truncate(seg->file, end, err);
    if (rc == 0) {
        rc = env_file_sync(seg->file, err);
    }
    if (rc == 0) {
        rc = env_file_allocate(seg->file, seg->size, NULL);
        seg->allocated = rc == 0;
        rc = rc == 0 ? env_file_sync(seg->file, err) : 0;
    }
    return rc;
}

int truncate_to(struct partition *p, uint64_t from, struct error *err)
{
    struct mark lowered = {.synced = LOG_INDEX(from - 1), .meta_counter = p->meta.counter};
    if (p->durable < from - 1) {
        lowered.synced = LOG_INDEX(p->durable);
    }
    int rc = mark_write_now(p, &lowered, err);
    while (rc == 0 && p->n_segments > 1 && partition_active(p)->first_index.v >= from) {
        rc = drop_last_segment(p, err);
    }
    if (rc == 0) {
        rc = reopen_last_segment(p, err);
    }
    struct segment *seg = partition_active(p);
    struct segment_close state = seg->s;
    if (rc == 0 && seg->s.last_index.v >= from) {
        rc = segment_state_before(p, p->n_segments - 1, from, &state, err);
    }
    if (rc == 0) {
        rc = segment_cut_file(seg, state.end, err);
    }
    if (rc == 0) {
        apply_state(p, &state);
        p->write_at = state.end;
        state_rewind(p);
        compact_truncated(p, from);
    }
    return rc;
}

int partition_truncate(struct partition *p, struct log_index from, struct error *err)
{
    assert(!partition_busy(p));
    assert(from.v > p->commit && from.v >= partition_first_index(p).v);
    if (p->failed) {
        return error_set(err, WEIR_EIO, "%s: failed before", p->dir);
    }
    if (from.v > last_index_of(p)) {
        return 0;
    }
    struct error why;
    int rc = truncate_to(p, from.v, &why);
    if (rc != 0) {
        partition_fail(p, rc, why.text);
        return error_set(err, rc, "%s: truncate at %llu: %s", p->dir, (unsigned long long)from.v,
                         why.text);
    }
    return 0;
}
