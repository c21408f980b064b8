#include "log/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/begin.h"
#include "log/segment.h"

#define DUMP_PATH_MAX 1100

struct dump {
    struct env *env;
    const char *dir;
    uint64_t first; /* to be told */
    const struct dump_events *events;
    uint64_t *segments; /* first indexes */
    uint32_t n_segments;
    uint64_t synced; /* by the mark */
    uint64_t next;   /* index that should come, 0: not known */
    int64_t next_offset;
    char file[32];
};

static void path_of(const struct dump *d, const char *name, char out[DUMP_PATH_MAX])
{
    (void)snprintf(out, DUMP_PATH_MAX, "%s/%s", d->dir, name);
}

static void damage(struct dump *d, uint64_t at, const char *what)
{
    d->events->damage(d->events->data, d->file, at, d->next, what);
}

static int open_file(const struct dump *d, const char *name, int flags, struct env_file **ret_file,
                     struct error *err)
{
    char path[DUMP_PATH_MAX];
    path_of(d, name, path);
    return env_file_open(d->env, path, flags, ret_file, err);
}

/* Up to n bytes; what is not there is zeros. */
static int read_small(const struct dump *d, const char *name, uint8_t *buf, size_t n, size_t *ret_n,
                      struct error *err)
{
    struct env_file *file;
    memset(buf, 0, n);
    int rc = open_file(d, name, ENV_OPEN_READ, &file, err);
    if (rc == 0) {
        rc = env_file_pread(file, buf, n, 0, ret_n, err);
        env_file_close(file);
    }
    return rc;
}

static int on_name(void *data, const char *name)
{
    struct dump *d = data;
    uint64_t first = segment_name_parse(name);
    if (first == 0) {
        return 0;
    }
    uint64_t *all = realloc(d->segments, (d->n_segments + 1) * sizeof(*all));
    if (all == NULL) {
        return WEIR_ENOMEM;
    }
    d->segments = all;
    d->segments[d->n_segments++] = first;
    return 0;
}

/* The mark, and where the log begins. */
static int read_marks(struct dump *d, struct error *err)
{
    uint8_t buf[MARK_SIZE];
    struct mark mark;
    struct begin *begin = malloc(sizeof(*begin));
    uint8_t *data = malloc(BEGIN_FILE_SIZE);
    size_t n = 0;
    bool damaged = false;
    int rc = begin == NULL || data == NULL ? error_set(err, WEIR_ENOMEM, "out of memory") : 0;
    if (rc == 0 && read_small(d, "mark", buf, sizeof(buf), &n, NULL) == 0 &&
        mark_decode(buf, &mark)) {
        d->synced = mark.synced.v;
    }
    d->next = 1;
    if (rc == 0 && read_small(d, BEGIN_NAME, data, BEGIN_FILE_SIZE, &n, NULL) == 0) {
        (void)snprintf(d->file, sizeof(d->file), "%s", BEGIN_NAME);
        if (begin_decode(data, n, begin, &damaged)) {
            d->next = begin->first_index.v;
            d->next_offset = begin->first_offset.v;
        } else {
            d->next = 0;
            d->next_offset = -1;
        }
        if (damaged) {
            damage(d, 0, "a copy has a wrong checksum");
        }
    }
    free(begin);
    free(data);
    return rc;
}

static void tell(struct dump *d, const struct frame *f, const uint8_t *payload, uint64_t at)
{
    uint32_t offsets = 0;
    int64_t time_ms = 0;
    struct error why = {0};
    if (d->next_offset >= 0 && f->base_offset.v != d->next_offset) {
        damage(d, at, "its base offset does not follow the entry before");
    }
    if (frame_meaning(f, payload, &offsets, &time_ms, &why) != 0) {
        damage(d, at, why.text);
    }
    d->next_offset = f->base_offset.v + offsets;
    d->next = f->index.v + 1;
    if (f->index.v >= d->first) {
        struct dump_entry entry = {d->file, at, *f, payload};
        d->events->entry(d->events->data, &entry);
    }
}

/* Behind a bad frame at `at`: the next good one; false when there is none. */
static bool find_next(struct dump *d, struct env_file *file, uint64_t salt, uint64_t at,
                      uint64_t end, uint64_t last, struct segment_found *ret_found)
{
    struct error err = {0};
    memset(ret_found, 0, sizeof(*ret_found));
    return segment_search(file, salt, at + FRAME_ALIGN, end, d->next, last, true, ret_found,
                          &err) == 0 &&
           ret_found->at != 0;
}

/* The frames of one segment. `last`: its last index, UINT64_MAX when it is the log's last one. */
static int dump_frames(struct dump *d, struct env_file *file, uint64_t salt, uint64_t end,
                       uint64_t last, struct error *err)
{
    struct segment_reader r;
    struct segment_found found;
    int rc = 1;
    segment_reader_init(&r, file, salt, SEGMENT_HEADER_SIZE, end, d->next);
    while (rc == 1 && d->next <= last) {
        struct frame f;
        const uint8_t *payload;
        struct error why = {0};
        uint64_t at = r.at;
        rc = segment_reader_next(&r, &f, &payload, &why);
        if (rc == 1) {
            tell(d, &f, payload, at);
            continue;
        }
        if (rc != 0 && rc != WEIR_ECORRUPT) {
            rc = error_set(err, rc, "%s/%s: %s", d->dir, d->file, why.text);
            break;
        }
        bool more = find_next(d, file, salt, at, end, last, &found);
        if (more || last != UINT64_MAX || d->next <= d->synced) {
            damage(d, at, why.code != 0 ? why.text : "the file ends too early");
        }
        rc = more ? 1 : 0;
        if (more) {
            d->next = found.frame.index.v;
            d->next_offset = -1;
            segment_reader_close(&r);
            segment_reader_init(&r, file, salt, found.at, end, d->next);
        }
    }
    segment_reader_close(&r);
    if (last != UINT64_MAX && d->next <= last) { /* told already */
        d->next = last + 1;
        d->next_offset = -1;
    }
    return rc < 0 ? rc : 0;
}

static int dump_segment(struct dump *d, uint32_t i, struct error *err)
{
    struct env_file *file;
    uint8_t head[SEGMENT_HEADER_SIZE] = {0};
    struct segment_header header;
    struct segment_close close;
    size_t n;
    bool first_good = true;
    uint64_t last = i + 1 < d->n_segments ? d->segments[i + 1] - 1 : UINT64_MAX;
    segment_name(d->segments[i], d->file);
    if (d->next != 0 && d->segments[i] != d->next) {
        damage(d, 0, "entries before this file are missing");
    }
    d->next = d->segments[i];
    int rc = open_file(d, d->file, ENV_OPEN_READ, &file, err);
    if (rc != 0) {
        return rc;
    }
    rc = env_file_pread(file, head, sizeof(head), 0, &n, err);
    if (rc == 0 && (!segment_header_decode(head, &header, &first_good) ||
                    header.first_index.v != d->segments[i])) {
        damage(d, 0, "wrong checksum of the segment's header: nothing in it can be checked");
        d->next = last == UINT64_MAX ? 0 : last + 1;
        d->next_offset = -1;
    } else if (rc == 0) {
        if (!first_good) {
            damage(d, 0, "wrong checksum of the header; its copy is good");
        }
        if (d->next_offset >= 0 && d->next_offset != header.first_offset.v) {
            damage(d, 24, "the first offset does not follow the segment before");
        }
        d->next_offset = header.first_offset.v;
        bool closed = segment_close_decode(head + SEGMENT_CLOSE_AT, header.salt, &close) &&
                      close.last_index.v == last;
        rc = dump_frames(d, file, header.salt, closed ? close.end : UINT64_MAX, last, err);
    }
    env_file_close(file);
    return rc;
}

int log_dump(struct env *env, const char *dir, uint64_t first, const struct dump_events *events,
             struct error *err)
{
    struct dump d = {.env = env, .dir = dir, .first = first, .events = events};
    struct env_file *lock = NULL;
    int rc = open_file(&d, "meta", ENV_OPEN_READ | ENV_OPEN_LOCK, &lock, err);
    if (rc == WEIR_EBUSY) {
        return error_set(err, rc, "%s: a node has it open; stop it first", dir);
    }
    rc = rc == WEIR_ENOTFOUND ? 0 : rc; /* a lost one does not hide the rest */
    rc = rc == 0 ? env_dir_list(env, dir, on_name, &d, err) : rc;
    if (rc == 0 && lock == NULL && d.n_segments == 0) {
        rc = error_set(err, WEIR_ENOTFOUND, "%s: no partition's folder", dir);
    }
    if (rc == 0 && lock == NULL) {
        events->damage(events->data, "meta", 0, 0, "the file is missing");
    }
    rc = rc == 0 ? read_marks(&d, err) : rc;
    uint32_t i = 0;
    while (i + 1 < d.n_segments && d.segments[i + 1] <= d.next) {
        i++; /* left over by retention */
    }
    for (; rc == 0 && i < d.n_segments; i++) {
        rc = dump_segment(&d, i, err);
    }
    env_file_close(lock);
    free(d.segments);
    return rc;
}
