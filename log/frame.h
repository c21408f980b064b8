/* A frame: one Raft entry on disk. Little endian, 8-byte aligned, one after the other in a segment
 * file (log/segment.h):
 *
 *   at size field
 *    0  4  crc32c of the segment's salt (8 bytes) and bytes 4..47
 *    4  4  crc32c of the payload and its padding
 *    8  4  payload length, bytes
 *   12  1  type: 1 batch, 2 barrier, 3 configuration, 4 control (log/types.h)
 *   13  1  version: 1
 *   14  2  zero
 *   16  8  raft term
 *   24  8  raft index
 *   32  8  base offset: the partition's next offset before this entry
 *   40  8  synced index: every entry up to it was durable when this frame was written
 *   48  n  payload, then zeros to a multiple of 8
 *
 * The header is checked by itself so that a damaged payload does not hide where the next frame is,
 * and so that sealing a frame (its synced index is known only when it is written) does not touch
 * the payload again. The salt is the segment's own random number: a frame inside a payload, or left
 * over from another file, is never taken for one. The synced index tells recovery a torn tail from
 * damage: a bad frame at index j with a good one behind it whose synced index is >= j was once
 * durable. Any thread; no state. */
#ifndef LOG_FRAME_H
#define LOG_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "log/types.h"

#define FRAME_HEADER_SIZE 48
#define FRAME_ALIGN       8
/* Largest payload. */
#define FRAME_PAYLOAD_MAX (32U << 20)

struct frame {
    uint32_t len;
    enum log_entry_type type;
    struct log_term term;
    struct log_index index;
    struct log_offset base_offset;
    struct log_index synced;
    uint32_t payload_crc;
};

/* Bytes on disk of a frame with `len` bytes of payload. */
static inline uint64_t frame_size(uint32_t len)
{
    return ((uint64_t)FRAME_HEADER_SIZE + len + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

/* Start of the header's checksum for a segment with this salt. */
uint32_t frame_seed(uint64_t salt);
/* Writes the whole frame at `at` (frame_size bytes) but for what frame_seal fills in. synced and
 * payload_crc of `f` are ignored. */
void frame_write(uint8_t *at, const struct frame *f, const void *payload);
void frame_seal(uint8_t *at, uint32_t seed, struct log_index synced);
/* The header of a frame that frame_write made, without checking. */
struct frame frame_peek(const uint8_t *at);
/* Checks the header (48 bytes at `at`) with its checksum and bounds. */
bool frame_header_ok(const uint8_t *at, uint32_t seed, struct frame *ret_frame);
/* Checks payload and padding, frame_size(f->len) - 48 bytes. */
bool frame_payload_ok(const struct frame *f, const uint8_t *payload);

/* What a payload means for the partition: how many offsets it takes, and its append time (0: none).
 * A batch must begin with a header that batch_parse accepts, fill the payload, and have the frame's
 * base offset; a control entry must be one: WEIR_EPROTO. */
int frame_meaning(const struct frame *f, const uint8_t *payload, uint32_t *ret_offsets,
                  int64_t *ret_time_ms, struct error *err);

#endif
