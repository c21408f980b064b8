#include "base/env_loop.h"

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

#include "base/env_uv.h"

static const int signal_numbers[] = {SIGINT, SIGTERM, SIGHUP};
#define N_SIGNALS (sizeof(signal_numbers) / sizeof(signal_numbers[0]))

struct on_signal {
    uv_signal_t handle;
    env_signal_cb cb;
    void *data;
};

struct env_loop {
    uv_loop_t uv;
    struct on_signal signals[N_SIGNALS];
    struct env *env;
};

int env_loop_new(struct env_loop **ret_loop, struct error *err)
{
    struct env_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return error_set(err, WEIR_ENOMEM, "event loop: out of memory");
    }
    int rc = uv_loop_init(&loop->uv);
    if (rc != 0) {
        free(loop);
        return error_set(err, error_from_errno(-rc), "event loop: %s", uv_strerror(rc));
    }
    int rv = env_uv_new(&loop->uv, &loop->env, err);
    if (rv != 0) {
        (void)uv_loop_close(&loop->uv);
        free(loop);
        return rv;
    }
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        (void)uv_signal_init(&loop->uv, &loop->signals[i].handle);
        loop->signals[i].handle.data = &loop->signals[i];
        uv_unref((uv_handle_t *)&loop->signals[i].handle);
    }
    *ret_loop = loop;
    return 0;
}

struct env *env_loop_env(struct env_loop *loop)
{
    return loop->env;
}

static void on_signal(uv_signal_t *handle, int signum)
{
    const struct on_signal *s = handle->data;
    s->cb(s->data, signum);
}

static void listen_for(struct env_loop *loop, int signum, env_signal_cb cb, void *data)
{
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        struct on_signal *s = &loop->signals[i];
        if (signal_numbers[i] != signum) {
            continue;
        }
        s->cb = cb;
        s->data = data;
        if (cb != NULL) {
            (void)uv_signal_start(&s->handle, on_signal, signum);
        } else {
            (void)uv_signal_stop(&s->handle);
        }
    }
}

void env_loop_on_signals(struct env_loop *loop, env_signal_cb cb, void *data)
{
    listen_for(loop, SIGINT, cb, data);
    listen_for(loop, SIGTERM, cb, data);
}

void env_loop_on_hangup(struct env_loop *loop, env_signal_cb cb, void *data)
{
    listen_for(loop, SIGHUP, cb, data);
}

void env_loop_run_until(struct env_loop *loop, const bool *done)
{
    while (!*done) {
        (void)uv_run(&loop->uv, UV_RUN_ONCE);
    }
}

void env_loop_free(struct env_loop *loop)
{
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        uv_close((uv_handle_t *)&loop->signals[i].handle, NULL);
    }
    env_uv_free(loop->env);
    while (uv_loop_close(&loop->uv) == UV_EBUSY) {
        (void)uv_run(&loop->uv, UV_RUN_ONCE);
    }
    free(loop);
}
