/* Chance, the queue of events, and the trace. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct sim sim;

static const char *const violation_names[SIM_VIOLATIONS] = {
    [SIM_DIVERGED] = "diverged", [SIM_LOST] = "lost",         [SIM_LEADERS] = "two leaders",
    [SIM_BACK] = "went back",    [SIM_OFFSETS] = "offsets",   [SIM_DOUBLED] = "doubled",
    [SIM_ORDER] = "order",       [SIM_CONSUMED] = "consumed", [SIM_STUCK] = "stuck",
    [SIM_STALE] = "stale read",  [SIM_UNEQUAL] = "unequal",   [SIM_FAILED] = "failed",
};

/* --- Chance --- */

uint64_t sim_random(void)
{
    uint64_t x = sim.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    sim.random = x;
    return x * 0x2545f4914f6cdd1dull;
}

uint64_t sim_below(uint64_t n)
{
    return (sim_random() >> 11) % n;
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
    return low + sim_below(high - low + 1);
}

bool sim_one_in(uint64_t n)
{
    return sim_below(n) == 0;
}

/* --- The trace --- */

void sim_trace(unsigned what, uint64_t a, uint64_t b)
{
    uint64_t h = sim.trace ^ what;
    h = (h ^ a) * 0x9e3779b97f4a7c15ull;
    h = (h ^ (h >> 29) ^ b) * 0xbf58476d1ce4e5b9ull;
    sim.trace = h ^ (h >> 32);
}

void sim_say(const char *fmt, ...)
{
    if (!sim.options.verbose) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    printf("%12.6f ", (double)sim.now_ns / 1e9);
    (void)vprintf(fmt, args);
    printf("\n");
    (void)fflush(stdout);
    va_end(args);
}

void sim_violate(enum sim_violation v, const char *fmt, ...)
{
    if (sim.violation != 0) {
        return;
    }
    sim.violation = (unsigned)v + 1;
    va_list args;
    va_start(args, fmt);
    printf("seed %llu: violation: %s at %.6f s, event %llu: ", (unsigned long long)sim.seed,
           violation_names[v], (double)sim.now_ns / 1e9, (unsigned long long)sim.count.events);
    (void)vprintf(fmt, args);
    printf("\n");
    (void)fflush(stdout);
    va_end(args);
}

void *sim_alloc(size_t n)
{
    void *p = calloc(1, n);
    if (p == NULL) {
        fprintf(stderr, "sim: out of memory\n");
        abort();
    }
    return p;
}

/* --- The queue --- */

static bool before(const struct event *a, const struct event *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->sequence < b->sequence;
}

static void place(size_t at, struct event *event)
{
    sim.queue[at] = event;
    event->at = at;
}

static void sift_up(size_t at)
{
    struct event *event = sim.queue[at];
    for (; at > 1 && before(event, sim.queue[at / 2]); at /= 2) {
        place(at, sim.queue[at / 2]);
    }
    place(at, event);
}

static void sift_down(size_t at)
{
    struct event *event = sim.queue[at];
    for (size_t child; (child = 2 * at) <= sim.n_queue; at = child) {
        if (child < sim.n_queue && before(sim.queue[child + 1], sim.queue[child])) {
            child++;
        }
        if (!before(sim.queue[child], event)) {
            break;
        }
        place(at, sim.queue[child]);
    }
    place(at, event);
}

void event_cancel(struct event *event)
{
    size_t at = event->at;
    if (at == 0) {
        return;
    }
    struct event *last = sim.queue[sim.n_queue--];
    event->at = 0;
    if (last != event) {
        place(at, last);
        sift_up(at);
        sift_down(last->at);
    }
}

void event_at(struct event *event, struct process *owner, uint64_t due_ns,
              void (*fn)(struct event *event), void *data)
{
    event_cancel(event);
    if (sim.n_queue + 2 > sim.queue_room) {
        sim.queue_room = sim.queue_room == 0 ? 1024 : sim.queue_room * 2;
        sim.queue = realloc(sim.queue, sim.queue_room * sizeof(struct event *));
        if (sim.queue == NULL) {
            abort();
        }
    }
    event->owner = owner;
    event->due_ns = due_ns > sim.now_ns ? due_ns : sim.now_ns;
    event->sequence = sim.sequence++;
    event->fn = fn;
    event->data = data;
    sim.n_queue++;
    place(sim.n_queue, event);
    sift_up(sim.n_queue);
}

/* --- A step --- */

static void run_turn(struct process *p)
{
    for (unsigned i = 0; !list_empty(&p->deferred) && i < 100; i++) {
        env_run_deferred(&p->deferred);
    }
}

static void on_turn(struct event *event)
{
    run_turn(event->owner);
}

/* What was deferred runs now, or after more events of the same turn. */
static void end_turn(struct process *p)
{
    if (list_empty(&p->deferred) || p->turn.at != 0) {
        return;
    }
    if (sim_one_in(2)) {
        run_turn(p);
    }
    if (!list_empty(&p->deferred)) {
        event_at(&p->turn, p, sim.now_ns + sim_below(50 * SIM_US), on_turn, NULL);
    }
}

static void run(struct event *event)
{
    struct process *p = event->owner;
    sim.running = p;
    if (setjmp(sim.crash_now) == 0) {
        event->fn(event);
        if (p != NULL) {
            end_turn(p);
        }
    }
    sim.running = NULL;
}

bool sim_step(void)
{
    if (sim.n_queue == 0) {
        return false;
    }
    struct event *event = sim.queue[1];
    struct process *p = event->owner;
    event_cancel(event);
    sim.now_ns = event->due_ns;
    if (p != NULL && p->dead) {
        return true;
    }
    if (p != NULL && p->busy_until_ns > sim.now_ns) {
        event_at(event, p, p->busy_until_ns, event->fn, event->data);
        return true;
    }
    sim.count.events++;
    sim_trace(1, sim.now_ns, p != NULL ? p->machine->id : 0);
    run(event);
    if (p != NULL && !p->dead) {
        check_process(p);
    }
    return true;
}

void sim_init(const struct sim_options *options)
{
    sim = (struct sim){.options = *options, .seed = options->seed};
    sim.random = options->seed * 0x9e3779b97f4a7c15ull + 1;
    for (unsigned i = 0; i < 16; i++) {
        (void)sim_random();
    }
    sim.now_ns = SIM_S;
}
