/* What `meta` and `groups` fold to is the same from a compacted log as from the whole one: random
 * histories through a real partition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../log/harness.h"
#include "base/logging.h"
#include "nodes/broker/cluster.h"
#include "nodes/broker/group_view.h"

#define BATCHES   220
#define GROUPS    5
#define TOPICS    3
#define PRODUCERS 4
#define NODES     6
#define PLACES    8

static struct harness h;
static struct error err;
static uint32_t seed;

static uint32_t below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static void append(struct bytes *batch, struct batch_builder *b)
{
    assert_true(batch_finish(b) > 0);
    batch_stamp(batch->data, partition_end_offset(h.p), LOG_TERM(1), (int64_t)h.last * 10);
    harness_append_raw(&h, 1, LOG_ENTRY_BATCH, batch->data, (uint32_t)batch->len);
    harness_run(&h);
}

static void open_log(void)
{
    harness_init(&h, seed, 0);
    h.options.segment_bytes = 8192;
    assert_int_equal(harness_open(&h, &err), 0);
}

typedef void (*fold_cb)(void *data, const struct batch_record *r);

/* All records that are there, in order. */
static unsigned read_all(fold_cb fold, void *data)
{
    struct bytes out;
    unsigned n = 0;
    bytes_init(&out, 1 << 20);
    for (struct log_offset at = {0}; at.v < partition_high_watermark(h.p).v;) {
        struct batch_iter it;
        struct batch_record r;
        out.len = 0;
        assert_int_equal(partition_fetch(h.p, at, 1, &out, &at, &err), 0);
        assert_int_equal(batch_iter_init(&it, out.data, out.len, &err), 0);
        while (batch_iter_next(&it, &r, &err) == 1) {
            fold(data, &r);
            n++;
        }
    }
    bytes_close(&out);
    return n;
}

/* Up to somewhere, perhaps with the tombstones. */
static void compact(void)
{
    struct partition_compaction c;
    int64_t end = partition_end_offset(h.p).v;
    partition_compact(h.p, LOG_OFFSET(end / 2 + below((uint32_t)(end / 2))),
                      below(2) == 0 ? (int64_t)(h.last * below(11)) : 0);
    harness_append_type(&h, LOG_ENTRY_BARRIER); /* closes the last segment */
    harness_run(&h);
    partition_set_commit(h.p, partition_last_index(h.p));
    for (int i = 0; i < 400; i++) {
        fault_env_advance(h.env, 20000);
    }
    partition_compaction(h.p, &c);
    assert_false(c.running);
}

/* --- groups --- */

static const char *group_name(uint32_t i)
{
    static const char *const names[GROUPS] = {"readers", "views", "a", "b", "c"};
    return names[i];
}

static const char *topic_name(uint32_t i)
{
    static const char *const names[TOPICS] = {"deeds", "chat", "x"};
    return names[i];
}

/* A commit of some partitions, one that forgets, an expiry of a whole group, a producer. */
static void put_groups_batch(uint64_t generation)
{
    struct bytes out;
    struct batch_builder b;
    uint32_t group = below(GROUPS), what = below(10);
    bytes_init(&out, PAYLOAD_MAX);
    batch_begin(&b, &out, 0);
    if (what == 0) {
        for (uint32_t t = 0; t < TOPICS; t++) {
            for (uint32_t k = 0; k < 4; k++) {
                group_put_offset(&b, 0, group_name(group), topic_name(t), k, -1, 0);
            }
        }
    } else if (what <= 2) {
        struct view_producer p = {.id = below(1000), .epoch = below(9), .owner = below(50)};
        (void)snprintf(p.name, sizeof(p.name), "producer-%u", below(PRODUCERS));
        group_put_producer(&b, 0, &p);
    } else {
        for (uint32_t n = 1 + below(4); n > 0; n--) {
            int64_t offset = below(6) == 0 ? -1 : (int64_t)below(100000);
            group_put_offset(&b, 0, group_name(group), topic_name(below(TOPICS)), below(4), offset,
                             generation - below(3));
        }
    }
    append(&out, &b);
    bytes_close(&out);
}

static void fold_group(void *data, const struct batch_record *r)
{
    assert_int_equal(group_view_apply(data, r), 0);
}

static void assert_equal_groups(struct group_view *a, struct group_view *b)
{
    assert_int_equal(a->n_groups, b->n_groups);
    assert_int_equal(a->n_offsets, b->n_offsets);
    assert_int_equal(a->n_producers, b->n_producers);
    for (uint32_t g = 0; g < GROUPS; g++) {
        const struct view_group *x = group_view_find(a, group_name(g));
        const struct view_group *y = group_view_find(b, group_name(g));
        assert_int_equal(x == NULL, y == NULL);
        for (uint32_t i = 0; x != NULL && i < TOPICS * 4; i++) {
            assert_int_equal(group_view_offset(a, group_name(g), topic_name(i / 4), i % 4),
                             group_view_offset(b, group_name(g), topic_name(i / 4), i % 4));
        }
        if (x != NULL) { /* when it expires, and where generations go on */
            assert_int_equal(x->n_offsets, y->n_offsets);
            assert_int_equal(x->committed_ms, y->committed_ms);
            assert_int_equal(x->generation_max, y->generation_max);
        }
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "producer-%u", i);
        const struct view_producer *x = group_view_producer(a, name);
        const struct view_producer *y = group_view_producer(b, name);
        assert_int_equal(x == NULL, y == NULL);
        assert_true(x == NULL || (x->id == y->id && x->epoch == y->epoch && x->owner == y->owner));
    }
}

static void groups__fold_to_the_same_from_a_compacted_log(void **state)
{
    (void)state;
    for (uint32_t run = 1; run <= 15; run++) {
        struct group_view whole, compacted;
        seed = run;
        open_log();
        for (unsigned i = 0; i < BATCHES; i++) {
            put_groups_batch(10 + i / 20);
        }
        partition_set_commit(h.p, partition_last_index(h.p));
        group_view_init(&whole);
        group_view_init(&compacted);
        unsigned before = read_all(fold_group, &whole);
        compact();
        unsigned after = read_all(fold_group, &compacted);
        assert_true(after < before * 3 / 4);
        assert_int_equal(whole.n_ignored + compacted.n_ignored, 0);
        assert_equal_groups(&whole, &compacted);
        group_view_close(&whole);
        group_view_close(&compacted);
        harness_close(&h);
    }
}

/* --- meta --- */

static const char CONFIG[] =
    "node.name = n1\nnode.data = /d\ncluster.secret = 0123456789abcdef\ntls.plain = yes\n"
    "cluster.node = n1 id=1 peer=h:11 broker=h:12 http=h:13 rtmp=h:14\n"
    "cluster.node = n2 id=2 peer=h:21 broker=h:22 http=h:23 rtmp=h:24\n"
    "cluster.node = n3 id=3 peer=h:31 broker=h:32 http=h:33 rtmp=h:34\n"
    "log.topic = a partitions=8\nlog.topic = meta partitions=1\n";

static void random_ids(struct cluster_ids *ids, uint32_t n, const struct cluster_ids *but)
{
    ids->n = 0;
    while (ids->n < n) {
        uint32_t id = 1 + below(NODES);
        if (!cluster_ids_have(ids, id) && (but == NULL || !cluster_ids_have(but, id))) {
            cluster_ids_add(ids, id);
        }
    }
}

/* What a controller writes. */
static void put_meta_record(const struct cluster *c, unsigned i)
{
    struct cluster_record r;
    struct bytes out;
    struct batch_builder b;
    cluster_record_init(&r);
    if (i == 0 || i == BATCHES / 2) { /* a topic comes */
        const struct config_topic more = {.name = "later", .partitions = 3};
        cluster_put_cluster(&r, c, 77, i > 0 ? &more : NULL);
    } else if (below(3) == 0) {
        uint32_t id = 1 + below(NODES);
        struct cluster_node n = {.state = 1 + below(3)};
        n.node.id = id;
        (void)snprintf(n.node.name, sizeof(n.node.name), "n%u", id);
        struct config_address *all[] = {&n.node.peer, &n.node.broker, &n.node.http, &n.node.rtmp};
        for (unsigned k = 0; k < 4; k++) {
            (void)snprintf(all[k]->host, sizeof(all[k]->host), "h");
            all[k]->port = (uint16_t)(1 + below(60000));
        }
        cluster_put_node(&r, &n);
    } else {
        struct cluster_placement p;
        random_ids(&p.replicas, 3, NULL);
        random_ids(&p.leaving, below(3), &p.replicas);
        cluster_put_placement(&r, "a", below(PLACES), &p);
    }
    bytes_init(&out, PAYLOAD_MAX);
    batch_begin(&b, &out, 0);
    batch_add(&b, 0, r.key.data, r.key.len, r.value.data, r.value.len);
    append(&out, &b);
    bytes_close(&out);
    cluster_record_close(&r);
}

static void fold_meta(void *data, const struct batch_record *r)
{
    assert_true(cluster_fold(data, r));
}

static void assert_equal_clusters(const struct cluster *a, const struct cluster *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->replicas, b->replicas);
    assert_int_equal(a->n_topics, b->n_topics);
    assert_non_null(cluster_topic(a, "later"));
    assert_non_null(cluster_topic(b, "later"));
    assert_int_equal(a->n_nodes, b->n_nodes);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        const struct cluster_node *x = &a->nodes[i], *y = &b->nodes[i];
        assert_int_equal(x->node.id, y->node.id);
        assert_int_equal(x->state, y->state);
        assert_string_equal(x->node.name, y->node.name);
        assert_int_equal(x->node.peer.port, y->node.peer.port);
        assert_int_equal(x->node.rtmp.port, y->node.rtmp.port);
    }
    assert_int_equal(a->n_placements, b->n_placements);
    for (uint32_t i = 0; i < a->n_placements; i++) {
        assert_true(cluster_ids_equal(&a->placements[i].replicas, &b->placements[i].replicas));
        assert_true(cluster_ids_equal(&a->placements[i].leaving, &b->placements[i].leaving));
    }
}

static void meta__folds_to_the_same_from_a_compacted_log(void **state)
{
    (void)state;
    static struct config config;
    assert_int_equal(config_parse("test", CONFIG, &config, &err), 0);
    for (uint32_t run = 1; run <= 15; run++) {
        struct cluster whole, compacted;
        seed = run;
        open_log();
        assert_int_equal(cluster_found(&whole, &config, &err), 0);
        assert_int_equal(cluster_found(&compacted, &config, &err), 0);
        for (unsigned i = 0; i < BATCHES; i++) {
            put_meta_record(&whole, i);
        }
        partition_set_commit(h.p, partition_last_index(h.p));
        unsigned before = read_all(fold_meta, &whole);
        compact();
        unsigned after = read_all(fold_meta, &compacted);
        assert_true(after < before * 3 / 4);
        assert_equal_clusters(&whole, &compacted);
        cluster_close(&whole);
        cluster_close(&compacted);
        harness_close(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups__fold_to_the_same_from_a_compacted_log),
        cmocka_unit_test(meta__folds_to_the_same_from_a_compacted_log),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
