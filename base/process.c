#include "base/process.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <uv.h>

#include <linux/sockios.h>

#include "base/env_uv.h"

#define READ_BYTES (64u << 10)

struct process {
    struct process_events events;
    uv_process_t handle;
    uv_pipe_t pipe;
    unsigned open_handles;
    bool freed, exited, ended; /* ended: the pipe has been read to its end */
    int status, signal;
    uint8_t buffer[READ_BYTES];
};

struct write {
    uv_write_t req;
    struct process *process;
    uint8_t data[];
};

static void on_closed(uv_handle_t *handle)
{
    struct process *p = handle->data;
    if (--p->open_handles == 0 && p->freed) {
        free(p);
    }
}

static void close_pipe(struct process *p)
{
    p->ended = true;
    if (!uv_is_closing((uv_handle_t *)&p->pipe)) {
        uv_close((uv_handle_t *)&p->pipe, on_closed);
    }
}

/* Both the exit and the end of what it said are needed: they come in either order. */
static void report_exit(struct process *p)
{
    if (p->exited && p->ended && !p->freed) {
        p->events.exited(p->events.data, p->status, p->signal);
    }
}

static void on_exit_status(uv_process_t *handle, int64_t status, int signal)
{
    struct process *p = handle->data;
    p->exited = true;
    p->status = (int)status;
    p->signal = signal;
    uv_close((uv_handle_t *)handle, on_closed);
    report_exit(p);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct process *p = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)p->buffer, sizeof(p->buffer));
}

static void on_read(uv_stream_t *pipe, ssize_t n, const uv_buf_t *buf)
{
    struct process *p = pipe->data;
    if (n > 0 && !p->freed) {
        p->events.read(p->events.data, (const uint8_t *)buf->base, (size_t)n);
    } else if (n < 0) {
        close_pipe(p);
        report_exit(p);
    }
}

int process_spawn(struct env *env, const char *verb, const struct process_events *events,
                  struct process **ret_process, struct error *err)
{
    char name[] = "weir", argument[32];
    char *args[] = {name, argument, NULL};
    (void)snprintf(argument, sizeof(argument), "%s", verb);
    char *environment[] = {NULL};
    struct process *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return error_set(err, WEIR_ENOMEM, "process");
    }
    p->events = *events;
    uv_loop_t *loop = env_uv_loop(env);
    uv_pipe_init(loop, &p->pipe, 0);
    p->pipe.data = p->handle.data = p;
    p->open_handles = 2;
    uv_stdio_container_t stdio[PROCESS_FD + 1] = {
        {.flags = UV_IGNORE},
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE),
         .data.stream = (uv_stream_t *)&p->pipe},
    };
    uv_process_options_t options = {.file = "/proc/self/exe",
                                    .args = args,
                                    .env = environment,
                                    .exit_cb = on_exit_status,
                                    .stdio_count = PROCESS_FD + 1,
                                    .stdio = stdio};
    int rc = uv_spawn(loop, &p->handle, &options);
    if (rc == 0) {
        rc = uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read);
    }
    if (rc < 0) {
        if (!uv_is_active((uv_handle_t *)&p->handle)) {
            uv_close((uv_handle_t *)&p->handle, on_closed);
        }
        process_free(p);
        return error_set(err, error_from_errno(-rc), "process: %s", uv_strerror(rc));
    }
    *ret_process = p;
    return 0;
}

static void on_written(uv_write_t *req, int status)
{
    struct write *w = (struct write *)req->data;
    struct process *p = w->process;
    free(w);
    if (status == 0 && !p->freed && uv_stream_get_write_queue_size((uv_stream_t *)&p->pipe) == 0) {
        p->events.drained(p->events.data);
    }
}

int process_write(struct process *p, const uint8_t *data, size_t n)
{
    if (p->ended || uv_is_closing((uv_handle_t *)&p->pipe)) {
        return 0;
    }
    struct write *w = malloc(sizeof(*w) + n);
    if (w == NULL) {
        return WEIR_ENOMEM;
    }
    memcpy(w->data, data, n);
    w->process = p;
    w->req.data = w;
    uv_buf_t buf = uv_buf_init((char *)w->data, (unsigned)n);
    if (uv_write(&w->req, (uv_stream_t *)&p->pipe, &buf, 1, on_written) < 0) {
        free(w); /* it is gone: the exit is on its way */
    }
    return 0;
}

size_t process_queued_bytes(const struct process *p)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&p->pipe);
}

size_t process_unread_bytes(const struct process *p)
{
    uv_os_fd_t fd;
    int unread = 0;
    bool known = !p->ended && uv_fileno((const uv_handle_t *)&p->pipe, &fd) == 0 &&
                 ioctl(fd, SIOCOUTQ, &unread) == 0;
    return process_queued_bytes(p) + (known ? (size_t)unread : 0);
}

void process_read_stop(struct process *p)
{
    if (!p->ended) {
        uv_read_stop((uv_stream_t *)&p->pipe);
    }
}

void process_read_start(struct process *p)
{
    if (!p->ended) {
        (void)uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read);
    }
}

long process_pid(const struct process *p)
{
    return p->handle.pid;
}

void process_free(struct process *p)
{
    if (p == NULL) {
        return;
    }
    p->freed = true;
    if (uv_is_active((uv_handle_t *)&p->handle)) {
        (void)uv_process_kill(&p->handle, SIGKILL); /* the handle closes with the exit */
    }
    if (p->open_handles == 0) {
        free(p);
        return;
    }
    close_pipe(p);
}
