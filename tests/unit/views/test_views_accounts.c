#include "feed.h"

#include <stdio.h>
#include <string.h>

#include "views/accounts.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

static Weir__AccountsRecord record_of(Weir__AccountsRecord__BodyCase body)
{
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    r.body_case = body;
    return r;
}

static enum verdict user_create(struct feed *f, const char *name, const char *display)
{
    Weir__UserCreate m = WEIR__USER_CREATE__INIT;
    Weir__AccountsRecord r = record_of(WEIR__ACCOUNTS_RECORD__BODY_USER_CREATE);
    m.name = TEXT(name);
    m.display_name = TEXT(display);
    r.user_create = &m;
    return feed_accounts(f, &r);
}

static enum verdict channel_create(struct feed *f, const char *name, const char *title)
{
    Weir__ChannelCreate m = WEIR__CHANNEL_CREATE__INIT;
    Weir__AccountsRecord r = record_of(WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_CREATE);
    m.name = TEXT(name);
    m.owner = TEXT("alice");
    m.title = TEXT(title);
    r.channel_create = &m;
    return feed_accounts(f, &r);
}

static enum verdict key_set(struct feed *f, const char *channel, uint8_t hash[ACCOUNT_HASH_SIZE])
{
    Weir__StreamKeySet m = WEIR__STREAM_KEY_SET__INIT;
    Weir__AccountsRecord r = record_of(WEIR__ACCOUNTS_RECORD__BODY_STREAM_KEY_SET);
    m.channel = TEXT(channel);
    m.key_hash.data = hash;
    m.key_hash.len = ACCOUNT_HASH_SIZE;
    r.stream_key_set = &m;
    return feed_accounts(f, &r);
}

static enum verdict token_issue(struct feed *f, const char *user, uint8_t hash[ACCOUNT_HASH_SIZE])
{
    Weir__TokenIssue m = WEIR__TOKEN_ISSUE__INIT;
    Weir__AccountsRecord r = record_of(WEIR__ACCOUNTS_RECORD__BODY_TOKEN_ISSUE);
    char *scopes[] = {TEXT("chat:write")};
    m.user = TEXT(user);
    m.token_hash.data = hash;
    m.token_hash.len = ACCOUNT_HASH_SIZE;
    m.scopes = scopes;
    m.n_scopes = 1;
    r.token_issue = &m;
    return feed_accounts(f, &r);
}

static enum verdict token_revoke(struct feed *f, const char *user, uint8_t hash[ACCOUNT_HASH_SIZE])
{
    Weir__TokenRevoke m = WEIR__TOKEN_REVOKE__INIT;
    Weir__AccountsRecord r = record_of(WEIR__ACCOUNTS_RECORD__BODY_TOKEN_REVOKE);
    m.user = TEXT(user);
    m.token_hash.data = hash;
    m.token_hash.len = ACCOUNT_HASH_SIZE;
    r.token_revoke = &m;
    return feed_accounts(f, &r);
}

static void user__is_created_once(void **state)
{
    struct feed f;
    struct account_user u;
    (void)state;
    feed_open(&f);
    assert_int_equal(user_create(&f, "alice", "Alice"), VERDICT_OK);
    assert_int_equal(user_create(&f, "alice", "ALICE"), VERDICT_EXISTS);
    assert_int_equal(accounts_user(f.views, "alice", &u), 0);
    assert_string_equal(u.display_name, "Alice");
    assert_int_equal(u.created_ms, f.now_ms);
    assert_int_equal(accounts_user(f.views, "bob", &u), WEIR_ENOTFOUND);
    assert_int_equal(accounts_user(f.views, "../x", &u), WEIR_ENOTFOUND);
    feed_close(&f);
}

static void user__with_a_bad_name_is_void(void **state)
{
    struct feed f;
    (void)state;
    feed_open(&f);
    assert_int_equal(user_create(&f, "a", "a"), VERDICT_MALFORMED);
    assert_int_equal(user_create(&f, "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
                     VERDICT_MALFORMED);
    assert_int_equal(user_create(&f, "Alice", "Alice"), VERDICT_MALFORMED);
    assert_int_equal(user_create(&f, "alice", "Bob"), VERDICT_MALFORMED);
    assert_int_equal(user_create(&f, "al ce", "al ce"), VERDICT_MALFORMED);
    feed_close(&f);
}

static void token__opens_until_it_is_revoked(void **state)
{
    struct feed f;
    struct account_identity id;
    char token[ACCOUNT_SECRET_MAX];
    uint8_t hash[ACCOUNT_HASH_SIZE], random[ACCOUNT_RANDOM_SIZE] = {1, 2, 3, 0xff, 0xfe};
    (void)state;
    feed_open(&f);
    user_create(&f, "al_ice_", "al_ice_");
    user_create(&f, "bob", "Bob");
    account_token_make("al_ice_", random, token, hash);
    assert_int_equal(strlen(token), 3 + 7 + 1 + 43);
    assert_int_equal(token_issue(&f, "al_ice_", hash), VERDICT_OK);
    assert_int_equal(token_issue(&f, "al_ice_", hash), VERDICT_EXISTS);
    assert_int_equal(token_issue(&f, "nobody", hash), VERDICT_NOT_FOUND);
    assert_int_equal(accounts_by_token(f.views, token, &id), 0);
    assert_string_equal(id.user.name, "al_ice_");
    assert_true(account_has_scope(&id, "chat:write"));
    assert_false(account_has_scope(&id, "chat"));
    assert_int_equal(token_revoke(&f, "bob", hash), VERDICT_NOT_FOUND);
    assert_int_equal(token_revoke(&f, "al_ice_", hash), VERDICT_OK);
    assert_int_equal(accounts_by_token(f.views, token, &id), WEIR_EAUTH);
    feed_close(&f);
}

static void token__that_is_garbage_opens_nothing(void **state)
{
    static const char *const bad[] = {
        "",
        "wt_",
        "wt__",
        "wt_alice_",
        "wt_alice_short",
        "wt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "wt_alice_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "live_alice_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "wt_aliceaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    struct feed f;
    struct account_identity id;
    (void)state;
    feed_open(&f);
    user_create(&f, "alice", "Alice");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(accounts_by_token(f.views, bad[i], &id), WEIR_EAUTH);
    }
    feed_close(&f);
}

static void tokens__are_limited_per_user(void **state)
{
    struct feed f;
    uint8_t hash[ACCOUNT_HASH_SIZE] = {0};
    (void)state;
    feed_open(&f);
    user_create(&f, "alice", "Alice");
    for (int i = 0; i < ACCOUNT_TOKENS_MAX; i++) {
        hash[0] = (uint8_t)i;
        assert_int_equal(token_issue(&f, "alice", hash), VERDICT_OK);
    }
    hash[1] = 1;
    assert_int_equal(token_issue(&f, "alice", hash), VERDICT_LIMIT);
    feed_close(&f);
}

static void stream_key__replaces_the_old_one(void **state)
{
    struct feed f;
    struct account_channel ch;
    char key[2][ACCOUNT_SECRET_MAX];
    uint8_t hash[2][ACCOUNT_HASH_SIZE], random[ACCOUNT_RANDOM_SIZE] = {9};
    (void)state;
    feed_open(&f);
    assert_int_equal(key_set(&f, "demo", hash[0]), VERDICT_NOT_FOUND);
    assert_int_equal(channel_create(&f, "demo", "My channel"), VERDICT_OK);
    assert_int_equal(channel_create(&f, "demo", "Other"), VERDICT_EXISTS);
    account_stream_key_make("demo", random, key[0], hash[0]);
    random[0] = 10;
    account_stream_key_make("demo", random, key[1], hash[1]);
    assert_int_equal(accounts_by_stream_key(f.views, key[0], &ch), WEIR_EAUTH);
    assert_int_equal(key_set(&f, "demo", hash[0]), VERDICT_OK);
    assert_int_equal(accounts_by_stream_key(f.views, key[0], &ch), 0);
    assert_string_equal(ch.title, "My channel");
    assert_string_equal(ch.owner, "alice");
    assert_int_equal(key_set(&f, "demo", hash[1]), VERDICT_OK);
    assert_int_equal(accounts_by_stream_key(f.views, key[0], &ch), WEIR_EAUTH);
    assert_int_equal(accounts_by_stream_key(f.views, key[1], &ch), 0);
    feed_close(&f);
}

static void channel__is_described_anew_by_an_update(void **state)
{
    struct feed f;
    struct account_channel ch;
    Weir__ChannelUpdate m = WEIR__CHANNEL_UPDATE__INIT;
    Weir__AccountsRecord r = record_of(WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_UPDATE);
    char *tags[] = {TEXT("english"), TEXT("c")};
    (void)state;
    feed_open(&f);
    channel_create(&f, "demo", "Old");
    m.name = TEXT("demo");
    m.title = TEXT("New \xf0\x9f\x8e\xa5");
    m.category = TEXT("Science");
    m.language = TEXT("en");
    m.tags = tags;
    m.n_tags = 2;
    r.channel_update = &m;
    assert_int_equal(feed_accounts(&f, &r), VERDICT_OK);
    assert_int_equal(accounts_channel(f.views, "demo", &ch), 0);
    assert_string_equal(ch.title, "New \xf0\x9f\x8e\xa5");
    assert_int_equal(ch.n_tags, 2);
    assert_string_equal(ch.tags[1], "c");
    m.title = TEXT("line\nbreak");
    assert_int_equal(feed_accounts(&f, &r), VERDICT_MALFORMED);
    m.title = TEXT("ok");
    m.name = TEXT("nope");
    assert_int_equal(feed_accounts(&f, &r), VERDICT_NOT_FOUND);
    feed_close(&f);
}

static int join_user(void *data, const struct account_user *u)
{
    strncat(data, u->name, 30);
    return 0;
}

static int join_channel(void *data, const struct account_channel *ch)
{
    strncat(data, ch->name, 30);
    return 0;
}

static void lists__are_in_order_and_survive_a_restart(void **state)
{
    struct feed f;
    char users[128] = "", channels[128] = "";
    (void)state;
    feed_open(&f);
    user_create(&f, "bob", "Bob");
    user_create(&f, "alice", "Alice");
    channel_create(&f, "demo", "Demo");
    feed_reopen(&f);
    assert_int_equal(accounts_users(f.views, join_user, users), 0);
    assert_string_equal(users, "alicebob");
    assert_int_equal(accounts_channels(f.views, join_channel, channels), 0);
    assert_string_equal(channels, "demo");
    assert_int_equal(f.next[VIEW_ACCOUNTS], 3);
    feed_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user__is_created_once),
        cmocka_unit_test(user__with_a_bad_name_is_void),
        cmocka_unit_test(token__opens_until_it_is_revoked),
        cmocka_unit_test(token__that_is_garbage_opens_nothing),
        cmocka_unit_test(tokens__are_limited_per_user),
        cmocka_unit_test(stream_key__replaces_the_old_one),
        cmocka_unit_test(channel__is_described_anew_by_an_update),
        cmocka_unit_test(lists__are_in_order_and_survive_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
