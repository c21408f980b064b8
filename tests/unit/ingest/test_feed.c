/* A feed against two transcode nodes that the test plays: it answers the calls that ask for their
 * load, takes the dials, and holds the far ends of the links. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/ingest/feed.h"
#include "views/lifecycle.h"
#include "virtual_env.h"

#define EPOCH   40
#define BEAT_US (WIRE_BEAT_MS * 1000ull)
/* What the header promises: this long without a byte is death. */
#define SILENT_US 1500000ull

static struct world {
    struct virtual_env env;
    struct config config;
    struct node node;
    struct lifecycle_channel channel;
    struct feed *feed;
    int64_t epochs;
    struct view_submit *submit;
    view_submit_cb submit_cb;
    unsigned dials;
    uint16_t dialled; /* the node of the last dial, by port */
    uint32_t dial_timeout_ms;
    http_dial_cb dial_cb;
    void *dial_data;
    unsigned failures;
} w;

static void *const CALL = &w; /* any but NULL */

int __wrap_http_call(struct http_client *client, const struct http_call_options *options,
                     http_call_cb cb, void *data, struct http_call **ret_call, struct error *err);
void __wrap_http_call_cancel(struct http_call *call);
int __wrap_http_dial_upgrade(struct http_client *client, const struct http_call_options *options,
                             const char *protocol, http_dial_cb cb, void *data,
                             struct http_call **ret_call, struct error *err);
int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *value, size_t len, struct view_submit *req, view_submit_cb cb);
const struct lifecycle_channel *__wrap_lifecycle_live(struct views *views, const char *channel);

/* What was asked for the load, until the test answers. */
static struct {
    http_call_cb cb;
    void *data;
} asked[2];

int __wrap_http_call(struct http_client *client, const struct http_call_options *options,
                     http_call_cb cb, void *data, struct http_call **ret_call, struct error *err)
{
    (void)client;
    (void)err;
    asked[options->port - 1].cb = cb;
    asked[options->port - 1].data = data;
    *ret_call = CALL;
    return 0;
}

void __wrap_http_call_cancel(struct http_call *call)
{
    (void)call;
}

int __wrap_http_dial_upgrade(struct http_client *client, const struct http_call_options *options,
                             const char *protocol, http_dial_cb cb, void *data,
                             struct http_call **ret_call, struct error *err)
{
    (void)client;
    (void)protocol;
    (void)err;
    w.dials++;
    w.dialled = options->port;
    w.dial_timeout_ms = options->timeout_ms;
    w.dial_cb = cb;
    w.dial_data = data;
    *ret_call = CALL;
    return 0;
}

int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *value, size_t len, struct view_submit *req, view_submit_cb cb)
{
    (void)views;
    (void)topic;
    (void)key;
    (void)value;
    (void)len;
    w.submit = req;
    w.submit_cb = cb;
    return 0;
}

const struct lifecycle_channel *__wrap_lifecycle_live(struct views *views, const char *channel)
{
    (void)views;
    (void)channel;
    return &w.channel;
}

/* All that were asked tell their load, the assignment is stored: the feed dials. */
static void nodes_answer(void)
{
    for (unsigned i = 0; i < 2; i++) {
        if (asked[i].cb != NULL) {
            char text[32];
            (void)snprintf(text, sizeof(text), "{\"load\":%u}", i);
            struct http_body *body = http_body_copy(text, strlen(text));
            http_call_cb cb = asked[i].cb;
            asked[i].cb = NULL;
            cb(asked[i].data, 200, body);
            http_body_unref(body);
        }
    }
    assert_non_null(w.submit_cb);
    view_submit_cb cb = w.submit_cb;
    w.submit_cb = NULL;
    w.submit->offset = ++w.epochs;
    cb(w.submit, 0, VERDICT_OK);
}

static struct virtual_stream *link_opens(void)
{
    struct virtual_stream *s = virtual_stream_new(&w.env);
    w.dial_cb(w.dial_data, 101, &s->base, NULL, 0);
    return s;
}

static void beat(struct virtual_stream *s)
{
    struct bytes b;
    bytes_init(&b, 64);
    wire_put_empty(&b, WIRE_BEAT);
    virtual_stream_read(s, b.data, b.len, 0);
    bytes_close(&b);
}

static void on_failed(void *data, int status, const char *text)
{
    (void)data;
    (void)status;
    (void)text;
    w.failures++;
}

static int setup(void **state)
{
    (void)state;
    static const uint8_t frame[8] = {0};
    memset(&w, 0, sizeof(w));
    memset(asked, 0, sizeof(asked));
    virtual_env_init(&w.env);
    w.config.n_nodes = 2;
    for (unsigned i = 0; i < 2; i++) {
        struct config_node *n = &w.config.nodes[i];
        (void)snprintf(n->name, sizeof(n->name), "n%u", i + 1);
        n->id = i + 1;
        n->http.port = (uint16_t)(i + 1);
    }
    w.config.media_part_ms = 500;
    w.config.media_segment_ms = 2000;
    w.node = (struct node){.config = &w.config, .self = &w.config.nodes[1], .env = &w.env.base};
    w.channel.session_epoch = EPOCH;
    struct feed_options options = {.channel = "alice", .session_epoch = EPOCH};
    struct feed_events events = {.failed = on_failed};
    assert_int_equal(feed_new(&w.node, &options, &events, &w.feed), 0);
    struct wire_video v = {90000, 0, true, frame, sizeof(frame)};
    feed_video(w.feed, &v);
    nodes_answer();
    assert_int_equal(w.dialled, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    feed_free(w.feed);
    assert_int_equal(w.failures, 0);
    virtual_env_close(&w.env);
    return 0;
}

static void a_node_that_accepts_and_falls_silent__is_left_for_another(void **state)
{
    (void)state;
    struct virtual_stream *first = link_opens();
    virtual_env_run(&w.env, SILENT_US);
    assert_true(first->closed);
    assert_null(asked[0].cb); /* not even asked */
    nodes_answer();
    assert_int_equal(w.dialled, 2);
    struct virtual_stream *second = link_opens();
    assert_int_equal(second->sent.len, first->sent.len); /* all of it again */
    assert_memory_equal(second->sent.data, first->sent.data, first->sent.len);
}

static void a_node_that_beats__is_kept(void **state)
{
    (void)state;
    struct virtual_stream *s = link_opens();
    for (unsigned i = 0; i < 100; i++) {
        virtual_env_run(&w.env, BEAT_US);
        beat(s);
    }
    virtual_env_run(&w.env, SILENT_US - BEAT_US); /* some are late */
    beat(s);
    virtual_env_run(&w.env, SILENT_US - BEAT_US);
    assert_false(s->closed);
    assert_int_equal(w.dials, 1);
}

static void a_node_that_falls_silent_later__is_left_as_well(void **state)
{
    (void)state;
    struct virtual_stream *s = link_opens();
    virtual_env_run(&w.env, BEAT_US);
    beat(s);
    virtual_env_run(&w.env, SILENT_US - 1);
    assert_false(s->closed);
    virtual_env_run(&w.env, 1);
    assert_true(s->closed);
}

static void a_stall_of_the_ingest_itself__is_not_the_nodes(void **state)
{
    (void)state;
    struct virtual_stream *s = link_opens();
    for (unsigned i = 0; i < 10; i++) {
        virtual_env_stall(&w.env, 10 * SILENT_US);
        assert_false(s->closed);
        beat(s); /* had come meanwhile */
    }
    assert_int_equal(w.dials, 1);
}

static void a_node_that_does_not_answer_the_dial__is_left_for_another(void **state)
{
    (void)state;
    assert_true(w.dial_timeout_ms <= SILENT_US / 1000);
    w.dial_cb(w.dial_data, WEIR_ETIMEOUT, NULL, NULL, 0);
    virtual_env_run(&w.env, 250000); /* the retry */
    assert_null(asked[0].cb);
    nodes_answer();
    assert_int_equal(w.dialled, 2);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_node_that_accepts_and_falls_silent__is_left_for_another),
        TEST(a_node_that_beats__is_kept),
        TEST(a_node_that_falls_silent_later__is_left_as_well),
        TEST(a_stall_of_the_ingest_itself__is_not_the_nodes),
        TEST(a_node_that_does_not_answer_the_dial__is_left_for_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
