/* Lives of a partition drawn from a seed: appends in flight, rolling, truncation, reopening, kills,
 * power loss, disk errors and a full disk in any order. WEIR_SEEDS=n tries n seeds, WEIR_SEED=s
 * only that one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/logging.h"
#include "harness.h"

#define SEEDS_DEFAULT 300
#define ACTIONS       60

static struct harness h;
static struct error err;
static unsigned long seed;

static unsigned draw(unsigned n)
{
    return (unsigned)(env_random_u64(h.env) % n);
}

static void must_open(void)
{
    int rc = harness_open(&h, &err);
    if (rc != 0) {
        print_message("seed %lu: %s\n", seed, err.text);
    }
    assert_int_equal(rc, 0);
    harness_check(&h);
    harness_adopt(&h);
}

static void shut(void)
{
    harness_run(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
}

static void act_append(void)
{
    for (unsigned n = draw(9); n > 0 && h.last < MODEL_MAX - 8; n--) {
        if (draw(3) == 0) {
            harness_append_group(&h, 1 + draw(GROUP_MAX), draw(1200));
        } else if (draw(6) == 0) {
            harness_append_type(&h, draw(2) ? LOG_ENTRY_CONFIG : LOG_ENTRY_BARRIER);
        } else {
            harness_append(&h, 1 + draw(4), draw(draw(5) == 0 ? 5000 : 400));
        }
    }
    if (draw(3) != 0) {
        harness_run(&h);
    }
}

static void act_truncate(void)
{
    harness_run(&h);
    uint64_t last = partition_last_index(h.p).v;
    if (last > 0 && !partition_failed(h.p)) {
        h.term++;
        (void)harness_truncate(&h, last + 1 - draw((unsigned)(last < 40 ? last : 40)));
    }
}

/* Arms a fault at one of the next steps and goes on into it. */
static void act_fault(void)
{
    unsigned at = fault_env_steps(h.env) + 1 + draw(30);
    enum fault_restart how = (enum fault_restart)draw(3);
    bool crash = draw(2);
    if (crash) {
        fault_env_crash_at(h.env, at);
    } else {
        fault_env_fail_at(h.env, at, WEIR_EIO);
    }
    for (unsigned i = draw(6); i > 0; i--) {
        act_append();
    }
    if (draw(3) == 0) {
        act_truncate();
    }
    if (crash && !fault_env_crashed(h.env)) {
        fault_env_crash_at(h.env, fault_env_steps(h.env) + 1);
    }
    shut();
    if (crash) {
        fault_env_restart(h.env, how);
    }
    fault_env_fail_at(h.env, 0, 0);
    must_open();
}

static void act_full_disk(void)
{
    fault_env_set_free(h.env, draw(20000));
    for (unsigned i = draw(4); i > 0; i--) {
        act_append();
    }
    harness_run(&h);
    fault_env_set_free(h.env, UINT64_MAX / 2);
    h.last = partition_last_index(h.p).v;
}

static void act(void)
{
    switch (draw(10)) {
    case 0:
        act_truncate();
        break;
    case 1:
        shut();
        must_open();
        break;
    case 2:
        act_fault();
        break;
    case 3:
        act_full_disk();
        break;
    case 4:
        fault_env_advance(h.env, draw(100000));
        break;
    case 5:
        (void)harness_set_term(&h, h.meta_tried + 1);
        break;
    default:
        act_append();
        break;
    }
    if (partition_failed(h.p)) {
        shut();
        must_open();
    }
    h.term += draw(8) == 0;
}

static void live(void)
{
    harness_init(&h, seed, 0);
    h.options.segment_bytes = 8192 + 4096 * draw(4);
    h.options.tail_bytes = draw(2) ? 1 : 1 << 20;
    h.options.index_bytes = 1 + draw(4000);
    h.no_commit = true;
    must_open();
    for (unsigned i = 0; i < ACTIONS && h.last < MODEL_MAX - 100; i++) {
        act();
    }
    harness_run(&h);
    h.no_commit = false;
    harness_check(&h);
    harness_close(&h);
}

static void random_lives__lose_nothing_acknowledged(void **state)
{
    (void)state;
    const char *one = getenv("WEIR_SEED"), *many = getenv("WEIR_SEEDS");
    unsigned long first = one != NULL ? strtoul(one, NULL, 10) : 1;
    unsigned long n = many != NULL ? strtoul(many, NULL, 10) : SEEDS_DEFAULT;
    for (seed = first; seed < first + (one != NULL ? 1 : n); seed++) {
        live();
    }
}

int main(void)
{
    log_set_level(getenv("WEIR_SEED") != NULL ? LOG_DEBUG : LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives__lose_nothing_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
