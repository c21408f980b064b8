/* weir cluster status */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/cluster.h"
#include "clients/cli/json.h"

static const struct {
    uint32_t bit;
    const char *name;
} roles[] = {{CONFIG_ROLE_LOG, "log"},
             {CONFIG_ROLE_INGEST, "ingest"},
             {CONFIG_ROLE_TRANSCODE, "transcode"},
             {CONFIG_ROLE_EDGE, "edge"},
             {CONFIG_ROLE_CHAT, "chat"},
             {CONFIG_ROLE_API, "api"}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->input;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const Weir__BrokerStatus *status_of(const struct ask_node *n)
{
    return n->status == 0 ? (const Weir__BrokerStatus *)n->answer : NULL;
}

/* Entries that the leader has and the slowest of the other replicas lacks. */
static uint64_t lag_of(const Weir__BrokerReplicaStatus *leader)
{
    uint64_t lag = 0;
    for (size_t i = 0; i < leader->n_peers; i++) {
        uint64_t match = leader->peers[i]->match_index;
        uint64_t behind = leader->last_index > match ? leader->last_index - match : 0;
        lag = behind > lag ? behind : lag;
    }
    return lag;
}

static const Weir__BrokerReplicaStatus *replica_of(const struct ask_node *n, size_t i)
{
    const Weir__BrokerStatus *s = status_of(n);
    return s != NULL && i < s->n_replicas && !s->replicas[i]->absent ? s->replicas[i] : NULL;
}

/* --- As text --- */

static void print_roles(uint32_t bits)
{
    bool first = true;
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if ((bits & roles[i].bit) != 0) {
            printf("%s%s", first ? "" : ",", roles[i].name);
            first = false;
        }
    }
}

static void print_node(const struct ask_node *n)
{
    const Weir__BrokerStatus *s = status_of(n);
    if (s == NULL) {
        printf("%-8s %-22s down    %s\n", n->name[0] != '\0' ? n->name : "?", n->address, n->text);
        return;
    }
    unsigned leading = 0, failed = 0, held = 0;
    for (size_t i = 0; i < s->n_replicas; i++) {
        held += !s->replicas[i]->absent;
        leading += s->replicas[i]->leading ? 1 : 0;
        failed += s->replicas[i]->failed[0] != '\0';
    }
    printf("%-8s %-22s up      %llus  leads %u of %u  free %llu MiB  ", s->node_name, n->address,
           (unsigned long long)(s->uptime_ms / 1000), leading, held,
           (unsigned long long)(s->disk_free_bytes >> 20));
    print_roles(s->roles);
    printf(failed > 0 ? "  %u REPLICAS FAILED\n" : "\n", failed);
}

static const Weir__BrokerReplicaStatus *leader_of(const struct ask *a, size_t i,
                                                  const struct ask_node **ret_node)
{
    const Weir__BrokerReplicaStatus *leader = NULL;
    for (unsigned k = 0; k < a->n_nodes; k++) {
        const Weir__BrokerReplicaStatus *r = replica_of(&a->nodes[k], i);
        /* One that was deposed may not know it yet: the highest term leads. */
        if (r != NULL && r->leading && (leader == NULL || r->term > leader->term)) {
            leader = r;
            *ret_node = &a->nodes[k];
        }
    }
    return leader;
}

static void print_partition(const struct ask *a, size_t i, const Weir__BrokerReplicaStatus *any)
{
    const struct ask_node *node = NULL;
    const Weir__BrokerReplicaStatus *leader = leader_of(a, i, &node);
    char name[CONFIG_NAME_MAX + 16];
    (void)snprintf(name, sizeof(name), "%s-%u", any->topic, any->partition);
    if (leader == NULL) {
        printf("%-20s NO LEADER", name);
    } else {
        printf("%-20s leader %-8s term %-4llu records %-10lld lag %llu", name, node->name,
               (unsigned long long)leader->term, (long long)leader->high_watermark,
               (unsigned long long)lag_of(leader));
    }
    for (unsigned k = 0; k < a->n_nodes; k++) {
        const Weir__BrokerReplicaStatus *r = replica_of(&a->nodes[k], i);
        if (r != NULL && r->failed[0] != '\0') {
            printf("  FAILED on %s: %s", a->nodes[k].name, r->failed);
        }
    }
    printf("\n");
}

/* Any answer: all nodes have the same partitions in the same order. */
static const Weir__BrokerStatus *first_status(const struct ask *a)
{
    for (unsigned k = 0; k < a->n_nodes; k++) {
        if (status_of(&a->nodes[k]) != NULL) {
            return status_of(&a->nodes[k]);
        }
    }
    return NULL;
}

static void print_text(const struct ask *a, const Weir__BrokerStatus *any)
{
    for (unsigned k = 0; k < a->n_nodes; k++) {
        print_node(&a->nodes[k]);
    }
    printf("\n");
    for (size_t i = 0; i < any->n_replicas; i++) {
        print_partition(a, i, any->replicas[i]);
    }
}

/* --- As JSON --- */

static json_t *node_json(const struct ask_node *n)
{
    const Weir__BrokerStatus *s = status_of(n);
    if (s == NULL) {
        return json_pack("{s:s, s:s, s:b, s:s}", "name", n->name, "broker", n->address, "up", 0,
                         "error", n->text);
    }
    json_t *names = json_array();
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if ((s->roles & roles[i].bit) != 0) {
            json_array_append_new(names, json_string(roles[i].name));
        }
    }
    return json_pack("{s:s, s:I, s:s, s:b, s:o, s:I, s:I, s:I, s:I, s:I}", "name", s->node_name,
                     "id", (json_int_t)s->node_id, "broker", n->address, "up", 1, "roles", names,
                     "uptime_ms", (json_int_t)s->uptime_ms, "disk_free_bytes",
                     (json_int_t)s->disk_free_bytes, "produced_bytes",
                     (json_int_t)s->produced_bytes, "fetched_bytes", (json_int_t)s->fetched_bytes,
                     "connections", (json_int_t)s->connections);
}

static json_t *partition_json(const struct ask *a, size_t i, const Weir__BrokerReplicaStatus *any)
{
    const struct ask_node *node = NULL;
    const Weir__BrokerReplicaStatus *leader = leader_of(a, i, &node);
    json_t *replicas = json_array();
    for (unsigned k = 0; k < a->n_nodes; k++) {
        const Weir__BrokerReplicaStatus *r = replica_of(&a->nodes[k], i);
        if (r != NULL) {
            json_array_append_new(
                replicas,
                json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "node",
                          a->nodes[k].name, "leading", r->leading, "term", (json_int_t)r->term,
                          "first_index", (json_int_t)r->first_index, "last_index",
                          (json_int_t)r->last_index, "durable_index", (json_int_t)r->durable_index,
                          "commit_index", (json_int_t)r->commit_index, "start_offset",
                          (json_int_t)r->start_offset, "high_watermark",
                          (json_int_t)r->high_watermark, "failed", r->failed));
        }
    }
    return json_pack("{s:s, s:I, s:s?, s:I, s:I, s:I, s:o}", "topic", any->topic, "partition",
                     (json_int_t)any->partition, "leader", node != NULL ? node->name : NULL, "term",
                     (json_int_t)(leader != NULL ? leader->term : 0), "high_watermark",
                     (json_int_t)(leader != NULL ? leader->high_watermark : 0), "lag_entries",
                     (json_int_t)(leader != NULL ? lag_of(leader) : 0), "replicas", replicas);
}

static enum cli_exit print_json(const struct ask *a, const Weir__BrokerStatus *any)
{
    json_t *nodes = json_array(), *partitions = json_array();
    for (unsigned k = 0; k < a->n_nodes; k++) {
        json_array_append_new(nodes, node_json(&a->nodes[k]));
    }
    for (size_t i = 0; i < any->n_replicas; i++) {
        json_array_append_new(partitions, partition_json(a, i, any->replicas[i]));
    }
    return cli_print_json(json_pack("{s:o, s:o}", "nodes", nodes, "partitions", partitions));
}

static int run_status(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse,
        .children = cli_cluster_children,
        .doc = "Nodes up and down, roles, partitions, leaders, and how far replicas lag.\v"
               "Fails when a node is down, a partition has no leader or a replica "
               "failed. " CLI_EXIT_HELP,
    };
    struct cli_cluster cluster = {0};
    struct ask a;
    enum cli_exit rv = ask_start(&a, &argp, argc, argv, &cluster, &cluster);
    if (rv != CLI_OK) {
        return rv;
    }
    Weir__BrokerStatusRequest m = WEIR__BROKER_STATUS_REQUEST__INIT;
    ask_all(&a, BROKER_STATUS_REQUEST, &m.base, BROKER_STATUS);
    const Weir__BrokerStatus *any = first_status(&a);
    if (any == NULL) {
        ask_close(&a);
        return cli_fail(CLI_UNAVAILABLE, "no node answered");
    }
    if (cluster.json) {
        rv = print_json(&a, any);
    } else {
        print_text(&a, any);
    }
    for (unsigned k = 0; k < a.n_nodes && rv == CLI_OK; k++) {
        rv = status_of(&a.nodes[k]) == NULL ? CLI_FAILED : CLI_OK;
    }
    for (size_t i = 0; i < any->n_replicas && rv == CLI_OK; i++) {
        const struct ask_node *node = NULL;
        rv = leader_of(&a, i, &node) == NULL ? CLI_FAILED : CLI_OK;
        for (unsigned k = 0; k < a.n_nodes && rv == CLI_OK; k++) {
            const Weir__BrokerReplicaStatus *r = replica_of(&a.nodes[k], i);
            rv = r != NULL && r->failed[0] != '\0' ? CLI_FAILED : CLI_OK;
        }
    }
    ask_close(&a);
    return rv;
}

const struct cli_command cli_cluster_commands[] = {
    {"status", "nodes, roles, partitions, leaders, lag", run_status},
    {"add", "make a node a member", cluster_run_add},
    {"drain", "move everything off a node", cluster_run_drain},
    {"remove", "remove a drained node, or a dead one", cluster_run_remove},
    {"balance", "even out replicas and leaders", cluster_run_balance},
    {"certs", "certificates for the nodes' TLS", cluster_certs},
    {0},
};
