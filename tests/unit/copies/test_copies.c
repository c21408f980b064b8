/* What is missing is made, by whom, and what is told of it. */
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

#include "../run_until.h"
#include "base/crc32c.h"
#include "keeper.h"

/* --- The look --- */

static void look__makes_what_is_to_be_here_and_nothing_else(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n2", "n3");
    commit(2, "n1", "n3");
    put(2, 0, PARTS);
    start();
    run_looks(2);
    assert_true(is_whole(0));
    assert_false(is_there(1));
    assert_true(is_whole(2));
    /* Who is said to hold it was asked. */
    assert_int_equal(peers[1].n_gets, PARTS);
    assert_int_equal(peers[2].n_gets, 0);
    assert_int_equal(copies->n_missing, 0);
}

static void look__of_what_is_whole_reads_nothing(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    start();
    run_looks(2);
    unsigned n_gets = peers[1].n_gets;
    int64_t read = metric_value(copies->scrubbed_bytes);
    run_looks(3);
    assert_int_equal(peers[1].n_gets + peers[2].n_gets, n_gets);
    assert_int_equal(metric_value(copies->scrubbed_bytes), read);
}

static void look__goes_on_behind_a_copy_that_ends_early(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 0, 2);
    start();
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(peers[1].n_gets, PARTS - 2);
}

static void look__fills_a_hole_that_the_size_does_not_show(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 2, PARTS); /* the disk was lost while the segment grew */
    start();
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(peers[1].n_gets, 2);
}

static void look__believes_nobody_whose_bytes_fail_their_crc(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = PEER_LIES;
    peers[2].mode = PEER_SHORT;
    start();
    run_looks(2);
    assert_false(is_whole(0));
    assert_true(copies->n_missing > 0);
    assert_int_equal(metric_value(copies->whole), 0);
    peers[2].mode = PEER_GOOD; /* one that the log does not name has it, too */
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(copies->n_missing, 0);
    assert_int_equal(metric_value(copies->whole), 1);
}

static void look__waits_for_peers_that_fail(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = peers[2].mode = PEER_FAILS;
    start();
    run_looks(2);
    assert_false(is_there(0));
    assert_int_equal(copies->n_missing, 2);
    peers[1].mode = PEER_GOOD;
    run_looks(2);
    assert_true(is_whole(0));
}

static void look__outlives_a_peer_that_goes_in_the_middle(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = PEER_SILENT;
    start();
    RUN_UNTIL(peers[1].n_held > 0);
    peer_close(&peers[1]);
    run_looks(2);
    assert_true(is_whole(0));
    assert_true(peers[2].n_gets >= PARTS);
}

static void look__without_space_says_so_and_takes_nothing(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    close_store();
    open_store(UINT64_MAX / 2);
    start();
    run_looks(2);
    assert_false(is_whole(0));
    assert_true(copies->n_missing > 0);
    stop();
    close_store();
    open_store(0);
    node.http = peers[2].server; /* the first one is drained */
    start();
    run_looks(2);
    assert_true(is_whole(0));
}

static void look__ends_when_the_disk_is_full_in_the_middle(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 0, 1); /* makes the folder */
    assert_int_equal(store_remove(node.store, object_of(0), NULL), 0);
    assert_int_equal(symlink("/dev/full", path_of(0, "")), 0);
    start();
    run_looks(2);
    assert_true(copies->n_missing > 0);
    assert_int_equal(access(path_of(0, "~"), F_OK), 0);
    assert_int_equal(unlink(path_of(0, "")), 0);
    run_looks(3);
    assert_true(is_whole(0));
}

static void look__holds_no_more_in_memory_than_it_may(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    start();
    copies->bytes_held = COPIES_BYTES_MAX; /* as if others had it all */
    for (unsigned i = 0; i < 50; i++) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(peers[1].n_gets, 0);
    copies->bytes_held = 0;
    run_looks(2);
    assert_true(is_whole(0));
    assert_int_equal(copies->bytes_held, 0);
}

static void look__goes_on_when_one_object_can_not_be_written(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n1", "n2");
    put(0, 0, 1);
    assert_int_equal(unlink(path_of(0, "")), 0);
    assert_int_equal(mkdir(path_of(0, ""), 0700), 0);
    assert_int_equal(mkdir(path_of(0, "~"), 0700), 0);
    stop();
    close_store(); /* which has the file open */
    open_store(0);
    start();
    run_looks(2);
    assert_true(is_whole(1));
    assert_int_equal(copies->n_missing, 1);
}

static void look__of_a_segment_that_grows_leaves_it_in_doubt(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    char n1[] = "n1", n2[] = "n2";
    char *nodes[] = {n1, n2};
    Weir__PartCommitted m = feed_part_of(&feed, 0, 1, 0);
    struct http_body *bytes = bytes_of(m.object, 0, m.size);
    m.crc32c = crc32c(0, bytes->data, bytes->len);
    m.nodes = nodes;
    http_body_unref(bytes);
    assert_int_equal(feed_part_record(&feed, &m), VERDICT_OK);
    put(1, 3, 4); /* a part that the log does not know yet */
    start();
    run_looks(2);
    assert_int_equal(copies->n_missing, 0);
    assert_int_equal(access(path_of(1, "~"), F_OK), 0);
    assert_true(is_whole(0));
}

/* --- Who is to hold what --- */

static void members__others_stand_in_for_one_that_is_drained(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    start();
    run_looks(2);
    assert_false(is_there(0));
    config.nodes[1].standing = CONFIG_NODE_DRAINING;
    run_looks(3);
    assert_true(is_whole(0));
}

static void members__others_stand_in_for_one_that_is_silent(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    peers[1].mode = PEER_SILENT;
    config.media_lost_ms = 200;
    notices_silence = true;
    start();
    RUN_UNTIL(is_whole(0));
}

static void members__others_stand_in_for_one_that_can_not_store(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    peers[1].mode = PEER_STOREROOM;
    start();
    RUN_UNTIL(is_whole(0));
    assert_int_equal(__builtin_popcount(copies->members.able), 2);
}

static void members__silence_counts_only_while_this_node_listens(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    start();
    run_looks(2);
    peers[1].mode = peers[2].mode = PEER_SILENT;
    config.media_lost_ms = 600000;
    copies->members.seen_ns -= 3600000000000u; /* an hour in which it was stopped */
    for (unsigned i = 1; i < N; i++) {
        copies->members.at[i].heard_ns -= 3600000000000u;
    }
    run_looks(2);
    assert_int_equal(__builtin_popcount(copies->members.able), N);
    assert_false(is_there(0));
}

static void members__a_change_that_is_seen_when_somebody_asks_is_looked_into(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    start();
    run_looks(2);
    env_timer_stop(&copies->members.timer);
    env_timer_stop(&copies->look.timer); /* as if it rested for long */
    config.nodes[1].standing = CONFIG_NODE_GONE;
    json_decref(ask("/internal/copies"));
    run_looks(1);
    RUN_UNTIL(is_whole(0));
}

static void told__who_waits_for_what_was_not_looked_at_yet_has_it_looked_at(void **state)
{
    (void)state;
    start();
    run_looks(2);
    env_timer_stop(&copies->look.timer); /* as if it rested for long */
    commit(0, "n1", "n2");
    char path[64];
    (void)snprintf(path, sizeof(path), "/internal/copies?offset=%lld", (long long)feed.next);
    json_decref(ask(path));
    run_looks(1);
    assert_true(is_whole(0));
}

static void pace__adds_up_to_what_was_asked_for(void **state)
{
    (void)state;
    uint64_t free_ns = 0, begun_ns = env_now_ns(env);
    start();
    assert_int_equal(copies_pace_us(copies, &free_ns, 0, 1 << 30), 0);
    assert_int_equal(copies_pace_us(copies, &free_ns, 4, 1 << 20), 0);
    for (unsigned i = 0; i < 400; i++) {
        (void)copies_pace_us(copies, &free_ns, 4, 1 << 20);
    }
    assert_true(free_ns - begun_ns >= 100000000000u);
    assert_true(copies_pace_us(copies, &free_ns, 4, 1) > 0);
}

/* --- What is told, and the end --- */

static void told__is_whether_all_is_whole_as_of_which_members(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    peers[1].mode = peers[2].mode = PEER_FAILS;
    start();
    run_looks(2);
    json_t *said = ask("/internal/copies");
    assert_false(json_is_true(json_object_get(said, "whole")));
    assert_int_equal(json_integer_value(json_object_get(said, "missing")), 2);
    json_decref(said);
    peers[1].mode = peers[2].mode = PEER_GOOD;
    run_looks(2);
    said = ask("/internal/copies");
    assert_true(json_is_true(json_object_get(said, "whole")));
    assert_int_equal(json_array_size(json_object_get(said, "members")), 3);
    assert_int_equal(json_integer_value(json_object_get(said, "offset")), feed.next);
    json_decref(said);
    config.nodes[2].standing = CONFIG_NODE_GONE;
    said = ask("/internal/copies"); /* at once: what was whole for three may not be for two */
    assert_int_equal(json_array_size(json_object_get(said, "members")), 2);
    json_decref(said);
}

static void stop__waits_for_nobody(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n1", "n2");
    peers[1].mode = peers[2].mode = PEER_SILENT;
    start();
    RUN_UNTIL(peers[1].n_held > 0);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(look__makes_what_is_to_be_here_and_nothing_else),
        TEST(look__of_what_is_whole_reads_nothing),
        TEST(look__goes_on_behind_a_copy_that_ends_early),
        TEST(look__fills_a_hole_that_the_size_does_not_show),
        TEST(look__believes_nobody_whose_bytes_fail_their_crc),
        TEST(look__waits_for_peers_that_fail),
        TEST(look__outlives_a_peer_that_goes_in_the_middle),
        TEST(look__without_space_says_so_and_takes_nothing),
        TEST(look__ends_when_the_disk_is_full_in_the_middle),
        TEST(look__holds_no_more_in_memory_than_it_may),
        TEST(look__goes_on_when_one_object_can_not_be_written),
        TEST(look__of_a_segment_that_grows_leaves_it_in_doubt),
        TEST(members__others_stand_in_for_one_that_is_drained),
        TEST(members__others_stand_in_for_one_that_is_silent),
        TEST(members__others_stand_in_for_one_that_can_not_store),
        TEST(members__silence_counts_only_while_this_node_listens),
        TEST(members__a_change_that_is_seen_when_somebody_asks_is_looked_into),
        TEST(pace__adds_up_to_what_was_asked_for),
        TEST(told__is_whether_all_is_whole_as_of_which_members),
        TEST(told__who_waits_for_what_was_not_looked_at_yet_has_it_looked_at),
        TEST(stop__waits_for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
