#include "nodes/directory.h"

#include <stdio.h>
#include <string.h>

#include "base/logging.h"

static struct config_node *place_of(struct config *config, uint32_t id)
{
    struct config_node *gone = NULL;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        struct config_node *n = &config->nodes[i];
        if (n->id == id) {
            return n;
        }
        if (n->standing == CONFIG_NODE_GONE && n != config_self(config)) {
            gone = n;
        }
    }
    return config->n_nodes < CONFIG_NODES_MAX ? &config->nodes[config->n_nodes++] : gone;
}

static void take(struct config_node *place, const struct weir_node *n)
{
    struct config_node next = {.id = n->id,
                               .broker = {.port = n->port},
                               .peer = place->id == n->id ? place->peer
                                                          : (struct config_address){.port = 0},
                               .no_log = n->no_log,
                               .standing = n->draining ? CONFIG_NODE_DRAINING : CONFIG_NODE_IN};
    (void)snprintf(next.name, sizeof(next.name), "%s", n->name);
    (void)snprintf(next.broker.host, sizeof(next.broker.host), "%s", n->host);
    if (config_address_parse(n->http, &next.http, NULL) != 0 ||
        config_address_parse(n->rtmp, &next.rtmp, NULL) != 0) {
        return;
    }
    (void)config_address_parse(n->internal, &next.internal, NULL); /* "": by the rule */
    config_default_internal(&next);
    if (place->id != n->id) {
        log_info("node_joined", "name=%s id=%u http=%s", next.name, next.id, n->http);
    }
    *place = next;
}

void directory_update(struct config *config, const struct weir_node *nodes, unsigned n)
{
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        bool found = false;
        for (unsigned k = 0; k < n; k++) {
            found |= nodes[k].id == config->nodes[i].id;
        }
        if (!found && config->nodes[i].standing != CONFIG_NODE_GONE) {
            config->nodes[i].standing = CONFIG_NODE_GONE;
            log_info("node_gone", "name=%s id=%u", config->nodes[i].name, config->nodes[i].id);
        }
    }
    for (unsigned k = 0; k < n; k++) {
        struct config_node *place = place_of(config, nodes[k].id);
        if (place != NULL) {
            take(place, &nodes[k]);
        }
    }
}
