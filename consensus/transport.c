#include "consensus/transport.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "consensus/transport_impl.h"

#define TICK_US_DEFAULT 50000
#define TICK_US_MIN     1000
/* Votes, heartbeats and results still go when the queue is full of entries. */
#define SMALL_BYTES       4096
#define SMALL_EXTRA_BYTES (1u << 20)

struct peer *transport_peer(struct transport *t, uint32_t id)
{
    for (unsigned i = 0; i < t->n_peers && id != 0; i++) {
        if (t->peers[i].id == id) {
            return &t->peers[i];
        }
    }
    return NULL;
}

/* --- Groups --- */

/* Position of `id`, or where it belongs. */
static unsigned group_position(const struct transport *t, uint32_t id)
{
    unsigned low = 0, high = t->n_groups;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (t->groups[mid].id < id) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct transport_group *transport_group(struct transport *t, uint32_t id)
{
    unsigned at = group_position(t, id);
    return at < t->n_groups && t->groups[at].id == id ? &t->groups[at] : NULL;
}

uint64_t transport_clock_ns(const struct transport *t)
{
    uint64_t since_ns = env_now_ns(t->env) - t->clock_at_ns, most_ns = 2 * t->tick_us * 1000;
    return t->clock_ns + (since_ns < most_ns ? since_ns : most_ns);
}

/* What was counted since the last look stays counted. */
static void look_at_clock(struct transport *t)
{
    t->clock_ns = transport_clock_ns(t);
    t->clock_at_ns = env_now_ns(t->env);
}

int transport_attach(struct transport *t, uint32_t group_id, uint32_t tick_ms,
                     const struct transport_handler *handler, struct error *err)
{
    unsigned at = group_position(t, group_id);
    if (transport_group(t, group_id) != NULL || group_id == 0) {
        return error_set(err, WEIR_EEXISTS, "group %u is attached already", group_id);
    }
    if (t->n_groups == t->cap_groups) {
        unsigned cap = t->cap_groups == 0 ? 16 : t->cap_groups * 2;
        struct transport_group *groups =
            cap <= TRANSPORT_GROUPS_MAX ? realloc(t->groups, cap * sizeof(*groups)) : NULL;
        if (groups == NULL) {
            return error_set(err, WEIR_ENOMEM, "no memory for group %u of %u", group_id, cap);
        }
        t->groups = groups;
        t->cap_groups = cap;
    }
    memmove(&t->groups[at + 1], &t->groups[at], (t->n_groups - at) * sizeof(t->groups[0]));
    t->groups[at] = (struct transport_group){.id = group_id, .handler = *handler};
    t->n_groups++;
    uint64_t tick_us = (uint64_t)tick_ms * 1000;
    tick_us = tick_us < TICK_US_MIN ? TICK_US_MIN : tick_us;
    look_at_clock(t);
    t->tick_us = tick_us < t->tick_us ? tick_us : t->tick_us;
    return 0;
}

void transport_detach(struct transport *t, uint32_t group_id)
{
    unsigned at = group_position(t, group_id);
    if (at < t->n_groups && t->groups[at].id == group_id) {
        memmove(&t->groups[at], &t->groups[at + 1], (t->n_groups - at - 1) * sizeof(t->groups[0]));
        t->n_groups--;
    }
}

static void tell_groups(struct transport *t, uint32_t peer_id, bool up)
{
    for (unsigned i = 0; i < t->n_groups; i++) {
        t->groups[i].handler.link(t->groups[i].handler.data, peer_id, up);
    }
}

/* --- Links --- */

static bool lower_dialled(const struct peer_link *link)
{
    return link->dialled == (link->transport->self_id < link->peer->id);
}

bool transport_link_is_surplus(const struct peer_link *link)
{
    const struct peer_link *other = link->peer->link;
    return other != NULL && other->peer_incarnation == link->peer_incarnation &&
           lower_dialled(other) && !lower_dialled(link);
}

void transport_link_up(struct peer_link *link)
{
    struct peer *peer = link->peer;
    if (peer->dialing != NULL) {
        link_close(peer->dialing, NULL); /* they were faster */
    }
    if (peer->link != NULL) {
        /* The node lost its old connection, or has begun a new life: what the old one still says is
         * void. */
        link_close(peer->link, "replaced by a new one");
    }
    link->state = LINK_UP;
    link->transport->n_unproven--;
    link->received_ns = transport_clock_ns(link->transport);
    frame_parser_set_max(&link->parser, FRAME_SIZE_MAX);
    peer->link = link;
    peer->complain_ns = 0;
    if (link->transport->cluster == 0 && link->peer_cluster != 0) {
        transport_learn_cluster(link->transport, link->peer_cluster);
    }
    log_info("peer_link_up", "peer=%s id=%u address=%s", peer->name, peer->id,
             env_stream_peer(link->stream));
    tell_groups(link->transport, peer->id, true);
}

void transport_link_down(struct peer_link *link)
{
    struct peer *peer = link->peer;
    if (peer->link != link) {
        return;
    }
    peer->link = NULL;
    peer->alone_ns = env_now_ns(link->transport->env);
    peer->next_dial_ns = peer->alone_ns + TRANSPORT_DIAL_RETRY_NS;
    log_info("peer_link_down", "peer=%s id=%u", peer->name, peer->id);
    tell_groups(link->transport, peer->id, false);
}

bool transport_connected(const struct transport *t, uint32_t peer_id)
{
    for (unsigned i = 0; i < t->n_peers && peer_id != 0; i++) {
        if (t->peers[i].id == peer_id) {
            return t->peers[i].link != NULL;
        }
    }
    return false;
}

static void on_accept(struct env_listener *listener, struct env_stream *stream)
{
    link_accept(env_listener_data(listener), stream);
}

/* --- Sending --- */

static void flush(struct env_defer *defer)
{
    struct peer *peer = defer->data;
    if (peer->link != NULL) {
        link_flush(peer->link);
    }
}

int transport_send(struct transport *t, const struct transport_message *m)
{
    struct peer *peer = transport_peer(t, m->peer_id);
    assert(m->n_attachment <= TRANSPORT_IOV_MAX);
    if (peer == NULL || peer->link == NULL) {
        return WEIR_ECLOSED;
    }
    uint64_t max = t->queue_bytes_max;
    if (m->n_attachment == 0 && m->len <= SMALL_BYTES) {
        max += SMALL_EXTRA_BYTES;
    }
    if (peer->queued_bytes >= max) {
        return WEIR_EBUSY;
    }
    struct out_frame *f = link_frame(t, m);
    if (f == NULL) {
        return WEIR_ENOMEM;
    }
    peer->queued_bytes += f->bytes;
    list_push_back(&peer->queue, &f->link);
    env_defer(t->env, &peer->flush, flush);
    return 0;
}

/* --- Time --- */

static void dial_if_due(struct transport *t, struct peer *peer, uint64_t now_ns)
{
    struct error err = {0};
    bool ours = peer->id > t->self_id;
    if (peer->id == 0 || peer->guest || peer->link != NULL || peer->dialing != NULL ||
        now_ns < peer->next_dial_ns || (!ours && now_ns < peer->alone_ns + TRANSPORT_LONELY_NS)) {
        return;
    }
    peer->next_dial_ns = now_ns + (ours ? TRANSPORT_DIAL_RETRY_NS : TRANSPORT_LONELY_RETRY_NS);
    if (link_dial(t, peer, &err) != 0 && now_ns >= peer->complain_ns) {
        peer->complain_ns = now_ns + TRANSPORT_COMPLAIN_NS;
        log_warn("peer_dial_failed", "peer=%s reason=\"%s\"", peer->name, err.text);
    }
}

static void tick(struct env_timer *timer)
{
    struct transport *t = timer->data;
    uint64_t now_ns = env_now_ns(t->env);
    look_at_clock(t);
    /* After a stall of this loop its peers are not silent: they were not listened to. Read first;
     * but once only, or a loop that is always late would never send a heartbeat. */
    t->tick_put_off = !t->tick_put_off && now_ns > t->tick_due_ns + 2 * t->tick_us * 1000;
    if (t->tick_put_off) {
        t->tick_due_ns = now_ns + TICK_US_MIN * 1000;
        env_timer_start(&t->timer, TICK_US_MIN, tick);
        return;
    }
    t->tick_due_ns = now_ns + t->tick_us * 1000;
    env_timer_start(&t->timer, t->tick_us, tick);
    for (unsigned i = 0; i < t->n_peers; i++) {
        dial_if_due(t, &t->peers[i], now_ns);
    }
    LIST_FOREACH_SAFE(el, next, &t->links)
    {
        link_tick(list_entry(el, struct peer_link, link));
    }
    for (unsigned i = 0; i < t->n_groups; i++) {
        t->groups[i].handler.tick(t->groups[i].handler.data);
    }
}

/* --- Opening and closing --- */

static int by_id(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Before a cluster has its id, this tells those that mean the same one. */
static uint64_t hash_members(const struct transport *t)
{
    uint32_t ids[TRANSPORT_PEERS_MAX + 1];
    uint8_t bytes[sizeof(ids)], hash[crypto_generichash_BYTES_MIN];
    unsigned n = 0;
    ids[n++] = t->self_id;
    for (unsigned i = 0; i < t->n_peers; i++) {
        ids[n++] = t->peers[i].id;
    }
    qsort(ids, n, sizeof(ids[0]), by_id);
    for (unsigned i = 0; i < n; i++) {
        store_le32(bytes + (size_t)4 * i, ids[i]);
    }
    crypto_generichash(hash, sizeof(hash), bytes, (size_t)4 * n, NULL, 0);
    return load_le64(hash);
}

/* A place that is free, or whose guest has gone; NULL: none. */
static struct peer *place_find(struct transport *t)
{
    for (unsigned i = 0; i < t->n_peers; i++) {
        struct peer *p = &t->peers[i];
        if ((p->id == 0 || p->guest) && p->queued_bytes == 0 && p->link == NULL &&
            p->dialing == NULL) {
            env_defer_cancel(&p->flush);
            return p;
        }
    }
    return t->n_peers < sizeof(t->peers) / sizeof(t->peers[0]) ? &t->peers[t->n_peers++] : NULL;
}

static struct peer *place_take(struct transport *t, uint32_t id)
{
    struct peer *peer = place_find(t);
    if (peer != NULL) {
        *peer = (struct peer){.transport = t, .id = id, .alone_ns = env_now_ns(t->env)};
        list_init(&peer->queue);
        list_init(&peer->flush.link);
        peer->flush.data = peer;
    }
    return peer;
}

static unsigned count_members(const struct transport *t)
{
    unsigned n = 0;
    for (unsigned i = 0; i < t->n_peers; i++) {
        n += t->peers[i].id != 0 && !t->peers[i].guest;
    }
    return n;
}

/* --- Guests, and those that are not welcome any more --- */

static unsigned removed_position(const struct transport *t, uint32_t id)
{
    unsigned i = 0;
    while (i < t->n_removed && t->removed[i] != id) {
        i++;
    }
    return i;
}

static void removed_note(struct transport *t, uint32_t id)
{
    if (removed_position(t, id) == t->n_removed && t->n_removed < TRANSPORT_REMOVED_MAX) {
        t->removed[t->n_removed++] = id;
    }
}

static void removed_forget(struct transport *t, uint32_t id)
{
    unsigned at = removed_position(t, id);
    if (at < t->n_removed) {
        t->removed[at] = t->removed[--t->n_removed];
    }
}

bool transport_may_visit(const struct transport *t, uint32_t id, uint64_t its_cluster)
{
    return id != 0 && id != t->self_id && t->cluster != 0 && its_cluster == t->cluster &&
           t->n_removed < TRANSPORT_REMOVED_MAX && removed_position(t, id) == t->n_removed;
}

struct peer *transport_guest(struct transport *t, uint32_t id)
{
    unsigned guests = 0;
    for (unsigned i = 0; i < t->n_peers; i++) {
        guests += t->peers[i].guest && t->peers[i].link != NULL;
    }
    struct peer *peer = guests < TRANSPORT_GUESTS_MAX ? place_take(t, id) : NULL;
    if (peer != NULL) {
        peer->guest = true;
        (void)snprintf(peer->name, sizeof(peer->name), "guest-%u", id);
    }
    return peer;
}

static void peer_hang_up(struct peer *peer, const char *why)
{
    LIST_FOREACH_SAFE(el, next, &peer->transport->links)
    {
        struct peer_link *link = list_entry(el, struct peer_link, link);
        if (link->peer == peer && link->state != LINK_CLOSING) {
            link_close(link, link->state == LINK_UP ? why : NULL);
        }
    }
}

int transport_add_peer(struct transport *t, const struct transport_peer *from, struct error *err)
{
    struct peer *peer = transport_peer(t, from->id);
    if (from->id == 0 || from->id == t->self_id || strlen(from->host) >= sizeof(peer->host)) {
        return error_set(err, WEIR_EINVAL, "peer %s: id %u, host \"%s\"", from->name, from->id,
                         from->host);
    }
    if ((peer == NULL || peer->guest) && count_members(t) >= TRANSPORT_PEERS_MAX) {
        return error_set(err, WEIR_ETOOBIG, "peer %s: there are %d others already", from->name,
                         TRANSPORT_PEERS_MAX);
    }
    if (peer == NULL && (peer = place_take(t, from->id)) == NULL) {
        return error_set(err, WEIR_ETOOBIG, "peer %s: no place is free yet", from->name);
    }
    removed_forget(t, from->id);
    if (peer->port == 0) {
        peer->guest = false; /* or new */
    } else if (strcmp(peer->host, from->host) != 0 || peer->port != from->port) {
        log_info("peer_moved", "peer=%s id=%u address=%s:%u", from->name, from->id, from->host,
                 from->port);
        peer_hang_up(peer, "its address changed");
        peer->next_dial_ns = 0;
    }
    peer->port = from->port;
    memcpy(peer->host, from->host, strlen(from->host) + 1);
    (void)snprintf(peer->name, sizeof(peer->name), "%s", from->name);
    return 0;
}

void transport_remove_peer(struct transport *t, uint32_t peer_id)
{
    struct peer *peer = transport_peer(t, peer_id);
    removed_note(t, peer_id);
    if (peer != NULL) {
        peer_hang_up(peer, "removed from the cluster");
        env_defer_cancel(&peer->flush);
        log_info("peer_removed", "peer=%s id=%u", peer->name, peer->id);
        peer->id = 0;
    }
}

void transport_learn_cluster(struct transport *t, uint64_t cluster_id)
{
    t->cluster = cluster_id;
    log_info("cluster_learned", "cluster=%016llx", (unsigned long long)cluster_id);
    if (t->cluster_learned != NULL) {
        t->cluster_learned(t->data, cluster_id);
    }
}

int transport_set_cluster(struct transport *t, uint64_t cluster_id)
{
    if (t->cluster != 0 && t->cluster != cluster_id) {
        return WEIR_EEXISTS;
    }
    t->cluster = cluster_id;
    return 0;
}

uint64_t transport_cluster(const struct transport *t)
{
    return t->cluster;
}

static void transport_free(struct transport *t)
{
    for (unsigned i = 0; i < t->n_peers; i++) {
        env_defer_cancel(&t->peers[i].flush); /* harmless for a place that is free */
    }
    env_timer_close(&t->timer);
    if (t->secret != NULL) {
        sodium_memzero(t->secret, strlen(t->secret));
    }
    free(t->secret);
    free(t->groups);
    free(t);
}

int transport_new(struct env *env, const struct transport_options *options,
                  struct transport **ret_transport, struct error *err)
{
    if (sodium_init() < 0) {
        return error_set(err, WEIR_EUNAVAILABLE, "libsodium does not start");
    }
    struct transport *t = calloc(1, sizeof(*t));
    if (t == NULL || (t->secret = strdup(options->secret)) == NULL) {
        free(t);
        return error_set(err, WEIR_ENOMEM, "no memory for the transport");
    }
    t->env = env;
    t->sockets = options->sockets != NULL ? options->sockets : env;
    t->self_id = options->self_id;
    t->shard = options->shard;
    t->n_shards = options->n_shards > 0 ? options->n_shards : 1;
    t->queue_bytes_max = options->queue_bytes_max;
    t->tick_us = TICK_US_DEFAULT;
    t->clock_ns = t->clock_at_ns = env_now_ns(env);
    t->incarnation = ((uint64_t)env_wall_ms(env) << 16) | (env_random_u64(env) & 0xffff);
    t->timer.data = t;
    list_init(&t->links);
    list_init(&t->closed.link);
    t->closed.data = t;
    t->cluster = options->cluster_id;
    t->cluster_learned = options->cluster_learned;
    t->data = options->data;
    int rv = 0;
    for (unsigned i = 0; i < options->n_peers && rv == 0; i++) {
        rv = transport_peer(t, options->peers[i].id) == NULL
                 ? transport_add_peer(t, &options->peers[i], err)
                 : error_set(err, WEIR_EINVAL, "two peers have the id %u", options->peers[i].id);
    }
    if (rv == 0) {
        t->founders = options->joining ? 0 : hash_members(t);
        rv = env_timer_init(env, &t->timer);
    }
    if (rv == 0) {
        rv = env_listen(t->sockets, options->listen_host, options->listen_port, on_accept, t,
                        &t->listener, err);
    }
    if (rv != 0) {
        transport_free(t);
        return rv;
    }
    t->tick_due_ns = env_now_ns(env);
    env_timer_start(&t->timer, 0, tick);
    *ret_transport = t;
    return 0;
}

static void finish_close(struct env_defer *defer)
{
    struct transport *t = defer->data;
    void (*cb)(void *data) = t->close_cb;
    void *data = t->close_data;
    transport_free(t);
    if (cb != NULL) {
        cb(data);
    }
}

void transport_link_freed(struct transport *t)
{
    if (t->closing && list_empty(&t->links)) {
        env_defer(t->env, &t->closed, finish_close);
    }
}

void transport_close(struct transport *t, void (*cb)(void *data), void *data)
{
    assert(t->n_groups == 0 && !t->closing);
    t->closing = true;
    t->close_cb = cb;
    t->close_data = data;
    env_timer_stop(&t->timer);
    env_listener_close(t->listener);
    LIST_FOREACH_SAFE(el, next, &t->links)
    {
        link_close(list_entry(el, struct peer_link, link), NULL);
    }
    transport_link_freed(t);
}

uint16_t transport_port(const struct transport *t)
{
    return env_listener_port(t->listener);
}

uint32_t transport_self(const struct transport *t)
{
    return t->self_id;
}
