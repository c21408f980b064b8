#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../lifecycle/lifecycle_feed.h"
#include "base/crc32c.h"
#include "base/env_uv.h"
#include "base/metrics.h"
#include "nodes/role.h"

#define BROADCAST "0000000000000abc"
#define SECRET    "sesame-sesame-sesame"

static uv_loop_t loop;
static struct lifecycle_feed f;
static struct config config;
static struct node node;
static void *edge;
static char dir[64];

/* --- A node with nothing but the edge --- */

static void configure(void)
{
    char text[1024];
    (void)snprintf(text, sizeof(text),
                   "node.name = n1\nnode.data = %s\nnode.web = %s/web\ncluster.secret = " SECRET
                   "\nmedia.replicas = 1\nmedia.window_segments = 8\n"
                   "cluster.node = n1 id=1 peer=127.0.0.1:7101 broker=127.0.0.1:7201 "
                   "http=127.0.0.1:7301 rtmp=127.0.0.1:1935\n",
                   dir, dir);
    struct error err = {0};
    if (config_parse("test", text, &config, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void make_page(void)
{
    char command[512];
    (void)snprintf(command, sizeof(command),
                   "mkdir -p %s/web/assets && printf page > %s/web/index.html && "
                   "printf code > %s/web/assets/app-1.js",
                   dir, dir, dir);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    (void)state;
    struct error err;
    (void)snprintf(dir, sizeof(dir), "/tmp/weir-edge-XXXXXX");
    assert_non_null(mkdtemp(dir));
    make_page();
    configure();
    feed_open(&f);
    assert_int_equal(uv_loop_init(&loop), 0);
    node = (struct node){.config = &config, .self = config_self(&config), .views = f.views};
    assert_int_equal(env_uv_new(&loop, &node.env, &err), 0);
    char store_dir[80];
    (void)snprintf(store_dir, sizeof(store_dir), "%s/store", dir);
    struct store_options options = {.dir = store_dir, .cache_bytes_max = 1 << 20};
    assert_int_equal(store_open(node.env, &options, &node.store, &err), 0);
    assert_int_equal(http_client_new(node.env, &node.http_client, &err), 0);
    assert_int_equal(store_cluster_new(node.env, node.store, node.http_client, &config,
                                       &node.store_cluster, &err),
                     0);
    assert_int_equal(http_server_new(node.env, "127.0.0.1", 0, &node.http, &err), 0);
    assert_int_equal(role_edge.start(&node, &edge, &err), 0);
    return 0;
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

static void run_until(const bool *flag)
{
    while (!*flag) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void stop_edge(void)
{
    bool done = false;
    if (edge != NULL) {
        role_edge.stop(edge, set_flag, &done);
        run_until(&done);
        edge = NULL;
    }
}

static int teardown(void **state)
{
    (void)state;
    stop_edge();
    bool done = false;
    store_cluster_free(node.store_cluster);
    http_client_free(node.http_client);
    http_server_close(node.http, set_flag, &done);
    run_until(&done);
    done = false;
    store_close(node.store, set_flag, &done);
    run_until(&done);
    env_uv_free(node.env);
    assert_int_equal(uv_loop_close(&loop), 0);
    feed_close(&f);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* --- Requests --- */

struct reply {
    bool done;
    int status;
    char text[65536];
    size_t len;
    struct http_call *call;
};

static void replied(void *data, int status, struct http_body *body)
{
    struct reply *r = data;
    r->done = true;
    r->status = status;
    r->len = body != NULL ? body->len : 0;
    assert_true(r->len < sizeof(r->text));
    if (r->len > 0) {
        memcpy(r->text, body->data, r->len);
    }
    r->text[r->len] = 0;
}

static void request(struct reply *r, const char *method, const char *path, const char *headers,
                    const char *body)
{
    struct http_body *b = body != NULL ? http_body_copy(body, strlen(body)) : NULL;
    struct http_call_options options = {.method = method,
                                        .host = "127.0.0.1",
                                        .port = http_server_port(node.http),
                                        .path = path,
                                        .headers = headers,
                                        .body = b,
                                        .timeout_ms = 60000,
                                        .response_max = sizeof(r->text) - 1};
    r->done = false;
    struct error err;
    assert_int_equal(http_call(node.http_client, &options, replied, r, &r->call, &err), 0);
    http_body_unref(b);
}

static struct reply the_reply;

/* Path below /hls/demo/ when it does not begin with '/'. */
static const char *get(const char *path, int status)
{
    char full[256];
    (void)snprintf(full, sizeof(full), "%s%s", path[0] == '/' ? "" : "/hls/demo/", path);
    request(&the_reply, "GET", full, "", NULL);
    run_until(&the_reply.done);
    if (the_reply.status != status) {
        fail_msg("%s: %d %s", full, the_reply.status, the_reply.text);
    }
    return the_reply.text;
}

static bool has(const char *text, const char *needle)
{
    return strstr(text, needle) != NULL;
}

static void assert_has(const char *text, const char *needle)
{
    if (!has(text, needle)) {
        fail_msg("\"%s\" is not in\n%s", needle, text);
    }
}

/* Another request, sent later, has been answered: those before it have been seen. */
static void settle(void)
{
    static struct reply ping;
    request(&ping, "GET", "/api/channels/demo/broadcasts", "", NULL);
    run_until(&ping.done);
}

static void start_blocked(struct reply *r, const char *path)
{
    char full[256];
    (void)snprintf(full, sizeof(full), "/hls/demo/%s", path);
    request(r, "GET", full, "", NULL);
    settle();
    assert_false(r->done);
}

/* Stores and commits part bytes "<rendition>:<msn>.<part>;" */
static void commit_part(uint32_t rendition, uint64_t msn, uint32_t part, bool last)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%u:%" PRIu64 ".%u;", rendition, msn, part);
    Weir__PartCommitted m = feed_part_of(&f, rendition, msn, part);
    m.size = (uint32_t)strlen(text);
    m.position = part * strlen(text);
    m.crc32c = crc32c(0, text, strlen(text));
    m.last = last;
    struct http_body *body = http_body_copy(text, strlen(text));
    store_cache_keep(node.store, m.object, m.position, body);
    http_body_unref(body);
    assert_int_equal(feed_part_record(&f, &m), VERDICT_OK);
}

static void commit_segments(uint32_t rendition, uint64_t msn, unsigned n)
{
    for (unsigned i = 0; i < 4 * n; i++) {
        commit_part(rendition, msn + i / 4, i % 4, i % 4 == 3);
    }
}

/* --- Live --- */

static void master__only_after_a_whole_segment(void **state)
{
    (void)state;
    assert_has(get("master.m3u8", 404), "demo is not live");
    feed_live(&f);
    commit_part(0, 0, 0, false);
    assert_has(get("master.m3u8", 404), "no complete segment yet");
    assert_has(get("source.m3u8", 404), "no complete segment yet");
    for (unsigned i = 1; i < 4; i++) {
        commit_part(0, 0, i, i == 3);
    }
    const char *text = get("master.m3u8", 200);
    assert_has(text, "BANDWIDTH=3000000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720");
    assert_has(text, "\nsource.m3u8\n");
    assert_has(get("nothing.m3u8", 404), "no rendition nothing");
}

static void master__waits_for_the_other_rendition_but_not_for_ever(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_start(&f, 1, 0, false), VERDICT_OK);
    commit_segments(0, 0, 1);
    get("master.m3u8", 404);
    commit_segments(0, 1, 2);
    assert_false(has(get("master.m3u8", 200), "360p.m3u8"));
    commit_segments(1, 0, 1);
    assert_has(get("master.m3u8", 200), "360p.m3u8");
}

static void playlist__is_a_sliding_window_with_parts(void **state)
{
    (void)state;
    feed_live(&f);
    assert_int_equal(feed_start(&f, 1, 0, false), VERDICT_OK);
    commit_segments(0, 0, 12);
    commit_part(0, 12, 0, false);
    commit_segments(1, 0, 11);
    commit_part(1, 11, 0, false);
    const char *text = get("source.m3u8", 200);
    assert_has(text, "#EXT-X-MEDIA-SEQUENCE:4\n");
    assert_has(text, "#EXT-X-TARGETDURATION:2\n");
    assert_has(text, "CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.530000");
    assert_has(text, BROADCAST "/source/seg-11.m4s\n");
    assert_has(text, "URI=\"" BROADCAST "/source/part-12.0.m4s\",INDEPENDENT=YES");
    assert_has(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"" BROADCAST "/source/part-12.1.m4s\"");
    assert_has(text, "#EXT-X-RENDITION-REPORT:URI=\"360p.m3u8\",LAST-MSN=11,LAST-PART=0");
    assert_false(has(text, "ENDLIST"));
    assert_false(has(text, "seg-3.m4s"));
    text = get("source.m3u8?_HLS_skip=YES", 200);
    assert_has(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS=");
    assert_has(text, "seg-11.m4s");
}

static void blocking__answers_when_the_part_is_there(void **state)
{
    (void)state;
    static struct reply part, segment, later;
    feed_live(&f);
    commit_segments(0, 0, 3);
    start_blocked(&part, "source.m3u8?_HLS_msn=3&_HLS_part=0");
    start_blocked(&segment, "source.m3u8?_HLS_msn=3");
    start_blocked(&later, "source.m3u8?_HLS_msn=3&_HLS_part=1");
    commit_part(0, 3, 0, false);
    run_until(&part.done);
    assert_int_equal(part.status, 200);
    assert_has(part.text, "source/part-3.0.m4s\",INDEPENDENT");
    settle();
    assert_false(segment.done || later.done);
    commit_part(0, 3, 1, false);
    run_until(&later.done);
    assert_false(segment.done);
    commit_part(0, 3, 2, true);
    run_until(&segment.done);
    assert_has(segment.text, "seg-3.m4s");
    assert_has(get("source.m3u8?_HLS_msn=3&_HLS_part=1", 200), "seg-3.m4s");
}

static void blocking__a_part_past_the_last_is_the_next_segments_first(void **state)
{
    (void)state;
    static struct reply r;
    feed_live(&f);
    commit_segments(0, 0, 3);
    start_blocked(&r, "source.m3u8?_HLS_msn=2&_HLS_part=4");
    commit_part(0, 3, 0, false);
    run_until(&r.done);
    assert_int_equal(r.status, 200);
    assert_has(r.text, "part-3.0.m4s");
    get("source.m3u8?_HLS_msn=2&_HLS_part=3", 200);
    get("source.m3u8?_HLS_msn=1&_HLS_part=77", 200);
}

static void blocking__wrong_directives_get_400(void **state)
{
    (void)state;
    feed_live(&f);
    commit_segments(0, 0, 3); /* last is 2 */
    get("source.m3u8?_HLS_part=0", 400);
    get("source.m3u8?_HLS_msn=x", 400);
    get("source.m3u8?_HLS_msn=5", 400);
    get("source.m3u8?_HLS_msn=3&_HLS_part=6", 400);
    static struct reply r;
    start_blocked(&r, "source.m3u8?_HLS_msn=4");
    http_call_cancel(r.call);
    settle();
    start_blocked(&r, "source.m3u8?_HLS_msn=3&_HLS_part=5");
}

static void blocking__ends_with_the_broadcast(void **state)
{
    (void)state;
    static struct reply playlist, part;
    feed_live(&f);
    commit_segments(0, 0, 3);
    commit_part(0, 3, 0, false);
    start_blocked(&playlist, "source.m3u8?_HLS_msn=3&_HLS_part=1");
    start_blocked(&part, BROADCAST "/source/part-3.1.m4s");
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    run_until(&playlist.done);
    run_until(&part.done);
    assert_int_equal(playlist.status, 200);
    assert_has(playlist.text, "seg-3.m4s");
    assert_has(playlist.text, "#EXT-X-ENDLIST");
    assert_int_equal(part.status, 404);
    /* Never blocks after the end. */
    assert_has(get("source.m3u8?_HLS_msn=9&_HLS_part=1", 200), "#EXT-X-ENDLIST");
    assert_has(get("master.m3u8", 404), "not live");
}

static void blocking__another_session_goes_on_after_a_discontinuity(void **state)
{
    (void)state;
    static struct reply r;
    feed_live(&f);
    commit_segments(0, 0, 2);
    commit_part(0, 2, 0, false);
    start_blocked(&r, "source.m3u8?_HLS_msn=3&_HLS_part=0");
    assert_int_equal(feed_claim(&f, "n1", 0xdef), VERDICT_OK);
    assert_int_equal(feed_assign(&f, f.session, "n1"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 3, false), VERDICT_OK);
    settle();
    assert_false(r.done);
    commit_part(0, 3, 0, false);
    run_until(&r.done);
    assert_int_equal(r.status, 200);
    assert_has(r.text, "seg-2.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"" BROADCAST
                       "/source/init-1.mp4\"\n");
}

static void playlist__is_rendered_once_however_many_wait(void **state)
{
    (void)state;
    enum { VIEWERS = 40 };
    static struct reply r[VIEWERS];
    feed_live(&f);
    commit_segments(0, 0, 3);
    struct metric *renders = metric_counter("weir_edge_renders_total", "", "");
    for (unsigned i = 0; i < VIEWERS; i++) {
        start_blocked(&r[i], "source.m3u8?_HLS_msn=3&_HLS_part=0");
    }
    int64_t before = renders->value;
    commit_part(0, 3, 0, false);
    for (unsigned i = 0; i < VIEWERS; i++) {
        run_until(&r[i].done);
        assert_int_equal(r[i].status, 200);
    }
    assert_int_equal(renders->value, before + 1);
}

static void stop__answers_those_who_wait(void **state)
{
    (void)state;
    static struct reply r;
    feed_live(&f);
    commit_segments(0, 0, 3);
    start_blocked(&r, "source.m3u8?_HLS_msn=3&_HLS_part=0");
    stop_edge();
    run_until(&r.done);
    assert_int_equal(r.status, 503);
    get("source.m3u8", 503);
    get("/api/streams", 503);
    get("/", 503);
}

/* --- Media --- */

static void media__parts_and_segments_are_their_bytes(void **state)
{
    (void)state;
    feed_live(&f);
    commit_segments(0, 0, 2);
    commit_part(0, 2, 0, false);
    assert_string_equal(get(BROADCAST "/source/part-1.2.m4s", 200), "0:1.2;");
    assert_string_equal(get(BROADCAST "/source/part-2.0.m4s", 200), "0:2.0;");
    assert_string_equal(get(BROADCAST "/source/seg-1.m4s", 200), "0:1.0;0:1.1;0:1.2;0:1.3;");
    assert_string_equal(get(BROADCAST "/source/part-1.0.m4s", 200), "0:1.0;");
    get(BROADCAST "/source/seg-2.m4s", 404);
    get(BROADCAST "/source/seg-3.m4s", 404);
    get(BROADCAST "/source/part-1.4.m4s", 404);
    get(BROADCAST "/source/part-2.2.m4s", 404);
    get(BROADCAST "/other/seg-1.m4s", 404);
    get("0000000000000abd/source/seg-1.m4s", 404);
    get("/hls/other/" BROADCAST "/source/seg-1.m4s", 404);
}

static void media__a_segment_of_two_workers_is_joined(void **state)
{
    (void)state;
    feed_live(&f);
    commit_part(0, 0, 0, false);
    commit_part(0, 0, 1, false);
    assert_int_equal(feed_assign(&f, f.session, "n3"), VERDICT_OK);
    assert_int_equal(feed_start(&f, 0, 0, false), VERDICT_OK);
    commit_part(0, 0, 2, false);
    commit_part(0, 0, 3, true);
    assert_string_equal(get(BROADCAST "/source/seg-0.m4s", 200), "0:0.0;0:0.1;0:0.2;0:0.3;");
}

static void media__the_hinted_part_waits_until_it_exists(void **state)
{
    (void)state;
    static struct reply r, next;
    feed_live(&f);
    commit_segments(0, 0, 1);
    start_blocked(&r, BROADCAST "/source/part-1.0.m4s");
    commit_part(0, 1, 0, false);
    run_until(&r.done);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.text, "0:1.0;");
    /* A hint that does not come true. */
    start_blocked(&next, BROADCAST "/source/part-1.1.m4s");
    assert_int_equal(feed_start(&f, 0, 2, true), VERDICT_OK);
    commit_part(0, 2, 0, false);
    run_until(&next.done);
    assert_int_equal(next.status, 404);
}

static void media__bytes_that_nobody_has_are_503(void **state)
{
    (void)state;
    feed_live(&f);
    feed_segments(&f, 0, 0, 1); /* references without bytes */
    get(BROADCAST "/source/part-0.0.m4s", 503);
    get(BROADCAST "/source/seg-0.m4s", 503);
}

static void media__init_and_thumbnail_come_from_the_store(void **state)
{
    (void)state;
    char init[701];
    memset(init, 'i', 700);
    init[700] = 0;
    feed_live(&f);
    get("thumb.jpg", 404);
    struct http_body *body = http_body_copy(init, 700);
    store_cache_keep(node.store, BROADCAST "/init-0-0.mp4", 0, body);
    http_body_unref(body);
    assert_string_equal(get(BROADCAST "/source/init-0.mp4", 200), init);
    get(BROADCAST "/source/init-1.mp4", 404);
    assert_int_equal(feed_thumbnail(&f, BROADCAST "/t.jpg"), VERDICT_OK);
    char jpeg[5001];
    memset(jpeg, 'j', 5000);
    jpeg[5000] = 0;
    body = http_body_copy(jpeg, 5000);
    store_cache_keep(node.store, BROADCAST "/t.jpg", 0, body);
    http_body_unref(body);
    assert_string_equal(get("thumb.jpg", 200), jpeg);
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    get("thumb.jpg", 404);
    assert_string_equal(get(BROADCAST "/thumb.jpg", 200), jpeg);
    assert_string_equal(get(BROADCAST "/source/init-0.mp4", 200), init);
}

/* --- VOD --- */

static void vod__grows_while_live_and_is_complete_at_the_end(void **state)
{
    (void)state;
    feed_live(&f);
    get("vod/" BROADCAST ".m3u8", 404);
    commit_segments(0, 0, 10);
    commit_part(0, 10, 0, false);
    assert_has(get("vod/" BROADCAST ".m3u8", 200), "\n" BROADCAST "/source.m3u8\n");
    const char *text = get("vod/" BROADCAST "/source.m3u8", 200);
    assert_has(text, "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA-SEQUENCE:0\n");
    assert_has(text, "../../" BROADCAST "/source/seg-9.m4s");
    assert_false(has(text, "seg-10.m4s"));
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    text = get("vod/" BROADCAST "/source.m3u8", 200);
    assert_has(text, "#EXT-X-PLAYLIST-TYPE:VOD\n");
    assert_has(text, "../../" BROADCAST "/source/seg-0.m4s");
    assert_has(text, "../../" BROADCAST "/source/seg-10.m4s\n#EXT-X-ENDLIST\n");
    assert_has(get("vod/" BROADCAST ".m3u8", 200), "source.m3u8");
    assert_string_equal(get(BROADCAST "/source/seg-10.m4s", 200), "0:10.0;");
    get("vod/" BROADCAST "/other.m3u8", 404);
    get("vod/0000000000000001.m3u8", 404);
    get("vod/0000000000000001/source.m3u8", 404);
}

/* --- The API --- */

static void api__lists_live_channels_and_broadcasts(void **state)
{
    (void)state;
    assert_string_equal(get("/api/channels/demo/broadcasts", 200),
                        "{\"channel\":\"demo\",\"live\":false,\"broadcasts\":[]}");
    feed_live(&f);
    commit_segments(0, 0, 2);
    const char *text = get("/api/streams", 200);
    assert_has(text, "\"channel\":\"demo\"");
    assert_has(text, "\"broadcast\":\"" BROADCAST "\"");
    assert_has(text, "\"playlist\":\"/hls/demo/master.m3u8\"");
    assert_has(text, "\"name\":\"source\",\"width\":1280");
    text = get("/api/channels/demo/broadcasts", 200);
    assert_has(text,
               "\"live\":true,\"broadcasts\":[{\"broadcast\":\"" BROADCAST "\",\"live\":true");
    assert_int_equal(feed_end(&f, f.session), VERDICT_OK);
    text = get("/api/channels/demo/broadcasts", 200);
    assert_has(text, "\"playlist\":\"/hls/demo/vod/" BROADCAST ".m3u8\"");
    assert_has(text, "\"duration_ms\":4000");
    get("/api/channels/demo", 404);
    get("/api/channels/demo/other", 404);
    get("/api/channels/demo/broadcasts/x", 404);
    get("/api/channels/Demo/broadcasts", 404);
    get("/api/nothing", 404);
}

/* --- The store's face --- */

static void internal__needs_the_secret_and_a_good_name(void **state)
{
    (void)state;
    get("/internal/store/" BROADCAST "/x", 401);
    static struct reply r;
    static const char auth[] = "X-Weir-Secret: " SECRET "\r\n";
    request(&r, "PUT", "/internal/store/" BROADCAST "/x?position=0", auth, "hello ");
    run_until(&r.done);
    assert_int_equal(r.status, 204);
    request(&r, "PUT", "/internal/store/" BROADCAST "/x?position=6", auth, "world");
    run_until(&r.done);
    assert_int_equal(r.status, 204);
    request(&r, "GET", "/internal/store/" BROADCAST "/x?position=3&size=5", auth, NULL);
    run_until(&r.done);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.text, "lo wo");
    static const struct {
        const char *path;
        int status;
    } bad[] = {{BROADCAST "/x?position=3&size=50", 404},
               {BROADCAST "/x?position=-1", 400},
               {BROADCAST "/x?position=1&size=z", 400},
               {BROADCAST "/.x", 400},
               {"nothex/x", 400},
               {BROADCAST "/y", 404},
               {BROADCAST "/x?size=99999999999", 413}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "/internal/store/%s", bad[i].path);
        request(&r, "GET", path, auth, NULL);
        run_until(&r.done);
        assert_int_equal(r.status, bad[i].status);
    }
    request(&r, "PUT", "/internal/store/" BROADCAST "/x", auth, "");
    run_until(&r.done);
    assert_int_equal(r.status, 400);
}

/* --- The page --- */

static void page__every_address_of_it_gets_the_index(void **state)
{
    (void)state;
    assert_string_equal(get("/", 200), "page");
    assert_string_equal(get("/demo", 200), "page");
    assert_string_equal(get("/demo/vod/" BROADCAST, 200), "page");
    assert_string_equal(get("/assets/app-1.js", 200), "code");
    assert_string_equal(get("/assets/app-1.js", 200), "code");
    get("/assets/app-2.js", 404);
    get("/index.html/x.js", 404);
    get("/assets/.hidden.js", 404);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(master__only_after_a_whole_segment),
        TEST(master__waits_for_the_other_rendition_but_not_for_ever),
        TEST(playlist__is_a_sliding_window_with_parts),
        TEST(blocking__answers_when_the_part_is_there),
        TEST(blocking__a_part_past_the_last_is_the_next_segments_first),
        TEST(blocking__wrong_directives_get_400),
        TEST(blocking__ends_with_the_broadcast),
        TEST(blocking__another_session_goes_on_after_a_discontinuity),
        TEST(playlist__is_rendered_once_however_many_wait),
        TEST(stop__answers_those_who_wait),
        TEST(media__parts_and_segments_are_their_bytes),
        TEST(media__a_segment_of_two_workers_is_joined),
        TEST(media__the_hinted_part_waits_until_it_exists),
        TEST(media__bytes_that_nobody_has_are_503),
        TEST(media__init_and_thumbnail_come_from_the_store),
        TEST(vod__grows_while_live_and_is_complete_at_the_end),
        TEST(api__lists_live_channels_and_broadcasts),
        TEST(internal__needs_the_secret_and_a_good_name),
        TEST(page__every_address_of_it_gets_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
