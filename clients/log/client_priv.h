/* The client's inside: shared by client.c (brokers, metadata, topics), producer.c (partitions,
 * batches), consumer.c and offsets.c. */
#ifndef CLIENTS_LOG_CLIENT_PRIV_H
#define CLIENTS_LOG_CLIENT_PRIV_H

#include "base/config.h"
#include "base/shard.h"
#include "clients/log/link.h"
#include "clients/log/weir_log.h"

#define CLIENT_REPLICAS_MAX   7
#define CLIENT_BROKERS_MAX    (2 * CONFIG_NODES_MAX * SHARDS_MAX)
#define CLIENT_TOPICS_MAX     64
#define CLIENT_PARTITIONS_MAX 65536
#define CLIENT_BACKOFF_MIN_US 2000u
#define CLIENT_BACKOFF_MAX_US 100000u
/* How often timeouts are looked at. */
#define CLIENT_SWEEP_US 50000u

struct client_broker {
    struct weir_client *client;
    char host[128];
    uint16_t port;
    uint32_t node_id;         /* 0: not known yet */
    uint32_t shard;           /* of the node: it answers for that one's partitions only */
    bool retired;             /* not a member any more: not dialled, its place may be taken */
    struct broker_link *link; /* NULL between attempts */
    bool ready;
    uint64_t heard_ns; /* over the links before this one, or refused; 0: never */
    struct env_timer redial;
    uint64_t backoff_us;
    char trouble[ERROR_TEXT_MAX]; /* last one logged: said once, not at every attempt */
    struct broker_request metadata;
};

/* A partition's producer id, and what of its sequence is given out. */
struct numbering {
    int64_t id; /* negative: none yet */
    int16_t epoch;
    uint32_t next; /* sequence of the next record */
    bool over;     /* a number was given up: a new epoch begins when nothing is in doubt */
};

/* What a named producer knows of itself. */
struct named {
    char *name;     /* NULL: anonymous */
    int64_t id;     /* negative: not known yet */
    uint32_t epoch; /* the newest one that is ours */
    bool wanted;    /* a (further) epoch is needed */
    bool fenced;    /* another client has taken the name: for good */
    uint64_t owner; /* ours for life */
    uint64_t ask_at_ns;
    struct client_broker *broker;
    struct broker_request request;
};

/* One RecordBatch on its way; its record requests complete together. */
struct batch {
    struct list link; /* in client_partition.waiting or .inflight, or the client's idle list */
    struct client_partition *partition;
    struct bytes data;
    struct batch_builder builder;
    struct weir_produce **records;
    uint32_t n_records, cap_records;
    uint64_t order;               /* within the partition */
    uint64_t created_ns, sent_ns; /* sent for the first time */
    bool finished;                /* its bytes are whole */
    bool numbered;                /* has its place in the producer's sequence */
    bool maybe_stored;            /* an attempt had an unknown outcome */
    bool misplaced;               /* the last attempt was refused as not the next one */
    uint64_t bytes;               /* counted against inflight_bytes_max */
    struct client_broker *broker;
    struct broker_request request;
};

struct client_partition {
    struct client_topic *topic;
    uint32_t index, shard;
    uint32_t leader_id;                     /* 0: not known */
    uint64_t term;                          /* of what is known of the leader */
    uint32_t replicas[CLIENT_REPLICAS_MAX]; /* who holds it */
    unsigned n_replicas;                    /* 0: not known, anybody may */
    struct numbering numbering;
    /* A batch was refused: nothing is sent until all that are out have come back. */
    bool draining;
    uint64_t retry_at_ns; /* nothing is sent before */
    uint64_t backoff_us;
    struct batch *open;   /* being filled */
    struct list waiting;  /* full or refused, in order */
    struct list inflight; /* in order */
    unsigned n_inflight;
    uint64_t order;
    struct list busy_link;  /* client.busy: has a batch anywhere */
    struct list dirty_link; /* client.dirty: to be looked at at the end of this turn */
};

/* A record given before its topic is known. */
struct early {
    struct list link;
    struct weir_produce *req;
    uint64_t created_ns;
    uint32_t partition;
    bool null_key, null_value;
    size_t key_len, value_len;
    uint8_t bytes[];
};

struct client_topic {
    struct weir_client *client;
    char name[CONFIG_NAME_MAX];
    uint32_t n_partitions; /* 0: not known */
    struct client_partition *partitions;
    struct list early;
    struct list reqs; /* struct weir_topic_req.link */
};

struct weir_client {
    struct env *env;
    struct env *sockets;                /* NULL: env's own */
    struct weir_client_options options; /* without seeds */
    char *secret;
    char *name;
    struct named named;
    struct client_broker *brokers[CLIENT_BROKERS_MAX]; /* seeds first, in their order */
    unsigned n_brokers, n_seeds;
    struct client_topic *topics[CLIENT_TOPICS_MAX];
    unsigned n_topics;
    /* Shards of each node; 0: not known yet. Brokers of a shard are dialled once one of its
     * partitions is used. */
    uint32_t n_shards;
    bool shards_used[SHARDS_MAX];
    struct client_node {
        uint32_t id;
        char host[128];
        uint16_t port; /* of the first shard */
    } nodes[CONFIG_NODES_MAX];
    unsigned n_nodes;
    bool informed;       /* metadata has come at least once: an absent topic does not exist */
    int64_t meta_offset; /* of the newest news of nodes */
    int64_t placed_offset[SHARDS_MAX]; /* and of who holds the partitions of a shard */
    struct list busy, dirty;
    struct list idle; /* batches whose memory is reused */
    unsigned n_idle;
    uint64_t inflight_bytes;
    struct list consumers;
    struct list groups;    /* struct weir_group.link */
    struct list questions; /* struct weir_offsets_req.link */
    struct list hopeless;  /* struct weir_topic_req.link: of topics that can't be */
    struct env_timer tick;
    uint64_t tick_due_ns; /* 0: not running */
    struct env_defer flush;
    bool closing;
    struct env_defer teardown;
    unsigned links_open; /* while closing */
    void (*free_cb)(void *data);
    void *free_data;
};

/* client.c */
/* The broker that leads the partition; NULL: not known now. */
struct client_broker *client_leader_of(struct weir_client *c, const struct client_partition *p);
/* The partition is used: whoever may answer for it is dialled. */
void client_use(struct weir_client *c, const struct client_partition *p);
struct client_topic *client_topic_get(struct weir_client *c,
                                      const char *name); /* NULL: too many, no memory */
/* Asks some broker that is connected. */
void client_refresh(struct weir_client *c);
/* Makes sure the tick runs within delay_us. */
void client_tick_within(struct weir_client *c, uint64_t delay_us);
void client_flush_soon(struct weir_client *c);
/* News of a leader; older terms are ignored. */
void client_leader_news(struct weir_client *c, const char *topic, uint32_t partition,
                        uint32_t leader_id, uint64_t term);

/* producer.c */
void producer_topic_known(struct client_topic *t); /* early records go to their partitions */
void producer_topic_failed(struct client_topic *t, int status);
void producer_pump(struct client_partition *p);
void producer_partition_init(struct client_partition *p, struct client_topic *t, uint32_t index);
void producer_sweep(struct weir_client *c, uint64_t now_ns); /* timeouts, due retries */
/* Another node leads: what is out goes there, at once. */
void producer_leader_moved(struct client_partition *p);
void producer_close(struct weir_client *c);
void producer_flush(struct weir_client *c);

/* offsets.c */
void offsets_kick(struct weir_client *c);
void offsets_close(struct weir_client *c);

/* numbering.c */
/* Gives the batch its place in the sequence if it has none, and finishes its bytes. */
void numbering_give(struct client_partition *p, struct batch *b);
/* May the batch be sent now? Not when its number can't be next. */
bool numbering_allows(const struct client_partition *p, const struct batch *b);
/* The batch leaves without being known to be stored. */
void numbering_give_up(struct client_partition *p, const struct batch *b);
/* Nothing is out: begins a new epoch if one is due and nothing is in doubt. */
void numbering_settle(struct client_partition *p);
/* False: a named producer must wait for its id or next epoch, which is asked for. */
bool numbering_ready(struct client_partition *p);

/* named.c */
/* Asks the coordinator of our name if something is wanted and it is time to. */
void named_ask(struct weir_client *c);
/* The broker refused a batch of this epoch as fenced: by another client, or by our own next epoch?
 */
bool named_is_fenced(const struct weir_client *c, int16_t epoch);

/* consumer.c */
void consumers_kick(struct weir_client *c);
void consumers_close(struct weir_client *c);

/* group.c */
void groups_kick(struct weir_client *c);
void groups_close(struct weir_client *c);

#endif
