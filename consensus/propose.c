#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "consensus/entry_heap.h"
#include "consensus/group_impl.h"

#define SPACE_CHECK_NS 200000000ull

/* What is known of a proposal, in the caller's group_propose.priv. */
struct proposal {
    struct raft_apply apply;
    struct group *group;
    uint64_t bytes;
    int status;
    raft_term term;        /* a repeat: of the leader that found it in its log */
    struct log_offset end; /* a repeat: it is committed when the high watermark is here */
};
static_assert(sizeof(struct proposal) <= sizeof(((struct group_propose *)0)->priv), "grow priv");

static struct proposal *proposal_of(struct group_propose *req)
{
    return (struct proposal *)(void *)req->priv;
}

/* --- Results --- */

static void applied(struct raft_apply *apply, int status, void *result)
{
    struct group_propose *req = apply->data;
    struct proposal *p = proposal_of(req);
    struct group *g = p->group;
    (void)result;
    /* Lost leadership says nothing about the entry: the next leader may well have it. */
    p->status = status == 0 ? 0 : WEIR_EUNKNOWN;
    g->inflight_bytes -= p->bytes;
    list_remove(&req->link);
    list_push_back(&g->done, &req->link);
}

/* What was found in a leader's log stays there as long as it leads; afterwards another entry may
 * have taken its place. */
static bool still_leads(const struct group *g, raft_term term)
{
    return g->phase == GROUP_UP && g->raft_started && g->raft.state == RAFT_LEADER &&
           g->raft.current_term == term;
}

static void settle_repeats(struct group *g)
{
    LIST_FOREACH_SAFE(it, nx, &g->repeats)
    {
        struct group_propose *req = list_entry(it, struct group_propose, link);
        struct proposal *p = proposal_of(req);
        bool leads = still_leads(g, p->term);
        if (leads && partition_high_watermark(g->partition).v < p->end.v) {
            continue;
        }
        p->status = leads ? 0 : WEIR_EUNKNOWN;
        list_remove(&req->link);
        list_push_back(&g->done, &req->link);
    }
}

void propose_tell(struct group *g)
{
    struct list done, *el;
    settle_repeats(g);
    list_init(&done);
    list_move_all(&done, &g->done);
    while ((el = list_pop(&done)) != NULL) {
        struct group_propose *req = list_entry(el, struct group_propose, link);
        req->cb(req, proposal_of(req)->status);
    }
}

/* --- Proposing --- */

static bool disk_is_full(struct group *g)
{
    uint64_t now_ns = env_now_ns(g->env);
    if (g->options.free_bytes_min == 0) {
        return false;
    }
    if (g->space_checked_ns == 0 || now_ns - g->space_checked_ns > SPACE_CHECK_NS) {
        g->space_checked_ns = now_ns;
        if (env_dir_free_bytes(g->env, g->dir, &g->free_bytes, NULL) != 0) {
            g->free_bytes = 0;
        }
    }
    return g->free_bytes < g->options.free_bytes_min;
}

static int leads(const struct group *g)
{
    if (g->phase == GROUP_FAILED) {
        return WEIR_EIO;
    }
    return group_is_leader(g) ? 0 : WEIR_ENOTLEADER;
}

/* Guard 14: what can be refused is refused before libraft knows of it. */
static int has_room(struct group *g, size_t len)
{
    if (g->transfer.req != NULL) {
        return WEIR_EBUSY; /* another one leads in a moment */
    }
    if (g->inflight_bytes > 0 && g->inflight_bytes + len > g->options.inflight_bytes_max) {
        return WEIR_EBUSY;
    }
    return g->scarce || disk_is_full(g) ? WEIR_ENOSPC : 0;
}

void group_set_scarce(struct group *g, bool scarce)
{
    g->scarce = scarce;
}

#ifdef WEIR_FAULTS
static void ignore_applied(struct raft_apply *apply, int status, void *result)
{
    (void)status;
    (void)result;
    free(apply->data);
}

/* FAULT_ACK_EARLY: the caller hears of success while the entry is on its way. */
static int propose_and_acknowledge(struct group *g, struct group_propose *req,
                                   struct raft_buffer *buf, group_propose_cb cb)
{
    struct raft_apply *apply = calloc(1, sizeof(*apply));
    apply->data = apply;
    if (raft_apply(&g->raft, apply, buf, 1, ignore_applied) != 0) {
        raft_free(buf->base);
        free(apply);
        return WEIR_ENOTLEADER;
    }
    req->cb = cb;
    req->repeated = false;
    *proposal_of(req) = (struct proposal){.group = g};
    list_push_back(&g->done, &req->link);
    group_later(g);
    guard_settle(g);
    return 0;
}
#endif

/* Gives an entry to libraft, which owns `buf` then; on failure it is freed. */
static int propose_entry(struct group *g, struct group_propose *req, struct raft_buffer *buf,
                         group_propose_cb cb)
{
#ifdef WEIR_FAULTS
    if (fault_on(FAULT_ACK_EARLY)) {
        return propose_and_acknowledge(g, req, buf, cb);
    }
#endif
    struct proposal *p = proposal_of(req);
    req->cb = cb;
    req->repeated = false;
    *p = (struct proposal){.group = g, .bytes = buf->len, .apply = {.data = req}};
    int rv = raft_apply(&g->raft, &p->apply, buf, 1, applied);
    if (rv != 0) {
        raft_free(buf->base);
        return rv == RAFT_NOMEM ? WEIR_ENOMEM : WEIR_ENOTLEADER;
    }
    g->inflight_bytes += p->bytes;
    list_push_back(&g->proposals, &req->link);
    guard_settle(g);
    return 0;
}

/* It is in the log: all that is missing is its commit. */
static int await_commit(struct group *g, struct group_propose *req, struct log_offset base,
                        uint32_t records, group_propose_cb cb)
{
    struct proposal *p = proposal_of(req);
    req->cb = cb;
    req->base = base;
    req->repeated = true;
    *p = (struct proposal){
        .group = g,
        .term = g->raft.current_term,
        .end = LOG_OFFSET(base.v + records),
    };
    list_push_back(&g->repeats, &req->link);
    group_later(g);
    return 0;
}

int group_propose(struct group *g, struct group_propose *req, const void *batch, size_t len,
                  group_propose_cb cb)
{
    int rv = leads(g);
    if (rv != 0) {
        return rv;
    }
    /* What this leader has appended counts, committed or not: see log/state.h. */
    struct batch_producer producer = batch_producer_of(batch);
    struct log_offset base;
    int64_t now_ms = append_clock_stamp(&g->append_clock, env_wall_ms(g->env), env_now_ns(g->env),
                                        partition_last_timestamp_ms(g->partition));
    if (guard_on(GUARD_REPEAT) && !fault_on(FAULT_NO_DEDUP)) {
        rv = producers_check(partition_producers(g->partition), &producer, now_ms, req->age_ms,
                             &base);
    }
    if (rv == 1) {
        return await_commit(g, req, base, producer.records, cb);
    }
    rv = rv == 0 ? has_room(g, len) : rv;
    if (rv != 0) {
        return rv;
    }
    struct raft_buffer buf = {.base = entry_heap_alloc(len), .len = len};
    if (buf.base == NULL) {
        return WEIR_ENOMEM;
    }
    memcpy(buf.base, batch, len);
    req->base = partition_end_offset(g->partition);
    batch_stamp(buf.base, req->base, LOG_TERM(g->raft.current_term), now_ms);
    return propose_entry(g, req, &buf, cb);
}

int group_propose_control(struct group *g, struct group_propose *req, const struct control *control,
                          group_propose_cb cb)
{
    int rv = leads(g);
    rv = rv == 0 ? has_room(g, CONTROL_SIZE) : rv;
    if (rv != 0 && rv != WEIR_ENOSPC) { /* what frees space must not wait for it */
        return rv;
    }
    struct raft_buffer buf = {.base = entry_heap_alloc(CONTROL_SIZE), .len = CONTROL_SIZE};
    if (buf.base == NULL) {
        return WEIR_ENOMEM;
    }
    control_encode(control, buf.base);
    req->base = partition_end_offset(g->partition);
    return propose_entry(g, req, &buf, cb);
}
