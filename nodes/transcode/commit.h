/* Commits of one stream: bytes into the store, then a record into `lifecycle`, in order within a
 * lane.
 *
 * A lane is a rendition (its start, then its parts) or the thumbnails. Stores of all commits run
 * side by side; the record of one leaves when its bytes are stored and the record before it in its
 * lane has left. Loop thread. */
#ifndef NODES_TRANSCODE_COMMIT_H
#define NODES_TRANSCODE_COMMIT_H

#include "media/worker_wire.h"
#include "nodes/role.h"
#include "proto/lifecycle.pb-c.h"

#define COMMIT_LANES      (WIRE_RENDITIONS + 1)
#define COMMIT_THUMBNAILS WIRE_RENDITIONS
#define COMMIT_OBJECT_MAX 96

struct commits;

struct commits_events {
    void *data;
    /* A commit can't be made (store, log), or the log refused it (another worker took over:
     * WEIR_EFENCED). No other callback follows. */
    void (*failed)(void *data, int status, const char *text);
    /* One more is done. */
    void (*done)(void *data);
};

int commits_new(struct node *node, const char *channel, int64_t worker_epoch,
                const struct commits_events *events, struct commits **ret_commits);
/* What is in flight ends by itself; no callback runs. NULL is allowed. */
void commits_free(struct commits *c);
size_t commits_bytes(const struct commits *c); /* not yet done */
bool commits_idle(const struct commits *c);

/* Queues one. `record` is a RenditionStart, PartCommitted or Thumbnail of the stream with all
 * fields set but the nodes and the channel; strings in it are copied. `bytes` are copied.
 * WEIR_ENOMEM and the store's refusals: then the stream can't go on. */
int commits_add(struct commits *c, unsigned lane, const char *object, uint64_t position,
                const uint8_t *bytes, size_t len, const Weir__LifecycleRecord *record,
                struct error *err);

#endif
