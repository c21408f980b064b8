/* Which member of a consumer group gets which partition: a pure function. Any thread; no memory of
 * its own.
 *
 * Sticky: a partition stays with its owner unless the balance asks for it. Balanced: no single move
 * would make the loads of two members more equal; when all members subscribe to the same topics
 * they differ by one partition at most, and no more partitions move than that takes. */
#ifndef NODES_BROKER_GROUP_ASSIGN_H
#define NODES_BROKER_GROUP_ASSIGN_H

#include <stdint.h>

#define GROUP_TOPICS_MAX 64 /* of one group: bits of assign_member.topics */

struct assign_member {
    uint64_t topics; /* those it subscribes to, one bit each */
    uint32_t load;   /* out: partitions it gets */
};

struct assign_slot {
    uint32_t topic; /* bit */
    int32_t owner;  /* index of a member, -1: nobody; before and after */
};

/* Slots that no member subscribes to end with owner -1. Takes O(slots) plus O(topics * members +
 * slots) for each partition that moves. */
void group_assign(struct assign_member *members, uint32_t n_members, struct assign_slot *slots,
                  uint32_t n_slots);

#endif
