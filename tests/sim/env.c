/* The env of a simulated process: its clock, chance, timers, deferred calls and posts. Disk and
 * sockets are in disk_ops.c and net.c. */
#include <stdlib.h>

#include "sim.h"

#define EPOCH_MS 1700000000000

uint64_t machine_now_ns(const struct machine *m)
{
    int64_t drift = (int64_t)(sim.now_ns / 1000000) * m->drift_ppm;
    return sim.now_ns + m->offset_ns + (uint64_t)drift;
}

void process_busy(struct process *p, uint64_t ns)
{
    uint64_t from = p->busy_until_ns > sim.now_ns ? p->busy_until_ns : sim.now_ns;
    p->busy_until_ns = from + ns;
}

static uint64_t op_now_ns(struct env *env)
{
    return machine_now_ns(process_of(env)->machine);
}

static int64_t op_wall_ms(struct env *env)
{
    const struct machine *m = process_of(env)->machine;
    return EPOCH_MS + (int64_t)(machine_now_ns(m) / 1000000) + m->wall_ms;
}

static void op_random(struct env *env, void *buf, size_t n)
{
    struct process *p = process_of(env);
    uint8_t *out = buf;
    for (size_t i = 0; i < n; i++) {
        p->random = p->random * 6364136223846793005ull + 1442695040888963407ull;
        out[i] = (uint8_t)(p->random >> 56);
    }
}

/* --- Timers --- */

struct timer {
    struct event event;
    struct env_timer *owner;
};

static int op_timer_init(struct env *env, struct env_timer *timer)
{
    (void)env;
    struct timer *t = sim_alloc(sizeof(*t));
    t->owner = timer;
    timer->impl = t;
    return 0;
}

static void on_timer(struct event *event)
{
    struct timer *t = event->data;
    t->owner->cb(t->owner);
}

static void op_timer_start(struct env_timer *timer, uint64_t delay_us)
{
    struct timer *t = timer->impl;
    struct process *p = process_of(timer->env);
    uint64_t ns = delay_us * 1000;
    int64_t drift = (int64_t)(ns / 1000000) * p->machine->drift_ppm;
    ns = ns - (uint64_t)drift + sim_below(200 * SIM_US); /* never early by its own clock */
    event_at(&t->event, p, sim.now_ns + ns, on_timer, t);
}

static void op_timer_stop(struct env_timer *timer)
{
    event_cancel(&((struct timer *)timer->impl)->event);
}

static void op_timer_close(struct env_timer *timer)
{
    op_timer_stop(timer);
    free(timer->impl);
}

static struct list *op_deferred(struct env *env)
{
    return &process_of(env)->deferred;
}

static void on_post(struct event *event)
{
    struct env_post *post = event->data;
    free(event);
    post->posted = false;
    post->cb(post);
}

static void op_post(struct env *env, struct env_post *post, env_post_cb cb)
{
    if (post->posted) {
        return;
    }
    struct event *event = sim_alloc(sizeof(*event));
    post->posted = true;
    post->cb = cb;
    event_at(event, process_of(env), sim.now_ns, on_post, post);
}

/* --- Processes --- */

static struct env_ops ops;

static void ops_init(void)
{
    ops = sim_disk_ops;
    ops.now_ns = op_now_ns;
    ops.wall_ms = op_wall_ms;
    ops.random = op_random;
    ops.timer_init = op_timer_init;
    ops.timer_start = op_timer_start;
    ops.timer_stop = op_timer_stop;
    ops.timer_close = op_timer_close;
    ops.deferred = op_deferred;
    ops.post = op_post;
    ops.listen = sim_net_ops.listen;
    ops.listener_close = sim_net_ops.listener_close;
    ops.connect = sim_net_ops.connect;
    ops.stream_read_start = sim_net_ops.stream_read_start;
    ops.stream_read_stop = sim_net_ops.stream_read_stop;
    ops.stream_send = sim_net_ops.stream_send;
    ops.stream_try_send = sim_net_ops.stream_try_send;
    ops.stream_queued_bytes = sim_net_ops.stream_queued_bytes;
    ops.stream_close = sim_net_ops.stream_close;
    ops.stream_detach_fd = sim_net_ops.stream_detach_fd;
}

struct process *process_new(struct machine *m)
{
    if (ops.now_ns == NULL) {
        ops_init();
    }
    struct process *p = sim_alloc(sizeof(*p));
    p->env.ops = &ops;
    p->machine = m;
    p->life = ++m->lives;
    p->random = sim_random();
    list_init(&p->deferred);
    list_init(&p->files);
    list_init(&p->ends);
    list_init(&p->listeners);
    list_init(&p->dir_ios);
    m->process = p;
    m->power = MACHINE_ON;
    return p;
}
