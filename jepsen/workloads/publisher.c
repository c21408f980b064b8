#include "jepsen/workloads/publisher.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MS_NS     UINT64_C(1000000)
#define DIAL_MS   10000
#define ASK_MS    2000
#define LEAVE_MS  4000
#define HOLD_MS   2500 /* at least, and as much again twice at most */
#define SEEN_MS   20000
#define MOVES     4    /* what it may do when its time is over */
#define ZOMBIE_MS 1000 /* at least, and up to four times as long */

static void at_request(const struct publisher *pub, char *out, size_t size)
{
    (void)snprintf(out, size, "{:channel %u, :publisher %u, :node \"%s\", :session %u, :expect :%s",
                   pub->channel->number, pub->p->slot, stage_host(pub->stage, pub->node)->name,
                   pub->session, pub->same ? "same" : "any");
}

static void enter(struct publisher *pub, enum publisher_state state, uint32_t ms)
{
    pub->state = state;
    pub->deadline_ns = stage_now_ns(pub->stage) + ms * MS_NS;
}

/* --- Publishing --- */

void publisher_dial(struct publisher *pub, unsigned node)
{
    const struct stage_channel *c = pub->channel;
    uint64_t now = stage_now_ns(pub->stage);
    struct error err = {0};
    char text[192];
    pub->node = node;
    pub->session = ++pub->stage->sessions;
    pub->ends = c->ends;
    pub->same = c->published && c->ends == c->ends_at_publish && now - c->seen_ns < SEEN_MS * MS_NS;
    pub->broadcast[0] = '\0';
    at_request(pub, text, sizeof(text));
    process_invoke(pub->p, "publish", "%s}", text);
    if (encoder_start(&pub->encoder, pub->stage->run, stage_host(pub->stage, node), c->key,
                      pub->session, &err) != 0) {
        run_failed(pub->stage->run, err.text);
    }
    enter(pub, PUBLISHER_DIALLING, DIAL_MS);
}

/* Nobody knows whether it had claimed the channel. */
static void publish_failed(struct publisher *pub, const char *why)
{
    char text[192];
    at_request(pub, text, sizeof(text));
    encoder_close(&pub->encoder);
    enter(pub, PUBLISHER_AWAY, 0);
    process_end(pub->p, HISTORY_INFO, why, "%s}", text);
    pub->p->next_ns = stage_now_ns(pub->stage) + pub->reconnect_ms * MS_NS;
}

static void published(struct publisher *pub)
{
    char text[192];
    uint32_t hold = HOLD_MS + (uint32_t)run_random(pub->stage->run, 2 * HOLD_MS);
    /* Another one's farewell while this one was dialling may have come before its claim. */
    pub->same = pub->same && pub->channel->ends == pub->ends;
    at_request(pub, text, sizeof(text));
    if (pub->broadcast[0] != '\0') {
        process_end(pub->p, HISTORY_OK, NULL, "%s, :broadcast \"%s\"}", text, pub->broadcast);
        pub->channel->published = true;
        pub->channel->ends_at_publish = pub->ends;
    } else {
        process_end(pub->p, HISTORY_OK, NULL, "%s}", text);
    }
    enter(pub, PUBLISHER_LIVE, hold);
    pub->live_ns = stage_now_ns(pub->stage);
}

/* The newest one: this node has folded the claim before it let the encoder begin. */
static void on_streams(void *data, int status, json_t *answer)
{
    struct publisher *pub = data;
    size_t i;
    json_t *stream;
    if (pub->state != PUBLISHER_ASKING) {
        return;
    }
    json_array_foreach(json_object_get(answer, "broadcasts"), i, stream)
    {
        const char *id = json_string_value(json_object_get(stream, "broadcast"));
        if (status == 200 && id != NULL && json_is_true(json_object_get(stream, "live"))) {
            (void)snprintf(pub->broadcast, sizeof(pub->broadcast), "%s", id);
        }
    }
    published(pub);
}

static void ask(struct publisher *pub)
{
    char path[64];
    enter(pub, PUBLISHER_ASKING, ASK_MS);
    (void)snprintf(path, sizeof(path), "/api/channels/%s/broadcasts", pub->channel->name);
    web_ask(pub->stage->web, stage_host(pub->stage, pub->node), "GET", path, NULL, on_streams, pub);
}

/* --- Going away --- */

static void invoke_unpublish(struct publisher *pub, const char *how)
{
    process_invoke(pub->p, "unpublish", "{:channel %u, :publisher %u, :session %u, :how :%s}",
                   pub->channel->number, pub->p->slot, pub->session, how);
}

static void unpublished(struct publisher *pub, const char *how)
{
    uint32_t wait = pub->hold ? pub->reconnect_ms
                              : (uint32_t)run_random(pub->stage->run, 2 * pub->reconnect_ms + 1);
    enter(pub, PUBLISHER_AWAY, 0);
    process_end(pub->p, HISTORY_OK, NULL, "{:channel %u, :publisher %u, :session %u, :how :%s}",
                pub->channel->number, pub->p->slot, pub->session, how);
    pub->p->next_ns = stage_now_ns(pub->stage) + wait * MS_NS;
}

void publisher_leave(struct publisher *pub, bool proper)
{
    pub->proper = proper;
    pub->channel->ends += proper;
    invoke_unpublish(pub, proper ? "ended" : "dropped");
    encoder_signal(&pub->encoder, proper ? SIGTERM : SIGKILL);
    enter(pub, PUBLISHER_LEAVING, LEAVE_MS);
}

static void stop(struct publisher *pub)
{
    process_invoke(pub->p, "zombie", "{:channel %u, :publisher %u, :session %u}",
                   pub->channel->number, pub->p->slot, pub->session);
    encoder_signal(&pub->encoder, SIGSTOP);
    enter(pub, PUBLISHER_STOPPED, ZOMBIE_MS + (uint32_t)run_random(pub->stage->run, 3 * ZOMBIE_MS));
}

static void go_on(struct publisher *pub)
{
    encoder_signal(&pub->encoder, SIGCONT);
    enter(pub, PUBLISHER_LIVE, HOLD_MS);
    process_end(pub->p, HISTORY_OK, NULL, "{:channel %u, :publisher %u, :session %u}",
                pub->channel->number, pub->p->slot, pub->session);
}

static void cut_off(struct publisher *pub)
{
    invoke_unpublish(pub, "cut-off");
    unpublished(pub, "cut-off");
}

/* --- Time --- */

void publisher_next(struct publisher *pub)
{
    struct run *run = pub->stage->run;
    if (pub->state == PUBLISHER_AWAY) {
        publisher_dial(pub, pub->hold ? pub->node + 1 : (unsigned)run_random(run, 64));
    } else if (pub->state == PUBLISHER_LIVE && !encoder_runs(&pub->encoder)) {
        cut_off(pub);
    } else if (pub->state == PUBLISHER_LIVE && !pub->hold &&
               stage_now_ns(pub->stage) > pub->deadline_ns) {
        uint64_t move = run_random(run, MOVES);
        if (move == 0) {
            stop(pub);
        } else {
            publisher_leave(pub, move == 1);
        }
    }
}

void publisher_sweep(struct publisher *pub)
{
    bool late = stage_now_ns(pub->stage) > pub->deadline_ns;
    encoder_poll(&pub->encoder);
    switch (pub->state) {
    case PUBLISHER_DIALLING:
        if (pub->encoder.live) {
            ask(pub);
        } else if (!encoder_runs(&pub->encoder)) {
            publish_failed(pub, "refused");
        } else if (late) {
            publish_failed(pub, "timeout");
        }
        return;
    case PUBLISHER_ASKING:
        if (late) {
            published(pub);
        }
        return;
    case PUBLISHER_STOPPED:
        if (late) {
            go_on(pub);
        }
        return;
    case PUBLISHER_LEAVING:
        if (late) {
            encoder_close(&pub->encoder);
        }
        if (!encoder_runs(&pub->encoder)) {
            unpublished(pub, pub->proper ? "ended" : "dropped");
        }
        return;
    case PUBLISHER_AWAY:
    case PUBLISHER_LIVE:
        return;
    }
}
