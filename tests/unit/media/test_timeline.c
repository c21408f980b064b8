#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "media/timeline.h"

#define MS 90

static int64_t video(struct timeline *t, uint32_t ms)
{
    int64_t dts;
    int32_t composition;
    timeline_video(t, ms, 0, &dts, &composition);
    return dts;
}

static int64_t audio(struct timeline *t, uint32_t ms)
{
    int64_t samples;
    timeline_audio(t, ms, &samples);
    return samples;
}

static void video__begins_at_the_start_and_keeps_distances(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 1000);
    assert_int_equal(video(&t, 5000000), 1000 * MS);
    assert_int_equal(video(&t, 5000033), 1033 * MS);
}

static void video__goes_on_over_the_wrap_of_32_bits(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    assert_int_equal(video(&t, 0xfffffff0), 0);
    assert_int_equal(video(&t, 0x00000010), 32 * MS);
}

static void video__is_strictly_increasing_and_keeps_the_shown_time(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    assert_int_equal(video(&t, 100), 0);
    assert_int_equal(video(&t, 133), 33 * MS);
    int64_t dts;
    int32_t composition;
    timeline_video(&t, 120, 40, &dts, &composition);
    assert_int_equal(dts, 33 * MS + 1);
    assert_int_equal(dts + composition, (20 + 40) * MS);
}

static void restart_at_zero__goes_on_a_frame_later(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    timeline_set_audio(&t, 48000, 1024);
    video(&t, 900000);
    audio(&t, 900010);
    assert_int_equal(video(&t, 900040), 40 * MS);
    assert_int_equal(audio(&t, 900031), 480 + 1024);
    /* The encoder begins again: picture first, then sound, 10 ms apart as before. */
    int64_t v = video(&t, 0);
    assert_int_equal(v, 80 * MS);
    int64_t a = audio(&t, 10);
    assert_true(llabs(a - 90 * 48) <= 2 * 1024);
    assert_int_equal(video(&t, 40), 120 * MS);
}

static void jump_ahead__is_closed_up(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    video(&t, 0);
    video(&t, 40);
    assert_int_equal(video(&t, 3600000), 80 * MS);
}

static void audio__is_snapped_to_its_sample_counter(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 1000);
    timeline_set_audio(&t, 44100, 1024);
    int64_t first = audio(&t, 0);
    for (uint32_t i = 1; i < 5000; i++) {
        uint32_t ms = (uint32_t)((uint64_t)i * 1024 * 1000 / 44100);
        assert_int_equal(audio(&t, ms), first + (int64_t)i * 1024);
    }
}

static void audio__leaves_a_gap_where_frames_are_missing(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    timeline_set_audio(&t, 48000, 1024);
    audio(&t, 0);
    assert_int_equal(audio(&t, 500), 24000);
}

static void audio__never_steps_back(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    timeline_set_audio(&t, 48000, 1024);
    audio(&t, 1000);
    assert_int_equal(audio(&t, 700), 1024);
    assert_int_equal(audio(&t, 710), 2048);
}

static void audio__keeps_its_time_when_the_sample_rate_changes(void **state)
{
    (void)state;
    struct timeline t;
    timeline_init(&t, 0);
    timeline_set_audio(&t, 48000, 1024);
    audio(&t, 0);
    for (uint32_t ms = 21; ms < 2000; ms += 21) {
        audio(&t, ms);
    }
    int64_t before = t.audio_samples;
    timeline_set_audio(&t, 44100, 1024);
    assert_int_equal(t.audio_samples, before * 44100 / 48000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(video__begins_at_the_start_and_keeps_distances),
        cmocka_unit_test(video__goes_on_over_the_wrap_of_32_bits),
        cmocka_unit_test(video__is_strictly_increasing_and_keeps_the_shown_time),
        cmocka_unit_test(restart_at_zero__goes_on_a_frame_later),
        cmocka_unit_test(jump_ahead__is_closed_up),
        cmocka_unit_test(audio__is_snapped_to_its_sample_counter),
        cmocka_unit_test(audio__leaves_a_gap_where_frames_are_missing),
        cmocka_unit_test(audio__never_steps_back),
        cmocka_unit_test(audio__keeps_its_time_when_the_sample_rate_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
