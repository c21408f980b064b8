/* Named producers: the coordinator of a name gives its id out with the next epoch, by a record of
 * topic `groups`. The leaders of the partitions refuse older epochs: for good where the newer one
 * has written (log/producers.h), elsewhere as soon as their node has that record. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/logging.h"
#include "nodes/broker/coordinator_priv.h"

struct init {
    struct list link; /* coordinator.inits: one at a time for a name */
    struct group_propose req;
    struct conn *conn;
    struct replica *replica;
    uint64_t correlation;
    struct view_producer next; /* the incarnation it makes */
};

static void on_committed(struct group_propose *req, int status)
{
    struct init *init = req->data;
    struct conn *c = init->conn;
    c->n_produces--;
    list_remove(&init->link);
    if (status == 0) {
        Weir__BrokerProducer m = WEIR__BROKER_PRODUCER__INIT;
        m.id = init->next.id;
        m.epoch = init->next.epoch;
        log_info("producer_named", "name=\"%s\" id=%lld epoch=%u client=\"%s\"", init->next.name,
                 (long long)init->next.id, init->next.epoch, c->name);
        broker_conn_reply(c, BROKER_PRODUCER, init->correlation, &m.base);
    } else {
        broker_conn_reply_error(c, init->correlation, status, error_name(status), init->replica);
    }
    free(init);
    broker_conn_settle(c);
}

static bool is_pending(const struct coordinator *co, const char *name)
{
    LIST_FOREACH(it, &co->inits)
    {
        if (strcmp(list_entry(it, struct init, link)->next.name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void next_incarnation(struct init *init, struct env *env, const struct view_producer *known)
{
    bool fresh = known == NULL || known->epoch >= INT16_MAX;
    init->next.id = fresh ? (int64_t)(env_random_u64(env) >> 1) : known->id;
    init->next.epoch = fresh ? 0 : known->epoch + 1;
}

static int propose(struct conn *c, struct init *init)
{
    struct broker *b = c->broker;
    struct bytes batch;
    struct batch_builder builder;
    int64_t now_ms = env_wall_ms(b->env);
    bytes_init(&batch, 4096);
    batch_begin(&builder, &batch, now_ms);
    group_put_producer(&builder, now_ms, &init->next);
    int rv = batch_finish(&builder);
    if (rv > 0) {
        rv = group_propose(init->replica->group, &init->req, batch.data, batch.len, on_committed);
    }
    bytes_close(&batch);
    return rv;
}

static int begin(struct conn *c, uint64_t correlation, const Weir__BrokerInitProducer *m,
                 struct replica **ret_replica)
{
    const char *name = m->name;
    struct coordinator *co = c->broker->coordinator;
    const struct view_producer *known = NULL;
    *ret_replica = NULL;
    if (!group_name_valid(name)) {
        return WEIR_EINVAL;
    }
    int rv = coordinator_producer(co, name, ret_replica, &known);
    if (rv != 0) {
        return rv;
    }
    if (is_pending(co, name)) {
        return WEIR_EBUSY;
    }
    /* One that was fenced without having heard of it must not fence its successor in turn. */
    if (m->again && known != NULL && known->owner != 0 && known->owner != m->owner &&
        !fault_on(FAULT_NAME_RETAKEN)) {
        return WEIR_EFENCED;
    }
    if (known == NULL && part_of(co, name)->view.n_producers >= GROUP_VIEW_GROUPS_MAX) {
        return WEIR_ETOOBIG;
    }
    struct init *init = calloc(1, sizeof(*init));
    if (init == NULL) {
        return WEIR_ENOMEM;
    }
    init->req.data = init;
    init->conn = c;
    init->replica = *ret_replica;
    init->correlation = correlation;
    memcpy(init->next.name, name, strlen(name) + 1);
    init->next.owner = m->owner;
    next_incarnation(init, c->broker->env, known);
    rv = propose(c, init);
    if (rv != 0) {
        free(init);
        return rv;
    }
    list_push_back(&co->inits, &init->link);
    c->n_produces++;
    return 0;
}

int broker_handle_init_producer(struct conn *c, const struct frame *frame,
                                const ProtobufCMessage *head, struct error *err)
{
    const Weir__BrokerInitProducer *m = (const Weir__BrokerInitProducer *)head;
    struct replica *r;
    (void)err;
    int rv = begin(c, frame->correlation, m, &r);
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, error_name(rv), r);
    }
    return 0;
}
