#include "nodes/broker/reconcile.h"

#include <stdlib.h>

#include "base/logging.h"
#include "nodes/broker/broker_priv.h"

#define CAUGHT_UP_ENTRIES 1024       /* a standby that lacks less becomes a voter */
#define CATCHING_UP_MAX   4          /* new replicas that the groups of this node feed at a time */
#define RETRY_NS          500000000u /* after a step that came to nothing */
#define MEMBERS_MAX       CONFIG_NODES_MAX

/* --- The next step, purely --- */

static bool among(const uint32_t *ids, unsigned n, uint32_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static const struct group_member *member_of(const struct group_member *members, unsigned n,
                                            uint32_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (members[i].id == id) {
            return &members[i];
        }
    }
    return NULL;
}

static bool caught_up(const struct group_member *m, uint64_t last)
{
    return m->connected && m->match.v + CAUGHT_UP_ENTRIES >= last;
}

static struct reconcile_step change(uint32_t id, enum group_role role)
{
    return (struct reconcile_step){.kind = RECONCILE_CHANGE, .id = id, .role = role};
}

/* Somebody who is wanted and does not vote (or stand by) yet. */
static struct reconcile_step next_in(const struct reconcile_want *want,
                                     const struct group_member *members, unsigned n, uint64_t last,
                                     bool *ret_complete)
{
    *ret_complete = !want->incomplete;
    for (unsigned i = 0; i < want->n_voters; i++) {
        const struct group_member *m = member_of(members, n, want->voters[i]);
        bool votes = m != NULL && m->role == GROUP_VOTER;
        *ret_complete = *ret_complete && votes;
        if (m == NULL || (m->role == GROUP_SPARE && m->connected)) {
            return change(want->voters[i], GROUP_STANDBY);
        }
        if (!votes && caught_up(m, last)) {
            return change(m->id, GROUP_VOTER);
        }
    }
    for (unsigned i = 0; i < want->n_standbys; i++) {
        const struct group_member *m = member_of(members, n, want->standbys[i]);
        if (m == NULL || (m->role == GROUP_SPARE && m->connected)) {
            return change(want->standbys[i], GROUP_STANDBY);
        }
    }
    return (struct reconcile_step){.kind = RECONCILE_NOTHING};
}

uint32_t reconcile_heir(const struct group_member *members, unsigned n_members, uint32_t self,
                        uint64_t last, uint64_t turn, reconcile_fit_cb fit, const void *data)
{
    uint32_t heirs[MEMBERS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < n_members && n < MEMBERS_MAX; i++) {
        if (members[i].id != self && members[i].role == GROUP_VOTER &&
            caught_up(&members[i], last) && fit(data, members[i].id)) {
            heirs[n++] = members[i].id;
        }
    }
    return n > 0 ? heirs[turn % n] : 0;
}

static bool stays(const void *data, uint32_t id)
{
    const struct reconcile_want *want = data;
    return among(want->voters, want->n_voters, id);
}

static bool stays_and_is_fit(const void *data, uint32_t id)
{
    const struct reconcile_want *want = data;
    return stays(data, id) && !among(want->unfit, want->n_unfit, id);
}

/* Somebody who is not wanted, or not as a voter. */
static struct reconcile_step next_out(const struct reconcile_want *want,
                                      const struct group_member *members, unsigned n, uint32_t self,
                                      uint64_t last, bool complete)
{
    uint32_t heir = reconcile_heir(members, n, self, last, 0, stays_and_is_fit, want);
    if (heir == 0) {
        heir = reconcile_heir(members, n, self, last, 0, stays, want);
    }
    for (unsigned i = 0; i < n; i++) {
        const struct group_member *m = &members[i];
        bool votes = among(want->voters, want->n_voters, m->id);
        bool stands = among(want->standbys, want->n_standbys, m->id);
        bool goes = (!votes && !stands) || (stands && m->role == GROUP_VOTER);
        if (!goes || (m->role == GROUP_VOTER && !complete)) {
            continue;
        }
        if (m->id != self) {
            return change(m->id, stands ? GROUP_STANDBY : GROUP_NONE);
        }
        if (heir != 0) {
            return (struct reconcile_step){.kind = RECONCILE_TRANSFER, .id = heir};
        }
    }
    return (struct reconcile_step){.kind = RECONCILE_NOTHING};
}

struct reconcile_step reconcile_next(const struct reconcile_want *want,
                                     const struct group_member *members, unsigned n_members,
                                     uint32_t self, uint64_t last)
{
    bool complete = false;
    struct reconcile_step in = next_in(want, members, n_members, last, &complete);
    if (want->n_voters == 0) {
        return (struct reconcile_step){.kind = RECONCILE_NOTHING}; /* not known */
    }
    struct reconcile_step out = next_out(want, members, n_members, self, last, complete);
    return in.kind != RECONCILE_NOTHING ? in : out;
}

void reconcile_meta_want(const struct cluster *c, const struct group_member *members,
                         unsigned n_members, struct reconcile_want *w)
{
    uint32_t ids[CLUSTER_NODES_MAX];
    unsigned n = cluster_log_nodes(c, ids);
    unsigned voters = n < CLUSTER_META_VOTERS ? n : CLUSTER_META_VOTERS;
    voters -= voters > 2 && voters % 2 == 0;
    *w = (struct reconcile_want){0};
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < n && w->n_voters < voters; i++) {
            const struct group_member *m = member_of(members, n_members, ids[i]);
            bool votes = m != NULL && m->role == GROUP_VOTER;
            if ((votes || pass == 1) && !among(w->voters, w->n_voters, ids[i])) {
                w->voters[w->n_voters++] = ids[i];
            }
        }
    }
    for (unsigned i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *node = &c->nodes[i];
        if (!node->node.no_log && node->state != CLUSTER_REMOVED &&
            !among(w->voters, w->n_voters, node->node.id)) {
            w->standbys[w->n_standbys++] = node->node.id;
        }
    }
}

/* --- Doing it --- */

static void on_changed(struct group_change *req, int status)
{
    struct replica *r = req->data;
    r->changing = false;
    r->step_ns = status == 0 ? 0 : env_now_ns(r->broker->env) + RETRY_NS;
}

static void on_transferred(struct group_transfer *req, int status)
{
    struct replica *r = req->data;
    r->transferring = false;
    r->step_ns = status == 0 ? 0 : env_now_ns(r->broker->env) + RETRY_NS;
}

static void transfer(struct replica *r, uint32_t target)
{
    r->transfer.data = r;
    r->transferring = true;
    int rv = group_transfer(r->group, &r->transfer, target, on_transferred);
    if (rv != 0) {
        r->transferring = false;
        r->step_ns = env_now_ns(r->broker->env) + RETRY_NS;
    }
}

static void take_step(struct replica *r, const struct reconcile_step *s)
{
    struct broker *b = r->broker;
    if (s->kind == RECONCILE_TRANSFER) {
        transfer(r, s->id);
        return;
    }
    r->change.data = r;
    r->changing = true;
    int rv = group_change(r->group, &r->change, s->id, s->role, on_changed);
    if (rv != 0) {
        r->changing = false;
        r->step_ns = env_now_ns(b->env) + RETRY_NS;
        return;
    }
    log_info("member_changes", "topic=%s partition=%u id=%u role=%d", r->topic->name, r->partition,
             s->id, (int)s->role);
}

static void want_of(const struct replica *r, const struct group_member *members, unsigned n,
                    struct reconcile_want *w)
{
    const struct roster *roster = &r->broker->roster;
    const struct cluster_placement *p = &roster->cluster.placements[r->index];
    *w = (struct reconcile_want){0};
    if (r == roster->meta) {
        reconcile_meta_want(&roster->cluster, members, n, w);
    }
    for (unsigned i = 0; r != roster->meta && i < p->replicas.n; i++) {
        w->voters[w->n_voters++] = p->replicas.at[i];
    }
    for (unsigned i = 0; i < n; i++) {
        if (!room_of(r->broker, members[i].id)) {
            w->unfit[w->n_unfit++] = members[i].id;
        }
    }
}

/* Who is no member yet and not there is not waited for. */
static void drop_unreachable(const struct broker *b, const struct group_member *members, unsigned n,
                             struct reconcile_want *w)
{
    unsigned k = 0;
    for (unsigned i = 0; i < w->n_voters; i++) {
        uint32_t id = w->voters[i];
        if (id == b->self->id || transport_connected(b->transport, id) ||
            member_of(members, n, id) != NULL) {
            w->voters[k++] = id;
        }
    }
    w->incomplete = k < w->n_voters;
    w->n_voters = k;
    k = 0;
    for (unsigned i = 0; i < w->n_standbys; i++) {
        uint32_t id = w->standbys[i];
        if (id == b->self->id || transport_connected(b->transport, id) ||
            member_of(members, n, id) != NULL) {
            w->standbys[k++] = id;
        }
    }
    w->n_standbys = k;
}

static bool is_active(const void *data, uint32_t id)
{
    const struct broker *b = data;
    const struct cluster_node *node = cluster_node(&b->roster.cluster, id);
    return node != NULL && node->state == CLUSTER_ACTIVE;
}

static bool is_active_with_room(const void *data, uint32_t id)
{
    return is_active(data, id) && room_of(data, id);
}

/* A node that drains leads nothing, and one whose disk is full nothing that others can lead. */
static uint32_t heir_of(const struct replica *r, const struct group_member *members, unsigned n,
                        uint64_t last)
{
    const struct broker *b = r->broker;
    const struct cluster_node *self = roster_self(&b->roster);
    bool drains = self != NULL && self->state != CLUSTER_ACTIVE;
    uint64_t turn = r->index + b->sweeps;
    uint32_t heir = 0;
    if (drains || (b->room.full && !room_is_scarce(b, members, n))) {
        heir = reconcile_heir(members, n, b->self->id, last, turn, is_active_with_room, b);
    }
    if (drains && heir == 0) {
        heir = reconcile_heir(members, n, b->self->id, last, turn, is_active, b);
    }
    return heir;
}

uint32_t reconcile_heir_with_room(const struct replica *r)
{
    struct group_member members[MEMBERS_MAX];
    unsigned n = group_members(r->group, members, MEMBERS_MAX);
    uint64_t last = partition_last_index(group_partition(r->group)).v;
    return room_is_scarce(r->broker, members, n)
               ? 0
               : reconcile_heir(members, n, r->broker->self->id, last, 0, is_active_with_room,
                                r->broker);
}

static unsigned catching_up(const struct broker *b)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        count += b->replicas[i].feeding;
    }
    return count;
}

/* True when a member of the group has yet to get most of the log. */
static bool feeds(const struct group_member *members, unsigned n, uint64_t last)
{
    for (unsigned i = 0; i < n; i++) {
        if (members[i].role != GROUP_VOTER && members[i].connected &&
            !caught_up(&members[i], last)) {
            return true;
        }
    }
    return false;
}

static void look_at(struct replica *r, uint64_t now_ns)
{
    struct group_member members[MEMBERS_MAX];
    struct reconcile_want want;
    struct broker *b = r->broker;
    r->feeding = false;
    if (r->group == NULL || r->failed[0] != '\0' || !group_is_leader(r->group)) {
        r->moving_ns = 0;
        return;
    }
    r->moving_ns = b->room.full ? r->moving_ns : 0;
    unsigned n = group_members(r->group, members, MEMBERS_MAX);
    uint64_t last = partition_last_index(group_partition(r->group)).v;
    r->feeding = feeds(members, n, last);
    if (r->changing || r->transferring || now_ns < r->step_ns) {
        return;
    }
    want_of(r, members, n, &want);
    drop_unreachable(b, members, n, &want);
    struct reconcile_step s = reconcile_next(&want, members, n, b->self->id, last);
    uint32_t heir = heir_of(r, members, n, last);
    if (heir != 0) {
        transfer(r, heir);
    } else if (s.kind != RECONCILE_NOTHING &&
               (s.kind != RECONCILE_CHANGE || s.role != GROUP_STANDBY || r == b->roster.meta ||
                catching_up(b) < CATCHING_UP_MAX)) {
        take_step(r, &s);
    }
}

void reconcile_tick(struct broker *b, uint64_t now_ns)
{
    if (!b->roster.known) {
        return;
    }
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        look_at(&b->replicas[i], now_ns);
    }
}

bool reconcile_settled(const struct replica *r)
{
    struct partition *p = group_partition(r->group);
    return !r->changing && !r->transferring &&
           partition_config_index(p, partition_last_index(p)).v <= partition_commit_index(p).v;
}

void reconcile_hand_over(struct replica *r, uint32_t target)
{
    if (r->group != NULL && group_is_leader(r->group) && !r->changing && !r->transferring &&
        target != r->broker->self->id) {
        transfer(r, target);
    }
}
