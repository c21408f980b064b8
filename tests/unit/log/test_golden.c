/* A partition written by the first version of the format must always open. tests/golden/log/v1 is
 * that folder; WEIR_MAKE_GOLDEN=1 writes it anew, which is right only for a new version of the
 * format in a folder of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "log/meta.h"

#define GOLDEN      "tests/golden/log/v1"
#define META_GOLDEN "tests/golden/log/meta_v2.bin"

static struct harness h;
static struct error err;
static const char *const names[] = {
    "00000000000000000001.log",
    "00000000000000000001.index",
    "00000000000000000010.log",
    "meta",
    "mark",
};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

/* What the golden partition holds: the same each time. */
static void fill(void)
{
    harness_append_type(&h, LOG_ENTRY_CONFIG);
    for (unsigned i = 0; i < 9; i++) {
        harness_append(&h, 1 + i % 3, 100 * i + 10);
        harness_run(&h);
    }
    h.term = 2;
    harness_append_type(&h, LOG_ENTRY_BARRIER);
    harness_append_type(&h, LOG_ENTRY_CONFIG);
    harness_run(&h);
    assert_int_equal(harness_set_term(&h, 2), 0);
}

static const char *disk_path(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), GOLDEN "/%s", name);
    return path;
}

static const char *env_path(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), HARNESS_DIR "/%s", name);
    return path;
}

static void make_golden(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        size_t n;
        const uint8_t *data = fault_env_data(h.env, env_path(names[i]), &n);
        assert_non_null(data);
        FILE *f = fopen(disk_path(names[i]), "wbe");
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
    }
}

static void load_golden(void)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        static uint8_t data[65536];
        struct env_file *file;
        FILE *f = fopen(disk_path(names[i]), "rbe");
        assert_non_null(f);
        size_t n = fread(data, 1, sizeof(data), f);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(
            env_file_open(h.env, env_path(names[i]), ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, &err),
            0);
        assert_int_equal(env_file_pwrite(file, data, n, 0, &err), 0);
        env_file_close(file);
    }
}

static void partition_of_version_1__opens_and_reads_the_same(void **state)
{
    (void)state;
    static struct harness written;
    harness_init(&h, 3, 0);
    h.plain = true;
    h.options.segment_bytes = 8192;
    assert_int_equal(harness_open(&h, &err), 0);
    fill();
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
    if (getenv("WEIR_MAKE_GOLDEN") != NULL) {
        make_golden();
    }
    /* Only the model of `written` is kept; the files are the golden ones. */
    written = h;
    harness_init(&h, 4, 0);
    h.plain = true;
    h.options.segment_bytes = 8192;
    load_golden();
    h.last = h.acked = written.last;
    h.meta_term = h.meta_tried = written.meta_term;
    assert_int_equal(harness_open(&h, &err), 0);
    assert_int_equal(partition_last_index(h.p).v, written.last);
    harness_check(&h);
    h.term = 3;
    h.value = written.value;
    harness_append(&h, 2, 50);
    harness_run(&h);
    harness_check(&h);
    harness_close(&h);
    harness_close(&written);
}

/* A slot with a flag has a version of its own; the golden one was written by the first such. */
static void meta_of_version_2__reads_and_writes_the_same(void **state)
{
    (void)state;
    static uint8_t slot[META_SLOT_SIZE], golden[META_SLOT_SIZE];
    static struct meta meta = {
        .counter = 5,
        .term = LOG_TERM(7),
        .vote = 2,
        .snapshot_index = LOG_INDEX(40),
        .snapshot_term = LOG_TERM(6),
        .snapshot_config_index = LOG_INDEX(1),
        .recovering = true,
        .config_len = 13,
        .config = "configuration",
    };
    meta_encode(&meta, slot);
    if (getenv("WEIR_MAKE_GOLDEN") != NULL) {
        FILE *f = fopen(META_GOLDEN, "wbe");
        assert_non_null(f);
        assert_int_equal(fwrite(slot, 1, sizeof(slot), f), sizeof(slot));
        assert_int_equal(fclose(f), 0);
    }
    FILE *f = fopen(META_GOLDEN, "rbe");
    assert_non_null(f);
    assert_int_equal(fread(golden, 1, sizeof(golden), f), sizeof(golden));
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(slot, golden, sizeof(golden));
    static struct meta read;
    assert_true(meta_decode(golden, &read));
    assert_true(read.recovering);
    assert_int_equal(read.vote, 2);
    assert_int_equal(read.snapshot_index.v, 40);
    assert_memory_equal(read.config, "configuration", 13);
    meta.recovering = false;
    meta_encode(&meta, slot);
    assert_int_equal(slot[12], 1);
    assert_true(meta_decode(slot, &read));
    assert_false(read.recovering);
    for (meta.wish = 0; meta.wish <= META_WISH_MAX; meta.wish++) {
        meta_encode(&meta, slot);
        assert_true(meta_decode(slot, &read));
        assert_int_equal(read.wish, meta.wish);
        assert_false(read.recovering);
        assert_int_equal(read.begun_index.v, 0);
    }
}

/* It was added behind everything else, without a version: who does not know it passes it over. */
static void meta__says_since_when_the_log_is_there_or_nothing(void **state)
{
    (void)state;
    static uint8_t slot[META_SLOT_SIZE];
    static const uint8_t expected[] = {0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0};
    static struct meta meta = {.counter = 1, .begun_index = LOG_INDEX(0x123456789)}, read;
    meta_encode(&meta, slot);
    assert_memory_equal(slot + 4080, expected, sizeof(expected));
    assert_true(meta_decode(slot, &read));
    assert_int_equal(read.begun_index.v, 0x123456789);
    slot[4081] ^= 1;
    assert_true(meta_decode(slot, &read));
    assert_int_equal(read.begun_index.v, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_of_version_1__opens_and_reads_the_same),
        cmocka_unit_test(meta_of_version_2__reads_and_writes_the_same),
        cmocka_unit_test(meta__says_since_when_the_log_is_there_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
