#include "clients/log/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/auth.h"

#define REQUESTS_MAX  4096
#define OUT_BYTES_MAX (128u << 20)
#define OUT_KEPT_MAX                                                                               \
    (4u << 20) /* an output buffer larger than this is given back when it is empty */
#define REPLY_BYTES_MAX  (64u << 20)
#define PING_AFTER_NS    500000000u
#define DEAD_AFTER_NS    3000000000u
#define HANDSHAKE_NS     3000000000u
#define TICK_US          250000u
#define CLIENT_NAME_SIZE 64

enum link_state { LINK_DIALLING, LINK_CHALLENGED, LINK_PROVING, LINK_READY, LINK_CLOSED };

struct broker_link {
    struct env *env;
    struct env_stream *stream;
    struct broker_link_events events;
    enum link_state state;
    char *secret;
    char name[CLIENT_NAME_SIZE];
    char address[160];
    uint8_t broker_nonce[AUTH_NONCE_SIZE], nonce[AUTH_NONCE_SIZE];
    struct frame_parser parser;
    struct env_timer timer;
    uint64_t opened_ns, heard_ns, pinged_ns;
    /* Output: one buffer fills while the other is on its way. */
    struct bytes out[2];
    unsigned filling;
    bool sending;
    struct env_send send;
    struct env_defer flush;
    uint64_t out_total;     /* bytes ever put into the buffers */
    uint64_t out_submitted; /* bytes ever handed to the socket */
    /* Requests: the correlation's low bits are the slot. */
    struct broker_request *requests[REQUESTS_MAX];
    uint16_t free_slots[REQUESTS_MAX];
    unsigned n_free;
    uint64_t sequence;
    void (*close_cb)(void *data);
    void *close_data;
};

static void link_fail(struct broker_link *l, int code, const char *text);

bool broker_link_ready(const struct broker_link *link)
{
    return link->state == LINK_READY;
}

uint64_t broker_link_heard_ns(const struct broker_link *link)
{
    return link->heard_ns;
}

/* --- Output --- */

static void on_sent(struct env_send *send, int status);

static void flush_output(struct env_defer *defer)
{
    struct broker_link *l = defer->data;
    struct bytes *out = &l->out[l->filling];
    if (l->state == LINK_CLOSED || l->sending || out->len == 0) {
        return;
    }
    struct iovec iov = {.iov_base = out->data, .iov_len = out->len};
    l->filling ^= 1;
    l->sending = true;
    l->out_submitted += out->len;
    l->send.data = l;
    env_stream_send(l->stream, &l->send, &iov, 1, on_sent);
}

static void on_sent(struct env_send *send, int status)
{
    struct broker_link *l = send->data;
    struct bytes *sent = &l->out[l->filling ^ 1];
    l->sending = false;
    if (sent->cap > OUT_KEPT_MAX) {
        bytes_close(sent);
    }
    bytes_reset(sent);
    if (l->state == LINK_CLOSED) {
        return;
    }
    if (status != 0) {
        link_fail(l, status, error_name(status));
        return;
    }
    flush_output(&l->flush);
}

/* Appends a frame; all or nothing. */
static int put_frame(struct broker_link *l, enum message_type type, uint64_t correlation,
                     const ProtobufCMessage *head, const void *attachment, size_t len)
{
    struct bytes *out = &l->out[l->filling];
    size_t before = out->len;
    message_put_attached(out, type, correlation, head, attachment, len);
    int rv = bytes_error(out);
    if (rv != 0) {
        out->len = before;
        out->error = 0;
        return rv;
    }
    l->out_total += out->len - before;
    l->flush.data = l;
    env_defer(l->env, &l->flush, flush_output);
    return 0;
}

/* --- Requests --- */

int broker_link_request(struct broker_link *l, enum message_type type, const ProtobufCMessage *head,
                        const void *attachment, size_t len, enum message_type expected,
                        struct broker_request *req, broker_reply_cb cb)
{
    assert(!req->active);
    if (l->state != LINK_READY) {
        return WEIR_EUNAVAILABLE;
    }
    if (l->n_free == 0) {
        return WEIR_EBUSY;
    }
    uint16_t slot = l->free_slots[l->n_free - 1];
    uint64_t correlation = ++l->sequence * REQUESTS_MAX + slot;
    uint64_t sent_at = l->out_total;
    int rv = put_frame(l, type, correlation, head, attachment, len);
    if (rv != 0) {
        return rv == WEIR_ETOOBIG && l->out[l->filling].len > 0 ? WEIR_EBUSY : rv;
    }
    l->n_free--;
    l->requests[slot] = req;
    req->cb = cb;
    req->correlation = correlation;
    req->sent_at = sent_at;
    req->expected = (uint16_t)expected;
    req->active = true;
    return 0;
}

static struct broker_request *take_request(struct broker_link *l, uint64_t correlation)
{
    uint16_t slot = (uint16_t)(correlation % REQUESTS_MAX);
    struct broker_request *req = l->requests[slot];
    if (req == NULL || req->correlation != correlation) {
        return NULL;
    }
    l->requests[slot] = NULL;
    l->free_slots[l->n_free++] = slot;
    req->active = false;
    return req;
}

void broker_link_cancel(struct broker_link *l, struct broker_request *req)
{
    if (req->active) {
        struct broker_request *taken = take_request(l, req->correlation);
        assert(taken == req);
        (void)taken;
    }
}

/* Oldest first: a partition's batches come back in their order. */
static void complete_all(struct broker_link *l)
{
    while (l->n_free < REQUESTS_MAX) {
        struct broker_request *oldest = NULL;
        unsigned left = REQUESTS_MAX - l->n_free;
        for (unsigned i = 0; i < REQUESTS_MAX && left > 0; i++) {
            struct broker_request *r = l->requests[i];
            left -= r != NULL;
            if (r != NULL && (oldest == NULL || r->correlation < oldest->correlation)) {
                oldest = r;
            }
        }
        assert(oldest != NULL); /* so many are not free */
        (void)take_request(l, oldest->correlation);
        oldest->cb(oldest, oldest->sent_at < l->out_submitted ? WEIR_EUNKNOWN : WEIR_ECLOSED, NULL,
                   NULL);
    }
}

/* --- Closing --- */

static void on_stream_closed(void *data)
{
    struct broker_link *l = data;
    if (l->close_cb != NULL) {
        l->close_cb(l->close_data);
    }
    frame_parser_close(&l->parser);
    bytes_close(&l->out[0]);
    bytes_close(&l->out[1]);
    free(l->secret);
    free(l);
}

static void shut(struct broker_link *l)
{
    l->state = LINK_CLOSED;
    env_defer_cancel(&l->flush);
    env_timer_close(&l->timer);
    complete_all(l);
}

static void link_fail(struct broker_link *l, int code, const char *text)
{
    struct error why;
    if (l->state == LINK_CLOSED) {
        return;
    }
    (void)error_set(&why, code, "broker %s: %s", l->address, text);
    shut(l);
    l->events.closed(l->events.data, l, &why);
    env_stream_close(l->stream, on_stream_closed, l);
}

void broker_link_close(struct broker_link *l, void (*cb)(void *data), void *data)
{
    assert(l->state != LINK_CLOSED);
    l->close_cb = cb;
    l->close_data = data;
    shut(l);
    env_stream_close(l->stream, on_stream_closed, l);
}

/* --- Handshake --- */

static int take_challenge(struct broker_link *l, const Weir__BrokerChallenge *m, struct error *err)
{
    if (m->version != BROKER_PROTOCOL_VERSION) {
        return error_set(err, WEIR_EVERSION, "speaks protocol version %u, this program %d",
                         m->version, BROKER_PROTOCOL_VERSION);
    }
    if (m->nonce.len != AUTH_NONCE_SIZE) {
        return error_set(err, WEIR_EPROTO, "challenge of %zu bytes", m->nonce.len);
    }
    uint8_t proof[AUTH_PROOF_SIZE];
    memcpy(l->broker_nonce, m->nonce.data, AUTH_NONCE_SIZE);
    env_random(l->env, l->nonce, sizeof(l->nonce));
    auth_prove(l->secret, "client", l->broker_nonce, l->nonce, proof);
    Weir__BrokerHello hello = WEIR__BROKER_HELLO__INIT;
    hello.version = BROKER_PROTOCOL_VERSION;
    hello.nonce = (ProtobufCBinaryData){.len = sizeof(l->nonce), .data = l->nonce};
    hello.proof = (ProtobufCBinaryData){.len = sizeof(proof), .data = proof};
    hello.name = l->name;
    l->state = LINK_PROVING;
    return put_frame(l, BROKER_HELLO, 0, &hello.base, NULL, 0);
}

static int take_welcome(struct broker_link *l, const Weir__BrokerWelcome *m, struct error *err)
{
    if (!auth_check(l->secret, "broker", l->broker_nonce, l->nonce, m->proof.data, m->proof.len)) {
        return error_set(err, WEIR_EAUTH, "it does not know the cluster secret");
    }
    l->state = LINK_READY;
    l->events.ready(l->events.data, l, m);
    return 0;
}

/* --- Input --- */

static int take_reply(struct broker_link *l, const struct frame *frame, ProtobufCMessage *head,
                      struct error *err)
{
    struct broker_request *req = take_request(l, frame->correlation);
    if (req == NULL) {
        return 0; /* cancelled */
    }
    if (frame->type == BROKER_ERROR) {
        const Weir__BrokerError *e = (const Weir__BrokerError *)head;
        req->cb(req, e->code < 0 ? e->code : WEIR_EPROTO, frame, head);
        return 0;
    }
    if (frame->type != req->expected) {
        req->cb(req, WEIR_EUNKNOWN, NULL, NULL);
        return error_set(err, WEIR_EPROTO, "answered %s where %s was due",
                         message_name(frame->type), message_name(req->expected));
    }
    req->cb(req, 0, frame, head);
    return 0;
}

static int take_frame(struct broker_link *l, const struct frame *frame, ProtobufCMessage *head,
                      struct error *err)
{
    if (frame->type == BROKER_ERROR && frame->correlation == 0) {
        const Weir__BrokerError *e = (const Weir__BrokerError *)head;
        return error_set(err, e->code < 0 ? e->code : WEIR_EPROTO, "%s", e->text);
    }
    switch (l->state) {
    case LINK_CHALLENGED:
        return frame->type == BROKER_CHALLENGE
                   ? take_challenge(l, (const Weir__BrokerChallenge *)head, err)
                   : error_set(err, WEIR_EPROTO, "began with %s", message_name(frame->type));
    case LINK_PROVING:
        return frame->type == BROKER_WELCOME
                   ? take_welcome(l, (const Weir__BrokerWelcome *)head, err)
                   : error_set(err, WEIR_EPROTO, "answered the proof with %s",
                               message_name(frame->type));
    case LINK_READY:
        break;
    case LINK_DIALLING:
    case LINK_CLOSED:
        return 0;
    }
    if (frame->correlation != 0) {
        return take_reply(l, frame, head, err);
    }
    if (frame->type != BROKER_PONG && l->events.pushed != NULL) {
        l->events.pushed(l->events.data, l, frame, head);
    }
    return 0;
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct broker_link *l = env_stream_data(stream);
    struct error err = {0};
    struct frame frame;
    if (l->state == LINK_CLOSED) {
        return;
    }
    if (status != 0) {
        link_fail(l, status, status == WEIR_ECLOSED ? "closed the connection" : error_name(status));
        return;
    }
    l->heard_ns = env_now_ns(l->env);
    int rv = frame_parser_feed(&l->parser, data, n);
    if (rv != 0) {
        link_fail(l, rv, error_name(rv));
        return;
    }
    while (l->state != LINK_CLOSED && (rv = frame_parser_next(&l->parser, &frame, &err)) == 1) {
        ProtobufCMessage *head = NULL;
        rv = message_unpack(&frame, &head, &err);
        if (rv == 0) {
            rv = take_frame(l, &frame, head, &err);
            message_free(head);
        }
        if (rv != 0) {
            break;
        }
    }
    if (rv < 0) {
        link_fail(l, rv, err.text);
    }
}

/* --- Opening --- */

static void on_tick(struct env_timer *timer)
{
    struct broker_link *l = timer->data;
    uint64_t now = env_now_ns(l->env);
    if (l->state != LINK_READY && now - l->opened_ns > HANDSHAKE_NS) {
        link_fail(l, WEIR_ETIMEOUT,
                  l->state == LINK_DIALLING ? "no connection within 3 s"
                                            : "no handshake within 3 s");
        return;
    }
    if (l->state == LINK_READY && now - l->heard_ns > DEAD_AFTER_NS) {
        link_fail(l, WEIR_ETIMEOUT, "silent for 3 s");
        return;
    }
    if (l->state == LINK_READY && now - l->heard_ns > PING_AFTER_NS &&
        now - l->pinged_ns > PING_AFTER_NS) {
        Weir__BrokerPing ping = WEIR__BROKER_PING__INIT;
        l->pinged_ns = now;
        (void)put_frame(l, BROKER_PING, 0, &ping.base, NULL, 0); /* no memory now: the next tick */
    }
    env_timer_start(&l->timer, TICK_US, on_tick);
}

static void on_connected(struct env_stream *stream, int status)
{
    struct broker_link *l = env_stream_data(stream);
    if (l->state == LINK_CLOSED) {
        return;
    }
    if (status != 0) {
        link_fail(l, status, error_name(status));
        return;
    }
    l->state = LINK_CHALLENGED;
    env_stream_read_start(stream, on_read);
}

int broker_link_open(struct env *env, struct env *sockets, const char *host, uint16_t port,
                     const char *secret, const char *name, const struct broker_link_events *events,
                     struct broker_link **ret_link, struct error *err)
{
    struct broker_link *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for a connection");
    }
    l->env = env;
    l->events = *events;
    l->opened_ns = l->heard_ns = env_now_ns(env);
    l->secret = strdup(secret);
    l->n_free = REQUESTS_MAX;
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        l->free_slots[i] = (uint16_t)(REQUESTS_MAX - 1 - i);
    }
    (void)snprintf(l->name, sizeof(l->name), "%s", name);
    (void)snprintf(l->address, sizeof(l->address), "%s:%u", host, port);
    bytes_init(&l->out[0], OUT_BYTES_MAX);
    bytes_init(&l->out[1], OUT_BYTES_MAX);
    frame_parser_init(&l->parser, REPLY_BYTES_MAX);
    int rv = l->secret == NULL ? WEIR_ENOMEM : env_timer_init(env, &l->timer);
    if (rv != 0) {
        (void)error_set(err, rv, "no memory for a connection");
        goto fail;
    }
    l->timer.data = l;
    rv = env_connect(sockets != NULL ? sockets : env, host, port, on_connected, l, &l->stream, err);
    if (rv != 0) {
        env_timer_close(&l->timer);
        goto fail;
    }
    env_timer_start(&l->timer, TICK_US, on_tick);
    *ret_link = l;
    return 0;

fail:
    frame_parser_close(&l->parser);
    free(l->secret);
    free(l);
    return rv;
}
