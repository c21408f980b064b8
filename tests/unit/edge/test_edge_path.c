#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/edge/edge.h"

static struct edge_path parsed(const char *text)
{
    struct edge_path p;
    if (!edge_path_parse(text, &p)) {
        fail_msg("%s", text);
    }
    return p;
}

static void path__every_form_is_understood(void **state)
{
    (void)state;
    assert_int_equal(parsed("/hls/demo/master.m3u8").target, EDGE_MASTER);
    assert_int_equal(parsed("/hls/demo/thumb.jpg").target, EDGE_THUMB);
    struct edge_path p = parsed("/hls/demo_2/360p.m3u8");
    assert_int_equal(p.target, EDGE_PLAYLIST);
    assert_string_equal(p.channel, "demo_2");
    assert_string_equal(p.rendition, "360p");
    p = parsed("/hls/demo/vod/0123456789abcdef.m3u8");
    assert_int_equal(p.target, EDGE_VOD_MASTER);
    assert_true(p.broadcast == 0x0123456789abcdef);
    p = parsed("/hls/demo/vod/0123456789abcdef/source.m3u8");
    assert_int_equal(p.target, EDGE_VOD_PLAYLIST);
    assert_string_equal(p.rendition, "source");
    assert_int_equal(parsed("/hls/demo/0123456789abcdef/thumb.jpg").target, EDGE_VOD_THUMB);
    p = parsed("/hls/demo/0123456789abcdef/source/init-3.mp4");
    assert_int_equal(p.target, EDGE_INIT);
    assert_int_equal(p.msn, 3);
    p = parsed("/hls/demo/0123456789abcdef/source/seg-0.m4s");
    assert_int_equal(p.target, EDGE_SEGMENT);
    p = parsed("/hls/demo/0123456789abcdef/source/part-9007199254740991.255.m4s");
    assert_int_equal(p.target, EDGE_PART);
    assert_true(p.msn == 9007199254740991);
    assert_int_equal(p.part, 255);
}

static void path__anything_else_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "/",
        "/hls",
        "/hls/",
        "/hls/demo",
        "/hls/demo/",
        "/hls//master.m3u8",
        "/hls/d/master.m3u8",
        "/hls/DEMO/master.m3u8",
        "/hls/abcdefghijklmnopqrstuvwxyz/master.m3u8",
        "/hls/demo/.m3u8",
        "/hls/demo/a_b.m3u8",
        "/hls/demo/aaaaaaaaaaaaaaaaa.m3u8",
        "/hls/demo/source.m3u",
        "/hls/demo/vod/0123456789abcde.m3u8",
        "/hls/demo/vod/0123456789abcdef0.m3u8",
        "/hls/demo/vod/0123456789ABCDEF.m3u8",
        "/hls/demo/vod/0123456789abcdef/.m3u8",
        "/hls/demo/0123456789abcdef/source/seg-.m4s",
        "/hls/demo/0123456789abcdef/source/seg-01.m4s",
        "/hls/demo/0123456789abcdef/source/seg--1.m4s",
        "/hls/demo/0123456789abcdef/source/seg-9007199254740992.m4s",
        "/hls/demo/0123456789abcdef/source/seg-18446744073709551616.m4s",
        "/hls/demo/0123456789abcdef/source/part-1.m4s",
        "/hls/demo/0123456789abcdef/source/part-1.2.3.m4s",
        "/hls/demo/0123456789abcdef/source/part-1.10000.m4s",
        "/hls/demo/0123456789abcdef/source/init-0.m4s",
        "/hls/demo/0123456789abcdef/source/seg-1.m4s/x",
        "/hls/demo/0123456789abcdef/source/x/y/z",
        "/other/demo/master.m3u8",
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct edge_path p;
        if (edge_path_parse(bad[i], &p)) {
            fail_msg("%s", bad[i]);
        }
    }
}

static void reload__directives_are_checked(void **state)
{
    (void)state;
    struct edge_reload r;
    assert_null(edge_reload_parse(NULL, NULL, NULL, &r));
    assert_false(r.has_msn || r.has_part || r.skip);
    assert_null(edge_reload_parse("7", "2", "YES", &r));
    assert_true(r.has_msn && r.has_part && r.skip);
    assert_int_equal(r.msn, 7);
    assert_int_equal(r.part, 2);
    assert_null(edge_reload_parse("7", NULL, "v2", &r));
    assert_true(r.skip && !r.has_part);
    assert_null(edge_reload_parse("7", NULL, "NO", &r));
    assert_false(r.skip);
    assert_non_null(edge_reload_parse(NULL, "0", NULL, &r));
    assert_non_null(edge_reload_parse("", NULL, NULL, &r));
    assert_non_null(edge_reload_parse("-1", NULL, NULL, &r));
    assert_non_null(edge_reload_parse("1e3", NULL, NULL, &r));
    assert_non_null(edge_reload_parse("1", "x", NULL, &r));
    assert_non_null(edge_reload_parse("99999999999999999999", NULL, NULL, &r));
}

static void static_file__stays_inside_the_folder(void **state)
{
    (void)state;
    char name[200];
    static const char *const pages[] = {"/", "/demo", "/demo/vod/0123456789abcdef", "/a/b/c"};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(edge_static_file(pages[i], name, sizeof(name)));
        assert_string_equal(name, "index.html");
    }
    assert_true(edge_static_file("/assets/index-abc123.js", name, sizeof(name)));
    assert_string_equal(name, "assets/index-abc123.js");
    static const char *const bad[] = {
        "/../etc/passwd", "/a/../b.js", "/.git/config", "/a/.env",  "//etc/x.js", "/a%2e.js",
        "/api/nothing",   "/hls/x",     "/internal/x",  "/a\\b.js", "x"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (edge_static_file(bad[i], name, sizeof(name))) {
            fail_msg("%s", bad[i]);
        }
    }
    char small[8];
    assert_false(edge_static_file("/", small, sizeof(small)));
    assert_string_equal(edge_static_type("a.js"), "text/javascript; charset=utf-8");
    assert_string_equal(edge_static_type("index.html"), "text/html; charset=utf-8");
    assert_string_equal(edge_static_type("x"), "application/octet-stream");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path__every_form_is_understood),
        cmocka_unit_test(path__anything_else_is_refused),
        cmocka_unit_test(reload__directives_are_checked),
        cmocka_unit_test(static_file__stays_inside_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
