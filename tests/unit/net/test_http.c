/* Server and client on real loopback sockets. */
#include "http_fixture.h"

/* The linker puts this in front of env's: the limits of seconds, those of a handshake and
 * of a call, are not what is tested here, and a slow machine takes longer. */
void __real_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void __wrap_env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb)
{
    __real_env_timer_start(timer, delay_us > 2000000 ? delay_us * 20 : delay_us, cb);
}

/* --- Server
 * -------------------------------------------------------------------------------------------------------
 */

static void server__answers_and_keeps_the_connection(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_expect(&r, "GET /hello?name=J%C3%B6+A HTTP/1.1\r\nHost: h\r\n\r\n", "hello J\xc3\xb6 A\n");
    assert_int_equal(count(&r, "HTTP/1.1 200 OK\r\nDate: "), 1);
    assert_int_equal(count(&r, "Content-Length: 12\r\n"), 1);
    raw_expect(&r, "\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello nobody\n");
    assert_false(r.ended);
    raw_close(&r);
}

static void server__answers_pipelined_requests_in_order(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_send(&r, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\nGET /hello?name=two HTTP/1.1\r\nHost: h\r\n"
                 "\r\nPOST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nthree"
                 "GET /hello?name=four HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    RUN_UNTIL(waiting != NULL);
    assert_int_equal(r.got.len, 0);
    http_respond_text(waiting, 200, "one");
    RUN_UNTIL(r.ended);
    const char *got = (const char *)r.got.data;
    const char *one = strstr(got, "one"), *two = strstr(got, "two");
    const char *three = strstr(got, "three"), *four = strstr(got, "four");
    assert_true(one != NULL && one < two && two < three && three < four);
    raw_close(&r);
}

static void server__answers_a_hundred_pipelined_requests(void **state)
{
    (void)state;
    struct raw r;
    struct bytes all;
    bytes_init(&all, 1 << 20);
    for (int i = 0; i < 100; i++) {
        bytes_printf(&all, "GET /hello?name=n%dn HTTP/1.1\r\nHost: h\r\n\r\n", i);
    }
    raw_open(&r);
    raw_send_bytes(&r, all.data, all.len);
    RUN_UNTIL(count(&r, "HTTP/1.1 200 OK") == 100);
    RUN_UNTIL(count(&r, "hello n99n") == 1);
    raw_close(&r);
    bytes_close(&all);
}

static void server__answers_head_without_a_body(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_expect(&r, "HEAD /big HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n",
               "hello nobody");
    assert_int_equal(count(&r, "Content-Length: 3145728\r\n"), 1);
    assert_true(r.got.len < 1000);
    raw_close(&r);
}

static void server__takes_bodies_cut_anywhere(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n<payload>",
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        "4\r\n<pay\r\n5\r\nload>\r\n0\r\n\r\n",
    };
    for (size_t k = 0; k < 2; k++) {
        struct raw r;
        raw_open(&r);
        for (size_t i = 0; i < strlen(requests[k]); i++) {
            raw_send_bytes(&r, requests[k] + i, 1);
        }
        RUN_UNTIL(count(&r, "\r\n\r\n<payload>") == 1);
        raw_close(&r);
    }
}

static void expect_refusal(const char *request, const char *status, const char *text)
{
    struct raw r;
    raw_open(&r);
    raw_send(&r, request);
    RUN_UNTIL(r.ended);
    if (count(&r, status) != 1 || count(&r, text) != 1) {
        print_error("%s", (const char *)r.got.data);
    }
    assert_int_equal(count(&r, status), 1);
    assert_int_equal(count(&r, text), 1);
    raw_close(&r);
}

static void server__says_what_is_wrong_and_closes(void **state)
{
    (void)state;
    expect_refusal("GET /../x HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 400 ", "\"..\" in the path");
    expect_refusal("garbage\r\n\r\n", "HTTP/1.1 400 ", "not METHOD SP TARGET");
    expect_refusal("GET / HTTP/3.0\r\nHost: h\r\n\r\n", "HTTP/1.1 505 ", "only HTTP/1.1");
    expect_refusal("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\nx",
                   "HTTP/1.1 413 ", "more than this path takes");
    expect_refusal("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz",
                   "HTTP/1.1 400 ", "bad chunked body");
    expect_refusal("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
                   "HTTP/1.1 404 ", "nothing is served");
}

static void server__keeps_the_connection_after_404_and_405(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_expect(&r, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n", "404 Not Found:");
    raw_expect(&r, "DELETE /echo HTTP/1.1\r\nHost: h\r\n\r\n", "Allow: POST, PUT\r\n");
    raw_expect(&r, "POST /hello HTTP/1.1\r\nHost: h\r\n\r\n", "Allow: GET, HEAD\r\n");
    raw_expect(&r, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello nobody");
    raw_close(&r);
}

static void server__continues_when_asked(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_expect(&r,
               "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4"
               "\r\n\r\n",
               "HTTP/1.1 100 Continue\r\n\r\n");
    raw_expect(&r, "body", "\r\n\r\nbody");
    raw_close(&r);
}

static void server__sends_a_shared_body_to_slow_readers(void **state)
{
    (void)state;
    struct raw r[3];
    for (int i = 0; i < 3; i++) {
        raw_open(&r[i]);
        raw_send(&r[i],
                 "GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for (int i = 0; i < 3; i++) {
        RUN_UNTIL(r[i].got.len > BIG);
        RUN_UNTIL(count(&r[i], "hello nobody") == 1);
        raw_close(&r[i]);
    }
    assert_int_equal(big->refs, 1);
}

static void exchange__is_aborted_when_its_client_goes(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_send(&r, "GET /wait/x HTTP/1.1\r\nHost: h\r\n\r\n");
    RUN_UNTIL(waiting != NULL);
    raw_close(&r);
    RUN_UNTIL(aborted == 1);
}

static void server__asks_the_route_before_it_reads_a_body(void **state)
{
    (void)state;
    struct raw r, friend;
    raw_open(&r);
    raw_expect(&r, "PUT /friends HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\nG",
               "bodies are not read");
    RUN_UNTIL(r.ended);
    assert_int_equal(count(&r, "HTTP/1.1 "), 1);
    raw_close(&r);
    raw_open(&friend);
    raw_expect(&friend,
               "PUT /friends HTTP/1.1\r\nHost: h\r\nX-Friend: 1\r\nContent-Length: 2\r\n\r\nhi",
               "\r\n\r\nhi");
    raw_expect(&friend, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello nobody");
    raw_close(&friend);
}

static void server__runs_no_handler_once_drained(void **state)
{
    (void)state;
    struct raw r, second;
    raw_open(&r);
    raw_send(&r, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    RUN_UNTIL(waiting != NULL);
    raw_open(&second);
    raw_send(&second, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1");
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    http_server_drain(server);
    raw_expect(&second, "2", "HTTP/1.1 503 Service Unavailable\r\n");
    raw_close(&second);
    http_respond_text(waiting, 200, "what a handler had is answered");
    RUN_UNTIL(count(&r, "had is answered") > 0);
    raw_close(&r);
}

static void exchange__may_be_answered_after_its_client_has_gone(void **state)
{
    (void)state;
    struct raw r, second;
    raw_open(&r);
    raw_send(&r, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    RUN_UNTIL(waiting != NULL);
    raw_close(&r);
    raw_open(&second);
    raw_expect(&second, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello nobody");
    assert_string_equal(http_path(waiting), "/wait");
    http_respond_text(waiting, 200, "too late");
    raw_close(&second);
}

static void server__upgrades_with_the_bytes_behind(void **state)
{
    (void)state;
    struct raw r;
    raw_open(&r);
    raw_expect(&r,
               "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
               "early",
               "HTTP/1.1 101 Switching Protocols\r\n");
    assert_non_null(upgraded);
    assert_string_equal(early, "early");
    assert_int_equal(count(&r, "Content-Length"), 0);
    env_stream_close(upgraded, NULL, NULL);
    RUN_UNTIL(r.ended);
    raw_close(&r);
}

static void server__hands_over_the_request_as_it_came(void **state)
{
    (void)state;
    static const char request[] = "GET /%68andover?a=%20 HTTP/1.1\r\nHOST:  h\r\nConnection: "
                                  "upgrade\r\nUpgrade: x\r\n\r\nmore";
    struct raw r;
    raw_open(&r);
    raw_expect(&r, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello nobody");
    raw_send(&r, request);
    RUN_UNTIL(upgraded != NULL);
    assert_string_equal(early, request);
    int fd = env_stream_detach_fd(upgraded);
    if (tls == NULL) {
        assert_true(fd >= 0);
        assert_int_equal(close(fd), 0);
    } else {
        assert_int_equal(fd, -1); /* an encrypted stream is more than its descriptor */
    }
    RUN_UNTIL(r.ended);
    raw_close(&r);
}

/* --- Client
 * -------------------------------------------------------------------------------------------------------
 */

struct answer {
    bool done;
    int status;
    char body[256];
    size_t len;
};

static void on_answer(void *data, int status, struct http_body *body)
{
    struct answer *a = data;
    a->done = true;
    a->status = status;
    a->len = body != NULL ? body->len : 0;
    if (body != NULL && body->len < sizeof(a->body)) {
        memcpy(a->body, body->data, body->len);
        a->body[body->len] = '\0';
    }
}

static struct http_call_options options(const char *method, const char *path)
{
    return (struct http_call_options){.method = method,
                                      .host = "127.0.0.1",
                                      .port = http_server_port(server),
                                      .path = path,
                                      .headers = "",
                                      .timeout_ms = 15000,
                                      .response_max = BIG};
}

static void call(const struct http_call_options *o, struct answer *a)
{
    *a = (struct answer){0};
    assert_int_equal(http_call(client, o, on_answer, a, NULL, NULL), 0);
    assert_false(a->done);
    RUN_UNTIL(a->done);
}

static void client__gets_posts_and_asks_for_heads(void **state)
{
    (void)state;
    struct answer a;
    struct http_call_options o = options("GET", "/hello?name=c");
    call(&o, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "hello c\n");
    o = options("POST", "/echo");
    o.body = http_body_copy("data", 4);
    call(&o, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, "data");
    assert_int_equal(o.body->refs, 1);
    http_body_unref(o.body);
    o = options("HEAD", "/big");
    call(&o, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.len, 0);
    o = options("GET", "/big");
    call(&o, &a);
    assert_int_equal(a.len, BIG);
    o = options("PUT", "/echo");
    o.body = http_body_ref(big);
    call(&o, &a);
    assert_int_equal(a.len, BIG);
    http_body_unref(o.body);
}

static void client__runs_more_calls_than_it_has_connections(void **state)
{
    (void)state;
    enum { N = 300 };
    static struct answer a[N];
    struct http_call_options o = options("GET", "/hello");
    memset(a, 0, sizeof(a));
    for (int i = 0; i < N; i++) {
        assert_int_equal(http_call(client, &o, on_answer, &a[i], NULL, NULL), 0);
    }
    for (int i = 0; i < N; i++) {
        RUN_UNTIL(a[i].done);
        assert_int_equal(a[i].status, 200);
    }
}

static void client__reports_what_went_wrong(void **state)
{
    (void)state;
    struct answer a;
    struct http_call_options o = options("GET", "/big");
    o.response_max = BIG - 1;
    call(&o, &a);
    assert_int_equal(a.status, WEIR_ETOOBIG);
    o = options("GET", "/wait/");
    o.timeout_ms = 1;
    call(&o, &a);
    assert_int_equal(a.status, WEIR_ETIMEOUT);
    o = options("GET", "/hello");
    o.port = 1;
    call(&o, &a);
    assert_int_equal(a.status, -ECONNREFUSED);
    o.path = "/a b";
    assert_int_equal(http_call(client, &o, on_answer, &a, NULL, NULL), WEIR_EINVAL);
}

static void client__forgets_a_cancelled_call(void **state)
{
    (void)state;
    struct answer a = {0}, b;
    struct http_call *c;
    struct http_call_options o = options("GET", "/wait/");
    assert_int_equal(http_call(client, &o, on_answer, &a, &c, NULL), 0);
    RUN_UNTIL(waiting != NULL);
    http_call_cancel(c);
    o = options("GET", "/hello");
    call(&o, &b);
    RUN_UNTIL(aborted == 1);
    assert_false(a.done);
}

static struct env_stream *dialled;
static int dial_status;

static void on_dialled(void *data, int status, struct env_stream *stream, const uint8_t *bytes,
                       size_t n)
{
    (void)data;
    (void)bytes;
    (void)n;
    dial_status = status;
    dialled = stream;
}

static void client__dials_an_upgrade(void **state)
{
    (void)state;
    dial_status = 0;
    struct http_call_options o = options("GET", "/upgrade");
    assert_int_equal(http_dial_upgrade(client, &o, "test", on_dialled, NULL, NULL, NULL), 0);
    RUN_UNTIL(dial_status != 0);
    assert_int_equal(dial_status, 101);
    assert_non_null(dialled);
    env_stream_close(dialled, NULL, NULL);
    env_stream_close(upgraded, NULL, NULL);
    dial_status = 0;
    o.path = "/hello";
    assert_int_equal(http_dial_upgrade(client, &o, "test", on_dialled, NULL, NULL, NULL), 0);
    RUN_UNTIL(dial_status != 0);
    assert_int_equal(dial_status, 200);
    assert_null(dialled);
}

/* A server that answers every connection's first bytes with fixed ones. */
struct canned {
    const char *answer;
    struct env_stream *stream;
    struct env_send send;
    unsigned accepted;
    bool close;
};

static void canned_sent(struct env_send *send, int status)
{
    struct canned *c = send->data;
    if (c->close && status == 0) {
        env_stream_close(c->stream, NULL, NULL);
        c->stream = NULL;
    }
}

static void canned_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct canned *c = env_stream_data(stream);
    (void)data;
    (void)n;
    if (status < 0) {
        env_stream_close(stream, NULL, NULL);
        return;
    }
    struct iovec iov = {.iov_base = (void *)(uintptr_t)c->answer, .iov_len = strlen(c->answer)};
    c->stream = stream;
    c->send.data = c;
    env_stream_send(stream, &c->send, &iov, 1, canned_sent);
}

static void canned_accept(struct env_listener *listener, struct env_stream *stream)
{
    struct canned *c = env_listener_data(listener);
    c->accepted++;
    env_stream_set_data(stream, c);
    env_stream_read_start(stream, canned_read);
}

static void client__reads_every_kind_of_answer(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        bool close;
        int status;
        const char *body;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
         false, 200, "abcde"},
        {"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 200,
         "ok"},
        {"HTTP/1.0 200 OK\r\n\r\nto the end", true, 200, "to the end"},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, 204, ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", true, WEIR_ECLOSED, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false,
         WEIR_EPROTO, NULL},
        {"HTTP/1.1 101 No\r\n\r\n", false, WEIR_EPROTO, NULL},
        {"nonsense\r\n\r\n", false, WEIR_EPROTO, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct canned c = {.answer = cases[i].answer, .close = cases[i].close};
        struct env_listener *listener;
        assert_int_equal(env_listen(sockets, "127.0.0.1", 0, canned_accept, &c, &listener, NULL),
                         0);
        struct http_call_options o = options("GET", "/");
        struct answer a;
        o.port = env_listener_port(listener);
        call(&o, &a);
        assert_int_equal(a.status, cases[i].status);
        if (cases[i].body != NULL) {
            assert_string_equal(a.body, cases[i].body);
        }
        env_listener_close(listener);
        http_client_free(client); /* its idle connections */
        assert_int_equal(http_client_new_over(env, sockets, &client, NULL), 0);
        for (int k = 0; k < 10; k++) {
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    }
}

/* Closes a kept connection when it is used again, as a server does whose idle time is over. */
static void fickle_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct canned *c = env_stream_data(stream);
    if (status >= 0 && c->accepted == 1 && c->stream == stream) {
        env_stream_close(stream, NULL, NULL);
        return;
    }
    canned_read(stream, data, n, status);
}

static void fickle_accept(struct env_listener *listener, struct env_stream *stream)
{
    canned_accept(listener, stream);
    env_stream_read_start(stream, fickle_read);
}

static void client__sends_again_when_a_kept_connection_was_closed(void **state)
{
    (void)state;
    struct canned c = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"};
    struct env_listener *listener;
    assert_int_equal(env_listen(sockets, "127.0.0.1", 0, fickle_accept, &c, &listener, NULL), 0);
    struct http_call_options o = options("GET", "/");
    struct answer a;
    o.port = env_listener_port(listener);
    call(&o, &a);
    assert_int_equal(a.status, 200);
    call(&o, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(c.accepted, 2);
    env_listener_close(listener);
    http_client_free(client);
    assert_int_equal(http_client_new_over(env, sockets, &client, NULL), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(server__answers_and_keeps_the_connection),
        TEST(server__answers_pipelined_requests_in_order),
        TEST(server__answers_a_hundred_pipelined_requests),
        TEST(server__answers_head_without_a_body),
        TEST(server__takes_bodies_cut_anywhere),
        TEST(server__says_what_is_wrong_and_closes),
        TEST(server__keeps_the_connection_after_404_and_405),
        TEST(server__continues_when_asked),
        TEST(server__sends_a_shared_body_to_slow_readers),
        TEST(exchange__is_aborted_when_its_client_goes),
        TEST(server__asks_the_route_before_it_reads_a_body),
        TEST(server__runs_no_handler_once_drained),
        TEST(exchange__may_be_answered_after_its_client_has_gone),
        TEST(server__upgrades_with_the_bytes_behind),
        TEST(server__hands_over_the_request_as_it_came),
        TEST(client__gets_posts_and_asks_for_heads),
        TEST(client__runs_more_calls_than_it_has_connections),
        TEST(client__reports_what_went_wrong),
        TEST(client__forgets_a_cancelled_call),
        TEST(client__dials_an_upgrade),
        TEST(client__reads_every_kind_of_answer),
        TEST(client__sends_again_when_a_kept_connection_was_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
