/* The commands of `weir log`, one file each. */
#ifndef CLIENTS_CLI_LOG_H
#define CLIENTS_CLI_LOG_H

#include "clients/cli/cli.h"
#include "clients/log/weir_log.h"

int log_produce(int argc, char **argv);
int log_consume(int argc, char **argv);
int log_describe(int argc, char **argv);
int log_verify(int argc, char **argv);
int log_scrub(int argc, char **argv);
int log_dump_command(int argc, char **argv);
int log_topics(int argc, char **argv);
int log_groups(int argc, char **argv);

/* A client of the cluster; its seeds are the cluster's brokers. */
enum cli_exit log_client_open(struct cli_loop *loop, const struct cli_cluster *cluster,
                              const struct weir_client_options *options,
                              struct weir_client **ret_client);
/* Frees it and runs the loop until it is gone. */
void log_client_close(struct cli_loop *loop, struct weir_client *client);

#endif
