#include "base/shard.h"

#include <string.h>

#include "base/config.h"

uint32_t shard_of(const char *topic, uint32_t partition, uint32_t n_shards)
{
    if (n_shards <= 1 || strcmp(topic, CONFIG_TOPIC_META) == 0) {
        return 0;
    }
    return partition % n_shards;
}

uint16_t shard_port(uint32_t port, uint32_t shard)
{
    uint32_t at = port + SHARD_PORT_STEP * shard;
    return shard < SHARDS_MAX && at <= UINT16_MAX ? (uint16_t)at : 0;
}
