#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/api/api.h"

void api_reply(struct http_exchange *ex, int status, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (ex == NULL) {
        free(text);
        return;
    }
    struct http_body *body =
        text == NULL ? NULL : http_body_new((uint8_t *)text, strlen(text)); /* takes the text */
    if (body == NULL) {
        http_respond_json(ex, 500, "{\"error\":\"internal\",\"message\":\"out of memory\"}");
        return;
    }
    /* A page that lost its node asks another one, which is another origin. */
    http_respond(ex, status, "application/json",
                 "Cache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\n", body);
}

void api_error(struct http_exchange *ex, int status, const char *code, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    json_t *json = json_pack("{s:s, s:s}", "error", code, "message", text);
    if (json ==
        NULL) { /* the text repeats what the client sent, cut in the middle of a character */
        json = json_pack("{s:s, s:s}", "error", code, "message", "");
    }
    api_reply(ex, status, json);
}

void api_failed(struct http_exchange *ex, int rc, const char *what)
{
    static const struct {
        int rc, status;
        const char *code;
    } table[] = {
        {WEIR_ENOTFOUND, 404, "not_found"}, {WEIR_EAUTH, 403, "forbidden"},
        {WEIR_ETOOBIG, 413, "too_big"},     {WEIR_EINVAL, 400, "malformed"},
        {WEIR_EBUSY, 503, "busy"},          {WEIR_EUNAVAILABLE, 503, "unavailable"},
        {WEIR_ECLOSED, 503, "stopping"},    {WEIR_EUNKNOWN, 503, "unknown_outcome"},
        {WEIR_ETIMEOUT, 504, "timeout"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].rc == rc) {
            api_error(ex, table[i].status, table[i].code, "%s: %s", what, error_name(rc));
            return;
        }
    }
    api_error(ex, 500, "internal", "%s: %s", what, error_name(rc));
}

void api_void(struct http_exchange *ex, enum verdict verdict, const char *what)
{
    static const int status[] = {
        [VERDICT_MALFORMED] = 400,  [VERDICT_EXISTS] = 409, [VERDICT_NOT_FOUND] = 404,
        [VERDICT_FENCED] = 409,     [VERDICT_BANNED] = 403, [VERDICT_DUPLICATE] = 409,
        [VERDICT_UNBALANCED] = 400, [VERDICT_ORDER] = 409,  [VERDICT_RATE] = 429,
        [VERDICT_LIMIT] = 409,
    };
    size_t n = sizeof(status) / sizeof(status[0]);
    int code = (size_t)verdict < n && status[verdict] != 0 ? status[verdict] : 500;
    api_error(ex, code, verdict_name(verdict), "%s: %s", what, verdict_name(verdict));
}

json_t *api_body(struct http_exchange *ex)
{
    size_t n = 0;
    json_error_t why;
    const uint8_t *data = http_request_body(ex, &n);
    json_t *body =
        n == 0 ? json_object() : json_loadb((const char *)data, n, JSON_REJECT_DUPLICATES, &why);
    if (body == NULL) {
        api_error(ex, 400, "malformed", "body: line %d: %s", n == 0 ? 0 : why.line,
                  n == 0 ? "out of memory" : why.text);
    } else if (!json_is_object(body)) {
        json_decref(body);
        body = NULL;
        api_error(ex, 400, "malformed", "body: a JSON object was expected");
    }
    return body;
}

bool api_string(struct http_exchange *ex, json_t *body, const char *name, const char *otherwise,
                const char **ret)
{
    json_t *value = json_object_get(body, name);
    if (value == NULL || json_is_null(value)) {
        if (otherwise == NULL) {
            api_error(ex, 400, "malformed", "%s: missing", name);
            return false;
        }
        *ret = otherwise;
        return true;
    }
    if (!json_is_string(value)) {
        api_error(ex, 400, "malformed", "%s: a string was expected", name);
        return false;
    }
    *ret = json_string_value(value);
    return true;
}

bool api_uint(struct http_exchange *ex, json_t *body, const char *name, uint32_t otherwise,
              uint32_t *ret)
{
    json_t *value = json_object_get(body, name);
    json_int_t v = otherwise;
    if (value != NULL && !json_is_null(value)) {
        v = json_is_integer(value) ? json_integer_value(value) : -1;
    }
    if (v < 0 || v > UINT32_MAX) {
        api_error(ex, 400, "malformed", "%s: a whole number was expected", name);
        return false;
    }
    *ret = (uint32_t)v;
    return true;
}

bool api_bool(struct http_exchange *ex, json_t *body, const char *name, bool *ret)
{
    json_t *value = json_object_get(body, name);
    if (value != NULL && !json_is_null(value) && !json_is_boolean(value)) {
        api_error(ex, 400, "malformed", "%s: true or false was expected", name);
        return false;
    }
    *ret = json_is_true(value);
    return true;
}

bool api_path(struct http_exchange *ex, const char *prefix, char ret_name[26],
              const char **ret_rest)
{
    const char *name = http_path(ex) + strlen(prefix);
    size_t n = strcspn(name, "/");
    if (n == 0 || n > 25) {
        api_error(ex, 404, "not_found", "no such thing: %.100s", http_path(ex));
        return false;
    }
    memcpy(ret_name, name, n);
    ret_name[n] = '\0';
    *ret_rest = name[n] == '/' ? name + n + 1 : "";
    return true;
}

int api_routes(struct api *api, const struct api_route *routes, struct error *err)
{
    for (; routes->path != NULL; routes++) {
        const struct http_route route = {
            .method = routes->method,
            .path = routes->path,
            .prefix = routes->prefix,
            .body_max = API_BODY_MAX,
            .handler = routes->handler,
            .data = api,
        };
        int rc = node_routes(api->node, &route, 1, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
