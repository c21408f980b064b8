/* Topics that a running cluster is given: by new configurations, node by node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/log/link.h"
#include "harness.h"

#define WITHOUT "log.topic = meta partitions=1\n"
#define WITH    WITHOUT "log.topic = added partitions=4\n"
#define WIDER   WITHOUT "log.topic = added partitions=8\n"

/* What one broker says of the topic: 0 partitions: it does not know it. */
struct seen {
    struct broker_request req;
    uint32_t partitions, placed, led, meta_leader;
    bool done;
};

static void on_metadata(struct broker_request *req, int status, const struct frame *reply,
                        const ProtobufCMessage *head)
{
    struct seen *s = req->data;
    const Weir__BrokerMetadata *m = (const Weir__BrokerMetadata *)head;
    (void)reply;
    s->done = true;
    for (size_t i = 0; status == 0 && i < m->n_topics; i++) {
        if (strcmp(m->topics[i]->name, "added") == 0) {
            s->partitions = m->topics[i]->partitions;
        }
    }
    for (size_t i = 0; status == 0 && i < m->n_leaders; i++) {
        if (strcmp(m->leaders[i]->topic, "added") == 0) {
            s->placed += m->leaders[i]->n_replicas == HARNESS_NODES;
            s->led += m->leaders[i]->leader_id != 0;
        } else if (strcmp(m->leaders[i]->topic, "meta") == 0) {
            s->meta_leader = m->leaders[i]->leader_id;
        }
    }
}

static struct seen look(struct harness *h, unsigned i)
{
    Weir__BrokerMetadataRequest m = WEIR__BROKER_METADATA_REQUEST__INIT;
    struct seen s = {.req = {.data = &s}};
    struct broker_link *link = harness_link(h, i);
    assert_int_equal(broker_link_request(link, BROKER_METADATA_REQUEST, &m.base, NULL, 0,
                                         BROKER_METADATA, &s.req, on_metadata),
                     0);
    harness_run_until(h, &s.done);
    harness_close_link(h, link);
    return s;
}

static void restart(struct harness *h, unsigned i, const char *extra)
{
    harness_stop_broker(h, i);
    harness_configure(h, i, extra);
    harness_start_broker(h, i);
}

static void until_led(struct harness *h, unsigned i)
{
    while (look(h, i).led != 4) {}
}

struct sending {
    unsigned n_done;
    bool done;
};

static void on_produced(struct weir_produce *req, int status)
{
    struct sending *s = req->data;
    assert_int_equal(status, 0);
    s->done = ++s->n_done == 4;
}

static void produce_to_each(struct harness *h)
{
    struct sending s = {0};
    struct weir_produce reqs[4];
    struct weir_client *client = harness_client(h, &(struct weir_client_options){0});
    for (unsigned i = 0; i < 4; i++) {
        reqs[i] = (struct weir_produce){.data = &s};
        assert_int_equal(weir_produce(client, "added", i, NULL, 0, "v", 1, &reqs[i], on_produced),
                         0);
    }
    harness_run_until(h, &s.done);
    harness_free_client(h, client);
}

static void a_topic_in_new_configurations__is_there_when_all_nodes_have_it(void **state)
{
    struct harness h;
    (void)state;
    harness_open(&h, WITHOUT);
    harness_until_founded(&h);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        assert_int_equal(look(&h, i).partitions, 0);
        restart(&h, i, WITH);
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        until_led(&h, i);
    }
    produce_to_each(&h);
    for (unsigned i = 0; i < HARNESS_NODES; i++) { /* and it stays */
        restart(&h, i, WITH);
        until_led(&h, i);
        assert_int_equal(look(&h, i).placed, 4);
    }
    produce_to_each(&h);
    harness_close(&h);
}

/* The last node folds the record that places the topic while it does not know it. */
static void a_node_that_did_not_know_the_topic__reads_where_it_is_when_it_does(void **state)
{
    struct harness h;
    (void)state;
    harness_open(&h, WITHOUT);
    harness_until_founded(&h);
    restart(&h, 0, WITH);
    restart(&h, 1, WITH);
    for (struct seen s = look(&h, 0); s.placed != 4; s = look(&h, 0)) {
        if (s.meta_leader == 3) { /* it would never write it */
            restart(&h, 2, WITHOUT);
        }
    }
    assert_int_equal(look(&h, 2).partitions, 0);
    restart(&h, 2, WITH);
    until_led(&h, 2);
    produce_to_each(&h);
    harness_close(&h);
}

static void a_configuration_with_another_number_of_partitions__is_refused(void **state)
{
    struct harness h;
    struct error err = {0};
    (void)state;
    harness_open(&h, WITHOUT);
    harness_until_founded(&h);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        restart(&h, i, WITH);
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        until_led(&h, i);
    }
    harness_stop_broker(&h, 1);
    harness_configure(&h, 1, WIDER);
    assert_int_equal(broker_start(h.config[1], &h.broker[1], &err), WEIR_ECONFIG);
    assert_non_null(strstr(err.text, "added partitions=8"));
    h.broker[1] = NULL;
    harness_configure(&h, 1, WITH);
    harness_start_broker(&h, 1);
    until_led(&h, 1);
    harness_close(&h);
}

/* Whether any of its partitions has a folder on node i. */
static bool has_files(struct harness *h, unsigned i)
{
    char path[128];
    bool found = false;
    for (unsigned k = 0; k < 4; k++) {
        (void)snprintf(path, sizeof(path), "%s/n%u/log/added-%u", h->dir, i + 1, k);
        found = found || access(path, F_OK) == 0;
    }
    return found;
}

/* After a restart the file decides what belongs here: what it does not say must not have promised
 * anything yet. */
static void a_replica__is_opened_only_when_the_clusters_file_says_so(void **state)
{
    struct harness h;
    char blocked[128];
    (void)state;
    harness_open(&h, WITHOUT);
    harness_until_founded(&h);
    restart(&h, 0, WITH);
    restart(&h, 1, WITH);
    harness_stop_broker(&h, 2);
    (void)snprintf(blocked, sizeof(blocked), "%s/n3/cluster.new", h.dir);
    assert_int_equal(mkdir(blocked, 0700), 0); /* the file can't be written */
    harness_configure(&h, 2, WITH);
    harness_start_broker(&h, 2);
    while (look(&h, 2).placed != 4) {} /* it knows, but not for good */
    while (!has_files(&h, 0) || !has_files(&h, 1)) {
        (void)look(&h, 2);
    }
    assert_int_equal(look(&h, 2).placed, 4);
    assert_false(has_files(&h, 2));
    assert_int_equal(rmdir(blocked), 0);
    until_led(&h, 2);
    assert_true(has_files(&h, 2));
    harness_close(&h);
}

/* Two numbers at a time: one of them is written, who has the other does not serve the topic. */
static void configurations_that_differ__end_with_one_of_them(void **state)
{
    struct harness h;
    (void)state;
    harness_open(&h, WITHOUT);
    harness_until_founded(&h);
    restart(&h, 0, WITH);
    restart(&h, 1, WIDER);
    for (bool one = false; !one;) {
        struct seen a = look(&h, 0), b = look(&h, 1);
        if (a.meta_leader == 3) {
            restart(&h, 2, WITHOUT);
        }
        one = (a.partitions == 0) != (b.partitions == 0);
    }
    bool wider = look(&h, 0).partitions == 0;
    struct error err = {0};
    unsigned wrong = wider ? 0 : 1;
    harness_stop_broker(&h, wrong);
    assert_int_equal(broker_start(h.config[wrong], &h.broker[wrong], &err), WEIR_ECONFIG);
    h.broker[wrong] = NULL;
    harness_configure(&h, wrong, wider ? WIDER : WITH);
    harness_start_broker(&h, wrong);
    restart(&h, 2, wider ? WIDER : WITH);
    uint32_t led = wider ? 8 : 4;
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        while (look(&h, i).led != led) {}
    }
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_topic_in_new_configurations__is_there_when_all_nodes_have_it),
        cmocka_unit_test(a_node_that_did_not_know_the_topic__reads_where_it_is_when_it_does),
        cmocka_unit_test(a_configuration_with_another_number_of_partitions__is_refused),
        cmocka_unit_test(a_replica__is_opened_only_when_the_clusters_file_says_so),
        cmocka_unit_test(configurations_that_differ__end_with_one_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
