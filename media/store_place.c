#include "media/store_place.h"

#include <string.h>

#include "base/crc32c.h"

/* The finalizer of splitmix64: neighbouring ids have nothing to do with one another. */
static uint64_t rank_of(uint32_t object_hash, uint32_t id)
{
    uint64_t x = (uint64_t)object_hash << 32 | id;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool is_named(const char *name, const char *const *named, unsigned n_named)
{
    for (unsigned i = 0; i < n_named; i++) {
        if (strcmp(name, named[i]) == 0) {
            return true;
        }
    }
    return false;
}

store_nodes store_place(const struct config *config, store_nodes able, unsigned copies,
                        const char *object, const char *const *named, unsigned n_named)
{
    uint32_t hash = crc32c(0, object, strlen(object));
    store_nodes holders = 0;
    unsigned n = 0;
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        if ((able >> i & 1) != 0 && is_named(config->nodes[i].name, named, n_named)) {
            holders |= (store_nodes)1 << i;
            n++;
        }
    }
    for (; n < copies; n++) {
        uint64_t best_rank = 0;
        int best = -1;
        for (uint32_t i = 0; i < config->n_nodes; i++) {
            uint64_t rank = rank_of(hash, config->nodes[i].id);
            bool free = (able >> i & 1) != 0 && (holders >> i & 1) == 0;
            if (free && (best < 0 || rank > best_rank)) {
                best = (int)i;
                best_rank = rank;
            }
        }
        if (best < 0) {
            break;
        }
        holders |= (store_nodes)1 << best;
    }
    return holders;
}
