/* Reading a partition's folder without opening it. */
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
#include "log/dump.h"

static struct harness h;
static struct error err;

struct seen {
    uint64_t last, n, damaged, damage_at, damage_index;
    char damage_file[64];
};

static void on_entry(void *data, const struct dump_entry *e)
{
    struct seen *s = data;
    const struct model_entry *m = &h.model[e->frame.index.v];
    assert_true(e->frame.index.v > s->last);
    assert_int_equal(e->frame.type, m->type);
    assert_int_equal(e->frame.len, m->len);
    assert_memory_equal(e->payload, m->payload, m->len);
    s->last = e->frame.index.v;
    s->n++;
}

static void on_damage(void *data, const char *file, uint64_t at, uint64_t next, const char *what)
{
    struct seen *s = data;
    assert_true(what[0] != '\0');
    (void)snprintf(s->damage_file, sizeof(s->damage_file), "%s", file);
    s->damage_at = at;
    s->damage_index = next;
    s->damaged++;
}

static struct seen dump(int expected)
{
    struct seen s = {0};
    struct dump_events events = {&s, on_entry, on_damage};
    assert_int_equal(log_dump(h.env, HARNESS_DIR, 0, &events, &err), expected);
    return s;
}

static void die(void)
{
    harness_run(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
}

static void live(void)
{
    harness_init(&h, 31, 0);
    h.options.segment_bytes = 12288;
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 60, 3);
}

static void dump__shows_all_entries_and_changes_nothing(void **state)
{
    (void)state;
    live();
    die();
    unsigned steps = fault_env_steps(h.env);
    struct seen s = dump(0);
    assert_int_equal(s.n, h.last);
    assert_int_equal(s.damaged, 0);
    assert_int_equal(fault_env_steps(h.env), steps);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_check(&h);
    harness_close(&h);
}

static void dump__refuses_what_a_node_has_open_and_what_is_no_partition(void **state)
{
    (void)state;
    live();
    (void)dump(WEIR_EBUSY);
    assert_non_null(strstr(err.text, "stop it first"));
    harness_close(&h);
    harness_init(&h, 32, 0);
    assert_int_equal(env_dir_make(h.env, HARNESS_DIR, &err), 0);
    (void)dump(WEIR_ENOTFOUND);
    harness_close(&h);
}

static void dump__begins_where_the_log_does(void **state)
{
    (void)state;
    live();
    partition_set_commit(h.p, partition_last_index(h.p));
    partition_set_keep(h.p, partition_last_index(h.p));
    partition_set_start(h.p, LOG_OFFSET(partition_high_watermark(h.p).v / 2));
    for (int i = 0; i < 40; i++) {
        fault_env_advance(h.env, 20000);
    }
    uint64_t first = partition_first_index(h.p).v;
    assert_true(first > 1);
    die();
    struct seen s = dump(0);
    assert_int_equal(s.n, h.last - first + 1);
    assert_int_equal(s.damaged, 0);
    harness_close(&h);
}

static void dump__names_every_damaged_place_and_goes_on_behind_it(void **state)
{
    (void)state;
    static const char name[] = "00000000000000000001.log";
    size_t n;
    live();
    die();
    for (size_t at = 0; at < 12288; at += 97) {
        uint8_t *data = fault_env_data(h.env, HARNESS_DIR "/00000000000000000001.log", &n);
        bool used = at < 40 || (at >= 4096 && at < 11000);
        data[at] ^= 0x10;
        struct seen s = dump(0);
        if (used) {
            assert_true(s.damaged >= 1);
            assert_string_equal(s.damage_file, name);
            assert_true(at < 4096 || s.n < h.last);
        }
        assert_int_equal(s.last, h.last);
        data[at] ^= 0x10;
    }
    fault_env_remove(h.env, HARNESS_DIR "/00000000000000000001.log");
    struct seen s = dump(0);
    assert_true(s.damaged >= 1);
    assert_int_equal(s.last, h.last);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dump__shows_all_entries_and_changes_nothing),
        cmocka_unit_test(dump__refuses_what_a_node_has_open_and_what_is_no_partition),
        cmocka_unit_test(dump__begins_where_the_log_does),
        cmocka_unit_test(dump__names_every_damaged_place_and_goes_on_behind_it),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
