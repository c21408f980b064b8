/* What the leader decides about the log itself, by control entries (log/control.h): where it
 * starts, and how far it is compacted. It decides every so often; every replica acts when the entry
 * is applied. */
#include <string.h>

#include "base/fault.h"
#include "base/logging.h"
#include "base/metrics.h"
#include "consensus/founding.h"

#define DECIDE_MS    10000
#define TOMBSTONE_MS 86400000 /* Kafka's delete.retention.ms */

void retain_applied(struct group *g, const void *payload, size_t len)
{
    struct control control;
    if (!control_is(payload, len) || control_decode(payload, len, &control, NULL) != 0) {
        return;
    }
    if (control.kind == CONTROL_START) {
        partition_set_start(g->partition, control.offset);
    } else if (control.kind == CONTROL_COMPACT) {
        partition_compact(g->partition, control.offset, control.time_ms);
        g->retain.compact_index = g->raft.commit_index;
    }
}

/* --- A log that was none of the group's when tombstones went --- */

/* Tombstones go when no *member* has an older record of their keys any more. So whoever was no
 * member then, but has entries of an earlier membership, may have such records, and would keep them
 * for good. The group's log says so: the configuration in front of the decision is the one that the
 * leader had asked. Entries of a log that was empty since are of members. */
static bool took_without_us(struct group *g, const struct raft_append_entries *a, unsigned i)
{
    struct raft_configuration conf;
    struct error err = {0};
    unsigned k = i;
    while (k > 0 && a->entries[k - 1].type != RAFT_CHANGE) {
        k--;
    }
    raft_configuration_init(&conf);
    int rv = k > 0 ? configuration_decode(a->entries[k - 1].buf.base, a->entries[k - 1].buf.len,
                                          &conf, &err)
                   : storage_configuration_at(g, a->prev_log_index, &conf, &err);
    bool without = rv == 0 && conf.n > 0 && configuration_role(&conf, g->self_id) == GROUP_NONE;
    raft_configuration_close(&conf);
    return without;
}

bool retain_finds_us_stale(struct group *g, const struct raft_append_entries *a)
{
    raft_index last = storage_last(g);
    if (last == 0 || a->prev_log_index > last ||
        (a->prev_log_index > g->raft.commit_index &&
         storage_term(g, a->prev_log_index) != a->prev_log_term)) {
        return false; /* libraft will not take them */
    }
    for (unsigned i = 0; i < a->n_entries; i++) {
        const struct raft_entry *e = &a->entries[i];
        raft_index index = a->prev_log_index + 1 + i;
        struct control control;
        bool ours = index <= last && storage_term(g, index) == e->term;
        if (!ours && index > g->begun_index && e->type == RAFT_COMMAND &&
            control_is(e->buf.base, e->buf.len) &&
            control_decode(e->buf.base, e->buf.len, &control, NULL) == 0 &&
            control.kind == CONTROL_COMPACT && control.time_ms > 0 && took_without_us(g, a, i)) {
            return true;
        }
    }
    return false;
}

/* Marked first: a crash in between finds the old log, which then meets the same entry again. */
void retain_begin_anew(struct group *g)
{
    struct error err = {0};
    struct partition_begin nothing = {.first_index = LOG_INDEX(1)};
    metric_add(metric_counter("weir_raft_resets_total", "", "Replicas begun anew"), 1);
    log_warn("raft_log_stale",
             "group=%u last=%llu reason=\"it was no member when tombstones went\"", g->options.id,
             (unsigned long long)storage_last(g));
    group_stop_raft(g);
    g->recovering = true;
    int rv = storage_save_mark(g, g->term, g->vote, &err);
    rv = rv == 0 ? partition_reset(g->partition, &nothing, "", 0, &err) : rv;
    rv = rv == 0 ? storage_reopen(g, &err) : rv;
    rv = rv == 0 ? founding_start(g, &err) : rv;
    if (rv != 0) {
        group_fail(g, &err);
    }
}

/* --- Deciding --- */

static void proposed(struct group_propose *req, int status)
{
    struct group *g = req->data;
    (void)status; /* lost: decided again */
    g->retain.pending = false;
}

static void propose(struct group *g, const struct control *control)
{
    g->retain.req = (struct group_propose){.data = g};
    if (group_propose_control(g, &g->retain.req, control, proposed) == 0) {
        g->retain.pending = true;
    }
}

/* Entries that libraft would load after a crash must stay. A newer snapshot is written without
 * waiting for it: what it covers goes the next time. */
static void keep(struct group *g)
{
    struct error err = {0};
    raft_index wanted = partition_removable(g->partition).v;
    if (wanted == 0) {
        return;
    }
    partition_set_keep(g->partition, LOG_INDEX(storage_snapshot_stored(g)));
    int rv = wanted > storage_snapshot_stored(g) ? storage_save_snapshot_later(g, &err) : 0;
    if (rv != 0 && rv != WEIR_ENOMEM) {
        group_fail(g, &err);
    }
}

static void decide_start(struct group *g)
{
    const struct group_options *o = &g->options;
    struct log_offset start;
    struct error err = {0};
    int64_t oldest_ms = o->retain_ms > 0 ? env_wall_ms(g->env) - (int64_t)o->retain_ms : 0;
    if (o->retain_ms == 0 && o->retain_bytes == 0) {
        return;
    }
    if (partition_retained_from(g->partition, oldest_ms, o->retain_bytes, &start, &err) != 0) {
        log_warn("raft_retention", "group=%u reason=\"%s\"", o->id, err.text);
        return;
    }
    if (start.v > partition_start_offset(g->partition).v) {
        propose(g, &(struct control){.kind = CONTROL_START, .offset = start});
    }
}

/* --- Compaction --- */

static struct peer_compacted own_marks(const struct group *g)
{
    struct partition_compaction c;
    partition_compaction(g->partition, &c);
    return (struct peer_compacted){g->raft.current_term,
                                   partition_commit_index(g->partition).v,
                                   c.upto.v,
                                   c.tombstones_ms,
                                   c.clean.v,
                                   c.waits};
}

void retain_tell(struct group *g, uint32_t peer_id)
{
    struct peer_compacted m = own_marks(g);
    struct bytes body;
    if (m.upto == 0 || peer_id == 0) {
        return;
    }
    bytes_init(&body, 64);
    message_encode_compacted(&body, &m);
    (void)flow_send_body(g, peer_id, PEER_COMPACTED, &body); /* lost: told again */
    bytes_close(&body);
}

void retain_told(struct group *g, struct group_peer *from, const struct peer_compacted *m)
{
    from->compacted = *m;
    if (g->phase == GROUP_UP || g->phase == GROUP_REPAIRING || g->phase == GROUP_FOUNDING) {
        partition_compact(g->partition, LOG_OFFSET(m->upto), m->tombstones_ms);
    }
}

/* What is known of all members together. */
struct overview {
    int64_t upto, tombstones_ms; /* the highest marks */
    int64_t clean;               /* everybody has done it up to here; 0: not known of all */
    bool uneven;                 /* somebody does not know of those marks, or waits for an entry */
};

static void take_marks(struct overview *o, const struct peer_compacted *m)
{
    o->upto = m->upto > o->upto ? m->upto : o->upto;
    o->tombstones_ms = m->tombstones_ms > o->tombstones_ms ? m->tombstones_ms : o->tombstones_ms;
    o->clean = m->clean < o->clean ? m->clean : o->clean;
}

static bool is_uneven(const struct group *g, const struct overview *o,
                      const struct peer_compacted *m)
{
    return m->commit >= g->retain.compact_index &&
           (m->waits || m->upto < o->upto || m->tombstones_ms < o->tombstones_ms);
}

static struct overview look(struct group *g)
{
    struct group_member members[GROUP_PEERS_MAX + 1];
    struct peer_compacted marks[GROUP_PEERS_MAX + 1];
    struct overview o = {.clean = INT64_MAX};
    unsigned n = group_members(g, members, GROUP_PEERS_MAX + 1), k = 0;
    bool silent = false;
    for (unsigned i = 0; i < n && i < GROUP_PEERS_MAX + 1; i++) {
        const struct group_peer *peer = group_peer(g, members[i].id);
        if (members[i].id == g->self_id) {
            marks[k++] = own_marks(g);
        } else if (peer != NULL && members[i].connected &&
                   peer->compacted.term == g->raft.current_term) {
            marks[k++] = peer->compacted;
        } else {
            o.clean = 0; /* not heard of in this term */
            silent |= members[i].connected && members[i].match.v >= g->retain.compact_index;
        }
    }
    for (unsigned i = 0; i < k; i++) {
        take_marks(&o, &marks[i]);
    }
    /* Who says nothing for long although he has all entries has no mark: a crash may have taken it
     * before it was on disk. Told ever less often, lest somebody who can't answer fills the log. */
    bool time_to_repeat = g->retain.rounds >= 4 && (g->retain.rounds & (g->retain.rounds - 1)) == 0;
    o.uneven = silent && time_to_repeat && o.upto > 0;
    for (unsigned i = 0; i < k; i++) {
        o.uneven |= is_uneven(g, &o, &marks[i]);
    }
    return o;
}

/* When may a tombstone go? When no member has an older record of its key any more, nor takes one
 * from another: when all are clean up to some offset behind it. And a reader who has met such a
 * record must have had the time to meet the tombstone: so much later (compare Kafka's KIP-534). */
static void settle(struct group *g, const struct overview *o)
{
    uint64_t keep_ms =
        g->options.tombstone_ms > 0 ? g->options.tombstone_ms : (uint64_t)TOMBSTONE_MS;
    uint64_t now_ns = env_now_ns(g->env);
    if (g->retain.term != g->raft.current_term || o->clean < g->retain.settled) {
        g->retain.term = g->raft.current_term;
        g->retain.settled = g->retain.settling = 0;
    }
    if (g->retain.settling > 0 && o->clean >= g->retain.settling &&
        now_ns - g->retain.settling_ns >= keep_ms * 1000000) {
        g->retain.settled = g->retain.settling;
        g->retain.settling = 0;
    }
    if (g->retain.settling == 0 || o->clean < g->retain.settling) {
        g->retain.settling = o->clean > g->retain.settled ? o->clean : 0;
        g->retain.settling_ns = now_ns;
    }
}

static void decide_compact(struct group *g)
{
    struct partition_compaction done;
    if (!g->options.compact) {
        return;
    }
    g->retain.rounds = g->retain.term == g->raft.current_term ? g->retain.rounds + 1 : 0;
    struct overview o = look(g);
    struct control control = {CONTROL_COMPACT, LOG_OFFSET(o.upto), o.tombstones_ms};
    settle(g, &o);
    partition_compaction(g->partition, &done);
    if (!done.running && partition_compactable(g->partition, &control.offset)) {
        int64_t ms = g->retain.settled > 0
                         ? partition_time_at(g->partition, LOG_OFFSET(g->retain.settled))
                         : 0;
        control.time_ms = ms > control.time_ms ? ms : control.time_ms;
        if (fault_on(FAULT_TOMBSTONE_EARLY)) {
            control.time_ms = partition_last_timestamp_ms(g->partition);
        }
        control.offset.v = control.offset.v > o.upto ? control.offset.v : o.upto;
    } else if (!o.uneven || o.upto == 0) {
        return;
    }
    propose(g, &control);
}

void retain_tick(struct group *g)
{
    uint64_t now_ns = env_now_ns(g->env);
    uint64_t every_ms = g->options.decide_ms;
    if (every_ms == 0) {
        every_ms = g->options.retain_ms / 4;
        every_ms = every_ms == 0 || every_ms > DECIDE_MS ? DECIDE_MS : every_ms;
    }
    if (g->phase != GROUP_UP || now_ns - g->retain.decided_ns < every_ms * 1000000) {
        return;
    }
    g->retain.decided_ns = now_ns;
    keep(g);
    if (!group_is_leader(g)) {
        retain_tell(g, group_leader(g));
        return;
    }
    if (!g->retain.pending) {
        decide_start(g);
    }
    if (!g->retain.pending) {
        decide_compact(g);
    }
}
