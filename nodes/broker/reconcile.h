/* Leaders bring their groups to what `meta` wants: each looks at its own group's members and at the
 * placement, and takes the one next step: add who is missing as a standby, make it a voter when it
 * has caught up, and only when all who are wanted vote, remove who is not; a leader that is to go
 * hands over first. There is no plan that could be lost: a leader that dies leaves a group whose
 * next leader sees what is still to be done. Loop thread. */
#ifndef NODES_BROKER_RECONCILE_H
#define NODES_BROKER_RECONCILE_H

#include "consensus/group.h"
#include "nodes/broker/cluster.h"

struct broker;
struct replica;

/* What a leader wants its group to be. */
struct reconcile_want {
    uint32_t voters[CLUSTER_NODES_MAX];
    unsigned n_voters;
    uint32_t standbys[CLUSTER_NODES_MAX];
    unsigned n_standbys;
    uint32_t unfit[CLUSTER_NODES_MAX]; /* had better not lead (room.h) */
    unsigned n_unfit;
    bool incomplete; /* a voter that is wanted can't be reached: nobody is removed */
};

enum reconcile_kind { RECONCILE_NOTHING, RECONCILE_CHANGE, RECONCILE_TRANSFER };
struct reconcile_step {
    enum reconcile_kind kind;
    uint32_t id;
    enum group_role role; /* of a change */
};
/* The next step; pure. `last` is the end of the leader's log. A server that is not connected is
 * neither added nor promoted. */
struct reconcile_step reconcile_next(const struct reconcile_want *want,
                                     const struct group_member *members, unsigned n_members,
                                     uint32_t self, uint64_t last);
/* Who is to vote in `meta`: an odd number of active log nodes, five at most, preferring those that
 * do already; all other log nodes stand by; pure. */
void reconcile_meta_want(const struct cluster *c, const struct group_member *members,
                         unsigned n_members, struct reconcile_want *ret_want);

/* A voter but `self` that has caught up and is fit; of several one after the other, with `turn`.
 * 0: none; pure. */
typedef bool (*reconcile_fit_cb)(const void *data, uint32_t id);
uint32_t reconcile_heir(const struct group_member *members, unsigned n_members, uint32_t self,
                        uint64_t last, uint64_t turn, reconcile_fit_cb fit, const void *data);

/* Ten times a second. */
void reconcile_tick(struct broker *b, uint64_t now_ns);
/* Nothing is under way in a group that is led here, and its configuration is committed. */
bool reconcile_settled(const struct replica *r);
/* Who is to lead instead, when this node's disk is full; 0: nobody can now. */
uint32_t reconcile_heir_with_room(const struct replica *r);
/* Hands the group over, if it is led here and the target is one of its members. */
void reconcile_hand_over(struct replica *r, uint32_t target);

#endif
