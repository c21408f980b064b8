#include "log/producers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE     UINT32_MAX
#define CAP_MIN  8u
#define SEQUENCE 0x7fffffffu /* sequences are numbers of 31 bits */

struct numbered {
    uint32_t sequence; /* of its first record */
    uint32_t records;
    int64_t base;
};

struct producer {
    int64_t id, append_ms;
    uint32_t next, older, newer; /* chain of the bucket; list by last append */
    int16_t epoch;
    uint16_t n_batches;
    struct numbered batches[PRODUCER_BATCHES]; /* oldest first */
};

#define ENCODED_PRODUCER 24u
#define ENCODED_BATCH    16u

void producers_init(struct producers *t)
{
    *t = (struct producers){.oldest = NONE, .newest = NONE, .forgotten_ms = INT64_MIN};
}

void producers_close(struct producers *t)
{
    free(t->all);
    free(t->buckets);
    producers_init(t);
}

static bool is_numbered(const struct batch_producer *b)
{
    return b->id >= 0 && b->epoch >= 0 && b->sequence >= 0;
}

/* --- Where a producer is --- */

static uint32_t *bucket_of(const struct producers *t, int64_t id)
{
    return &t->buckets[((uint64_t)id * 0x9e3779b97f4a7c15u >> 32) & (t->n_buckets - 1)];
}

static struct producer *find(const struct producers *t, int64_t id)
{
    for (uint32_t i = t->n > 0 ? *bucket_of(t, id) : NONE; i != NONE; i = t->all[i].next) {
        if (t->all[i].id == id) {
            return &t->all[i];
        }
    }
    return NULL;
}

static uint32_t slot_of(const struct producers *t, const struct producer *p)
{
    return (uint32_t)(p - t->all);
}

static uint32_t *chain_to(struct producers *t, uint32_t slot)
{
    uint32_t *at = bucket_of(t, t->all[slot].id);
    while (*at != slot) {
        at = &t->all[*at].next;
    }
    return at;
}

static void list_take(struct producers *t, const struct producer *p)
{
    *(p->older != NONE ? &t->all[p->older].newer : &t->oldest) = p->newer;
    *(p->newer != NONE ? &t->all[p->newer].older : &t->newest) = p->older;
}

static void list_add(struct producers *t, struct producer *p)
{
    uint32_t slot = slot_of(t, p);
    p->older = t->newest;
    p->newer = NONE;
    *(t->newest != NONE ? &t->all[t->newest].newer : &t->oldest) = slot;
    t->newest = slot;
}

/* Frees the slot; the last one moves into it. */
static void remove_slot(struct producers *t, uint32_t slot)
{
    uint32_t last = t->n - 1;
    list_take(t, &t->all[slot]);
    *chain_to(t, slot) = t->all[slot].next;
    if (slot != last) {
        struct producer *moved = &t->all[last];
        *chain_to(t, last) = slot;
        *(moved->older != NONE ? &t->all[moved->older].newer : &t->oldest) = slot;
        *(moved->newer != NONE ? &t->all[moved->newer].older : &t->newest) = slot;
        t->all[slot] = *moved;
    }
    t->n--;
}

static void forget_oldest(struct producers *t)
{
    const struct producer *p = &t->all[t->oldest];
    if (p->append_ms > t->forgotten_ms) {
        t->forgotten_ms = p->append_ms;
    }
    remove_slot(t, t->oldest);
}

static struct producer *add_slot(struct producers *t, int64_t id)
{
    assert(t->n < t->cap);
    struct producer *p = &t->all[t->n];
    uint32_t *bucket = bucket_of(t, id);
    *p = (struct producer){.id = id, .next = *bucket};
    *bucket = t->n++;
    list_add(t, p);
    return p;
}

int producers_reserve(struct producers *t, uint32_t n)
{
    uint32_t want = n < PRODUCERS_MAX - t->n ? t->n + n : PRODUCERS_MAX, cap = t->cap;
    if (want <= cap) {
        return 0;
    }
    for (cap = cap < CAP_MIN ? CAP_MIN : cap; cap < want;) {
        cap *= 2;
    }
    struct producer *all = realloc(t->all, cap * sizeof(*all));
    if (all == NULL) {
        return WEIR_ENOMEM;
    }
    t->all = all;
    uint32_t *buckets = realloc(t->buckets, cap * 2 * sizeof(*buckets));
    if (buckets == NULL) {
        return WEIR_ENOMEM;
    }
    t->buckets = buckets;
    t->cap = cap;
    t->n_buckets = cap * 2;
    memset(buckets, 0xff, t->n_buckets * sizeof(*buckets)); /* NONE */
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t *bucket = bucket_of(t, all[i].id);
        all[i].next = *bucket;
        *bucket = i;
    }
    return 0;
}

void producers_forget(struct producers *t, int64_t upto_ms)
{
    t->n = 0;
    t->oldest = t->newest = NONE;
    if (t->n_buckets > 0) {
        memset(t->buckets, 0xff, t->n_buckets * sizeof(*t->buckets));
    }
    t->forgotten_ms = upto_ms;
}

int producers_copy(struct producers *to, const struct producers *from)
{
    struct producers copy;
    producers_init(&copy);
    if (producers_reserve(&copy, from->n) != 0) {
        producers_close(&copy);
        return WEIR_ENOMEM;
    }
    copy.forgotten_ms = from->forgotten_ms;
    for (uint32_t i = from->oldest; i != NONE; i = from->all[i].newer) {
        const struct producer *p = &from->all[i];
        struct producer *q = add_slot(&copy, p->id);
        q->append_ms = p->append_ms;
        q->epoch = p->epoch;
        q->n_batches = p->n_batches;
        memcpy(q->batches, p->batches, sizeof(q->batches));
    }
    producers_close(to);
    *to = copy;
    return 0;
}

/* --- The rules --- */

static uint32_t behind(const struct numbered *b)
{
    return (b->sequence + b->records) & SEQUENCE;
}

static uint32_t next_sequence(const struct producer *p)
{
    return p->n_batches > 0 ? behind(&p->batches[p->n_batches - 1]) : 0;
}

/* A numbering begins. If an earlier copy was stored by a producer that is forgotten since, nobody
 * could tell: then it is better not to begin. */
static int check_first(const struct producers *t, const struct batch_producer *b, int64_t now_ms,
                       uint64_t age_ms)
{
    if (b->sequence != 0) {
        return WEIR_ESEQUENCE;
    }
    if (age_ms == 0 || t->forgotten_ms == INT64_MIN) {
        return 0;
    }
    uint64_t reach = age_ms > INT64_MAX / 2 ? INT64_MAX / 2 : age_ms + PRODUCER_SLACK_MS;
    return t->forgotten_ms >= now_ms - (int64_t)reach ? WEIR_ESEQUENCE : 0;
}

int producers_check(const struct producers *t, const struct batch_producer *b, int64_t now_ms,
                    uint64_t age_ms, struct log_offset *ret_base)
{
    if (!is_numbered(b)) {
        return 0;
    }
    const struct producer *p = find(t, b->id);
    if (p == NULL) {
        return check_first(t, b, now_ms, age_ms);
    }
    if (b->epoch < p->epoch) {
        return WEIR_EFENCED;
    }
    if (b->epoch > p->epoch) {
        return b->sequence == 0 ? 0 : WEIR_ESEQUENCE;
    }
    for (unsigned i = p->n_batches; i-- > 0;) {
        const struct numbered *known = &p->batches[i];
        if (known->sequence == (uint32_t)b->sequence && known->records == b->records) {
            *ret_base = LOG_OFFSET(known->base);
            return 1;
        }
    }
    return (uint32_t)b->sequence == next_sequence(p) ? 0 : WEIR_ESEQUENCE;
}

bool producers_unknown(const struct producers *t, const struct batch_producer *b)
{
    return is_numbered(b) && find(t, b->id) == NULL;
}

/* The producer, made if need be, as the one that wrote last. */
static struct producer *touch(struct producers *t, int64_t id, int64_t append_ms)
{
    while (t->n > 0 && t->all[t->oldest].append_ms < append_ms - PRODUCER_EXPIRY_MS &&
           t->all[t->oldest].id != id) {
        forget_oldest(t);
    }
    struct producer *p = find(t, id);
    if (p == NULL) {
        if (t->n == PRODUCERS_MAX) {
            forget_oldest(t);
        }
        p = add_slot(t, id);
    } else if (p->newer != NONE) {
        list_take(t, p);
        list_add(t, p);
    }
    p->append_ms = append_ms;
    return p;
}

void producers_add(struct producers *t, const struct batch_producer *b, struct log_offset base,
                   int64_t append_ms)
{
    if (!is_numbered(b)) {
        return;
    }
    struct producer *p = touch(t, b->id, append_ms);
    if (p->epoch != b->epoch) {
        p->epoch = b->epoch;
        p->n_batches = 0;
    }
    if (p->n_batches == PRODUCER_BATCHES) {
        memmove(p->batches, p->batches + 1, (PRODUCER_BATCHES - 1) * sizeof(p->batches[0]));
        p->n_batches--;
    }
    p->batches[p->n_batches++] = (struct numbered){(uint32_t)b->sequence, b->records, base.v};
}

void producers_fence(struct producers *t, int64_t id, int16_t epoch, int64_t append_ms)
{
    struct producer *p = touch(t, id, append_ms);
    if (p->epoch < epoch) {
        p->epoch = epoch;
        p->n_batches = 0;
    }
}

/* --- Bytes --- */

void producers_encode(const struct producers *t, struct bytes *out)
{
    bytes_put_le64(out, (uint64_t)t->forgotten_ms);
    bytes_put_le32(out, t->n);
    bytes_put_le32(out, 0);
    for (uint32_t i = t->oldest; i != NONE; i = t->all[i].newer) {
        const struct producer *p = &t->all[i];
        uint8_t *at = bytes_reserve(out, ENCODED_PRODUCER + p->n_batches * ENCODED_BATCH);
        if (at == NULL) {
            return;
        }
        store_le64(at, (uint64_t)p->id);
        store_le64(at + 8, (uint64_t)p->append_ms);
        store_le16(at + 16, (uint16_t)p->epoch);
        store_le16(at + 18, p->n_batches);
        store_le32(at + 20, 0);
        at += ENCODED_PRODUCER;
        for (unsigned k = 0; k < p->n_batches; k++, at += ENCODED_BATCH) {
            store_le32(at, p->batches[k].sequence);
            store_le32(at + 4, p->batches[k].records);
            store_le64(at + 8, (uint64_t)p->batches[k].base);
        }
        out->len += ENCODED_PRODUCER + p->n_batches * ENCODED_BATCH;
    }
}

static bool decode_batches(struct cursor *c, struct producer *p, uint16_t n)
{
    for (unsigned k = 0; k < n; k++) {
        struct numbered *b = &p->batches[k];
        b->sequence = cursor_le32(c);
        b->records = cursor_le32(c);
        b->base = (int64_t)cursor_le64(c);
        if (b->sequence > SEQUENCE || b->records == 0 || b->records > BATCH_RECORDS_MAX ||
            b->base < 0) {
            return false;
        }
    }
    p->n_batches = n;
    return true;
}

static bool decode_producer(struct producers *t, struct cursor *c)
{
    int64_t id = (int64_t)cursor_le64(c), append_ms = (int64_t)cursor_le64(c);
    int16_t epoch = (int16_t)cursor_le16(c);
    uint16_t n = cursor_le16(c);
    uint32_t zero = cursor_le32(c);
    if (!cursor_ok(c) || id < 0 || epoch < 0 || n > PRODUCER_BATCHES || zero != 0 ||
        find(t, id) != NULL) {
        return false;
    }
    struct producer *p = add_slot(t, id);
    p->append_ms = append_ms;
    p->epoch = epoch;
    return decode_batches(c, p, n);
}

int producers_decode(struct producers *t, const void *data, size_t n, struct error *err)
{
    struct cursor c;
    struct producers fresh;
    cursor_init(&c, data, n);
    producers_init(&fresh);
    fresh.forgotten_ms = (int64_t)cursor_le64(&c);
    uint32_t count = cursor_le32(&c), zero = cursor_le32(&c);
    bool good = cursor_ok(&c) && zero == 0 && count <= PRODUCERS_MAX &&
                count <= cursor_left(&c) / ENCODED_PRODUCER;
    if (good && producers_reserve(&fresh, count) != 0) {
        producers_close(&fresh);
        return error_set(err, WEIR_ENOMEM, "producers: out of memory");
    }
    for (uint32_t i = 0; i < count && good; i++) {
        good = decode_producer(&fresh, &c);
    }
    if (!good || !cursor_ok(&c) || cursor_left(&c) != 0) {
        producers_close(&fresh);
        return error_set(err, WEIR_ECORRUPT, "producers: byte %zu of %zu makes no sense", c.pos, n);
    }
    producers_close(t);
    *t = fresh;
    return 0;
}
