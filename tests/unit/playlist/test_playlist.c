#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/playlist.h"

#define WALL_MS 1767323045678 /* 2026-01-02T03:04:05.678Z */

/* Twelve segments of 2 s in five parts of 0.4 s; the last one has three parts and is open. */
#define N_SEGMENTS 12
static struct playlist_part parts[5];
static struct playlist_segment segments[N_SEGMENTS];
static const struct playlist_report REPORTS[] = {{"360p.m3u8", 111, 1}};
static struct playlist_media live;

static int setup(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        parts[i] = (struct playlist_part){.duration_us = 400000, .independent = i == 0};
    }
    for (unsigned i = 0; i < N_SEGMENTS; i++) {
        segments[i] = (struct playlist_segment){.msn = 100 + i,
                                                .wall_ms = WALL_MS + 2000 * i,
                                                .duration_us = 2000000,
                                                .complete = true,
                                                .n_parts = 5,
                                                .parts = parts};
    }
    segments[N_SEGMENTS - 1].complete = false;
    segments[N_SEGMENTS - 1].n_parts = 3;
    segments[N_SEGMENTS - 1].duration_us = 1200000;
    live = (struct playlist_media){.kind = PLAYLIST_LIVE,
                                   .media_prefix = "00000000000000ab/source/",
                                   .target_duration_ms = 2000,
                                   .part_target_ms = 410,
                                   .segments = segments,
                                   .n_segments = N_SEGMENTS,
                                   .reports = REPORTS,
                                   .n_reports = 1};
    return 0;
}

static char *render(const struct playlist_media *p)
{
    struct bytes out;
    bytes_init(&out, 1 << 20);
    assert_int_equal(playlist_render_media(p, &out), 0);
    bytes_put_u8(&out, 0);
    assert_int_equal(bytes_error(&out), 0);
    return (char *)out.data;
}

/* WEIR_GOLDEN_WRITE=1 in the environment writes the files anew, to be looked at before they are
 * committed. */
static void assert_golden(const char *name, const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tests/golden/playlist/%s.m3u8", name);
    if (getenv("WEIR_GOLDEN_WRITE") != NULL) {
        FILE *w = fopen(path, "wb");
        assert_non_null(w);
        assert_int_equal(fwrite(text, 1, strlen(text), w), strlen(text));
        assert_int_equal(fclose(w), 0);
    }
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    static char golden[1 << 16];
    size_t n = fread(golden, 1, sizeof(golden) - 1, f);
    assert_int_equal(fclose(f), 0);
    golden[n] = 0;
    assert_string_equal(golden, text);
}

static void assert_media_golden(const char *name, const struct playlist_media *p)
{
    char *text = render(p);
    assert_golden(name, text);
    free(text);
}

static bool has(const struct playlist_media *p, const char *needle)
{
    char *text = render(p);
    bool found = strstr(text, needle) != NULL;
    free(text);
    return found;
}

static unsigned count(const struct playlist_media *p, const char *needle)
{
    char *text = render(p);
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, needle)) != NULL; at++) {
        n++;
    }
    free(text);
    return n;
}

static void master__lists_variants_with_their_attributes(void **state)
{
    (void)state;
    static const struct playlist_variant variants[] = {
        {"source.m3u8", "avc1.64001f,mp4a.40.2", 3200000, 1280, 720, 29970},
        {"360p.m3u8", "avc1.64001e,mp4a.40.2", 900000, 640, 360, 30000},
        {"audio.m3u8", "mp4a.40.2", 160000, 0, 0, 0},
    };
    struct bytes out;
    bytes_init(&out, 4096);
    assert_int_equal(playlist_render_master(variants, 3, &out), 0);
    bytes_put_u8(&out, 0);
    assert_golden("master", (const char *)out.data);
    bytes_close(&out);
}

static void live__has_parts_hint_and_reports_at_the_edge(void **state)
{
    (void)state;
    assert_media_golden("live", &live);
}

static void live__names_parts_only_within_three_targets_of_the_edge(void **state)
{
    (void)state;
    /* Open 3 parts (1.2 s), then 2 s each: segments that begin 1.2, 3.2 and 5.2 s before the edge.
     */
    assert_int_equal(count(&live, "#EXT-X-PART:"), 3 + 5 + 5);
}

static void live__names_all_parts_of_a_long_segment_that_grows(void **state)
{
    (void)state;
    static struct playlist_part many[20];
    for (unsigned i = 0; i < 20; i++) {
        many[i] = parts[i == 0 ? 0 : 1];
    }
    segments[N_SEGMENTS - 1].parts = many;
    segments[N_SEGMENTS - 1].n_parts = 20;
    segments[N_SEGMENTS - 1].duration_us = 8000000;
    assert_int_equal(count(&live, "#EXT-X-PART:"), 20);
}

static void live__hints_part_zero_after_a_complete_segment(void **state)
{
    (void)state;
    live.n_segments = N_SEGMENTS - 1;
    assert_true(has(&live, "TYPE=PART,URI=\"00000000000000ab/source/part-111.0.m4s\""));
}

static void live__delta_update_skips_what_lies_behind_six_targets(void **state)
{
    (void)state;
    live.skip = true;
    /* 1.2 s open, then 2 s each: seven segments reach past 12 s before the end. */
    assert_int_equal(playlist_skipped(&live), N_SEGMENTS - 7);
    assert_media_golden("live_delta", &live);
}

static void live__delta_update_of_a_short_playlist_is_the_full_one(void **state)
{
    (void)state;
    live.segments = segments + N_SEGMENTS - 4;
    live.n_segments = 4;
    char *full = render(&live);
    live.skip = true;
    char *delta = render(&live);
    assert_string_equal(full, delta);
    free(full);
    free(delta);
}

static void live__marks_a_discontinuity_with_map_and_time(void **state)
{
    (void)state;
    segments[8].discontinuity = true;
    for (unsigned i = 8; i < N_SEGMENTS; i++) {
        segments[i].init = 1;
    }
    live.discontinuity_sequence = 3;
    assert_media_golden("live_discontinuity", &live);
}

static void live__ended_has_an_end_and_no_hint(void **state)
{
    (void)state;
    segments[N_SEGMENTS - 1].complete = true;
    live.ended = true;
    assert_media_golden("live_ended", &live);
}

static void event__grows_without_parts(void **state)
{
    (void)state;
    live.kind = PLAYLIST_EVENT;
    live.n_segments = N_SEGMENTS - 1;
    assert_media_golden("event", &live);
}

static void vod__declares_its_longest_segment(void **state)
{
    (void)state;
    live.kind = PLAYLIST_VOD;
    live.n_segments = N_SEGMENTS - 1;
    segments[3].duration_us = 4400000;
    segments[4].duration_us = 4500000;
    assert_true(has(&live, "#EXT-X-TARGETDURATION:5\n"));
    assert_media_golden("vod", &live);
}

static void render__refuses_text_that_breaks_out_of_its_attribute(void **state)
{
    (void)state;
    struct bytes out;
    bytes_init(&out, 4096);
    static const struct playlist_variant bad[] = {{"a.m3u8", "x\"\n#EXT", 1, 0, 0, 0}};
    assert_int_equal(playlist_render_master(bad, 1, &out), WEIR_EINVAL);
    live.media_prefix = "a b/";
    assert_int_equal(playlist_render_media(&live, &out), WEIR_EINVAL);
    assert_int_equal(out.len, 0);
    bytes_close(&out);
}

static void render__refuses_segments_that_contradict(void **state)
{
    (void)state;
    struct bytes out;
    bytes_init(&out, 4096);
    segments[2].complete = false;
    assert_int_equal(playlist_render_media(&live, &out), WEIR_EINVAL);
    segments[2].complete = true;
    segments[2].msn++;
    assert_int_equal(playlist_render_media(&live, &out), WEIR_EINVAL);
    segments[2].msn--;
    segments[2].duration_us = 0;
    assert_int_equal(playlist_render_media(&live, &out), WEIR_EINVAL);
    bytes_close(&out);
}

static void render__reports_a_full_buffer(void **state)
{
    (void)state;
    struct bytes out;
    bytes_init(&out, 100);
    assert_int_equal(playlist_render_media(&live, &out), WEIR_ETOOBIG);
    bytes_close(&out);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(master__lists_variants_with_their_attributes),
        TEST(live__has_parts_hint_and_reports_at_the_edge),
        TEST(live__names_parts_only_within_three_targets_of_the_edge),
        TEST(live__names_all_parts_of_a_long_segment_that_grows),
        TEST(live__hints_part_zero_after_a_complete_segment),
        TEST(live__delta_update_skips_what_lies_behind_six_targets),
        TEST(live__delta_update_of_a_short_playlist_is_the_full_one),
        TEST(live__marks_a_discontinuity_with_map_and_time),
        TEST(live__ended_has_an_end_and_no_hint),
        TEST(event__grows_without_parts),
        TEST(vod__declares_its_longest_segment),
        TEST(render__refuses_text_that_breaks_out_of_its_attribute),
        TEST(render__refuses_segments_that_contradict),
        TEST(render__reports_a_full_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
