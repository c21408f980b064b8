/* A change on its way through the log. */
#include <stdlib.h>
#include <string.h>

#include "nodes/api/api.h"

static void on_abort(void *data, struct http_exchange *ex)
{
    struct api_request *req = data;
    (void)ex;
    req->ex = NULL; /* the record is on its way all the same */
}

struct api_request *api_request_new(struct api *api, struct http_exchange *ex)
{
    if (api->stopping || api->n_pending >= API_PENDING_MAX) {
        api_failed(ex, api->stopping ? WEIR_ECLOSED : WEIR_EBUSY, "request");
        return NULL;
    }
    struct api_request *req = calloc(1, sizeof(*req));
    if (req == NULL) {
        api_failed(ex, WEIR_ENOMEM, "request");
        return NULL;
    }
    req->api = api;
    req->ex = ex;
    list_push_back(&api->pending, &req->link);
    api->n_pending++;
    return req;
}

void api_request_free(struct api_request *req)
{
    struct api *api = req->api;
    list_remove(&req->link);
    api->n_pending--;
    json_decref(req->answer);
    free(req);
    api_maybe_stopped(api);
}

json_t *api_take_answer(struct api_request *req)
{
    json_t *answer = req->answer;
    req->answer = NULL;
    return answer;
}

static void on_folded(struct view_submit *submit, int status, enum verdict verdict)
{
    struct api_request *req = submit->data;
    if (status != 0) {
        api_failed(req->ex, status, "log");
    } else {
        req->done(req, verdict);
    }
    api_request_free(req);
}

void api_submit(struct api_request *req, enum view_topic topic, const char *key,
                const ProtobufCMessage *record,
                void (*done)(struct api_request *req, enum verdict verdict))
{
    struct bytes packed;
    bytes_init(&packed, API_RECORD_MAX);
    message_pack(&packed, record);
    req->done = done;
    req->submit.data = req;
    int rc = bytes_error(&packed);
    if (rc == 0) {
        /* Every fold that the API writes to discards what comes twice. */
        rc = views_submit(req->api->node->views, topic, key, packed.data, packed.len, &req->submit,
                          on_folded);
    }
    bytes_close(&packed);
    if (rc != 0) {
        api_failed(req->ex, rc, "log");
        api_request_free(req);
        return;
    }
    http_on_abort(req->ex, on_abort, req);
}
