/* The changes of one batch, over what is stored: a skip list in key order (Pugh 1990), so that
 * folds read and scan what earlier records of the batch have written. Nothing is freed before
 * overlay_reset. Loop thread only. */
#ifndef VIEWS_OVERLAY_H
#define VIEWS_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "views/arena.h"

#define OVERLAY_LEVELS 12

struct overlay_entry {
    uint8_t *value;
    uint32_t value_len, value_cap;
    uint16_t key_len;
    uint8_t levels;
    bool deleted;
    /* next[levels], then the key */
    struct overlay_entry *next[];
};

struct overlay {
    struct arena arena;
    struct overlay_entry *head[OVERLAY_LEVELS];
    uint32_t count;
    uint32_t seed;
};

void overlay_init(struct overlay *o);
void overlay_close(struct overlay *o);
void overlay_reset(struct overlay *o);
/* A NULL value marks the key as deleted. WEIR_ENOMEM. */
int overlay_set(struct overlay *o, const uint8_t *key, size_t key_len, const void *value,
                size_t value_len);
const struct overlay_entry *overlay_find(const struct overlay *o, const uint8_t *key,
                                         size_t key_len);
/* First entry >= key; NULL: none. */
const struct overlay_entry *overlay_at_least(const struct overlay *o, const uint8_t *key,
                                             size_t key_len);
/* Last entry < key (or <= key); NULL: none. */
const struct overlay_entry *overlay_below(const struct overlay *o, const uint8_t *key,
                                          size_t key_len, bool or_equal);
static inline const struct overlay_entry *overlay_next(const struct overlay_entry *e)
{
    return e->next[0];
}
static inline const uint8_t *overlay_key(const struct overlay_entry *e)
{
    return (const uint8_t *)(e->next + e->levels);
}
/* As memcmp, the shorter one first. */
int key_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

#endif
