/* Reads, from this node's replica up to its commit mark. A read beyond it waits: for a commit, for
 * its deadline, or for its connection to drain what it was already given. */
#include <stdlib.h>

#include "nodes/broker/broker_priv.h"

static const char behind_text[] = "this replica is behind, or hears no leader";

static void fetch_release(struct fetch *f)
{
    list_remove(&f->conn_link);
    list_remove(&f->replica_link);
    f->conn->n_fetches--;
    free(f);
}

static void put_marks(const struct replica *r, Weir__BrokerFetched *m)
{
    m->high_watermark = partition_high_watermark(group_partition(r->group)).v;
    m->start_offset = partition_start_offset(group_partition(r->group)).v;
}

/* The records go from the partition's memory straight into the connection's output. */
static void answer(struct conn *c, struct replica *r, uint64_t correlation, int64_t offset,
                   uint32_t bytes_max)
{
    Weir__BrokerFetched m = WEIR__BROKER_FETCHED__INIT;
    struct bytes *out = broker_conn_out(c);
    struct error err = {0};
    struct log_offset next;
    if (r->group == NULL) {
        broker_conn_reply_error(c, correlation, WEIR_EUNAVAILABLE, replica_trouble(r), NULL);
        return;
    }
    put_marks(r, &m);
    size_t start = message_begin(out, &m.base);
    size_t head_len = bytes_error(out) == 0 ? out->len - start - FRAME_HEADER_SIZE : 0;
    size_t before = out->len;
    int rv = offset < m.high_watermark
                 ? partition_fetch(group_partition(r->group), LOG_OFFSET(offset), bytes_max, out,
                                   &next, &err)
                 : 0;
    if (rv != 0 && bytes_error(out) == 0) {
        out->len = start;
        /* Damaged here: another replica has it. */
        broker_conn_reply_error(c, correlation, rv == WEIR_ECORRUPT ? WEIR_EUNAVAILABLE : rv,
                                err.text, r);
        return;
    }
    metric_add(c->broker->metrics.fetched_bytes, (int64_t)(out->len - before));
    message_end(out, start, BROKER_FETCHED, correlation, head_len);
    broker_conn_wrote(c);
}

static bool ready(const struct conn *c, const struct replica *r, int64_t offset)
{
    return r->group != NULL && offset < partition_high_watermark(group_partition(r->group)).v &&
           broker_conn_queued(c) <= BROKER_OUT_HIGH;
}

static void fetch_answer(struct fetch *f)
{
    struct conn *c = f->conn;
    struct fetch copy = *f;
    fetch_release(f);
    answer(c, copy.replica, copy.correlation, copy.offset, copy.bytes_max);
}

/* Its replica's mark may stand still: another replica has what comes. */
static void fetch_refuse(struct fetch *f)
{
    struct fetch copy = *f;
    fetch_release(f);
    broker_conn_reply_error(copy.conn, copy.correlation, WEIR_EUNAVAILABLE, behind_text,
                            copy.replica);
}

/* --- Those that wait --- */

static void serve(struct env_defer *defer)
{
    struct replica *r = defer->data;
    struct list todo;
    list_init(&todo);
    list_move_all(&todo, &r->fetches);
    for (struct list *el = list_pop(&todo); el != NULL; el = list_pop(&todo)) {
        struct fetch *f = list_entry(el, struct fetch, replica_link);
        if (ready(f->conn, r, f->offset)) {
            fetch_answer(f); /* may close the connection and drop its other fetches */
        } else {
            list_push_back(&r->fetches, el);
        }
    }
}

void replica_serve_soon(struct replica *r)
{
    if (!list_empty(&r->fetches)) {
        r->serve.data = r;
        env_defer(r->broker->env, &r->serve, serve);
    }
}

void replica_drop_fetches(struct replica *r)
{
    struct list todo;
    list_init(&todo);
    list_move_all(&todo, &r->fetches);
    for (struct list *el = list_pop(&todo); el != NULL; el = list_pop(&todo)) {
        fetch_answer(list_entry(el, struct fetch, replica_link));
    }
}

void broker_conn_serve_fetches(struct conn *c)
{
    if (broker_conn_queued(c) > BROKER_OUT_HIGH / 2) {
        return;
    }
    LIST_FOREACH(it, &c->fetches)
    {
        replica_serve_soon(list_entry(it, struct fetch, conn_link)->replica);
    }
}

void broker_conn_drop_fetches(struct conn *c)
{
    while (!list_empty(&c->fetches)) {
        fetch_release(list_entry(c->fetches.next, struct fetch, conn_link));
    }
}

void broker_fetches_sweep(struct conn *c, uint64_t now_ns)
{
    struct list todo;
    list_init(&todo);
    list_move_all(&todo, &c->fetches);
    for (struct list *el = list_pop(&todo); el != NULL; el = list_pop(&todo)) {
        struct fetch *f = list_entry(el, struct fetch, conn_link);
        list_push_back(&c->fetches, el);
        if (broker_conn_queued(c) <= BROKER_OUT_HIGH) {
            if (now_ns >= f->deadline_ns) {
                fetch_answer(f);
            } else if (f->replica->group != NULL && group_behind(f->replica->group) &&
                       !ready(c, f->replica, f->offset)) {
                fetch_refuse(f);
            }
        }
        if (c->state == CONN_CLOSED) {
            while ((el = list_pop(&todo)) != NULL) {
                fetch_release(list_entry(el, struct fetch, conn_link));
            }
        }
    }
}

/* --- The request --- */

static int check(const struct replica *r, const Weir__BrokerFetch *m, struct error *err)
{
    if (r == NULL) {
        return error_set(err, WEIR_ENOTFOUND, "no such topic or partition");
    }
    if (r->group == NULL) {
        return error_set(err, WEIR_EUNAVAILABLE, "this replica can't be read: %s",
                         replica_trouble(r));
    }
    const struct partition *p = group_partition(r->group);
    int64_t start = partition_start_offset(p).v, end = partition_end_offset(p).v;
    if (r->failed[0] != '\0' && m->offset >= partition_high_watermark(p).v) {
        /* It hears of no commit any more: another replica has what comes. */
        return error_set(err, WEIR_EUNAVAILABLE, "this replica has stopped: %s", r->failed);
    }
    if (m->offset >= partition_high_watermark(p).v && group_behind(r->group)) {
        return error_set(err, WEIR_EUNAVAILABLE, "%s", behind_text);
    }
    /* A follower may simply not have it yet. */
    if (m->offset < start || (m->offset > end && group_is_leader(r->group))) {
        return error_set(err, WEIR_ERANGE, "offset %lld of %s-%u is not in the log: %lld to %lld",
                         (long long)m->offset, r->topic->name, r->partition, (long long)start,
                         (long long)end);
    }
    return 0;
}

int broker_handle_fetch(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                        struct error *err)
{
    const Weir__BrokerFetch *m = (const Weir__BrokerFetch *)head;
    struct replica *r = broker_replica(c->broker, m->topic, m->partition);
    struct error why = {0};
    int rv = check(r, m, &why);
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, why.text, r);
        return 0;
    }
    uint32_t bytes_max =
        m->bytes_max < BROKER_FETCH_BYTES_MAX ? m->bytes_max : BROKER_FETCH_BYTES_MAX;
    uint32_t wait_ms =
        m->wait_ms_max < BROKER_FETCH_WAIT_MS_MAX ? m->wait_ms_max : BROKER_FETCH_WAIT_MS_MAX;
    if (ready(c, r, m->offset) || wait_ms == 0) {
        answer(c, r, frame->correlation, m->offset, bytes_max);
        return 0;
    }
    if (c->n_fetches == BROKER_FETCHES_MAX) {
        return error_set(err, WEIR_EBUSY, "more than %u fetches wait on one connection",
                         BROKER_FETCHES_MAX);
    }
    struct fetch *f = malloc(sizeof(*f));
    if (f == NULL) {
        return error_set(err, WEIR_ENOMEM, "out of memory");
    }
    *f = (struct fetch){.conn = c,
                        .replica = r,
                        .correlation = frame->correlation,
                        .offset = m->offset,
                        .bytes_max = bytes_max,
                        .deadline_ns = env_now_ns(c->broker->env) + (uint64_t)wait_ms * 1000000u};
    list_push_back(&c->fetches, &f->conn_link);
    list_push_back(&r->fetches, &f->replica_link);
    c->n_fetches++;
    return 0;
}
