/* A log's anomalies, as jepsen.tests.kafka names and defines them. What is known of a key is which
 * value is at which offset: from sends that were acknowledged and from every poll. The offsets
 * known of a key, in order, are its version order; a consumer that sees two of them has to see all
 * between.
 *
 *   inconsistent-offsets  two values at one offset
 *   duplicate             one value at two offsets
 *   G1a                   a value was read whose send failed
 *   phantom               a value was read that nobody had sent by then
 *   precommitted-read     an operation read what it was sending itself
 *   lost-write            acknowledged, nobody read it, something at or behind it was read
 *   unseen                acknowledged, nobody read it, nothing behind it was read either
 *   int-poll-skip, int-nonmonotonic-poll    between two values of one poll
 *   poll-skip, nonmonotonic-poll            between a process's polls without an assignment between
 *   nonmonotonic-send     a process's later send has the lower offset
 *
 * Of consumer groups (:subscribe [k ..], :group "g"; :commit {k next}, :group "g"):
 *
 *   group-skip            committed over a value that no member had been given
 *   group-unseen          acknowledged, and no member was ever given it */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"
#include "jepsen/history/memory.h"

#define GROUPS_MAX 32

struct send {
    const struct op *invocation;
    int64_t key, value, offset; /* negative: not known */
    bool acknowledged, failed, polled;
};

struct known { /* an offset of a key */
    int64_t key, offset;
};

struct kafka {
    const struct ops *ops;
    struct report *report;
    struct send *sends;
    size_t n_sends, cap_sends;
    struct table send_of;    /* key, value -> sends */
    struct table value_at;   /* key, offset -> value */
    struct table offset_of;  /* key, value -> offset */
    struct table highest;    /* key -> highest offset polled */
    struct table rank;       /* key, offset -> position in the version order */
    struct table life;       /* process -> assignments it has had */
    struct table position;   /* process and life, key -> rank last polled */
    struct table sent_last;  /* process, key -> offset last acknowledged */
    struct table group_of;   /* process -> group */
    struct table given;      /* group and key, offset -> a member was given it */
    struct table committed;  /* group, key -> next */
    struct table subscribed; /* group, key */
    struct known *known;     /* sorted: the version orders, one after another */
    size_t n_known, cap_known;
    const struct edn *groups[GROUPS_MAX];
    unsigned n_groups;
    const struct op *last_op; /* judge_step's last one */
    int64_t last_key;
};

/* --- Micro-operations --- */

typedef void (*pair_fn)(struct kafka *k, const struct op *op, int64_t key, int64_t offset,
                        int64_t value);

/* Every [offset value] of every poll in it, in order. */
static void each_polled(struct kafka *k, const struct op *op, pair_fn fn)
{
    for (const struct edn *mop = op->value != NULL ? op->value->first : NULL; mop != NULL;
         mop = mop->next) {
        const struct edn *polled = edn_is(edn_at(mop, 0), "poll") ? edn_at(mop, 1) : NULL;
        for (const struct edn *key = edn_first_key(polled); key != NULL; key = edn_next_key(key)) {
            for (const struct edn *pair = key->next->first; pair != NULL; pair = pair->next) {
                fn(k, op, edn_int(key, -1), edn_int(edn_at(pair, 0), -1),
                   edn_int(edn_at(pair, 1), -1));
            }
        }
    }
}

/* Every send in it; the offset is -1 where it is not told. */
static void each_sent(struct kafka *k, const struct op *op, pair_fn fn)
{
    for (const struct edn *mop = op->value != NULL ? op->value->first : NULL; mop != NULL;
         mop = mop->next) {
        if (!edn_is(edn_at(mop, 0), "send")) {
            continue;
        }
        const struct edn *what = edn_at(mop, 2);
        bool told = what != NULL && edn_is_seq(what);
        fn(k, op, edn_int(edn_at(mop, 1), -1), told ? edn_int(edn_at(what, 0), -1) : -1,
           edn_int(told ? edn_at(what, 1) : what, -1));
    }
}

/* --- First pass: sends, and what is where --- */

static void take_invoked(struct kafka *k, const struct op *op, int64_t key, int64_t offset,
                         int64_t value)
{
    (void)offset;
    int64_t *slot = table_put(&k->send_of, key, value, -1);
    if (*slot >= 0) {
        k->report->unknown = "a value was sent twice";
        return;
    }
    *slot = (int64_t)k->n_sends;
    k->sends = memory_grow(k->sends, k->n_sends, &k->cap_sends, sizeof(*k->sends));
    k->sends[k->n_sends++] = (struct send){.invocation = op,
                                           .key = key,
                                           .value = value,
                                           .offset = -1,
                                           .failed = op_failed(op),
                                           .acknowledged = op_went_well(op)};
}

static void take_place(struct kafka *k, const struct op *op, int64_t key, int64_t offset,
                       int64_t value)
{
    int64_t *at = table_put(&k->value_at, key, offset, INT64_MIN);
    if (*at == INT64_MIN) {
        *at = value;
        k->known = memory_grow(k->known, k->n_known, &k->cap_known, sizeof(*k->known));
        k->known[k->n_known++] = (struct known){.key = key, .offset = offset};
    } else if (*at != value) {
        report_anomaly(k->report, "inconsistent-offsets",
                       "{:key %lld :offset %lld :values #{%lld %lld} :index %lld}", (long long)key,
                       (long long)offset, (long long)*at, (long long)value, (long long)op->index);
    }
    int64_t *of = table_put(&k->offset_of, key, value, offset);
    if (*of != offset) {
        report_anomaly(k->report, "duplicate",
                       "{:key %lld :value %lld :offsets #{%lld %lld} :index %lld}", (long long)key,
                       (long long)value, (long long)*of, (long long)offset, (long long)op->index);
    }
}

static void take_acknowledged(struct kafka *k, const struct op *op, int64_t key, int64_t offset,
                              int64_t value)
{
    int64_t at = table_get(&k->send_of, key, value, -1);
    if (at < 0) {
        report_anomaly(k->report, "phantom",
                       "{:key %lld :value %lld :index %lld :acknowledged true}", (long long)key,
                       (long long)value, (long long)op->index);
        return;
    }
    k->sends[at].offset = offset;
    if (offset < 0) {
        return;
    }
    take_place(k, op, key, offset, value);
    int64_t *last = table_put(&k->sent_last, op->process, key, -1);
    if (offset <= *last) {
        report_anomaly(k->report, "nonmonotonic-send",
                       "{:process %lld :key %lld :offsets [%lld %lld] :index %lld}",
                       (long long)op->process, (long long)key, (long long)*last, (long long)offset,
                       (long long)op->index);
    }
    *last = offset;
}

static void take_polled(struct kafka *k, const struct op *op, int64_t key, int64_t offset,
                        int64_t value)
{
    take_place(k, op, key, offset, value);
    int64_t *highest = table_put(&k->highest, key, 0, -1);
    *highest = offset > *highest ? offset : *highest;
    int64_t at = table_get(&k->send_of, key, value, -1);
    struct send *s = at >= 0 ? &k->sends[at] : NULL;
    if (s != NULL) {
        s->polled = true;
    }
    if (s == NULL || s->invocation > op) {
        report_anomaly(k->report, "phantom", "{:key %lld :value %lld :offset %lld :index %lld}",
                       (long long)key, (long long)value, (long long)offset, (long long)op->index);
        return;
    }
    if (s->failed) {
        report_anomaly(k->report, "G1a",
                       "{:key %lld :value %lld :offset %lld :sent %lld :polled %lld}",
                       (long long)key, (long long)value, (long long)offset,
                       (long long)s->invocation->index, (long long)op->index);
    }
    if (s->invocation->other == op) {
        report_anomaly(k->report, "precommitted-read", "{:key %lld :value %lld :index %lld}",
                       (long long)key, (long long)value, (long long)op->index);
    }
}

/* An operation's type is what counts, not the :f: transactions have sends and polls. */
static bool is_data(const struct op *op)
{
    return op->process != HISTORY_NEMESIS &&
           (edn_is(op->f, "send") || edn_is(op->f, "poll") || edn_is(op->f, "txn"));
}

static void learn(struct kafka *k)
{
    for (size_t i = 0; i < k->ops->n; i++) {
        const struct op *op = &k->ops->at[i];
        if (is_data(op) && op->type == HISTORY_INVOKE) {
            each_sent(k, op, take_invoked);
        }
    }
    for (size_t i = 0; i < k->ops->n; i++) {
        const struct op *op = &k->ops->at[i];
        if (is_data(op) && op->type == HISTORY_OK) {
            each_sent(k, op, take_acknowledged);
            each_polled(k, op, take_polled);
        }
    }
}

static void judge_sends(struct kafka *k)
{
    uint64_t acknowledged = 0, unknown = 0, polled = 0;
    for (size_t i = 0; i < k->n_sends; i++) {
        const struct send *s = &k->sends[i];
        int64_t highest = table_get(&k->highest, s->key, 0, -1);
        acknowledged += s->acknowledged;
        unknown += !s->acknowledged && !s->failed;
        polled += s->polled;
        if (!s->acknowledged || s->polled) {
            continue;
        }
        bool passed = s->offset >= 0 && s->offset <= highest;
        report_anomaly(k->report, passed ? "lost-write" : "unseen",
                       "{:key %lld :value %lld :offset %lld :highest-read %lld :index %lld}",
                       (long long)s->key, (long long)s->value, (long long)s->offset,
                       (long long)highest, (long long)s->invocation->index);
    }
    report_figure(k->report, ":sent %zu, :acknowledged %llu, :unknown %llu, :read %llu", k->n_sends,
                  (unsigned long long)acknowledged, (unsigned long long)unknown,
                  (unsigned long long)polled);
}

/* --- Second pass: what each process saw, in the version orders --- */

static int compare_known(const void *a, const void *b)
{
    const struct known *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void rank_all(struct kafka *k)
{
    int64_t rank = 0;
    if (k->n_known > 0) {
        qsort(k->known, k->n_known, sizeof(*k->known), compare_known);
    }
    for (size_t i = 0; i < k->n_known; i++) {
        rank = i > 0 && k->known[i].key == k->known[i - 1].key ? rank + 1 : 0;
        *table_put(&k->rank, k->known[i].key, k->known[i].offset, 0) = rank;
    }
}

static int group_number(struct kafka *k, const struct op *op)
{
    const struct edn *name = edn_get(op->map, "group");
    if (name == NULL) {
        return -1;
    }
    for (unsigned i = 0; i < k->n_groups; i++) {
        if (edn_equal(k->groups[i], name)) {
            return (int)i;
        }
    }
    if (k->n_groups == GROUPS_MAX) {
        k->report->unknown = "more groups than this checker takes";
        return -1;
    }
    k->groups[k->n_groups] = name;
    return (int)k->n_groups++;
}

/* Forgets where the process stood; in a group anything may move. */
static void take_assignment(struct kafka *k, const struct op *op)
{
    int group = edn_is(op->f, "subscribe") ? group_number(k, op) : -1;
    *table_put(&k->group_of, op->process, 0, -1) = group;
    ++*table_put(&k->life, op->process, 0, 0);
    for (const struct edn *key = op->value != NULL && group >= 0 ? op->value->first : NULL;
         key != NULL; key = key->next) {
        (void)table_put(&k->subscribed, group, edn_int(key, -1), 1);
    }
}

static int64_t *position_of(struct kafka *k, int64_t process, int64_t key)
{
    return table_put(&k->position, process << 24 | table_get(&k->life, process, 0, 0), key, -1);
}

static void judge_step(struct kafka *k, const struct op *op, int64_t key, int64_t offset,
                       int64_t value)
{
    bool inside = k->last_op == op && k->last_key == key; /* of one poll */
    int64_t rank = table_get(&k->rank, key, offset, -1);
    int64_t *position = position_of(k, op->process, key);
    k->last_op = op;
    k->last_key = key;
    if (*position >= 0 && rank > *position + 1) {
        report_anomaly(
            k->report, inside ? "int-poll-skip" : "poll-skip",
            "{:process %lld :key %lld :offset %lld :value %lld :skipped %lld :index %lld}",
            (long long)op->process, (long long)key, (long long)offset, (long long)value,
            (long long)(rank - *position - 1), (long long)op->index);
    } else if (*position >= 0 && rank <= *position) {
        report_anomaly(k->report, inside ? "int-nonmonotonic-poll" : "nonmonotonic-poll",
                       "{:process %lld :key %lld :offset %lld :value %lld :back %lld :index %lld}",
                       (long long)op->process, (long long)key, (long long)offset, (long long)value,
                       (long long)(*position - rank), (long long)op->index);
    }
    *position = rank;
    int64_t group = table_get(&k->group_of, op->process, 0, -1);
    if (group >= 0) {
        (void)table_put(&k->given, table_key(group, UINT64_C(1) << 32, key), offset, 1);
    }
}

/* Keys that went to another member and may come back: [k ...]. */
static void take_rebalance(struct kafka *k, const struct op *op)
{
    const struct edn *keys = edn_get(op->map, "rebalanced");
    for (const struct edn *key = keys != NULL ? keys->first : NULL; key != NULL; key = key->next) {
        *position_of(k, op->process, edn_int(key, -1)) = -1;
    }
}

static size_t first_known(const struct kafka *k, int64_t key, int64_t offset)
{
    size_t low = 0, high = k->n_known;
    struct known wanted = {.key = key, .offset = offset};
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_known(&k->known[middle], &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void judge_commit(struct kafka *k, const struct op *op)
{
    int group = group_number(k, op);
    const struct edn *key = group >= 0 ? edn_first_key(op->value) : NULL;
    for (; key != NULL; key = edn_next_key(key)) {
        int64_t id = edn_int(key, -1), next = edn_int(key->next, -1);
        int64_t *from = table_put(&k->committed, group, id, 0);
        for (size_t i = first_known(k, id, *from);
             i < k->n_known && k->known[i].key == id && k->known[i].offset < next; i++) {
            if (table_find(&k->given, table_key(group, UINT64_C(1) << 32, id),
                           k->known[i].offset) == NULL) {
                report_anomaly(k->report, "group-skip",
                               "{:key %lld :offset %lld :committed %lld :index %lld}",
                               (long long)id, (long long)k->known[i].offset, (long long)next,
                               (long long)op->index);
            }
        }
        *from = next > *from ? next : *from;
    }
}

static void judge_order(struct kafka *k)
{
    for (size_t i = 0; i < k->ops->n; i++) {
        const struct op *op = &k->ops->at[i];
        if (op->process == HISTORY_NEMESIS || op->type != HISTORY_OK) {
            continue;
        }
        if (edn_is(op->f, "assign") || edn_is(op->f, "subscribe")) {
            take_assignment(k, op);
        } else if (edn_is(op->f, "commit")) {
            judge_commit(k, op);
        } else if (is_data(op)) {
            take_rebalance(k, op);
            each_polled(k, op, judge_step);
        }
    }
}

static void judge_groups(struct kafka *k)
{
    for (size_t i = 0; i < k->n_sends; i++) {
        const struct send *s = &k->sends[i];
        for (unsigned g = 0; g < k->n_groups && s->acknowledged && s->offset >= 0; g++) {
            if (table_find(&k->subscribed, g, s->key) != NULL &&
                table_find(&k->given, table_key(g, UINT64_C(1) << 32, s->key), s->offset) == NULL) {
                report_anomaly(k->report, "group-unseen",
                               "{:group %.*s :key %lld :value %lld :offset %lld}",
                               (int)k->groups[g]->len, k->groups[g]->text, (long long)s->key,
                               (long long)s->value, (long long)s->offset);
            }
        }
    }
}

void check_kafka(const struct ops *ops, struct report *r)
{
    struct kafka k = {.ops = ops, .report = r};
    struct table *tables[] = {&k.send_of,  &k.value_at, &k.offset_of, &k.highest,
                              &k.rank,     &k.life,     &k.position,  &k.sent_last,
                              &k.group_of, &k.given,    &k.committed, &k.subscribed};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_open(tables[i]);
    }
    learn(&k);
    judge_sends(&k);
    rank_all(&k);
    judge_order(&k);
    judge_groups(&k);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_close(tables[i]);
    }
    free(k.sends);
    free(k.known);
}
