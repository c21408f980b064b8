/* Brokers, metadata, topics, and the life of a client. */
#include "clients/log/client_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/murmur2.h"
#include "log/producers.h"

#define TIMEOUT_MS_DEFAULT       30000
#define INFLIGHT_BYTES_DEFAULT   (64u << 20)
#define BATCH_BYTES_DEFAULT      (256u << 10)
#define INFLIGHT_BATCHES_DEFAULT 4
#define NODE_DRAINING            2 /* MetaNodeState */

static void dial(struct client_broker *b);

/* --- Brokers --- */

static struct client_broker *broker_of(struct weir_client *c, uint32_t node_id, uint32_t shard)
{
    for (unsigned i = 0; i < c->n_brokers && node_id != 0; i++) {
        struct client_broker *b = c->brokers[i];
        if (b->node_id == node_id && b->shard == shard && !b->retired) {
            return b;
        }
    }
    return NULL;
}

struct client_broker *client_leader_of(struct weir_client *c, const struct client_partition *p)
{
    client_use(c, p);
    return broker_of(c, p->leader_id, p->shard);
}

/* A new place, or that of a broker that is gone; NULL: none. */
static struct client_broker *broker_place(struct weir_client *c)
{
    for (unsigned i = 0; i < c->n_brokers; i++) {
        struct client_broker *b = c->brokers[i];
        if (b->retired && b->link == NULL && !b->metadata.active) {
            return b;
        }
    }
    struct client_broker *b = c->n_brokers < CLIENT_BROKERS_MAX ? calloc(1, sizeof(*b)) : NULL;
    if (b == NULL || env_timer_init(c->env, &b->redial) != 0) {
        free(b);
        return NULL;
    }
    b->client = c;
    b->redial.data = b;
    c->brokers[c->n_brokers++] = b;
    return b;
}

static int broker_add(struct weir_client *c, const char *host, uint16_t port, uint32_t node_id,
                      uint32_t shard)
{
    for (unsigned i = 0; i < c->n_brokers; i++) {
        struct client_broker *b = c->brokers[i];
        if (strcmp(b->host, host) == 0 && b->port == port) {
            bool again = b->retired;
            b->retired = false;
            if (again && b->link == NULL) {
                dial(b);
            }
            return 0;
        }
    }
    struct client_broker *b = broker_place(c);
    if (b == NULL) {
        return c->n_brokers == CLIENT_BROKERS_MAX ? WEIR_ETOOBIG : WEIR_ENOMEM;
    }
    b->retired = false;
    b->trouble[0] = '\0';
    (void)snprintf(b->host, sizeof(b->host), "%s", host);
    b->port = port;
    b->node_id = node_id;
    b->shard = shard;
    b->backoff_us = CLIENT_BACKOFF_MIN_US;
    dial(b);
    return 0;
}

static void on_redial(struct env_timer *timer)
{
    dial(timer->data);
}

static void redial_later(struct client_broker *b)
{
    if (b->retired) {
        return;
    }
    env_timer_start(&b->redial, b->backoff_us, on_redial);
    b->backoff_us =
        b->backoff_us * 2 < CLIENT_BACKOFF_MAX_US ? b->backoff_us * 2 : CLIENT_BACKOFF_MAX_US;
}

static void on_link_closed(void *data, struct broker_link *link, const struct error *why)
{
    struct client_broker *b = data;
    b->heard_ns = b->ready ? broker_link_heard_ns(link) : b->heard_ns;
    if (why->code == -ECONNREFUSED) {
        b->heard_ns = env_now_ns(b->client->env); /* by the machine that it ran on */
    }
    b->link = NULL;
    b->ready = false;
    if (strcmp(b->trouble, why->text) != 0) {
        (void)snprintf(b->trouble, sizeof(b->trouble), "%s", why->text);
        log_warn("broker_link_closed", "client=%s reason=\"%s\"", b->client->name, why->text);
    }
    redial_later(b);
    /* What waited for this broker looks for another one. */
    client_refresh(b->client);
    consumers_kick(b->client);
    offsets_kick(b->client);
    groups_kick(b->client);
}

static void ask_metadata(struct client_broker *b);
static void metadata_learn(struct weir_client *c, uint32_t shard, const Weir__BrokerMetadata *m);

static void on_link_ready(void *data, struct broker_link *link, const Weir__BrokerWelcome *welcome)
{
    struct client_broker *b = data;
    (void)link;
    b->ready = true;
    b->node_id = welcome->node_id;
    b->shard = welcome->shard < SHARDS_MAX ? welcome->shard : 0;
    b->backoff_us = CLIENT_BACKOFF_MIN_US;
    b->trouble[0] = '\0';
    ask_metadata(b);
    LIST_FOREACH_SAFE(it, nx, &b->client->busy)
    {
        producer_pump(list_entry(it, struct client_partition, busy_link));
    }
    consumers_kick(b->client);
    offsets_kick(b->client);
    groups_kick(b->client);
}

static void on_pushed(void *data, struct broker_link *link, const struct frame *frame,
                      const ProtobufCMessage *head)
{
    struct client_broker *b = data;
    (void)link;
    if (frame->type == BROKER_METADATA) {
        metadata_learn(b->client, b->shard, (const Weir__BrokerMetadata *)head);
    }
    if (frame->type != BROKER_LEADERS) {
        return;
    }
    const Weir__BrokerLeaders *m = (const Weir__BrokerLeaders *)head;
    for (size_t i = 0; i < m->n_leaders; i++) {
        const Weir__BrokerLeader *l = m->leaders[i];
        client_leader_news(b->client, l->topic, l->partition, l->leader_id, l->term);
    }
}

static void dial(struct client_broker *b)
{
    struct weir_client *c = b->client;
    struct broker_link_events events = {
        .data = b, .ready = on_link_ready, .pushed = on_pushed, .closed = on_link_closed};
    struct error err = {0};
    if (broker_link_open(c->env, c->sockets, b->host, b->port, c->secret, c->name, &events,
                         &b->link, &err) != 0) {
        log_warn("broker_dial_failed", "client=%s broker=%s:%u reason=\"%s\"", c->name, b->host,
                 b->port, err.text);
        b->link = NULL;
        redial_later(b);
    }
}

static uint64_t heard_ns(struct weir_client *c, uint32_t node_id)
{
    const struct client_broker *b = broker_of(c, node_id, 0);
    if (b == NULL) {
        return 0;
    }
    return b->ready ? broker_link_heard_ns(b->link) : b->heard_ns;
}

uint64_t weir_client_silent_ns(struct weir_client *c)
{
    uint64_t newest[CONFIG_NODES_MAX];
    for (unsigned n = 0; n < c->n_nodes; n++) {
        uint64_t at = heard_ns(c, c->nodes[n].id);
        unsigned k = n;
        for (; k > 0 && newest[k - 1] < at; k--) {
            newest[k] = newest[k - 1];
        }
        newest[k] = at;
    }
    return c->n_nodes > 0 ? env_now_ns(c->env) - newest[c->n_nodes / 2] : 0;
}

/* --- Metadata --- */

static struct client_topic *topic_find(struct weir_client *c, const char *name)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        if (strcmp(c->topics[i]->name, name) == 0) {
            return c->topics[i];
        }
    }
    return NULL;
}

struct client_topic *client_topic_get(struct weir_client *c, const char *name)
{
    struct client_topic *t = topic_find(c, name);
    if (t != NULL || c->n_topics == CLIENT_TOPICS_MAX || strlen(name) >= sizeof(t->name)) {
        return t;
    }
    t = calloc(1, sizeof(*t));
    if (t != NULL) {
        t->client = c;
        (void)snprintf(t->name, sizeof(t->name), "%s", name);
        list_init(&t->early);
        list_init(&t->reqs);
        c->topics[c->n_topics++] = t;
    }
    return t;
}

static void complete_topic_reqs(struct list *from, int status, uint32_t n_partitions)
{
    struct list reqs;
    list_init(&reqs);
    list_move_all(&reqs, from);
    for (struct list *el = list_pop(&reqs); el != NULL; el = list_pop(&reqs)) {
        struct weir_topic_req *req = list_entry(el, struct weir_topic_req, link);
        req->cb(req, status, n_partitions);
    }
}

static void topic_learn(struct weir_client *c, const Weir__BrokerTopic *m)
{
    struct client_topic *t = client_topic_get(c, m->name);
    if (t == NULL || t->n_partitions != 0 || m->partitions == 0 ||
        m->partitions > CLIENT_PARTITIONS_MAX) {
        return;
    }
    t->partitions = calloc(m->partitions, sizeof(*t->partitions));
    if (t->partitions == NULL) {
        return; /* asked again with the next metadata */
    }
    for (uint32_t i = 0; i < m->partitions; i++) {
        producer_partition_init(&t->partitions[i], t, i);
        t->partitions[i].shard = shard_of(t->name, i, c->n_shards);
    }
    t->n_partitions = m->partitions;
}

void client_leader_news(struct weir_client *c, const char *topic, uint32_t partition,
                        uint32_t leader_id, uint64_t term)
{
    struct client_topic *t = topic_find(c, topic);
    if (t == NULL || partition >= t->n_partitions) {
        return;
    }
    struct client_partition *p = &t->partitions[partition];
    /* Within a term there is one leader. A node that knows none tells nothing, not even with a
     * higher term: a candidate that is cut off from the others would hide their leader. */
    if (leader_id == 0 || term < p->term || (term == p->term && leader_id == p->leader_id)) {
        return;
    }
    bool moved = leader_id != p->leader_id;
    p->term = term;
    p->leader_id = leader_id;
    p->retry_at_ns = 0;
    p->backoff_us = CLIENT_BACKOFF_MIN_US;
    if (moved) {
        producer_leader_moved(p);
    }
    producer_pump(p);
}

static void settle_topics(struct weir_client *c)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        struct client_topic *t = c->topics[i];
        if (t->n_partitions != 0) {
            producer_topic_known(t);
            complete_topic_reqs(&t->reqs, 0, t->n_partitions);
        } else if (c->informed) {
            producer_topic_failed(t, WEIR_ENOTFOUND);
            complete_topic_reqs(&t->reqs, WEIR_ENOTFOUND, 0);
        }
    }
}

/* A node that moved is dialled where it is now, once it is gone from where it was. */
static void dial_node(struct weir_client *c, const struct client_node *n, uint32_t shard)
{
    struct client_broker *b = broker_of(c, n->id, shard);
    uint16_t port = shard_port(n->port, shard);
    if (port == 0 ||
        (b != NULL && (b->link != NULL || (strcmp(b->host, n->host) == 0 && b->port == port)))) {
        return;
    }
    int rv = broker_add(c, n->host, port, n->id, shard);
    if (rv != 0) {
        log_warn("broker_ignored", "client=%s broker=%s:%u reason=\"%s\"", c->name, n->host, port,
                 error_name(rv));
    }
}

static void dial_shard(struct weir_client *c, uint32_t shard)
{
    for (unsigned i = 0; i < c->n_nodes; i++) {
        dial_node(c, &c->nodes[i], shard);
    }
}

void client_use(struct weir_client *c, const struct client_partition *p)
{
    if (p->shard > 0 && !c->shards_used[p->shard] && !c->closing) {
        c->shards_used[p->shard] = true;
        dial_shard(c, p->shard);
    }
}

static void nodes_learn(struct weir_client *c, const Weir__BrokerMetadata *m)
{
    c->n_nodes = 0;
    for (size_t i = 0; i < m->n_nodes && c->n_nodes < CONFIG_NODES_MAX; i++) {
        const Weir__BrokerNode *from = m->nodes[i];
        struct client_node *n = &c->nodes[c->n_nodes];
        if (from->no_log || from->port == 0 || from->port > UINT16_MAX) {
            continue;
        }
        *n = (struct client_node){.id = from->id, .port = (uint16_t)from->port};
        (void)snprintf(n->host, sizeof(n->host), "%s", from->host);
        c->n_nodes++;
    }
    for (uint32_t k = 0; k < SHARDS_MAX; k++) {
        if (k == 0 || c->shards_used[k]) {
            dial_shard(c, k);
        }
    }
}

/* Who is not a member any more, and not there, is not dialled any more. Seeds are: a cluster that
 * names nobody must not make us forget the way. */
static void retire_brokers(struct weir_client *c, const Weir__BrokerMetadata *m)
{
    for (unsigned i = c->n_seeds; i < c->n_brokers; i++) {
        struct client_broker *b = c->brokers[i];
        bool member = b->ready || b->node_id == 0;
        for (size_t k = 0; k < m->n_nodes && !member; k++) {
            member = m->nodes[k]->id == b->node_id &&
                     shard_port(m->nodes[k]->port, b->shard) == b->port &&
                     strcmp(m->nodes[k]->host, b->host) == 0;
        }
        b->retired = !member;
        if (b->retired && b->link == NULL) {
            env_timer_stop(&b->redial);
        }
    }
}

static void replicas_learn(struct weir_client *c, const Weir__BrokerLeader *l)
{
    struct client_topic *t = topic_find(c, l->topic);
    if (t == NULL || l->partition >= t->n_partitions) {
        return;
    }
    struct client_partition *p = &t->partitions[l->partition];
    p->n_replicas = 0;
    for (size_t i = 0; i < l->n_replicas && i < CLIENT_REPLICAS_MAX; i++) {
        p->replicas[p->n_replicas++] = l->replicas[i];
    }
}

static void tell_nodes(struct weir_client *c, const Weir__BrokerMetadata *m)
{
    struct weir_node nodes[CONFIG_NODES_MAX];
    unsigned n = 0;
    for (size_t i = 0; i < m->n_nodes && n < CONFIG_NODES_MAX; i++) {
        const Weir__BrokerNode *from = m->nodes[i];
        nodes[n++] = (struct weir_node){.id = from->id,
                                        .name = from->name,
                                        .host = from->host,
                                        .port = (uint16_t)from->port,
                                        .http = from->http,
                                        .rtmp = from->rtmp,
                                        .internal = from->internal,
                                        .no_log = from->no_log != 0,
                                        .draining = from->state == NODE_DRAINING};
    }
    if (c->options.nodes != NULL && n > 0) {
        c->options.nodes(c->options.nodes_data, nodes, n);
    }
}

static void metadata_learn(struct weir_client *c, uint32_t shard, const Weir__BrokerMetadata *m)
{
    bool placed = m->meta_offset >= c->placed_offset[shard];
    c->placed_offset[shard] = placed ? m->meta_offset : c->placed_offset[shard];
    if (c->n_shards == 0) {
        c->n_shards = m->shards == 0 || m->shards > SHARDS_MAX ? 1 : m->shards;
    }
    if (m->meta_offset >= c->meta_offset) {
        c->meta_offset = m->meta_offset;
        nodes_learn(c, m);
        retire_brokers(c, m);
        tell_nodes(c, m);
    }
    for (size_t i = 0; i < m->n_topics; i++) {
        topic_learn(c, m->topics[i]);
    }
    for (size_t i = 0; i < m->n_leaders; i++) {
        const Weir__BrokerLeader *l = m->leaders[i];
        if (placed) {
            replicas_learn(c, l);
        }
        client_leader_news(c, l->topic, l->partition, l->leader_id, l->term);
    }
    c->informed = true;
    settle_topics(c);
    named_ask(c);
    consumers_kick(c);
    offsets_kick(c);
    groups_kick(c);
}

static void on_metadata(struct broker_request *req, int status, const struct frame *reply,
                        const ProtobufCMessage *head)
{
    struct client_broker *b = req->data;
    (void)reply;
    if (status == 0 && !b->client->closing) {
        metadata_learn(b->client, b->shard, (const Weir__BrokerMetadata *)head);
    }
}

static void ask_metadata(struct client_broker *b)
{
    Weir__BrokerMetadataRequest m = WEIR__BROKER_METADATA_REQUEST__INIT;
    m.watch = true;
    if (b->link == NULL || !b->ready || b->metadata.active) {
        return;
    }
    b->metadata.data = b;
    if (broker_link_request(b->link, BROKER_METADATA_REQUEST, &m.base, NULL, 0, BROKER_METADATA,
                            &b->metadata, on_metadata) != 0) {
        client_tick_within(b->client, CLIENT_BACKOFF_MAX_US);
    }
}

void client_refresh(struct weir_client *c)
{
    for (unsigned i = 0; i < c->n_brokers; i++) {
        ask_metadata(c->brokers[i]);
    }
}

/* --- Topics --- */

void weir_topic(struct weir_client *c, const char *topic, struct weir_topic_req *req,
                weir_topic_cb cb)
{
    struct client_topic *t = client_topic_get(c, topic);
    req->cb = cb;
    req->priv[0] = env_now_ns(c->env) + (uint64_t)c->options.timeout_ms * 1000000u;
    list_push_back(t != NULL ? &t->reqs : &c->hopeless, &req->link);
    client_flush_soon(c);
    client_tick_within(c, CLIENT_SWEEP_US);
}

static void sweep_topics(struct weir_client *c, uint64_t now_ns)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        LIST_FOREACH_SAFE(it, nx, &c->topics[i]->reqs)
        {
            struct weir_topic_req *req = list_entry(it, struct weir_topic_req, link);
            if (now_ns >= req->priv[0]) {
                list_remove(&req->link);
                req->cb(req, WEIR_ETIMEOUT, 0);
                break; /* the callback may have changed the list; the rest at the next sweep */
            }
        }
    }
}

uint32_t weir_partition_for_key(const void *key, size_t len, uint32_t n_partitions)
{
    return murmur2_partition(key, len, n_partitions);
}

/* --- The clock --- */

static void on_tick(struct env_timer *timer)
{
    struct weir_client *c = timer->data;
    uint64_t now = env_now_ns(c->env);
    bool waiting = false;
    c->tick_due_ns = 0;
    if (!c->informed) {
        client_refresh(c);
    }
    named_ask(c);
    producer_sweep(c, now);
    sweep_topics(c, now);
    consumers_kick(c);
    offsets_kick(c);
    groups_kick(c);
    for (unsigned i = 0; i < c->n_topics; i++) {
        waiting |= !list_empty(&c->topics[i]->reqs) || !list_empty(&c->topics[i]->early);
    }
    if (waiting || !list_empty(&c->busy) || !list_empty(&c->consumers) ||
        !list_empty(&c->questions)) {
        client_tick_within(c, CLIENT_SWEEP_US);
    }
}

void client_tick_within(struct weir_client *c, uint64_t delay_us)
{
    uint64_t due = env_now_ns(c->env) + delay_us * 1000u;
    if (!c->closing && (c->tick_due_ns == 0 || due < c->tick_due_ns)) {
        c->tick_due_ns = due;
        env_timer_start(&c->tick, delay_us, on_tick);
    }
}

static void on_flush(struct env_defer *defer)
{
    struct weir_client *c = defer->data;
    complete_topic_reqs(&c->hopeless, WEIR_ENOTFOUND, 0);
    settle_topics(c);
    producer_flush(c);
    consumers_kick(c);
    offsets_kick(c);
    groups_kick(c);
}

void client_flush_soon(struct weir_client *c)
{
    c->flush.data = c;
    if (!c->closing) {
        env_defer(c->env, &c->flush, on_flush);
    }
}

/* --- Life --- */

static int seed_add(struct weir_client *c, const char *seed, struct error *err)
{
    struct config_address address;
    int rv = config_address_parse(seed, &address, err);
    if (rv == 0) {
        rv = broker_add(c, address.host, address.port, 0, 0);
        if (rv != 0) {
            (void)error_set(err, rv, "broker %s: %s", seed, error_name(rv));
        }
    }
    return rv;
}

static void client_release(struct weir_client *c)
{
    void (*cb)(void *data) = c->free_cb;
    void *data = c->free_data;
    for (unsigned i = 0; i < c->n_brokers; i++) {
        free(c->brokers[i]);
    }
    for (unsigned i = 0; i < c->n_topics; i++) {
        free(c->topics[i]->partitions);
        free(c->topics[i]);
    }
    free(c->secret);
    free(c->name);
    free(c->named.name);
    free(c);
    if (cb != NULL) {
        cb(data);
    }
}

static void on_closed_link(void *data)
{
    struct weir_client *c = data;
    if (--c->links_open == 0) {
        client_release(c);
    }
}

static void teardown(struct env_defer *defer)
{
    struct weir_client *c = defer->data;
    env_timer_close(&c->tick);
    groups_close(c);
    consumers_close(c);
    offsets_close(c);
    producer_close(c);
    for (unsigned i = 0; i < c->n_topics; i++) {
        complete_topic_reqs(&c->topics[i]->reqs, WEIR_ECLOSED, 0);
    }
    complete_topic_reqs(&c->hopeless, WEIR_ECLOSED, 0);
    c->links_open = 1; /* this function's own */
    for (unsigned i = 0; i < c->n_brokers; i++) {
        struct client_broker *b = c->brokers[i];
        env_timer_close(&b->redial);
        if (b->link != NULL) {
            c->links_open++;
            broker_link_close(b->link, on_closed_link, c);
            b->link = NULL;
        }
    }
    on_closed_link(c);
}

void weir_client_free(struct weir_client *c, void (*cb)(void *data), void *data)
{
    assert(!c->closing);
    c->closing = true;
    c->free_cb = cb;
    c->free_data = data;
    env_defer_cancel(&c->flush);
    c->teardown.data = c;
    env_defer(c->env, &c->teardown, teardown);
}

static void set_options(struct weir_client *c, const struct weir_client_options *options)
{
    c->options = *options;
    c->options.seeds = NULL;
    c->options.secret = c->options.name = c->options.producer_name = NULL;
    c->options.timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : TIMEOUT_MS_DEFAULT;
    c->options.inflight_bytes_max =
        options->inflight_bytes_max != 0 ? options->inflight_bytes_max : INFLIGHT_BYTES_DEFAULT;
    c->options.batch_bytes_max =
        options->batch_bytes_max != 0 ? options->batch_bytes_max : BATCH_BYTES_DEFAULT;
    c->options.inflight_batches_max = options->inflight_batches_max != 0
                                          ? options->inflight_batches_max
                                          : INFLIGHT_BATCHES_DEFAULT;
    if (c->options.inflight_batches_max > PRODUCER_BATCHES) {
        c->options.inflight_batches_max = PRODUCER_BATCHES; /* the log remembers so many */
    }
}

int weir_client_new(struct env *env, const struct weir_client_options *options,
                    struct weir_client **ret_client, struct error *err)
{
    if (options->n_seeds == 0 || options->n_seeds > CONFIG_NODES_MAX) {
        return error_set(err, WEIR_EINVAL, "a log client needs 1 to %d brokers, given %u",
                         CONFIG_NODES_MAX, options->n_seeds);
    }
    struct weir_client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for a log client");
    }
    c->env = env;
    c->sockets = options->sockets;
    set_options(c, options);
    list_init(&c->busy);
    list_init(&c->dirty);
    list_init(&c->idle);
    list_init(&c->consumers);
    list_init(&c->groups);
    list_init(&c->questions);
    list_init(&c->hopeless);
    c->secret = strdup(options->secret);
    c->name = strdup(options->name != NULL ? options->name : "client");
    c->named = (struct named){.id = -1, .wanted = true};
    while (c->named.owner == 0) {
        c->named.owner = env_random_u64(env);
    }
    if (options->producer_name != NULL) {
        c->named.name = strdup(options->producer_name);
    }
    if (c->secret == NULL || c->name == NULL ||
        (options->producer_name != NULL && c->named.name == NULL) ||
        env_timer_init(env, &c->tick) != 0) {
        free(c->secret);
        free(c->name);
        free(c->named.name);
        free(c);
        return error_set(err, WEIR_ENOMEM, "no memory for a log client");
    }
    c->tick.data = c;
    for (unsigned i = 0; i < options->n_seeds; i++) {
        int rv = seed_add(c, options->seeds[i], err);
        if (rv != 0) {
            weir_client_free(c, NULL, NULL);
            return rv;
        }
    }
    c->n_seeds = c->n_brokers;
    *ret_client = c;
    return 0;
}
