/* Which of a node's two HTTP servers answers what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/env_loop.h"
#include "nodes/role.h"

static struct env_loop *loop;
static struct env *env;
static struct http_server *servers[2];
static struct http_client *client;
static bool done;
static int answer;

static void on_request(void *data, struct http_exchange *ex)
{
    (void)data;
    http_respond_text(ex, 200, "here");
}

static const struct http_route routes[] = {
    {.method = "GET", .path = "/internal/store/", .prefix = true, .handler = on_request},
    {.method = "GET", .path = "/internal/views", .handler = on_request},
    {.method = "GET", .path = "/api/admin/users", .handler = on_request},
    {.method = "GET", .path = "/api/streams", .handler = on_request},
};

static void on_closed(void *data)
{
    (void)data;
    done = true;
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(env_loop_new(&loop, NULL), 0);
    env = env_loop_env(loop);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(http_server_new(env, "127.0.0.1", 0, &servers[i], NULL), 0);
    }
    assert_int_equal(http_client_new(env, &client, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(client);
    for (unsigned i = 0; i < 2; i++) {
        done = false;
        http_server_close(servers[i], on_closed, NULL);
        env_loop_run_until(loop, &done);
    }
    env_loop_free(loop);
    return 0;
}

static void on_answer(void *data, int status, struct http_body *body)
{
    (void)data;
    (void)body;
    answer = status;
    done = true;
}

static int get(const struct http_server *server, const char *path)
{
    struct http_call *call;
    const struct http_call_options options = {.method = "GET",
                                              .host = "127.0.0.1",
                                              .port = http_server_port(server),
                                              .path = path,
                                              .headers = "",
                                              .timeout_ms = 20000,
                                              .response_max = 1024};
    done = false;
    assert_int_equal(http_call(client, &options, on_answer, NULL, &call, NULL), 0);
    env_loop_run_until(loop, &done);
    return answer;
}

static void routes__with_an_internal_server_leave_the_public_one_what_is_the_publics(void **state)
{
    (void)state;
    const struct node node = {.http = servers[0], .internal = servers[1]};
    assert_int_equal(node_routes(&node, routes, 4, NULL), 0);
    assert_int_equal(get(servers[0], "/internal/store/x"), 404);
    assert_int_equal(get(servers[0], "/internal/views"), 404);
    assert_int_equal(get(servers[0], "/%69nternal/views"), 404);
    assert_int_equal(get(servers[0], "/api/admin/users"), 200);
    assert_int_equal(get(servers[0], "/api/streams"), 200);
    assert_int_equal(get(servers[1], "/internal/store/x"), 200);
    assert_int_equal(get(servers[1], "/internal/views"), 200);
    assert_int_equal(get(servers[1], "/api/admin/users"), 200);
    assert_int_equal(get(servers[1], "/api/streams"), 404);
}

static void routes__without_one_are_all_in_one_place(void **state)
{
    (void)state;
    const struct node node = {.http = servers[0]};
    assert_int_equal(node_routes(&node, routes, 4, NULL), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(get(servers[0], i == 0 ? "/internal/store/x" : routes[i].path), 200);
    }
}

static void routes__that_are_there_already_are_named(void **state)
{
    (void)state;
    struct error err = {0};
    const struct node node = {.http = servers[0], .internal = servers[1]};
    assert_int_equal(node_routes(&node, routes, 4, &err), 0);
    assert_int_equal(node_routes(&node, routes, 1, &err), WEIR_EEXISTS);
    assert_non_null(strstr(err.text, "GET /internal/store/"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(routes__with_an_internal_server_leave_the_public_one_what_is_the_publics),
        TEST(routes__without_one_are_all_in_one_place),
        TEST(routes__that_are_there_already_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
