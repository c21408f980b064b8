/* What an implementation of env provides. Only implementations include this file: env_uv_*.c (real)
 * and test or simulated ones. The contract of each operation is that of the function of the same
 * name in base/env.h. An implementation embeds these structs first in its own. */
#ifndef BASE_ENV_OPS_H
#define BASE_ENV_OPS_H

#include "base/env.h"

struct env {
    const struct env_ops *ops;
};
struct env_file {
    struct env *env;
};
struct env_listener {
    struct env *env;
    void *data;
    uint16_t port;
};
#define ENV_PEER_MAX 160
struct env_stream {
    struct env *env;
    void *data;
    char peer[ENV_PEER_MAX];
};

enum env_io_kind {
    ENV_IO_WRITE,
    ENV_IO_READ,
    ENV_IO_ALLOCATE,
    ENV_IO_DIR_SYNC,
    ENV_IO_PATH_SIZE,
};

struct env_ops {
    uint64_t (*now_ns)(struct env *env);
    int64_t (*wall_ms)(struct env *env);
    void (*random)(struct env *env, void *buf, size_t n);

    int (*timer_init)(struct env *env, struct env_timer *timer);
    void (*timer_start)(struct env_timer *timer, uint64_t delay_us);
    void (*timer_stop)(struct env_timer *timer);
    void (*timer_close)(struct env_timer *timer);
    /* The defer is linked into the list returned; the implementation empties it with
     * env_run_deferred. */
    struct list *(*deferred)(struct env *env);
    void (*post)(struct env *env, struct env_post *post, env_post_cb cb);

    int (*file_open)(struct env *env, const char *path, int flags, struct env_file **ret_file,
                     struct error *err);
    void (*file_close)(struct env_file *file);
    int (*file_size)(struct env_file *file, uint64_t *ret_size, struct error *err);
    int (*file_pread)(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
                      struct error *err);
    int (*file_pwrite)(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                       struct error *err);
    int (*file_sync)(struct env_file *file, struct error *err);
    int (*file_truncate)(struct env_file *file, uint64_t size, struct error *err);
    int (*file_allocate)(struct env_file *file, uint64_t size, struct error *err);
    /* file is NULL for ENV_IO_DIR_SYNC and ENV_IO_PATH_SIZE, path is NULL for the others. io->cb
     * and io->file are set.
     */
    void (*io_start)(struct env *env, struct env_file *file, const char *path, struct env_io *io,
                     enum env_io_kind kind);
    void (*file_wait)(struct env_file *file);

    int (*dir_make)(struct env *env, const char *path, struct error *err);
    int (*dir_sync)(struct env *env, const char *path, struct error *err);
    int (*dir_list)(struct env *env, const char *path, env_dir_cb cb, void *data,
                    struct error *err);
    int (*dir_free_bytes)(struct env *env, const char *path, uint64_t *ret_bytes,
                          struct error *err);
    int (*rename)(struct env *env, const char *from, const char *to, struct error *err);
    int (*unlink)(struct env *env, const char *path, struct error *err);

    int (*listen)(struct env *env, const char *host, uint16_t port, env_accept_cb cb, void *data,
                  struct env_listener **ret_listener, struct error *err);
    void (*listener_close)(struct env_listener *listener);
    int (*connect)(struct env *env, const char *host, uint16_t port, env_connect_cb cb, void *data,
                   struct env_stream **ret_stream, struct error *err);
    void (*stream_read_start)(struct env_stream *stream, env_read_cb cb);
    void (*stream_read_stop)(struct env_stream *stream);
    void (*stream_send)(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
                        unsigned n_iov);
    ssize_t (*stream_try_send)(struct env_stream *stream, const struct iovec *iov, unsigned n_iov);
    size_t (*stream_queued_bytes)(const struct env_stream *stream);
    void (*stream_close)(struct env_stream *stream, env_close_cb cb, void *data);
    int (*stream_detach_fd)(struct env_stream *stream);
};

/* Runs what is in the list now, not what these calls defer in turn. */
void env_run_deferred(struct list *deferred);

#endif
