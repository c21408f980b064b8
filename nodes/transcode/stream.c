#include "nodes/transcode/stream.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/logging.h"
#include "base/process.h"
#include "media/timeline.h"
#include "nodes/transcode/commit.h"

/* Above these the reading side waits. */
#define TO_WORKER_MAX   (8u << 20)
#define UNCOMMITTED_MAX (64u << 20)
#define FROM_WORKER_MAX (WIRE_PAYLOAD_MAX + WIRE_HEADER_SIZE + (1u << 20))
#define INIT_HASH_BYTES 16
#define KEEP_BUFFER_MAX (1u << 20)
/* Beats in which a worker reads nothing of what waits for it: it hangs (decision 0381). */
#define HANG_BEATS 16

struct rendition {
    bool started;
    char name[16];
    uint64_t msn;      /* of the object that is being written */
    uint64_t position; /* in it */
    bool open;
};

struct stream {
    struct node *node;
    struct stream_options options;
    void (*closed)(void *data, struct stream *s);
    void *data;
    struct env_stream *link;
    struct env_timer beat;
    struct process *process;
    struct commits *commits;
    struct bytes in; /* from the worker */
    struct rendition renditions[WIRE_RENDITIONS];
    bool link_paused, worker_paused, ended;
    uint64_t written;    /* to the worker */
    int64_t read_max;    /* what it has read of that, at the most, as far as is known */
    unsigned idle_beats; /* since it has read something */
};

/* A frame on its way to ingest. */
struct reply {
    struct env_send send;
    size_t len;
    uint8_t data[];
};

/* --- The end
 * ----------------------------------------------------------------------------------------------------
 */

static void free_stream(void *data)
{
    free(data);
}

static void release(struct stream *s)
{
    env_timer_close(&s->beat);
    process_free(s->process);
    s->process = NULL;
    commits_free(s->commits);
    s->commits = NULL;
    bytes_close(&s->in);
    env_stream_close(s->link, free_stream, s);
}

void stream_kill(struct stream *s)
{
    release(s);
}

static void stream_close(struct stream *s, enum log_level level, const char *why)
{
    log_event(level, "transcode_ended", "channel=%s epoch=%" PRId64 " reason=\"%s\"",
              s->options.channel, s->options.worker_epoch, why);
    s->closed(s->data, s);
    release(s);
}

/* --- To ingest
 * ---------------------------------------------------------------------------------------------------
 */

static void on_replied(struct env_send *send, int status)
{
    (void)status;
    free(send->data);
}

/* Best effort: without memory ingest learns less. */
static void reply(struct stream *s, const uint8_t *frame, size_t len)
{
    struct reply *r = malloc(sizeof(*r) + len);
    if (r == NULL) {
        return;
    }
    memset(&r->send, 0, sizeof(r->send));
    r->send.data = r;
    r->len = len;
    memcpy(r->data, frame, len);
    struct iovec iov = {r->data, len};
    env_stream_send(s->link, &r->send, &iov, 1, on_replied);
}

static void reply_empty(struct stream *s, enum wire_type type)
{
    struct bytes b;
    bytes_init(&b, 64);
    wire_put_empty(&b, type);
    if (bytes_error(&b) == 0) {
        reply(s, b.data, b.len);
    }
    bytes_close(&b);
}

/* There is something to read for the worker, and it reads nothing: it was stopped, or goes round in
 * circles. One that is slow reads something now and then. */
static bool worker_hangs(struct stream *s)
{
    size_t unread = process_unread_bytes(s->process);
    int64_t read = (int64_t)s->written - (int64_t)unread;
    if (unread == 0 || read > s->read_max || s->worker_paused || s->ended) {
        s->read_max = read;
        s->idle_beats = 0;
        return false;
    }
    return ++s->idle_beats >= HANG_BEATS;
}

/* From this loop, so that beats stop with what else the node does for the stream. */
static void on_beat(struct env_timer *timer)
{
    struct stream *s = timer->data;
    if (worker_hangs(s)) {
        stream_close(s, LOG_WARN, "the worker hangs");
        return;
    }
    if (env_stream_queued_bytes(s->link) == 0) { /* else what waits there says the same */
        reply_empty(s, WIRE_BEAT);
    }
    env_timer_start(timer, WIRE_BEAT_MS * 1000, on_beat);
}

/* The worker has sent all, the log has it all. The link closes when ingest has read this and closes
 * it. */
static void finish_if_done(struct stream *s)
{
    if (s->ended && commits_idle(s->commits)) {
        reply_empty(s, WIRE_END);
    }
}

/* --- From the worker
 * --------------------------------------------------------------------------------------------- */

static int64_t ticks_us(int64_t ticks)
{
    return ticks * 100 / 9;
}

static int on_rendition(struct stream *s, const struct wire_frame *f, struct error *err)
{
    struct wire_rendition m;
    if (wire_get_rendition(f, &m) < 0) {
        return error_set(err, WEIR_EPROTO, "malformed rendition");
    }
    struct rendition *r = &s->renditions[m.rendition];
    /* Named by its content: a worker that takes over writes the same one again. */
    uint8_t hash[INIT_HASH_BYTES];
    char hex[2 * INIT_HASH_BYTES + 1], object[COMMIT_OBJECT_MAX];
    crypto_generichash(hash, sizeof(hash), m.init, m.init_len, NULL, 0);
    sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
    (void)snprintf(object, sizeof(object), "%016" PRIx64 "/init-%s.mp4", s->options.broadcast, hex);
    if (m.rendition == 0) {
        (void)snprintf(r->name, sizeof(r->name), "source");
    } else {
        (void)snprintf(r->name, sizeof(r->name), "%up", s->node->config->media_rung_height);
    }
    Weir__RenditionStart start = WEIR__RENDITION_START__INIT;
    start.worker_epoch = s->options.worker_epoch;
    start.rendition = m.rendition;
    start.name = r->name;
    start.codecs = m.codecs;
    start.width = m.width;
    start.height = m.height;
    start.frame_rate_milli = m.frame_rate_milli;
    start.bandwidth = m.bandwidth;
    start.init_object = object;
    start.init_size = (uint32_t)m.init_len;
    start.init_crc32c = crc32c(0, m.init, m.init_len);
    /* The first time it goes on where the log stands, afterwards where the worker says. */
    start.first_msn = r->started ? m.first_msn : s->options.next[m.rendition].msn;
    start.discontinuity = m.discontinuity || (!r->started && s->options.discontinuity);
    start.part_target_ms = s->node->config->media_part_ms;
    start.target_duration_ms = m.target_duration_ms;
    r->started = true;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_RENDITION_START;
    record.rendition_start = &start;
    return commits_add(s->commits, m.rendition, object, 0, m.init, m.init_len, &record, err);
}

static int on_part(struct stream *s, const struct wire_frame *f, struct error *err)
{
    struct wire_part m;
    if (wire_get_part(f, &m) < 0 || m.start < 0 || !s->renditions[m.rendition].started) {
        return error_set(err, WEIR_EPROTO, "malformed part");
    }
    struct rendition *r = &s->renditions[m.rendition];
    if (!r->open || r->msn != m.msn) {
        r->msn = m.msn;
        r->position = 0;
    }
    r->open = !m.last;
    /* With the epoch in its name no other worker writes to it. */
    char object[COMMIT_OBJECT_MAX];
    (void)snprintf(object, sizeof(object), "%016" PRIx64 "/%s-%" PRId64 "-%" PRIu64 ".m4s",
                   s->options.broadcast, r->name, s->options.worker_epoch, m.msn);
    Weir__PartCommitted part = WEIR__PART_COMMITTED__INIT;
    part.worker_epoch = s->options.worker_epoch;
    part.rendition = m.rendition;
    part.msn = m.msn;
    part.part = m.part;
    part.start_us = ticks_us(m.start);
    part.duration_us = (uint32_t)(ticks_us(m.start + m.duration) - part.start_us);
    part.size = (uint32_t)m.len;
    part.crc32c = crc32c(0, m.data, m.len);
    part.independent = m.independent;
    part.last = m.last;
    part.object = object;
    part.position = r->position;
    part.wall_ms = s->options.wall_ms + part.start_us / 1000;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_PART_COMMITTED;
    record.part_committed = &part;
    r->position += m.len;
    return commits_add(s->commits, m.rendition, object, part.position, m.data, m.len, &record, err);
}

static int on_thumbnail(struct stream *s, const struct wire_frame *f, struct error *err)
{
    struct wire_thumbnail m;
    if (wire_get_thumbnail(f, &m) < 0) {
        return error_set(err, WEIR_EPROTO, "malformed thumbnail");
    }
    char object[COMMIT_OBJECT_MAX];
    (void)snprintf(object, sizeof(object), "%016" PRIx64 "/thumb-%" PRId64 "-%" PRIu64 ".jpg",
                   s->options.broadcast, s->options.worker_epoch, m.msn);
    Weir__Thumbnail thumbnail = WEIR__THUMBNAIL__INIT;
    thumbnail.worker_epoch = s->options.worker_epoch;
    thumbnail.object = object;
    thumbnail.size = (uint32_t)m.len;
    thumbnail.crc32c = crc32c(0, m.data, m.len);
    thumbnail.width = m.width;
    thumbnail.height = m.height;
    thumbnail.msn = m.msn;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_THUMBNAIL;
    record.thumbnail = &thumbnail;
    return commits_add(s->commits, COMMIT_THUMBNAILS, object, 0, m.data, m.len, &record, err);
}

static void log_text(const struct stream *s, const struct wire_frame *f)
{
    struct wire_text m;
    if (wire_get_text(f, &m) == 0) {
        log_warn(f->type == WIRE_ERROR ? "worker_error" : "worker_warning",
                 "channel=%s text=\"%.*s\"", s->options.channel, (int)m.len, m.text);
    }
}

static int handle(struct stream *s, const uint8_t *data, const struct wire_frame *f,
                  struct error *err)
{
    switch (f->type) {
    case WIRE_RENDITION:
        return on_rendition(s, f, err);
    case WIRE_PART:
        return on_part(s, f, err);
    case WIRE_THUMBNAIL:
        return on_thumbnail(s, f, err);
    case WIRE_WARNING:
    case WIRE_ERROR:
        log_text(s, f);
        reply(s, data, f->size);
        return 0;
    case WIRE_STATS:
        reply(s, data, f->size);
        return 0;
    case WIRE_END:
        s->ended = true;
        finish_if_done(s);
        return 0;
    default:
        return error_set(err, WEIR_EPROTO, "frame of type %u from the worker", f->type);
    }
}

static void on_worker_read(void *data, const uint8_t *bytes, size_t n)
{
    struct stream *s = data;
    struct error err = {0};
    bytes_put(&s->in, bytes, n);
    size_t at = 0;
    int rc = bytes_error(&s->in);
    while (rc == 0) {
        struct wire_frame f;
        rc = wire_next(s->in.data + at, s->in.len - at, &f, &err);
        if (rc <= 0) {
            break;
        }
        rc = handle(s, s->in.data + at, &f, &err);
        at += f.size;
    }
    if (rc < 0) {
        stream_close(s, LOG_WARN, err.code != 0 ? err.text : error_name(rc));
        return;
    }
    bytes_consume(&s->in, at);
    if (s->in.len == 0 && s->in.cap > KEEP_BUFFER_MAX) {
        bytes_close(&s->in);
    }
    if (commits_bytes(s->commits) > UNCOMMITTED_MAX && !s->worker_paused) {
        s->worker_paused = true;
        process_read_stop(s->process);
    }
}

static void on_link_read(struct env_stream *link, const uint8_t *bytes, size_t n, int status);

static void on_worker_drained(void *data)
{
    struct stream *s = data;
    if (s->link_paused) {
        s->link_paused = false;
        env_stream_read_start(s->link, on_link_read);
    }
}

static void on_worker_exited(void *data, int status, int signal)
{
    struct stream *s = data;
    if (s->ended) {
        return; /* its last commits are on their way */
    }
    char why[64];
    (void)snprintf(why, sizeof(why), "worker ended with status %d, signal %d", status, signal);
    stream_close(s, LOG_WARN, why);
}

/* --- Commits
 * -----------------------------------------------------------------------------------------------------
 */

static void on_commit_failed(void *data, int status, const char *text)
{
    struct stream *s = data;
    stream_close(s, status == WEIR_EFENCED ? LOG_INFO : LOG_WARN, text);
}

static void on_commit_done(void *data)
{
    struct stream *s = data;
    if (s->worker_paused && commits_bytes(s->commits) <= UNCOMMITTED_MAX / 2) {
        s->worker_paused = false;
        process_read_start(s->process);
    }
    finish_if_done(s);
}

/* --- From ingest
 * -------------------------------------------------------------------------------------------------
 */

static int forward(struct stream *s, const uint8_t *bytes, size_t n)
{
    int rc = process_write(s->process, bytes, n);
    s->written += n;
    if (rc == 0 && process_queued_bytes(s->process) > TO_WORKER_MAX) {
        s->link_paused = true;
        env_stream_read_stop(s->link);
    }
    return rc;
}

static void on_link_read(struct env_stream *link, const uint8_t *bytes, size_t n, int status)
{
    struct stream *s = env_stream_data(link);
    if (status < 0) {
        stream_close(s, LOG_INFO, s->ended ? "finished" : "ingest closed the link");
    } else if (forward(s, bytes, n) < 0) {
        stream_close(s, LOG_WARN, "out of memory");
    }
}

int stream_new(struct node *node, const struct stream_options *options, struct env_stream *link,
               const uint8_t *early, size_t n_early, void (*closed)(void *data, struct stream *s),
               void *data, struct stream **ret_stream, struct error *err)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        env_stream_close(link, NULL, NULL);
        return error_set(err, WEIR_ENOMEM, "stream of %s", options->channel);
    }
    s->node = node;
    s->options = *options;
    s->closed = closed;
    s->data = data;
    s->link = link;
    s->beat.data = s;
    bytes_init(&s->in, FROM_WORKER_MAX);
    struct commits_events commits = {s, on_commit_failed, on_commit_done};
    struct process_events process = {s, on_worker_read, on_worker_drained, on_worker_exited};
    int rc = commits_new(node, options->channel, options->worker_epoch, &commits, &s->commits);
    if (rc == 0) {
        rc = env_timer_init(node->env, &s->beat);
    }
    if (rc == 0) {
        rc = process_spawn(node->env, "worker", &process, &s->process, err);
    }
    if (rc == 0) {
        rc = forward(s, early, n_early);
    }
    if (rc < 0) {
        release(s);
        return rc;
    }
    env_stream_set_data(link, s);
    if (!s->link_paused) {
        env_stream_read_start(link, on_link_read);
    }
    on_beat(&s->beat);
    log_info("transcode_started", "channel=%s epoch=%" PRId64 " worker_pid=%ld", options->channel,
             options->worker_epoch, process_pid(s->process));
    *ret_stream = s;
    return 0;
}
