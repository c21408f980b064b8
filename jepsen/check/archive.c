/* What is left of broadcasts at the end, as every edge gives it back.
 *
 *   :broadcasts {:edge "n1", :channel 1} -> and :broadcasts [["63f5.." duration-ms] ..]
 *   :vod {:edge "n1", :channel 1, :broadcast "63f5..", :rendition "source"} -> and :hash of the
 * playlist, :segments [[msn size crc [session ..]] ..] (size, crc nil: not to be had), or :missing
 * true; or :malformed "why"
 *
 *   inconsistent-broadcasts   edges differ in what broadcasts there were
 *   lost-broadcast            one whose parts were shown is not among them
 *   inconsistent-vod          edges differ in the playlist of an ended broadcast
 *   malformed-vod             one that can't be read
 *   vod-gap                   its numbers are not dense
 *   lost-part                 a part that was shown is not in it
 *   unreadable                an edge can't give back a playlist or a segment
 *   wrong-segment             a segment is not its parts, one behind the other; or edges differ
 *   old-epoch                 see lifecycle.c */
#include <stdlib.h>

#include "jepsen/check/lifecycle_priv.h"

#define LISTED_MAX 100 /* an edge tells the newest ones */

/* --- CRC-32C of joined texts ---
 *
 * Appending a byte of zeros multiplies the register, as a polynomial modulo P, by x^8; see zlib's
 * crc32_combine, with the polynomial of RFC 3720 appendix B.4, bits reversed. */

#define POLYNOMIAL 0x82f63b78u

static uint32_t times(const uint32_t matrix[32], uint32_t vector)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < 32; i++) {
        sum ^= (vector >> i & 1) != 0 ? matrix[i] : 0;
    }
    return sum;
}

static void square(uint32_t out[32], const uint32_t matrix[32])
{
    for (unsigned i = 0; i < 32; i++) {
        out[i] = times(matrix, matrix[i]);
    }
}

static uint32_t joined(uint32_t a, uint32_t b, uint64_t len_b)
{
    uint32_t step[2][32] = {{POLYNOMIAL}}; /* of one bit */
    unsigned now = 0;
    for (unsigned i = 1; i < 32; i++) {
        step[0][i] = 1u << (i - 1);
    }
    for (unsigned i = 0; i < 3; i++, now ^= 1) {
        square(step[now ^ 1], step[now]);
    }
    for (; len_b != 0; len_b >>= 1, now ^= 1) {
        a = (len_b & 1) != 0 ? times(step[now], a) : a;
        square(step[now ^ 1], step[now]);
    }
    return a ^ b;
}

/* --- A segment --- */

/* Only when all of its parts were seen. */
static void judge_parts_of(struct lifecycle *l, const struct op *op, int64_t msn, int64_t size,
                           int64_t crc)
{
    int64_t stream = lifecycle_stream(op), sum = 0;
    int64_t last = table_get(&l->last_of, stream, msn, -1);
    uint32_t all = 0;
    for (int64_t k = 0; k <= last; k++) {
        const int64_t *one = table_find(&l->crc, stream, lifecycle_number(msn, k));
        if (one == NULL) {
            return;
        }
        int64_t n = table_get(&l->size, stream, lifecycle_number(msn, k), 0);
        all = joined(all, (uint32_t)*one, (uint64_t)n);
        sum += n;
    }
    if (last >= 0 && (sum != size || (int64_t)all != crc)) {
        report_anomaly(l->r, "wrong-segment",
                       "{:channel %lld :msn %lld :parts %lld :sizes [%lld %lld] :index %lld}",
                       (long long)lifecycle_field(op, "channel"), (long long)msn,
                       (long long)last + 1, (long long)sum, (long long)size, (long long)op->index);
    }
}

static void judge_segment(struct lifecycle *l, const struct op *op, const struct edn *segment,
                          int64_t *session)
{
    int64_t msn = edn_int(edn_at(segment, 0), -1);
    const struct edn *size = edn_at(segment, 1), *crc = edn_at(segment, 2),
                     *marks = edn_at(segment, 3);
    l->segments++;
    if (!edn_is_int(crc)) {
        const struct edn *edge = edn_get(op->value, "edge");
        report_anomaly(l->r, "unreadable", "{:edge %.*s :channel %lld :msn %lld :index %lld}",
                       edge != NULL ? (int)edge->len : 0, edge != NULL ? edge->text : "",
                       (long long)lifecycle_field(op, "channel"), (long long)msn,
                       (long long)op->index);
        return;
    }
    for (const struct edn *m = marks != NULL ? marks->first : NULL; m != NULL; m = m->next) {
        lifecycle_session(l, op, m, session);
    }
    lifecycle_hash(l, op, lifecycle_stream(op) ^ 1, msn, crc, "wrong-segment");
    judge_parts_of(l, op, msn, edn_int(size, -1), crc->i);
}

/* --- A playlist --- */

static void judge_end(struct lifecycle *l, const struct op *op, int64_t last)
{
    const int64_t *top = table_find(&l->top, lifecycle_stream(op), 0);
    if (top != NULL && MSN_OF(*top) > last) {
        report_anomaly(l->r, "lost-part",
                       "{:channel %lld :part [%lld %lld] :last-msn %lld :index %lld}",
                       (long long)lifecycle_field(op, "channel"), MSN_OF(*top), PART_OF(*top),
                       (long long)last, (long long)op->index);
    }
}

static void judge_vod(struct lifecycle *l, const struct op *op)
{
    const struct edn *malformed = edn_get(op->value, "malformed"),
                     *segments = edn_get(op->value, "segments"), *hash = edn_get(op->value, "hash");
    int64_t last = -1, session = -1;
    l->vods++;
    if (malformed != NULL) {
        report_anomaly(l->r, "malformed-vod", "{:why \"%.*s\" :index %lld}", (int)malformed->len,
                       malformed->text, (long long)op->index);
        return;
    }
    lifecycle_hash(l, op, lifecycle_stream(op) ^ 2, 0,
                   hash != NULL ? hash : edn_get(op->value, "missing"), "inconsistent-vod");
    for (const struct edn *s = segments != NULL ? segments->first : NULL; s != NULL; s = s->next) {
        int64_t msn = edn_int(edn_at(s, 0), -1);
        if (last >= 0 && msn != last + 1) {
            report_anomaly(l->r, "vod-gap", "{:channel %lld :msns [%lld %lld] :index %lld}",
                           (long long)lifecycle_field(op, "channel"), (long long)last,
                           (long long)msn, (long long)op->index);
        }
        judge_segment(l, op, s, &session);
        last = msn;
    }
    judge_end(l, op, last);
}

/* --- All of a channel's --- */

static void judge_broadcasts(struct lifecycle *l, const struct op *op)
{
    const struct edn *all = edn_get(op->value, "broadcasts");
    int64_t channel = lifecycle_field(op, "channel");
    if (all == NULL) {
        return;
    }
    (void)table_put(&l->listed, channel, 0, all->n);
    lifecycle_hash(l, op, channel, 0, all, "inconsistent-broadcasts");
    for (const struct edn *b = all->first; b != NULL; b = b->next) {
        (void)table_put(&l->listed, channel, lifecycle_name(edn_at(b, 0), 0), 1);
    }
}

static void find_lost(struct lifecycle *l)
{
    for (size_t i = 0; l->shown.n > 0 && i <= l->shown.mask; i++) {
        const struct table_entry *e = &l->shown.entries[i];
        int64_t n = e->used ? table_get(&l->listed, e->a, 0, LISTED_MAX) : LISTED_MAX;
        if (n < LISTED_MAX && table_find(&l->listed, e->a, e->b) == NULL) {
            report_anomaly(l->r, "lost-broadcast", "{:channel %lld :index %lld}", (long long)e->a,
                           (long long)e->value);
        }
    }
}

void archive_check(struct lifecycle *l)
{
    for (size_t i = 0; i < l->ops->n; i++) {
        const struct op *op = &l->ops->at[i];
        if (op_is(op, HISTORY_OK, "vod")) {
            judge_vod(l, op);
        } else if (op_is(op, HISTORY_OK, "broadcasts")) {
            judge_broadcasts(l, op);
        } else if (op_is(op, HISTORY_FAIL, "vod") || op_is(op, HISTORY_FAIL, "broadcasts")) {
            report_anomaly(l->r, "unreadable", "{:channel %lld :index %lld}",
                           (long long)lifecycle_field(op, "channel"), (long long)op->index);
        }
    }
    find_lost(l);
}
