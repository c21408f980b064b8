#include "nodes/copies/copies.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/copies/copies_priv.h"

int64_t copies_offset(const struct copies *c)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < views_partitions(c->node->views, VIEW_LIFECYCLE); i++) {
        sum += views_offset(c->node->views, VIEW_LIFECYCLE, i);
    }
    return sum;
}

uint64_t copies_pace_us(struct copies *c, uint64_t *free_ns, uint32_t mib_s, uint64_t bytes)
{
    uint64_t now_ns = env_now_ns(c->node->env);
    if (mib_s == 0) {
        return 0;
    }
    uint64_t at_ns = *free_ns > now_ns ? *free_ns : now_ns;
    *free_ns = at_ns + bytes * 1000000000u / ((uint64_t)mib_s << 20);
    return (at_ns - now_ns) / 1000;
}

/* --- What is told --- */

/* Who counts here, in the order of the configuration. */
static json_t *members_json(const struct copies *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->config->n_nodes; i++) {
        if ((c->members.able >> i & 1) != 0) {
            (void)json_array_append_new(list, json_string(c->config->nodes[i].name));
        }
    }
    return list;
}

/* All members, so that who asks about one node can ask them all. */
static json_t *nodes_json(const struct copies *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->config->n_nodes; i++) {
        const struct config_node *n = &c->config->nodes[i];
        const struct config_address *at = config_internal(c->config, n);
        char address[sizeof(at->host) + sizeof(":65535")];
        if (n->standing == CONFIG_NODE_GONE) {
            continue;
        }
        (void)snprintf(address, sizeof(address), "%s:%u", at->host, (unsigned)at->port);
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s, s:b}", "name", n->name, "at", address,
                                              "draining", n->standing == CONFIG_NODE_DRAINING));
    }
    return list;
}

/* {"node", "nodes": [{"name", "at", "draining"}], "members", "whole", "offset", "offset_now",
 * "missing", "made", "bad"}: whole is said of what the log named at `offset`, and of these members.
 * 501 from a node that can't store. */
static void get_copies(void *data, struct http_exchange *ex)
{
    struct copies *c = data;
    if (!node_authorised(c->node, ex)) {
        return;
    }
    if ((c->config->roles & CONFIG_ROLE_EDGE) == 0) {
        http_respond_text(ex, 501, "this node holds no copies for others");
        return;
    }
    members_follow(c);
    /* Who waits for it does not wait for a rest to end. */
    const char *asked = http_query(ex, "offset");
    if (asked != NULL && strtoll(asked, NULL, 10) > c->looked_offset) {
        round_hurry(&c->look);
    }
    bool whole = c->looked && c->n_missing == 0 && c->looked_hash == c->members.hash;
    json_t *o =
        json_pack("{s:s, s:o, s:o, s:b, s:I, s:I, s:I, s:I, s:I}", "node", c->node->self->name,
                  "nodes", nodes_json(c), "members", members_json(c), "whole", whole, "offset",
                  (json_int_t)c->looked_offset, "offset_now", (json_int_t)copies_offset(c),
                  "missing", (json_int_t)c->n_missing, "made", (json_int_t)metric_value(c->made),
                  "bad", (json_int_t)metric_value(c->bad));
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text == NULL) {
        http_respond_text(ex, 503, "out of memory");
        return;
    }
    http_respond_json(ex, 200, text);
    free(text);
}

static void add_metrics(struct copies *c)
{
    c->whole = metric_gauge("weir_copies_whole", "",
                            "1: the last look at all media left nothing missing here.");
    metric_set(c->whole, 0);
    c->missing = metric_gauge("weir_copies_missing", "",
                              "Objects of media that are to be on this node and are not whole.");
    c->made = metric_counter("weir_copies_made_total", "", "Parts that were stored here anew.");
    c->made_bytes = metric_counter("weir_copies_made_bytes_total", "", "Bytes of these.");
    c->bad = metric_counter("weir_copies_bad_total", "", "Parts that failed their CRC here.");
    c->scrubbed_bytes =
        metric_counter("weir_copies_read_bytes_total", "", "Bytes read to check them.");
    c->removed =
        metric_counter("weir_copies_removed_total", "", "Objects that others were to hold.");
    c->looks = metric_counter("weir_copies_looks_total", "", "Times that all was looked at.");
    c->scrubs = metric_counter("weir_copies_scrubs_total", "", "Times that all was read.");
}

/* --- Start and stop --- */

static void let_go(struct copies *c)
{
    members_stop(c);
    round_close(&c->look);
    round_close(&c->scrub);
}

int copies_start(struct node *node, struct copies **ret_copies, struct error *err)
{
    struct copies *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "copies: out of memory");
    }
    c->node = node;
    c->config = node->config;
    c->self = (uint32_t)(config_self(node->config) - node->config->nodes);
    list_init(&c->look.queue);
    list_init(&c->look.jobs);
    list_init(&c->scrub.queue);
    list_init(&c->scrub.jobs);
    add_metrics(c);
    const struct http_route route = {
        .method = "GET", .path = "/internal/copies", .handler = get_copies, .data = c};
    int rc = members_start(c, err);
    rc = rc == 0 ? round_open(c, &c->look, ROUND_LOOK, err) : rc;
    rc = rc == 0 ? round_open(c, &c->scrub, ROUND_SCRUB, err) : rc;
    rc = rc == 0 ? node_routes(node, &route, 1, err) : rc;
    if (rc != 0) {
        let_go(c);
        free(c);
        return rc;
    }
    *ret_copies = c;
    return 0;
}

static void stopped(struct env_defer *defer)
{
    struct copies *c = defer->data;
    void (*cb)(void *data) = c->stop_cb;
    void *data = c->stop_data;
    free(c);
    cb(data);
}

void copies_stop_when_done(struct copies *c)
{
    if (c->stop_cb != NULL && c->look.n_running + c->scrub.n_running == 0) {
        c->stop_defer.data = c;
        env_defer(c->node->env, &c->stop_defer, stopped);
    }
}

void copies_stop(struct copies *c, void (*cb)(void *data), void *data)
{
    if (c == NULL) {
        cb(data);
        return;
    }
    c->stopping = true;
    let_go(c);
    store_fetch_cancel_quiet(c->node->store_cluster);
    c->stop_cb = cb;
    c->stop_data = data;
    copies_stop_when_done(c);
}
