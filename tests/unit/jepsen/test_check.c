/* Histories that are good or bad in one known way (tests/golden/history): the first line of each
 * names its checker and every anomaly that is to be found in it, or "valid". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>

#include "jepsen/check/check.h"

#define FOLDER "tests/golden/history"

static const struct checker checkers[] = {
    {"kafka", "", check_kafka},         {"linear", "", check_linear}, {"bank", "", check_bank},
    {"ledger", "", check_ledger},       {"set", "", check_set},       {"chat", "", check_chat},
    {"lifecycle", "", check_lifecycle},
};

static const struct checker *find(const char *name)
{
    for (size_t i = 0; i < sizeof(checkers) / sizeof(checkers[0]); i++) {
        if (strcmp(checkers[i].name, name) == 0) {
            return &checkers[i];
        }
    }
    fail_msg("no checker %s", name);
    return NULL;
}

/* "; kafka: lost-write poll-skip" */
static void read_expectation(const char *path, char ret_checker[32], char ret_names[256])
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "; %31[^:]: %255[^\n]", ret_checker, ret_names), 2);
    (void)fclose(f);
}

static bool is_expected(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(names, name); at != NULL; at = strstr(at + 1, name)) {
        if ((at == names || at[-1] == ' ') && (at[n] == '\0' || at[n] == ' ')) {
            return true;
        }
    }
    return false;
}

static void judge(const char *path)
{
    char checker[32], names[256], why[256];
    struct ops ops;
    struct report r;
    unsigned wanted = 0, found = 0;
    read_expectation(path, checker, names);
    if (ops_load(&ops, path, why, sizeof(why)) != 0) {
        fail_msg("%s", why);
    }
    report_open(&r);
    find(checker)->check(&ops, &r);
    check_stats(&ops, &r);
    if (r.unknown != NULL) {
        fail_msg("%s: %s", path, r.unknown);
    }
    for (const char *c = names; *c != '\0'; c++) {
        wanted += c == names || c[-1] == ' ';
    }
    for (unsigned i = 0; i < r.n; i++) {
        if (!r.anomalies[i].harmless && !is_expected(names, r.anomalies[i].name)) {
            fail_msg("%s: %s: %s", path, r.anomalies[i].name, r.anomalies[i].shown[0]);
        }
        found += !r.anomalies[i].harmless;
    }
    if (found != (strcmp(names, "valid") == 0 ? 0 : wanted)) {
        fail_msg("%s: %u of %u anomalies (%s)", path, found, wanted, names);
    }
    report_close(&r);
    ops_free(&ops);
}

static void golden_histories__have_the_anomalies_that_they_are_named_after(void **state)
{
    (void)state;
    DIR *dir = opendir(FOLDER);
    unsigned n = 0;
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char path[512];
        if (e->d_name[0] != '.') {
            (void)snprintf(path, sizeof(path), FOLDER "/%s", e->d_name);
            judge(path);
            n++;
        }
    }
    (void)closedir(dir);
    assert_true(n > 60);
}

static int run(const char *arguments)
{
    char line[1024];
    (void)snprintf(line, sizeof(line), "%s %s > /dev/null 2>&1", WEIR_CHECK, arguments);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void weir_check__says_its_verdict_by_its_exit_status(void **state)
{
    (void)state;
    assert_int_equal(run("--checker kafka " FOLDER "/kafka-good.edn"), 0);
    assert_int_equal(run("--checker kafka " FOLDER "/kafka-lost-write.edn"), 1);
    assert_int_equal(run("--checker nobody " FOLDER "/kafka-good.edn"), 2);
    assert_int_equal(run("--checker kafka"), 2);
    assert_int_equal(run("--checker kafka " FOLDER "/not-there.edn"), 3);
    assert_int_equal(run("--checker bank " FOLDER "/kafka-good.edn"), 3);
}

static void weir_check__hands_the_history_to_an_outside_checker(void **state)
{
    (void)state;
    assert_int_equal(setenv("HISTORY_CHECK_CMD", "grep -q start-kill", 1), 0);
    assert_int_equal(run("--checker kafka " FOLDER "/kafka-good.edn"), 0);
    assert_int_equal(run("--checker kafka " FOLDER "/kafka-group-good.edn"), 1);
    assert_int_equal(unsetenv("HISTORY_CHECK_CMD"), 0);
}

/* --- Samples: a run of each workload --- */

#define SAMPLES          "jepsen/store/sample"
#define SAMPLE_BYTES_MAX 200000

/* "{:valid? true, :checker :kafka" */
static void judge_sample(const char *name)
{
    char path[512], checker[32], arguments[768], plot[64];
    struct stat st;
    (void)snprintf(path, sizeof(path), SAMPLES "/%s/verdict.edn", name);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "{:valid? true, :checker :%31[a-z]", checker), 1);
    (void)fclose(f);
    (void)snprintf(path, sizeof(path), SAMPLES "/%s/history.edn", name);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 0 && st.st_size <= SAMPLE_BYTES_MAX);
    (void)snprintf(plot, sizeof(plot), "/tmp/weir-sample-%d.svg", (int)getpid());
    (void)snprintf(arguments, sizeof(arguments), "--checker %s --plot %s %s", checker, plot, path);
    assert_int_equal(run(arguments), 0);
    assert_int_equal(stat(plot, &st), 0);
    (void)unlink(plot);
}

static void samples__are_histories_that_weir_check_accepts(void **state)
{
    (void)state;
    DIR *dir = opendir(SAMPLES);
    unsigned n = 0;
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.') {
            judge_sample(e->d_name);
            n++;
        }
    }
    (void)closedir(dir);
    assert_int_equal(n, 6);
}

/* --- Figures --- */

static char *figures_of(const char *text)
{
    char path[] = "/tmp/weir-history-XXXXXX", why[256];
    static char figures[4096];
    int fd = mkstemp(path);
    struct ops ops;
    struct report r;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    assert_int_equal(ops_load(&ops, path, why, sizeof(why)), 0);
    (void)unlink(path);
    report_open(&r);
    check_stats(&ops, &r);
    (void)fflush(r.figures_out);
    (void)snprintf(figures, sizeof(figures), "%s", r.figures);
    report_close(&r);
    ops_free(&ops);
    return figures;
}

static void stats__count_as_down_only_the_time_in_which_somebody_asked(void **state)
{
    (void)state;
    /* Asked at 1 s, answered well at 1.1 s; nobody asks until 5 s; that fails, the next goes well
     * at 5.4 s. */
    const char *figures = figures_of(
        "{:index 0, :time 1000000000, :type :invoke, :process 0, :f :write, :value [1 5]}"
        "{:index 1, :time 1100000000, :type :ok, :process 0, :f :write, :value [1 5]}"
        "{:index 2, :time 4900000000, :type :info, :process :nemesis, :f :start-kill, :value nil}"
        "{:index 3, :time 5000000000, :type :invoke, :process 0, :f :write, :value [1 6]}"
        "{:index 4, :time 5100000000, :type :fail, :process 0, :f :write, :value [1 6], :error "
        ":closed}"
        "{:index 5, :time 5200000000, :type :info, :process :nemesis, :f :stop-kill, :value nil}"
        "{:index 6, :time 5300000000, :type :invoke, :process 0, :f :write, :value [1 7]}"
        "{:index 7, :time 5400000000, :type :ok, :process 0, :f :write, :value [1 7]}");
    assert_non_null(strstr(figures, ":write {:ok 2, :fail 1, :info 0"));
    assert_non_null(strstr(figures, ":longest-down-ms 400.0, :down-at-s 5.000"));
    assert_non_null(
        strstr(figures, ":fault/kill {:times 1, :longest-down-ms 400.0, :recovery-ms 200.0}"));
}

static void stats__count_nothing_between_attempts_that_are_far_apart(void **state)
{
    (void)state;
    /* Tried in vain for 0.1 s; ten seconds later it goes well at once. */
    const char *figures = figures_of(
        "{:index 0, :time 1000000000, :type :invoke, :process 0, :f :write, :value [1 5]}"
        "{:index 1, :time 1100000000, :type :info, :process 0, :f :write, :value [1 5], :error "
        ":timeout}"
        "{:index 2, :time 11000000000, :type :invoke, :process 1, :f :write, :value [1 6]}"
        "{:index 3, :time 11010000000, :type :ok, :process 1, :f :write, :value [1 6]}");
    assert_non_null(strstr(figures, ":longest-down-ms 100.0, :down-at-s 1.000"));
}

static void stats__tell_keys_apart(void **state)
{
    (void)state;
    const char *figures = figures_of(
        "{:index 0, :time 0, :type :invoke, :process 0, :f :send, :value [[:send 1 5]]}"
        "{:index 1, :time 1000000000, :type :invoke, :process 1, :f :send, :value [[:send 2 5]]}"
        "{:index 2, :time 1100000000, :type :ok, :process 1, :f :send, :value [[:send 2 [0 5]]]}"
        "{:index 3, :time 2000000000, :type :ok, :process 0, :f :send, :value [[:send 1 [0 5]]]}");
    assert_non_null(strstr(figures, ":longest-down-ms 2000.0"));
}

static void stats__count_recovery_from_the_last_of_several_faults(void **state)
{
    (void)state;
    /* Down from 1 s to 5 s, under two faults; the second one ends at 4 s. */
    const char *figures = figures_of(
        "{:index 0, :time 900000000, :type :info, :process :nemesis, :f :start-kill, :value nil}"
        "{:index 1, :time 1000000000, :type :invoke, :process 0, :f :write, :value [1 5]}"
        "{:index 2, :time 2000000000, :type :info, :process :nemesis, :f :stop-kill, :value nil}"
        "{:index 3, :time 3000000000, :type :info, :process :nemesis, :f :start-cut, :value nil}"
        "{:index 4, :time 4000000000, :type :info, :process :nemesis, :f :stop-cut, :value nil}"
        "{:index 5, :time 5000000000, :type :ok, :process 0, :f :write, :value [1 5]}");
    assert_non_null(
        strstr(figures, ":fault/kill {:times 1, :longest-down-ms 4000.0, :recovery-ms 0.0}"));
    assert_non_null(
        strstr(figures, ":fault/cut {:times 1, :longest-down-ms 4000.0, :recovery-ms 1000.0}"));
}

static void stats__count_a_fault_from_when_it_is_begun(void **state)
{
    (void)state;
    const char *figures = figures_of(
        "{:index 0, :time 900000000, :type :info, :process :nemesis, :f :begin-roll, :value nil}"
        "{:index 1, :time 1000000000, :type :invoke, :process 0, :f :write, :value [1 5]}"
        "{:index 2, :time 4000000000, :type :ok, :process 0, :f :write, :value [1 5]}"
        "{:index 3, :time 5000000000, :type :info, :process :nemesis, :f :start-roll, :value nil}"
        "{:index 4, :time 5000000000, :type :info, :process :nemesis, :f :stop-roll, :value nil}"
        "{:index 5, :time 6000000000, :type :invoke, :process 0, :f :write, :value [1 6]}"
        "{:index 6, :time 6000000000, :type :ok, :process 0, :f :write, :value [1 6]}");
    assert_non_null(
        strstr(figures, ":fault/roll {:times 1, :longest-down-ms 3000.0, :recovery-ms 0.0}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_histories__have_the_anomalies_that_they_are_named_after),
        cmocka_unit_test(weir_check__says_its_verdict_by_its_exit_status),
        cmocka_unit_test(weir_check__hands_the_history_to_an_outside_checker),
        cmocka_unit_test(samples__are_histories_that_weir_check_accepts),
        cmocka_unit_test(stats__count_as_down_only_the_time_in_which_somebody_asked),
        cmocka_unit_test(stats__count_nothing_between_attempts_that_are_far_apart),
        cmocka_unit_test(stats__tell_keys_apart),
        cmocka_unit_test(stats__count_recovery_from_the_last_of_several_faults),
        cmocka_unit_test(stats__count_a_fault_from_when_it_is_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
