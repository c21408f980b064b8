/* A WebSocket client of text messages (RFC 6455) on env sockets: for the command line, tests and
 * benchmarks. No extensions. Loop thread only.
 *
 * The answer's Sec-WebSocket-Accept is not checked: it guards against caches between the two, not
 * against the server. */
#ifndef NET_WS_CLIENT_H
#define NET_WS_CLIENT_H

#include "net/http.h"

#define WS_CLIENT_MESSAGE_MAX (4u << 20) /* bytes; a larger one ends the connection */

struct ws_client;
struct ws_client_events {
    void *data;
    void (*opened)(void *data, struct ws_client *c);
    /* A whole message, borrowed and ended by NUL (not counted in n). */
    void (*message)(void *data, struct ws_client *c, const char *text, size_t n);
    /* Once, last: the connection is gone, and `c` with it. `status`: 0 after the server's close
     * frame, an HTTP status that is not 101, or a negative code. */
    void (*closed)(void *data, struct ws_client *c, int status);
};
/* `events` is copied. Failures of dialling come with `closed`. */
int ws_client_dial(struct http_client *http, const char *host, uint16_t port, const char *path,
                   const char *protocol, const struct ws_client_events *events,
                   struct ws_client **ret_client, struct error *err);
/* Not before `opened`. WEIR_ENOMEM. */
int ws_client_send(struct ws_client *c, const char *text, size_t n);
/* `closed` does not run; the client is gone. */
void ws_client_free(struct ws_client *c);

/* The frame of a server at p, of which `have` bytes are there. > 0: its size, the payload being its
 * last *ret_n bytes; 0: more is needed; negative: not a frame of a server (WEIR_EPROTO), or too big
 * (WEIR_ETOOBIG). */
int64_t ws_client_frame(const uint8_t *p, size_t have, size_t *ret_n);

#endif
