#include "net/ws_client.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIAL_TIMEOUT_MS 10000
#define CONTROL_MAX     125

enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct ws_client {
    struct env *env;
    struct ws_client_events events;
    struct http_call *call;    /* while dialling */
    struct env_stream *stream; /* once open */
    struct bytes in;           /* read and not yet taken */
    struct bytes message;      /* fragments */
    bool *gone;                /* of who calls back: told when it is freed there */
};

/* One frame on its way; frees itself. */
struct frame_out {
    struct env_send send;
    size_t n;
    uint8_t data[];
};

static void client_free(struct ws_client *c)
{
    if (c->gone != NULL) {
        *c->gone = true;
    }
    bytes_close(&c->in);
    bytes_close(&c->message);
    free(c);
}

static void client_end(struct ws_client *c, int status)
{
    struct ws_client_events events = c->events;
    if (c->stream != NULL) {
        env_stream_close(c->stream, NULL, NULL);
        c->stream = NULL;
    }
    events.closed(events.data, c, status);
    client_free(c);
}

static void on_sent(struct env_send *send, int status)
{
    (void)status; /* a broken connection is seen by the reader */
    free(send->data);
}

static int send_frame(struct ws_client *c, uint8_t opcode, const void *payload, size_t n)
{
    struct frame_out *out = malloc(sizeof(*out) + 14 + n);
    uint8_t mask[4];
    if (out == NULL) {
        return WEIR_ENOMEM;
    }
    uint8_t *p = out->data;
    *p++ = 0x80 | opcode;
    if (n < 126) {
        *p++ = (uint8_t)(0x80 | n);
    } else if (n < 65536) {
        *p++ = 0x80 | 126;
        store_be16(p, (uint16_t)n);
        p += 2;
    } else {
        *p++ = 0x80 | 127;
        store_be64(p, n);
        p += 8;
    }
    env_random(c->env, mask, sizeof(mask));
    memcpy(p, mask, sizeof(mask));
    p += sizeof(mask);
    for (size_t i = 0; i < n; i++) {
        p[i] = ((const uint8_t *)payload)[i] ^ mask[i & 3];
    }
    out->n = (size_t)(p + n - out->data);
    out->send.data = out;
    struct iovec iov = {.iov_base = out->data, .iov_len = out->n};
    env_stream_send(c->stream, &out->send, &iov, 1, on_sent);
    return 0;
}

int ws_client_send(struct ws_client *c, const char *text, size_t n)
{
    return send_frame(c, OP_TEXT, text, n);
}

/* False: the connection has ended, and the client is gone. */
static bool on_data_frame(struct ws_client *c, bool last, const uint8_t *payload, size_t n)
{
    bytes_put(&c->message, payload, n);
    bytes_put_u8(&c->message, 0);
    if (bytes_error(&c->message) != 0) {
        client_end(c, bytes_error(&c->message));
        return false;
    }
    c->message.len--;
    if (!last) {
        return true;
    }
    struct bytes whole = c->message;
    bool *gone = c->gone;
    bytes_init(&c->message, WS_CLIENT_MESSAGE_MAX);
    c->events.message(c->events.data, c, (const char *)whole.data, whole.len);
    bytes_close(&whole);
    return !*gone;
}

static bool on_frame(struct ws_client *c, uint8_t first, const uint8_t *payload, size_t n)
{
    uint8_t opcode = first & 0x0f;
    switch (opcode) {
    case OP_CONTINUATION:
    case OP_TEXT:
    case OP_BINARY:
        return on_data_frame(c, (first & 0x80) != 0, payload, n);
    case OP_PING:
        (void)send_frame(c, OP_PONG, payload, n < CONTROL_MAX ? n : CONTROL_MAX);
        return true;
    case OP_PONG:
        return true;
    case OP_CLOSE:
        (void)send_frame(c, OP_CLOSE, payload, n < 2 ? 0 : 2);
        client_end(c, 0);
        return false;
    default:
        client_end(c, WEIR_EPROTO);
        return false;
    }
}

int64_t ws_client_frame(const uint8_t *p, size_t have, size_t *ret_n)
{
    size_t head = 2;
    uint64_t n = have >= 2 ? p[1] & 0x7f : 0;
    if (have < 2) {
        return 0;
    }
    if ((p[0] & 0x70) != 0 || (p[1] & 0x80) != 0) {
        return WEIR_EPROTO;
    }
    if (n == 126) {
        head = 4;
        n = have >= 4 ? load_be16(p + 2) : 0;
    } else if (n == 127) {
        head = 10;
        n = have >= 10 ? load_be64(p + 2) : 0;
    }
    if (n > WS_CLIENT_MESSAGE_MAX) {
        return WEIR_ETOOBIG;
    }
    if (have < head || have - head < n) {
        return 0;
    }
    *ret_n = (size_t)n;
    return (int64_t)(head + n);
}

/* Every whole frame in `in`. */
static void read_frames(struct ws_client *c)
{
    size_t at = 0, len = 0;
    int64_t size;
    while ((size = ws_client_frame(c->in.data + at, c->in.len - at, &len)) > 0) {
        const uint8_t *frame = c->in.data + at;
        at += (size_t)size;
        if (!on_frame(c, frame[0], frame + (size_t)size - len, len)) {
            return;
        }
    }
    if (size < 0) {
        client_end(c, (int)size);
        return;
    }
    bytes_consume(&c->in, at);
}

static void client_feed(struct ws_client *c, const uint8_t *data, size_t n)
{
    bytes_put(&c->in, data, n);
    if (bytes_error(&c->in) != 0) {
        client_end(c, bytes_error(&c->in));
        return;
    }
    bool gone = false;
    /* cppcheck-suppress autoVariables ; taken back below, or gone with it */
    c->gone = &gone;
    read_frames(c);
    if (!gone) {
        c->gone = NULL;
    }
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct ws_client *c = env_stream_data(stream);
    if (status < 0) {
        client_end(c, status);
    } else {
        client_feed(c, data, n);
    }
}

static void on_dialled(void *data, int status, struct env_stream *stream, const uint8_t *early,
                       size_t n)
{
    struct ws_client *c = data;
    c->call = NULL;
    if (stream == NULL) {
        client_end(c, status);
        return;
    }
    c->stream = stream;
    env_stream_set_data(stream, c);
    bool gone = false;
    c->gone = &gone;
    c->events.opened(c->events.data, c);
    if (gone) {
        return;
    }
    c->gone = NULL;
    env_stream_read_start(stream, on_read);
    client_feed(c, early, n);
}

/* 16 random bytes in base64. */
static void make_key(struct env *env, char out[25])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t raw[18] = {0};
    env_random(env, raw, 16);
    for (unsigned i = 0; i < 6; i++) {
        uint32_t v = (uint32_t)raw[3 * i] << 16 | (uint32_t)raw[3 * i + 1] << 8 | raw[3 * i + 2];
        for (unsigned k = 0; k < 4; k++) {
            out[4 * i + k] = digits[v >> (18 - 6 * k) & 63];
        }
    }
    out[22] = '=';
    out[23] = '=';
    out[24] = '\0';
}

int ws_client_dial(struct http_client *http, const char *host, uint16_t port, const char *path,
                   const char *protocol, const struct ws_client_events *events,
                   struct ws_client **ret_client, struct error *err)
{
    struct ws_client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "websocket: out of memory");
    }
    c->env = http_client_env(http);
    c->events = *events;
    bytes_init(&c->in, WS_CLIENT_MESSAGE_MAX + (1u << 20));
    bytes_init(&c->message, WS_CLIENT_MESSAGE_MAX);
    char key[25], headers[256];
    make_key(c->env, key);
    (void)snprintf(headers, sizeof(headers),
                   "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Protocol: %.100s\r\n",
                   key, protocol);
    const struct http_call_options options = {
        .method = "GET",
        .host = host,
        .port = port,
        .path = path,
        .headers = headers,
        .timeout_ms = DIAL_TIMEOUT_MS,
        .response_max = 4096,
    };
    int rv = http_dial_upgrade(http, &options, "websocket", on_dialled, c, &c->call, err);
    if (rv < 0) {
        client_free(c);
        return rv;
    }
    *ret_client = c;
    return 0;
}

void ws_client_free(struct ws_client *c)
{
    if (c->call != NULL) {
        http_call_cancel(c->call);
    }
    if (c->stream != NULL) {
        env_stream_close(c->stream, NULL, NULL);
        c->stream = NULL;
    }
    client_free(c);
}
