/* Runs the `loop` of a test until a condition holds. */
#ifndef TESTS_UNIT_RUN_UNTIL_H
#define TESTS_UNIT_RUN_UNTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <uv.h>

static inline void run_until_hangs(uv_timer_t *timer)
{
    (void)timer;
    (void)fprintf(stderr, "nothing happened for ten minutes\n");
    abort();
}

/* A hang ends the program. */
#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uv_timer_t guard;                                                                          \
        assert_int_equal(uv_timer_init(&loop, &guard), 0);                                         \
        assert_int_equal(uv_timer_start(&guard, run_until_hangs, 600000, 0), 0);                   \
        while (!(condition)) {                                                                     \
            (void)uv_run(&loop, UV_RUN_ONCE);                                                      \
        }                                                                                          \
        uv_close((uv_handle_t *)&guard, NULL);                                                     \
        (void)uv_run(&loop, UV_RUN_NOWAIT);                                                        \
    } while (0)

#endif
