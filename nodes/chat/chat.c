/* The chat gateway (docs/chat.md): WebSocket connections on /chat. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "nodes/chat/chat_priv.h"
#include "proto/chat.pb-c.h"

#define PING_INTERVAL_MS 30000

uint64_t chat_hash(const struct chat *chat, const char *text)
{
    uint64_t h = chat->hash_seed ^ 14695981039346656037u; /* FNV-1a */
    for (const char *p = text; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    }
    return h ^ h >> 32;
}

/* Every record of the topic, after this node's view has folded it. */
static void on_event(void *data, const struct view_event *event)
{
    struct chat *chat = data;
    const struct chat_outcome *outcome = event->outcome;
    chat->log_ms = event->append_ms > chat->log_ms ? event->append_ms : chat->log_ms;
    if (event->record == NULL) {
        return;
    }
    if (event->verdict == VERDICT_DUPLICATE || event->verdict == VERDICT_SLOW) {
        chat_note_void(chat, event);
    }
    struct room *room = event->verdict == VERDICT_OK ? room_find(chat, outcome->room) : NULL;
    if (room == NULL) {
        return;
    }
    bytes_reset(&chat->scratch);
    chat_event_put(&chat->scratch, &(struct chat_event){.record = event->record,
                                                        .offset = event->offset,
                                                        .append_ms = event->append_ms,
                                                        .badge = outcome->badge,
                                                        .owner = room->owner});
    if (bytes_error(&chat->scratch) != 0) {
        log_error("chat_event_lost", "room=%s offset=%lld error=\"%s\"", room->name,
                  (long long)event->offset, error_name(bytes_error(&chat->scratch)));
        return;
    }
    room_append(room, event->offset, &chat->scratch);
}

static void on_stream(void *data, struct env_stream *stream, const uint8_t *head, size_t n)
{
    struct chat *chat = data;
    struct error err;
    if (ws_server_adopt(chat->ws, stream, head, n, &err) < 0) {
        log_debug("chat_connection_refused", "reason=\"%s\"", err.text);
    }
}

static void on_request(void *data, struct http_exchange *ex)
{
    struct chat *chat = data;
    const char *offer = http_header(ex, "sec-websocket-protocol");
    const char *wrong =
        ws_handshake_error(http_header(ex, "upgrade"), http_header(ex, "sec-websocket-key"),
                           http_header(ex, "sec-websocket-version"));
    if (wrong != NULL) {
        http_respond(ex, 426, "text/plain; charset=utf-8", "Upgrade: websocket\r\n",
                     http_body_copy(wrong, strlen(wrong)));
    } else if (offer != NULL && !ws_protocol_offered(offer, CHAT_PROTOCOL)) {
        http_respond_text(ex, 400, "the subprotocol here is " CHAT_PROTOCOL);
    } else if (chat->stopping ||
               ws_server_count(chat->ws) >= chat->node->config->chat_connections_max) {
        http_respond_text(ex, 503, "this node takes no more chat connections; try another");
    } else {
        http_hand_over(ex, on_stream, chat);
    }
}

static int start_ws(struct chat *chat, struct error *err)
{
    static const char *const protocols[] = {CHAT_PROTOCOL};
    const struct ws_options options = {
        .protocols = protocols,
        .n_protocols = 1,
        .message_max = CHAT_COMMAND_MAX,
        .ping_interval_ms = PING_INTERVAL_MS,
        .connections_max = chat->node->config->chat_connections_max,
    };
    const struct ws_events events = {
        .data = chat,
        .user_size = sizeof(struct conn),
        .opened = conn_opened,
        .message = conn_message,
        .writable = conn_writable,
        .closed = conn_closed,
    };
    return ws_server_new(chat->env, &options, &events, &chat->ws, err);
}

static void chat_metrics(struct chat *chat)
{
    chat->connections = metric_gauge("weir_chat_connections", "", "Open chat connections.");
    chat->messages = metric_counter("weir_chat_messages_total", "", "Messages taken from clients.");
    chat->delivered =
        metric_counter("weir_chat_delivered_total", "", "Events written to connections.");
    chat->lagged =
        metric_counter("weir_chat_lagged_total", "", "Readers that fell off a room's ring.");
    chat->refused = metric_counter("weir_chat_errors_total", "", "Errors sent to clients.");
}

static int chat_start(struct node *node, void **ret_state, struct error *err)
{
    struct chat *chat = calloc(1, sizeof(*chat));
    if (chat == NULL) {
        return error_set(err, WEIR_ENOMEM, "chat: out of memory");
    }
    chat->node = node;
    chat->env = node->env;
    chat->views = node->views;
    chat->hash_seed = env_random_u64(node->env);
    bytes_init(&chat->scratch, CHAT_EVENT_MAX);
    list_init(&chat->submissions);
    for (unsigned i = 0; i < CHAT_BUCKETS; i++) {
        list_init(&chat->rooms[i]);
    }
    chat_metrics(chat);
    const struct http_route route = {
        .method = "GET", .path = "/chat", .handler = on_request, .data = chat};
    int rv = start_ws(chat, err);
    if (rv < 0) {
        free(chat);
        return rv;
    }
    rv = node_routes(node, &route, 1, err);
    if (rv < 0) {
        ws_server_close(chat->ws, NULL, NULL);
        free(chat);
        return rv;
    }
    chat->listener.data = chat;
    chat->listener.event = on_event;
    views_listen(node->views, VIEW_CHAT, &chat->listener);
    *ret_state = chat;
    return 0;
}

static void on_ws_closed(void *data)
{
    struct chat *chat = data;
    void (*cb)(void *data) = chat->stop_cb;
    void *cb_data = chat->stop_data;
    bytes_close(&chat->scratch);
    free(chat);
    cb(cb_data);
}

static void chat_stop(void *state, void (*cb)(void *data), void *data)
{
    struct chat *chat = state;
    chat->stopping = true;
    chat->stop_cb = cb;
    chat->stop_data = data;
    views_unlisten(&chat->listener);
    chat_forget_submissions(chat);
    ws_server_close(chat->ws, on_ws_closed, chat);
}

const struct role role_chat = {
    .name = "chat",
    .bit = CONFIG_ROLE_CHAT,
    .start = chat_start,
    .stop = chat_stop,
};
