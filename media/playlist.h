/* HLS playlists rendered from plain structs: master, low-latency live, event and VOD
 * (draft-pantos-hls-rfc8216bis, protocol version 9).
 *
 * Pure and deterministic: equal input gives equal bytes on every node, so any edge may answer any
 * reload and every cache agrees. Names in the output: init-<n>.mp4, seg-<msn>.m4s,
 * part-<msn>.<part>.m4s behind `media_prefix`. Any thread.
 *
 * Errors: WEIR_EINVAL (text that can't stand in a playlist, a segment without duration), and those
 * that stick in `out`. */
#ifndef MEDIA_PLAYLIST_H
#define MEDIA_PLAYLIST_H

#include "base/bytes.h"
#include "base/error.h"

/* Multiples of the target duration, see the clauses named in playlist.c. */
#define PLAYLIST_PARTS_TARGETS     3
#define PLAYLIST_HOLD_BACK_TARGETS 3
#define PLAYLIST_SKIP_TARGETS      6
/* PART-HOLD-BACK in part targets: what a player takes as its latency. */
#define PLAYLIST_PART_HOLD_BACK 3

struct playlist_variant {
    const char *uri; /* relative to the master */
    const char *codecs;
    uint32_t bandwidth; /* peak, bits per second */
    uint32_t width, height;
    uint32_t frame_rate_milli;
};

/* Variants in the order given: players begin with the first. */
int playlist_render_master(const struct playlist_variant *variants, unsigned n, struct bytes *out);

struct playlist_part {
    uint32_t duration_us;
    bool independent; /* begins with a keyframe */
};

struct playlist_segment {
    uint64_t msn;
    int64_t wall_ms; /* program date-time of its first sample */
    uint64_t duration_us;
    uint32_t init;      /* n of init-<n>.mp4 */
    bool discontinuity; /* a discontinuity lies before it */
    bool complete;      /* false: still growing; only the last one may be */
    unsigned n_parts;   /* 0: its parts are not known (any more) */
    const struct playlist_part *parts;
};

struct playlist_report {
    const char *uri; /* of another rendition's media playlist, relative to this one */
    uint64_t last_msn;
    uint32_t last_part;
};

enum playlist_kind {
    PLAYLIST_LIVE,  /* sliding window with parts and hints */
    PLAYLIST_EVENT, /* all complete segments, still growing */
    PLAYLIST_VOD,   /* all of them, for ever */
};

struct playlist_media {
    enum playlist_kind kind;
    bool ended;                  /* VOD always counts as ended */
    bool skip;                   /* a delta update was asked for; only live playlists heed it */
    const char *media_prefix;    /* "" or ends with '/' */
    uint32_t target_duration_ms; /* the same for the whole stream */
    uint32_t part_target_ms;
    uint64_t discontinuity_sequence;         /* discontinuities before the first segment's own */
    const struct playlist_segment *segments; /* consecutive, oldest first */
    unsigned n_segments;
    const struct playlist_report *reports;
    unsigned n_reports;
};

int playlist_render_media(const struct playlist_media *playlist, struct bytes *out);

/* How many of the first segments a delta update leaves out; 0: none, then the full playlist is
 * sent. */
unsigned playlist_skipped(const struct playlist_media *playlist);

#endif
