/* Processes: this test program plays the other one when it is started with a verb. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "base/env_uv.h"
#include "base/process.h"

/* Sends back what it gets; "q" ends it with status 7. */
static int play_worker(void)
{
    char c;
    while (read(PROCESS_FD, &c, 1) == 1) {
        if (c == 'q') {
            return 7;
        }
        if (write(PROCESS_FD, &c, 1) != 1) {
            return 1;
        }
    }
    return 0;
}

struct seen {
    uv_loop_t loop;
    struct env *env;
    struct process *process;
    char text[64];
    size_t n;
    unsigned exits;
    int status, signal;
};

static void on_read(void *data, const uint8_t *bytes, size_t n)
{
    struct seen *s = data;
    assert_true(s->n + n < sizeof(s->text));
    memcpy(s->text + s->n, bytes, n);
    s->n += n;
}

static void on_drained(void *data)
{
    (void)data;
}

static void on_exited(void *data, int status, int signal)
{
    struct seen *s = data;
    s->exits++;
    s->status = status;
    s->signal = signal;
}

static void open_seen(struct seen *s)
{
    memset(s, 0, sizeof(*s));
    assert_int_equal(uv_loop_init(&s->loop), 0);
    assert_int_equal(env_uv_new(&s->loop, &s->env, NULL), 0);
    struct process_events events = {s, on_read, on_drained, on_exited};
    assert_int_equal(process_spawn(s->env, "worker", &events, &s->process, NULL), 0);
}

static void close_seen(struct seen *s)
{
    process_free(s->process);
    env_uv_free(s->env);
    while (uv_loop_close(&s->loop) == UV_EBUSY) {
        (void)uv_run(&s->loop, UV_RUN_ONCE);
    }
}

static void process__carries_bytes_both_ways_and_tells_the_exit(void **state)
{
    struct seen s;
    (void)state;
    open_seen(&s);
    assert_int_equal(process_write(s.process, (const uint8_t *)"hello", 5), 0);
    assert_int_equal(process_write(s.process, (const uint8_t *)"q", 1), 0);
    while (s.exits == 0) {
        (void)uv_run(&s.loop, UV_RUN_ONCE);
    }
    assert_string_equal(s.text, "hello");
    assert_int_equal(s.status, 7);
    assert_int_equal(process_write(s.process, (const uint8_t *)"x", 1), 0);
    close_seen(&s);
    assert_int_equal(s.exits, 1);
}

static void process__tells_the_signal_that_killed_it(void **state)
{
    struct seen s;
    (void)state;
    open_seen(&s);
    assert_int_equal(kill((pid_t)process_pid(s.process), SIGKILL), 0);
    while (s.exits == 0) {
        (void)uv_run(&s.loop, UV_RUN_ONCE);
    }
    assert_int_equal(s.signal, SIGKILL);
    close_seen(&s);
}

static void process_free__kills_and_says_nothing(void **state)
{
    struct seen s;
    (void)state;
    open_seen(&s);
    pid_t pid = (pid_t)process_pid(s.process);
    close_seen(&s);
    assert_int_equal(s.exits, 0);
    assert_int_equal(kill(pid, 0), -1);
}

static void process__that_is_stopped_leaves_what_it_is_sent_unread(void **state)
{
    struct seen s;
    (void)state;
    open_seen(&s);
    pid_t pid = (pid_t)process_pid(s.process);
    assert_int_equal(process_unread_bytes(s.process), 0);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    siginfo_t stopped;
    assert_int_equal(waitid(P_PID, (id_t)pid, &stopped, WSTOPPED | WNOWAIT), 0);
    assert_int_equal(process_write(s.process, (const uint8_t *)"hello", 5), 0);
    (void)uv_run(&s.loop, UV_RUN_NOWAIT);
    size_t unread = process_unread_bytes(s.process);
    assert_true(unread >= 5);
    assert_int_equal(process_write(s.process, (const uint8_t *)"again", 5), 0);
    (void)uv_run(&s.loop, UV_RUN_NOWAIT);
    assert_true(process_unread_bytes(s.process) >= unread + 5);
    assert_int_equal(kill(pid, SIGCONT), 0);
    while (s.n < 10) {
        (void)uv_run(&s.loop, UV_RUN_ONCE);
    }
    assert_int_equal(process_unread_bytes(s.process), 0);
    close_seen(&s);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "worker") == 0) {
        _exit(play_worker());
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(process__carries_bytes_both_ways_and_tells_the_exit),
        cmocka_unit_test(process__tells_the_signal_that_killed_it),
        cmocka_unit_test(process_free__kills_and_says_nothing),
        cmocka_unit_test(process__that_is_stopped_leaves_what_it_is_sent_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
