#include "media/rtmp_chunk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE_DEFAULT 128
#define TIMESTAMP_EXTENDED 0xffffffu
#define BODY_KEEP_MAX      (64u << 10) /* a larger buffer is given back after its message */

void rtmp_reader_init(struct rtmp_reader *reader)
{
    *reader =
        (struct rtmp_reader){.chunk_size = CHUNK_SIZE_DEFAULT, .assembly_max = RTMP_ASSEMBLY_MAX};
}

void rtmp_reader_close(struct rtmp_reader *reader)
{
    for (size_t i = 0; i < RTMP_CHUNK_STREAMS_MAX; i++) {
        bytes_close(&reader->streams[i].body);
    }
    rtmp_reader_init(reader);
}

static struct rtmp_chunk_stream *stream_find(struct rtmp_reader *reader, uint32_t id, bool make)
{
    for (size_t i = 0; i < RTMP_CHUNK_STREAMS_MAX; i++) {
        struct rtmp_chunk_stream *s = &reader->streams[i];
        if (s->id == id) {
            return s;
        }
        if (s->id == 0) {
            if (!make) {
                return NULL;
            }
            s->id = id;
            bytes_init(&s->body, RTMP_MESSAGE_MAX);
            return s;
        }
    }
    return NULL;
}

static void stream_drop(struct rtmp_reader *reader, struct rtmp_chunk_stream *s)
{
    reader->assembled_bytes -= s->body.len;
    s->partial = false;
    if (s->body.cap > BODY_KEEP_MAX) {
        bytes_close(&s->body);
    }
    bytes_reset(&s->body);
}

int rtmp_reader_set_chunk_size(struct rtmp_reader *reader, uint32_t size, struct error *err)
{
    if (size == 0 || size > INT32_MAX) {
        return error_set(err, WEIR_EPROTO, "rtmp: chunk size %u", size);
    }
    reader->chunk_size = size;
    return 0;
}

void rtmp_reader_abort(struct rtmp_reader *reader, uint32_t chunk_stream_id)
{
    struct rtmp_chunk_stream *s = stream_find(reader, chunk_stream_id, false);
    if (s != NULL && s != reader->current) {
        stream_drop(reader, s);
    }
}

static uint32_t read_chunk_stream_id(struct cursor *c, uint8_t basic)
{
    switch (basic & 0x3f) {
    case 0:
        return 64u + cursor_u8(c);
    case 1:
        return 64u + cursor_le16(c);
    default:
        return basic & 0x3f;
    }
}

/* What a header says, before it is known to be complete: nothing is changed in the stream until
 * then. */
struct header {
    uint8_t format;
    uint32_t id, time, length, stream_id;
    uint8_t type;
    bool has_extended;
};

static void read_fields(struct cursor *c, struct header *h)
{
    uint8_t basic = cursor_u8(c);
    h->format = basic >> 6;
    h->id = read_chunk_stream_id(c, basic);
    if (h->format <= 2) {
        h->time = cursor_be24(c);
        h->has_extended = h->time == TIMESTAMP_EXTENDED;
    }
    if (h->format <= 1) {
        h->length = cursor_be24(c);
        h->type = cursor_u8(c);
    }
    if (h->format == 0) {
        h->stream_id = cursor_le32(c);
    }
    if (h->has_extended) {
        h->time = cursor_be32(c);
    }
}

/* Format 3 of a message with an extended timestamp: see the header file. 0: four bytes must be seen
 * first. */
static bool skip_repeated_extended(struct cursor *c, const struct rtmp_chunk_stream *s)
{
    if (cursor_left(c) < 4) {
        return false;
    }
    if (load_be32(c->data + c->pos) == s->extended) {
        c->pos += 4;
    }
    return true;
}

/* A new message begins on `s`. */
static void begin_message(struct rtmp_chunk_stream *s, const struct header *h)
{
    if (h->format <= 2) {
        s->has_extended = h->has_extended;
        s->extended = h->time;
        s->delta_ms = h->time;
    }
    if (h->format <= 1) {
        s->length = h->length;
        s->type = h->type;
    }
    if (h->format == 0) {
        s->stream_id = h->stream_id;
        s->timestamp_ms = h->time;
    } else {
        /* Section 5.3.1.2.4: also format 3 after format 0 adds what that one carried. 32 bits wrap.
         */
        s->timestamp_ms += s->delta_ms;
    }
    s->partial = true;
}

/* 1: a header was taken and reader->current is set. 0: incomplete, nothing taken. */
static int read_header(struct rtmp_reader *reader, struct cursor *in, struct error *err)
{
    struct cursor c = *in;
    struct header h = {0};
    read_fields(&c, &h);
    if (!cursor_ok(&c)) {
        return 0;
    }
    struct rtmp_chunk_stream *s = stream_find(reader, h.id, h.format == 0);
    if (s == NULL) {
        return error_set(err, WEIR_EPROTO, "rtmp: chunk stream %u %s", h.id,
                         h.format == 0 ? "is one too many" : "begins without a full header");
    }
    if (h.format == 3 && s->has_extended && !skip_repeated_extended(&c, s)) {
        return 0;
    }
    if (h.format != 3 && s->partial) {
        stream_drop(reader, s); /* the peer gave up the message it had begun */
    }
    if (!s->partial) {
        begin_message(s, &h);
    }
    if (s->length > RTMP_MESSAGE_MAX) {
        return error_set(err, WEIR_ETOOBIG, "rtmp: message of %u bytes (limit %u)", s->length,
                         RTMP_MESSAGE_MAX);
    }
    uint32_t left = s->length - (uint32_t)s->body.len;
    reader->chunk_left = left < reader->chunk_size ? left : reader->chunk_size;
    reader->current = s;
    *in = c;
    return 1;
}

static int read_payload(struct rtmp_reader *reader, struct cursor *in, struct error *err)
{
    struct rtmp_chunk_stream *s = reader->current;
    assert(s != NULL);
    size_t n = cursor_left(in) < reader->chunk_left ? cursor_left(in) : reader->chunk_left;
    if (reader->assembled_bytes + n > reader->assembly_max) {
        return error_set(err, WEIR_ETOOBIG, "rtmp: over %u bytes of unfinished messages",
                         reader->assembly_max);
    }
    bytes_put(&s->body, cursor_take(in, n), n);
    if (bytes_error(&s->body) != 0) {
        return error_set(err, bytes_error(&s->body), "rtmp: message of %u bytes", s->length);
    }
    reader->assembled_bytes += n;
    reader->chunk_left -= (uint32_t)n;
    return 0;
}

int rtmp_reader_next(struct rtmp_reader *reader, struct cursor *in,
                     struct rtmp_message *ret_message, struct error *err)
{
    for (;;) {
        struct rtmp_chunk_stream *s = reader->current;
        if (s != NULL && !s->partial) {
            /* Its message was given out by the last call; the caller is done with it now. */
            stream_drop(reader, s);
            reader->current = s = NULL;
        }
        if (s == NULL) {
            int r = read_header(reader, in, err);
            if (r <= 0) {
                return r;
            }
            s = reader->current;
        }
        assert(s != NULL);
        int r = read_payload(reader, in, err);
        if (r < 0) {
            return r;
        }
        if (reader->chunk_left > 0) {
            return 0;
        }
        if (s->body.len < s->length) {
            reader->current = NULL;
            continue;
        }
        s->partial = false;
        *ret_message =
            (struct rtmp_message){s->type, s->timestamp_ms, s->stream_id, s->body.data, s->length};
        return 1;
    }
}

void rtmp_put_message(struct bytes *out, uint32_t chunk_size, uint8_t chunk_stream_id, uint8_t type,
                      uint32_t stream_id, const uint8_t *body, size_t len)
{
    bytes_put_u8(out, chunk_stream_id);
    bytes_put_be24(out, 0);
    bytes_put_be24(out, (uint32_t)len);
    bytes_put_u8(out, type);
    bytes_put_le32(out, stream_id);
    for (size_t at = 0; at < len; at += chunk_size) {
        if (at > 0) {
            bytes_put_u8(out, (uint8_t)(0xc0 | chunk_stream_id));
        }
        bytes_put(out, body + at, len - at < chunk_size ? len - at : chunk_size);
    }
}
