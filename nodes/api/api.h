/* The API role: JSON over the node's HTTP server (docs/api.md), and the bridge from the ledger to
 * chat. Inside of nodes/api.
 *
 * Every change is a record, produced and then waited for in this node's own view: the answer tells
 * the fold's verdict. */
#ifndef NODES_API_API_H
#define NODES_API_API_H

#include <jansson.h>

#include "nodes/role.h"
#include "proto/messages.h"

#define API_BODY_MAX    16384
#define API_PENDING_MAX 1024 /* requests that wait for the log; more are 503 */
#define API_RECORD_MAX  8192

struct bridge;
struct api {
    struct node *node;
    struct list pending; /* struct api_request */
    unsigned n_pending;
    struct bridge *bridge;
    bool stopping;
    void (*stop_cb)(void *data);
    void *stop_data;
    struct env_defer stopped;
};

/* --- Answers; `ex` NULL (the client went away): nothing happens --- */

/* Takes `json`, which may be NULL (out of memory): then 500. */
void api_reply(struct http_exchange *ex, int status, json_t *json);
/* {"error": code, "message": text} */
void api_error(struct http_exchange *ex, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* What a negative code of a query or a submit means to the client. */
void api_failed(struct http_exchange *ex, int rc, const char *what);
/* A void record's verdict. */
void api_void(struct http_exchange *ex, enum verdict verdict, const char *what);

/* --- Questions --- */

/* The request's JSON object, to be json_decref'd; NULL: it has been answered with 400. An absent
 * body is an empty object. */
json_t *api_body(struct http_exchange *ex);
/* A string member; absent or null gives `otherwise` (NULL: it is required). False: answered with
 * 400. The string belongs to `body`. */
bool api_string(struct http_exchange *ex, json_t *body, const char *name, const char *otherwise,
                const char **ret);
bool api_uint(struct http_exchange *ex, json_t *body, const char *name, uint32_t otherwise,
              uint32_t *ret);
bool api_bool(struct http_exchange *ex, json_t *body, const char *name, bool *ret);
/* Cuts "/api/admin/users/NAME/tokens" behind `prefix` into NAME and "tokens" ("" when there is
 * nothing more). False: answered with 404. */
bool api_path(struct http_exchange *ex, const char *prefix, char ret_name[26],
              const char **ret_rest);

/* --- A change on its way --- */

struct api_request {
    struct api *api;
    struct http_exchange *ex; /* NULL when the client went away */
    struct view_submit submit;
    struct list link;
    /* Called with the fold's verdict; the request is freed after it. Failures of the log are
     * answered before. */
    void (*done)(struct api_request *req, enum verdict verdict);
    json_t *answer; /* prepared for success; done may take it (and set NULL) */
    char user[26], channel[26];
    char key[129], of[129]; /* of: what a refund takes back */
    uint32_t tier, months;
};
/* NULL: answered with 503. */
struct api_request *api_request_new(struct api *api, struct http_exchange *ex);
/* Produces the packed message under `key`, owned by the request from here on, also on failure (then
 * it has been answered and freed). */
void api_submit(struct api_request *req, enum view_topic topic, const char *key,
                const ProtobufCMessage *record,
                void (*done)(struct api_request *req, enum verdict verdict));
void api_request_free(struct api_request *req);
/* Takes the prepared answer. */
json_t *api_take_answer(struct api_request *req);

/* While stopping: tells the node when the last thing on its way is over, and frees the API. */
void api_maybe_stopped(struct api *api);

/* --- Parts of the role --- */

int api_accounts_routes(struct api *api, struct error *err);
int api_ledger_routes(struct api *api, struct error *err);
int api_views_routes(struct api *api, struct error *err);
struct api_route {
    const char *method, *path;
    bool prefix;
    http_handler handler;
};
/* Ended by an empty one. */
int api_routes(struct api *api, const struct api_route *routes, struct error *err);

int bridge_new(struct node *node, struct bridge **ret_bridge, struct error *err);
/* Then cb, once nothing of it is on its way. */
void bridge_free(struct bridge *bridge, void (*cb)(void *data), void *data);

#endif
