/* Clients: each machine of theirs runs one program with the real client of the log, which produces
 * to all partitions and consumes some of them from the beginning.
 *
 * A record's id says who made it (client, life, group) and which one it is (sequence), so the
 * checker knows from the log alone what is double, out of order or invented. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/murmur2.h"
#include "sim.h"
#include "workload.h"

#define GROUPS_MAX      SIM_GROUPS_MAX
#define OUTSTANDING_MAX 400u
#define SECRET          "the secret of the simulation"

struct sim_client {
    struct process *process;
    struct weir_client *client;
    struct env_timer timer;
    struct sim_member *member;
    unsigned outstanding;
    bool fenced;
    uint64_t sequence[GROUPS_MAX];
    uint64_t pause_us; /* between two rounds */
    unsigned burst;
    struct reader {
        struct sim_client *client;
        struct weir_consumer *consumer; /* NULL: not consumed here */
        unsigned group;
        int64_t next;
        bool paused;
    } readers[GROUPS_MAX];
};

struct request {
    struct weir_produce produce;
    struct sim_client *client;
    unsigned group;
    uint64_t id;
};

struct question {
    struct weir_offsets_req offsets;
    unsigned group;
    int64_t acked_end; /* behind the last record acknowledged when it was asked */
};

static struct {
    int64_t acked_end[GROUPS_MAX];
    bool ending;
    uint64_t acked_at_end[GROUPS_MAX]; /* since the end began */
    uint64_t next_probe_ns;
} work;

static uint64_t tombstone_id(unsigned group, const void *key, size_t n)
{
    return 0xffull << 56 | (uint64_t)group << 40 | murmur2(key, n);
}

bool is_tombstone_id(uint64_t id)
{
    return id >> 56 == 0xff;
}

uint64_t record_id(unsigned group, const struct batch_record *r)
{
    uint64_t id = 0;
    if (r->value == NULL && r->key != NULL) {
        id = tombstone_id(group, r->key, (size_t)r->key_len);
    } else if (r->value_len >= SIM_VALUE_MIN) {
        memcpy(&id, r->value, sizeof(id));
    }
    return id;
}

static uint64_t id_of(const struct sim_client *c, unsigned group, uint64_t sequence)
{
    return (uint64_t)c->process->machine->id << 56 | (uint64_t)(c->process->life & 0xff) << 48 |
           (uint64_t)group << 40 | sequence;
}

const struct config_topic *topic_of(unsigned group, uint32_t *ret_partition)
{
    const struct config *c = &sim.config[1];
    for (unsigned i = 0; i < c->n_topics; i++) {
        if (group < c->topics[i].partitions) {
            *ret_partition = group;
            return &c->topics[i];
        }
        group -= c->topics[i].partitions;
    }
    abort();
}

/* --- Producing --- */

static void on_produced(struct weir_produce *produce, int status)
{
    struct request *r = produce->data;
    struct sim_client *c = r->client;
    c->outstanding--;
    sim_trace(11, r->id, (uint64_t)(int64_t)status);
    if (status == 0) {
        sim.count.acked++;
        work.acked_at_end[r->group] += work.ending;
        check_acked(r->group, produce->offset, r->id);
        if (produce->offset >= work.acked_end[r->group]) {
            work.acked_end[r->group] = produce->offset + 1;
        }
    } else {
        sim.count.unknown += status == WEIR_EUNKNOWN;
        sim.count.refused += status != WEIR_EUNKNOWN;
        if (status != WEIR_EUNKNOWN) {
            check_refused(r->group, r->id);
        }
        c->fenced |= status == WEIR_EFENCED;
    }
    free(r);
}

static void produce(struct sim_client *c, unsigned group)
{
    uint8_t value[SIM_VALUE_MAX];
    char key[SIM_KEY_MAX];
    size_t key_len = 0;
    bool tombstone = false;
    uint32_t partition;
    const struct config_topic *topic = topic_of(group, &partition);
    size_t n = (size_t)(sim_one_in(20) ? sim_between(SIM_VALUE_MIN, SIM_VALUE_MAX)
                                       : sim_between(SIM_VALUE_MIN, 300));
    if (c->outstanding >= OUTSTANDING_MAX) {
        return;
    }
    struct request *r = sim_alloc(sizeof(*r));
    r->client = c;
    r->group = group;
    r->id = id_of(c, group, ++c->sequence[group]);
    r->produce.data = r;
    memset(value, (int)(r->id & 0xff), n);
    memcpy(value, &r->id, sizeof(r->id));
    if (topic->compact != 0) {
        (void)snprintf(key, sizeof(key), "key %u", (unsigned)sim_below(sim.keys));
        key_len = strlen(key);
        tombstone = sim_one_in(5);
        r->id = tombstone ? tombstone_id(group, key, key_len) : r->id;
    }
    int rv = weir_produce(c->client, topic->name, partition, key_len > 0 ? key : NULL, key_len,
                          tombstone ? NULL : value, tombstone ? 0 : n, &r->produce, on_produced);
    if (rv != 0) {
        free(r);
        return;
    }
    c->outstanding++;
}

/* --- Asking where the log ends --- */

static void on_offsets(struct weir_offsets_req *offsets, int status)
{
    struct question *q = offsets->data;
    if (status == 0 && offsets->high_watermark < q->acked_end) {
        sim_violate(SIM_STALE,
                    "%s ends at offset %lld, says a linearizable read, but %lld was "
                    "acknowledged before",
                    group_text(q->group), (long long)offsets->high_watermark,
                    (long long)q->acked_end - 1);
    }
    free(q);
}

static void ask_offsets(struct sim_client *c, unsigned group)
{
    uint32_t partition;
    const struct config_topic *topic = topic_of(group, &partition);
    struct question *q = sim_alloc(sizeof(*q));
    q->group = group;
    q->acked_end = work.acked_end[group];
    q->offsets.data = q;
    if (weir_offsets(c->client, topic->name, partition, true, &q->offsets, on_offsets) != 0) {
        free(q);
    }
}

/* --- Consuming --- */

static void on_records(void *data, struct weir_consumer *consumer,
                       const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct reader *r = data;
    (void)high_watermark;
    for (unsigned i = 0; i < n; i++) {
        uint64_t id = record_id(r->group, &records[i]);
        check_consumed(r->group, records[i].offset.v, id, &r->next);
    }
    sim.count.consumed += n;
    if (sim_one_in(50) && !sim.healing) {
        r->paused = true;
        weir_consumer_pause(consumer);
    }
}

static void consume(struct sim_client *c, unsigned group, int64_t from);

static void on_failed(void *data, struct weir_consumer *consumer, int status, const char *text)
{
    struct reader *r = data;
    if (status == WEIR_ERANGE && r->next < check_start_offset(r->group)) {
        weir_consumer_close(consumer);
        r->paused = false;
        consume(r->client, r->group, WEIR_OFFSET_BEGIN);
        return;
    }
    sim_violate(SIM_CONSUMED, "a consumer of %s at offset %lld failed: %d, %s",
                group_text(r->group), (long long)r->next, status, text);
}

static void consume(struct sim_client *c, unsigned group, int64_t from)
{
    struct reader *r = &c->readers[group];
    struct error err = {0};
    uint32_t partition;
    const struct config_topic *topic = topic_of(group, &partition);
    struct weir_consumer_events events = {.data = r, .records = on_records, .failed = on_failed};
    r->client = c;
    r->group = group;
    if (weir_consume(c->client, topic->name, partition, from, &events, &r->consumer, &err) != 0) {
        sim_violate(SIM_CONSUMED, "weir_consume: %s", err.text);
    }
}

/* --- A client's life --- */

static void on_timer(struct env_timer *timer)
{
    struct sim_client *c = timer->data;
    if (c->fenced) { /* of no use any more */
        machine_crash(c->process->machine, CRASH_KILL, sim_between(50, 1500) * SIM_MS);
    }
    member_tick(c->member, work.ending);
    for (unsigned g = 0; g < sim.n_written; g++) {
        struct reader *r = &c->readers[g];
        if (r->paused && (sim.healing || sim_one_in(8))) {
            r->paused = false;
            weir_consumer_resume(r->consumer);
        }
    }
    if (sim_one_in(4)) {
        ask_offsets(c, (unsigned)sim_below(sim.n_written));
    }
    if (!work.ending) {
        bool keyed = sim.keys > 0 && sim_one_in(3); /* the last one */
        unsigned group = keyed ? sim.n_written - 1 : (unsigned)sim_below(sim.n_written);
        for (uint64_t n = sim_between(1, c->burst); n > 0; n--) {
            produce(c, group);
        }
    } else {
        for (unsigned g = 0; g < sim.n_written; g++) {
            if (work.acked_at_end[g] == 0 && c->outstanding < 50) {
                produce(c, g);
            }
        }
    }
    env_timer_start(timer, work.ending ? 200000 : 1 + sim_below(2 * c->pause_us), on_timer);
}

static void on_client(struct event *event)
{
    struct process *p = event->data;
    struct sim_client *c = sim_alloc(sizeof(*c));
    struct error err = {0};
    char seeds[SIM_NODES_MAX][32];
    const char *list[SIM_NODES_MAX];
    unsigned first = (unsigned)sim_below(sim.n_nodes);
    for (unsigned i = 0; i < sim.n_nodes; i++) {
        (void)snprintf(seeds[i], sizeof(seeds[i]), "10.0.0.%u:7201", (first + i) % sim.n_nodes + 1);
        list[i] = seeds[i];
    }
    struct weir_client_options options = {
        .seeds = list,
        .n_seeds = sim.n_nodes,
        .secret = SECRET,
        .name = "sim",
        .timeout_ms = (uint32_t)sim_between(500, 8000),
        .batch_bytes_max = (uint32_t)sim_between(4, 60) << 10,
        .inflight_batches_max = (uint32_t)sim_between(1, 5),
    };
    if (sim.named && !sim.healing && (sim_one_in(2) || sim.options.named)) {
        options.producer_name = SIM_PRODUCER;
        check_named(p->machine->id, p->life);
    }
    c->process = p;
    p->client = c;
    c->pause_us = sim_between(2, 60) * 1000;
    c->burst = (unsigned)sim_between(1, 30);
    if (weir_client_new(&p->env, &options, &c->client, &err) != 0 ||
        env_timer_init(&p->env, &c->timer) != 0) {
        fprintf(stderr, "sim: client: %s\n", err.text);
        abort();
    }
    c->member = member_new(p, c->client);
    c->timer.data = c;
    env_timer_start(&c->timer, 1000, on_timer);
    for (unsigned g = 0; g < sim.n_written; g++) {
        if (sim_one_in(3) || p->machine->id == sim.n_nodes + 1) {
            consume(c, g, 0); /* the first client: all */
        }
    }
}

void client_boot(struct machine *m)
{
    struct process *p = process_new(m);
    struct event *boot = sim_alloc(sizeof(*boot));
    event_at(boot, p, sim.now_ns, on_client, p);
}

void workload_init(void)
{
    memset(&work, 0, sizeof(work));
    for (unsigned i = 1; i <= sim.n_clients; i++) {
        machine_boot_in(&sim.machines[sim.n_nodes + i], sim_below(500 * SIM_MS));
    }
}

void workload_end(void)
{
    work.ending = true;
}

/* --- The end --- */

const char *workload_missing(void)
{
    static char text[160];
    for (unsigned g = 0; g < sim.n_written; g++) {
        if (work.acked_at_end[g] == 0) {
            (void)snprintf(text, sizeof(text), "%s takes no records", group_text(g));
            return text;
        }
    }
    for (unsigned i = sim.n_nodes + 1; i <= sim.n_nodes + sim.n_clients; i++) {
        const struct process *p = sim.machines[i].process;
        if (p == NULL || p->client == NULL) {
            return "a client is down";
        }
        if (p->client->outstanding > 0) {
            (void)snprintf(text, sizeof(text), "client %u waits for %u records", i,
                           p->client->outstanding);
            return text;
        }
        for (unsigned g = 0; g < sim.n_written; g++) {
            const struct reader *r = &p->client->readers[g];
            if (r->consumer != NULL && r->next < check_end_offset(g) &&
                check_start_offset(g) < check_end_offset(g) &&
                !compaction_takes(g, r->next, check_end_offset(g))) {
                (void)snprintf(text, sizeof(text), "client %u has read %s up to %lld of %lld", i,
                               group_text(g), (long long)r->next, (long long)check_end_offset(g));
                return text;
            }
        }
    }
    return check_crowds_missing();
}

bool workload_done(void)
{
    return workload_missing() == NULL;
}
