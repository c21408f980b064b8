#include "nodes/chat/json_out.h"

#include <string.h>

static void put_text(struct bytes *out, const char *text)
{
    bytes_put(out, text, strlen(text));
}

static void put_escaped(struct bytes *out, unsigned char ch)
{
    static const char hex[] = "0123456789abcdef";
    char unicode[6] = {'\\', 'u', '0', '0', hex[ch >> 4], hex[ch & 15]};
    if (ch == '"' || ch == '\\') {
        char pair[2] = {'\\', (char)ch};
        bytes_put(out, pair, 2);
        return;
    }
    bytes_put(out, unicode, sizeof(unicode));
}

void json_put_string(struct bytes *out, const char *text)
{
    bytes_put_u8(out, '"');
    const char *from = text;
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char ch = (unsigned char)*p;
        if (ch >= 0x20 && ch != '"' && ch != '\\' && ch != 0x7f) {
            continue;
        }
        bytes_put(out, from, (size_t)(p - from));
        put_escaped(out, ch);
        from = p + 1;
    }
    put_text(out, from);
    bytes_put_u8(out, '"');
}

void json_put_member(struct bytes *out, const char *name, const char *text)
{
    put_text(out, ",\"");
    put_text(out, name);
    put_text(out, "\":");
    json_put_string(out, text);
}

void json_put_number(struct bytes *out, const char *name, int64_t value)
{
    bytes_printf(out, ",\"%s\":%lld", name, (long long)value);
}
