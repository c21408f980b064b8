/* Opening a partition's folder: used by partition.c only. */
#ifndef LOG_PARTITION_RECOVER_H
#define LOG_PARTITION_RECOVER_H

#include "log/partition_priv.h"

/* What loading found. */
struct recovery {
    uint64_t known;     /* entries up to it are proven durable */
    bool clean;         /* closed in order, exactly here */
    bool has_close;     /* the last segment has a close record although no segment follows */
    bool begin_damaged; /* to be written anew */
    bool mark_bad;      /* nothing says how far the log was durable */
    bool lost_meta;     /* term and vote are not those that were durable */
    bool lost_end;      /* entries that were durable stood behind the last one */
    uint64_t drop_from; /* segment files from this one on are no use; 0: none */
};

/* Fills in segments, meta and mark from p->dir. On failure the caller frees what is there. */
int partition_recover(struct partition *p, struct error *err);
/* The file of the first segment of an empty log: the only descriptor, or a new one. */
int partition_create_first(struct partition *p, struct error *err);

/* --- partition_salvage.c --- */

/* Copies what is no good into the folder `damaged`, and says in meta, durably and first of all,
 * that this replica's promises are lost. What stays is p->segments. */
int partition_salvage(struct partition *p, const struct recovery *rec, struct error *err);

#endif
