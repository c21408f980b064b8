/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), hardware SSE 4.2 where present. Any thread.
 * crc32c(0, data, n) starts; feed the result back in to continue. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t n);
/* The CRC of A followed by B, from crc32c(0, A), crc32c(0, B) and B's length in bytes. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

#endif
