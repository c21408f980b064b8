/* A node's log runs on one loop thread or on several, its shards: each holds the partitions that
 * this one rule gives it, with sockets, links and files of its own. Nodes and clients agree on the
 * rule without a word; the number of shards (log.shards) is the same on all nodes, for ever. Pure;
 * any thread. */
#ifndef BASE_SHARD_H
#define BASE_SHARD_H

#include <stdint.h>

#define SHARDS_MAX      16
#define SHARD_PORT_STEP 1000u

/* Who holds a partition: 0 for that of `meta`, else partition modulo `n_shards`. */
uint32_t shard_of(const char *topic, uint32_t partition, uint32_t n_shards);
/* Where a shard listens whose node names `port` for its first one: SHARD_PORT_STEP further for
 * each. 0: there is no such port. */
uint16_t shard_port(uint32_t port, uint32_t shard);

#endif
