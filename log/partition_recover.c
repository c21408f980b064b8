/* Opening. All checks come first; only when they have passed is anything changed on disk.
 *
 * What is trusted: a closed segment with a close record that fits its successor. What is read: any
 * other segment, from its first frame. All but the last segment should be whole: what is bad in
 * them is a hole (log/damage.h). In the last one the first bad frame, with index j, is the end of
 * the log if nothing says that j was durable: not the mark, not the synced index of any good frame
 * before or behind it. Else it is a hole, if a good frame stands behind it, and if none does the
 * log's end is lost: then, as when the metadata is lost, what is left is salvaged
 * (partition_salvage.c). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/logging.h"
#include "log/partition_recover.h"

#define REWRITE_BYTES (1U << 20)

/* --- The folder --- */

struct listing {
    struct partition *p;
    bool has_next, has_mend, has_compact;
};

static int on_name(void *data, const char *name)
{
    struct listing *l = data;
    uint64_t first = segment_name_parse(name);
    l->has_next = l->has_next || strcmp(name, NEXT_NAME) == 0;
    l->has_mend = l->has_mend || strcmp(name, MEND_NAME) == 0;
    l->has_compact = l->has_compact || strcmp(name, COMPACT_NAME) == 0;
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

static int load_meta(struct partition *p, struct recovery *rec, struct error *err)
{
    uint8_t mark[MARK_SIZE];
    int rc = read_small(p, "mark", mark, sizeof(mark), err);
    if (rc == 0 && !mark_decode(mark, &p->mark)) {
        p->mark = (struct mark){0};
        rec->mark_bad = p->n_segments > 0;
        if (rec->mark_bad) {
            log_warn("log_mark_bad", "dir=" LOG_Q " what=\"absent or damaged: made anew\"", p->dir);
        }
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

/* --- What is missing --- */

static void check_files(struct partition *p, struct recovery *rec)
{
    bool has_log = p->n_segments > 0 || p->mark.synced.v > 0;
    if (p->meta.counter < p->mark.meta_counter || (p->meta.counter == 0 && has_log)) {
        rec->lost_meta = true;
        log_error("log_meta_lost", "dir=" LOG_Q " counter=%" PRIu64 " expected=%" PRIu64, p->dir,
                  p->meta.counter, p->mark.meta_counter);
    }
    if (p->n_segments == 0 && p->mark.synced.v >= p->begin.first_index.v) {
        rec->lost_end = true;
        rec->known = p->mark.synced.v;
        log_error("log_end_lost", "dir=" LOG_Q " last=0 synced=%" PRIu64, p->dir, p->mark.synced.v);
    }
}

/* The salt of a segment whose header is bad stands in its index file too. */
static bool salt_from_index(struct partition *p, struct segment *seg)
{
    uint8_t head[32];
    struct error ignored;
    char path[sizeof(p->path)];
    memcpy(path, partition_index_path(p, seg->first_index.v), sizeof(path));
    const char *name = strrchr(path, '/') + 1;
    return read_small(p, name, head, sizeof(head), &ignored) == 0 &&
           memcmp(head, "WEIRIDX1", 8) == 0 && load_le64(head + 16) == seg->first_index.v &&
           (seg->salt = load_le64(head + 24)) != 0;
}

/* Reads a segment's header and close record. One that is no good is seg->lost. */
static int load_header(struct partition *p, struct segment *seg, struct error *err)
{
    uint8_t buf[SEGMENT_HEADER_SIZE] = {0};
    struct segment_header header;
    bool first_good;
    size_t n;
    int rc = env_file_open(p->env, partition_segment_path(p, seg->first_index.v),
                           ENV_OPEN_WRITE | ENV_OPEN_APPEND, &seg->file, err);
    if (rc == 0) {
        rc = env_file_size(seg->file, &seg->size, err);
    }
    if (rc == 0) {
        rc = env_file_pread(seg->file, buf, sizeof(buf), 0, &n, err);
        rc = rc == WEIR_EIO ? 0 : rc;
    }
    if (rc != 0) {
        return rc;
    }
    if (segment_header_decode(buf, &header, &first_good) &&
        header.first_index.v == seg->first_index.v) {
        seg->first_offset = header.first_offset;
        seg->salt = header.salt;
        seg->header_bad = !first_good;
    } else {
        seg->first_offset = LOG_OFFSET(-1); /* follows from the segment before */
        seg->header_bad = true;
        seg->lost = !salt_from_index(p, seg);
    }
    (void)segment_clean_decode(buf + SEGMENT_CLEAN_AT, seg->salt, &seg->clean);
    seg->has_close = segment_close_decode(buf + SEGMENT_CLOSE_AT, seg->salt, &seg->close);
    return 0;
}

/* A descriptor before number i for a file that is missing. */
static int insert_lost(struct partition *p, uint32_t i, uint64_t first, struct error *err)
{
    struct segment *seg = segment_push(p);
    if (seg == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    memmove(p->segments + i + 1, p->segments + i,
            (p->n_segments - 1 - i) * sizeof(struct segment *));
    p->segments[i] = seg;
    seg->first_index = LOG_INDEX(first);
    seg->first_offset = LOG_OFFSET(-1);
    seg->lost = true;
    return 0;
}

static int find_missing(struct partition *p, struct error *err)
{
    int rc = 0;
    uint32_t at = 0;
    /* A file has the name of the log's first entry. What is before it may be of an earlier life. */
    while (at < p->n_segments && p->segments[at]->first_index.v < p->begin.first_index.v) {
        at++;
    }
    if (at < p->n_segments && p->segments[at]->first_index.v > p->begin.first_index.v) {
        rc = insert_lost(p, at, p->begin.first_index.v, err);
    }
    rc = rc == 0 ? begin_drop_segments(p, err) : rc;
    for (uint32_t i = 0; rc == 0 && i + 1 < p->n_segments; i++) {
        const struct segment *seg = p->segments[i];
        uint64_t next = p->segments[i + 1]->first_index.v;
        if (seg->has_close && seg->close.last_index.v + 1 < next) {
            rc = insert_lost(p, ++i, seg->close.last_index.v + 1, err);
        }
    }
    return rc;
}

/* A last segment without a header is no use at all: the log ends before it. */
static void drop_unreadable(struct partition *p, struct recovery *rec)
{
    while (p->n_segments > 0 && p->segments[p->n_segments - 1]->lost) {
        rec->drop_from = p->segments[p->n_segments - 1]->first_index.v;
        log_error("log_end_lost", "dir=" LOG_Q " last=%" PRIu64 " what=\"wrong header\"", p->dir,
                  rec->drop_from - 1);
        segment_pop(p);
        rec->lost_end = true;
    }
}

/* --- Segments --- */

/* Where the description of segment i begins: at the end of the one before it. */
static int chain(struct partition *p, uint32_t i, struct error *err)
{
    struct segment *seg = p->segments[i];
    int64_t due = i > 0 ? p->segments[i - 1]->s.next_offset.v : p->begin.first_offset.v;
    if (seg->first_offset.v < 0) {
        seg->first_offset.v = due;
    }
    if (seg->first_offset.v != due) {
        return error_set(err, WEIR_ECORRUPT,
                         "%s: at byte 24: the first offset does not follow the segment before",
                         partition_segment_path(p, seg->first_index.v));
    }
    seg->s = segment_state_at_first(p, i);
    return 0;
}

/* Where a segment that has a successor ends. False: no offset is known for that. */
static bool bound_of(const struct partition *p, uint32_t i, struct segment_close *ret_bound)
{
    const struct segment *seg = p->segments[i], *next = p->segments[i + 1];
    bool fits = seg->has_close && seg->close.last_index.v + 1 == next->first_index.v;
    *ret_bound = (struct segment_close){
        .last_index = LOG_INDEX(next->first_index.v - 1),
        .next_offset =
            next->first_offset.v < 0 && fits ? seg->close.next_offset : next->first_offset,
        .end = fits ? seg->close.end : 0,
    };
    return ret_bound->next_offset.v >= 0;
}

/* Two neighbours without a header: where one ends and the other begins is not known, but only one
 * file is needed for both. */
static void join_lost(struct partition *p)
{
    for (uint32_t i = 0; i + 1 < p->n_segments;) {
        struct segment *seg = p->segments[i], *next = p->segments[i + 1];
        if (!seg->lost || !next->lost) {
            i++;
            continue;
        }
        p->n_segments--;
        memmove(p->segments + i + 1, p->segments + i + 2,
                (p->n_segments - i - 1) * sizeof(struct segment *));
        env_file_close(next->file);
        index_close(&next->index);
        free(next);
    }
}

/* A segment that has a successor. */
static int load_closed(struct partition *p, uint32_t i, struct error *err)
{
    struct segment *seg = p->segments[i];
    struct segment_close bound;
    int rc = chain(p, i, err);
    if (rc != 0) {
        return rc;
    }
    bool bounded = bound_of(p, i, &bound);
    if (seg->lost && bounded) {
        return segment_lost(p, seg, &bound, "the file, or its header, is missing", err);
    }
    if (!bounded) {
        return error_set(err, WEIR_ECORRUPT, "%s: where it ends is not known",
                         partition_segment_path(p, seg->first_index.v));
    }
    seg->closed = seg->allocated = true;
    if (bound.end != 0 && seg->close.next_offset.v == bound.next_offset.v &&
        bound.end <= seg->size) {
        seg->s = seg->close;
        if (!seg->header_bad) {
            env_file_close(seg->file);
            seg->file = NULL;
        }
        return 0;
    }
    seg->loaded = true;
    rc = segment_examine(p, seg, &bound, NULL, NULL, err);
    if (rc == 0 && seg->size < seg->s.end) {
        seg->size = seg->s.end;
    }
    return rc;
}

/* Nothing but zeros behind the last good frame, in a file as long as it was made. */
static int tail_is_clean(struct partition *p, struct segment *seg, bool *ret_clean,
                         struct error *err)
{
    uint8_t buf[4096];
    int rc = 0;
    *ret_clean = seg->size >= p->options.segment_bytes;
    for (uint64_t at = seg->s.end; rc == 0 && *ret_clean && at < seg->size;) {
        size_t n = 0;
        rc = env_file_pread(seg->file, buf, sizeof(buf), at, &n, err);
        for (size_t i = 0; i < n; i++) {
            *ret_clean = *ret_clean && buf[i] == 0;
        }
        at += n > 0 ? n : sizeof(buf);
    }
    return rc;
}

/* A torn tail loses no promise, as long as the mark says so. Without one, what is torn may just as
 * well have been durable. */
static int suspect_tail(struct partition *p, struct recovery *rec, struct segment *seg,
                        struct error *err)
{
    bool clean = true;
    int rc = 0;
    if (rec->mark_bad && !rec->lost_end && seg->s.last_index.v >= p->begin.first_index.v) {
        rc = tail_is_clean(p, seg, &clean, err);
    }
    if (rc == 0 && !clean) {
        rec->lost_end = true;
        log_error("log_end_lost",
                  "dir=" LOG_Q " last=%" PRIu64 " what=\"no mark, and no clean end\"", p->dir,
                  seg->s.last_index.v);
    }
    return rc;
}

/* The last segment: its frames, and whether what follows them is a torn tail or damage. */
static int load_last(struct partition *p, struct recovery *rec, struct error *err)
{
    uint32_t i = p->n_segments - 1;
    struct segment *seg = p->segments[i];
    int rc = chain(p, i, err);
    if (rc != 0) {
        return rc;
    }
    seg->loaded = true;
    rec->has_close = seg->has_close;
    uint64_t known = seg->first_index.v - 1;
    known = p->mark.synced.v > known ? p->mark.synced.v : known;
    rc = segment_examine(p, seg, NULL, &known, &rec->lost_end, err);
    if (rc != 0) {
        return rc;
    }
    if (known > seg->s.last_index.v) {
        log_error("log_end_lost", "dir=" LOG_Q " last=%" PRIu64 " synced=%" PRIu64, p->dir,
                  seg->s.last_index.v, known);
        known = seg->s.last_index.v;
    }
    rc = suspect_tail(p, rec, seg, err);
    if (rc != 0) {
        return rc;
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
static int settle_small(struct partition *p, const struct recovery *rec, struct error *err)
{
    const int flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE;
    int rc = env_file_open(p->env, partition_path(p, "mark"), flags, &p->mark_file, err);
    if (rc == 0 && (rec->lost_meta || rec->lost_end)) {
        rc = partition_salvage(p, rec, err);
    } else if (rc == 0 && p->meta.counter == 0) {
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
    for (uint32_t i = 0; rc == 0 && i < p->n_segments; i++) {
        rc = load_header(p, p->segments[i], err);
    }
    if (rc == 0) {
        drop_unreadable(p, rec);
        rc = find_missing(p, err);
    }
    if (rc == 0) {
        join_lost(p);
    }
    if (rc == 0 && p->n_segments > 0 && p->segments[0]->first_index.v != p->begin.first_index.v) {
        rc = error_set(err, WEIR_ECORRUPT, "%s: the file is missing",
                       partition_segment_path(p, p->begin.first_index.v));
    }
    for (uint32_t i = 0; rc == 0 && i + 1 < p->n_segments; i++) {
        rc = load_closed(p, i, err);
    }
    return rc == 0 && p->n_segments > 0 ? load_last(p, rec, err) : rc;
}

/* The header is known by its copy, or by other means: writes it again. */
static int settle_header(struct partition *p, struct segment *seg, struct error *err)
{
    uint8_t buf[SEGMENT_HEADER_SIZE];
    segment_header_encode(&(struct segment_header){seg->first_index, seg->first_offset, seg->salt},
                          buf);
    /* One copy after the other: a crash must not take both. */
    int rc = env_file_pwrite(seg->file, buf, SEGMENT_CLOSE_AT, 0, err);
    rc = rc == 0 ? env_file_sync(seg->file, err) : rc;
    if (rc == 0) {
        rc = env_file_pwrite(seg->file, buf + SEGMENT_COPY_AT, SEGMENT_CLOSE_AT, SEGMENT_COPY_AT,
                             err);
    }
    rc = rc == 0 ? env_file_sync(seg->file, err) : rc;
    if (rc == 0) {
        seg->header_bad = false;
        log_info("log_header_restored", "dir=" LOG_Q " segment=%" PRIu64, p->dir,
                 seg->first_index.v);
        if (!seg->loaded) {
            env_file_close(seg->file);
            seg->file = NULL;
        }
    }
    return rc;
}

static int settle_closed(struct partition *p, struct segment *seg, struct error *err)
{
    int rc = 0;
    if (seg->header_bad && !seg->lost) {
        rc = settle_header(p, seg, err);
    }
    if (rc == 0 && seg->loaded && !seg->lost) { /* had no close record that fits */
        segment_finish(p, seg);
    }
    return rc;
}

/* Files that were being made when the process died. */
static int remove_unfinished(struct partition *p, const struct listing *l, struct error *err)
{
    int rc = l->has_next ? env_unlink(p->env, partition_path(p, NEXT_NAME), err) : 0;
    rc = rc == 0 && l->has_mend ? env_unlink(p->env, partition_path(p, MEND_NAME), err) : rc;
    return rc == 0 && l->has_compact ? env_unlink(p->env, partition_path(p, COMPACT_NAME), err)
                                     : rc;
}

static int settle(struct partition *p, const struct recovery *rec, const struct listing *l,
                  struct error *err)
{
    int rc = settle_small(p, rec, err);
    if (rc == 0) {
        rc = remove_unfinished(p, l, err);
    }
    if (rc == 0 && p->n_segments > 0 && partition_active(p)->header_bad) {
        rc = settle_header(p, partition_active(p), err);
    }
    if (rc == 0 && p->begin.resetting) {
        rc = begin_start_reset(p, err);
        rc = rc == 0 ? begin_finish_reset(p, err) : rc;
        return rc == 0 ? begin_remove_leftovers(p, err) : rc;
    }
    if (rc == 0 && rec->begin_damaged) {
        rc = begin_store(p, &p->begin, err);
    }
    rc = rc == 0 ? begin_remove_leftovers(p, err) : rc;
    if (rc == 0) {
        rc = p->n_segments == 0 ? partition_create_first(p, err) : settle_last(p, rec, err);
    }
    for (uint32_t i = 0; rc == 0 && i + 1 < p->n_segments; i++) {
        rc = settle_closed(p, p->segments[i], err);
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
        rc = env_file_open(p->env, partition_path(p, "meta"),
                           ENV_OPEN_WRITE | ENV_OPEN_LOCK | ENV_OPEN_CREATE, &p->meta_file, err);
    }
    if (rc == 0) {
        rc = load_meta(p, &rec, err);
    }
    if (rc == 0) {
        rc = begin_load(p, &rec.begin_damaged, err);
    }
    if (rc == 0 && !p->begin.resetting) {
        check_files(p, &rec);
        rc = load_segments(p, &rec, err);
    }
    return rc == 0 ? settle(p, &rec, &l, err) : rc;
}
