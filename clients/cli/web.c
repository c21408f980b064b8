#include "clients/cli/web.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"

/* One question to one node. */
struct web_call {
    struct cli_loop loop;
    bool done;
    int status; /* HTTP, or negative */
    json_t *answer;
};

static void on_answer(void *data, int status, struct http_body *body)
{
    struct web_call *c = data;
    c->done = true;
    c->status = status;
    if (status > 0 && body != NULL) {
        c->answer = json_loadb((const char *)body->data, body->len, 0, NULL);
    }
    cli_loop_stop(&c->loop);
}

static int call_start(struct web_call *c, const struct cli_cluster *cluster,
                      const struct config_address *at, const struct web_ask *ask,
                      struct http_client *client)
{
    char headers[512];
    struct http_body *body = NULL;
    struct http_call *call = NULL;
    struct error err = {0};
    char *text = ask->body == NULL ? NULL : json_dumps(ask->body, JSON_COMPACT);
    if (text != NULL) {
        body = http_body_new((uint8_t *)text, strlen(text));
    }
    (void)snprintf(headers, sizeof(headers), "X-Weir-Secret: %s\r\n%s", cluster->secret,
                   body != NULL ? "Content-Type: application/json\r\n" : "");
    const struct http_call_options options = {
        .method = ask->method,
        .host = at->host,
        .port = at->port,
        .path = ask->path,
        .headers = headers,
        .body = body,
        .timeout_ms = cluster->timeout_ms,
        .response_max = WEB_ANSWER_MAX,
    };
    int rc = http_call(client, &options, on_answer, c, &call, &err);
    http_body_unref(body);
    return rc;
}

/* 0: c->status and c->answer hold; else no loop could be made. */
static enum cli_exit call_node(struct web_call *c, const struct cli_cluster *cluster,
                               const struct config_address *at, const struct web_ask *ask)
{
    struct http_client *client = NULL;
    struct error err = {0};
    memset(c, 0, sizeof(*c));
    enum cli_exit rv = cli_loop_open(&c->loop);
    if (rv != CLI_OK) {
        return rv;
    }
    rv = cli_loop_tls(&c->loop, cluster);
    if (rv != CLI_OK) {
        cli_loop_close(&c->loop);
        return rv;
    }
    struct env *sockets = c->loop.sockets != NULL ? c->loop.sockets : c->loop.env;
    int rc = http_client_new_over(c->loop.env, sockets, &client, &err);
    if (rc == 0) {
        rc = call_start(c, cluster, at, ask, client);
    }
    if (rc == 0) {
        cli_loop_run(&c->loop, NULL, NULL);
    } else {
        c->status = rc;
    }
    if (client != NULL) {
        http_client_free(client);
    }
    cli_loop_close(&c->loop);
    return CLI_OK;
}

/* Nothing of the question can have been carried out. */
static bool never_arrived(int status)
{
    return status == -ECONNREFUSED || status == -EHOSTUNREACH || status == -ENETUNREACH ||
           status == 404;
}

static const char *answer_text(const json_t *answer, const char *name)
{
    const char *text = json_string_value(json_object_get(answer, name));
    return text == NULL ? "" : text;
}

static bool try_next(const struct web_call *c, const struct web_ask *ask)
{
    if (c->status < 0) {
        return never_arrived(c->status) || ask->repeatable;
    }
    if (c->status == 404) { /* a node without the API role does not know the route */
        return c->answer == NULL;
    }
    return c->status >= 502 &&
           (ask->repeatable || strcmp(answer_text(c->answer, "error"), "unknown_outcome") != 0);
}

static enum cli_exit report(const struct web_call *c, const struct config_address *at)
{
    const char *message = answer_text(c->answer, "message");
    if (c->status < 0) {
        return cli_fail(cli_exit_of(c->status), "%s:%u: %s", at->host, at->port,
                        error_name(c->status));
    }
    enum cli_exit rv = c->status >= 502 ? CLI_UNAVAILABLE : CLI_FAILED;
    if (message[0] == '\0') {
        return cli_fail(rv, "%s:%u: HTTP status %d", at->host, at->port, c->status);
    }
    return cli_fail(rv, "%s", message);
}

enum cli_exit web_ask(const struct cli_cluster *cluster, const struct web_ask *ask,
                      json_t **ret_answer)
{
    struct web_call c = {0};
    unsigned first = ask->node < 0 ? 0 : (unsigned)ask->node;
    unsigned end = ask->node < 0 ? cluster->n_http : first + 1;
    if (first >= cluster->n_http) {
        return cli_fail(CLI_USAGE, "no HTTP address of a node: give --config or --http");
    }
    for (unsigned i = first; i < end; i++) {
        json_decref(c.answer);
        enum cli_exit rv = call_node(&c, cluster, &cluster->internal[i], ask);
        if (rv != CLI_OK) {
            return rv;
        }
        if (c.status >= 200 && c.status < 300 && c.answer != NULL) {
            *ret_answer = c.answer;
            return CLI_OK;
        }
        if (i + 1 == end || !try_next(&c, ask)) {
            rv = report(&c, &cluster->internal[i]);
            json_decref(c.answer);
            return rv;
        }
    }
    return CLI_FAILED;
}

int web_get(const struct cli_cluster *cluster, const struct config_address *at, const char *path,
            json_t **ret_answer)
{
    const struct web_ask ask = {.method = "GET", .path = path};
    struct web_call c = {0};
    *ret_answer = NULL;
    if (call_node(&c, cluster, at, &ask) != CLI_OK) {
        return WEIR_EUNAVAILABLE;
    }
    *ret_answer = c.answer;
    return c.status;
}

bool web_put_value(char *path, size_t size, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = strlen(path);
    for (; *text != '\0'; text++) {
        unsigned char ch = (unsigned char)*text;
        bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                     (ch >= '0' && ch <= '9') || strchr("-_.~", ch) != NULL;
        if (n + 4 > size) {
            return false;
        }
        if (plain) {
            path[n++] = (char)ch;
        } else {
            path[n++] = '%';
            path[n++] = hex[ch >> 4];
            path[n++] = hex[ch & 15];
        }
        path[n] = '\0';
    }
    return true;
}
