/* Members that come, go and change roles, leadership that is handed over, and disks that are lost:
 * whole, the metadata, or the end of the log. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* --- Configurations --- */

static uint64_t config_at_or_below(const struct sim_entry *log, uint64_t index)
{
    while (index > 0 && (log[index].payload == NULL || log[index].type != LOG_ENTRY_CONFIG)) {
        index--;
    }
    return index;
}

static bool decode(const void *data, size_t len, struct raft_configuration *ret_conf)
{
    struct error err;
    return configuration_decode(data, len, ret_conf, &err) == 0;
}

bool sim_same_configuration(const struct raft_configuration *a, const struct sim_entry *e)
{
    struct raft_configuration b;
    if (!decode(e->payload, e->len, &b)) {
        return false;
    }
    bool same = a->n == b.n;
    for (unsigned i = 0; same && i < b.n; i++) {
        same = a->servers[i].id == b.servers[i].id && a->servers[i].role == b.servers[i].role;
    }
    raft_configuration_close(&b);
    return same;
}

void sim_check_snapshot(const struct sim_node *n, const struct partition_meta *meta)
{
    const struct sim_disk *d = &n->disk;
    struct raft_configuration conf;
    uint64_t at = config_at_or_below(d->log, meta->snapshot_index.v);
    if (meta->snapshot_index.v == 0 || at < d->begin.first_index.v || meta->recovering) {
        return;
    }
    if (!decode(meta->snapshot_config, meta->snapshot_config_len, &conf)) {
        sim_violate(SIM_DISK_MISUSE, n, "a snapshot's configuration can't be read");
        return;
    }
    if (!sim_same_configuration(&conf, &d->log[at])) {
        sim_violate(SIM_MEMORY_DISK, n, "a snapshot has another configuration than its log");
    }
    raft_configuration_close(&conf);
}

/* The newest committed one; false while another one is on its way. */
static bool settled_configuration(struct raft_configuration *ret_conf, uint64_t *ret_index)
{
    uint64_t at = config_at_or_below(sim.committed, sim.committed_last);
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        const struct sim_disk *d = &sim.nodes[id].disk;
        if (at == 0 || config_at_or_below(d->log, d->last) > at) {
            return false;
        }
    }
    *ret_index = at;
    return decode(sim.committed[at].payload, sim.committed[at].len, ret_conf);
}

/* --- Changes and transfers --- */

static struct sim_node *any_leader(void)
{
    uint32_t id = 1 + (uint32_t)(sim_random() % sim.n_nodes);
    for (uint32_t i = 0; i < sim.n_nodes; i++, id = id % sim.n_nodes + 1) {
        struct sim_node *n = &sim.nodes[id];
        if (n->up && !n->closing && group_is_leader(n->group)) {
            return n;
        }
    }
    return NULL;
}

static void changed(struct group_change *req, int status)
{
    sim.n_changes += status == 0;
    free(req);
}

static enum group_role wanted_role(const struct group *g, uint32_t id)
{
    switch (configuration_role(&g->raft.configuration, id)) {
    case GROUP_NONE:
        return sim_chance(1, 2) ? GROUP_STANDBY : GROUP_VOTER;
    case GROUP_STANDBY:
    case GROUP_SPARE:
        return sim_chance(1, 4) ? GROUP_NONE : GROUP_VOTER;
    default:
        return sim_chance(1, 2) ? GROUP_STANDBY : GROUP_NONE;
    }
}

/* A voter that is taken away is one that can't be lost any more: of those that stay, a majority has
 * to know what it promised. The leader looks at that too, but it can't know of a disk that has been
 * lost in this moment. */
static bool may_change(const struct group *g, uint32_t id, enum group_role role)
{
    const struct raft_configuration *c = &g->raft.configuration;
    unsigned voters = 0, whole = 0;
    for (uint32_t at = 1; at <= sim.n_nodes; at++) {
        bool votes = at == id ? role == GROUP_VOTER : configuration_role(c, at) == GROUP_VOTER;
        voters += votes;
        whole += votes && !sim.nodes[at].lost;
    }
    return whole > voters / 2;
}

void sim_change(void)
{
    struct sim_node *n = any_leader();
    struct group_change *req = calloc(1, sizeof(*req));
    uint32_t id = 1 + (uint32_t)(sim_random() % sim.n_nodes);
    enum group_role role = n != NULL ? wanted_role(n->group, id) : GROUP_NONE;
    if (n == NULL || req == NULL || !may_change(n->group, id, role) ||
        group_change(n->group, req, id, role, changed) != 0) {
        free(req);
    }
}

static void transferred(struct group_transfer *req, int status)
{
    sim.n_transfers += status == 0;
    free(req);
}

void sim_transfer(void)
{
    struct sim_node *n = any_leader();
    struct group_transfer *req = calloc(1, sizeof(*req));
    uint32_t id = (uint32_t)(sim_random() % (sim.n_nodes + 1));
    if (n == NULL || req == NULL || group_transfer(n->group, req, id, transferred) != 0) {
        free(req);
    }
}

/* --- Lost disks --- */

static void lose(struct sim_node *n)
{
    struct sim_disk *d = &n->disk;
    uint64_t first = d->begin.first_index.v;
    unsigned what = d->last >= first && first > 0 ? (unsigned)(sim_random() % 3) : 0;
    if (what == 0) {
        memset(d, 0, sizeof(*d));
        memset(&n->votes, 0, sizeof(n->votes));
    } else if (what == 1) {
        d->meta = (struct partition_meta){.recovering = true};
        memset(&n->votes, 0, sizeof(n->votes));
    } else {
        d->last = first + sim_random() % (d->last - first + 1);
        d->durable = d->last;
        d->meta.recovering = true;
    }
    n->lost = true;
    n->checked = 0;
    sim.n_wipes++;
}

/* As many as may be lost at once: a majority of the voters still knows what it promised. */
static bool may_lose(const struct sim_node *victim)
{
    struct raft_configuration conf;
    uint64_t at;
    if (!settled_configuration(&conf, &at)) {
        return false;
    }
    unsigned voters = configuration_voters(&conf), whole = 0;
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        const struct sim_node *n = &sim.nodes[id];
        /* One that has not written the first entry knows nothing yet. */
        whole += n != victim && !n->lost && n->disk.durable > 0 &&
                 configuration_role(&conf, id) == GROUP_VOTER;
    }
    raft_configuration_close(&conf);
    return whole > voters / 2;
}

void sim_lose_a_disk(void)
{
    struct sim_node *n = &sim.nodes[1 + sim_random() % sim.n_nodes];
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *other = &sim.nodes[id];
        if (other->lost && other->up && other->group->phase == GROUP_UP &&
            !group_recovering(other->group)) {
            other->lost = false;
        }
    }
    if (!may_lose(n)) {
        return;
    }
    sim_crash(n);
    /* What an earlier life said does not arrive once the new one is connected. */
    for (uint32_t to = 1; to <= sim.n_nodes; to++) {
        sim.net[n->id][to] = NULL;
    }
    lose(n);
}

/* --- The end --- */

/* Must this node have everything? */
bool sim_is_member(const struct sim_node *n)
{
    struct raft_configuration conf;
    uint64_t at = config_at_or_below(sim.committed, sim.committed_last);
    if (at == 0 || !decode(sim.committed[at].payload, sim.committed[at].len, &conf)) {
        return true;
    }
    enum group_role role = configuration_role(&conf, n->id);
    raft_configuration_close(&conf);
    return role == GROUP_VOTER || role == GROUP_STANDBY;
}
