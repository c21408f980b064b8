#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/cli/cli.h"
#include "clients/cli/histogram.h"

#define WORDS_MAX 12

/* The command in a process of its own (argp leaves by exit); its output goes into `ret_text`. */
static int run(const char *line, char *ret_text, size_t size)
{
    int out[2], status = 0;
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char copy[512], *words[WORDS_MAX + 1] = {0}, *save = NULL;
        int n = 0;
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(out[1], STDERR_FILENO);
        (void)close(out[0]);
        (void)unsetenv("WEIR_CONFIG");
        (void)snprintf(copy, sizeof(copy), "%s", line);
        for (char *w = strtok_r(copy, " ", &save); w != NULL && n < WORDS_MAX;
             w = strtok_r(NULL, " ", &save)) {
            words[n++] = w;
        }
        int rv = cli_main(n, words);
        (void)fflush(stdout);
        _exit(rv);
    }
    (void)close(out[1]);
    size_t len = 0;
    ssize_t got = 0;
    while (len < size - 1 && (got = read(out[0], ret_text + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    ret_text[len] = '\0';
    (void)close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void cli_main__explains_itself_and_every_command(void **state)
{
    char text[16384], line[256];
    (void)state;
    assert_int_equal(run("weir --help", text, sizeof(text)), CLI_OK);
    for (const struct cli_group *g = cli_groups; g->name != NULL; g++) {
        assert_non_null(strstr(text, g->name));
    }
    for (const struct cli_group *g = cli_groups; g->name != NULL; g++) {
        for (const struct cli_command *c = g->commands; c->name != NULL; c++) {
            (void)snprintf(line, sizeof(line), "weir %s %s --help", g->name, c->name);
            assert_int_equal(run(line, text, sizeof(text)), CLI_OK);
            assert_non_null(strstr(text, "Usage: weir"));
            for (char *p = text; *p != '\0'; p++) { /* argp breaks lines where it likes */
                *p = *p == '\n' ? ' ' : *p;
            }
            assert_non_null(strstr(text, "Exit status"));
        }
    }
}

static void cli_main__answers_wrong_usage_with_2_and_says_why(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"weir", "Usage"},
        {"weir nonsense", "no command 'nonsense'"},
        {"weir log", "Usage"},
        {"weir log nonsense", "no command 'log nonsense'"},
        {"weir log produce", "which TOPIC"},
        {"weir log produce chat", "where is the cluster"},
        {"weir log produce chat --size 3 --records 1", "16"},
        {"weir log produce chat --partition x", "whole number"},
        {"weir log produce chat --brokers 127.0.0.1:1", "--secret-file"},
        {"weir log produce chat --brokers nonsense --secret-file /dev/null", "nonsense"},
        {"weir log produce chat --brokers 127.0.0.1:1 --secret-file /dev/null", "first line"},
        {"weir log produce chat --config /nonexistent", "/nonexistent"},
        {"weir log consume chat --from yesterday", "--from"},
        {"weir log consume chat --from-time yesterday", "--from-time"},
        {"weir log consume chat --format xml", "--format"},
        {"weir cluster status extra", "extra"},
    };
    char text[16384];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rv = run(cases[i].line, text, sizeof(text));
        if (rv != CLI_USAGE || strstr(text, cases[i].says) == NULL) {
            fail_msg("%s: exit %d, said: %s", cases[i].line, rv, text);
        }
    }
}

static void commands__say_4_when_nobody_answers(void **state)
{
    static const char *const commands[] = {"cluster status",
                                           "log describe",
                                           "log topics",
                                           "log verify",
                                           "log produce chat --records 1",
                                           "log consume chat"};
    char path[] = "/tmp/weir-cli-XXXXXX", text[16384], line[256];
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "some long secret\n", 17), 17);
    (void)close(fd);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        /* Port 1 of this machine: nobody listens there. */
        (void)snprintf(line, sizeof(line),
                       "weir %s --brokers 127.0.0.1:1 --timeout 300 --secret-file %s", commands[i],
                       path);
        int rv = run(line, text, sizeof(text));
        if (rv != CLI_UNAVAILABLE) {
            fail_msg("%s: exit %d, said: %s", line, rv, text);
        }
    }
    (void)unlink(path);
}

static void cli_parse_u64__takes_whole_numbers_in_range_only(void **state)
{
    uint64_t v = 7;
    (void)state;
    assert_true(cli_parse_u64("18446744073709551615", 0, UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    assert_true(cli_parse_u64("10", 10, 10, &v));
    assert_int_equal(v, 10);
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "9", "11"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(cli_parse_u64(bad[i], 10, 10, &v));
    }
    assert_int_equal(v, 10);
}

static void cli_exit_of__tells_unavailable_from_failed(void **state)
{
    (void)state;
    assert_int_equal(cli_exit_of(0), CLI_OK);
    assert_int_equal(cli_exit_of(WEIR_ETIMEOUT), CLI_UNAVAILABLE);
    assert_int_equal(cli_exit_of(WEIR_EUNKNOWN), CLI_UNAVAILABLE);
    assert_int_equal(cli_exit_of(-ECONNREFUSED), CLI_UNAVAILABLE);
    assert_int_equal(cli_exit_of(WEIR_ENOSPC), CLI_FAILED);
}

static void histogram_quantile__is_within_a_bucket_of_the_truth(void **state)
{
    static struct histogram h;
    (void)state;
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    for (uint64_t v = 1; v <= 100000; v++) {
        histogram_add(&h, v);
    }
    static const double quantiles[] = {0.01, 0.5, 0.99, 0.999, 1.0};
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        double truth = 100000 * quantiles[i], got = (double)histogram_quantile(&h, quantiles[i]);
        assert_true(got > truth * 0.96 && got < truth * 1.04);
    }
    histogram_add(&h, UINT64_MAX); /* beyond the last bucket counts in it */
    assert_int_equal(h.count, 100001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cli_main__explains_itself_and_every_command),
        cmocka_unit_test(cli_main__answers_wrong_usage_with_2_and_says_why),
        cmocka_unit_test(commands__say_4_when_nobody_answers),
        cmocka_unit_test(cli_parse_u64__takes_whole_numbers_in_range_only),
        cmocka_unit_test(cli_exit_of__tells_unavailable_from_failed),
        cmocka_unit_test(histogram_quantile__is_within_a_bucket_of_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
