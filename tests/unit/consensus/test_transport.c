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
#include "consensus/transport_impl.h"
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
    /* Another version, another node. */
    bytes_reset(&out);
    store_le32(body, 1);
    put_frame(&out, PEER_HELLO, 0, body, 60);
    says(out.data, out.len);
    assert_int_equal(x.received, 0);
    bytes_reset(&out);
    store_le32(body, 2);
    put_frame(&out, PEER_HELLO, 0, body, 60);
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
    struct error err;
    cluster_start_all(&c); /* founded by all three */
    cluster_await_leader(&c);
    cluster_await_equal(&c);
    cluster_stop(&c, 2);
    c.secret[2] = "another secret";
    assert_int_equal(cluster_start(&c, 2, &err), 0);
    uint64_t last = partition_last_index(group_partition(c.nodes[2].group)).v;
    uint32_t leader = cluster_await_leader(&c);
    assert_true(leader != 2);
    cluster_propose_many(&c, 20, 1, 10);
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_connected(c.nodes[2].transport, 1));
    assert_false(transport_connected(c.nodes[2].transport, 3));
    assert_int_equal(partition_last_index(group_partition(c.nodes[2].group)).v, last);
    cluster_stop(&c, 2);
    c.secret[2] = c.secret[1];
    assert_int_equal(cluster_start(&c, 2, &err), 0);
    cluster_await_equal(&c);
}

static void a_node_with_other_shards__is_kept_out(void **state)
{
    static const unsigned wrong[][2] = {{2, 0}, {1, 1}};
    (void)state;
    struct error err;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_await_equal(&c);
    for (unsigned i = 0; i < 2; i++) {
        cluster_stop(&c, 2);
        c.n_shards[2] = wrong[i][0];
        c.shard[2] = wrong[i][1];
        assert_int_equal(cluster_start(&c, 2, &err), 0);
        assert_true(cluster_run_until(&c, many_turns_passed));
        assert_false(transport_connected(c.nodes[2].transport, 1));
        assert_false(transport_connected(c.nodes[3].transport, 2));
    }
    cluster_stop(&c, 2);
    c.n_shards[2] = 1;
    c.shard[2] = 0;
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

/* --- Peers that come and go --- */

static bool all_know_the_cluster(struct cluster *cl)
{
    return transport_cluster(cl->nodes[1].transport) == 77 &&
           transport_cluster(cl->nodes[2].transport) == 77 &&
           transport_cluster(cl->nodes[3].transport) == 77;
}

static void the_cluster_id__is_learned_and_refuses_another_one(void **state)
{
    (void)state;
    struct error err;
    c.cluster_id[3] = 77;
    cluster_start_all(&c);
    assert_true(cluster_run_until(&c, all_know_the_cluster));
    cluster_await_leader(&c);
    cluster_await_equal(&c);
    cluster_stop(&c, 2);
    c.cluster_id[2] = 78;
    assert_int_equal(cluster_start(&c, 2, &err), 0);
    cluster_propose_many(&c, 20, 1, 10);
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_connected(c.nodes[2].transport, 3));
    assert_int_equal(transport_set_cluster(c.nodes[2].transport, 77), WEIR_EEXISTS);
    assert_int_equal(transport_cluster(c.nodes[3].transport), 77);
}

static bool two_is_gone(struct cluster *cl)
{
    return !transport_connected(cl->nodes[1].transport, 2) &&
           !transport_connected(cl->nodes[3].transport, 2);
}

static bool two_is_back(struct cluster *cl)
{
    return transport_connected(cl->nodes[1].transport, 2) &&
           transport_connected(cl->nodes[3].transport, 2);
}

static void add_two(uint32_t at, uint16_t port)
{
    struct transport_peer two = {.id = 2, .name = "n2", .host = "127.0.0.1", .port = port};
    struct error err;
    assert_int_equal(transport_add_peer(c.nodes[at].transport, &two, &err), 0);
}

static void a_removed_peer__is_refused_until_it_is_added_again(void **state)
{
    (void)state;
    cluster_start_all(&c);
    cluster_await_equal(&c);
    transport_remove_peer(c.nodes[1].transport, 2);
    transport_remove_peer(c.nodes[3].transport, 2);
    transport_remove_peer(c.nodes[3].transport, 2);
    assert_true(cluster_run_until(&c, two_is_gone));
    cluster_propose_many(&c, 20, 1, 10);
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_true(two_is_gone(&c));
    add_two(1, c.nodes[2].port);
    add_two(3, c.nodes[2].port);
    assert_true(cluster_run_until(&c, two_is_back));
    cluster_await_equal(&c);
}

static void a_moved_peer__is_dialled_at_its_new_address(void **state)
{
    (void)state;
    cluster_start_all(&c);
    cluster_await_equal(&c);
    uint16_t port = c.nodes[2].port;
    add_two(1, c.nodes[3].port); /* somebody else lives there */
    assert_false(transport_connected(c.nodes[1].transport, 2));
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_connected(c.nodes[1].transport, 2));
    add_two(1, port);
    assert_true(cluster_run_until(&c, two_is_back));
    cluster_await_equal(&c);
}

static void transport_add_peer__refuses_what_can_not_be(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    struct transport *t = c.nodes[1].transport;
    struct transport_peer p = {.id = 1, .name = "n1", .host = "127.0.0.1", .port = 1};
    assert_int_equal(transport_add_peer(t, &p, &err), WEIR_EINVAL);
    p.id = 0;
    assert_int_equal(transport_add_peer(t, &p, &err), WEIR_EINVAL);
    for (p.id = 4; p.id < 4 + 13; p.id++) {
        assert_int_equal(transport_add_peer(t, &p, &err), 0);
    }
    assert_int_equal(transport_add_peer(t, &p, &err), WEIR_ETOOBIG);
    transport_remove_peer(t, 5);
    assert_int_equal(transport_add_peer(t, &p, &err), 0);
    assert_cluster_lives();
}

/* --- Who dials whom, and those that nobody told us of --- */

/* A node of its own beside the three of the cluster. */
struct extra {
    struct transport *transport;
    bool closed;
};
static struct extra a, b;

static void extra_open(struct extra *e, uint32_t id, uint64_t cluster_id,
                       const struct transport_peer *peers, unsigned n_peers)
{
    struct error err;
    struct transport_options o = {
        .self_id = id,
        .cluster_id = cluster_id,
        .joining = true,
        .listen_host = "127.0.0.1",
        .peers = peers,
        .n_peers = n_peers,
        .secret = c.secret[1],
        .queue_bytes_max = 1 << 20,
    };
    e->closed = false;
    assert_int_equal(transport_new(c.nodes[3].env, &o, &e->transport, &err), 0);
}

static bool extras_are_closed(struct cluster *cl)
{
    (void)cl;
    return a.closed && b.closed;
}

static void extra_closed(void *data)
{
    struct extra *e = data;
    e->closed = true;
}

static void extras_close(void)
{
    struct extra *extras[] = {&a, &b};
    for (int i = 0; i < 2; i++) {
        extras[i]->closed = extras[i]->transport == NULL;
        if (extras[i]->transport != NULL) {
            transport_close(extras[i]->transport, extra_closed, extras[i]);
            extras[i]->transport = NULL;
        }
    }
    assert_true(cluster_run_until(&c, extras_are_closed));
}

static struct transport_peer peer_at(uint32_t id, uint16_t port)
{
    return (struct transport_peer){.id = id, .name = "one", .host = "127.0.0.1", .port = port};
}

static bool one_and_three_meet(struct cluster *cl)
{
    return transport_connected(cl->nodes[1].transport, 3) &&
           transport_connected(cl->nodes[3].transport, 1);
}

static bool one_and_three_part(struct cluster *cl)
{
    return !transport_connected(cl->nodes[1].transport, 3) &&
           !transport_connected(cl->nodes[3].transport, 1);
}

static void a_peer_with_a_wrong_address_for_us__is_dialled(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    cluster_await_equal(&c);
    /* It looks for node 3 where node 2 lives. */
    struct transport_peer three = peer_at(3, c.nodes[2].port);
    struct transport_peer one = peer_at(1, c.nodes[1].port);
    assert_int_equal(transport_add_peer(c.nodes[3].transport, &one, &err), 0);
    assert_int_equal(transport_add_peer(c.nodes[1].transport, &three, &err), 0);
    assert_true(cluster_run_until(&c, one_and_three_part));
    assert_true(cluster_run_until(&c, one_and_three_meet));
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_true(one_and_three_meet(&c));
    assert_cluster_lives();
}

static bool guest_is_in(struct cluster *cl)
{
    return transport_connected(cl->nodes[1].transport, 4) && transport_connected(a.transport, 1);
}

static bool guest_is_out(struct cluster *cl)
{
    return !transport_connected(cl->nodes[1].transport, 4) && !transport_connected(a.transport, 1);
}

static void an_unknown_node_of_this_cluster__is_a_guest_until_it_is_removed(void **state)
{
    (void)state;
    struct error err;
    c.cluster_id[1] = c.cluster_id[2] = c.cluster_id[3] = 77;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    struct transport_peer one = peer_at(1, c.nodes[1].port);
    extra_open(&a, 4, 77, &one, 1); /* has the higher id: has to dial all the same */
    assert_true(cluster_run_until(&c, guest_is_in));
    /* Told of it, node 1 keeps the link it has. */
    struct peer *place = transport_peer(c.nodes[1].transport, 4);
    struct peer_link *link = place->link;
    assert_true(place->guest);
    struct transport_peer four = peer_at(4, transport_port(a.transport));
    assert_int_equal(transport_add_peer(c.nodes[1].transport, &four, &err), 0);
    assert_false(place->guest);
    assert_ptr_equal(place->link, link);
    transport_remove_peer(c.nodes[1].transport, 4);
    assert_true(cluster_run_until(&c, guest_is_out));
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_may_visit(c.nodes[1].transport, 4, 77));
    assert_true(guest_is_out(&c));
    assert_int_equal(transport_add_peer(c.nodes[1].transport, &four, &err), 0);
    assert_true(cluster_run_until(&c, guest_is_in));
    extras_close();
    assert_cluster_lives();
}

static void an_unknown_node__stays_out_without_the_cluster_id(void **state)
{
    (void)state;
    c.cluster_id[1] = c.cluster_id[2] = c.cluster_id[3] = 77;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    struct transport_peer three = peer_at(3, c.nodes[3].port);
    extra_open(&a, 2000, 0, &three, 1); /* to be added first */
    a.transport->peers[0].alone_ns = 0; /* dials at once, as all below */
    extra_open(&b, 2001, 78, &three, 1);
    b.transport->peers[0].alone_ns = 0;
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_connected(c.nodes[3].transport, 2000));
    assert_false(transport_connected(c.nodes[3].transport, 2001));
    assert_int_equal(transport_cluster(a.transport), 0);
    assert_false(transport_may_visit(c.nodes[3].transport, 2000, 0));
    assert_false(transport_may_visit(c.nodes[3].transport, 3, 77)); /* its own id */
    extras_close();
}

static bool enough_guests(struct cluster *cl)
{
    unsigned n = 0;
    for (uint32_t id = 101; id < 101 + TRANSPORT_GUESTS_MAX; id++) {
        n += transport_connected(cl->nodes[1].transport, id);
    }
    return n == TRANSPORT_GUESTS_MAX;
}

static void guests__are_few_and_leave_room_for_members(void **state)
{
    (void)state;
    struct error err;
    struct extra guests[TRANSPORT_GUESTS_MAX];
    c.cluster_id[1] = c.cluster_id[2] = c.cluster_id[3] = 77;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    struct transport *t = c.nodes[1].transport;
    struct transport_peer one = peer_at(1, c.nodes[1].port);
    for (unsigned i = 0; i < TRANSPORT_GUESTS_MAX; i++) {
        extra_open(&guests[i], 101 + i, 77, &one, 1);
        guests[i].transport->peers[0].alone_ns = 0;
    }
    assert_true(cluster_run_until(&c, enough_guests));
    extra_open(&b, 99, 77, &one, 1);
    b.transport->peers[0].alone_ns = 0;
    assert_true(cluster_run_until(&c, many_turns_passed));
    assert_false(transport_connected(t, 99));
    for (uint32_t id = 4; id < 4 + 13; id++) {
        struct transport_peer p = peer_at(id, 1);
        assert_int_equal(transport_add_peer(t, &p, &err), 0);
    }
    for (unsigned i = 0; i < TRANSPORT_GUESTS_MAX; i++) {
        a = guests[i];
        extras_close();
    }
    assert_false(transport_connected(t, 101));
    assert_cluster_lives();
}

static bool the_two_meet(struct cluster *cl)
{
    (void)cl;
    return transport_connected(a.transport, 9) && transport_connected(b.transport, 8);
}

static unsigned turns_to_go;

static bool turns_are_over(struct cluster *cl)
{
    (void)cl;
    return turns_to_go-- == 0;
}

static bool one_link_each(struct cluster *cl)
{
    return the_two_meet(cl) && a.transport->links.next->next == &a.transport->links &&
           b.transport->links.next->next == &b.transport->links;
}

static unsigned ups, downs;

static void count_links(void *data, uint32_t peer_id, bool up)
{
    (void)data;
    (void)peer_id;
    ups += up;
    downs += !up;
}

static void no_tick(void *data)
{
    (void)data;
}

static void two_that_dial_each_other__settle_on_one_link(void **state)
{
    (void)state;
    struct error err;
    struct transport_handler handler = {.link = count_links, .tick = no_tick};
    cluster_start(&c, 3, &err);
    for (unsigned round = 0; round < 12; round++) {
        extra_open(&b, 9, 77, NULL, 0);
        struct transport_peer nine = peer_at(9, transport_port(b.transport));
        extra_open(&a, 8, 77, &nine, 1);
        struct transport_peer eight = peer_at(8, transport_port(a.transport));
        assert_int_equal(transport_add_peer(b.transport, &eight, &err), 0);
        assert_int_equal(transport_attach(a.transport, 5, 50, &handler, &err), 0);
        assert_int_equal(transport_attach(b.transport, 5, 50, &handler, &err), 0);
        struct peer *place_of_nine = transport_peer(a.transport, 9);
        struct peer *place_of_eight = transport_peer(b.transport, 8);
        place_of_nine->next_dial_ns = UINT64_MAX; /* not by itself */
        ups = downs = 0;
        /* Both at once; the one some turns of the loop after the other; the other way round. */
        struct peer *first = round % 2 == 0 ? place_of_eight : place_of_nine;
        struct peer *second = round % 2 == 0 ? place_of_nine : place_of_eight;
        assert_int_equal(link_dial(first->transport, first, &err), 0);
        for (unsigned i = 0; i < round / 2; i++) {
            uv_run(&c.loop, UV_RUN_NOWAIT);
        }
        if (second->link == NULL) {
            assert_int_equal(link_dial(second->transport, second, &err), 0);
        }
        assert_true(cluster_run_until(&c, one_link_each));
        turns_to_go = 50;
        assert_true(cluster_run_until(&c, turns_are_over));
        assert_true(one_link_each(&c));
        assert_int_equal(place_of_nine->link->dialled, !place_of_eight->link->dialled);
        assert_true(downs <= 1);
        assert_int_equal(ups, downs + 2);
        transport_detach(a.transport, 5);
        transport_detach(b.transport, 5);
        extras_close();
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(garbage__closes_the_link_and_nothing_else),
        TEST(strangers__get_no_further_than_hello),
        TEST(a_wrong_secret__keeps_a_node_out),
        TEST(a_node_with_other_shards__is_kept_out),
        TEST(an_occupied_port__is_named),
        TEST(transport_send__is_refused_without_a_link_or_room),
        TEST(the_cluster_id__is_learned_and_refuses_another_one),
        TEST(a_removed_peer__is_refused_until_it_is_added_again),
        TEST(a_moved_peer__is_dialled_at_its_new_address),
        TEST(transport_add_peer__refuses_what_can_not_be),
        TEST(a_peer_with_a_wrong_address_for_us__is_dialled),
        TEST(an_unknown_node_of_this_cluster__is_a_guest_until_it_is_removed),
        TEST(an_unknown_node__stays_out_without_the_cluster_id),
        TEST(guests__are_few_and_leave_room_for_members),
        TEST(two_that_dial_each_other__settle_on_one_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
