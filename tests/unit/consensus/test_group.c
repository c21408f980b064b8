#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "cluster.h"
#include "consensus/group_impl.h"
#include "consensus/transport_impl.h"

static struct cluster c;

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

static void group__elects_a_leader_and_commits_on_all(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    cluster_propose_many(&c, 100, 1, 100);
    assert_int_equal(c.acked, 100);
    assert_int_equal(cluster_leader(&c), leader);
    cluster_await_equal(&c);
}

static bool all_know_the_leader(struct cluster *cl)
{
    uint32_t leader = cluster_leader(cl);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (leader == 0 || group_leader(cl->nodes[id].group) != leader) {
            return false;
        }
    }
    return true;
}

static void group__followers_refuse_proposals_and_name_the_leader(void **state)
{
    (void)state;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    assert_true(cluster_run_until(&c, all_know_the_leader));
    struct group_propose req = {0};
    struct group *follower = c.nodes[leader % CLUSTER_NODES + 1].group;
    assert_int_equal(group_propose(follower, &req, "x", 1, NULL), WEIR_ENOTLEADER);
    assert_false(group_is_leader(follower));
}

static void group__pipelines_ten_thousand_batches(void **state)
{
    (void)state;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 10000, 256, 300);
    assert_int_equal(c.acked, 10000);
    cluster_await_equal(&c);
}

static void group__keeps_everything_over_a_restart_of_all(void **state)
{
    (void)state;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 700, 50, 200);
    int64_t end = c.acked_end;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_await_equal(&c);
    struct partition *p = group_partition(c.nodes[1].group);
    assert_int_equal(partition_high_watermark(p).v, end);
    cluster_propose_many(&c, 10, 1, 100);
    cluster_await_equal(&c);
}

static void group__brings_back_a_node_that_fell_behind_the_leaders_memory(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    uint32_t away = leader % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, away);
    cluster_propose_many(&c, 3000, 100, 4000);
    struct metric *catchups = metric_counter("weir_raft_catchups_total", "", "");
    int64_t before = catchups->value;
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_propose_many(&c, 200, 20, 4000);
    cluster_await_equal(&c);
    assert_true(catchups->value > before);
}

static void group__catches_up_no_faster_than_its_pace(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    uint32_t away = leader % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, away);
    cluster_propose_many(&c, 3000, 100, 4000);
    c.pace.bytes_per_s = 16 << 20;
    uint64_t began_ns = env_now_ns(c.nodes[leader].env);
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_await_equal(&c);
    /* At least 6 MB of the 12 had to come from segments. */
    assert_true(c.pace.next_ns >= began_ns + 6000000ull * 1000000000u / c.pace.bytes_per_s);
}

static void group__goes_on_when_its_leader_stops(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    for (int round = 0; round < 4; round++) {
        uint32_t leader = cluster_await_leader(&c);
        cluster_propose_many(&c, 300, 30, 100);
        for (int i = 0; i < 20; i++) {
            (void)cluster_propose(&c, 1, 100); /* on the way when it stops */
        }
        cluster_stop(&c, leader);
        assert_true(cluster_await_leader(&c) != leader);
        cluster_propose_many(&c, 300, 30, 100);
        assert_int_equal(cluster_start(&c, leader, &err), 0);
        cluster_await_equal(&c);
    }
}

static void group__bounds_what_is_in_flight(void **state)
{
    (void)state;
    c.inflight_bytes_max = 10000;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    int rv = 0;
    unsigned taken = 0;
    while ((rv = cluster_propose(&c, 1, 1000)) == 0) {
        taken++;
    }
    assert_int_equal(rv, WEIR_EBUSY);
    assert_int_equal(taken, 9);
    /* One that is larger than all may go alone. */
    cluster_propose_many(&c, 1, 1, 30000);
    assert_int_equal(c.acked, 10);
}

static void group__refuses_proposals_when_the_disk_is_short(void **state)
{
    (void)state;
    c.free_bytes_min = UINT64_MAX;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    assert_int_equal(cluster_propose(&c, 1, 10), WEIR_ENOSPC);
}

/* Flips one byte in the middle of the node's largest write. */
static void corrupt_a_segment(uint32_t id)
{
    char dir[128], path[512] = "";
    snprintf(dir, sizeof(dir), "%s/%u", c.dir, id);
    DIR *d = opendir(dir);
    assert_non_null(d);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (strstr(e->d_name, ".log") != NULL || strstr(e->d_name, ".seg") != NULL) {
            snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
            break;
        }
    }
    closedir(d);
    assert_true(path[0] != '\0');
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    assert_int_equal(close(fd), 0);
}

static bool nobody_is_damaged(struct cluster *cluster)
{
    char text[256];
    bool damaged = false;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        damaged = damaged || group_damage(cluster->nodes[id].group, text, sizeof(text)) > 0;
    }
    return !damaged;
}

static void group__mends_a_corrupt_replica_while_the_others_go_on(void **state)
{
    (void)state;
    struct error err = {0};
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    uint32_t victim = leader % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 100, 10, 1000);
    cluster_stop(&c, victim);
    corrupt_a_segment(victim);
    cluster_propose_many(&c, 100, 10, 1000);
    assert_int_equal(cluster_start(&c, victim, &err), 0);
    cluster_propose_many(&c, 100, 10, 1000);
    assert_true(cluster_run_until(&c, nobody_is_damaged));
    cluster_await_equal(&c);
}

static void group_open__refuses_options_that_make_no_group(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    struct group_options o = {
        .id = 9, .dir = "/nowhere", .n_voters = 17, .heartbeat_ms = 50, .election_ms = 500};
    struct group_events events = {0};
    struct group *g = NULL;
    assert_int_equal(group_open(c.nodes[2].env, c.nodes[2].transport, &o, &events, &g, &err),
                     WEIR_EINVAL);
    assert_string_equal(err.text, "group 9: 17 founding voters, at most 16");
    assert_null(g);
}

static uint64_t ticked_ns;

/* And no disk owes an answer: that one would be late. */
static bool all_have_ticked(struct cluster *cl)
{
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (cl->nodes[id].transport->clock_at_ns < ticked_ns) {
            return false;
        }
    }
    return list_empty(&cl->requests);
}

static bool transfer_is_over;

static void transferred(struct group_transfer *req, int status)
{
    (void)req;
    (void)status;
    transfer_is_over = true;
}

static bool is_transferred(struct cluster *cl)
{
    (void)cl;
    return transfer_is_over;
}

static void give_leadership_to(uint32_t id)
{
    static struct group_transfer req;
    while (cluster_await_leader(&c) != id) {
        transfer_is_over = false;
        if (group_transfer(c.nodes[cluster_leader(&c)].group, &req, id, transferred) == 0) {
            assert_true(cluster_run_until(&c, is_transferred));
        }
        cluster_propose_many(&c, 1, 1, 10);
    }
}

/* All processes of a machine get no time for a while. Nobody has been silent: nobody listened. Who
 * looks at the clock first may be the leader, who says something then; so each of them leads. */
static void loops_that_stand_still__elect_nobody(void **state)
{
    (void)state;
    cluster_start_all(&c);
    for (uint32_t leader = 1; leader <= CLUSTER_NODES; leader++) {
        give_leadership_to(leader);
        cluster_await_equal(&c);
        uint64_t term = group_term(c.nodes[leader].group).v;
        for (unsigned i = 0; i < 5; i++) {
            ticked_ns = env_now_ns(c.nodes[1].env) + 60000000u;
            assert_true(cluster_run_until(&c, all_have_ticked));
            const struct group *g = c.nodes[leader].group;
            raft_time before_ms = group_now_ms(g);
            c.clock_ns += 10000000000u;
            assert_true(group_now_ms(g) - before_ms <= 2 * g->transport->tick_us / 1000 + 1);
        }
        cluster_propose_many(&c, 10, 5, 10);
        cluster_await_equal(&c);
        assert_int_equal(group_term(c.nodes[leader].group).v, term);
    }
    assert_int_equal(c.unknown, 0);
}

static uint32_t silent; /* the node that leads, and says nothing */

static void nothing(void *data)
{
    (void)data;
}

static bool another_leads(struct cluster *cl)
{
    uint32_t leader = cluster_leader(cl);
    return leader != 0 && leader != silent;
}

/* One that is stopped, or whose cable is cut: no link closes before 3 s, nothing comes. Libraft's
 * own patience is longer still here, so that neither is what ends first. */
static void leader_that_falls_silent__is_followed_by_rank_and_not_by_chance(void **state)
{
    (void)state;
    cluster_start_all(&c);
    for (silent = 1; silent <= CLUSTER_NODES; silent++) {
        give_leadership_to(silent);
        cluster_await_equal(&c);
        for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
            if (id != silent) {
                c.nodes[id].group->raft.follower_state.randomized_election_timeout = 4900;
            }
        }
        struct transport_handler *handler = &c.nodes[silent].transport->groups[0].handler;
        void (*tick)(void *) = handler->tick;
        handler->tick = nothing;
        uint64_t since_ns = c.clock_ns;
        assert_true(cluster_run_until(&c, another_leads));
        assert_true(c.clock_ns - since_ns <
                    2500000000u); /* the cluster's clock, not the machine's */
        handler->tick = tick;
        cluster_propose_many(&c, 10, 5, 10);
        cluster_await_equal(&c);
    }
}

static uint32_t deaf;
static struct env_timer *watched;
static uint64_t longest_us;

static void note_delay(struct env_timer *timer, uint64_t delay_us)
{
    if (timer == watched && delay_us > longest_us) {
        longest_us = delay_us;
    }
    c.nodes[deaf].ops_below->timer_start(timer, delay_us);
}

static bool all_tries_are_over(struct cluster *cl)
{
    return cl->nodes[deaf].group->failover_tries == 8;
}

static int lose(void *data, uint32_t peer_id, uint16_t type, const void *msg, size_t len,
                const void *attachment, size_t attachment_len, struct error *err)
{
    (void)data, (void)peer_id, (void)type, (void)msg, (void)len;
    (void)attachment, (void)attachment_len, (void)err;
    return 0;
}

/* Votes that take long, on a line between two continents, are waited for in the end. */
static void campaigns_after_a_lost_leader__are_further_and_further_apart(void **state)
{
    (void)state;
    cluster_start_all(&c);
    deaf = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_await_equal(&c);
    struct cluster_node *n = &c.nodes[deaf];
    struct transport_handler *handler = &n->transport->groups[0].handler, before = *handler;
    watched = &n->group->failover_timer;
    longest_us = 0;
    n->ops.timer_start = note_delay;
    handler->receive = lose;
    assert_true(cluster_run_until(&c, all_tries_are_over));
    assert_true(longest_us >= 240000);
    handler->receive = before.receive;
    cluster_propose_many(&c, 10, 5, 10);
    cluster_await_equal(&c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(group__elects_a_leader_and_commits_on_all),
        TEST(group__followers_refuse_proposals_and_name_the_leader),
        TEST(group__pipelines_ten_thousand_batches),
        TEST(group__keeps_everything_over_a_restart_of_all),
        TEST(group__brings_back_a_node_that_fell_behind_the_leaders_memory),
        TEST(group__catches_up_no_faster_than_its_pace),
        TEST(group__goes_on_when_its_leader_stops),
        TEST(loops_that_stand_still__elect_nobody),
        TEST(leader_that_falls_silent__is_followed_by_rank_and_not_by_chance),
        TEST(campaigns_after_a_lost_leader__are_further_and_further_apart),
        TEST(group__bounds_what_is_in_flight),
        TEST(group__refuses_proposals_when_the_disk_is_short),
        TEST(group__mends_a_corrupt_replica_while_the_others_go_on),
        TEST(group_open__refuses_options_that_make_no_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
