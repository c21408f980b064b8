/* Records of the lifecycle view: nothing may crash, and numbers never have gaps. An even first
 * byte: any bytes as records, each behind two bytes of length (little endian). Odd: byte pairs as
 * steps near the right ones, so that the rules are reached. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "proto/lifecycle.pb-c.h"
#include "views/lifecycle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct views *views;
static char dir[] = "/tmp/weir-fuzz-lifecycle-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void finish(void)
{
    views_close(views, NULL, NULL);
    (void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void start(void)
{
    static const uint32_t partitions[VIEW_TOPICS] = {[VIEW_LIFECYCLE] = 1};
    struct error err;
    if (mkdtemp(dir) == NULL || views_open_detached(NULL, dir, partitions, &views, &err) != 0) {
        abort();
    }
    (void)atexit(finish);
}

static int look(void *data, const struct lifecycle_channel *c)
{
    (void)data;
    int64_t resume_us = lifecycle_resume_us(c);
    if (resume_us < 0 || resume_us > c->end_us) {
        abort();
    }
    for (unsigned i = 0; i < c->n_renditions; i++) {
        const struct lifecycle_rendition *r = c->renditions[i];
        for (unsigned s = 1; s < r->n_segments; s++) {
            if (r->segments[s]->msn != r->segments[s - 1]->msn + 1 ||
                !r->segments[s - 1]->complete) {
                abort();
            }
        }
    }
    return 0;
}

static void feed(const uint8_t *value, size_t len)
{
    struct batch_record record = {.offset = LOG_OFFSET(views_offset(views, VIEW_LIFECYCLE, 0)),
                                  .timestamp_ms = 1767323045678,
                                  .key_len = -1,
                                  .value = value,
                                  .value_len = (int32_t)len};
    struct error err;
    if (views_feed(views, VIEW_LIFECYCLE, 0, &record, 1, &err) != 0) {
        abort();
    }
    (void)lifecycle_live_each(views, look, NULL);
}

static void feed_raw(struct cursor *c)
{
    while (cursor_left(c) >= 2) {
        size_t n = cursor_le16(c);
        n = n < cursor_left(c) ? n : cursor_left(c);
        feed(cursor_take(c, n), n);
    }
}

static char text_demo[] = "demo", text_n1[] = "n1", text_n2[] = "n2", text_codecs[] = "avc1.64001f",
            text_a[] = "0000000000000abc/a", text_b[] = "0000000000000abc/b", text_zero[] = "r0",
            text_one[] = "r1", text_end[] = "end";

static void feed_message(Weir__LifecycleRecord *m)
{
    uint8_t packed[1024];
    m->channel = text_demo;
    feed(packed, weir__lifecycle_record__pack(m, packed));
}

static void feed_claim(uint64_t id, uint64_t follows)
{
    Weir__LifecycleRecord m = WEIR__LIFECYCLE_RECORD__INIT;
    Weir__SessionClaim b = WEIR__SESSION_CLAIM__INIT;
    b.node = text_n1;
    b.broadcast_id = id;
    b.follows = follows;
    m.body_case = WEIR__LIFECYCLE_RECORD__BODY_SESSION_CLAIM;
    m.session_claim = &b;
    feed_message(&m);
}

static void feed_assign(int64_t session)
{
    Weir__LifecycleRecord m = WEIR__LIFECYCLE_RECORD__INIT;
    Weir__TranscodeAssign b = WEIR__TRANSCODE_ASSIGN__INIT;
    b.session_epoch = session;
    b.node = text_n2;
    m.body_case = WEIR__LIFECYCLE_RECORD__BODY_TRANSCODE_ASSIGN;
    m.transcode_assign = &b;
    feed_message(&m);
}

static void feed_end(int64_t session)
{
    Weir__LifecycleRecord m = WEIR__LIFECYCLE_RECORD__INIT;
    Weir__BroadcastEnd b = WEIR__BROADCAST_END__INIT;
    b.session_epoch = session;
    b.reason = text_end;
    m.body_case = WEIR__LIFECYCLE_RECORD__BODY_BROADCAST_END;
    m.broadcast_end = &b;
    feed_message(&m);
}

static void feed_start(int64_t worker, uint32_t id, uint64_t msn, unsigned bits)
{
    char *nodes[] = {text_n1, text_n2};
    Weir__LifecycleRecord m = WEIR__LIFECYCLE_RECORD__INIT;
    Weir__RenditionStart b = WEIR__RENDITION_START__INIT;
    b.worker_epoch = worker;
    b.rendition = id;
    b.name = id == 0 ? text_zero : text_one;
    b.codecs = text_codecs;
    b.init_object = (bits & 1) != 0 ? text_a : text_b;
    b.init_size = 1;
    b.init_crc32c = bits & 4;
    b.n_init_nodes = 2;
    b.init_nodes = nodes;
    b.first_msn = msn;
    b.discontinuity = (bits & 2) != 0;
    b.part_target_ms = b.target_duration_ms = 1000;
    m.body_case = WEIR__LIFECYCLE_RECORD__BODY_RENDITION_START;
    m.rendition_start = &b;
    feed_message(&m);
}

static void feed_part(int64_t worker, uint32_t id, uint64_t msn, uint32_t part, unsigned bits)
{
    char *nodes[] = {text_n1, text_n2};
    Weir__LifecycleRecord m = WEIR__LIFECYCLE_RECORD__INIT;
    Weir__PartCommitted b = WEIR__PART_COMMITTED__INIT;
    b.worker_epoch = worker;
    b.rendition = id;
    b.msn = msn;
    b.part = part;
    b.duration_us = b.size = 1;
    b.object = (bits & 1) != 0 ? text_a : text_b;
    b.last = (bits & 2) != 0;
    b.n_nodes = 1 + (bits & 4) / 4;
    b.nodes = nodes;
    m.body_case = WEIR__LIFECYCLE_RECORD__BODY_PART_COMMITTED;
    m.part_committed = &b;
    feed_message(&m);
}

/* Near what would be right: the current epochs and numbers, now and then one off. */
static void feed_step(unsigned op, unsigned bits)
{
    const struct lifecycle_channel *c = lifecycle_live(views, text_demo);
    uint32_t id = bits & 1;
    int64_t off = (bits & 0x30) == 0x30 ? 1 : 0;
    int64_t session = c != NULL ? c->session_epoch - off : 0;
    int64_t worker = c != NULL ? c->worker_epoch - off : 0;
    const struct lifecycle_rendition *r = c != NULL ? lifecycle_rendition_by_id(c, id) : NULL;
    uint64_t msn = (r != NULL ? r->next_msn : 5) + ((bits & 0xc0) == 0xc0 ? 1 : 0);
    uint32_t part = (r != NULL ? r->next_part : 0) + ((bits & 0xc0) == 0x80 ? 1 : 0);
    switch (op % 8) {
    case 0:
        feed_claim((uint64_t)views_offset(views, VIEW_LIFECYCLE, 0) + 1,
                   (bits & 2) != 0 ? lifecycle_claim_follows(c) - (uint64_t)off : 0);
        return;
    case 1:
        feed_assign(session);
        return;
    case 2:
        feed_end(session);
        return;
    case 3:
        feed_start(worker, id, msn, bits >> 1);
        return;
    default:
        feed_part(worker, id, msn, part, bits >> 1);
        return;
    }
}

static int meet(void *data, const struct lifecycle_stored *stored)
{
    (void)data;
    if (stored->segment != NULL ? stored->segment->n_parts == 0 : stored->object->size == 0) {
        abort();
    }
    return 0;
}

/* A page of what is stored by now: what was written can be read. */
static void walk_on(void)
{
    static struct lifecycle_place place;
    int rc = lifecycle_walk(views, &place, 16, meet, NULL);
    if (rc < 0) {
        abort();
    }
    place = rc == 0 ? (struct lifecycle_place){0} : place;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cursor c;
    if (views == NULL) {
        start();
    }
    cursor_init(&c, data, size);
    if (cursor_u8(&c) % 2 == 0) {
        feed_raw(&c);
        walk_on();
        return 0;
    }
    while (cursor_left(&c) >= 2) {
        unsigned op = cursor_u8(&c);
        feed_step(op, cursor_u8(&c));
    }
    const struct lifecycle_channel *live = lifecycle_live(views, text_demo);
    if (live != NULL) {
        feed_end(live->session_epoch);
    }
    walk_on();
    return 0;
}
