#include "jepsen/workloads/hls.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define REPORT "#EXT-X-RENDITION-REPORT:"

/* Text behind `name` if the line begins with it. */
static const char *value_of(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncmp(line, name, n) == 0 ? line + n : NULL;
}

/* "<broadcast>/<rendition>/<kind>-<msn>[.<part>].m4s", anywhere in a line. */
static bool take_uri(const char *line, const char *kind, struct hls_playlist *p,
                     struct hls_part *ret_part)
{
    char broadcast[17] = "";
    const char *at = strstr(line, kind), *slash;
    if (at == NULL || at == line || at[-1] != '/') {
        return false;
    }
    for (slash = at - 2; slash > line && *slash != '/'; slash--) {}
    if (slash - line < 16) {
        return false;
    }
    memcpy(broadcast, slash - 16, 16);
    if (p->broadcast[0] != '\0' && strcmp(p->broadcast, broadcast) != 0) {
        return false;
    }
    memcpy(p->broadcast, broadcast, sizeof(broadcast));
    char *end;
    at += strlen(kind);
    ret_part->msn = strtoull(at, &end, 10);
    ret_part->part = *end == '.' ? (uint32_t)strtoul(end + 1, NULL, 10) : 0;
    return end != at;
}

static const char *take_part(const char *line, struct hls_playlist *p)
{
    const char *duration = strstr(line, "DURATION=");
    if (p->n_parts == HLS_PARTS_MAX) {
        return "too many parts";
    }
    struct hls_part *part = &p->parts[p->n_parts++];
    if (duration == NULL || !take_uri(line, "part-", p, part)) {
        return "a part that can't be read";
    }
    part->duration_ms = (uint32_t)(strtod(duration + strlen("DURATION="), NULL) * 1000);
    return NULL;
}

static const char *take_segment(const char *line, struct hls_playlist *p)
{
    struct hls_part segment;
    if (!take_uri(line, "seg-", p, &segment)) {
        return "a segment that can't be read";
    }
    return segment.msn != p->first + p->n_segments++ ? "a segment in another one's place" : NULL;
}

static const char *take_line(const char *line, struct hls_playlist *p)
{
    const char *value;
    if ((value = value_of(line, "#EXT-X-MEDIA-SEQUENCE:")) != NULL) {
        p->first = strtoull(value, NULL, 10);
    } else if ((value = value_of(line, "#EXT-X-TARGETDURATION:")) != NULL) {
        p->target_ms = (uint32_t)strtoul(value, NULL, 10) * 1000;
    } else if (value_of(line, "#EXT-X-SERVER-CONTROL:") != NULL) {
        value = strstr(line, "PART-HOLD-BACK=");
        p->hold_back_ms =
            value != NULL ? (uint32_t)(strtod(value + strlen("PART-HOLD-BACK="), NULL) * 1000) : 0;
    } else if (value_of(line, "#EXT-X-ENDLIST") != NULL) {
        p->ended = true;
    } else if (value_of(line, "#EXT-X-PRELOAD-HINT:TYPE=PART") != NULL) {
        p->hinted = take_uri(line, "part-", p, &p->next);
    } else if (value_of(line, "#EXT-X-PART:") != NULL) {
        return take_part(line, p);
    } else if (line[0] != '#' && line[0] != '\0') {
        return take_segment(line, p);
    }
    return NULL;
}

const char *hls_parse(const void *text, size_t len, struct hls_playlist *p)
{
    char *copy = strndup(text, len), *rest = copy;
    const char *wrong = NULL;
    memset(p, 0, sizeof(*p));
    if (copy == NULL) {
        abort();
    }
    if (value_of(copy, "#EXTM3U\n") == NULL) {
        wrong = "no playlist";
    }
    for (char *line = strsep(&rest, "\n"); line != NULL && wrong == NULL;
         line = strsep(&rest, "\n")) {
        wrong = take_line(line, p);
    }
    if (wrong == NULL && p->target_ms == 0) {
        wrong = "no target duration";
    }
    free(copy);
    return wrong;
}

uint32_t hls_hash(const void *text, size_t len)
{
    const char *at = text, *end = at + len;
    uint32_t crc = 0;
    while (at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t n = nl != NULL ? (size_t)(nl - at) + 1 : (size_t)(end - at);
        if (n < strlen(REPORT) || memcmp(at, REPORT, strlen(REPORT)) != 0) {
            crc = crc32c(crc, at, n);
        }
        at += n;
    }
    return crc;
}

unsigned hls_sessions(const void *bytes, size_t len, unsigned ret_sessions[HLS_MARKS_MAX])
{
    static const char mark[] = HLS_MARK_BYTES HLS_MARK_PREFIX;
    const char *at = bytes, *end = at + len;
    unsigned n = 0;
    while ((at = memmem(at, (size_t)(end - at), mark, sizeof(mark) - 1)) != NULL) {
        unsigned session = 0;
        for (at += sizeof(mark) - 1; at < end && *at >= '0' && *at <= '9'; at++) {
            session = session * 10 + (unsigned)(*at - '0');
        }
        if (n < HLS_MARKS_MAX && (n == 0 || ret_sessions[n - 1] != session)) {
            ret_sessions[n++] = session;
        }
    }
    return n;
}
