/* The log role: replicas of every partition, and the listener that clients of the log speak to
 * (docs/protocol.md). It runs on the loop of the env it is given and does nothing outside of it:
 * broker_thread.h gives it a thread, tests/sim a simulated machine. Loop thread only. */
#ifndef NODES_BROKER_BROKER_H
#define NODES_BROKER_BROKER_H

#include "base/config.h"
#include "base/env.h"

struct broker;
struct hub;

/* What a simulation makes small, so that much happens in a short run. */
struct broker_sizes {
    uint64_t segment_bytes, tail_bytes; /* struct partition_options */
    uint32_t index_bytes;
    uint32_t decide_ms, tombstone_ms; /* struct group_options */
};

struct broker_options {
    const struct broker_sizes *sizes; /* NULL: those of the configuration */
    /* One of several shards of a node (base/shard.h); NULL: the only one. Shard 0 is opened before
     * the others, and closed when it likes: they may go on without it. */
    struct hub *hub;
    uint32_t shard;
};

/* Opens all replicas and listens for peers and clients. A replica that can't be opened (corrupt
 * files) is reported in log, metrics and status, and the others go on. Fails with the address when
 * a port is occupied. `config` outlives the broker; `sockets` NULL: env's own; `options` NULL:
 * none. The replicas are those that the shard is to have.
 * After a failure there may be something to let go of: when *ret_broker was set, it is closed like
 * one that runs. */
int broker_open(struct env *env, struct env *sockets, const struct config *config,
                const struct broker_options *options, struct broker **ret_broker,
                struct error *err);
/* Drains, closes and frees, then cb. */
typedef void (*broker_close_cb)(void *data);
void broker_close(struct broker *broker, broker_close_cb cb, void *data);

#endif
