/* What is read though nobody asked for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keeper.h"

/* --- The scrub --- */

static void flip(uint64_t msn, long at)
{
    FILE *f = fopen(path_of(msn, ""), "r+e");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte_of(object_of(msn), (uint64_t)at) ^ 16, f),
                     byte_of(object_of(msn), (uint64_t)at) ^ 16);
    assert_int_equal(fclose(f), 0);
}

static void scrub__finds_a_bit_that_flipped_and_takes_a_good_copy(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    commit(1, "n1", "n2");
    put(0, 0, PARTS);
    put(1, 0, PARTS);
    flip(1, 2500);
    scrubs = true;
    start();
    int64_t bad = metric_value(copies->bad);
    run_scrubs(3);
    assert_true(is_whole(0));
    assert_true(is_whole(1));
    assert_int_equal(metric_value(copies->bad), bad + 1);
    assert_int_equal(peers[1].n_gets, 1); /* that part */
}

static void scrub__keeps_a_bad_copy_in_doubt_while_nobody_has_a_good_one(void **state)
{
    (void)state;
    commit(0, "n1", "n2");
    put(0, 0, PARTS);
    flip(0, 10);
    peers[1].mode = peers[2].mode = PEER_LIES;
    scrubs = true;
    start();
    run_scrubs(2);
    assert_true(is_there(0));
    assert_int_equal(access(path_of(0, "~"), F_OK), 0);
    peers[2].mode = PEER_GOOD;
    run_looks(2);
    assert_true(is_whole(0));
}

static void scrub__removes_what_others_hold_when_all_of_them_have_shown_it(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    put(0, 0, PARTS);
    peers[2].mode = PEER_LIES;
    scrubs = true;
    start();
    run_scrubs(2);
    assert_true(is_there(0));
    copies->members.since_ns -= 2 * config.media_lost_ms * 1000000ull; /* it has long been so */
    run_scrubs(2);
    assert_true(is_there(0)); /* one of the two does not have it */
    peers[2].mode = PEER_GOOD;
    run_scrubs(2);
    assert_false(is_there(0));
}

static void scrub__leaves_what_the_log_does_not_name(void **state)
{
    (void)state;
    commit(0, "n2", "n3");
    put(1, 0, PARTS); /* no record says so: perhaps not yet */
    scrubs = true;
    start();
    run_scrubs(2);
    assert_true(is_there(1));
    assert_int_equal(peers[1].n_gets + peers[2].n_gets, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(scrub__finds_a_bit_that_flipped_and_takes_a_good_copy),
        TEST(scrub__keeps_a_bad_copy_in_doubt_while_nobody_has_a_good_one),
        TEST(scrub__removes_what_others_hold_when_all_of_them_have_shown_it),
        TEST(scrub__leaves_what_the_log_does_not_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
