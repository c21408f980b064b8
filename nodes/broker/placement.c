#include "nodes/broker/placement.h"

#include <string.h>

void placement_initial(const uint32_t *ids, unsigned n, uint32_t partition, unsigned replicas,
                       struct cluster_ids *ret_replicas)
{
    ret_replicas->n = 0;
    replicas = replicas < CLUSTER_REPLICAS_MAX ? replicas : CLUSTER_REPLICAS_MAX;
    replicas = replicas < n ? replicas : n;
    for (unsigned i = 0; i < replicas; i++) {
        cluster_ids_add(ret_replicas, ids[(partition + i) % n]);
    }
}

unsigned placement_moving(const struct cluster *c)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < c->n_placements; i++) {
        n += c->placements[i].leaving.n > 0;
    }
    return n;
}

/* --- Replicas --- */

/* The nodes that may take partitions, and how many each has. */
struct loads {
    uint32_t ids[CLUSTER_NODES_MAX];
    uint32_t count[CLUSTER_NODES_MAX];
    bool usable[CLUSTER_NODES_MAX];
    unsigned n;
};

static bool is_meta(const struct cluster *c, uint32_t index)
{
    return (int64_t)index ==
           cluster_index(c->config, CLUSTER_META_TOPIC, strlen(CLUSTER_META_TOPIC), 0);
}

static int load_of(const struct loads *l, uint32_t id)
{
    for (unsigned i = 0; i < l->n; i++) {
        if (l->ids[i] == id) {
            return (int)i;
        }
    }
    return -1;
}

static void count_loads(const struct cluster *c, placement_usable_cb usable, const void *data,
                        struct loads *l)
{
    memset(l, 0, sizeof(*l));
    l->n = cluster_log_nodes(c, l->ids);
    for (unsigned i = 0; i < l->n; i++) {
        l->usable[i] = usable(data, l->ids[i]);
    }
    for (uint32_t i = 0; i < c->n_placements; i++) {
        const struct cluster_ids *r = &c->placements[i].replicas;
        for (unsigned k = 0; k < r->n && !is_meta(c, i); k++) {
            int at = load_of(l, r->at[k]);
            if (at >= 0) {
                l->count[at]++;
            }
        }
    }
}

/* The usable node with the fewest partitions that does not hold `p` in any way; -1: none. */
static int emptiest(const struct loads *l, const struct cluster_placement *p)
{
    int best = -1;
    for (unsigned i = 0; i < l->n; i++) {
        if (l->usable[i] && !cluster_ids_have(&p->replicas, l->ids[i]) &&
            !cluster_ids_have(&p->leaving, l->ids[i]) &&
            (best < 0 || l->count[i] < l->count[best])) {
            best = (int)i;
        }
    }
    return best;
}

/* In place, so that the others keep their order. */
static void replace(struct cluster_placement *p, uint32_t from, uint32_t to)
{
    for (unsigned i = 0; i < p->replicas.n; i++) {
        if (p->replicas.at[i] == from) {
            p->replicas.at[i] = to;
        }
    }
    cluster_ids_add(&p->leaving, from);
}

/* A replica on a node that is to have none, or one too few. */
static bool repair(const struct cluster *c, const struct loads *l, uint32_t index,
                   struct cluster_placement *ret_placement)
{
    struct cluster_placement p = c->placements[index];
    for (unsigned i = 0; i < p.replicas.n; i++) {
        if (load_of(l, p.replicas.at[i]) >= 0) {
            continue;
        }
        int to = emptiest(l, &p);
        if (to >= 0) {
            replace(&p, p.replicas.at[i], l->ids[to]);
        } else if (p.replicas.n > c->replicas) {
            uint32_t gone = p.replicas.at[i];
            cluster_ids_remove(&p.replicas, gone);
            cluster_ids_add(&p.leaving, gone);
        } else {
            continue;
        }
        *ret_placement = p;
        return true;
    }
    if (p.replicas.n < c->replicas) {
        int to = emptiest(l, &p);
        if (to >= 0) {
            cluster_ids_add(&p.replicas, l->ids[to]);
            *ret_placement = p;
            return true;
        }
    }
    return false;
}

/* From the fullest usable node that holds it to the emptiest, when that brings them closer. */
static bool even_out(const struct cluster *c, const struct loads *l, uint32_t index,
                     struct cluster_placement *ret_placement, uint32_t *ret_gain)
{
    struct cluster_placement p = c->placements[index];
    int to = emptiest(l, &p), from = -1;
    for (unsigned i = 0; i < p.replicas.n; i++) {
        int at = load_of(l, p.replicas.at[i]);
        if (at >= 0 && l->usable[at] && (from < 0 || l->count[at] > l->count[from])) {
            from = at;
        }
    }
    if (to < 0 || from < 0 || l->count[from] <= l->count[to] + 1) {
        return false;
    }
    *ret_gain = l->count[from] - l->count[to];
    replace(&p, l->ids[from], l->ids[to]);
    *ret_placement = p;
    return true;
}

/* Members are changed by a group's leader: one that has not begun has none. */
static bool movable(const struct cluster *c, uint32_t index)
{
    const struct cluster_placement *p = &c->placements[index];
    return p->replicas.n > 0 && p->founders.n == 0;
}

int64_t placement_next(const struct cluster *c, placement_usable_cb usable, const void *data,
                       struct cluster_placement *ret_placement)
{
    struct loads l;
    int64_t best = -1;
    uint32_t best_gain = 0;
    count_loads(c, usable, data, &l);
    for (uint32_t i = 0; i < c->n_placements; i++) {
        if (movable(c, i) && c->placements[i].leaving.n == 0 && !is_meta(c, i) &&
            repair(c, &l, i, ret_placement)) {
            return i;
        }
    }
    if (placement_moving(c) > 0) {
        return -1;
    }
    for (uint32_t i = 0; i < c->n_placements; i++) {
        struct cluster_placement p;
        uint32_t gain = 0;
        if (movable(c, i) && !is_meta(c, i) && even_out(c, &l, i, &p, &gain) && gain > best_gain) {
            best = i;
            best_gain = gain;
            *ret_placement = p;
        }
    }
    return best;
}

/* --- Leaders --- */

static unsigned leads_of(const struct placement_lead *leads, uint32_t n, uint32_t id)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < n; i++) {
        count += leads[i].leader == id;
    }
    return count;
}

/* How much better things are after the transfer; 0: not at all. */
static unsigned gain_of(const struct placement_lead *lead, uint32_t target, const uint32_t *ids,
                        const unsigned *counts, unsigned n_ids, unsigned tolerance)
{
    int from = -1, to = -1;
    for (unsigned i = 0; i < n_ids; i++) {
        from = ids[i] == lead->leader ? (int)i : from;
        to = ids[i] == target ? (int)i : to;
    }
    if (to < 0) {
        return 0;
    }
    if (from < 0) {
        return 1000000u - counts[to]; /* it should not lead at all */
    }
    return counts[from] > counts[to] + tolerance ? counts[from] - counts[to] : 0;
}

bool placement_lead_next(const struct placement_lead *leads, uint32_t n, const uint32_t *ids,
                         unsigned n_ids, unsigned tolerance, uint32_t *ret_partition,
                         uint32_t *ret_target)
{
    unsigned counts[CLUSTER_NODES_MAX], best = 0;
    n_ids = n_ids < CLUSTER_NODES_MAX ? n_ids : CLUSTER_NODES_MAX;
    tolerance = tolerance > 0 ? tolerance : 1;
    for (unsigned i = 0; i < n_ids; i++) {
        counts[i] = leads_of(leads, n, ids[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (unsigned k = 0; leads[i].movable && leads[i].leader != 0 && k < leads[i].candidates.n;
             k++) {
            unsigned gain =
                gain_of(&leads[i], leads[i].candidates.at[k], ids, counts, n_ids, tolerance);
            if (gain > best) {
                best = gain;
                *ret_partition = i;
                *ret_target = leads[i].candidates.at[k];
            }
        }
    }
    return best > 0;
}
