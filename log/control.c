#include "log/control.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define MAGIC   "WEIRCTL1"
#define VERSION 1

enum {
    AT_CRC = 8,
    AT_VERSION = 12,
    AT_KIND = 14,
    AT_ZERO = 16,
    AT_OFFSET = 24,
    AT_TIME = 32,
};
static_assert(AT_TIME + 8 == CONTROL_SIZE, "see the table in log/control.h");

void control_encode(const struct control *control, uint8_t out[CONTROL_SIZE])
{
    memset(out, 0, CONTROL_SIZE);
    memcpy(out, MAGIC, 8);
    store_le16(out + AT_VERSION, VERSION);
    store_le16(out + AT_KIND, (uint16_t)control->kind);
    store_le64(out + AT_OFFSET, (uint64_t)control->offset.v);
    store_le64(out + AT_TIME, (uint64_t)control->time_ms);
    store_le32(out + AT_CRC, crc32c(0, out + AT_VERSION, CONTROL_SIZE - AT_VERSION));
}

bool control_is(const void *payload, size_t len)
{
    return len == CONTROL_SIZE && memcmp(payload, MAGIC, 8) == 0;
}

int control_decode(const void *payload, size_t len, struct control *ret_control, struct error *err)
{
    const uint8_t *p = payload;
    if (!control_is(payload, len)) {
        return error_set(err, WEIR_EPROTO, "control entry: %zu bytes without its magic", len);
    }
    if (load_le32(p + AT_CRC) != crc32c(0, p + AT_VERSION, CONTROL_SIZE - AT_VERSION)) {
        return error_set(err, WEIR_EPROTO, "control entry: wrong checksum");
    }
    struct control c = {
        .kind = (enum control_kind)load_le16(p + AT_KIND),
        .offset = LOG_OFFSET(load_le64(p + AT_OFFSET)),
        .time_ms = (int64_t)load_le64(p + AT_TIME),
    };
    if (load_le16(p + AT_VERSION) != VERSION || c.kind < CONTROL_START ||
        c.kind > CONTROL_COMPACT || load_le64(p + AT_ZERO) != 0 || c.offset.v < 0 ||
        c.time_ms < 0) {
        return error_set(err, WEIR_EPROTO, "control entry: version %u, kind %u, offset %lld",
                         load_le16(p + AT_VERSION), load_le16(p + AT_KIND), (long long)c.offset.v);
    }
    *ret_control = c;
    return 0;
}
