/* Any bytes are a state that encodes to the same bytes again, or an error; also with a checksum
 * made to fit. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "log/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const uint8_t *data, size_t size)
{
    struct log_state s;
    struct bytes out;
    struct error err;
    log_state_init(&s);
    bytes_init(&out, STATE_BYTES_MAX);
    if (log_state_decode(&s, data, size, &err) == 0) {
        log_state_encode(&s, &out);
        assert(out.len == size && memcmp(out.data, data, size) == 0);
    }
    bytes_close(&out);
    log_state_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    if (copy == NULL || size < 16) {
        free(copy);
        return 0;
    }
    memcpy(copy, data, size);
    try(copy, size);
    store_le32(copy + 8, crc32c(0, copy + 12, size - 12));
    try(copy, size);
    free(copy);
    return 0;
}
