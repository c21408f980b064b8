#include "log/tail.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (64U << 10)

struct tail_chunk {
    uint64_t first; /* index */
    uint32_t n, max_frames;
    uint32_t used, cap; /* bytes of frames */
    uint32_t *at;       /* where frame i begins; after the struct */
    uint8_t *data;      /* after that */
};

void tail_init(struct tail *t, uint64_t next)
{
    *t = (struct tail){.first = next, .next = next};
}

void tail_close(struct tail *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        free(t->chunks[t->head + i]);
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

static struct tail_chunk *chunk_new(uint64_t first, uint32_t len)
{
    uint64_t size = frame_size(len);
    uint32_t cap = size > CHUNK_BYTES ? (uint32_t)size : CHUNK_BYTES;
    uint32_t max_frames = size > CHUNK_BYTES ? 1 : CHUNK_BYTES / FRAME_HEADER_SIZE;
    struct tail_chunk *c = malloc(sizeof(*c) + max_frames * sizeof(uint32_t) + cap);
    if (c == NULL) {
        return NULL;
    }
    *c = (struct tail_chunk){.first = first, .max_frames = max_frames, .cap = cap};
    c->at = (uint32_t *)(void *)(c + 1);
    c->data = (uint8_t *)(c->at + max_frames);
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
        t->bytes -= last->cap;
        t->n--;
        free(last);
    }
    if (reserve_slot(t) != 0) {
        return WEIR_ENOMEM;
    }
    struct tail_chunk *c = chunk_new(t->next, len);
    if (c == NULL) {
        return WEIR_ENOMEM;
    }
    t->chunks[t->head + t->n++] = c;
    t->bytes += c->cap;
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
        t->bytes -= newest(t)->cap;
        free(newest(t));
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
        t->bytes -= c->cap;
        free(c);
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
