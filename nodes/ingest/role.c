/* The ingest role: encoders' connections, and the end of broadcasts that nobody goes on with.
 *
 * Every ingest node watches all live channels: one that has had neither a claim nor a part for
 * media.grace_ms, by this node's clock (silence.h), is ended, with the epoch and the last sign of
 * life that were seen: the fold lets that count once, and not at all when it was this node that had
 * fallen behind. */
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/logging.h"
#include "base/metrics.h"
#include "nodes/ingest/reach.h"
#include "nodes/ingest/session.h"
#include "nodes/ingest/silence.h"
#include "proto/lifecycle.pb-c.h"

#define SESSIONS_MAX 1024
#define WATCH_US     1000000
#define STAGGER_MS                                                                                 \
    1000            /* nodes look one after the other: mostly the first one's record does it       \
                     */
#define ENDS_MAX 64 /* records on their way */

struct ingest;

/* The end of a stale broadcast, on its way. */
struct ending {
    struct ingest *role;
    char channel[LIFECYCLE_CHANNEL_MAX + 1]; /* "": free */
    struct view_submit submit;
};

struct ingest {
    struct node *node;
    struct env_listener *listener;
    struct env_timer watch, look;
    struct reach reach;
    struct metric *cut_off;
    struct silence *silence;
    struct view_listener views;
    struct session *sessions[SESSIONS_MAX];
    unsigned n_sessions;
    struct ending endings[ENDS_MAX];
    unsigned n_endings;
    bool stopping;
    void (*stopped)(void *data);
    void *stopped_data;
};

static void on_session_closed(void *data, struct session *s)
{
    struct ingest *in = data;
    for (unsigned i = 0; i < in->n_sessions; i++) {
        if (in->sessions[i] == s) {
            in->sessions[i] = in->sessions[--in->n_sessions];
            break;
        }
    }
}

static void on_accept(struct env_listener *listener, struct env_stream *stream)
{
    struct ingest *in = env_listener_data(listener);
    if (in->n_sessions == SESSIONS_MAX) {
        log_warn("ingest_full", "peer=%s", env_stream_peer(stream));
        env_stream_close(stream, NULL, NULL);
        return;
    }
    struct session_owner owner = {in, on_session_closed};
    struct session *s;
    int rc = session_new(in->node, &owner, stream, &s);
    if (rc < 0) {
        log_error("ingest_failed", "error=\"%s\"", error_name(rc));
        return;
    }
    in->sessions[in->n_sessions++] = s;
}

/* --- What the log says
 * ------------------------------------------------------------------------------------------------
 */

static void on_view_event(void *data, const struct view_event *event)
{
    struct ingest *in = data;
    const Weir__LifecycleRecord *m = event->record;
    if (event->verdict != VERDICT_OK || m == NULL) {
        return;
    }
    bool claim = m->body_case == WEIR__LIFECYCLE_RECORD__BODY_SESSION_CLAIM;
    bool end = m->body_case == WEIR__LIFECYCLE_RECORD__BODY_BROADCAST_END;
    if (!claim && !end) {
        return;
    }
    /* Backwards: a session that ends moves the last one to its place. */
    for (unsigned i = in->n_sessions; i-- > 0;) {
        if (claim) {
            session_on_claim(in->sessions[i], m->channel, event->offset,
                             m->session_claim->broadcast_id);
        } else {
            session_on_end(in->sessions[i], m->channel);
        }
    }
}

/* --- Broadcasts that nobody goes on with
 * ------------------------------------------------------------------------------- */

static void stop_if_done(struct ingest *in)
{
    if (in->stopping && in->n_endings == 0) {
        void (*stopped)(void *data) = in->stopped;
        void *data = in->stopped_data;
        silence_free(in->silence);
        free(in);
        stopped(data);
    }
}

static void on_ended(struct view_submit *submit, int status, enum verdict verdict)
{
    struct ending *e = submit->data;
    struct ingest *in = e->role;
    if (status == 0 && verdict == VERDICT_OK) {
        log_info("broadcast_timed_out", "channel=%s", e->channel);
    }
    e->channel[0] = 0;
    in->n_endings--;
    stop_if_done(in);
}

static bool is_ending(const struct ingest *in, const char *channel)
{
    for (unsigned i = 0; i < ENDS_MAX; i++) {
        if (strcmp(in->endings[i].channel, channel) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_live_here(const struct ingest *in, const char *channel)
{
    for (unsigned i = 0; i < in->n_sessions; i++) {
        if (session_is_live(in->sessions[i], channel)) {
            return true;
        }
    }
    return false;
}

static int submit_end(struct ingest *in, struct ending *e, const struct lifecycle_channel *c)
{
    char reason[] = "timeout";
    uint8_t packed[256];
    Weir__BroadcastEnd m = WEIR__BROADCAST_END__INIT;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    (void)snprintf(e->channel, sizeof(e->channel), "%s", c->name);
    m.session_epoch = c->session_epoch;
    m.reason = reason;
    m.idle_since_ms = lifecycle_active_ms(c);
    record.channel = e->channel;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_BROADCAST_END;
    record.broadcast_end = &m;
    size_t len = weir__lifecycle_record__get_packed_size(&record);
    if (len > sizeof(packed)) {
        return WEIR_ETOOBIG;
    }
    weir__lifecycle_record__pack(&record, packed);
    e->role = in;
    e->submit.data = e;
    return views_submit(in->node->views, VIEW_LIFECYCLE, e->channel, packed, len, &e->submit,
                        on_ended);
}

/* How long a channel may be silent until this node ends it. */
static uint64_t patience_ms(const struct ingest *in)
{
    const struct config *config = in->node->config;
    return config->media_grace_ms + (uint64_t)(in->node->self - config->nodes) * STAGGER_MS;
}

static int on_live(void *data, const struct lifecycle_channel *channel)
{
    struct ingest *in = data;
    if (silence_ms(in->silence, channel->name, channel->session_epoch, channel->end_us) <=
        patience_ms(in)) {
        return 0;
    }
    if (is_live_here(in, channel->name) || is_ending(in, channel->name)) {
        return 0;
    }
    for (unsigned i = 0; i < ENDS_MAX; i++) {
        struct ending *e = &in->endings[i];
        if (e->channel[0] == 0) {
            if (submit_end(in, e, channel) == 0) {
                in->n_endings++;
            } else {
                e->channel[0] = 0;
            }
            return 0;
        }
    }
    return 0; /* the next round takes more */
}

static void on_watch(struct env_timer *timer)
{
    struct ingest *in = timer->data;
    env_timer_start(timer, WATCH_US, on_watch);
    if (!views_ready(in->node->views)) {
        return;
    }
    silence_round(in->silence, env_now_ns(in->node->env));
    (void)lifecycle_live_each(in->node->views, on_live, in);
}

/* --- Being cut off
 * ------------------------------------------------------------------------------------------------
 */

static void on_look(struct env_timer *timer)
{
    struct ingest *in = timer->data;
    env_timer_start(timer, REACH_LOOK_MS * 1000, on_look);
    if (reach_look(&in->reach, weir_client_silent_ns(in->node->client))) {
        metric_set(in->cut_off, in->reach.cut_off);
        log_event(in->reach.cut_off ? LOG_WARN : LOG_INFO,
                  in->reach.cut_off ? "ingest_cut_off" : "ingest_reaches_others", "sessions=%u",
                  in->n_sessions);
    }
    for (unsigned i = in->n_sessions; i-- > 0 && in->reach.cut_off;) {
        session_on_cut_off(in->sessions[i]);
    }
}

/* --- Life
 * --------------------------------------------------------------------------------------------------------------
 */

static int ingest_start(struct node *node, void **ret_state, struct error *err)
{
    struct ingest *in = calloc(1, sizeof(*in));
    int rc = in == NULL ? WEIR_ENOMEM : silence_new(&in->silence);
    rc = rc == 0 ? env_timer_init(node->env, &in->watch) : rc;
    if (rc == 0 && (rc = env_timer_init(node->env, &in->look)) < 0) {
        env_timer_close(&in->watch);
    }
    if (rc < 0) {
        silence_free(in != NULL ? in->silence : NULL);
        free(in);
        return error_set(err, rc, "ingest role");
    }
    in->node = node;
    rc = env_listen(node->env, node->self->rtmp.host, node->self->rtmp.port, on_accept, in,
                    &in->listener, err);
    if (rc < 0) {
        env_timer_close(&in->watch);
        env_timer_close(&in->look);
        silence_free(in->silence);
        free(in);
        return rc;
    }
    in->views = (struct view_listener){.data = in, .event = on_view_event};
    views_listen(node->views, VIEW_LIFECYCLE, &in->views);
    in->watch.data = in;
    env_timer_start(&in->watch, WATCH_US, on_watch);
    in->cut_off =
        metric_gauge("weir_ingest_cut_off", "", "1 while this node is cut off from a majority.");
    in->look.data = in;
    env_timer_start(&in->look, REACH_LOOK_MS * 1000, on_look);
    log_info("ingest_listening", "rtmp=%s:%u", node->self->rtmp.host, node->self->rtmp.port);
    *ret_state = in;
    return 0;
}

static void ingest_stop(void *state, void (*cb)(void *data), void *data)
{
    struct ingest *in = state;
    in->stopping = true;
    in->stopped = cb;
    in->stopped_data = data;
    env_listener_close(in->listener);
    env_timer_close(&in->watch);
    env_timer_close(&in->look);
    views_unlisten(&in->views);
    while (in->n_sessions > 0) {
        session_kill(in->sessions[--in->n_sessions]);
    }
    stop_if_done(in);
}

const struct role role_ingest = {"ingest", CONFIG_ROLE_INGEST, ingest_start, ingest_stop};
