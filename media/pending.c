#include "media/pending.h"

#include <stdlib.h>
#include <string.h>

void pending_init(struct pending *q)
{
    *q = (struct pending){0};
    bytes_init(&q->data, PENDING_BYTES_MAX);
}

void pending_close(struct pending *q)
{
    free(q->samples);
    bytes_close(&q->data);
    pending_init(q);
}

static int make_room(struct pending *q, struct error *err)
{
    if (q->n < q->cap) {
        return 0;
    }
    uint32_t cap = q->cap == 0 ? 64 : q->cap * 2;
    if (cap > PENDING_SAMPLES_MAX) {
        return error_set(err, WEIR_ETOOBIG, "%u frames in one part", q->n);
    }
    struct cmaf_sample *samples = realloc(q->samples, cap * sizeof(*samples));
    if (samples == NULL) {
        return error_set(err, WEIR_ENOMEM, "%u frames in one part", q->n);
    }
    q->samples = samples;
    q->cap = cap;
    return 0;
}

void pending_extend(struct pending *q, int64_t end)
{
    if (q->n > 0 && end > q->last && end - q->last <= UINT32_MAX) {
        q->samples[q->n - 1].duration = (uint32_t)(end - q->last);
    }
}

int pending_add(struct pending *q, int64_t dts, struct cmaf_sample sample, const uint8_t *data,
                struct error *err)
{
    if (q->n > 0 && (dts <= q->last || dts - q->last > UINT32_MAX)) {
        return error_set(err, WEIR_EPROTO, "frame times go %s",
                         dts <= q->last ? "backwards" : "too far ahead");
    }
    int rc = make_room(q, err);
    if (rc < 0) {
        return rc;
    }
    bytes_put(&q->data, data, sample.size);
    if (bytes_error(&q->data) != 0) {
        return error_set(err, bytes_error(&q->data), "part of over %zu bytes", q->data.len);
    }
    pending_extend(q, dts);
    if (q->n == 0) {
        q->dts = dts;
    }
    q->last = dts;
    q->samples[q->n++] = sample;
    return 0;
}

struct cmaf_run pending_run(const struct pending *q, uint32_t n)
{
    struct cmaf_run run = {
        .dts = q->dts, .samples = q->samples, .n_samples = n, .data = q->data.data};
    for (uint32_t i = 0; i < n; i++) {
        run.len += q->samples[i].size;
    }
    return run;
}

void pending_drop(struct pending *q, const struct cmaf_run *run)
{
    for (uint32_t i = 0; i < run->n_samples; i++) {
        q->dts += q->samples[i].duration;
    }
    if (run->n_samples > 0) {
        q->n -= run->n_samples;
        memmove(q->samples, q->samples + run->n_samples, q->n * sizeof(*q->samples));
    }
    bytes_consume(&q->data, run->len);
}

uint32_t pending_before(const struct pending *q, int64_t end)
{
    int64_t dts = q->dts;
    uint32_t n = 0;
    while (n < q->n && dts < end) {
        dts += q->samples[n++].duration;
    }
    return n;
}
