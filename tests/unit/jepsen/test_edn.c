#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "jepsen/history/ops.h"

static struct edn_arena arena;

static struct edn *read_text(const char *text, const char **ret_error)
{
    const char *at = text;
    return edn_read(&arena, &at, text + strlen(text), ret_error);
}

static void edn_read__takes_every_kind_of_value(void **state)
{
    const char *error;
    (void)state;
    struct edn *e =
        read_text("{:a [1 -2 +3 4N] :b (nil true false) , :c #{x} :d \"q\\\"r\" :e 1.5 :f \\c"
                  " #_ {:not 1} :g #inst \"2020\" ; no\n :h :k/l}",
                  &error);
    assert_non_null(e);
    assert_int_equal(edn_int(edn_at(edn_get(e, "a"), 1), 0), -2);
    assert_int_equal(edn_int(edn_at(edn_get(e, "a"), 2), 0), 3);
    assert_int_equal(edn_int(edn_at(edn_get(e, "a"), 3), 0), 4);
    assert_int_equal(edn_at(edn_get(e, "b"), 0)->type, EDN_NIL);
    assert_int_equal(edn_at(edn_get(e, "b"), 1)->i, 1);
    assert_int_equal(edn_get(e, "c")->type, EDN_SET);
    assert_int_equal(edn_get(e, "d")->len, 4);
    assert_int_equal(edn_get(e, "e")->type, EDN_FLOAT);
    assert_int_equal(edn_get(e, "f")->type, EDN_SYMBOL);
    assert_int_equal(edn_get(e, "g")->type, EDN_STRING);
    assert_true(edn_is(edn_get(e, "h"), "k/l"));
    assert_null(edn_get(e, "not"));
    edn_arena_free(&arena);
}

static void edn_read__refuses_what_is_no_edn(void **state)
{
    static const char *const bad[] = {"{:a}", "[1",  "}", "\"x",   "(1]", ":",
                                      "#_",   "12x", "#", "{:a 1", "[#_]"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *error = NULL;
        if (read_text(bad[i], &error) != NULL || error == NULL) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    edn_arena_free(&arena);
}

static void edn_read__refuses_what_is_nested_too_deeply(void **state)
{
    char text[4096];
    const char *error = NULL;
    (void)state;
    memset(text, '[', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_null(read_text(text, &error));
    assert_non_null(error);
    for (size_t i = 0; i + 3 < sizeof(text); i += 3) {
        memcpy(text + i, "#a ", 3);
    }
    assert_null(read_text(text, &error));
    assert_non_null(error);
    edn_arena_free(&arena);
}

/* --- Histories --- */

static int load(const char *text, struct ops *ops, char why[256])
{
    char path[] = "/tmp/weir-history-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    int rv = ops_load(ops, path, why, 256);
    (void)unlink(path);
    return rv;
}

#define INVOKE(time, process)                                                                      \
    "{:index 0, :time " time ", :type :invoke, :process " process ", :f :read, :value nil}\n"
#define OK(time, process)                                                                          \
    "{:index 1, :time " time ", :type :ok, :process " process ", :f :read, :value [1]}\n"

static void ops_load__ties_ends_to_their_begins(void **state)
{
    struct ops ops;
    char why[256];
    (void)state;
    assert_int_equal(load(INVOKE("1", "0") INVOKE("2", "7") OK("3", "7") OK("4", "0"), &ops, why),
                     0);
    assert_int_equal(ops.n, 4);
    assert_ptr_equal(ops.at[0].other, &ops.at[3]);
    assert_ptr_equal(ops.at[2].other, &ops.at[1]);
    ops_free(&ops);
    assert_int_equal(load("[" INVOKE("1", "0") OK("3", "0") "]", &ops, why), 0);
    assert_int_equal(ops.n, 2);
    ops_free(&ops);
}

static void ops_load__names_the_line_of_what_no_history_may_have(void **state)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {INVOKE("1", "0") INVOKE("2", "0"), "line 2: the process has an operation open already"},
        {OK("1", "0"), "line 1: nothing was invoked that this could be the end of"},
        {INVOKE("2", "0") OK("1", "0"), "line 2: the time goes back"},
        {INVOKE("2", "0") "\n\n{:type :odd}", "line 4: no :type that there is"},
        {"7", "line 1: an operation is a map"},
        {INVOKE("2", "nobody"), "line 1: no :process"},
        {INVOKE("2", "0") "{:type ", "line 2: a collection without its end"},
    };
    struct ops ops;
    char why[256];
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(load(bad[i].text, &ops, why), -1);
        if (strstr(why, bad[i].why) == NULL) {
            fail_msg("%s, not: %s", why, bad[i].why);
        }
    }
}

static void history__reads_back_what_was_written(void **state)
{
    char path[64], why[256];
    struct ops ops;
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/weir-history-%d.edn", (int)getpid());
    struct history *h = history_open(path);
    assert_non_null(h);
    assert_null(history_open(path)); /* never over another one */
    history_put(h, HISTORY_INVOKE, 3, "assign", "[7], :seek-to-beginning? true", NULL);
    history_put(h, HISTORY_INFO, HISTORY_NEMESIS, "start-kill", "[\"n1\"]", NULL);
    history_put(h, HISTORY_INFO, 3, "assign", "[7]", ":timeout");
    assert_int_equal(history_close(h), 0);
    assert_int_equal(ops_load(&ops, path, why, sizeof(why)), 0);
    (void)unlink(path);
    assert_int_equal(ops.n, 3);
    assert_int_equal(ops.at[1].process, HISTORY_NEMESIS);
    assert_ptr_equal(ops.at[0].other, &ops.at[2]);
    assert_int_equal(edn_get(ops.at[0].map, "seek-to-beginning?")->i, 1);
    assert_true(edn_is(ops.at[2].error, "timeout"));
    ops_free(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edn_read__takes_every_kind_of_value),
        cmocka_unit_test(edn_read__refuses_what_is_no_edn),
        cmocka_unit_test(edn_read__refuses_what_is_nested_too_deeply),
        cmocka_unit_test(ops_load__ties_ends_to_their_begins),
        cmocka_unit_test(ops_load__names_the_line_of_what_no_history_may_have),
        cmocka_unit_test(history__reads_back_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
