/* The newest offset of each key, for compaction: 128-bit hashes (BLAKE2b with a random key, so that
 * nobody can make two keys meet) in an open table with a limit. 24 bytes per slot. Any thread. */
#ifndef LOG_KEYMAP_H
#define LOG_KEYMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keymap_slot {
    uint64_t hash[2];
    int64_t offset; /* -1: free */
};

struct keymap {
    struct keymap_slot *slots;
    size_t n, n_slots, bytes_max;
    uint64_t seed[2];
};

void keymap_init(struct keymap *m, size_t bytes_max, uint64_t seed_a, uint64_t seed_b);
/* Frees the memory; empty, to be used again. */
void keymap_close(struct keymap *m);
/* Notes that the key stands at `offset`, behind all that were noted before. WEIR_ETOOBIG: there is
 * no room for one more key; never of an empty map. WEIR_ENOMEM. */
int keymap_put(struct keymap *m, const void *key, size_t len, int64_t offset);
/* -1: it was not noted. */
int64_t keymap_get(const struct keymap *m, const void *key, size_t len);

#endif
