#include "fake_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOPICS_MAX  4
#define RECORDS_MAX 512
#define WAITING_MAX 64

struct stored {
    uint8_t *value;
    size_t len;
};
struct topic {
    char name[16];
    struct stored records[RECORDS_MAX];
    unsigned n;
    int64_t sent; /* to the consumer */
    struct weir_consumer_events events;
    bool consuming;
};

struct fake_log fake_log;
static struct topic topics[TOPICS_MAX];
static struct weir_produce *acks[WAITING_MAX];
static unsigned n_acks;
static struct weir_topic_req *asked[TOPICS_MAX];
static unsigned n_asked;
static struct env_timer timer;
static struct env_defer defer;

struct weir_client *fake_log_client(void)
{
    return (struct weir_client *)(void *)&fake_log;
}

static struct topic *topic_of(const char *name)
{
    for (unsigned i = 0; i < TOPICS_MAX; i++) {
        if (topics[i].name[0] == '\0') {
            assert_true(strlen(name) < sizeof(topics[i].name));
            memcpy(topics[i].name, name, strlen(name) + 1);
        }
        if (strcmp(topics[i].name, name) == 0) {
            return &topics[i];
        }
    }
    fail_msg("more topics than views");
    return NULL;
}

static void deliver_acks(void)
{
    while (n_acks > 0 && !fake_log.hold_acks) {
        struct weir_produce *req = acks[0];
        memmove(acks, acks + 1, --n_acks * sizeof(acks[0]));
        req->cb(req, fake_log.produce_status);
    }
}

static void deliver_records(struct topic *t)
{
    while (t->consuming && t->sent < t->n && !fake_log.hold_records && !fake_log.range) {
        struct batch_record r = {
            .offset = LOG_OFFSET(t->sent),
            .timestamp_ms = 1700000000000 + t->sent * 1000,
            .key_len = -1,
            .value = t->records[t->sent].value,
            .value_len = (int32_t)t->records[t->sent].len,
        };
        t->sent++;
        t->events.records(t->events.data, (struct weir_consumer *)(void *)t, &r, 1, t->n);
    }
}

static void run(struct env_defer *d)
{
    (void)d;
    for (; n_asked > 0 && !fake_log.no_topics; n_asked--) {
        asked[n_asked - 1]->cb(asked[n_asked - 1], 0, 1);
    }
    for (; n_asked > 0; n_asked--) {
        asked[n_asked - 1]->cb(asked[n_asked - 1], WEIR_ENOTFOUND, 0);
    }
    if (fake_log.ack_first) {
        deliver_acks();
    }
    for (unsigned i = 0; i < TOPICS_MAX; i++) {
        struct topic *t = &topics[i];
        if (t->consuming && fake_log.range) {
            t->events.failed(t->events.data, (struct weir_consumer *)(void *)t, WEIR_ERANGE,
                             "not there");
        }
        if (t->consuming && t->events.caught_up != NULL && t->sent == t->n) {
            t->events.caught_up(t->events.data, (struct weir_consumer *)(void *)t, t->n);
        }
        deliver_records(t);
    }
    deliver_acks();
}

static void kick(struct env_timer *tm)
{
    (void)tm;
    env_defer(fake_log.env, &defer, run);
}

static void soon(void)
{
    env_timer_start(&timer, 0, kick);
}

void fake_log_open(struct env *env)
{
    memset(&fake_log, 0, sizeof(fake_log));
    memset(topics, 0, sizeof(topics));
    memset(&defer, 0, sizeof(defer));
    n_acks = n_asked = 0;
    fake_log.env = env;
    assert_int_equal(env_timer_init(env, &timer), 0);
}

void fake_log_close(void)
{
    env_defer_cancel(&defer);
    env_timer_close(&timer);
    for (unsigned i = 0; i < TOPICS_MAX; i++) {
        for (unsigned k = 0; k < topics[i].n; k++) {
            free(topics[i].records[k].value);
        }
    }
}

void fake_log_release(void)
{
    fake_log.hold_acks = fake_log.hold_records = false;
    soon();
}

void __wrap_weir_topic(struct weir_client *client, const char *topic, struct weir_topic_req *req,
                       weir_topic_cb cb);
void __wrap_weir_topic(struct weir_client *client, const char *topic, struct weir_topic_req *req,
                       weir_topic_cb cb)
{
    (void)client;
    (void)topic_of(topic);
    assert_true(n_asked < TOPICS_MAX);
    req->cb = cb;
    asked[n_asked++] = req;
    soon();
}

static int64_t append(struct topic *t, const void *value, size_t len)
{
    assert_true(t->n < RECORDS_MAX);
    t->records[t->n].value = malloc(len + 1);
    assert_non_null(t->records[t->n].value);
    memcpy(t->records[t->n].value, value, len);
    t->records[t->n].len = len;
    return t->n++;
}

int __wrap_weir_produce(struct weir_client *client, const char *topic, uint32_t partition,
                        const void *key, size_t key_len, const void *value, size_t value_len,
                        struct weir_produce *req, weir_produce_cb cb);
int __wrap_weir_produce(struct weir_client *client, const char *topic, uint32_t partition,
                        const void *key, size_t key_len, const void *value, size_t value_len,
                        struct weir_produce *req, weir_produce_cb cb)
{
    struct topic *t = topic_of(topic);
    (void)client;
    assert_int_equal(partition, WEIR_PARTITION_BY_KEY);
    assert_true(key != NULL && key_len > 0);
    if (n_acks == WAITING_MAX) {
        return WEIR_EBUSY;
    }
    req->cb = cb;
    req->partition = 0;
    req->offset = append(t, value, value_len);
    if (fake_log.twice) {
        req->offset = append(t, value, value_len);
    }
    fake_log.n_produced++;
    acks[n_acks++] = req;
    soon();
    return 0;
}

int __wrap_weir_consume(struct weir_client *client, const char *topic, uint32_t partition,
                        int64_t from, const struct weir_consumer_events *events,
                        struct weir_consumer **ret_consumer, struct error *err);
int __wrap_weir_consume(struct weir_client *client, const char *topic, uint32_t partition,
                        int64_t from, const struct weir_consumer_events *events,
                        struct weir_consumer **ret_consumer, struct error *err)
{
    struct topic *t = topic_of(topic);
    (void)client;
    (void)err;
    assert_int_equal(partition, 0);
    assert_false(t->consuming);
    t->events = *events;
    t->sent = from < 0 ? 0 : from;
    t->consuming = true;
    fake_log.n_consumers++;
    *ret_consumer = (struct weir_consumer *)(void *)t;
    soon();
    return 0;
}

void __wrap_weir_consumer_pause(struct weir_consumer *c);
void __wrap_weir_consumer_pause(struct weir_consumer *c)
{
    (void)c;
}

void __wrap_weir_consumer_close(struct weir_consumer *c);
void __wrap_weir_consumer_close(struct weir_consumer *c)
{
    struct topic *t = (struct topic *)(void *)c;
    assert_true(t->consuming);
    t->consuming = false;
}
