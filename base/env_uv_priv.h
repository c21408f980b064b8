/* Shared by the files of the real env: env_uv.c (loop, timers), env_uv_disk.c (files),
 * env_uv_direct.c (writes past the page cache), env_uv_io.c (threads), env_uv_net.c (sockets).
 * Nobody else includes it. */
#ifndef BASE_ENV_UV_PRIV_H
#define BASE_ENV_UV_PRIV_H

#include <pthread.h>
#include <uv.h>

#include "base/env_ops.h"
#include "base/env_uv.h"
#include "base/env_uv_direct.h"

/* Threads that write and sync. Apart from libuv's pool, which slow name look-ups share; several, so
 * that the partitions of a node sync in parallel. */
#define IO_THREADS 4

struct env_uv_file {
    struct env_file base;
    int fd;
    struct direct *direct; /* NULL: writes go through the page cache */
    /* Under the pool's lock: */
    struct list queue; /* env_io, in order */
    struct list ready; /* in the pool's list while it has requests and no thread works on it */
    bool running;
};

struct io_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;      /* ready is not empty, or stopping */
    pthread_cond_t idle;      /* a file has nothing left to do */
    struct list ready;        /* env_uv_file */
    struct list done;         /* env_io */
    struct env_uv_file dirs;  /* stands for all directory syncs */
    struct env_uv_file names; /* and for what is asked of names, which must not hold those up */
    pthread_t threads[IO_THREADS];
    unsigned n_threads; /* started with the first request */
    bool stopping;
};

#define READ_BUFFER_SIZE 65536

struct env_uv {
    struct env base;
    uv_loop_t *loop;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* active while calls are deferred: the loop then does not block */
    uv_async_t async;
    unsigned n_handles; /* open, of all kinds */
    struct list deferred;
    pthread_mutex_t post_lock;
    struct list posts;
    struct io_pool pool;
    uint8_t read_buffer[READ_BUFFER_SIZE];
};

static inline struct env_uv *env_uv_of(struct env *env)
{
    return container_of(env, struct env_uv, base);
}

/* A libuv status as one of ours. */
int env_uv_status(int uv_status);

/* env_uv_disk.c: the operations on files, and those that the threads carry out. */
int disk_open(struct env *env, const char *path, int flags, struct env_file **ret_file,
              struct error *err);
void disk_close(struct env_file *file);
int disk_size(struct env_file *file, uint64_t *ret_size, struct error *err);
int disk_pread(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
               struct error *err);
int disk_pwrite(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                struct error *err);
int disk_sync(struct env_file *file, struct error *err);
int disk_truncate(struct env_file *file, uint64_t size, struct error *err);
int disk_allocate(struct env_file *file, uint64_t size, struct error *err);
int disk_dir_make(struct env *env, const char *path, struct error *err);
int disk_dir_sync(struct env *env, const char *path, struct error *err);
int disk_dir_list(struct env *env, const char *path, env_dir_cb cb, void *data, struct error *err);
int disk_dir_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err);
int disk_rename(struct env *env, const char *from, const char *to, struct error *err);
int disk_unlink(struct env *env, const char *path, struct error *err);
/* The request of an io thread, by its kind; returns its status. */
int disk_perform(struct env_uv_file *file, struct env_io *io);

/* env_uv_io.c */
void io_pool_init(struct io_pool *pool);
/* Stops and joins the threads. No request is left. */
void io_pool_close(struct io_pool *pool);
void io_pool_start(struct env *env, struct env_file *file, const char *path, struct env_io *io,
                   enum env_io_kind kind);
void io_pool_wait(struct env_file *file);
/* On the loop: fires what is done. */
void io_pool_reap(struct io_pool *pool);

/* env_uv_net.c */
int net_listen(struct env *env, const char *host, uint16_t port, env_accept_cb cb, void *data,
               struct env_listener **ret_listener, struct error *err);
void net_listener_close(struct env_listener *listener);
int net_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb, void *data,
                struct env_stream **ret_stream, struct error *err);
void net_read_start(struct env_stream *stream, env_read_cb cb);
void net_read_stop(struct env_stream *stream);
void net_send(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
              unsigned n_iov);
ssize_t net_try_send(struct env_stream *stream, const struct iovec *iov, unsigned n_iov);
size_t net_queued_bytes(const struct env_stream *stream);
void net_stream_close(struct env_stream *stream, env_close_cb cb, void *data);
int net_detach_fd(struct env_stream *stream);

#endif
