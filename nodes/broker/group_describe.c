/* Groups for people: offsets of one, all of one partition of `groups`, or one with its members. */
#include <stdlib.h>
#include <string.h>

#include "nodes/broker/coordinator_priv.h"

/* protobuf-c's structs want char *; what is packed is only read. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

/* --- Offsets --- */

/* Offsets of a group in memory that lives as long as the reply. */
struct offsets_memory {
    Weir__BrokerGroupTopic *topics, **list;
    uint32_t *partitions;
    int64_t *offsets;
    size_t n_topics;
};

static void offsets_close(struct offsets_memory *o)
{
    free(o->topics);
    free(o->list);
    free(o->partitions);
    free(o->offsets);
}

static int offsets_fill(struct offsets_memory *o, struct view_group *g)
{
    size_t n_topics = 0, used = 0;
    LIST_FOREACH(it, &g->topics)
    {
        n_topics++;
    }
    /* One more, so that NULL means no memory where there is nothing to show. */
    o->topics = calloc(n_topics + 1, sizeof(*o->topics));
    o->list = calloc(n_topics + 1, sizeof(Weir__BrokerGroupTopic *));
    o->partitions = calloc(g->n_offsets + 1, sizeof(*o->partitions));
    o->offsets = calloc(g->n_offsets + 1, sizeof(*o->offsets));
    if (o->topics == NULL || o->list == NULL || o->partitions == NULL || o->offsets == NULL) {
        return WEIR_ENOMEM;
    }
    LIST_FOREACH(it, &g->topics)
    {
        struct view_topic *t = list_entry(it, struct view_topic, link);
        Weir__BrokerGroupTopic *out = &o->topics[o->n_topics];
        weir__broker_group_topic__init(out);
        out->topic = t->name;
        out->partitions = o->partitions + used;
        out->offsets = o->offsets + used;
        for (uint32_t i = 0; i < t->n_partitions; i++) {
            if (t->offsets[i].offset >= 0) {
                out->partitions[out->n_partitions++] = i;
                out->offsets[out->n_offsets++] = t->offsets[i].offset;
            }
        }
        used += out->n_partitions;
        o->list[o->n_topics++] = out;
    }
    return 0;
}

int broker_handle_group_offsets(struct conn *c, const struct frame *frame,
                                const ProtobufCMessage *head, struct error *err)
{
    const Weir__BrokerGroupOffsetsRequest *m = (const Weir__BrokerGroupOffsetsRequest *)head;
    Weir__BrokerGroupOffsets reply = WEIR__BROKER_GROUP_OFFSETS__INIT;
    struct offsets_memory o = {0};
    int rv = 0;
    struct groups_part *part = groups_part_asked(c, frame, m->group);
    if (part == NULL) {
        return 0;
    }
    struct view_group *g = group_view_find(&part->view, m->group);
    if (g != NULL) {
        rv = offsets_fill(&o, g);
    }
    reply.offsets = o.list;
    reply.n_offsets = o.n_topics;
    if (rv == 0) {
        broker_conn_reply(c, BROKER_GROUP_OFFSETS, frame->correlation, &reply.base);
    }
    offsets_close(&o);
    return rv == 0 ? 0 : error_set(err, rv, "out of memory");
}

/* --- All groups of a partition --- */

static void fill_brief(Weir__BrokerGroupDescription *d, const char *name,
                       const struct group_state *g, const struct view_group *known)
{
    weir__broker_group_description__init(d);
    d->group = text(name);
    d->generation = g != NULL ? g->generation : known != NULL ? known->generation_max : 0;
    d->member_count = g != NULL ? g->n_members : 0;
    d->committed_ms = known != NULL ? known->committed_ms : 0;
}

static void describe_all(struct conn *c, uint64_t correlation, struct groups_part *part,
                         Weir__BrokerGroupDescription *memory, Weir__BrokerGroupDescription **list)
{
    Weir__BrokerGroups reply = WEIR__BROKER_GROUPS__INIT;
    size_t n = 0;
    for (unsigned i = 0; i < GROUP_VIEW_BUCKETS; i++) {
        LIST_FOREACH(it, &part->view.groups[i])
        {
            struct view_group *known = list_entry(it, struct view_group, link);
            fill_brief(&memory[n++], known->name, part_state(part, known->name), known);
        }
    }
    LIST_FOREACH(it, &part->states)
    {
        struct group_state *g = list_entry(it, struct group_state, link);
        if (group_view_find(&part->view, g->name) == NULL) {
            fill_brief(&memory[n++], g->name, g, NULL);
        }
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = &memory[i];
    }
    reply.groups = list;
    reply.n_groups = n;
    broker_conn_reply(c, BROKER_GROUPS, correlation, &reply.base);
}

static int handle_all(struct conn *c, const struct frame *frame, uint32_t partition,
                      struct error *err)
{
    struct coordinator *co = c->broker->coordinator;
    struct groups_part *part = partition < co->n_parts ? &co->parts[partition] : NULL;
    int rv = part != NULL ? part_ready(part) : WEIR_ENOTFOUND;
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, error_name(rv),
                                part != NULL ? part_replica(part) : NULL);
        return 0;
    }
    size_t n = part->view.n_groups + part->n_states;
    Weir__BrokerGroupDescription *memory = calloc(n + 1, sizeof(*memory));
    Weir__BrokerGroupDescription **list = calloc(n + 1, sizeof(Weir__BrokerGroupDescription *));
    if (memory != NULL && list != NULL) {
        describe_all(c, frame->correlation, part, memory, list);
    } else {
        rv = error_set(err, WEIR_ENOMEM, "out of memory");
    }
    free(memory);
    free(list);
    return rv;
}

/* --- One --- */

struct members_memory {
    Weir__BrokerGroupMember *members, **list;
    Weir__BrokerGroupTopic *topics, **topic_list; /* n_topics for each member */
    uint32_t *partitions;
    size_t n, used;
};

static void members_close(struct members_memory *o)
{
    free(o->members);
    free(o->list);
    free(o->topics);
    free(o->topic_list);
    free(o->partitions);
}

static void fill_member(struct members_memory *o, const struct group_state *g,
                        const struct membership *m)
{
    Weir__BrokerGroupMember *out = &o->members[o->n];
    weir__broker_group_member__init(out);
    out->member = text(m->id);
    out->client = text(m->client);
    out->peer = text(m->conn != NULL ? m->peer : "");
    out->assigned = o->topic_list + o->n * g->n_topics;
    for (uint32_t t = 0; t < g->n_topics; t++) {
        Weir__BrokerGroupTopic *topic = &o->topics[o->n * g->n_topics + t];
        weir__broker_group_topic__init(topic);
        topic->topic = text(g->topics[t].name);
        topic->partitions = o->partitions + o->used;
        for (uint32_t i = 0; i < g->topics[t].n_partitions; i++) {
            if (g->slots[g->topics[t].first_slot + i].holder == m) {
                topic->partitions[topic->n_partitions++] = i;
            }
        }
        o->used += topic->n_partitions;
        if (topic->n_partitions > 0) {
            out->assigned[out->n_assigned++] = topic;
        }
    }
    o->list[o->n++] = out;
}

static int members_fill(struct members_memory *o, const struct group_state *g)
{
    size_t topics = (size_t)g->n_members * g->n_topics;
    o->members = calloc(g->n_members, sizeof(*o->members));
    o->list = calloc(g->n_members, sizeof(Weir__BrokerGroupMember *));
    o->topics = calloc(topics, sizeof(*o->topics));
    o->topic_list = calloc(topics, sizeof(Weir__BrokerGroupTopic *));
    o->partitions = calloc(g->n_slots, sizeof(*o->partitions));
    if (o->members == NULL || o->list == NULL || o->topics == NULL || o->topic_list == NULL ||
        o->partitions == NULL) {
        return WEIR_ENOMEM;
    }
    LIST_FOREACH(it, &g->members)
    {
        fill_member(o, g, list_entry(it, struct membership, link));
    }
    return 0;
}

int broker_handle_group_describe(struct conn *c, const struct frame *frame,
                                 const ProtobufCMessage *head, struct error *err)
{
    const Weir__BrokerGroupDescribeRequest *m = (const Weir__BrokerGroupDescribeRequest *)head;
    Weir__BrokerGroups reply = WEIR__BROKER_GROUPS__INIT;
    Weir__BrokerGroupDescription one, *list[1] = {&one};
    struct offsets_memory offsets = {0};
    struct members_memory members = {0};
    int rv = 0;
    if (m->group[0] == '\0') {
        return handle_all(c, frame, m->partition, err);
    }
    struct groups_part *part = groups_part_asked(c, frame, m->group);
    if (part == NULL) {
        return 0;
    }
    struct group_state *g = part_state(part, m->group);
    struct view_group *known = group_view_find(&part->view, m->group);
    if (g == NULL && known == NULL) {
        broker_conn_reply_error(c, frame->correlation, WEIR_ENOTFOUND, "no such group", NULL);
        return 0;
    }
    fill_brief(&one, m->group, g, known);
    rv = known != NULL ? offsets_fill(&offsets, known) : 0;
    rv = rv == 0 && g != NULL ? members_fill(&members, g) : rv;
    if (rv == 0) {
        one.offsets = offsets.list;
        one.n_offsets = offsets.n_topics;
        one.members = members.list;
        one.n_members = members.n;
        reply.groups = list;
        reply.n_groups = 1;
        broker_conn_reply(c, BROKER_GROUPS, frame->correlation, &reply.base);
    }
    offsets_close(&offsets);
    members_close(&members);
    return rv == 0 ? 0 : error_set(err, rv, "out of memory");
}
