/* The tables that many runs are put together into (jepsen/control/summary.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "jepsen/control/summary.h"

static struct summary summary;

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void make_run(const char *store, const char *name, const char *run, const char *verdict)
{
    char dir[256];
    (void)snprintf(dir, sizeof(dir), "%s/%s", store, name);
    assert_int_equal(mkdir(dir, 0755), 0);
    write_file(dir, "run.edn", run);
    if (verdict != NULL) {
        write_file(dir, "verdict.edn", verdict);
    }
}

static char *print_all(const char *store)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    memset(&summary, 0, sizeof(summary));
    assert_int_equal(summary_take(&summary, store), 0);
    summary_print(&summary, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void make_store(char store[64])
{
    (void)snprintf(store, 64, "/tmp/weir-summary-XXXXXX");
    assert_non_null(mkdtemp(store));
    make_run(store, "a",
             "{:outcome :valid, :workload :log, :nemesis \"kill-one\", :seed 1, :seconds 1800.0,\n"
             " :nodes 3,"
             " :operations 10, :faults 2, :reason \"\"}",
             "{:valid? true :figures {:send {:longest-down-ms 900.0}\n"
             " :stalls-large-buffer/kill-one {:stalls 1, :longest-ms 300, :total-ms 300}\n"
             " :stalls-small-buffer/kill-one {:stalls 4, :longest-ms 1500, :total-ms 2000}\n"
             " :fault/kill-one {:times 2, :longest-down-ms 800.5, :recovery-ms 20.0}}}");
    make_run(store, "b",
             "{:outcome :valid, :workload :log, :nemesis \"kill-one\", :seed 2, :seconds 1800.0,\n"
             " :nodes 5,"
             " :operations 5, :faults 1, :reason \"\"}",
             "{:valid? true :figures {:send {:longest-down-ms 300.0}\n"
             " :stalls-large-buffer/kill-one {:stalls 2, :longest-ms 400, :total-ms 500}\n"
             " :fault/kill-one {:times 1, :longest-down-ms 300.0, :recovery-ms 120.0}}}");
    make_run(store, "c",
             "{:outcome :invalid, :workload :ledger, :nemesis \"mix\", :seed 3, :seconds 0.0,\n"
             " :nodes 5,"
             " :operations 7, :faults 1, :reason \"n1 ended by itself\"}",
             NULL);
}

static void summary__adds_the_runs_of_a_cell_and_keeps_the_worst(void **state)
{
    char store[64], line[128];
    (void)state;
    make_store(store);
    char *text = print_all(store);
    assert_non_null(strstr(text, "3 runs, 1.0 hours, 22 operations, 4 faults; 1 invalid, "));
    assert_non_null(strstr(text, "| log | kill-one | 1 | 1 | 15 | 3 | valid | 0.9 | 0.1 |\n"));
    assert_non_null(strstr(text, "| ledger | mix | 0 | 1 | 7 | 1 | 1 INVALID, 0 unchecked |"));
    assert_non_null(strstr(text, "| kill-one | 3 | | 0.8, 0.1 |\n"));
    assert_non_null(strstr(text, "| kill-one | 3, 0.4, 0.8 | 4, 1.5, 2.0 |\n"));
    assert_non_null(strstr(text, "- ledger, mix, seed 3, 5 nodes: invalid: n1 ended by itself\n"));
    free(text);
    (void)snprintf(line, sizeof(line), "rm -r %s", store);
    assert_int_equal(system(line), 0);
}

static void summary__says_when_there_is_no_folder(void **state)
{
    (void)state;
    assert_int_equal(summary_take(&summary, "/nowhere/at/all"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summary__adds_the_runs_of_a_cell_and_keeps_the_worst),
        cmocka_unit_test(summary__says_when_there_is_no_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
