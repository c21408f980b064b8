/* A hash table from two integers to one. Grows; ends the program when there is no memory. */
#ifndef JEPSEN_CHECK_TABLE_H
#define JEPSEN_CHECK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_entry {
    int64_t a, b, value;
    bool used;
};
struct table {
    struct table_entry *entries;
    size_t mask, n;
};

/* One integer for two of a history, which may be any. */
static inline int64_t table_key(int64_t a, uint64_t times, int64_t b)
{
    return (int64_t)((uint64_t)a * times + (uint64_t)b);
}

void table_open(struct table *t);
void table_close(struct table *t);
/* The place of (a, b); NULL: not there. */
int64_t *table_find(const struct table *t, int64_t a, int64_t b);
/* The same, made with `otherwise` when absent. Places move when the table grows. */
int64_t *table_put(struct table *t, int64_t a, int64_t b, int64_t otherwise);
static inline int64_t table_get(const struct table *t, int64_t a, int64_t b, int64_t otherwise)
{
    const int64_t *value = table_find(t, a, b);
    return value != NULL ? *value : otherwise;
}

#endif
