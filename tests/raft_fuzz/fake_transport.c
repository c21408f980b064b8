/* consensus/transport.h on a network that drops, repeats, reorders, delays and cuts. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct release {
    struct list link;
    transport_release_cb cb;
    void *arg;
};

uint32_t transport_self(const struct transport *t)
{
    return t->node->id;
}

uint64_t transport_clock_ns(const struct transport *t)
{
    (void)t;
    return sim.now_ns;
}

bool transport_connected(const struct transport *t, uint32_t peer_id)
{
    return sim.nodes[peer_id].up && sim.link[t->node->id][peer_id] != 0;
}

int transport_attach(struct transport *t, uint32_t group_id, uint32_t tick_ms,
                     const struct transport_handler *handler, struct error *err)
{
    (void)group_id;
    (void)tick_ms;
    (void)err;
    t->handler = *handler;
    t->attached = true;
    list_init(&t->releases);
    return 0;
}

void transport_detach(struct transport *t, uint32_t group_id)
{
    (void)group_id;
    t->attached = false;
}

static struct sim_message *copy_message(const struct transport_message *m)
{
    struct sim_message *c = calloc(1, sizeof(*c));
    assert(c != NULL);
    c->type = m->type;
    c->len = m->len;
    c->body = malloc(m->len + 1);
    assert(c->body != NULL);
    memcpy(c->body, m->body, m->len);
    for (unsigned i = 0; i < m->n_attachment; i++) {
        c->attachment_len += m->attachment[i].iov_len;
    }
    c->attachment = malloc(c->attachment_len + 1);
    assert(c->attachment != NULL);
    size_t at = 0;
    for (unsigned i = 0; i < m->n_attachment; i++) {
        memcpy(c->attachment + at, m->attachment[i].iov_base, m->attachment[i].iov_len);
        at += m->attachment[i].iov_len;
    }
    return c;
}

int transport_send(struct transport *t, const struct transport_message *m)
{
    uint32_t from = t->node->id;
    assert(m->n_attachment <= TRANSPORT_IOV_MAX && m->peer_id >= 1 && m->peer_id <= sim.n_nodes);
    if (!transport_connected(t, m->peer_id)) {
        return WEIR_ECLOSED;
    }
    if ((sim.faults & FAULT_FULL) != 0 && !sim.healing && sim_chance(1, 60)) {
        return WEIR_EBUSY;
    }
    struct sim_message **at = &sim.net[from][m->peer_id];
    unsigned depth = 0;
    while (*at != NULL) {
        at = &(*at)->next;
        depth++;
    }
    if (depth > 300) {
        return WEIR_EBUSY;
    }
    *at = copy_message(m);
    if (m->type == PEER_TIMEOUT_NOW) {
        t->node->hand_overs++;
        t->node->hand_over_term = t->node->group->raft.current_term;
    }
    if (m->release != NULL) {
        struct release *r = malloc(sizeof(*r));
        assert(r != NULL);
        *r = (struct release){.cb = m->release, .arg = m->arg};
        list_push_back(&t->releases, &r->link);
    }
    return 0;
}

void sim_net_releases(struct sim_node *n)
{
    struct list now, *el;
    list_init(&now);
    list_move_all(&now, &n->transport.releases);
    while ((el = list_pop(&now)) != NULL) {
        struct release *r = list_entry(el, struct release, link);
        r->cb(r->arg, 0);
        free(r);
    }
}

void sim_net_forget(uint32_t to)
{
    for (uint32_t from = 1; from <= sim.n_nodes; from++) {
        sim.net[from][to] = NULL;
    }
}

static void free_message(struct sim_message *m)
{
    free(m->body);
    free(m->attachment);
    free(m);
}

void sim_net_deliver(uint32_t from, uint32_t to)
{
    struct sim_message **at = &sim.net[from][to];
    struct sim_node *n = &sim.nodes[to];
    bool wild = (sim.faults & FAULT_NET) != 0 && !sim.healing;
    if (*at == NULL || sim.link[from][to] == 2) {
        return;
    }
    if (wild && sim_chance(1, 10) && (*at)->next != NULL) {
        at = &(*at)->next;
    }
    struct sim_message *m = *at;
    bool twice = wild && sim_chance(1, 25);
    if (!twice) {
        *at = m->next;
    }
    bool lost = sim.link[from][to] == 0 || (wild && sim_chance(1, 40));
    if (n->up && n->transport.attached && !lost) {
        struct error err;
        int rv = n->transport.handler.receive(n->transport.handler.data, from, m->type, m->body,
                                              m->len, m->attachment, m->attachment_len, &err);
        if (rv != 0) {
            sim_violate(SIM_DISK_MISUSE, n, err.text);
        }
    }
    if (!twice) {
        free_message(m);
    }
}
