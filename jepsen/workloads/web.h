/* Questions to the nodes' HTTP interface, as an operator. Loop thread. */
#ifndef JEPSEN_WORKLOADS_WEB_H
#define JEPSEN_WORKLOADS_WEB_H

#include <jansson.h>

#include "jepsen/workloads/workload.h"

struct http_body; /* net/http.h */

#define WEB_TIMEOUT_MS 5000

struct web;
int web_open(struct run *run, struct web **ret_web, struct error *err);
/* Open questions are forgotten. NULL is allowed. */
void web_close(struct web *web);

/* `status`: HTTP's, or negative: there was no answer, nobody knows. `answer`: NULL when it was no
 * JSON; borrowed. */
typedef void (*web_cb)(void *data, int status, json_t *answer);
/* `body` (may be NULL) is taken. */
void web_ask(struct web *web, const struct host *host, const char *method, const char *path,
             json_t *body, web_cb cb, void *data);
/* Bytes, as a viewer gets them. `body`: borrowed; NULL when there was no answer. */
typedef void (*web_bytes_cb)(void *data, int status, struct http_body *body);
void web_get(struct web *web, const struct host *host, const char *path, uint32_t timeout_ms,
             web_bytes_cb cb, void *data);
/* What an answer means: HISTORY_OK; HISTORY_FAIL, certainly nothing happened; HISTORY_INFO.
 * *ret_error: a few words, borrowed. */
enum history_type web_outcome(int status, json_t *answer, const char **ret_error);

#endif
