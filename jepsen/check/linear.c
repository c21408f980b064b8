/* Registers: is there an order of the operations, each between its begin and its end, in which
 * every read gives what was written last? Keys are judged one by one (locality). The search is that
 * of Wing and Gong (1993) with Lowe's memory of (operations done, value) that led nowhere (2017),
 * over a list of begins and ends as in Horn and Kroening (2015). Two things keep it short:
 *
 *   a read that gives the present value is taken as soon as it has begun, before anything else is
 * tried, and nothing is tried in its place: it changes nothing, so every order without it at this
 * point is one with it;
 *   of operations that are alike and whose ends are not known the one that began first is taken
 * first: where a later one may be taken it may be, too.
 *
 *   :read [k nil] -> [k v]   :write [k v]   :cas [k [old new]]      also without keys: v, [old new]
 *
 * A failed operation did not happen; one whose end is not known may happen at any time after its
 * begin, or never; such a read says nothing. Registers begin as nil. */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"
#include "jepsen/history/memory.h"

#define NIL       INT64_MIN
#define STEPS_MAX 30000000u /* of one key: more can't be waited for */

enum action { READ, WRITE, CAS };

struct action_op {
    enum action action;
    int64_t a, b;  /* value; or old and new */
    bool known;    /* its end */
    bool done;     /* taken at this point of the search */
    unsigned twin; /* one like it that began before, its end not known either, + 1; 0: none */
    const struct op *op;
};

struct node { /* a begin or an end; a doubly linked list in the order of time */
    struct node *before, *after;
    struct node *end; /* of a begin whose end is known */
    unsigned number;  /* of its operation */
    bool begin;
};

struct choice {
    struct node *node;
    int64_t state;
    bool forced; /* there is nothing to be tried in its place */
};

struct memory { /* 128 bits of (done, state) */
    uint64_t (*entries)[2];
    size_t mask, n;
};

struct search {
    struct action_op *ops;
    unsigned n;
    struct node *nodes; /* the first is the list's head */
    struct choice *stack;
    unsigned depth, deepest, left; /* ends that are still in the list */
    const struct op *stuck_at;
    uint64_t done[2]; /* what was done, as a sum of random numbers */
    struct memory memory;
    uint64_t steps;
};

/* --- What led nowhere --- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static bool memory_put(struct memory *m, uint64_t a, uint64_t b)
{
    if (m->n * 2 >= m->mask) {
        struct memory wide = {.mask = m->mask * 2 + 1};
        wide.entries = memory_need(calloc(wide.mask + 1, sizeof(*wide.entries)));
        for (size_t i = 0; m->entries != NULL && i <= m->mask; i++) {
            if (m->entries[i][0] != 0) {
                (void)memory_put(&wide, m->entries[i][0], m->entries[i][1]);
            }
        }
        free(m->entries);
        *m = wide;
    }
    a += a == 0;
    size_t at = (size_t)a & m->mask;
    while (m->entries[at][0] != 0) {
        if (m->entries[at][0] == a && m->entries[at][1] == b) {
            return false;
        }
        at = (at + 1) & m->mask;
    }
    m->entries[at][0] = a;
    m->entries[at][1] = b;
    m->n++;
    return true;
}

/* --- The search --- */

static bool apply(const struct action_op *op, int64_t *state)
{
    switch (op->action) {
    case READ:
        return op->a == *state;
    case WRITE:
        *state = op->a;
        return true;
    case CAS:
        if (op->a != *state) {
            return false;
        }
        *state = op->b;
        return true;
    }
    return false;
}

static void take_out(struct node *n)
{
    n->before->after = n->after;
    if (n->after != NULL) {
        n->after->before = n->before;
    }
}

static void put_back(struct node *n)
{
    n->before->after = n;
    if (n->after != NULL) {
        n->after->before = n;
    }
}

static void mark(struct search *s, unsigned number, bool done)
{
    s->ops[number].done = done;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t one = mix(number * 2u + i + 1);
        s->done[i] += done ? one : 0 - one;
    }
}

static void take(struct search *s, struct node *n, int64_t before, bool forced)
{
    s->stack[s->depth++] = (struct choice){.node = n, .state = before, .forced = forced};
    mark(s, n->number, true);
    take_out(n);
    if (n->end != NULL) {
        take_out(n->end);
        s->left--;
    }
}

/* The reads that have begun and give the present value. */
static void take_reads(struct search *s, int64_t state)
{
    struct node *next;
    for (struct node *n = s->nodes[0].after; n != NULL && n->begin; n = next) {
        const struct action_op *op = &s->ops[n->number];
        bool fits = op->action == READ && op->a == state;
        next = fits && n->after == n->end ? n->end->after : n->after; /* the end goes too */
        if (fits) {
            take(s, n, state, true);
        }
    }
}

/* The last choice, and what followed from it; where to go on. NULL: there was none. */
static struct node *unchoose(struct search *s, int64_t *state)
{
    bool forced = true;
    struct node *n = NULL;
    while (forced && s->depth > 0) {
        const struct choice *c = &s->stack[--s->depth];
        n = c->node;
        forced = c->forced;
        *state = c->state;
        mark(s, n->number, false);
        if (n->end != NULL) {
            put_back(n->end);
            s->left++;
        }
        put_back(n);
    }
    return forced ? NULL : n->after;
}

/* Takes it, if that may be; where to go on. */
static struct node *choose(struct search *s, struct node *n, int64_t *state)
{
    const struct action_op *op = &s->ops[n->number];
    int64_t after = *state;
    if (op->action == READ || (op->twin != 0 && !s->ops[op->twin - 1].done) || !apply(op, &after)) {
        return n->after;
    }
    take(s, n, *state, false);
    *state = after;
    take_reads(s, after);
    uint64_t h = mix((uint64_t)after);
    if (!memory_put(&s->memory, s->done[0] ^ h, s->done[1] + mix(h))) {
        return unchoose(s, state);
    }
    return s->nodes[0].after;
}

/* 1: there is an order; 0: there is none; -1: it takes too long. */
static int search(struct search *s)
{
    int64_t state = NIL;
    take_reads(s, state);
    struct node *n = s->nodes[0].after;
    while (s->left > 0) {
        if (s->steps++ == STEPS_MAX) {
            return -1;
        }
        if (n->begin) {
            n = choose(s, n, &state);
            continue;
        }
        if (s->depth >= s->deepest) {
            s->deepest = s->depth;
            s->stuck_at = s->ops[n->number].op;
        }
        n = unchoose(s, &state);
        if (n == NULL) {
            return 0;
        }
    }
    return 1;
}

/* --- A key --- */

struct event {
    int64_t order; /* of the history */
    unsigned number;
    bool begin;
};

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void build(struct search *s, const struct op *base)
{
    unsigned n_events = 0;
    struct event *events = memory_need(calloc((size_t)s->n * 2 + 1, sizeof(*events)));
    struct node **begins = memory_need(calloc((size_t)s->n + 1, sizeof(*begins)));
    s->nodes = memory_need(calloc((size_t)s->n * 2 + 2, sizeof(*s->nodes)));
    s->stack = memory_need(calloc((size_t)s->n + 1, sizeof(*s->stack)));
    for (unsigned i = 0; i < s->n; i++) {
        events[n_events++] =
            (struct event){.order = s->ops[i].op - base, .number = i, .begin = true};
        if (s->ops[i].known) {
            events[n_events++] = (struct event){.order = s->ops[i].op->other - base, .number = i};
            s->left++;
        }
    }
    if (n_events > 0) {
        qsort(events, n_events, sizeof(*events), compare_events);
    }
    for (unsigned i = 0; i < n_events; i++) {
        struct node *node = &s->nodes[i + 1];
        node->number = events[i].number;
        node->begin = events[i].begin;
        node->before = &s->nodes[i];
        s->nodes[i].after = node;
        if (node->begin) {
            begins[node->number] = node;
        } else {
            begins[node->number]->end = node;
        }
    }
    free(events);
    free(begins);
}

/* Operations are in the order of their begins. */
static void find_twins(struct search *s)
{
    for (unsigned i = 0; i < s->n; i++) {
        struct action_op *op = &s->ops[i];
        op->twin = 0;
        for (unsigned k = i; k > 0 && !op->known && op->twin == 0; k--) {
            const struct action_op *other = &s->ops[k - 1];
            bool alike = !other->known && other->action == op->action && other->a == op->a;
            op->twin = alike && (op->action != CAS || other->b == op->b) ? k : 0;
        }
    }
}

static void judge_key(struct search *s, int64_t key, const struct ops *ops, struct report *r)
{
    find_twins(s);
    build(s, ops->at);
    int found = search(s);
    if (found == 0) {
        report_anomaly(r, "nonlinearizable", "{:key %lld :operations %u :ordered %u :index %lld}",
                       (long long)key, s->n, s->deepest,
                       s->stuck_at != NULL ? (long long)s->stuck_at->index : -1);
    } else if (found < 0) {
        r->unknown = "too many orders to look at";
        report_harmless(r, "undecided", "{:key %lld :operations %u}", (long long)key, s->n);
    }
    free(s->nodes);
    free(s->stack);
    free(s->memory.entries);
}

/* --- All keys --- */

static int64_t value_of(const struct edn *e)
{
    return edn_int(e, NIL);
}

/* [key value] and a plain value are told apart by the first operation of the history. */
static bool take_op(struct action_op *out, const struct op *op, bool keyed, int64_t *ret_key)
{
    const struct op *told = op->other != NULL && op->other->type == HISTORY_OK ? op->other : op;
    const struct edn *value = edn_is(op->f, "read") ? told->value : op->value;
    *ret_key = keyed ? edn_int(edn_at(value, 0), 0) : 0;
    value = keyed ? edn_at(value, 1) : value;
    *out = (struct action_op){.op = op, .known = op_went_well(op), .a = value_of(value)};
    if (edn_is(op->f, "read")) {
        out->action = READ;
        return out->known;
    }
    if (edn_is(op->f, "write")) {
        out->action = WRITE;
        return true;
    }
    out->action = CAS;
    out->a = value_of(edn_at(value, 0));
    out->b = value_of(edn_at(value, 1));
    return edn_is(op->f, "cas");
}

static bool is_keyed(const struct ops *ops)
{
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        if (op->type == HISTORY_INVOKE && (edn_is(op->f, "read") || edn_is(op->f, "write"))) {
            return op->value != NULL && edn_is_seq(op->value);
        }
    }
    return true;
}

struct keyed_op {
    int64_t key;
    struct action_op op;
};

static int compare_keyed(const void *a, const void *b)
{
    const struct keyed_op *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->op.op < y->op.op ? -1 : x->op.op > y->op.op;
}

void check_linear(const struct ops *ops, struct report *r)
{
    bool keyed = is_keyed(ops);
    struct keyed_op *all = memory_need(calloc(ops->n + 1, sizeof(*all)));
    struct action_op *of_key = memory_need(calloc(ops->n + 1, sizeof(*of_key)));
    size_t n = 0;
    unsigned keys = 0;
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        if (op->type == HISTORY_INVOKE && op->process != HISTORY_NEMESIS && !op_failed(op) &&
            take_op(&all[n].op, op, keyed, &all[n].key)) {
            n++;
        }
    }
    if (n > 0) {
        qsort(all, n, sizeof(*all), compare_keyed);
    }
    for (size_t i = 0; i < n;) {
        struct search s = {.ops = of_key};
        int64_t key = all[i].key;
        for (; i < n && all[i].key == key; i++) {
            of_key[s.n++] = all[i].op;
        }
        judge_key(&s, key, ops, r);
        keys++;
    }
    report_figure(r, ":keys %u, :judged %zu", keys, n);
    free(all);
    free(of_key);
}
