/* The fold of `meta`, its file, and who holds what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/broker/cluster_file.h"
#include "nodes/broker/placement.h"

#define GOLDEN          "tests/golden/broker/cluster_v1.bin"
#define GOLDEN_INTERNAL "tests/golden/broker/cluster_v1_internal.bin"

static struct config config;

/* n nodes, topics `a` of 6 partitions, `groups` and `meta` of 1. */
static void configure(unsigned n, const char *extra)
{
    struct bytes text;
    struct error err = {0};
    bytes_init(&text, 16384);
    bytes_printf(&text, "node.name = n1\nnode.data = /d\ncluster.secret = 0123456789abcdef\n"
                        "tls.plain = yes\n"
                        "log.topic = a partitions=6\nlog.topic = groups partitions=1\n"
                        "log.topic = meta partitions=1\n");
    for (unsigned i = 1; i <= n; i++) {
        bytes_printf(&text, "cluster.node = n%u id=%u peer=h:%u broker=h:%u http=h:%u rtmp=h:%u\n",
                     i, i, 100 + i, 200 + i, 300 + i, 400 + i);
    }
    bytes_printf(&text, "%s", extra);
    bytes_put_u8(&text, 0);
    if (config_parse("test", (const char *)text.data, &config, &err) != 0) {
        fail_msg("%s", err.text);
    }
    bytes_close(&text);
}

static void found(struct cluster *c, unsigned n, const char *extra)
{
    struct error err = {0};
    configure(n, extra);
    assert_int_equal(cluster_found(c, &config, &err), 0);
}

static bool fold(struct cluster *c, const struct cluster_record *r)
{
    return cluster_fold(c, &(struct batch_record){.offset = LOG_OFFSET(c->next),
                                                  .key = r->key.data,
                                                  .key_len = (int32_t)r->key.len,
                                                  .value = r->value.data,
                                                  .value_len = (int32_t)r->value.len});
}

static void set_state(struct cluster *c, uint32_t id, enum cluster_state state)
{
    struct cluster_record r;
    cluster_record_init(&r);
    struct cluster_node n = *cluster_node(c, id);
    n.state = state;
    cluster_put_node(&r, &n);
    assert_true(fold(c, &r));
    cluster_record_close(&r);
}

static void add_node(struct cluster *c, uint32_t id)
{
    struct cluster_record r;
    struct cluster_node n = cluster_node(c, 1) != NULL ? *cluster_node(c, 1) : c->nodes[0];
    cluster_record_init(&r);
    n.node.id = id;
    (void)snprintf(n.node.name, sizeof(n.node.name), "n%u", id);
    n.state = CLUSTER_ACTIVE;
    cluster_put_node(&r, &n);
    assert_true(fold(c, &r));
    cluster_record_close(&r);
}

static void place(struct cluster *c, int64_t at, const struct cluster_placement *p)
{
    struct cluster_record r;
    cluster_record_init(&r);
    assert_true(at >= 0 && at <= 6);
    cluster_put_placement(&r, at == 6 ? "groups" : "a", at == 6 ? 0 : (uint32_t)at, p);
    assert_true(fold(c, &r));
    cluster_record_close(&r);
}

/* --- The fold --- */

static void cluster_found__places_partition_k_on_the_nodes_from_k_on(void **state)
{
    (void)state;
    struct cluster c;
    found(&c, 5, "");
    assert_int_equal(c.n_nodes, 5);
    assert_int_equal(c.id, 0);
    for (unsigned k = 0; k < 6; k++) {
        assert_int_equal(c.placements[k].replicas.n, 3);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(c.placements[k].replicas.at[i], (k + i) % 5 + 1);
        }
    }
    assert_int_equal(c.placements[7].replicas.n, 5); /* meta: every one of the first five */
    cluster_close(&c);
    found(&c, 3, "log.replicas = 5\n");
    assert_int_equal(c.placements[0].replicas.n, 3);
    cluster_close(&c);
}

static void cluster_found__of_a_joining_node_places_nothing(void **state)
{
    (void)state;
    struct cluster c;
    found(&c, 3, "cluster.join = yes\n");
    assert_int_equal(c.n_nodes, 3);
    assert_int_equal(c.placements[0].replicas.n, 0);
    cluster_close(&c);
}

static void cluster_fold__takes_what_was_put(void **state)
{
    (void)state;
    struct cluster c;
    struct cluster_record r;
    found(&c, 3, "");
    cluster_record_init(&r);
    cluster_put_cluster(&r, &c, 77, NULL);
    assert_true(fold(&c, &r));
    assert_int_equal(c.id, 77);
    cluster_put_cluster(&r, &c, 78, NULL);
    assert_false(fold(&c, &r)); /* a cluster has one id for ever */
    add_node(&c, 9);
    assert_int_equal(c.n_nodes, 4);
    assert_string_equal(cluster_node(&c, 9)->node.name, "n9");
    assert_int_equal(cluster_node(&c, 9)->node.broker.port, 201);
    set_state(&c, 9, CLUSTER_DRAINING);
    assert_int_equal(cluster_node(&c, 9)->state, CLUSTER_DRAINING);
    struct cluster_placement p = {.replicas = {{2, 3, 9}, 3}, .leaving = {{1}, 1}};
    place(&c, 2, &p);
    assert_true(cluster_ids_equal(&c.placements[2].replicas, &p.replicas));
    assert_true(cluster_ids_equal(&c.placements[2].leaving, &p.leaving));
    assert_false(cluster_is_drained(&c, 1));
    assert_false(cluster_is_drained(&c, 9));
    assert_int_equal(c.next, 5);
    assert_int_equal(c.n_void, 1);
    cluster_record_close(&r);
    cluster_close(&c);
}

/* --- Topics --- */

static void put_topic(struct cluster *c, const char *name, uint32_t partitions, bool taken)
{
    struct config_topic t = {.partitions = partitions};
    struct cluster_record r;
    (void)snprintf(t.name, sizeof(t.name), "%s", name);
    cluster_record_init(&r);
    cluster_put_cluster(&r, c, c->id, &t);
    assert_int_equal(fold(c, &r), taken);
    cluster_record_close(&r);
}

/* Founded, before `a` was in the configuration: it is placed nowhere. */
static void found_without_a(struct cluster *c)
{
    struct config with;
    struct error err = {0};
    configure(3, "");
    with = config;
    struct config_topic *t = config.topics;
    while (strcmp(t->name, "a") != 0) {
        t++;
    }
    (void)snprintf(t->name, sizeof(t->name), "other");
    struct cluster before;
    struct cluster_record r;
    assert_int_equal(cluster_found(&before, &config, &err), 0);
    cluster_record_init(&r);
    cluster_put_cluster(&r, &before, 77, NULL);
    config = with;
    assert_int_equal(cluster_found(c, &config, &err), 0);
    place(c, 6, &before.placements[6]);
    assert_true(fold(c, &r));
    cluster_record_close(&r);
    cluster_close(&before);
}

static void a_topic_that_is_new_in_the_configuration__is_placed_when_that_is_written(void **state)
{
    (void)state;
    struct cluster c, d;
    struct bytes out;
    struct error err = {0};
    uint64_t id;
    found_without_a(&c);
    assert_int_equal(c.placements[6].replicas.n, 3);
    assert_int_equal(c.placements[7].replicas.n, 3); /* meta: as it was founded */
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(c.placements[i].replicas.n, 0);
    }
    assert_null(cluster_topic(&c, "a"));
    place(&c, 0,
          &(struct cluster_placement){.replicas = {{2, 3, 1}, 3}, .founders = {{2, 3, 1}, 3}});
    put_topic(&c, "a", 6, true);
    assert_int_equal(cluster_topic(&c, "a")->partitions, 6);
    assert_int_equal(cluster_topic(&c, "other")->partitions, 6); /* none is forgotten */
    assert_int_equal(c.placements[0].founders.n, 3);
    assert_false(cluster_topic_differs(&c, &config.topics[0]));
    put_topic(&c, "a", 7, false); /* twice in the record */
    /* And the file has all of it. */
    bytes_init(&out, 1 << 20);
    cluster_encode(&c, c.id, &out);
    assert_int_equal(cluster_found(&d, &config, &err), 0);
    assert_int_equal(cluster_decode(&d, out.data, out.len, &id, &err), 0);
    assert_int_equal(d.n_topics, c.n_topics);
    assert_int_equal(d.placements[0].founders.n, 3);
    assert_int_equal(d.placements[1].replicas.n, 0);
    bytes_close(&out);
    cluster_close(&c);
    cluster_close(&d);
}

static void a_number_of_partitions__is_for_ever(void **state)
{
    (void)state;
    struct cluster c, d;
    struct cluster_record r;
    struct error err = {0};
    found(&c, 3, "");
    cluster_record_init(&r);
    cluster_put_cluster(&r, &c, 77, NULL);
    assert_true(fold(&c, &r));
    for (uint32_t i = 0; i < config.n_topics; i++) {
        config.topics[i].partitions += strcmp(config.topics[i].name, "a") == 0;
    }
    assert_true(cluster_topic_differs(&c, &config.topics[0]));
    assert_int_equal(cluster_found(&d, &config, &err), 0);
    cluster_put_cluster(&r, &d, 77, NULL); /* 7 now */
    assert_false(fold(&c, &r));
    assert_int_equal(cluster_topic(&c, "a")->partitions, 6);
    cluster_record_close(&r);
    cluster_close(&c);
    cluster_close(&d);
}

static bool everybody(const void *data, uint32_t id)
{
    (void)data;
    (void)id;
    return true;
}

static void a_group_that_has_not_begun__is_not_moved(void **state)
{
    (void)state;
    struct cluster c;
    struct cluster_placement p;
    found(&c, 5, "");
    set_state(&c, 1, CLUSTER_DRAINING);
    for (int64_t i = 0; i < 7; i++) {
        p = c.placements[i];
        p.founders = p.replicas;
        place(&c, i, &p);
    }
    assert_int_equal(placement_next(&c, everybody, NULL, &p), -1);
    p = c.placements[0];
    p.founders.n = 0;
    place(&c, 0, &p);
    assert_int_equal(placement_next(&c, everybody, NULL, &p), 0);
    cluster_close(&c);
}

static void void_records__change_nothing(void **state)
{
    (void)state;
    struct cluster c;
    struct cluster_record r;
    static const char *const keys[] = {
        "",           "node/",          "node/0",      "node/x",        "node/1x",  "placement/a",
        "placement/", "placement/a/6",  "cluster/1",   "placement/c/0", "nonsense", "placement/a/x",
        "node/-1",    "placement/a/-1", "placement//0"};
    found(&c, 3, "");
    cluster_record_init(&r);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        bytes_reset(&r.key);
        bytes_put(&r.key, keys[i], strlen(keys[i]));
        assert_false(fold(&c, &r));
    }
    /* A value of another kind, and one that contradicts itself. */
    cluster_put_node(&r, &c.nodes[0]);
    bytes_reset(&r.key);
    bytes_put(&r.key, "node/2", 6);
    assert_false(fold(&c, &r));
    static const struct cluster_placement bad[] = {
        {.replicas = {{0}, 0}},
        {.replicas = {{1, 1}, 2}},
        {.replicas = {{1, 0}, 2}},
        {.replicas = {{1, 2}, 2}, .leaving = {{2}, 1}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cluster_put_placement(&r, "a", 0, &bad[i]);
        assert_false(fold(&c, &r));
    }
    cluster_put_placement(&r, "meta", 0, &c.placements[0]);
    assert_false(fold(&c, &r)); /* its members follow from the nodes */
    assert_int_equal(c.changes, 0);
    assert_int_equal(c.placements[0].replicas.n, 3);
    cluster_record_close(&r);
    cluster_close(&c);
}

static void too_many_nodes__are_void(void **state)
{
    (void)state;
    struct cluster c;
    found(&c, 1, "");
    for (uint32_t id = 2; id <= CLUSTER_NODES_MAX; id++) {
        add_node(&c, id * 3);
    }
    struct cluster_record r;
    struct cluster_node n = c.nodes[0];
    n.node.id = 1000;
    cluster_record_init(&r);
    cluster_put_node(&r, &n);
    assert_false(fold(&c, &r));
    assert_int_equal(c.n_nodes, CLUSTER_NODES_MAX);
    cluster_record_close(&r);
    cluster_close(&c);
}

/* --- The file --- */

static void make_rich(struct cluster *c)
{
    struct cluster_record r;
    found(c, 3, "");
    cluster_record_init(&r);
    for (int64_t i = 0; i < 7; i++) {
        place(c, i, &c->placements[i]);
    }
    c->next = 0; /* as in the golden file */
    cluster_put_cluster(&r, c, 0x1122334455667788, NULL);
    assert_true(fold(c, &r));
    cluster_record_close(&r);
    add_node(c, 4);
    set_state(c, 1, CLUSTER_REMOVED);
    place(c, 3, &(struct cluster_placement){.replicas = {{4, 2, 3}, 3}, .leaving = {{1}, 1}});
}

static void assert_same(const struct cluster *a, const struct cluster *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->next, b->next);
    assert_int_equal(a->n_nodes, b->n_nodes);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        assert_string_equal(a->nodes[i].node.name, b->nodes[i].node.name);
        assert_int_equal(a->nodes[i].node.id, b->nodes[i].node.id);
        assert_int_equal(a->nodes[i].state, b->nodes[i].state);
        assert_int_equal(a->nodes[i].node.rtmp.port, b->nodes[i].node.rtmp.port);
        assert_int_equal(a->nodes[i].node.internal.port, b->nodes[i].node.internal.port);
        assert_string_equal(a->nodes[i].node.internal.host, b->nodes[i].node.internal.host);
    }
    for (unsigned i = 0; i < 7; i++) {
        assert_true(cluster_ids_equal(&a->placements[i].replicas, &b->placements[i].replicas));
        assert_true(cluster_ids_equal(&a->placements[i].leaving, &b->placements[i].leaving));
    }
}

static void the_file__holds_the_whole_fold(void **state)
{
    (void)state;
    struct cluster c, d;
    struct bytes out;
    struct error err = {0};
    uint64_t id = 0;
    make_rich(&c);
    bytes_init(&out, 1 << 20);
    cluster_encode(&c, c.id, &out);
    assert_int_equal(bytes_error(&out), 0);
    assert_int_equal(cluster_found(&d, &config, &err), 0);
    assert_int_equal(cluster_decode(&d, out.data, out.len, &id, &err), 0);
    assert_int_equal(id, 0x1122334455667788);
    assert_same(&c, &d);
    /* Every flipped bit and every cut is noticed, and changes nothing. */
    for (size_t i = 0; i < out.len; i++) {
        out.data[i] ^= (uint8_t)(1u << (i % 8));
        assert_true(cluster_decode(&d, out.data, out.len, &id, &err) < 0);
        out.data[i] ^= (uint8_t)(1u << (i % 8));
        assert_int_equal(cluster_decode(&d, out.data, i, &id, &err), WEIR_ECORRUPT);
    }
    assert_same(&c, &d);
    bytes_close(&out);
    cluster_close(&c);
    cluster_close(&d);
}

static void write_golden(const char *path, const struct cluster *c)
{
    struct bytes out;
    bytes_init(&out, 1 << 20);
    cluster_encode(c, c->id, &out);
    FILE *w = fopen(path, "we");
    assert_non_null(w);
    assert_int_equal(fwrite(out.data, 1, out.len, w), out.len);
    assert_int_equal(fclose(w), 0);
    bytes_close(&out);
}

static void assert_opens(const char *path, const struct cluster *want)
{
    static uint8_t golden[1 << 16];
    struct cluster c;
    struct error err = {0};
    uint64_t id = 0;
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    size_t n = fread(golden, 1, sizeof(golden), f);
    (void)fclose(f);
    assert_int_equal(cluster_found(&c, &config, &err), 0);
    if (cluster_decode(&c, golden, n, &id, &err) != 0) {
        fail_msg("%s: %s", path, err.text);
    }
    assert_same(want, &c);
    cluster_close(&c);
}

/* The first is older than internal addresses: the rule for them holds. */
static void the_golden_files__open(void **state)
{
    (void)state;
    struct cluster c;
    make_rich(&c);
    assert_int_equal(c.nodes[1].node.internal.port, 302);
    assert_opens(GOLDEN, &c);
    struct cluster_record r;
    struct cluster_node n = c.nodes[1];
    cluster_record_init(&r);
    assert_int_equal(config_address_parse("elsewhere:9", &n.node.internal, NULL), 0);
    cluster_put_node(&r, &n);
    assert_true(fold(&c, &r));
    cluster_record_close(&r);
    assert_string_equal(c.nodes[1].node.internal.host, "elsewhere");
    if (getenv("WEIR_WRITE_GOLDEN") != NULL) {
        write_golden(GOLDEN_INTERNAL, &c);
    }
    assert_opens(GOLDEN_INTERNAL, &c);
    cluster_close(&c);
}

/* --- Replicas --- */

static bool anybody(const void *data, uint32_t id)
{
    const uint32_t *dead = data;
    return dead == NULL || *dead != id;
}

/* Follows placement_next to its end, each move finished before the next. Returns the moves. */
static unsigned settle(struct cluster *c, uint32_t *dead)
{
    struct cluster_placement p;
    unsigned n = 0;
    for (int64_t at; (at = placement_next(c, anybody, dead, &p)) >= 0; n++) {
        assert_true(n < 100);
        place(c, at, &p);
        p.leaving.n = 0;
        place(c, at, &p);
    }
    return n;
}

static unsigned held_by(const struct cluster *c, uint32_t id)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 7; i++) {
        n += cluster_ids_have(&c->placements[i].replicas, id);
    }
    return n;
}

static void nothing_moves__when_all_is_well(void **state)
{
    (void)state;
    struct cluster c;
    found(&c, 3, "");
    assert_int_equal(settle(&c, NULL), 0);
    set_state(&c, 1, CLUSTER_DRAINING); /* and nobody who could take it */
    assert_int_equal(settle(&c, NULL), 0);
    cluster_close(&c);
}

static void added_nodes__take_their_share(void **state)
{
    (void)state;
    struct cluster c;
    found(&c, 3, "");
    add_node(&c, 4);
    add_node(&c, 5);
    assert_int_equal(settle(&c, NULL), 8);
    unsigned least = 100, most = 0;
    for (uint32_t id = 1; id <= 5; id++) {
        least = held_by(&c, id) < least ? held_by(&c, id) : least;
        most = held_by(&c, id) > most ? held_by(&c, id) : most;
    }
    assert_true(most - least <= 1);
    cluster_close(&c);
}

static void a_draining_node__is_emptied_onto_the_others(void **state)
{
    (void)state;
    struct cluster c;
    found(&c, 3, "");
    add_node(&c, 4);
    set_state(&c, 1, CLUSTER_DRAINING);
    assert_int_equal(settle(&c, NULL), 7);
    assert_true(cluster_is_drained(&c, 1));
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(c.placements[i].replicas.n, 3);
    }
    cluster_close(&c);
}

static void a_dead_node__gets_nothing(void **state)
{
    (void)state;
    struct cluster c;
    uint32_t dead = 4;
    found(&c, 3, "");
    add_node(&c, 4);
    add_node(&c, 5);
    set_state(&c, 1, CLUSTER_REMOVED);
    (void)settle(&c, &dead);
    assert_int_equal(held_by(&c, 4), 0);
    assert_int_equal(held_by(&c, 1), 0);
    assert_int_equal(held_by(&c, 5), 7);
    cluster_close(&c);
}

static void what_is_moving__is_left_alone(void **state)
{
    (void)state;
    struct cluster c;
    struct cluster_placement p;
    found(&c, 3, "");
    add_node(&c, 4);
    int64_t at = placement_next(&c, anybody, NULL, &p);
    assert_true(at >= 0);
    assert_int_equal(p.leaving.n, 1);
    place(&c, at, &p);
    assert_int_equal(placement_moving(&c), 1);
    assert_int_equal(placement_next(&c, anybody, NULL, &p), -1);
    /* But a node that goes is not kept waiting. */
    set_state(&c, 2, CLUSTER_DRAINING);
    assert_true(placement_next(&c, anybody, NULL, &p) >= 0);
    cluster_close(&c);
}

/* --- Leaders --- */

static void leaders__are_evened_out_one_at_a_time(void **state)
{
    (void)state;
    static const uint32_t ids[] = {1, 2, 3};
    struct placement_lead leads[9];
    uint32_t partition, target;
    unsigned n = 0;
    for (unsigned i = 0; i < 9; i++) {
        leads[i] =
            (struct placement_lead){.leader = 1, .movable = i != 0, .candidates = {{2, 3}, 2}};
    }
    while (placement_lead_next(leads, 9, ids, 3, 1, &partition, &target)) {
        assert_true(n++ < 20);
        cluster_ids_remove(&leads[partition].candidates, target);
        cluster_ids_add(&leads[partition].candidates, leads[partition].leader);
        leads[partition].leader = target;
    }
    assert_int_equal(leads[0].leader, 1);
    unsigned counts[4] = {0};
    for (unsigned i = 0; i < 9; i++) {
        counts[leads[i].leader]++;
    }
    assert_true(counts[1] <= 4 && counts[2] >= 2 && counts[3] >= 2);
}

static void a_node_that_should_not_lead__loses_all(void **state)
{
    (void)state;
    static const uint32_t ids[] = {2, 3};
    struct placement_lead leads[2] = {
        {.leader = 1, .movable = true, .candidates = {{2, 3}, 2}},
        {.leader = 2, .movable = true, .candidates = {{3}, 1}},
    };
    uint32_t partition = 9, target = 9;
    assert_true(placement_lead_next(leads, 2, ids, 2, 1, &partition, &target));
    assert_int_equal(partition, 0);
    assert_int_equal(target, 3);
    leads[0].leader = 3;
    assert_false(placement_lead_next(leads, 2, ids, 2, 1, &partition, &target));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_found__places_partition_k_on_the_nodes_from_k_on),
        cmocka_unit_test(cluster_found__of_a_joining_node_places_nothing),
        cmocka_unit_test(cluster_fold__takes_what_was_put),
        cmocka_unit_test(a_topic_that_is_new_in_the_configuration__is_placed_when_that_is_written),
        cmocka_unit_test(a_number_of_partitions__is_for_ever),
        cmocka_unit_test(a_group_that_has_not_begun__is_not_moved),
        cmocka_unit_test(void_records__change_nothing),
        cmocka_unit_test(too_many_nodes__are_void),
        cmocka_unit_test(the_file__holds_the_whole_fold),
        cmocka_unit_test(the_golden_files__open),
        cmocka_unit_test(nothing_moves__when_all_is_well),
        cmocka_unit_test(added_nodes__take_their_share),
        cmocka_unit_test(a_draining_node__is_emptied_onto_the_others),
        cmocka_unit_test(a_dead_node__gets_nothing),
        cmocka_unit_test(what_is_moving__is_left_alone),
        cmocka_unit_test(leaders__are_evened_out_one_at_a_time),
        cmocka_unit_test(a_node_that_should_not_lead__loses_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
