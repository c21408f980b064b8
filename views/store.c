#include "views/store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <rocksdb/c.h>

#include "base/logging.h"

/* Small on purpose: views are a few hundred MB at most, and a node shares its memory with the log.
 */
#define WRITE_BUFFER_BYTES   (8u << 20)
#define WRITE_BUFFERS        3
#define BLOCK_CACHE_BYTES    (16u << 20)
#define BLOOM_BITS_PER_KEY   10
#define MEMTABLE_BLOOM_RATIO 0.05
#define VERIFY_READAHEAD     (256u << 10)
#define INFO_LOG_BYTES       (1u << 20)
#define INFO_LOGS            2
#define INFO_LOG_LEVEL_WARN  2

struct view_store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush_later, *flush_now;
    rocksdb_writebatch_t *batch;
};

struct view_cursor {
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *read;
    size_t prefix_len;
    uint8_t prefix[VIEW_KEY_MAX];
    uint8_t end[VIEW_KEY_MAX]; /* first key behind the prefix */
};

static bool text_has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* RocksDB tells errors as text that begins with the kind. */
static int store_code(const char *text)
{
    if (strncmp(text, "Corruption", 10) == 0 || strncmp(text, "Invalid argument", 16) == 0 ||
        text_has(text, "No such file")) {
        return WEIR_ECORRUPT;
    }
    if (text_has(text, "No space left")) {
        return WEIR_ENOSPC;
    }
    if (text_has(text, "While lock file") || text_has(text, "lock hold by current process")) {
        return WEIR_EBUSY;
    }
    return WEIR_EIO;
}

/* Takes the text. */
static int store_error(struct error *err, const char *what, char *text)
{
    int rc = error_set(err, store_code(text), "views: %s: %s", what, text);
    rocksdb_free(text);
    return rc;
}

static void store_set_table(rocksdb_options_t *o)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(BLOCK_CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_block_based_options_set_filter_policy(
        t, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t); /* the factory has copied it and shares the cache */
    rocksdb_cache_destroy(cache);
}

static rocksdb_options_t *store_options(void)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER_BYTES);
    rocksdb_options_set_max_write_buffer_number(o, WRITE_BUFFERS);
    rocksdb_options_set_max_background_jobs(o, 2);
    /* Folds mostly ask for what is not there (a nonce, a name): a filter over the memtable answers
     * that. */
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, MEMTABLE_BLOOM_RATIO);
    rocksdb_options_set_memtable_whole_key_filtering(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_keep_log_file_num(o, INFO_LOGS);
    rocksdb_options_set_max_log_file_size(o, INFO_LOG_BYTES);
    rocksdb_options_set_info_log_level(o, INFO_LOG_LEVEL_WARN);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    /* One thread writes: the concurrent memtable only costs. */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    store_set_table(o);
    return o;
}

static void store_free(struct view_store *s)
{
    if (s->db != NULL) {
        rocksdb_close(s->db);
    }
    rocksdb_writebatch_destroy(s->batch);
    rocksdb_flushoptions_destroy(s->flush_now);
    rocksdb_flushoptions_destroy(s->flush_later);
    rocksdb_writeoptions_destroy(s->write);
    rocksdb_readoptions_destroy(s->read);
    rocksdb_options_destroy(s->options);
    free(s);
}

static struct view_store *store_new(void)
{
    struct view_store *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->options = store_options();
    s->read = rocksdb_readoptions_create();
    s->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(s->write, 1);
    s->flush_later = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(s->flush_later, 0);
    s->flush_now = rocksdb_flushoptions_create();
    s->batch = rocksdb_writebatch_create();
    return s;
}

static const uint8_t format_key[] = {VIEW_STORE_META, 'f', 'o', 'r', 'm', 'a', 't'};

/* An empty store gets the format; another format is as good as damage: the fold makes it anew. */
static int store_check_format(struct view_store *s, struct error *err)
{
    struct bytes b;
    bytes_init(&b, 64);
    int rc = view_store_get(s, format_key, sizeof(format_key), &b, err);
    uint32_t format = rc == 0 && b.len == 4 ? load_le32(b.data) : 0;
    bytes_close(&b);
    if (rc == 0 && format != VIEW_STORE_FORMAT) {
        return error_set(err, WEIR_EVERSION, "views: store has format %u, this is %u", format,
                         VIEW_STORE_FORMAT);
    }
    if (rc != WEIR_ENOTFOUND) {
        return rc;
    }
    struct view_cursor *c = view_cursor_new(s, "", 0);
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "views: cursor");
    }
    view_cursor_seek(c, "", 0, false);
    bool empty = !view_cursor_valid(c);
    rc = view_cursor_error(c, err);
    view_cursor_free(c);
    if (rc != 0) {
        return rc;
    }
    if (!empty) {
        return error_set(err, WEIR_ECORRUPT, "views: store has keys but no format");
    }
    uint8_t v[4];
    store_le32(v, VIEW_STORE_FORMAT);
    view_store_put(s, format_key, sizeof(format_key), v, sizeof(v));
    return view_store_write(s, err);
}

/* Reads every block, whose checksums RocksDB checks: damage is found now, where the answer is to
 * rebuild, and not in the middle of serving. */
static int store_verify(struct view_store *s, struct error *err)
{
    struct view_cursor *c = view_cursor_new(s, "", 0);
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "views: cursor");
    }
    rocksdb_readoptions_set_fill_cache(c->read, 0);
    rocksdb_readoptions_set_readahead_size(c->read, VERIFY_READAHEAD);
    view_cursor_seek(c, "", 0, false);
    while (view_cursor_valid(c)) {
        view_cursor_step(c, false);
    }
    int rc = view_cursor_error(c, err);
    view_cursor_free(c);
    return rc;
}

static int store_try(struct view_store *s, const char *dir, struct error *err)
{
    char *text = NULL;
    s->db = rocksdb_open(s->options, dir, &text);
    if (text != NULL) {
        s->db = NULL;
        return store_error(err, dir, text);
    }
    int rc = store_verify(s, err);
    if (rc == 0) {
        rc = store_check_format(s, err);
    }
    if (rc != 0) {
        rocksdb_close(s->db);
        s->db = NULL;
    }
    return rc;
}

int view_store_open(const char *dir, struct view_store **ret_store, bool *ret_rebuilt,
                    struct error *err)
{
    struct error why = {0};
    struct view_store *s = store_new();
    if (s == NULL) {
        return error_set(err, WEIR_ENOMEM, "views: store");
    }
    bool rebuilt = false;
    int rc = store_try(s, dir, &why);
    if (rc == WEIR_ECORRUPT || rc == WEIR_EVERSION) {
        log_warn("view_store_rebuild", "dir=%s reason=\"%s\"", dir, why.text);
        char *text = NULL;
        rocksdb_destroy_db(s->options, dir, &text);
        rocksdb_free(text);
        rebuilt = true;
        rc = store_try(s, dir, &why);
    }
    if (rc != 0) {
        store_free(s);
        return error_set(err, rc, "%s", why.text);
    }
    *ret_store = s;
    if (ret_rebuilt != NULL) {
        *ret_rebuilt = rebuilt;
    }
    return 0;
}

void view_store_close(struct view_store *s)
{
    if (s == NULL) {
        return;
    }
    char *text = NULL;
    rocksdb_flush(s->db, s->flush_now, &text);
    if (text != NULL) {
        log_warn("view_store_flush_failed", "error=\"%s\"", text);
        rocksdb_free(text);
    }
    store_free(s);
}

/* Pinned in the store's memory until destroyed; WEIR_ENOTFOUND. */
static int store_pin(struct view_store *s, const void *key, size_t key_len,
                     rocksdb_pinnableslice_t **ret_slice, struct error *err)
{
    char *text = NULL;
    *ret_slice = rocksdb_get_pinned(s->db, s->read, key, key_len, &text);
    if (text != NULL) {
        return store_error(err, "get", text);
    }
    return *ret_slice == NULL ? WEIR_ENOTFOUND : 0;
}

int view_store_get(struct view_store *s, const void *key, size_t key_len, struct bytes *out,
                   struct error *err)
{
    rocksdb_pinnableslice_t *slice = NULL;
    size_t n = 0;
    int rc = store_pin(s, key, key_len, &slice, err);
    if (rc != 0) {
        return rc;
    }
    const char *data = rocksdb_pinnableslice_value(slice, &n);
    bytes_reset(out);
    bytes_put(out, data, n);
    rocksdb_pinnableslice_destroy(slice);
    rc = bytes_error(out);
    return rc == 0 ? 0 : error_set(err, rc, "views: value of %zu bytes", n);
}

int view_store_copy(struct view_store *s, const void *key, size_t key_len, struct arena *arena,
                    const uint8_t **ret_value, size_t *ret_len, struct error *err)
{
    rocksdb_pinnableslice_t *slice = NULL;
    size_t n = 0;
    int rc = store_pin(s, key, key_len, &slice, err);
    if (rc != 0) {
        return rc;
    }
    const char *data = rocksdb_pinnableslice_value(slice, &n);
    uint8_t *copy = arena_copy(arena, data, n);
    rocksdb_pinnableslice_destroy(slice);
    if (copy == NULL) {
        return error_set(err, WEIR_ENOMEM, "views: value of %zu bytes", n);
    }
    *ret_value = copy;
    *ret_len = n;
    return 0;
}

void view_store_put(struct view_store *s, const void *key, size_t key_len, const void *value,
                    size_t value_len)
{
    assert(key_len <= VIEW_KEY_MAX && value_len <= VIEW_VALUE_MAX);
    rocksdb_writebatch_put(s->batch, key, key_len, value_len == 0 ? "" : value, value_len);
}

void view_store_delete(struct view_store *s, const void *key, size_t key_len)
{
    assert(key_len <= VIEW_KEY_MAX);
    rocksdb_writebatch_delete(s->batch, key, key_len);
}

/* The smallest key above all that begin with the prefix; false: there is none (all 0xff). */
static bool prefix_end(const uint8_t *prefix, size_t n, uint8_t end[VIEW_KEY_MAX], size_t *ret_len)
{
    while (n > 0 && prefix[n - 1] == 0xff) {
        n--;
    }
    if (n == 0) {
        return false;
    }
    memcpy(end, prefix, n);
    end[n - 1]++;
    *ret_len = n;
    return true;
}

void view_store_delete_prefix(struct view_store *s, const void *prefix, size_t prefix_len)
{
    uint8_t end[VIEW_KEY_MAX];
    size_t n = 0;
    assert(prefix_len <= VIEW_KEY_MAX);
    bool bounded = prefix_end(prefix, prefix_len, end, &n);
    assert(bounded);
    rocksdb_writebatch_delete_range(s->batch, prefix, prefix_len, (const char *)end, n);
}

int view_store_write(struct view_store *s, struct error *err)
{
    char *text = NULL;
    rocksdb_write(s->db, s->write, s->batch, &text);
    rocksdb_writebatch_clear(s->batch);
    return text == NULL ? 0 : store_error(err, "write", text);
}

void view_store_flush(struct view_store *s)
{
    char *text = NULL;
    rocksdb_flush(s->db, s->flush_later, &text);
    if (text != NULL) {
        log_warn("view_store_flush_failed", "error=\"%s\"", text);
        rocksdb_free(text);
    }
}

struct view_cursor *view_cursor_new(struct view_store *s, const void *prefix, size_t prefix_len)
{
    assert(prefix_len <= VIEW_KEY_MAX);
    struct view_cursor *c = malloc(sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->prefix_len = prefix_len;
    if (prefix_len > 0) {
        memcpy(c->prefix, prefix, prefix_len);
    }
    c->read = rocksdb_readoptions_create();
    size_t n = 0;
    if (prefix_end(c->prefix, prefix_len, c->end, &n)) {
        rocksdb_readoptions_set_iterate_upper_bound(c->read, (const char *)c->end, n);
    }
    c->it = rocksdb_create_iterator(s->db, c->read);
    return c;
}

void view_cursor_free(struct view_cursor *c)
{
    if (c == NULL) {
        return;
    }
    rocksdb_iter_destroy(c->it);
    rocksdb_readoptions_destroy(c->read);
    free(c);
}

void view_cursor_seek(struct view_cursor *c, const void *key, size_t key_len, bool reverse)
{
    if (reverse) {
        rocksdb_iter_seek_for_prev(c->it, key, key_len);
    } else {
        rocksdb_iter_seek(c->it, key, key_len);
    }
}

void view_cursor_last(struct view_cursor *c)
{
    rocksdb_iter_seek_to_last(c->it); /* of those below the upper bound */
}

void view_cursor_step(struct view_cursor *c, bool reverse)
{
    if (reverse) {
        rocksdb_iter_prev(c->it);
    } else {
        rocksdb_iter_next(c->it);
    }
}

bool view_cursor_valid(const struct view_cursor *c)
{
    size_t n = 0;
    if (!rocksdb_iter_valid(c->it)) {
        return false;
    }
    const char *key = rocksdb_iter_key(c->it, &n);
    return n >= c->prefix_len && memcmp(key, c->prefix, c->prefix_len) == 0;
}

const uint8_t *view_cursor_key(const struct view_cursor *c, size_t *ret_len)
{
    return (const uint8_t *)rocksdb_iter_key(c->it, ret_len);
}

const uint8_t *view_cursor_value(const struct view_cursor *c, size_t *ret_len)
{
    return (const uint8_t *)rocksdb_iter_value(c->it, ret_len);
}

int view_cursor_error(const struct view_cursor *c, struct error *err)
{
    char *text = NULL;
    rocksdb_iter_get_error(c->it, &text);
    return text == NULL ? 0 : store_error(err, "walk", text);
}
