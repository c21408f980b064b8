/* Compaction: what is left is what a naive model leaves, whatever fails on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/logging.h"
#include "harness.h"
#include "log/batch.h"
#include "log/control.h"
#include "log/damage.h"
#include "log/partition_priv.h"

#define KEYS 12

static struct harness h, other;
static struct error err;
static struct model_entry original[MODEL_MAX + 1];

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* A batch of a few records: some without key, some without value. */
static void append_keyed(struct harness *to, uint32_t *seed)
{
    struct bytes out;
    struct batch_builder b;
    char key[16];
    static const uint8_t value[700] = {1, 2, 3};
    unsigned n = 1 + next_random(seed) % 4;
    bytes_init(&out, PAYLOAD_MAX);
    batch_begin(&b, &out, 0);
    for (unsigned i = 0; i < n; i++) {
        uint32_t v = next_random(seed);
        (void)snprintf(key, sizeof(key), "key-%u", v % KEYS);
        batch_add(&b, 0, v % 17 == 0 ? NULL : key, strlen(key), v % 5 == 0 ? NULL : value,
                  next_random(seed) % sizeof(value));
    }
    b.producer = (struct batch_producer){.id = 5, .epoch = 1, .sequence = (int32_t)to->value};
    to->value += n;
    assert_true(batch_finish(&b) > 0);
    batch_stamp(out.data, partition_end_offset(to->p), LOG_TERM(to->term), (int64_t)to->value * 10);
    harness_append_raw(to, to->term, LOG_ENTRY_BATCH, out.data, (uint32_t)out.len);
    bytes_close(&out);
}

static void append_many(struct harness *to, unsigned n, uint32_t seed)
{
    for (unsigned i = 0; i < n && !partition_failed(to->p); i++) {
        uint32_t v = next_random(&seed);
        if (v % 13 == 0) {
            harness_append_type(to, v % 2 == 0 ? LOG_ENTRY_BARRIER : LOG_ENTRY_CONFIG);
        } else {
            append_keyed(to, &seed);
        }
        if (v % 3 == 0) {
            harness_run(to);
        }
    }
    harness_run(to);
}

static void settle(struct harness *to)
{
    for (int i = 0; i < 400; i++) {
        fault_env_advance(to->env, 20000);
    }
}

/* --- The model --- */

struct wanted {
    const struct harness *h;
    int64_t upto, tombstones_ms, time_ms;
};

static bool newer_exists(const struct wanted *w, const struct batch_record *r)
{
    for (uint64_t i = 1; i <= w->h->last; i++) {
        const struct model_entry *e = &original[i];
        struct batch_iter it;
        struct batch_record o;
        if (e->type != LOG_ENTRY_BATCH || batch_iter_init(&it, e->payload, e->len, NULL) != 0) {
            continue;
        }
        while (batch_iter_next(&it, &o, NULL) == 1) {
            if (o.offset.v > r->offset.v && o.offset.v < w->upto && o.key_len == r->key_len &&
                o.key != NULL && memcmp(o.key, r->key, (size_t)r->key_len) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool naive_keeps(void *data, const struct batch_record *r)
{
    const struct wanted *w = data;
    if (r->key == NULL || r->offset.v >= w->upto) {
        return true;
    }
    return !newer_exists(w, r) && (r->value != NULL || w->time_ms >= w->tombstones_ms);
}

/* The model's entries as they should be after compaction. */
static unsigned compact_model(struct harness *to, int64_t upto, int64_t tombstones_ms)
{
    unsigned removed_all = 0;
    memcpy(original, to->model, sizeof(original));
    for (uint64_t i = 1; i <= to->last; i++) {
        struct model_entry *e = &to->model[i];
        struct wanted w = {to, upto, tombstones_ms, 0};
        struct bytes out;
        uint32_t removed;
        if (e->type != LOG_ENTRY_BATCH) {
            continue;
        }
        w.time_ms = batch_append_ms(e->payload);
        bytes_init(&out, PAYLOAD_MAX);
        assert_int_equal(
            batch_thin(original[i].payload, e->len, naive_keeps, &w, &out, &removed, &err), 0);
        memcpy(e->payload, out.data, out.len);
        e->len = (uint32_t)out.len;
        removed_all += removed;
        bytes_close(&out);
    }
    return removed_all;
}

/* Closed segments are compacted as the model is; the tail may still have the others. */
static int64_t closed_end(const struct harness *of)
{
    return partition_active(of->p)->first_offset.v;
}

static bool is_running(const struct harness *of)
{
    struct partition_compaction c;
    partition_compaction(of->p, &c);
    return c.running;
}

static void live(uint64_t seed)
{
    harness_init(&h, seed, 0);
    h.options.segment_bytes = 12288;
    assert_int_equal(harness_open(&h, &err), 0);
    append_many(&h, 120, (uint32_t)seed);
    partition_set_commit(h.p, partition_last_index(h.p));
}

static void die(struct harness *of)
{
    harness_run(of);
    partition_close(of->p);
    of->p = NULL;
    harness_run(of);
}

static void compact__leaves_what_a_naive_model_leaves(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        live(seed);
        uint64_t before = partition_size_bytes(h.p);
        int64_t upto = seed % 3 == 0 ? closed_end(&h) * 2 / 3 : closed_end(&h);
        int64_t tombstones_ms = (int64_t)h.value * 10 * (int64_t)(seed % 4) / 3;
        if (seed % 2 == 0) { /* in many rounds */
            h.p->compact.map_bytes_max = 1;
        }
        partition_compact(h.p, LOG_OFFSET(upto), tombstones_ms);
        assert_true(is_running(&h));
        settle(&h);
        assert_false(is_running(&h));
        assert_true(compact_model(&h, upto, tombstones_ms) > 50);
        assert_true(partition_size_bytes(h.p) < before);
        harness_check(&h);
        append_many(&h, 20, 99);
        harness_check(&h);
        die(&h);
        fault_env_restart(h.env, FAULT_LOSE_ALL);
        assert_int_equal(harness_open(&h, &err), 0);
        harness_check(&h);
        settle(&h);
        assert_false(is_running(&h));
        harness_check(&h);
        harness_close(&h);
    }
}

static void compact__with_a_small_map_takes_more_rounds_and_ends_the_same(void **state)
{
    (void)state;
    uint8_t a[PARTITION_HASH_SIZE] = {0}, b[PARTITION_HASH_SIZE] = {0};
    struct log_index last;
    for (unsigned round = 0; round < 2; round++) {
        harness_init(&h, 5, 0);
        h.options.segment_bytes = 16384;
        assert_int_equal(harness_open(&h, &err), 0);
        for (unsigned i = 0; i < 200; i++) { /* more keys than a map of 64 slots takes */
            struct bytes out;
            struct batch_builder k;
            char key[16];
            bytes_init(&out, PAYLOAD_MAX);
            batch_begin(&k, &out, 0);
            (void)snprintf(key, sizeof(key), "k%u", i * 7 % 130);
            batch_add(&k, 0, key, strlen(key), original, 300);
            assert_true(batch_finish(&k) > 0);
            batch_stamp(out.data, partition_end_offset(h.p), LOG_TERM(1), i);
            harness_append_raw(&h, 1, LOG_ENTRY_BATCH, out.data, (uint32_t)out.len);
            bytes_close(&out);
            harness_run(&h);
        }
        partition_set_commit(h.p, partition_last_index(h.p));
        h.p->compact.map_bytes_max = round == 0 ? 1 : 1 << 20;
        int64_t upto = closed_end(&h);
        partition_compact(h.p, LOG_OFFSET(upto), 0);
        settle(&h);
        assert_false(is_running(&h));
        assert_true(compact_model(&h, upto, 0) > 20);
        harness_check(&h);
        assert_int_equal(partition_hash(h.p, LOG_INDEX(1), partition_last_index(h.p), UINT64_MAX,
                                        round == 0 ? a : b, &last, &err),
                         0);
        harness_close(&h);
    }
    assert_memory_equal(a, b, sizeof(a));
}

static void compact__keeps_to_its_pace_together_with_others_of_the_loop(void **state)
{
    (void)state;
    struct partition_pace pace = {.bytes_per_s = 1000000};
    harness_init(&h, 5, 0);
    h.options.segment_bytes = 12288;
    h.options.compact_pace = &pace;
    assert_int_equal(harness_open(&h, &err), 0);
    append_many(&h, 120, 5);
    partition_set_commit(h.p, partition_last_index(h.p));
    pace.next_ns = env_now_ns(h.env) + 3000000000u; /* somebody else has used it up */
    partition_compact(h.p, LOG_OFFSET(closed_end(&h)), 0);
    uint64_t began_ns = env_now_ns(h.env), bytes = partition_size_bytes(h.p);
    while (is_running(&h)) {
        fault_env_advance(h.env, 20000);
    }
    uint64_t took_ms = (env_now_ns(h.env) - began_ns) / 1000000;
    assert_true(took_ms >= 3000 + bytes / 1000); /* all is read once at the least */
    assert_true(took_ms <= 3000 + 6 * bytes / 1000);
    harness_close(&h);
}

static void hash_of(struct harness *of, uint8_t hash[PARTITION_HASH_SIZE])
{
    struct log_index last;
    assert_int_equal(partition_hash(of->p, LOG_INDEX(1), partition_last_index(of->p), UINT64_MAX,
                                    hash, &last, &err),
                     0);
    assert_int_equal(last.v, partition_last_index(of->p).v);
}

/* The same log, cut into other segments. */
static void open_other(uint64_t segment_bytes)
{
    harness_init(&other, 77, 1);
    other.options.segment_bytes = segment_bytes;
    assert_int_equal(harness_open(&other, &err), 0);
    for (uint64_t i = 1; i <= h.last; i++) {
        const struct model_entry *e = &h.model[i];
        harness_append_raw(&other, e->term, e->type, e->payload, e->len);
        harness_run(&other);
    }
    partition_set_commit(other.p, partition_last_index(other.p));
}

static void replicas__that_act_at_other_times_and_have_other_segments_end_equal(void **state)
{
    (void)state;
    uint8_t a[PARTITION_HASH_SIZE] = {0}, b[PARTITION_HASH_SIZE] = {0};
    unsigned waited = 0;
    for (uint64_t seed = 21; seed < 27; seed++) {
        live(seed);
        open_other(20480);
        other.value = h.value;
        int64_t first = closed_end(&h) / 2, second = closed_end(&h);
        int64_t ms = (int64_t)h.value * 5;
        partition_compact(h.p, LOG_OFFSET(first), 0);
        settle(&h);
        partition_compact(h.p, LOG_OFFSET(second), ms);
        settle(&h);
        assert_false(is_running(&h));
        partition_compact(other.p, LOG_OFFSET(second), ms);
        settle(&other);
        assert_int_equal(is_running(&other), closed_end(&other) < second);
        waited += is_running(&other); /* its last segment is still open */
        for (unsigned i = 0; i < 40; i++) {
            harness_append_raw(&h, 1, LOG_ENTRY_BARRIER, original, 900);
            harness_append_raw(&other, 1, LOG_ENTRY_BARRIER, original, 900);
            harness_run(&h);
            harness_run(&other);
        }
        partition_set_commit(h.p, partition_last_index(h.p));
        partition_set_commit(other.p, partition_last_index(other.p));
        settle(&other);
        assert_false(is_running(&other));
        hash_of(&h, a);
        hash_of(&other, b);
        assert_memory_equal(a, b, sizeof(a));
        harness_close(&h);
        harness_close(&other);
    }
    assert_true(waited > 0);
}

/* What `weir log verify` compares: see 0222. */
static void ranges__may_be_compared_when_both_are_as_far_as_their_equal_marks(void **state)
{
    (void)state;
    uint8_t a[PARTITION_HASH_SIZE] = {0}, b[PARTITION_HASH_SIZE] = {0};
    live(23);
    open_other(20480);
    int64_t upto = closed_end(&h) < closed_end(&other) ? closed_end(&h) : closed_end(&other);
    struct log_index first = LOG_INDEX(1), last = partition_last_index(h.p);
    hash_of(&h, a);
    hash_of(&other, b);
    assert_memory_equal(a, b, sizeof(a));
    assert_true(partition_range_compacted(h.p, first, last));
    partition_compact(h.p, LOG_OFFSET(upto), INT64_MAX);
    partition_compact(other.p, LOG_OFFSET(upto), INT64_MAX);
    settle(&h);
    assert_true(partition_range_compacted(h.p, first, last));
    assert_false(partition_range_compacted(other.p, first, last));
    hash_of(&h, a);
    assert_memory_not_equal(a, b, sizeof(a));
    settle(&other);
    assert_true(partition_range_compacted(other.p, first, last));
    hash_of(&other, b);
    assert_memory_equal(a, b, sizeof(a));
    harness_close(&other);

    char path[64];
    size_t size;
    struct log_index until;
    (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.log",
                   (unsigned)h.p->segments[1]->first_index.v);
    uint8_t *data = fault_env_data(h.env, path, &size);
    data[SEGMENT_HEADER_SIZE + FRAME_HEADER_SIZE + 30] ^= 1;
    assert_int_equal(partition_hash(h.p, first, last, UINT64_MAX, a, &until, &err), WEIR_ECORRUPT);
    assert_false(partition_range_compacted(h.p, first, last));
    harness_close(&h);
}

/* Whoever gives entries tells its mark first (consensus/retain.c): more than the log has. */
static void a_mark_before_its_entries__closes_the_last_segment_when_they_have_come(void **state)
{
    (void)state;
    harness_init(&h, 29, 0);
    h.options.segment_bytes = 1 << 20;
    assert_int_equal(harness_open(&h, &err), 0);
    partition_compact(h.p, LOG_OFFSET(150), INT64_MAX);
    append_many(&h, 90, 29);
    partition_set_commit(h.p, partition_last_index(h.p));
    assert_true(partition_end_offset(h.p).v > 160);
    settle(&h);
    assert_false(is_running(&h));
    assert_true(compact_model(&h, 150, INT64_MAX) > 50);
    harness_check(&h);
    harness_close(&h);
}

static void fetch__inside_what_was_removed_gives_the_next_record(void **state)
{
    (void)state;
    struct bytes out;
    struct log_offset next;
    live(31);
    int64_t upto = closed_end(&h);
    partition_compact(h.p, LOG_OFFSET(upto), INT64_MAX);
    settle(&h);
    (void)compact_model(&h, upto, INT64_MAX);
    unsigned skipped = 0;
    bytes_init(&out, 1 << 20);
    for (int64_t offset = 0; offset < upto; offset++) {
        int64_t found = -1, expected = -1;
        next = LOG_OFFSET(offset);
        while (found < 0) {
            struct batch_iter it;
            struct batch_record r;
            out.len = 0;
            assert_int_equal(partition_fetch(h.p, next, 1, &out, &next, &err), 0);
            assert_int_equal(batch_iter_init(&it, out.data, out.len, &err), 0);
            while (found < 0 && batch_iter_next(&it, &r, &err) == 1) {
                found = r.offset.v >= offset ? r.offset.v : -1;
            }
        }
        for (uint64_t i = 1; i <= h.last && expected < 0; i++) {
            struct batch_iter it;
            struct batch_record r;
            if (h.model[i].type == LOG_ENTRY_BATCH &&
                batch_iter_init(&it, h.model[i].payload, h.model[i].len, &err) == 0) {
                while (expected < 0 && batch_iter_next(&it, &r, &err) == 1) {
                    expected = r.offset.v >= offset ? r.offset.v : -1;
                }
            }
        }
        assert_int_equal(found, expected);
        skipped += found > offset;
    }
    assert_true(skipped > 100);
    bytes_close(&out);
    harness_close(&h);
}

/* Who wrote what, and how far: see log/state.h. */
static void producers__are_the_same_from_a_compacted_log(void **state)
{
    (void)state;
    struct bytes before, after;
    bytes_init(&before, 1 << 20);
    bytes_init(&after, 1 << 20);
    live(37);
    assert_int_equal(partition_export_state(h.p, &before, &err), 0);
    partition_compact(h.p, LOG_OFFSET(closed_end(&h)), INT64_MAX);
    settle(&h);
    (void)compact_model(&h, closed_end(&h), INT64_MAX);
    die(&h);
    for (uint64_t i = 1; i <= h.last; i++) { /* made anew, from the entries */
        char path[64];
        (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.state", (unsigned)i);
        (void)env_unlink(h.env, path, NULL);
    }
    assert_int_equal(harness_open(&h, &err), 0);
    partition_set_commit(h.p, partition_last_index(h.p));
    assert_int_equal(partition_export_state(h.p, &after, &err), 0);
    assert_int_equal(after.len, before.len);
    assert_memory_equal(after.data, before.data, before.len);
    harness_check(&h);
    harness_close(&h);
    bytes_close(&before);
    bytes_close(&after);
}

static void offset_for_time__is_the_same_as_before(void **state)
{
    (void)state;
    static struct log_offset before[2000];
    live(41);
    for (int64_t ms = 0; ms < 2000; ms++) {
        assert_int_equal(partition_offset_for_time(h.p, ms, &before[ms], &err), 0);
    }
    partition_compact(h.p, LOG_OFFSET(closed_end(&h)), INT64_MAX);
    settle(&h);
    for (int64_t ms = 0; ms < 2000; ms++) {
        struct log_offset found;
        assert_int_equal(partition_offset_for_time(h.p, ms, &found, &err), 0);
        assert_int_equal(found.v, before[ms].v);
    }
    harness_close(&h);
}

static void control__that_was_appended_acts_when_it_is_committed(void **state)
{
    (void)state;
    uint8_t payload[CONTROL_SIZE];
    live(51);
    int64_t upto = closed_end(&h);
    control_encode(&(struct control){CONTROL_COMPACT, {upto}, 0}, payload);
    harness_append_raw(&h, 1, LOG_ENTRY_CONTROL, payload, sizeof(payload));
    harness_run(&h);
    settle(&h);
    struct partition_compaction c;
    partition_compaction(h.p, &c);
    assert_int_equal(c.upto.v, 0);
    partition_set_commit(h.p, partition_last_index(h.p));
    settle(&h);
    partition_compaction(h.p, &c);
    assert_int_equal(c.upto.v, upto);
    assert_false(c.running);
    (void)compact_model(&h, upto, 0);
    harness_check(&h);
    harness_close(&h);
}

static void compactable__when_half_of_what_is_closed_is_new(void **state)
{
    (void)state;
    struct log_offset upto;
    struct partition_compaction c;
    live(61);
    assert_true(partition_compactable(h.p, &upto));
    assert_int_equal(upto.v, closed_end(&h));
    partition_compact(h.p, upto, 0);
    partition_compaction(h.p, &c);
    assert_true(c.running && c.clean.v == 0);
    settle(&h);
    partition_compaction(h.p, &c);
    assert_true(!c.running && c.clean.v == upto.v);
    assert_true(partition_time_at(h.p, upto) > 0);
    assert_int_equal(partition_time_at(h.p, partition_high_watermark(h.p)), 0);
    assert_false(partition_compactable(h.p, &upto));
    append_many(&h, 100, 7);
    assert_false(partition_compactable(h.p, &upto)); /* not committed */
    partition_set_commit(h.p, partition_last_index(h.p));
    assert_true(partition_compactable(h.p, &upto));
    harness_close(&h);
}

static void retention__of_all_that_was_compacted_leaves_nothing_to_wait_for(void **state)
{
    (void)state;
    struct partition_compaction c;
    struct log_offset upto;
    live(63);
    partition_compact(h.p, LOG_OFFSET(closed_end(&h)), 0);
    settle(&h);
    append_many(&h, 100, 9);
    partition_set_commit(h.p, partition_last_index(h.p));
    partition_set_keep(h.p, partition_last_index(h.p));
    partition_set_start(h.p, partition_active(h.p)->first_offset);
    settle(&h);
    partition_compaction(h.p, &c);
    assert_true(partition_first_index(h.p).v > 1);
    assert_false(c.running);
    append_many(&h, 100, 11);
    partition_set_commit(h.p, partition_last_index(h.p));
    assert_true(partition_compactable(h.p, &upto));
    die(&h);
    h.p = NULL;
    fault_env_free(h.env);
}

/* --- Faults --- */

static void open_and_compact(struct harness *of, int64_t upto, int64_t ms)
{
    partition_set_commit(of->p, partition_last_index(of->p));
    partition_compact(of->p, LOG_OFFSET(upto), ms);
    settle(of);
}

/* Every entry is there, as it was or as it should become. */
static int on_mixed(void *data, const struct partition_entry *e)
{
    const struct model_entry *now = &h.model[e->index.v], *was = &original[e->index.v];
    uint64_t *next = data;
    assert_int_equal(e->index.v, (*next)++);
    assert_true((e->len == now->len && memcmp(e->payload, now->payload, now->len) == 0) ||
                (e->len == was->len && memcmp(e->payload, was->payload, was->len) == 0));
    return 0;
}

static void fail_at_every_step(enum fault_restart how, int status, bool crash)
{
    struct fault_image *image;
    live(71);
    int64_t upto = closed_end(&h), ms = (int64_t)h.value * 7;
    die(&h);
    image = fault_env_save(h.env);
    (void)compact_model(&h, upto, ms);
    assert_int_equal(harness_open(&h, &err), 0);
    unsigned from = fault_env_steps(h.env);
    open_and_compact(&h, upto, ms);
    harness_check(&h);
    unsigned steps = fault_env_steps(h.env) - from;
    assert_true(steps > 20);
    die(&h);
    for (unsigned step = 1; step <= steps; step++) {
        fault_env_restore(h.env, image);
        assert_int_equal(harness_open(&h, &err), 0);
        unsigned at = fault_env_steps(h.env) + step;
        if (crash) {
            fault_env_crash_at(h.env, at);
        } else {
            fault_env_fail_at(h.env, at, status);
        }
        open_and_compact(&h, upto, ms);
        die(&h);
        fault_env_crash_at(h.env, 0);
        fault_env_fail_at(h.env, 0, 0);
        fault_env_restart(h.env, how);
        assert_int_equal(harness_open(&h, &err), 0);
        assert_int_equal(partition_last_index(h.p).v, h.last);
        uint64_t next = 1;
        assert_int_equal(partition_read(h.p, LOG_INDEX(1), UINT64_MAX, on_mixed, &next, &err), 0);
        assert_int_equal(next, h.last + 1);
        open_and_compact(&h, upto, ms);
        assert_false(is_running(&h));
        harness_check(&h);
        die(&h);
    }
    fault_image_free(image);
    h.p = NULL;
    fault_env_free(h.env);
}

static void crash__at_every_step_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    fail_at_every_step(FAULT_KILL, 0, true);
    fail_at_every_step(FAULT_LOSE_ALL, 0, true);
    fail_at_every_step(FAULT_TEAR, 0, true);
}

static void disk_error__at_every_step_costs_nothing_but_time(void **state)
{
    (void)state;
    fail_at_every_step(FAULT_LOSE_ALL, WEIR_EIO, false);
    fail_at_every_step(FAULT_LOSE_ALL, WEIR_ENOSPC, false);
}

static void hole__stops_compaction_until_it_is_mended(void **state)
{
    (void)state;
    live(81);
    int64_t upto = closed_end(&h);
    uint64_t bad = h.p->segments[1]->first_index.v;
    char path[64];
    size_t size;
    (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.log", (unsigned)bad);
    h.p->tail.first = h.p->tail.next; /* so that the disk is read */
    uint8_t *data = fault_env_data(h.env, path, &size);
    data[SEGMENT_HEADER_SIZE + FRAME_HEADER_SIZE + 30] ^= 1;
    partition_compact(h.p, LOG_OFFSET(upto), INT64_MAX);
    settle(&h);
    assert_true(is_running(&h));
    assert_true(partition_damaged(h.p));
    struct log_entry entry = {.term = LOG_TERM(h.model[bad].term),
                              .type = h.model[bad].type,
                              .payload = h.model[bad].payload,
                              .len = h.model[bad].len};
    assert_int_equal(partition_mend(h.p, LOG_INDEX(bad), &entry, 1, &err), 0);
    assert_false(partition_damaged(h.p));
    settle(&h);
    assert_false(is_running(&h));
    (void)compact_model(&h, upto, INT64_MAX);
    harness_check(&h);
    harness_close(&h);
}

static void truncation__of_what_follows_a_compacted_segment_is_no_harm(void **state)
{
    (void)state;
    live(91);
    int64_t upto = closed_end(&h);
    uint64_t first = partition_active(h.p)->first_index.v;
    die(&h);
    assert_int_equal(harness_open(&h, &err), 0);
    partition_set_commit(h.p, LOG_INDEX(first - 1));
    partition_compact(h.p, LOG_OFFSET(upto), INT64_MAX);
    settle(&h);
    assert_false(is_running(&h));
    (void)compact_model(&h, upto, INT64_MAX);
    h.no_commit = true;
    h.forgetful = true;
    assert_int_equal(harness_truncate(&h, first), 0);
    h.acked = first - 1;
    h.last_called = 0;
    append_many(&h, 30, 5);
    assert_int_equal(h.last_status, 0);
    assert_int_equal(harness_truncate(&h, first + 3), 0);
    h.last_called = 0;
    append_many(&h, 30, 6);
    harness_check(&h);
    die(&h);
    assert_int_equal(harness_open(&h, &err), 0);
    harness_check(&h);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compact__leaves_what_a_naive_model_leaves),
        cmocka_unit_test(compact__with_a_small_map_takes_more_rounds_and_ends_the_same),
        cmocka_unit_test(compact__keeps_to_its_pace_together_with_others_of_the_loop),
        cmocka_unit_test(replicas__that_act_at_other_times_and_have_other_segments_end_equal),
        cmocka_unit_test(ranges__may_be_compared_when_both_are_as_far_as_their_equal_marks),
        cmocka_unit_test(a_mark_before_its_entries__closes_the_last_segment_when_they_have_come),
        cmocka_unit_test(fetch__inside_what_was_removed_gives_the_next_record),
        cmocka_unit_test(producers__are_the_same_from_a_compacted_log),
        cmocka_unit_test(offset_for_time__is_the_same_as_before),
        cmocka_unit_test(control__that_was_appended_acts_when_it_is_committed),
        cmocka_unit_test(compactable__when_half_of_what_is_closed_is_new),
        cmocka_unit_test(retention__of_all_that_was_compacted_leaves_nothing_to_wait_for),
        cmocka_unit_test(crash__at_every_step_leaves_the_old_or_the_new),
        cmocka_unit_test(disk_error__at_every_step_costs_nothing_but_time),
        cmocka_unit_test(hole__stops_compaction_until_it_is_mended),
        cmocka_unit_test(truncation__of_what_follows_a_compacted_segment_is_no_harm),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
