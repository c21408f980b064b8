/* Latencies in 32 steps per power of two (3 % wide), of whatever unit goes in. */
#ifndef CLIENTS_CLI_HISTOGRAM_H
#define CLIENTS_CLI_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS   32
#define HISTOGRAM_BUCKETS 1280

struct histogram {
    uint64_t bucket[HISTOGRAM_BUCKETS];
    uint64_t count;
};

static inline unsigned histogram_bucket(uint64_t v)
{
    if (v < HISTOGRAM_STEPS) {
        return (unsigned)v;
    }
    unsigned e = 63U - (unsigned)__builtin_clzll(v);
    unsigned b = (e - 4) * HISTOGRAM_STEPS + (unsigned)((v >> (e - 5)) & (HISTOGRAM_STEPS - 1));
    return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t v)
{
    h->bucket[histogram_bucket(v)]++;
    h->count++;
}

/* The middle of the bucket that holds the quantile q in [0, 1]; 0 when empty. */
static inline uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t want = (uint64_t)((double)h->count * q), seen = 0;
    if (want >= h->count) {
        want = h->count > 0 ? h->count - 1 : 0;
    }
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen > want) {
            if (b < HISTOGRAM_STEPS) {
                return b;
            }
            unsigned e = b / HISTOGRAM_STEPS + 4;
            return ((uint64_t)(HISTOGRAM_STEPS + b % HISTOGRAM_STEPS) << (e - 5)) +
                   ((1ULL << (e - 5)) >> 1);
        }
    }
    return 0;
}

#endif
