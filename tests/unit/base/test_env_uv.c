#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "base/env_uv.h"

static uv_loop_t loop;
static struct env *env;
static char dir[64];
static unsigned steps;
static bool
    starved; /* no memory on this thread; the linker puts __wrap_calloc in front of calloc */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return starved ? NULL : __real_calloc(n, size);
}

static int setup(void **state)
{
    (void)state;
    struct error err;
    steps = 0;
    (void)snprintf(dir, sizeof(dir), "/tmp/weir-env-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, &err), 0);
    return 0;
}

static int remove_name(void *data, const char *name)
{
    (void)data;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return env_unlink(env, path, NULL);
}

static int teardown(void **state)
{
    (void)state;
    (void)env_dir_list(env, dir, remove_name, NULL, NULL);
    (void)rmdir(dir);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void run_until(const unsigned *n, unsigned until)
{
    while (*n < until) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
}

static char *path_of(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

/* --- Timers, deferred and posted calls --- */

static void count_timer(struct env_timer *t)
{
    (void)t;
    steps++;
}

static void timer__is_never_early(void **state)
{
    (void)state;
    struct env_timer timer = {0};
    assert_int_equal(env_timer_init(env, &timer), 0);
    uint64_t begin = env_now_ns(env);
    env_timer_start(&timer, 2500, count_timer);
    run_until(&steps, 1);
    assert_true(env_now_ns(env) - begin >= 2500000);
    env_timer_start(&timer, 1000000000, count_timer);
    env_timer_close(&timer);
    env_timer_close(&timer);
}

struct chain {
    struct env_defer defer;
    unsigned left;
};

static void run_chain(struct env_defer *defer)
{
    struct chain *c = defer->data;
    steps++;
    if (c->left-- > 0) {
        env_defer(env, defer, run_chain);
    }
}

static void defer__runs_before_the_loop_blocks_also_when_deferred_by_a_deferred_call(void **state)
{
    (void)state;
    struct chain c = {.left = 3};
    c.defer.data = &c;
    env_defer(env, &c.defer, run_chain);
    env_defer(env, &c.defer, run_chain);
    assert_int_equal(steps, 0);
    while (steps < 4) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_false(c.defer.scheduled);
    env_defer(env, &c.defer, run_chain);
    env_defer_cancel(&c.defer);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(steps, 4);
}

static struct env_post posts[1000];

static void on_post(struct env_post *post)
{
    assert_int_equal(post - posts, steps);
    steps++;
}

static void *post_many(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof(posts) / sizeof(posts[0]); i++) {
        env_post(env, &posts[i], on_post);
    }
    return NULL;
}

static void post__runs_on_the_loop_in_order(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, post_many, NULL), 0);
    run_until(&steps, 1000);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static _Thread_local unsigned locks;
static _Atomic unsigned n_wakes, n_late_wakes; /* late: without a lock */

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __real_uv_async_send(uv_async_t *async);
int __wrap_uv_async_send(uv_async_t *async);

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    int rc = __real_pthread_mutex_lock(mutex);
    locks++;
    return rc;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    locks--;
    return __real_pthread_mutex_unlock(mutex);
}

int __wrap_uv_async_send(uv_async_t *async)
{
    n_wakes++;
    n_late_wakes += locks == 0;
    return __real_uv_async_send(async);
}

/* What runs there may be the env's last call, and another thread's wake-up may let it run. */
static void post__does_not_touch_the_env_once_it_can_run(void **state)
{
    (void)state;
    n_wakes = n_late_wakes = 0;
    env_post(env, &posts[0], on_post);
    run_until(&steps, 1);
    assert_int_equal(n_wakes, 1);
    assert_int_equal(n_late_wakes, 0);
}

static void post_again_once(struct env_post *post)
{
    if (steps++ == 0) {
        env_post(env, post, post_again_once);
    }
}

static void post__again_before_it_runs_is_one_call(void **state)
{
    (void)state;
    struct env_post post = {0};
    env_post(env, &post, post_again_once);
    env_post(env, &post, post_again_once);
    run_until(&steps, 2);
    for (unsigned i = 0; i < 10; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(steps, 2);
    assert_false(post.posted);
}

/* --- Disk --- */

static void on_io(struct env_io *io, int status)
{
    assert_int_equal(status, 0);
    assert_int_equal((unsigned)(uintptr_t)io->data, steps);
    steps++;
}

static void file__requests_complete_in_order_and_read_back(void **state)
{
    (void)state;
    struct error err;
    struct env_file *file;
    assert_int_equal(
        env_file_open(env, path_of("f"), ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, &err), 0);
    char a[] = "hello ", b[] = "world", got[16] = {0};
    struct iovec out[2] = {{a, 6}, {b, 5}}, in = {got, sizeof(got)};
    struct env_io io[4] = {{.iov = out, .n_iov = 2, .sync = true, .data = (void *)0},
                           {.iov = out, .n_iov = 1, .offset = 11, .data = (void *)1},
                           {.iov = &in, .n_iov = 1, .offset = 6, .data = (void *)2},
                           {.sync = true, .offset = 4096, .data = (void *)3}};
    env_file_write(file, &io[0], on_io);
    env_file_write(file, &io[1], on_io);
    env_file_read(file, &io[2], on_io);
    env_file_allocate_start(file, &io[3], on_io);
    assert_int_equal(steps, 0);
    env_file_wait(file);
    assert_int_equal(steps, 0);
    run_until(&steps, 4);
    assert_int_equal(io[2].n_bytes, 11);
    assert_string_equal(got, "worldhello ");
    uint64_t size;
    assert_int_equal(env_file_size(file, &size, &err), 0);
    assert_int_equal(size, 4096);
    env_file_close(file);
}

static void on_failed_io(struct env_io *io, int status)
{
    (void)io;
    assert_true(status < 0);
    steps++;
}

static void file__error_comes_with_the_callback(void **state)
{
    (void)state;
    struct error err;
    struct env_file *file;
    assert_int_equal(
        env_file_open(env, path_of("f"), ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, &err), 0);
    env_file_close(file);
    assert_int_equal(env_file_open(env, path_of("f"), ENV_OPEN_READ, &file, &err), 0);
    char a[] = "x";
    struct iovec iov = {a, 1};
    struct env_io io = {.iov = &iov, .n_iov = 1};
    env_file_write(file, &io, on_failed_io);
    run_until(&steps, 1);
    env_file_close(file);
    struct env_io sync = {0};
    env_dir_sync_start(env, "/nowhere/at/all", &sync, on_failed_io);
    run_until(&steps, 2);
}

static void on_size(struct env_io *io, int status)
{
    io->status = status;
    steps++;
}

static void path_size__is_that_of_the_file_or_not_found(void **state)
{
    (void)state;
    struct error err;
    struct env_file *file;
    assert_int_equal(
        env_file_open(env, path_of("f"), ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, &err), 0);
    assert_int_equal(env_file_pwrite(file, "seven..", 7, 0, &err), 0);
    env_file_close(file);
    char there[512], absent[512];
    (void)snprintf(there, sizeof(there), "%s", path_of("f"));
    (void)snprintf(absent, sizeof(absent), "%s", path_of("no"));
    struct env_io a = {0}, b = {0};
    env_path_size_start(env, there, &a, on_size);
    env_path_size_start(env, absent, &b, on_size);
    run_until(&steps, 2);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.offset, 7);
    assert_int_equal(b.status, WEIR_ENOTFOUND);
}

static void file__names_have_errors_of_their_own(void **state)
{
    (void)state;
    struct error err;
    struct env_file *file, *second;
    const int create = ENV_OPEN_WRITE | ENV_OPEN_CREATE;
    assert_int_equal(env_file_open(env, path_of("no"), ENV_OPEN_READ, &file, &err), WEIR_ENOTFOUND);
    assert_int_equal(env_file_open(env, path_of("f"), create | ENV_OPEN_LOCK, &file, &err), 0);
    assert_int_equal(env_file_open(env, path_of("f"), create | ENV_OPEN_EXCL, &second, &err),
                     WEIR_EEXISTS);
    assert_int_equal(env_file_open(env, path_of("f"), create | ENV_OPEN_LOCK, &second, &err),
                     WEIR_EBUSY);
    env_file_close(file);
    assert_int_equal(env_unlink(env, path_of("no"), &err), WEIR_ENOTFOUND);
    assert_int_equal(env_dir_make(env, path_of("f"), &err), WEIR_EEXISTS);
    assert_int_equal(env_dir_make(env, dir, &err), 0);
}

static void file__many_pieces_survive_short_counts(void **state)
{
    (void)state;
    enum { PIECES = 300, SIZE = 1001 };
    static uint8_t out[PIECES][SIZE], in[PIECES * SIZE];
    struct iovec iov[PIECES];
    struct error err;
    struct env_file *file;
    for (unsigned i = 0; i < PIECES; i++) {
        memset(out[i], (int)i, SIZE);
        iov[i] = (struct iovec){out[i], SIZE};
    }
    assert_int_equal(
        env_file_open(env, path_of("f"), ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, &err), 0);
    struct env_io io = {.iov = iov, .n_iov = PIECES, .offset = 7, .sync = true, .data = (void *)0};
    env_file_write(file, &io, on_io);
    run_until(&steps, 1);
    size_t n;
    assert_int_equal(env_file_pread(file, in, sizeof(in), 7, &n, &err), 0);
    assert_int_equal(n, sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    /* At the limit of a file's size the kernel takes a part of a write, then refuses the rest. */
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 500000;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct env_io cut = {.iov = iov, .n_iov = PIECES, .offset = 400000, .sync = true};
    env_file_write(file, &cut, on_failed_io);
    run_until(&steps, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(cut.status, -EFBIG);
    assert_int_equal(env_file_pread(file, in, sizeof(in), 400000, &n, &err), 0);
    assert_int_equal(n, 100000);
    assert_memory_equal(in, out, n);
    env_file_close(file);
}

/* --- Sockets --- */

struct side {
    struct env_stream *stream;
    uint64_t received, sent;
    int end;
};
static struct side server, client;
static unsigned closed;

static void on_server_read(struct env_stream *s, const uint8_t *data, size_t n, int status)
{
    (void)s;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(data[i], (uint8_t)(server.received + i));
    }
    server.received += n;
    server.end = status != 0 ? status : server.end;
    steps++;
}

static void on_accept(struct env_listener *l, struct env_stream *s)
{
    assert_ptr_equal(env_listener_data(l), &server);
    server.stream = s;
    assert_memory_equal(env_stream_peer(s), "127.0.0.1:", 10);
    env_stream_read_start(s, on_server_read);
    steps++;
}

static void on_connect(struct env_stream *s, int status)
{
    assert_ptr_equal(env_stream_data(s), &client);
    client.end = status;
    steps++;
}

static void on_sent(struct env_send *send, int status)
{
    assert_int_equal(status, 0);
    client.sent += (uintptr_t)send->data;
    steps++;
}

static void on_cancelled(struct env_send *send, int status)
{
    (void)send;
    assert_int_equal(status, WEIR_ECLOSED);
    assert_int_equal(closed, 0);
    client.sent = UINT64_MAX;
}

static void on_close(void *data)
{
    (void)data;
    closed++;
}

static struct env_listener *connect_pair(const char *host)
{
    struct error err;
    struct env_listener *listener;
    memset(&server, 0, sizeof(server));
    memset(&client, 0, sizeof(client));
    closed = 0;
    assert_int_equal(env_listen(env, "127.0.0.1", 0, on_accept, &server, &listener, &err), 0);
    assert_int_equal(env_connect(env, host, env_listener_port(listener), on_connect, &client,
                                 &client.stream, &err),
                     0);
    run_until(&steps, 2);
    assert_int_equal(client.end, 0);
    return listener;
}

static void stream__large_sends_arrive_in_order(void **state)
{
    (void)state;
    struct env_listener *listener = connect_pair("localhost");
    enum { PIECE = 1 << 20, PIECES = 8 };
    uint8_t *data = malloc(PIECE);
    assert_non_null(data);
    for (size_t i = 0; i < PIECE; i++) {
        data[i] = (uint8_t)i;
    }
    struct env_send sends[PIECES] = {0};
    for (unsigned i = 0; i < PIECES; i++) {
        struct iovec iov[2] = {{data, 1000}, {data + 1000, PIECE - 1000}};
        sends[i].data = (void *)(uintptr_t)PIECE;
        env_stream_send(client.stream, &sends[i], iov, 2, on_sent);
    }
    assert_int_equal(client.sent, 0);
    assert_true(env_stream_queued_bytes(client.stream) > 0);
    struct iovec one = {data, 1};
    assert_int_equal(env_stream_try_send(client.stream, &one, 1), 0);
    while (client.sent < PIECE * PIECES || server.received < PIECE * PIECES) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(env_stream_try_send(client.stream, &one, 1), 1);
    env_stream_close(client.stream, on_close, NULL);
    while (server.end == 0 || closed == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(server.end, WEIR_ECLOSED);
    env_stream_close(server.stream, NULL, NULL);
    env_listener_close(listener);
    free(data);
}

static void stream__close_completes_queued_sends_first(void **state)
{
    (void)state;
    struct env_listener *listener = connect_pair("127.0.0.1");
    env_stream_read_stop(server.stream);
    size_t n = 64 << 20;
    uint8_t *data = calloc(1, n);
    assert_non_null(data);
    struct iovec iov = {data, n};
    struct env_send send = {0};
    env_stream_send(client.stream, &send, &iov, 1, on_cancelled);
    env_stream_close(client.stream, on_close, NULL);
    run_until(&closed, 1);
    assert_true(client.sent == UINT64_MAX);
    env_stream_close(server.stream, NULL, NULL);
    env_listener_close(listener);
    free(data);
}

static void stream__detached_descriptor_stays_open(void **state)
{
    (void)state;
    struct env_listener *listener = connect_pair("127.0.0.1");
    int fd = env_stream_detach_fd(client.stream);
    assert_true(fd >= 0);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    const uint8_t data[3] = {0, 1, 2};
    assert_int_equal(write(fd, data, 3), 3);
    while (server.received < 3) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    (void)close(fd);
    while (server.end == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    env_stream_close(server.stream, NULL, NULL);
    env_listener_close(listener);
}

static void listen__occupied_port_and_unknown_host_are_named(void **state)
{
    (void)state;
    struct env_listener *listener = connect_pair("127.0.0.1"), *second;
    struct error err;
    char expected[64];
    (void)snprintf(expected, sizeof(expected), "listen on 127.0.0.1:%u: address already in use",
                   env_listener_port(listener));
    assert_int_equal(
        env_listen(env, "127.0.0.1", env_listener_port(listener), on_accept, NULL, &second, &err),
        -EADDRINUSE);
    assert_string_equal(err.text, expected);
    assert_int_equal(env_listen(env, "localhost", 0, on_accept, NULL, &second, &err), 0);
    env_listener_close(second);
    assert_int_equal(env_listen(env, "no.such.host.invalid", 1, on_accept, NULL, &second, &err),
                     WEIR_ENOTFOUND);
    env_stream_close(client.stream, NULL, NULL);
    env_stream_close(server.stream, NULL, NULL);
    env_listener_close(listener);
}

static void connect__refused_and_unknown_names_come_with_the_callback(void **state)
{
    (void)state;
    struct env_listener *listener = connect_pair("127.0.0.1");
    uint16_t port = env_listener_port(listener);
    env_stream_close(client.stream, NULL, NULL);
    env_stream_close(server.stream, NULL, NULL);
    env_listener_close(listener);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    steps = 0;
    assert_int_equal(env_connect(env, "127.0.0.1", port, on_connect, &client, &client.stream, NULL),
                     0);
    run_until(&steps, 1);
    assert_int_equal(client.end, -ECONNREFUSED);
    env_stream_close(client.stream, NULL, NULL);
    /* Closed while its name is looked up: no callback but that of the close. */
    assert_int_equal(env_connect(env, "localhost", port, on_connect, &client, &client.stream, NULL),
                     0);
    env_stream_close(client.stream, on_close, NULL);
    run_until(&closed, 1);
    assert_int_equal(steps, 1);
}

static void on_refused_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    (void)data;
    (void)n;
    (void)stream;
    assert_true(status < 0);
    steps++;
}

static void on_dialled(struct env_stream *stream, int status)
{
    assert_int_equal(status, 0);
    env_stream_read_start(stream, on_refused_read);
}

static unsigned n_taken;

static void on_taken(struct env_listener *l, struct env_stream *stream)
{
    (void)l;
    n_taken++;
    env_stream_close(stream, NULL, NULL);
}

static void listener__without_memory_refuses_and_goes_on_afterwards(void **state)
{
    (void)state;
    struct error err;
    struct env_listener *listener;
    struct env_stream *dialled[4];
    n_taken = 0;
    assert_int_equal(env_listen(env, "127.0.0.1", 0, on_taken, NULL, &listener, &err), 0);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 3) {
            starved = true;
            run_until(&steps, 3);
            starved = false;
            assert_int_equal(n_taken, 0);
        }
        assert_int_equal(env_connect(env, "127.0.0.1", env_listener_port(listener), on_dialled,
                                     NULL, &dialled[i], NULL),
                         0);
    }
    run_until(&steps, 4);
    assert_int_equal(n_taken, 1);
    for (unsigned i = 0; i < 4; i++) {
        env_stream_close(dialled[i], NULL, NULL);
    }
    env_listener_close(listener);
}

/* --- Logs, written past the page cache --- */

#define LOG_SIZE  (3u << 20)
#define LOG_BLOCK 4096u

static uint8_t log_want[2 * LOG_SIZE], log_have[2 * LOG_SIZE];

static void log_written(struct env_io *io, int status)
{
    (void)io;
    assert_int_equal(status, 0);
    steps++;
}

static void log_write(struct env_file *file, uint64_t at, size_t n)
{
    struct iovec iov[3];
    struct env_io io = {.iov = iov, .n_iov = 3, .offset = at, .sync = true};
    size_t cut = n / 3;
    for (size_t i = 0; i < n; i++) {
        log_want[at + i] = (uint8_t)(1 + (at + i) % 251);
    }
    iov[0] = (struct iovec){log_want + at, cut};
    iov[1] = (struct iovec){log_want + at + cut, 0};
    iov[2] = (struct iovec){log_want + at + cut, n - cut};
    steps = 0;
    env_file_write(file, &io, log_written);
    run_until(&steps, 1);
}

static void assert_log(struct env_file *file)
{
    struct error err;
    size_t n = 0;
    assert_int_equal(env_file_pread(file, log_have, sizeof(log_have), 0, &n, &err), 0);
    assert_in_range(n, LOG_SIZE, sizeof(log_have));
    assert_memory_equal(log_have, log_want, n);
}

static void log_file__holds_what_was_appended_and_zeros_behind(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        1, 8, 47, 4000, LOG_BLOCK, 5, 200000, 3 * LOG_BLOCK - 8, 1 << 20, 1300000, 9};
    struct env_file *file;
    struct error err;
    const int flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_APPEND;
    uint64_t at = LOG_BLOCK;
    memset(log_want, 0, sizeof(log_want));
    assert_int_equal(env_file_open(env, path_of("log"), flags, &file, &err), 0);
    assert_int_equal(env_file_allocate(file, LOG_SIZE, &err), 0);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        log_write(file, at, sizes[i]);
        at += sizes[i];
        assert_log(file);
        if (i % 3 == 1) { /* what the block before holds has to be read again */
            env_file_close(file);
            assert_int_equal(env_file_open(env, path_of("log"), flags, &file, &err), 0);
        }
    }
    env_file_close(file);
}

static void log_file__goes_on_after_it_was_cut_and_changed_in_place(void **state)
{
    (void)state;
    struct env_file *file;
    struct error err;
    const int flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_APPEND;
    memset(log_want, 0, sizeof(log_want));
    assert_int_equal(env_file_open(env, path_of("log"), flags, &file, &err), 0);
    assert_int_equal(env_file_allocate(file, LOG_SIZE, &err), 0);
    log_write(file, LOG_BLOCK, 10000);
    /* Cut in the middle of the last block, then reserve again. */
    memset(log_want + LOG_BLOCK + 9000, 0, 1000);
    assert_int_equal(env_file_truncate(file, LOG_BLOCK + 9000, &err), 0);
    assert_int_equal(env_file_allocate(file, LOG_SIZE, &err), 0);
    memset(log_want + LOG_BLOCK + 8990, 77, 5);
    assert_int_equal(env_file_pwrite(file, log_want + LOG_BLOCK + 8990, 5, LOG_BLOCK + 8990, &err),
                     0);
    log_write(file, LOG_BLOCK + 9000, 300);
    assert_log(file);
    env_file_close(file);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(log_file__holds_what_was_appended_and_zeros_behind),
        T(log_file__goes_on_after_it_was_cut_and_changed_in_place),
        T(timer__is_never_early),
        T(defer__runs_before_the_loop_blocks_also_when_deferred_by_a_deferred_call),
        T(post__runs_on_the_loop_in_order),
        T(post__again_before_it_runs_is_one_call),
        T(post__does_not_touch_the_env_once_it_can_run),
        T(file__requests_complete_in_order_and_read_back),
        T(file__error_comes_with_the_callback),
        T(file__names_have_errors_of_their_own),
        T(path_size__is_that_of_the_file_or_not_found),
        T(file__many_pieces_survive_short_counts),
        T(stream__large_sends_arrive_in_order),
        T(stream__close_completes_queued_sends_first),
        T(stream__detached_descriptor_stays_open),
        T(listen__occupied_port_and_unknown_host_are_named),
        T(listener__without_memory_refuses_and_goes_on_afterwards),
        T(connect__refused_and_unknown_names_come_with_the_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
