/* Mending that is disturbed: by power loss, by the disk, by memory that runs out, by wrong offers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../nomem_countdown.h"
#include "base/logging.h"
#include "damage.h"
#include "log/frame.h"

static struct harness h;
static struct error err;

enum damage { BIT_OF_CLOSED, BIT_OF_LAST, SHORT_CLOSED, MISSING_FIRST, MISSING_SECOND, META, TAIL };
#define N_DAMAGES 7

static void do_damage(enum damage kind)
{
    size_t size;
    uint8_t *data;
    switch (kind) {
    case BIT_OF_CLOSED:
        data = fault_env_data(h.env, damage_segment(&h, 1), &size);
        data[4096 + 900] ^= 1;
        break;
    case BIT_OF_LAST:
        data = fault_env_data(h.env, damage_last_segment(&h), &size);
        data[4096 + 8] ^= 1;
        break;
    case SHORT_CLOSED:
        fault_env_resize(h.env, damage_segment(&h, 1), 6000);
        break;
    case MISSING_FIRST:
        fault_env_remove(h.env, damage_segment(&h, 0));
        break;
    case MISSING_SECOND:
        fault_env_remove(h.env, damage_segment(&h, 1));
        break;
    case META:
        fault_env_resize(h.env, HARNESS_DIR "/meta", 0);
        break;
    case TAIL:
        fault_env_resize(h.env, damage_last_segment(&h), 5000);
        break;
    }
}

static void close_partition(void)
{
    if (h.p != NULL) {
        partition_close(h.p);
        h.p = NULL;
    }
    harness_run(&h);
}

/* Opens and mends until something fails. */
static int mend_until_error(void)
{
    int rc = harness_open(&h, &err);
    for (unsigned i = 0; rc == 0 && i < 1000; i++) {
        rc = damage_mend_some(&h, 2, &err);
        rc = rc == WEIR_EBUSY ? 0 : rc;
        if (rc == 1) {
            rc = harness_read_all(&h, &err);
            if (rc == 0) {
                return 0;
            }
            rc = rc == WEIR_ECORRUPT ? 0 : rc;
        }
    }
    return rc;
}

static void power_loss__at_every_step_of_opening_and_mending_costs_only_the_work(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (int kind = 0; kind < N_DAMAGES; kind++) {
        for (unsigned step = 1;; step++) {
            fault_env_restore(h.env, image);
            do_damage((enum damage)kind);
            fault_env_crash_at(h.env, fault_env_steps(h.env) + step);
            int rc = mend_until_error();
            bool crashed = fault_env_crashed(h.env);
            close_partition();
            if (!crashed) {
                assert_int_equal(rc, 0);
                fault_env_crash_at(h.env, 0);
                break;
            }
            fault_env_restart(h.env, step % 2 == 0 ? FAULT_TEAR : FAULT_LOSE_ALL);
            damage_survives(&h, 3, "crash", step);
        }
    }
    harness_close(&h);
    fault_image_free(image);
}

static void disk_error__at_every_step_of_opening_and_mending_costs_only_the_work(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (int kind = 0; kind < N_DAMAGES; kind++) {
        unsigned failed = 0;
        for (unsigned step = 1; step < 400; step++) {
            fault_env_restore(h.env, image);
            do_damage((enum damage)kind);
            unsigned at = fault_env_steps(h.env) + step;
            fault_env_fail_at(h.env, at, step % 3 == 0 ? WEIR_ENOSPC : WEIR_EIO);
            int rc = mend_until_error();
            bool reached = fault_env_steps(h.env) >= at;
            failed += rc != 0;
            close_partition();
            fault_env_fail_at(h.env, 0, 0);
            damage_survives(&h, 3, "error", step);
            if (!reached) {
                break;
            }
        }
        assert_true(failed > 0);
    }
    harness_close(&h);
    fault_image_free(image);
}

static void no_memory__at_every_allocation_of_opening_and_mending_costs_only_the_work(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (int kind = 0; kind < N_DAMAGES; kind++) {
        bool reached = true;
        for (unsigned n = 1; reached; n++) {
            fault_env_restore(h.env, image);
            do_damage((enum damage)kind);
            countdown = n;
            (void)mend_until_error();
            reached = countdown == 0;
            countdown = 0;
            close_partition();
            damage_survives(&h, 3, "memory", n);
        }
    }
    harness_close(&h);
    fault_image_free(image);
}

static int offer(uint64_t first, const struct log_entry *e)
{
    return partition_mend(h.p, LOG_INDEX(first), e, 1, &err);
}

static void wrong_offers__are_refused_and_change_nothing(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (int kind = 0; kind <= MISSING_SECOND; kind++) {
        fault_env_restore(h.env, image);
        do_damage((enum damage)kind);
        assert_int_equal(harness_open(&h, &err), 0);
        while (!partition_damaged(h.p)) {
            assert_int_equal(harness_read_all(&h, &err), WEIR_ECORRUPT);
        }
        struct partition_hole hole;
        assert_true(partition_damage(h.p, &hole, 1) >= 1);
        uint64_t at = hole.first.v;
        const struct model_entry *m = &h.model[at];
        struct log_entry good = {
            .term = LOG_TERM(m->term), .type = m->type, .payload = m->payload, .len = m->len};
        struct log_entry e = good;
        e.term.v += 5;
        assert_int_equal(offer(at, &e), WEIR_EPROTO);
        e.term.v = 0;
        assert_int_equal(offer(at, &e), WEIR_EPROTO);
        e = good;
        assert_int_equal(offer(at + 1, &e), WEIR_ENOTFOUND);
        assert_int_equal(offer(at - 1, &e), WEIR_ENOTFOUND);
        e.len = FRAME_PAYLOAD_MAX + 1;
        assert_int_equal(offer(at, &e), WEIR_EPROTO);
        const struct model_entry *other = &h.model[at + 3]; /* a batch of another place */
        while (other->type != LOG_ENTRY_BATCH) {
            other++;
        }
        e = (struct log_entry){.term = LOG_TERM(m->term),
                               .type = LOG_ENTRY_BATCH,
                               .payload = other->payload,
                               .len = other->len};
        assert_int_equal(offer(at, &e), WEIR_EPROTO);
        assert_true(partition_damage(h.p, &hole, 1) >= 1);
        assert_int_equal(hole.first.v, at);
        (void)damage_mend_all(&h, 2);
        close_partition();
        damage_survives(&h, 2, "offers", (size_t)kind);
    }
    harness_close(&h);
    fault_image_free(image);
}

/* Another replica may have compacted an entry: it has other bytes there, of another length. */
static void an_entry_of_another_length__is_put_back_by_a_new_file(void **state)
{
    (void)state;
    for (int closed = 0; closed < 2; closed++) {
        size_t size;
        harness_init(&h, 5, 0);
        h.options.tail_bytes = 1;
        assert_int_equal(harness_open(&h, &err), 0);
        harness_append(&h, 1, 100);
        harness_append_type(&h, LOG_ENTRY_CONFIG);
        harness_append(&h, 2, 300);
        harness_run(&h);
        if (closed) {
            harness_append_some(&h, 30, 1);
        }
        close_partition();
        uint8_t *data = fault_env_data(h.env, damage_segment(&h, 0), &size);
        size_t at = 4096;
        while (memcmp(data + at, "configuration", 13) != 0) {
            at++;
        }
        data[at] ^= 1;
        assert_int_equal(harness_open(&h, &err), 0);
        while (!partition_damaged(h.p)) {
            assert_int_equal(harness_read_all(&h, &err), WEIR_ECORRUPT);
        }
        struct partition_hole hole;
        assert_int_equal(partition_damage(h.p, &hole, 1), 1);
        assert_int_equal(hole.first.v, 2);
        memset(h.model[2].payload + h.model[2].len, 7, 160);
        h.model[2].len += 160;
        assert_true(damage_mend_all(&h, 1) >= 1);
        harness_append_some(&h, 5, 3);
        assert_int_equal(h.last_status, 0);
        harness_check(&h);
        close_partition();
        assert_int_equal(harness_open(&h, &err), 0);
        assert_false(partition_damaged(h.p));
        harness_check(&h);
        harness_close(&h);
    }
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        T(wrong_offers__are_refused_and_change_nothing),
        T(an_entry_of_another_length__is_put_back_by_a_new_file),
        T(power_loss__at_every_step_of_opening_and_mending_costs_only_the_work),
        T(disk_error__at_every_step_of_opening_and_mending_costs_only_the_work),
        T(no_memory__at_every_allocation_of_opening_and_mending_costs_only_the_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
