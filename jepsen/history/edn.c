#include "jepsen/history/edn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "jepsen/history/memory.h"

#define BLOCK_BYTES (1u << 20)

/* --- Memory --- */

struct edn_block {
    struct edn_block *next;
    size_t used, size;
    max_align_t bytes[];
};

void *edn_alloc(struct edn_arena *a, size_t n)
{
    n = (n + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct edn_block *b = a->blocks;
    if (b == NULL || b->size - b->used < n) {
        size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        b = memory_need(calloc(1, sizeof(*b) + size));
        b->size = size;
        b->next = a->blocks;
        a->blocks = b;
    }
    void *p = (char *)b->bytes + b->used;
    b->used += n;
    return p;
}

void edn_arena_free(struct edn_arena *a)
{
    while (a->blocks != NULL) {
        struct edn_block *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
}

/* --- Reading --- */

struct reader {
    struct edn_arena *arena;
    const char *at, *end;
    const char *error;
    unsigned depth;
};

static bool is_space(char c)
{
    return c == ' ' || c == ',' || c == '\n' || c == '\r' || c == '\t';
}

static bool is_end(char c)
{
    return is_space(c) || strchr("()[]{}\";", c) != NULL;
}

static struct edn *read_value(struct reader *r);

static struct edn *fail(struct reader *r, const char *why)
{
    r->error = r->error != NULL ? r->error : why;
    return NULL;
}

/* Space, comments, and values that are discarded. */
static void pass_space(struct reader *r)
{
    while (r->at < r->end && r->error == NULL) {
        if (is_space(*r->at)) {
            r->at++;
        } else if (*r->at == ';') {
            while (r->at < r->end && *r->at != '\n') {
                r->at++;
            }
        } else if (r->at + 1 < r->end && r->at[0] == '#' && r->at[1] == '_') {
            r->at += 2;
            if (read_value(r) == NULL) {
                (void)fail(r, "nothing follows #_");
            }
        } else {
            return;
        }
    }
}

static struct edn *new_value(struct reader *r, enum edn_type type, const char *text)
{
    struct edn *e = edn_alloc(r->arena, sizeof(*e));
    e->type = type;
    e->text = text;
    return e;
}

static struct edn *read_items(struct reader *r, enum edn_type type, char close, const char *start)
{
    struct edn *e = new_value(r, type, start), **tail = &e->first;
    if (++r->depth > EDN_DEPTH_MAX) {
        return fail(r, "nested too deeply");
    }
    for (;;) {
        pass_space(r);
        if (r->error != NULL || r->at == r->end) {
            return fail(r, "a collection without its end");
        }
        if (*r->at == close) {
            break;
        }
        *tail = read_value(r);
        if (*tail == NULL) {
            return fail(r, "a collection without its end");
        }
        tail = &(*tail)->next;
        e->n++;
    }
    r->depth--;
    r->at++;
    e->len = (size_t)(r->at - start);
    return type == EDN_MAP && e->n % 2 != 0 ? fail(r, "a map with a key that has no value") : e;
}

static struct edn *read_string(struct reader *r)
{
    struct edn *e = new_value(r, EDN_STRING, ++r->at);
    while (r->at < r->end && *r->at != '"') {
        r->at += *r->at == '\\' ? 2 : 1;
    }
    if (r->at >= r->end) {
        return fail(r, "a string without its end");
    }
    e->len = (size_t)(r->at++ - e->text);
    return e;
}

static struct edn *read_number(struct reader *r, const char *text, size_t len)
{
    char copy[64], *end;
    if (len >= sizeof(copy)) {
        return fail(r, "a number that is too long");
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    size_t digits = len - (copy[len - 1] == 'N');
    copy[digits] = '\0';
    errno = 0;
    struct edn *e = new_value(r, EDN_INT, text);
    e->len = len;
    e->i = strtoll(copy, &end, 10);
    if (*end == '\0' && errno == 0) {
        return e;
    }
    e->type = EDN_FLOAT;
    (void)strtod(copy, &end);
    return *end == '\0' || strcmp(end, "M") == 0 ? e : fail(r, "no number");
}

static struct edn *read_word(struct reader *r)
{
    const char *text = r->at;
    if (*r->at == '\\') {
        r->at++; /* a character may be anything */
    }
    r->at += r->at < r->end;
    while (r->at < r->end && !is_end(*r->at)) {
        r->at++;
    }
    size_t len = (size_t)(r->at - text);
    assert(len > 0); /* who calls has seen a character */
    bool sign = (text[0] == '-' || text[0] == '+') && len > 1;
    if (text[sign] >= '0' && text[sign] <= '9') {
        return read_number(r, text, len);
    }
    bool keyword = text[0] == ':';
    struct edn *e = new_value(r, keyword ? EDN_KEYWORD : EDN_SYMBOL, text + keyword);
    e->len = len - keyword;
    if (len == 3 && memcmp(text, "nil", 3) == 0) {
        e->type = EDN_NIL;
    } else if ((len == 4 && memcmp(text, "true", 4) == 0) ||
               (len == 5 && memcmp(text, "false", 5) == 0)) {
        e->type = EDN_BOOL;
        e->i = len == 4;
    }
    return e->len > 0 ? e : fail(r, "a keyword without a name");
}

static struct edn *read_value(struct reader *r)
{
    pass_space(r);
    if (r->error != NULL || r->at == r->end) {
        return NULL;
    }
    const char *start = r->at;
    switch (*r->at) {
    case '(':
        r->at++;
        return read_items(r, EDN_LIST, ')', start);
    case '[':
        r->at++;
        return read_items(r, EDN_VECTOR, ']', start);
    case '{':
        r->at++;
        return read_items(r, EDN_MAP, '}', start);
    case '"':
        return read_string(r);
    case '#':
        if (r->at + 1 < r->end && r->at[1] == '{') {
            r->at += 2;
            return read_items(r, EDN_SET, '}', start);
        }
        r->at++;
        if (r->at == r->end || is_end(*r->at)) {
            return fail(r, "a tag without a name");
        }
        (void)read_word(r);
        if (++r->depth > EDN_DEPTH_MAX) {
            return fail(r, "nested too deeply");
        }
        struct edn *e = read_value(r);
        r->depth--;
        return e != NULL ? e : fail(r, "a tag without a value");
    case ')':
    case ']':
    case '}':
        return fail(r, "an end without its begin");
    default:
        return read_word(r);
    }
}

struct edn *edn_read(struct edn_arena *a, const char **at, const char *end, const char **ret_error)
{
    struct reader r = {.arena = a, .at = *at, .end = end};
    struct edn *e = read_value(&r);
    *ret_error = r.error;
    *at = r.at;
    return r.error == NULL ? e : NULL;
}

/* --- Looking --- */

static bool has_text(const struct edn *e, enum edn_type type, const char *text)
{
    return e != NULL && e->type == type && e->len == strlen(text) &&
           memcmp(e->text, text, e->len) == 0;
}

const struct edn *edn_first_key(const struct edn *map)
{
    return map != NULL && map->type == EDN_MAP ? map->first : NULL;
}

const struct edn *edn_get(const struct edn *map, const char *keyword)
{
    for (const struct edn *k = edn_first_key(map); k != NULL; k = edn_next_key(k)) {
        if (has_text(k, EDN_KEYWORD, keyword)) {
            return k->next;
        }
    }
    return NULL;
}

const struct edn *edn_at(const struct edn *collection, uint32_t index)
{
    if (collection == NULL || index >= collection->n) {
        return NULL;
    }
    const struct edn *e = collection->first;
    while (index-- > 0) {
        e = e->next;
    }
    return e;
}

bool edn_is(const struct edn *e, const char *keyword)
{
    return has_text(e, EDN_KEYWORD, keyword);
}

bool edn_is_int(const struct edn *e)
{
    return e != NULL && e->type == EDN_INT;
}

bool edn_is_seq(const struct edn *e)
{
    return e != NULL && (e->type == EDN_LIST || e->type == EDN_VECTOR);
}

int64_t edn_int(const struct edn *e, int64_t otherwise)
{
    return edn_is_int(e) ? e->i : otherwise;
}

bool edn_equal(const struct edn *a, const struct edn *b)
{
    if (a == NULL || b == NULL || a->type != b->type) {
        return a == b;
    }
    if (a->type == EDN_INT || a->type == EDN_BOOL || a->type == EDN_NIL) {
        return a->i == b->i;
    }
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

void edn_print(FILE *out, const struct edn *e)
{
    if (e == NULL) {
        (void)fputs("nil", out);
        return;
    }
    const char *before = e->type == EDN_KEYWORD ? ":" : e->type == EDN_STRING ? "\"" : "";
    (void)fprintf(out, "%s%.*s%s", before, (int)e->len, e->text, e->type == EDN_STRING ? "\"" : "");
}
