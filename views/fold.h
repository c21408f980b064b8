/* The fold engine's inner side: what one view implements (accounts.c, lifecycle.c, chat.c, ledger.c). Only views/ uses this.
 *
 * Keys of a view are prefixed by the engine with topic and partition, so a fold can only see its own partition's state. Reads see what the same
 * batch has already written. Iteration is in byte order. */
#ifndef VIEWS_FOLD_H
#define VIEWS_FOLD_H

#include "base/bytes.h"
#include "views/views.h"

struct fold_txn; /* state of one partition, with the changes of the records folded so far in this batch */

/* 0, or WEIR_ENOTFOUND, or an error that stops the view. `out` is reset and filled. */
int fold_get(struct fold_txn *txn, const void *key, size_t key_len, struct bytes *out);
int fold_put(struct fold_txn *txn, const void *key, size_t key_len, const void *value,
             size_t value_len);
int fold_delete(struct fold_txn *txn, const void *key, size_t key_len);
/* Keys that begin with prefix, in order; non-zero from cb ends it and is returned. `reverse` walks from the end. */
typedef int (*fold_iter_cb)(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                            size_t value_len);
int fold_scan(struct fold_txn *txn, const void *prefix, size_t prefix_len, bool reverse,
              fold_iter_cb cb, void *data);

struct fold_record {
    uint32_t partition;
    int64_t offset;
    int64_t append_ms;
    const uint8_t *value;
    size_t len;
};

struct view_ops {
    enum view_topic topic;
    /* In-memory side of the view (caches, indexes over what is stored); rebuilt from the store at open by `load`, which is called once per partition
     * with a read-only txn. */
    int (*open)(struct views *views, void **ret_state, struct error *err);
    int (*load)(void *state, uint32_t partition, struct fold_txn *txn, struct error *err);
    void (*close)(void *state);
    /* Folds one record: changes go into txn, the verdict and (borrowed until `committed`) decoded record and outcome into the event. A negative return
     * stops the node's view with an alarm: only for store errors, never for bad records. */
    int (*fold)(void *state, struct fold_txn *txn, const struct fold_record *record,
                struct view_event *ret_event, struct error *err);
    /* After the write batch and the listeners: free what fold left in the event. */
    void (*committed)(void *state, struct view_event *event);
};
extern const struct view_ops accounts_view, lifecycle_view, chat_view, ledger_view;

/* For queries outside a fold: a read-only txn on the newest committed state. */
int views_read_begin(struct views *views, enum view_topic topic, uint32_t partition,
                     struct fold_txn **ret_txn);
void views_read_end(struct fold_txn *txn);
void *views_state(struct views *views, enum view_topic topic);
uint32_t views_partitions(const struct views *views, enum view_topic topic);

#endif
