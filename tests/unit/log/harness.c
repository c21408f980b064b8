#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "log/batch.h"
#include "log/state.h"

/* Not allocated each time: tests that try every step make thousands. */
static struct model_entry models[2][MODEL_MAX + 1];

void harness_init(struct harness *h, uint64_t seed, unsigned number)
{
    memset(h, 0, sizeof(*h));
    h->number = number;
    h->env = fault_env_new(seed);
    h->model = models[h->number];
    h->term = 1;
    h->options = (struct partition_options){
        .segment_bytes = 16384, .tail_bytes = 1 << 20, .index_bytes = 1024};
}

void harness_close(struct harness *h)
{
    partition_close(h->p);
    fault_env_run(h->env);
    fault_env_free(h->env);
}

int harness_open(struct harness *h, struct error *err)
{
    int rc = partition_open(h->env, HARNESS_DIR, &h->options, &h->p, err);
    if (rc != 0) {
        h->p = NULL;
    }
    return rc;
}

static void on_append(struct partition_append *req, int status)
{
    struct pending *pending = req->data;
    struct harness *h = pending->h;
    pending->in_use = false;
    h->n_callbacks++;
    h->last_status = status;
    if (status == 0) {
        assert_true(req->first.v > h->last_called);
        assert_true(req->first.v <= partition_durable_index(h->p).v);
        h->acked = h->last_called = req->first.v + req->n - 1;
    } else {
        h->n_errors++;
    }
}

/* The model's slot for the next entry. */
static struct model_entry *next_slot(struct harness *h)
{
    h->last++;
    assert_true(h->last <= MODEL_MAX);
    return &h->model[h->last];
}

/* Appends the newest n entries of the model. */
static void append_newest(struct harness *h, unsigned n)
{
    struct pending *pending = h->pending;
    while (pending->in_use) {
        pending++;
        assert_true(pending < h->pending + 64);
    }
    *pending = (struct pending){.h = h, .in_use = true};
    for (unsigned i = 0; i < n; i++) {
        const struct model_entry *e = &h->model[h->last - n + 1 + i];
        pending->entries[i] = (struct log_entry){
            .term = LOG_TERM(e->term), .type = e->type, .payload = e->payload, .len = e->len};
    }
    pending->req.data = pending;
    pending->req.entries = pending->entries;
    pending->req.n = n;
    unsigned before = h->n_callbacks;
    partition_append(h->p, &pending->req, on_append);
    assert_int_equal(h->n_callbacks, before); /* never from inside */
    assert_int_equal(pending->req.first.v, h->last - n + 1);
}

/* A batch for `base` into *e; false when a test let memory run out. */
static bool build_batch(struct harness *h, unsigned records, uint32_t bytes, int64_t base,
                        struct model_entry *e)
{
    struct bytes out;
    struct batch_builder b;
    static uint8_t value[PAYLOAD_MAX];
    bytes_init(&out, PAYLOAD_MAX);
    batch_begin(&b, &out, 0);
    for (unsigned i = 0; i < records; i++) {
        memset(value, (int)(++h->value % 251), sizeof(value));
        batch_add(&b, 0, "k", 1, value, bytes / records);
    }
    if (!h->plain) { /* any numbers: what is in the log is true */
        b.producer = (struct batch_producer){.id = (int64_t)(h->value % 11),
                                             .epoch = (int16_t)(h->value / 40),
                                             .sequence = (int32_t)h->value};
    }
    int n = batch_finish(&b);
    if (n > 0) {
        batch_stamp(out.data, LOG_OFFSET(base), LOG_TERM(h->term), (int64_t)h->value * 10);
        e->term = h->term;
        e->type = LOG_ENTRY_BATCH;
        e->len = (uint32_t)n;
        memcpy(e->payload, out.data, out.len);
    }
    bytes_close(&out);
    return n > 0;
}

void harness_append(struct harness *h, unsigned records, uint32_t bytes)
{
    static struct model_entry e;
    if (build_batch(h, records, bytes, partition_end_offset(h->p).v, &e)) {
        h->last = partition_last_index(h->p).v;
        *next_slot(h) = e;
        append_newest(h, 1);
    }
}

void harness_append_group(struct harness *h, unsigned n, uint32_t bytes)
{
    int64_t base = partition_end_offset(h->p).v;
    h->last = partition_last_index(h->p).v;
    for (unsigned i = 0; i < n; i++) {
        struct model_entry *e = next_slot(h);
        if (i % 3 == 1) {
            *e = (struct model_entry){.term = h->term, .type = LOG_ENTRY_BARRIER};
        } else if (build_batch(h, i + 1, bytes, base, e)) {
            base += i + 1;
        }
    }
    append_newest(h, n);
}

void harness_append_type(struct harness *h, enum log_entry_type type)
{
    struct model_entry e = {.term = h->term, .type = type};
    if (type == LOG_ENTRY_CONFIG) {
        e.len = (uint32_t)snprintf((char *)e.payload, sizeof(e.payload), "configuration %llu",
                                   (unsigned long long)++h->value);
    }
    h->last = partition_last_index(h->p).v;
    *next_slot(h) = e;
    append_newest(h, 1);
}

void harness_append_raw(struct harness *h, uint64_t term, enum log_entry_type type,
                        const void *payload, uint32_t len)
{
    static struct model_entry e;
    e = (struct model_entry){.term = term, .type = type, .len = len};
    assert_true(len <= PAYLOAD_MAX);
    memcpy(e.payload, payload, len);
    h->last = partition_last_index(h->p).v;
    *next_slot(h) = e;
    append_newest(h, 1);
}

void harness_run(struct harness *h)
{
    fault_env_run(h->env);
}

int harness_truncate(struct harness *h, uint64_t from)
{
    struct error err;
    if (h->acked >= from) {
        h->acked = from - 1; /* from now on it may be there or not */
    }
    int rc = partition_truncate(h->p, LOG_INDEX(from), &err);
    if (rc == 0) {
        h->last = from - 1;
        h->last_called = h->last_called < from ? h->last_called : from - 1;
        assert_int_equal(partition_last_index(h->p).v, from - 1);
    }
    return rc;
}

int harness_reset(struct harness *h, const struct partition_begin *to)
{
    struct error err;
    static const char config[] = "snapshot at reset";
    h->acked = 0; /* from now on they may be there or not */
    int rc = partition_reset(h->p, to, config, sizeof(config), &err);
    if (rc == 0) {
        h->was_reset = true;
        h->last = h->acked = h->last_called = to->first_index.v - 1;
        assert_int_equal(partition_last_index(h->p).v, h->last);
    }
    return rc;
}

int harness_set_term(struct harness *h, uint64_t term)
{
    char config[32];
    struct error err;
    int n = snprintf(config, sizeof(config), "snapshot at %llu", (unsigned long long)term);
    struct partition_meta meta = {
        .term = LOG_TERM(term),
        .vote = term % 3 + 1,
        .snapshot_config = config,
        .snapshot_config_len = (uint32_t)n,
    };
    h->meta_tried = term;
    int rc = partition_set_meta(h->p, &meta, &err);
    h->meta_term = rc == 0 ? term : h->meta_term;
    return rc;
}

void harness_append_some(struct harness *h, unsigned n, unsigned seed)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned v = seed * 31 + i * 7;
        if (v % 9 == 0) {
            harness_append_type(h, v % 2 == 0 ? LOG_ENTRY_CONFIG : LOG_ENTRY_BARRIER);
        } else {
            harness_append(h, 1 + v % 3, 50 + v * 97 % 1900);
        }
        if (v % 4 == 0) {
            harness_run(h);
        }
    }
    harness_run(h);
}

void harness_live(struct harness *h, unsigned seed)
{
    for (unsigned round = 0; round < 3; round++) {
        harness_append_some(h, 14, seed + round);
        fault_env_advance(h->env, 60000); /* the mark */
        if (partition_failed(h->p) || harness_set_term(h, h->meta_tried + 1) != 0) {
            return;
        }
        h->term++;
        uint64_t last = partition_last_index(h->p).v, cut = round == 1 ? 20 : 3;
        /* At one time a little, at another a whole segment or more. */
        if (last <= cut || harness_truncate(h, last - cut) != 0) {
            return;
        }
    }
    harness_append_some(h, 6, seed);
}

struct reading {
    struct harness *h;
    uint64_t next;
};

static int on_entry(void *data, const struct partition_entry *entry)
{
    struct reading *r = data;
    const struct model_entry *e = &r->h->model[r->next];
    assert_int_equal(entry->index.v, r->next);
    assert_int_equal(entry->term.v, e->term);
    assert_int_equal(entry->type, e->type);
    assert_int_equal(entry->len, e->len);
    assert_memory_equal(entry->payload, e->payload, e->len);
    r->next++;
    return 0;
}

static int check_by_index(struct harness *h)
{
    uint64_t last = partition_last_index(h->p).v;
    struct partition_begin begin;
    partition_begin(h->p, &begin);
    uint64_t config = begin.config_index.v;
    for (uint64_t i = begin.first_index.v; i <= last; i++) {
        struct log_term term;
        enum log_entry_type type;
        int rc = partition_term_at(h->p, LOG_INDEX(i), &term);
        rc = rc == 0 ? partition_type_at(h->p, LOG_INDEX(i), &type) : rc;
        if (rc != 0) {
            return rc;
        }
        assert_int_equal(term.v, h->model[i].term);
        assert_int_equal(type, h->model[i].type);
        config = type == LOG_ENTRY_CONFIG ? i : config;
        assert_int_equal(partition_config_index(h->p, LOG_INDEX(i)).v, config);
    }
    struct log_term term;
    assert_int_equal(partition_term_at(h->p, LOG_INDEX(last + 1), &term), WEIR_ENOTFOUND);
    return 0;
}

/* The first kept entry that is a batch with records at or above `offset`. */
static uint64_t index_of_offset(struct harness *h, int64_t offset)
{
    struct batch_info info;
    uint64_t i = partition_first_index(h->p).v;
    while (i <= h->last && (h->model[i].type != LOG_ENTRY_BATCH ||
                            batch_parse(h->model[i].payload, h->model[i].len, &info, NULL) != 0 ||
                            info.base_offset.v + info.last_offset_delta < offset)) {
        i++;
    }
    return i;
}

/* All batches through fetch, against the model's. */
static int check_by_offset(struct harness *h, struct error *err)
{
    struct bytes out;
    struct log_offset next = partition_start_offset(h->p);
    int rc = 0;
    bytes_init(&out, 1 << 20);
    partition_set_commit(h->p, partition_last_index(h->p));
    next = partition_start_offset(h->p);
    uint64_t index = index_of_offset(h, next.v);
    while (rc == 0 && next.v < partition_high_watermark(h->p).v) {
        bytes_reset(&out);
        rc = partition_fetch(h->p, next, 5000, &out, &next, err);
        for (size_t at = 0; rc == 0 && at < out.len;) {
            while (h->model[index].type != LOG_ENTRY_BATCH) {
                index++;
            }
            assert_true(out.len - at >= h->model[index].len);
            assert_memory_equal(out.data + at, h->model[index].payload, h->model[index].len);
            at += h->model[index++].len;
        }
    }
    bytes_close(&out);
    return rc;
}

int harness_read_all(struct harness *h, struct error *err)
{
    struct reading r = {h, partition_first_index(h->p).v};
    uint64_t last = partition_last_index(h->p).v;
    int rc = 0;
    while (rc == 0 && r.next <= last) {
        rc = partition_read(h->p, LOG_INDEX(r.next), 3000, on_entry, &r, err);
    }
    rc = rc == 0 ? check_by_index(h) : rc;
    return rc == 0 && !h->no_commit ? check_by_offset(h, err) : rc;
}

/* The state is that of the model's entries. */
static void check_state(struct harness *h)
{
    struct log_state state;
    struct bytes expected, found;
    log_state_init(&state);
    bytes_init(&expected, STATE_BYTES_MAX);
    bytes_init(&found, STATE_BYTES_MAX);
    uint64_t first = 1;
    if (h->was_reset) { /* without a state: what was before the log's begin is not known */
        struct partition_begin begin;
        partition_begin(h->p, &begin);
        first = begin.first_index.v;
        producers_forget(&state.producers, begin.time_ms);
    }
    for (uint64_t i = first; i <= partition_last_index(h->p).v; i++) {
        const struct model_entry *e = &h->model[i];
        uint32_t need = 0;
        assert_int_equal(log_state_reserve(&state, e->type, e->payload, &need), 0);
        log_state_fold(&state, LOG_INDEX(i), LOG_TERM(e->term), e->type, e->payload);
    }
    producers_encode(&state.producers, &expected);
    producers_encode(partition_producers(h->p), &found);
    assert_int_equal(expected.len, found.len);
    assert_memory_equal(expected.data, found.data, found.len);
    bytes_close(&expected);
    bytes_close(&found);
    log_state_close(&state);
}

void harness_check(struct harness *h)
{
    struct error err = {0};
    uint64_t last = partition_last_index(h->p).v;
    assert_true(last >= h->acked && last <= h->last);
    int rc = harness_read_all(h, &err);
    if (rc != 0) {
        print_message("read: %d %s\n", rc, err.text);
    }
    assert_int_equal(rc, 0);
    if (!h->forgetful) {
        check_state(h);
    }
    struct partition_meta meta;
    partition_meta(h->p, &meta);
    assert_true(meta.term.v == h->meta_term || meta.term.v == h->meta_tried);
    if (meta.term.v != 0) {
        assert_int_equal(meta.vote, meta.term.v % 3 + 1);
        assert_memory_equal(meta.snapshot_config, "snapshot at ", 12);
    }
}

void harness_adopt(struct harness *h)
{
    struct partition_meta meta;
    h->last = partition_last_index(h->p).v;
    h->acked = h->last_called = h->last;
    partition_meta(h->p, &meta);
    h->meta_term = h->meta_tried = meta.term.v;
    for (unsigned i = 0; i < 64; i++) {
        h->pending[i].in_use = false;
    }
}
