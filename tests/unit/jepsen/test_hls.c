/* What the workloads' viewers read out of playlists and parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "jepsen/workloads/hls.h"

#define FOLDER "tests/golden/playlist/"

static char text[1u << 16];
static struct hls_playlist p;

static size_t load(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), FOLDER "%s", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    (void)fclose(f);
    text[n] = '\0';
    return n;
}

static void playlist__of_a_live_channel_is_read(void **state)
{
    (void)state;
    assert_null(hls_parse(text, load("live.m3u8"), &p));
    assert_string_equal(p.broadcast, "00000000000000ab");
    assert_int_equal(p.first, 100);
    assert_int_equal(p.target_ms, 2000);
    assert_int_equal(p.hold_back_ms, 1230);
    assert_false(p.ended);
    assert_true(p.hinted);
    assert_true(p.n_segments > 10);
    assert_int_equal(p.parts[0].msn, 109);
    assert_int_equal(p.parts[0].part, 0);
    assert_int_equal(p.parts[0].duration_ms, 400);
    assert_int_equal(p.parts[6].msn, 110);
    assert_int_equal(p.parts[6].part, 1);
}

static void playlist__of_an_ended_broadcast_says_so(void **state)
{
    (void)state;
    assert_null(hls_parse(text, load("vod.m3u8"), &p));
    assert_true(p.ended);
    assert_true(p.n_segments > 0);
}

static void playlist__with_a_segment_in_anothers_place_is_wrong(void **state)
{
    (void)state;
    size_t n = load("live.m3u8");
    char *at = strstr(text, "seg-103");
    assert_non_null(at);
    memcpy(at, "seg-104", 7);
    assert_non_null(hls_parse(text, n, &p));
    assert_non_null(hls_parse("hello", 5, &p));
    assert_non_null(hls_parse("", 0, &p));
    assert_non_null(hls_parse("#EXTM3U\n", 8, &p));
}

static void hash__leaves_out_what_is_told_of_other_renditions(void **state)
{
    static const char a[] = "#EXTM3U\n#EXT-X-RENDITION-REPORT:URI=\"x\",LAST-MSN=1\nend";
    static const char b[] = "#EXTM3U\n#EXT-X-RENDITION-REPORT:URI=\"x\",LAST-MSN=22\nend";
    static const char c[] = "#EXTM3U\nend.";
    (void)state;
    assert_int_equal(hls_hash(a, sizeof(a) - 1), hls_hash(b, sizeof(b) - 1));
    assert_int_not_equal(hls_hash(a, sizeof(a) - 1), hls_hash(c, sizeof(c) - 1));
}

static void sessions__are_found_by_their_marks(void **state)
{
    static const char bytes[] = "xx" HLS_MARK_BYTES "session=12" HLS_MARK_BYTES
                                "session=12\x80yy" HLS_MARK_BYTES "session=3" HLS_MARK_BYTES "ses";
    unsigned sessions[HLS_MARKS_MAX];
    (void)state;
    assert_int_equal(hls_sessions(bytes, sizeof(bytes) - 1, sessions), 2);
    assert_int_equal(sessions[0], 12);
    assert_int_equal(sessions[1], 3);
    assert_int_equal(hls_sessions(bytes, 0, sessions), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(playlist__of_a_live_channel_is_read),
        cmocka_unit_test(playlist__of_an_ended_broadcast_says_so),
        cmocka_unit_test(playlist__with_a_segment_in_anothers_place_is_wrong),
        cmocka_unit_test(hash__leaves_out_what_is_told_of_other_renditions),
        cmocka_unit_test(sessions__are_found_by_their_marks),
    };
    return cmocka_run_group_tests_name("jepsen_hls", tests, NULL, NULL);
}
