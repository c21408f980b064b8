/* The worker's input: every type of frame, valid checksums given, so that the fuzzer reaches what
 * is behind them. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "media/worker_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct wire_frame *f)
{
    struct wire_start start;
    struct wire_video video;
    struct wire_audio audio;
    struct wire_rendition rendition;
    struct wire_part part;
    struct wire_thumbnail thumbnail;
    struct wire_stats stats;
    struct wire_text text;
    (void)wire_get_start(f, &start);
    (void)wire_get_video(f, &video);
    (void)wire_get_audio(f, &audio);
    (void)wire_get_rendition(f, &rendition);
    (void)wire_get_part(f, &part);
    (void)wire_get_thumbnail(f, &thumbnail);
    (void)wire_get_stats(f, &stats);
    (void)wire_get_text(f, &text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_frame f;
    (void)wire_next(data, size, &f, NULL);
    uint8_t *copy = size >= WIRE_HEADER_SIZE ? malloc(size) : NULL;
    if (copy != NULL) {
        memcpy(copy, data, size);
        store_le32(copy + 4, (uint32_t)(size - WIRE_HEADER_SIZE));
        copy[8] = WIRE_VERSION;
        store_le32(copy, crc32c(0, copy + 4, size - 4));
        if (wire_next(copy, size, &f, NULL) == 1) {
            read_all(&f);
        }
        free(copy);
    }
    return 0;
}
