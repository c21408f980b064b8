/* Inside of the engine: views.c (folding), submit.c (read your own writes), consume.c (the client's
 * side), hash.c, txn.c. */
#ifndef VIEWS_PRIV_H
#define VIEWS_PRIV_H

#include "base/metrics.h"
#include "proto/accounts.pb-c.h"
#include "views/arena.h"
#include "views/fold.h"
#include "views/overlay.h"
#include "views/store.h"

/* A batch is written when it has this many records or this much memory. */
#define VIEW_BATCH_RECORDS_MAX 4096
#define VIEW_BATCH_BYTES_MAX   (2u << 20)
/* Verdicts of the newest records of a partition, for submits whose acknowledgement comes after the
 * fold. A power of two. */
#define VIEW_VERDICTS 4096
#define VIEW_TICK_US  500000
#define VIEW_FLUSH_TICKS                                                                           \
    120 /* memory goes to disk once a minute: what a crash makes us fold again */
#define VIEW_RETRY_TICKS   2
#define VIEW_RANGE_RETRIES 30

struct fold_txn {
    struct views *views;
    struct overlay *overlay; /* NULL: read only */
    struct arena *arena;
    struct arena own; /* of a read */
    uint8_t prefix[VIEW_PREFIX_SIZE];
    struct ProtobufCAllocator allocator;
};

struct view_partition {
    struct views *views;
    enum view_topic topic;
    uint32_t partition;
    int64_t next;          /* offset to fold next */
    int64_t verdicts_from; /* lowest offset whose verdict is in the ring */
    uint8_t verdicts[VIEW_VERDICTS];
    int64_t heard; /* listeners have heard everything below; more than `next` after a rebuild */
    struct list waiting; /* struct view_submit, acknowledged, not yet folded here */
    /* With a client */
    struct weir_consumer *consumer;
    int64_t high_watermark; /* newest seen; -1: none yet */
    int64_t target;         /* first seen: when we were there, the view is ready */
    uint32_t range_retries;
    bool stalled; /* the consumer is to be closed and begun anew at the next tick */
};

struct view {
    const struct view_ops *ops; /* NULL: not built in */
    void *state;
    struct view_partition *partitions;
    uint32_t n_partitions; /* 0: not known yet */
    struct list listeners;
    struct weir_topic_req topic_req;
    bool topic_asked, topic_known;
    struct metric *records, *voids, *lag;
    bool told; /* that the topic isn't there yet */
};

struct views {
    struct env *env;
    struct weir_client *client; /* NULL: detached */
    struct view_store *store;
    char *dir;
    struct view view[VIEW_TOPICS];
    /* The batch being folded */
    struct fold_txn txn;
    struct overlay overlay;
    struct arena arena;
    struct view_event *events; /* VIEW_BATCH_RECORDS_MAX */
    unsigned n_events;
    bool folding, dirty;
    bool damaged;       /* the store failed: to be opened anew at the next tick */
    unsigned in_client; /* produce and topic requests on their way: they keep this memory alive */
    struct list hashes;
    struct env_timer timer, hash_timer;
    uint32_t ticks;
    bool closing, closed;
    void (*close_cb)(void *data);
    void *close_data;
};

extern const struct view_ops *const view_ops_all[VIEW_TOPICS];

void txn_init(struct fold_txn *txn, struct views *views, enum view_topic topic, uint32_t partition);
/* Moves the batch's changes into the store's next write. */
void txn_write(struct fold_txn *txn);
void view_prefix(uint8_t prefix[VIEW_PREFIX_SIZE], enum view_topic topic, uint32_t partition);
struct view_partition *view_partition_get(const struct views *views, enum view_topic topic,
                                          uint32_t partition);
/* Makes the partition count of a topic known, for good: stored, offsets read, view loaded. With
 * another count than before the state is thrown away. */
int view_set_partitions(struct views *views, enum view_topic topic, uint32_t n, struct error *err);
/* Throws away one partition's state (not its memory side: views_reopen follows). */
int view_wipe(struct view_partition *p, struct error *err);
/* After a store error: closes and opens the store and loads everything anew. When the store had to
 * be rebuilt the offsets are 0 again; what listeners have heard they don't hear twice. Consumers
 * are stopped. */
int views_reopen(struct views *views, struct error *err);

/* Fires the submits below p->next. */
void submit_folded(struct view_partition *p);
void submit_tick(struct views *views);
void submit_fail_all(struct views *views, int status);

void consume_start(struct views *views);
void consume_tick(struct views *views);
void consume_stop(struct views *views);

void hash_fail_all(struct views *views, int status);
/* Called when a request of the client is over: frees closed views with the last one. */
void views_client_done(struct views *views);

#endif
