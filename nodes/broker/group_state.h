/* The members of one consumer group and who holds which partition: soft state of the group's
 * coordinator, without any input or output of its own. Times are given by the caller.
 *
 * A partition has a *target*, the member that is to have it, and a *holder*, the one that may
 * consume it and commit. It is given to its target only once it has no holder: the old one has been
 * told, has said in a poll that it has let go, or is gone. Members tell in each poll what they
 * hold, so that a new coordinator learns it from them; a claim is believed unless somebody else
 * holds the partition or has been given it since.
 *
 * The generation grows with every change of members, and each holding remembers the one it was
 * given in: a commit of an older one is fenced. Loop thread only. */
#ifndef NODES_BROKER_GROUP_STATE_H
#define NODES_BROKER_GROUP_STATE_H

#include <stdbool.h>

#include "base/config.h"
#include "base/error.h"
#include "base/list.h"
#include "nodes/broker/group_assign.h"
#include "nodes/broker/group_view.h"

#define GROUP_MEMBERS_MAX    256u
#define GROUP_SLOTS_MAX      4096u /* partitions of all topics of a group */
#define GROUP_MEMBER_ID_MAX  63    /* bytes */
#define GROUP_SESSION_MS_MIN 500u
#define GROUP_SESSION_MS_MAX 600000u
#define GROUP_LOST_LINK_NS                                                                         \
    1000000000u                      /* a member whose connection closed has so long to come back */
#define GROUP_SETTLE_NS   300000000u /* a new group waits so long for more members */
#define GROUP_FAILOVER_NS 1500000000u /* and one that was known before, for its claims */

struct membership {
    struct list link; /* group_state.members, in the order of joining */
    struct group_state *group;
    char id[GROUP_MEMBER_ID_MAX + 1];
    char client[64];
    char peer[64];
    uint64_t topics; /* bits of group_state.topics */
    uint64_t sequence;
    uint64_t session_ns, deadline_ns;
    uint32_t n_held;
    uint32_t index; /* while assigning */
    bool refused;   /* its last poll claimed what it may not have: to be told at once */
    /* The coordinator's: the poll that waits, and the connection that the member is on. */
    void *conn; /* NULL: gone */
    struct list conn_link;
    bool waiting;
    uint64_t correlation, wait_until_ns;
};

/* Commits of a partition of `groups`, which end in the order in which they were proposed. */
struct group_commits {
    uint64_t proposed, ended;
};

struct group_slot {
    uint32_t topic, partition;
    struct membership *holder, *target;
    uint64_t given; /* generation in which it was last given, or committed; 0: not known here */
    uint64_t since; /* commits of the holder carry this generation or a later one */
    uint64_t after; /* group_commits.ended from which on it may be given: what its last holder has
                     * committed without waiting for the answer could still set the group back */
    /* Whose claim was refused in a poll that is not answered yet: the answer leaves the slot out,
     * even if it is free for that member now, for who reads it there goes on from where it was. */
    const struct membership *refused;
    bool told; /* scratch of one poll */
};

struct group_topic {
    char name[CONFIG_NAME_MAX];
    uint32_t n_partitions, first_slot;
};

struct group_state {
    struct list link; /* the coordinator's */
    char name[GROUP_NAME_MAX + 1];
    const struct group_commits *commits;
    uint64_t generation;
    struct group_topic topics[GROUP_TOPICS_MAX];
    uint32_t n_topics;
    struct group_slot *slots;
    uint32_t n_slots;
    struct list members;
    uint32_t n_members;
    bool dirty; /* to be assigned anew, not before: */
    uint64_t assign_at_ns;
};

/* What a member says in a poll. */
struct group_poll {
    const char *member, *client, *peer;
    uint64_t generation, sequence;
    uint32_t session_ms;
    uint64_t topics; /* bits, see group_state_topic */
};

/* `generation`: the next ones are above it. `commits` is kept; the caller counts. */
int group_state_new(const char *name, const struct group_commits *commits, uint64_t generation,
                    uint64_t now_ns, uint64_t settle_ns, struct group_state **ret_group);
void group_state_free(struct group_state *g);

/* The bit of a topic, which is added when it is new. WEIR_ETOOBIG (too many topics or partitions),
 * WEIR_ENOMEM. */
int group_state_topic(struct group_state *g, const char *topic, uint32_t n_partitions,
                      uint32_t *ret_topic);
/* The log has a commit of this generation, from before this coordinator: an older claim, of a
 * member that was thought dead, is not believed. */
void group_state_committed(struct group_state *g, uint32_t topic, uint32_t partition,
                           uint64_t generation);
struct group_slot *group_state_slot(struct group_state *g, const char *topic, uint32_t partition);
struct membership *group_state_member(struct group_state *g, const char *id);

/* A poll, in three steps: begin, owned for each partition that the member says it holds, end. Begin
 * joins a member that is not known. WEIR_EBUSY: too many members; WEIR_ENOMEM; WEIR_EFENCED: an
 * overtaken poll, which changes nothing. */
int group_poll_begin(struct group_state *g, const struct group_poll *poll, uint64_t now_ns,
                     struct membership **ret_member);
void group_poll_owned(struct group_state *g, struct membership *m, uint64_t generation,
                      struct group_slot *slot);
void group_poll_end(struct group_state *g, struct membership *m);

/* Assigns anew when it is due. True: something changed, see whom membership_news concerns. */
bool group_state_assign(struct group_state *g, uint64_t now_ns);
/* The member has something to give up or to be given. */
bool membership_news(const struct membership *m);
/* Gives the member what is free for it; afterwards it holds all slots with this holder and target
 * that are to be told it. */
void membership_give(struct membership *m);
bool membership_may_have(const struct membership *m, const struct group_slot *slot);
/* It may consume and commit the slot, in this generation. */
bool membership_holds(const struct membership *m, const struct group_slot *slot,
                      uint64_t generation);
/* Frees it. The caller has answered its poll and unlinked it from its connection. */
void membership_leave(struct membership *m, uint64_t now_ns);

#endif
