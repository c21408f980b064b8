/* Retention by a leader's decision, and followers whose entries are gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "cluster.h"
#include "consensus/group_impl.h"
#include "log/damage.h"

static struct cluster c;

static int setup(void **state)
{
    (void)state;
    cluster_init(&c);
    c.segment_bytes = 64 << 10;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_close(&c);
    return 0;
}

static int64_t resets(void)
{
    return metric_counter("weir_raft_resets_total", "", "")->value;
}

/* All running replicas have thrown their beginning away. */
static bool all_begin_late(struct cluster *cl)
{
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        struct group *g = cl->nodes[id].group;
        if (g != NULL && partition_first_index(group_partition(g)).v < 100) {
            return false;
        }
    }
    return true;
}

static void retention__by_bytes_goes_on_all_replicas(void **state)
{
    (void)state;
    struct bytes out;
    struct log_offset next;
    struct error err;
    c.retain_bytes = 256 << 10;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 500, 50, 1000);
    assert_true(cluster_run_until(&c, all_begin_late));
    cluster_await_equal(&c);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        struct partition *p = group_partition(c.nodes[id].group);
        int64_t start = partition_start_offset(p).v;
        assert_true(start > 0);
        bytes_init(&out, 1 << 20);
        assert_int_equal(partition_fetch(p, LOG_OFFSET(start - 1), 1000, &out, &next, &err),
                         WEIR_ERANGE);
        assert_int_equal(partition_fetch(p, LOG_OFFSET(start), 1000, &out, &next, &err), 0);
        bytes_close(&out);
    }
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 50, 10, 1000);
    cluster_await_equal(&c);
    assert_true(all_begin_late(&c));
}

static bool nobody_recovers(struct cluster *cl)
{
    return !group_recovering(cl->nodes[1].group) && !group_recovering(cl->nodes[2].group) &&
           !group_recovering(cl->nodes[3].group);
}

/* What libraft would load begins before what the log has. */
static void replica_without_metadata__comes_back_with_a_log_that_begins_late(void **state)
{
    (void)state;
    struct error err;
    char path[128];
    uint8_t zeros[8192] = {0};
    c.retain_bytes = 256 << 10;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 500, 50, 1000);
    assert_true(cluster_run_until(&c, all_begin_late));
    cluster_stop(&c, away);
    (void)snprintf(path, sizeof(path), "%s/%u/meta", c.dir, away);
    FILE *f = fopen(path, "r+be");
    assert_non_null(f);
    assert_int_equal(fwrite(zeros, 1, sizeof(zeros), f), sizeof(zeros));
    assert_int_equal(fclose(f), 0);
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_propose_many(&c, 50, 10, 1000);
    assert_true(cluster_run_until(&c, nobody_recovers)); /* till then it may begin anew */
    cluster_propose_many(&c, 50, 10, 1000);
    cluster_await_equal(&c);
}

/* Its snapshot ends before the log begins: libraft would have a gap between the two. */
static void replica_with_older_metadata__comes_back_with_a_log_that_begins_late(void **state)
{
    (void)state;
    struct error err;
    char command[512];
    c.retain_bytes = 256 << 10;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 50, 50, 1000);
    cluster_await_equal(&c);
    cluster_stop(&c, away); /* notes a snapshot */
    (void)snprintf(command, sizeof(command), "cd %s/%u && cp meta ../older", c.dir, away);
    assert_int_equal(system(command), 0);
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_propose_many(&c, 500, 50, 1000);
    assert_true(cluster_run_until(&c, all_begin_late));
    cluster_stop(&c, away);
    (void)snprintf(command, sizeof(command), "cd %s/%u && cp ../older meta", c.dir, away);
    assert_int_equal(system(command), 0);
    assert_int_equal(cluster_start(&c, away, &err), 0);
    assert_true(group_recovering(c.nodes[away].group));
    cluster_propose_many(&c, 50, 10, 1000);
    assert_true(cluster_run_until(&c, nobody_recovers)); /* till then it may begin anew */
    cluster_propose_many(&c, 50, 10, 1000);
    cluster_await_equal(&c);
}

/* --- Holes in what the others have given up --- */

static void run_in_dir(const char *what)
{
    char command[256];
    (void)snprintf(command, sizeof(command), "cd %s && %s", c.dir, what);
    assert_int_equal(system(command), 0);
}

static bool others_begin_late(struct cluster *cl)
{
    return all_begin_late(cl) && cluster_leader(cl) != 0;
}

static bool nothing_goes(struct cluster *cl)
{
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        struct group *g = cl->nodes[id].group;
        if (g != NULL && partition_removable(group_partition(g)).v != 0) {
            return false;
        }
    }
    return true;
}

/* A replica as a crash leaves it, with no snapshot, while the others go on so far that it has to
 * fetch, and begin within its log. Returns it, stopped, and the entry before their begin. */
static uint32_t leave_one_behind(struct log_index *ret_prev)
{
    char command[64];
    struct error err;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1, begin = 0;
    cluster_propose_many(&c, 900, 50, 1000);
    cluster_await_equal(&c);
    (void)snprintf(command, sizeof(command), "cp -a %u old", away);
    run_in_dir(command);
    uint64_t last = partition_last_index(group_partition(c.nodes[away].group)).v;
    c.retain_bytes = 2000 << 10;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    (void)snprintf(command, sizeof(command), "rm -r %u && mv old %u", away, away);
    run_in_dir(command);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        assert_true(id == away || cluster_start(&c, id, &err) == 0);
        begin = id != away ? id : begin;
    }
    (void)cluster_await_leader(&c);
    cluster_propose_many(&c, 600, 50, 1000);
    assert_true(cluster_run_until(&c, others_begin_late));
    c.retain_bytes = 0; /* and no later from now on */
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (id != away) {
            cluster_stop(&c, id);
            assert_int_equal(cluster_start(&c, id, &err), 0);
        }
    }
    (void)cluster_await_leader(&c);
    cluster_await_equal(&c);
    assert_true(cluster_run_until(&c, nothing_goes));
    *ret_prev = LOG_INDEX(partition_first_index(group_partition(c.nodes[begin].group)).v - 1);
    assert_in_range(ret_prev->v, 11, last - 1);
    return away;
}

static void zero_from(const char *path, uint64_t at)
{
    static const uint8_t zeros[128 << 10];
    FILE *f = fopen(path, "r+be");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(zeros, 1, sizeof(zeros), f), sizeof(zeros));
    assert_int_equal(fclose(f), 0);
}

/* Opened by itself, to find the place and to make the hole known. */
static void damage_entry(struct partition *p, struct log_index index)
{
    char path[256];
    uint8_t hash[PARTITION_HASH_SIZE];
    struct log_index last;
    struct error err;
    uint64_t at;
    assert_int_equal(partition_place(p, index, path, sizeof(path), &at), 0);
    zero_from(path, at);
    assert_int_not_equal(
        partition_hash(p, LOG_INDEX(1), partition_durable_index(p), UINT64_MAX, hash, &last, &err),
        0);
    assert_true(partition_in_hole(p, index));
}

static void damage_stopped(uint32_t id, struct log_index index)
{
    struct partition_options o = {
        .segment_bytes = 64 << 10, .tail_bytes = 1 << 20, .index_bytes = 4096};
    struct partition *p;
    struct env *env;
    struct error err;
    char dir[128];
    (void)snprintf(dir, sizeof(dir), "%s/%u", c.dir, id);
    assert_int_equal(env_uv_new(&c.loop, &env, &err), 0);
    assert_int_equal(partition_open(env, dir, &o, &p, &err), 0);
    damage_entry(p, index);
    partition_close(p);
    uv_run(&c.loop, UV_RUN_NOWAIT);
    env_uv_free(env);
}

/* It would be a voter as soon as the hole is mended. */
static void group_recover__asks_first_also_when_libraft_waits_for_repair(void **state)
{
    (void)state;
    struct error err;
    struct log_index prev;
    uint32_t away = leave_one_behind(&prev);
    damage_stopped(away, LOG_INDEX(prev.v + 20));
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (id != away) {
            cluster_stop(&c, id);
        }
    }
    assert_int_equal(cluster_start(&c, away, &err), 0);
    struct group *g = c.nodes[away].group;
    assert_int_equal(g->phase, GROUP_REPAIRING);
    assert_int_equal(group_recover(g, &err), 0);
    assert_int_equal(g->phase, GROUP_FOUNDING);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        assert_true(id == away || cluster_start(&c, id, &err) == 0);
    }
    cluster_await_equal(&c);
    assert_true(cluster_run_until(&c, nobody_recovers));
}

static void replica__gives_up_a_hole_that_the_others_have_given_up(void **state)
{
    (void)state;
    struct error err;
    struct log_index prev;
    uint32_t away = leave_one_behind(&prev);
    damage_stopped(away, LOG_INDEX(prev.v - 5));
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_await_equal(&c);
    assert_true(cluster_run_until(&c, nobody_recovers));
}

static bool all_is_old(struct cluster *cl)
{
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        struct partition *p = group_partition(cl->nodes[id].group);
        if (partition_start_offset(p).v < partition_high_watermark(p).v ||
            partition_high_watermark(p).v < cl->acked_end) {
            return false;
        }
    }
    return true;
}

static void retention__by_age_hides_records_in_the_newest_segment_too(void **state)
{
    (void)state;
    c.retain_ms = 300;
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 20, 5, 100);
    assert_true(cluster_run_until(&c, all_is_old));
    cluster_await_equal(&c);
}

static void group__brings_back_a_node_whose_entries_the_leader_no_longer_has(void **state)
{
    (void)state;
    struct error err;
    c.retain_bytes = 256 << 10;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    uint32_t away = leader % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, away);
    cluster_propose_many(&c, 1000, 100, 1000);
    assert_true(cluster_run_until(&c, all_begin_late));
    int64_t before = resets();
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_propose_many(&c, 300, 20, 1000);
    cluster_await_equal(&c);
    assert_true(resets() > before);
    struct partition *p = group_partition(c.nodes[away].group);
    assert_true(partition_first_index(p).v > 100);
    assert_true(partition_start_offset(p).v > 0);
    /* It is a full member: with another one away it makes the majority. */
    uint32_t third = 6 - away - cluster_leader(&c);
    if (third >= 1 && third <= CLUSTER_NODES && third != away) {
        cluster_stop(&c, third);
    }
    cluster_await_leader(&c);
    cluster_propose_many(&c, 100, 10, 100);
    cluster_await_equal(&c);
}

static uint32_t without_begin;

/* The files of what is before its begin are gone; entry 1 is the last to go. */
static bool files_are_gone(struct cluster *cl)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/%u/%020u.log", cl->dir, without_begin, 1u);
    return access(path, F_OK) != 0;
}

/* Every log begins late and is like the others'; the leader. */
static uint32_t begin_late(void)
{
    c.retain_bytes = 256 << 10;
    cluster_start_all(&c);
    uint32_t leader = cluster_await_leader(&c);
    cluster_propose_many(&c, 500, 50, 1000);
    assert_true(cluster_run_until(&c, all_begin_late));
    cluster_await_equal(&c);
    return leader;
}

static void unlink_of(uint32_t id, const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/%u/%s", c.dir, id, name);
    assert_int_equal(unlink(path), 0);
}

static bool is_whole(struct cluster *cl)
{
    struct partition *p = group_partition(cl->nodes[without_begin].group);
    cluster_propose_many(cl, 20, 10, 1000); /* retention goes on */
    return !partition_damaged(p) && partition_first_index(p).v > 100;
}

static void a_replica_that_lost_the_file_begin__takes_over_where_the_others_begin(void **state)
{
    (void)state;
    struct error err;
    uint32_t leader = begin_late();
    without_begin = leader % CLUSTER_NODES + 1;
    assert_true(cluster_run_until(&c, files_are_gone));
    cluster_stop(&c, without_begin);
    unlink_of(without_begin, "begin");
    assert_int_equal(cluster_start(&c, without_begin, &err), 0);
    assert_true(partition_damaged(group_partition(c.nodes[without_begin].group)));
    assert_true(cluster_run_until(&c, is_whole));
    cluster_await_equal(&c);
    cluster_stop(&c, without_begin);
    assert_int_equal(cluster_start(&c, without_begin, &err), 0);
    assert_true(is_whole(&c));
}

static bool nothing_is_missing(struct cluster *cl)
{
    return !partition_damaged(group_partition(cl->nodes[without_begin].group));
}

static uint64_t first_of(uint32_t id)
{
    return partition_first_index(group_partition(c.nodes[id].group)).v;
}

/* Each removes files when its own snapshot allows it: more is written until they have come equally
 * far. */
static bool all_begin_alike(struct cluster *cl)
{
    cluster_propose_many(cl, 20, 10, 1000);
    cluster_await_equal(cl);
    return cluster_run_until(cl, nothing_goes) && first_of(1) == first_of(2) &&
           first_of(2) == first_of(3);
}

/* Nothing is written any more, so retention does not help. */
static void a_replica_that_lost_the_file_begin__begins_where_the_others_do_at_rest(void **state)
{
    (void)state;
    struct error err;
    uint32_t leader = begin_late();
    assert_true(cluster_run_until(&c, all_begin_alike));
    c.retain_bytes = 0;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    cluster_start_all(&c);
    leader = cluster_await_leader(&c);
    cluster_await_equal(&c);
    assert_true(cluster_run_until(&c, nothing_goes));
    without_begin = leader % CLUSTER_NODES + 1;
    assert_true(cluster_run_until(&c, files_are_gone));
    uint64_t first = first_of(without_begin);
    assert_int_equal(first, first_of(leader));
    cluster_stop(&c, without_begin);
    for (int segment_too = 0; segment_too < 2; segment_too++) {
        unlink_of(without_begin, "begin");
        if (segment_too) {
            char segment[40];
            (void)snprintf(segment, sizeof(segment), "%020u.log", (unsigned)first);
            unlink_of(without_begin, segment);
        }
        assert_int_equal(cluster_start(&c, without_begin, &err), 0);
        assert_true(partition_damaged(group_partition(c.nodes[without_begin].group)));
        assert_true(cluster_run_until(&c, nothing_is_missing));
        assert_int_equal(first_of(without_begin), first);
        cluster_await_equal(&c);
        cluster_stop(&c, without_begin);
        assert_int_equal(cluster_start(&c, without_begin, &err), 0);
        assert_int_equal(first_of(without_begin), first);
        assert_false(partition_damaged(group_partition(c.nodes[without_begin].group)));
        cluster_stop(&c, without_begin);
    }
    assert_int_equal(cluster_start(&c, without_begin, &err), 0);
    cluster_await_equal(&c);
}

/* --- Compaction --- */

static void status_of(uint32_t id, struct partition_compaction *ret)
{
    partition_compaction(group_partition(c.nodes[id].group), ret);
}

static struct group *leading(struct cluster *cl)
{
    uint32_t leader = cluster_leader(cl);
    return leader != 0 ? cl->nodes[leader].group : NULL;
}

/* All replicas have done the same. */
static bool all_compacted(struct cluster *cl)
{
    struct partition_compaction first = {0}, other;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (cl->nodes[id].group == NULL) {
            continue;
        }
        status_of(id, &other);
        first = first.upto.v == 0 ? other : first;
        if (other.running || other.upto.v == 0 || other.upto.v != first.upto.v ||
            other.tombstones_ms != first.tombstones_ms) {
            return false;
        }
    }
    return true;
}

/* And nothing more is to be decided before somebody writes. */
static bool is_quiet(struct cluster *cl)
{
    struct log_offset upto;
    struct group *leader = leading(cl);
    if (leader == NULL || leader->retain.pending ||
        partition_compactable(group_partition(leader), &upto)) {
        return false;
    }
    uint64_t last = partition_last_index(group_partition(leader)).v;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        struct group *g = cl->nodes[id].group;
        struct partition *p = g != NULL ? group_partition(g) : NULL;
        if (p != NULL &&
            (partition_last_index(p).v != last || partition_commit_index(p).v != last ||
             partition_durable_index(p).v != last)) {
            return false;
        }
    }
    return all_compacted(cl);
}

/* The leader has been told by all members that they are as far as it is, for long enough: what is
 * decided next lets tombstones go. */
static bool is_settled(struct cluster *cl)
{
    struct partition_compaction compaction;
    if (!is_quiet(cl)) {
        return false;
    }
    partition_compaction(group_partition(leading(cl)), &compaction);
    return leading(cl)->retain.settled == compaction.upto.v;
}

static struct partition_compaction status_of_leader(void)
{
    struct partition_compaction compaction;
    status_of(cluster_await_leader(&c), &compaction);
    return compaction;
}

/* Until a compaction has been decided that was not before; it begins only where as much is new as
 * is old. */
static void write_and_compact(void)
{
    int64_t before = status_of_leader().upto.v;
    for (unsigned i = 0; i < 50 && status_of_leader().upto.v <= before; i++) {
        cluster_propose_many(&c, 200, 50, 1000);
        assert_true(cluster_run_until(&c, is_quiet));
    }
    assert_true(status_of_leader().upto.v > before);
}

/* A leader that comes between waits anew. */
static void compact_tombstones(void)
{
    int64_t before = status_of_leader().tombstones_ms;
    for (unsigned i = 0; i < 20 && status_of_leader().tombstones_ms <= before; i++) {
        assert_true(cluster_run_until(&c, is_settled));
        write_and_compact();
    }
    assert_true(status_of_leader().tombstones_ms > before);
}

/* Equal replicas, and much less than was written. */
static void check_compacted(unsigned written)
{
    assert_true(cluster_run_until(&c, is_quiet));
    cluster_await_equal(&c);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        assert_true(partition_size_bytes(group_partition(c.nodes[id].group)) < written * 1000u);
    }
}

static void compaction__by_a_leaders_decision_leaves_equal_logs(void **state)
{
    (void)state;
    struct error err;
    c.compact = true;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 400, 50, 1000);
    check_compacted(400);
    /* One that comes back gets compacted entries, and then compacts its own. */
    cluster_stop(&c, away);
    cluster_propose_many(&c, 400, 50, 1000);
    assert_true(cluster_run_until(&c, is_quiet));
    assert_int_equal(cluster_start(&c, away, &err), 0);
    cluster_propose_many(&c, 400, 50, 1000);
    check_compacted(1200);
    compact_tombstones();
    cluster_await_equal(&c);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    cluster_start_all(&c);
    cluster_await_leader(&c);
    cluster_propose_many(&c, 200, 50, 1000);
    check_compacted(1400);
}

static void tombstones__stay_while_a_member_is_away(void **state)
{
    (void)state;
    struct error err;
    c.compact = true;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    write_and_compact();
    assert_true(cluster_run_until(&c, is_settled));
    cluster_stop(&c, away);
    write_and_compact(); /* with what was decided before it went */
    int64_t ms = status_of_leader().tombstones_ms;
    write_and_compact();
    write_and_compact();
    assert_int_equal(status_of_leader().tombstones_ms, ms);
    assert_int_equal(cluster_start(&c, away, &err), 0);
    compact_tombstones();
    cluster_await_equal(&c);
}

static uint32_t changing;

/* The leader refuses until what it has is committed, and until it is connected. */
static bool is_no_member(struct cluster *cl)
{
    return cluster_change(cl, changing, GROUP_NONE) == 0;
}

static bool is_standby(struct cluster *cl)
{
    return cluster_change(cl, changing, GROUP_STANDBY) == 0;
}

/* Its disk has records whose tombstones are in no log any more. */
static void old_disk_of_a_former_member__is_begun_anew(void **state)
{
    (void)state;
    struct error err;
    c.compact = true;
    cluster_start_all(&c);
    changing = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 400, 50, 1000);
    assert_true(cluster_run_until(&c, is_quiet));
    assert_true(cluster_run_until(&c, is_no_member));
    cluster_stop(&c, changing);
    c.tombstones = true; /* of all keys */
    write_and_compact();
    c.tombstones = false;
    c.keys_from = 100; /* and never one of them again */
    compact_tombstones();
    int64_t before = resets();
    assert_int_equal(cluster_start(&c, changing, &err), 0);
    assert_true(cluster_run_until(&c, is_standby));
    cluster_propose_many(&c, 20, 10, 1000);
    assert_true(cluster_run_until(&c, is_quiet));
    cluster_await_equal(&c);
    assert_int_equal(resets(), before + 1);
    /* It was done once and for all. */
    cluster_stop(&c, changing);
    write_and_compact();
    assert_int_equal(cluster_start(&c, changing, &err), 0);
    compact_tombstones();
    cluster_await_equal(&c);
    assert_int_equal(resets(), before + 1);
}

static void hole__is_mended_by_replicas_that_have_compacted_what_was_there(void **state)
{
    (void)state;
    struct error err;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 200, 50, 1000);
    cluster_await_equal(&c);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    c.compact = true;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        assert_true(id == away || cluster_start(&c, id, &err) == 0);
    }
    write_and_compact();
    damage_stopped(away, LOG_INDEX(20));
    assert_int_equal(cluster_start(&c, away, &err), 0);
    write_and_compact();
    assert_false(partition_damaged(group_partition(c.nodes[away].group)));
    cluster_await_equal(&c);
}

static void reset__brings_a_node_the_compacted_log(void **state)
{
    (void)state;
    struct error err;
    c.compact = true;
    c.retain_bytes = 128 << 10;
    cluster_start_all(&c);
    uint32_t away = cluster_await_leader(&c) % CLUSTER_NODES + 1;
    cluster_propose_many(&c, 50, 10, 100);
    cluster_stop(&c, away);
    cluster_propose_many(&c, 1000, 100, 1000);
    assert_true(cluster_run_until(&c, all_begin_late));
    int64_t before = resets();
    assert_int_equal(cluster_start(&c, away, &err), 0);
    write_and_compact();
    assert_true(resets() > before);
    cluster_await_equal(&c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(compaction__by_a_leaders_decision_leaves_equal_logs),
        TEST(retention__by_bytes_goes_on_all_replicas),
        TEST(hole__is_mended_by_replicas_that_have_compacted_what_was_there),
        TEST(tombstones__stay_while_a_member_is_away),
        TEST(old_disk_of_a_former_member__is_begun_anew),
        TEST(reset__brings_a_node_the_compacted_log),
        TEST(retention__by_age_hides_records_in_the_newest_segment_too),
        TEST(replica_without_metadata__comes_back_with_a_log_that_begins_late),
        TEST(replica_with_older_metadata__comes_back_with_a_log_that_begins_late),
        TEST(group_recover__asks_first_also_when_libraft_waits_for_repair),
        TEST(replica__gives_up_a_hole_that_the_others_have_given_up),
        TEST(group__brings_back_a_node_whose_entries_the_leader_no_longer_has),
        TEST(a_replica_that_lost_the_file_begin__takes_over_where_the_others_begin),
        TEST(a_replica_that_lost_the_file_begin__begins_where_the_others_do_at_rest),
    };
    log_set_level(LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
