/* What transport.c (peers, groups, time) and peer_link.c (one connection: proof, reading, writing)
 * share. */
#ifndef CONSENSUS_TRANSPORT_IMPL_H
#define CONSENSUS_TRANSPORT_IMPL_H

#include "consensus/message.h"
#include "consensus/transport.h"

#define TRANSPORT_PEERS_MAX    15
#define TRANSPORT_GUESTS_MAX   4
#define TRANSPORT_REMOVED_MAX  64
#define TRANSPORT_GROUPS_MAX   16384
#define TRANSPORT_UNPROVEN_MAX 32

/* Times, nanoseconds. */
#define TRANSPORT_DIAL_RETRY_NS 100000000ull
/* After a node hung up before it had proven itself: it does not know us (yet). */
#define TRANSPORT_REFUSED_NS 1000000000ull
#define TRANSPORT_PROOF_NS   5000000000ull
/* Without a link for so long the node with the higher id dials too, and how often it does. */
#define TRANSPORT_LONELY_NS       2000000000ull
#define TRANSPORT_LONELY_RETRY_NS 500000000ull
#define TRANSPORT_PING_NS         500000000ull
#define TRANSPORT_SILENCE_NS      3000000000ull
/* How often a failing dial is logged. */
#define TRANSPORT_COMPLAIN_NS 10000000000ull

#define LINK_HASH_SIZE 32

/* One message on its way out; followed in memory by its iovecs and its header and head. */
struct out_frame {
    struct list link;
    size_t bytes;
    transport_release_cb release;
    void *arg;
    unsigned n_iov;
    struct iovec iov[];
};

/* A place for a peer. It is taken again only when nothing of the former one is on its way out. */
struct peer {
    struct transport *transport;
    uint32_t id; /* 0: free */
    /* Nobody told us of it, but it knows the secret and the cluster. It has no address, and its
     * place only for as long as its link is up. */
    bool guest;
    char name[64];
    char host[128];
    uint16_t port;
    struct peer_link *link;    /* proven; NULL: none */
    struct peer_link *dialing; /* ours, not yet proven */
    uint64_t next_dial_ns, complain_ns;
    uint64_t alone_ns; /* since when there is no link */
    struct list queue; /* of struct out_frame, this turn's */
    uint64_t queued_bytes;
    struct env_defer flush;
};

enum link_state {
    LINK_CONNECTING,     /* we dial */
    LINK_WAIT_CHALLENGE, /* we dialled and said hello */
    LINK_WAIT_HELLO,     /* they dialled */
    LINK_WAIT_PROOF,     /* we challenged them */
    LINK_UP,
    LINK_CLOSING,
};

struct peer_link {
    struct transport *transport;
    struct env_stream *stream;
    struct list link; /* in transport->links */
    enum link_state state;
    bool dialled;      /* by us */
    struct peer *peer; /* NULL: has not said who it is, or is nobody we know */
    uint32_t guest_id; /* then: who it says it is */
    struct frame_parser parser;
    uint64_t peer_incarnation;
    uint64_t peer_cluster; /* 0: it knows none */
    uint64_t opened_ns, received_ns, sent_ns;
    uint8_t hello_hash[LINK_HASH_SIZE];
    uint8_t challenge_hash[LINK_HASH_SIZE];
};

struct transport_group {
    uint32_t id;
    struct transport_handler handler;
};

struct transport {
    struct env *env;
    struct env *sockets;
    uint32_t self_id;
    uint32_t shard, n_shards;
    uint64_t incarnation;
    uint64_t cluster;  /* 0: not known yet */
    uint64_t founders; /* hash of the ids of those that found the cluster; 0: joins one */
    void (*cluster_learned)(void *data, uint64_t cluster_id);
    void *data;
    uint64_t stranger_ns; /* when a stranger was last complained of */
    char *secret;
    uint64_t queue_bytes_max;
    struct env_listener *listener;
    struct peer peers[TRANSPORT_PEERS_MAX + TRANSPORT_GUESTS_MAX];
    unsigned n_peers; /* places used at least once */
    uint32_t removed[TRANSPORT_REMOVED_MAX];
    unsigned n_removed;
    struct transport_group *groups; /* by id */
    unsigned n_groups, cap_groups;
    struct list links;
    unsigned n_unproven;
    struct env_timer timer;
    uint64_t tick_us, tick_due_ns;
    uint64_t clock_ns, clock_at_ns; /* transport_clock_ns as of a tick at this time */
    bool tick_put_off;
    bool closing;
    struct env_defer closed;
    void (*close_cb)(void *data);
    void *close_data;
};

/* transport.c */
struct peer *transport_peer(struct transport *t, uint32_t id);
void transport_learn_cluster(struct transport *t, uint64_t cluster_id);
struct transport_group *transport_group(struct transport *t, uint32_t id);
/* May such a node, that we have not been told of, have a link? */
bool transport_may_visit(const struct transport *t, uint32_t id, uint64_t its_cluster);
/* A place for it; NULL: none. */
struct peer *transport_guest(struct transport *t, uint32_t id);
/* There is a better link to this life of the peer: both ends come to the same decision. */
bool transport_link_is_surplus(const struct peer_link *link);
/* Link and peer agree that it is up, or that it is no more. */
void transport_link_up(struct peer_link *link);
void transport_link_down(struct peer_link *link);
void transport_link_freed(struct transport *t);

/* peer_link.c */
void link_accept(struct transport *t, struct env_stream *stream);
int link_dial(struct transport *t, struct peer *peer, struct error *err);
/* Says why in the log unless why is NULL. The link is gone later; transport_link_freed follows. */
void link_close(struct peer_link *link, const char *why);
void link_tick(struct peer_link *link);
/* Writes what is queued for the link's peer. */
void link_flush(struct peer_link *link);
/* Allocates a frame of the link protocol or of a group. NULL: no memory. */
struct out_frame *link_frame(struct transport *t, const struct transport_message *m);

#endif
