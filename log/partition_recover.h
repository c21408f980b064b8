/* Opening a partition's folder: used by partition.c only. */
#ifndef LOG_PARTITION_RECOVER_H
#define LOG_PARTITION_RECOVER_H

#include "log/partition_priv.h"

/* What loading the last segment found. */
struct recovery {
    uint64_t known; /* entries up to it are proven durable */
    bool clean;     /* closed in order, exactly here */
    bool has_close; /* a close record although no segment follows */
};

/* Fills in segments, meta and mark from p->dir. On failure the caller frees what is there. */
int partition_recover(struct partition *p, struct error *err);

#endif
