/* The coordinator's inside: coordinator.c (partitions of `groups`, folding, members, time),
 * group_requests.c (what
 * clients ask), group_describe.c (what people ask) and group_expire.c (offsets of groups that are
 * gone). */
#ifndef NODES_BROKER_COORDINATOR_PRIV_H
#define NODES_BROKER_COORDINATOR_PRIV_H

#include "nodes/broker/broker_priv.h"
#include "nodes/broker/coordinator.h"
#include "nodes/broker/group_state.h"
#include "nodes/broker/group_view.h"

#define GROUP_COMMIT_MAX      GROUP_SLOTS_MAX /* partitions in one commit */
#define GROUP_BATCH_BYTES_MAX (2u << 20)

/* One partition of `groups`. */
struct groups_part {
    struct coordinator *coordinator;
    uint32_t index;
    struct group_view view;
    int64_t next;     /* offset to be folded next */
    bool fold_failed; /* said once */
    struct env_timer fold;
    bool folding; /* the timer runs */
    /* As leader */
    uint64_t term; /* 0: not leading */
    uint64_t leading_since_ns;
    uint64_t generation; /* the next group begins above it */
    struct list states;  /* struct group_state.link */
    uint32_t n_states;
    uint64_t expire_at_ns;
    struct group_commits commits;
    bool expiring; /* a batch of group_expire.c is on its way */
};

struct coordinator {
    struct list inits; /* of named producers, not committed yet */
    struct broker *broker;
    struct groups_part *parts;
    uint32_t n_parts;
};

/* coordinator.c */
struct replica *part_replica(const struct groups_part *part); /* NULL: there is none */
struct groups_part *part_of(struct coordinator *co, const char *name);
/* 0: this node leads the partition and has folded all of it. */
int part_ready(struct groups_part *part);
/* This node has led it for so short that members may not have said yet that they are. */
bool part_is_new(const struct groups_part *part);
struct group_state *part_state(struct groups_part *part, const char *group); /* or NULL */
int part_state_make(struct groups_part *part, const char *group, struct group_state **ret_group);
/* After any change of members: assigns when due, answers polls that have something to be told,
 * forgets a group without members. */
void part_state_run(struct groups_part *part, struct group_state *g, uint64_t now_ns);
void part_member_leave(struct groups_part *part, struct membership *m);
void part_member_refuse(struct groups_part *part, struct membership *m, int code);
uint32_t coordinator_topic_partitions(const struct coordinator *co, const char *topic);

/* group_requests.c. The partition that coordinates the group; NULL: the request has been refused.
 */
struct groups_part *groups_part_asked(struct conn *c, const struct frame *frame, const char *group);

/* group_expire.c */
void part_expire(struct groups_part *part, uint64_t now_ns);

#endif
