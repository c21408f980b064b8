#include "clients/cli/ask.h"

#include <string.h>

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

static void on_ready(void *data, struct broker_link *link, const Weir__BrokerWelcome *welcome)
{
    struct ask_node *n = data;
    (void)link;
    n->ready = true;
    n->id = welcome->node_id;
    (void)snprintf(n->name, sizeof(n->name), "%s", welcome->node_name);
    n->ask->n_waiting--;
    settle(n->ask);
}

static void on_closed(void *data, struct broker_link *link, const struct error *why)
{
    struct ask_node *n = data;
    bool was_ready = n->ready;
    (void)link;
    n->link = NULL;
    n->ready = false;
    n->failed = true;
    (void)snprintf(n->trouble, sizeof(n->trouble), "%s", why->text);
    if (!was_ready) {
        n->ask->n_waiting--;
        settle(n->ask);
    }
}

static void dial(struct ask_node *n, const struct config_address *address)
{
    struct ask *a = n->ask;
    struct broker_link_events events = {.data = n, .ready = on_ready, .closed = on_closed};
    struct error err = {0};
    (void)snprintf(n->address, sizeof(n->address), "%s:%u", address->host, address->port);
    if (broker_link_open(a->loop.env, a->loop.sockets, address->host, address->port,
                         a->cluster->secret, "weir command", &events, &n->link, &err) == 0) {
        a->n_waiting++;
    } else {
        n->link = NULL;
        n->failed = true;
        (void)snprintf(n->trouble, sizeof(n->trouble), "%s", err.text);
    }
}

static void hang_up(struct ask_node *n)
{
    if (!n->ready && !n->failed) {
        n->failed = true;
        n->ask->n_waiting--;
        (void)snprintf(n->trouble, sizeof(n->trouble), "no answer within %u ms",
                       n->ask->cluster->timeout_ms);
    }
    if (n->link != NULL) {
        broker_link_close(n->link, NULL, NULL);
        n->link = NULL;
    }
    n->ready = false;
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
    dial(n, address);
    wait_for_answers(a);
    if (!n->ready) {
        hang_up(n);
    }
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
        dial(&a->nodes[i], &brokers[i]);
    }
    wait_for_answers(a);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        struct ask_node *n = &a->nodes[i];
        n_ready += n->ready;
        if (!n->ready && !n->failed) {
            n->failed = true;
            a->n_waiting--;
            (void)snprintf(n->trouble, sizeof(n->trouble), "no answer within %u ms",
                           cluster->timeout_ms);
            broker_link_close(n->link, NULL, NULL);
            n->link = NULL;
        }
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

void ask_close(struct ask *a)
{
    for (unsigned i = 0; i < a->n_nodes; i++) {
        if (a->nodes[i].link != NULL) {
            broker_link_close(a->nodes[i].link, NULL, NULL);
            a->nodes[i].link = NULL;
        }
        message_free(a->nodes[i].answer);
        a->nodes[i].answer = NULL;
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
            dial(node, &members[i].broker);
        }
    }
    wait_for_answers(a);
    for (unsigned i = first; i < a->n_nodes; i++) {
        if (!a->nodes[i].ready) {
            hang_up(&a->nodes[i]);
        }
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
    struct ask_node *n = req->data;
    struct error err = {0};
    n->status = status;
    if (status == 0) {
        /* The head is only lent: unpacked once more, to keep it. */
        n->status = message_unpack(reply, &n->answer, &err);
        (void)snprintf(n->text, sizeof(n->text), "%s", err.text);
    } else {
        (void)snprintf(n->text, sizeof(n->text), "%s",
                       head != NULL ? ((const Weir__BrokerError *)head)->text : error_name(status));
    }
    n->ask->n_waiting--;
    settle(n->ask);
}

static void send(struct ask_node *n, enum message_type type, const ProtobufCMessage *question,
                 enum message_type expected)
{
    message_free(n->answer);
    n->answer = NULL;
    n->status = WEIR_EUNAVAILABLE;
    (void)snprintf(n->text, sizeof(n->text), "%s", n->trouble);
    if (!n->ready) {
        return;
    }
    n->request.data = n;
    n->status =
        broker_link_request(n->link, type, question, NULL, 0, expected, &n->request, on_reply);
    if (n->status == 0) {
        n->ask->n_waiting++;
    } else {
        (void)snprintf(n->text, sizeof(n->text), "%s", error_name(n->status));
    }
}

static void give_up(struct ask_node *n)
{
    if (n->request.active) {
        broker_link_cancel(n->link, &n->request);
        n->ask->n_waiting--;
        n->status = WEIR_ETIMEOUT;
        (void)snprintf(n->text, sizeof(n->text), "no answer within %u ms",
                       n->ask->cluster->timeout_ms);
    }
}

int ask_node(struct ask *a, unsigned i, enum message_type type, const ProtobufCMessage *question,
             enum message_type expected, const ProtobufCMessage **ret_answer)
{
    struct ask_node *n = &a->nodes[i];
    send(n, type, question, expected);
    wait_for_answers(a);
    give_up(n);
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
        give_up(&a->nodes[i]);
    }
}
