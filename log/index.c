#include "log/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define INDEX_MAGIC       "WEIRIDX1"
#define INDEX_VERSION     1
#define INDEX_HEADER_SIZE 48
#define POSITION_SIZE     32
#define RUN_SIZE          24

void index_init(struct index *x, uint32_t every_bytes)
{
    *x = (struct index){.every_bytes = every_bytes};
}

void index_close(struct index *x)
{
    free(x->positions);
    free(x->runs);
    index_init(x, x->every_bytes);
}

/* Grows *array so that it holds n + more elements. */
static int grow(void **array, uint32_t *cap, uint32_t n, unsigned more, size_t size)
{
    if (more > UINT32_MAX / 2 - n) {
        return WEIR_ENOMEM;
    }
    if (n + more <= *cap) {
        return 0;
    }
    uint32_t want = *cap * 2 > n + more ? *cap * 2 : n + more;
    void *p = realloc(*array, want * size);
    if (p == NULL) {
        return WEIR_ENOMEM;
    }
    *array = p;
    *cap = want;
    return 0;
}

int index_reserve(struct index *x, unsigned n)
{
    void *positions = x->positions, *runs = x->runs;
    int rc = grow(&positions, &x->cap_positions, x->n_positions, n, sizeof(*x->positions));
    x->positions = positions;
    if (rc == 0) {
        rc = grow(&runs, &x->cap_runs, x->n_runs, n, sizeof(*x->runs));
        x->runs = runs;
    }
    return rc;
}

void index_add(struct index *x, const struct frame *f, uint64_t at, int64_t time_ms)
{
    const struct index_position *last =
        x->n_positions > 0 ? &x->positions[x->n_positions - 1] : NULL;
    if (last == NULL || at - last->at >= x->every_bytes) {
        assert(x->positions != NULL && x->n_positions < x->cap_positions);
        x->positions[x->n_positions++] = (struct index_position){
            .index = f->index.v,
            .offset = f->base_offset.v,
            .time_ms = time_ms,
            .at = at,
        };
    }
    const struct index_run *run = x->n_runs > 0 ? &x->runs[x->n_runs - 1] : NULL;
    if (run == NULL || run->term != f->term.v || run->type != (uint32_t)f->type) {
        assert(x->runs != NULL && x->n_runs < x->cap_runs);
        x->runs[x->n_runs++] = (struct index_run){
            .first = f->index.v,
            .term = f->term.v,
            .type = (uint32_t)f->type,
        };
    }
}

void index_cut(struct index *x, uint64_t from)
{
    while (x->n_positions > 0 && x->positions[x->n_positions - 1].index >= from) {
        x->n_positions--;
    }
    while (x->n_runs > 0 && x->runs[x->n_runs - 1].first >= from) {
        x->n_runs--;
    }
}

/* Elements of a sorted array up to `n` that satisfy `before` come first; counts them. */
#define COUNT_BEFORE(n, before)                                                                    \
    uint32_t lo = 0, hi = (n);                                                                     \
    while (lo < hi) {                                                                              \
        uint32_t mid = lo + (hi - lo) / 2;                                                         \
        if (before) {                                                                              \
            lo = mid + 1;                                                                          \
        } else {                                                                                   \
            hi = mid;                                                                              \
        }                                                                                          \
    }

static const struct index_position *nth_position(const struct index *x, uint32_t count)
{
    if (x->n_positions == 0) {
        return NULL;
    }
    return &x->positions[count > 0 ? count - 1 : 0];
}

const struct index_position *index_by_index(const struct index *x, uint64_t index)
{
    COUNT_BEFORE(x->n_positions, x->positions[mid].index <= index)
    return nth_position(x, lo);
}

const struct index_position *index_by_offset(const struct index *x, int64_t offset)
{
    /* Entries without offsets share theirs with the batch that follows: from the first of them on
     * is right too. */
    COUNT_BEFORE(x->n_positions, x->positions[mid].offset <= offset)
    return nth_position(x, lo);
}

const struct index_position *index_by_time(const struct index *x, int64_t time_ms)
{
    COUNT_BEFORE(x->n_positions, x->positions[mid].time_ms < time_ms)
    return nth_position(x, lo);
}

const struct index_run *index_run_at(const struct index *x, uint64_t index)
{
    COUNT_BEFORE(x->n_runs, x->runs[mid].first <= index)
    return lo > 0 ? &x->runs[lo - 1] : NULL;
}

uint64_t index_last_config(const struct index *x, uint64_t upto, uint64_t last)
{
    for (uint32_t i = x->n_runs; i-- > 0;) {
        const struct index_run *run = &x->runs[i];
        uint64_t end = i + 1 < x->n_runs ? x->runs[i + 1].first - 1 : last;
        if (run->type == LOG_ENTRY_CONFIG && run->first <= upto) {
            return end < upto ? end : upto;
        }
    }
    return 0;
}

/* Run number `i` becomes this one, the others move up. */
static void insert_run(struct index *x, uint32_t i, struct index_run run)
{
    assert(x->n_runs < x->cap_runs);
    memmove(&x->runs[i + 1], &x->runs[i], (x->n_runs - i) * sizeof(run));
    x->runs[i] = run;
    x->n_runs++;
}

static void mend_runs(struct index *x, const struct frame *f)
{
    const struct index_run *old = index_run_at(x, f->index.v);
    struct index_run run = {f->index.v, f->term.v, (uint32_t)f->type};
    uint32_t i = old == NULL ? 0 : (uint32_t)(old - x->runs);
    if (old != NULL && old->term == run.term && old->type == run.type) {
        return;
    }
    struct index_run rest = old != NULL ? *old : run;
    if (old != NULL && old->first == f->index.v) {
        x->runs[i] = run;
    } else {
        i += old != NULL;
        insert_run(x, i, run);
    }
    rest.first = f->index.v + 1; /* what stood for this entry goes on behind it */
    if (old != NULL && (i + 1 == x->n_runs || x->runs[i + 1].first > rest.first)) {
        insert_run(x, i + 1, rest);
    }
}

void index_mend(struct index *x, const struct frame *f, uint64_t at, int64_t time_ms)
{
    mend_runs(x, f);
    COUNT_BEFORE(x->n_positions, x->positions[mid].index <= f->index.v)
    const struct index_position *before = lo > 0 ? &x->positions[lo - 1] : NULL;
    if (before != NULL && (before->index == f->index.v || at - before->at < x->every_bytes)) {
        return;
    }
    assert(x->n_positions < x->cap_positions);
    memmove(&x->positions[lo + 1], &x->positions[lo],
            (x->n_positions - lo) * sizeof(*x->positions));
    x->positions[lo] = (struct index_position){
        .index = f->index.v,
        .offset = f->base_offset.v,
        .time_ms = before != NULL && before->time_ms > time_ms ? before->time_ms : time_ms,
        .at = at,
    };
    x->n_positions++;
}

void index_encode(const struct index *x, uint64_t first, uint64_t salt, uint64_t end,
                  struct bytes *out)
{
    size_t start = out->len;
    bytes_put(out, INDEX_MAGIC, 8);
    bytes_put_le32(out, 0);
    bytes_put_le32(out, INDEX_VERSION);
    bytes_put_le64(out, first);
    bytes_put_le64(out, salt);
    bytes_put_le64(out, end);
    bytes_put_le32(out, x->n_positions);
    bytes_put_le32(out, x->n_runs);
    for (uint32_t i = 0; i < x->n_positions; i++) {
        bytes_put_le64(out, x->positions[i].index);
        bytes_put_le64(out, (uint64_t)x->positions[i].offset);
        bytes_put_le64(out, (uint64_t)x->positions[i].time_ms);
        bytes_put_le64(out, x->positions[i].at);
    }
    for (uint32_t i = 0; i < x->n_runs; i++) {
        bytes_put_le64(out, x->runs[i].first);
        bytes_put_le64(out, x->runs[i].term);
        bytes_put_le32(out, x->runs[i].type);
        bytes_put_le32(out, 0);
    }
    if (bytes_error(out) == 0) {
        uint8_t *p = out->data + start;
        store_le32(p + 8, crc32c(0, p + 12, out->len - start - 12));
    }
}

int index_decode(struct index *x, const void *data, size_t n, uint64_t first, uint64_t salt,
                 uint64_t end)
{
    const uint8_t *p = data;
    if (n < INDEX_HEADER_SIZE || memcmp(p, INDEX_MAGIC, 8) != 0 ||
        load_le32(p + 8) != crc32c(0, p + 12, n - 12) || load_le32(p + 12) != INDEX_VERSION ||
        load_le64(p + 16) != first || load_le64(p + 24) != salt || load_le64(p + 32) != end) {
        return WEIR_ECORRUPT;
    }
    uint32_t n_positions = load_le32(p + 40), n_runs = load_le32(p + 44);
    if (n - INDEX_HEADER_SIZE !=
        (uint64_t)n_positions * POSITION_SIZE + (uint64_t)n_runs * RUN_SIZE) {
        return WEIR_ECORRUPT;
    }
    int rc = index_reserve(x, n_positions > n_runs ? n_positions : n_runs);
    if (rc != 0) {
        return rc;
    }
    p += INDEX_HEADER_SIZE;
    for (uint32_t i = 0; i < n_positions; i++, p += POSITION_SIZE) {
        x->positions[i] = (struct index_position){
            .index = load_le64(p),
            .offset = (int64_t)load_le64(p + 8),
            .time_ms = (int64_t)load_le64(p + 16),
            .at = load_le64(p + 24),
        };
    }
    for (uint32_t i = 0; i < n_runs; i++, p += RUN_SIZE) {
        x->runs[i] = (struct index_run){
            .first = load_le64(p),
            .term = load_le64(p + 8),
            .type = load_le32(p + 16),
        };
    }
    x->n_positions = n_positions;
    x->n_runs = n_runs;
    return 0;
}
