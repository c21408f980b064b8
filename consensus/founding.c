#include "consensus/founding.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/logging.h"
#include "base/metrics.h"

#define BODY_MAX 8192
/* A standby is near enough to become a voter. */
#define NEAR_ENTRIES 1000

/* --- What this replica is --- */

static bool is_founder(const struct group *g)
{
    for (unsigned i = 0; i < g->n_founders; i++) {
        if (g->founders[i] == g->self_id) {
            return true;
        }
    }
    return false;
}

/* Two founders with different lists would write different first entries. */
static uint32_t founders_hash(const struct group *g)
{
    uint8_t bytes[4 * GROUP_VOTERS_MAX];
    for (unsigned i = 0; i < g->n_founders; i++) {
        store_le32(bytes + (size_t)4 * i, g->founders[i]);
    }
    return crc32c(0, bytes, (size_t)4 * g->n_founders);
}

/* The first entry alone, in the term it was written in, and no vote. */
static bool only_bootstrapped(const struct group *g)
{
    return is_founder(g) && storage_last(g) <= 1 && g->term <= 1 && g->vote == 0;
}

static enum peer_founding kind_of(const struct group *g)
{
    if (g->phase == GROUP_FOUNDING) {
        return g->recovering || g->founding.lost ? PEER_LOST : PEER_FRESH;
    }
    return g->phase == GROUP_BOOTING || only_bootstrapped(g) ? PEER_BOOTSTRAPPED : PEER_FOUNDED;
}

/* --- Asking --- */

static void ask(struct group *g)
{
    uint64_t now_ns = env_now_ns(g->env);
    if (g->founding.asked_ns != 0 && now_ns - g->founding.asked_ns < FOUNDING_ASK_MS * 1000000ull) {
        return;
    }
    g->founding.asked_ns = now_ns;
    struct peer_state_ask question = {
        .nonce = g->founding.nonce,
        .founders = founders_hash(g),
        .lost = g->phase == GROUP_FOUNDING,
        .voter = g->founding.want == GROUP_VOTER,
        .marked = g->recovering && g->founding.told,
    };
    struct bytes body;
    bytes_init(&body, BODY_MAX);
    message_encode_state_ask(&body, &question);
    for (unsigned i = 0; i < g->n_peers; i++) {
        (void)flow_send_body(g, g->peers[i]->id, PEER_STATE_ASK, &body); /* asked again */
    }
    bytes_close(&body);
}

static void fail(struct group *g, const struct error *err)
{
    group_fail(g, err);
    guard_settle(g);
}

/* --- Founding --- */

static bool all_are_unfounded(struct group *g)
{
    for (unsigned i = 0; i < g->n_founders; i++) {
        const struct group_peer *peer = group_peer(g, g->founders[i]);
        if (g->founders[i] != g->self_id && (peer == NULL || !peer->unfounded)) {
            return false;
        }
    }
    return is_founder(g) && storage_last(g) <= 1;
}

static int found(struct group *g, struct error *err)
{
    log_info("raft_founded", "group=%u founders=%u", g->options.id, g->n_founders);
    g->recovering = false;
    g->wish = 0;
    if (storage_last(g) == 0) {
        g->phase = GROUP_BOOTING;
        return storage_bootstrap(g, err);
    }
    int rv = storage_save_mark(g, g->term, g->vote, err);
    return rv != 0 ? rv : repair_start(g, err);
}

int founding_start(struct group *g, struct error *err)
{
    bool empty = storage_last(g) == 0;
    g->founding.nonce = env_random_u64(g->env);
    g->founding.told = false;
    g->founding.want = g->wish != 0                     ? (enum group_role)(g->wish - 1)
                       : g->recovering || is_founder(g) ? GROUP_VOTER
                                                        : GROUP_NONE;
    if (!guard_on(GUARD_PROMISES)) {
        g->recovering = false;
        g->wish = 0;
        return empty && is_founder(g) ? storage_bootstrap(g, err) : group_start_raft(g, err);
    }
    if (!empty && !g->recovering) {
        return repair_start(g, err);
    }
    if (empty && !g->recovering && all_are_unfounded(g)) {
        return found(g, err); /* nobody else to ask */
    }
    g->phase = GROUP_FOUNDING;
    if (g->recovering) {
        log_warn("raft_recovering", "group=%u last=%llu", g->options.id,
                 (unsigned long long)storage_last(g));
    }
    ask(g);
    return 0;
}

int group_recover(struct group *g, struct error *err)
{
    if (g->phase == GROUP_FAILED || g->phase == GROUP_CLOSING || g->leaving) {
        return error_set(err, WEIR_EUNAVAILABLE, "group %u is down", g->options.id);
    }
    g->recovering = true;
    int rv = storage_save_mark(g, g->term, g->vote, err);
    if (rv != 0) {
        return rv;
    }
    g->founding.lost = false;
    if (g->phase == GROUP_REPAIRING) {
        return founding_start(g, err);
    }
    g->founding.again = g->phase == GROUP_UP || g->phase == GROUP_RELOADING;
    if (g->phase == GROUP_UP) {
        /* libraft goes when what it writes is written; then founding_start follows. */
        g->phase = GROUP_RELOADING;
        g->may_propose = false;
        guard_drop_held(g);
        guard_settle(g);
    }
    return 0;
}

bool group_recovering(const struct group *g)
{
    return g->recovering || g->wish != 0 || (g->phase == GROUP_FOUNDING && g->founding.lost);
}

/* --- Coming back --- */

static uint8_t wish_for(enum group_role role)
{
    return (uint8_t)(1 + role);
}

/* A leader has us as no voter, in a committed configuration, and leads still. */
static int rejoin(struct group *g, const struct group_peer *leader, const struct peer_state *s,
                  struct error *err)
{
    raft_term term = s->term;
    bool newer = term > g->term;
    g->founding.floor = s->commit;
    g->begun_index = storage_last(g) == 0 ? s->commit : g->begun_index;
    g->recovering = true; /* until the log has reached the floor */
    g->wish = wish_for(g->founding.want);
    int rv = storage_begin_as_snapshot(g, &s->configuration, err);
    if (rv == 0) {
        rv = storage_save_mark(g, newer ? term : g->term, newer ? leader->id : g->vote, err);
    }
    if (rv != 0) {
        return rv;
    }
    metric_add(metric_counter("weir_raft_rejoins_total", "", "Replicas back without promises"), 1);
    log_info("raft_rejoined", "group=%u leader=%u term=%llu last=%llu", g->options.id, leader->id,
             (unsigned long long)term, (unsigned long long)storage_last(g));
    return repair_start(g, err);
}

/* The mark is written as soon as it is known that something was lost: a log that has begun to fill
 * again would look whole after a crash. What we were, as soon as a leader says it: it may be about
 * to remove us, and be the last to know. On the way back we may be less than what we were. */
static int lost(struct group *g, const struct peer_state *s, struct error *err)
{
    enum group_role was =
        s->leading ? configuration_role(&s->configuration, g->self_id) : GROUP_NONE;
    if ((was == GROUP_STANDBY || was == GROUP_VOTER) && (g->wish == 0 || was > g->founding.want)) {
        g->founding.want = was;
    }
    if (!g->founding.lost) {
        g->founding.lost = true;
        log_warn("raft_promises_lost", "group=%u last=%llu", g->options.id,
                 (unsigned long long)storage_last(g));
    }
    uint8_t wish = s->leading ? wish_for(g->founding.want) : g->wish;
    bool marked = g->recovering && wish == g->wish;
    int rv = 0;
    if (!marked && g->founding.want != GROUP_NONE) {
        g->recovering = true;
        g->wish = wish;
        rv = storage_save_mark(g, g->term, g->vote, err);
    }
    g->founding.told = g->founding.told || s->leading;
    return rv;
}

static int heard(struct group *g, struct group_peer *from, const struct peer_state *s,
                 struct error *err)
{
    if (s->kind == PEER_FRESH || s->kind == PEER_BOOTSTRAPPED) {
        from->unfounded = from->unfounded || s->founders == founders_hash(g);
        if (s->founders != founders_hash(g)) {
            log_warn("raft_founders_differ", "group=%u peer=%u", g->options.id, from->id);
        }
        return !g->founding.lost && all_are_unfounded(g) ? found(g, err) : 0;
    }
    int rv = s->kind == PEER_FOUNDED ? lost(g, s, err) : 0;
    if (rv == 0 && s->leading && s->welcome) {
        rv = rejoin(g, from, s, err);
    }
    return rv;
}

void founding_told(struct group *g, struct group_peer *from, const struct peer_state *s)
{
    struct error err = {0};
    if (s->nonce != g->founding.nonce || g->phase != GROUP_FOUNDING) {
        return;
    }
    for (unsigned i = 0; i < s->configuration.n; i++) {
        if (s->configuration.servers[i].id <= UINT32_MAX) {
            (void)peers_add(g, (uint32_t)s->configuration.servers[i].id);
        }
    }
    if (heard(g, from, s, &err) != 0) {
        fail(g, &err);
    }
}

/* Everything that was committed when we were welcome is in our log, on disk: as it is in the log of
 * this term's leader, or committed as we know ourselves. */
static bool floor_reached(const struct group *g)
{
    raft_index durable = partition_durable_index(g->partition).v;
    raft_index sure = g->verified > g->raft.commit_index ? g->verified : g->raft.commit_index;
    return g->raft_started && (sure < durable ? sure : durable) >= g->founding.floor;
}

/* We are what we were, and that is committed; or there is nothing to ask for. */
static bool wish_granted(const struct group *g)
{
    enum group_role role = configuration_role(&g->raft.configuration, g->self_id);
    raft_index newest = partition_config_index(g->partition, LOG_INDEX(storage_last(g))).v;
    return g->founding.want == GROUP_NONE ||
           (g->raft.commit_index >= newest && (role == GROUP_VOTER || role == g->founding.want));
}

static void look_for_the_way_back(struct group *g)
{
    struct error err = {0};
    bool recovering = g->recovering && !floor_reached(g);
    uint8_t wish = !recovering && wish_granted(g) ? 0 : wish_for(g->founding.want);
    if (wish != 0 && g->founding.want != GROUP_NONE) {
        ask(g);
    }
    if (recovering == g->recovering && wish == g->wish) {
        return;
    }
    g->recovering = recovering;
    g->wish = wish;
    if (storage_save_mark(g, g->term, g->vote, &err) != 0) {
        g->recovering = true;
        fail(g, &err);
        return;
    }
    log_info("raft_recovered", "group=%u last=%llu wish=%u", g->options.id,
             (unsigned long long)storage_last(g), (unsigned)wish);
}

raft_index founding_acknowledged_most(const struct group *g)
{
    return g->recovering ? g->founding.floor - 1 : UINT64_MAX;
}

void founding_hide(struct group *g)
{
    g->founding.hidden = (struct raft_configuration){0};
    if (g->recovering) {
        g->founding.hidden = g->raft.configuration;
        g->raft.configuration = (struct raft_configuration){0};
    }
}

void founding_unhide(struct group *g)
{
    if (g->founding.hidden.n > 0) {
        g->raft.configuration = g->founding.hidden;
        g->founding.hidden = (struct raft_configuration){0};
    }
}

void founding_tick(struct group *g)
{
    if (g->phase == GROUP_FOUNDING) {
        ask(g);
    } else if (g->phase == GROUP_UP && (g->recovering || g->wish != 0)) {
        look_for_the_way_back(g);
    }
}

/* --- The one who is asked --- */

static void fenced(struct raft_barrier *barrier, int status)
{
    struct group *g = barrier->data;
    (void)status;
    g->fence_pending = false;
}

/* An entry that was proposed after the question is committed: this leader led after the other's
 * earlier life ended. */
static bool led_since(struct group *g, struct group_peer *from, uint64_t nonce)
{
    raft_index last = storage_last(g);
    if (from->life != nonce || from->fence_term != g->raft.current_term) {
        from->life = nonce;
        from->fence_term = g->raft.current_term;
        from->fence = last + 1;
        flow_reset(&from->flow); /* what was on its way went to the earlier life */
    }
    if (last < from->fence && !g->fence_pending && g->transfer.req == NULL) {
        g->fence.data = g;
        g->fence_pending = true;
        if (raft_barrier(&g->raft, &g->fence, fenced) != 0) {
            g->fence_pending = false;
        }
        guard_settle(g);
    }
    return group_is_leader(g) && g->raft.commit_index >= from->fence;
}

static void want_role(struct group *g, struct group_peer *from, enum group_role role)
{
    int rv = group_change(g, &g->own_change, from->id, role, NULL);
    if (rv == 0) {
        log_info("raft_member_recovers", "group=%u id=%u role=%d", g->options.id, from->id,
                 (int)role);
    }
}

/* Nobody is removed who might not know yet that it has to come back: it could still found the group
 * on what it heard before, and then would never ask to be a member again. */
static bool is_welcome(struct group *g, struct group_peer *from,
                       const struct peer_state_ask *question)
{
    if (!group_is_leader(g)) {
        return false;
    }
    bool led = led_since(g, from, question->nonce);
    if (!members_settled(g)) {
        return false;
    }
    if (from->role == GROUP_VOTER || (from->role != GROUP_NONE && from->match > 0)) {
        if (question->marked) {
            want_role(g, from, GROUP_NONE);
        }
        return false;
    }
    return led;
}

/* One that was welcome asks to be what it was. */
static void bring_back(struct group *g, struct group_peer *from, bool voter)
{
    if (!group_is_leader(g) || !members_settled(g)) {
        return;
    }
    if (from->role == GROUP_NONE || from->role == GROUP_SPARE) {
        want_role(g, from, GROUP_STANDBY);
    } else if (from->role == GROUP_STANDBY && voter &&
               from->match + NEAR_ENTRIES >= storage_last(g)) {
        want_role(g, from, GROUP_VOTER);
    }
}

void founding_asked(struct group *g, struct group_peer *from, const struct peer_state_ask *question)
{
    struct raft_configuration none = {0};
    if (g->phase == GROUP_FAILED || g->phase == GROUP_CLOSING) {
        return;
    }
    if (!question->lost) {
        bring_back(g, from, question->voter);
        return;
    }
    from->lost = true;
    struct peer_state answer = {
        .nonce = question->nonce,
        .welcome = is_welcome(g, from, question),
        .founders = founders_hash(g),
    };
    /* Asking may have ended in a reload. */
    answer.kind = kind_of(g);
    answer.leading = group_is_leader(g);
    answer.term = g->term;
    answer.commit = g->raft_started ? g->raft.commit_index : 0;
    answer.configuration = g->raft_started ? g->raft.configuration : none;
    struct bytes body;
    bytes_init(&body, BODY_MAX);
    message_encode_state(&body, &answer);
    (void)flow_send_body(g, from->id, PEER_STATE, &body);
    bytes_close(&body);
}
