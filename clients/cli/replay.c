/* weir replay --verify: folds the log from its beginning into a fresh store and compares, partition
 * by partition, the state's hash with that of every node at the offset where the node stands. */
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/json.h"
#include "clients/cli/web.h"
#include "views/views.h"

#define TARGETS_MAX CONFIG_NODES_MAX
#define CHECKS_MAX  (VIEW_TOPICS * 1024)

/* What one node says of one partition. */
struct target {
    unsigned node;
    int64_t offset;
    char hash[65];
    char ours[65]; /* "": not reached */
};
struct replay_check {
    enum view_topic topic;
    uint32_t partition;
    struct target targets[TARGETS_MAX]; /* by offset */
    unsigned n_targets, n_done;
};

enum { KEY_VERIFY = 0x3000, KEY_TOPIC };

struct replay {
    struct cli_cluster cluster;
    bool verify;
    const char *topic;
    char dir[64];
    struct replay_check *checks; /* CHECKS_MAX */
    unsigned n_checks, n_different, n_nodes;
    uint32_t partitions[VIEW_TOPICS];
    uint64_t records;
    /* While folding */
    struct cli_loop loop;
    struct views *views;
    struct weir_client *client;
    struct replay_check *now;
    struct env_timer timer;
    uint64_t records_at_tick;
    enum cli_exit rv;
    char trouble[ERROR_TEXT_MAX];
};

static const struct argp_option options[] = {
    {"verify", KEY_VERIFY, 0, 0, "Compare with what the nodes have", 0},
    {"topic", KEY_TOPIC, "TOPIC", 0, "Only this one: accounts, lifecycle, chat or ledger", 0},
    {0},
};

static int topic_of(const char *name)
{
    for (int t = 0; t < VIEW_TOPICS; t++) {
        if (name != NULL && strcmp(view_topic_names[t], name) == 0) {
            return t;
        }
    }
    return -1;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct replay *r = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &r->cluster;
        return 0;
    case KEY_VERIFY:
        r->verify = true;
        return 0;
    case KEY_TOPIC:
        r->topic = arg;
        if (topic_of(arg) < 0) {
            argp_error(state, "--topic: there is no view of topic '%s'", arg);
        }
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    case ARGP_KEY_END:
        if (!r->verify) {
            argp_error(state, "nothing to do: give --verify");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- What the nodes say --- */

static struct replay_check *check_of(struct replay *r, enum view_topic topic, uint32_t partition)
{
    for (unsigned i = 0; i < r->n_checks; i++) {
        if (r->checks[i].topic == topic && r->checks[i].partition == partition) {
            return &r->checks[i];
        }
    }
    if (r->n_checks == CHECKS_MAX) {
        return NULL;
    }
    struct replay_check *c = &r->checks[r->n_checks++];
    c->topic = topic;
    c->partition = partition;
    if (r->partitions[topic] <= partition) {
        r->partitions[topic] = partition + 1;
    }
    return c;
}

/* Kept in order of offset. */
static void target_add(struct replay_check *c, unsigned node, int64_t offset, const char *hash)
{
    unsigned at = c->n_targets;
    if (at == TARGETS_MAX) {
        return;
    }
    for (; at > 0 && c->targets[at - 1].offset > offset; at--) {
        c->targets[at] = c->targets[at - 1];
    }
    c->n_targets++;
    c->targets[at] = (struct target){.node = node, .offset = offset};
    (void)snprintf(c->targets[at].hash, sizeof(c->targets[at].hash), "%s", hash);
}

static enum cli_exit ask_hash(struct replay *r, unsigned node, enum view_topic topic,
                              uint32_t partition)
{
    char path[128];
    json_t *answer = NULL;
    const struct web_ask ask = {
        .method = "GET", .path = path, .repeatable = true, .node = (int)node};
    (void)snprintf(path, sizeof(path), "/internal/views?topic=%s&partition=%u",
                   view_topic_names[topic], partition);
    enum cli_exit rv = web_ask(&r->cluster, &ask, &answer);
    if (rv != CLI_OK) {
        return rv;
    }
    const char *hash = json_string_value(json_object_get(answer, "hash"));
    struct replay_check *c = check_of(r, topic, partition);
    if (hash != NULL && c != NULL) {
        target_add(c, node, json_integer_value(json_object_get(answer, "offset")), hash);
    }
    json_decref(answer);
    return CLI_OK;
}

static enum cli_exit ask_node_views(struct replay *r, unsigned node)
{
    json_t *answer = NULL, *view = NULL;
    size_t i = 0;
    const struct web_ask ask = {
        .method = "GET", .path = "/internal/views", .repeatable = true, .node = (int)node};
    enum cli_exit rv = web_ask(&r->cluster, &ask, &answer);
    if (rv != CLI_OK) {
        return rv;
    }
    json_array_foreach(json_object_get(answer, "views"), i, view)
    {
        const char *name = json_string_value(json_object_get(view, "topic"));
        json_int_t partition = json_integer_value(json_object_get(view, "partition"));
        int topic = topic_of(name);
        if (topic < 0 || partition < 0 || partition >= 1024 ||
            (r->topic != NULL && strcmp(name, r->topic) != 0)) {
            continue;
        }
        if (rv == CLI_OK) {
            rv = ask_hash(r, node, (enum view_topic)topic, (uint32_t)partition);
        }
    }
    json_decref(answer);
    r->n_nodes += rv == CLI_OK;
    return rv;
}

/* Nodes that do not answer have said why on stderr; one that does is enough. */
static enum cli_exit ask_all_nodes(struct replay *r)
{
    enum cli_exit rv = CLI_UNAVAILABLE;
    for (unsigned i = 0; i < r->cluster.n_http; i++) {
        enum cli_exit one = ask_node_views(r, i);
        if (one == CLI_FAILED) {
            return one;
        }
        if (one == CLI_OK) {
            rv = CLI_OK;
        }
    }
    if (rv == CLI_OK && r->n_checks == 0) {
        return cli_fail(CLI_UNAVAILABLE, "no node knows its views' partitions yet");
    }
    return rv;
}

/* --- Folding --- */

static void stop(struct replay *r, enum cli_exit rv, const char *text)
{
    r->rv = rv;
    (void)snprintf(r->trouble, sizeof(r->trouble), "%s", text);
    cli_loop_stop(&r->loop);
}

static void hex_of(const uint8_t hash[32], char out[65])
{
    for (unsigned i = 0; i < 32; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", hash[i]);
    }
}

/* Every target at the offset where we stand. False: the hash failed. */
static bool compare_here(struct replay *r)
{
    struct replay_check *c = r->now;
    int64_t at = views_offset(r->views, c->topic, c->partition);
    while (c->n_done < c->n_targets && c->targets[c->n_done].offset <= at) {
        struct target *t = &c->targets[c->n_done];
        uint8_t hash[32];
        struct error err;
        if (views_hash(r->views, c->topic, c->partition, hash, &err) != 0) {
            stop(r, CLI_FAILED, err.text);
            return false;
        }
        hex_of(hash, t->ours);
        r->n_different += strcmp(t->ours, t->hash) != 0;
        c->n_done++;
    }
    return true;
}

static void on_records(void *data, struct weir_consumer *consumer,
                       const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct replay *r = data;
    struct replay_check *c = r->now;
    struct error err;
    (void)consumer;
    (void)high_watermark;
    for (unsigned i = 0; i < n && c->n_done < c->n_targets;) {
        unsigned k = i;
        while (k < n && records[k].offset.v < c->targets[c->n_done].offset) {
            k++;
        }
        if (views_feed(r->views, c->topic, c->partition, records + i, k - i, &err) != 0) {
            stop(r, CLI_FAILED, err.text);
            return;
        }
        r->records += k - i;
        i = k;
        int64_t at = views_offset(r->views, c->topic, c->partition);
        if (at >= c->targets[c->n_done].offset && !compare_here(r)) {
            return;
        }
    }
    if (c->n_done == c->n_targets) {
        stop(r, CLI_OK, "");
    }
}

static void on_failed(void *data, struct weir_consumer *consumer, int status, const char *text)
{
    (void)consumer;
    stop(data, cli_exit_of(status) == CLI_OK ? CLI_FAILED : cli_exit_of(status), text);
}

static void on_timer(struct env_timer *timer)
{
    struct replay *r = timer->data;
    if (r->records == r->records_at_tick) {
        stop(r, CLI_UNAVAILABLE, "no records came in time");
        return;
    }
    r->records_at_tick = r->records;
    env_timer_start(timer, (uint64_t)r->cluster.timeout_ms * 1000, on_timer);
}

static enum cli_exit check_partition(struct replay *r, struct replay_check *c)
{
    const struct weir_consumer_events events = {
        .data = r, .records = on_records, .failed = on_failed};
    struct weir_consumer *consumer = NULL;
    struct error err;
    r->now = c;
    r->rv = CLI_OK;
    if (!compare_here(r)) { /* those that have nothing yet */
        return cli_fail(r->rv, "%s", r->trouble);
    }
    if (c->n_done == c->n_targets) {
        return CLI_OK;
    }
    int rc = weir_consume(r->client, view_topic_names[c->topic], c->partition, WEIR_OFFSET_BEGIN,
                          &events, &consumer, &err);
    if (rc != 0) {
        return cli_fail(cli_exit_of(rc), "%s", err.text);
    }
    r->records_at_tick = UINT64_MAX;
    env_timer_start(&r->timer, (uint64_t)r->cluster.timeout_ms * 1000, on_timer);
    cli_loop_run(&r->loop, NULL, NULL);
    env_timer_stop(&r->timer);
    weir_consumer_close(consumer);
    if (r->rv != CLI_OK) {
        return cli_fail(r->rv, "%s-%u: %s", view_topic_names[c->topic], c->partition, r->trouble);
    }
    return CLI_OK;
}

static void on_client_freed(void *data)
{
    struct replay *r = data;
    cli_loop_stop(&r->loop);
}

static enum cli_exit client_open(struct replay *r)
{
    char texts[CONFIG_NODES_MAX][160];
    const char *seeds[CONFIG_NODES_MAX];
    struct error err;
    for (unsigned i = 0; i < r->cluster.n_brokers; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%s:%u", r->cluster.brokers[i].host,
                       r->cluster.brokers[i].port);
        seeds[i] = texts[i];
    }
    enum cli_exit tls = cli_loop_tls(&r->loop, &r->cluster);
    if (tls != CLI_OK) {
        return tls;
    }
    const struct weir_client_options client_options = {
        .sockets = r->loop.sockets,
        .seeds = seeds,
        .n_seeds = r->cluster.n_brokers,
        .secret = r->cluster.secret,
        .name = "weir replay",
        .timeout_ms = r->cluster.timeout_ms,
    };
    int rc = weir_client_new(r->loop.env, &client_options, &r->client, &err);
    return rc == 0 ? CLI_OK : cli_fail(cli_exit_of(rc), "%s", err.text);
}

static enum cli_exit fold_all(struct replay *r)
{
    struct error err;
    enum cli_exit rv = cli_loop_open(&r->loop);
    if (rv != CLI_OK) {
        return rv;
    }
    r->timer.data = r;
    if (views_open_detached(NULL, r->dir, r->partitions, &r->views, &err) != 0) {
        rv = cli_fail(CLI_FAILED, "%s", err.text);
    } else if (env_timer_init(r->loop.env, &r->timer) != 0) {
        rv = cli_fail(CLI_FAILED, "out of memory");
    } else {
        rv = client_open(r);
    }
    for (unsigned i = 0; i < r->n_checks && rv == CLI_OK; i++) {
        rv = check_partition(r, &r->checks[i]);
    }
    if (r->client != NULL) {
        weir_client_free(r->client, on_client_freed, r);
        cli_loop_run(&r->loop, NULL, NULL);
    }
    env_timer_close(&r->timer);
    if (r->views != NULL) {
        views_close(r->views, NULL, NULL);
    }
    cli_loop_close(&r->loop);
    return rv;
}

/* --- The answer --- */

static void print_check(const struct replay *r, const struct replay_check *c)
{
    for (unsigned i = 0; i < c->n_targets; i++) {
        const struct target *t = &c->targets[i];
        const struct config_address *at = &r->cluster.http[t->node];
        printf("%s-%u  %s:%u  offset %lld  %s  %.16s\n", view_topic_names[c->topic], c->partition,
               at->host, at->port, (long long)t->offset,
               strcmp(t->ours, t->hash) == 0 ? "same" : "DIFFERENT", t->hash);
    }
}

static json_t *check_json(const struct replay *r, const struct replay_check *c)
{
    json_t *nodes = json_array();
    for (unsigned i = 0; i < c->n_targets; i++) {
        const struct target *t = &c->targets[i];
        char at[160];
        (void)snprintf(at, sizeof(at), "%s:%u", r->cluster.http[t->node].host,
                       r->cluster.http[t->node].port);
        json_array_append_new(nodes, json_pack("{s:s, s:I, s:s, s:s, s:b}", "node", at, "offset",
                                               (json_int_t)t->offset, "hash", t->hash, "replayed",
                                               t->ours, "same", strcmp(t->ours, t->hash) == 0));
    }
    return json_pack("{s:s, s:i, s:o}", "topic", view_topic_names[c->topic], "partition",
                     (int)c->partition, "nodes", nodes);
}

static enum cli_exit print_json(const struct replay *r)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < r->n_checks; i++) {
        json_array_append_new(list, check_json(r, &r->checks[i]));
    }
    return cli_print_json(json_pack("{s:I, s:i, s:i, s:o}", "records", (json_int_t)r->records,
                                    "nodes", (int)r->n_nodes, "different", (int)r->n_different,
                                    "partitions", list));
}

static enum cli_exit print_result(const struct replay *r)
{
    if (r->cluster.json) {
        enum cli_exit rv = print_json(r);
        if (rv != CLI_OK) {
            return rv;
        }
    } else {
        for (unsigned i = 0; i < r->n_checks; i++) {
            print_check(r, &r->checks[i]);
        }
        printf("%llu records folded, %u partitions of %u nodes compared, %u different\n",
               (unsigned long long)r->records, r->n_checks, r->n_nodes, r->n_different);
    }
    return r->n_different == 0 ? CLI_OK : CLI_DIFFERENT;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static enum cli_exit verify(struct replay *r)
{
    enum cli_exit rv = ask_all_nodes(r);
    if (rv != CLI_OK) {
        return rv;
    }
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/weir-replay-XXXXXX");
    if (mkdtemp(r->dir) == NULL) {
        return cli_fail(CLI_FAILED, "%s: %m", r->dir);
    }
    rv = fold_all(r);
    (void)nftw(r->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return rv == CLI_OK ? print_result(r) : rv;
}

static int cli_replay(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc =
            "Fold the log from its beginning and compare with every node's views.\v" CLI_EXIT_HELP,
        .children = cli_cluster_children};
    struct replay *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    enum cli_exit rv = CLI_OK;
    r->checks = calloc(CHECKS_MAX, sizeof(*r->checks));
    if (r->checks == NULL) {
        rv = cli_fail(CLI_FAILED, "out of memory");
    } else if (argp_parse(&argp, argc, argv, 0, NULL, r) != 0) {
        rv = CLI_USAGE;
    }
    if (rv == CLI_OK) {
        rv = cli_cluster_resolve(&r->cluster);
    }
    if (rv == CLI_OK) {
        rv = verify(r);
    }
    free(r->checks);
    free(r);
    return (int)rv;
}

const struct cli_command cli_replay_commands[] = {{"", "--verify", cli_replay}, {0}};
