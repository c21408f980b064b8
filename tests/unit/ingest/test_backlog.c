#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/ingest/backlog.h"

#define SECOND 90000ll

static const uint8_t DATA[8] = {0};

static struct backlog_frame *video(struct backlog *b, int64_t dts, bool key)
{
    return backlog_video(b, &(struct wire_video){dts, 0, key, DATA, sizeof(DATA)});
}

static unsigned count(const struct backlog *b)
{
    unsigned n = 0;
    LIST_FOREACH(it, &b->frames)
    {
        n++;
    }
    return n;
}

/* `n` groups of a key frame, another frame and sound, a second each. */
static void fill(struct backlog *b, int64_t from_s, int64_t n)
{
    for (int64_t s = from_s; s < from_s + n; s++) {
        assert_non_null(video(b, s * SECOND, true));
        assert_non_null(backlog_audio(b, &(struct wire_audio){s * 48000, DATA, 4}));
        assert_non_null(video(b, s * SECOND + 3000, false));
    }
}

static void backlog__begins_with_a_key_frame(void **state)
{
    struct backlog b;
    (void)state;
    backlog_init(&b);
    assert_null(video(&b, 0, false));
    assert_null(backlog_audio(&b, &(struct wire_audio){0, DATA, 4}));
    assert_non_null(video(&b, 3000, true));
    assert_int_equal(b.first_key_us, 33333);
    assert_int_equal(count(&b), 1);
    backlog_close(&b);
}

static void trim__keeps_the_group_that_is_needed(void **state)
{
    struct backlog b;
    (void)state;
    backlog_init(&b);
    fill(&b, 0, 5);
    backlog_trim(&b, BACKLOG_NONE);
    assert_int_equal(count(&b), 15);
    backlog_trim(&b, 2500000);
    assert_int_equal(b.first_key_us, 2000000);
    assert_int_equal(count(&b), 9);
    backlog_trim(&b, 99000000);
    assert_int_equal(b.first_key_us, 4000000);
    assert_int_equal(count(&b), 3);
    backlog_close(&b);
}

static void trim__keeps_to_the_limits_though_more_is_needed(void **state)
{
    struct backlog b;
    (void)state;
    backlog_init(&b);
    for (int64_t s = 0; s < 200; s++) {
        fill(&b, s, 1);
        backlog_trim(&b, 0);
    }
    assert_true(b.last_key_us - b.first_key_us <= BACKLOG_US_MAX);
    assert_int_equal(b.last_key_us, 199000000);
    backlog_close(&b);
}

static void configurations__are_kept_when_their_frames_are_dropped(void **state)
{
    struct backlog b;
    (void)state;
    backlog_init(&b);
    backlog_config(&b, WIRE_VIDEO_CONFIG, (const uint8_t *)"one", 3);
    backlog_config(&b, WIRE_AUDIO_CONFIG, (const uint8_t *)"two", 3);
    fill(&b, 0, 1);
    backlog_config(&b, WIRE_VIDEO_CONFIG, (const uint8_t *)"three", 5);
    fill(&b, 1, 1);
    assert_int_equal(b.video_config->len, WIRE_HEADER_SIZE + 3);
    backlog_trim(&b, 1000000);
    assert_int_equal(b.video_config->len, WIRE_HEADER_SIZE + 5);
    assert_int_equal(b.audio_config->len, WIRE_HEADER_SIZE + 3);
    assert_int_equal(count(&b), 3);
    backlog_close(&b);
}

static void find__knows_key_frames_by_the_logs_microseconds(void **state)
{
    struct backlog b;
    (void)state;
    backlog_init(&b);
    fill(&b, 0, 3);
    assert_non_null(backlog_find(&b, 1000000));
    assert_null(backlog_find(&b, 1033333));
    assert_int_equal(backlog_find_after(&b, 1000001)->key_us, 2000000);
    assert_null(backlog_find_after(&b, 2000001));
    assert_int_equal(backlog_find_after(&b, BACKLOG_NONE)->key_us, 0);
    backlog_close(&b);
}

static void frames__live_as_long_as_somebody_holds_them(void **state)
{
    struct backlog b;
    (void)state;
    backlog_init(&b);
    struct backlog_frame *f = backlog_ref(video(&b, 0, true));
    backlog_close(&b);
    assert_int_equal(f->type, WIRE_VIDEO);
    backlog_unref(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backlog__begins_with_a_key_frame),
        cmocka_unit_test(trim__keeps_the_group_that_is_needed),
        cmocka_unit_test(trim__keeps_to_the_limits_though_more_is_needed),
        cmocka_unit_test(configurations__are_kept_when_their_frames_are_dropped),
        cmocka_unit_test(find__knows_key_frames_by_the_logs_microseconds),
        cmocka_unit_test(frames__live_as_long_as_somebody_holds_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
