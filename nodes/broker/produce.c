/* Batches from connections to groups. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/batch.h"
#include "nodes/broker/broker_priv.h"
#include "nodes/broker/group_view.h"

#define ATTRIBUTE_APPEND_TIME 8

struct produce {
    struct group_propose req;
    struct conn *conn;
    struct replica *replica;
    uint64_t correlation;
    uint64_t started_ns;
    uint32_t bytes, records;
};

static void refuse(struct conn *c, const struct replica *r, const struct frame *frame, int code,
                   const char *text)
{
    metric_add(c->broker->metrics.refused, 1);
    broker_conn_reply_error(c, frame->correlation, code, text, r);
}

static void on_committed(struct group_propose *req, int status)
{
    struct produce *p = req->data;
    struct conn *c = p->conn;
    struct broker *b = c->broker;
    c->n_produces--;
    c->produce_bytes -= p->bytes;
    b->inflight_bytes -= p->bytes;
    if (status == 0) {
        Weir__BrokerProduced m = WEIR__BROKER_PRODUCED__INIT;
        m.base_offset = req->base.v;
        metric_add(b->metrics.repeated, req->repeated);
        metric_add(b->metrics.records, req->repeated ? 0 : p->records);
        metric_add(b->metrics.bytes, req->repeated ? 0 : p->bytes);
        metric_observe_us(b->metrics.produce_us, (env_now_ns(b->env) - p->started_ns) / 1000u);
        broker_conn_reply(c, BROKER_PRODUCED, p->correlation, &m.base);
    } else {
        broker_conn_reply_error(c, p->correlation, status, error_name(status), p->replica);
    }
    free(p);
    broker_conn_settle(c);
}

/* What a client may not write: what only brokers or later versions write. */
static int check(const struct conn *c, const struct frame *frame, struct batch_info *ret_info,
                 struct error *err)
{
    uint32_t max = c->broker->config->log_batch_kib_max << 10;
    if (frame->attachment_len > max) {
        return error_set(err, WEIR_ETOOBIG, "batch of %u bytes, limit %u", frame->attachment_len,
                         max);
    }
    int rv = batch_check(frame->attachment, frame->attachment_len, ret_info, err);
    if (rv != 0) {
        return rv;
    }
    if (ret_info->size != frame->attachment_len) {
        return error_set(err, WEIR_EINVAL, "%u bytes behind a batch of %u",
                         frame->attachment_len - ret_info->size, ret_info->size);
    }
    if (ret_info->record_count != batch_offsets(ret_info)) { /* only compaction takes some away */
        return error_set(err, WEIR_EINVAL, "%u records, last offset delta %d",
                         ret_info->record_count, ret_info->last_offset_delta);
    }
    if (ret_info->producer_id >= 0 &&
        (ret_info->producer_epoch < 0 || ret_info->base_sequence < 0)) {
        return error_set(err, WEIR_EINVAL, "producer %lld with epoch %d and sequence %d",
                         (long long)ret_info->producer_id, ret_info->producer_epoch,
                         ret_info->base_sequence);
    }
    if ((ret_info->attributes & ~ATTRIBUTE_APPEND_TIME) != 0) {
        return error_set(err, WEIR_EINVAL,
                         "batch attributes %#x: compression, transactions and control batches are "
                         "not taken",
                         ret_info->attributes);
    }
    return 0;
}

/* By what this node has seen of topic `groups`, in whatever shard. */
static bool is_fenced(const struct broker *b, const char *name, const struct batch_info *info)
{
    int64_t id = 0;
    uint32_t epoch = 0;
    if (!group_name_valid(name)) {
        return false;
    }
    if (b->hub != NULL) {
        return hub_producer_known(b->hub, name, &id, &epoch) && id == info->producer_id &&
               (int32_t)epoch > info->producer_epoch;
    }
    const struct view_producer *known = coordinator_known_producer(b->coordinator, name);
    return known != NULL && known->id == info->producer_id &&
           (int32_t)known->epoch > info->producer_epoch;
}

/* --- A batch whose predecessor is not here --- */

/* A leader that was replaced and has not heard of it lacks what the next one has stored since. The
 * client takes the answer for the end of its sequence, so it is given by who leads: a majority has
 * confirmed that after the question. */
struct misplaced {
    struct group_read req;
    struct conn *conn;
    struct replica *replica;
    uint64_t correlation;
};

static void on_confirmed(struct group_read *req, int status)
{
    struct misplaced *m = req->data;
    struct conn *c = m->conn;
    c->n_reads--;
    status = status == 0 ? WEIR_ESEQUENCE : status;
    metric_add(c->broker->metrics.refused, 1);
    broker_conn_reply_error(c, m->correlation, status, error_name(status), m->replica);
    free(m);
    broker_conn_settle(c);
}

/* 0: it is answered later. */
static int confirm_misplaced(struct conn *c, struct replica *r, uint64_t correlation)
{
    if (c->n_reads == BROKER_READS_MAX) {
        return WEIR_EBUSY;
    }
    struct misplaced *m = malloc(sizeof(*m));
    if (m == NULL) {
        return WEIR_EBUSY;
    }
    *m =
        (struct misplaced){.req = {.data = m}, .conn = c, .replica = r, .correlation = correlation};
    int rv = group_read_index(r->group, &m->req, on_confirmed);
    if (rv != 0) {
        free(m);
        return rv;
    }
    c->n_reads++;
    return 0;
}

int broker_handle_produce(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                          struct error *err)
{
    const Weir__BrokerProduce *m = (const Weir__BrokerProduce *)head;
    struct broker *b = c->broker;
    struct replica *r = broker_replica(b, m->topic, m->partition);
    struct batch_info info;
    struct error why = {0};
    (void)err;
    if (r == NULL) {
        broker_conn_reply_error(c, frame->correlation, WEIR_ENOTFOUND, "no such topic or partition",
                                NULL);
        return 0;
    }
    if (strcmp(r->topic->name, CONFIG_TOPIC_GROUPS) == 0) {
        broker_conn_reply_error(c, frame->correlation, WEIR_EINVAL,
                                "topic groups is written by brokers only", NULL);
        return 0;
    }
    if (r->group == NULL || r->failed[0] != '\0') {
        refuse(c, r, frame, WEIR_EUNAVAILABLE, replica_trouble(r));
        return 0;
    }
    if (!group_is_leader(r->group)) {
        refuse(c, r, frame, WEIR_ENOTLEADER, error_name(WEIR_ENOTLEADER));
        return 0;
    }
    int rv = check(c, frame, &info, &why);
    if (rv != 0) {
        metric_add(b->metrics.invalid, 1);
        log_warn("batch_invalid", "peer=%s name=\"%s\" topic=%s partition=%u reason=\"%s\"",
                 c->peer, c->name, r->topic->name, r->partition, why.text);
        broker_conn_reply_error(c, frame->correlation, rv, why.text, NULL);
        return 0;
    }
    if (m->producer[0] != '\0' && is_fenced(b, m->producer, &info)) {
        refuse(c, r, frame, WEIR_EFENCED, "a newer incarnation of this producer has begun");
        return 0;
    }
    if (b->inflight_bytes + info.size > b->inflight_bytes_max) {
        refuse(c, r, frame, WEIR_EBUSY, "this node has too much in flight");
        return 0;
    }
    struct produce *p = malloc(sizeof(*p));
    if (p == NULL) {
        refuse(c, r, frame, WEIR_EBUSY, "out of memory");
        return 0;
    }
    p->req.data = p;
    p->req.age_ms = m->age_ms;
    p->conn = c;
    p->replica = r;
    p->correlation = frame->correlation;
    p->started_ns = env_now_ns(b->env);
    p->bytes = info.size;
    p->records = info.record_count;
    rv = group_propose(r->group, &p->req, frame->attachment, info.size, on_committed);
    if (rv != 0) {
        free(p);
        rv = rv == WEIR_ESEQUENCE ? confirm_misplaced(c, r, frame->correlation) : rv;
        rv = rv == WEIR_ENOSPC ? room_refusal(r) : rv;
        if (rv != 0) {
            refuse(c, r, frame, rv, error_name(rv));
        }
        return 0;
    }
    c->n_produces++;
    c->produce_bytes += info.size;
    b->inflight_bytes += info.size;
    return 0;
}
