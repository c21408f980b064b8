/* Batches that their producers number are stored once, however often they are proposed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cluster.h"

#define RECORDS   3
#define BATCHES   40
#define STATUS_NO 1 /* no answer yet */

static struct cluster c;

struct sent {
    struct group_propose req;
    int status;
    int64_t base;
};
static struct sent sent[BATCHES];
static unsigned waiting;

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    waiting = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

static void on_proposed(struct group_propose *req, int status)
{
    struct sent *s = req->data;
    s->status = status;
    s->base = status == 0 ? req->base.v : -1;
    waiting--;
}

static int propose(struct sent *s, uint32_t node, int16_t epoch, int32_t sequence)
{
    struct bytes out;
    struct batch_builder b;
    bytes_init(&out, 4096);
    batch_begin(&b, &out, 1000);
    for (unsigned i = 0; i < RECORDS; i++) {
        batch_add(&b, 1000, "key", 3, "value", 5);
    }
    b.producer = (struct batch_producer){.id = 99, .epoch = epoch, .sequence = sequence};
    assert_true(batch_finish(&b) > 0);
    s->req = (struct group_propose){.data = s};
    s->status = STATUS_NO;
    int rv = group_propose(c.nodes[node].group, &s->req, out.data, out.len, on_proposed);
    waiting += rv == 0;
    bytes_close(&out);
    return rv;
}

static bool all_answered(struct cluster *cl)
{
    (void)cl;
    return waiting == 0;
}

static void await_answers(void)
{
    assert_true(cluster_run_until(&c, all_answered));
}

static struct partition *log_of(uint32_t node)
{
    return group_partition(c.nodes[node].group);
}

static void propose__twice_is_stored_once_and_committed_before_either_says_so(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    assert_int_equal(propose(&sent[0], leader, 0, 0), 0);
    assert_int_equal(propose(&sent[1], leader, 0, 0), 0); /* the first is not committed */
    assert_true(partition_high_watermark(log_of(leader)).v == 0);
    await_answers();
    assert_true(partition_high_watermark(log_of(leader)).v >= RECORDS);
    assert_int_equal(propose(&sent[2], leader, 0, 0), 0); /* it is now */
    await_answers();
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sent[i].status, 0);
        assert_int_equal(sent[i].base, 0);
        assert_int_equal(sent[i].req.repeated, i > 0);
    }
    assert_int_equal(partition_end_offset(log_of(leader)).v, RECORDS);
}

static void propose__refuses_gaps_and_older_epochs(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    assert_int_equal(propose(&sent[0], leader, 1, RECORDS), WEIR_ESEQUENCE);
    assert_int_equal(propose(&sent[0], leader, 1, 0), 0);
    assert_int_equal(propose(&sent[1], leader, 1, 2 * RECORDS), WEIR_ESEQUENCE);
    assert_int_equal(propose(&sent[1], leader, 0, 0), WEIR_EFENCED);
    assert_int_equal(propose(&sent[1], leader, 1, RECORDS), 0);
    await_answers();
    assert_int_equal(partition_end_offset(log_of(leader)).v, 2 * RECORDS);
}

static void propose__what_a_leader_that_went_left_open_is_booked_once(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    for (unsigned round = 0; round < 4; round++) {
        uint32_t leader = cluster_await_leader(&c);
        for (unsigned i = 0; i < 5; i++) {
            struct sent *s = &sent[round * 5 + i];
            assert_int_equal(propose(s, leader, 0, (int32_t)(round * 5 + i) * RECORDS), 0);
            uv_run(&c.loop, UV_RUN_NOWAIT); /* some of it gets away */
        }
        cluster_stop(&c, leader);
        await_answers();
        uint32_t next = cluster_await_leader(&c);
        for (unsigned i = 0; i < 5; i++) {
            struct sent *s = &sent[round * 5 + i];
            int64_t told = s->status == 0 ? s->base : -1;
            assert_int_equal(propose(s, next, 0, (int32_t)(round * 5 + i) * RECORDS), 0);
            await_answers();
            assert_int_equal(s->status, 0);
            assert_true(told < 0 || told == s->base);
            assert_int_equal(s->base, (round * 5 + i) * RECORDS);
        }
        assert_int_equal(cluster_start(&c, leader, &err), 0);
    }
    cluster_await_equal(&c);
    assert_int_equal(partition_end_offset(log_of(1)).v, 20 * RECORDS);
}

static void propose__a_restart_of_all_forgets_no_producer(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(propose(&sent[i], leader, 0, (int32_t)i * RECORDS), 0);
    }
    await_answers();
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    cluster_start_all(&c);
    leader = cluster_await_leader(&c);
    for (unsigned i = 2; i < 8; i++) {
        assert_int_equal(propose(&sent[i], leader, 0, (int32_t)i * RECORDS), 0);
        await_answers();
        assert_int_equal(sent[i].status, 0);
        assert_int_equal(sent[i].base, i * RECORDS);
        assert_int_equal(sent[i].req.repeated, i < 7);
    }
    assert_int_equal(propose(&sent[0], leader, 0, 0), WEIR_ESEQUENCE); /* too long ago */
    cluster_await_equal(&c);
}

static void handed(struct group_transfer *req, int status)
{
    (void)req;
    assert_int_equal(status, 0);
    waiting--;
}

/* A follower that fetched the log from segments has the table as well. */
static void propose__a_leader_that_caught_up_knows_what_it_missed(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    uint32_t away = leader % CLUSTER_NODES + 1;
    cluster_stop(&c, away);
    assert_int_equal(propose(&sent[0], leader, 0, 0), 0);
    await_answers();
    int64_t base = sent[0].base;
    cluster_propose_many(&c, 3000, 100, 1000);
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_await_equal(&c);
    struct group_transfer transfer = {0};
    waiting = 1;
    assert_int_equal(group_transfer(c.nodes[cluster_leader(&c)].group, &transfer, away, handed), 0);
    await_answers();
    assert_int_equal(cluster_await_leader(&c), away);
    assert_int_equal(propose(&sent[1], away, 0, 0), 0);
    await_answers();
    assert_int_equal(sent[1].status, 0);
    assert_int_equal(sent[1].base, base);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(propose__twice_is_stored_once_and_committed_before_either_says_so),
        TEST(propose__refuses_gaps_and_older_epochs),
        TEST(propose__what_a_leader_that_went_left_open_is_booked_once),
        TEST(propose__a_restart_of_all_forgets_no_producer),
        TEST(propose__a_leader_that_caught_up_knows_what_it_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
