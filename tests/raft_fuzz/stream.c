/* Guard 4 is not about losing entries but about committing any: a leader with a fast disk under a
 * steady stream of proposals, and followers whose disks take a little longer. libraft commits only
 * its last stored entry, which the followers then never have reached; with the guard nearly all of
 * the stream commits while it goes on. */
#include "sim.h"

#define STREAM_MS    1000
#define FOLLOWER_LAG 5 /* appends that a follower's disk is behind, one a millisecond */
#define TICK_MS      20

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
    for (unsigned at = 0; at < STREAM_MS && fast != 0; at++) {
        sim_propose(&sim.nodes[fast]);
        millisecond(at, fast);
    }
    if (fast == 0 || sim.n_acked - before < STREAM_MS * 9 / 10) {
        sim_violate(SIM_STUCK, &sim.nodes[1], "a stream of proposals does not commit");
    }
}
