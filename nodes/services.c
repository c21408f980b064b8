#include "nodes/services.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/logging.h"
#include "nodes/copies/copies.h"
#include "nodes/directory.h"

#define STORE_CACHE_BYTES (256u << 20)
#define PATH_SIZE         (CONFIG_PATH_MAX + 16)

struct services {
    struct node *node;
    unsigned n_started; /* steps */
    void *role_state[8];
    struct copies *copies;
    void (*cb)(void *data);
    void *data;
};

/* One thing to start and to stop. `arg` is the role of a role's step. */
struct step {
    const char *name;
    uint32_t roles; /* started when one of them is on */
    int (*start)(struct services *s, const struct step *step, struct error *err);
    /* Calls services_stopped, now or later. */
    void (*stop)(struct services *s, const struct step *step);
    const struct role *role;
    unsigned index; /* of the role's state */
};

static void stop_next(struct services *s);

static void stopped(void *data)
{
    stop_next(data);
}

/* --- The log's client --- */

static void on_nodes(void *data, const struct weir_node *nodes, unsigned n)
{
    directory_update(data, nodes, n);
}

static int client_start(struct services *s, const struct step *step, struct error *err)
{
    struct node *node = s->node;
    const struct config *config = node->config;
    char addresses[CONFIG_NODES_MAX][160], name[CONFIG_NAME_MAX + 8];
    const char *seeds[CONFIG_NODES_MAX];
    unsigned n = 0;
    (void)step;
    /* This node's own broker first: that is where consumers read. */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < config->n_nodes; i++) {
            const struct config_node *other = &config->nodes[i];
            bool own = other->id == node->self->id && (config->roles & CONFIG_ROLE_LOG) != 0;
            if (own == (pass == 0) && !other->no_log) {
                (void)snprintf(addresses[n], sizeof(addresses[n]), "%s:%u", other->broker.host,
                               other->broker.port);
                seeds[n] = addresses[n];
                n++;
            }
        }
    }
    (void)snprintf(name, sizeof(name), "node %s", node->self->name);
    struct weir_client_options options = {.sockets = node->sockets,
                                          .nodes = on_nodes,
                                          .nodes_data = node->directory,
                                          .seeds = seeds,
                                          .n_seeds = n,
                                          .secret = config->secret,
                                          .name = name};
    return weir_client_new(node->env, &options, &node->client, err);
}

static void client_stop(struct services *s, const struct step *step)
{
    (void)step;
    weir_client_free(s->node->client, stopped, s);
}

/* --- Segment store --- */

static int store_start(struct services *s, const struct step *step, struct error *err)
{
    char dir[PATH_SIZE];
    (void)step;
    (void)snprintf(dir, sizeof(dir), "%s/store", s->node->config->data_dir);
    struct store_options options = {.dir = dir,
                                    .cache_bytes_max = STORE_CACHE_BYTES,
                                    .free_bytes_min = (uint64_t)s->node->config->log_free_mib_min
                                                      << 20};
    return store_open(s->node->env, &options, &s->node->store, err);
}

static void store_stop(struct services *s, const struct step *step)
{
    (void)step;
    store_close(s->node->store, stopped, s);
}

static int http_client_start(struct services *s, const struct step *step, struct error *err)
{
    (void)step;
    struct env *sockets = s->node->sockets != NULL ? s->node->sockets : s->node->env;
    return http_client_new_over(s->node->env, sockets, &s->node->http_client, err);
}

static void http_client_stop(struct services *s, const struct step *step)
{
    (void)step;
    http_client_free(s->node->http_client);
    stop_next(s);
}

static int store_cluster_start(struct services *s, const struct step *step, struct error *err)
{
    struct node *node = s->node;
    (void)step;
    return store_cluster_new(node->env, node->store, node->http_client, node->config,
                             &node->store_cluster, err);
}

static void store_cluster_stop(struct services *s, const struct step *step)
{
    (void)step;
    store_cluster_free(s->node->store_cluster);
    stop_next(s);
}

/* --- Views --- */

static int views_start(struct services *s, const struct step *step, struct error *err)
{
    char dir[PATH_SIZE];
    (void)step;
    (void)snprintf(dir, sizeof(dir), "%s/views", s->node->config->data_dir);
    return views_open(s->node->env, s->node->client, dir, &s->node->views, err);
}

static void views_stop(struct services *s, const struct step *step)
{
    (void)step;
    views_close(s->node->views, stopped, s);
}

/* --- Copies of media --- */

static int copies_step_start(struct services *s, const struct step *step, struct error *err)
{
    (void)step;
    return copies_start(s->node, &s->copies, err);
}

static void copies_step_stop(struct services *s, const struct step *step)
{
    (void)step;
    copies_stop(s->copies, stopped, s);
}

/* --- Roles --- */

static int role_start(struct services *s, const struct step *step, struct error *err)
{
    return step->role->start(s->node, &s->role_state[step->index], err);
}

static void role_stop(struct services *s, const struct step *step)
{
    step->role->stop(s->role_state[step->index], stopped, s);
}

#define FRONT (CONFIG_ROLE_ALL & ~(uint32_t)CONFIG_ROLE_LOG)

static const struct step steps[] = {
    {"client", FRONT, client_start, client_stop, NULL, 0},
    {"store", FRONT, store_start, store_stop, NULL, 0},
    {"http_client", FRONT, http_client_start, http_client_stop, NULL, 0},
    {"store_cluster", FRONT, store_cluster_start, store_cluster_stop, NULL, 0},
    {"views", FRONT, views_start, views_stop, NULL, 0},
    {"copies", FRONT, copies_step_start, copies_step_stop, NULL, 0},
    {"edge", CONFIG_ROLE_EDGE, role_start, role_stop, &role_edge, 0},
    {"api", CONFIG_ROLE_API, role_start, role_stop, &role_api, 1},
    {"chat", CONFIG_ROLE_CHAT, role_start, role_stop, &role_chat, 2},
    {"transcode", CONFIG_ROLE_TRANSCODE, role_start, role_stop, &role_transcode, 3},
    {"ingest", CONFIG_ROLE_INGEST, role_start, role_stop, &role_ingest, 4},
};
#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

int services_start(struct node *node, struct services **ret_services, struct error *err)
{
    struct services *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the node's services");
    }
    s->node = node;
    *ret_services = s;
    for (; s->n_started < N_STEPS; s->n_started++) {
        const struct step *step = &steps[s->n_started];
        if ((node->config->roles & step->roles) == 0) {
            continue;
        }
        int rv = step->start(s, step, err);
        if (rv != 0) {
            return rv;
        }
        log_debug("service_started", "name=%s", step->name);
    }
    return 0;
}

static void stop_next(struct services *s)
{
    while (s->n_started > 0) {
        const struct step *step = &steps[--s->n_started];
        if ((s->node->config->roles & step->roles) != 0) {
            log_debug("service_stopping", "name=%s", step->name);
            step->stop(s, step);
            return;
        }
    }
    void (*cb)(void *data) = s->cb;
    void *data = s->data;
    free(s);
    cb(data);
}

void services_stop(struct services *s, void (*cb)(void *data), void *data)
{
    s->cb = cb;
    s->data = data;
    /* Their routes lead to what is freed next. */
    http_server_drain(s->node->http);
    if (s->node->internal != NULL) {
        http_server_drain(s->node->internal);
    }
    stop_next(s);
}
