#include "nodes/chat/ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define FRAMES_FIRST 16
#define BYTES_FIRST  4096

static size_t power_of_two(size_t n, size_t least)
{
    size_t p = least;
    while (p < n) {
        p *= 2;
    }
    return p;
}

void ring_init(struct ring *r, uint32_t frames_max, size_t bytes_max, int64_t whole_from)
{
    *r = (struct ring){
        .n_frames_max = (uint32_t)power_of_two(frames_max, FRAMES_FIRST),
        .size_max = power_of_two(bytes_max, BYTES_FIRST),
        .whole_from = whole_from,
    };
}

void ring_close(struct ring *r)
{
    free(r->data);
    free(r->frames);
    *r = (struct ring){0};
}

static struct ring_frame *frame(const struct ring *r, uint64_t number)
{
    return &r->frames[number & (r->n_frames - 1)];
}

static void drop_oldest(struct ring *r)
{
    r->whole_from = frame(r, r->tail)->offset + 1;
    r->tail++;
}

static int grow_frames(struct ring *r)
{
    uint32_t n = r->n_frames == 0 ? FRAMES_FIRST : 2 * r->n_frames;
    struct ring_frame *frames = calloc(n, sizeof(*frames));
    if (frames == NULL) {
        return WEIR_ENOMEM;
    }
    for (uint64_t i = r->tail; i < r->head; i++) {
        frames[i & (n - 1)] = *frame(r, i);
    }
    free(r->frames);
    r->frames = frames;
    r->n_frames = n;
    return 0;
}

/* Where n bytes may lie behind the newest frame without wrapping. */
static uint64_t place(const struct ring *r, size_t n)
{
    size_t left = r->size - (size_t)(r->end & (r->size - 1));
    return n <= left ? r->end : r->end + left;
}

static int grow_bytes(struct ring *r)
{
    struct ring bigger = *r;
    bigger.size = r->size == 0 ? BYTES_FIRST : 2 * r->size;
    bigger.end = 0;
    bigger.data = malloc(bigger.size);
    if (bigger.data == NULL) {
        return WEIR_ENOMEM;
    }
    for (uint64_t i = r->tail; i < r->head; i++) {
        struct ring_frame *f = frame(r, i);
        uint64_t at = place(&bigger, f->len);
        memcpy(bigger.data + (at & (bigger.size - 1)), r->data + (f->at & (r->size - 1)), f->len);
        f->at = at;
        bigger.end = at + f->len;
    }
    free(r->data);
    *r = bigger;
    return 0;
}

/* Room for one more frame of n bytes, growing while that is allowed and then dropping the oldest.
 */
static int make_room(struct ring *r, size_t n)
{
    int rv = 0;
    while (rv == 0 && r->head - r->tail == r->n_frames) {
        if (r->n_frames < r->n_frames_max) {
            rv = grow_frames(r);
        } else {
            drop_oldest(r);
        }
    }
    while (rv == 0 && (r->size < n ||
                       (r->head > r->tail && place(r, n) + n - frame(r, r->tail)->at > r->size))) {
        if (r->size < r->size_max) {
            rv = grow_bytes(r);
        } else {
            drop_oldest(r);
        }
    }
    return rv;
}

int ring_append(struct ring *r, int64_t offset, const void *header, size_t header_len,
                const void *payload, size_t payload_len)
{
    size_t n = header_len + payload_len;
    int rv = n > r->size_max ? WEIR_ETOOBIG : make_room(r, n);
    if (rv != 0) {
        r->tail = r->head; /* readers fall off rather than miss one frame */
        r->head++;
        r->tail++;
        r->whole_from = offset + 1;
        return rv;
    }
    uint64_t at = place(r, n);
    uint8_t *to = r->data + (at & (r->size - 1));
    memcpy(to, header, header_len);
    memcpy(to + header_len, payload, payload_len);
    *frame(r, r->head) = (struct ring_frame){.at = at, .offset = offset, .len = (uint32_t)n};
    r->head++;
    r->end = at + n;
    return 0;
}

uint64_t ring_find(const struct ring *r, int64_t after)
{
    uint64_t lo = r->tail, hi = r->head;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (frame(r, mid)->offset > after) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

/* Largest number in (from, head] whose frames from..number-1 end at or before `limit`. */
static uint64_t last_within(const struct ring *r, uint64_t from, uint64_t limit)
{
    uint64_t lo = from + 1, hi = r->head;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo + 1) / 2;
        const struct ring_frame *f = frame(r, mid - 1);
        if (f->at + f->len <= limit) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

const uint8_t *ring_span(const struct ring *r, uint64_t number, size_t cap, size_t *ret_n,
                         uint64_t *ret_next)
{
    const struct ring_frame *first = frame(r, number);
    uint64_t in_ring = first->at & (r->size - 1);
    uint64_t limit = first->at + (r->size - in_ring); /* the end of the memory */
    if (first->at + cap < limit) {
        limit = first->at + cap;
    }
    uint64_t next = last_within(r, number, limit);
    const struct ring_frame *last = frame(r, next - 1);
    *ret_n = (size_t)(last->at + last->len - first->at);
    *ret_next = next;
    return r->data + in_ring;
}
