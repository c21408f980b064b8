/* A closed link is news: a dead process is noticed at once, not after an election timeout; a leader
 * that falls silent is, after one. Either way every follower forgets the leader, so that it does
 * not refuse its vote on that leader's account, and the first in rank campaigns a millisecond
 * later, instead of when libraft's timeout, up to twice as long, is over. */
#include "base/logging.h"
#include "consensus/group_impl.h"

#define FIRST_US     1000
#define RANK_STEP_US 25000
#define WAY_US       200000 /* who had better not lead lets all others try first */
#define BUSY_US      2000
#define RETRY_US     30000 /* and up to 240 ms */
#define HURRY_NS     500000000ull
#define TRIES_MAX    8

static uint64_t rank(const struct group *g, uint32_t dead_id)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < g->n_peers; i++) {
        const struct group_peer *peer = g->peers[i];
        n += peer->role == GROUP_VOTER && peer->id != dead_id && peer->id < g->self_id;
    }
    return n;
}

static void campaign(struct env_timer *timer)
{
    struct group *g = timer->data;
    struct raft *r = &g->raft;
    bool leaderless = r->state == RAFT_CANDIDATE ||
                      (r->state == RAFT_FOLLOWER && r->follower_state.current_leader.id == 0);
    if (g->phase != GROUP_UP || !leaderless || g->failover_tries >= TRIES_MAX) {
        return;
    }
    if (g->n_appends > 0) {
        env_timer_start(timer, BUSY_US, campaign); /* guard 5 */
        return;
    }
    /* Others may hear of the death a little later and refuse the first time. Or their votes take
     * longer than that, and a new try would forget them: every second one is given twice the time.
     */
    uint64_t step_us = RETRY_US << g->failover_tries++ / 2;
    uint64_t spread_us = env_random_u64(g->env) % step_us;
    env_timer_start(timer, step_us + rank(g, 0) * step_us + spread_us, campaign);
    guard_campaign(g);
}

static void leader_lost(struct group *g, uint32_t id)
{
    struct raft *r = &g->raft;
    if (g->phase != GROUP_UP || id == 0 || r->state != RAFT_FOLLOWER ||
        r->follower_state.current_leader.id != id) {
        return;
    }
    r->follower_state.current_leader.id = 0;
    g->failover_tries = 0;
    g->failover_ns = env_now_ns(g->env);
    uint64_t way_us = members_gives_way(g, id) ? WAY_US : 0;
    env_timer_start(&g->failover_timer, FIRST_US + way_us + rank(g, id) * RANK_STEP_US, campaign);
    group_later(g);
}

void failover_leader_silent(struct group *g)
{
    leader_lost(g, (uint32_t)g->raft.follower_state.current_leader.id);
}

/* A candidate asks for our vote in the first moments after a leader's death, and our log is the
 * better one: it can't win, and need not be waited for. */
void failover_refused(struct group *g, const struct raft_request_vote *v)
{
    struct raft *r = &g->raft;
    raft_index last = storage_last(g);
    raft_term last_term = storage_term(g, last);
    bool better =
        last_term > v->last_log_term || (last_term == v->last_log_term && last > v->last_log_index);
    if (better && r->state == RAFT_FOLLOWER && r->follower_state.current_leader.id == 0 &&
        g->failover_ns != 0 && env_now_ns(g->env) - g->failover_ns < HURRY_NS) {
        env_timer_start(&g->failover_timer, FIRST_US, campaign);
    }
}

void failover_link(struct group *g, struct group_peer *peer, bool up)
{
    flow_reset(&peer->flow);
    peer->flow.commit_sent = 0;
    if (g->catchup.from == peer && !up) {
        g->catchup.from = NULL;
    }
    if (!up) {
        peer->lost = true;
        leader_lost(g, peer->id);
    }
}

void failover_leader_gone(struct group *g, struct group_peer *peer)
{
    log_info("raft_leader_gave_up", "group=%u leader=%u", g->options.id, peer->id);
    leader_lost(g, peer->id);
}

void failover_tell_peers(struct group *g)
{
    struct bytes body;
    bytes_init(&body, 64);
    message_encode_term(&body, g->raft.current_term);
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (g->peers[i]->role != GROUP_NONE) {
            (void)flow_send_body(g, g->peers[i]->id, PEER_LEADER_GONE, &body);
        }
    }
    bytes_close(&body);
}
