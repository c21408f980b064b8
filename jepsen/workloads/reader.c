#include "jepsen/workloads/reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "net/http.h"

#define BLOCKING_MS 8000 /* an edge lets go after three target durations */
#define PART_MS     3000
#define PATH_SIZE   192

static struct reader_view *view_of(struct reader *r)
{
    return &r->views[r->channel][r->rendition];
}

static const char *edge_name(const struct reader *r)
{
    return stage_host(r->stage, r->edge)->name;
}

static uint64_t number_of(const struct hls_part *part)
{
    return part->msn << PART_BITS | part->part;
}

static const struct reader_part *known(const struct reader_view *v, uint64_t number)
{
    unsigned n = v->n < READER_KNOWN ? v->n : READER_KNOWN;
    for (unsigned i = 0; i < n; i++) {
        if (v->parts[i].number == number) {
            return &v->parts[i];
        }
    }
    return NULL;
}

static void failed(struct reader *r, const char *why)
{
    process_end(r->p, HISTORY_FAIL, why, "{:edge \"%s\", :channel %u, :rendition \"%s\"}",
                edge_name(r), r->channel, stage_renditions[r->rendition]);
}

/* --- The parts --- */

static size_t put_part(char *out, size_t size, const struct hls_part *part,
                       const struct reader_part *k)
{
    char session[16] = "nil";
    int n;
    if (k == NULL) {
        n = snprintf(out, size, " [%" PRIu64 " %u nil nil nil]", part->msn, part->part);
        return n < 0 ? 0 : (size_t)n;
    }
    if (k->session != 0) {
        (void)snprintf(session, sizeof(session), "%u", k->session);
    }
    n = snprintf(out, size, " [%" PRIu64 " %u %" PRIu32 " %s %" PRIu32 "]", part->msn, part->part,
                 k->crc, session, k->size);
    return n < 0 ? 0 : (size_t)n;
}

static void finish(struct reader *r)
{
    const struct hls_playlist *p = &r->playlist;
    struct reader_view *v = view_of(r);
    char where[96] = "";
    size_t at = 0;
    for (unsigned i = 0; i < p->n_parts && at < READER_TEXT - 96; i++) {
        at += put_part(r->text + at, READER_TEXT - at, &p->parts[i],
                       known(v, number_of(&p->parts[i])));
    }
    r->text[at] = '\0';
    if (p->hinted && !p->ended) {
        (void)snprintf(where, sizeof(where), ", :offset %" PRIu64 ", :hash %" PRIu32,
                       number_of(&p->next), r->hash);
    }
    process_end(r->p, HISTORY_OK, NULL,
                "{:edge \"%s\", :channel %u, :rendition \"%s\", :broadcast \"%s\", :first %" PRIu64
                ", :parts [%s]%s%s}",
                edge_name(r), r->channel, stage_renditions[r->rendition], p->broadcast, p->first,
                at > 0 ? r->text + 1 : "", where, p->ended ? ", :ended true" : "");
}

static void fetch_more(struct reader *r);

static void on_part(void *data, int status, struct http_body *body)
{
    struct reader *r = data;
    struct reader_view *v = view_of(r);
    unsigned sessions[HLS_MARKS_MAX];
    if (status == 200 && body != NULL) {
        struct reader_part *k = &v->parts[v->n++ % READER_KNOWN];
        unsigned n = hls_sessions(body->data, body->len, sessions);
        *k = (struct reader_part){.number = number_of(&r->playlist.parts[r->fetched]),
                                  .crc = crc32c(0, body->data, body->len),
                                  .size = (uint32_t)body->len,
                                  .session = n > 0 ? sessions[n - 1] : 0};
        r->stage->channels[r->channel].seen_ns = stage_now_ns(r->stage);
    }
    r->fetched = status < 0 ? r->playlist.n_parts : r->fetched + 1;
    fetch_more(r);
}

static void fetch_more(struct reader *r)
{
    const struct hls_playlist *p = &r->playlist;
    char path[PATH_SIZE];
    while (r->fetched < p->n_parts && known(view_of(r), number_of(&p->parts[r->fetched])) != NULL) {
        r->fetched++;
    }
    if (r->fetched == p->n_parts) {
        finish(r);
        return;
    }
    (void)snprintf(path, sizeof(path), "/hls/%s/%s/%s/part-%" PRIu64 ".%u.m4s",
                   r->stage->channels[r->channel].name, p->broadcast,
                   stage_renditions[r->rendition], p->parts[r->fetched].msn,
                   p->parts[r->fetched].part);
    web_get(r->stage->web, stage_host(r->stage, r->edge), path, PART_MS, on_part, r);
}

/* --- The playlist --- */

static void on_playlist(void *data, int status, struct http_body *body)
{
    struct reader *r = data;
    struct reader_view *v = view_of(r);
    if (status != 200 || body == NULL) {
        char why[32];
        v->known = false;
        (void)snprintf(why, sizeof(why), "status %d", status);
        failed(r, status == 404 ? NULL : why);
        return;
    }
    const char *wrong = hls_parse(body->data, body->len, &r->playlist);
    if (wrong != NULL) {
        process_end(r->p, HISTORY_OK, NULL,
                    "{:edge \"%s\", :channel %u, :rendition \"%s\", :malformed \"%s\"}",
                    edge_name(r), r->channel, stage_renditions[r->rendition], wrong);
        return;
    }
    if (strcmp(v->broadcast, r->playlist.broadcast) != 0) {
        v->n = 0;
        memset(v->parts, 0, sizeof(v->parts));
        memcpy(v->broadcast, r->playlist.broadcast, sizeof(v->broadcast));
    }
    v->known = r->playlist.hinted && !r->playlist.ended;
    v->next = r->playlist.next;
    r->hash = hls_hash(body->data, body->len);
    r->fetched = 0;
    fetch_more(r);
}

void reader_next(struct reader *r)
{
    struct stage *s = r->stage;
    char path[PATH_SIZE], reload[64] = "";
    unsigned turn = r->at++;
    r->channel = turn % s->n_channels;
    r->rendition = turn / s->n_channels % STAGE_RENDITIONS;
    const struct reader_view *v = view_of(r);
    if (v->known && run_random(s->run, 3) != 0) {
        (void)snprintf(reload, sizeof(reload), "?_HLS_msn=%" PRIu64 "&_HLS_part=%u", v->next.msn,
                       v->next.part);
    }
    (void)snprintf(path, sizeof(path), "/hls/%s/%s.m3u8%s", s->channels[r->channel].name,
                   stage_renditions[r->rendition], reload);
    process_invoke(r->p, "playlist", "{:edge \"%s\", :channel %u, :rendition \"%s\"}", edge_name(r),
                   r->channel, stage_renditions[r->rendition]);
    web_get(s->web, stage_host(s, r->edge), path, BLOCKING_MS, on_playlist, r);
}
