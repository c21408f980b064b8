#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "proto/frame.h"

static const struct frame SAMPLE = {
    .type = 7,
    .correlation = 0x1122334455667788,
    .head = (const uint8_t *)"head",
    .head_len = 4,
    .attachment = (const uint8_t *)"attachment",
    .attachment_len = 10,
};

static void sample_bytes(struct bytes *b)
{
    bytes_init(b, 1 << 20);
    frame_put(b, &SAMPLE);
    assert_int_equal(bytes_error(b), 0);
}

static void assert_sample(const struct frame *f)
{
    assert_int_equal(f->type, SAMPLE.type);
    assert_int_equal(f->correlation, SAMPLE.correlation);
    assert_int_equal(f->head_len, SAMPLE.head_len);
    assert_memory_equal(f->head, SAMPLE.head, SAMPLE.head_len);
    assert_int_equal(f->attachment_len, SAMPLE.attachment_len);
    assert_memory_equal(f->attachment, SAMPLE.attachment, SAMPLE.attachment_len);
}

static void frame_put__makes_the_bytes_of_the_golden_file(void **state)
{
    (void)state;
    struct bytes b;
    sample_bytes(&b);
    uint8_t golden[128];
    FILE *f = fopen("tests/golden/proto/frame_v1.bin", "rb");
    assert_non_null(f);
    size_t n = fread(golden, 1, sizeof(golden), f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, b.len);
    assert_memory_equal(golden, b.data, n);
    bytes_close(&b);
}

static void frame_parser__reads_frames_cut_at_every_byte(void **state)
{
    (void)state;
    struct bytes b;
    sample_bytes(&b);
    frame_put(&b, &SAMPLE);
    for (size_t cut = 0; cut <= b.len; cut++) {
        struct frame_parser p;
        struct frame f;
        frame_parser_init(&p, FRAME_SIZE_MAX);
        int count = 0;
        assert_int_equal(frame_parser_feed(&p, b.data, cut), 0);
        while (frame_parser_next(&p, &f, NULL) == 1) {
            assert_sample(&f);
            count++;
        }
        assert_int_equal(frame_parser_feed(&p, b.data + cut, b.len - cut), 0);
        while (frame_parser_next(&p, &f, NULL) == 1) {
            assert_sample(&f);
            count++;
        }
        assert_int_equal(count, 2);
        frame_parser_close(&p);
    }
    bytes_close(&b);
}

static void frame_parser__reads_frames_byte_by_byte(void **state)
{
    (void)state;
    struct bytes b;
    sample_bytes(&b);
    frame_put(&b, &SAMPLE);
    struct frame_parser p;
    struct frame f;
    frame_parser_init(&p, FRAME_SIZE_MAX);
    int count = 0;
    for (size_t i = 0; i < b.len; i++) {
        uint8_t byte = b.data[i];
        assert_int_equal(frame_parser_feed(&p, &byte, 1), 0);
        int rv;
        while ((rv = frame_parser_next(&p, &f, NULL)) == 1) {
            assert_sample(&f);
            count++;
        }
        assert_int_equal(rv, 0);
    }
    assert_int_equal(count, 2);
    frame_parser_close(&p);
    bytes_close(&b);
}

static void frame_parser_keep__lets_the_reader_stop_in_the_middle(void **state)
{
    (void)state;
    struct bytes b;
    sample_bytes(&b);
    frame_put(&b, &SAMPLE);
    struct frame_parser p;
    struct frame f;
    frame_parser_init(&p, FRAME_SIZE_MAX);
    assert_int_equal(frame_parser_feed(&p, b.data, b.len), 0);
    assert_int_equal(frame_parser_next(&p, &f, NULL), 1);
    assert_int_equal(frame_parser_keep(&p), 0);
    size_t len = b.len / 2;
    memset(b.data, 0, b.len); /* what was fed is no longer needed */
    bytes_reset(&b);
    frame_put(&b, &SAMPLE);
    assert_int_equal(b.len, len);
    assert_int_equal(frame_parser_feed(&p, b.data, b.len), 0);
    assert_int_equal(frame_parser_next(&p, &f, NULL), 1);
    assert_sample(&f);
    assert_int_equal(frame_parser_next(&p, &f, NULL), 1);
    assert_sample(&f);
    assert_int_equal(frame_parser_next(&p, &f, NULL), 0);
    frame_parser_close(&p);
    bytes_close(&b);
}

static int parse_changed(struct bytes *b, size_t at, uint8_t value, uint32_t max, struct error *err)
{
    struct frame_parser p;
    struct frame f;
    b->data[at] = value;
    frame_parser_init(&p, max);
    assert_int_equal(frame_parser_feed(&p, b->data, b->len), 0);
    int rv = frame_parser_next(&p, &f, err);
    if (rv < 0) { /* sticks */
        assert_int_equal(frame_parser_next(&p, &f, NULL), rv);
        assert_int_equal(frame_parser_feed(&p, b->data, 1), rv);
    }
    frame_parser_close(&p);
    return rv;
}

static void frame_parser__refuses_any_changed_byte_of_header_and_head(void **state)
{
    (void)state;
    for (size_t at = 0; at < FRAME_HEADER_SIZE + SAMPLE.head_len; at++) {
        struct bytes b;
        sample_bytes(&b);
        /* A longer frame is only a frame whose end has not come; its checksum is met when it has.
         */
        int rv = parse_changed(&b, at, b.data[at] ^ 0x40, FRAME_SIZE_MAX, NULL);
        assert_true(rv < 0 || (rv == 0 && at >= 4 && at < 8));
        bytes_close(&b);
    }
}

static void frame_parser__names_what_is_wrong(void **state)
{
    (void)state;
    struct error err;
    struct bytes b;
    sample_bytes(&b);
    assert_int_equal(parse_changed(&b, 8, 'H', FRAME_SIZE_MAX, &err), WEIR_EVERSION);
    assert_string_equal(err.text, "not a frame of version 1: version 72, flags 0");
    bytes_close(&b);
    sample_bytes(&b);
    assert_int_equal(parse_changed(&b, 7, 0x7f, FRAME_SIZE_MAX, &err), WEIR_ETOOBIG);
    assert_string_equal(err.text, "frame of 2130706470 bytes, limit 33554432");
    bytes_close(&b);
    sample_bytes(&b);
    assert_int_equal(parse_changed(&b, 22, 1, FRAME_SIZE_MAX, &err), WEIR_EPROTO);
    assert_string_equal(err.text, "frame of 38 bytes with a head of 65540");
    bytes_close(&b);
    sample_bytes(&b);
    assert_int_equal(parse_changed(&b, 24, 'H', FRAME_SIZE_MAX, &err), WEIR_ECORRUPT);
    assert_non_null(strstr(err.text, "frame type 7 of 38 bytes: checksum"));
    bytes_close(&b);
}

static void frame_parser__holds_the_limit_exactly(void **state)
{
    (void)state;
    struct bytes b;
    sample_bytes(&b);
    assert_int_equal(parse_changed(&b, 0, b.data[0], 38, NULL), 1);
    assert_int_equal(parse_changed(&b, 0, b.data[0], 37, NULL), WEIR_ETOOBIG);
    bytes_close(&b);
}

static void frame_parser__carries_large_frames_over_many_feeds(void **state)
{
    (void)state;
    static uint8_t big[3 << 20];
    memset(big, 0xab, sizeof(big));
    struct frame in = {.type = 1, .attachment = big, .attachment_len = sizeof(big)};
    struct bytes b;
    bytes_init(&b, 8 << 20);
    frame_put(&b, &in);
    struct frame_parser p;
    struct frame f;
    frame_parser_init(&p, FRAME_SIZE_MAX);
    int count = 0;
    for (size_t at = 0; at < b.len; at += 65536) {
        size_t n = b.len - at < 65536 ? b.len - at : 65536;
        assert_int_equal(frame_parser_feed(&p, b.data + at, n), 0);
        int rv;
        while ((rv = frame_parser_next(&p, &f, NULL)) == 1) {
            assert_int_equal(f.attachment_len, sizeof(big));
            assert_memory_equal(f.attachment, big, sizeof(big));
            count++;
        }
        assert_int_equal(rv, 0);
    }
    assert_int_equal(count, 1);
    frame_parser_close(&p);
    bytes_close(&b);
}

static void frame_encode_header__refuses_what_does_not_fit_its_length(void **state)
{
    (void)state;
    uint8_t header[FRAME_HEADER_SIZE];
    struct frame f = {.type = 9, .attachment_len = UINT32_MAX};
    struct error err;
    assert_int_equal(frame_encode_header(&f, header, &err), WEIR_ETOOBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_put__makes_the_bytes_of_the_golden_file),
        cmocka_unit_test(frame_parser__reads_frames_cut_at_every_byte),
        cmocka_unit_test(frame_parser__reads_frames_byte_by_byte),
        cmocka_unit_test(frame_parser_keep__lets_the_reader_stop_in_the_middle),
        cmocka_unit_test(frame_parser__refuses_any_changed_byte_of_header_and_head),
        cmocka_unit_test(frame_parser__names_what_is_wrong),
        cmocka_unit_test(frame_parser__holds_the_limit_exactly),
        cmocka_unit_test(frame_parser__carries_large_frames_over_many_feeds),
        cmocka_unit_test(frame_encode_header__refuses_what_does_not_fit_its_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
