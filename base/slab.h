/* Memory for what is large, lives long and comes and goes in order: the log's newest entries. Cut
 * out of slabs of 2 MiB that ask the kernel for one huge page each, in units of 4 KiB.
 *
 * Why not malloc: when a process is killed its sockets are closed after its memory was freed, page
 * by page, and its peers hear of its death only then; huge pages are gone at once. Nor do they tear
 * holes into the heap that it can't give back (docs/decisions/0262).
 *
 * Any thread. */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>

/* Less is malloc's business, and so is more; bytes. */
#define SLAB_MIN (8u << 10)
#define SLAB_MAX (1u << 20)

/* n bytes, aligned to 4 KiB, not cleared. SLAB_MIN <= n <= SLAB_MAX. NULL: no memory. */
void *slab_take(size_t n);
/* With the n it was taken with. One slab without a user is kept. */
void slab_give(void *data, size_t n);
/* What all slabs take, used or not, bytes. */
size_t slab_bytes(void);

#endif
