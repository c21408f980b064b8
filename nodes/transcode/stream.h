/* One stream on a transcode node: the link from ingest, the worker process, and the commits of what
 * it makes.
 *
 * Each part goes to the store on enough nodes first, then its record to `lifecycle`; stores run
 * side by side, records leave in order. The link carries frames of media/worker_wire.h: ingest's to
 * the worker unread; back go warnings, errors, statistics, a beat every WIRE_BEAT_MS, and END once
 * all is committed. Anything that goes wrong closes the link: ingest then assigns another worker.
 * Loop thread. */
#ifndef NODES_TRANSCODE_STREAM_H
#define NODES_TRANSCODE_STREAM_H

#include "media/worker_wire.h"
#include "nodes/role.h"

#define STREAM_CHANNEL_MAX 63

struct stream;

struct stream_options {
    char channel[STREAM_CHANNEL_MAX + 1];
    uint64_t broadcast;
    int64_t worker_epoch;
    int64_t wall_ms; /* of the timeline's zero */
    struct wire_position next[WIRE_RENDITIONS];
    bool discontinuity; /* the first segment does not follow on what the log has */
};

/* `closed` runs once, when the stream has ended for whatever reason; the memory may live longer.
 * Takes `link` over, also on failure. */
int stream_new(struct node *node, const struct stream_options *options, struct env_stream *link,
               const uint8_t *early, size_t n_early, void (*closed)(void *data, struct stream *s),
               void *data, struct stream **ret_stream, struct error *err);
/* Ends it now; `closed` does not run. */
void stream_kill(struct stream *s);

#endif
