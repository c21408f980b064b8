/* Records of Weir's own topics as JSON, for people and scripts (`weir log consume`). Any thread; no
 * state. */
#ifndef PROTO_PRINT_H
#define PROTO_PRINT_H

#include <stdbool.h>

#include "base/bytes.h"

/* Topics whose records this can print: accounts, lifecycle, chat, ledger. */
bool record_known(const char *topic);

/* Appends one JSON object: fields by their names in proto/<topic>.proto, of a oneof only what is
 * set; byte strings in hex, fixed64 (random ids) as 16 hex digits. WEIR_ENOTFOUND: not such a
 * topic; WEIR_ECORRUPT: not such a record; errors of `out`. On failure out is as it was. */
int record_print(const char *topic, const void *value, size_t len, struct bytes *out);

#endif
