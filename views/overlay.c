#include "views/overlay.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"

void overlay_init(struct overlay *o)
{
    memset(o, 0, sizeof(*o));
    arena_init(&o->arena);
    o->seed = 0x9e3779b9;
}

void overlay_close(struct overlay *o)
{
    arena_close(&o->arena);
}

void overlay_reset(struct overlay *o)
{
    arena_reset(&o->arena);
    memset(o->head, 0, sizeof(o->head));
    o->count = 0;
}

int key_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    size_t n = a_len < b_len ? a_len : b_len;
    int c = n == 0 ? 0 : memcmp(a, b, n);
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

static int entry_compare(const struct overlay_entry *e, const uint8_t *key, size_t key_len)
{
    return key_compare(overlay_key(e), e->key_len, key, key_len);
}

/* For every level the link behind which the key belongs. */
static void overlay_search(struct overlay *o, const uint8_t *key, size_t key_len,
                           struct overlay_entry **links[OVERLAY_LEVELS])
{
    struct overlay_entry **next = o->head;
    for (int level = OVERLAY_LEVELS - 1; level >= 0; level--) {
        while (next[level] != NULL && entry_compare(next[level], key, key_len) < 0) {
            next = next[level]->next;
        }
        links[level] = &next[level];
    }
}

const struct overlay_entry *overlay_at_least(const struct overlay *o, const uint8_t *key,
                                             size_t key_len)
{
    struct overlay_entry *const *next = o->head;
    for (int level = OVERLAY_LEVELS - 1; level >= 0; level--) {
        while (next[level] != NULL && entry_compare(next[level], key, key_len) < 0) {
            next = next[level]->next;
        }
    }
    return next[0];
}

const struct overlay_entry *overlay_find(const struct overlay *o, const uint8_t *key,
                                         size_t key_len)
{
    const struct overlay_entry *e = overlay_at_least(o, key, key_len);
    return e != NULL && entry_compare(e, key, key_len) == 0 ? e : NULL;
}

const struct overlay_entry *overlay_below(const struct overlay *o, const uint8_t *key,
                                          size_t key_len, bool or_equal)
{
    const struct overlay_entry *last = NULL;
    struct overlay_entry *const *next = o->head;
    for (int level = OVERLAY_LEVELS - 1; level >= 0; level--) {
        while (next[level] != NULL &&
               entry_compare(next[level], key, key_len) < (or_equal ? 1 : 0)) {
            last = next[level];
            next = next[level]->next;
        }
    }
    return last;
}

/* One in four goes a level higher. The generator only shapes the list, never what is stored. */
static uint8_t overlay_levels(struct overlay *o)
{
    o->seed ^= o->seed << 13;
    o->seed ^= o->seed >> 17;
    o->seed ^= o->seed << 5;
    unsigned zeros = (unsigned)__builtin_ctz(o->seed | 1u << 30);
    unsigned levels = 1 + zeros / 2;
    return (uint8_t)(levels > OVERLAY_LEVELS ? OVERLAY_LEVELS : levels);
}

static struct overlay_entry *entry_new(struct overlay *o, const uint8_t *key, size_t key_len)
{
    uint8_t levels = overlay_levels(o);
    size_t links = levels * sizeof(struct overlay_entry *);
    struct overlay_entry *e = arena_alloc(&o->arena, sizeof(*e) + links + key_len);
    if (e == NULL) {
        return NULL;
    }
    memset(e, 0, sizeof(*e));
    e->levels = levels;
    e->key_len = (uint16_t)key_len;
    memcpy(e->next + levels, key, key_len);
    return e;
}

int overlay_set(struct overlay *o, const uint8_t *key, size_t key_len, const void *value,
                size_t value_len)
{
    assert(key_len > 0 && key_len <= UINT16_MAX && value_len <= UINT32_MAX);
    struct overlay_entry **links[OVERLAY_LEVELS];
    overlay_search(o, key, key_len, links);
    struct overlay_entry *e = *links[0];
    bool found = e != NULL && entry_compare(e, key, key_len) == 0;
    uint8_t *memory = found && e->value_cap >= value_len ? e->value : NULL;
    if (value != NULL && memory == NULL &&
        (memory = arena_alloc(&o->arena, value_len + 1)) == NULL) {
        return WEIR_ENOMEM;
    }
    if (!found) {
        if ((e = entry_new(o, key, key_len)) == NULL) {
            return WEIR_ENOMEM;
        }
        for (unsigned i = 0; i < e->levels; i++) {
            e->next[i] = *links[i];
            *links[i] = e;
        }
        o->count++;
    }
    e->deleted = value == NULL;
    if (value != NULL) {
        if (memory != e->value) {
            e->value = memory;
            e->value_cap = (uint32_t)value_len;
        }
        memmove(memory, value, value_len); /* a fold may put what it was shown */
        e->value_len = (uint32_t)value_len;
    }
    return 0;
}
