#include "log/state.h"

#include <string.h>

#include "base/crc32c.h"

#define MAGIC   "WEIRSTAT"
#define VERSION 1

enum {
    AT_CRC = 8,
    AT_VERSION = 12,
    AT_INDEX = 16,
    AT_TERM = 24,
    AT_SECTIONS = 32,
    AT_ZERO = 36,
    HEADER_SIZE = 40,
};

enum section { SECTION_PRODUCERS = 1, N_SECTIONS = 1 };

void log_state_init(struct log_state *s)
{
    *s = (struct log_state){.index = {0}};
    producers_init(&s->producers);
}

void log_state_close(struct log_state *s)
{
    producers_close(&s->producers);
    log_state_init(s);
}

int log_state_reserve(struct log_state *s, enum log_entry_type type, const void *payload,
                      uint32_t *need)
{
    if (type != LOG_ENTRY_BATCH) {
        return 0;
    }
    struct batch_producer b = batch_producer_of(payload);
    *need += producers_unknown(&s->producers, &b);
    return producers_reserve(&s->producers, *need);
}

void log_state_fold(struct log_state *s, struct log_index index, struct log_term term,
                    enum log_entry_type type, const void *payload)
{
    if (index.v <= s->index.v) {
        return; /* is in it already: the state came from a leader whose log begins before ours */
    }
    s->index = index;
    s->term = term;
    if (type == LOG_ENTRY_BATCH) {
        struct batch_producer b = batch_producer_of(payload);
        if (b.id >= 0) {
            producers_add(&s->producers, &b, batch_base_offset(payload), batch_append_ms(payload));
        }
    }
}

/* --- Bytes --- */

static size_t section_begin(struct bytes *out, enum section kind)
{
    bytes_put_le32(out, kind);
    bytes_put_le32(out, 0);
    return out->len;
}

static void section_end(struct bytes *out, size_t start)
{
    if (bytes_error(out) == 0) {
        store_le32(out->data + start - 4, (uint32_t)(out->len - start));
    }
}

void log_state_encode(const struct log_state *s, struct bytes *out)
{
    size_t start = out->len;
    bytes_put(out, MAGIC, 8);
    bytes_put_le32(out, 0);
    bytes_put_le32(out, VERSION);
    bytes_put_le64(out, s->index.v);
    bytes_put_le64(out, s->term.v);
    bytes_put_le32(out, N_SECTIONS);
    bytes_put_le32(out, 0);
    size_t at = section_begin(out, SECTION_PRODUCERS);
    producers_encode(&s->producers, out);
    section_end(out, at);
    if (bytes_error(out) == 0) {
        uint8_t *data = out->data + start;
        store_le32(data + AT_CRC, crc32c(0, data + AT_VERSION, out->len - start - AT_VERSION));
    }
}

static int decode_sections(struct log_state *s, struct cursor *c, uint32_t n, struct error *err)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t kind = cursor_le32(c), len = cursor_le32(c);
        const uint8_t *data = cursor_take(c, len);
        if (!cursor_ok(c)) {
            break;
        }
        if (kind == 0 || kind > N_SECTIONS || (seen & 1U << kind) != 0) {
            return error_set(err, WEIR_EVERSION, "state: section %u", kind);
        }
        seen |= 1U << kind;
        int rc = producers_decode(&s->producers, data, len, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (!cursor_ok(c) || cursor_left(c) != 0 || n != N_SECTIONS) {
        return error_set(err, WEIR_ECORRUPT, "state: %u sections do not fill it", n);
    }
    return 0;
}

int log_state_decode(struct log_state *s, const void *data, size_t n, struct error *err)
{
    const uint8_t *p = data;
    if (n < HEADER_SIZE || memcmp(p, MAGIC, 8) != 0 ||
        load_le32(p + AT_CRC) != crc32c(0, p + AT_VERSION, n - AT_VERSION)) {
        return error_set(err, WEIR_ECORRUPT, "state: wrong checksum");
    }
    if (load_le32(p + AT_VERSION) != VERSION) {
        return error_set(err, WEIR_EVERSION, "state: version %u", load_le32(p + AT_VERSION));
    }
    if (load_le32(p + AT_ZERO) != 0) {
        return error_set(err, WEIR_ECORRUPT, "state: header");
    }
    struct log_state fresh;
    struct cursor c;
    log_state_init(&fresh);
    fresh.index = LOG_INDEX(load_le64(p + AT_INDEX));
    fresh.term = LOG_TERM(load_le64(p + AT_TERM));
    cursor_init(&c, p + HEADER_SIZE, n - HEADER_SIZE);
    int rc = decode_sections(&fresh, &c, load_le32(p + AT_SECTIONS), err);
    if (rc != 0) {
        log_state_close(&fresh);
        return rc;
    }
    log_state_close(s);
    *s = fresh;
    return 0;
}
