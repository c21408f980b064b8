/* The lower rung of the ladder, and thumbnails: decode, scale, encode, on a thread of its own, so
 * that the source never waits for it.
 *
 * Parts follow the source's: same numbers, same starts and durations, key frames where the source
 * has them; the sound is the source's, copied. Frames of over 40 a second are halved. A rung that
 * falls RUNG_LAG_US_MAX behind, or whose input queue is full, is dropped for good: that is the one
 * thing that gives when the machine can't keep up.
 *
 * The decoder is opened with the first frame that needs it: a source that is no higher than the
 * rung is decoded only at thumbnails. All calls on one thread; all events come on the rung's
 * thread. */
#ifndef MEDIA_RUNG_H
#define MEDIA_RUNG_H

#include "media/packager.h"

#define RUNG_LAG_US_MAX       (6 * 1000000ll)
#define RUNG_QUEUE_BYTES_MAX  (96u << 20)
#define RUNG_THUMBNAIL_TICKS  (10 * CMAF_VIDEO_HZ)
#define RUNG_THUMBNAIL_HEIGHT 180

struct rung;

struct rung_events {
    void *data;
    /* As the packager's, for this rendition. A negative result drops the rung. */
    int (*config)(void *data, const struct codec_avc *video, const struct codec_aac *audio,
                  uint64_t first_msn, bool again);
    int (*part)(void *data, const struct packager_part *part);
    void (*thumbnail)(void *data, uint64_t msn, uint32_t width, uint32_t height,
                      const uint8_t *jpeg, size_t len);
    void (*dropped)(void *data, const char *why);
};

struct rung_options {
    uint32_t height, bps; /* height 0: thumbnails only */
    struct wire_position
        next; /* first part that will be sent; it is made to begin with a key frame */
};

/* Starts the thread. WEIR_ENOMEM, or pthread_create's error. */
int rung_new(const struct rung_options *options, const struct rung_events *events,
             struct rung **ret_rung);
/* Without a rung_finish before: what is unfinished is thrown away. */
void rung_free(struct rung *r);

/* The source's configuration, before the key frame it counts from. */
void rung_config(struct rung *r, const struct codec_avc *video);
/* After the packager has seen it, so that part boundaries come first. */
void rung_video(struct rung *r, const struct wire_video *frame, uint64_t msn);
/* From the packager's events. */
void rung_announce(struct rung *r, const struct codec_aac *audio, uint64_t first_msn, bool again);
void rung_part(struct rung *r, const struct packager_part *part);
/* Blocks until everything has been sent. */
void rung_finish(struct rung *r);

#endif
