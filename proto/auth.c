#include "proto/auth.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

static_assert(AUTH_PROOF_SIZE == crypto_auth_BYTES, "proof is the whole tag");
#define SIDE_MAX 16

void auth_prove(const char *secret, const char *side, const uint8_t nonce_a[AUTH_NONCE_SIZE],
                const uint8_t nonce_b[AUTH_NONCE_SIZE], uint8_t ret_proof[AUTH_PROOF_SIZE])
{
    uint8_t key[crypto_auth_KEYBYTES];
    uint8_t message[SIDE_MAX + 2 * AUTH_NONCE_SIZE] = {0};
    size_t side_len = strlen(side);
    assert(side_len <= SIDE_MAX);
    memcpy(message, side, side_len);
    memcpy(message + SIDE_MAX, nonce_a, AUTH_NONCE_SIZE);
    memcpy(message + SIDE_MAX + AUTH_NONCE_SIZE, nonce_b, AUTH_NONCE_SIZE);
    crypto_generichash(key, sizeof(key), (const uint8_t *)secret, strlen(secret), NULL, 0);
    crypto_auth(ret_proof, message, sizeof(message), key);
    sodium_memzero(key, sizeof(key));
}

bool auth_check(const char *secret, const char *side, const uint8_t nonce_a[AUTH_NONCE_SIZE],
                const uint8_t nonce_b[AUTH_NONCE_SIZE], const void *proof, size_t proof_len)
{
    uint8_t want[AUTH_PROOF_SIZE];
    auth_prove(secret, side, nonce_a, nonce_b, want);
    return proof_len == AUTH_PROOF_SIZE && sodium_memcmp(want, proof, AUTH_PROOF_SIZE) == 0;
}
