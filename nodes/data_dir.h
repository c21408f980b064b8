/* The folder of a node's data belongs to one node, and to one process at a time.
 *
 *   <data>/node   text: "weir-node 1\nid N\nname NAME\n", and "shards N\n" where log.shards is more
 *                 than one; written once, and anew when one bit of it is wrong or its end is
 *                 missing
 *
 *   <data>/lock   flock(2)ed by the running process, which writes its pid into it */
#ifndef NODES_DATA_DIR_H
#define NODES_DATA_DIR_H

#include "base/config.h"
#include "base/env.h"

/* Makes the folder when absent and takes it. Fails when another process has it (naming its pid),
 * when it belongs to another node (or the file is damaged beyond that: removing it makes it anew),
 * when it can't be written. *ret_lock_fd is kept open for as long as the process uses the folder.
 */
int data_dir_take(struct env *env, const struct config *config, int *ret_lock_fd,
                  struct error *err);

#endif
