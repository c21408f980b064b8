/* Asking the nodes' HTTP API: JSON there, JSON back, from the first node that answers. */
#ifndef CLIENTS_CLI_WEB_H
#define CLIENTS_CLI_WEB_H

#include <jansson.h>

#include "clients/cli/cli.h"

#define WEB_ANSWER_MAX (16u << 20)

struct web_ask {
    const char *method, *path; /* path with query, percent-encoded */
    json_t *body;              /* borrowed; NULL: none */
    /* The question may be asked again when it is not known whether it has been carried out. */
    bool repeatable;
    int node; /* ask only this one; -1: any */
};
/* 0 and a status below 300 with the answer's JSON (to be json_decref'd); else the reason is on
 * stderr. */
enum cli_exit web_ask(const struct cli_cluster *cluster, const struct web_ask *ask,
                      json_t **ret_answer);
/* GET from one node, with nothing said on stderr: the HTTP status, or a negative code. The answer's
 * JSON (to be json_decref'd) is NULL when there is none. */
int web_get(const struct cli_cluster *cluster, const struct config_address *at, const char *path,
            json_t **ret_answer);
/* Appends `text` percent-encoded as a query value. False: out of room. */
bool web_put_value(char *path, size_t size, const char *text);

#endif
