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
    struct env *sockets; /* for connections to brokers; NULL: env's own */
    struct weir_client *client;
    struct views *views;
    struct store *store;
    struct store_cluster *store_cluster;
    struct http_server *http;
    struct http_client *http_client;
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

/* True when the request carries the cluster secret (header X-Weir-Secret), compared in constant
 * time; else it has been answered with 401. All /internal/ and /api/admin/ routes begin with it. */
bool node_authorised(const struct node *node, struct http_exchange *ex);

#endif
