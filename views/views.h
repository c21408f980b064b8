/* Views: deterministic folds of the log, kept in RocksDB in the same write batch as the offset they
 * stand at.
 *
 * One `struct views` per node, on the front loop. It consumes every partition of accounts,
 * lifecycle, chat and ledger through the client and folds record by record. A fold never reads the
 * clock, randomness or configuration: only the record, its offset and append time, and the view's
 * own state of that partition. A record that breaks a rule is *void*: the fold says why (a verdict)
 * and changes nothing but the offset. A record that can't be parsed is void too. Two nodes at the
 * same offset hold the same bytes: views_hash proves it.
 *
 * Listeners hear every record after its write batch, accepted or void, in partition order; the
 * state they may ask is then at or after the record. In a process's life they hear an offset once,
 * also when a damaged store is folded anew. A listener may take itself out. */
#ifndef VIEWS_VIEWS_H
#define VIEWS_VIEWS_H

#include "base/env.h"
#include "clients/log/weir_log.h"

struct views;

enum view_topic { VIEW_ACCOUNTS, VIEW_LIFECYCLE, VIEW_CHAT, VIEW_LEDGER, VIEW_TOPICS };
extern const char *const view_topic_names[VIEW_TOPICS];

/* Why a record is void; 0 is accepted. Stable numbers (they are shown to clients by name). */
#define VERDICT_MAP(X)                                                                             \
    X(VERDICT_OK, 0, "ok")                                                                         \
    X(VERDICT_MALFORMED, 1, "malformed")                                                           \
    X(VERDICT_EXISTS, 2, "exists")                                                                 \
    X(VERDICT_NOT_FOUND, 3, "not_found")                                                           \
    X(VERDICT_FENCED, 4, "fenced")                                                                 \
    X(VERDICT_BANNED, 5, "banned")                                                                 \
    X(VERDICT_DUPLICATE, 6, "duplicate")                                                           \
    X(VERDICT_UNBALANCED, 7, "unbalanced")                                                         \
    X(VERDICT_ORDER, 8, "out_of_order")                                                            \
    X(VERDICT_RATE, 9, "rate_limited")                                                             \
    X(VERDICT_LIMIT, 10, "limit")                                                                  \
    X(VERDICT_SLOW, 11, "slow_mode")
#define X(name, value, text) name = value,
enum verdict { VERDICT_MAP(X) };
#undef X
const char *verdict_name(enum verdict verdict);

/* `dir` is made when absent, and its state is thrown away and folded anew when it is damaged. The
 * client must outlive the views (until views_close's cb; freeing it then completes what it still
 * held). Folding starts at once, from the stored offsets. */
int views_open(struct env *env, struct weir_client *client, const char *dir,
               struct views **ret_views, struct error *err);
void views_close(struct views *views, void (*cb)(void *data),
                 void *data); /* detached: cb runs at once */
/* True once every partition has been folded up to the high watermark that was seen at start. */
bool views_ready(const struct views *views);

struct view_event {
    enum view_topic topic;
    uint32_t partition;
    int64_t offset;
    int64_t append_ms;
    enum verdict verdict;
    /* The decoded record: Weir__AccountsRecord, Weir__LifecycleRecord, Weir__ChatRecord or
     * Weir__LedgerRecord; NULL when malformed. Borrowed. */
    const void *record;
    /* What the fold adds for listeners, by topic (views/chat.h: struct chat_outcome, ...); may be
     * NULL. Borrowed. */
    const void *outcome;
};
struct view_listener {
    void *data;
    void (*event)(void *data, const struct view_event *event);
    struct list link;
};
void views_listen(struct views *views, enum view_topic topic, struct view_listener *listener);
void views_unlisten(struct view_listener *listener);

/* Produces `value` (a packed record) under `key` and waits until this node's view has folded it:
 * read your own writes, with the verdict. status 0: verdict,
 * partition and offset hold. WEIR_EUNKNOWN: not known, or stored but not folded here within
 * VIEWS_SUBMIT_FOLD_MS. Else nothing is known beyond weir_produce's status. */
#define VIEWS_SUBMIT_FOLD_MS 10000
struct view_submit;
typedef void (*view_submit_cb)(struct view_submit *req, int status, enum verdict verdict);
struct view_submit {
    void *data;
    view_submit_cb cb;
    uint32_t partition; /* out */
    int64_t offset;     /* out */
    struct weir_produce produce;
    struct list link;
    struct views *views;
    uint32_t topic;
    uint64_t deadline_ns;
};
int views_submit(struct views *views, enum view_topic topic, const char *key, const void *value,
                 size_t len, struct view_submit *req, view_submit_cb cb);

/* 0: not known yet. */
uint32_t views_partitions(const struct views *views, enum view_topic topic);
/* Partition of a key, and the offset the view stands at (next to fold). */
uint32_t views_partition(const struct views *views, enum view_topic topic, const char *key);
int64_t views_offset(const struct views *views, enum view_topic topic, uint32_t partition);
/* BLAKE2b-256 over all keys and values of one partition's view, the offset included. */
int views_hash(struct views *views, enum view_topic topic, uint32_t partition, uint8_t ret_hash[32],
               struct error *err);

/* The same without holding up the loop: in slices, on the state of the moment of the call. One at a
 * time per request; views_close completes it with WEIR_ECLOSED. */
struct view_hash;
typedef void (*view_hash_cb)(struct view_hash *req, int status);
struct view_hash {
    void *data;
    view_hash_cb cb;
    int64_t offset;   /* out: where the state stood */
    uint8_t hash[32]; /* out */
    uint64_t keys;    /* out */
    struct list link;
    void *impl;
};
int views_hash_start(struct views *views, enum view_topic topic, uint32_t partition,
                     struct view_hash *req, view_hash_cb cb);

/* --- Without a cluster: replay, tests, fuzzers --- */

/* Nothing is consumed: records come from views_feed. `partitions` has a count per topic; 0 leaves
 * the topic out. `env` may be NULL: then there is no views_hash_start. */
int views_open_detached(struct env *env, const char *dir, const uint32_t partitions[VIEW_TOPICS],
                        struct views **ret_views, struct error *err);
/* Folds records of one partition; those below views_offset are skipped. On failure the state stands
 * at the last whole batch. */
int views_feed(struct views *views, enum view_topic topic, uint32_t partition,
               const struct batch_record *records, unsigned n, struct error *err);
/* Writes what is in memory to disk in the background: what views_close does before it closes. */
void views_flush(struct views *views);

#endif
