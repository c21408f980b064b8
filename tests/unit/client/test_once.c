/* Each record is stored once and in order, whatever is lost between client and brokers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/log/client_priv.h"
#include "harness.h"
#include "proxy.h"

#define WINDOW 200

struct once {
    struct harness h;
    struct proxy proxies[HARNESS_NODES];
    struct weir_client *client;
    struct slot {
        struct weir_produce req;
        struct once *once;
        int status;
    } * slots;
    unsigned n, n_given, n_done, n_acked, n_unknown;
    bool all_done;
    /* Reading. */
    struct weir_consumer *consumer;
    unsigned *seen;
    int64_t last;
    bool in_order, caught_up;
};

static void open_once(struct once *o, unsigned n, uint32_t timeout_ms)
{
    char seeds[HARNESS_NODES][32];
    const char *list[HARNESS_NODES];
    struct error err;
    *o = (struct once){.n = n, .last = -1, .in_order = true};
    harness_open(&o->h, "");
    (void)harness_leader(&o->h);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        proxy_open(&o->proxies[i], o->h.env, o->h.broker_port[i]);
        (void)snprintf(seeds[i], sizeof(seeds[i]), "127.0.0.1:%u", o->proxies[i].port);
        list[i] = seeds[i];
    }
    struct weir_client_options options = {.seeds = list,
                                          .n_seeds = HARNESS_NODES,
                                          .secret = HARNESS_SECRET,
                                          .name = "once",
                                          .timeout_ms = timeout_ms,
                                          .batch_bytes_max = 600};
    assert_int_equal(weir_client_new(o->h.env, &options, &o->client, &err), 0);
    o->slots = calloc(n, sizeof(*o->slots));
    o->seen = calloc(n, sizeof(*o->seen));
    assert_true(o->slots != NULL && o->seen != NULL);
}

static void close_once(struct once *o)
{
    harness_free_client(&o->h, o->client);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        proxy_close(&o->proxies[i]);
    }
    free(o->slots);
    free(o->seen);
    harness_close(&o->h);
}

static void on_produced(struct weir_produce *req, int status)
{
    struct slot *s = req->data;
    struct once *o = s->once;
    s->status = status;
    o->n_done++;
    o->n_acked += status == 0;
    o->n_unknown += status == WEIR_EUNKNOWN;
    o->all_done = o->n_done == o->n;
}

static void give(struct once *o)
{
    while (o->n_given < o->n && o->n_given - o->n_done < WINDOW) {
        struct slot *s = &o->slots[o->n_given];
        s->once = o;
        s->req.data = s;
        assert_int_equal(weir_produce(o->client, "one", 0, NULL, 0, &o->n_given, sizeof(o->n_given),
                                      &s->req, on_produced),
                         0);
        o->n_given++;
    }
}

/* The proxy of the leader that the client knows. */
static struct proxy *leaders_proxy(struct once *o)
{
    for (unsigned i = 0; i < o->client->n_topics; i++) {
        const struct client_topic *t = o->client->topics[i];
        if (strcmp(t->name, "one") != 0 || t->n_partitions == 0) {
            continue;
        }
        for (unsigned k = 0; k < HARNESS_NODES; k++) {
            if (o->client->brokers[k]->node_id == t->partitions[0].leader_id) {
                return &o->proxies[k];
            }
        }
    }
    return &o->proxies[0];
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct once *o = data;
    (void)c;
    (void)high_watermark;
    for (unsigned i = 0; i < n; i++) {
        unsigned number;
        assert_int_equal(records[i].value_len, sizeof(number));
        memcpy(&number, records[i].value, sizeof(number));
        assert_true(number < o->n);
        o->seen[number]++;
        o->in_order = o->in_order && number > o->last;
        o->last = number;
    }
}

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    (void)data;
    (void)c;
    fail_msg("%d %s", status, text);
}

static void on_caught_up(void *data, struct weir_consumer *c, int64_t high_watermark)
{
    struct once *o = data;
    (void)c;
    (void)high_watermark;
    o->caught_up = true;
}

static void read_all(struct once *o)
{
    struct weir_consumer_events events = {
        .data = o, .records = on_records, .failed = on_failed, .caught_up = on_caught_up};
    struct error err;
    assert_int_equal(
        weir_consume(o->client, "one", 0, WEIR_OFFSET_BEGIN, &events, &o->consumer, &err), 0);
    harness_run_until(&o->h, &o->caught_up);
    weir_consumer_close(o->consumer);
}

static void check_once(struct once *o)
{
    read_all(o);
    for (unsigned i = 0; i < o->n; i++) {
        assert_int_equal(o->slots[i].status, 0);
        assert_int_equal(o->seen[i], 1);
    }
    assert_true(o->in_order);
}

static void links_cut_and_answers_lost__every_record_is_stored_once_in_order(void **state)
{
    static struct once o;
    unsigned cuts = 0;
    (void)state;
    open_once(&o, 6000, 30000);
    while (!o.all_done) {
        give(&o);
        (void)uv_run(&o.h.loop, UV_RUN_ONCE);
        struct proxy *p = leaders_proxy(&o);
        if (o.n_done > cuts * 200 && o.n_done < 5000 && p->cut_after == 0) {
            p->swallow = cuts % 6 == 0; /* what is acknowledged from now on, nobody hears */
            p->cut_after = 1 + cuts * 379 % 1500; /* in the middle of a frame */
            cuts++;
        }
    }
    assert_true(cuts > 5); /* 25, unless the machine lets much happen in one turn */
    check_once(&o);
    close_once(&o);
}

static void all_brokers_restart_with_answers_lost__every_record_is_stored_once(void **state)
{
    static struct once o;
    unsigned restarts = 0;
    (void)state;
    open_once(&o, 3000, 60000);
    while (!o.all_done) {
        give(&o);
        (void)uv_run(&o.h.loop, UV_RUN_ONCE);
        if (o.n_done < 600 * (restarts + 1) || restarts == 3) {
            continue;
        }
        for (unsigned i = 0; i < HARNESS_NODES; i++) {
            o.proxies[i].swallow = true;
        }
        for (unsigned i = 0; i < 20; i++) { /* stored, and not heard of */
            (void)uv_run(&o.h.loop, UV_RUN_NOWAIT);
        }
        for (unsigned i = 0; i < HARNESS_NODES; i++) {
            harness_stop_broker(&o.h, i);
            proxy_cut(&o.proxies[i]);
        }
        for (unsigned i = 0; i < HARNESS_NODES; i++) {
            harness_start_broker(&o.h, i);
        }
        restarts++;
    }
    assert_int_equal(restarts, 3);
    check_once(&o);
    close_once(&o);
}

/* What timed out is in the log once or not at all, and nothing that was acknowledged later stands
 * before it. */
static void answers_lost_beyond_the_timeout__is_unknown_and_the_partition_goes_on(void **state)
{
    static struct once o;
    unsigned unknown = 0, wanted = 300;
    enum { HEARS, DEAF, HEARS_AGAIN } phase = HEARS;
    (void)state;
    open_once(&o, 20000,
              1500); /* more than there is use for: a slow machine times out more often */
    while (!o.all_done) {
        give(&o);
        (void)uv_run(&o.h.loop, UV_RUN_ONCE);
        for (unsigned i = 0; i < HARNESS_NODES && phase == HEARS && o.n_acked > wanted; i++) {
            o.proxies[i].swallow = true;
        }
        if (phase == HEARS && o.n_acked > wanted) {
            phase = DEAF;
            unknown = o.n_unknown;
        }
        for (unsigned i = 0; i < HARNESS_NODES && phase == DEAF && o.n_unknown > unknown; i++) {
            proxy_cut(&o.proxies[i]);
        }
        if (phase == DEAF && o.n_unknown > unknown) {
            phase = HEARS_AGAIN;
            wanted = o.n_acked + 300;
        }
        if (phase == HEARS_AGAIN && o.n_acked > wanted) {
            o.n = o.n_given;
            o.all_done = o.n_done == o.n;
        }
    }
    read_all(&o);
    for (unsigned i = 0; i < o.n; i++) {
        int status = o.slots[i].status;
        unknown += status == WEIR_EUNKNOWN;
        assert_true(status == 0 || status == WEIR_EUNKNOWN || status == WEIR_ETIMEOUT);
        assert_true(o.seen[i] <= 1);
        assert_true(status != 0 || o.seen[i] == 1);
        assert_true(status != WEIR_ETIMEOUT || o.seen[i] == 0);
    }
    assert_true(o.in_order);
    assert_true(unknown > 0);
    assert_true(o.n_acked > 500);
    close_once(&o);
}

static int produce_named(struct harness *h, struct weir_client *client, uint32_t partition)
{
    return harness_produce(h, client, "many", partition);
}

static void named_producer__fences_who_had_the_name_before_on_every_partition(void **state)
{
    static struct harness h;
    (void)state;
    harness_open(&h, "");
    struct weir_client_options options = {.producer_name = "payments"};
    struct weir_client *old = harness_client(&h, &options);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(produce_named(&h, old, i), 0);
    }
    struct weir_client *young = harness_client(&h, &options);
    assert_int_equal(produce_named(&h, young, 0), 0);
    assert_int_equal(young->named.id, old->named.id);
    assert_int_equal(young->named.epoch, old->named.epoch + 1);
    assert_int_equal(produce_named(&h, old, 0), WEIR_EFENCED); /* written to by both */
    assert_int_equal(produce_named(&h, old, 1), WEIR_EFENCED); /* at once from now on */
    assert_int_equal(produce_named(&h, young, 1), 0);
    assert_int_equal(produce_named(&h, young, 0), 0);
    for (unsigned i = 0; i < HARNESS_NODES; i++) { /* names outlast all brokers */
        harness_stop_broker(&h, i);
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_start_broker(&h, i);
    }
    assert_int_equal(produce_named(&h, young, 0), 0);
    struct weir_client *third = harness_client(&h, &options);
    assert_int_equal(produce_named(&h, third, 3), 0);
    assert_int_equal(third->named.epoch, young->named.epoch + 1);
    /* Nobody newer wrote there: as soon as that node has heard of it. */
    int rv = 0;
    for (unsigned i = 0; i < 1000 && rv == 0; i++) {
        rv = produce_named(&h, young, 2);
    }
    assert_int_equal(rv, WEIR_EFENCED);
    harness_free_client(&h, old);
    harness_free_client(&h, young);
    harness_free_client(&h, third);
    harness_close(&h);
}

/* It was away while another one took its name, and comes back with batches that timed out. */
static void named_producer__that_lost_its_name_without_a_word_does_not_take_it_back(void **state)
{
    static struct harness h;
    (void)state;
    harness_open(&h, "");
    struct weir_client_options options = {.producer_name = "payments"};
    struct weir_client *old = harness_client(&h, &options);
    assert_int_equal(produce_named(&h, old, 0), 0);
    struct client_partition *p = &client_topic_get(old, "many")->partitions[0];
    p->numbering.over = true; /* a further epoch of its own: nobody else has the name */
    assert_int_equal(produce_named(&h, old, 0), 0);
    assert_int_equal(old->named.epoch, 1);
    struct weir_client *young = harness_client(&h, &options);
    assert_int_equal(produce_named(&h, young, 1), 0);
    p->numbering.over = true;
    assert_int_equal(produce_named(&h, old, 0), WEIR_EFENCED);
    assert_true(old->named.fenced);
    assert_int_equal(produce_named(&h, young, 0), 0);
    assert_int_equal(produce_named(&h, young, 1), 0);
    assert_int_equal(young->named.epoch, 2);
    harness_free_client(&h, old);
    harness_free_client(&h, young);
    harness_close(&h);
}

/* As when the log has forgotten its producer, or a batch before it was given up. */
static void a_number_that_the_log_does_not_take__begins_one_new_sequence(void **state)
{
    static struct harness h;
    (void)state;
    harness_open(&h, "");
    struct weir_client_options anonymous = {.timeout_ms = 60000};
    struct weir_client_options named = {.timeout_ms = 60000, .producer_name = "payments"};
    struct weir_client *clients[] = {harness_client(&h, &anonymous), harness_client(&h, &named)};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(produce_named(&h, clients[i], 0), 0);
        struct client_partition *p = &client_topic_get(clients[i], "many")->partitions[0];
        p->numbering.next += 7;
        assert_int_equal(produce_named(&h, clients[i], 0), 0);
        assert_int_equal(p->numbering.epoch, 1);
        assert_int_equal(produce_named(&h, clients[i], 0), 0);
        assert_int_equal(p->numbering.epoch, 1);
        harness_free_client(&h, clients[i]);
    }
    harness_close(&h);
}

/* --- A leader that does not know that it was replaced --- */

struct links {
    struct proxy at[HARNESS_NODES][HARNESS_NODES]; /* from broker i to broker k */
};

static void open_links(struct harness *h, struct links *l, const char *extra)
{
    harness_open_shards(h, 1, extra);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_stop_broker(h, i);
        for (unsigned k = 0; k < HARNESS_NODES; k++) {
            proxy_open(&l->at[i][k], h->env, h->peer_port[k]);
            h->peer_via[i][k] = i == k ? 0 : l->at[i][k].port;
        }
        harness_configure(h, i, extra);
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_start_broker(h, i);
    }
}

static void isolate(struct links *l, unsigned node)
{
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        for (unsigned k = 0; k < HARNESS_NODES; k++) {
            if (i == node || k == node) {
                l->at[i][k].shut = true;
                proxy_cut(&l->at[i][k]);
            }
        }
    }
}

static void close_links(struct links *l)
{
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        for (unsigned k = 0; k < HARNESS_NODES; k++) {
            proxy_close(&l->at[i][k]);
        }
    }
}

static int produce_numbered(struct harness *h, unsigned node, int32_t sequence)
{
    Weir__BrokerProduce m = WEIR__BROKER_PRODUCE__INIT;
    static char topic[] = "one";
    struct batch_producer producer = {.id = 7, .epoch = 0, .sequence = sequence, .records = 1};
    struct answer a = {0};
    struct bytes batch;
    bytes_init(&batch, 4096);
    harness_batch(&batch, 1, 10);
    batch_set_producer(batch.data, &producer);
    m.topic = topic;
    struct broker_link *link = harness_link(h, node);
    harness_ask(h, link, BROKER_PRODUCE, &m.base, batch.data, batch.len, BROKER_PRODUCED, &a);
    harness_close_link(h, link);
    bytes_close(&batch);
    bytes_close(&a.attachment);
    return a.status;
}

static void leader_that_was_replaced__does_not_call_a_sequence_over(void **state)
{
    static struct harness h;
    static struct links links;
    (void)state;
    open_links(&h, &links, "raft.election_ms = 2000\n");
    unsigned old;
    do {
        old = harness_leader(&h);
    } while (produce_numbered(&h, old, 0) != 0); /* it may have lost its place meanwhile */
    isolate(&links, old);
    int rv = WEIR_ENOTLEADER;
    for (unsigned i = 0; rv != 0; i++) {
        unsigned node = i % HARNESS_NODES;
        rv = node != old ? produce_numbered(&h, node, 1) : rv;
        assert_true(rv == 0 || rv == WEIR_ENOTLEADER || rv == WEIR_EUNKNOWN);
    }
    assert_int_equal(produce_numbered(&h, old, 2), WEIR_ENOTLEADER);
    close_links(&links);
    harness_close(&h);
}

/* Looks until no majority was heard for a second and a half, or one is. */
struct listening {
    struct weir_client *client;
    struct env_timer timer;
    bool for_silence, done;
};

static void on_listen(struct env_timer *timer)
{
    struct listening *l = timer->data;
    l->done = (weir_client_silent_ns(l->client) > 1500000000u) == l->for_silence;
    if (!l->done) {
        env_timer_start(timer, 20000, on_listen);
    }
}

static void listen_until(struct once *o, struct listening *l, bool silent)
{
    l->for_silence = silent;
    l->done = false;
    env_timer_start(&l->timer, 20000, on_listen);
    harness_run_until(&o->h, &l->done);
}

static void client_that_hears_no_majority__says_for_how_long(void **state)
{
    static struct once o;
    (void)state;
    open_once(&o, 1, 30000);
    struct listening l = {.client = o.client};
    assert_int_equal(env_timer_init(o.h.env, &l.timer), 0);
    l.timer.data = &l;
    assert_int_equal(weir_client_silent_ns(o.client), 0); /* whose would it be? */
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_run_until(&o.h, &o.client->brokers[i]->ready);
    }
    o.proxies[0].swallow = true;
    listen_until(&o, &l, false); /* two of three are */
    o.proxies[2].swallow = true;
    listen_until(&o, &l, true);
    o.proxies[2].swallow = false;
    listen_until(&o, &l, false);
    env_timer_close(&l.timer);
    close_once(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_cut_and_answers_lost__every_record_is_stored_once_in_order),
        cmocka_unit_test(all_brokers_restart_with_answers_lost__every_record_is_stored_once),
        cmocka_unit_test(answers_lost_beyond_the_timeout__is_unknown_and_the_partition_goes_on),
        cmocka_unit_test(named_producer__fences_who_had_the_name_before_on_every_partition),
        cmocka_unit_test(named_producer__that_lost_its_name_without_a_word_does_not_take_it_back),
        cmocka_unit_test(a_number_that_the_log_does_not_take__begins_one_new_sequence),
        cmocka_unit_test(client_that_hears_no_majority__says_for_how_long),
        cmocka_unit_test(leader_that_was_replaced__does_not_call_a_sequence_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
