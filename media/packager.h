/* Cuts a publisher's frames into segments and parts: the source rendition, and the boundaries that
 * every other rendition follows.
 *
 * All cuts follow from the frames since the segment's first key frame and their order of arrival,
 * nothing else: no clock, no state from earlier segments. A replacement that is fed from that key
 * frame makes the same parts.
 *
 * Segment: ends at the first key frame that comes segment_ticks (less PACKAGER_SLACK_TICKS) after
 * its start, or that brings another configuration. Part: ends at the last video frame that keeps it
 * within part_ticks; when that would be below 85 % of part_ticks (few frames a second) it ends
 * after exactly part_ticks, in the middle of a frame. The last part of a segment ends with it. Only
 * sound-less video of under three frames a second makes longer parts, of one frame each. Sound goes
 * with the picture it arrives with. Pure; one thread at a time. */
#ifndef MEDIA_PACKAGER_H
#define MEDIA_PACKAGER_H

#include "media/cmaf.h"
#include "media/worker_wire.h"

#define PACKAGER_SLACK_TICKS   (CMAF_VIDEO_HZ / 20)
#define PACKAGER_SEGMENT_MAX_S 20

struct packager;

struct packager_part {
    uint64_t msn;
    uint32_t part;
    int64_t start;       /* ticks */
    uint32_t duration;   /* ticks */
    int32_t composition; /* of the segment's key frame: start + composition is when its first
                            picture is shown */
    bool independent, last;
    struct cmaf_run video, audio;
};

/* Called from within packager_video and packager_finish; what they are given is valid during the
 * call. A negative result ends the call that led to it with that result. */
struct packager_events {
    void *data;
    /* What follows is described by these; `audio` may be NULL. `again`: it was something else
     * before (a discontinuity). */
    int (*config)(void *data, const struct codec_avc *video, const struct codec_aac *audio,
                  uint64_t first_msn, bool again);
    int (*part)(void *data, const struct packager_part *part);
};

struct packager_options {
    uint32_t part_ticks, segment_ticks;
    uint64_t msn; /* of the first segment */
};

int packager_new(const struct packager_options *options, const struct packager_events *events,
                 struct packager **ret_packager);
void packager_free(struct packager *p);

/* A configuration counts from the next key frame on. One that is malformed or cannot be carried is
 * an error, with a text for the streamer. */
int packager_video_config(struct packager *p, const uint8_t *config, size_t len, struct error *err);
int packager_audio_config(struct packager *p, const uint8_t *config, size_t len, struct error *err);
/* Frames before the first key frame are dropped; so is sound without a configuration. WEIR_EPROTO,
 * WEIR_ETOOBIG, WEIR_ENOMEM. */
int packager_video(struct packager *p, const struct wire_video *frame, struct error *err);
int packager_audio(struct packager *p, const struct wire_audio *frame, struct error *err);
/* Closes the segment. */
int packager_finish(struct packager *p, struct error *err);

/* Ticks between the last two key frames, 0 before the second one. */
uint32_t packager_gop_ticks(const struct packager *p);
/* Of the segment that is open. */
uint64_t packager_msn(const struct packager *p);

#endif
