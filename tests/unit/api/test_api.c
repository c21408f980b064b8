/* The API as its clients meet it: HTTP on loopback, real views, and a log in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <uv.h>

#include "../run_until.h"
#include "../views/fake_log.h"
#include "../views/feed.h"
#include "base/env_uv.h"
#include "nodes/role.h"
#include "views/accounts.h"
#include "views/chat.h"

#define SECRET "X-Weir-Secret: s3cret\r\n"

static uv_loop_t loop;
static struct env *env;
static struct node node;
static struct config config;
static void *role;
static char dir[64];
static bool done;

struct answer {
    bool done;
    int status;
    json_t *json; /* freed with the next ask */
};
static struct answer answer;

static void on_answer(void *data, int status, struct http_body *body)
{
    struct answer *a = data;
    a->done = true;
    a->status = status;
    a->json = body == NULL ? NULL : json_loadb((const char *)body->data, body->len, 0, NULL);
}

static void ask_start(const char *method, const char *path, const char *body, const char *headers)
{
    struct http_call *call = NULL;
    json_decref(answer.json);
    answer = (struct answer){0};
    struct http_body *b = body == NULL ? NULL : http_body_copy(body, strlen(body));
    const struct http_call_options options = {
        .method = method,
        .host = "127.0.0.1",
        .port = http_server_port(node.http),
        .path = path,
        .headers = headers,
        .body = b,
        .timeout_ms = 15000,
        .response_max = 1u << 20,
    };
    assert_int_equal(http_call(node.http_client, &options, on_answer, &answer, &call, NULL), 0);
    http_body_unref(b);
}

static int ask(const char *method, const char *path, const char *body)
{
    ask_start(method, path, body, SECRET);
    RUN_UNTIL(answer.done);
    return answer.status;
}

static const char *text(const char *name)
{
    const char *s = json_string_value(json_object_get(answer.json, name));
    return s == NULL ? "" : s;
}

static void on_done(void *data)
{
    *(bool *)data = true;
}

static int setup(void **state)
{
    (void)state;
    config = (struct config){.node_name = "n1", .secret = "s3cret", .n_nodes = 1};
    config.nodes[0] = (struct config_node){.name = "n1", .id = 1};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, NULL), 0);
    make_folder(dir);
    fake_log_open(env);
    node = (struct node){.config = &config, .self = &config.nodes[0], .env = env};
    node.client = fake_log_client();
    assert_int_equal(views_open(env, node.client, dir, &node.views, NULL), 0);
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &node.http, NULL), 0);
    assert_int_equal(http_client_new(env, &node.http_client, NULL), 0);
    assert_int_equal(role_api.start(&node, &role, NULL), 0);
    RUN_UNTIL(views_ready(node.views));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(answer.json);
    answer.json = NULL;
    done = false;
    role_api.stop(role, on_done, &done);
    RUN_UNTIL(done);
    done = false;
    views_close(node.views, on_done, &done);
    RUN_UNTIL(done);
    http_client_free(node.http_client);
    done = false;
    http_server_close(node.http, on_done, &done);
    RUN_UNTIL(done);
    fake_log_close();
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    remove_folder(dir);
    return 0;
}

static void make_demo(void)
{
    assert_int_equal(ask("POST", "/api/admin/users", "{\"name\":\"alice\"}"), 201);
    assert_int_equal(ask("POST", "/api/admin/channels", "{\"name\":\"demo\",\"owner\":\"alice\"}"),
                     201);
}

static void admin__without_the_secret_is_401(void **state)
{
    static const struct {
        const char *method, *path;
    } routes[] = {
        {"GET", "/api/admin/users"},        {"POST", "/api/admin/users"},
        {"POST", "/api/admin/users/x/t"},   {"POST", "/api/admin/channels"},
        {"POST", "/api/admin/channels/x"},  {"GET", "/api/admin/subs"},
        {"POST", "/api/admin/subs"},        {"GET", "/api/admin/ledger/balances"},
        {"GET", "/api/admin/ledger/check"}, {"GET", "/internal/views"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        ask_start(routes[i].method, routes[i].path, NULL, "");
        RUN_UNTIL(answer.done);
        assert_int_equal(answer.status, 401);
        ask_start(routes[i].method, routes[i].path, NULL, "X-Weir-Secret: s3cre\r\n");
        RUN_UNTIL(answer.done);
        assert_int_equal(answer.status, 401);
    }
    assert_int_equal(fake_log.n_produced, 0);
}

static void user__is_made_once_and_gets_a_token(void **state)
{
    struct account_identity id;
    (void)state;
    assert_int_equal(
        ask("POST", "/api/admin/users", "{\"name\":\"alice\",\"display_name\":\"Alice\"}"), 201);
    assert_string_equal(text("display_name"), "Alice");
    assert_int_equal(ask("POST", "/api/admin/users", "{\"name\":\"alice\"}"), 409);
    assert_string_equal(text("error"), "exists");
    assert_int_equal(ask("POST", "/api/admin/users/alice/tokens", NULL), 201);
    assert_int_equal(accounts_by_token(node.views, text("token"), &id), 0);
    assert_true(account_has_scope(&id, "chat"));
    assert_int_equal(ask("POST", "/api/admin/users/bob/tokens", NULL), 404);
    assert_int_equal(ask("POST", "/api/admin/users/alice/other", NULL), 404);
}

static void what_the_log_stored_twice__is_answered_as_once(void **state)
{
    (void)state;
    fake_log.twice = true;
    make_demo();
    assert_int_equal(ask("POST", "/api/admin/users/alice/tokens", NULL), 201);
    assert_int_equal(ask("POST", "/api/admin/channels/demo/key", NULL), 201);
    assert_int_equal(ask("POST", "/api/admin/subs",
                         "{\"user\":\"alice\",\"channel\":\"demo\",\"tier\":1,\"key\":\"k\"}"),
                     200);
}

static void bad_bodies__are_400_and_produce_nothing(void **state)
{
    static const char *const bodies[] = {
        "{",
        "[]",
        "{}",
        "{\"name\":5}",
        "{\"name\":\"UPPER\"}",
        "{\"name\":\"a\"}",
        "{\"name\":\"alice\",\"name\":\"bob\"}",
        "{\"name\":\"al\\u0000ice\"}",
        "\xff\xfe",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        assert_int_equal(ask("POST", "/api/admin/users", bodies[i]), 400);
        assert_true(text("message")[0] != '\0');
    }
    assert_int_equal(fake_log.n_produced, 0);
}

static void channel__is_made_keyed_described_and_shown(void **state)
{
    struct account_channel ch;
    (void)state;
    assert_int_equal(ask("POST", "/api/admin/channels", "{\"name\":\"demo\",\"owner\":\"alice\"}"),
                     404);
    make_demo();
    assert_int_equal(ask("POST", "/api/admin/channels/demo/key", NULL), 201);
    assert_int_equal(accounts_by_stream_key(node.views, text("stream_key"), &ch), 0);
    assert_int_equal(
        ask("POST", "/api/admin/channels/demo", "{\"title\":\"Hello\",\"tags\":[\"a\"]}"), 200);
    assert_int_equal(ask("POST", "/api/admin/channels/demo", "{\"category\":\"Art\"}"), 200);
    assert_string_equal(text("title"), "Hello");
    assert_int_equal(ask("POST", "/api/admin/channels/demo", "{\"tags\":[1]}"), 400);
    assert_int_equal(ask("GET", "/api/channels/demo", NULL), 200);
    assert_string_equal(text("category"), "Art");
    assert_int_equal(json_integer_value(json_object_get(answer.json, "subscribers")), 0);
    assert_int_equal(ask("GET", "/api/channels/none", NULL), 404);
    assert_int_equal(ask("GET", "/api/channels", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(answer.json, "channels")), 1);
}

static const char grant[] =
    "{\"user\":\"alice\",\"channel\":\"demo\",\"tier\":2,\"key\":\"k1\",\"months\":1}";

static void grant__repeated_gives_the_same_answer(void **state)
{
    (void)state;
    make_demo();
    assert_int_equal(ask("POST", "/api/admin/subs", grant), 201);
    json_int_t offset = json_integer_value(json_object_get(answer.json, "offset"));
    json_int_t expires = json_integer_value(json_object_get(answer.json, "expires_ms"));
    assert_int_equal(ask("POST", "/api/admin/subs", grant), 200);
    assert_true(json_is_true(json_object_get(answer.json, "duplicate")));
    assert_int_equal(json_integer_value(json_object_get(answer.json, "offset")), offset);
    assert_int_equal(json_integer_value(json_object_get(answer.json, "expires_ms")), expires);
    assert_int_equal(
        ask("POST", "/api/admin/subs",
            "{\"user\":\"alice\",\"channel\":\"demo\",\"tier\":3,\"key\":\"k1\",\"months\":1}"),
        409);
    assert_string_equal(text("error"), "key_reused");
    assert_int_equal(ask("GET", "/api/admin/subs?channel=demo", NULL), 200);
    assert_int_equal(json_array_size(json_object_get(answer.json, "subs")), 1);
    assert_int_equal(ask("GET", "/api/admin/ledger/check", NULL), 200);
    assert_int_equal(ask("POST", "/api/admin/subs",
                         "{\"user\":\"bob\",\"channel\":\"demo\",\"tier\":1,\"key\":\"k2\"}"),
                     404);
    assert_int_equal(ask("POST", "/api/admin/subs",
                         "{\"user\":\"alice\",\"channel\":\"demo\",\"tier\":9,\"key\":\"k2\"}"),
                     400);
}

static void refund__is_booked_once_and_the_entries_tell_it(void **state)
{
    static const char refund[] = "{\"channel\":\"demo\",\"of\":\"k1\",\"key\":\"r1\"}";
    (void)state;
    make_demo();
    assert_int_equal(ask("POST", "/api/admin/subs/refund", refund), 404);
    assert_int_equal(ask("POST", "/api/admin/subs", grant), 201);
    assert_int_equal(ask("POST", "/api/admin/subs/refund", refund), 201);
    assert_string_equal(text("kind"), "refund");
    assert_int_equal(ask("POST", "/api/admin/subs/refund", refund), 200);
    assert_true(json_is_true(json_object_get(answer.json, "duplicate")));
    assert_int_equal(ask("POST", "/api/admin/subs/refund",
                         "{\"channel\":\"demo\",\"of\":\"k1\",\"key\":\"r2\"}"),
                     409);
    assert_string_equal(text("error"), "exists");
    assert_int_equal(ask("POST", "/api/admin/subs/refund",
                         "{\"channel\":\"demo\",\"of\":\"k1\",\"key\":\"k1\"}"),
                     409);
    assert_string_equal(text("error"), "key_reused");
    assert_int_equal(ask("GET", "/api/admin/ledger/check", NULL), 200);
    assert_int_equal(ask("GET", "/api/admin/ledger/entries?partition=0", NULL), 200);
    json_t *entries = json_object_get(answer.json, "entries");
    assert_int_equal(json_array_size(entries), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 1), "of")), "k1");
    assert_int_equal(json_array_size(json_object_get(json_array_get(entries, 0), "postings")), 3);
    assert_true(json_is_null(json_object_get(answer.json, "next")));
    assert_int_equal(ask("GET", "/api/admin/ledger/entries?partition=0&limit=1", NULL), 200);
    assert_int_equal(json_integer_value(json_object_get(answer.json, "next")), 1);
    assert_int_equal(ask("GET", "/api/admin/ledger/entries?limit=x", NULL), 400);
}

static bool badge_is_there(void)
{
    struct chat_badge badge = {0};
    return chat_badge_of(node.views, "demo", "alice", 1700000000000, &badge) == 0 &&
           badge.tier == 2;
}

static void bridge__brings_the_badge_once(void **state)
{
    (void)state;
    make_demo();
    assert_int_equal(ask("POST", "/api/admin/subs", grant), 201);
    RUN_UNTIL(badge_is_there());
    assert_int_equal(views_offset(node.views, VIEW_CHAT, 0), 1);
    /* Another life of the node: it walks the ledger again and finds nothing missing. */
    done = false;
    role_api.stop(role, on_done, &done);
    RUN_UNTIL(done);
    http_client_free(node.http_client);
    done = false;
    http_server_close(node.http, on_done, &done);
    RUN_UNTIL(done);
    assert_int_equal(http_server_new(env, "127.0.0.1", 0, &node.http, NULL), 0);
    assert_int_equal(http_client_new(env, &node.http_client, NULL), 0);
    assert_int_equal(role_api.start(&node, &role, NULL), 0);
    assert_int_equal(ask("POST", "/api/admin/subs",
                         "{\"user\":\"alice\",\"channel\":\"demo\",\"tier\":2,\"key\":\"k2\"}"),
                     201);
    RUN_UNTIL(views_offset(node.views, VIEW_CHAT, 0) == 2);
    assert_int_equal(views_offset(node.views, VIEW_LEDGER, 0), 2);
}

static void views__tell_offset_and_hash(void **state)
{
    uint8_t hash[32];
    char hex[65];
    (void)state;
    make_demo();
    assert_int_equal(ask("GET", "/internal/views", NULL), 200);
    assert_true(json_is_true(json_object_get(answer.json, "ready")));
    assert_int_equal(ask("GET", "/internal/views?topic=accounts&partition=0", NULL), 200);
    assert_int_equal(json_integer_value(json_object_get(answer.json, "offset")), 2);
    assert_int_equal(views_hash(node.views, VIEW_ACCOUNTS, 0, hash, NULL), 0);
    for (unsigned i = 0; i < 32; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    }
    assert_string_equal(text("hash"), hex);
    assert_int_equal(ask("GET", "/internal/views?topic=accounts&partition=1", NULL), 404);
    assert_int_equal(ask("GET", "/internal/views?topic=accounts&partition=-1", NULL), 404);
    assert_int_equal(ask("GET", "/internal/views?topic=nope&partition=0", NULL), 404);
    assert_int_equal(ask("GET", "/internal/views?topic=chat", NULL), 404);
}

static void outcome_that_is_not_known__is_said(void **state)
{
    (void)state;
    fake_log.produce_status = WEIR_EUNKNOWN;
    assert_int_equal(ask("POST", "/api/admin/users", "{\"name\":\"alice\"}"), 503);
    assert_string_equal(text("error"), "unknown_outcome");
}

static void order_of_acknowledgement_and_fold__does_not_matter(void **state)
{
    (void)state;
    fake_log.ack_first = true;
    assert_int_equal(ask("POST", "/api/admin/users", "{\"name\":\"alice\"}"), 201);
    fake_log.ack_first = false;
    assert_int_equal(ask("POST", "/api/admin/users", "{\"name\":\"bob\"}"), 201);
    fake_log.hold_records = true;
    ask_start("POST", "/api/admin/users", "{\"name\":\"carol\"}", SECRET);
    RUN_UNTIL(fake_log.n_produced == 3);
    assert_false(answer.done);
    fake_log_release();
    RUN_UNTIL(answer.done);
    assert_int_equal(answer.status, 201);
}

static void client_that_left__harms_nothing(void **state)
{
    struct account_user u;
    (void)state;
    fake_log.hold_acks = true;
    ask_start("POST", "/api/admin/users", "{\"name\":\"alice\"}", SECRET);
    RUN_UNTIL(fake_log.n_produced == 1);
    http_client_free(node.http_client); /* closes its connections */
    assert_int_equal(http_client_new(env, &node.http_client, NULL), 0);
    fake_log_release();
    RUN_UNTIL(accounts_user(node.views, "alice", &u) == 0);
    assert_int_equal(ask("GET", "/api/admin/users", NULL), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(admin__without_the_secret_is_401, setup, teardown),
        cmocka_unit_test_setup_teardown(user__is_made_once_and_gets_a_token, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_log_stored_twice__is_answered_as_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(bad_bodies__are_400_and_produce_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(channel__is_made_keyed_described_and_shown, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(grant__repeated_gives_the_same_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(refund__is_booked_once_and_the_entries_tell_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(bridge__brings_the_badge_once, setup, teardown),
        cmocka_unit_test_setup_teardown(views__tell_offset_and_hash, setup, teardown),
        cmocka_unit_test_setup_teardown(outcome_that_is_not_known__is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(order_of_acknowledgement_and_fold__does_not_matter, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(client_that_left__harms_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
