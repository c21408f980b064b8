#include "clients/cli/ask.h"

#include <string.h>

#include "clients/cli/ask_shards.h"

static void settle(struct ask *a)
{
    if (a->n_waiting == 0) {
        cli_loop_stop(&a->loop);
    }
}

static void on_timer(struct env_timer *timer)
{
    struct ask *a = timer->data;
    a->timed_out = true;
    cli_loop_stop(&a->loop);
}

static void wait_for_answers(struct ask *a)
{
    a->timed_out = false;
    if (a->n_waiting > 0) {
        env_timer_start(&a->timer, (uint64_t)a->cluster->timeout_ms * 1000u, on_timer);
        cli_loop_run(&a->loop, NULL, NULL);
        env_timer_stop(&a->timer);
    }
}

/* --- Links --- */

static void dial(struct ask_node *n, uint32_t shard);

static void settled(struct ask_link *l)
{
    l->node->ask->n_waiting--;
    settle(l->node->ask);
}

static void on_ready(void *data, struct broker_link *link, const Weir__BrokerWelcome *welcome)
{
    struct ask_link *l = data;
    struct ask_node *n = l->node;
    (void)link;
    l->ready = true;
    if (l->shard == 0) {
        n->ready = true;
        n->id = welcome->node_id;
        n->n_shards = welcome->shards == 0 || welcome->shards > SHARDS_MAX ? 1 : welcome->shards;
        (void)snprintf(n->name, sizeof(n->name), "%s", welcome->node_name);
        for (uint32_t k = 1; k < n->n_shards; k++) {
            dial(n, k);
        }
    }
    settled(l);
}

static void link_failed(struct ask_link *l, const char *text)
{
    l->failed = true;
    l->link = NULL;
    (void)snprintf(l->trouble, sizeof(l->trouble), "%s", text);
    if (l->shard == 0) {
        l->node->ready = false;
        (void)snprintf(l->node->trouble, sizeof(l->node->trouble), "%s", text);
    }
}

static void on_closed(void *data, struct broker_link *link, const struct error *why)
{
    struct ask_link *l = data;
    bool was_ready = l->ready;
    (void)link;
    l->ready = false;
    link_failed(l, why->text);
    if (!was_ready) {
        settled(l);
    }
}

static void dial(struct ask_node *n, uint32_t shard)
{
    struct ask *a = n->ask;
    struct ask_link *l = &n->links[shard];
    struct broker_link_events events = {.data = l, .ready = on_ready, .closed = on_closed};
    struct error err = {0};
    *l = (struct ask_link){.node = n, .shard = shard, .dialled = true};
    if (broker_link_open(a->loop.env, a->loop.sockets, n->at.host, shard_port(n->at.port, shard),
                         a->cluster->secret, "weir command", &events, &l->link, &err) == 0) {
        a->n_waiting++;
    } else {
        link_failed(l, err.text);
    }
}

static void dial_node(struct ask_node *n, const struct config_address *address)
{
    n->at = *address;
    (void)snprintf(n->address, sizeof(n->address), "%s:%u", address->host, address->port);
    dial(n, 0);
}

/* What is not there by now is not waited for any longer. */
static void give_up_links(struct ask_node *n)
{
    char text[ERROR_TEXT_MAX];
    (void)snprintf(text, sizeof(text), "no answer within %u ms", n->ask->cluster->timeout_ms);
    for (uint32_t k = 0; k < SHARDS_MAX; k++) {
        struct ask_link *l = &n->links[k];
        if (l->dialled && !l->ready && !l->failed) {
            n->ask->n_waiting--;
            broker_link_close(l->link, NULL, NULL);
            link_failed(l, text);
        }
    }
}

static void node_close(struct ask_node *n)
{
    for (uint32_t k = 0; k < SHARDS_MAX; k++) {
        struct ask_link *l = &n->links[k];
        if (l->link != NULL) {
            broker_link_close(l->link, NULL, NULL);
            l->link = NULL;
        }
        message_free(l->answer);
        l->answer = NULL;
    }
    message_free(n->answer);
    n->answer = NULL;
}

struct ask_node *ask_add(struct ask *a, const struct config_address *address)
{
    char text[sizeof(a->nodes[0].address)];
    (void)snprintf(text, sizeof(text), "%s:%u", address->host, address->port);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        if (strcmp(a->nodes[i].address, text) == 0) {
            return &a->nodes[i];
        }
    }
    if (a->n_nodes == ASK_NODES_MAX) {
        return NULL;
    }
    struct ask_node *n = &a->nodes[a->n_nodes++];
    *n = (struct ask_node){.ask = a};
    dial_node(n, address);
    wait_for_answers(a);
    give_up_links(n);
    return n;
}

static void on_pause_over(struct env_timer *timer)
{
    struct ask *a = timer->data;
    cli_loop_stop(&a->loop);
}

void ask_pause(struct ask *a, uint32_t ms)
{
    env_timer_start(&a->timer, (uint64_t)ms * 1000u, on_pause_over);
    cli_loop_run(&a->loop, NULL, NULL);
    env_timer_stop(&a->timer);
}

static enum cli_exit open_all(struct ask *a, const struct cli_cluster *cluster,
                              const struct config_address *brokers, unsigned n_brokers)
{
    unsigned n_ready = 0;
    *a = (struct ask){.cluster = cluster, .n_nodes = n_brokers};
    enum cli_exit rv = cli_loop_open(&a->loop);
    if (rv != CLI_OK) {
        return rv;
    }
    rv = cli_loop_tls(&a->loop, cluster);
    if (rv != CLI_OK) {
        cli_loop_close(&a->loop);
        return rv;
    }
    if (env_timer_init(a->loop.env, &a->timer) != 0) {
        cli_loop_close(&a->loop);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    a->timer.data = a;
    for (unsigned i = 0; i < a->n_nodes; i++) {
        a->nodes[i].ask = a;
        dial_node(&a->nodes[i], &brokers[i]);
    }
    wait_for_answers(a);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        give_up_links(&a->nodes[i]);
        n_ready += a->nodes[i].ready;
    }
    if (n_ready > 0) {
        return CLI_OK;
    }
    for (unsigned i = 0; i < a->n_nodes; i++) {
        cli_fail(CLI_UNAVAILABLE, "%s", a->nodes[i].trouble);
    }
    ask_close(a);
    return cli_fail(CLI_UNAVAILABLE, "no broker can be reached");
}

enum cli_exit ask_start(struct ask *a, const struct argp *argp, int argc, char **argv, void *args,
                        struct cli_cluster *cluster)
{
    if (argp_parse(argp, argc, argv, 0, NULL, args) != 0) {
        return CLI_USAGE;
    }
    enum cli_exit rv = cli_cluster_resolve(cluster);
    return rv == CLI_OK ? ask_open(a, cluster) : rv;
}

void ask_close(struct ask *a)
{
    if (a->loop.loop == NULL) {
        return; /* it could not be opened again */
    }
    for (unsigned i = 0; i < a->n_nodes; i++) {
        node_close(&a->nodes[i]);
    }
    env_timer_close(&a->timer);
    cli_loop_close(&a->loop);
}

struct member {
    uint32_t id;
    struct config_address broker;
};

/* The members with a broker; 0: nobody tells. */
static unsigned members(struct ask *a, struct member ret_members[CONFIG_NODES_MAX])
{
    Weir__BrokerMetadataRequest q = WEIR__BROKER_METADATA_REQUEST__INIT;
    const ProtobufCMessage *answer = NULL;
    unsigned n = 0;
    for (unsigned i = 0; i < a->n_nodes && answer == NULL; i++) {
        (void)ask_node(a, i, BROKER_METADATA_REQUEST, &q.base, BROKER_METADATA, &answer);
    }
    const Weir__BrokerMetadata *m = (const Weir__BrokerMetadata *)answer;
    for (size_t i = 0; m != NULL && i < m->n_nodes && n < CONFIG_NODES_MAX; i++) {
        if (!m->nodes[i]->no_log) {
            struct member *out = &ret_members[n++];
            out->id = m->nodes[i]->id;
            out->broker.port = (uint16_t)m->nodes[i]->port;
            (void)snprintf(out->broker.host, sizeof(out->broker.host), "%s", m->nodes[i]->host);
        }
    }
    for (size_t i = 0; m != NULL && i < m->n_topics; i++) {
        if (strcmp(m->topics[i]->name, CONFIG_TOPIC_GROUPS) == 0) {
            a->groups_partitions = m->topics[i]->partitions;
        }
    }
    return n;
}

static bool same(const struct member *a, unsigned n_a, const struct config_address *b, unsigned n_b)
{
    unsigned found = 0;
    for (unsigned i = 0; i < n_a; i++) {
        for (unsigned k = 0; k < n_b; k++) {
            found += a[i].broker.port == b[k].port && strcmp(a[i].broker.host, b[k].host) == 0;
        }
    }
    return n_a == n_b && found == n_a;
}

/* The configuration is older than the cluster: its members instead. */
static enum cli_exit open_members(struct ask *a, const struct cli_cluster *cluster,
                                  const struct member *members, unsigned n)
{
    struct config_address brokers[CONFIG_NODES_MAX];
    for (unsigned i = 0; i < n; i++) {
        brokers[i] = members[i].broker;
    }
    ask_close(a);
    return open_all(a, cluster, brokers, n);
}

/* Those that were named by hand keep the addresses they were named with. */
static void add_members(struct ask *a, const struct member *members, unsigned n)
{
    unsigned first = a->n_nodes;
    for (unsigned i = 0; i < n && a->n_nodes < CONFIG_NODES_MAX; i++) {
        if (ask_find(a, members[i].id) == NULL) {
            struct ask_node *node = &a->nodes[a->n_nodes++];
            *node = (struct ask_node){.ask = a};
            dial_node(node, &members[i].broker);
        }
    }
    wait_for_answers(a);
    for (unsigned i = first; i < a->n_nodes; i++) {
        give_up_links(&a->nodes[i]);
    }
}

enum cli_exit ask_open(struct ask *a, const struct cli_cluster *cluster)
{
    struct member list[CONFIG_NODES_MAX];
    enum cli_exit rv = open_all(a, cluster, cluster->brokers, cluster->n_brokers);
    unsigned n = rv == CLI_OK ? members(a, list) : 0;
    if (n > 0 && cluster->brokers_text != NULL) {
        add_members(a, list, n);
    } else if (n > 0 && !same(list, n, cluster->brokers, cluster->n_brokers)) {
        rv = open_members(a, cluster, list, n);
    }
    return rv;
}

struct ask_node *ask_find(struct ask *a, uint32_t id)
{
    for (unsigned i = 0; i < a->n_nodes; i++) {
        if (a->nodes[i].id == id) {
            return &a->nodes[i];
        }
    }
    return NULL;
}

/* --- Questions --- */

static void on_reply(struct broker_request *req, int status, const struct frame *reply,
                     const ProtobufCMessage *head)
{
    struct ask_link *l = req->data;
    struct error err = {0};
    l->status = status;
    if (status == 0) {
        /* The head is only lent: unpacked once more, to keep it. */
        l->status = message_unpack(reply, &l->answer, &err);
        (void)snprintf(l->text, sizeof(l->text), "%s", err.text);
    } else {
        (void)snprintf(l->text, sizeof(l->text), "%s",
                       head != NULL ? ((const Weir__BrokerError *)head)->text : error_name(status));
    }
    settled(l);
}

static void send_to(struct ask_link *l, enum message_type type, const ProtobufCMessage *question,
                    enum message_type expected)
{
    l->asked = true;
    l->status = WEIR_EUNAVAILABLE;
    (void)snprintf(l->text, sizeof(l->text), "%s", l->trouble);
    if (!l->ready) {
        return;
    }
    l->request.data = l;
    l->status =
        broker_link_request(l->link, type, question, NULL, 0, expected, &l->request, on_reply);
    if (l->status == 0) {
        l->node->ask->n_waiting++;
    } else {
        (void)snprintf(l->text, sizeof(l->text), "%s", error_name(l->status));
    }
}

static void send(struct ask_node *n, enum message_type type, const ProtobufCMessage *question,
                 enum message_type expected)
{
    uint32_t n_shards = n->n_shards > 0 ? n->n_shards : 1, shard;
    bool all = ask_is_for_all(type, question, n_shards, n->ask->groups_partitions, &shard);
    message_free(n->answer);
    n->answer = NULL;
    for (uint32_t k = 0; k < n_shards; k++) {
        if (all || k == shard) {
            send_to(&n->links[k], type, question, expected);
        }
    }
}

/* The answers of those that were asked, as one; the first that failed, instead. */
static void take(struct ask_node *n)
{
    n->status = 0;
    n->text[0] = '\0';
    for (uint32_t k = 0; k < SHARDS_MAX; k++) {
        struct ask_link *l = &n->links[k];
        if (!l->asked) {
            continue;
        }
        l->asked = false;
        if (l->request.active) {
            broker_link_cancel(l->link, &l->request);
            n->ask->n_waiting--;
            l->status = WEIR_ETIMEOUT;
            (void)snprintf(l->text, sizeof(l->text), "no answer within %u ms",
                           n->ask->cluster->timeout_ms);
        }
        ProtobufCMessage *answer = l->answer;
        l->answer = NULL;
        if (n->status == 0 && l->status == 0 && n->answer != NULL) {
            n->status = ask_merge(n->answer, answer);
        } else if (n->status == 0 && l->status == 0) {
            n->answer = answer;
        } else {
            message_free(answer);
        }
        if (n->status == 0 && l->status != 0) {
            n->status = l->status;
            (void)snprintf(n->text, sizeof(n->text), "%s", l->text);
        }
    }
    if (n->status != 0) {
        message_free(n->answer);
        n->answer = NULL;
    } else {
        ask_merged(n->answer, n->n_shards);
    }
}

int ask_node(struct ask *a, unsigned i, enum message_type type, const ProtobufCMessage *question,
             enum message_type expected, const ProtobufCMessage **ret_answer)
{
    struct ask_node *n = &a->nodes[i];
    send(n, type, question, expected);
    wait_for_answers(a);
    take(n);
    if (n->status == 0) {
        *ret_answer = n->answer;
    }
    return n->status;
}

void ask_all(struct ask *a, enum message_type type, const ProtobufCMessage *question,
             enum message_type expected)
{
    for (unsigned i = 0; i < a->n_nodes; i++) {
        send(&a->nodes[i], type, question, expected);
    }
    wait_for_answers(a);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        take(&a->nodes[i]);
    }
}
