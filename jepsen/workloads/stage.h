/* What lifecycle and broadcast have in common: channels, their stream keys, publishers that claim
 * them, readers of every edge's playlists, and at the end all that was broadcast, read back from
 * every edge. Loop thread.
 *
 *   process 0 .. founders-1   readers, one an edge (reader.c; at the end: archive.c)
 *   the next ones             publishers (publisher.c)
 *   the rest                  the workload's: players */
#ifndef JEPSEN_WORKLOADS_STAGE_H
#define JEPSEN_WORKLOADS_STAGE_H

#include "jepsen/workloads/encoder.h"
#include "jepsen/workloads/hls.h"
#include "jepsen/workloads/web.h"

#define STAGE_CHANNELS   2
#define STAGE_RENDITIONS 2
#define STAGE_SWEEP_US   50000u
#define STAGE_GRACE_MS   60000 /* media.grace_ms of these workloads */
#define STAGE_CONFIG                                                                               \
    "log.segment_mib = 4\nlog.free_mib_min = 32\nmedia.rung_height = 72\n"                         \
    "media.grace_ms = 60000\nmedia.window_segments = 12"

struct reader;
struct publisher;
struct archive;

struct stage_channel {
    unsigned number;
    char name[16], key[96];
    /* Does whoever publishes next go on with the broadcast? */
    unsigned ends, ends_at_publish; /* proper ends so far; when the last good publish began */
    bool published;
    uint64_t seen_ns; /* a reader has been shown something new */
};

struct stage {
    struct run *run;
    struct web *web;
    struct stage_channel channels[STAGE_CHANNELS];
    unsigned n_channels;
    struct reader *readers;
    unsigned n_readers;
    struct publisher *publishers;
    unsigned n_publishers;
    unsigned sessions; /* number of the last one */
    struct archive *archive;
    struct env_timer timer;
    unsigned step; /* of making users, channels, keys */
    bool ready;
    void (*swept)(void *data); /* every STAGE_SWEEP_US; may be NULL */
    void *data;
};

extern const char *const stage_renditions[STAGE_RENDITIONS];

/* How publishers behave. */
struct stage_options {
    unsigned n_channels, n_publishers;
    bool hold;             /* for ever, until the line breaks; else some seconds */
    uint32_t reconnect_ms; /* until it dials again */
};

/* Makes all of it, then run_started. */
int stage_open(struct run *run, const struct stage_options *options, struct stage *s,
               struct error *err);
void stage_close(struct stage *s);
/* Of a reader or a publisher. */
void stage_next(struct stage *s, struct process *p);
/* Whoever publishes now takes leave, each channel is published once more for a moment, then all
 * edges are read; run_final_done follows. */
void stage_final(struct stage *s);

uint64_t stage_now_ns(const struct stage *s);
const struct host *stage_host(const struct stage *s, unsigned index); /* modulo founders */

#endif
