/* Rooms, as their gateways show them.
 *
 *   :say {:room 1, :user 3, :id 17} -> and :offset
 *   :ban, :unban {:room 1, :user 3} -> and :offset
 *   :slow {:room 1, :seconds 2} -> and :offset
 *                                    of what a rule forbids :refused :banned (:slow_mode, ..)
 *   :join {:room 1, :gateway "n1"}   a listener begins anew, anywhere
 *   :recv -> {:room 1, :gateway "n1", :events [[offset :msg id user ms] [offset :ban user ms until]
 *       [offset :unban user ms] [offset :slow seconds ms by] ..]}
 *                                    what a listener was shown since its last :recv
 *
 * Ids of messages are unique in a room; ms is the log's time. A ban ends before `until` (ms; absent
 * or 0: never). Who ordered slow mode (`by`) is exempt from it.
 *
 *   inconsistent-offsets  two events at one offset
 *   duplicate             a message at two offsets
 *   G1a, phantom          shown, but refused, or said by nobody (or by somebody else)
 *   lost-message          acknowledged, shown by no gateway, although something later was
 *   lost-command          the same of a ban, its end, or slow mode
 *   unseen                acknowledged, shown by no gateway, nothing later either
 *   recv-skip, nonmonotonic-recv   a listener missed an event that others saw, or saw one late or
 *                         twice
 *   wrong-offset          acknowledged at one offset, shown at another
 *   banned-message        of a user, behind the ban
 *   too-fast              two messages of a user closer together than slow mode allows
 *   kept-silent           refused as too fast, by the rate or by slow mode, although nothing of the
 *                         user had been accepted for more than twice as long, by the clients' clock
 */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"
#include "jepsen/history/memory.h"

/* By the rate alone nobody waits longer than this between two messages. */
#define RATE_WAIT_NS INT64_C(2500000000)

enum kind { EVENT_MSG, EVENT_BAN, EVENT_UNBAN, EVENT_SLOW };
static const char *const kinds[] = {"msg", "ban", "unban", "slow"};

struct event {
    /* what: id of a message, seconds of slow mode, end of a ban; user of slow mode: who ordered it
     */
    int64_t room, offset, what, user, ms;
    enum kind kind;
    int64_t index;
};

struct said {
    const struct op *op;
    int64_t room, id, user, offset; /* told; -1: not */
    bool acknowledged, may_be, shown;
};

struct chat {
    const struct ops *ops;
    struct report *r;
    struct said *said;
    size_t n_said;
    struct table said_at;  /* room, id -> said */
    struct table place;    /* room, id -> offset */
    struct table event_at; /* room, offset -> events */
    struct table highest;  /* room -> offset */
    struct table rank;     /* room, offset -> position */
    struct table position; /* process, room -> rank */
    struct table user;     /* room, user -> what judge_rules keeps */
    struct table
        command;         /* room and kind, user or seconds -> first invocation, whether it may be */
    struct table silent; /* room, user -> how much is open; since when nothing was accepted */
    uint64_t shown[4];   /* events, by kind */
    int64_t slow_most_s;
    struct event *events;
    size_t n, cap;
};

static bool take_event(const struct edn *e, int64_t room, int64_t index, struct event *out)
{
    const struct edn *kind = edn_at(e, 1);
    *out = (struct event){.room = room, .offset = edn_int(edn_at(e, 0), -1), .index = index};
    for (unsigned i = 0; i < 4; i++) {
        if (edn_is(kind, kinds[i])) {
            bool user_first = i == EVENT_BAN || i == EVENT_UNBAN;
            out->kind = (enum kind)i;
            out->what = edn_int(edn_at(e, user_first ? 4 : 2), 0);
            out->user = edn_int(edn_at(e, user_first ? 2 : i == EVENT_MSG ? 3 : 4), -1);
            out->ms = edn_int(edn_at(e, i == EVENT_MSG ? 4 : 3), -1);
            return out->offset >= 0;
        }
    }
    return false;
}

/* One message may be said several times, under one id, until it is answered. */
static void take_said(struct chat *c)
{
    for (size_t i = 0; i < c->ops->n; i++) {
        const struct op *op = &c->ops->at[i];
        if (!op_is(op, HISTORY_INVOKE, "say")) {
            continue;
        }
        int64_t room = edn_int(edn_get(op->value, "room"), -1);
        int64_t id = edn_int(edn_get(op->value, "id"), -1);
        int64_t *at = table_put(&c->said_at, room, id, (int64_t)c->n_said);
        struct said *s = &c->said[*at];
        if (s->op == NULL) {
            *s = (struct said){.op = op, .room = room, .id = id, .offset = -1};
            s->user = edn_int(edn_get(op->value, "user"), -1);
            c->n_said++;
        }
        s->may_be |= !op_failed(op);
        if (op_went_well(op)) {
            int64_t offset = edn_int(edn_get(op->other->value, "offset"), -1);
            if (s->acknowledged && s->offset != offset) {
                report_anomaly(c->r, "duplicate", "{:room %lld :id %lld :offsets #{%lld %lld}}",
                               (long long)room, (long long)id, (long long)s->offset,
                               (long long)offset);
            }
            s->acknowledged = true;
            s->offset = offset;
        }
    }
}

/* Bans, their ends, slow mode: whose is the same for two of a kind can't be told apart. */
static int64_t kind_of(const struct op *op)
{
    for (int64_t i = EVENT_BAN; i <= EVENT_SLOW; i++) {
        if (edn_is(op->f, kinds[i])) {
            return i;
        }
    }
    return -1;
}

static int64_t subject_of(const struct op *op, int64_t kind)
{
    return edn_int(edn_get(op->value, kind == EVENT_SLOW ? "seconds" : "user"), -1);
}

static void take_commands(struct chat *c)
{
    for (size_t i = 0; i < c->ops->n; i++) {
        const struct op *op = &c->ops->at[i];
        int64_t kind = op->type == HISTORY_INVOKE ? kind_of(op) : -1;
        if (kind >= 0) {
            int64_t room = edn_int(edn_get(op->value, "room"), -1);
            int64_t *known = table_put(&c->command, table_key(room, 8, kind), subject_of(op, kind),
                                       op->index * 2);
            *known |= !op_failed(op);
        }
    }
}

/* --- What was shown --- */

static void judge_command(struct chat *c, const struct event *e, const struct op *recv)
{
    int64_t subject = e->kind == EVENT_SLOW ? e->what : e->user;
    int64_t known = table_get(&c->command, table_key(e->room, 8, e->kind), subject, -1);
    if (known < 0 || known / 2 > recv->index || (known & 1) == 0) {
        report_anomaly(c->r, known < 0 || known / 2 > recv->index ? "phantom" : "G1a",
                       "{:room %lld :%s %lld :offset %lld :index %lld}", (long long)e->room,
                       kinds[e->kind], (long long)subject, (long long)e->offset,
                       (long long)recv->index);
    }
}

static void judge_message(struct chat *c, const struct event *e, const struct op *recv)
{
    int64_t at = table_get(&c->said_at, e->room, e->what, -1);
    struct said *s = at >= 0 ? &c->said[at] : NULL;
    int64_t *place = table_put(&c->place, e->room, e->what, e->offset);
    const char *wrong = NULL;
    if (s == NULL || s->op > recv || s->user != e->user) {
        wrong = "phantom";
    } else if (!s->may_be) {
        wrong = "G1a";
    } else if (*place != e->offset) {
        wrong = "duplicate";
    } else if (s->offset >= 0 && s->offset != e->offset) {
        wrong = "wrong-offset";
    }
    if (s != NULL) {
        s->shown = true;
    }
    if (wrong != NULL) {
        report_anomaly(c->r, wrong, "{:room %lld :id %lld :offset %lld :first %lld :index %lld}",
                       (long long)e->room, (long long)e->what, (long long)e->offset,
                       (long long)*place, (long long)recv->index);
    }
}

static void learn_event(struct chat *c, const struct event *e, const struct op *recv)
{
    int64_t *at = table_put(&c->event_at, e->room, e->offset, -1);
    int64_t *highest = table_put(&c->highest, e->room, 0, -1);
    *highest = e->offset > *highest ? e->offset : *highest;
    if (e->kind == EVENT_MSG) {
        judge_message(c, e, recv);
    } else {
        judge_command(c, e, recv);
    }
    if (*at >= 0) {
        const struct event *known = &c->events[*at];
        if (known->kind != e->kind || known->what != e->what || known->user != e->user ||
            known->ms != e->ms) {
            report_anomaly(c->r, "inconsistent-offsets",
                           "{:room %lld :offset %lld :indexes [%lld %lld]}", (long long)e->room,
                           (long long)e->offset, (long long)known->index, (long long)e->index);
        }
        return;
    }
    c->events = memory_grow(c->events, c->n, &c->cap, sizeof(*c->events));
    c->shown[e->kind]++;
    *at = (int64_t)c->n;
    c->events[c->n++] = *e;
}

typedef void (*event_fn)(struct chat *c, const struct event *e, const struct op *recv);

static void each_shown(struct chat *c, const struct op *op, event_fn fn)
{
    int64_t room = edn_int(edn_get(op->value, "room"), -1);
    const struct edn *events = edn_get(op->value, "events");
    struct event e;
    for (const struct edn *x = events != NULL ? events->first : NULL; x != NULL; x = x->next) {
        if (take_event(x, room, op->index, &e)) {
            fn(c, &e, op);
        } else {
            c->r->unknown = "an event that can't be read";
        }
    }
}

static void judge_said(struct chat *c)
{
    uint64_t acknowledged = 0, shown = 0;
    for (size_t i = 0; i < c->n_said; i++) {
        const struct said *s = &c->said[i];
        acknowledged += s->acknowledged;
        shown += s->shown;
        if (s->acknowledged && !s->shown) {
            bool passed = s->offset >= 0 && s->offset <= table_get(&c->highest, s->room, 0, -1);
            report_anomaly(c->r, passed ? "lost-message" : "unseen",
                           "{:room %lld :id %lld :offset %lld :index %lld}", (long long)s->room,
                           (long long)s->id, (long long)s->offset, (long long)s->op->index);
        }
    }
    report_figure(c->r,
                  ":said %zu, :acknowledged %llu, :shown %llu, :bans %llu, :unbans %llu, "
                  ":slow-modes %llu",
                  c->n_said, (unsigned long long)acknowledged, (unsigned long long)shown,
                  (unsigned long long)c->shown[EVENT_BAN],
                  (unsigned long long)c->shown[EVENT_UNBAN],
                  (unsigned long long)c->shown[EVENT_SLOW]);
}

static void judge_commands(struct chat *c)
{
    for (size_t i = 0; i < c->ops->n; i++) {
        const struct op *op = &c->ops->at[i];
        int64_t kind = op->type == HISTORY_OK ? kind_of(op) : -1;
        if (kind < 0) {
            continue;
        }
        int64_t room = edn_int(edn_get(op->value, "room"), -1);
        int64_t offset = edn_int(edn_get(op->value, "offset"), -1);
        int64_t at = table_get(&c->event_at, room, offset, -1);
        const struct event *e = at >= 0 ? &c->events[at] : NULL;
        const char *wrong = NULL;
        if (e == NULL) {
            wrong = offset <= table_get(&c->highest, room, 0, -1) ? "lost-command" : "unseen";
        } else if ((int64_t)e->kind != kind ||
                   (kind == EVENT_SLOW ? e->what : e->user) != subject_of(op, kind)) {
            wrong = "wrong-offset";
        }
        if (wrong != NULL) {
            report_anomaly(c->r, wrong, "{:room %lld :%s %lld :offset %lld :index %lld}",
                           (long long)room, kinds[kind], (long long)subject_of(op, kind),
                           (long long)offset, (long long)op->index);
        }
    }
}

/* Refusals by their reason: whether the rules were met at all. */
static void count_refusals(struct chat *c)
{
    uint64_t banned = 0, slow = 0, fast = 0;
    for (size_t i = 0; i < c->ops->n; i++) {
        const struct op *op = &c->ops->at[i];
        if (op_is(op, HISTORY_FAIL, "say")) {
            const struct edn *why = edn_get(op->value, "refused");
            banned += edn_is(why, "banned");
            slow += edn_is(why, "slow_mode");
            fast += edn_is(why, "rate_limited");
        }
    }
    report_figure(c->r, ":refused {:banned %llu, :slow %llu, :rate %llu}",
                  (unsigned long long)banned, (unsigned long long)slow, (unsigned long long)fast);
}

/* --- In the order of a room --- */

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->room != y->room) {
        return x->room < y->room ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Of a user in a room: offset and end of the ban, time of the last message, whether exempt. */
enum { BANNED, UNTIL, LAST, EXEMPT, KEPT };

static int64_t *kept(struct chat *c, const struct event *e, int64_t what, int64_t otherwise)
{
    return table_put(&c->user,
                     table_key(e->room, UINT64_C(1) << 32, table_key(e->user, KEPT, KEPT + what)),
                     0, otherwise);
}

static void judge_rule(struct chat *c, const struct event *e, int64_t slow_ms)
{
    int64_t ban = *kept(c, e, BANNED, -1), until = *kept(c, e, UNTIL, 0);
    int64_t last = *kept(c, e, LAST, INT64_MIN / 2);
    if (ban >= 0 && (until == 0 || e->ms < until)) {
        report_anomaly(c->r, "banned-message",
                       "{:room %lld :user %lld :offset %lld :banned-at %lld :index %lld}",
                       (long long)e->room, (long long)e->user, (long long)e->offset, (long long)ban,
                       (long long)e->index);
    }
    if (e->ms - last < slow_ms && *kept(c, e, EXEMPT, 0) == 0) {
        report_anomaly(c->r, "too-fast",
                       "{:room %lld :user %lld :offset %lld :after-ms %lld :slow-ms %lld}",
                       (long long)e->room, (long long)e->user, (long long)e->offset,
                       (long long)(e->ms - last), (long long)slow_ms);
    }
    *kept(c, e, LAST, 0) = e->ms;
}

static void judge_rules(struct chat *c)
{
    int64_t rank = 0, slow_ms = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct event *e = &c->events[i];
        bool anew = i == 0 || e->room != c->events[i - 1].room;
        rank = anew ? 0 : rank + 1;
        slow_ms = anew ? 0 : slow_ms;
        *table_put(&c->rank, e->room, e->offset, 0) = rank;
        if (e->kind == EVENT_SLOW) {
            slow_ms = e->what * 1000;
            c->slow_most_s = e->what > c->slow_most_s ? e->what : c->slow_most_s;
            *kept(c, e, EXEMPT, 0) = 1;
        } else if (e->kind != EVENT_MSG) {
            *kept(c, e, BANNED, 0) = e->kind == EVENT_BAN ? e->offset : -1;
            *kept(c, e, UNTIL, 0) = e->what;
        } else {
            judge_rule(c, e, slow_ms);
        }
    }
}

static void judge_step(struct chat *c, const struct event *e, const struct op *recv)
{
    int64_t rank = table_get(&c->rank, e->room, e->offset, -1);
    int64_t *position = table_put(&c->position, recv->process, e->room, -1);
    bool skipped = rank > *position + 1, back = rank <= *position;
    if (*position >= 0 && (skipped || back)) {
        report_anomaly(c->r, skipped ? "recv-skip" : "nonmonotonic-recv",
                       "{:process %lld :room %lld :offset %lld :by %lld :index %lld}",
                       (long long)recv->process, (long long)e->room, (long long)e->offset,
                       (long long)(rank - *position), (long long)recv->index);
    }
    *position = rank;
}

static void judge_listeners(struct chat *c)
{
    for (size_t i = 0; i < c->ops->n; i++) {
        const struct op *op = &c->ops->at[i];
        if (op_is(op, HISTORY_OK, "join")) {
            *table_put(&c->position, op->process, edn_int(edn_get(op->value, "room"), -1), -1) = -1;
        } else if (op_is(op, HISTORY_OK, "recv")) {
            each_shown(c, op, judge_step);
        }
    }
}

/* --- Who is refused too long --- */

static int64_t limit_ns(const struct chat *c, const struct op *refused)
{
    const struct edn *why = edn_get(refused->value, "refused");
    if (edn_is(why, "rate_limited")) {
        return 2 * RATE_WAIT_NS;
    }
    return edn_is(why, "slow_mode") ? 2 * (c->slow_most_s * 1000000000 + RATE_WAIT_NS) : INT64_MAX;
}

/* What may have been accepted while it was not answered, or at any time later, is no silence. */
static void judge_silence(struct chat *c)
{
    enum { OPEN, SINCE };
    for (size_t i = 0; i < c->ops->n; i++) {
        const struct op *op = &c->ops->at[i];
        if (!edn_is(op->f, "say") || op->other == NULL) {
            continue;
        }
        int64_t room = edn_int(edn_get(op->value, "room"), -1);
        int64_t user = edn_int(edn_get(op->value, "user"), -1);
        int64_t *open = table_put(&c->silent, room * 2 + OPEN, user, 0);
        if (op->type == HISTORY_INVOKE) {
            *open += op_failed(op) ? 0 : 1;
            continue;
        }
        *open -= op->type == HISTORY_OK;
        bool quiet = *open == 0;
        int64_t *since = table_put(&c->silent, room * 2 + SINCE, user, INT64_MIN / 4);
        int64_t silent_ns = op->other->time_ns - *since;
        if (op->type == HISTORY_OK) {
            *since = op->time_ns;
        } else if (op->type == HISTORY_FAIL && quiet && silent_ns > limit_ns(c, op)) {
            report_anomaly(c->r, "kept-silent", "{:room %lld :user %lld :for-ms %lld :index %lld}",
                           (long long)room, (long long)user, (long long)(silent_ns / 1000000),
                           (long long)op->index);
        }
    }
}

void check_chat(const struct ops *ops, struct report *r)
{
    struct chat c = {.ops = ops, .r = r, .said = calloc(ops->n + 1, sizeof(struct said))};
    struct table *tables[] = {&c.said_at,  &c.place, &c.event_at, &c.highest, &c.rank,
                              &c.position, &c.user,  &c.command,  &c.silent};
    if (c.said == NULL) {
        r->unknown = "no memory";
        return;
    }
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_open(tables[i]);
    }
    take_said(&c);
    take_commands(&c);
    for (size_t i = 0; i < ops->n; i++) {
        if (op_is(&ops->at[i], HISTORY_OK, "recv")) {
            each_shown(&c, &ops->at[i], learn_event);
        }
    }
    judge_said(&c);
    judge_commands(&c);
    count_refusals(&c);
    if (c.n > 0) {
        qsort(c.events, c.n, sizeof(*c.events), compare_events);
    }
    judge_rules(&c);
    judge_listeners(&c);
    judge_silence(&c);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_close(tables[i]);
    }
    free(c.said);
    free(c.events);
}
