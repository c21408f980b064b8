/* The io threads. A file with requests stands in the ready list; a thread takes it, carries out its
 * first request and puts it back at the end: order within a file, fairness between files.
 * Completions gather in one list and wake the loop once. */
#include <assert.h>

#include "base/env_uv_priv.h"

static struct env_uv *env_of_pool(struct io_pool *pool)
{
    return container_of(pool, struct env_uv, pool);
}

static void queue_init(struct io_pool *pool, struct env_uv_file *queue)
{
    queue->base.env = &env_of_pool(pool)->base;
    queue->fd = -1;
    list_init(&queue->queue);
    list_init(&queue->ready);
}

void io_pool_init(struct io_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    list_init(&pool->ready);
    list_init(&pool->done);
    queue_init(pool, &pool->dirs);
    queue_init(pool, &pool->names);
}

static void complete(struct io_pool *pool, struct env_io *io, int status)
{
    io->status = status;
    bool wake = list_empty(&pool->done);
    list_push_back(&pool->done, &io->link);
    if (wake) {
        (void)uv_async_send(&env_of_pool(pool)->async);
    }
}

/* Carries out the first request of the first ready file. Lock held; released while on the disk. */
static void work_once(struct io_pool *pool)
{
    struct env_uv_file *file = list_entry(list_pop(&pool->ready), struct env_uv_file, ready);
    struct env_io *io = list_entry(list_pop(&file->queue), struct env_io, link);
    file->running = true;
    pthread_mutex_unlock(&pool->lock);
    int status = disk_perform(file, io);
    pthread_mutex_lock(&pool->lock);
    file->running = false;
    if (!list_empty(&file->queue)) {
        list_push_back(&pool->ready, &file->ready);
        pthread_cond_signal(&pool->work);
    } else {
        pthread_cond_broadcast(&pool->idle);
    }
    complete(pool, io, status);
}

static void *io_thread(void *arg)
{
    struct io_pool *pool = arg;
    (void)pthread_setname_np(pthread_self(), "weir-io");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (list_empty(&pool->ready) && !pool->stopping) {
            pthread_cond_wait(&pool->work, &pool->lock);
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
    struct env_uv_file *f = file != NULL              ? container_of(file, struct env_uv_file, base)
                            : kind == ENV_IO_DIR_SYNC ? &pool->dirs
                                                      : &pool->names;
    io->impl[0] = (void *)(uintptr_t)kind;
    io->impl[1] = (void *)(uintptr_t)path;
    if (pool->n_threads == 0) {
        start_threads(pool);
    }
    pthread_mutex_lock(&pool->lock);
    bool waiting = f->running || !list_empty(&f->queue);
    list_push_back(&f->queue, &io->link);
    if (!waiting) {
        list_push_back(&pool->ready, &f->ready);
        pthread_cond_signal(&pool->work);
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
        pthread_cond_wait(&pool->idle, &pool->lock);
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
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    /* The lock is used once more, by the last reap; a pthread mutex needs no destruction on Linux.
     */
}
