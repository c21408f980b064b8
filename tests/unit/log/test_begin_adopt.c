/* A log whose file `begin` is lost begins where another replica's does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../nomem_countdown.h"
#include "base/logging.h"
#include "damage.h"

static struct harness h;
static struct error err;
static struct fault_image *image;
static struct partition_begin others;

static void close_partition(void)
{
    if (h.p != NULL) {
        partition_close(h.p);
        h.p = NULL;
    }
    harness_run(&h);
}

/* A log that begins late, closed in order. */
static int setup(void **state)
{
    (void)state;
    harness_init(&h, 5, 0);
    h.forgetful = true; /* who wrote what is gone may be forgotten */
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 20, 1);
    h.term++;
    harness_append_some(&h, 40, 2);
    partition_set_commit(h.p, partition_last_index(h.p));
    partition_set_keep(h.p, partition_last_index(h.p));
    partition_set_start(h.p, LOG_OFFSET(partition_high_watermark(h.p).v / 2));
    for (unsigned i = 0; i < 40; i++) {
        fault_env_advance(h.env, 30000);
    }
    partition_begin(h.p, &others);
    assert_in_range(others.first_index.v, 10, partition_last_index(h.p).v - 10);
    assert_int_equal(others.prev_term.v, h.model[others.first_index.v - 1].term);
    close_partition();
    assert_non_null(damage_segment(&h, 2));
    image = fault_env_save(h.env);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_image_free(image);
    harness_close(&h);
    return 0;
}

enum damage { NO_BEGIN, NO_FIRST_SEGMENT, NO_TWO_SEGMENTS };
#define N_DAMAGES 3

static void do_damage(enum damage kind)
{
    fault_env_restore(h.env, image);
    fault_env_remove(h.env, HARNESS_DIR "/begin");
    if (kind == NO_FIRST_SEGMENT || kind == NO_TWO_SEGMENTS) {
        fault_env_remove(h.env, damage_segment(&h, 0));
    }
    if (kind == NO_TWO_SEGMENTS) {
        fault_env_remove(h.env, damage_segment(&h, 0));
    }
}

static int open_committed(void)
{
    int rc = harness_open(&h, &err);
    if (rc == 0) {
        partition_set_commit(h.p, partition_last_index(h.p));
        partition_set_keep(h.p, partition_last_index(h.p));
    }
    return rc;
}

static int open_and_adopt(void)
{
    int rc = open_committed();
    for (unsigned i = 0; rc == 0 && i < 100; i++) {
        rc = partition_adopt_begin(h.p, &others, &err);
        if (rc != WEIR_EBUSY) {
            break;
        }
        harness_run(&h);
        rc = 0;
    }
    return rc;
}

static void check_begin(void)
{
    struct partition_begin begin;
    partition_begin(h.p, &begin);
    assert_int_equal(begin.first_index.v, others.first_index.v);
    assert_int_equal(partition_first_index(h.p).v, others.first_index.v);
    assert_int_equal(begin.prev_term.v, others.prev_term.v);
    assert_int_equal(begin.first_offset.v, others.first_offset.v);
    assert_int_equal(begin.config_index.v, others.config_index.v);
    assert_in_range(begin.start_offset.v, others.first_offset.v, others.start_offset.v);
}

/* Opens, adopts, mends; and so it is after a restart, and goes on. */
static void comes_back(void)
{
    int rc = open_and_adopt();
    if (rc != 0 && rc != WEIR_ENOTFOUND) { /* that was done before */
        fail_msg("%d: %s", rc, err.text);
    }
    check_begin();
    (void)damage_mend_all(&h, 3);
    harness_check(&h);
    close_partition();
    assert_int_equal(harness_open(&h, &err), 0);
    assert_false(partition_damaged(h.p));
    check_begin();
    partition_set_commit(h.p, partition_last_index(h.p));
    harness_check(&h);
    assert_int_equal(partition_config_index(h.p, others.first_index).v, others.config_index.v);
    close_partition();
}

static void a_log_without_its_begin__begins_where_the_others_do(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_DAMAGES; kind++) {
        struct partition_hole hole;
        do_damage((enum damage)kind);
        assert_int_equal(open_committed(), 0);
        assert_true(partition_damaged(h.p));
        assert_int_equal(partition_adopt_begin(h.p, &others, &err), 0);
        check_begin();
        assert_int_equal(partition_damaged(h.p),
                         kind == NO_FIRST_SEGMENT || kind == NO_TWO_SEGMENTS);
        if (partition_damage(h.p, &hole, 1) > 0) {
            assert_int_equal(hole.first.v, others.first_index.v);
        }
        assert_int_equal(partition_adopt_begin(h.p, &others, &err), WEIR_ENOTFOUND);
        close_partition();
        comes_back();
    }
}

static void a_begin__is_not_adopted_without_need_or_right(void **state)
{
    (void)state;
    struct partition_begin other = others;
    fault_env_restore(h.env, image);
    assert_int_equal(open_committed(), 0);
    other.first_index.v = partition_last_index(h.p).v;
    assert_int_equal(partition_adopt_begin(h.p, &other, &err), WEIR_ENOTFOUND); /* whole */
    close_partition();
    for (int kind = 0; kind < N_DAMAGES; kind++) {
        do_damage((enum damage)kind);
        assert_int_equal(harness_open(&h, &err), 0);
        assert_int_equal(partition_adopt_begin(h.p, &others, &err), WEIR_ENOTFOUND);
        partition_set_commit(h.p, partition_last_index(h.p));
        partition_set_keep(h.p, LOG_INDEX(others.first_index.v - 2));
        assert_int_equal(partition_adopt_begin(h.p, &others, &err), WEIR_ENOTFOUND);
        partition_set_keep(h.p, partition_last_index(h.p));
        other = others;
        other.first_offset.v = INT64_MAX / 2;
        assert_int_equal(partition_adopt_begin(h.p, &other, &err), WEIR_EPROTO);
        other.first_offset.v = -1;
        assert_int_equal(partition_adopt_begin(h.p, &other, &err), WEIR_EPROTO);
        other.first_index.v = partition_last_index(h.p).v + 1;
        assert_int_equal(partition_adopt_begin(h.p, &other, &err), WEIR_ENOTFOUND);
        close_partition();
        comes_back();
    }
}

/* While another replica, which has more, mends the same hole. */
static void adopting__gives_up_the_new_file_of_a_hole(void **state)
{
    (void)state;
    do_damage(NO_FIRST_SEGMENT);
    assert_int_equal(open_committed(), 0);
    assert_int_equal(damage_mend_some(&h, 2, &err), 0);
    assert_int_equal(partition_adopt_begin(h.p, &others, &err), 0);
    check_begin();
    struct partition_hole hole;
    assert_int_equal(partition_damage(h.p, &hole, 1), 1);
    assert_int_equal(hole.first.v, others.first_index.v);
    (void)damage_mend_all(&h, 3);
    close_partition();
    comes_back();
}

static void power_loss__at_every_step_of_adopting_harms_nothing(void **state)
{
    (void)state;
    static const enum fault_restart hows[] = {FAULT_KILL, FAULT_LOSE_ALL, FAULT_TEAR};
    for (unsigned i = 0; i < 3 * N_DAMAGES; i++) {
        bool crashed = true;
        for (unsigned step = 1; crashed; step++) {
            do_damage((enum damage)(i % N_DAMAGES));
            fault_env_crash_at(h.env, fault_env_steps(h.env) + step);
            (void)open_and_adopt();
            close_partition();
            crashed = fault_env_crashed(h.env);
            fault_env_crash_at(h.env, 0);
            if (crashed) {
                fault_env_restart(h.env, hows[i / N_DAMAGES]);
            }
            comes_back();
        }
    }
}

static void disk_error__at_every_step_of_adopting_harms_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * N_DAMAGES; i++) {
        bool reached = true;
        for (unsigned step = 1; reached; step++) {
            do_damage((enum damage)(i % N_DAMAGES));
            unsigned at = fault_env_steps(h.env) + step;
            fault_env_fail_at(h.env, at, i < N_DAMAGES ? WEIR_EIO : WEIR_ENOSPC);
            (void)open_and_adopt();
            reached = fault_env_steps(h.env) >= at;
            close_partition();
            fault_env_fail_at(h.env, 0, 0);
            comes_back();
        }
    }
}

static void no_memory__at_every_allocation_of_adopting_harms_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_DAMAGES; kind++) {
        bool reached = true;
        for (unsigned n = 1; reached; n++) {
            do_damage((enum damage)kind);
            assert_int_equal(open_committed(), 0);
            countdown = n;
            int rc = partition_adopt_begin(h.p, &others, &err);
            reached = countdown == 0;
            countdown = 0;
            assert_true(rc == 0 || (reached && rc == WEIR_ENOMEM));
            close_partition();
            comes_back();
        }
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        T(a_log_without_its_begin__begins_where_the_others_do),
        T(a_begin__is_not_adopted_without_need_or_right),
        T(adopting__gives_up_the_new_file_of_a_hole),
        T(power_loss__at_every_step_of_adopting_harms_nothing),
        T(disk_error__at_every_step_of_adopting_harms_nothing),
        T(no_memory__at_every_allocation_of_adopting_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
