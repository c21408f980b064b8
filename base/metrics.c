#include "base/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/logging.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };

/* All metrics of one name, kept together as the format asks. */
struct family {
    struct list link;
    enum kind kind;
    char *name, *help;
    struct list members;
};

struct member {
    struct list link;
    char *labels;
    union {
        struct metric metric;
        struct metric_histogram histogram;
    };
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list families = {&families, &families};

static void *must(void *p)
{
    if (p == NULL) {
        log_error("metrics_no_memory", "%s", "out of memory at start");
        abort();
    }
    return p;
}

static struct family *family_get(enum kind kind, const char *name, const char *help)
{
    LIST_FOREACH(it, &families)
    {
        struct family *f = list_entry(it, struct family, link);
        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    struct family *f = must(calloc(1, sizeof(*f)));
    f->kind = kind;
    f->name = must(strdup(name));
    f->help = must(strdup(help));
    list_init(&f->members);
    list_push_back(&families, &f->link);
    return f;
}

static struct member *member_get(enum kind kind, const char *name, const char *labels,
                                 const char *help)
{
    pthread_mutex_lock(&lock);
    struct family *f = family_get(kind, name, help);
    struct member *found = NULL;
    LIST_FOREACH(it, &f->members)
    {
        struct member *m = list_entry(it, struct member, link);
        found = strcmp(m->labels, labels) == 0 ? m : found;
    }
    if (found == NULL) {
        found = must(calloc(1, sizeof(*found)));
        found->labels = must(strdup(labels));
        list_push_back(&f->members, &found->link);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

struct metric *metric_counter(const char *name, const char *labels, const char *help)
{
    return &member_get(COUNTER, name, labels, help)->metric;
}

struct metric *metric_gauge(const char *name, const char *labels, const char *help)
{
    return &member_get(GAUGE, name, labels, help)->metric;
}

struct metric_histogram *metric_histogram(const char *name, const char *labels, const char *help)
{
    return &member_get(HISTOGRAM, name, labels, help)->histogram;
}

void metric_observe_us(struct metric_histogram *h, uint64_t us)
{
    unsigned k = 0;
    while (k < METRIC_BUCKETS && us > (uint64_t)1 << k) {
        k++;
    }
    if (k < METRIC_BUCKETS) { /* beyond the last bucket only the total counts it */
        atomic_fetch_add_explicit(&h->bucket[k], 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
}

static void render_histogram(struct bytes *out, const char *name, const char *labels,
                             struct metric_histogram *h)
{
    const char *comma = labels[0] != '\0' ? "," : "";
    uint64_t total = 0;
    for (unsigned k = 0; k < METRIC_BUCKETS; k++) {
        total += atomic_load_explicit(&h->bucket[k], memory_order_relaxed);
        bytes_printf(out, "%s_bucket{%s%sle=\"%.6f\"} %llu\n", name, labels, comma,
                     (double)((uint64_t)1 << k) / 1e6, (unsigned long long)total);
    }
    uint64_t count = atomic_load_explicit(&h->count, memory_order_relaxed);
    count = count < total ? total : count; /* counted in between */
    const char *open = labels[0] != '\0' ? "{" : "", *close = labels[0] != '\0' ? "}" : "";
    bytes_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
                 (unsigned long long)count);
    bytes_printf(out, "%s_sum%s%s%s %.6f\n", name, open, labels, close,
                 (double)atomic_load_explicit(&h->sum_us, memory_order_relaxed) / 1e6);
    bytes_printf(out, "%s_count%s%s%s %llu\n", name, open, labels, close,
                 (unsigned long long)count);
}

static void render_member(struct bytes *out, const struct family *f, struct member *m)
{
    if (f->kind == HISTOGRAM) {
        render_histogram(out, f->name, m->labels, &m->histogram);
        return;
    }
    const char *open = m->labels[0] != '\0' ? "{" : "", *close = m->labels[0] != '\0' ? "}" : "";
    bytes_printf(out, "%s%s%s%s %lld\n", f->name, open, m->labels, close,
                 (long long)atomic_load_explicit(&m->metric.value, memory_order_relaxed));
}

void metrics_render(struct bytes *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    pthread_mutex_lock(&lock);
    LIST_FOREACH(it, &families)
    {
        const struct family *f = list_entry(it, struct family, link);
        bytes_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                     types[f->kind]);
        LIST_FOREACH(jt, &f->members)
        {
            render_member(out, f, list_entry(jt, struct member, link));
        }
    }
    pthread_mutex_unlock(&lock);
}
