#include "jepsen/workloads/near.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_ops.h"

struct near {
    struct env base;
    struct env *sockets;
    char host[64];
};

static int near_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb,
                        void *data, struct env_stream **ret_stream, struct error *err)
{
    struct near *n = container_of(env, struct near, base);
    if (strcmp(host, n->host) != 0) {
        return error_set(err, WEIR_EIO, "%s is out of reach", host);
    }
    return env_connect(n->sockets, host, port, cb, data, ret_stream, err);
}

static const struct env_ops ops = {.connect = near_connect};

struct near *near_new(struct env *sockets, const char *host)
{
    struct near *n = calloc(1, sizeof(*n));
    if (n != NULL) {
        n->base.ops = &ops;
        n->sockets = sockets;
        (void)snprintf(n->host, sizeof(n->host), "%s", host);
    }
    return n;
}

void near_free(struct near *n)
{
    free(n);
}

struct env *near_env(struct near *n)
{
    return &n->base;
}
