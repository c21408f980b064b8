/* What the tests of HTTP share: a loop with a server and its routes, a client that sends raw bytes,
 * and the handlers. Included by one test program: its state is static. With HTTP_OVER_TLS all of it
 * goes over net/tls.h. */
#ifndef TESTS_UNIT_NET_HTTP_FIXTURE_H
#define TESTS_UNIT_NET_HTTP_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "../run_until.h"
#include "base/env_uv.h"
#include "net/http.h"
#include "net/tls.h"
#include "net/tls_certs.h"

#define BIG (3u << 20)

static uv_loop_t loop;
static struct env *env, *sockets;
static struct tls_net *tls; /* NULL: plain */
static struct http_server *server;
static struct http_client *client;
static struct http_exchange *waiting; /* of /wait */
static unsigned aborted;
static bool server_closed;
static struct http_body *big;

/* --- A client that says what it is told, byte for byte
 * ---------------------------------------------------------- */

struct raw {
    struct env_stream *stream;
    struct env_send send;
    struct bytes got;
    bool connected, ended, sent;
};

static void raw_on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct raw *r = env_stream_data(stream);
    if (status < 0) {
        r->ended = true;
        return;
    }
    bytes_put(&r->got, data, n);
    bytes_put_u8(&r->got, 0); /* always a string */
    r->got.len--;
}

static void raw_on_connect(struct env_stream *stream, int status)
{
    struct raw *r = env_stream_data(stream);
    assert_int_equal(status, 0);
    r->connected = true;
    env_stream_read_start(stream, raw_on_read);
}

static void raw_open(struct raw *r)
{
    *r = (struct raw){0};
    bytes_init(&r->got, 64 << 20);
    assert_int_equal(env_connect(sockets, "127.0.0.1", http_server_port(server), raw_on_connect, r,
                                 &r->stream, NULL),
                     0);
    RUN_UNTIL(r->connected);
}

static void raw_on_sent(struct env_send *send, int status)
{
    struct raw *r = send->data;
    (void)status;
    r->sent = true;
}

static void raw_send_bytes(struct raw *r, const void *data, size_t n)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    r->sent = false;
    r->send.data = r;
    env_stream_send(r->stream, &r->send, &iov, 1, raw_on_sent);
    RUN_UNTIL(r->sent);
}

static void raw_send(struct raw *r, const char *text)
{
    raw_send_bytes(r, text, strlen(text));
}

static unsigned count(const struct raw *r, const char *what)
{
    unsigned n = 0;
    for (const char *p = (const char *)r->got.data; p != NULL && (p = strstr(p, what)) != NULL;
         p++) {
        n++;
    }
    return n;
}

static void raw_close(struct raw *r)
{
    env_stream_close(r->stream, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    bytes_close(&r->got);
}

/* Sends and waits until `what` has come. */
static void raw_expect(struct raw *r, const char *request, const char *what)
{
    raw_send(r, request);
    RUN_UNTIL(count(r, what) > 0);
}

/* --- Handlers
 * -----------------------------------------------------------------------------------------------------
 */

static void on_hello(void *data, struct http_exchange *ex)
{
    (void)data;
    const char *name = http_query(ex, "name");
    http_respond_text(ex, 200, "hello %s", name != NULL ? name : "nobody");
}

static void on_echo(void *data, struct http_exchange *ex)
{
    (void)data;
    size_t n;
    const uint8_t *body = http_request_body(ex, &n);
    http_respond(ex, 200, "application/octet-stream", "X-Echo: 1\r\n", http_body_copy(body, n));
}

static bool admit_friends(void *data, struct http_exchange *ex)
{
    (void)data;
    if (http_header(ex, "X-Friend") != NULL) {
        return true;
    }
    http_respond_text(ex, 401, "strangers' bodies are not read");
    return false;
}

static void on_wait(void *data, struct http_exchange *ex)
{
    (void)data;
    waiting = ex;
}

static void on_aborted(void *data, struct http_exchange *ex)
{
    (void)data;
    (void)ex;
    aborted++;
}

static void on_wait_abortable(void *data, struct http_exchange *ex)
{
    waiting = ex;
    http_on_abort(ex, on_aborted, data);
}

static void on_big(void *data, struct http_exchange *ex)
{
    (void)data;
    http_respond(ex, 200, "video/mp4", "", http_body_ref(big));
}

/* What the handed over stream brought. */
static struct env_stream *upgraded;
static char early[1024];

static void on_stream(void *data, struct env_stream *stream, const uint8_t *bytes, size_t n)
{
    (void)data;
    assert_true(n < sizeof(early));
    if (n > 0) {
        memcpy(early, bytes, n);
    }
    early[n] = '\0';
    upgraded = stream;
}

static void on_upgrade(void *data, struct http_exchange *ex)
{
    http_upgrade(ex, "Upgrade: test\r\nConnection: Upgrade\r\n", on_stream, data);
}

static void on_hand_over(void *data, struct http_exchange *ex)
{
    http_hand_over(ex, on_stream, data);
}

static void on_closed(void *data)
{
    (void)data;
    server_closed = true;
}

#ifdef HTTP_OVER_TLS
static void sockets_open(void)
{
    static const char *const names[] = {"ca.pem", "ca.key", "n1.pem", "n1.key"};
    char dir[] = "/tmp/weir-http-XXXXXX", files[4][64];
    const struct tls_cert_node node = {.name = "n1", .hosts = {"127.0.0.1"}, .n_hosts = 1};
    bool made;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(tls_certs_authority(dir, 30, &made, NULL), 0);
    assert_int_equal(tls_certs_node(dir, &node, 30, NULL), 0);
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(files[i], sizeof(files[i]), "%s/%s", dir, names[i]);
    }
    const struct tls_files own = {files[0], files[2], files[3]};
    assert_int_equal(tls_net_new(env, &own, &tls, NULL), 0);
    for (unsigned i = 0; i < 4; i++) {
        (void)unlink(files[i]);
    }
    (void)rmdir(dir);
    sockets = tls_net_env(tls);
}
#else
static void sockets_open(void)
{
    sockets = env;
}
#endif

static int setup(void **state)
{
    (void)state;
    static const struct http_route routes[] = {
        {.method = "GET", .path = "/hello", .handler = on_hello},
        {.method = "POST", .path = "/echo", .body_max = 100000, .handler = on_echo},
        {.method = "PUT", .path = "/echo", .body_max = BIG, .handler = on_echo},
        {.method = "PUT",
         .path = "/friends",
         .body_max = 100,
         .handler = on_echo,
         .admit = admit_friends},
        {.method = "GET", .path = "/wait", .handler = on_wait},
        {.method = "GET", .path = "/wait/", .prefix = true, .handler = on_wait_abortable},
        {.method = "GET", .path = "/big", .handler = on_big},
        {.method = "GET", .path = "/upgrade", .handler = on_upgrade},
        {.method = "GET", .path = "/handover", .handler = on_hand_over},
    };
    aborted = 0;
    waiting = NULL;
    upgraded = NULL;
    server_closed = false;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, NULL), 0);
    sockets_open();
    assert_int_equal(http_server_new_over(env, sockets, "127.0.0.1", 0, &server, NULL), 0);
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        assert_int_equal(http_server_route(server, &routes[i]), 0);
    }
    assert_int_equal(http_server_route(server, &routes[0]), WEIR_EEXISTS);
    assert_int_equal(http_client_new_over(env, sockets, &client, NULL), 0);
    uint8_t *data = malloc(BIG);
    assert_non_null(data);
    memset(data, 'b', BIG);
    big = http_body_new(data, BIG);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(client);
    http_server_close(server, on_closed, NULL);
    RUN_UNTIL(server_closed);
    assert_int_equal(big->refs, 1);
    http_body_unref(big);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    tls_net_free(tls);
    tls = NULL;
    return 0;
}

#endif
