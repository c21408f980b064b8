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

/* Arguments of a command about one topic or all: [TOPIC], and where the cluster is. */
struct log_topic_args {
    struct cli_cluster cluster;
    const char *topic; /* NULL: all */
};
error_t log_topic_parse(int key, char *arg, struct argp_state *state);

/* A client of the cluster; its seeds are the cluster's brokers. */
enum cli_exit log_client_open(struct cli_loop *loop, const struct cli_cluster *cluster,
                              const struct weir_client_options *options,
                              struct weir_client **ret_client);
/* How many partitions the topic has; that there is it, and the partition if one is named, is
 * checked. */
enum cli_exit log_find_topic(struct cli_loop *loop, struct weir_client *client, const char *topic,
                             const uint64_t *partition, uint32_t *ret_partitions);
/* Frees it and runs the loop until it is gone. */
void log_client_close(struct cli_loop *loop, struct weir_client *client);

#endif
