/* Where a new worker begins: what the log has of the channel, against what the backlog holds. Pure
 * but for reading the view. */
#ifndef NODES_INGEST_POSITION_H
#define NODES_INGEST_POSITION_H

#include "nodes/ingest/backlog.h"
#include "views/lifecycle.h"

struct position {
    int64_t from_us; /* time of the key frame to begin with; BACKLOG_NONE: there is none yet */
    uint64_t first_msn[WIRE_RENDITIONS]; /* number of the segment that it begins */
    struct wire_position next[WIRE_RENDITIONS];
    uint32_t target_duration_ms; /* 0: not yet decided */
    bool rung;                   /* the lower rung can be made */
    bool discontinuity;          /* input is missing between the log and there */
};

/* Since when input is needed to go on, in microseconds of the timeline; BACKLOG_NONE: since the
 * session's beginning. */
int64_t position_needed_us(const struct lifecycle_channel *channel, bool rung);
void position_find(const struct lifecycle_channel *channel, const struct backlog *backlog,
                   bool rung, struct position *ret_position);

#endif
