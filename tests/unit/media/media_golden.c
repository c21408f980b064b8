#include "media_golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/codec.h"
#include "media/flv.h"
#include "media/rtmp.h"
#include "media/timeline.h"
#include "media/worker_wire.h"

#define DIR "tests/golden/media/"

struct bytes golden_read(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), DIR "%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    struct bytes b;
    bytes_init(&b, 16u << 20);
    for (;;) {
        uint8_t *to = bytes_reserve(&b, 4096);
        assert_non_null(to);
        size_t n = fread(to, 1, 4096, f);
        if (n == 0) {
            break;
        }
        b.len += n;
    }
    (void)fclose(f);
    return b;
}

void golden_write(const char *name, const struct bytes *data)
{
    char path[256];
    (void)snprintf(path, sizeof(path), DIR "%s", name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data->data, 1, data->len, f), data->len);
    (void)fclose(f);
}

struct reader {
    struct rtmp *rtmp;
    struct timeline timeline;
    void (*cb)(void *data, uint8_t type, const struct bytes *frame);
    void *data;
    struct bytes frame;
    unsigned n;
};

static void tell(struct reader *r, uint8_t type)
{
    assert_int_equal(bytes_error(&r->frame), 0);
    r->cb(r->data, type, &r->frame);
    r->n++;
    bytes_reset(&r->frame);
}

static void on_publish(void *data, const char *app, const char *name)
{
    struct reader *r = data;
    (void)app;
    (void)name;
    assert_int_equal(rtmp_publish_accept(r->rtmp, NULL), 0);
}

static void on_frame(struct reader *r, enum rtmp_media type, uint32_t ms,
                     const struct flv_packet *p)
{
    if (type == RTMP_VIDEO) {
        struct wire_video v = {.key = p->key, .data = p->data, .len = p->len};
        timeline_video(&r->timeline, ms, p->composition_ms, &v.dts, &v.composition);
        wire_put_video(&r->frame, &v);
        tell(r, WIRE_VIDEO);
    } else {
        struct wire_audio a = {.data = p->data, .len = p->len};
        timeline_audio(&r->timeline, ms, &a.samples);
        wire_put_audio(&r->frame, &a);
        tell(r, WIRE_AUDIO);
    }
}

static void on_media(void *data, enum rtmp_media type, uint32_t ms, const uint8_t *body, size_t len)
{
    struct reader *r = data;
    struct flv_packet p;
    int rc = type == RTMP_VIDEO ? flv_parse_video(body, len, &p, NULL)
                                : flv_parse_audio(body, len, &p, NULL);
    assert_int_equal(rc, 0);
    if (p.kind == FLV_FRAME) {
        on_frame(r, type, ms, &p);
    } else if (p.kind == FLV_CONFIG) {
        uint8_t config = type == RTMP_VIDEO ? WIRE_VIDEO_CONFIG : WIRE_AUDIO_CONFIG;
        struct codec_aac aac;
        if (type == RTMP_AUDIO) {
            assert_int_equal(codec_aac_parse(p.data, p.len, &aac, NULL), 0);
            timeline_set_audio(&r->timeline, aac.sample_rate, aac.frame_samples);
        }
        wire_put_config(&r->frame, config, p.data, p.len);
        tell(r, config);
    }
}

static void on_metadata(void *data, const struct rtmp_metadata *m)
{
    (void)data;
    (void)m;
}

static void on_unpublish(void *data)
{
    (void)data;
}

unsigned golden_frames(const char *name, void (*cb)(void *data, uint8_t type, const struct bytes *),
                       void *data)
{
    struct reader r = {.cb = cb, .data = data};
    struct rtmp_events events = {&r, on_publish, on_media, on_metadata, on_unpublish};
    struct bytes in = golden_read(name);
    bytes_init(&r.frame, 1u << 20);
    timeline_init(&r.timeline, 1000);
    assert_int_equal(rtmp_new(&events, &r.rtmp), 0);
    assert_int_equal(rtmp_receive(r.rtmp, in.data, in.len, NULL), 0);
    rtmp_free(r.rtmp);
    bytes_close(&r.frame);
    bytes_close(&in);
    return r.n;
}
