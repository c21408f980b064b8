#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/worker_wire.h"
#include "media_golden.h"

static const uint8_t DATA[] = {1, 2, 3, 4, 5};

static struct wire_start start_message(void)
{
    return (struct wire_start){.part_ticks = 44820,
                               .segment_ticks = 180000,
                               .rung_height = 360,
                               .rung_bps = 777600,
                               .target_duration_ms = 2000,
                               .first_msn = {7, 5},
                               .next = {{8, 2}, {6, 0}}};
}

/* One frame of each type. */
static void put_all(struct bytes *b)
{
    struct wire_start start = start_message();
    wire_put_start(b, &start);
    wire_put_config(b, WIRE_VIDEO_CONFIG, DATA, 5);
    wire_put_config(b, WIRE_AUDIO_CONFIG, DATA, 2);
    wire_put_video(b, &(struct wire_video){90000, -3000, true, DATA, 5});
    wire_put_audio(b, &(struct wire_audio){48000, DATA, 4});
    wire_put_empty(b, WIRE_FINISH);
    struct wire_rendition r = {.rendition = 1,
                               .discontinuity = true,
                               .width = 640,
                               .height = 360,
                               .bandwidth = 900000,
                               .frame_rate_milli = 29970,
                               .target_duration_ms = 2000,
                               .first_msn = 5,
                               .codecs = "avc1.64001e,mp4a.40.2",
                               .init = DATA,
                               .init_len = 5};
    wire_put_rendition(b, &r);
    struct wire_part p = {1, true, false, 3, 45000, 9, 270000, DATA, 5};
    wire_put_part(b, &p);
    wire_put_thumbnail(b, &(struct wire_thumbnail){9, 320, 180, DATA, 5});
    wire_put_stats(b, &(struct wire_stats){9, 1500000, 2000, 30000});
    wire_put_warning(b, WIRE_WARN_LONG_GOP, "too long");
    wire_put_error(b, "no video");
    wire_put_empty(b, WIRE_END);
    wire_put_empty(b, WIRE_BEAT);
    assert_int_equal(bytes_error(b), 0);
}

static const uint8_t TYPES[] = {WIRE_START,     WIRE_VIDEO_CONFIG, WIRE_AUDIO_CONFIG, WIRE_VIDEO,
                                WIRE_AUDIO,     WIRE_FINISH,       WIRE_RENDITION,    WIRE_PART,
                                WIRE_THUMBNAIL, WIRE_STATS,        WIRE_WARNING,      WIRE_ERROR,
                                WIRE_END,       WIRE_BEAT};

static void frames__come_back_as_they_were_put(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 4096);
    put_all(&b);
    size_t at = 0;
    struct wire_frame f;
    for (size_t i = 0; i < sizeof(TYPES); i++) {
        assert_int_equal(wire_next(b.data + at, b.len - at, &f, NULL), 1);
        assert_int_equal(f.type, TYPES[i]);
        at += f.size;
    }
    assert_int_equal(at, b.len);
    bytes_close(&b);
}

static void start__comes_back(void **state)
{
    (void)state;
    struct bytes b;
    struct wire_frame f;
    struct wire_start in = start_message(), out;
    bytes_init(&b, 4096);
    wire_put_start(&b, &in);
    assert_int_equal(wire_next(b.data, b.len, &f, NULL), 1);
    memset(&out, 0, sizeof(out));
    assert_int_equal(wire_get_start(&f, &out), 0);
    assert_int_equal(out.next[0].msn, 8);
    assert_int_equal(out.next[0].part, 2);
    assert_int_equal(out.first_msn[1], 5);
    assert_int_equal(out.rung_bps, 777600);
    in.part_ticks = 0;
    bytes_reset(&b);
    wire_put_start(&b, &in);
    assert_int_equal(wire_next(b.data, b.len, &f, NULL), 1);
    assert_int_equal(wire_get_start(&f, &out), WEIR_EPROTO);
    bytes_close(&b);
}

static void video_and_part__come_back(void **state)
{
    (void)state;
    struct bytes b;
    struct wire_frame f;
    struct wire_video v;
    struct wire_part p;
    bytes_init(&b, 4096);
    wire_put_video(&b, &(struct wire_video){90000, -3000, true, DATA, 5});
    assert_int_equal(wire_next(b.data, b.len, &f, NULL), 1);
    assert_int_equal(wire_get_video(&f, &v), 0);
    assert_true(v.dts == 90000 && v.composition == -3000 && v.key && v.len == 5);
    assert_memory_equal(v.data, DATA, 5);
    bytes_reset(&b);
    wire_put_part(&b, &(struct wire_part){1, true, true, 3, 45000, 9, 270000, DATA, 5});
    assert_int_equal(wire_next(b.data, b.len, &f, NULL), 1);
    assert_int_equal(wire_get_part(&f, &p), 0);
    assert_true(p.rendition == 1 && p.independent && p.last && p.part == 3 && p.msn == 9);
    assert_true(p.start == 270000 && p.duration == 45000 && p.len == 5);
    bytes_close(&b);
}

static void frames__wait_for_their_last_byte(void **state)
{
    (void)state;
    struct bytes b;
    struct wire_frame f;
    bytes_init(&b, 4096);
    wire_put_error(&b, "no video");
    for (size_t n = 0; n < b.len; n++) {
        assert_int_equal(wire_next(b.data, n, &f, NULL), 0);
    }
    assert_int_equal(wire_next(b.data, b.len, &f, NULL), 1);
    bytes_close(&b);
}

static void frames__fail_on_every_flipped_bit(void **state)
{
    (void)state;
    struct bytes b;
    struct wire_frame f;
    bytes_init(&b, 4096);
    wire_put_stats(&b, &(struct wire_stats){9, 1500000, 2000, 30000});
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_not_equal(wire_next(b.data, b.len, &f, NULL), 1);
        b.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    bytes_close(&b);
}

static void golden_file__still_opens_and_is_what_is_written(void **state)
{
    (void)state;
    struct bytes now;
    bytes_init(&now, 4096);
    put_all(&now);
    if (getenv("WEIR_GOLDEN_WRITE") != NULL) {
        golden_write("worker_wire_v1.bin", &now);
    }
    struct bytes golden = golden_read("worker_wire_v1.bin");
    assert_int_equal(golden.len, now.len);
    assert_memory_equal(golden.data, now.data, now.len);
    bytes_close(&golden);
    bytes_close(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames__come_back_as_they_were_put),
        cmocka_unit_test(start__comes_back),
        cmocka_unit_test(video_and_part__come_back),
        cmocka_unit_test(frames__wait_for_their_last_byte),
        cmocka_unit_test(frames__fail_on_every_flipped_bit),
        cmocka_unit_test(golden_file__still_opens_and_is_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
