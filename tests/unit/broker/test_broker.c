#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness.h"
#include "proto/auth.h"

static char topic_one[] = "one";

static void produce(struct harness *h, struct broker_link *link, const void *batch, size_t len,
                    struct answer *ret_answer)
{
    Weir__BrokerProduce m = WEIR__BROKER_PRODUCE__INIT;
    m.topic = topic_one;
    harness_ask(h, link, BROKER_PRODUCE, &m.base, batch, len, BROKER_PRODUCED, ret_answer);
}

static void fetch(struct harness *h, struct broker_link *link, int64_t offset, uint32_t wait_ms,
                  struct answer *ret_answer)
{
    Weir__BrokerFetch m = WEIR__BROKER_FETCH__INIT;
    m.topic = topic_one;
    m.offset = offset;
    m.bytes_max = 1u << 20;
    m.wait_ms_max = wait_ms;
    harness_ask(h, link, BROKER_FETCH, &m.base, NULL, 0, BROKER_FETCHED, ret_answer);
}

static void number(struct bytes *batch, uint32_t sequence)
{
    struct batch_producer producer = {.id = 77, .sequence = (int32_t)sequence};
    batch_set_producer(batch->data, &producer);
}

/* Asks whoever leads until somebody says what becomes of it: on a slow machine leadership moves. By
 * its number the batch is stored once. */
static void produce_to_leader(struct harness *h, struct bytes *batch, uint32_t sequence,
                              struct answer *ret_answer)
{
    number(batch, sequence);
    do {
        struct broker_link *link = harness_link(h, harness_leader(h));
        produce(h, link, batch->data, batch->len, ret_answer);
        harness_close_link(h, link);
    } while (ret_answer->status == WEIR_ENOTLEADER || ret_answer->status == WEIR_EUNKNOWN ||
             ret_answer->status == WEIR_EUNAVAILABLE);
}

/* A replica that is behind refuses for as long as it is. */
static void fetch_settled(struct harness *h, struct broker_link *link, int64_t offset,
                          uint32_t wait_ms, struct answer *ret_answer)
{
    do {
        fetch(h, link, offset, wait_ms, ret_answer);
    } while (ret_answer->status == WEIR_EUNAVAILABLE);
}

static void produce__is_acknowledged_with_dense_offsets_and_fetched_from_every_replica(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 5, 10);
    for (unsigned i = 0; i < 3; i++) {
        produce_to_leader(&h, &batch, 5 * i, &a);
        assert_int_equal(a.status, 0);
        assert_int_equal(a.produced.base_offset, 5 * i);
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        struct broker_link *link = harness_link(&h, i);
        struct batch_info info;
        /* A follower's commit mark may trail: the read waits for it. */
        fetch_settled(&h, link, 10, 30000, &a);
        assert_int_equal(a.status, 0);
        assert_int_equal(batch_check(a.attachment.data, a.attachment.len, &info, NULL), 0);
        assert_int_equal(info.base_offset.v, 10);
        assert_int_equal(info.record_count, 5);
        harness_close_link(&h, link);
    }
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void produce__to_a_follower_is_refused_with_the_leaders_id(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 1, 10);
    unsigned leader = harness_leader(&h);
    struct broker_link *link = harness_link(&h, (leader + 1) % HARNESS_NODES);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_ENOTLEADER);
    assert_true(a.leader_id == leader + 1 || a.leader_id == 0);
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void produce__of_an_invalid_batch_says_what_is_wrong_and_the_connection_goes_on(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    (void)state;
    harness_open(&h, "log.batch_kib_max = 4\n");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 3, 10);
    struct broker_link *link = harness_link(&h, harness_leader(&h));
    batch.data[batch.len - 1] ^= 1;
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_ECORRUPT);
    assert_string_not_equal(a.text, "");
    batch.data[batch.len - 1] ^= 1;
    produce(&h, link, batch.data, batch.len - 1, &a);
    assert_true(a.status < 0);
    produce(&h, link, NULL, 0, &a);
    assert_true(a.status < 0);
    bytes_put_u8(&batch, 0);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_EINVAL);
    bytes_reset(&batch);
    harness_batch(&batch, 1, 5000);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_ETOOBIG);
    bytes_reset(&batch);
    harness_batch(&batch, 1, 10);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.produced.base_offset, 0);
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void produce__of_a_compressed_batch_is_refused(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 1, 10);
    /* Transactional, which needs no codec to be well-formed; the stamp renews the checksum. */
    store_be16(batch.data + 21, 16);
    batch_stamp(batch.data, LOG_OFFSET(0), LOG_TERM(1), 1000);
    struct broker_link *link = harness_link(&h, harness_leader(&h));
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_EINVAL);
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void produce__of_a_batch_with_records_missing_is_refused(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 2, 10);
    store_be32(batch.data + 23, 4); /* offsets 0 to 4, as after compaction */
    batch_stamp(batch.data, LOG_OFFSET(0), LOG_TERM(1), 1000);
    struct broker_link *link = harness_link(&h, harness_leader(&h));
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_EINVAL);
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

struct burst {
    struct broker_request req[32];
    unsigned n_done, n_accepted, n_refused;
    int order_broken; /* accepted after a refused one */
    bool done;
    unsigned n;
};

static void on_burst(struct broker_request *req, int status, const struct frame *reply,
                     const ProtobufCMessage *head)
{
    struct burst *b = req->data;
    (void)reply;
    (void)head;
    unsigned index = (unsigned)(req - b->req);
    if (status == 0) {
        b->n_accepted++;
        assert_true(index < b->n);
    } else {
        assert_int_equal(status, b->n_refused == 0 ? WEIR_EBUSY : WEIR_ESEQUENCE);
        b->n_refused++;
    }
    b->done = ++b->n_done == b->n;
}

/* With 1 MiB in flight at most, some of a burst are refused; then all behind them, until the first
 * one has come again. */
static void produce__behind_a_refused_batch_is_refused_until_that_has_come_again(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    struct burst burst = {.n = 12};
    Weir__BrokerProduce m = WEIR__BROKER_PRODUCE__INIT;
    (void)state;
    harness_open(&h, "log.inflight_mib = 1\n");
    bytes_init(&batch, 2u << 20);
    harness_batch(&batch, 1, 400u << 10);
    struct broker_link *link = harness_link(&h, harness_leader(&h));
    m.topic = topic_one;
    for (unsigned i = 0; i < burst.n; i++) {
        burst.req[i].data = &burst;
        number(&batch, i);
        assert_int_equal(broker_link_request(link, BROKER_PRODUCE, &m.base, batch.data, batch.len,
                                             BROKER_PRODUCED, &burst.req[i], on_burst),
                         0);
    }
    harness_run_until(&h, &burst.done);
    assert_true(burst.n_accepted > 0);
    number(&batch, burst.n_accepted + 1);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_ESEQUENCE);
    for (unsigned i = 0; i < 2; i++) {
        number(&batch, burst.n_accepted + i);
        produce(&h, link, batch.data, batch.len, &a);
        assert_int_equal(a.status, 0);
        assert_int_equal(a.produced.base_offset, burst.n_accepted + i);
    }
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void produce__repeated_is_stored_once_over_links_leaders_and_restarts(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 3, 10);
    for (unsigned round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 4; i++) {
            produce_to_leader(&h, &batch, 3 * i, &a);
            assert_int_equal(a.status, 0);
            assert_int_equal(a.produced.base_offset, 3 * i);
        }
        produce_to_leader(&h, &batch, 15, &a);
        assert_int_equal(a.status, WEIR_ESEQUENCE);
        unsigned leader = harness_leader(&h);
        for (unsigned i = 0; i < HARNESS_NODES; i++) { /* the leader, or all at once */
            if (i == leader || round == 1) {
                harness_stop_broker(&h, i);
            }
        }
        for (unsigned i = 0; i < HARNESS_NODES; i++) {
            if (i == leader || round == 1) {
                harness_start_broker(&h, i);
            }
        }
    }
    struct broker_link *link = harness_link(&h, harness_leader(&h));
    fetch_settled(&h, link, 0, 30000, &a);
    assert_int_equal(a.fetched.high_watermark, 12);
    struct batch_producer half = {.id = 77, .epoch = -1, .sequence = 12};
    batch_set_producer(batch.data, &half);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, WEIR_EINVAL);
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

struct waiting {
    struct broker_request req;
    bool done;
    int status;
    uint32_t bytes;
};

static void on_waited(struct broker_request *req, int status, const struct frame *reply,
                      const ProtobufCMessage *head)
{
    struct waiting *w = req->data;
    (void)head;
    w->done = true;
    w->status = status;
    w->bytes = reply != NULL ? reply->attachment_len : 0;
}

static void fetch__at_the_end_waits_for_the_next_commit(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    struct waiting w = {0};
    Weir__BrokerFetch m = WEIR__BROKER_FETCH__INIT;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 1, 10);
    unsigned leader = harness_leader(&h);
    struct broker_link *link = harness_link(&h, leader);
    struct broker_link *reader = harness_link(&h, (leader + 1) % HARNESS_NODES);
    m.topic = topic_one;
    m.bytes_max = 1000;
    m.wait_ms_max = 30000;
    w.req.data = &w;
    assert_int_equal(broker_link_request(reader, BROKER_FETCH, &m.base, NULL, 0, BROKER_FETCHED,
                                         &w.req, on_waited),
                     0);
    produce(&h, link, batch.data, batch.len, &a);
    assert_int_equal(a.status, 0);
    harness_run_until(&h, &w.done);
    assert_int_equal(w.status, 0);
    assert_int_equal(w.bytes, batch.len);
    /* Nothing comes: an empty answer when the time is over. */
    fetch(&h, link, 1, 1, &a);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.attachment.len, 0);
    assert_int_equal(a.fetched.high_watermark, 1);
    fetch(&h, link, 100, 1, &a);
    assert_int_equal(a.status, WEIR_ERANGE);
    harness_close_link(&h, reader);
    harness_close_link(&h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void
fetch__at_the_mark_of_a_replica_that_is_cut_off_is_refused_until_it_is_back(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    struct waiting w = {0};
    Weir__BrokerFetch m = WEIR__BROKER_FETCH__INIT;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 1, 10);
    unsigned alone = (harness_leader(&h) + 1) % HARNESS_NODES;
    produce_to_leader(&h, &batch, 0, &a);
    assert_int_equal(a.status, 0);
    struct broker_link *reader = harness_link(&h, alone);
    fetch_settled(&h, reader, 0, 30000, &a);
    assert_int_equal(a.status, 0);
    /* It waits at the mark when the others go. */
    m.topic = topic_one;
    m.offset = 1;
    m.bytes_max = 1000;
    m.wait_ms_max = 30000;
    w.req.data = &w;
    assert_int_equal(broker_link_request(reader, BROKER_FETCH, &m.base, NULL, 0, BROKER_FETCHED,
                                         &w.req, on_waited),
                     0);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        if (i != alone) {
            harness_stop_broker(&h, i);
        }
    }
    harness_run_until(&h, &w.done);
    if (w.status == WEIR_ECLOSED || w.status == WEIR_EUNKNOWN) {
        /* The others took so long to go that this loop, which did not run, gave the link up. */
        reader = harness_link(&h, alone);
    } else {
        assert_int_equal(w.status, WEIR_EUNAVAILABLE);
    }
    fetch(&h, reader, 1, 30000, &a);
    assert_int_equal(a.status, WEIR_EUNAVAILABLE);
    fetch(&h, reader, 0, 0, &a); /* what it has it serves */
    assert_int_equal(a.status, 0);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        if (i != alone) {
            harness_start_broker(&h, i);
        }
    }
    fetch_settled(&h, reader, 1, 0, &a);
    assert_int_equal(a.status, 0);
    harness_close_link(&h, reader);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void ask_broker(struct harness *h, unsigned i, enum message_type type,
                       const ProtobufCMessage *head, enum message_type expected,
                       struct answer *ret_answer)
{
    struct broker_link *link = harness_link(h, i);
    harness_ask(h, link, type, head, NULL, 0, expected, ret_answer);
    harness_close_link(h, link);
}

static void offsets__linearizable_come_from_the_leader_alone(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 3, 10);
    m.topic = topic_one;
    m.linearizable = true;
    for (unsigned i = 0; i < 20; i++) {
        produce_to_leader(&h, &batch, 3 * i, &a);
        assert_int_equal(a.status, 0);
        do {
            ask_broker(&h, harness_leader(&h), BROKER_OFFSETS_REQUEST, &m.base, BROKER_OFFSETS, &a);
        } while (a.status != 0);
        assert_int_equal(a.offsets.high_watermark, 3 * (i + 1));
    }
    unsigned leader;
    do { /* until nobody has taken the lead meanwhile */
        leader = harness_leader(&h);
        ask_broker(&h, (leader + 1) % HARNESS_NODES, BROKER_OFFSETS_REQUEST, &m.base,
                   BROKER_OFFSETS, &a);
    } while (a.status == 0 || a.leader_id != leader + 1);
    assert_int_equal(a.status, WEIR_ENOTLEADER);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

/* --- Bad peers --- */

struct raw {
    struct env_stream *stream;
    struct env_send send;
    struct bytes got;
    const uint8_t *junk;
    size_t n;
    bool connected, closed;
};

static void on_raw_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct raw *r = env_stream_data(stream);
    bytes_put(&r->got, data, n);
    r->closed |= status != 0;
}

static void on_raw_sent(struct env_send *send, int status)
{
    (void)send;
    (void)status;
}

static void on_raw_connected(struct env_stream *stream, int status)
{
    struct raw *r = env_stream_data(stream);
    assert_int_equal(status, 0);
    env_stream_read_start(stream, on_raw_read);
    struct iovec iov = {.iov_base = (void *)(uintptr_t)r->junk, .iov_len = r->n};
    env_stream_send(stream, &r->send, &iov, 1, on_raw_sent);
}

static void on_raw_closed(void *data)
{
    *(bool *)data = true;
}

/* Sends the bytes and waits until the broker hangs up. Its last words are in the frames it sent. */
static void send_junk(struct harness *h, const void *junk, size_t n, char *ret_text, size_t size)
{
    struct raw r = {.junk = junk, .n = n};
    struct frame_parser parser;
    struct frame frame;
    struct error err = {0};
    bool gone = false;
    ret_text[0] = '\0';
    bytes_init(&r.got, 1u << 20);
    assert_int_equal(
        env_connect(h->env, "127.0.0.1", h->broker_port[0], on_raw_connected, &r, &r.stream, &err),
        0);
    harness_run_until(h, &r.closed);
    env_stream_close(r.stream, on_raw_closed, &gone);
    harness_run_until(h, &gone);
    frame_parser_init(&parser, 1u << 20);
    assert_int_equal(frame_parser_feed(&parser, r.got.data, r.got.len), 0);
    while (frame_parser_next(&parser, &frame, &err) == 1) {
        ProtobufCMessage *head = NULL;
        assert_int_equal(message_unpack(&frame, &head, &err), 0);
        if (frame.type == BROKER_ERROR) {
            (void)snprintf(ret_text, size, "%s", ((Weir__BrokerError *)head)->text);
        }
        message_free(head);
    }
    frame_parser_close(&parser);
    bytes_close(&r.got);
}

static void listener__tells_garbage_what_is_wrong_and_lives(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes junk;
    char text[ERROR_TEXT_MAX];
    (void)state;
    harness_open(&h, "");
    bytes_init(&junk, 1u << 20);
    send_junk(&h, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, text, sizeof(text));
    assert_non_null(strstr(text, "not a frame"));
    /* A request before the hello. */
    Weir__BrokerStatusRequest status = WEIR__BROKER_STATUS_REQUEST__INIT;
    message_put(&junk, BROKER_STATUS_REQUEST, 1, &status.base);
    send_junk(&h, junk.data, junk.len, text, sizeof(text));
    assert_non_null(strstr(text, "hello"));
    /* A hello that proves nothing. */
    uint8_t nonce[AUTH_NONCE_SIZE] = {0}, proof[AUTH_PROOF_SIZE] = {0};
    static char name[] = "thief";
    Weir__BrokerHello hello = WEIR__BROKER_HELLO__INIT;
    hello.version = BROKER_PROTOCOL_VERSION;
    hello.nonce = (ProtobufCBinaryData){.len = sizeof(nonce), .data = nonce};
    hello.proof = (ProtobufCBinaryData){.len = sizeof(proof), .data = proof};
    hello.name = name;
    bytes_reset(&junk);
    message_put(&junk, BROKER_HELLO, 0, &hello.base);
    send_junk(&h, junk.data, junk.len, text, sizeof(text));
    assert_non_null(strstr(text, "secret"));
    /* A frame that would take a gigabyte. */
    struct frame frame = {.type = BROKER_HELLO, .attachment_len = 1u << 30};
    uint8_t header[FRAME_HEADER_SIZE];
    assert_int_equal(frame_encode_header(&frame, header, NULL), 0);
    send_junk(&h, header, sizeof(header), text, sizeof(text));
    assert_non_null(strstr(text, "limit"));
    struct broker_link *link = harness_link(&h, 0);
    do { /* on a slow machine its replica may have lost sight of the leader for a moment */
        fetch(&h, link, 0, 1, &a);
    } while (a.status == WEIR_EUNAVAILABLE);
    assert_int_equal(a.status, 0);
    harness_close_link(&h, link);
    bytes_close(&junk);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void request__for_what_does_not_exist_is_an_error(void **state)
{
    struct harness h;
    struct answer a = {0};
    static char nowhere[] = "nowhere";
    Weir__BrokerFetch m = WEIR__BROKER_FETCH__INIT;
    (void)state;
    harness_open(&h, "");
    struct broker_link *link = harness_link(&h, 0);
    m.topic = nowhere;
    harness_ask(&h, link, BROKER_FETCH, &m.base, NULL, 0, BROKER_FETCHED, &a);
    assert_int_equal(a.status, WEIR_ENOTFOUND);
    m.topic = topic_one;
    m.partition = 1;
    harness_ask(&h, link, BROKER_FETCH, &m.base, NULL, 0, BROKER_FETCHED, &a);
    assert_int_equal(a.status, WEIR_ENOTFOUND);
    harness_close_link(&h, link);
    bytes_close(&a.attachment);
    harness_close(&h);
}

/* --- Replicas --- */

static void wait_for_commit(struct harness *h, struct broker_link *link, uint64_t index)
{
    Weir__BrokerStatusRequest m = WEIR__BROKER_STATUS_REQUEST__INIT;
    struct answer a = {0};
    do {
        harness_ask(h, link, BROKER_STATUS_REQUEST, &m.base, NULL, 0, BROKER_STATUS, &a);
    } while (a.commit_index < index);
    bytes_close(&a.attachment);
}

static void hash__is_equal_on_all_replicas(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    uint8_t first[32];
    Weir__BrokerStatusRequest status = WEIR__BROKER_STATUS_REQUEST__INIT;
    Weir__BrokerHashRequest m = WEIR__BROKER_HASH_REQUEST__INIT;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    harness_batch(&batch, 100, 100);
    for (unsigned i = 0; i < 20; i++) {
        produce_to_leader(&h, &batch, 100 * i, &a);
        assert_int_equal(a.status, 0);
    }
    ask_broker(&h, harness_leader(&h), BROKER_STATUS_REQUEST, &status.base, BROKER_STATUS, &a);
    m.topic = topic_one;
    m.first_index = 1;
    m.last_index = a.commit_index;
    m.bytes_max = UINT32_MAX;
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        struct broker_link *link = harness_link(&h, i);
        wait_for_commit(&h, link, m.last_index);
        harness_ask(&h, link, BROKER_HASH_REQUEST, &m.base, NULL, 0, BROKER_HASH, &a);
        assert_int_equal(a.status, 0);
        assert_int_equal(a.hash_last, m.last_index);
        if (i == 0) {
            memcpy(first, a.hash, sizeof(first));
        }
        assert_memory_equal(first, a.hash, sizeof(first));
        harness_close_link(&h, link);
    }
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

/* Flips a byte in the middle of the batch that holds `needle`, in the first segment file of the
 * replica. */
static void damage(const struct harness *h, unsigned i)
{
    char command[512];
    (void)snprintf(command, sizeof(command),
                   "set -e; f=$(grep -l -a -r NEEDLE '%s/n%u/log/one-0' | head -1); "
                   "at=$(grep -a -b -o NEEDLE \"$f\" | head -1 | cut -d: -f1); "
                   "printf X | dd of=\"$f\" bs=1 seek=\"$at\" conv=notrunc status=none",
                   h->dir, i + 1);
    assert_int_equal(system(command), 0);
}

static void broker__mends_a_corrupt_replica_and_goes_on(void **state)
{
    struct harness h;
    struct answer a = {0};
    struct bytes batch;
    struct batch_builder b;
    Weir__BrokerStatusRequest status = WEIR__BROKER_STATUS_REQUEST__INIT;
    (void)state;
    harness_open(&h, "");
    bytes_init(&batch, 1u << 20);
    batch_begin(&b, &batch, 1000);
    batch_add(&b, 1000, NULL, 0, "NEEDLE", 6);
    assert_true(batch_finish(&b) > 0);
    unsigned victim = (harness_leader(&h) + 1) % HARNESS_NODES;
    for (unsigned i = 0; i < 5; i++) {
        produce_to_leader(&h, &batch, i, &a);
        assert_int_equal(a.status, 0);
    }
    struct broker_link *other = harness_link(&h, victim);
    wait_for_commit(&h, other, 5);
    harness_close_link(&h, other);
    harness_stop_broker(&h, victim);
    damage(&h, victim);
    harness_start_broker(&h, victim);
    other = harness_link(&h, victim);
    wait_for_commit(&h, other, 5); /* with what it got from the others */
    fetch_settled(&h, other, 0, 1, &a);
    assert_int_equal(a.status, 0);
    assert_true(a.attachment.len >= batch.len);
    harness_ask(&h, other, BROKER_STATUS_REQUEST, &status.base, NULL, 0, BROKER_STATUS, &a);
    assert_int_equal(a.status, 0);
    assert_string_equal(a.failed, "");
    harness_close_link(&h, other);
    produce_to_leader(&h, &batch, 5, &a);
    assert_int_equal(a.status, 0);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    harness_close(&h);
}

static void broker_start__names_an_occupied_address(void **state)
{
    struct harness h;
    struct broker_threads *broker = NULL;
    struct error err = {0};
    char address[32];
    (void)state;
    harness_open(&h, "");
    struct config *twin = malloc(sizeof(*twin));
    assert_non_null(twin);
    *twin = *h.config[0];
    assert_int_not_equal(broker_start(twin, &broker, &err), 0);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", h.peer_port[0]);
    assert_non_null(strstr(err.text, address));
    free(twin);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            produce__is_acknowledged_with_dense_offsets_and_fetched_from_every_replica),
        cmocka_unit_test(produce__to_a_follower_is_refused_with_the_leaders_id),
        cmocka_unit_test(
            produce__of_an_invalid_batch_says_what_is_wrong_and_the_connection_goes_on),
        cmocka_unit_test(produce__of_a_compressed_batch_is_refused),
        cmocka_unit_test(produce__of_a_batch_with_records_missing_is_refused),
        cmocka_unit_test(produce__behind_a_refused_batch_is_refused_until_that_has_come_again),
        cmocka_unit_test(produce__repeated_is_stored_once_over_links_leaders_and_restarts),
        cmocka_unit_test(fetch__at_the_end_waits_for_the_next_commit),
        cmocka_unit_test(
            fetch__at_the_mark_of_a_replica_that_is_cut_off_is_refused_until_it_is_back),
        cmocka_unit_test(offsets__linearizable_come_from_the_leader_alone),
        cmocka_unit_test(listener__tells_garbage_what_is_wrong_and_lives),
        cmocka_unit_test(request__for_what_does_not_exist_is_an_error),
        cmocka_unit_test(hash__is_equal_on_all_replicas),
        cmocka_unit_test(broker__mends_a_corrupt_replica_and_goes_on),
        cmocka_unit_test(broker_start__names_an_occupied_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
