/* consensus/vote_log.h of one group in memory: a change is durable some steps later; a crash in
 * between keeps it or takes it back. */
#include <string.h>

#include "sim.h"

static struct sim_node *node_of(const struct vote_slot *slot)
{
    return (struct sim_node *)(void *)slot->log;
}

int vote_log_attach(struct vote_log *log, uint32_t group_id, struct vote_slot *slot,
                    enum vote_state *ret_state)
{
    struct sim_node *n = (struct sim_node *)(void *)log;
    struct sim_votes *v = &n->votes;
    (void)group_id;
    slot->log = log;
    slot->entry = n;
    slot->term = v->term = v->durable_term;
    slot->vote = v->vote = v->durable_vote;
    v->dirty = false;
    v->slot = slot;
    *ret_state = v->there ? VOTES_KNOWN : VOTES_NONE;
    return 0;
}

void vote_log_detach(struct vote_slot *slot)
{
    if (slot->entry != NULL) {
        node_of(slot)->votes.slot = NULL;
        slot->entry = NULL;
    }
}

void vote_log_put(struct vote_slot *slot, uint64_t term, uint64_t vote)
{
    struct sim_node *n = node_of(slot);
    struct sim_votes *v = &n->votes;
    if (term < v->term || (term == v->term && v->vote != 0 && vote != v->vote)) {
        sim_violate(SIM_DISK_MISUSE, n, "term goes back, or a second vote in a term");
    }
    slot->term = v->term = term;
    slot->vote = v->vote = vote;
    v->dirty = true;
}

bool vote_log_settled(const struct vote_slot *slot)
{
    return slot->entry == NULL || !node_of(slot)->votes.dirty;
}

uint64_t vote_log_waits_ns(const struct vote_log *log)
{
    (void)log;
    return 0;
}

void vote_log_probe(struct vote_log *log)
{
    (void)log;
}

void vote_log_answered(struct vote_log *log)
{
    (void)log;
}

uint64_t vote_log_answered_ns(const struct vote_log *log)
{
    (void)log;
    return 0;
}

static void keep(struct sim_votes *v)
{
    v->durable_term = v->term;
    v->durable_vote = v->vote;
    v->there = true;
}

void sim_votes_step(struct sim_node *n)
{
    struct sim_votes *v = &n->votes;
    if (!n->up || !v->dirty || n->disk.stalled || v->slot == NULL) {
        return;
    }
    if (n->disk.bad) {
        v->slot->cb(v->slot, WEIR_EIO);
        return;
    }
    keep(v);
    v->dirty = false;
    v->slot->cb(v->slot, 0);
}

void sim_votes_crash(struct sim_node *n)
{
    struct sim_votes *v = &n->votes;
    if (v->dirty && !n->disk.bad && sim_chance(1, 2)) {
        keep(v); /* it was on its way and arrived */
    }
    v->dirty = false;
    v->slot = NULL;
}
