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

#include "../run_until.h"
#include "base/crc32c.h"
#include "keeper.h"

uv_loop_t loop;
struct env *env;
struct config config;
struct node node;
struct peer peers[N]; /* [0] serves the node under test itself */
struct lifecycle_feed feed;
struct copies *copies;
static char dir[64];

/* The linker puts this in front of env's: what the node does by itself it does at once, and those
 * who answer are never late, however slow the machine is. */
static bool starts;
bool scrubs, notices_silence;
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

uint8_t byte_of(const char *object, uint64_t at)
{
    return (uint8_t)(crc32c(0, object, strlen(object)) + at * 7 + (at >> 8));
}

struct http_body *bytes_of(const char *object, uint64_t position, uint64_t size)
{
    uint8_t *data = malloc(size);
    struct http_body *body = data != NULL ? http_body_new(data, size) : NULL;
    if (body == NULL) {
        return bytes_of(object, position,
                        size); /* an allocation that a test lets fail fails once */
    }
    for (uint64_t i = 0; i < size; i++) {
        data[i] = byte_of(object, position + i);
    }
    return body;
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
    const char *from = http_query(ex, "position"), *length = http_query(ex, "size");
    if (from == NULL || length == NULL) {
        http_respond_text(ex, 500, "no memory");
        return;
    }
    uint64_t position = strtoull(from, NULL, 10), size = strtoull(length, NULL, 10);
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

void peer_close(struct peer *p)
{
    bool closed = false;
    if (p->server != NULL) {
        http_server_close(p->server, set_flag, &closed);
        RUN_UNTIL(closed);
    }
    p->server = NULL;
}

/* --- The node --- */

static void configure(void)
{
    char text[2048];
    int n = snprintf(text, sizeof(text),
                     "node.name = n1\nnode.data = %s\ncluster.secret = " SECRET "\n"
                     "media.replicas = 2\nmedia.repair_mib_s = 0\nmedia.lost_ms = 10000\n",
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

void open_store(uint64_t free_bytes_min)
{
    struct store_options options = {
        .dir = dir, .cache_bytes_max = 1 << 20, .free_bytes_min = free_bytes_min};
    struct error err;
    assert_int_equal(store_open(env, &options, &node.store, &err), 0);
    assert_int_equal(
        store_cluster_new(env, node.store, node.http_client, &config, &node.store_cluster, &err),
        0);
}

void close_store(void)
{
    bool closed = false;
    store_cluster_free(node.store_cluster);
    store_close(node.store, set_flag, &closed);
    RUN_UNTIL(closed);
}

int keeper_setup(void **state)
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

void start(void)
{
    struct error err;
    config.media_scrub_mib_s = scrubs ? 4096 : 0;
    starts = true;
    assert_int_equal(copies_start(&node, &copies, &err), 0);
    starts = false;
}

void stop(void)
{
    bool stopped = false;
    if (copies != NULL) {
        http_server_drain(peers[0].server);
        copies_stop(copies, set_flag, &stopped);
        RUN_UNTIL(stopped);
    }
    copies = NULL;
}

int keeper_teardown(void **state)
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
void commit(uint64_t msn, const char *a, const char *b)
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

const char *object_of(uint64_t msn)
{
    static char name[96];
    (void)snprintf(name, sizeof(name), "%s", feed_part_of(&feed, 0, msn, 0).object);
    return name;
}

const char *path_of(uint64_t msn, const char *end)
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
void put(uint64_t msn, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        bool done = false;
        struct http_body *bytes = bytes_of(object_of(msn), i * PART_BYTES, PART_BYTES);
        assert_int_equal(
            store_put(node.store, object_of(msn), i * PART_BYTES, bytes, put_done, &done, NULL), 0);
        http_body_unref(bytes);
        RUN_UNTIL(done);
    }
}

/* The node's own, with bytes as they should be. */
bool is_whole(uint64_t msn)
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

bool is_there(uint64_t msn)
{
    return access(path_of(msn, ""), F_OK) == 0;
}

void run_looks(unsigned n)
{
    int64_t end = metric_value(copies->looks) + n;
    RUN_UNTIL(metric_value(copies->looks) >= end);
}

void run_scrubs(unsigned n)
{
    int64_t end = metric_value(copies->scrubs) + n;
    RUN_UNTIL(metric_value(copies->scrubs) >= end);
}

/* --- What it says --- */

static void answered(void *data, int status, struct http_body *body)
{
    json_t **ret = data;
    assert_int_equal(status, 200);
    *ret = json_loadb((const char *)body->data, body->len, 0, NULL);
    assert_non_null(*ret);
}

json_t *ask(const char *path)
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
    RUN_UNTIL(said != NULL);
    return said;
}
