/* Guard 9, who leaves hears of it last. Of four voters one is down. The leader makes another one a
 * standby, reaches that one alone, and loses the entry in a crash. All three are there again: they
 * have to elect somebody. */
#include <stdlib.h>

#include "sim.h"

#define NODES    4
#define PATIENCE 1000
#define DOWN     4u

static void round_of(uint32_t disk_of)
{
    sim.now_ns += 10000000;
    for (uint32_t id = 1; id <= NODES; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (n->up) {
            sim_env_run_timers(n);
            n->transport.handler.tick(n->transport.handler.data);
        }
    }
    sim_settle(disk_of);
}

static uint32_t leader(void)
{
    for (uint32_t id = 1; id <= NODES; id++) {
        if (sim.nodes[id].up && group_is_leader(sim.nodes[id].group)) {
            return id;
        }
    }
    return 0;
}

static uint32_t await_leader(void)
{
    for (unsigned k = 0; k < PATIENCE && leader() == 0; k++) {
        round_of(0);
    }
    return leader();
}

void sim_leaver(void)
{
    static struct group_change change;
    sim.healing = true; /* no faults but these */
    uint32_t first = await_leader();
    if (first == DOWN) {
        struct group_transfer hand_over;
        (void)group_transfer(sim.nodes[first].group, &hand_over, 1, NULL);
        for (unsigned k = 0; k < PATIENCE && leader() != 1; k++) {
            round_of(0);
        }
        first = leader();
    }
    for (unsigned k = 0; k < 20; k++) {
        round_of(0);
    }
    sim_crash(&sim.nodes[DOWN]);
    uint32_t leaver = first % 3 + 1, third = leaver % 3 + 1;
    sim.link[first][third] = 2;
    if (first == 0 || first == DOWN ||
        group_change(sim.nodes[first].group, &change, leaver, GROUP_STANDBY, NULL) != 0) {
        sim_violate(SIM_STUCK, &sim.nodes[1], "the run itself: no leader that may change members");
        return;
    }
    round_of(leaver);
    sim_crash(&sim.nodes[first]);
    sim.net[first][third] = NULL;
    sim.link[first][third] = 1;
    sim_boot(&sim.nodes[first]);
    if (await_leader() == 0) {
        sim_violate(SIM_STUCK, &sim.nodes[first], "three of four voters elect nobody");
    }
}
