#include "log/keymap.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define SLOTS_MIN 64u

void keymap_init(struct keymap *m, size_t bytes_max, uint64_t seed_a, uint64_t seed_b)
{
    *m = (struct keymap){.bytes_max = bytes_max, .seed = {seed_a, seed_b}};
}

void keymap_close(struct keymap *m)
{
    free(m->slots);
    m->slots = NULL;
    m->n = m->n_slots = 0;
}

static void hash_key(const struct keymap *m, const void *key, size_t len, uint64_t ret_hash[2])
{
    static_assert(crypto_generichash_BYTES_MIN <= 16, "128 bits are a hash");
    (void)crypto_generichash((unsigned char *)ret_hash, 16, key, len,
                             (const unsigned char *)m->seed, sizeof(m->seed));
}

/* Where the hash is, or would be. There is always a free slot. */
static struct keymap_slot *slot_of(const struct keymap *m, const uint64_t hash[2])
{
    size_t i = (size_t)hash[0] & (m->n_slots - 1);
    while (m->slots[i].offset >= 0 &&
           (m->slots[i].hash[0] != hash[0] || m->slots[i].hash[1] != hash[1])) {
        i = (i + 1) & (m->n_slots - 1);
    }
    return &m->slots[i];
}

static int grow(struct keymap *m)
{
    size_t n_slots = m->n_slots == 0 ? SLOTS_MIN : m->n_slots * 2;
    struct keymap bigger = *m;
    if (m->n_slots > 0 && n_slots * sizeof(*m->slots) > m->bytes_max) {
        return WEIR_ETOOBIG;
    }
    bigger.slots = malloc(n_slots * sizeof(*m->slots));
    if (bigger.slots == NULL) {
        return WEIR_ENOMEM;
    }
    memset(bigger.slots, 0xff, n_slots * sizeof(*m->slots)); /* all free */
    bigger.n_slots = n_slots;
    for (size_t i = 0; i < m->n_slots; i++) {
        if (m->slots[i].offset >= 0) {
            *slot_of(&bigger, m->slots[i].hash) = m->slots[i];
        }
    }
    free(m->slots);
    *m = bigger;
    return 0;
}

int keymap_put(struct keymap *m, const void *key, size_t len, int64_t offset)
{
    uint64_t hash[2];
    hash_key(m, key, len, hash);
    struct keymap_slot *slot = m->n_slots > 0 ? slot_of(m, hash) : NULL;
    if (slot == NULL || slot->offset < 0) {
        if ((m->n + 1) * 4 > m->n_slots * 3) {
            int rc = grow(m);
            if (rc != 0) {
                return rc;
            }
            slot = slot_of(m, hash);
        }
        m->n++;
    }
    assert(slot != NULL);
    *slot = (struct keymap_slot){{hash[0], hash[1]}, offset};
    return 0;
}

int64_t keymap_get(const struct keymap *m, const void *key, size_t len)
{
    uint64_t hash[2];
    if (m->n == 0) {
        return -1;
    }
    hash_key(m, key, len, hash);
    return slot_of(m, hash)->offset;
}
