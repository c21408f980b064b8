#include "net/http_parse.h"

#include <string.h>
#include <strings.h>

#define CHUNK_LINE_MAX    256
#define CHUNK_TRAILER_MAX 4096
#define CHUNK_DIGITS_MAX  12

/* RFC 9110 section 5.6.2. */
static bool is_token_char(unsigned char ch)
{
    if (ch >= '0' && ch <= '9') {
        return true;
    }
    if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') {
        return true;
    }
    return ch != 0 && strchr("!#$%&'*+-.^_`|~", ch) != NULL;
}

static bool is_value_char(unsigned char ch)
{
    return ch == '\t' || (ch >= 0x20 && ch != 0x7f);
}

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9') {
        return ch - '0';
    }
    char low = (char)(ch | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

int http_head_end(const uint8_t *data, size_t n, size_t *scan, const char **ret_why)
{
    size_t at = *scan;
    const uint8_t *nl;
    while (at < n && (nl = memchr(data + at, '\n', n - at)) != NULL) {
        size_t i = (size_t)(nl - data);
        if (i == 0 || data[i - 1] != '\r') {
            *ret_why = "a line ends in LF without CR";
            return -400;
        }
        if (i == 1 || (i >= 3 && data[i - 2] == '\n')) {
            const uint8_t *line = memchr(data, '\n', i + 1);
            size_t line_len = (size_t)(line - data) + 1;
            if (line_len > HTTP_LINE_MAX) {
                break;
            }
            if (i + 1 - line_len > HTTP_HEADERS_MAX) {
                *ret_why = "header fields are longer than 16384 bytes";
                return -431;
            }
            return (int)(i + 1);
        }
        at = i + 1;
    }
    *scan = n;
    if (n >= HTTP_LINE_MAX && memchr(data, '\n', HTTP_LINE_MAX) == NULL) {
        *ret_why = "the request line is longer than 8192 bytes";
        return -414;
    }
    if (n > HTTP_HEAD_MAX) {
        *ret_why = "header fields are longer than 16384 bytes";
        return -431;
    }
    return 0;
}

int http_percent_decode(char *out, const char *in, size_t n, bool plus)
{
    size_t o = 0;
    for (size_t i = 0; i < n; i++) {
        char ch = in[i];
        if (ch == '%') {
            int hi = n - i > 2 ? hex_digit(in[i + 1]) : -1;
            int lo = hi >= 0 ? hex_digit(in[i + 2]) : -1;
            if (lo < 0 || (hi | lo) == 0) {
                return -1;
            }
            ch = (char)(hi << 4 | lo);
            i += 2;
        } else if (plus && ch == '+') {
            ch = ' ';
        }
        out[o++] = ch;
    }
    out[o] = '\0';
    return (int)o;
}

/* Drops empty and "." segments in place. False: a ".." segment. */
static bool path_normalise(char *path)
{
    char *out = path;
    const char *in = path;
    while (*in != '\0') {
        size_t n = strcspn(in + 1, "/"); /* *in is '/' */
        const char *segment = in + 1;
        in += n + 1;
        if (n == 2 && memcmp(segment, "..", 2) == 0) {
            return false;
        }
        bool last = *in == '\0';
        if ((n == 0 && !last) || (n == 1 && segment[0] == '.')) {
            if (last) {
                *out++ = '/';
            }
            continue;
        }
        *out++ = '/';
        memmove(out, segment, n);
        out += n;
    }
    *out = '\0';
    return true;
}

static int bad(const char **ret_why, const char *why)
{
    *ret_why = why;
    return 400;
}

/* The target's path and query, strings in place. */
static int parse_target(char *text, char *target, struct http_head *h, const char **ret_why)
{
    if (strncasecmp(target, "http://", 7) == 0) {
        target = strchr(target + 7, '/');
        if (target == NULL) {
            return bad(ret_why, "the target names no path");
        }
    }
    if (target[0] != '/') {
        return bad(ret_why, "the target is not a path");
    }
    char *query = strchr(target, '?');
    if (query != NULL) {
        *query++ = '\0';
        /* Decoded only when asked for, but refused now. */
        for (const char *p = query; (p = strchr(p, '%')) != NULL; p += 3) {
            if (hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0 || (p[1] == '0' && p[2] == '0')) {
                return bad(ret_why, "bad percent-encoding in the query");
            }
        }
        h->query = (uint16_t)(query - text);
    }
    for (const char *p = target; (p = strchr(p, '%')) != NULL; p++) {
        if (p[1] == '2' && (p[2] | 0x20) == 'f') {
            return bad(ret_why, "an encoded slash in the path");
        }
    }
    if (http_percent_decode(target, target, strlen(target), false) < 0) {
        return bad(ret_why, "bad percent-encoding in the path");
    }
    for (const char *p = target; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return bad(ret_why, "a control character in the path");
        }
    }
    if (!path_normalise(target)) {
        return bad(ret_why, "\"..\" in the path");
    }
    h->path = (uint16_t)(target - text);
    return 0;
}

static int parse_version(const char *p, struct http_head *h, const char **ret_why)
{
    if (strncmp(p, "HTTP/", 5) != 0) {
        return bad(ret_why, "the request line is not METHOD SP TARGET SP HTTP/1.1");
    }
    if (strcmp(p + 5, "1.1") != 0 && strcmp(p + 5, "1.0") != 0) {
        *ret_why = "only HTTP/1.1 and HTTP/1.0 are spoken here";
        return 505;
    }
    h->minor = (uint8_t)(p[7] - '0');
    return 0;
}

static int parse_request_line(char *text, size_t len, struct http_head *h, const char **ret_why)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return bad(ret_why, "a control character in the request line");
        }
    }
    char *sp = memchr(text, ' ', len);
    char *sp2 = sp == NULL ? NULL : strchr(sp + 1, ' ');
    if (sp2 == NULL || sp == text || sp2 == sp + 1) {
        return bad(ret_why, "the request line is not METHOD SP TARGET SP HTTP/1.1");
    }
    *sp = '\0';
    *sp2 = '\0';
    for (const char *p = text; *p != '\0'; p++) {
        if (!is_token_char((unsigned char)*p)) {
            return bad(ret_why, "bad character in the method");
        }
    }
    h->method = 0;
    int rv = parse_version(sp2 + 1, h, ret_why);
    return rv != 0 ? rv : parse_target(text, sp + 1, h, ret_why);
}

/* One field line, NUL-terminated in place of its CRLF. */
static int parse_field(char *text, char *line, size_t len, struct http_head *h,
                       const char **ret_why)
{
    size_t colon = 0;
    while (colon < len && is_token_char((unsigned char)line[colon])) {
        colon++;
    }
    if (colon == 0 || colon == len || line[colon] != ':') {
        return bad(ret_why, colon == 0 && (line[0] == ' ' || line[0] == '\t')
                                ? "a folded header field"
                                : "a header field is not NAME: VALUE");
    }
    for (size_t i = colon + 1; i < len; i++) {
        if (!is_value_char((unsigned char)line[i])) {
            return bad(ret_why, "a control character in a header field");
        }
    }
    size_t start = colon + 1, end = len;
    while (start < end && (line[start] == ' ' || line[start] == '\t')) {
        start++;
    }
    while (end > start && (line[end - 1] == ' ' || line[end - 1] == '\t')) {
        end--;
    }
    if (h->n_fields == HTTP_FIELDS_MAX) {
        *ret_why = "more than 64 header fields";
        return 431;
    }
    line[colon] = '\0';
    line[end] = '\0';
    h->fields[h->n_fields++] = (struct http_field){
        .name = (uint16_t)(line - text),
        .value = (uint16_t)(line + start - text),
    };
    return 0;
}

/* Every line behind the first. `at`: where they begin. */
static int parse_fields(char *text, size_t at, size_t n, struct http_head *h, const char **ret_why)
{
    while (at + 2 < n) { /* the empty line is left */
        char *nl = memchr(text + at, '\n', n - at);
        size_t len = (size_t)(nl - (text + at)) - 1;
        int rv = parse_field(text, text + at, len, h, ret_why);
        if (rv != 0) {
            return rv;
        }
        at += len + 2;
    }
    return 0;
}

const char *http_head_field(const struct http_head *h, const char *name)
{
    for (unsigned i = 0; i < h->n_fields; i++) {
        if (strcasecmp(h->text + h->fields[i].name, name) == 0) {
            return h->text + h->fields[i].value;
        }
    }
    return NULL;
}

static unsigned count_field(const struct http_head *h, const char *name)
{
    unsigned count = 0;
    for (unsigned i = 0; i < h->n_fields; i++) {
        count += strcasecmp(h->text + h->fields[i].name, name) == 0;
    }
    return count;
}

/* Is `token` in the comma-separated value? */
static bool has_token(const char *value, const char *token)
{
    size_t want = strlen(token);
    while (*value != '\0') {
        value += strspn(value, " \t,");
        size_t n = strcspn(value, ",");
        size_t end = n;
        while (end > 0 && (value[end - 1] == ' ' || value[end - 1] == '\t')) {
            end--;
        }
        if (end == want && strncasecmp(value, token, want) == 0) {
            return true;
        }
        value += n;
    }
    return false;
}

static int parse_content_length(const char *value, struct http_head *h, const char **ret_why)
{
    size_t n = strlen(value);
    uint64_t length = 0;
    if (n == 0 || n > 15) {
        return bad(ret_why, "bad Content-Length");
    }
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9') {
            return bad(ret_why, "bad Content-Length");
        }
        length = length * 10 + (uint64_t)(value[i] - '0');
    }
    h->content_length = length;
    h->framing = length > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    return 0;
}

/* Message body length, RFC 9112 section 6.3, for both directions. */
static int parse_framing(struct http_head *h, const char **ret_why)
{
    unsigned n_length = count_field(h, "content-length");
    unsigned n_coding = count_field(h, "transfer-encoding");
    if (n_length > 1) {
        return bad(ret_why, "more than one Content-Length");
    }
    if (n_coding > 0 && n_length > 0) {
        return bad(ret_why, "both Content-Length and Transfer-Encoding");
    }
    if (n_coding > 0 && h->minor == 0) {
        return bad(ret_why, "Transfer-Encoding in HTTP/1.0");
    }
    if (n_coding > 1 ||
        (n_coding == 1 && strcasecmp(http_head_field(h, "transfer-encoding"), "chunked") != 0)) {
        *ret_why = "a transfer coding other than chunked";
        return 501;
    }
    if (n_coding == 1) {
        h->framing = HTTP_BODY_CHUNKED;
        return 0;
    }
    return n_length == 1 ? parse_content_length(http_head_field(h, "content-length"), h, ret_why)
                         : 0;
}

static void parse_connection(struct http_head *h)
{
    bool named = false;
    h->keep_alive = h->minor == 1;
    for (unsigned i = 0; i < h->n_fields; i++) {
        if (strcasecmp(h->text + h->fields[i].name, "connection") != 0) {
            continue;
        }
        const char *value = h->text + h->fields[i].value;
        if (has_token(value, "close")) {
            h->keep_alive = false;
        } else if (h->minor == 0 && has_token(value, "keep-alive")) {
            h->keep_alive = true;
        }
        named |= has_token(value, "upgrade");
    }
    h->upgrade = named && h->minor == 1 && http_head_field(h, "upgrade") != NULL;
}

/* Head of a message begun at text[0]: the first line is cut off and *ret_len its length. */
static size_t cut_first_line(char *text, size_t n)
{
    char *nl = memchr(text, '\n', n);
    nl[-1] = '\0';
    return (size_t)(nl - text) - 1;
}

int http_request_parse(char *text, size_t n, struct http_head *ret_head, const char **ret_why)
{
    *ret_head = (struct http_head){.text = text};
    size_t line = cut_first_line(text, n);
    int rv = parse_request_line(text, line, ret_head, ret_why);
    if (rv == 0) {
        rv = parse_fields(text, line + 2, n, ret_head, ret_why);
    }
    if (rv == 0) {
        rv = parse_framing(ret_head, ret_why);
    }
    if (rv != 0) {
        return rv;
    }
    unsigned hosts = count_field(ret_head, "host");
    if (hosts > 1 || (hosts == 0 && ret_head->minor == 1)) {
        return bad(ret_why, hosts > 1 ? "more than one Host" : "no Host");
    }
    parse_connection(ret_head);
    const char *expect = http_head_field(ret_head, "expect");
    ret_head->expect_continue =
        expect != NULL && ret_head->minor == 1 && strcasecmp(expect, "100-continue") == 0;
    return 0;
}

/* HTTP/1.1 200 Reason */
static int parse_status_line(const char *line, size_t len, struct http_head *h,
                             const char **ret_why)
{
    if (len < 12 || strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
        line[8] != ' ' || (len > 12 && line[12] != ' ')) {
        return bad(ret_why, "not an HTTP/1.1 status line");
    }
    unsigned status = 0;
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9') {
            return bad(ret_why, "not an HTTP/1.1 status line");
        }
        status = status * 10 + (unsigned)(line[i] - '0');
    }
    if (status < 100) {
        return bad(ret_why, "status below 100");
    }
    h->minor = (uint8_t)(line[7] - '0');
    h->status = (uint16_t)status;
    return 0;
}

int http_response_parse(char *text, size_t n, bool head_request, struct http_head *ret_head,
                        const char **ret_why)
{
    *ret_head = (struct http_head){.text = text};
    size_t line = cut_first_line(text, n);
    int rv = parse_status_line(text, line, ret_head, ret_why);
    if (rv == 0) {
        rv = parse_fields(text, line + 2, n, ret_head, ret_why);
    }
    if (rv == 0) {
        rv = parse_framing(ret_head, ret_why);
    }
    if (rv != 0) {
        return 400;
    }
    parse_connection(ret_head);
    unsigned status = ret_head->status;
    if (head_request || status < 200 || status == 204 || status == 304) {
        ret_head->framing = HTTP_BODY_NONE;
    } else if (ret_head->framing == HTTP_BODY_NONE &&
               http_head_field(ret_head, "content-length") == NULL) {
        ret_head->framing = HTTP_BODY_TO_END;
        ret_head->keep_alive = false;
    }
    return 0;
}

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_BODY,
    CHUNK_BODY_CR,
    CHUNK_BODY_LF,
    CHUNK_TRAILER_START,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_DONE,
};

/* The line that opens a chunk: SIZE [;extension] CRLF. */
static int chunk_line_byte(struct http_chunks *c, char ch)
{
    if (++c->line > CHUNK_LINE_MAX) {
        return -1;
    }
    int digit = hex_digit(ch);
    if (c->state == CHUNK_SIZE && digit >= 0) {
        c->left = c->left << 4 | (unsigned)digit;
        return ++c->digits > CHUNK_DIGITS_MAX ? -1 : CHUNK_SIZE;
    }
    if (c->digits == 0) {
        return -1;
    }
    if (ch == '\r') {
        return CHUNK_SIZE_LF;
    }
    if (c->state == CHUNK_SIZE && ch != ';') {
        return -1;
    }
    return is_value_char((unsigned char)ch) ? CHUNK_EXTENSION : -1;
}

static int chunk_trailer_byte(struct http_chunks *c, char ch)
{
    if (++c->line > CHUNK_TRAILER_MAX) {
        return -1;
    }
    if (ch == '\r') {
        return c->state == CHUNK_TRAILER_START ? CHUNK_END_LF : CHUNK_TRAILER_LF;
    }
    return is_value_char((unsigned char)ch) ? CHUNK_TRAILER : -1;
}

/* The next state after one byte that is not body; -1: refused. */
static int chunk_byte(struct http_chunks *c, char ch)
{
    switch (c->state) {
    case CHUNK_SIZE:
    case CHUNK_EXTENSION:
        return chunk_line_byte(c, ch);
    case CHUNK_SIZE_LF:
        c->line = 0;
        c->digits = 0;
        return ch != '\n' ? -1 : c->left > 0 ? CHUNK_BODY : CHUNK_TRAILER_START;
    case CHUNK_BODY_CR:
        return ch == '\r' ? CHUNK_BODY_LF : -1;
    case CHUNK_BODY_LF:
        return ch == '\n' ? CHUNK_SIZE : -1;
    case CHUNK_TRAILER_START:
    case CHUNK_TRAILER:
        return chunk_trailer_byte(c, ch);
    case CHUNK_TRAILER_LF:
        return ch == '\n' ? CHUNK_TRAILER_START : -1;
    case CHUNK_END_LF:
        return ch == '\n' ? CHUNK_DONE : -1;
    default:
        return -1;
    }
}

enum http_chunk_result http_chunks_next(struct http_chunks *c, const uint8_t *data, size_t n,
                                        size_t *ret_used, const uint8_t **ret_data, size_t *ret_len)
{
    size_t at = 0;
    while (at < n && c->state != CHUNK_BODY) {
        int next = chunk_byte(c, (char)data[at++]);
        if (next < 0) {
            return HTTP_CHUNK_BAD;
        }
        c->state = (uint8_t)next;
        if (next == CHUNK_DONE) {
            *ret_used = at;
            return HTTP_CHUNK_END;
        }
    }
    if (at == n) {
        *ret_used = n;
        return HTTP_CHUNK_MORE;
    }
    size_t take = n - at < c->left ? n - at : (size_t)c->left;
    *ret_data = data + at;
    *ret_len = take;
    *ret_used = at + take;
    c->left -= take;
    if (c->left == 0) {
        c->state = CHUNK_BODY_CR;
    }
    return HTTP_CHUNK_DATA;
}
