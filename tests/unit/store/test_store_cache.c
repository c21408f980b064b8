#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "media/store_cache.h"

#define A "00000000000000aa/a"
#define B "00000000000000aa/b"

static struct store_cache *cache;

static int setup(void **state)
{
    (void)state;
    return store_cache_new(1 << 20, &cache);
}

static int teardown(void **state)
{
    (void)state;
    store_cache_free(cache);
    return 0;
}

static void put(const char *object, uint64_t position, const char *text)
{
    struct http_body *body = http_body_copy(text, strlen(text));
    assert_non_null(body);
    store_cache_put(cache, object, position, body);
    http_body_unref(body);
}

static void assert_get(const char *object, uint64_t position, const char *text)
{
    struct http_body *body = store_cache_get(cache, object, position, strlen(text));
    assert_non_null(body);
    assert_int_equal(body->len, strlen(text));
    assert_memory_equal(body->data, text, body->len);
    http_body_unref(body);
}

static void assert_absent(const char *object, uint64_t position, uint64_t size)
{
    assert_null(store_cache_get(cache, object, position, size));
}

static void get__finds_a_range_inside_a_chunk(void **state)
{
    (void)state;
    put(A, 100, "hello world");
    assert_get(A, 100, "hello world");
    assert_get(A, 106, "world");
    assert_absent(A, 99, 2);
    assert_absent(A, 110, 2);
    assert_absent(B, 100, 1);
}

static void get__joins_neighbours_and_keeps_their_bytes_once(void **state)
{
    (void)state;
    put(A, 0, "one ");
    put(A, 8, "three");
    assert_absent(A, 0, 13);
    put(A, 4, "two ");
    uint64_t before = store_cache_bytes(cache);
    assert_get(A, 0, "one two three");
    assert_true(store_cache_bytes(cache) < before);
    assert_get(A, 4, "two ");
    assert_get(A, 2, "e two th");
}

static void get__slice_outlives_the_cache(void **state)
{
    (void)state;
    put(A, 0, "one two");
    struct http_body *slice = store_cache_get(cache, A, 4, 3);
    assert_non_null(slice);
    store_cache_free(cache);
    assert_memory_equal(slice->data, "two", 3);
    http_body_unref(slice);
    assert_int_equal(store_cache_new(1 << 20, &cache), 0);
}

static void put__replaces_what_overlaps(void **state)
{
    (void)state;
    put(A, 0, "aaaa");
    put(A, 4, "bbbb");
    put(A, 2, "cccc");
    assert_absent(A, 0, 1);
    assert_get(A, 2, "cccc");
    assert_absent(A, 7, 1);
    put(A, 2, "dddd");
    assert_get(A, 2, "dddd");
}

static void put__lets_the_least_recently_used_go(void **state)
{
    (void)state;
    store_cache_free(cache);
    assert_int_equal(store_cache_new(3000, &cache), 0);
    char kilobyte[1001];
    memset(kilobyte, 'x', 1000);
    kilobyte[1000] = 0;
    put(A, 0, kilobyte);
    put(B, 0, kilobyte);
    assert_get(A, 0, "x");
    put(A, 5000, kilobyte);
    assert_absent(B, 0, 1);
    assert_get(A, 0, kilobyte);
    assert_get(A, 5000, kilobyte);
    assert_true(store_cache_bytes(cache) <= 3000);
    char big[3001];
    memset(big, 'y', 3000);
    big[3000] = 0;
    put(B, 0, big);
    assert_absent(B, 0, 1);
    assert_get(A, 0, kilobyte);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(get__finds_a_range_inside_a_chunk),
        TEST(get__joins_neighbours_and_keeps_their_bytes_once),
        TEST(get__slice_outlives_the_cache),
        TEST(put__replaces_what_overlaps),
        TEST(put__lets_the_least_recently_used_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
