/* Committing: one request at a time, with everything that is processed and not yet committed. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "clients/log/group_priv.h"

#define COMMIT_RETRY_NS 50000000u

bool group_dirty(const struct held *h)
{
    return h->next >= 0 && h->next != h->committed && h->state != HELD_RESOLVING;
}

bool group_committed(const struct weir_group *g)
{
    LIST_FOREACH(it, &g->held)
    {
        if (group_dirty(list_entry(it, struct held, link))) {
            return false;
        }
    }
    return true;
}

/* --- Those who wait for a commit: priv[0] is the round they need, priv[1] their deadline --- */

static void commits_complete(struct weir_group *g, uint64_t upto_round, uint64_t now_ns, int status)
{
    struct list done;
    list_init(&done);
    LIST_FOREACH_SAFE(it, nx, &g->commits)
    {
        struct weir_group_commit *req = list_entry(it, struct weir_group_commit, link);
        if (req->priv[0] <= upto_round || now_ns >= req->priv[1]) {
            list_remove(it);
            list_push_back(&done, it);
        }
    }
    for (struct list *el = list_pop(&done); el != NULL; el = list_pop(&done)) {
        struct weir_group_commit *req = list_entry(el, struct weir_group_commit, link);
        req->cb(req, req->priv[0] <= upto_round ? status : WEIR_ETIMEOUT);
    }
}

void group_commits_end(struct weir_group *g, int status)
{
    commits_complete(g, UINT64_MAX, 0, status);
}

void weir_group_commit(struct weir_group *g, struct weir_group_commit *req, weir_group_commit_cb cb)
{
    req->cb = cb;
    req->priv[0] = g->round + 1;
    req->priv[1] = env_now_ns(g->client->env) + (uint64_t)g->client->options.timeout_ms * 1000000u;
    list_push_back(&g->commits, &req->link);
    g->commit_now = true;
    group_step_soon(g);
}

/* --- The request --- */

static struct held *held_set(struct weir_group *g)
{
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->state == HELD_SETTING && h->committed >= 0) {
            return h;
        }
    }
    return NULL;
}

static void take_committed(struct weir_group *g)
{
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        h->committed = h->committing >= 0 ? h->committing : h->committed;
        h->committing = -1;
    }
    /* Callbacks may change the list: each search begins anew. */
    for (struct held *h = held_set(g); h != NULL; h = held_set(g)) {
        group_start(h);
    }
}

static void on_committed(struct broker_request *req, int status, const struct frame *reply,
                         const ProtobufCMessage *head)
{
    struct weir_group *g = req->data;
    uint64_t now = env_now_ns(g->client->env);
    (void)reply;
    if (status == 0) {
        take_committed(g);
        g->fenced = false;
        g->heard_ns = now;
    } else {
        g->commit_retry_ns = now + COMMIT_RETRY_NS;
        g->commit_now = true;
    }
    if (status == WEIR_EFENCED) {
        log_info("group_commit_fenced", "group=%s member=%s reason=\"%s\"", g->name, g->member,
                 head != NULL ? ((const Weir__BrokerError *)head)->text : "");
        if (g->fenced) {
            group_drop_revoked(g); /* others have them */
        }
        g->fenced = true; /* or a new coordinator had not heard of us */
        group_tell_again(g);
    } else if (status == WEIR_ENOTLEADER && head != NULL) {
        group_backoff(g, status, head);
    } else if (status == WEIR_EINVAL || status == WEIR_ETOOBIG) {
        log_error("group_commit_failed", "group=%s status=%s", g->name, error_name(status));
    }
    if (status == 0) {
        commits_complete(g, g->round, now, status);
    }
    group_step_soon(g);
}

struct commit_memory {
    Weir__BrokerGroupTopic topics[GROUP_TOPICS_MAX], *list[GROUP_TOPICS_MAX];
    uint32_t *partitions;
    int64_t *offsets;
    size_t n, n_topics;
};

static void fill_topic(struct commit_memory *c, struct weir_group *g, unsigned topic)
{
    Weir__BrokerGroupTopic *t = &c->topics[c->n_topics];
    weir__broker_group_topic__init(t);
    t->topic = g->topics[topic];
    t->partitions = c->partitions + c->n;
    t->offsets = c->offsets + c->n;
    LIST_FOREACH(it, &g->held)
    {
        struct held *h = list_entry(it, struct held, link);
        if (h->topic == topic && group_dirty(h)) {
            h->committing = h->next;
            t->partitions[t->n_partitions++] = h->partition;
            t->offsets[t->n_offsets++] = h->next;
        }
    }
    c->n += t->n_partitions;
    if (t->n_partitions > 0) {
        c->list[c->n_topics++] = t;
    }
}

static void send_commit(struct weir_group *g, struct client_broker *broker)
{
    Weir__BrokerGroupCommit m = WEIR__BROKER_GROUP_COMMIT__INIT;
    struct commit_memory c = {.partitions = calloc(g->n_held + 1, sizeof(*c.partitions)),
                              .offsets = calloc(g->n_held + 1, sizeof(*c.offsets))};
    uint64_t now = env_now_ns(g->client->env);
    LIST_FOREACH(it, &g->held)
    {
        list_entry(it, struct held, link)->committing = -1;
    }
    for (unsigned i = 0; i < g->options.n_topics && c.partitions != NULL && c.offsets != NULL;
         i++) {
        fill_topic(&c, g, i);
    }
    m.group = g->name;
    m.member = g->member;
    m.generation = g->generation;
    m.offsets = c.list;
    m.n_offsets = c.n_topics;
    g->commit.data = g;
    g->commit_broker = broker;
    g->commit_retry_ns = now + COMMIT_RETRY_NS; /* when it can't be sent */
    if (c.n > 0 && broker_link_request(broker->link, BROKER_GROUP_COMMIT, &m.base, NULL, 0,
                                       BROKER_GROUP_COMMITTED, &g->commit, on_committed) == 0) {
        g->commit_due_ns = now + (uint64_t)g->options.commit_ms * 1000000u;
        g->commit_now = false;
        g->commit_retry_ns = 0;
        g->round++;
    }
    free(c.partitions);
    free(c.offsets);
}

void group_commit_step(struct weir_group *g, uint64_t now_ns)
{
    bool due = g->commit_now || g->n_revoked > 0 ||
               (!g->options.no_auto_commit && now_ns >= g->commit_due_ns);
    commits_complete(g, 0, now_ns, 0);
    if (g->lost) { /* of what they wait for; not to be told as committed when the rest is */
        g->lost = false;
        group_commits_end(g, WEIR_EFENCED);
    }
    if (g->commit.active || now_ns < g->commit_retry_ns || !due || !group_known(g)) {
        return;
    }
    if (group_committed(g)) {
        g->commit_now = false;
        g->commit_due_ns = now_ns + (uint64_t)g->options.commit_ms * 1000000u;
        commits_complete(g, g->round + 1, now_ns, 0);
        return;
    }
    struct client_broker *broker = group_coordinator(g);
    if (broker != NULL) {
        send_commit(g, broker);
    }
}
