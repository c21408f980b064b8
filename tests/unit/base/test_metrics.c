#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/logging.h"
#include "base/metrics.h"

static void metrics__same_name_and_labels_are_one_metric(void **state)
{
    (void)state;
    struct metric *a = metric_counter("weir_test_total", "t=\"a\"", "Tests.");
    struct metric *b = metric_counter("weir_test_total", "t=\"b\"", "Tests.");
    assert_ptr_equal(metric_counter("weir_test_total", "t=\"a\"", "Tests."), a);
    metric_add(a, 2);
    metric_set(metric_gauge("weir_test_depth", "", "Depth."), -3);
    metric_add(b, 1);
    struct bytes out;
    bytes_init(&out, 1 << 20);
    metrics_render(&out);
    bytes_put_u8(&out, 0);
    assert_int_equal(bytes_error(&out), 0);
    const char *text = (const char *)out.data;
    assert_non_null(strstr(text, "# HELP weir_test_total Tests.\n# TYPE weir_test_total counter\n"
                                 "weir_test_total{t=\"a\"} 2\nweir_test_total{t=\"b\"} 1\n"));
    assert_non_null(strstr(text, "# TYPE weir_test_depth gauge\nweir_test_depth -3\n"));
    bytes_close(&out);
}

static void histogram__counts_cumulatively_in_seconds(void **state)
{
    (void)state;
    struct metric_histogram *h = metric_histogram("weir_test_seconds", "", "Time.");
    metric_observe_us(h, 1);
    metric_observe_us(h, 3);
    metric_observe_us(h, UINT32_MAX);
    struct bytes out;
    bytes_init(&out, 1 << 20);
    metrics_render(&out);
    bytes_put_u8(&out, 0);
    const char *text = (const char *)out.data;
    assert_non_null(strstr(text, "weir_test_seconds_bucket{le=\"0.000001\"} 1\n"));
    assert_non_null(strstr(text, "weir_test_seconds_bucket{le=\"0.000004\"} 2\n"));
    assert_non_null(strstr(text, "weir_test_seconds_bucket{le=\"8.388608\"} 2\n"));
    assert_non_null(strstr(text, "weir_test_seconds_bucket{le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "weir_test_seconds_count 3\n"));
    bytes_close(&out);
}

static void log_event__writes_one_line_whatever_the_value_holds(void **state)
{
    (void)state;
    int pipe_fd[2];
    assert_int_equal(pipe(pipe_fd), 0);
    int saved = dup(STDERR_FILENO);
    assert_true(dup2(pipe_fd[1], STDERR_FILENO) >= 0);
    log_info("thing_happened", "name=" LOG_Q, "a\nb");
    log_debug("not_shown", "%s", "x");
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    char line[256] = {0};
    assert_true(read(pipe_fd[0], line, sizeof(line) - 1) > 0);
    assert_string_equal(line + strlen("2026-01-02T03:04:05.678"),
                        "Z info thing_happened name=\"a?b\"\n");
    (void)close(pipe_fd[0]);
    (void)close(pipe_fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics__same_name_and_labels_are_one_metric),
        cmocka_unit_test(histogram__counts_cumulatively_in_seconds),
        cmocka_unit_test(log_event__writes_one_line_whatever_the_value_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
