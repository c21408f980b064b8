#include "records.h"

#include "proto/accounts.pb-c.h"
#include "proto/chat.pb-c.h"
#include "proto/messages.h"
#include "views/chat.h"

struct views *fed_views;
int64_t next_offset[VIEW_TOPICS], now_ms;

int64_t feed_packed(enum view_topic topic, const void *value, size_t n)
{
    const struct batch_record record = {
        .offset = LOG_OFFSET(next_offset[topic]),
        .timestamp_ms = now_ms,
        .key_len = -1,
        .value = value,
        .value_len = (int32_t)n,
    };
    assert_int_equal(views_feed(fed_views, topic, 0, &record, 1, NULL), 0);
    return next_offset[topic]++;
}

int64_t feed(enum view_topic topic, const ProtobufCMessage *message)
{
    struct bytes b;
    bytes_init(&b, 1 << 16);
    message_pack(&b, message);
    assert_int_equal(bytes_error(&b), 0);
    int64_t offset = feed_packed(topic, b.data, b.len);
    bytes_close(&b);
    return offset;
}

char *mutable(const char *text)
{
    return (char *)(uintptr_t)text;
}

int64_t feed_message(const char *room, const char *user, const char *text, const char *nonce)
{
    Weir__ChatMessage m = WEIR__CHAT_MESSAGE__INIT;
    Weir__ChatRecord r = WEIR__CHAT_RECORD__INIT;
    m.user = mutable(user);
    m.text = mutable(text);
    m.nonce = mutable(nonce);
    r.room = mutable(room);
    r.body_case = WEIR__CHAT_RECORD__BODY_MESSAGE;
    r.message = &m;
    now_ms += CHAT_RATE_MS;
    return feed(VIEW_CHAT, &r.base);
}

void feed_user(const char *name, const uint8_t random[ACCOUNT_RANDOM_SIZE],
               char token[ACCOUNT_SECRET_MAX])
{
    Weir__UserCreate user = WEIR__USER_CREATE__INIT;
    Weir__TokenIssue issue = WEIR__TOKEN_ISSUE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    uint8_t hash[ACCOUNT_HASH_SIZE];
    user.name = mutable(name);
    user.display_name = mutable(name);
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_USER_CREATE;
    r.user_create = &user;
    (void)feed(VIEW_ACCOUNTS, &r.base);
    account_token_make(name, random, token, hash);
    issue.user = mutable(name);
    issue.token_hash = (ProtobufCBinaryData){.len = sizeof(hash), .data = hash};
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_TOKEN_ISSUE;
    r.token_issue = &issue;
    (void)feed(VIEW_ACCOUNTS, &r.base);
}

void feed_channel(const char *name, const char *owner)
{
    Weir__ChannelCreate channel = WEIR__CHANNEL_CREATE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    channel.name = mutable(name);
    channel.owner = mutable(owner);
    channel.title = mutable(name);
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_CREATE;
    r.channel_create = &channel;
    (void)feed(VIEW_ACCOUNTS, &r.base);
}
