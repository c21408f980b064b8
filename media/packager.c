#include "media/packager.h"

#include <stdlib.h>
#include <string.h>

#include "media/pending.h"

#define FRAME_TICKS_DEFAULT (CMAF_VIDEO_HZ / 30)
#define PART_PERCENT_MIN    85

struct packager {
    struct packager_options options;
    struct packager_events events;
    bool started, announced, again;
    bool has_video, has_audio, video_changed, audio_changed;
    struct codec_avc avc, next_avc;
    struct codec_aac aac, next_aac;
    uint64_t msn;
    uint32_t part;
    int64_t segment_start, part_start, last_dts, last_key;
    int32_t composition;
    uint32_t frame_ticks, gop_ticks;
    struct pending video, audio;
};

int packager_new(const struct packager_options *options, const struct packager_events *events,
                 struct packager **ret_packager)
{
    struct packager *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return WEIR_ENOMEM;
    }
    p->options = *options;
    p->events = *events;
    p->msn = options->msn;
    p->frame_ticks = FRAME_TICKS_DEFAULT;
    pending_init(&p->video);
    pending_init(&p->audio);
    *ret_packager = p;
    return 0;
}

void packager_free(struct packager *p)
{
    if (p == NULL) {
        return;
    }
    pending_close(&p->video);
    pending_close(&p->audio);
    free(p);
}

uint32_t packager_gop_ticks(const struct packager *p)
{
    return p->gop_ticks;
}

uint64_t packager_msn(const struct packager *p)
{
    return p->msn;
}

/* --- Parts
 * -----------------------------------------------------------------------------------------------------
 */

static int announce(struct packager *p)
{
    if (p->announced) {
        return 0;
    }
    p->announced = true;
    return p->events.config(p->events.data, &p->avc, p->has_audio ? &p->aac : NULL, p->msn,
                            p->again);
}

static int close_part(struct packager *p, int64_t end, bool last, uint32_t n_video,
                      uint32_t n_audio)
{
    int rc = announce(p);
    if (rc < 0) {
        return rc;
    }
    struct packager_part part = {
        .msn = p->msn,
        .part = p->part,
        .start = p->part_start,
        .duration = (uint32_t)(end - p->part_start),
        .composition = p->composition,
        .independent = n_video > 0 && p->video.samples[0].sync,
        .last = last,
        .video = pending_run(&p->video, n_video),
        .audio = pending_run(&p->audio, n_audio),
    };
    rc = p->events.part(p->events.data, &part);
    pending_drop(&p->video, &part.video);
    pending_drop(&p->audio, &part.audio);
    p->part_start = end;
    p->part++;
    return rc;
}

/* Closes, with part_ticks each, the parts that end before `now`, as long as they have something in
 * them and, unless more follows at once, leave something. */
static int close_elapsed(struct packager *p, int64_t now, bool more_follows)
{
    int rc = 0;
    while (rc == 0 && now > p->part_start + p->options.part_ticks) {
        int64_t end = p->part_start + p->options.part_ticks;
        uint32_t n_video = pending_before(&p->video, end);
        uint32_t n_audio =
            p->has_audio ? pending_before(&p->audio, end * p->aac.sample_rate / CMAF_VIDEO_HZ) : 0;
        bool all = n_video == p->video.n && n_audio == p->audio.n;
        if (n_video + n_audio == 0 || (all && !more_follows)) {
            break;
        }
        rc = close_part(p, end, false, n_video, n_audio);
    }
    return rc;
}

/* The segment ends later than its last part may: the last frame, or else the last sound, goes to a
 * part of its own, though it begins a little earlier. */
static int split_last(struct packager *p)
{
    uint32_t n_video = p->video.n, n_audio = p->audio.n;
    if (n_video >= 2) {
        int64_t last = p->video.last;
        n_video--;
        n_audio =
            p->has_audio ? pending_before(&p->audio, last * p->aac.sample_rate / CMAF_VIDEO_HZ) : 0;
    } else if (n_audio >= 2) {
        n_audio--;
    } else {
        return 0;
    }
    return close_part(p, p->part_start + p->options.part_ticks, false, n_video, n_audio);
}

static int close_segment(struct packager *p, int64_t end)
{
    int rc = close_elapsed(p, end, false);
    if (rc == 0 && end > p->part_start + p->options.part_ticks) {
        rc = split_last(p);
    }
    if (rc == 0) {
        rc = close_part(p, end, true, p->video.n, p->audio.n);
    }
    p->msn++;
    p->part = 0;
    return rc;
}

/* Before the frame at `now` is added: does the open part end here? */
static int close_at_frame(struct packager *p, int64_t now)
{
    int rc = close_elapsed(p, now, true);
    int64_t end = p->part_start + p->options.part_ticks;
    int64_t have = now - p->part_start;
    bool next_is_too_far = now + p->frame_ticks > end;
    bool enough = have * 100 >= (int64_t)p->options.part_ticks * PART_PERCENT_MIN;
    if (rc == 0 && next_is_too_far && enough && p->video.n + p->audio.n > 0) {
        rc = close_part(p, now, false, p->video.n, p->audio.n);
    }
    return rc;
}

/* --- Input
 * -----------------------------------------------------------------------------------------------------
 */

int packager_video_config(struct packager *p, const uint8_t *config, size_t len, struct error *err)
{
    struct codec_avc avc;
    int rc = codec_avc_parse(config, len, &avc, err);
    if (rc < 0) {
        return rc;
    }
    p->next_avc = avc;
    p->video_changed = !p->has_video || avc.config_len != p->avc.config_len ||
                       memcmp(avc.config, p->avc.config, avc.config_len) != 0;
    return 0;
}

int packager_audio_config(struct packager *p, const uint8_t *config, size_t len, struct error *err)
{
    struct codec_aac aac;
    int rc = codec_aac_parse(config, len, &aac, err);
    if (rc < 0) {
        return rc;
    }
    p->next_aac = aac;
    p->audio_changed = !p->has_audio || aac.config_len != p->aac.config_len ||
                       memcmp(aac.config, p->aac.config, aac.config_len) != 0;
    if (p->audio_changed && !p->announced && p->audio.n == 0) {
        /* Nothing has been said of sound yet: no need to wait for a key frame. */
        p->aac = aac;
        p->has_audio = true;
        p->audio_changed = false;
    }
    return 0;
}

static void take_configs(struct packager *p)
{
    if (!p->video_changed && !p->audio_changed) {
        return;
    }
    if (p->video_changed) {
        p->avc = p->next_avc;
        p->has_video = true;
    }
    if (p->audio_changed) {
        p->aac = p->next_aac;
        p->has_audio = true;
    }
    p->again = p->announced;
    p->announced = false;
    p->video_changed = p->audio_changed = false;
}

static void begin_segment(struct packager *p, const struct wire_video *frame)
{
    take_configs(p);
    p->segment_start = p->part_start = frame->dts;
    p->composition = frame->composition;
    p->started = true;
}

static int on_key_frame(struct packager *p, const struct wire_video *frame)
{
    int64_t due = p->segment_start + p->options.segment_ticks - PACKAGER_SLACK_TICKS;
    p->gop_ticks = (uint32_t)(frame->dts - p->last_key);
    p->last_key = frame->dts;
    if (frame->dts < due && !p->video_changed && !p->audio_changed) {
        return close_at_frame(p, frame->dts);
    }
    int rc = close_segment(p, frame->dts);
    begin_segment(p, frame);
    return rc;
}

int packager_video(struct packager *p, const struct wire_video *frame, struct error *err)
{
    int rc = 0;
    if (!p->started) {
        if (!frame->key || !(p->has_video || p->video_changed)) {
            return 0;
        }
        p->last_key = frame->dts;
        begin_segment(p, frame);
    } else {
        int64_t step = frame->dts - p->last_dts;
        if (step <= 0 || step > (int64_t)PACKAGER_SEGMENT_MAX_S * CMAF_VIDEO_HZ) {
            return error_set(err, WEIR_EPROTO, "video times go %s",
                             step <= 0 ? "backwards" : "too far ahead");
        }
        pending_extend(&p->video, frame->dts);
        p->frame_ticks = (uint32_t)step;
        rc = frame->key ? on_key_frame(p, frame) : close_at_frame(p, frame->dts);
        if (rc < 0) {
            return error_set(err, rc, "part %llu.%u", (unsigned long long)p->msn, p->part);
        }
    }
    if (frame->dts - p->segment_start > (int64_t)PACKAGER_SEGMENT_MAX_S * CMAF_VIDEO_HZ) {
        return error_set(err, WEIR_EPROTO,
                         "no key frame for %u seconds: set the encoder's keyframe interval to 2 s",
                         PACKAGER_SEGMENT_MAX_S);
    }
    p->last_dts = frame->dts;
    struct cmaf_sample sample = {.duration = p->frame_ticks,
                                 .size = (uint32_t)frame->len,
                                 .composition = frame->composition,
                                 .sync = frame->key};
    return pending_add(&p->video, frame->dts, sample, frame->data, err);
}

int packager_audio(struct packager *p, const struct wire_audio *frame, struct error *err)
{
    if (!p->started || !p->has_audio || p->audio_changed) {
        return 0;
    }
    struct cmaf_sample sample = {
        .duration = p->aac.frame_samples, .size = (uint32_t)frame->len, .sync = true};
    return pending_add(&p->audio, frame->samples, sample, frame->data, err);
}

int packager_finish(struct packager *p, struct error *err)
{
    if (!p->started) {
        return 0;
    }
    p->started = false;
    int rc = close_segment(p, p->last_dts + p->frame_ticks);
    return rc < 0 ? error_set(err, rc, "last part") : 0;
}
