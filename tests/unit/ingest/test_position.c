#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/ingest/position.h"

#define SECOND 90000ll
#define EPOCH  40

/* A channel with up to two renditions, whose segments last 2 s and begin at 1 s. */
struct world {
    struct lifecycle_channel channel;
    struct lifecycle_rendition renditions[2];
    struct lifecycle_segment segments[2][8];
    struct backlog backlog;
};

static void world_init(struct world *w)
{
    static const uint8_t data[8] = {0};
    memset(w, 0, sizeof(*w));
    w->channel.session_epoch = EPOCH;
    backlog_init(&w->backlog);
    for (int64_t s = 1; s <= 15; s += 2) {
        struct wire_video v = {s * SECOND, 0, true, data, sizeof(data)};
        assert_non_null(backlog_video(&w->backlog, &v));
    }
}

/* The rendition has n whole segments, numbered from `first`, then `parts` parts of 0.5 s. */
static void has(struct world *w, unsigned id, int64_t epoch, uint64_t first, unsigned n,
                uint32_t parts)
{
    struct lifecycle_rendition *r = &w->renditions[w->channel.n_renditions];
    r->id = id;
    r->session_epoch = epoch;
    r->target_duration_ms = 2000;
    for (unsigned i = 0; i < n + (parts > 0 ? 1u : 0u); i++) {
        struct lifecycle_segment *s = &w->segments[w->channel.n_renditions][i];
        s->msn = first + i;
        s->start_us = 1000000 + 2000000ll * i;
        s->complete = i < n;
        s->n_parts = i < n ? 4 : parts;
        r->segments[r->n_segments++] = s;
    }
    r->next_msn = first + n;
    r->next_part = parts;
    r->end_us = 1000000 + 2000000ll * n + 500000ll * parts;
    w->channel.renditions[w->channel.n_renditions++] = r;
    w->channel.end_us = r->end_us > w->channel.end_us ? r->end_us : w->channel.end_us;
}

static void a_new_broadcast__begins_at_the_first_key_frame(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    world_init(&w);
    position_find(&w.channel, &w.backlog, true, &p);
    assert_int_equal(p.from_us, 1000000);
    assert_true(p.rung && !p.discontinuity);
    assert_int_equal(p.first_msn[0], 0);
    assert_int_equal(p.target_duration_ms, 0);
    backlog_close(&w.backlog);
}

static void nothing__is_found_without_a_key_frame(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    memset(&w, 0, sizeof(w));
    w.channel.session_epoch = EPOCH;
    backlog_init(&w.backlog);
    position_find(&w.channel, &w.backlog, true, &p);
    assert_true(p.from_us == BACKLOG_NONE);
    backlog_close(&w.backlog);
}

static void a_new_worker__goes_on_in_the_open_segment(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    world_init(&w);
    has(&w, 0, EPOCH, 0, 3, 2);
    has(&w, 1, EPOCH, 0, 3, 1);
    position_find(&w.channel, &w.backlog, true, &p);
    assert_int_equal(p.from_us, 7000000);
    assert_true(p.first_msn[0] == 3 && p.first_msn[1] == 3);
    assert_true(p.next[0].msn == 3 && p.next[0].part == 2);
    assert_true(p.next[1].msn == 3 && p.next[1].part == 1);
    assert_true(p.rung && !p.discontinuity);
    assert_int_equal(p.target_duration_ms, 2000);
    backlog_close(&w.backlog);
}

static void a_rung_that_lags__is_fed_from_where_it_stands(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    world_init(&w);
    has(&w, 0, EPOCH, 10, 4, 1);
    has(&w, 1, EPOCH, 7, 3, 0); /* counts differently, and is a segment behind */
    position_find(&w.channel, &w.backlog, true, &p);
    assert_int_equal(p.from_us, 7000000);
    assert_true(p.first_msn[0] == 13 && p.first_msn[1] == 10);
    assert_true(p.next[0].msn == 14 && p.next[0].part == 1);
    assert_true(p.next[1].msn == 10 && p.next[1].part == 0);
    assert_int_equal(position_needed_us(&w.channel, true), 7000000);
    assert_int_equal(position_needed_us(&w.channel, false), 9000000);
    backlog_close(&w.backlog);
}

static void a_rung_whose_input_is_gone__is_given_up(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    world_init(&w);
    has(&w, 0, EPOCH, 0, 4, 1);
    has(&w, 1, EPOCH, 0, 1, 0);
    backlog_trim(&w.backlog, 9000000);
    position_find(&w.channel, &w.backlog, true, &p);
    assert_int_equal(p.from_us, 9000000);
    assert_false(p.rung);
    assert_true(p.next[0].msn == 4 && p.next[0].part == 1);
    backlog_close(&w.backlog);
}

static void missing_input__is_a_discontinuity_after_the_open_segment(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    world_init(&w);
    has(&w, 0, EPOCH, 0, 2, 3);
    backlog_trim(&w.backlog, 11000000);
    position_find(&w.channel, &w.backlog, false, &p);
    assert_int_equal(p.from_us, 11000000);
    assert_true(p.discontinuity);
    assert_true(p.first_msn[0] == 3 && p.next[0].msn == 3 && p.next[0].part == 0);
    backlog_close(&w.backlog);
}

static void a_new_session__goes_on_with_each_renditions_own_number(void **state)
{
    struct world w;
    struct position p;
    (void)state;
    world_init(&w);
    has(&w, 0, EPOCH - 1, 0, 5, 0);
    has(&w, 1, EPOCH - 1, 0, 4, 0);
    position_find(&w.channel, &w.backlog, true, &p);
    assert_int_equal(p.from_us, 1000000);
    assert_true(p.first_msn[0] == 5 && p.first_msn[1] == 4);
    assert_true(p.next[0].msn == 5 && p.next[1].msn == 4);
    assert_int_equal(p.target_duration_ms, 2000);
    assert_true(position_needed_us(&w.channel, true) == BACKLOG_NONE);
    backlog_close(&w.backlog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_broadcast__begins_at_the_first_key_frame),
        cmocka_unit_test(nothing__is_found_without_a_key_frame),
        cmocka_unit_test(a_new_worker__goes_on_in_the_open_segment),
        cmocka_unit_test(a_rung_that_lags__is_fed_from_where_it_stands),
        cmocka_unit_test(a_rung_whose_input_is_gone__is_given_up),
        cmocka_unit_test(missing_input__is_a_discontinuity_after_the_open_segment),
        cmocka_unit_test(a_new_session__goes_on_with_each_renditions_own_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
