/* What a path below /hls/ and the query of a playlist request mean. Pure; any thread.
 *
 *   /hls/<channel>/master.m3u8                                the live broadcast
 *   /hls/<channel>/<rendition>.m3u8
 *   /hls/<channel>/thumb.jpg
 *   /hls/<channel>/vod/<broadcast>.m3u8                       any broadcast from its start
 *   /hls/<channel>/vod/<broadcast>/<rendition>.m3u8
 *   /hls/<channel>/<broadcast>/thumb.jpg
 *   /hls/<channel>/<broadcast>/<rendition>/init-<n>.mp4
 *   /hls/<channel>/<broadcast>/<rendition>/seg-<msn>.m4s
 *   /hls/<channel>/<broadcast>/<rendition>/part-<msn>.<part>.m4s
 *
 * <broadcast> is 16 hexadecimal digits in lower case; numbers are decimal without needless zeros,
 * so that an object has one URL. */
#ifndef NODES_EDGE_PATH_H
#define NODES_EDGE_PATH_H

#include <stdbool.h>
#include <stdint.h>

#define EDGE_CHANNEL_MAX   25
#define EDGE_RENDITION_MAX 16

enum edge_target {
    EDGE_MASTER,
    EDGE_PLAYLIST,
    EDGE_THUMB,
    EDGE_VOD_MASTER,
    EDGE_VOD_PLAYLIST,
    EDGE_VOD_THUMB,
    EDGE_INIT,
    EDGE_SEGMENT,
    EDGE_PART,
    EDGE_TARGETS
};

struct edge_path {
    enum edge_target target;
    char channel[EDGE_CHANNEL_MAX + 1];
    char rendition[EDGE_RENDITION_MAX + 1];
    uint64_t broadcast;
    uint64_t msn; /* of a segment or part; number of an init */
    uint32_t part;
};

/* False: there is nothing of that form; *ret_path is then of no use. */
bool edge_path_parse(const char *path, struct edge_path *ret_path);

/* Delivery directives (draft-pantos-hls-rfc8216bis, section 6.2.5). */
struct edge_reload {
    bool has_msn, has_part, skip;
    uint64_t msn;
    uint32_t part;
};
/* Each may be NULL: absent. NULL when all is well, else what is wrong with them (then the answer is
 * 400). */
const char *edge_reload_parse(const char *msn, const char *part, const char *skip,
                              struct edge_reload *ret_reload);

/* A decimal number up to max, all of the text. */
bool edge_number_parse(const char *text, uint64_t max, uint64_t *ret_number);
/* 16 hexadecimal digits in lower case, all of the text. */
bool edge_broadcast_parse(const char *text, uint64_t *ret_broadcast);

#endif
