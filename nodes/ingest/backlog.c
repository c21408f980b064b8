#include "nodes/ingest/backlog.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_KEEP_MAX (1u << 20)

int64_t backlog_us(int64_t ticks)
{
    return ticks * 100 / 9;
}

void backlog_init(struct backlog *b)
{
    *b = (struct backlog){.first_key_us = BACKLOG_NONE, .last_key_us = BACKLOG_NONE};
    list_init(&b->frames);
    bytes_init(&b->scratch, WIRE_PAYLOAD_MAX);
}

struct backlog_frame *backlog_ref(struct backlog_frame *f)
{
    f->refs++;
    return f;
}

void backlog_unref(struct backlog_frame *f)
{
    if (f != NULL && --f->refs == 0) {
        free(f);
    }
}

void backlog_close(struct backlog *b)
{
    while (!list_empty(&b->frames)) {
        backlog_unref(list_entry(list_pop(&b->frames), struct backlog_frame, link));
    }
    backlog_unref(b->video_config);
    backlog_unref(b->audio_config);
    bytes_close(&b->scratch);
    backlog_init(b);
}

/* What is in scratch, as a frame of one reference. */
static struct backlog_frame *take_scratch(struct backlog *b, enum wire_type type, int64_t key_us)
{
    struct backlog_frame *f =
        bytes_error(&b->scratch) == 0 ? malloc(sizeof(*f) + b->scratch.len) : NULL;
    if (f != NULL) {
        *f = (struct backlog_frame){
            .refs = 1, .type = (uint8_t)type, .key_us = key_us, .len = b->scratch.len};
        list_init(&f->link);
        memcpy(f->data, b->scratch.data, b->scratch.len);
    }
    if (b->scratch.cap > SCRATCH_KEEP_MAX) {
        bytes_close(&b->scratch);
    }
    bytes_reset(&b->scratch);
    return f;
}

static struct backlog_frame *append(struct backlog *b, struct backlog_frame *f)
{
    if (f != NULL) {
        list_push_back(&b->frames, &f->link);
        b->bytes += f->len;
    }
    return f;
}

/* The configuration is in force from here on. Takes the reference. */
static void set_config(struct backlog *b, struct backlog_frame *f)
{
    struct backlog_frame **slot =
        f->type == WIRE_VIDEO_CONFIG ? &b->video_config : &b->audio_config;
    backlog_unref(*slot);
    *slot = f;
}

struct backlog_frame *backlog_config(struct backlog *b, enum wire_type type, const uint8_t *config,
                                     size_t len)
{
    wire_put_config(&b->scratch, type, config, len);
    struct backlog_frame *f = take_scratch(b, type, BACKLOG_NONE);
    if (f != NULL && list_empty(&b->frames)) {
        set_config(b, f);
        return f;
    }
    return append(b, f);
}

struct backlog_frame *backlog_video(struct backlog *b, const struct wire_video *frame)
{
    if (list_empty(&b->frames) && !frame->key) {
        return NULL;
    }
    int64_t key_us = frame->key ? backlog_us(frame->dts) : BACKLOG_NONE;
    wire_put_video(&b->scratch, frame);
    struct backlog_frame *f = append(b, take_scratch(b, WIRE_VIDEO, key_us));
    if (f != NULL && frame->key) {
        b->last_key_us = key_us;
        b->first_key_us = b->first_key_us == BACKLOG_NONE ? key_us : b->first_key_us;
    }
    return f;
}

struct backlog_frame *backlog_audio(struct backlog *b, const struct wire_audio *frame)
{
    if (list_empty(&b->frames)) {
        return NULL;
    }
    wire_put_audio(&b->scratch, frame);
    return append(b, take_scratch(b, WIRE_AUDIO, BACKLOG_NONE));
}

/* Drops the first frame and what follows, up to the next key frame. */
static void drop_front(struct backlog *b)
{
    bool first = true;
    while (!list_empty(&b->frames)) {
        struct backlog_frame *f = list_entry(b->frames.next, struct backlog_frame, link);
        if (!first && f->key_us != BACKLOG_NONE) {
            b->first_key_us = f->key_us;
            return;
        }
        first = false;
        list_remove(&f->link);
        b->bytes -= f->len;
        if (f->type == WIRE_VIDEO_CONFIG || f->type == WIRE_AUDIO_CONFIG) {
            set_config(b, f);
        } else {
            backlog_unref(f);
        }
    }
}

void backlog_trim(struct backlog *b, int64_t needed_us)
{
    while (b->first_key_us != BACKLOG_NONE && b->first_key_us < b->last_key_us) {
        struct backlog_frame *second = backlog_find_after(b, b->first_key_us + 1);
        bool unneeded = needed_us != BACKLOG_NONE && second->key_us <= needed_us;
        bool over =
            b->bytes > BACKLOG_BYTES_MAX || b->last_key_us - b->first_key_us > BACKLOG_US_MAX;
        if (!unneeded && !over) {
            return;
        }
        drop_front(b);
    }
}

struct backlog_frame *backlog_find_after(const struct backlog *b, int64_t key_us)
{
    LIST_FOREACH(it, &b->frames)
    {
        struct backlog_frame *f = list_entry(it, struct backlog_frame, link);
        if (f->key_us != BACKLOG_NONE && f->key_us >= key_us) {
            return f;
        }
    }
    return NULL;
}

struct backlog_frame *backlog_find(const struct backlog *b, int64_t key_us)
{
    struct backlog_frame *f = backlog_find_after(b, key_us);
    return f != NULL && f->key_us == key_us ? f : NULL;
}
