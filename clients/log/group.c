/* A member of a consumer group. Everything follows from one conversation: the member says what it
 * holds (BROKER_GROUP_POLL), the coordinator answers what it is to hold. What is missing in the
 * answer is revoked: no more records, a last commit, and only the next poll, which is sent after
 * that, tells the coordinator that it is free. What is new is consumed from the committed offset
 * that the answer names. After a failover the new coordinator learns from the polls who holds
 * what, so that members just go on. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/murmur2.h"
#include "clients/log/group_priv.h"

#define SESSION_MS_DEFAULT 10000
#define COMMIT_MS_DEFAULT  1000

static void fail(struct weir_group *g, int status, const char *text);

/* --- The coordinator --- */

static void cancel(struct client_broker *broker, struct broker_request *req)
{
    if (req->active && broker->link != NULL) {
        broker_link_cancel(broker->link, req);
    }
}

/* The partition of `groups` that the group belongs to. */
static struct client_partition *home(struct weir_group *g)
{
    struct client_topic *t = client_topic_get(g->client, CONFIG_TOPIC_GROUPS);
    if (t == NULL || t->n_partitions == 0) {
        return NULL;
    }
    return &t->partitions[murmur2_partition(g->name, strlen(g->name), t->n_partitions)];
}

struct client_broker *group_coordinator(struct weir_group *g)
{
    const struct client_partition *p = home(g);
    struct client_broker *b = p != NULL ? client_leader_of(g->client, p) : NULL;
    return b != NULL && b->ready ? b : NULL;
}

bool group_known(struct weir_group *g)
{
    const struct client_partition *p = home(g);
    return p != NULL && g->known_term == p->term;
}

void group_tell_again(struct weir_group *g)
{
    g->known_term = 0;
    cancel(g->poll_broker, &g->poll);
}

void group_backoff(struct weir_group *g, int status, const ProtobufCMessage *head)
{
    const struct client_partition *p = home(g);
    g->retry_at_ns = env_now_ns(g->client->env) + g->backoff_ns;
    if (status == WEIR_ENOTLEADER && head != NULL && p != NULL) {
        const Weir__BrokerError *e = (const Weir__BrokerError *)head;
        uint32_t before = p->leader_id;
        client_leader_news(g->client, CONFIG_TOPIC_GROUPS, p->index, e->leader_id, e->term);
        if (p->leader_id != before) {
            g->retry_at_ns = 0;
        }
    }
    g->backoff_ns =
        g->backoff_ns * 2 < GROUP_BACKOFF_MAX_NS ? g->backoff_ns * 2 : GROUP_BACKOFF_MAX_NS;
}

/* --- Partitions --- */

const char *held_topic(const struct held *h)
{
    return h->group->topics[h->topic];
}

static struct held *held_find(struct weir_group *g, unsigned topic, uint32_t partition)
{
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->topic == topic && h->partition == partition) {
            return h;
        }
    }
    return NULL;
}

static void stop_consumer(struct held *h)
{
    if (h->consumer != NULL) {
        weir_consumer_close(h->consumer);
        h->consumer = NULL;
    }
}

static void drop(struct held *h)
{
    struct weir_group *g = h->group;
    assert(g != NULL);
    g->lost = g->lost || (h->state == HELD_REVOKED && group_dirty(h));
    stop_consumer(h);
    list_remove(&h->link);
    g->n_held--;
    g->n_revoked -= h->state == HELD_REVOKED;
    h->group = NULL;
    if (h->callbacks == 0 && !h->asking) {
        free(h);
    }
}

void group_drop_revoked(struct weir_group *g)
{
    LIST_FOREACH_SAFE(it, nx, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->state == HELD_REVOKED) {
            drop(h);
        }
    }
}

static void enter_callback(struct held *h)
{
    h->callbacks++;
}

/* False: the partition was dropped meanwhile. */
static bool leave_callback(struct held *h)
{
    h->callbacks--;
    if (h->group == NULL && h->callbacks == 0 && !h->asking) {
        free(h);
        return false;
    }
    return h->group != NULL;
}

static void revoke(struct held *h)
{
    struct weir_group *g = h->group;
    assert(g != NULL);
    if (h->state == HELD_REVOKED) {
        return;
    }
    stop_consumer(h);
    if (h->told && g->events.revoked != NULL) {
        enter_callback(h);
        g->events.revoked(g->events.data, g, held_topic(h), h->partition);
        if (!leave_callback(h)) {
            return;
        }
    }
    if (h->state == HELD_RUNNING) {
        h->state = HELD_REVOKED;
        g->n_revoked++;
    } else {
        drop(h); /* nothing of it was processed */
    }
}

/* Callbacks may change the list: each search begins anew. */
static void revoke_unwanted(struct weir_group *g)
{
    struct list *it = list_next(&g->held);
    while (it != &g->held) {
        struct held *h = list_entry(it, struct held, link);
        it = list_next(it);
        if (h->unwanted) {
            h->unwanted = false;
            revoke(h);
            it = list_next(&g->held);
        }
    }
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct held *h = data;
    struct weir_group *g = h->group;
    int64_t next = records[n - 1].offset.v + 1;
    (void)c;
    enter_callback(h);
    g->events.records(g->events.data, g, held_topic(h), h->partition, records, n, high_watermark);
    /* Who closes the group in the middle of these records says himself how far he got. */
    if (leave_callback(h) && !g->options.manual && !g->closing) {
        h->next = next;
    }
}

static void on_caught_up(void *data, struct weir_consumer *c, int64_t high_watermark)
{
    struct held *h = data;
    (void)c;
    (void)high_watermark;
    h->caught_up = true;
}

static void ask_bounds(struct held *h);

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    struct held *h = data;
    struct weir_group *g = h->group;
    (void)c;
    if (status != WEIR_ERANGE) {
        fail(g, status, text);
        return;
    }
    log_warn("group_offset_out_of_range", "group=%s topic=%s partition=%u reason=\"%s\"", g->name,
             held_topic(h), h->partition, text);
    stop_consumer(h);
    h->state = HELD_RESOLVING;
    ask_bounds(h);
}

void group_start(struct held *h)
{
    struct weir_group *g = h->group;
    struct weir_consumer_events events = {
        .data = h, .records = on_records, .failed = on_failed, .caught_up = on_caught_up};
    struct error err = {0};
    if (weir_consume(g->client, held_topic(h), h->partition, h->next, &events, &h->consumer,
                     &err) != 0) {
        h->state = HELD_RESOLVING; /* no memory: asks, and tries again */
        ask_bounds(h);
        return;
    }
    h->state = HELD_RUNNING;
    if (g->paused || g->stale) {
        weir_consumer_pause(h->consumer);
    }
    bool news = !h->told;
    h->told = true;
    if (news && g->events.assigned != NULL) {
        enter_callback(h);
        g->events.assigned(g->events.data, g, held_topic(h), h->partition, h->next);
        (void)leave_callback(h);
    }
}

/* Sets where to go on, now that the log's bounds are known. What retention took is gone, what it
 * left is not skipped: "from the end" is for who has no place in the log, or one behind its end. */
static bool begins_at_end(struct held *h, int64_t start, int64_t high_watermark)
{
    if (h->next >= start && h->next <= high_watermark) {
        return false;
    }
    bool at_end =
        h->group->options.from == WEIR_OFFSET_END && (h->next < 0 || h->next > high_watermark);
    h->next = at_end ? high_watermark : start;
    return at_end;
}

static void on_bounds(struct weir_offsets_req *req, int status)
{
    struct held *h = req->data;
    struct weir_group *g = h->group;
    h->asking = false;
    if (g == NULL) {
        free(h);
        return;
    }
    if (status == WEIR_ENOTFOUND) {
        fail(g, status, "no such topic or partition");
        return;
    }
    if (status != 0) {
        ask_bounds(h);
        return;
    }
    if (begins_at_end(h, req->start, req->high_watermark)) {
        /* Who takes over before our first commit must begin here too, not at a later end. */
        h->state = HELD_SETTING;
        h->committed = h->committing = -1;
        g->commit_now = true;
        group_step_soon(g);
    } else {
        group_start(h);
    }
}

static void ask_bounds(struct held *h)
{
    struct weir_group *g = h->group;
    assert(g != NULL);
    h->bounds.data = h;
    h->asking =
        weir_offsets(g->client, held_topic(h), h->partition, true, &h->bounds, on_bounds) == 0;
    /* Without memory: again at the next tick. */
}

/* --- Answers --- */

static int topic_index(const struct weir_group *g, const char *name)
{
    for (unsigned i = 0; i < g->options.n_topics; i++) {
        if (strcmp(g->topics[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static bool is_assigned(const struct weir_group *g, const Weir__BrokerGroupAssigned *m,
                        const struct held *h)
{
    for (size_t i = 0; i < m->n_assigned; i++) {
        const Weir__BrokerGroupTopic *t = m->assigned[i];
        if (strcmp(t->topic, g->topics[h->topic]) != 0) {
            continue;
        }
        for (size_t k = 0; k < t->n_partitions; k++) {
            if (t->partitions[k] == h->partition) {
                return true;
            }
        }
    }
    return false;
}

static void hold(struct weir_group *g, unsigned topic, uint32_t partition, int64_t offset)
{
    struct held *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return; /* not said to be held in the next poll: given again */
    }
    h->group = g;
    h->topic = topic;
    h->partition = partition;
    h->next = h->committed = offset;
    h->committing = -1;
    list_push_back(&g->held, &h->link);
    g->n_held++;
    if (offset >= 0) {
        group_start(h);
    } else {
        ask_bounds(h);
    }
}

/* What was taken away and comes back before it was committed begins anew, where the group stands
 * now: others may have had it meanwhile. */
static bool holds_already(struct weir_group *g, unsigned topic, uint32_t partition)
{
    struct held *h = held_find(g, topic, partition);
    if (h != NULL && h->taken && h->state == HELD_REVOKED) {
        drop(h);
        return false;
    }
    return h != NULL;
}

static void take_assignment(struct weir_group *g, const Weir__BrokerGroupAssigned *m)
{
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        h->unwanted = !is_assigned(g, m, h);
        h->taken = h->taken || h->unwanted;
    }
    revoke_unwanted(g);
    for (size_t i = 0; i < m->n_assigned && !g->closing; i++) {
        const Weir__BrokerGroupTopic *t = m->assigned[i];
        int topic = topic_index(g, t->topic);
        for (size_t k = 0; k < t->n_partitions && k < t->n_offsets && topic >= 0; k++) {
            if (!g->closing && !holds_already(g, (unsigned)topic, t->partitions[k])) {
                hold(g, (unsigned)topic, t->partitions[k], t->offsets[k]);
            }
        }
    }
}

static void set_paused(struct weir_group *g)
{
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->consumer != NULL && (g->paused || g->stale)) {
            weir_consumer_pause(h->consumer);
        } else if (h->consumer != NULL) {
            weir_consumer_resume(h->consumer);
        }
    }
}

static void on_polled(struct broker_request *req, int status, const struct frame *reply,
                      const ProtobufCMessage *head)
{
    struct weir_group *g = req->data;
    (void)reply;
    group_step_soon(g);
    if (status == WEIR_ENOTFOUND || status == WEIR_EINVAL || status == WEIR_ETOOBIG) {
        fail(g, status, head != NULL ? ((const Weir__BrokerError *)head)->text : "");
        return;
    }
    if (status != 0) {
        group_backoff(g, status, head);
        return;
    }
    const Weir__BrokerGroupAssigned *m = (const Weir__BrokerGroupAssigned *)head;
    g->joined = true;
    g->known_term = g->asked_term;
    g->heard_ns = env_now_ns(g->client->env);
    g->backoff_ns = GROUP_BACKOFF_MIN_NS;
    g->retry_at_ns = 0;
    g->generation = m->generation;
    if (g->n_revoked == 0 && !g->closing) {
        g->revoke_deadline_ns = g->heard_ns + (uint64_t)g->options.session_ms * 500000u;
    }
    take_assignment(g, m);
    if (g->stale) {
        g->stale = false;
        set_paused(g);
    }
}

/* --- Polls --- */

struct poll_memory {
    Weir__BrokerGroupTopic topics[GROUP_TOPICS_MAX], *list[GROUP_TOPICS_MAX];
    char *names[GROUP_TOPICS_MAX];
    uint32_t *partitions;
    size_t n, n_topics;
};

static void fill_owned(struct poll_memory *p, struct weir_group *g, unsigned topic)
{
    Weir__BrokerGroupTopic *t = &p->topics[p->n_topics];
    weir__broker_group_topic__init(t);
    t->topic = g->topics[topic];
    t->partitions = p->partitions + p->n;
    LIST_FOREACH(it, &g->held)
    {
        const struct held *h = list_entry(it, struct held, link);
        if (h->topic == topic && !h->taken) {
            t->partitions[t->n_partitions++] = h->partition;
        }
    }
    p->n += t->n_partitions;
    if (t->n_partitions > 0) {
        p->list[p->n_topics++] = t;
    }
}

static void send_poll(struct weir_group *g, struct client_broker *broker)
{
    Weir__BrokerGroupPoll m = WEIR__BROKER_GROUP_POLL__INIT;
    struct poll_memory p = {.partitions = calloc(g->n_held + 1, sizeof(*p.partitions))};
    for (unsigned i = 0; i < g->options.n_topics && p.partitions != NULL; i++) {
        p.names[i] = g->topics[i];
        fill_owned(&p, g, i);
    }
    m.group = g->name;
    m.member = g->member;
    m.client = g->client->name;
    m.generation = g->generation;
    m.sequence = ++g->sequence;
    m.session_ms = g->options.session_ms;
    m.wait_ms_max = group_known(g) || !g->joined ? g->options.session_ms / 3 : 0;
    m.topics = p.names;
    m.n_topics = g->options.n_topics;
    m.owned = p.list;
    m.n_owned = p.n_topics;
    g->poll.data = g;
    g->poll_broker = broker;
    g->asked_term = home(g)->term;
    if (p.partitions == NULL ||
        broker_link_request(broker->link, BROKER_GROUP_POLL, &m.base, NULL, 0,
                            BROKER_GROUP_ASSIGNED, &g->poll, on_polled) != 0) {
        group_backoff(g, WEIR_EBUSY, NULL);
    }
    free(p.partitions);
}

/* The coordinator that was asked may have been deposed without a word. */
static void follow_leader(struct weir_group *g, const struct client_broker *broker)
{
    if (broker == NULL) {
        return;
    }
    if (g->poll.active && g->poll_broker != broker) {
        cancel(g->poll_broker, &g->poll);
    }
    if (g->commit.active && g->commit_broker != broker) {
        cancel(g->commit_broker, &g->commit);
        g->commit_now = true; /* it may have been stored: again does no harm */
    }
}

static void revoked_gone(struct weir_group *g, uint64_t now_ns)
{
    LIST_FOREACH_SAFE(it, nx, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->state == HELD_REVOKED && h->next == h->committed && !g->commit.active) {
            drop(h);
        }
    }
    if (g->n_revoked > 0 && now_ns >= g->revoke_deadline_ns) {
        log_warn("group_revoked_uncommitted", "group=%s member=%s partitions=%u", g->name,
                 g->member, g->n_revoked);
        group_drop_revoked(g);
    }
}

static void retry_bounds(struct weir_group *g)
{
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->state == HELD_RESOLVING && !h->asking) {
            ask_bounds(h);
        }
    }
}

/* --- The end --- */

static void release(struct weir_group *g)
{
    void (*cb)(void *data) = g->close_cb;
    void *data = g->close_data;
    env_timer_close(&g->tick);
    env_defer_cancel(&g->step);
    cancel(g->poll_broker, &g->poll);
    cancel(g->commit_broker, &g->commit);
    cancel(g->leave_broker, &g->leave);
    while (!list_empty(&g->held)) {
        drop(list_entry(g->held.next, struct held, link));
    }
    group_commits_end(g, WEIR_ECLOSED);
    list_remove(&g->link);
    free(g);
    if (cb != NULL) {
        cb(data);
    }
}

static void on_left(struct broker_request *req, int status, const struct frame *reply,
                    const ProtobufCMessage *head)
{
    struct weir_group *g = req->data;
    (void)reply;
    (void)head;
    g->left = status == 0;
    g->retry_at_ns = env_now_ns(g->client->env) + GROUP_BACKOFF_MIN_NS;
    group_step_soon(g);
}

/* Commits, then leaves. */
static void close_step(struct weir_group *g, struct client_broker *broker, uint64_t now_ns)
{
    if (g->left || now_ns >= g->close_deadline_ns || (!g->joined && broker == NULL)) {
        release(g);
        return;
    }
    if (g->n_held > 0 || broker == NULL || g->leave.active || now_ns < g->retry_at_ns) {
        return;
    }
    Weir__BrokerGroupLeave m = WEIR__BROKER_GROUP_LEAVE__INIT;
    m.group = g->name;
    m.member = g->member;
    g->leave.data = g;
    g->leave_broker = broker;
    (void)broker_link_request(broker->link, BROKER_GROUP_LEAVE, &m.base, NULL, 0, BROKER_GROUP_LEFT,
                              &g->leave, on_left); /* not sent: at the next tick */
}

static void fail(struct weir_group *g, int status, const char *text)
{
    if (g->failed || g->closing) {
        return;
    }
    g->failed = true;
    g->stale = true;
    set_paused(g);
    log_error("group_failed", "group=%s reason=\"%s\"", g->name, text);
    if (g->events.failed != NULL) {
        g->events.failed(g->events.data, g, status, text);
    }
}

/* --- The clock --- */

static void step(struct env_defer *defer)
{
    struct weir_group *g = defer->data;
    uint64_t now = env_now_ns(g->client->env);
    if (g->client->closing) {
        return;
    }
    struct client_broker *broker = group_coordinator(g);
    follow_leader(g, broker);
    revoked_gone(g, now);
    retry_bounds(g);
    group_commit_step(g, now);
    bool tells = !g->closing || (g->joined && g->n_held > 0 && !group_known(g));
    if (broker != NULL && !g->failed && !g->poll.active && tells && now >= g->retry_at_ns &&
        (g->n_revoked == 0 || !group_known(g))) {
        send_poll(g, broker);
    }
    if (g->closing) {
        close_step(g, broker, now);
        return;
    }
    if (!g->failed && !g->stale && g->joined &&
        now - g->heard_ns > (uint64_t)g->options.session_ms * 1000000u) {
        log_warn("group_coordinator_lost", "group=%s member=%s", g->name, g->member);
        g->stale = true;
        set_paused(g);
    }
    const struct client_topic *t = client_topic_get(g->client, CONFIG_TOPIC_GROUPS);
    if (g->client->informed && (t == NULL || t->n_partitions == 0)) {
        fail(g, WEIR_ENOTFOUND, "the cluster has no topic " CONFIG_TOPIC_GROUPS);
    }
}

void group_step_soon(struct weir_group *g)
{
    g->step.data = g;
    env_defer(g->client->env, &g->step, step);
}

static void on_tick(struct env_timer *timer)
{
    struct weir_group *g = timer->data;
    if (group_coordinator(g) == NULL) {
        client_refresh(g->client);
    }
    group_step_soon(g);
    env_timer_start(&g->tick, GROUP_TICK_US, on_tick);
}

void groups_kick(struct weir_client *c)
{
    LIST_FOREACH(it, &c->groups)
    {
        group_step_soon(list_entry(it, struct weir_group, link));
    }
}

void groups_close(struct weir_client *c)
{
    while (!list_empty(&c->groups)) {
        release(list_entry(c->groups.next, struct weir_group, link));
    }
}

/* --- The caller's side --- */

static int check_options(const struct weir_group_options *o, struct error *err)
{
    size_t n = o->group != NULL ? strlen(o->group) : 0;
    if (n == 0 || n > GROUP_NAME_MAX) {
        return error_set(err, WEIR_EINVAL, "a group's name has 1 to %d bytes", GROUP_NAME_MAX);
    }
    if (o->n_topics == 0 || o->n_topics > GROUP_TOPICS_MAX) {
        return error_set(err, WEIR_EINVAL, "%u topics; 1 to %d are taken", o->n_topics,
                         GROUP_TOPICS_MAX);
    }
    for (unsigned i = 0; i < o->n_topics; i++) {
        if (strlen(o->topics[i]) >= CONFIG_NAME_MAX) {
            return error_set(err, WEIR_EINVAL, "no topic '%.80s'", o->topics[i]);
        }
    }
    if (o->from > 0 || o->from < WEIR_OFFSET_END) {
        return error_set(err, WEIR_EINVAL, "a group begins at the begin or the end");
    }
    return 0;
}

static void set_options(struct weir_group *g, const struct weir_group_options *o)
{
    uint8_t id[16];
    g->options = *o;
    g->options.group = NULL;
    g->options.topics = NULL;
    g->options.session_ms = o->session_ms != 0 ? o->session_ms : SESSION_MS_DEFAULT;
    g->options.commit_ms = o->commit_ms != 0 ? o->commit_ms : COMMIT_MS_DEFAULT;
    (void)snprintf(g->name, sizeof(g->name), "%s", o->group);
    for (unsigned i = 0; i < o->n_topics; i++) {
        (void)snprintf(g->topics[i], sizeof(g->topics[i]), "%s", o->topics[i]);
    }
    env_random(g->client->env, id, sizeof(id));
    for (unsigned i = 0; i < sizeof(id); i++) {
        (void)snprintf(g->member + 2 * (size_t)i, 3, "%02x", id[i]);
    }
}

int weir_group_join(struct weir_client *client, const struct weir_group_options *options,
                    const struct weir_group_events *events, struct weir_group **ret_group,
                    struct error *err)
{
    int rv = check_options(options, err);
    if (rv != 0) {
        return rv;
    }
    struct weir_group *g = calloc(1, sizeof(*g));
    if (g == NULL || env_timer_init(client->env, &g->tick) != 0) {
        free(g);
        return error_set(err, WEIR_ENOMEM, "no memory for a group");
    }
    g->client = client;
    g->events = *events;
    set_options(g, options);
    g->tick.data = g;
    g->backoff_ns = GROUP_BACKOFF_MIN_NS;
    g->heard_ns = env_now_ns(client->env);
    list_init(&g->held);
    list_init(&g->commits);
    list_push_back(&client->groups, &g->link);
    env_timer_start(&g->tick, GROUP_TICK_US, on_tick);
    client_flush_soon(client);
    group_step_soon(g);
    *ret_group = g;
    return 0;
}

void weir_group_close(struct weir_group *g, void (*cb)(void *data), void *data)
{
    assert(!g->closing);
    g->closing = true;
    g->close_cb = cb;
    g->close_data = data;
    g->close_deadline_ns = env_now_ns(g->client->env) + (uint64_t)g->options.session_ms * 1000000u;
    g->revoke_deadline_ns = g->close_deadline_ns;
    cancel(g->poll_broker, &g->poll);
    LIST_FOREACH(it, &g->held)
    {
        list_entry(it, struct held, link)->unwanted = true;
    }
    revoke_unwanted(g);
    group_step_soon(g);
}

void weir_group_done(struct weir_group *g, const char *topic, uint32_t partition, int64_t next)
{
    int t = topic_index(g, topic);
    struct held *h = t >= 0 ? held_find(g, (unsigned)t, partition) : NULL;
    if (h != NULL && next > h->next) {
        h->next = next;
    }
}

void weir_group_pause(struct weir_group *g)
{
    g->paused = true;
    set_paused(g);
}

void weir_group_resume(struct weir_group *g)
{
    g->paused = false;
    set_paused(g);
}

void weir_group_progress(const struct weir_group *g, unsigned *ret_held, unsigned *ret_caught_up)
{
    *ret_held = g->n_held;
    *ret_caught_up = 0;
    LIST_FOREACH(it, &g->held)
    {
        *ret_caught_up += list_entry(it, struct held, link)->caught_up;
    }
}
