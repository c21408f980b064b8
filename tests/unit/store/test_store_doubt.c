/* What the store knows of objects that may not be whole, and what keeps them whole works with. */
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
#include <uv.h>

#include "store_fixture.h"

#define CACHE_BYTES (1 << 20)

static int setup(void **state)
{
    (void)state;
    begin(CACHE_BYTES);
    return 0;
}

struct result {
    bool done;
    int status;
    char text[16];
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
    put_done(data, status);
    if (body != NULL) {
        memcpy(r->text, body->data, body->len);
    }
}

static void wait_for(const struct result *r)
{
    while (!r->done) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void put_start(uint64_t position, const char *text, bool quiet, struct result *r)
{
    struct http_body *body = http_body_copy(text, strlen(text));
    int rc = quiet ? store_put_quiet(store, OBJECT, position, body, put_done, r, NULL)
                   : store_put(store, OBJECT, position, body, put_done, r, NULL);
    assert_int_equal(rc, 0);
    http_body_unref(body);
}

static void put(uint64_t position, const char *text)
{
    struct result r = {0};
    put_start(position, text, false, &r);
    wait_for(&r);
    assert_int_equal(r.status, 0);
}

static void looked(struct store_look *look, int status)
{
    struct result *r = look->data;
    r->status = status;
    r->done = true;
}

static int look(uint64_t *ret_size, bool *ret_doubt)
{
    struct result r = {0};
    struct store_look l = {.data = &r};
    assert_int_equal(store_look_start(store, OBJECT, &l, looked), 0);
    assert_false(r.done);
    wait_for(&r);
    *ret_size = l.size;
    *ret_doubt = l.doubt;
    return r.status;
}

static void assert_look(int status, uint64_t size, bool doubt)
{
    uint64_t is = 99;
    bool in_doubt = !doubt;
    assert_int_equal(look(&is, &in_doubt), status);
    assert_int_equal(is, size);
    assert_int_equal(in_doubt, doubt);
}

static void look__says_how_much_is_there(void **state)
{
    (void)state;
    assert_look(WEIR_ENOTFOUND, 0, false);
    put(0, "abc");
    put(3, "def");
    assert_look(0, 6, false);
    close_store();
    open_store(CACHE_BYTES, 0);
    assert_look(0, 6, false);
}

static void put__behind_the_end_leaves_doubt_until_it_is_trusted(void **state)
{
    (void)state;
    put(0, "abc");
    put(4, "efg");
    assert_look(0, 7, true);
    close_store();
    open_store(CACHE_BYTES, 0);
    assert_look(0, 7, true);
    put(3, "d"); /* that there is no gap any more has to be found out by who reads it */
    assert_look(0, 7, true);
    assert_int_equal(store_trust(store, OBJECT, NULL), 0);
    assert_look(0, 7, false);
    assert_int_equal(store_trust(store, OBJECT, NULL), 0);
}

static void put__first_bytes_of_an_object_that_are_not_its_beginning_leave_doubt(void **state)
{
    (void)state;
    put(3, "def");
    assert_look(0, 6, true);
}

static void put__behind_one_in_flight_leaves_none(void **state)
{
    (void)state;
    struct result a = {0}, b = {0};
    put_start(0, "abc", false, &a);
    put_start(3, "def", false, &b);
    wait_for(&a);
    wait_for(&b);
    assert_look(0, 6, false);
}

static void put__that_fails_leaves_doubt(void **state)
{
    (void)state;
    char path[128];
    put(0, "abc");
    (void)snprintf(path, sizeof(path), "%s/00/" OBJECT, dir);
    assert_int_equal(store_remove(store, OBJECT, NULL), 0);
    assert_int_equal(symlink("/dev/full", path), 0);
    struct result r = {0};
    put_start(0, "abc", false, &r);
    wait_for(&r);
    assert_int_equal(r.status, WEIR_ENOSPC);
    assert_int_equal(unlink(path), 0);
    assert_look(WEIR_ENOTFOUND, 0, true);
}

static void doubt__comes_before_the_object(void **state)
{
    (void)state;
    assert_int_equal(store_doubt(store, OBJECT, NULL), 0);
    assert_look(WEIR_ENOTFOUND, 0, true);
    put(0, "abc");
    assert_look(0, 3, true);
    assert_int_equal(store_doubt(store, OBJECT, NULL), 0);
}

static void quiet__asks_the_disk_and_keeps_nothing(void **state)
{
    (void)state;
    struct result r = {0};
    put_start(0, "abc", true, &r);
    wait_for(&r);
    assert_null(store_cached(store, OBJECT, 0, 3));
    put(0, "abc");
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/00/" OBJECT, dir);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fputc('X', f), 'X');
    assert_int_equal(fclose(f), 0);
    struct result g = {0};
    assert_int_equal(store_get_quiet(store, OBJECT, 0, 3, get_done, &g, NULL), 0);
    wait_for(&g);
    assert_string_equal(g.text, "Xbc");
}

static void remove__takes_object_and_doubt_but_nothing_in_use(void **state)
{
    (void)state;
    struct result r = {0};
    assert_int_equal(store_remove(store, OBJECT, NULL), WEIR_ENOTFOUND);
    put_start(3, "def", false, &r);
    assert_int_equal(store_remove(store, OBJECT, NULL), WEIR_EBUSY);
    wait_for(&r);
    assert_int_equal(store_remove(store, OBJECT, NULL), 0);
    assert_look(WEIR_ENOTFOUND, 0, false);
    put(0, "new");
    assert_look(0, 3, false);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(look__says_how_much_is_there),
        TEST(put__behind_the_end_leaves_doubt_until_it_is_trusted),
        TEST(put__first_bytes_of_an_object_that_are_not_its_beginning_leave_doubt),
        TEST(put__behind_one_in_flight_leaves_none),
        TEST(put__that_fails_leaves_doubt),
        TEST(doubt__comes_before_the_object),
        TEST(quiet__asks_the_disk_and_keeps_nothing),
        TEST(remove__takes_object_and_doubt_but_nothing_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
