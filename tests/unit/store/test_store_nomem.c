/* The store when memory is short: every allocation of a put and of a get fails once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "../nomem_countdown.h"
#include "base/env_uv.h"
#include "media/store.h"

#define OBJECT "00000000000000ab/source-7.m4s"

struct result {
    bool done;
    int status;
};

static uv_loop_t loop;
static struct env *env;
static struct store *store;

static void put_done(void *data, int status)
{
    struct result *r = data;
    r->done = true;
    r->status = status;
}

static void get_done(void *data, int status, struct http_body *body)
{
    struct result *r = data;
    r->done = true;
    r->status = status;
    assert_true((status == 0) == (body != NULL));
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

static void finish(struct result *r)
{
    while (!r->done) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    countdown = 0;
}

static int put(unsigned fail_at, const char *object, uint64_t position)
{
    struct http_body *body = http_body_copy("hello", 5);
    struct result r = {.done = false};
    assert_non_null(body);
    countdown = fail_at;
    int rc = store_put(store, object, position, body, put_done, &r, NULL);
    if (rc == 0) {
        finish(&r);
        rc = r.status;
    }
    countdown = 0;
    http_body_unref(body);
    return rc;
}

static int get(unsigned fail_at, const char *object)
{
    struct result r = {.done = false};
    countdown = fail_at;
    int rc = store_get(store, object, 0, 5, get_done, &r, NULL);
    if (rc == 0) {
        finish(&r);
        rc = r.status;
    }
    countdown = 0;
    return rc;
}

static void store__fails_or_works_at_every_allocation(void **state)
{
    (void)state;
    unsigned n_failed = 0;
    for (unsigned i = 1; i <= 40; i++) {
        char object[64];
        (void)snprintf(object, sizeof(object), "00000000000000ab/%u", i);
        int rc = put(i, object, 0);
        assert_true(rc == 0 || rc == WEIR_ENOMEM);
        n_failed += rc != 0 ? 1 : 0;
        assert_int_equal(put(0, object, 0), 0);
    }
    for (unsigned i = 1; i <= 40; i++) {
        char object[64];
        (void)snprintf(object, sizeof(object), "00000000000000ab/%u", i);
        int rc = get(i, object);
        assert_true(rc == 0 || rc == WEIR_ENOMEM);
        n_failed += rc != 0 ? 1 : 0;
        assert_int_equal(get(0, object), 0);
    }
    assert_true(n_failed >= 4);
}

/* A put behind the end, which is in doubt from before its first byte. */
static void put__behind_a_gap_fails_or_works_at_every_allocation(void **state)
{
    (void)state;
    unsigned n_failed = 0;
    for (unsigned i = 1; i <= 40; i++) {
        char object[64];
        (void)snprintf(object, sizeof(object), "00000000000000ac/%u", i);
        int rc = put(i, object, 3);
        assert_true(rc == 0 || rc == WEIR_ENOMEM);
        n_failed += rc != 0 ? 1 : 0;
        assert_int_equal(put(0, object, 3), 0);
        assert_int_equal(store_trust(store, object, NULL), 0);
    }
    assert_true(n_failed >= 3);
}

int main(void)
{
    char dir[] = "/tmp/weir-store-nomem-XXXXXX";
    struct error err;
    if (mkdtemp(dir) == NULL || uv_loop_init(&loop) != 0 || env_uv_new(&loop, &env, &err) != 0) {
        return 1;
    }
    struct store_options options = {.dir = dir, .cache_bytes_max = 600};
    if (store_open(env, &options, &store, &err) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store__fails_or_works_at_every_allocation),
        cmocka_unit_test(put__behind_a_gap_fails_or_works_at_every_allocation),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    bool closed = false;
    store_close(store, set_flag, &closed);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    env_uv_free(env);
    (void)uv_loop_close(&loop);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return failed != 0 || system(command) != 0;
}
