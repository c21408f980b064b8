#include "harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/logging.h"
#include "base/shard.h"

#define DEADLINE_US 600000000u
#define LINK_TRIES  100 /* a broker that its disk holds up says nothing for seconds */
#define PORTS_FIRST 10000u
#define PORTS_BLOCK 16u /* more than a harness needs of a shard */

/* --- Brokers --- */

static void nobody(struct env_listener *listener, struct env_stream *stream)
{
    (void)listener;
    env_stream_close(stream, NULL, NULL);
}

static bool listens(struct harness *h, uint16_t port, struct env_listener **ret_listener)
{
    struct error err = {0};
    return port != 0 &&
           env_listen(h->env, "127.0.0.1", port, nobody, NULL, ret_listener, &err) == 0;
}

/* The blocks of all shards have one lock, which ends with the process at the latest: a port whose
 * broker is stopped for now must not look free to a test that runs beside this one. */
static bool lock_ports(struct harness *h, unsigned block)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    h->ports_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(h->ports_fd >= 0);
    (void)snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "weir-test-ports-%u", block);
    if (bind(h->ports_fd, (const struct sockaddr *)&name, sizeof(name)) == 0) {
        return true;
    }
    (void)close(h->ports_fd);
    return false;
}

/* Ports that are free, those of all shards too. */
static void find_ports(struct harness *h)
{
    struct env_listener *listeners[2 * HARNESS_NODES * SHARDS_MAX];
    unsigned n = 0, wanted = 2 * HARNESS_NODES * h->n_shards;
    uint16_t base = 0;
    for (unsigned tries = 0; n < wanted; tries++) {
        unsigned block = (unsigned)(env_random_u64(h->env) % (SHARD_PORT_STEP / PORTS_BLOCK));
        assert_true(tries < 1000);
        base = (uint16_t)(PORTS_FIRST + env_random_u64(h->env) % 10 * SHARD_PORT_STEP +
                          block * PORTS_BLOCK);
        if (!lock_ports(h, block)) {
            continue;
        }
        bool good = true;
        for (n = 0; good && n < wanted; n += good) {
            uint32_t port = base + n % (2 * HARNESS_NODES);
            good = listens(h, shard_port(port, n / (2 * HARNESS_NODES)), &listeners[n]);
        }
        for (unsigned i = 0; i < n; i++) {
            env_listener_close(listeners[i]);
        }
        (void)uv_run(&h->loop, UV_RUN_NOWAIT);
        if (n < wanted) {
            (void)close(h->ports_fd);
        }
    }
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        h->peer_port[i] = (uint16_t)(base + i);
        h->broker_port[i] = (uint16_t)(base + HARNESS_NODES + i);
    }
}

void harness_configure(struct harness *h, unsigned i, const char *extra)
{
    struct bytes text;
    struct error err = {0};
    bytes_init(&text, 16384);
    bytes_printf(&text,
                 "node.name = n%u\nnode.data = %s/n%u\nnode.roles = log\ncluster.secret = %s\n",
                 i + 1, h->dir, i + 1, HARNESS_SECRET);
    for (unsigned k = 0; k < HARNESS_NODES; k++) {
        uint16_t peer = h->peer_via[i][k] != 0 ? h->peer_via[i][k] : h->peer_port[k];
        bytes_printf(&text,
                     "cluster.node = n%u id=%u peer=127.0.0.1:%u broker=127.0.0.1:%u "
                     "http=127.0.0.1:%u rtmp=127.0.0.1:%u\n",
                     k + 1, k + 1, peer, h->broker_port[k], k + 1, k + 11);
    }
    bytes_printf(&text,
                 "log.topic = one partitions=1\nlog.topic = many partitions=4\n"
                 "log.segment_mib = 1\nlog.free_mib_min = 1\nlogging.level = error\n"
                 "log.shards = %u\n%s",
                 h->n_shards, extra);
    bytes_put_u8(&text, 0);
    assert_int_equal(bytes_error(&text), 0);
    free(h->config[i]);
    h->config[i] = calloc(1, sizeof(struct config));
    assert_non_null(h->config[i]);
    if (config_parse("test", (const char *)text.data, h->config[i], &err) != 0) {
        fail_msg("%s", err.text);
    }
    bytes_close(&text);
}

void harness_start_broker(struct harness *h, unsigned i)
{
    struct error err = {0};
    if (broker_start(h->config[i], &h->broker[i], &err) != 0) {
        fail_msg("broker %u: %s", i + 1, err.text);
    }
}

void harness_stop_broker(struct harness *h, unsigned i)
{
    broker_stop(h->broker[i]);
    h->broker[i] = NULL;
}

void harness_open(struct harness *h, const char *extra)
{
    const char *shards = getenv("WEIR_TEST_SHARDS");
    harness_open_shards(h, shards != NULL ? (unsigned)strtoul(shards, NULL, 10) : 1, extra);
}

void harness_open_shards(struct harness *h, unsigned n_shards, const char *extra)
{
    struct error err = {0};
    *h = (struct harness){.dir = "/tmp/weir-broker-XXXXXX", .n_shards = n_shards};
    log_set_level(getenv("WEIR_TEST_LOG") != NULL ? LOG_INFO : LOG_ERROR);
    assert_non_null(mkdtemp(h->dir));
    assert_int_equal(uv_loop_init(&h->loop), 0);
    assert_int_equal(env_uv_new(&h->loop, &h->env, &err), 0);
    assert_int_equal(env_timer_init(h->env, &h->deadline), 0);
    h->deadline.data = h;
    find_ports(h);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        harness_configure(h, i, extra);
        harness_start_broker(h, i);
    }
}

void harness_close(struct harness *h)
{
    char command[128];
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        if (h->broker[i] != NULL) {
            harness_stop_broker(h, i);
        }
        free(h->config[i]);
    }
    (void)close(h->ports_fd);
    env_timer_close(&h->deadline);
    env_uv_free(h->env);
    while (uv_loop_close(&h->loop) == UV_EBUSY) {
        (void)uv_run(&h->loop, UV_RUN_ONCE);
    }
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", h->dir);
    assert_int_equal(system(command), 0);
}

/* --- The loop --- */

static void on_deadline(struct env_timer *timer)
{
    struct harness *h = timer->data;
    h->timed_out = true;
}

void harness_run_until(struct harness *h, const bool *flag)
{
    h->timed_out = false;
    env_timer_start(&h->deadline, DEADLINE_US, on_deadline);
    while (!*flag && !h->timed_out) {
        (void)uv_run(&h->loop, UV_RUN_ONCE);
    }
    env_timer_stop(&h->deadline);
    assert_false(h->timed_out);
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

/* --- Clients --- */

struct weir_client *harness_client(struct harness *h, const struct weir_client_options *options)
{
    struct weir_client_options o = *options;
    char seeds[HARNESS_NODES][32];
    const char *list[HARNESS_NODES];
    struct weir_client *client = NULL;
    struct error err = {0};
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        (void)snprintf(seeds[i], sizeof(seeds[i]), "127.0.0.1:%u", h->broker_port[i]);
        list[i] = seeds[i];
    }
    o.seeds = list;
    o.n_seeds = HARNESS_NODES;
    o.secret = o.secret != NULL ? o.secret : HARNESS_SECRET;
    o.name = "test";
    assert_int_equal(weir_client_new(h->env, &o, &client, &err), 0);
    return client;
}

void harness_free_client(struct harness *h, struct weir_client *client)
{
    bool done = false;
    weir_client_free(client, set_flag, &done);
    harness_run_until(h, &done);
}

struct opening {
    bool done;
    struct error why;
};

static void on_ready(void *data, struct broker_link *link, const Weir__BrokerWelcome *welcome)
{
    struct opening *o = data;
    (void)link;
    (void)welcome;
    o->done = true;
}

static void on_closed(void *data, struct broker_link *link, const struct error *why)
{
    struct opening *o = data;
    (void)link;
    o->why = *why;
    o->done = true;
}

struct broker_link *harness_link(struct harness *h, unsigned i)
{
    return harness_link_shard(h, i, 0);
}

struct broker_link *harness_link_shard(struct harness *h, unsigned i, unsigned shard)
{
    static struct opening o;
    struct broker_link_events events = {.data = &o, .ready = on_ready, .closed = on_closed};
    struct broker_link *link = NULL;
    struct error err = {0};
    for (unsigned tries = 0; tries < LINK_TRIES; tries++) {
        o = (struct opening){0};
        assert_int_equal(broker_link_open(h->env, NULL, "127.0.0.1",
                                          shard_port(h->broker_port[i], shard), HARNESS_SECRET,
                                          "test", &events, &link, &err),
                         0);
        harness_run_until(h, &o.done);
        if (o.why.text[0] == '\0') {
            return link;
        }
    }
    fail_msg("broker %u: %s", i + 1, o.why.text);
    return NULL;
}

void harness_close_link(struct harness *h, struct broker_link *link)
{
    bool done = false;
    broker_link_close(link, set_flag, &done);
    harness_run_until(h, &done);
}

/* --- Questions --- */

struct question {
    struct broker_request req;
    struct answer *answer;
    bool done;
};

static void take_status(struct answer *a, const Weir__BrokerStatus *m)
{
    for (size_t i = 0; i < m->n_replicas; i++) {
        if (strcmp(m->replicas[i]->topic, "one") == 0) {
            (void)snprintf(a->failed, sizeof(a->failed), "%s", m->replicas[i]->failed);
            a->commit_index = m->replicas[i]->commit_index;
        }
    }
}

static void on_reply(struct broker_request *req, int status, const struct frame *reply,
                     const ProtobufCMessage *head)
{
    struct question *q = req->data;
    struct answer *a = q->answer;
    a->status = status;
    q->done = true;
    if (status != 0) {
        const Weir__BrokerError *e = (const Weir__BrokerError *)head;
        (void)snprintf(a->text, sizeof(a->text), "%s", e != NULL ? e->text : "");
        a->leader_id = e != NULL ? e->leader_id : 0;
        return;
    }
    bytes_put(&a->attachment, reply->attachment, reply->attachment_len);
    switch (reply->type) {
    case BROKER_PRODUCED:
        a->produced = *(const Weir__BrokerProduced *)head;
        break;
    case BROKER_FETCHED:
        a->fetched = *(const Weir__BrokerFetched *)head;
        break;
    case BROKER_OFFSETS:
        a->offsets = *(const Weir__BrokerOffsets *)head;
        break;
    case BROKER_HASH:
        memcpy(a->hash, ((const Weir__BrokerHash *)head)->hash.data, sizeof(a->hash));
        a->hash_last = ((const Weir__BrokerHash *)head)->last_index;
        break;
    case BROKER_STATUS:
        take_status(a, (const Weir__BrokerStatus *)head);
        break;
    default:
        break;
    }
}

void harness_ask(struct harness *h, struct broker_link *link, enum message_type type,
                 const ProtobufCMessage *head, const void *attachment, size_t len,
                 enum message_type expected, struct answer *ret_answer)
{
    struct question q = {.answer = ret_answer};
    bytes_close(&ret_answer->attachment);
    memset(ret_answer, 0, sizeof(*ret_answer));
    bytes_init(&ret_answer->attachment, 64u << 20);
    q.req.data = &q;
    assert_int_equal(
        broker_link_request(link, type, head, attachment, len, expected, &q.req, on_reply), 0);
    harness_run_until(h, &q.done);
}

unsigned harness_leader(struct harness *h)
{
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    static char topic[] = "one";
    struct answer a = {0};
    m.topic = topic;
    for (unsigned tries = 0;; tries++) {
        unsigned i = tries % HARNESS_NODES;
        if (h->broker[i] == NULL) {
            continue;
        }
        struct broker_link *link = harness_link(h, i);
        harness_ask(h, link, BROKER_OFFSETS_REQUEST, &m.base, NULL, 0, BROKER_OFFSETS, &a);
        bool leads = a.status == 0 && a.offsets.leader;
        harness_close_link(h, link);
        bytes_close(&a.attachment);
        if (leads) {
            return i;
        }
        assert_true(tries < 100000);
    }
}

void harness_until_founded(struct harness *h)
{
    Weir__ClusterDescribe m = WEIR__CLUSTER_DESCRIBE__INIT;
    struct answer a = {0};
    for (unsigned i = 0;; i++) {
        struct broker_link *link = harness_link(h, i % HARNESS_NODES);
        harness_ask(h, link, BROKER_CLUSTER_DESCRIBE, &m.base, NULL, 0, BROKER_CLUSTER, &a);
        harness_close_link(h, link);
        bytes_close(&a.attachment);
        if (a.status == 0) {
            return;
        }
    }
}

void harness_batch(struct bytes *out, unsigned n, size_t value_size)
{
    struct batch_builder b;
    uint8_t *value = calloc(1, value_size + 16);
    assert_non_null(value);
    batch_begin(&b, out, 1000);
    for (unsigned i = 0; i < n; i++) {
        int len = snprintf((char *)value, 16, "%u", i);
        batch_add(&b, 1000, NULL, 0, value, value_size > (size_t)len ? value_size : (size_t)len);
    }
    assert_true(batch_finish(&b) > 0);
    free(value);
}

unsigned harness_controller(struct harness *h)
{
    Weir__ClusterDescribe m = WEIR__CLUSTER_DESCRIBE__INIT;
    struct answer a = {0};
    for (unsigned i = 0;; i = (i + 1) % HARNESS_NODES) {
        if (h->broker[i] == NULL) {
            continue;
        }
        struct broker_link *link = harness_link(h, i);
        harness_ask(h, link, BROKER_CLUSTER_DESCRIBE, &m.base, NULL, 0, BROKER_CLUSTER, &a);
        harness_close_link(h, link);
        bytes_close(&a.attachment);
        if (a.status == 0) {
            return i;
        }
    }
}

struct produced {
    struct weir_produce req;
    bool done;
    int status;
};

static void on_produced(struct weir_produce *req, int status)
{
    struct produced *p = req->data;
    p->status = status;
    p->done = true;
}

int harness_produce(struct harness *h, struct weir_client *client, const char *topic,
                    uint32_t partition)
{
    struct produced p = {.req = {.data = &p}};
    int rv = weir_produce(client, topic, partition, NULL, 0, "value", 5, &p.req, on_produced);
    if (rv == 0) {
        harness_run_until(h, &p.done);
        rv = p.status;
    }
    return rv;
}
