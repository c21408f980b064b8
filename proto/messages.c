#include "proto/messages.h"

#include <assert.h>

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *head;
} messages[MESSAGE_TYPES] = {
#define X(type, number, text, message) [type] = {text, &weir__##message##__descriptor},
    MESSAGE_MAP(X)
#undef X
};

const char *message_name(unsigned type)
{
    return type < MESSAGE_TYPES && messages[type].name != NULL ? messages[type].name : "unknown";
}

int message_unpack(const struct frame *frame, ProtobufCMessage **ret_message, struct error *err)
{
    if (frame->type >= MESSAGE_TYPES || messages[frame->type].head == NULL) {
        return error_set(err, WEIR_EPROTO, "unknown message type %u", frame->type);
    }
    if (frame->head_len > MESSAGE_HEAD_MAX) {
        return error_set(err, WEIR_ETOOBIG, "message %s: head of %u bytes, limit %u",
                         messages[frame->type].name, frame->head_len, MESSAGE_HEAD_MAX);
    }
    ProtobufCMessage *m =
        protobuf_c_message_unpack(messages[frame->type].head, NULL, frame->head_len, frame->head);
    if (m == NULL) {
        return error_set(err, WEIR_EPROTO, "message %s: head of %u bytes can't be parsed",
                         messages[frame->type].name, frame->head_len);
    }
    *ret_message = m;
    return 0;
}

void message_free(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

void message_pack(struct bytes *out, const ProtobufCMessage *message)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    uint8_t *p = n > 0 ? bytes_reserve(out, n) : NULL;
    if (p != NULL) {
        out->len += protobuf_c_message_pack(message, p);
    }
}

size_t message_begin(struct bytes *out, const ProtobufCMessage *head)
{
    size_t start = out->len;
    if (bytes_reserve(out, FRAME_HEADER_SIZE) != NULL) {
        out->len += FRAME_HEADER_SIZE;
    }
    message_pack(out, head);
    return start;
}

void message_end(struct bytes *out, size_t start, enum message_type type, uint64_t correlation,
                 size_t head_len)
{
    if (bytes_error(out) != 0) {
        return;
    }
    assert(out->len >= start + FRAME_HEADER_SIZE + head_len);
    uint8_t *frame = out->data + start;
    size_t attachment = out->len - start - FRAME_HEADER_SIZE - head_len;
    if (attachment > UINT32_MAX || head_len > UINT32_MAX) {
        out->error = WEIR_ETOOBIG;
        return;
    }
    int rv = frame_encode_header(&(struct frame){.type = (uint16_t)type,
                                                 .correlation = correlation,
                                                 .head = frame + FRAME_HEADER_SIZE,
                                                 .head_len = (uint32_t)head_len,
                                                 .attachment_len = (uint32_t)attachment},
                                 frame, NULL);
    if (rv != 0) {
        out->error = rv;
    }
}

void message_put_attached(struct bytes *out, enum message_type type, uint64_t correlation,
                          const ProtobufCMessage *head, const void *attachment, size_t len)
{
    size_t start = message_begin(out, head);
    size_t head_len = bytes_error(out) == 0 ? out->len - start - FRAME_HEADER_SIZE : 0;
    bytes_put(out, attachment, len);
    message_end(out, start, type, correlation, head_len);
}

void message_put(struct bytes *out, enum message_type type, uint64_t correlation,
                 const ProtobufCMessage *head)
{
    message_put_attached(out, type, correlation, head, NULL, 0);
}
