/* A thread's event loop with its env: what a process, or a thread of one, begins and ends with.
 * Code below that takes the env only. Everything here is called on the thread that runs the loop.
 */
#ifndef BASE_ENV_LOOP_H
#define BASE_ENV_LOOP_H

#include "base/env.h"

struct env_loop;

/* WEIR_ENOMEM, or the system's error. */
int env_loop_new(struct env_loop **ret_loop, struct error *err);
struct env *env_loop_env(struct env_loop *loop);
/* Calls cb for SIGINT and SIGTERM from now on; NULL gives them back to the system. They do not keep
 * the loop alive. */
typedef void (*env_signal_cb)(void *data, int signum);
void env_loop_on_signals(struct env_loop *loop, env_signal_cb cb, void *data);
/* The same for SIGHUP: read anew what may have changed. */
void env_loop_on_hangup(struct env_loop *loop, env_signal_cb cb, void *data);
/* Runs until *done, which a callback sets. */
void env_loop_run_until(struct env_loop *loop, const bool *done);
/* All that uses the env is closed. */
void env_loop_free(struct env_loop *loop);

#endif
