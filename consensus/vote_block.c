#include "consensus/vote_block.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define MAGIC   "WEIRVOTE"
#define VERSION 1

size_t vote_block_size(uint32_t n)
{
    size_t size = VOTE_BLOCK_HEADER + (size_t)n * VOTE_RECORD_SIZE;
    return (size + VOTE_BLOCK_ALIGN - 1) / VOTE_BLOCK_ALIGN * VOTE_BLOCK_ALIGN;
}

void vote_block_encode(uint8_t *out, uint64_t generation, uint64_t sequence,
                       const struct vote_record *records, uint32_t n)
{
    memset(out, 0, vote_block_size(n));
    memcpy(out, MAGIC, 8);
    store_le32(out + 12, VERSION);
    store_le64(out + 16, generation);
    store_le64(out + 24, sequence);
    store_le32(out + 32, n);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *at = out + VOTE_BLOCK_HEADER + (size_t)i * VOTE_RECORD_SIZE;
        store_le32(at, records[i].group);
        store_le64(at + 8, records[i].term);
        store_le64(at + 16, records[i].vote);
    }
    size_t len = VOTE_BLOCK_HEADER + (size_t)n * VOTE_RECORD_SIZE;
    store_le32(out + 8, crc32c(0, out + 12, len - 12));
}

bool vote_block_decode(const uint8_t *data, size_t len, struct vote_block *ret_block)
{
    if (len < VOTE_BLOCK_HEADER || memcmp(data, MAGIC, 8) != 0 || load_le32(data + 12) != VERSION) {
        return false;
    }
    struct vote_block b = {
        .generation = load_le64(data + 16),
        .sequence = load_le64(data + 24),
        .n = load_le32(data + 32),
        .records = data + VOTE_BLOCK_HEADER,
    };
    if (b.n > VOTE_GROUPS_MAX || b.generation == 0 || b.sequence == 0) {
        return false;
    }
    size_t used = VOTE_BLOCK_HEADER + (size_t)b.n * VOTE_RECORD_SIZE;
    b.size = vote_block_size(b.n);
    if (used > len || load_le32(data + 8) != crc32c(0, data + 12, used - 12)) {
        return false;
    }
    *ret_block = b;
    return true;
}

void vote_block_record(const struct vote_block *block, uint32_t i, struct vote_record *ret_record)
{
    const uint8_t *at = block->records + (size_t)i * VOTE_RECORD_SIZE;
    *ret_record = (struct vote_record){
        .group = load_le32(at),
        .term = load_le64(at + 8),
        .vote = load_le64(at + 16),
    };
}

static void note(struct vote_scan *scan, const struct vote_block *b, size_t at)
{
    if (b->generation > scan->generation) {
        memset(scan, 0, sizeof(*scan));
        scan->generation = b->generation;
    }
    if (b->generation < scan->generation || b->sequence > VOTE_BLOCKS_MAX ||
        scan->there[b->sequence]) {
        return;
    }
    scan->there[b->sequence] = true;
    scan->at[b->sequence] = at;
    scan->n_blocks = b->sequence > scan->n_blocks ? (uint32_t)b->sequence : scan->n_blocks;
}

void vote_scan(const uint8_t *data, size_t len, struct vote_scan *ret_scan)
{
    struct vote_block b;
    memset(ret_scan, 0, sizeof(*ret_scan));
    for (size_t at = 0; at + VOTE_BLOCK_ALIGN <= len;) {
        bool there = vote_block_decode(data + at, len - at, &b);
        if (there) {
            note(ret_scan, &b, at);
        }
        at += there ? b.size : VOTE_BLOCK_ALIGN;
    }
    ret_scan->whole = ret_scan->n_blocks > 0;
    for (uint32_t k = 1; k <= ret_scan->n_blocks; k++) {
        ret_scan->whole = ret_scan->whole && ret_scan->there[k];
    }
}
