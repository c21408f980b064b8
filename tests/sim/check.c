/* The checkers: what the log promises, compared after every event with what was seen so far.
 *
 * The oracle learns an entry when the first node's commit mark has passed it, and from then on
 * nothing may contradict it: no node, no acknowledgement, no consumer, in no later life. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "consensus/group_impl.h"
#include "nodes/broker/broker_priv.h"
#include "sim.h"

#define GROUPS_MAX   SIM_GROUPS_MAX
#define TERMS_MAX    65536
#define REFUSED_ROOM 4096 /* a power of two */

struct oracle_entry {
    uint64_t term;
    int64_t base;
    uint32_t crc, len;
    enum log_entry_type type;
};

/* One group's truth. */
struct oracle {
    struct oracle_entry *entries; /* [index] */
    uint64_t last, room;
    uint64_t *ids; /* [offset] */
    int64_t end, ids_room;
    int64_t start; /* the highest start offset that a node has committed */
    uint64_t last_sequence[SIM_CLIENTS_MAX][256]; /* by client and life: order */
    unsigned solo;                                /* client and life whose turn it is; 0: none */
    bool replaced[SIM_CLIENTS_MAX][256];
    uint8_t leader[TERMS_MAX]; /* [term]: node id, 0: none seen */
};

/* What was seen of one node's life. */
struct node_watch {
    uint64_t commit[GROUPS_MAX], term[GROUPS_MAX];
};

static struct oracle *oracles;
static uint64_t checked[SIM_NODES_MAX + 1][GROUPS_MAX]; /* entries compared, over all lives */

static bool named[SIM_CLIENTS_MAX][256];
static uint64_t refused[REFUSED_ROOM]; /* the newest ones, by hash */

void check_init(void)
{
    oracles = sim_alloc(sim.n_groups * sizeof(*oracles));
    compaction_init();
    check_groups_init();
}

/* --- The oracle --- */

static void *grown(void *array, uint64_t *room, uint64_t need, size_t size)
{
    if (need < *room) {
        return array;
    }
    *room = need * 2 + 64;
    array = realloc(array, *room * size);
    if (array == NULL) {
        abort();
    }
    return array;
}

/* Who takes the name fences those who had it: theirs don't come behind its records. */
static void check_turn(struct oracle *o, unsigned group, unsigned client, unsigned life)
{
    unsigned who = client << 8 | life, index = client - sim.n_nodes - 1;
    if (!named[index][life] || o->solo == who) {
        return;
    }
    if (o->replaced[index][life]) {
        sim_violate(SIM_ORDER, "%s offset %" PRId64 ": a record of client %u, which was fenced",
                    group_text(group), o->end - 1, client);
    }
    if (o->solo != 0) {
        o->replaced[(o->solo >> 8) - sim.n_nodes - 1][o->solo & 0xff] = true;
    }
    o->solo = who;
}

static uint64_t *refused_at(uint64_t id)
{
    return &refused[(id * 0x9e3779b97f4a7c15ull >> 40) % REFUSED_ROOM];
}

static void learn_record(struct oracle *o, unsigned group, uint64_t id)
{
    uint64_t room = (uint64_t)o->ids_room;
    o->ids = grown(o->ids, &room, (uint64_t)o->end, sizeof(*o->ids));
    o->ids_room = (int64_t)room;
    o->ids[o->end++] = id;
    if (group >= sim.n_written || (group_compacted(group) && is_tombstone_id(id))) {
        return; /* the broker's own; no number */
    }
    unsigned client = (unsigned)(id >> 56), life = id >> 48 & 0xff;
    uint64_t sequence = id & 0xffffffffffull;
    if (client <= sim.n_nodes || client > sim.n_nodes + sim.n_clients ||
        (id >> 40 & 0xff) != group) {
        sim_violate(SIM_DIVERGED, "%s holds record %016" PRIx64 ", which nobody sent there",
                    group_text(group), id);
        return;
    }
    uint64_t *last = &o->last_sequence[client - sim.n_nodes - 1][life];
    if (sequence <= *last) {
        bool twice = false;
        for (int64_t i = 0; i + 1 < o->end; i++) {
            twice = twice || o->ids[i] == id;
        }
        sim_violate(twice ? SIM_DOUBLED : SIM_ORDER,
                    "%s offset %" PRId64 ": record %016" PRIx64 " %s, after sequence %" PRIu64,
                    group_text(group), o->end - 1, id, twice ? "again" : "late", *last);
    }
    *last = sequence;
    check_turn(o, group, client, life);
    if (*refused_at(id) == id) {
        sim_violate(SIM_DOUBLED, "%s offset %" PRId64 ": record %016" PRIx64 " was refused",
                    group_text(group), o->end - 1, id);
    }
}

static void learn(struct oracle *o, unsigned group, const struct partition_entry *e)
{
    struct oracle_entry *entry;
    if (e->index.v != o->last + 1) {
        sim_violate(SIM_LOST, "%s: entry %" PRIu64 " is committed, and nobody has %" PRIu64,
                    group_text(group), e->index.v, o->last + 1);
        return;
    }
    o->entries = grown(o->entries, &o->room, e->index.v + 1, sizeof(*o->entries));
    entry = &o->entries[e->index.v];
    *entry = (struct oracle_entry){.term = e->term.v,
                                   .base = e->base_offset.v,
                                   .crc = crc32c(0, e->payload, e->len),
                                   .len = e->len,
                                   .type = e->type};
    o->last = e->index.v;
    sim.count.committed++;
    compaction_learn(group, e);
    if (e->base_offset.v != o->end) {
        sim_violate(SIM_OFFSETS, "%s entry %" PRIu64 " begins at offset %" PRId64 ", not %" PRId64,
                    group_text(group), e->index.v, e->base_offset.v, o->end);
        return;
    }
    if (e->type != LOG_ENTRY_BATCH) {
        return;
    }
    struct batch_iter it;
    struct batch_record record;
    struct error err = {0};
    int rv = batch_iter_init(&it, e->payload, e->len, &err);
    while (rv == 0 && (rv = batch_iter_next(&it, &record, &err)) == 1) {
        if (group >= sim.n_written) {
            check_groups_learn(group, &record);
        }
        learn_record(o, group, record_id(group, &record));
        rv = 0;
    }
    if (rv < 0) {
        sim_violate(SIM_DIVERGED, "%s entry %" PRIu64 ": %s", group_text(group), e->index.v,
                    err.text);
    }
}

/* --- Nodes --- */

struct look {
    unsigned node, group;
    uint64_t upto;
};

static int on_entry(void *data, const struct partition_entry *e)
{
    const struct look *l = data;
    struct oracle *o = &oracles[l->group];
    if (e->index.v > l->upto) {
        return 1;
    }
    if (e->index.v > o->last) {
        learn(o, l->group, e);
    } else {
        const struct oracle_entry *have = &o->entries[e->index.v];
        bool same = have->len == e->len && have->crc == crc32c(0, e->payload, e->len);
        if (have->term != e->term.v || have->base != e->base_offset.v || have->type != e->type ||
            (!same && !compaction_explains(l->group, e))) {
            sim_violate(SIM_DIVERGED,
                        "%s entry %" PRIu64 ": node %u has term %" PRIu64 ", %u bytes, crc %08x; "
                        "committed was term %" PRIu64 ", %u bytes, crc %08x",
                        group_text(l->group), e->index.v, l->node, e->term.v, e->len,
                        crc32c(0, e->payload, e->len), have->term, have->len, have->crc);
        }
    }
    checked[l->node][l->group] = e->index.v;
    return sim.violation != 0;
}

static void compare(unsigned node, unsigned group, struct partition *p, uint64_t from,
                    uint64_t upto)
{
    struct look look = {.node = node, .group = group, .upto = upto};
    struct error err = {0};
    sim.looking = true;
    for (uint64_t at = from; at <= upto && sim.violation == 0;) {
        int rv = partition_read(p, LOG_INDEX(at), 1u << 20, on_entry, &look, &err);
        if (rv < 0 || checked[node][group] < at) {
            sim_violate(SIM_LOST, "%s entry %" PRIu64 " can't be read on node %u: %s",
                        group_text(group), at, node, err.text);
        }
        at = checked[node][group] + 1;
    }
    sim.looking = false;
}

static void check_leader(const struct process *p, unsigned group, const struct group *g)
{
    uint64_t term = g->raft.current_term;
    uint8_t id = (uint8_t)p->machine->id;
    if (!g->raft_started || g->raft.state != RAFT_LEADER || term >= TERMS_MAX) {
        return;
    }
    uint8_t *leader = &oracles[group].leader[term];
    if (*leader == 0) {
        *leader = id;
        sim.count.elections++;
    } else if (*leader != id) {
        sim_violate(SIM_LEADERS, "%s term %" PRIu64 ": node %u leads, and node %u did",
                    group_text(group), term, id, *leader);
    }
}

/* Records of the second topic may go. */
static bool retained(unsigned group)
{
    const struct config_topic *t = sim.config[1].topics;
    return group >= sim.n_written || (group >= t[0].partitions && sim.retain_ms > 0 &&
                                      group < t[0].partitions + t[1].partitions);
}

static void check_replica(struct process *p, unsigned group, const struct replica *r)
{
    struct node_watch *w = p->watch;
    struct group *g = r->group;
    if (r->failed_code == WEIR_ECORRUPT && p->machine->id != sim.victim) {
        sim_violate(SIM_FAILED, "%s on node %u: %s", group_text(group), p->machine->id, r->failed);
    }
    if (g == NULL || g->partition == NULL) {
        w->term[group] = w->commit[group] = 0; /* it may come back, as another one */
        return;
    }
    check_leader(p, group, g);
    uint64_t commit = partition_commit_index(g->partition).v;
    uint64_t term = group_term(g).v;
    if (commit < w->commit[group]) {
        sim_violate(SIM_BACK, "%s on node %u: commit %" PRIu64 " after %" PRIu64, group_text(group),
                    p->machine->id, commit, w->commit[group]);
    }
    if (term < w->term[group]) {
        sim_violate(SIM_BACK, "%s on node %u: term %" PRIu64 " after %" PRIu64, group_text(group),
                    p->machine->id, term, w->term[group]);
    }
    w->term[group] = term;
    int64_t start = partition_start_offset(g->partition).v;
    if (start > oracles[group].start) {
        oracles[group].start = start;
        if (!retained(group)) {
            sim_violate(SIM_LOST,
                        "%s on node %u begins at offset %" PRId64 ", and all is to be kept",
                        group_text(group), p->machine->id, start);
        }
    }
    if (commit > w->commit[group]) {
        w->commit[group] = commit;
        if (commit > checked[p->machine->id][group]) {
            uint64_t from = checked[p->machine->id][group] + 1;
            uint64_t first = partition_first_index(g->partition).v;
            compare(p->machine->id, group, g->partition, from > first ? from : first, commit);
        }
    }
}

static const struct replica *replica_of(const struct process *p, unsigned group)
{
    const struct broker *b = process_shard(p, group);
    return b != NULL ? &b->replicas[group] : NULL;
}

void check_process(struct process *p)
{
    if (p->broker == NULL || sim.violation != 0) {
        return;
    }
    if (p->watch == NULL) {
        p->watch = sim_alloc(sizeof(*p->watch));
    }
    for (uint32_t i = 0; i < sim.n_groups; i++) {
        const struct replica *r = replica_of(p, i);
        if (r != NULL) {
            check_replica(p, i, r);
        }
    }
}

/* --- Clients --- */

static bool is_at(unsigned group, int64_t offset, uint64_t id)
{
    const struct oracle *o = &oracles[group];
    return offset >= 0 && offset < o->end && o->ids[offset] == id;
}

void check_acked(unsigned group, int64_t offset, uint64_t id)
{
    if (!is_at(group, offset, id)) {
        sim_violate(SIM_LOST,
                    "%s offset %" PRId64 " was acknowledged to record %016" PRIx64
                    ", but no node has committed that",
                    group_text(group), offset, id);
    }
}

void check_refused(unsigned group, uint64_t id)
{
    const struct oracle *o = &oracles[group];
    if (is_tombstone_id(id)) {
        return; /* there may be others of its key */
    }
    for (int64_t i = o->end - 1; i >= 0; i--) {
        if (o->ids[i] == id) {
            sim_violate(SIM_DOUBLED, "%s: record %016" PRIx64 " was refused, and is at %" PRId64,
                        group_text(group), id, i);
        }
    }
    *refused_at(id) = id;
}

void check_named(unsigned client, unsigned life)
{
    named[client - sim.n_nodes - 1][life & 0xff] = true;
}

void check_consumed(unsigned group, int64_t offset, uint64_t id, int64_t *next)
{
    bool skipped =
        offset > *next && (*next < oracles[group].start || compaction_takes(group, *next, offset));
    if ((offset != *next && !skipped) || !is_at(group, offset, id)) {
        sim_violate(SIM_CONSUMED,
                    "%s: a consumer got record %016" PRIx64 " at offset %" PRId64
                    ", expected offset %" PRId64 " of %" PRId64,
                    group_text(group), id, offset, *next, oracles[group].end);
    }
    *next = offset + 1;
}

int64_t check_start_offset(unsigned group)
{
    return oracles[group].start;
}

int64_t check_end_offset(unsigned group)
{
    return oracles[group].end;
}

/* --- The end --- */

static void say_group(unsigned node, unsigned group)
{
    const struct process *p = sim.machines[node].process;
    const struct replica *r = p != NULL && p->broker != NULL ? replica_of(p, group) : NULL;
    struct group_member members[GROUP_VOTERS_MAX];
    char text[128] = "";
    if (r == NULL || r->group == NULL) {
        sim_say("  node %u %s: %s %s", node, group_text(group), r == NULL ? "down" : "no group",
                r != NULL ? r->failed : "");
        return;
    }
    const struct group *g = r->group;
    unsigned n = group_members(g, members, GROUP_VOTERS_MAX);
    for (unsigned i = 0, at = 0; i < n && at < sizeof(text) - 16; i++) {
        at += (unsigned)snprintf(text + at, sizeof(text) - at, " %u:%d", members[i].id,
                                 (int)members[i].role);
    }
    sim_say("  node %u %s: phase %d state %d term %llu leader %u first %" PRIu64 " last %" PRIu64
            " commit %" PRIu64 " recovering %d%s members%s %s",
            node, group_text(group), (int)g->phase, (int)g->raft.state, (unsigned long long)g->term,
            group_leader(g), partition_first_index(g->partition).v,
            partition_last_index(g->partition).v, partition_commit_index(g->partition).v,
            g->recovering, r->wanted ? "" : " not wanted", text, r->failed);
}

void check_say(void)
{
    for (unsigned k = 0; k < sim.n_groups; k++) {
        for (unsigned i = 1; i <= sim.n_nodes; i++) {
            say_group(i, k);
        }
    }
}

/* NULL also where none is wanted. */
static const struct group *group_on(unsigned node, unsigned group)
{
    const struct process *p = sim.machines[node].process;
    const struct replica *r = p != NULL && p->broker != NULL ? replica_of(p, group) : NULL;
    return r != NULL ? r->group : NULL;
}

/* What the cluster is, as the node knows it that has read most of `meta`. */
static const struct cluster *newest_cluster(void)
{
    const struct cluster *newest = NULL;
    for (unsigned i = 1; i <= sim.n_founders; i++) {
        const struct process *p = sim.machines[i].process;
        const struct broker *b = p != NULL ? p->broker : NULL;
        if (b != NULL && (newest == NULL || b->roster.cluster.next > newest->next)) {
            newest = &b->roster.cluster;
        }
    }
    return newest;
}

/* A node that is removed while it is down may never hear of it, and one that was just asked in may
 * not know yet: what the others say counts, and then what it does itself. */
static bool wanted_on(unsigned node, unsigned group)
{
    const struct process *p = sim.machines[node].process;
    const struct cluster *cluster = newest_cluster();
    const struct cluster_node *n = cluster != NULL ? cluster_node(cluster, node) : NULL;
    if (n == NULL || n->state == CLUSTER_REMOVED) {
        return cluster == NULL;
    }
    if (p == NULL || p->broker == NULL) {
        return true;
    }
    return (node <= sim.n_founders || p->broker->roster.known) && replica_of(p, group)->wanted;
}

/* Replicas that can't go on: their process has to be started anew. */
static const struct replica *failed_replica(unsigned node)
{
    const struct process *p = sim.machines[node].process;
    for (uint32_t i = 0; p != NULL && p->broker != NULL && i < p->broker->n_replicas; i++) {
        const struct replica *r = replica_of(p, i);
        if (r != NULL && r->failed[0] != '\0') {
            return r;
        }
    }
    return NULL;
}

const char *check_failed_replica(unsigned node)
{
    const struct replica *r = failed_replica(node);
    return r != NULL ? r->failed : NULL;
}

bool check_converged(const char **ret_why)
{
    static char why[256];
    *ret_why = why;
    for (unsigned k = 0; k < sim.n_groups; k++) {
        const struct oracle *o = &oracles[k];
        for (unsigned i = 1; i <= sim.n_nodes; i++) {
            const struct group *g = group_on(i, k);
            if (!wanted_on(i, k)) {
                continue;
            }
            const struct replica *failed = failed_replica(i);
            if (g == NULL || failed != NULL) {
                (void)snprintf(why, sizeof(why), "node %u is not up%s%.180s", i,
                               failed != NULL ? ": " : "", failed != NULL ? failed->failed : "");
                return false;
            }
            uint64_t commit = partition_commit_index(g->partition).v;
            uint64_t last = partition_last_index(g->partition).v;
            if (commit == o->last && !compaction_done(k, g)) {
                (void)snprintf(why, sizeof(why), "%s on node %u is not compacted", group_text(k),
                               i);
                return false;
            }
            if (commit != o->last || last != o->last) {
                (void)snprintf(why, sizeof(why),
                               "%s on node %u: last %" PRIu64 ", commit %" PRIu64 " of %" PRIu64,
                               group_text(k), i, last, commit, o->last);
                return false;
            }
            if (!check_fold_is_current(sim.machines[i].process, k)) {
                (void)snprintf(why, sizeof(why), "node %u has not folded %s", i, group_text(k));
                return false;
            }
        }
    }
    return true;
}

/* Where the log begins on a node. Before that there may have been entries, but no records that can
 * be read. */
static uint64_t begin_of(unsigned node, unsigned group)
{
    struct partition *p = group_on(node, group)->partition;
    uint64_t first = partition_first_index(p).v;
    const struct oracle *o = &oracles[group];
    int64_t base = first <= o->last ? o->entries[first].base : o->end;
    if (first > 1 && base > partition_start_offset(p).v) {
        sim_violate(SIM_LOST,
                    "%s on node %u begins at entry %" PRIu64 ", offset %" PRId64
                    ", but offset %" PRId64 " is to be readable",
                    group_text(group), node, first, base, partition_start_offset(p).v);
    }
    return first;
}

static bool compared(unsigned node, unsigned group)
{
    /* Of the victim a flipped bit that nobody has read yet may still be there. */
    return wanted_on(node, group) && node != sim.victim;
}

/* All logs, from the disk, from the first entry on. */
static void check_logs(unsigned group)
{
    uint8_t first[PARTITION_HASH_SIZE] = {0}, hash[PARTITION_HASH_SIZE] = {0};
    uint64_t common = 1;
    unsigned n = 0;
    for (unsigned i = 1; i <= sim.n_nodes; i++) {
        uint64_t begin = compared(i, group) ? begin_of(i, group) : 1;
        common = begin > common ? begin : common;
    }
    for (unsigned i = 1; i <= sim.n_nodes && sim.violation == 0; i++) {
        if (!compared(i, group)) {
            continue;
        }
        struct partition *p = group_on(i, group)->partition;
        struct log_index last;
        struct error err = {0};
        compare(i, group, p, partition_first_index(p).v, oracles[group].last);
        sim.looking = true;
        int rv = partition_hash(p, LOG_INDEX(common), LOG_INDEX(oracles[group].last), UINT64_MAX,
                                n == 0 ? first : hash, &last, &err);
        sim.looking = false;
        if (rv != 0) {
            sim_violate(SIM_UNEQUAL, "%s on node %u: %s", group_text(group), i, err.text);
        } else if (n++ > 0 && memcmp(first, hash, sizeof(hash)) != 0) {
            sim_violate(SIM_UNEQUAL, "%s on node %u: another hash than the first node's",
                        group_text(group), i);
        }
        compaction_check_end(i, group, p);
    }
}

void check_end(void)
{
    for (unsigned k = 0; k < sim.n_groups && sim.violation == 0; k++) {
        check_logs(k);
        for (unsigned i = 1; i <= sim.n_nodes && k >= sim.n_written; i++) {
            if (wanted_on(i, k)) {
                check_fold(i, sim.machines[i].process, k);
            }
        }
    }
}
