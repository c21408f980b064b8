/* The segment store of one node: objects on disk, appended part by part, each part durable before
 * its reference is committed. An object is one segment (its parts joined), one init segment or one
 * thumbnail.
 *
 *   <data>/store/<first 2 hex of broadcast>/<broadcast>/<name>       plain bytes, no header: the
 * CRC is in the log
 *
 *   <data>/store/<first 2 hex of broadcast>/<broadcast>/<name>~      empty: doubt, see below
 *
 * Object names: "<16 hex broadcast>/<name>", name [a-z0-9_-][a-z0-9._-]{0,63}. The newest bytes are
 * kept in memory (bounded) for readers. A put never shows half: bytes that are being written do not
 * exist for readers until they are durable. The HTTP face of the store, for the other nodes, is
 * /internal/store/<object> (nodes/edge). Loop thread only; disk work happens on env's io threads.
 */
#ifndef MEDIA_STORE_H
#define MEDIA_STORE_H

#include "base/env.h"
#include "net/http.h"

#define STORE_OBJECT_NAME_MAX 81
#define STORE_PUT_MAX         (64u << 20) /* bytes of one put */
#define STORE_OBJECT_MAX      (1u << 30)  /* bytes of an object */
#define STORE_INFLIGHT_MAX    1024        /* disk requests; more are refused with WEIR_EBUSY */
#define STORE_FILES_IDLE_MAX  64          /* files kept open without a request */

struct store;

struct store_options {
    const char *dir;
    uint64_t cache_bytes_max; /* objects kept in memory, least recently used go first */
    uint64_t free_bytes_min;  /* below it puts are refused with WEIR_ENOSPC */
};
int store_open(struct env *env, const struct store_options *options, struct store **ret_store,
               struct error *err);
/* Requests in flight complete first. */
void store_close(struct store *store, void (*cb)(void *data), void *data);

bool store_object_valid(const char *object);

/* Writes bytes at `position` of the object (made when absent) and fdatasyncs; repeating it with the
 * same bytes is harmless. `bytes` is referenced. Refused now: WEIR_EINVAL (name), WEIR_ETOOBIG,
 * WEIR_ENOSPC, WEIR_EBUSY, WEIR_ENOMEM, WEIR_EIO. */
typedef void (*store_put_cb)(void *data, int status);
int store_put(struct store *store, const char *object, uint64_t position, struct http_body *bytes,
              store_put_cb cb, void *data, struct error *err);
/* Bytes [position, position + size) (size 0: to the end), from memory or disk. status 0 with a
 * borrowed body, WEIR_ENOTFOUND (also when the object is shorter, or being written there),
 * WEIR_EIO. Refused now: WEIR_EINVAL, WEIR_ETOOBIG, WEIR_EBUSY, WEIR_ENOMEM. */
typedef void (*store_get_cb)(void *data, int status, struct http_body *body);
int store_get(struct store *store, const char *object, uint64_t position, uint64_t size,
              store_get_cb cb, void *data, struct error *err);
/* The same from memory only, at once: a reference of the caller's, or NULL. */
struct http_body *store_cached(struct store *store, const char *object, uint64_t position,
                               uint64_t size);
/* Keeps bytes in memory that the caller knows to be right. Best effort. */
void store_cache_keep(struct store *store, const char *object, uint64_t position,
                      struct http_body *body);

/* --- For copies that are kept whole in the background (nodes/copies)
 *
 * A file whose length says that all is there, and whose bytes do not, is the one thing that a look
 * can't see. It comes from a put behind the end of what is there (a node that lost its disk is
 * given the next part of a segment that it had) and from a put that failed in the middle. Such an
 * object is in doubt, durably, from before the put until somebody has checked all of it: `<name>~`.
 */
struct store_look {
    void *data;
    void (*cb)(struct store_look *look, int status);
    uint64_t size; /* out */
    bool doubt;    /* out */
    struct store *store;
    struct env_io io;
    char path[1024];
};
/* Size of an object, without opening it, off the loop. cb's status: 0, WEIR_ENOTFOUND (doubt holds
 * then, too), WEIR_EIO. Refused now: WEIR_ECLOSED, WEIR_EINVAL. */
int store_look_start(struct store *store, const char *object, struct store_look *look,
                     void (*cb)(struct store_look *look, int status));
/* Not durable by itself: the object's next put makes it so. */
int store_doubt(struct store *store, const char *object, struct error *err);
int store_trust(struct store *store, const char *object, struct error *err);
/* As store_put and store_get, past the memory: the disk is asked, and nothing is kept. */
int store_put_quiet(struct store *store, const char *object, uint64_t position,
                    struct http_body *bytes, store_put_cb cb, void *data, struct error *err);
int store_get_quiet(struct store *store, const char *object, uint64_t position, uint64_t size,
                    store_get_cb cb, void *data, struct error *err);
/* Removes it from the disk. WEIR_EBUSY: requests for it are in flight. WEIR_ENOTFOUND. */
int store_remove(struct store *store, const char *object, struct error *err);

/* Cluster-wide: puts on this node and on as many others as make `media.replicas` copies in all,
 * over PUT /internal/store/<object>?position=N with the secret. The next node is tried when one
 * fails, or is slow; a node that failed is not chosen first for a while. When this node's own disk
 * fails, others stand in. status 0 with the names of the nodes that hold it; WEIR_EUNAVAILABLE when
 * not enough of them could be reached, WEIR_ENOSPC when that was why. */
struct store_cluster;
struct config;
int store_cluster_new(struct env *env, struct store *local, struct http_client *http,
                      const struct config *config, struct store_cluster **ret_cluster,
                      struct error *err);
/* What is open completes with WEIR_ECLOSED. */
void store_cluster_free(struct store_cluster *cluster);
#define STORE_NODES_MAX 8
typedef void (*store_replicate_cb)(void *data, int status, const char *const *nodes, unsigned n);
int store_replicate(struct store_cluster *cluster, const char *object, uint64_t position,
                    struct http_body *bytes, store_replicate_cb cb, void *data, struct error *err);

struct store_range {
    const char *object;
    uint64_t position, size; /* size is never 0 here */
    bool has_crc;
    uint32_t
        crc32c; /* of the whole range: bytes that fail it are as good as absent, from disk too */
    const char *const *nodes; /* who is said to hold it; the others are asked last */
    unsigned n_nodes;
    /* For a copy on this node's disk: other nodes only are asked, nobody joins, and nothing is kept
     * or written here. */
    bool quiet;
    const char *only; /* with quiet: this node and no other; NULL: all */
};
#define STORE_FETCHES_MAX 1024   /* different ranges at once; more are refused with WEIR_EBUSY */
#define STORE_WAITERS_MAX 262144 /* for all of them together */
/* From memory, own disk, or one of the nodes; one fetch however many wait for the same range. The
 * range is kept in memory, and written to this node's disk anew when it should have been there,
 * with that checksum, and was not. `range` is copied. */
int store_fetch(struct store_cluster *cluster, const struct store_range *range, store_get_cb cb,
                void *data, struct error *err);
/* Quiet ones complete now, with WEIR_ECLOSED. */
void store_fetch_cancel_quiet(struct store_cluster *cluster);

#endif
