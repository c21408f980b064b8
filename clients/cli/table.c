/* The one table of command groups. */
#include "clients/cli/cli.h"

const struct cli_group cli_groups[] = {
    {"log", "write to, read from and check the log", cli_log_commands},
    {"cluster", "nodes, leaders and replicas", cli_cluster_commands},
    {"chat", "read and write a chat room", cli_chat_commands},
    {0},
};
