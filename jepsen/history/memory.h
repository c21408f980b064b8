/* Memory of programs that can only give up when there is none. */
#ifndef JEPSEN_HISTORY_MEMORY_H
#define JEPSEN_HISTORY_MEMORY_H

#include <stddef.h>

/* `p`; NULL ends the program with status 3. */
void *memory_need(void *p);
/* The array `at` of n elements with room for one more; doubled when *cap is reached. */
void *memory_grow(void *at, size_t n, size_t *cap, size_t size);

#endif
