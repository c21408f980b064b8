#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/env_ops.h"
#include "base/logging.h"
#include "consensus/vote_block.h"
#include "consensus/vote_log.h"
#include "fault_env.h"

#define GROUPS 5

static struct env *env;
static struct vote_log *vlog;

/* What a group has heard: everything up to `durable` may have been said to others. */
struct member {
    struct vote_slot slot;
    uint64_t put_term, durable_term, durable_vote;
    int status;
    unsigned told;
};
static struct member members[GROUPS];

static void on_durable(struct vote_slot *slot, int status)
{
    struct member *m = slot->data;
    m->told++;
    m->status = status;
    if (status == 0) {
        m->durable_term = slot->term;
        m->durable_vote = slot->vote;
    }
}

static int open_log(struct error *err)
{
    return vote_log_open(env, "votes", &vlog, err);
}

static enum vote_state attach(unsigned i)
{
    enum vote_state state;
    members[i].slot = (struct vote_slot){.data = &members[i], .cb = on_durable};
    assert_int_equal(vote_log_attach(vlog, 100 + i, &members[i].slot, &state), 0);
    return state;
}

static void put(unsigned i, uint64_t term, uint64_t vote)
{
    members[i].put_term = term;
    vote_log_put(&members[i].slot, term, vote);
}

static void close_log(void)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        if (members[i].slot.entry != NULL) {
            vote_log_detach(&members[i].slot);
        }
    }
    vote_log_close(vlog);
    vlog = NULL;
    fault_env_run(env);
}

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR + 1);
    memset(members, 0, sizeof(members));
    env = fault_env_new(7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (vlog != NULL) {
        close_log();
    }
    fault_env_free(env);
    return 0;
}

static void vote_log__remembers_the_newest_term_and_vote_of_every_group(void **state)
{
    (void)state;
    assert_int_equal(open_log(NULL), 0);
    for (unsigned i = 0; i < GROUPS; i++) {
        assert_int_equal(attach(i), VOTES_NONE);
        assert_true(vote_log_settled(&members[i].slot));
        put(i, 3 + i, 1);
        put(i, 4 + i, 2);
        assert_false(vote_log_settled(&members[i].slot));
    }
    fault_env_run(env);
    for (unsigned i = 0; i < GROUPS; i++) {
        assert_true(vote_log_settled(&members[i].slot));
        assert_int_equal(members[i].told, 1); /* one write for all of a turn */
    }
    close_log();
    fault_env_restart(env, FAULT_LOSE_ALL);
    assert_int_equal(open_log(NULL), 0);
    for (unsigned i = 0; i < GROUPS; i++) {
        assert_int_equal(attach(i), VOTES_KNOWN);
        assert_int_equal(members[i].slot.term, 4 + i);
        assert_int_equal(members[i].slot.vote, 2);
    }
}

static void vote_log__goes_on_through_many_generations(void **state)
{
    (void)state;
    assert_int_equal(open_log(NULL), 0);
    (void)attach(0);
    (void)attach(1);
    put(1, 9, 3);
    for (uint64_t term = 1; term <= 2000; term++) {
        put(0, term, term % 3);
        fault_env_run(env);
        assert_true(vote_log_settled(&members[0].slot));
    }
    close_log();
    fault_env_restart(env, FAULT_LOSE_ALL);
    assert_int_equal(open_log(NULL), 0);
    assert_int_equal(attach(0), VOTES_KNOWN);
    assert_int_equal(members[0].slot.term, 2000);
    assert_int_equal(members[0].slot.vote, 2);
    assert_int_equal(attach(1), VOTES_KNOWN);
    assert_int_equal(members[1].slot.term, 9);
}

/* A short life of a log: opened, changed, rotated by being opened again, changed. */
static void live(void)
{
    struct error err;
    if (open_log(&err) != 0) {
        return;
    }
    for (unsigned i = 0; i < GROUPS; i++) {
        (void)attach(i);
    }
    for (uint64_t round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < GROUPS; i++) {
            put(i, members[i].slot.term + 1, 0);
            if (i % 2 == 0) {
                put(i, members[i].slot.term, 1 + i);
            }
        }
        fault_env_run(env);
    }
    close_log();
}

static void check_nothing_heard_is_lost(void)
{
    struct error err = {0};
    if (open_log(&err) != 0) {
        fail_msg("%s", err.text);
    }
    for (unsigned i = 0; i < GROUPS; i++) {
        struct member heard = members[i];
        enum vote_state state = attach(i);
        if (heard.durable_term == 0) {
            continue;
        }
        assert_int_equal(state, VOTES_KNOWN);
        assert_true(members[i].slot.term >= heard.durable_term);
        assert_true(members[i].slot.term <= heard.put_term);
        if (members[i].slot.term == heard.durable_term) {
            assert_true(heard.durable_vote == 0 || members[i].slot.vote == heard.durable_vote);
        }
    }
    close_log();
}

static void vote_log__keeps_what_was_heard_when_the_power_goes_at_any_step(void **state)
{
    (void)state;
    live();
    live();
    unsigned steps = fault_env_steps(env);
    assert_true(steps > 10);
    for (unsigned how = FAULT_KILL; how <= FAULT_TEAR; how++) {
        for (unsigned n = 1; n <= steps; n++) {
            fault_env_free(env);
            env = fault_env_new(n * 7 + how);
            memset(members, 0, sizeof(members));
            fault_env_crash_at(env, n);
            live();
            if (!fault_env_crashed(env)) {
                live();
            }
            fault_env_crash_at(env, 0);
            fault_env_restart(env, (enum fault_restart)how);
            check_nothing_heard_is_lost();
        }
    }
}

static void vote_log__tells_every_group_when_a_step_fails_and_keeps_what_was_heard(void **state)
{
    (void)state;
    live();
    live();
    unsigned steps = fault_env_steps(env);
    static const int codes[] = {WEIR_EIO, WEIR_ENOSPC};
    for (unsigned c = 0; c < 2; c++) {
        for (unsigned n = 1; n <= steps; n++) {
            fault_env_free(env);
            env = fault_env_new(n);
            memset(members, 0, sizeof(members));
            fault_env_fail_at(env, n, codes[c]);
            live();
            live();
            fault_env_fail_at(env, 0, 0);
            fault_env_restart(env, FAULT_LOSE_ALL);
            check_nothing_heard_is_lost();
        }
    }
}

static void vote_log__after_a_failed_write_takes_no_more(void **state)
{
    (void)state;
    assert_int_equal(open_log(NULL), 0);
    (void)attach(0);
    (void)attach(1);
    fault_env_fail_at(env, fault_env_steps(env) + 1, WEIR_EIO);
    put(0, 5, 1);
    fault_env_run(env);
    assert_int_equal(members[0].status, WEIR_EIO);
    assert_false(vote_log_settled(&members[0].slot));
    put(1, 6, 1);
    fault_env_run(env);
    assert_int_equal(members[1].status, WEIR_EIO);
    assert_int_equal(members[1].durable_term, 0);
}

static void make_history(void)
{
    live();
    assert_int_equal(open_log(NULL), 0);
    for (unsigned i = 0; i < GROUPS; i++) {
        (void)attach(i);
    }
    for (uint64_t term = 10; term < 14; term++) {
        put(0, term, 2);
        fault_env_run(env);
    }
    close_log();
}

/* The file with the newest generation, and what is in it. */
static uint8_t *newest(size_t *ret_size, struct vote_scan *scan, const char **ret_path)
{
    static const char *const paths[] = {"votes/votes.0", "votes/votes.1"};
    static struct vote_scan scans[2];
    uint8_t *data[2];
    size_t size[2];
    for (unsigned i = 0; i < 2; i++) {
        data[i] = fault_env_data(env, paths[i], &size[i]);
        assert_non_null(data[i]);
        vote_scan(data[i], size[i], &scans[i]);
    }
    unsigned at = scans[1].generation > scans[0].generation;
    *scan = scans[at];
    *ret_size = size[at];
    *ret_path = paths[at];
    return data[at];
}

static void vote_log__survives_one_flipped_bit_anywhere(void **state)
{
    (void)state;
    struct vote_scan scan;
    const char *path;
    size_t size;
    make_history();
    struct fault_image *image = fault_env_save(env);
    (void)newest(&size, &scan, &path);
    size_t used = scan.at[scan.n_blocks] + 2 * vote_block_size(1);
    for (size_t at = 0; at < used; at += at % 8192 < 96 ? 5 : 997) {
        fault_env_restore(env, image);
        uint8_t *data = newest(&size, &scan, &path);
        data[at] ^= (uint8_t)(1u << at % 8);
        assert_int_equal(open_log(NULL), 0);
        assert_int_equal(attach(0), VOTES_KNOWN);
        assert_int_equal(members[0].slot.term, 13);
        assert_int_equal(members[0].slot.vote, 2);
        close_log();
    }
    fault_image_free(image);
}

static void vote_log__says_so_when_a_block_or_a_file_is_gone(void **state)
{
    (void)state;
    struct vote_scan scan;
    const char *path;
    size_t size;
    make_history();
    struct fault_image *image = fault_env_save(env);
    (void)newest(&size, &scan, &path);
    for (unsigned block = 1; block < scan.n_blocks; block++) {
        fault_env_restore(env, image);
        uint8_t *data = newest(&size, &scan, &path);
        memset(data + scan.at[block], 0, 8192);
        assert_int_equal(open_log(NULL), 0);
        assert_int_equal(attach(1), VOTES_LOST);
        close_log();
    }
    static const size_t lengths[] = {0, 1, 4096, 12288, 1 << 20};
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        fault_env_restore(env, image);
        (void)newest(&size, &scan, &path);
        fault_env_resize(env, path, lengths[i]);
        assert_int_equal(open_log(NULL), 0);
        assert_int_equal(attach(0), VOTES_LOST);
        assert_int_equal(attach(4), VOTES_LOST);
        close_log();
    }
    fault_env_restore(env, image);
    (void)newest(&size, &scan, &path);
    fault_env_remove(env, path);
    assert_int_equal(open_log(NULL), 0);
    assert_int_equal(attach(0), VOTES_LOST);
    put(0, 20, 0);
    fault_env_run(env);
    close_log();
    /* What was promised since then is known; the rest stays unknown to the log. */
    assert_int_equal(open_log(NULL), 0);
    assert_int_equal(attach(0), VOTES_KNOWN);
    assert_int_equal(members[0].slot.term, 20);
    assert_int_equal(attach(1), VOTES_NONE);
    fault_image_free(image);
}

static void vote_log__waits_for_a_stuck_disk_and_probes_an_idle_one(void **state)
{
    (void)state;
    assert_int_equal(open_log(NULL), 0);
    (void)attach(0);
    assert_int_equal(vote_log_waits_ns(vlog), 0);
    vote_log_probe(vlog); /* just opened: too early */
    assert_int_equal(vote_log_waits_ns(vlog), 0);
    unsigned steps = fault_env_steps(env);
    fault_env_advance(env, 600000);
    vote_log_probe(vlog);
    fault_env_run(env);
    assert_true(fault_env_steps(env) > steps);
    assert_int_equal(vote_log_waits_ns(vlog), 0);
    put(0, 2, 1);
    fault_env_run(env);
    close_log();
    assert_int_equal(open_log(NULL), 0); /* the probe harmed nothing */
    assert_int_equal(attach(0), VOTES_KNOWN);
    assert_int_equal(members[0].slot.term, 2);
}

static struct env_ops ops;
static const struct env_ops *ops_below;
static struct env_io *held;

/* Only wiping takes several pieces of memory. */
static void hold_wipes(struct env *e, struct env_file *file, const char *path, struct env_io *io,
                       enum env_io_kind kind)
{
    if (io->n_iov > 1) {
        held = io;
    } else {
        ops_below->io_start(e, file, path, io, kind);
    }
}

static void vote_log__waits_for_the_old_file_to_be_wiped_too(void **state)
{
    (void)state;
    assert_int_equal(open_log(NULL), 0);
    (void)attach(0);
    ops_below = env->ops;
    ops = *ops_below;
    ops.io_start = hold_wipes;
    env->ops = &ops;
    held = NULL;
    for (unsigned i = 0; i < 1000 && held == NULL; i++) {
        put(0, 2 + i, 1);
        fault_env_run(env);
    }
    assert_non_null(held);
    fault_env_advance(env, 700000);
    vote_log_probe(vlog);
    assert_true(vote_log_waits_ns(vlog) >= 700000000u);
    ops_below->io_start(env, held->file, NULL, held, ENV_IO_WRITE);
    fault_env_run(env);
    assert_int_equal(vote_log_waits_ns(vlog), 0);
    env->ops = ops_below;
}

static void vote_block__has_the_bytes_of_the_golden_file(void **state)
{
    (void)state;
    static const struct vote_record records[] = {{7, 12, 3}, {0xfffffc00, UINT64_MAX, 0}};
    uint8_t block[4096], golden[4096];
    struct vote_block b;
    struct vote_record r;
    assert_int_equal(vote_block_size(2), sizeof(block));
    vote_block_encode(block, 5, 9, records, 2);
    FILE *f = fopen("tests/golden/consensus/vote_block_v1.bin", "rb");
    assert_non_null(f);
    assert_int_equal(fread(golden, 1, sizeof(golden), f), sizeof(golden));
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(block, golden, sizeof(block));
    assert_true(vote_block_decode(golden, sizeof(golden), &b));
    assert_int_equal(b.generation, 5);
    assert_int_equal(b.sequence, 9);
    vote_block_record(&b, 1, &r);
    assert_int_equal(r.group, 0xfffffc00);
    assert_true(r.term == UINT64_MAX);
    assert_false(vote_block_decode(golden, 87, &b)); /* a byte of the last record is missing */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(vote_log__remembers_the_newest_term_and_vote_of_every_group),
        TEST(vote_log__goes_on_through_many_generations),
        TEST(vote_log__keeps_what_was_heard_when_the_power_goes_at_any_step),
        TEST(vote_log__tells_every_group_when_a_step_fails_and_keeps_what_was_heard),
        TEST(vote_log__after_a_failed_write_takes_no_more),
        TEST(vote_log__survives_one_flipped_bit_anywhere),
        TEST(vote_log__says_so_when_a_block_or_a_file_is_gone),
        TEST(vote_log__waits_for_a_stuck_disk_and_probes_an_idle_one),
        TEST(vote_log__waits_for_the_old_file_to_be_wiped_too),
        TEST(vote_block__has_the_bytes_of_the_golden_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
