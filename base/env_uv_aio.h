/* Durable writes that the kernel carries out by itself: io_submit(2) with RWF_DSYNC, past the page
 * cache. A thread only hands them over, several at once; nobody sleeps while the disk works, and
 * the loop is told through a descriptor. Used by the io threads and the loop of the real env only.
 *
 * A write that was handed over is `sync`: when it is complete, it is durable. It is staged in a
 * buffer of its slot (env_uv_direct.h says how); slots and their buffers are reused.
 *
 * aio_take and aio_give are called under the pool's lock; aio_aim, aio_submit and aio_wake by any
 * thread; aio_reap and aio_wait on the loop only. */
#ifndef BASE_ENV_UV_AIO_H
#define BASE_ENV_UV_AIO_H

#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"

/* Writes on their way at once. More wait for a thread of their own. */
#define AIO_SLOTS 64
/* A larger write is a thread's; bytes. With its first and last block it fills a buffer. */
#define AIO_BYTES_MAX ((256u << 10) - 2 * 4096u)

struct aio;
struct env_io;
struct env_uv_file;

struct aio_slot {
    struct list link;
    struct env_uv_file *file; /* the caller's, as is io */
    struct env_io *io;
    struct iocb iocb;
    struct iovec iov[2]; /* what is written */
    uint8_t *buffer;     /* aligned for direct writes */
    size_t room;         /* its size */
    size_t n_bytes;      /* of iov */
};

/* NULL: this kernel or its limits do not have it. */
struct aio *aio_new(void);
/* Nothing is on its way. NULL is allowed. */
void aio_free(struct aio *a);
/* Readable when a write is complete. */
int aio_fd(const struct aio *a);

/* A slot whose buffer holds what n <= AIO_BYTES_MAX bytes make as whole blocks. NULL: none is free,
 * or no memory. */
struct aio_slot *aio_take(struct aio *a, size_t n);
void aio_give(struct aio *a, struct aio_slot *slot);
/* What slot->iov says is to go to `offset` of `fd`. */
void aio_aim(struct aio *a, struct aio_slot *slot, int fd, unsigned n_iov, uint64_t offset);
/* Hands over; returns how many were taken, from the first on. */
unsigned aio_submit(struct aio *a, struct aio_slot *const slots[], unsigned n);

struct aio_done {
    struct aio_slot *slot;
    int64_t result; /* bytes that are durable, slot->n_bytes when all; or a negative errno */
};
/* What is complete; returns how many. */
unsigned aio_reap(struct aio *a, struct aio_done ret_done[AIO_SLOTS]);
/* Blocks until something is complete or aio_wake is called. */
void aio_wait(struct aio *a);
void aio_wake(struct aio *a);

#endif
