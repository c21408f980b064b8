/* The real env, on a libuv loop. */
#ifndef BASE_ENV_UV_H
#define BASE_ENV_UV_H

#include "base/env.h"

struct uv_loop_s;

/* `loop` outlives the env. Call on the thread that will run the loop (or before it runs). */
int env_uv_new(struct uv_loop_s *loop, struct env **ret_env, struct error *err);
/* All streams, listeners, timers and files are closed. Runs the loop until its own handles are
 * gone. */
void env_uv_free(struct env *env);
struct uv_loop_s *env_uv_loop(struct env *env);

#endif
