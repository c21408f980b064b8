/* What the owner of a room decides. */
#include "gateway.h"

#include <string.h>

#include "records.h"

static void ban__silences_from_its_offset_on_and_unban_ends_it(void **state)
{
    (void)state;
    struct client *owner = client_auth(0), *bob = client_auth(2), *reader = client_join("");
    (void)hear(reader, "joined");
    say(owner, "{\"type\":\"ban\",\"room\":\"room\",\"user\":\"bob\",\"reason\":\"spam\",\"nonce\":"
               "\"b\"}");
    assert_string_equal(member(hear(owner, "ack"), "nonce"), "b");
    json_t *ban = hear(reader, "ban");
    assert_string_equal(member(ban, "user"), "bob");
    assert_string_equal(member(ban, "by"), "owner");
    assert_int_equal(number(ban, "until"), 0);
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"n\"}");
    assert_non_null(strstr(member(hear(bob, "error"), "message"), "spam"));
    (void)feed_message("room", "bob", "not through this gateway", "");
    hear_nothing(reader);
    say(owner, "{\"type\":\"ban\",\"room\":\"room\",\"user\":\"owner\"}");
    hear_error(owner, "forbidden");
    say(owner, "{\"type\":\"unban\",\"room\":\"room\",\"user\":\"bob\"}");
    (void)hear(owner, "ack");
    (void)hear(reader, "unban");
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"thanks\"}");
    int64_t offset = number(hear(bob, "ack"), "offset");
    (void)hear(reader, "message");
    say(owner, "{\"type\":\"delete\",\"room\":\"room\",\"offset\":%lld}", (long long)offset);
    (void)hear(owner, "ack");
    assert_int_equal(number(hear(reader, "deleted"), "target"), offset);
    say(owner, "{\"type\":\"delete\",\"room\":\"room\",\"offset\":9999}");
    hear_error(owner, "not_found");
    client_free(owner);
    client_free(bob);
    client_free(reader);
}

static void slow_mode__has_everyone_but_the_owner_wait(void **state)
{
    (void)state;
    struct client *owner = client_auth(0), *bob = client_auth(2), *reader = client_join("");
    assert_int_equal(number(hear(reader, "joined"), "slow"), 0);
    now_ms = env_wall_ms(env) - 10000; /* the gateway asks its own clock */
    say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":3600,\"nonce\":\"s\"}");
    json_t *ack = hear(owner, "ack"), *slow = hear(reader, "slow");
    assert_string_equal(member(ack, "nonce"), "s");
    assert_int_equal(number(ack, "offset"), number(slow, "offset"));
    assert_int_equal(number(slow, "seconds"), 3600);
    assert_string_equal(member(slow, "by"), "owner");
    (void)feed_message("room", "bob", "the first", "");
    (void)hear(reader, "message");
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"n\"}");
    json_t *error = hear(bob, "error");
    assert_string_equal(member(error, "code"), "slow_mode");
    assert_string_equal(member(error, "nonce"), "n");
    assert_in_range(number(error, "seconds"), 1, 3600);
    (void)feed_message("room", "bob", "not through this gateway", "");
    hear_nothing(reader);
    struct client *late = client_join("");
    assert_int_equal(number(hear(late, "joined"), "slow"), 3600);
    say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":0}");
    (void)hear(owner, "ack");
    assert_int_equal(number(hear(reader, "slow"), "seconds"), 0);
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"n\"}");
    (void)hear(bob, "ack");
    (void)hear(reader, "message");
    client_free(owner);
    client_free(bob);
    client_free(reader);
    client_free(late);
}

static void slow_mode__does_not_hold_for_the_owner(void **state)
{
    (void)state;
    struct client *owner = client_auth(0), *reader = client_join("");
    (void)hear(reader, "joined");
    say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":3600}");
    (void)hear(owner, "ack");
    (void)hear(reader, "slow");
    (void)feed_message("room", "owner", "one", "");
    (void)hear(reader, "message");
    say(owner, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"two\"}");
    (void)hear(owner, "ack");
    assert_string_equal(member(hear(reader, "message"), "text"), "two");
    client_free(owner);
    client_free(reader);
}

static void slow_mode__that_the_view_decides_says_how_long_to_wait(void **state)
{
    (void)state;
    struct client *owner = client_auth(0), *bob = client_auth(2);
    say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":60}");
    (void)hear(owner, "ack");
    hold = true;
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"n\"}");
    RUN_UNTIL(n_pending == 2);
    (void)feed_message("room", "bob", "through another gateway", "");
    pending_fold(&pending[1]);
    json_t *error = hear(bob, "error");
    assert_string_equal(member(error, "code"), "slow_mode");
    assert_string_equal(member(error, "nonce"), "n");
    assert_int_equal(number(error, "seconds"), 60 - CHAT_RATE_MS / 1000);
    client_free(owner);
    client_free(bob);
}

static void slow_mode__takes_whole_seconds_up_to_an_hour(void **state)
{
    (void)state;
    static const char *const wrong[] = {"-1", "3601", "1.5", "\"5\"", "null"};
    struct client *owner = client_auth(0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":%s}", wrong[i]);
        hear_error(owner, "bad_request");
    }
    say(owner, "{\"type\":\"slow\",\"room\":\"room\"}");
    hear_error(owner, "bad_request");
    client_free(owner);
}

static void rules__are_left_to_the_log_while_the_gateways_clock_is_behind_it(void **state)
{
    (void)state;
    struct client *owner = client_auth(0), *bob = client_auth(2);
    now_ms = env_wall_ms(env) + 3600000;
    config.chat_rate_ms = 0;
    say(owner, "{\"type\":\"ban\",\"room\":\"room\",\"user\":\"bob\",\"seconds\":60}");
    (void)hear(owner, "ack");
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"n\"}");
    hear_error(bob, "banned");
    assert_int_equal(n_pending, 2); /* by the log */
    now_ms += 60000;
    say(owner, "{\"type\":\"slow\",\"room\":\"room\",\"seconds\":5}");
    (void)hear(owner, "ack");
    (void)feed_message("room", "bob", "through another gateway", "");
    now_ms += 5000;
    say(bob, "{\"type\":\"send\",\"room\":\"room\",\"text\":\"x\",\"nonce\":\"m\"}");
    (void)hear(bob, "ack");
    client_free(owner);
    client_free(bob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATEWAY_TEST(ban__silences_from_its_offset_on_and_unban_ends_it),
        GATEWAY_TEST(slow_mode__has_everyone_but_the_owner_wait),
        GATEWAY_TEST(slow_mode__does_not_hold_for_the_owner),
        GATEWAY_TEST(slow_mode__that_the_view_decides_says_how_long_to_wait),
        GATEWAY_TEST(rules__are_left_to_the_log_while_the_gateways_clock_is_behind_it),
        GATEWAY_TEST(slow_mode__takes_whole_seconds_up_to_an_hour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
