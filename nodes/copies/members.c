/* Who counts: members that are not drained, can store, and have been heard of lately. All are asked
 * every few seconds; what counts of an answer is its status. */
#include <string.h>

#include "base/crc32c.h"
#include "base/logging.h"
#include "nodes/copies/copies_priv.h"

#define ASK_US     2000000u
#define TIMEOUT_MS 3000
#define AWAY_NS    (3 * ASK_US * 1000ull)
#define ANSWER_MAX 4096
/* The store's face is asked for an object without a name: a bad one to a node that stores, and no
 * route at all to one that does not. So answer nodes of earlier versions, too. */
#define ASK_PATH   "/internal/store/"
#define STORES     400
#define STORES_NOT 404

static void answered(void *data, int status, struct http_body *body)
{
    struct member *m = data;
    (void)body;
    m->call = NULL;
    if (status == STORES || status == STORES_NOT) {
        m->stores = status == STORES;
        m->heard_ns = env_now_ns(m->copies->node->env);
    }
}

static void ask(struct copies *c, struct member *m, const struct config_node *node)
{
    const struct config_address *at = config_internal(c->config, node);
    const struct http_call_options options = {.method = "GET",
                                              .host = at->host,
                                              .port = at->port,
                                              .path = ASK_PATH,
                                              .headers = c->members.headers,
                                              .timeout_ms = TIMEOUT_MS,
                                              .response_max = ANSWER_MAX};
    (void)http_call(c->node->http_client, &options, answered, m, &m->call, NULL);
}

static bool is_able(const struct copies *c, uint32_t i, uint64_t now_ns)
{
    const struct member *m = &c->members.at[i];
    if (c->config->nodes[i].standing != CONFIG_NODE_IN || !m->stores) {
        return false;
    }
    return i == c->self || now_ns < m->heard_ns + c->config->media_lost_ms * 1000000ull;
}

/* Silence counts only while this node listens: when it was stopped, or its machine slept, nobody
 * else was silent. */
static void excuse_silence(struct members *all, uint64_t now_ns)
{
    uint64_t away_ns = all->seen_ns != 0 ? now_ns - all->seen_ns : 0;
    for (unsigned i = 0; i < CONFIG_NODES_MAX && away_ns > AWAY_NS; i++) {
        all->at[i].heard_ns += away_ns;
    }
    all->seen_ns = now_ns;
}

bool members_changed(struct copies *c)
{
    struct members *all = &c->members;
    uint64_t now_ns = env_now_ns(c->node->env);
    excuse_silence(all, now_ns);
    store_nodes able = 0;
    uint32_t hash = 0;
    for (uint32_t i = 0; i < c->config->n_nodes; i++) {
        struct member *m = &all->at[i];
        uint32_t id = c->config->nodes[i].id;
        if (m->id != id) {
            /* Until it has had its time to answer it is thought well. */
            m->id = id;
            m->stores = i != c->self || (c->config->roles & CONFIG_ROLE_EDGE) != 0;
            m->heard_ns = now_ns;
        }
        if (is_able(c, i, now_ns)) {
            able |= (store_nodes)1 << i;
            hash = crc32c(hash, &id, sizeof(id));
        }
    }
    bool changed = all->since_ns == 0 || hash != all->hash;
    if (changed) {
        all->since_ns = now_ns;
    }
    all->able = able;
    all->hash = hash;
    return changed;
}

void members_follow(struct copies *c)
{
    if (members_changed(c)) {
        log_info("copies_members", "able=%u", (unsigned)__builtin_popcount(c->members.able));
        metric_set(c->whole, 0);
        round_hurry(&c->look);
    }
}

static void on_timer(struct env_timer *timer)
{
    struct copies *c = timer->data;
    for (uint32_t i = 0; i < c->config->n_nodes; i++) {
        bool member = c->config->nodes[i].standing != CONFIG_NODE_GONE;
        if (i != c->self && member && c->members.at[i].call == NULL) {
            ask(c, &c->members.at[i], &c->config->nodes[i]);
        }
    }
    members_follow(c);
    env_timer_start(timer, ASK_US, on_timer);
}

int members_start(struct copies *c, struct error *err)
{
    struct members *all = &c->members;
    for (unsigned i = 0; i < CONFIG_NODES_MAX; i++) {
        all->at[i].copies = c;
    }
    (void)snprintf(all->headers, sizeof(all->headers), "X-Weir-Secret: %s\r\n", c->config->secret);
    if (env_timer_init(c->node->env, &all->timer) != 0) {
        return error_set(err, WEIR_ENOMEM, "copies: out of memory");
    }
    all->timer.data = c;
    (void)members_changed(c);
    env_timer_start(&all->timer, ASK_US, on_timer);
    return 0;
}

void members_stop(struct copies *c)
{
    env_timer_close(&c->members.timer);
    for (unsigned i = 0; i < CONFIG_NODES_MAX; i++) {
        if (c->members.at[i].call != NULL) {
            http_call_cancel(c->members.at[i].call);
            c->members.at[i].call = NULL;
        }
    }
}
