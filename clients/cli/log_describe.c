/* weir log describe, weir log topics */
#include <errno.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/json.h"
#include "clients/cli/log.h"

/* --- describe --- */

static void print_replica(const struct ask_node *n, const Weir__BrokerReplicaStatus *r)
{
    char compacted[64] = "";
    if (r->compacted_offset > 0) {
        (void)snprintf(compacted, sizeof(compacted), ", compacted below offset %lld%s",
                       (long long)r->compacted_offset, r->compacting ? " (going on)" : "");
    }
    printf("%s-%u on %-8s %-8s term %-4llu offsets %lld to %lld (end %lld)  index %llu to %llu, "
           "durable %llu, committed %llu  %llu bytes%s%s%s\n",
           r->topic, r->partition, n->name,
           r->failed[0] != '\0'   ? "FAILED"
           : r->damage[0] != '\0' ? "DAMAGED"
           : r->leading           ? "leader"
                                  : "follower",
           (unsigned long long)r->term, (long long)r->start_offset, (long long)r->high_watermark,
           (long long)r->end_offset, (unsigned long long)r->first_index,
           (unsigned long long)r->last_index, (unsigned long long)r->durable_index,
           (unsigned long long)r->commit_index, (unsigned long long)r->size_bytes, compacted,
           r->failed[0] != '\0' || r->damage[0] != '\0' ? "  " : "",
           r->failed[0] != '\0' ? r->failed : r->damage);
}

static json_t *replica_json(const struct ask_node *n, const Weir__BrokerReplicaStatus *r)
{
    return json_pack(
        "{s:s, s:I, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:b, s:s, s:s}",
        "topic", r->topic, "partition", (json_int_t)r->partition, "node", n->name, "leading",
        r->leading, "term", (json_int_t)r->term, "start_offset", (json_int_t)r->start_offset,
        "high_watermark", (json_int_t)r->high_watermark, "end_offset", (json_int_t)r->end_offset,
        "first_index", (json_int_t)r->first_index, "last_index", (json_int_t)r->last_index,
        "durable_index", (json_int_t)r->durable_index, "commit_index", (json_int_t)r->commit_index,
        "size_bytes", (json_int_t)r->size_bytes, "compacted_offset",
        (json_int_t)r->compacted_offset, "tombstones_ms", (json_int_t)r->tombstones_ms,
        "compacting", r->compacting, "failed", r->failed, "damage", r->damage);
}

static size_t describe_all(const struct ask *ask, const struct log_topic_args *a, json_t *out)
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
        .parser = log_topic_parse,
        .args_doc = "[TOPIC]",
        .children = cli_cluster_children,
        .doc = "Every replica of TOPIC, or of all topics.\v" CLI_EXIT_HELP,
    };
    struct log_topic_args a = {0};
    struct ask ask;
    enum cli_exit rv = ask_start(&ask, &argp, argc, argv, &a, &a.cluster);
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
    if (out != NULL && cli_print_json(out) != CLI_OK) {
        rv = CLI_FAILED;
    }
    if (found == 0 && rv == CLI_OK) {
        rv = cli_fail(CLI_FAILED, "no topic '%s'", a.topic != NULL ? a.topic : "");
    }
    ask_close(&ask);
    return (int)rv;
}

/* --- topics --- */

static enum cli_exit print_topics(const Weir__BrokerMetadata *m, bool json)
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
    return json ? cli_print_json(out) : CLI_OK;
}

int log_topics(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = log_topic_parse,
        .children = cli_cluster_children,
        .doc = "The topics of the cluster.\v" CLI_EXIT_HELP,
    };
    struct log_topic_args a = {0};
    struct ask ask;
    enum cli_exit rv = ask_start(&ask, &argp, argc, argv, &a, &a.cluster);
    if (rv != CLI_OK) {
        return (int)rv;
    }
    Weir__BrokerMetadataRequest m = WEIR__BROKER_METADATA_REQUEST__INIT;
    ask_all(&ask, BROKER_METADATA_REQUEST, &m.base, BROKER_METADATA);
    for (unsigned k = 0; k < ask.n_nodes; k++) {
        if (ask.nodes[k].status == 0) {
            rv = print_topics((const Weir__BrokerMetadata *)ask.nodes[k].answer, a.cluster.json);
            ask_close(&ask);
            return (int)rv;
        }
    }
    ask_close(&ask);
    return (int)cli_fail(CLI_UNAVAILABLE, "no node answered");
}
