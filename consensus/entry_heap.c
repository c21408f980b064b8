#include "consensus/entry_heap.h"

#include <assert.h>
#include <pthread.h>
#include <raft.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/slab.h"

/* Before every block; 16 bytes keep malloc's alignment. */
struct block {
    _Atomic uint32_t refs;
    uint32_t magic;
    uint64_t slab_bytes; /* taken from base/slab.h; 0: malloc's */
};
static_assert(sizeof(struct block) == 16, "alignment of what follows");

#define BLOCK_MAGIC 0x77656972u
#define TRIES       8 /* another thread may have given some back */

static struct block *block_of(void *ptr)
{
    struct block *b = (struct block *)ptr - 1;
    assert(b->magic == BLOCK_MAGIC);
    return b;
}

static void *block_start(struct block *b)
{
    if (b == NULL) {
        return NULL;
    }
    atomic_init(&b->refs, 1);
    b->magic = BLOCK_MAGIC;
    b->slab_bytes = 0;
    return b + 1;
}

static void block_free(struct block *b)
{
    b->magic = 0;
    if (b->slab_bytes != 0) {
        slab_give(b, b->slab_bytes);
    } else {
        free(b);
    }
}

void *entry_heap_alloc(size_t size)
{
    if (size > SIZE_MAX - sizeof(struct block)) {
        return NULL;
    }
    size += sizeof(struct block);
    bool large = size >= SLAB_MIN && size <= SLAB_MAX;
    struct block *b = large ? slab_take(size) : malloc(size);
    void *start = block_start(b);
    if (b != NULL && large) {
        b->slab_bytes = size;
    }
    return start;
}

void *entry_heap_zalloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - sizeof(struct block)) {
        return NULL;
    }
    return block_start(calloc(1, sizeof(struct block) + bytes));
}

/* --- For libraft itself --- */

static void no_memory(size_t size)
{
    log_error("out_of_memory", "bytes=%zu reason=\"libraft can't go on: the process ends\"", size);
    abort();
}

static void *heap_malloc(void *data, size_t size)
{
    void *ptr = entry_heap_alloc(size);
    (void)data;
    for (unsigned i = 0; i < TRIES && ptr == NULL; i++) {
        ptr = entry_heap_alloc(size);
    }
    if (ptr == NULL) {
        no_memory(size);
    }
    /* A configuration is encoded in whole words, and libraft leaves the end of the last one as it
     * is: what happened to be in memory would be in every replica's log. */
    size_t end = size < sizeof(uint64_t) ? size : sizeof(uint64_t);
    memset((uint8_t *)ptr + size - end, 0, end);
    return ptr;
}

static void heap_free(void *data, void *ptr)
{
    (void)data;
    if (ptr == NULL) {
        return;
    }
    struct block *b = block_of(ptr);
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        block_free(b);
    }
}

static void *heap_calloc(void *data, size_t n, size_t size)
{
    void *ptr = entry_heap_zalloc(n, size);
    (void)data;
    for (unsigned i = 0; i < TRIES && ptr == NULL; i++) {
        ptr = entry_heap_zalloc(n, size);
    }
    if (ptr == NULL) {
        no_memory(size);
    }
    return ptr;
}

static void *heap_realloc(void *data, void *ptr, size_t size)
{
    if (ptr == NULL) {
        return heap_malloc(data, size);
    }
    struct block *b = block_of(ptr);
    assert(atomic_load(&b->refs) == 1);
    if (b->slab_bytes != 0) { /* libraft makes its arrays larger, never an entry */
        void *copy = heap_malloc(data, size);
        size_t had = b->slab_bytes - sizeof(struct block);
        memcpy(copy, ptr, had < size ? had : size);
        block_free(b);
        return copy;
    }
    struct block *other = realloc(b, sizeof(struct block) + size);
    for (unsigned i = 0; i < TRIES && other == NULL; i++) {
        other = realloc(b, sizeof(struct block) + size);
    }
    if (other == NULL) {
        no_memory(size);
    }
    /* cppcheck-suppress memleak ; block_of finds it again */
    return other + 1;
}

/* Only libraft's own disk backend asks for these; ours does not use it. */
static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    return aligned_alloc(alignment, size);
}

static void heap_aligned_free(void *data, size_t alignment, void *ptr)
{
    (void)data;
    (void)alignment;
    free(ptr);
}

static struct raft_heap heap = {
    .malloc = heap_malloc,
    .free = heap_free,
    .calloc = heap_calloc,
    .realloc = heap_realloc,
    .aligned_alloc = heap_aligned_alloc,
    .aligned_free = heap_aligned_free,
};
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void install(void)
{
    raft_heap_set(&heap);
}

void entry_heap_install(void)
{
    (void)pthread_once(&once, install);
}

void entry_heap_pin(void *block)
{
    atomic_fetch_add_explicit(&block_of(block)->refs, 1, memory_order_relaxed);
}

void entry_heap_unpin(void *block)
{
    heap_free(NULL, block);
}
