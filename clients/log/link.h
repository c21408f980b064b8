/* One connection to one broker: dials, proves the secret, pairs replies with requests, keeps the
 * line alive. The client keeps one per broker; the command line uses it directly to ask single
 * nodes. docs/protocol.md tells the conversation.
 *
 * What is requested in one turn of the loop leaves in one write. Bounded: requests in flight and
 * bytes waiting to be sent. Loop thread only; callbacks come later, unless a function says
 * otherwise. */
#ifndef CLIENTS_LOG_LINK_H
#define CLIENTS_LOG_LINK_H

#include "base/env.h"
#include "proto/messages.h"

struct broker_link;

struct broker_link_events {
    void *data;
    /* The handshake is done: requests may be made. `welcome` is borrowed. */
    void (*ready)(void *data, struct broker_link *link, const Weir__BrokerWelcome *welcome);
    /* A frame that nobody asked for (BROKER_LEADERS), its head unpacked; borrowed. May be NULL. */
    void (*pushed)(void *data, struct broker_link *link, const struct frame *frame,
                   const ProtobufCMessage *head);
    /* The link failed; its requests have been completed before. It is gone after this. */
    void (*closed)(void *data, struct broker_link *link, const struct error *why);
};

struct broker_request;
/* A reply as expected: status 0, `reply` and `head` (of the expected type) are borrowed. An error
 * reply: its code and head (BrokerError), text in head. No reply: WEIR_ECLOSED (was never sent) or
 * WEIR_EUNKNOWN (was), both NULL. */
typedef void (*broker_reply_cb)(struct broker_request *req, int status, const struct frame *reply,
                                const ProtobufCMessage *head);
struct broker_request {
    void *data;
    broker_reply_cb cb;
    uint64_t correlation;
    uint64_t sent_at; /* position in the link's output, bytes */
    uint16_t expected;
    bool active;
};

/* Starts dialling over `sockets` (NULL: env's own; net/tls.h has encrypted ones); what goes wrong
 * comes with `closed`. The strings are copied. */
int broker_link_open(struct env *env, struct env *sockets, const char *host, uint16_t port,
                     const char *secret, const char *name, const struct broker_link_events *events,
                     struct broker_link **ret_link, struct error *err);
/* Completes its requests inside this call; `closed` does not run. Then cb (may be NULL), when the
 * connection is gone. */
void broker_link_close(struct broker_link *link, void (*cb)(void *data), void *data);
bool broker_link_ready(const struct broker_link *link);
/* When the broker was last heard, or since when it is dialled. One that is ready and says nothing
 * is pinged every half second. */
uint64_t broker_link_heard_ns(const struct broker_link *link);
/* Sends a request; head and attachment are copied. Now: WEIR_EUNAVAILABLE (not ready), WEIR_EBUSY
 * (too many), WEIR_ENOMEM, WEIR_ETOOBIG: then cb does not run. */
int broker_link_request(struct broker_link *link, enum message_type type,
                        const ProtobufCMessage *head, const void *attachment, size_t len,
                        enum message_type expected, struct broker_request *req, broker_reply_cb cb);
/* Forgets a request: cb does not run. Harmless when it is not active. */
void broker_link_cancel(struct broker_link *link, struct broker_request *req);

#endif
