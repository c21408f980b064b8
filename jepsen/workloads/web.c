#include "jepsen/workloads/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"

#define ANSWER_MAX (16u << 20)

struct web {
    struct run *run;
    struct http_client *http;
    char headers[160];
    bool closing; /* nobody waits for answers any more */
};

struct question {
    struct web *web;
    web_cb cb;
    web_bytes_cb bytes_cb; /* of web_get */
    void *data;
};

int web_open(struct run *run, struct web **ret_web, struct error *err)
{
    struct web *web = calloc(1, sizeof(*web));
    if (web == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    web->run = run;
    (void)snprintf(web->headers, sizeof(web->headers),
                   "X-Weir-Secret: %s\r\nContent-Type: application/json\r\n", run_secret(run));
    int rv = http_client_new(run_env(run), &web->http, err);
    if (rv != 0) {
        free(web);
        return rv;
    }
    *ret_web = web;
    return 0;
}

void web_close(struct web *web)
{
    if (web != NULL) {
        web->closing = true;
        http_client_free(web->http);
        free(web);
    }
}

static void on_answer(void *data, int status, struct http_body *body)
{
    struct question *q = data;
    json_t *json = body != NULL && body->len > 0
                       ? json_loadb((const char *)body->data, body->len, 0, NULL)
                       : NULL;
    if (!q->web->closing) {
        q->cb(q->data, status, json);
    }
    json_decref(json);
    free(q);
}

void web_ask(struct web *web, const struct host *host, const char *method, const char *path,
             json_t *body, web_cb cb, void *data)
{
    struct question *q = calloc(1, sizeof(*q));
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct http_body *packed = text != NULL ? http_body_copy(text, strlen(text)) : NULL;
    struct http_call_options call = {.method = method,
                                     .host = host->address,
                                     .port = HOST_PORT_HTTP,
                                     .path = path,
                                     .headers = web->headers,
                                     .body = packed,
                                     .timeout_ms = WEB_TIMEOUT_MS,
                                     .response_max = ANSWER_MAX};
    struct http_call *sent = NULL;
    struct error err = {0};
    json_decref(body);
    free(text);
    if (q == NULL) {
        abort();
    }
    *q = (struct question){.web = web, .cb = cb, .data = data};
    int rv = http_call(web->http, &call, on_answer, q, &sent, &err);
    http_body_unref(packed);
    if (rv != 0) {
        free(q);
        run_failed(web->run, err.text);
    }
}

static void on_bytes(void *data, int status, struct http_body *body)
{
    struct question *q = data;
    if (!q->web->closing) {
        q->bytes_cb(q->data, status, body);
    }
    free(q);
}

void web_get(struct web *web, const struct host *host, const char *path, uint32_t timeout_ms,
             web_bytes_cb cb, void *data)
{
    struct question *q = calloc(1, sizeof(*q));
    struct http_call_options call = {.method = "GET",
                                     .host = host->address,
                                     .port = HOST_PORT_HTTP,
                                     .path = path,
                                     .headers = "",
                                     .timeout_ms = timeout_ms,
                                     .response_max = ANSWER_MAX};
    struct http_call *sent = NULL;
    struct error err = {0};
    if (q == NULL) {
        abort();
    }
    *q = (struct question){.web = web, .bytes_cb = cb, .data = data};
    if (http_call(web->http, &call, on_bytes, q, &sent, &err) != 0) {
        free(q);
        run_failed(web->run, err.text);
    }
}

enum history_type web_outcome(int status, json_t *answer, const char **ret_error)
{
    const char *code = json_string_value(json_object_get(answer, "error"));
    *ret_error = NULL;
    if (status == 200 || status == 201) {
        return HISTORY_OK;
    }
    *ret_error = code != NULL ? code : status < 0 ? error_name(status) : "refused";
    bool never_sent = status == -111; /* connection refused */
    bool unknown = status < 0
                       ? !never_sent
                       : status == 504 || (code != NULL && strcmp(code, "unknown_outcome") == 0) ||
                             (status >= 500 && code == NULL);
    return unknown ? HISTORY_INFO : HISTORY_FAIL;
}
