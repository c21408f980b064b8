#include "clients/cli/log.h"

const struct cli_command cli_log_commands[] = {
    {"produce", "write lines from standard input, or generated load", log_produce},
    {"consume", "print records", log_consume},
    {"describe", "replicas, offsets and leaders of topics", log_describe},
    {"verify", "compare every replica and check every checksum", log_verify},
    {"scrub", "have every node read and check its logs now", log_scrub},
    {"dump", "entries in the files of a stopped node, and what is damaged", log_dump_command},
    {"topics", "names and numbers of partitions", log_topics},
    {"groups", "consumer groups: members, offsets and lag", log_groups},
    {0},
};

enum cli_exit log_client_open(struct cli_loop *loop, const struct cli_cluster *cluster,
                              const struct weir_client_options *options,
                              struct weir_client **ret_client)
{
    struct weir_client_options o = *options;
    char addresses[CONFIG_NODES_MAX][160];
    const char *seeds[CONFIG_NODES_MAX];
    struct error err = {0};
    if (cluster->n_brokers == 0) {
        return cli_fail(CLI_USAGE, "no broker is given: use --config or --brokers");
    }
    for (unsigned i = 0; i < cluster->n_brokers; i++) {
        (void)snprintf(addresses[i], sizeof(addresses[i]), "%s:%u", cluster->brokers[i].host,
                       cluster->brokers[i].port);
        seeds[i] = addresses[i];
    }
    o.seeds = seeds;
    o.n_seeds = cluster->n_brokers;
    o.secret = cluster->secret;
    enum cli_exit tls = cli_loop_tls(loop, cluster);
    if (tls != CLI_OK) {
        return tls;
    }
    o.sockets = loop->sockets;
    int rv = weir_client_new(loop->env, &o, ret_client, &err);
    return rv == 0 ? CLI_OK : cli_fail(cli_exit_of(rv), "%s", err.text);
}

static void on_freed(void *data)
{
    cli_loop_stop(data);
}

void log_client_close(struct cli_loop *loop, struct weir_client *client)
{
    weir_client_free(client, on_freed, loop);
    cli_loop_run(loop, NULL, NULL);
}
