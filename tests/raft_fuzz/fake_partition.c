/* log/partition.h in memory, with a disk that loses what is not durable, fails, stalls, and crashes
 * in the middle of an operation. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "log/damage.h"
#include "sim.h"

static struct sim_disk *disk_of(const struct partition *p)
{
    return &p->node->disk;
}

/* The node dies here; the operation has or has not taken place. */
static void maybe_crash(struct partition *p)
{
    if (sim.crash_armed && (sim.faults & FAULT_CRASH) != 0 && !sim.healing && sim_chance(1, 150)) {
        sim.crashing = p->node;
        longjmp(sim.crash_now, 1);
    }
}

static int write_fails(struct partition *p, struct error *err)
{
    if (disk_of(p)->bad || p->failed) {
        p->failed = true;
        return error_set(err, WEIR_EIO, "disk of node %u is bad", p->node->id);
    }
    return 0;
}

/* Instead of log/state.h: folded anew whenever entries go. */
static void fold(struct partition *p, const struct sim_entry *e)
{
    if (e->type == LOG_ENTRY_BATCH) {
        struct batch_producer b = batch_producer_of(e->payload);
        int rc = producers_reserve(&p->producers, 1);
        assert(rc == 0);
        (void)rc;
        producers_add(&p->producers, &b, LOG_OFFSET(e->base), 0);
    }
}

static void fold_anew(struct partition *p)
{
    producers_forget(&p->producers, INT64_MIN);
    /* What is before the log's begin came along with it, or was kept in a file. */
    for (uint64_t i = 1; i <= disk_of(p)->last; i++) {
        bool there = i >= disk_of(p)->begin.first_index.v;
        fold(p, there ? &disk_of(p)->log[i] : &sim.committed[i]);
    }
}

const struct producers *partition_producers(const struct partition *p)
{
    return &p->producers;
}

int partition_open(struct env *env, const char *dir, const struct partition_options *options,
                   struct partition **ret_partition, struct error *err)
{
    struct sim_node *n = (struct sim_node *)(void *)env;
    (void)dir;
    (void)options;
    (void)err;
    n->partition = (struct partition){.node = n};
    list_init(&n->partition.pending);
    if (n->disk.begin.first_index.v == 0) {
        n->disk.begin.first_index = LOG_INDEX(1);
    }
    n->disk.durable = n->disk.last;
    producers_init(&n->partition.producers);
    fold_anew(&n->partition);
    *ret_partition = &n->partition;
    return 0;
}

void partition_close(struct partition *p)
{
    assert(list_empty(&p->pending));
}

bool partition_failed(const struct partition *p)
{
    return p->failed;
}

struct log_index partition_first_index(const struct partition *p)
{
    return disk_of(p)->begin.first_index;
}

struct log_index partition_last_index(const struct partition *p)
{
    return LOG_INDEX(disk_of(p)->last);
}

struct log_index partition_durable_index(const struct partition *p)
{
    return LOG_INDEX(disk_of(p)->durable);
}

int partition_term_at(struct partition *p, struct log_index index, struct log_term *ret_term)
{
    if (index.v > disk_of(p)->last || index.v + 1 < disk_of(p)->begin.first_index.v) {
        return WEIR_ENOTFOUND;
    }
    *ret_term = LOG_TERM(index.v == 0 ? 0 : disk_of(p)->log[index.v].term);
    return 0;
}

struct log_index partition_config_index(struct partition *p, struct log_index upto)
{
    uint64_t i = upto.v < disk_of(p)->last ? upto.v : disk_of(p)->last;
    while (i >= disk_of(p)->begin.first_index.v && disk_of(p)->log[i].type != LOG_ENTRY_CONFIG) {
        i--;
    }
    return i >= disk_of(p)->begin.first_index.v ? LOG_INDEX(i) : disk_of(p)->begin.config_index;
}

static int64_t next_offset(const struct sim_disk *d, uint64_t index)
{
    const struct sim_entry *e = &d->log[index];
    if (index + 1 == d->begin.first_index.v) {
        return d->begin.first_offset.v;
    }
    return e->base + (e->type == LOG_ENTRY_BATCH ? (int64_t)load_le32(e->payload + 24) : 0);
}

void partition_append(struct partition *p, struct partition_append *req, partition_append_cb cb)
{
    struct sim_disk *d = disk_of(p);
    maybe_crash(p);
    req->cb = cb;
    req->first = LOG_INDEX(d->last + 1);
    for (unsigned i = 0; i < req->n; i++) {
        const struct log_entry *e = &req->entries[i];
        if (d->last + 2 >= SIM_LOG_MAX) {
            _Exit(0); /* a long run; nothing was wrong so far */
        }
        struct sim_entry *to = &d->log[++d->last];
        *to = (struct sim_entry){.term = e->term.v, .type = e->type, .len = e->len};
        to->base = next_offset(d, d->last - 1);
        to->payload = malloc(e->len + 1);
        assert(to->payload != NULL);
        memcpy(to->payload, e->payload, e->len);
        if (to->type == LOG_ENTRY_BATCH && (int64_t)load_le64(to->payload) != to->base) {
            sim_violate(SIM_DISK_MISUSE, p->node, "batch stamped with another offset than its own");
        }
        fold(p, to);
    }
    list_push_back(&p->pending, &req->link);
}

bool partition_busy(const struct partition *p)
{
    return !list_empty(&p->pending);
}

/* No room: everything that waits is taken back, and called back in order. */
static void reject_waiting(struct sim_node *n)
{
    struct list waiting, *el;
    list_init(&waiting);
    list_move_all(&waiting, &n->partition.pending);
    n->disk.last = list_entry(waiting.next, struct partition_append, link)->first.v - 1;
    n->checked = n->checked < n->disk.last ? n->checked : n->disk.last;
    fold_anew(&n->partition);
    while ((el = list_pop(&waiting)) != NULL) {
        struct partition_append *req = list_entry(el, struct partition_append, link);
        req->cb(req, WEIR_ENOSPC);
    }
}

bool sim_disk_step(struct sim_node *n, unsigned max)
{
    struct partition *p = &n->partition;
    if (!n->up || n->disk.stalled || list_empty(&p->pending)) {
        return false;
    }
    if ((sim.faults & FAULT_SPACE) != 0 && !sim.healing && sim_chance(1, 100)) {
        reject_waiting(n);
        return true;
    }
    for (unsigned i = 0; i < max && n->up && !list_empty(&p->pending); i++) {
        struct partition_append *req =
            list_entry(list_pop(&p->pending), struct partition_append, link);
        int status = write_fails(p, NULL);
        if (status == 0) {
            n->disk.durable = req->first.v + req->n - 1;
        }
        req->cb(req, status);
    }
    return true;
}

void sim_disk_crash(struct sim_node *n)
{
    struct sim_disk *d = &n->disk;
    /* The write was on its way: any prefix of it may have arrived, unless the disk failed. */
    uint64_t extra =
        d->last > d->durable && !d->bad ? sim_random() % (d->last - d->durable + 1) : 0;
    d->last = d->durable + (sim_chance(1, 2) ? extra : 0);
    d->durable = d->last;
    d->bad = d->stalled = false;
    n->checked = n->checked < d->last ? n->checked : d->last;
}

int partition_truncate(struct partition *p, struct log_index from, struct error *err)
{
    struct sim_disk *d = disk_of(p);
    maybe_crash(p);
    if (!list_empty(&p->pending)) {
        sim_violate(SIM_DISK_MISUSE, p->node, "truncation under an append in flight");
    }
    if (from.v <= p->commit) {
        sim_violate(SIM_LOST, p->node, "truncation below the own commit mark");
    }
    int rv = write_fails(p, err);
    if (rv != 0) {
        return rv;
    }
    for (uint64_t i = from.v; i <= d->last && i <= sim.committed_last; i++) {
        if (d->log[i].term == sim.committed[i].term) {
            sim_violate(SIM_LOST, p->node, "truncation of a committed entry");
        }
    }
    d->last = from.v - 1;
    d->durable = d->durable < d->last ? d->durable : d->last;
    p->node->checked = p->node->checked < d->last ? p->node->checked : d->last;
    fold_anew(p);
    maybe_crash(p);
    return 0;
}

int partition_read(struct partition *p, struct log_index first, uint64_t bytes_max,
                   partition_entry_cb cb, void *data, struct error *err)
{
    struct sim_disk *d = disk_of(p);
    uint64_t bytes = 0;
    if (first.v < d->begin.first_index.v) {
        sim_violate(SIM_DISK_MISUSE, p->node, "reads what is before the log's begin");
        return error_set(err, WEIR_ENOTFOUND, "before the log's begin");
    }
    for (uint64_t i = first.v; i <= d->last && (i == first.v || bytes < bytes_max); i++) {
        struct sim_entry *e = &d->log[i];
        struct partition_entry entry = {
            .index = LOG_INDEX(i),
            .term = LOG_TERM(e->term),
            .type = e->type,
            .base_offset = LOG_OFFSET(e->base),
            .payload = e->payload,
            .len = e->len,
        };
        int rv = cb(data, &entry);
        if (rv != 0) {
            return rv;
        }
        bytes += e->len;
    }
    return 0;
}

void partition_begin(const struct partition *p, struct partition_begin *ret_begin)
{
    *ret_begin = disk_of(p)->begin;
}

int partition_reset(struct partition *p, const struct partition_begin *begin, const void *config,
                    uint32_t config_len, struct error *err)
{
    struct sim_disk *d = disk_of(p);
    uint64_t first = begin->first_index.v;
    if (!list_empty(&p->pending)) {
        sim_violate(SIM_DISK_MISUSE, p->node, "reset under an append in flight");
    }
    maybe_crash(p);
    int rv = write_fails(p, err);
    if (rv != 0) {
        return rv;
    }
    for (uint64_t i = first; i <= d->last && i <= sim.committed_last; i++) {
        if (d->log[i].term == sim.committed[i].term) {
            sim_violate(SIM_LOST, p->node, "a reset throws a committed entry away");
        }
    }
    sim.n_resets++;
    d->begin = *begin;
    d->last = d->durable = p->commit = first - 1;
    d->log[first - 1].term = begin->prev_term.v;
    d->meta.snapshot_index = LOG_INDEX(first - 1);
    d->meta.snapshot_term = begin->prev_term;
    d->meta.snapshot_config_index = begin->config_index;
    d->meta.snapshot_config_len = config_len;
    assert(config_len <= sizeof(d->config));
    memcpy(d->config, config, config_len);
    p->node->checked = first - 1;
    fold_anew(p);
    maybe_crash(p);
    return 0;
}

/* --- Retention --- */

struct log_offset partition_start_offset(const struct partition *p)
{
    return disk_of(p)->begin.start_offset;
}

void partition_set_start(struct partition *p, struct log_offset start)
{
    if (start.v > disk_of(p)->begin.start_offset.v) {
        disk_of(p)->begin.start_offset = start;
    }
}

/* Nothing is compacted here: to libraft an entry is the same before and after. */
void partition_compact(struct partition *p, struct log_offset upto, int64_t tombstones_ms)
{
    (void)p;
    (void)upto;
    (void)tombstones_ms;
}

void partition_compaction(const struct partition *p, struct partition_compaction *ret)
{
    (void)p;
    *ret = (struct partition_compaction){.upto = {0}};
}

bool partition_compactable(const struct partition *p, struct log_offset *ret_upto)
{
    (void)p;
    (void)ret_upto;
    return false;
}

int64_t partition_time_at(struct partition *p, struct log_offset offset)
{
    (void)p;
    (void)offset;
    return 0;
}

/* The highest entry that could be the log's first. */
static uint64_t first_possible(const struct partition *p)
{
    const struct sim_disk *d = disk_of(p);
    uint64_t first = p->commit < d->durable ? p->commit : d->durable;
    while (first > d->begin.first_index.v && d->log[first].base > d->begin.start_offset.v) {
        first--;
    }
    return first;
}

struct log_index partition_removable(const struct partition *p)
{
    uint64_t first = first_possible(p);
    return LOG_INDEX(first > disk_of(p)->begin.first_index.v ? first - 1 : 0);
}

void partition_set_keep(struct partition *p, struct log_index index)
{
    struct sim_disk *d = disk_of(p);
    uint64_t first = first_possible(p);
    first = first < index.v + 1 ? first : index.v + 1;
    if (first <= d->begin.first_index.v || sim_chance(1, 3)) {
        return;
    }
    first -= sim_random() % (first - d->begin.first_index.v);
    maybe_crash(p);
    d->begin.config_index = partition_config_index(p, LOG_INDEX(first - 1));
    d->begin.prev_term = LOG_TERM(d->log[first - 1].term);
    d->begin.first_offset = LOG_OFFSET(d->log[first].base);
    d->begin.first_index = LOG_INDEX(first);
    maybe_crash(p);
}

int partition_retained_from(struct partition *p, int64_t oldest_ms, uint64_t bytes_max,
                            struct log_offset *ret_start, struct error *err)
{
    (void)oldest_ms;
    (void)bytes_max;
    (void)err;
    *ret_start = partition_start_offset(p);
    return 0;
}

int partition_export_state(struct partition *p, struct bytes *out, struct error *err)
{
    (void)p;
    (void)out;
    (void)err;
    return 0;
}

int partition_keep_import(struct partition *p, const void *data, size_t n, struct error *err)
{
    (void)data;
    (void)n;
    return p != NULL ? 0 : error_set(err, WEIR_EINVAL, "no partition");
}

int partition_import_state(struct partition *p, const void *data, size_t n, struct error *err)
{
    (void)p;
    (void)data;
    (void)n;
    (void)err;
    return 0;
}

void partition_meta(const struct partition *p, struct partition_meta *ret_meta)
{
    *ret_meta = disk_of(p)->meta;
    ret_meta->snapshot_config = disk_of(p)->config;
}

int partition_set_meta(struct partition *p, const struct partition_meta *meta, struct error *err)
{
    struct sim_disk *d = disk_of(p);
    maybe_crash(p);
    int rv = write_fails(p, err);
    if (rv != 0) {
        return rv;
    }
    if (meta->term.v < d->meta.term.v) {
        sim_violate(SIM_DISK_MISUSE, p->node, "the metadata's term goes back");
    }
    sim_check_snapshot(p->node, meta);
    assert(meta->snapshot_config_len <= sizeof(d->config));
    d->meta = *meta;
    if (meta->snapshot_config_len > 0) {
        memcpy(d->config, meta->snapshot_config, meta->snapshot_config_len);
    }
    maybe_crash(p);
    return 0;
}

/* Marks that may be lost: now and then they are. */
int partition_save_meta(struct partition *p, const struct partition_meta *meta, struct error *err)
{
    return sim_chance(1, 4) ? write_fails(p, err) : partition_set_meta(p, meta, err);
}

void partition_set_commit(struct partition *p, struct log_index index)
{
    if (index.v < p->commit) {
        sim_violate(SIM_COMMIT_BACK, p->node, "the commit mark goes back");
    }
    p->commit = index.v;
}

struct log_index partition_commit_index(const struct partition *p)
{
    return LOG_INDEX(p->commit);
}

struct log_offset partition_high_watermark(const struct partition *p)
{
    return LOG_OFFSET(next_offset(disk_of(p), p->commit));
}

struct log_offset partition_end_offset(const struct partition *p)
{
    return LOG_OFFSET(next_offset(disk_of(p), disk_of(p)->last));
}

int64_t partition_last_timestamp_ms(const struct partition *p)
{
    (void)p;
    return 0;
}

/* Instead of log/batch.h: the simulated batch carries what the checks need. */
void batch_stamp(void *data, struct log_offset base, struct log_term term, int64_t append_ms)
{
    (void)append_ms;
    store_le64(data, (uint64_t)base.v);
    store_le64((uint8_t *)data + 8, term.v);
}

struct batch_producer batch_producer_of(const void *data)
{
    const uint8_t *p = data;
    int32_t id = (int32_t)load_le32(p + 28);
    return (struct batch_producer){
        .id = id,
        .epoch = id < 0 ? -1 : 0,
        .sequence = (int32_t)load_le32(p + 32),
        .records = load_le32(p + 24),
    };
}

/* --- Damage: not modelled here --- */

bool partition_damaged(const struct partition *p)
{
    (void)p;
    return false;
}

unsigned partition_damage(struct partition *p, struct partition_hole *ret_holes, unsigned max)
{
    (void)p;
    (void)ret_holes;
    (void)max;
    return 0;
}

void partition_others_begin(struct partition *p, struct log_index index)
{
    (void)p;
    (void)index;
}

int partition_adopt_begin(struct partition *p, const struct partition_begin *begin,
                          struct error *err)
{
    (void)p;
    return error_set(err, WEIR_ENOTFOUND, "no hole before %llu",
                     (unsigned long long)begin->first_index.v);
}

int partition_mend(struct partition *p, struct log_index first, const struct log_entry *entries,
                   unsigned n, struct error *err)
{
    (void)p;
    (void)entries;
    return error_set(err, WEIR_ENOTFOUND, "no hole of %u from %llu", n,
                     (unsigned long long)first.v);
}
