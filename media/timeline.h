/* The timeline of a broadcast, owned by ingest: 32-bit milliseconds of encoders in, one continuous
 * 64-bit timeline out, whatever encoders do: wrap at 49 days, restart at 0, jump, step back, send
 * audio times rounded to milliseconds.
 *
 * Video times count TIMELINE_HZ ticks and are strictly increasing. Audio times count samples;
 * frames are snapped to a sample counter while the encoder's times stay within TIMELINE_SNAP_FRAMES
 * of it, so that rounding never makes gaps or overlaps. A jump of a track (back by more than
 * TIMELINE_BACK_MS, ahead by more than TIMELINE_AHEAD_MS) starts a new epoch right where the old
 * one ended; the other track joins it when its own times jump near there, so that the offset
 * between sound and picture is kept. Pure. */
#ifndef MEDIA_TIMELINE_H
#define MEDIA_TIMELINE_H

#include <stdbool.h>
#include <stdint.h>

#define TIMELINE_HZ          90000
#define TIMELINE_BACK_MS     1000
#define TIMELINE_AHEAD_MS    5000
#define TIMELINE_SNAP_FRAMES 2

/* Where a track's raw times are mapped to: out_ms = raw_ms + offset_ms. */
struct timeline_track {
    bool started;
    uint32_t wire_ms; /* last, as received */
    int64_t raw_ms;   /* last, wraps undone */
    int64_t offset_ms;
    uint32_t epoch;  /* counts jumps */
    int64_t out_ms;  /* last */
    int32_t step_ms; /* between the last two packets */
};

struct timeline {
    int64_t start_ms;
    uint32_t epoch;
    struct timeline_track video, audio;
    int64_t video_ticks; /* last given out, -1 before the first */
    uint32_t sample_rate, frame_samples;
    int64_t audio_samples; /* where the next frame is due, -1 before the first */
};

/* The first packet lands at start_ms (>= 0): 1 s for a new broadcast, the end of what is committed
 * for one that goes on. */
void timeline_init(struct timeline *t, int64_t start_ms);
/* From the audio configuration; again when it changes. */
void timeline_set_audio(struct timeline *t, uint32_t sample_rate, uint32_t frame_samples);
/* *ret_dts strictly above the last one's; pts = dts + *ret_composition is where the encoder meant
 * it to be. */
void timeline_video(struct timeline *t, uint32_t wire_ms, int32_t composition_ms, int64_t *ret_dts,
                    int32_t *ret_composition);
/* timeline_set_audio has been called. *ret_samples is never below the last frame's end. */
void timeline_audio(struct timeline *t, uint32_t wire_ms, int64_t *ret_samples);

#endif
