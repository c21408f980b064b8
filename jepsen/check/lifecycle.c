/* Broadcasts, sessions and playlists, as edges show them.
 *
 *   :publish {:channel 1, :publisher 2, :expect :same} -> and :broadcast "63f5.."; :expect :same:
 * the last one goes on :playlist {:edge "n1", :channel 1, :rendition "source"} -> and :broadcast,
 * :first 4 (media sequence), :parts [[msn part crc epoch] ..] in order, oldest first (crc, epoch:
 * nil where not known), and where the edge tells them :offset, :hash of the bytes :view {:node
 * "n1", :topic "chat", :partition 2} -> and :offset, :hash :play {:edge "n1", :channel 1} -> and
 * :msn, :part, :stall-ms: a player has got a part
 *
 *   inconsistent-part         one part, two contents
 *   nonmonotonic-playlist     the newest part or the media sequence of a reader's next playlist is
 * lower playlist-gap              the parts of a playlist do not follow one another
 *   inconsistent-playlist     one offset, two playlists
 *   inconsistent-view         one offset, two states
 *   broadcast-changed         a publisher that came back began another broadcast
 *   old-epoch                 a part of an owner that had been replaced stands behind one of its
 * successor nonmonotonic-play         a player was given an older part than before */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"

#define PART_BITS 12

struct lifecycle {
    struct report *r;
    struct table crc;       /* stream, part -> crc */
    struct table newest;    /* process and channel, rendition and broadcast -> part */
    struct table first;     /* the same -> media sequence */
    struct table hash;      /* where, offset -> hash */
    struct table broadcast; /* channel -> broadcast */
    struct table played;    /* process, broadcast -> part */
    uint64_t playlists, parts, views, plays;
    int64_t worst_stall_ms;
};

/* FNV-1a of what stands there: names become numbers. */
static int64_t name_of(const struct edn *e, int64_t h)
{
    uint64_t x = (uint64_t)h ^ 0xcbf29ce484222325u;
    for (size_t i = 0; e != NULL && i < e->len; i++) {
        x = (x ^ (uint8_t)e->text[i]) * 0x100000001b3u;
    }
    return (int64_t)(x >> 1);
}

static int64_t field(const struct op *op, const char *name)
{
    return edn_int(edn_get(op->value, name), -1);
}

static int64_t stream_of(const struct op *op)
{
    int64_t h = name_of(edn_get(op->value, "rendition"), field(op, "channel"));
    return name_of(edn_get(op->value, "broadcast"), h);
}

/* --- Playlists --- */

static void judge_content(struct lifecycle *l, const struct op *op, int64_t part,
                          const struct edn *crc)
{
    if (!edn_is_int(crc)) {
        return;
    }
    int64_t *known = table_put(&l->crc, stream_of(op), part, crc->i);
    if (*known != crc->i) {
        report_anomaly(l->r, "inconsistent-part",
                       "{:channel %lld :msn %lld :part %lld :crcs [%lld %lld] :index %lld}",
                       (long long)field(op, "channel"), (long long)(part >> PART_BITS),
                       (long long)(part & ((1 << PART_BITS) - 1)), (long long)*known,
                       (long long)crc->i, (long long)op->index);
    }
}

static bool follows(int64_t part, int64_t last)
{
    bool begins = (part & ((1 << PART_BITS) - 1)) == 0;
    return part == last + 1 || (begins && part >> PART_BITS == (last >> PART_BITS) + 1);
}

/* Newest part of the playlist; -1: it has none. */
static int64_t judge_parts(struct lifecycle *l, const struct op *op)
{
    const struct edn *parts = edn_get(op->value, "parts");
    int64_t last = -1, epoch = -1;
    for (const struct edn *p = parts != NULL ? parts->first : NULL; p != NULL; p = p->next) {
        int64_t part = edn_int(edn_at(p, 0), 0) << PART_BITS | edn_int(edn_at(p, 1), 0);
        int64_t now = edn_int(edn_at(p, 3), epoch);
        if (last >= 0 && !follows(part, last)) {
            report_anomaly(l->r, "playlist-gap",
                           "{:channel %lld :after [%lld %lld] :part [%lld %lld] :index %lld}",
                           (long long)field(op, "channel"), (long long)(last >> PART_BITS),
                           (long long)(last & ((1 << PART_BITS) - 1)),
                           (long long)(part >> PART_BITS),
                           (long long)(part & ((1 << PART_BITS) - 1)), (long long)op->index);
        }
        if (now < epoch) {
            report_anomaly(l->r, "old-epoch", "{:channel %lld :epochs [%lld %lld] :index %lld}",
                           (long long)field(op, "channel"), (long long)epoch, (long long)now,
                           (long long)op->index);
        }
        judge_content(l, op, part, edn_at(p, 2));
        l->parts++;
        last = part;
        epoch = now;
    }
    return last;
}

static void judge_back(struct lifecycle *l, struct table *t, const struct op *op, const char *what,
                       int64_t now)
{
    int64_t *last = table_put(t, op->process, stream_of(op), -1);
    if (now < *last) {
        report_anomaly(l->r, "nonmonotonic-playlist",
                       "{:process %lld :channel %lld :%s [%lld %lld] :index %lld}",
                       (long long)op->process, (long long)field(op, "channel"), what,
                       (long long)*last, (long long)now, (long long)op->index);
    }
    *last = now;
}

static void judge_hash(struct lifecycle *l, const struct op *op, int64_t where, const char *name)
{
    const struct edn *hash = edn_get(op->value, "hash");
    int64_t offset = field(op, "offset");
    if (hash == NULL || offset < 0) {
        return;
    }
    int64_t now = hash->type == EDN_INT ? hash->i : name_of(hash, 0);
    int64_t *known = table_put(&l->hash, where, offset, now);
    if (*known != now) {
        report_anomaly(l->r, name, "{:offset %lld :index %lld}", (long long)offset,
                       (long long)op->index);
    }
}

static void judge_playlist(struct lifecycle *l, const struct op *op)
{
    int64_t newest = judge_parts(l, op), first = field(op, "first");
    l->playlists++;
    if (newest >= 0) {
        judge_back(l, &l->newest, op, "newest", newest);
    }
    if (first >= 0) {
        judge_back(l, &l->first, op, "first", first);
    }
    judge_hash(l, op, stream_of(op), "inconsistent-playlist");
}

/* --- The rest --- */

static void judge_publish(struct lifecycle *l, const struct op *op)
{
    const struct edn *broadcast = edn_get(op->value, "broadcast");
    if (broadcast == NULL || broadcast->type != EDN_STRING) {
        return;
    }
    int64_t now = name_of(broadcast, 0);
    int64_t *last = table_put(&l->broadcast, field(op, "channel"), 0, now);
    if (*last != now && edn_is(edn_get(op->value, "expect"), "same")) {
        report_anomaly(l->r, "broadcast-changed", "{:channel %lld :broadcast \"%.*s\" :index %lld}",
                       (long long)field(op, "channel"), (int)broadcast->len, broadcast->text,
                       (long long)op->index);
    }
    *last = now;
}

static void judge_view(struct lifecycle *l, const struct op *op)
{
    l->views++;
    judge_hash(l, op, name_of(edn_get(op->value, "topic"), field(op, "partition")),
               "inconsistent-view");
}

static void judge_play(struct lifecycle *l, const struct op *op)
{
    int64_t part = field(op, "msn") << PART_BITS | field(op, "part");
    int64_t stall = field(op, "stall-ms"),
            *last = table_put(&l->played, op->process, stream_of(op), -1);
    l->plays++;
    l->worst_stall_ms = stall > l->worst_stall_ms ? stall : l->worst_stall_ms;
    if (part <= *last) {
        report_anomaly(l->r, "nonmonotonic-play", "{:process %lld :parts [%lld %lld] :index %lld}",
                       (long long)op->process, (long long)*last, (long long)part,
                       (long long)op->index);
    }
    *last = part;
}

void check_lifecycle(const struct ops *ops, struct report *r)
{
    struct lifecycle l = {.r = r};
    struct table *tables[] = {&l.crc, &l.newest, &l.first, &l.hash, &l.broadcast, &l.played};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_open(tables[i]);
    }
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        if (op_is(op, HISTORY_OK, "playlist")) {
            judge_playlist(&l, op);
        } else if (op_is(op, HISTORY_OK, "publish")) {
            judge_publish(&l, op);
        } else if (op_is(op, HISTORY_OK, "view")) {
            judge_view(&l, op);
        } else if (op_is(op, HISTORY_OK, "play")) {
            judge_play(&l, op);
        }
    }
    if (l.playlists + l.plays == 0) {
        r->unknown = "no playlist was read";
    }
    report_figure(
        r, ":playlists %llu, :parts %llu, :views %llu, :played %llu, :longest-stall-ms %lld",
        (unsigned long long)l.playlists, (unsigned long long)l.parts, (unsigned long long)l.views,
        (unsigned long long)l.plays, (long long)l.worst_stall_ms);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_close(tables[i]);
    }
}
