/* The chunk layer of RTMP: messages out of a byte stream and back (RTMP 1.0, section 5.3).
 *
 * Basic header: format (2 bits) and chunk stream id (6 bits, or 64 + 1 or 2 more bytes: 2..65599).
 * Message header by format, big endian but for the stream id:
 *   0: timestamp u24, length u24, type u8, stream id u32 little endian    1: delta u24, length u24,
 * type u8 2: delta u24                                                          3: nothing, as
 * before A timestamp or delta of 0xffffff is followed by the real one in 4 bytes. On format 3
 * chunks of such a message ffmpeg repeats these 4 bytes, librtmp (OBS before 2024) does not: they
 * are peeked at and taken when they equal the value known. */
#ifndef MEDIA_RTMP_CHUNK_H
#define MEDIA_RTMP_CHUNK_H

#include "base/bytes.h"
#include "base/error.h"
#include "media/rtmp.h"

struct rtmp_message {
    uint8_t type;
    uint32_t timestamp_ms;
    uint32_t stream_id;
    const uint8_t *body; /* valid until the reader's next call */
    size_t len;
};

struct rtmp_chunk_stream {
    uint32_t id; /* 0: free */
    uint32_t timestamp_ms, delta_ms, extended;
    bool has_extended, partial; /* partial: a message is half received */
    uint8_t type;
    uint32_t stream_id, length;
    struct bytes body;
};

struct rtmp_reader {
    struct rtmp_chunk_stream streams[RTMP_CHUNK_STREAMS_MAX];
    struct rtmp_chunk_stream *current; /* whose payload comes next, NULL: a header does */
    uint32_t chunk_size, chunk_left;
    uint32_t assembly_max; /* bytes in half-received messages */
    size_t assembled_bytes;
};

void rtmp_reader_init(struct rtmp_reader *reader);
void rtmp_reader_close(struct rtmp_reader *reader);
/* Takes from the cursor what it can. 1: a whole message is in *ret_message; 0: more bytes are
 * needed (the cursor stands at the first byte not taken); negative: WEIR_EPROTO, WEIR_ETOOBIG,
 * WEIR_ENOMEM. */
int rtmp_reader_next(struct rtmp_reader *reader, struct cursor *in,
                     struct rtmp_message *ret_message, struct error *err);
/* The peer's Set Chunk Size and Abort. */
int rtmp_reader_set_chunk_size(struct rtmp_reader *reader, uint32_t size, struct error *err);
void rtmp_reader_abort(struct rtmp_reader *reader, uint32_t chunk_stream_id);

/* Appends one message with timestamp 0 in chunks of `chunk_size`. chunk_stream_id is 2..63. */
void rtmp_put_message(struct bytes *out, uint32_t chunk_size, uint8_t chunk_stream_id, uint8_t type,
                      uint32_t stream_id, const uint8_t *body, size_t len);

#endif
