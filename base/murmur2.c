#include "base/murmur2.h"

#include "base/bytes.h"

uint32_t murmur2(const void *data, size_t n)
{
    const uint32_t m = 0x5bd1e995;
    const uint8_t *p = data;
    uint32_t h = 0x9747b28cU ^ (uint32_t)n;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t k = load_le32(p + i);
        k *= m;
        k ^= k >> 24;
        k *= m;
        h *= m;
        h ^= k;
    }
    switch (n - i) {
    case 3:
        h ^= (uint32_t)p[i + 2] << 16;
        __attribute__((fallthrough));
    case 2:
        h ^= (uint32_t)p[i + 1] << 8;
        __attribute__((fallthrough));
    case 1:
        h ^= p[i];
        h *= m;
        break;
    default:
        break;
    }
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return h;
}
