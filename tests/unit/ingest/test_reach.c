/* When a node takes itself for cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nodes/ingest/reach.h"

#define MS    1000000ull
#define LOOKS (2000 / REACH_LOOK_MS)

/* So many looks, in which the silence goes on. */
static void look(struct reach *r, uint64_t *silent_ns, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        *silent_ns += REACH_LOOK_MS * MS;
        (void)reach_look(r, *silent_ns);
    }
}

static void a_node__is_cut_off_when_no_majority_was_heard_for_three_seconds(void **state)
{
    (void)state;
    struct reach r = {0};
    uint64_t silent_ns = 0;
    look(&r, &silent_ns, 4 + LOOKS); /* the first second, and two more */
    assert_false(r.cut_off);
    assert_true(reach_look(&r, silent_ns + 1));
    assert_true(r.cut_off);
    assert_false(reach_look(&r, silent_ns + 2)); /* that is no news */
    assert_true(reach_look(&r, 10 * MS));
    assert_false(r.cut_off);
}

static void answers_that_are_late__are_answers(void **state)
{
    (void)state;
    struct reach r = {0};
    for (unsigned i = 0; i < 20; i++) {
        uint64_t silent_ns = 0;
        look(&r, &silent_ns, 3 + LOOKS);
        assert_false(reach_look(&r, 0));
    }
    assert_false(r.cut_off);
}

static void a_node_that_stood_still_itself__is_not_cut_off(void **state)
{
    (void)state;
    struct reach r = {0};
    for (unsigned i = 0; i < 20; i++) {
        assert_false(reach_look(&r, 60000 * MS)); /* nothing was read in this minute */
        assert_false(reach_look(&r, 100 * MS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node__is_cut_off_when_no_majority_was_heard_for_three_seconds),
        cmocka_unit_test(answers_that_are_late__are_answers),
        cmocka_unit_test(a_node_that_stood_still_itself__is_not_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
