#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/http_parse.h"

static char text[HTTP_HEAD_MAX + 1];

static int parse(const char *request, struct http_head *head, const char **why)
{
    size_t scan = 0, n = strlen(request);
    assert_true(n < sizeof(text));
    int end = http_head_end((const uint8_t *)request, n, &scan, why);
    if (end <= 0) {
        return -end;
    }
    memcpy(text, request, (size_t)end);
    text[end] = '\0';
    return http_request_parse(text, (size_t)end, head, why);
}

static int status_of(const char *request)
{
    struct http_head head;
    const char *why = NULL;
    int status = parse(request, &head, &why);
    assert_true(status == 0 || why != NULL);
    return status;
}

static void request__is_read_with_path_query_and_fields(void **state)
{
    (void)state;
    struct http_head h;
    const char *why;
    assert_int_equal(parse("GET /a%20b/./c//d?x=%41&y HTTP/1.1\r\nHost: h\r\nX-Long:  a b \t\r\n"
                           "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
                           &h, &why),
                     0);
    assert_string_equal(h.text + h.method, "GET");
    assert_string_equal(h.text + h.path, "/a b/c/d");
    assert_string_equal(h.text + h.query, "x=%41&y");
    assert_string_equal(http_head_field(&h, "x-long"), "a b");
    assert_null(http_head_field(&h, "x-lon"));
    assert_true(h.upgrade);
    assert_true(h.keep_alive);
    assert_int_equal(h.framing, HTTP_BODY_NONE);
}

static void request__keeps_alive_by_version_and_connection(void **state)
{
    (void)state;
    struct http_head h;
    const char *why;
    assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n", &h, &why), 0);
    assert_false(h.keep_alive);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n", &h, &why), 0);
    assert_false(h.keep_alive);
    assert_int_equal(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", &h, &why), 0);
    assert_true(h.keep_alive);
}

static void request__is_refused_when_readers_could_disagree(void **state)
{
    (void)state;
#define POST "POST / HTTP/1.1\r\nHost: h\r\n"
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400},
        {POST "Content-Length: 3, 3\r\n\r\n", 400},
        {POST "Content-Length: +3\r\n\r\n", 400},
        {POST "Content-Length: 0x3\r\n\r\n", 400},
        {POST "Content-Length:\r\n\r\n", 400},
        {POST "Content-Length: 9999999999999999\r\n\r\n", 400},
        {POST "Content-Length : 3\r\n\r\n", 400},
        {POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {POST "Transfer-Encoding: xchunked\r\n\r\n", 501},
        {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {POST "X: a\r\n folded\r\n\r\n", 400},
        {POST "X: a\n\r\n", 400},
        {POST "X: a\rb\r\n\r\n", 400},
        {POST "X: a\x01\r\n\r\n", 400},
        {POST "X\x80: a\r\n\r\n", 400},
        {POST ": a\r\n\r\n", 400},
        {POST "no colon\r\n\r\n", 400},
        {POST "Host: twice\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 505},
        {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"\x16\x03\x01\x02\r\n\r\n", 400},
        {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: h\n\n", 400},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int status = status_of(cases[i].request);
        if (status != cases[i].status) {
            print_error("%s-> %d\n", cases[i].request, status);
        }
        assert_int_equal(status, cases[i].status);
    }
}

static int status_of_target(const char *target)
{
    char request[256];
    (void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);
    return status_of(request);
}

static void path__cannot_leave_the_root(void **state)
{
    (void)state;
    assert_int_equal(status_of_target("/../etc"), 400);
    assert_int_equal(status_of_target("/a/.."), 400);
    assert_int_equal(status_of_target("/%2e%2E/etc"), 400);
    assert_int_equal(status_of_target("/a%2f..%2fb"), 400);
    assert_int_equal(status_of_target("/a%00"), 400);
    assert_int_equal(status_of_target("/a%0a"), 400);
    assert_int_equal(status_of_target("/a%4"), 400);
    assert_int_equal(status_of_target("/a?x=%zz"), 400);
    assert_int_equal(status_of_target("/a?x=%00"), 400);
    assert_int_equal(status_of_target("/..a/b.."), 0);
    assert_int_equal(status_of_target("http://host/a"), 0);
    assert_string_equal(text + strlen("GET http://host") + 0, "/a");
}

static void path__is_normalised(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"/", "/"},         {"//", "/"},    {"/.", "/"},
                                           {"/a/.", "/a/"},    {"/./a", "/a"}, {"/a//b/", "/a/b/"},
                                           {"/a/./b", "/a/b"}, {"/%41", "/A"}, {"/a+b", "/a+b"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char request[256];
        struct http_head h;
        const char *why;
        (void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", cases[i][0]);
        assert_int_equal(parse(request, &h, &why), 0);
        assert_string_equal(h.text + h.path, cases[i][1]);
    }
}

static void head_end__holds_its_limits(void **state)
{
    (void)state;
    static uint8_t big[HTTP_HEAD_MAX + 100];
    const char *why = NULL;
    size_t scan = 0;
    memset(big, 'a', sizeof(big));
    assert_int_equal(http_head_end(big, HTTP_LINE_MAX - 1, &scan, &why), 0);
    assert_int_equal(http_head_end(big, HTTP_LINE_MAX, &scan, &why), -414);
    memcpy(big, "GET / HTTP/1.1\r\n", 16);
    scan = 0;
    assert_int_equal(http_head_end(big, sizeof(big), &scan, &why), -431);
    memcpy(big + 16 + HTTP_HEADERS_MAX - 3, "\r\n\r\n", 4);
    scan = 0;
    assert_int_equal(http_head_end(big, sizeof(big), &scan, &why), -431);
    memcpy(big + 16 + HTTP_HEADERS_MAX - 4, "\r\n\r\n", 4);
    scan = 0;
    assert_int_equal(http_head_end(big, sizeof(big), &scan, &why), 16 + HTTP_HEADERS_MAX);
}

static void head_end__finds_the_end_byte_by_byte(void **state)
{
    (void)state;
    static const char request[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\nmore";
    size_t scan = 0, end = strlen(request) - 4;
    const char *why;
    for (size_t n = 0; n < end; n++) {
        assert_int_equal(http_head_end((const uint8_t *)request, n, &scan, &why), 0);
    }
    assert_int_equal(http_head_end((const uint8_t *)request, end, &scan, &why), end);
}

static void request__has_at_most_64_fields(void **state)
{
    (void)state;
    char request[2048] = "GET / HTTP/1.1\r\nHost: h\r\n";
    for (int i = 0; i < 63; i++) {
        (void)strncat(request, "A: b\r\n", sizeof(request) - strlen(request) - 1);
    }
    size_t n = strlen(request);
    (void)strncat(request, "\r\n", sizeof(request) - n - 1);
    assert_int_equal(status_of(request), 0);
    request[n] = '\0';
    (void)strncat(request, "A: b\r\n\r\n", sizeof(request) - n - 1);
    assert_int_equal(status_of(request), 431);
}

static int response(const char *bytes, bool head_request, struct http_head *head)
{
    size_t scan = 0;
    const char *why;
    int end = http_head_end((const uint8_t *)bytes, strlen(bytes), &scan, &why);
    assert_true(end > 0);
    memcpy(text, bytes, (size_t)end);
    text[end] = '\0';
    return http_response_parse(text, (size_t)end, head_request, head, &why);
}

static void response__knows_how_its_body_ends(void **state)
{
    (void)state;
    struct http_head h;
    assert_int_equal(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, &h), 0);
    assert_int_equal(h.framing, HTTP_BODY_LENGTH);
    assert_int_equal(h.content_length, 5);
    assert_int_equal(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, &h), 0);
    assert_int_equal(h.framing, HTTP_BODY_NONE);
    assert_int_equal(response("HTTP/1.1 200\r\n\r\n", false, &h), 0);
    assert_int_equal(h.framing, HTTP_BODY_TO_END);
    assert_false(h.keep_alive);
    assert_int_equal(response("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", false, &h), 0);
    assert_int_equal(h.framing, HTTP_BODY_NONE);
    assert_int_equal(response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, &h),
                     0);
    assert_int_equal(h.framing, HTTP_BODY_CHUNKED);
    assert_int_equal(response("HTTP/1.1 20 OK\r\n\r\n", false, &h), 400);
    assert_int_equal(response("ICY 200 OK\r\n\r\n", false, &h), 400);
}

static enum http_chunk_result unchunk(const char *in, size_t step, char *out, size_t *ret_used)
{
    struct http_chunks c = {0};
    size_t n = strlen(in), at = 0, len = 0;
    enum http_chunk_result r = HTTP_CHUNK_MORE;
    while (at < n && r >= 0 && r != HTTP_CHUNK_END) {
        size_t take = n - at < step ? n - at : step, used = 0, part_len = 0;
        const uint8_t *part = NULL;
        r = http_chunks_next(&c, (const uint8_t *)in + at, take, &used, &part, &part_len);
        if (r == HTTP_CHUNK_DATA) {
            memcpy(out + len, part, part_len);
            len += part_len;
        }
        at += r >= 0 ? used : 0;
    }
    out[len] = '\0';
    *ret_used = at;
    return r;
}

static void chunks__give_the_body_however_they_are_cut(void **state)
{
    (void)state;
    static const char in[] = "5;ext=\"v\"\r\nhello\r\n00B\r\n, wide\nworl\r\n1\r\nd\r\n0\r\n"
                             "Trailer: x\r\n\r\nnext";
    for (size_t step = 1; step < sizeof(in); step++) {
        char out[64];
        size_t used;
        assert_int_equal(unchunk(in, step, out, &used), HTTP_CHUNK_END);
        assert_string_equal(out, "hello, wide\nworld");
        assert_string_equal(in + used, "next");
    }
}

static void chunks__are_refused_when_malformed(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\r\n",          "g\r\n",       "5 \r\nhello\r\n",
        "5\nhello",      "5\r\nhelloX", "-1\r\n",
        "0x5\r\nhello",  ";x\r\n",      "1234567890abc\r\n",
        "5\r\nhello\rX", "0\r\nX\n",    "5;\x01\r\nabc",
        "0\r\n\rX",      "5\rX",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[64];
        size_t used;
        if (unchunk(cases[i], 1, out, &used) != HTTP_CHUNK_BAD) {
            print_error("accepted: %s\n", cases[i]);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request__is_read_with_path_query_and_fields),
        cmocka_unit_test(request__keeps_alive_by_version_and_connection),
        cmocka_unit_test(request__is_refused_when_readers_could_disagree),
        cmocka_unit_test(path__cannot_leave_the_root),
        cmocka_unit_test(path__is_normalised),
        cmocka_unit_test(head_end__holds_its_limits),
        cmocka_unit_test(head_end__finds_the_end_byte_by_byte),
        cmocka_unit_test(request__has_at_most_64_fields),
        cmocka_unit_test(response__knows_how_its_body_ends),
        cmocka_unit_test(chunks__give_the_body_however_they_are_cut),
        cmocka_unit_test(chunks__are_refused_when_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
