/* A node whose copies are not what they should be, among peers that answer well, badly or not at
 * all. Bytes follow from an object's name, so that anybody can say what is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <uv.h>

#include "base/crc32c.h"
#include "base/env_uv.h"
#include "nodes/copies/copies_priv.h"

#include "../lifecycle/lifecycle_feed.h"

#define N          3
#define PART_BYTES 1000u
#define PARTS      4u
#define SECRET     "sesame-sesame-sesame"

enum peer_mode { PEER_GOOD, PEER_FAILS, PEER_LIES, PEER_SHORT, PEER_SILENT, PEER_STOREROOM };
struct peer {
    struct http_server *server;
    enum peer_mode mode;
    unsigned n_gets, n_held;
};

static uv_loop_t loop;
static struct env *env;
static struct config config;
static struct node node;
static struct peer peers[N]; /* [0] serves the node under test itself */
static struct lifecycle_feed feed;
static struct copies *copies;
static char dir[64];

/* The linker puts this in front of env's: what the node does by itself it does at once, and those
 * who answer are never late, however slow the machine is. */
static bool starts, scrubs, notices_silence;
void __real_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb)
{
    bool look = copies != NULL && (timer == &copies->look.timer || timer == &copies->members.timer);
    bool scrub = copies != NULL && timer == &copies->scrub.timer;
    if (starts || look || scrub) {
        __real_env_timer_start(timer, delay_us < 1000 ? delay_us : 1000, cb);
    } else {
        __real_env_timer_start(timer, notices_silence ? delay_us : delay_us * 100, cb);
    }
}

static uint8_t byte_of(const char *object, uint64_t at)
{
    return (uint8_t)(crc32c(0, object, strlen(object)) + at * 7 + (at >> 8));
}

static struct http_body *bytes_of(const char *object, uint64_t position, uint64_t size)
{
    uint8_t *data = malloc(size);
    assert_non_null(data);
    for (uint64_t i = 0; i < size; i++) {
        data[i] = byte_of(object, position + i);
    }
    return http_body_new(data, size);
}

/* --- Peers --- */

static void ignore_abort(void *data, struct http_exchange *ex)
{
    (void)data;
    (void)ex;
}

static bool misbehaves(struct peer *p, struct http_exchange *ex)
{
    if (p->mode == PEER_SILENT) {
        p->n_held++;
        http_on_abort(ex, ignore_abort, NULL);
        return true;
    }
    if (p->mode == PEER_FAILS) {
        http_respond_text(ex, 500, "told to");
        return true;
    }
    return false;
}

/* Is it alive, and does it store? */
static void serve_probe(struct peer *p, struct http_exchange *ex)
{
    if (p->mode == PEER_STOREROOM) {
        http_respond_text(ex, 404, "no");
    } else if (!misbehaves(p, ex)) {
        http_respond_text(ex, 400, "bad object name");
    }
}

static void serve_get(void *data, struct http_exchange *ex)
{
    struct peer *p = data;
    const char *object = http_path(ex) + strlen("/internal/store/");
    assert_string_equal(http_header(ex, "X-Weir-Secret"), SECRET);
    if (*object == 0) {
        serve_probe(p, ex);
        return;
    }
    p->n_gets += strstr(object, ".m4s") != NULL;
    if (misbehaves(p, ex)) {
        return;
    }
    uint64_t position = strtoull(http_query(ex, "position"), NULL, 10);
    uint64_t size = strtoull(http_query(ex, "size"), NULL, 10);
    struct http_body *body = bytes_of(object, position, size);
    body->data[0] ^= p->mode == PEER_LIES;
    body->len -= p->mode == PEER_SHORT;
    http_respond(ex, 200, "application/octet-stream", "", body);
}

static void peer_open(struct peer *p)
{
    struct error err;
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &p->server, &err), 0);
    struct http_route route = {.method = "GET",
                               .path = "/internal/store/",
                               .prefix = true,
                               .handler = serve_get,
                               .data = p};
    if (p != &peers[0]) {
        assert_int_equal(http_server_route(p->server, &route), 0);
    }
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

static void run_until(const bool *done)
{
    while (!*done) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void peer_close(struct peer *p)
{
    bool closed = false;
    if (p->server != NULL) {
        http_server_close(p->server, set_flag, &closed);
        run_until(&closed);
    }
    p->server = NULL;
}

/* --- The node --- */

static void configure(void)
{
    char text[2048];
    int n = snprintf(text, sizeof(text),
                     "node.name = n1\nnode.data = %s\ncluster.secret = " SECRET "\n"
                     "media.replicas = 2\nmedia.repair_mib_s = 0\nmedia.lost_ms = 1000\n",
                     dir);
    for (unsigned i = 0; i < N; i++) {
        n +=
            snprintf(text + n, sizeof(text) - (size_t)n,
                     "cluster.node = n%u id=%u peer=127.0.0.1:%u broker=127.0.0.1:%u "
                     "http=127.0.0.1:%u rtmp=127.0.0.1:%u\n",
                     i + 1, i + 1, 7101 + i, 7201 + i, http_server_port(peers[i].server), 1935 + i);
    }
    struct error err = {0};
    if (config_parse("test", text, &config, &err) != 0) {
        fail_msg("%s", err.text);
    }
    /* In this test silence is what a test says. */
    config.media_lost_ms = 3600000;
}

static void open_store(uint64_t free_bytes_min)
{
    struct store_options options = {
        .dir = dir, .cache_bytes_max = 1 << 20, .free_bytes_min = free_bytes_min};
    struct error err;
    assert_int_equal(store_open(env, &options, &node.store, &err), 0);
    assert_int_equal(
        store_cluster_new(env, node.store, node.http_client, &config, &node.store_cluster, &err),
        0);
}

static void close_store(void)
{
    bool closed = false;
    store_cluster_free(node.store_cluster);
    store_close(node.store, set_flag, &closed);
    run_until(&closed);
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/weir-copies-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(uv_loop_init(&loop), 0);
    struct error err;
    assert_int_equal(env_uv_new(&loop, &env, &err), 0);
    starts = scrubs = notices_silence = false;
    memset(peers, 0, sizeof(peers));
    for (unsigned i = 0; i < N; i++) {
        peer_open(&peers[i]);
    }
    configure();
    feed_open(&feed);
    feed_live(&feed);
    node = (struct node){.config = &config,
                         .directory = &config,
                         .self = config_self(&config),
                         .env = env,
                         .views = feed.views,
                         .http = peers[0].server};
    assert_int_equal(http_client_new(env, &node.http_client, &err), 0);
    open_store(0);
    return 0;
}

static void start(void)
{
    struct error err;
    config.media_scrub_mib_s = scrubs ? 4096 : 0;
    starts = true;
    assert_int_equal(copies_start(&node, &copies, &err), 0);
    starts = false;
}

static void stop(void)
{
    bool stopped = false;
    if (copies != NULL) {
        http_server_drain(peers[0].server);
        copies_stop(copies, set_flag, &stopped);
        run_until(&stopped);
    }
    copies = NULL;
}

static int teardown(void **state)
{
    (void)state;
    stop();
    close_store();
    http_client_free(node.http_client);
    for (unsigned i = 0; i < N; i++) {
        peer_close(&peers[i]);
    }
    feed_close(&feed);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* --- What is in the log, and on the disk --- */

/* A whole segment whose parts two nodes hold. */
static void commit(uint64_t msn, const char *a, const char *b)
{
    char names[2][8];
    char *nodes[] = {names[0], names[1]};
    (void)snprintf(names[0], sizeof(names[0]), "%s", a);
    (void)snprintf(names[1], sizeof(names[1]), "%s", b);
    for (uint32_t i = 0; i < PARTS; i++) {
        Weir__PartCommitted m = feed_part_of(&feed, 0, msn, i);
        struct http_body *bytes = bytes_of(m.object, m.position, m.size);
        m.crc32c = crc32c(0, bytes->data, bytes->len);
        m.nodes = nodes;
        m.last = i == PARTS - 1;
        http_body_unref(bytes);
        assert_int_equal(feed_part_record(&feed, &m), VERDICT_OK);
    }
}

static const char *object_of(uint64_t msn)
{
    static char name[96];
    (void)snprintf(name, sizeof(name), "%s", feed_part_of(&feed, 0, msn, 0).object);
    return name;
}

static const char *path_of(uint64_t msn, const char *end)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/%.2s/%s%s", dir, object_of(msn), object_of(msn), end);
    return path;
}

static void put_done(void *data, int status)
{
    assert_int_equal(status, 0);
    *(bool *)data = true;
}

/* Parts [first, end) on this node's disk. */
static void put(uint64_t msn, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        bool done = false;
        struct http_body *bytes = bytes_of(object_of(msn), i * PART_BYTES, PART_BYTES);
        assert_int_equal(
            store_put(node.store, object_of(msn), i * PART_BYTES, bytes, put_done, &done, NULL), 0);
        http_body_unref(bytes);
        run_until(&done);
    }
}

/* The node's own, with bytes as they should be. */
static bool is_whole(uint64_t msn)
{
    FILE *f = fopen(path_of(msn, ""), "re");
    bool good = f != NULL;
    for (unsigned i = 0; good && i < PARTS * PART_BYTES; i++) {
        good = fgetc(f) == byte_of(object_of(msn), i);
    }
    if (f != NULL) {
        assert_int_equal(fclose(f), 0);
    }
    return good && access(path_of(msn, "~"), F_OK) != 0;
}

static bool is_there(uint64_t msn)
{
    return access(path_of(msn, ""), F_OK) == 0;
}

static void run_looks(unsigned n)
{
    int64_t end = metric_value(copies->looks) + n;
    while (metric_value(copies->looks) < end) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void run_scrubs(unsigned n)
{
    int64_t end = metric_value(copies->scrubs) + n;
    while (metric_value(copies->scrubs) < end) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* --- The look --- */

static void look__makes_what_is_to_be_here_and_nothing_else(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n2", "n3");
    commit(2, "n1", "n3");
    put(2, 0, PARTS);
    start();
    run_looks(2);
    assert_true(is_whole(0));
    assert_false(is_there(1));
    assert_true(is_whole(2));
    /* Who is said to hold it was asked. */
    assert_int_equal(peers[1].n_gets, PARTS);
    assert_int_equal(peers[2].n_gets, 0);
    assert_int_equal(copies->n_missing, 0);
}

static void look__of_what_is_whole_reads_nothing(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    start();
    run_looks(2);
    unsigned n_gets = peers[1].n_gets;
    int64_t read = metric_value(copies->scrubbed_bytes);
    run_looks(3);
    assert_int_equal(peers[1].n_gets + peers[2].n_gets, n_gets);
    assert_int_equal(metric_value(copies->scrubbed_bytes), read);
}

static void look__goes_on_behind_a_copy_that_ends_early(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 0, 2);
    start();
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(peers[1].n_gets, PARTS - 2);
}

static void look__fills_a_hole_that_the_size_does_not_show(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 2, PARTS); /* the disk was lost while the segment grew */
    start();
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(peers[1].n_gets, 2);
}

static void look__believes_nobody_whose_bytes_fail_their_crc(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = PEER_LIES;
    peers[2].mode = PEER_SHORT;
    start();
    run_looks(2);
    assert_false(is_whole(0));
    assert_true(copies->n_missing > 0);
    peers[2].mode = PEER_GOOD; /* one that the log does not name has it, too */
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(copies->n_missing, 0);
}

static void look__waits_for_peers_that_fail(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = peers[2].mode = PEER_FAILS;
    start();
    run_looks(2);
    assert_false(is_there(0));
    assert_int_equal(copies->n_missing, 2);
    peers[1].mode = PEER_GOOD;
    run_looks(2);
    assert_true(is_whole(0));
}

static void look__outlives_a_peer_that_goes_in_the_middle(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = PEER_SILENT;
    start();
    while (peers[1].n_held == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    peer_close(&peers[1]);
    run_looks(2);
    assert_true(is_whole(0));
    assert_true(peers[2].n_gets >= PARTS);
}

static void look__without_space_says_so_and_takes_nothing(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    close_store();
    open_store(UINT64_MAX / 2);
    start();
    run_looks(2);
    assert_false(is_whole(0));
    assert_true(copies->n_missing > 0);
    stop();
    close_store();
    open_store(0);
    node.http = peers[2].server; /* the first one is drained */
    start();
    run_looks(2);
    assert_true(is_whole(0));
}

static void look__goes_on_when_one_object_can_not_be_written(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n1", "n2");
    put(0, 0, 1);
    assert_int_equal(unlink(path_of(0, "")), 0);
    assert_int_equal(mkdir(path_of(0, ""), 0700), 0);
    assert_int_equal(mkdir(path_of(0, "~"), 0700), 0);
    stop();
    close_store(); /* which has the file open */
    open_store(0);
    start();
    run_looks(2);
    assert_true(is_whole(1));
    assert_int_equal(copies->n_missing, 1);
}

static void look__of_a_segment_that_grows_leaves_it_in_doubt(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    char n1[] = "n1", n2[] = "n2";
    char *nodes[] = {n1, n2};
    Weir__PartCommitted m = feed_part_of(&feed, 0, 1, 0);
    struct http_body *bytes = bytes_of(m.object, 0, m.size);
    m.crc32c = crc32c(0, bytes->data, bytes->len);
    m.nodes = nodes;
    http_body_unref(bytes);
    assert_int_equal(feed_part_record(&feed, &m), VERDICT_OK);
    put(1, 3, 4); /* a part that the log does not know yet */
    start();
    run_looks(2);
    assert_int_equal(copies->n_missing, 0);
    assert_int_equal(access(path_of(1, "~"), F_OK), 0);
    assert_true(is_whole(0));
}

/* --- What it says --- */

static void answered(void *data, int status, struct http_body *body)
{
    json_t **ret = data;
    assert_int_equal(status, 200);
    *ret = json_loadb((const char *)body->data, body->len, 0, NULL);
    assert_non_null(*ret);
}

static json_t *ask(const char *path)
{
    json_t *said = NULL;
    const struct http_call_options options = {.method = "GET",
                                              .host = "127.0.0.1",
                                              .port = http_server_port(peers[0].server),
                                              .path = path,
                                              .headers = "X-Weir-Secret: " SECRET "\r\n",
                                              .timeout_ms = 10000,
                                              .response_max = 4096};
    struct http_call *call = NULL;
    assert_int_equal(http_call(node.http_client, &options, answered, &said, &call, NULL), 0);
    while (said == NULL) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    return said;
}

/* --- Who is to hold what --- */

static void members__others_stand_in_for_one_that_is_drained(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    start();
    run_looks(2);
    assert_false(is_there(0));
    config.nodes[1].standing = CONFIG_NODE_DRAINING;
    run_looks(3);
    assert_true(is_whole(0));
}

static void members__others_stand_in_for_one_that_is_silent(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    peers[1].mode = PEER_SILENT;
    config.media_lost_ms = 200;
    notices_silence = true;
    start();
    while (!is_whole(0)) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void members__others_stand_in_for_one_that_can_not_store(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    peers[1].mode = PEER_STOREROOM;
    start();
    while (!is_whole(0)) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(__builtin_popcount(copies->members.able), 2);
}

static void members__a_change_that_is_seen_when_somebody_asks_is_looked_into(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    start();
    run_looks(2);
    env_timer_stop(&copies->members.timer);
    env_timer_stop(&copies->look.timer); /* as if it rested for long */
    config.nodes[1].standing = CONFIG_NODE_GONE;
    json_decref(ask("/internal/copies"));
    run_looks(1);
    while (!is_whole(0)) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void told__who_waits_for_what_was_not_looked_at_yet_has_it_looked_at(void **state)
{
    (void)state;
    start();
    run_looks(2);
    env_timer_stop(&copies->look.timer); /* as if it rested for long */
    commit(0, "n1", "n2");
    char path[64];
    (void)snprintf(path, sizeof(path), "/internal/copies?offset=%lld", (long long)feed.next);
    json_decref(ask(path));
    run_looks(1);
    assert_true(is_whole(0));
}

static void pace__adds_up_to_what_was_asked_for(void **state)
{
    (void)state;
    uint64_t free_ns = 0, begun_ns = env_now_ns(env);
    start();
    assert_int_equal(copies_pace_us(copies, &free_ns, 0, 1 << 30), 0);
    assert_int_equal(copies_pace_us(copies, &free_ns, 4, 1 << 20), 0);
    for (unsigned i = 0; i < 400; i++) {
        (void)copies_pace_us(copies, &free_ns, 4, 1 << 20);
    }
    assert_true(free_ns - begun_ns >= 100000000000u);
    assert_true(copies_pace_us(copies, &free_ns, 4, 1) > 0);
}

/* --- The scrub --- */

static void flip(uint64_t msn, long at)
{
    FILE *f = fopen(path_of(msn, ""), "r+e");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte_of(object_of(msn), (uint64_t)at) ^ 16, f),
                     byte_of(object_of(msn), (uint64_t)at) ^ 16);
    assert_int_equal(fclose(f), 0);
}

static void scrub__finds_a_bit_that_flipped_and_takes_a_good_copy(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n1", "n2");
    put(0, 0, PARTS);
    put(1, 0, PARTS);
    flip(1, 2500);
    scrubs = true;
    start();
    int64_t bad = metric_value(copies->bad);
    run_scrubs(3);
    assert_true(is_whole(0));
    assert_true(is_whole(1));
    assert_int_equal(metric_value(copies->bad), bad + 1);
    assert_int_equal(peers[1].n_gets, 1); /* that part */
}

static void scrub__keeps_a_bad_copy_in_doubt_while_nobody_has_a_good_one(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 0, PARTS);
    flip(0, 10);
    peers[1].mode = peers[2].mode = PEER_LIES;
    scrubs = true;
    start();
    run_scrubs(2);
    assert_true(is_there(0));
    assert_int_equal(access(path_of(0, "~"), F_OK), 0);
    peers[2].mode = PEER_GOOD;
    run_looks(2);
    assert_true(is_whole(0));
}

static void scrub__removes_what_others_hold_when_all_of_them_have_shown_it(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    put(0, 0, PARTS);
    peers[2].mode = PEER_LIES;
    scrubs = true;
    start();
    run_scrubs(2);
    assert_true(is_there(0));
    copies->members.since_ns -= 2 * config.media_lost_ms * 1000000ull; /* it has long been so */
    run_scrubs(2);
    assert_true(is_there(0)); /* one of the two does not have it */
    peers[2].mode = PEER_GOOD;
    run_scrubs(2);
    assert_false(is_there(0));
}

static void scrub__leaves_what_the_log_does_not_name(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    put(1, 0, PARTS); /* no record says so: perhaps not yet */
    scrubs = true;
    start();
    run_scrubs(2);
    assert_true(is_there(1));
    assert_int_equal(peers[1].n_gets + peers[2].n_gets, 0);
}

/* --- What is told, and the end --- */

static void told__is_whether_all_is_whole_as_of_which_members(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = peers[2].mode = PEER_FAILS;
    start();
    run_looks(2);
    json_t *said = ask("/internal/copies");
    assert_false(json_is_true(json_object_get(said, "whole")));
    assert_int_equal(json_integer_value(json_object_get(said, "missing")), 2);
    json_decref(said);
    peers[1].mode = peers[2].mode = PEER_GOOD;
    run_looks(2);
    said = ask("/internal/copies");
    assert_true(json_is_true(json_object_get(said, "whole")));
    assert_int_equal(json_array_size(json_object_get(said, "members")), 3);
    assert_int_equal(json_integer_value(json_object_get(said, "offset")), feed.next);
    json_decref(said);
    config.nodes[2].standing = CONFIG_NODE_GONE;
    said = ask("/internal/copies"); /* at once: what was whole for three may not be for two */
    assert_int_equal(json_array_size(json_object_get(said, "members")), 2);
    json_decref(said);
}

static void stop__waits_for_nobody(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n1", "n2");
    peers[1].mode = peers[2].mode = PEER_SILENT;
    start();
    while (peers[1].n_held == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    stop();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(look__makes_what_is_to_be_here_and_nothing_else),
        TEST(look__of_what_is_whole_reads_nothing),
        TEST(look__goes_on_behind_a_copy_that_ends_early),
        TEST(look__fills_a_hole_that_the_size_does_not_show),
        TEST(look__believes_nobody_whose_bytes_fail_their_crc),
        TEST(look__waits_for_peers_that_fail),
        TEST(look__outlives_a_peer_that_goes_in_the_middle),
        TEST(look__without_space_says_so_and_takes_nothing),
        TEST(look__goes_on_when_one_object_can_not_be_written),
        TEST(look__of_a_segment_that_grows_leaves_it_in_doubt),
        TEST(members__others_stand_in_for_one_that_is_drained),
        TEST(members__others_stand_in_for_one_that_is_silent),
        TEST(members__others_stand_in_for_one_that_can_not_store),
        TEST(members__a_change_that_is_seen_when_somebody_asks_is_looked_into),
        TEST(pace__adds_up_to_what_was_asked_for),
        TEST(scrub__finds_a_bit_that_flipped_and_takes_a_good_copy),
        TEST(scrub__keeps_a_bad_copy_in_doubt_while_nobody_has_a_good_one),
        TEST(scrub__removes_what_others_hold_when_all_of_them_have_shown_it),
        TEST(scrub__leaves_what_the_log_does_not_name),
        TEST(told__is_whether_all_is_whole_as_of_which_members),
        TEST(told__who_waits_for_what_was_not_looked_at_yet_has_it_looked_at),
        TEST(stop__waits_for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
