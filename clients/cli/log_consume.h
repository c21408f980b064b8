/* What `weir log consume` was told; log_consume.c reads partitions, log_consume_group.c is a member
 * of a consumer group. */
#ifndef CLIENTS_CLI_LOG_CONSUME_H
#define CLIENTS_CLI_LOG_CONSUME_H

#include "clients/cli/cli.h"
#include "clients/cli/log_print.h"

struct consume_arguments {
    struct cli_cluster cluster;
    const char *topic;
    uint64_t partition, count;
    bool has_partition, follow, by_time;
    int64_t from, from_ms;
    enum log_format format;
    const char *group; /* NULL: none */
    uint64_t commit_ms, session_ms;
};

enum cli_exit log_consume_group(const struct consume_arguments *a);

#endif
