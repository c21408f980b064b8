/* Memory that runs out, at every allocation in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../nomem_countdown.h"
#include "base/logging.h"
#include "harness.h"

static struct harness h;
static struct error err;

static void begin(void)
{
    harness_init(&h, 1, 0);
    h.options.segment_bytes = 12288;
    h.options.tail_bytes = 1; /* much is read from disk */
    h.forgetful = true;
}

static void end(void)
{
    countdown = 0;
    harness_run(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
}

static void partition_open__returns_enomem_at_every_allocation(void **state)
{
    (void)state;
    begin();
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 40, 1);
    struct fault_image *image =
        fault_env_save(h.env); /* not closed in order: all of recovery runs */
    end();
    unsigned n = 0, refused = 0;
    do {
        fault_env_restore(h.env, image);
        countdown = ++n;
        int rc = harness_open(&h, &err);
        refused += rc != 0;
        bool reached = countdown == 0;
        if (rc != 0) {
            assert_int_equal(rc, WEIR_ENOMEM);
            assert_int_equal(err.code, WEIR_ENOMEM);
        } else {
            end();
        }
        countdown = 0;
        assert_int_equal(harness_open(&h, &err), 0);
        harness_check(&h);
        end();
        if (!reached) {
            break;
        }
    } while (true);
    assert_true(refused > 10);
    fault_image_free(image);
    harness_close(&h);
}

static void a_whole_life__loses_nothing_acknowledged_at_any_failed_allocation(void **state)
{
    (void)state;
    unsigned n = 0;
    bool reached;
    do {
        begin();
        assert_int_equal(harness_open(&h, &err), 0);
        countdown = ++n;
        harness_live(&h, 1);
        reached = countdown == 0;
        int rc = harness_read_all(&h, &err); /* may run out of memory as well */
        assert_true(rc == 0 || rc == WEIR_ENOMEM);
        end();
        assert_int_equal(harness_open(&h, &err), 0);
        harness_check(&h);
        harness_adopt(&h);
        harness_append_some(&h, 10, n);
        assert_int_equal(h.last_status, 0);
        harness_check(&h);
        harness_close(&h);
    } while (reached);
    assert_true(n > 100);
}

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_open__returns_enomem_at_every_allocation),
        cmocka_unit_test(a_whole_life__loses_nothing_acknowledged_at_any_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
