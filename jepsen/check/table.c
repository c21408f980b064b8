#include "jepsen/check/table.h"

#include <stdlib.h>

#include "jepsen/history/memory.h"

static struct table_entry *new_entries(size_t n)
{
    return memory_need(calloc(n, sizeof(struct table_entry)));
}

void table_open(struct table *t)
{
    t->mask = 63;
    t->n = 0;
    t->entries = new_entries(t->mask + 1);
}

void table_close(struct table *t)
{
    free(t->entries);
}

static struct table_entry *place(struct table_entry *entries, size_t mask, int64_t a, int64_t b)
{
    uint64_t h = ((uint64_t)a * 0x9e3779b97f4a7c15u) ^ ((uint64_t)b * 0xc2b2ae3d27d4eb4fu);
    size_t at = (size_t)(h ^ h >> 29) & mask;
    while (entries[at].used && (entries[at].a != a || entries[at].b != b)) {
        at = (at + 1) & mask;
    }
    return &entries[at];
}

int64_t *table_find(const struct table *t, int64_t a, int64_t b)
{
    struct table_entry *e = place(t->entries, t->mask, a, b);
    return e->used ? &e->value : NULL;
}

static void grow(struct table *t)
{
    size_t mask = t->mask * 2 + 1;
    struct table_entry *entries = new_entries(mask + 1);
    for (size_t i = 0; i <= t->mask; i++) {
        if (t->entries[i].used) {
            *place(entries, mask, t->entries[i].a, t->entries[i].b) = t->entries[i];
        }
    }
    free(t->entries);
    t->entries = entries;
    t->mask = mask;
}

int64_t *table_put(struct table *t, int64_t a, int64_t b, int64_t otherwise)
{
    struct table_entry *e = place(t->entries, t->mask, a, b);
    if (!e->used) {
        if (++t->n * 2 > t->mask) {
            grow(t);
            e = place(t->entries, t->mask, a, b);
        }
        *e = (struct table_entry){.a = a, .b = b, .value = otherwise, .used = true};
    }
    return &e->value;
}
