/* The guards. libraft 0.15.0 used as it is loses committed entries; what each guard stands against,
 * and what the fuzzer saw without it, is in docs/raft-guards.md. Numbers here are those of that
 * page. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "consensus/founding.h"
#include "consensus/group_impl.h"

/* A disk that owes an answer and has given none for so many election timeouts is stuck: a second
 * with 500 ms. One that is slow answers now and then, however long its queue is. */
#define STALL_ELECTIONS 2
#define STALL_ALONE     5 /* times as long, while the disk answers other groups */
/* Who had better not lead campaigns when nobody was heard for so many election timeouts: others do
 * so after two at most. */
#define WAY_ELECTIONS 3
/* After the disk was full no entries are taken for so long. */
#define REFUSED_PAUSE_NS 1000000000ull
#define REFUSED_QUIET_NS 10000000000ull

static void deliver(struct group *g, struct group_peer *from, struct message *m);
static bool answer_pending(struct group *g);

static bool is_leader(const struct group *g)
{
    return g->raft_started && g->raft.state == RAFT_LEADER;
}

/* --- Own appends --- */

bool guard_log_current(struct group *g)
{
    return storage_term(g, g->raft.last_stored) == g->raft.current_term;
}

/* Guard 3: an entry of an older term must not be committed by counting copies (Raft, figure 8).
 * libraft counts for its last stored entry, whatever its term; so no result is shown to it before
 * that entry is one of our own term. */
static bool results_must_wait(struct group *g)
{
    return guard_on(GUARD_BARRIER) && is_leader(g) && !guard_log_current(g);
}

/* The highest index that a majority of voters has on disk, ourselves counted by what is durable
 * here. */
static raft_index quorum_index(struct group *g)
{
    const struct raft_configuration *c = &g->raft.configuration;
    raft_index v[MESSAGE_SERVERS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < c->n && n < MESSAGE_SERVERS_MAX; i++) {
        if (c->servers[i].role != RAFT_VOTER) {
            continue;
        }
        struct group_peer *peer = group_peer(g, (uint32_t)c->servers[i].id);
        raft_index at = c->servers[i].id == g->self_id ? partition_durable_index(g->partition).v
                        : peer != NULL                 ? peer->match
                                                       : 0;
        unsigned k = n++;
        for (; k > 0 && v[k - 1] < at; k--) {
            v[k] = v[k - 1];
        }
        v[k] = at;
    }
    return n > 0 ? v[n / 2] : 0;
}

static struct group_append *first_append(const struct group *g)
{
    return list_empty(&g->appends) ? NULL : list_entry(g->appends.next, struct group_append, link);
}

/* Completes durable appends towards libraft, in order. Guard 4: libraft commits only its very last
 * stored entry, so a leader whose disk is ahead of its followers would wait for them to reach an
 * entry that moves on and on; completions are released only as far as a quorum has come. `all` (no
 * longer leader, or about to be none): everything durable. */
static bool release(struct group *g, bool all)
{
    bool any = false;
    struct group_append *a;
    if (g->releasing) {
        return false;
    }
    g->releasing = true;
    while ((a = first_append(g)) != NULL && a->durable) {
        if (!all && guard_on(GUARD_QUORUM) && is_leader(g) && guard_log_current(g) &&
            a->last > quorum_index(g)) {
            break;
        }
        list_remove(&a->link);
        g->append_bytes -= a->bytes;
        a->raft_req->cb(a->raft_req, 0);
        free(a);
        (void)answer_pending(g);
        any = true;
    }
    g->releasing = false;
    return any;
}

/* Refused before, and nothing written since long enough to call it over: told once. */
static bool disk_is_refusing_still(struct group *g)
{
    return g->refused_ns != 0 && env_now_ns(g->env) - g->refused_ns < REFUSED_QUIET_NS;
}

/* Guard 14, a disk that is full, not broken: the partition has taken the append back, and what was
 * to stand behind it. libraft can't take back anything, so it is closed, which ends leading, and
 * starts again on what the disk has. */
static void disk_refused(struct group *g, int status)
{
    if (g->phase == GROUP_UP) {
        bool again = disk_is_refusing_still(g);
        log_event(again ? LOG_DEBUG : LOG_WARN, "raft_disk_refused",
                  "group=%u reason=\"%s\" last=%llu", g->options.id, error_name(status),
                  (unsigned long long)storage_last(g));
        if (is_leader(g)) {
            failover_tell_peers(g);
        }
        g->phase = GROUP_RELOADING;
        g->may_propose = false;
        guard_drop_held(g);
    }
    g->disk_differs = true;
    g->refused_ns = env_now_ns(g->env);
    guard_settle(g);
    group_later(g);
}

static bool disk_is_refusing(struct group *g)
{
    return g->refused_ns != 0 && env_now_ns(g->env) - g->refused_ns < REFUSED_PAUSE_NS;
}

void guard_append_done(struct group *g, struct group_append *a, int status)
{
    assert(g->n_appends > 0);
    g->n_appends--;
    if (status != 0 && !guard_on(GUARD_DISK)) {
        list_remove(&a->link);
        a->raft_req->cb(a->raft_req, RAFT_IOERR);
        free(a);
        guard_settle(g);
        return;
    }
    if (status != 0 && !partition_failed(g->partition)) {
        disk_refused(g, status);
        return;
    }
    if (status != 0) {
        /* Guard 14: a failed append would corrupt libraft's memory on a leader and end the group on
         * a follower. It stays pinned, as if in flight, until the group is closed. */
        struct error err = {0};
        error_set(&err, status, "%s: append up to index %llu failed: %s", g->dir,
                  (unsigned long long)a->last, error_name(status));
        group_fail(g, &err);
        guard_settle(g);
        return;
    }
    a->durable = true;
    g->answered_ns = env_now_ns(g->env);
    vote_log_answered(g->options.vote_log);
    if (g->phase == GROUP_CLOSING) {
        group_later(g);
        return;
    }
    release(g, false);
    guard_settle(g);
    catchup_next(g);
}

/* --- After every call into libraft --- */

static bool answer_pending(struct group *g)
{
    bool any = g->n_sends > 0 || g->put != NULL || g->n_gets > 0;
    struct pending_send sends[GROUP_PENDING_MAX];
    unsigned n = g->n_sends;
    memcpy(sends, g->sends, n * sizeof(sends[0]));
    g->n_sends = 0;
    for (unsigned i = 0; i < n; i++) {
        if (sends[i].req->cb != NULL) {
            sends[i].req->cb(sends[i].req, sends[i].status);
        }
    }
    if (g->put != NULL) {
        struct raft_io_snapshot_put *put = g->put;
        g->put = NULL;
        put->cb(put, 0);
    }
    while (g->n_gets > 0) {
        storage_answer_get(g, g->gets[--g->n_gets]);
    }
    return any;
}

static void barrier_done(struct raft_barrier *req, int status)
{
    struct group *g = req->data;
    g->barrier_pending = false;
    if (status == 0 && is_leader(g)) {
        g->may_propose = true;
    }
}

/* Guard 3: a leader's first act is an entry of its own term. */
static void became_leader(struct group *g)
{
    peers_follow(g);
    for (unsigned i = 0; i < g->n_peers; i++) {
        g->peers[i]->match = 0;
        flow_reset(&g->peers[i]->flow);
        g->peers[i]->flow.commit_sent = 0;
    }
    g->may_propose = false;
    g->catchup.from = NULL;
    reads_new_leader(g);
    metric_add(metric_counter("weir_raft_elections_won_total", "", "Elections won here"), 1);
    log_info("raft_leader_elected", "group=%u term=%llu last=%llu", g->options.id,
             (unsigned long long)g->raft.current_term, (unsigned long long)storage_last(g));
    if (!guard_on(GUARD_BARRIER)) {
        g->may_propose = true;
        return;
    }
    g->barrier_pending = true;
    g->barrier.data = g;
    if (raft_barrier(&g->raft, &g->barrier, barrier_done) != 0) {
        g->barrier_pending = false;
        guard_step_down(g);
    }
}

static bool notice_state(struct group *g)
{
    struct raft *r = &g->raft;
    if (r->state == RAFT_LEADER && (g->was != RAFT_LEADER || g->was_term != r->current_term)) {
        g->was = RAFT_LEADER;
        g->was_term = r->current_term;
        became_leader(g);
        return true;
    }
    if (r->state != RAFT_LEADER && g->was == RAFT_LEADER) {
        g->was = r->state;
        g->may_propose = false;
        log_info("raft_leader_lost", "group=%u term=%llu", g->options.id,
                 (unsigned long long)r->current_term);
        release(g, true);
        return true;
    }
    g->was = r->state;
    return false;
}

static void held_free(struct group *g, struct group_held *h)
{
    g->n_held--;
    g->held_bytes -= h->m.bytes;
    message_release(&h->m);
    free(h);
}

void guard_drop_held(struct group *g)
{
    struct list all, *el;
    list_init(&all);
    list_move_all(&all, &g->held_appends);
    list_move_all(&all, &g->held_results);
    while ((el = list_pop(&all)) != NULL) {
        held_free(g, list_entry(el, struct group_held, link));
    }
}

void guard_drop_held_of(struct group *g, const struct group_peer *peer)
{
    struct list *const queues[] = {&g->held_appends, &g->held_results};
    for (unsigned i = 0; i < 2; i++) {
        LIST_FOREACH_SAFE(el, next, queues[i])
        {
            struct group_held *h = list_entry(el, struct group_held, link);
            if (h->from == peer) {
                list_remove(&h->link);
                held_free(g, h);
            }
        }
    }
}

static void hold(struct group *g, struct list *queue, struct group_peer *from, struct message *m)
{
    struct group_held *h = g->n_held < GROUP_HELD_MAX && g->held_bytes + m->bytes < GROUP_HELD_BYTES
                               ? malloc(sizeof(*h))
                               : NULL;
    if (h == NULL) {
        message_release(m); /* the sender repeats it */
        return;
    }
    *h = (struct group_held){.m = *m, .from = from};
    list_push_back(queue, &h->link);
    g->n_held++;
    g->held_bytes += m->bytes;
}

static bool flush_queue(struct group *g, struct list *queue)
{
    struct list now, *el;
    list_init(&now);
    list_move_all(&now, queue);
    bool any = !list_empty(&now);
    while ((el = list_pop(&now)) != NULL) {
        struct group_held *h = list_entry(el, struct group_held, link);
        struct message m = h->m;
        struct group_peer *from = h->from;
        h->m = (struct message){.bytes = m.bytes};
        held_free(g, h);
        if (g->phase == GROUP_UP) {
            deliver(g, from, &m);
        } else {
            message_release(&m);
        }
    }
    return any;
}

static bool flush_held(struct group *g)
{
    bool any = false;
    if (list_empty(&g->appends) && !list_empty(&g->held_appends)) {
        any = flush_queue(g, &g->held_appends);
    }
    if (!list_empty(&g->held_results) && !results_must_wait(g)) {
        any = flush_queue(g, &g->held_results) || any;
    }
    return any;
}

/* Guard 16: libraft gives up for good when one of its calls fails. That is news for an operator,
 * and everything it knew is on disk. */
static void notice_unavailable(struct group *g)
{
    metric_add(metric_counter("weir_raft_unavailable_total", "", "Times libraft gave up"), 1);
    log_error("raft_unavailable", "group=%u reason=\"%s\" reloads=%u", g->options.id,
              raft_errmsg(&g->raft), g->reloads);
    g->may_propose = false;
    if (!guard_on(GUARD_RELOAD) || g->reloads >= GROUP_RELOADS_MAX) {
        struct error err = {0};
        error_set(&err, WEIR_EUNAVAILABLE, "%s: raft gave up: %s", g->dir, raft_errmsg(&g->raft));
        group_fail(g, &err);
        return;
    }
    g->reloads++;
    g->phase = GROUP_RELOADING;
    guard_drop_held(g);
}

static void reload(struct group *g)
{
    struct error err = {0};
    group_stop_raft(g);
    bool again = g->founding.again;
    g->founding.again = false;
    if ((again ? founding_start(g, &err) : repair_start(g, &err)) != 0) {
        group_fail(g, &err);
    }
}

void guard_settle(struct group *g)
{
    if (g->settling || !g->raft_started) {
        (void)answer_pending(g);
        group_later(g);
        return;
    }
    g->settling = true;
    for (bool again = true; again && g->raft_started;) {
        again = answer_pending(g);
        if (g->phase == GROUP_FAILED && is_leader(g)) {
            guard_step_down(g);
            again = true;
        }
        again = notice_state(g) || again;
        peers_follow(g);
        if (g->phase == GROUP_UP && g->raft.state == RAFT_UNAVAILABLE) {
            notice_unavailable(g);
        }
        again = release(g, g->phase != GROUP_UP) || again;
        if (g->phase == GROUP_UP) {
            again = flush_held(g) || again;
        } else if (g->phase == GROUP_RELOADING && g->n_appends == 0) {
            reload(g);
            again = true;
        }
    }
    g->settling = false;
    group_later(g);
}

void guard_step_down(struct group *g)
{
    struct raft_message m = {
        .type = RAFT_IO_APPEND_ENTRIES_RESULT,
        .server_id = g->n_peers > 0 ? g->peers[0]->id : g->self_id,
        .server_address = g->n_peers > 0 ? g->peers[0]->address : g->self_address,
    };
    m.append_entries_result.term = g->raft.current_term + 1;
    m.append_entries_result.rejected = 1;
    failover_tell_peers(g);
    g->raft_recv(&g->io, &m);
    guard_settle(g);
}

/* --- Receiving --- */

static void pass_on(struct group *g, struct group_peer *from, struct message *m)
{
    m->raft.server_id = from->id;
    m->raft.server_address = from->address;
    g->raft_recv(&g->io, &m->raft);
    g->receiving = 0;
    guard_settle(g);
}

/* First index at which our log has another entry than the message; 0: none. What is committed can't
 * conflict, and is not looked up: a term that can't be read must not look like another one. */
static raft_index first_conflict(struct group *g, const struct raft_append_entries *a)
{
    raft_index last = storage_last(g);
    raft_index committed = g->raft.commit_index;
    if (a->prev_log_index > last ||
        (a->prev_log_index > committed && storage_term(g, a->prev_log_index) != a->prev_log_term)) {
        return 0;
    }
    for (unsigned i = 0; i < a->n_entries; i++) {
        raft_index index = a->prev_log_index + 1 + i;
        if (index > last) {
            return 0;
        }
        if (index > committed && storage_term(g, index) != a->entries[i].term) {
            return index;
        }
    }
    return 0;
}

/* Guard 1c: libraft skips the match check when prev is 0 and takes what lies below its snapshot for
 * missing, so a follower with a compacted prefix would append old entries at its end. */
static void cut_below_snapshot(struct group *g, struct raft_append_entries *a)
{
    raft_index start = g->raft.log.snapshot.last_index;
    if (a->prev_log_index >= start) {
        return;
    }
    raft_index below = start - a->prev_log_index;
    unsigned cut = below < a->n_entries ? (unsigned)below : a->n_entries;
    if (cut > 0 && cut == a->n_entries) {
        raft_free(a->entries[0].batch);
        raft_free(a->entries);
        a->entries = NULL;
    } else if (cut > 0) {
        memmove(a->entries, a->entries + cut, (a->n_entries - cut) * sizeof(a->entries[0]));
    }
    a->n_entries -= cut;
    a->prev_log_index = start;
    a->prev_log_term = g->raft.log.snapshot.last_term;
}

/* Guard 1b, a conflict at or below a configuration entry of ours: libraft can't roll back a
 * configuration that it has compacted. It is closed, the disk's log cut, and libraft started again
 * on what is left. */
static bool cut_and_restart(struct group *g, raft_index conflict)
{
    struct error err = {0};
    group_stop_raft(g);
    int rv = partition_truncate(g->partition, LOG_INDEX(conflict), &err);
    if (rv == 0) {
        rv = repair_start(g, &err);
    }
    if (rv != 0) {
        group_fail(g, &err);
    }
    return g->phase == GROUP_UP;
}

static void deliver_append(struct group *g, struct group_peer *from, struct message *m)
{
    struct raft_append_entries *a = &m->raft.append_entries;
    if (a->term > g->raft.current_term) {
        /* Guard 4: what was kept back as leader is over. */
        release(g, true);
        guard_settle(g);
        if (g->phase != GROUP_UP) {
            message_release(m);
            return;
        }
    }
    bool current = a->term >= g->raft.current_term;
    if (current && guard_on(GUARD_ORDER_APPEND)) {
        raft_index conflict = first_conflict(g, a);
        bool stale = retain_finds_us_stale(g, a);
        if ((conflict > 0 || stale) && !list_empty(&g->appends)) {
            /* Guard 1b: truncating below an append in flight would leave its bytes behind on disk.
             */
            hold(g, &g->held_appends, from, m);
            return;
        }
        if (stale) {
            retain_begin_anew(g);
            message_release(m);
            return;
        }
        if (conflict > 0 &&
            partition_config_index(g->partition, LOG_INDEX(storage_last(g))).v >= conflict &&
            !cut_and_restart(g, conflict)) {
            message_release(m);
            return;
        }
        cut_below_snapshot(g, a);
    }
    /* Guard 2: becomes verified when libraft accepts it (storage.c, flow.c). */
    g->receiving = current ? a->prev_log_index + a->n_entries : 0;
    struct message seen = *m; /* its entries are libraft's from here on */
    pass_on(g, from, m);
    if (current) {
        catchup_fetched(g, &seen);
    }
}

static void deliver_result(struct group *g, struct group_peer *from, struct message *m)
{
    const struct raft_append_entries_result *result = &m->raft.append_entries_result;
    if (is_leader(g) && result->term == g->raft.current_term) {
        if (result->rejected > 0) {
            flow_reset(&from->flow); /* what was on its way is not there */
        } else {
            if (results_must_wait(g)) {
                hold(g, &g->held_results, from, m);
                return;
            }
            raft_index last = storage_last(g);
            raft_index match = result->last_log_index < last ? result->last_log_index : last;
            from->lost = false;
            if (from->role != GROUP_NONE) { /* libraft forgets servers that were removed */
                from->match = match > from->match ? match : from->match;
            }
            flow_acknowledged(&from->flow, from->match);
            release(g, false);
            guard_settle(g);
            if (!is_leader(g)) {
                return;
            }
        }
    }
    pass_on(g, from, m);
}

/* Guard 6. */
static void deliver_vote(struct group *g, struct group_peer *from, struct message *m)
{
    const struct raft_request_vote *v = &m->raft.request_vote;
    struct raft *r = &g->raft;
    if (guard_on(GUARD_VOTE) && !v->pre_vote && v->term == r->current_term && g->vote != 0 &&
        g->vote != v->candidate_id) {
        return; /* libraft would vote twice for the target of a leadership transfer */
    }
    bool voter = configuration_role(&r->configuration, g->self_id) == GROUP_VOTER;
    if (voter || !guard_on(GUARD_VOTE) || storage_last(g) == 0) {
        pass_on(g, from, m);
        failover_refused(g, v);
        return;
    }
    /* Not a voter in our own newest configuration, which may never be committed: refusing could
     * leave no quorum anywhere. */
    struct raft_server self = {.id = g->self_id, .address = g->self_address, .role = RAFT_VOTER};
    struct raft_configuration kept = r->configuration;
    r->configuration = (struct raft_configuration){.servers = &self, .n = 1};
    m->raft.server_id = from->id;
    m->raft.server_address = from->address;
    g->raft_recv(&g->io, &m->raft);
    r->configuration = kept;
    guard_settle(g);
}

static void deliver_install(struct group *g, struct group_peer *from, struct message *m)
{
    const struct raft_install_snapshot *s = &m->raft.install_snapshot;
    /* What is committed here is the same there, also what our log has no more (its term is not
     * known then): libraft answers that it has it. */
    if (guard_on(GUARD_INSTALL) && s->term >= g->raft.current_term &&
        s->last_index > g->raft.commit_index && storage_term(g, s->last_index) != s->last_term) {
        /* Guard 8: libraft would drop our log, and takes a conflicting one for the same. The
         * entries are fetched instead. */
        catchup_start(g, from, s);
        message_release(m);
        return;
    }
    if (guard_on(GUARD_INSTALL) && s->last_index > partition_durable_index(g->partition).v) {
        message_release(m); /* still being written; the message comes again */
        return;
    }
    /* The disk has its last entry: libraft answers that it has all, and nothing is installed. */
    g->receiving = s->term >= g->raft.current_term ? s->last_index : 0;
    pass_on(g, from, m);
}

static void deliver(struct group *g, struct group_peer *from, struct message *m)
{
    switch (m->raft.type) {
    case RAFT_IO_APPEND_ENTRIES:
        deliver_append(g, from, m);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        deliver_result(g, from, m);
        break;
    case RAFT_IO_REQUEST_VOTE:
        if (!g->recovering) { /* founding.h: its log may be too old to judge another by it */
            deliver_vote(g, from, m);
        }
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        deliver_install(g, from, m);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        /* Guard 5: no campaign on a log, or a configuration, that is still being written. */
        if (!guard_on(GUARD_TICK) ||
            (g->n_appends == 0 && !members_sole_voter(g, &g->raft.configuration) &&
             !repair_pending(g) && !g->recovering && !group_disk_stalls(g) &&
             !members_gives_way(g, from->id))) {
            pass_on(g, from, m);
        }
        break;
    default:
        pass_on(g, from, m);
        break;
    }
}

void guard_receive(struct group *g, struct group_peer *from, struct message *m)
{
    /* Guards 1a and 14: a replica with a bad disk takes no part. */
    if (g->phase != GROUP_UP) {
        message_release(m);
        return;
    }
    if (m->raft.type == RAFT_IO_APPEND_ENTRIES && m->raft.append_entries.n_entries > 0 &&
        disk_is_refusing(g)) {
        message_release(m); /* guard 1a */
        return;
    }
    /* Order: what comes behind a held append waits behind it. */
    if (m->raft.type == RAFT_IO_APPEND_ENTRIES && !list_empty(&g->held_appends)) {
        hold(g, &g->held_appends, from, m);
        return;
    }
    deliver(g, from, m);
}

/* --- Time --- */

/* Guard 14. What this group waits for, or what the vote log waits for on behalf of all groups of
 * the node. */
bool group_disk_stalls(const struct group *g)
{
    uint64_t patience_ns = (uint64_t)g->options.election_ms * STALL_ELECTIONS * 1000000;
    const struct group_append *a = first_append(g);
    while (a != NULL && a->durable) {
        a = a->link.next == &g->appends ? NULL
                                        : list_entry(a->link.next, struct group_append, link);
    }
    if (vote_log_waits_ns(g->options.vote_log) > patience_ns) {
        return true;
    }
    if (a == NULL) {
        return false;
    }
    /* Behind a thousand other groups an answer takes its time: as long as those get theirs, the
     * disk is slow and not stuck. But one file alone may be. */
    uint64_t since_ns = a->started_ns > g->answered_ns ? a->started_ns : g->answered_ns;
    uint64_t other_ns = vote_log_answered_ns(g->options.vote_log);
    uint64_t now_ns = env_now_ns(g->env);
    return now_ns - since_ns > STALL_ALONE * patience_ns ||
           (now_ns - since_ns > patience_ns &&
            (other_ns < since_ns || now_ns - other_ns > patience_ns));
}

static void tick_follower(struct group *g)
{
    struct raft *r = &g->raft;
    raft_time silent_ms = group_now_ms(g) - r->election_timer_start;
    if (r->state == RAFT_FOLLOWER && silent_ms >= r->election_timeout) {
        failover_leader_silent(g); /* else it refuses votes on account of a dead leader */
    }
    if (r->state == RAFT_CANDIDATE && silent_ms >= r->candidate_state.randomized_election_timeout) {
        r->candidate_state.in_pre_vote = r->pre_vote; /* else every timeout raises the term */
        r->candidate_state.disrupt_leader = false;
    }
}

/* Somebody else may campaign first: libraft, whose follower does nothing else in a tick, does not
 * hear of this one. It votes meanwhile. */
static bool others_come_first(const struct group *g)
{
    const struct raft *r = &g->raft;
    return r->state == RAFT_FOLLOWER && members_gives_way(g, 0) &&
           group_now_ms(g) - r->election_timer_start <
               (raft_time)WAY_ELECTIONS * r->election_timeout;
}

/* Libraft ends a hand-over of leadership in its tick, and calls back from there. Who may not
 * campaign gets that much of it: as one that has heard of a leader just now. */
static void tick_transfer(struct group *g)
{
    struct raft *r = &g->raft;
    if (r->transfer != NULL && !members_sole_voter(g, &r->configuration)) {
        r->election_timer_start = group_now_ms(g);
        g->raft_tick(&g->io);
    }
}

void guard_tick(struct group *g)
{
    if (g->phase != GROUP_UP) {
        return;
    }
    vote_log_probe(g->options.vote_log); /* guard 14: an idle disk may be stuck */
    if (!is_leader(g) && guard_on(GUARD_TICK)) {
        /* Guard 5: libraft takes up a configuration when its append completes; a campaign before
         * that would use the old one. */
        if (g->n_appends > 0 || !list_empty(&g->appends) || disk_is_refusing(g) ||
            group_disk_stalls(g)) {
            tick_transfer(g);
            return;
        }
        tick_follower(g);
    }
    if (is_leader(g) && guard_on(GUARD_DISK) && group_disk_stalls(g)) {
        log_warn("raft_disk_stalls", "group=%u", g->options.id);
        guard_step_down(g);
        return;
    }
    /* Who can't read its log had better not lead; who may not have all of it must not. */
    if (is_leader(g) || !(repair_pending(g) || g->recovering || others_come_first(g))) {
        members_before_tick(g);
        g->raft_tick(&g->io);
    } else {
        tick_transfer(g);
    }
    guard_settle(g);
    catchup_next(g);
    retain_tick(g);
}

void guard_campaign(struct group *g)
{
    struct raft *r = &g->raft;
    r->election_timer_start = group_now_ms(g) - (raft_time)r->election_timeout * 10;
    guard_tick(g);
}
