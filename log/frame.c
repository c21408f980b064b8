#include "log/frame.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/fault.h"
#include "log/batch.h"
#include "log/control.h"

#define FRAME_VERSION 1

enum {
    AT_CRC = 0,
    AT_PAYLOAD_CRC = 4,
    AT_LENGTH = 8,
    AT_TYPE = 12,
    AT_VERSION = 13,
    AT_ZERO = 14,
    AT_TERM = 16,
    AT_INDEX = 24,
    AT_BASE_OFFSET = 32,
    AT_SYNCED = 40,
};
static_assert(AT_SYNCED + 8 == FRAME_HEADER_SIZE, "see the table in log/frame.h");

uint32_t frame_seed(uint64_t salt)
{
    uint8_t bytes[8];
    store_le64(bytes, salt);
    return crc32c(0, bytes, sizeof(bytes));
}

static uint32_t header_crc(const uint8_t *at, uint32_t seed)
{
    return crc32c(seed, at + AT_PAYLOAD_CRC, FRAME_HEADER_SIZE - AT_PAYLOAD_CRC);
}

void frame_write(uint8_t *at, const struct frame *f, const void *payload)
{
    size_t body = frame_size(f->len) - FRAME_HEADER_SIZE;
    memset(at, 0, FRAME_HEADER_SIZE);
    if (f->len > 0) {
        memcpy(at + FRAME_HEADER_SIZE, payload, f->len);
    }
    memset(at + FRAME_HEADER_SIZE + f->len, 0, body - f->len);
    store_le32(at + AT_PAYLOAD_CRC, crc32c(0, at + FRAME_HEADER_SIZE, body));
    store_le32(at + AT_LENGTH, f->len);
    at[AT_TYPE] = (uint8_t)f->type;
    at[AT_VERSION] = FRAME_VERSION;
    store_le64(at + AT_TERM, f->term.v);
    store_le64(at + AT_INDEX, f->index.v);
    store_le64(at + AT_BASE_OFFSET, (uint64_t)f->base_offset.v);
}

void frame_seal(uint8_t *at, uint32_t seed, struct log_index synced)
{
    store_le64(at + AT_SYNCED, synced.v);
    store_le32(at + AT_CRC, header_crc(at, seed));
}

struct frame frame_peek(const uint8_t *at)
{
    return (struct frame){
        .len = load_le32(at + AT_LENGTH),
        .type = (enum log_entry_type)at[AT_TYPE],
        .term = LOG_TERM(load_le64(at + AT_TERM)),
        .index = LOG_INDEX(load_le64(at + AT_INDEX)),
        .base_offset = LOG_OFFSET(load_le64(at + AT_BASE_OFFSET)),
        .synced = LOG_INDEX(load_le64(at + AT_SYNCED)),
        .payload_crc = load_le32(at + AT_PAYLOAD_CRC),
    };
}

bool frame_header_ok(const uint8_t *at, uint32_t seed, struct frame *ret_frame)
{
    /* The cheap tests come first: recovery tries this at every eighth byte of a damaged tail. */
    if (at[AT_VERSION] != FRAME_VERSION || at[AT_TYPE] < LOG_ENTRY_BATCH ||
        at[AT_TYPE] > LOG_ENTRY_CONTROL || load_le16(at + AT_ZERO) != 0 ||
        load_le32(at + AT_LENGTH) > FRAME_PAYLOAD_MAX ||
        header_crc(at, seed) != load_le32(at + AT_CRC)) {
        return false;
    }
    *ret_frame = frame_peek(at);
    return ret_frame->synced.v < ret_frame->index.v;
}

bool frame_payload_ok(const struct frame *f, const uint8_t *payload)
{
    return crc32c(0, payload, frame_size(f->len) - FRAME_HEADER_SIZE) == f->payload_crc ||
           fault_on(FAULT_NO_CHECKSUM);
}

int frame_meaning(const struct frame *f, const uint8_t *payload, uint32_t *ret_offsets,
                  int64_t *ret_time_ms, struct error *err)
{
    if (f->type != LOG_ENTRY_BATCH) {
        struct control control;
        int rc = f->type == LOG_ENTRY_CONTROL ? control_decode(payload, f->len, &control, err) : 0;
        if (rc == 0) {
            *ret_offsets = 0;
            *ret_time_ms = 0;
        }
        return rc;
    }
    struct batch_info info;
    struct error why = {0};
    if (batch_parse(payload, f->len, &info, &why) != 0) {
        return error_set(err, WEIR_EPROTO, "entry %llu: %s", (unsigned long long)f->index.v,
                         why.text);
    }
    if (info.size != f->len || info.base_offset.v != f->base_offset.v) {
        return error_set(err, WEIR_EPROTO,
                         "entry %llu: a batch of %u bytes at offset %lld where %u bytes at offset "
                         "%lld are due",
                         (unsigned long long)f->index.v, info.size, (long long)info.base_offset.v,
                         f->len, (long long)f->base_offset.v);
    }
    *ret_offsets = batch_offsets(&info);
    *ret_time_ms = info.max_timestamp_ms;
    return 0;
}
