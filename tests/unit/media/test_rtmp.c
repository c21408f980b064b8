#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/amf0.h"
#include "media/rtmp.h"
#include "media/rtmp_chunk.h"
#include "media_golden.h"

struct seen {
    struct rtmp *rtmp;
    enum { ACCEPT, REJECT, WAIT } answer;
    char app[64], name[64];
    unsigned publishes, videos, audios, unpublishes, metadata;
    uint32_t last_ms;
    size_t bytes;
    uint32_t first_byte;
    double width;
};

static void on_publish(void *data, const char *app, const char *name)
{
    struct seen *s = data;
    s->publishes++;
    strncpy(s->app, app, sizeof(s->app) - 1);
    strncpy(s->name, name, sizeof(s->name) - 1);
    if (s->answer == ACCEPT) {
        assert_int_equal(rtmp_publish_accept(s->rtmp, NULL), 0);
    } else if (s->answer == REJECT) {
        rtmp_publish_reject(s->rtmp, "no such key");
    }
}

static void on_media(void *data, enum rtmp_media type, uint32_t ms, const uint8_t *body, size_t len)
{
    struct seen *s = data;
    s->videos += type == RTMP_VIDEO;
    s->audios += type == RTMP_AUDIO;
    s->last_ms = ms;
    s->bytes += len;
    s->first_byte = body[0];
}

static void on_metadata(void *data, const struct rtmp_metadata *m)
{
    struct seen *s = data;
    s->metadata++;
    s->width = m->width;
}

static void on_unpublish(void *data)
{
    ((struct seen *)data)->unpublishes++;
}

static struct rtmp *open_session(struct seen *s)
{
    struct rtmp_events events = {s, on_publish, on_media, on_metadata, on_unpublish};
    assert_int_equal(rtmp_new(&events, &s->rtmp), 0);
    return s->rtmp;
}

static bool output_has(struct rtmp *r, const char *text)
{
    const struct bytes *out = rtmp_output(r);
    return memmem(out->data, out->len, text, strlen(text)) != NULL;
}

/* Handshake, connect and publish, as raw chunks. */
static void put_command(struct bytes *b, const char *name, double transaction, const char *arg)
{
    struct bytes body;
    bytes_init(&body, 1024);
    amf0_put_string(&body, name);
    amf0_put_number(&body, transaction);
    amf0_put_null(&body);
    if (arg != NULL) {
        amf0_put_string(&body, arg);
    }
    rtmp_put_message(b, 128, 3, 20, 0, body.data, body.len);
    bytes_close(&body);
}

static void put_greeting(struct bytes *b)
{
    bytes_put_u8(b, 3);
    for (int i = 0; i < 1536 * 2; i++) {
        bytes_put_u8(b, (uint8_t)i);
    }
    put_command(b, "connect", 1, NULL);
}

static void put_publish(struct bytes *b)
{
    put_greeting(b);
    put_command(b, "createStream", 4, NULL);
    put_command(b, "publish", 5, "key");
}

static struct rtmp *publishing(struct seen *s)
{
    struct bytes b;
    bytes_init(&b, 8192);
    put_publish(&b);
    open_session(s);
    assert_int_equal(rtmp_receive(s->rtmp, b.data, b.len, NULL), 0);
    assert_int_equal(s->publishes, 1);
    bytes_close(&b);
    return s->rtmp;
}

static void check_recording(const struct seen *s)
{
    assert_int_equal(s->publishes, 1);
    assert_string_equal(s->app, "live");
    assert_string_equal(s->name, "live_alice_key?a=b");
    assert_int_equal(s->metadata, 1);
    assert_true(s->width == 160);
    assert_int_equal(s->videos, 1 + 75 + 1); /* configuration, frames, end of sequence */
    assert_true(s->audios > 210);
    assert_int_equal(s->unpublishes, 1);
}

static void rtmp_receive__keeps_little_for_who_has_shown_no_key(void **state)
{
    (void)state;
    struct seen s = {0};
    struct error err = {0};
    uint8_t body[RTMP_ASSEMBLY_EARLY_MAX + 1] = {0};
    struct bytes b;
    bytes_init(&b, 4 * sizeof(body));
    put_greeting(&b);
    rtmp_put_message(&b, 128, 4, 9, 1, body, sizeof(body));
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, b.data, b.len, &err), WEIR_ETOOBIG);
    assert_non_null(strstr(err.text, "unfinished messages"));
    bytes_close(&b);
    rtmp_free(r);
}

static void rtmp_receive__takes_what_ffmpeg_sent(void **state)
{
    (void)state;
    struct seen s = {0};
    struct bytes in = golden_read("rtmp_ffmpeg.bin");
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, in.data, in.len, NULL), 0);
    check_recording(&s);
    assert_true(output_has(r, "NetConnection.Connect.Success"));
    assert_true(output_has(r, "NetStream.Publish.Start"));
    rtmp_free(r);
    bytes_close(&in);
}

static void rtmp_receive__takes_what_obs_sent(void **state)
{
    (void)state;
    struct seen s = {0};
    struct bytes in = golden_read("rtmp_obs.bin");
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, in.data, in.len, NULL), 0);
    assert_string_equal(s.name, "live_bob_key?x=y");
    assert_int_equal(s.metadata, 1);
    assert_true(s.videos > 60 && s.audios > 200);
    assert_int_equal(s.unpublishes, 1);
    assert_string_equal(rtmp_encoder(r), "FMLE/3.0 (compatible; FMSc/1.0)");
    rtmp_free(r);
    bytes_close(&in);
}

static void rtmp_receive__gives_the_same_in_any_slicing(void **state)
{
    (void)state;
    static const size_t slices[] = {1, 7, 129, 4096};
    struct bytes in = golden_read("rtmp_ffmpeg.bin");
    for (size_t i = 0; i < 4; i++) {
        struct seen s = {0};
        struct rtmp *r = open_session(&s);
        for (size_t at = 0; at < in.len; at += slices[i]) {
            size_t n = in.len - at < slices[i] ? in.len - at : slices[i];
            assert_int_equal(rtmp_receive(r, in.data + at, n, NULL), 0);
            bytes_reset(rtmp_output(r));
        }
        check_recording(&s);
        rtmp_free(r);
    }
    bytes_close(&in);
}

static void publish__is_refused_with_bad_name(void **state)
{
    (void)state;
    struct seen s = {.answer = REJECT};
    struct bytes b;
    bytes_init(&b, 8192);
    put_publish(&b);
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, b.data, b.len, NULL), WEIR_ECLOSED);
    assert_true(output_has(r, "NetStream.Publish.BadName"));
    assert_true(output_has(r, "no such key"));
    assert_false(output_has(r, "NetStream.Publish.Start"));
    assert_int_equal(rtmp_receive(r, b.data, 1, NULL), WEIR_ECLOSED);
    rtmp_free(r);
    bytes_close(&b);
}

static void publish__waits_for_the_answer_and_loses_nothing(void **state)
{
    (void)state;
    struct seen s = {.answer = WAIT};
    struct bytes in = golden_read("rtmp_ffmpeg.bin");
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, in.data, in.len, NULL), 0);
    assert_int_equal(s.videos, 0);
    assert_false(rtmp_wants_input(r));
    assert_int_equal(rtmp_publish_accept(r, NULL), 0);
    check_recording(&s);
    rtmp_free(r);
    bytes_close(&in);
}

static void fc_publish__is_answered_with_its_transaction_id(void **state)
{
    (void)state;
    struct seen s = {0};
    struct bytes b, want;
    bytes_init(&b, 8192);
    bytes_init(&want, 64);
    put_greeting(&b);
    put_command(&b, "FCPublish", 77, "key");
    amf0_put_string(&want, "onFCPublish");
    amf0_put_number(&want, 77);
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, b.data, b.len, NULL), 0);
    const struct bytes *out = rtmp_output(r);
    assert_non_null(memmem(out->data, out->len, want.data, want.len));
    rtmp_free(r);
    bytes_close(&b);
    bytes_close(&want);
}

/* A chunk of a video message: format, chunk stream in one byte. */
static void put_header(struct bytes *b, uint8_t format, uint8_t id, uint32_t time, uint32_t length)
{
    bytes_put_u8(b, (uint8_t)(format << 6 | id));
    if (format <= 2) {
        bytes_put_be24(b, time);
    }
    if (format <= 1) {
        bytes_put_be24(b, length);
        bytes_put_u8(b, 9);
    }
    if (format == 0) {
        bytes_put_le32(b, 1);
    }
}

static void put_payload(struct bytes *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bytes_put_u8(b, 0x17);
    }
}

static void receive(struct rtmp *r, struct bytes *b)
{
    assert_int_equal(rtmp_receive(r, b->data, b->len, NULL), 0);
    bytes_reset(b);
}

static void extended_timestamp__is_taken_with_and_without_repetition(void **state)
{
    (void)state;
    for (int repeated = 0; repeated <= 1; repeated++) {
        struct seen s = {0};
        struct rtmp *r = publishing(&s);
        struct bytes b;
        bytes_init(&b, 8192);
        put_header(&b, 0, 6, 0xffffff, 300);
        bytes_put_be32(&b, 0x01000000);
        put_payload(&b, 128);
        for (int i = 0; i < 2; i++) {
            put_header(&b, 3, 6, 0, 0);
            if (repeated != 0) {
                bytes_put_be32(&b, 0x01000000);
            }
            put_payload(&b, i == 0 ? 128 : 44);
        }
        receive(r, &b);
        assert_int_equal(s.videos, 1);
        assert_int_equal(s.last_ms, 0x01000000);
        assert_int_equal(s.bytes, 300);
        assert_int_equal(s.first_byte, 0x17);
        bytes_close(&b);
        rtmp_free(r);
    }
}

static void extended_timestamp__is_a_delta_on_format_one(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    put_header(&b, 0, 6, 1000, 10);
    put_payload(&b, 10);
    put_header(&b, 1, 6, 0xffffff, 10);
    bytes_put_be32(&b, 0x02000000);
    put_payload(&b, 10);
    receive(r, &b);
    assert_int_equal(s.last_ms, 1000 + 0x02000000);
    bytes_close(&b);
    rtmp_free(r);
}

static void timestamps__wrap_and_go_back_by_negative_deltas(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    put_header(&b, 0, 6, 0xffffff, 10);
    bytes_put_be32(&b, 0xfffffff0);
    put_payload(&b, 10);
    put_header(&b, 2, 6, 0x20, 0);
    put_payload(&b, 10);
    receive(r, &b);
    assert_int_equal(s.last_ms, 0x10);
    put_header(&b, 2, 6, 0xffffff, 0);
    bytes_put_be32(&b, 0xffffffff);
    put_payload(&b, 10);
    receive(r, &b);
    assert_int_equal(s.last_ms, 0x0f);
    bytes_close(&b);
    rtmp_free(r);
}

static void chunk_streams__have_ids_of_one_two_and_three_bytes(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    static const struct {
        uint8_t bytes[3];
        size_t n;
    } ids[] = {{{63}, 1}, {{0, 255}, 2}, {{1, 0xff, 0xff}, 3}};
    for (size_t i = 0; i < 3; i++) {
        bytes_put(&b, ids[i].bytes, ids[i].n);
        bytes_put_be24(&b, 5);
        bytes_put_be24(&b, 10);
        bytes_put_u8(&b, 9);
        bytes_put_le32(&b, 1);
        put_payload(&b, 10);
    }
    receive(r, &b);
    assert_int_equal(s.videos, 3);
    bytes_close(&b);
    rtmp_free(r);
}

static void chunk_streams__are_limited(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    for (unsigned i = 0; i < RTMP_CHUNK_STREAMS_MAX; i++) {
        const uint8_t id[] = {0, (uint8_t)i};
        bytes_put(&b, id, 2);
        bytes_put_be24(&b, 0);
        bytes_put_be24(&b, 1);
        bytes_put_u8(&b, 9);
        bytes_put_le32(&b, 1);
        put_payload(&b, 1);
    }
    struct error err;
    assert_int_equal(rtmp_receive(r, b.data, b.len, &err), WEIR_EPROTO);
    assert_non_null(strstr(err.text, "one too many"));
    bytes_close(&b);
    rtmp_free(r);
}

static void messages__are_limited_and_their_length_allocates_nothing(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    put_header(&b, 0, 6, 0, 0xffffff); /* just below the limit: waits for bytes */
    put_payload(&b, 100);
    receive(r, &b);
    rtmp_free(r);
    bytes_close(&b);
    static_assert(RTMP_MESSAGE_MAX > 0xffffff, "any length that can be said is taken");
}

static void acknowledgement__comes_within_the_peers_window(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 1u << 20);
    const uint8_t window[] = {0, 0, 0x10, 0}; /* 4096 */
    rtmp_put_message(&b, 128, 2, 5, 0, window, 4);
    receive(r, &b);
    bytes_reset(rtmp_output(r));
    put_header(&b, 0, 6, 0, 2560);
    put_payload(&b, 128);
    for (int i = 0; i < 19; i++) {
        put_header(&b, 3, 6, 0, 0);
        put_payload(&b, 128);
    }
    receive(r, &b);
    const struct bytes *out = rtmp_output(r);
    assert_int_equal(out->len, 16);
    assert_int_equal(out->data[7], 3);
    bytes_close(&b);
    rtmp_free(r);
}

static void abort__drops_a_half_sent_message(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    const uint8_t id[] = {0, 0, 0, 6};
    put_header(&b, 0, 6, 0, 200);
    put_payload(&b, 128);
    rtmp_put_message(&b, 128, 2, 2, 0, id, 4);
    put_header(&b, 0, 6, 40, 10);
    put_payload(&b, 10);
    receive(r, &b);
    assert_int_equal(s.videos, 1);
    assert_int_equal(s.bytes, 10);
    bytes_close(&b);
    rtmp_free(r);
}

static void aggregate__is_split_and_moved_to_the_messages_time(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b, body;
    bytes_init(&b, 8192);
    bytes_init(&body, 8192);
    for (uint32_t i = 0; i < 2; i++) {
        bytes_put_u8(&body, i == 0 ? 9 : 8);
        bytes_put_be24(&body, 5);
        bytes_put_be24(&body, 500 + i * 20);
        bytes_put_u8(&body, 0);
        bytes_put_be24(&body, 0);
        put_payload(&body, 5);
        bytes_put_be32(&body, 16);
    }
    bytes_put_u8(&b, 6);
    bytes_put_be24(&b, 9000);
    bytes_put_be24(&b, (uint32_t)body.len);
    bytes_put_u8(&b, 22);
    bytes_put_le32(&b, 1);
    bytes_put(&b, body.data, body.len);
    receive(r, &b);
    assert_true(s.videos == 1 && s.audios == 1);
    assert_int_equal(s.last_ms, 9020);
    bytes_close(&b);
    bytes_close(&body);
    rtmp_free(r);
}

static void ping__is_answered(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    const uint8_t ping[] = {0, 6, 1, 2, 3, 4};
    const uint8_t pong[] = {0, 7, 1, 2, 3, 4};
    rtmp_put_message(&b, 128, 2, 4, 0, ping, sizeof(ping));
    receive(r, &b);
    const struct bytes *out = rtmp_output(r);
    assert_non_null(memmem(out->data, out->len, pong, sizeof(pong)));
    bytes_close(&b);
    rtmp_free(r);
}

static void unpublish__is_told_once_and_ends_the_media(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = publishing(&s);
    struct bytes b;
    bytes_init(&b, 8192);
    put_command(&b, "FCUnpublish", 6, "key");
    put_command(&b, "deleteStream", 7, NULL);
    put_header(&b, 0, 6, 0, 10);
    put_payload(&b, 10);
    receive(r, &b);
    assert_int_equal(s.unpublishes, 1);
    assert_int_equal(s.videos, 0);
    bytes_close(&b);
    rtmp_free(r);
}

static void other_protocols__are_refused_at_the_first_byte(void **state)
{
    (void)state;
    struct seen s = {0};
    struct rtmp *r = open_session(&s);
    struct error err;
    assert_int_equal(rtmp_receive(r, (const uint8_t *)"GET / HTTP/1.1", 14, &err), WEIR_EPROTO);
    assert_non_null(strstr(err.text, "not an RTMP client"));
    rtmp_free(r);
}

static void publish__before_connect_is_an_error(void **state)
{
    (void)state;
    struct seen s = {0};
    struct bytes b;
    bytes_init(&b, 8192);
    bytes_put_u8(&b, 3);
    for (int i = 0; i < 1536 * 2; i++) {
        bytes_put_u8(&b, 0);
    }
    put_command(&b, "publish", 5, "key");
    struct rtmp *r = open_session(&s);
    assert_int_equal(rtmp_receive(r, b.data, b.len, NULL), WEIR_EPROTO);
    rtmp_free(r);
    bytes_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rtmp_receive__keeps_little_for_who_has_shown_no_key),
        cmocka_unit_test(rtmp_receive__takes_what_ffmpeg_sent),
        cmocka_unit_test(rtmp_receive__takes_what_obs_sent),
        cmocka_unit_test(rtmp_receive__gives_the_same_in_any_slicing),
        cmocka_unit_test(publish__is_refused_with_bad_name),
        cmocka_unit_test(publish__waits_for_the_answer_and_loses_nothing),
        cmocka_unit_test(publish__before_connect_is_an_error),
        cmocka_unit_test(fc_publish__is_answered_with_its_transaction_id),
        cmocka_unit_test(extended_timestamp__is_taken_with_and_without_repetition),
        cmocka_unit_test(extended_timestamp__is_a_delta_on_format_one),
        cmocka_unit_test(timestamps__wrap_and_go_back_by_negative_deltas),
        cmocka_unit_test(chunk_streams__have_ids_of_one_two_and_three_bytes),
        cmocka_unit_test(chunk_streams__are_limited),
        cmocka_unit_test(messages__are_limited_and_their_length_allocates_nothing),
        cmocka_unit_test(acknowledgement__comes_within_the_peers_window),
        cmocka_unit_test(abort__drops_a_half_sent_message),
        cmocka_unit_test(aggregate__is_split_and_moved_to_the_messages_time),
        cmocka_unit_test(ping__is_answered),
        cmocka_unit_test(unpublish__is_told_once_and_ends_the_media),
        cmocka_unit_test(other_protocols__are_refused_at_the_first_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
