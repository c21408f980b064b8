/* Guard 8: a follower that fell behind what its leader's libraft keeps in memory.
 *
 * libraft would send it a snapshot; here a snapshot is only a mark. The follower asks the leader
 * for committed entries from where it is, about a MiB at a time, and the leader answers with
 * AppendEntries read from its segments, which pass through all guards like any other: matched
 * against the entry before, conflicts truncated at the first one only, acknowledged when durable.
 * The group stays open meanwhile: it hears heartbeats, votes, and may crash anywhere, for what it
 * has is a valid prefix at any time. In the end libraft's own snapshot message comes again, meets a
 * log that has its last entry, and is answered "have it". See docs/decisions/0021. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "consensus/entry_heap.h"
#include "consensus/founding.h"

#define FETCH_UNDURABLE_MAX (8u << 20)
#define RESET_STATE_MAX     (4u << 20)
#define FETCH_REPEAT_NS     1000000000ull
#define COMPLAIN_NS         10000000000ull

static bool may_ask(const struct group *g)
{
    const struct group_pace *pace = g->options.pace;
    return pace == NULL || pace->bytes_per_s == 0 || env_now_ns(g->env) >= pace->next_ns;
}

static void took(struct group *g, uint64_t bytes)
{
    struct group_pace *pace = g->options.pace;
    uint64_t now_ns = env_now_ns(g->env);
    if (pace != NULL && pace->bytes_per_s > 0) {
        pace->next_ns = pace->next_ns > now_ns ? pace->next_ns : now_ns;
        pace->next_ns += bytes * 1000000000u / pace->bytes_per_s;
    }
}

static void ask(struct group *g)
{
    struct catchup *c = &g->catchup;
    struct peer_fetch fetch = {.term = c->term, .first = c->next};
    struct bytes body;
    bytes_init(&body, 64);
    message_encode_fetch(&body, &fetch);
    (void)flow_send_body(g, c->from->id, PEER_FETCH, &body); /* lost: asked again */
    bytes_close(&body);
    c->asked = c->next;
    c->asked_ns = env_now_ns(g->env);
}

void catchup_start(struct group *g, struct group_peer *from, const struct raft_install_snapshot *s)
{
    struct catchup *c = &g->catchup;
    if (c->from == from && c->term == s->term) {
        c->target = s->last_index > c->target ? s->last_index : c->target; /* a resend */
        catchup_next(g);
        return;
    }
    *c = (struct catchup){
        .complained_ns = c->complained_ns,
        .from = from,
        .term = s->term,
        .next = g->raft.last_applied + 1, /* what is applied is committed, so it matches */
        .target = s->last_index,
    };
    metric_add(metric_counter("weir_raft_catchups_total", "", "Followers served from segments"), 1);
    log_info("raft_catchup_started", "group=%u from=%u next=%llu target=%llu", g->options.id,
             from->id, (unsigned long long)c->next, (unsigned long long)c->target);
    catchup_next(g);
}

void catchup_next(struct group *g)
{
    struct catchup *c = &g->catchup;
    if (c->from == NULL) {
        return;
    }
    if (g->phase != GROUP_UP || g->raft.current_term > c->term || g->raft.state == RAFT_LEADER) {
        c->from = NULL; /* the next leader tells us anew */
        return;
    }
    if (c->asked != 0 && env_now_ns(g->env) - c->asked_ns < FETCH_REPEAT_NS) {
        return;
    }
    if (c->asked != 0) {
        c->next = g->raft.last_applied + 1; /* no answer, or one that was dropped on the way in */
    }
    if (g->append_bytes < FETCH_UNDURABLE_MAX && may_ask(g)) { /* else with a later tick */
        ask(g);
    }
}

/* After an append was delivered. */
void catchup_fetched(struct group *g, const struct message *m)
{
    struct catchup *c = &g->catchup;
    const struct raft_append_entries *a = &m->raft.append_entries;
    raft_index end = a->prev_log_index + a->n_entries;
    if (c->from == NULL || m->type != PEER_FETCHED || a->term != c->term || m->end_term == 0) {
        return;
    }
    if (c->asked == 0 || end < c->asked || storage_term(g, end) != m->end_term) {
        return; /* an old answer, or one that libraft did not take */
    }
    c->asked = 0;
    c->next = end + 1;
    took(g, m->bytes);
    if (end >= c->target && end >= m->log_commit) {
        log_info("raft_catchup_done", "group=%u last=%llu", g->options.id, (unsigned long long)end);
        c->from = NULL;
        return;
    }
    catchup_next(g);
}

/* The leader can't serve what we need. It is asked again when it tells us again where it is (its
 * install message comes every second), from where we are then. */
void catchup_refused(struct group *g, const struct peer_refused *refused)
{
    struct catchup *c = &g->catchup;
    uint64_t now_ns = env_now_ns(g->env);
    if (refused->term != c->term || refused->first != c->asked) {
        return;
    }
    if (c->complained_ns == 0 || now_ns - c->complained_ns > COMPLAIN_NS) {
        c->complained_ns = now_ns;
        log_warn("raft_catchup_refused", "group=%u from=%u index=%llu begins=%llu reason=\"%s\"",
                 g->options.id, c->from->id, (unsigned long long)refused->first,
                 (unsigned long long)refused->available, error_name(refused->status));
    }
    c->asked = 0;
    c->from = NULL;
}

/* The leader's log begins behind what comes next here. If its last entry before that is in our log,
 * then all below is the same and committed, and fetching goes on from there. Else our log ends
 * before, or has something else there: then nothing at or above it that we ever acknowledged can
 * be committed, the leader has all that is, and we begin anew where it does. */
void catchup_reset(struct group *g, struct group_peer *from, const struct peer_reset *reset)
{
    struct catchup *c = &g->catchup;
    raft_index prev = reset->begin.first_index.v - 1;
    struct error err = {0};
    if (c->from != from || c->asked == 0 || g->phase != GROUP_UP || reset->term != c->term ||
        g->raft.current_term != c->term || g->raft.state == RAFT_LEADER || prev < c->asked) {
        return; /* an old answer */
    }
    /* What is committed here is the same there, also where our own log has begun behind it since we
     * asked: a term that is not known must not look like another one. */
    if (prev <= g->raft.commit_index || storage_term(g, prev) == reset->begin.prev_term.v) {
        c->asked = 0;
        c->next = prev < g->raft.last_applied ? g->raft.last_applied + 1 : prev + 1;
        catchup_next(g);
        return;
    }
    /* Damaged there, and perhaps acknowledged: repair.c first. When nobody has it any more, that is
     * a promise lost, and we come back like a new server. */
    bool lost = prev <= storage_last(g) && storage_term(g, prev) == 0;
    if (lost && !g->repair.hopeless) {
        return;
    }
    if (!list_empty(&g->appends) || !list_empty(&g->held_appends)) {
        return; /* asked again when they are through */
    }
    struct catchup kept = *c;
    metric_add(metric_counter("weir_raft_resets_total", "", "Replicas begun anew"), 1);
    log_warn("raft_reset", "group=%u from=%u last=%llu first=%llu", g->options.id, from->id,
             (unsigned long long)storage_last(g), (unsigned long long)prev + 1);
    group_stop_raft(g);
    g->recovering = g->recovering || lost;
    int rv = lost ? storage_save_mark(g, g->term, g->vote, &err) : 0;
    /* Before the log begins anew: nobody has the entries any more that it was made of. */
    if (rv == 0 && reset->state_len > 0 &&
        partition_keep_import(g->partition, reset->state, reset->state_len, &err) != 0) {
        log_warn("raft_reset_state", "group=%u reason=\"%s\"", g->options.id, err.text);
    }
    if (rv == 0) {
        rv = partition_reset(g->partition, &reset->begin, reset->config, reset->config_len, &err);
    }
    if (rv == 0 && reset->state_len > 0 &&
        partition_import_state(g->partition, reset->state, reset->state_len, &err) != 0) {
        log_warn("raft_reset_state", "group=%u reason=\"%s\"", g->options.id, err.text);
    }
    rv = rv == 0 ? storage_reopen(g, &err) : rv;
    if (rv == 0 && kept.target > g->begun_index) {
        g->begun_index = kept.target; /* the leader had committed that when this log had nothing */
        rv = storage_save_mark(g, g->term, g->vote, &err);
    }
    if (rv == 0) {
        rv = lost ? founding_start(g, &err) : repair_start(g, &err);
    }
    if (rv != 0) {
        group_fail(g, &err);
    }
    if (g->phase != GROUP_UP) {
        return;
    }
    g->catchup = kept;
    g->catchup.asked = 0;
    g->catchup.next = prev + 1;
    catchup_next(g);
}

/* --- The leader's side --- */

/* The newest committed configuration goes along: a server may use one that is newer than its log,
 * for as long as its log lacks that entry it can't be elected against those who have it. */
static bool serve_reset(struct group *g, struct group_peer *to)
{
    struct peer_reset reset = {
        .term = g->raft.current_term,
        .config = g->snapshot.config,
        .config_len = g->snapshot.config_len,
    };
    struct bytes body, state;
    struct error err = {0};
    partition_begin(g->partition, &reset.begin);
    if (reset.begin.first_index.v < 2 || g->snapshot.index == 0) {
        return false;
    }
    reset.begin.config_index = LOG_INDEX(g->snapshot.config_index);
    if (g->snapshot.config_index >= reset.begin.first_index.v) {
        reset.begin.config_index = LOG_INDEX(reset.begin.first_index.v - 1);
    }
    bytes_init(&state, RESET_STATE_MAX);
    bytes_init(&body, 2 * RESET_STATE_MAX);
    if (partition_export_state(g->partition, &state, &err) == 0) {
        reset.state = state.data;
        reset.state_len = (uint32_t)state.len;
    }
    message_encode_reset(&body, &reset);
    (void)flow_send_body(g, to->id, PEER_RESET, &body); /* lost: asked again */
    bytes_close(&body);
    bytes_close(&state);
    return true;
}

struct reading {
    struct raft_entry entries[TRANSPORT_IOV_MAX];
    unsigned n;
    raft_index last; /* inclusive */
    bool no_memory;
};

static int read_entry(void *data, const struct partition_entry *entry)
{
    struct reading *reading = data;
    if (reading->n == TRANSPORT_IOV_MAX || entry->index.v > reading->last) {
        return 1;
    }
    void *base = entry_heap_alloc(entry->len > 0 ? entry->len : 1);
    if (base == NULL) {
        reading->no_memory = true;
        return 1;
    }
    memcpy(base, entry->payload, entry->len);
    reading->entries[reading->n++] = (struct raft_entry){
        .term = entry->term.v,
        .type = storage_raft_type(entry->type),
        .buf = {.base = base, .len = entry->len},
    };
    return 0;
}

static void refuse(struct group *g, const struct group_peer *to, const struct peer_fetch *fetch,
                   int status)
{
    struct peer_refused refused = {
        .term = fetch->term,
        .first = fetch->first,
        .status = status,
        .available = partition_first_index(g->partition).v,
    };
    struct bytes body;
    bytes_init(&body, 64);
    message_encode_refused(&body, &refused);
    (void)flow_send_body(g, to->id, PEER_FETCH_REFUSED, &body);
    bytes_close(&body);
}

/* 0: committed entries from `first` on can be read here. */
static int can_serve(struct group *g, const struct peer_fetch *fetch)
{
    const struct raft *r = &g->raft;
    if (g->phase != GROUP_UP || r->state != RAFT_LEADER || fetch->term != r->current_term) {
        return WEIR_ENOTLEADER;
    }
    if (fetch->first == 0 || fetch->first > r->commit_index) {
        return WEIR_ERANGE;
    }
    bool there = fetch->first >= partition_first_index(g->partition).v &&
                 (fetch->first == 1 || storage_term(g, fetch->first - 1) != 0);
    return there ? 0 : WEIR_ENOTFOUND;
}

void catchup_serve(struct group *g, struct group_peer *to, const struct peer_fetch *fetch)
{
    struct raft *r = &g->raft;
    raft_index prev = fetch->first - 1;
    struct error err = {0};
    int rv = can_serve(g, fetch);
    if (rv == WEIR_ENOTFOUND && serve_reset(g, to)) {
        return;
    }
    if (rv != 0) {
        refuse(g, to, fetch, rv);
        return;
    }
    struct reading *reading = calloc(1, sizeof(*reading));
    if (reading == NULL) {
        return; /* asked again */
    }
    /* Only committed entries: they can be read in any order of events, and never change. */
    reading->last = r->commit_index;
    rv = partition_read(g->partition, LOG_INDEX(fetch->first), CATCHUP_FETCH_BYTES, read_entry,
                        reading, &err);
    if (rv < 0 && rv != WEIR_ENOMEM && reading->n == 0) {
        log_error("raft_catchup_unreadable", "group=%u peer=%u index=%llu reason=\"%s\"",
                  g->options.id, to->id, (unsigned long long)fetch->first, err.text);
        refuse(g, to, fetch, rv);
    } else if (reading->n > 0) {
        struct raft_append_entries a = {
            .term = r->current_term,
            .prev_log_index = prev,
            .prev_log_term = storage_term(g, prev),
            .leader_commit = prev + reading->n,
            .entries = reading->entries,
            .n_entries = reading->n,
        };
        retain_tell(g, to->id);
        (void)flow_send_piece(g, to, PEER_FETCHED, &a);
    }
    for (unsigned i = 0; i < reading->n; i++) {
        raft_free(reading->entries[i].buf.base); /* the frame has pinned it */
    }
    free(reading);
    guard_settle(g);
}
