/* Metrics, rendered in the Prometheus text format (version 0.0.4). Names:
 * weir_<area>_<what>_<unit|total>. Registration takes a lock and may be done on any thread;
 * updating is a relaxed atomic operation. Metrics live for ever. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/bytes.h"

struct metric {
    _Atomic int64_t value;
};

#define METRIC_BUCKETS 24
/* Powers of two of a microsecond: bucket k counts values in (2^(k-1), 2^k] us. Rendered, as
 * Prometheus does, cumulatively and in seconds: the name ends in _seconds. */
struct metric_histogram {
    _Atomic uint64_t bucket[METRIC_BUCKETS];
    _Atomic uint64_t count, sum_us;
};

/* `labels` is the text between the braces ("topic=\"chat\"") or "". The same name and labels give
 * the same metric. Aborts out of memory (only at start). */
struct metric *metric_counter(const char *name, const char *labels, const char *help);
struct metric *metric_gauge(const char *name, const char *labels, const char *help);
struct metric_histogram *metric_histogram(const char *name, const char *labels, const char *help);

static inline void metric_add(struct metric *m, int64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void metric_set(struct metric *m, int64_t v)
{
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}
static inline int64_t metric_value(const struct metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}
void metric_observe_us(struct metric_histogram *h, uint64_t us);
void metrics_render(struct bytes *out);

#endif
