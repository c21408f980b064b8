#include "jepsen/history/memory.h"

#include <stdio.h>
#include <stdlib.h>

void *memory_need(void *p)
{
    if (p == NULL) {
        (void)fprintf(stderr, "no memory\n");
        exit(3);
    }
    return p;
}

void *memory_grow(void *at, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) {
        return at;
    }
    *cap = *cap == 0 ? 256 : *cap * 2;
    return memory_need(reallocarray(at, *cap, size));
}
