/* Text in records and in stored values. Pure; any thread. */
#ifndef VIEWS_TEXT_H
#define VIEWS_TEXT_H

#include "base/bytes.h"

/* UTF-8 (RFC 3629: no surrogates, nothing overlong, up to U+10FFFF) without C0 and C1 control
 * characters. *ret_code_points may be NULL. */
bool text_valid(const char *s, size_t len, size_t *ret_code_points);
/* Empty is fine; at most max bytes. */
bool text_valid_within(const char *s, size_t max);
/* [a-z0-9_]{min,max} */
bool text_is_word(const char *s, size_t min, size_t max);

/* Into a field of `size` bytes, the rest zeroed; it must fit. */
void text_copy(char *out, size_t size, const char *s);
/* A string and its NUL. */
void text_put(struct bytes *out, const char *s);
/* Reads one back into `out` of `size` bytes; a longer one makes the cursor's error stick. */
void text_take(struct cursor *c, char *out, size_t size);
/* Same, borrowed from the cursor's memory; NULL when it failed. */
const char *text_borrow(struct cursor *c);

#endif
