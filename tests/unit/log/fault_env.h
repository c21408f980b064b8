/* An env whose disk is memory and can fail: for tests of log/. The loop is stepped by hand and the
 * clock moves only when told to.
 *
 * The disk knows what is durable: a write counts after a sync of its file, a name after a sync of
 * its folder. Each operation that changes the disk is a `step`, counted from 1; the power can go,
 * or the operation fail, at any step. A sync that fails forgets what it should have written, as
 * Linux does: later syncs succeed without it. There are no sockets. */
#ifndef TESTS_UNIT_LOG_FAULT_ENV_H
#define TESTS_UNIT_LOG_FAULT_ENV_H

#include "base/env.h"

struct env *fault_env_new(uint64_t seed);
void fault_env_free(struct env *env);

/* Runs what is deferred and what the disk has completed, until there is nothing left. */
void fault_env_run(struct env *env);
/* Moves the clock, firing timers on the way, and runs. */
void fault_env_advance(struct env *env, uint64_t us);

unsigned fault_env_steps(const struct env *env);
/* The power goes at step n: that step may be done in part, later ones do nothing; all return
 * WEIR_EIO. 0: never. */
void fault_env_crash_at(struct env *env, unsigned n);
bool fault_env_crashed(const struct env *env);
/* Step n fails with `status`, a write after its first half. 0: none. */
void fault_env_fail_at(struct env *env, unsigned n, int status);
/* Room for env_file_allocate beyond what files have: bytes. */
void fault_env_set_free(struct env *env, uint64_t bytes);

enum fault_restart {
    FAULT_KILL,     /* the process died: all writes are there */
    FAULT_LOSE_ALL, /* power loss: everything that was not synced is gone */
    FAULT_TEAR,     /* power loss: of what was not synced, each 512-byte sector is there or not; of
                       unsynced names and sizes, a prefix */
};
/* The machine comes up again. All files are closed and no callback is pending. */
void fault_env_restart(struct env *env, enum fault_restart how);

/* Contents of a file, to damage it: changes are durable. NULL: absent. */
uint8_t *fault_env_data(struct env *env, const char *path, size_t *ret_size);
void fault_env_resize(struct env *env, const char *path, size_t size);
void fault_env_remove(struct env *env, const char *path);
/* A whole second disk, for trying one damage after the other: save once, restore often. */
struct fault_image;
struct fault_image *fault_env_save(struct env *env);
void fault_env_restore(struct env *env, const struct fault_image *image);
void fault_image_free(struct fault_image *image);

#endif
