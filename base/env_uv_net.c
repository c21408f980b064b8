#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_uv_priv.h"

#define LISTEN_BACKLOG 1024

struct listener {
    struct env_listener base;
    uv_tcp_t tcp;
    env_accept_cb cb;
    uv_tcp_t refused; /* a connection for which there was no memory, while it closes */
    bool refusing, another_waits;
    unsigned n_handles;
};

struct stream {
    struct env_stream base;
    uv_tcp_t tcp;
    uv_connect_t connect_req;
    uv_getaddrinfo_t resolve_req;
    uint16_t port; /* to connect to once the name is resolved */
    bool closing, closed, resolving;
    env_connect_cb connect_cb;
    env_read_cb read_cb;
    env_close_cb close_cb;
    void *close_data;
};

static_assert(sizeof(((struct env_send *)0)->impl) >= sizeof(uv_write_t),
              "a send request holds a libuv write request");

static struct stream *stream_of(struct env_stream *s)
{
    return container_of(s, struct stream, base);
}

static struct stream *stream_new(struct env *env)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    struct env_uv *e = env_uv_of(env);
    s->base.env = env;
    (void)uv_tcp_init(e->loop, &s->tcp); /* makes no socket yet: does not fail */
    s->tcp.data = s;
    e->n_handles++;
    return s;
}

/* Numeric addresses only; "" is every address. */
static int numeric_address(const char *host, uint16_t port, struct sockaddr_storage *ret_addr)
{
    *ret_addr = (struct sockaddr_storage){0};
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret_addr) == 0) {
        return 0;
    }
    return uv_ip6_addr(host[0] == '\0' ? "::" : host, port, (struct sockaddr_in6 *)ret_addr);
}

/* Of several addresses the first IPv4 one: names of one machine often have an IPv6 address on which
 * nobody listens. */
static const struct addrinfo *choose_address(const struct addrinfo *res)
{
    for (const struct addrinfo *a = res; a != NULL; a = a->ai_next) {
        if (a->ai_family == AF_INET) {
            return a;
        }
    }
    return res;
}

static void resolve_hints(uint16_t port, char service[8], struct addrinfo *ret_hints)
{
    (void)snprintf(service, 8, "%u", port);
    *ret_hints = (struct addrinfo){.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
}

/* A numeric address or, blocking, a name. */
static int local_address(struct env_uv *e, const char *host, uint16_t port,
                         struct sockaddr_storage *ret_addr)
{
    char service[8];
    struct addrinfo hints;
    uv_getaddrinfo_t req;
    if (numeric_address(host, port, ret_addr) == 0) {
        return 0;
    }
    resolve_hints(port, service, &hints);
    int rc = uv_getaddrinfo(e->loop, &req, NULL, host, service, &hints);
    if (rc == 0) {
        const struct addrinfo *a = choose_address(req.addrinfo);
        memcpy(ret_addr, a->ai_addr, a->ai_addrlen);
        uv_freeaddrinfo(req.addrinfo);
    }
    return rc;
}

static uint16_t port_of(const struct sockaddr_storage *addr)
{
    return addr->ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)(const void *)addr)->sin6_port)
               : ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port);
}

/* --- Listening --- */

static void listener_release(struct listener *l)
{
    env_uv_of(l->base.env)->n_handles--;
    if (--l->n_handles == 0) {
        free(l);
    }
}

static void on_listener_closed(uv_handle_t *handle)
{
    listener_release(handle->data);
}

static void name_peer(struct stream *s)
{
    struct sockaddr_storage addr;
    int len = sizeof(addr);
    char host[INET6_ADDRSTRLEN] = "?";
    if (uv_tcp_getpeername(&s->tcp, (struct sockaddr *)&addr, &len) != 0) {
        (void)snprintf(s->base.peer, sizeof(s->base.peer), "?");
        return;
    }
    if (addr.ss_family == AF_INET6) {
        (void)uv_ip6_name((const struct sockaddr_in6 *)(const void *)&addr, host, sizeof(host));
    } else {
        (void)uv_ip4_name((const struct sockaddr_in *)(const void *)&addr, host, sizeof(host));
    }
    /* An IPv4 client on a dual-stack socket. */
    const char *shown = strncmp(host, "::ffff:", 7) == 0 ? host + 7 : host;
    bool brackets = strchr(shown, ':') != NULL;
    (void)snprintf(s->base.peer, sizeof(s->base.peer), brackets ? "[%s]:%u" : "%s:%u", shown,
                   port_of(&addr));
}

static void accept_one(struct listener *l);

static void on_refused_closed(uv_handle_t *handle)
{
    struct listener *l = handle->data;
    bool again = l->another_waits && !uv_is_closing((uv_handle_t *)&l->tcp);
    l->refusing = l->another_waits = false;
    if (again) {
        accept_one(l);
    }
    listener_release(l);
}

/* libuv listens no more until a connection that it has accepted is taken. */
static void refuse(struct listener *l)
{
    if (l->refusing) {
        l->another_waits = true;
        return;
    }
    struct env_uv *e = env_uv_of(l->base.env);
    (void)uv_tcp_init(e->loop, &l->refused);
    l->refused.data = l;
    l->refusing = true;
    l->n_handles++;
    e->n_handles++;
    (void)uv_accept((uv_stream_t *)&l->tcp, (uv_stream_t *)&l->refused);
    uv_close((uv_handle_t *)&l->refused, on_refused_closed);
}

static void accept_one(struct listener *l)
{
    struct stream *s = stream_new(l->base.env);
    if (s == NULL) {
        refuse(l);
        return;
    }
    if (uv_accept((uv_stream_t *)&l->tcp, (uv_stream_t *)&s->tcp) != 0) {
        net_stream_close(&s->base, NULL, NULL);
        return;
    }
    (void)uv_tcp_nodelay(&s->tcp, 1);
    name_peer(s);
    l->cb(&l->base, &s->base);
}

static void on_connection(uv_stream_t *server, int status)
{
    if (status ==
        0) { /* else out of descriptors: the client waits in the backlog or sees a reset */
        accept_one(server->data);
    }
}

static int listener_bind(struct listener *l, const char *host, uint16_t port)
{
    struct sockaddr_storage addr;
    int rc = local_address(env_uv_of(l->base.env), host, port, &addr);
    if (rc == 0) {
        rc = uv_tcp_bind(&l->tcp, (struct sockaddr *)&addr, 0);
    }
    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&l->tcp, LISTEN_BACKLOG, on_connection);
    }
    if (rc == 0) {
        int len = sizeof(addr);
        rc = uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&addr, &len);
        l->base.port = port_of(&addr);
    }
    return rc;
}

int net_listen(struct env *env, const char *host, uint16_t port, env_accept_cb cb, void *data,
               struct env_listener **ret_listener, struct error *err)
{
    struct env_uv *e = env_uv_of(env);
    struct listener *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return error_set(err, WEIR_ENOMEM, "listen: out of memory");
    }
    l->base = (struct env_listener){.env = env, .data = data};
    l->cb = cb;
    (void)uv_tcp_init(e->loop, &l->tcp);
    l->tcp.data = l;
    l->n_handles = 1;
    e->n_handles++;
    int rc = listener_bind(l, host, port);
    if (rc == UV_EAFNOSUPPORT && host[0] == '\0') {
        rc = listener_bind(l, "0.0.0.0", port); /* a machine without IPv6 */
    }
    if (rc != 0) {
        uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
        return error_set(err, env_uv_status(rc), "listen on %s:%u: %s",
                         host[0] == '\0' ? "*" : host, port, uv_strerror(rc));
    }
    *ret_listener = &l->base;
    return 0;
}

void net_listener_close(struct env_listener *listener)
{
    struct listener *l = container_of(listener, struct listener, base);
    uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
}

/* --- Closing --- */

/* The stream goes when both libuv's handle and a name look-up are through with it. */
static void release(struct stream *s)
{
    if (!s->closed || s->resolving) {
        return;
    }
    env_uv_of(s->base.env)->n_handles--;
    env_close_cb cb = s->close_cb;
    void *data = s->close_data;
    free(s);
    if (cb != NULL) {
        cb(data);
    }
}

static void on_stream_closed(uv_handle_t *handle)
{
    struct stream *s = handle->data;
    s->closed = true;
    release(s);
}

void net_stream_close(struct env_stream *stream, env_close_cb cb, void *data)
{
    struct stream *s = stream_of(stream);
    assert(!s->closing);
    s->closing = true;
    s->close_cb = cb;
    s->close_data = data;
    if (s->resolving) {
        (void)uv_cancel((uv_req_t *)&s->resolve_req); /* too late: its callback comes anyway */
    }
    uv_close((uv_handle_t *)&s->tcp, on_stream_closed);
}

int net_detach_fd(struct env_stream *stream)
{
    struct stream *s = stream_of(stream);
    uv_os_fd_t fd = -1;
    assert(uv_stream_get_write_queue_size((uv_stream_t *)&s->tcp) == 0);
    /* libuv has no way to let go of a descriptor: it closes its own, ours is a duplicate. */
    int rc = uv_fileno((uv_handle_t *)&s->tcp, &fd);
    int copy = rc == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    net_stream_close(stream, NULL, NULL);
    return copy;
}

/* --- Connecting --- */

static void connected(struct stream *s, int status)
{
    if (s->closing) {
        return;
    }
    if (status == 0) {
        (void)uv_tcp_nodelay(&s->tcp, 1);
    }
    env_connect_cb cb = s->connect_cb;
    s->connect_cb = NULL;
    cb(&s->base, env_uv_status(status));
}

static void on_connect(uv_connect_t *req, int status)
{
    connected(req->data, status);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct stream *s = req->data;
    s->resolving = false;
    if (s->closing) {
        uv_freeaddrinfo(res);
        release(s);
        return;
    }
    int rc = status;
    if (rc == 0) {
        rc = uv_tcp_connect(&s->connect_req, &s->tcp, choose_address(res)->ai_addr, on_connect);
    }
    uv_freeaddrinfo(res);
    if (rc != 0) {
        connected(s, rc);
    }
}

static int resolve(struct stream *s, const char *host, uint16_t port)
{
    char service[8];
    struct addrinfo hints;
    resolve_hints(port, service, &hints);
    int rc = uv_getaddrinfo(env_uv_of(s->base.env)->loop, &s->resolve_req, on_resolved, host,
                            service, &hints);
    s->resolving = rc == 0;
    return rc;
}

int net_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb, void *data,
                struct env_stream **ret_stream, struct error *err)
{
    struct stream *s = stream_new(env);
    if (s == NULL) {
        return error_set(err, WEIR_ENOMEM, "connect: out of memory");
    }
    s->base.data = data;
    s->port = port;
    s->connect_cb = cb;
    s->connect_req.data = s->resolve_req.data = s;
    (void)snprintf(s->base.peer, sizeof(s->base.peer), "%s:%u", host, port);
    struct sockaddr_storage addr;
    int rc = numeric_address(host, port, &addr) == 0
                 ? uv_tcp_connect(&s->connect_req, &s->tcp, (struct sockaddr *)&addr, on_connect)
                 : resolve(s, host, port);
    if (rc != 0) {
        rc = error_set(err, env_uv_status(rc), "connect to %s:%u: %s", host, port, uv_strerror(rc));
        net_stream_close(&s->base, NULL, NULL);
        return rc;
    }
    *ret_stream = &s->base;
    return 0;
}

/* --- Reading --- */

/* One buffer for all streams: libuv asks for it and reads into it in one go, and the callback is
 * done with it on return. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct stream *s = handle->data;
    buf->base = (char *)env_uv_of(s->base.env)->read_buffer;
    buf->len = READ_BUFFER_SIZE;
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf)
{
    struct stream *s = uv->data;
    if (n == 0 || s->closing) {
        return;
    }
    if (n < 0) {
        (void)uv_read_stop(uv);
        s->read_cb(&s->base, NULL, 0, env_uv_status((int)n));
        return;
    }
    s->read_cb(&s->base, (const uint8_t *)buf->base, (size_t)n, 0);
}

void net_read_start(struct env_stream *stream, env_read_cb cb)
{
    struct stream *s = stream_of(stream);
    assert(cb != NULL);
    if (s->closing) {
        return;
    }
    s->read_cb = cb;
    int rc = uv_read_start((uv_stream_t *)&s->tcp, on_alloc, on_read);
    assert(rc == 0 || rc == UV_EALREADY);
    (void)rc;
}

void net_read_stop(struct env_stream *stream)
{
    (void)uv_read_stop((uv_stream_t *)&stream_of(stream)->tcp);
}

/* --- Writing --- */

static void on_write(uv_write_t *req, int status)
{
    struct env_send *send = req->data;
    send->cb(send, env_uv_status(status));
}

/* A send that libuv refused: for want of memory, or on a stream that is closing. */
struct failed_send {
    struct env_defer defer;
    struct env_send *send;
    int status;
};
static_assert(sizeof(((struct env_send *)0)->impl) >= sizeof(struct failed_send), "see above");

static void fail_send(struct env_defer *defer)
{
    struct failed_send *failed = container_of(defer, struct failed_send, defer);
    failed->send->cb(failed->send, failed->status);
}

/* uv_write copies the array (not the bytes) and writes at once what it can when nothing is queued;
 * its callback always comes from the loop. */
void net_send(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
              unsigned n_iov)
{
    struct stream *s = stream_of(stream);
    uv_write_t *req = (uv_write_t *)(void *)send->impl;
    uv_buf_t bufs[1024];
    for (unsigned i = 0; i < n_iov; i++) {
        bufs[i] = uv_buf_init(iov[i].iov_base, (unsigned)iov[i].iov_len);
    }
    req->data = send;
    int rc =
        s->closing ? UV_ECANCELED : uv_write(req, (uv_stream_t *)&s->tcp, bufs, n_iov, on_write);
    if (rc != 0) {
        /* The request's own memory carries the deferred failure. */
        struct failed_send *failed = (struct failed_send *)(void *)send->impl;
        *failed = (struct failed_send){.send = send, .status = env_uv_status(rc)};
        env_defer(s->base.env, &failed->defer, fail_send);
    }
}

ssize_t net_try_send(struct env_stream *stream, const struct iovec *iov, unsigned n_iov)
{
    struct stream *s = stream_of(stream);
    uv_buf_t bufs[64];
    unsigned n = n_iov < 64 ? n_iov : 64;
    if (s->closing) {
        return WEIR_ECLOSED;
    }
    for (unsigned i = 0; i < n; i++) {
        bufs[i] = uv_buf_init(iov[i].iov_base, (unsigned)iov[i].iov_len);
    }
    int rc = uv_try_write((uv_stream_t *)&s->tcp, bufs, n);
    if (rc == UV_EAGAIN) {
        return 0;
    }
    return rc >= 0 ? rc : env_uv_status(rc);
}

size_t net_queued_bytes(const struct env_stream *stream)
{
    const struct stream *s = (const struct stream *)(const void *)stream; /* base is first */
    return uv_stream_get_write_queue_size((const uv_stream_t *)&s->tcp);
}
