/* Guard 4 is not about losing entries but about committing any: a leader with a fast disk under a
 * steady stream of proposals, and followers whose disks take a little longer. libraft commits only
 * its last stored entry, which the followers then never have reached; with the guard nearly all of
 * the stream commits while it goes on. With --verbose it tells how long a commit took, in virtual
 * time. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

#define STREAM_MS    1000
#define FOLLOWER_LAG 5 /* appends that a follower's disk is behind, one a millisecond */
#define TICK_MS      20

static struct {
    uint32_t latency_ms[STREAM_MS];
    unsigned n;
} acked;

void sim_stream_acked(uint64_t latency_ns)
{
    if (acked.n < STREAM_MS) {
        acked.latency_ms[acked.n++] = (uint32_t)(latency_ns / 1000000);
    }
}

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void tell_latency(uint64_t meanwhile)
{
    if (!sim.verbose || acked.n == 0) {
        return;
    }
    qsort(acked.latency_ms, acked.n, sizeof(acked.latency_ms[0]), by_value);
    printf("stream: %llu of %d committed while they kept coming, %u in the end; commit latency "
           "p50 %u ms, p99 %u ms\n",
           (unsigned long long)meanwhile, STREAM_MS, acked.n, acked.latency_ms[acked.n / 2],
           acked.latency_ms[acked.n * 99 / 100]);
}

static unsigned waiting_appends(struct sim_node *n)
{
    unsigned waiting = 0;
    LIST_FOREACH(el, &n->partition.pending)
    {
        waiting++;
    }
    return waiting;
}

/* A millisecond: what was sent in the one before arrives, disks complete what is due. */
static void millisecond(unsigned at, uint32_t fast)
{
    sim.now_ns += 1000000;
    for (uint32_t a = 1; a <= sim.n_nodes; a++) {
        for (uint32_t b = 1; b <= sim.n_nodes; b++) {
            unsigned waiting = 0;
            for (struct sim_message *m = sim.net[a][b]; m != NULL; m = m->next) {
                waiting++;
            }
            for (; waiting > 0; waiting--) {
                sim_net_deliver(a, b);
            }
        }
    }
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        sim_env_run_timers(n);
        if (at % TICK_MS == 0) {
            n->transport.handler.tick(n->transport.handler.data);
        }
        unsigned waiting = waiting_appends(n), lag = id == fast || fast == 0 ? 0 : FOLLOWER_LAG;
        sim_votes_step(n);
        (void)sim_disk_step(n, waiting > lag ? waiting - lag : 0);
    }
    sim_end_turns(true);
}

static uint32_t leader(void)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        if (group_is_leader(sim.nodes[id].group)) {
            return id;
        }
    }
    return 0;
}

void sim_stream(void)
{
    sim.healing = true; /* no faults */
    uint32_t fast = 0;
    for (unsigned at = 0; at < 10000 && (fast = leader()) == 0; at++) {
        millisecond(at, 0);
    }
    uint64_t before = sim.n_acked;
    acked.n = 0;
    for (unsigned at = 0; at < STREAM_MS && fast != 0; at++) {
        sim_propose(&sim.nodes[fast]);
        millisecond(at, fast);
    }
    uint64_t meanwhile = sim.n_acked - before;
    for (unsigned at = 0; at < STREAM_MS && fast != 0; at++) {
        millisecond(at, 0); /* what is left */
    }
    tell_latency(meanwhile);
    if (fast == 0 || meanwhile < STREAM_MS * 9 / 10) {
        sim_violate(SIM_STUCK, &sim.nodes[1], "a stream of proposals does not commit");
    }
}
