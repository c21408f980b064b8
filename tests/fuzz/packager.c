/* Frames at any times, in any order, with any configurations: parts stay numbered without a hole
 * and join end to end. */
#include <assert.h>
#include <stdlib.h>

#include "media/packager.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t AVC[] = {
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78,
    0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c,
    0x60, 0xc6, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00};

struct last {
    uint64_t msn;
    uint32_t part;
    int64_t end;
    bool any;
    struct bytes out;
};

static int on_config(void *data, const struct codec_avc *video, const struct codec_aac *audio,
                     uint64_t first_msn, bool again)
{
    struct last *l = data;
    (void)first_msn;
    (void)again;
    bytes_reset(&l->out);
    cmaf_put_init(&l->out, video, audio);
    return 0;
}

static int on_part(void *data, const struct packager_part *part)
{
    struct last *l = data;
    assert(part->msn == l->msn && part->part == l->part);
    assert(!l->any || part->start == l->end);
    assert(part->video.n_samples + part->audio.n_samples > 0);
    l->any = true;
    l->end = part->start + part->duration;
    l->msn += part->last;
    l->part = part->last ? 0 : part->part + 1;
    bytes_reset(&l->out);
    cmaf_put_fragment(&l->out, 1, &part->video, &part->audio);
    return 0;
}

static int step(struct packager *p, struct cursor *c, int64_t *video_at, int64_t *audio_at)
{
    static const uint8_t bytes[256] = {0};
    uint8_t what = cursor_u8(c);
    uint16_t by = cursor_le16(c);
    uint8_t aac[2] = {(uint8_t)by, (uint8_t)(by >> 8)};
    struct wire_video v = {
        .composition = (int16_t)by, .key = (what & 8) != 0, .data = bytes, .len = what};
    struct wire_audio a = {.data = bytes, .len = what};
    switch (what & 7) {
    case 0:
        return packager_audio_config(p, aac, sizeof(aac), NULL) == WEIR_ENOMEM ? WEIR_ENOMEM : 0;
    case 1:
        return packager_video_config(p, AVC, sizeof(AVC) - (what >> 7), NULL) == WEIR_ENOMEM
                   ? WEIR_ENOMEM
                   : 0;
    case 2:
    case 3:
        *audio_at += by;
        a.samples = *audio_at;
        return packager_audio(p, &a, NULL);
    default:
        *video_at += by;
        v.dts = *video_at;
        return packager_video(p, &v, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct last last = {0};
    struct packager_options options = {44820, 180000, 0};
    struct packager_events events = {&last, on_config, on_part};
    struct packager *p;
    struct cursor c;
    int64_t video_at = 0, audio_at = 0;
    bytes_init(&last.out, 1u << 20);
    if (packager_new(&options, &events, &p) < 0) {
        return 0;
    }
    (void)packager_video_config(p, AVC, sizeof(AVC), NULL);
    cursor_init(&c, data, size);
    int rc = 0;
    while (rc == 0 && cursor_left(&c) >= 3) {
        rc = step(p, &c, &video_at, &audio_at);
    }
    if (rc == 0) {
        (void)packager_finish(p, NULL);
    }
    packager_free(p);
    bytes_close(&last.out);
    return 0;
}
