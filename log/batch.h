/* Kafka RecordBatch v2 (https://kafka.apache.org/documentation/#recordbatch), big endian, 61-byte
 * header:
 *
 *   at size field
 *    0  8  baseOffset          stamped by the partition's leader
 *    8  4  batchLength         bytes after this field
 *   12  4  partitionLeaderEpoch  low 32 bits of the Raft term
 *   16  1  magic               2
 *   17  4  crc                 CRC-32C of attributes to the end
 *   21  2  attributes          bits 0-2 codec (0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd), 3
 * log-append time, 4 transactional, 5 control 23  4  lastOffsetDelta 27  8  baseTimestamp       ms
 *   35  8  maxTimestamp        ms
 *   43  8  producerId          -1: none
 *   51  2  producerEpoch       -1: none
 *   53  4  baseSequence        -1: none
 *   57  4  recordCount
 *
 * A batch that compaction has taken records from keeps lastOffsetDelta; recordCount is then smaller
 * than lastOffsetDelta + 1, and 0 leaves the header alone.
 *
 * A record: length, attributes i8, timestampDelta, offsetDelta, key, value, headers; lengths and
 * deltas are zigzag varints, length -1 is null. The leader stamps baseOffset, leader epoch (outside
 * the CRC) and, log-append time, both timestamps (inside it: the CRC is then made anew), so every
 * replica holds the same bytes. Any thread; no state. */
#ifndef LOG_BATCH_H
#define LOG_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "log/types.h"

#define BATCH_HEADER_SIZE 61
#define BATCH_RECORDS_MAX 1000000
#define BATCH_HEADERS_MAX 64

struct batch_info {
    struct log_offset base_offset;
    uint32_t size; /* whole batch, bytes, header included */
    uint32_t record_count;
    uint16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp_ms, max_timestamp_ms;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
};

/* How many offsets it takes: as many as it had records before compaction (log/compact.c). */
static inline uint32_t batch_offsets(const struct batch_info *info)
{
    return (uint32_t)info->last_offset_delta + 1;
}

struct batch_record {
    struct log_offset offset;
    int64_t timestamp_ms;
    const uint8_t *key; /* NULL: null key; borrowed */
    int32_t key_len;    /* -1: null */
    const uint8_t *value;
    int32_t value_len;
};

/* Header of the batch at `data`; checks magic, lengths and counts against each other and n, not the
 * CRC. WEIR_ECORRUPT with what is wrong; fewer bytes than the batch says: WEIR_ETOOBIG. */
int batch_parse(const void *data, size_t n, struct batch_info *ret_info, struct error *err);
/* batch_parse, the CRC, and (codec none) every record's bounds, deltas and count. What a broker
 * does before it accepts a batch, which must have all its records too. */
int batch_check(const void *data, size_t n, struct batch_info *ret_info, struct error *err);
/* Writes base offset, leader epoch and append time in place and renews the CRC. All records get
 * append_ms as their time. */
void batch_stamp(void *data, struct log_offset base, struct log_term term, int64_t append_ms);

/* Who numbered a batch, and how (log/producers.h). Negative: it is not numbered. */
struct batch_producer {
    int64_t id;
    int16_t epoch;
    int32_t sequence; /* of its first record */
    uint32_t records; /* as many as it had before compaction */
};
/* The same of a batch that passed batch_parse. */
struct batch_producer batch_producer_of(const void *data);
int64_t batch_append_ms(const void *data);
struct log_offset batch_base_offset(const void *data);
/* Numbers it; renews the CRC. */
void batch_set_producer(void *data, const struct batch_producer *producer);

/* Iterates records of an uncompressed batch that passed batch_parse. */
struct batch_iter {
    struct cursor c;
    struct batch_info info;
    uint32_t i;
    int64_t next_delta; /* no record may have a smaller offset delta */
};
int batch_iter_init(struct batch_iter *it, const void *data, size_t n, struct error *err);
/* 1: *ret_record filled; 0: end; negative: WEIR_ECORRUPT. */
int batch_iter_next(struct batch_iter *it, struct batch_record *ret_record, struct error *err);

/* Appends to `out` the batch without the records that `keep` refuses. Offsets, times, producer and
 * all else that the header says stay, but for length, record count and CRC. *ret_removed: how many
 * records are gone. Errors also stick in `out`. */
typedef bool (*batch_keep_cb)(void *data, const struct batch_record *record);
int batch_thin(const void *batch, size_t n, batch_keep_cb keep, void *data, struct bytes *out,
               uint32_t *ret_removed, struct error *err);

/* Builds a batch at the end of `out` (its memory is reused): begin, add, finish. One at a time per
 * builder. */
struct batch_builder {
    struct bytes *out;
    size_t start;
    uint32_t count;
    int64_t base_timestamp_ms, max_timestamp_ms;
    struct batch_producer producer; /* may be set until batch_finish */
};
void batch_begin(struct batch_builder *b, struct bytes *out, int64_t now_ms);
/* A NULL key or value is null. Errors stick in `out`. */
void batch_add(struct batch_builder *b, int64_t timestamp_ms, const void *key, size_t key_len,
               const void *value, size_t value_len);
/* Fills in the header and CRC. Returns the batch's size in bytes, or the negative error that stuck;
 * an empty batch is WEIR_EINVAL. */
int batch_finish(struct batch_builder *b);

#endif
