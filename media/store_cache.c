#include "media/store_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "media/store.h"

#define BUCKETS 4096
/* What a chunk costs besides its bytes, so that many small ones are bounded too. */
#define CHUNK_OVERHEAD 256

struct object {
    struct list link;   /* in its bucket */
    struct list chunks; /* by position, without overlap */
    char name[STORE_OBJECT_NAME_MAX + 1];
};

struct chunk {
    struct list link; /* in the object */
    struct list used; /* in the cache, oldest use first */
    struct object *object;
    uint64_t position;
    struct http_body *body;
};

struct store_cache {
    struct list buckets[BUCKETS];
    struct list used;
    uint64_t bytes, bytes_max;
};

/* FNV-1a. */
static struct list *bucket_of(struct store_cache *c, const char *name)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *name != 0; name++) {
        h = (h ^ (uint8_t)*name) * 0x100000001b3;
    }
    return &c->buckets[(h ^ (h >> 32)) % BUCKETS];
}

int store_cache_new(uint64_t bytes_max, struct store_cache **ret_cache)
{
    struct store_cache *c = malloc(sizeof(*c));
    if (c == NULL) {
        return WEIR_ENOMEM;
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        list_init(&c->buckets[i]);
    }
    list_init(&c->used);
    c->bytes = 0;
    c->bytes_max = bytes_max;
    *ret_cache = c;
    return 0;
}

static uint64_t chunk_end(const struct chunk *k)
{
    return k->position + k->body->len;
}

static void chunk_free(struct store_cache *c, struct chunk *k)
{
    struct object *o = k->object;
    c->bytes -= k->body->len + CHUNK_OVERHEAD;
    list_remove(&k->link);
    list_remove(&k->used);
    http_body_unref(k->body);
    free(k);
    if (list_empty(&o->chunks)) {
        list_remove(&o->link);
        free(o);
    }
}

void store_cache_free(struct store_cache *c)
{
    if (c == NULL) {
        return;
    }
    while (!list_empty(&c->used)) {
        chunk_free(c, list_entry(c->used.next, struct chunk, used));
    }
    free(c);
}

static struct object *object_find(struct store_cache *c, const char *name)
{
    struct list *bucket = bucket_of(c, name);
    LIST_FOREACH(it, bucket)
    {
        struct object *o = list_entry(it, struct object, link);
        if (strcmp(o->name, name) == 0) {
            return o;
        }
    }
    return NULL;
}

static struct object *object_make(struct store_cache *c, const char *name)
{
    size_t n = strlen(name);
    struct object *o = n <= STORE_OBJECT_NAME_MAX ? malloc(sizeof(*o)) : NULL;
    if (o == NULL) {
        return NULL;
    }
    memcpy(o->name, name, n + 1);
    list_init(&o->chunks);
    list_push_back(bucket_of(c, name), &o->link);
    return o;
}

/* Before `k` is put in, so that the object does not go with its last chunk. */
static void drop_overlapped(struct store_cache *c, struct object *o, const struct chunk *k)
{
    LIST_FOREACH_SAFE(it, next, &o->chunks)
    {
        struct chunk *old = list_entry(it, struct chunk, link);
        if (old != k && old->position < chunk_end(k) && k->position < chunk_end(old)) {
            chunk_free(c, old);
        }
    }
}

static void insert(struct store_cache *c, struct object *o, struct chunk *k)
{
    struct list *at = &o->chunks;
    LIST_FOREACH(it, &o->chunks)
    {
        if (list_entry(it, struct chunk, link)->position > k->position) {
            at = it;
            break;
        }
    }
    list_push_back(at, &k->link); /* before `at` */
    list_push_back(&c->used, &k->used);
    c->bytes += k->body->len + CHUNK_OVERHEAD;
    drop_overlapped(c, o, k);
}

void store_cache_put(struct store_cache *c, const char *name, uint64_t position,
                     struct http_body *body)
{
    if (body->len == 0 || body->len + CHUNK_OVERHEAD > c->bytes_max) {
        return;
    }
    struct chunk *k = malloc(sizeof(*k));
    struct object *o = object_find(c, name);
    o = o != NULL || k == NULL ? o : object_make(c, name);
    if (k == NULL || o == NULL) {
        free(k);
        return;
    }
    *k = (struct chunk){.object = o, .position = position, .body = http_body_ref(body)};
    insert(c, o, k);
    while (c->bytes > c->bytes_max) {
        chunk_free(c, list_entry(c->used.next, struct chunk, used));
    }
}

/* A part of another body's bytes. */
struct slice {
    struct http_body body;
    struct http_body *whole;
};

static void slice_free(struct http_body *body)
{
    struct slice *s = container_of(body, struct slice, body);
    http_body_unref(s->whole);
    free(s);
}

static struct http_body *slice_of(struct http_body *whole, uint64_t offset, uint64_t size)
{
    if (offset == 0 && size == whole->len) {
        return http_body_ref(whole);
    }
    struct slice *s = malloc(sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    *s = (struct slice){
        .body = {.refs = 1, .len = size, .data = whole->data + offset, .free_cb = slice_free},
        .whole = http_body_ref(whole)};
    return &s->body;
}

/* Chunks first..last lie end to end: one body of all their bytes. */
static struct http_body *join(struct chunk *first, struct chunk *last)
{
    size_t len = chunk_end(last) - first->position;
    uint8_t *data = malloc(len);
    if (data == NULL) {
        return NULL;
    }
    for (struct chunk *k = first;; k = list_entry(k->link.next, struct chunk, link)) {
        memcpy(data + (k->position - first->position), k->body->data, k->body->len);
        if (k == last) {
            return http_body_new(data, len);
        }
    }
}

static struct chunk *chunk_at(struct object *o, uint64_t position)
{
    LIST_FOREACH(it, &o->chunks)
    {
        struct chunk *k = list_entry(it, struct chunk, link);
        if (k->position <= position && position < chunk_end(k)) {
            return k;
        }
    }
    return NULL;
}

struct http_body *store_cache_get(struct store_cache *c, const char *name, uint64_t position,
                                  uint64_t size)
{
    struct object *o = object_find(c, name);
    struct chunk *first = o == NULL ? NULL : chunk_at(o, position);
    if (first == NULL || size == 0) {
        return NULL;
    }
    struct chunk *last = first;
    while (chunk_end(last) < position + size) {
        struct list *next = last->link.next;
        if (next == &o->chunks ||
            list_entry(next, struct chunk, link)->position != chunk_end(last)) {
            return NULL;
        }
        last = list_entry(next, struct chunk, link);
    }
    if (first == last) {
        list_remove(&first->used);
        list_push_back(&c->used, &first->used);
        return slice_of(first->body, position - first->position, size);
    }
    struct http_body *joined = join(first, last);
    if (joined == NULL) {
        return NULL;
    }
    uint64_t offset = position - first->position;
    store_cache_put(c, name, first->position, joined); /* first..last are gone now */
    struct http_body *slice = slice_of(joined, offset, size);
    http_body_unref(joined);
    return slice;
}

uint64_t store_cache_bytes(const struct store_cache *c)
{
    return c->bytes;
}
