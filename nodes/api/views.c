/* What a node says of itself and of the cluster.
 *
 * GET /internal/views: where this node's views stand; with ?topic=&partition= also the hash of the
 * state at that offset. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "nodes/api/api.h"

struct hash_request {
    struct api *api;
    struct http_exchange *ex;
    struct view_hash hash;
    enum view_topic topic;
    uint32_t partition;
};

static void on_abort(void *data, struct http_exchange *ex)
{
    struct hash_request *req = data;
    (void)ex;
    req->ex = NULL;
}

static void on_hash(struct view_hash *hash, int status)
{
    struct hash_request *req = hash->data;
    char hex[2 * sizeof(hash->hash) + 1];
    if (status != 0) {
        api_failed(req->ex, status, "hash");
    } else {
        sodium_bin2hex(hex, sizeof(hex), hash->hash, sizeof(hash->hash));
        api_reply(req->ex, 200,
                  json_pack("{s:s, s:i, s:I, s:I, s:s}", "topic", view_topic_names[req->topic],
                            "partition", (int)req->partition, "offset", (json_int_t)hash->offset,
                            "keys", (json_int_t)hash->keys, "hash", hex));
    }
    free(req);
}

static void reply_hash(struct api *api, struct http_exchange *ex, enum view_topic topic,
                       uint32_t partition)
{
    struct hash_request *req = calloc(1, sizeof(*req));
    if (req == NULL) {
        api_failed(ex, WEIR_ENOMEM, "hash");
        return;
    }
    req->api = api;
    req->ex = ex;
    req->topic = topic;
    req->partition = partition;
    req->hash.data = req;
    int rc = views_hash_start(api->node->views, topic, partition, &req->hash, on_hash);
    if (rc != 0) {
        free(req);
        api_failed(ex, rc, "hash");
        return;
    }
    http_on_abort(ex, on_abort, req);
}

static void reply_offsets(struct api *api, struct http_exchange *ex)
{
    json_t *list = json_array();
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        uint32_t n = views_partitions(api->node->views, (enum view_topic)t);
        for (uint32_t i = 0; i < n; i++) {
            int64_t offset = views_offset(api->node->views, (enum view_topic)t, i);
            json_array_append_new(list,
                                  json_pack("{s:s, s:i, s:I}", "topic", view_topic_names[t],
                                            "partition", (int)i, "offset", (json_int_t)offset));
        }
    }
    api_reply(ex, 200,
              json_pack("{s:s, s:b, s:o}", "node", api->node->self->name, "ready",
                        views_ready(api->node->views), "views", list));
}

static void get_views(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    if (!node_authorised(api->node, ex)) {
        return;
    }
    const char *topic = http_query(ex, "topic"), *number = http_query(ex, "partition");
    if (topic == NULL && number == NULL) {
        reply_offsets(api, ex);
        return;
    }
    char *end = NULL;
    unsigned long partition = number == NULL ? 0 : strtoul(number, &end, 10);
    for (unsigned t = 0; t < VIEW_TOPICS && topic != NULL; t++) {
        if (strcmp(view_topic_names[t], topic) == 0 && end != NULL && end != number &&
            *end == '\0' && partition < views_partitions(api->node->views, (enum view_topic)t)) {
            reply_hash(api, ex, (enum view_topic)t, (uint32_t)partition);
            return;
        }
    }
    api_error(ex, 404, "not_found", "no such topic and partition");
}

/* GET /api/nodes: where the cluster can be reached, so that a page goes on elsewhere when its node
 * dies. */
static void get_nodes(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    const struct config *config = api->node->config;
    json_t *list = json_array();
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        const struct config_node *n = &config->nodes[i];
        if (n->standing == CONFIG_NODE_GONE) {
            continue;
        }
        char address[sizeof(n->http.host) + sizeof(":65535")];
        (void)snprintf(address, sizeof(address), "%s:%u", n->http.host, (unsigned)n->http.port);
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", n->name, "http", address));
    }
    api_reply(ex, 200, json_pack("{s:o}", "nodes", list));
}

int api_views_routes(struct api *api, struct error *err)
{
    static const struct api_route routes[] = {
        {"GET", "/internal/views", false, get_views},
        {"GET", "/api/nodes", false, get_nodes},
        {0},
    };
    return api_routes(api, routes, err);
}
