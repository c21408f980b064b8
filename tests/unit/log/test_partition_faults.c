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

/* --- Damage --- */

/* A partition with a few segments, closed in order or killed. */
static struct fault_image *make_image(bool clean)
{
    begin(5);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 30, 1);
    h.term++;
    harness_append_some(&h, 4, 2);
    assert_int_equal(harness_set_term(&h, 3), 0);
    assert_int_equal(harness_set_term(&h, 4), 0);
    fault_env_advance(h.env, 200000);
    harness_run(&h);
    if (clean) {
        die();
        return fault_env_save(h.env);
    }
    struct fault_image *image = fault_env_save(h.env);
    die();
    return image;
}

/* Opens what may be damaged: either the damage is named, or everything is there and right. */
static int try_damaged(const char *what, size_t at)
{
    int rc = harness_open(&h, &err);
    if (rc == 0) {
        if (partition_last_index(h.p).v != h.last) {
            print_message("%s: byte %zu: silently lost entries\n", what, at);
        }
        assert_int_equal(partition_last_index(h.p).v, h.last);
        struct partition_meta meta;
        partition_meta(h.p, &meta);
        assert_int_equal(meta.term.v, h.meta_term);
        rc = harness_read_all(&h, &err);
        partition_close(h.p);
        h.p = NULL;
        harness_run(&h);
    }
    if (rc != 0 && rc != WEIR_ECORRUPT) {
        print_message("%s: byte %zu: %d %s\n", what, at, rc, err.text);
    }
    assert_true(rc == 0 || rc == WEIR_ECORRUPT);
    return rc;
}

static const char *const damaged_files[] = {
    "/p/00000000000000000001.log",
    "/p/00000000000000000001.index",
    "/p/00000000000000000008.log",
    "/p/meta",
    "/p/mark",
};

/* The newest segment's path. */
static const char *last_segment(void)
{
    static char path[64];
    for (unsigned i = (unsigned)h.last; i > 0; i--) {
        size_t n;
        (void)snprintf(path, sizeof(path), "/p/%020u.log", i);
        if (fault_env_data(h.env, path, &n) != NULL) {
            break;
        }
    }
    return path;
}

static unsigned flip_all(const struct fault_image *image, const char *path)
{
    size_t size;
    unsigned corrupt = 0;
    if (fault_env_data(h.env, path, &size) == NULL) {
        return 0;
    }
    for (size_t at = 0; at < size; at += at < 100 ? 1 : 13) { /* 13 meets every alignment */
        fault_env_restore(h.env, image);
        uint8_t *data = fault_env_data(h.env, path, &size);
        data[at] ^= (uint8_t)(1 << at % 8);
        corrupt += try_damaged(path, at) != 0;
    }
    fault_env_restore(h.env, image);
    return corrupt;
}

static void damage__any_flipped_bit_is_harmless_or_named(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct fault_image *image = make_image(clean);
        fault_env_restore(h.env, image);
        for (size_t i = 0; i < sizeof(damaged_files) / sizeof(damaged_files[0]); i++) {
            (void)flip_all(image, damaged_files[i]);
        }
        assert_true(flip_all(image, last_segment()) > 50);
        harness_close(&h);
        fault_image_free(image);
    }
}

static void damage__below_the_synced_mark_names_file_and_position_and_changes_nothing(void **state)
{
    (void)state;
    struct fault_image *image = make_image(true);
    size_t size;
    fault_env_restore(h.env, image);
    const char *path = last_segment();
    char expected[128];
    uint8_t *data = fault_env_data(h.env, path, &size);
    data[4096 + 60] ^= 4; /* the payload of its first frame */
    (void)snprintf(expected, sizeof(expected), "%s: at byte 4096: entry ", path);
    struct fault_image *damaged = fault_env_save(h.env);
    unsigned steps = fault_env_steps(h.env);
    assert_int_equal(harness_open(&h, &err), WEIR_ECORRUPT);
    assert_int_equal(strncmp(err.text, expected, strlen(expected)), 0);
    assert_non_null(strstr(err.text, "wrong checksum of its payload, but entries up to "));
    assert_int_equal(fault_env_steps(h.env), steps);
    fault_image_free(damaged);
    harness_close(&h);
    fault_image_free(image);
}

/* Without any mark, what later frames say is enough. */
static void damage__is_found_by_later_frames_when_the_mark_is_lost(void **state)
{
    (void)state;
    struct fault_image *image = make_image(false);
    size_t size;
    fault_env_restore(h.env, image);
    fault_env_remove(h.env, "/p/mark");
    uint8_t *data = fault_env_data(h.env, last_segment(), &size);
    data[4096 + 8] ^= 1; /* even its length is wrong */
    assert_int_equal(harness_open(&h, &err), WEIR_ECORRUPT);
    harness_close(&h);
    fault_image_free(image);
}

static void damage__shortened_files_are_harmless_or_named(void **state)
{
    (void)state;
    struct fault_image *image = make_image(true);
    fault_env_restore(h.env, image);
    char last[64];
    (void)snprintf(last, sizeof(last), "%s", last_segment());
    const char *paths[] = {damaged_files[0], damaged_files[1], damaged_files[3], damaged_files[4],
                           last};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        size_t size;
        assert_non_null(fault_env_data(h.env, paths[i], &size));
        for (size_t n = 0; n < size; n += n < 64 ? 1 : 61) {
            fault_env_restore(h.env, image);
            fault_env_resize(h.env, paths[i], n);
            (void)try_damaged(paths[i], n);
        }
        fault_env_restore(h.env, image);
    }
    harness_close(&h);
    fault_image_free(image);
}

static void damage__missing_files_are_harmless_or_named(void **state)
{
    (void)state;
    struct fault_image *image = make_image(true);
    const struct {
        const char *path;
        int expected;
    } cases[] = {
        {"/p/00000000000000000001.log", WEIR_ECORRUPT},
        {"/p/00000000000000000001.index", 0},
        {"/p/meta", WEIR_ECORRUPT},
        {"/p/mark", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fault_env_restore(h.env, image);
        fault_env_remove(h.env, cases[i].path);
        assert_int_equal(try_damaged(cases[i].path, 0), cases[i].expected);
    }
    fault_env_restore(h.env, image);
    fault_env_remove(h.env, last_segment());
    assert_int_equal(try_damaged("last segment", 0), WEIR_ECORRUPT);
    harness_close(&h);
    fault_image_free(image);
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
        T(damage__any_flipped_bit_is_harmless_or_named),
        T(damage__below_the_synced_mark_names_file_and_position_and_changes_nothing),
        T(damage__is_found_by_later_frames_when_the_mark_is_lost),
        T(damage__shortened_files_are_harmless_or_named),
        T(damage__missing_files_are_harmless_or_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
