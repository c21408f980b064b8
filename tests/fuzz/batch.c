/* Any bytes are a batch that can be read to its end, or an error; with a checksum made to fit, so
 * that the records are reached. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "log/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_records(const uint8_t *batch, size_t size, const struct batch_info *info)
{
    struct batch_iter it;
    struct batch_record r;
    struct error err;
    uint32_t n = 0;
    int64_t next = info->base_offset.v;
    if (batch_iter_init(&it, batch, size, &err) != 0) {
        return;
    }
    while (batch_iter_next(&it, &r, &err) == 1) {
        assert(r.offset.v >= next && r.offset.v <= info->base_offset.v + info->last_offset_delta);
        next = r.offset.v + 1;
        assert(r.key == NULL || (r.key >= batch && r.key + r.key_len <= batch + size));
        assert(r.value == NULL || (r.value >= batch && r.value + r.value_len <= batch + size));
        n++;
    }
    assert(n == info->record_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_info info;
    struct error err;
    uint8_t *batch = malloc(size + 1);
    if (batch == NULL) {
        return 0;
    }
    memcpy(batch, data, size);
    (void)batch_check(batch, size, &info, &err);
    if (batch_parse(batch, size, &info, &err) == 0) {
        store_be32(batch + 17, crc32c(0, batch + 21, info.size - 21));
        if (batch_check(batch, size, &info, &err) == 0) {
            read_records(batch, size, &info);
            batch_stamp(batch, LOG_OFFSET(7), LOG_TERM(9), 1000);
            assert(batch_check(batch, size, &info, &err) == 0 && info.base_offset.v == 7);
        }
    }
    free(batch);
    return 0;
}
