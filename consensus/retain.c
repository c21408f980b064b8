/* What the leader decides about the log itself, by control entries (log/control.h): where it
 * starts, and how far it is compacted. It decides every so often; every replica acts when the entry
 * is applied. */
#include <string.h>

#include "base/logging.h"
#include "consensus/group_impl.h"

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

/* Entries that libraft would load after a crash must stay. */
static void keep(struct group *g)
{
    struct error err;
    raft_index wanted = partition_removable(g->partition).v;
    if (wanted > g->snapshot_stored && g->snapshot.index > g->snapshot_stored &&
        storage_save_snapshot(g, &err) != 0) {
        group_fail(g, &err);
        return;
    }
    if (wanted > 0) {
        partition_set_keep(g->partition, LOG_INDEX(g->snapshot_stored));
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

/* Everybody in the configuration is there and has the last decision to compact. */
static bool all_have_compacted(const struct group *g)
{
    struct group_member members[GROUP_PEERS_MAX + 1];
    unsigned n = group_members(g, members, GROUP_PEERS_MAX + 1);
    for (unsigned i = 0; i < n && i < GROUP_PEERS_MAX + 1; i++) {
        if (members[i].id != g->self_id &&
            (!members[i].connected || members[i].match.v < g->retain.compact_index)) {
            return false;
        }
    }
    return g->retain.compact_index > 0;
}

/* A tombstone may go when nobody has an older record of its key any more: when it is old, and all
 * below it was compacted before, everywhere. */
static int64_t tombstones_before(const struct group *g, int64_t now_ms, int64_t settled_ms)
{
    uint64_t keep_ms =
        g->options.tombstone_ms > 0 ? g->options.tombstone_ms : (uint64_t)TOMBSTONE_MS;
    int64_t old_ms = now_ms - (int64_t)keep_ms;
    if (!all_have_compacted(g) || old_ms < 0) {
        return 0;
    }
    return old_ms < settled_ms ? old_ms : settled_ms;
}

static void decide_compact(struct group *g)
{
    struct partition_compaction done;
    struct control control = {.kind = CONTROL_COMPACT};
    int64_t settled_ms;
    if (!g->options.compact) {
        return;
    }
    partition_compaction(g->partition, &done);
    control.offset = done.upto;
    control.time_ms = done.tombstones_ms;
    if (!done.running && partition_compactable(g->partition, &control.offset, &settled_ms)) {
        int64_t ms = tombstones_before(g, env_wall_ms(g->env), settled_ms);
        control.time_ms = ms > control.time_ms ? ms : control.time_ms;
        /* Once more later: an entry behind it, for those whose last segment has to be closed. */
        g->retain.repeat = true;
    } else if (!g->retain.repeat || done.upto.v == 0) {
        return;
    } else {
        g->retain.repeat = false;
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
    if (group_is_leader(g) && !g->retain.pending) {
        decide_start(g);
    }
    if (group_is_leader(g) && !g->retain.pending) {
        decide_compact(g);
    }
}
