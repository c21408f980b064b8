/* A TCP proxy in front of one broker that loses what it is told to lose. */
#ifndef TESTS_CLIENT_PROXY_H
#define TESTS_CLIENT_PROXY_H

#include "base/env.h"

struct proxy {
    struct env *env;
    struct env_listener *listener;
    uint16_t port, to;
    struct list pairs;
    /* Of all connections: replies go nowhere from now on; after so many bytes of requests more the
     * connections are cut (0: not). */
    bool swallow;
    uint64_t cut_after;
    unsigned n_cut;
    bool shut; /* whoever connects is cut at once */
};

void proxy_open(struct proxy *p, struct env *env, uint16_t to);
void proxy_cut(struct proxy *p);
void proxy_close(struct proxy *p);

#endif
