#include "nodes/ingest/session.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "media/codec.h"
#include "media/flv.h"
#include "media/rtmp.h"
#include "media/timeline.h"
#include "nodes/ingest/feed.h"
#include "proto/lifecycle.pb-c.h"
#include "views/accounts.h"

#define TICK_US         250000
#define TICKS_PER_S     4
#define HANDSHAKE_TICKS (15 * TICKS_PER_S) /* from the connection to `publish` */
#define IDLE_TICKS      (15 * TICKS_PER_S) /* without a byte: the line is dead */
#define KEY_TICKS       4 /* an unknown key is looked up again: this node's view may be behind */
#define VIEW_TICKS      (15 * TICKS_PER_S) /* the view is not there yet */
#define CLAIM_TICKS     (20 * TICKS_PER_S)
#define LINGER_TICKS    2                  /* after the last word, before the close */
#define FINISH_TICKS    (20 * TICKS_PER_S) /* for the last parts */
#define STORED_TICKS    (60 * TICKS_PER_S) /* from a key frame to a part: more than BACKLOG_US_MAX */
#define START_MS        1000 /* of a new broadcast's timeline: times may step back a little */
#define NAME_BYTES      128

/* What happens next:
 *   GREETING   `publish` comes                        -> CHECKING
 *   CHECKING   the key is good                        -> CLAIMING, it is not: LINGERING
 *   CLAIMING   the claim is folded                    -> LIVE, it can't be: LINGERING
 *   LIVE       the encoder ends, or its line does     -> FINISHING
 *              another claim, or nothing is stored    -> LINGERING
 *   FINISHING  all parts are committed                -> ENDING when it ended properly, else gone
 *   ENDING     the end is folded                      -> gone
 *   LINGERING  a moment has passed                    -> gone */
enum session_state {
    SESSION_GREETING,
    SESSION_CHECKING,
    SESSION_CLAIMING,
    SESSION_LIVE,
    SESSION_FINISHING,
    SESSION_ENDING,
    SESSION_LINGERING,
};

struct session {
    struct node *node;
    struct session_owner owner;
    enum session_state state;
    struct env_stream *stream; /* NULL: closed */
    struct rtmp *rtmp;
    struct env_timer timer;
    unsigned ticks, idle_ticks; /* in this state; since the last byte */
    char key[RTMP_NAME_MAX];
    char channel[ACCOUNT_NAME_MAX + 1];
    uint64_t broadcast_id; /* proposed; also tells this session's claim from others' */
    int64_t epoch;
    struct view_submit submit;
    bool submitting, freed, in_rtmp, proper_end, video_told;
    bool shown;              /* a key frame has come */
    int64_t stored_us;       /* the end of what is stored */
    unsigned unstored_ticks; /* since it moved, or since the key frame */
    struct timeline timeline;
    bool has_audio;
    struct feed *feed;
    struct metric *bytes, *sessions;
};

struct output {
    struct env_send send;
    uint8_t data[];
};

static void on_tick(struct env_timer *timer);

/* --- The end
 * ------------------------------------------------------------------------------------------------------
 */

static void release(struct session *s)
{
    env_timer_close(&s->timer);
    feed_free(s->feed);
    s->feed = NULL;
    if (s->stream != NULL) {
        env_stream_close(s->stream, NULL, NULL);
        s->stream = NULL;
    }
    rtmp_free(s->rtmp);
    s->rtmp = NULL;
    metric_add(s->sessions, -1);
    s->freed = true;
    if (!s->submitting) {
        free(s);
    }
}

void session_kill(struct session *s)
{
    release(s);
}

static void gone(struct session *s)
{
    s->owner.closed(s->owner.data, s);
    release(s);
}

static void enter(struct session *s, enum session_state state)
{
    s->state = state;
    s->ticks = 0;
}

/* --- To the encoder
 * ------------------------------------------------------------------------------------------------
 */

static void on_sent(struct env_send *send, int status)
{
    (void)status;
    free(send->data);
}

static void flush(struct session *s)
{
    struct bytes *out = rtmp_output(s->rtmp);
    if (s->stream == NULL || out->len == 0) {
        return;
    }
    struct output *o = calloc(1, sizeof(*o) + out->len);
    if (o != NULL) {
        memcpy(o->data, out->data, out->len);
        o->send.data = o;
        struct iovec iov = {o->data, out->len};
        env_stream_send(s->stream, &o->send, &iov, 1, on_sent);
    }
    bytes_consume(out, out->len);
}

static void linger(struct session *s)
{
    flush(s);
    feed_free(s->feed);
    s->feed = NULL;
    enter(s, SESSION_LINGERING);
}

static void refuse(struct session *s, const char *text)
{
    log_info("publish_refused", "channel=%s reason=\"%s\"", s->channel, text);
    rtmp_publish_reject(s->rtmp, text);
    linger(s);
}

/* A live session is cut off. */
static void cut_off(struct session *s, const char *text)
{
    log_info("publish_cut_off", "channel=%s epoch=%" PRId64 " reason=\"%s\"", s->channel, s->epoch,
             text);
    if (s->state == SESSION_LIVE) {
        rtmp_publish_abort(s->rtmp, text);
    }
    linger(s);
}

/* --- Records
 * --------------------------------------------------------------------------------------------------------
 */

static void on_folded(struct view_submit *submit, int status, enum verdict verdict);

static int submit_record(struct session *s, Weir__LifecycleRecord *record)
{
    uint8_t packed[1024];
    record->channel = s->channel;
    size_t len = weir__lifecycle_record__get_packed_size(record);
    if (s->submitting || len > sizeof(packed)) {
        return WEIR_EBUSY;
    }
    weir__lifecycle_record__pack(record, packed);
    s->submit.data = s;
    int rc = views_submit(s->node->views, VIEW_LIFECYCLE, s->channel, packed, len, &s->submit,
                          on_folded);
    s->submitting = rc == 0;
    return rc;
}

/* Repeated until it is in, within CLAIM_TICKS. It follows the session that this node knows of now:
 * one that is stored when this session has long gone must not take the channel from the next
 * (decision 0430), and of copies that were stored without our knowing only one counts. */
static void claim(struct session *s)
{
    char node[CONFIG_NAME_MAX], encoder[NAME_BYTES];
    Weir__SessionClaim m = WEIR__SESSION_CLAIM__INIT;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    (void)snprintf(node, sizeof(node), "%s", s->node->self->name);
    (void)snprintf(encoder, sizeof(encoder), "%s", rtmp_encoder(s->rtmp));
    m.node = node;
    m.broadcast_id = s->broadcast_id;
    m.encoder = encoder;
    m.follows = lifecycle_claim_follows(lifecycle_live(s->node->views, s->channel));
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_SESSION_CLAIM;
    record.session_claim = &m;
    (void)submit_record(s, &record); /* the next tick tries again */
}

static void end_broadcast(struct session *s)
{
    char reason[] = "unpublished";
    Weir__BroadcastEnd m = WEIR__BROADCAST_END__INIT;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    m.session_epoch = s->epoch;
    m.reason = reason;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_BROADCAST_END;
    record.broadcast_end = &m;
    (void)submit_record(s, &record);
}

/* --- Live
 * ------------------------------------------------------------------------------------------------------------
 */

static void on_feed_failed(void *data, int status, const char *text)
{
    struct session *s = data;
    (void)status;
    if (s->state == SESSION_LIVE && !s->in_rtmp) {
        cut_off(s, text);
    } else {
        gone(s);
    }
}

static void on_feed_finished(void *data)
{
    struct session *s = data;
    feed_free(s->feed);
    s->feed = NULL;
    if (s->proper_end) {
        enter(s, SESSION_ENDING);
        end_broadcast(s);
    } else {
        gone(s);
    }
}

static void on_feed_warning(void *data, const char *text, size_t len)
{
    const struct session *s = data;
    log_warn("stream_warning", "channel=%s text=\"%.*s\"", s->channel, (int)len, text);
}

/* The encoder's side has ended. What it sent still has to be committed. */
static void finish(struct session *s, const char *why)
{
    log_info("publish_ended", "channel=%s epoch=%" PRId64 " reason=\"%s\"", s->channel, s->epoch,
             why);
    enter(s, SESSION_FINISHING);
    feed_finish(s->feed);
}

static void go_live(struct session *s, int64_t epoch)
{
    const struct lifecycle_channel *c = lifecycle_live(s->node->views, s->channel);
    struct error err = {0};
    if (c == NULL || c->session_epoch != epoch) {
        refuse(s, "another encoder took over");
        return;
    }
    int64_t start_ms = c->end_us > 0 ? (c->end_us + 999) / 1000 : START_MS;
    struct feed_options options = {.session_epoch = epoch,
                                   .wall_ms = env_wall_ms(s->node->env) - start_ms};
    (void)snprintf(options.channel, sizeof(options.channel), "%s", s->channel);
    struct feed_events events = {s, on_feed_failed, on_feed_finished, on_feed_warning};
    if (feed_new(s->node, &options, &events, &s->feed) < 0) {
        refuse(s, "out of memory");
        return;
    }
    s->epoch = epoch;
    timeline_init(&s->timeline, start_ms);
    enter(s, SESSION_LIVE);
    s->idle_ticks = 0;
    log_info("publish_started", "channel=%s epoch=%" PRId64 " encoder=\"%s\" peer=%s", s->channel,
             epoch, rtmp_encoder(s->rtmp), s->stream != NULL ? env_stream_peer(s->stream) : "");
    s->in_rtmp = true;
    int rc = rtmp_publish_accept(s->rtmp, &err);
    s->in_rtmp = false;
    flush(s);
    if (rc < 0 && s->state == SESSION_LIVE) {
        finish(s, err.text);
    }
}

static void on_claimed(struct session *s, int status, enum verdict verdict)
{
    if (status == 0 && verdict == VERDICT_OK) {
        go_live(s, s->submit.offset);
    } else if (status == 0 && verdict == VERDICT_FENCED) {
        log_info("claim_overtaken", "channel=%s", s->channel); /* the next tick looks again */
    } else if (status == 0) {
        refuse(s, verdict_name(verdict));
    } else {
        log_warn("claim_failed", "channel=%s error=\"%s\"", s->channel, error_name(status));
    }
}

static void on_folded(struct view_submit *submit, int status, enum verdict verdict)
{
    struct session *s = submit->data;
    s->submitting = false;
    if (s->freed) {
        free(s);
    } else if (s->state == SESSION_CLAIMING) {
        on_claimed(s, status, verdict);
    } else if (s->state == SESSION_ENDING && status == 0) {
        gone(s);
    }
}

/* --- From the encoder
 * ------------------------------------------------------------------------------------------------
 */

static void check_key(struct session *s)
{
    struct account_channel channel;
    int rc = accounts_by_stream_key(s->node->views, s->key, &channel);
    if (rc == 0) {
        (void)snprintf(s->channel, sizeof(s->channel), "%s", channel.name);
        s->broadcast_id = env_random_u64(s->node->env) | 1; /* never 0 */
        enter(s, SESSION_CLAIMING);
        claim(s);
    } else if (rc == WEIR_EUNAVAILABLE || !views_ready(s->node->views)) {
        if (s->ticks > VIEW_TICKS) {
            refuse(s, "This server is not ready yet, try again.");
        }
    } else if (s->ticks > KEY_TICKS) {
        refuse(s, "Wrong stream key.");
    }
}

static void on_publish(void *data, const char *app, const char *name)
{
    struct session *s = data;
    (void)app;
    (void)snprintf(s->key, sizeof(s->key), "%s", name);
    s->key[strcspn(s->key, "?")] = 0; /* OBS and others append parameters */
    enter(s, SESSION_CHECKING);
    /* Looked up at the next tick or, mostly, now; but not from inside the parser. */
}

static void on_video(struct session *s, uint32_t timestamp_ms, const struct flv_packet *p)
{
    if (p->kind == FLV_CONFIG) {
        feed_config(s->feed, WIRE_VIDEO_CONFIG, p->data, p->len);
    } else if (p->kind == FLV_FRAME) {
        s->shown = s->shown || p->key;
        struct wire_video frame = {.key = p->key, .data = p->data, .len = p->len};
        timeline_video(&s->timeline, timestamp_ms, p->composition_ms, &frame.dts,
                       &frame.composition);
        feed_video(s->feed, &frame);
    }
}

/* The sample rate sets the clock that sound is counted in; the rest of the configuration is for the
 * worker to judge. */
static void on_audio_config(struct session *s, const struct flv_packet *p)
{
    struct codec_aac aac;
    if (codec_aac_parse(p->data, p->len, &aac, NULL) == 0) {
        timeline_set_audio(&s->timeline, aac.sample_rate, aac.frame_samples);
        s->has_audio = true;
    }
    feed_config(s->feed, WIRE_AUDIO_CONFIG, p->data, p->len);
}

static void on_audio(struct session *s, uint32_t timestamp_ms, const struct flv_packet *p)
{
    if (p->kind == FLV_CONFIG) {
        on_audio_config(s, p);
    } else if (p->kind == FLV_FRAME && s->has_audio) {
        struct wire_audio frame = {.data = p->data, .len = p->len};
        timeline_audio(&s->timeline, timestamp_ms, &frame.samples);
        feed_audio(s->feed, &frame);
    }
}

static void on_media(void *data, enum rtmp_media type, uint32_t timestamp_ms, const uint8_t *body,
                     size_t len)
{
    struct session *s = data;
    struct flv_packet p;
    struct error err = {0};
    if (s->state != SESSION_LIVE) {
        return;
    }
    int rc = type == RTMP_VIDEO ? flv_parse_video(body, len, &p, &err)
                                : flv_parse_audio(body, len, &p, &err);
    if (rc < 0) {
        cut_off(s, err.text);
    } else if (type == RTMP_VIDEO) {
        on_video(s, timestamp_ms, &p);
    } else {
        on_audio(s, timestamp_ms, &p);
    }
}

static void on_metadata(void *data, const struct rtmp_metadata *m)
{
    const struct session *s = data;
    log_info("stream_metadata", "channel=%s width=%.0f height=%.0f fps=%.2f video_kbps=%.0f",
             s->channel, m->width, m->height, m->fps, m->video_kbps);
}

static void on_unpublish(void *data)
{
    struct session *s = data;
    s->proper_end = true;
}

/* The connection has ended or is to be ended. */
static void on_line_down(struct session *s, const char *why)
{
    switch (s->state) {
    case SESSION_LIVE:
        finish(s, why);
        break;
    case SESSION_FINISHING:
    case SESSION_ENDING:
        break;
    default:
        gone(s);
        return;
    }
    env_stream_close(s->stream, NULL, NULL);
    s->stream = NULL;
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct session *s = env_stream_data(stream);
    struct error err = {0};
    if (status < 0) {
        on_line_down(s, s->proper_end ? "unpublished" : "connection lost");
        return;
    }
    s->idle_ticks = 0;
    metric_add(s->bytes, (int64_t)n);
    if (s->state == SESSION_LINGERING) {
        return;
    }
    s->in_rtmp = true;
    int rc = rtmp_receive(s->rtmp, data, n, &err);
    s->in_rtmp = false;
    flush(s);
    if (s->state == SESSION_CHECKING) {
        check_key(s);
    } else if (s->proper_end && s->state == SESSION_LIVE) {
        finish(s, "unpublished");
    } else if (rc < 0 && s->state != SESSION_LINGERING) {
        log_info("rtmp_closed", "peer=%s error=\"%s\"", env_stream_peer(stream), err.text);
        on_line_down(s, err.text);
    }
}

/* Parts may be slow to come, and the first ones are held back for up to 20 s (decision 0032). */
static bool is_stored(struct session *s)
{
    const struct lifecycle_channel *c = lifecycle_live(s->node->views, s->channel);
    if (c != NULL && c->end_us != s->stored_us) {
        s->stored_us = c->end_us;
        s->unstored_ticks = 0;
    }
    s->unstored_ticks += s->shown;
    return s->unstored_ticks <= STORED_TICKS;
}

static void on_state_timeout(struct session *s)
{
    switch (s->state) {
    case SESSION_GREETING:
        if (s->ticks > HANDSHAKE_TICKS) {
            gone(s);
        }
        break;
    case SESSION_CHECKING:
        check_key(s);
        break;
    case SESSION_CLAIMING:
        if (s->ticks > CLAIM_TICKS) {
            refuse(s, "This server can't take the stream now, try again.");
        } else if (!s->submitting) {
            claim(s);
        }
        break;
    case SESSION_LIVE:
        if (s->idle_ticks > IDLE_TICKS) {
            on_line_down(s, "silent");
        } else if (!is_stored(s)) {
            cut_off(s, "Nothing of the stream could be stored for a minute, try again.");
        }
        break;
    case SESSION_FINISHING:
    case SESSION_ENDING:
        if (s->ticks > FINISH_TICKS) {
            gone(s); /* the grace time ends the broadcast */
        } else if (s->state == SESSION_ENDING && !s->submitting) {
            end_broadcast(s);
        }
        break;
    case SESSION_LINGERING:
        if (s->ticks > LINGER_TICKS) {
            gone(s);
        }
        break;
    }
}

static void on_tick(struct env_timer *timer)
{
    struct session *s = timer->data;
    s->ticks++;
    s->idle_ticks++;
    env_timer_start(timer, TICK_US, on_tick);
    on_state_timeout(s); /* may end it */
}

/* --- Life
 * ------------------------------------------------------------------------------------------------------------
 */

int session_new(struct node *node, const struct session_owner *owner, struct env_stream *stream,
                struct session **ret_session)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc = s == NULL ? WEIR_ENOMEM : env_timer_init(node->env, &s->timer);
    if (rc == 0) {
        struct rtmp_events events = {s, on_publish, on_media, on_metadata, on_unpublish};
        rc = rtmp_new(&events, &s->rtmp);
        if (rc < 0) {
            env_timer_close(&s->timer);
        }
    }
    if (rc < 0) {
        free(s);
        env_stream_close(stream, NULL, NULL);
        return rc;
    }
    s->node = node;
    s->owner = *owner;
    s->stream = stream;
    s->epoch = LIFECYCLE_NO_EPOCH;
    s->timer.data = s;
    s->bytes = metric_counter("weir_ingest_received_bytes_total", "", "Received from encoders.");
    s->sessions = metric_gauge("weir_ingest_sessions", "", "Encoders connected or being finished.");
    metric_add(s->sessions, 1);
    env_stream_set_data(stream, s);
    env_timer_start(&s->timer, TICK_US, on_tick);
    env_stream_read_start(stream, on_read);
    *ret_session = s;
    return 0;
}

static bool owns(const struct session *s, const char *channel)
{
    bool claimed = s->state == SESSION_LIVE || s->state == SESSION_FINISHING;
    return claimed && strcmp(s->channel, channel) == 0;
}

bool session_is_live(const struct session *s, const char *channel)
{
    return s->state == SESSION_LIVE && owns(s, channel);
}

void session_on_claim(struct session *s, const char *channel, int64_t offset, uint64_t broadcast_id)
{
    if (!owns(s, channel) || offset <= s->epoch) {
        return;
    }
    if (broadcast_id == s->broadcast_id) {
        s->epoch = offset; /* our own claim, stored a second time */
        feed_set_epoch(s->feed, offset);
    } else if (s->state == SESSION_LIVE) {
        cut_off(s, "another encoder took over");
    } else {
        gone(s);
    }
}

void session_on_cut_off(struct session *s)
{
    if (s->state == SESSION_CHECKING || s->state == SESSION_CLAIMING) {
        refuse(s, "This server is cut off from the others, try another one.");
    } else if (s->state == SESSION_LIVE) {
        cut_off(s, "This server is cut off from the others, try another one.");
    }
}

void session_on_end(struct session *s, const char *channel)
{
    if (!owns(s, channel)) {
        return;
    }
    if (s->state == SESSION_LIVE) {
        cut_off(s, "the broadcast has ended");
    } else {
        gone(s);
    }
}
