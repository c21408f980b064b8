#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/packager.h"

#define HZ        CMAF_VIDEO_HZ
#define PART      44820u /* 498 ms */
#define SEGMENT   (2 * HZ)
#define PARTS_MAX 512

static const uint8_t AVC[] = {
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78,
    0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c,
    0x60, 0xc6, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00};
static const uint8_t AAC[] = {0x11, 0x90};

struct made {
    uint64_t msn;
    uint32_t part, duration, n_video, n_audio;
    int64_t start, video_dts;
    bool independent, last;
};

struct run {
    struct packager *p;
    struct made parts[PARTS_MAX];
    unsigned n, configs, configs_again;
    bool sound;
    int64_t audio_at;
};

static int on_config(void *data, const struct codec_avc *video, const struct codec_aac *audio,
                     uint64_t first_msn, bool again)
{
    struct run *r = data;
    (void)first_msn;
    assert_int_equal(video->width, 1920);
    r->sound = audio != NULL;
    r->configs++;
    r->configs_again += again;
    return 0;
}

static int on_part(void *data, const struct packager_part *part)
{
    struct run *r = data;
    assert_true(r->n < PARTS_MAX);
    r->parts[r->n++] = (struct made){part->msn,
                                     part->part,
                                     part->duration,
                                     part->video.n_samples,
                                     part->audio.n_samples,
                                     part->start,
                                     part->video.dts,
                                     part->independent,
                                     part->last};
    return 0;
}

static void open_run(struct run *r, uint64_t msn, bool sound)
{
    memset(r, 0, sizeof(*r));
    struct packager_options options = {PART, SEGMENT, msn};
    struct packager_events events = {r, on_config, on_part};
    assert_int_equal(packager_new(&options, &events, &r->p), 0);
    assert_int_equal(packager_video_config(r->p, AVC, sizeof(AVC), NULL), 0);
    if (sound) {
        assert_int_equal(packager_audio_config(r->p, AAC, sizeof(AAC), NULL), 0);
    }
}

/* A frame at a time in ms, as FLV rounds it; sound up to there first. */
static void frame(struct run *r, int64_t ms, bool key, bool sound)
{
    static const uint8_t data[4] = {0};
    while (sound && r->audio_at * 1000 / 48000 <= ms) {
        struct wire_audio a = {r->audio_at, data, 2};
        assert_int_equal(packager_audio(r->p, &a, NULL), 0);
        r->audio_at += 1024;
    }
    struct wire_video v = {ms * 90, 0, key, data, 4};
    assert_int_equal(packager_video(r->p, &v, NULL), 0);
}

/* `n` frames at fps_milli / 1000 a second, a key frame each `gop`, beginning with frame `first`. */
static void frames(struct run *r, unsigned first, unsigned n, unsigned fps_milli, unsigned gop,
                   bool sound)
{
    for (unsigned i = first; i < first + n; i++) {
        frame(r, (int64_t)i * 1000000 / fps_milli, i % gop == 0, sound);
    }
}

static void close_run(struct run *r)
{
    assert_int_equal(packager_finish(r->p, NULL), 0);
    packager_free(r->p);
}

/* What LL-HLS asks of every part, and that nothing is lost or overlaps. */
static void check_rules(const struct run *r, uint64_t msn)
{
    int64_t at = r->n > 0 ? r->parts[0].start : 0;
    uint32_t part = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct made *m = &r->parts[i];
        assert_int_equal(m->msn, msn);
        assert_int_equal(m->part, part);
        assert_int_equal(m->start, at);
        assert_true(m->duration <= PART);
        assert_true(m->last || m->duration * 100 >= PART * 85);
        assert_true(m->n_video + m->n_audio > 0);
        assert_true(m->independent == (m->part == 0) || m->part > 0);
        at += m->duration;
        part = m->last ? 0 : part + 1;
        msn += m->last;
    }
}

static void parts__keep_the_rules_at_every_usual_frame_rate(void **state)
{
    (void)state;
    static const unsigned rates[] = {10000, 12000, 15000, 23976, 24000,  25000, 29970, 30000,
                                     48000, 50000, 59940, 60000, 120000, 3000,  5000,  7000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        struct run *r = calloc(1, sizeof(*r));
        assert_non_null(r);
        open_run(r, 5, true);
        frames(r, 0, rates[i] * 20 / 1000, rates[i], (rates[i] * 2 + 500) / 1000, true);
        close_run(r);
        assert_true(r->n >= 40);
        check_rules(r, 5);
        free(r);
    }
}

static void segments__end_at_the_first_key_frame_after_two_seconds(void **state)
{
    (void)state;
    struct run r;
    open_run(&r, 0, true);
    frames(&r, 0, 300, 30000, 45, true); /* key frames each 1.5 s: segments of 3 s */
    close_run(&r);
    check_rules(&r, 0);
    for (unsigned i = 0; i < r.n; i++) {
        if (r.parts[i].part == 0) {
            assert_int_equal(r.parts[i].start, (int64_t)r.parts[i].msn * 3 * HZ);
            assert_true(r.parts[i].independent);
        }
    }
}

static void parts__are_the_same_when_fed_again_from_a_segments_key_frame(void **state)
{
    (void)state;
    struct run whole, again;
    open_run(&whole, 0, true);
    frames(&whole, 0, 299, 29970, 60, true);
    close_run(&whole);
    open_run(&again, 3, true);
    /* The third segment begins with frame 180; the sound that came before it is gone. */
    again.audio_at = whole.audio_at;
    for (int64_t ms = 179 * 1000000ll / 29970; again.audio_at * 1000 / 48000 > ms;) {
        again.audio_at -= 1024;
    }
    again.audio_at += 1024;
    frames(&again, 180, 299 - 180, 29970, 60, true);
    close_run(&again);
    unsigned first = 0;
    while (whole.parts[first].msn < 3) {
        first++;
    }
    assert_int_equal(whole.n - first, again.n);
    for (unsigned i = 0; i < again.n; i++) {
        const struct made *a = &whole.parts[first + i], *b = &again.parts[i];
        assert_true(a->msn == b->msn && a->part == b->part && a->start == b->start);
        assert_true(a->duration == b->duration && a->last == b->last);
        assert_true(a->n_video == b->n_video && (i == 0 || a->n_audio == b->n_audio));
    }
}

static void a_late_frame__closes_the_part_at_its_target(void **state)
{
    (void)state;
    struct run r;
    open_run(&r, 0, false);
    frames(&r, 0, 12, 30000, 60, false); /* up to 366 ms */
    frame(&r, 900, false, false);
    frame(&r, 933, false, false);
    close_run(&r);
    assert_int_equal(r.parts[0].duration, PART);
    assert_int_equal(r.parts[0].n_video, 12);
    assert_int_equal(r.parts[1].n_video, 2);
}

static void no_key_frame__is_an_error_after_twenty_seconds(void **state)
{
    (void)state;
    struct run r;
    struct error err;
    open_run(&r, 0, false);
    frames(&r, 0, 600, 30000, 1000, false);
    static const uint8_t data[4] = {0};
    struct wire_video v = {20100 * 90, 0, false, data, 4};
    assert_int_equal(packager_video(r.p, &v, &err), WEIR_EPROTO);
    assert_non_null(strstr(err.text, "keyframe interval"));
    packager_free(r.p);
}

static void frames_before_the_first_key_frame__are_dropped(void **state)
{
    (void)state;
    struct run r;
    open_run(&r, 0, true);
    frames(&r, 7, 113, 30000, 60, true); /* the first key frame is number 60 */
    close_run(&r);
    assert_int_equal(r.parts[0].start, 2 * HZ);
    assert_int_equal(r.configs, 1);
}

static void repeated_configuration__changes_nothing(void **state)
{
    (void)state;
    struct run r;
    open_run(&r, 0, true);
    frames(&r, 0, 60, 30000, 60, true);
    assert_int_equal(packager_video_config(r.p, AVC, sizeof(AVC), NULL), 0);
    assert_int_equal(packager_audio_config(r.p, AAC, sizeof(AAC), NULL), 0);
    frames(&r, 60, 60, 30000, 60, true);
    close_run(&r);
    assert_int_equal(r.configs, 1);
}

static void new_configuration__begins_a_segment_at_the_next_key_frame(void **state)
{
    (void)state;
    struct run r;
    uint8_t other[sizeof(AVC)];
    memcpy(other, AVC, sizeof(AVC));
    other[3] = 0x29; /* another level */
    open_run(&r, 0, true);
    frames(&r, 0, 20, 30000, 30, true);
    assert_int_equal(packager_video_config(r.p, other, sizeof(other), NULL), 0);
    frames(&r, 20, 30, 30000, 30, true);
    close_run(&r);
    assert_int_equal(r.configs, 2);
    assert_int_equal(r.configs_again, 1);
    unsigned last = 0;
    while (!r.parts[last].last) {
        last++;
    }
    assert_int_equal(r.parts[last].start + r.parts[last].duration, HZ);
}

static void sound_that_comes_late__is_added_with_a_new_configuration(void **state)
{
    (void)state;
    struct run r;
    open_run(&r, 0, false);
    frames(&r, 0, 60, 30000, 60, false);
    assert_false(r.sound);
    assert_int_equal(packager_audio_config(r.p, AAC, sizeof(AAC), NULL), 0);
    r.audio_at = 2 * 48000;
    frames(&r, 60, 60, 30000, 60, true);
    close_run(&r);
    assert_true(r.sound);
    assert_int_equal(r.configs_again, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts__keep_the_rules_at_every_usual_frame_rate),
        cmocka_unit_test(segments__end_at_the_first_key_frame_after_two_seconds),
        cmocka_unit_test(parts__are_the_same_when_fed_again_from_a_segments_key_frame),
        cmocka_unit_test(a_late_frame__closes_the_part_at_its_target),
        cmocka_unit_test(no_key_frame__is_an_error_after_twenty_seconds),
        cmocka_unit_test(frames_before_the_first_key_frame__are_dropped),
        cmocka_unit_test(repeated_configuration__changes_nothing),
        cmocka_unit_test(new_configuration__begins_a_segment_at_the_next_key_frame),
        cmocka_unit_test(sound_that_comes_late__is_added_with_a_new_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
