/* Damaged logs mend themselves from the other replicas. */
#include <dirent.h>
#include <fcntl.h>
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

#include "cluster.h"
#include "consensus/group_impl.h"
#include "log/damage.h"

#define BATCHES  160
#define BYTES    60000
#define SEGMENTS 16

static struct cluster c;
static uint64_t segments[SEGMENTS]; /* first indexes */

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

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static unsigned list_segments(uint32_t id)
{
    char dir[128];
    unsigned n = 0;
    (void)snprintf(dir, sizeof(dir), "%s/%u", c.dir, id);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < SEGMENTS;) {
        const char *dot = strchr(e->d_name, '.');
        if (dot != NULL && strcmp(dot, ".log") == 0) {
            segments[n++] = strtoull(e->d_name, NULL, 10);
        }
    }
    (void)closedir(d);
    qsort(segments, n, sizeof(segments[0]), by_number);
    return n;
}

static const char *segment_file(uint32_t id, unsigned k, const char *suffix)
{
    static char path[160];
    assert_true(k < list_segments(id));
    (void)snprintf(path, sizeof(path), "%s/%u/%020llu.%s", c.dir, id,
                   (unsigned long long)segments[k], suffix);
    return path;
}

static void flip(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static uint64_t read_upto[CLUSTER_NODES + 1];

/* Reads all of a node's log; starts again when it meets damage. */
static bool is_whole(uint32_t id)
{
    struct cluster_node *n = &c.nodes[id];
    if (n->group == NULL) {
        return true;
    }
    struct partition *p = group_partition(n->group);
    uint64_t last = partition_durable_index(p).v;
    uint8_t hash[PARTITION_HASH_SIZE];
    struct log_index upto;
    struct error err;
    while (read_upto[id] < last) {
        if (partition_hash(p, LOG_INDEX(read_upto[id] + 1), LOG_INDEX(last), 1 << 20, hash, &upto,
                           &err) != 0) {
            read_upto[id] = 0;
            return false;
        }
        read_upto[id] = upto.v;
    }
    return !partition_damaged(p);
}

static bool all_whole(struct cluster *cluster)
{
    (void)cluster;
    return is_whole(1) && is_whole(2) && is_whole(3);
}

static void await_whole(void)
{
    memset(read_upto, 0, sizeof(read_upto));
    assert_true(cluster_run_until(&c, all_whole));
    (void)cluster_await_leader(&c);
    cluster_await_equal(&c);
}

static void begin(void)
{
    cluster_start_all(&c);
    (void)cluster_await_leader(&c);
    cluster_propose_many(&c, BATCHES, 8, BYTES);
    cluster_await_equal(&c);
    assert_true(list_segments(1) >= 3);
}

static void restart(uint32_t id)
{
    struct error err;
    int rv = cluster_start(&c, id, &err);
    if (rv != 0) {
        print_message("node %u: %s\n", id, err.text);
    }
    assert_int_equal(rv, 0);
}

static void a_follower__mends_flipped_bits_and_missing_files_of_its_log(void **state)
{
    (void)state;
    begin();
    for (unsigned round = 0; round < 6; round++) {
        uint32_t id = cluster_await_leader(&c) % CLUSTER_NODES + 1;
        cluster_stop(&c, id);
        unsigned n = list_segments(id);
        switch (round) {
        case 0:
            flip(segment_file(id, 0, "log"), 1000000);
            break;
        case 1:
            flip(segment_file(id, n - 1, "log"), 4096 + 100);
            break;
        case 2:
            assert_int_equal(truncate(segment_file(id, 1, "log"), 1000000), 0);
            break;
        case 3:
            assert_int_equal(unlink(segment_file(id, 1, "log")), 0);
            break;
        case 4:
            assert_int_equal(unlink(segment_file(id, 0, "log")), 0);
            assert_int_equal(unlink(segment_file(id, 0, "index")), 0);
            break;
        default:
            flip(segment_file(id, 0, "log"), 20);
            flip(segment_file(id, 1, "index"), 60);
            break;
        }
        cluster_propose_many(&c, 5, 2, BYTES); /* life goes on */
        restart(id);
        await_whole();
    }
    cluster_propose_many(&c, 10, 4, BYTES);
    cluster_await_equal(&c);
}

static void two_nodes_damaged_in_different_places__mend_each_other_without_the_third(void **state)
{
    (void)state;
    begin();
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    unsigned n = list_segments(1);
    flip(segment_file(1, 0, "log"), 900000);
    flip(segment_file(1, n - 1, "log"), 4096 + 20); /* a header: what libraft loads */
    flip(segment_file(2, 0, "log"), 2000000);
    flip(segment_file(2, list_segments(2) - 1, "log"), 4096 + 90000);
    restart(2);
    restart(1);
    await_whole();
    cluster_propose_many(&c, 5, 2, BYTES);
    restart(3);
    cluster_await_equal(&c);
}

static bool damage_is_told(struct cluster *cluster)
{
    char text[256];
    struct cluster_node *n = &cluster->nodes[1];
    (void)is_whole(1);
    return group_damage(n->group, text, sizeof(text)) > 0 && strstr(text, "no good copy") != NULL;
}

static void damage_everywhere__is_told_and_ends_when_a_good_copy_comes(void **state)
{
    (void)state;
    begin();
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        cluster_stop(&c, id);
    }
    flip(segment_file(1, 0, "log"), 900000);
    flip(segment_file(2, 0, "log"), 900000);
    restart(2);
    restart(1);
    memset(read_upto, 0, sizeof(read_upto));
    assert_true(cluster_run_until(&c, damage_is_told));
    cluster_propose_many(&c, 5, 2, BYTES); /* the rest of the log lives on */
    restart(3);
    await_whole();
}

static bool leader_is_whole(struct cluster *cluster)
{
    uint32_t leader = cluster_leader(cluster);
    return leader != 0 && is_whole(leader);
}

static void a_leader_that_finds_damage__is_mended(void **state)
{
    (void)state;
    begin();
    uint32_t leader = cluster_await_leader(&c);
    flip(segment_file(leader, 0, "log"), 1500000);
    flip(segment_file(leader, 1, "log"), 1500000);
    memset(read_upto, 0, sizeof(read_upto));
    assert_false(is_whole(leader));
    assert_true(cluster_run_until(&c, leader_is_whole));
    await_whole();
}

/* Who asks would cut off entries that nobody else has any more. */
/* No entry is left by which the log could be told from another one, and nothing that says what was
 * committed. */
static void a_log_of_which_no_entry_is_left__is_begun_anew(void **state)
{
    char meta[128];
    (void)state;
    begin();
    uint32_t id = cluster_leader(&c) % CLUSTER_NODES + 1;
    cluster_stop(&c, id);
    while (list_segments(id) > 1) {
        assert_int_equal(unlink(segment_file(id, 0, "log")), 0);
    }
    assert_int_equal(truncate(segment_file(id, 0, "log"), 4096), 0); /* its header */
    (void)snprintf(meta, sizeof(meta), "%s/%u/meta", c.dir, id);
    assert_int_equal(unlink(meta), 0);
    restart(id);
    await_whole();
    cluster_propose_many(&c, 10, 8, 100);
    cluster_await_equal(&c);
}

static void an_anchor_that_is_damaged_here__is_not_told_to_be_another_one(void **state)
{
    (void)state;
    begin();
    uint32_t leader = cluster_await_leader(&c), id = leader % CLUSTER_NODES + 1;
    for (uint32_t k = 1; k <= CLUSTER_NODES; k++) {
        cluster_stop(&c, k);
    }
    assert_true(list_segments(id) >= 3);
    raft_index first = segments[1];
    assert_int_equal(unlink(segment_file(id, 1, "log")), 0);
    restart(id);
    struct peer_repair_ask ask = {
        .first = first, .last = first + 2, .anchor = first + 3, .anchor_term = 1};
    struct peer_repair answer;
    repair_head(c.nodes[id].group, &ask, &answer);
    assert_false(answer.matched);
    assert_true(answer.commit < ask.anchor);
    ask.anchor = first - 1;
    repair_head(c.nodes[id].group, &ask, &answer);
    assert_true(answer.commit > first + 3); /* known, and of another term: told as it is */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_follower__mends_flipped_bits_and_missing_files_of_its_log),
        T(two_nodes_damaged_in_different_places__mend_each_other_without_the_third),
        T(damage_everywhere__is_told_and_ends_when_a_good_copy_comes),
        T(a_leader_that_finds_damage__is_mended),
        T(a_log_of_which_no_entry_is_left__is_begun_anew),
        T(an_anchor_that_is_damaged_here__is_not_told_to_be_another_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
