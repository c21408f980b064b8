/* WebSocket connections on real loopback sockets: handed over by the HTTP server, spoken to byte by
 * byte. */
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
#include "net/ws.h"

#define MESSAGE_MAX 70000
#define CONNS_MAX   4
#define N_FRAMES    3000

static uv_loop_t loop;
static struct env *env;
static struct http_server *http;
static struct ws_server *ws;
static unsigned n_closed, n_open;
static bool http_closed, ws_closed;
static struct ws_conn *conns[CONNS_MAX]; /* open, as the server sees them */
static struct bytes backlog;             /* what a slow reader has not been sent yet */
static size_t frame_at[N_FRAMES + 1], n_frames, backlog_at; /* its frames; the next to send */
static int adopt_status;

/* --- The server: every message comes back in a frame of its own
 * ------------------------------------------------ */

static int on_opened(void *data, struct ws_conn *c, const char *protocol)
{
    (void)data;
    if (strcmp(protocol, "refused") == 0) {
        return -1;
    }
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        if (conns[i] == NULL) {
            conns[i] = c;
            break;
        }
    }
    n_open++;
    static const uint8_t hello[] = "\x81\x05hello";
    return ws_send_raw(c, hello, 7) ? 0 : -1;
}

static void on_message(void *data, struct ws_conn *c, const uint8_t *text, size_t n, bool binary)
{
    (void)data;
    uint8_t frame[10 + MESSAGE_MAX];
    size_t head = ws_frame_header(frame, n, !binary);
    if (n == 5 && memcmp(text, "close", 5) == 0) {
        ws_close(c, 4000, "as asked");
        return;
    }
    memcpy(frame + head, text, n);
    assert_false(ws_blocked(c));
    assert_true(ws_send_raw(c, frame, head + n));
}

/* A few whole frames at a time. */
static void push_backlog(struct ws_conn *c)
{
    while (backlog_at < n_frames && !ws_blocked(c)) {
        size_t to = backlog_at + 20 < n_frames ? backlog_at + 20 : n_frames;
        assert_true(ws_send_raw(c, backlog.data + frame_at[backlog_at],
                                frame_at[to] - frame_at[backlog_at]));
        backlog_at = to;
    }
    if (backlog_at < n_frames) {
        ws_want_write(c);
    }
}

static void on_writable(void *data, struct ws_conn *c)
{
    (void)data;
    push_backlog(c);
}

static void on_ws_closed(void *data, struct ws_conn *c)
{
    (void)data;
    n_closed++;
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        if (conns[i] == c) {
            conns[i] = NULL;
        }
    }
}

static void on_stream(void *data, struct env_stream *stream, const uint8_t *head, size_t n)
{
    (void)data;
    adopt_status = ws_server_adopt(ws, stream, head, n, NULL);
}

static void on_request(void *data, struct http_exchange *ex)
{
    http_hand_over(ex, on_stream, data);
}

static void on_done(void *data)
{
    *(bool *)data = true;
}

static int setup(void **state)
{
    (void)state;
    static const char *const protocols[] = {"one", "two", "refused"};
    static const struct ws_options options = {.protocols = protocols,
                                              .n_protocols = 3,
                                              .message_max = MESSAGE_MAX,
                                              .ping_interval_ms = 600000,
                                              .connections_max = CONNS_MAX};
    static const struct ws_events events = {.user_size = 64,
                                            .opened = on_opened,
                                            .message = on_message,
                                            .writable = on_writable,
                                            .closed = on_ws_closed};
    static const struct http_route route = {.method = "GET", .path = "/ws", .handler = on_request};
    n_closed = n_open = 0;
    http_closed = ws_closed = false;
    backlog_at = n_frames = 0;
    memset(conns, 0, sizeof(conns));
    bytes_init(&backlog, 64 << 20);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, NULL), 0);
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &http, NULL), 0);
    assert_int_equal(http_server_route(http, &route), 0);
    assert_int_equal(ws_server_new(env, &options, &events, &ws, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ws_server_close(ws, on_done, &ws_closed);
    http_server_close(http, on_done, &http_closed);
    RUN_UNTIL(ws_closed && http_closed);
    assert_int_equal(n_closed, n_open);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    bytes_close(&backlog);
    return 0;
}

/* --- The client
 * ---------------------------------------------------------------------------------------------------
 */

struct client {
    struct env_stream *stream;
    struct env_send send;
    struct bytes got;
    size_t at; /* of the next frame in got */
    bool connected, ended, sent, silent;
};

static void client_on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct client *c = env_stream_data(stream);
    if (status < 0) {
        c->ended = true;
        return;
    }
    bytes_put(&c->got, data, n);
    assert_int_equal(bytes_error(&c->got), 0);
}

static void client_on_connect(struct env_stream *stream, int status)
{
    struct client *c = env_stream_data(stream);
    assert_int_equal(status, 0);
    c->connected = true;
}

static void client_on_sent(struct env_send *send, int status)
{
    struct client *c = send->data;
    (void)status;
    c->sent = true;
}

static void client_send(struct client *c, const void *data, size_t n)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    c->sent = false;
    c->send.data = c;
    env_stream_send(c->stream, &c->send, &iov, 1, client_on_sent);
    RUN_UNTIL(c->sent);
}

/* A masked frame; the mask is all 'M'. */
static void put_frame(struct bytes *out, uint8_t first, const void *payload, size_t n)
{
    uint8_t head[14];
    size_t len = ws_frame_header(head, n, true);
    head[0] = first;
    head[1] |= 0x80;
    bytes_put(out, head, len);
    bytes_put(out, "MMMM", 4);
    for (size_t i = 0; i < n; i++) {
        bytes_put_u8(out, ((const uint8_t *)payload)[i] ^ 'M');
    }
}

static void client_frame(struct client *c, uint8_t first, const void *payload, size_t n)
{
    struct bytes out;
    bytes_init(&out, 1 << 20);
    put_frame(&out, first, payload, n);
    client_send(c, out.data, out.len);
    bytes_close(&out);
}

static void client_connect(struct client *c)
{
    *c = (struct client){0};
    bytes_init(&c->got, 64 << 20);
    assert_int_equal(env_connect(env, "127.0.0.1", http_server_port(http), client_on_connect, c,
                                 &c->stream, NULL),
                     0);
    RUN_UNTIL(c->connected);
}

#define REQUEST                                                                                    \
    "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"     \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

static const char *find_end(const struct client *c)
{
    return c->got.len == 0 ? NULL : memmem(c->got.data, c->got.len, "\r\n\r\n", 4);
}

/* Handshake with `more` fields and bytes behind it. */
static void client_open(struct client *c, const char *fields, const void *more, size_t n_more)
{
    struct bytes out;
    bytes_init(&out, 1 << 20);
    bytes_printf(&out, REQUEST "%s\r\n", fields);
    bytes_put(&out, more, n_more);
    client_connect(c);
    env_stream_read_start(c->stream, client_on_read);
    client_send(c, out.data, out.len);
    bytes_close(&out);
    RUN_UNTIL(find_end(c) != NULL || c->ended);
    if (find_end(c) != NULL) {
        c->at = (size_t)((const uint8_t *)find_end(c) - c->got.data) + 4;
    }
}

/* The next frame, or false when the connection ended. */
static bool client_next(struct client *c, uint8_t *ret_first, const uint8_t **ret_payload,
                        size_t *ret_n)
{
    for (;;) {
        size_t have = c->got.len - c->at, head = 2;
        const uint8_t *p = c->got.data + c->at;
        uint64_t n = have >= 2 ? p[1] : 0;
        if (n == 126 && have >= 4) {
            n = load_be16(p + 2);
            head = 4;
        } else if (n == 127 && have >= 10) {
            n = load_be64(p + 2);
            head = 10;
        } else if (n > 125) {
            have = 0;
        }
        if (have >= head + n && have >= 2) {
            *ret_first = p[0];
            *ret_payload = p + head;
            *ret_n = (size_t)n;
            c->at += head + (size_t)n;
            return true;
        }
        if (c->ended) {
            return false;
        }
        size_t before = c->got.len;
        RUN_UNTIL(c->got.len > before || c->ended);
    }
}

static void expect(struct client *c, uint8_t first, const void *payload, size_t n)
{
    uint8_t got_first = 0;
    const uint8_t *got = NULL;
    size_t got_n = 0;
    assert_true(client_next(c, &got_first, &got, &got_n));
    assert_int_equal(got_first, first);
    assert_int_equal(got_n, n);
    assert_memory_equal(got, payload, n);
}

static void client_close(struct client *c)
{
    env_stream_close(c->stream, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    bytes_close(&c->got);
}

static void open_plain(struct client *c)
{
    client_open(c, "Sec-WebSocket-Protocol: two\r\n", "", 0);
    expect(c, 0x81, "hello", 5);
}

/* --- Tests
 * --------------------------------------------------------------------------------------------------------
 */

static void handshake__answers_key_and_first_known_protocol(void **state)
{
    (void)state;
    struct client c;
    client_open(&c,
                "Sec-WebSocket-Protocol: none, two, one\r\n"
                "Sec-WebSocket-Extensions: permessage-deflate\r\n",
                "", 0);
    bytes_put_u8(&c.got, 0);
    c.got.len--;
    const char *head = (const char *)c.got.data;
    assert_non_null(strstr(head, "HTTP/1.1 101 "));
    assert_non_null(strcasestr(head, "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_non_null(strcasestr(head, "sec-websocket-protocol: two\r\n"));
    assert_null(strstr(head, "permessage"));
    expect(&c, 0x81, "hello", 5);
    client_close(&c);
}

static void handshake__takes_frames_sent_right_behind_it(void **state)
{
    (void)state;
    struct client c;
    struct bytes more;
    bytes_init(&more, 1 << 20);
    put_frame(&more, 0x81, "early", 5);
    put_frame(&more, 0x89, "ping", 4);
    put_frame(&more, 0x81, "bird", 4);
    client_open(&c, "", more.data, more.len);
    expect(&c, 0x81, "hello", 5);
    expect(&c, 0x81, "early", 5);
    uint8_t first[2];
    const uint8_t *payload;
    size_t n;
    for (int i = 0; i < 2; i++) { /* a pong may come behind the next message */
        assert_true(client_next(&c, &first[i], &payload, &n));
        assert_int_equal(n, 4);
    }
    assert_int_equal(first[0] ^ first[1], 0x8a ^ 0x81);
    bytes_close(&more);
    client_close(&c);
}

static void handshake__ends_what_is_no_websocket(void **state)
{
    (void)state;
    struct client c;
    client_connect(&c);
    env_stream_read_start(c.stream, client_on_read);
    static const char request[] =
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    client_send(&c, request, sizeof(request) - 1);
    RUN_UNTIL(c.ended);
    assert_int_equal(c.got.len, 0);
    client_close(&c);
    client_open(&c, "Sec-WebSocket-Protocol: none\r\n", "", 0);
    assert_true(c.ended);
    client_close(&c);
    client_open(&c, "Sec-WebSocket-Protocol: refused\r\n", "", 0);
    RUN_UNTIL(c.ended);
    client_close(&c);
    assert_int_equal(n_open, 0);
}

static void handshake_error__names_what_is_missing(void **state)
{
    (void)state;
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";
    assert_null(ws_handshake_error("WebSocket", key, "13"));
    assert_non_null(strstr(ws_handshake_error(NULL, key, "13"), "Upgrade"));
    assert_non_null(strstr(ws_handshake_error("websocket", "x", "13"), "Key"));
    assert_non_null(strstr(ws_handshake_error("websocket", key, "8"), "Version"));
    assert_true(ws_protocol_offered("a, weir.chat.v1", "weir.chat.v1"));
    assert_false(ws_protocol_offered("weir.chat.v11", "weir.chat.v1"));
    assert_false(ws_protocol_offered(NULL, "weir.chat.v1"));
}

static void messages__come_whole_however_they_are_cut(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 127, 255, 256, 257, 65535, 65536, MESSAGE_MAX};
    static uint8_t data[MESSAGE_MAX];
    struct client c;
    open_plain(&c);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        client_frame(&c, 0x82, data, sizes[i]);
        expect(&c, 0x82, data, sizes[i]);
    }
    client_frame(&c, 0x01, "aa", 2);
    client_frame(&c, 0x89, "mid", 3);
    client_frame(&c, 0x00, "bb", 2);
    client_frame(&c, 0x80, "cc", 2);
    expect(&c, 0x8a, "mid", 3);
    expect(&c, 0x81, "aabbcc", 6);
    struct bytes out;
    bytes_init(&out, 1000);
    put_frame(&out, 0x81, "bytewise", 8);
    for (size_t i = 0; i < out.len; i++) {
        client_send(&c, out.data + i, 1);
    }
    expect(&c, 0x81, "bytewise", 8);
    bytes_close(&out);
    client_close(&c);
}

static void message__above_the_limit_closes_with_1009(void **state)
{
    (void)state;
    static uint8_t data[MESSAGE_MAX + 1];
    struct client c;
    open_plain(&c);
    client_frame(&c, 0x82, data, sizeof(data));
    expect(&c, 0x88, "\x03\xf1message too big", 17);
    client_close(&c);
}

static void close__is_answered_and_nothing_follows(void **state)
{
    (void)state;
    struct client c;
    open_plain(&c);
    client_frame(&c, 0x88, "\x03\xe8", 2);
    expect(&c, 0x88, "\x03\xe8", 2);
    uint8_t first;
    const uint8_t *payload;
    size_t n;
    assert_false(client_next(&c, &first, &payload, &n));
    RUN_UNTIL(n_closed == 1);
    client_close(&c);
    open_plain(&c);
    client_frame(&c, 0x81, "close", 5);
    expect(&c, 0x88,
           "\x0f\xa0"
           "as asked",
           10);
    client_close(&c);
    RUN_UNTIL(n_closed == 2);
    open_plain(&c); /* and from outside the connection's callbacks */
    ws_close(conns[0], 4001, "going away");
    assert_true(ws_blocked(conns[0]));
    expect(&c, 0x88,
           "\x0f\xa1"
           "going away",
           12);
    client_frame(&c, 0x88, "\x0f\xa1", 2);
    RUN_UNTIL(n_closed == 3);
    client_close(&c);
}

static void protocol_errors__close_the_connection(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\xc1\x80MMMM", 6},         /* reserved bit */
        {"\x83\x80MMMM", 6},         /* opcode 3 */
        {"\x09\x80MMMM", 6},         /* fragmented control frame */
        {"\x89\xfe\x00\x80MMMM", 8}, /* long control frame */
        {"\x80\x80MMMM", 6},         /* continuation of nothing */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c;
        open_plain(&c);
        client_send(&c, cases[i].bytes, cases[i].n);
        uint8_t first;
        const uint8_t *payload;
        size_t n;
        while (client_next(&c, &first, &payload, &n)) {
            assert_int_equal(first, 0x88);
        }
        client_close(&c);
    }
    RUN_UNTIL(n_closed == n_open);
}

/* A pong must not split a frame of which the socket took a part. */
static void slow_reader__gets_every_frame_whole_and_in_order(void **state)
{
    (void)state;
    static uint8_t payload[8000];
    struct client c;
    open_plain(&c);
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        uint8_t head[10];
        size_t n = 500 + i % 7000;
        memset(payload, (int)('a' + i % 26), n);
        store_le32(payload, i);
        bytes_put(&backlog, head, ws_frame_header(head, n, false));
        bytes_put(&backlog, payload, n);
        frame_at[++n_frames] = backlog.len;
    }
    env_stream_read_stop(c.stream);
    push_backlog(conns[0]);
    assert_true(ws_blocked(conns[0]));
    for (int i = 0; i < 20; i++) {
        client_frame(&c, 0x89, "ping", 4);
    }
    env_stream_read_start(c.stream, client_on_read);
    uint32_t seen = 0, pongs = 0;
    while (seen < N_FRAMES) {
        uint8_t first;
        const uint8_t *got;
        size_t n;
        assert_true(client_next(&c, &first, &got, &n));
        if (first == 0x8a) {
            pongs++;
            assert_int_equal(n, 4);
            continue;
        }
        assert_int_equal(first, 0x82);
        assert_int_equal(n, 500 + seen % 7000);
        assert_int_equal(load_le32(got), seen);
        assert_int_equal(got[n - 1], 'a' + seen % 26);
        seen++;
    }
    assert_true(pongs > 0);
    client_close(&c);
}

static void server__refuses_more_than_connections_max(void **state)
{
    (void)state;
    struct client c[CONNS_MAX + 1];
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        open_plain(&c[i]);
    }
    assert_int_equal(ws_server_count(ws), CONNS_MAX);
    client_open(&c[CONNS_MAX], "", "", 0);
    RUN_UNTIL(c[CONNS_MAX].ended);
    assert_int_equal(adopt_status, WEIR_EBUSY);
    for (unsigned i = 0; i <= CONNS_MAX; i++) {
        client_close(&c[i]);
    }
    RUN_UNTIL(ws_server_count(ws) == 0);
}

static void server__closes_with_connections_open(void **state)
{
    (void)state;
    struct client c[2];
    open_plain(&c[0]);
    open_plain(&c[1]);
    ws_server_close(ws, on_done, &ws_closed);
    RUN_UNTIL(ws_closed);
    assert_int_equal(n_closed, 2);
    RUN_UNTIL(c[0].ended && c[1].ended);
    client_close(&c[0]);
    client_close(&c[1]);
    static const char *const protocols[] = {"one"};
    static const struct ws_options options = {
        .protocols = protocols, .n_protocols = 1, .message_max = 10, .connections_max = 1};
    static const struct ws_events events = {.opened = on_opened, .closed = on_ws_closed};
    ws_closed = false;
    assert_int_equal(ws_server_new(env, &options, &events, &ws, NULL), 0); /* for teardown */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(handshake__answers_key_and_first_known_protocol),
        TEST(handshake__takes_frames_sent_right_behind_it),
        TEST(handshake__ends_what_is_no_websocket),
        cmocka_unit_test(handshake_error__names_what_is_missing),
        TEST(messages__come_whole_however_they_are_cut),
        TEST(message__above_the_limit_closes_with_1009),
        TEST(close__is_answered_and_nothing_follows),
        TEST(protocol_errors__close_the_connection),
        TEST(slow_reader__gets_every_frame_whole_and_in_order),
        TEST(server__refuses_more_than_connections_max),
        TEST(server__closes_with_connections_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
