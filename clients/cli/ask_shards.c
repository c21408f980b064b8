#include "clients/cli/ask_shards.h"

#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/murmur2.h"
#include "base/shard.h"

static uint32_t shard_of_group(const char *group, uint32_t partition, uint32_t n_shards,
                               uint32_t groups_partitions)
{
    if (group[0] != '\0' && groups_partitions > 0) {
        partition = murmur2_partition(group, strlen(group), groups_partitions);
    }
    return shard_of(CONFIG_TOPIC_GROUPS, partition, n_shards);
}

bool ask_is_for_all(enum message_type type, const ProtobufCMessage *question, uint32_t n_shards,
                    uint32_t groups_partitions, uint32_t *ret_shard)
{
    *ret_shard = 0;
    switch (type) {
    case BROKER_STATUS_REQUEST:
    case BROKER_SCRUB_REQUEST:
        return n_shards > 1;
    case BROKER_HASH_REQUEST: {
        const Weir__BrokerHashRequest *m = (const Weir__BrokerHashRequest *)question;
        *ret_shard = shard_of(m->topic, m->partition, n_shards);
        return false;
    }
    case BROKER_OFFSETS_REQUEST: {
        const Weir__BrokerOffsetsRequest *m = (const Weir__BrokerOffsetsRequest *)question;
        *ret_shard = shard_of(m->topic, m->partition, n_shards);
        return false;
    }
    case BROKER_GROUP_DESCRIBE_REQUEST: {
        const Weir__BrokerGroupDescribeRequest *m =
            (const Weir__BrokerGroupDescribeRequest *)question;
        *ret_shard = shard_of_group(m->group, m->partition, n_shards, groups_partitions);
        return false;
    }
    case BROKER_GROUP_COMMIT: {
        const Weir__BrokerGroupCommit *m = (const Weir__BrokerGroupCommit *)question;
        *ret_shard = shard_of_group(m->group, 0, n_shards, groups_partitions);
        return false;
    }
    case BROKER_GROUP_OFFSETS_REQUEST: {
        const Weir__BrokerGroupOffsetsRequest *m =
            (const Weir__BrokerGroupOffsetsRequest *)question;
        *ret_shard = shard_of_group(m->group, 0, n_shards, groups_partitions);
        return false;
    }
    default: /* the cluster's: the first one's */
        return false;
    }
}

static int merge_status(Weir__BrokerStatus *m, Weir__BrokerStatus *other)
{
    size_t n = m->n_replicas + other->n_replicas;
    Weir__BrokerReplicaStatus **all =
        realloc(m->replicas, (n + 1) * sizeof(Weir__BrokerReplicaStatus *));
    if (all == NULL) {
        return WEIR_ENOMEM;
    }
    if (other->n_replicas > 0) {
        memcpy(all + m->n_replicas, other->replicas,
               other->n_replicas * sizeof(Weir__BrokerReplicaStatus *));
    }
    m->replicas = all;
    m->n_replicas = n;
    other->n_replicas = 0; /* they have moved */
    m->produced_bytes += other->produced_bytes;
    m->fetched_bytes += other->fetched_bytes;
    m->connections += other->connections;
    for (size_t i = 0; i < m->n_peers; i++) {
        for (size_t k = 0; k < other->n_peers; k++) {
            m->peers[i]->connected =
                m->peers[i]->connected &&
                (m->peers[i]->id != other->peers[k]->id || other->peers[k]->connected);
        }
    }
    return 0;
}

static void merge_scrub(Weir__BrokerScrub *m, const Weir__BrokerScrub *other)
{
    m->running = m->running || other->running;
    m->round = m->round < other->round ? m->round : other->round;
    m->entries += other->entries;
    m->bytes += other->bytes;
    m->found += other->found;
    m->damaged += other->damaged;
}

int ask_merge(ProtobufCMessage *first, ProtobufCMessage *other)
{
    int rv = 0;
    if (first->descriptor == &weir__broker_status__descriptor) {
        rv = merge_status((Weir__BrokerStatus *)first, (Weir__BrokerStatus *)other);
    } else {
        merge_scrub((Weir__BrokerScrub *)first, (const Weir__BrokerScrub *)other);
    }
    message_free(other);
    return rv;
}

/* Of the topics in the order of the first shard's list, which has a partition of each. */
static size_t topic_rank(const char *const *topics, size_t n, const char *topic)
{
    size_t i = 0;
    while (i < n && strcmp(topics[i], topic) != 0) {
        i++;
    }
    return i;
}

void ask_merged(ProtobufCMessage *first, uint32_t n_shards)
{
    const char *topics[CONFIG_TOPICS_MAX];
    size_t n = 0;
    if (first->descriptor != &weir__broker_status__descriptor || n_shards <= 1) {
        return;
    }
    const Weir__BrokerStatus *m = (const Weir__BrokerStatus *)first;
    for (size_t i = 0; i < m->n_replicas && n < CONFIG_TOPICS_MAX; i++) {
        if (topic_rank(topics, n, m->replicas[i]->topic) == n) {
            topics[n++] = m->replicas[i]->topic;
        }
    }
    /* By insertion: runs of each shard are in order already. */
    for (size_t i = 1; i < m->n_replicas; i++) {
        Weir__BrokerReplicaStatus *r = m->replicas[i];
        size_t rank = topic_rank(topics, n, r->topic), at = i;
        for (; at > 0; at--) {
            const Weir__BrokerReplicaStatus *o = m->replicas[at - 1];
            size_t other = topic_rank(topics, n, o->topic);
            if (other < rank || (other == rank && o->partition < r->partition)) {
                break;
            }
            m->replicas[at] = m->replicas[at - 1];
        }
        m->replicas[at] = r;
    }
}
