/* The language between ingest, the transcode role and a worker process: frames over one stream, in
 * both directions.
 *
 * The transcode role passes ingest's frames on unread: only the worker, inside its sandbox, looks
 * at what came from an encoder.
 *
 * Frame, little endian:
 *    at size field
 *     0    4 crc32c of bytes 4..end
 *     4    4 length of the payload, at most WIRE_PAYLOAD_MAX
 *     8    1 version, WIRE_VERSION
 *     9    1 type, enum wire_type
 *    10    2 zero
 *    12      payload
 *
 * Payloads, little endian:
 *   START         0 4 part ticks    4 4 segment ticks    8 4 rung height (0: no rung)
 *                12 4 rung bits per second    16 4 target duration in ms (0: not yet decided)
 *                20   for each of WIRE_RENDITIONS: 8 number of the segment that the first key
 *                     frame begins, 8 msn and 4 part of the first part to be sent
 *   VIDEO_CONFIG  an AVCDecoderConfigurationRecord
 *   AUDIO_CONFIG  an AudioSpecificConfig
 *   VIDEO         0 8 dts, ticks    8 4 composition, ticks    12 1 key frame
 *                13   NAL units, length-prefixed
 *   AUDIO         0 8 time, samples    8   one raw AAC frame
 *   FINISH, END, BEAT   nothing
 *   RENDITION     0 1 rendition    1 1 discontinuity    2 2 length of codecs
 *                 4 4 width    8 4 height    12 4 bits per second, peak
 *                16 4 frames per 1000 s    20 4 target duration in ms
 *                24 8 number of its first segment    32   codecs, then the init segment
 *   PART          0 1 rendition    1 1 flags (1 independent, 2 last of its segment)    2 2 zero
 *                 4 4 part    8 8 msn    16 8 start, ticks    24 4 duration, ticks    28   bytes
 *   THUMBNAIL     0 8 msn    8 4 width    12 4 height    16   JPEG
 *   STATS         0 8 msn    8 4 bits per second    12 4 segment duration in ms
 *                16 4 frames per 1000 s
 *   WARNING       0 4 code, enum wire_warning    4   text
 *   ERROR         0 4 zero    4   text: the stream cannot go on
 *
 * Ticks count TIMELINE_HZ (90000). A PART follows the RENDITION that describes it. BEAT comes from
 * the transcode role's loop, not from the worker: a node that halts or is cut off closes nothing,
 * only its beats stop. */
#ifndef MEDIA_WORKER_WIRE_H
#define MEDIA_WORKER_WIRE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"

#define WIRE_VERSION     1
#define WIRE_HEADER_SIZE 12
#define WIRE_PAYLOAD_MAX (48u << 20)
#define WIRE_RENDITIONS  2
/* Between beats: 48 bytes a second, and several fit into what a player's buffer hides. */
#define WIRE_BEAT_MS 250

enum wire_type {
    WIRE_START = 1,
    WIRE_VIDEO_CONFIG = 2,
    WIRE_AUDIO_CONFIG = 3,
    WIRE_VIDEO = 4,
    WIRE_AUDIO = 5,
    WIRE_FINISH = 6, /* no more input: send what is left, then END */
    WIRE_RENDITION = 16,
    WIRE_PART = 17,
    WIRE_THUMBNAIL = 18,
    WIRE_STATS = 19,
    WIRE_WARNING = 20,
    WIRE_ERROR = 21,
    WIRE_END = 22,
    WIRE_BEAT = 23, /* the node is there */
};

enum wire_warning {
    WIRE_WARN_LONG_GOP = 1,     /* key frames are too far apart for low latency */
    WIRE_WARN_RUNG_DROPPED = 2, /* the machine can't keep up: the lower rung has ended */
    WIRE_WARN_NO_AUDIO = 3,
};

struct wire_position {
    uint64_t msn;
    uint32_t part;
};

struct wire_start {
    uint32_t part_ticks, segment_ticks, rung_height, rung_bps;
    uint32_t target_duration_ms;
    uint64_t first_msn[WIRE_RENDITIONS]; /* renditions may count differently */
    struct wire_position next[WIRE_RENDITIONS];
};

struct wire_video {
    int64_t dts;
    int32_t composition;
    bool key;
    const uint8_t *data;
    size_t len;
};

struct wire_audio {
    int64_t samples;
    const uint8_t *data;
    size_t len;
};

struct wire_rendition {
    uint8_t rendition;
    bool discontinuity;
    uint32_t width, height, bandwidth, frame_rate_milli, target_duration_ms;
    uint64_t first_msn;
    char codecs[64];
    const uint8_t *init;
    size_t init_len;
};

struct wire_part {
    uint8_t rendition;
    bool independent, last;
    uint32_t part, duration;
    uint64_t msn;
    int64_t start;
    const uint8_t *data;
    size_t len;
};

struct wire_thumbnail {
    uint64_t msn;
    uint32_t width, height;
    const uint8_t *data;
    size_t len;
};

struct wire_stats {
    uint64_t msn;
    uint32_t bps, segment_ms, frame_rate_milli;
};

struct wire_text { /* WARNING; ERROR with code 0 */
    uint32_t code;
    const char *text; /* not terminated */
    size_t len;
};

/* A frame taken off a stream; borrowed from the buffer. */
struct wire_frame {
    uint8_t type;
    const uint8_t *payload;
    size_t len;
    size_t size; /* with its header: what to consume */
};

/* 1: *ret_frame is the first frame of the buffer. 0: it is not complete yet. Negative:
 * WEIR_ECORRUPT, WEIR_EVERSION, WEIR_ETOOBIG: the stream is lost. */
int wire_next(const uint8_t *data, size_t len, struct wire_frame *ret_frame, struct error *err);

/* Each appends one frame; out of room is bytes_error(out). */
void wire_put_start(struct bytes *out, const struct wire_start *m);
void wire_put_config(struct bytes *out, enum wire_type type, const uint8_t *config, size_t len);
void wire_put_video(struct bytes *out, const struct wire_video *m);
void wire_put_audio(struct bytes *out, const struct wire_audio *m);
void wire_put_empty(struct bytes *out, enum wire_type type); /* FINISH, END, BEAT */
void wire_put_rendition(struct bytes *out, const struct wire_rendition *m);
void wire_put_part(struct bytes *out, const struct wire_part *m);
void wire_put_thumbnail(struct bytes *out, const struct wire_thumbnail *m);
void wire_put_stats(struct bytes *out, const struct wire_stats *m);
void wire_put_warning(struct bytes *out, enum wire_warning code, const char *text);
void wire_put_error(struct bytes *out, const char *text);

/* WEIR_EPROTO when the payload is malformed. Results borrow from the frame. */
int wire_get_start(const struct wire_frame *f, struct wire_start *ret);
int wire_get_video(const struct wire_frame *f, struct wire_video *ret);
int wire_get_audio(const struct wire_frame *f, struct wire_audio *ret);
int wire_get_rendition(const struct wire_frame *f, struct wire_rendition *ret);
int wire_get_part(const struct wire_frame *f, struct wire_part *ret);
int wire_get_thumbnail(const struct wire_frame *f, struct wire_thumbnail *ret);
int wire_get_stats(const struct wire_frame *f, struct wire_stats *ret);
int wire_get_text(const struct wire_frame *f, struct wire_text *ret);

#endif
