/* Opening a partition's folder: used by partition.c only. */
#ifndef LOG_PARTITION_RECOVER_H
#define LOG_PARTITION_RECOVER_H

#include "log/partition_priv.h"

/* What loading the last segment found. */
struct recovery {
    uint64_t known; /* entries up to it are proven durable */
    bool clean;     /* closed in order, exactly here */
    bool has_close; /* a close record although no segment follows */
    bool begin_damaged;
};

/* Fills in segments, meta and mark from p->dir. On failure the caller frees what is there. */
int partition_recover(struct partition *p, struct error *err);
/* The file of the first segment of an empty log: the only descriptor, or a new one. */
int partition_create_first(struct partition *p, struct error *err);

#endif
