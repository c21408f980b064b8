/* The one table of command groups. */
#include "clients/cli/cli.h"

const struct cli_group cli_groups[] = {
    {"log", "write to, read from and check the log", cli_log_commands},
    {"cluster", "nodes, leaders and replicas", cli_cluster_commands},
    {"chat", "read and write a chat room", cli_chat_commands},
    {"user", "users and their tokens", cli_user_commands},
    {"channel", "channels and their stream keys", cli_channel_commands},
    {"sub", "subscriptions", cli_sub_commands},
    {"replay", "fold the log anew and compare", cli_replay_commands},
    {0},
};
