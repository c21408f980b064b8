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

/* --- Partitioner --- */

/* Values of Kafka's UtilsTest, testMurmur2; the partition is (hash & 0x7fffffff) % n. */
static void weir_partition_for_key__is_kafkas(void **state)
{
    static const struct {
        const char *key;
        int32_t hash;
    } cases[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t want = (uint32_t)cases[i].hash & 0x7fffffff;
        assert_int_equal(weir_partition_for_key(cases[i].key, strlen(cases[i].key), 0x7fffffff),
                         want % 0x7fffffff);
        assert_int_equal(weir_partition_for_key(cases[i].key, strlen(cases[i].key), 17), want % 17);
    }
}

/* --- Topics --- */

struct topic_answer {
    bool done;
    int status;
    uint32_t n;
};

static void on_topic(struct weir_topic_req *req, int status, uint32_t n_partitions)
{
    struct topic_answer *a = req->data;
    *a = (struct topic_answer){.done = true, .status = status, .n = n_partitions};
}

static struct topic_answer ask_topic(struct harness *h, struct weir_client *client,
                                     const char *name)
{
    struct topic_answer a = {0};
    struct weir_topic_req req = {.data = &a};
    weir_topic(client, name, &req, on_topic);
    assert_false(a.done); /* never from inside the call */
    harness_run_until(h, &a.done);
    return a;
}

static void weir_topic__tells_the_number_of_partitions_or_that_there_is_none(void **state)
{
    struct harness h;
    char name[100];
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    struct topic_answer a = ask_topic(&h, client, "many");
    assert_int_equal(a.status, 0);
    assert_int_equal(a.n, 4);
    assert_int_equal(ask_topic(&h, client, "nowhere").status, WEIR_ENOTFOUND);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(ask_topic(&h, client, name).status, WEIR_ENOTFOUND);
    harness_free_client(&h, client);
    harness_close(&h);
}

static void weir_topic__times_out_when_the_secret_is_wrong(void **state)
{
    struct harness h;
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(
        &h, &(struct weir_client_options){.secret = "another secret, wrong", .timeout_ms = 200});
    assert_int_equal(ask_topic(&h, client, "one").status, WEIR_ETIMEOUT);
    harness_free_client(&h, client);
    harness_close(&h);
}

/* --- Producing --- */

struct sent {
    struct weir_produce req;
    struct sending *sending;
    int status;
    bool done;
};

struct sending {
    struct sent *sent;
    unsigned n, n_done, n_acked;
    bool all_done;
};

static void on_produced(struct weir_produce *req, int status)
{
    struct sent *s = req->data;
    assert_false(s->done); /* once */
    s->done = true;
    s->status = status;
    s->sending->n_done++;
    s->sending->n_acked += status == 0;
    s->sending->all_done = s->sending->n_done == s->sending->n;
}

static void sending_init(struct sending *s, unsigned n)
{
    *s = (struct sending){.n = n, .sent = calloc(n, sizeof(*s->sent))};
    assert_non_null(s->sent);
    for (unsigned i = 0; i < n; i++) {
        s->sent[i].sending = s;
        s->sent[i].req.data = &s->sent[i];
    }
}

/* Record i has its number as value. */
static int send_number(struct weir_client *client, struct sending *s, unsigned i, const char *topic,
                       uint32_t partition, const char *key)
{
    char value[16];
    int len = snprintf(value, sizeof(value), "%u", i);
    return weir_produce(client, topic, partition, key, key != NULL ? strlen(key) : 0, value,
                        (size_t)len, &s->sent[i].req, on_produced);
}

static void weir_produce__keeps_order_and_gives_dense_offsets(void **state)
{
    struct harness h;
    struct sending s;
    (void)state;
    harness_open(&h, "");
    struct weir_client *client =
        harness_client(&h, &(struct weir_client_options){.batch_bytes_max = 1000});
    sending_init(&s, 1000);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(send_number(client, &s, i, "one", 0, NULL), 0);
    }
    harness_run_until(&h, &s.all_done);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(s.sent[i].status, 0);
        assert_int_equal(s.sent[i].req.offset, i);
    }
    harness_free_client(&h, client);
    free(s.sent);
    harness_close(&h);
}

/* Runs the loop until every broker of the client is connected. */
static void connect_all(struct harness *h, struct weir_client *client)
{
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_run_until(h, &client->brokers[i]->ready);
    }
}

static void on_looked(struct env_timer *timer)
{
    (void)timer;
}

static void weir_client__hears_of_a_machine_that_refuses_it(void **state)
{
    struct harness h;
    struct env_timer look; /* the loop turns now and then */
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    connect_all(&h, client);
    harness_stop_broker(&h, 2);
    uint64_t stopped_ns = env_now_ns(h.env);
    assert_int_equal(env_timer_init(h.env, &look), 0);
    while (client->brokers[2]->heard_ns <= stopped_ns) {
        env_timer_start(&look, 10000, on_looked);
        (void)uv_run(&h.loop, UV_RUN_ONCE);
    }
    assert_false(client->brokers[2]->ready);
    env_timer_close(&look);
    harness_free_client(&h, client);
    harness_close(&h);
}

static void weir_produce__goes_to_a_new_leader_at_once_and_is_stored_once_in_order(void **state)
{
    struct harness h;
    struct sending first, rest;
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    sending_init(&first, 1);
    sending_init(&rest, 2);
    assert_int_equal(send_number(client, &first, 0, "one", 0, NULL), 0);
    harness_run_until(&h, &first.all_done);
    connect_all(&h, client);
    struct client_partition *p = NULL;
    for (unsigned i = 0; i < client->n_topics; i++) {
        p = strcmp(client->topics[i]->name, "one") == 0 ? &client->topics[i]->partitions[0] : p;
    }
    assert_non_null(p);
    assert_int_equal(send_number(client, &rest, 0, "one", 0, NULL), 0);
    producer_flush(client);
    assert_int_equal(p->n_inflight, 1);
    /* Another broker is said to lead, then nobody: the first batch has not been answered yet, and
     * is perhaps stored. */
    uint32_t other = 0;
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        uint32_t id = client->brokers[i]->node_id;
        other = id != p->leader_id ? id : other;
    }
    client_leader_news(client, "one", 0, other, p->term);
    client_leader_news(client, "one", 0, 0, p->term + 1);
    assert_int_equal(p->leader_id, other);
    static const char large[100000]; /* worth a request of its own beside the one that is out */
    assert_int_equal(weir_produce(client, "one", 0, NULL, 0, large, sizeof(large),
                                  &rest.sent[1].req, on_produced),
                     0);
    producer_flush(client);
    assert_int_equal(p->n_inflight, 2);
    harness_run_until(&h, &rest.all_done);
    assert_int_equal(rest.sent[0].req.offset, 1);
    assert_int_equal(rest.sent[1].req.offset, 2);
    harness_free_client(&h, client);
    free(first.sent);
    free(rest.sent);
    harness_close(&h);
}

static void weir_produce__by_key_goes_to_the_keys_partition(void **state)
{
    struct harness h;
    struct sending s;
    static const char *const keys[] = {"alice", "bob", "carol", "dave", "erin"};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    sending_init(&s, 5);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(send_number(client, &s, i, "many", WEIR_PARTITION_BY_KEY, keys[i]), 0);
    }
    harness_run_until(&h, &s.all_done);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(s.sent[i].status, 0);
        assert_int_equal(s.sent[i].req.partition,
                         weir_partition_for_key(keys[i], strlen(keys[i]), 4));
    }
    harness_free_client(&h, client);
    free(s.sent);
    harness_close(&h);
}

static void weir_produce__refuses_what_is_too_big_too_much_or_nowhere(void **state)
{
    struct harness h;
    struct sending s;
    static uint8_t big[4096];
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(
        &h, &(struct weir_client_options){.batch_bytes_max = 4096, .inflight_bytes_max = 8000});
    sending_init(&s, 3);
    struct weir_produce *req = &s.sent[0].req;
    assert_int_equal(weir_produce(client, "one", 0, NULL, 0, big, sizeof(big), req, on_produced),
                     WEIR_ETOOBIG);
    assert_int_equal(
        weir_produce(client, "one", WEIR_PARTITION_BY_KEY, NULL, 0, big, 10, req, on_produced),
        WEIR_EINVAL);
    assert_int_equal(weir_produce(client, "one", 0, NULL, 0, big, 3900, req, on_produced), 0);
    assert_int_equal(
        weir_produce(client, "one", 0, NULL, 0, big, 3900, &s.sent[1].req, on_produced), 0);
    assert_int_equal(
        weir_produce(client, "one", 0, NULL, 0, big, 3900, &s.sent[2].req, on_produced),
        WEIR_EBUSY);
    s.n = 2;
    harness_run_until(&h, &s.all_done);
    assert_int_equal(s.n_acked, 2);
    /* A partition that does not exist; known by now. */
    assert_int_equal(weir_produce(client, "one", 7, NULL, 0, big, 10, &s.sent[2].req, on_produced),
                     WEIR_EINVAL);
    s.n = 3;
    s.all_done = false;
    assert_int_equal(send_number(client, &s, 2, "nowhere", 0, NULL), 0);
    harness_run_until(&h, &s.all_done);
    assert_int_equal(s.sent[2].status, WEIR_ENOTFOUND);
    harness_free_client(&h, client);
    free(s.sent);
    harness_close(&h);
}

static void weir_produce__times_out_without_a_majority(void **state)
{
    struct harness h;
    struct sending s;
    (void)state;
    harness_open(&h, "");
    struct weir_client *client =
        harness_client(&h, &(struct weir_client_options){.timeout_ms = 500});
    while (ask_topic(&h, client, "one").status != 0) {} /* a slow machine may need longer once */
    harness_stop_broker(&h, 0);
    harness_stop_broker(&h, 1);
    sending_init(&s, 3);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(send_number(client, &s, i, "one", 0, NULL), 0);
    }
    harness_run_until(&h, &s.all_done);
    for (unsigned i = 0; i < s.n; i++) {
        /* Sent to a leader that then had no followers: unknown; never sent: timed out. */
        assert_true(s.sent[i].status == WEIR_ETIMEOUT || s.sent[i].status == WEIR_EUNKNOWN);
    }
    harness_free_client(&h, client);
    free(s.sent);
    harness_close(&h);
}

static void weir_client_free__completes_what_is_open(void **state)
{
    struct harness h;
    struct sending s;
    struct topic_answer a = {0};
    struct weir_topic_req req = {.data = &a};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    sending_init(&s, 10);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(send_number(client, &s, i, "one", 0, NULL), 0);
    }
    weir_topic(client, "one", &req, on_topic);
    harness_free_client(&h, client);
    assert_true(a.done);
    assert_true(s.all_done);
    for (unsigned i = 0; i < s.n; i++) {
        assert_int_equal(s.sent[i].status, WEIR_ECLOSED);
    }
    free(s.sent);
    harness_close(&h);
}

/* --- Consuming --- */

struct reading {
    struct weir_consumer *consumer;
    int64_t next;   /* offset expected */
    unsigned *seen; /* per number; may be NULL */
    unsigned n_numbers;
    int64_t until;
    bool reached, caught_up, failed, pause_after_first;
    int status;
    int64_t last_number;
    bool in_order;
};

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct reading *r = data;
    for (unsigned i = 0; i < n; i++) {
        char text[16] = "";
        assert_int_equal(records[i].offset.v, r->next);
        assert_true(high_watermark > r->next);
        r->next++;
        assert_true(records[i].value_len < (int)sizeof(text));
        memcpy(text, records[i].value, (size_t)records[i].value_len);
        int64_t number = strtol(text, NULL, 10);
        r->in_order &= number > r->last_number;
        r->last_number = number;
        if (r->seen != NULL) {
            assert_true(number >= 0 && number < r->n_numbers);
            r->seen[number]++;
        }
    }
    if (r->pause_after_first) {
        r->pause_after_first = false;
        weir_consumer_pause(c);
        r->reached = true;
    }
    r->reached |= r->next >= r->until;
}

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    struct reading *r = data;
    (void)c;
    assert_non_null(text);
    r->failed = true;
    r->status = status;
}

static void on_caught_up(void *data, struct weir_consumer *c, int64_t high_watermark)
{
    struct reading *r = data;
    (void)c;
    (void)high_watermark;
    assert_false(r->caught_up);
    r->caught_up = true;
}

static void read_from(struct weir_client *client, struct reading *r, int64_t from)
{
    struct weir_consumer_events events = {
        .data = r, .records = on_records, .failed = on_failed, .caught_up = on_caught_up};
    struct error err = {0};
    r->last_number = -1;
    r->in_order = true;
    assert_int_equal(weir_consume(client, "one", 0, from, &events, &r->consumer, &err), 0);
}

static void produce_all(struct harness *h, struct weir_client *client, unsigned n)
{
    struct sending s;
    sending_init(&s, n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(send_number(client, &s, i, "one", 0, NULL), 0);
    }
    harness_run_until(h, &s.all_done);
    assert_int_equal(s.n_acked, n);
    free(s.sent);
}

static void weir_consume__reads_all_from_the_beginning_then_follows(void **state)
{
    struct harness h;
    struct reading r = {.until = 500};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_all(&h, client, 500);
    read_from(client, &r, WEIR_OFFSET_BEGIN);
    harness_run_until(&h, &r.reached);
    harness_run_until(&h, &r.caught_up);
    assert_true(r.in_order);
    r.reached = false;
    r.until = 600;
    r.last_number = -1;
    produce_all(&h, client, 100);
    harness_run_until(&h, &r.reached);
    assert_true(r.in_order);
    weir_consumer_close(r.consumer);
    harness_free_client(&h, client);
    harness_close(&h);
}

static void weir_consume__begins_inside_a_batch_and_at_the_end(void **state)
{
    struct harness h;
    struct reading r = {.until = 100, .next = 37}, end = {.until = 101, .next = 100};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_all(&h, client, 100);
    read_from(client, &r, 37);
    harness_run_until(&h, &r.reached);
    read_from(client, &end, WEIR_OFFSET_END);
    harness_run_until(&h, &end.caught_up);
    produce_all(&h, client, 1);
    harness_run_until(&h, &end.reached);
    weir_consumer_close(r.consumer);
    weir_consumer_close(end.consumer);
    harness_free_client(&h, client);
    harness_close(&h);
}

static void weir_consume__of_an_offset_or_topic_that_is_not_there_fails(void **state)
{
    struct harness h;
    struct reading r = {0}, nowhere = {0};
    struct weir_consumer_events events = {
        .data = &nowhere, .records = on_records, .failed = on_failed};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_all(&h, client, 1);
    read_from(client, &r, 1000);
    harness_run_until(&h, &r.failed);
    assert_int_equal(r.status, WEIR_ERANGE);
    assert_int_equal(weir_consume(client, "nowhere", 0, 0, &events, &nowhere.consumer, NULL), 0);
    harness_run_until(&h, &nowhere.failed);
    assert_int_equal(nowhere.status, WEIR_ENOTFOUND);
    weir_consumer_close(r.consumer);
    weir_consumer_close(nowhere.consumer);
    harness_free_client(&h, client);
    harness_close(&h);
}

static void weir_consumer_pause__holds_and_resume_misses_nothing(void **state)
{
    struct harness h;
    struct reading r = {.until = 1000, .pause_after_first = true};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_all(&h, client, 1000);
    read_from(client, &r, 0);
    harness_run_until(&h, &r.reached);
    int64_t held_at = r.next;
    assert_true(held_at > 0);
    /* Other traffic goes on meanwhile; the paused consumer gets none of it. */
    assert_int_equal(ask_topic(&h, client, "many").status, 0);
    assert_int_equal(r.next, held_at);
    r.reached = r.next >= r.until;
    weir_consumer_resume(r.consumer);
    harness_run_until(&h, &r.reached);
    assert_true(r.in_order);
    weir_consumer_close(r.consumer);
    harness_free_client(&h, client);
    harness_close(&h);
}

/* --- A leader goes --- */

struct load {
    struct harness *h;
    struct weir_client *client;
    struct sending s;
    unsigned next;
    struct env_defer fill;
};

#define LOAD_WINDOW 50

static void on_load_fill(struct env_defer *defer)
{
    struct load *l = defer->data;
    while (l->next < l->s.n && l->next - l->s.n_done < LOAD_WINDOW) {
        assert_int_equal(send_number(l->client, &l->s, l->next, "one", 0, NULL), 0);
        l->next++;
    }
}

static void on_load_produced(struct load *l)
{
    env_defer(l->h->env, &l->fill, on_load_fill);
}

/* Sends n records; after a third of them the leader stops, after two thirds it is back. */
static void run_load(struct load *l, unsigned n)
{
    unsigned leader = harness_leader(l->h);
    bool stopped = false, back = false;
    sending_init(&l->s, n);
    l->fill.data = l;
    while (!l->s.all_done) {
        on_load_produced(l);
        (void)uv_run(&l->h->loop, UV_RUN_ONCE);
        if (!stopped && l->s.n_done > n / 3) {
            stopped = true;
            harness_stop_broker(l->h, leader);
        }
        if (stopped && !back && l->s.n_done > 2 * n / 3) {
            back = true;
            harness_start_broker(l->h, leader);
        }
    }
    assert_true(back);
}

static void check_stored_once(struct load *l)
{
    struct reading r = {.n_numbers = l->s.n, .seen = calloc(l->s.n, sizeof(*r.seen))};
    assert_non_null(r.seen);
    read_from(l->client, &r, 0);
    harness_run_until(l->h, &r.caught_up);
    for (unsigned i = 0; i < l->s.n; i++) {
        assert_int_equal(l->s.sent[i].status, 0);
        assert_int_equal(r.seen[i], 1);
    }
    assert_true(r.in_order);
    weir_consumer_close(r.consumer);
    free(r.seen);
}

static void a_leader_that_goes__every_record_is_stored_once_and_in_order(void **state)
{
    struct harness h;
    struct load l = {.h = &h};
    (void)state;
    harness_open(&h, "");
    l.client = harness_client(&h, &(struct weir_client_options){0});
    run_load(&l, 6000);
    check_stored_once(&l);
    harness_free_client(&h, l.client);
    free(l.s.sent);
    harness_close(&h);
}

static void a_consumer__goes_on_elsewhere_when_its_broker_stops(void **state)
{
    struct harness h;
    struct reading r = {.until = 10};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_all(&h, client, 10);
    read_from(client, &r, 0);
    harness_run_until(&h, &r.reached);
    harness_stop_broker(&h, 0); /* the first seed: where it reads */
    r.reached = false;
    r.until = 20;
    r.last_number = -1;
    produce_all(&h, client, 10);
    harness_run_until(&h, &r.reached);
    assert_true(r.in_order);
    weir_consumer_close(r.consumer);
    harness_free_client(&h, client);
    harness_close(&h);
}

struct asking {
    struct weir_offsets_req req;
    bool done;
    int status;
};

static void on_offsets(struct weir_offsets_req *req, int status)
{
    struct asking *a = req->data;
    a->done = true;
    a->status = status;
}

static void ask_offsets(struct harness *h, struct weir_client *client, const char *topic,
                        struct asking *a)
{
    *a = (struct asking){.req = {.data = a}};
    assert_int_equal(weir_offsets(client, topic, 0, true, &a->req, on_offsets), 0);
    harness_run_until(h, &a->done);
}

static void
weir_offsets__linearizable_covers_what_was_acknowledged_through_a_change_of_leaders(void **state)
{
    struct harness h;
    struct asking a;
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_all(&h, client, 10);
    ask_offsets(&h, client, "one", &a);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.req.high_watermark, 10);
    harness_stop_broker(&h, harness_leader(&h));
    ask_offsets(&h, client, "one", &a);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.req.high_watermark, 10);
    ask_offsets(&h, client, "nowhere", &a);
    assert_int_equal(a.status, WEIR_ENOTFOUND);
    harness_free_client(&h, client);
    harness_close(&h);
}

static void weir_offsets__times_out_without_a_majority_and_ends_with_the_client(void **state)
{
    struct harness h;
    struct asking a, open = {.req = {.data = &open}};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client =
        harness_client(&h, &(struct weir_client_options){.timeout_ms = 1500});
    do {
        ask_offsets(&h, client, "one", &a);
    } while (a.status == WEIR_ETIMEOUT); /* a slow machine may need longer once */
    assert_int_equal(a.status, 0);
    harness_stop_broker(&h, 1);
    harness_stop_broker(&h, 2);
    ask_offsets(&h, client, "one", &a);
    assert_int_equal(a.status, WEIR_ETIMEOUT);
    assert_int_equal(weir_offsets(client, "one", 0, true, &open.req, on_offsets), 0);
    harness_free_client(&h, client);
    assert_true(open.done);
    assert_int_equal(open.status, WEIR_ECLOSED);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weir_partition_for_key__is_kafkas),
        cmocka_unit_test(weir_topic__tells_the_number_of_partitions_or_that_there_is_none),
        cmocka_unit_test(weir_topic__times_out_when_the_secret_is_wrong),
        cmocka_unit_test(weir_produce__keeps_order_and_gives_dense_offsets),
        cmocka_unit_test(weir_client__hears_of_a_machine_that_refuses_it),
        cmocka_unit_test(weir_produce__goes_to_a_new_leader_at_once_and_is_stored_once_in_order),
        cmocka_unit_test(weir_produce__by_key_goes_to_the_keys_partition),
        cmocka_unit_test(weir_produce__refuses_what_is_too_big_too_much_or_nowhere),
        cmocka_unit_test(weir_produce__times_out_without_a_majority),
        cmocka_unit_test(weir_client_free__completes_what_is_open),
        cmocka_unit_test(weir_consume__reads_all_from_the_beginning_then_follows),
        cmocka_unit_test(weir_consume__begins_inside_a_batch_and_at_the_end),
        cmocka_unit_test(weir_consume__of_an_offset_or_topic_that_is_not_there_fails),
        cmocka_unit_test(weir_consumer_pause__holds_and_resume_misses_nothing),
        cmocka_unit_test(a_leader_that_goes__every_record_is_stored_once_and_in_order),
        cmocka_unit_test(
            weir_offsets__linearizable_covers_what_was_acknowledged_through_a_change_of_leaders),
        cmocka_unit_test(weir_offsets__times_out_without_a_majority_and_ends_with_the_client),
        cmocka_unit_test(a_consumer__goes_on_elsewhere_when_its_broker_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
