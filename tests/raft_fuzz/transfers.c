/* Leadership that is handed over, again and again, and what happens around it. In the other runs
 * few transfers come to their end between all the faults. Here the replicas catch up before each
 * one; then what comes back to the leader is held up on some links, so that it does not learn what
 * the others do, links close, and meanwhile batches are proposed to whoever believes to lead and
 * linearizable reads asked of it. Guards 6, 11 and the stamps of 13 are about this. */
#include "sim.h"

#define ROUND_STEPS_MAX 400
#define CATCH_UP_ROUNDS 60
#define CALM_IN         3 /* one run of so many has no fault but what is held up */

static bool calm;

static void all_links(int to)
{
    for (uint32_t a = 1; a <= sim.n_nodes; a++) {
        for (uint32_t b = 1; b <= sim.n_nodes; b++) {
            sim.link[a][b] = to;
        }
    }
}

static struct sim_node *leader(void)
{
    struct sim_node *newest = NULL;
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (n->up && group_is_leader(n->group) &&
            (newest == NULL || n->group->term > newest->group->term)) {
            newest = n;
        }
    }
    return newest;
}

static bool caught_up(void)
{
    const struct sim_node *l = leader();
    for (uint32_t id = 1; id <= sim.n_nodes && l != NULL; id++) {
        const struct sim_node *n = &sim.nodes[id];
        if (!n->up || n->disk.durable != l->disk.last ||
            n->group->raft.commit_index != l->disk.last) {
            return false;
        }
    }
    return l != NULL;
}

/* Everything arrives and is written; ten milliseconds. */
static void whole_round(void)
{
    sim.now_ns += 10000000;
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (!n->up) {
            sim_boot(n);
        }
        sim_env_run_timers(n);
        n->transport.handler.tick(n->transport.handler.data);
    }
    sim_settle(0);
}

static void hold_up(uint32_t from, uint32_t to)
{
    sim.link[from][to] = 2;
}

/* The leader hears little of what the others do from now on. */
static void cut_around(const struct sim_node *l)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        if (id != l->id && sim_chance(2, 3)) {
            hold_up(id, l->id);
        }
        if (id != l->id && sim_chance(1, 6)) {
            hold_up(l->id, id);
        }
    }
}

static void write_and_read(void)
{
    struct sim_node *n = sim_any_node();
    if (n->up && sim_chance(2, 3)) {
        sim_produce(n);
    }
    if (n->up) {
        sim_read(n);
    }
}

static void change_a_link(void)
{
    uint32_t a = sim_any_node()->id, b = sim_any_node()->id;
    if (!calm && sim_chance(1, 3)) {
        sim.nodes[a].link_news[b] = true;
    } else {
        sim.link[a][b] = sim_chance(1, 4) ? 2 : 1;
    }
}

static void step(void)
{
    unsigned x = (unsigned)(sim_random() % 1000);
    if (x < 640) {
        sim_step_network();
    } else if (x < 800) {
        struct sim_node *n = sim_any_node();
        sim_votes_step(n);
        if (n->up) {
            (void)sim_disk_step(n, 1 + (unsigned)(sim_random() % 3));
        }
    } else if (x < 870) {
        sim_step_time();
    } else if (x < 960) {
        write_and_read();
    } else if (x < 985) {
        change_a_link();
    } else if (x < 990) {
        sim_transfer();
    } else if (x < 992 && !calm) {
        sim_crash(sim_any_node());
    }
}

static void turn_some(void)
{
    sim_end_turns(false);
}

static void hand_over(void)
{
    struct sim_node *l = leader();
    if (l == NULL) {
        return;
    }
    for (unsigned k = (unsigned)(sim_random() % 4); k > 0; k--) {
        sim_produce(l);
        sim_read(l);
    }
    if (sim_chance(1, 2)) {
        sim_end_turns(true); /* what they ask is on its way before the links are held up */
        for (unsigned k = (unsigned)(sim_random() % 20); k > 0; k--) {
            sim_step_network();
        }
    }
    if (sim_chance(2, 3)) {
        cut_around(l);
    }
    sim_transfer();
    /* Others want to lead too: two candidates in one term. */
    for (uint32_t id = 1; id <= sim.n_nodes && !calm; id++) {
        sim.nodes[id].link_news[l->id] = id != l->id && sim_chance(1, 2);
    }
}

void sim_transfers(unsigned steps)
{
    calm = sim_chance(1, CALM_IN);
    sim.faults &= calm ? FAULT_SPLIT : FAULT_SPLIT | FAULT_CLOSE | FAULT_NET | FAULT_CRASH;
    for (unsigned done = 0; done < steps && sim.violations == 0;) {
        uint32_t faults = sim.faults;
        sim.faults = 0;
        all_links(1);
        for (unsigned k = 0; k < CATCH_UP_ROUNDS && !caught_up(); k++) {
            whole_round();
        }
        sim.faults = faults;
        sim_guarded(hand_over);
        unsigned n = ROUND_STEPS_MAX / 4 + (unsigned)(sim_random() % ROUND_STEPS_MAX);
        for (unsigned k = 0; k < n && sim.violations == 0; k++, done++) {
            sim_guarded(step);
            sim_guarded(turn_some);
        }
    }
}
