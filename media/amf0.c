#include "media/amf0.h"

#include <assert.h>
#include <string.h>

static struct amf0_string read_string(struct cursor *c, size_t len)
{
    const uint8_t *p = cursor_take(c, len);
    return (struct amf0_string){(const char *)p, p != NULL ? len : 0};
}

static double read_number(struct cursor *c)
{
    uint64_t bits = cursor_be64(c);
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static void read_value(struct cursor *c, unsigned depth, struct amf0_value *value,
                       amf0_property_cb property, void *data);

/* Properties up to the end marker (an empty name and type 9). */
static void read_properties(struct cursor *c, unsigned depth, amf0_property_cb property, void *data)
{
    while (cursor_ok(c)) {
        struct amf0_string name = read_string(c, cursor_be16(c));
        if (name.len == 0 && cursor_left(c) > 0 && c->data[c->pos] == AMF0_OBJECT_END) {
            (void)cursor_u8(c);
            return;
        }
        struct amf0_value value;
        read_value(c, depth, &value, NULL, NULL);
        if (cursor_ok(c) && property != NULL) {
            property(data, name, &value);
        }
    }
}

static void read_strict_array(struct cursor *c, unsigned depth)
{
    uint32_t n = cursor_be32(c);
    struct amf0_value ignored;
    /* A value takes at least a byte, so a lying count ends with the message. */
    for (uint32_t i = 0; i < n && cursor_ok(c); i++) {
        read_value(c, depth, &ignored, NULL, NULL);
    }
}

static void read_value(struct cursor *c, unsigned depth, struct amf0_value *value,
                       amf0_property_cb property, void *data)
{
    *value = (struct amf0_value){.type = cursor_u8(c)};
    if (depth > AMF0_DEPTH_MAX) {
        c->failed = true;
    }
    if (!cursor_ok(c)) {
        return;
    }
    switch (value->type) {
    case AMF0_NUMBER:
        value->number = read_number(c);
        break;
    case AMF0_BOOLEAN:
        value->number = cursor_u8(c) != 0;
        break;
    case AMF0_STRING:
        value->string = read_string(c, cursor_be16(c));
        break;
    case AMF0_LONG_STRING:
    case AMF0_XML:
        value->string = read_string(c, cursor_be32(c));
        break;
    case AMF0_NULL:
    case AMF0_UNDEFINED:
    case AMF0_UNSUPPORTED:
        break;
    case AMF0_REFERENCE:
        (void)cursor_be16(c);
        break;
    case AMF0_DATE:
        value->number = read_number(c);
        (void)cursor_be16(c);
        break;
    case AMF0_ECMA_ARRAY:
        (void)cursor_be32(c); /* a hint, often wrong */
        read_properties(c, depth + 1, property, data);
        break;
    case AMF0_OBJECT:
        read_properties(c, depth + 1, property, data);
        break;
    case AMF0_STRICT_ARRAY:
        read_strict_array(c, depth + 1);
        break;
    default:
        c->failed = true;
    }
}

void amf0_read(struct cursor *c, struct amf0_value *ret_value)
{
    read_value(c, 0, ret_value, NULL, NULL);
}

void amf0_read_object(struct cursor *c, amf0_property_cb property, void *data)
{
    struct amf0_value value;
    read_value(c, 0, &value, property, data);
}

bool amf0_equal(struct amf0_string s, const char *text)
{
    size_t len = strlen(text);
    return s.len == len && (len == 0 || memcmp(s.data, text, len) == 0);
}

void amf0_put_number(struct bytes *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    bytes_put_u8(b, AMF0_NUMBER);
    bytes_put_be64(b, bits);
}

void amf0_put_name(struct bytes *b, const char *s)
{
    size_t len = strlen(s);
    assert(len <= UINT16_MAX);
    bytes_put_be16(b, (uint16_t)len);
    bytes_put(b, s, len);
}

void amf0_put_string(struct bytes *b, const char *s)
{
    bytes_put_u8(b, AMF0_STRING);
    amf0_put_name(b, s);
}

void amf0_put_null(struct bytes *b)
{
    bytes_put_u8(b, AMF0_NULL);
}

void amf0_put_object_begin(struct bytes *b)
{
    bytes_put_u8(b, AMF0_OBJECT);
}

void amf0_put_object_end(struct bytes *b)
{
    bytes_put_be16(b, 0);
    bytes_put_u8(b, AMF0_OBJECT_END);
}
