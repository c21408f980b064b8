/* What must hold, looked at after every step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static bool same_entry(const struct sim_entry *a, const struct sim_entry *b)
{
    return a->term == b->term && a->type == b->type && a->len == b->len &&
           memcmp(a->payload, b->payload, a->len) == 0;
}

static void commit_entry(const struct sim_node *n, uint64_t index, const struct sim_entry *e,
                         uint64_t term)
{
    struct sim_entry *c = &sim.committed[index];
    *c = *e;
    c->payload = malloc(e->len + 1);
    if (c->payload != NULL) {
        memcpy(c->payload, e->payload, e->len);
    }
    sim.committed_term[index] = term;
    sim.committed_last = index;
    if (e->type == LOG_ENTRY_BATCH) {
        uint64_t id = load_le64(e->payload + 16);
        if (id < SIM_LOG_MAX && sim.booked[id]) {
            sim_violate(SIM_LOST, n, "commits a batch for the second time");
        }
        sim.booked[id < SIM_LOG_MAX ? id : 0] = true;
    }
}

/* All nodes commit the same entries, and have them on their log. */
static void check_commit(struct sim_node *n)
{
    uint64_t commit = n->group->raft.commit_index;
    struct sim_disk *d = &n->disk;
    if (commit > d->last) {
        sim_violate(SIM_MEMORY_DISK, n, "commit is beyond the end of the log");
        return;
    }
    if (n->checked + 1 < d->begin.first_index.v) {
        n->checked = d->begin.first_index.v - 1;
    }
    for (uint64_t i = n->checked + 1; i <= commit; i++) {
        if (i > sim.committed_last) {
            commit_entry(n, i, &d->log[i], n->group->raft.current_term);
        } else if (!same_entry(&sim.committed[i], &d->log[i])) {
            sim_violate(SIM_DIVERGED, n, "commits another entry than the others");
            return;
        }
        n->checked = i;
    }
}

static void check_leader(struct sim_node *n)
{
    const struct raft *r = &n->group->raft;
    if (r->state != RAFT_LEADER || r->current_term == n->leader_checked_term ||
        r->current_term >= SIM_TERMS_MAX) {
        return;
    }
    uint32_t *leader = &sim.leader_of_term[r->current_term];
    if (*leader != 0 && *leader != n->id) {
        sim_violate(SIM_TWO_LEADERS, n, "two leaders in a term");
    }
    *leader = n->id;
    n->leader_checked_term = r->current_term;
    /* A leader has all that was committed in earlier terms; one that wins late may lack what a
     * later one did. */
    for (uint64_t i = n->disk.begin.first_index.v; i <= sim.committed_last; i++) {
        if (sim.committed_term[i] >= r->current_term) {
            continue;
        }
        if (i > n->disk.last || !same_entry(&sim.committed[i], &n->disk.log[i])) {
            sim_violate(SIM_LOST, n, "a new leader lacks a committed entry");
            return;
        }
    }
}

static void check_memory(struct sim_node *n)
{
    struct raft *r = &n->group->raft;
    uint64_t last = raft_last_index(r);
    if (last != n->disk.last) {
        sim_violate(SIM_MEMORY_DISK, n, "libraft's log has another length than the disk's");
        return;
    }
    size_t size = r->log.size;
    size_t count = size > 0 ? (r->log.back + size - r->log.front) % size : 0;
    for (size_t k = 0; k < count; k++) {
        uint64_t index = r->log.offset + k + 1;
        if (r->log.entries[(r->log.front + k) % size].term != n->disk.log[index].term) {
            sim_violate(SIM_MEMORY_DISK, n, "libraft's log has another term than the disk's");
            return;
        }
    }
}

/* Raft uses the newest configuration in the log. */
static void check_configuration(struct sim_node *n)
{
    struct sim_disk *d = &n->disk;
    uint64_t at = d->last;
    if (!list_empty(&n->group->appends)) {
        return; /* libraft takes it up when it is written */
    }
    while (at > d->begin.first_index.v && d->log[at].type != LOG_ENTRY_CONFIG) {
        at--;
    }
    if (at >= d->begin.first_index.v && at > 0 && d->last >= at &&
        d->log[at].type == LOG_ENTRY_CONFIG &&
        !sim_same_configuration(&n->group->raft.configuration, &d->log[at])) {
        sim_violate(SIM_MEMORY_DISK, n, "another configuration in use than the log's newest");
    }
}

void sim_check(struct sim_node *n)
{
    if (!n->up || n->group == NULL || !n->group->raft_started) {
        return;
    }
    check_commit(n);
    if (n->group->phase == GROUP_FAILED && !n->disk.bad) {
        sim_violate(SIM_STUCK, n, "gave up for good on a good disk");
    }
    if (n->group->phase != GROUP_UP) {
        return;
    }
    check_leader(n);
    check_memory(n);
    check_configuration(n);
}

/* An acknowledged proposal is in the committed log, with the offset it was told. */
void sim_check_ack(const struct sim_node *n, uint64_t id, int64_t base)
{
    for (uint64_t i = sim.committed_last; i > 0; i--) {
        const struct sim_entry *e = &sim.committed[i];
        if (e->type == LOG_ENTRY_BATCH && load_le64(e->payload + 16) == id) {
            if ((int64_t)load_le64(e->payload) != base || e->base != base) {
                sim_violate(SIM_LOST, n, "acknowledged with another offset");
            }
            sim.acked_last = i > sim.acked_last ? i : sim.acked_last;
            return;
        }
    }
    sim_violate(SIM_LOST, n, "acknowledged and not committed");
}

void sim_check_end(void)
{
    for (uint32_t id = 1; id <= sim.n_nodes; id++) {
        struct sim_node *n = &sim.nodes[id];
        if (!sim_is_member(n)) {
            if (!sim.members) {
                sim_violate(SIM_STUCK, n, "lost its disk and was not taken in again");
            }
            continue;
        }
        if (!n->up || n->group->phase != GROUP_UP || n->checked + 5 < sim.committed_last) {
            sim_violate(SIM_STUCK, n, "does not catch up after healing");
            continue;
        }
        for (uint64_t i = n->disk.begin.first_index.v; i <= sim.committed_last && i <= n->disk.last;
             i++) {
            if (!same_entry(&sim.committed[i], &n->disk.log[i])) {
                sim_violate(SIM_LOST, n, "lacks a committed entry in the end");
                break;
            }
        }
    }
}
