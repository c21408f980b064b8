#include <string.h>

#include "nodes/role.h"

static bool below(const char *path, const char *folder)
{
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int add(struct http_server *server, const struct http_route *route, struct error *err)
{
    int rv = http_server_route(server, route);
    return rv == 0
               ? 0
               : error_set(err, rv, "route %s %s: %s", route->method, route->path, error_name(rv));
}

int node_routes(const struct node *node, const struct http_route *routes, unsigned n,
                struct error *err)
{
    int rv = 0;
    for (unsigned i = 0; i < n && rv == 0; i++) {
        const struct http_route *route = &routes[i];
        bool internal = node->internal != NULL && below(route->path, "/internal/");
        bool both = node->internal != NULL && below(route->path, "/api/admin/");
        rv = internal ? 0 : add(node->http, route, err);
        if (rv == 0 && (internal || both)) {
            rv = add(node->internal, route, err);
        }
    }
    return rv;
}
