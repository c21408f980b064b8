#include <signal.h>

#include "base/env_loop.h"
#include "clients/cli/cli.h"
#include "net/tls.h"

enum cli_exit cli_loop_open(struct cli_loop *loop)
{
    struct error err = {0};
    *loop = (struct cli_loop){0};
    /* A broken pipe is an error of the write that met it. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (env_loop_new(&loop->loop, &err) != 0) {
        return cli_fail(CLI_FAILED, "can't make an event loop: %s", err.text);
    }
    loop->env = env_loop_env(loop->loop);
    return CLI_OK;
}

enum cli_exit cli_loop_tls(struct cli_loop *loop, const struct cli_cluster *cluster)
{
    const struct tls_files files = {cluster->tls_ca, cluster->tls_cert, cluster->tls_key};
    struct error err = {0};
    if (files.ca[0] == '\0') {
        return CLI_OK;
    }
    int rv = tls_net_new(loop->env, &files, &loop->tls, &err);
    if (rv != 0) {
        return cli_fail(cli_exit_of(rv), "%s", err.text);
    }
    loop->sockets = tls_net_env(loop->tls);
    return CLI_OK;
}

static void on_signal(void *data, int signum)
{
    struct cli_loop *loop = data;
    (void)signum;
    loop->interrupted(loop->data);
}

void cli_loop_run(struct cli_loop *loop, void (*interrupted)(void *data), void *data)
{
    loop->interrupted = interrupted;
    loop->data = data;
    loop->stopped = false;
    env_loop_on_signals(loop->loop, interrupted != NULL ? on_signal : NULL, loop);
    env_loop_run_until(loop->loop, &loop->stopped);
    env_loop_on_signals(loop->loop, NULL, NULL);
}

void cli_loop_stop(struct cli_loop *loop)
{
    loop->stopped = true;
}

void cli_loop_close(struct cli_loop *loop)
{
    env_loop_free(loop->loop);
    tls_net_free(loop->tls);
    *loop = (struct cli_loop){0};
}
