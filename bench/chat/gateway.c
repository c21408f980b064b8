/* The chat gateway for `./dev bench chat`: the node's own role, HTTP server and views, on one loop.
 * What is missing is the cluster: the lines of a POST to /pub become records as if they came from
 * the log, and are folded, rendered and fanned out as on a node.
 *
 * usage: chat_gateway PORT FOLDER */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/env_uv.h"
#include "nodes/role.h"
#include "proto/accounts.pb-c.h"
#include "proto/chat.pb-c.h"
#include "proto/messages.h"

#define USERS     100000 /* in turn, so that none meets the limit of one message a second */
#define BATCH_MAX 1024

static struct node node;
static struct env *env;
static int64_t next_offset[VIEW_TOPICS];
static unsigned next_user;
static struct bytes values[BATCH_MAX];

static void must(int rv, const char *what, const struct error *err)
{
    if (rv != 0) {
        (void)fprintf(stderr, "%s: %s: %s\n", what, error_name(rv), err != NULL ? err->text : "");
        exit(1);
    }
}

static void feed(enum view_topic topic, unsigned n)
{
    static struct batch_record records[BATCH_MAX];
    struct error err = {0};
    int64_t now = env_wall_ms(env);
    for (unsigned i = 0; i < n; i++) {
        records[i] = (struct batch_record){
            .offset = LOG_OFFSET(next_offset[topic]++),
            .timestamp_ms = now,
            .key_len = -1,
            .value = values[i].data,
            .value_len = (int32_t)values[i].len,
        };
    }
    must(views_feed(node.views, topic, 0, records, n, &err), "fold", &err);
}

static void feed_accounts(const Weir__AccountsRecord *record)
{
    bytes_reset(&values[0]);
    message_pack(&values[0], &record->base);
    feed(VIEW_ACCOUNTS, 1);
}

static char *mutable(const char *text)
{
    return (char *)(uintptr_t)text; /* packing only reads */
}

static void make_room(void)
{
    Weir__UserCreate user = WEIR__USER_CREATE__INIT;
    Weir__ChannelCreate channel = WEIR__CHANNEL_CREATE__INIT;
    Weir__AccountsRecord record = WEIR__ACCOUNTS_RECORD__INIT;
    user.name = mutable("owner");
    user.display_name = user.name;
    record.body_case = WEIR__ACCOUNTS_RECORD__BODY_USER_CREATE;
    record.user_create = &user;
    feed_accounts(&record);
    channel.name = mutable("bench");
    channel.owner = user.name;
    channel.title = mutable("bench");
    record.body_case = WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_CREATE;
    record.channel_create = &channel;
    feed_accounts(&record);
}

static void pack_message(struct bytes *out, const char *text, size_t n)
{
    char user[16], line[256];
    Weir__ChatMessage message = WEIR__CHAT_MESSAGE__INIT;
    Weir__ChatRecord record = WEIR__CHAT_RECORD__INIT;
    (void)snprintf(user, sizeof(user), "u%05u", next_user);
    (void)snprintf(line, sizeof(line), "%.*s", (int)n, text);
    next_user = (next_user + 1) % USERS;
    message.user = user;
    message.display_name = user;
    message.text = line;
    message.nonce = line;
    record.room = mutable("bench");
    record.body_case = WEIR__CHAT_RECORD__BODY_MESSAGE;
    record.message = &message;
    bytes_reset(out);
    message_pack(out, &record.base);
}

static void on_publish(void *data, struct http_exchange *ex)
{
    (void)data;
    size_t len;
    const char *at = (const char *)http_request_body(ex, &len);
    const char *end = at + len;
    unsigned n = 0;
    while (at < end && n < BATCH_MAX) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t line = nl != NULL ? (size_t)(nl - at) : (size_t)(end - at);
        pack_message(&values[n++], at, line);
        at += line + (nl != NULL);
    }
    if (n > 0) {
        feed(VIEW_CHAT, n);
    }
    http_respond(ex, 204, NULL, "", NULL);
}

int main(int argc, char **argv)
{
    static const uint32_t partitions[VIEW_TOPICS] = {[VIEW_ACCOUNTS] = 1, [VIEW_CHAT] = 1};
    static struct config config = {.node_name = "bench",
                                   .chat_rate_ms = 1000,
                                   .chat_ring_messages = 65536,
                                   .chat_ring_kib = 16384,
                                   .chat_connections_max = 100000};
    struct error err = {0};
    uv_loop_t loop;
    void *state;
    if (argc != 3) {
        (void)fprintf(stderr, "usage: chat_gateway PORT FOLDER\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    must(uv_loop_init(&loop), "loop", NULL);
    must(env_uv_new(&loop, &env, &err), "env", &err);
    for (unsigned i = 0; i < BATCH_MAX; i++) {
        bytes_init(&values[i], 4096);
    }
    node.config = &config;
    node.env = env;
    must(views_open_detached(env, argv[2], partitions, &node.views, &err), "views", &err);
    make_room();
    must(http_server_new(env, "127.0.0.1", (uint16_t)strtoul(argv[1], NULL, 10), &node.http, &err),
         "listen", &err);
    const struct http_route route = {
        .method = "POST", .path = "/pub", .body_max = 1 << 20, .handler = on_publish};
    must(http_server_route(node.http, &route), "route", NULL);
    must(role_chat.start(&node, &state, &err), "chat", &err);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return 0;
}
