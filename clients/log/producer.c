/* Producing: records into batches, batches to leaders, one partition at a time in order.
 *
 * A partition sends what it has at the end of each turn of the loop, as long as fewer than
 * inflight_batches_max are out; then the open batch fills. Batches are numbered (numbering.c): when
 * one is refused, those behind it are refused too; the partition drains, then sends all of it again
 * in order. A batch whose outcome is unknown is sent again as it is, until it is answered or its
 * time is over: the log knows it if it is there. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "clients/log/client_priv.h"

#define RECORD_OVERHEAD_MAX 36 /* varints and attributes of one record, bytes */
#define IDLE_BATCHES_MAX    64
/* A batch of this size is worth a round of its own. */
#define PIPELINE_BYTES (64u << 10)

void producer_partition_init(struct client_partition *p, struct client_topic *t, uint32_t index)
{
    p->topic = t;
    p->index = index;
    p->backoff_us = CLIENT_BACKOFF_MIN_US;
    p->numbering.id = -1;
    list_init(&p->waiting);
    list_init(&p->inflight);
    list_init(&p->busy_link);
    list_init(&p->dirty_link);
}

static struct weir_client *client_of(const struct client_partition *p)
{
    return p->topic->client;
}

/* --- Batches --- */

static struct batch *batch_new(struct client_partition *p)
{
    struct weir_client *c = client_of(p);
    struct list *el = list_pop(&c->idle);
    struct batch *b = el != NULL ? list_entry(el, struct batch, link) : NULL;
    if (b != NULL) {
        c->n_idle--;
        bytes_reset(&b->data);
    } else {
        b = calloc(1, sizeof(*b));
        if (b == NULL) {
            return NULL;
        }
        bytes_init(&b->data, c->options.batch_bytes_max);
        list_init(&b->link);
    }
    b->partition = p;
    b->n_records = 0;
    b->bytes = 0;
    b->finished = b->numbered = b->maybe_stored = b->misplaced = false;
    b->sent_ns = 0;
    b->order = p->order++;
    b->created_ns = env_now_ns(c->env);
    batch_begin(&b->builder, &b->data, env_wall_ms(c->env));
    return b;
}

static void batch_free(struct batch *b)
{
    bytes_close(&b->data);
    free(b->records);
    free(b);
}

static void batch_recycle(struct weir_client *c, struct batch *b)
{
    assert(!b->request.active);
    if (c->n_idle < IDLE_BATCHES_MAX && !c->closing) {
        list_push_front(&c->idle, &b->link);
        c->n_idle++;
    } else {
        batch_free(b);
    }
}

static void partition_settle(struct client_partition *p)
{
    if (p->open == NULL && list_empty(&p->waiting) && list_empty(&p->inflight)) {
        list_remove(&p->busy_link);
    }
}

static void mark_dirty(struct client_partition *p)
{
    struct weir_client *c = client_of(p);
    if (list_empty(&p->dirty_link)) {
        list_push_back(&c->dirty, &p->dirty_link);
    }
    client_flush_soon(c);
}

/* Requests lie anywhere in the caller's memory: asked for so many in advance. */
#define RECORDS_AHEAD 8

/* The batch is in no list. Fires its records' callbacks, which may produce again. */
static void batch_complete(struct batch *b, int status, int64_t base_offset)
{
    struct client_partition *p = b->partition;
    struct weir_client *c = client_of(p);
    uint32_t index = p->index, n = b->n_records;
    c->inflight_bytes -= b->bytes;
    partition_settle(p);
    for (uint32_t i = 0; i < n; i++) {
        struct weir_produce *req = b->records[i];
        __builtin_prefetch(b->records[i + RECORDS_AHEAD < n ? i + RECORDS_AHEAD : n - 1], 1);
        req->partition = index;
        req->offset = status == 0 ? base_offset + i : -1;
        req->cb(req, status);
    }
    batch_recycle(c, b);
}

static void close_open(struct client_partition *p)
{
    list_push_back(&p->waiting, &p->open->link);
    p->open = NULL;
}

/* Back among the waiting ones, at its place. */
static void requeue(struct batch *b)
{
    struct client_partition *p = b->partition;
    struct list *at = p->waiting.next;
    while (at != &p->waiting && list_entry(at, struct batch, link)->order < b->order) {
        at = at->next;
    }
    list_push_back(at, &b->link); /* before `at` */
}

/* --- Sending --- */

static void retry_later(struct client_partition *p)
{
    struct weir_client *c = client_of(p);
    p->retry_at_ns = env_now_ns(c->env) + p->backoff_us * 1000u;
    client_tick_within(c, p->backoff_us);
    p->backoff_us =
        p->backoff_us * 2 < CLIENT_BACKOFF_MAX_US ? p->backoff_us * 2 : CLIENT_BACKOFF_MAX_US;
}

/* Not stored by this attempt, and worth another one. */
static bool is_refusal(int status)
{
    return status == WEIR_ENOTLEADER || status == WEIR_EBUSY || status == WEIR_EUNAVAILABLE ||
           status == WEIR_ECLOSED || status == WEIR_EIO || status == WEIR_ENOMEM ||
           status == WEIR_ESEQUENCE;
}

static void give_up(struct batch *b, int status)
{
    numbering_give_up(b->partition, b);
    batch_complete(b, b->maybe_stored ? WEIR_EUNKNOWN : status, 0);
}

static void on_produced(struct broker_request *req, int status, const struct frame *reply,
                        const ProtobufCMessage *head)
{
    struct batch *b = req->data;
    struct client_partition *p = b->partition;
    (void)reply;
    list_remove(&b->link);
    p->n_inflight--;
    mark_dirty(p);
    if (status == 0) {
        p->backoff_us = CLIENT_BACKOFF_MIN_US;
        batch_complete(b, 0, ((const Weir__BrokerProduced *)head)->base_offset);
        return;
    }
    if (status == WEIR_EFENCED) {
        if (named_is_fenced(client_of(p), b->builder.producer.epoch)) {
            client_of(p)->named.fenced = client_of(p)->named.name != NULL;
        } else {
            status = WEIR_ESEQUENCE; /* our own next epoch came before it */
        }
    }
    if (status != WEIR_EUNKNOWN && !is_refusal(status)) {
        give_up(b, status);
        return;
    }
    b->maybe_stored = b->maybe_stored || status == WEIR_EUNKNOWN;
    b->misplaced = status == WEIR_ESEQUENCE;
    requeue(b);
    p->draining = true;
    if (status == WEIR_ENOTLEADER && head != NULL) {
        const Weir__BrokerError *e = (const Weir__BrokerError *)head;
        uint32_t before = p->leader_id;
        client_leader_news(client_of(p), p->topic->name, p->index, e->leader_id, e->term);
        if (p->leader_id != before && p->leader_id != 0) {
            return; /* tried there at the end of this turn */
        }
    }
    if (status != WEIR_ESEQUENCE) { /* then another one was refused as well, or came too early */
        retry_later(p);
    }
}

static int batch_send(struct client_partition *p, struct batch *b, struct client_broker *broker)
{
    Weir__BrokerProduce m = WEIR__BROKER_PRODUCE__INIT;
    uint64_t now = env_now_ns(client_of(p)->env);
    numbering_give(p, b);
    m.topic = p->topic->name;
    m.partition = p->index;
    m.producer = client_of(p)->named.name != NULL ? client_of(p)->named.name : m.producer;
    m.age_ms = b->maybe_stored ? (now - b->sent_ns) / 1000000u + 1 : 0;
    b->request.data = b;
    b->broker = broker;
    b->misplaced = false;
    b->sent_ns = b->sent_ns != 0 ? b->sent_ns : now;
    return broker_link_request(broker->link, BROKER_PRODUCE, &m.base, b->data.data, b->data.len,
                               BROKER_PRODUCED, &b->request, on_produced);
}

/* All are back. If the first one was refused although everything before it is stored, the log does
 * not know us any more, and the sequence is over. What can't be there gets a new number then; of
 * the rest nobody can tell. */
static void settle_misplaced(struct client_partition *p)
{
    struct list lost;
    list_init(&lost);
    if (!list_empty(&p->waiting) && list_entry(p->waiting.next, struct batch, link)->misplaced) {
        p->numbering.over = true;
        retry_later(p);
    }
    LIST_FOREACH_SAFE(it, nx, &p->waiting)
    {
        struct batch *b = list_entry(it, struct batch, link);
        if (p->numbering.over && b->misplaced && b->maybe_stored) {
            list_remove(it);
            list_push_back(&lost, it);
        }
        b->misplaced = false; /* dealt with: the next sequence is not over because of it */
    }
    for (struct list *el = list_pop(&lost); el != NULL; el = list_pop(&lost)) {
        give_up(list_entry(el, struct batch, link), WEIR_EUNKNOWN);
    }
}

/* A named producer that lost its name. */
static void settle_fenced(struct client_partition *p)
{
    struct list lost;
    list_init(&lost);
    if (!client_of(p)->named.fenced) {
        return;
    }
    list_move_all(&lost, &p->waiting);
    if (p->open != NULL) {
        list_push_back(&lost, &p->open->link);
        p->open = NULL;
    }
    for (struct list *el = list_pop(&lost); el != NULL; el = list_pop(&lost)) {
        give_up(list_entry(el, struct batch, link), WEIR_EFENCED);
    }
}

/* The next batch to be sent, taken from those that wait. */
static struct batch *take_next(struct client_partition *p)
{
    LIST_FOREACH(it, &p->waiting)
    {
        struct batch *b = list_entry(it, struct batch, link);
        if (numbering_allows(p, b)) {
            list_remove(&b->link);
            return b;
        }
    }
    if (!list_empty(&p->waiting) || p->open == NULL || p->numbering.over ||
        (p->n_inflight > 0 && p->open->data.len < PIPELINE_BYTES)) {
        return NULL;
    }
    struct batch *b = p->open;
    p->open = NULL;
    return b;
}

void producer_pump(struct client_partition *p)
{
    struct weir_client *c = client_of(p);
    if (p->n_inflight == 0) {
        p->draining = false;
        settle_misplaced(p);
        settle_fenced(p);
        numbering_settle(p);
    }
    if (c->closing || p->draining || (p->open == NULL && list_empty(&p->waiting)) ||
        (p->numbering.id < 0 && !numbering_ready(p))) {
        return;
    }
    uint64_t now = env_now_ns(c->env);
    if (now < p->retry_at_ns) {
        client_tick_within(c, (p->retry_at_ns - now) / 1000u + 1);
        return;
    }
    struct client_broker *broker = client_leader_of(c, p);
    if (broker == NULL || !broker->ready) {
        client_refresh(c);
        retry_later(p);
        return;
    }
    while (p->n_inflight < c->options.inflight_batches_max) {
        struct batch *b = take_next(p);
        if (b == NULL) {
            return;
        }
        if (batch_send(p, b, broker) != 0) {
            requeue(b);
            retry_later(p);
            return;
        }
        list_push_back(&p->inflight, &b->link);
        p->n_inflight++;
    }
}

void producer_leader_moved(struct client_partition *p)
{
    LIST_FOREACH_SAFE(it, nx, &p->inflight)
    {
        struct batch *b = list_entry(it, struct batch, link);
        if (b->broker->link != NULL) {
            broker_link_cancel(b->broker->link, &b->request);
        }
        list_remove(&b->link);
        b->maybe_stored = true;
        requeue(b);
    }
    p->n_inflight = 0;
}

void producer_flush(struct weir_client *c)
{
    struct list dirty;
    list_init(&dirty);
    list_move_all(&dirty, &c->dirty);
    for (struct list *el = list_pop(&dirty); el != NULL; el = list_pop(&dirty)) {
        producer_pump(list_entry(el, struct client_partition, dirty_link));
    }
}

/* --- Records --- */

static bool room_for_record(struct batch *b)
{
    if (b->n_records < b->cap_records) {
        return true;
    }
    uint32_t cap = b->cap_records == 0 ? 64 : 2 * b->cap_records;
    struct weir_produce **records = realloc(b->records, cap * sizeof(*records));
    if (records != NULL) {
        b->records = records;
        b->cap_records = cap;
    }
    return records != NULL;
}

/* created_ns: when it was given to us; 0: now. */
static int add_record(struct client_partition *p, const void *key, size_t key_len,
                      const void *value, size_t value_len, uint64_t created_ns,
                      struct weir_produce *req)
{
    struct weir_client *c = client_of(p);
    size_t room = key_len + value_len + RECORD_OVERHEAD_MAX;
    if (p->open != NULL && (p->open->n_records >= BATCH_RECORDS_MAX ||
                            p->open->data.len + room > c->options.batch_bytes_max)) {
        close_open(p);
    }
    struct batch *b = p->open != NULL ? p->open : batch_new(p);
    if (b == NULL) {
        return WEIR_ENOMEM;
    }
    if (bytes_reserve(&b->data, room) == NULL || !room_for_record(b)) {
        int rv = bytes_error(&b->data) != 0 ? bytes_error(&b->data) : WEIR_ENOMEM;
        b->data.error = 0;
        if (p->open == NULL) {
            batch_recycle(c, b);
        }
        return rv;
    }
    if (p->open == NULL) {
        p->open = b;
        b->created_ns = created_ns != 0 ? created_ns : b->created_ns;
        if (list_empty(&p->busy_link)) {
            list_push_back(&c->busy, &p->busy_link);
        }
        client_tick_within(c, CLIENT_SWEEP_US);
    }
    batch_add(&b->builder, b->builder.base_timestamp_ms, key, key_len, value, value_len);
    b->records[b->n_records++] = req;
    b->bytes += room;
    mark_dirty(p);
    return 0;
}

static int add_early(struct client_topic *t, uint32_t partition, const void *key, size_t key_len,
                     const void *value, size_t value_len, struct weir_produce *req)
{
    struct early *e = malloc(sizeof(*e) + key_len + value_len);
    if (e == NULL) {
        return WEIR_ENOMEM;
    }
    *e = (struct early){.req = req,
                        .created_ns = env_now_ns(t->client->env),
                        .partition = partition,
                        .null_key = key == NULL,
                        .null_value = value == NULL,
                        .key_len = key_len,
                        .value_len = value_len};
    if (key_len > 0) {
        memcpy(e->bytes, key, key_len);
    }
    if (value_len > 0) {
        memcpy(e->bytes + key_len, value, value_len);
    }
    list_push_back(&t->early, &e->link);
    client_flush_soon(t->client);
    client_tick_within(t->client, CLIENT_SWEEP_US);
    return 0;
}

int weir_produce(struct weir_client *c, const char *topic, uint32_t partition, const void *key,
                 size_t key_len, const void *value, size_t value_len, struct weir_produce *req,
                 weir_produce_cb cb)
{
    struct client_topic *t = client_topic_get(c, topic);
    key_len = key == NULL ? 0 : key_len;
    value_len = value == NULL ? 0 : value_len;
    size_t room = key_len + value_len + RECORD_OVERHEAD_MAX;
    if (c->closing) {
        return WEIR_ECLOSED;
    }
    if (c->named.fenced) {
        return WEIR_EFENCED;
    }
    if (t == NULL || (partition == WEIR_PARTITION_BY_KEY && key == NULL) ||
        (t->n_partitions != 0 && partition != WEIR_PARTITION_BY_KEY &&
         partition >= t->n_partitions)) {
        return WEIR_EINVAL;
    }
    if (key_len > c->options.batch_bytes_max || value_len > c->options.batch_bytes_max ||
        room + BATCH_HEADER_SIZE > c->options.batch_bytes_max) {
        return WEIR_ETOOBIG;
    }
    if (c->inflight_bytes + room > c->options.inflight_bytes_max) {
        return WEIR_EBUSY;
    }
    req->cb = cb;
    req->partition = partition;
    req->offset = -1;
    int rv = 0;
    if (t->n_partitions == 0 || !list_empty(&t->early)) {
        rv = add_early(t, partition, key, key_len, value, value_len, req);
    } else {
        if (partition == WEIR_PARTITION_BY_KEY) {
            partition = weir_partition_for_key(key, key_len, t->n_partitions);
        }
        rv = add_record(&t->partitions[partition], key, key_len, value, value_len, 0, req);
    }
    if (rv == 0) {
        c->inflight_bytes += room;
    }
    return rv;
}

/* --- Records given before their topic was known --- */

static size_t early_room(const struct early *e)
{
    return e->key_len + e->value_len + RECORD_OVERHEAD_MAX;
}

static void early_fail(struct client_topic *t, struct early *e, int status)
{
    struct weir_produce *req = e->req;
    t->client->inflight_bytes -= early_room(e);
    free(e);
    req->cb(req, status);
}

void producer_topic_known(struct client_topic *t)
{
    struct list early;
    list_init(&early);
    list_move_all(&early, &t->early);
    for (struct list *el = list_pop(&early); el != NULL; el = list_pop(&early)) {
        struct early *e = list_entry(el, struct early, link);
        const void *key = e->null_key ? NULL : e->bytes;
        const void *value = e->null_value ? NULL : e->bytes + e->key_len;
        uint32_t partition = e->partition == WEIR_PARTITION_BY_KEY
                                 ? weir_partition_for_key(e->bytes, e->key_len, t->n_partitions)
                                 : e->partition;
        int rv = partition >= t->n_partitions
                     ? WEIR_EINVAL
                     : add_record(&t->partitions[partition], key, e->key_len, value, e->value_len,
                                  e->created_ns, e->req);
        if (rv != 0) {
            early_fail(t, e, rv);
        } else {
            free(e);
        }
    }
}

void producer_topic_failed(struct client_topic *t, int status)
{
    struct list early;
    list_init(&early);
    list_move_all(&early, &t->early);
    for (struct list *el = list_pop(&early); el != NULL; el = list_pop(&early)) {
        early_fail(t, list_entry(el, struct early, link), status);
    }
}

/* --- The clock --- */

/* Moves the batches that are to be given up to `out`. */
static void collect_overdue(struct client_partition *p, uint64_t now_ns, struct list *out)
{
    struct weir_client *c = client_of(p);
    uint64_t limit_ns = (uint64_t)c->options.timeout_ms * 1000000u;
    LIST_FOREACH_SAFE(it, nx, &p->inflight)
    {
        struct batch *b = list_entry(it, struct batch, link);
        if (now_ns - b->created_ns < limit_ns) {
            continue;
        }
        if (b->broker->link != NULL) {
            broker_link_cancel(b->broker->link, &b->request);
        }
        list_remove(&b->link);
        p->n_inflight--;
        b->maybe_stored = true;
        list_push_back(out, &b->link);
    }
    LIST_FOREACH_SAFE(it, nx, &p->waiting)
    {
        struct batch *b = list_entry(it, struct batch, link);
        if (now_ns - b->created_ns >= limit_ns) {
            list_remove(&b->link);
            list_push_back(out, &b->link);
        }
    }
    if (p->open != NULL && now_ns - p->open->created_ns >= limit_ns) {
        list_push_back(out, &p->open->link);
        p->open = NULL;
    }
}

static void partition_sweep(struct client_partition *p, uint64_t now_ns)
{
    struct list overdue;
    list_init(&overdue);
    collect_overdue(p, now_ns, &overdue);
    for (struct list *el = list_pop(&overdue); el != NULL; el = list_pop(&overdue)) {
        struct batch *b = list_entry(el, struct batch, link);
        give_up(b, WEIR_ETIMEOUT);
    }
    producer_pump(p);
}

static void early_sweep(struct client_topic *t, uint64_t now_ns)
{
    uint64_t limit_ns = (uint64_t)t->client->options.timeout_ms * 1000000u;
    struct list overdue;
    list_init(&overdue);
    LIST_FOREACH_SAFE(it, nx, &t->early)
    {
        if (now_ns - list_entry(it, struct early, link)->created_ns >= limit_ns) {
            list_remove(it);
            list_push_back(&overdue, it);
        }
    }
    for (struct list *el = list_pop(&overdue); el != NULL; el = list_pop(&overdue)) {
        early_fail(t, list_entry(el, struct early, link), WEIR_ETIMEOUT);
    }
}

/* By index, not along c->busy: callbacks of the caller may change that list. */
void producer_sweep(struct weir_client *c, uint64_t now_ns)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        struct client_topic *t = c->topics[i];
        early_sweep(t, now_ns);
        for (uint32_t k = 0; k < t->n_partitions && !list_empty(&c->busy); k++) {
            if (!list_empty(&t->partitions[k].busy_link)) {
                partition_sweep(&t->partitions[k], now_ns);
            }
        }
    }
}

/* --- The end --- */

static void partition_close_batches(struct client_partition *p)
{
    struct list all;
    list_init(&all);
    LIST_FOREACH(it, &p->inflight)
    {
        struct batch *b = list_entry(it, struct batch, link);
        if (b->broker->link != NULL) {
            broker_link_cancel(b->broker->link, &b->request);
        }
        b->maybe_stored = true;
    }
    list_move_all(&all, &p->inflight);
    list_move_all(&all, &p->waiting);
    if (p->open != NULL) {
        list_push_back(&all, &p->open->link);
        p->open = NULL;
    }
    p->n_inflight = 0;
    for (struct list *el = list_pop(&all); el != NULL; el = list_pop(&all)) {
        struct batch *b = list_entry(el, struct batch, link);
        give_up(b, WEIR_ECLOSED);
    }
}

void producer_close(struct weir_client *c)
{
    for (unsigned i = 0; i < c->n_topics; i++) {
        struct client_topic *t = c->topics[i];
        producer_topic_failed(t, WEIR_ECLOSED);
        for (uint32_t k = 0; k < t->n_partitions; k++) {
            partition_close_batches(&t->partitions[k]);
        }
    }
    for (struct list *el = list_pop(&c->idle); el != NULL; el = list_pop(&c->idle)) {
        batch_free(list_entry(el, struct batch, link));
    }
}
