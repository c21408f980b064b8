/* What a fold sees of its partition: the store, and over it the changes of the batch. */
#include <assert.h>
#include <string.h>

#include "base/logging.h"
#include "views/priv.h"

void view_prefix(uint8_t prefix[VIEW_PREFIX_SIZE], enum view_topic topic, uint32_t partition)
{
    prefix[0] = (uint8_t)topic;
    store_be32(prefix + 1, partition);
}

static void *allocator_alloc(void *data, size_t n)
{
    struct fold_txn *txn = data;
    return arena_alloc(txn->arena, n);
}

static void allocator_free(void *data, void *p)
{
    (void)data;
    (void)p; /* the arena frees it with the batch */
}

void txn_init(struct fold_txn *txn, struct views *views, enum view_topic topic, uint32_t partition)
{
    txn->views = views;
    view_prefix(txn->prefix, topic, partition);
    txn->allocator.alloc = allocator_alloc;
    txn->allocator.free = allocator_free;
    txn->allocator.allocator_data = txn;
}

struct full_key {
    size_t len;
    uint8_t data[VIEW_KEY_MAX];
};

/* `key` may be empty for scans only. */
static void full_key(const struct fold_txn *txn, const void *key, size_t key_len,
                     struct full_key *ret)
{
    assert(key_len <= FOLD_KEY_MAX);
    memcpy(ret->data, txn->prefix, VIEW_PREFIX_SIZE);
    if (key_len > 0) {
        memcpy(ret->data + VIEW_PREFIX_SIZE, key, key_len);
    }
    ret->len = VIEW_PREFIX_SIZE + key_len;
}

static int txn_failed(struct fold_txn *txn, int rc, const struct error *err)
{
    txn->views->damaged = true;
    log_error("view_store_failed", "error=\"%s\"", err->text);
    return rc;
}

int fold_get(struct fold_txn *txn, const void *key, size_t key_len, struct bytes *out)
{
    struct full_key k;
    struct error err;
    full_key(txn, key, key_len, &k);
    const struct overlay_entry *e =
        txn->overlay == NULL ? NULL : overlay_find(txn->overlay, k.data, k.len);
    if (e == NULL) {
        int rc = view_store_get(txn->views->store, k.data, k.len, out, &err);
        return rc == 0 || rc == WEIR_ENOTFOUND ? rc : txn_failed(txn, rc, &err);
    }
    if (e->deleted) {
        return WEIR_ENOTFOUND;
    }
    bytes_reset(out);
    bytes_put(out, e->value, e->value_len);
    return bytes_error(out);
}

int fold_read(struct fold_txn *txn, const void *key, size_t key_len, const uint8_t **ret_value,
              size_t *ret_len)
{
    struct full_key k;
    struct error err;
    full_key(txn, key, key_len, &k);
    const struct overlay_entry *e =
        txn->overlay == NULL ? NULL : overlay_find(txn->overlay, k.data, k.len);
    if (e == NULL) {
        int rc =
            view_store_copy(txn->views->store, k.data, k.len, txn->arena, ret_value, ret_len, &err);
        return rc == 0 || rc == WEIR_ENOTFOUND ? rc : txn_failed(txn, rc, &err);
    }
    if (e->deleted) {
        return WEIR_ENOTFOUND;
    }
    /* A copy: a later put of the batch writes over the overlay's value. */
    const uint8_t *copy = arena_copy(txn->arena, e->value, e->value_len);
    if (copy == NULL) {
        return WEIR_ENOMEM;
    }
    *ret_value = copy;
    *ret_len = e->value_len;
    return 0;
}

int fold_put(struct fold_txn *txn, const void *key, size_t key_len, const void *value,
             size_t value_len)
{
    struct full_key k;
    assert(txn->overlay != NULL && key_len > 0 && value_len <= FOLD_VALUE_MAX);
    full_key(txn, key, key_len, &k);
    return overlay_set(txn->overlay, k.data, k.len, value == NULL ? "" : value, value_len);
}

int fold_delete(struct fold_txn *txn, const void *key, size_t key_len)
{
    struct full_key k;
    assert(txn->overlay != NULL && key_len > 0);
    full_key(txn, key, key_len, &k);
    return overlay_set(txn->overlay, k.data, k.len, NULL, 0);
}

void *fold_alloc(struct fold_txn *txn, size_t size)
{
    assert(txn->arena != NULL);
    void *p = arena_alloc(txn->arena, size);
    return p == NULL ? NULL : memset(p, 0, size);
}

struct ProtobufCAllocator *fold_allocator(struct fold_txn *txn)
{
    assert(txn->arena != NULL);
    return &txn->allocator;
}

int fold_unpack_failed(const struct fold_txn *txn)
{
    return txn->arena->failed ? WEIR_ENOMEM : 0;
}

/* --- Scans: the store's keys and the overlay's, merged --- */

struct scan {
    struct fold_txn *txn;
    struct view_cursor *stored;
    const struct overlay_entry *changed;
    struct full_key prefix;
    bool reverse;
};

static bool in_prefix(const struct scan *s, const struct overlay_entry *e)
{
    return e != NULL && e->key_len >= s->prefix.len &&
           memcmp(overlay_key(e), s->prefix.data, s->prefix.len) == 0;
}

static const struct overlay_entry *changed_step(const struct scan *s)
{
    const struct overlay_entry *e = s->changed;
    return s->reverse ? overlay_below(s->txn->overlay, overlay_key(e), e->key_len, false)
                      : overlay_next(e);
}

/* Where a reverse walk of the whole prefix begins in the overlay: the entry before the first key
 * behind the prefix. */
static const struct overlay_entry *changed_last(const struct scan *s)
{
    struct full_key end = s->prefix;
    while (end.len > 0 && end.data[end.len - 1] == 0xff) {
        end.len--;
    }
    assert(end.len > 0); /* topics are far below 0xff */
    end.data[end.len - 1]++;
    return overlay_below(s->txn->overlay, end.data, end.len, false);
}

static void scan_seek(struct scan *s, const struct full_key *from)
{
    const struct overlay *o = s->txn->overlay;
    if (from == NULL && s->reverse) {
        view_cursor_last(s->stored);
        s->changed = o == NULL ? NULL : changed_last(s);
        return;
    }
    const struct full_key *k = from == NULL ? &s->prefix : from;
    view_cursor_seek(s->stored, k->data, k->len, s->reverse);
    if (o != NULL) {
        s->changed = s->reverse ? overlay_below(o, k->data, k->len, true)
                                : overlay_at_least(o, k->data, k->len);
    }
}

/* Which side is next: < 0 the store, > 0 the overlay, 0 both stand at the same key. */
static int scan_order(const struct scan *s)
{
    size_t n = 0;
    const uint8_t *key = view_cursor_key(s->stored, &n);
    int c = key_compare(key, n, overlay_key(s->changed), s->changed->key_len);
    return s->reverse ? -c : c;
}

static int scan_run(struct scan *s, fold_iter_cb cb, void *data)
{
    int rc = 0;
    while (rc == 0) {
        bool stored = view_cursor_valid(s->stored), changed = in_prefix(s, s->changed);
        if (!stored && !changed) {
            break;
        }
        int order = stored && changed ? scan_order(s) : stored ? -1 : 1;
        size_t key_len = 0, value_len = 0;
        if (order < 0) {
            const uint8_t *key = view_cursor_key(s->stored, &key_len);
            const uint8_t *value = view_cursor_value(s->stored, &value_len);
            if (key_len > VIEW_PREFIX_SIZE) { /* not the offset */
                rc = cb(data, key + VIEW_PREFIX_SIZE, key_len - VIEW_PREFIX_SIZE, value, value_len);
            }
        } else if (!s->changed->deleted) {
            rc = cb(data, overlay_key(s->changed) + VIEW_PREFIX_SIZE,
                    (size_t)s->changed->key_len - VIEW_PREFIX_SIZE, s->changed->value,
                    s->changed->value_len);
        }
        if (order <= 0) {
            view_cursor_step(s->stored, s->reverse);
        }
        if (order >= 0) {
            s->changed = changed_step(s);
        }
    }
    struct error err;
    int failed = view_cursor_error(s->stored, &err);
    return failed != 0 ? txn_failed(s->txn, failed, &err) : rc;
}

static int scan(struct fold_txn *txn, const void *prefix, size_t prefix_len,
                const struct full_key *from, bool reverse, fold_iter_cb cb, void *data)
{
    struct scan s = {.txn = txn, .reverse = reverse};
    full_key(txn, prefix, prefix_len, &s.prefix);
    s.stored = view_cursor_new(txn->views->store, s.prefix.data, s.prefix.len);
    if (s.stored == NULL) {
        return WEIR_ENOMEM;
    }
    scan_seek(&s, from);
    int rc = scan_run(&s, cb, data);
    view_cursor_free(s.stored);
    return rc;
}

int fold_scan(struct fold_txn *txn, const void *prefix, size_t prefix_len, bool reverse,
              fold_iter_cb cb, void *data)
{
    return scan(txn, prefix, prefix_len, NULL, reverse, cb, data);
}

int fold_scan_from(struct fold_txn *txn, const void *prefix, size_t prefix_len, const void *from,
                   size_t from_len, bool reverse, fold_iter_cb cb, void *data)
{
    struct full_key k;
    full_key(txn, from, from_len, &k);
    return scan(txn, prefix, prefix_len, &k, reverse, cb, data);
}

void txn_write(struct fold_txn *txn)
{
    struct view_store *store = txn->views->store;
    for (const struct overlay_entry *e = txn->overlay->head[0]; e != NULL; e = overlay_next(e)) {
        if (e->deleted) {
            view_store_delete(store, overlay_key(e), e->key_len);
        } else {
            view_store_put(store, overlay_key(e), e->key_len, e->value, e->value_len);
        }
    }
}
