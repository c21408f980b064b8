/* Byte buffers and bounded cursors.
 *
 * struct bytes: a growable buffer with a hard limit. Writing past the limit, or out of memory,
 * makes the error stick (bytes_error) and later writes do nothing: write it all, test once. struct
 * cursor: a reader over borrowed memory. A read past the end makes the error stick and returns
 * zeros: read it all, test once. All sizes in bytes. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *data;
    size_t len, cap, max;
    int error; /* 0, WEIR_ETOOBIG or WEIR_ENOMEM; sticks until bytes_reset */
};

/* `max` is the limit in bytes. Nothing is allocated yet. */
void bytes_init(struct bytes *b, size_t max);
void bytes_close(struct bytes *b);
/* Empty, error cleared, memory kept. */
void bytes_reset(struct bytes *b);
int bytes_error(const struct bytes *b);
/* Room for `n` more bytes at the end; NULL (and the error sticks) when there is none. Does not
 * change len. */
uint8_t *bytes_reserve(struct bytes *b, size_t n);
void bytes_put(struct bytes *b, const void *data, size_t n);
void bytes_put_u8(struct bytes *b, uint8_t v);
void bytes_put_le16(struct bytes *b, uint16_t v);
void bytes_put_le32(struct bytes *b, uint32_t v);
void bytes_put_le64(struct bytes *b, uint64_t v);
void bytes_put_be16(struct bytes *b, uint16_t v);
void bytes_put_be24(struct bytes *b, uint32_t v);
void bytes_put_be32(struct bytes *b, uint32_t v);
void bytes_put_be64(struct bytes *b, uint64_t v);
/* Signed zigzag varint as in Kafka records and protobuf sint64. */
void bytes_put_varint(struct bytes *b, int64_t v);
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drop the first n bytes (n <= len), moving the rest down. */
void bytes_consume(struct bytes *b, size_t n);

struct cursor {
    const uint8_t *data;
    size_t len, pos;
    bool failed;
};

void cursor_init(struct cursor *c, const void *data, size_t len);
static inline bool cursor_ok(const struct cursor *c)
{
    return !c->failed;
}
size_t cursor_left(const struct cursor *c);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);
uint16_t cursor_be16(struct cursor *c);
uint32_t cursor_be24(struct cursor *c);
uint32_t cursor_be32(struct cursor *c);
uint64_t cursor_be64(struct cursor *c);
int64_t cursor_varint(struct cursor *c);
/* A pointer to the next n bytes, borrowed from the underlying memory; NULL when there are fewer. */
const uint8_t *cursor_take(struct cursor *c, size_t n);

/* Unaligned loads and stores on plain memory. */
uint16_t load_le16(const void *p);
uint32_t load_le32(const void *p);
uint64_t load_le64(const void *p);
uint16_t load_be16(const void *p);
uint32_t load_be32(const void *p);
uint64_t load_be64(const void *p);
void store_le16(void *p, uint16_t v);
void store_le32(void *p, uint32_t v);
void store_le64(void *p, uint64_t v);
void store_be16(void *p, uint16_t v);
void store_be32(void *p, uint32_t v);
void store_be64(void *p, uint64_t v);

#endif
