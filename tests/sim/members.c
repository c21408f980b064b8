/* Consumer groups: members of one or two groups in the clients' programs, which join, leave, fall
 * behind and die. What they are given, are handed and say to be processed goes to the checker. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "workload.h"

struct part {
    bool mine;
    int64_t next;      /* the record that has to come */
    int64_t processed; /* all below; reported in manual mode */
};

struct sim_member {
    struct process *process;
    struct weir_client *client;
    struct weir_group *group;
    unsigned crowd;
    bool manual, leaving, paused;
    struct part parts[SIM_GROUPS_MAX];
};

static unsigned group_of(const char *topic, uint32_t partition)
{
    return group_index(topic) + partition;
}

/* --- What the group says --- */

static void on_assigned(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                        int64_t offset)
{
    struct sim_member *m = data;
    unsigned group = group_of(topic, partition);
    struct part *p = &m->parts[group];
    (void)g;
    if (p->mine) {
        sim_violate(SIM_CONSUMED, "%s: assigned to a member that has it", group_text(group));
    }
    sim_say("client %u: crowd %u: begins %s at %lld", m->process->machine->id, m->crowd,
            group_text(group), (long long)offset);
    sim_trace(21, group, (uint64_t)offset);
    *p = (struct part){.mine = true, .next = offset, .processed = offset};
    check_crowd_assigned(m->crowd, group, offset);
}

static void process(struct sim_member *m, unsigned group, int64_t upto)
{
    struct part *p = &m->parts[group];
    p->processed = upto;
    check_crowd_processed(m->crowd, group, upto);
}

static void report(struct sim_member *m, unsigned group)
{
    uint32_t partition;
    const struct config_topic *topic = topic_of(group, &partition);
    process(m, group, m->parts[group].next);
    weir_group_done(m->group, topic->name, partition, m->parts[group].next);
}

static void on_revoked(void *data, struct weir_group *g, const char *topic, uint32_t partition)
{
    struct sim_member *m = data;
    unsigned group = group_of(topic, partition);
    (void)g;
    sim_say("client %u: crowd %u: gives up %s at %lld", m->process->machine->id, m->crowd,
            group_text(group), (long long)m->parts[group].next);
    if (m->manual && sim_one_in(2)) {
        report(m, group);
    }
    m->parts[group].mine = false;
}

static void leave(struct sim_member *m);

static void on_records(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                       const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct sim_member *m = data;
    unsigned group = group_of(topic, partition);
    struct part *p = &m->parts[group];
    (void)g;
    (void)high_watermark;
    if (!p->mine) {
        sim_violate(SIM_CONSUMED, "%s: records for a member that was told that it is not its",
                    group_text(group));
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        check_consumed(group, records[i].offset.v, record_id(group, &records[i]), &p->next);
    }
    sim.count.consumed += n;
    if (!m->leaving && !sim.healing && sim_one_in(300)) {
        leave(m); /* these do not count as processed */
        return;
    }
    if (!m->manual) {
        process(m, group, p->next);
    } else if (sim.healing || sim_one_in(3)) {
        report(m, group);
    }
}

static void on_failed(void *data, struct weir_group *g, int status, const char *text)
{
    const struct sim_member *m = data;
    (void)g;
    sim_violate(SIM_CONSUMED, "a member of crowd %u failed: %d, %s", m->crowd, status, text);
}

/* --- A member's life --- */

static void on_left(void *data)
{
    struct sim_member *m = data;
    m->group = NULL;
    m->leaving = false;
}

static void leave(struct sim_member *m)
{
    m->leaving = true;
    weir_group_close(m->group, on_left, m);
}

/* So that no crowd is without. */
static unsigned crowd_at_end(const struct sim_member *m)
{
    return (m->process->machine->id - sim.n_nodes) % sim.n_crowds;
}

/* The first crowd reads all, the second one only the first topic. */
static void join(struct sim_member *m, bool ending)
{
    const char *topics[CONFIG_TOPICS_MAX];
    char name[16];
    struct error err = {0};
    struct weir_group_events events = {.data = m,
                                       .assigned = on_assigned,
                                       .revoked = on_revoked,
                                       .records = on_records,
                                       .failed = on_failed};
    struct weir_group_options options = {
        .group = name,
        .topics = topics,
        .from = WEIR_OFFSET_BEGIN,
        .session_ms = (uint32_t)sim_between(500, 4000),
        .commit_ms = (uint32_t)sim_between(20, 800),
        .manual = sim_one_in(3),
    };
    m->crowd = ending ? crowd_at_end(m) : (unsigned)sim_below(sim.n_crowds);
    (void)snprintf(name, sizeof(name), "crowd-%u", m->crowd);
    for (unsigned i = 0; i < sim.n_topics && (i == 0 || m->crowd == 0); i++) {
        topics[options.n_topics++] = sim.config[1].topics[i].name;
    }
    m->manual = options.manual;
    m->paused = false;
    memset(m->parts, 0, sizeof(m->parts));
    if (weir_group_join(m->client, &options, &events, &m->group, &err) != 0) {
        sim_violate(SIM_CONSUMED, "weir_group_join: %s", err.text);
    }
}

static void end_tick(struct sim_member *m)
{
    if (m->group == NULL) {
        join(m, true);
    } else if (m->leaving) {
        return;
    } else if (m->crowd != crowd_at_end(m)) {
        leave(m);
        return;
    }
    for (unsigned g = 0; m->manual && g < sim.n_written; g++) {
        if (m->parts[g].mine && m->parts[g].processed < m->parts[g].next) {
            report(m, g);
        }
    }
    if (m->paused) {
        m->paused = false;
        weir_group_resume(m->group);
    }
}

void member_tick(struct sim_member *m, bool ending)
{
    if (sim.n_crowds == 0) {
        return;
    }
    if (ending) {
        end_tick(m);
    } else if (m->group == NULL) {
        if (sim_one_in(20)) {
            join(m, false);
        }
    } else if (m->leaving) {
        return;
    } else if (sim_one_in(300)) {
        leave(m);
    } else if (sim_one_in(m->paused ? 10 : 150)) {
        m->paused = !m->paused;
        (m->paused ? weir_group_pause : weir_group_resume)(m->group);
    }
}

struct sim_member *member_new(struct process *p, struct weir_client *client)
{
    struct sim_member *m = sim_alloc(sizeof(*m));
    m->process = p;
    m->client = client;
    return m;
}
