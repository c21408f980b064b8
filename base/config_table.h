/* The one table of configuration options: how each is parsed, where it goes, what it may be, what
 * it means. */
#ifndef BASE_CONFIG_TABLE_H
#define BASE_CONFIG_TABLE_H

#include <stddef.h>

#include "base/config.h"

enum option_type {
    OPTION_TEXT,    /* min..max: length in bytes */
    OPTION_U32,     /* min..max: value */
    OPTION_ADDRESS, /* host:port */
    OPTION_ROLES,   /* names of roles, separated by spaces or commas */
    OPTION_YES,     /* yes or no: 1 or 0 */
    OPTION_LEVEL,   /* error, warn, info, debug */
    OPTION_NODE,    /* repeated */
    OPTION_TOPIC,   /* repeated */
};

struct option_spec {
    const char *name;
    enum option_type type;
    size_t at; /* offset in struct config */
    uint32_t min, max;
    const char
        *initial; /* the default, as it would be written; NULL: must be given; "" of a list: none */
    const char *help;
};

extern const struct option_spec option_table[];
extern const size_t option_table_len;

struct role_name {
    const char *name;
    uint32_t bit;
};
extern const struct role_name role_names[];
extern const size_t role_names_len;

/* Parses `value` (modified: cut into words) for `spec` into `config`. The text of the error is only
 * what was wrong and what was expected; the caller puts file, line and option before it. */
int option_set(const struct option_spec *spec, char *value, struct config *config,
               struct error *err);
/* "1 to 1024", "host:port", ...: what the option takes. */
void option_expects(const struct option_spec *spec, char *out, size_t out_size);

#endif
