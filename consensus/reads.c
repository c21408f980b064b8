/* What a replica may answer.
 *
 * A follower's mark stands still when it is cut off, or when its disk takes nothing: readers must
 * not wait there (group_behind).
 *
 * Guard 13, reads that see all that was acknowledged before them (ReadIndex, Raft thesis 6.4; no
 * clock is involved). A leader whose barrier is applied knows all that earlier leaders
 * acknowledged; whether it still leads it asks the others. A round of questions carries the
 * leader's term and a stamp that grows; who is in that very term answers with both. Answers of a
 * majority (the leader among it) to a round that began after the read say: at some moment after
 * the read began, a majority had no later term, so no later leader had been elected by then, and
 * what it will commit comes after the read. All reads that wait share the round. */
#include "base/fault.h"
#include "consensus/group_impl.h"

/* Patience with a silent leader, and with a commit that is known and does not come, in election
 * timeouts: an election may take one or two. */
#define BEHIND_ELECTIONS 2
#define READS_MAX        4096

static uint64_t patience_ns(const struct group *g)
{
    return (uint64_t)g->options.election_ms * BEHIND_ELECTIONS * 1000000u;
}

void reads_init(struct group *g)
{
    list_init(&g->reads.waiting);
    g->reads.heard_ns = transport_clock_ns(g->transport);
}

/* --- How far behind --- */

/* One commit at a time is watched: the newest known when the one before it was reached. Under load
 * a follower is always a little behind the newest. */
static void watch_commit(struct group *g)
{
    struct group_reads *r = &g->reads;
    raft_index here = partition_commit_index(g->partition).v;
    if (r->watched <= here) {
        r->watched = r->leader_commit > here ? r->leader_commit : 0;
        r->watched_ns = transport_clock_ns(g->transport);
    }
}

void reads_heard(struct group *g, const struct message *m)
{
    if (m->raft.append_entries.term < g->term) {
        return;
    }
    g->reads.heard_ns = transport_clock_ns(g->transport);
    if (m->log_commit > g->reads.leader_commit) {
        g->reads.leader_commit = m->log_commit;
    }
    watch_commit(g);
}

bool group_behind(const struct group *g)
{
    const struct group_reads *r = &g->reads;
    uint64_t now_ns = transport_clock_ns(g->transport);
    if (group_is_leader(g)) {
        return false;
    }
    return now_ns - r->heard_ns > patience_ns(g) ||
           (r->watched > partition_commit_index(g->partition).v &&
            now_ns - r->watched_ns > patience_ns(g));
}

/* --- ReadIndex --- */

static void ask(struct group *g)
{
    struct group_reads *r = &g->reads;
    struct peer_read question = {.term = g->raft.current_term, .stamp = r->stamp};
    struct bytes body;
    bytes_init(&body, 64);
    message_encode_read(&body, &question);
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (g->peers[i]->read_echo < r->stamp) {
            (void)flow_send_body(g, g->peers[i]->id, PEER_READ_ASK, &body); /* lost: asked again */
        }
    }
    bytes_close(&body);
}

void reads_asked(struct group *g, struct group_peer *from, const struct peer_read *question)
{
    struct bytes body;
    /* What lost its promises may have voted for another leader. */
    if (g->phase != GROUP_UP || g->raft.current_term != question->term) {
        return;
    }
    bytes_init(&body, 64);
    message_encode_read(&body, question);
    (void)flow_send_body(g, from->id, PEER_READ, &body);
    bytes_close(&body);
}

void reads_answered(struct group *g, struct group_peer *from, const struct peer_read *answer)
{
    struct group_reads *r = &g->reads;
    if (g->phase != GROUP_UP || g->raft.state != RAFT_LEADER ||
        answer->term != g->raft.current_term || answer->stamp > r->stamp) {
        return;
    }
    if (answer->stamp > from->read_echo) {
        from->read_echo = answer->stamp;
    }
    if (!guard_on(GUARD_STAMP)) {
        from->read_echo = r->stamp;
    }
    group_later(g);
}

/* A majority of the voters, ourselves among them, has answered a round that began after the read.
 */
static bool confirmed(const struct group *g, const struct group_read *req)
{
    const struct raft_configuration *c = &g->raft.configuration;
    unsigned voters = 0, agree = 0;
    for (unsigned i = 0; i < c->n; i++) {
        if (c->servers[i].role != RAFT_VOTER) {
            continue;
        }
        const struct group_peer *peer =
            group_peer((struct group *)(uintptr_t)g, (uint32_t)c->servers[i].id);
        voters++;
        agree += c->servers[i].id == g->self_id ||
                 (peer != NULL && peer->read_echo >= req->stamp && g->reads.stamp >= req->stamp);
    }
    return agree > voters / 2;
}

int group_read_index(struct group *g, struct group_read *req, group_read_cb cb)
{
    struct group_reads *r = &g->reads;
    if ((!guard_on(GUARD_READ) || fault_on(FAULT_STALE_READ)) && g->phase == GROUP_UP &&
        g->raft_started && g->raft.state == RAFT_LEADER) {
        req->index = LOG_INDEX(g->raft.commit_index);
        req->stamp = 0;
    } else if (!group_is_leader(g)) {
        return WEIR_ENOTLEADER;
    } else if (r->n_waiting == READS_MAX) {
        return WEIR_EBUSY;
    } else {
        req->index = LOG_INDEX(g->raft.commit_index);
        req->stamp = r->stamp + 1; /* of the round that begins at the end of this turn */
    }
    req->term = g->raft.current_term;
    req->cb = cb;
    list_push_back(&r->waiting, &req->link);
    r->n_waiting++;
    group_later(g);
    return 0;
}

static void complete(struct group *g, struct group_read *req, int status)
{
    list_remove(&req->link);
    g->reads.n_waiting--;
    req->cb(req, status);
}

void reads_turn(struct group *g)
{
    struct group_reads *r = &g->reads;
    if (list_empty(&r->waiting)) {
        return;
    }
    bool leader = g->phase == GROUP_UP && g->raft_started && g->raft.state == RAFT_LEADER;
    const struct group_read *newest = list_entry(r->waiting.prev, struct group_read, link);
    if (leader && newest->term == g->raft.current_term && newest->stamp > r->stamp) {
        r->stamp = newest->stamp;
        r->asked_ns = env_now_ns(g->env);
        ask(g);
    }
    /* In the order they came, so that a callback may begin another one. */
    for (unsigned n = r->n_waiting; n > 0 && !list_empty(&r->waiting); n--) {
        struct group_read *req = list_entry(r->waiting.next, struct group_read, link);
        bool applied = partition_commit_index(g->partition).v >= req->index.v;
        if (!leader || g->raft.current_term != req->term) {
            complete(g, req, WEIR_ENOTLEADER);
        } else if (applied && (!guard_on(GUARD_READ) || confirmed(g, req))) {
            complete(g, req, 0);
        } else {
            break; /* later ones need no less */
        }
    }
}

void reads_tick(struct group *g)
{
    struct group_reads *r = &g->reads;
    uint64_t now_ns = env_now_ns(g->env);
    watch_commit(g);
    if (group_is_leader(g)) {
        r->heard_ns = transport_clock_ns(g->transport); /* it knows of itself */
    }
    if (list_empty(&r->waiting)) {
        return;
    }
    if (group_is_leader(g) && r->stamp > 0 &&
        now_ns - r->asked_ns >= (uint64_t)g->options.heartbeat_ms * 1000000u) {
        r->asked_ns = now_ns;
        ask(g);
    }
    group_later(g);
}

void reads_new_leader(struct group *g)
{
    for (unsigned i = 0; i < g->n_peers; i++) {
        g->peers[i]->read_echo = 0;
    }
}

void reads_fail(struct group *g)
{
    while (!list_empty(&g->reads.waiting)) {
        complete(g, list_entry(g->reads.waiting.next, struct group_read, link), WEIR_ENOTLEADER);
    }
}
