/* The broker's inside; all of it runs on its loop.
 *
 *   broker.c    replicas, opening and closing, the periodic sweep
 *   conn.c      connections: handshake, frames in, replies out, back-pressure
 *   produce.c   batches from connections to groups
 *   fetch.c     reads, and the reads that wait
 *   admin.c     what administrators ask of the cluster
 *   controller.c  the leader of `meta`: who is to hold what
 *   reconcile.c   leaders bring their groups to it
 *   report.c      what brokers tell the controller
 *   roster.c      what `meta` says of nodes and placements, done here
 *   offsets.c   where a partition begins and ends, linearizable when asked so
 *   shard_mail.c  what goes between the shards of a node
 *   requests.c  the table of requests; metadata, status, hash */
#ifndef NODES_BROKER_BROKER_PRIV_H
#define NODES_BROKER_BROKER_PRIV_H

#include "base/metrics.h"
#include "consensus/group.h"
#include "nodes/broker/broker.h"
#include "nodes/broker/controller.h"
#include "nodes/broker/coordinator.h"
#include "nodes/broker/hub.h"
#include "nodes/broker/reconcile.h"
#include "nodes/broker/report.h"
#include "nodes/broker/room.h"
#include "nodes/broker/roster.h"
#include "proto/auth.h"
#include "proto/messages.h"

#define BROKER_CONNECTIONS_MAX   1024u
#define BROKER_FETCHES_MAX       2048u       /* waiting, per connection */
#define BROKER_PRODUCES_MAX      4096u       /* in flight, per connection */
#define BROKER_READS_MAX         1024u       /* linearizable, waiting, per connection */
#define BROKER_CONN_INFLIGHT_MAX (64u << 20) /* bytes of batches in flight, per connection */
#define BROKER_OUT_HIGH                                                                            \
    (8u << 20) /* bytes waiting for a slow peer: nothing more is read from it                      \
                */
#define BROKER_OUT_MAX           (64u << 20) /* and past this it is closed */
#define BROKER_FETCH_BYTES_MAX   (4u << 20)
#define BROKER_FETCH_WAIT_MS_MAX 30000u
#define BROKER_HASH_BYTES_MAX    (4u << 20)
#define BROKER_HANDSHAKE_NS      5000000000u
#define BROKER_IDLE_NS           30000000000u /* clients ping; one that is silent so long is gone */
#define BROKER_SWEEP_US          100000u
#define BROKER_REQUEST_HEAD_MAX  (64u << 10)

struct replica {
    struct broker *broker;
    const struct config_topic *topic;
    uint32_t partition;
    uint32_t index; /* in broker.replicas */
    uint32_t group_id;
    struct group *group;         /* NULL: not placed here, or could not be opened */
    bool foreign;                /* another shard's: never opened here */
    bool wanted;                 /* placed here */
    bool changing, transferring; /* reconcile.c */
    bool feeding;                /* a new member of its group has yet to get most of the log */
    uint64_t step_ns;            /* no step before */
    uint64_t moving_ns;          /* room.c: since when writers wait for another leader; 0: not */
    struct group_change change;
    struct group_transfer transfer;
    bool deleted;                /* nothing of it is on disk any more */
    unsigned n_deleted;          /* files so far */
    char failed[ERROR_TEXT_MAX]; /* "": healthy */
    int failed_code;
    uint64_t reopen_ns;  /* when a replica that failed for want of space is tried again */
    bool closing;        /* to be opened anew */
    bool news;           /* its leader changed in this turn */
    struct list fetches; /* struct fetch.replica_link: waiting for records */
    struct env_defer serve;
    struct metric *lag, *high_watermark;
};

struct broker {
    const struct config *config;
    struct scrub *scrub;
    const struct config_node *self;
    struct hub *hub; /* NULL: this is the only shard */
    uint32_t shard, n_shards;
    bool attached; /* to the hub */
    struct env_defer detached;
    struct env *env;
    struct env *sockets;
    struct transport *transport;
    struct group_pace pace;
    struct partition_pace compact_pace;
    struct vote_log *votes;
    struct env_listener *listener;
    struct replica *replicas;
    uint32_t n_replicas;
    struct coordinator *coordinator;
    struct list conns;
    unsigned n_conns;
    uint64_t inflight_bytes, inflight_bytes_max;
    uint64_t started_ns;
    uint64_t sweeps;
    struct env_timer sweep;
    struct env_defer tell_leaders, tell_metadata;
    struct roster roster;
    struct controller controller;
    struct room room;
    uint64_t reported_ns;
    uint32_t reports;
    bool reporting;
    struct broker_sizes sizes;
    bool stopping;
    unsigned parts_open; /* while stopping: connections and groups */
    broker_close_cb closed;
    void *closed_data;
    struct env_defer last;
    struct {
        struct metric *records, *bytes, *repeated, *refused, *invalid, *fetched_bytes, *connections,
            *leading, *disk_full, *failed_replicas, *damaged, *inflight_bytes;
        struct metric_histogram *produce_us;
    } metrics;
};

enum conn_state { CONN_HELLO, CONN_OPEN, CONN_CLOSED };

struct conn {
    struct broker *broker;
    struct env_stream *stream;
    struct list link;
    enum conn_state state;
    char peer[64];
    char name[64];
    uint8_t nonce[AUTH_NONCE_SIZE];
    struct frame_parser parser;
    uint64_t opened_ns, heard_ns;
    bool watching; /* leaders */
    bool paused;   /* not reading: too much in flight, or the peer does not drain */
    bool parsing;
    /* Output: one buffer fills while the other is on its way. */
    struct bytes out[2];
    unsigned filling;
    bool sending;
    struct env_send send;
    struct env_defer flush;
    /* In flight */
    unsigned n_produces, n_reads;
    uint64_t produce_bytes;
    struct list fetches; /* struct fetch.conn_link */
    unsigned n_fetches;
    bool stream_gone;
    struct list members; /* struct membership.conn_link: of consumer groups */
};

/* A read that waits. */
struct fetch {
    struct list conn_link, replica_link;
    struct conn *conn;
    struct replica *replica;
    uint64_t correlation;
    int64_t offset;
    uint32_t bytes_max;
    uint64_t deadline_ns;
};

/* broker.c */
struct replica *broker_replica(struct broker *b, const char *topic, uint32_t partition);
struct replica *broker_replica_of_group(struct broker *b, uint32_t group_id); /* NULL: none */
/* 0 unless the leader can take proposals now. */
uint32_t replica_leader(const struct replica *r);
uint64_t replica_term(const struct replica *r);
/* Opens or closes it, as it is wanted. */
void replica_settle(struct replica *r);
void replica_dir(const struct replica *r, char *ret_dir, size_t size);
/* Why it can't be asked now. */
const char *replica_trouble(const struct replica *r);
void broker_part_closed(void *data); /* one less to wait for while stopping */

/* shard_mail.c. Nothing where there is one shard. */
void broker_attach(struct broker *b);
void broker_detach(struct broker *b); /* while stopping: a part to wait for */

/* conn.c */
void broker_conn_accept(struct env_listener *listener, struct env_stream *stream);
/* Appends a reply; it leaves at the end of this turn. */
void broker_conn_reply(struct conn *c, enum message_type type, uint64_t correlation,
                       const ProtobufCMessage *head);
void broker_conn_reply_error(struct conn *c, uint64_t correlation, int code, const char *text,
                             const struct replica *leader_of);
struct bytes *broker_conn_out(struct conn *c); /* what fills; broker_conn_wrote afterwards */
void broker_conn_wrote(struct conn *c);
size_t broker_conn_queued(const struct conn *c);
/* Reads on when nothing is in the way any more; frees a closed connection when the last thing in
 * flight is back. */
void broker_conn_settle(struct conn *c);
/* Tells the peer why, then closes. */
void broker_conn_fail(struct conn *c, int code, const char *text);
void broker_conn_close(struct conn *c);
void broker_conn_sweep(struct conn *c, uint64_t now_ns);

/* requests.c. Negative: the connection is to be closed with that error. */
int broker_dispatch(struct conn *c, const struct frame *frame, struct error *err);
void broker_tell_leaders(struct env_defer *defer);
/* Nodes or placements changed: to those that watch, at the end of this turn. */
void broker_tell_metadata(struct broker *b);

/* admin.c */
int broker_handle_cluster_change(struct conn *c, const struct frame *frame,
                                 const ProtobufCMessage *head, struct error *err);
int broker_handle_cluster_describe(struct conn *c, const struct frame *frame,
                                   const ProtobufCMessage *head, struct error *err);

/* produce.c */
int broker_handle_produce(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                          struct error *err);

/* offsets.c */
int broker_handle_offsets(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                          struct error *err);

/* fetch.c */
int broker_handle_fetch(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                        struct error *err);
void replica_serve_soon(struct replica *r);
/* It is closed: they look elsewhere. */
void replica_drop_fetches(struct replica *r);
void broker_conn_serve_fetches(struct conn *c); /* its output has drained */
void broker_conn_drop_fetches(struct conn *c);
void broker_fetches_sweep(struct conn *c, uint64_t now_ns);

#endif
