/* Frames: how messages are cut out of a byte stream, on the links between nodes and between client
 * and broker.
 *
 * A frame is a header, a `head` (one protobuf message or one packed struct, named by the type) and
 * an `attachment` of raw bytes that carry their own checksums (record batches, raft entries), so
 * large payloads are neither copied nor summed twice. Little endian:
 *
 *   at size field
 *    0  4   crc32c of bytes 4..23 and of the head
 *    4  4   length of the whole frame, header included, bytes
 *    8  1   version, 1
 *    9  1   flags, 0
 *   10  2   type, from the tables of the protocol in use
 *   12  8   correlation: a reply repeats that of its request
 *   20  4   head_len, bytes
 *   24  head_len  head
 *   ..  rest      attachment
 *
 * No state besides the parser's own; a parser belongs to one thread. */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include "base/bytes.h"
#include "base/error.h"

#define FRAME_HEADER_SIZE 24
#define FRAME_VERSION     1
/* Default limit of a whole frame, bytes. */
#define FRAME_SIZE_MAX (32u << 20)
/* More than this is never fed at once, bytes. */
#define FRAME_FEED_MAX (4u << 20)

struct frame {
    uint16_t type;
    uint64_t correlation;
    const uint8_t *head;
    uint32_t head_len;
    const uint8_t *attachment;
    uint32_t attachment_len;
};

/* Writes the header of a frame whose head and attachment the caller sends behind it. WEIR_ETOOBIG
 * when the frame's length does not fit its field. frame->attachment is not looked at. */
int frame_encode_header(const struct frame *frame, uint8_t ret_header[FRAME_HEADER_SIZE],
                        struct error *err);
/* Appends the whole frame to `out`; errors stick in `out`. */
void frame_put(struct bytes *out, const struct frame *frame);

/* Cuts frames out of a stream. Whole frames inside one feed are handed out without being copied. */
struct frame_parser {
    struct bytes kept;   /* the start of a frame whose end has not come */
    const uint8_t *data; /* what next() reads: the fed memory, or `kept` */
    size_t len, pos;
    uint32_t size_max;
    int failed; /* the error that next() found; sticks */
};

/* size_max: frames above it are refused with WEIR_ETOOBIG before any of their memory is taken. */
void frame_parser_init(struct frame_parser *p, uint32_t size_max);
void frame_parser_close(struct frame_parser *p);
/* From the next frame on: when a peer has proven itself. */
void frame_parser_set_max(struct frame_parser *p, uint32_t size_max);
/* Offers n <= FRAME_FEED_MAX bytes, borrowed until next() returned 0 or frame_parser_keep.
 * Everything fed before must have been taken (next() returned 0) or kept. WEIR_ENOMEM,
 * WEIR_ETOOBIG. */
int frame_parser_feed(struct frame_parser *p, const void *data, size_t n);
/* 1: *ret_frame filled, its pointers valid until the next call on the parser; 0: more bytes are
 * needed; negative: the stream is no good and must be closed: WEIR_EVERSION (not this protocol),
 * WEIR_ETOOBIG, WEIR_ECORRUPT (checksum), WEIR_EPROTO (lengths contradict), WEIR_ENOMEM. */
int frame_parser_next(struct frame_parser *p, struct frame *ret_frame, struct error *err);
/* Copies what was fed and not yet taken, so that the caller may stop in the middle (back-pressure).
 * WEIR_ENOMEM, WEIR_ETOOBIG. */
int frame_parser_keep(struct frame_parser *p);

#endif
