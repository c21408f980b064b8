#include "media/timeline.h"

#include <assert.h>
#include <stdlib.h>

#define TICKS_PER_MS       (TIMELINE_HZ / 1000)
#define JOIN_MS            5000 /* a track joins the other's epoch when its raw time is this near */
#define COMPOSITION_MAX_MS 10000 /* beyond is nonsense */

void timeline_init(struct timeline *t, int64_t start_ms)
{
    assert(start_ms >= 0);
    *t = (struct timeline){.start_ms = start_ms, .video_ticks = -1, .audio_samples = -1};
}

void timeline_set_audio(struct timeline *t, uint32_t sample_rate, uint32_t frame_samples)
{
    assert(sample_rate > 0 && frame_samples > 0);
    if (t->audio_samples >= 0 && t->sample_rate != sample_rate) {
        t->audio_samples = t->audio_samples * sample_rate / t->sample_rate;
    }
    t->sample_rate = sample_rate;
    t->frame_samples = frame_samples;
}

/* A track's first packet, or one after a jump: the other track's mapping if it fits, else a new one
 * that goes on where the last output of either track ended. */
static void begin_epoch(struct timeline *t, struct timeline_track *track,
                        const struct timeline_track *other, uint32_t wire_ms)
{
    int32_t apart = (int32_t)(wire_ms - other->wire_ms);
    bool newer = !track->started || other->epoch > track->epoch;
    track->wire_ms = wire_ms;
    if (other->started && newer && apart > -JOIN_MS && apart < JOIN_MS) {
        track->raw_ms = other->raw_ms + apart;
        track->offset_ms = other->offset_ms;
        track->epoch = other->epoch;
    } else {
        int64_t at = t->start_ms;
        if (track->started || other->started) {
            int64_t last = track->out_ms > other->out_ms ? track->out_ms : other->out_ms;
            at = last + (track->step_ms > 0 ? track->step_ms : 1); /* a frame later */
            t->epoch++;
        }
        track->raw_ms = wire_ms;
        track->offset_ms = at - (int64_t)wire_ms;
        track->epoch = t->epoch;
    }
    track->started = true;
}

static int64_t map(struct timeline *t, struct timeline_track *track,
                   const struct timeline_track *other, uint32_t wire_ms)
{
    int32_t step = (int32_t)(wire_ms - track->wire_ms); /* undoes the wrap */
    if (!track->started || step < -TIMELINE_BACK_MS || step > TIMELINE_AHEAD_MS) {
        begin_epoch(t, track, other, wire_ms);
    } else {
        track->wire_ms = wire_ms;
        track->raw_ms += step;
        track->step_ms = step;
    }
    int64_t out = track->raw_ms + track->offset_ms;
    track->out_ms = out > 0 ? out : 0;
    return track->out_ms;
}

void timeline_video(struct timeline *t, uint32_t wire_ms, int32_t composition_ms, int64_t *ret_dts,
                    int32_t *ret_composition)
{
    if (composition_ms > COMPOSITION_MAX_MS || composition_ms < -COMPOSITION_MAX_MS) {
        composition_ms = 0;
    }
    int64_t wanted = map(t, &t->video, &t->audio, wire_ms) * TICKS_PER_MS;
    int64_t pts = wanted + composition_ms * TICKS_PER_MS;
    int64_t dts = wanted > t->video_ticks ? wanted : t->video_ticks + 1;
    t->video_ticks = dts;
    *ret_dts = dts;
    *ret_composition = (int32_t)(pts - dts);
}

void timeline_audio(struct timeline *t, uint32_t wire_ms, int64_t *ret_samples)
{
    assert(t->sample_rate > 0);
    int64_t wanted = map(t, &t->audio, &t->video, wire_ms) * t->sample_rate / 1000;
    int64_t snap = (int64_t)t->frame_samples * TIMELINE_SNAP_FRAMES;
    /* Behind the counter there is nowhere to go but on: what was given out stays. */
    if (t->audio_samples < 0 || wanted > t->audio_samples + snap) {
        t->audio_samples = wanted;
    }
    *ret_samples = t->audio_samples;
    t->audio_samples += t->frame_samples;
}
