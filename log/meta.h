/* The small files of a partition.
 *
 * `meta`: term, vote and metadata snapshot, in two slots of 4096 bytes that are written in turn;
 * the good one with the higher counter counts. A slot, little endian:
 *
 *   at size field
 *    0  8  magic "WEIRMETA"
 *    8  4  crc32c of bytes 12..71+n
 *   12  4  version: 1; 2 when a flag is set: who does not know flags must not read it
 *   16  8  counter, from 1
 *   24  8  term
 *   32  8  vote, 0: none
 *   40  8  snapshot index, 0: none
 *   48  8  snapshot term
 *   56  8  index of the snapshot's configuration
 *   64  4  length of the configuration, n
 *   68  4  flags; bit 0: recovering; bit 1: term and vote are in the vote log; bits 2 and 3: wish
 *   72  n  configuration
 * 4080  8  the log was empty when its group had committed up to this entry; 0: not known
 * 4088  4  crc32c of bytes 4080..4087
 *
 * The last two were added later: who does not know them passes them over, and then they are 0.
 *
 * Term and vote of a slot with bit 1 are a lower bound; consensus/vote_log.h has what counts.
 *
 * Recovering: the replica has lost what it promised (its votes, or the end of its log) and takes no
 * part until it has learned it anew; see consensus/founding.h. The wish is what it was before, and
 * asks to become again: 0 not known, or nothing to ask for; 1 no member; 2 standby; 3 voter.
 *
 * `mark`: how far the log and the meta file are known to be durable. Written in place now and then,
 * mostly without a sync of its own: it may lag but never runs ahead, and a damaged one counts as
 * absent. It is lowered, durably, before entries are removed.
 *
 *    0  8  magic "WEIRMARK"
 *    8  4  crc32c of bytes 12..39
 *   12  4  version: 1
 *   16  8  synced index
 *   24  8  counter of the meta slot
 *   32  8  end of the last segment's frames when it was closed in order, else 0
 *
 * What the mark is for: a bad frame at or below its index, or a meta file whose counter is lower,
 * is damage and not a torn write. */
#ifndef LOG_META_H
#define LOG_META_H

#include <stdbool.h>

#include "log/types.h"

#define META_SLOT_SIZE   4096
#define META_FILE_SIZE   (2 * META_SLOT_SIZE)
#define META_HEADER_SIZE 72
#define META_BEGUN_AT    4080
#define META_CONFIG_MAX  (META_BEGUN_AT - META_HEADER_SIZE)
#define MARK_SIZE        40
#define META_WISH_MAX    3

struct meta {
    uint64_t counter;
    struct log_term term;
    uint64_t vote;
    struct log_index snapshot_index;
    struct log_term snapshot_term;
    struct log_index snapshot_config_index;
    bool recovering, votes_shared;
    uint8_t wish; /* 0..META_WISH_MAX */
    struct log_index begun_index;
    uint32_t config_len;
    uint8_t config[META_CONFIG_MAX];
};

struct mark {
    struct log_index synced;
    uint64_t meta_counter;
    uint64_t clean_end;
};

/* Fills a whole slot. */
void meta_encode(const struct meta *meta, uint8_t slot[META_SLOT_SIZE]);
bool meta_decode(const uint8_t slot[META_SLOT_SIZE], struct meta *ret_meta);
/* The slot that counter `counter` goes to: its byte position in the file. */
uint64_t meta_position(uint64_t counter);

void mark_encode(const struct mark *mark, uint8_t out[MARK_SIZE]);
bool mark_decode(const uint8_t in[MARK_SIZE], struct mark *ret_mark);

#endif
