/* The views' RocksDB: the only file that knows it. One per node, one column family, no write-ahead
 * log: the log of the cluster is the truth, and what a crash takes from the memtable is folded
 * again. That is sound because a memtable is flushed whole and in order, so a crash leaves the
 * state after some write batch, and each batch carries the offset it stands at.
 *
 *   topic u8 | partition be32 | view key   a view's state
 *   topic u8 | partition be32              le64, the offset to fold next
 *   0xff "format"                          le32, VIEW_STORE_FORMAT
 *   0xff "topic" topic u8                  le32 version of the view's layout, le32 partitions
 *
 * Every block carries RocksDB's own checksum; opening reads all of it once. Loop thread only. */
#ifndef VIEWS_STORE_H
#define VIEWS_STORE_H

#include "base/bytes.h"
#include "base/error.h"
#include "views/arena.h"

#define VIEW_STORE_FORMAT 1
#define VIEW_PREFIX_SIZE  5
#define VIEW_KEY_MAX      512 /* with the prefix */
#define VIEW_VALUE_MAX    (4u << 20)
#define VIEW_STORE_META   0xff

struct view_store;
struct view_cursor;

/* Made when absent. A damaged store, or one of another format, is logged, thrown away and begun
 * anew (*ret_rebuilt, may be NULL). WEIR_EBUSY: another process has it open. */
int view_store_open(const char *dir, struct view_store **ret_store, bool *ret_rebuilt,
                    struct error *err);
/* Flushes first, so that nothing needs to be folded again. NULL is fine. */
void view_store_close(struct view_store *s);

/* WEIR_ENOTFOUND, WEIR_ECORRUPT, WEIR_EIO. `out` is reset and filled. */
int view_store_get(struct view_store *s, const void *key, size_t key_len, struct bytes *out,
                   struct error *err);

/* As view_store_get, into the arena. */
int view_store_copy(struct view_store *s, const void *key, size_t key_len, struct arena *arena,
                    const uint8_t **ret_value, size_t *ret_len, struct error *err);

/* Changes collected for one atomic write; empty after it, also when it failed. */
void view_store_put(struct view_store *s, const void *key, size_t key_len, const void *value,
                    size_t value_len);
void view_store_delete(struct view_store *s, const void *key, size_t key_len);
/* Every key that begins with the prefix. */
void view_store_delete_prefix(struct view_store *s, const void *prefix, size_t prefix_len);
int view_store_write(struct view_store *s, struct error *err);
/* Begins to write memory to disk, in the background. */
void view_store_flush(struct view_store *s);

/* Walks keys that begin with a prefix, on the state of the moment it was made; the prefix is
 * copied. NULL: out of memory. */
struct view_cursor *view_cursor_new(struct view_store *s, const void *prefix, size_t prefix_len);
void view_cursor_free(struct view_cursor *c);
/* To the first key >= key (reverse: the last key <= key). */
void view_cursor_seek(struct view_cursor *c, const void *key, size_t key_len, bool reverse);
void view_cursor_last(struct view_cursor *c); /* last key with the prefix */
void view_cursor_step(struct view_cursor *c, bool reverse);
bool view_cursor_valid(const struct view_cursor *c);
const uint8_t *view_cursor_key(const struct view_cursor *c, size_t *ret_len);
const uint8_t *view_cursor_value(const struct view_cursor *c, size_t *ret_len);
/* 0, or why it became invalid. */
int view_cursor_error(const struct view_cursor *c, struct error *err);

#endif
