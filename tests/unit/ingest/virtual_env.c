#include "virtual_env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct virtual_timer {
    struct env_timer *timer;
    uint64_t due_us;
    struct list link; /* in no list: stopped */
};

struct virtual_send {
    struct env_send *send;
    struct list link;
};

static struct virtual_env *of(struct env *env)
{
    return container_of(env, struct virtual_env, base);
}

static struct virtual_stream *of_stream(const struct env_stream *stream)
{
    return container_of((void *)(uintptr_t)stream, struct virtual_stream, base);
}

static void *must_alloc(size_t n)
{
    void *p = calloc(1, n);
    assert_non_null(p);
    return p;
}

static uint64_t now_ns(struct env *env)
{
    return of(env)->now_us * 1000;
}

static int64_t wall_ms(struct env *env)
{
    return (int64_t)(of(env)->now_us / 1000);
}

static void no_random(struct env *env, void *buf, size_t n)
{
    (void)env;
    memset(buf, 1, n);
}

static int timer_init(struct env *env, struct env_timer *timer)
{
    (void)env;
    struct virtual_timer *t = must_alloc(sizeof(*t));
    t->timer = timer;
    list_init(&t->link);
    timer->impl = t;
    return 0;
}

static void timer_start(struct env_timer *timer, uint64_t delay_us)
{
    struct virtual_timer *t = timer->impl;
    list_remove(&t->link);
    t->due_us = of(timer->env)->now_us + delay_us;
    list_push_back(&of(timer->env)->timers, &t->link);
}

static void timer_stop(struct env_timer *timer)
{
    struct virtual_timer *t = timer->impl;
    list_remove(&t->link);
}

static void timer_close(struct env_timer *timer)
{
    timer_stop(timer);
    free(timer->impl);
}

static void stream_read_start(struct env_stream *stream, env_read_cb cb)
{
    of_stream(stream)->read = cb;
}

static void stream_read_stop(struct env_stream *stream)
{
    of_stream(stream)->read = NULL;
}

static void stream_send(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
                        unsigned n_iov)
{
    struct virtual_stream *s = of_stream(stream);
    struct virtual_send *v = must_alloc(sizeof(*v));
    for (unsigned i = 0; i < n_iov; i++) {
        bytes_put(&s->sent, iov[i].iov_base, iov[i].iov_len);
    }
    v->send = send;
    list_push_back(&s->sends, &v->link);
}

static size_t stream_queued_bytes(const struct env_stream *stream)
{
    (void)stream;
    return 0;
}

static void stream_close(struct env_stream *stream, env_close_cb cb, void *data)
{
    struct virtual_stream *s = of_stream(stream);
    s->read = NULL;
    s->closed = true;
    s->close_cb = cb;
    s->close_data = data;
}

static const struct env_ops OPS = {
    .now_ns = now_ns,
    .wall_ms = wall_ms,
    .random = no_random,
    .timer_init = timer_init,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .timer_close = timer_close,
    .stream_read_start = stream_read_start,
    .stream_read_stop = stream_read_stop,
    .stream_send = stream_send,
    .stream_queued_bytes = stream_queued_bytes,
    .stream_close = stream_close,
};

static void complete(struct virtual_stream *s)
{
    struct list *el;
    while ((el = list_pop(&s->sends)) != NULL) {
        struct virtual_send *v = list_entry(el, struct virtual_send, link);
        struct env_send *send = v->send;
        free(v);
        send->cb(send, s->closed ? WEIR_ECLOSED : 0);
    }
    env_close_cb cb = s->close_cb;
    s->close_cb = NULL;
    if (cb != NULL) {
        cb(s->close_data);
    }
}

/* The timer that is due first, at `until_us` at the latest, out of `timers`. */
static struct virtual_timer *first_due(struct list *timers, uint64_t until_us)
{
    struct virtual_timer *first = NULL;
    LIST_FOREACH(it, timers)
    {
        struct virtual_timer *t = list_entry(it, struct virtual_timer, link);
        if (t->due_us <= until_us && (first == NULL || t->due_us < first->due_us)) {
            first = t;
        }
    }
    if (first != NULL) {
        list_remove(&first->link);
    }
    return first;
}

static void complete_all(struct virtual_env *e)
{
    LIST_FOREACH(it, &e->streams)
    {
        complete(list_entry(it, struct virtual_stream, link));
    }
}

void virtual_env_init(struct virtual_env *e)
{
    *e = (struct virtual_env){.base.ops = &OPS, .now_us = 1000000};
    list_init(&e->timers);
    list_init(&e->streams);
}

void virtual_env_close(struct virtual_env *e)
{
    struct list *el;
    complete_all(e);
    while ((el = list_pop(&e->streams)) != NULL) {
        struct virtual_stream *s = list_entry(el, struct virtual_stream, link);
        bytes_close(&s->sent);
        free(s);
    }
    assert_true(list_empty(&e->timers));
}

void virtual_env_run(struct virtual_env *e, uint64_t us)
{
    uint64_t until_us = e->now_us + us;
    struct virtual_timer *t;
    while ((t = first_due(&e->timers, until_us)) != NULL) {
        e->now_us = t->due_us;
        t->timer->cb(t->timer);
        complete_all(e);
    }
    e->now_us = until_us;
}

void virtual_env_stall(struct virtual_env *e, uint64_t us)
{
    struct virtual_timer *t;
    e->now_us += us;
    while ((t = first_due(&e->timers, e->now_us)) != NULL) {
        t->timer->cb(t->timer);
    }
    complete_all(e);
}

struct virtual_stream *virtual_stream_new(struct virtual_env *e)
{
    struct virtual_stream *s = must_alloc(sizeof(*s));
    s->base.env = &e->base;
    bytes_init(&s->sent, 1u << 20);
    list_init(&s->sends);
    list_push_back(&e->streams, &s->link);
    return s;
}

void virtual_stream_read(struct virtual_stream *s, const void *data, size_t n, int status)
{
    assert_non_null(s->read);
    s->read(&s->base, data, n, status);
}
