#include "base/slab.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/list.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define HIDE(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define SHOW(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define HIDE(p, n) (void)(p)
#define SHOW(p, n) (void)(p)
#endif

#define SLAB_BYTES (2u << 20)
#define UNIT       4096u
#define UNITS      (SLAB_BYTES / UNIT)

/* In the first unit of its slab. */
struct slab {
    struct list link;          /* in `slabs` */
    uint64_t used[UNITS / 64]; /* a bit a unit */
    unsigned n_used;           /* units, without the first */
    unsigned run_max;          /* there are no more free units in a row than this */
};
static_assert(sizeof(struct slab) <= UNIT, "see above");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list slabs = {&slabs, &slabs}; /* the one used last first */
static size_t n_slabs;
static struct slab *spare; /* without a user, in no list */

/* Aligned to its size, so that one huge page can hold it. */
static struct slab *map_slab(void)
{
    size_t n = (size_t)2 * SLAB_BYTES;
    uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    size_t before = (SLAB_BYTES - (uintptr_t)p % SLAB_BYTES) % SLAB_BYTES;
    if (before > 0) {
        (void)munmap(p, before);
    }
    (void)munmap(p + before + SLAB_BYTES, SLAB_BYTES - before);
    (void)madvise(p + before, SLAB_BYTES, MADV_HUGEPAGE); /* where there are none: small ones */
    struct slab *s = (struct slab *)(void *)(p + before);
    s->used[0] = 1;
    s->run_max = UNITS - 1;
    n_slabs++;
    HIDE((uint8_t *)s + UNIT, SLAB_BYTES - UNIT);
    return s;
}

static void unmap_slab(struct slab *s)
{
    n_slabs--;
    SHOW(s, SLAB_BYTES);
    (void)munmap(s, SLAB_BYTES);
}

/* The lowest of n free units in a row; 0: there are not so many. */
static unsigned find_run(const struct slab *s, unsigned n)
{
    unsigned run = 0;
    for (unsigned i = 0; i < UNITS; i++) {
        uint64_t word = s->used[i / 64];
        if (i % 64 == 0 && word == UINT64_MAX) {
            i += 63;
            run = 0;
        } else if ((word >> (i % 64) & 1) != 0) {
            run = 0;
        } else if (++run == n) {
            return i + 1 - n;
        }
    }
    return 0;
}

static void mark(struct slab *s, unsigned at, unsigned n, bool used)
{
    for (unsigned i = at; i < at + n; i++) {
        uint64_t bit = 1ull << (i % 64);
        assert(((s->used[i / 64] & bit) != 0) != used);
        s->used[i / 64] ^= bit;
    }
    s->n_used += used ? n : 0u - n;
}

/* A slab with n free units in a row, and where they are. */
static struct slab *find_slab(unsigned n, unsigned *ret_at)
{
    LIST_FOREACH(it, &slabs)
    {
        struct slab *s = list_entry(it, struct slab, link);
        unsigned at = s->run_max >= n ? find_run(s, n) : 0;
        if (at != 0) {
            *ret_at = at;
            return s;
        }
        s->run_max = s->run_max < n - 1 ? s->run_max : n - 1;
    }
    struct slab *s = spare != NULL ? spare : map_slab();
    spare = NULL;
    if (s != NULL) {
        list_push_front(&slabs, &s->link);
        *ret_at = 1;
    }
    return s;
}

static unsigned units_of(size_t n)
{
    assert(n >= SLAB_MIN && n <= SLAB_MAX);
    return (unsigned)((n + UNIT - 1) / UNIT);
}

void *slab_take(size_t n)
{
    unsigned units = units_of(n), at = 0;
    pthread_mutex_lock(&lock);
    struct slab *s = find_slab(units, &at);
    if (s != NULL) {
        mark(s, at, units, true);
    }
    pthread_mutex_unlock(&lock);
    if (s == NULL) {
        return NULL;
    }
    uint8_t *data = (uint8_t *)s + (size_t)at * UNIT;
    SHOW(data, n);
    return data;
}

void slab_give(void *data, size_t n)
{
    size_t offset = (uintptr_t)data % SLAB_BYTES;
    struct slab *s = (struct slab *)(void *)((uint8_t *)data - offset);
    HIDE(data, n);
    pthread_mutex_lock(&lock);
    mark(s, (unsigned)(offset / UNIT), units_of(n), false);
    s->run_max = UNITS - 1;
    if (s->n_used == 0) {
        list_remove(&s->link);
        if (spare != NULL) {
            unmap_slab(spare);
        }
        spare = s;
    }
    pthread_mutex_unlock(&lock);
}

size_t slab_bytes(void)
{
    pthread_mutex_lock(&lock);
    size_t n = n_slabs * SLAB_BYTES;
    pthread_mutex_unlock(&lock);
    return n;
}
