#include "media/rtmp.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "media/amf0.h"
#include "media/rtmp_chunk.h"

#define HANDSHAKE_SIZE    1536u
#define RTMP_VERSION      3
#define OUT_CHUNK_SIZE    4096u
#define WINDOW_BYTES      2500000u
#define MESSAGE_STREAM_ID 1u

enum message_type {
    MSG_SET_CHUNK_SIZE = 1,
    MSG_ABORT = 2,
    MSG_ACKNOWLEDGEMENT = 3,
    MSG_USER_CONTROL = 4,
    MSG_WINDOW_ACK_SIZE = 5,
    MSG_SET_PEER_BANDWIDTH = 6,
    MSG_AUDIO = 8,
    MSG_VIDEO = 9,
    MSG_DATA_AMF3 = 15,
    MSG_COMMAND_AMF3 = 17,
    MSG_DATA_AMF0 = 18,
    MSG_COMMAND_AMF0 = 20,
    MSG_AGGREGATE = 22,
};

enum user_control { CONTROL_STREAM_BEGIN = 0, CONTROL_PING = 6, CONTROL_PONG = 7 };

enum rtmp_state {
    RTMP_WAIT_C1,
    RTMP_WAIT_C2,
    RTMP_OPEN,      /* handshake done */
    RTMP_CONNECTED, /* connect answered */
    RTMP_ASKED,     /* publish waits for the caller */
    RTMP_PUBLISHING,
    RTMP_ENDED, /* properly */
    RTMP_REFUSED,
};

struct rtmp {
    enum rtmp_state state;
    bool parsing;
    struct rtmp_events events;
    struct rtmp_reader reader;
    struct bytes in, out, scratch;
    char app[RTMP_NAME_MAX], name[RTMP_NAME_MAX], encoder[64];
    /* Acknowledgements: the peer's window, what it has sent since the last one, and the running
     * count, which wraps. */
    uint32_t peer_window, unacknowledged, received;
};

int rtmp_new(const struct rtmp_events *events, struct rtmp **ret_rtmp)
{
    struct rtmp *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return WEIR_ENOMEM;
    }
    r->events = *events;
    r->peer_window = WINDOW_BYTES;
    rtmp_reader_init(&r->reader);
    r->reader.assembly_max = RTMP_ASSEMBLY_EARLY_MAX;
    bytes_init(&r->in, RTMP_INPUT_MAX);
    bytes_init(&r->out, RTMP_OUTPUT_MAX);
    bytes_init(&r->scratch, 8192);
    *ret_rtmp = r;
    return 0;
}

void rtmp_free(struct rtmp *r)
{
    if (r == NULL) {
        return;
    }
    rtmp_reader_close(&r->reader);
    bytes_close(&r->in);
    bytes_close(&r->out);
    bytes_close(&r->scratch);
    free(r);
}

struct bytes *rtmp_output(struct rtmp *r)
{
    return &r->out;
}

const char *rtmp_encoder(const struct rtmp *r)
{
    return r->encoder;
}

bool rtmp_wants_input(const struct rtmp *r)
{
    return r->state != RTMP_ASKED && r->state != RTMP_REFUSED;
}

/* --- Sending
 * ---------------------------------------------------------------------------------------------------
 */

static void put_control(struct rtmp *r, uint8_t type, const uint8_t *body, size_t len)
{
    rtmp_put_message(&r->out, OUT_CHUNK_SIZE, 2, type, 0, body, len);
}

static void put_control_u32(struct rtmp *r, uint8_t type, uint32_t value)
{
    uint8_t body[4];
    store_be32(body, value);
    put_control(r, type, body, sizeof(body));
}

static void put_user_control(struct rtmp *r, uint16_t event, uint32_t value)
{
    uint8_t body[6];
    store_be16(body, event);
    store_be32(body + 2, value);
    put_control(r, MSG_USER_CONTROL, body, sizeof(body));
}

static struct bytes *command_begin(struct rtmp *r, const char *name, double transaction)
{
    bytes_reset(&r->scratch);
    amf0_put_string(&r->scratch, name);
    amf0_put_number(&r->scratch, transaction);
    return &r->scratch;
}

static void command_send(struct rtmp *r, uint32_t stream_id)
{
    if (bytes_error(&r->scratch) != 0) {
        r->out.error = bytes_error(&r->scratch);
        return;
    }
    rtmp_put_message(&r->out, OUT_CHUNK_SIZE, stream_id == 0 ? 3 : 5, MSG_COMMAND_AMF0, stream_id,
                     r->scratch.data, r->scratch.len);
}

static void put_property(struct bytes *b, const char *name, const char *value)
{
    amf0_put_name(b, name);
    amf0_put_string(b, value);
}

static void put_status(struct bytes *b, const char *level, const char *code, const char *text)
{
    amf0_put_object_begin(b);
    put_property(b, "level", level);
    put_property(b, "code", code);
    put_property(b, "description", text);
}

static void send_status(struct rtmp *r, const char *level, const char *code, const char *text)
{
    struct bytes *b = command_begin(r, "onStatus", 0);
    amf0_put_null(b);
    put_status(b, level, code, text);
    amf0_put_object_end(b);
    command_send(r, MESSAGE_STREAM_ID);
}

/* `_result` with the caller's transaction id: encoders match replies by it. */
static void send_result_null(struct rtmp *r, double transaction)
{
    struct bytes *b = command_begin(r, "_result", transaction);
    amf0_put_null(b);
    amf0_put_null(b);
    command_send(r, 0);
}

/* --- Commands
 * --------------------------------------------------------------------------------------------------
 */

struct command {
    double transaction;
    struct cursor *args; /* after the transaction id */
};

static int copy_name(char out[RTMP_NAME_MAX], struct amf0_string s, const char *what,
                     struct error *err)
{
    if (s.len >= RTMP_NAME_MAX || (s.len > 0 && memchr(s.data, 0, s.len) != NULL)) {
        return error_set(err, WEIR_EPROTO, "rtmp: bad %s (%zu bytes)", what, s.len);
    }
    if (s.len > 0) {
        memcpy(out, s.data, s.len);
    }
    out[s.len] = 0;
    return 0;
}

struct connect_args {
    struct amf0_string app, encoder;
};

static void connect_property(void *data, struct amf0_string name, const struct amf0_value *value)
{
    struct connect_args *args = data;
    if (amf0_equal(name, "app") && value->type == AMF0_STRING) {
        args->app = value->string;
    } else if (amf0_equal(name, "flashVer") && value->type == AMF0_STRING) {
        args->encoder = value->string;
    }
}

static void copy_encoder(struct rtmp *r, struct amf0_string s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len && n + 1 < sizeof(r->encoder); i++) {
        if (s.data[i] >= ' ' && s.data[i] <= '~') {
            r->encoder[n++] = s.data[i];
        }
    }
    r->encoder[n] = 0;
}

static int on_connect(struct rtmp *r, const struct command *cmd, struct error *err)
{
    if (r->state != RTMP_OPEN) {
        return error_set(err, WEIR_EPROTO, "rtmp: connect twice");
    }
    struct connect_args args = {0};
    amf0_read_object(cmd->args, connect_property, &args);
    int rc = copy_name(r->app, args.app, "application name", err);
    if (rc < 0) {
        return rc;
    }
    copy_encoder(r, args.encoder);
    put_control_u32(r, MSG_WINDOW_ACK_SIZE, WINDOW_BYTES);
    uint8_t bandwidth[5] = {0, 0, 0, 0, 2 /* dynamic */};
    store_be32(bandwidth, WINDOW_BYTES);
    put_control(r, MSG_SET_PEER_BANDWIDTH, bandwidth, sizeof(bandwidth));
    put_control_u32(r, MSG_SET_CHUNK_SIZE, OUT_CHUNK_SIZE);

    struct bytes *b = command_begin(r, "_result", cmd->transaction);
    amf0_put_object_begin(b);
    put_property(b, "fmsVer", "FMS/3,0,1,123"); /* what encoders expect to see */
    amf0_put_name(b, "capabilities");
    amf0_put_number(b, 31);
    amf0_put_object_end(b);
    put_status(b, "status", "NetConnection.Connect.Success", "Connection succeeded.");
    amf0_put_name(b, "objectEncoding");
    amf0_put_number(b, 0);
    amf0_put_object_end(b);
    command_send(r, 0);
    r->state = RTMP_CONNECTED;
    return 0;
}

static int on_release_stream(struct rtmp *r, const struct command *cmd, struct error *err)
{
    (void)err;
    send_result_null(r, cmd->transaction);
    return 0;
}

static int on_fc_publish(struct rtmp *r, const struct command *cmd, struct error *err)
{
    (void)err;
    struct bytes *b = command_begin(r, "onFCPublish", cmd->transaction);
    amf0_put_null(b);
    amf0_put_null(b);
    command_send(r, 0);
    return 0;
}

static int on_create_stream(struct rtmp *r, const struct command *cmd, struct error *err)
{
    (void)err;
    struct bytes *b = command_begin(r, "_result", cmd->transaction);
    amf0_put_null(b);
    amf0_put_number(b, MESSAGE_STREAM_ID);
    command_send(r, 0);
    return 0;
}

static int on_publish(struct rtmp *r, const struct command *cmd, struct error *err)
{
    if (r->state != RTMP_CONNECTED) {
        return error_set(err, WEIR_EPROTO, "rtmp: publish %s",
                         r->state == RTMP_OPEN ? "before connect" : "twice on one connection");
    }
    struct amf0_value null, name;
    amf0_read(cmd->args, &null);
    amf0_read(cmd->args, &name);
    if (!cursor_ok(cmd->args) || name.type != AMF0_STRING) {
        return error_set(err, WEIR_EPROTO, "rtmp: publish without a name");
    }
    int rc = copy_name(r->name, name.string, "stream key", err);
    if (rc < 0) {
        return rc;
    }
    r->state = RTMP_ASKED;
    r->events.publish(r->events.data, r->app, r->name);
    return 0;
}

static int on_unpublish(struct rtmp *r, const struct command *cmd, struct error *err)
{
    (void)cmd;
    (void)err;
    if (r->state == RTMP_PUBLISHING) {
        r->state = RTMP_ENDED;
        send_status(r, "status", "NetStream.Unpublish.Success", "Stream is now unpublished.");
        r->events.unpublish(r->events.data);
    }
    return 0;
}

static int on_play(struct rtmp *r, const struct command *cmd, struct error *err)
{
    (void)cmd;
    send_status(r, "error", "NetStream.Play.Failed", "This server only takes publishers.");
    return error_set(err, WEIR_EPROTO, "rtmp: a player, not a publisher");
}

static const struct {
    const char *name;
    int (*handle)(struct rtmp *r, const struct command *cmd, struct error *err);
} commands[] = {
    {"connect", on_connect},
    {"releaseStream", on_release_stream},
    {"FCPublish", on_fc_publish},
    {"createStream", on_create_stream},
    {"publish", on_publish},
    {"FCUnpublish", on_unpublish},
    {"closeStream", on_unpublish},
    {"deleteStream", on_unpublish},
    {"play", on_play},
};

static int handle_command(struct rtmp *r, struct cursor *c, struct error *err)
{
    struct amf0_value name, transaction;
    amf0_read(c, &name);
    amf0_read(c, &transaction);
    if (!cursor_ok(c) || name.type != AMF0_STRING) {
        return error_set(err, WEIR_EPROTO, "rtmp: malformed command");
    }
    struct command cmd = {transaction.number, c};
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (amf0_equal(name.string, commands[i].name)) {
            return commands[i].handle(r, &cmd, err);
        }
    }
    return 0; /* _checkbw and the like want no answer */
}

/* --- Other messages
 * -------------------------------------------------------------------------------------------- */

static void metadata_property(void *data, struct amf0_string name, const struct amf0_value *value)
{
    struct rtmp_metadata *m = data;
    const struct {
        const char *name;
        double *field;
    } fields[] = {
        {"width", &m->width},
        {"height", &m->height},
        {"framerate", &m->fps},
        {"videodatarate", &m->video_kbps},
        {"audiodatarate", &m->audio_kbps},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        /* The comparison is false for NaN too. */
        if (amf0_equal(name, fields[i].name) && value->type == AMF0_NUMBER && value->number > 0 &&
            value->number < 1e9) {
            *fields[i].field = value->number;
        }
    }
}

static int handle_data(struct rtmp *r, struct cursor *c)
{
    struct amf0_value name;
    amf0_read(c, &name);
    if (amf0_equal(name.string, "@setDataFrame")) {
        amf0_read(c, &name);
    }
    if (!cursor_ok(c) || !amf0_equal(name.string, "onMetaData")) {
        return 0;
    }
    struct rtmp_metadata metadata = {0};
    amf0_read_object(c, metadata_property, &metadata);
    if (r->state == RTMP_PUBLISHING) {
        r->events.metadata(r->events.data, &metadata);
    }
    return 0;
}

static void handle_user_control(struct rtmp *r, struct cursor *c)
{
    uint16_t event = cursor_be16(c);
    uint32_t value = cursor_be32(c);
    if (cursor_ok(c) && event == CONTROL_PING) {
        put_user_control(r, CONTROL_PONG, value);
    }
}

static void give_media(struct rtmp *r, uint8_t type, uint32_t timestamp_ms, const uint8_t *body,
                       size_t len)
{
    if (r->state == RTMP_PUBLISHING && len > 0) {
        r->events.media(r->events.data, type == MSG_AUDIO ? RTMP_AUDIO : RTMP_VIDEO, timestamp_ms,
                        body, len);
    }
}

/* Several FLV tags in one message: their times are moved so that the first has the message's. */
static int handle_aggregate(struct rtmp *r, const struct rtmp_message *m, struct error *err)
{
    struct cursor c;
    cursor_init(&c, m->body, m->len);
    bool first = true;
    uint32_t offset = 0;
    while (cursor_left(&c) > 0) {
        uint8_t type = cursor_u8(&c);
        uint32_t len = cursor_be24(&c);
        uint32_t time = cursor_be24(&c);
        time |= (uint32_t)cursor_u8(&c) << 24;
        (void)cursor_be24(&c);
        const uint8_t *body = cursor_take(&c, len);
        (void)cursor_be32(&c);
        if (!cursor_ok(&c)) {
            return error_set(err, WEIR_EPROTO, "rtmp: malformed aggregate message");
        }
        if (first) {
            offset = m->timestamp_ms - time;
            first = false;
        }
        if (type == MSG_AUDIO || type == MSG_VIDEO) {
            give_media(r, type, time + offset, body, len);
        }
    }
    return 0;
}

static int handle_u32(struct rtmp *r, const struct rtmp_message *m, struct error *err)
{
    if (m->len < 4) {
        return error_set(err, WEIR_EPROTO, "rtmp: control message %u of %zu bytes", m->type,
                         m->len);
    }
    uint32_t value = load_be32(m->body);
    switch (m->type) {
    case MSG_SET_CHUNK_SIZE:
        return rtmp_reader_set_chunk_size(&r->reader, value & 0x7fffffff, err);
    case MSG_ABORT:
        rtmp_reader_abort(&r->reader, value);
        return 0;
    case MSG_WINDOW_ACK_SIZE:
        r->peer_window = value == 0 ? WINDOW_BYTES : value;
        return 0;
    default:
        return 0; /* what the peer acknowledges doesn't matter: we send next to nothing */
    }
}

static int handle_message(struct rtmp *r, const struct rtmp_message *m, struct error *err)
{
    struct cursor c;
    cursor_init(&c, m->body, m->len);
    switch (m->type) {
    case MSG_SET_CHUNK_SIZE:
    case MSG_ABORT:
    case MSG_ACKNOWLEDGEMENT:
    case MSG_WINDOW_ACK_SIZE:
        return handle_u32(r, m, err);
    case MSG_USER_CONTROL:
        handle_user_control(r, &c);
        return 0;
    case MSG_AUDIO:
    case MSG_VIDEO:
        give_media(r, m->type, m->timestamp_ms, m->body, m->len);
        return 0;
    case MSG_COMMAND_AMF3:
        (void)cursor_u8(&c); /* a zero: AMF0 follows */
        return handle_command(r, &c, err);
    case MSG_COMMAND_AMF0:
        return handle_command(r, &c, err);
    case MSG_DATA_AMF3:
        (void)cursor_u8(&c);
        return handle_data(r, &c);
    case MSG_DATA_AMF0:
        return handle_data(r, &c);
    case MSG_AGGREGATE:
        return handle_aggregate(r, m, err);
    default:
        return 0; /* shared objects and what is not defined */
    }
}

/* --- Receiving
 * -------------------------------------------------------------------------------------------------
 */

/* The plain handshake. A client that sent a version (ffmpeg, Flash) offers one with digests and
 * takes version 0 in S1 as no. */
static int handshake_c1(struct rtmp *r, struct cursor *in, struct error *err)
{
    if (in->data[in->pos] != RTMP_VERSION) {
        return error_set(err, WEIR_EPROTO, "rtmp: version %u (not an RTMP client?)",
                         in->data[in->pos]);
    }
    if (cursor_left(in) < 1 + HANDSHAKE_SIZE) {
        return 0;
    }
    (void)cursor_u8(in);
    const uint8_t *c1 = cursor_take(in, HANDSHAKE_SIZE);
    bytes_put_u8(&r->out, RTMP_VERSION);
    bytes_put_be32(&r->out, 0); /* time */
    bytes_put_be32(&r->out, 0); /* version */
    for (uint32_t i = 8; i < HANDSHAKE_SIZE; i++) {
        bytes_put_u8(&r->out, (uint8_t)(i * 167 + 13)); /* "random": only ever echoed */
    }
    bytes_put(&r->out, c1, HANDSHAKE_SIZE);
    r->state = RTMP_WAIT_C2;
    return 1;
}

static int step(struct rtmp *r, struct cursor *in, struct error *err)
{
    if (cursor_left(in) == 0 && r->state <= RTMP_WAIT_C2) {
        return 0;
    }
    if (r->state == RTMP_WAIT_C1) {
        return handshake_c1(r, in, err);
    }
    if (r->state == RTMP_WAIT_C2) {
        if (cursor_left(in) < HANDSHAKE_SIZE) {
            return 0;
        }
        (void)cursor_take(in, HANDSHAKE_SIZE);
        r->state = RTMP_OPEN;
        return 1;
    }
    struct rtmp_message m;
    int rc = rtmp_reader_next(&r->reader, in, &m, err);
    if (rc > 0) {
        int handled = handle_message(r, &m, err);
        return handled < 0 ? handled : 1;
    }
    return rc;
}

/* Steps until more input or the caller's answer is needed. */
static int parse(struct rtmp *r, struct cursor *in, struct error *err)
{
    int rc = 1;
    r->parsing = true;
    while (rc > 0 && rtmp_wants_input(r)) {
        rc = step(r, in, err);
        if (rc >= 0 && bytes_error(&r->out) != 0) {
            rc = error_set(err, bytes_error(&r->out), "rtmp: the peer does not read its replies");
        }
    }
    r->parsing = false;
    if (rc >= 0 && r->state == RTMP_REFUSED) {
        rc = error_set(err, WEIR_ECLOSED, "rtmp: publish refused");
    }
    return rc < 0 ? rc : 0;
}

static int parse_kept(struct rtmp *r, struct error *err)
{
    struct cursor c;
    cursor_init(&c, r->in.data, r->in.len);
    int rc = parse(r, &c, err);
    bytes_consume(&r->in, c.pos);
    return rc;
}

static void acknowledge(struct rtmp *r, size_t n)
{
    r->received += (uint32_t)n; /* wraps at 4 GiB, as the field does */
    r->unacknowledged += (uint32_t)n;
    /* Half the window: an encoder that waits for us at its end never has to. */
    if (r->state >= RTMP_OPEN && r->unacknowledged >= r->peer_window / 2) {
        put_control_u32(r, MSG_ACKNOWLEDGEMENT, r->received);
        r->unacknowledged = 0;
    }
}

int rtmp_receive(struct rtmp *r, const uint8_t *data, size_t n, struct error *err)
{
    assert(!r->parsing);
    if (r->state == RTMP_REFUSED) {
        return error_set(err, WEIR_ECLOSED, "rtmp: publish refused");
    }
    acknowledge(r, n);
    if (r->in.len == 0 && rtmp_wants_input(r)) {
        struct cursor c;
        cursor_init(&c, data, n);
        int rc = parse(r, &c, err);
        if (rc < 0) {
            return rc;
        }
        data += c.pos;
        n -= c.pos;
    }
    if (n == 0) {
        return 0;
    }
    bool fresh = r->in.len == 0; /* what is left then was parsed as far as it goes */
    bytes_put(&r->in, data, n);
    if (bytes_error(&r->in) != 0) {
        return error_set(err, bytes_error(&r->in), "rtmp: %zu bytes unparsed", r->in.len + n);
    }
    return fresh || !rtmp_wants_input(r) ? 0 : parse_kept(r, err);
}

int rtmp_publish_accept(struct rtmp *r, struct error *err)
{
    assert(r->state == RTMP_ASKED);
    r->state = RTMP_PUBLISHING;
    r->reader.assembly_max = RTMP_ASSEMBLY_MAX;
    put_user_control(r, CONTROL_STREAM_BEGIN, MESSAGE_STREAM_ID);
    send_status(r, "status", "NetStream.Publish.Start", "Publishing.");
    return r->parsing ? 0 : parse_kept(r, err);
}

void rtmp_publish_reject(struct rtmp *r, const char *description)
{
    assert(r->state == RTMP_ASKED);
    r->state = RTMP_REFUSED;
    send_status(r, "error", "NetStream.Publish.BadName", description);
}

void rtmp_publish_abort(struct rtmp *r, const char *description)
{
    if (r->state == RTMP_PUBLISHING) {
        send_status(r, "error", "NetStream.Publish.Failed", description);
    }
    r->state = RTMP_REFUSED;
}
