/* For tests of the lifecycle view and of what stands on it: a store in a fresh folder, and records
 * fed to it as the log would. */
#ifndef TESTS_LIFECYCLE_FEED_H
#define TESTS_LIFECYCLE_FEED_H

#include "proto/lifecycle.pb-c.h"
#include "views/lifecycle.h"

#define FEED_CHANNEL   "demo"
#define FEED_BROADCAST 0xabcull
#define FEED_START_MS  1767323045678 /* 2026-01-02T03:04:05.678Z */
#define FEED_PART_US   500000

struct lifecycle_feed {
    char dir[64];
    struct views *views;
    struct view_listener listener;
    enum verdict verdict;
    struct lifecycle_outcome outcome; /* of the last accepted record; channel is not kept */
    unsigned n_events;
    int64_t next;   /* offset of the next record */
    int64_t now_ms; /* append time of the next record */
    const char *channel;
    int64_t session, worker; /* epochs of the last accepted claim and assignment */
};

/* One partition. */
void feed_open(struct lifecycle_feed *f);
void feed_close(struct lifecycle_feed *f);
void feed_reopen(struct lifecycle_feed *f);

enum verdict feed_raw(struct lifecycle_feed *f, const void *value, size_t len);
enum verdict feed_record(struct lifecycle_feed *f, const Weir__LifecycleRecord *m);
enum verdict feed_claim(struct lifecycle_feed *f, const char *node, uint64_t broadcast);
enum verdict feed_claim_behind(struct lifecycle_feed *f, const char *node, uint64_t broadcast,
                               uint64_t follows);
enum verdict feed_assign(struct lifecycle_feed *f, int64_t session, const char *node);
/* A start with sane values to change before it is fed. */
Weir__RenditionStart feed_start_of(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn);
enum verdict feed_start_record(struct lifecycle_feed *f, Weir__RenditionStart *m);
enum verdict feed_start(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn, bool disc);
/* A part with sane values: 0.5 s on the timeline at (msn * 4 + part) * 0.5 s, bytes of the object
 * "<broadcast>/<rendition>-<msn>-<worker epoch>.m4s". */
Weir__PartCommitted feed_part_of(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn,
                                 uint32_t part);
enum verdict feed_part_record(struct lifecycle_feed *f, Weir__PartCommitted *m);
enum verdict feed_part(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn, uint32_t part,
                       bool last);
/* n whole segments of four parts, from msn on. */
void feed_segments(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn, unsigned n);
/* idle_since_ms: 0, or the last sign of life that the sender saw. */
enum verdict feed_end_idle(struct lifecycle_feed *f, int64_t session, int64_t idle_since_ms);
enum verdict feed_end(struct lifecycle_feed *f, int64_t session);
enum verdict feed_thumbnail(struct lifecycle_feed *f, const char *object);
/* Claim, assignment and start of rendition 0 at msn 0. */
void feed_live(struct lifecycle_feed *f);
void feed_hash(struct lifecycle_feed *f, uint8_t ret_hash[32]);

#endif
