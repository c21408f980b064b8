/* Guard 12: term and vote are written off the loop (consensus/vote_log.h). Until they are durable
 * the group says nothing to anybody: what it sends waits here, what it completes waits for the end
 * of a turn that finds the gate open (group.c). libraft goes on meanwhile, as if they were. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "consensus/group_impl.h"

#define GATE_MESSAGES_MAX 256
#define GATE_BYTES_MAX    (8u << 20)

struct gated {
    struct list link;
    struct transport_message m;
    size_t bytes;
    struct iovec iov[]; /* then the body */
};

bool gate_is_open(const struct group *g)
{
    return !guard_on(GUARD_GATE) || vote_log_settled(&g->votes);
}

static int gate_hold(struct group *g, const struct transport_message *m)
{
    size_t bytes = m->len;
    for (unsigned i = 0; i < m->n_attachment; i++) {
        bytes += m->attachment[i].iov_len;
    }
    if (g->n_gated == GATE_MESSAGES_MAX || g->gated_bytes + bytes > GATE_BYTES_MAX) {
        return WEIR_EBUSY;
    }
    struct gated *w = malloc(sizeof(*w) + m->n_attachment * sizeof(w->iov[0]) + m->len);
    if (w == NULL) {
        return WEIR_ENOMEM;
    }
    w->m = *m;
    w->bytes = bytes;
    uint8_t *body = (uint8_t *)&w->iov[m->n_attachment];
    memcpy(body, m->body, m->len);
    w->m.body = body;
    if (m->n_attachment > 0) {
        memcpy(w->iov, m->attachment, m->n_attachment * sizeof(w->iov[0]));
        w->m.attachment = w->iov;
    }
    list_push_back(&g->gated, &w->link);
    g->n_gated++;
    g->gated_bytes += bytes;
    return 0;
}

int gate_send(struct group *g, const struct transport_message *m)
{
    if (gate_is_open(g) && list_empty(&g->gated)) {
        return transport_send(g->transport, m);
    }
    return gate_hold(g, m);
}

static void let_go(struct group *g, struct gated *w, int status)
{
    list_remove(&w->link);
    g->n_gated--;
    g->gated_bytes -= w->bytes;
    if (status == 0) {
        status = transport_send(g->transport, &w->m);
    }
    if (status != 0 && w->m.release != NULL) {
        w->m.release(w->m.arg, status);
    }
    struct group_peer *peer = group_peer(g, w->m.peer_id);
    if (status != 0 && peer != NULL) {
        flow_reset(&peer->flow); /* it counted as on its way */
    }
    free(w);
}

void gate_drop(struct group *g)
{
    while (!list_empty(&g->gated)) {
        let_go(g, list_entry(g->gated.next, struct gated, link), WEIR_ECLOSED);
    }
}

static void on_votes(struct vote_slot *slot, int status)
{
    struct group *g = slot->data;
    struct error err = {0};
    if (status != 0) {
        error_set(&err, status, "%s: term and vote can't be written: %s", g->dir,
                  error_name(status));
        gate_drop(g);
        group_fail(g, &err);
        guard_settle(g);
        return;
    }
    while (gate_is_open(g) && !list_empty(&g->gated)) {
        let_go(g, list_entry(g->gated.next, struct gated, link), 0);
    }
    storage_votes_durable(g);
    group_later(g);
}

int gate_attach(struct group *g, enum vote_state *ret_state)
{
    g->votes = (struct vote_slot){.data = g, .cb = on_votes};
    return vote_log_attach(g->options.vote_log, g->options.id, &g->votes, ret_state);
}
