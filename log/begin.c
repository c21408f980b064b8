#include "log/begin.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define MAGIC          "WEIRBEGN"
#define VERSION        1
#define FLAG_RESETTING 1u

static_assert(BEGIN_HEADER_SIZE + META_CONFIG_MAX <= BEGIN_COPY_SIZE, "see the table");

void begin_encode(const struct begin *b, uint8_t out[BEGIN_FILE_SIZE])
{
    assert(b->config_len <= META_CONFIG_MAX);
    memset(out, 0, BEGIN_FILE_SIZE);
    memcpy(out, MAGIC, 8);
    store_le32(out + 12, VERSION);
    store_le64(out + 16, b->first_index.v);
    store_le64(out + 24, b->prev_term.v);
    store_le64(out + 32, (uint64_t)b->first_offset.v);
    store_le64(out + 40, (uint64_t)b->start_offset.v);
    store_le64(out + 48, (uint64_t)b->time_ms);
    store_le64(out + 56, b->config_index.v);
    store_le64(out + 64, (uint64_t)b->compacted.v);
    store_le64(out + 72, (uint64_t)b->tombstones_ms);
    store_le32(out + 80, b->resetting ? FLAG_RESETTING : 0);
    store_le32(out + 84, b->config_len);
    memcpy(out + BEGIN_HEADER_SIZE, b->config, b->config_len);
    store_le32(out + 8, crc32c(0, out + 12, BEGIN_HEADER_SIZE - 12 + b->config_len));
    memcpy(out + BEGIN_COPY_SIZE, out, BEGIN_COPY_SIZE);
}

static bool decode_copy(const uint8_t *in, struct begin *ret_begin)
{
    uint32_t n = load_le32(in + 84), flags = load_le32(in + 80);
    if (memcmp(in, MAGIC, 8) != 0 || n > META_CONFIG_MAX ||
        load_le32(in + 8) != crc32c(0, in + 12, BEGIN_HEADER_SIZE - 12 + n) ||
        load_le32(in + 12) != VERSION || flags > FLAG_RESETTING) {
        return false;
    }
    *ret_begin = (struct begin){
        .first_index = LOG_INDEX(load_le64(in + 16)),
        .prev_term = LOG_TERM(load_le64(in + 24)),
        .first_offset = LOG_OFFSET(load_le64(in + 32)),
        .start_offset = LOG_OFFSET(load_le64(in + 40)),
        .time_ms = (int64_t)load_le64(in + 48),
        .config_index = LOG_INDEX(load_le64(in + 56)),
        .compacted = LOG_OFFSET(load_le64(in + 64)),
        .tombstones_ms = (int64_t)load_le64(in + 72),
        .resetting = (flags & FLAG_RESETTING) != 0,
        .config_len = n,
    };
    memcpy(ret_begin->config, in + BEGIN_HEADER_SIZE, n);
    return ret_begin->first_index.v > 0 && ret_begin->first_offset.v >= 0 &&
           ret_begin->start_offset.v >= ret_begin->first_offset.v;
}

bool begin_decode(const uint8_t *in, size_t n, struct begin *ret_begin, bool *ret_damaged)
{
    struct begin second;
    bool first_good = n >= BEGIN_COPY_SIZE && decode_copy(in, ret_begin);
    bool second_good = n >= BEGIN_FILE_SIZE && decode_copy(in + BEGIN_COPY_SIZE, &second);
    if (!first_good && second_good) {
        *ret_begin = second;
    }
    *ret_damaged = !first_good || !second_good || n != BEGIN_FILE_SIZE ||
                   memcmp(in, in + BEGIN_COPY_SIZE, BEGIN_COPY_SIZE) != 0;
    return first_good || second_good;
}
