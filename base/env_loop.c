#include "base/env_loop.h"

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

#include "base/env_uv.h"

#define N_SIGNALS 2

struct env_loop {
    uv_loop_t uv;
    uv_signal_t signals[N_SIGNALS];
    struct env *env;
    env_signal_cb signal_cb;
    void *signal_data;
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
        (void)uv_signal_init(&loop->uv, &loop->signals[i]);
        loop->signals[i].data = loop;
        uv_unref((uv_handle_t *)&loop->signals[i]);
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
    struct env_loop *loop = handle->data;
    loop->signal_cb(loop->signal_data, signum);
}

void env_loop_on_signals(struct env_loop *loop, env_signal_cb cb, void *data)
{
    static const int signals[N_SIGNALS] = {SIGINT, SIGTERM};
    loop->signal_cb = cb;
    loop->signal_data = data;
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        if (cb != NULL) {
            (void)uv_signal_start(&loop->signals[i], on_signal, signals[i]);
        } else {
            (void)uv_signal_stop(&loop->signals[i]);
        }
    }
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
        uv_close((uv_handle_t *)&loop->signals[i], NULL);
    }
    env_uv_free(loop->env);
    while (uv_loop_close(&loop->uv) == UV_EBUSY) {
        (void)uv_run(&loop->uv, UV_RUN_ONCE);
    }
    free(loop);
}
