/* Trouble, at random moments, of the kinds that this run has. */
#include <stdlib.h>
#include <string.h>

#include "nodes/broker/broker_priv.h"
#include "sim.h"

#define DISK_BYTES (256ull << 20)

struct action {
    enum sim_fault fault;
    void (*act)(void);
};

static struct event next;
static uint64_t pause_ns; /* mean time between two actions */

static struct machine *any_node(void)
{
    return &sim.machines[sim_between(1, sim.n_nodes)];
}

static uint64_t short_or_long(void)
{
    return sim_one_in(3) ? sim_between(1000, 6000) * SIM_MS : sim_between(10, 600) * SIM_MS;
}

static void act_kill(void)
{
    machine_crash(any_node(), CRASH_KILL, short_or_long());
}

static void act_power(void)
{
    machine_crash(any_node(), CRASH_POWER, short_or_long());
}

static void act_crash_io(void)
{
    any_node()->disk.crash_in = (unsigned)sim_between(1, 60);
}

static void act_stop(void)
{
    node_stop(any_node());
}

static void act_client(void)
{
    struct machine *m = &sim.machines[sim.n_nodes + sim_between(1, sim.n_clients)];
    machine_crash(m, sim_one_in(2) ? CRASH_KILL : CRASH_POWER, sim_between(10, 2000) * SIM_MS);
}

static void act_all_down(void)
{
    uint64_t base = sim_below(1000 * SIM_MS);
    for (unsigned i = 1; i <= sim.n_nodes; i++) {
        machine_crash(&sim.machines[i], CRASH_POWER, base + sim_below(300 * SIM_MS));
    }
}

/* Of one node only: the others have what it loses. And of one that was stopped in good order: what
 * was synced in the second before a crash, and is not noted yet, looks when damaged like what was
 * never synced. */
static struct machine *victim(void)
{
    if (sim.victim == 0) {
        sim.victim = any_node()->id;
    }
    return &sim.machines[sim.victim];
}

static void act_damage(void)
{
    struct machine *m = victim();
    m->damage_due = (unsigned)sim_between(1, 4);
    node_stop(m);
}

static void act_wipe(void)
{
    if (sim_one_in(3)) {
        struct machine *m = victim();
        m->wipe_due = true;
        node_stop(m);
    }
}

/* --- The network --- */

static void set_cut(unsigned a, unsigned b, bool there, bool back)
{
    sim.cut[a][b] = there;
    sim.cut[b][a] = back;
}

static void mend(void)
{
    memset(sim.cut, 0, sizeof(sim.cut));
}

static void act_cut(void)
{
    unsigned n = sim.n_nodes + sim.n_clients;
    unsigned a = (unsigned)sim_between(1, sim.n_nodes);
    unsigned b = (unsigned)sim_between(1, n);
    bool one_way = sim_one_in(3), there = sim_one_in(2);
    switch (sim_below(5)) {
    case 0:
    case 1:
        mend();
        break;
    case 2: /* one link */
        set_cut(a, b, !one_way || there, !one_way || !there);
        break;
    case 3: /* one node from all, or only from the other nodes: clients still write to it */
        n = sim_one_in(2) ? n : sim.n_nodes;
        for (unsigned i = 1; i <= n; i++) {
            set_cut(a, i, !one_way || there, !one_way || !there);
        }
        break;
    default: /* in two halves */
        for (unsigned i = 1; i <= n; i++) {
            bool side = sim_one_in(2);
            for (unsigned k = 1; k < i; k++) {
                if (side != (k % 2 == 0)) {
                    set_cut(i, k, !one_way || there, !one_way || !there);
                }
            }
        }
        break;
    }
}

static void act_reset(void)
{
    net_reset((unsigned)sim_between(1, sim.n_nodes),
              (unsigned)sim_between(1, sim.n_nodes + sim.n_clients));
}

static void act_slow_net(void)
{
    unsigned n = sim.n_nodes + sim.n_clients;
    unsigned a = (unsigned)sim_between(1, n), b = (unsigned)sim_between(1, n);
    sim.delay_ns[a][b] =
        (sim_one_in(4) ? sim_between(1000, 80000) : sim_between(20, 1000)) * SIM_US;
}

/* --- Members --- */

/* Weir__ClusterChange__Action */
enum wish { WISH_ADD = 1, WISH_DRAIN, WISH_REMOVE, WISH_BALANCE };

static void act_members(void)
{
    static const enum wish wishes[] = {WISH_ADD,   WISH_ADD,   WISH_ADD,    WISH_ADD,
                                       WISH_DRAIN, WISH_DRAIN, WISH_REMOVE, WISH_BALANCE};
    unsigned subject = (unsigned)sim_between(1, sim.n_nodes);
    enum wish wish = wishes[sim_below(8)];
    if (wish == WISH_ADD && sim.n_founders < sim.n_nodes && !sim_one_in(4)) {
        subject = (unsigned)sim_between(sim.n_founders + 1, sim.n_nodes);
    }
    operator_wish(wish, subject);
}

/* --- Leaders --- */

static void on_transferred(struct group_transfer *req, int status)
{
    (void)status;
    free(req);
}

/* On the node: one of the groups that it leads goes to somebody else. */
static void on_transfer(struct event *event)
{
    unsigned node = event->owner->machine->id;
    const struct process *p = event->owner;
    unsigned first = (unsigned)sim_below(sim.n_groups);
    unsigned target = (unsigned)sim_below(sim.n_nodes + 1);
    free(event);
    for (unsigned i = 0; p->broker != NULL && i < sim.n_groups; i++) {
        unsigned group = (first + i) % sim.n_groups;
        struct group *g = process_shard(p, group)->replicas[group].group;
        if (g != NULL && group_leader(g) == node) {
            struct group_transfer *req = sim_alloc(sizeof(*req));
            int rv = group_transfer(g, req, target, on_transferred);
            sim_say("node %u: %s is to be led by node %u: %d", node, group_text(group), target, rv);
            if (rv != 0) {
                free(req);
            }
            return;
        }
    }
}

static void act_transfer(void)
{
    struct machine *m = any_node();
    if (m->process != NULL) {
        struct event *event = sim_alloc(sizeof(*event));
        event_at(event, m->process, sim.now_ns, on_transfer, NULL);
    }
}

/* --- Machines --- */

static void act_pause(void)
{
    struct machine *m = &sim.machines[sim_between(1, sim.n_nodes + sim.n_clients)];
    if (m->process != NULL) {
        uint64_t ns = sim_one_in(4) ? sim_between(500, 5000) : sim_between(1, 400);
        sim_say("machine %u: pauses for %llu ms", m->id, (unsigned long long)ns);
        process_busy(m->process, ns * SIM_MS);
    }
}

static void act_clock(void)
{
    struct machine *m = &sim.machines[sim_between(1, sim.n_nodes + sim.n_clients)];
    int64_t jump = (int64_t)sim_between(0, 7200000) - 3600000;
    m->wall_ms = sim_one_in(4) ? 0 : m->wall_ms + (sim_one_in(2) ? jump : jump / 1000);
}

static void act_slow_disk(void)
{
    struct disk *d = &any_node()->disk;
    if (sim_one_in(3)) {
        d->stuck_until_ns = sim.now_ns + short_or_long();
    } else {
        d->slow = sim_one_in(2) ? 1 : (unsigned)sim_between(2, 60);
    }
}

static void act_eio(void)
{
    struct disk *d = &any_node()->disk;
    d->eio_one_in = d->eio_one_in != 0 || sim_one_in(2) ? 0 : (unsigned)sim_between(2, 300);
}

static void act_full(void)
{
    struct disk *d = &any_node()->disk;
    d->capacity = d->capacity != DISK_BYTES ? DISK_BYTES : disk_used(d) + sim_below(3u << 20);
}

/* Somebody looks at the nodes now and then, and starts those anew that can't go on. */
static void operate(void)
{
    for (unsigned i = 1; i <= sim.n_nodes; i++) {
        if (check_failed_replica(i) != NULL && sim_one_in(8)) {
            machine_crash(&sim.machines[i], CRASH_KILL, sim_between(10, 500) * SIM_MS);
        }
    }
}

static const struct action actions[] = {
    {SIM_KILL, act_kill},
    {SIM_POWER, act_power},
    {SIM_CRASH_IO, act_crash_io},
    {SIM_STOP, act_stop},
    {SIM_CUT, act_cut},
    {SIM_CUT, act_cut},
    {SIM_RESET, act_reset},
    {SIM_SLOW_NET, act_slow_net},
    {SIM_PAUSE, act_pause},
    {SIM_CLOCK, act_clock},
    {SIM_SLOW_DISK, act_slow_disk},
    {SIM_EIO, act_eio},
    {SIM_FULL, act_full},
    {SIM_CLIENT, act_client},
    {SIM_ALL_DOWN, act_all_down},
    {SIM_DAMAGE, act_damage},
    {SIM_WIPE, act_wipe},
    {SIM_MEMBERS, act_members},
    {SIM_MEMBERS, act_members},
    {SIM_TRANSFER, act_transfer},
};
#define N_ACTIONS (sizeof(actions) / sizeof(actions[0]))

static void on_next(struct event *event)
{
    const struct action *a = &actions[sim_below(N_ACTIONS)];
    if (sim.healing) {
        return;
    }
    operate();
    if ((sim.faults & a->fault) != 0) {
        a->act();
    }
    event_at(event, NULL, sim.now_ns + sim_below(2 * pause_ns), on_next, NULL);
}

void nemesis_init(void)
{
    /* Half of the faults, one run in four all of them. */
    uint32_t some = (uint32_t)sim_random() & SIM_FAULTS_ALL;
    sim.faults = (sim_one_in(4) ? SIM_FAULTS_ALL : some) & ~sim.options.faults_off;
    pause_ns = sim_between(10, 400) * SIM_MS;
    if ((sim.faults & SIM_CLOCK) != 0) {
        for (unsigned i = 1; i <= sim.n_nodes + sim.n_clients; i++) {
            sim.machines[i].drift_ppm = (int64_t)sim_below(20001) - 10000;
        }
    }
    sim_say("faults %04x, one about every %llu ms", sim.faults,
            (unsigned long long)(pause_ns / SIM_MS / 2));
    event_at(&next, NULL, sim.now_ns + SIM_S, on_next, NULL);
}

void nemesis_heal(void)
{
    sim.healing = true;
    mend();
    for (unsigned i = 1; i <= sim.n_nodes + sim.n_clients; i++) {
        struct machine *m = &sim.machines[i];
        m->disk.eio_one_in = m->disk.crash_in = 0;
        m->disk.slow = 1;
        m->disk.stuck_until_ns = 0;
        m->disk.capacity = DISK_BYTES;
        for (unsigned k = 1; k <= sim.n_nodes + sim.n_clients; k++) {
            sim.delay_ns[i][k] = sim.delay_ns[i][k] < SIM_MS ? sim.delay_ns[i][k] : SIM_MS;
        }
    }
}
