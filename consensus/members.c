/* Changes of a group's membership and of its leader: guards 9, 10 and 11.
 *
 * A change is one server and one role at a time, each an entry of the log (Raft dissertation, 4.1),
 * and takes as many steps as libraft has roles in between: none, spare, standby, voter. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "consensus/group_impl.h"

static bool is_leader(const struct group *g)
{
    return g->phase == GROUP_UP && g->raft_started && g->raft.state == RAFT_LEADER;
}

static enum group_role role_of(const struct group *g, uint32_t id)
{
    return configuration_role(&g->raft.configuration, id);
}

/* --- Guard 9: when the configuration may change --- */

/* Two configurations at once, or one on top of an older leader's that was never committed, can have
 * majorities that don't meet (the bug in Raft's single server changes). So: an entry of the own
 * term is committed, and so is every configuration in the log. libraft's mark of an uncommitted one
 * is lost in a restart. */
bool members_settled(struct group *g)
{
    if (!guard_on(GUARD_CHANGE)) {
        return is_leader(g);
    }
    return is_leader(g) && g->may_propose &&
           partition_config_index(g->partition, LOG_INDEX(storage_last(g))).v <=
               g->raft.commit_index;
}

/* It takes part in this leadership: it has acknowledged something, and is there still. */
static bool takes_part(struct group *g, uint32_t id)
{
    const struct group_peer *peer = group_peer(g, id);
    return id == g->self_id || (peer != NULL && peer->match > 0 && !peer->lost &&
                                transport_connected(g->transport, id));
}

/* Would they be enough after this change? libraft itself waits for one that is to become a voter.
 * Safety does not depend on it: the group's life
 * does. */
static bool quorum_is_there(struct group *g, uint32_t id, enum group_role role)
{
    const struct raft_configuration *c = &g->raft.configuration;
    unsigned voters = 0, there = 0;
    for (unsigned i = 0; i < c->n; i++) {
        uint32_t server = (uint32_t)c->servers[i].id;
        bool voter = server == id ? role == GROUP_VOTER : c->servers[i].role == RAFT_VOTER;
        voters += voter;
        there += voter && (server == id || takes_part(g, server));
    }
    return there > voters / 2;
}

static int check_change(struct group *g, uint32_t id, enum group_role role)
{
    if (!is_leader(g) || !g->may_propose || g->leaving) {
        return WEIR_ENOTLEADER;
    }
    if (id == 0 || role == GROUP_SPARE || (id == g->self_id && guard_on(GUARD_CHANGE))) {
        return WEIR_EINVAL; /* a leader that removes itself may strand the rest: transfer first */
    }
    if (g->members.req != NULL || g->transfer.req != NULL || !members_settled(g)) {
        return WEIR_EBUSY;
    }
    if (role_of(g, id) == GROUP_NONE && g->raft.configuration.n >= GROUP_VOTERS_MAX) {
        return WEIR_ERANGE;
    }
    return quorum_is_there(g, id, role) ? 0 : WEIR_EUNAVAILABLE;
}

/* --- Changes, step by step --- */

static int status_of(int raft_status)
{
    switch (raft_status) {
    case 0:
        return 0;
    case RAFT_NOMEM:
        return WEIR_ENOMEM;
    case RAFT_NOCONNECTION: /* the server did not catch up in time */
    case RAFT_CANTCHANGE:
        return WEIR_EUNAVAILABLE;
    case RAFT_NOTLEADER:
        return WEIR_ENOTLEADER;
    default:
        return WEIR_EUNKNOWN;
    }
}

/* From inside libraft: no call of it may be made here. */
static void stepped(struct raft_change *change, int status)
{
    struct group *g = change->data;
    g->members.stepping = false;
    g->members.status = status_of(status);
    group_later(g);
}

static int start_step(struct group *g)
{
    struct membership *m = &g->members;
    struct group_peer *peer = peers_add(g, m->id);
    enum group_role now = role_of(g, m->id);
    if (peer == NULL && m->id != g->self_id) {
        return RAFT_NOMEM;
    }
    const char *address = peer != NULL ? peer->address : g->self_address;
    m->change.data = g;
    m->stepping = true;
    if (m->role == GROUP_NONE) {
        return raft_remove(&g->raft, &m->change, m->id, stepped);
    }
    if (now == GROUP_NONE) {
        return raft_add(&g->raft, &m->change, m->id, address, stepped);
    }
    int to = m->role == GROUP_VOTER && now == GROUP_STANDBY ? RAFT_VOTER : RAFT_STANDBY;
    return raft_assign(&g->raft, &m->change, m->id, to, stepped);
}

/* libraft frees a configuration that is in use when it can't append its entry: that append must not
 * fail. */
static int step(struct group *g)
{
    assert(g->spare_append == NULL);
    g->spare_append = storage_spare_append();
    if (g->spare_append == NULL) {
        return WEIR_ENOMEM;
    }
    int rv = start_step(g);
    free(g->spare_append);
    g->spare_append = NULL;
    if (rv != 0) {
        g->members.stepping = false;
        return status_of(rv);
    }
    guard_settle(g);
    return 0;
}

static void finish(struct group *g, int status)
{
    struct membership *m = &g->members;
    struct group_change *req = m->req;
    log_info("raft_member", "group=%u id=%u role=%d status=\"%s\"", g->options.id, m->id,
             (int)m->role, status == 0 ? "ok" : error_name(status));
    m->req = NULL;
    if (req->cb != NULL) {
        req->cb(req, status);
    }
}

static void change_turn(struct group *g)
{
    struct membership *m = &g->members;
    if (m->req == NULL || m->stepping) {
        return;
    }
    if (m->status != 0) {
        finish(g, m->status);
    } else if (!is_leader(g) || g->raft.current_term != m->term) {
        finish(g, WEIR_EUNKNOWN);
    } else if (role_of(g, m->id) == m->role && members_settled(g)) {
        finish(g, 0);
    } else if (members_settled(g)) {
        int rv = step(g);
        if (rv != 0) {
            finish(g, rv);
        }
    }
}

int group_change(struct group *g, struct group_change *req, uint32_t server_id,
                 enum group_role role, group_change_cb cb)
{
    struct membership *m = &g->members;
    int rv = check_change(g, server_id, role);
    if (rv != 0) {
        return rv;
    }
    req->cb = cb;
    *m = (struct membership){
        .req = req,
        .id = server_id,
        .role = role,
        .term = g->raft.current_term,
    };
    if (role_of(g, server_id) == role) {
        group_later(g);
        return 0;
    }
    rv = step(g);
    if (rv != 0) {
        m->req = NULL;
    }
    return rv;
}

/* --- Guard 10: a sole voter --- */

bool members_sole_voter(const struct group *g, const struct raft_configuration *c)
{
    return configuration_role(c, g->self_id) == GROUP_VOTER && configuration_voters(c) == 1;
}

/* libraft makes a sole voter leader in the term that it has already led: two leaderships of one
 * term, whose entries nothing tells apart. The term is raised, and the own vote given, on disk
 * (guard 12 keeps it
 * silent until they are). */
int members_before_start(struct group *g, struct error *err)
{
    struct raft_configuration c;
    if (!guard_on(GUARD_SOLE) || g->recovering) {
        return 0;
    }
    int rv = storage_newest_configuration(g, &c, err);
    if (rv != 0) {
        return rv;
    }
    bool sole = members_sole_voter(g, &c);
    raft_configuration_close(&c);
    raft_term last = storage_term(g, storage_last(g));
    if (sole) {
        storage_promise(g, (last > g->term ? last : g->term) + 1, g->self_id);
    }
    return 0;
}

/* The same before a tick that elects it. */
void members_before_tick(struct group *g)
{
    struct raft *r = &g->raft;
    if (!guard_on(GUARD_SOLE) || r->state != RAFT_FOLLOWER ||
        !members_sole_voter(g, &r->configuration) ||
        group_now_ms(g) - r->election_timer_start < r->follower_state.randomized_election_timeout) {
        return;
    }
    g->verified = 0;
    storage_promise(g, r->current_term + 1, g->self_id);
    r->current_term = g->term;
    r->voted_for = g->vote;
}

/* --- Guard 11: leadership transfer --- */

static void transfer_finish(struct group *g, int status)
{
    struct group_transfer *req = g->transfer.req;
    g->transfer.req = NULL;
    log_info("raft_transfer", "group=%u to=%u status=\"%s\"", g->options.id, g->transfer.target,
             status == 0 ? "ok" : error_name(status));
    if (req->cb != NULL) {
        req->cb(req, status);
    }
}

/* From inside libraft: the target leads, the time is up, or libraft closes. */
static void transferred(struct raft_transfer *raft)
{
    struct group *g = raft->data;
    g->transfer.started = false;
    g->transfer.ended = true;
    group_later(g);
}

/* libraft takes a server for up to date when all was sent to it. What it lacks it could not lead
 * with, and what is in flight here would end with an unknown outcome. */
static bool may_hand_over(struct group *g)
{
    const struct group_peer *peer = group_peer(g, g->transfer.target);
    raft_index last = storage_last(g);
    if (!guard_on(GUARD_TRANSFER)) {
        return true;
    }
    return g->may_propose && list_empty(&g->appends) && list_empty(&g->proposals) &&
           g->raft.commit_index == last && g->raft.last_applied == last && peer != NULL &&
           peer->match == last;
}

static void transfer_turn(struct group *g)
{
    struct transfer *t = &g->transfer;
    if (t->req != NULL && t->started && g->phase == GROUP_FAILED) {
        transfer_finish(g, WEIR_EUNKNOWN); /* no tick will end it */
        return;
    }
    if (t->req == NULL || t->started) {
        return;
    }
    if (t->ended) {
        bool led = g->raft_started && g->raft.state == RAFT_FOLLOWER &&
                   g->raft.follower_state.current_leader.id == t->target;
        transfer_finish(g, led ? 0 : WEIR_EUNKNOWN);
    } else if (!is_leader(g)) {
        transfer_finish(g, WEIR_ENOTLEADER);
    } else if (env_now_ns(g->env) >= t->until_ns) {
        transfer_finish(g, WEIR_ETIMEOUT);
    } else if (may_hand_over(g)) {
        t->started = true;
        t->raft.data = g;
        int rv = raft_transfer(&g->raft, &t->raft, t->target, transferred);
        if (rv != 0) {
            t->started = false;
            transfer_finish(g, rv == RAFT_BADID ? WEIR_EINVAL : WEIR_EUNAVAILABLE);
            return;
        }
        guard_settle(g);
    }
}

static bool is_better(const struct group_peer *a, const struct group_peer *b)
{
    return a->unfit != b->unfit ? b->unfit : a->match > b->match;
}

/* The voter that lacks least, of those that may well lead. */
static uint32_t best_target(struct group *g)
{
    const struct group_peer *best = NULL;
    for (unsigned i = 0; i < g->n_peers; i++) {
        const struct group_peer *peer = g->peers[i];
        if (peer->role == GROUP_VOTER && peer->match > 0 &&
            transport_connected(g->transport, peer->id) &&
            (best == NULL || is_better(peer, best))) {
            best = peer;
        }
    }
    return best != NULL ? best->id : 0;
}

static int transfer_begin(struct group *g, struct group_transfer *req, uint32_t target_id,
                          uint64_t patience_ms, group_transfer_cb cb)
{
    if (!is_leader(g) || !g->may_propose) {
        return WEIR_ENOTLEADER;
    }
    if (g->transfer.req != NULL || g->members.req != NULL) {
        return WEIR_EBUSY;
    }
    uint32_t target = target_id != 0 ? target_id : best_target(g);
    if (target_id != 0 && (target == g->self_id || role_of(g, target) != GROUP_VOTER)) {
        return WEIR_EINVAL;
    }
    if (target == 0 || !transport_connected(g->transport, target)) {
        return WEIR_EUNAVAILABLE;
    }
    req->cb = cb;
    g->transfer.req = req;
    g->transfer.target = target;
    g->transfer.ended = false;
    g->transfer.until_ns = env_now_ns(g->env) + patience_ms * 1000000;
    group_later(g);
    return 0;
}

int group_transfer(struct group *g, struct group_transfer *req, uint32_t target_id,
                   group_transfer_cb cb)
{
    return g->leaving ? WEIR_ENOTLEADER
                      : transfer_begin(g, req, target_id, g->options.election_ms, cb);
}

int members_leave(struct group *g, struct group_transfer *req, group_transfer_cb cb)
{
    uint64_t patience_ms = g->options.election_ms / 2;
    return transfer_begin(g, req, 0, patience_ms < LEAVE_MS ? patience_ms : LEAVE_MS, cb);
}

/* --- Who had better not lead --- */

void group_set_unfit(struct group *g, uint32_t id, bool unfit)
{
    struct group_peer *peer = group_peer(g, id);
    if (id == g->self_id) {
        g->unfit = unfit;
    } else if (peer != NULL) {
        peer->unfit = unfit;
    }
}

bool members_gives_way(const struct group *g, uint32_t leader)
{
    for (unsigned i = 0; g->unfit && i < g->n_peers; i++) {
        const struct group_peer *peer = g->peers[i];
        if (peer->role == GROUP_VOTER && !peer->unfit && peer->id != leader &&
            transport_connected(g->transport, peer->id)) {
            return true;
        }
    }
    return false;
}

/* --- Turns and questions --- */

void members_turn(struct group *g)
{
    change_turn(g);
    transfer_turn(g);
}

void members_abandon(struct group *g)
{
    if (g->members.req != NULL) {
        finish(g, WEIR_EUNKNOWN);
    }
    if (g->transfer.req != NULL) {
        transfer_finish(g, WEIR_EUNKNOWN);
    }
}

unsigned group_members(const struct group *g, struct group_member *out, unsigned max)
{
    const struct raft_configuration *c = &g->raft.configuration;
    unsigned n = 0;
    for (unsigned i = 0; g->raft_started && i < c->n && n < max; i++) {
        uint32_t id = (uint32_t)c->servers[i].id;
        bool self = id == g->self_id;
        out[n++] = (struct group_member){
            .id = id,
            .role = configuration_role(c, id),
            .match = self ? partition_durable_index(g->partition) : group_match_index(g, id),
            .connected = self || transport_connected(g->transport, id),
        };
    }
    return n;
}
