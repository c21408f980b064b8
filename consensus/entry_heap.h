/* libraft's allocator, with a reference count on every block, so that an entry's memory can be lent
 * to the network without libraft taking part: a frame being sent pins the payload, and libraft may
 * release it whenever it likes. Because of this the callback of a raft send fires as soon as
 * libraft's call has returned, and no send ever stands in the way of truncating or closing a log.
 * Any thread. */
#ifndef CONSENSUS_ENTRY_HEAP_H
#define CONSENSUS_ENTRY_HEAP_H

#include <stddef.h>

/* What libraft asks for itself is given, or the process ends (docs/decisions/0242): where memory
 * runs out inside it, it frees twice and goes on. What we allocate for it may fail: */
void *entry_heap_alloc(size_t size); /* freed by raft_free; NULL: no memory */
void *entry_heap_zalloc(size_t n, size_t size);
/* Once per process before the first raft_malloc; later calls do nothing. */
void entry_heap_install(void);
/* `block` was returned by raft_malloc. Undone by entry_heap_unpin; raft_free counts as the owner's.
 */
void entry_heap_pin(void *block);
void entry_heap_unpin(void *block);

#endif
