#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/auth.h"
#include "proto/messages.h"

static int parse_one(const struct bytes *b, struct frame *ret_frame, struct frame_parser *p)
{
    frame_parser_init(p, 1u << 20);
    assert_int_equal(frame_parser_feed(p, b->data, b->len), 0);
    return frame_parser_next(p, ret_frame, NULL);
}

static void message_put__comes_back_with_head_and_attachment(void **state)
{
    static char topic[] = "chat";
    Weir__BrokerProduce m = WEIR__BROKER_PRODUCE__INIT;
    struct frame_parser parser;
    struct bytes out;
    struct frame frame;
    ProtobufCMessage *head = NULL;
    (void)state;
    m.topic = topic;
    m.partition = 3;
    bytes_init(&out, 1000);
    message_put_attached(&out, BROKER_PRODUCE, 77, &m.base, "bytes", 5);
    assert_int_equal(bytes_error(&out), 0);
    assert_int_equal(parse_one(&out, &frame, &parser), 1);
    assert_int_equal(frame.type, BROKER_PRODUCE);
    assert_int_equal(frame.correlation, 77);
    assert_int_equal(frame.attachment_len, 5);
    assert_memory_equal(frame.attachment, "bytes", 5);
    assert_int_equal(message_unpack(&frame, &head, NULL), 0);
    assert_string_equal(((Weir__BrokerProduce *)head)->topic, "chat");
    assert_int_equal(((Weir__BrokerProduce *)head)->partition, 3);
    message_free(head);
    frame_parser_close(&parser);
    bytes_close(&out);
}

static void message_end__frames_an_attachment_written_in_place(void **state)
{
    Weir__BrokerFetched m = WEIR__BROKER_FETCHED__INIT;
    struct frame_parser parser;
    struct bytes out;
    struct frame frame;
    (void)state;
    m.high_watermark = 5;
    bytes_init(&out, 1000);
    bytes_put(&out, "before", 6);
    size_t start = message_begin(&out, &m.base);
    size_t head_len = out.len - start - FRAME_HEADER_SIZE;
    bytes_put(&out, "batches", 7);
    message_end(&out, start, BROKER_FETCHED, 9, head_len);
    bytes_consume(&out, 6);
    assert_int_equal(parse_one(&out, &frame, &parser), 1);
    assert_int_equal(frame.head_len, head_len);
    assert_memory_equal(frame.attachment, "batches", 7);
    frame_parser_close(&parser);
    bytes_close(&out);
}

static void message_put__beyond_the_buffers_limit_makes_the_error_stick(void **state)
{
    Weir__BrokerPing m = WEIR__BROKER_PING__INIT;
    struct bytes out;
    (void)state;
    bytes_init(&out, FRAME_HEADER_SIZE - 1);
    message_put(&out, BROKER_PING, 0, &m.base);
    assert_int_equal(bytes_error(&out), WEIR_ETOOBIG);
    bytes_close(&out);
}

static void message_unpack__refuses_unknown_types_large_heads_and_garbage(void **state)
{
    static uint8_t junk[64];
    ProtobufCMessage *head = NULL;
    struct error err;
    (void)state;
    memset(junk, 0xff, sizeof(junk));
    struct frame frame = {.type = 0, .head = junk, .head_len = sizeof(junk)};
    assert_int_equal(message_unpack(&frame, &head, &err), WEIR_EPROTO);
    frame.type = MESSAGE_TYPES;
    assert_int_equal(message_unpack(&frame, &head, &err), WEIR_EPROTO);
    frame.type = UINT16_MAX;
    assert_int_equal(message_unpack(&frame, &head, &err), WEIR_EPROTO);
    frame.type = BROKER_PRODUCE;
    assert_int_equal(message_unpack(&frame, &head, &err), WEIR_EPROTO);
    frame.head_len = MESSAGE_HEAD_MAX + 1;
    assert_int_equal(message_unpack(&frame, &head, &err), WEIR_ETOOBIG);
    assert_null(head);
    assert_string_equal(message_name(MESSAGE_TYPES), "unknown");
    assert_string_equal(message_name(BROKER_FETCH), "fetch");
}

static void auth_check__takes_only_the_right_secret_side_and_nonces(void **state)
{
    uint8_t a[AUTH_NONCE_SIZE] = {1}, b[AUTH_NONCE_SIZE] = {2}, proof[AUTH_PROOF_SIZE];
    (void)state;
    auth_prove("secret", "client", a, b, proof);
    assert_true(auth_check("secret", "client", a, b, proof, sizeof(proof)));
    assert_false(auth_check("Secret", "client", a, b, proof, sizeof(proof)));
    assert_false(auth_check("secret", "broker", a, b, proof, sizeof(proof)));
    assert_false(auth_check("secret", "client", b, a, proof, sizeof(proof)));
    assert_false(auth_check("secret", "client", a, b, proof, sizeof(proof) - 1));
    assert_false(auth_check("secret", "client", a, b, NULL, 0));
    proof[31] ^= 1;
    assert_false(auth_check("secret", "client", a, b, proof, sizeof(proof)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_put__comes_back_with_head_and_attachment),
        cmocka_unit_test(message_end__frames_an_attachment_written_in_place),
        cmocka_unit_test(message_put__beyond_the_buffers_limit_makes_the_error_stick),
        cmocka_unit_test(message_unpack__refuses_unknown_types_large_heads_and_garbage),
        cmocka_unit_test(auth_check__takes_only_the_right_secret_side_and_nonces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
