#include "base/bytes.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define BYTES_CAP_MIN 64

void bytes_init(struct bytes *b, size_t max)
{
    *b = (struct bytes){.max = max};
}

void bytes_close(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){.max = b->max};
}

void bytes_reset(struct bytes *b)
{
    b->len = 0;
    b->error = 0;
}

int bytes_error(const struct bytes *b)
{
    return b->error;
}

uint8_t *bytes_reserve(struct bytes *b, size_t n)
{
    if (b->error != 0) {
        return NULL;
    }
    if (n > b->max || b->len > b->max - n) {
        b->error = WEIR_ETOOBIG;
        return NULL;
    }
    if (b->len + n > b->cap) {
        size_t cap = b->cap < BYTES_CAP_MIN ? BYTES_CAP_MIN : b->cap;
        while (cap < b->len + n) {
            cap *= 2;
        }
        uint8_t *data = realloc(b->data, cap);
        if (data == NULL) {
            b->error = WEIR_ENOMEM;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void bytes_put(struct bytes *b, const void *data, size_t n)
{
    uint8_t *p = n > 0 ? bytes_reserve(b, n) : NULL; /* an empty buffer has no memory to point to */
    if (p != NULL) {
        memcpy(p, data, n);
        b->len += n;
    }
}

void bytes_put_u8(struct bytes *b, uint8_t v)
{
    bytes_put(b, &v, 1);
}

/* The fixed-width pairs differ in width and order only. */
#define FIXED(order, bits)                                                                         \
    uint##bits##_t load_##order##bits(const void *p)                                               \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof(v));                                                                  \
        return order##bits##toh(v);                                                                \
    }                                                                                              \
    void store_##order##bits(void *p, uint##bits##_t v)                                            \
    {                                                                                              \
        v = hto##order##bits(v);                                                                   \
        memcpy(p, &v, sizeof(v));                                                                  \
    }                                                                                              \
    void bytes_put_##order##bits(struct bytes *b, uint##bits##_t v)                                \
    {                                                                                              \
        v = hto##order##bits(v);                                                                   \
        bytes_put(b, &v, sizeof(v));                                                               \
    }                                                                                              \
    uint##bits##_t cursor_##order##bits(struct cursor *c)                                          \
    {                                                                                              \
        const uint8_t *p = cursor_take(c, sizeof(uint##bits##_t));                                 \
        return (uint##bits##_t)(p != NULL ? load_##order##bits(p) : 0);                            \
    }

FIXED(le, 16)
FIXED(le, 32)
FIXED(le, 64)
FIXED(be, 16)
FIXED(be, 32)
FIXED(be, 64)

void bytes_put_be24(struct bytes *b, uint32_t v)
{
    uint8_t p[3] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    bytes_put(b, p, sizeof(p));
}

void bytes_put_varint(struct bytes *b, int64_t v)
{
    uint64_t u = ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
    uint8_t out[10];
    size_t n = 0;
    while (u >= 0x80) {
        out[n++] = (uint8_t)(u | 0x80);
        u >>= 7;
    }
    out[n++] = (uint8_t)u;
    bytes_put(b, out, n);
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    uint8_t *p = n < 0 ? NULL : bytes_reserve(b, (size_t)n + 1);
    if (p != NULL) {
        (void)vsnprintf((char *)p, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void bytes_consume(struct bytes *b, size_t n)
{
    if (n > 0 && n < b->len) {
        memmove(b->data, b->data + n, b->len - n);
    }
    b->len -= n;
}

void cursor_init(struct cursor *c, const void *data, size_t len)
{
    *c = (struct cursor){.data = data, .len = len};
}

size_t cursor_left(const struct cursor *c)
{
    return c->failed ? 0 : c->len - c->pos;
}

const uint8_t *cursor_take(struct cursor *c, size_t n)
{
    if (c->failed || n > c->len - c->pos) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->data + c->pos;
    c->pos += n;
    return p;
}

uint8_t cursor_u8(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 1);
    return p != NULL ? *p : 0;
}

uint32_t cursor_be24(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 3);
    return p != NULL ? (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2] : 0;
}

int64_t cursor_varint(struct cursor *c)
{
    uint64_t u = 0;
    /* One byte is what nearly all lengths and deltas of records have. */
    if (!c->failed && c->pos < c->len && c->data[c->pos] < 0x80) {
        u = c->data[c->pos++];
        return (int64_t)(u >> 1) ^ -(int64_t)(u & 1);
    }
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte = cursor_u8(c);
        if (shift == 63 && byte > 1) {
            break; /* the tenth byte holds one bit */
        }
        u |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return (int64_t)(u >> 1) ^ -(int64_t)(u & 1);
        }
    }
    c->failed = true;
    return 0;
}
