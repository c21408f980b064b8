/* Paths and delivery directives as players (and others) may send them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/edge/edge_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct edge_path path;
    struct edge_reload reload;
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    if (edge_path_parse(text, &path) && path.target >= EDGE_TARGETS) {
        abort();
    }
    size_t n = strlen(text);
    const char *second = n < size ? text + n + 1 : NULL;
    if (edge_reload_parse(text, second, second, &reload) == NULL && reload.part > 9999) {
        abort();
    }
    free(text);
    return 0;
}
