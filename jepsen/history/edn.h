/* A reader of EDN (github.com/edn-format/edn), as much of it as histories have: nil, true, false,
 * integers, floating point numbers (kept as text), strings, characters as text, keywords, symbols,
 * lists, vectors, maps, sets; tags are passed over, and so are comments and what #_ discards.
 * Nothing is copied: texts point into the source, which has to stay; values live in an arena. */
#ifndef JEPSEN_HISTORY_EDN_H
#define JEPSEN_HISTORY_EDN_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EDN_DEPTH_MAX 64

enum edn_type {
    EDN_NIL,
    EDN_BOOL,
    EDN_INT,
    EDN_FLOAT,
    EDN_STRING,
    EDN_KEYWORD, /* text without the colon */
    EDN_SYMBOL,
    EDN_LIST,
    EDN_VECTOR,
    EDN_MAP, /* items: key, value, key, value, ... */
    EDN_SET
};

struct edn {
    enum edn_type type;
    uint32_t n;       /* items */
    int64_t i;        /* of an integer; 0 or 1 of a boolean */
    const char *text; /* of strings (escapes as they stand), keywords, symbols, floats; or of the
                         whole collection */
    size_t len;
    struct edn *first; /* item */
    struct edn *next;  /* item of the same collection */
};

struct edn_arena {
    struct edn_block *blocks;
};
void edn_arena_free(struct edn_arena *a);
/* Zeroed; lives as long as the arena. Ends the program when there is no memory. */
void *edn_alloc(struct edn_arena *a, size_t n);

/* Reads one value at *at; moves *at behind it. NULL at the end of the text (*ret_error is NULL
 * then) or when it is no EDN. */
struct edn *edn_read(struct edn_arena *a, const char **at, const char *end, const char **ret_error);

/* The key behind this one in its map; NULL: none. */
static inline const struct edn *edn_next_key(const struct edn *key)
{
    assert(key->next != NULL); /* edn_read takes no map without it */
    return key->next->next;
}

/* --- Looking; all take NULL --- */
/* NULL: no such key, or no map. */
const struct edn *edn_get(const struct edn *map, const char *keyword);
const struct edn *edn_at(const struct edn *collection, uint32_t index);
/* NULL: it has none, or is no map. A key's value is key->next. */
const struct edn *edn_first_key(const struct edn *map);
bool edn_is(const struct edn *e, const char *keyword);
bool edn_is_int(const struct edn *e);
bool edn_is_seq(const struct edn *e); /* list or vector */
/* Integers by value, the rest by text. */
bool edn_equal(const struct edn *a, const struct edn *b);
/* `otherwise` when it is none. */
int64_t edn_int(const struct edn *e, int64_t otherwise);
/* What is no integer adds nothing; wraps, as a history may have any number. */
static inline int64_t edn_add(int64_t sum, const struct edn *e)
{
    return (int64_t)((uint64_t)sum + (uint64_t)edn_int(e, 0));
}
/* As it stood. */
void edn_print(FILE *out, const struct edn *e);

#endif
