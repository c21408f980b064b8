#include <stdlib.h>

#include "nodes/api/api.h"

static void on_stopped(struct env_defer *defer)
{
    struct api *api = defer->data;
    void (*cb)(void *data) = api->stop_cb;
    void *data = api->stop_data;
    free(api);
    cb(data);
}

void api_maybe_stopped(struct api *api)
{
    if (api->stopping && api->n_pending == 0 && api->bridge == NULL) {
        api->stopped.data = api;
        env_defer(api->node->env, &api->stopped, on_stopped);
    }
}

static void on_bridge_stopped(void *data)
{
    struct api *api = data;
    api->bridge = NULL;
    api_maybe_stopped(api);
}

static void api_stop(void *state, void (*cb)(void *data), void *data)
{
    struct api *api = state;
    api->stopping = true;
    api->stop_cb = cb;
    api->stop_data = data;
    bridge_free(api->bridge, on_bridge_stopped, api);
}

static int api_start(struct node *node, void **ret_state, struct error *err)
{
    struct api *api = calloc(1, sizeof(*api));
    if (api == NULL) {
        return error_set(err, WEIR_ENOMEM, "api");
    }
    api->node = node;
    list_init(&api->pending);
    int rc = api_accounts_routes(api, err);
    if (rc == 0) {
        rc = api_ledger_routes(api, err);
    }
    if (rc == 0) {
        rc = api_views_routes(api, err);
    }
    if (rc == 0) {
        rc = bridge_new(node, &api->bridge, err);
    }
    if (rc != 0) {
        free(api); /* the process ends: no request will come to the routes */
        return rc;
    }
    *ret_state = api;
    return 0;
}

const struct role role_api = {
    .name = "api",
    .bit = CONFIG_ROLE_API,
    .start = api_start,
    .stop = api_stop,
};
