/* What a crash, a failing disk, a full disk, missing memory and damaged files do to a partition:
 * nothing acknowledged is lost, nothing wrong is returned, and damage is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/logging.h"
#include "harness.h"

static struct harness h;
static struct error err;

/* --- A life of a partition, which may end at any step --- */

static void begin(uint64_t seed)
{
    harness_init(&h, seed, 0);
    h.options.segment_bytes = 12288;
}

/* Closes what is open, whatever state it is in. */
static void die(void)
{
    harness_run(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
}

static unsigned count_steps(void)
{
    begin(1);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_live(&h, 1);
    die();
    harness_run(&h);
    unsigned n = fault_env_steps(h.env);
    harness_close(&h);
    return n;
}

static void must_open(unsigned step)
{
    int rc = harness_open(&h, &err);
    if (rc != 0) {
        print_message("step %u: %s\n", step, err.text);
    }
    assert_int_equal(rc, 0);
}

/* After the restart: all that was acknowledged is there, and life goes on. */
static void check_recovery(unsigned step)
{
    must_open(step);
    harness_check(&h);
    harness_adopt(&h);
    h.term++;
    harness_append_some(&h, 12, step);
    assert_int_equal(h.last_status, 0);
    harness_check(&h);
    die();
    must_open(step);
    assert_int_equal(partition_last_index(h.p).v, h.last);
    harness_check(&h);
}

static void crash_at_every_step(enum fault_restart how, unsigned repeats)
{
    unsigned steps = count_steps();
    assert_true(steps > 60);
    for (unsigned i = 0; i < steps * repeats; i++) {
        unsigned step = i % steps + 1;
        begin(i + 1);
        fault_env_crash_at(h.env, step);
        if (harness_open(&h, &err) == 0) {
            harness_live(&h, 1);
            die();
        }
        harness_run(&h);
        fault_env_restart(h.env, how);
        check_recovery(step);
        harness_close(&h);
    }
}

static void kill__at_every_step_loses_nothing_acknowledged(void **state)
{
    (void)state;
    crash_at_every_step(FAULT_KILL, 1);
}

static void power_loss__at_every_step_loses_nothing_acknowledged(void **state)
{
    (void)state;
    crash_at_every_step(FAULT_LOSE_ALL, 1);
}

static void power_loss__with_torn_sectors_at_every_step_loses_nothing_acknowledged(void **state)
{
    (void)state;
    crash_at_every_step(FAULT_TEAR, 4);
}

static void power_loss__during_recovery_too_loses_nothing_acknowledged(void **state)
{
    (void)state;
    unsigned steps = count_steps();
    for (unsigned step = 3; step <= steps; step += 3) {
        for (unsigned second = 1; second < 12; second++) {
            begin(step * 100 + second);
            fault_env_crash_at(h.env, step);
            if (harness_open(&h, &err) == 0) {
                harness_live(&h, 1);
                die();
            }
            fault_env_restart(h.env, FAULT_TEAR);
            fault_env_crash_at(h.env, fault_env_steps(h.env) + second);
            if (harness_open(&h, &err) == 0) {
                die();
            }
            fault_env_restart(h.env, FAULT_TEAR);
            check_recovery(step);
            harness_close(&h);
        }
    }
}

static void kill__then_power_loss_loses_nothing_that_recovery_counted_as_durable(void **state)
{
    (void)state;
    unsigned steps = count_steps();
    for (unsigned step = 3; step <= steps; step++) {
        begin(step);
        fault_env_crash_at(h.env, step);
        if (harness_open(&h, &err) == 0) {
            harness_live(&h, 1);
            die();
        }
        fault_env_restart(h.env, FAULT_KILL);
        must_open(step);
        harness_check(&h);
        harness_adopt(&h); /* durable now, it says */
        fault_env_crash_at(h.env, fault_env_steps(h.env) + 1);
        die();
        fault_env_restart(h.env, FAULT_LOSE_ALL);
        check_recovery(step);
        harness_close(&h);
    }
}

/* --- Errors --- */

static void disk_error__at_every_step_fails_the_partition_and_a_reopened_one_has_all(void **state)
{
    (void)state;
    unsigned steps = count_steps();
    for (unsigned step = 1; step <= steps; step++) {
        for (unsigned power = 0; power < 2; power++) {
            begin(step);
            fault_env_fail_at(h.env, step, WEIR_EIO);
            if (harness_open(&h, &err) == 0) {
                harness_live(&h, 1);
                harness_run(&h);
                assert_false(partition_busy(h.p));
                die();
            } else {
                assert_int_equal(err.code, WEIR_EIO);
            }
            if (power) {
                fault_env_restart(h.env, FAULT_TEAR);
            }
            check_recovery(step);
            harness_close(&h);
        }
    }
}

/* After a failed sync the page cache shows what the disk never got: recovery must write it again.
 */
static void disk_error__then_power_loss_loses_nothing_that_recovery_counted_as_durable(void **state)
{
    (void)state;
    unsigned steps = count_steps();
    for (unsigned step = 1; step <= steps; step++) {
        begin(step);
        fault_env_fail_at(h.env, step, WEIR_EIO);
        if (harness_open(&h, &err) == 0) {
            harness_live(&h, 1);
            die();
        }
        must_open(step);
        harness_check(&h);
        harness_adopt(&h);
        fault_env_crash_at(h.env, fault_env_steps(h.env) + 1);
        die();
        fault_env_restart(h.env, FAULT_LOSE_ALL);
        check_recovery(step);
        harness_close(&h);
    }
}

static void disk_error__in_the_append_path_completes_all_with_eio(void **state)
{
    (void)state;
    begin(1);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 3, 1);
    harness_append(&h, 1, 100);
    harness_append(&h, 1, 100);
    fault_env_fail_at(h.env, fault_env_steps(h.env) + 2, WEIR_EIO); /* the sync */
    harness_run(&h);
    assert_true(partition_failed(h.p));
    assert_int_equal(h.n_errors, 2);
    assert_int_equal(h.last_status, WEIR_EIO);
    harness_append(&h, 1, 100);
    harness_run(&h);
    assert_int_equal(h.n_errors, 3);
    assert_int_equal(h.last_status, WEIR_EIO);
    assert_false(partition_busy(h.p));
    die();
    check_recovery(0);
    harness_close(&h);
}

static void disk_full__fails_the_append_but_not_the_partition(void **state)
{
    (void)state;
    begin(1);
    assert_int_equal(harness_open(&h, &err), 0);
    fault_env_set_free(h.env, 0);
    for (unsigned i = 0; i < 12 && h.n_errors == 0; i++) {
        harness_append(&h, 1, 1500);
        harness_append(&h, 1, 1500);
        harness_run(&h);
    }
    assert_true(h.n_errors > 0);
    assert_int_equal(h.last_status, WEIR_ENOSPC);
    assert_false(partition_failed(h.p));
    assert_int_equal(partition_last_index(h.p).v, h.acked);
    h.last = partition_last_index(h.p).v;
    harness_check(&h);
    fault_env_set_free(h.env, 1 << 20);
    harness_append_some(&h, 20, 2);
    assert_int_equal(h.last_status, 0);
    harness_check(&h);
    die();
    check_recovery(0);
    harness_close(&h);
}

/* One append of many entries that reaches into a segment for which there is no room: its beginning
 * is on disk already. */
static unsigned done_calls;
static int done_status;

static void on_done(struct partition_append *req, int status)
{
    (void)req;
    done_calls++;
    done_status = status;
}

static void disk_full__in_the_middle_of_an_append_leaves_none_of_it(void **state)
{
    (void)state;
    begin(1);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append(&h, 1, 1500);
    harness_run(&h);
    fault_env_set_free(h.env, 0);
    static uint8_t payload[3000];
    struct log_entry entries[6];
    for (int i = 0; i < 6; i++) {
        entries[i] = (struct log_entry){LOG_TERM(1), LOG_ENTRY_CONFIG, payload, sizeof(payload)};
    }
    struct partition_append req = {.entries = entries, .n = 6};
    done_calls = 0;
    partition_append(h.p, &req, on_done);
    assert_int_equal(partition_last_index(h.p).v, 7);
    harness_run(&h);
    assert_int_equal(done_calls, 1);
    assert_int_equal(done_status, WEIR_ENOSPC);
    assert_false(partition_failed(h.p));
    assert_int_equal(partition_last_index(h.p).v, 1);
    assert_int_equal(partition_durable_index(h.p).v, 1);
    harness_check(&h);
    die();
    must_open(0);
    assert_int_equal(partition_last_index(h.p).v, 1);
    harness_check(&h);
    fault_env_set_free(h.env, 1 << 20);
    harness_append_some(&h, 9, 3);
    harness_check(&h);
    harness_close(&h);
}

static void disk_full__when_opened_for_the_first_time_is_named(void **state)
{
    (void)state;
    begin(1);
    fault_env_set_free(h.env, 100);
    assert_int_equal(harness_open(&h, &err), WEIR_ENOSPC);
    fault_env_set_free(h.env, 1 << 20);
    must_open(0);
    harness_append_some(&h, 4, 1);
    harness_check(&h);
    harness_close(&h);
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        T(kill__at_every_step_loses_nothing_acknowledged),
        T(power_loss__at_every_step_loses_nothing_acknowledged),
        T(power_loss__with_torn_sectors_at_every_step_loses_nothing_acknowledged),
        T(power_loss__during_recovery_too_loses_nothing_acknowledged),
        T(kill__then_power_loss_loses_nothing_that_recovery_counted_as_durable),
        T(disk_error__at_every_step_fails_the_partition_and_a_reopened_one_has_all),
        T(disk_error__then_power_loss_loses_nothing_that_recovery_counted_as_durable),
        T(disk_error__in_the_append_path_completes_all_with_eio),
        T(disk_full__fails_the_append_but_not_the_partition),
        T(disk_full__in_the_middle_of_an_append_leaves_none_of_it),
        T(disk_full__when_opened_for_the_first_time_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
