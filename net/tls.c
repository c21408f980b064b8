#include "net/tls.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_ops.h"
#include "base/logging.h"

#define PLAIN_BYTES 16384u /* one TLS record */
#define COMPLAIN_NS 1000000000ull

struct tls_net {
    struct env base;
    struct env *inner;
    SSL_CTX *ctx;
    char *ca, *cert, *key; /* paths */
    uint64_t complained_ns;
    uint8_t in[PLAIN_BYTES], out[PLAIN_BYTES];
};

struct listener {
    struct env_listener base;
    struct env_listener *inner;
    env_accept_cb cb;
    struct list handshakes; /* struct stream.link */
    unsigned n_handshakes;
};

struct stream {
    struct env_stream base;
    struct env_stream *inner;
    SSL *ssl;
    BIO *from_peer, *to_peer;  /* the SSL's */
    struct listener *listener; /* accepted, the handshake is not over */
    struct list link;
    struct env_timer timer; /* of the handshake */
    env_connect_cb connect_cb;
    env_read_cb read_cb;
    struct env_defer more; /* decrypted data wait for a reader */
    bool open, reading, ended, closing;
    env_close_cb close_cb;
    void *close_data;
};

/* Encrypted bytes on their way; the user's request is completed with them. */
struct write {
    struct env_send send;
    struct env_send *user; /* NULL: of the handshake */
    uint8_t data[];
};

struct failed_send {
    struct env_defer defer;
    struct env_send *send;
};
static_assert(sizeof(((struct env_send *)0)->impl) >= sizeof(struct failed_send), "see send_fail");

static struct tls_net *net_of(struct env *env)
{
    return container_of(env, struct tls_net, base);
}

static struct stream *stream_of(const struct env_stream *s)
{
    return container_of((struct env_stream *)(uintptr_t)s, struct stream, base);
}

/* The newest of OpenSSL's errors, and none left behind. */
static const char *ssl_error_text(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return text != NULL ? text : "unknown reason";
}

/* --- Streams --- */

static void stream_free(struct stream *s)
{
    env_timer_close(&s->timer);
    env_defer_cancel(&s->more);
    SSL_free(s->ssl);
    free(s);
}

static void on_inner_closed(void *data)
{
    struct stream *s = data;
    env_close_cb cb = s->close_cb;
    void *cb_data = s->close_data;
    stream_free(s);
    if (cb != NULL) {
        cb(cb_data);
    }
}

static void leave_listener(struct stream *s)
{
    if (s->listener != NULL) {
        list_remove(&s->link);
        s->listener->n_handshakes--;
        s->listener = NULL;
    }
}

static void tls_stream_close(struct env_stream *stream, env_close_cb cb, void *data)
{
    struct stream *s = stream_of(stream);
    assert(!s->closing);
    s->closing = true;
    s->close_cb = cb;
    s->close_data = data;
    leave_listener(s);
    env_timer_stop(&s->timer);
    env_defer_cancel(&s->more);
    env_stream_close(s->inner, on_inner_closed, s);
}

static struct stream *stream_new(struct tls_net *net)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (s == NULL || env_timer_init(net->inner, &s->timer) != 0) {
        free(s);
        return NULL;
    }
    s->base.env = &net->base;
    s->timer.data = s->more.data = s;
    s->ssl = SSL_new(net->ctx);
    s->from_peer = BIO_new(BIO_s_mem());
    s->to_peer = BIO_new(BIO_s_mem());
    if (s->ssl == NULL || s->from_peer == NULL || s->to_peer == NULL) {
        BIO_free(s->from_peer);
        BIO_free(s->to_peer);
        stream_free(s);
        return NULL;
    }
    (void)BIO_set_mem_eof_return(s->from_peer, -1);
    SSL_set_bio(s->ssl, s->from_peer, s->to_peer);
    return s;
}

/* --- Writing --- */

static void on_write(struct env_send *send, int status)
{
    struct write *w = container_of(send, struct write, send);
    struct env_send *user = w->user;
    free(w);
    if (user != NULL) {
        user->cb(user, status);
    }
}

/* Sends what OpenSSL has made. */
static int flush(struct stream *s, struct env_send *user)
{
    size_t n = BIO_ctrl_pending(s->to_peer), got = 0;
    if (n == 0 && user == NULL) {
        return 0;
    }
    struct write *w = malloc(sizeof(*w) + n);
    if (w == NULL || (n > 0 && BIO_read_ex(s->to_peer, w->data, n, &got) != 1) || got != n) {
        free(w);
        return WEIR_ENOMEM;
    }
    *w = (struct write){.user = user};
    struct iovec iov = {.iov_base = w->data, .iov_len = n};
    env_stream_send(s->inner, &w->send, &iov, 1, on_write);
    return 0;
}

static void send_failed(struct env_defer *defer)
{
    struct failed_send *failed = container_of(defer, struct failed_send, defer);
    failed->send->cb(failed->send, WEIR_ENOMEM);
}

/* Later, in the request's own memory. */
static void send_fail(struct stream *s, struct env_send *send)
{
    struct failed_send *failed = (struct failed_send *)(void *)send->impl;
    *failed = (struct failed_send){.send = send};
    env_defer(net_of(s->base.env)->inner, &failed->defer, send_failed);
}

static bool encrypt(struct stream *s, const void *data, size_t n)
{
    size_t done = 0;
    return n == 0 || (SSL_write_ex(s->ssl, data, n, &done) == 1 && done == n);
}

/* Small pieces are gathered: each call of OpenSSL makes a record with some 22 bytes of its own. */
static bool encrypt_all(struct stream *s, const struct iovec *iov, unsigned n_iov)
{
    struct tls_net *net = net_of(s->base.env);
    size_t used = 0;
    bool ok = true;
    for (unsigned i = 0; i < n_iov && ok; i++) {
        const uint8_t *at = iov[i].iov_base;
        for (size_t left = iov[i].iov_len; left > 0 && ok;) {
            size_t n = left < PLAIN_BYTES - used ? left : PLAIN_BYTES - used;
            memcpy(net->out + used, at, n);
            at += n;
            left -= n;
            used += n;
            if (used == PLAIN_BYTES) {
                ok = encrypt(s, net->out, used);
                used = 0;
            }
        }
    }
    return ok && encrypt(s, net->out, used);
}

static void tls_stream_send(struct env_stream *stream, struct env_send *send,
                            const struct iovec *iov, unsigned n_iov)
{
    struct stream *s = stream_of(stream);
    if (s->closing || !s->open || !encrypt_all(s, iov, n_iov) || flush(s, send) != 0) {
        ERR_clear_error();
        send_fail(s, send);
    }
}

static ssize_t tls_stream_try_send(struct env_stream *stream, const struct iovec *iov,
                                   unsigned n_iov)
{
    struct stream *s = stream_of(stream);
    struct iovec first = n_iov > 0 ? iov[0] : (struct iovec){0};
    if (s->closing || !s->open) {
        return WEIR_ECLOSED;
    }
    if (env_stream_queued_bytes(s->inner) > 0) {
        return 0;
    }
    first.iov_len = first.iov_len < PLAIN_BYTES ? first.iov_len : PLAIN_BYTES;
    if (!encrypt_all(s, &first, 1) || flush(s, NULL) != 0) {
        ERR_clear_error();
        return WEIR_ENOMEM;
    }
    return (ssize_t)first.iov_len;
}

static size_t tls_stream_queued_bytes(const struct env_stream *stream)
{
    return env_stream_queued_bytes(stream_of(stream)->inner);
}

/* --- Reading --- */

static void end(struct stream *s, int status)
{
    s->ended = true;
    s->reading = false;
    env_stream_read_stop(s->inner);
    s->read_cb(&s->base, NULL, 0, status);
}

/* Hands on what is decrypted for as long as the reader wants it. */
static void deliver(struct stream *s)
{
    struct tls_net *net = net_of(s->base.env);
    while (s->reading && !s->closing) {
        size_t n = 0;
        if (SSL_read_ex(s->ssl, net->in, sizeof(net->in), &n) == 1) {
            s->read_cb(&s->base, net->in, n, 0);
            continue;
        }
        int why = SSL_get_error(s->ssl, 0);
        if (why == SSL_ERROR_WANT_READ) {
            return;
        }
        if (why != SSL_ERROR_ZERO_RETURN) {
            log_warn("tls_failed", "peer=%s reason=\"%s\"", s->base.peer, ssl_error_text());
        }
        end(s, why == SSL_ERROR_ZERO_RETURN ? WEIR_ECLOSED : WEIR_EPROTO);
        return;
    }
}

static void on_more(struct env_defer *defer)
{
    deliver(defer->data);
}

static void on_inner_read(struct env_stream *inner, const uint8_t *data, size_t n, int status);

static void tls_stream_read_start(struct env_stream *stream, env_read_cb cb)
{
    struct stream *s = stream_of(stream);
    s->read_cb = cb;
    if (s->closing || s->ended) {
        return;
    }
    s->reading = true;
    env_stream_read_start(s->inner, on_inner_read);
    env_defer(net_of(s->base.env)->inner, &s->more, on_more);
}

static void tls_stream_read_stop(struct env_stream *stream)
{
    struct stream *s = stream_of(stream);
    s->reading = false;
    if (!s->closing) {
        env_stream_read_stop(s->inner);
    }
}

/* --- The handshake --- */

static void refuse(struct stream *s, const char *reason)
{
    struct tls_net *net = net_of(s->base.env);
    uint64_t now = env_now_ns(net->inner);
    bool often = net->complained_ns != 0 && now - net->complained_ns < COMPLAIN_NS;
    net->complained_ns = often ? net->complained_ns : now;
    log_event(often ? LOG_DEBUG : LOG_WARN, "tls_handshake_failed", "peer=%s reason=\"%s\"",
              s->base.peer, reason);
    env_timer_stop(&s->timer);
    env_stream_read_stop(s->inner);
    if (s->listener != NULL) {
        tls_stream_close(&s->base, NULL, NULL);
        return;
    }
    s->ended = true;
    env_connect_cb cb = s->connect_cb;
    s->connect_cb = NULL;
    cb(&s->base, WEIR_EAUTH);
}

static void established(struct stream *s)
{
    env_timer_stop(&s->timer);
    s->open = true;
    /* Nothing is read before the new owner asks for it. */
    env_stream_read_stop(s->inner);
    if (s->listener != NULL) {
        struct listener *l = s->listener;
        leave_listener(s);
        l->cb(&l->base, &s->base);
    } else {
        env_connect_cb cb = s->connect_cb;
        s->connect_cb = NULL;
        cb(&s->base, 0);
    }
}

static const char *handshake_reason(struct stream *s)
{
    long verify = SSL_get_verify_result(s->ssl);
    const char *text = ssl_error_text();
    return verify != X509_V_OK ? X509_verify_cert_error_string(verify) : text;
}

static void handshake(struct stream *s)
{
    int rv = SSL_do_handshake(s->ssl);
    int why = SSL_get_error(s->ssl, rv);
    if (flush(s, NULL) != 0) { /* an alert, too, is for the peer to read */
        refuse(s, "out of memory");
    } else if (rv == 1) {
        established(s);
    } else if (why != SSL_ERROR_WANT_READ) {
        refuse(s, handshake_reason(s));
    }
}

static void on_timeout(struct env_timer *timer)
{
    refuse(timer->data, "not over in time");
}

static void on_inner_read(struct env_stream *inner, const uint8_t *data, size_t n, int status)
{
    struct stream *s = env_stream_data(inner);
    size_t put = 0;
    if (status == 0 && (BIO_write_ex(s->from_peer, data, n, &put) != 1 || put != n)) {
        status = WEIR_ENOMEM;
    }
    if (!s->open) {
        if (status == 0) {
            handshake(s);
        } else {
            refuse(s, error_name(status));
        }
        return;
    }
    if (status == 0) {
        deliver(s);
    } else if (s->reading) {
        end(s, status);
    }
}

static void begin(struct stream *s)
{
    env_timer_start(&s->timer, TLS_HANDSHAKE_US, on_timeout);
    env_stream_read_start(s->inner, on_inner_read);
    handshake(s);
}

/* --- Listening --- */

static void on_accept(struct env_listener *inner, struct env_stream *stream)
{
    struct listener *l = env_listener_data(inner);
    struct tls_net *net = net_of(l->base.env);
    struct stream *s = l->n_handshakes < TLS_HANDSHAKES_MAX ? stream_new(net) : NULL;
    if (s == NULL) {
        env_stream_close(stream, NULL, NULL);
        return;
    }
    s->inner = stream;
    s->listener = l;
    list_push_back(&l->handshakes, &s->link);
    l->n_handshakes++;
    memcpy(s->base.peer, env_stream_peer(stream), sizeof(s->base.peer));
    env_stream_set_data(stream, s);
    SSL_set_accept_state(s->ssl);
    begin(s);
}

static int tls_listen(struct env *env, const char *host, uint16_t port, env_accept_cb cb,
                      void *data, struct env_listener **ret_listener, struct error *err)
{
    struct listener *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return error_set(err, WEIR_ENOMEM, "listen: out of memory");
    }
    l->base = (struct env_listener){.env = env, .data = data};
    l->cb = cb;
    list_init(&l->handshakes);
    int rv = env_listen(net_of(env)->inner, host, port, on_accept, l, &l->inner, err);
    if (rv != 0) {
        free(l);
        return rv;
    }
    l->base.port = env_listener_port(l->inner);
    *ret_listener = &l->base;
    return 0;
}

static void tls_listener_close(struct env_listener *listener)
{
    struct listener *l = container_of(listener, struct listener, base);
    while (!list_empty(&l->handshakes)) {
        struct stream *s = list_entry(l->handshakes.next, struct stream, link);
        tls_stream_close(&s->base, NULL, NULL); /* leaves the list */
    }
    env_listener_close(l->inner);
    free(l);
}

/* --- Connecting --- */

static void on_connected(struct env_stream *inner, int status)
{
    struct stream *s = env_stream_data(inner);
    if (status != 0) {
        s->ended = true;
        env_connect_cb cb = s->connect_cb;
        s->connect_cb = NULL;
        cb(&s->base, status);
        return;
    }
    begin(s);
}

/* The certificate must be for the host that was dialled. */
static bool expect_host(struct stream *s, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
    SSL_set_connect_state(s->ssl);
    return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ||
           (SSL_set1_host(s->ssl, host) == 1 && SSL_set_tlsext_host_name(s->ssl, host) == 1);
}

static int tls_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb,
                       void *data, struct env_stream **ret_stream, struct error *err)
{
    struct tls_net *net = net_of(env);
    struct stream *s = stream_new(net);
    int rv = s == NULL || !expect_host(s, host)
                 ? error_set(err, WEIR_ENOMEM, "connect: out of memory")
                 : env_connect(net->inner, host, port, on_connected, s, &s->inner, err);
    ERR_clear_error();
    if (rv != 0) {
        if (s != NULL) {
            stream_free(s);
        }
        return rv;
    }
    s->base.data = data;
    s->connect_cb = cb;
    memcpy(s->base.peer, env_stream_peer(s->inner), sizeof(s->base.peer));
    *ret_stream = &s->base;
    return 0;
}

static int tls_detach_fd(struct env_stream *stream)
{
    tls_stream_close(stream, NULL, NULL);
    return -1;
}

/* --- The net --- */

static const struct env_ops ops = {
    .listen = tls_listen,
    .listener_close = tls_listener_close,
    .connect = tls_connect,
    .stream_read_start = tls_stream_read_start,
    .stream_read_stop = tls_stream_read_stop,
    .stream_send = tls_stream_send,
    .stream_try_send = tls_stream_try_send,
    .stream_queued_bytes = tls_stream_queued_bytes,
    .stream_close = tls_stream_close,
    .stream_detach_fd = tls_detach_fd,
};

static int load(SSL_CTX *ctx, const struct tls_files *files, struct error *err)
{
    if (SSL_CTX_load_verify_locations(ctx, files->ca, NULL) != 1) {
        return error_set(err, WEIR_ECONFIG, "tls.ca %.150s: %s", files->ca, ssl_error_text());
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1) {
        return error_set(err, WEIR_ECONFIG, "tls.cert %.150s: %s", files->cert, ssl_error_text());
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        return error_set(err, WEIR_ECONFIG, "tls.key %.150s: %s", files->key, ssl_error_text());
    }
    return 0;
}

static int make_ctx(const struct tls_files *files, SSL_CTX **ret_ctx, struct error *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) {
        SSL_CTX_free(ctx);
        return error_set(err, WEIR_ENOMEM, "tls: out of memory");
    }
    int rv = load(ctx, files, err);
    if (rv != 0) {
        SSL_CTX_free(ctx);
        return rv;
    }
    /* Links live long and both sides prove themselves each time: no sessions to resume. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    *ret_ctx = ctx;
    return 0;
}

int tls_net_new(struct env *env, const struct tls_files *files, struct tls_net **ret_net,
                struct error *err)
{
    struct tls_net *net = calloc(1, sizeof(*net));
    if (net == NULL) {
        return error_set(err, WEIR_ENOMEM, "tls: out of memory");
    }
    *net = (struct tls_net){.base = {.ops = &ops},
                            .inner = env,
                            .ca = strdup(files->ca),
                            .cert = strdup(files->cert),
                            .key = strdup(files->key)};
    int rv = net->ca == NULL || net->cert == NULL || net->key == NULL
                 ? error_set(err, WEIR_ENOMEM, "tls: out of memory")
                 : make_ctx(files, &net->ctx, err);
    if (rv != 0) {
        tls_net_free(net);
        return rv;
    }
    *ret_net = net;
    return 0;
}

int tls_net_reload(struct tls_net *net, struct error *err)
{
    const struct tls_files files = {net->ca, net->cert, net->key};
    SSL_CTX *ctx = NULL;
    int rv = make_ctx(&files, &ctx, err);
    if (rv == 0) {
        SSL_CTX_free(net->ctx); /* streams hold it for as long as they need it */
        net->ctx = ctx;
    }
    return rv;
}

void tls_net_free(struct tls_net *net)
{
    if (net != NULL) {
        SSL_CTX_free(net->ctx);
        free(net->ca);
        free(net->cert);
        free(net->key);
        free(net);
    }
}

struct env *tls_net_env(struct tls_net *net)
{
    return &net->base;
}
