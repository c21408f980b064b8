/* The io threads. A file with requests stands in the ready list; a thread takes it, carries out its
 * first request and puts it back at the end: order within a file, fairness between files.
 * Completions gather in one list and wake the loop once.
 *
 * Writes that are to be durable do not keep a thread: it takes all of them that are ready and hands
 * them to the kernel (env_uv_aio.h), which tells the loop when they are done. Whatever does not go
 * that way, or did not go through, is written and synced by a thread. */
#include <assert.h>
#include <errno.h>

#include "base/env_uv_priv.h"

/* So many are handed over at once; the next thread takes the rest meanwhile. */
#define FLIGHT_MAX 8

static struct env_uv *env_of_pool(struct io_pool *pool)
{
    return container_of(pool, struct env_uv, pool);
}

void io_pool_init(struct io_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    list_init(&pool->ready);
    list_init(&pool->done);
    pool->dirs.base.env = &env_of_pool(pool)->base;
    pool->dirs.fd = -1;
    list_init(&pool->dirs.queue);
    list_init(&pool->dirs.ready);
}

/* --- Under the lock --- */

/* One thread that looks is enough: it wakes the next one if it leaves something. */
static void wake_thread(struct io_pool *pool)
{
    if (!list_empty(&pool->ready) && pool->n_scouts == 0 && pool->n_asleep > 0) {
        pool->n_scouts++;
        pthread_cond_signal(&pool->work);
    }
}

static void complete(struct io_pool *pool, struct env_uv_file *file, struct env_io *io, int status)
{
    file->running = file->flying = false;
    io->status = status;
    list_push_back(&pool->done, &io->link);
    if (!list_empty(&file->queue)) {
        list_push_back(&pool->ready, &file->ready);
        wake_thread(pool);
    } else {
        pthread_cond_broadcast(&pool->idle);
    }
}

/* The loop is to look at what is done, unless it was told before. */
static void tell_loop(struct io_pool *pool, bool told)
{
    if (!told && !list_empty(&pool->done)) {
        (void)uv_async_send(&env_of_pool(pool)->async);
    }
}

static struct env_io *first_of(const struct env_uv_file *file)
{
    return list_entry(file->queue.next, struct env_io, link);
}

/* --- Writes without a thread --- */

static size_t size_of(const struct env_io *io)
{
    size_t n = 0;
    for (unsigned i = 0; i < io->n_iov; i++) {
        n += io->iov[i].iov_len;
    }
    return n;
}

/* The slot for the first request of a file that is ready; NULL: a thread's work. */
static struct aio_slot *slot_for(struct io_pool *pool, struct env_uv_file *file)
{
    struct env_io *io = first_of(file);
    if (pool->aio == NULL || pool->aio_refused || file->needs_thread || file->direct == NULL ||
        (enum env_io_kind)(uintptr_t)io->impl[0] != ENV_IO_WRITE || !io->sync ||
        direct_unsynced(file->direct)) {
        return NULL;
    }
    size_t n = size_of(io);
    struct aio_slot *slot = n == 0 || n > AIO_BYTES_MAX ? NULL : aio_take(pool->aio, n);
    if (slot != NULL) {
        slot->file = file;
        slot->io = io;
    }
    return slot;
}

/* It did not go, or not all of it: a thread's work, which begins anew. */
static void ground(struct io_pool *pool, struct aio_slot *slot)
{
    struct env_uv_file *file = slot->file;
    direct_forget(file->direct);
    file->running = file->flying = false;
    file->needs_thread = true;
    list_push_front(&file->queue, &slot->io->link);
    list_push_back(&pool->ready, &file->ready);
    aio_give(pool->aio, slot);
    wake_thread(pool);
}

/* The files that are ready and need no thread, up to a number. */
static unsigned take_flight(struct io_pool *pool, struct aio_slot *slots[FLIGHT_MAX])
{
    unsigned n = 0;
    LIST_FOREACH_SAFE(it, next, &pool->ready)
    {
        struct env_uv_file *file = list_entry(it, struct env_uv_file, ready);
        struct aio_slot *slot = n < FLIGHT_MAX ? slot_for(pool, file) : NULL;
        if (slot != NULL) {
            list_remove(&file->ready);
            list_remove(&slot->io->link);
            file->running = true;
            slots[n++] = slot;
        }
    }
    return n;
}

/* Moves those that can't go to the end; returns how many can. */
static unsigned stage(struct io_pool *pool, struct aio_slot *slots[], unsigned n)
{
    unsigned ok = 0;
    for (unsigned i = 0; i < n; i++) {
        struct aio_slot *slot = slots[i];
        unsigned n_iov;
        int fd;
        uint64_t offset;
        if (direct_stage(slot->file->direct, slot->io, slot->buffer, slot->room, slot->iov, &n_iov,
                         &fd, &offset)) {
            aio_aim(pool->aio, slot, fd, n_iov, offset);
            slots[i] = slots[ok];
            slots[ok++] = slot;
        }
    }
    return ok;
}

/* Lock held; released meanwhile. */
static void fly(struct io_pool *pool, struct aio_slot *slots[], unsigned n)
{
    wake_thread(pool);
    pthread_mutex_unlock(&pool->lock);
    unsigned n_staged = stage(pool, slots, n);
    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < n_staged; i++) {
        slots[i]->file->flying = true;
    }
    pthread_cond_broadcast(&pool->idle);
    pthread_mutex_unlock(&pool->lock);
    /* Those that it takes may be back, and their slots be used again, before it returns. */
    unsigned n_taken = n_staged > 0 ? aio_submit(pool->aio, slots, n_staged) : 0;
    pthread_mutex_lock(&pool->lock);
    for (unsigned i = n_taken; i < n; i++) {
        ground(pool, slots[i]);
    }
    if (n_taken < n) {
        aio_wake(pool->aio); /* whoever waits for them */
    }
}

/* A part of it was written; or nothing, for want of memory or because the kernel can't write
 * durably here. Anything else is an error of the disk. */
static bool is_for_thread(int64_t result)
{
    return result >= 0 || result == -EAGAIN || result == -ENOMEM || result == -EINVAL ||
           result == -EOPNOTSUPP;
}

static void land_one(struct io_pool *pool, const struct aio_done *done)
{
    struct aio_slot *slot = done->slot;
    if (done->result == (int64_t)slot->n_bytes) {
        complete(pool, slot->file, slot->io, 0);
    } else if (is_for_thread(done->result)) {
        pool->aio_refused |= done->result == -EINVAL || done->result == -EOPNOTSUPP;
        ground(pool, slot);
        return;
    } else {
        direct_forget(slot->file->direct);
        complete(pool, slot->file, slot->io, error_from_errno((int)-done->result));
    }
    aio_give(pool->aio, slot);
}

/* On the loop: what is back. Its callbacks are due, now or `later`. */
static void land(struct io_pool *pool, bool later)
{
    struct aio_done done[AIO_SLOTS];
    unsigned n = aio_reap(pool->aio, done);
    pthread_mutex_lock(&pool->lock);
    bool told = !list_empty(&pool->done);
    for (unsigned i = 0; i < n; i++) {
        land_one(pool, &done[i]);
    }
    tell_loop(pool, told || !later);
    pthread_mutex_unlock(&pool->lock);
}

static void on_landed(uv_poll_t *poll, int status, int events)
{
    struct io_pool *pool = poll->data;
    (void)status;
    (void)events;
    land(pool, false);
    io_pool_reap(pool);
}

/* --- Threads --- */

/* Carries out the first request of the first ready file. Lock held; released while on the disk. */
static void work_once(struct io_pool *pool)
{
    struct aio_slot *slots[FLIGHT_MAX];
    unsigned n = pool->aio != NULL ? take_flight(pool, slots) : 0;
    if (n > 0) {
        fly(pool, slots, n);
        return;
    }
    struct env_uv_file *file = list_entry(list_pop(&pool->ready), struct env_uv_file, ready);
    struct env_io *io = list_entry(list_pop(&file->queue), struct env_io, link);
    file->running = true;
    file->needs_thread = false;
    wake_thread(pool);
    pthread_mutex_unlock(&pool->lock);
    int status = disk_perform(file, io);
    pthread_mutex_lock(&pool->lock);
    bool told = !list_empty(&pool->done);
    complete(pool, file, io, status);
    tell_loop(pool, told);
}

static void *io_thread(void *arg)
{
    struct io_pool *pool = arg;
    (void)pthread_setname_np(pthread_self(), "weir-io");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (list_empty(&pool->ready) && !pool->stopping) {
            pool->n_asleep++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->n_asleep--;
            pool->n_scouts -= pool->n_scouts > 0;
        }
        if (list_empty(&pool->ready)) {
            break;
        }
        work_once(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    direct_thread_end();
    return NULL;
}

static void start_aio(struct io_pool *pool)
{
    struct env_uv *e = env_of_pool(pool);
    pool->aio = aio_new();
    if (pool->aio == NULL) {
        return;
    }
    pool->landed.data = pool;
    if (uv_poll_init(e->loop, &pool->landed, aio_fd(pool->aio)) != 0) {
        aio_free(pool->aio);
        pool->aio = NULL;
        return;
    }
    e->n_handles++;
    (void)uv_poll_start(&pool->landed, UV_READABLE, on_landed);
}

/* With fewer threads than wished it is only slower; with none the request is carried out at once,
 * on the loop. */
static void start_threads(struct io_pool *pool)
{
    while (pool->n_threads < IO_THREADS &&
           pthread_create(&pool->threads[pool->n_threads], NULL, io_thread, pool) == 0) {
        pool->n_threads++;
    }
}

void io_pool_start(struct env *env, struct env_file *file, const char *path, struct env_io *io,
                   enum env_io_kind kind)
{
    struct io_pool *pool = &env_uv_of(env)->pool;
    struct env_uv_file *f =
        file != NULL ? container_of(file, struct env_uv_file, base) : &pool->dirs;
    io->impl[0] = (void *)(uintptr_t)kind;
    io->impl[1] = (void *)(uintptr_t)path;
    if (pool->n_threads == 0) {
        start_threads(pool);
        if (pool->n_threads > 0 && pool->aio == NULL) {
            pthread_mutex_lock(&pool->lock);
            start_aio(pool);
            pthread_mutex_unlock(&pool->lock);
        }
    }
    pthread_mutex_lock(&pool->lock);
    bool waiting = f->running || !list_empty(&f->queue);
    list_push_back(&f->queue, &io->link);
    if (!waiting) {
        list_push_back(&pool->ready, &f->ready);
        wake_thread(pool);
    }
    if (pool->n_threads == 0) {
        work_once(pool);
    }
    pthread_mutex_unlock(&pool->lock);
}

void io_pool_wait(struct env_file *file)
{
    struct io_pool *pool = &env_uv_of(file->env)->pool;
    struct env_uv_file *f = container_of(file, struct env_uv_file, base);
    pthread_mutex_lock(&pool->lock);
    while (f->running || !list_empty(&f->queue)) {
        if (!f->flying) {
            pthread_cond_wait(&pool->idle, &pool->lock);
            continue;
        }
        /* It comes back to this thread only. */
        pthread_mutex_unlock(&pool->lock);
        aio_wait(pool->aio);
        land(pool, true);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

void io_pool_reap(struct io_pool *pool)
{
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&pool->lock);
    list_move_all(&done, &pool->done);
    pthread_mutex_unlock(&pool->lock);
    for (struct list *it; (it = list_pop(&done)) != NULL;) {
        struct env_io *io = list_entry(it, struct env_io, link);
        io->cb(io, io->status);
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct io_pool *pool = handle->data;
    env_of_pool(pool)->n_handles--;
}

void io_pool_close(struct io_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        pthread_join(pool->threads[i], NULL);
    }
    assert(list_empty(&pool->ready));
    if (pool->n_threads == 0) {
        direct_thread_end(); /* the loop's own thread did the work */
    }
    if (pool->aio != NULL) {
        uv_close((uv_handle_t *)&pool->landed, on_poll_closed);
        aio_free(pool->aio);
        pool->aio = NULL;
    }
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    /* The lock is used once more, by the last reap; a pthread mutex needs no destruction on Linux.
     */
}
