/* The file `begin`: where a log that does not begin with entry 1 begins. Absent: entry 1, offset 0.
 * Replaced as a whole (begin.tmp, synced, renamed); two equal copies of 4608 bytes, so that one
 * flipped bit loses nothing. A copy, little endian:
 *
 *   at size field
 *    0  8  magic "WEIRBEGN"
 *    8  4  crc32c of bytes 12..87+n
 *   12  4  version: 1
 *   16  8  first index: no entry below it is kept
 *   24  8  term of the entry before it
 *   32  8  first offset: base offset of the first entry
 *   40  8  start offset: no record below it may be read
 *   48  8  newest append time before the first entry, ms
 *   56  8  highest index of a configuration entry before the first entry, 0: none
 *   64  8  compacted below this offset, 0: never (log/compact.c)
 *   72  8  tombstones appended before this time are gone, ms
 *   80  4  flags; bit 0: resetting
 *   84  4  length of the configuration, n
 *   88  n  configuration, while resetting
 *
 * Writing it is what makes a change of the log's beginning happen: segments that lie wholly before
 * the first index are leftovers from then on, and while resetting all that is in the folder is.
 * Opening finishes what a crash interrupted. Any thread; no state. */
#ifndef LOG_BEGIN_H
#define LOG_BEGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "log/meta.h"
#include "log/types.h"

#define BEGIN_NAME        "begin"
#define BEGIN_TMP_NAME    "begin.tmp"
#define BEGIN_COPY_SIZE   4608
#define BEGIN_FILE_SIZE   (2 * BEGIN_COPY_SIZE)
#define BEGIN_HEADER_SIZE 88

struct begin {
    struct log_index first_index;
    struct log_term prev_term;
    struct log_offset first_offset, start_offset;
    int64_t time_ms;
    struct log_index config_index;
    struct log_offset compacted;
    int64_t tombstones_ms;
    bool resetting;
    uint32_t config_len;
    uint8_t config[META_CONFIG_MAX];
};

/* Fills a whole file. */
void begin_encode(const struct begin *begin, uint8_t out[BEGIN_FILE_SIZE]);
/* The first good copy of a file of n bytes; false when there is none. *ret_damaged: not both are
 * good and equal. */
bool begin_decode(const uint8_t *in, size_t n, struct begin *ret_begin, bool *ret_damaged);

#endif
