#include "consensus/group.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "consensus/entry_heap.h"
#include "consensus/founding.h"
#include "consensus/group_impl.h"

#define INSTALL_RESEND_MS     1000 /* a message without data; a restarted follower waits for it */
#define ENTRY_BYTES_AVG_SHIFT 4

#ifdef WEIR_RAFT_FAULTS
uint32_t group_guards_off;
#endif

raft_time group_now_ms(const struct group *g)
{
    return transport_clock_ns(g->transport) / 1000000;
}

/* --- The state machine: the log is the state, so applying is counting --- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct group *g = fsm->data;
    *result = NULL;
    g->reloads = 0;
    retain_applied(g, buf->base, buf->len);
    g->snapshot_bytes_pending += buf->len;
    g->entry_bytes_avg += buf->len / (1u << ENTRY_BYTES_AVG_SHIFT);
    g->entry_bytes_avg -= g->entry_bytes_avg / (1u << ENTRY_BYTES_AVG_SHIFT);
    /* libraft bounds its memory by a number of entries; we by bytes. */
    uint64_t n = GROUP_MEMORY_BYTES / (g->entry_bytes_avg + 1);
    n = n < GROUP_MEMORY_ENTRIES_MIN ? GROUP_MEMORY_ENTRIES_MIN : n;
    n = n < GROUP_MEMORY_ENTRIES ? n : GROUP_MEMORY_ENTRIES;
    g->raft.snapshot.threshold = (unsigned)n;
    g->raft.snapshot.trailing = (unsigned)n;
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct group *g = fsm->data;
    /* Guard 7: libraft stores the configuration in use with the snapshot, and that may be one that
     * is not committed. Its own mark of an uncommitted one is lost in a restart: the log decides.
     */
    raft_index last = storage_last(g);
    if (g->disk_differs) {
        return RAFT_BUSY; /* the configuration in use may be one that the disk refused */
    }
    if (guard_on(GUARD_SNAPSHOT) &&
        partition_config_index(g->partition, LOG_INDEX(last)).v > g->raft.last_applied) {
        return RAFT_BUSY;
    }
    struct raft_buffer *bufs_made = entry_heap_alloc(sizeof(*bufs_made));
    if (bufs_made == NULL) {
        return RAFT_BUSY; /* later */
    }
    bufs_made->len = 8;
    bufs_made->base = entry_heap_zalloc(1, bufs_made->len);
    if (bufs_made->base == NULL) {
        raft_free(bufs_made);
        return RAFT_BUSY;
    }
    *bufs = bufs_made;
    *n_bufs = 1;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    (void)fsm;
    raft_free(buf->base);
    return 0;
}

/* --- libraft up and down --- */

static void ignore_close(struct raft *r)
{
    (void)r;
}

int group_start_raft(struct group *g, struct error *err)
{
    assert(!g->raft_started && list_empty(&g->appends));
    int rv = members_before_start(g, err);
    if (rv != 0) {
        return rv;
    }
    memset(&g->raft, 0, sizeof(g->raft));
    memset(&g->failure, 0, sizeof(g->failure));
    storage_io(g, &g->io);
    g->fsm = (struct raft_fsm){
        .version = 1,
        .data = g,
        .apply = fsm_apply,
        .snapshot = fsm_snapshot,
        .restore = fsm_restore,
    };
    if (raft_init(&g->raft, &g->io, &g->fsm, g->self_id, g->self_address) != 0) {
        return error_set(err, WEIR_ENOMEM, "group %u: no memory for raft", g->options.id);
    }
    raft_set_heartbeat_timeout(&g->raft, g->options.heartbeat_ms);
    raft_set_election_timeout(&g->raft, g->options.election_ms);
    raft_set_install_snapshot_timeout(&g->raft, INSTALL_RESEND_MS);
    raft_set_snapshot_threshold(&g->raft, GROUP_MEMORY_ENTRIES);
    raft_set_snapshot_trailing(&g->raft, GROUP_MEMORY_ENTRIES);
    raft_set_pre_vote(&g->raft, true);
    raft_set_max_catch_up_round_duration(&g->raft, GROUP_ROUND_MS);
    g->verified = 0; /* guard 2 */
    g->receiving = 0;
    g->was = RAFT_UNAVAILABLE;
    g->catchup.from = NULL;
    g->disk_differs = false;
    g->raft_started = true;
    g->phase = GROUP_UP;
    rv = raft_start(&g->raft);
    founding_unhide(g);
    if (rv != 0) {
        struct error failure = g->failure;
        group_stop_raft(g);
        g->phase = GROUP_BOOTING;
        return failure.code != 0 ? error_set(err, failure.code, "%s", failure.text)
                                 : error_set(err, WEIR_ENOMEM, "group %u: raft does not start: %s",
                                             g->options.id, raft_strerror(rv));
    }
    guard_settle(g);
    return 0;
}

void group_stop_raft(struct group *g)
{
    struct list *el;
    if (!g->raft_started) {
        return;
    }
    g->may_propose = false;
    raft_close(&g->raft, ignore_close); /* fails what is outstanding; close_io kept the callback */
    while ((el = list_pop(&g->appends)) != NULL) {
        struct group_append *a = list_entry(el, struct group_append, link);
        g->append_bytes -= a->bytes;
        a->raft_req->cb(a->raft_req, 0);
        free(a);
    }
    for (unsigned i = 0; i < g->n_sends; i++) {
        if (g->sends[i].req->cb != NULL) {
            g->sends[i].req->cb(g->sends[i].req, RAFT_CANCELED);
        }
    }
    g->n_sends = 0;
    if (g->put != NULL) {
        g->put->cb(g->put, RAFT_CANCELED);
        g->put = NULL;
    }
    for (unsigned i = 0; i < g->n_gets; i++) {
        g->gets[i]->cb(g->gets[i], NULL, RAFT_CANCELED);
    }
    g->n_gets = 0;
    g->raft_started = false;
    g->raft_closed(&g->io);
    guard_drop_held(g);
}

void group_fail(struct group *g, const struct error *error)
{
    if (g->phase == GROUP_FAILED || g->phase == GROUP_CLOSING) {
        return;
    }
    log_error("raft_group_failed", "group=%u reason=\"%s\"", g->options.id, error->text);
    g->failure = *error;
    g->phase = GROUP_FAILED; /* guard_settle steps down */
    g->may_propose = false;
    group_later(g);
}

/* --- The end of a turn --- */

static void tell_commit(struct group *g)
{
    /* After a reload libraft applies again from its snapshot on; the mark never goes back. */
    struct log_index applied = LOG_INDEX(g->raft.last_applied);
    if (applied.v <= partition_commit_index(g->partition).v) {
        return;
    }
    partition_set_commit(g->partition, applied);
    if (g->events.committed != NULL) {
        g->events.committed(g->events.data, g);
    }
}

static void tell_leader(struct group *g)
{
    uint32_t leader = group_leader(g);
    if (leader != g->leader_told) {
        g->leader_told = leader;
        if (g->events.leader_changed != NULL) {
            g->events.leader_changed(g->events.data, g, leader);
        }
    }
}

static void group_free(struct group *g)
{
    gate_drop(g);
    vote_log_detach(&g->votes);
    peers_close(g);
    env_timer_close(&g->failover_timer);
    env_defer_cancel(&g->turn);
    if (g->partition != NULL) {
        partition_close(g->partition);
    }
    raft_free(g->boot_config.base);
    free(g->snapshot.config);
    free(g->dir);
    free(g);
}

static void finish_close(struct group *g)
{
    if (g->raft_started && !g->disk_differs && !partition_failed(g->partition)) {
        struct error err = {0};
        storage_note_snapshot(g);
        if (storage_save_snapshot(g, &err) != 0) {
            log_warn("raft_close", "group=%u reason=\"%s\"", g->options.id, err.text);
        }
    }
    group_stop_raft(g);
    propose_tell(g);
    members_abandon(g);
    reads_fail(g);
    void (*cb)(void *data) = g->close_cb;
    void *data = g->close_data;
    group_free(g);
    cb(data);
}

static void turn(struct env_defer *defer)
{
    struct group *g = defer->data;
    if (g->phase == GROUP_CLOSING) {
        if (g->n_appends == 0 && g->boot_config.base == NULL) {
            finish_close(g);
        }
        return;
    }
    if (g->phase == GROUP_UP && !gate_is_open(g)) {
        return; /* guard 12: it comes again */
    }
    if (g->raft_started && (g->phase == GROUP_FAILED) && g->raft.state == RAFT_LEADER) {
        guard_settle(g);
    }
    if (g->raft_started) {
        tell_commit(g);
    }
    propose_tell(g);
    members_turn(g);
    reads_turn(g);
    if (g->phase == GROUP_UP) {
        flow_commit_news(g);
    }
    tell_leader(g);
    if (g->phase == GROUP_FAILED && !g->failed_told) {
        g->failed_told = true;
        if (g->events.failed != NULL) {
            g->events.failed(g->events.data, g, &g->failure);
        }
    }
}

void group_later(struct group *g)
{
    env_defer(g->env, &g->turn, turn);
}

/* --- The transport's calls --- */

static int on_receive(void *data, uint32_t peer_id, uint16_t type, const void *body, size_t len,
                      const void *attachment, size_t attachment_len, struct error *err)
{
    struct group *g = data;
    struct message m;
    /* Perhaps a leader that our newest configuration does not know. */
    struct group_peer *peer = peers_add(g, peer_id);
    if (peer == NULL) {
        return 0;
    }
    int rv = message_decode(type, body, len, attachment, attachment_len, &m, err);
    if (rv == WEIR_ENOMEM) {
        return 0; /* as if it had been lost */
    }
    if (rv != 0) {
        return rv;
    }
    if (m.type == PEER_APPEND || m.type == PEER_FETCHED) {
        reads_heard(g, &m);
    }
    switch (m.type) {
    case PEER_FETCH:
        catchup_serve(g, peer, &m.fetch);
        break;
    case PEER_READ_ASK:
        reads_asked(g, peer, &m.read);
        break;
    case PEER_READ:
        reads_answered(g, peer, &m.read);
        break;
    case PEER_FETCH_REFUSED:
        if (peer == g->catchup.from) {
            catchup_refused(g, &m.refused);
        }
        break;
    case PEER_RESET:
        catchup_reset(g, peer, &m.reset);
        break;
    case PEER_REPAIR_ASK:
        repair_asked(g, peer, &m.repair_ask);
        break;
    case PEER_REPAIR:
        repair_answered(g, peer, &m.repair);
        message_release(&m);
        break;
    case PEER_COMPACTED:
        retain_told(g, peer, &m.compacted);
        break;
    case PEER_LEADER_GONE:
        failover_leader_gone(g, peer);
        break;
    case PEER_STATE_ASK:
        founding_asked(g, peer, &m.ask);
        break;
    case PEER_STATE:
        founding_told(g, peer, &m.state);
        message_release(&m);
        break;
    default:
        guard_receive(g, peer, &m);
        break;
    }
    return 0;
}

static void on_link(void *data, uint32_t peer_id, bool up)
{
    struct group *g = data;
    struct group_peer *peer = group_peer(g, peer_id);
    if (peer != NULL) {
        failover_link(g, peer, up);
    }
}

static void on_tick(void *data)
{
    struct group *g = data;
    repair_tick(g);
    guard_tick(g);
    founding_tick(g);
    if (g->members.req != NULL || g->transfer.req != NULL) {
        group_later(g);
    }
    reads_tick(g);
}

/* --- Opening and closing --- */

static int check_options(const struct group_options *o, struct error *err)
{
    if (o->id == 0 || o->n_voters > GROUP_VOTERS_MAX) {
        return error_set(err, WEIR_EINVAL, "group %u: %u founding voters, at most %d", o->id,
                         o->n_voters, GROUP_VOTERS_MAX);
    }
    if (o->heartbeat_ms == 0 || o->election_ms <= o->heartbeat_ms) {
        return error_set(err, WEIR_EINVAL, "group %u: election %u ms, heartbeat %u ms", o->id,
                         o->election_ms, o->heartbeat_ms);
    }
    return 0;
}

static int by_id(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Every founder must write the same first entry: voters in the order of their ids. */
static int take_founders(struct group *g, const uint32_t *voters, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g->founders[i] = voters[i];
        if (voters[i] != g->self_id && peers_add(g, voters[i]) == NULL) {
            return WEIR_ENOMEM;
        }
    }
    qsort(g->founders, n, sizeof(g->founders[0]), by_id);
    g->n_founders = n;
    return 0;
}

static int open_partition(struct group *g, struct error *err)
{
    int rv = partition_open(g->env, g->dir, &g->options.partition, &g->partition, err);
    return rv != 0 ? rv : storage_open(g, err);
}

static int group_begin(struct group *g, struct error *err)
{
    struct transport_handler handler = {
        .data = g,
        .receive = on_receive,
        .link = on_link,
        .tick = on_tick,
    };
    int rv = env_timer_init(g->env, &g->failover_timer);
    g->failover_timer.data = g;
    if (rv == 0) {
        rv = open_partition(g, err);
    }
    if (rv != 0) {
        return rv;
    }
    rv = transport_attach(g->transport, g->options.id, g->options.heartbeat_ms / 2, &handler, err);
    if (rv != 0) {
        return rv;
    }
    rv = founding_start(g, err);
    if (rv != 0) {
        transport_detach(g->transport, g->options.id);
    }
    return rv;
}

int group_open(struct env *env, struct transport *transport, const struct group_options *options,
               const struct group_events *events, struct group **ret_group, struct error *err)
{
    int rv = check_options(options, err);
    if (rv != 0) {
        return rv;
    }
    entry_heap_install();
    struct group *g = calloc(1, sizeof(*g));
    if (g == NULL || (g->dir = strdup(options->dir)) == NULL) {
        free(g);
        return error_set(err, WEIR_ENOMEM, "no memory for group %u", options->id);
    }
    g->env = env;
    g->transport = transport;
    g->events = *events;
    g->self_id = transport_self(transport);
    snprintf(g->self_address, sizeof(g->self_address), "%u", g->self_id);
    g->options = *options;
    g->options.dir = g->dir;
    g->options.voters = NULL; /* founders */
    g->turn.data = g;
    list_init(&g->turn.link);
    list_init(&g->appends);
    list_init(&g->held_appends);
    list_init(&g->held_results);
    list_init(&g->proposals);
    list_init(&g->repeats);
    list_init(&g->done);
    list_init(&g->gated);
    reads_init(g);
    rv = take_founders(g, options->voters, options->n_voters);
    if (rv == 0) {
        rv = group_begin(g, err);
    }
    if (rv != 0) {
        group_free(g);
        return rv;
    }
    *ret_group = g;
    group_later(g);
    return 0;
}

static void close_now(struct group *g)
{
    if (g->raft_started && g->raft.state == RAFT_LEADER) {
        failover_tell_peers(g);
    }
    transport_detach(g->transport, g->options.id);
    env_timer_stop(&g->failover_timer);
    g->phase = GROUP_CLOSING;
    group_later(g);
}

static void handed_over(struct group_transfer *req, int status)
{
    (void)status;
    close_now(req->data);
}

void group_close(struct group *g, void (*cb)(void *data), void *data)
{
    assert(g->phase != GROUP_CLOSING && !g->leaving && cb != NULL);
    g->close_cb = cb;
    g->close_data = data;
    g->leaving = true;
    memset(&g->events, 0, sizeof(g->events));
    g->leave.data = g;
    if (members_leave(g, &g->leave, handed_over) != 0) {
        close_now(g);
    }
}

/* --- Questions --- */

uint32_t group_id(const struct group *g)
{
    return g->options.id;
}

bool group_is_leader(const struct group *g)
{
    return g->phase == GROUP_UP && g->raft_started && g->may_propose && !g->leaving &&
           g->raft.state == RAFT_LEADER;
}

uint32_t group_leader(const struct group *g)
{
    if (g->phase != GROUP_UP || !g->raft_started) {
        return 0;
    }
    if (g->raft.state == RAFT_FOLLOWER) {
        return (uint32_t)g->raft.follower_state.current_leader.id;
    }
    return group_is_leader(g) ? g->self_id : 0;
}

struct log_term group_term(const struct group *g)
{
    return LOG_TERM(g->term);
}

struct partition *group_partition(struct group *g)
{
    return g->partition;
}

struct log_index group_match_index(const struct group *g, uint32_t server_id)
{
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (g->peers[i]->id == server_id && g->raft.state == RAFT_LEADER) {
            return LOG_INDEX(g->peers[i]->match);
        }
    }
    return LOG_INDEX(0);
}
