/* The last seconds of a publisher's frames, ready-made for the wire: what a new transcode worker is
 * fed from.
 *
 * Begins with a key frame (after the first one has come) and holds the configurations that were in
 * force there. Frames are counted references: a send in flight keeps its frame. Loop thread. */
#ifndef NODES_INGEST_BACKLOG_H
#define NODES_INGEST_BACKLOG_H

#include <stdbool.h>

#include "base/list.h"
#include "media/worker_wire.h"

#define BACKLOG_BYTES_MAX (64u << 20)
#define BACKLOG_US_MAX    (45 * 1000000ll)
#define BACKLOG_NONE      INT64_MIN

struct backlog_frame {
    struct list link;
    unsigned refs;
    uint8_t type;   /* enum wire_type */
    int64_t key_us; /* decoding time of a key frame, microseconds as the log has them; else
                       BACKLOG_NONE */
    size_t len;
    uint8_t data[];
};

struct backlog {
    struct list frames;
    /* In force before the first frame; NULL: none yet. */
    struct backlog_frame *video_config, *audio_config;
    size_t bytes;
    int64_t first_key_us, last_key_us; /* BACKLOG_NONE: no key frame has come */
    struct bytes scratch;
};

void backlog_init(struct backlog *b);
void backlog_close(struct backlog *b);
/* Each keeps a frame and lends it out until the next call. NULL: dropped (nothing can be done with
 * it before a key frame; out of memory). */
struct backlog_frame *backlog_config(struct backlog *b, enum wire_type type, const uint8_t *config,
                                     size_t len);
struct backlog_frame *backlog_video(struct backlog *b, const struct wire_video *frame);
struct backlog_frame *backlog_audio(struct backlog *b, const struct wire_audio *frame);
/* Forgets what lies before the last key frame at or before `needed_us` (BACKLOG_NONE: needs all),
 * and, key frame by key frame, what is over the limits, except for the last one. */
void backlog_trim(struct backlog *b, int64_t needed_us);
/* The key frame at exactly key_us; NULL when there is none. */
struct backlog_frame *backlog_find(const struct backlog *b, int64_t key_us);
/* The first key frame at or after key_us (BACKLOG_NONE: the first of all). */
struct backlog_frame *backlog_find_after(const struct backlog *b, int64_t key_us);

struct backlog_frame *backlog_ref(struct backlog_frame *f);
void backlog_unref(struct backlog_frame *f); /* NULL is fine */

/* Microseconds of a time in ticks, rounded as the log's. */
int64_t backlog_us(int64_t ticks);

#endif
