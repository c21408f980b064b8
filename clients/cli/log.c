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

error_t log_topic_parse(int key, char *arg, struct argp_state *state)
{
    struct log_topic_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case ARGP_KEY_ARG:
        return cli_take_word(state, "topic", &a->topic, arg);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

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

struct finding {
    struct weir_topic_req req;
    struct cli_loop *loop;
    int status;
    uint32_t n_partitions;
};

static void on_topic(struct weir_topic_req *req, int status, uint32_t n_partitions)
{
    struct finding *f = req->data;
    f->status = status;
    f->n_partitions = n_partitions;
    cli_loop_stop(f->loop);
}

enum cli_exit log_find_topic(struct cli_loop *loop, struct weir_client *client, const char *topic,
                             const uint64_t *partition, uint32_t *ret_partitions)
{
    struct finding f = {.loop = loop};
    f.req.data = &f;
    weir_topic(client, topic, &f.req, on_topic);
    cli_loop_run(loop, NULL, NULL);
    if (f.status != 0) {
        return cli_fail(cli_exit_of(f.status), "topic '%s': %s", topic, error_name(f.status));
    }
    if (partition != NULL && *partition >= f.n_partitions) {
        return cli_fail(CLI_USAGE, "topic '%s' has partitions 0 to %u", topic, f.n_partitions - 1);
    }
    *ret_partitions = f.n_partitions;
    return CLI_OK;
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
