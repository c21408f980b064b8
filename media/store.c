#include "media/store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "media/store_cache.h"

#define PATH_MAX_BYTES 1024
#define BROADCAST_HEX  16
#define NAME_MAX_BYTES 64
#define FILE_BUCKETS   256
#define PREPARED       1024 /* broadcasts written at a time, more or less */
/* statvfs is asked again after this much time, or this many bytes. */
#define FREE_CHECK_NS    1000000000u
#define FREE_CHECK_BYTES (64u << 20)

/* An object with a descriptor. Requests keep it; idle ones are closed, oldest first. */
struct file {
    struct store *store;
    struct list link; /* in its bucket, while it may be found */
    struct list idle; /* in the store, while nothing is in flight */
    struct list puts; /* in flight */
    struct env_file *file;
    unsigned n_inflight;
    /* The directory's entry is durable too: only then does a put count. */
    bool entry_synced;
    /* A write or sync failed: no new request may use this descriptor. */
    bool failed;
    char name[STORE_OBJECT_NAME_MAX + 1];
};

struct put {
    struct env_io io;
    struct env_io dir_io;
    struct list link;
    struct file *file;
    struct iovec iov;
    struct http_body *bytes;
    uint64_t position, started_ns;
    bool quiet;
    store_put_cb cb;
    void *data;
    char dir[PATH_MAX_BYTES];
};

struct get {
    struct env_io io;
    struct env_defer defer;
    struct store *store;
    struct file *file; /* NULL: answered from memory or not at all */
    struct iovec iov;
    uint8_t *buf;
    struct http_body *body;
    int status;
    store_get_cb cb;
    void *data;
};

struct store {
    struct env *env;
    struct store_options options;
    struct store_cache *cache;
    struct list buckets[FILE_BUCKETS];
    struct list idle;
    unsigned n_idle, n_inflight;
    uint64_t free_bytes, free_checked_ns, put_since_check;
    char prepared[PREPARED][BROADCAST_HEX + 1]; /* broadcasts whose folders have been made */
    struct env_defer close_defer;
    void (*close_cb)(void *data);
    void *close_data;
    bool closing;
    struct metric *put_bytes, *put_errors, *cache_hits, *disk_reads;
    struct metric_histogram *put_us;
    char dir[];
};

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-';
}

bool store_object_valid(const char *object)
{
    unsigned i = 0;
    while (i < BROADCAST_HEX && is_hex(object[i])) {
        i++;
    }
    /* A dot in front would allow "." and "..". */
    if (i != BROADCAST_HEX || object[i] != '/' || object[i + 1] == '.') {
        return false;
    }
    const char *name = object + i + 1;
    size_t n = 0;
    while (n <= NAME_MAX_BYTES && is_name_char(name[n])) {
        n++;
    }
    return n > 0 && n <= NAME_MAX_BYTES && name[n] == 0;
}

static void store_metrics(struct store *s)
{
    s->put_bytes = metric_counter("weir_store_put_bytes_total", "", "Bytes made durable.");
    s->put_errors = metric_counter("weir_store_put_errors_total", "", "Puts that failed.");
    s->cache_hits = metric_counter("weir_store_cache_hits_total", "", "Reads from memory.");
    s->disk_reads = metric_counter("weir_store_disk_reads_total", "", "Reads from disk.");
    s->put_us = metric_histogram("weir_store_put_seconds", "", "From put to durable.");
}

int store_open(struct env *env, const struct store_options *options, struct store **ret_store,
               struct error *err)
{
    size_t n = strlen(options->dir);
    if (n == 0 || n + STORE_OBJECT_NAME_MAX + 8 > PATH_MAX_BYTES) {
        return error_set(err, WEIR_EINVAL, "store folder: name too long");
    }
    int rc = env_dir_make(env, options->dir, err);
    if (rc != 0) {
        return rc;
    }
    struct store *s = calloc(1, sizeof(*s) + n + 1);
    if (s == NULL || store_cache_new(options->cache_bytes_max, &s->cache) != 0) {
        free(s);
        return error_set(err, WEIR_ENOMEM, "store: out of memory");
    }
    memcpy(s->dir, options->dir, n + 1);
    s->env = env;
    s->options = *options;
    s->options.dir = s->dir;
    for (unsigned i = 0; i < FILE_BUCKETS; i++) {
        list_init(&s->buckets[i]);
    }
    list_init(&s->idle);
    store_metrics(s);
    *ret_store = s;
    return 0;
}

static void file_free(struct file *f)
{
    assert(f->n_inflight == 0);
    list_remove(&f->link);
    env_file_close(f->file);
    free(f);
}

static void close_run(struct env_defer *defer)
{
    struct store *s = defer->data;
    while (!list_empty(&s->idle)) {
        struct file *f = list_entry(list_pop(&s->idle), struct file, idle);
        file_free(f);
    }
    store_cache_free(s->cache);
    void (*cb)(void *data) = s->close_cb;
    void *data = s->close_data;
    free(s);
    cb(data);
}

static void close_when_done(struct store *s)
{
    if (s->closing && s->n_inflight == 0) {
        s->close_defer.data = s;
        env_defer(s->env, &s->close_defer, close_run);
    }
}

void store_close(struct store *s, void (*cb)(void *data), void *data)
{
    assert(!s->closing);
    s->closing = true;
    s->close_cb = cb;
    s->close_data = data;
    close_when_done(s);
}

/* --- Files
 * -----------------------------------------------------------------------------------------------------
 */

static struct list *file_bucket(struct store *s, const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != 0; name++) {
        h = (h ^ (uint8_t)*name) * 16777619u;
    }
    return &s->buckets[h % FILE_BUCKETS];
}

static struct file *file_find(struct store *s, const char *name)
{
    struct list *bucket = file_bucket(s, name);
    LIST_FOREACH(it, bucket)
    {
        struct file *f = list_entry(it, struct file, link);
        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    return NULL;
}

static void object_dir(const struct store *s, const char *object, char path[PATH_MAX_BYTES])
{
    (void)snprintf(path, PATH_MAX_BYTES, "%s/%.2s/%.16s", s->dir, object, object);
}

/* By the last digits: an id is random, all but its lowest bit. */
static char *prepared_slot(struct store *s, const char *object)
{
    uint64_t id = strtoull(object, NULL, 16); /* ends at the slash */
    return s->prepared[(id >> 1) % PREPARED];
}

/* Folders of a broadcast, durable. Blocks, but only once per broadcast. */
static int prepare_dir(struct store *s, const char *object, struct error *err)
{
    char *slot = prepared_slot(s, object);
    if (strncmp(slot, object, BROADCAST_HEX) == 0) {
        return 0;
    }
    char path[PATH_MAX_BYTES];
    object_dir(s, object, path);
    int rc = env_dir_make(s->env, path, err);
    (void)snprintf(path, sizeof(path), "%s/%.2s", s->dir, object);
    rc = rc == 0 ? env_dir_sync(s->env, path, err) : rc;
    rc = rc == 0 ? env_dir_sync(s->env, s->dir, err) : rc;
    if (rc == 0) {
        memcpy(slot, object, BROADCAST_HEX);
    }
    return rc;
}

static int file_open(struct store *s, const char *object, bool create, struct env_file **ret_file,
                     struct error *err)
{
    char path[PATH_MAX_BYTES];
    int rc = create ? prepare_dir(s, object, err) : 0;
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "%s/%.2s/%s", s->dir, object, object);
    int flags = ENV_OPEN_WRITE | (create ? ENV_OPEN_CREATE : 0);
    rc = env_file_open(s->env, path, flags, ret_file, err);
    if (rc == WEIR_ENOTFOUND && create) {
        /* Somebody removed the folders meanwhile: make them again next time. */
        prepared_slot(s, object)[0] = 0;
    }
    return rc;
}

/* Found or opened, with one request more in flight. */
static int file_take(struct store *s, const char *object, bool create, struct file **ret_file,
                     struct error *err)
{
    struct file *f = file_find(s, object);
    if (f == NULL) {
        f = calloc(1, sizeof(*f));
        if (f == NULL) {
            return error_set(err, WEIR_ENOMEM, "object %s: out of memory", object);
        }
        int rc = file_open(s, object, create, &f->file, err);
        if (rc != 0) {
            free(f);
            return rc;
        }
        f->store = s;
        memcpy(f->name, object, strlen(object) + 1);
        list_init(&f->idle);
        list_init(&f->puts);
        list_push_back(file_bucket(s, object), &f->link);
    } else if (f->n_inflight == 0) {
        list_remove(&f->idle);
        s->n_idle--;
    }
    f->n_inflight++;
    s->n_inflight++;
    *ret_file = f;
    return 0;
}

/* One request less. The object's callbacks have not run yet: they may use the store again. */
static void file_release(struct file *f)
{
    struct store *s = f->store;
    s->n_inflight--;
    if (--f->n_inflight > 0) {
        return;
    }
    if (f->failed) {
        file_free(f);
        return;
    }
    list_push_back(&s->idle, &f->idle);
    if (++s->n_idle > STORE_FILES_IDLE_MAX) {
        s->n_idle--;
        file_free(list_entry(list_pop(&s->idle), struct file, idle));
    }
}

/* Requests in flight keep it; later ones open the object anew. */
static void file_fail(struct file *f)
{
    f->failed = true;
    list_remove(&f->link);
}

/* --- Put
 * -------------------------------------------------------------------------------------------------------
 */

static int check_space(struct store *s, size_t n, struct error *err)
{
    uint64_t now = env_now_ns(s->env);
    if (s->free_checked_ns == 0 || now - s->free_checked_ns > FREE_CHECK_NS ||
        s->put_since_check > FREE_CHECK_BYTES) {
        int rc = env_dir_free_bytes(s->env, s->dir, &s->free_bytes, err);
        if (rc != 0) {
            return rc;
        }
        s->free_checked_ns = now;
        s->put_since_check = 0;
    }
    uint64_t needed = s->options.free_bytes_min + s->put_since_check + n;
    if (s->free_bytes < needed) {
        return error_set(err, WEIR_ENOSPC, "store %s: %" PRIu64 " bytes free, %" PRIu64 " needed",
                         s->dir, s->free_bytes, needed);
    }
    return 0;
}

static void put_finish(struct put *p, int status)
{
    struct file *f = p->file;
    struct store *s = f->store;
    list_remove(&p->link);
    if (status == 0) {
        metric_add(s->put_bytes, (int64_t)p->bytes->len);
        metric_observe_us(s->put_us, (env_now_ns(s->env) - p->started_ns) / 1000);
        if (!p->quiet) {
            store_cache_put(s->cache, f->name, p->position, p->bytes);
        }
    } else {
        metric_add(s->put_errors, 1);
        /* Some of it may be there, and a later put that was in flight behind it. */
        (void)store_doubt(s, f->name, NULL);
        file_fail(f);
    }
    file_release(f);
    http_body_unref(p->bytes);
    store_put_cb cb = p->cb;
    void *data = p->data;
    free(p);
    cb(data, status);
    close_when_done(s);
}

static void put_dir_synced(struct env_io *io, int status)
{
    struct put *p = io->data;
    if (status == 0) {
        p->file->entry_synced = true;
    }
    put_finish(p, status);
}

static void put_written(struct env_io *io, int status)
{
    struct put *p = io->data;
    struct file *f = p->file;
    if (status != 0 || f->entry_synced) {
        put_finish(p, status);
        return;
    }
    object_dir(f->store, f->name, p->dir);
    p->dir_io.data = p;
    env_dir_sync_start(f->store->env, p->dir, &p->dir_io, put_dir_synced);
}

static int put_check(struct store *s, const char *object, uint64_t position, size_t n,
                     struct error *err)
{
    if (s->closing) {
        return error_set(err, WEIR_ECLOSED, "store: closing");
    }
    if (!store_object_valid(object)) {
        return error_set(err, WEIR_EINVAL, "store: bad object name");
    }
    if (n == 0) {
        return error_set(err, WEIR_EINVAL, "object %s: empty put", object);
    }
    if (n > STORE_PUT_MAX || position > STORE_OBJECT_MAX || position + n > STORE_OBJECT_MAX) {
        return error_set(err, WEIR_ETOOBIG, "object %s: %zu bytes at %" PRIu64, object, n,
                         position);
    }
    if (s->n_inflight >= STORE_INFLIGHT_MAX) {
        return error_set(err, WEIR_EBUSY, "store: too many requests");
    }
    return check_space(s, n, err);
}

/* Where the object ends when all puts in flight are done. */
static int file_end(const struct file *f, uint64_t *ret_end, struct error *err)
{
    int rc = env_file_size(f->file, ret_end, err);
    LIST_FOREACH(it, &f->puts)
    {
        const struct put *p = list_entry(it, struct put, link);
        uint64_t end = p->position + p->bytes->len;
        *ret_end = rc == 0 && end > *ret_end ? end : *ret_end;
    }
    return rc;
}

/* A put that leaves a gap: the doubt is durable when the put is. */
static int doubt_gap(struct file *f, uint64_t position, struct error *err)
{
    uint64_t end = 0;
    int rc = position > 0 ? file_end(f, &end, err) : 0;
    if (rc == 0 && position > end) {
        rc = store_doubt(f->store, f->name, err);
    }
    return rc;
}

static int put_start(struct store *s, const char *object, uint64_t position,
                     struct http_body *bytes, bool quiet, store_put_cb cb, void *data,
                     struct error *err)
{
    int rc = put_check(s, object, position, bytes->len, err);
    if (rc != 0) {
        return rc;
    }
    struct put *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return error_set(err, WEIR_ENOMEM, "object %s: out of memory", object);
    }
    rc = file_take(s, object, true, &p->file, err);
    if (rc != 0) {
        free(p);
        return rc;
    }
    rc = doubt_gap(p->file, position, err);
    if (rc != 0) {
        file_release(p->file);
        free(p);
        return rc;
    }
    p->quiet = quiet;
    s->put_since_check += bytes->len;
    p->bytes = http_body_ref(bytes);
    p->position = position;
    p->started_ns = env_now_ns(s->env);
    p->cb = cb;
    p->data = data;
    p->iov = (struct iovec){.iov_base = bytes->data, .iov_len = bytes->len};
    p->io =
        (struct env_io){.data = p, .iov = &p->iov, .n_iov = 1, .offset = position, .sync = true};
    list_push_back(&p->file->puts, &p->link);
    env_file_write(p->file->file, &p->io, put_written);
    return 0;
}

int store_put(struct store *s, const char *object, uint64_t position, struct http_body *bytes,
              store_put_cb cb, void *data, struct error *err)
{
    return put_start(s, object, position, bytes, false, cb, data, err);
}

int store_put_quiet(struct store *s, const char *object, uint64_t position, struct http_body *bytes,
                    store_put_cb cb, void *data, struct error *err)
{
    return put_start(s, object, position, bytes, true, cb, data, err);
}

/* --- Get
 * -------------------------------------------------------------------------------------------------------
 */

static void get_finish(struct get *g)
{
    struct store *s = g->store;
    if (g->file != NULL) {
        file_release(g->file);
    } else {
        s->n_inflight--;
    }
    g->cb(g->data, g->status, g->body);
    http_body_unref(g->body);
    free(g->buf);
    free(g);
    close_when_done(s);
}

static void get_deferred(struct env_defer *defer)
{
    get_finish(defer->data);
}

static void get_read(struct env_io *io, int status)
{
    struct get *g = io->data;
    if (status == 0 && io->n_bytes < g->iov.iov_len) {
        status = WEIR_ENOTFOUND;
    }
    if (status == 0) {
        g->body = http_body_new(g->buf, g->iov.iov_len);
        g->buf = NULL;
        status = g->body == NULL ? WEIR_ENOMEM : 0;
    }
    /* Not kept in memory: nobody has checked it. store_fetch keeps what has its CRC. */
    g->status = status;
    get_finish(g);
}

static bool being_written(const struct file *f, uint64_t position, uint64_t size)
{
    LIST_FOREACH(it, &f->puts)
    {
        const struct put *p = list_entry(it, struct put, link);
        if (p->position < position + size && position < p->position + p->bytes->len) {
            return true;
        }
    }
    return false;
}

/* Answers from disk; what is known now becomes g->status, the rest comes with the read. */
static int get_from_disk(struct get *g, const char *object, uint64_t position, uint64_t size,
                         struct error *err)
{
    struct store *s = g->store;
    int rc = file_take(s, object, false, &g->file, err);
    if (rc != 0) {
        return rc;
    }
    uint64_t file_size = 0;
    rc = env_file_size(g->file->file, &file_size, err);
    if (rc == 0 && (position >= file_size || size > file_size - position ||
                    being_written(g->file, position, size != 0 ? size : file_size - position))) {
        rc = WEIR_ENOTFOUND;
    }
    size = size != 0 ? size : file_size - position;
    if (rc == 0 && size > STORE_PUT_MAX) {
        rc = error_set(err, WEIR_ETOOBIG, "object %s: %" PRIu64 " bytes", object, size);
    }
    g->buf = rc == 0 ? malloc(size) : NULL;
    if (rc == 0 && g->buf == NULL) {
        rc = error_set(err, WEIR_ENOMEM, "object %s: out of memory", object);
    }
    if (rc != 0) {
        file_release(g->file);
        g->file = NULL;
        return rc;
    }
    g->iov = (struct iovec){.iov_base = g->buf, .iov_len = size};
    g->io = (struct env_io){.data = g, .iov = &g->iov, .n_iov = 1, .offset = position};
    metric_add(s->disk_reads, 1);
    env_file_read(g->file->file, &g->io, get_read);
    return 0;
}

static void get_later(struct get *g, int status)
{
    g->store->n_inflight++;
    g->status = status;
    g->defer.data = g;
    env_defer(g->store->env, &g->defer, get_deferred);
}

static int get_start(struct store *s, const char *object, uint64_t position, uint64_t size,
                     bool quiet, store_get_cb cb, void *data, struct error *err)
{
    if (s->closing) {
        return error_set(err, WEIR_ECLOSED, "store: closing");
    }
    if (!store_object_valid(object)) {
        return error_set(err, WEIR_EINVAL, "store: bad object name");
    }
    if (size > STORE_PUT_MAX || position > STORE_OBJECT_MAX) {
        return error_set(err, WEIR_ETOOBIG, "object %s: %" PRIu64 " bytes at %" PRIu64, object,
                         size, position);
    }
    if (s->n_inflight >= STORE_INFLIGHT_MAX) {
        return error_set(err, WEIR_EBUSY, "store: too many requests");
    }
    struct get *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return error_set(err, WEIR_ENOMEM, "object %s: out of memory", object);
    }
    g->store = s;
    g->cb = cb;
    g->data = data;
    g->body = quiet ? NULL : store_cached(s, object, position, size);
    if (g->body != NULL) {
        get_later(g, 0);
        return 0;
    }
    int rc = get_from_disk(g, object, position, size, err);
    if (rc == WEIR_ENOTFOUND) {
        get_later(g, rc);
    } else if (rc != 0) {
        free(g);
        return rc;
    }
    return 0;
}

int store_get(struct store *s, const char *object, uint64_t position, uint64_t size,
              store_get_cb cb, void *data, struct error *err)
{
    return get_start(s, object, position, size, false, cb, data, err);
}

int store_get_quiet(struct store *s, const char *object, uint64_t position, uint64_t size,
                    store_get_cb cb, void *data, struct error *err)
{
    return get_start(s, object, position, size, true, cb, data, err);
}

struct http_body *store_cached(struct store *s, const char *object, uint64_t position,
                               uint64_t size)
{
    struct http_body *body = store_cache_get(s->cache, object, position, size);
    metric_add(s->cache_hits, body != NULL ? 1 : 0);
    return body;
}

void store_cache_keep(struct store *s, const char *object, uint64_t position,
                      struct http_body *body)
{
    store_cache_put(s->cache, object, position, body);
}

/* --- Copies that are kept whole
 * --------------------------------------------------------------------------------
 */

static void doubt_path(const struct store *s, const char *object, char path[PATH_MAX_BYTES])
{
    (void)snprintf(path, PATH_MAX_BYTES, "%s/%.2s/%s~", s->dir, object, object);
}

int store_doubt(struct store *s, const char *object, struct error *err)
{
    char path[PATH_MAX_BYTES];
    struct env_file *file = NULL;
    int rc = store_object_valid(object) ? prepare_dir(s, object, err)
                                        : error_set(err, WEIR_EINVAL, "store: bad object name");
    if (rc == 0) {
        doubt_path(s, object, path);
        rc = env_file_open(s->env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, err);
    }
    env_file_close(file);
    struct file *f = rc == 0 ? file_find(s, object) : NULL;
    if (f != NULL) {
        f->entry_synced = false; /* the next put syncs the folder */
    }
    return rc;
}

int store_trust(struct store *s, const char *object, struct error *err)
{
    char path[PATH_MAX_BYTES];
    if (!store_object_valid(object)) {
        return error_set(err, WEIR_EINVAL, "store: bad object name");
    }
    doubt_path(s, object, path);
    int rc = env_unlink(s->env, path, err);
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}

static void looked_at_object(struct env_io *io, int status)
{
    struct store_look *look = io->data;
    struct store *s = look->store;
    look->size = status == 0 ? io->offset : 0;
    s->n_inflight--;
    look->cb(look, status);
    close_when_done(s);
}

static void looked_for_doubt(struct env_io *io, int status)
{
    struct store_look *look = io->data;
    look->doubt = status == 0;
    if (status != 0 && status != WEIR_ENOTFOUND) {
        look->store->n_inflight--;
        struct store *s = look->store;
        look->cb(look, status);
        close_when_done(s);
        return;
    }
    look->path[strlen(look->path) - 1] = 0;
    env_path_size_start(look->store->env, look->path, &look->io, looked_at_object);
}

int store_look_start(struct store *s, const char *object, struct store_look *look,
                     void (*cb)(struct store_look *look, int status))
{
    static_assert(sizeof(look->path) == PATH_MAX_BYTES, "store.h");
    if (s->closing || !store_object_valid(object)) {
        return s->closing ? WEIR_ECLOSED : WEIR_EINVAL;
    }
    look->store = s;
    look->cb = cb;
    look->io = (struct env_io){.data = look};
    doubt_path(s, object, look->path);
    s->n_inflight++;
    env_path_size_start(s->env, look->path, &look->io, looked_for_doubt);
    return 0;
}

int store_remove(struct store *s, const char *object, struct error *err)
{
    char path[PATH_MAX_BYTES];
    if (!store_object_valid(object)) {
        return error_set(err, WEIR_EINVAL, "store: bad object name");
    }
    struct file *f = file_find(s, object);
    if (f != NULL && f->n_inflight > 0) {
        return error_set(err, WEIR_EBUSY, "object %s: in use", object);
    }
    if (f != NULL) {
        list_remove(&f->idle);
        s->n_idle--;
        file_free(f);
    }
    (void)snprintf(path, sizeof(path), "%s/%.2s/%s", s->dir, object, object);
    int rc = env_unlink(s->env, path, err);
    return rc == 0 ? store_trust(s, object, err) : rc;
}
