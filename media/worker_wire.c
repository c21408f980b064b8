#include "media/worker_wire.h"

#include <string.h>

#include "base/crc32c.h"

/* Times stay far enough from the ends of int64 that products with a time scale cannot overflow. */
#define TICKS_MAX   (INT64_MAX >> 20)
#define SAMPLES_MAX (INT64_MAX >> 20)

enum part_flags { PART_INDEPENDENT = 1, PART_LAST = 2 };

/* --- Frames
 * ----------------------------------------------------------------------------------------------------
 */

static size_t frame_begin(struct bytes *out, enum wire_type type)
{
    size_t at = out->len;
    bytes_put_le32(out, 0);
    bytes_put_le32(out, 0);
    bytes_put_u8(out, WIRE_VERSION);
    bytes_put_u8(out, (uint8_t)type);
    bytes_put_le16(out, 0);
    return at;
}

static void frame_end(struct bytes *out, size_t at)
{
    if (bytes_error(out) != 0) {
        return;
    }
    uint8_t *frame = out->data + at;
    size_t size = out->len - at;
    store_le32(frame + 4, (uint32_t)(size - WIRE_HEADER_SIZE));
    store_le32(frame, crc32c(0, frame + 4, size - 4));
}

int wire_next(const uint8_t *data, size_t len, struct wire_frame *ret_frame, struct error *err)
{
    if (len < WIRE_HEADER_SIZE) {
        return 0;
    }
    uint32_t payload = load_le32(data + 4);
    if (data[8] != WIRE_VERSION) {
        return error_set(err, WEIR_EVERSION, "worker frame of version %u", data[8]);
    }
    if (payload > WIRE_PAYLOAD_MAX) {
        return error_set(err, WEIR_ETOOBIG, "worker frame of %u bytes", payload);
    }
    size_t size = WIRE_HEADER_SIZE + (size_t)payload;
    if (len < size) {
        return 0;
    }
    if (load_le32(data) != crc32c(0, data + 4, size - 4)) {
        return error_set(err, WEIR_ECORRUPT, "worker frame failed its checksum");
    }
    *ret_frame = (struct wire_frame){data[9], data + WIRE_HEADER_SIZE, payload, size};
    return 1;
}

/* --- Encoders
 * --------------------------------------------------------------------------------------------------
 */

void wire_put_start(struct bytes *out, const struct wire_start *m)
{
    size_t at = frame_begin(out, WIRE_START);
    bytes_put_le32(out, m->part_ticks);
    bytes_put_le32(out, m->segment_ticks);
    bytes_put_le32(out, m->rung_height);
    bytes_put_le32(out, m->rung_bps);
    bytes_put_le32(out, m->target_duration_ms);
    for (size_t i = 0; i < WIRE_RENDITIONS; i++) {
        bytes_put_le64(out, m->first_msn[i]);
        bytes_put_le64(out, m->next[i].msn);
        bytes_put_le32(out, m->next[i].part);
    }
    frame_end(out, at);
}

void wire_put_config(struct bytes *out, enum wire_type type, const uint8_t *config, size_t len)
{
    size_t at = frame_begin(out, type);
    bytes_put(out, config, len);
    frame_end(out, at);
}

void wire_put_video(struct bytes *out, const struct wire_video *m)
{
    size_t at = frame_begin(out, WIRE_VIDEO);
    bytes_put_le64(out, (uint64_t)m->dts);
    bytes_put_le32(out, (uint32_t)m->composition);
    bytes_put_u8(out, m->key);
    bytes_put(out, m->data, m->len);
    frame_end(out, at);
}

void wire_put_audio(struct bytes *out, const struct wire_audio *m)
{
    size_t at = frame_begin(out, WIRE_AUDIO);
    bytes_put_le64(out, (uint64_t)m->samples);
    bytes_put(out, m->data, m->len);
    frame_end(out, at);
}

void wire_put_empty(struct bytes *out, enum wire_type type)
{
    frame_end(out, frame_begin(out, type));
}

void wire_put_rendition(struct bytes *out, const struct wire_rendition *m)
{
    size_t codecs_len = strnlen(m->codecs, sizeof(m->codecs) - 1);
    size_t at = frame_begin(out, WIRE_RENDITION);
    bytes_put_u8(out, m->rendition);
    bytes_put_u8(out, m->discontinuity);
    bytes_put_le16(out, (uint16_t)codecs_len);
    bytes_put_le32(out, m->width);
    bytes_put_le32(out, m->height);
    bytes_put_le32(out, m->bandwidth);
    bytes_put_le32(out, m->frame_rate_milli);
    bytes_put_le32(out, m->target_duration_ms);
    bytes_put_le64(out, m->first_msn);
    bytes_put(out, m->codecs, codecs_len);
    bytes_put(out, m->init, m->init_len);
    frame_end(out, at);
}

void wire_put_part(struct bytes *out, const struct wire_part *m)
{
    size_t at = frame_begin(out, WIRE_PART);
    bytes_put_u8(out, m->rendition);
    bytes_put_u8(out,
                 (uint8_t)((m->independent ? PART_INDEPENDENT : 0) | (m->last ? PART_LAST : 0)));
    bytes_put_le16(out, 0);
    bytes_put_le32(out, m->part);
    bytes_put_le64(out, m->msn);
    bytes_put_le64(out, (uint64_t)m->start);
    bytes_put_le32(out, m->duration);
    bytes_put(out, m->data, m->len);
    frame_end(out, at);
}

void wire_put_thumbnail(struct bytes *out, const struct wire_thumbnail *m)
{
    size_t at = frame_begin(out, WIRE_THUMBNAIL);
    bytes_put_le64(out, m->msn);
    bytes_put_le32(out, m->width);
    bytes_put_le32(out, m->height);
    bytes_put(out, m->data, m->len);
    frame_end(out, at);
}

void wire_put_stats(struct bytes *out, const struct wire_stats *m)
{
    size_t at = frame_begin(out, WIRE_STATS);
    bytes_put_le64(out, m->msn);
    bytes_put_le32(out, m->bps);
    bytes_put_le32(out, m->segment_ms);
    bytes_put_le32(out, m->frame_rate_milli);
    frame_end(out, at);
}

static void put_text(struct bytes *out, enum wire_type type, uint32_t code, const char *text)
{
    size_t at = frame_begin(out, type);
    bytes_put_le32(out, code);
    bytes_put(out, text, strlen(text));
    frame_end(out, at);
}

void wire_put_warning(struct bytes *out, enum wire_warning code, const char *text)
{
    put_text(out, WIRE_WARNING, code, text);
}

void wire_put_error(struct bytes *out, const char *text)
{
    put_text(out, WIRE_ERROR, 0, text);
}

/* --- Decoders
 * --------------------------------------------------------------------------------------------------
 */

static int get_result(const struct cursor *c)
{
    return cursor_ok(c) ? 0 : WEIR_EPROTO;
}

static void get_rest(struct cursor *c, const uint8_t **data, size_t *len)
{
    *len = cursor_left(c);
    *data = cursor_take(c, *len);
}

int wire_get_start(const struct wire_frame *f, struct wire_start *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->part_ticks = cursor_le32(&c);
    ret->segment_ticks = cursor_le32(&c);
    ret->rung_height = cursor_le32(&c);
    ret->rung_bps = cursor_le32(&c);
    ret->target_duration_ms = cursor_le32(&c);
    for (size_t i = 0; i < WIRE_RENDITIONS; i++) {
        ret->first_msn[i] = cursor_le64(&c);
        ret->next[i].msn = cursor_le64(&c);
        ret->next[i].part = cursor_le32(&c);
    }
    bool sane = ret->part_ticks > 0 && ret->segment_ticks >= ret->part_ticks &&
                ret->segment_ticks <= INT32_MAX && ret->rung_height <= 8192;
    return sane ? get_result(&c) : WEIR_EPROTO;
}

int wire_get_video(const struct wire_frame *f, struct wire_video *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->dts = (int64_t)cursor_le64(&c);
    ret->composition = (int32_t)cursor_le32(&c);
    ret->key = cursor_u8(&c) != 0;
    get_rest(&c, &ret->data, &ret->len);
    return ret->dts < 0 || ret->dts > TICKS_MAX ? WEIR_EPROTO : get_result(&c);
}

int wire_get_audio(const struct wire_frame *f, struct wire_audio *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->samples = (int64_t)cursor_le64(&c);
    get_rest(&c, &ret->data, &ret->len);
    return ret->samples < 0 || ret->samples > SAMPLES_MAX ? WEIR_EPROTO : get_result(&c);
}

int wire_get_rendition(const struct wire_frame *f, struct wire_rendition *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->rendition = cursor_u8(&c);
    ret->discontinuity = cursor_u8(&c) != 0;
    size_t codecs_len = cursor_le16(&c);
    ret->width = cursor_le32(&c);
    ret->height = cursor_le32(&c);
    ret->bandwidth = cursor_le32(&c);
    ret->frame_rate_milli = cursor_le32(&c);
    ret->target_duration_ms = cursor_le32(&c);
    ret->first_msn = cursor_le64(&c);
    const uint8_t *codecs = cursor_take(&c, codecs_len);
    get_rest(&c, &ret->init, &ret->init_len);
    if (!cursor_ok(&c) || codecs_len >= sizeof(ret->codecs) || ret->rendition >= WIRE_RENDITIONS) {
        return WEIR_EPROTO;
    }
    memcpy(ret->codecs, codecs, codecs_len);
    ret->codecs[codecs_len] = 0;
    return 0;
}

int wire_get_part(const struct wire_frame *f, struct wire_part *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->rendition = cursor_u8(&c);
    uint8_t flags = cursor_u8(&c);
    ret->independent = (flags & PART_INDEPENDENT) != 0;
    ret->last = (flags & PART_LAST) != 0;
    (void)cursor_le16(&c);
    ret->part = cursor_le32(&c);
    ret->msn = cursor_le64(&c);
    ret->start = (int64_t)cursor_le64(&c);
    ret->duration = cursor_le32(&c);
    get_rest(&c, &ret->data, &ret->len);
    return ret->rendition >= WIRE_RENDITIONS ? WEIR_EPROTO : get_result(&c);
}

int wire_get_thumbnail(const struct wire_frame *f, struct wire_thumbnail *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->msn = cursor_le64(&c);
    ret->width = cursor_le32(&c);
    ret->height = cursor_le32(&c);
    get_rest(&c, &ret->data, &ret->len);
    return get_result(&c);
}

int wire_get_stats(const struct wire_frame *f, struct wire_stats *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->msn = cursor_le64(&c);
    ret->bps = cursor_le32(&c);
    ret->segment_ms = cursor_le32(&c);
    ret->frame_rate_milli = cursor_le32(&c);
    return get_result(&c);
}

int wire_get_text(const struct wire_frame *f, struct wire_text *ret)
{
    struct cursor c;
    cursor_init(&c, f->payload, f->len);
    ret->code = cursor_le32(&c);
    const uint8_t *text;
    get_rest(&c, &text, &ret->len);
    ret->text = (const char *)text;
    return get_result(&c);
}
