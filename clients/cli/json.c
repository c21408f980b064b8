#include "clients/cli/json.h"

#include <stdio.h>

enum cli_exit cli_print_json(json_t *json)
{
    bool printed = json != NULL && json_dumpf(json, stdout, JSON_INDENT(1)) == 0;
    json_decref(json);
    if (!printed) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    printf("\n");
    return CLI_OK;
}
