/* Inside of the edge role: every node answers viewers from its own view and store.
 *
 *   edge.c           start and stop, routes, /internal/store, what happens when the view changes
 *   edge_path.c      what a URL means
 *   edge_live.c      live playlists: rendered once per state, waited for by any number of viewers
 *   edge_vod.c       playlists of whole broadcasts
 *   edge_media.c     init segments, segments, parts, thumbnails
 *   edge_api.c       /api/streams, /api/channels/<channel>/broadcasts
 *   edge_static.c    the page
 *
 * All on the front loop. */
#ifndef NODES_EDGE_H
#define NODES_EDGE_H

#include "base/metrics.h"
#include "media/playlist.h"
#include "nodes/edge/edge_path.h"
#include "nodes/role.h"
#include "views/lifecycle.h"

#define EDGE_BUCKETS     1024
#define EDGE_WAITERS_MAX 262144
/* A blocked request is given up after this many target durations (section 6.2.5.2). */
#define EDGE_BLOCK_TARGETS 3
#define EDGE_PLAYLIST_MAX  (32u << 20)
#define EDGE_TICK_US       250000

/* A request that waits for a part to exist. */
struct edge_waiter {
    struct list link;
    struct edge *edge;
    struct http_exchange *ex;
    uint64_t deadline_ns, msn;
    uint32_t part;
    bool media;    /* wants the part itself, not the playlist */
    bool has_part; /* else: the whole segment msn */
    bool skip;
};

/* A channel that somebody asks for: rendered playlists and blocked requests. Made by the first
 * request, dropped when the channel is not live and nobody waits. */
struct edge_channel {
    struct list link;
    struct edge *edge;
    char name[LIFECYCLE_CHANNEL_MAX + 1];
    /* What the bodies were rendered from. */
    uint64_t broadcast, version;
    struct http_body *master;
    struct http_body
        *playlist[LIFECYCLE_RENDITIONS_MAX][2];    /* by slot of the rendition; [1]: delta update */
    struct list waiters[LIFECYCLE_RENDITIONS_MAX]; /* same; oldest first */
    uint32_t slot_ids[LIFECYCLE_RENDITIONS_MAX];   /* which rendition a slot is for */
    unsigned n_slots;
    uint32_t changed; /* bits of slots with something new for their waiters */
    struct env_defer wake;
#ifdef WEIR_FAULTS
    uint64_t seen_from[LIFECYCLE_RENDITIONS_MAX]; /* FAULT_PLAYLIST_LOCAL; by slot */
#endif
};

struct edge_vod; /* rendered playlists of whole broadcasts */
struct edge_files;

struct edge {
    struct node *node;
    bool stopping;
    struct view_listener listener;
    struct list channels[EDGE_BUCKETS];
    unsigned n_waiters;
    struct env_timer timer;
    struct edge_vod *vod;
    struct edge_files *files;
    struct http_body *streams; /* answer of /api/streams, and until when it is good */
    uint64_t streams_until_ns;
    /* Memory for rendering, used inside one call. */
    struct playlist_segment segments[LIFECYCLE_RING_SEGMENTS];
    struct playlist_part parts[LIFECYCLE_PARTS_MAX * 4];
    struct metric *renders, *playlists, *media, *blocked, *timeouts;
};

/* Cache-Control, PROTOCOLS: what exists never changes; a blocking playlist's URL names its state; a
 * plain one is old after half a target duration; a 404 may be wrong in a second. */
#define EDGE_IMMUTABLE "Cache-Control: public, max-age=31536000, immutable\r\n"
#define EDGE_CORS      "Access-Control-Allow-Origin: *\r\n"
#define EDGE_M3U8      "application/vnd.apple.mpegurl"

/* An error as text, with the headers that a player in another origin's page and a cache need. */
void edge_error(struct http_exchange *ex, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A negative code as an HTTP answer. */
void edge_fail(struct http_exchange *ex, int code, const char *what);
/* Takes the bytes; answers 500 when they are not whole. NULL: it has been answered. */
struct http_body *edge_body_of(struct http_exchange *ex, struct bytes *b);

void edge_live_master(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_live_playlist(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
/* A part that may not exist yet: answers when it does. */
void edge_live_part(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_live_event(struct edge *e, const struct lifecycle_outcome *outcome);
void edge_live_tick(struct edge *e);
void edge_live_close(struct edge *e);
/* At least one whole segment of every rendition, or three of one: what a player may begin with. */
bool edge_live_ready(const struct lifecycle_channel *c);
bool edge_rendition_ready(const struct lifecycle_rendition *r);

int edge_vod_new(struct edge_vod **ret_vod);
void edge_vod_free(struct edge_vod *vod);
void edge_vod_master(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_vod_playlist(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
/* A live URL after the end: the last window of the newest broadcast with its end. False: there is
 * none. */
bool edge_vod_last_window(struct edge *e, struct http_exchange *ex, const struct edge_path *path);

void edge_media_init(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_media_segment(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_media_part(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_media_thumb(struct edge *e, struct http_exchange *ex, const struct edge_path *path);
void edge_media_send_part(struct edge *e, struct http_exchange *ex,
                          const struct lifecycle_segment *segment, unsigned part);

void edge_api_streams(void *data, struct http_exchange *ex);
void edge_api_channels(void *data, struct http_exchange *ex);

int edge_files_new(struct env *env, const char *dir, struct edge_files **ret_files);
void edge_files_free(struct edge_files *files);
void edge_static(void *data, struct http_exchange *ex);
/* Which file of the folder a path of the page means; false: none. Pure. */
bool edge_static_file(const char *path, char *ret_name, unsigned size);
const char *edge_static_type(const char *name);

#endif
