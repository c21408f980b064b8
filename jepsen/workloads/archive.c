#include "jepsen/workloads/archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "jepsen/workloads/publisher.h"
#include "jepsen/workloads/reader.h"
#include "net/http.h"

#define LAST_MS    4000  /* the last publisher of a channel stays so long */
#define SETTLE_MS  30000 /* until every edge knows of every end */
#define PAUSE_MS   300
#define TRIES      10
#define ASK_MS     5000
#define PATH_SIZE  192
#define TEXT_MAX   (512u << 10)
#define BROADCASTS 100 /* what an edge tells of a channel */
#define MS_NS      UINT64_C(1000000)

enum phase {
    IDLE,
    LEAVING,  /* publishers go */
    LAST,     /* each channel is published once more */
    SETTLING, /* until no edge says that a channel is live */
    READING,
    DONE
};

/* One edge's part of it: a chain of questions. */
struct chain {
    struct archive *archive;
    struct process *p;
    unsigned edge;
    bool quiet[STAGE_CHANNELS]; /* not live, as this edge says */
    bool asking, over;
    unsigned channel, broadcast, rendition;
    char ids[BROADCASTS][20];
    unsigned n_ids;
    struct hls_playlist playlist;
    uint64_t segment; /* the next one's number */
    uint32_t hash;
    unsigned tries;
    uint64_t again_ns; /* 0: not waiting */
    void (*again)(struct chain *c);
    char *text; /* TEXT_MAX */
    size_t len;
};

struct archive {
    struct stage *stage;
    enum phase phase;
    uint64_t since_ns;
    bool last_begun[STAGE_CHANNELS], last_done[STAGE_CHANNELS];
    struct chain chains[HOSTS_MAX];
};

int archive_new(struct stage *s, struct archive **ret_archive, struct error *err)
{
    struct archive *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    a->stage = s;
    for (unsigned i = 0; i < s->n_readers; i++) {
        a->chains[i] = (struct chain){.archive = a, .edge = i, .p = run_process(s->run, i)};
        a->chains[i].text = malloc(TEXT_MAX);
        if (a->chains[i].text == NULL) {
            abort();
        }
    }
    *ret_archive = a;
    return 0;
}

void archive_free(struct archive *a)
{
    if (a != NULL) {
        for (unsigned i = 0; i < HOSTS_MAX; i++) {
            free(a->chains[i].text);
        }
        free(a);
    }
}

static void enter(struct archive *a, enum phase phase)
{
    a->phase = phase;
    a->since_ns = stage_now_ns(a->stage);
}

static const char *edge_name(const struct chain *c)
{
    return stage_host(c->archive->stage, c->edge)->name;
}

static const char *channel_name(const struct chain *c)
{
    return c->archive->stage->channels[c->channel].name;
}

static void get(struct chain *c, const char *path, web_bytes_cb cb)
{
    web_get(c->archive->stage->web, stage_host(c->archive->stage, c->edge), path, ASK_MS, cb, c);
}

/* False: it has failed too often. */
static bool try_again(struct chain *c, void (*again)(struct chain *c))
{
    if (++c->tries >= TRIES) {
        c->tries = 0;
        return false;
    }
    c->again = again;
    c->again_ns = stage_now_ns(c->archive->stage) + PAUSE_MS * MS_NS;
    return true;
}

/* --- Segments and playlists of a broadcast --- */

static void next_vod(struct chain *c);
static void next_channel(struct chain *c);

static void at_vod(const struct chain *c, char *out, size_t size)
{
    (void)snprintf(out, size, "{:edge \"%s\", :channel %u, :broadcast \"%s\", :rendition \"%s\"",
                   edge_name(c), c->channel, c->ids[c->broadcast], stage_renditions[c->rendition]);
}

static void vod_end(struct chain *c, enum history_type type, const char *error, const char *more)
{
    char text[160];
    at_vod(c, text, sizeof(text));
    process_end(c->p, type, error, "%s%s}", text, more);
    c->tries = 0;
    c->rendition++;
    next_vod(c);
}

static void next_segment(struct chain *c);

static void put_segment(struct chain *c, const struct http_body *body)
{
    unsigned sessions[HLS_MARKS_MAX];
    unsigned n = body != NULL ? hls_sessions(body->data, body->len, sessions) : 0;
    char *out = c->text + c->len, marks[12 * HLS_MARKS_MAX + 1] = "";
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        at +=
            (size_t)snprintf(marks + at, sizeof(marks) - at, "%s%u", i > 0 ? " " : "", sessions[i]);
    }
    int k = body != NULL ? snprintf(out, TEXT_MAX - c->len, "%s[%" PRIu64 " %zu %" PRIu32 " [%s]]",
                                    c->len > 0 ? " " : "", c->segment, body->len,
                                    crc32c(0, body->data, body->len), marks)
                         : snprintf(out, TEXT_MAX - c->len, "%s[%" PRIu64 " nil nil []]",
                                    c->len > 0 ? " " : "", c->segment);
    if (k < 0 || (size_t)k >= TEXT_MAX - c->len) {
        run_failed(c->archive->stage->run, "more segments than a reader takes");
        return;
    }
    c->len += (size_t)k;
}

static void on_segment(void *data, int status, struct http_body *body)
{
    struct chain *c = data;
    bool good = status == 200 && body != NULL;
    if (!good && try_again(c, next_segment)) {
        return;
    }
    c->tries = 0;
    put_segment(c, good ? body : NULL);
    c->segment++;
    next_segment(c);
}

static void next_segment(struct chain *c)
{
    char path[PATH_SIZE];
    if (c->segment == c->playlist.first + c->playlist.n_segments) {
        char *more = malloc(TEXT_MAX + 64);
        if (more == NULL) {
            abort();
        }
        c->text[c->len] = '\0';
        (void)snprintf(more, TEXT_MAX + 64, ", :hash %" PRIu32 ", :segments [%s]", c->hash,
                       c->text);
        vod_end(c, HISTORY_OK, NULL, more);
        free(more);
        return;
    }
    (void)snprintf(path, sizeof(path), "/hls/%s/%s/%s/seg-%" PRIu64 ".m4s", channel_name(c),
                   c->ids[c->broadcast], stage_renditions[c->rendition], c->segment);
    get(c, path, on_segment);
}

static void ask_vod(struct chain *c);

static void on_vod(void *data, int status, struct http_body *body)
{
    struct chain *c = data;
    char why[96];
    if (status == 404) {
        vod_end(c, HISTORY_OK, NULL, ", :missing true");
    } else if (status != 200 || body == NULL) {
        if (!try_again(c, ask_vod)) {
            (void)snprintf(why, sizeof(why), "status %d", status);
            vod_end(c, HISTORY_FAIL, why, "");
        }
    } else {
        const char *wrong = hls_parse(body->data, body->len, &c->playlist);
        c->tries = 0;
        if (wrong != NULL || !c->playlist.ended) {
            (void)snprintf(why, sizeof(why), ", :malformed \"%s\"",
                           wrong != NULL ? wrong : "no end");
            vod_end(c, HISTORY_OK, NULL, why);
            return;
        }
        c->hash = hls_hash(body->data, body->len);
        c->segment = c->playlist.first;
        c->len = 0;
        next_segment(c);
    }
}

static void ask_vod(struct chain *c)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "/hls/%s/vod/%s/%s.m3u8", channel_name(c),
                   c->ids[c->broadcast], stage_renditions[c->rendition]);
    get(c, path, on_vod);
}

static void next_vod(struct chain *c)
{
    char text[160];
    if (c->rendition == STAGE_RENDITIONS) {
        c->rendition = 0;
        c->broadcast++;
    }
    if (c->broadcast == c->n_ids) {
        c->channel++;
        next_channel(c);
        return;
    }
    at_vod(c, text, sizeof(text));
    process_invoke(c->p, "vod", "%s}", text);
    ask_vod(c);
}

/* --- What broadcasts there were --- */

static bool take_ids(struct chain *c, json_t *answer)
{
    json_t *list = json_object_get(answer, "broadcasts"), *one;
    size_t i;
    if (!json_is_array(list)) {
        return false;
    }
    c->n_ids = 0;
    c->len = 0;
    json_array_foreach(list, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "broadcast"));
        if (id != NULL && c->n_ids < BROADCASTS) {
            (void)snprintf(c->ids[c->n_ids++], sizeof(c->ids[0]), "%s", id);
            c->len += (size_t)snprintf(c->text + c->len, TEXT_MAX - c->len,
                                       "%s[\"%s\" %" JSON_INTEGER_FORMAT "]", c->len > 0 ? " " : "",
                                       id, json_integer_value(json_object_get(one, "duration_ms")));
        }
    }
    c->text[c->len] = '\0';
    return true;
}

static void ask_broadcasts(struct chain *c);

static void on_broadcasts(void *data, int status, json_t *answer)
{
    struct chain *c = data;
    if (status != 200 || !take_ids(c, answer)) {
        if (!try_again(c, ask_broadcasts)) {
            process_end(c->p, HISTORY_FAIL, "not told", "{:edge \"%s\", :channel %u}", edge_name(c),
                        c->channel++);
            next_channel(c);
        }
        return;
    }
    c->tries = 0;
    process_end(c->p, HISTORY_OK, NULL, "{:edge \"%s\", :channel %u, :broadcasts [%s]}",
                edge_name(c), c->channel, c->text);
    c->broadcast = 0;
    c->rendition = 0;
    next_vod(c);
}

static void ask_path(struct chain *c, unsigned channel, web_cb cb)
{
    struct stage *s = c->archive->stage;
    char path[64];
    (void)snprintf(path, sizeof(path), "/api/channels/%s/broadcasts", s->channels[channel].name);
    web_ask(s->web, stage_host(s, c->edge), "GET", path, NULL, cb, c);
}

static void ask_broadcasts(struct chain *c)
{
    ask_path(c, c->channel, on_broadcasts);
}

static void next_channel(struct chain *c)
{
    struct archive *a = c->archive;
    bool all = true;
    if (c->channel < a->stage->n_channels) {
        process_invoke(c->p, "broadcasts", "{:edge \"%s\", :channel %u}", edge_name(c), c->channel);
        ask_broadcasts(c);
        return;
    }
    c->over = true;
    for (unsigned i = 0; i < a->stage->n_readers; i++) {
        all = all && a->chains[i].over;
    }
    if (all) {
        enter(a, DONE);
        run_final_done(a->stage->run);
    }
}

/* --- Until all is over --- */

static void sweep_leaving(struct archive *a)
{
    struct stage *s = a->stage;
    bool all = true;
    for (unsigned i = 0; i < s->n_publishers; i++) {
        struct publisher *pub = &s->publishers[i];
        if (pub->state == PUBLISHER_LIVE && encoder_runs(&pub->encoder)) {
            publisher_leave(pub, true);
        } else if (pub->state == PUBLISHER_LIVE) {
            publisher_next(pub);
        }
        all = all && pub->state == PUBLISHER_AWAY;
    }
    if (all) {
        enter(a, LAST);
    }
}

/* The channel's first publisher does it, until it works. */
static void sweep_last(struct archive *a)
{
    struct stage *s = a->stage;
    bool all = true;
    for (unsigned i = 0; i < s->n_channels; i++) {
        struct publisher *pub = &s->publishers[i];
        if (pub->state == PUBLISHER_AWAY && a->last_begun[i] && pub->proper) {
            a->last_done[i] = true;
        } else if (pub->state == PUBLISHER_AWAY && stage_now_ns(s) > pub->p->next_ns) {
            pub->proper = false;
            a->last_begun[i] = true;
            publisher_dial(pub, pub->node + 1);
        } else if (pub->state == PUBLISHER_LIVE && !encoder_runs(&pub->encoder)) {
            publisher_next(pub);
        } else if (pub->state == PUBLISHER_LIVE &&
                   stage_now_ns(s) > pub->live_ns + LAST_MS * MS_NS) {
            publisher_leave(pub, true);
        }
        all = all && a->last_done[i];
    }
    if (all) {
        enter(a, SETTLING);
    }
}

static void on_quiet(void *data, int status, json_t *answer)
{
    struct chain *c = data;
    c->asking = false;
    c->quiet[c->channel] = status == 200 && json_is_false(json_object_get(answer, "live"));
    c->channel = (c->channel + 1) % c->archive->stage->n_channels;
}

static void begin_reading(struct archive *a)
{
    enter(a, READING);
    for (unsigned i = 0; i < a->stage->n_readers; i++) {
        a->chains[i].channel = 0;
        next_channel(&a->chains[i]);
    }
}

static void sweep_settling(struct archive *a)
{
    bool all = true, asking = false;
    for (unsigned i = 0; i < a->stage->n_readers; i++) {
        struct chain *c = &a->chains[i];
        bool quiet = true;
        for (unsigned k = 0; k < a->stage->n_channels; k++) {
            quiet = quiet && c->quiet[k];
        }
        all = all && quiet;
        if (!quiet && !c->asking) {
            c->asking = true;
            ask_path(c, c->channel, on_quiet);
        }
        asking = asking || c->asking;
    }
    if (!asking && (all || stage_now_ns(a->stage) - a->since_ns > SETTLE_MS * MS_NS)) {
        begin_reading(a);
    }
}

static void sweep_reading(struct archive *a)
{
    for (unsigned i = 0; i < a->stage->n_readers; i++) {
        struct chain *c = &a->chains[i];
        if (c->again_ns != 0 && stage_now_ns(a->stage) > c->again_ns) {
            c->again_ns = 0;
            c->again(c);
        }
    }
}

void archive_sweep(struct archive *a)
{
    switch (a != NULL ? a->phase : IDLE) {
    case LEAVING:
        sweep_leaving(a);
        return;
    case LAST:
        sweep_last(a);
        return;
    case SETTLING:
        sweep_settling(a);
        return;
    case READING:
        sweep_reading(a);
        return;
    case IDLE:
    case DONE:
        return;
    }
}

void archive_begin(struct archive *a)
{
    enter(a, LEAVING);
}
