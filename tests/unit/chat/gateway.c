#include "gateway.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_uv.h"
#include "proto/accounts.pb-c.h"
#include "records.h"
#include "views/accounts.h"

uv_loop_t loop;
struct env *env;
struct node node;
struct config config;
void *role;
struct http_client *http;
static char dir[64];
char tokens[3][ACCOUNT_SECRET_MAX];
bool stopped, closed;

struct pending pending[64];
unsigned n_pending;
bool hold, twice;
static struct view_listener verdict_listener;
static enum verdict last_verdict;

static void on_verdict(void *data, const struct view_event *event)
{
    (void)data;
    last_verdict = event->verdict;
}

void pending_fold(struct pending *p)
{
    now_ms += CHAT_RATE_MS;
    if (twice) {
        (void)feed_packed(VIEW_CHAT, p->value, p->n);
    }
    p->req->offset = feed_packed(VIEW_CHAT, p->value, p->n);
    p->cb(p->req, 0, last_verdict);
}

static void on_pending(struct env_defer *defer)
{
    pending_fold(defer->data);
}

int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *value, size_t len, struct view_submit *req, view_submit_cb cb);
int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *value, size_t len, struct view_submit *req, view_submit_cb cb)
{
    struct pending *p = &pending[n_pending++ % 64];
    (void)views;
    assert_int_equal(topic, VIEW_CHAT);
    assert_string_equal(key, "room");
    assert_true(len <= sizeof(p->value));
    *p = (struct pending){.req = req, .cb = cb, .n = len};
    memcpy(p->value, value, len);
    p->defer.data = p;
    if (!hold) {
        env_defer(env, &p->defer, on_pending);
    }
    return 0;
}

/* --- Clients
 * ---------------------------------------------------------------------------------------------------------
 */

void on_opened(void *data, struct ws_client *ws)
{
    struct client *c = data;
    c->ws = ws;
    c->open = true;
}

void on_message(void *data, struct ws_client *ws, const char *text, size_t n)
{
    struct client *c = data;
    (void)ws;
    json_t *json = json_loadb(text, n, 0, NULL);
    assert_non_null(json);
    assert_true(c->n < RECEIVED_MAX);
    c->received[c->n++] = json;
}

void on_client_closed(void *data, struct ws_client *ws, int status)
{
    struct client *c = data;
    (void)ws;
    c->closed = true;
    c->status = status;
}

struct client *client_dial(void)
{
    struct client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    const struct ws_client_events events = {
        .data = c, .opened = on_opened, .message = on_message, .closed = on_client_closed};
    assert_int_equal(ws_client_dial(http, "127.0.0.1", http_server_port(node.http), "/chat",
                                    "weir.chat.v1", &events, &c->ws, NULL),
                     0);
    RUN_UNTIL(c->open || c->closed);
    return c;
}

void client_free(struct client *c)
{
    if (!c->closed) {
        ws_client_free(c->ws);
    }
    for (unsigned i = 0; i < c->n; i++) {
        json_decref(c->received[i]);
    }
    free(c);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
}

void say(struct client *c, const char *fmt, ...)
{
    char text[8192];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    assert_int_equal(ws_client_send(c->ws, text, (size_t)n), 0);
}

/* The next thing heard, which must be of this type. */
json_t *hear(struct client *c, const char *type)
{
    RUN_UNTIL(c->taken < c->n || c->closed);
    assert_true(c->taken < c->n);
    json_t *json = c->received[c->taken++];
    const char *got = json_string_value(json_object_get(json, "type"));
    if (strcmp(got, type) != 0) {
        char *text = json_dumps(json, 0);
        print_error("wanted %s, heard %s\n", type, text);
        free(text);
    }
    assert_string_equal(got, type);
    return json;
}

const char *member(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    assert_non_null(text);
    return text;
}

int64_t number(const json_t *json, const char *name)
{
    assert_true(json_is_integer(json_object_get(json, name)));
    return json_integer_value(json_object_get(json, name));
}

/* jansson's json_is_true looks at its argument twice. */
bool is_true(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    assert_true(json_is_boolean(value));
    return json_is_true(value);
}

void hear_error(struct client *c, const char *code)
{
    assert_string_equal(member(hear(c, "error"), "code"), code);
}

struct client *client_open(void)
{
    struct client *c = client_dial();
    assert_string_equal(member(hear(c, "welcome"), "node"), "n1");
    return c;
}

struct client *client_join(const char *more)
{
    struct client *c = client_open();
    say(c, "{\"type\":\"join\",\"room\":\"room\"%s}", more);
    return c;
}

struct client *client_auth(unsigned who)
{
    struct client *c = client_open();
    say(c, "{\"type\":\"auth\",\"token\":\"%s\"}", tokens[who]);
    (void)hear(c, "authed");
    return c;
}

/* Says ping and hears pong: nothing else had been on the way. */
void hear_nothing(struct client *c)
{
    say(c, "{\"type\":\"ping\"}");
    (void)hear(c, "pong");
}

/* --- Setup
 * -----------------------------------------------------------------------------------------------------------
 */

int gateway_setup(void **state)
{
    (void)state;
    static const uint32_t partitions[VIEW_TOPICS] = {[VIEW_ACCOUNTS] = 1, [VIEW_CHAT] = 1};
    config = (struct config){.node_name = "n1",
                             .chat_rate_ms = 3600000,
                             .chat_ring_messages = 64,
                             .chat_ring_kib = 16,
                             .chat_connections_max = 10};
    memset(next_offset, 0, sizeof(next_offset));
    now_ms = 1700000000000;
    hold = twice = stopped = closed = false;
    n_pending = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, NULL), 0);
    static const char template[] = "/tmp/weir-chat-XXXXXX";
    memcpy(dir, template, sizeof(template));
    assert_non_null(mkdtemp(dir));
    node = (struct node){.config = &config, .env = env};
    assert_int_equal(views_open_detached(env, dir, partitions, &node.views, NULL), 0);
    fed_views = node.views;
    verdict_listener.event = on_verdict;
    views_listen(node.views, VIEW_CHAT, &verdict_listener);
    uint8_t random[3][ACCOUNT_RANDOM_SIZE];
    env_random(env, random, sizeof(random));
    feed_user("owner", random[0], tokens[0]);
    feed_user("alice", random[1], tokens[1]);
    feed_user("bob", random[2], tokens[2]);
    feed_channel("room", "owner");
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &node.http, NULL), 0);
    assert_int_equal(http_client_new(env, &http, NULL), 0);
    assert_int_equal(role_chat.start(&node, &role, NULL), 0);
    return 0;
}

void on_done(void *data)
{
    *(bool *)data = true;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int gateway_teardown(void **state)
{
    (void)state;
    role_chat.stop(role, on_done, &stopped);
    RUN_UNTIL(stopped);
    http_client_free(http);
    http_server_close(node.http, on_done, &closed);
    RUN_UNTIL(closed);
    closed = false;
    views_close(node.views, on_done, &closed);
    RUN_UNTIL(closed);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    (void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return 0;
}
