/* A walk over all objects that the log names, a page at a time, a few jobs at a time. */
#include <inttypes.h>
#include <string.h>

#include "base/logging.h"
#include "nodes/copies/copies_priv.h"

#define PAGE_KEYS   32
#define LOOK_JOBS   4 /* live parts want env's io threads, too */
#define LOOK_FIRST  500000u
#define SCRUB_FIRST 60000000u
#define SCRUB_REST  3600000000ull
/* A look takes at most a quarter of the time while it goes, and a twentieth with its rests; what is
 * fetched has a limit of its own. */
#define PAGE_REST    3
#define LOOK_RESTS   20
#define LOOK_REST_US 2000000u
#define REST_US_MAX  3600000000ull

static void on_timer(struct env_timer *timer);

static uint64_t since_us(const struct round *r, uint64_t from_ns)
{
    return (env_now_ns(r->copies->node->env) - from_ns) / 1000;
}

/* The first scrub begins anywhere: nodes that are restarted often would else never come to the end.
 */
static struct lifecycle_place anywhere(const struct copies *c)
{
    uint32_t n = views_partitions(c->node->views, VIEW_LIFECYCLE);
    uint64_t random = env_random_u64(c->node->env);
    return lifecycle_place_from(n > 0 ? (uint32_t)(random >> 32) % n : 0,
                                (char)('a' + random % 26));
}

static void round_begin(struct round *r)
{
    struct copies *c = r->copies;
    (void)members_changed(c);
    bool first = r->begun_ns == 0;
    r->place = first && r->kind == ROUND_SCRUB ? anywhere(c) : (struct lifecycle_place){0};
    r->running = true;
    r->more = true;
    r->no_space = false;
    r->begun_ns = env_now_ns(c->node->env);
    r->members_hash = c->members.hash;
    r->offset = copies_offset(c);
    r->n_objects = r->n_missing = r->n_made = r->n_bad = 0;
}

static void look_ended(struct round *r)
{
    struct copies *c = r->copies;
    c->looked = true;
    c->looked_hash = r->members_hash;
    c->looked_offset = r->offset;
    c->n_missing = r->n_missing;
    metric_set(c->missing, (int64_t)r->n_missing);
    metric_set(c->whole, r->n_missing == 0 && r->members_hash == c->members.hash);
    metric_add(c->looks, 1);
}

static uint64_t rest_us(const struct round *r)
{
    const struct copies *c = r->copies;
    if (r->kind == ROUND_SCRUB) {
        return SCRUB_REST;
    }
    if (c->members.hash != r->members_hash) {
        return 0;
    }
    /* While there is much to do the view may be far from what the log says, too. */
    uint64_t us = r->n_made > 0 ? 0 : LOOK_RESTS * since_us(r, r->begun_ns);
    us = us > LOOK_REST_US ? us : LOOK_REST_US;
    return us < REST_US_MAX ? us : REST_US_MAX;
}

static void round_end(struct round *r)
{
    struct copies *c = r->copies;
    r->running = false;
    /* What is lost for good is said once. */
    if (r->n_made + r->n_bad > 0 || r->n_missing != c->n_missing || r->kind == ROUND_SCRUB) {
        log_event(r->n_missing + r->n_bad > 0 ? LOG_WARN : LOG_INFO,
                  r->kind == ROUND_LOOK ? "copies_looked" : "copies_scrubbed",
                  "objects=%" PRIu64 " made=%" PRIu64 " bad=%" PRIu64 " missing=%" PRIu64 "%s",
                  r->n_objects, r->n_made, r->n_bad, r->n_missing,
                  r->no_space ? " reason=\"no space left\"" : "");
    }
    if (r->kind == ROUND_LOOK) {
        look_ended(r);
    } else {
        metric_add(c->scrubs, 1);
    }
    env_timer_start(&r->timer, rest_us(r), on_timer);
}

/* --- Pages --- */

static int add(struct round *r, struct job *j)
{
    if (j == NULL) {
        return WEIR_ENOMEM;
    }
    list_push_back(&r->queue, &j->link);
    return 0;
}

/* A job for each object; a segment has more than one where a worker took over in its middle. */
static int add_segment(struct round *r, const struct lifecycle_segment *s)
{
    int rc = 0;
    for (unsigned i = 0; i < s->n_extents && rc == 0; i++) {
        bool seen = false;
        for (unsigned k = 0; k < i; k++) {
            seen = seen || strcmp(s->extents[k].object, s->extents[i].object) == 0;
        }
        rc = seen ? 0 : add(r, job_of_segment(r, s, s->extents[i].object));
    }
    return rc;
}

static int add_stored(void *data, const struct lifecycle_stored *stored)
{
    struct round *r = data;
    return stored->segment != NULL ? add_segment(r, stored->segment)
                                   : add(r, job_of_object(r, stored->object));
}

static void drop_queue(struct round *r)
{
    for (struct list *it; (it = list_pop(&r->queue)) != NULL;) {
        job_free(list_entry(it, struct job, link));
    }
}

static void page_begin(struct round *r)
{
    struct copies *c = r->copies;
    r->page_ns = env_now_ns(c->node->env);
    r->page_made = r->n_made;
    int rc = lifecycle_walk(c->node->views, &r->place, PAGE_KEYS, add_stored, r);
    r->more = rc == 1;
    if (rc < 0) {
        /* The rest is looked at in the next round. */
        log_warn("copies_walk_failed", "error=\"%s\"", error_name(rc));
        r->n_missing++;
    }
}

/* Jobs that may run are started; else the next page, after a rest, or the end. */
static void advance(struct round *r)
{
    while (r->n_running < r->n_running_max && !list_empty(&r->queue)) {
        struct job *j = list_entry(list_pop(&r->queue), struct job, link);
        r->n_running++;
        list_push_back(&r->jobs, &j->link);
        job_start(j);
    }
    if (r->n_running > 0) {
        return;
    }
    bool stale = r->kind == ROUND_LOOK && r->copies->members.hash != r->members_hash;
    if (r->more && !r->no_space && !stale) {
        bool rests = r->kind == ROUND_LOOK && r->n_made == r->page_made;
        uint64_t us = rests ? PAGE_REST * since_us(r, r->page_ns) : 0;
        env_timer_start(&r->timer, us, on_timer);
    } else {
        r->n_missing += r->more;
        round_end(r);
    }
}

static void on_timer(struct env_timer *timer)
{
    struct round *r = timer->data;
    if (!r->running) {
        round_begin(r);
    }
    page_begin(r);
    advance(r);
}

void round_job_done(struct job *j)
{
    struct round *r = j->round;
    struct copies *c = r->copies;
    unsigned n_missing = 0;
    for (unsigned i = 0; i < j->n_pieces; i++) {
        n_missing += j->pieces[i].wanted && j->pieces[i].missing;
    }
    if (j->filled || n_missing > 0) {
        metric_set(c->whole, 0); /* there may be more, until a look has come to its end */
    }
    r->n_objects++;
    r->n_missing += n_missing > 0 || j->failed;
    r->n_made += j->filled;
    r->n_bad += j->damaged;
    r->n_running--;
    list_remove(&j->link);
    job_free(j);
    if (c->stopping) {
        copies_stop_when_done(c);
    } else {
        advance(r);
    }
}

int round_open(struct copies *c, struct round *r, enum round_kind kind, struct error *err)
{
    r->copies = c;
    r->kind = kind;
    r->n_running_max = kind == ROUND_LOOK ? LOOK_JOBS : 1;
    list_init(&r->queue);
    list_init(&r->jobs);
    if (env_timer_init(c->node->env, &r->timer) != 0) {
        return error_set(err, WEIR_ENOMEM, "copies: out of memory");
    }
    r->timer.data = r;
    if (kind == ROUND_LOOK) {
        env_timer_start(&r->timer, LOOK_FIRST, on_timer);
    } else if (c->config->media_scrub_mib_s > 0) {
        env_timer_start(&r->timer, SCRUB_FIRST, on_timer);
    }
    return 0;
}

/* One that runs ends after its page, for it has begun with other members. */
void round_hurry(struct round *r)
{
    if (!r->running) {
        env_timer_start(&r->timer, 0, on_timer);
    }
}

void round_close(struct round *r)
{
    env_timer_close(&r->timer);
    drop_queue(r);
    LIST_FOREACH_SAFE(it, next, &r->jobs)
    {
        (void)job_cancel(list_entry(it, struct job, link));
    }
}
