/* FLV tag bodies, which are what RTMP audio and video messages carry: from the header bits to "a
 * key frame of H.264".
 *
 * Understood: H.264 and AAC, in the classic form (Adobe FLV 10.1, annex E.4) and in the enhanced
 * one (FourCC avc1, mp4a). Any other codec is WEIR_EVERSION with a text that can be shown to the
 * streamer. Pure; results borrow from the body. */
#ifndef MEDIA_FLV_H
#define MEDIA_FLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum flv_kind {
    FLV_IGNORED, /* end of sequence, metadata, an empty frame */
    FLV_CONFIG,  /* data is an AVCDecoderConfigurationRecord or an AudioSpecificConfig */
    FLV_FRAME,   /* data is length-prefixed NAL units or one raw AAC frame */
};

struct flv_packet {
    enum flv_kind kind;
    bool key;
    int32_t composition_ms; /* pts - dts, may be negative */
    const uint8_t *data;
    size_t len;
};

/* WEIR_EVERSION: another codec. WEIR_EPROTO: cut short. */
int flv_parse_video(const uint8_t *body, size_t len, struct flv_packet *ret_packet,
                    struct error *err);
int flv_parse_audio(const uint8_t *body, size_t len, struct flv_packet *ret_packet,
                    struct error *err);

#endif
