/* The walls of a worker process: it parses what strangers send, with large C libraries.
 *
 * After sandbox_enter the process can use the descriptors it has, memory up to a limit, threads,
 * and the clock. It can't open a file, make a socket, start a program, signal another process, or
 * gain privileges: the kernel refuses a file politely (libraries probe) and kills for the rest.
 * Call before a byte of input is read, with one thread running. */
#ifndef MEDIA_SANDBOX_H
#define MEDIA_SANDBOX_H

#include "base/error.h"

/* Every descriptor above `keep_fd` is closed. Limits address space to `memory_bytes`. Also works
 * without Landlock in the kernel; without seccomp it fails. */
int sandbox_enter(int keep_fd, unsigned long memory_bytes, struct error *err);

#endif
