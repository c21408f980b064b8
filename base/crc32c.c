#include "base/crc32c.h"

#include <string.h>

#define POLY 0x82f63b78u /* reversed Castagnoli polynomial */

static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int k = 0; k < 8; k++) {
        crc = (crc >> 1) ^ (POLY & (0u - (crc & 1u)));
    }
    return crc;
}

static uint32_t table[8][256];

__attribute__((constructor)) static void table_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        table[0][i] = crc_byte(0, (uint8_t)i);
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
        }
    }
}

static uint32_t crc_software(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= crc;
        crc = table[7][v & 0xff] ^ table[6][(v >> 8) & 0xff] ^ table[5][(v >> 16) & 0xff] ^
              table[4][(v >> 24) & 0xff] ^ table[3][(v >> 32) & 0xff] ^ table[2][(v >> 40) & 0xff] ^
              table[1][(v >> 48) & 0xff] ^ table[0][v >> 56];
        p += 8;
        n -= 8;
    }
    while (n-- > 0) {
        crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 0xff];
    }
    return crc;
}

/* a * b modulo the polynomial, both reflected: bit 31 is x^0. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
        product ^= (a & bit) != 0 ? b : 0;
        b = (b >> 1) ^ (POLY & (0u - (b & 1u)));
    }
    return product;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

/* The instruction takes three cycles but one can begin in each: three stretches side by side,
 * joined by multiplying with x^(8 n) (V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial
 * Using CRC32 Instruction", Intel 2011). */
#define LONG_BYTES  2048u
#define SHORT_BYTES 256u

static uint32_t shift_long[4][256], shift_short[4][256];

static void shift_init(uint32_t shift[4][256], uint64_t n_bytes)
{
    uint32_t power = 1u << 31, square = 1u << 23; /* x^0, x^8 */
    for (uint64_t n = n_bytes; n != 0; n >>= 1) {
        power = (n & 1) != 0 ? multiply(power, square) : power;
        square = multiply(square, square);
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (unsigned k = 0; k < 4; k++) {
            shift[k][i] = multiply(i << (8 * k), power);
        }
    }
}

__attribute__((constructor)) static void shifts_init(void)
{
    shift_init(shift_long, LONG_BYTES);
    shift_init(shift_short, SHORT_BYTES);
}

static uint32_t shift_by(uint32_t shift[4][256], uint64_t crc)
{
    return shift[0][crc & 0xff] ^ shift[1][(crc >> 8) & 0xff] ^ shift[2][(crc >> 16) & 0xff] ^
           shift[3][(crc >> 24) & 0xff];
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Three stretches of `n` bytes each. */
__attribute__((target("sse4.2"))) static uint64_t crc_three(uint64_t crc, const uint8_t *p,
                                                            size_t n, uint32_t shift[4][256])
{
    uint64_t b = 0, c = 0;
    for (size_t i = 0; i < n; i += 8) {
        crc = _mm_crc32_u64(crc, load64(p + i));
        b = _mm_crc32_u64(b, load64(p + n + i));
        c = _mm_crc32_u64(c, load64(p + 2 * n + i));
    }
    return shift_by(shift, shift_by(shift, crc) ^ b) ^ c;
}

__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const uint8_t *p,
                                                               size_t n)
{
    uint64_t c = crc;
    for (; n >= 3 * LONG_BYTES; n -= 3 * LONG_BYTES, p += 3 * LONG_BYTES) {
        c = crc_three(c, p, LONG_BYTES, shift_long);
    }
    for (; n >= 3 * SHORT_BYTES; n -= 3 * SHORT_BYTES, p += 3 * SHORT_BYTES) {
        c = crc_three(c, p, SHORT_BYTES, shift_short);
    }
    for (; n >= 8; n -= 8, p += 8) {
        c = _mm_crc32_u64(c, load64(p));
    }
    while (n-- > 0) {
        c = _mm_crc32_u8((uint32_t)c, *p++);
    }
    return (uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc_hardware(crc, data, n);
    }
#endif
    return ~crc_software(crc, data, n);
}

/* Appending n zero bytes multiplies by x^(8n); the ones' complements at both ends cancel out. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    uint32_t power = 1u << 23; /* x^8 */
    for (; len_b != 0; len_b >>= 1) {
        if ((len_b & 1) != 0) {
            crc_a = multiply(crc_a, power);
        }
        power = multiply(power, power);
    }
    return crc_a ^ crc_b;
}
