/* The newest events of a room as ready-made WebSocket frames, one after another in memory, so that
 * one write carries all that a connection has not seen. Frames are numbered from 0; a reader is a
 * number. What does not fit pushes the oldest out: a reader that stood there has fallen off (its
 * number is below `tail`).
 *
 * Grows from small to its limits. A frame never wraps around the end. One thread. */
#ifndef NODES_CHAT_RING_H
#define NODES_CHAT_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring_frame {
    uint64_t at; /* position in an endless stream; at % size is where the bytes are */
    int64_t offset;
    uint32_t len;
};

struct ring {
    uint8_t *data;
    struct ring_frame *frames; /* [number % n_frames] */
    size_t size, size_max;     /* bytes, powers of two */
    uint32_t n_frames, n_frames_max;
    uint64_t tail, head; /* frames [tail, head) are there */
    uint64_t end;        /* position behind the newest */
    int64_t whole_from;  /* every event of the room at or above this offset is there */
};

/* Limits are rounded up to powers of two. `whole_from`: the ring is about to be given every event
 * from this offset on. */
void ring_init(struct ring *ring, uint32_t frames_max, size_t bytes_max, int64_t whole_from);
void ring_close(struct ring *ring);
/* Offsets ascend. WEIR_ENOMEM, WEIR_ETOOBIG (the frame is lost, and whole_from moves behind it). */
int ring_append(struct ring *ring, int64_t offset, const void *header, size_t header_len,
                const void *payload, size_t payload_len);
/* Number of the first frame with an offset above `after`; head when there is none. */
uint64_t ring_find(const struct ring *ring, int64_t after);
/* Bytes of whole frames from `number` (tail <= number < head), contiguous, at most `cap` or one
 * frame. *ret_next: the number behind them. */
const uint8_t *ring_span(const struct ring *ring, uint64_t number, size_t cap, size_t *ret_n,
                         uint64_t *ret_next);
static inline int64_t ring_offset(const struct ring *ring, uint64_t number)
{
    return ring->frames[number & (ring->n_frames - 1)].offset;
}

#endif
