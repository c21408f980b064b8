/* Sockets that reach one node only: whoever uses them sits beside it, with a cut between them and
 * all others. Hosts of a run are cut off from each other by their firewalls, but its clients are in
 * one place and reach all of them: they hear at once who leads now, and nobody believes a node that
 * was replaced. A client that is near does.
 *
 * An env of env_connect and nothing else: what is dialled elsewhere is refused (WEIR_EIO); streams
 * are those of the sockets within. Loop thread. */
#ifndef JEPSEN_WORKLOADS_NEAR_H
#define JEPSEN_WORKLOADS_NEAR_H

#include "base/env.h"

struct near;

/* `sockets` (they outlive it) and `host` (copied): those that are left. NULL: no memory. */
struct near *near_new(struct env *sockets, const char *host);
/* Its streams may live on. NULL is allowed. */
void near_free(struct near *n);
struct env *near_env(struct near *n);

#endif
