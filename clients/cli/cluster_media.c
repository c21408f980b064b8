/* Whether the others have what a drained node held of media: each says so for itself
 * (/internal/copies, nodes/copies), and counts once the drained node does not count for it. */
#include <jansson.h>
#include <string.h>

#include "clients/cli/cluster.h"
#include "clients/cli/web.h"

#define COPIES_PATH "/internal/copies"
#define NO_ROUTE    404 /* no such service */
#define NO_STORING  501

struct said {
    const char *name; /* borrowed from the list of nodes */
    json_t *answer;
};

static bool holds_none(int status)
{
    return status == NO_ROUTE || status == NO_STORING;
}

/* The members, as the first node knows them that answers. NULL: nobody did, or nobody holds media.
 */
static json_t *ask_members(const struct cli_cluster *cluster, bool *ret_none)
{
    *ret_none = cluster->n_http == 0;
    for (unsigned i = 0; i < cluster->n_http; i++) {
        json_t *answer = NULL;
        int status = web_get(cluster, &cluster->internal[i], COPIES_PATH, &answer);
        json_t *nodes = json_incref(json_object_get(answer, "nodes"));
        json_decref(answer);
        if (status == 200 && json_is_array(nodes)) {
            return nodes;
        }
        json_decref(nodes);
        *ret_none = *ret_none || holds_none(status);
    }
    return NULL;
}

static int64_t number(const struct said *s, const char *name)
{
    return json_integer_value(json_object_get(s->answer, name));
}

static bool counts(const struct said *s, const char *name)
{
    size_t i = 0;
    json_t *member = NULL;
    json_array_foreach(json_object_get(s->answer, "members"), i, member)
    {
        if (json_is_string(member) && strcmp(json_string_value(member), name) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_its_copies(const struct cluster_media *m, const struct said *s, const char *name,
                           char *text, size_t size)
{
    if (counts(s, name) || number(s, "offset") < m->far) {
        (void)snprintf(text, size, "%s has not looked yet what it is to hold", s->name);
        return false;
    }
    if (!json_is_true(json_object_get(s->answer, "whole"))) {
        (void)snprintf(text, size, "%s lacks copies (%lld at its last look)", s->name,
                       (long long)number(s, "missing"));
        return false;
    }
    return true;
}

/* 1: it has answered, 0: it holds none, negative: nobody knows. */
static int ask_one(const struct cluster_media *m, const struct cli_cluster *cluster, const char *at,
                   json_t **ret_answer)
{
    struct config_address address;
    char path[64];
    (void)snprintf(path, sizeof(path), COPIES_PATH "?offset=%lld", (long long)m->far);
    *ret_answer = NULL;
    if (config_address_parse(at, &address, NULL) != 0) {
        return WEIR_EPROTO;
    }
    int status = web_get(cluster, &address, path, ret_answer);
    if (status == 200 && *ret_answer != NULL) {
        return 1;
    }
    json_decref(*ret_answer);
    *ret_answer = NULL;
    return holds_none(status) ? 0 : WEIR_EUNAVAILABLE;
}

/* All others are asked. False: one of them does not answer. */
static bool ask_others(const struct cluster_media *m, const struct cli_cluster *cluster,
                       const json_t *nodes, const char *name, struct said said[CONFIG_NODES_MAX],
                       unsigned *ret_n, char *text, size_t size)
{
    for (size_t i = 0; i < json_array_size(nodes) && *ret_n < CONFIG_NODES_MAX; i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *other = json_string_value(json_object_get(node, "name"));
        const char *at = json_string_value(json_object_get(node, "at"));
        if (other == NULL || at == NULL || strcmp(other, name) == 0 ||
            json_is_true(json_object_get(node, "draining"))) {
            continue;
        }
        int rc = ask_one(m, cluster, at, &said[*ret_n].answer);
        if (rc < 0) {
            (void)snprintf(text, size, "%s does not say what it holds", other);
            return false;
        }
        said[*ret_n].name = other;
        *ret_n += rc == 1;
    }
    return true;
}

bool cluster_media_moved(struct cluster_media *m, const struct cli_cluster *cluster,
                         const char *name, char *text, size_t size)
{
    struct said said[CONFIG_NODES_MAX] = {0};
    unsigned n = 0;
    bool none = false;
    json_t *nodes = ask_members(cluster, &none);
    if (nodes == NULL) {
        (void)snprintf(text, size, "no node says what it holds");
        return none;
    }
    bool moved = ask_others(m, cluster, nodes, name, said, &n, text, size);
    for (unsigned i = 0; i < n && moved && !m->asked; i++) {
        m->far = number(&said[i], "offset_now") > m->far ? number(&said[i], "offset_now") : m->far;
    }
    m->asked = m->asked || moved;
    for (unsigned i = 0; i < n; i++) {
        moved = moved && has_its_copies(m, &said[i], name, text, size);
        json_decref(said[i].answer);
    }
    json_decref(nodes);
    return moved;
}
