/* How far compaction has come: which segments take part, which are done, and what is told of it. */
#include "log/batch.h"
#include "log/partition_priv.h"

#define BUFFER_MAX (64u << 20)

/* --- What takes part --- */

bool compact_awaits_close(const struct partition *p, const struct segment *seg)
{
    return seg->first_offset.v < p->begin.compacted.v &&
           seg->s.next_offset.v >= p->begin.compacted.v;
}

bool compact_takes_part(const struct partition *p, const struct segment *seg)
{
    return seg->closed && !seg->planned && !seg->lost &&
           seg->first_offset.v < p->begin.compacted.v && seg->s.last_index.v <= p->durable &&
           seg->s.last_index.v <= p->commit;
}

/* How far it can be done now, with what number of segments. */
int64_t compact_reach(const struct partition *p, uint32_t *ret_n)
{
    int64_t upto = 0;
    uint32_t n = 0;
    while (n + 1 < p->n_segments && compact_takes_part(p, p->segments[n])) {
        int64_t end = p->segments[n]->s.next_offset.v;
        upto = end < p->begin.compacted.v ? end : p->begin.compacted.v;
        n++;
    }
    *ret_n = n;
    if (p->segments[n]->first_offset.v >= p->begin.compacted.v) {
        return p->begin.compacted.v; /* retention may have taken all of it */
    }
    return upto;
}

bool compact_is_clean(const struct segment *seg, const struct segment_clean *wanted)
{
    return seg->first_offset.v >= wanted->upto ||
           (seg->clean.upto >= wanted->upto && seg->clean.tombstones_ms >= wanted->tombstones_ms);
}

bool compact_all_clean(const struct partition *p, uint32_t n, const struct segment_clean *wanted)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!compact_is_clean(p->segments[i], wanted)) {
            return false;
        }
    }
    return true;
}

/* --- Telling --- */

static int64_t clean_upto(const struct partition *p)
{
    int64_t upto = p->begin.compacted.v;
    if (p->failed || p->holes.n > 0 || p->compact.unsynced) {
        return 0;
    }
    for (uint32_t i = 0; i < p->n_segments && p->segments[i]->first_offset.v < upto; i++) {
        const struct segment *seg = p->segments[i];
        if (seg->clean.upto < upto) {
            upto = seg->clean.upto > seg->first_offset.v ? seg->clean.upto : seg->first_offset.v;
        }
    }
    return upto;
}

void partition_compaction(const struct partition *p, struct partition_compaction *ret)
{
    uint32_t n;
    struct segment_clean wanted = {p->begin.compacted.v, p->begin.tombstones_ms};
    int64_t upto = compact_reach(p, &n);
    *ret = (struct partition_compaction){
        .upto = p->begin.compacted,
        .tombstones_ms = p->begin.tombstones_ms,
        .running = p->begin.compacted.v > 0 &&
                   (upto < p->begin.compacted.v || !compact_all_clean(p, n, &wanted)),
        .clean = LOG_OFFSET(clean_upto(p)),
        .waits = n + 1 == p->n_segments && compact_awaits_close(p, partition_active(p)),
    };
}

int64_t partition_time_at(struct partition *p, struct log_offset offset)
{
    struct bytes out;
    struct log_offset next;
    int64_t ms = 0;
    bytes_init(&out, BUFFER_MAX);
    if (offset.v < p->high_watermark && partition_fetch(p, offset, 1, &out, &next, NULL) == 0 &&
        out.len > 0) {
        ms = batch_append_ms(out.data);
    }
    bytes_close(&out);
    return ms;
}

bool partition_range_compacted(const struct partition *p, struct log_index first,
                               struct log_index last)
{
    struct segment_clean wanted = {p->begin.compacted.v, p->begin.tombstones_ms};
    if (p->holes.n > 0) {
        return false;
    }
    for (uint32_t i = partition_segment_at(p, first.v);
         i < p->n_segments && p->segments[i]->first_index.v <= last.v; i++) {
        if (!compact_is_clean(p->segments[i], &wanted)) {
            return false;
        }
    }
    return true;
}

bool partition_compactable(const struct partition *p, struct log_offset *ret_upto)
{
    uint64_t dirty = 0, all = 0;
    int64_t upto = 0;
    for (uint32_t i = 0; i + 1 < p->n_segments; i++) {
        const struct segment *seg = p->segments[i];
        if (!seg->closed || seg->s.last_index.v > p->commit || seg->s.last_index.v > p->durable) {
            break;
        }
        all += seg->s.end;
        dirty += seg->s.next_offset.v > p->begin.compacted.v ? seg->s.end : 0;
        upto = seg->s.next_offset.v;
    }
    if (upto <= p->begin.compacted.v || dirty * 2 < all) {
        return false;
    }
    *ret_upto = LOG_OFFSET(upto);
    return true;
}
