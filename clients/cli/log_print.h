/* Records on standard output, for `weir log consume`. */
#ifndef CLIENTS_CLI_LOG_PRINT_H
#define CLIENTS_CLI_LOG_PRINT_H

#include "log/batch.h"

enum log_format {
    LOG_FORMAT_AUTO, /* the topic's own */
    LOG_FORMAT_VALUE,
    LOG_FORMAT_RECORD,
    LOG_FORMAT_JSON,
    LOG_FORMAT_CRC,
    LOG_FORMAT_COUNT, /* nothing but log_print_count at the end */
};

/* LOG_FORMAT_AUTO: no such format. */
enum log_format log_format_of(const char *name);
void log_print_record(enum log_format format, const char *topic, uint32_t partition,
                      const struct batch_record *r);
static inline uint64_t log_record_bytes(const struct batch_record *r)
{
    return (uint64_t)(r->key_len > 0 ? r->key_len : 0) +
           (uint64_t)(r->value_len > 0 ? r->value_len : 0);
}
void log_print_count(uint64_t records, uint64_t bytes, uint64_t elapsed_ns);

#endif
