/* Brings a publisher's frames to a transcode worker, whatever happens to workers and their nodes.
 *
 * Picks the least loaded transcode node, commits a TranscodeAssign (its offset is the worker's
 * epoch), opens the link and replays the backlog from where the log stands; when the link dies, or
 * has been silent for 1,500 ms, it does so again, until feed_free. States: see the table in feed.c.
 * Loop thread. */
#ifndef NODES_INGEST_FEED_H
#define NODES_INGEST_FEED_H

#include "nodes/ingest/backlog.h"
#include "nodes/role.h"

#define FEED_CHANNEL_MAX 63

struct feed;

struct feed_options {
    char channel[FEED_CHANNEL_MAX + 1];
    int64_t session_epoch;
    int64_t wall_ms; /* of the timeline's zero */
};

struct feed_events {
    void *data;
    /* The session is over: another publisher or the end of the broadcast (WEIR_EFENCED), or a
     * stream that cannot be carried (WEIR_EPROTO, the text is for the streamer). Nothing follows.
     */
    void (*failed)(void *data, int status, const char *text);
    /* After feed_finish: all is committed. */
    void (*finished)(void *data);
    /* For the streamer: statistics and warnings of the worker. */
    void (*warning)(void *data, const char *text, size_t len);
};

int feed_new(struct node *node, const struct feed_options *options,
             const struct feed_events *events, struct feed **ret_feed);
void feed_free(struct feed *f); /* NULL is allowed */
/* The session has a newer epoch (its claim was stored twice): a new worker is needed. */
void feed_set_epoch(struct feed *f, int64_t session_epoch);

void feed_config(struct feed *f, enum wire_type type, const uint8_t *config, size_t len);
void feed_video(struct feed *f, const struct wire_video *frame);
void feed_audio(struct feed *f, const struct wire_audio *frame);
/* No more frames: the worker is to send what is left. */
void feed_finish(struct feed *f);

#endif
