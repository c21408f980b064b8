#include "damage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define BATCH_MAX  32
#define ROUNDS_MAX 2000

static struct error err;

static void close_partition(struct harness *h)
{
    partition_close(h->p);
    h->p = NULL;
    harness_run(h);
}

struct fault_image *damage_image(struct harness *h, bool clean)
{
    harness_init(h, 5, 0);
    assert_int_equal(harness_open(h, &err), 0);
    harness_append_some(h, 30, 1);
    h->term++;
    harness_append_some(h, 14, 2);
    assert_int_equal(harness_set_term(h, 3), 0);
    assert_int_equal(harness_set_term(h, 4), 0);
    fault_env_advance(h->env, 200000);
    harness_run(h);
    if (clean) {
        close_partition(h);
        return fault_env_save(h->env);
    }
    struct fault_image *image = fault_env_save(h->env);
    close_partition(h);
    return image;
}

const char *damage_segment(struct harness *h, unsigned n)
{
    static char path[64];
    for (unsigned i = 1; i <= h->last; i++) {
        size_t size;
        (void)snprintf(path, sizeof(path), HARNESS_DIR "/%020u.log", i);
        if (fault_env_data(h->env, path, &size) != NULL && n-- == 0) {
            return path;
        }
    }
    return NULL;
}

const char *damage_last_segment(struct harness *h)
{
    unsigned n = 0;
    while (damage_segment(h, n) != NULL) {
        n++;
    }
    return damage_segment(h, n - 1);
}

int damage_mend_some(struct harness *h, unsigned batch, struct error *ret_err)
{
    struct partition_hole hole;
    struct log_entry entries[BATCH_MAX];
    if (partition_damage(h->p, &hole, 1) == 0) {
        return 1;
    }
    unsigned n = 0;
    for (uint64_t i = hole.first.v; i <= hole.last.v && n < batch && n < BATCH_MAX; i++) {
        const struct model_entry *e = &h->model[i];
        entries[n++] = (struct log_entry){
            .term = LOG_TERM(e->term), .type = e->type, .payload = e->payload, .len = e->len};
    }
    if (hole.anchor.v != 0) {
        assert_true(hole.anchor.v >= hole.last.v);
        assert_int_equal(hole.anchor_term.v, h->model[hole.anchor.v].term);
    }
    return partition_mend(h->p, hole.first, entries, n, ret_err);
}

unsigned damage_mend_all(struct harness *h, unsigned batch)
{
    unsigned met = 0;
    for (unsigned i = 0; i < ROUNDS_MAX; i++) {
        int rc = damage_mend_some(h, batch, &err);
        rc = rc == WEIR_EBUSY ? 0 : rc; /* one more was found meanwhile */
        if (rc < 0) {
            print_message("mend: %d %s\n", rc, err.text);
        }
        assert_true(rc >= 0);
        met += rc == 0;
        if (rc == 1) {
            rc = harness_read_all(h, &err);
            if (rc == 0) {
                return met;
            }
            if (rc != WEIR_ECORRUPT || !partition_damaged(h->p)) {
                print_message("read: %d %s\n", rc, err.text);
            }
            assert_int_equal(rc, WEIR_ECORRUPT);
            assert_true(partition_damaged(h->p));
        }
    }
    fail_msg("mending does not end");
    return met;
}

void damage_survives(struct harness *h, unsigned batch, const char *what, size_t at)
{
    struct partition_meta meta;
    int rc = harness_open(h, &err);
    if (rc != 0) {
        print_message("%s: byte %zu: %d %s\n", what, at, rc, err.text);
    }
    assert_int_equal(rc, 0);
    uint64_t last = partition_last_index(h->p).v;
    partition_meta(h->p, &meta);
    if (!meta.recovering && (last != h->last || meta.term.v != h->meta_term)) {
        print_message("%s: byte %zu: silently lost\n", what, at);
    }
    if (!meta.recovering) {
        assert_int_equal(last, h->last);
        assert_int_equal(meta.term.v, h->meta_term);
    }
    assert_true(last <= h->last);
    bool recovering = meta.recovering;
    (void)damage_mend_all(h, batch);
    close_partition(h);
    assert_int_equal(harness_open(h, &err), 0);
    assert_false(partition_damaged(h->p));
    assert_int_equal(harness_read_all(h, &err), 0);
    assert_int_equal(partition_last_index(h->p).v, last);
    partition_meta(h->p, &meta);
    assert_int_equal(meta.recovering, recovering);
    close_partition(h);
}
