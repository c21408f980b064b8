/* Questions about where a partition begins and ends. Each goes to one broker at a time and, like a
 * produce that was refused, is asked again until its time is up: nothing is changed by asking. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "clients/log/client_priv.h"

#define RETRY_NS 20000000u /* between two attempts */

struct question {
    struct weir_client *client;
    struct client_topic *topic;
    struct client_broker *asking;
    struct broker_request request;
    uint64_t deadline_ns, retry_ns;
    uint32_t partition;
    bool linearizable;
};
static_assert(sizeof(struct question) <= sizeof(((struct weir_offsets_req *)0)->priv), "grow priv");

static struct question *question_of(struct weir_offsets_req *req)
{
    return (struct question *)(void *)req->priv;
}

static void complete(struct weir_offsets_req *req, int status)
{
    struct question *q = question_of(req);
    list_remove(&req->link);
    if (q->request.active && q->asking->link != NULL) {
        broker_link_cancel(q->asking->link, &q->request);
    }
    req->cb(req, status);
}

static void on_offsets(struct broker_request *request, int status, const struct frame *reply,
                       const ProtobufCMessage *head)
{
    struct weir_offsets_req *req = request->data;
    struct question *q = question_of(req);
    const Weir__BrokerOffsets *m = (const Weir__BrokerOffsets *)head;
    (void)reply;
    if (status == 0) {
        req->start = m->start;
        req->high_watermark = m->high_watermark;
        req->end = m->end;
        complete(req, 0);
    } else if (status == WEIR_ENOTFOUND) {
        complete(req, status);
    } else {
        q->retry_ns = env_now_ns(q->client->env) + RETRY_NS;
        client_refresh(q->client);
        client_tick_within(q->client, RETRY_NS / 1000u);
    }
}

static struct client_broker *choose(const struct question *q)
{
    struct weir_client *c = q->client;
    const struct client_partition *p = &q->topic->partitions[q->partition];
    struct client_broker *leader = client_leader_of(c, p);
    if (leader != NULL && leader->ready) {
        return leader;
    }
    for (unsigned i = 0; i < c->n_brokers && !q->linearizable; i++) {
        if (c->brokers[i]->ready && c->brokers[i]->shard == p->shard) {
            return c->brokers[i];
        }
    }
    return NULL;
}

static void ask(struct weir_offsets_req *req)
{
    struct question *q = question_of(req);
    struct client_broker *broker = choose(q);
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    m.topic = q->topic->name;
    m.partition = q->partition;
    m.linearizable = q->linearizable;
    q->request.data = req;
    q->asking = broker;
    if (broker == NULL || broker_link_request(broker->link, BROKER_OFFSETS_REQUEST, &m.base, NULL,
                                              0, BROKER_OFFSETS, &q->request, on_offsets) != 0) {
        client_tick_within(q->client, CLIENT_SWEEP_US);
    }
}

static void question_step(struct weir_offsets_req *req)
{
    struct question *q = question_of(req);
    uint64_t now_ns = env_now_ns(q->client->env);
    const struct client_topic *t = q->topic;
    if ((t->n_partitions == 0 && q->client->informed) ||
        (t->n_partitions != 0 && q->partition >= t->n_partitions)) {
        complete(req, WEIR_ENOTFOUND);
    } else if (now_ns >= q->deadline_ns) {
        complete(req, WEIR_ETIMEOUT);
    } else if (!q->request.active && t->n_partitions != 0 && now_ns >= q->retry_ns) {
        ask(req);
    } else {
        client_tick_within(q->client, CLIENT_SWEEP_US);
    }
}

int weir_offsets(struct weir_client *client, const char *topic, uint32_t partition,
                 bool linearizable, struct weir_offsets_req *req, weir_offsets_cb cb)
{
    struct question *q = question_of(req);
    if (strlen(topic) >= CONFIG_NAME_MAX) {
        return WEIR_EINVAL;
    }
    struct client_topic *t = client_topic_get(client, topic);
    if (t == NULL) {
        return WEIR_ENOMEM;
    }
    *q = (struct question){
        .client = client,
        .topic = t,
        .partition = partition,
        .linearizable = linearizable,
        .deadline_ns = env_now_ns(client->env) + (uint64_t)client->options.timeout_ms * 1000000u,
    };
    req->cb = cb;
    list_push_back(&client->questions, &req->link);
    client_flush_soon(client);
    return 0;
}

/* A callback may ask anew or free its request: each one is taken off before it is looked at. */
void offsets_kick(struct weir_client *c)
{
    struct list todo;
    list_init(&todo);
    list_move_all(&todo, &c->questions);
    for (struct list *el = list_pop(&todo); el != NULL; el = list_pop(&todo)) {
        list_push_back(&c->questions, el);
        if (!c->closing) {
            question_step(list_entry(el, struct weir_offsets_req, link));
        }
    }
}

void offsets_close(struct weir_client *c)
{
    while (!list_empty(&c->questions)) {
        complete(list_entry(c->questions.next, struct weir_offsets_req, link), WEIR_ECLOSED);
    }
}
