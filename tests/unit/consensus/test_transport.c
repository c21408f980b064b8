/* Links against wrong secrets, strangers and garbage; and what groups are told of links. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/logging.h"
#include "cluster.h"
#include "consensus/message.h"
#include "proto/frame.h"

static struct cluster c;

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

/* --- A stranger at the door --- */

struct stranger {
    struct env *env;
    struct env_stream *stream;
    struct env_send send;
    struct bytes out;
    bool connected, ended, closed;
    size_t received;
};
static struct stranger x;

static void stranger_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    (void)stream;
    (void)data;
    x.received += n;
    x.ended = x.ended || status < 0;
}

static void stranger_connected(struct env_stream *stream, int status)
{
    assert_int_equal(status, 0);
    x.connected = true;
    env_stream_read_start(stream, stranger_read);
}

static void stranger_sent(struct env_send *send, int status)
{
    (void)send;
    (void)status;
}

static void stranger_closed(void *data)
{
    (void)data;
    x.closed = true;
}

static bool is_connected(struct cluster *cl)
{
    (void)cl;
    return x.connected;
}

static bool has_ended(struct cluster *cl)
{
    (void)cl;
    return x.ended;
}

static bool has_closed(struct cluster *cl)
{
    (void)cl;
    return x.closed;
}

/* Sends these bytes to node 3 and waits for it to hang up. */
static void says(const void *data, size_t len)
{
    struct error err;
    memset(&x, 0, sizeof(x));
    assert_int_equal(env_uv_new(&c.loop, &x.env, &err), 0);
    assert_int_equal(
        env_connect(x.env, "127.0.0.1", c.nodes[3].port, stranger_connected, NULL, &x.stream, &err),
        0);
    assert_true(cluster_run_until(&c, is_connected));
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    env_stream_send(x.stream, &x.send, &iov, 1, stranger_sent);
    assert_true(cluster_run_until(&c, has_ended));
    env_stream_close(x.stream, stranger_closed, NULL);
    assert_true(cluster_run_until(&c, has_closed));
    env_uv_free(x.env);
}

static void assert_cluster_lives(void)
{
    cluster_await_leader(&c);
    unsigned acked = c.acked;
    cluster_propose_many(&c, 5, 1, 10);
    assert_int_equal(c.acked, acked + 5);
    assert_true(transport_connected(c.nodes[3].transport, 1));
}

static void garbage__closes_the_link_and_nothing_else(void **state)
{
    (void)state;
    uint8_t noise[4096];
    uint32_t seed = 1;
    log_set_level(LOG_ERROR);
    cluster_start_all(&c);
    cluster_await_leader(&c);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof(noise); i++) {
            seed = seed * 1103515245 + 12345;
            noise[i] = (uint8_t)(seed >> 16);
        }
        says(noise, sizeof(noise));
        assert_int_equal(x.received, 0);
    }
    says("GET / HTTP/1.1\r\nHost: weir\r\n\r\n", 30);
    assert_cluster_lives();
}

/* A frame of the peer protocol: prefix and body. */
static void put_frame(struct bytes *out, uint16_t type, uint32_t group, const void *body,
                      size_t len)
{
    struct bytes head;
    bytes_init(&head, 1 << 20);
    bytes_put_le32(&head, group);
    bytes_put_le64(&head, 42);
    bytes_put(&head, body, len);
    struct frame f = {.type = type, .head = head.data, .head_len = (uint32_t)head.len};
    frame_put(out, &f);
    bytes_close(&head);
}

static void strangers__get_no_further_than_hello(void **state)
{
    (void)state;
    struct bytes out;
    uint8_t body[400] = {0};
    bytes_init(&out, 1 << 20);
    cluster_start_all(&c);
    cluster_await_leader(&c);
    /* A message for a group before any proof. */
    put_frame(&out, PEER_VOTE, 7, body, 34);
    says(out.data, out.len);
    assert_int_equal(x.received, 0);
    /* Another version, another cluster. */
    bytes_reset(&out);
    store_le32(body, 2);
    put_frame(&out, PEER_HELLO, 0, body, 52);
    says(out.data, out.len);
    assert_int_equal(x.received, 0);
    bytes_reset(&out);
    store_le32(body, 1);
    put_frame(&out, PEER_HELLO, 0, body, 52);
    says(out.data, out.len);
    assert_int_equal(x.received, 0);
    /* A proof out of order; a frame larger than any hello. */
    bytes_reset(&out);
    put_frame(&out, PEER_PROOF, 0, body, 32);
    says(out.data, out.len);
    bytes_reset(&out);
    put_frame(&out, PEER_HELLO, 0, (uint8_t[600]){0}, 600);
    says(out.data, out.len);
    assert_int_equal(x.received, 0);
    bytes_close(&out);
    assert_cluster_lives();
}

/* Node 2 keeps trying meanwhile; more than a hundred turns is many tries. */
static bool many_turns_passed(struct cluster *cl)
{
    static unsigned turns;
    (void)cl;
    return ++turns % 500 == 0;
}

static void a_wrong_secret__keeps_a_node_out(void **state)
{
    (void)state;
    c.secret[2] = "another secret";
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    assert_true(leader != 2);
    cluster_propose_many(&c, 20, 1, 10);
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_connected(c.nodes[2].transport, 1));
    assert_false(transport_connected(c.nodes[2].transport, 3));
    assert_int_equal(partition_last_index(group_partition(c.nodes[2].group)).v, 1);
    cluster_stop(&c, 2);
    c.secret[2] = c.secret[1];
    struct error err;
    assert_int_equal(cluster_start(&c, 2, &err), 0);
    cluster_await_equal(&c);
}

static void an_occupied_port__is_named(void **state)
{
    (void)state;
    struct error err;
    struct transport *t = NULL;
    cluster_start_all(&c);
    struct transport_options o = {
        .self_id = 4,
        .listen_host = "127.0.0.1",
        .listen_port = c.nodes[3].port,
        .secret = "s",
        .queue_bytes_max = 1 << 20,
    };
    assert_int_equal(transport_new(c.nodes[3].env, &o, &t, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, "127.0.0.1"));
    assert_null(t);
}

static void transport_send__is_refused_without_a_link_or_room(void **state)
{
    (void)state;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    static uint8_t big[1 << 20];
    struct iovec iov = {.iov_base = big, .iov_len = sizeof(big)};
    struct transport_message m = {
        .peer_id = 9, .group_id = 99, .type = PEER_PING, .attachment = &iov, .n_attachment = 1};
    assert_int_equal(transport_send(c.nodes[3].transport, &m), WEIR_ECLOSED);
    cluster_await_equal(&c);
    m.peer_id = 1;
    int rv = 0;
    unsigned sent = 0;
    while ((rv = transport_send(c.nodes[3].transport, &m)) == 0) {
        sent++;
    }
    assert_int_equal(rv, WEIR_EBUSY);
    assert_true(sent >= 63 && sent <= 65);
    /* The small ones still go: votes must not starve behind entries. */
    m.n_attachment = 0;
    assert_int_equal(transport_send(c.nodes[3].transport, &m), 0);
    assert_cluster_lives();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(garbage__closes_the_link_and_nothing_else),
        TEST(strangers__get_no_further_than_hello),
        TEST(a_wrong_secret__keeps_a_node_out),
        TEST(an_occupied_port__is_named),
        TEST(transport_send__is_refused_without_a_link_or_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
