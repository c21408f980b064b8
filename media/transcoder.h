/* One video transcoded into one smaller one, and thumbnails: all of FFmpeg that the project uses,
 * behind a few calls.
 *
 * Runs inside the sandbox; one thread at a time. Times are ticks of CMAF_VIDEO_HZ. Encoded frames
 * come without reordering (dts = pts), in order, with length-prefixed NAL units. Sources of over 40
 * frames a second are halved. */
#ifndef MEDIA_TRANSCODER_H
#define MEDIA_TRANSCODER_H

#include "media/codec.h"
#include "media/worker_wire.h"

struct transcoder;

struct transcoder_events {
    void *data;
    /* One encoded frame. A negative result ends the call with it. */
    int (*frame)(void *data, int64_t pts, bool key, const uint8_t *bytes, size_t len);
    void (*thumbnail)(void *data, uint32_t width, uint32_t height, const uint8_t *jpeg, size_t len);
};

struct transcoder_options {
    uint32_t height, bps; /* height 0: no encoder, thumbnails only */
    uint32_t thumbnail_height;
};

int transcoder_new(const struct codec_avc *source, const struct transcoder_options *options,
                   const struct transcoder_events *events, struct transcoder **ret_transcoder,
                   struct error *err);
void transcoder_free(struct transcoder *t);
/* A frame that can't be decoded is skipped (encoders' packets get lost); WEIR_EPROTO after many in
 * a row, WEIR_ENOMEM. A thumbnail is made of this very frame when asked for and it is a key frame.
 */
int transcoder_push(struct transcoder *t, const struct wire_video *frame, bool thumbnail,
                    struct error *err);
/* Everything that is still inside comes out; then only transcoder_free may follow. */
int transcoder_flush(struct transcoder *t, struct error *err);
/* The first frame at or after pts becomes a key frame. */
void transcoder_force_key(struct transcoder *t, int64_t pts);
/* The encoder's configuration; NULL before the first frame came out. */
const struct codec_avc *transcoder_config(const struct transcoder *t);

#endif
