/* Who is to hold an object: decided by every node for itself, from what all of them know, so that
 * nobody has to be told and no two nodes mend the same thing.
 *
 * Of the nodes that the log names (they had it, durably, when it was announced) all that are able
 * hold it. When these are fewer than `copies`, others that are able stand in: those with the
 * highest hash of object and node id ("rendezvous", Thaler and Ravishankar, 1998). So a node that
 * is drained, removed or lost changes nothing for objects that it does not hold, and its objects
 * spread over all others. Pure; any thread. */
#ifndef MEDIA_STORE_PLACE_H
#define MEDIA_STORE_PLACE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

/* Bit i: config->nodes[i]. */
typedef uint32_t store_nodes;
static_assert(CONFIG_NODES_MAX <= 32, "one bit a node");

/* `able`: nodes that are members, are not drained and can store. `copies`: media.replicas. */
store_nodes store_place(const struct config *config, store_nodes able, unsigned copies,
                        const char *object, const char *const *named, unsigned n_named);

#endif
