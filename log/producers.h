/* What a partition remembers of those who write to it, so that a batch that is sent again is not
 * stored again: for each producer id the epoch and the last batches, by sequence and offset.
 * Kafka's rules (KIP-98): a producer numbers its records per partition from 0 on, the number wraps
 * after 2^31 - 1; an epoch higher than the known one takes over and begins at 0; a lower one is
 * fenced.
 *
 * A pure fold over the entries of the log: equal logs give equal tables, on every replica. Bounded:
 * beyond PRODUCERS_MAX the one that wrote longest ago is forgotten, and who has not written for
 * PRODUCER_EXPIRY_MS of log time. Forgetting is always safe: a batch of a forgotten producer is
 * refused unless it begins a new numbering, and one that begins anew is refused too when it was
 * sent before (age_ms) so early that its first copy may have been forgotten.
 *
 * Encoded (a section of log/state.h), little endian:
 *
 *   at size field
 *    0  8  newest append time of a forgotten batch, ms; INT64_MIN: none
 *    8  4  number of producers, n
 *   12  4  zero
 *   then n times, the one that wrote longest ago first:
 *    0  8  producer id
 *    8  8  append time of its last batch, ms
 *   16  2  epoch
 *   18  2  number of batches, b: 0 (a fence) to 5
 *   20  4  zero
 *   24 16b batches, oldest first: base sequence 4, records 4, base offset 8
 *
 * No clock, no I/O; no allocation but in producers_reserve and producers_decode. */
#ifndef LOG_PRODUCERS_H
#define LOG_PRODUCERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "log/batch.h"
#include "log/types.h"

#define PRODUCERS_MAX      4096
#define PRODUCER_BATCHES   5 /* a producer may have so many unacknowledged on one partition */
#define PRODUCER_EXPIRY_MS (24LL * 3600 * 1000)
/* Allowed for clocks that differ between leaders. */
#define PRODUCER_SLACK_MS 10000

struct producer;

struct producers {
    struct producer *all; /* all[0 .. n) are in use */
    uint32_t *buckets;    /* of ids; heads of chains */
    uint32_t n, cap, n_buckets;
    uint32_t oldest, newest; /* a list by last append */
    int64_t forgotten_ms;    /* INT64_MIN: none */
};

void producers_init(struct producers *t);
void producers_close(struct producers *t);
/* Empty; memory is kept. What was in the log up to `upto_ms` counts as forgotten. */
void producers_forget(struct producers *t, int64_t upto_ms);
/* Copies; WEIR_ENOMEM leaves `to` as it was. */
int producers_copy(struct producers *to, const struct producers *from);

/* May this batch be stored? 0: yes, it is new (or not numbered at all). 1: it is stored already,
 * *ret_base is its first record's offset. WEIR_EFENCED: the producer has a newer epoch.
 * WEIR_ESEQUENCE: it is not the next one, nor one of the last; or its producer is not known.
 *
 * `age_ms`: how long ago the batch was first sent when the outcome of that is not known, else 0.
 * `now_ms`: what would be its append time. */
int producers_check(const struct producers *t, const struct batch_producer *b, int64_t now_ms,
                    uint64_t age_ms, struct log_offset *ret_base);

/* Memory for n more producers, so that producers_add can't fail. WEIR_ENOMEM. */
int producers_reserve(struct producers *t, uint32_t n);
/* Is this batch the first one of a producer that is not known? */
bool producers_unknown(const struct producers *t, const struct batch_producer *b);
/* A batch was appended. What is in the log is true, whatever producers_check would say. */
void producers_add(struct producers *t, const struct batch_producer *b, struct log_offset base,
                   int64_t append_ms);
/* A newer incarnation took over without having written here. */
void producers_fence(struct producers *t, int64_t id, int16_t epoch, int64_t append_ms);

void producers_encode(const struct producers *t, struct bytes *out);
/* WEIR_ECORRUPT with what is wrong, WEIR_ENOMEM; `t` is as it was then. */
int producers_decode(struct producers *t, const void *data, size_t n, struct error *err);

#endif
