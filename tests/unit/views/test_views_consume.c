/* The views with a log in memory: topics that come late, a store that fails, offsets that are out
 * of range, closing in the middle. */
#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "../run_until.h"
#include "base/env_uv.h"
#include "fake_log.h"
#include "proto/messages.h"
#include "views/accounts.h"
#include "views/store.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

static uv_loop_t loop;
static struct env *env;
static struct views *views;
static struct view_listener listener;
static char dir[64];
static int64_t heard; /* accounts records, each once and in order */
static bool done;
static int fail_writes; /* so many of the store's next writes */
static bool fail_after; /* they fail after they have happened */

int __real_view_store_write(struct view_store *s, struct error *err);
int __wrap_view_store_write(struct view_store *s, struct error *err);
int __wrap_view_store_write(struct view_store *s, struct error *err)
{
    int rc = fail_writes == 0 || fail_after ? __real_view_store_write(s, err) : 0;
    if (fail_writes > 0) {
        fail_writes--;
        return error_set(err, WEIR_EIO, "views: write: made to fail");
    }
    return rc;
}

static void hear(void *data, const struct view_event *event)
{
    (void)data;
    assert_int_equal(event->offset, heard);
    heard++;
}

static void open_views(void)
{
    struct error err;
    if (views_open(env, fake_log_client(), dir, &views, &err) != 0) {
        fail_msg("%s", err.text);
    }
    listener.event = hear;
    views_listen(views, VIEW_ACCOUNTS, &listener);
}

static void on_done(void *data)
{
    *(bool *)data = true;
}

static void close_views(void)
{
    done = false;
    views_close(views, on_done, &done);
    RUN_UNTIL(done);
}

static int setup(void **state)
{
    (void)state;
    heard = 0;
    fail_writes = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(env_uv_new(&loop, &env, NULL), 0);
    make_folder(dir);
    fake_log_open(env);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_log_close();
    env_uv_free(env);
    assert_int_equal(uv_loop_close(&loop), 0);
    remove_folder(dir);
    return 0;
}

struct made {
    struct view_submit submit;
    bool done;
    int status;
    enum verdict verdict;
};

static void on_made(struct view_submit *submit, int status, enum verdict verdict)
{
    struct made *m = submit->data;
    m->done = true;
    m->status = status;
    m->verdict = verdict;
}

static void make_user(struct made *m, const char *name)
{
    Weir__UserCreate u = WEIR__USER_CREATE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    struct bytes b;
    u.name = u.display_name = TEXT(name);
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_USER_CREATE;
    r.user_create = &u;
    bytes_init(&b, 1024);
    message_pack(&b, &r.base);
    memset(m, 0, sizeof(*m));
    m->submit.data = m;
    assert_int_equal(views_submit(views, VIEW_ACCOUNTS, name, b.data, b.len, &m->submit, on_made),
                     0);
    bytes_close(&b);
}

static void submit__tells_the_verdict_of_its_own_record(void **state)
{
    struct made a, b;
    (void)state;
    open_views();
    make_user(&a, "alice");
    make_user(&b, "alice");
    RUN_UNTIL(a.done && b.done);
    assert_int_equal(a.status, 0);
    assert_int_equal(a.verdict, VERDICT_OK);
    assert_int_equal(a.submit.offset, 0);
    assert_int_equal(b.verdict, VERDICT_EXISTS);
    assert_int_equal(b.submit.offset, 1);
    close_views();
}

static void topics__that_come_late_are_asked_for_again(void **state)
{
    struct account_user u;
    (void)state;
    fake_log.no_topics = true;
    open_views();
    RUN_UNTIL(views_offset(views, VIEW_ACCOUNTS, 0) == 0 && fake_log.n_consumers == 0);
    assert_int_equal(accounts_user(views, "alice", &u), WEIR_EUNAVAILABLE);
    assert_false(views_ready(views));
    fake_log.no_topics = false;
    RUN_UNTIL(views_ready(views));
    assert_int_equal(accounts_user(views, "alice", &u), WEIR_ENOTFOUND);
    close_views();
}

static void fail_once(bool after)
{
    struct made m;
    struct account_user u;
    open_views();
    RUN_UNTIL(views_ready(views));
    make_user(&m, "alice");
    RUN_UNTIL(m.done);
    fail_writes = 1;
    fail_after = after;
    make_user(&m, "bob");
    RUN_UNTIL(m.done);
    assert_int_equal(m.status, 0);
    assert_int_equal(m.verdict, VERDICT_OK);
    make_user(&m, "carol");
    RUN_UNTIL(m.done);
    assert_int_equal(heard, 3);
    assert_int_equal(accounts_user(views, "alice", &u), 0);
    assert_int_equal(accounts_user(views, "bob", &u), 0);
    close_views();
}

static void store__that_fails_is_opened_anew_and_nothing_is_heard_twice(void **state)
{
    (void)state;
    fail_once(false);
}

static void store__that_fails_but_has_written_leaves_nothing_unheard(void **state)
{
    (void)state;
    fail_once(true);
}

static void offset_out_of_range__is_given_time(void **state)
{
    struct made m;
    (void)state;
    open_views();
    make_user(&m, "alice");
    RUN_UNTIL(m.done);
    close_views();
    fake_log.range = true;
    unsigned before = fake_log.n_consumers;
    open_views();
    assert_int_equal(views_offset(views, VIEW_ACCOUNTS, 0), 1);
    RUN_UNTIL(fake_log.n_consumers >= before + 6); /* some were begun again */
    assert_int_equal(views_offset(views, VIEW_ACCOUNTS, 0), 1);
    fake_log.range = false;
    make_user(&m, "bob");
    RUN_UNTIL(m.done);
    assert_int_equal(m.verdict, VERDICT_OK);
    assert_int_equal(heard, 2);
    close_views();
}

static void close__answers_who_waits(void **state)
{
    struct made waiting, folded;
    (void)state;
    open_views();
    RUN_UNTIL(views_ready(views));
    make_user(&folded, "alice");
    RUN_UNTIL(folded.done);
    fake_log.hold_records = true;
    make_user(&waiting, "bob");
    RUN_UNTIL(fake_log.n_produced == 2);
    (void)uv_run(&loop, UV_RUN_ONCE);
    (void)uv_run(&loop, UV_RUN_ONCE);
    close_views();
    RUN_UNTIL(waiting.done);
    assert_int_not_equal(waiting.status, 0);
}

static void close__with_requests_at_the_client_waits_for_nothing(void **state)
{
    struct made m;
    (void)state;
    open_views();
    RUN_UNTIL(views_ready(views));
    fake_log.hold_acks = true;
    make_user(&m, "alice");
    RUN_UNTIL(fake_log.n_produced == 1);
    close_views();
    assert_false(m.done);
    fake_log.produce_status = WEIR_ECLOSED; /* as weir_client_free completes it */
    fake_log_release();
    RUN_UNTIL(m.done);
    assert_int_equal(m.status, WEIR_ECLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(submit__tells_the_verdict_of_its_own_record, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(topics__that_come_late_are_asked_for_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(store__that_fails_is_opened_anew_and_nothing_is_heard_twice,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(store__that_fails_but_has_written_leaves_nothing_unheard,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(offset_out_of_range__is_given_time, setup, teardown),
        cmocka_unit_test_setup_teardown(close__answers_who_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(close__with_requests_at_the_client_waits_for_nothing, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
