#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lifecycle_feed.h"
#include "proto/messages.h"

static struct lifecycle_feed f;

static int setup(void **state)
{
    (void)state;
    feed_open(&f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    feed_close(&f);
    return 0;
}

static const struct lifecycle_channel *live(void)
{
    return lifecycle_live(f.views, FEED_CHANNEL);
}

static const struct lifecycle_rendition *source(void)
{
    assert_non_null(live());
    const struct lifecycle_rendition *r = lifecycle_rendition_find(live(), "source");
    assert_non_null(r);
    return r;
}

static void assert_next(uint64_t msn, uint32_t part)
{
    assert_int_equal(source()->next_msn, msn);
    assert_int_equal(source()->next_part, part);
}

static const struct lifecycle_segment *newest(void)
{
    assert_true(source()->n_segments > 0);
    return source()->segments[source()->n_segments - 1];
}

/* --- Sessions --- */

static void claim__makes_a_channel_live_with_its_offset_as_epoch(void **state)
{
    (void)state;
    assert_null(live());
    assert_int_equal(feed_claim(&f, "n1", FEED_BROADCAST), VERDICT_OK);
    assert_non_null(live());
    assert_int_equal(live()->session_epoch, 0);
    assert_int_equal(live()->worker_epoch, LIFECYCLE_NO_EPOCH);
    assert_string_equal(live()->session_node, "n1");
    assert_string_equal(live()->encoder, "obs-output module");
    assert_true(live()->broadcast.id == FEED_BROADCAST);
    assert_int_equal(live()->broadcast.started_ms, FEED_START_MS);
    assert_true(f.outcome.broadcast == FEED_BROADCAST);
    assert_false(f.outcome.ended);
}

static void claim__a_newer_one_takes_over_and_the_broadcast_goes_on(void **state)
{
    (void)state;
    feed_live(&f);
    int64_t old_session = f.session;
    assert_int_equal(feed_claim(&f, "n3", 0xdef), VERDICT_OK);
    assert_true(live()->broadcast.id == FEED_BROADCAST);
    assert_string_equal(live()->session_node, "n3");
    assert_int_equal(live()->worker_epoch, LIFECYCLE_NO_EPOCH);
    assert_int_equal(feed_assign(&f, old_session, "n1"), VERDICT_FENCED);
    assert_int_equal(feed_end(&f, old_session), VERDICT_FENCED);
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_FENCED);
    assert_int_equal(feed_assign(&f, f.session, "n1"), VERDICT_OK);
}

static void claim__that_was_long_on_its_way_takes_the_channel_from_nobody(void **state)
{
    (void)state;
    uint64_t nobody = lifecycle_claim_follows(NULL);
    assert_int_equal(feed_claim_behind(&f, "n1", FEED_BROADCAST, nobody), VERDICT_OK);
    uint64_t first = lifecycle_claim_follows(live());
    assert_int_equal(feed_claim_behind(&f, "n2", 0xdef, nobody), VERDICT_FENCED);
    assert_string_equal(live()->session_node, "n1");
    assert_int_equal(feed_claim_behind(&f, "n2", 0xdef, first), VERDICT_OK);
    assert_string_equal(live()->session_node, "n2");
    assert_int_equal(feed_claim_behind(&f, "n3", 0x123, first), VERDICT_FENCED);
    assert_int_equal(feed_claim_behind(&f, "n3", 0x123, UINT64_MAX), VERDICT_FENCED);
    assert_string_equal(live()->session_node, "n2");
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    uint64_t ended = lifecycle_claim_follows(live());
    assert_int_equal(feed_claim_behind(&f, "n3", 0x123, first), VERDICT_FENCED);
    assert_null(live());
    assert_int_equal(feed_claim_behind(&f, "n3", 0x123, ended), VERDICT_OK);
    assert_string_equal(live()->session_node, "n3");
}

static void claim__closes_the_open_segment_and_the_next_is_a_discontinuity(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, 1);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_OK);
    assert_int_equal(feed_claim(&f, "n1", 0xdef), VERDICT_OK);
    assert_true(newest()->complete);
    assert_int_equal(newest()->n_parts, 1);
    assert_next(2, 0);
    assert_int_equal(live()->end_us, 5 * FEED_PART_US);
    assert_int_equal(feed_assign(&f, f.session, "n2"), VERDICT_OK);
    /* Not declared, and yet: the encoder began anew. */
    assert_int_equal(feed_start(&f, 0, 2, false), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 2, 0, false), VERDICT_OK);
    assert_true(newest()->discontinuity);
    assert_int_equal(newest()->discontinuities, 1);
    assert_int_equal(newest()->init, 1); /* another init segment */
    assert_int_equal(feed_part(&f, 0, 2, 1, true), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 3, 0, false), VERDICT_OK);
    assert_false(newest()->discontinuity);
    assert_int_equal(newest()->discontinuities, 1);
}

static void claim__after_the_end_begins_another_broadcast(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, 2);
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    assert_null(live());
    assert_int_equal(feed_claim(&f, "n1", FEED_BROADCAST), VERDICT_DUPLICATE);
    assert_null(live());
    assert_int_equal(feed_claim(&f, "n1", 0xdef), VERDICT_OK);
    assert_true(live()->broadcast.id == 0xdef);
    assert_int_equal(live()->n_renditions, 0);
    assert_int_equal(live()->end_us, 0);
}

static void claim__bad_values_are_malformed(void **state)
{
    (void)state;
    assert_int_equal(feed_claim(&f, "", FEED_BROADCAST), VERDICT_MALFORMED);
    assert_int_equal(feed_claim(&f, "a b", FEED_BROADCAST), VERDICT_MALFORMED);
    assert_int_equal(feed_claim(&f, "n1", 0), VERDICT_MALFORMED);
    char long_name[80];
    memset(long_name, 'n', sizeof(long_name));
    long_name[64] = 0;
    assert_int_equal(feed_claim(&f, long_name, FEED_BROADCAST), VERDICT_MALFORMED);
    static const char *const channels[] = {"", "x", "UPPER", "a/b", "abcdefghijklmnopqrstuvwxyz"};
    for (unsigned i = 0; i < 5; i++) {
        f.channel = channels[i];
        assert_int_equal(feed_claim(&f, "n1", FEED_BROADCAST), VERDICT_MALFORMED);
    }
    assert_int_equal(feed_raw(&f, "\xff\xff\xff", 3), VERDICT_MALFORMED);
    assert_int_equal(feed_raw(&f, "", 0), VERDICT_MALFORMED);
    f.channel = FEED_CHANNEL;
    Weir__LifecycleRecord empty = WEIR__LIFECYCLE_RECORD__INIT;
    char name[] = FEED_CHANNEL;
    empty.channel = name;
    assert_int_equal(feed_record(&f, &empty), VERDICT_MALFORMED);
}

static void records__of_a_channel_that_is_not_live_are_void(void **state)
{
    (void)state;
    assert_int_equal(feed_assign(&f, 0, "n1"), VERDICT_NOT_FOUND);
    assert_int_equal(feed_start(&f, 0, 0, false), VERDICT_NOT_FOUND);
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_NOT_FOUND);
    assert_int_equal(feed_end(&f, 0), VERDICT_NOT_FOUND);
    assert_int_equal(feed_thumbnail(&f, "0000000000000abc/t.jpg"), VERDICT_NOT_FOUND);
}

/* --- Workers and parts --- */

static void part__only_exactly_the_next_number_counts(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_part(&f, 0, 0, 1, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_OK);
    assert_true(f.outcome.has_rendition);
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 0, 2, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 0, 1, true), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 0, 2, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_OK);
    assert_next(1, 1);
    assert_int_equal(feed_part(&f, 1, 0, 0, false), VERDICT_NOT_FOUND);
}

static void part__of_a_replaced_worker_is_fenced(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_OK);
    int64_t old = f.worker;
    assert_int_equal(feed_assign(&f, f.session, "n3"), VERDICT_OK);
    Weir__PartCommitted m = feed_part_of(&f, 0, 0, 1);
    /* The new worker must start the rendition first. */
    assert_int_equal(feed_part_record(&f, &m), VERDICT_NOT_FOUND);
    m.worker_epoch = old;
    assert_int_equal(feed_part_record(&f, &m), VERDICT_FENCED);
    Weir__RenditionStart s = feed_start_of(&f, 0, 0);
    s.worker_epoch = old;
    assert_int_equal(feed_start_record(&f, &s), VERDICT_FENCED);
    assert_next(0, 1);
}

static void start__another_worker_goes_on_inside_the_open_segment(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, 1);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 1, 1, false), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n3"), VERDICT_OK);
    assert_int_equal(lifecycle_resume_us(live()), 4 * FEED_PART_US);
    assert_int_equal(feed_start(&f, 0, 0, false), VERDICT_ORDER);
    assert_int_equal(feed_start(&f, 0, 3, false), VERDICT_ORDER);
    assert_int_equal(feed_start(&f, 0, 1, true), VERDICT_ORDER);
    Weir__RenditionStart s = feed_start_of(&f, 0, 1);
    char object[] = "0000000000000abc/other-init.mp4";
    s.init_object = object;
    assert_int_equal(feed_start_record(&f, &s), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_ORDER);
    assert_int_equal(feed_part(&f, 0, 1, 2, true), VERDICT_OK);
    assert_int_equal(newest()->n_parts, 3);
    assert_int_equal(newest()->n_extents, 2); /* each worker writes to an object of its own */
    assert_false(newest()->discontinuity);
    assert_int_equal(newest()->init, 0); /* a segment has one init: that of its beginning */
    assert_int_equal(feed_part(&f, 0, 2, 0, false), VERDICT_OK);
    assert_int_equal(newest()->init, 1);
    assert_false(newest()->discontinuity);
}

static void start__one_number_more_closes_the_open_segment(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n3"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 1, true), VERDICT_OK);
    assert_true(newest()->complete);
    assert_next(1, 0);
    /* One more worker before any part has come: what was declared still holds. */
    assert_int_equal(feed_assign(&f, f.session, "n1"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 1, false), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_OK);
    assert_true(newest()->discontinuity);
}

static void start__of_a_broadcast_is_no_discontinuity(void **state)
{
    (void)state;
    assert_int_equal(feed_claim(&f, "n1", FEED_BROADCAST), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n2"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 7, true), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 7, 0, false), VERDICT_OK);
    assert_false(newest()->discontinuity);
    assert_int_equal(newest()->discontinuities, 0);
}

static void start__names_and_counts_are_checked(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_start(&f, 1, 0, false), VERDICT_OK);
    Weir__RenditionStart m = feed_start_of(&f, 2, 0);
    static char taken[] = "source", reserved[] = "master", slash[] = "a/b", quote[] = "x\"y",
                dots[] = "0000000000000abc/..", longest[] = "aaaaaaaaaaaaaaaaa";
    m.name = taken;
    assert_int_equal(feed_start_record(&f, &m), VERDICT_EXISTS);
    char *const bad_names[] = {reserved, slash, longest};
    for (unsigned i = 0; i < 3; i++) {
        m.name = bad_names[i];
        assert_int_equal(feed_start_record(&f, &m), VERDICT_MALFORMED);
    }
    m = feed_start_of(&f, 2, 0);
    m.codecs = quote;
    assert_int_equal(feed_start_record(&f, &m), VERDICT_MALFORMED);
    m = feed_start_of(&f, 2, 0);
    m.init_object = dots;
    assert_int_equal(feed_start_record(&f, &m), VERDICT_MALFORMED);
    m = feed_start_of(&f, 2, 0);
    m.n_init_nodes = 0;
    assert_int_equal(feed_start_record(&f, &m), VERDICT_MALFORMED);
    m = feed_start_of(&f, 0, 0);
    static char other[] = "other";
    m.name = other;
    assert_int_equal(feed_start_record(&f, &m), VERDICT_EXISTS);
    for (unsigned i = 2; i < 12; i++) {
        char name[8];
        m = feed_start_of(&f, i, 0);
        (void)snprintf(name, sizeof(name), "r%u", i);
        m.name = name;
        assert_int_equal(feed_start_record(&f, &m),
                         i < LIFECYCLE_RENDITIONS_MAX ? VERDICT_OK : VERDICT_ORDER);
    }
}

static void part__values_out_of_range_are_malformed(void **state)
{
    (void)state;
    feed_live(&f);
    static char dots[] = "0000000000000abc/../x";
    Weir__PartCommitted m;
#define BAD(field, value)                                                                          \
    m = feed_part_of(&f, 0, 0, 0);                                                                 \
    m.field = value;                                                                               \
    assert_int_equal(feed_part_record(&f, &m), VERDICT_MALFORMED)
    BAD(duration_us, 0);
    BAD(duration_us, 60000001);
    BAD(size, 0);
    BAD(size, UINT32_MAX);
    BAD(start_us, -1);
    BAD(start_us, INT64_MAX);
    BAD(wall_ms, -1);
    BAD(wall_ms, INT64_MAX);
    BAD(position, UINT64_MAX);
    BAD(object, dots);
    BAD(n_nodes, 0);
#undef BAD
    assert_next(0, 0);
}

static void part__a_segment_is_bounded(void **state)
{
    (void)state;
    feed_live(&f);
    for (unsigned i = 0; i < LIFECYCLE_PARTS_MAX; i++) {
        assert_int_equal(feed_part(&f, 0, 0, i, false), VERDICT_OK);
    }
    assert_int_equal(feed_part(&f, 0, 0, LIFECYCLE_PARTS_MAX, false), VERDICT_ORDER);
    /* The worker gets out by starting at the next number. */
    assert_int_equal(feed_start(&f, 0, 1, false), VERDICT_OK);
    assert_int_equal(feed_part(&f, 0, 1, 0, false), VERDICT_OK);
}

static void part__the_ring_keeps_the_newest_segments(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, LIFECYCLE_RING_SEGMENTS + 10);
    assert_int_equal(source()->n_segments, LIFECYCLE_RING_SEGMENTS);
    assert_int_equal(source()->segments[0]->msn, 10);
    assert_int_equal(newest()->msn, LIFECYCLE_RING_SEGMENTS + 9);
    assert_int_equal(newest()->duration_us, 4 * FEED_PART_US);
    assert_int_equal(newest()->size, 4000);
    assert_int_equal(newest()->wall_ms, FEED_START_MS + (LIFECYCLE_RING_SEGMENTS + 9) * 2000);
}

static int keep_object(void *data, const struct lifecycle_segment *s)
{
    lifecycle_part_object(s, 1, data);
    return 0;
}

static void segment__is_found_in_the_ring_and_in_the_store(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, LIFECYCLE_RING_SEGMENTS + 10);
    static const uint64_t msns[] = {3, 40};
    for (unsigned i = 0; i < 2; i++) {
        struct lifecycle_object o;
        char expected[96];
        assert_int_equal(
            lifecycle_segment(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, msns[i], keep_object, &o),
            0);
        (void)snprintf(expected, sizeof(expected), "0000000000000abc/0-%d-1.m4s", (int)msns[i]);
        assert_string_equal(o.name, expected);
        assert_int_equal(o.position, 1000);
        assert_int_equal(o.size, 1000);
        assert_true(o.has_crc && o.crc32c == 0x12345678);
        assert_int_equal(o.n_nodes, 2);
        assert_string_equal(o.nodes[1], "n2");
    }
    struct lifecycle_object o;
    assert_int_equal(
        lifecycle_segment(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, 1000, keep_object, &o),
        WEIR_ENOTFOUND);
    assert_int_equal(lifecycle_segment(f.views, FEED_CHANNEL, 0xdef, 0, 1, keep_object, &o),
                     WEIR_ENOTFOUND);
    assert_int_equal(lifecycle_segment(f.views, "no such/", 0xdef, 0, 1, keep_object, &o),
                     WEIR_ENOTFOUND);
    assert_int_equal(
        lifecycle_segment(f.views, FEED_CHANNEL, FEED_BROADCAST, 1u << 31, 1, keep_object, &o),
        WEIR_ENOTFOUND);
}

static void init__every_one_can_be_asked_for(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, 1);
    assert_int_equal(feed_claim(&f, "n1", 0xdef), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n1"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 1, false), VERDICT_OK);
    struct lifecycle_object o;
    assert_int_equal(lifecycle_init(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, 0, &o), 0);
    assert_string_equal(o.name, "0000000000000abc/init-0-0.mp4");
    assert_int_equal(o.size, 700);
    assert_int_equal(lifecycle_init(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, 1, &o), 0);
    assert_string_equal(o.name, "0000000000000abc/init-0-7.mp4");
    assert_int_equal(lifecycle_init(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, 2, &o),
                     WEIR_ENOTFOUND);
}

static void thumbnail__the_newest_stays_with_the_broadcast(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_thumbnail(&f, "0000000000000abc/t0.jpg"), VERDICT_OK);
    assert_int_equal(feed_thumbnail(&f, "0000000000000abc/t1.jpg"), VERDICT_OK);
    assert_int_equal(feed_thumbnail(&f, "t2.jpg"), VERDICT_MALFORMED);
    assert_string_equal(live()->broadcast.thumbnail.object.name, "0000000000000abc/t1.jpg");
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    struct lifecycle_broadcast b;
    assert_int_equal(lifecycle_broadcast(f.views, FEED_CHANNEL, FEED_BROADCAST, &b), 0);
    assert_string_equal(b.thumbnail.object.name, "0000000000000abc/t1.jpg");
    assert_int_equal(b.thumbnail.width, 320);
}

/* --- The end --- */

struct listing {
    unsigned n;
    uint64_t number[64];
};

static int list_segment(void *data, const struct lifecycle_segment *s)
{
    struct listing *l = data;
    assert_true(s->complete);
    l->number[l->n++] = s->msn;
    return 0;
}

static int list_broadcast(void *data, const struct lifecycle_broadcast *b)
{
    struct listing *l = data;
    l->number[l->n++] = b->id;
    return 0;
}

static int list_rendition(void *data, const struct lifecycle_rendition *r)
{
    struct listing *l = data;
    l->number[l->n++] = r->id;
    return 0;
}

static void end__closes_the_open_segment_and_leaves_a_vod(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_start(&f, 1, 0, false), VERDICT_OK);
    feed_segments(&f, 0, 0, 3);
    assert_int_equal(feed_part(&f, 0, 3, 0, false), VERDICT_OK);
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    assert_true(f.outcome.ended);
    assert_null(live());
    struct lifecycle_broadcast b;
    assert_int_equal(lifecycle_broadcast(f.views, FEED_CHANNEL, FEED_BROADCAST, &b), 0);
    assert_true(b.ended_ms > b.started_ms);
    assert_int_equal(b.duration_us, 13 * FEED_PART_US);
    assert_string_equal(b.reason, "unpublished");
    struct listing l = {0};
    assert_int_equal(
        lifecycle_segments(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, false, list_segment, &l), 0);
    assert_int_equal(l.n, 4);
    assert_int_equal(l.number[3], 3);
    l.n = 0;
    assert_int_equal(
        lifecycle_segments(f.views, FEED_CHANNEL, FEED_BROADCAST, 0, true, list_segment, &l), 0);
    assert_int_equal(l.number[0], 3);
    l.n = 0;
    assert_int_equal(
        lifecycle_renditions(f.views, FEED_CHANNEL, FEED_BROADCAST, list_rendition, &l), 0);
    assert_int_equal(l.n, 2);
}

static void end__the_duration_begins_with_the_first_segment(void **state)
{
    (void)state;
    assert_int_equal(feed_claim(&f, "n1", FEED_BROADCAST), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n2"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 5, false), VERDICT_OK);
    feed_segments(&f, 0, 5, 3);
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    struct lifecycle_broadcast b;
    assert_int_equal(lifecycle_broadcast(f.views, FEED_CHANNEL, FEED_BROADCAST, &b), 0);
    assert_int_equal(b.duration_us, 12 * FEED_PART_US);
}

static void broadcasts__are_listed_newest_first_and_by_channel(void **state)
{
    (void)state;
    static const uint64_t ids[] = {7, 3, 9};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(feed_claim(&f, "n1", ids[i]), VERDICT_OK);
        assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
        f.channel = "demo2";
        assert_int_equal(feed_claim(&f, "n1", 100 + i), VERDICT_OK);
        assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
        f.channel = FEED_CHANNEL;
    }
    assert_int_equal(feed_claim(&f, "n1", 4), VERDICT_OK);
    struct listing l = {0};
    assert_int_equal(lifecycle_broadcasts(f.views, FEED_CHANNEL, list_broadcast, &l), 0);
    assert_int_equal(l.n, 4);
    static const uint64_t expected[] = {4, 9, 3, 7};
    assert_memory_equal(l.number, expected, sizeof(expected));
}

static int count_channel(void *data, const struct lifecycle_channel *c)
{
    (void)c;
    (*(unsigned *)data)++;
    return 0;
}

static void live_each__tells_of_every_live_channel(void **state)
{
    (void)state;
    feed_live(&f);
    f.channel = "demo2";
    assert_int_equal(feed_claim(&f, "n1", 5), VERDICT_OK);
    unsigned n = 0;
    assert_int_equal(lifecycle_live_each(f.views, count_channel, &n), 0);
    assert_int_equal(n, 2);
    f.channel = FEED_CHANNEL;
}

static void end__by_timeout_is_void_once_there_has_been_a_part_since(void **state)
{
    (void)state;
    feed_live(&f);
    int64_t seen_ms = lifecycle_active_ms(live());
    f.now_ms += 1000;
    assert_int_equal(feed_part(&f, 0, 0, 0, false), VERDICT_OK);
    assert_true(lifecycle_active_ms(live()) > seen_ms);
    assert_int_equal(feed_end_idle(&f, f.session, seen_ms), VERDICT_FENCED);
    feed_reopen(&f); /* a node that reads its state back decides alike */
    assert_int_equal(feed_end_idle(&f, f.session, seen_ms), VERDICT_FENCED);
    assert_non_null(live());
    assert_int_equal(feed_end_idle(&f, f.session, lifecycle_active_ms(live())), VERDICT_OK);
    assert_null(live());
}

static void rendition__that_the_session_does_not_bring_any_more_is_not_current(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_start(&f, 1, 0, false), VERDICT_OK);
    feed_segments(&f, 0, 0, 1);
    feed_segments(&f, 1, 0, 1);
    assert_int_equal(feed_claim(&f, "n1", 0xdef), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n1"), VERDICT_OK);
    const struct lifecycle_rendition *low = lifecycle_rendition_by_id(live(), 1);
    assert_true(lifecycle_rendition_current(live(), source()));
    assert_true(lifecycle_rendition_current(live(), low));
    assert_int_equal(feed_start(&f, 0, 1, false), VERDICT_OK);
    assert_true(lifecycle_rendition_current(live(), source()));
    assert_false(lifecycle_rendition_current(live(), low));
}

/* --- The store and the memory say the same --- */

static void assert_same_segment(const struct lifecycle_segment *a,
                                const struct lifecycle_segment *b)
{
    assert_int_equal(a->msn, b->msn);
    assert_int_equal(a->start_us, b->start_us);
    assert_int_equal(a->wall_ms, b->wall_ms);
    assert_int_equal(a->duration_us, b->duration_us);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->init, b->init);
    assert_int_equal(a->discontinuities, b->discontinuities);
    assert_int_equal(a->discontinuity, b->discontinuity);
    assert_int_equal(a->complete, b->complete);
    assert_int_equal(a->append_ms, b->append_ms);
    assert_int_equal(a->n_parts, b->n_parts);
    assert_int_equal(a->n_extents, b->n_extents);
    for (unsigned i = 0; i < a->n_parts; i++) {
        assert_memory_equal(&a->parts[i], &b->parts[i], sizeof(a->parts[i]));
    }
}

static void assert_same_channel(const struct lifecycle_channel *a,
                                const struct lifecycle_channel *b)
{
    assert_memory_equal(&a->broadcast, &b->broadcast, sizeof(a->broadcast));
    assert_int_equal(a->session_epoch, b->session_epoch);
    assert_int_equal(a->worker_epoch, b->worker_epoch);
    assert_string_equal(a->worker_node, b->worker_node);
    assert_int_equal(a->part_ms, b->part_ms);
    assert_int_equal(a->end_us, b->end_us);
    assert_int_equal(a->n_renditions, b->n_renditions);
    for (unsigned i = 0; i < a->n_renditions; i++) {
        const struct lifecycle_rendition *x = a->renditions[i], *y = b->renditions[i];
        assert_memory_equal(x, y, offsetof(struct lifecycle_rendition, segments));
        for (unsigned s = 0; s < x->n_segments; s++) {
            assert_same_segment(x->segments[s], y->segments[s]);
        }
    }
}

/* One step of a broadcast with everything in it; false after the last. */
static bool scenario(struct lifecycle_feed *g, unsigned step)
{
    g->now_ms += 100; /* append times never go back */
    switch (step) {
    case 0:
        return feed_claim(g, "n1", FEED_BROADCAST) == VERDICT_OK;
    case 1:
    case 11:
        return feed_assign(g, g->session, step == 1 ? "n2" : "n3") == VERDICT_OK;
    case 2:
    case 3:
        return feed_start(g, step - 2, 0, false) == VERDICT_OK;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        return feed_part(g, 0, (step - 4) / 4, (step - 4) % 4, step == 7) == VERDICT_OK;
    case 9:
        return feed_part(g, 1, 0, 0, false) == VERDICT_OK;
    case 10:
        return feed_thumbnail(g, "0000000000000abc/t.jpg") == VERDICT_OK;
    case 12:
        return feed_start(g, 0, 1, false) == VERDICT_OK;
    case 13:
        return feed_start(g, 1, 1, true) == VERDICT_OK;
    case 14:
        return feed_part(g, 0, 1, 1, true) == VERDICT_OK;
    case 15:
        return feed_part(g, 1, 1, 0, false) == VERDICT_OK;
    case 16:
        return feed_claim(g, "n3", 0xdef) == VERDICT_OK;
    case 17:
        return feed_assign(g, g->session, "n1") == VERDICT_OK;
    case 18:
        return feed_start(g, 0, 2, false) == VERDICT_OK;
    case 19:
        return feed_part(g, 0, 2, 0, false) == VERDICT_OK;
    case 20:
        return feed_end(g, g->session) == VERDICT_OK;
    default:
        return false;
    }
}

static void reopening__after_any_record_changes_nothing(void **state)
{
    (void)state;
    struct lifecycle_feed g;
    feed_open(&g);
    unsigned step = 0;
    while (scenario(&f, step)) {
        assert_true(scenario(&g, step));
        step++;
        feed_reopen(&g);
        const struct lifecycle_channel *a = live(), *b = lifecycle_live(g.views, FEED_CHANNEL);
        assert_true((a == NULL) == (b == NULL));
        if (a != NULL) {
            assert_same_channel(a, b);
        }
        uint8_t x[32], y[32];
        feed_hash(&f, x);
        feed_hash(&g, y);
        assert_memory_equal(x, y, sizeof(x));
    }
    assert_int_equal(step, 21);
    feed_close(&g);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(claim__makes_a_channel_live_with_its_offset_as_epoch),
        TEST(claim__a_newer_one_takes_over_and_the_broadcast_goes_on),
        TEST(claim__that_was_long_on_its_way_takes_the_channel_from_nobody),
        TEST(claim__closes_the_open_segment_and_the_next_is_a_discontinuity),
        TEST(claim__after_the_end_begins_another_broadcast),
        TEST(claim__bad_values_are_malformed),
        TEST(records__of_a_channel_that_is_not_live_are_void),
        TEST(part__only_exactly_the_next_number_counts),
        TEST(part__of_a_replaced_worker_is_fenced),
        TEST(start__another_worker_goes_on_inside_the_open_segment),
        TEST(start__one_number_more_closes_the_open_segment),
        TEST(start__of_a_broadcast_is_no_discontinuity),
        TEST(start__names_and_counts_are_checked),
        TEST(part__values_out_of_range_are_malformed),
        TEST(part__a_segment_is_bounded),
        TEST(part__the_ring_keeps_the_newest_segments),
        TEST(segment__is_found_in_the_ring_and_in_the_store),
        TEST(init__every_one_can_be_asked_for),
        TEST(thumbnail__the_newest_stays_with_the_broadcast),
        TEST(end__closes_the_open_segment_and_leaves_a_vod),
        TEST(end__the_duration_begins_with_the_first_segment),
        TEST(broadcasts__are_listed_newest_first_and_by_channel),
        TEST(live_each__tells_of_every_live_channel),
        TEST(end__by_timeout_is_void_once_there_has_been_a_part_since),
        TEST(rendition__that_the_session_does_not_bring_any_more_is_not_current),
        TEST(reopening__after_any_record_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
