/* MurmurHash2, 32 bits, with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2): what keys
 * are spread over partitions with. Pure; any thread. */
#ifndef BASE_MURMUR2_H
#define BASE_MURMUR2_H

#include <stddef.h>
#include <stdint.h>

uint32_t murmur2(const void *data, size_t n);
/* Kafka's default partitioner. */
static inline uint32_t murmur2_partition(const void *key, size_t n, uint32_t n_partitions)
{
    return (murmur2(key, n) & 0x7fffffff) % n_partitions;
}

#endif
