#include <sodium.h>
#include <string.h>

#include "nodes/role.h"

bool node_authorised(const struct node *node, struct http_exchange *ex)
{
    const char *given = http_header(ex, "X-Weir-Secret");
    /* Hashes are compared, so that neither length nor content shows in the time it takes. */
    uint8_t want[crypto_generichash_BYTES], have[crypto_generichash_BYTES];
    const char *text = given != NULL ? given : "";
    crypto_generichash(want, sizeof(want), (const uint8_t *)node->config->secret,
                       strlen(node->config->secret), NULL, 0);
    crypto_generichash(have, sizeof(have), (const uint8_t *)text, strlen(text), NULL, 0);
    if (given != NULL && sodium_memcmp(want, have, sizeof(want)) == 0) {
        return true;
    }
    http_respond_text(ex, 401, "X-Weir-Secret: %s", given == NULL ? "missing" : "wrong");
    return false;
}
