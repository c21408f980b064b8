/* Commits with a store that the test plays, and without a log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nodes/transcode/commit.h"
#include "views/views.h"
#include "virtual_env.h"

#define SECOND_US UINT64_C(1000000)

int __wrap_store_replicate(struct store_cluster *c, const char *object, uint64_t position,
                           struct http_body *bytes, store_replicate_cb cb, void *data,
                           struct error *err);
int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *record, size_t len, struct view_submit *submit,
                        view_submit_cb cb);

static struct virtual_env env;
static struct node node;
static struct commits *commits;
static struct {
    store_replicate_cb cb;
    void *data;
    unsigned n;
} put;
static struct view_submit *submitted;
static view_submit_cb submitted_cb;
static unsigned done, failed;
static int failed_with;

int __wrap_store_replicate(struct store_cluster *c, const char *object, uint64_t position,
                           struct http_body *bytes, store_replicate_cb cb, void *data,
                           struct error *err)
{
    (void)c;
    (void)err;
    assert_string_equal(object, "00000000000000ab/source-1-0.m4s");
    assert_int_equal(position, 77);
    assert_int_equal(bytes->len, 5);
    assert_memory_equal(bytes->data, "bytes", 5);
    put.cb = cb;
    put.data = data;
    put.n++;
    return 0;
}

int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *record, size_t len, struct view_submit *submit,
                        view_submit_cb cb)
{
    (void)views;
    (void)topic;
    (void)key;
    (void)record;
    (void)len;
    submitted = submit;
    submitted_cb = cb;
    return 0;
}

static void on_failed(void *data, int status, const char *text)
{
    (void)data;
    (void)text;
    failed++;
    failed_with = status;
}

static void on_done(void *data)
{
    (void)data;
    done++;
}

static int setup(void **state)
{
    (void)state;
    virtual_env_init(&env);
    node = (struct node){.env = &env.base};
    memset(&put, 0, sizeof(put));
    done = failed = 0;
    submitted = NULL;
    const struct commits_events events = {NULL, on_failed, on_done};
    return commits_new(&node, "alice", 1, &events, &commits);
}

static int teardown(void **state)
{
    (void)state;
    commits_free(commits);
    virtual_env_close(&env);
    return 0;
}

static void add(void)
{
    char object[] = "00000000000000ab/source-1-0.m4s";
    Weir__PartCommitted part = WEIR__PART_COMMITTED__INIT;
    Weir__LifecycleRecord record = WEIR__LIFECYCLE_RECORD__INIT;
    part.worker_epoch = 1;
    part.object = object;
    record.body_case = WEIR__LIFECYCLE_RECORD__BODY_PART_COMMITTED;
    record.part_committed = &part;
    assert_int_equal(
        commits_add(commits, 0, object, 77, (const uint8_t *)"bytes", 5, &record, NULL), 0);
}

static void stored(int status)
{
    static const char *const nodes[] = {"n1", "n2"};
    put.cb(put.data, status, nodes, status == 0 ? 2 : 0);
}

static void commit__that_finds_too_few_nodes_is_stored_again(void **state)
{
    (void)state;
    add();
    stored(WEIR_EUNAVAILABLE);
    assert_int_equal(failed, 0);
    assert_int_equal(put.n, 1);
    virtual_env_run(&env, SECOND_US);
    assert_int_equal(put.n, 2);
    assert_null(submitted);
    stored(0);
    assert_non_null(submitted);
    submitted_cb(submitted, 0, VERDICT_OK);
    assert_int_equal(done, 1);
    assert_true(commits_idle(commits));
    virtual_env_run(&env, SECOND_US);
    assert_int_equal(put.n, 2);
}

static void commit__fails_when_no_nodes_are_found_again_and_again(void **state)
{
    (void)state;
    add();
    for (unsigned i = 0; i < 10 && failed == 0; i++) {
        stored(WEIR_EUNAVAILABLE);
        virtual_env_run(&env, SECOND_US);
    }
    assert_int_equal(failed, 1);
    assert_int_equal(failed_with, WEIR_EUNAVAILABLE);
    assert_int_equal(put.n, 4);
}

static void commit__fails_at_once_when_there_is_no_space(void **state)
{
    (void)state;
    add();
    stored(WEIR_ENOSPC);
    assert_int_equal(failed, 1);
    assert_int_equal(failed_with, WEIR_ENOSPC);
}

static void commits_free__lets_go_of_those_that_wait_to_be_stored_again(void **state)
{
    (void)state;
    add();
    stored(WEIR_EUNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commit__that_finds_too_few_nodes_is_stored_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(commit__fails_when_no_nodes_are_found_again_and_again,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(commit__fails_at_once_when_there_is_no_space, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(commits_free__lets_go_of_those_that_wait_to_be_stored_again,
                                        setup, teardown),
    };
    return cmocka_run_group_tests_name("transcode_commit", tests, NULL, NULL);
}
