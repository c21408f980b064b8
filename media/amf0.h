/* AMF0, the encoding of RTMP commands and of onMetaData (Adobe, "Action Message Format -- AMF 0",
 * 2007).
 *
 * Reading is by walking a cursor: nothing is allocated, strings are borrowed from the message.
 * Nesting deeper than AMF0_DEPTH_MAX and unknown type markers make the cursor fail. Pure; any
 * thread. */
#ifndef MEDIA_AMF0_H
#define MEDIA_AMF0_H

#include "base/bytes.h"

#define AMF0_DEPTH_MAX 8

enum amf0_type {
    AMF0_NUMBER = 0,
    AMF0_BOOLEAN = 1,
    AMF0_STRING = 2,
    AMF0_OBJECT = 3,
    AMF0_NULL = 5,
    AMF0_UNDEFINED = 6,
    AMF0_REFERENCE = 7,
    AMF0_ECMA_ARRAY = 8,
    AMF0_OBJECT_END = 9,
    AMF0_STRICT_ARRAY = 10,
    AMF0_DATE = 11,
    AMF0_LONG_STRING = 12,
    AMF0_UNSUPPORTED = 13,
    AMF0_XML = 15,
};

/* A borrowed string, not terminated. */
struct amf0_string {
    const char *data;
    size_t len;
};

struct amf0_value {
    uint8_t type;  /* enum amf0_type; objects and arrays come with no content */
    double number; /* NUMBER, and BOOLEAN as 0 or 1 */
    struct amf0_string string;
};

/* Reads one value. Objects and arrays are skipped over. */
void amf0_read(struct cursor *c, struct amf0_value *ret_value);

/* Reads one value; if it is an object or an ECMA array, `property` is told each of its own scalar
 * properties (not those of objects inside). Anything else is read and ignored. */
typedef void (*amf0_property_cb)(void *data, struct amf0_string name,
                                 const struct amf0_value *value);
void amf0_read_object(struct cursor *c, amf0_property_cb property, void *data);

bool amf0_equal(struct amf0_string s, const char *text);

void amf0_put_number(struct bytes *b, double v);
void amf0_put_string(struct bytes *b, const char *s); /* at most 65535 bytes */
void amf0_put_null(struct bytes *b);
void amf0_put_object_begin(struct bytes *b);
/* Name of the next property; its value follows. */
void amf0_put_name(struct bytes *b, const char *s);
void amf0_put_object_end(struct bytes *b);

#endif
