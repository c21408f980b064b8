#include "media/rung.h"

#include <libavutil/time.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "media/pending.h"
#include "media/transcoder.h"

/* What the source's thread hands over, in order. */
enum item_type { ITEM_CONFIG, ITEM_VIDEO, ITEM_ANNOUNCE, ITEM_PART, ITEM_FINISH };

struct item {
    struct list link;
    enum item_type type;
    int64_t queued_us;
    size_t bytes;
    struct codec_avc *avc;   /* CONFIG */
    struct wire_video video; /* VIDEO, its data behind the item */
    bool transcode, thumbnail;
    uint64_t msn;         /* VIDEO, ANNOUNCE */
    struct codec_aac aac; /* ANNOUNCE */
    bool has_audio, again;
    struct packager_part part; /* PART; the audio run's samples and data behind the item */
};

struct rung {
    struct rung_options options;
    struct rung_events events;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Under the lock. */
    struct list queue;
    size_t queued_bytes;
    bool stop, dropped;
    /* The source's thread. */
    bool transcode; /* the source is higher than the rung */
    int64_t thumbnail_due;
    bool joined;
    /* The rung's thread. */
    struct codec_avc source;
    struct transcoder *transcoder;
    struct list parts;     /* ITEM_PART whose frames are not all here */
    struct item *announce; /* not yet made known: the encoder's configuration is missing */
    struct pending frames;
    uint64_t thumbnail_msn;
};

/* --- The rung's thread
 * ----------------------------------------------------------------------------------------- */

static void item_free(struct item *item)
{
    if (item != NULL) {
        free(item->avc);
        free(item);
    }
}

static void drop(struct rung *r, const char *why)
{
    pthread_mutex_lock(&r->lock);
    bool first = !r->dropped;
    r->dropped = true;
    pthread_mutex_unlock(&r->lock);
    if (first && r->options.height > 0) {
        r->events.dropped(r->events.data, why);
    }
    while (!list_empty(&r->parts)) {
        item_free(list_entry(list_pop(&r->parts), struct item, link));
    }
    transcoder_free(r->transcoder);
    r->transcoder = NULL;
}

static bool is_dropped(struct rung *r)
{
    pthread_mutex_lock(&r->lock);
    bool dropped = r->dropped;
    pthread_mutex_unlock(&r->lock);
    return dropped;
}

static bool before_next(const struct rung *r, uint64_t msn, uint32_t part)
{
    const struct wire_position *next = &r->options.next;
    return msn < next->msn || (msn == next->msn && part < next->part);
}

static int announce(struct rung *r)
{
    struct item *a = r->announce;
    const struct codec_avc *config = transcoder_config(r->transcoder);
    if (a == NULL || config == NULL) {
        return 0;
    }
    r->announce = NULL;
    int rc =
        r->events.config(r->events.data, config, a->has_audio ? &a->aac : NULL, a->msn, a->again);
    item_free(a);
    return rc;
}

/* When the part's pictures end. The source counts decoding times, here there are only presentation
 * times. */
static int64_t part_end(const struct packager_part *part)
{
    return part->start + part->duration + part->composition;
}

static int close_part(struct rung *r, struct item *item)
{
    struct packager_part part = item->part;
    int rc = announce(r);
    part.video = pending_run(&r->frames, pending_before(&r->frames, part_end(&part)));
    part.independent = part.video.n_samples > 0 && part.video.samples[0].sync;
    if (rc == 0 && part.video.n_samples + part.audio.n_samples > 0 &&
        !before_next(r, part.msn, part.part)) {
        rc = r->events.part(r->events.data, &part);
    }
    pending_drop(&r->frames, &part.video);
    item_free(item);
    return rc;
}

/* All parts that end by `pts`, the time of a frame that is about to be added. */
static int close_parts(struct rung *r, int64_t pts)
{
    int rc = 0;
    while (rc == 0 && !list_empty(&r->parts)) {
        struct item *item = list_entry(r->parts.next, struct item, link);
        if (part_end(&item->part) > pts) {
            break;
        }
        pending_extend(&r->frames, pts);
        list_remove(&item->link);
        rc = close_part(r, item);
    }
    return rc;
}

static int on_frame(void *data, int64_t pts, bool key, const uint8_t *bytes, size_t len)
{
    struct rung *r = data;
    int rc = close_parts(r, pts);
    if (rc < 0) {
        return rc;
    }
    uint32_t duration = r->frames.n > 0 ? (uint32_t)(pts - r->frames.last) : CMAF_VIDEO_HZ / 30;
    struct cmaf_sample sample = {.duration = duration, .size = (uint32_t)len, .sync = key};
    return pending_add(&r->frames, pts, sample, bytes, NULL);
}

static void on_thumbnail(void *data, uint32_t width, uint32_t height, const uint8_t *jpeg,
                         size_t len)
{
    struct rung *r = data;
    r->events.thumbnail(r->events.data, r->thumbnail_msn, width, height, jpeg, len);
}

static int open_transcoder(struct rung *r, bool thumbnails_only, struct error *err)
{
    struct transcoder_options options = {
        .height = thumbnails_only ? 0 : r->options.height,
        .bps = r->options.bps,
        .thumbnail_height = RUNG_THUMBNAIL_HEIGHT,
    };
    struct transcoder_events events = {r, on_frame, on_thumbnail};
    return transcoder_new(&r->source, &options, &events, &r->transcoder, err);
}

/* Ends what is in the works: every frame comes out, every part closes. */
static int flush(struct rung *r, struct error *err)
{
    if (r->transcoder == NULL) {
        return 0;
    }
    int rc = transcoder_flush(r->transcoder, err);
    if (rc == 0) {
        rc = close_parts(r, INT64_MAX);
    }
    transcoder_free(r->transcoder);
    r->transcoder = NULL;
    pending_close(&r->frames);
    return rc;
}

/* Without a rung a decoder lives for one picture only. */
static int push_thumbnail(struct rung *r, const struct item *item, struct error *err)
{
    int rc = open_transcoder(r, true, err);
    if (rc == 0) {
        rc = transcoder_push(r->transcoder, &item->video, true, err);
        (void)transcoder_flush(r->transcoder, NULL);
        transcoder_free(r->transcoder);
        r->transcoder = NULL;
    }
    return rc;
}

static int handle_video(struct rung *r, const struct item *item, bool transcode, struct error *err)
{
    r->thumbnail_msn = item->thumbnail ? item->msn : r->thumbnail_msn;
    if (!transcode) {
        return item->thumbnail ? push_thumbnail(r, item, err) : 0;
    }
    int rc = r->transcoder != NULL ? 0 : open_transcoder(r, false, err);
    return rc < 0 ? rc : transcoder_push(r->transcoder, &item->video, item->thumbnail, err);
}

static void handle_part(struct rung *r, struct item *item)
{
    bool skipped = before_next(r, item->part.msn, item->part.part);
    if (skipped && r->transcoder != NULL && item->part.msn == r->options.next.msn &&
        item->part.part + 1 == r->options.next.part) {
        /* The first part sent must not lean on frames of another encoder. */
        transcoder_force_key(r->transcoder, part_end(&item->part));
    }
    list_push_back(&r->parts, &item->link);
}

/* Takes the item over. */
static int handle(struct rung *r, struct item *item, bool transcode, struct error *err)
{
    int rc = 0;
    switch (item->type) {
    case ITEM_CONFIG:
        rc = flush(r, err);
        r->source = *item->avc;
        break;
    case ITEM_VIDEO:
        rc = handle_video(r, item, transcode, err);
        break;
    case ITEM_ANNOUNCE:
        item_free(r->announce);
        r->announce = item;
        return 0;
    case ITEM_PART:
        handle_part(r, item);
        return 0;
    case ITEM_FINISH:
        rc = flush(r, err);
        break;
    }
    item_free(item);
    return rc;
}

static struct item *queue_pop(struct rung *r)
{
    pthread_mutex_lock(&r->lock);
    while (list_empty(&r->queue) && !r->stop) {
        pthread_cond_wait(&r->wake, &r->lock);
    }
    struct list *l = r->stop ? NULL : list_pop(&r->queue);
    struct item *item = l != NULL ? list_entry(l, struct item, link) : NULL;
    if (item != NULL) {
        r->queued_bytes -= item->bytes;
    }
    pthread_mutex_unlock(&r->lock);
    return item;
}

/* True when the item is to be transcoded: not when the rung is dropped, which a late frame decides
 * here. */
static bool keeps_up(struct rung *r, const struct item *item)
{
    if (!item->transcode || is_dropped(r)) {
        return false;
    }
    if (av_gettime_relative() - item->queued_us > RUNG_LAG_US_MAX) {
        drop(r, "transcoding can't keep up");
        return false;
    }
    return true;
}

static void *run(void *arg)
{
    struct rung *r = arg;
    bool finished = false;
    while (!finished) {
        struct item *item = queue_pop(r);
        if (item == NULL) {
            break;
        }
        finished = item->type == ITEM_FINISH;
        bool transcode = keeps_up(r, item);
        if (!transcode && (item->type == ITEM_ANNOUNCE || item->type == ITEM_PART)) {
            item_free(item);
            continue;
        }
        struct error err = {0};
        int rc = handle(r, item, transcode, &err);
        if (rc < 0 && transcode) {
            drop(r, err.code != 0 ? err.text : error_name(rc));
        }
    }
    return NULL;
}

/* --- The source's thread
 * --------------------------------------------------------------------------------------- */

int rung_new(const struct rung_options *options, const struct rung_events *events,
             struct rung **ret_rung)
{
    struct rung *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return WEIR_ENOMEM;
    }
    r->options = *options;
    r->events = *events;
    list_init(&r->queue);
    list_init(&r->parts);
    pending_init(&r->frames);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wake, NULL);
    int rc = pthread_create(&r->thread, NULL, run, r);
    if (rc != 0) {
        pthread_cond_destroy(&r->wake);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return error_from_errno(rc);
    }
    *ret_rung = r;
    return 0;
}

void rung_free(struct rung *r)
{
    if (r == NULL) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    if (!r->joined) {
        pthread_join(r->thread, NULL);
    }
    while (!list_empty(&r->queue)) {
        item_free(list_entry(list_pop(&r->queue), struct item, link));
    }
    while (!list_empty(&r->parts)) {
        item_free(list_entry(list_pop(&r->parts), struct item, link));
    }
    item_free(r->announce);
    transcoder_free(r->transcoder);
    pending_close(&r->frames);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* An item with `bytes` more behind it; NULL out of memory. */
static struct item *item_new(enum item_type type, size_t bytes)
{
    struct item *item = calloc(1, sizeof(*item) + bytes);
    if (item != NULL) {
        item->type = type;
        item->bytes = sizeof(*item) + bytes;
        item->queued_us = av_gettime_relative();
    }
    return item;
}

/* Takes the item over. False when it is NULL or there is no room: the rung is given up then, for it
 * would miss something. */
static bool push(struct rung *r, struct item *item)
{
    pthread_mutex_lock(&r->lock);
    bool full = item == NULL || r->queued_bytes + item->bytes > RUNG_QUEUE_BYTES_MAX;
    bool tell = full && !r->dropped && r->transcode;
    if (full) {
        r->dropped = true;
    } else {
        item->transcode = r->transcode;
        r->queued_bytes += item->bytes;
        list_push_back(&r->queue, &item->link);
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    if (full) {
        item_free(item);
    }
    if (tell) {
        r->events.dropped(r->events.data, "the transcoding queue is full");
    }
    return !full;
}

void rung_config(struct rung *r, const struct codec_avc *video)
{
    struct item *item = item_new(ITEM_CONFIG, 0);
    if (item != NULL) {
        item->avc = malloc(sizeof(*item->avc));
        if (item->avc == NULL) {
            item_free(item);
            item = NULL;
        } else {
            *item->avc = *video;
        }
    }
    r->transcode = r->options.height > 0 && video->height > r->options.height;
    (void)push(r, item);
}

void rung_video(struct rung *r, const struct wire_video *frame, uint64_t msn)
{
    bool thumbnail = frame->key && frame->dts >= r->thumbnail_due;
    if (thumbnail) {
        r->thumbnail_due = frame->dts + RUNG_THUMBNAIL_TICKS;
    }
    if (!thumbnail && (!r->transcode || is_dropped(r))) {
        return;
    }
    struct item *item = item_new(ITEM_VIDEO, frame->len);
    if (item != NULL) {
        uint8_t *data = (uint8_t *)(item + 1);
        memcpy(data, frame->data, frame->len);
        item->video = *frame;
        item->video.data = data;
        item->thumbnail = thumbnail;
        item->msn = msn;
    }
    (void)push(r, item);
}

void rung_announce(struct rung *r, const struct codec_aac *audio, uint64_t first_msn, bool again)
{
    if (!r->transcode || is_dropped(r)) {
        return;
    }
    struct item *item = item_new(ITEM_ANNOUNCE, 0);
    if (item != NULL) {
        item->has_audio = audio != NULL;
        if (audio != NULL) {
            item->aac = *audio;
        }
        item->msn = first_msn;
        item->again = again;
    }
    (void)push(r, item);
}

void rung_part(struct rung *r, const struct packager_part *part)
{
    if (!r->transcode || is_dropped(r)) {
        return;
    }
    size_t samples = part->audio.n_samples * sizeof(struct cmaf_sample);
    struct item *item = item_new(ITEM_PART, samples + part->audio.len);
    if (item != NULL) {
        struct cmaf_sample *copy = (struct cmaf_sample *)(item + 1);
        uint8_t *data = (uint8_t *)copy + samples;
        if (part->audio.n_samples > 0) {
            memcpy(copy, part->audio.samples, samples);
            memcpy(data, part->audio.data, part->audio.len);
        }
        item->part = *part;
        item->part.audio.samples = copy;
        item->part.audio.data = data;
    }
    (void)push(r, item);
}

void rung_finish(struct rung *r)
{
    struct item *item = item_new(ITEM_FINISH, 0);
    if (push(r, item)) {
        pthread_join(r->thread, NULL);
        r->joined = true;
    }
}
