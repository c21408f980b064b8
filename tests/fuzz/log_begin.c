/* Any bytes are a `begin` file that encodes to its own first copy, or none; with a checksum made to
 * fit, so that the fields are reached. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/begin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[BEGIN_FILE_SIZE], again[BEGIN_FILE_SIZE];
    static struct begin begin;
    bool damaged;
    (void)begin_decode(data, size, &begin, &damaged);
    if (size < BEGIN_HEADER_SIZE) {
        return 0;
    }
    memset(buf, 0, sizeof(buf));
    memcpy(buf, data, size < BEGIN_COPY_SIZE ? size : BEGIN_COPY_SIZE);
    memcpy(buf, "WEIRBEGN", 8);
    uint32_t n = load_le32(buf + 84);
    if (n > META_CONFIG_MAX) {
        return 0;
    }
    memset(buf + BEGIN_HEADER_SIZE + n, 0, BEGIN_COPY_SIZE - BEGIN_HEADER_SIZE - n);
    store_le32(buf + 8, crc32c(0, buf + 12, BEGIN_HEADER_SIZE - 12 + n));
    memcpy(buf + BEGIN_COPY_SIZE, buf, BEGIN_COPY_SIZE);
    if (begin_decode(buf, sizeof(buf), &begin, &damaged)) {
        begin_encode(&begin, again);
        assert(!damaged && memcmp(buf, again, sizeof(buf)) == 0);
    }
    return 0;
}
