#include <signal.h>
#include <stdlib.h>
#include <uv.h>

#include "base/env_uv.h"
#include "clients/cli/cli.h"

#define N_SIGNALS 2

struct cli_uv {
    uv_loop_t loop;
    uv_signal_t signals[N_SIGNALS];
    void (*interrupted)(void *data);
    void *data;
};

enum cli_exit cli_loop_open(struct cli_loop *loop)
{
    struct error err = {0};
    *loop = (struct cli_loop){0};
    /* A broken pipe is an error of the write that met it. */
    (void)signal(SIGPIPE, SIG_IGN);
    struct cli_uv *uv = calloc(1, sizeof(*uv));
    if (uv == NULL || uv_loop_init(&uv->loop) != 0) {
        free(uv);
        return cli_fail(CLI_FAILED, "can't make an event loop");
    }
    if (env_uv_new(&uv->loop, &loop->env, &err) != 0) {
        (void)uv_loop_close(&uv->loop);
        free(uv);
        return cli_fail(CLI_FAILED, "can't make an event loop: %s", err.text);
    }
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        (void)uv_signal_init(&uv->loop, &uv->signals[i]);
        uv->signals[i].data = uv;
        uv_unref((uv_handle_t *)&uv->signals[i]);
    }
    loop->uv = uv;
    return CLI_OK;
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct cli_uv *uv = handle->data;
    (void)signum;
    uv->interrupted(uv->data);
}

void cli_loop_run(struct cli_loop *loop, void (*interrupted)(void *data), void *data)
{
    static const int signals[N_SIGNALS] = {SIGINT, SIGTERM};
    struct cli_uv *uv = loop->uv;
    uv->interrupted = interrupted;
    uv->data = data;
    for (unsigned i = 0; i < N_SIGNALS && interrupted != NULL; i++) {
        (void)uv_signal_start(&uv->signals[i], on_signal, signals[i]);
    }
    loop->stopped = false;
    while (!loop->stopped) {
        (void)uv_run(&uv->loop, UV_RUN_ONCE);
    }
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        (void)uv_signal_stop(&uv->signals[i]);
    }
}

void cli_loop_stop(struct cli_loop *loop)
{
    loop->stopped = true;
}

void cli_loop_close(struct cli_loop *loop)
{
    struct cli_uv *uv = loop->uv;
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        uv_close((uv_handle_t *)&uv->signals[i], NULL);
    }
    env_uv_free(loop->env);
    while (uv_loop_close(&uv->loop) == UV_EBUSY) {
        (void)uv_run(&uv->loop, UV_RUN_ONCE);
    }
    free(uv);
    *loop = (struct cli_loop){0};
}
