/* The brokers of a node, one a shard (base/shard.h), each on a loop thread of its own. Start and
 * stop are called from another thread and block. */
#ifndef NODES_BROKER_BROKER_THREAD_H
#define NODES_BROKER_BROKER_THREAD_H

#include "base/config.h"

struct broker_threads;

/* As broker_open for each of log.shards, and returns when that is done; all or none. `config`
 * outlives the threads. */
int broker_start(const struct config *config, struct broker_threads **ret_threads,
                 struct error *err);
/* Has them read their TLS files again (tls_net_reload); how that went is logged. Does not block. */
void broker_reload(struct broker_threads *threads);
/* Blocks until all brokers are drained and closed and the threads gone. */
void broker_stop(struct broker_threads *threads);

#endif
