/* Clients that reach one node only (jepsen/workloads/near.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/env_loop.h"
#include "jepsen/workloads/near.h"

#define HERE  "127.0.0.1"
#define THERE "127.0.0.2"

static void on_accepted(struct env_listener *listener, struct env_stream *stream)
{
    (void)listener;
    env_stream_close(stream, NULL, NULL);
}

struct dialled {
    bool done;
    int status;
};

static void on_connected(struct env_stream *stream, int status)
{
    struct dialled *d = env_stream_data(stream);
    d->status = status;
    d->done = true;
}

static void on_closed(void *data)
{
    *(bool *)data = true;
}

static void near_env__reaches_its_own_node_and_no_other(void **state)
{
    struct env_loop *loop = NULL;
    struct env_listener *here = NULL, *there = NULL;
    struct env_stream *stream = NULL;
    struct dialled d = {.status = 1};
    struct error err = {0};
    bool closed = false;
    (void)state;
    assert_int_equal(env_loop_new(&loop, &err), 0);
    struct env *env = env_loop_env(loop);
    assert_int_equal(env_listen(env, HERE, 0, on_accepted, NULL, &here, &err), 0);
    uint16_t port = env_listener_port(here);
    assert_int_equal(env_listen(env, THERE, port, on_accepted, NULL, &there, &err), 0);
    struct near *near = near_new(env, HERE);
    assert_non_null(near);

    assert_int_equal(env_connect(near_env(near), THERE, port, on_connected, &d, &stream, &err),
                     WEIR_EIO);
    assert_null(stream);
    assert_string_equal(err.text, THERE " is out of reach");

    assert_int_equal(env_connect(near_env(near), HERE, port, on_connected, &d, &stream, &err), 0);
    near_free(near); /* the stream lives on */
    env_loop_run_until(loop, &d.done);
    assert_int_equal(d.status, 0);

    env_stream_close(stream, on_closed, &closed);
    env_loop_run_until(loop, &closed);
    env_listener_close(here);
    env_listener_close(there);
    env_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_env__reaches_its_own_node_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
