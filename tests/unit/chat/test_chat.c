#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/accounts.pb-c.h"
#include "records.h"

static void room__shows_all_clients_the_same_events(void **state)
{
    (void)state;
    struct client *a = client_join(""), *b = client_join("");
    assert_int_equal(number(hear(a, "joined"), "offset"), -1);
    (void)hear(b, "joined");
    for (int i = 0; i < 50; i++) {
        int64_t offset =
            feed_message(i % 5 == 0 ? "other" : "room", "alice", "hi \"you\" \xc3\xbc", "");
        if (i % 5 == 0) {
            continue;
        }
        json_t *ja = hear(a, "message"), *jb = hear(b, "message");
        assert_true(json_equal(ja, jb));
        assert_int_equal(number(ja, "offset"), offset);
        assert_string_equal(member(ja, "text"), "hi \"you\" \xc3\xbc");
        assert_string_equal(member(ja, "display_name"), "alice");
    }
    client_free(a);
    client_free(b);
}

static void send__is_acknowledged_with_its_offset_and_comes_back(void **state)
{
    (void)state;
    struct client *reader = client_join("");
    struct client *a = client_auth(1);
    (void)hear(reader, "joined");
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"first\",\"nonce\":\"n1\"}");
    json_t *ack = hear(a, "ack"), *message = hear(reader, "message");
    assert_string_equal(member(ack, "nonce"), "n1");
    assert_int_equal(number(ack, "offset"), number(message, "offset"));
    assert_string_equal(member(message, "user"), "alice");
    assert_string_equal(member(message, "nonce"), "n1");
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"too soon\",\"nonce\":\"n2\"}");
    json_t *error = hear(a, "error");
    assert_string_equal(member(error, "code"), "rate_limited");
    assert_string_equal(member(error, "nonce"), "n2");
    client_free(a);
    client_free(reader);
}

static void send__is_refused_once_its_token_is_revoked(void **state)
{
    (void)state;
    struct client *a = client_auth(1);
    Weir__TokenRevoke revoke = WEIR__TOKEN_REVOKE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    struct account_identity id;
    uint8_t random[ACCOUNT_RANDOM_SIZE] = {0}, hash[ACCOUNT_HASH_SIZE];
    char token[ACCOUNT_SECRET_MAX];
    Weir__TokenIssue issue = WEIR__TOKEN_ISSUE__INIT;
    account_token_make("alice", random, token, hash);
    issue.user = mutable("alice");
    issue.token_hash = (ProtobufCBinaryData){.len = sizeof(hash), .data = hash};
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_TOKEN_ISSUE;
    r.token_issue = &issue;
    (void)feed(VIEW_ACCOUNTS, &r.base);
    say(a, "{\"type\":\"auth\",\"token\":\"%s\"}", token);
    (void)hear(a, "authed");
    revoke.user = issue.user;
    revoke.token_hash = issue.token_hash;
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_TOKEN_REVOKE;
    r.token_revoke = &revoke;
    (void)feed(VIEW_ACCOUNTS, &r.base);
    assert_int_equal(accounts_by_token(node.views, token, &id), WEIR_EAUTH);
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\"}");
    hear_error(a, "bad_token");
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\"}");
    hear_error(a, "unauthorized");
    client_free(a);
}

static void send__stored_twice_counts_once(void **state)
{
    (void)state;
    struct client *reader = client_join(""), *a = client_auth(1);
    (void)hear(reader, "joined");
    twice = true;
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"once\",\"nonce\":\"n\"}");
    assert_int_equal(number(hear(a, "ack"), "offset"), 0);
    (void)hear(reader, "message");
    hear_nothing(reader);
    client_free(a);
    client_free(reader);
}

static void send__outlives_its_connection(void **state)
{
    (void)state;
    struct client *reader = client_join(""), *a = client_auth(1);
    (void)hear(reader, "joined");
    hold = true;
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"last words\"}");
    RUN_UNTIL(n_pending == 1);
    client_free(a);
    hear_nothing(reader);
    pending_fold(&pending[0]);
    assert_string_equal(member(hear(reader, "message"), "text"), "last words");
    client_free(reader);
}

static void requests__that_are_wrong_get_an_error_and_the_connection_lives(void **state)
{
    (void)state;
    static const char long_text[] = "01234567890123456789012345678901234567890123456789012345678901"
                                    "23456789012345678901234567890123456789";
    struct client *c = client_open();
    say(c, "{");
    hear_error(c, "bad_json");
    say(c, "[1]");
    hear_error(c, "bad_json");
    say(c, "\"\xff\"");
    hear_error(c, "bad_json");
    say(c, "{\"type\":\"nothing\"}");
    hear_error(c, "bad_request");
    say(c, "{\"type\":5}");
    hear_error(c, "bad_request");
    say(c, "{\"type\":\"join\",\"room\":\"nowhere\"}");
    hear_error(c, "room_not_found");
    say(c, "{\"type\":\"join\",\"room\":\"../etc\"}");
    hear_error(c, "room_not_found");
    say(c, "{\"type\":\"join\",\"room\":\"room\",\"after\":\"x\"}");
    hear_error(c, "bad_request");
    say(c, "{\"type\":\"leave\",\"room\":\"room\"}");
    hear_error(c, "bad_request");
    say(c, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\"}");
    hear_error(c, "unauthorized");
    say(c, "{\"type\":\"auth\",\"token\":\"wt_alice_no\"}");
    hear_error(c, "bad_token");
    say(c, "{\"type\":\"auth\",\"token\":\"%s\"}", tokens[1]);
    (void)hear(c, "authed");
    say(c, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"\"}");
    hear_error(c, "bad_text");
    say(c, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"a\\tb\"}");
    hear_error(c, "bad_text");
    say(c, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"%s%s%s%s%s!\"}", long_text, long_text,
        long_text, long_text, long_text);
    hear_error(c, "bad_text");
    say(c, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"%s\"}", long_text);
    hear_error(c, "bad_request");
    say(c, "{\"type\":\"ban\",\"room\":\"room\",\"user\":\"bob\"}");
    hear_error(c, "forbidden");
    say(c, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":5}");
    hear_error(c, "forbidden");
    say(c, "{\"type\":\"history\",\"room\":\"room\",\"limit\":101}");
    hear_error(c, "bad_request");
    hear_nothing(c);
    client_free(c);
}

static void message__above_16_kib_ends_the_connection(void **state)
{
    (void)state;
    static char big[16385];
    struct client *c = client_open();
    memset(big, ' ', sizeof(big));
    assert_int_equal(ws_client_send(c->ws, big, sizeof(big)), 0);
    RUN_UNTIL(c->closed);
    assert_int_equal(c->status, 0);
    client_free(c);
}

static void join__shows_history_oldest_first(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "m%d", i);
        (void)feed_message("room", "alice", text, "");
    }
    struct client *c = client_join(",\"history\":10");
    assert_int_equal(number(hear(c, "joined"), "offset"), 29);
    json_t *history = hear(c, "history");
    json_t *items = json_object_get(history, "items");
    assert_int_equal(json_array_size(items), 10);
    assert_true(is_true(history, "more"));
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(number(json_array_get(items, i), "offset"), 20 + (int64_t)i);
    }
    say(c, "{\"type\":\"history\",\"room\":\"room\",\"before\":5}");
    history = hear(c, "history");
    assert_int_equal(json_array_size(json_object_get(history, "items")), 5);
    assert_false(is_true(history, "more"));
    client_free(c);
}

static void hear_offsets(struct client *c, int64_t from, int64_t to)
{
    for (int64_t offset = from; offset < to; offset++) {
        assert_int_equal(number(hear(c, "message"), "offset"), offset);
    }
}

static void resume__from_the_view_goes_over_to_live_without_gap_or_repetition(void **state)
{
    (void)state;
    enum { N = 1234 };
    for (int i = 0; i < N; i++) {
        (void)feed_message("room", "alice", "x", "");
    }
    struct client *c = client_join(",\"after\":99");
    json_t *joined = hear(c, "joined");
    assert_true(is_true(joined, "resumed"));
    assert_int_equal(number(joined, "offset"), 99);
    for (int i = 0; i < 20; i++) { /* while it catches up */
        (void)feed_message("room", "alice", "x", "");
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    hear_offsets(c, 100, N + 20);
    (void)feed_message("room", "alice", "x", "");
    hear_offsets(c, N + 20, N + 21);
    hear_nothing(c);
    client_free(c);
}

static void resume__from_the_ring_has_every_kind_of_event(void **state)
{
    (void)state;
    struct client *keeper = client_join(""); /* keeps the room */
    struct client *owner = client_auth(0);
    (void)hear(keeper, "joined");
    for (int i = 0; i < 20; i++) {
        (void)feed_message("room", "alice", "x", "");
    }
    say(owner, "{\"type\":\"ban\",\"room\":\"room\",\"user\":\"bob\"}");
    (void)hear(owner, "ack");
    struct client *c = client_join(",\"after\":9");
    assert_true(is_true(hear(c, "joined"), "resumed"));
    hear_offsets(c, 10, 20);
    (void)hear(c, "ban");
    hear_nothing(c);
    client_free(keeper);
    client_free(owner);
    client_free(c);
}

static void resume__from_the_view_has_every_kind_of_event(void **state)
{
    (void)state;
    struct client *owner = client_auth(0);
    (void)feed_message("room", "bob", "rude", "");
    say(owner, "{\"type\":\"ban\",\"room\":\"room\",\"user\":\"bob\",\"seconds\":60}");
    (void)hear(owner, "ack");
    say(owner, "{\"type\":\"delete\",\"room\":\"room\",\"offset\":0}");
    (void)hear(owner, "ack");
    say(owner, "{\"type\":\"unban\",\"room\":\"room\",\"user\":\"bob\"}");
    (void)hear(owner, "ack");
    say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":7}");
    (void)hear(owner, "ack");
    struct client *c = client_join(",\"after\":-1"); /* nobody was in the room: its ring is new */
    assert_true(is_true(hear(c, "joined"), "resumed"));
    json_t *message = hear(c, "message");
    assert_string_equal(member(message, "text"), "");
    assert_string_equal(member(message, "deleted_by"), "owner");
    json_t *ban = hear(c, "ban");
    assert_int_equal(number(ban, "until"), number(ban, "time") + 60000);
    assert_int_equal(number(hear(c, "deleted"), "target"), 0);
    assert_string_equal(member(hear(c, "unban"), "user"), "bob");
    assert_int_equal(number(hear(c, "slow"), "seconds"), 7);
    hear_nothing(c);
    client_free(owner);
    client_free(c);
}

static void resume__ahead_of_this_node_waits_until_its_view_has_passed(void **state)
{
    (void)state;
    struct client *c = client_join(",\"after\":4");
    assert_true(is_true(hear(c, "joined"), "resumed"));
    for (int i = 0; i < 8; i++) {
        (void)feed_message("room", "alice", "x", "");
    }
    hear_offsets(c, 5, 8);
    hear_nothing(c);
    client_free(c);
}

static void resume__from_before_what_is_kept_says_so(void **state)
{
    (void)state;
    for (int i = 0; i < CHAT_KEPT_MAX + 1; i++) {
        (void)feed_message("room", "alice", "x", "");
    }
    struct client *c = client_join(",\"after\":10");
    json_t *joined = hear(c, "joined");
    assert_false(is_true(joined, "resumed"));
    int64_t from = number(joined, "offset");
    assert_true(from > 10);
    hear_offsets(c, from + 1, CHAT_KEPT_MAX + 1);
    client_free(c);
}

static void slow_reader__falls_off_and_takes_up_where_it_was(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct client *c = client_join("");
    (void)hear(c, "joined");
    for (int i = 0; i < N; i++) { /* the loop does not run: nobody reads */
        (void)feed_message("room", "alice", "x", "");
    }
    json_t *lagged = hear(c, "lagged");
    assert_int_equal(number(lagged, "offset"), -1);
    say(c, "{\"type\":\"join\",\"room\":\"room\",\"after\":-1}");
    (void)hear(c, "joined");
    hear_offsets(c, 0, N);
    hear_nothing(c);
    client_free(c);
}

static void connection__may_be_in_many_rooms_and_leave_them(void **state)
{
    (void)state;
    char name[16];
    struct client *c = client_open();
    for (int i = 0; i <= 20; i++) {
        (void)snprintf(name, sizeof(name), "room%d", i);
        feed_channel(name, "owner");
        say(c, "{\"type\":\"join\",\"room\":\"%s\"}", name);
        if (i < 20) {
            (void)hear(c, "joined");
        }
    }
    hear_error(c, "too_many_rooms");
    say(c, "{\"type\":\"join\",\"room\":\"room7\"}");
    hear_error(c, "bad_request");
    (void)feed_message("room7", "alice", "x", "");
    assert_string_equal(member(hear(c, "message"), "room"), "room7");
    say(c, "{\"type\":\"leave\",\"room\":\"room7\"}");
    (void)hear(c, "left");
    (void)feed_message("room7", "alice", "x", "");
    hear_nothing(c);
    client_free(c);
}

static void gateway__answers_what_is_no_handshake(void **state)
{
    (void)state;
    struct client *c[12];
    for (unsigned i = 0; i < 10; i++) {
        c[i] = client_open();
    }
    c[10] = client_dial();
    assert_true(c[10]->closed);
    assert_int_equal(c[10]->status, 503);
    for (unsigned i = 0; i < 11; i++) {
        client_free(c[i]);
    }
    struct client other = {0};
    const struct ws_client_events events = {
        .data = &other, .opened = on_opened, .message = on_message, .closed = on_client_closed};
    assert_int_equal(ws_client_dial(http, "127.0.0.1", http_server_port(node.http), "/chat", "irc",
                                    &events, &other.ws, NULL),
                     0);
    RUN_UNTIL(other.closed);
    assert_int_equal(other.status, 400);
}

static void client__that_floods_is_refused_and_then_closed(void **state)
{
    (void)state;
    struct client *c = client_open();
    for (int i = 0; i < 2000 && !c->closed; i++) {
        say(c, "{\"type\":\"ping\"}");
    }
    RUN_UNTIL(c->closed);
    bool told = false;
    for (unsigned i = 0; i < c->n; i++) {
        const char *code = json_string_value(json_object_get(c->received[i], "code"));
        told |= code != NULL && strcmp(code, "too_fast") == 0;
    }
    assert_true(told);
    client_free(c);
}

static void gateway__stops_with_connections_and_submissions_open(void **state)
{
    (void)state;
    struct client *a = client_auth(1), *b = client_join("");
    (void)hear(b, "joined");
    hold = true;
    say(a, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\"}");
    RUN_UNTIL(n_pending == 1);
    (void)feed_message("room", "bob", "x", "");
    role_chat.stop(role, on_done, &stopped);
    RUN_UNTIL(stopped && a->closed && b->closed);
    pending_fold(&pending[0]);
    client_free(a);
    client_free(b);
    stopped = false;
    closed = false;
    http_server_close(node.http, on_done, &closed);
    RUN_UNTIL(closed);
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &node.http, NULL), 0);
    assert_int_equal(role_chat.start(&node, &role, NULL), 0); /* for teardown */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATEWAY_TEST(room__shows_all_clients_the_same_events),
        GATEWAY_TEST(send__is_acknowledged_with_its_offset_and_comes_back),
        GATEWAY_TEST(send__is_refused_once_its_token_is_revoked),
        GATEWAY_TEST(send__stored_twice_counts_once),
        GATEWAY_TEST(send__outlives_its_connection),
        GATEWAY_TEST(requests__that_are_wrong_get_an_error_and_the_connection_lives),
        GATEWAY_TEST(message__above_16_kib_ends_the_connection),
        GATEWAY_TEST(join__shows_history_oldest_first),
        GATEWAY_TEST(resume__from_the_view_goes_over_to_live_without_gap_or_repetition),
        GATEWAY_TEST(resume__from_the_ring_has_every_kind_of_event),
        GATEWAY_TEST(resume__from_the_view_has_every_kind_of_event),
        GATEWAY_TEST(resume__ahead_of_this_node_waits_until_its_view_has_passed),
        GATEWAY_TEST(resume__from_before_what_is_kept_says_so),
        GATEWAY_TEST(slow_reader__falls_off_and_takes_up_where_it_was),
        GATEWAY_TEST(connection__may_be_in_many_rooms_and_leave_them),
        GATEWAY_TEST(gateway__answers_what_is_no_handshake),
        GATEWAY_TEST(client__that_floods_is_refused_and_then_closed),
        GATEWAY_TEST(gateway__stops_with_connections_and_submissions_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
