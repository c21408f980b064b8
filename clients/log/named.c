/* Named producers: id and epoch come from the coordinator of the name, the leader of its partition
 * of topic `groups`. */
#include <string.h>

#include "base/logging.h"
#include "base/murmur2.h"
#include "clients/log/client_priv.h"

#define ASK_AGAIN_US 20000u

static void pump_all(struct weir_client *c)
{
    LIST_FOREACH_SAFE(it, nx, &c->busy)
    {
        producer_pump(list_entry(it, struct client_partition, busy_link));
    }
}

static void on_producer(struct broker_request *req, int status, const struct frame *reply,
                        const ProtobufCMessage *head)
{
    struct weir_client *c = req->data;
    struct named *n = &c->named;
    (void)reply;
    if (c->closing) {
        return;
    }
    if (status == WEIR_EFENCED) {
        n->fenced = true;
        pump_all(c);
        return;
    }
    if (status != 0) {
        /* Also when the outcome is unknown: a further epoch does no harm. */
        n->ask_at_ns = env_now_ns(c->env) + ASK_AGAIN_US * 1000u;
        client_refresh(c);
        client_tick_within(c, ASK_AGAIN_US);
        return;
    }
    const Weir__BrokerProducer *m = (const Weir__BrokerProducer *)head;
    n->id = m->id;
    n->epoch = m->epoch;
    n->wanted = false;
    log_debug("producer_named", "client=%s producer=%s id=%lld epoch=%u", c->name, n->name,
              (long long)n->id, n->epoch);
    pump_all(c);
}

static struct client_broker *coordinator(struct weir_client *c)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        const struct client_topic *t = c->topics[i];
        if (strcmp(t->name, CONFIG_TOPIC_GROUPS) == 0 && t->n_partitions > 0) {
            uint32_t k = murmur2_partition(c->named.name, strlen(c->named.name), t->n_partitions);
            return client_leader_of(c, &t->partitions[k]);
        }
    }
    return NULL;
}

void named_ask(struct weir_client *c)
{
    struct named *n = &c->named;
    Weir__BrokerInitProducer m = WEIR__BROKER_INIT_PRODUCER__INIT;
    uint64_t now = env_now_ns(c->env);
    if (n->name == NULL || !n->wanted || n->fenced || n->request.active || c->closing ||
        now < n->ask_at_ns) {
        return;
    }
    struct client_broker *b = coordinator(c);
    n->ask_at_ns = now + ASK_AGAIN_US * 1000u;
    client_tick_within(c, ASK_AGAIN_US);
    if (b == NULL || !b->ready) {
        return;
    }
    m.name = n->name;
    m.owner = n->owner;
    m.again = n->id >= 0;
    n->request.data = c;
    n->broker = b;
    (void)broker_link_request(b->link, BROKER_INIT_PRODUCER, &m.base, NULL, 0, BROKER_PRODUCER,
                              &n->request, on_producer); /* refused now: at the next tick */
}

bool named_is_fenced(const struct weir_client *c, int16_t epoch)
{
    const struct named *n = &c->named;
    return n->name == NULL || (!n->wanted && epoch >= (int32_t)n->epoch);
}
