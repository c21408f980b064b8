#include "views/text.h"

#include <assert.h>
#include <string.h>

/* Length of the sequence at s, its code point in *ret; 0: not UTF-8. */
static size_t utf8_next(const uint8_t *s, size_t n, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80             ? 1
                 : (s[0] & 0xe0) == 0xc0 ? 2
                 : (s[0] & 0xf0) == 0xe0 ? 3
                 : (s[0] & 0xf8) == 0xf0 ? 4
                                         : 0;
    if (len == 0 || len > n) {
        return 0;
    }
    uint32_t cp = len == 1 ? s[0] : s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        cp = cp << 6 | (s[i] & 0x3fu);
    }
    if (cp < least[len] || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) {
        return 0;
    }
    *ret = cp;
    return len;
}

bool text_valid(const char *s, size_t len, size_t *ret_code_points)
{
    size_t count = 0;
    for (size_t i = 0; i < len; count++) {
        uint32_t cp = 0;
        size_t n = utf8_next((const uint8_t *)s + i, len - i, &cp);
        if (n == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            return false;
        }
        i += n;
    }
    if (ret_code_points != NULL) {
        *ret_code_points = count;
    }
    return true;
}

bool text_valid_within(const char *s, size_t max)
{
    size_t len = strlen(s);
    return len <= max && text_valid(s, len, NULL);
}

bool text_is_word(const char *s, size_t min, size_t max)
{
    size_t n = 0;
    for (; s[n] != '\0'; n++) {
        char c = s[n];
        if (n == max || !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) {
            return false;
        }
    }
    return n >= min;
}

void text_copy(char *out, size_t size, const char *s)
{
    size_t n = strlen(s);
    assert(n < size);
    memcpy(out, s, n);
    memset(out + n, 0, size - n);
}

void text_put(struct bytes *out, const char *s)
{
    bytes_put(out, s, strlen(s) + 1);
}

const char *text_borrow(struct cursor *c)
{
    size_t left = cursor_left(c);
    const uint8_t *start = c->failed ? NULL : c->data + c->pos;
    const uint8_t *end = start == NULL || left == 0 ? NULL : memchr(start, 0, left);
    if (end == NULL) {
        c->failed = true;
        return NULL;
    }
    return (const char *)cursor_take(c, (size_t)(end - start) + 1);
}

void text_take(struct cursor *c, char *out, size_t size)
{
    const char *s = text_borrow(c);
    size_t n = s == NULL ? 0 : strlen(s);
    if (n >= size) {
        c->failed = true;
        n = 0;
    }
    memcpy(out, s == NULL ? "" : s, n);
    out[n] = '\0';
}
