/* Where a partition begins and ends. Asked plainly, any replica answers what it knows; asked for a
 * linearizable answer, only the leader does, after a majority has confirmed that it still leads:
 * then the answer covers all that was acknowledged before the question. */
#include <stdlib.h>

#include "nodes/broker/broker_priv.h"

struct offsets_read {
    struct group_read req;
    struct conn *conn;
    struct replica *replica;
    uint64_t correlation;
    bool by_time;
    int64_t time_ms;
};

static void answer(struct conn *c, struct replica *r, uint64_t correlation, bool by_time,
                   int64_t time_ms)
{
    Weir__BrokerOffsets reply = WEIR__BROKER_OFFSETS__INIT;
    struct partition *p = group_partition(r->group);
    struct error why = {0};
    reply.start = partition_start_offset(p).v;
    reply.high_watermark = partition_high_watermark(p).v;
    reply.end = partition_end_offset(p).v;
    reply.leader = group_is_leader(r->group);
    if (by_time) {
        struct log_offset at;
        int rv = partition_offset_for_time(p, time_ms, &at, &why);
        if (rv != 0) {
            broker_conn_reply_error(c, correlation, rv == WEIR_ECORRUPT ? WEIR_EUNAVAILABLE : rv,
                                    why.text, r);
            return;
        }
        reply.by_time = at.v;
    }
    broker_conn_reply(c, BROKER_OFFSETS, correlation, &reply.base);
}

static void on_read(struct group_read *req, int status)
{
    struct offsets_read *read = req->data;
    struct conn *c = read->conn;
    struct replica *r = read->replica;
    c->n_reads--;
    if (status == 0 && r->group == NULL) {
        status = WEIR_EUNAVAILABLE; /* it is being closed */
    }
    if (status == 0) {
        answer(c, r, read->correlation, read->by_time, read->time_ms);
    } else {
        broker_conn_reply_error(c, read->correlation, status, error_name(status), r);
    }
    free(read);
    broker_conn_settle(c);
}

static int begin_read(struct conn *c, struct replica *r, uint64_t correlation,
                      const Weir__BrokerOffsetsRequest *m)
{
    if (c->n_reads == BROKER_READS_MAX) {
        return WEIR_EBUSY;
    }
    struct offsets_read *read = malloc(sizeof(*read));
    if (read == NULL) {
        return WEIR_ENOMEM;
    }
    *read = (struct offsets_read){.req = {.data = read},
                                  .conn = c,
                                  .replica = r,
                                  .correlation = correlation,
                                  .by_time = m->by_time,
                                  .time_ms = m->time_ms};
    int rv = group_read_index(r->group, &read->req, on_read);
    if (rv != 0) {
        free(read);
        return rv;
    }
    c->n_reads++;
    return 0;
}

int broker_handle_offsets(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                          struct error *err)
{
    const Weir__BrokerOffsetsRequest *m = (const Weir__BrokerOffsetsRequest *)head;
    struct replica *r = broker_replica(c->broker, m->topic, m->partition);
    (void)err;
    if (r == NULL || r->group == NULL) {
        broker_conn_reply_error(c, frame->correlation,
                                r == NULL ? WEIR_ENOTFOUND : WEIR_EUNAVAILABLE,
                                r == NULL ? "no such topic or partition" : replica_trouble(r), r);
        return 0;
    }
    if (!m->linearizable) {
        answer(c, r, frame->correlation, m->by_time, m->time_ms);
        return 0;
    }
    int rv = begin_read(c, r, frame->correlation, m);
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, error_name(rv), r);
    }
    return 0;
}
