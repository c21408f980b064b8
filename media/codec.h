/* What the configuration records of H.264 and AAC say: enough to describe a rendition, no decoding.
 * ISO/IEC 14496-15 section 5.3.3.1 (AVCDecoderConfigurationRecord), 14496-10 section 7.3.2.1.1
 * (SPS), 14496-3 section 1.6.2.1. Pure. */
#ifndef MEDIA_CODEC_H
#define MEDIA_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CODEC_AVC_CONFIG_MAX 1024
#define CODEC_AAC_CONFIG_MAX 64
#define CODEC_DIMENSION_MAX  8192
#define CODEC_NAME_MAX       32

struct codec_avc {
    uint8_t config[CODEC_AVC_CONFIG_MAX]; /* the record itself */
    size_t config_len;
    uint32_t width, height;    /* after cropping */
    char name[CODEC_NAME_MAX]; /* RFC 6381: avc1.64001f */
};

struct codec_aac {
    uint8_t config[CODEC_AAC_CONFIG_MAX];
    size_t config_len;
    uint32_t sample_rate; /* of the core: SBR doubles it on output, timestamps count core samples */
    uint32_t channels, frame_samples;
    char name[CODEC_NAME_MAX]; /* mp4a.40.2 */
};

/* WEIR_EPROTO malformed, WEIR_ETOOBIG, WEIR_EVERSION for what cannot be carried. */
int codec_avc_parse(const uint8_t *data, size_t len, struct codec_avc *ret_avc, struct error *err);
int codec_aac_parse(const uint8_t *data, size_t len, struct codec_aac *ret_aac, struct error *err);

#endif
