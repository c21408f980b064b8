#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "media/flv.h"

#define VIDEO(p, err, ...)                                                                         \
    flv_parse_video((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), p, err)
#define AUDIO(p, err, ...)                                                                         \
    flv_parse_audio((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), p, err)

static void video__tells_configuration_key_and_other_frames(void **state)
{
    (void)state;
    struct flv_packet p;
    assert_int_equal(VIDEO(&p, NULL, 0x17, 0, 0, 0, 0, 1, 2), 0);
    assert_true(p.kind == FLV_CONFIG && p.len == 2);
    assert_int_equal(VIDEO(&p, NULL, 0x17, 1, 0, 0, 80, 9), 0);
    assert_true(p.kind == FLV_FRAME && p.key && p.composition_ms == 80 && p.len == 1);
    assert_int_equal(VIDEO(&p, NULL, 0x27, 1, 0xff, 0xff, 0xf6, 9), 0);
    assert_true(p.kind == FLV_FRAME && !p.key && p.composition_ms == -10);
    assert_int_equal(VIDEO(&p, NULL, 0x17, 2, 0, 0, 0), 0);
    assert_int_equal(p.kind, FLV_IGNORED);
}

static void video__understands_enhanced_avc(void **state)
{
    (void)state;
    struct flv_packet p;
    assert_int_equal(VIDEO(&p, NULL, 0x90, 'a', 'v', 'c', '1', 7), 0);
    assert_true(p.kind == FLV_CONFIG && p.len == 1);
    assert_int_equal(VIDEO(&p, NULL, 0x91, 'a', 'v', 'c', '1', 0, 0, 40, 7), 0);
    assert_true(p.kind == FLV_FRAME && p.key && p.composition_ms == 40);
    assert_int_equal(VIDEO(&p, NULL, 0xa3, 'a', 'v', 'c', '1', 7), 0);
    assert_true(p.kind == FLV_FRAME && !p.key && p.composition_ms == 0 && p.len == 1);
}

static void video__names_the_codec_it_refuses(void **state)
{
    (void)state;
    struct flv_packet p;
    struct error err;
    assert_int_equal(VIDEO(&p, &err, 0x90, 'h', 'v', 'c', '1', 0), WEIR_EVERSION);
    assert_non_null(strstr(err.text, "hvc1"));
    assert_non_null(strstr(err.text, "H.264"));
    assert_int_equal(VIDEO(&p, &err, 0x1c, 1, 0, 0, 0), WEIR_EVERSION);
    assert_non_null(strstr(err.text, "HEVC"));
    assert_int_equal(VIDEO(&p, &err, 0x91, '\n', 0xff, 'x', 'y', 0), WEIR_EVERSION);
    assert_non_null(strstr(err.text, "??xy"));
}

static void video__refuses_what_is_cut_short(void **state)
{
    (void)state;
    struct flv_packet p;
    assert_int_equal(flv_parse_video(NULL, 0, &p, NULL), WEIR_EPROTO);
    assert_int_equal(VIDEO(&p, NULL, 0x17), WEIR_EPROTO);
    assert_int_equal(VIDEO(&p, NULL, 0x17, 1, 0, 0), WEIR_EPROTO);
    assert_int_equal(VIDEO(&p, NULL, 0x91, 'a', 'v'), WEIR_EPROTO);
}

static void audio__tells_aac_configuration_and_frames(void **state)
{
    (void)state;
    struct flv_packet p;
    assert_int_equal(AUDIO(&p, NULL, 0xaf, 0, 0x12, 0x10), 0);
    assert_true(p.kind == FLV_CONFIG && p.len == 2);
    assert_int_equal(AUDIO(&p, NULL, 0xaf, 1, 1, 2, 3), 0);
    assert_true(p.kind == FLV_FRAME && p.len == 3);
    assert_int_equal(AUDIO(&p, NULL, 0x91, 'm', 'p', '4', 'a', 5), 0);
    assert_true(p.kind == FLV_FRAME && p.len == 1);
}

static void audio__names_the_codec_it_refuses(void **state)
{
    (void)state;
    struct flv_packet p;
    struct error err;
    assert_int_equal(AUDIO(&p, &err, 0x2f, 1), WEIR_EVERSION);
    assert_non_null(strstr(err.text, "AAC"));
    assert_int_equal(AUDIO(&p, &err, 0x91, 'O', 'p', 'u', 's', 5), WEIR_EVERSION);
    assert_non_null(strstr(err.text, "Opus"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(video__tells_configuration_key_and_other_frames),
        cmocka_unit_test(video__understands_enhanced_avc),
        cmocka_unit_test(video__names_the_codec_it_refuses),
        cmocka_unit_test(video__refuses_what_is_cut_short),
        cmocka_unit_test(audio__tells_aac_configuration_and_frames),
        cmocka_unit_test(audio__names_the_codec_it_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
