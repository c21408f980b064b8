#include "media/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "media/packager.h"
#include "media/rung.h"
#include "media/sandbox.h"
#include "media/worker_wire.h"

#define READ_BYTES      (64u << 10)
#define IN_MAX          (WIRE_PAYLOAD_MAX + WIRE_HEADER_SIZE + READ_BYTES)
#define HELD_MAX        (256u << 20) /* a first segment of 20 s at 100 Mbit/s */
#define BUFFER_KEEP_MAX (256u << 10)
#define LONG_GOP_TICKS  (4 * CMAF_VIDEO_HZ)
#define NO_VIDEO_S      10
#define WORKER_NICE     5

struct worker;

/* Where one rendition's parts go. The first segment of a broadcast is held back until it is whole:
 * only then can the rendition be described (target duration, bandwidth), and no player can begin
 * before. */
struct sink {
    struct worker *worker;
    struct wire_rendition rendition;
    struct bytes init, fragment, held;
    bool described; /* RENDITION has been sent */
    uint64_t segment_bytes;
    int64_t segment_ticks;
    uint32_t segment_frames;
    uint64_t msn_offset; /* this rendition's number of a segment less the source's */
};

struct worker {
    int fd;
    pthread_mutex_t write_lock;
    struct bytes in;
    bool done, long_gop_told;
    int status;
    struct wire_start start;
    struct packager *packager; /* NULL before START */
    struct rung *rung;
    struct sink sinks[WIRE_RENDITIONS];
    /* The last configuration the rung was told, and one that waits for its key frame. */
    struct codec_avc video_config;
    bool video_config_new, has_video;
    int64_t first_audio;
    struct codec_aac audio_config;
    bool has_audio;
};

/* --- Output
 * ----------------------------------------------------------------------------------------------------
 */

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return WEIR_ECLOSED;
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Both threads send whole frames. */
static int send_frames(struct worker *w, const struct bytes *frames)
{
    if (bytes_error(frames) != 0) {
        return bytes_error(frames);
    }
    pthread_mutex_lock(&w->write_lock);
    int rc = write_all(w->fd, frames->data, frames->len);
    pthread_mutex_unlock(&w->write_lock);
    return rc;
}

static void send_warning(struct worker *w, enum wire_warning code, const char *text)
{
    struct bytes b;
    bytes_init(&b, 1024);
    wire_put_warning(&b, code, text);
    (void)send_frames(w, &b);
    bytes_close(&b);
}

/* The stream cannot go on; the peer tells the streamer why. */
static void send_error(struct worker *w, const char *text)
{
    struct bytes b;
    bytes_init(&b, 1024);
    wire_put_error(&b, text);
    (void)send_frames(w, &b);
    bytes_close(&b);
    w->done = true;
}

static void give_back(struct bytes *b)
{
    if (b->cap > BUFFER_KEEP_MAX) {
        bytes_close(b);
    }
    bytes_reset(b);
}

/* --- Renditions
 * ------------------------------------------------------------------------------------------------
 */

static int sink_config(void *data, const struct codec_avc *video, const struct codec_aac *audio,
                       uint64_t first_msn, bool again)
{
    struct sink *s = data;
    bytes_reset(&s->init);
    cmaf_put_init(&s->init, video, audio);
    struct wire_rendition *r = &s->rendition;
    r->discontinuity = again;
    r->width = video->width;
    r->height = video->height;
    r->first_msn = first_msn + s->msn_offset;
    bytes_reset(&s->fragment);
    bytes_printf(&s->fragment, "%s%s%s", video->name, audio != NULL ? "," : "",
                 audio != NULL ? audio->name : "");
    if (bytes_error(&s->fragment) != 0 || s->fragment.len >= sizeof(r->codecs)) {
        return WEIR_ENOMEM;
    }
    memcpy(r->codecs, s->fragment.data, s->fragment.len + 1);
    s->described = false;
    return bytes_error(&s->init);
}

static uint32_t bits_per_second(uint64_t n_bytes, int64_t ticks)
{
    uint64_t bps = ticks > 0 ? n_bytes * 8 * CMAF_VIDEO_HZ / (uint64_t)ticks : 0;
    return bps < UINT32_MAX ? (uint32_t)bps : UINT32_MAX;
}

static uint32_t frames_per_1000_s(const struct sink *s)
{
    uint64_t frames = (uint64_t)s->segment_frames * 1000 * CMAF_VIDEO_HZ;
    return s->segment_ticks > 0 ? (uint32_t)(frames / (uint64_t)s->segment_ticks) : 0;
}

static void sink_end_segment(struct sink *s)
{
    s->segment_bytes = 0;
    s->segment_ticks = 0;
    s->segment_frames = 0;
}

/* Sends the description, made of what has been seen of the segment. */
static int sink_describe(struct sink *s)
{
    struct worker *w = s->worker;
    struct wire_rendition *r = &s->rendition;
    uint32_t target_ms = w->start.target_duration_ms;
    if (target_ms == 0) {
        int64_t ticks =
            s->segment_ticks > w->start.segment_ticks ? s->segment_ticks : w->start.segment_ticks;
        target_ms = (uint32_t)((ticks + CMAF_VIDEO_HZ / 2) / CMAF_VIDEO_HZ * 1000);
    }
    uint32_t bps = bits_per_second(s->segment_bytes, s->segment_ticks);
    r->bandwidth = bps / 4 < UINT32_MAX - bps ? bps + bps / 4 : bps; /* peaks come later */
    r->target_duration_ms = target_ms;
    r->frame_rate_milli = frames_per_1000_s(s);
    r->init = s->init.data;
    r->init_len = s->init.len;
    struct bytes b;
    bytes_init(&b, WIRE_PAYLOAD_MAX);
    wire_put_rendition(&b, r);
    int rc = send_frames(w, &b);
    bytes_close(&b);
    s->described = rc == 0;
    return rc;
}

static int sink_send(struct sink *s, const struct wire_part *part)
{
    bool hold = !s->described && s->worker->start.target_duration_ms == 0;
    wire_put_part(&s->held, part);
    if (hold && !part->last) {
        return bytes_error(&s->held);
    }
    int rc = s->described ? 0 : sink_describe(s);
    if (rc == 0) {
        rc = send_frames(s->worker, &s->held);
    }
    give_back(&s->held);
    return rc;
}

static bool already_sent(const struct sink *s, uint64_t msn, uint32_t part)
{
    const struct wire_position *next = &s->worker->start.next[s->rendition.rendition];
    return msn < next->msn || (msn == next->msn && part < next->part);
}

static int sink_part(void *data, const struct packager_part *part)
{
    struct sink *s = data;
    uint64_t msn = part->msn + s->msn_offset;
    bytes_reset(&s->fragment);
    cmaf_put_fragment(&s->fragment, (uint32_t)(msn * 64 + part->part % 64 + 1), &part->video,
                      &part->audio);
    if (bytes_error(&s->fragment) != 0) {
        return bytes_error(&s->fragment);
    }
    s->segment_bytes += s->fragment.len;
    s->segment_ticks += part->duration;
    s->segment_frames += part->video.n_samples;
    int rc = 0;
    if (!already_sent(s, msn, part->part)) {
        struct wire_part out = {.rendition = s->rendition.rendition,
                                .independent = part->independent,
                                .last = part->last,
                                .part = part->part,
                                .msn = msn,
                                .start = part->start,
                                .duration = part->duration,
                                .data = s->fragment.data,
                                .len = s->fragment.len};
        rc = sink_send(s, &out);
    }
    give_back(&s->fragment);
    return rc;
}

static int send_stats(struct worker *w, uint64_t msn)
{
    struct sink *s = &w->sinks[0];
    struct wire_stats stats = {.msn = msn,
                               .bps = bits_per_second(s->segment_bytes, s->segment_ticks),
                               .segment_ms = (uint32_t)(s->segment_ticks * 1000 / CMAF_VIDEO_HZ),
                               .frame_rate_milli = frames_per_1000_s(s)};
    struct bytes b;
    bytes_init(&b, 256);
    wire_put_stats(&b, &stats);
    int rc = send_frames(w, &b);
    bytes_close(&b);
    return rc;
}

/* --- The source rendition, on the main thread
 * ------------------------------------------------------------------- */

static int source_config(void *data, const struct codec_avc *video, const struct codec_aac *audio,
                         uint64_t first_msn, bool again)
{
    struct worker *w = data;
    if (audio == NULL) {
        send_warning(w, WIRE_WARN_NO_AUDIO, "the encoder sends no sound");
    }
    rung_announce(w->rung, audio, first_msn, again);
    return sink_config(&w->sinks[0], video, audio, first_msn, again);
}

static int source_part(void *data, const struct packager_part *part)
{
    struct worker *w = data;
    rung_part(w->rung, part);
    int rc = sink_part(&w->sinks[0], part);
    if (rc == 0 && part->last) {
        rc = send_stats(w, part->msn);
        sink_end_segment(&w->sinks[0]);
    }
    return rc;
}

static void warn_long_gop(struct worker *w)
{
    uint32_t gop = packager_gop_ticks(w->packager);
    if (w->long_gop_told || gop <= LONG_GOP_TICKS) {
        return;
    }
    w->long_gop_told = true;
    struct bytes b;
    bytes_init(&b, 256);
    bytes_printf(&b, "key frames are %u.%u s apart: set the encoder's keyframe interval to 2 s",
                 gop / CMAF_VIDEO_HZ, gop % CMAF_VIDEO_HZ * 10 / CMAF_VIDEO_HZ);
    if (bytes_error(&b) == 0) {
        send_warning(w, WIRE_WARN_LONG_GOP, (const char *)b.data);
    }
    bytes_close(&b);
}

/* --- The rung, on its own thread
 * --------------------------------------------------------------------------------- */

static int rung_part_made(void *data, const struct packager_part *part)
{
    struct sink *s = data;
    int rc = sink_part(s, part);
    if (part->last) {
        sink_end_segment(s);
    }
    return rc;
}

static void thumbnail_made(void *data, uint64_t msn, uint32_t width, uint32_t height,
                           const uint8_t *jpeg, size_t len)
{
    struct sink *s = data;
    struct wire_thumbnail m = {
        .msn = msn, .width = width, .height = height, .data = jpeg, .len = len};
    struct bytes b;
    bytes_init(&b, WIRE_PAYLOAD_MAX);
    wire_put_thumbnail(&b, &m);
    (void)send_frames(s->worker, &b);
    bytes_close(&b);
}

static void rung_dropped(void *data, const char *why)
{
    struct sink *s = data;
    send_warning(s->worker, WIRE_WARN_RUNG_DROPPED, why);
}

/* --- Input
 * -----------------------------------------------------------------------------------------------------
 */

static int on_start(struct worker *w, const struct wire_frame *f, struct error *err)
{
    if (w->packager != NULL || wire_get_start(f, &w->start) < 0) {
        return error_set(err, WEIR_EPROTO, "malformed start");
    }
    struct packager_options options = {w->start.part_ticks, w->start.segment_ticks,
                                       w->start.first_msn[0]};
    uint64_t offset = w->start.first_msn[1] - w->start.first_msn[0]; /* wraps when negative */
    w->sinks[1].msn_offset = offset;
    struct packager_events events = {w, source_config, source_part};
    int rc = packager_new(&options, &events, &w->packager);
    if (rc == 0) {
        struct wire_position next = {w->start.next[1].msn - offset, w->start.next[1].part};
        struct rung_options rung = {w->start.rung_height, w->start.rung_bps, next};
        struct rung_events rung_events = {&w->sinks[1], sink_config, rung_part_made, thumbnail_made,
                                          rung_dropped};
        rc = rung_new(&rung, &rung_events, &w->rung);
    }
    return rc < 0 ? error_set(err, rc, "starting: %s", error_name(rc)) : 0;
}

static int on_video_config(struct worker *w, const struct wire_frame *f, struct error *err)
{
    struct codec_avc avc;
    int rc = packager_video_config(w->packager, f->payload, f->len, err);
    if (rc < 0 || codec_avc_parse(f->payload, f->len, &avc, err) < 0) {
        return rc;
    }
    if (!w->has_video || avc.config_len != w->video_config.config_len ||
        memcmp(avc.config, w->video_config.config, avc.config_len) != 0) {
        w->video_config = avc;
        w->has_video = w->video_config_new = true;
    }
    return 0;
}

static int on_audio_config(struct worker *w, const struct wire_frame *f, struct error *err)
{
    int rc = packager_audio_config(w->packager, f->payload, f->len, err);
    if (rc == 0) {
        rc = codec_aac_parse(f->payload, f->len, &w->audio_config, err);
        w->has_audio = rc == 0;
    }
    return rc;
}

static int on_video(struct worker *w, const struct wire_frame *f, struct error *err)
{
    struct wire_video frame;
    if (wire_get_video(f, &frame) < 0) {
        return error_set(err, WEIR_EPROTO, "malformed video frame");
    }
    int rc = packager_video(w->packager, &frame, err);
    if (rc < 0 || !w->has_video) {
        return rc;
    }
    if (frame.key && w->video_config_new) {
        w->video_config_new = false;
        rung_config(w->rung, &w->video_config);
    }
    if (!w->video_config_new) {
        rung_video(w->rung, &frame, packager_msn(w->packager));
    }
    warn_long_gop(w);
    return 0;
}

static int on_audio(struct worker *w, const struct wire_frame *f, struct error *err)
{
    struct wire_audio frame;
    if (wire_get_audio(f, &frame) < 0) {
        return error_set(err, WEIR_EPROTO, "malformed audio frame");
    }
    if (!w->has_video && w->has_audio) {
        if (w->first_audio < 0) {
            w->first_audio = frame.samples;
        }
        if ((frame.samples - w->first_audio) / w->audio_config.sample_rate >= NO_VIDEO_S) {
            return error_set(err, WEIR_EPROTO, "the encoder sends no video");
        }
    }
    return packager_audio(w->packager, &frame, err);
}

static int on_finish(struct worker *w, const struct wire_frame *f, struct error *err)
{
    (void)f;
    int rc = packager_finish(w->packager, err);
    rung_finish(w->rung);
    if (rc == 0) {
        struct bytes b;
        bytes_init(&b, 64);
        wire_put_empty(&b, WIRE_END);
        rc = send_frames(w, &b);
        bytes_close(&b);
        w->done = true;
    }
    return rc;
}

static int handle(struct worker *w, const struct wire_frame *f, struct error *err)
{
    static int (*const handlers[])(struct worker *, const struct wire_frame *, struct error *) = {
        [WIRE_START] = on_start,
        [WIRE_VIDEO_CONFIG] = on_video_config,
        [WIRE_AUDIO_CONFIG] = on_audio_config,
        [WIRE_VIDEO] = on_video,
        [WIRE_AUDIO] = on_audio,
        [WIRE_FINISH] = on_finish,
    };
    size_t n = sizeof(handlers) / sizeof(handlers[0]);
    if (f->type >= n || handlers[f->type] == NULL) {
        return error_set(err, WEIR_EPROTO, "unknown frame type %u", f->type);
    }
    if (w->packager == NULL && f->type != WIRE_START) {
        return error_set(err, WEIR_EPROTO, "frame before the start");
    }
    return handlers[f->type](w, f, err);
}

static void parse(struct worker *w)
{
    size_t at = 0;
    while (!w->done) {
        struct wire_frame f;
        struct error err = {0};
        int rc = wire_next(w->in.data + at, w->in.len - at, &f, &err);
        if (rc == 0) {
            break;
        }
        if (rc > 0) {
            rc = handle(w, &f, &err);
            at += f.size;
        }
        if (rc < 0) {
            send_error(w, err.code != 0 ? err.text : error_name(rc));
        }
    }
    bytes_consume(&w->in, at);
    if (w->in.len == 0) {
        give_back(&w->in);
    }
}

static void read_loop(struct worker *w)
{
    while (!w->done) {
        uint8_t *to = bytes_reserve(&w->in, READ_BYTES);
        if (to == NULL) {
            w->status = 1;
            return;
        }
        ssize_t n = read(w->fd, to, READ_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* the peer is gone, and with it the reason to finish anything */
        }
        w->in.len += (size_t)n;
        parse(w);
    }
}

static void worker_init(struct worker *w, int fd)
{
    *w = (struct worker){.fd = fd, .first_audio = -1};
    pthread_mutex_init(&w->write_lock, NULL);
    bytes_init(&w->in, IN_MAX);
    for (uint8_t i = 0; i < WIRE_RENDITIONS; i++) {
        struct sink *s = &w->sinks[i];
        s->worker = w;
        s->rendition.rendition = i;
        bytes_init(&s->init, 64u << 10);
        bytes_init(&s->fragment, WIRE_PAYLOAD_MAX);
        bytes_init(&s->held, HELD_MAX);
    }
}

static void worker_close(struct worker *w)
{
    rung_free(w->rung);
    packager_free(w->packager);
    for (size_t i = 0; i < WIRE_RENDITIONS; i++) {
        bytes_close(&w->sinks[i].init);
        bytes_close(&w->sinks[i].fragment);
        bytes_close(&w->sinks[i].held);
    }
    bytes_close(&w->in);
    pthread_mutex_destroy(&w->write_lock);
}

int media_worker_main(int fd)
{
    struct worker w;
    struct error err = {0};
    worker_init(&w, fd);
    signal(SIGPIPE, SIG_IGN);
    (void)!nice(WORKER_NICE); /* the log's fsyncs on the same machine come first */
    if (sandbox_enter(fd, WORKER_MEMORY_BYTES, &err) < 0) {
        send_error(&w, err.text);
        w.status = 1;
    }
    read_loop(&w);
    worker_close(&w);
    _exit(w.status); /* what libraries do at exit may not pass the sandbox */
}
