/* Which shard has a partition, and where it listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/shard.h"

static void shard_of__is_the_partition_modulo_the_number_of_shards(void **state)
{
    (void)state;
    assert_int_equal(shard_of("chat", 0, 3), 0);
    assert_int_equal(shard_of("chat", 1, 3), 1);
    assert_int_equal(shard_of("chat", 5, 3), 2);
    assert_int_equal(shard_of("chat", 1023, 16), 15);
}

static void shard_of__one_shard_has_everything(void **state)
{
    (void)state;
    assert_int_equal(shard_of("chat", 7, 1), 0);
    assert_int_equal(shard_of("chat", 7, 0), 0);
}

static void shard_of__meta_is_always_with_the_first(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 8; k++) {
        assert_int_equal(shard_of("meta", k, 4), 0);
    }
}

static void shard_port__is_a_thousand_further_for_each_shard(void **state)
{
    (void)state;
    assert_int_equal(shard_port(7101, 0), 7101);
    assert_int_equal(shard_port(7101, 1), 8101);
    assert_int_equal(shard_port(7101, 15), 22101);
}

static void shard_port__beyond_the_last_port_there_is_none(void **state)
{
    (void)state;
    assert_int_equal(shard_port(65000, 0), 65000);
    assert_int_equal(shard_port(65000, 1), 0);
    assert_int_equal(shard_port(7101, SHARDS_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shard_of__is_the_partition_modulo_the_number_of_shards),
        cmocka_unit_test(shard_of__one_shard_has_everything),
        cmocka_unit_test(shard_of__meta_is_always_with_the_first),
        cmocka_unit_test(shard_port__is_a_thousand_further_for_each_shard),
        cmocka_unit_test(shard_port__beyond_the_last_port_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
