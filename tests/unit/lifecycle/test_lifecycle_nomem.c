/* The lifecycle fold when memory is short: every allocation of every record fails once; fed again,
 * the state is what it would have been. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../nomem_countdown.h"
#include "lifecycle_feed.h"
#include "views/priv.h"

#define ALLOCATIONS_MAX 200

int __real_views_feed(struct views *views, enum view_topic topic, uint32_t partition,
                      const struct batch_record *records, unsigned n, struct error *err);
int __wrap_views_feed(struct views *views, enum view_topic topic, uint32_t partition,
                      const struct batch_record *records, unsigned n, struct error *err);

static bool armed;
static unsigned n_failures;

/* Feeds a record with its first, second, ... allocation failing, until it goes through. */
int __wrap_views_feed(struct views *views, enum view_topic topic, uint32_t partition,
                      const struct batch_record *records, unsigned n, struct error *err)
{
    for (unsigned i = 1; armed && i <= ALLOCATIONS_MAX; i++) {
        countdown = i;
        int rc = __real_views_feed(views, topic, partition, records, n, err);
        countdown = 0;
        if (rc == 0) {
            return 0;
        }
        n_failures++;
        /* What the engine does at its next tick. */
        assert_int_equal(views_reopen(views, err), 0);
        assert_int_equal(views_offset(views, topic, partition), records[0].offset.v);
    }
    return __real_views_feed(views, topic, partition, records, n, err);
}

static void broadcast(struct lifecycle_feed *f)
{
    feed_live(f);
    feed_segments(f, 0, 0, 1);
    assert_int_equal(feed_part(f, 0, 1, 0, false), VERDICT_OK);
    assert_int_equal(feed_thumbnail(f, "0000000000000abc/t.jpg"), VERDICT_OK);
    assert_int_equal(feed_claim(f, "n3", 0xdef), VERDICT_OK);
    assert_int_equal(feed_assign(f, f->session, "n1"), VERDICT_OK);
    assert_int_equal(feed_start(f, 0, 2, false), VERDICT_OK);
    assert_int_equal(feed_part(f, 0, 2, 0, false), VERDICT_OK);
    assert_int_equal(feed_end(f, f->session), VERDICT_OK);
}

static void fold__a_record_that_lacked_memory_counts_when_fed_again(void **state)
{
    (void)state;
    struct lifecycle_feed calm, short_of_memory;
    uint8_t x[32], y[32];
    feed_open(&calm);
    broadcast(&calm);
    feed_hash(&calm, x);
    feed_close(&calm);
    feed_open(&short_of_memory);
    armed = true;
    broadcast(&short_of_memory);
    armed = false;
    feed_hash(&short_of_memory, y);
    feed_close(&short_of_memory);
    assert_memory_equal(x, y, sizeof(x));
    assert_true(n_failures >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold__a_record_that_lacked_memory_counts_when_fed_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
