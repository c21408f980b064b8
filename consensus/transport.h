/* The links between nodes: one TCP connection per pair of nodes carries all groups, both ways. The node with the lower id dials.
 *
 * Frames are those of proto/frame.h; the first ones on a link prove knowledge of the cluster secret (HMAC over both sides' nonces) and
 * carry the node id, the cluster's name and the sender's incarnation. Sends of one turn of the loop leave in one writev per peer.
 * Bounded: bytes queued per peer; past the bound messages are dropped, which Raft tolerates. When the link to a peer closes every
 * group is told at once: a closed link is news (fast failover). Loop thread only. */
#ifndef CONSENSUS_TRANSPORT_H
#define CONSENSUS_TRANSPORT_H

#include "base/env.h"

struct transport;

struct transport_peer {
    uint32_t id;
    const char *name;
    const char *host;
    uint16_t port;
};

struct transport_options {
    uint32_t self_id;
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
bool transport_connected(const struct transport *t, uint32_t peer_id);

#endif
