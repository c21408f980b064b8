/* The client's side of the views: one consumer per partition, begun anew after trouble. */
#include "base/logging.h"
#include "views/priv.h"

static void consume_partition(struct view_partition *p);

static void partition_stall(struct view_partition *p)
{
    p->stalled = true;
    if (p->consumer != NULL) {
        weir_consumer_pause(p->consumer);
    }
}

static void see_high_watermark(struct view_partition *p, int64_t high_watermark)
{
    p->high_watermark = high_watermark;
    if (p->target < 0) {
        p->target = high_watermark;
    }
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct view_partition *p = data;
    struct error err;
    (void)c;
    if (p->stalled || p->views->closing) {
        return;
    }
    see_high_watermark(p, high_watermark);
    p->range_retries = 0;
    if (views_feed(p->views, p->topic, p->partition, records, n, &err) != 0) {
        log_error("view_stalled", "topic=%s partition=%u offset=%lld error=\"%s\"",
                  view_topic_names[p->topic], p->partition, (long long)p->next, err.text);
        p->views->damaged = true; /* memory and store may differ now: all is loaded anew */
        partition_stall(p);
    }
}

static void on_caught_up(void *data, struct weir_consumer *c, int64_t high_watermark)
{
    struct view_partition *p = data;
    (void)c;
    p->range_retries = 0;
    see_high_watermark(p, high_watermark);
}

/* A replica that has just come up may not know yet how far the log is committed: an offset out of
 * range is given time. When it stays so, the log is another one (or its beginning is gone), and the
 * state is made from what there is. */
static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    struct view_partition *p = data;
    (void)c;
    if (p->range_retries == 0 || status != WEIR_ERANGE) {
        log_warn("view_consumer_failed", "topic=%s partition=%u offset=%lld error=\"%s\"",
                 view_topic_names[p->topic], p->partition, (long long)p->next, text);
    }
    p->range_retries += status == WEIR_ERANGE;
    partition_stall(p);
}

static void consume_partition(struct view_partition *p)
{
    const struct weir_consumer_events events = {
        .data = p,
        .records = on_records,
        .failed = on_failed,
        .caught_up = on_caught_up,
    };
    struct error err;
    int64_t from = p->next == 0 ? WEIR_OFFSET_BEGIN : p->next;
    p->stalled = false;
    if (weir_consume(p->views->client, view_topic_names[p->topic], p->partition, from, &events,
                     &p->consumer, &err) != 0) {
        log_warn("view_consume_failed", "topic=%s partition=%u error=\"%s\"",
                 view_topic_names[p->topic], p->partition, err.text);
        p->consumer = NULL;
        p->stalled = true;
    }
}

static void consume_topic(struct views *views, enum view_topic topic)
{
    for (uint32_t i = 0; i < views->view[topic].n_partitions; i++) {
        struct view_partition *p = &views->view[topic].partitions[i];
        if (p->consumer == NULL) {
            consume_partition(p);
        }
    }
}

static void on_topic(struct weir_topic_req *req, int status, uint32_t n)
{
    struct view *v = req->data;
    enum view_topic topic = v->ops->topic;
    struct views *views = list_entry(v - topic, struct views, view[0]);
    struct error err;
    v->topic_asked = false;
    if (!views->closing && status == 0) {
        status = view_set_partitions(views, topic, n, &err);
        if (status == 0) {
            v->topic_known = true;
            consume_topic(views, topic);
        } else if (!v->told) {
            log_error("view_topic_failed", "topic=%s error=\"%s\"", view_topic_names[topic],
                      err.text);
            v->told = true;
        }
    } else if (!views->closing && !v->told) {
        log_warn("view_topic_unknown", "topic=%s error=\"%s\"", view_topic_names[topic],
                 error_name(status));
        v->told = true;
    }
    views_client_done(views);
}

static void topic_ask(struct views *views, enum view_topic topic)
{
    struct view *v = &views->view[topic];
    if (v->ops == NULL || v->topic_known || v->topic_asked) {
        return;
    }
    v->topic_asked = true;
    v->topic_req.data = v;
    views->in_client++;
    weir_topic(views->client, view_topic_names[topic], &v->topic_req, on_topic);
}

void consume_start(struct views *views)
{
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        topic_ask(views, (enum view_topic)t);
    }
}

static void partition_stop(struct view_partition *p)
{
    if (p->consumer != NULL) {
        weir_consumer_close(p->consumer);
        p->consumer = NULL;
    }
}

void consume_stop(struct views *views)
{
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        for (uint32_t i = 0; i < views->view[t].n_partitions; i++) {
            partition_stop(&views->view[t].partitions[i]);
        }
    }
}

/* The log no longer has what comes next here: this partition is folded anew from the log's
 * beginning. */
static void partition_restart(struct view_partition *p)
{
    struct error err;
    log_error("view_rebuild", "topic=%s partition=%u offset=%lld reason=\"not in the log\"",
              view_topic_names[p->topic], p->partition, (long long)p->next);
    p->range_retries = 0;
    if (view_wipe(p, &err) != 0) {
        log_error("view_wipe_failed", "error=\"%s\"", err.text);
    }
    p->heard = 0;
    p->views->damaged = true;
}

static void partition_tick(struct view_partition *p)
{
    if (!p->stalled) {
        return;
    }
    partition_stop(p);
    if (p->range_retries > VIEW_RANGE_RETRIES && p->views->store != NULL) {
        partition_restart(p);
    }
}

static void topic_tick(struct views *views, enum view_topic topic)
{
    struct view *v = &views->view[topic];
    int64_t lag = 0;
    topic_ask(views, topic);
    for (uint32_t i = 0; i < v->n_partitions; i++) {
        struct view_partition *p = &v->partitions[i];
        partition_tick(p);
        lag += p->high_watermark > p->next ? p->high_watermark - p->next : 0;
    }
    metric_set(v->lag, lag);
}

void consume_tick(struct views *views)
{
    struct error err;
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        topic_tick(views, (enum view_topic)t);
    }
    if (views->damaged && views_reopen(views, &err) != 0) {
        log_error("views_reopen_failed", "dir=%s error=\"%s\"", views->dir, err.text);
        return;
    }
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        if (views->view[t].topic_known) {
            consume_topic(views, (enum view_topic)t);
        }
    }
}
