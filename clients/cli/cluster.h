/* The commands of `weir cluster`, one file each. */
#ifndef CLIENTS_CLI_CLUSTER_H
#define CLIENTS_CLI_CLUSTER_H

#include "clients/cli/cli.h"

int cluster_certs(int argc, char **argv);

#endif
