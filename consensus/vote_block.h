/* Format of the vote log's files (consensus/vote_log.h): blocks, each at a multiple of 4096 bytes
 * and padded with zeros to one, each written twice in a row. Little endian:
 *
 *   at size field
 *    0  8  magic "WEIRVOTE"
 *    8  4  crc32c of bytes 12..39+24n
 *   12  4  version: 1
 *   16  8  generation: grows by one from file to file
 *   24  8  sequence of the block in its generation, from 1; the first holds all groups
 *   32  4  number of records, n
 *   36  4  zero
 *   40 24n records: group u32, zero u32, term u64, vote u64 (server id, 0: none)
 *
 * Pure functions; any thread. */
#ifndef CONSENSUS_VOTE_BLOCK_H
#define CONSENSUS_VOTE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOTE_BLOCK_ALIGN  4096u
#define VOTE_BLOCK_HEADER 40u
#define VOTE_RECORD_SIZE  24u
#define VOTE_GROUPS_MAX   16384u
#define VOTE_BLOCKS_MAX   512u /* in a file that is read */

struct vote_record {
    uint32_t group;
    uint64_t term, vote;
};

struct vote_block {
    uint64_t generation, sequence;
    uint32_t n;
    size_t size;            /* of one copy, padded */
    const uint8_t *records; /* inside the data that was decoded */
};

size_t vote_block_size(uint32_t n);
/* Writes one copy, with its padding. */
void vote_block_encode(uint8_t *out, uint64_t generation, uint64_t sequence,
                       const struct vote_record *records, uint32_t n);
/* False: no whole block begins here. */
bool vote_block_decode(const uint8_t *data, size_t len, struct vote_block *ret_block);
void vote_block_record(const struct vote_block *block, uint32_t i, struct vote_record *ret_record);

/* What a whole file holds. */
struct vote_scan {
    uint64_t generation;            /* newest; 0: no block at all */
    uint32_t n_blocks;              /* its highest sequence */
    bool whole;                     /* none of 1..n_blocks is missing */
    size_t at[VOTE_BLOCKS_MAX + 1]; /* position of block k, 0 and !there[k]: missing */
    bool there[VOTE_BLOCKS_MAX + 1];
};
void vote_scan(const uint8_t *data, size_t len, struct vote_scan *ret_scan);

#endif
