#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "media/codec.h"

/* x264, 1920x1080 (coded 1088 lines), High 4.0; made by ffmpeg 5.1. */
static const uint8_t HD[] = {
    0x01, 0x64, 0x00, 0x28, 0xff, 0xe1, 0x00, 0x1b, 0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78,
    0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c,
    0x60, 0xc6, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00};

static void avc__tells_size_and_name(void **state)
{
    (void)state;
    struct codec_avc avc;
    assert_int_equal(codec_avc_parse(HD, sizeof(HD), &avc, NULL), 0);
    assert_int_equal(avc.width, 1920);
    assert_int_equal(avc.height, 1080);
    assert_string_equal(avc.name, "avc1.640028");
    assert_int_equal(avc.config_len, sizeof(HD));
}

static void avc__refuses_every_prefix_that_cuts_the_sequence_parameters(void **state)
{
    (void)state;
    struct codec_avc avc = {.width = 7};
    for (size_t n = 0; n < 24; n++) {
        assert_int_equal(codec_avc_parse(HD, n, &avc, NULL), WEIR_EPROTO);
    }
    assert_int_equal(avc.width, 7);
}

static void avc__refuses_what_is_too_big(void **state)
{
    (void)state;
    uint8_t big[CODEC_AVC_CONFIG_MAX + 1] = {1};
    struct codec_avc avc;
    assert_int_equal(codec_avc_parse(big, sizeof(big), &avc, NULL), WEIR_ETOOBIG);
}

static void aac__tells_rate_channels_and_name(void **state)
{
    (void)state;
    static const uint8_t lc[] = {0x11, 0x90};
    struct codec_aac aac;
    assert_int_equal(codec_aac_parse(lc, sizeof(lc), &aac, NULL), 0);
    assert_int_equal(aac.sample_rate, 48000);
    assert_int_equal(aac.channels, 2);
    assert_int_equal(aac.frame_samples, 1024);
    assert_string_equal(aac.name, "mp4a.40.2");
}

static void aac__counts_the_core_rate_of_sbr(void **state)
{
    (void)state;
    /* object type 5, 24 kHz, stereo, 48 kHz with SBR, core object type 2 */
    static const uint8_t sbr[] = {0x2b, 0x11, 0x88, 0x00};
    struct codec_aac aac;
    assert_int_equal(codec_aac_parse(sbr, sizeof(sbr), &aac, NULL), 0);
    assert_int_equal(aac.sample_rate, 24000);
    assert_string_equal(aac.name, "mp4a.40.5");
}

static void aac__refuses_malformed_and_other_object_types(void **state)
{
    (void)state;
    static const uint8_t reserved_rate[] = {0x16, 0x90}, xhe[] = {0xf9, 0x46, 0x40};
    struct codec_aac aac;
    assert_int_equal(codec_aac_parse(NULL, 0, &aac, NULL), WEIR_EPROTO);
    assert_int_equal(codec_aac_parse(reserved_rate, 2, &aac, NULL), WEIR_EPROTO);
    assert_int_equal(codec_aac_parse(xhe, 3, &aac, NULL), WEIR_EVERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avc__tells_size_and_name),
        cmocka_unit_test(avc__refuses_every_prefix_that_cuts_the_sequence_parameters),
        cmocka_unit_test(avc__refuses_what_is_too_big),
        cmocka_unit_test(aac__tells_rate_channels_and_name),
        cmocka_unit_test(aac__counts_the_core_rate_of_sbr),
        cmocka_unit_test(aac__refuses_malformed_and_other_object_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
