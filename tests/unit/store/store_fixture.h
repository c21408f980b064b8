/* A store in a fresh folder. Included by one test program: its state is static. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <uv.h>

#include "base/env_uv.h"
#include "media/store.h"

#define OBJECT "00000000000000ab/source-7.m4s"

static uv_loop_t loop;
static struct env *env;
static struct store *store;
static char dir[64];

static void open_store(uint64_t cache_bytes, uint64_t free_bytes)
{
    struct store_options options = {
        .dir = dir, .cache_bytes_max = cache_bytes, .free_bytes_min = free_bytes};
    struct error err;
    assert_int_equal(store_open(env, &options, &store, &err), 0);
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

static void close_store(void)
{
    bool closed = false;
    store_close(store, set_flag, &closed);
    while (!closed) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Opens it with so much memory for what was read. */
static void begin(uint64_t cache_bytes)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/weir-store-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(uv_loop_init(&loop), 0);
    struct error err;
    assert_int_equal(env_uv_new(&loop, &env, &err), 0);
    open_store(cache_bytes, 0);
}

static int teardown(void **state)
{
    (void)state;
    close_store();
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

#endif
