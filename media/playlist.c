#include "media/playlist.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define US_PER_MS 1000u
#define US_PER_S  1000000u
#define VERSION   9
/* Last millisecond of the year 9999: later ones do not fit ISO 8601's four digits. */
#define WALL_MS_MAX 253402300799999

/* A quoted-string or URI must not hold quotes, spaces or line ends (section 4.2). */
static bool text_ok(const char *text)
{
    for (const char *c = text; *c != 0; c++) {
        if (*c <= ' ' || *c == '"' || *c == '\\' || *c >= 0x7f) {
            return false;
        }
    }
    return true;
}

static void put_seconds(struct bytes *out, uint64_t us)
{
    bytes_printf(out, "%" PRIu64 ".%06" PRIu64, us / US_PER_S, us % US_PER_S);
}

int playlist_render_master(const struct playlist_variant *variants, unsigned n, struct bytes *out)
{
    for (unsigned i = 0; i < n; i++) {
        if (!text_ok(variants[i].uri) || !text_ok(variants[i].codecs)) {
            return WEIR_EINVAL;
        }
    }
    bytes_printf(out, "#EXTM3U\n#EXT-X-VERSION:%d\n#EXT-X-INDEPENDENT-SEGMENTS\n", VERSION);
    for (unsigned i = 0; i < n; i++) {
        const struct playlist_variant *v = &variants[i];
        bytes_printf(out, "#EXT-X-STREAM-INF:BANDWIDTH=%" PRIu32, v->bandwidth);
        if (v->codecs[0] != 0) {
            bytes_printf(out, ",CODECS=\"%s\"", v->codecs);
        }
        if (v->width != 0 && v->height != 0) {
            bytes_printf(out, ",RESOLUTION=%" PRIu32 "x%" PRIu32, v->width, v->height);
        }
        if (v->frame_rate_milli != 0) {
            bytes_printf(out, ",FRAME-RATE=%" PRIu32 ".%03" PRIu32, v->frame_rate_milli / 1000,
                         v->frame_rate_milli % 1000);
        }
        bytes_printf(out, "\n%s\n", v->uri);
    }
    return bytes_error(out);
}

/* Section 4.4.3.1: EXTINF, rounded, must not exceed it. A live playlist keeps what it declared; one
 * that lists everything knows its longest segment. */
static uint64_t target_duration_s(const struct playlist_media *p)
{
    uint64_t us = (uint64_t)p->target_duration_ms * US_PER_MS;
    for (unsigned i = 0; p->kind != PLAYLIST_LIVE && i < p->n_segments; i++) {
        us = p->segments[i].duration_us > us ? p->segments[i].duration_us : us;
    }
    uint64_t s = (us + US_PER_S / 2) / US_PER_S;
    return s == 0 ? 1 : s;
}

/* `targets` target durations as declared. */
static uint64_t targets_us(const struct playlist_media *p, unsigned targets)
{
    return target_duration_s(p) * US_PER_S * targets;
}

static bool is_open_ended(const struct playlist_media *p)
{
    return p->kind != PLAYLIST_VOD && !p->ended;
}

/* The live edge is where parts, hints and blocking reloads make sense. */
static bool is_low_latency(const struct playlist_media *p)
{
    return p->kind == PLAYLIST_LIVE && !p->ended;
}

/* Number of the last segments that end less than `us` before the playlist's end. */
static unsigned segments_ending_within(const struct playlist_media *p, uint64_t us)
{
    uint64_t behind = 0;
    unsigned n = 0;
    while (n < p->n_segments && behind < us) {
        behind += p->segments[p->n_segments - 1 - n].duration_us;
        n++;
    }
    return n;
}

/* Number of the last segments that begin less than `us` before the playlist's end; the last one
 * always counts: a long one that grows can only be played by its parts. */
static unsigned segments_beginning_within(const struct playlist_media *p, uint64_t us)
{
    uint64_t behind = 0;
    unsigned n = 0;
    while (n < p->n_segments) {
        behind += p->segments[p->n_segments - 1 - n].duration_us;
        if (behind >= us && n > 0) {
            break;
        }
        n++;
    }
    return n;
}

/* Section 6.2.5.1: only what lies further from the end than the skip boundary may be skipped. */
unsigned playlist_skipped(const struct playlist_media *p)
{
    if (!is_low_latency(p) || !p->skip) {
        return 0;
    }
    return p->n_segments - segments_ending_within(p, targets_us(p, PLAYLIST_SKIP_TARGETS));
}

static void put_server_control(const struct playlist_media *p, struct bytes *out)
{
    uint64_t part_us = (uint64_t)p->part_target_ms * US_PER_MS;
    bytes_printf(out, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=");
    put_seconds(out, part_us * PLAYLIST_PART_HOLD_BACK);
    bytes_printf(out, ",HOLD-BACK=");
    put_seconds(out, targets_us(p, PLAYLIST_HOLD_BACK_TARGETS));
    bytes_printf(out, ",CAN-SKIP-UNTIL=");
    put_seconds(out, targets_us(p, PLAYLIST_SKIP_TARGETS));
    bytes_printf(out, "\n#EXT-X-PART-INF:PART-TARGET=");
    put_seconds(out, part_us);
    bytes_printf(out, "\n");
}

static void put_head(const struct playlist_media *p, struct bytes *out)
{
    uint64_t first = p->n_segments > 0 ? p->segments[0].msn : 0;
    bytes_printf(out, "#EXTM3U\n#EXT-X-VERSION:%d\n#EXT-X-TARGETDURATION:%" PRIu64 "\n", VERSION,
                 target_duration_s(p));
    if (is_low_latency(p)) {
        put_server_control(p, out);
    }
    if (p->kind != PLAYLIST_LIVE) {
        bytes_printf(out, "#EXT-X-PLAYLIST-TYPE:%s\n", is_open_ended(p) ? "EVENT" : "VOD");
    }
    bytes_printf(out, "#EXT-X-MEDIA-SEQUENCE:%" PRIu64 "\n", first);
    if (p->discontinuity_sequence != 0) {
        bytes_printf(out, "#EXT-X-DISCONTINUITY-SEQUENCE:%" PRIu64 "\n", p->discontinuity_sequence);
    }
}

static void put_date_time(struct bytes *out, int64_t wall_ms)
{
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    char text[32];
    if (gmtime_r(&s, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        return;
    }
    bytes_printf(out, "#EXT-X-PROGRAM-DATE-TIME:%s.%03dZ\n", text, (int)(wall_ms % 1000));
}

static void put_parts(const struct playlist_media *p, const struct playlist_segment *s,
                      struct bytes *out)
{
    for (unsigned i = 0; i < s->n_parts; i++) {
        bytes_printf(out, "#EXT-X-PART:DURATION=");
        put_seconds(out, s->parts[i].duration_us);
        bytes_printf(out, ",URI=\"%spart-%" PRIu64 ".%u.m4s\"%s\n", p->media_prefix, s->msn, i,
                     s->parts[i].independent ? ",INDEPENDENT=YES" : "");
    }
}

/* `first`: nothing before it in this playlist says which init segment and what time it is. */
static void put_segment(const struct playlist_media *p, const struct playlist_segment *s,
                        bool first, bool with_parts, struct bytes *out)
{
    if (s->discontinuity) {
        bytes_printf(out, "#EXT-X-DISCONTINUITY\n");
    }
    if (first || s->init != s[-1].init) {
        bytes_printf(out, "#EXT-X-MAP:URI=\"%sinit-%" PRIu32 ".mp4\"\n", p->media_prefix, s->init);
    }
    if (first || s->discontinuity) {
        put_date_time(out, s->wall_ms);
    }
    if (with_parts) {
        put_parts(p, s, out);
    }
    if (s->complete) {
        bytes_printf(out, "#EXTINF:");
        put_seconds(out, s->duration_us);
        bytes_printf(out, ",\n%sseg-%" PRIu64 ".m4s\n", p->media_prefix, s->msn);
    }
}

static void put_hint(const struct playlist_media *p, struct bytes *out)
{
    uint64_t msn = 0;
    unsigned part = 0;
    if (p->n_segments > 0) {
        const struct playlist_segment *last = &p->segments[p->n_segments - 1];
        msn = last->complete ? last->msn + 1 : last->msn;
        part = last->complete ? 0 : last->n_parts;
    }
    bytes_printf(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"%spart-%" PRIu64 ".%u.m4s\"\n",
                 p->media_prefix, msn, part);
}

static void put_reports(const struct playlist_media *p, struct bytes *out)
{
    for (unsigned i = 0; i < p->n_reports; i++) {
        const struct playlist_report *r = &p->reports[i];
        bytes_printf(
            out, "#EXT-X-RENDITION-REPORT:URI=\"%s\",LAST-MSN=%" PRIu64 ",LAST-PART=%" PRIu32 "\n",
            r->uri, r->last_msn, r->last_part);
    }
}

static int check(const struct playlist_media *p)
{
    if (!text_ok(p->media_prefix)) {
        return WEIR_EINVAL;
    }
    for (unsigned i = 0; i < p->n_reports; i++) {
        if (!text_ok(p->reports[i].uri)) {
            return WEIR_EINVAL;
        }
    }
    for (unsigned i = 0; i < p->n_segments; i++) {
        const struct playlist_segment *s = &p->segments[i];
        bool last = i + 1 == p->n_segments;
        if (s->duration_us == 0 || (!s->complete && !last) || s->wall_ms < 0 ||
            s->wall_ms > WALL_MS_MAX || (i > 0 && s->msn != s[-1].msn + 1)) {
            return WEIR_EINVAL;
        }
    }
    return 0;
}

int playlist_render_media(const struct playlist_media *p, struct bytes *out)
{
    int rc = check(p);
    if (rc != 0) {
        return rc;
    }
    bool edge = is_low_latency(p);
    unsigned skipped = playlist_skipped(p);
    /* Section 4.4.4.9: parts further than three target durations from the edge are of no use any
     * more. */
    unsigned with_parts =
        edge ? segments_beginning_within(p, targets_us(p, PLAYLIST_PARTS_TARGETS)) : 0;
    put_head(p, out);
    if (skipped > 0) {
        bytes_printf(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS=%u\n", skipped);
    }
    for (unsigned i = skipped; i < p->n_segments; i++) {
        put_segment(p, &p->segments[i], i == skipped, p->n_segments - i <= with_parts, out);
    }
    if (edge) {
        put_hint(p, out);
        put_reports(p, out);
    }
    if (!is_open_ended(p)) {
        bytes_printf(out, "#EXT-X-ENDLIST\n");
    }
    return bytes_error(out);
}
