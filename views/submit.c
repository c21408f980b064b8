/* Read your own writes: produce, then wait until this node has folded it. */
#include <string.h>

#include "base/logging.h"
#include "views/priv.h"

static struct view_submit *submit_of(struct list *link)
{
    return list_entry(link, struct view_submit, link);
}

static void submit_finish(struct view_submit *req, struct view_partition *p)
{
    if (req->offset < p->verdicts_from) { /* folded so long ago that the verdict is gone */
        req->cb(req, WEIR_EUNKNOWN, VERDICT_OK);
        return;
    }
    req->cb(req, 0, (enum verdict)p->verdicts[req->offset & (VIEW_VERDICTS - 1)]);
}

void submit_folded(struct view_partition *p)
{
    struct list done;
    list_init(&done);
    LIST_FOREACH_SAFE(it, next, &p->waiting)
    {
        if (submit_of(it)->offset < p->next) {
            list_remove(it);
            list_push_back(&done, it);
        }
    }
    for (struct list *it = list_pop(&done); it != NULL; it = list_pop(&done)) {
        submit_finish(submit_of(it), p);
    }
}

static void submit_on_produced(struct weir_produce *produce, int status)
{
    struct view_submit *req = produce->data;
    struct views *views = req->views;
    struct view_partition *p =
        status == 0 ? view_partition_get(views, (enum view_topic)req->topic, produce->partition)
                    : NULL;
    req->partition = produce->partition;
    req->offset = produce->offset;
    if (p == NULL || views->closing) {
        req->cb(req, status == 0 ? WEIR_EUNKNOWN : status, VERDICT_OK);
    } else if (req->offset < p->next) {
        submit_finish(req, p);
    } else {
        req->deadline_ns = env_now_ns(views->env) + VIEWS_SUBMIT_FOLD_MS * 1000000ull;
        list_push_back(&p->waiting, &req->link);
    }
    views_client_done(views);
}

int views_submit(struct views *views, enum view_topic topic, const char *key, const void *value,
                 size_t len, struct view_submit *req, view_submit_cb cb)
{
    if (views->client == NULL || views->closing) {
        return WEIR_ECLOSED;
    }
    req->cb = cb;
    req->views = views;
    req->topic = topic;
    req->produce.data = req;
    list_init(&req->link);
    int rc = weir_produce(views->client, view_topic_names[topic], WEIR_PARTITION_BY_KEY, key,
                          strlen(key), value, len, &req->produce, submit_on_produced);
    if (rc == 0) {
        views->in_client++;
    }
    return rc;
}

static void submit_collect(struct views *views, uint64_t deadline_ns, struct list *out)
{
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        for (uint32_t i = 0; i < views->view[t].n_partitions; i++) {
            LIST_FOREACH_SAFE(it, next, &views->view[t].partitions[i].waiting)
            {
                if (submit_of(it)->deadline_ns <= deadline_ns) {
                    list_remove(it);
                    list_push_back(out, it);
                }
            }
        }
    }
}

static void submit_fail(struct views *views, uint64_t deadline_ns, int status)
{
    struct list late;
    list_init(&late);
    submit_collect(views, deadline_ns, &late);
    for (struct list *it = list_pop(&late); it != NULL; it = list_pop(&late)) {
        submit_of(it)->cb(submit_of(it), status, VERDICT_OK);
    }
}

void submit_tick(struct views *views)
{
    submit_fail(views, env_now_ns(views->env), WEIR_EUNKNOWN);
}

void submit_fail_all(struct views *views, int status)
{
    submit_fail(views, UINT64_MAX, status);
}
