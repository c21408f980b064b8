/* A session whose RTMP, feed and views the test plays: when an encoder is told to go elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "media/rtmp.h"
#include "nodes/ingest/feed.h"
#include "nodes/ingest/session.h"
#include "proto/lifecycle.pb-c.h"
#include "views/accounts.h"
#include "virtual_env.h"

#define SECOND_US 1000000ull
#define EPOCH     40

static struct world {
    struct virtual_env env;
    struct config config;
    struct node node;
    struct lifecycle_channel channel;
    struct rtmp_events rtmp;
    struct bytes output;
    struct virtual_stream *stream;
    struct session *session;
    struct view_submit *submit; /* the claim, until it is folded */
    view_submit_cb submit_cb;
    uint64_t follows; /* what the claim says */
    unsigned claims;
    int key_status; /* of looking the stream key up */
    unsigned accepted, rejected, aborted, frames, closed;
    char text[128]; /* what the encoder was told */
} w;

static void *const SOME = &w; /* any but NULL */

int __wrap_rtmp_new(const struct rtmp_events *events, struct rtmp **ret_rtmp);
void __wrap_rtmp_free(struct rtmp *rtmp);
int __wrap_rtmp_receive(struct rtmp *rtmp, const uint8_t *data, size_t n, struct error *err);
struct bytes *__wrap_rtmp_output(struct rtmp *rtmp);
const char *__wrap_rtmp_encoder(const struct rtmp *rtmp);
int __wrap_rtmp_publish_accept(struct rtmp *rtmp, struct error *err);
void __wrap_rtmp_publish_reject(struct rtmp *rtmp, const char *description);
void __wrap_rtmp_publish_abort(struct rtmp *rtmp, const char *description);
int __wrap_feed_new(struct node *node, const struct feed_options *options,
                    const struct feed_events *events, struct feed **ret_feed);
void __wrap_feed_free(struct feed *f);
void __wrap_feed_video(struct feed *f, const struct wire_video *frame);
int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *value, size_t len, struct view_submit *req, view_submit_cb cb);
bool __wrap_views_ready(const struct views *views);
const struct lifecycle_channel *__wrap_lifecycle_live(struct views *views, const char *channel);
int __wrap_accounts_by_stream_key(struct views *views, const char *key,
                                  struct account_channel *ret_channel);

int __wrap_rtmp_new(const struct rtmp_events *events, struct rtmp **ret_rtmp)
{
    w.rtmp = *events;
    *ret_rtmp = SOME;
    return 0;
}

void __wrap_rtmp_free(struct rtmp *rtmp)
{
    (void)rtmp;
}

/* The first byte asks to publish, each further one is a key frame. */
int __wrap_rtmp_receive(struct rtmp *rtmp, const uint8_t *data, size_t n, struct error *err)
{
    static const uint8_t key_frame[] = {0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65};
    (void)rtmp;
    (void)n;
    (void)err;
    if (data[0] == 'p') {
        w.rtmp.publish(w.rtmp.data, "live", "the key");
    } else {
        w.rtmp.media(w.rtmp.data, RTMP_VIDEO, 0, key_frame, sizeof(key_frame));
    }
    return 0;
}

struct bytes *__wrap_rtmp_output(struct rtmp *rtmp)
{
    (void)rtmp;
    return &w.output;
}

const char *__wrap_rtmp_encoder(const struct rtmp *rtmp)
{
    (void)rtmp;
    return "test";
}

int __wrap_rtmp_publish_accept(struct rtmp *rtmp, struct error *err)
{
    (void)rtmp;
    (void)err;
    w.accepted++;
    return 0;
}

static void tell(unsigned *count, const char *text)
{
    (*count)++;
    (void)snprintf(w.text, sizeof(w.text), "%s", text);
}

void __wrap_rtmp_publish_reject(struct rtmp *rtmp, const char *description)
{
    (void)rtmp;
    tell(&w.rejected, description);
}

void __wrap_rtmp_publish_abort(struct rtmp *rtmp, const char *description)
{
    (void)rtmp;
    tell(&w.aborted, description);
}

int __wrap_feed_new(struct node *node, const struct feed_options *options,
                    const struct feed_events *events, struct feed **ret_feed)
{
    (void)node;
    (void)options;
    (void)events;
    *ret_feed = SOME;
    return 0;
}

void __wrap_feed_free(struct feed *f)
{
    (void)f;
}

void __wrap_feed_video(struct feed *f, const struct wire_video *frame)
{
    (void)f;
    w.frames += frame->key;
}

int __wrap_views_submit(struct views *views, enum view_topic topic, const char *key,
                        const void *value, size_t len, struct view_submit *req, view_submit_cb cb)
{
    (void)views;
    (void)topic;
    (void)key;
    Weir__LifecycleRecord *m = weir__lifecycle_record__unpack(NULL, len, value);
    assert_non_null(m);
    assert_int_equal(m->body_case, WEIR__LIFECYCLE_RECORD__BODY_SESSION_CLAIM);
    w.follows = m->session_claim->follows;
    w.claims++;
    weir__lifecycle_record__free_unpacked(m, NULL);
    w.submit = req;
    w.submit_cb = cb;
    return 0;
}

bool __wrap_views_ready(const struct views *views)
{
    (void)views;
    return true;
}

const struct lifecycle_channel *__wrap_lifecycle_live(struct views *views, const char *channel)
{
    (void)views;
    (void)channel;
    return &w.channel;
}

int __wrap_accounts_by_stream_key(struct views *views, const char *key,
                                  struct account_channel *ret_channel)
{
    (void)views;
    (void)key;
    (void)snprintf(ret_channel->name, sizeof(ret_channel->name), "alice");
    return w.key_status;
}

static void on_closed(void *data, struct session *s)
{
    (void)data;
    (void)s;
    w.closed++;
    w.session = NULL;
}

static int setup(void **state)
{
    static struct config_node self = {.name = "n1", .id = 1};
    (void)state;
    memset(&w, 0, sizeof(w));
    virtual_env_init(&w.env);
    bytes_init(&w.output, 64);
    w.node = (struct node){.config = &w.config, .self = &self, .env = &w.env.base};
    w.channel.session_epoch = EPOCH;
    w.stream = virtual_stream_new(&w.env);
    struct session_owner owner = {NULL, on_closed};
    assert_int_equal(session_new(&w.node, &owner, &w.stream->base, &w.session), 0);
    return 0;
}

static void claim_is_judged(enum verdict verdict)
{
    assert_non_null(w.submit_cb);
    view_submit_cb cb = w.submit_cb;
    w.submit_cb = NULL;
    w.submit->offset = EPOCH;
    cb(w.submit, 0, verdict);
}

static void claim_is_folded(void)
{
    claim_is_judged(VERDICT_OK);
}

static int teardown(void **state)
{
    (void)state;
    if (w.session != NULL) {
        session_kill(w.session);
    }
    if (w.submit_cb != NULL) {
        claim_is_folded();
    }
    bytes_close(&w.output);
    virtual_env_close(&w.env);
    return 0;
}

static void encoder_sends(const char *what)
{
    virtual_stream_read(w.stream, what, 1, 0);
}

static void goes_live(void)
{
    encoder_sends("publish");
    claim_is_folded();
    assert_int_equal(w.accepted, 1);
}

/* A key frame a second; the parts of it, too. */
static void runs(unsigned seconds, bool parts)
{
    for (unsigned i = 0; i < seconds && w.session != NULL && !w.stream->closed; i++) {
        encoder_sends("frame");
        virtual_env_run(&w.env, SECOND_US);
        w.channel.end_us += parts ? (int64_t)SECOND_US : 0;
    }
}

static void closes_soon(void)
{
    virtual_env_run(&w.env, SECOND_US);
    assert_true(w.stream->closed);
    assert_int_equal(w.closed, 1);
}

static void a_node_that_is_cut_off__tells_its_encoders_and_closes(void **state)
{
    (void)state;
    goes_live();
    runs(5, true);
    assert_int_equal(w.frames, 5);
    session_on_cut_off(w.session);
    session_on_cut_off(w.session);
    assert_int_equal(w.aborted, 1);
    assert_non_null(strstr(w.text, "cut off"));
    closes_soon();
}

static void a_node_that_is_cut_off__refuses_who_waits_for_its_claim(void **state)
{
    (void)state;
    encoder_sends("publish");
    assert_non_null(w.submit_cb);
    session_on_cut_off(w.session);
    session_on_cut_off(w.session);
    assert_int_equal(w.rejected, 1);
    assert_non_null(strstr(w.text, "cut off"));
    closes_soon();
    assert_int_equal(w.accepted, 0);
}

static void a_node_that_is_cut_off__refuses_who_waits_for_its_key(void **state)
{
    (void)state;
    w.key_status = WEIR_EAUTH;
    encoder_sends("publish");
    assert_null(w.submit_cb);
    session_on_cut_off(w.session);
    assert_int_equal(w.rejected, 1);
    closes_soon();
}

static void a_node_that_is_cut_off__has_nothing_to_say_to_who_greets(void **state)
{
    (void)state;
    session_on_cut_off(w.session);
    virtual_env_run(&w.env, SECOND_US);
    assert_int_equal(w.rejected + w.aborted, 0);
    assert_false(w.stream->closed);
}

static void a_stream_that_is_stored__goes_on(void **state)
{
    (void)state;
    goes_live();
    runs(50, false); /* the first segment is held back, the machine is slow */
    runs(1, true);
    runs(55, false);
    runs(100, true);
    assert_int_equal(w.aborted, 0);
    assert_false(w.stream->closed);
}

static void a_stream_of_which_nothing_is_stored_for_a_minute__is_told(void **state)
{
    (void)state;
    goes_live();
    runs(10, true);
    runs(59, false);
    assert_int_equal(w.aborted, 0);
    runs(3, false);
    assert_int_equal(w.aborted, 1);
    assert_non_null(strstr(w.text, "stored"));
    closes_soon();
}

static void
a_claim__follows_the_session_that_is_known_and_is_made_again_behind_another(void **state)
{
    (void)state;
    w.channel.session_epoch = EPOCH - 20;
    encoder_sends("publish");
    assert_int_equal(w.follows, lifecycle_claim_follows(&w.channel));
    w.channel.session_epoch = EPOCH - 10; /* somebody else was quicker */
    claim_is_judged(VERDICT_FENCED);
    virtual_env_run(&w.env, SECOND_US);
    assert_int_equal(w.rejected, 0);
    assert_int_equal(w.claims, 2);
    assert_int_equal(w.follows, lifecycle_claim_follows(&w.channel));
    w.channel.session_epoch = EPOCH;
    claim_is_folded();
    assert_int_equal(w.accepted, 1);
}

static void a_claim__is_not_made_again_for_who_was_sent_away(void **state)
{
    (void)state;
    encoder_sends("publish");
    session_on_cut_off(w.session);
    claim_is_judged(VERDICT_FENCED);
    closes_soon();
    assert_int_equal(w.claims, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_node_that_is_cut_off__tells_its_encoders_and_closes),
        TEST(a_node_that_is_cut_off__refuses_who_waits_for_its_claim),
        TEST(a_node_that_is_cut_off__refuses_who_waits_for_its_key),
        TEST(a_node_that_is_cut_off__has_nothing_to_say_to_who_greets),
        TEST(a_claim__follows_the_session_that_is_known_and_is_made_again_behind_another),
        TEST(a_claim__is_not_made_again_for_who_was_sent_away),
        TEST(a_stream_that_is_stored__goes_on),
        TEST(a_stream_of_which_nothing_is_stored_for_a_minute__is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
