/* What a partition's entries fold to, and its files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "log/state.h"

#define GOLDEN "tests/golden/log/state_v1.bin"

static struct harness h;
static struct error err;

struct names {
    unsigned n;
    char newest[64];
};

static int on_name(void *data, const char *name)
{
    struct names *names = data;
    size_t n = strlen(name);
    if (n > 6 && strcmp(name + n - 6, ".state") == 0) {
        names->n++;
        (void)snprintf(names->newest, sizeof(names->newest), HARNESS_DIR "/%.40s", name);
    }
    return 0;
}

static struct names state_files(void)
{
    struct names names = {0};
    assert_int_equal(env_dir_list(h.env, HARNESS_DIR, on_name, &names, &err), 0);
    return names;
}

static void begin(void)
{
    harness_init(&h, 1, 0);
    h.options.segment_bytes = 12288;
    assert_int_equal(harness_open(&h, &err), 0);
}

static void reopen(void)
{
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
    assert_int_equal(harness_open(&h, &err), 0);
}

static void producers__are_known_again_without_reading_the_log(void **state)
{
    (void)state;
    begin();
    harness_append_some(&h, 40, 1);
    assert_true(state_files().n == 2); /* at the ends of segments, and not more than are needed */
    reopen();
    harness_check(&h);
    /* The first segment can't be read any more; nobody needs to. */
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
    size_t n;
    uint8_t *first = fault_env_data(h.env, HARNESS_DIR "/00000000000000000001.log", &n);
    first[4096 + 60] ^= 1;
    fault_env_remove(h.env, HARNESS_DIR "/00000000000000000001.index");
    assert_int_equal(harness_open(&h, &err), 0);
    first = fault_env_data(h.env, HARNESS_DIR "/00000000000000000001.log", &n);
    first[4096 + 60] ^= 1;
    harness_check(&h);
    harness_close(&h);
}

static void state_files__damaged_ones_are_made_anew(void **state)
{
    (void)state;
    begin();
    harness_append_some(&h, 40, 1);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
    struct names names = state_files();
    size_t n;
    assert_non_null(fault_env_data(h.env, names.newest, &n));
    struct fault_image *image = fault_env_save(h.env);
    for (size_t at = 0; at < n; at++) {
        fault_env_restore(h.env, image);
        fault_env_data(h.env, names.newest, &n)[at] ^= (uint8_t)(1u << at % 8);
        assert_int_equal(harness_open(&h, &err), 0);
        harness_check(&h);
        partition_close(h.p);
        h.p = NULL;
        harness_run(&h);
    }
    for (unsigned i = 0; i < 2; i++) { /* shorter ones, then none */
        fault_env_restore(h.env, image);
        fault_env_resize(h.env, names.newest, i == 0 ? 0 : n / 2);
        assert_int_equal(harness_open(&h, &err), 0);
        harness_check(&h);
        fault_env_remove(h.env, state_files().newest);
        reopen();
        harness_check(&h);
        partition_close(h.p);
        h.p = NULL;
        harness_run(&h);
    }
    assert_int_equal(harness_open(&h, &err), 0);
    fault_image_free(image);
    harness_close(&h);
}

static void unreadable_segment__leaves_producers_unknown_and_the_log_open(void **state)
{
    (void)state;
    begin();
    harness_append_some(&h, 40, 1);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
    for (struct names names; (names = state_files()).n > 0;) {
        fault_env_remove(h.env, names.newest);
    }
    size_t n;
    fault_env_data(h.env, HARNESS_DIR "/00000000000000000001.log", &n)[4096 + 60] ^= 1;
    assert_int_equal(harness_open(&h, &err), 0);
    const struct producers *t = partition_producers(h.p);
    assert_true(t->forgotten_ms != INT64_MIN);
    assert_true(t->n > 0); /* those of later segments are known */
    harness_close(&h);
}

static void truncation__takes_the_state_back(void **state)
{
    (void)state;
    begin();
    h.options.segment_bytes = 65536;
    h.no_commit = true;
    reopen();
    for (unsigned round = 0; round < 6; round++) {
        harness_append_some(&h, 30, round);
        uint64_t last = partition_last_index(h.p).v;
        harness_check(&h);
        h.term++; /* what comes instead is of another term */
        assert_int_equal(harness_truncate(&h, last - 3 * round - 1), 0);
        harness_check(&h);
        if (round % 2 == 1) {
            reopen();
            harness_check(&h);
        }
    }
    harness_close(&h);
}

static void exported_state__is_in_memory_after_opening(void **state)
{
    (void)state;
    struct bytes out;
    struct log_state s;
    size_t n;
    begin();
    harness_append_some(&h, 5, 1);
    reopen();
    partition_set_commit(h.p, partition_last_index(h.p));
    fault_env_data(h.env, HARNESS_DIR "/00000000000000000001.log", &n)[4096 + 60] ^= 1;
    bytes_init(&out, STATE_BYTES_MAX);
    log_state_init(&s);
    assert_int_equal(partition_export_state(h.p, &out, &err), 0);
    assert_int_equal(log_state_decode(&s, out.data, out.len, &err), 0);
    assert_int_equal(s.index.v, partition_last_index(h.p).v);
    assert_true(s.producers.forgotten_ms == INT64_MIN);
    fault_env_data(h.env, HARNESS_DIR "/00000000000000000001.log", &n)[4096 + 60] ^= 1;
    log_state_close(&s);
    bytes_close(&out);
    harness_close(&h);
}

static void exported_state__serves_a_replica_that_begins_later(void **state)
{
    (void)state;
    begin();
    harness_append_some(&h, 30, 1);
    uint64_t commit = partition_last_index(h.p).v;
    partition_set_commit(h.p, LOG_INDEX(commit));
    struct bytes out, again;
    struct log_state s;
    bytes_init(&out, STATE_BYTES_MAX);
    bytes_init(&again, STATE_BYTES_MAX);
    log_state_init(&s);
    harness_append_some(&h, 4, 2);
    assert_int_equal(partition_export_state(h.p, &out, &err), 0); /* only what is committed */
    assert_int_equal(log_state_decode(&s, out.data, out.len, &err), 0);
    assert_int_equal(s.index.v, commit);
    static struct harness other;
    harness_init(&other, 2, 1);
    assert_int_equal(harness_open(&other, &err), 0);
    assert_int_equal(partition_import_state(other.p, out.data, out.len, &err), 0);
    harness_append_some(&other, 3, 7); /* below that index: changes nothing */
    producers_encode(&s.producers, &again);
    bytes_reset(&out);
    producers_encode(partition_producers(other.p), &out);
    assert_int_equal(out.len, again.len);
    assert_memory_equal(out.data, again.data, out.len);
    log_state_close(&s);
    bytes_close(&out);
    bytes_close(&again);
    harness_close(&other);
    harness_close(&h);
}

static struct harness other;
static struct bytes shipped, expected;
static struct log_index shipped_upto;

/* What a replica with a log would ship to one that begins anew. */
static void ship(void)
{
    struct log_state s;
    begin();
    harness_append_some(&h, 60, 1);
    shipped_upto = partition_last_index(h.p);
    partition_set_commit(h.p, shipped_upto);
    bytes_init(&shipped, STATE_BYTES_MAX);
    bytes_init(&expected, STATE_BYTES_MAX);
    log_state_init(&s);
    assert_int_equal(partition_export_state(h.p, &shipped, &err), 0);
    assert_int_equal(log_state_decode(&s, shipped.data, shipped.len, &err), 0);
    assert_int_equal(s.index.v, shipped_upto.v);
    producers_encode(&s.producers, &expected);
    log_state_close(&s);
    harness_close(&h);
}

static void ship_end(void)
{
    bytes_close(&shipped);
    bytes_close(&expected);
}

static void assert_as_shipped(void)
{
    struct bytes now;
    bytes_init(&now, STATE_BYTES_MAX);
    producers_encode(partition_producers(other.p), &now);
    assert_int_equal(now.len, expected.len);
    assert_memory_equal(now.data, expected.data, now.len);
    bytes_close(&now);
}

static void close_other(void)
{
    partition_close(other.p);
    other.p = NULL;
    harness_run(&other);
}

/* Where the log begins that the shipped state comes with. */
static struct partition_begin shipped_begin(void)
{
    return (struct partition_begin){.first_index = {shipped_upto.v - 20},
                                    .prev_term = {1},
                                    .first_offset = {5000},
                                    .start_offset = {5000},
                                    .time_ms = 90000};
}

static int reset_with_state(const struct partition_begin *to)
{
    int rc = partition_keep_import(other.p, shipped.data, shipped.len, &err);
    rc = rc == 0 ? harness_reset(&other, to) : rc;
    return rc == 0 ? partition_import_state(other.p, shipped.data, shipped.len, &err) : rc;
}

static void shipped_state__survives_a_power_loss_at_every_step_of_the_reset_it_comes_with(void **st)
{
    (void)st;
    static const enum fault_restart hows[] = {FAULT_KILL, FAULT_LOSE_ALL, FAULT_TEAR};
    ship();
    const struct partition_begin to = shipped_begin();
    for (unsigned how = 0; how < 3; how++) {
        bool crashed = true;
        for (unsigned step = 1; crashed; step++) {
            harness_init(&other, 2, 1);
            assert_int_equal(harness_open(&other, &err), 0);
            harness_append_some(&other, 5, 3);
            fault_env_crash_at(other.env, fault_env_steps(other.env) + step);
            int rc = reset_with_state(&to);
            close_other();
            crashed = fault_env_crashed(other.env);
            fault_env_crash_at(other.env, 0);
            if (crashed) {
                fault_env_restart(other.env, hows[how]);
            }
            assert_int_equal(harness_open(&other, &err), 0);
            bool begun = partition_first_index(other.p).v == to.first_index.v;
            assert_true(begun || rc != 0);
            if (begun) {
                assert_as_shipped();
            }
            harness_close(&other);
        }
    }
    ship_end();
}

static void shipped_state__is_gone_on_with_when_the_log_has_reached_it(void **st)
{
    (void)st;
    size_t n;
    ship();
    const struct partition_begin to = shipped_begin();
    harness_init(&other, 2, 1);
    other.forgetful = true;
    assert_int_equal(harness_open(&other, &err), 0);
    assert_int_equal(reset_with_state(&to), 0);
    for (unsigned i = 0; i < 6; i++) { /* the last of them are behind it */
        harness_append_some(&other, 8, i);
        struct bytes before, after;
        bytes_init(&before, STATE_BYTES_MAX);
        bytes_init(&after, STATE_BYTES_MAX);
        producers_encode(partition_producers(other.p), &before);
        close_other();
        assert_int_equal(harness_open(&other, &err), 0);
        producers_encode(partition_producers(other.p), &after);
        assert_int_equal(before.len, after.len);
        assert_memory_equal(before.data, after.data, after.len);
        bytes_close(&before);
        bytes_close(&after);
        if (partition_last_index(other.p).v < shipped_upto.v) {
            assert_as_shipped();
        }
    }
    assert_true(partition_last_index(other.p).v > shipped_upto.v);
    close_other();
    fault_env_data(other.env, HARNESS_DIR "/imported.state", &n)[50] ^= 1;
    assert_int_equal(harness_open(&other, &err), 0); /* only a shortcut */
    harness_close(&other);
    ship_end();
}

static void state_of_version_1__reads_and_writes_the_same(void **state)
{
    (void)state;
    static uint8_t golden[4096];
    struct log_state s;
    struct bytes out;
    log_state_init(&s);
    bytes_init(&out, STATE_BYTES_MAX);
    s.index = LOG_INDEX(77);
    s.term = LOG_TERM(5);
    assert_int_equal(producers_reserve(&s.producers, 3), 0);
    for (int32_t i = 0; i < 9; i++) {
        struct batch_producer b = {i % 3 * 1000000007LL, (int16_t)(i % 3), i * 10, 10};
        producers_add(&s.producers, &b, LOG_OFFSET(i * 10), 1700000000000 + i);
    }
    s.producers.forgotten_ms = 1600000000000;
    log_state_encode(&s, &out);
    if (getenv("WEIR_MAKE_GOLDEN") != NULL) {
        FILE *f = fopen(GOLDEN, "wbe");
        assert_non_null(f);
        assert_int_equal(fwrite(out.data, 1, out.len, f), out.len);
        assert_int_equal(fclose(f), 0);
    }
    FILE *f = fopen(GOLDEN, "rbe");
    assert_non_null(f);
    size_t n = fread(golden, 1, sizeof(golden), f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, out.len);
    assert_memory_equal(golden, out.data, n);
    assert_int_equal(log_state_decode(&s, golden, n, &err), 0);
    bytes_reset(&out);
    log_state_encode(&s, &out);
    assert_memory_equal(golden, out.data, n);
    bytes_close(&out);
    log_state_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(producers__are_known_again_without_reading_the_log),
        cmocka_unit_test(state_files__damaged_ones_are_made_anew),
        cmocka_unit_test(unreadable_segment__leaves_producers_unknown_and_the_log_open),
        cmocka_unit_test(truncation__takes_the_state_back),
        cmocka_unit_test(exported_state__is_in_memory_after_opening),
        cmocka_unit_test(exported_state__serves_a_replica_that_begins_later),
        cmocka_unit_test(
            shipped_state__survives_a_power_loss_at_every_step_of_the_reset_it_comes_with),
        cmocka_unit_test(shipped_state__is_gone_on_with_when_the_log_has_reached_it),
        cmocka_unit_test(state_of_version_1__reads_and_writes_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
