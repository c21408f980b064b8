/* Writing JSON text into a buffer. Errors stick in the buffer. */
#ifndef NODES_CHAT_JSON_OUT_H
#define NODES_CHAT_JSON_OUT_H

#include "base/bytes.h"

/* A string in quotes, escaped. `text` is UTF-8. */
void json_put_string(struct bytes *out, const char *text);
/* ,"name":"text" */
void json_put_member(struct bytes *out, const char *name, const char *text);
/* ,"name":value */
void json_put_number(struct bytes *out, const char *name, int64_t value);

#endif
