/* `weir node`: one node of the cluster, until SIGINT or SIGTERM. Returns the exit status. */
#ifndef NODES_NODE_H
#define NODES_NODE_H

int node_main(int argc, char **argv);

#endif
