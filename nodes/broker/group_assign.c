#include "nodes/broker/group_assign.h"

#include <stdbool.h>
#include <stddef.h>

static bool subscribes(const struct assign_member *m, uint32_t topic)
{
    return (m->topics >> topic & 1) != 0;
}

/* The subscriber with the fewest partitions, the first of equals; -1: nobody subscribes. */
static int32_t least_loaded(const struct assign_member *members, uint32_t n, uint32_t topic)
{
    int32_t best = -1;
    for (uint32_t i = 0; i < n; i++) {
        if (subscribes(&members[i], topic) && (best < 0 || members[i].load < members[best].load)) {
            best = (int32_t)i;
        }
    }
    return best;
}

/* Makes the move that helps most; false when none does. */
static bool move_one(struct assign_member *members, uint32_t n_members, struct assign_slot *slots,
                     uint32_t n_slots)
{
    int32_t least[GROUP_TOPICS_MAX];
    uint64_t known = 0;
    struct assign_slot *best = NULL;
    uint32_t best_gain = 1; /* a difference of one is balanced */
    for (uint32_t i = 0; i < n_slots; i++) {
        struct assign_slot *s = &slots[i];
        if (s->owner < 0) {
            continue;
        }
        if ((known >> s->topic & 1) == 0) {
            known |= UINT64_C(1) << s->topic;
            least[s->topic] = least_loaded(members, n_members, s->topic);
        }
        uint32_t from = members[s->owner].load, to = members[least[s->topic]].load;
        if (from > to && from - to > best_gain) {
            best = s;
            best_gain = from - to;
        }
    }
    if (best == NULL) {
        return false;
    }
    members[best->owner].load--;
    best->owner = least[best->topic];
    members[best->owner].load++;
    return true;
}

void group_assign(struct assign_member *members, uint32_t n_members, struct assign_slot *slots,
                  uint32_t n_slots)
{
    for (uint32_t i = 0; i < n_members; i++) {
        members[i].load = 0;
    }
    for (uint32_t i = 0; i < n_slots; i++) {
        struct assign_slot *s = &slots[i];
        if (s->owner >= 0 && subscribes(&members[s->owner], s->topic)) {
            members[s->owner].load++;
        } else {
            s->owner = -1;
        }
    }
    for (uint32_t i = 0; i < n_slots; i++) {
        struct assign_slot *s = &slots[i];
        if (s->owner < 0) {
            s->owner = least_loaded(members, n_members, s->topic);
            if (s->owner >= 0) {
                members[s->owner].load++;
            }
        }
    }
    while (move_one(members, n_members, slots, n_slots)) {}
}
