/* Writes past the page cache, for files opened with ENV_OPEN_APPEND. Used by the io threads of the
 * real env only.
 *
 * Direct writes come in whole blocks. What does not fill its first or last block is completed: in
 * front with what stands there, behind with zeros, which is what stands behind a log's end. A block
 * that is written a second time holds the same bytes up to its old end, so a torn write can't hurt
 * what was durable.
 *
 * Reserved space is not written space: the first write to a block of it makes the file system note
 * so, and the sync that follows waits for its journal. Small writes therefore now and then take the
 * zeros of the next 256 KiB along; those after it find written blocks and sync three times faster.
 *
 * One thread at a time works on a file. */
#ifndef BASE_ENV_UV_DIRECT_H
#define BASE_ENV_UV_DIRECT_H

#include "base/env.h"

struct direct;

/* NULL when there is no memory. `fd` is the file's own, for reading; it stays the caller's. */
struct direct *direct_new(int fd);
void direct_free(struct direct *d); /* NULL is allowed */
/* The file was changed by other means. Not while a write runs. */
void direct_forget(struct direct *d); /* NULL is allowed */
/* Writes the whole request. False: this file can't be written so (file system, memory), and nothing
 * was; write it as usual. */
bool direct_write(struct direct *d, const struct env_io *io, int *ret_status);
/* A thread that has written ends: lets go of its buffer. */
void direct_thread_end(void);

#endif
