#include "nodes/broker/group_state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int group_state_new(const char *name, const struct group_commits *commits, uint64_t generation,
                    uint64_t now_ns, uint64_t settle_ns, struct group_state **ret_group)
{
    struct group_state *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return WEIR_ENOMEM;
    }
    (void)snprintf(g->name, sizeof(g->name), "%s", name);
    g->commits = commits;
    g->generation = generation;
    g->assign_at_ns = now_ns + settle_ns;
    list_init(&g->members);
    *ret_group = g;
    return 0;
}

void group_state_free(struct group_state *g)
{
    for (struct list *el = list_pop(&g->members); el != NULL; el = list_pop(&g->members)) {
        struct membership *m = list_entry(el, struct membership, link);
        list_remove(&m->conn_link);
        free(m);
    }
    free(g->slots);
    free(g);
}

/* --- Topics --- */

int group_state_topic(struct group_state *g, const char *topic, uint32_t n_partitions,
                      uint32_t *ret_topic)
{
    for (uint32_t i = 0; i < g->n_topics; i++) {
        if (strcmp(g->topics[i].name, topic) == 0) {
            *ret_topic = i;
            return 0;
        }
    }
    if (g->n_topics == GROUP_TOPICS_MAX || n_partitions > GROUP_SLOTS_MAX - g->n_slots) {
        return WEIR_ETOOBIG;
    }
    uint32_t n = g->n_slots + n_partitions;
    struct group_slot *slots = realloc(g->slots, n * sizeof(*slots));
    if (slots == NULL) {
        return WEIR_ENOMEM;
    }
    for (uint32_t i = 0; i < n_partitions; i++) {
        slots[g->n_slots + i] = (struct group_slot){
            .topic = g->n_topics, .partition = i, .after = g->commits->proposed};
    }
    struct group_topic *t = &g->topics[g->n_topics];
    (void)snprintf(t->name, sizeof(t->name), "%s", topic);
    t->n_partitions = n_partitions;
    t->first_slot = g->n_slots;
    g->slots = slots;
    g->n_slots = n;
    *ret_topic = g->n_topics++;
    return 0;
}

void group_state_committed(struct group_state *g, uint32_t topic, uint32_t partition,
                           uint64_t generation)
{
    struct group_slot *s = &g->slots[g->topics[topic].first_slot + partition];
    s->given = generation > s->given ? generation : s->given;
}

struct group_slot *group_state_slot(struct group_state *g, const char *topic, uint32_t partition)
{
    for (uint32_t i = 0; i < g->n_topics; i++) {
        const struct group_topic *t = &g->topics[i];
        if (strcmp(t->name, topic) == 0) {
            return partition < t->n_partitions ? &g->slots[t->first_slot + partition] : NULL;
        }
    }
    return NULL;
}

/* --- Members --- */

struct membership *group_state_member(struct group_state *g, const char *id)
{
    LIST_FOREACH(it, &g->members)
    {
        struct membership *m = list_entry(it, struct membership, link);
        if (strcmp(m->id, id) == 0) {
            return m;
        }
    }
    return NULL;
}

static void changed(struct group_state *g)
{
    g->generation++;
    g->dirty = true;
}

static int join(struct group_state *g, const char *id, struct membership **ret_member)
{
    if (g->n_members == GROUP_MEMBERS_MAX) {
        return WEIR_EBUSY;
    }
    struct membership *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return WEIR_ENOMEM;
    }
    m->group = g;
    (void)snprintf(m->id, sizeof(m->id), "%s", id);
    list_init(&m->conn_link);
    list_push_back(&g->members, &m->link);
    g->n_members++;
    changed(g);
    *ret_member = m;
    return 0;
}

static void release(const struct group_state *g, struct group_slot *s)
{
    s->holder->n_held--;
    s->holder = NULL;
    s->after = g->commits->proposed;
}

static bool is_free_for(const struct group_state *g, const struct group_slot *s,
                        const struct membership *m)
{
    return s->holder == NULL && s->target == m && s->refused != m && g->commits->ended >= s->after;
}

void membership_leave(struct membership *m, uint64_t now_ns)
{
    struct group_state *g = m->group;
    for (uint32_t i = 0; i < g->n_slots; i++) {
        struct group_slot *s = &g->slots[i];
        if (s->holder == m) {
            release(g, s);
        }
        if (s->target == m) {
            s->target = NULL;
        }
        s->refused = s->refused == m ? NULL : s->refused;
    }
    assert(m->n_held == 0 && list_empty(&m->conn_link));
    list_remove(&m->link);
    g->n_members--;
    changed(g);
    if (g->n_members == 0) {
        g->assign_at_ns = now_ns + GROUP_SETTLE_NS;
    }
    free(m);
}

/* --- Polls --- */

int group_poll_begin(struct group_state *g, const struct group_poll *poll, uint64_t now_ns,
                     struct membership **ret_member)
{
    struct membership *m = group_state_member(g, poll->member);
    if (m != NULL && poll->sequence <= m->sequence) {
        return WEIR_EFENCED;
    }
    if (m == NULL) {
        int rv = join(g, poll->member, &m);
        if (rv != 0) {
            return rv;
        }
    } else if (m->topics != poll->topics) {
        changed(g);
    }
    (void)snprintf(m->client, sizeof(m->client), "%s", poll->client);
    (void)snprintf(m->peer, sizeof(m->peer), "%s", poll->peer);
    m->topics = poll->topics;
    m->sequence = poll->sequence;
    m->refused = false;
    m->session_ns = (uint64_t)poll->session_ms * 1000000u;
    m->deadline_ns = now_ns + m->session_ns;
    for (uint32_t i = 0; i < g->n_slots; i++) {
        g->slots[i].told = false;
    }
    *ret_member = m;
    return 0;
}

void group_poll_owned(struct group_state *g, struct membership *m, uint64_t generation,
                      struct group_slot *slot)
{
    assert(m != NULL);
    bool free_for_it = slot->holder == NULL && (slot->target == NULL || slot->target == m);
    slot->told = true;
    if (free_for_it && generation >= slot->given && (m->topics >> slot->topic & 1) != 0) {
        slot->holder = slot->target = m;
        slot->given = g->generation;
        slot->since = generation;
        m->n_held++;
    }
    if (slot->holder != m) {
        m->refused = true;
        slot->refused = m;
    }
}

void group_poll_end(struct group_state *g, struct membership *m)
{
    for (uint32_t i = 0; i < g->n_slots; i++) {
        struct group_slot *s = &g->slots[i];
        if (s->holder == m && !s->told) {
            release(g, s); /* it has let go, or never heard that it was given */
        }
    }
}

/* --- Assigning --- */

static bool assign(struct group_state *g)
{
    struct assign_member *members = calloc(g->n_members + 1, sizeof(*members));
    struct assign_slot *slots = calloc(g->n_slots + 1, sizeof(*slots));
    struct membership *by_index[GROUP_MEMBERS_MAX];
    uint32_t n = 0;
    if (members == NULL || slots == NULL) {
        free(members);
        free(slots);
        return false;
    }
    LIST_FOREACH(it, &g->members)
    {
        struct membership *m = list_entry(it, struct membership, link);
        m->index = n;
        by_index[n] = m;
        members[n++].topics = m->topics;
    }
    for (uint32_t i = 0; i < g->n_slots; i++) {
        const struct group_slot *s = &g->slots[i];
        const struct membership *owner = s->holder != NULL ? s->holder : s->target;
        slots[i] = (struct assign_slot){.topic = s->topic,
                                        .owner = owner != NULL ? (int32_t)owner->index : -1};
    }
    group_assign(members, n, slots, g->n_slots);
    for (uint32_t i = 0; i < g->n_slots; i++) {
        g->slots[i].target = slots[i].owner >= 0 ? by_index[slots[i].owner] : NULL;
    }
    free(members);
    free(slots);
    return true;
}

bool group_state_assign(struct group_state *g, uint64_t now_ns)
{
    if (!g->dirty || now_ns < g->assign_at_ns || !assign(g)) {
        return false; /* without memory: at the next sweep */
    }
    g->dirty = false;
    return true;
}

bool membership_news(const struct membership *m)
{
    const struct group_state *g = m->group;
    if (m->refused) {
        return true;
    }
    for (uint32_t i = 0; i < g->n_slots; i++) {
        const struct group_slot *s = &g->slots[i];
        if ((s->holder == m && s->target != m) || is_free_for(g, s, m)) {
            return true;
        }
    }
    return false;
}

void membership_give(struct membership *m)
{
    struct group_state *g = m->group;
    m->refused = false;
    for (uint32_t i = 0; i < g->n_slots; i++) {
        struct group_slot *s = &g->slots[i];
        if (is_free_for(g, s, m)) {
            s->holder = m;
            s->given = s->since = g->generation;
            m->n_held++;
        }
        s->refused = s->refused == m ? NULL : s->refused;
    }
}

bool membership_may_have(const struct membership *m, const struct group_slot *slot)
{
    return slot->holder == m && slot->target == m;
}

bool membership_holds(const struct membership *m, const struct group_slot *slot,
                      uint64_t generation)
{
    return slot->holder == m && generation >= slot->since;
}
