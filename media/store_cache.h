/* Bytes of objects in memory, bounded, least recently used go first. What is kept are ranges
 * ("chunks") as they came; neighbours are joined once somebody asks for both, so a segment that is
 * asked for whole does not lie in memory twice, and its parts are then slices of it. Bodies are
 * never changed, only let go. Loop thread only. */
#ifndef MEDIA_STORE_CACHE_H
#define MEDIA_STORE_CACHE_H

#include "net/http.h"

struct store_cache;

int store_cache_new(uint64_t bytes_max, struct store_cache **ret_cache);
void store_cache_free(struct store_cache *cache);
/* Keeps a reference. Replaces what overlaps. Out of memory: nothing is kept. */
void store_cache_put(struct store_cache *cache, const char *object, uint64_t position,
                     struct http_body *body);
/* A reference of the caller's to exactly [position, position + size), size > 0; NULL when not all
 * of it is here. */
struct http_body *store_cache_get(struct store_cache *cache, const char *object, uint64_t position,
                                  uint64_t size);
uint64_t store_cache_bytes(const struct store_cache *cache);

#endif
