#include <stdlib.h>
#include <string.h>

#include "net/http.h"

struct http_body *http_body_new(uint8_t *data, size_t len)
{
    struct http_body *body = malloc(sizeof(*body));
    if (body == NULL) {
        free(data);
        return NULL;
    }
    *body = (struct http_body){.refs = 1, .len = len, .data = data};
    return body;
}

struct http_body *http_body_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    if (copy == NULL) {
        return NULL;
    }
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return http_body_new(copy, len);
}

struct http_body *http_body_ref(struct http_body *body)
{
    body->refs++;
    return body;
}

void http_body_unref(struct http_body *body)
{
    if (body == NULL || --body->refs > 0) {
        return;
    }
    if (body->free_cb != NULL) {
        body->free_cb(body);
        return;
    }
    free(body->data);
    free(body);
}
