/* Any text gives a configuration that keeps its promises, or an error with a text. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    struct error err = {0};
    char *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    int rc = config_parse("fuzz", text, &config, &err);
    if (rc == 0) {
        assert(config_self(&config) != NULL && config.n_topics > 0);
    } else {
        assert(rc == WEIR_ECONFIG && strncmp(err.text, "fuzz:", 5) == 0);
    }
    free(text);
    return 0;
}
