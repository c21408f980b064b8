/* Any bytes are a control entry that encodes to themselves, or an error; with a checksum made to
 * fit, so that the fields are reached. */
#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[CONTROL_SIZE], again[CONTROL_SIZE];
    struct control c;
    struct error err;
    (void)control_decode(data, size, &c, &err);
    if (size < CONTROL_SIZE) {
        return 0;
    }
    memcpy(buf, data, CONTROL_SIZE);
    memcpy(buf, "WEIRCTL1", 8);
    store_le32(buf + 8, crc32c(0, buf + 12, CONTROL_SIZE - 12));
    if (control_decode(buf, sizeof(buf), &c, &err) == 0) {
        control_encode(&c, again);
        assert(memcmp(buf, again, CONTROL_SIZE) == 0);
    }
    return 0;
}
