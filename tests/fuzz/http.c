/* The first byte chooses request, response or chunks; the second how the rest is cut into pieces.
 * Whatever comes: what is found lies inside what was given, and cutting it otherwise changes
 * nothing. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_string(const struct http_head *head, uint16_t at, size_t n)
{
    assert(at < n && memchr(head->text + at, '\0', n + 1 - at) != NULL);
}

static void check_head(const struct http_head *head, size_t n)
{
    assert(head->n_fields <= HTTP_FIELDS_MAX);
    for (unsigned i = 0; i < head->n_fields; i++) {
        check_string(head, head->fields[i].name, n);
        check_string(head, head->fields[i].value, n);
    }
}

static void fuzz_head(const uint8_t *data, size_t size, size_t step, bool request)
{
    size_t scan = 0;
    const char *why = NULL;
    int end = 0;
    for (size_t n = 0; n <= size && end == 0; n += step) {
        end = http_head_end(data, n, &scan, &why);
    }
    if (end == 0) {
        end = http_head_end(data, size, &scan, &why);
    }
    size_t whole = 0;
    int again = http_head_end(data, size, &whole, &why);
    assert(end > 0 ? again == end : 1);
    if (end <= 0) {
        return;
    }
    size_t n = (size_t)end;
    assert(n <= size);
    char *text = malloc(n + 1);
    struct http_head head;
    if (text == NULL) {
        return;
    }
    memcpy(text, data, n);
    text[n] = '\0';
    int status = request ? http_request_parse(text, n, &head, &why)
                         : http_response_parse(text, n, (n & 1) != 0, &head, &why);
    assert(status == 0 || (status >= 400 && status <= 505 && why != NULL));
    if (status == 0) {
        check_head(&head, n);
    }
    if (status == 0 && request) {
        const char *path = text + head.path;
        check_string(&head, head.path, n);
        assert(path[0] == '/' && strstr(path, "/../") == NULL && strstr(path, "//") == NULL);
    }
    free(text);
}

static size_t chunk_body(const uint8_t *data, size_t size, size_t step, uint8_t *out, int *ret_end)
{
    struct http_chunks c = {0};
    size_t at = 0, len = 0;
    *ret_end = HTTP_CHUNK_MORE;
    while (at < size && *ret_end >= 0 && *ret_end != HTTP_CHUNK_END) {
        size_t n = size - at < step ? size - at : step, used = 0, part_len = 0;
        const uint8_t *part = NULL;
        *ret_end = http_chunks_next(&c, data + at, n, &used, &part, &part_len);
        if (*ret_end == HTTP_CHUNK_DATA) {
            assert(part >= data + at && part + part_len <= data + at + n && used <= n);
            memcpy(out + len, part, part_len);
            len += part_len;
        }
        at += *ret_end >= 0 ? used : 0;
    }
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) {
        return 0;
    }
    size_t step = (size_t)data[1] + 1;
    if (data[0] % 3 < 2) {
        fuzz_head(data + 2, size - 2, step, data[0] % 3 == 0);
        return 0;
    }
    uint8_t *a = malloc(size), *b = malloc(size);
    if (a != NULL && b != NULL) {
        int end_a, end_b;
        size_t n = chunk_body(data + 2, size - 2, step, a, &end_a);
        size_t m = chunk_body(data + 2, size - 2, size, b, &end_b);
        assert(n == m && memcmp(a, b, n) == 0);
        assert((end_a == HTTP_CHUNK_END) == (end_b == HTTP_CHUNK_END));
        assert((end_a == HTTP_CHUNK_BAD) == (end_b == HTTP_CHUNK_BAD));
    }
    free(a);
    free(b);
    return 0;
}
