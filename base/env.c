#include "base/env.h"

#include <assert.h>

#include "base/env_ops.h"
#include "base/fault.h"

#define SEND_IOV_MAX 1024

uint64_t env_now_ns(struct env *env)
{
    return env->ops->now_ns(env);
}

int64_t env_wall_ms(struct env *env)
{
    return env->ops->wall_ms(env);
}

void env_random(struct env *env, void *buf, size_t n)
{
    env->ops->random(env, buf, n);
}

uint64_t env_random_u64(struct env *env)
{
    uint64_t v;
    env->ops->random(env, &v, sizeof(v));
    return v;
}

int env_timer_init(struct env *env, struct env_timer *timer)
{
    void *data = timer->data;
    *timer = (struct env_timer){.data = data, .env = env};
    int rc = env->ops->timer_init(env, timer);
    if (rc != 0) {
        timer->env = NULL; /* closing it does nothing then */
    }
    return rc;
}

void env_timer_start(struct env_timer *timer, uint64_t delay_us, env_timer_cb cb)
{
    assert(timer->env != NULL && cb != NULL);
    timer->cb = cb;
    timer->env->ops->timer_start(timer, delay_us);
}

void env_timer_stop(struct env_timer *timer)
{
    if (timer->env != NULL) {
        timer->env->ops->timer_stop(timer);
    }
}

void env_timer_close(struct env_timer *timer)
{
    if (timer->env != NULL) {
        timer->env->ops->timer_close(timer);
        *timer = (struct env_timer){.data = timer->data};
    }
}

void env_defer(struct env *env, struct env_defer *defer, env_defer_cb cb)
{
    defer->cb = cb;
    if (!defer->scheduled) {
        defer->scheduled = true;
        list_push_back(env->ops->deferred(env), &defer->link);
    }
}

void env_defer_cancel(struct env_defer *defer)
{
    if (defer->scheduled) {
        defer->scheduled = false;
        list_remove(&defer->link);
    }
}

void env_run_deferred(struct list *deferred)
{
    struct list batch;
    list_init(&batch);
    list_move_all(&batch, deferred);
    for (struct list *it; (it = list_pop(&batch)) != NULL;) {
        struct env_defer *d = list_entry(it, struct env_defer, link);
        d->scheduled = false;
        d->cb(d);
    }
}

void env_post(struct env *env, struct env_post *post, env_post_cb cb)
{
    env->ops->post(env, post, cb);
}

int env_file_open(struct env *env, const char *path, int flags, struct env_file **ret_file,
                  struct error *err)
{
    return env->ops->file_open(env, path, flags, ret_file, err);
}

void env_file_close(struct env_file *file)
{
    if (file != NULL) {
        file->env->ops->file_close(file);
    }
}

int env_file_size(struct env_file *file, uint64_t *ret_size, struct error *err)
{
    return file->env->ops->file_size(file, ret_size, err);
}

int env_file_pread(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
                   struct error *err)
{
    return file->env->ops->file_pread(file, buf, n, offset, ret_n, err);
}

int env_file_pwrite(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                    struct error *err)
{
    return file->env->ops->file_pwrite(file, buf, n, offset, err);
}

int env_file_sync(struct env_file *file, struct error *err)
{
    return fault_on(FAULT_NO_FSYNC) ? 0 : file->env->ops->file_sync(file, err);
}

int env_file_truncate(struct env_file *file, uint64_t size, struct error *err)
{
    return file->env->ops->file_truncate(file, size, err);
}

int env_file_allocate(struct env_file *file, uint64_t size, struct error *err)
{
    return file->env->ops->file_allocate(file, size, err);
}

static void io_start(struct env *env, struct env_file *file, const char *path, struct env_io *io,
                     env_io_cb cb, enum env_io_kind kind)
{
    assert(cb != NULL);
    io->cb = cb;
    io->file = file;
    io->status = 0;
    io->n_bytes = 0;
    io->sync = io->sync && !fault_on(FAULT_NO_FSYNC);
    env->ops->io_start(env, file, path, io, kind);
}

void env_file_write(struct env_file *file, struct env_io *io, env_io_cb cb)
{
    io_start(file->env, file, NULL, io, cb, ENV_IO_WRITE);
}

void env_file_read(struct env_file *file, struct env_io *io, env_io_cb cb)
{
    io_start(file->env, file, NULL, io, cb, ENV_IO_READ);
}

void env_file_allocate_start(struct env_file *file, struct env_io *io, env_io_cb cb)
{
    io_start(file->env, file, NULL, io, cb, ENV_IO_ALLOCATE);
}

void env_dir_sync_start(struct env *env, const char *path, struct env_io *io, env_io_cb cb)
{
    io_start(env, NULL, fault_on(FAULT_NO_DIR_SYNC) ? "/" : path, io, cb, ENV_IO_DIR_SYNC);
}

void env_path_size_start(struct env *env, const char *path, struct env_io *io, env_io_cb cb)
{
    io_start(env, NULL, path, io, cb, ENV_IO_PATH_SIZE);
}

void env_file_wait(struct env_file *file)
{
    file->env->ops->file_wait(file);
}

int env_dir_make(struct env *env, const char *path, struct error *err)
{
    return env->ops->dir_make(env, path, err);
}

int env_dir_sync(struct env *env, const char *path, struct error *err)
{
    return fault_on(FAULT_NO_DIR_SYNC) ? 0 : env->ops->dir_sync(env, path, err);
}

int env_dir_list(struct env *env, const char *path, env_dir_cb cb, void *data, struct error *err)
{
    return env->ops->dir_list(env, path, cb, data, err);
}

int env_dir_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err)
{
    return env->ops->dir_free_bytes(env, path, ret_bytes, err);
}

int env_rename(struct env *env, const char *from, const char *to, struct error *err)
{
    return env->ops->rename(env, from, to, err);
}

int env_unlink(struct env *env, const char *path, struct error *err)
{
    return env->ops->unlink(env, path, err);
}

int env_listen(struct env *env, const char *host, uint16_t port, env_accept_cb cb, void *data,
               struct env_listener **ret_listener, struct error *err)
{
    return env->ops->listen(env, host, port, cb, data, ret_listener, err);
}

void *env_listener_data(const struct env_listener *listener)
{
    return listener->data;
}

uint16_t env_listener_port(const struct env_listener *listener)
{
    return listener->port;
}

void env_listener_close(struct env_listener *listener)
{
    if (listener != NULL) {
        listener->env->ops->listener_close(listener);
    }
}

int env_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb, void *data,
                struct env_stream **ret_stream, struct error *err)
{
    return env->ops->connect(env, host, port, cb, data, ret_stream, err);
}

void *env_stream_data(const struct env_stream *stream)
{
    return stream->data;
}

void env_stream_set_data(struct env_stream *stream, void *data)
{
    stream->data = data;
}

struct env *env_stream_env(const struct env_stream *stream)
{
    return stream->env;
}

const char *env_stream_peer(const struct env_stream *stream)
{
    return stream->peer;
}

void env_stream_read_start(struct env_stream *stream, env_read_cb cb)
{
    stream->env->ops->stream_read_start(stream, cb);
}

void env_stream_read_stop(struct env_stream *stream)
{
    stream->env->ops->stream_read_stop(stream);
}

void env_stream_send(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
                     unsigned n_iov, env_send_cb cb)
{
    assert(n_iov <= SEND_IOV_MAX && cb != NULL);
    send->cb = cb;
    stream->env->ops->stream_send(stream, send, iov, n_iov);
}

ssize_t env_stream_try_send(struct env_stream *stream, const struct iovec *iov, unsigned n_iov)
{
    return stream->env->ops->stream_try_send(stream, iov, n_iov);
}

size_t env_stream_queued_bytes(const struct env_stream *stream)
{
    return stream->env->ops->stream_queued_bytes(stream);
}

void env_stream_close(struct env_stream *stream, env_close_cb cb, void *data)
{
    stream->env->ops->stream_close(stream, cb, data);
}

int env_stream_detach_fd(struct env_stream *stream)
{
    return stream->env->ops->stream_detach_fd(stream);
}
