#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "store_fixture.h"

static int setup(void **state)
{
    (void)state;
    begin(0); /* no memory: everything is read from disk */
    return 0;
}

struct result {
    bool done;
    int status;
    char text[256];
    size_t len;
};

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
    if (body != NULL && body->len < sizeof(r->text)) {
        memcpy(r->text, body->data, body->len);
        r->len = body->len;
    }
}

static void wait_for(const struct result *r)
{
    while (!r->done) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static int put_start(const char *object, uint64_t position, const char *text, struct result *r)
{
    struct http_body *body = http_body_copy(text, strlen(text));
    assert_non_null(body);
    int rc = store_put(store, object, position, body, put_done, r, NULL);
    http_body_unref(body);
    return rc;
}

static void put(const char *object, uint64_t position, const char *text)
{
    struct result r = {0};
    assert_int_equal(put_start(object, position, text, &r), 0);
    wait_for(&r);
    assert_int_equal(r.status, 0);
}

static void assert_get(const char *object, uint64_t position, uint64_t size, const char *text)
{
    struct result r = {0};
    assert_int_equal(store_get(store, object, position, size, get_done, &r, NULL), 0);
    assert_false(r.done);
    wait_for(&r);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.len, strlen(text));
    assert_memory_equal(r.text, text, r.len);
}

static void assert_get_fails(const char *object, uint64_t position, uint64_t size, int status)
{
    struct result r = {0};
    assert_int_equal(store_get(store, object, position, size, get_done, &r, NULL), 0);
    wait_for(&r);
    assert_int_equal(r.status, status);
}

static void object_valid__accepts_only_plain_names(void **state)
{
    (void)state;
    static const char *const good[] = {OBJECT, "0123456789abcdef/x", "0123456789abcdef/-_.a",
                                       "0123456789abcdef/init-0_42.mp4"};
    static const char *const bad[] = {
        "",
        "0123456789abcdef",
        "0123456789abcdef/",
        "0123456789abcdef/.",
        "0123456789abcdef/..",
        "0123456789abcdef/.hidden",
        "0123456789abcdef/a/b",
        "0123456789abcdef/../../etc",
        "0123456789ABCDEF/x",
        "0123456789abcde/x",
        "0123456789abcdef0/x",
        "0123456789abcdef/X",
        "0123456789abcdef/a b",
        "/0123456789abcdef/x",
        ("0123456789abcdef/"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")};
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(store_object_valid(good[i]));
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(store_object_valid(bad[i]));
        struct result r = {0};
        assert_int_equal(put_start(bad[i], 0, "x", &r), WEIR_EINVAL);
        assert_int_equal(store_get(store, bad[i], 0, 1, get_done, &r, NULL), WEIR_EINVAL);
    }
}

static void put__bytes_are_there_from_disk_and_after_reopening(void **state)
{
    (void)state;
    put(OBJECT, 0, "first ");
    put(OBJECT, 6, "second");
    assert_get(OBJECT, 0, 12, "first second");
    assert_get(OBJECT, 0, 0, "first second");
    assert_get(OBJECT, 6, 0, "second");
    close_store();
    open_store(1 << 20, 0);
    assert_get(OBJECT, 0, 6, "first ");
    put(OBJECT, 6, "second"); /* again, the same */
    assert_get(OBJECT, 6, 6, "second");
}

static void get__of_what_is_not_there_is_not_found(void **state)
{
    (void)state;
    assert_get_fails(OBJECT, 0, 1, WEIR_ENOTFOUND);
    put(OBJECT, 0, "abc");
    assert_get_fails(OBJECT, 0, 4, WEIR_ENOTFOUND);
    assert_get_fails(OBJECT, 3, 0, WEIR_ENOTFOUND);
    assert_get_fails(OBJECT, 3, 1, WEIR_ENOTFOUND);
    assert_get_fails("00000000000000ab/other", 0, 1, WEIR_ENOTFOUND);
}

static void get__does_not_see_a_put_in_flight(void **state)
{
    (void)state;
    put(OBJECT, 0, "abc");
    struct result w = {0};
    assert_int_equal(put_start(OBJECT, 3, "def", &w), 0);
    struct result r = {0};
    assert_int_equal(store_get(store, OBJECT, 3, 3, get_done, &r, NULL), 0);
    struct result before = {0};
    assert_int_equal(store_get(store, OBJECT, 0, 3, get_done, &before, NULL), 0);
    wait_for(&r);
    assert_int_equal(r.status, WEIR_ENOTFOUND);
    wait_for(&w);
    wait_for(&before);
    assert_int_equal(before.status, 0);
    assert_get(OBJECT, 3, 3, "def");
}

static void get__from_memory_needs_no_disk(void **state)
{
    (void)state;
    close_store();
    open_store(1 << 20, 0);
    put(OBJECT, 0, "abc");
    struct http_body *body = store_cached(store, OBJECT, 1, 2);
    assert_non_null(body);
    assert_memory_equal(body->data, "bc", 2);
    http_body_unref(body);
    assert_null(store_cached(store, OBJECT, 0, 4));
}

static void put__many_objects_keep_few_files_open(void **state)
{
    (void)state;
    enum { N = 3 * STORE_FILES_IDLE_MAX };
    static struct result results[N];
    memset(results, 0, sizeof(results));
    for (unsigned i = 0; i < N; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "00000000000000%02x/x", i % 256);
        assert_int_equal(put_start(name, 0, "abc", &results[i]), 0);
    }
    for (unsigned i = 0; i < N; i++) {
        wait_for(&results[i]);
        assert_int_equal(results[i].status, 0);
    }
    unsigned n_open = 0;
    for (int fd = 0; fd < 1024; fd++) {
        char link[64], target[256];
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = 0;
        n_open += strncmp(target, dir, strlen(dir)) == 0 ? 1 : 0;
    }
    assert_int_equal(n_open, STORE_FILES_IDLE_MAX);
    assert_get("0000000000000000/x", 0, 3, "abc");
}

static void put__below_the_free_space_limit_is_refused(void **state)
{
    (void)state;
    close_store();
    open_store(0, UINT64_MAX / 2);
    struct result r = {0};
    struct http_body *body = http_body_copy("x", 1);
    struct error err;
    assert_int_equal(store_put(store, OBJECT, 0, body, put_done, &r, &err), WEIR_ENOSPC);
    assert_non_null(strstr(err.text, "bytes free"));
    http_body_unref(body);
}

static void put__limits_are_checked(void **state)
{
    (void)state;
    struct result r = {0};
    assert_int_equal(put_start(OBJECT, 0, "", &r), WEIR_EINVAL);
    assert_int_equal(put_start(OBJECT, STORE_OBJECT_MAX, "x", &r), WEIR_ETOOBIG);
    assert_int_equal(put_start(OBJECT, UINT64_MAX, "x", &r), WEIR_ETOOBIG);
    assert_int_equal(store_get(store, OBJECT, 0, STORE_PUT_MAX + 1, get_done, &r, NULL),
                     WEIR_ETOOBIG);
    assert_int_equal(store_get(store, OBJECT, UINT64_MAX, 1, get_done, &r, NULL), WEIR_ETOOBIG);
}

static void put__into_an_unusable_folder_is_an_error_and_later_works(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/00", dir);
    FILE *f = fopen(path, "w"); /* a file where a folder must go */
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    struct result r = {0};
    assert_true(put_start(OBJECT, 0, "x", &r) < 0);
    assert_int_equal(unlink(path), 0);
    put(OBJECT, 0, "x");
    assert_get(OBJECT, 0, 1, "x");
}

static void close__completes_what_is_in_flight(void **state)
{
    (void)state;
    struct result w = {0};
    assert_int_equal(put_start(OBJECT, 0, "abc", &w), 0);
    close_store();
    assert_true(w.done);
    assert_int_equal(w.status, 0);
    open_store(0, 0);
    assert_get(OBJECT, 0, 3, "abc");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(object_valid__accepts_only_plain_names),
        TEST(put__bytes_are_there_from_disk_and_after_reopening),
        TEST(get__of_what_is_not_there_is_not_found),
        TEST(get__does_not_see_a_put_in_flight),
        TEST(get__from_memory_needs_no_disk),
        TEST(put__many_objects_keep_few_files_open),
        TEST(put__below_the_free_space_limit_is_refused),
        TEST(put__limits_are_checked),
        TEST(put__into_an_unusable_folder_is_an_error_and_later_works),
        TEST(close__completes_what_is_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
