/* The segment store of one node: objects on disk, appended part by part, each part durable before its reference is
 * committed. An object is one segment (its parts joined), one init segment or one thumbnail.
 *
 *   <data>/store/<first 2 hex of broadcast>/<broadcast>/<name>       plain bytes, no header: the CRC is in the log
 *
 * Object names: "<16 hex broadcast>/<name>", name [a-z0-9._-]{1,64}. The newest bytes are kept in memory (bounded) for readers.
 * The HTTP face of the store, for the other nodes, is /internal/store/<object> (nodes/edge). Loop thread only; disk work happens on
 * env's io threads. */
#ifndef MEDIA_STORE_H
#define MEDIA_STORE_H

#include "base/env.h"
#include "net/http.h"

struct store;

struct store_options {
    const char *dir;
    uint64_t cache_bytes_max; /* objects kept in memory, least recently used go first */
    uint64_t free_bytes_min;  /* below it puts are refused with WEIR_ENOSPC */
};
int store_open(struct env *env, const struct store_options *options, struct store **ret_store,
               struct error *err);
void store_close(struct store *store, void (*cb)(void *data), void *data);

/* Writes bytes at `position` of the object (made when absent) and fdatasyncs; repeating it with the same bytes is harmless. `bytes` is referenced. */
typedef void (*store_put_cb)(void *data, int status);
int store_put(struct store *store, const char *object, uint64_t position, struct http_body *bytes,
              store_put_cb cb, void *data, struct error *err);
/* Bytes [position, position + size) (size 0: to the end), from memory or disk. status 0 with a borrowed body, WEIR_ENOTFOUND
 * (also when the object is shorter), WEIR_EIO. */
typedef void (*store_get_cb)(void *data, int status, struct http_body *body);
int store_get(struct store *store, const char *object, uint64_t position, uint64_t size,
              store_get_cb cb, void *data, struct error *err);

/* Cluster-wide: puts on this node and on as many others as make `replicas` copies in all (trying the next live node when one fails), over
 * PUT /internal/store/<object>?position=N with the secret. status 0 with the names of the nodes that hold it. */
struct store_cluster;
struct config;
int store_cluster_new(struct env *env, struct store *local, struct http_client *http,
                      const struct config *config, struct store_cluster **ret_cluster,
                      struct error *err);
void store_cluster_free(struct store_cluster *cluster);
#define STORE_NODES_MAX 8
typedef void (*store_replicate_cb)(void *data, int status, const char *const *nodes, unsigned n);
int store_replicate(struct store_cluster *cluster, const char *object, uint64_t position,
                    struct http_body *bytes, store_replicate_cb cb, void *data, struct error *err);
/* From memory, own disk, or one of `nodes`; one fetch however many wait for the same range. The fetched range is kept in memory. */
int store_fetch(struct store_cluster *cluster, const char *object, uint64_t position, uint64_t size,
                const char *const *nodes, unsigned n_nodes, store_get_cb cb, void *data,
                struct error *err);

#endif
