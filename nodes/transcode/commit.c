#include "nodes/transcode/commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "views/lifecycle.h"

/* A put that found too few nodes is tried again: to begin anew elsewhere would cost all that this
 * worker has done, and where nodes are slow it would meet the same ones (decision 0382). */
#define STORE_TRIES 4
#define AGAIN_US    250000

struct commit {
    struct list link; /* in its lane, until the record has left */
    struct commits *commits;
    size_t bytes;
    uint64_t begun_ns;
    bool stored, waits;            /* waits: to be stored again */
    Weir__LifecycleRecord *record; /* owned */
    struct http_body *body;        /* until it is stored */
    uint64_t position;
    unsigned tries;
    char object[COMMIT_OBJECT_MAX];
    /* For a record whose acknowledgement got lost: has it been folded already? */
    uint32_t rendition, part;
    uint64_t msn;
    bool is_part, is_start;
    struct view_submit submit;
};

struct commits {
    struct node *node;
    char *channel;
    int64_t worker_epoch;
    struct commits_events events;
    struct list lanes[COMMIT_LANES];
    size_t bytes;
    unsigned in_flight; /* stores and submits whose callbacks will come */
    unsigned n;
    bool freed, again_set;
    struct env_timer again;
    struct metric *parts;
    struct metric_histogram *latency;
};

int commits_new(struct node *node, const char *channel, int64_t worker_epoch,
                const struct commits_events *events, struct commits **ret_commits)
{
    struct commits *c = calloc(1, sizeof(*c));
    if (c == NULL || (c->channel = strdup(channel)) == NULL ||
        env_timer_init(node->env, &c->again) != 0) {
        free(c != NULL ? c->channel : NULL);
        free(c);
        return WEIR_ENOMEM;
    }
    c->again.data = c;
    c->node = node;
    c->worker_epoch = worker_epoch;
    c->events = *events;
    for (unsigned i = 0; i < COMMIT_LANES; i++) {
        list_init(&c->lanes[i]);
    }
    c->parts = metric_counter("weir_transcode_parts_total", "", "Parts committed by this node.");
    c->latency = metric_histogram("weir_transcode_commit_us", "",
                                  "From a part's last byte to its record in this node's view.");
    *ret_commits = c;
    return 0;
}

static void commit_free(struct commit *m)
{
    if (m->record != NULL) {
        weir__lifecycle_record__free_unpacked(m->record, NULL);
    }
    http_body_unref(m->body);
    free(m);
}

static void commits_release(struct commits *c)
{
    if (c->freed && c->in_flight == 0) {
        free(c->channel);
        free(c);
    }
}

void commits_free(struct commits *c)
{
    if (c == NULL) {
        return;
    }
    c->freed = true;
    env_timer_close(&c->again);
    for (unsigned i = 0; i < COMMIT_LANES; i++) {
        /* Those that are being stored free themselves. */
        LIST_FOREACH_SAFE(it, next, &c->lanes[i])
        {
            struct commit *m = list_entry(it, struct commit, link);
            list_remove(it);
            if (m->stored || m->waits) {
                commit_free(m);
            }
        }
    }
    commits_release(c);
}

size_t commits_bytes(const struct commits *c)
{
    return c->bytes;
}

bool commits_idle(const struct commits *c)
{
    return c->n == 0;
}

static void fail(struct commits *c, int status, const char *text)
{
    if (!c->freed) {
        c->events.failed(c->events.data, status, text);
    }
}

/* --- The record
 * -------------------------------------------------------------------------------------------------
 */

/* Was it this record that counted, at an earlier offset? A produce may be stored twice; the second
 * is out of order. */
static bool folded_before(const struct commit *m)
{
    const struct commits *c = m->commits;
    const struct lifecycle_channel *channel = lifecycle_live(c->node->views, c->channel);
    const struct lifecycle_rendition *r =
        channel != NULL ? lifecycle_rendition_by_id(channel, m->rendition) : NULL;
    if (r == NULL || channel->worker_epoch != c->worker_epoch ||
        r->worker_epoch != c->worker_epoch) {
        return false;
    }
    bool behind = r->next_msn > m->msn || (r->next_msn == m->msn && r->next_part > m->part);
    return m->is_start || (m->is_part && behind);
}

static void on_folded(struct view_submit *submit, int status, enum verdict verdict)
{
    struct commit *m = submit->data;
    struct commits *c = m->commits;
    c->in_flight--;
    c->n--;
    c->bytes -= m->bytes;
    if (c->freed) {
        commit_free(m);
        commits_release(c);
        return;
    }
    bool done = (status == 0 && verdict == VERDICT_OK) || folded_before(m);
    if (done && m->is_part) {
        metric_add(c->parts, 1);
        metric_observe_us(c->latency, (env_now_ns(c->node->env) - m->begun_ns) / 1000);
    }
    commit_free(m);
    if (done) {
        c->events.done(c->events.data);
    } else if (status != 0) {
        fail(c, status, error_name(status));
    } else {
        fail(c, verdict == VERDICT_FENCED ? WEIR_EFENCED : WEIR_EPROTO, verdict_name(verdict));
    }
}

static int submit(struct commits *c, struct commit *m)
{
    size_t len = weir__lifecycle_record__get_packed_size(m->record);
    uint8_t *packed = malloc(len);
    if (packed == NULL) {
        return WEIR_ENOMEM;
    }
    weir__lifecycle_record__pack(m->record, packed);
    m->submit.data = m;
    int rc = views_submit(c->node->views, VIEW_LIFECYCLE, c->channel, packed, len, &m->submit,
                          on_folded);
    free(packed);
    if (rc == 0) {
        list_remove(&m->link);
        c->in_flight++;
    }
    return rc;
}

/* Sends the records that may leave. */
static void advance(struct commits *c, unsigned lane)
{
    while (!list_empty(&c->lanes[lane])) {
        struct commit *m = list_entry(c->lanes[lane].next, struct commit, link);
        if (!m->stored) {
            return;
        }
        int rc = submit(c, m);
        if (rc < 0) {
            fail(c, rc, error_name(rc));
            return;
        }
    }
}

/* --- The bytes
 * --------------------------------------------------------------------------------------------------
 */

static int set_nodes(struct commit *m, const char *const *nodes, unsigned n)
{
    char **copy = calloc(n, sizeof(*copy));
    if (copy == NULL) {
        return WEIR_ENOMEM;
    }
    /* Part of the record from here on: it frees them. */
    switch (m->record->body_case) {
    case WEIR__LIFECYCLE_RECORD__BODY_RENDITION_START:
        m->record->rendition_start->init_nodes = copy;
        m->record->rendition_start->n_init_nodes = n;
        break;
    case WEIR__LIFECYCLE_RECORD__BODY_PART_COMMITTED:
        m->record->part_committed->nodes = copy;
        m->record->part_committed->n_nodes = n;
        break;
    default:
        m->record->thumbnail->nodes = copy;
        m->record->thumbnail->n_nodes = n;
    }
    for (unsigned i = 0; i < n; i++) {
        copy[i] = strdup(nodes[i]);
        if (copy[i] == NULL) {
            return WEIR_ENOMEM;
        }
    }
    return 0;
}

static unsigned lane_of(const struct commit *m)
{
    return m->is_part || m->is_start ? m->rendition : COMMIT_THUMBNAILS;
}

static void on_stored(void *data, int status, const char *const *nodes, unsigned n);

static int store(struct commit *m, struct error *err)
{
    struct commits *c = m->commits;
    int rc =
        store_replicate(c->node->store_cluster, m->object, m->position, m->body, on_stored, m, err);
    c->in_flight += rc == 0;
    m->tries++;
    return rc;
}

static void on_again(struct env_timer *timer)
{
    struct commits *c = timer->data;
    c->again_set = false;
    for (unsigned lane = 0; lane < COMMIT_LANES; lane++) {
        LIST_FOREACH(it, &c->lanes[lane])
        {
            struct commit *m = list_entry(it, struct commit, link);
            struct error err = {0};
            int rc = m->waits ? store(m, &err) : 0;
            if (rc < 0) {
                fail(c, rc, err.text);
                return;
            }
            m->waits = false;
        }
    }
}

static void store_again(struct commit *m)
{
    struct commits *c = m->commits;
    m->waits = true;
    if (!c->again_set) {
        c->again_set = true;
        env_timer_start(&c->again, AGAIN_US, on_again);
    }
}

static void on_stored(void *data, int status, const char *const *nodes, unsigned n)
{
    struct commit *m = data;
    struct commits *c = m->commits;
    c->in_flight--;
    if (c->freed) {
        commit_free(m);
        commits_release(c);
        return;
    }
    if (status == WEIR_EUNAVAILABLE && m->tries < STORE_TRIES) {
        store_again(m);
        return;
    }
    m->stored = true;
    http_body_unref(m->body);
    m->body = NULL;
    int rc = status < 0 ? status : set_nodes(m, nodes, n);
    if (rc < 0) {
        fail(c, rc, "storing");
        return;
    }
    advance(c, lane_of(m));
}

/* Packs and unpacks: a copy that owns all it points to. */
static Weir__LifecycleRecord *record_copy(const struct commits *c,
                                          const Weir__LifecycleRecord *record)
{
    Weir__LifecycleRecord named = *record;
    named.channel = c->channel;
    size_t len = weir__lifecycle_record__get_packed_size(&named);
    uint8_t *packed = malloc(len);
    if (packed == NULL) {
        return NULL;
    }
    weir__lifecycle_record__pack(&named, packed);
    Weir__LifecycleRecord *copy = weir__lifecycle_record__unpack(NULL, len, packed);
    free(packed);
    return copy;
}

static void describe(struct commit *m)
{
    const Weir__LifecycleRecord *r = m->record;
    m->is_start = r->body_case == WEIR__LIFECYCLE_RECORD__BODY_RENDITION_START;
    m->is_part = r->body_case == WEIR__LIFECYCLE_RECORD__BODY_PART_COMMITTED;
    if (m->is_start) {
        m->rendition = r->rendition_start->rendition;
    } else if (m->is_part) {
        m->rendition = r->part_committed->rendition;
        m->msn = r->part_committed->msn;
        m->part = r->part_committed->part;
    }
}

int commits_add(struct commits *c, unsigned lane, const char *object, uint64_t position,
                const uint8_t *bytes, size_t len, const Weir__LifecycleRecord *record,
                struct error *err)
{
    struct commit *m = calloc(1, sizeof(*m));
    struct http_body *body = http_body_copy(bytes, len);
    if (m != NULL) {
        m->commits = c;
        m->bytes = len;
        m->begun_ns = env_now_ns(c->node->env);
        m->record = record_copy(c, record);
        m->body = body;
        m->position = position;
        (void)snprintf(m->object, sizeof(m->object), "%s", object);
    }
    int rc = 0;
    if (m == NULL || m->record == NULL || body == NULL) {
        rc = error_set(err, WEIR_ENOMEM, "commit of %zu bytes", len);
    } else {
        describe(m);
        rc = store(m, err);
    }
    if (rc < 0 && m != NULL) {
        commit_free(m);
    } else if (rc < 0) {
        http_body_unref(body);
    }
    if (rc < 0) {
        return rc;
    }
    c->n++;
    c->bytes += len;
    list_push_back(&c->lanes[lane], &m->link);
    return 0;
}
