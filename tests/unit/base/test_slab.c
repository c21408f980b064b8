#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/slab.h"

#define PIECES   300
#define STEPS    20000
#define ONE_SLAB (2u << 20)

struct piece {
    uint8_t *data;
    size_t n;
    uint8_t mark;
};

/* What it is filled with is still there: no two pieces share a byte. */
static void assert_whole(const struct piece *p)
{
    assert_int_equal((uintptr_t)p->data % 4096, 0);
    assert_int_equal(p->data[0], p->mark);
    assert_int_equal(p->data[p->n / 2], p->mark);
    assert_int_equal(p->data[p->n - 1], p->mark);
}

static void slab__pieces_of_all_sizes_stay_apart_and_one_slab_is_kept(void **state)
{
    (void)state;
    static struct piece pieces[PIECES];
    uint32_t random = 1;
    for (unsigned i = 0; i < STEPS; i++) {
        random = random * 1664525u + 1013904223u;
        struct piece *p = &pieces[(random >> 8) % PIECES];
        if (p->data != NULL) {
            assert_whole(p);
            slab_give(p->data, p->n);
            p->data = NULL;
            continue;
        }
        p->n = SLAB_MIN + (random >> 10) % ((random & 1) != 0 ? 60000 : SLAB_MAX - SLAB_MIN);
        p->mark = (uint8_t)i;
        p->data = slab_take(p->n);
        assert_non_null(p->data);
        memset(p->data, p->mark, p->n);
    }
    for (unsigned i = 0; i < PIECES; i++) {
        if (pieces[i].data != NULL) {
            assert_whole(&pieces[i]);
            slab_give(pieces[i].data, pieces[i].n);
        }
    }
    assert_int_equal(slab_bytes(), ONE_SLAB);
}

static void slab__what_was_given_back_is_used_again(void **state)
{
    (void)state;
    uint8_t *kept = slab_take(SLAB_MIN), *big = slab_take(SLAB_MAX);
    size_t before = slab_bytes();
    for (unsigned i = 0; i < 1000; i++) {
        slab_give(big, SLAB_MAX);
        big = slab_take(SLAB_MAX);
        assert_int_equal(slab_bytes(), before);
    }
    slab_give(kept, SLAB_MIN);
    slab_give(big, SLAB_MAX);
    assert_int_equal(slab_bytes(), ONE_SLAB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slab__pieces_of_all_sizes_stay_apart_and_one_slab_is_kept),
        cmocka_unit_test(slab__what_was_given_back_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
