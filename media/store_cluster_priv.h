/* Inside of store_cluster.c (the nodes, and puts) and store_fetch.c (reads). */
#ifndef MEDIA_STORE_CLUSTER_PRIV_H
#define MEDIA_STORE_CLUSTER_PRIV_H

#include "base/config.h"
#include "base/metrics.h"
#include "media/store.h"

#define STORE_BUCKETS        256
#define STORE_ERROR_BODY_MAX 1024
#define STORE_PATH_BYTES     256
#define STORE_HEADER_BYTES   300

struct store_peer {
    const struct config_node *node; /* NULL: this node */
    uint64_t failed_until_ns;
};

/* Peers in the order in which they are tried. */
struct store_candidates {
    unsigned n, next;
    uint8_t peer[CONFIG_NODES_MAX];
};

struct store_cluster {
    struct env *env;
    struct store *local;
    struct http_client *http;
    unsigned copies;             /* wanted */
    const struct config *config; /* its nodes come and go */
    unsigned n_peers;
    struct store_peer peers[CONFIG_NODES_MAX]; /* [0] is this node */
    const char *self_name;
    char headers[STORE_HEADER_BYTES];
    struct list replicates;
    unsigned n_replicates;
    struct list fetches[STORE_BUCKETS];
    unsigned n_fetches, n_waiters;
    bool closing;
    struct metric *hedges, *failures, *remote_gets, *fetch_joined;
};

const char *store_peer_name(const struct store_cluster *c, unsigned peer);
/* It is asked last for a while. */
void store_peer_failed(struct store_cluster *c, unsigned peer, const char *what, int status);
bool store_peer_suspect(const struct store_cluster *c, unsigned peer);
/* Is its standing that, or better? */
bool store_peer_stands(const struct store_cluster *c, unsigned peer, enum config_standing worst);
/* Takes in what has changed in the configuration's list. */
void store_follow_nodes(struct store_cluster *c);
/* Once each. */
void store_candidates_add(struct store_candidates *list, unsigned peer);
int store_call_peer(struct store_cluster *c, unsigned peer, const char *method, const char *path,
                    struct http_body *body, size_t response_max, http_call_cb cb, void *data,
                    struct http_call **ret_call);
/* Completes all that is being fetched with WEIR_ECLOSED. */
void store_fetch_close(struct store_cluster *c);

#endif
