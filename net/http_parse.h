/* The bytes of HTTP/1.1 (RFC 9112): message heads, and bodies in chunks. Strict where leniency lets
 * two readers of one stream disagree about where a message ends (request smuggling): bare CR or LF,
 * line folding, space before a colon, repeated or odd Content-Length, Content-Length beside
 * Transfer-Encoding, and any coding but chunked are refused.
 *
 * Pure functions over memory: no allocation, no clock. Any thread. Sizes in bytes. */
#ifndef NET_HTTP_PARSE_H
#define NET_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_LINE_MAX    8192
#define HTTP_HEADERS_MAX 16384
#define HTTP_HEAD_MAX    (HTTP_LINE_MAX + HTTP_HEADERS_MAX)
#define HTTP_FIELDS_MAX  64

struct http_field {
    uint16_t name, value; /* offsets of NUL-terminated strings in the head's text */
};

enum http_framing {
    HTTP_BODY_NONE,
    HTTP_BODY_LENGTH,
    HTTP_BODY_CHUNKED,
    HTTP_BODY_TO_END, /* of the connection; responses only */
};

struct http_head {
    char *text; /* borrowed: what was parsed, cut into strings in place */
    uint16_t method;
    uint16_t path;  /* percent-decoded, normalised: begins with '/', no "//", "." or ".." segment */
    uint16_t query; /* still encoded, but well-formed; 0: none */
    uint16_t n_fields;
    uint16_t status; /* responses */
    uint8_t minor;   /* HTTP/1.minor */
    bool keep_alive;
    bool upgrade; /* Upgrade field, named in Connection */
    bool expect_continue;
    enum http_framing framing;
    uint64_t content_length; /* with HTTP_BODY_LENGTH */
    struct http_field fields[HTTP_FIELDS_MAX];
};

/* Looks for the empty line that ends a head which begins at data[0]. *scan, 0 at first, remembers
 * what was searched. > 0: the head's size; 0: more bytes are needed; < 0: minus the status to
 * answer (400, 414, 431), *ret_why says why. */
int http_head_end(const uint8_t *data, size_t n, size_t *scan, const char **ret_why);

/* Parses a whole head (n as found by http_head_end), cutting `text` in place. 0, or the status to
 * answer (400, 501, 505, 431) with *ret_why. */
int http_request_parse(char *text, size_t n, struct http_head *ret_head, const char **ret_why);
/* Same for a response: 0, or 400 when it is not one. `head_request`: it answers HEAD and has no
 * body. */
int http_response_parse(char *text, size_t n, bool head_request, struct http_head *ret_head,
                        const char **ret_why);
/* First field of that name, case-insensitive; NULL when absent. */
const char *http_head_field(const struct http_head *head, const char *name);

/* Decodes %XX (and '+' as a space when `plus`) from `in` to `out`, which may be the same and takes
 * n + 1 bytes at most. Returns the length, or -1: malformed or %00. Ends with NUL. */
int http_percent_decode(char *out, const char *in, size_t n, bool plus);

/* Chunked bodies, incrementally. Trailers are read over. Zero-initialise. */
struct http_chunks {
    uint8_t state;
    uint16_t line; /* bytes of the current chunk line or of all trailers */
    uint8_t digits;
    uint64_t left;
};
enum http_chunk_result {
    HTTP_CHUNK_BAD = -1,
    HTTP_CHUNK_MORE = 0, /* all n bytes are used up */
    HTTP_CHUNK_DATA = 1, /* *ret_data of *ret_len bytes inside `data`; call again with the rest */
    HTTP_CHUNK_END = 2,
};
/* *ret_used: bytes of `data` taken by this call. */
enum http_chunk_result http_chunks_next(struct http_chunks *c, const uint8_t *data, size_t n,
                                        size_t *ret_used, const uint8_t **ret_data,
                                        size_t *ret_len);

#endif
