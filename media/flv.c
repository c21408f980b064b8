#include "media/flv.h"

#include <ctype.h>
#include <string.h>

#include "base/bytes.h"

#define CODEC_AVC   7
#define CODEC_HEVC  12 /* not Adobe's, but sent by some */
#define SOUND_EX    9
#define SOUND_AAC   10
#define FRAME_KEY   1
#define FRAME_INFO  5 /* a command for the player */
#define EX_HEADER   0x80u
#define FOURCC_SIZE 4

enum avc_type { AVC_CONFIG = 0, AVC_NALU = 1, AVC_END = 2 };
enum ex_type { EX_CONFIG = 0, EX_FRAMES = 1, EX_END = 2, EX_FRAMES_NO_COMPOSITION = 3 };

static int32_t read_s24(struct cursor *c)
{
    uint32_t v = cursor_be24(c);
    return (int32_t)(v << 8) >> 8;
}

static int cut_short(struct error *err, const char *what)
{
    return error_set(err, WEIR_EPROTO, "%s message cut short", what);
}

static void take_rest(struct cursor *c, enum flv_kind kind, struct flv_packet *p)
{
    p->len = cursor_left(c);
    p->data = cursor_take(c, p->len);
    p->kind = p->len > 0 ? kind : FLV_IGNORED;
}

static int refuse_fourcc(const uint8_t *fourcc, const char *instead, struct error *err)
{
    char name[FOURCC_SIZE + 1] = {0};
    for (size_t i = 0; i < FOURCC_SIZE; i++) {
        name[i] = (char)(isalnum(fourcc[i]) ? fourcc[i] : '?');
    }
    return error_set(err, WEIR_EVERSION, "codec %s is not supported: set the encoder to %s", name,
                     instead);
}

static int parse_enhanced_video(struct cursor *c, uint8_t head, struct flv_packet *p,
                                struct error *err)
{
    const uint8_t *fourcc = cursor_take(c, FOURCC_SIZE);
    if (fourcc == NULL) {
        return cut_short(err, "video");
    }
    if (memcmp(fourcc, "avc1", FOURCC_SIZE) != 0) {
        return refuse_fourcc(fourcc, "H.264", err);
    }
    switch (head & 0x0f) {
    case EX_CONFIG:
        take_rest(c, FLV_CONFIG, p);
        break;
    case EX_FRAMES:
        p->composition_ms = read_s24(c);
        take_rest(c, FLV_FRAME, p);
        break;
    case EX_FRAMES_NO_COMPOSITION:
        take_rest(c, FLV_FRAME, p);
        break;
    default:
        break;
    }
    return 0;
}

static int parse_avc(struct cursor *c, struct flv_packet *p)
{
    uint8_t type = cursor_u8(c);
    p->composition_ms = read_s24(c);
    if (type == AVC_CONFIG || type == AVC_NALU) {
        take_rest(c, type == AVC_CONFIG ? FLV_CONFIG : FLV_FRAME, p);
    }
    return 0;
}

int flv_parse_video(const uint8_t *body, size_t len, struct flv_packet *ret_packet,
                    struct error *err)
{
    struct cursor c;
    cursor_init(&c, body, len);
    uint8_t head = cursor_u8(&c);
    uint8_t frame_type = (head >> 4) & 7;
    uint8_t codec = head & 0x0f;
    struct flv_packet p = {.kind = FLV_IGNORED, .key = frame_type == FRAME_KEY};
    int rc = 0;
    if (!cursor_ok(&c)) {
        return cut_short(err, "video");
    }
    if (frame_type == FRAME_INFO) {
        *ret_packet = p;
        return 0;
    }
    if ((head & EX_HEADER) != 0) {
        rc = parse_enhanced_video(&c, head, &p, err);
    } else if (codec == CODEC_AVC) {
        rc = parse_avc(&c, &p);
    } else {
        rc = error_set(err, WEIR_EVERSION,
                       "video codec %u%s is not supported: set the encoder to H.264", codec,
                       codec == CODEC_HEVC ? " (HEVC)" : "");
    }
    if (rc == 0 && !cursor_ok(&c)) {
        rc = cut_short(err, "video");
    }
    if (rc == 0) {
        *ret_packet = p;
    }
    return rc;
}

static int parse_enhanced_audio(struct cursor *c, uint8_t head, struct flv_packet *p,
                                struct error *err)
{
    const uint8_t *fourcc = cursor_take(c, FOURCC_SIZE);
    if (fourcc == NULL) {
        return cut_short(err, "audio");
    }
    if (memcmp(fourcc, "mp4a", FOURCC_SIZE) != 0) {
        return refuse_fourcc(fourcc, "AAC", err);
    }
    uint8_t type = head & 0x0f;
    if (type == EX_CONFIG || type == EX_FRAMES) {
        take_rest(c, type == EX_CONFIG ? FLV_CONFIG : FLV_FRAME, p);
    }
    return 0;
}

int flv_parse_audio(const uint8_t *body, size_t len, struct flv_packet *ret_packet,
                    struct error *err)
{
    struct cursor c;
    cursor_init(&c, body, len);
    uint8_t head = cursor_u8(&c);
    uint8_t format = head >> 4;
    struct flv_packet p = {.kind = FLV_IGNORED, .key = true};
    int rc = 0;
    if (!cursor_ok(&c)) {
        return cut_short(err, "audio");
    }
    if (format == SOUND_EX) {
        rc = parse_enhanced_audio(&c, head, &p, err);
    } else if (format == SOUND_AAC) {
        uint8_t type = cursor_u8(&c);
        take_rest(&c, type == 0 ? FLV_CONFIG : FLV_FRAME, &p);
    } else {
        rc = error_set(err, WEIR_EVERSION,
                       "audio codec %u is not supported: set the encoder to AAC", format);
    }
    if (rc == 0 && !cursor_ok(&c)) {
        rc = cut_short(err, "audio");
    }
    if (rc == 0) {
        *ret_packet = p;
    }
    return rc;
}
