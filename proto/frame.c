#include "proto/frame.h"

#include <assert.h>
#include <string.h>

#include "base/crc32c.h"

#define AT_CRC         0
#define AT_LENGTH      4
#define AT_VERSION     8
#define AT_FLAGS       9
#define AT_TYPE        10
#define AT_CORRELATION 12
#define AT_HEAD_LEN    20
static_assert(AT_HEAD_LEN + 4 == FRAME_HEADER_SIZE, "see the table in frame.h");

/* An idle parser does not hold on to the memory of a single large frame. */
#define KEPT_IDLE_MAX (1u << 20)

static uint32_t frame_crc(const uint8_t *header, const uint8_t *head, uint32_t head_len)
{
    uint32_t crc = crc32c(0, header + AT_LENGTH, FRAME_HEADER_SIZE - AT_LENGTH);
    return head_len > 0 ? crc32c(crc, head, head_len) : crc;
}

int frame_encode_header(const struct frame *frame, uint8_t ret_header[FRAME_HEADER_SIZE],
                        struct error *err)
{
    uint64_t length = (uint64_t)FRAME_HEADER_SIZE + frame->head_len + frame->attachment_len;
    if (length > UINT32_MAX) {
        return error_set(err, WEIR_ETOOBIG, "frame type %u: %llu bytes do not fit", frame->type,
                         (unsigned long long)length);
    }
    store_le32(ret_header + AT_LENGTH, (uint32_t)length);
    ret_header[AT_VERSION] = FRAME_VERSION;
    ret_header[AT_FLAGS] = 0;
    store_le16(ret_header + AT_TYPE, frame->type);
    store_le64(ret_header + AT_CORRELATION, frame->correlation);
    store_le32(ret_header + AT_HEAD_LEN, frame->head_len);
    store_le32(ret_header + AT_CRC, frame_crc(ret_header, frame->head, frame->head_len));
    return 0;
}

void frame_put(struct bytes *out, const struct frame *frame)
{
    uint8_t header[FRAME_HEADER_SIZE];
    if (frame_encode_header(frame, header, NULL) != 0) {
        if (bytes_error(out) == 0) {
            out->error = WEIR_ETOOBIG;
        }
        return;
    }
    bytes_put(out, header, sizeof(header));
    bytes_put(out, frame->head, frame->head_len);
    bytes_put(out, frame->attachment, frame->attachment_len);
}

void frame_parser_init(struct frame_parser *p, uint32_t size_max)
{
    *p = (struct frame_parser){.size_max = size_max};
    bytes_init(&p->kept, 0);
    frame_parser_set_max(p, size_max);
}

void frame_parser_set_max(struct frame_parser *p, uint32_t size_max)
{
    assert(size_max >= FRAME_HEADER_SIZE);
    p->size_max = size_max;
    /* A frame's unfinished start and one feed behind it. */
    p->kept.max = (size_t)size_max + 2 * (size_t)FRAME_FEED_MAX;
}

void frame_parser_close(struct frame_parser *p)
{
    bytes_close(&p->kept);
    p->data = NULL;
    p->len = p->pos = 0;
}

int frame_parser_feed(struct frame_parser *p, const void *data, size_t n)
{
    if (p->failed != 0) {
        return p->failed;
    }
    if (n > FRAME_FEED_MAX) {
        return WEIR_ETOOBIG;
    }
    if (p->len == p->pos) {
        bytes_reset(&p->kept);
        p->data = data;
        p->len = n;
        p->pos = 0;
        return 0;
    }
    /* Left-overs always lie in `kept`: next() and keep() put them there. */
    assert(p->data == p->kept.data);
    bytes_put(&p->kept, data, n);
    if (bytes_error(&p->kept) != 0) {
        p->failed = bytes_error(&p->kept);
        return p->failed;
    }
    p->data = p->kept.data;
    p->len = p->kept.len;
    return 0;
}

int frame_parser_keep(struct frame_parser *p)
{
    size_t left = p->len - p->pos;
    if (left > 0 && p->data == p->kept.data) {
        bytes_consume(&p->kept, p->pos);
    } else {
        if (left == 0 && p->kept.cap > KEPT_IDLE_MAX) {
            bytes_close(&p->kept);
        }
        bytes_reset(&p->kept);
        if (left > 0) {
            bytes_put(&p->kept, p->data + p->pos, left);
        }
        if (bytes_error(&p->kept) != 0) {
            p->failed = bytes_error(&p->kept);
            return p->failed;
        }
    }
    p->data = p->kept.data;
    p->len = left;
    p->pos = 0;
    return 0;
}

/* Header fields that can be judged before the rest of the frame is there. */
static int check_header(const struct frame_parser *p, const uint8_t *h, struct error *err)
{
    uint32_t length = load_le32(h + AT_LENGTH), head_len = load_le32(h + AT_HEAD_LEN);
    if (h[AT_VERSION] != FRAME_VERSION || h[AT_FLAGS] != 0) {
        return error_set(err, WEIR_EVERSION, "not a frame of version %d: version %u, flags %u",
                         FRAME_VERSION, h[AT_VERSION], h[AT_FLAGS]);
    }
    if (length > p->size_max) {
        return error_set(err, WEIR_ETOOBIG, "frame of %u bytes, limit %u", length, p->size_max);
    }
    if (length < FRAME_HEADER_SIZE || head_len > length - FRAME_HEADER_SIZE) {
        return error_set(err, WEIR_EPROTO, "frame of %u bytes with a head of %u", length, head_len);
    }
    return 0;
}

int frame_parser_next(struct frame_parser *p, struct frame *ret_frame, struct error *err)
{
    if (p->failed != 0) {
        return error_set(err, p->failed, "stream already failed: %s", error_name(p->failed));
    }
    size_t left = p->len - p->pos;
    const uint8_t *h = left > 0 ? p->data + p->pos : NULL;
    if (left >= FRAME_HEADER_SIZE) {
        p->failed = check_header(p, h, err);
        if (p->failed != 0) {
            return p->failed;
        }
    }
    if (left < FRAME_HEADER_SIZE || left < load_le32(h + AT_LENGTH)) {
        int rv = frame_parser_keep(p);
        return rv == 0 ? 0 : error_set(err, rv, "no memory for a frame");
    }
    uint32_t length = load_le32(h + AT_LENGTH), head_len = load_le32(h + AT_HEAD_LEN);
    const uint8_t *head = h + FRAME_HEADER_SIZE;
    uint32_t crc = frame_crc(h, head, head_len);
    if (crc != load_le32(h + AT_CRC)) {
        p->failed = WEIR_ECORRUPT;
        return error_set(err, WEIR_ECORRUPT,
                         "frame type %u of %u bytes: checksum %08x, expected %08x",
                         load_le16(h + AT_TYPE), length, load_le32(h + AT_CRC), crc);
    }
    *ret_frame = (struct frame){
        .type = load_le16(h + AT_TYPE),
        .correlation = load_le64(h + AT_CORRELATION),
        .head = head,
        .head_len = head_len,
        .attachment = head + head_len,
        .attachment_len = length - FRAME_HEADER_SIZE - head_len,
    };
    p->pos += length;
    return 1;
}
