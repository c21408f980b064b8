/* Faults (jepsen/nemesis), as far as they need no host of their own. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "jepsen/nemesis/faults.h"

#define WRITTEN  300
#define RESERVED (1 << 20)

static struct hosts hosts;
static struct nemesis_world world = {.hosts = &hosts, .random = 7};

static int make_host(void **state)
{
    struct host *host = &hosts.at[0];
    char path[300], folder[] = "/tmp/weir-nemesis-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(folder));
    hosts.n = hosts.founders = 1;
    host->member = true;
    (void)snprintf(host->name, sizeof(host->name), "n1");
    (void)snprintf(host->dir, sizeof(host->dir), "%s", folder);
    (void)snprintf(host->disk, sizeof(host->disk), "%s", folder);
    (void)snprintf(host->program, sizeof(host->program), "/bin/true");
    (void)snprintf(path, sizeof(path), "%s/data", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/data/log", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    return 0;
}

static int drop_host(void **state)
{
    char line[300];
    (void)state;
    host_signal(&hosts.at[0], SIGKILL);
    (void)snprintf(line, sizeof(line), "rm -rf %s", hosts.at[0].dir);
    return system(line);
}

static void disk_flip__hits_what_was_written_and_not_the_room_behind_it(void **state)
{
    static uint8_t bytes[WRITTEN];
    struct error err = {0};
    (void)state;
    for (unsigned times = 0; times < 20; times++) {
        char path[300], what[NEMESIS_WHAT_MAX];
        unsigned flipped = 0;
        (void)snprintf(path, sizeof(path), "%s/data/log/segment", hosts.at[0].disk);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        memset(bytes, 0x55, sizeof(bytes));
        assert_int_equal(fwrite(bytes, 1, sizeof(bytes), f), sizeof(bytes));
        assert_int_equal(fclose(f), 0);
        assert_int_equal(truncate(path, RESERVED), 0);

        assert_int_equal(disk_flip(&world, what, &err), 0);
        host_signal(&hosts.at[0], SIGKILL);

        f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(fread(bytes, 1, sizeof(bytes), f), sizeof(bytes));
        assert_int_equal(fclose(f), 0);
        for (unsigned i = 0; i < WRITTEN; i++) {
            flipped += bytes[i] != 0x55;
        }
        assert_in_range(flipped, 1, 3);
    }
}

/* Twenty small files and a segment: each kind gets its part. */
static void disk_flip__hits_segments_about_as_often_as_all_small_files(void **state)
{
    struct error err = {0};
    unsigned segments = 0, small = 0;
    (void)state;
    for (unsigned i = 0; i < 21; i++) {
        char path[300];
        (void)snprintf(path, sizeof(path), "%s/data/log/%s%u", hosts.at[0].disk,
                       i == 20 ? "segment" : "small", i);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fwrite("0123456789", 1, 10, f), 10);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(truncate(path, i == 20 ? RESERVED : 10), 0);
    }
    for (unsigned times = 0; times < 40; times++) {
        char what[NEMESIS_WHAT_MAX];
        assert_int_equal(disk_flip(&world, what, &err), 0);
        host_signal(&hosts.at[0], SIGKILL);
        segments += strstr(what, "segment") != NULL;
        small += strstr(what, "small") != NULL;
    }
    assert_in_range(segments, 10, 39);
    assert_in_range(small, 10, 39);
}

static void pause_cut__is_left_out_where_nobody_else_could_lead(void **state)
{
    const struct fault *fault = NULL;
    (void)state;
    for (unsigned i = 0; i < nemesis_n_faults; i++) {
        fault = strcmp(nemesis_faults[i].name, "pause-cut") == 0 ? &nemesis_faults[i] : fault;
    }
    assert_non_null(fault);
    assert_null(nemesis_lacks(fault, 3, false, true, true));
    assert_non_null(nemesis_lacks(fault, 1, false, true, true));
    assert_non_null(nemesis_lacks(fault, 3, false, false, true));
    assert_true((fault->kinds & FAULT_NETWORK) != 0 && (fault->kinds & FAULT_PROCESS) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(disk_flip__hits_what_was_written_and_not_the_room_behind_it,
                                        make_host, drop_host),
        cmocka_unit_test_setup_teardown(disk_flip__hits_segments_about_as_often_as_all_small_files,
                                        make_host, drop_host),
        cmocka_unit_test(pause_cut__is_left_out_where_nobody_else_could_lead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
