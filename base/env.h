/* env: the only door to time, randomness, disk and sockets.
 *
 * One `struct env` belongs to one loop thread. Every function here, unless it says otherwise, is
 * called on that thread, and every callback runs on it, later, never from inside the call that
 * asked for it. Code of log/, consensus/, nodes/broker and clients/log uses nothing else, so the
 * same code runs on the real implementation (env_uv.h, libuv) and on a simulated one with a virtual
 * clock, disk and network. Requests are owned by the caller and embedded: the hot path allocates
 * nothing. Times: durations in microseconds where a name says _us, nanoseconds for _ns,
 * milliseconds for _ms. */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/list.h"

struct env;
struct env_file;
struct env_stream;
struct env_listener;

/* --- Clock and randomness --- */

/* Monotonic. Read afresh at each call. */
uint64_t env_now_ns(struct env *env);
/* Wall clock, Unix epoch. May jump either way. */
int64_t env_wall_ms(struct env *env);
/* Fills `buf` with n random bytes, of cryptographic quality in the real implementation. */
void env_random(struct env *env, void *buf, size_t n);
uint64_t env_random_u64(struct env *env);

/* --- Timers and deferred calls --- */

struct env_timer;
typedef void (*env_timer_cb)(struct env_timer *timer);
struct env_timer {
    void *data; /* the caller's */
    env_timer_cb cb;
    struct env *env;
    void *impl;
};
/* Binds a timer to `env`; not started. WEIR_ENOMEM. */
int env_timer_init(struct env *env, struct env_timer *timer);
/* One shot, at or after delay_us from now; starting again moves it. */
void env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb);
void env_timer_stop(struct env_timer *timer);
/* Stops and releases; the memory of `timer` may be freed at once. Safe on a zeroed timer. */
void env_timer_close(struct env_timer *timer);

/* A deferred call runs once, after the callbacks of the current turn of the loop and before it
 * blocks: what lets many requests of one turn share one write. Scheduling it twice before it ran is
 * one call. Zero-initialise before first use. */
struct env_defer;
typedef void (*env_defer_cb)(struct env_defer *defer);
struct env_defer {
    void *data;
    env_defer_cb cb;
    struct list link;
    bool scheduled;
};
void env_defer(struct env *env, struct env_defer *defer, env_defer_cb cb);
void env_defer_cancel(struct env_defer *defer);

/* From any thread: a call that runs once on env's loop thread, in order of posting. Posting it
 * again before it runs is one call. Its memory may be freed as soon as cb runs. Zero-initialise
 * before first use. */
struct env_post;
typedef void (*env_post_cb)(struct env_post *post);
struct env_post {
    void *data;
    env_post_cb cb;
    struct list link;
    bool posted;
};
void env_post(struct env *env, struct env_post *post, env_post_cb cb);

/* --- Disk, synchronous (recovery, metadata) --- */

enum env_open_flags {
    ENV_OPEN_READ = 0,
    ENV_OPEN_WRITE = 1,  /* read and write */
    ENV_OPEN_CREATE = 2, /* with WRITE: make it when absent; the caller syncs the directory */
    ENV_OPEN_EXCL = 4,   /* with CREATE: WEIR_EEXISTS when present */
    ENV_OPEN_LOCK = 8, /* one opener at a time, on this machine: WEIR_EBUSY when somebody has it */
    /* With WRITE: a log. Asynchronous writes follow one another and nothing but zeros stands behind
     * them; the real implementation writes them past the page cache where it can. */
    ENV_OPEN_APPEND = 16,
};
/* Absent: WEIR_ENOTFOUND. */
int env_file_open(struct env *env, const char *path, int flags, struct env_file **ret_file,
                  struct error *err);
/* No request may be in flight. NULL is allowed. */
void env_file_close(struct env_file *file);
int env_file_size(struct env_file *file, uint64_t *ret_size, struct error *err);
/* Reads up to n bytes; *ret_n < n only at the end of the file. */
int env_file_pread(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
                   struct error *err);
/* All or an error. Not durable before env_file_sync. */
int env_file_pwrite(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                    struct error *err);
/* fdatasync. After a failure nothing written since the last good sync may be trusted. */
int env_file_sync(struct env_file *file, struct error *err);
int env_file_truncate(struct env_file *file, uint64_t size, struct error *err);
/* Reserve blocks so that later writes inside [0, size) cannot meet a full disk; reads of them give
 * zeros. */
int env_file_allocate(struct env_file *file, uint64_t size, struct error *err);

int env_dir_make(struct env *env, const char *path,
                 struct error *err); /* and parents; existing is fine */
int env_dir_sync(struct env *env, const char *path, struct error *err);
typedef int (*env_dir_cb)(void *data,
                          const char *name); /* non-zero ends the walk and is returned */
/* Names in byte order, without . and .. */
int env_dir_list(struct env *env, const char *path, env_dir_cb cb, void *data, struct error *err);
int env_dir_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err);
int env_rename(struct env *env, const char *from, const char *to, struct error *err);
int env_unlink(struct env *env, const char *path, struct error *err); /* absent: WEIR_ENOTFOUND */

/* --- Disk, asynchronous (the append path) --- */

struct env_io;
/* status 0 or a negative code. For a write with sync, 0 means durable. */
typedef void (*env_io_cb)(struct env_io *io, int status);
struct env_io {
    void *data; /* the caller's */
    env_io_cb cb;
    struct env_file *file;
    const struct iovec *iov; /* memory and array stay valid until the callback */
    unsigned n_iov;
    uint64_t offset;
    bool sync;      /* fdatasync after the write (n_iov = 0: only sync) */
    size_t n_bytes; /* out, reads: bytes read */
    int status;
    struct list link; /* the implementation's */
    void *impl[4];
};
/* Requests on one file complete in the order given. Never fails now; errors come with the callback.
 */
void env_file_write(struct env_file *file, struct env_io *io, env_io_cb cb);
void env_file_read(struct env_file *file, struct env_io *io, env_io_cb cb);
/* env_file_allocate and, with io->sync, a sync, off the loop; io->offset is the size. */
void env_file_allocate_start(struct env_file *file, struct env_io *io, env_io_cb cb);
/* env_dir_sync off the loop. `path` stays valid until the callback. */
void env_dir_sync_start(struct env *env, const char *path, struct env_io *io, env_io_cb cb);
/* Size of the file of that name off the loop, into io->offset; absent: WEIR_ENOTFOUND. In no order
 * with requests on the file itself. `path` stays valid until the callback. */
void env_path_size_start(struct env *env, const char *path, struct env_io *io, env_io_cb cb);
/* Blocks until everything requested on `file` so far is done; the callbacks still run later.
 * Afterwards the file may be closed although they have not run yet. For the rare moments when order
 * matters more than the loop: close, truncate. */
void env_file_wait(struct env_file *file);

/* --- Sockets (TCP) --- */

/* The new stream belongs to the callback's side. */
typedef void (*env_accept_cb)(struct env_listener *listener, struct env_stream *stream);
/* `host` is a numeric address, "" for all, or a name of this machine (looked up at once, which
 * blocks: at start only). Occupied: -EADDRINUSE, with the address in the text. port 0: any free
 * one. */
int env_listen(struct env *env, const char *host, uint16_t port, env_accept_cb cb, void *data,
               struct env_listener **ret_listener, struct error *err);
void *env_listener_data(const struct env_listener *listener);
uint16_t env_listener_port(const struct env_listener *listener);
void env_listener_close(struct env_listener *listener);

/* status 0, or negative: the caller then closes the stream. Does not come once the stream is
 * closed. */
typedef void (*env_connect_cb)(struct env_stream *stream, int status);
/* `host` is a numeric address or a name. */
int env_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb, void *data,
                struct env_stream **ret_stream, struct error *err);
void *env_stream_data(const struct env_stream *stream);
void env_stream_set_data(struct env_stream *stream, void *data);
struct env *env_stream_env(const struct env_stream *stream);
/* "127.0.0.1:4000", for logs; owned by the stream. */
const char *env_stream_peer(const struct env_stream *stream);

/* status 0: n > 0 bytes, valid during the callback. status < 0 (n = 0): end or error, nothing
 * follows; WEIR_ECLOSED is an orderly end. */
typedef void (*env_read_cb)(struct env_stream *stream, const uint8_t *data, size_t n, int status);
void env_stream_read_start(struct env_stream *stream, env_read_cb cb);
void env_stream_read_stop(struct env_stream *stream); /* back-pressure; start again later */

struct env_send;
typedef void (*env_send_cb)(struct env_send *send, int status);
struct env_send {
    void *data;
    env_send_cb cb;
    void *impl[24];
};
/* Writes in order. The memory behind iov stays valid until the callback, the iov array itself is
 * copied (at most 1024). What fits the socket's buffer goes out at once. Never fails now. */
void env_stream_send(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
                     unsigned n_iov, env_send_cb cb);
/* Tries to write without queueing: bytes taken (0 when the socket is full or sends are queued), or
 * negative. */
ssize_t env_stream_try_send(struct env_stream *stream, const struct iovec *iov, unsigned n_iov);
size_t env_stream_queued_bytes(const struct env_stream *stream);
/* Ends both ways; queued sends complete with WEIR_ECLOSED first, then `cb` (may be NULL) and the
 * stream is gone. Safe to call inside its own callbacks; no read callback runs after it. */
typedef void (*env_close_cb)(void *data);
void env_stream_close(struct env_stream *stream, env_close_cb cb, void *data);
/* Real implementation only: hands the descriptor over (the caller closes it) and releases the
 * stream. No send may be queued. -1 when the implementation has no descriptors. */
int env_stream_detach_fd(struct env_stream *stream);

#endif
