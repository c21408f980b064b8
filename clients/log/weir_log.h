/* weir_log: the C client of the log. Our own nodes use it exactly as outsiders do.
 *
 * One client belongs to one env (loop thread); all calls and callbacks happen there; callbacks come
 * later, never from inside the call. It learns topics and leaders from any seed, keeps one
 * connection per broker (and shard it uses), finds new leaders by itself, and batches without
 * waiting: what is handed over while a request to a partition is on its way leaves together in the
 * next one.
 *
 * Duplicates: none. Batches are numbered (log/producers.h), so the client sends again, until
 * timeout_ms, whatever was refused or has an unknown outcome (a broken link, a failover), and the
 * log stores it once. Only when the time is over before anybody answered does a produce complete
 * with WEIR_EUNKNOWN; it may then still be stored, but not behind a record of the same partition
 * that was acknowledged later. */
#ifndef CLIENTS_LOG_WEIR_LOG_H
#define CLIENTS_LOG_WEIR_LOG_H

#include "base/env.h"
#include "log/batch.h"

struct weir_client;

/* A member of the cluster; borrowed during the call. */
struct weir_node {
    uint32_t id;
    const char *name;
    const char *host; /* of its broker */
    uint16_t port;
    const char *http, *rtmp; /* host:port */
    const char *internal;    /* host:port of HTTP between nodes; "": config_default_internal */
    bool no_log, draining;
};

struct weir_client_options {
    struct env *sockets;      /* what connections are made with; NULL: the client's env */
    const char *const *seeds; /* "host:port" of brokers; copied */
    unsigned n_seeds;
    const char *secret; /* cluster secret; copied */
    const char *name;   /* shown in the brokers' logs; copied */
    /* Exclusive: a client that takes this name fences those who had it before, whose produces then
     * complete with WEIR_EFENCED; NULL: anonymous. [A-Za-z0-9._-], at most 63 bytes; copied. */
    const char *producer_name;
    uint32_t timeout_ms;           /* of a produce, from weir_produce on; 0: 30,000 */
    uint64_t inflight_bytes_max;   /* produced and not completed; 0: 64 MiB */
    uint32_t batch_bytes_max;      /* 0: 256 KiB */
    uint32_t inflight_batches_max; /* per partition, unacknowledged batches on the wire, at most
                                      5; 0: 4 */
    /* All members, whenever they have been asked for or have changed. May be NULL. */
    void (*nodes)(void *data, const struct weir_node *nodes, unsigned n);
    void *nodes_data;
};

int weir_client_new(struct env *env, const struct weir_client_options *options,
                    struct weir_client **ret_client, struct error *err);
/* Completes what is open with WEIR_ECLOSED (or WEIR_EUNKNOWN), closes consumers, then cb. */
void weir_client_free(struct weir_client *client, void (*cb)(void *data), void *data);

/* For how long no majority of the nodes that have the log was heard: a client that is cut off from
 * them can't have anything stored. They are asked twice a second, so it is about a second at most
 * while all is well. A machine that refuses connections is heard: whoever asks it knows that
 * nothing runs there. 0 as long as the nodes are not known. */
uint64_t weir_client_silent_ns(struct weir_client *client);

/* cb once the topic's partition count is known (0), or WEIR_ENOTFOUND (no such topic),
 * WEIR_ETIMEOUT. */
struct weir_topic_req;
typedef void (*weir_topic_cb)(struct weir_topic_req *req, int status, uint32_t n_partitions);
struct weir_topic_req {
    void *data;
    weir_topic_cb cb;
    struct list link;
    uint64_t priv[16];
};
void weir_topic(struct weir_client *client, const char *topic, struct weir_topic_req *req,
                weir_topic_cb cb);
/* murmur2 as Kafka's default partitioner: (murmur2(key) & 0x7fffffff) % n. Pure; any thread. */
uint32_t weir_partition_for_key(const void *key, size_t len, uint32_t n_partitions);

struct weir_produce;
/* status 0: acknowledged, fsynced on a quorum; partition and offset are set. WEIR_EUNKNOWN: see
 * above. Else: not stored. */
typedef void (*weir_produce_cb)(struct weir_produce *req, int status);
struct weir_produce {
    void *data;
    weir_produce_cb cb;
    uint32_t partition; /* out */
    int64_t offset;     /* out */
};
#define WEIR_PARTITION_BY_KEY UINT32_MAX
/* One record; key and value are copied into the batch before this returns. `key` may be NULL when a
 * partition is given. Refused now: WEIR_EBUSY (inflight_bytes_max: wait for a completion),
 * WEIR_ETOOBIG, WEIR_ENOMEM, WEIR_EINVAL; then cb does not run. Records of one partition keep the
 * order of the calls. */
int weir_produce(struct weir_client *client, const char *topic, uint32_t partition, const void *key,
                 size_t key_len, const void *value, size_t value_len, struct weir_produce *req,
                 weir_produce_cb cb);

/* Where a partition begins and ends. cb: 0 with start, high_watermark (first offset not committed)
 * and end set; WEIR_ENOTFOUND, WEIR_ETIMEOUT (timeout_ms of the client), WEIR_ECLOSED.
 * Linearizable: the leader's answer, confirmed by a majority: everything acknowledged to anybody
 * before the call is below high_watermark. Else any replica's, which may lag. */
struct weir_offsets_req;
typedef void (*weir_offsets_cb)(struct weir_offsets_req *req, int status);
struct weir_offsets_req {
    void *data;
    weir_offsets_cb cb;
    int64_t start, high_watermark, end; /* out */
    struct list link;
    uint64_t priv[32];
};
/* Refused now: WEIR_EINVAL (the name), WEIR_ENOMEM; then cb does not run. */
int weir_offsets(struct weir_client *client, const char *topic, uint32_t partition,
                 bool linearizable, struct weir_offsets_req *req, weir_offsets_cb cb);

/* A consumer of one partition: from the local broker where its node is among the first seed, else
 * the leader; follows forever. */
struct weir_consumer;
struct weir_consumer_events {
    void *data;
    /* Records in order, without a gap, the first one at or after `from`. Borrowed during the
     * callback. `high_watermark` is the partition's at that time. */
    void (*records)(void *data, struct weir_consumer *c, const struct batch_record *records,
                    unsigned n, int64_t high_watermark);
    /* WEIR_ERANGE: the offset is not (or no longer) in the log; WEIR_ENOTFOUND: no such topic or
     * partition. The consumer has stopped. Passing troubles (a dead broker) are not reported: it
     * goes on elsewhere. */
    void (*failed)(void *data, struct weir_consumer *c, int status, const char *text);
    /* Optional: reached the high watermark for the first time. */
    void (*caught_up)(void *data, struct weir_consumer *c, int64_t high_watermark);
};
#define WEIR_OFFSET_BEGIN (-1)
#define WEIR_OFFSET_END   (-2)
int weir_consume(struct weir_client *client, const char *topic, uint32_t partition, int64_t from,
                 const struct weir_consumer_events *events, struct weir_consumer **ret_consumer,
                 struct error *err);
void weir_consumer_pause(
    struct weir_consumer *c); /* no more callbacks until resumed; bounded memory */
void weir_consumer_resume(struct weir_consumer *c);
/* No callback after this. */
void weir_consumer_close(struct weir_consumer *c);

/* A member of a consumer group: the partitions of its topics are shared out among the members, who
 * take over from one another and go on where the group stands. At least once: an offset is
 * committed, to the log, only after `records` has returned for everything in front of it (or
 * weir_group_done has said so); what came after the last commit is delivered again when another
 * member takes a partition over without warning. No record is skipped.
 *
 * Every function and callback on the loop thread. Callbacks may call anything, weir_group_close
 * too. */
struct weir_group;
struct weir_group_options {
    const char *group;         /* 1 to 63 letters, digits, '.', '_' and '-'; copied */
    const char *const *topics; /* copied */
    unsigned n_topics;         /* 1 to 64 */
    /* Where to begin when the group has no offset in a partition, or one behind the log's end:
     * WEIR_OFFSET_BEGIN or WEIR_OFFSET_END; 0: begin. One that retention has taken: at the oldest
     * record that is left, always. */
    int64_t from;
    uint32_t session_ms; /* silence after which others take over; 0: 10,000 */
    uint32_t commit_ms;  /* how often what is processed is committed; 0: 1,000 */
    bool no_auto_commit; /* commits only when told to, when revoked and when closed */
    bool manual;         /* processed is what weir_group_done says */
};
struct weir_group_events {
    void *data;
    /* All but `records` may be NULL. The partition is this member's, from `offset` on. */
    void (*assigned)(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                     int64_t offset);
    /* No more of it will come. What is processed when this returns is committed before anybody else
     * gets it. */
    void (*revoked)(void *data, struct weir_group *g, const char *topic, uint32_t partition);
    /* Borrowed during the callback; in order and without a gap from the assigned offset on, but for
     * what retention took before it was read. Records during which the group is closed count as
     * processed only as far as weir_group_done says. */
    void (*records)(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                    const struct batch_record *records, unsigned n, int64_t high_watermark);
    /* The group can't go on: no such topic, a wrong name. To be closed. */
    void (*failed)(void *data, struct weir_group *g, int status, const char *text);
};
int weir_group_join(struct weir_client *client, const struct weir_group_options *options,
                    const struct weir_group_events *events, struct weir_group **ret_group,
                    struct error *err);
/* Revokes everything, commits, leaves, then cb (may be NULL) and the group is gone; after
 * session_ms without a coordinator it is gone without. weir_client_free takes open groups with it,
 * without a commit. */
void weir_group_close(struct weir_group *g, void (*cb)(void *data), void *data);
/* Everything below `next` is processed (see options.manual, and records). */
void weir_group_done(struct weir_group *g, const char *topic, uint32_t partition, int64_t next);
/* cb: 0 once everything processed so far is committed; WEIR_EFENCED: part of it belongs to another
 * member now; WEIR_ETIMEOUT (timeout_ms of the client), WEIR_ECLOSED. */
struct weir_group_commit;
typedef void (*weir_group_commit_cb)(struct weir_group_commit *req, int status);
struct weir_group_commit {
    void *data;
    weir_group_commit_cb cb;
    struct list link;
    uint64_t priv[4];
};
void weir_group_commit(struct weir_group *g, struct weir_group_commit *req,
                       weir_group_commit_cb cb);
void weir_group_pause(struct weir_group *g); /* no records until resumed; remains a member */
void weir_group_resume(struct weir_group *g);
/* Partitions held now, and how many of them have been delivered up to the high watermark that
 * their leader had when they were assigned. */
void weir_group_progress(const struct weir_group *g, unsigned *ret_held, unsigned *ret_caught_up);

#endif
