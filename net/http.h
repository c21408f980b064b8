/* HTTP/1.1 server and client on env sockets. Loop thread only.
 *
 * Server: keep-alive and pipelining; requests bounded (line 8 KiB, headers 16 KiB and 64 fields,
 * body by route); slow or silent clients are closed by timeouts. A handler answers at once or keeps
 * the exchange and answers later (blocking playlist reload): an exchange that waits costs only its
 * own struct. Bad requests get 400/405/413/431/505 and a line of text that says what was wrong. */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "base/bytes.h"
#include "base/env.h"

struct http_server;
struct http_exchange;

/* Refcounted immutable bytes: one body in memory served to any number of clients. The count is not
 * atomic: one loop. */
struct http_body {
    unsigned refs;
    size_t len;
    uint8_t *data;                           /* malloc'd, freed with the body */
    void (*free_cb)(struct http_body *body); /* NULL: free(data), free(body) */
};
struct http_body *
http_body_new(uint8_t *data,
              size_t len); /* takes data; refs = 1; NULL out of memory (data is freed) */
struct http_body *http_body_copy(const void *data, size_t len);
struct http_body *http_body_ref(struct http_body *body);
void http_body_unref(struct http_body *body); /* NULL is fine */

typedef void (*http_handler)(void *data, struct http_exchange *ex);

struct http_route {
    const char *method; /* "GET" (also answers HEAD), "POST", "PUT", "DELETE" */
    /* Exact ('*' between slashes stands for any one name), or a prefix when it ends in '/' and
     * `prefix` is set; the longest match wins. */
    const char *path;
    bool prefix;
    size_t body_max; /* bytes; more is 413 */
    http_handler handler;
    void *data;
    /* Asked when only the head is there, before memory goes into a body; may be NULL. False: it has
     * answered. */
    bool (*admit)(void *data, struct http_exchange *ex);
};

/* -EADDRINUSE names the address. */
int http_server_new(struct env *env, const char *host, uint16_t port,
                    struct http_server **ret_server, struct error *err);
/* The same over other sockets than env's own: those of net/tls.h. */
int http_server_new_over(struct env *env, struct env *sockets, const char *host, uint16_t port,
                         struct http_server **ret_server, struct error *err);
uint16_t http_server_port(const struct http_server *server);
/* Routes may be added until the loop runs. Strings are copied. WEIR_EEXISTS, WEIR_ENOMEM. */
int http_server_route(struct http_server *server, const struct http_route *route);
/* From now on every request is answered with 503, and no handler runs any more: what routes point
 * to may go. Requests that handlers have are theirs to answer. */
void http_server_drain(struct http_server *server);
void http_server_close(struct http_server *server, void (*cb)(void *data), void *data);

/* --- The request; pointers live as long as the exchange
 * ------------------------------------------------------------ */
const char *http_method(const struct http_exchange *ex);
const char *http_path(
    const struct http_exchange *ex); /* percent-decoded, normalised, begins with '/', no ".." */
/* Decoded value of a query parameter; NULL when absent, "" when empty. */
const char *http_query(struct http_exchange *ex, const char *name);
const char *http_header(const struct http_exchange *ex,
                        const char *name); /* case-insensitive; NULL when absent */
const uint8_t *http_request_body(const struct http_exchange *ex, size_t *ret_len);
const char *http_peer(const struct http_exchange *ex);
struct env *http_env(const struct http_exchange *ex);

/* --- The answer: exactly one of these per exchange; it is gone afterwards
 * ------------------------------------------- */
/* `headers` is "" or whole lines "Name: value\r\n..." without Content-Length, Date and Connection.
 * The body reference is taken (may be NULL: empty). */
void http_respond(struct http_exchange *ex, int status, const char *content_type,
                  const char *headers, struct http_body *body);
/* text/plain from a format; for errors too. */
void http_respond_text(struct http_exchange *ex, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* application/json from a string, copied. */
void http_respond_json(struct http_exchange *ex, int status, const char *json);
/* 101: hands over the connection with bytes already read behind the request (valid during the call
 * only). `headers` as above. */
typedef void (*http_upgrade_cb)(void *data, struct env_stream *stream, const uint8_t *early,
                                size_t n_early);
void http_upgrade(struct http_exchange *ex, const char *headers, http_upgrade_cb cb, void *data);
/* Hands over the connection with the raw bytes of the request head in front, and answers nothing:
 * for libwebsockets. */
void http_hand_over(struct http_exchange *ex, http_upgrade_cb cb, void *data);

/* While waiting: called when the client goes away; the exchange is gone after it and must not be
 * answered. */
void http_on_abort(struct http_exchange *ex, void (*cb)(void *data, struct http_exchange *ex),
                   void *data);

/* --- Client
 * --------------------------------------------------------------------------------------------------------
 */
struct http_client; /* keeps idle connections per host:port, bounded */
int http_client_new(struct env *env, struct http_client **ret_client, struct error *err);
/* The same over other sockets than env's own: those of net/tls.h. */
int http_client_new_over(struct env *env, struct env *sockets, struct http_client **ret_client,
                         struct error *err);
struct env *http_client_env(const struct http_client *client);
void http_client_free(struct http_client *client); /* open calls complete with WEIR_ECLOSED */

struct http_call;
/* status: negative (WEIR_ETIMEOUT, -ECONNREFUSED, WEIR_EPROTO...) or the HTTP status. Body is
 * borrowed: take a reference to keep it. */
typedef void (*http_call_cb)(void *data, int status, struct http_body *body);
struct http_call_options {
    const char *method, *host;
    uint16_t port;
    const char *path;       /* with query, percent-encoded */
    const char *headers;    /* "" or whole lines */
    struct http_body *body; /* a reference is taken; may be NULL */
    uint32_t timeout_ms;
    size_t response_max; /* bytes */
};
int http_call(struct http_client *client, const struct http_call_options *options, http_call_cb cb,
              void *data, struct http_call **ret_call, struct error *err);
void http_call_cancel(struct http_call *call); /* cb does not run */
/* A GET with `Upgrade: protocol`: on 101 cb gets the stream (status 101), else the status or an
 * error and NULL. */
typedef void (*http_dial_cb)(void *data, int status, struct env_stream *stream,
                             const uint8_t *early, size_t n_early);
int http_dial_upgrade(struct http_client *client, const struct http_call_options *options,
                      const char *protocol, http_dial_cb cb, void *data,
                      struct http_call **ret_call, struct error *err);

#endif
