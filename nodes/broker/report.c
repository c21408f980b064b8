#include "nodes/broker/report.h"

#include <stdlib.h>

#include "base/shard.h"
#include "nodes/broker/broker_priv.h"
#include "proto/meta.pb-c.h"

#define REPORT_NS         500000000u
#define REPORT_PARTITIONS 64 /* in one message */
#define REPORT_TICK_MS    1000
#define REPORT_BYTES_MAX  (1u << 20)

/* --- Out --- */

struct part_memory {
    Weir__ReportPartition part;
    Weir__ReportMember members[CONFIG_NODES_MAX], *list[CONFIG_NODES_MAX];
};

static void fill_part(struct part_memory *m, const struct replica *r)
{
    struct group_member members[CONFIG_NODES_MAX];
    const struct partition *p = group_partition(r->group);
    uint64_t last = partition_last_index(p).v;
    unsigned n = group_members(r->group, members, CONFIG_NODES_MAX);
    weir__report_partition__init(&m->part);
    for (unsigned i = 0; i < n; i++) {
        weir__report_member__init(&m->members[i]);
        m->members[i].id = members[i].id;
        m->members[i].voter = members[i].role == GROUP_VOTER;
        m->members[i].connected = members[i].connected;
        m->members[i].lag = last > members[i].match.v ? last - members[i].match.v : 0;
        m->list[i] = &m->members[i];
    }
    m->part.group = r->group_id;
    m->part.term = group_term(r->group).v;
    m->part.settled = reconcile_settled(r);
    m->part.last_index = last;
    m->part.members = m->list;
    m->part.n_members = n;
}

static void send_message(struct broker *b, uint32_t to, enum report_message type,
                         const ProtobufCMessage *message)
{
    struct bytes body;
    bytes_init(&body, REPORT_BYTES_MAX);
    message_pack(&body, message);
    if (bytes_error(&body) == 0) {
        (void)transport_send(b->transport, &(struct transport_message){.peer_id = to,
                                                                       .group_id = REPORT_GROUP_ID,
                                                                       .type = (uint16_t)type,
                                                                       .body = body.data,
                                                                       .len = body.len});
    }
    bytes_close(&body);
}

/* To the controller on this node: that of the first shard. */
static void post_report(struct broker *b, uint32_t node_id, const void *body, size_t len)
{
    struct hub_mail mail = {
        .type = HUB_REPORT, .a = node_id, .b = b->shard, .body = body, .len = len};
    (void)hub_send(b->hub, 0, &mail);
}

static void deliver(struct broker *b, uint32_t to, const Weir__Report *m)
{
    if (to != b->self->id) {
        send_message(b, to, REPORT_STATE, &m->base);
    } else if (b->shard == 0) {
        controller_take(&b->controller, to, 0, m);
    } else {
        struct bytes body;
        bytes_init(&body, REPORT_BYTES_MAX);
        message_pack(&body, &m->base);
        if (bytes_error(&body) == 0) {
            post_report(b, to, body.data, body.len);
        }
        bytes_close(&body);
    }
}

static void report(struct broker *b, uint32_t to, struct part_memory *memory,
                   Weir__ReportPartition **list)
{
    Weir__Report m = WEIR__REPORT__INIT;
    m.sequence = ++b->reports;
    m.disk_full = b->room.full;
    m.partitions = list;
    (void)env_dir_free_bytes(b->env, b->config->data_dir, &m.disk_free_bytes, NULL);
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        const struct group *g = b->replicas[i].group;
        m.n_replicas += g != NULL;
        m.disk_bad = m.disk_bad || b->replicas[i].failed_code == WEIR_EIO ||
                     (g != NULL && group_disk_stalls(g));
    }
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        const struct replica *r = &b->replicas[i];
        if (r->group == NULL || !group_is_leader(r->group)) {
            continue;
        }
        fill_part(&memory[m.n_partitions], r);
        list[m.n_partitions] = &memory[m.n_partitions].part;
        if (++m.n_partitions == REPORT_PARTITIONS) {
            deliver(b, to, &m);
            m.n_partitions = 0;
        }
    }
    m.last = true;
    deliver(b, to, &m);
}

/* Who leads `meta`, as this node's replica of it says. */
static uint32_t controller_id(const struct broker *b)
{
    if (b->shard > 0) {
        return hub_leader(b->hub);
    }
    uint32_t id = b->roster.meta != NULL ? replica_leader(b->roster.meta) : 0;
    if (b->hub != NULL) {
        hub_set_leader(b->hub, id);
    }
    return id;
}

void report_tick(struct broker *b, uint64_t now_ns)
{
    uint32_t to = controller_id(b);
    if (to == 0 || now_ns < b->reported_ns + REPORT_NS) {
        return;
    }
    struct part_memory *memory = calloc(REPORT_PARTITIONS, sizeof(*memory));
    Weir__ReportPartition **list = calloc(REPORT_PARTITIONS, sizeof(Weir__ReportPartition *));
    if (memory != NULL && list != NULL) {
        b->reported_ns = now_ns;
        report(b, to, memory, list);
    }
    free(memory);
    free(list);
}

void report_room(struct broker *b)
{
    Weir__Room m = WEIR__ROOM__INIT;
    const struct cluster *c = &b->roster.cluster;
    m.full = b->room.full;
    m.below = b->room.below;
    for (unsigned i = 0; i < c->n_nodes; i++) {
        uint32_t id = c->nodes[i].node.id;
        if (id != b->self->id && transport_connected(b->transport, id)) {
            send_message(b, id, REPORT_ROOM, &m.base);
        }
    }
}

void report_hand_over(struct broker *b, uint32_t leader, uint32_t group_id, uint32_t target)
{
    Weir__HandOver m = WEIR__HAND_OVER__INIT;
    struct replica *r = broker_replica_of_group(b, group_id);
    m.group = group_id;
    m.target = target;
    if (r != NULL && r->foreign) {
        struct hub_mail mail = {.type = HUB_HAND_OVER, .a = leader, .b = group_id, .c = target};
        uint32_t shard = shard_of(r->topic->name, r->partition, b->n_shards);
        if (b->shard == 0) {
            (void)hub_send(b->hub, shard, &mail);
        }
        return;
    }
    if (leader != b->self->id) {
        send_message(b, leader, REPORT_HAND_OVER, &m.base);
    } else if (r != NULL) {
        reconcile_hand_over(r, target);
    }
}

/* --- In --- */

static int on_receive(void *data, uint32_t peer_id, uint16_t type, const void *body, size_t len,
                      const void *attachment, size_t attachment_len, struct error *err)
{
    struct broker *b = data;
    (void)attachment;
    (void)attachment_len;
    if (type == REPORT_STATE && b->shard > 0) {
        post_report(b, peer_id, body, len);
    } else if (type == REPORT_STATE) {
        Weir__Report *m = weir__report__unpack(NULL, len, body);
        if (m == NULL) {
            return error_set(err, WEIR_EPROTO, "a report that can't be parsed");
        }
        controller_take(&b->controller, peer_id, b->shard, m);
        weir__report__free_unpacked(m, NULL);
    } else if (type == REPORT_HAND_OVER) {
        Weir__HandOver *m = weir__hand_over__unpack(NULL, len, body);
        if (m == NULL) {
            return error_set(err, WEIR_EPROTO, "a hand-over that can't be parsed");
        }
        struct replica *r = broker_replica_of_group(b, m->group);
        if (r != NULL) {
            reconcile_hand_over(r, m->target);
        }
        weir__hand_over__free_unpacked(m, NULL);
    } else if (type == REPORT_ROOM) {
        Weir__Room *m = weir__room__unpack(NULL, len, body);
        if (m == NULL) {
            return error_set(err, WEIR_EPROTO, "a word about room that can't be parsed");
        }
        room_take(b, peer_id, m);
        weir__room__free_unpacked(m, NULL);
    }
    return 0; /* what a later version says is passed over */
}

static void on_link(void *data, uint32_t peer_id, bool up)
{
    (void)data;
    (void)peer_id;
    (void)up;
}

static void on_tick(void *data)
{
    (void)data;
}

int report_open(struct broker *b, struct error *err)
{
    struct transport_handler handler = {
        .data = b, .receive = on_receive, .link = on_link, .tick = on_tick};
    int rv = transport_attach(b->transport, REPORT_GROUP_ID, REPORT_TICK_MS, &handler, err);
    b->reporting = rv == 0;
    return rv;
}

void report_close(struct broker *b)
{
    if (b->reporting) {
        transport_detach(b->transport, REPORT_GROUP_ID);
        b->reporting = false;
    }
}
