/* One object of this node, made whole: looked at, read when that is due, what is missing fetched.
 *
 *   look -> read (a scrub, or it is in doubt) -> fill what is missing -> trusted
 *                                             -> not ours, and others have it: removed (a scrub)
 *
 * Objects are whole from their beginning to the last byte that is to be here, also where parts in
 * between are others' to hold: a file then has no holes, and its size says all (media/store.h). */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/logging.h"
#include "nodes/copies/copies_priv.h"

#define ROOM_US 10000u

static struct copies *copies_of(const struct job *j)
{
    return j->round->copies;
}

/* --- What there is to do --- */

static struct job *job_new(struct round *r, const char *object, unsigned n_pieces)
{
    struct job *j = calloc(1, sizeof(*j));
    if (j == NULL || (j->pieces = calloc(n_pieces, sizeof(*j->pieces))) == NULL ||
        env_timer_init(r->copies->node->env, &j->timer) != 0) {
        free(j != NULL ? j->pieces : NULL);
        free(j);
        return NULL;
    }
    j->round = r;
    j->timer.data = j;
    memcpy(j->object, object, strlen(object) + 1);
    return j;
}

void job_free(struct job *j)
{
    copies_of(j)->bytes_held -= j->bytes_held;
    env_timer_close(&j->timer);
    http_body_unref(j->body);
    free(j->pieces);
    free(j);
}

static store_nodes nodes_named(const struct config *config, const char *const *names, unsigned n)
{
    store_nodes named = 0;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        for (unsigned k = 0; k < n; k++) {
            named |= strcmp(config->nodes[i].name, names[k]) == 0 ? (store_nodes)1 << i : 0;
        }
    }
    return named;
}

static void place_piece(struct job *j, struct piece *p, const char *const *nodes, unsigned n)
{
    const struct copies *c = copies_of(j);
    p->named = nodes_named(c->config, nodes, n);
    p->holders =
        store_place(c->config, c->members.able, c->config->media_replicas, j->object, nodes, n);
    p->wanted = (p->holders >> c->self & 1) != 0;
}

/* Up to the last one that is to be here, all are. */
static void want_prefix(struct job *j)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < j->n_pieces; i++) {
        const struct piece *p = &j->pieces[i];
        end = p->wanted && p->position + p->size > end ? p->position + p->size : end;
    }
    j->surplus = end == 0;
    for (unsigned i = 0; i < j->n_pieces; i++) {
        struct piece *p = &j->pieces[i];
        p->wanted = p->position + p->size <= end;
    }
}

struct job *job_of_object(struct round *r, const struct lifecycle_object *o)
{
    struct job *j = job_new(r, o->name, 1);
    if (j == NULL) {
        return NULL;
    }
    const char *nodes[LIFECYCLE_NODES_MAX];
    for (unsigned i = 0; i < o->n_nodes; i++) {
        nodes[i] = o->nodes[i];
    }
    j->pieces[0] = (struct piece){.position = o->position,
                                  .size = (uint32_t)o->size,
                                  .has_crc = o->has_crc,
                                  .crc32c = o->crc32c};
    j->n_pieces = 1;
    place_piece(j, &j->pieces[0], nodes, o->n_nodes);
    want_prefix(j);
    return j;
}

struct job *job_of_segment(struct round *r, const struct lifecycle_segment *s, const char *object)
{
    struct job *j = job_new(r, object, s->n_parts);
    for (unsigned i = 0; j != NULL && i < s->n_parts; i++) {
        const struct lifecycle_part *part = &s->parts[i];
        const struct lifecycle_extent *x = &s->extents[part->extent];
        if (strcmp(x->object, object) != 0) {
            continue;
        }
        struct piece *p = &j->pieces[j->n_pieces++];
        *p = (struct piece){.position = part->position,
                            .size = part->size,
                            .has_crc = true,
                            .crc32c = part->crc32c};
        place_piece(j, p, x->nodes, x->n_nodes);
    }
    if (j != NULL) {
        want_prefix(j);
        j->grows = !s->complete;
    }
    return j;
}

/* --- Steps --- */

static void read_next(struct job *j);
static void fill_next(struct job *j);
static void compare_next(struct job *j);

static void job_end(struct env_timer *timer)
{
    round_job_done(timer->data);
}

/* Steps go on from the loop, never from inside the call that began them. */
static void job_wait(struct job *j, uint64_t us, env_timer_cb cb)
{
    j->waits = true;
    env_timer_start(&j->timer, us, cb);
}

static void job_end_later(struct job *j, bool failed)
{
    j->failed = j->failed || failed;
    job_wait(j, 0, job_end);
}

bool job_cancel(struct job *j)
{
    if (j->waits) {
        round_job_done(j);
        return true;
    }
    return false;
}

/* Parts are small, as a rule; they may have 64 MiB. False: when others have let go of theirs. */
static bool job_takes(struct job *j, uint32_t bytes, env_timer_cb again)
{
    struct copies *c = copies_of(j);
    if (c->bytes_held > 0 && c->bytes_held + bytes > COPIES_BYTES_MAX) {
        job_wait(j, ROOM_US, again);
        return false;
    }
    c->bytes_held += bytes;
    j->bytes_held = bytes;
    return true;
}

static void job_let_go(struct job *j)
{
    copies_of(j)->bytes_held -= j->bytes_held;
    j->bytes_held = 0;
}

static uint64_t piece_end(const struct piece *p)
{
    return p->position + p->size;
}

static bool piece_good(const struct piece *p, const struct http_body *body)
{
    return body != NULL && body->len == p->size &&
           (!p->has_crc || crc32c(0, body->data, body->len) == p->crc32c);
}

/* A segment that grows may be getting a part right now that is not known yet, behind a gap. */
static void job_trust(struct job *j)
{
    struct error err = {0};
    bool doubt = j->look.doubt || j->filled;
    if (doubt && !j->failed && !j->grows &&
        store_trust(copies_of(j)->node->store, j->object, &err) != 0) {
        log_warn("copies_trust_failed", "object=%s error=" LOG_Q, j->object, err.text);
    }
    job_end_later(j, false);
}

static void job_known(struct job *j)
{
    bool missing = false;
    for (unsigned i = 0; i < j->n_pieces; i++) {
        missing = missing || j->pieces[i].missing;
    }
    j->at = 0;
    if (missing) {
        fill_next(j);
    } else if (j->surplus) {
        compare_next(j);
    } else {
        job_trust(j);
    }
}

/* --- Look, and read --- */

static void on_looked(struct store_look *look, int status)
{
    struct job *j = look->data;
    bool scrub = j->round->kind == ROUND_SCRUB;
    if (copies_of(j)->stopping || (status != 0 && status != WEIR_ENOTFOUND)) {
        job_end_later(j, true);
        return;
    }
    if (j->surplus && (!scrub || look->size == 0)) {
        job_end_later(j, false);
        return;
    }
    for (unsigned i = 0; i < j->n_pieces; i++) {
        struct piece *p = &j->pieces[i];
        p->wanted = p->wanted || (look->doubt && !j->surplus && piece_end(p) <= look->size);
        p->missing = p->wanted && (piece_end(p) > look->size || (look->doubt && !p->has_crc));
    }
    if (scrub || look->doubt) {
        read_next(j);
    } else {
        job_known(j);
    }
}

static void on_read(void *data, int status, struct http_body *body)
{
    struct job *j = data;
    struct copies *c = copies_of(j);
    struct piece *p = &j->pieces[j->at++];
    job_let_go(j);
    if (c->stopping) {
        round_job_done(j);
        return;
    }
    metric_add(c->scrubbed_bytes, p->size);
    if (status != 0 && status != WEIR_EIO) {
        j->failed = true; /* it is being written, or memory is short: the next round sees */
    } else if (!piece_good(p, body)) {
        p->missing = p->wanted;
        if (!j->look.doubt) {
            j->damaged = true;
            metric_add(c->bad, 1);
            log_warn("copies_bad", "object=%s position=%" PRIu64 " size=%u error=\"%s\"", j->object,
                     p->position, p->size, error_name(status != 0 ? status : WEIR_ECORRUPT));
        }
    }
    read_next(j);
}

static void read_now(struct env_timer *timer)
{
    struct job *j = timer->data;
    const struct piece *p = &j->pieces[j->at];
    if (!job_takes(j, p->size, read_now)) {
        return;
    }
    j->waits = false;
    if (store_get_quiet(copies_of(j)->node->store, j->object, p->position, p->size, on_read, j,
                        NULL) != 0) {
        job_end_later(j, true);
    }
}

static void read_next(struct job *j)
{
    struct copies *c = copies_of(j);
    while (j->at < j->n_pieces &&
           (piece_end(&j->pieces[j->at]) > j->look.size || !j->pieces[j->at].has_crc)) {
        j->at++;
    }
    if (j->at == j->n_pieces) {
        job_known(j);
        return;
    }
    uint32_t size = j->pieces[j->at].size;
    bool scrub = j->round->kind == ROUND_SCRUB;
    job_wait(j,
             scrub ? copies_pace_us(c, &j->round->read_free_ns, c->config->media_scrub_mib_s, size)
                   : copies_pace_us(c, &c->repair_free_ns, c->config->media_repair_mib_s, size),
             read_now);
}

/* --- Fill --- */

static void on_put(void *data, int status)
{
    struct job *j = data;
    struct copies *c = copies_of(j);
    struct piece *p = &j->pieces[j->at++];
    http_body_unref(j->body);
    j->body = NULL;
    job_let_go(j);
    if (status == 0) {
        p->missing = false;
        j->filled = true;
        metric_add(c->made, 1);
        metric_add(c->made_bytes, p->size);
    }
    j->round->no_space = j->round->no_space || status == WEIR_ENOSPC;
    if (c->stopping) {
        round_job_done(j);
    } else {
        fill_next(j);
    }
}

static void on_fetched(void *data, int status, struct http_body *body)
{
    struct job *j = data;
    struct copies *c = copies_of(j);
    struct piece *p = &j->pieces[j->at];
    if (c->stopping) {
        round_job_done(j);
        return;
    }
    if (status != 0) {
        job_let_go(j);
        j->at++; /* who has it may be back in the next round */
        fill_next(j);
        return;
    }
    j->body = http_body_ref(body);
    int rc = store_put_quiet(c->node->store, j->object, p->position, j->body, on_put, j, NULL);
    if (rc != 0) {
        j->round->no_space = j->round->no_space || rc == WEIR_ENOSPC;
        job_end_later(j, true);
    }
}

static int fetch_piece(struct job *j, const struct piece *p, store_nodes nodes, const char *only,
                       store_get_cb cb)
{
    const struct config *config = copies_of(j)->config;
    const char *names[CONFIG_NODES_MAX];
    unsigned n = 0;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        if ((nodes >> i & 1) != 0) {
            names[n++] = config->nodes[i].name;
        }
    }
    const struct store_range range = {.object = j->object,
                                      .position = p->position,
                                      .size = p->size,
                                      .has_crc = p->has_crc,
                                      .crc32c = p->crc32c,
                                      .nodes = names,
                                      .n_nodes = n,
                                      .quiet = true,
                                      .only = only};
    return store_fetch(copies_of(j)->node->store_cluster, &range, cb, j, NULL);
}

/* The doubt is there before the first byte is: a node that dies on the way does not come back to a
 * file that only looks whole. */
static void fill_now(struct env_timer *timer)
{
    struct job *j = timer->data;
    const struct piece *p = &j->pieces[j->at];
    struct error err = {0};
    int rc = 0;
    if (!job_takes(j, p->size, fill_now)) {
        return;
    }
    j->waits = false;
    if (!j->look.doubt) {
        rc = store_doubt(copies_of(j)->node->store, j->object, &err);
        j->look.doubt = rc == 0;
    }
    rc = rc == 0 ? fetch_piece(j, p, p->named | p->holders, NULL, on_fetched) : rc;
    if (rc != 0) {
        job_end_later(j, true);
    }
}

static void fill_next(struct job *j)
{
    struct copies *c = copies_of(j);
    bool all = true;
    for (unsigned i = 0; i < j->at && i < j->n_pieces; i++) {
        all = all && !j->pieces[i].missing;
    }
    while (j->at < j->n_pieces && !j->pieces[j->at].missing) {
        j->at++;
    }
    if (j->at < j->n_pieces) {
        uint64_t us = copies_pace_us(c, &c->repair_free_ns, c->config->media_repair_mib_s,
                                     j->pieces[j->at].size);
        job_wait(j, us, fill_now);
    } else if (all) {
        job_trust(j);
    } else {
        job_end_later(j, false);
    }
}

/* --- A copy that is not this node's to hold: removed when all who are to have just given every
 * byte of it --- */

static bool may_remove(const struct job *j)
{
    const struct copies *c = copies_of(j);
    uint64_t steady_ns = env_now_ns(c->node->env) - c->members.since_ns;
    unsigned n_able = (unsigned)__builtin_popcount(c->members.able);
    unsigned copies = c->config->media_replicas < n_able ? c->config->media_replicas : n_able;
    bool may = !j->grows && !j->failed && (c->members.able >> c->self & 1) != 0 &&
               steady_ns >= c->config->media_lost_ms * 1000000ull;
    for (unsigned i = 0; i < j->n_pieces; i++) {
        const struct piece *p = &j->pieces[i];
        may = may && p->has_crc && (unsigned)__builtin_popcount(p->holders) >= copies;
    }
    return may;
}

static void on_compared(void *data, int status, struct http_body *body)
{
    struct job *j = data;
    (void)body;
    job_let_go(j);
    if (copies_of(j)->stopping || status != 0) {
        job_end_later(j, false);
        return;
    }
    j->at++;
    compare_next(j);
}

/* at: piece by piece, and of each holder by holder. */
static void compare_now(struct env_timer *timer)
{
    struct job *j = timer->data;
    const struct config *config = copies_of(j)->config;
    const struct piece *p = &j->pieces[j->at / CONFIG_NODES_MAX];
    if (!job_takes(j, p->size, compare_now)) {
        return;
    }
    j->waits = false;
    const char *only = config->nodes[j->at % CONFIG_NODES_MAX].name;
    if (fetch_piece(j, p, p->holders, only, on_compared) != 0) {
        job_end_later(j, false);
    }
}

static void job_remove(struct job *j)
{
    struct copies *c = copies_of(j);
    struct error err = {0};
    if (store_remove(c->node->store, j->object, &err) == 0) {
        metric_add(c->removed, 1);
        log_info("copies_removed", "object=%s", j->object);
    } else {
        log_warn("copies_remove_failed", "object=%s error=" LOG_Q, j->object, err.text);
    }
    job_end_later(j, false);
}

static void compare_next(struct job *j)
{
    struct copies *c = copies_of(j);
    unsigned end = j->n_pieces * CONFIG_NODES_MAX;
    while (j->at < end &&
           (j->pieces[j->at / CONFIG_NODES_MAX].holders >> j->at % CONFIG_NODES_MAX & 1) == 0) {
        j->at++;
    }
    if (!may_remove(j)) {
        job_end_later(j, false);
    } else if (j->at < end) {
        uint32_t size = j->pieces[j->at / CONFIG_NODES_MAX].size;
        job_wait(j, copies_pace_us(c, &j->round->read_free_ns, c->config->media_scrub_mib_s, size),
                 compare_now);
    } else {
        job_remove(j);
    }
}

void job_start(struct job *j)
{
    j->look.data = j;
    if (store_look_start(copies_of(j)->node->store, j->object, &j->look, on_looked) != 0) {
        job_end_later(j, true);
    }
}
