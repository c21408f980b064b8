/* Inside of the lifecycle view: lifecycle.c (the fold), lifecycle_state.c (memory and stored
 * values), lifecycle_query.c.
 *
 * Keys of a partition (channel ends with NUL where something follows; numbers are big endian):
 *
 *   'c' channel                               a live channel: session and worker; absent when it is
 * not live 'b' channel broadcast8                    a broadcast 'n' channel start-offset8 be64
 * broadcast: the order of a channel's broadcasts 'r' channel broadcast8 rendition1         a
 * rendition, as it was last started 'd' channel broadcast8 rendition1 init4   one of its init
 * segments 's' channel broadcast8 rendition1 msn8    a segment with its parts
 *
 * Values begin with a version byte, strings end with NUL; each is drawn beside its encoder in
 * lifecycle_state.c. */
#ifndef VIEWS_LIFECYCLE_PRIV_H
#define VIEWS_LIFECYCLE_PRIV_H

#include "views/fold.h"
#include "views/lifecycle.h"

#define LIFECYCLE_BUCKETS   4096
#define LIFECYCLE_VALUE_MAX (1u << 20)
#define LIFECYCLE_MSN_MAX   (1ull << 53)
#define LIFECYCLE_ID_MAX    255

struct lifecycle_state {
    struct views *views;
    struct list buckets[LIFECYCLE_BUCKETS]; /* live channels */
};

struct lifecycle_key {
    size_t len;
    uint8_t data[1 + LIFECYCLE_CHANNEL_MAX + 1 + 8 + 1 + 8];
};
struct lifecycle_key lifecycle_key_channel(const char *channel);
/* 'b', 'n', or the prefix of 'r', 'd', 's'; `channel` is valid. */
struct lifecycle_key lifecycle_key_broadcast(char kind, const char *channel, uint64_t number);
struct lifecycle_key lifecycle_key_all(char kind, const char *channel);
void lifecycle_key_u8(struct lifecycle_key *k, uint32_t v);
void lifecycle_key_be32(struct lifecycle_key *k, uint32_t v);
void lifecycle_key_be64(struct lifecycle_key *k, uint64_t v);

bool lifecycle_channel_valid(const char *channel);

/* --- Memory; NULL: out of memory --- */
/* By partition too: a record under a wrong key must not reach the channel of its name. */
struct lifecycle_channel *lifecycle_find(struct lifecycle_state *state, uint32_t partition,
                                         const char *channel);
struct lifecycle_channel *lifecycle_channel_new(struct lifecycle_state *state, const char *name,
                                                uint32_t partition);
void lifecycle_channel_free(struct lifecycle_channel *c);
/* Keeps the order by id. */
struct lifecycle_rendition *lifecycle_rendition_new(struct lifecycle_channel *c, uint32_t id);
struct lifecycle_segment *lifecycle_segment_new(void);
void lifecycle_segment_free(struct lifecycle_segment *s); /* NULL is allowed */
/* The ring takes the segment; the oldest goes when it is full. */
void lifecycle_ring_push(struct lifecycle_rendition *r, struct lifecycle_segment *s);
struct lifecycle_segment *lifecycle_newest(const struct lifecycle_rendition *r); /* or NULL */
/* part->extent is filled in: the last extent when object and nodes are the same, else a new one.
 * WEIR_ENOMEM. */
int lifecycle_segment_add(struct lifecycle_segment *s, const struct lifecycle_part *part,
                          const char *object, const char *const *nodes, unsigned n_nodes);

/* Ends of the renditions and of the channel, from the newest segments: nothing that the store could
 * not tell again. */
void lifecycle_timeline_update(struct lifecycle_channel *c);

/* --- Stored values --- */
int lifecycle_put_channel(struct fold_txn *txn, const struct lifecycle_channel *c);
int lifecycle_put_broadcast(struct fold_txn *txn, const char *channel,
                            const struct lifecycle_broadcast *b);
int lifecycle_put_rendition(struct fold_txn *txn, const struct lifecycle_channel *c,
                            const struct lifecycle_rendition *r);
int lifecycle_put_init(struct fold_txn *txn, const struct lifecycle_channel *c, uint32_t rendition,
                       uint32_t init, const struct lifecycle_object *object);
int lifecycle_put_segment(struct fold_txn *txn, const struct lifecycle_channel *c,
                          uint32_t rendition, const struct lifecycle_segment *s);
/* WEIR_ECORRUPT when the bytes are not what the encoders make. */
int lifecycle_decode_channel(const uint8_t *value, size_t len, struct lifecycle_channel *ret);
int lifecycle_decode_broadcast(const uint8_t *value, size_t len, struct lifecycle_broadcast *ret);
int lifecycle_decode_rendition(const uint8_t *value, size_t len, struct lifecycle_rendition *ret);
int lifecycle_decode_object(const uint8_t *value, size_t len, struct lifecycle_object *ret);
int lifecycle_decode_segment(uint64_t msn, const uint8_t *value, size_t len,
                             struct lifecycle_segment **ret);

/* All live channels of a partition, from the store; what was in memory of it is let go. */
int lifecycle_load(void *state, uint32_t partition, struct fold_txn *txn, struct error *err);

#endif
