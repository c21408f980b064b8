/* The commands of `weir cluster`, one file each. */
#ifndef CLIENTS_CLI_CLUSTER_H
#define CLIENTS_CLI_CLUSTER_H

#include "clients/cli/cli.h"

int cluster_certs(int argc, char **argv);

/* cluster_change.c: add, drain, remove, balance. */
int cluster_run_add(int argc, char **argv);
int cluster_run_drain(int argc, char **argv);
int cluster_run_remove(int argc, char **argv);
int cluster_run_balance(int argc, char **argv);

#endif
