#include "consensus/vote_log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "consensus/vote_block.h"

#define FILE_BYTES  (2u << 20)
#define PROBE_AT    (FILE_BYTES - VOTE_BLOCK_ALIGN)
#define PATH_BYTES  1024
#define RETRY_US    10000u
#define WIPE_PAGES  (2u * (VOTE_GROUPS_MAX * VOTE_RECORD_SIZE / VOTE_BLOCK_ALIGN + 1u))
#define PROBE_EVERY 500000000u

struct entry {
    uint32_t group;
    uint64_t term, vote;
    uint64_t version, durable; /* changes so far, and those on disk */
    uint64_t writing;          /* the version on its way; 0: none */
    bool lost;                 /* only a lower bound is known */
    struct vote_slot *slot;
    struct list dirty; /* in log->dirty */
};

struct vote_log {
    struct env *env;
    char dir[PATH_BYTES];
    struct env_file *file[2];
    unsigned active;
    uint64_t generation, sequence;
    size_t at;              /* where the next block goes */
    struct entry **entries; /* by group */
    uint32_t n_entries, cap_entries;
    struct list dirty;
    bool damaged; /* when it was opened: what is not known may have been promised */
    int failed;   /* 0, or why it takes no more */

    bool writing, wiping, probing, closing;
    uint64_t began_ns, wiped_ns, probed_ns; /* of what is on its way */
    uint64_t asked_ns;                      /* when the disk was last asked for anything */
    uint64_t answered_ns;                   /* when it last answered a group */
    bool turning;                           /* the write on its way begins a new generation */
    uint8_t *block;
    size_t block_cap;
    struct vote_record *records;
    uint32_t records_cap;
    struct env_io io, wipe_io, probe_io;
    struct iovec iov, wipe_iov[WIPE_PAGES], probe_iov;
    struct env_defer kick;
    struct env_timer retry;
    struct metric *writes;
};

static const uint8_t zeros[VOTE_BLOCK_ALIGN];

static void flush(struct env_defer *defer);
static void vote_log_free(struct vote_log *log);

/* After a close the last callback frees it. True: it is closing. */
static bool closed(struct vote_log *log)
{
    if (log->closing && !log->writing && !log->wiping && !log->probing) {
        vote_log_free(log);
        return true;
    }
    return log->closing;
}

/* --- The table --- */

static uint32_t position(const struct vote_log *log, uint32_t group)
{
    uint32_t low = 0, high = log->n_entries;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (log->entries[mid]->group < group) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* Finds or makes it. NULL: no memory, or too many. */
static struct entry *entry_get(struct vote_log *log, uint32_t group)
{
    uint32_t i = position(log, group);
    if (i < log->n_entries && log->entries[i]->group == group) {
        return log->entries[i];
    }
    if (log->n_entries == VOTE_GROUPS_MAX) {
        return NULL;
    }
    if (log->n_entries == log->cap_entries) {
        uint32_t cap = log->cap_entries == 0 ? 64 : log->cap_entries * 2;
        struct entry **more = realloc(log->entries, cap * sizeof(struct entry *));
        if (more == NULL) {
            return NULL;
        }
        log->entries = more;
        log->cap_entries = cap;
    }
    struct entry *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    e->group = group;
    list_init(&e->dirty);
    memmove(&log->entries[i + 1], &log->entries[i], (log->n_entries - i) * sizeof(struct entry *));
    log->entries[i] = e;
    log->n_entries++;
    return e;
}

/* --- Writing --- */

static int reserve(struct vote_log *log, uint32_t n)
{
    size_t need = 2 * vote_block_size(n);
    if (need > log->block_cap) {
        uint8_t *more = realloc(log->block, need);
        if (more == NULL) {
            return WEIR_ENOMEM;
        }
        log->block = more;
        log->block_cap = need;
    }
    if (n > log->records_cap) {
        struct vote_record *more = realloc(log->records, n * sizeof(*more));
        if (more == NULL) {
            return WEIR_ENOMEM;
        }
        log->records = more;
        log->records_cap = n;
    }
    return 0;
}

/* Fills log->block, twice; returns the bytes of both. */
static size_t encode(struct vote_log *log, uint32_t n)
{
    size_t size = vote_block_size(n);
    vote_block_encode(log->block, log->generation, log->sequence, log->records, n);
    memcpy(log->block + size, log->block, size);
    return 2 * size;
}

static void take(struct vote_log *log, struct entry *e, uint32_t *n)
{
    log->records[(*n)++] = (struct vote_record){e->group, e->term, e->vote};
    e->writing = e->version;
    list_remove(&e->dirty);
    list_init(&e->dirty);
}

static uint32_t take_all(struct vote_log *log)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < log->n_entries; i++) {
        struct entry *e = log->entries[i];
        if (e->version > 0 && !(e->lost && e->version == e->durable)) {
            take(log, e, &n);
        }
    }
    return n;
}

static uint32_t take_dirty(struct vote_log *log)
{
    uint32_t n = 0;
    while (!list_empty(&log->dirty)) {
        take(log, list_entry(log->dirty.next, struct entry, dirty), &n);
    }
    return n;
}

static void flush_later(struct vote_log *log)
{
    env_defer(log->env, &log->kick, flush);
}

/* Tells those whose newest change this was. */
static void tell(struct vote_log *log, int status)
{
    for (uint32_t i = 0; i < log->n_entries; i++) {
        struct entry *e = log->entries[i];
        if (e->writing == 0) {
            continue;
        }
        bool newest = e->writing == e->version;
        e->durable = status == 0 ? e->writing : e->durable;
        e->writing = 0;
        if (e->slot != NULL && (newest || status != 0)) {
            e->slot->cb(e->slot, status);
        }
    }
}

static void on_wiped(struct env_io *io, int status)
{
    struct vote_log *log = io->data;
    log->wiping = false;
    if (!closed(log) && status != 0) {
        log_warn("vote_log_not_wiped", "dir=\"%s\" reason=\"%s\"", log->dir, error_name(status));
    }
}

/* The file before must not be taken for the newest when this one is lost: its first block goes. */
static void wipe_other(struct vote_log *log)
{
    if (log->wiping) {
        return;
    }
    size_t pages = 2 * vote_block_size(log->n_entries) / VOTE_BLOCK_ALIGN;
    pages = pages < WIPE_PAGES ? pages : WIPE_PAGES;
    for (size_t i = 0; i < pages; i++) {
        log->wipe_iov[i].iov_base = (void *)(uintptr_t)zeros;
        log->wipe_iov[i].iov_len = sizeof(zeros);
    }
    log->wipe_io =
        (struct env_io){.data = log, .iov = log->wipe_iov, .n_iov = (unsigned)pages, .sync = true};
    log->wiping = true;
    log->wiped_ns = log->asked_ns = env_now_ns(log->env);
    env_file_write(log->file[1 - log->active], &log->wipe_io, on_wiped);
}

static void fail(struct vote_log *log, int status)
{
    log->failed = status;
    log_error("vote_log_failed", "dir=\"%s\" reason=\"%s\"", log->dir, error_name(status));
}

static void on_written(struct env_io *io, int status)
{
    struct vote_log *log = io->data;
    log->writing = false;
    if (closed(log)) {
        return;
    }
    if (status != 0) {
        fail(log, status);
    } else if (log->turning) {
        wipe_other(log);
    }
    log->turning = false;
    tell(log, status);
    if (!list_empty(&log->dirty)) {
        flush_later(log);
    }
}

static void on_retry(struct env_timer *timer)
{
    flush_later(timer->data);
}

/* The next block goes behind the last one, or, with all groups, to the other file. */
static uint32_t next_block(struct vote_log *log)
{
    uint32_t n = 0;
    LIST_FOREACH(it, &log->dirty)
    {
        n++;
    }
    if (log->at + 2 * vote_block_size(n) <= PROBE_AT && log->sequence < VOTE_BLOCKS_MAX) {
        log->sequence++;
        return take_dirty(log);
    }
    log->turning = true;
    log->active = 1 - log->active;
    log->generation++;
    log->sequence = 1;
    log->at = 0;
    return take_all(log);
}

static void fail_dirty(struct vote_log *log)
{
    while (!list_empty(&log->dirty)) {
        struct entry *e = list_entry(log->dirty.next, struct entry, dirty);
        list_remove(&e->dirty);
        list_init(&e->dirty);
        if (e->slot != NULL) {
            e->slot->cb(e->slot, log->failed);
        }
    }
}

static void flush(struct env_defer *defer)
{
    struct vote_log *log = defer->data;
    if (log->failed != 0) {
        fail_dirty(log);
        return;
    }
    if (log->writing || list_empty(&log->dirty)) {
        return;
    }
    if (reserve(log, log->n_entries) != 0) {
        env_timer_start(&log->retry, RETRY_US, on_retry);
        return;
    }
    uint32_t n = next_block(log);
    size_t bytes = encode(log, n);
    log->iov = (struct iovec){log->block, bytes};
    log->io =
        (struct env_io){.data = log, .iov = &log->iov, .n_iov = 1, .offset = log->at, .sync = true};
    log->at += bytes;
    log->writing = true;
    log->began_ns = log->asked_ns = env_now_ns(log->env);
    metric_add(log->writes, 1);
    env_file_write(log->file[log->active], &log->io, on_written);
}

/* --- Slots --- */

int vote_log_attach(struct vote_log *log, uint32_t group_id, struct vote_slot *slot,
                    enum vote_state *ret_state)
{
    struct entry *e = entry_get(log, group_id);
    if (e == NULL) {
        return WEIR_ENOMEM;
    }
    assert(e->slot == NULL);
    slot->log = log;
    slot->entry = e;
    slot->term = e->term;
    slot->vote = e->vote;
    e->slot = slot;
    *ret_state = e->lost || (log->damaged && e->version == 0) ? VOTES_LOST
                 : e->version == 0                            ? VOTES_NONE
                                                              : VOTES_KNOWN;
    e->lost = *ret_state == VOTES_LOST;
    return 0;
}

void vote_log_detach(struct vote_slot *slot)
{
    struct entry *e = slot->entry;
    if (e != NULL) {
        e->slot = NULL;
        slot->entry = NULL;
    }
}

void vote_log_put(struct vote_slot *slot, uint64_t term, uint64_t vote)
{
    struct entry *e = slot->entry;
    struct vote_log *log = slot->log;
    slot->term = e->term = term;
    slot->vote = e->vote = vote;
    e->version++;
    e->lost = false; /* the group knows what it does */
    if (list_empty(&e->dirty)) {
        list_push_back(&log->dirty, &e->dirty);
    }
    flush_later(log);
}

bool vote_log_settled(const struct vote_slot *slot)
{
    const struct entry *e = slot->entry;
    return e == NULL || e->version == e->durable;
}

/* --- Is the disk there? --- */

uint64_t vote_log_waits_ns(const struct vote_log *log)
{
    uint64_t now_ns = env_now_ns(log->env), since_ns = now_ns;
    since_ns = log->writing && log->began_ns < since_ns ? log->began_ns : since_ns;
    since_ns = log->wiping && log->wiped_ns < since_ns ? log->wiped_ns : since_ns;
    since_ns = log->probing && log->probed_ns < since_ns ? log->probed_ns : since_ns;
    return now_ns - since_ns;
}

static void on_probed(struct env_io *io, int status)
{
    struct vote_log *log = io->data;
    log->probing = false;
    if (!closed(log) && status != 0 && log->failed == 0) {
        fail(log, status);
    }
}

void vote_log_answered(struct vote_log *log)
{
    log->asked_ns = log->answered_ns = env_now_ns(log->env);
}

uint64_t vote_log_answered_ns(const struct vote_log *log)
{
    return log->answered_ns;
}

void vote_log_probe(struct vote_log *log)
{
    uint64_t now_ns = env_now_ns(log->env);
    if (log->writing || log->probing || log->wiping || log->failed != 0 ||
        now_ns - log->asked_ns < PROBE_EVERY) {
        return;
    }
    log->probe_iov = (struct iovec){(void *)(uintptr_t)zeros, sizeof(zeros)};
    log->probe_io = (struct env_io){
        .data = log, .iov = &log->probe_iov, .n_iov = 1, .offset = PROBE_AT, .sync = true};
    log->probing = true;
    log->probed_ns = log->asked_ns = now_ns;
    env_file_write(log->file[log->active], &log->probe_io, on_probed);
}

/* --- Opening --- */

static void take_record(struct vote_log *log, const struct vote_record *record, bool *ret_full)
{
    struct entry *e = entry_get(log, record->group);
    if (e == NULL) {
        *ret_full = true;
        return;
    }
    e->term = record->term;
    e->vote = record->vote;
    e->version = e->durable = 1;
}

static int take_file(struct vote_log *log, const uint8_t *data, size_t len,
                     const struct vote_scan *scan)
{
    bool full = false;
    for (uint32_t k = 1; k <= scan->n_blocks; k++) {
        struct vote_block b;
        struct vote_record record;
        if (!scan->there[k] || !vote_block_decode(data + scan->at[k], len - scan->at[k], &b)) {
            continue;
        }
        for (uint32_t i = 0; i < b.n; i++) {
            vote_block_record(&b, i, &record);
            take_record(log, &record, &full);
        }
    }
    return full ? WEIR_ENOMEM : 0;
}

static int read_whole(struct vote_log *log, unsigned i, uint8_t **ret_data, size_t *ret_len,
                      struct error *err)
{
    uint64_t size = 0;
    int rv = env_file_size(log->file[i], &size, err);
    if (rv != 0) {
        return rv;
    }
    size = size < FILE_BYTES ? size : FILE_BYTES;
    uint8_t *data = malloc(FILE_BYTES);
    if (data == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the vote log");
    }
    rv = env_file_pread(log->file[i], data, size, 0, ret_len, err);
    if (rv != 0) {
        free(data);
        return rv;
    }
    *ret_data = data;
    return 0;
}

/* Terms and votes of the file with the newest generation. If that one is short it was whole once: a
 * generation begins in a file of full size. If it is gone, the other one has no first block. */
static int read_files(struct vote_log *log, struct error *err)
{
    uint8_t *data[2] = {NULL, NULL};
    size_t len[2] = {0, 0};
    struct vote_scan *scan = calloc(2, sizeof(*scan));
    int rv = scan == NULL ? error_set(err, WEIR_ENOMEM, "no memory for the vote log") : 0;
    for (unsigned i = 0; i < 2 && rv == 0; i++) {
        rv = read_whole(log, i, &data[i], &len[i], err);
        if (rv == 0) {
            vote_scan(data[i], len[i], &scan[i]);
        }
    }
    if (rv == 0) {
        unsigned newest = scan[1].generation > scan[0].generation ? 1 : 0;
        bool made = scan[newest].generation > 0;
        log->generation = scan[newest].generation;
        log->active = newest;
        log->damaged = made && (!scan[newest].whole || len[newest] < FILE_BYTES);
        rv = take_file(log, data[newest], len[newest], &scan[newest]);
        if (rv == 0 && log->damaged) {
            /* What the older one says may be more than nothing. */
            for (uint32_t i = 0; i < log->n_entries; i++) {
                log->entries[i]->lost = true;
            }
            log_error("vote_log_damaged", "dir=\"%s\" generation=%" PRIu64 " blocks=%u", log->dir,
                      log->generation, scan[newest].n_blocks);
        } else if (rv != 0) {
            rv = error_set(err, rv, "no memory for the votes of so many groups");
        }
    }
    free(data[0]);
    free(data[1]);
    free(scan);
    return rv;
}

/* All groups into the other file, then the first one's beginning goes. What was read may not have
 * been durable; now it is. A damaged log stays as it is until its groups have learned anew. */
static int begin_generation(struct vote_log *log, struct error *err)
{
    if (reserve(log, log->n_entries) != 0) {
        return error_set(err, WEIR_ENOMEM, "no memory for the vote log");
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < log->n_entries; i++) {
        struct entry *e = log->entries[i];
        if (!e->lost) {
            log->records[n++] = (struct vote_record){e->group, e->term, e->vote};
        }
    }
    log->active = 1 - log->active;
    log->generation++;
    log->sequence = 1;
    size_t bytes = encode(log, n);
    int rv = env_file_pwrite(log->file[log->active], log->block, bytes, 0, err);
    /* Its full size has to be durable too, whatever became of earlier syncs: short means damaged.
     */
    rv =
        rv == 0 ? env_file_pwrite(log->file[log->active], zeros, sizeof(zeros), PROBE_AT, err) : rv;
    rv = rv == 0 ? env_file_sync(log->file[log->active], err) : rv;
    for (size_t at = 0; rv == 0 && at < bytes; at += sizeof(zeros)) {
        rv = env_file_pwrite(log->file[1 - log->active], zeros, sizeof(zeros), at, err);
    }
    rv = rv == 0 ? env_file_sync(log->file[1 - log->active], err) : rv;
    log->at = bytes;
    return rv;
}

static int open_files(struct vote_log *log, struct error *err)
{
    int rv = 0;
    for (unsigned i = 0; i < 2 && rv == 0; i++) {
        char path[PATH_BYTES + 16];
        (void)snprintf(path, sizeof(path), "%s/votes.%u", log->dir, i);
        rv = env_file_open(log->env, path, ENV_OPEN_WRITE, &log->file[i], err);
        if (rv == WEIR_ENOTFOUND) {
            rv =
                env_file_open(log->env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &log->file[i], err);
        }
    }
    return rv;
}

static int vote_log_begin(struct vote_log *log, struct error *err)
{
    int rv = env_timer_init(log->env, &log->retry);
    log->retry.data = log->kick.data = log;
    rv = rv == 0 ? env_dir_make(log->env, log->dir, err) : rv;
    rv = rv == 0 ? open_files(log, err) : rv;
    rv = rv == 0 ? read_files(log, err) : rv;
    for (unsigned i = 0; i < 2 && rv == 0; i++) {
        rv = env_file_allocate(log->file[i], FILE_BYTES, err);
    }
    /* The names first: a generation in one file, and no other file, would be damage. */
    rv = rv == 0 ? env_dir_sync(log->env, log->dir, err) : rv;
    return rv == 0 ? begin_generation(log, err) : rv;
}

static void vote_log_free(struct vote_log *log)
{
    for (uint32_t i = 0; i < log->n_entries; i++) {
        free(log->entries[i]);
    }
    env_file_close(log->file[0]);
    env_file_close(log->file[1]);
    env_timer_close(&log->retry);
    env_defer_cancel(&log->kick);
    free(log->entries);
    free(log->records);
    free(log->block);
    free(log);
}

void vote_log_close(struct vote_log *log)
{
    if (log == NULL) {
        return;
    }
    for (uint32_t i = 0; i < log->n_entries; i++) {
        assert(log->entries[i]->slot == NULL);
    }
    env_file_wait(log->file[0]);
    env_file_wait(log->file[1]);
    env_timer_stop(&log->retry);
    env_defer_cancel(&log->kick);
    log->closing = true;
    (void)closed(log);
}

int vote_log_open(struct env *env, const char *dir, struct vote_log **ret_log, struct error *err)
{
    if (strlen(dir) >= PATH_BYTES) {
        return error_set(err, WEIR_EINVAL, "vote log: the path is too long");
    }
    struct vote_log *log = calloc(1, sizeof(*log));
    if (log == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the vote log");
    }
    log->env = env;
    memcpy(log->dir, dir, strlen(dir) + 1);
    list_init(&log->dirty);
    list_init(&log->kick.link);
    log->writes = metric_counter("weir_raft_vote_writes_total", "", "Writes of terms and votes");
    struct error why = {0};
    int rv = vote_log_begin(log, &why);
    if (rv != 0) {
        vote_log_free(log);
        return error_set(err, rv, "vote log in %.600s: %.300s", dir, why.text);
    }
    log->asked_ns = env_now_ns(env);
    *ret_log = log;
    return 0;
}
