#include "log/meta.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

#define META_MAGIC "WEIRMETA"
#define MARK_MAGIC "WEIRMARK"
#define VERSION    1
#define FLAGGED    2 /* the version of a meta slot with flags */

#define FLAG_RECOVERING   1u
#define FLAG_VOTES_SHARED 2u
#define FLAG_WISH_SHIFT   2
#define FLAGS_ALL         0xfu

uint64_t meta_position(uint64_t counter)
{
    return counter % 2 * META_SLOT_SIZE;
}

void meta_encode(const struct meta *meta, uint8_t slot[META_SLOT_SIZE])
{
    assert(meta->config_len <= META_CONFIG_MAX && meta->wish <= META_WISH_MAX);
    memset(slot, 0, META_SLOT_SIZE);
    memcpy(slot, META_MAGIC, 8);
    uint32_t flags = (meta->recovering ? FLAG_RECOVERING : 0) |
                     (meta->votes_shared ? FLAG_VOTES_SHARED : 0) |
                     (uint32_t)meta->wish << FLAG_WISH_SHIFT;
    store_le32(slot + 12, flags == 0 ? VERSION : FLAGGED);
    store_le64(slot + 16, meta->counter);
    store_le64(slot + 24, meta->term.v);
    store_le64(slot + 32, meta->vote);
    store_le64(slot + 40, meta->snapshot_index.v);
    store_le64(slot + 48, meta->snapshot_term.v);
    store_le64(slot + 56, meta->snapshot_config_index.v);
    store_le32(slot + 64, meta->config_len);
    store_le32(slot + 68, flags);
    memcpy(slot + META_HEADER_SIZE, meta->config, meta->config_len);
    store_le32(slot + 8, crc32c(0, slot + 12, META_HEADER_SIZE - 12 + meta->config_len));
    if (meta->begun_index.v > 0) {
        store_le64(slot + META_BEGUN_AT, meta->begun_index.v);
        store_le32(slot + META_BEGUN_AT + 8, crc32c(0, slot + META_BEGUN_AT, 8));
    }
}

bool meta_decode(const uint8_t slot[META_SLOT_SIZE], struct meta *ret_meta)
{
    uint32_t n = load_le32(slot + 64);
    uint32_t version = load_le32(slot + 12), flags = load_le32(slot + 68);
    if (memcmp(slot, META_MAGIC, 8) != 0 || n > META_CONFIG_MAX ||
        load_le32(slot + 8) != crc32c(0, slot + 12, META_HEADER_SIZE - 12 + n) ||
        (version == VERSION ? flags != 0
                            : version != FLAGGED || flags == 0 || (flags & ~FLAGS_ALL) != 0)) {
        return false;
    }
    *ret_meta = (struct meta){
        .counter = load_le64(slot + 16),
        .term = LOG_TERM(load_le64(slot + 24)),
        .vote = load_le64(slot + 32),
        .snapshot_index = LOG_INDEX(load_le64(slot + 40)),
        .snapshot_term = LOG_TERM(load_le64(slot + 48)),
        .snapshot_config_index = LOG_INDEX(load_le64(slot + 56)),
        .recovering = (flags & FLAG_RECOVERING) != 0,
        .votes_shared = (flags & FLAG_VOTES_SHARED) != 0,
        .wish = (uint8_t)(flags >> FLAG_WISH_SHIFT & META_WISH_MAX),
        .config_len = n,
    };
    memcpy(ret_meta->config, slot + META_HEADER_SIZE, n);
    if (load_le32(slot + META_BEGUN_AT + 8) == crc32c(0, slot + META_BEGUN_AT, 8)) {
        ret_meta->begun_index = LOG_INDEX(load_le64(slot + META_BEGUN_AT));
    }
    return true;
}

void mark_encode(const struct mark *mark, uint8_t out[MARK_SIZE])
{
    memcpy(out, MARK_MAGIC, 8);
    store_le32(out + 12, VERSION);
    store_le64(out + 16, mark->synced.v);
    store_le64(out + 24, mark->meta_counter);
    store_le64(out + 32, mark->clean_end);
    store_le32(out + 8, crc32c(0, out + 12, MARK_SIZE - 12));
}

bool mark_decode(const uint8_t in[MARK_SIZE], struct mark *ret_mark)
{
    if (memcmp(in, MARK_MAGIC, 8) != 0 || load_le32(in + 8) != crc32c(0, in + 12, MARK_SIZE - 12) ||
        load_le32(in + 12) != VERSION) {
        return false;
    }
    *ret_mark = (struct mark){
        .synced = LOG_INDEX(load_le64(in + 16)),
        .meta_counter = load_le64(in + 24),
        .clean_end = load_le64(in + 32),
    };
    return true;
}
