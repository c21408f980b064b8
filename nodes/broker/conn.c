/* Connections of clients. The broker speaks first, with a challenge; a peer that can't prove the
 * cluster secret, or sends anything but the protocol, is told why and closed. */
#include "nodes/broker/broker_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"

#define OUT_KEPT_MAX (1u << 20) /* a larger buffer is given back when it is empty */

/* --- Output --- */

size_t broker_conn_queued(const struct conn *c)
{
    return c->out[0].len + c->out[1].len;
}

struct bytes *broker_conn_out(struct conn *c)
{
    return &c->out[c->filling];
}

static void on_sent(struct env_send *send, int status);

static void flush_output(struct env_defer *defer)
{
    struct conn *c = defer->data;
    struct bytes *out = broker_conn_out(c);
    if (c->stream_gone || c->sending || out->len == 0) {
        return;
    }
    struct iovec iov = {.iov_base = out->data, .iov_len = out->len};
    c->filling ^= 1;
    c->sending = true;
    c->send.data = c;
    env_stream_send(c->stream, &c->send, &iov, 1, on_sent);
}

static void on_sent(struct env_send *send, int status)
{
    struct conn *c = send->data;
    struct bytes *sent = &c->out[c->filling ^ 1];
    c->sending = false;
    if (sent->cap > OUT_KEPT_MAX) {
        bytes_close(sent);
    }
    bytes_reset(sent);
    if (c->state == CONN_CLOSED) {
        return;
    }
    if (status != 0) {
        broker_conn_close(c);
        return;
    }
    flush_output(&c->flush);
    broker_conn_serve_fetches(c);
    broker_conn_settle(c);
}

void broker_conn_wrote(struct conn *c)
{
    struct bytes *out = broker_conn_out(c);
    if (bytes_error(out) != 0) {
        log_warn("broker_connection_closed", "peer=%s name=\"%s\" reason=\"%s\"", c->peer, c->name,
                 "it does not read its replies");
        bytes_reset(out);
        broker_conn_close(c);
        return;
    }
    c->flush.data = c;
    env_defer(c->broker->env, &c->flush, flush_output);
}

void broker_conn_reply(struct conn *c, enum message_type type, uint64_t correlation,
                       const ProtobufCMessage *head)
{
    if (c->state != CONN_CLOSED) {
        message_put(broker_conn_out(c), type, correlation, head);
        broker_conn_wrote(c);
    }
}

void broker_conn_reply_error(struct conn *c, uint64_t correlation, int code, const char *text,
                             const struct replica *leader_of)
{
    char copy[ERROR_TEXT_MAX];
    Weir__BrokerError m = WEIR__BROKER_ERROR__INIT;
    (void)snprintf(copy, sizeof(copy), "%s", text);
    m.code = code;
    m.text = copy;
    if (leader_of != NULL) {
        m.leader_id = replica_leader(leader_of);
        m.term = replica_term(leader_of);
    }
    broker_conn_reply(c, BROKER_ERROR, correlation, &m.base);
}

/* --- Closing --- */

static void conn_release(struct conn *c)
{
    struct broker *b = c->broker;
    b->n_conns--;
    metric_set(b->metrics.connections, b->n_conns);
    list_remove(&c->link);
    frame_parser_close(&c->parser);
    bytes_close(&c->out[0]);
    bytes_close(&c->out[1]);
    free(c);
    if (b->stopping) {
        broker_part_closed(b);
    }
}

static void on_stream_closed(void *data)
{
    struct conn *c = data;
    c->stream_gone = true;
    broker_conn_settle(c);
}

void broker_conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    c->state = CONN_CLOSED;
    broker_conn_drop_fetches(c);
    coordinator_conn_closed(c);
    env_defer_cancel(&c->flush);
    env_stream_close(c->stream, on_stream_closed, c);
}

void broker_conn_fail(struct conn *c, int code, const char *text)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    log_warn("broker_connection_closed", "peer=%s name=\"%s\" reason=\"%s\"", c->peer, c->name,
             text);
    broker_conn_reply_error(c, 0, code, text, NULL);
    if (c->state != CONN_CLOSED) {
        /* What fits into the socket still goes out. */
        flush_output(&c->flush);
        broker_conn_close(c);
    }
}

/* --- Input --- */

static int take_hello(struct conn *c, const struct frame *frame, struct error *err)
{
    struct broker *b = c->broker;
    ProtobufCMessage *head = NULL;
    if (frame->type != BROKER_HELLO) {
        return error_set(err, WEIR_EPROTO, "began with message %s instead of hello",
                         message_name(frame->type));
    }
    int rv = message_unpack(frame, &head, err);
    if (rv != 0) {
        return rv;
    }
    const Weir__BrokerHello *m = (const Weir__BrokerHello *)head;
    if (m->version != BROKER_PROTOCOL_VERSION) {
        rv = error_set(err, WEIR_EVERSION, "this node speaks protocol version %d, not %u",
                       BROKER_PROTOCOL_VERSION, m->version);
    } else if (m->nonce.len != AUTH_NONCE_SIZE ||
               !auth_check(b->config->secret, "client", c->nonce, m->nonce.data, m->proof.data,
                           m->proof.len)) {
        rv = error_set(err, WEIR_EAUTH, "the cluster secret is wrong");
    } else {
        uint8_t proof[AUTH_PROOF_SIZE];
        char node_name[CONFIG_NAME_MAX];
        Weir__BrokerWelcome w = WEIR__BROKER_WELCOME__INIT;
        auth_prove(b->config->secret, "broker", c->nonce, m->nonce.data, proof);
        (void)snprintf(node_name, sizeof(node_name), "%s", b->self->name);
        (void)snprintf(c->name, sizeof(c->name), "%s", m->name);
        w.proof = (ProtobufCBinaryData){.len = sizeof(proof), .data = proof};
        w.node_id = b->self->id;
        w.node_name = node_name;
        w.batch_bytes_max = b->config->log_batch_kib_max << 10;
        w.shards = b->n_shards;
        w.shard = b->shard;
        c->state = CONN_OPEN;
        broker_conn_reply(c, BROKER_WELCOME, 0, &w.base);
        log_debug("broker_client_connected", "peer=%s name=\"%s\"", c->peer, c->name);
    }
    message_free(head);
    return rv;
}

static bool must_pause(const struct conn *c)
{
    return broker_conn_queued(c) > BROKER_OUT_HIGH || c->n_produces >= BROKER_PRODUCES_MAX ||
           c->produce_bytes >= BROKER_CONN_INFLIGHT_MAX;
}

/* Takes frames until there are none or the connection has to wait. */
static void parse(struct conn *c)
{
    struct error err = {0};
    struct frame frame;
    int rv = 0;
    c->parsing = true;
    while (c->state != CONN_CLOSED && !must_pause(c) &&
           (rv = frame_parser_next(&c->parser, &frame, &err)) == 1) {
        rv =
            c->state == CONN_HELLO ? take_hello(c, &frame, &err) : broker_dispatch(c, &frame, &err);
        if (rv != 0) {
            break;
        }
    }
    c->parsing = false;
    if (rv < 0) {
        broker_conn_fail(c, rv, err.text);
    }
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct conn *c = env_stream_data(stream);
    if (c->state == CONN_CLOSED) {
        return;
    }
    if (status != 0) {
        log_debug("broker_client_gone", "peer=%s name=\"%s\" reason=\"%s\"", c->peer, c->name,
                  error_name(status));
        broker_conn_close(c);
        return;
    }
    c->heard_ns = env_now_ns(c->broker->env);
    int rv = frame_parser_feed(&c->parser, data, n);
    if (rv != 0) {
        broker_conn_fail(c, rv, error_name(rv));
        return;
    }
    parse(c);
    if (c->state != CONN_CLOSED && must_pause(c)) {
        rv = frame_parser_keep(&c->parser);
        if (rv != 0) {
            broker_conn_fail(c, rv, error_name(rv));
            return;
        }
        c->paused = true;
        env_stream_read_stop(c->stream);
    }
}

void broker_conn_settle(struct conn *c)
{
    if (c->state == CONN_CLOSED) {
        if (c->stream_gone && c->n_produces == 0 && c->n_reads == 0) {
            conn_release(c);
        }
        return;
    }
    if (!c->paused || c->parsing || must_pause(c)) {
        return;
    }
    parse(c);
    if (c->state != CONN_CLOSED && !must_pause(c)) {
        c->paused = false;
        env_stream_read_start(c->stream, on_read);
    }
}

/* --- Opening --- */

void broker_conn_sweep(struct conn *c, uint64_t now_ns)
{
    if (c->state == CONN_HELLO && now_ns - c->opened_ns > BROKER_HANDSHAKE_NS) {
        broker_conn_fail(c, WEIR_ETIMEOUT, "no hello within 5 s");
    } else if (c->state == CONN_OPEN && !c->paused && now_ns - c->heard_ns > BROKER_IDLE_NS) {
        broker_conn_fail(c, WEIR_ETIMEOUT, "silent for 30 s");
    } else if (c->state == CONN_OPEN) {
        broker_fetches_sweep(c, now_ns);
    }
}

void broker_conn_accept(struct env_listener *listener, struct env_stream *stream)
{
    struct broker *b = env_listener_data(listener);
    struct conn *c =
        b->n_conns < BROKER_CONNECTIONS_MAX && !b->stopping ? calloc(1, sizeof(*c)) : NULL;
    if (c == NULL) {
        log_warn("broker_connection_refused", "peer=%s connections=%u limit=%u",
                 env_stream_peer(stream), b->n_conns, BROKER_CONNECTIONS_MAX);
        env_stream_close(stream, NULL, NULL);
        return;
    }
    c->broker = b;
    c->stream = stream;
    c->opened_ns = c->heard_ns = env_now_ns(b->env);
    (void)snprintf(c->peer, sizeof(c->peer), "%s", env_stream_peer(stream));
    bytes_init(&c->out[0], BROKER_OUT_MAX);
    bytes_init(&c->out[1], BROKER_OUT_MAX);
    frame_parser_init(&c->parser, (b->config->log_batch_kib_max << 10) + BROKER_REQUEST_HEAD_MAX +
                                      FRAME_HEADER_SIZE);
    list_init(&c->fetches);
    list_init(&c->members);
    list_push_back(&b->conns, &c->link);
    b->n_conns++;
    metric_set(b->metrics.connections, b->n_conns);
    env_stream_set_data(stream, c);
    env_random(b->env, c->nonce, sizeof(c->nonce));
    Weir__BrokerChallenge m = WEIR__BROKER_CHALLENGE__INIT;
    m.version = BROKER_PROTOCOL_VERSION;
    m.nonce = (ProtobufCBinaryData){.len = sizeof(c->nonce), .data = c->nonce};
    broker_conn_reply(c, BROKER_CHALLENGE, 0, &m.base);
    if (c->state != CONN_CLOSED) {
        env_stream_read_start(stream, on_read);
    }
}
