/* What the shards of a node have in common (base/shard.h): shard 0 alone folds `meta` and leads the
 * cluster, the others act upon copies of what it knows; reports and hand-overs go between them as
 * mail; and which named producers are fenced is known to all. Nothing else is shared: no shard ever
 * touches what belongs to another one's loop.
 *
 * Functions: any thread, unless they say otherwise; none waits for another loop, and none is on a
 * record's way. */
#ifndef NODES_BROKER_HUB_H
#define NODES_BROKER_HUB_H

#include "base/env.h"
#include "nodes/broker/cluster.h"

struct hub;

#define HUB_MAIL_MAX 4096 /* on their way to one shard; what comes beyond is dropped */

enum hub_mail_type {
    HUB_CLUSTER_ID, /* to shard 0: a peer knew it: a */
    HUB_REPORT,     /* to shard 0: body is a packed report of node a's shard b */
    HUB_HAND_OVER,  /* from shard 0: the leader, node a, is to hand group b over to node c */
};
struct hub_mail {
    enum hub_mail_type type;
    uint64_t a, b, c;
    const void *body; /* copied; borrowed by who receives it */
    size_t len;
};

/* Called on the shard's own loop. */
struct hub_events {
    void *data;
    void (*news)(void *data); /* hub_take has something newer */
    void (*mail)(void *data, const struct hub_mail *mail);
};

/* 1 to SHARDS_MAX. WEIR_ENOMEM. */
int hub_new(uint32_t n_shards, struct hub **ret_hub, struct error *err);
/* Nobody is attached. NULL is allowed. */
void hub_free(struct hub *hub);
uint32_t hub_shards(const struct hub *hub);

/* From now on `events` come. On the loop of `env`. */
void hub_attach(struct hub *hub, uint32_t shard, struct env *env, const struct hub_events *events);
/* No event after this; cb, later, when nothing is on its way to that loop any more. On that loop;
 * `defer` is the caller's until then. */
void hub_detach(struct hub *hub, uint32_t shard, struct env_defer *defer, env_defer_cb cb);

/* To one shard, in order, or not at all (false): nothing may depend on it. */
bool hub_send(struct hub *hub, uint32_t to, const struct hub_mail *mail);

/* --- What the cluster is --- */

/* By shard 0, once it is on disk; the others hear of it. WEIR_ENOMEM: nothing changed. */
int hub_publish(struct hub *hub, const struct cluster *c, uint64_t cluster_id);
/* Copies the newest over `c`, which is of the same configuration. False: nothing was published. */
bool hub_take(struct hub *hub, struct cluster *c, uint64_t *ret_cluster_id);
/* Who leads `meta`; 0: not known. */
void hub_set_leader(struct hub *hub, uint32_t node_id);
uint32_t hub_leader(const struct hub *hub);

/* --- Named producers --- */

/* A record of `groups` that a shard folds: if it names a producer, all shards know. WEIR_ENOMEM. */
int hub_producer_fold(struct hub *hub, const struct batch_record *record);
/* The newest incarnation. False: not known. */
bool hub_producer_known(struct hub *hub, const char *name, int64_t *ret_id, uint32_t *ret_epoch);

#endif
