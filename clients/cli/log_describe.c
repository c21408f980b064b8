/* weir log describe, weir log topics */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/log.h"

struct arguments {
    struct cli_cluster cluster;
    const char *topic; /* NULL: all */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case ARGP_KEY_ARG:
        if (a->topic != NULL) {
            argp_error(state, "one topic, not also '%s'", arg);
        }
        a->topic = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cli_cluster_argp, 0, NULL, 0}, {0}};

static enum cli_exit open_cluster(const struct argp *argp, int argc, char **argv,
                                  struct arguments *a, struct ask *ask)
{
    if (argp_parse(argp, argc, argv, 0, NULL, a) != 0) {
        return CLI_USAGE;
    }
    enum cli_exit rv = cli_cluster_resolve(&a->cluster);
    return rv == CLI_OK ? ask_open(ask, &a->cluster) : rv;
}

/* --- describe --- */

static void print_replica(const struct ask_node *n, const Weir__BrokerReplicaStatus *r)
{
    printf("%s-%u on %-8s %-8s term %-4llu offsets %lld to %lld (end %lld)  index %llu to %llu, "
           "durable %llu, committed %llu%s%s\n",
           r->topic, r->partition, n->name,
           r->failed[0] != '\0'   ? "FAILED"
           : r->damage[0] != '\0' ? "DAMAGED"
           : r->leading           ? "leader"
                                  : "follower",
           (unsigned long long)r->term, (long long)r->start_offset, (long long)r->high_watermark,
           (long long)r->end_offset, (unsigned long long)r->first_index,
           (unsigned long long)r->last_index, (unsigned long long)r->durable_index,
           (unsigned long long)r->commit_index,
           r->failed[0] != '\0' || r->damage[0] != '\0' ? "  " : "",
           r->failed[0] != '\0' ? r->failed : r->damage);
}

static json_t *replica_json(const struct ask_node *n, const Weir__BrokerReplicaStatus *r)
{
    return json_pack("{s:s, s:I, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s}",
                     "topic", r->topic, "partition", (json_int_t)r->partition, "node", n->name,
                     "leading", r->leading, "term", (json_int_t)r->term, "start_offset",
                     (json_int_t)r->start_offset, "high_watermark", (json_int_t)r->high_watermark,
                     "end_offset", (json_int_t)r->end_offset, "first_index",
                     (json_int_t)r->first_index, "last_index", (json_int_t)r->last_index,
                     "durable_index", (json_int_t)r->durable_index, "commit_index",
                     (json_int_t)r->commit_index, "failed", r->failed, "damage", r->damage);
}

static size_t describe_all(const struct ask *ask, const struct arguments *a, json_t *out)
{
    size_t found = 0;
    const Weir__BrokerStatus *any = NULL;
    for (unsigned k = 0; k < ask->n_nodes; k++) {
        any = ask->nodes[k].status == 0 ? (const Weir__BrokerStatus *)ask->nodes[k].answer : any;
    }
    for (size_t i = 0; any != NULL && i < any->n_replicas; i++) {
        for (unsigned k = 0; k < ask->n_nodes; k++) {
            const struct ask_node *n = &ask->nodes[k];
            const Weir__BrokerStatus *s = (const Weir__BrokerStatus *)n->answer;
            if (n->status != 0 || i >= s->n_replicas || s->replicas[i]->absent ||
                (a->topic != NULL && strcmp(s->replicas[i]->topic, a->topic) != 0)) {
                continue;
            }
            found++;
            if (out != NULL) {
                json_array_append_new(out, replica_json(n, s->replicas[i]));
            } else {
                print_replica(n, s->replicas[i]);
            }
        }
    }
    return found;
}

int log_describe(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse,
        .args_doc = "[TOPIC]",
        .children = children,
        .doc = "Every replica of TOPIC, or of all topics.\v" CLI_EXIT_HELP,
    };
    struct arguments a = {0};
    struct ask ask;
    enum cli_exit rv = open_cluster(&argp, argc, argv, &a, &ask);
    if (rv != CLI_OK) {
        return (int)rv;
    }
    Weir__BrokerStatusRequest m = WEIR__BROKER_STATUS_REQUEST__INIT;
    ask_all(&ask, BROKER_STATUS_REQUEST, &m.base, BROKER_STATUS);
    json_t *out = a.cluster.json ? json_array() : NULL;
    size_t found = describe_all(&ask, &a, out);
    for (unsigned k = 0; k < ask.n_nodes; k++) {
        if (ask.nodes[k].status != 0) {
            rv = cli_fail(CLI_UNAVAILABLE, "%s: %s", ask.nodes[k].address, ask.nodes[k].text);
        }
    }
    if (out != NULL) {
        (void)json_dumpf(out, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(out);
    }
    if (found == 0 && rv == CLI_OK) {
        rv = cli_fail(CLI_FAILED, "no topic '%s'", a.topic != NULL ? a.topic : "");
    }
    ask_close(&ask);
    return (int)rv;
}

/* --- topics --- */

static void print_topics(const Weir__BrokerMetadata *m, bool json)
{
    json_t *out = json ? json_array() : NULL;
    for (size_t i = 0; i < m->n_topics; i++) {
        if (json) {
            json_array_append_new(out,
                                  json_pack("{s:s, s:I}", "topic", m->topics[i]->name, "partitions",
                                            (json_int_t)m->topics[i]->partitions));
        } else {
            printf("%-24s %u partitions\n", m->topics[i]->name, m->topics[i]->partitions);
        }
    }
    if (json) {
        (void)json_dumpf(out, stdout, JSON_INDENT(1));
        printf("\n");
        json_decref(out);
    }
}

int log_topics(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse,
        .children = children,
        .doc = "The topics of the cluster.\v" CLI_EXIT_HELP,
    };
    struct arguments a = {0};
    struct ask ask;
    enum cli_exit rv = open_cluster(&argp, argc, argv, &a, &ask);
    if (rv != CLI_OK) {
        return (int)rv;
    }
    Weir__BrokerMetadataRequest m = WEIR__BROKER_METADATA_REQUEST__INIT;
    ask_all(&ask, BROKER_METADATA_REQUEST, &m.base, BROKER_METADATA);
    rv = CLI_UNAVAILABLE;
    for (unsigned k = 0; k < ask.n_nodes && rv != CLI_OK; k++) {
        if (ask.nodes[k].status == 0) {
            print_topics((const Weir__BrokerMetadata *)ask.nodes[k].answer, a.cluster.json);
            rv = CLI_OK;
        }
    }
    ask_close(&ask);
    return rv == CLI_OK ? CLI_OK : (int)cli_fail(rv, "no node answered");
}
