/* The bridge from the ledger to chat: every counted ledger entry becomes a notice in the channel's
 * room, which brings the badge.
 *
 * It runs on every node and keeps no position that could be lost or be wrong: what is missing is
 * the ledger view minus the chat view. Of each ledger partition it walks the entries in order; one
 * whose notice the chat view has seen is behind it, else the notice is produced, and the chat fold
 * lets (source topic, partition, offset) count once. So that three nodes don't produce three times,
 * each waits by its rank for the partition: the first at once, the second half a second, ... and
 * looks again before it produces. When nodes die, the next in rank does it.
 *
 * The walk starts at the beginning after a restart: two reads of local state for each entry, in
 * slices. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "nodes/api/api.h"
#include "proto/chat.pb-c.h"
#include "views/chat.h"
#include "views/ledger.h"

#define RANK_DELAY_NS       500000000ull
#define RETRY_US            1000000
#define POLL_US             250000
#define SLICE_ENTRIES       256
#define NOTICE_KIND_SUB     "sub"
#define NOTICE_KIND_SUB_END "sub_end" /* refunded: the badge goes, nothing is said */

/* One ledger partition. */
struct bridge_lane {
    struct bridge *bridge;
    uint32_t partition, rank;
    int64_t next;    /* entries below are bridged */
    int64_t waiting; /* the entry whose turn we wait for; -1: none */
    uint64_t due_ns;
    bool producing;
    bool idle; /* nothing is missing: the next entry wakes us */
    bool told; /* that it can't be done just now */
    struct view_submit submit;
};

struct bridge {
    struct node *node;
    struct env_timer timer;
    struct view_listener listener;
    struct bridge_lane *lanes;
    uint32_t n_lanes, n_producing;
    bool closing;
    void (*cb)(void *data);
    void *data;
};

static void bridge_poll(struct bridge *b);

static void on_timer(struct env_timer *timer)
{
    bridge_poll(timer->data);
}

/* Something may be to do at once: a new entry. The work is not done inside the listener. */
static void on_ledger(void *data, const struct view_event *event)
{
    struct bridge *b = data;
    if (event->verdict == VERDICT_OK) {
        env_timer_start(&b->timer, 0, on_timer);
    }
}

static void bridge_finish(struct bridge *b)
{
    void (*cb)(void *data) = b->cb;
    void *data = b->data;
    free(b->lanes);
    free(b);
    cb(data);
}

static void on_folded(struct view_submit *submit, int status, enum verdict verdict)
{
    struct bridge_lane *lane = submit->data;
    struct bridge *b = lane->bridge;
    lane->producing = false;
    b->n_producing--;
    if (b->closing) {
        if (b->n_producing == 0) {
            bridge_finish(b);
        }
        return;
    }
    if (status == 0 && (verdict == VERDICT_OK || verdict == VERDICT_DUPLICATE)) {
        lane->told = false;
        env_timer_start(&b->timer, 0, on_timer); /* the walk sees that it is there */
        return;
    }
    if (!lane->told) {
        log_warn("bridge_retry", "partition=%u offset=%lld status=\"%s\" verdict=%s",
                 lane->partition, (long long)lane->waiting, error_name(status),
                 verdict_name(verdict));
        lane->told = true;
    }
    if (status ==
        0) { /* a void notice will not get better: its entry stays booked, the room goes without */
        lane->next = lane->waiting + 1;
        lane->waiting = -1;
        lane->told = false;
    } else {
        lane->due_ns = env_now_ns(b->node->env) + RETRY_US * 1000ull;
    }
    env_timer_start(&b->timer, RETRY_US, on_timer);
}

static void notice_text(const struct ledger_entry *e, char *out, size_t size)
{
    const struct ledger_sub *s = &e->after;
    if (e->refund) {
        out[0] = '\0';
    } else if (s->gift && strcmp(s->by, s->user) != 0) {
        (void)snprintf(out, size, "%s gifted a tier %u subscription to %s", s->by, e->tier,
                       s->user);
    } else if (s->months_total > e->months) {
        (void)snprintf(out, size, "%s subscribed at tier %u, %u months in all", s->user, e->tier,
                       s->months_total);
    } else {
        (void)snprintf(out, size, "%s subscribed at tier %u", s->user, e->tier);
    }
}

static void notice_produce(struct bridge_lane *lane, struct ledger_entry *e)
{
    struct bridge *b = lane->bridge;
    char line[CHAT_NOTICE_TEXT_MAX];
    Weir__ChatNotice m = WEIR__CHAT_NOTICE__INIT;
    Weir__ChatRecord r = WEIR__CHAT_RECORD__INIT;
    char topic[] = "ledger", sub[] = NOTICE_KIND_SUB, sub_end[] = NOTICE_KIND_SUB_END;
    struct bytes packed;
    notice_text(e, line, sizeof(line));
    m.source_topic = topic;
    m.source_partition = lane->partition;
    m.source_offset = e->offset;
    m.kind = e->refund ? sub_end : sub;
    m.user = e->after.user;
    m.tier = e->after.tier;
    m.months = e->after.months_total;
    m.expires_ms = e->after.expires_ms;
    m.text = line;
    r.room = e->after.channel;
    r.body_case = WEIR__CHAT_RECORD__BODY_NOTICE;
    r.notice = &m;
    bytes_init(&packed, API_RECORD_MAX);
    message_pack(&packed, &r.base);
    lane->submit.data = lane;
    int rc = bytes_error(&packed);
    if (rc == 0) {
        rc = views_submit(b->node->views, VIEW_CHAT, r.room, packed.data, packed.len, &lane->submit,
                          on_folded);
    }
    bytes_close(&packed);
    if (rc == 0) {
        lane->producing = true;
        b->n_producing++;
    } else {
        lane->due_ns = env_now_ns(b->node->env) + RETRY_US * 1000ull;
    }
}

/* True: go on with the lane's next entry. */
static bool lane_step(struct bridge_lane *lane)
{
    struct bridge *b = lane->bridge;
    struct ledger_entry e;
    bool seen = false;
    int rc = ledger_entry_from(b->node->views, lane->partition, lane->next, &e);
    if (rc == 0) {
        rc = chat_notice_seen(b->node->views, e.after.channel, "ledger", lane->partition, e.offset,
                              &seen);
    }
    lane->idle = rc == WEIR_ENOTFOUND;
    if (rc != 0) {
        return false; /* none yet, or the store is in trouble, which its own alarm tells */
    }
    if (seen) {
        lane->next = e.offset + 1;
        lane->waiting = -1;
        return true;
    }
    uint64_t now = env_now_ns(b->node->env);
    if (lane->waiting != e.offset) {
        lane->waiting = e.offset;
        lane->due_ns = now + lane->rank * RANK_DELAY_NS;
    }
    if (now >= lane->due_ns) {
        notice_produce(lane, &e);
    }
    return false;
}

/* Nodes stand in a circle; each partition begins with another one. */
static uint32_t rank_of(const struct node *node, uint32_t partition)
{
    const struct config *config = node->config;
    uint32_t n = config->n_nodes, self = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (config->nodes[i].id == node->self->id) {
            self = i;
        }
    }
    assert(n > 0); /* this node at least */
    return (self + n - partition % n) % n;
}

/* The partitions are known only some time after the start. */
static bool lanes_open(struct bridge *b)
{
    uint32_t n = views_partitions(b->node->views, VIEW_LEDGER);
    if (b->n_lanes != 0 || n == 0) {
        return b->n_lanes != 0;
    }
    b->lanes = calloc(n, sizeof(*b->lanes));
    if (b->lanes == NULL) {
        return false;
    }
    b->n_lanes = n;
    for (uint32_t i = 0; i < n; i++) {
        b->lanes[i].bridge = b;
        b->lanes[i].partition = i;
        b->lanes[i].rank = rank_of(b->node, i);
        b->lanes[i].waiting = -1;
    }
    return true;
}

static bool lanes_idle(const struct bridge *b)
{
    for (uint32_t i = 0; i < b->n_lanes; i++) {
        if (!b->lanes[i].idle) {
            return false;
        }
    }
    return true;
}

/* Nothing is missing for certain before both views have caught up. */
static void bridge_poll(struct bridge *b)
{
    unsigned left = SLICE_ENTRIES;
    if (!views_ready(b->node->views) || !lanes_open(b)) {
        env_timer_start(&b->timer, POLL_US, on_timer);
        return;
    }
    for (uint32_t i = 0; i < b->n_lanes && left > 0; i++) {
        struct bridge_lane *lane = &b->lanes[i];
        while (left > 0 && !lane->producing && lane_step(lane)) {
            left--;
        }
    }
    if (left == 0 || !lanes_idle(b)) {
        env_timer_start(&b->timer, left == 0 ? 0 : POLL_US, on_timer);
    }
}

int bridge_new(struct node *node, struct bridge **ret_bridge, struct error *err)
{
    struct bridge *b = calloc(1, sizeof(*b));
    if (b == NULL || env_timer_init(node->env, &b->timer) != 0) {
        free(b);
        return error_set(err, WEIR_ENOMEM, "bridge");
    }
    b->node = node;
    b->timer.data = b;
    b->listener.data = b;
    b->listener.event = on_ledger;
    views_listen(node->views, VIEW_LEDGER, &b->listener);
    env_timer_start(&b->timer, POLL_US, on_timer);
    *ret_bridge = b;
    return 0;
}

void bridge_free(struct bridge *b, void (*cb)(void *data), void *data)
{
    b->closing = true;
    b->cb = cb;
    b->data = data;
    views_unlisten(&b->listener);
    env_timer_close(&b->timer);
    if (b->n_producing == 0) {
        bridge_finish(b);
    }
}
