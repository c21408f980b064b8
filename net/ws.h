/* WebSocket server connections through libwebsockets on the env's libuv loop (docs: NET facts in
 * docs/chat.md). Connections come from the HTTP server by hand-over, so a node has one public port.
 * libwebsockets does the handshake, ping/pong, close and reading; writing is raw: the caller hands
 * over ready-made server frames (RFC 6455 section 5.2, unmasked). Loop thread only. */
#ifndef NET_WS_H
#define NET_WS_H

#include "base/env.h"

struct ws_server;
struct ws_conn;

struct ws_events {
    void *data;
    size_t user_size; /* bytes of zeroed user memory per connection: ws_user */
    /* After the handshake. `protocol` is the accepted subprotocol or "". Non-zero closes. */
    int (*opened)(void *data, struct ws_conn *c, const char *protocol);
    /* A whole text (or binary) message of at most message_max bytes. */
    void (*message)(void *data, struct ws_conn *c, const uint8_t *text, size_t n, bool binary);
    /* The socket takes bytes again after ws_send_raw left some behind and ws_want_write was called.
     */
    void (*writable)(void *data, struct ws_conn *c);
    void (*closed)(void *data, struct ws_conn *c);
};
struct ws_options {
    const char *const
        *protocols; /* accepted Sec-WebSocket-Protocol values; the client's first match is echoed */
    unsigned n_protocols;
    size_t message_max;
    uint32_t ping_interval_ms; /* no pong within two intervals: closed */
    uint32_t connections_max;
};
int ws_server_new(struct env *env, const struct ws_options *options, const struct ws_events *events,
                  struct ws_server **ret_server, struct error *err);
void ws_server_close(struct ws_server *server, void (*cb)(void *data), void *data);
/* Takes the stream with the bytes of the request read so far; on failure it is closed. WEIR_EBUSY:
 * connections_max. */
int ws_server_adopt(struct ws_server *server, struct env_stream *stream, const uint8_t *head,
                    size_t n, struct error *err);

/* Open connections. */
unsigned ws_server_count(const struct ws_server *server);
/* NULL: these fields of a GET make a WebSocket handshake that libwebsockets will take (RFC 6455
 * section 4.2.1); else what is wrong with them. Values may be NULL: absent. Ask before handing
 * over: libwebsockets only hangs up. */
const char *ws_handshake_error(const char *upgrade, const char *key, const char *version);
/* Is `protocol` in the list that the client offers? */
bool ws_protocol_offered(const char *offer, const char *protocol);

void *ws_user(struct ws_conn *c);
/* True while nothing may be written: closing, or an earlier write is still partly buffered. */
bool ws_blocked(const struct ws_conn *c);
/* Writes whole frames as they are; false: the connection failed and will be closed. Call only when
 * not blocked. */
bool ws_send_raw(struct ws_conn *c, const void *frames, size_t n);
void ws_want_write(struct ws_conn *c);
void ws_close(struct ws_conn *c, uint16_t code, const char *reason);
/* Header of a server text frame with n payload bytes; returns its size (2, 4 or 10). */
size_t ws_frame_header(uint8_t out[10], uint64_t n, bool text);

#endif
