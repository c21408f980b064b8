#include "views/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE ((size_t)256 << 10)

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, pos;
    alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *a)
{
    a->chunks = NULL;
    a->used = 0;
    a->failed = false;
}

static void chunks_free(struct arena_chunk *c)
{
    while (c != NULL) {
        struct arena_chunk *next = c->next;
        free(c);
        c = next;
    }
}

void arena_close(struct arena *a)
{
    chunks_free(a->chunks);
    arena_init(a);
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    a->failed = false;
    if (a->chunks == NULL) {
        return;
    }
    chunks_free(a->chunks->next);
    a->chunks->next = NULL;
    a->chunks->pos = 0;
    if (a->chunks->size > CHUNK_SIZE) { /* one giant record should not be kept for ever */
        free(a->chunks);
        a->chunks = NULL;
    }
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > SIZE_MAX / 2) {
        a->failed = true;
        return NULL;
    }
    n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct arena_chunk *c = a->chunks;
    if (c == NULL || c->size - c->pos < n) {
        size_t size = n > CHUNK_SIZE ? n : CHUNK_SIZE;
        c = malloc(sizeof(*c) + size);
        if (c == NULL) {
            a->failed = true;
            return NULL;
        }
        c->size = size;
        c->pos = 0;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = c->data + c->pos;
    c->pos += n;
    a->used += n;
    return p;
}

void *arena_copy(struct arena *a, const void *data, size_t n)
{
    uint8_t *copy = arena_alloc(a, n + 1);
    if (copy != NULL) {
        memcpy(copy, n == 0 ? "" : data, n);
        copy[n] = 0;
    }
    return copy;
}
