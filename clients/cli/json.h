/* Answers as JSON. */
#ifndef CLIENTS_CLI_JSON_H
#define CLIENTS_CLI_JSON_H

#include <jansson.h>

#include "clients/cli/cli.h"

/* Prints `json` on standard output, and takes it. NULL: there was no memory to make it. */
enum cli_exit cli_print_json(json_t *json);

#endif
