/* Files with flipped bits, cut short, or gone: every one of it, at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/logging.h"
#include "damage.h"

static struct harness h;
static struct error err;

#define FILES 6

/* The first, second and last segment, an index, meta, mark. */
static const char *file_path(unsigned i)
{
    static char path[64];
    switch (i) {
    case 0:
        return damage_segment(&h, 0);
    case 1:
        return damage_segment(&h, 1);
    case 2:
        return damage_last_segment(&h);
    case 3:
        (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.index", 1u);
        return path;
    case 4:
        return HARNESS_DIR "/meta";
    default:
        return HARNESS_DIR "/mark";
    }
}

static void end(struct fault_image *image)
{
    harness_close(&h);
    fault_image_free(image);
}

static void any_flipped_bit__is_harmless_or_mended_or_said_to_cost_the_promises(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct fault_image *image = damage_image(&h, clean);
        for (unsigned i = 0; i < FILES; i++) {
            char path[64];
            size_t size;
            fault_env_restore(h.env, image);
            (void)snprintf(path, sizeof(path), "%s", file_path(i));
            if (fault_env_data(h.env, path, &size) == NULL) {
                continue;
            }
            for (size_t at = 0; at < size; at += at < 80 ? 1 : 43) { /* every alignment */
                fault_env_restore(h.env, image);
                uint8_t *data = fault_env_data(h.env, path, &size);
                data[at] ^= (uint8_t)(1 << at % 8);
                damage_survives(&h, 1 + (unsigned)at % 3, path, at);
            }
        }
        end(image);
    }
}

static void any_shortened_file__is_harmless_or_mended_or_said_to_cost_the_promises(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (unsigned i = 0; i < FILES; i++) {
        char path[64];
        size_t size;
        fault_env_restore(h.env, image);
        (void)snprintf(path, sizeof(path), "%s", file_path(i));
        assert_non_null(fault_env_data(h.env, path, &size));
        for (size_t n = 0; n < size; n += n < 64 ? 9 : 203) {
            fault_env_restore(h.env, image);
            fault_env_resize(h.env, path, n);
            damage_survives(&h, 1 + (unsigned)n % 5, path, n);
        }
    }
    end(image);
}

static void any_file_of_zeros__is_harmless_or_mended_or_said_to_cost_the_promises(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (unsigned i = 0; i < FILES; i++) {
        for (size_t at = 0, size = 1; at < size; at += 512) {
            fault_env_restore(h.env, image);
            const char *path = file_path(i);
            uint8_t *data = fault_env_data(h.env, path, &size);
            assert_non_null(data);
            memset(data + at, 0, size - at < 4096 ? size - at : 4096);
            damage_survives(&h, 2, path, at);
        }
    }
    end(image);
}

static void any_missing_file__is_harmless_or_mended_or_said_to_cost_the_promises(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (unsigned i = 0; i < FILES; i++) {
        fault_env_restore(h.env, image);
        char path[64];
        (void)snprintf(path, sizeof(path), "%s", file_path(i));
        fault_env_remove(h.env, path);
        damage_survives(&h, 2, path, 0);
    }
    end(image);
}

/* Pairs of missing segments and of segment and index. */
static void any_two_missing_segments__are_mended_or_said_to_cost_the_promises(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    unsigned n = 0;
    fault_env_restore(h.env, image);
    while (damage_segment(&h, n) != NULL) {
        n++;
    }
    assert_true(n >= 4);
    for (unsigned a = 0; a < n; a++) {
        for (unsigned b = a + 1; b < n; b++) {
            fault_env_restore(h.env, image);
            char first[64], second[64];
            (void)snprintf(first, sizeof(first), "%s", damage_segment(&h, a));
            (void)snprintf(second, sizeof(second), "%s", damage_segment(&h, b));
            fault_env_remove(h.env, first);
            fault_env_remove(h.env, second);
            damage_survives(&h, 4, first, b);
        }
    }
    end(image);
}

static void a_hole_below_the_mark__keeps_the_rest_readable_and_names_file_and_place(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    size_t size;
    fault_env_restore(h.env, image);
    char path[64], expected[128];
    (void)snprintf(path, sizeof(path), "%s", damage_last_segment(&h));
    uint8_t *data = fault_env_data(h.env, path, &size);
    data[4096 + 60] ^= 4; /* the payload of its first frame */
    assert_int_equal(harness_open(&h, &err), 0);
    struct partition_hole hole;
    assert_int_equal(partition_damage(h.p, &hole, 1), 1);
    assert_int_equal(hole.first.v, hole.last.v);
    assert_int_equal(hole.anchor.v, hole.first.v); /* its header is good: its term is known */
    assert_int_equal(partition_last_index(h.p).v, h.last);
    assert_int_equal(harness_read_all(&h, &err), WEIR_ECORRUPT);
    (void)snprintf(expected, sizeof(expected),
                   "%s: at byte 4096: entry %llu: wrong checksum of its payload", path,
                   (unsigned long long)hole.first.v);
    assert_int_equal(strncmp(err.text, expected, strlen(expected)), 0);
    harness_append_some(&h, 5, 3); /* it goes on taking entries */
    assert_int_equal(h.last_status, 0);
    assert_true(damage_mend_all(&h, 1) >= 1);
    harness_check(&h);
    end(image);
}

/* Without any mark, what later frames say is enough. */
static void a_hole__is_found_by_later_frames_when_the_mark_is_lost(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, false);
    size_t size;
    fault_env_restore(h.env, image);
    fault_env_remove(h.env, HARNESS_DIR "/mark");
    uint8_t *data = fault_env_data(h.env, damage_last_segment(&h), &size);
    data[4096 + 8] ^= 1; /* even its length is wrong */
    assert_int_equal(harness_open(&h, &err), 0);
    assert_true(partition_damaged(h.p));
    assert_int_equal(partition_last_index(h.p).v, h.last);
    (void)damage_mend_all(&h, 3);
    harness_check(&h);
    end(image);
}

/* A log cut inside its last frame looks like a torn tail; without the mark nothing says it is not.
 */
static void a_lost_mark_and_a_cut_log__cost_the_promises(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, false);
    struct partition_meta meta;
    size_t size;
    fault_env_restore(h.env, image);
    fault_env_remove(h.env, HARNESS_DIR "/mark");
    char path[64];
    (void)snprintf(path, sizeof(path), "%s", damage_last_segment(&h));
    const uint8_t *data = fault_env_data(h.env, path, &size);
    while (size > 0 && data[size - 1] == 0) {
        size--; /* reserved, not written */
    }
    fault_env_resize(h.env, path, size - 1);
    assert_int_equal(harness_open(&h, &err), 0);
    partition_meta(h.p, &meta);
    assert_true(meta.recovering);
    end(image);
}

static void damage_found_while_running__is_a_hole_and_the_partition_goes_on(void **state)
{
    (void)state;
    harness_init(&h, 5, 0);
    h.options.tail_bytes = 1;
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 40, 1);
    for (unsigned k = 0; damage_segment(&h, k) != NULL; k++) {
        size_t size;
        uint8_t *data = fault_env_data(h.env, damage_segment(&h, k), &size);
        data[4096 + 300] ^= 1;
        data[4096 + 52] ^= 1;
    }
    harness_append_some(&h, 10, 3);
    assert_int_equal(h.n_errors, 0);
    assert_int_equal(harness_read_all(&h, &err), WEIR_ECORRUPT);
    assert_true(partition_damaged(h.p));
    assert_true(damage_mend_all(&h, 1) >= 3);
    harness_append_some(&h, 10, 4);
    harness_check(&h);
    partition_close(h.p);
    h.p = NULL;
    harness_run(&h);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_check(&h);
    harness_close(&h);
}

static void a_cut_above_a_hole__leaves_it_and_one_below_forgets_it(void **state)
{
    (void)state;
    struct fault_image *image = damage_image(&h, true);
    for (unsigned round = 0; round < 2; round++) {
        size_t size;
        fault_env_restore(h.env, image);
        uint64_t last = h.last;
        uint8_t *data = fault_env_data(h.env, damage_last_segment(&h), &size);
        data[4096 + 60] ^= 4;
        assert_int_equal(harness_open(&h, &err), 0);
        struct partition_hole hole;
        assert_int_equal(partition_damage(h.p, &hole, 1), 1);
        uint64_t from = round == 0 ? hole.last.v + 1 : hole.first.v;
        assert_int_equal(partition_truncate(h.p, LOG_INDEX(from), &err), 0);
        assert_int_equal(partition_last_index(h.p).v, from - 1);
        assert_int_equal(partition_damaged(h.p), round == 0);
        (void)damage_mend_all(&h, 1);
        partition_close(h.p);
        h.p = NULL;
        harness_run(&h);
        assert_int_equal(harness_open(&h, &err), 0);
        assert_int_equal(partition_last_index(h.p).v, from - 1);
        assert_int_equal(harness_read_all(&h, &err), 0);
        partition_close(h.p);
        h.p = NULL;
        harness_run(&h);
        h.last = last;
    }
    end(image);
}

/* Walks the log as scrubbing does; how many steps it took, and how many of them met damage. */
static unsigned check_all(uint64_t bytes_max, unsigned *ret_bad)
{
    struct log_index next = partition_first_index(h.p);
    unsigned steps = 0;
    *ret_bad = 0;
    while (next.v <= partition_durable_index(h.p).v) {
        uint64_t before = next.v;
        int rv = partition_check(h.p, next, bytes_max, &next, &err);
        assert_true(rv == 0 || rv == WEIR_ECORRUPT);
        assert_true(next.v > before);
        *ret_bad += rv != 0;
        steps++;
    }
    return steps;
}

static void partition_check__goes_on_behind_a_hole_and_not_entry_by_entry(void **state)
{
    (void)state;
    unsigned bad, segments = 0;
    harness_init(&h, 5, 0);
    h.options.tail_bytes = 1;
    assert_int_equal(harness_open(&h, &err), 0);
    harness_append_some(&h, 60, 1);
    assert_true(check_all(UINT64_MAX, &bad) == 1 && bad == 0);
    for (; damage_segment(&h, segments) != NULL; segments++) {
        size_t size;
        uint8_t *data = fault_env_data(h.env, damage_segment(&h, segments), &size);
        for (size_t at = 4096 + 300; at < size; at += 3000) {
            data[at] ^= 1;
        }
    }
    (void)check_all(UINT64_MAX, &bad);
    assert_true(partition_damaged(h.p));
    unsigned steps = check_all(UINT64_MAX, &bad); /* all holes are known now */
    assert_true(bad <= partition_damage(h.p, NULL, 0));
    assert_in_range(steps, bad, bad + 1);
    harness_close(&h);
}

/* Its frame is as it was written: nothing to mend, and nothing that other replicas have better. */
static void partition_check__of_a_batch_that_was_never_good_leaves_its_segment(void **state)
{
    (void)state;
    unsigned bad, segments = 0;
    harness_init(&h, 5, 0);
    h.options.tail_bytes = 1;
    assert_int_equal(harness_open(&h, &err), 0);
    for (unsigned i = 0; i < 60; i++) {
        harness_append(&h, 1, 500);
        harness_run(&h);
        struct model_entry e = h.model[h.last];
        batch_stamp(e.payload, partition_end_offset(h.p), LOG_TERM(h.term), (int64_t)i * 10000);
        e.payload[e.len - 1] ^= 1; /* the batch's own checksum is wrong */
        harness_append_raw(&h, e.term, e.type, e.payload, e.len);
        harness_run(&h);
    }
    assert_int_equal(h.n_errors, 0);
    while (damage_segment(&h, segments) != NULL) {
        segments++;
    }
    assert_in_range(segments, 3, 30);
    (void)check_all(UINT64_MAX, &bad);
    assert_false(partition_damaged(h.p));
    assert_in_range(bad, 1, segments);
    harness_close(&h);
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        T(a_hole_below_the_mark__keeps_the_rest_readable_and_names_file_and_place),
        T(a_hole__is_found_by_later_frames_when_the_mark_is_lost),
        T(a_lost_mark_and_a_cut_log__cost_the_promises),
        T(damage_found_while_running__is_a_hole_and_the_partition_goes_on),
        T(a_cut_above_a_hole__leaves_it_and_one_below_forgets_it),
        T(partition_check__goes_on_behind_a_hole_and_not_entry_by_entry),
        T(partition_check__of_a_batch_that_was_never_good_leaves_its_segment),
        T(any_missing_file__is_harmless_or_mended_or_said_to_cost_the_promises),
        T(any_two_missing_segments__are_mended_or_said_to_cost_the_promises),
        T(any_file_of_zeros__is_harmless_or_mended_or_said_to_cost_the_promises),
        T(any_shortened_file__is_harmless_or_mended_or_said_to_cost_the_promises),
        T(any_flipped_bit__is_harmless_or_mended_or_said_to_cost_the_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
