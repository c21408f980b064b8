#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/error.h"
#include "proto/chat.pb-c.h"
#include "proto/ledger.pb-c.h"
#include "proto/lifecycle.pb-c.h"
#include "proto/print.h"

static void expect(const char *topic, const ProtobufCMessage *message, const char *json)
{
    uint8_t packed[512];
    struct bytes out;
    assert_true(protobuf_c_message_get_packed_size(message) <= sizeof(packed));
    size_t n = protobuf_c_message_pack(message, packed);
    bytes_init(&out, 4096);
    assert_int_equal(record_print(topic, packed, n, &out), 0);
    bytes_put_u8(&out, 0);
    assert_string_equal((const char *)out.data, json);
    bytes_close(&out);
}

static void record_print__shows_what_a_oneof_holds_and_no_other(void **state)
{
    (void)state;
    Weir__ChatBan ban = WEIR__CHAT_BAN__INIT;
    ban.user = (char[]){"mallory"};
    ban.by = (char[]){"demo"};
    ban.seconds = 60;
    Weir__ChatRecord record = WEIR__CHAT_RECORD__INIT;
    record.room = (char[]){"demo"};
    record.body_case = WEIR__CHAT_RECORD__BODY_BAN;
    record.ban = &ban;
    expect("chat", &record.base,
           "{\"room\":\"demo\",\"ban\":{\"user\":\"mallory\",\"by\":\"demo\",\"reason\":\"\","
           "\"seconds\":60}}");
}

static void record_print__is_json_whatever_a_string_holds(void **state)
{
    (void)state;
    Weir__ChatUnban unban = WEIR__CHAT_UNBAN__INIT;
    unban.user = (char[]){"a\"b\\c\n\xff\xed\xa0\x80"};
    unban.by = (char[]){"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8e\xa5"};
    Weir__ChatRecord record = WEIR__CHAT_RECORD__INIT;
    record.body_case = WEIR__CHAT_RECORD__BODY_UNBAN;
    record.unban = &unban;
    expect("chat", &record.base,
           "{\"room\":\"\",\"unban\":{\"user\":\"a\\\"b\\\\c\\u000a\\u00ff\\u00ed\\u00a0\\u0080\","
           "\"by\":\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8e\xa5\"}}");
}

static void record_print__shows_repeated_messages_and_signed_numbers(void **state)
{
    (void)state;
    Weir__Posting postings[2] = {WEIR__POSTING__INIT, WEIR__POSTING__INIT};
    postings[0].account = (char[]){"platform"};
    postings[0].amount_minor = -250;
    postings[1].account = (char[]){"user:bob"};
    postings[1].amount_minor = 250;
    Weir__Posting *list[2] = {&postings[0], &postings[1]};
    Weir__LedgerRecord record = WEIR__LEDGER_RECORD__INIT;
    record.channel = (char[]){"demo"};
    record.idempotency_key = (char[]){"k1"};
    record.n_postings = 2;
    record.postings = list;
    expect("ledger", &record.base,
           "{\"channel\":\"demo\",\"idempotency_key\":\"k1\",\"postings\":["
           "{\"account\":\"platform\",\"amount_minor\":-250},"
           "{\"account\":\"user:bob\",\"amount_minor\":250}]}");
}

static void record_print__shows_ids_in_hex(void **state)
{
    (void)state;
    Weir__SessionClaim claim = WEIR__SESSION_CLAIM__INIT;
    claim.node = (char[]){"n1"};
    claim.broadcast_id = 0xfedcba9876543210u;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    record.channel = (char[]){"demo"};
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_SESSION_CLAIM;
    record.session_claim = &claim;
    expect("lifecycle", &record.base,
           "{\"channel\":\"demo\",\"session_claim\":{\"node\":\"n1\","
           "\"broadcast_id\":\"fedcba9876543210\",\"encoder\":\"\",\"follows\":0}}");
}

static void record_print__refuses_other_topics_and_what_is_no_record(void **state)
{
    (void)state;
    struct bytes out;
    bytes_init(&out, 4096);
    assert_false(record_known("bench"));
    assert_true(record_known("accounts"));
    assert_int_equal(record_print("bench", "x", 1, &out), WEIR_ENOTFOUND);
    assert_int_equal(record_print("chat", "\x0a\x7f", 2, &out), WEIR_ECORRUPT);
    assert_int_equal(out.len, 0);
    bytes_close(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_print__shows_what_a_oneof_holds_and_no_other),
        cmocka_unit_test(record_print__is_json_whatever_a_string_holds),
        cmocka_unit_test(record_print__shows_repeated_messages_and_signed_numbers),
        cmocka_unit_test(record_print__shows_ids_in_hex),
        cmocka_unit_test(record_print__refuses_other_topics_and_what_is_no_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
