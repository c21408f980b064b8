/* A role: one job of a node. `weir node` starts those that the configuration switches on.
 *
 * Threads: the log role (nodes/broker/broker.h) runs on a loop thread of its own; all others share
 * the front loop and its services below, and reach the log only through the client. A role never
 * includes another role: they meet in the log, in the views, and over HTTP. */
#ifndef NODES_ROLE_H
#define NODES_ROLE_H

#include "base/config.h"
#include "base/env.h"
#include "clients/log/weir_log.h"
#include "media/store.h"
#include "net/http.h"
#include "views/views.h"

/* The front loop's services; every pointer outlives the roles. */
struct node {
    const struct config *config;
    struct config *directory; /* the same: its nodes follow the cluster */
    const struct config_node *self;
    struct env *env;
    struct env *sockets; /* for connections to nodes and brokers; NULL: env's own */
    struct weir_client *client;
    struct views *views;
    struct store *store;
    struct store_cluster *store_cluster;
    struct http_server *http;        /* the public's */
    struct http_server *internal;    /* other nodes', over TLS; NULL without tls.* */
    struct http_client *http_client; /* to other nodes' `internal`, at config_internal */
};

struct role {
    const char *name;
    uint32_t bit; /* CONFIG_ROLE_x */
    /* Adds its routes, opens its listeners. */
    int (*start)(struct node *node, void **ret_state, struct error *err);
    /* Stops taking work, lets go of everything, then cb. */
    void (*stop)(void *state, void (*cb)(void *data), void *data);
};
extern const struct role role_ingest, role_transcode, role_edge, role_chat, role_api;

/* Adds routes where they belong: with TLS what is below /internal/ is served to other nodes only,
 * below /api/admin/ to both, all else to the public; without it everything is on one server. */
int node_routes(const struct node *node, const struct http_route *routes, unsigned n,
                struct error *err);

/* True when the request carries the cluster secret (header X-Weir-Secret), compared in constant
 * time; else it has been answered with 401. All /internal/ and /api/admin/ routes begin with it. */
bool node_authorised(const struct node *node, struct http_exchange *ex);

#endif
