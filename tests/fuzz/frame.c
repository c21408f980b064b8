/* The first byte chooses how the rest is cut into feeds; whatever comes, frames lie inside what was
 * fed. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    size_t step = (size_t)data[0] + 1, total = 0;
    struct frame_parser p;
    frame_parser_init(&p, 1 << 16);
    int rv = 0;
    for (size_t at = 1; at < size && rv >= 0; at += step) {
        size_t n = size - at < step ? size - at : step;
        rv = frame_parser_feed(&p, data + at, n);
        struct frame f;
        while (rv >= 0 && (rv = frame_parser_next(&p, &f, NULL)) == 1) {
            volatile uint8_t sum = 0;
            for (size_t i = 0; i < f.head_len; i++) {
                sum = (uint8_t)(sum + f.head[i]);
            }
            for (size_t i = 0; i < f.attachment_len; i++) {
                sum = (uint8_t)(sum + f.attachment[i]);
            }
            total += FRAME_HEADER_SIZE + f.head_len + f.attachment_len;
        }
    }
    assert(total <= size);
    frame_parser_close(&p);
    return 0;
}
