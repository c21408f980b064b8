/* Clients that are slow or silent. The server's ticks of a second take a millisecond here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "../run_until.h"
#include "base/env_uv.h"
#include "net/http.h"

#define BIG (64u << 20) /* more than loopback buffers take */

static uv_loop_t loop;
static struct env *env;
static struct http_server *server;
static struct http_body *big;
static struct http_exchange *waiting;
static bool server_closed;

void __real_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb)
{
    __real_env_timer_start(timer, delay_us / 1000, cb);
}

struct raw {
    struct env_stream *stream;
    struct env_send send;
    struct bytes got;
    bool connected, ended;
};

static void raw_on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct raw *r = env_stream_data(stream);
    r->ended |= status < 0;
    bytes_put(&r->got, data, n);
}

static void raw_on_connect(struct env_stream *stream, int status)
{
    struct raw *r = env_stream_data(stream);
    assert_int_equal(status, 0);
    r->connected = true;
}

static void raw_on_sent(struct env_send *send, int status)
{
    (void)send;
    (void)status;
}

static void raw_send(struct raw *r, const char *text)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    env_stream_send(r->stream, &r->send, &iov, 1, raw_on_sent);
}

static void raw_open(struct raw *r, bool reads)
{
    *r = (struct raw){0};
    bytes_init(&r->got, BIG + 4096);
    assert_int_equal(env_connect(env, "127.0.0.1", http_server_port(server), raw_on_connect, r,
                                 &r->stream, NULL),
                     0);
    RUN_UNTIL(r->connected);
    if (reads) {
        env_stream_read_start(r->stream, raw_on_read);
    }
}

static void raw_close(struct raw *r)
{
    env_stream_close(r->stream, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    bytes_close(&r->got);
}

/* The server ends the connection by itself; what it said begins with `answer` ("" for nothing). */
static void expect_end(struct raw *r, const char *answer)
{
    RUN_UNTIL(r->ended);
    assert_true(r->got.len >= strlen(answer) && (r->got.len == 0) == (answer[0] == '\0'));
    assert_memory_equal(r->got.len > 0 ? (const char *)r->got.data : "", answer, strlen(answer));
    raw_close(r);
}

static void on_hello(void *data, struct http_exchange *ex)
{
    (void)data;
    http_respond_text(ex, 200, "hello");
}

static void on_big(void *data, struct http_exchange *ex)
{
    (void)data;
    http_respond(ex, 200, "video/mp4", "", http_body_ref(big));
}

static void on_wait(void *data, struct http_exchange *ex)
{
    (void)data;
    waiting = ex;
}

static void on_closed(void *data)
{
    (void)data;
    server_closed = true;
}

static int setup(void **state)
{
    (void)state;
    static const struct http_route routes[] = {
        {.method = "GET", .path = "/hello", .handler = on_hello},
        {.method = "POST", .path = "/hello", .body_max = 100000, .handler = on_hello},
        {.method = "GET", .path = "/big", .handler = on_big},
        {.method = "GET", .path = "/wait", .handler = on_wait},
    };
    server_closed = false;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, NULL), 0);
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &server, NULL), 0);
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        assert_int_equal(http_server_route(server, &routes[i]), 0);
    }
    big = http_body_new(calloc(1, BIG), BIG);
    assert_non_null(big);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_server_close(server, on_closed, NULL);
    RUN_UNTIL(server_closed);
    assert_int_equal(big->refs, 1);
    http_body_unref(big);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void client__that_says_nothing_is_closed(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r, true);
    expect_end(&r, "");
}

static void client__that_does_not_end_its_request_is_told(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r, true);
    raw_send(&r, "GET /hello HTTP/1.1\r\nHost: h\r\n");
    expect_end(&r, "HTTP/1.1 408 ");
}

static void client__whose_body_does_not_come_is_told(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r, true);
    raw_send(&r, "POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\nabc");
    expect_end(&r, "HTTP/1.1 408 ");
}

static void connection__is_kept_for_a_while_and_then_closed(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r, true);
    raw_send(&r, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_end(&r, "HTTP/1.1 200 ");
}

static void reader__that_has_stopped_is_closed(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r, false);
    raw_send(&r, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    RUN_UNTIL(big->refs == 2);
    RUN_UNTIL(big->refs == 1); /* given up */
    raw_close(&r);
}

static void exchange__that_waits_is_not_late(void **state)
{
    (void)state;
    struct raw waiter, other;
    waiting = NULL;
    raw_open(&waiter, true);
    raw_send(&waiter, "GET /wait HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    RUN_UNTIL(waiting != NULL);
    raw_open(&other, true); /* lives for the longest of the limits */
    raw_send(&other, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_end(&other, "HTTP/1.1 200 ");
    assert_false(waiter.ended);
    http_respond_text(waiting, 200, "at last");
    expect_end(&waiter, "HTTP/1.1 200 ");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(client__that_says_nothing_is_closed),
        TEST(client__that_does_not_end_its_request_is_told),
        TEST(client__whose_body_does_not_come_is_told),
        TEST(connection__is_kept_for_a_while_and_then_closed),
        TEST(reader__that_has_stopped_is_closed),
        TEST(exchange__that_waits_is_not_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
