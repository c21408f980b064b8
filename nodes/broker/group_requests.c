/* What clients ask the coordinator of their group. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/logging.h"
#include "nodes/broker/coordinator_priv.h"

struct groups_part *groups_part_asked(struct conn *c, const struct frame *frame, const char *group)
{
    if (!group_name_valid(group)) {
        broker_conn_reply_error(c, frame->correlation, WEIR_EINVAL,
                                "a group's name has 1 to 63 letters, digits, '.', '_' and '-'",
                                NULL);
        return NULL;
    }
    struct groups_part *part = part_of(c->broker->coordinator, group);
    int rv = part_ready(part);
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv,
                                rv == WEIR_ENOTLEADER ? error_name(rv)
                                                      : "the group's offsets are being read",
                                part_replica(part));
        return NULL;
    }
    return part;
}

/* --- Poll --- */

static int check_poll(const struct conn *c, const Weir__BrokerGroupPoll *m, struct error *why)
{
    size_t id = strlen(m->member);
    if (id == 0 || id > GROUP_MEMBER_ID_MAX) {
        return error_set(why, WEIR_EINVAL, "a member's id has 1 to %d bytes", GROUP_MEMBER_ID_MAX);
    }
    if (m->session_ms < GROUP_SESSION_MS_MIN || m->session_ms > GROUP_SESSION_MS_MAX) {
        return error_set(why, WEIR_EINVAL, "session of %u ms; %u to %u are taken", m->session_ms,
                         GROUP_SESSION_MS_MIN, GROUP_SESSION_MS_MAX);
    }
    if (m->n_topics == 0 || m->n_topics > GROUP_TOPICS_MAX) {
        return error_set(why, WEIR_EINVAL, "%zu topics; 1 to %d are taken", m->n_topics,
                         GROUP_TOPICS_MAX);
    }
    for (size_t i = 0; i < m->n_topics; i++) {
        if (coordinator_topic_partitions(c->broker->coordinator, m->topics[i]) == 0) {
            return error_set(why, WEIR_ENOTFOUND, "no topic '%.64s'", m->topics[i]);
        }
    }
    return 0;
}

static int take_topics(struct groups_part *part, struct group_state *g,
                       const Weir__BrokerGroupPoll *m, uint64_t *ret_topics)
{
    uint64_t topics = 0;
    for (size_t i = 0; i < m->n_topics; i++) {
        uint32_t n = coordinator_topic_partitions(part->coordinator, m->topics[i]);
        uint32_t bit = 0, known = g->n_topics;
        int rv = group_state_topic(g, m->topics[i], n, &bit);
        if (rv != 0) {
            return rv;
        }
        for (uint32_t k = 0; k < n && bit >= known; k++) {
            group_state_committed(g, bit, k,
                                  group_view_generation(&part->view, m->group, m->topics[i], k));
        }
        topics |= UINT64_C(1) << bit;
    }
    *ret_topics = topics;
    return 0;
}

static void take_owned(struct group_state *g, struct membership *member,
                       const Weir__BrokerGroupPoll *m)
{
    for (size_t i = 0; i < m->n_owned; i++) {
        const Weir__BrokerGroupTopic *t = m->owned[i];
        for (size_t k = 0; k < t->n_partitions; k++) {
            struct group_slot *slot = group_state_slot(g, t->topic, t->partitions[k]);
            if (slot != NULL) {
                group_poll_owned(g, member, m->generation, slot);
            }
        }
    }
    group_poll_end(g, member);
}

static int poll(struct conn *c, const struct frame *frame, struct groups_part *part,
                const Weir__BrokerGroupPoll *m)
{
    uint64_t now = env_now_ns(c->broker->env);
    struct group_poll p = {.member = m->member,
                           .client = m->client,
                           .peer = c->peer,
                           .generation = m->generation,
                           .sequence = m->sequence,
                           .session_ms = m->session_ms};
    struct group_state *g = NULL;
    struct membership *member = NULL;
    int rv = part_state_make(part, m->group, &g);
    if (rv != 0) {
        return rv;
    }
    rv = take_topics(part, g, m, &p.topics);
    if (rv == 0) {
        rv = group_poll_begin(g, &p, now, &member);
    }
    if (rv == 0) {
        part_member_refuse(part, member, WEIR_EFENCED); /* an older poll of its */
        take_owned(g, member, m);
        list_remove(&member->conn_link);
        list_push_back(&c->members, &member->conn_link);
        uint32_t wait_ms = m->wait_ms_max < m->session_ms / 2 ? m->wait_ms_max : m->session_ms / 2;
        member->conn = c;
        member->waiting = true;
        member->correlation = frame->correlation;
        member->wait_until_ns = now + (uint64_t)wait_ms * 1000000u;
    }
    part_state_run(part, g, now);
    return rv;
}

int broker_handle_group_poll(struct conn *c, const struct frame *frame,
                             const ProtobufCMessage *head, struct error *err)
{
    const Weir__BrokerGroupPoll *m = (const Weir__BrokerGroupPoll *)head;
    struct error why = {0};
    (void)err;
    struct groups_part *part = groups_part_asked(c, frame, m->group);
    if (part == NULL) {
        return 0;
    }
    int rv = check_poll(c, m, &why);
    if (rv == 0) {
        rv = poll(c, frame, part, m);
        (void)error_set(&why, rv, "%s",
                        rv == WEIR_EBUSY     ? "too many groups or members"
                        : rv == WEIR_ETOOBIG ? "too many topics or partitions in the group"
                                             : error_name(rv));
    }
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, why.text, NULL);
    }
    return 0;
}

int broker_handle_group_leave(struct conn *c, const struct frame *frame,
                              const ProtobufCMessage *head, struct error *err)
{
    const Weir__BrokerGroupLeave *m = (const Weir__BrokerGroupLeave *)head;
    Weir__BrokerGroupLeft reply = WEIR__BROKER_GROUP_LEFT__INIT;
    (void)err;
    struct groups_part *part = groups_part_asked(c, frame, m->group);
    if (part == NULL) {
        return 0;
    }
    struct group_state *g = part_state(part, m->group);
    struct membership *member = g != NULL ? group_state_member(g, m->member) : NULL;
    if (member != NULL) {
        part_member_leave(part, member);
        part_state_run(part, g, env_now_ns(c->broker->env));
    }
    broker_conn_reply(c, BROKER_GROUP_LEFT, frame->correlation, &reply.base);
    return 0;
}

/* --- Commit --- */

struct commit {
    struct group_propose req;
    struct conn *conn;
    struct groups_part *part;
    uint64_t correlation;
};

static void on_committed(struct group_propose *req, int status)
{
    struct commit *commit = req->data;
    struct conn *c = commit->conn;
    c->n_produces--;
    commit->part->commits.ended++;
    if (status == 0) {
        Weir__BrokerGroupCommitted m = WEIR__BROKER_GROUP_COMMITTED__INIT;
        broker_conn_reply(c, BROKER_GROUP_COMMITTED, commit->correlation, &m.base);
    } else {
        broker_conn_reply_error(c, commit->correlation, status, error_name(status),
                                part_replica(commit->part));
    }
    free(commit);
    broker_conn_settle(c);
}

static int propose(struct conn *c, const struct frame *frame, struct groups_part *part,
                   const struct bytes *batch)
{
    struct commit *commit = malloc(sizeof(*commit));
    if (commit == NULL) {
        return WEIR_EBUSY;
    }
    commit->req.data = commit;
    commit->conn = c;
    commit->part = part;
    commit->correlation = frame->correlation;
    int rv = group_propose(part_replica(part)->group, &commit->req, batch->data, batch->len,
                           on_committed);
    if (rv != 0) {
        free(commit);
        return rv;
    }
    c->n_produces++;
    part->commits.proposed++;
    return 0;
}

/* Who may commit what: members what they hold, operators where there are no members. */
static int check_partition(struct groups_part *part, const Weir__BrokerGroupCommit *m,
                           struct group_state *g, const struct membership *member,
                           const Weir__BrokerGroupTopic *t, size_t k, struct error *why)
{
    uint32_t n = coordinator_topic_partitions(part->coordinator, t->topic);
    uint32_t partition = t->partitions[k];
    if (member == NULL && t->offsets[k] == -1 &&
        group_view_offset(&part->view, m->group, t->topic, partition) >= 0) {
        return 0; /* to be forgotten, though the topic may be gone */
    }
    if (partition >= n || t->offsets[k] < (member == NULL ? -1 : 0)) {
        return error_set(why, WEIR_EINVAL, "offset %lld of %.64s-%u", (long long)t->offsets[k],
                         t->topic, partition);
    }
    struct group_slot *slot = g != NULL ? group_state_slot(g, t->topic, partition) : NULL;
    if (member != NULL && (slot == NULL || !membership_holds(member, slot, m->generation)) &&
        !fault_on(FAULT_COMMIT_ANY)) {
        return error_set(why, WEIR_EFENCED, "member %s does not hold %.64s-%u in generation %llu",
                         m->member, t->topic, partition, (unsigned long long)m->generation);
    }
    return 0;
}

static int check_commit(struct groups_part *part, const Weir__BrokerGroupCommit *m,
                        struct error *why)
{
    struct group_state *g = part_state(part, m->group);
    struct membership *member = g != NULL ? group_state_member(g, m->member) : NULL;
    size_t n = 0;
    if (m->member[0] != '\0' && member == NULL) {
        return error_set(why, WEIR_EFENCED, "group %s does not know member %.63s", m->group,
                         m->member);
    }
    if (m->member[0] == '\0' && g != NULL) {
        return error_set(why, WEIR_EBUSY, "group %s has members", m->group);
    }
    if (m->member[0] == '\0' && part_is_new(part)) {
        return error_set(why, WEIR_EUNAVAILABLE,
                         "the coordinator has just begun: members may not have told it yet");
    }
    for (size_t i = 0; i < m->n_offsets; i++) {
        const Weir__BrokerGroupTopic *t = m->offsets[i];
        if (t->n_offsets != t->n_partitions) {
            return error_set(why, WEIR_EINVAL, "%zu offsets for %zu partitions", t->n_offsets,
                             t->n_partitions);
        }
        n += t->n_partitions;
        for (size_t k = 0; k < t->n_partitions; k++) {
            int rv = check_partition(part, m, g, member, t, k, why);
            if (rv != 0) {
                return rv;
            }
        }
    }
    if (n == 0 || n > GROUP_COMMIT_MAX) {
        return error_set(why, WEIR_EINVAL, "%zu partitions in a commit; 1 to %u are taken", n,
                         GROUP_COMMIT_MAX);
    }
    int rv = group_view_room(&part->view, m, why);
    if (rv != 0) {
        return rv;
    }
    if (member != NULL) {
        member->deadline_ns = env_now_ns(part->coordinator->broker->env) + member->session_ns;
    }
    return 0;
}

int broker_handle_group_commit(struct conn *c, const struct frame *frame,
                               const ProtobufCMessage *head, struct error *err)
{
    const Weir__BrokerGroupCommit *m = (const Weir__BrokerGroupCommit *)head;
    int64_t now_ms = env_wall_ms(c->broker->env);
    struct batch_builder builder;
    struct bytes batch;
    struct error why = {0};
    (void)err;
    struct groups_part *part = groups_part_asked(c, frame, m->group);
    if (part == NULL) {
        return 0;
    }
    bytes_init(&batch, GROUP_BATCH_BYTES_MAX);
    int rv = check_commit(part, m, &why);
    if (rv == 0) {
        uint64_t generation = m->generation;
        const struct view_group *known = group_view_find(&part->view, m->group);
        if (m->member[0] == '\0' && known != NULL) { /* an operator's: it never goes down */
            generation = known->generation_max;
        }
        batch_begin(&builder, &batch, now_ms);
        for (size_t i = 0; i < m->n_offsets; i++) {
            const Weir__BrokerGroupTopic *t = m->offsets[i];
            for (size_t k = 0; k < t->n_partitions; k++) {
                group_put_offset(&builder, now_ms, m->group, t->topic, t->partitions[k],
                                 t->offsets[k], generation);
            }
        }
        int size = batch_finish(&builder);
        rv = size < 0 ? size : propose(c, frame, part, &batch);
        (void)error_set(&why, rv, "%s", error_name(rv));
    }
    bytes_close(&batch);
    if (rv != 0) {
        broker_conn_reply_error(c, frame->correlation, rv, why.text, part_replica(part));
    }
    return 0;
}
