/* Equal state at equal offsets, proven: BLAKE2b-256 over le32 length, key, le32 length, value of
 * every key of a partition, in order. */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "views/priv.h"

#define HASH_SLICE_KEYS 4096

struct hash_job {
    struct view_cursor *cursor;
    crypto_generichash_state state;
    uint64_t keys;
};

static void hash_item(crypto_generichash_state *state, const uint8_t *data, size_t n)
{
    uint8_t len[4];
    store_le32(len, (uint32_t)n);
    crypto_generichash_update(state, len, sizeof(len));
    crypto_generichash_update(state, data, n);
}

static int job_open(struct views *views, const struct view_partition *p, struct hash_job *job)
{
    uint8_t prefix[VIEW_PREFIX_SIZE];
    view_prefix(prefix, p->topic, p->partition);
    job->keys = 0;
    job->cursor = view_cursor_new(views->store, prefix, sizeof(prefix));
    if (job->cursor == NULL) {
        return WEIR_ENOMEM;
    }
    crypto_generichash_init(&job->state, NULL, 0, 32);
    view_cursor_seek(job->cursor, prefix, sizeof(prefix), false);
    return 0;
}

/* Up to n keys; true: at the end (or in error). */
static bool job_step(struct hash_job *job, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        size_t len = 0;
        if (!view_cursor_valid(job->cursor)) {
            return true;
        }
        const uint8_t *key = view_cursor_key(job->cursor, &len);
        hash_item(&job->state, key, len);
        const uint8_t *value = view_cursor_value(job->cursor, &len);
        hash_item(&job->state, value, len);
        job->keys++;
        view_cursor_step(job->cursor, false);
    }
    return false;
}

static int job_close(struct hash_job *job, uint8_t ret_hash[32], struct error *err)
{
    int rc = view_cursor_error(job->cursor, err);
    crypto_generichash_final(&job->state, ret_hash, 32);
    view_cursor_free(job->cursor);
    return rc;
}

int views_hash(struct views *views, enum view_topic topic, uint32_t partition, uint8_t ret_hash[32],
               struct error *err)
{
    struct hash_job job;
    const struct view_partition *p = view_partition_get(views, topic, partition);
    if (p == NULL || views->store == NULL) {
        return error_set(err, WEIR_EUNAVAILABLE, "views: no partition %u of topic %s", partition,
                         view_topic_names[topic]);
    }
    int rc = job_open(views, p, &job);
    if (rc != 0) {
        return error_set(err, rc, "views: hash");
    }
    while (!job_step(&job, HASH_SLICE_KEYS)) {}
    return job_close(&job, ret_hash, err);
}

static void hash_finish(struct view_hash *req, int status)
{
    struct hash_job *job = req->impl;
    int rc = job_close(job, req->hash, NULL);
    req->keys = job->keys;
    req->impl = NULL;
    free(job);
    req->cb(req, status == 0 ? rc : status);
}

static void hash_on_timer(struct env_timer *timer)
{
    struct views *views = timer->data;
    struct list *it = list_pop(&views->hashes);
    if (it == NULL) {
        return;
    }
    struct view_hash *req = list_entry(it, struct view_hash, link);
    bool done = job_step(req->impl, HASH_SLICE_KEYS);
    if (!done) {
        list_push_back(&views->hashes, it);
    }
    if (!done || !list_empty(&views->hashes)) {
        env_timer_start(timer, 0, hash_on_timer);
    }
    if (done) {
        hash_finish(req, 0);
    }
}

int views_hash_start(struct views *views, enum view_topic topic, uint32_t partition,
                     struct view_hash *req, view_hash_cb cb)
{
    const struct view_partition *p = view_partition_get(views, topic, partition);
    if (p == NULL || views->store == NULL || views->closing) {
        return WEIR_EUNAVAILABLE;
    }
    struct hash_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return WEIR_ENOMEM;
    }
    int rc = job_open(views, p, job);
    if (rc != 0) {
        free(job);
        return rc;
    }
    req->cb = cb;
    req->impl = job;
    req->offset = p->next;
    list_push_back(&views->hashes, &req->link);
    views->hash_timer.data = views;
    env_timer_start(&views->hash_timer, 0, hash_on_timer);
    return 0;
}

void hash_fail_all(struct views *views, int status)
{
    struct list all;
    list_init(&all);
    list_move_all(&all, &views->hashes);
    for (struct list *it = list_pop(&all); it != NULL; it = list_pop(&all)) {
        hash_finish(list_entry(it, struct view_hash, link), status);
    }
}
