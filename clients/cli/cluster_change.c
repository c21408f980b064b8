/* weir cluster add, drain, remove, balance: one request to the controller (the leader of `meta`),
 * and with --wait the controller is asked on until it is done. */
#include "clients/cli/cluster.h"

#include <errno.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/json.h"

#define POLL_MS 300
#define WAIT_S  3600

enum { KEY_WAIT = 0x1000, KEY_DEAD };

struct change_args {
    struct cli_cluster cluster;
    Weir__ClusterChange change;
    bool wait, by_name;
    struct cluster_media media;
    bool seen_id, seen_peer, seen_broker, seen_http, seen_rtmp, seen_internal;
};

/* --- Arguments --- */

static const struct argp_option wait_options[] = {
    {"wait", KEY_WAIT, 0, 0, "Wait until it is done, with progress on standard error", 0},
    {0},
};
static const struct argp_option remove_options[] = {
    {"wait", KEY_WAIT, 0, 0, "Wait until it is done, with progress on standard error", 0},
    {"dead", KEY_DEAD, 0, 0, "It is gone for good: others take over what it held", 0},
    {0},
};

static error_t take_field(struct change_args *a, char *arg, struct argp_state *state)
{
    struct {
        const char *name;
        char **at;
        bool *seen;
    } fields[] = {{"peer", &a->change.peer, &a->seen_peer},
                  {"broker", &a->change.broker, &a->seen_broker},
                  {"http", &a->change.http, &a->seen_http},
                  {"rtmp", &a->change.rtmp, &a->seen_rtmp},
                  {"internal", &a->change.internal, &a->seen_internal}};
    char *value = strchr(arg, '=');
    uint64_t id = 0;
    if (value == NULL) {
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    }
    *value++ = '\0';
    if (strcmp(arg, "id") == 0 && cli_parse_u64(value, 1, 0x80000000u, &id)) {
        a->change.id = (uint32_t)id;
        a->seen_id = true;
        return 0;
    }
    if (strcmp(arg, "log") == 0 && (strcmp(value, "no") == 0 || strcmp(value, "yes") == 0)) {
        a->change.no_log = value[0] == 'n';
        return 0;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(arg, fields[i].name) == 0) {
            *fields[i].at = value;
            *fields[i].seen = true;
            return 0;
        }
    }
    argp_error(state, "%s=%s: expected id=, peer=, broker=, http=, rtmp=, internal= or log=no", arg,
               value);
    return EINVAL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct change_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case KEY_WAIT:
        a->wait = true;
        return 0;
    case KEY_DEAD:
        a->change.dead = true;
        return 0;
    case ARGP_KEY_ARG:
        if (a->by_name && a->change.name[0] == '\0') {
            a->change.name = arg;
            return 0;
        }
        if (a->change.action == WEIR__CLUSTER_CHANGE__ACTION__ADD) {
            return take_field(a, arg, state);
        }
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    case ARGP_KEY_END:
        if (a->by_name && a->change.name[0] == '\0') {
            argp_error(state, "which node?");
            return EINVAL;
        }
        if (a->change.action == WEIR__CLUSTER_CHANGE__ACTION__ADD &&
            !(a->seen_id && a->seen_peer && a->seen_broker && a->seen_http && a->seen_rtmp)) {
            argp_error(state, "id=, peer=, broker=, http= or rtmp= is missing");
            return EINVAL;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- The controller --- */

/* Asks all who leads; NULL: nobody, now. */
static const Weir__ClusterDescription *describe(struct ask *a, struct ask_node **ret_node)
{
    Weir__ClusterDescribe m = WEIR__CLUSTER_DESCRIBE__INIT;
    ask_all(a, BROKER_CLUSTER_DESCRIBE, &m.base, BROKER_CLUSTER);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        if (a->nodes[i].status == 0) {
            *ret_node = &a->nodes[i];
            return (const Weir__ClusterDescription *)a->nodes[i].answer;
        }
    }
    return NULL;
}

/* The node that leads now may not have been there when the links were made. */
static enum cli_exit ask_anew(struct ask *a)
{
    const struct cli_cluster *cluster = a->cluster;
    ask_close(a);
    return ask_open(a, cluster);
}

static enum cli_exit find_controller(struct ask *a, struct ask_node **ret_node)
{
    const char *why = "";
    enum cli_exit rv = CLI_OK;
    for (uint32_t waited = 0; waited <= a->cluster->timeout_ms; waited += POLL_MS) {
        if (describe(a, ret_node) != NULL) {
            return CLI_OK;
        }
        for (unsigned i = 0; i < a->n_nodes; i++) {
            const struct ask_node *n = &a->nodes[i];
            if (n->status == WEIR_ENOTFOUND) {
                return cli_fail(CLI_FAILED, "%s", n->text);
            }
            why = n->ready ? "nobody leads the topic meta now" : why;
        }
        ask_pause(a, POLL_MS);
        rv = ask_anew(a);
        if (rv != CLI_OK) {
            return rv;
        }
    }
    return cli_fail(CLI_UNAVAILABLE, "%s", why[0] != '\0' ? why : "no node answered");
}

/* A node that is not there, or is another one, is noticed before it is a member. */
static enum cli_exit check_new_node(struct ask *a, const Weir__ClusterChange *m)
{
    struct config_address at;
    struct error err = {0};
    if (config_address_parse(m->broker, &at, &err) != 0) {
        return cli_fail(CLI_USAGE, "broker: %s", err.text);
    }
    const struct ask_node *n = m->no_log ? NULL : ask_add(a, &at);
    if (n == NULL) {
        return CLI_OK;
    }
    if (!n->ready) {
        return cli_fail(CLI_UNAVAILABLE,
                        "node %s can't be reached: %s (start it first, with cluster.join = yes)",
                        m->name, n->trouble);
    }
    if (n->id != m->id || strcmp(n->name, m->name) != 0) {
        return cli_fail(CLI_FAILED, "at %s is node %s with id %u, not %s with id %u", m->broker,
                        n->name, n->id, m->name, m->id);
    }
    return CLI_OK;
}

/* --- Waiting --- */

static const Weir__ClusterNode *node_named(const Weir__ClusterDescription *d, const char *name)
{
    const Weir__ClusterNode *removed = NULL;
    for (size_t i = 0; i < d->n_nodes; i++) {
        if (strcmp(d->nodes[i]->name, name) == 0) {
            if (d->nodes[i]->state != CLI_NODE_REMOVED) {
                return d->nodes[i];
            }
            removed = d->nodes[i];
        }
    }
    return removed;
}

static bool balanced(const Weir__ClusterDescription *d)
{
    return d->moving == 0 && d->misplaced == 0 && d->leaderless == 0 && !d->replicas_uneven &&
           !d->leaders_uneven;
}

static bool is_done(const struct change_args *a, const Weir__ClusterDescription *d)
{
    const Weir__ClusterNode *n = a->by_name ? node_named(d, a->change.name) : NULL;
    switch (a->change.action) {
    case WEIR__CLUSTER_CHANGE__ACTION__ADD:
        return n != NULL && (n->no_log || n->live) && balanced(d);
    case WEIR__CLUSTER_CHANGE__ACTION__DRAIN:
        return n != NULL && n->placed + n->leaving + n->leading == 0 && !n->meta_voter;
    case WEIR__CLUSTER_CHANGE__ACTION__REMOVE:
        return n != NULL && n->placed + n->leaving + n->member == 0 && d->moving == 0 &&
               d->misplaced == 0;
    default:
        return balanced(d);
    }
}

static void print_progress(const struct change_args *a, const Weir__ClusterDescription *d,
                           char *last, size_t size)
{
    char line[256];
    const Weir__ClusterNode *n = a->by_name ? node_named(d, a->change.name) : NULL;
    if (n != NULL) {
        (void)snprintf(line, sizeof(line),
                       "%s: %s, holds %u, gives up %u, leads %u; %u of %u partitions moving",
                       n->name, n->live ? "up" : "not heard of", n->placed, n->leaving, n->leading,
                       d->moving, d->partitions);
    } else {
        (void)snprintf(line, sizeof(line), "%u of %u partitions moving, leaders %s", d->moving,
                       d->partitions, d->leaders_uneven ? "uneven" : "even");
    }
    if (strcmp(line, last) != 0) {
        fprintf(stderr, "%s\n", line);
        (void)snprintf(last, size, "%s", line);
    }
}

/* After the partitions, for it takes longest. */
static bool media_is_done(struct change_args *a, char *last, size_t size)
{
    char text[200] = "", line[256];
    if (a->change.action != WEIR__CLUSTER_CHANGE__ACTION__DRAIN ||
        cluster_media_moved(&a->media, &a->cluster, a->change.name, text, sizeof(text))) {
        return true;
    }
    (void)snprintf(line, sizeof(line), "media: %s", text);
    if (strcmp(line, last) != 0) {
        fprintf(stderr, "%s\n", line);
        (void)snprintf(last, size, "%s", line);
    }
    return false;
}

static enum cli_exit wait_until_done(struct change_args *a, struct ask *ask)
{
    char last[256] = "";
    unsigned done = 0;
    for (uint64_t waited_ms = 0; waited_ms < WAIT_S * 1000u; waited_ms += POLL_MS) {
        struct ask_node *node = NULL;
        const Weir__ClusterDescription *d = describe(ask, &node);
        if (d != NULL) {
            print_progress(a, d, last, sizeof(last));
            done = is_done(a, d) && media_is_done(a, last, sizeof(last)) ? done + 1 : 0;
        }
        if (done == 2) { /* reports are half a second old */
            return CLI_OK;
        }
        ask_pause(ask, 2 * POLL_MS);
        enum cli_exit rv = d == NULL ? ask_anew(ask) : CLI_OK;
        if (rv != CLI_OK) {
            return rv;
        }
    }
    return cli_fail(CLI_UNAVAILABLE, "not done within an hour; it goes on");
}

/* --- The commands --- */

static enum cli_exit print_done(const struct change_args *a, const char *verb)
{
    if (!a->cluster.json) {
        printf("%s%s%s%s\n", verb, a->by_name ? " " : "", a->by_name ? a->change.name : "",
               a->wait ? "" : " (goes on in the background; --wait waits)");
        return CLI_OK;
    }
    json_t *o = json_pack("{s:s, s:s?, s:b}", "done", verb, "node",
                          a->by_name ? a->change.name : NULL, "waited", a->wait);
    return cli_print_json(o);
}

/* Once it is removed nobody asks it any more. One that is not drained the controller refuses. */
static enum cli_exit check_media(struct change_args *a, struct ask *ask)
{
    char text[200] = "";
    struct ask_node *node = NULL;
    const Weir__ClusterDescription *d = describe(ask, &node);
    const Weir__ClusterNode *n = d != NULL ? node_named(d, a->change.name) : NULL;
    if (n == NULL || n->state != CLI_NODE_DRAINING) {
        return CLI_OK;
    }
    /* A broadcast that runs always has something that nobody has looked at yet. */
    for (uint32_t waited = 0; waited <= a->cluster.timeout_ms; waited += POLL_MS) {
        if (cluster_media_moved(&a->media, &a->cluster, a->change.name, text, sizeof(text))) {
            return CLI_OK;
        }
        ask_pause(ask, POLL_MS);
    }
    return cli_fail(CLI_FAILED,
                    "the others do not have all media of %s yet: %s (weir cluster drain %s --wait "
                    "waits; --dead if it is gone)",
                    a->change.name, text, a->change.name);
}

static enum cli_exit request(struct change_args *a, struct ask *ask)
{
    struct ask_node *node = NULL;
    const ProtobufCMessage *answer = NULL;
    enum cli_exit rv = CLI_OK;
    int status = WEIR_EBUSY;
    if (a->change.action == WEIR__CLUSTER_CHANGE__ACTION__ADD) {
        rv = check_new_node(ask, &a->change);
    }
    if (a->change.action == WEIR__CLUSTER_CHANGE__ACTION__REMOVE && !a->change.dead) {
        rv = check_media(a, ask);
    }
    /* Busy: another record is on its way; not the leader: it has just changed. */
    for (unsigned i = 0; rv == CLI_OK && i < 20 && status != 0; i++) {
        rv = find_controller(ask, &node);
        if (rv != CLI_OK) {
            return rv;
        }
        status = ask_node(ask, (unsigned)(node - ask->nodes), BROKER_CLUSTER_CHANGE,
                          &a->change.base, BROKER_CLUSTER_CHANGED, &answer);
        if (status != 0 && status != WEIR_ENOTLEADER && status != WEIR_EUNKNOWN &&
            strcmp(node->text, error_name(WEIR_EBUSY)) != 0) {
            return cli_fail(cli_exit_of(status), "%s", node->text);
        }
        if (status != 0) {
            ask_pause(ask, POLL_MS);
        }
    }
    return rv != CLI_OK || status == 0 ? rv : cli_fail(CLI_UNAVAILABLE, "%s", node->text);
}

static int run(struct change_args *a, const struct argp *argp, const char *verb, int argc,
               char **argv)
{
    struct ask ask;
    enum cli_exit rv = ask_start(&ask, argp, argc, argv, a, &a->cluster);
    if (rv != CLI_OK) {
        return rv;
    }
    rv = request(a, &ask);
    if (rv == CLI_OK && a->wait) {
        rv = wait_until_done(a, &ask);
    }
    ask_close(&ask);
    return (int)(rv == CLI_OK ? print_done(a, verb) : rv);
}

int cluster_run_add(int argc, char **argv)
{
    static const struct argp argp = {
        .options = wait_options,
        .parser = parse,
        .args_doc = "NAME id=N peer=H:P broker=H:P http=H:P rtmp=H:P [internal=H:P] [log=no]",
        .children = cli_cluster_children,
        .doc = "Make a node a member; it takes its share of the partitions. Start it first: with "
               "cluster.join = yes, and all nodes in its cluster.node lines. For a member: its "
               "new addresses; and it is not drained any more.\v" CLI_EXIT_HELP,
    };
    struct change_args a = {.change = WEIR__CLUSTER_CHANGE__INIT, .by_name = true};
    a.change.action = WEIR__CLUSTER_CHANGE__ACTION__ADD;
    return run(&a, &argp, "added", argc, argv);
}

int cluster_run_drain(int argc, char **argv)
{
    static const struct argp argp = {
        .options = wait_options,
        .parser = parse,
        .args_doc = "NAME",
        .children = cli_cluster_children,
        .doc =
            "Move everything off a node: leaders first, then replicas; others make copies of its "
            "media, which --wait waits for, too. It stays a member until it is removed. Refused "
            "when too few nodes would be left.\v" CLI_EXIT_HELP,
    };
    struct change_args a = {.change = WEIR__CLUSTER_CHANGE__INIT, .by_name = true};
    a.change.action = WEIR__CLUSTER_CHANGE__ACTION__DRAIN;
    return run(&a, &argp, "drained", argc, argv);
}

int cluster_run_remove(int argc, char **argv)
{
    static const struct argp argp = {
        .options = remove_options,
        .parser = parse,
        .args_doc = "NAME",
        .children = cli_cluster_children,
        .doc = "Remove a drained node for ever; or, with --dead, one that will not come back: "
               "others take what it held.\v" CLI_EXIT_HELP,
    };
    struct change_args a = {.change = WEIR__CLUSTER_CHANGE__INIT, .by_name = true};
    a.change.action = WEIR__CLUSTER_CHANGE__ACTION__REMOVE;
    return run(&a, &argp, "removed", argc, argv);
}

int cluster_run_balance(int argc, char **argv)
{
    static const struct argp argp = {
        .options = wait_options,
        .parser = parse,
        .children = cli_cluster_children,
        .doc = "Even out replicas and leaders. The cluster does so by itself, unhurriedly; this "
               "begins at once, and with --wait tells when it is done.\v" CLI_EXIT_HELP,
    };
    struct change_args a = {.change = WEIR__CLUSTER_CHANGE__INIT};
    a.change.action = WEIR__CLUSTER_CHANGE__ACTION__BALANCE;
    return run(&a, &argp, "balanced", argc, argv);
}
