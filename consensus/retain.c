/* What the leader decides about the log itself, by control entries (log/control.h): where it
 * starts. It decides every so often; every replica acts when the entry is applied. */
#include <string.h>

#include "base/logging.h"
#include "consensus/group_impl.h"

#define DECIDE_MS 10000

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
}
