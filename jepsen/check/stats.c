/* What every history tells: how many operations of each kind went well, how long they took, how
 * long at worst nothing went well, and what that had to do with which fault.
 *
 * Operations are looked at in lanes: a kind and a key (partition, register, room, channel), for it
 * is a key that has a leader. A lane is down from the first attempt after its last success to its
 * next success, or to the end of the last attempt before nobody asks for a second: nobody waits
 * while nobody asks. */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"
#include "jepsen/check/windows.h"
#include "jepsen/history/memory.h"

#define KINDS_MAX 32
#define NONE      INT64_MIN
#define IDLE_NS   1000000000

struct kind {
    const struct edn *f;
    uint64_t ok, fail, info;
    int64_t worst_ns, worst_at_ns; /* down */
    int64_t *latency_ns;
    size_t n, cap;
};

struct lane {
    unsigned kind;
    int64_t trying_ns; /* first attempt since the last success; NONE: none */
    int64_t tried_ns;  /* the newest attempt, or its end */
    unsigned n_open;
};

struct down {
    unsigned kind;
    int64_t start_ns, end_ns;
    size_t lane;
};

struct stats {
    const struct ops *ops;
    struct report *r;
    struct kind kinds[KINDS_MAX];
    unsigned n_kinds;
    struct table lane_at; /* kind, key -> lanes */
    struct lane *lanes;
    size_t n_lanes, cap_lanes;
    struct down *downs;
    size_t n_downs, cap_downs;
    struct windows windows;
    int64_t first_ns, last_ns;
};

static int64_t key_of(const struct op *op)
{
    static const char *const names[] = {"room", "channel", "key"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct edn *e = edn_get(op->value, names[i]);
        if (e != NULL) {
            return edn_int(e, 0);
        }
    }
    const struct edn *first = op->value != NULL && edn_is_seq(op->value) ? op->value->first : NULL;
    return first != NULL && edn_is_seq(first) ? edn_int(edn_at(first, 1), 0) : edn_int(first, 0);
}

static unsigned kind_of(struct stats *s, const struct op *op)
{
    for (unsigned i = 0; i < s->n_kinds; i++) {
        if (edn_equal(s->kinds[i].f, op->f)) {
            return i;
        }
    }
    if (s->n_kinds == KINDS_MAX) {
        return KINDS_MAX - 1; /* the last one stands for the rest */
    }
    s->kinds[s->n_kinds].f = op->f;
    return s->n_kinds++;
}

static struct lane *lane_of(struct stats *s, const struct op *op)
{
    unsigned kind = kind_of(s, op);
    int64_t *at = table_put(&s->lane_at, kind, key_of(op), -1);
    if (*at < 0) {
        *at = (int64_t)s->n_lanes;
        s->lanes = memory_grow(s->lanes, s->n_lanes, &s->cap_lanes, sizeof(*s->lanes));
        s->lanes[s->n_lanes++] = (struct lane){.kind = kind, .trying_ns = NONE};
    }
    return &s->lanes[*at];
}

/* A client's own death is meant to have no end. */
static void was_down(struct stats *s, const struct lane *l, int64_t end_ns)
{
    if (edn_is(s->kinds[l->kind].f, "crash")) {
        return;
    }
    struct kind *k = &s->kinds[l->kind];
    int64_t ns = end_ns - l->trying_ns;
    s->downs = memory_grow(s->downs, s->n_downs, &s->cap_downs, sizeof(*s->downs));
    s->downs[s->n_downs++] = (struct down){.kind = l->kind,
                                           .start_ns = l->trying_ns,
                                           .end_ns = end_ns,
                                           .lane = (size_t)(l - s->lanes)};
    if (ns > k->worst_ns) {
        k->worst_ns = ns;
        k->worst_at_ns = l->trying_ns;
    }
}

static void take(struct stats *s, const struct op *op)
{
    struct lane *l = lane_of(s, op->type == HISTORY_INVOKE ? op : op->other);
    struct kind *k = &s->kinds[l->kind];
    bool idle = l->n_open == 0 && op->time_ns - l->tried_ns > IDLE_NS;
    if (idle && l->trying_ns != NONE) {
        was_down(s, l, l->tried_ns);
        l->trying_ns = NONE;
    }
    l->tried_ns = op->time_ns;
    l->n_open += op->type == HISTORY_INVOKE ? 1u : UINT32_MAX;
    if (op->type == HISTORY_INVOKE) {
        l->trying_ns = l->trying_ns == NONE ? op->time_ns : l->trying_ns;
        return;
    }
    k->ok += op->type == HISTORY_OK;
    k->fail += op->type == HISTORY_FAIL;
    k->info += op->type == HISTORY_INFO;
    if (op->type == HISTORY_FAIL && op->error == NULL) {
        l->trying_ns = NONE; /* refused by the rules, by somebody who was there */
    }
    if (op->type == HISTORY_OK) {
        k->latency_ns = memory_grow(k->latency_ns, k->n, &k->cap, sizeof(*k->latency_ns));
        k->latency_ns[k->n++] = op->time_ns - op->other->time_ns;
        if (l->trying_ns != NONE) {
            was_down(s, l, op->time_ns);
        }
        l->trying_ns = NONE;
    }
}

static int compare_times(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

static double ms_at(const struct kind *k, double share)
{
    return k->n == 0 ? 0 : (double)k->latency_ns[(size_t)(share * (double)(k->n - 1))] / 1e6;
}

static void print_kinds(struct stats *s)
{
    double seconds = (double)(s->last_ns - s->first_ns) / 1e9;
    for (unsigned i = 0; i < s->n_kinds; i++) {
        struct kind *k = &s->kinds[i];
        if (k->n > 0) {
            qsort(k->latency_ns, k->n, sizeof(*k->latency_ns), compare_times);
        }
        report_figure(s->r,
                      ":%.*s {:ok %llu, :fail %llu, :info %llu, :per-second %.1f, :p50-ms %.2f, "
                      ":p99-ms %.2f, :max-ms %.1f, :longest-down-ms %.1f, :down-at-s %.3f}",
                      (int)k->f->len, k->f->text, (unsigned long long)k->ok,
                      (unsigned long long)k->fail, (unsigned long long)k->info,
                      seconds > 0 ? (double)k->ok / seconds : 0, ms_at(k, 0.5), ms_at(k, 0.99),
                      ms_at(k, 1), (double)k->worst_ns / 1e6, (double)k->worst_at_ns / 1e9);
    }
}

/* What did not recover from one fault before the next came recovers from that one. */
static bool next_came(const struct stats *s, const struct window *w, const struct down *down)
{
    bool came = false;
    for (size_t i = 0; i < s->windows.n; i++) {
        const struct window *next = &s->windows.at[i];
        came = came || (next->start_ns > w->stop_ns && next->start_ns < down->end_ns);
    }
    return came;
}

/* Of a fault: the longest time a lane was down that has to do with it, and how long after its end a
 * lane that was down then was so still. */
static void print_fault(struct stats *s, size_t at)
{
    const struct window *fault = &s->windows.at[at];
    int64_t worst = 0, recovery = 0;
    unsigned times = 0;
    for (size_t i = 0; i < s->windows.n; i++) {
        const struct window *w = &s->windows.at[i];
        if (!window_same(w, fault)) {
            continue;
        }
        if (i < at) {
            return; /* told already */
        }
        times++;
        for (size_t d = 0; d < s->n_downs; d++) {
            const struct down *down = &s->downs[d];
            if (down->start_ns > w->stop_ns || down->end_ns < w->start_ns) {
                continue;
            }
            int64_t ns = down->end_ns - down->start_ns, after = down->end_ns - w->stop_ns;
            worst = ns > worst ? ns : worst;
            recovery = after > recovery && !next_came(s, w, down) ? after : recovery;
        }
    }
    report_figure(s->r, ":fault/%.*s {:times %u, :longest-down-ms %.1f, :recovery-ms %.1f}",
                  fault->len, fault->name, times, (double)worst / 1e6, (double)recovery / 1e6);
}

void check_stats(const struct ops *ops, struct report *r)
{
    struct stats s = {.ops = ops, .r = r};
    table_open(&s.lane_at);
    windows_find(&s.windows, ops);
    for (size_t i = 0; i < ops->n; i++) {
        if (ops->at[i].process != HISTORY_NEMESIS) {
            s.first_ns = s.first_ns == 0 ? ops->at[i].time_ns : s.first_ns;
            s.last_ns = ops->at[i].time_ns;
            take(&s, &ops->at[i]);
        }
    }
    for (size_t i = 0; i < s.n_lanes; i++) {
        if (s.lanes[i].trying_ns != NONE) {
            was_down(&s, &s.lanes[i], s.lanes[i].tried_ns);
        }
    }
    print_kinds(&s);
    for (size_t i = 0; i < s.windows.n; i++) {
        print_fault(&s, i);
    }
    for (unsigned i = 0; i < s.n_kinds; i++) {
        free(s.kinds[i].latency_ns);
    }
    table_close(&s.lane_at);
    windows_free(&s.windows);
    free(s.lanes);
    free(s.downs);
}
