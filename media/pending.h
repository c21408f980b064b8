/* Samples of one track that belong to no part yet. Times have no gaps: a sample's duration reaches
 * to the next one. Pure. */
#ifndef MEDIA_PENDING_H
#define MEDIA_PENDING_H

#include "media/cmaf.h"

#define PENDING_SAMPLES_MAX 16384
#define PENDING_BYTES_MAX   (32u << 20)

struct pending {
    struct cmaf_sample *samples;
    uint32_t n, cap;
    int64_t dts;  /* of the first */
    int64_t last; /* of the last */
    struct bytes data;
};

void pending_init(struct pending *q);
void pending_close(struct pending *q);
/* Adds a sample that begins at dts, after the last one, whose duration becomes what lies between.
 * WEIR_ETOOBIG, WEIR_ENOMEM; WEIR_EPROTO when dts is not after the last one's. */
int pending_add(struct pending *q, int64_t dts, struct cmaf_sample sample, const uint8_t *data,
                struct error *err);
/* The last sample's duration reaches to `end`, if that is after its start. */
void pending_extend(struct pending *q, int64_t end);
/* The first n samples; borrowed until the next call. */
struct cmaf_run pending_run(const struct pending *q, uint32_t n);
void pending_drop(struct pending *q, const struct cmaf_run *run);
/* How many samples begin before `end`. */
uint32_t pending_before(const struct pending *q, int64_t end);

#endif
