#include "proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pair {
    struct list link;
    struct proxy *proxy;
    struct env_stream *client, *broker;
    bool connected;
    uint8_t *early; /* what came before the broker's side was there */
    size_t early_len;
};

struct chunk {
    struct env_send send;
    uint8_t data[];
};

static void on_sent(struct env_send *send, int status)
{
    (void)status;
    free(send->data);
}

static void forward(struct env_stream *to, const uint8_t *data, size_t n)
{
    struct chunk *chunk = malloc(sizeof(*chunk) + n);
    assert_non_null(chunk);
    memcpy(chunk->data, data, n);
    chunk->send.data = chunk;
    struct iovec iov = {chunk->data, n};
    env_stream_send(to, &chunk->send, &iov, 1, on_sent);
}

static void pair_close(struct pair *pair)
{
    list_remove(&pair->link);
    env_stream_close(pair->client, NULL, NULL);
    env_stream_close(pair->broker, NULL, NULL);
    free(pair->early);
    free(pair);
}

void proxy_cut(struct proxy *p)
{
    p->cut_after = 0;
    p->swallow = false;
    p->n_cut++;
    while (!list_empty(&p->pairs)) {
        pair_close(list_entry(p->pairs.next, struct pair, link));
    }
}

static void on_client_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct pair *pair = env_stream_data(stream);
    struct proxy *p = pair->proxy;
    if (status != 0) {
        pair_close(pair);
        p->swallow = false; /* the client has noticed */
        p->cut_after = 0;
        return;
    }
    if (!pair->connected) {
        pair->early = realloc(pair->early, pair->early_len + n);
        assert_non_null(pair->early);
        memcpy(pair->early + pair->early_len, data, n);
        pair->early_len += n;
        return;
    }
    bool cut = p->cut_after != 0 && n >= p->cut_after;
    forward(pair->broker, data, cut ? p->cut_after : n);
    if (cut) {
        proxy_cut(p);
    } else if (p->cut_after != 0) {
        p->cut_after -= n;
    }
}

static void on_broker_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct pair *pair = env_stream_data(stream);
    if (status != 0) {
        pair_close(pair);
    } else if (!pair->proxy->swallow) {
        forward(pair->client, data, n);
    }
}

static void on_connected(struct env_stream *stream, int status)
{
    struct pair *pair = env_stream_data(stream);
    if (status != 0) {
        pair_close(pair);
        return;
    }
    pair->connected = true;
    if (pair->early_len > 0) {
        forward(pair->broker, pair->early, pair->early_len);
    }
    env_stream_read_start(stream, on_broker_read);
}

static void on_accept(struct env_listener *listener, struct env_stream *stream)
{
    struct proxy *p = env_listener_data(listener);
    struct pair *pair = calloc(1, sizeof(*pair));
    struct error err;
    assert_non_null(pair);
    if (p->shut) {
        free(pair);
        env_stream_close(stream, NULL, NULL);
        return;
    }
    pair->proxy = p;
    pair->client = stream;
    list_push_back(&p->pairs, &pair->link);
    env_stream_set_data(stream, pair);
    assert_int_equal(
        env_connect(p->env, "127.0.0.1", p->to, on_connected, pair, &pair->broker, &err), 0);
    env_stream_read_start(stream, on_client_read);
}

void proxy_open(struct proxy *p, struct env *env, uint16_t to)
{
    struct error err;
    *p = (struct proxy){.env = env, .to = to};
    list_init(&p->pairs);
    assert_int_equal(env_listen(env, "127.0.0.1", 0, on_accept, p, &p->listener, &err), 0);
    p->port = env_listener_port(p->listener);
}

void proxy_close(struct proxy *p)
{
    proxy_cut(p);
    env_listener_close(p->listener);
}
