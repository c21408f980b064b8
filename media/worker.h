/* The worker process: `weir worker`. One stream's frames come in on a socket, its renditions go out
 * on it (worker_wire.h).
 *
 * The process locks itself in (sandbox.h) before it reads a byte. It ends with status 0 after END
 * or when the peer closes; any other status is a crash to the role that started it. */
#ifndef MEDIA_WORKER_H
#define MEDIA_WORKER_H

#define WORKER_FD           3
#define WORKER_MEMORY_BYTES (2ul << 30)

/* Does not return. `fd` is a connected stream socket or pipe, both ways. */
int media_worker_main(int fd);

#endif
