#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "base/env_uv.h"
#include "nodes/data_dir.h"

static uv_loop_t loop;
static struct env *env;
static char top[64];

static int open_env(void **state)
{
    struct error err;
    (void)state;
    (void)snprintf(top, sizeof(top), "/tmp/weir-data-XXXXXX");
    return mkdtemp(top) == NULL || uv_loop_init(&loop) != 0 || env_uv_new(&loop, &env, &err) != 0;
}

static int close_env(void **state)
{
    char command[128];
    (void)state;
    env_uv_free(env);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", top);
    return uv_loop_close(&loop) != 0 || system(command) != 0;
}

static struct config *config_of(const char *name, unsigned id)
{
    char text[1024];
    struct error err = {0};
    struct config *config = calloc(1, sizeof(*config));
    assert_non_null(config);
    (void)snprintf(text, sizeof(text),
                   "node.name = %s\nnode.data = %s/data\ncluster.secret = a secret of the tests\n"
                   "cluster.node = %s id=%u peer=127.0.0.1:1 broker=127.0.0.1:2 http=127.0.0.1:3 "
                   "rtmp=127.0.0.1:4\nlog.topic = t partitions=1\nmedia.replicas = 1\n",
                   name, top, name, id);
    if (config_parse("test", text, config, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return config;
}

static void data_dir_take__makes_the_folder_and_takes_it_again_after_release(void **state)
{
    struct config *config = config_of("n1", 1);
    struct error err = {0};
    int fd = -1;
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(data_dir_take(env, config, &fd, &err), 0);
        (void)close(fd);
    }
    free(config);
}

static void data_dir_take__names_the_process_that_has_it(void **state)
{
    struct config *config = config_of("n1", 1);
    struct error err = {0};
    char pid[32];
    int fd = -1, other = -1;
    (void)state;
    assert_int_equal(data_dir_take(env, config, &fd, &err), 0);
    assert_int_equal(data_dir_take(env, config, &other, &err), WEIR_EEXISTS);
    assert_int_equal(other, -1);
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    (void)close(fd);
    free(config);
}

static void data_dir_take__refuses_the_folder_of_another_node(void **state)
{
    struct config *config = config_of("n1", 1), *other = config_of("n2", 2);
    struct error err = {0};
    int fd = -1;
    (void)state;
    assert_int_equal(data_dir_take(env, config, &fd, &err), 0);
    (void)close(fd);
    assert_int_equal(data_dir_take(env, other, &fd, &err), WEIR_ECONFIG);
    assert_non_null(strstr(err.text, "n1"));
    assert_non_null(strstr(err.text, "n2"));
    free(config);
    free(other);
}

static void write_node_file(const char *text, size_t n)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/data/node", top);
    FILE *f = fopen(path, "wbe");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void remove_folder(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s/data'", top);
    assert_int_equal(system(command), 0);
}

static int take(const struct config *config, struct error *err)
{
    int fd = -1;
    int rv = data_dir_take(env, config, &fd, err);
    if (fd >= 0) {
        (void)close(fd);
    }
    return rv;
}

static void data_dir_take__mends_its_own_file_after_a_flipped_bit_or_a_cut(void **state)
{
    (void)state;
    remove_folder();
    for (unsigned shards = 1; shards <= 2; shards++) {
        struct config *config = config_of("n1", 1);
        struct error err = {0};
        char good[128];
        config->log_shards = shards;
        int n = snprintf(good, sizeof(good), "weir-node 1\nid 1\nname n1\n%s",
                         shards > 1 ? "shards 2\n" : "");
        size_t own = strlen("weir-node 1\nid 1\nname n1\n");
        assert_int_equal(take(config, &err), 0);
        for (size_t at = 0; at < own; at++) {
            for (int bit = 0; bit < 8; bit++) {
                good[at] = (char)(good[at] ^ 1 << bit);
                write_node_file(good, (size_t)n);
                good[at] = (char)(good[at] ^ 1 << bit);
                if (take(config, &err) != 0) {
                    fail_msg("bit %d at %zu: %s", bit, at, err.text);
                }
            }
        }
        for (size_t len = 0; len <= (size_t)n; len++) {
            bool other_shards = shards > 1 && len == own;
            write_node_file(good, len);
            assert_int_equal(take(config, &err), other_shards ? WEIR_ECONFIG : 0);
        }
        write_node_file("nonsense", 8);
        assert_int_equal(take(config, &err), WEIR_ECONFIG);
        assert_non_null(strstr(err.text, "remove the file"));
        free(config);
        remove_folder();
    }
}

static void data_dir_take__says_which_folder_it_can_not_make(void **state)
{
    struct config *config = config_of("n1", 1);
    struct error err = {0};
    int fd = -1;
    (void)state;
    (void)snprintf(config->data_dir, sizeof(config->data_dir), "/proc/nowhere/data");
    assert_true(data_dir_take(env, config, &fd, &err) < 0);
    assert_non_null(strstr(err.text, "/proc/nowhere"));
    free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_dir_take__makes_the_folder_and_takes_it_again_after_release),
        cmocka_unit_test(data_dir_take__names_the_process_that_has_it),
        cmocka_unit_test(data_dir_take__refuses_the_folder_of_another_node),
        cmocka_unit_test(data_dir_take__mends_its_own_file_after_a_flipped_bit_or_a_cut),
        cmocka_unit_test(data_dir_take__says_which_folder_it_can_not_make),
    };
    return cmocka_run_group_tests(tests, open_env, close_env);
}
