#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/env_loop.h"
#include "net/tls.h"
#include "net/tls_certs.h"

#define BIG_BYTES (3u << 20)
#define SENDS     40

static struct env_loop *loop;
static struct env *env;
static char dir[64], other_dir[64];
static struct tls_net *server_net, *client_net;
static struct env_listener *listener;
static struct env_stream *accepted, *dialled;
static int connect_status, read_status;
static bool done, connected;
static bool alone; /* the other side is not waited for */
static uint8_t *want, *have;
static size_t n_have, n_want;
static unsigned n_sent, n_failed, n_closed;

static void make_certs(char *path, const char *name)
{
    struct error err = {0};
    bool made = false;
    const struct tls_cert_node node = {.name = name, .hosts = {"127.0.0.1"}, .n_hosts = 1};
    const struct tls_cert_node stranger = {
        .name = "elsewhere", .hosts = {"10.1.2.3"}, .n_hosts = 1};
    (void)snprintf(path, 64, "/tmp/weir-tls-XXXXXX");
    assert_non_null(mkdtemp(path));
    assert_int_equal(tls_certs_authority(path, 30, &made, &err), 0);
    assert_true(made);
    assert_int_equal(tls_certs_node(path, &node, 30, &err), 0);
    assert_int_equal(tls_certs_node(path, &stranger, 30, &err), 0);
}

static struct tls_net *net_of_files(const char *ca_dir, const char *own_dir, const char *name)
{
    char ca[128], cert[128], key[128];
    struct error err = {0};
    struct tls_net *net = NULL;
    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", ca_dir);
    (void)snprintf(cert, sizeof(cert), "%s/%s.pem", own_dir, name);
    (void)snprintf(key, sizeof(key), "%s/%s.key", own_dir, name);
    const struct tls_files files = {ca, cert, key};
    assert_int_equal(tls_net_new(env, &files, &net, &err), 0);
    return net;
}

static int setup(void **state)
{
    struct error err = {0};
    (void)state;
    make_certs(dir, "n1");
    make_certs(other_dir, "n1");
    assert_int_equal(env_loop_new(&loop, &err), 0);
    env = env_loop_env(loop);
    want = malloc(BIG_BYTES);
    have = malloc(BIG_BYTES);
    assert_non_null(want);
    assert_non_null(have);
    for (size_t i = 0; i < BIG_BYTES; i++) {
        want[i] = (uint8_t)(i * 31 + i / 251);
    }
    accepted = dialled = NULL;
    listener = NULL;
    client_net = server_net = NULL;
    n_have = n_want = 0;
    n_sent = n_failed = n_closed = 0;
    connect_status = read_status = 1;
    done = connected = alone = false;
    return 0;
}

static void remove_certs(const char *path)
{
    static const char *const names[] = {"ca.pem",        "ca.key",        "n1.pem", "n1.key",
                                        "elsewhere.pem", "elsewhere.key", "plain"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char file[128];
        (void)snprintf(file, sizeof(file), "%s/%s", path, names[i]);
        (void)unlink(file);
    }
    (void)rmdir(path);
}

static int teardown(void **state)
{
    (void)state;
    if (accepted != NULL) {
        env_stream_close(accepted, NULL, NULL);
    }
    if (dialled != NULL) {
        env_stream_close(dialled, NULL, NULL);
    }
    env_listener_close(listener);
    env_loop_free(loop);
    tls_net_free(server_net);
    tls_net_free(client_net);
    remove_certs(dir);
    remove_certs(other_dir);
    free(want);
    free(have);
    return 0;
}

/* --- What the two sides do --- */

static void on_accept(struct env_listener *l, struct env_stream *stream)
{
    (void)l;
    accepted = stream;
    done = connected;
}

static void on_connect(struct env_stream *stream, int status)
{
    (void)stream;
    connect_status = status;
    connected = true;
    done = status != 0 || accepted != NULL || alone;
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    (void)stream;
    if (status != 0) {
        read_status = status;
        done = true;
        return;
    }
    assert_true(n_have + n <= BIG_BYTES);
    memcpy(have + n_have, data, n);
    n_have += n;
    done = n_have >= n_want;
}

static void on_read_once(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    on_read(stream, data, n, status);
    env_stream_read_stop(stream);
}

static void on_sent(struct env_send *send, int status)
{
    (void)send;
    n_sent += status == 0;
    n_failed += status != 0;
}

static void run(void)
{
    env_loop_run_until(loop, &done);
    done = false;
}

static void dial(struct env *sockets, const char *host)
{
    struct error err = {0};
    assert_int_equal(
        env_listen(tls_net_env(server_net), "127.0.0.1", 0, on_accept, NULL, &listener, &err), 0);
    assert_int_equal(
        env_connect(sockets, host, env_listener_port(listener), on_connect, NULL, &dialled, &err),
        0);
}

static void join_both(void)
{
    server_net = net_of_files(dir, dir, "n1");
    client_net = net_of_files(dir, dir, "n1");
    dial(tls_net_env(client_net), "127.0.0.1");
    run();
    assert_int_equal(connect_status, 0);
    assert_non_null(accepted);
}

/* --- Tests --- */

static void tls__carries_bytes_both_ways_in_order(void **state)
{
    struct env_send sends[SENDS] = {0};
    (void)state;
    join_both();
    struct env_stream *ways[2][2] = {{dialled, accepted}, {accepted, dialled}};
    for (unsigned way = 0; way < 2; way++) {
        size_t at = 0;
        n_have = 0;
        n_want = BIG_BYTES;
        n_sent = 0;
        env_stream_read_start(ways[way][1], on_read);
        for (unsigned i = 0; i < SENDS; i++) {
            size_t n = i + 1 < SENDS ? (size_t)i * i * 13 + 1 : BIG_BYTES - at;
            size_t cut = n / 3;
            struct iovec iov[3] = {{want + at, cut}, {want + at, 0}, {want + at + cut, n - cut}};
            env_stream_send(ways[way][0], &sends[i], iov, 3, on_sent);
            at += n;
        }
        run();
        assert_memory_equal(have, want, BIG_BYTES);
        assert_int_equal(n_sent, SENDS);
    }
}

static void tls__gives_what_was_decrypted_when_reading_goes_on(void **state)
{
    struct env_send send = {0};
    struct iovec iov = {want, 200000};
    (void)state;
    join_both();
    env_stream_send(dialled, &send, &iov, 1, on_sent);
    n_want = 1;
    env_stream_read_start(accepted, on_read_once);
    run();
    assert_in_range(n_have, 1, 100000); /* more is there, and waits */
    n_want = 200000;
    env_stream_read_start(accepted, on_read);
    run();
    assert_memory_equal(have, want, 200000);
}

static void tls__end_of_the_other_side_is_told(void **state)
{
    (void)state;
    join_both();
    env_stream_read_start(accepted, on_read);
    env_stream_close(dialled, NULL, NULL);
    dialled = NULL;
    run();
    assert_int_equal(read_status, WEIR_ECLOSED);
}

static void count_closed(void *data)
{
    (void)data;
    n_closed++;
    assert_int_equal(n_sent + n_failed, SENDS);
    done = true;
}

static void tls__close_completes_sends_first(void **state)
{
    static struct env_send sends[SENDS];
    (void)state;
    join_both(); /* nobody reads: the sockets fill */
    struct iovec iov = {want, BIG_BYTES};
    for (unsigned i = 0; i < SENDS; i++) {
        env_stream_send(dialled, &sends[i], &iov, 1, on_sent);
    }
    env_stream_close(dialled, count_closed, NULL);
    dialled = NULL;
    run();
    assert_int_equal(n_closed, 1);
    assert_true(n_failed > 0);
}

static void tls__certificate_of_another_authority_is_refused(void **state)
{
    (void)state;
    server_net = net_of_files(dir, dir, "n1");
    client_net = net_of_files(dir, other_dir, "n1"); /* trusts the server, is not trusted */
    alone = true;
    dial(tls_net_env(client_net), "127.0.0.1");
    run();
    if (connect_status == 0) { /* TLS 1.3: a dialler is done before it is judged */
        env_stream_read_start(dialled, on_read);
        run();
        assert_true(read_status < 0);
    }
    assert_null(accepted);
}

static void tls__server_of_another_authority_is_refused(void **state)
{
    (void)state;
    server_net = net_of_files(dir, other_dir, "n1");
    client_net = net_of_files(dir, dir, "n1");
    dial(tls_net_env(client_net), "127.0.0.1");
    run();
    assert_int_equal(connect_status, WEIR_EAUTH);
    assert_null(accepted);
}

static void tls__certificate_for_another_host_is_refused(void **state)
{
    (void)state;
    server_net = net_of_files(dir, dir, "elsewhere");
    client_net = net_of_files(dir, dir, "n1");
    dial(tls_net_env(client_net), "127.0.0.1");
    run();
    assert_int_equal(connect_status, WEIR_EAUTH);
}

static void tls__plain_bytes_are_refused(void **state)
{
    struct env_send send = {0};
    struct iovec iov = {want, 4096};
    (void)state;
    server_net = net_of_files(dir, dir, "n1");
    alone = true;
    dial(env, "127.0.0.1"); /* in the clear */
    run();
    assert_int_equal(connect_status, 0);
    env_stream_send(dialled, &send, &iov, 1, on_sent);
    env_stream_read_start(dialled, on_read);
    n_want = BIG_BYTES;
    run();
    assert_true(read_status < 0);
    assert_null(accepted);
}

static void tls__wrong_files_are_named(void **state)
{
    char path[128];
    struct error err = {0};
    struct tls_net *net = NULL;
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/plain", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("no certificate\n", f);
    (void)fclose(f);
    char ca[128], cert[128], key[128];
    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    (void)snprintf(cert, sizeof(cert), "%s/n1.pem", dir);
    (void)snprintf(key, sizeof(key), "%s/n1.key", dir);
    const struct {
        struct tls_files files;
        const char *text;
    } cases[] = {{{path, cert, key}, "tls.ca"},
                 {{ca, path, key}, "tls.cert"},
                 {{ca, cert, path}, "tls.key"},
                 {{ca, cert, "/nowhere"}, "tls.key"}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(tls_net_new(env, &cases[i].files, &net, &err), WEIR_ECONFIG);
        assert_non_null(strstr(err.text, cases[i].text));
    }
}

/* Gives what is in `dir` the files of another authority, as when all certificates are renewed. */
static void renew_files(void)
{
    static const char *const names[] = {"ca.pem", "n1.pem", "n1.key"};
    char from[128], to[128];
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(from, sizeof(from), "%s/%s", other_dir, names[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", dir, names[i]);
        assert_int_equal(rename(from, to), 0);
    }
}

static void dial_again(struct env_stream **old_accepted, struct env_stream **old_dialled)
{
    struct error err = {0};
    *old_accepted = accepted;
    *old_dialled = dialled;
    accepted = dialled = NULL;
    connected = false;
    assert_int_equal(env_connect(tls_net_env(client_net), "127.0.0.1", env_listener_port(listener),
                                 on_connect, NULL, &dialled, &err),
                     0);
    run();
}

static void reload__counts_for_new_streams_and_leaves_the_others_alone(void **state)
{
    struct env_stream *old_accepted, *old_dialled;
    struct env_send send = {0};
    struct iovec iov = {want, 100000};
    struct error err = {0};
    (void)state;
    join_both();
    renew_files();
    assert_int_equal(tls_net_reload(server_net, &err), 0);
    dial_again(&old_accepted, &old_dialled);
    assert_int_equal(connect_status, WEIR_EAUTH); /* the client knows the old authority only */
    env_stream_close(dialled, NULL, NULL);
    assert_int_equal(tls_net_reload(client_net, &err), 0);
    struct env_stream *none;
    dial_again(&none, &none);
    assert_int_equal(connect_status, 0);
    env_stream_send(old_dialled, &send, &iov, 1, on_sent);
    n_want = 100000;
    env_stream_read_start(old_accepted, on_read);
    run();
    assert_memory_equal(have, want, 100000);
    env_stream_close(old_accepted, NULL, NULL);
    env_stream_close(old_dialled, NULL, NULL);
}

static void reload__of_files_that_do_not_fit_leaves_everything_as_it_was(void **state)
{
    char from[128], to[128];
    struct env_stream *old_accepted, *old_dialled;
    struct error err = {0};
    (void)state;
    join_both();
    /* In the middle of a renewal: the certificate is new, the key is not. */
    (void)snprintf(from, sizeof(from), "%s/n1.pem", other_dir);
    (void)snprintf(to, sizeof(to), "%s/n1.pem", dir);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(tls_net_reload(server_net, &err), WEIR_ECONFIG);
    assert_non_null(strstr(err.text, "tls.key"));
    assert_int_equal(unlink(to), 0);
    assert_int_equal(tls_net_reload(server_net, &err), WEIR_ECONFIG);
    assert_non_null(strstr(err.text, "tls.cert"));
    dial_again(&old_accepted, &old_dialled);
    assert_int_equal(connect_status, 0);
    assert_non_null(accepted);
    env_stream_close(old_accepted, NULL, NULL);
    env_stream_close(old_dialled, NULL, NULL);
}

static void certs__keys_are_for_their_owner_and_nothing_is_overwritten(void **state)
{
    char path[128];
    struct stat st;
    struct error err = {0};
    bool made = true;
    const struct tls_cert_node node = {.name = "n1"};
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/n1.key", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(tls_certs_node(dir, &node, 30, &err), WEIR_EEXISTS);
    assert_int_equal(tls_certs_authority(dir, 30, &made, &err), 0);
    assert_false(made);
    (void)snprintf(path, sizeof(path), "%s/ca.key", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(tls_certs_authority(dir, 30, &made, &err), WEIR_EEXISTS);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(tls__carries_bytes_both_ways_in_order),
        T(tls__gives_what_was_decrypted_when_reading_goes_on),
        T(tls__end_of_the_other_side_is_told),
        T(tls__close_completes_sends_first),
        T(tls__certificate_of_another_authority_is_refused),
        T(tls__server_of_another_authority_is_refused),
        T(tls__certificate_for_another_host_is_refused),
        T(tls__plain_bytes_are_refused),
        T(tls__wrong_files_are_named),
        T(reload__counts_for_new_streams_and_leaves_the_others_alone),
        T(reload__of_files_that_do_not_fit_leaves_everything_as_it_was),
        T(certs__keys_are_for_their_owner_and_nothing_is_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
