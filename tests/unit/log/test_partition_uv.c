/* The partition on the real env: real files, threads and syncs. */
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
#include "log/partition.h"

#define N 2000

static uv_loop_t loop;
static struct env *env;
static char dir[64];
static const struct partition_options options = {
    .segment_bytes = 65536, .tail_bytes = 32768, .index_bytes = 4096};

static struct request {
    struct partition_append req;
    struct log_entry entry;
    uint8_t payload[200];
} requests[N];
static unsigned n_done;

static void on_append(struct partition_append *req, int status)
{
    (void)req;
    assert_int_equal(status, 0);
    n_done++;
}

static int on_entry(void *data, const struct partition_entry *e)
{
    uint64_t *next = data;
    assert_int_equal(e->index.v, ++*next);
    assert_int_equal(e->len, e->index.v % 200);
    assert_memory_equal(e->payload, requests[e->index.v].payload, e->len);
    return 0;
}

static int remove_name(void *data, const char *name)
{
    (void)data;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return env_unlink(env, path, NULL);
}

static void append_range(struct partition *p, uint64_t from, uint64_t to)
{
    n_done = 0;
    for (uint64_t i = from; i < to; i++) {
        struct request *r = &requests[i];
        memset(r->payload, (int)i, sizeof(r->payload));
        r->entry = (struct log_entry){LOG_TERM(1 + i / 100), LOG_ENTRY_CONFIG, r->payload,
                                      (uint32_t)(i % 200)};
        r->req = (struct partition_append){.entries = &r->entry, .n = 1};
        partition_append(p, &r->req, on_append);
        if (i % 10 == 0) {
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    }
    while (partition_busy(p)) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(n_done, to - from);
}

static void partition__works_on_real_files(void **state)
{
    (void)state;
    struct error err;
    struct partition *p;
    uint64_t next = 0;
    (void)snprintf(dir, sizeof(dir), "/tmp/weir-log-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, &err), 0);
    assert_int_equal(partition_open(env, dir, &options, &p, &err), 0);
    append_range(p, 1, 1000);
    partition_close(p);
    assert_int_equal(partition_open(env, dir, &options, &p, &err), 0);
    assert_int_equal(partition_last_index(p).v, 999);
    assert_int_equal(partition_truncate(p, LOG_INDEX(500), &err), 0);
    append_range(p, 500, N);
    assert_int_equal(partition_read(p, LOG_INDEX(1), UINT64_MAX, on_entry, &next, &err), 0);
    assert_int_equal(next, N - 1);
    partition_close(p);
    assert_int_equal(partition_open(env, dir, &options, &p, &err), 0);
    next = 0;
    assert_int_equal(partition_read(p, LOG_INDEX(1), UINT64_MAX, on_entry, &next, &err), 0);
    assert_int_equal(next, N - 1);
    partition_close(p);
    assert_int_equal(env_dir_list(env, dir, remove_name, NULL, &err), 0);
    assert_int_equal(rmdir(dir), 0);
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition__works_on_real_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
