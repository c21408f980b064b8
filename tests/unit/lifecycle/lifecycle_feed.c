#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lifecycle_feed.h"
#include "proto/messages.h"

static void feed_event(void *data, const struct view_event *event)
{
    struct lifecycle_feed *f = data;
    f->n_events++;
    f->verdict = event->verdict;
    assert_true((event->verdict == VERDICT_OK) == (event->outcome != NULL));
    if (event->outcome != NULL) {
        const struct lifecycle_outcome *o = event->outcome;
        assert_string_equal(o->channel, f->channel);
        f->outcome = *o;
        f->outcome.channel = NULL;
    }
}

static void open_views(struct lifecycle_feed *f)
{
    static const uint32_t partitions[VIEW_TOPICS] = {[VIEW_LIFECYCLE] = 1};
    struct error err;
    int rc = views_open_detached(NULL, f->dir, partitions, &f->views, &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
    f->listener.data = f;
    f->listener.event = feed_event;
    views_listen(f->views, VIEW_LIFECYCLE, &f->listener);
    f->next = views_offset(f->views, VIEW_LIFECYCLE, 0);
}

void feed_open(struct lifecycle_feed *f)
{
    *f = (struct lifecycle_feed){
        .dir = "/tmp/weir-lifecycle-XXXXXX", .now_ms = FEED_START_MS, .channel = FEED_CHANNEL};
    assert_non_null(mkdtemp(f->dir));
    open_views(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void feed_close(struct lifecycle_feed *f)
{
    views_close(f->views, NULL, NULL);
    (void)nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void feed_reopen(struct lifecycle_feed *f)
{
    views_close(f->views, NULL, NULL);
    open_views(f);
}

enum verdict feed_raw(struct lifecycle_feed *f, const void *value, size_t len)
{
    struct batch_record r = {.offset = LOG_OFFSET(f->next),
                             .timestamp_ms = f->now_ms,
                             .key_len = -1,
                             .value = value,
                             .value_len = (int32_t)len};
    struct error err;
    unsigned before = f->n_events;
    int rc = views_feed(f->views, VIEW_LIFECYCLE, 0, &r, 1, &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(f->n_events, before + 1);
    f->next++;
    return f->verdict;
}

enum verdict feed_record(struct lifecycle_feed *f, const Weir__LifecycleRecord *m)
{
    struct bytes b;
    bytes_init(&b, 1u << 20);
    message_pack(&b, &m->base);
    assert_int_equal(bytes_error(&b), 0);
    enum verdict v = feed_raw(f, b.data, b.len);
    bytes_close(&b);
    return v;
}

/* A record of this channel with one body: `field` is set to `body`. */
#define FEED(f, kind, field_name, body)                                                            \
    do {                                                                                           \
        char name_[64];                                                                            \
        (void)snprintf(name_, sizeof(name_), "%s", (f)->channel);                                  \
        Weir__LifecycleRecord record_ = WEIR__LIFECYCLE_RECORD__INIT;                              \
        record_.channel = name_;                                                                   \
        record_.body_case = WEIR__LIFECYCLE_RECORD__BODY_##kind;                                   \
        record_.field_name = (body);                                                               \
        (void)feed_record((f), &record_);                                                          \
    } while (0)

enum verdict feed_claim(struct lifecycle_feed *f, const char *node, uint64_t broadcast)
{
    return feed_claim_behind(f, node, broadcast, 0);
}

enum verdict feed_claim_behind(struct lifecycle_feed *f, const char *node, uint64_t broadcast,
                               uint64_t follows)
{
    char text[256], encoder[] = "obs-output module";
    (void)snprintf(text, sizeof(text), "%s", node);
    Weir__SessionClaim c = WEIR__SESSION_CLAIM__INIT;
    c.node = text;
    c.broadcast_id = broadcast;
    c.encoder = encoder;
    c.follows = follows;
    FEED(f, SESSION_CLAIM, session_claim, &c);
    f->session = f->verdict == VERDICT_OK ? f->next - 1 : f->session;
    return f->verdict;
}

enum verdict feed_assign(struct lifecycle_feed *f, int64_t session, const char *node)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "%s", node);
    Weir__TranscodeAssign a = WEIR__TRANSCODE_ASSIGN__INIT;
    a.session_epoch = session;
    a.node = text;
    FEED(f, TRANSCODE_ASSIGN, transcode_assign, &a);
    f->worker = f->verdict == VERDICT_OK ? f->next - 1 : f->worker;
    return f->verdict;
}

static char *feed_nodes[] = {(char[]){"n1"}, (char[]){"n2"}};
static char feed_codecs[] = "avc1.64001f,mp4a.40.2";

Weir__RenditionStart feed_start_of(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn)
{
    static char names[3][8] = {"source", "360p", "240p"};
    static char object[64];
    (void)snprintf(object, sizeof(object), "%016" PRIx64 "/init-%u-%" PRId64 ".mp4",
                   (uint64_t)FEED_BROADCAST, rendition, f->session);
    Weir__RenditionStart m = WEIR__RENDITION_START__INIT;
    m.worker_epoch = f->worker;
    m.rendition = rendition;
    m.name = names[rendition % 3];
    m.codecs = feed_codecs;
    m.width = rendition == 0 ? 1280 : 640;
    m.height = rendition == 0 ? 720 : 360;
    m.frame_rate_milli = 30000;
    m.bandwidth = rendition == 0 ? 3000000 : 800000;
    m.init_object = object;
    m.init_size = 700;
    m.n_init_nodes = 2;
    m.init_nodes = feed_nodes;
    m.first_msn = msn;
    m.part_target_ms = 510;
    m.target_duration_ms = 2000;
    return m;
}

enum verdict feed_start_record(struct lifecycle_feed *f, Weir__RenditionStart *m)
{
    FEED(f, RENDITION_START, rendition_start, m);
    return f->verdict;
}

enum verdict feed_start(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn, bool disc)
{
    Weir__RenditionStart m = feed_start_of(f, rendition, msn);
    m.discontinuity = disc;
    return feed_start_record(f, &m);
}

Weir__PartCommitted feed_part_of(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn,
                                 uint32_t part)
{
    static char object[96];
    (void)snprintf(object, sizeof(object), "%016" PRIx64 "/%u-%" PRIu64 "-%" PRId64 ".m4s",
                   (uint64_t)FEED_BROADCAST, rendition, msn, f->worker);
    Weir__PartCommitted m = WEIR__PART_COMMITTED__INIT;
    m.worker_epoch = f->worker;
    m.rendition = rendition;
    m.msn = msn;
    m.part = part;
    m.duration_us = FEED_PART_US;
    m.start_us = (int64_t)(msn * 4 + part) * FEED_PART_US;
    m.size = 1000;
    m.crc32c = 0x12345678;
    m.independent = part == 0;
    m.object = object;
    m.position = part * 1000;
    m.n_nodes = 2;
    m.nodes = feed_nodes;
    m.wall_ms = FEED_START_MS + m.start_us / 1000;
    return m;
}

enum verdict feed_part_record(struct lifecycle_feed *f, Weir__PartCommitted *m)
{
    FEED(f, PART_COMMITTED, part_committed, m);
    return f->verdict;
}

enum verdict feed_part(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn, uint32_t part,
                       bool last)
{
    Weir__PartCommitted m = feed_part_of(f, rendition, msn, part);
    m.last = last;
    f->now_ms = m.wall_ms + 500 > f->now_ms ? m.wall_ms + 500 : f->now_ms;
    return feed_part_record(f, &m);
}

void feed_segments(struct lifecycle_feed *f, uint32_t rendition, uint64_t msn, unsigned n)
{
    for (unsigned i = 0; i < n * 4; i++) {
        assert_int_equal(feed_part(f, rendition, msn + i / 4, i % 4, i % 4 == 3), VERDICT_OK);
    }
}

enum verdict feed_end_idle(struct lifecycle_feed *f, int64_t session, int64_t idle_since_ms)
{
    char reason[] = "unpublished";
    Weir__BroadcastEnd e = WEIR__BROADCAST_END__INIT;
    e.session_epoch = session;
    e.reason = reason;
    e.idle_since_ms = idle_since_ms;
    FEED(f, BROADCAST_END, broadcast_end, &e);
    return f->verdict;
}

enum verdict feed_end(struct lifecycle_feed *f, int64_t session)
{
    return feed_end_idle(f, session, 0);
}

enum verdict feed_thumbnail(struct lifecycle_feed *f, const char *object)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "%s", object);
    Weir__Thumbnail t = WEIR__THUMBNAIL__INIT;
    t.worker_epoch = f->worker;
    t.object = text;
    t.size = 5000;
    t.width = 320;
    t.height = 180;
    t.n_nodes = 2;
    t.nodes = feed_nodes;
    FEED(f, THUMBNAIL, thumbnail, &t);
    return f->verdict;
}

void feed_live(struct lifecycle_feed *f)
{
    assert_int_equal(feed_claim(f, "n1", FEED_BROADCAST), VERDICT_OK);
    assert_int_equal(feed_assign(f, f->session, "n2"), VERDICT_OK);
    assert_int_equal(feed_start(f, 0, 0, false), VERDICT_OK);
}

void feed_hash(struct lifecycle_feed *f, uint8_t ret_hash[32])
{
    struct error err;
    assert_int_equal(views_hash(f->views, VIEW_LIFECYCLE, 0, ret_hash, &err), 0);
}
