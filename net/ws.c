#include "net/ws.h"

#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/env_uv.h"
#include "base/logging.h"

#define TICK_US        1000000
#define PROTOCOLS_MAX  8
#define RX_BUFFER_SIZE 256
/* Else libwebsockets sends in pieces of rx_buffer_size and copies the rest. */
#define TX_PACKET_SIZE   (1 << 24)
#define CLOSE_REASON_MAX 123 /* a control frame carries 125 bytes */
#define CLOSE_WAIT_S     5
#define HEADER_MAX       24576 /* what the HTTP server lets through */
/* Turns of the loop after which libuv has run every close callback of a destroyed context: one for
 * connections, one for the context's own timer and idle handles, and some to spare. */
#define DESTROY_TURNS 8
#define TURN_US       1000 /* a timer of 0 may fire again within the same turn */

struct ws_conn {
    struct lws *wsi;
    struct list ping; /* all open connections, the longest not pinged first */
    uint8_t *rx;      /* of a message that came in pieces */
    uint32_t rx_len, rx_cap;
    uint32_t pinged; /* tick */
    uint16_t close_code;
    uint8_t quiet; /* pings since anything was heard */
    bool open, closing, want_write, receiving;
    const char *close_reason; /* static text */
    _Alignas(16) uint8_t user[];
};

struct ws_server {
    struct env *env;
    struct ws_events events;
    size_t message_max;
    uint32_t ping_ticks, connections_max, n_conns, tick;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct lws_protocols protocols[PROTOCOLS_MAX + 1];
    struct list conns;
    struct env_timer timer;
    unsigned turns_left;
    void (*close_cb)(void *data);
    void *close_data;
};

size_t ws_frame_header(uint8_t out[10], uint64_t n, bool text)
{
    out[0] = text ? 0x81 : 0x82;
    if (n < 126) {
        out[1] = (uint8_t)n;
        return 2;
    }
    if (n < 65536) {
        out[1] = 126;
        out[2] = (uint8_t)(n >> 8);
        out[3] = (uint8_t)n;
        return 4;
    }
    out[1] = 127;
    for (unsigned i = 0; i < 8; i++) {
        out[2 + i] = (uint8_t)(n >> (56 - 8 * i));
    }
    return 10;
}

const char *ws_handshake_error(const char *upgrade, const char *key, const char *version)
{
    if (upgrade == NULL || strcasecmp(upgrade, "websocket") != 0) {
        return "this is a WebSocket: send Upgrade: websocket";
    }
    if (version == NULL || strcmp(version, "13") != 0) {
        return "Sec-WebSocket-Version must be 13";
    }
    if (key == NULL || strlen(key) != 24) {
        return "Sec-WebSocket-Key must be 24 characters";
    }
    return NULL;
}

bool ws_protocol_offered(const char *offer, const char *protocol)
{
    size_t want = strlen(protocol);
    while (offer != NULL && *offer != '\0') {
        offer += strspn(offer, " \t,");
        size_t n = strcspn(offer, " \t,");
        if (n == want && memcmp(offer, protocol, n) == 0) {
            return true;
        }
        offer += n;
    }
    return false;
}

/* --- Connections
 * ---------------------------------------------------------------------------------------------- */

void *ws_user(struct ws_conn *c)
{
    return c->user;
}

bool ws_blocked(const struct ws_conn *c)
{
    return c->closing || lws_partial_buffered(c->wsi) != 0;
}

/* Never at once: the caller may stand in one of this connection's own callbacks. */
static void conn_kill(struct ws_conn *c)
{
    c->closing = true;
    lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

bool ws_send_raw(struct ws_conn *c, const void *frames, size_t n)
{
    if (n == 0) {
        return true;
    }
    /* LWS_WRITE_RAW neither frames nor masks: the bytes are only read. */
    if (lws_write(c->wsi, (unsigned char *)(uintptr_t)frames, n, LWS_WRITE_RAW) < 0) {
        conn_kill(c);
        return false;
    }
    return true;
}

void ws_want_write(struct ws_conn *c)
{
    if (!c->closing && !c->want_write) {
        c->want_write = true;
        (void)lws_callback_on_writable(c->wsi);
    }
}

void ws_close(struct ws_conn *c, uint16_t code, const char *reason)
{
    if (c->closing) {
        return;
    }
    c->closing = true;
    c->close_code = code;
    c->close_reason = reason;
    if (!c->receiving) {
        (void)lws_callback_on_writable(c->wsi);
    }
}

static int on_established(struct ws_server *s, struct ws_conn *c, struct lws *wsi)
{
    const char *protocol =
        lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > 0 ? lws_get_protocol(wsi)->name : "";
    *c = (struct ws_conn){.wsi = wsi, .pinged = s->tick};
    if (s->n_conns >= s->connections_max || s->close_cb != NULL) {
        return -1;
    }
    list_push_back(&s->conns, &c->ping);
    s->n_conns++;
    c->open = true;
    if (s->events.opened(s->events.data, c, protocol) == 0) {
        return 0;
    }
    c->open = false;
    c->closing = true;
    list_remove(&c->ping);
    s->n_conns--;
    return -1;
}

static void on_closed(struct ws_server *s, struct ws_conn *c)
{
    if (!c->open) {
        return;
    }
    c->open = false;
    c->closing = true;
    list_remove(&c->ping);
    s->n_conns--;
    s->events.closed(s->events.data, c);
    free(c->rx);
    c->rx = NULL;
}

static int rx_append(struct ws_conn *c, const void *in, size_t n)
{
    size_t need = c->rx_len + n;
    if (need > c->rx_cap) {
        size_t cap = need < 1024 ? 1024 : 2 * need;
        uint8_t *rx = realloc(c->rx, cap);
        if (rx == NULL) {
            return WEIR_ENOMEM;
        }
        c->rx = rx;
        c->rx_cap = (uint32_t)cap;
    }
    if (n > 0) {
        memcpy(c->rx + c->rx_len, in, n);
    }
    c->rx_len = (uint32_t)need;
    return 0;
}

static void on_receive(struct ws_server *s, struct ws_conn *c, const void *in, size_t n)
{
    bool first = lws_is_first_fragment(c->wsi) != 0, last = lws_is_final_fragment(c->wsi) != 0;
    c->quiet = 0;
    if (c->closing) {
        return;
    }
    if (first) {
        c->rx_len = 0;
    }
    if (c->rx_len + n > s->message_max) {
        ws_close(c, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "message too big");
        return;
    }
    if (first && last) {
        s->events.message(s->events.data, c, in, n, lws_frame_is_binary(c->wsi) != 0);
        return;
    }
    if (rx_append(c, in, n) < 0) {
        ws_close(c, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, "out of memory");
        return;
    }
    if (!last) {
        return;
    }
    uint8_t *rx = c->rx; /* the connection holds no memory between messages */
    size_t len = c->rx_len;
    c->rx = NULL;
    c->rx_len = 0;
    c->rx_cap = 0;
    s->events.message(s->events.data, c, rx, len, lws_frame_is_binary(c->wsi) != 0);
    free(rx);
}

/* A close frame of our own: Debian's libwebsockets closes twice when the writable callback refuses,
 * so that its own frame never leaves. The peer's answer, or the timeout, ends the connection. */
static void send_close(struct ws_conn *c)
{
    uint8_t frame[4 + CLOSE_REASON_MAX];
    size_t n = strnlen(c->close_reason, CLOSE_REASON_MAX);
    frame[0] = 0x88;
    frame[1] = (uint8_t)(2 + n);
    store_be16(frame + 2, c->close_code);
    memcpy(frame + 4, c->close_reason, n);
    c->close_code = 0;
    if (ws_send_raw(c, frame, 4 + n)) {
        lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, CLOSE_WAIT_S);
    }
}

static int on_writable(struct ws_server *s, struct ws_conn *c)
{
    if (c->close_code != 0) {
        send_close(c);
        return 0;
    }
    if (c->want_write && !c->closing) {
        c->want_write = false;
        s->events.writable(s->events.data, c);
    }
    return 0;
}

/* `in` is not looked at: in 4.1.6 it may already be freed. */
static int confirm_upgrade(struct lws *wsi)
{
    char upgrade[16];
    int n = lws_hdr_copy(wsi, upgrade, sizeof(upgrade), WSI_TOKEN_UPGRADE);
    return n > 0 && strcasecmp(upgrade, "websocket") == 0
               ? 0
               : -1; /* no h2c: raw writes would break it */
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n)
{
    struct ws_conn *c = user;
    struct lws_context *context = lws_get_context(wsi);
    struct ws_server *s = context != NULL ? lws_context_user(context) : NULL;
    if (s == NULL) {
        return 0;
    }
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return confirm_upgrade(wsi);
    case LWS_CALLBACK_ESTABLISHED:
        return on_established(s, c, wsi);
    case LWS_CALLBACK_CLOSED:
        on_closed(s, c);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
        /* A close frame is next: nothing may follow it. */
        if (c != NULL && c->open) {
            c->closing = true;
        }
        return 0;
    case LWS_CALLBACK_RECEIVE:
        c->receiving = true;
        on_receive(s, c, in, n);
        c->receiving = false;
        if (c->close_code == 0) {
            return 0;
        }
        lws_close_reason(wsi, c->close_code, (unsigned char *)(uintptr_t)c->close_reason,
                         strnlen(c->close_reason, CLOSE_REASON_MAX));
        c->close_code = 0;
        return -1;
    case LWS_CALLBACK_RECEIVE_PONG:
        c->quiet = 0;
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writable(s, c);
    case LWS_CALLBACK_HTTP:
        return -1; /* not an upgrade */
    default:
        return 0;
    }
}

/* --- Pings
 * ------------------------------------------------------------------------------------------------------
 */

/* Pings come from this queue and not from libwebsockets' validity timers, whose sorted list costs
 * O(n) per connection. */
static void conn_ping(struct ws_server *s, struct ws_conn *c)
{
    static const uint8_t ping[2] = {0x89, 0};
    list_remove(&c->ping);
    list_push_back(&s->conns, &c->ping);
    c->pinged = s->tick;
    if (c->quiet >= 2) {
        conn_kill(c);
        return;
    }
    c->quiet++;
    if (!ws_blocked(c)) { /* behind a full socket a ping would say nothing new */
        (void)ws_send_raw(c, ping, sizeof(ping));
    }
}

static void on_tick(struct env_timer *timer)
{
    struct ws_server *s = timer->data;
    s->tick++;
    while (!list_empty(&s->conns)) {
        struct ws_conn *c = list_entry(s->conns.next, struct ws_conn, ping);
        if (s->tick - c->pinged < s->ping_ticks) {
            break;
        }
        conn_ping(s, c);
    }
    env_timer_start(timer, TICK_US, on_tick);
}

/* --- Server
 * -----------------------------------------------------------------------------------------------------
 */

static void on_library_log(int level, const char *line)
{
    (void)level;
    log_debug("ws_library", "text=\"%.*s\"", (int)strcspn(line, "\r\n"), line);
}

static int context_new(struct ws_server *s, struct error *err)
{
    static const lws_retry_bo_t no_validity_timers = {.secs_since_valid_ping = 0,
                                                      .secs_since_valid_hangup = 0};
    void *loops[1] = {env_uv_loop(s->env)};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = s->protocols,
        .options = LWS_SERVER_OPTION_LIBUV,
        .foreign_loops = loops,
        .gid = -1,
        .uid = -1,
        .pt_serv_buf_size = 8192,
        .max_http_header_data = HEADER_MAX,
        .retry_and_idle_policy = &no_validity_timers,
        .alpn = "http/1.1",
        .user = s,
    };
    lws_set_log_level(LLL_ERR | LLL_WARN, on_library_log);
    s->context = lws_create_context(&info);
    if (s->context == NULL) {
        return error_set(err, WEIR_EUNAVAILABLE,
                         "libwebsockets: no context (is libwebsockets-evlib-uv installed?)");
    }
    s->vhost = lws_get_vhost_by_name(s->context, "default");
    return s->vhost != NULL ? 0 : error_set(err, WEIR_EUNAVAILABLE, "libwebsockets: no vhost");
}

int ws_server_new(struct env *env, const struct ws_options *options, const struct ws_events *events,
                  struct ws_server **ret_server, struct error *err)
{
    if (options->n_protocols == 0 || options->n_protocols > PROTOCOLS_MAX) {
        return error_set(err, WEIR_EINVAL, "websocket: 1 to %d subprotocols", PROTOCOLS_MAX);
    }
    struct ws_server *s = calloc(1, sizeof(*s));
    if (s == NULL || env_timer_init(env, &s->timer) < 0) {
        free(s);
        return error_set(err, WEIR_ENOMEM, "websocket: out of memory");
    }
    s->env = env;
    s->events = *events;
    s->message_max = options->message_max;
    s->connections_max = options->connections_max;
    s->ping_ticks = options->ping_interval_ms < 1000 ? 1 : options->ping_interval_ms / 1000;
    s->timer.data = s;
    list_init(&s->conns);
    for (unsigned i = 0; i < options->n_protocols; i++) {
        s->protocols[i] = (struct lws_protocols){
            .name = options->protocols[i],
            .callback = on_lws,
            .per_session_data_size = sizeof(struct ws_conn) + events->user_size,
            .rx_buffer_size = RX_BUFFER_SIZE,
            .tx_packet_size = TX_PACKET_SIZE,
        };
    }
    int rv = context_new(s, err);
    if (rv < 0) {
        env_timer_close(&s->timer);
        free(s);
        return rv;
    }
    env_timer_start(&s->timer, TICK_US, on_tick);
    *ret_server = s;
    return 0;
}

unsigned ws_server_count(const struct ws_server *server)
{
    return server->n_conns;
}

int ws_server_adopt(struct ws_server *s, struct env_stream *stream, const uint8_t *head, size_t n,
                    struct error *err)
{
    if (s->n_conns >= s->connections_max || s->close_cb != NULL) {
        env_stream_close(stream, NULL, NULL);
        return error_set(err, WEIR_EBUSY, "%u connections", s->n_conns);
    }
    int fd = env_stream_detach_fd(stream);
    if (fd < 0) {
        return error_set(err, WEIR_EUNAVAILABLE, "the stream has no descriptor");
    }
    /* Closes fd when it fails. */
    struct lws *wsi = lws_adopt_socket_vhost_readbuf(s->vhost, fd, (const char *)head, n);
    if (wsi == NULL) {
        return error_set(err, WEIR_EPROTO, "libwebsockets refused the handshake");
    }
    /* What came behind the head is taken up when the loop next has an event for the socket: make
     * one. */
    (void)lws_callback_on_writable(wsi);
    return 0;
}

static void on_turn(struct env_timer *timer)
{
    struct ws_server *s = timer->data;
    if (s->turns_left-- > 0) {
        env_timer_start(timer, TURN_US, on_turn);
        return;
    }
    lws_context_destroy(s->context); /* the second call frees it */
    void (*cb)(void *data) = s->close_cb;
    void *data = s->close_data;
    env_timer_close(&s->timer);
    free(s);
    cb(data);
}

static void no_callback(void *data)
{
    (void)data;
}

void ws_server_close(struct ws_server *s, void (*cb)(void *data), void *data)
{
    s->close_cb = cb != NULL ? cb : no_callback;
    s->close_data = data;
    s->turns_left = DESTROY_TURNS;
    lws_context_destroy(s->context); /* closes every connection */
    env_timer_start(&s->timer, TURN_US, on_turn);
}
