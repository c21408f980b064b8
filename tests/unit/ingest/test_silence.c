/* How long channels have been silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "nodes/ingest/silence.h"

#define SECOND_NS UINT64_C(1000000000)

static struct silence *s;
static uint64_t now_ns;

static int setup(void **state)
{
    (void)state;
    now_ns = 77 * SECOND_NS;
    return silence_new(&s);
}

static int teardown(void **state)
{
    (void)state;
    silence_free(s);
    return 0;
}

/* A round a second, so many. */
static uint64_t pass(unsigned seconds, int64_t epoch, int64_t end_us)
{
    uint64_t ms = 0;
    for (unsigned i = 0; i < seconds; i++) {
        now_ns += SECOND_NS;
        silence_round(s, now_ns);
        ms = silence_ms(s, "demo", epoch, end_us);
    }
    return ms;
}

static void silence__is_counted_from_the_newest_claim_or_part(void **state)
{
    (void)state;
    assert_int_equal(pass(1, 5, 100), 0);
    assert_int_equal(pass(9, 5, 100), 9000);
    assert_int_equal(pass(1, 5, 200), 0); /* a part */
    assert_int_equal(pass(3, 5, 200), 3000);
    assert_int_equal(pass(1, 9, 200), 0); /* a claim */
    assert_int_equal(pass(2, 9, 200), 2000);
}

static void silence__of_a_node_that_was_asleep_does_not_count_that_time(void **state)
{
    (void)state;
    assert_int_equal(pass(3, 5, 100), 2000);
    now_ns += 600 * SECOND_NS;
    assert_int_equal(pass(1, 5, 100), 2000);
    assert_int_equal(pass(1, 5, 100), 3000);
}

static void silence__is_forgotten_with_the_channel(void **state)
{
    (void)state;
    assert_int_equal(pass(3, 5, 100), 2000);
    for (unsigned i = 0; i < 2; i++) {
        now_ns += SECOND_NS;
        silence_round(s, now_ns);
    }
    assert_int_equal(pass(1, 5, 100), 0);
}

static void silence__is_told_of_many_channels_apart(void **state)
{
    (void)state;
    char name[16];
    for (unsigned round = 0; round < 3; round++) {
        now_ns += SECOND_NS;
        silence_round(s, now_ns);
        for (unsigned i = 0; i < 1000; i++) {
            (void)snprintf(name, sizeof(name), "channel%u", i);
            /* Every second one goes on. */
            uint64_t ms = silence_ms(s, name, 1, i % 2 == 0 ? 0 : round + 1);
            assert_int_equal(ms, i % 2 == 0 ? round * 1000 : 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(silence__is_counted_from_the_newest_claim_or_part, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(silence__of_a_node_that_was_asleep_does_not_count_that_time,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(silence__is_forgotten_with_the_channel, setup, teardown),
        cmocka_unit_test_setup_teardown(silence__is_told_of_many_channels_apart, setup, teardown),
    };
    return cmocka_run_group_tests_name("ingest_silence", tests, NULL, NULL);
}
