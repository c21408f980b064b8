/* Machines, and the programs that run on them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "nodes/broker/broker_priv.h"
#include "sim.h"

#define PEER_PORT      7101
#define BROKER_PORT    7201
#define DISK_BYTES     (256ull << 20)
#define SECRET         "the secret of the simulation"
#define GROUP_TEXT_MAX 64

static const struct {
    const char *name;
    unsigned partitions;
} topics[] = {{"alpha", 3}, {"beta", 2}, {"gamma", 1}};

const char *group_text(unsigned group)
{
    static char text[GROUP_TEXT_MAX];
    const struct config *c = &sim.config[1];
    for (unsigned i = 0; i < c->n_topics; i++) {
        if (group < c->topics[i].partitions) {
            (void)snprintf(text, sizeof(text), "%.40s-%u", c->topics[i].name, group);
            return text;
        }
        group -= c->topics[i].partitions;
    }
    return "?";
}

unsigned group_index(const char *topic)
{
    const struct config *c = &sim.config[1];
    unsigned group = 0;
    for (unsigned i = 0; i < c->n_topics && strcmp(c->topics[i].name, topic) != 0; i++) {
        group += c->topics[i].partitions;
    }
    return group;
}

/* --- Configuration --- */

static void configure(unsigned id, unsigned n_topics, unsigned replicas, unsigned heartbeat_ms,
                      unsigned election_ms)
{
    struct bytes text;
    struct error err = {0};
    bytes_init(&text, 16384);
    bytes_printf(&text,
                 "node.name = n%u\nnode.data = /n%u\nnode.roles = log\ncluster.secret = "
                 "%s\ntls.plain = yes\n"
                 "log.segment_mib = 1\nlog.free_mib_min = 1\nlog.inflight_mib = 1\n"
                 "log.batch_kib_max = 64\nraft.heartbeat_ms = %u\nraft.election_ms = %u\n"
                 "log.replicas = %u\nlog.shards = %u\n",
                 id, id, SECRET, heartbeat_ms, election_ms, replicas, sim.n_shards);
    for (unsigned k = 1; k <= sim.n_nodes; k++) {
        if (k > sim.n_founders && k != id) {
            continue;
        }
        bytes_printf(&text,
                     "cluster.node = n%u id=%u peer=10.0.0.%u:%u broker=10.0.0.%u:%u "
                     "http=10.0.0.%u:80 rtmp=10.0.0.%u:1935\n",
                     k, k, k, PEER_PORT, k, BROKER_PORT, k, k);
    }
    for (unsigned k = 0; k < n_topics; k++) {
        bytes_printf(&text, "log.topic = %s partitions=%u", topics[k].name, topics[k].partitions);
        if (k == 1 && sim.retain_ms > 0) {
            bytes_printf(&text, " retain_ms=%u", sim.retain_ms);
        }
        bytes_printf(&text, "\n");
    }
    bytes_printf(&text, "%slog.topic = meta partitions=1\n",
                 sim.keys > 0 ? "log.topic = keyed partitions=1 compact=yes\n" : "");
    if (id > sim.n_founders) {
        bytes_printf(&text, "cluster.join = yes\n");
    }
    bytes_put_u8(&text, 0);
    if (config_parse("sim", (const char *)text.data, &sim.config[id], &err) != 0) {
        fprintf(stderr, "sim: configuration: %s\n", err.text);
        abort();
    }
    bytes_close(&text);
}

static void network_init(unsigned n)
{
    uint64_t base = sim_between(20, 400) * SIM_US;
    for (unsigned a = 1; a <= n; a++) {
        for (unsigned b = 1; b <= n; b++) {
            sim.delay_ns[a][b] = base + sim_below(base);
        }
    }
}

void cluster_init(void)
{
    unsigned heartbeat_ms = (unsigned)sim_between(20, 60);
    unsigned election_ms = heartbeat_ms * (unsigned)sim_between(5, 10);
    unsigned n_topics = (unsigned)sim_between(2, 3);
    sim.n_nodes = sim.options.nodes != 0 ? sim.options.nodes
                  : sim_one_in(2)        ? (unsigned)sim_between(4, 5)
                                         : 3;
    sim.n_clients = (unsigned)sim_between(2, SIM_CLIENTS_MAX);
    sim.sizes = (struct broker_sizes){.segment_bytes = sim_between(24, 160) << 10,
                                      .tail_bytes = sim_between(16, 256) << 10,
                                      .index_bytes = (uint32_t)sim_between(512, 8192)};
    sim.n_founders = sim.n_nodes;
    if (sim.n_nodes > 3 && sim_one_in(2)) {
        sim.n_founders = 3;
    }
    sim.retain_ms = sim_one_in(2) ? (unsigned)sim_between(1000, 6000) : 0;
    sim.keys = sim_one_in(2) ? (unsigned)sim_between(2, 60) : 0;
    sim.sizes.decide_ms = (unsigned)sim_between(200, 1500);
    sim.sizes.tombstone_ms = (unsigned)sim_between(200, 5000);
    sim.n_topics = n_topics + (sim.keys > 0);
    sim.n_crowds = (unsigned)sim_below(SIM_CROWDS_MAX + 1);
    sim.named = sim_one_in(2) || sim.options.named;
    /* By no chance of its own: what older seeds do stays as it was. */
    sim.n_shards = sim.options.shards != 0 ? sim.options.shards : 1 + (sim.seed % 4 == 3);
    unsigned replicas = sim_one_in(2) ? sim.n_founders : 3;
    network_init(sim.n_nodes + sim.n_clients);
    for (unsigned i = 1; i <= sim.n_nodes + sim.n_clients; i++) {
        struct machine *m = &sim.machines[i];
        m->id = i;
        m->client = i > sim.n_nodes;
        m->offset_ns = sim_between(1, 1000000) * SIM_MS;
        (void)snprintf(m->host, sizeof(m->host), "10.0.0.%u", i);
        disk_init(&m->disk, DISK_BYTES);
    }
    for (unsigned i = 1; i <= sim.n_nodes; i++) {
        configure(i, n_topics, replicas, heartbeat_ms, election_ms);
    }
    for (unsigned i = 0; i < n_topics; i++) {
        sim.n_written += topics[i].partitions;
    }
    sim.n_written += sim.keys > 0;
    for (unsigned i = 0; i < sim.config[1].n_topics; i++) {
        sim.n_groups += sim.config[1].topics[i].partitions;
    }
    sim_say("%u nodes of %u shards, %u clients, %u groups, heartbeat %u ms, election %u ms, "
            "segment %llu KiB",
            sim.n_nodes, sim.n_shards, sim.n_clients, sim.n_groups, heartbeat_ms, election_ms,
            (unsigned long long)(sim.sizes.segment_bytes >> 10));
}

struct broker *process_shard(const struct process *p, unsigned group)
{
    for (unsigned k = 0; k < p->n_shards; k++) {
        if (group < p->shards[k]->n_replicas && !p->shards[k]->replicas[group].foreign) {
            return p->shards[k];
        }
    }
    return NULL;
}

/* --- Up and down --- */

static void on_closed(void *data);

/* All shards at once; the last to close ends the process. */
static void close_shards(struct process *p)
{
    unsigned n = p->n_shards;
    p->closing = true;
    p->broker = NULL;
    p->n_shards = 0;
    p->n_closing = n;
    for (unsigned k = 0; k < n; k++) {
        broker_close(p->shards[k], on_closed, p);
    }
    if (n == 0) {
        machine_crash(p->machine, CRASH_KILL, sim_between(100, 1000) * SIM_MS);
    }
}

static int open_shard(struct process *p, struct error *err)
{
    struct broker_options options = {.sizes = &sim.sizes, .hub = p->hub, .shard = p->n_shards};
    struct broker *b = NULL;
    int rv = broker_open(&p->env, NULL, &sim.config[p->machine->id], &options, &b, err);
    if (b != NULL) {
        p->shards[p->n_shards++] = b;
    }
    return rv;
}

static void on_boot(struct event *event)
{
    struct process *p = event->data;
    struct error err = {0};
    int rv = sim.n_shards > 1 ? hub_new(sim.n_shards, &p->hub, &err) : 0;
    for (unsigned k = 0; k < sim.n_shards && rv == 0; k++) {
        rv = open_shard(p, &err);
    }
    sim_say("node %u: life %u%s%s", p->machine->id, p->life, rv == 0 ? "" : ": ", err.text);
    if (rv != 0) {
        close_shards(p);
    } else {
        p->broker = p->shards[0];
    }
}

void node_boot(struct machine *m)
{
    struct process *p = process_new(m);
    struct event *boot = sim_alloc(sizeof(*boot));
    event_at(boot, p, sim.now_ns, on_boot, p);
}

static void damage(struct machine *m)
{
    if (m->disk.eio_one_in != 0) {
        return; /* what it noted last may be missing */
    }
    for (; m->damage_due > 0 && !sim.healing; m->damage_due--) {
        disk_damage(&m->disk);
    }
    if (m->wipe_due && !sim.healing) {
        sim_say("machine %u: a new disk", m->id);
        disk_wipe(&m->disk);
    }
}

/* The program ends; the kernel closes what it left. */
static void on_closed(void *data)
{
    struct process *p = data;
    struct machine *m = p->machine;
    if (--p->n_closing > 0) {
        return;
    }
    sim_say("node %u: stopped", m->id);
    sim.running = NULL; /* goes on here */
    machine_crash(m, CRASH_KILL, sim_between(10, 1000) * SIM_MS);
    damage(m);
    m->damage_due = 0;
    m->wipe_due = false;
    longjmp(sim.crash_now, 1);
}

static void on_stop(struct event *event)
{
    struct process *p = event->data;
    free(event);
    if (p->broker != NULL && !p->closing) {
        close_shards(p);
    }
}

void node_stop(struct machine *m)
{
    if (m->process != NULL) {
        struct event *stop = sim_alloc(sizeof(*stop));
        event_at(stop, m->process, sim.now_ns, on_stop, m->process);
    }
}

static void on_boot_due(struct event *event)
{
    struct machine *m = event->data;
    free(event);
    if (m->process != NULL) {
        return;
    }
    if (m->client) {
        client_boot(m);
    } else {
        node_boot(m);
    }
}

void machine_boot_in(struct machine *m, uint64_t ns)
{
    struct event *boot = sim_alloc(sizeof(*boot));
    event_at(boot, NULL, sim.now_ns + ns, on_boot_due, m);
}

void machine_crash(struct machine *m, enum crash how, uint64_t back_in_ns)
{
    struct process *p = m->process;
    if (p == NULL) {
        return;
    }
    sim_say("machine %u: %s, back in %.3f s", m->id,
            how == CRASH_KILL ? "process ends" : "power off", (double)back_in_ns / 1e9);
    sim.count.crashes++;
    p->dead = true;
    m->process = NULL;
    m->disk.crash_in = 0;
    if (!p->closing) {
        m->damage_due = 0; /* it died before it was stopped */
        m->wipe_due = false;
    }
    files_abandon(p);
    net_abandon(p, how == CRASH_KILL);
    if (how == CRASH_POWER) {
        m->power = MACHINE_OFF;
        disk_power_loss(&m->disk);
    }
    machine_boot_in(m, back_in_ns);
    if (sim.running == p) {
        longjmp(sim.crash_now, 1);
    }
}
