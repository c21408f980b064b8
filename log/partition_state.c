/* What a partition's entries fold to, along with the log: folded on with every append, copied now
 * and then so that it can be taken back when entries are removed, and kept in files so that opening
 * does not read the whole log. Whatever fails here costs reading, or leaves producers unknown; it
 * never stops the log. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

#define NAME_SIZE 32
#define TMP_NAME  "state.tmp"
/* The state that came from another replica with the last reset. Its entries may never have been
 * here, so it can't be made anew by reading; and it may be ahead of the log's end, where any other
 * file is of entries that were removed. */
#define IMPORTED_NAME     "imported.state"
#define IMPORTED_TMP_NAME "imported.tmp"
/* A copy per this much log, and per so many times its own size. */
#define COPY_BYTES (1U << 20)
#define COPY_TIMES 16

int state_init(struct partition *p)
{
    struct partition_state *st = &p->state;
    log_state_init(&st->now);
    bytes_init(&st->safe, STATE_BYTES_MAX);
    bytes_init(&st->young, STATE_BYTES_MAX);
    bytes_init(&st->waiting, STATE_BYTES_MAX);
    bytes_init(&st->writing, STATE_BYTES_MAX);
    st->op = calloc(1, sizeof(*st->op));
    if (st->op == NULL) {
        return WEIR_ENOMEM;
    }
    st->op->p = p;
    return 0;
}

void state_free(struct partition *p)
{
    struct partition_state *st = &p->state;
    env_file_close(st->file);
    background_release(st->op);
    log_state_close(&st->now);
    bytes_close(&st->safe);
    bytes_close(&st->young);
    bytes_close(&st->waiting);
    bytes_close(&st->writing);
}

const struct producers *partition_producers(const struct partition *p)
{
    return &p->state.now.producers;
}

/* --- Files --- */

/* Named by the entry behind it, as a segment is by its first one. */
static const char *state_path(struct partition *p, uint64_t index)
{
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof(name), "%020" PRIu64 STATE_SUFFIX, index + 1);
    return partition_path(p, name);
}

static void file_remove(struct partition *p, unsigned i)
{
    struct partition_state *st = &p->state;
    (void)env_unlink(p->env, state_path(p, st->files[i]), NULL);
    st->n_files--;
    memmove(&st->files[i], &st->files[i + 1], (st->n_files - i) * sizeof(st->files[0]));
}

static void file_add(struct partition *p, uint64_t index)
{
    struct partition_state *st = &p->state;
    if (st->n_files > 0 && st->files[st->n_files - 1] >= index) {
        return;
    }
    if (st->n_files == STATE_FILES_MAX) {
        file_remove(p, 0);
    }
    st->files[st->n_files++] = index;
}

bool state_name(struct partition *p, const char *name)
{
    uint64_t next = 0;
    size_t n = strlen(name), digits = 20;
    if (n != digits + strlen(STATE_SUFFIX) || strcmp(name + digits, STATE_SUFFIX) != 0) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        if (name[i] < '0' || name[i] > '9' || next > UINT64_MAX / 10 - 1) {
            return false;
        }
        next = next * 10 + (uint64_t)(name[i] - '0');
    }
    if (next > 1) {
        file_add(p, next - 1); /* names come in order */
    }
    return true;
}

static void keep_newest(struct partition *p)
{
    while (p->state.n_files > STATE_FILES_KEPT) {
        file_remove(p, 0);
    }
}

static int file_read(struct partition *p, const char *path, struct bytes *out, struct error *err)
{
    struct env_file *file;
    uint64_t size = 0;
    int rc = env_file_open(p->env, path, ENV_OPEN_READ, &file, err);
    if (rc != 0) {
        return rc;
    }
    rc = env_file_size(file, &size, err);
    if (rc == 0) {
        uint8_t *at = size > 0 && size <= STATE_BYTES_MAX ? bytes_reserve(out, size) : NULL;
        rc = at == NULL ? error_set(err, WEIR_ECORRUPT, "%" PRIu64 " bytes", size)
                        : env_file_pread(file, at, size, 0, &out->len, err);
    }
    env_file_close(file);
    return rc;
}

/* Is it the state of a beginning of this very log? */
static bool fits(struct partition *p, const struct log_state *s)
{
    struct log_term term;
    return partition_term_at(p, s->index, &term) == 0 && term.v == s->term.v;
}

static bool file_load(struct partition *p, uint64_t index, struct log_state *s)
{
    struct bytes data;
    struct error err = {0};
    bytes_init(&data, STATE_BYTES_MAX);
    int rc = file_read(p, state_path(p, index), &data, &err);
    if (rc == 0) {
        rc = log_state_decode(s, data.data, data.len, &err);
    }
    if (rc == 0 && (s->index.v != index || !fits(p, s))) {
        rc = error_set(&err, WEIR_ECORRUPT, "it belongs to another log");
    }
    bytes_close(&data);
    if (rc != 0) {
        log_warn("log_state_not_used", "dir=" LOG_Q " index=%" PRIu64 " reason=" LOG_Q, p->dir,
                 index, err.text);
    }
    return rc == 0;
}

/* The file of the last reset; false: there is none that is good. */
static bool imported_read(struct partition *p, struct log_state *s)
{
    struct bytes data;
    struct error err = {0};
    bytes_init(&data, STATE_BYTES_MAX);
    int rc = file_read(p, partition_path(p, IMPORTED_NAME), &data, &err);
    if (rc == 0) {
        rc = log_state_decode(s, data.data, data.len, &err);
    }
    bytes_close(&data);
    if (rc != 0 && rc != WEIR_ENOTFOUND) {
        log_warn("log_state_not_used", "dir=" LOG_Q " file=" IMPORTED_NAME " reason=" LOG_Q, p->dir,
                 err.text);
    }
    return rc == 0;
}

static bool imported_load(struct partition *p, struct log_state *s)
{
    if (imported_read(p, s) && s->index.v == p->state.imported && fits(p, s)) {
        return true;
    }
    log_state_close(s);
    return false;
}

int partition_keep_import(struct partition *p, const void *data, size_t n, struct error *err)
{
    char from[sizeof(p->path)];
    struct env_file *file = NULL;
    memcpy(from, partition_path(p, IMPORTED_TMP_NAME), sizeof(from));
    int rc = env_file_open(p->env, from, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, err);
    if (rc == 0) {
        rc = env_file_pwrite(file, data, n, 0, err);
        rc = rc == 0 ? env_file_truncate(file, n, err) : rc;
        rc = rc == 0 ? env_file_sync(file, err) : rc;
        env_file_close(file);
    }
    rc = rc == 0 ? env_rename(p->env, from, partition_path(p, IMPORTED_NAME), err) : rc;
    return rc == 0 ? env_dir_sync(p->env, p->dir, err) : rc;
}

/* --- Folding what is in the log --- */

static int fold_some(struct partition *p, struct log_state *s, uint64_t last, struct error *err)
{
    struct walk w;
    struct frame f;
    const uint8_t *payload;
    int rc = 0;
    walk_init(&w, p, s->index.v + 1);
    while (rc == 0 && s->index.v < last) {
        uint32_t need = 0;
        rc = walk_next(&w, &f, &payload, err);
        if (rc != 1) {
            rc = rc == 0 ? error_set(err, WEIR_ECORRUPT, "%s: ends too early", p->dir) : rc;
            break;
        }
        rc = log_state_reserve(s, f.type, payload, &need);
        if (rc == 0) {
            log_state_fold(s, f.index, f.term, f.type, payload);
        } else {
            (void)error_set(err, rc, "%s: out of memory", p->dir);
        }
    }
    walk_close(&w);
    return rc;
}

/* What can't be read is passed over, a segment at a time: its producers count as forgotten. */
static void fold_upto(struct partition *p, struct log_state *s, uint64_t last)
{
    struct error err = {0};
    while (s->index.v < last && fold_some(p, s, last, &err) != 0) {
        const struct segment *seg = p->segments[partition_segment_at(p, s->index.v + 1)];
        struct log_index upto = seg->s.last_index;
        if (partition_damaged(p) && p->state.guessed == 0) {
            p->state.guessed = s->index.v + 1;
        }
        if (upto.v > last || upto.v <= s->index.v) {
            upto = LOG_INDEX(last);
        }
        log_warn("log_producers_forgotten",
                 "dir=" LOG_Q " first=%" PRIu64 " last=%" PRIu64 " reason=" LOG_Q, p->dir,
                 s->index.v + 1, upto.v, err.text);
        producers_forget(&s->producers, seg->s.last_time_ms);
        s->index = upto;
        s->term = LOG_TERM(0);
        (void)partition_term_at(p, upto, &s->term);
    }
}

/* The state before the first entry. */
static void begin_at_first(struct partition *p, struct log_state *s)
{
    uint64_t first = partition_first_index(p).v;
    log_state_close(s);
    s->index = LOG_INDEX(first - 1);
    if (first > 1) { /* what was there before is not known */
        producers_forget(&s->producers, p->begin.time_ms);
    }
}

static bool copy_load(const struct bytes *copy, uint64_t index, uint64_t upto, struct log_state *s)
{
    return copy->len > 0 && index <= upto && log_state_decode(s, copy->data, copy->len, NULL) == 0;
}

/* The newest file, or the state of the last reset when none is newer. */
static bool stored_load(struct partition *p, uint64_t upto, struct log_state *s)
{
    struct partition_state *st = &p->state;
    bool imported = st->imported != 0 && st->imported <= upto;
    for (unsigned i = st->n_files; i-- > 0;) {
        if (imported && st->files[i] < st->imported) {
            imported = false;
            if (imported_load(p, s)) {
                return true;
            }
        }
        if (st->files[i] <= upto && st->files[i] + 1 >= partition_first_index(p).v &&
            file_load(p, st->files[i], s)) {
            return true;
        }
    }
    return imported && imported_load(p, s);
}

/* The state when the log ended at `upto`, or (floor) the earliest that is known. */
static void state_at(struct partition *p, uint64_t upto, struct log_state *s)
{
    struct partition_state *st = &p->state;
    uint64_t reach = upto < st->floor ? st->floor : upto;
    if (!copy_load(&st->young, st->young_index, reach, s) &&
        !copy_load(&st->safe, st->safe_index, reach, s)) {
        if (!stored_load(p, upto, s)) {
            begin_at_first(p, s);
        }
    }
    fold_upto(p, s, upto);
}

void state_reset(struct partition *p)
{
    struct partition_state *st = &p->state;
    if (st->op->busy) {
        env_file_wait(st->file);
    }
    while (st->n_files > 0) {
        file_remove(p, st->n_files - 1);
    }
    bytes_reset(&st->safe);
    bytes_reset(&st->young);
    bytes_reset(&st->waiting);
    st->writing_index = UINT64_MAX; /* what is on its way to a file comes from another life */
    st->floor = st->imported = st->since_bytes = 0;
    begin_at_first(p, &st->now);
}

/* Into memory that is there from the last time; without memory there is no copy. */
static void copy_make(const struct log_state *s, struct bytes *copy, uint64_t *ret_index)
{
    bytes_reset(copy);
    log_state_encode(s, copy);
    if (bytes_error(copy) != 0) {
        bytes_reset(copy);
    }
    *ret_index = s->index.v;
}

/* The state that came with the last reset; true: it is ahead of the log, and the one to go on
 * with. */
static bool load_imported(struct partition *p)
{
    struct partition_state *st = &p->state;
    struct log_state s;
    log_state_init(&s);
    bool good = imported_read(p, &s) && s.index.v + 1 >= partition_first_index(p).v;
    st->imported = good ? s.index.v : 0;
    bool ahead = good && s.index.v > last_index_of(p);
    if (ahead) {
        log_state_close(&st->now);
        st->now = s;
        st->floor = s.index.v;
        copy_make(&st->now, &st->safe, &st->safe_index);
    } else {
        log_state_close(&s);
    }
    return ahead;
}

void state_load(struct partition *p)
{
    struct partition_state *st = &p->state;
    uint64_t last = last_index_of(p);
    while (st->n_files > 0 && st->files[st->n_files - 1] > last) {
        file_remove(p, st->n_files - 1);
    }
    if (load_imported(p)) {
        return;
    }
    state_at(p, last, &st->now);
    copy_make(&st->now, &st->young, &st->young_index); /* who asks for it later need not read */
    keep_newest(p);
}

/* --- Folding what comes --- */

int state_reserve(struct partition *p, const struct log_entry *e, uint32_t *need)
{
    return log_state_reserve(&p->state.now, e->type, e->payload, need);
}

static void copy_perhaps(struct partition *p)
{
    struct partition_state *st = &p->state;
    uint64_t every = st->safe.len * COPY_TIMES;
    if (st->young.len > 0 && st->young_index <= p->commit) {
        struct bytes old = st->safe;
        st->safe = st->young;
        st->safe_index = st->young_index;
        st->young = old;
        bytes_reset(&st->young);
    }
    if (st->young.len == 0 && st->since_bytes >= (every > COPY_BYTES ? every : COPY_BYTES)) {
        copy_make(&st->now, &st->young, &st->young_index);
        st->since_bytes = 0;
    }
}

void state_take(struct partition *p, const struct partition_append *req, uint32_t segments)
{
    struct partition_state *st = &p->state;
    for (unsigned i = 0; i < req->n; i++) {
        const struct log_entry *e = &req->entries[i];
        struct log_index index = LOG_INDEX(req->first.v + i);
        if (p->n_segments > segments &&
            p->segments[partition_segment_at(p, index.v)]->first_index.v == index.v) {
            copy_make(&st->now, &st->waiting, &st->waiting_index);
        }
        log_state_fold(&st->now, index, e->term, e->type, e->payload);
        st->since_bytes += frame_size(e->len);
    }
    copy_perhaps(p);
}

void state_rewind(struct partition *p)
{
    struct partition_state *st = &p->state;
    uint64_t last = last_index_of(p);
    if (st->now.index.v <= last || st->now.index.v == st->floor) {
        return;
    }
    if (st->waiting_index > last) {
        bytes_reset(&st->waiting);
    }
    if (st->young_index > last) {
        bytes_reset(&st->young);
    }
    if (st->safe_index > last && st->safe_index > st->floor) {
        bytes_reset(&st->safe);
    }
    while (st->n_files > 0 && st->files[st->n_files - 1] > last) {
        file_remove(p, st->n_files - 1);
    }
    state_at(p, last, &st->now);
    st->since_bytes = 0;
}

void state_mended(struct partition *p)
{
    struct partition_state *st = &p->state;
    if (st->guessed == 0 || p->holes.n > 0 || st->now.index.v != last_index_of(p)) {
        return;
    }
    bytes_reset(&st->waiting);
    bytes_reset(&st->young);
    bytes_reset(&st->safe);
    while (st->n_files > 0 && st->files[st->n_files - 1] >= st->guessed) {
        file_remove(p, st->n_files - 1);
    }
    st->guessed = 0;
    state_at(p, last_index_of(p), &st->now);
}

/* --- To another replica --- */

int partition_export_state(struct partition *p, struct bytes *out, struct error *err)
{
    struct log_state s;
    log_state_init(&s);
    state_at(p, p->commit, &s);
    log_state_encode(&s, out);
    log_state_close(&s);
    int rc = bytes_error(out);
    return rc == 0 ? 0 : error_set(err, rc, "%s: state: %s", p->dir, error_name(rc));
}

int partition_import_state(struct partition *p, const void *data, size_t n, struct error *err)
{
    struct partition_state *st = &p->state;
    int rc = log_state_decode(&st->now, data, n, err);
    if (rc != 0) {
        return rc;
    }
    uint64_t last = last_index_of(p);
    st->floor = st->now.index.v > last ? st->now.index.v : 0;
    bytes_reset(&st->young);
    copy_make(&st->now, &st->safe, &st->safe_index);
    return 0;
}

/* --- Writing --- */

static void written(struct partition *p, uint64_t index)
{
    char from[sizeof(p->path)];
    struct error err = {0};
    memcpy(from, partition_path(p, TMP_NAME), sizeof(from));
    if (env_rename(p->env, from, state_path(p, index), &err) == 0) {
        file_add(p, index);
        keep_newest(p);
    } else {
        log_warn("log_state_not_saved", "dir=" LOG_Q " error=" LOG_Q, p->dir, err.text);
    }
}

static int open_tmp(struct partition *p, size_t n, struct error *err)
{
    struct partition_state *st = &p->state;
    int rc = 0;
    if (st->file == NULL) {
        rc = env_file_open(p->env, partition_path(p, TMP_NAME), ENV_OPEN_WRITE | ENV_OPEN_CREATE,
                           &st->file, err);
    }
    return rc == 0 ? env_file_truncate(st->file, n, err) : rc;
}

static void close_tmp(struct partition *p)
{
    env_file_close(p->state.file);
    p->state.file = NULL;
}

static void on_state_written(struct env_io *io, int status)
{
    struct background *op = io->data;
    struct partition *p = op->p;
    op->busy = false;
    if (p == NULL) {
        free(op);
        return;
    }
    close_tmp(p);
    /* Entries that went away meanwhile took it along. */
    if (status == 0 && p->state.writing_index <= p->durable) {
        written(p, p->state.writing_index);
    } else if (status != 0) {
        log_warn("log_state_not_saved", "dir=" LOG_Q " error=" LOG_Q, p->dir, error_name(status));
    }
    state_save(p);
}

/* Not synced: what a power failure leaves of it is known by its checksum. */
void state_save(struct partition *p)
{
    struct partition_state *st = &p->state;
    struct background *op = st->op;
    struct error err = {0};
    if (st->waiting.len == 0 || st->guessed != 0 || op->busy || p->failed ||
        st->waiting_index > p->durable) {
        return;
    }
    struct bytes spare = st->writing;
    st->writing = st->waiting;
    st->writing_index = st->waiting_index;
    st->waiting = spare;
    bytes_reset(&st->waiting);
    if (open_tmp(p, st->writing.len, &err) != 0) {
        log_warn("log_state_not_saved", "dir=" LOG_Q " error=" LOG_Q, p->dir, err.text);
        close_tmp(p);
        return;
    }
    op->iov = (struct iovec){st->writing.data, st->writing.len};
    op->io = (struct env_io){.data = op, .iov = &op->iov, .n_iov = 1};
    op->busy = true;
    env_file_write(st->file, &op->io, on_state_written);
}

void state_close(struct partition *p)
{
    struct partition_state *st = &p->state;
    struct error err = {0};
    if (st->op->busy) {
        env_file_wait(st->file);
        close_tmp(p);
    }
    uint64_t last = last_index_of(p);
    bool saved = st->n_files > 0 && st->files[st->n_files - 1] == last;
    if (p->failed || st->guessed != 0 || saved || last == 0 || st->now.index.v != last) {
        return;
    }
    bytes_reset(&st->writing);
    log_state_encode(&st->now, &st->writing);
    int rc = bytes_error(&st->writing);
    if (rc == 0) {
        rc = open_tmp(p, st->writing.len, &err);
    } else {
        (void)error_set(&err, rc, "%s", error_name(rc));
    }
    if (rc == 0) {
        rc = env_file_pwrite(st->file, st->writing.data, st->writing.len, 0, &err);
    }
    close_tmp(p);
    if (rc == 0) {
        written(p, last);
    } else {
        log_warn("log_state_not_saved", "dir=" LOG_Q " error=" LOG_Q, p->dir, err.text);
    }
}
