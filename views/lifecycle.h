/* Lifecycle: who publishes a channel, who transcodes it, which parts exist, as the topic
 * `lifecycle` tells it. The owner of what is stored is the fold (lifecycle.c); these are the
 * queries. Loop thread of the views.
 *
 * Rules, all decided in log order (proto/lifecycle.proto):
 * - The newest SessionClaim owns the channel; its offset is the session's epoch. One that names the
 * session that it follows counts only directly behind that one. It continues the broadcast that
 * runs, else begins one. It closes every open segment as it is; the renditions go on
 * with the next number after a discontinuity.
 * - A TranscodeAssign of the current session makes a worker; its offset is the worker's epoch.
 * - RenditionStart, PartCommitted, Thumbnail count only from the current worker; a part only as
 * exactly the next (msn, part) of a rendition that this worker has started. A worker that takes
 * over in the middle of a segment starts with that segment's number and commits from the next part
 * on; numbers never go back.
 * - BroadcastEnd of the current session closes what is open: from then on it is a VOD. One for a
 * timeout counts only when nothing has come since what its sender saw.
 *
 * Live channels are kept in memory with a ring of their newest segments, so that rendering a
 * playlist reads nothing; everything else is read from the store. Pointers to live state are valid
 * until the next turn of the loop. */
#ifndef VIEWS_LIFECYCLE_H
#define VIEWS_LIFECYCLE_H

#include "views/views.h"

#define LIFECYCLE_CHANNEL_MAX    25
#define LIFECYCLE_NODE_MAX       63
#define LIFECYCLE_ENCODER_MAX    128
#define LIFECYCLE_REASON_MAX     32
#define LIFECYCLE_NAME_MAX       16 /* of a rendition: [a-z0-9]{1,16}, not "master", "vod", "thumb" */
#define LIFECYCLE_CODECS_MAX     64
#define LIFECYCLE_OBJECT_MAX     81 /* "<16 hex>/<[a-z0-9_-][a-z0-9._-]{0,63}>" */
#define LIFECYCLE_NODES_MAX      8
#define LIFECYCLE_RENDITIONS_MAX 8
#define LIFECYCLE_PARTS_MAX      256 /* of one segment; a worker must roll before */
#define LIFECYCLE_RING_SEGMENTS  64
#define LIFECYCLE_NO_EPOCH       (-1)

/* Bytes [position, position + size) of an object, and who holds them. */
struct lifecycle_object {
    char name[LIFECYCLE_OBJECT_MAX + 1];
    uint64_t position, size;
    bool has_crc; /* init segments and thumbnails of older records have none */
    uint32_t crc32c;
    unsigned n_nodes;
    char nodes[LIFECYCLE_NODES_MAX][LIFECYCLE_NODE_MAX + 1];
};

struct lifecycle_part {
    uint32_t duration_us, size, crc32c;
    uint64_t position;
    uint32_t extent; /* which of the segment's extents it belongs to */
    bool independent;
};
/* Neighbouring parts in one object on the same nodes. */
struct lifecycle_extent {
    unsigned n_nodes;
    const char *object;
    const char *nodes[LIFECYCLE_NODES_MAX];
    char *text; /* what the strings point into; owned */
};
struct lifecycle_segment {
    uint64_t msn;
    int64_t start_us; /* on the broadcast's timeline */
    int64_t wall_ms;
    uint64_t duration_us, size;
    uint32_t init;            /* number of its init segment */
    uint32_t discontinuities; /* of the rendition so far, its own included */
    bool discontinuity, complete;
    int64_t append_ms; /* of its last part */
    unsigned n_parts, n_extents;
    struct lifecycle_part *parts;
    struct lifecycle_extent *extents;
};

struct lifecycle_rendition {
    uint32_t id; /* the records' number: 0 source, 1 lower rung, ... */
    char name[LIFECYCLE_NAME_MAX + 1];
    char codecs[LIFECYCLE_CODECS_MAX + 1];
    uint32_t width, height, frame_rate_milli, bandwidth;
    uint32_t part_target_ms,
        target_duration_ms; /* as first declared: they never change in a broadcast */
    uint32_t init;          /* number of the newest init segment */
    char init_object[LIFECYCLE_OBJECT_MAX + 1];
    int64_t worker_epoch, session_epoch; /* who started it last */
    uint64_t start_msn;                  /* where that was */
    bool start_discontinuity;
    /* The next part is (next_msn, next_part); next_part > 0: segment next_msn is open. */
    uint64_t next_msn;
    uint32_t next_part;
    int64_t end_us; /* end of its newest part on the timeline */
    /* Live only: the newest segments, oldest first; the last one may be open. */
    unsigned n_segments;
    struct lifecycle_segment *segments[LIFECYCLE_RING_SEGMENTS];
};

struct lifecycle_thumbnail {
    struct lifecycle_object object; /* size 0: there is none */
    uint32_t width, height;
    uint64_t msn;
};

struct lifecycle_broadcast {
    uint64_t id;
    int64_t started_ms, ended_ms; /* ended_ms 0: it runs */
    int64_t start_offset;         /* of the claim that began it */
    int64_t duration_us;          /* only when it has ended */
    char reason[LIFECYCLE_REASON_MAX + 1];
    struct lifecycle_thumbnail thumbnail;
};

/* A live channel: claimed, and its broadcast has not ended. */
struct lifecycle_channel {
    char name[LIFECYCLE_CHANNEL_MAX + 1];
    uint32_t partition;
    struct lifecycle_broadcast broadcast;
    int64_t session_epoch, session_ms; /* offset and append time of the newest claim */
    char session_node[LIFECYCLE_NODE_MAX + 1];
    char encoder[LIFECYCLE_ENCODER_MAX + 1];
    int64_t worker_epoch, worker_ms; /* LIFECYCLE_NO_EPOCH: none assigned in this session yet */
    char worker_node[LIFECYCLE_NODE_MAX + 1];
    int64_t part_ms;  /* append time of the newest part; 0: none yet */
    int64_t end_us;   /* end of the timeline: where a new session continues */
    uint64_t version; /* grows with every accepted record; not the same on all nodes */
    unsigned n_renditions;
    struct lifecycle_rendition *renditions[LIFECYCLE_RENDITIONS_MAX]; /* by id */
    struct list link;
};

/* What the fold adds for listeners of VIEW_LIFECYCLE; accepted records only. Values, because the
 * live state may be further already: a batch is heard after all of it was folded. */
struct lifecycle_outcome {
    const char *channel;
    uint64_t broadcast;
    bool ended;         /* the broadcast ended with this record */
    bool has_rendition; /* RenditionStart and PartCommitted */
    uint32_t rendition;
};

/* NULL when the channel is not live. */
const struct lifecycle_channel *lifecycle_live(struct views *views, const char *channel);
/* All live channels, in no order; non-zero from cb ends the walk and is returned. */
typedef int (*lifecycle_live_cb)(void *data, const struct lifecycle_channel *channel);
int lifecycle_live_each(struct views *views, lifecycle_live_cb cb, void *data);
/* What a claim says of the session that it is to follow (SessionClaim.follows); NULL: not live. */
uint64_t lifecycle_claim_follows(const struct lifecycle_channel *channel);
/* Append time of the newest claim or part. */
int64_t lifecycle_active_ms(const struct lifecycle_channel *channel);

/* By name; NULL when the channel has none of that name. */
const struct lifecycle_rendition *lifecycle_rendition_find(const struct lifecycle_channel *channel,
                                                           const char *name);
/* By the records' number. */
const struct lifecycle_rendition *lifecycle_rendition_by_id(const struct lifecycle_channel *channel,
                                                            uint32_t id);
/* False for one that earlier sessions had and this one does not bring any more. */
bool lifecycle_rendition_current(const struct lifecycle_channel *channel,
                                 const struct lifecycle_rendition *rendition);
/* The segment that grows; NULL when the newest one is complete. */
const struct lifecycle_segment *lifecycle_open_segment(const struct lifecycle_rendition *rendition);
/* From where on the timeline input is needed again so that a new worker can go on: the earliest
 * start of an open segment among the session's renditions, else the end of the timeline. */
int64_t lifecycle_resume_us(const struct lifecycle_channel *channel);
/* A part of a segment as a range of its object. */
void lifecycle_part_object(const struct lifecycle_segment *segment, unsigned part,
                           struct lifecycle_object *ret_object);

/* Stored state, also of broadcasts that have ended. 0, WEIR_ENOTFOUND, WEIR_EUNAVAILABLE (the topic
 * is not known yet), or an error of the store. */
int lifecycle_broadcast(struct views *views, const char *channel, uint64_t broadcast,
                        struct lifecycle_broadcast *ret_broadcast);
/* Newest first, the one that runs included; non-zero from cb ends the walk and is returned. */
typedef int (*lifecycle_broadcast_cb)(void *data, const struct lifecycle_broadcast *broadcast);
int lifecycle_broadcasts(struct views *views, const char *channel, lifecycle_broadcast_cb cb,
                         void *data);
/* By id; n_segments is 0. */
typedef int (*lifecycle_rendition_cb)(void *data, const struct lifecycle_rendition *rendition);
int lifecycle_renditions(struct views *views, const char *channel, uint64_t broadcast,
                         lifecycle_rendition_cb cb, void *data);
typedef int (*lifecycle_segment_cb)(void *data, const struct lifecycle_segment *segment);
/* All segments of a rendition, oldest first, or newest first when `reverse`. */
int lifecycle_segments(struct views *views, const char *channel, uint64_t broadcast,
                       uint32_t rendition, bool reverse, lifecycle_segment_cb cb, void *data);
/* One segment, from the ring or the store; cb runs once when there is one, and its result is
 * returned. */
int lifecycle_segment(struct views *views, const char *channel, uint64_t broadcast,
                      uint32_t rendition, uint64_t msn, lifecycle_segment_cb cb, void *data);
int lifecycle_init(struct views *views, const char *channel, uint64_t broadcast, uint32_t rendition,
                   uint32_t init, struct lifecycle_object *ret_object);

/* All that is stored of all channels, in pages, for those who keep the copies whole. A place is a
 * value: it holds nothing, and stays good while the view changes; what comes in behind it is not
 * met. Zeroed: the beginning. */
struct lifecycle_place {
    uint32_t partition;
    unsigned kind; /* thumbnails, init segments, segments */
    unsigned key_len;
    uint8_t key[64]; /* the last that was met; key_len 0: none of this kind yet */
};
/* Segments of channels from that letter on. */
struct lifecycle_place lifecycle_place_from(uint32_t partition, char letter);
/* Exactly one of both: a segment, or an init segment or thumbnail. Borrowed. */
struct lifecycle_stored {
    const struct lifecycle_segment *segment;
    const struct lifecycle_object *object;
};
typedef int (*lifecycle_stored_cb)(void *data, const struct lifecycle_stored *stored);
/* Meets at most `max` keys from `place` on and moves it. 1: there is more; 0: that was the end;
 * negative: an error of the store, or what cb returned (place then stands before that key). */
int lifecycle_walk(struct views *views, struct lifecycle_place *place, unsigned max,
                   lifecycle_stored_cb cb, void *data);

#endif
