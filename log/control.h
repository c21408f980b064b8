/* Control entries: what a partition's leader decides about the log itself. They take a Raft index
 * but no offset, and every replica acts on them when they are committed, so all replicas keep the
 * same records. For libraft they are commands like any batch; storage tells them apart by the
 * payload. 40 bytes, little endian:
 *
 *   at size field
 *    0  8  magic "WEIRCTL1"
 *    8  4  crc32c of bytes 12..39
 *   12  2  version: 1
 *   14  2  kind (enum control_kind)
 *   16  8  zero (a RecordBatch has a 2 at byte 16, and at least 61 bytes)
 *   24  8  offset
 *   32  8  time, ms
 *
 * Any thread; no state. */
#ifndef LOG_CONTROL_H
#define LOG_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "log/types.h"

#define CONTROL_SIZE 40

/* On disk: never renumber. */
enum control_kind {
    /* Records below `offset` may not be read any more, and go. `time_ms` is 0. */
    CONTROL_START = 1,
    /* Of the records below `offset`, each key keeps the newest one; tombstones that were appended
     * before `time_ms` go too. */
    CONTROL_COMPACT = 2,
};

struct control {
    enum control_kind kind;
    struct log_offset offset;
    int64_t time_ms;
};

void control_encode(const struct control *control, uint8_t out[CONTROL_SIZE]);
/* Meant as a control entry, perhaps a damaged one: never true of a record batch. */
bool control_is(const void *payload, size_t len);
/* WEIR_EPROTO with what is wrong. */
int control_decode(const void *payload, size_t len, struct control *ret_control, struct error *err);

#endif
