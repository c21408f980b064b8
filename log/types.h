/* Numbers of the log that must not be mixed up are distinct types. */
#ifndef LOG_TYPES_H
#define LOG_TYPES_H

#include <stdint.h>

/* Position of a record in a partition: dense, from 0. */
struct log_offset {
    int64_t v;
};
/* Position of an entry in a partition's Raft log: dense, from 1. Barriers and configurations take
 * an index but no offset. */
struct log_index {
    uint64_t v;
};
struct log_term {
    uint64_t v;
};

#define LOG_OFFSET(x) ((struct log_offset){(int64_t)(x)})
#define LOG_INDEX(x)  ((struct log_index){(uint64_t)(x)})
#define LOG_TERM(x)   ((struct log_term){(uint64_t)(x)})

/* One Raft entry. For LOG_ENTRY_BATCH the payload is one Kafka RecordBatch v2 (log/batch.h) whose
 * base offset and append time the leader has stamped; for LOG_ENTRY_CONFIG it is libraft's encoding
 * of a configuration; for LOG_ENTRY_BARRIER it is empty or libraft's padding; for LOG_ENTRY_CONTROL
 * see log/control.h. Values are on disk: never renumber. */
enum log_entry_type {
    LOG_ENTRY_BATCH = 1,
    LOG_ENTRY_BARRIER = 2,
    LOG_ENTRY_CONFIG = 3,
    LOG_ENTRY_CONTROL = 4,
};

struct log_entry {
    struct log_term term;
    enum log_entry_type type;
    const void *payload; /* borrowed */
    uint32_t len;        /* bytes */
};

#endif
