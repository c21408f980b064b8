#include "log/tail.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/slab.h"

/* The first chunk of a tail: most partitions of a node with many hold little. */
#define FIRST_BYTES (4U << 10)
#define CHUNK_BYTES (64U << 10)
/* Frames that a chunk has room for when it was made for a large one. */
#define LARGE_FRAMES 16

struct tail_chunk {
    uint64_t first; /* index */
    uint32_t n, max_frames;
    uint32_t used, cap; /* bytes of frames */
    uint32_t *at;       /* where frame i begins; after the struct */
    uint8_t *data;      /* after that */
    uint32_t size;      /* of all of it */
};

static bool in_slab(uint32_t size)
{
    return size >= SLAB_MIN && size <= SLAB_MAX;
}

static void chunk_free(struct tail_chunk *c)
{
    if (in_slab(c->size)) {
        slab_give(c, c->size);
    } else {
        free(c);
    }
}

void tail_init(struct tail *t, uint64_t next)
{
    *t = (struct tail){.first = next, .next = next};
}

void tail_close(struct tail *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        chunk_free(t->chunks[t->head + i]);
    }
    free(t->chunks);
    tail_init(t, t->next);
}

static struct tail_chunk *newest(const struct tail *t)
{
    return t->n > 0 ? t->chunks[t->head + t->n - 1] : NULL;
}

static bool has_room(const struct tail_chunk *c, uint32_t len)
{
    return c != NULL && c->n < c->max_frames && c->cap - c->used >= frame_size(len);
}

/* Where the frames begin: at a multiple of 8, behind the positions of max_frames of them. */
static uint32_t chunk_head(uint32_t max_frames)
{
    return (uint32_t)sizeof(struct tail_chunk) + (max_frames + 1) / 2 * 8;
}
static_assert(sizeof(struct tail_chunk) % 8 == 0, "see above");

/* `size` bytes in all, or what a frame of `len` bytes needs. */
static struct tail_chunk *chunk_new(uint64_t first, uint32_t len, uint32_t size)
{
    uint64_t frame = frame_size(len);
    uint32_t max_frames = (size - (uint32_t)sizeof(struct tail_chunk) - 8) /
                          (FRAME_HEADER_SIZE + (uint32_t)sizeof(uint32_t));
    if (chunk_head(max_frames) + frame > size) {
        max_frames = LARGE_FRAMES;
        uint64_t need = chunk_head(max_frames) + frame;
        size = need < CHUNK_BYTES ? CHUNK_BYTES : (uint32_t)need;
    }
    struct tail_chunk *c = in_slab(size) ? slab_take(size) : malloc(size);
    if (c == NULL) {
        return NULL;
    }
    uint32_t head = chunk_head(max_frames);
    *c = (struct tail_chunk){
        .first = first, .max_frames = max_frames, .cap = size - head, .size = size};
    c->at = (uint32_t *)(void *)(c + 1);
    c->data = (uint8_t *)c + head;
    return c;
}

/* Room for one more pointer at the end of the array. */
static int reserve_slot(struct tail *t)
{
    if (t->head + t->n < t->cap) {
        return 0;
    }
    if (t->head > t->n) { /* more than half is gone: move down */
        memmove(t->chunks, t->chunks + t->head, t->n * sizeof(*t->chunks));
        t->head = 0;
        return 0;
    }
    uint32_t cap = t->cap == 0 ? 16 : t->cap * 2;
    struct tail_chunk **chunks = realloc(t->chunks, cap * sizeof(*chunks));
    if (chunks == NULL) {
        return WEIR_ENOMEM;
    }
    t->chunks = chunks;
    t->cap = cap;
    return 0;
}

int tail_reserve(struct tail *t, uint32_t len)
{
    struct tail_chunk *last = newest(t);
    if (has_room(last, len)) {
        return 0;
    }
    if (last != NULL && last->n == 0) { /* reserved before and never used */
        t->bytes -= last->size;
        t->n--;
        chunk_free(last);
    }
    if (reserve_slot(t) != 0) {
        return WEIR_ENOMEM;
    }
    struct tail_chunk *c = chunk_new(t->next, len, t->n == 0 ? FIRST_BYTES : CHUNK_BYTES);
    if (c == NULL) {
        return WEIR_ENOMEM;
    }
    t->chunks[t->head + t->n++] = c;
    t->bytes += c->size;
    return 0;
}

void tail_add(struct tail *t, const struct frame *f, const void *payload)
{
    struct tail_chunk *c = newest(t);
    assert(f->index.v == t->next && has_room(c, f->len) && c->first + c->n == t->next);
    c->at[c->n++] = c->used;
    frame_write(c->data + c->used, f, payload);
    c->used += (uint32_t)frame_size(f->len);
    t->next++;
}

void tail_cut(struct tail *t, uint64_t from)
{
    while (t->n > 0 && newest(t)->first >= from) {
        t->bytes -= newest(t)->size;
        chunk_free(newest(t));
        t->n--;
    }
    struct tail_chunk *c = newest(t);
    if (c != NULL && c->first + c->n > from) {
        c->n = (uint32_t)(from - c->first);
        c->used = c->at[c->n];
    }
    t->next = from < t->next ? from : t->next;
    t->first = t->n == 0 || from < t->first ? t->next : t->first;
}

void tail_skip(struct tail *t, uint64_t upto)
{
    assert(upto < t->next);
    t->first = upto + 1 > t->first ? upto + 1 : t->first;
}

void tail_trim(struct tail *t, uint64_t bytes_max, uint64_t upto)
{
    while (t->n > 0 && t->bytes > bytes_max) {
        struct tail_chunk *c = t->chunks[t->head];
        if (c->n == 0 || c->first + c->n - 1 > upto) {
            break;
        }
        t->first = c->first + c->n > t->first ? c->first + c->n : t->first;
        t->bytes -= c->size;
        chunk_free(c);
        t->head++;
        t->n--;
    }
}

/* The chunk that holds `index`. */
static struct tail_chunk *chunk_of(const struct tail *t, uint64_t index)
{
    uint32_t lo = 0, hi = t->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->chunks[t->head + mid]->first <= index) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return t->chunks[t->head + lo];
}

uint8_t *tail_frame(const struct tail *t, uint64_t index, size_t *ret_run)
{
    assert(index >= t->first && index < t->next);
    struct tail_chunk *c = chunk_of(t, index);
    uint32_t at = c->at[index - c->first];
    *ret_run = c->used - at;
    return c->data + at;
}

uint64_t tail_find_offset(const struct tail *t, int64_t offset)
{
    uint64_t lo = t->first, hi = t->next; /* the first of [lo, hi) above offset */
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        size_t run;
        if (frame_peek(tail_frame(t, mid, &run)).base_offset.v <= offset) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo > t->first ? lo - 1 : 0;
}
