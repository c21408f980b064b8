/* A process of this same program, and a socket to it: how untrusted input gets a place of its own.
 * Real env only (libuv); loop thread.
 *
 * Its descriptor PROCESS_FD is one end of a socket pair; it has no others but stderr, and an empty
 * environment. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/env.h"

#define PROCESS_FD 3

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

/* Runs /proc/self/exe with `verb` as its only argument. Fails with what fork or exec say. */
int process_spawn(struct env *env, const char *verb, const struct process_events *events,
                  struct process **ret_process, struct error *err);
/* Copies. WEIR_ENOMEM; a worker that is gone takes nothing more. */
int process_write(struct process *p, const uint8_t *data, size_t n);
size_t process_queued_bytes(const struct process *p);
/* What was written and the worker has not read yet, as the kernel counts it: with what it needs
 * itself for keeping it, so never less than the bytes. */
size_t process_unread_bytes(const struct process *p);
void process_read_stop(struct process *p);
void process_read_start(struct process *p);
long process_pid(const struct process *p);
/* Kills it if it lives and lets go; no callback runs any more. NULL is allowed. */
void process_free(struct process *p);

#endif
