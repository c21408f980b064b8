/* The fold engine's inner side: what one view implements (accounts.c, lifecycle.c, chat.c,
 * ledger.c). Only views/ uses this.
 *
 * Keys of a view are prefixed by the engine with topic and partition, so a fold can only see its
 * own partition's state. Reads see what the same batch has already written. Iteration is in byte
 * order. */
#ifndef VIEWS_FOLD_H
#define VIEWS_FOLD_H

#include "base/bytes.h"
#include "views/views.h"

struct fold_txn; /* state of one partition, with the changes of the records folded so far in this
                    batch */

/* 0, or WEIR_ENOTFOUND, or an error that stops the view. `out` is reset and filled. */
int fold_get(struct fold_txn *txn, const void *key, size_t key_len, struct bytes *out);
int fold_put(struct fold_txn *txn, const void *key, size_t key_len, const void *value,
             size_t value_len);
int fold_delete(struct fold_txn *txn, const void *key, size_t key_len);
/* Keys that begin with prefix, in order; non-zero from cb ends it and is returned. `reverse` walks
 * from the end. The callback may put and delete: whether the walk meets what it adds is not said. A
 * view key has 1..FOLD_KEY_MAX bytes, a value at most FOLD_VALUE_MAX. */
#define FOLD_KEY_MAX   500
#define FOLD_VALUE_MAX (4u << 20)
typedef int (*fold_iter_cb)(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                            size_t value_len);
int fold_scan(struct fold_txn *txn, const void *prefix, size_t prefix_len, bool reverse,
              fold_iter_cb cb, void *data);

/* The same, beginning at the first key >= `from` (reverse: at the last key <= `from`). */
int fold_scan_from(struct fold_txn *txn, const void *prefix, size_t prefix_len, const void *from,
                   size_t from_len, bool reverse, fold_iter_cb cb, void *data);
/* As fold_get, into memory of fold_alloc. */
int fold_read(struct fold_txn *txn, const void *key, size_t key_len, const uint8_t **ret_value,
              size_t *ret_len);
/* Memory until the record's event has been heard (in a read: until views_read_end), for decoded
 * records and outcomes: zeroed, freed by the engine. NULL: out of memory. */
void *fold_alloc(struct fold_txn *txn, size_t size);
/* The same memory as protobuf-c's allocator for weir__x__unpack; what is unpacked with it needs no
 * free. */
struct ProtobufCAllocator *fold_allocator(struct fold_txn *txn);
/* weir__x__unpack gave NULL: 0 when the bytes are at fault (the record is void), WEIR_ENOMEM when
 * we are. */
int fold_unpack_failed(const struct fold_txn *txn);

struct fold_record {
    uint32_t partition;
    int64_t offset;
    int64_t append_ms;
    const uint8_t *value;
    size_t len;
};

struct view_ops {
    enum view_topic topic;
    /* Of the layout of keys and values: with another number the topic's state is thrown away and
     * folded anew. */
    uint32_t version;
    /* In-memory side of the view (caches, indexes over what is stored), all three may be NULL;
     * rebuilt from the store by `load`, which is called with a read-only txn once per partition
     * before its first record, and again when a batch had to be given up (a store error): it then
     * replaces what `fold` has changed in memory of that partition. */
    int (*open)(struct views *views, void **ret_state, struct error *err);
    int (*load)(void *state, uint32_t partition, struct fold_txn *txn, struct error *err);
    void (*close)(void *state);
    /* Folds one record: changes go into txn, the verdict and (borrowed until `committed`) decoded
     * record and outcome into the event. A negative return stops the node's view with an alarm:
     * only for store errors, never for bad records. */
    int (*fold)(void *state, struct fold_txn *txn, const struct fold_record *record,
                struct view_event *ret_event, struct error *err);
    /* After the write batch and the listeners: free what fold left in the event. May be NULL. */
    void (*committed)(void *state, struct view_event *event);
};
extern const struct view_ops accounts_view, lifecycle_view, chat_view, ledger_view;

/* For queries outside a fold: a read-only txn on the newest committed state. WEIR_EUNAVAILABLE:
 * partitions not known yet; WEIR_ENOMEM. */
int views_read_begin(struct views *views, enum view_topic topic, uint32_t partition,
                     struct fold_txn **ret_txn);
void views_read_end(struct fold_txn *txn);
void *views_state(struct views *views, enum view_topic topic);

#endif
