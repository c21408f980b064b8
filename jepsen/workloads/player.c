#include "jepsen/workloads/player.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "net/http.h"

#define MS_NS     UINT64_C(1000000)
#define EDGE_MS   2000 /* an edge that says nothing for so long is left */
#define LAG_MS    1500 /* so long it may not know what another one knows */
#define PAUSE_MS  150
#define BEHIND    3 /* target durations */
#define PATH_SIZE 192

static void ask(struct player *pl);

static void ask_again(struct player *pl, uint32_t ms)
{
    pl->again_ns = stage_now_ns(pl->stage) + ms * MS_NS;
}

static void next_edge(struct player *pl)
{
    pl->edge++;
    pl->lag_ns = 0;
    ask_again(pl, pl->edge % pl->stage->n_readers == 0 ? PAUSE_MS : 0);
}

/* The edge is there, but does not know it (yet). */
static void lagging(struct player *pl)
{
    uint64_t now = stage_now_ns(pl->stage);
    pl->lag_ns = pl->lag_ns != 0 ? pl->lag_ns : now;
    if (now - pl->lag_ns > LAG_MS * MS_NS) {
        pl->reload = false;
        pl->listed = false;
        next_edge(pl);
    } else {
        ask_again(pl, PAUSE_MS);
    }
}

static void begin_anew(struct player *pl)
{
    pl->broadcast[0] = '\0';
    pl->listed = pl->reload = pl->jump = false;
    pl->due_ns = 0;
}

static uint32_t buffer_ms(const struct player *pl)
{
    const struct hls_playlist *p = &pl->playlist;
    return pl->large || p->hold_back_ms == 0 ? BEHIND * p->target_ms : p->hold_back_ms;
}

/* --- A part has come --- */

/* How long it has stood still for want of it; and when the next one is due. */
static uint64_t take_stall_ms(struct player *pl)
{
    uint64_t now = stage_now_ns(pl->stage), stall_ns = 0;
    uint32_t buffer = buffer_ms(pl);
    if (pl->due_ns == 0) {
        pl->due_ns = now + (pl->ahead_ms < buffer ? buffer - pl->ahead_ms : 0) * MS_NS;
    }
    if (now > pl->due_ns) {
        stall_ns = now - pl->due_ns;
        pl->due_ns = now;
    }
    pl->due_ns += pl->next.duration_ms * MS_NS;
    pl->due_ns = pl->due_ns > now + buffer * MS_NS ? now + buffer * MS_NS : pl->due_ns;
    return stall_ns / MS_NS;
}

static void find_next(struct player *pl);

static void played(struct player *pl, const struct http_body *body)
{
    unsigned sessions[HLS_MARKS_MAX];
    unsigned n = hls_sessions(body->data, body->len, sessions);
    char session[32] = "";
    struct hls_part part = pl->next;
    if (n > 0) {
        (void)snprintf(session, sizeof(session), ", :session %u", sessions[n - 1]);
    }
    uint64_t stall_ms = take_stall_ms(pl);
    bool jump = pl->jump;
    pl->channel->seen_ns = stage_now_ns(pl->stage);
    pl->lag_ns = 0;
    pl->waiting = false;
    pl->jump = false;
    pl->next.part++; /* or part 0 of the next segment: the playlist tells */
    find_next(pl);
    process_end(pl->p, HISTORY_OK, NULL,
                "{:player %u, :channel %u, :edge \"%s\", :rendition \"%s\", :broadcast \"%s\", "
                ":msn %" PRIu64 ", :part %u, :crc %" PRIu32
                ", :size %zu%s, :buffer :%s, :stall-ms %" PRIu64 "%s}",
                pl->p->slot, pl->channel->number, stage_host(pl->stage, pl->edge)->name,
                stage_renditions[pl->rendition], pl->broadcast, part.msn, part.part,
                crc32c(0, body->data, body->len), body->len, session, pl->large ? "large" : "small",
                stall_ms, jump ? ", :jump true" : "");
}

static void on_part(void *data, int status, struct http_body *body)
{
    struct player *pl = data;
    pl->asking = false;
    if (!pl->waiting) {
        return;
    }
    if (status == 200 && body != NULL) {
        played(pl, body);
    } else if (status == 404 && pl->guessed) {
        pl->next.msn++;
        pl->next.part = 0;
        find_next(pl);
        ask_again(pl, 0);
    } else if (status >= 400 && status < 600) {
        lagging(pl);
    } else {
        next_edge(pl);
    }
}

/* --- A playlist has come --- */

/* The wanted part has left the list, but not the segment that it is of: asked for by number. */
static bool is_in_segment(const struct player *pl)
{
    const struct hls_playlist *p = &pl->playlist;
    return pl->next.msn >= p->first && pl->next.msn < p->first + p->n_segments;
}

/* The first listed part at or behind what it wants. */
static void find_next(struct player *pl)
{
    const struct hls_playlist *p = &pl->playlist;
    pl->listed = pl->guessed = false;
    for (unsigned i = 0; i < p->n_parts && !pl->listed; i++) {
        const struct hls_part *part = &p->parts[i];
        if (part->msn < pl->next.msn || (part->msn == pl->next.msn && part->part < pl->next.part)) {
            continue;
        }
        bool same = part->msn == pl->next.msn && part->part == pl->next.part;
        /* A segment may end at any part. */
        bool after = part->msn == pl->next.msn + 1 && part->part == 0 && i > 0 &&
                     p->parts[i - 1].msn == pl->next.msn &&
                     p->parts[i - 1].part + 1 == pl->next.part;
        pl->listed = true;
        pl->guessed = !same && !after && is_in_segment(pl);
        pl->jump = pl->jump || !(same || after || pl->guessed);
        if (!pl->guessed) {
            pl->next = *part;
        }
    }
}

/* Its buffer before the end of the playlist. */
static void find_first(struct player *pl)
{
    const struct hls_playlist *p = &pl->playlist;
    uint32_t ms = 0;
    unsigned i = p->n_parts;
    while (i > 0 && ms < buffer_ms(pl)) {
        ms += p->parts[--i].duration_ms;
    }
    if (p->n_parts > 0) {
        pl->next = p->parts[i];
        pl->listed = true;
        pl->ahead_ms = ms;
        memcpy(pl->broadcast, p->broadcast, sizeof(pl->broadcast));
    }
}

static void take_playlist(struct player *pl)
{
    const struct hls_playlist *p = &pl->playlist;
    if (strcmp(pl->broadcast, p->broadcast) != 0) {
        begin_anew(pl);
        if (!p->ended) {
            find_first(pl);
        }
    } else {
        find_next(pl);
    }
    if (!pl->listed && p->ended) {
        begin_anew(pl);
        ask_again(pl, 1000);
        return;
    }
    pl->reload = pl->broadcast[0] != '\0';
    if (pl->listed) {
        pl->lag_ns = 0;
        ask_again(pl, 0);
    } else {
        lagging(pl); /* an edge that is behind the one before it */
    }
}

static void on_playlist(void *data, int status, struct http_body *body)
{
    struct player *pl = data;
    pl->asking = false;
    if (!pl->waiting) {
        return;
    }
    if (status == 200 && body != NULL) {
        const char *wrong = hls_parse(body->data, body->len, &pl->playlist);
        if (wrong != NULL) {
            run_failed(pl->stage->run, wrong);
            return;
        }
        take_playlist(pl);
    } else if (status >= 400 && status < 600) {
        lagging(pl);
    } else {
        next_edge(pl);
    }
}

/* --- Asking --- */

static void ask(struct player *pl)
{
    const char *channel = pl->channel->name, *rendition = stage_renditions[pl->rendition];
    const struct host *edge = stage_host(pl->stage, pl->edge);
    char path[PATH_SIZE], reload[64] = "";
    pl->asking = true;
    pl->again_ns = UINT64_MAX;
    if (pl->listed) {
        (void)snprintf(path, sizeof(path), "/hls/%s/%s/%s/part-%" PRIu64 ".%u.m4s", channel,
                       pl->broadcast, rendition, pl->next.msn, pl->next.part);
        web_get(pl->stage->web, edge, path, EDGE_MS, on_part, pl);
        return;
    }
    if (pl->reload) {
        (void)snprintf(reload, sizeof(reload), "?_HLS_msn=%" PRIu64 "&_HLS_part=%u", pl->next.msn,
                       pl->next.part);
    }
    (void)snprintf(path, sizeof(path), "/hls/%s/%s.m3u8%s", channel, rendition, reload);
    web_get(pl->stage->web, edge, path, EDGE_MS, on_playlist, pl);
}

void player_next(struct player *pl)
{
    process_invoke(pl->p, "play", "{:player %u, :channel %u}", pl->p->slot, pl->channel->number);
    pl->waiting = true;
    if (!pl->asking) {
        ask(pl);
    }
}

void player_sweep(struct player *pl)
{
    if (pl->waiting && !pl->asking && stage_now_ns(pl->stage) >= pl->again_ns) {
        ask(pl);
    }
}

void player_stop(struct player *pl)
{
    if (pl->waiting) {
        pl->waiting = false;
        process_end(pl->p, HISTORY_FAIL, NULL, "{:player %u, :channel %u}", pl->p->slot,
                    pl->channel->number);
    }
}
