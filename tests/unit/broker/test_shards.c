/* A node's shards: the mailboxes between them, and brokers that have several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "nodes/broker/cluster_file.h"
#include "nodes/broker/hub.h"

/* --- The hub --- */

#define NODE "cluster.node = n%u id=%u peer=127.0.0.1:%u broker=127.0.0.1:%u http=h:%u rtmp=h:%u\n"

struct shard {
    struct hub *hub;
    unsigned n_news, n_mail;
    uint64_t last;
    char body[16];
    bool drained;
    struct env_defer defer;
};

static uv_loop_t loop;
static struct env *env;
static struct config config;
static struct shard shards[2];

static void on_news(void *data)
{
    struct shard *s = data;
    s->n_news++;
}

static void on_mail(void *data, const struct hub_mail *mail)
{
    struct shard *s = data;
    s->n_mail++;
    assert_true(mail->a > s->last); /* in order */
    s->last = mail->a;
    memcpy(s->body, mail->body, mail->len);
}

static void on_drained(struct env_defer *defer)
{
    struct shard *s = defer->data;
    s->drained = true;
}

static void turn(void)
{
    for (int i = 0; i < 4; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
}

static int hub_setup(void **state)
{
    struct error err = {0};
    char text[1024];
    (void)state;
    (void)snprintf(text, sizeof(text),
                   "node.name = n1\nnode.data = /tmp/x\ncluster.secret = 0123456789abcdef\n"
                   "log.shards = 2\nlog.topic = a partitions=3\n" NODE,
                   1u, 1u, 1u, 2u, 3u, 4u);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, &err), 0);
    assert_int_equal(config_parse("t", text, &config, &err), 0);
    memset(shards, 0, sizeof(shards));
    struct hub *hub = NULL;
    assert_int_equal(hub_new(2, &hub, &err), 0);
    for (uint32_t i = 0; i < 2; i++) {
        const struct hub_events events = {.data = &shards[i], .news = on_news, .mail = on_mail};
        shards[i].hub = hub;
        shards[i].defer.data = &shards[i];
        hub_attach(hub, i, env, &events);
    }
    return 0;
}

static int hub_teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        if (!shards[i].drained) {
            hub_detach(shards[i].hub, i, &shards[i].defer, on_drained);
        }
    }
    turn();
    hub_free(shards[0].hub);
    env_uv_free(env);
    (void)uv_loop_close(&loop);
    return 0;
}

static void hub_send__reaches_the_other_shard_later_and_in_order(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 3; i++) {
        struct hub_mail mail = {.type = HUB_REPORT, .a = i, .body = "hello", .len = 6};
        assert_true(hub_send(shards[0].hub, 1, &mail));
    }
    assert_int_equal(shards[1].n_mail, 0);
    turn();
    assert_int_equal(shards[1].n_mail, 3);
    assert_string_equal(shards[1].body, "hello");
    assert_int_equal(shards[0].n_mail, 0);
}

static void hub_send__is_refused_when_too_much_is_on_its_way(void **state)
{
    struct hub_mail mail = {.type = HUB_REPORT};
    unsigned n = 0;
    (void)state;
    while (mail.a++, hub_send(shards[0].hub, 1, &mail)) {
        n++;
    }
    assert_int_equal(n, HUB_MAIL_MAX);
    turn();
    assert_int_equal(shards[1].n_mail, n);
    assert_true(hub_send(shards[0].hub, 1, &mail));
}

static void hub_detach__waits_for_what_is_on_its_way_and_nothing_comes_after_it(void **state)
{
    struct hub_mail mail = {.type = HUB_REPORT, .a = 1};
    (void)state;
    assert_true(hub_send(shards[0].hub, 1, &mail));
    hub_detach(shards[0].hub, 1, &shards[1].defer, on_drained);
    assert_false(hub_send(shards[0].hub, 1, &mail));
    assert_false(shards[1].drained);
    turn();
    assert_true(shards[1].drained);
    assert_int_equal(shards[1].n_mail, 0);
}

static void hub_take__gives_a_copy_of_what_was_published_last(void **state)
{
    struct cluster mine, theirs;
    struct error err = {0};
    uint64_t id = 0;
    (void)state;
    assert_int_equal(cluster_found(&mine, &config, &err), 0);
    assert_int_equal(cluster_found(&theirs, &config, &err), 0);
    assert_false(hub_take(shards[1].hub, &theirs, &id));
    mine.changes = 1;
    assert_int_equal(hub_publish(shards[0].hub, &mine, 5), 0);
    mine.placements[1].replicas.n = 1;
    mine.placements[1].replicas.at[0] = 77;
    mine.changes = 2;
    assert_int_equal(hub_publish(shards[0].hub, &mine, 6), 0);
    turn();
    assert_int_equal(shards[1].n_news, 1); /* of both together */
    assert_int_equal(shards[0].n_news, 0);
    assert_true(hub_take(shards[1].hub, &theirs, &id));
    assert_int_equal(id, 6);
    assert_int_equal(theirs.changes, 2);
    assert_int_equal(theirs.placements[1].replicas.at[0], 77);
    assert_ptr_not_equal(theirs.placements, mine.placements);
    cluster_close(&mine);
    cluster_close(&theirs);
}

/* --- Brokers --- */

#define META "log.topic = meta partitions=1\n"

static void produce(struct harness *h, struct weir_client *client, uint32_t partition)
{
    assert_int_equal(harness_produce(h, client, "many", partition), 0);
}

struct reader {
    uint32_t partition;
    bool done;
};

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct reader *r = data;
    (void)c;
    (void)high_watermark;
    r->done = n > 0 && records[0].value_len == 5;
}

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    (void)data;
    (void)c;
    fail_msg("%d: %s", status, text);
}

static void consume(struct harness *h, struct weir_client *client, uint32_t partition)
{
    struct reader r = {.partition = partition};
    const struct weir_consumer_events events = {
        .data = &r, .records = on_records, .failed = on_failed};
    struct weir_consumer *c = NULL;
    struct error err = {0};
    assert_int_equal(weir_consume(client, "many", partition, WEIR_OFFSET_BEGIN, &events, &c, &err),
                     0);
    harness_run_until(h, &r.done);
    weir_consumer_close(c);
}

static void shards__each_serves_its_partitions_to_the_same_client(void **state)
{
    struct harness h;
    const struct weir_client_options options = {0};
    (void)state;
    harness_open_shards(&h, 3, META);
    struct weir_client *client = harness_client(&h, &options);
    for (uint32_t k = 0; k < 4; k++) {
        produce(&h, client, k);
        consume(&h, client, k);
    }
    harness_free_client(&h, client);
    harness_close(&h);
}

static void shards__keep_what_they_have_over_a_restart(void **state)
{
    struct harness h;
    const struct weir_client_options options = {0};
    (void)state;
    harness_open_shards(&h, 2, META);
    struct weir_client *client = harness_client(&h, &options);
    for (uint32_t k = 0; k < 4; k++) {
        produce(&h, client, k);
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_stop_broker(&h, i);
        harness_start_broker(&h, i);
    }
    for (uint32_t k = 0; k < 4; k++) {
        consume(&h, client, k);
        produce(&h, client, k);
    }
    harness_free_client(&h, client);
    harness_close(&h);
}

static void shards__another_shards_partition_is_refused_by_name(void **state)
{
    struct harness h;
    struct answer a = {0};
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    char topic[] = "many";
    (void)state;
    harness_open_shards(&h, 2, META);
    struct broker_link *link = harness_link_shard(&h, 0, 1);
    m.topic = topic;
    m.partition = 2;
    harness_ask(&h, link, BROKER_OFFSETS_REQUEST, &m.base, NULL, 0, BROKER_OFFSETS, &a);
    assert_int_equal(a.status, WEIR_EUNAVAILABLE);
    assert_string_equal(a.text, "another shard of this node has the partition");
    bytes_close(&a.attachment);
    harness_close_link(&h, link);
    harness_close(&h);
}

static void log_shards__that_differ_from_the_clusters_are_refused_at_start(void **state)
{
    struct harness h;
    const struct weir_client_options options = {0};
    struct error err = {0};
    (void)state;
    harness_open_shards(&h, 2, META);
    struct weir_client *client = harness_client(&h, &options);
    produce(&h, client, 1);
    harness_free_client(&h, client);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/n1/cluster", h.dir);
    struct cluster c;
    assert_int_equal(cluster_found(&c, h.config[0], &err), 0);
    uint64_t id = 0;
    while (cluster_file_load(h.env, path, &c, &id, &err) != 0 || c.id == 0) {
        (void)uv_run(&h.loop, UV_RUN_NOWAIT); /* until the founding is on its disk */
    }
    assert_int_equal(c.shards, 2);
    cluster_close(&c);
    harness_stop_broker(&h, 0);
    h.config[0]->log_shards = 1;
    assert_int_equal(broker_start(h.config[0], &h.broker[0], &err), WEIR_ECONFIG);
    assert_string_equal(err.text,
                        "log.shards: 1, but this cluster was founded with 2, and that stays");
    harness_close(&h);
}

/* What the second shard can't have the first one gives back too. */
static void broker_start__fails_as_a_whole_when_one_shard_can_not_listen(void **state)
{
    struct harness h;
    struct broker_threads *broker = NULL;
    struct error err = {0};
    char address[32];
    (void)state;
    harness_open_shards(&h, 2, META);
    struct config *twin = malloc(sizeof(*twin));
    assert_non_null(twin);
    *twin = *h.config[0];
    harness_stop_broker(&h, 1);
    /* The first shard listens where node 2 does not any more; the second one where node 1 does. */
    (void)snprintf(twin->data_dir, sizeof(twin->data_dir), "%s/twin", h.dir);
    twin->listen.peer.port = h.peer_port[1];
    twin->listen.broker.port = h.broker_port[1];
    twin->log_shards = 3;
    struct broker_threads *occupant = NULL;
    struct config *other = malloc(sizeof(*other));
    assert_non_null(other);
    *other = *h.config[1];
    other->log_shards = 1;
    (void)snprintf(other->data_dir, sizeof(other->data_dir), "%s/other", h.dir);
    other->listen.peer.port = (uint16_t)(h.peer_port[1] + 2000u);
    other->listen.broker.port = (uint16_t)(h.broker_port[1] + 2000);
    assert_int_equal(broker_start(other, &occupant, &err), 0);
    assert_int_not_equal(broker_start(twin, &broker, &err), 0);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", h.peer_port[1] + 2000u);
    assert_non_null(strstr(err.text, address));
    broker_stop(occupant);
    harness_start_broker(&h, 1); /* its addresses are free */
    free(twin);
    free(other);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hub_send__reaches_the_other_shard_later_and_in_order,
                                        hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(hub_send__is_refused_when_too_much_is_on_its_way, hub_setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(
            hub_detach__waits_for_what_is_on_its_way_and_nothing_comes_after_it, hub_setup,
            hub_teardown),
        cmocka_unit_test_setup_teardown(hub_take__gives_a_copy_of_what_was_published_last,
                                        hub_setup, hub_teardown),
        cmocka_unit_test(shards__each_serves_its_partitions_to_the_same_client),
        cmocka_unit_test(shards__keep_what_they_have_over_a_restart),
        cmocka_unit_test(shards__another_shards_partition_is_refused_by_name),
        cmocka_unit_test(log_shards__that_differ_from_the_clusters_are_refused_at_start),
        cmocka_unit_test(broker_start__fails_as_a_whole_when_one_shard_can_not_listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
