/* Elements that are added one by one, and reads of all of them (jepsen.checker/set-full).
 *
 *   :add 3   :read -> [1 2 3]
 *
 * An element is known once its :add was acknowledged or a read has shown it. After that
 *   lost        no read that began later shows it, or none after some read that did
 *   stale       a read that began later misses it, a still later one shows it (told, not judged)
 *   never-read  it was acknowledged, and no read began afterwards: nothing can be said (told)
 *   duplicated  a read shows it more than once
 *   phantom     a read shows what nobody had added; G1a: what was refused */
#include <stdlib.h>

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"

struct element {
    int64_t value;
    const struct op *add;
    int64_t known;                                   /* position in the history; -1: not known */
    int64_t last_present, last_absent, first_absent; /* of reads that began once it was known */
};

struct set {
    const struct ops *ops;
    struct report *r;
    struct element *elements;
    size_t n;
    struct table at;   /* value -> elements */
    struct table seen; /* value -> read that showed it last */
};

static void take_adds(struct set *s)
{
    for (size_t i = 0; i < s->ops->n; i++) {
        const struct op *op = &s->ops->at[i];
        if (op_is(op, HISTORY_INVOKE, "add")) {
            int64_t value = edn_int(op->value, INT64_MIN);
            *table_put(&s->at, value, 0, 0) = (int64_t)s->n;
            s->elements[s->n++] =
                (struct element){.value = value,
                                 .add = op,
                                 .known = op_went_well(op) ? op->other - s->ops->at : -1,
                                 .last_present = -1,
                                 .last_absent = -1,
                                 .first_absent = -1};
        }
    }
}

static void show(struct set *s, const struct op *read, const struct edn *value)
{
    int64_t position = read - s->ops->at, v = edn_int(value, INT64_MIN);
    int64_t *last = table_put(&s->seen, v, 0, -1);
    if (*last == position) {
        report_anomaly(s->r, "duplicated", "{:value %lld :index %lld}", (long long)v,
                       (long long)read->index);
    }
    *last = position;
    int64_t at = table_get(&s->at, v, 0, -1);
    struct element *e = at >= 0 ? &s->elements[at] : NULL;
    if (e == NULL || e->add > read) {
        report_anomaly(s->r, "phantom", "{:value %lld :index %lld}", (long long)v,
                       (long long)read->index);
        return;
    }
    if (op_failed(e->add)) {
        report_anomaly(s->r, "G1a", "{:value %lld :index %lld}", (long long)v,
                       (long long)read->index);
    }
    e->last_present = position;
    if (e->known < 0 || position < e->known) {
        e->known = position;
    }
}

static void judge_read(struct set *s, const struct op *read)
{
    int64_t position = read - s->ops->at, began = read->other - s->ops->at;
    for (const struct edn *v = read->value->first; v != NULL; v = v->next) {
        show(s, read, v);
    }
    for (size_t i = 0; i < s->n; i++) {
        struct element *e = &s->elements[i];
        if (e->known >= 0 && e->known < began && e->last_present != position) {
            e->last_absent = position;
            e->first_absent = e->first_absent < 0 ? position : e->first_absent;
        }
    }
}

static void judge_element(struct set *s, const struct element *e)
{
    bool absent = e->last_absent >= 0;
    if (absent && e->last_absent > e->last_present) {
        report_anomaly(s->r, "lost", "{:value %lld :known %lld :missed %lld}", (long long)e->value,
                       (long long)s->ops->at[e->known].index,
                       (long long)s->ops->at[e->last_absent].index);
    } else if (absent) {
        report_harmless(s->r, "stale", "{:value %lld :known %lld :missed %lld}",
                        (long long)e->value, (long long)s->ops->at[e->known].index,
                        (long long)s->ops->at[e->first_absent].index);
    } else if (e->known >= 0 && e->last_present < 0) {
        report_harmless(s->r, "never-read", "{:value %lld}", (long long)e->value);
    }
}

void check_set(const struct ops *ops, struct report *r)
{
    struct set s = {.ops = ops, .r = r, .elements = calloc(ops->n + 1, sizeof(struct element))};
    uint64_t reads = 0;
    if (s.elements == NULL) {
        r->unknown = "no memory";
        return;
    }
    table_open(&s.at);
    table_open(&s.seen);
    take_adds(&s);
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        if (op_is(op, HISTORY_OK, "read") && op->value != NULL) {
            judge_read(&s, op);
            reads++;
        }
    }
    for (size_t i = 0; i < s.n; i++) {
        judge_element(&s, &s.elements[i]);
    }
    if (reads == 0) {
        r->unknown = "nothing was read";
    }
    report_figure(r, ":added %zu, :reads %llu", s.n, (unsigned long long)reads);
    table_close(&s.at);
    table_close(&s.seen);
    free(s.elements);
}
