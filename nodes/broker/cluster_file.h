/* What a node last knew of its cluster: it starts with these addresses and placements, before it
 * hears of `meta` again. Little endian:
 *
 *   at size field
 *    0  4   crc32c of bytes 4..end
 *    4  4   "WCLU"
 *    8  4   version, 1
 *   12  4   length of the records, bytes
 *   16  8   id of the cluster; 0: not known
 *   24  8   offset in `meta` of the first record that is not folded
 *   32      records: key length u32, value length u32, key, value (nodes/broker/cluster.h)
 *
 * Losing it costs reading `meta`. Written anew as a whole: beside it, synced, renamed. */
#ifndef NODES_BROKER_CLUSTER_FILE_H
#define NODES_BROKER_CLUSTER_FILE_H

#include "base/env.h"
#include "nodes/broker/cluster.h"

#define CLUSTER_FILE_VERSION   1
#define CLUSTER_FILE_BYTES_MAX (16u << 20)

/* Appends; errors stick. */
void cluster_encode(const struct cluster *c, uint64_t cluster_id, struct bytes *out);
/* Folds what the file says into `c`, which has been cluster_found. On failure `c` is as before.
 * WEIR_ECORRUPT, WEIR_EVERSION, WEIR_ENOMEM. */
int cluster_decode(struct cluster *c, const void *data, size_t len, uint64_t *ret_cluster_id,
                   struct error *err);

/* WEIR_ENOTFOUND: there is none. */
int cluster_file_load(struct env *env, const char *path, struct cluster *c,
                      uint64_t *ret_cluster_id, struct error *err);
/* Durable on return. */
int cluster_file_save(struct env *env, const char *dir, const char *path, const struct cluster *c,
                      uint64_t cluster_id, struct error *err);

#endif
