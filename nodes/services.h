/* What runs on the front loop, in order of start: the log's client, store, views, then the roles of
 * nodes/role.h that the configuration switches on. Stopped in reverse. */
#ifndef NODES_SERVICES_H
#define NODES_SERVICES_H

#include "nodes/role.h"

struct services;

/* `node` has config, self, env and http filled in; the rest of it is filled here. On failure what
 * was started has to be stopped all the same: *ret_services is set unless it could not even be
 * allocated. */
int services_start(struct node *node, struct services **ret_services, struct error *err);
/* Stops all of them, frees, then cb. */
void services_stop(struct services *services, void (*cb)(void *data), void *data);

#endif
