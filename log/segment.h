/* A segment file: NNNNNNNNNNNNNNNNNNNN.log, named by its first raft index (20 digits).
 * Preallocated; little endian:
 *
 *   at    size field
 *      0   8   magic "WEIRSEG1"
 *      8   4   crc32c of bytes 12..39
 *     12   4   version: 1
 *     16   8   first index
 *     24   8   first offset: base offset of the first entry
 *     32   8   salt: random, mixed into every frame's checksum
 *    512   8   magic "WEIRCLOS": the close record, written when the segment is rolled; zeros before
 *    520   4   crc32c of bytes 524..571, continuing that of the salt
 *    524   4   zero
 *    528   8   last index
 *    536   8   next offset
 *    544   8   end of the frames, bytes
 *    552   8   newest append time, ms
 *    560   8   highest index of a configuration entry in the log so far, 0: none
 *    568   4   zero
 *   1024   8   magic "WEIRCMPT": how far it is compacted (log/compact.c); zeros: not at all, or
 * older 1032   4   crc32c of bytes 1036..1055, continuing that of the salt 1036   4   zero 1040   8
 * no record here has a newer one of its key below this offset 1048   8   tombstones appended before
 * this time are gone, ms 2048  40   the first 40 bytes once more, in a sector of their own; absent
 * (zeros) in older files 4096   .   frames (log/frame.h), then zeros
 *
 * A segment gets its name only when header and first frames are durable, and a frame goes to the
 * next segment only when all those before it are durable: so all but the last segment are whole.
 * The close record spares reading them at start; one that is absent or does not fit its successor
 * means that they are read. Loop thread only. */
#ifndef LOG_SEGMENT_H
#define LOG_SEGMENT_H

#include "base/env.h"
#include "log/frame.h"

#define SEGMENT_HEADER_SIZE 4096
#define SEGMENT_NAME_SIZE   25 /* with the zero */
#define SEGMENT_SUFFIX      ".log"
#define SEGMENT_CLOSE_AT    512
#define SEGMENT_COPY_AT     2048
#define SEGMENT_CLOSE_SIZE  60
#define SEGMENT_CLEAN_AT    1024
#define SEGMENT_CLEAN_SIZE  32

struct segment_header {
    struct log_index first_index;
    struct log_offset first_offset;
    uint64_t salt;
};

struct segment_close {
    struct log_index last_index;
    struct log_offset next_offset;
    uint64_t end;
    int64_t last_time_ms;
    struct log_index config_index;
};

/* How far a segment is compacted. */
struct segment_clean {
    int64_t upto;
    int64_t tombstones_ms;
};

void segment_name(uint64_t first_index, char out[SEGMENT_NAME_SIZE]);
/* The first index in a name of that form; 0 for any other name. */
uint64_t segment_name_parse(const char *name);

void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_SIZE]);
/* Of the two copies, the good one. *ret_first_good (may be NULL): whether it was the first. */
bool segment_header_decode(const uint8_t in[SEGMENT_HEADER_SIZE], struct segment_header *ret_header,
                           bool *ret_first_good);
void segment_close_encode(const struct segment_close *c, uint64_t salt,
                          uint8_t out[SEGMENT_CLOSE_SIZE]);
bool segment_close_decode(const uint8_t in[SEGMENT_CLOSE_SIZE], uint64_t salt,
                          struct segment_close *ret_close);

void segment_clean_encode(const struct segment_clean *c, uint64_t salt,
                          uint8_t out[SEGMENT_CLEAN_SIZE]);
bool segment_clean_decode(const uint8_t in[SEGMENT_CLEAN_SIZE], uint64_t salt,
                          struct segment_clean *ret_clean);

/* Reads frames one after the other. */
struct segment_reader {
    struct env_file *file;
    uint32_t seed;
    uint64_t at;   /* byte position of the next frame */
    uint64_t end;  /* no frame begins at or after it */
    uint64_t next; /* index the next frame must have */
    uint8_t *buf;
    size_t cap, len; /* buf[0 .. len) is the file from buf_at */
    uint64_t buf_at;
};
/* `cap_hint`: bytes read at once; grown when a frame is larger. Allocates at the first read. */
void segment_reader_init(struct segment_reader *r, struct env_file *file, uint64_t salt,
                         uint64_t at, uint64_t end, uint64_t next);
void segment_reader_close(struct segment_reader *r);
/* 1: *ret_frame and its payload (valid until the next call), r->at is behind it. 0: the end.
 * WEIR_ECORRUPT: what stands at r->at is not the frame with index r->next, or part of it is
 * missing; the text names the position. Also read errors, WEIR_ENOMEM. */
int segment_reader_next(struct segment_reader *r, struct frame *ret_frame,
                        const uint8_t **ret_payload, struct error *err);
/* Moves on to entry `index`, passing headers only. Same results; 1: r->at is at it. */
int segment_reader_skip_to(struct segment_reader *r, uint64_t index, struct error *err);

/* What stands behind a bad frame. */
struct segment_found {
    uint64_t synced;    /* highest synced index in the headers seen; 0: none */
    uint64_t at;        /* byte position of the first good header; 0: none */
    struct frame frame; /* that header */
};
/* Looks for good frame headers at every multiple of 8 in [at, end), with an index from `index` to
 * `index_max`, up to the file's end or 8 MiB of zeros; to the first one only, or to all. Parts that
 * can't be read are passed over. */
int segment_search(struct env_file *file, uint64_t salt, uint64_t at, uint64_t end, uint64_t index,
                   uint64_t index_max, bool first_only, struct segment_found *ret_found,
                   struct error *err);

#endif
