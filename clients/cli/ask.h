/* Asking single brokers: what the log's client does not do. One link per broker of the cluster, and
 * per shard where nodes have several (base/shard.h): a question to a node goes to the shard that
 * can answer it, or to all, whose answers become one. A question goes to one node or to all, and
 * the command waits for the answers. */
#ifndef CLIENTS_CLI_ASK_H
#define CLIENTS_CLI_ASK_H

#include "base/shard.h"
#include "clients/cli/cli.h"
#include "clients/log/link.h"

#define ASK_NODES_MAX     (CONFIG_NODES_MAX + 1) /* and one that is to join */
#define CLI_NODE_DRAINING 2                      /* MetaNodeState */
#define CLI_NODE_REMOVED  3

/* One shard of a node. */
struct ask_link {
    struct ask_node *node;
    uint32_t shard;
    struct broker_link *link;
    bool dialled, ready, failed;
    char trouble[ERROR_TEXT_MAX]; /* why not ready */
    struct broker_request request;
    bool asked;
    int status;
    ProtobufCMessage *answer;
    char text[ERROR_TEXT_MAX];
};

struct ask_node {
    struct ask *ask;
    char address[160];
    struct config_address at;
    uint32_t n_shards;
    struct ask_link links[SHARDS_MAX];
    uint32_t id; /* 0: never connected */
    char name[CONFIG_NAME_MAX];
    bool ready;                   /* the first shard */
    char trouble[ERROR_TEXT_MAX]; /* why not */
    /* The answer to the last question. */
    int status;
    ProtobufCMessage *answer; /* freed with the next question */
    char text[ERROR_TEXT_MAX];
};

struct ask {
    struct cli_loop loop;
    const struct cli_cluster *cluster;
    struct ask_node nodes[ASK_NODES_MAX];
    unsigned n_nodes;
    unsigned n_waiting;
    uint32_t groups_partitions; /* of topic `groups`; 0: not known */
    struct env_timer timer;
    bool timed_out;
};

/* Connects to all brokers: those of the configuration, or, when the cluster has changed since, the
 * members that the first one to answer names; to brokers given by hand and the other members. Those
 * that can't be reached within the timeout (at once, when they refuse) are marked failed.
 * CLI_UNAVAILABLE when none could. */
enum cli_exit ask_open(struct ask *a, const struct cli_cluster *cluster);
/* The beginning of a command: parses its arguments into `args`, finds the cluster, opens `a`. */
enum cli_exit ask_start(struct ask *a, const struct argp *argp, int argc, char **argv, void *args,
                        struct cli_cluster *cluster);
/* Also after an ask_open that failed. */
void ask_close(struct ask *a);
/* Sends the question to nodes[i] and waits for its answer: 0, *ret_answer borrowed until the next
 * question to that node; else the code, with the text in nodes[i].text. */
int ask_node(struct ask *a, unsigned i, enum message_type type, const ProtobufCMessage *question,
             enum message_type expected, const ProtobufCMessage **ret_answer);
/* Sends it to all that are ready and waits for all: see nodes[i].status and .answer. */
void ask_all(struct ask *a, enum message_type type, const ProtobufCMessage *question,
             enum message_type expected);
/* Connects to one more broker; its entry, ready or with the trouble. NULL: too many. */
struct ask_node *ask_add(struct ask *a, const struct config_address *address);
/* Lets time pass. */
void ask_pause(struct ask *a, uint32_t ms);
struct ask_node *ask_find(struct ask *a, uint32_t id);

#endif
