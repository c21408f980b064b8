#include "nodes/ingest/feed.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "media/timeline.h"
#include "nodes/ingest/position.h"
#include "proto/lifecycle.pb-c.h"

#define LOAD_TIMEOUT_MS 300
/* Two round trips to a node that has just told its load: more is a node that has died since. */
#define DIAL_TIMEOUT_MS 1000
#define RETRY_US        200000
#define AVOID_NS        3000000000ull /* a node that failed is not chosen for this long */
/* So many beats missed is a dead node: 1,500 ms, above any stall of a working node's loop, below
 * what makes a player rebuffer for long. */
#define BEATS_MISSED_MAX 6
/* On the link: a worker that far behind is as good as dead. */
#define QUEUED_BYTES_MAX (24u << 20)
#define FROM_WORKER_MAX  (1u << 20)
#define LOAD_UNKNOWN     UINT32_MAX
#define TICKS_PER_MS     (TIMELINE_HZ / 1000)
/* Declared part targets are this much above what is cut: frame times are rounded to ms. */
#define PART_SLACK_TICKS (2 * TICKS_PER_MS)
#define PATH_SIZE        512

/* What happens next:
 *   EMPTY      the first key frame has come          -> CHOOSING
 *   WAITING    the retry timer fires                 -> CHOOSING
 *   CHOOSING   all nodes have told their load        -> ASSIGNING
 *   ASSIGNING  the assignment is folded              -> DIALLING; fenced: OVER
 *   DIALLING   the link is open and fed              -> RUNNING
 *   RUNNING    the link is lost or silent            -> CHOOSING; END has come: OVER
 * What fails in between leads to WAITING. */
enum feed_state {
    FEED_EMPTY,
    FEED_WAITING,
    FEED_CHOOSING,
    FEED_ASSIGNING,
    FEED_DIALLING,
    FEED_RUNNING,
    FEED_OVER
};

struct load_query {
    struct feed *feed;
    struct http_call *call; /* NULL: none open */
    uint32_t load;
};

struct feed {
    struct node *node;
    struct feed_options options;
    struct feed_events events;
    enum feed_state state;
    struct backlog backlog;
    bool finishing, rung, freed;
    struct env_timer timer;
    struct load_query queries[CONFIG_NODES_MAX];
    uint64_t avoid_until_ns[CONFIG_NODES_MAX];
    unsigned chosen;
    struct view_submit submit;
    bool submitting; /* its callback will come */
    int64_t worker_epoch;
    struct position position;
    struct http_call *dial;
    struct env_stream *link;
    unsigned beats_missed; /* since the last byte from the link */
    struct bytes in;
    char headers[300];
    struct metric *assigned;
};

/* A frame on its way. */
struct sending {
    struct env_send send;
    struct backlog_frame *frame; /* or own bytes */
    uint8_t own[];
};

static void choose(struct feed *f);
static void on_link_read(struct env_stream *link, const uint8_t *data, size_t n, int status);

/* --- Life
 * --------------------------------------------------------------------------------------------------------
 */

int feed_new(struct node *node, const struct feed_options *options,
             const struct feed_events *events, struct feed **ret_feed)
{
    struct feed *f = calloc(1, sizeof(*f));
    if (f == NULL || env_timer_init(node->env, &f->timer) < 0) {
        free(f);
        return WEIR_ENOMEM;
    }
    f->node = node;
    f->options = *options;
    f->events = *events;
    f->rung = node->config->media_rung_height > 0;
    f->timer.data = f;
    backlog_init(&f->backlog);
    bytes_init(&f->in, FROM_WORKER_MAX);
    (void)snprintf(f->headers, sizeof(f->headers), "X-Weir-Secret: %s\r\n", node->config->secret);
    f->assigned = metric_counter("weir_ingest_assignments_total", "",
                                 "Transcode workers assigned by this node.");
    *ret_feed = f;
    return 0;
}

static void cancel_queries(struct feed *f)
{
    for (unsigned i = 0; i < CONFIG_NODES_MAX; i++) {
        if (f->queries[i].call != NULL) {
            http_call_cancel(f->queries[i].call);
            f->queries[i].call = NULL;
        }
    }
}

/* Lets go of worker and link; the state is the caller's to set. */
static void detach(struct feed *f)
{
    env_timer_stop(&f->timer);
    cancel_queries(f);
    if (f->dial != NULL) {
        http_call_cancel(f->dial);
        f->dial = NULL;
    }
    if (f->link != NULL) {
        env_stream_close(f->link, NULL, NULL);
        f->link = NULL;
    }
    bytes_reset(&f->in);
}

void feed_free(struct feed *f)
{
    if (f == NULL) {
        return;
    }
    detach(f);
    f->state = FEED_OVER;
    backlog_close(&f->backlog);
    bytes_close(&f->in);
    env_timer_close(&f->timer);
    f->freed = true;
    if (!f->submitting) {
        free(f);
    }
}

static void over(struct feed *f, int status, const char *text)
{
    detach(f);
    f->state = FEED_OVER;
    f->events.failed(f->events.data, status, text);
}

static void on_retry(struct env_timer *timer)
{
    struct feed *f = timer->data;
    choose(f);
}

static void retry(struct feed *f)
{
    detach(f);
    f->state = FEED_WAITING;
    env_timer_start(&f->timer, RETRY_US, on_retry);
}

static void avoid_chosen(struct feed *f)
{
    f->avoid_until_ns[f->chosen] = env_now_ns(f->node->env) + AVOID_NS;
}

static const struct lifecycle_channel *own_channel(const struct feed *f)
{
    const struct lifecycle_channel *c = lifecycle_live(f->node->views, f->options.channel);
    return c != NULL && c->session_epoch == f->options.session_epoch ? c : NULL;
}

/* --- Sending
 * -----------------------------------------------------------------------------------------------------
 */

static void on_sent(struct env_send *send, int status)
{
    struct sending *s = send->data;
    (void)status; /* a broken link is seen by its reader */
    backlog_unref(s->frame);
    free(s);
}

static struct sending *sending_new(size_t own)
{
    struct sending *s = calloc(1, sizeof(*s) + own);
    if (s != NULL) {
        s->send.data = s;
    }
    return s;
}

/* Out of memory costs the worker, not the session: a hole in its input must not be. */
static bool send_frame(struct feed *f, struct backlog_frame *frame)
{
    struct sending *s = sending_new(0);
    if (s == NULL) {
        return false;
    }
    s->frame = backlog_ref(frame);
    struct iovec iov = {frame->data, frame->len};
    env_stream_send(f->link, &s->send, &iov, 1, on_sent);
    return true;
}

static bool send_bytes(struct feed *f, const struct bytes *b)
{
    struct sending *s = bytes_error(b) == 0 ? sending_new(b->len) : NULL;
    if (s == NULL) {
        return false;
    }
    memcpy(s->own, b->data, b->len);
    struct iovec iov = {s->own, b->len};
    env_stream_send(f->link, &s->send, &iov, 1, on_sent);
    return true;
}

static bool send_start(struct feed *f)
{
    const struct config *config = f->node->config;
    const struct position *p = &f->position;
    uint32_t height = p->rung ? config->media_rung_height : 0;
    struct wire_start start = {
        .part_ticks = config->media_part_ms * TICKS_PER_MS - PART_SLACK_TICKS,
        .segment_ticks = config->media_segment_ms * TICKS_PER_MS,
        .rung_height = height,
        .rung_bps = height * height * 6, /* 780 kbit/s at 360 lines */
        .target_duration_ms = p->target_duration_ms,
    };
    memcpy(start.first_msn, p->first_msn, sizeof(start.first_msn));
    memcpy(start.next, p->next, sizeof(start.next));
    struct bytes b;
    bytes_init(&b, 4096);
    wire_put_start(&b, &start);
    bool ok = send_bytes(f, &b);
    bytes_close(&b);
    return ok;
}

static bool send_finish(struct feed *f)
{
    struct bytes b;
    bytes_init(&b, 64);
    wire_put_empty(&b, WIRE_FINISH);
    bool ok = send_bytes(f, &b);
    bytes_close(&b);
    return ok;
}

/* The configurations in force, then everything from the position on. */
static bool replay(struct feed *f)
{
    struct backlog *b = &f->backlog;
    const struct backlog_frame *first = backlog_find(b, f->position.from_us);
    bool ok = first != NULL && send_start(f);
    ok = ok && (b->video_config == NULL || send_frame(f, b->video_config));
    ok = ok && (b->audio_config == NULL || send_frame(f, b->audio_config));
    bool from = false;
    for (struct list *it = b->frames.next; ok && it != &b->frames; it = it->next) {
        struct backlog_frame *frame = list_entry(it, struct backlog_frame, link);
        bool config = frame->type == WIRE_VIDEO_CONFIG || frame->type == WIRE_AUDIO_CONFIG;
        from = from || frame == first;
        if (from || config) {
            ok = send_frame(f, frame);
        }
    }
    return ok && (!f->finishing || send_finish(f));
}

static void push(struct feed *f, struct backlog_frame *frame)
{
    if (frame == NULL) {
        return;
    }
    if (f->state == FEED_EMPTY && frame->key_us != BACKLOG_NONE) {
        choose(f);
    } else if (f->state == FEED_RUNNING) {
        bool stuck = env_stream_queued_bytes(f->link) > QUEUED_BYTES_MAX;
        if (stuck || !send_frame(f, frame)) {
            log_warn("feed_stuck", "channel=%s epoch=%" PRId64, f->options.channel,
                     f->worker_epoch);
            avoid_chosen(f);
            retry(f);
        }
    }
}

/* --- Choosing
 * ----------------------------------------------------------------------------------------------------
 */

static void assign(struct feed *f);

static void choose_best(struct feed *f)
{
    const struct config *config = f->node->config;
    unsigned best = CONFIG_NODES_MAX;
    env_timer_stop(&f->timer);
    cancel_queries(f);
    for (unsigned i = 0; i < config->n_nodes; i++) {
        uint32_t load = f->queries[i].load;
        bool own = config->nodes[i].id == f->node->self->id;
        if (load != LOAD_UNKNOWN && (best == CONFIG_NODES_MAX || load < f->queries[best].load ||
                                     (load == f->queries[best].load && own))) {
            best = i;
        }
    }
    if (best == CONFIG_NODES_MAX) {
        log_warn("no_transcode_node", "channel=%s", f->options.channel);
        memset(f->avoid_until_ns, 0, sizeof(f->avoid_until_ns));
        retry(f);
        return;
    }
    f->chosen = best;
    assign(f);
}

static void on_choose_timeout(struct env_timer *timer)
{
    choose_best(timer->data);
}

static void on_load(void *data, int status, struct http_body *body)
{
    struct load_query *q = data;
    struct feed *f = q->feed;
    static const char key[] = "{\"load\":";
    char text[64] = {0};
    q->call = NULL;
    if (status == 200 && body != NULL && body->len < sizeof(text)) {
        memcpy(text, body->data, body->len);
        if (strncmp(text, key, sizeof(key) - 1) == 0) {
            q->load = (uint32_t)strtoul(text + sizeof(key) - 1, NULL, 10);
        }
    }
    for (unsigned i = 0; i < f->node->config->n_nodes; i++) {
        if (f->queries[i].call != NULL) {
            return;
        }
    }
    choose_best(f);
}

static void choose(struct feed *f)
{
    const struct config *config = f->node->config;
    uint64_t now = env_now_ns(f->node->env);
    unsigned asked = 0;
    env_timer_stop(&f->timer);
    f->state = FEED_CHOOSING;
    for (unsigned i = 0; i < config->n_nodes; i++) {
        struct load_query *q = &f->queries[i];
        *q = (struct load_query){.feed = f, .load = LOAD_UNKNOWN};
        if (f->avoid_until_ns[i] > now || config->nodes[i].standing != CONFIG_NODE_IN) {
            continue;
        }
        const struct config_address *at = config_internal(config, &config->nodes[i]);
        struct http_call_options options = {.method = "GET",
                                            .host = at->host,
                                            .port = at->port,
                                            .path = "/internal/transcode/load",
                                            .headers = f->headers,
                                            .timeout_ms = LOAD_TIMEOUT_MS,
                                            .response_max = 1024};
        asked += http_call(f->node->http_client, &options, on_load, q, &q->call, NULL) == 0;
    }
    env_timer_start(&f->timer, asked > 0 ? LOAD_TIMEOUT_MS * 1000 : RETRY_US, on_choose_timeout);
}

/* --- Assigning
 * ---------------------------------------------------------------------------------------------------
 */

static void dial(struct feed *f);

static void on_assigned(struct view_submit *submit, int status, enum verdict verdict)
{
    struct feed *f = submit->data;
    f->submitting = false;
    if (f->freed) {
        free(f);
        return;
    }
    if (f->state != FEED_ASSIGNING) {
        return; /* the epoch changed meanwhile: a new round has begun */
    }
    if (status == 0 && (verdict == VERDICT_FENCED || verdict == VERDICT_NOT_FOUND)) {
        over(f, WEIR_EFENCED, "another publisher took over");
    } else if (status != 0 || verdict != VERDICT_OK) {
        log_warn("assign_failed", "channel=%s error=\"%s\"", f->options.channel,
                 status != 0 ? error_name(status) : verdict_name(verdict));
        retry(f);
    } else {
        f->worker_epoch = submit->offset;
        dial(f);
    }
}

static void assign(struct feed *f)
{
    Weir__TranscodeAssign assign = WEIR__TRANSCODE_ASSIGN__INIT;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    char name[CONFIG_NAME_MAX];
    uint8_t packed[512];
    if (f->submitting) { /* an old round's has not come back */
        retry(f);
        return;
    }
    (void)snprintf(name, sizeof(name), "%s", f->node->config->nodes[f->chosen].name);
    assign.session_epoch = f->options.session_epoch;
    assign.node = name;
    record.channel = f->options.channel;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_TRANSCODE_ASSIGN;
    record.transcode_assign = &assign;
    assert(weir__lifecycle_record__get_packed_size(&record) <= sizeof(packed));
    size_t len = weir__lifecycle_record__pack(&record, packed);
    f->state = FEED_ASSIGNING;
    f->submit.data = f;
    /* Not repeated by the client: a second copy would fence the first one's worker. */
    int rc = views_submit(f->node->views, VIEW_LIFECYCLE, f->options.channel, packed, len,
                          &f->submit, on_assigned);
    if (rc < 0) {
        retry(f);
        return;
    }
    f->submitting = true;
}

/* --- Silence
 * -----------------------------------------------------------------------------------------------------
 */

static void lost(struct feed *f, int status)
{
    log_warn("transcode_lost", "channel=%s node=%s epoch=%" PRId64 " error=\"%s\"",
             f->options.channel, f->node->config->nodes[f->chosen].name, f->worker_epoch,
             error_name(status));
    detach(f);
    choose(f); /* at once: viewers wait */
}

/* Counts turns of this loop rather than asking the clock: a stall of its own, however long, is one
 * beat missed, and what came meanwhile is read before the next is counted. */
static void on_beat_missed(struct env_timer *timer)
{
    struct feed *f = timer->data;
    if (++f->beats_missed < BEATS_MISSED_MAX) {
        env_timer_start(timer, WIRE_BEAT_MS * 1000, on_beat_missed);
        return;
    }
    avoid_chosen(f);
    lost(f, WEIR_ETIMEOUT);
}

static void heard(struct feed *f)
{
    f->beats_missed = 0;
    env_timer_start(&f->timer, WIRE_BEAT_MS * 1000, on_beat_missed);
}

/* --- The link
 * ----------------------------------------------------------------------------------------------------
 */

static void on_dialled(void *data, int status, struct env_stream *stream, const uint8_t *early,
                       size_t n_early)
{
    struct feed *f = data;
    f->dial = NULL;
    if (stream == NULL) {
        log_warn("transcode_dial_failed", "channel=%s node=%s status=%d", f->options.channel,
                 f->node->config->nodes[f->chosen].name, status);
        avoid_chosen(f);
        retry(f);
        return;
    }
    f->link = stream;
    f->state = FEED_RUNNING;
    env_stream_set_data(stream, f);
    metric_add(f->assigned, 1);
    log_info("transcode_assigned",
             "channel=%s node=%s epoch=%" PRId64 " msn=%" PRIu64 " part=%u rung=%d",
             f->options.channel, f->node->config->nodes[f->chosen].name, f->worker_epoch,
             f->position.next[0].msn, f->position.next[0].part, f->position.rung);
    if (!replay(f)) {
        retry(f);
        return;
    }
    heard(f);
    env_stream_read_start(stream, on_link_read);
    if (n_early > 0) {
        on_link_read(stream, early, n_early, 0);
    }
}

static void dial(struct feed *f)
{
    const struct config *config = f->node->config;
    const struct config_address *at = config_internal(config, &config->nodes[f->chosen]);
    const struct lifecycle_channel *c = own_channel(f);
    struct position *p = &f->position;
    char path[PATH_SIZE];
    if (c == NULL) {
        over(f, WEIR_EFENCED, "another publisher took over");
        return;
    }
    position_find(c, &f->backlog, f->rung, p);
    if (p->from_us == BACKLOG_NONE) { /* its key frame is still to come */
        retry(f);
        return;
    }
    f->rung = p->rung;
    (void)snprintf(
        path, sizeof(path),
        "/internal/transcode/stream/%s?epoch=%" PRId64 "&broadcast=%016" PRIx64 "&wall_ms=%" PRId64
        "&msn0=%" PRIu64 "&part0=%u&msn1=%" PRIu64 "&part1=%u&discontinuity=%d",
        f->options.channel, f->worker_epoch, c->broadcast.id, f->options.wall_ms, p->next[0].msn,
        p->next[0].part, p->next[1].msn, p->next[1].part, p->discontinuity);
    struct http_call_options options = {.method = "GET",
                                        .host = at->host,
                                        .port = at->port,
                                        .path = path,
                                        .headers = f->headers,
                                        .timeout_ms = DIAL_TIMEOUT_MS,
                                        .response_max = 1024};
    f->state = FEED_DIALLING;
    if (http_dial_upgrade(f->node->http_client, &options, "weir-flv", on_dialled, f, &f->dial,
                          NULL) < 0) {
        retry(f);
    }
}

static void on_text(struct feed *f, const struct wire_frame *frame)
{
    struct wire_text m;
    if (wire_get_text(frame, &m) < 0) {
        return;
    }
    if (m.code == WIRE_WARN_RUNG_DROPPED) {
        f->rung = false;
    }
    f->events.warning(f->events.data, m.text, m.len);
}

/* False: the feed is over, and may be gone. */
static bool on_frame(struct feed *f, const struct wire_frame *frame)
{
    struct wire_text m;
    char text[ERROR_TEXT_MAX];
    switch (frame->type) {
    case WIRE_WARNING:
        on_text(f, frame);
        return true;
    case WIRE_ERROR:
        (void)wire_get_text(frame, &m);
        (void)snprintf(text, sizeof(text), "%.*s", (int)(m.len < sizeof(text) ? m.len : 0), m.text);
        over(f, WEIR_EPROTO, text);
        return false;
    case WIRE_END:
        if (!f->finishing) {
            return true;
        }
        detach(f);
        f->state = FEED_OVER;
        f->events.finished(f->events.data);
        return false;
    default:
        return true; /* statistics, beats */
    }
}

static void on_link_read(struct env_stream *link, const uint8_t *data, size_t n, int status)
{
    struct feed *f = env_stream_data(link);
    struct error err = {0};
    size_t at = 0;
    int rc = status;
    heard(f);
    bytes_put(&f->in, data, n);
    while (rc >= 0) {
        struct wire_frame frame;
        rc = bytes_error(&f->in);
        rc = rc < 0 ? rc : wire_next(f->in.data + at, f->in.len - at, &frame, &err);
        if (rc <= 0) {
            break;
        }
        at += frame.size;
        if (!on_frame(f, &frame)) {
            return;
        }
    }
    if (rc == 0) {
        bytes_consume(&f->in, at);
        return;
    }
    lost(f, rc);
}

/* --- Input
 * -------------------------------------------------------------------------------------------------------
 */

void feed_config(struct feed *f, enum wire_type type, const uint8_t *config, size_t len)
{
    push(f, backlog_config(&f->backlog, type, config, len));
}

void feed_video(struct feed *f, const struct wire_video *frame)
{
    if (frame->key) {
        const struct lifecycle_channel *c = own_channel(f);
        backlog_trim(&f->backlog, c != NULL ? position_needed_us(c, f->rung) : BACKLOG_NONE);
    }
    push(f, backlog_video(&f->backlog, frame));
}

void feed_audio(struct feed *f, const struct wire_audio *frame)
{
    push(f, backlog_audio(&f->backlog, frame));
}

void feed_finish(struct feed *f)
{
    f->finishing = true;
    if (f->state == FEED_RUNNING && !send_finish(f)) {
        retry(f);
    }
}

void feed_set_epoch(struct feed *f, int64_t session_epoch)
{
    f->options.session_epoch = session_epoch;
    if (f->state != FEED_OVER && f->state != FEED_EMPTY) {
        retry(f);
    }
}
