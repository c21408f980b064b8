#include "log/batch.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#include "base/crc32c.h"

/* Positions of the header's fields: the table in log/batch.h. */
enum {
    AT_BASE_OFFSET = 0,
    AT_LENGTH = 8,
    AT_LEADER_EPOCH = 12,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21, /* the CRC covers from here to the end */
    AT_LAST_OFFSET_DELTA = 23,
    AT_BASE_TIMESTAMP = 27,
    AT_MAX_TIMESTAMP = 35,
    AT_PRODUCER_ID = 43,
    AT_PRODUCER_EPOCH = 51,
    AT_BASE_SEQUENCE = 53,
    AT_RECORD_COUNT = 57,
};
static_assert(AT_RECORD_COUNT + 4 == BATCH_HEADER_SIZE, "see the table in log/batch.h");

#define LENGTH_BASE        (AT_LENGTH + 4) /* batchLength counts from here */
#define MAGIC              2
#define ATTRIBUTE_CODEC    0x7
#define ATTRIBUTE_LOG_TIME 0x8
#define CODEC_LAST         4
/* Least bytes of a record: length, attributes, three deltas and lengths of key and value, header
 * count. */
#define RECORD_SIZE_MIN 7

int batch_parse(const void *data, size_t n, struct batch_info *ret_info, struct error *err)
{
    const uint8_t *p = data;
    if (n < BATCH_HEADER_SIZE) {
        return error_set(err, WEIR_ETOOBIG, "batch: %zu bytes, the header alone has %d", n,
                         BATCH_HEADER_SIZE);
    }
    int64_t length = (int32_t)load_be32(p + AT_LENGTH);
    int64_t size = length + LENGTH_BASE;
    if (p[AT_MAGIC] != MAGIC) {
        return error_set(err, WEIR_ECORRUPT, "batch: magic %u, expected %d", p[AT_MAGIC], MAGIC);
    }
    if (size < BATCH_HEADER_SIZE || size > INT32_MAX) {
        return error_set(err, WEIR_ECORRUPT, "batch: wrong length %lld", (long long)length);
    }
    struct batch_info info = {
        .base_offset = LOG_OFFSET(load_be64(p + AT_BASE_OFFSET)),
        .size = (uint32_t)size,
        .record_count = load_be32(p + AT_RECORD_COUNT),
        .attributes = load_be16(p + AT_ATTRIBUTES),
        .last_offset_delta = (int32_t)load_be32(p + AT_LAST_OFFSET_DELTA),
        .base_timestamp_ms = (int64_t)load_be64(p + AT_BASE_TIMESTAMP),
        .max_timestamp_ms = (int64_t)load_be64(p + AT_MAX_TIMESTAMP),
        .producer_id = (int64_t)load_be64(p + AT_PRODUCER_ID),
        .producer_epoch = (int16_t)load_be16(p + AT_PRODUCER_EPOCH),
        .base_sequence = (int32_t)load_be32(p + AT_BASE_SEQUENCE),
    };
    if (info.last_offset_delta < 0 || info.last_offset_delta >= BATCH_RECORDS_MAX ||
        info.record_count > batch_offsets(&info) ||
        (info.record_count == 0 && size != BATCH_HEADER_SIZE)) {
        return error_set(err, WEIR_ECORRUPT, "batch: %u records, last offset delta %d",
                         info.record_count, info.last_offset_delta);
    }
    if ((info.attributes & ATTRIBUTE_CODEC) > CODEC_LAST) {
        return error_set(err, WEIR_ECORRUPT, "batch: unknown codec %d",
                         info.attributes & ATTRIBUTE_CODEC);
    }
    if (info.base_offset.v < 0 || info.base_offset.v > INT64_MAX - BATCH_RECORDS_MAX) {
        return error_set(err, WEIR_ECORRUPT, "batch: base offset %lld",
                         (long long)info.base_offset.v);
    }
    if ((uint64_t)size > n) {
        return error_set(err, WEIR_ETOOBIG, "batch: %lld bytes, %zu are there", (long long)size, n);
    }
    *ret_info = info;
    return 0;
}

int batch_check(const void *data, size_t n, struct batch_info *ret_info, struct error *err)
{
    struct batch_info info;
    int rc = batch_parse(data, n, &info, err);
    if (rc != 0) {
        return rc;
    }
    const uint8_t *p = data;
    uint32_t crc = crc32c(0, p + AT_ATTRIBUTES, info.size - AT_ATTRIBUTES);
    if (crc != load_be32(p + AT_CRC)) {
        return error_set(err, WEIR_ECORRUPT, "batch: checksum %08x, expected %08x",
                         load_be32(p + AT_CRC), crc);
    }
    if ((info.attributes & ATTRIBUTE_CODEC) == 0) {
        struct batch_iter it;
        struct batch_record record;
        rc = batch_iter_init(&it, data, n, err);
        do {
            rc = rc < 0 ? rc : batch_iter_next(&it, &record, err);
        } while (rc > 0);
        if (rc != 0) {
            return rc;
        }
    }
    *ret_info = info;
    return 0;
}

void batch_stamp(void *data, struct log_offset base, struct log_term term, int64_t append_ms)
{
    uint8_t *p = data;
    size_t size = (size_t)load_be32(p + AT_LENGTH) + LENGTH_BASE;
    store_be64(p + AT_BASE_OFFSET, (uint64_t)base.v);
    store_be32(p + AT_LEADER_EPOCH, (uint32_t)term.v);
    store_be16(p + AT_ATTRIBUTES, load_be16(p + AT_ATTRIBUTES) | ATTRIBUTE_LOG_TIME);
    store_be64(p + AT_BASE_TIMESTAMP, (uint64_t)append_ms);
    store_be64(p + AT_MAX_TIMESTAMP, (uint64_t)append_ms);
    store_be32(p + AT_CRC, crc32c(0, p + AT_ATTRIBUTES, size - AT_ATTRIBUTES));
}

/* --- Producers --- */

struct batch_producer batch_producer_of(const void *data)
{
    const uint8_t *p = data;
    return (struct batch_producer){
        .id = (int64_t)load_be64(p + AT_PRODUCER_ID),
        .epoch = (int16_t)load_be16(p + AT_PRODUCER_EPOCH),
        .sequence = (int32_t)load_be32(p + AT_BASE_SEQUENCE),
        .records = load_be32(p + AT_LAST_OFFSET_DELTA) + 1,
    };
}

int64_t batch_append_ms(const void *data)
{
    return (int64_t)load_be64((const uint8_t *)data + AT_MAX_TIMESTAMP);
}

struct log_offset batch_base_offset(const void *data)
{
    return LOG_OFFSET(load_be64((const uint8_t *)data + AT_BASE_OFFSET));
}

static void store_producer(uint8_t *p, const struct batch_producer *producer)
{
    store_be64(p + AT_PRODUCER_ID, (uint64_t)producer->id);
    store_be16(p + AT_PRODUCER_EPOCH, (uint16_t)producer->epoch);
    store_be32(p + AT_BASE_SEQUENCE, (uint32_t)producer->sequence);
}

void batch_set_producer(void *data, const struct batch_producer *producer)
{
    uint8_t *p = data;
    size_t size = (size_t)load_be32(p + AT_LENGTH) + LENGTH_BASE;
    store_producer(p, producer);
    store_be32(p + AT_CRC, crc32c(0, p + AT_ATTRIBUTES, size - AT_ATTRIBUTES));
}

/* --- Records --- */

int batch_iter_init(struct batch_iter *it, const void *data, size_t n, struct error *err)
{
    struct batch_info info;
    int rc = batch_parse(data, n, &info, err);
    if (rc != 0) {
        return rc;
    }
    if ((info.attributes & ATTRIBUTE_CODEC) != 0) {
        return error_set(err, WEIR_EINVAL, "batch: the records are compressed (codec %d)",
                         info.attributes & ATTRIBUTE_CODEC);
    }
    *it = (struct batch_iter){.info = info};
    cursor_init(&it->c, (const uint8_t *)data + BATCH_HEADER_SIZE, info.size - BATCH_HEADER_SIZE);
    return 0;
}

/* A length and that many bytes; -1 is null. */
static const uint8_t *take_blob(struct cursor *c, int32_t *ret_len)
{
    int64_t len = cursor_varint(c);
    if (len < -1 || len > INT32_MAX) {
        c->failed = true;
    }
    *ret_len = c->failed ? -1 : (int32_t)len;
    return *ret_len < 0 ? NULL : cursor_take(c, (size_t)*ret_len);
}

static void skip_headers(struct cursor *c)
{
    int64_t count = cursor_varint(c);
    if (count < 0 || count > BATCH_HEADERS_MAX) {
        c->failed = true;
    }
    for (int64_t i = 0; i < count && cursor_ok(c); i++) {
        int32_t key_len, value_len;
        (void)take_blob(c, &key_len);
        (void)take_blob(c, &value_len);
        if (key_len < 0) { /* unlike a value, a header's key can't be null */
            c->failed = true;
        }
    }
}

int batch_iter_next(struct batch_iter *it, struct batch_record *ret_record, struct error *err)
{
    if (it->i == it->info.record_count) {
        if (cursor_left(&it->c) != 0) {
            return error_set(err, WEIR_ECORRUPT, "batch: %zu bytes after the last record",
                             cursor_left(&it->c));
        }
        return 0;
    }
    int64_t length = cursor_varint(&it->c);
    const uint8_t *body = length < RECORD_SIZE_MIN - 1 || length > INT32_MAX
                              ? NULL
                              : cursor_take(&it->c, (size_t)length);
    if (body == NULL) {
        return error_set(err, WEIR_ECORRUPT, "batch: record %u: wrong length", it->i);
    }
    struct cursor c;
    struct batch_record r = {0};
    cursor_init(&c, body, (size_t)length);
    (void)cursor_u8(&c); /* attributes: none are defined */
    int64_t timestamp_delta = cursor_varint(&c);
    int64_t offset_delta = cursor_varint(&c);
    r.key = take_blob(&c, &r.key_len);
    r.value = take_blob(&c, &r.value_len);
    skip_headers(&c);
    if (!cursor_ok(&c) || cursor_left(&c) != 0) {
        return error_set(err, WEIR_ECORRUPT, "batch: record %u: fields past its end", it->i);
    }
    if (offset_delta < it->next_delta || offset_delta > it->info.last_offset_delta) {
        return error_set(err, WEIR_ECORRUPT, "batch: record %u: offset delta %lld", it->i,
                         (long long)offset_delta);
    }
    it->next_delta = offset_delta + 1;
    r.offset = LOG_OFFSET(it->info.base_offset.v + offset_delta);
    r.timestamp_ms = it->info.max_timestamp_ms;
    if ((it->info.attributes & ATTRIBUTE_LOG_TIME) == 0 &&
        __builtin_add_overflow(it->info.base_timestamp_ms, timestamp_delta, &r.timestamp_ms)) {
        return error_set(err, WEIR_ECORRUPT, "batch: record %u: timestamp delta %lld", it->i,
                         (long long)timestamp_delta);
    }
    it->i++;
    *ret_record = r;
    return 1;
}

int batch_thin(const void *batch, size_t n, batch_keep_cb keep, void *data, struct bytes *out,
               uint32_t *ret_removed, struct error *err)
{
    struct batch_iter it;
    struct batch_record r;
    size_t start = out->len;
    uint32_t kept = 0;
    int rc = batch_iter_init(&it, batch, n, err);
    if (rc != 0) {
        return rc;
    }
    bytes_put(out, batch, BATCH_HEADER_SIZE);
    for (;;) {
        size_t from = it.c.pos;
        rc = batch_iter_next(&it, &r, err);
        if (rc != 1) {
            break;
        }
        if (keep(data, &r)) {
            bytes_put(out, it.c.data + from, it.c.pos - from);
            kept++;
        }
    }
    if (rc == 0 && bytes_error(out) != 0) {
        rc = error_set(err, bytes_error(out), "batch: no room for a copy");
    }
    if (rc != 0) {
        return rc;
    }
    uint8_t *p = out->data + start;
    size_t size = out->len - start;
    store_be32(p + AT_LENGTH, (uint32_t)(size - LENGTH_BASE));
    store_be32(p + AT_RECORD_COUNT, kept);
    store_be32(p + AT_CRC, crc32c(0, p + AT_ATTRIBUTES, size - AT_ATTRIBUTES));
    *ret_removed = it.info.record_count - kept;
    return 0;
}

/* --- Building --- */

void batch_begin(struct batch_builder *b, struct bytes *out, int64_t now_ms)
{
    *b = (struct batch_builder){
        .out = out,
        .start = out->len,
        .base_timestamp_ms = now_ms,
        .max_timestamp_ms = now_ms,
        .producer = {.id = -1, .epoch = -1, .sequence = -1},
    };
    if (bytes_reserve(out, BATCH_HEADER_SIZE) != NULL) {
        memset(out->data + out->len, 0, BATCH_HEADER_SIZE);
        out->len += BATCH_HEADER_SIZE;
    }
}

static size_t varint_size(int64_t v)
{
    uint64_t u = ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
    size_t n = 1;
    while (u >= 0x80) {
        u >>= 7;
        n++;
    }
    return n;
}

static size_t blob_size(const void *data, size_t len)
{
    return data == NULL ? 1 : varint_size((int64_t)len) + len;
}

static uint8_t *write_varint(uint8_t *p, int64_t v)
{
    uint64_t u = ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
    while (u >= 0x80) {
        *p++ = (uint8_t)(u | 0x80);
        u >>= 7;
    }
    *p++ = (uint8_t)u;
    return p;
}

static uint8_t *write_blob(uint8_t *p, const void *data, size_t len)
{
    if (data == NULL) {
        return write_varint(p, -1);
    }
    p = write_varint(p, (int64_t)len);
    if (len > 0) {
        memcpy(p, data, len);
    }
    return p + len;
}

void batch_add(struct batch_builder *b, int64_t timestamp_ms, const void *key, size_t key_len,
               const void *value, size_t value_len)
{
    struct bytes *out = b->out;
    if (key_len > INT32_MAX || value_len > INT32_MAX || b->count == BATCH_RECORDS_MAX) {
        out->error = out->error != 0 ? out->error : WEIR_ETOOBIG;
        return;
    }
    int64_t delta = timestamp_ms - b->base_timestamp_ms;
    size_t size = 1 + varint_size(delta) + varint_size(b->count) + blob_size(key, key_len) +
                  blob_size(value, value_len) + 1;
    size_t total = varint_size((int64_t)size) + size;
    uint8_t *start = bytes_reserve(out, total);
    if (start != NULL) {
        uint8_t *p = write_varint(start, (int64_t)size);
        *p++ = 0; /* attributes */
        p = write_varint(p, delta);
        p = write_varint(p, b->count);
        p = write_blob(p, key, key_len);
        p = write_blob(p, value, value_len);
        p = write_varint(p, 0); /* no headers */
        assert(p == start + total);
        out->len += total;
    }
    b->count++;
    if (timestamp_ms > b->max_timestamp_ms) {
        b->max_timestamp_ms = timestamp_ms;
    }
}

int batch_finish(struct batch_builder *b)
{
    struct bytes *out = b->out;
    if (bytes_error(out) != 0) {
        return bytes_error(out);
    }
    if (b->count == 0) {
        return WEIR_EINVAL;
    }
    size_t size = out->len - b->start;
    if (size > INT32_MAX) {
        return WEIR_ETOOBIG;
    }
    uint8_t *p = out->data + b->start;
    store_be32(p + AT_LENGTH, (uint32_t)(size - LENGTH_BASE));
    p[AT_MAGIC] = MAGIC;
    store_be32(p + AT_LAST_OFFSET_DELTA, b->count - 1);
    store_be64(p + AT_BASE_TIMESTAMP, (uint64_t)b->base_timestamp_ms);
    store_be64(p + AT_MAX_TIMESTAMP, (uint64_t)b->max_timestamp_ms);
    store_producer(p, &b->producer);
    store_be32(p + AT_RECORD_COUNT, b->count);
    store_be32(p + AT_CRC, crc32c(0, p + AT_ATTRIBUTES, size - AT_ATTRIBUTES));
    return (int)size;
}
