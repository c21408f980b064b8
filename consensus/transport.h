/* The links between nodes: one TCP connection per pair of nodes carries all groups, both ways. The
 * node with the lower id dials; after two seconds without a link the other one does so too, for the
 * lower one may not know it: a node that was down while another one joined. Of two links between
 * the same lives of two nodes the one that the lower id dialled stays.
 *
 * Frames are those of proto/frame.h; the first ones on a link prove knowledge of the cluster secret
 * (HMAC over both sides' nonces) and carry the node id, the cluster's id and the sender's
 * incarnation. The cluster's id is a random number, made once and the same for ever, whoever joins
 * or leaves: a node of another cluster is refused, one that has none yet learns it from the first
 * peer that proves itself. A node that nobody told us of is taken as a guest if it proves itself
 * and names our cluster's id, unless it was removed: it may be the one to tell us what happened
 * meanwhile. Peers come, move and go while the transport runs. Sends of one turn of
 * the loop leave in one writev per peer. Bounded: bytes queued per peer; past the bound messages
 * are dropped, which Raft tolerates. When the link to a peer closes every group is told at once: a
 * closed link is news (fast failover). Loop thread only. */
#ifndef CONSENSUS_TRANSPORT_H
#define CONSENSUS_TRANSPORT_H

#include "base/env.h"
#include "proto/frame.h"

struct transport;

struct transport_peer {
    uint32_t id;
    const char *name;
    const char *host;
    uint16_t port;
};

struct transport_options {
    struct env *sockets; /* what links are made with; NULL: the transport's env */
    uint32_t self_id;
    /* Of the node's n_shards (base/shard.h; 0: one) it serves this one: peers must say the same. */
    uint32_t shard, n_shards;
    uint64_t cluster_id; /* 0: not known yet */
    /* Does not belong to those that found a cluster: its peers differ from theirs. */
    bool joining;
    /* A peer knew the cluster's id and this node did not. May be NULL. */
    void (*cluster_learned)(void *data, uint64_t cluster_id);
    void *data;
    const char *listen_host;
    uint16_t listen_port;
    const struct transport_peer *peers; /* without this node */
    unsigned n_peers;
    const char *secret;
    uint64_t queue_bytes_max; /* per peer */
};

/* Listens and starts dialling. -EADDRINUSE names the address. */
int transport_new(struct env *env, const struct transport_options *options,
                  struct transport **ret_transport, struct error *err);
/* All groups are closed. */
void transport_close(struct transport *t, void (*cb)(void *data), void *data);
/* The cluster has its id (from the log). WEIR_EEXISTS: it has another one already. */
int transport_set_cluster(struct transport *t, uint64_t cluster_id);
uint64_t transport_cluster(const struct transport *t); /* 0: not known */
/* A node joined, or has another name or address (its link is then closed and dialled anew).
 * WEIR_EINVAL: an impossible id or host; WEIR_ETOOBIG: too many peers. Not from a handler. */
int transport_add_peer(struct transport *t, const struct transport_peer *peer, struct error *err);
/* It is no more: its link is closed, and it is refused from now on, also as a guest. Not from a
 * handler. */
void transport_remove_peer(struct transport *t, uint32_t peer_id);
bool transport_connected(const struct transport *t, uint32_t peer_id);
/* The port listened on (of use when it was 0). */
uint16_t transport_port(const struct transport *t);
uint32_t transport_self(const struct transport *t);
/* A clock by which to judge whether a peer is silent: of a time in which this loop did not run, and
 * so listened to nobody, at most two ticks count. Monotonic; may be slower than env_now_ns. */
uint64_t transport_clock_ns(const struct transport *t);

/* --- For groups (consensus/group.c) --- */

/* Called on the loop. */
struct transport_handler {
    void *data;
    /* A message of the group from an authenticated peer; body is what follows the prefix of
     * consensus/message.h in the head. All is borrowed until the return. Negative: the peer speaks
     * nonsense and the link is closed. */
    int (*receive)(void *data, uint32_t peer_id, uint16_t type, const void *body, size_t len,
                   const void *attachment, size_t attachment_len, struct error *err);
    void (*link)(void *data, uint32_t peer_id, bool up);
    /* About every tick_ms of transport_attach, never before what the sockets hold has been read. */
    void (*tick)(void *data);
};
/* `handler` is copied. WEIR_EEXISTS, WEIR_ENOMEM. */
int transport_attach(struct transport *t, uint32_t group_id, uint32_t tick_ms,
                     const struct transport_handler *handler, struct error *err);
/* No handler call after this. */
void transport_detach(struct transport *t, uint32_t group_id);

#define TRANSPORT_IOV_MAX 256
/* Called once, later, when the message has left (0) or never will (negative). */
typedef void (*transport_release_cb)(void *arg, int status);
struct transport_message {
    uint32_t peer_id, group_id;
    uint16_t type;
    const void *body; /* copied */
    size_t len;
    const struct iovec *attachment; /* the array is copied, the memory borrowed until release */
    unsigned n_attachment;          /* at most TRANSPORT_IOV_MAX */
    transport_release_cb release;   /* may be NULL when there is no attachment */
    void *arg;
};
/* Queues. WEIR_ECLOSED (no link to that peer), WEIR_EBUSY (its queue is full), WEIR_ENOMEM: release
 * is not called. */
int transport_send(struct transport *t, const struct transport_message *m);

#endif
