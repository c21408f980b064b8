#include "nodes/broker/room.h"

#include <stdio.h>

#include "base/logging.h"
#include "nodes/broker/broker_priv.h"

#define TELL_NS  500000000u
#define COUNT_NS 3000000000u
#define BETWEEN  4           /* it takes a part in so many more than the limit to have room again */
#define MOVES_NS 5000000000u /* a leader that could not hand over for so long says why */

bool room_is_full(bool was, uint64_t free_bytes, uint64_t free_bytes_min)
{
    return free_bytes < free_bytes_min + (was ? free_bytes_min / BETWEEN : 0);
}

/* --- This node --- */

void room_look(struct broker *b)
{
    char dir[CONFIG_PATH_MAX + 8];
    uint64_t free_bytes = 0;
    (void)snprintf(dir, sizeof(dir), "%s/log", b->config->data_dir);
    if (env_dir_free_bytes(b->env, dir, &free_bytes, NULL) != 0) {
        return; /* it may not be there yet */
    }
    uint64_t free_bytes_min = (uint64_t)b->config->log_free_mib_min << 20;
    bool below = free_bytes < free_bytes_min;
    bool full = room_is_full(b->room.full, free_bytes, free_bytes_min);
    if (full != b->room.full || below != b->room.below) {
        b->room.told_ns = 0;
        b->reported_ns = 0;
    }
    b->room.below = below;
    if (full != b->room.full) {
        b->room.full = full;
        metric_set(b->metrics.disk_full, full);
        log_event(full ? LOG_WARN : LOG_INFO, full ? "disk_full" : "disk_has_room",
                  "free_mib=%llu free_mib_min=%u", (unsigned long long)(free_bytes >> 20),
                  b->config->log_free_mib_min);
    }
}

/* --- The others --- */

static const struct room_peer *peer_of(const struct room *room, uint32_t id)
{
    for (unsigned i = 0; i < room->n_peers; i++) {
        if (room->peers[i].id == id) {
            return &room->peers[i];
        }
    }
    return NULL;
}

static bool tells(const struct broker *b, const struct room_peer *p)
{
    return p != NULL && env_now_ns(b->env) < p->heard_ns + COUNT_NS;
}

/* Members that have left. */
static void drop_silent(struct broker *b)
{
    struct room *room = &b->room;
    unsigned n = 0;
    for (unsigned i = 0; i < room->n_peers; i++) {
        if (tells(b, &room->peers[i])) {
            room->peers[n++] = room->peers[i];
        }
    }
    room->n_peers = n;
}

void room_take(struct broker *b, uint32_t peer_id, const Weir__Room *m)
{
    struct room *room = &b->room;
    unsigned i = 0;
    while (i < room->n_peers && room->peers[i].id != peer_id) {
        i++;
    }
    if (i == CLUSTER_NODES_MAX) {
        drop_silent(b);
        i = room->n_peers;
    }
    if (i == CLUSTER_NODES_MAX) {
        return;
    }
    room->n_peers += i == room->n_peers;
    room->peers[i] = (struct room_peer){
        .id = peer_id,
        .full = m->full != 0,
        .below = m->below != 0,
        .heard_ns = env_now_ns(b->env),
    };
}

bool room_of(const struct broker *b, uint32_t node_id)
{
    const struct room_peer *p = peer_of(&b->room, node_id);
    return tells(b, p) && !p->full;
}

static bool is_below(const struct broker *b, uint32_t id)
{
    const struct room_peer *p = peer_of(&b->room, id);
    return id == b->self->id ? b->room.below : tells(b, p) && p->below;
}

bool room_is_scarce(const struct broker *b, const struct group_member *members, unsigned n)
{
    unsigned voters = 0, below = 0;
    for (unsigned i = 0; i < n; i++) {
        bool votes = members[i].role == GROUP_VOTER;
        voters += votes;
        below += votes && is_below(b, members[i].id);
    }
    return below > 0 && voters - below <= voters / 2;
}

static bool somebody_is_below(const struct broker *b)
{
    bool any = b->room.below;
    for (unsigned i = 0; i < b->room.n_peers; i++) {
        any = any || b->room.peers[i].below;
    }
    return any;
}

static void tell_groups(struct broker *b)
{
    struct group_member members[CONFIG_NODES_MAX];
    bool perhaps = somebody_is_below(b);
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        struct group *g = b->replicas[i].group;
        if (g == NULL) {
            continue;
        }
        group_set_unfit(g, b->self->id, b->room.full);
        for (unsigned k = 0; k < b->room.n_peers; k++) {
            const struct room_peer *p = &b->room.peers[k];
            group_set_unfit(g, p->id, tells(b, p) && p->full);
        }
        unsigned n = perhaps ? group_members(g, members, CONFIG_NODES_MAX) : 0;
        group_set_scarce(g, room_is_scarce(b, members, n));
    }
}

void room_tick(struct broker *b, uint64_t now_ns)
{
    room_look(b);
    tell_groups(b);
    if (now_ns >= b->room.told_ns + TELL_NS) {
        b->room.told_ns = now_ns;
        report_room(b);
    }
}

/* --- What is refused --- */

int room_refusal(struct replica *r)
{
    struct broker *b = r->broker;
    uint64_t now_ns = env_now_ns(b->env);
    room_look(b); /* the group may have been the first to see it */
    if (!b->room.full || reconcile_heir_with_room(r) == 0) {
        return WEIR_ENOSPC;
    }
    if (r->moving_ns == 0) {
        r->moving_ns = now_ns;
    }
    return now_ns < r->moving_ns + MOVES_NS ? WEIR_EBUSY : WEIR_ENOSPC;
}
