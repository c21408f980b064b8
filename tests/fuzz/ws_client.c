/* Frames of a server, cut out of whatever comes: they lie inside it, and fewer bytes never make
 * another frame. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "net/ws_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0, n = 0, part = 0;
    int64_t frame;
    while ((frame = ws_client_frame(data + at, size - at, &n)) > 0) {
        assert((size_t)frame <= size - at && n < (size_t)frame);
        assert((size_t)frame - n <= 10);
        assert(ws_client_frame(data + at, (size_t)frame - 1, &part) == 0);
        assert(ws_client_frame(data + at, (size_t)frame, &part) == frame && part == n);
        at += (size_t)frame;
    }
    return 0;
}
