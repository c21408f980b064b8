#include "nodes/broker/coordinator.h"

#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/murmur2.h"
#include "nodes/broker/coordinator_priv.h"

#define FOLD_BYTES    (256u << 10) /* in one go */
#define FOLD_PAUSE_US 1u
#define FAILOVER_NEWS_NS                                                                           \
    5000000000u /* so long after an election known groups have claims to make */
#define GENERATION_BITS 20

/* --- Partitions of `groups` --- */

struct replica *part_replica(const struct groups_part *part)
{
    return broker_replica(part->coordinator->broker, CONFIG_TOPIC_GROUPS, part->index);
}

struct groups_part *part_of(struct coordinator *co, const char *name)
{
    return &co->parts[murmur2_partition(name, strlen(name), co->n_parts)];
}

uint32_t coordinator_topic_partitions(const struct coordinator *co, const char *topic)
{
    const struct config *config = co->broker->config;
    for (uint32_t i = 0; i < config->n_topics; i++) {
        if (strcmp(config->topics[i].name, topic) == 0 &&
            !cluster_topic_differs(&co->broker->roster.cluster, &config->topics[i])) {
            return config->topics[i].partitions;
        }
    }
    return 0;
}

/* --- Folding --- */

static int fold_batches(struct groups_part *part, const struct bytes *in, struct error *err)
{
    struct hub *hub = part->coordinator->broker->hub;
    size_t at = 0;
    while (at < in->len) {
        struct batch_iter it;
        struct batch_record r;
        int rv = batch_iter_init(&it, in->data + at, in->len - at, err);
        while (rv >= 0 && (rv = batch_iter_next(&it, &r, err)) == 1) {
            if (r.offset.v >= part->next) {
                rv = group_view_apply(&part->view, &r);
                if (rv == 0 && hub != NULL) {
                    rv = hub_producer_fold(hub, &r);
                }
                part->next = rv == 0 ? r.offset.v + 1 : part->next;
            }
            if (rv < 0) {
                break;
            }
        }
        if (rv < 0) {
            return rv;
        }
        at += it.info.size;
    }
    return 0;
}

/* Folds a piece of what is committed; 1: there is more. */
static int fold_piece(struct groups_part *part, struct partition *p, struct error *err)
{
    struct bytes in;
    struct log_offset next;
    int64_t start = partition_start_offset(p).v;
    if (part->next < start) {
        /* The replica was set up anew behind what was folded: its log tells everything again. */
        group_view_close(&part->view);
        part->next = start;
    }
    if (part->next >= partition_high_watermark(p).v) {
        return 0;
    }
    bytes_init(&in, 64u << 20);
    int rv = partition_fetch(p, LOG_OFFSET(part->next), FOLD_BYTES, &in, &next, err);
    if (rv == 0) {
        rv = fold_batches(part, &in, err);
    }
    if (rv == 0) {
        part->next = next.v > part->next ? next.v : part->next;
        rv = part->next < partition_high_watermark(p).v;
    }
    bytes_close(&in);
    return rv;
}

static void on_fold(struct env_timer *timer);

static void fold_later(struct groups_part *part)
{
    if (!part->folding) {
        part->folding = true;
        env_timer_start(&part->fold, FOLD_PAUSE_US, on_fold);
    }
}

static void fold(struct groups_part *part)
{
    struct replica *r = part_replica(part);
    struct error err = {0};
    if (r == NULL || r->group == NULL) {
        return;
    }
    int rv = fold_piece(part, group_partition(r->group), &err);
    if (rv == 1) {
        fold_later(part);
    } else if (rv < 0 && !part->fold_failed) {
        log_error("groups_fold_failed", "partition=%u offset=%lld reason=\"%s\"", part->index,
                  (long long)part->next, err.text[0] != '\0' ? err.text : error_name(rv));
    }
    part->fold_failed = rv < 0; /* tried again at the next sweep */
}

static void on_fold(struct env_timer *timer)
{
    struct groups_part *part = timer->data;
    part->folding = false;
    fold(part);
}

int part_ready(struct groups_part *part)
{
    struct replica *r = part_replica(part);
    if (r == NULL || r->group == NULL || r->failed[0] != '\0') {
        return WEIR_EUNAVAILABLE;
    }
    if (!group_is_leader(r->group)) {
        return WEIR_ENOTLEADER;
    }
    coordinator_wake(part->coordinator, r);
    if (part->next < partition_high_watermark(group_partition(r->group)).v) {
        fold(part);
    }
    return part->next < partition_high_watermark(group_partition(r->group)).v ? WEIR_EUNAVAILABLE
                                                                              : 0;
}

/* --- Groups and members --- */

struct group_state *part_state(struct groups_part *part, const char *group)
{
    LIST_FOREACH(it, &part->states)
    {
        struct group_state *g = list_entry(it, struct group_state, link);
        if (strcmp(g->name, group) == 0) {
            return g;
        }
    }
    return NULL;
}

bool part_is_new(const struct groups_part *part)
{
    return env_now_ns(part->coordinator->broker->env) - part->leading_since_ns < FAILOVER_NEWS_NS;
}

int part_state_make(struct groups_part *part, const char *group, struct group_state **ret_group)
{
    uint64_t now = env_now_ns(part->coordinator->broker->env);
    const struct view_group *known = group_view_find(&part->view, group);
    struct group_state *g = part_state(part, group);
    if (g != NULL) {
        *ret_group = g;
        return 0;
    }
    if (part->n_states == GROUP_VIEW_GROUPS_MAX ||
        (known == NULL && part->view.n_groups >= GROUP_VIEW_GROUPS_MAX)) {
        return WEIR_EBUSY;
    }
    uint64_t generation = part->generation;
    if (known != NULL && known->generation_max > generation) {
        generation = known->generation_max;
    }
    bool claims = known != NULL && part_is_new(part);
    int rv = group_state_new(group, &part->commits, generation, now,
                             claims ? GROUP_FAILOVER_NS : GROUP_SETTLE_NS, &g);
    if (rv == 0) {
        list_push_back(&part->states, &g->link);
        part->n_states++;
        *ret_group = g;
    }
    return rv;
}

static void state_forget(struct groups_part *part, struct group_state *g)
{
    part->generation = g->generation > part->generation ? g->generation : part->generation;
    list_remove(&g->link);
    part->n_states--;
    group_state_free(g);
}

void part_member_refuse(struct groups_part *part, struct membership *m, int code)
{
    if (m->waiting) {
        m->waiting = false;
        broker_conn_reply_error(m->conn, m->correlation, code, error_name(code),
                                part_replica(part));
    }
}

void part_member_leave(struct groups_part *part, struct membership *m)
{
    part_member_refuse(part, m, WEIR_EFENCED);
    list_remove(&m->conn_link);
    membership_leave(m, env_now_ns(part->coordinator->broker->env));
}

static size_t fill_topic(const struct groups_part *part, const struct membership *m, uint32_t t,
                         Weir__BrokerGroupTopic *out, uint32_t *partitions, int64_t *offsets)
{
    struct group_state *g = m->group;
    struct coordinator *co = part->coordinator;
    weir__broker_group_topic__init(out);
    out->topic = g->topics[t].name;
    out->partitions = partitions;
    out->offsets = offsets;
    for (uint32_t i = 0; i < g->topics[t].n_partitions; i++) {
        if (membership_may_have(m, &g->slots[g->topics[t].first_slot + i])) {
            partitions[out->n_partitions++] = i;
            offsets[out->n_offsets++] =
                group_view_offset(&co->parts[part->index].view, g->name, g->topics[t].name, i);
        }
    }
    return out->n_partitions;
}

static void member_answer(struct groups_part *part, struct membership *m)
{
    struct group_state *g = m->group;
    Weir__BrokerGroupAssigned reply = WEIR__BROKER_GROUP_ASSIGNED__INIT;
    Weir__BrokerGroupTopic topics[GROUP_TOPICS_MAX], *list[GROUP_TOPICS_MAX];
    uint32_t *partitions = calloc(g->n_slots + 1, sizeof(*partitions));
    int64_t *offsets = calloc(g->n_slots + 1, sizeof(*offsets));
    size_t used = 0;
    if (partitions == NULL || offsets == NULL) {
        part_member_refuse(part, m, WEIR_EBUSY);
        free(partitions);
        free(offsets);
        return;
    }
    membership_give(m);
    reply.generation = g->generation;
    reply.assigned = list;
    for (uint32_t t = 0; t < g->n_topics; t++) {
        size_t n =
            fill_topic(part, m, t, &topics[reply.n_assigned], partitions + used, offsets + used);
        if (n > 0) {
            list[reply.n_assigned] = &topics[reply.n_assigned];
            reply.n_assigned++;
            used += n;
        }
    }
    m->waiting = false;
    broker_conn_reply(m->conn, BROKER_GROUP_ASSIGNED, m->correlation, &reply.base);
    free(partitions);
    free(offsets);
}

void part_state_run(struct groups_part *part, struct group_state *g, uint64_t now_ns)
{
    if (g->n_members == 0) {
        log_info("group_empty", "group=%s generation=%llu", g->name,
                 (unsigned long long)g->generation);
        state_forget(part, g);
        return;
    }
    if (group_state_assign(g, now_ns)) {
        log_info("group_assigned", "group=%s members=%u partitions=%u generation=%llu", g->name,
                 g->n_members, g->n_slots, (unsigned long long)g->generation);
    }
    LIST_FOREACH(it, &g->members)
    {
        struct membership *m = list_entry(it, struct membership, link);
        if (m->waiting && (now_ns >= m->wait_until_ns || membership_news(m))) {
            member_answer(part, m);
        }
    }
}

static void expire_members(struct groups_part *part, struct group_state *g, uint64_t now_ns)
{
    LIST_FOREACH_SAFE(it, nx, &g->members)
    {
        struct membership *m = list_entry(it, struct membership, link);
        if (now_ns >= m->deadline_ns) {
            log_warn("group_member_lost", "group=%s member=%s client=\"%s\" peer=%s", g->name,
                     m->id, m->client, m->peer);
            part_member_leave(part, m);
        }
    }
}

void coordinator_conn_closed(struct conn *c)
{
    uint64_t now = env_now_ns(c->broker->env);
    for (struct list *el = list_pop(&c->members); el != NULL; el = list_pop(&c->members)) {
        struct membership *m = list_entry(el, struct membership, conn_link);
        m->conn = NULL;
        m->waiting = false;
        if (m->deadline_ns > now + GROUP_LOST_LINK_NS) {
            m->deadline_ns = now + GROUP_LOST_LINK_NS;
        }
    }
}

/* --- Leadership --- */

static void resign(struct groups_part *part)
{
    while (!list_empty(&part->states)) {
        struct group_state *g = list_entry(part->states.next, struct group_state, link);
        LIST_FOREACH(it, &g->members)
        {
            struct membership *m = list_entry(it, struct membership, link);
            part_member_refuse(part, m, WEIR_ENOTLEADER);
        }
        state_forget(part, g);
    }
    part->term = 0;
}

static void check_leadership(struct groups_part *part, const struct replica *r)
{
    bool leads = r->group != NULL && r->failed[0] == '\0' && group_is_leader(r->group);
    uint64_t term = leads ? replica_term(r) : 0;
    if (part->term == term) {
        return;
    }
    resign(part);
    if (leads) {
        part->term = term;
        part->leading_since_ns = env_now_ns(part->coordinator->broker->env);
        part->generation = term << GENERATION_BITS;
        part->expire_at_ns = 0;
    }
}

void coordinator_wake(struct coordinator *co, const struct replica *r)
{
    if (co != NULL && strcmp(r->topic->name, CONFIG_TOPIC_GROUPS) == 0 &&
        r->partition < co->n_parts) {
        check_leadership(&co->parts[r->partition], r);
        fold_later(&co->parts[r->partition]);
    }
}

int coordinator_producer(struct coordinator *co, const char *name, struct replica **ret_replica,
                         const struct view_producer **ret_producer)
{
    struct groups_part *part = part_of(co, name);
    int rv = part_ready(part);
    *ret_replica = part_replica(part);
    if (rv == 0 && ret_producer != NULL) {
        *ret_producer = group_view_producer(&part->view, name);
    }
    return rv;
}

const struct view_producer *coordinator_known_producer(struct coordinator *co, const char *name)
{
    return group_view_producer(&part_of(co, name)->view, name);
}

/* --- Life --- */

void coordinator_sweep(struct coordinator *co, uint64_t now_ns)
{
    for (uint32_t i = 0; i < co->n_parts; i++) {
        struct groups_part *part = &co->parts[i];
        struct replica *r = part_replica(part);
        if (r == NULL) {
            continue;
        }
        check_leadership(part, r);
        if (part->fold_failed) {
            fold_later(part);
        }
        /* What members are given begins where the newest commit says: it has to be folded. */
        bool ready = part->term != 0 && part_ready(part) == 0;
        LIST_FOREACH_SAFE(it, nx, &part->states)
        {
            struct group_state *g = list_entry(it, struct group_state, link);
            expire_members(part, g, now_ns);
            if (ready) {
                part_state_run(part, g, now_ns);
            }
        }
        if (ready) {
            part_expire(part, now_ns);
        }
    }
}

int coordinator_new(struct broker *b, struct coordinator **ret_coordinator, struct error *err)
{
    struct coordinator *co = calloc(1, sizeof(*co));
    if (co == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the coordinator of groups");
    }
    co->broker = b;
    uint32_t n = coordinator_topic_partitions(co, CONFIG_TOPIC_GROUPS);
    list_init(&co->inits);
    struct groups_part *parts = n > 0 ? calloc(n, sizeof(*parts)) : NULL;
    co->parts = parts;
    for (uint32_t i = 0; parts != NULL && i < n; i++) {
        struct groups_part *part = &parts[i];
        part->coordinator = co;
        part->index = i;
        group_view_init(&part->view);
        list_init(&part->states);
        part->fold.data = part;
        if (env_timer_init(b->env, &part->fold) != 0) {
            break;
        }
        co->n_parts++;
    }
    if (co->n_parts != n || n == 0) {
        coordinator_free(co);
        return error_set(err, WEIR_ENOMEM, "no memory for the coordinator of groups");
    }
    *ret_coordinator = co;
    return 0;
}

void coordinator_free(struct coordinator *co)
{
    for (uint32_t i = 0; co != NULL && i < co->n_parts; i++) {
        struct groups_part *part = &co->parts[i];
        env_timer_close(&part->fold);
        while (!list_empty(&part->states)) {
            state_forget(part, list_entry(part->states.next, struct group_state, link));
        }
        group_view_close(&part->view);
    }
    if (co != NULL) {
        free(co->parts);
        free(co);
    }
}
