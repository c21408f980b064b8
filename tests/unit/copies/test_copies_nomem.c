/* The look when memory is short: every allocation fails once, of this node's, its peers' and their
 * connections', and what was to be made is made by the looks that follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../nomem_countdown.h"
#include "../run_until.h"
#include "keeper.h"

#define ALLOCATIONS 150

static void look__makes_up_for_every_allocation_that_fails(void **state)
{
    (void)state;
    unsigned n_missed = 0;
    commit(0, "n1", "n2");
    put(1, 0, 1); /* makes the folder */
    start();
    for (unsigned i = 1; i <= ALLOCATIONS; i++) {
        RUN_UNTIL(!copies->look.running && !copies->scrub.running);
        store_remove(node.store, object_of(0), NULL);
        countdown = i;
        run_looks(1);
        countdown = 0;
        n_missed += is_whole(0) ? 0 : 1;
        RUN_UNTIL(is_whole(0));
    }
    assert_in_range(n_missed, 1, ALLOCATIONS - 1);
    assert_int_equal(copies->bytes_held, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(look__makes_up_for_every_allocation_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
