#include "log/segment.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define HEADER_MAGIC   "WEIRSEG1"
#define CLOSE_MAGIC    "WEIRCLOS"
#define CLEAN_MAGIC    "WEIRCMPT"
#define HEADER_VERSION 1
#define HEADER_USED    40
#define INDEX_DIGITS   20
#define READ_BYTES     (128U << 10)
#define SEARCH_BYTES   (256U << 10)
/* What is passed over where the disk can't read. */
#define SEARCH_ERROR_BYTES 4096U
/* More than any group of frames that is written at once: beyond so many zeros nothing was written.
 */
#define SEARCH_ZEROS_MAX (8U << 20)

void segment_name(uint64_t first_index, char out[SEGMENT_NAME_SIZE])
{
    (void)snprintf(out, SEGMENT_NAME_SIZE, "%020" PRIu64 SEGMENT_SUFFIX, first_index);
}

uint64_t segment_name_parse(const char *name)
{
    uint64_t v = 0;
    if (strlen(name) != SEGMENT_NAME_SIZE - 1 || strcmp(name + INDEX_DIGITS, SEGMENT_SUFFIX) != 0) {
        return 0;
    }
    for (int i = 0; i < INDEX_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9' || v > (UINT64_MAX - 9) / 10) {
            return 0;
        }
        v = v * 10 + (uint64_t)(name[i] - '0');
    }
    return v;
}

void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_SIZE])
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    memcpy(out, HEADER_MAGIC, 8);
    store_le32(out + 12, HEADER_VERSION);
    store_le64(out + 16, h->first_index.v);
    store_le64(out + 24, (uint64_t)h->first_offset.v);
    store_le64(out + 32, h->salt);
    store_le32(out + 8, crc32c(0, out + 12, HEADER_USED - 12));
    memcpy(out + SEGMENT_COPY_AT, out, HEADER_USED);
}

static bool header_decode(const uint8_t *in, struct segment_header *ret_header)
{
    if (memcmp(in, HEADER_MAGIC, 8) != 0 ||
        load_le32(in + 8) != crc32c(0, in + 12, HEADER_USED - 12) ||
        load_le32(in + 12) != HEADER_VERSION) {
        return false;
    }
    *ret_header = (struct segment_header){
        .first_index = LOG_INDEX(load_le64(in + 16)),
        .first_offset = LOG_OFFSET(load_le64(in + 24)),
        .salt = load_le64(in + 32),
    };
    return true;
}

bool segment_header_decode(const uint8_t in[SEGMENT_HEADER_SIZE], struct segment_header *ret_header,
                           bool *ret_first_good)
{
    bool first = header_decode(in, ret_header);
    if (ret_first_good != NULL) {
        *ret_first_good = first;
    }
    return first || header_decode(in + SEGMENT_COPY_AT, ret_header);
}

void segment_close_encode(const struct segment_close *c, uint64_t salt,
                          uint8_t out[SEGMENT_CLOSE_SIZE])
{
    memset(out, 0, SEGMENT_CLOSE_SIZE);
    memcpy(out, CLOSE_MAGIC, 8);
    store_le64(out + 16, c->last_index.v);
    store_le64(out + 24, (uint64_t)c->next_offset.v);
    store_le64(out + 32, c->end);
    store_le64(out + 40, (uint64_t)c->last_time_ms);
    store_le64(out + 48, c->config_index.v);
    store_le32(out + 8, crc32c(frame_seed(salt), out + 12, SEGMENT_CLOSE_SIZE - 12));
}

bool segment_close_decode(const uint8_t in[SEGMENT_CLOSE_SIZE], uint64_t salt,
                          struct segment_close *ret_close)
{
    if (memcmp(in, CLOSE_MAGIC, 8) != 0 ||
        load_le32(in + 8) != crc32c(frame_seed(salt), in + 12, SEGMENT_CLOSE_SIZE - 12)) {
        return false;
    }
    *ret_close = (struct segment_close){
        .last_index = LOG_INDEX(load_le64(in + 16)),
        .next_offset = LOG_OFFSET(load_le64(in + 24)),
        .end = load_le64(in + 32),
        .last_time_ms = (int64_t)load_le64(in + 40),
        .config_index = LOG_INDEX(load_le64(in + 48)),
    };
    return true;
}

void segment_clean_encode(const struct segment_clean *c, uint64_t salt,
                          uint8_t out[SEGMENT_CLEAN_SIZE])
{
    memset(out, 0, SEGMENT_CLEAN_SIZE);
    memcpy(out, CLEAN_MAGIC, 8);
    store_le64(out + 16, (uint64_t)c->upto);
    store_le64(out + 24, (uint64_t)c->tombstones_ms);
    store_le32(out + 8, crc32c(frame_seed(salt), out + 12, SEGMENT_CLEAN_SIZE - 12));
}

bool segment_clean_decode(const uint8_t in[SEGMENT_CLEAN_SIZE], uint64_t salt,
                          struct segment_clean *ret_clean)
{
    if (memcmp(in, CLEAN_MAGIC, 8) != 0 ||
        load_le32(in + 8) != crc32c(frame_seed(salt), in + 12, SEGMENT_CLEAN_SIZE - 12)) {
        return false;
    }
    ret_clean->upto = (int64_t)load_le64(in + 16);
    ret_clean->tombstones_ms = (int64_t)load_le64(in + 24);
    return true;
}

/* --- Reading frames --- */

void segment_reader_init(struct segment_reader *r, struct env_file *file, uint64_t salt,
                         uint64_t at, uint64_t end, uint64_t next)
{
    *r = (struct segment_reader){
        .file = file, .seed = frame_seed(salt), .at = at, .end = end, .next = next};
}

void segment_reader_close(struct segment_reader *r)
{
    free(r->buf);
    r->buf = NULL;
}

/* The n bytes at r->at, in the buffer; fewer than n at the file's end: *ret_p is NULL. */
static int reader_want(struct segment_reader *r, size_t n, const uint8_t **ret_p, struct error *err)
{
    *ret_p = NULL;
    if (r->at < r->buf_at || r->at + n > r->buf_at + r->len || r->buf == NULL) {
        if (n > r->cap) {
            size_t cap = n > READ_BYTES ? n : READ_BYTES;
            uint8_t *buf = malloc(cap);
            if (buf == NULL) {
                return error_set(err, WEIR_ENOMEM, "read segment: out of memory");
            }
            free(r->buf);
            r->buf = buf;
            r->cap = cap;
        }
        r->buf_at = r->at;
        r->len = 0;
        int rc = env_file_pread(r->file, r->buf, r->cap, r->at, &r->len, err);
        if (rc != 0) {
            return rc;
        }
        if (r->len < n) {
            return 0;
        }
    }
    *ret_p = r->buf + (r->at - r->buf_at);
    return 0;
}

static int bad_frame(const struct segment_reader *r, const char *what, struct error *err)
{
    return error_set(err, WEIR_ECORRUPT, "at byte %" PRIu64 ": entry %" PRIu64 ": %s", r->at,
                     r->next, what);
}

/* The header at r->at: 1, 0 at the end, or an error. */
static int reader_header(struct segment_reader *r, struct frame *f, struct error *err)
{
    const uint8_t *p;
    if (r->at >= r->end) {
        return 0;
    }
    int rc = reader_want(r, FRAME_HEADER_SIZE, &p, err);
    if (rc < 0) {
        return rc;
    }
    if (p == NULL) {
        return bad_frame(r, "the file ends in its header", err);
    }
    if (!frame_header_ok(p, r->seed, f)) {
        return bad_frame(r, "wrong checksum of its header", err);
    }
    return f->index.v == r->next ? 1 : bad_frame(r, "another entry is in its place", err);
}

int segment_reader_next(struct segment_reader *r, struct frame *ret_frame,
                        const uint8_t **ret_payload, struct error *err)
{
    struct frame f;
    const uint8_t *p;
    int rc = reader_header(r, &f, err);
    if (rc != 1) {
        return rc;
    }
    rc = reader_want(r, frame_size(f.len), &p, err);
    if (rc != 0) {
        return rc;
    }
    if (p == NULL) {
        return bad_frame(r, "the file ends in its payload", err);
    }
    if (!frame_payload_ok(&f, p + FRAME_HEADER_SIZE)) {
        return bad_frame(r, "wrong checksum of its payload", err);
    }
    r->at += frame_size(f.len);
    r->next++;
    *ret_frame = f;
    *ret_payload = p + FRAME_HEADER_SIZE;
    return 1;
}

int segment_reader_skip_to(struct segment_reader *r, uint64_t index, struct error *err)
{
    while (r->next < index) {
        struct frame f;
        int rc = reader_header(r, &f, err);
        if (rc != 1) {
            return rc;
        }
        r->at += frame_size(f.len);
        r->next++;
    }
    return 1;
}

/* --- Looking for what came after a bad frame --- */

/* Leading zeros of p[0 .. n), in whole 8-byte words. */
static size_t count_zeros(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i + 8 <= n && load_le64(p + i) == 0) {
        i += 8;
    }
    return i;
}

struct search {
    uint32_t seed;
    uint64_t index, index_max;
    bool first_only;
    uint64_t zeros;
    struct segment_found found;
};

static bool search_over(const struct search *s)
{
    return s->zeros >= SEARCH_ZEROS_MAX || (s->first_only && s->found.at != 0);
}

/* Tries every aligned position of buf[0 .. n), which is the file from `at`, that has a whole
 * header. */
static size_t search_block(struct search *s, const uint8_t *buf, size_t n, uint64_t at)
{
    size_t i = 0;
    while (i + FRAME_HEADER_SIZE <= n && !search_over(s)) {
        struct frame f;
        size_t skip = count_zeros(buf + i, n - i);
        if (skip > FRAME_HEADER_SIZE) {
            skip -= skip % FRAME_ALIGN;
            s->zeros += skip;
            i += skip;
            continue;
        }
        if (frame_header_ok(buf + i, s->seed, &f) && f.index.v >= s->index &&
            f.index.v <= s->index_max) {
            s->found.synced = f.synced.v > s->found.synced ? f.synced.v : s->found.synced;
            if (s->found.at == 0) {
                s->found.at = at + i;
                s->found.frame = f;
            }
        }
        s->zeros = 0;
        i += FRAME_ALIGN;
    }
    return i;
}

/* Reads some of the file from `at` on; where the disk has an error, less, and at last nothing:
 * *ret_n is 0 and *ret_skip what to pass over. */
static int search_read(struct env_file *file, uint8_t *buf, uint64_t at, size_t *ret_n,
                       size_t *ret_skip, struct error *err)
{
    *ret_skip = 0;
    int rc = env_file_pread(file, buf, SEARCH_BYTES, at, ret_n, err);
    if (rc == WEIR_EIO) {
        size_t part = SEARCH_ERROR_BYTES - (size_t)(at % SEARCH_ERROR_BYTES);
        rc = env_file_pread(file, buf, part, at, ret_n, err);
        if (rc == WEIR_EIO || (rc == 0 && *ret_n == part && part < FRAME_HEADER_SIZE)) {
            *ret_n = 0;
            *ret_skip = part;
            rc = 0;
        }
    }
    return rc;
}

int segment_search(struct env_file *file, uint64_t salt, uint64_t at, uint64_t end, uint64_t index,
                   uint64_t index_max, bool first_only, struct segment_found *ret_found,
                   struct error *err)
{
    struct search s = {
        .seed = frame_seed(salt), .index = index, .index_max = index_max, .first_only = first_only};
    uint8_t *buf = malloc(SEARCH_BYTES);
    if (buf == NULL) {
        return error_set(err, WEIR_ENOMEM, "search segment: out of memory");
    }
    int rc = 0;
    at = (at + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
    while (!search_over(&s) && at < end) {
        size_t n, skip;
        rc = search_read(file, buf, at, &n, &skip, err);
        if (rc != 0 || (skip == 0 && n < FRAME_HEADER_SIZE)) {
            break;
        }
        n = end - at < n ? (size_t)(end - at) : n;
        if (skip == 0 && n < FRAME_HEADER_SIZE) {
            break;
        }
        at += skip > 0 ? skip : search_block(&s, buf, n, at);
    }
    free(buf);
    if (rc == 0) {
        *ret_found = s.found;
    }
    return rc;
}
