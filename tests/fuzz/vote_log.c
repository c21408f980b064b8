/* Any bytes are a vote log's file: what is found in it is inside it, also with checksums made to
 * fit. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "consensus/vote_block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const uint8_t *data, size_t size)
{
    static struct vote_scan scan;
    vote_scan(data, size, &scan);
    for (uint32_t k = 1; k <= scan.n_blocks; k++) {
        struct vote_block b;
        if (!scan.there[k]) {
            assert(!scan.whole);
            continue;
        }
        assert(vote_block_decode(data + scan.at[k], size - scan.at[k], &b));
        assert(b.sequence == k && b.generation == scan.generation);
        for (uint32_t i = 0; i < b.n; i++) {
            struct vote_record r;
            vote_block_record(&b, i, &r);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try(data, size);
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    for (size_t at = 0; at + VOTE_BLOCK_HEADER <= size; at += VOTE_BLOCK_ALIGN) {
        size_t used = VOTE_BLOCK_HEADER + (size_t)load_le32(copy + at + 32) * VOTE_RECORD_SIZE;
        memcpy(copy + at, "WEIRVOTE", 8);
        if (used <= size - at) {
            store_le32(copy + at + 8, crc32c(0, copy + at + 12, used - 12));
        }
    }
    try(copy, size);
    free(copy);
    return 0;
}
