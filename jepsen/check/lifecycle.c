/* Broadcasts, sessions and playlists, as edges show them.
 *
 *   :publish {:channel 1, :publisher 2, :expect :same} -> and :broadcast "63f5.."; :expect :same:
 * the last one goes on
 *   :playlist {:edge "n1", :channel 1, :rendition "source"} -> and :broadcast, :first 4 (media
 * sequence), :parts [[msn part crc session size] ..] in order, oldest first (nil where not known),
 * :offset and :hash of where it stands; or :malformed "why"
 *   :view {:node "n1", :topic "chat", :partition 2} -> and :offset, :hash
 *   :play: stalls.c; :broadcasts, :vod: archive.c
 *
 *   inconsistent-part         one part, two contents
 *   nonmonotonic-playlist     the newest part or the media sequence of a reader's next playlist is
 *                             lower
 *   playlist-gap              the parts of a playlist do not follow one another
 *   inconsistent-playlist     one offset, two playlists
 *   malformed-playlist        one that can't be read
 *   inconsistent-view         one offset, two states
 *   broadcast-changed         a publisher that came back began another broadcast
 *   old-epoch                 a part of a session that had been replaced stands behind one of its
 *                             successor */
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/lifecycle_priv.h"

int64_t lifecycle_name(const struct edn *e, int64_t h)
{
    uint64_t x = (uint64_t)h ^ 0xcbf29ce484222325u;
    for (size_t i = 0; e != NULL && i < e->len; i++) {
        x = (x ^ (uint8_t)e->text[i]) * 0x100000001b3u;
    }
    return (int64_t)(x >> 1);
}

int64_t lifecycle_field(const struct op *op, const char *name)
{
    return edn_int(edn_get(op->value, name), -1);
}

int64_t lifecycle_stream(const struct op *op)
{
    int64_t h = lifecycle_name(edn_get(op->value, "rendition"), lifecycle_field(op, "channel"));
    return lifecycle_name(edn_get(op->value, "broadcast"), h);
}

/* --- What all tell of --- */

void lifecycle_content(struct lifecycle *l, const struct op *op, int64_t number,
                       const struct edn *crc, const struct edn *size)
{
    int64_t stream = lifecycle_stream(op);
    int64_t *top = table_put(&l->top, stream, 0, number);
    *top = number > *top ? number : *top;
    if (!edn_is_int(crc)) {
        return;
    }
    (void)table_put(&l->size, stream, number, edn_int(size, 0));
    int64_t *known = table_put(&l->crc, stream, number, crc->i);
    if (*known != crc->i) {
        report_anomaly(l->r, "inconsistent-part",
                       "{:channel %lld :msn %lld :part %lld :crcs [%lld %lld] :index %lld}",
                       (long long)lifecycle_field(op, "channel"), MSN_OF(number), PART_OF(number),
                       (long long)*known, (long long)crc->i, (long long)op->index);
    }
}

void lifecycle_session(struct lifecycle *l, const struct op *op, const struct edn *session,
                       int64_t *last)
{
    if (!edn_is_int(session) || session->i == *last) {
        return;
    }
    int64_t *been = table_put(&l->sessions, op->index, session->i, 0);
    if (*been != 0) {
        report_anomaly(l->r, "old-epoch", "{:channel %lld :sessions [%lld %lld] :index %lld}",
                       (long long)lifecycle_field(op, "channel"), (long long)*last,
                       (long long)session->i, (long long)op->index);
    }
    *been = 1;
    *last = session->i;
}

void lifecycle_hash(struct lifecycle *l, const struct op *op, int64_t where, int64_t offset,
                    const struct edn *hash, const char *anomaly)
{
    if (hash == NULL || offset < 0) {
        return;
    }
    int64_t now = hash->type == EDN_INT ? hash->i : lifecycle_name(hash, 0);
    int64_t *known = table_put(&l->hash, where, offset, now);
    if (*known != now) {
        report_anomaly(l->r, anomaly, "{:offset %lld :index %lld}", (long long)offset,
                       (long long)op->index);
    }
}

/* --- Playlists --- */

static bool follows(int64_t part, int64_t last)
{
    return part == last + 1 || (PART_OF(part) == 0 && MSN_OF(part) == MSN_OF(last) + 1);
}

/* Newest part of the playlist; -1: it has none. */
static int64_t judge_parts(struct lifecycle *l, const struct op *op)
{
    const struct edn *parts = edn_get(op->value, "parts");
    int64_t last = -1, session = -1, stream = lifecycle_stream(op);
    for (const struct edn *p = parts != NULL ? parts->first : NULL; p != NULL; p = p->next) {
        int64_t part = lifecycle_number(edn_int(edn_at(p, 0), 0), edn_int(edn_at(p, 1), 0));
        if (last >= 0 && !follows(part, last)) {
            report_anomaly(l->r, "playlist-gap",
                           "{:channel %lld :after [%lld %lld] :part [%lld %lld] :index %lld}",
                           (long long)lifecycle_field(op, "channel"), MSN_OF(last), PART_OF(last),
                           MSN_OF(part), PART_OF(part), (long long)op->index);
        } else if (last >= 0 && PART_OF(part) == 0) {
            (void)table_put(&l->last_of, stream, MSN_OF(last), PART_OF(last));
        }
        lifecycle_session(l, op, edn_at(p, 3), &session);
        lifecycle_content(l, op, part, edn_at(p, 2), edn_at(p, 4));
        l->parts++;
        last = part;
    }
    return last;
}

static void judge_back(struct lifecycle *l, struct table *t, const struct op *op, const char *what,
                       int64_t now)
{
    int64_t *last = table_put(t, op->process, lifecycle_stream(op), -1);
    if (now < *last) {
        report_anomaly(l->r, "nonmonotonic-playlist",
                       "{:process %lld :channel %lld :%s [%lld %lld] :index %lld}",
                       (long long)op->process, (long long)lifecycle_field(op, "channel"), what,
                       (long long)*last, (long long)now, (long long)op->index);
    }
    *last = now;
}

static void judge_playlist(struct lifecycle *l, const struct op *op)
{
    const struct edn *malformed = edn_get(op->value, "malformed");
    int64_t newest = judge_parts(l, op), first = lifecycle_field(op, "first");
    l->playlists++;
    if (malformed != NULL) {
        report_anomaly(l->r, "malformed-playlist", "{:why \"%.*s\" :index %lld}",
                       (int)malformed->len, malformed->text, (long long)op->index);
        return;
    }
    if (newest >= 0) {
        judge_back(l, &l->newest, op, "newest", newest);
        (void)table_put(&l->shown, lifecycle_field(op, "channel"),
                        lifecycle_name(edn_get(op->value, "broadcast"), 0), op->index);
    }
    if (first >= 0) {
        judge_back(l, &l->first, op, "first", first);
    }
    lifecycle_hash(l, op, lifecycle_stream(op), lifecycle_field(op, "offset"),
                   edn_get(op->value, "hash"), "inconsistent-playlist");
}

/* --- The rest --- */

static void judge_publish(struct lifecycle *l, const struct op *op)
{
    const struct edn *broadcast = edn_get(op->value, "broadcast");
    if (broadcast == NULL || broadcast->type != EDN_STRING) {
        return;
    }
    int64_t now = lifecycle_name(broadcast, 0);
    int64_t *last = table_put(&l->broadcast, lifecycle_field(op, "channel"), 0, now);
    if (*last != now && edn_is(edn_get(op->value, "expect"), "same")) {
        report_anomaly(l->r, "broadcast-changed", "{:channel %lld :broadcast \"%.*s\" :index %lld}",
                       (long long)lifecycle_field(op, "channel"), (int)broadcast->len,
                       broadcast->text, (long long)op->index);
    }
    *last = now;
}

static void judge_view(struct lifecycle *l, const struct op *op)
{
    int64_t where = lifecycle_name(edn_get(op->value, "topic"), lifecycle_field(op, "partition"));
    l->views++;
    lifecycle_hash(l, op, where, lifecycle_field(op, "offset"), edn_get(op->value, "hash"),
                   "inconsistent-view");
}

static void judge(struct lifecycle *l)
{
    for (size_t i = 0; i < l->ops->n; i++) {
        const struct op *op = &l->ops->at[i];
        if (op_is(op, HISTORY_OK, "playlist")) {
            judge_playlist(l, op);
        } else if (op_is(op, HISTORY_OK, "publish")) {
            judge_publish(l, op);
        } else if (op_is(op, HISTORY_OK, "view")) {
            judge_view(l, op);
        }
    }
}

void check_lifecycle(const struct ops *ops, struct report *r)
{
    struct lifecycle l = {.ops = ops, .r = r};
    struct table *tables[] = {&l.crc,  &l.size,      &l.last_of, &l.top,    &l.newest,   &l.first,
                              &l.hash, &l.broadcast, &l.shown,   &l.listed, &l.sessions, &l.played};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_open(tables[i]);
    }
    judge(&l);
    stalls_check(&l);
    archive_check(&l);
    if (l.playlists + l.plays + l.segments == 0) {
        r->unknown = "nothing of any broadcast was read";
    }
    report_figure(r,
                  ":playlists %llu, :parts %llu, :views %llu, :played %llu, :vods %llu, "
                  ":segments %llu",
                  (unsigned long long)l.playlists, (unsigned long long)l.parts,
                  (unsigned long long)l.views, (unsigned long long)l.plays,
                  (unsigned long long)l.vods, (unsigned long long)l.segments);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        table_close(tables[i]);
    }
}
