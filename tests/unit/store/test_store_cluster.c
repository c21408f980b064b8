#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <uv.h>

#include "base/config.h"
#include "base/crc32c.h"
#include "base/env_uv.h"
#include "media/store.h"

#define OBJECT "00000000000000ab/source-7.m4s"
#define N      3

/* A peer's HTTP face, as nodes/edge serves it, that can be told to misbehave. */
enum peer_mode { PEER_GOOD, PEER_FAILS, PEER_SILENT, PEER_LIES, PEER_FULL };
struct peer {
    struct http_server *server;
    enum peer_mode mode;
    unsigned n_puts, n_gets;
    struct bytes bytes; /* what the object holds */
    unsigned n_held;
};

static uv_loop_t loop;
static struct env *env;
static struct http_client *client;
static struct store *store;
static struct store_cluster *cluster;
static struct config config;
static struct peer peers[N]; /* [0] is the node under test: its server is not used */
static char dir[64];

/* The linker puts this in front of env's: nodes that answer are never late here, however slow the
 * machine is, and who is silent is noticed in the one test that is about it. */
static bool notices_silence;
void __real_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb)
{
    bool hedge = notices_silence && delay_us < 1000000;
    __real_env_timer_start(timer, hedge ? delay_us : delay_us * 100, cb);
}

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
    if (p->mode == PEER_FAILS || p->mode == PEER_FULL) {
        http_respond_text(ex, p->mode == PEER_FULL ? 507 : 500, "told to");
        return true;
    }
    return false;
}

static void serve_put(void *data, struct http_exchange *ex)
{
    struct peer *p = data;
    p->n_puts++;
    assert_string_equal(http_header(ex, "X-Weir-Secret"), "sesame-sesame-sesame");
    if (misbehaves(p, ex)) {
        return;
    }
    assert_string_equal(http_path(ex), "/internal/store/" OBJECT);
    size_t n = 0;
    const uint8_t *body = http_request_body(ex, &n);
    p->bytes.len = (size_t)strtoull(http_query(ex, "position"), NULL, 10);
    bytes_put(&p->bytes, body, n);
    http_respond(ex, 204, "text/plain", "", NULL);
}

static void serve_get(void *data, struct http_exchange *ex)
{
    struct peer *p = data;
    p->n_gets++;
    if (misbehaves(p, ex)) {
        return;
    }
    size_t position = (size_t)strtoull(http_query(ex, "position"), NULL, 10);
    size_t size = (size_t)strtoull(http_query(ex, "size"), NULL, 10);
    if (position + size > p->bytes.len) {
        http_respond_text(ex, 404, "no");
        return;
    }
    struct http_body *body = http_body_copy(p->bytes.data + position, size);
    if (p->mode == PEER_LIES) {
        body->data[0] ^= 1;
    }
    http_respond(ex, 200, "application/octet-stream", "", body);
}

static void peer_open(struct peer *p)
{
    struct error err;
    bytes_init(&p->bytes, 1 << 20);
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &p->server, &err), 0);
    struct http_route routes[] = {{.method = "PUT",
                                   .path = "/internal/store/",
                                   .prefix = true,
                                   .body_max = 1 << 20,
                                   .handler = serve_put,
                                   .data = p},
                                  {.method = "GET",
                                   .path = "/internal/store/",
                                   .prefix = true,
                                   .handler = serve_get,
                                   .data = p}};
    assert_int_equal(http_server_route(p->server, &routes[0]), 0);
    assert_int_equal(http_server_route(p->server, &routes[1]), 0);
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

static void peer_close(struct peer *p)
{
    bool closed = false;
    http_server_close(p->server, set_flag, &closed);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    bytes_close(&p->bytes);
    p->server = NULL;
}

static void configure(void)
{
    char text[2048];
    int n = snprintf(text, sizeof(text),
                     "node.name = n1\nnode.data = %s\ncluster.secret = sesame-sesame-sesame\n"
                     "media.replicas = 2\n",
                     dir);
    for (unsigned i = 0; i < N; i++) {
        n +=
            snprintf(text + n, sizeof(text) - (size_t)n,
                     "cluster.node = n%u id=%u peer=127.0.0.1:%u broker=127.0.0.1:%u "
                     "http=127.0.0.1:%u rtmp=127.0.0.1:%u\n",
                     i + 1, i + 1, 7101 + i, 7201 + i, http_server_port(peers[i].server), 1935 + i);
    }
    struct error err = {0};
    int rc = config_parse("test", text, &config, &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/weir-cluster-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(uv_loop_init(&loop), 0);
    struct error err;
    assert_int_equal(env_uv_new(&loop, &env, &err), 0);
    struct store_options options = {.dir = dir, .cache_bytes_max = 1 << 20};
    assert_int_equal(store_open(env, &options, &store, &err), 0);
    notices_silence = false;
    memset(peers, 0, sizeof(peers));
    for (unsigned i = 0; i < N; i++) {
        peer_open(&peers[i]);
    }
    configure();
    assert_int_equal(http_client_new(env, &client, &err), 0);
    assert_int_equal(store_cluster_new(env, store, client, &config, &cluster, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_cluster_free(cluster);
    http_client_free(client);
    for (unsigned i = 0; i < N; i++) {
        peer_close(&peers[i]);
    }
    bool closed = false;
    store_close(store, set_flag, &closed);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

struct result {
    bool done;
    int status;
    unsigned n;
    char nodes[STORE_NODES_MAX][64];
    char text[64];
};

static void replicated(void *data, int status, const char *const *nodes, unsigned n)
{
    struct result *r = data;
    assert_false(r->done);
    r->done = true;
    r->status = status;
    r->n = n;
    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(r->nodes[i], sizeof(r->nodes[i]), "%s", nodes[i]);
    }
}

static void fetched(void *data, int status, struct http_body *body)
{
    struct result *r = data;
    assert_false(r->done);
    r->done = true;
    r->status = status;
    if (body != NULL) {
        (void)snprintf(r->text, sizeof(r->text), "%.*s", (int)body->len, (char *)body->data);
    }
}

static void wait_for(const struct result *r)
{
    while (!r->done) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void replicate(uint64_t position, const char *text, struct result *r)
{
    *r = (struct result){0};
    struct http_body *body = http_body_copy(text, strlen(text));
    struct error err;
    assert_int_equal(store_replicate(cluster, OBJECT, position, body, replicated, r, &err), 0);
    http_body_unref(body);
    assert_false(r->done);
    wait_for(r);
}

static bool names(const struct result *r, const char *node)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (strcmp(r->nodes[i], node) == 0) {
            return true;
        }
    }
    return false;
}

static int fetch_start(uint64_t position, const char *expected, const char *node, struct result *r)
{
    *r = (struct result){0};
    const char *const nodes[] = {node};
    struct store_range range = {.object = OBJECT,
                                .position = position,
                                .size = strlen(expected),
                                .has_crc = true,
                                .crc32c = crc32c(0, expected, strlen(expected)),
                                .nodes = nodes,
                                .n_nodes = 1};
    return store_fetch(cluster, &range, fetched, r, NULL);
}

static void assert_fetch(uint64_t position, const char *expected, const char *node)
{
    struct result r;
    assert_int_equal(fetch_start(position, expected, node, &r), 0);
    assert_false(r.done);
    wait_for(&r);
    assert_int_equal(r.status, 0);
    assert_string_equal(r.text, expected);
}

static void close_store(void)
{
    bool closed = false;
    store_cluster_free(cluster);
    store_close(store, set_flag, &closed);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void open_store(uint64_t free_bytes_min)
{
    struct store_options options = {
        .dir = dir, .cache_bytes_max = 1 << 20, .free_bytes_min = free_bytes_min};
    struct error err;
    assert_int_equal(store_open(env, &options, &store, &err), 0);
    assert_int_equal(store_cluster_new(env, store, client, &config, &cluster, &err), 0);
}

static void replicate__stores_here_and_on_one_other_always_the_same(void **state)
{
    (void)state;
    struct result r;
    replicate(0, "first ", &r);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.n, 2);
    assert_string_equal(r.nodes[0], "n1");
    replicate(6, "second", &r);
    assert_int_equal(r.status, 0);
    assert_int_equal(peers[1].n_puts * peers[2].n_puts, 0);
    assert_int_equal(peers[1].n_puts + peers[2].n_puts, 2);
    struct peer *p = &peers[peers[1].n_puts > 0 ? 1 : 2];
    assert_memory_equal(p->bytes.data, "first second", 12);
}

static void replicate__tries_the_next_node_and_remembers_the_failure(void **state)
{
    (void)state;
    peers[1].mode = PEER_FAILS;
    peers[2].mode = PEER_GOOD;
    struct result r;
    replicate(0, "first ", &r);
    assert_int_equal(r.status, 0);
    assert_true(names(&r, "n1") && names(&r, "n3"));
    unsigned before = peers[1].n_puts;
    replicate(6, "second", &r);
    assert_int_equal(r.status, 0);
    assert_int_equal(peers[1].n_puts, before);
}

static void replicate__does_not_wait_for_a_silent_node(void **state)
{
    (void)state;
    peers[1].mode = PEER_SILENT;
    notices_silence = true;
    struct result r;
    replicate(0, "x", &r);
    assert_int_equal(r.status, 0);
    assert_true(names(&r, "n3"));
    peers[1].mode = PEER_GOOD;
    peers[2].mode = PEER_SILENT;
    replicate(0, "x", &r);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.n, 2);
}

static void replicate__fails_when_too_few_nodes_take_it(void **state)
{
    (void)state;
    peers[1].mode = PEER_FAILS;
    peers[2].mode = PEER_FAILS;
    struct result r;
    replicate(0, "x", &r);
    assert_int_equal(r.status, WEIR_EUNAVAILABLE);
    assert_int_equal(r.n, 0);
    peers[1].mode = PEER_FULL;
    replicate(0, "x", &r);
    assert_int_equal(r.status, WEIR_ENOSPC);
}

static void replicate__wants_no_copies_of_nodes_that_are_gone(void **state)
{
    (void)state;
    struct result r;
    config.media_replicas = 3;
    replicate(0, "first ", &r);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.n, 3);
    config.nodes[1].standing = CONFIG_NODE_GONE;
    replicate(6, "second", &r);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.n, 2);
    assert_false(names(&r, "n2"));
}

static void replicate__with_its_own_disk_full_uses_two_others(void **state)
{
    (void)state;
    close_store();
    open_store(UINT64_MAX / 2);
    struct result r;
    replicate(0, "x", &r);
    assert_int_equal(r.status, 0);
    assert_true(names(&r, "n2") && names(&r, "n3") && !names(&r, "n1"));
}

static off_t bytes_on_disk(void)
{
    char path[160];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/00/" OBJECT, dir);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

/* Without anybody else, and without what is in memory. */
static void mended_on_disk(uint64_t position, const char *text)
{
    close_store();
    open_store(0);
    for (unsigned i = 1; i < N; i++) {
        peers[i].mode = PEER_FAILS;
    }
    assert_fetch(position, text, "n1");
    for (unsigned i = 1; i < N; i++) {
        peers[i].mode = PEER_GOOD;
    }
}

static void fetch__asks_once_however_many_wait(void **state)
{
    (void)state;
    bytes_put(&peers[1].bytes, "hello world", 11);
    enum { READERS = 50 };
    static struct result r[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(fetch_start(6, "world", "n2", &r[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        wait_for(&r[i]);
        assert_int_equal(r[i].status, 0);
        assert_string_equal(r[i].text, "world");
    }
    assert_int_equal(peers[1].n_gets, 1);
    assert_int_equal(peers[2].n_gets, 0);
    assert_fetch(6, "world", "n2");
    assert_int_equal(peers[1].n_gets, 1); /* from memory now */
}

static void fetch__asks_the_others_when_the_named_node_fails(void **state)
{
    (void)state;
    bytes_put(&peers[2].bytes, "hello", 5);
    peers[1].mode = PEER_FAILS;
    assert_fetch(0, "hello", "n2");
}

static void fetch__does_not_believe_bytes_with_a_wrong_checksum(void **state)
{
    (void)state;
    bytes_put(&peers[1].bytes, "hello", 5);
    bytes_put(&peers[2].bytes, "hello", 5);
    peers[1].mode = PEER_LIES;
    assert_fetch(0, "hello", "n2");
    assert_int_equal(peers[2].n_gets, 1);
}

static void fetch__a_damaged_copy_on_its_own_disk_is_never_shown_and_mended(void **state)
{
    (void)state;
    struct result r;
    replicate(0, "hellO", &r);
    assert_int_equal(r.status, 0);
    close_store(); /* forgets what is in memory */
    open_store(0);
    bytes_reset(&peers[1].bytes);
    bytes_reset(&peers[2].bytes);
    assert_int_equal(fetch_start(0, "hello", "n1", &r), 0);
    wait_for(&r);
    assert_int_equal(r.status, WEIR_ENOTFOUND);
    assert_null(store_cached(store, OBJECT, 0, 5));
    bytes_put(&peers[2].bytes, "hello", 5);
    assert_fetch(0, "hello", "n1");
    mended_on_disk(0, "hello");
}

static void fetch__writes_what_its_own_disk_has_lost_but_never_behind_a_gap(void **state)
{
    (void)state;
    struct result r;
    bytes_put(&peers[2].bytes, "helloworld", 10);
    assert_fetch(5, "world", "n1");
    assert_fetch(0, "hello", "n2"); /* is not said to be here */
    close_store();
    open_store(0);
    assert_int_equal(fetch_start(0, "hello", "n1", &r), 0);
    wait_for(&r);
    assert_int_equal(peers[1].n_gets + peers[2].n_gets > 0, 1);
    mended_on_disk(0, "hello");
    assert_fetch(5, "world", "n1");
    while (bytes_on_disk() < 10) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    mended_on_disk(5, "world");
}

static void fetch__of_what_nobody_has_is_not_found(void **state)
{
    (void)state;
    struct result r;
    assert_int_equal(fetch_start(0, "hello", "n2", &r), 0);
    wait_for(&r);
    assert_int_equal(r.status, WEIR_ENOTFOUND);
    assert_int_equal(peers[1].n_gets, 1);
    assert_int_equal(peers[2].n_gets, 1);
}

static void fetch__prefers_its_own_disk(void **state)
{
    (void)state;
    struct result r;
    replicate(0, "hello", &r);
    assert_int_equal(r.status, 0);
    assert_fetch(0, "hello", "n1");
    assert_int_equal(peers[1].n_gets + peers[2].n_gets, 0);
}

static void free__completes_what_is_open(void **state)
{
    (void)state;
    peers[1].mode = PEER_SILENT;
    peers[2].mode = PEER_SILENT;
    struct result get, put = {0};
    assert_int_equal(fetch_start(0, "hello", "n2", &get), 0);
    struct http_body *body = http_body_copy("x", 1);
    assert_int_equal(store_replicate(cluster, OBJECT, 0, body, replicated, &put, NULL), 0);
    http_body_unref(body);
    while (peers[1].n_held + peers[2].n_held < 2) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    store_cluster_free(cluster);
    cluster = NULL;
    assert_true(get.done && put.done);
    assert_int_equal(get.status, WEIR_ECLOSED);
    assert_int_equal(put.status, WEIR_ECLOSED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(replicate__stores_here_and_on_one_other_always_the_same),
        TEST(replicate__tries_the_next_node_and_remembers_the_failure),
        TEST(replicate__does_not_wait_for_a_silent_node),
        TEST(replicate__fails_when_too_few_nodes_take_it),
        TEST(replicate__wants_no_copies_of_nodes_that_are_gone),
        TEST(replicate__with_its_own_disk_full_uses_two_others),
        TEST(fetch__asks_once_however_many_wait),
        TEST(fetch__asks_the_others_when_the_named_node_fails),
        TEST(fetch__does_not_believe_bytes_with_a_wrong_checksum),
        TEST(fetch__a_damaged_copy_on_its_own_disk_is_never_shown_and_mended),
        TEST(fetch__writes_what_its_own_disk_has_lost_but_never_behind_a_gap),
        TEST(fetch__of_what_nobody_has_is_not_found),
        TEST(fetch__prefers_its_own_disk),
        TEST(free__completes_what_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
