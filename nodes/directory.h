/* Who is in the cluster, for the front loop: its own copy of the configuration, whose list of nodes
 * follows the cluster. A node keeps its place in the list, so that places and pointers may be
 * kept: who joins is appended (or takes the place of one that is gone), who moves has its addresses
 * written anew, who goes is marked. Front loop only: the log role reads the configuration as it was
 * and learns of nodes from `meta`. */
#ifndef NODES_DIRECTORY_H
#define NODES_DIRECTORY_H

#include "base/config.h"
#include "clients/log/weir_log.h"

void directory_update(struct config *config, const struct weir_node *nodes, unsigned n);

#endif
