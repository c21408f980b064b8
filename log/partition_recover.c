/* Opening. All checks come first; only when they have passed is anything changed on disk.
 *
 * What is trusted: a closed segment with a close record that fits its successor. What is read: any
 * other segment, from its first frame. All but the last segment must be whole. In the last one the
 * first bad frame, with index j, is the end of the log if nothing says that j was durable: not the
 * mark, not the synced index of any good frame before or behind it. Else it is damage. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_recover.h"

#define REWRITE_BYTES (1U << 20)

/* --- The folder --- */

struct listing {
    struct partition *p;
    bool has_next;
};

static int on_name(void *data, const char *name)
{
    struct listing *l = data;
    uint64_t first = segment_name_parse(name);
    l->has_next = l->has_next || strcmp(name, NEXT_NAME) == 0;
    if (first == 0) {
        (void)state_name(l->p, name);
        return 0;
    }
    struct segment *seg = segment_push(l->p); /* names come in order */
    if (seg == NULL) {
        return WEIR_ENOMEM;
    }
    seg->first_index = LOG_INDEX(first);
    return 0;
}

/* --- Small files --- */

/* Reads up to n bytes of dir/name into buf; an absent or short file leaves zeros. */
static int read_small(struct partition *p, const char *name, uint8_t *buf, size_t n,
                      struct error *err)
{
    struct env_file *file;
    size_t got;
    memset(buf, 0, n);
    int rc = env_file_open(p->env, partition_path(p, name), ENV_OPEN_READ, &file, err);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? 0 : rc;
    }
    rc = env_file_pread(file, buf, n, 0, &got, err);
    env_file_close(file);
    return rc;
}

static int load_meta(struct partition *p, struct error *err)
{
    uint8_t mark[MARK_SIZE];
    int rc = read_small(p, "mark", mark, sizeof(mark), err);
    if (rc == 0 && !mark_decode(mark, &p->mark)) {
        p->mark = (struct mark){0};
    }
    uint8_t *slots = malloc(META_FILE_SIZE);
    struct meta *other = malloc(sizeof(*other));
    if (slots == NULL || other == NULL) {
        rc = error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    if (rc == 0) {
        rc = read_small(p, "meta", slots, META_FILE_SIZE, err);
    }
    if (rc == 0) {
        for (unsigned i = 0; i < 2; i++) {
            if (meta_decode(slots + i * META_SLOT_SIZE, other) &&
                meta_position(other->counter) == i * META_SLOT_SIZE &&
                other->counter > p->meta.counter) {
                p->meta = *other;
            }
        }
    }
    free(slots);
    free(other);
    return rc;
}

static int check_files(struct partition *p, struct error *err)
{
    if (p->meta.counter < p->mark.meta_counter || (p->meta.counter == 0 && p->n_segments > 0)) {
        return error_set(err, WEIR_ECORRUPT,
                         "%s: byte 0: no slot with a good checksum and a counter of at least "
                         "%" PRIu64,
                         partition_path(p, "meta"), p->mark.meta_counter);
    }
    if (p->n_segments == 0 && p->mark.synced.v > 0) {
        return error_set(err, WEIR_ECORRUPT,
                         "%s: no segment file, but entries up to %" PRIu64 " were synced", p->dir,
                         p->mark.synced.v);
    }
    uint64_t first = p->begin.first_index.v;
    if (p->n_segments > 0 ? p->segments[0]->first_index.v != first : first != 1) {
        return error_set(err, WEIR_ECORRUPT, "%s: the file is missing",
                         partition_segment_path(p, first));
    }
    return 0;
}

/* --- Segments --- */

static int corrupt(struct partition *p, const struct segment *seg, struct error *err,
                   const char *what)
{
    return error_set(err, WEIR_ECORRUPT, "%s: %s", partition_segment_path(p, seg->first_index.v),
                     what);
}

static int load_header(struct partition *p, struct segment *seg, struct segment_close *ret_close,
                       bool *ret_closed, struct error *err)
{
    uint8_t buf[SEGMENT_HEADER_SIZE] = {0};
    struct segment_header header;
    size_t n;
    int rc = env_file_open(p->env, partition_segment_path(p, seg->first_index.v),
                           ENV_OPEN_WRITE | ENV_OPEN_APPEND, &seg->file, err);
    if (rc == 0) {
        rc = env_file_size(seg->file, &seg->size, err);
    }
    if (rc == 0) {
        rc = env_file_pread(seg->file, buf, sizeof(buf), 0, &n, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (!segment_header_decode(buf, &header)) {
        return corrupt(p, seg, err, "at byte 0: wrong checksum of the segment's header");
    }
    if (header.first_index.v != seg->first_index.v) {
        return corrupt(p, seg, err, "at byte 16: the first index is not that of the name");
    }
    seg->first_offset = header.first_offset;
    seg->salt = header.salt;
    *ret_closed = segment_close_decode(buf + SEGMENT_CLOSE_AT, header.salt, ret_close);
    return 0;
}

/* Where the description of segment i begins: at the end of the one before it. */
static int chain(struct partition *p, uint32_t i, struct error *err)
{
    struct segment *seg = p->segments[i];
    int64_t due = i > 0 ? p->segments[i - 1]->s.next_offset.v : p->begin.first_offset.v;
    if (seg->first_offset.v != due) {
        return corrupt(p, seg, err,
                       "at byte 24: the first offset does not follow the segment before");
    }
    seg->s = segment_state_at_first(p, i);
    return 0;
}

/* A segment that has a successor, which begins with entry `next`. */
static int load_closed(struct partition *p, uint32_t i, uint64_t next, struct error *err)
{
    struct segment *seg = p->segments[i];
    struct segment_close c;
    struct error why;
    bool closed;
    int rc = load_header(p, seg, &c, &closed, err);
    if (rc == 0) {
        rc = chain(p, i, err);
    }
    if (rc != 0) {
        return rc;
    }
    seg->closed = seg->allocated = true;
    if (closed && c.last_index.v + 1 == next && c.end <= seg->size) {
        seg->s = c;
        env_file_close(seg->file);
        seg->file = NULL;
        return 0;
    }
    rc = segment_scan(seg, next - 1, NULL, &why);
    if (rc == WEIR_ECORRUPT || rc == WEIR_EPROTO) {
        return corrupt(p, seg, err, why.text);
    }
    seg->loaded = rc == 0;
    return rc == 0 ? 0 : error_set(err, rc, "%s", why.text);
}

/* The last segment: its frames, and whether what follows them is a torn tail or damage. */
static int load_last(struct partition *p, struct recovery *rec, struct error *err)
{
    uint32_t i = p->n_segments - 1;
    struct segment *seg = p->segments[i];
    struct segment_close ignored;
    struct error why = {0};
    int rc = load_header(p, seg, &ignored, &rec->has_close, err);
    if (rc == 0) {
        rc = chain(p, i, err);
    }
    if (rc != 0) {
        return rc;
    }
    seg->loaded = true;
    uint64_t known = seg->first_index.v - 1;
    known = p->mark.synced.v > known ? p->mark.synced.v : known;
    rc = segment_scan(seg, UINT64_MAX, &known, &why);
    if (rc == WEIR_EPROTO) {
        return corrupt(p, seg, err, why.text);
    }
    if (rc != 0 && rc != WEIR_ECORRUPT) {
        return error_set(err, rc, "%s", why.text);
    }
    uint64_t bad = seg->s.last_index.v + 1, behind;
    rc = segment_search(seg->file, seg->salt, seg->s.end, bad, &behind, err);
    if (rc != 0) {
        return rc;
    }
    known = behind > known ? behind : known;
    if (known >= bad) {
        return error_set(err, WEIR_ECORRUPT, "%s: %s, but entries up to %" PRIu64 " were synced",
                         partition_segment_path(p, seg->first_index.v), why.text, known);
    }
    rec->known = known;
    rec->clean = p->mark.clean_end == seg->s.end && p->mark.synced.v == seg->s.last_index.v;
    return 0;
}

/* --- Changing what is on disk --- */

/* Writes the frames that nothing proves durable once more: if their write-back failed before a
 * crash, the page cache may show them although the disk never got them, and a sync alone would not
 * notice. */
static int rewrite_unsynced(struct partition *p, struct segment *seg, uint64_t known,
                            struct error *err)
{
    struct segment_close state;
    int rc = segment_state_before(p, p->n_segments - 1, known + 1, &state, err);
    if (rc != 0 || state.end == seg->s.end) {
        return rc;
    }
    uint8_t *buf = malloc(REWRITE_BYTES);
    if (buf == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    for (uint64_t at = state.end; rc == 0 && at < seg->s.end;) {
        size_t want = seg->s.end - at < REWRITE_BYTES ? (size_t)(seg->s.end - at) : REWRITE_BYTES;
        size_t n = 0;
        rc = env_file_pread(seg->file, buf, want, at, &n, err);
        if (rc == 0 && n < want) {
            rc = error_set(err, WEIR_EIO, "%s: shorter than a moment ago", p->path);
        }
        if (rc == 0) {
            rc = env_file_pwrite(seg->file, buf, n, at, err);
        }
        at += n;
    }
    free(buf);
    return rc;
}

/* Makes what was found durable, and what was not found zeros. */
static int settle_last(struct partition *p, const struct recovery *rec, struct error *err)
{
    static const uint8_t zeros[SEGMENT_CLOSE_SIZE];
    struct segment *seg = partition_active(p);
    int rc = 0;
    if (rec->has_close) {
        rc = env_file_pwrite(seg->file, zeros, sizeof(zeros), SEGMENT_CLOSE_AT, err);
    }
    if (rc == 0 && !rec->clean) {
        rc = rewrite_unsynced(p, seg, rec->known, err);
    }
    if (seg->size < p->options.segment_bytes) {
        seg->size = p->options.segment_bytes;
    }
    if (rc == 0 && (!rec->clean || rec->has_close)) {
        rc = segment_cut_file(seg, seg->s.end, err);
    } else if (rc == 0) {
        seg->allocated = env_file_allocate(seg->file, seg->size, NULL) == 0;
    }
    if (rc == 0 && !rec->clean && seg->s.last_index.v > rec->known) {
        log_info("log_recovered", "dir=" LOG_Q " last=%" PRIu64 " known_synced=%" PRIu64, p->dir,
                 seg->s.last_index.v, rec->known);
    }
    return rc;
}

int partition_create_first(struct partition *p, struct error *err)
{
    struct segment *seg;
    if (p->n_segments == 0 && segment_plan(p, NULL, &seg) != 0) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    seg = p->segments[0];
    int rc;
    char from[sizeof(p->path)];
    memcpy(from, partition_path(p, NEXT_NAME), sizeof(from));
    rc = env_file_open(p->env, from, ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_APPEND, &seg->file,
                       err);
    if (rc == 0) {
        rc = env_file_allocate(seg->file, seg->size, err);
    }
    if (rc == 0) {
        segment_header_encode(
            &(struct segment_header){seg->first_index, seg->first_offset, seg->salt}, p->header);
        rc = env_file_pwrite(seg->file, p->header, sizeof(p->header), 0, err);
    }
    if (rc == 0) {
        rc = env_file_sync(seg->file, err);
    }
    if (rc == 0) {
        rc = env_rename(p->env, from, partition_segment_path(p, seg->first_index.v), err);
    }
    if (rc == 0) {
        rc = env_dir_sync(p->env, p->dir, err);
    }
    if (rc == 0) {
        seg->planned = false;
        seg->allocated = true;
    }
    return rc;
}

/* Opens the small files for writing; a new partition gets its first meta slot. The lock on `meta`
 * is held as long as the partition is open. */
static int open_small(struct partition *p, struct error *err)
{
    const int flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE;
    int rc = env_file_open(p->env, partition_path(p, "mark"), flags, &p->mark_file, err);
    if (rc == 0 && p->meta.counter == 0) {
        struct meta first = {.counter = 1};
        /* Both slots now: a vote must not meet a full disk. */
        rc = env_file_allocate(p->meta_file, META_FILE_SIZE, err);
        rc = rc == 0 ? meta_write(p, &first, err) : rc;
        p->meta = rc == 0 ? first : p->meta;
    } else if (rc == 0 && p->meta.counter > p->mark.meta_counter) {
        /* Perhaps only in the page cache. The same bytes again: a torn write does not harm them. */
        rc = meta_write(p, &p->meta, err);
    }
    return rc == 0 ? env_dir_sync(p->env, p->dir, err) : rc;
}

static int load_segments(struct partition *p, struct recovery *rec, struct error *err)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i + 1 < p->n_segments; i++) {
        rc = load_closed(p, i, p->segments[i + 1]->first_index.v, err);
    }
    return rc == 0 && p->n_segments > 0 ? load_last(p, rec, err) : rc;
}

static int settle(struct partition *p, const struct recovery *rec, bool has_next, struct error *err)
{
    int rc = open_small(p, err);
    if (rc == 0 && has_next) {
        rc = env_unlink(p->env, partition_path(p, NEXT_NAME), err);
    }
    if (rc == 0 && p->begin.resetting) {
        rc = begin_start_reset(p, err);
        return rc == 0 ? begin_finish_reset(p, err) : rc;
    }
    if (rc == 0 && rec->begin_damaged) {
        rc = begin_store(p, &p->begin, err);
    }
    rc = rc == 0 ? begin_remove_leftovers(p, err) : rc;
    if (rc == 0) {
        rc = p->n_segments == 0 ? partition_create_first(p, err) : settle_last(p, rec, err);
    }
    for (uint32_t i = 0; rc == 0 && i + 1 < p->n_segments; i++) {
        if (p->segments[i]->loaded) { /* had no close record that fits */
            segment_finish(p, p->segments[i]);
        }
    }
    if (rc == 0) {
        struct mark mark = {.synced = LOG_INDEX(last_index_of(p)), .meta_counter = p->meta.counter};
        rc = mark_write_now(p, &mark, err);
    }
    return rc;
}

int partition_recover(struct partition *p, struct error *err)
{
    struct listing l = {.p = p};
    struct recovery rec = {0};
    int rc = env_dir_make(p->env, p->dir, err);
    if (rc == 0) {
        rc = env_dir_list(p->env, p->dir, on_name, &l, err);
        if (rc == WEIR_ENOMEM) {
            return error_set(err, rc, "%s: out of memory", p->dir);
        }
    }
    if (rc == 0) {
        int flags = ENV_OPEN_WRITE | ENV_OPEN_LOCK | (p->n_segments == 0 ? ENV_OPEN_CREATE : 0);
        rc = env_file_open(p->env, partition_path(p, "meta"), flags, &p->meta_file, err);
        if (rc == WEIR_ENOTFOUND) {
            rc = error_set(err, WEIR_ECORRUPT, "%s: byte 0: the file is missing", p->path);
        }
    }
    if (rc == 0) {
        rc = load_meta(p, err);
    }
    if (rc == 0) {
        rc = begin_load(p, &rec.begin_damaged, err);
    }
    if (rc == 0 && !p->begin.resetting) {
        rc = begin_drop_segments(p, err);
        rc = rc == 0 ? check_files(p, err) : rc;
        rc = rc == 0 ? load_segments(p, &rec, err) : rc;
    }
    return rc == 0 ? settle(p, &rec, l.has_next, err) : rc;
}
