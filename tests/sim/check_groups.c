/* What consumer groups, named producers and the cluster's own records promise. The log of `groups`
 * and `meta` is folded here too, record by record as it is committed; at the end every node must
 * have come to the same. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/broker/coordinator_priv.h"
#include "proto/groups.pb-c.h"
#include "sim.h"

/* How far a crowd is in one group of the log. */
struct progress {
    int64_t processed;   /* some member said so of all below */
    int64_t committed;   /* -1: nothing yet */
    uint64_t generation; /* of the newest commit */
};

static struct progress progress[SIM_CROWDS_MAX][SIM_GROUPS_MAX];
static struct group_view *views; /* of each partition of `groups` */
static struct cluster cluster;
static unsigned first_of_groups, n_of_groups, meta;

void check_groups_init(void)
{
    struct error err = {0};
    first_of_groups = group_index(CONFIG_TOPIC_GROUPS);
    meta = group_index(CLUSTER_META_TOPIC);
    n_of_groups = sim.n_groups - first_of_groups;
    views = sim_alloc(n_of_groups * sizeof(*views));
    for (unsigned i = 0; i < n_of_groups; i++) {
        group_view_init(&views[i]);
    }
    for (unsigned c = 0; c < SIM_CROWDS_MAX; c++) {
        for (unsigned g = 0; g < SIM_GROUPS_MAX; g++) {
            progress[c][g] = (struct progress){.committed = -1};
        }
    }
    if (cluster_found(&cluster, &sim.config[1], &err) != 0) {
        abort();
    }
}

/* --- Members --- */

void check_crowd_assigned(unsigned crowd, unsigned group, int64_t offset)
{
    const struct progress *p = &progress[crowd][group];
    if (offset > p->processed && offset > check_start_offset(group)) {
        sim_violate(SIM_CONSUMED,
                    "crowd %u: a member is to begin %s at offset %" PRId64
                    ", but only what is below %" PRId64 " was processed",
                    crowd, group_text(group), offset, p->processed);
    }
}

void check_crowd_processed(unsigned crowd, unsigned group, int64_t upto)
{
    struct progress *p = &progress[crowd][group];
    p->processed = upto > p->processed ? upto : p->processed;
}

static bool crowd_done(unsigned crowd, unsigned group)
{
    const struct progress *p = &progress[crowd][group];
    int64_t end = check_end_offset(group);
    int64_t done = p->processed < p->committed ? p->processed : p->committed;
    return check_start_offset(group) >= end || (done >= 0 && compaction_takes(group, done, end));
}

const char *check_crowds_missing(void)
{
    static char text[160];
    for (unsigned crowd = 0; crowd < sim.n_crowds; crowd++) {
        for (unsigned g = 0; g < (crowd == 0 ? sim.n_written : sim.config[1].topics[0].partitions);
             g++) {
            const struct progress *p = &progress[crowd][g];
            if (!crowd_done(crowd, g)) {
                (void)snprintf(text, sizeof(text),
                               "crowd %u has processed %s up to %" PRId64 ", committed %" PRId64
                               " of %" PRId64,
                               crowd, group_text(g), p->processed, p->committed,
                               check_end_offset(g));
                return text;
            }
        }
    }
    return NULL;
}

/* --- Records of `groups` and `meta` --- */

/* A member that was fenced would write what its successor has overtaken. */
static void check_offset(const Weir__GroupOffset *m)
{
    unsigned crowd = m->group[strlen(m->group) - 1] == '1';
    unsigned group = group_index(m->topic) + m->partition;
    if (strncmp(m->group, "crowd-", 6) != 0 || group >= sim.n_written) {
        sim_violate(SIM_DIVERGED, "a commit of group %.64s for %.64s-%u, which nobody made",
                    m->group, m->topic, m->partition);
        return;
    }
    struct progress *p = &progress[crowd][group];
    sim_say("crowd %u: %s committed up to %" PRId64 " in generation %" PRIu64, crowd,
            group_text(group), m->offset, m->generation);
    if (m->generation < p->generation || m->offset < p->committed) {
        sim_violate(SIM_BACK,
                    "crowd %u committed offset %" PRId64 " of %s in generation %" PRIu64
                    ", after offset %" PRId64 " in generation %" PRIu64,
                    crowd, m->offset, group_text(group), m->generation, p->committed,
                    p->generation);
    }
    if (m->offset > p->processed && m->offset > check_start_offset(group)) {
        sim_violate(SIM_CONSUMED,
                    "crowd %u committed offset %" PRId64 " of %s, but only what is below %" PRId64
                    " was processed",
                    crowd, m->offset, group_text(group), p->processed);
    }
    p->committed = m->offset;
    p->generation = m->generation;
}

static void learn_groups(unsigned part, const struct batch_record *r)
{
    Weir__GroupsRecord *m =
        r->value != NULL
            ? weir__groups_record__unpack(NULL, (size_t)r->value_len, (const uint8_t *)r->value)
            : NULL;
    if (m == NULL) {
        sim_violate(SIM_DIVERGED, "groups-%u offset %" PRId64 ": no record of a group", part,
                    r->offset.v);
        return;
    }
    if (m->body_case == WEIR__GROUPS_RECORD__BODY_OFFSET) {
        check_offset(m->offset);
    } else if (m->body_case == WEIR__GROUPS_RECORD__BODY_PRODUCER) {
        sim_say("producer %s: id %" PRIx64 ", epoch %u, owner %" PRIx64, m->producer->name,
                (uint64_t)m->producer->id, m->producer->epoch, m->producer->owner);
    }
    weir__groups_record__free_unpacked(m, NULL);
    (void)group_view_apply(&views[part], r);
}

void check_groups_learn(unsigned group, const struct batch_record *r)
{
    if (group == meta) {
        (void)cluster_fold(&cluster, r);
    } else {
        learn_groups(group - first_of_groups, r);
    }
}

/* --- Equal at the end --- */

static bool equal_views(struct group_view *a, struct group_view *b)
{
    bool equal = a->n_groups == b->n_groups && a->n_offsets == b->n_offsets &&
                 a->n_producers == b->n_producers;
    const struct view_producer *x = group_view_producer(a, SIM_PRODUCER);
    const struct view_producer *y = group_view_producer(b, SIM_PRODUCER);
    equal = equal && (x == NULL) == (y == NULL) &&
            (x == NULL || (x->id == y->id && x->epoch == y->epoch && x->owner == y->owner));
    for (unsigned crowd = 0; crowd < SIM_CROWDS_MAX; crowd++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "crowd-%u", crowd);
        for (unsigned t = 0; t < sim.n_topics; t++) {
            const struct config_topic *topic = &sim.config[1].topics[t];
            for (uint32_t k = 0; k < topic->partitions; k++) {
                equal = equal && group_view_offset(a, name, topic->name, k) ==
                                     group_view_offset(b, name, topic->name, k);
            }
        }
    }
    return equal;
}

static bool equal_clusters(const struct cluster *a, const struct cluster *b)
{
    bool equal = a->id == b->id && a->replicas == b->replicas;
    for (unsigned i = 0; i < a->n_nodes; i++) {
        const struct cluster_node *x = &a->nodes[i];
        const struct cluster_node *y = cluster_node(b, x->node.id);
        equal = equal && y != NULL && x->state == y->state &&
                strcmp(x->node.name, y->node.name) == 0 &&
                strcmp(x->node.peer.host, y->node.peer.host) == 0 &&
                x->node.peer.port == y->node.peer.port;
    }
    for (uint32_t i = 0; i < a->n_placements; i++) {
        if (i == meta) {
            continue; /* counts for its founders only */
        }
        equal = equal &&
                cluster_ids_equal(&a->placements[i].replicas, &b->placements[i].replicas) &&
                cluster_ids_equal(&a->placements[i].leaving, &b->placements[i].leaving);
    }
    return equal;
}

/* What the first shard knows is with the others. */
static bool shards_follow(const struct process *p)
{
    bool all = true;
    for (unsigned k = 1; k < p->n_shards; k++) {
        all = all && p->shards[k]->roster.cluster.changes == p->shards[0]->roster.cluster.changes;
    }
    return all;
}

/* Folding follows the commits after a moment. */
bool check_fold_is_current(const struct process *p, unsigned group)
{
    const struct broker *b = process_shard(p, group);
    if (group == meta) {
        return roster_current(&b->roster) && shards_follow(p);
    }
    return group < first_of_groups ||
           b->coordinator->parts[group - first_of_groups].next >=
               partition_high_watermark(group_partition(b->replicas[group].group)).v;
}

void check_fold(unsigned node, const struct process *p, unsigned group)
{
    for (unsigned k = 0; group == meta && k < p->n_shards; k++) {
        if (!equal_clusters(&cluster, &p->shards[k]->roster.cluster)) {
            sim_violate(SIM_UNEQUAL, "node %u, shard %u has another cluster than its records say",
                        node, k);
        }
    }
    unsigned part = group - first_of_groups;
    if (group >= first_of_groups &&
        !equal_views(&views[part], &process_shard(p, group)->coordinator->parts[part].view)) {
        sim_violate(SIM_UNEQUAL, "node %u has other offsets in groups-%u than its records say",
                    node, part);
    }
}
