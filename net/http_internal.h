/* What the files of the HTTP server share; nobody else includes this.
 *
 * A connection reads one request at a time: HEAD -> BODY -> HANDLER (the exchange is with its
 * handler) -> HEAD. Requests behind it wait in `in`, so answers keep their order. A response is one
 * `struct http_reply`, alive until the socket has taken it. */
#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include "base/list.h"
#include "net/http.h"
#include "net/http_parse.h"

enum conn_state {
    CONN_HEAD,
    CONN_BODY,
    CONN_HANDLER,
    CONN_LINGER, /* answered with an error in the middle of a request: read on a little, so that the
                    answer is not lost to a reset */
    CONN_GONE,
};

/* What a connection can be late with; each class is a queue in order of `since`. */
enum conn_wait { WAIT_HEAD, WAIT_IDLE, WAIT_BODY, WAIT_SEND, WAIT_LINGER, WAIT_CLASSES, WAIT_NONE };

struct route {
    struct http_route r;
    size_t path_len;
};

struct http_conn {
    struct http_server *server;
    struct env_stream *stream; /* NULL when closed or handed over */
    struct http_exchange *ex;
    struct bytes in; /* read; the first `taken` bytes are done with */
    size_t taken, scan;
    uint64_t body_left;
    struct http_chunks chunks;
    uint8_t state, wait;
    bool running, paused, eof, close_after, handed_over;
    unsigned n_replies;
    uint32_t since;  /* tick */
    size_t progress; /* WAIT_BODY: bytes since then; WAIT_SEND: bytes queued then */
    struct list all, due;
};

struct http_server {
    struct env *env;
    struct env_listener *listener;
    struct route *routes;
    unsigned n_routes;
    unsigned n_conns;
    uint32_t tick; /* seconds of timer, not of clock */
    struct list conns, due[WAIT_CLASSES];
    struct env_timer timer;
    bool ticking, draining, closing;
    struct env_defer finish;
    void (*close_cb)(void *data);
    void *close_data;
    int64_t date_s;
    char date[32];
};

struct http_exchange {
    struct http_conn *conn; /* NULL: the client went away and nobody asked to be told */
    struct env *env;
    const struct http_route *route;
    void (*abort_cb)(void *data, struct http_exchange *ex);
    void *abort_data;
    struct bytes body;
    char *query; /* name NUL value NUL ..., made when first asked for */
    size_t query_len;
    uint8_t *raw; /* of a request with Upgrade: its head as it came */
    size_t raw_len;
    struct http_head head;
    char text[];
};

/* One response on its way out. */
struct http_reply {
    struct env_send send;
    struct http_conn *conn; /* NULL after a hand-over */
    struct http_body *body;
    size_t head_len;
    char head[];
};

void exchange_free(struct http_exchange *ex);
/* Sends a reply whose head is filled; takes it. `conn` may be NULL: the reply belongs to no
 * connection any more. */
void reply_send(struct http_reply *reply, struct env_stream *stream, struct http_conn *conn);
/* Answers a request that never became an exchange, and ends the connection. */
void conn_refuse(struct http_conn *conn, int status, const char *text);
/* Goes on with what has been read. */
void conn_run(struct http_conn *conn);
void conn_close(struct http_conn *conn);
/* Lets go of the stream, which someone else has now. */
void conn_hand_over(struct http_conn *conn);
const char *server_date(struct http_server *server);

#endif
