/* Commands of `weir`, each a process of its own, against brokers in this one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/cli/cli.h"
#include "harness.h"

#define WORDS_MAX 24
#define TEXT_MAX  16384

/* A command that runs; what it says on both of its outputs. */
struct command {
    uv_process_t process;
    uv_pipe_t pipe;
    char text[TEXT_MAX];
    size_t len;
    const char *awaited;
    bool said, ended, pipe_ended, over;
    int64_t status;
};

static void look(struct command *c)
{
    c->text[c->len] = '\0';
    c->said = c->awaited != NULL && strstr(c->text, c->awaited) != NULL;
    c->over = c->ended && c->pipe_ended;
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal)
{
    struct command *c = process->data;
    (void)signal;
    c->ended = true;
    c->status = status;
    uv_close((uv_handle_t *)process, NULL);
    look(c);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct command *c = handle->data;
    (void)suggested;
    *ret_buf = uv_buf_init(c->text + c->len, (unsigned)(TEXT_MAX - 1 - c->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct command *c = stream->data;
    (void)buf;
    if (n < 0) {
        c->pipe_ended = true;
        uv_close((uv_handle_t *)stream, NULL);
    } else {
        c->len += (size_t)n;
    }
    look(c);
}

/* `line`, and where the brokers are. */
static void start(struct harness *h, struct command *c, const char *line)
{
    static char self[] = "/proc/self/exe", copy[1024];
    char *words[WORDS_MAX + 1] = {self}, *save = NULL;
    char path[96];
    unsigned n = 1;
    (void)snprintf(path, sizeof(path), "%s/secret", h->dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", HARNESS_SECRET) > 0);
    assert_int_equal(fclose(f), 0);
    (void)snprintf(copy, sizeof(copy),
                   "weir %s --secret-file %s --brokers 127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u",
                   line, path, h->broker_port[0], h->broker_port[1], h->broker_port[2]);
    for (char *w = strtok_r(copy, " ", &save); w != NULL && n < WORDS_MAX;
         w = strtok_r(NULL, " ", &save)) {
        words[n++] = w;
    }
    *c = (struct command){0};
    c->process.data = c->pipe.data = c;
    assert_int_equal(uv_pipe_init(&h->loop, &c->pipe, 0), 0);
    c->pipe.data = c;
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->pipe},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
    };
    uv_process_options_t options = {
        .file = self, .args = words, .exit_cb = on_exit_of, .stdio = stdio, .stdio_count = 3};
    assert_int_equal(uv_spawn(&h->loop, &c->process, &options), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&c->pipe, on_room, on_read), 0);
}

static void until_it_says(struct harness *h, struct command *c, const char *text)
{
    c->awaited = text;
    look(c);
    harness_run_until(h, &c->said);
}

static int until_it_ends(struct harness *h, struct command *c)
{
    harness_run_until(h, &c->over);
    return (int)c->status;
}

/* --- weir log produce --- */

static void log_produce__that_is_fenced_stops_at_once(void **state)
{
    static struct harness h;
    static struct command c;
    (void)state;
    harness_open(&h, "");
    start(&h, &c, "log produce one --producer payments --seconds 100000 --rate 100 --report");
    until_it_says(&h, &c, "acked=1"); /* or more than ten */
    struct weir_client_options options = {.producer_name = "payments"};
    struct weir_client *young = harness_client(&h, &options);
    assert_int_equal(harness_produce(&h, young, "one", 0), 0);
    assert_int_equal(until_it_ends(&h, &c), CLI_FAILED);
    assert_non_null(strstr(c.text, "somebody else writes as 'payments' now"));
    harness_free_client(&h, young);
    harness_close(&h);
}

/* --- weir log verify --- */

static void log_verify__tells_who_did_not_answer_from_who_differs(void **state)
{
    static struct harness h;
    static struct command c, d;
    (void)state;
    harness_open(&h, "log.topic = meta partitions=1\n");
    harness_until_founded(&h);
    start(&h, &c, "log verify one");
    assert_int_equal(until_it_ends(&h, &c), CLI_OK);
    assert_non_null(strstr(c.text, "all replicas are equal"));
    harness_stop_broker(&h, 2);
    start(&h, &d, "log verify one");
    assert_int_equal(until_it_ends(&h, &d), CLI_UNAVAILABLE);
    assert_non_null(strstr(d.text, "NOT all replicas answered"));
    assert_null(strstr(d.text, "NOT EQUAL"));
    harness_close(&h);
}

/* --- weir cluster balance --- */

/* With one replica a partition, what is on the node that is down has no leader: that is waited for.
 * Then all links that there were when it began are gone, one after another. */
static void cluster_balance__waits_on_when_another_node_controls_the_cluster(void **state)
{
    static struct harness h;
    static struct command c;
    (void)state;
    harness_open(&h, "log.replicas = 1\nlog.topic = meta partitions=1\n");
    harness_until_founded(&h);
    unsigned first = harness_controller(&h);
    unsigned down = (first + 1) % HARNESS_NODES, other = (first + 2) % HARNESS_NODES;
    harness_stop_broker(&h, down);
    start(&h, &c, "cluster balance --wait");
    until_it_says(&h, &c, "partitions moving");
    harness_stop_broker(&h, first);
    harness_start_broker(&h, down);
    harness_stop_broker(&h, other);
    harness_start_broker(&h, first);
    harness_start_broker(&h, other);
    assert_int_equal(until_it_ends(&h, &c), CLI_OK);
    assert_non_null(strstr(c.text, "balanced"));
    harness_close(&h);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "weir") == 0) {
        /* One pipe for both. */
        return dup2(STDOUT_FILENO, STDERR_FILENO) < 0 ? 127 : cli_main(argc - 1, argv + 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_produce__that_is_fenced_stops_at_once),
        cmocka_unit_test(log_verify__tells_who_did_not_answer_from_who_differs),
        cmocka_unit_test(cluster_balance__waits_on_when_another_node_controls_the_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
