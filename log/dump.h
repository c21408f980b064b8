/* Reading a stopped node's partition folder, whatever state it is in: every frame that can be read,
 * and every place that can't. Nothing in the folder is changed. Any loop thread; synchronous. */
#ifndef LOG_DUMP_H
#define LOG_DUMP_H

#include "base/env.h"
#include "log/frame.h"

struct dump_entry {
    const char *file; /* name in the folder */
    uint64_t at;      /* byte position */
    struct frame frame;
    const uint8_t *payload; /* valid during the callback */
};

struct dump_events {
    void *data;
    void (*entry)(void *data, const struct dump_entry *entry);
    /* What is in `file` from byte `at` on is not as it should be. `next`: the entry that should
     * have been there, 0 when not known. */
    void (*damage)(void *data, const char *file, uint64_t at, uint64_t next, const char *what);
};

/* Entries in order, with damage where it is. Entries before index `first` are checked and not
 * told. An end that was never synced is no damage. WEIR_EBUSY: a node has it open; WEIR_ENOTFOUND:
 * no partition's folder; WEIR_ENOMEM, or an error of the disk. */
int log_dump(struct env *env, const char *dir, uint64_t first, const struct dump_events *events,
             struct error *err);

#endif
