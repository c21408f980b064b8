#include "nodes/edge/edge_path.h"

#include <stddef.h>
#include <string.h>

#define SEGMENTS_MAX 4
#define TEXT_MAX     128
#define MSN_MAX      ((1ull << 53) - 1)
#define PART_MAX     9999

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(const char *s, size_t min, size_t max, bool underscore)
{
    size_t n = 0;
    for (; s[n] != 0; n++) {
        bool word = (s[n] >= 'a' && s[n] <= 'z') || is_digit(s[n]) || (underscore && s[n] == '_');
        if (!word || n == max) {
            return false;
        }
    }
    return n >= min;
}

bool edge_number_parse(const char *text, uint64_t max, uint64_t *ret_number)
{
    uint64_t v = 0;
    if (!is_digit(text[0]) || (text[0] == '0' && text[1] != 0)) {
        return false;
    }
    for (; *text != 0; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (!is_digit(*text) || v > (max - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *ret_number = v;
    return true;
}

bool edge_broadcast_parse(const char *text, uint64_t *ret_broadcast)
{
    uint64_t v = 0;
    unsigned n = 0;
    for (; text[n] != 0; n++) {
        bool letter = text[n] >= 'a' && text[n] <= 'f';
        if (n == 16 || (!is_digit(text[n]) && !letter)) {
            return false;
        }
        v = v << 4 | (uint64_t)(letter ? text[n] - 'a' + 10 : text[n] - '0');
    }
    *ret_broadcast = v;
    return n == 16;
}

/* Cuts `suffix` off. */
static bool strip_suffix(char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    if (n < m || strcmp(text + n - m, suffix) != 0) {
        return false;
    }
    text[n - m] = 0;
    return true;
}

static bool strip_prefix(char **text, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*text, prefix, n) != 0) {
        return false;
    }
    *text += n;
    return true;
}

static bool take_rendition(struct edge_path *p, const char *text)
{
    if (!is_word(text, 1, EDGE_RENDITION_MAX, false)) {
        return false;
    }
    memcpy(p->rendition, text, strlen(text) + 1);
    return true;
}

static bool parse_live(struct edge_path *p, char *name)
{
    if (strcmp(name, "master.m3u8") == 0) {
        p->target = EDGE_MASTER;
        return true;
    }
    if (strcmp(name, "thumb.jpg") == 0) {
        p->target = EDGE_THUMB;
        return true;
    }
    p->target = EDGE_PLAYLIST;
    return strip_suffix(name, ".m3u8") && take_rendition(p, name);
}

static bool parse_vod_master(struct edge_path *p, char *name)
{
    p->target = EDGE_VOD_MASTER;
    return strip_suffix(name, ".m3u8") && edge_broadcast_parse(name, &p->broadcast);
}

static bool parse_vod_playlist(struct edge_path *p, const char *broadcast, char *name)
{
    p->target = EDGE_VOD_PLAYLIST;
    return edge_broadcast_parse(broadcast, &p->broadcast) && strip_suffix(name, ".m3u8") &&
           take_rendition(p, name);
}

static bool parse_part(struct edge_path *p, char *name)
{
    char *dot = strchr(name, '.');
    uint64_t part = 0;
    if (dot == NULL) {
        return false;
    }
    *dot = 0;
    if (!edge_number_parse(name, MSN_MAX, &p->msn) ||
        !edge_number_parse(dot + 1, PART_MAX, &part)) {
        return false;
    }
    p->part = (uint32_t)part;
    p->target = EDGE_PART;
    return true;
}

static bool parse_media(struct edge_path *p, const char *broadcast, const char *rendition,
                        char *name)
{
    if (!edge_broadcast_parse(broadcast, &p->broadcast) || !take_rendition(p, rendition)) {
        return false;
    }
    if (strip_prefix(&name, "part-")) {
        return strip_suffix(name, ".m4s") && parse_part(p, name);
    }
    if (strip_prefix(&name, "seg-")) {
        p->target = EDGE_SEGMENT;
        return strip_suffix(name, ".m4s") && edge_number_parse(name, MSN_MAX, &p->msn);
    }
    p->target = EDGE_INIT;
    return strip_prefix(&name, "init-") && strip_suffix(name, ".mp4") &&
           edge_number_parse(name, UINT32_MAX, &p->msn);
}

/* Splits at '/', in place; 0 when there are too many pieces. */
static unsigned split(char *text, char *pieces[SEGMENTS_MAX])
{
    unsigned n = 0;
    for (char *slash = text; slash != NULL; text = slash + 1) {
        if (n == SEGMENTS_MAX) {
            return 0;
        }
        slash = strchr(text, '/');
        if (slash != NULL) {
            *slash = 0;
        }
        pieces[n++] = text;
        if (slash == NULL) {
            break;
        }
    }
    return n;
}

bool edge_path_parse(const char *path, struct edge_path *ret_path)
{
    static const char root[] = "/hls/";
    char text[TEXT_MAX], *piece[SEGMENTS_MAX];
    struct edge_path *p = ret_path;
    *p = (struct edge_path){0};
    size_t n = strlen(path);
    if (n >= sizeof(text) || strncmp(path, root, strlen(root)) != 0) {
        return false;
    }
    memcpy(text, path + strlen(root), n - strlen(root) + 1);
    unsigned n_pieces = split(text, piece);
    if (n_pieces < 2 || !is_word(piece[0], 2, EDGE_CHANNEL_MAX, true)) {
        return false;
    }
    memcpy(p->channel, piece[0], strlen(piece[0]) + 1);
    bool vod = strcmp(piece[1], "vod") == 0;
    if (n_pieces == 2) {
        return parse_live(p, piece[1]);
    }
    if (n_pieces == 3 && vod) {
        return parse_vod_master(p, piece[2]);
    }
    if (n_pieces == 3) {
        p->target = EDGE_VOD_THUMB;
        return strcmp(piece[2], "thumb.jpg") == 0 && edge_broadcast_parse(piece[1], &p->broadcast);
    }
    if (vod) {
        return parse_vod_playlist(p, piece[2], piece[3]);
    }
    return parse_media(p, piece[1], piece[2], piece[3]);
}

const char *edge_reload_parse(const char *msn, const char *part, const char *skip,
                              struct edge_reload *ret_reload)
{
    struct edge_reload r = {.has_msn = msn != NULL, .has_part = part != NULL};
    uint64_t number = 0;
    if (r.has_part && !r.has_msn) {
        return "_HLS_part without _HLS_msn";
    }
    if (r.has_msn && !edge_number_parse(msn, MSN_MAX, &r.msn)) {
        return "_HLS_msn is not a number";
    }
    if (r.has_part && !edge_number_parse(part, PART_MAX, &number)) {
        return "_HLS_part is not a number";
    }
    r.part = (uint32_t)number;
    /* "v2" asks for date ranges to be skipped too: there are none. */
    r.skip = skip != NULL && (strcmp(skip, "YES") == 0 || strcmp(skip, "v2") == 0);
    *ret_reload = r;
    return NULL;
}
