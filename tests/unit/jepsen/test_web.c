/* Questions of workloads to nodes (jepsen/workloads/web.h): each has exactly one answer. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <sys/socket.h>

#include "base/env_loop.h"
#include "jepsen/workloads/web.h"

#define ADDRESS "127.98.0.1"

static struct env_loop *loop;

/* What a workload has of its run. */
struct env *run_env(struct run *run)
{
    (void)run;
    return env_loop_env(loop);
}

const char *run_secret(struct run *run)
{
    (void)run;
    return "secret";
}

void run_failed(struct run *run, const char *why)
{
    (void)run;
    fail_msg("%s", why);
}

struct answer {
    bool came;
    int status;
};

static void on_answer(void *data, int status, json_t *json)
{
    struct answer *a = data;
    (void)json;
    assert_false(a->came);
    a->came = true;
    a->status = status;
}

static int listen_as_node(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(HOST_PORT_HTTP)};
    assert_int_equal(inet_pton(AF_INET, ADDRESS, &at.sin_addr), 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* A node that is killed when it has read what it was asked. */
static void *die(void *data)
{
    const int *listener = data;
    char request[4096];
    int fd = accept(*listener, NULL, NULL);
    (void)!read(fd, request, sizeof(request));
    (void)close(fd);
    return NULL;
}

static void web_ask__is_answered_when_the_node_closes_the_connection(void **state)
{
    struct host node = {.address = ADDRESS};
    struct answer answer = {0};
    struct error err = {0};
    struct web *web = NULL;
    const char *why = NULL;
    pthread_t thread;
    int listener = listen_as_node();
    (void)state;
    assert_int_equal(env_loop_new(&loop, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, die, &listener), 0);
    assert_int_equal(web_open(NULL, &web, &err), 0);
    web_ask(web, &node, "POST", "/api/admin/subs", json_pack("{s:i}", "a", 1), on_answer, &answer);
    env_loop_run_until(loop, &answer.came);
    assert_int_equal(web_outcome(answer.status, NULL, &why), HISTORY_INFO);
    assert_int_equal(pthread_join(thread, NULL), 0);
    web_close(web);
    env_loop_free(loop);
    (void)close(listener);
}

static void web_close__forgets_open_questions(void **state)
{
    struct host node = {.address = ADDRESS};
    struct answer answer = {0};
    struct error err = {0};
    struct web *web = NULL;
    int listener = listen_as_node();
    (void)state;
    assert_int_equal(env_loop_new(&loop, &err), 0);
    assert_int_equal(web_open(NULL, &web, &err), 0);
    web_ask(web, &node, "GET", "/", NULL, on_answer, &answer);
    web_close(web);
    assert_false(answer.came);
    env_loop_free(loop);
    (void)close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(web_ask__is_answered_when_the_node_closes_the_connection),
        cmocka_unit_test(web_close__forgets_open_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
