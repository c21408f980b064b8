/* Who a group speaks with: the servers of its newest configuration, its founders, and whoever spoke
 * to it (a leader that this replica does not know of yet). Raft uses the newest configuration in
 * the log, committed or not; when a truncation takes it back, the one before counts again. */
#include <stdio.h>
#include <stdlib.h>

#include "consensus/group_impl.h"

struct group_peer *group_peer(struct group *g, uint32_t id)
{
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (g->peers[i]->id == id) {
            return g->peers[i];
        }
    }
    return NULL;
}

static void forget(struct group *g, unsigned at)
{
    struct group_peer *peer = g->peers[at];
    guard_drop_held_of(g, peer);
    if (g->catchup.from == peer) {
        g->catchup.from = NULL;
    }
    free(peer->flow.pieces);
    free(peer);
    g->peers[at] = g->peers[--g->n_peers];
}

/* Room for another one: somebody who is in no configuration has to go. */
static bool make_room(struct group *g)
{
    if (g->n_peers < GROUP_PEERS_MAX) {
        return true;
    }
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (g->peers[i]->role == GROUP_NONE) {
            forget(g, i);
            return true;
        }
    }
    return false;
}

struct group_peer *peers_add(struct group *g, uint32_t id)
{
    struct group_peer *peer = group_peer(g, id);
    if (peer != NULL || id == 0 || id == g->self_id || !make_room(g)) {
        return peer;
    }
    peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return NULL;
    }
    peer->id = id;
    snprintf(peer->address, sizeof(peer->address), "%u", id);
    g->peers[g->n_peers++] = peer;
    return peer;
}

void peers_close(struct group *g)
{
    while (g->n_peers > 0) {
        forget(g, g->n_peers - 1);
    }
}

enum group_role configuration_role(const struct raft_configuration *c, uint32_t id)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (c->servers[i].id == id) {
            return c->servers[i].role == RAFT_VOTER     ? GROUP_VOTER
                   : c->servers[i].role == RAFT_STANDBY ? GROUP_STANDBY
                                                        : GROUP_SPARE;
        }
    }
    return GROUP_NONE;
}

unsigned configuration_voters(const struct raft_configuration *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n; i++) {
        n += c->servers[i].role == RAFT_VOTER;
    }
    return n;
}

void peers_follow(struct group *g)
{
    const struct raft_configuration *c = &g->raft.configuration;
    for (unsigned i = 0; i < c->n; i++) {
        (void)peers_add(g, (uint32_t)c->servers[i].id); /* no memory: at the next turn */
    }
    for (unsigned i = 0; i < g->n_peers; i++) {
        struct group_peer *peer = g->peers[i];
        enum group_role role = configuration_role(c, peer->id);
        if (role == GROUP_NONE && peer->role != GROUP_NONE) {
            /* Should it come back, libraft begins with it anew, and so do we. */
            peer->match = 0;
            flow_reset(&peer->flow);
            peer->flow.commit_sent = 0;
        }
        peer->role = role;
    }
}
