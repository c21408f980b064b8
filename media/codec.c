#include "media/codec.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define SPS_MAX 512

/* --- Bits
 * ------------------------------------------------------------------------------------------------------
 */

/* Reads past the end fail and give zeros, as base's cursor does. */
struct bits {
    const uint8_t *data;
    size_t n_bits, pos;
    bool failed;
};

static uint32_t bits_read(struct bits *b, unsigned n)
{
    uint32_t v = 0;
    if (b->failed || n > b->n_bits - b->pos) {
        b->failed = true;
        return 0;
    }
    for (unsigned i = 0; i < n; i++, b->pos++) {
        v = v << 1 | (((uint32_t)b->data[b->pos / 8] >> (7 - b->pos % 8)) & 1u);
    }
    return v;
}

/* Exp-Golomb, clause 9.1. */
static uint32_t bits_ue(struct bits *b)
{
    unsigned zeros = 0;
    while (!b->failed && bits_read(b, 1) == 0) {
        if (++zeros > 31) {
            b->failed = true;
        }
    }
    return b->failed ? 0 : (1u << zeros) - 1 + bits_read(b, zeros);
}

static int32_t bits_se(struct bits *b)
{
    uint32_t v = bits_ue(b);
    return (v & 1) != 0 ? (int32_t)((v + 1) / 2) : -(int32_t)(v / 2);
}

/* --- H.264
 * -----------------------------------------------------------------------------------------------------
 */

/* Clause 7.3.1: 00 00 03 stands for 00 00. */
static size_t unescape(const uint8_t *in, size_t len, uint8_t out[SPS_MAX])
{
    size_t n = 0;
    unsigned zeros = 0;
    for (size_t i = 0; i < len && n < SPS_MAX; i++) {
        if (zeros >= 2 && in[i] == 3) {
            zeros = 0;
            continue;
        }
        zeros = in[i] == 0 ? zeros + 1 : 0;
        out[n++] = in[i];
    }
    return n;
}

static void skip_scaling_list(struct bits *b, unsigned size)
{
    int32_t last = 8, next = 8;
    for (unsigned i = 0; i < size && !b->failed; i++) {
        if (next != 0) {
            next = (last + bits_se(b) % 256 + 256) % 256;
        }
        last = next == 0 ? last : next;
    }
}

static bool profile_has_chroma(uint32_t profile)
{
    static const uint8_t profiles[] = {100, 110, 122, 244, 44,  83, 86,
                                       118, 128, 138, 139, 134, 135};
    return memchr(profiles, (int)profile, sizeof(profiles)) != NULL;
}

/* Returns chroma_format_idc. */
static uint32_t read_chroma(struct bits *b)
{
    uint32_t chroma = bits_ue(b);
    if (chroma == 3) {
        bits_read(b, 1);
    }
    bits_ue(b);
    bits_ue(b);
    bits_read(b, 1);
    if (bits_read(b, 1) != 0) {
        for (unsigned i = 0; i < (chroma == 3 ? 12u : 8u); i++) {
            if (bits_read(b, 1) != 0) {
                skip_scaling_list(b, i < 6 ? 16 : 64);
            }
        }
    }
    return chroma;
}

static void skip_picture_order(struct bits *b)
{
    uint32_t type = bits_ue(b);
    if (type == 0) {
        bits_ue(b);
    } else if (type == 1) {
        bits_read(b, 1);
        bits_se(b);
        bits_se(b);
        uint32_t n = bits_ue(b);
        for (uint32_t i = 0; i < n && !b->failed; i++) {
            bits_se(b);
        }
    }
}

/* Picture size out of a sequence parameter set; false when malformed or out of bounds. */
static bool sps_size(const uint8_t *sps, size_t len, uint32_t *ret_width, uint32_t *ret_height)
{
    uint8_t raw[SPS_MAX];
    size_t n = unescape(sps, len, raw);
    struct bits b = {.data = raw, .n_bits = n * 8};
    bits_read(&b, 8);
    uint32_t profile = bits_read(&b, 8);
    bits_read(&b, 16);
    bits_ue(&b);
    uint32_t chroma = profile_has_chroma(profile) ? read_chroma(&b) : 1;
    bits_ue(&b);
    skip_picture_order(&b);
    bits_ue(&b);
    bits_read(&b, 1);
    uint64_t width = ((uint64_t)bits_ue(&b) + 1) * 16;
    uint64_t map_units = (uint64_t)bits_ue(&b) + 1;
    uint32_t frame_only = bits_read(&b, 1);
    uint64_t height = map_units * 16 * (2 - frame_only);
    if (frame_only == 0) {
        bits_read(&b, 1);
    }
    bits_read(&b, 1);
    uint64_t crop_x = 0, crop_y = 0;
    if (bits_read(&b, 1) != 0) {
        uint64_t unit_x = chroma == 1 || chroma == 2 ? 2 : 1;
        uint64_t unit_y = (chroma == 1 ? 2u : 1u) * (2 - frame_only);
        uint64_t left = bits_ue(&b), right = bits_ue(&b), top = bits_ue(&b), bottom = bits_ue(&b);
        crop_x = unit_x * (left + right);
        crop_y = unit_y * (top + bottom);
    }
    if (b.failed || width > CODEC_DIMENSION_MAX || height > CODEC_DIMENSION_MAX ||
        crop_x >= width || crop_y >= height) {
        return false;
    }
    *ret_width = (uint32_t)(width - crop_x);
    *ret_height = (uint32_t)(height - crop_y);
    return true;
}

int codec_avc_parse(const uint8_t *data, size_t len, struct codec_avc *ret_avc, struct error *err)
{
    struct codec_avc avc = {.config_len = len};
    struct cursor c;
    cursor_init(&c, data, len);
    if (len > CODEC_AVC_CONFIG_MAX) {
        return error_set(err, WEIR_ETOOBIG, "H.264 configuration of %zu bytes", len);
    }
    uint8_t version = cursor_u8(&c);
    uint8_t profile = cursor_u8(&c);
    uint8_t compatibility = cursor_u8(&c);
    uint8_t level = cursor_u8(&c);
    uint8_t nal_length = (cursor_u8(&c) & 3) + 1;
    uint8_t n_sps = cursor_u8(&c) & 0x1f;
    uint16_t sps_len = cursor_be16(&c);
    const uint8_t *sps = cursor_take(&c, sps_len);
    if (!cursor_ok(&c) || version != 1 || n_sps == 0) {
        return error_set(err, WEIR_EPROTO, "malformed H.264 configuration");
    }
    if (nal_length == 3) {
        return error_set(err, WEIR_EPROTO, "H.264 with NAL unit lengths of 3 bytes");
    }
    if (!sps_size(sps, sps_len, &avc.width, &avc.height)) {
        return error_set(err, WEIR_EPROTO, "malformed H.264 sequence parameters");
    }
    memcpy(avc.config, data, len);
    (void)snprintf(avc.name, sizeof(avc.name), "avc1.%02x%02x%02x", profile, compatibility, level);
    *ret_avc = avc;
    return 0;
}

/* --- AAC
 * -------------------------------------------------------------------------------------------------------
 */

static uint32_t read_object_type(struct bits *b)
{
    uint32_t type = bits_read(b, 5);
    return type == 31 ? 32 + bits_read(b, 6) : type;
}

static uint32_t read_sample_rate(struct bits *b)
{
    static const uint32_t rates[] = {96000, 88200, 64000, 48000, 44100, 32000, 24000,
                                     22050, 16000, 12000, 11025, 8000,  7350};
    uint32_t index = bits_read(b, 4);
    if (index == 15) {
        return bits_read(b, 24);
    }
    return index < sizeof(rates) / sizeof(rates[0]) ? rates[index] : 0;
}

int codec_aac_parse(const uint8_t *data, size_t len, struct codec_aac *ret_aac, struct error *err)
{
    static const uint8_t channels_of[16] = {2, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8, 0};
    struct codec_aac aac = {.config_len = len};
    if (len > CODEC_AAC_CONFIG_MAX) {
        return error_set(err, WEIR_ETOOBIG, "AAC configuration of %zu bytes", len);
    }
    struct bits b = {.data = data, .n_bits = len * 8};
    uint32_t type = read_object_type(&b);
    aac.sample_rate = read_sample_rate(&b);
    aac.channels = channels_of[bits_read(&b, 4)];
    uint32_t core = type;
    if (type == 5 || type == 29) { /* SBR, PS: the core's own type follows */
        (void)read_sample_rate(&b);
        core = read_object_type(&b);
    }
    aac.frame_samples = bits_read(&b, 1) != 0 ? 960 : 1024;
    if (b.failed || aac.sample_rate < 7350 || aac.sample_rate > 96000 || aac.channels == 0) {
        return error_set(err, WEIR_EPROTO, "malformed AAC configuration");
    }
    if (core == 0 || core > 4) {
        return error_set(err, WEIR_EVERSION,
                         "AAC object type %u is not supported: set the encoder to AAC-LC", core);
    }
    memcpy(aac.config, data, len);
    (void)snprintf(aac.name, sizeof(aac.name), "mp4a.40.%u", type);
    *ret_aac = aac;
    return 0;
}
