/* Consuming: one outstanding fetch per consumer, from the first seed while it can serve, else from
 * the leader, else from anybody.
 *
 * Where the log ends is asked from the leader: a replica that has just started does not know its
 * commit mark yet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "clients/log/client_priv.h"

#define FETCH_BYTES    (1u << 20)
#define FETCH_WAIT_MS  2000u
#define SHUN_NS        1000000000u /* a broker that refused is not asked again for so long */
#define SHUN_LEADER_NS 100000000u  /* the leader less long: soon it, or another one, can answer */
#define SHUNNED_MAX    8
#define RECORDS_CHUNK  256

struct weir_consumer {
    struct weir_client *client;
    struct weir_consumer_events events;
    struct list link;
    char topic[CONFIG_NAME_MAX];
    uint32_t partition;
    int64_t next;   /* offset to be delivered next; negative: WEIR_OFFSET_x, not resolved yet */
    int64_t asked;  /* `next` when the bounds were asked for: fetches go on meanwhile */
    int64_t target; /* the leader's high watermark at the start; -1: not known yet */
    bool caught_up;
    bool paused, closed, in_callback;
    struct broker_request fetch, bounds;
    struct client_broker *fetching_from, *asking;
    struct shunned {
        const struct client_broker *broker;
        uint64_t until_ns;
    } shunned[SHUNNED_MAX];
};

static void consumer_step(struct weir_consumer *c);

static void consumer_release(struct weir_consumer *c)
{
    list_remove(&c->link);
    if (c->fetch.active && c->fetching_from->link != NULL) {
        broker_link_cancel(c->fetching_from->link, &c->fetch);
    }
    if (c->bounds.active && c->asking->link != NULL) {
        broker_link_cancel(c->asking->link, &c->bounds);
    }
    free(c);
}

/* Calls of events.* are bracketed by enter and leave; after leave returned false the consumer is
 * gone. */
static void enter(struct weir_consumer *c)
{
    c->in_callback = true;
}

static bool leave(struct weir_consumer *c)
{
    c->in_callback = false;
    if (c->closed) {
        consumer_release(c);
        return false;
    }
    return true;
}

/* The consumer stays, silent, until it is closed. */
static void consumer_fail(struct weir_consumer *c, int status, const char *text)
{
    c->paused = true;
    c->next = WEIR_OFFSET_END - 1; /* no resume revives it */
    enter(c);
    c->events.failed(c->events.data, c, status, text);
    (void)leave(c);
}

static bool failed(const struct weir_consumer *c)
{
    return c->next < WEIR_OFFSET_END;
}

/* False: the consumer is gone. */
static bool check_caught_up(struct weir_consumer *c)
{
    if (c->caught_up || c->target < 0 || c->next < c->target) {
        return true;
    }
    c->caught_up = true;
    if (c->events.caught_up == NULL) {
        return true;
    }
    enter(c);
    c->events.caught_up(c->events.data, c, c->target);
    return leave(c);
}

/* --- Where the log begins and ends --- */

static void on_bounds(struct broker_request *req, int status, const struct frame *reply,
                      const ProtobufCMessage *head)
{
    struct weir_consumer *c = req->data;
    const Weir__BrokerOffsets *m = (const Weir__BrokerOffsets *)head;
    (void)reply;
    if (failed(c) || status != 0 || !m->leader) {
        client_tick_within(c->client, CLIENT_SWEEP_US);
        return; /* asked again at the next kick */
    }
    c->target = m->high_watermark;
    if (c->next == WEIR_OFFSET_BEGIN) {
        c->next = m->start;
    } else if (c->next == WEIR_OFFSET_END) {
        c->next = m->high_watermark;
    } else if (c->asked > m->end || c->next < m->start) {
        char text[160];
        (void)snprintf(
            text, sizeof(text), "offset %lld of %s-%u is not in the log, which holds %lld to %lld",
            (long long)c->next, c->topic, c->partition, (long long)m->start, (long long)m->end);
        consumer_fail(c, WEIR_ERANGE, text);
        return;
    }
    if (check_caught_up(c)) {
        consumer_step(c);
    }
}

static void ask_bounds(struct weir_consumer *c, const struct client_partition *p)
{
    struct client_broker *leader = client_leader_of(c->client, p);
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    if (leader == NULL || !leader->ready) {
        client_tick_within(c->client, CLIENT_SWEEP_US);
        return;
    }
    m.topic = c->topic;
    m.partition = c->partition;
    m.linearizable = true; /* a leader that was deposed may lack what has been read already */
    c->bounds.data = c;
    c->asked = c->next;
    c->asking = leader;
    if (broker_link_request(leader->link, BROKER_OFFSETS_REQUEST, &m.base, NULL, 0, BROKER_OFFSETS,
                            &c->bounds, on_bounds) != 0) {
        client_tick_within(c->client, CLIENT_SWEEP_US);
    }
}

/* --- Fetching --- */

/* Hands over the records of one batch from c->next on. 0: all; 1: the consumer paused; 2: it is
 * gone; negative: corrupt. */
static int deliver_batch(struct weir_consumer *c, const uint8_t *data, size_t n,
                         int64_t high_watermark, struct error *err)
{
    struct batch_record chunk[RECORDS_CHUNK];
    struct batch_iter it;
    int rv = batch_iter_init(&it, data, n, err);
    if (rv != 0) {
        return rv;
    }
    int64_t end = it.info.base_offset.v + it.info.last_offset_delta + 1;
    for (bool more = true; more;) {
        unsigned k = 0;
        while (k < RECORDS_CHUNK && (rv = batch_iter_next(&it, &chunk[k], err)) == 1) {
            k += chunk[k].offset.v >= c->next;
        }
        more = rv == 1;
        if (rv < 0) {
            return rv;
        }
        if (k > 0) {
            c->next = chunk[k - 1].offset.v + 1;
            enter(c);
            c->events.records(c->events.data, c, chunk, k, high_watermark);
            if (!leave(c)) {
                return 2;
            }
            if (c->paused) {
                return 1;
            }
        }
    }
    if (c->next < end) {
        c->next = end;
    }
    return 0;
}

/* False: the consumer is gone or has failed. */
static bool deliver(struct weir_consumer *c, const struct frame *reply, int64_t high_watermark)
{
    const uint8_t *at = reply->attachment;
    size_t left = reply->attachment_len;
    struct error err = {0};
    while (left > 0) {
        struct batch_info info;
        int rv = batch_parse(at, left, &info, &err);
        if (rv == 0) {
            rv = deliver_batch(c, at, info.size, high_watermark, &err);
        }
        if (rv == 2) {
            return false;
        }
        if (rv == 1) {
            return true;
        }
        if (rv < 0) {
            consumer_fail(c, rv, err.text);
            return false;
        }
        at += info.size;
        left -= info.size;
    }
    return true;
}

static void shun(struct weir_consumer *c, const struct client_broker *broker)
{
    const struct client_topic *t = client_topic_get(c->client, c->topic);
    bool leader = t != NULL && c->partition < t->n_partitions &&
                  t->partitions[c->partition].leader_id == broker->node_id;
    struct shunned *place = &c->shunned[0]; /* its own, or that which is over first */
    for (unsigned i = 1; i < SHUNNED_MAX && place->broker != broker; i++) {
        bool better = c->shunned[i].broker == broker || c->shunned[i].until_ns < place->until_ns;
        place = better ? &c->shunned[i] : place;
    }
    place->broker = broker;
    place->until_ns = env_now_ns(c->client->env) + (leader ? SHUN_LEADER_NS : SHUN_NS);
}

static bool is_shunned(const struct weir_consumer *c, const struct client_broker *b,
                       uint64_t now_ns)
{
    for (unsigned i = 0; i < SHUNNED_MAX; i++) {
        if (c->shunned[i].broker == b) {
            return now_ns < c->shunned[i].until_ns;
        }
    }
    return false;
}

static void on_fetched(struct broker_request *req, int status, const struct frame *reply,
                       const ProtobufCMessage *head)
{
    struct weir_consumer *c = req->data;
    if (failed(c)) {
        return;
    }
    if (status == WEIR_ERANGE) {
        /* One who believes to lead may be wrong: whoever does lead decides (on_bounds). */
        shun(c, c->fetching_from);
        c->target = -1;
        client_tick_within(c->client, CLIENT_SWEEP_US);
        client_flush_soon(c->client);
        return;
    }
    if (status == WEIR_ENOTFOUND) {
        consumer_fail(c, status, ((const Weir__BrokerError *)head)->text);
        return;
    }
    if (status != 0) {
        if (head != NULL) {
            shun(c, c->fetching_from);
        }
        client_tick_within(c->client, CLIENT_SWEEP_US);
        client_flush_soon(c->client); /* elsewhere, at the end of this turn */
        return;
    }
    if (c->paused) {
        return; /* fetched again when it resumes */
    }
    const Weir__BrokerFetched *m = (const Weir__BrokerFetched *)head;
    if (!deliver(c, reply, m->high_watermark) || !check_caught_up(c)) {
        return;
    }
    consumer_step(c);
}

static bool holds(const struct client_partition *p, uint32_t node_id)
{
    for (unsigned i = 0; i < p->n_replicas; i++) {
        if (p->replicas[i] == node_id) {
            return true;
        }
    }
    return p->n_replicas == 0;
}

static bool usable(const struct weir_consumer *c, const struct client_partition *p,
                   const struct client_broker *b, uint64_t now_ns)
{
    return b->ready && b->shard == p->shard && !is_shunned(c, b, now_ns) && holds(p, b->node_id);
}

/* The first seed's node, the leader, anybody. */
static struct client_broker *choose(struct weir_consumer *c, const struct client_partition *p)
{
    struct weir_client *client = c->client;
    const struct client_broker *first = client->brokers[0];
    uint64_t now = env_now_ns(client->env);
    struct client_broker *any = NULL;
    client_use(client, p);
    for (unsigned i = 0; i < client->n_brokers; i++) {
        struct client_broker *b = client->brokers[i];
        if (!usable(c, p, b, now)) {
            continue;
        }
        if (b == first || b->node_id == first->node_id) {
            return b;
        }
        any = any == NULL || b->node_id == p->leader_id ? b : any;
    }
    return any;
}

static void consumer_step(struct weir_consumer *c)
{
    struct weir_client *client = c->client;
    if (c->paused || c->closed || c->in_callback || client->closing) {
        return;
    }
    struct client_topic *t = client_topic_get(client, c->topic);
    if (t == NULL || (t->n_partitions == 0 && client->informed) ||
        (t->n_partitions != 0 && c->partition >= t->n_partitions)) {
        consumer_fail(c, WEIR_ENOTFOUND, "no such topic or partition");
        return;
    }
    if (t->n_partitions == 0) {
        return; /* kicked when the metadata comes */
    }
    const struct client_partition *p = &t->partitions[c->partition];
    if (c->target < 0 && !c->bounds.active) {
        ask_bounds(c, p);
    }
    if (c->next < 0 || c->fetch.active) {
        return;
    }
    struct client_broker *broker = choose(c, p);
    Weir__BrokerFetch m = WEIR__BROKER_FETCH__INIT;
    m.topic = c->topic;
    m.partition = c->partition;
    m.offset = c->next;
    m.bytes_max = FETCH_BYTES;
    m.wait_ms_max = FETCH_WAIT_MS;
    c->fetch.data = c;
    c->fetching_from = broker;
    if (broker == NULL || broker_link_request(broker->link, BROKER_FETCH, &m.base, NULL, 0,
                                              BROKER_FETCHED, &c->fetch, on_fetched) != 0) {
        client_tick_within(client, CLIENT_SWEEP_US);
    }
}

/* --- The caller's side --- */

int weir_consume(struct weir_client *client, const char *topic, uint32_t partition, int64_t from,
                 const struct weir_consumer_events *events, struct weir_consumer **ret_consumer,
                 struct error *err)
{
    struct weir_consumer *c = NULL;
    if (from < WEIR_OFFSET_END || strlen(topic) >= sizeof(c->topic)) {
        return error_set(err, WEIR_EINVAL, "consume %s-%u from %lld", topic, partition,
                         (long long)from);
    }
    c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for a consumer");
    }
    c->client = client;
    c->events = *events;
    (void)snprintf(c->topic, sizeof(c->topic), "%s", topic);
    c->partition = partition;
    c->next = from;
    c->target = -1;
    list_push_back(&client->consumers, &c->link);
    client_flush_soon(client);
    *ret_consumer = c;
    return 0;
}

void weir_consumer_pause(struct weir_consumer *c)
{
    c->paused = true;
}

void weir_consumer_resume(struct weir_consumer *c)
{
    if (!failed(c)) {
        c->paused = false;
        client_flush_soon(c->client);
    }
}

void weir_consumer_close(struct weir_consumer *c)
{
    c->closed = true;
    if (!c->in_callback) {
        consumer_release(c);
    }
}

/* A step may close any consumer, so the walk begins anew behind those that were already looked at:
 * each goes to the end once. */
void consumers_kick(struct weir_client *client)
{
    struct list todo;
    list_init(&todo);
    list_move_all(&todo, &client->consumers);
    for (struct list *el = list_pop(&todo); el != NULL; el = list_pop(&todo)) {
        list_push_back(&client->consumers, el);
        consumer_step(list_entry(el, struct weir_consumer, link));
    }
}

void consumers_close(struct weir_client *client)
{
    for (struct list *el = list_pop(&client->consumers); el != NULL;
         el = list_pop(&client->consumers)) {
        consumer_release(list_entry(el, struct weir_consumer, link));
    }
}
