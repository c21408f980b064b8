#include "proto/print.h"

#include <string.h>

#include "base/error.h"
#include "proto/accounts.pb-c.h"
#include "proto/chat.pb-c.h"
#include "proto/groups.pb-c.h"
#include "proto/ledger.pb-c.h"
#include "proto/lifecycle.pb-c.h"

static const struct {
    const char *topic;
    const ProtobufCMessageDescriptor *descriptor;
} topics[] = {
    {"accounts", &weir__accounts_record__descriptor},
    {"lifecycle", &weir__lifecycle_record__descriptor},
    {"chat", &weir__chat_record__descriptor},
    {"ledger", &weir__ledger_record__descriptor},
    {"groups", &weir__groups_record__descriptor},
};

static const ProtobufCMessageDescriptor *descriptor_of(const char *topic)
{
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        if (strcmp(topics[i].topic, topic) == 0) {
            return topics[i].descriptor;
        }
    }
    return NULL;
}

bool record_known(const char *topic)
{
    return descriptor_of(topic) != NULL;
}

static void put_message(struct bytes *out, const ProtobufCMessage *message);

/* Length of the UTF-8 sequence at s (RFC 3629), 0 when it is none. */
static size_t utf8_length(const uint8_t *s, size_t left)
{
    static const struct {
        uint8_t first, last, second_min, second_max, length;
    } rows[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (s[0] < rows[i].first || s[0] > rows[i].last || left < rows[i].length) {
            continue;
        }
        bool good = s[1] >= rows[i].second_min && s[1] <= rows[i].second_max;
        for (size_t k = 2; k < rows[i].length; k++) {
            good &= (s[k] & 0xc0) == 0x80;
        }
        return good ? rows[i].length : 0;
    }
    return 0;
}

/* What is not UTF-8 is shown byte by byte: the output stays JSON whatever a record holds. */
static void put_string(struct bytes *out, const char *text)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t left = strlen(text);
    bytes_put_u8(out, '"');
    while (left > 0) {
        size_t n = s[0] < 0x80 ? 1 : utf8_length(s, left);
        if (n == 0 || s[0] < 0x20 || s[0] == 0x7f) {
            n = 1;
            bytes_printf(out, "\\u%04x", s[0]);
        } else {
            if (s[0] == '"' || s[0] == '\\') {
                bytes_put_u8(out, '\\');
            }
            bytes_put(out, s, n);
        }
        s += n;
        left -= n;
    }
    bytes_put_u8(out, '"');
}

static void put_hex(struct bytes *out, const ProtobufCBinaryData *data)
{
    bytes_put_u8(out, '"');
    for (size_t i = 0; i < data->len; i++) {
        bytes_printf(out, "%02x", data->data[i]);
    }
    bytes_put_u8(out, '"');
}

/* `at` is the field's memory; for repeated fields one element's. */
static void put_value(struct bytes *out, ProtobufCType type, const void *at)
{
    switch (type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        bytes_printf(out, "%u", *(const uint32_t *)at);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
        bytes_printf(out, "%lld", (long long)*(const int64_t *)at);
        return;
    case PROTOBUF_C_TYPE_UINT64:
        bytes_printf(out, "%llu", (unsigned long long)*(const uint64_t *)at);
        return;
    case PROTOBUF_C_TYPE_FIXED64:
        bytes_printf(out, "\"%016llx\"", (unsigned long long)*(const uint64_t *)at);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        bytes_printf(out, "%s", *(const protobuf_c_boolean *)at != 0 ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_STRING:
        put_string(out, *(const char *const *)at);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        put_hex(out, at);
        return;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_message(out, *(const ProtobufCMessage *const *)at);
        return;
    default: /* none of our records has any other */
        bytes_printf(out, "null");
        return;
    }
}

static void put_repeated(struct bytes *out, const ProtobufCFieldDescriptor *field, size_t n,
                         const uint8_t *elements)
{
    bytes_put_u8(out, '[');
    for (size_t i = 0; i < n; i++) {
        /* The records' repeated fields are strings and messages: arrays of pointers. */
        bytes_printf(out, "%s", i == 0 ? "" : ",");
        put_value(out, field->type, elements + i * sizeof(void *));
    }
    bytes_put_u8(out, ']');
}

static bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *)message;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return *(const uint32_t *)(const void *)(base + field->quantifier_offset) == field->id;
    }
    return field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED ||
           *(const void *const *)(const void *)(base + field->offset) != NULL;
}

static void put_message(struct bytes *out, const ProtobufCMessage *message)
{
    const uint8_t *base = (const uint8_t *)message;
    const char *separator = "";
    bytes_put_u8(out, '{');
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!is_set(message, field)) {
            continue;
        }
        bytes_printf(out, "%s\"%s\":", separator, field->name);
        separator = ",";
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            put_repeated(out, field,
                         *(const size_t *)(const void *)(base + field->quantifier_offset),
                         *(const uint8_t *const *)(const void *)(base + field->offset));
        } else {
            put_value(out, field->type, base + field->offset);
        }
    }
    bytes_put_u8(out, '}');
}

int record_print(const char *topic, const void *value, size_t len, struct bytes *out)
{
    const ProtobufCMessageDescriptor *descriptor = descriptor_of(topic);
    if (descriptor == NULL) {
        return WEIR_ENOTFOUND;
    }
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, len, value);
    if (message == NULL) {
        return WEIR_ECORRUPT;
    }
    size_t before = out->len;
    put_message(out, message);
    protobuf_c_message_free_unpacked(message, NULL);
    if (bytes_error(out) != 0) {
        out->len = before;
    }
    return bytes_error(out);
}
