/* A worker process of this program (`weir worker`) and the socket to it. Loop thread only.
 *
 * Its descriptor 3 is one end of a socket pair; it has no others but stderr, and an empty
 * environment. */
#ifndef NODES_TRANSCODE_PROCESS_H
#define NODES_TRANSCODE_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"

struct process;

struct process_events {
    void *data;
    /* What the worker says; valid during the call. */
    void (*read)(void *data, const uint8_t *bytes, size_t n);
    /* All that was queued has been written. */
    void (*drained)(void *data);
    /* It is gone, and all it said has been read. Nothing is called after this. */
    void (*exited)(void *data, int status, int signal);
};

/* `env` is the real one (libuv). Fails with what fork or exec say. */
int process_spawn(struct env *env, const struct process_events *events,
                  struct process **ret_process, struct error *err);
/* Copies. WEIR_ENOMEM; a worker that is gone takes nothing more. */
int process_write(struct process *p, const uint8_t *data, size_t n);
size_t process_queued_bytes(const struct process *p);
void process_read_stop(struct process *p);
void process_read_start(struct process *p);
long process_pid(const struct process *p);
/* Kills it if it lives and lets go; no callback runs any more. NULL is allowed. */
void process_free(struct process *p);

#endif
