#include <stdlib.h>
#include <string.h>

#include "sim.h"

static struct sim_node *node_of(struct env *env)
{
    return (struct sim_node *)(void *)env;
}

static uint64_t now_ns(struct env *env)
{
    (void)env;
    return sim.now_ns;
}

static int64_t wall_ms(struct env *env)
{
    (void)env;
    return (int64_t)(sim.now_ns / 1000000) + (int64_t)(sim_random() % 50); /* jumps a little */
}

static void fill_random(struct env *env, void *buf, size_t n)
{
    uint8_t *p = buf;
    (void)env;
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)sim_random();
    }
}

static int timer_init(struct env *env, struct env_timer *timer)
{
    struct sim_timer *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return WEIR_ENOMEM;
    }
    t->timer = timer;
    t->next = node_of(env)->timers;
    node_of(env)->timers = t;
    timer->impl = t;
    return 0;
}

static void timer_start(struct env_timer *timer, uint64_t delay_us)
{
    struct sim_timer *t = timer->impl;
    t->due_ns = sim.now_ns + delay_us * 1000;
    t->active = true;
}

static void timer_stop(struct env_timer *timer)
{
    ((struct sim_timer *)timer->impl)->active = false;
}

static void timer_close(struct env_timer *timer)
{
    struct sim_timer *t = timer->impl;
    struct sim_timer **at = &node_of(timer->env)->timers;
    while (*at != t) {
        at = &(*at)->next;
    }
    *at = t->next;
    free(t);
}

static struct list *deferred(struct env *env)
{
    return &node_of(env)->deferred;
}

static int dir_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err)
{
    (void)env;
    (void)path;
    (void)err;
    *ret_bytes = UINT64_MAX;
    return 0;
}

static const struct env_ops ops = {
    .now_ns = now_ns,
    .wall_ms = wall_ms,
    .random = fill_random,
    .timer_init = timer_init,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .timer_close = timer_close,
    .deferred = deferred,
    .dir_free_bytes = dir_free_bytes,
};

void sim_env_init(struct sim_node *n)
{
    n->env.ops = &ops;
    list_init(&n->deferred);
    n->timers = NULL;
}

void sim_env_forget(struct sim_node *n)
{
    sim_env_init(n);
}

void sim_env_run_timers(struct sim_node *n)
{
    for (struct sim_timer *t = n->timers; t != NULL; t = t->next) {
        if (t->active && t->due_ns <= sim.now_ns) {
            t->active = false;
            t->timer->cb(t->timer);
            return; /* the list may have changed; the next step runs the next one */
        }
    }
}

void sim_env_end_turn(struct sim_node *n)
{
    for (int i = 0; i < 100 && n->up && !list_empty(&n->deferred); i++) {
        env_run_deferred(&n->deferred);
    }
}
