#include "base/env_uv.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/env_uv_priv.h"

int env_uv_status(int uv_status)
{
    switch (uv_status) {
    case UV_EOF:
    case UV_ECANCELED:
        return WEIR_ECLOSED;
    case UV_EAI_AGAIN:
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_FAIL:
    case UV_EAI_FAMILY:
    case UV_EAI_ADDRFAMILY:
        return WEIR_ENOTFOUND;
    case UV_EAI_MEMORY:
        return WEIR_ENOMEM;
    default:
        return uv_status >= 0 ? 0 : error_from_errno(-uv_status);
    }
}

/* --- Clock and randomness --- */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    int rc = clock_gettime(id, &ts);
    assert(rc == 0);
    (void)rc;
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static uint64_t uv_env_now_ns(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_MONOTONIC);
}

static int64_t uv_env_wall_ms(struct env *env)
{
    (void)env;
    return (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000U);
}

static void uv_env_random(struct env *env, void *buf, size_t n)
{
    (void)env;
    uint8_t *p = buf;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        assert(got > 0 || errno == EINTR);
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

/* --- Timers --- */

/* Apart from the caller's memory, because libuv lets go of a handle only after a turn of the loop.
 */
struct timer_handle {
    uv_timer_t uv;
    struct env_timer *owner; /* NULL once closed */
    struct env_uv *env;
};

static int timer_init(struct env *env, struct env_timer *timer)
{
    struct timer_handle *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return WEIR_ENOMEM;
    }
    h->owner = timer;
    h->env = env_uv_of(env);
    h->uv.data = h;
    int rc = uv_timer_init(h->env->loop, &h->uv);
    assert(rc == 0);
    (void)rc;
    h->env->n_handles++;
    timer->impl = h;
    return 0;
}

static void on_timer(uv_timer_t *uv)
{
    struct timer_handle *h = uv->data;
    h->owner->cb(h->owner);
}

static void timer_start(struct env_timer *timer, uint64_t delay_us)
{
    struct timer_handle *h = timer->impl;
    /* libuv counts from its own, cached millisecond. From the real now, rounded up, so that it is
     * never early. */
    uint64_t due_us = clock_ns(CLOCK_MONOTONIC) / 1000 + delay_us;
    uint64_t due_ms = delay_us == 0 ? 0 : due_us / 1000 + 1;
    uint64_t base_ms = uv_now(h->env->loop);
    int rc = uv_timer_start(&h->uv, on_timer, due_ms > base_ms ? due_ms - base_ms : 0, 0);
    assert(rc == 0);
    (void)rc;
}

static void timer_stop(struct env_timer *timer)
{
    struct timer_handle *h = timer->impl;
    (void)uv_timer_stop(&h->uv);
}

static void on_timer_closed(uv_handle_t *uv)
{
    struct timer_handle *h = uv->data;
    h->env->n_handles--;
    free(h);
}

static void timer_close(struct env_timer *timer)
{
    struct timer_handle *h = timer->impl;
    h->owner = NULL;
    uv_close((uv_handle_t *)&h->uv, on_timer_closed);
}

/* --- Deferred and posted calls --- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* its being active is the point */
}

static struct list *uv_env_deferred(struct env *env)
{
    struct env_uv *e = env_uv_of(env);
    if (!uv_is_active((uv_handle_t *)&e->idle)) {
        (void)uv_idle_start(&e->idle, on_idle);
    }
    return &e->deferred;
}

static void run_deferred(struct env_uv *e)
{
    env_run_deferred(&e->deferred);
    if (list_empty(&e->deferred)) {
        (void)uv_idle_stop(&e->idle);
    }
}

/* Before the loop blocks: what timers and closings deferred. */
static void on_prepare(uv_prepare_t *prepare)
{
    run_deferred(prepare->data);
}

/* After it blocked: what reads and completions deferred. */
static void on_check(uv_check_t *check)
{
    run_deferred(check->data);
}

static void uv_env_post(struct env *env, struct env_post *post, env_post_cb cb)
{
    struct env_uv *e = env_uv_of(env);
    pthread_mutex_lock(&e->post_lock);
    if (!post->posted) {
        post->posted = true;
        post->cb = cb;
        list_push_back(&e->posts, &post->link);
    }
    /* Under the lock: once the call has run, this env may be gone. */
    (void)uv_async_send(&e->async);
    pthread_mutex_unlock(&e->post_lock);
}

/* Those that are posted meanwhile wait for the next turn. */
static void run_posted(struct env_uv *e)
{
    struct list posts;
    list_init(&posts);
    pthread_mutex_lock(&e->post_lock);
    list_move_all(&posts, &e->posts);
    while (!list_empty(&posts)) {
        struct env_post *post = list_entry(list_pop(&posts), struct env_post, link);
        post->posted = false;
        env_post_cb cb = post->cb;
        pthread_mutex_unlock(&e->post_lock);
        cb(post);
        pthread_mutex_lock(&e->post_lock);
    }
    pthread_mutex_unlock(&e->post_lock);
}

static void on_async(uv_async_t *async)
{
    struct env_uv *e = async->data;
    run_posted(e);
    io_pool_reap(&e->pool);
}

/* --- Life --- */

static const struct env_ops uv_ops = {
    .now_ns = uv_env_now_ns,
    .wall_ms = uv_env_wall_ms,
    .random = uv_env_random,
    .timer_init = timer_init,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .timer_close = timer_close,
    .deferred = uv_env_deferred,
    .post = uv_env_post,
    .file_open = disk_open,
    .file_close = disk_close,
    .file_size = disk_size,
    .file_pread = disk_pread,
    .file_pwrite = disk_pwrite,
    .file_sync = disk_sync,
    .file_truncate = disk_truncate,
    .file_allocate = disk_allocate,
    .io_start = io_pool_start,
    .file_wait = io_pool_wait,
    .dir_make = disk_dir_make,
    .dir_sync = disk_dir_sync,
    .dir_list = disk_dir_list,
    .dir_free_bytes = disk_dir_free_bytes,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .listen = net_listen,
    .listener_close = net_listener_close,
    .connect = net_connect,
    .stream_read_start = net_read_start,
    .stream_read_stop = net_read_stop,
    .stream_send = net_send,
    .stream_try_send = net_try_send,
    .stream_queued_bytes = net_queued_bytes,
    .stream_close = net_stream_close,
    .stream_detach_fd = net_detach_fd,
};

int env_uv_new(struct uv_loop_s *loop, struct env **ret_env, struct error *err)
{
    struct env_uv *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return error_set(err, WEIR_ENOMEM, "env: out of memory");
    }
    e->base.ops = &uv_ops;
    e->loop = loop;
    /* The one that can fail (it may need a pipe or eventfd) goes first: nothing is to be undone. */
    int rc = uv_async_init(loop, &e->async, on_async);
    if (rc != 0) {
        free(e);
        return error_set(err, env_uv_status(rc), "env: wake-up channel: %s", uv_strerror(rc));
    }
    (void)uv_prepare_init(loop, &e->prepare);
    (void)uv_check_init(loop, &e->check);
    (void)uv_idle_init(loop, &e->idle);
    e->async.data = e->prepare.data = e->check.data = e->idle.data = e;
    e->n_handles = 4;
    (void)uv_prepare_start(&e->prepare, on_prepare);
    (void)uv_check_start(&e->check, on_check);
    list_init(&e->deferred);
    list_init(&e->posts);
    pthread_mutex_init(&e->post_lock, NULL);
    io_pool_init(&e->pool);
    /* A peer that went away must be an error of the write, not the end of the process. */
    (void)signal(SIGPIPE, SIG_IGN);
    *ret_env = &e->base;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct env_uv *e = handle->data;
    e->n_handles--;
}

void env_uv_free(struct env *env)
{
    if (env == NULL) {
        return;
    }
    struct env_uv *e = env_uv_of(env);
    io_pool_close(&e->pool);
    io_pool_reap(&e->pool);
    uv_close((uv_handle_t *)&e->async, on_closed);
    uv_close((uv_handle_t *)&e->prepare, on_closed);
    uv_close((uv_handle_t *)&e->check, on_closed);
    uv_close((uv_handle_t *)&e->idle, on_closed);
    while (e->n_handles > 0) {
        (void)uv_run(e->loop, UV_RUN_ONCE);
    }
    assert(list_empty(&e->posts));
    pthread_mutex_destroy(&e->post_lock);
    free(e);
}

struct uv_loop_s *env_uv_loop(struct env *env)
{
    return env_uv_of(env)->loop;
}
