/* Three brokers and a group's members while memory runs out, on every thread at any place: nothing
 * crashes, nothing that was acknowledged is lost, and all goes on when there is memory again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../nomem.h"
#include "base/logging.h"
#include "harness.h"

#define PARTITIONS 4
#define WANTED     400 /* records to be acknowledged at a time while memory is short */
#define INFLIGHT   64
/* Then there is memory again: what has failed comes back only then, and who is slow would have lost
 * two replicas of three before enough is acknowledged. */
#define FAILURES_MAX 400

static _Atomic unsigned period; /* one allocation in so many fails; 0: none */
static _Atomic unsigned count, n_failed, n_left;
static _Thread_local bool starved; /* every allocation of this thread fails */

static bool allocation_fails(void)
{
    unsigned p = period;
    bool failed = starved || (p > 0 && atomic_fetch_add(&count, 1) % p == p - 1);
    n_failed += failed;
    if (failed && p > 0 && atomic_fetch_sub(&n_left, 1) == 1) {
        period = 0;
    }
    return failed;
}

/* --- A producer that goes on --- */

struct record {
    struct weir_produce req;
    struct load *load;
    bool out;
};

struct load {
    struct weir_client *client;
    struct record records[INFLIGHT];
    unsigned n_out, n_acked, n_refused, wanted;
    uint8_t acked[PARTITIONS][1 << 16]; /* by offset */
    bool stop, enough, idle;
};

static void produce_more(struct load *l);

static void on_produced(struct weir_produce *req, int status)
{
    struct record *r = req->data;
    struct load *l = r->load;
    r->out = false;
    l->n_out--;
    if (status == 0) {
        assert_in_range(req->offset, 0, sizeof(l->acked[0]) - 1);
        assert_int_equal(l->acked[req->partition][req->offset], 0);
        l->acked[req->partition][req->offset] = 1;
        l->enough = ++l->n_acked >= l->wanted;
    } else {
        l->n_refused++;
    }
    l->idle = l->n_out == 0;
    produce_more(l);
}

static void produce_more(struct load *l)
{
    for (unsigned i = 0; i < INFLIGHT && !l->stop; i++) {
        struct record *r = &l->records[i];
        if (!r->out) {
            r->load = l;
            r->req.data = r;
            r->out = weir_produce(l->client, "many", i % PARTITIONS, NULL, 0, "value", 5, &r->req,
                                  on_produced) == 0;
            l->n_out += r->out;
            l->idle = l->n_out == 0;
        }
    }
}

/* --- Members --- */

struct member {
    struct weir_group *group;
    struct seen *seen;
    bool closed;
};

struct seen {
    struct load *load;
    uint8_t times[PARTITIONS][1 << 16];
    unsigned n_acked; /* of the acknowledged ones */
    bool all;
};

static void look(struct seen *s)
{
    s->n_acked = 0;
    for (unsigned p = 0; p < PARTITIONS; p++) {
        for (unsigned i = 0; i < 1u << 16; i++) {
            s->n_acked += s->times[p][i] && s->load->acked[p][i];
        }
    }
    s->all = s->n_acked == s->load->n_acked;
}

static void on_records(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                       const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct member *m = data;
    (void)g;
    (void)topic;
    (void)high_watermark;
    for (unsigned i = 0; i < n; i++) {
        m->seen->times[partition][records[i].offset.v] = 1;
    }
    if (m->seen->load->stop) {
        look(m->seen);
    }
}

static void on_failed(void *data, struct weir_group *g, int status, const char *text)
{
    (void)data;
    (void)g;
    fail_msg("the group failed: %d, %s", status, text);
}

static void on_closed(void *data)
{
    struct member *m = data;
    m->group = NULL;
    m->closed = true;
}

static void join(struct weir_client *client, struct member *m, struct seen *seen)
{
    static const char *const topics[] = {"many"};
    struct weir_group_options o = {
        .group = "g", .topics = topics, .n_topics = 1, .commit_ms = 20, .session_ms = 2000};
    struct weir_group_events events = {.data = m, .records = on_records, .failed = on_failed};
    struct error err = {0};
    *m = (struct member){.seen = seen};
    while (weir_group_join(client, &o, &events, &m->group, &err) != 0) {}
}

static void leave(struct harness *h, struct member *m)
{
    weir_group_close(m->group, on_closed, m);
    harness_run_until(h, &m->closed);
}

static void short_of_memory(unsigned one_in)
{
    struct harness h;
    struct load *l = calloc(1, sizeof(*l));
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member members[3];
    harness_open(&h, "log.topic = meta partitions=1\n");
    harness_until_founded(&h);
    struct weir_client *a = harness_client(&h, &(struct weir_client_options){0});
    struct weir_client *b = harness_client(&h, &(struct weir_client_options){0});
    seen->load = l;
    l->client = a;
    l->wanted = 200;
    produce_more(l);
    join(a, &members[0], seen);
    join(b, &members[1], seen);
    harness_run_until(&h, &l->enough);
    n_failed = 0;
    for (unsigned i = 0; i < 2 * HARNESS_NODES; i++) {
        l->wanted += WANTED;
        l->enough = false;
        n_left = FAILURES_MAX;
        period = one_in;
        produce_more(l);
        join(b, &members[2], seen);
        if (i % 2 == 1) { /* others take over, short of memory */
            harness_stop_broker(&h, i / 2);
        }
        harness_run_until(&h, &l->enough);
        leave(&h, &members[2]);
        period = 0;
        if (i % 2 == 1) {
            harness_start_broker(&h,
                                 i / 2); /* may say that there is no memory: not what is tested */
        }
    }
    assert_true(n_failed > 20);
    l->stop = true;
    harness_run_until(&h, &l->idle);
    look(seen);
    harness_run_until(&h, &seen->all);
    leave(&h, &members[0]);
    leave(&h, &members[1]);
    harness_free_client(&h, a);
    harness_free_client(&h, b);
    harness_close(&h);
    free(l);
    free(seen);
}

static void one_allocation_in_37_fails__and_nothing_is_lost(void **state)
{
    (void)state;
    short_of_memory(37);
}

static void one_allocation_in_101_fails__and_nothing_is_lost(void **state)
{
    (void)state;
    short_of_memory(101);
}

static void a_broker__is_stopped_by_who_has_no_memory_to_say_so(void **state)
{
    struct harness h;
    (void)state;
    harness_open(&h, "");
    starved = true;
    harness_stop_broker(&h, 0);
    starved = false;
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_allocation_in_37_fails__and_nothing_is_lost),
        cmocka_unit_test(one_allocation_in_101_fails__and_nothing_is_lost),
        cmocka_unit_test(a_broker__is_stopped_by_who_has_no_memory_to_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
